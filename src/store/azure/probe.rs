//! What is really in force on an account: for those who look, and for trials that make their own containers.

use azure_storage_blob::models::BlobContainerClientGetPropertiesResultHeaders;

use super::{AzureStore, refusal, translate};
use crate::store::{Store, StoreError};

/// What the Blob service says of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerFacts {
    /// Its real name.
    pub name: String,
    /// Whether versions in it can carry locks of their own; an emulator does not say.
    pub version_level: Option<bool>,
    /// Whether it has a policy of its own.
    pub has_policy: bool,
    /// Whether it has a legal hold of its own.
    pub has_hold: bool,
}

/// What came of an attempt to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone, or hidden behind a deletion.
    Done,
    /// A lock or a hold refused it: the right is there.
    Locked,
    /// The right is not there.
    NoRight,
}

impl AzureStore {
    /// What a container is set to, by its logical name; `None` where there is none.
    pub fn container_facts(&self, logical: &str) -> Result<Option<ContainerFacts>, StoreError> {
        let name = self.real(logical).to_owned();
        let problem = |e: &azure_core::Error| translate(e, self.doing("look at", &name));
        let shown = match self.block_on(self.container(&name).get_properties(None)) {
            Ok(shown) => shown,
            Err(e) if refusal(&e).is_some_and(|r| r.status == 404) => return Ok(None),
            Err(e) => return Err(problem(&e)),
        };
        let read = || -> azure_core::Result<_> {
            Ok((shown.is_immutable_storage_with_versioning_enabled()?, shown.has_immutability_policy()?, shown.has_legal_hold()?))
        };
        let (version_level, has_policy, has_hold) = read().map_err(|e| problem(&e))?;
        Ok(Some(ContainerFacts { name, version_level, has_policy: has_policy == Some(true), has_hold: has_hold == Some(true) }))
    }

    /// Makes a container, by its logical name, unless it is there. Locks by version need more than this: the control plane.
    pub fn make_container(&self, logical: &str) -> Result<(), StoreError> {
        let name = self.real(logical).to_owned();
        match self.block_on(self.container(&name).create(None)) {
            Err(e) if refusal(&e).is_none_or(|r| r.code != "ContainerAlreadyExists") => Err(translate(&e, self.doing("make", &name))),
            _ => Ok(()),
        }
    }

    /// Tries to delete what stands under a name.
    pub fn try_delete(&self, name: &str) -> Result<Deletion, StoreError> {
        match self.block_on(self.blob(name, None)?.delete(None)) {
            Ok(_) => Ok(Deletion::Done),
            Err(e) => match refusal(&e) {
                Some(r) if r.status == 403 => Ok(Deletion::NoRight),
                Some(r) if r.status == 409 => Ok(Deletion::Locked),
                _ => Err(translate(&e, self.doing("remove", name))),
            },
        }
    }

    /// Whether a lock stands that was asked for: emulators take locks and ignore them.
    pub fn keeps_lock(&self, name: &str, lock: &crate::store::LockRequest) -> Result<bool, StoreError> {
        let body = b"canary";
        self.put(name, crate::store::Body::Bytes(body), &crate::store::Sha256::of(body), lock)?;
        let shown = self.head(name)?.and_then(|info| info.lock);
        Ok(shown.is_some_and(|state| state.mode == lock.mode && state.until.is_some_and(|until| until >= lock.until)))
    }
}
