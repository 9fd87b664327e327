//! The agent's own directory: one agent at a time, and of a form that it knows.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::store::replace;

/// The form of what stands in the directory.
const FORM: u32 = 1;

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Another agent uses it.
    #[error("another agent uses {}", path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// A newer version wrote it.
    #[error("{} is of form {found}, and this program knows form {FORM}: a newer version wrote it", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its form.
        found: String,
    },
    /// It cannot be used.
    #[error("cannot use {}", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The directory, as long as this agent uses it.
#[derive(Debug)]
pub struct StateLock {
    dir: PathBuf,
    _lock: File,
    /// Gone with it, where it is not a daemon's own.
    _aside: Option<tempfile::TempDir>,
}

impl StateLock {
    /// Takes the directory of one kind of daemon below a state directory.
    pub fn take(state: &Path, daemon: &str) -> Result<Self, HostError> {
        let dir = state.join(daemon);
        let failed = |path: &Path, source| HostError::Io { path: path.to_owned(), source };
        fs::create_dir_all(&dir).map_err(|e| failed(&dir, e))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).map_err(|e| failed(&dir, e))?;
        let path = dir.join("lock");
        let lock = File::options().create(true).write(true).truncate(false).open(&path).map_err(|e| failed(&path, e))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(HostError::Busy { path: dir }),
            Err(e) => return Err(failed(&path, e.into())),
        }
        let form = dir.join("form");
        match fs::read_to_string(&form) {
            Ok(text) if text.trim().parse() == Ok(FORM) => {}
            Ok(text) if text.trim().is_empty() => replace(&form, FORM.to_string().as_bytes(), true).map_err(|e| failed(&form, e))?,
            Ok(text) => return Err(HostError::Newer { path: form, found: text.trim().chars().take(20).collect() }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                replace(&form, FORM.to_string().as_bytes(), true).map_err(|e| failed(&form, e))?;
            }
            Err(e) => return Err(failed(&form, e)),
        }
        Ok(Self { dir, _lock: lock, _aside: None })
    }

    /// A directory for one look only, with a copy of a file of the one that another process has, or that cannot be written;
    /// says whether there was such a file that may be read.
    pub fn aside(state: &Path, daemon: &str, file: &str) -> Result<(Self, bool), HostError> {
        let aside = tempfile::Builder::new().prefix("backstop-").tempdir();
        let aside = aside.map_err(|source| HostError::Io { path: std::env::temp_dir(), source })?;
        let own = Self::take(aside.path(), daemon)?;
        let found = fs::read(state.join(daemon).join(file)).ok();
        if let Some(bytes) = &found {
            own.write(file, bytes)?;
        }
        Ok((Self { _aside: Some(aside), ..own }, found.is_some()))
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file in it, whole or not at all.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, HostError> {
        let path = self.path(name);
        replace(&path, bytes, true).map_err(|source| HostError::Io { path: path.clone(), source })?;
        Ok(path)
    }

    /// Reads a file in it; nothing if there is none.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.path(name)).ok()
    }
}
