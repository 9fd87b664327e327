//! A store in a directory of one machine.
//!
//! It promises: an object appears whole or not at all, is on the disk when `put` returns, and is never
//! overwritten. Locks are kept beside each object and, where the process may, held by the kernel's
//! immutable flag. What is really enforced is read back from the file, never assumed. It cannot
//! protect against root of this machine; `enforced_by` says what stands.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustix::fs::{FlockOperation, IFlags};
use serde::{Deserialize, Serialize};

use super::{
    Body, Clock, EnforcedBy, LockMode, LockRequest, LockState, ObjectInfo, Priority, Receipt, Sha256, Store, StoreError, SystemClock,
};

const TEMPORARY: &str = ".tmp-";

/// How a local store behaves.
#[derive(Clone)]
pub struct LocalStoreOptions {
    /// The store's own clock.
    pub clock: Arc<dyn Clock>,
    /// Whether the kernel's immutable flag is set on locked objects where the process may.
    pub immutable_flag: bool,
    /// Logical container names and the directories that serve for them.
    pub containers: Vec<(String, String)>,
}

impl Default for LocalStoreOptions {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), immutable_flag: true, containers: Vec::new() }
    }
}

/// Objects as files below one directory.
pub struct LocalStore {
    root: PathBuf,
    options: LocalStoreOptions,
}

/// The lock file beside an object: `.<name>.lock`.
#[derive(Debug, Serialize, Deserialize)]
struct Sidecar {
    mode: LockMode,
    until: Option<Timestamp>,
    enforced_by: EnforcedBy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Sha256>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// A legal hold: nothing removes the object while it stands.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    held: bool,
}

impl LocalStore {
    /// A store below `root`, which must exist.
    pub fn open(root: impl Into<PathBuf>, options: LocalStoreOptions) -> Result<Self, StoreError> {
        let root = root.into();
        if !root.is_dir() {
            return Err(StoreError::NoStore { path: root });
        }
        Ok(Self { root, options })
    }

    /// Makes the directory of a new store and opens it.
    pub fn create(root: impl Into<PathBuf>, options: LocalStoreOptions) -> Result<Self, StoreError> {
        let root = root.into();
        fs::create_dir_all(&root).map_err(|e| failed("create", &root, e))?;
        Self::open(root, options)
    }

    fn path(&self, name: &str) -> Result<PathBuf, StoreError> {
        let bad = || StoreError::BadName { name: name.to_owned() };
        let (container, rest) = name.split_once('/').ok_or_else(bad)?;
        let ordinary = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains('\0');
        if !ordinary(container) || !rest.split('/').all(ordinary) {
            return Err(bad());
        }
        Ok(self.root.join(self.directory_of(container)).join(rest))
    }

    fn directory_of<'a>(&'a self, container: &'a str) -> &'a str {
        let mapped = self.options.containers.iter().find(|(logical, _)| logical == container);
        mapped.map_or(container, |(_, directory)| directory)
    }

    fn info(&self, name: &str, path: &Path) -> Result<Option<ObjectInfo>, StoreError> {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed("look at", path, e)),
        };
        // A lock file that describes another object is no lock; one that does not say is taken at its word.
        let sidecar = read_sidecar(path)?.filter(|s| s.size.is_none_or(|size| size == metadata.len()));
        Ok(Some(ObjectInfo {
            name: name.to_owned(),
            size: metadata.len(),
            recorded_sha256: sidecar.as_ref().and_then(|s| s.sha256),
            version: None,
            current: true,
            held: sidecar.as_ref().is_some_and(|s| s.held),
            archive: None,
            lock: sidecar.map(|s| LockState { enforced_by: measured(path), mode: s.mode, until: s.until, container: None }),
        }))
    }

    /// An object, and its directory locked so that nobody else changes what lies beside it.
    fn alone_with(&self, name: &str, path: &Path) -> Result<(File, ObjectInfo), StoreError> {
        let missing = || StoreError::NotFound { name: name.to_owned() };
        let directory = parent(path);
        let handle = File::open(directory).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => missing(),
            _ => failed("open", directory, e),
        })?;
        rustix::fs::flock(&handle, FlockOperation::LockExclusive).map_err(|e| failed("lock", directory, e.into()))?;
        let info = self.info(name, path)?.ok_or_else(missing)?;
        understood(path)?;
        Ok((handle, info))
    }

    fn walk(&self, directory: &Path, logical: &str, out: &mut Vec<ObjectInfo>) -> Result<(), StoreError> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(failed("list", directory, e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| failed("list", directory, e))?;
            let file_name = entry.file_name();
            let name = file_name.to_string_lossy();
            if name.starts_with('.') {
                continue;
            }
            let logical = format!("{logical}{name}");
            let kind = entry.file_type().map_err(|e| failed("look at", &entry.path(), e))?;
            if kind.is_dir() {
                self.walk(&entry.path(), &format!("{logical}/"), out)?;
            } else if let Some(info) = self.info(&logical, &entry.path())? {
                out.push(info);
            }
        }
        Ok(())
    }

    fn write_sidecar(&self, path: &Path, sidecar: &Sidecar) -> Result<(), StoreError> {
        let directory = parent(path);
        let mut file = temporary(directory)?;
        let text = serde_json::to_vec(sidecar).map_err(|e| failed("write", path, e.into()))?;
        file.write_all(&text).map_err(|e| failed("write", file.path(), e))?;
        finish(file.as_file(), file.path())?;
        let target = sidecar_path(path);
        file.persist(&target).map_err(|e| failed("create", &target, e.error))?;
        Ok(())
    }

    /// Sets the kernel's flag where asked and allowed; what then stands is measured by the caller.
    fn protect(&self, path: &Path, mode: LockMode) {
        if mode != LockMode::Locked || !self.options.immutable_flag {
            return;
        }
        if let Ok(file) = File::open(path)
            && let Ok(flags) = rustix::fs::ioctl_getflags(&file)
        {
            // Refused without CAP_LINUX_IMMUTABLE or on file systems that have no flags: then it stays advisory.
            let _ = rustix::fs::ioctl_setflags(&file, flags | IFlags::IMMUTABLE);
        }
    }
}

impl Store for LocalStore {
    fn put(&self, name: &str, body: Body<'_>, sha256: &Sha256, lock: &LockRequest) -> Result<Receipt, StoreError> {
        let path = self.path(name)?;
        let now = self.now()?;
        if lock.mode != LockMode::None && lock.until <= now {
            let reason = format!("it would end at {}, before now ({now})", lock.until);
            return Err(StoreError::LockRefused { name: name.to_owned(), reason });
        }
        let exists = || StoreError::AlreadyExists { name: name.to_owned() };
        if path.symlink_metadata().is_ok() {
            return Err(exists());
        }
        let directory = parent(&path);
        create_directories(&self.root, directory)?;
        let mut file = temporary(directory)?;
        let size = match body {
            Body::Bytes(bytes) => file.as_file_mut().write_all(bytes).map(|()| bytes.len() as u64),
            Body::File(source) => File::open(source).and_then(|mut source| io::copy(&mut source, file.as_file_mut())),
        }
        .map_err(|e| failed("write", file.path(), e))?;
        finish(file.as_file(), file.path())?;

        // One writer at a time in a directory, so that a lock file always belongs to the object that won.
        let handle = File::open(directory).map_err(|e| failed("open", directory, e))?;
        rustix::fs::flock(&handle, FlockOperation::LockExclusive).map_err(|e| failed("lock", directory, e.into()))?;
        if path.symlink_metadata().is_ok() {
            return Err(exists());
        }
        let until = (lock.mode != LockMode::None).then_some(lock.until);
        let enforced_by = if self.options.immutable_flag { EnforcedBy::Kernel } else { EnforcedBy::Advisory };
        let sidecar = Sidecar { mode: lock.mode, until, enforced_by, sha256: Some(*sha256), size: Some(size), held: false };
        self.write_sidecar(&path, &sidecar)?;
        file.persist_noclobber(&path).map_err(|e| match e.error.kind() {
            io::ErrorKind::AlreadyExists => exists(),
            _ => failed("create", &path, e.error),
        })?;
        self.protect(&path, lock.mode);
        let measured = measured(&path);
        if measured != enforced_by {
            self.write_sidecar(&path, &Sidecar { enforced_by: measured, ..sidecar })?;
        }
        handle.sync_all().map_err(|e| failed("sync", directory, e))?;
        let answer = self.head(name)?.and_then(|info| info.lock);
        let lock = answer.ok_or_else(|| StoreError::NotFound { name: name.to_owned() })?;
        Ok(Receipt { version: None, lock: Some(lock) })
    }

    fn open(&self, name: &str, _version: Option<&str>) -> Result<Box<dyn Read + Send>, StoreError> {
        let path = self.path(name)?;
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, rustix::fs::Mode::empty()) {
            Ok(fd) => Ok(Box::new(File::from(fd))),
            Err(rustix::io::Errno::NOENT) => Err(StoreError::NotFound { name: name.to_owned() }),
            Err(e) => Err(failed("open", &path, e.into())),
        }
    }

    fn head(&self, name: &str) -> Result<Option<ObjectInfo>, StoreError> {
        self.info(name, &self.path(name)?)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        if !prefix.ends_with('/') && prefix.contains('/') {
            return Ok(self.head(prefix)?.into_iter().collect());
        }
        let (container, rest) = prefix.split_once('/').unwrap_or((prefix, ""));
        let directory = self.root.join(self.directory_of(container)).join(rest);
        let mut out = Vec::new();
        let logical = if prefix.ends_with('/') { prefix.to_owned() } else { format!("{prefix}/") };
        self.walk(&directory, &logical, &mut out)?;
        out.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }

    fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let (container, rest) = prefix.split_once('/').unwrap_or((prefix, ""));
        let directory = self.root.join(self.directory_of(container)).join(rest);
        let entries = |directory: &Path| match fs::read_dir(directory) {
            Ok(entries) => entries.collect::<Result<Vec<_>, _>>().map_err(|e| failed("list", directory, e)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(failed("list", directory, e)),
        };
        let mut out = Vec::new();
        for entry in entries(&directory)? {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir()) && !name.starts_with('.');
            // What only has files of this program's own holds no object.
            let holds = |path: &Path| -> Result<bool, StoreError> {
                for entry in fs::read_dir(path).map_err(|e| failed("list", path, e))? {
                    let entry = entry.map_err(|e| failed("list", path, e))?;
                    if !entry.file_name().to_string_lossy().starts_with('.') {
                        return Ok(true);
                    }
                }
                Ok(false)
            };
            if is_folder && holds(&entry.path())? {
                out.push(format!("{prefix}{name}/"));
            }
        }
        out.sort_unstable();
        Ok(out)
    }

    fn extend_lock(&self, name: &str, _version: Option<&str>, lock: &LockRequest) -> Result<LockState, StoreError> {
        let path = self.path(name)?;
        let missing = || StoreError::NotFound { name: name.to_owned() };
        let directory = parent(&path);
        let (handle, info) = self.alone_with(name, &path)?;
        if let Some(LockState { until: Some(until), mode: LockMode::Locked, .. }) = info.lock
            && (lock.until < until || lock.mode != LockMode::Locked)
        {
            let reason = format!("it is locked until {until}, and a lock is never shortened");
            return Err(StoreError::LockRefused { name: name.to_owned(), reason });
        }
        self.protect(&path, lock.mode);
        let sha256 = info.recorded_sha256;
        let until = Some(lock.until);
        let sidecar = Sidecar { mode: lock.mode, until, enforced_by: measured(&path), sha256, size: Some(info.size), held: info.held };
        self.write_sidecar(&path, &sidecar)?;
        handle.sync_all().map_err(|e| failed("sync", directory, e))?;
        self.info(name, &path)?.and_then(|info| info.lock).ok_or_else(missing)
    }

    fn set_hold(&self, name: &str, _version: Option<&str>, held: bool) -> Result<bool, StoreError> {
        let path = self.path(name)?;
        let (_handle, info) = self.alone_with(name, &path)?;
        let state = info.lock.unwrap_or_else(|| LockState::none(measured(&path)));
        let LockState { mode, until, enforced_by, .. } = state;
        let sidecar = Sidecar { mode, until, enforced_by, sha256: info.recorded_sha256, size: Some(info.size), held };
        self.write_sidecar(&path, &sidecar)?;
        File::open(parent(&path)).and_then(|d| d.sync_all()).map_err(|e| failed("sync", parent(&path), e))?;
        Ok(self.info(name, &path)?.is_some_and(|info| info.held))
    }

    fn remove(&self, name: &str, _version: Option<&str>) -> Result<(), StoreError> {
        let path = self.path(name)?;
        let (handle, info) = self.alone_with(name, &path)?;
        let locked = |reason: String| StoreError::Locked { name: name.to_owned(), reason };
        if info.held {
            return Err(locked("a legal hold stands on it".to_owned()));
        }
        if let Some(LockState { until: Some(until), mode, .. }) = info.lock
            && mode != LockMode::None
            && until > self.now()?
        {
            return Err(locked(format!("it is locked until {until}")));
        }
        clear_immutable(&path).map_err(|e| failed("take the immutable flag off", &path, e))?;
        fs::remove_file(&path).map_err(|e| failed("remove", &path, e))?;
        let sidecar = sidecar_path(&path);
        match fs::remove_file(&sidecar) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &sidecar, e)),
            _ => {}
        }
        handle.sync_all().map_err(|e| failed("sync", parent(&path), e))
    }

    fn rehydrate(&self, _name: &str, _version: Option<&str>, _priority: Priority) -> Result<(), StoreError> {
        // A directory has no archive tier: everything in it can be read at once.
        Ok(())
    }

    fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(self.options.clock.now())
    }

    fn describe(&self) -> String {
        self.root.display().to_string()
    }
}

/// Takes the immutable flag off a file, where it has one and the process may.
///
/// The agent never does this; it is for those who take an expired or a trial vault away.
pub fn clear_immutable(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let flags = rustix::fs::ioctl_getflags(&file)?;
    if flags.contains(IFlags::IMMUTABLE) {
        rustix::fs::ioctl_setflags(&file, flags - IFlags::IMMUTABLE)?;
    }
    Ok(())
}

fn measured(path: &Path) -> EnforcedBy {
    let flags = File::open(path).and_then(|file| rustix::fs::ioctl_getflags(&file).map_err(io::Error::from));
    match flags {
        Ok(flags) if flags.contains(IFlags::IMMUTABLE) => EnforcedBy::Kernel,
        _ => EnforcedBy::Advisory,
    }
}

fn sidecar_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.lock"))
}

/// What changes a lock must understand the one that is there: it would be lost for good.
fn understood(path: &Path) -> Result<(), StoreError> {
    let sidecar = sidecar_path(path);
    match fs::read(&sidecar) {
        Ok(text) => match serde_json::from_slice::<Sidecar>(&text) {
            Ok(_) => Ok(()),
            Err(e) => Err(failed("understand the lock file", &sidecar, io::Error::new(io::ErrorKind::InvalidData, e))),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(failed("read", &sidecar, e)),
    }
}

/// A lock file that cannot be read is no lock: `verify` reports the object as unlocked.
fn read_sidecar(path: &Path) -> Result<Option<Sidecar>, StoreError> {
    let sidecar = sidecar_path(path);
    match fs::read(&sidecar) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", &sidecar, e)),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn temporary(directory: &Path) -> Result<tempfile::NamedTempFile, StoreError> {
    tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(directory).map_err(|e| failed("create a file in", directory, e))
}

/// The file is made read-only and reaches the disk before it gets its name.
fn finish(file: &File, path: &Path) -> Result<(), StoreError> {
    file.set_permissions(fs::Permissions::from_mode(0o444)).map_err(|e| failed("change the mode of", path, e))?;
    file.sync_all().map_err(|e| failed("sync", path, e))
}

/// Directories are made one by one and synced in their parents, so that a crash leaves no name without its way.
fn create_directories(root: &Path, directory: &Path) -> Result<(), StoreError> {
    if directory.is_dir() {
        return Ok(());
    }
    let above = parent(directory);
    if directory != root {
        create_directories(root, above)?;
    }
    match fs::create_dir(directory) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed("create", directory, e)),
        _ => {}
    }
    File::open(above).and_then(|d| d.sync_all()).map_err(|e| failed("sync", above, e))
}

pub(super) fn failed(operation: &'static str, path: &Path, source: io::Error) -> StoreError {
    if source.kind() == io::ErrorKind::StorageFull || source.kind() == io::ErrorKind::QuotaExceeded {
        return StoreError::NoSpace { path: path.to_owned() };
    }
    StoreError::Io { operation, path: path.to_owned(), source }
}
