//! Objects with locks.
//!
//! A store keeps named, immutable objects: each is created once, with create-if-absent, under a lock
//! that the store itself enforces. It knows nothing of what the objects mean; names come from `vault`.
//! It never reports a lock that it did not read back.

pub mod azure;
mod digest;
mod lease;
mod local;
mod replace;
mod side_by_side;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use digest::{HashingReader, Sha256};
pub use lease::{LEASE, LeaseToken, Leases, LocalLeases};
pub use local::{LocalStore, LocalStoreOptions, clear_immutable};
pub use replace::replace;
pub use side_by_side::side_by_side;

/// Where instants come from, so that seven years pass in a test.
pub trait Clock: Send + Sync {
    /// The present instant.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment, which setting the clock does not change and sleep does not stop.
    fn monotonic(&self) -> Duration {
        Duration::try_from(self.now().duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default()
    }
}

/// The machine's own clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        let at = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(at.tv_sec.try_into().unwrap_or(0), at.tv_nsec.try_into().unwrap_or(0))
    }
}

/// How an object is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    /// Nobody can shorten or lift the lock before its instant.
    #[default]
    Locked,
    /// The lock holds until somebody with the right lifts it: for trials.
    Unlocked,
    /// No lock at all: every report says so.
    None,
}

/// Who enforces a lock, as measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnforcedBy {
    /// The kernel's immutable flag stands on the file.
    Kernel,
    /// Only this program and the file's mode respect it.
    Advisory,
    /// The storage service refuses.
    Service,
}

/// A lock as the store answered it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockState {
    /// How the object is locked.
    pub mode: LockMode,
    /// Until when, in whole seconds; absent when there is no lock.
    pub until: Option<Timestamp>,
    /// Who enforces it.
    pub enforced_by: EnforcedBy,
    /// The container's own policy, where that is what locks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerLock>,
}

impl LockState {
    /// No lock, as whoever would enforce one shows it.
    pub fn none(enforced_by: EnforcedBy) -> Self {
        Self { mode: LockMode::None, until: None, enforced_by, container: None }
    }
}

/// A container's time-based retention policy, as the service showed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerLock {
    /// For how many days after its creation each object is protected.
    pub interval_days: u32,
    /// `Locked` or `Unlocked`.
    pub state: String,
    /// The policy's version.
    pub etag: String,
}

/// A lock as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockRequest {
    /// How.
    pub mode: LockMode,
    /// Until when, in whole seconds.
    pub until: Timestamp,
}

/// What one object is, from a listing.
#[derive(Debug, Clone)]
pub struct ObjectInfo {
    /// Logical name: `container/…`.
    pub name: String,
    /// Stored bytes.
    pub size: u64,
    /// The digest recorded beside the object when it was written; not a proof of its bytes.
    pub recorded_sha256: Option<Sha256>,
    /// The store's version id, where it has versions.
    pub version: Option<String>,
    /// Whether it is what an ordinary listing shows under its name.
    pub current: bool,
    /// The lock as it stands.
    pub lock: Option<LockState>,
    /// Whether a legal hold stands on it.
    pub held: bool,
    /// Whether it must be brought back before it can be read.
    pub archive: Option<Archive>,
}

/// An object in a tier that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    /// It lies there.
    Archived,
    /// It is on its way back.
    Rehydrating,
}

/// How urgently an archived object is brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Up to 15 hours.
    Standard,
    /// Mostly under an hour for objects below 10 GB; dearer.
    High,
}

/// What the store answered to a successful creation.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// The store's version id, where it has versions.
    pub version: Option<String>,
    /// The lock, read back; `None` where a listing reads back many at once for less.
    pub lock: Option<LockState>,
}

/// The bytes of an object to be created.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// In memory.
    Bytes(&'a [u8]),
    /// A finished file.
    File(&'a Path),
}

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Create-if-absent met an object of that name.
    #[error("{name} exists already")]
    AlreadyExists {
        /// The object.
        name: String,
    },
    /// There is no such object.
    #[error("{name} does not exist in the store")]
    NotFound {
        /// The object.
        name: String,
    },
    /// The store does not take the lock that was asked for.
    #[error("the store refuses the lock on {name}: {reason}")]
    LockRefused {
        /// The object.
        name: String,
        /// Why.
        reason: String,
    },
    /// A lock or a hold stands on the object.
    #[error("{name} cannot be removed: {reason}")]
    Locked {
        /// The object.
        name: String,
        /// What stands on it.
        reason: String,
    },
    /// The object must be brought back from the archive tier first.
    #[error("{name} lies in the archive tier{}", if *rehydrating { " and is on its way back" } else { "" })]
    Archived {
        /// The object.
        name: String,
        /// Whether it is on its way back already.
        rehydrating: bool,
    },
    /// Azure did not do what it was asked.
    #[error(transparent)]
    Azure(#[from] Box<azure::AzureError>),
    /// The name is not one that this store can hold.
    #[error("{name:?} is not a name that this store can hold")]
    BadName {
        /// The name as given.
        name: String,
    },
    /// The store's place is missing.
    #[error("there is no vault at {}", path.display())]
    NoStore {
        /// Where it should be.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("no space is left on the device that holds {}", path.display())]
    NoSpace {
        /// The place.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// A place that holds objects and enforces locks.
///
/// Every method may be called from many threads.
pub trait Store: Send + Sync {
    /// Creates an object if its name is free, with its lock, and answers with the lock as read back.
    /// `sha256` is the digest of `body`, recorded beside the object. The object is durable on return.
    fn put(&self, name: &str, body: Body<'_>, sha256: &Sha256, lock: &LockRequest) -> Result<Receipt, StoreError>;

    /// Opens the bytes of one version, or of what stands under the name where no version is known or that
    /// version is not in this store (a copy of a vault has other version ids; the digest decides).
    fn open(&self, name: &str, version: Option<&str>) -> Result<Box<dyn Read + Send>, StoreError>;

    /// What is known of the oldest version of one object, or `None`.
    fn head(&self, name: &str) -> Result<Option<ObjectInfo>, StoreError> {
        Ok(self.list(name)?.into_iter().find(|info| info.name == name))
    }

    /// Every version of every object whose name begins with `prefix` (a container or a folder in it, ending in `/`,
    /// or one whole name), in order of name, the oldest version first.
    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError>;

    /// The folders right below a prefix (a container or a folder in it, ending in `/`) that hold objects, in order, with
    /// their whole names. By a listing, where the store knows no shorter way.
    fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let mut out: Vec<String> = Vec::new();
        for info in self.list(prefix)? {
            let folder = info.name.get(prefix.len()..).and_then(|rest| rest.find('/')).map(|at| &info.name[..=prefix.len() + at]);
            if let Some(folder) = folder.filter(|f| out.last().is_none_or(|last| last != f)) {
                out.push(folder.to_owned());
            }
        }
        Ok(out)
    }

    /// Locks an object for longer. A lock is never shortened.
    fn extend_lock(&self, name: &str, version: Option<&str>, lock: &LockRequest) -> Result<LockState, StoreError>;

    /// Sets or lifts the legal hold of one version, and answers what then stands.
    fn set_hold(&self, name: &str, version: Option<&str>, held: bool) -> Result<bool, StoreError>;

    /// Destroys one version for good. A lock or a hold refuses it.
    fn remove(&self, name: &str, version: Option<&str>) -> Result<(), StoreError>;

    /// Starts to bring an archived version back.
    fn rehydrate(&self, name: &str, version: Option<&str>, priority: Priority) -> Result<(), StoreError>;

    /// How many objects are worth sending at a time.
    fn parallelism(&self) -> usize {
        1
    }

    /// The store's own clock.
    fn now(&self) -> Result<Timestamp, StoreError>;

    /// Where it is, for people.
    fn describe(&self) -> String;

    /// Whole content of an object, refused beyond `limit` bytes.
    fn read(&self, name: &str, version: Option<&str>, limit: u64) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let read = self.open(name, version)?.take(limit + 1).read_to_end(&mut bytes);
        let io = |source| StoreError::Io { operation: "read", path: PathBuf::from(name), source };
        read.map_err(io)?;
        if bytes.len() as u64 > limit {
            return Err(io(std::io::Error::other(format!("it is larger than {limit} bytes"))));
        }
        Ok(bytes)
    }
}

/// The oldest version of each object of a listing: what was put first under a name is what an attestation means.
pub fn originals(listed: Vec<ObjectInfo>) -> Vec<ObjectInfo> {
    let mut out: Vec<ObjectInfo> = Vec::with_capacity(listed.len());
    for info in listed {
        if out.last().is_none_or(|last| last.name != info.name) {
            out.push(info);
        }
    }
    out
}
