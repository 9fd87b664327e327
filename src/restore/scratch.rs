//! A directory to restore into for a while: nobody else looks into it, and nothing of it stays.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

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
            // Locked until it is gone, or whoever has just made it would take it for his.
            if ours
                && let Ok(dir) = File::open(left.path())
                && flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok()
            {
                // Another user's is not ours to remove, and no obstacle.
                _ = clear(&left.path());
            }
        }
        let only_us = fs::Permissions::from_mode(0o700);
        loop {
            let path = {
                // Made and known in one step, or an end that comes between them would leave it behind.
                let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
                if used.ended {
                    drop(used);
                    wait_for_the_end();
                }
                let path = tempfile::Builder::new().prefix(PREFIX).permissions(only_us.clone()).tempdir_in(below)?.keep();
                used.dirs.push(path.clone());
                path
            };
            match File::open(&path)
                .and_then(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).map(|()| lock).map_err(io::Error::from))
            {
                // Another process that begins may have taken it for left behind before it was locked.
                Ok(lock) if lock.metadata()?.nlink() > 0 => return Ok(Self { path, _lock: lock }),
                Ok(_) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::WouldBlock) => {}
                Err(e) => {
                    _ = clear(&path);
                    return Err(e);
                }
            }
        }
    }

    /// Goes on, unless this process is being ended: then what is missing here is no finding, and nobody is to be told of it.
    pub fn unless_ended(&self) {
        if USED.lock().unwrap_or_else(PoisonError::into_inner).ended {
            wait_for_the_end();
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A directory in it, for a part.
    pub fn part(&self) -> io::Result<PathBuf> {
        self.unless_ended();
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
        self.unless_ended();
        _ = clear(&self.path);
    }
}

/// Every directory that this process used.
struct Used {
    dirs: Vec<PathBuf>,
    ended: bool,
}

static USED: Mutex<Used> = Mutex::new(Used { dirs: Vec::new(), ended: false });

/// How long is waited for those who still write there.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many looks, one after the other, find nothing there.
const LOOKS: u32 = 5;

/// Removes what this process has restored for a while. To be called by who then ends the process: whoever uses such a
/// directory waits for that.
pub fn end_scratch() {
    let dirs = {
        let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
        used.ended = true;
        used.dirs.clone()
    };
    let begun = Instant::now();
    let mut looks = 0;
    while looks < LOOKS && begun.elapsed() < PATIENCE {
        // Others may write there until the directory is gone below them, and who was about to begin makes it anew.
        let gone = dirs.iter().filter(|path| clear(path).is_ok() || !path.exists()).count();
        looks = if gone == dirs.len() { looks + 1 } else { 0 };
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn wait_for_the_end() -> ! {
    loop {
        std::thread::park();
    }
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
