//! A directory to restore into for a while: nobody else looks into it, and nothing of it stays.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{FlockOperation, flock};

const PREFIX: &str = "backstop-restored-";

/// A fresh directory that only this user can look into. It is locked while it is used, so that the next one below the same
/// directory removes what a killed process left: it holds what the vault seals.
pub struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes one below a directory.
    pub fn new(below: &Path) -> io::Result<Self> {
        for left in fs::read_dir(below)?.flatten() {
            let ours = left.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
            if ours && File::open(left.path()).is_ok_and(|dir| flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok()) {
                // Another user's is not ours to remove, and no obstacle.
                _ = clear(&left.path());
            }
        }
        let only_us = fs::Permissions::from_mode(0o700);
        let path = tempfile::Builder::new().prefix(PREFIX).permissions(only_us).tempdir_in(below)?.keep();
        if let Ok(mut used) = USED.lock() {
            used.push(path.clone());
        }
        let lock = File::open(&path)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A directory in it, for a part.
    pub fn part(&self) -> io::Result<PathBuf> {
        Ok(tempfile::tempdir_in(&self.path)?.keep())
    }

    /// Removes a part, whatever modes were restored in it.
    pub fn clear(&self, part: &Path) -> io::Result<()> {
        clear(part)
    }

    /// Bytes that may still be written there.
    pub fn free(&self) -> io::Result<u64> {
        let v = rustix::fs::statvfs(&self.path)?;
        Ok(v.f_bavail.saturating_mul(v.f_frsize))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        _ = clear(&self.path);
    }
}

/// Every directory in use by this process.
static USED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes what this process has restored for a while: it is about to be ended.
pub fn clear_scratch() {
    let used = USED.lock().map(|used| used.clone()).unwrap_or_default();
    used.iter().for_each(|path| _ = clear(path));
}

/// Removes a directory and everything in it; directories that even their owner may not write are made writable first.
fn clear(dir: &Path) -> io::Result<()> {
    if fs::remove_dir_all(dir).is_ok() {
        return Ok(());
    }
    open_up(dir)?;
    fs::remove_dir_all(dir)
}

fn open_up(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}
