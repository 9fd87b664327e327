//! Locks are measured: what was put counts once the store was asked what stands.

use std::collections::{BTreeMap, HashMap};

use super::attestation::ObjectRef;
use super::commit::CommitError;
use crate::store::{EnforcedBy, LockMode, LockRequest, LockState, ObjectInfo, Sha256, Store, StoreError};

/// An object that was put. Its lock counts once it was read back: [`Writer::measure`].
#[derive(Debug, Clone)]
pub struct Written {
    /// Logical name.
    pub name: String,
    /// Digest of the stored bytes.
    pub sha256: Sha256,
    /// Stored bytes.
    pub size: u64,
    /// The store's version id, where it has versions.
    pub version: Option<String>,
    /// The lock that was asked for.
    pub asked: LockRequest,
    /// The lock, where the store read it back at once.
    pub lock: Option<LockState>,
}

/// Refuses a lock that is less than what was asked for.
pub(super) fn hold_to(stored: &Written, state: &LockState) -> Result<(), CommitError> {
    let Written { name, asked, .. } = stored;
    if asked.mode != LockMode::None && (state.mode != asked.mode || state.until.is_none_or(|until| until < asked.until)) {
        let mode = match state.mode {
            LockMode::Locked => "a lock",
            LockMode::Unlocked => "an unlocked policy",
            LockMode::None => "no lock at all",
        };
        let answered = state.until.map_or_else(|| mode.to_owned(), |until| format!("{mode} until {until}"));
        return Err(CommitError::LockNotKept { name: name.clone(), answered, asked: asked.until });
    }
    Ok(())
}

/// What stands of each object: one listing a folder, none where the store answered at once.
pub(super) fn measure(store: &dyn Store, objects: &[Written]) -> Result<Vec<Result<ObjectRef, CommitError>>, StoreError> {
    let folder = |name: &str| name.rfind('/').map_or(0, |at| at + 1);
    let mut folders: BTreeMap<&str, Vec<&Written>> = BTreeMap::new();
    for stored in objects.iter().filter(|o| o.lock.is_none()) {
        folders.entry(&stored.name[..folder(&stored.name)]).or_default().push(stored);
    }
    let mut shown: HashMap<(String, Option<String>), ObjectInfo> = HashMap::new();
    for (folder, wanted) in &folders {
        let place = if let [one] = wanted.as_slice() { one.name.as_str() } else { folder };
        shown.extend(store.list(place)?.into_iter().map(|info| ((info.name.clone(), info.version.clone()), info)));
    }
    let judge = |stored: &Written| {
        let lock = match &stored.lock {
            Some(lock) => lock.clone(),
            None => {
                let found = shown.get(&(stored.name.clone(), stored.version.clone())).filter(|info| info.size == stored.size);
                let info = found.ok_or_else(|| CommitError::Vanished { name: stored.name.clone() })?;
                info.lock.clone().unwrap_or_else(|| LockState::none(EnforcedBy::Service))
            }
        };
        hold_to(stored, &lock)?;
        let Written { name, sha256, size, version, .. } = stored.clone();
        Ok(ObjectRef { name, sha256, size, version, lock })
    };
    Ok(objects.iter().map(judge).collect())
}
