//! Leases: who does something that one of several agents should do, and what was last said of it.
//!
//! A lease saves work; it keeps nothing right. What must not happen twice is fenced where it is committed, by
//! create-if-absent. A lease ends by itself some time after its holder renewed it last, whatever the clocks of the
//! machines show. With each lease goes a note, a few kilobytes that its holder writes and anybody reads.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::local::failed;
use super::replace::replace;
use super::{Clock, StoreError};

/// A lease ends so long after it was renewed last.
pub const LEASE: Duration = Duration::from_secs(60);

/// Another agent needs a lease's files for moments only; it is waited for so often, so long.
const MUTEX_TRIES: u32 = 250;
const MUTEX_PAUSE: Duration = Duration::from_millis(20);

/// Shows who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseToken(pub(super) String);

/// Leases by name.
pub trait Leases: Send + Sync {
    /// Takes a lease, if nobody has it.
    fn acquire(&self, name: &str) -> Result<Option<LeaseToken>, StoreError>;

    /// Keeps it for another while; false if somebody else has it now.
    fn renew(&self, name: &str, token: &LeaseToken) -> Result<bool, StoreError>;

    /// Gives it up; nothing happens if it is somebody else's.
    fn release(&self, name: &str, token: &LeaseToken) -> Result<(), StoreError>;

    /// What was last noted with it.
    fn note(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Notes something; false if somebody else has the lease now, and then nothing is noted.
    fn set_note(&self, name: &str, token: &LeaseToken, note: &[u8]) -> Result<bool, StoreError>;
}

/// Leases as files in a directory that all agents see.
///
/// A holder that is gone is told at once by the lock that the kernel kept for it; one that only stands still, by a
/// lease that was not renewed for [`LEASE`] by the waiting agent's own steady clock.
pub struct LocalLeases {
    dir: PathBuf,
    clock: Arc<dyn Clock>,
    /// What of others' leases was seen, and since when it did not change.
    seen: Mutex<HashMap<String, (Held, Duration)>>,
    /// The kernel's locks that show that this holder lives.
    alive: Mutex<HashMap<String, File>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    token: LeaseToken,
    renewals: u64,
}

impl LocalLeases {
    /// Leases in a directory, which is made when the first one is taken.
    pub fn open(dir: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Self { dir: dir.into(), clock, seen: Mutex::default(), alive: Mutex::default() }
    }

    fn path(&self, name: &str, end: &str) -> Result<PathBuf, StoreError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        match !name.is_empty() && name.chars().all(plain) {
            true => Ok(self.dir.join(format!("{name}.{end}"))),
            false => Err(StoreError::BadName { name: name.to_owned() }),
        }
    }

    /// Nobody else looks at or changes a lease as long as this is kept.
    fn alone(&self, name: &str) -> Result<File, StoreError> {
        fs::create_dir_all(&self.dir).map_err(|e| failed("create", &self.dir, e))?;
        let path = self.path(name, "mutex")?;
        let file = File::options().create(true).write(true).truncate(false).open(&path).map_err(|e| failed("open", &path, e))?;
        let mut tries = 0;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                // Whoever stands still while it holds this must not make the others stand still.
                Err(rustix::io::Errno::WOULDBLOCK) if tries < MUTEX_TRIES => {
                    tries += 1;
                    std::thread::sleep(MUTEX_PAUSE);
                }
                Err(e) => return Err(failed("lock", &path, e.into())),
            }
        }
    }

    fn held(&self, name: &str) -> Result<Option<Held>, StoreError> {
        // A file that is no lease is one that was torn: it says nothing.
        Ok(read(&self.path(name, "lease")?)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    fn hold(&self, name: &str, held: &Held) -> Result<(), StoreError> {
        let text = serde_json::to_vec(held).map_err(|e| failed("write", &self.dir, e.into()))?;
        self.write(&self.path(name, "lease")?, &text)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        // A lease or note that a power cut loses is asked for again.
        replace(path, bytes, false).map_err(|e| failed("write", path, e))
    }

    /// The file whose lock shows that a holder lives.
    fn living(&self, name: &str, token: &LeaseToken) -> Result<PathBuf, StoreError> {
        self.path(name, &format!("{}.alive", token.0))
    }

    /// Whether the holder is gone, or has not renewed for too long.
    fn is_over(&self, name: &str, held: &Held) -> Result<bool, StoreError> {
        let path = self.living(name, &held.token)?;
        match File::open(&path) {
            Ok(file) if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() => {}
            Ok(_) => return Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(e) => return Err(failed("open", &path, e)),
        }
        let now = self.clock.monotonic();
        let Ok(mut seen) = self.seen.lock() else { return Ok(false) };
        let known = seen.get(name).filter(|(before, _)| before == held).map(|(_, since)| *since);
        let since = known.unwrap_or(now);
        seen.insert(name.to_owned(), (held.clone(), since));
        Ok(now.saturating_sub(since) >= LEASE)
    }
}

impl Leases for LocalLeases {
    fn acquire(&self, name: &str) -> Result<Option<LeaseToken>, StoreError> {
        let _alone = self.alone(name)?;
        if let Some(held) = self.held(name)? {
            if !self.is_over(name, &held)? {
                return Ok(None);
            }
            let _ = fs::remove_file(self.living(name, &held.token)?);
        }
        let token = LeaseToken(uuid::Uuid::now_v7().to_string());
        let path = self.living(name, &token)?;
        let file = File::create(&path).map_err(|e| failed("create", &path, e))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|e| failed("lock", &path, e.into()))?;
        if let Err(e) = self.hold(name, &Held { token: token.clone(), renewals: 0 }) {
            let _ = fs::remove_file(&path);
            return Err(e);
        }
        if let Ok(mut alive) = self.alive.lock() {
            alive.insert(name.to_owned(), file);
        }
        Ok(Some(token))
    }

    fn renew(&self, name: &str, token: &LeaseToken) -> Result<bool, StoreError> {
        let _alone = self.alone(name)?;
        match self.held(name)? {
            Some(held) if held.token == *token => {
                self.hold(name, &Held { token: held.token, renewals: held.renewals + 1 })?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn release(&self, name: &str, token: &LeaseToken) -> Result<(), StoreError> {
        let _alone = self.alone(name)?;
        if self.held(name)?.is_some_and(|held| held.token == *token) {
            let path = self.path(name, "lease")?;
            fs::remove_file(&path).map_err(|e| failed("remove", &path, e))?;
            let _ = fs::remove_file(self.living(name, token)?);
            if let Ok(mut alive) = self.alive.lock() {
                alive.remove(name);
            }
        }
        Ok(())
    }

    fn note(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        read(&self.path(name, "note")?)
    }

    fn set_note(&self, name: &str, token: &LeaseToken, note: &[u8]) -> Result<bool, StoreError> {
        let _alone = self.alone(name)?;
        if self.held(name)?.is_none_or(|held| held.token != *token) {
            return Ok(false);
        }
        self.write(&self.path(name, "note")?, note)?;
        Ok(true)
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", path, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> jiff::Timestamp {
            jiff::Timestamp::from_second(self.0.load(Ordering::SeqCst).try_into().unwrap()).unwrap()
        }
    }

    #[test]
    fn one_holds_it_until_it_is_released_gone_or_stands_still() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(Hand::default());
        let of = || LocalLeases::open(dir.path(), clock.clone());
        let (a, b) = (of(), of());
        let first = a.acquire("nightly").unwrap().unwrap();
        assert_eq!(b.acquire("nightly").unwrap(), None);
        assert!(b.acquire("other").unwrap().is_some(), "another lease is another one");
        assert!(a.set_note("nightly", &first, b"one").unwrap());
        a.release("nightly", &first).unwrap();
        let second = b.acquire("nightly").unwrap().unwrap();
        assert!(!a.set_note("nightly", &first, b"two").unwrap());
        assert!(!a.renew("nightly", &first).unwrap());
        assert_eq!(a.note("nightly").unwrap().unwrap(), b"one");
        // The holder's process ends: at once.
        drop(b);
        let third = a.acquire("nightly").unwrap().unwrap();
        assert_ne!(second, third);
        // It stands still: after a while, and not while it renews.
        let c = of();
        for _ in 0..5 {
            assert_eq!(c.acquire("nightly").unwrap(), None);
            clock.0.fetch_add(40, Ordering::SeqCst);
            assert!(a.renew("nightly", &third).unwrap());
        }
        assert_eq!(c.acquire("nightly").unwrap(), None);
        clock.0.fetch_add(59, Ordering::SeqCst);
        assert_eq!(c.acquire("nightly").unwrap(), None);
        clock.0.fetch_add(1, Ordering::SeqCst);
        let fourth = c.acquire("nightly").unwrap().unwrap();
        assert!(!a.renew("nightly", &third).unwrap(), "it wakes up and learns that it has lost");
        a.release("nightly", &third).unwrap();
        assert!(c.renew("nightly", &fourth).unwrap(), "what it gives up is not the other's");
        assert!(a.acquire("../x").is_err());
    }
}
