//! Genesis: the first attestation of a vault, and what every vault carries with it.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::attestation::{
    Agent, GenesisDetails, Kind, ObjectRef, Outcome, Predicate, RetentionBy, Statement, Subject, SubjectDigest, VaultFile, VaultVersion,
};
use super::commit::{CommitError, commit_genesis};
use super::epoch::{Grace, locked_until, month_end};
use super::keys::{Recipients, Signer, SignerEntry};
use super::measure::{Written, measure};
use super::names::{self, ChainName, Container, RECOVERY_MD, RunId, VAULT_JSON};
use crate::store::{Body, LockMode, LockRequest, Sha256, Store, StoreError};

/// Why a vault could not be founded.
#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    /// There is a vault already.
    #[error("there is a vault at {0} already")]
    AlreadyFounded(String),
    /// Writing failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// The page that every vault carries: how to restore with ordinary tools.
pub fn recovery_text() -> &'static str {
    include_str!("RECOVERY.md")
}

/// What a vault is founded with.
pub struct Founding<'a> {
    /// The operator's key, which signs genesis.
    pub operator: &'a Signer,
    /// The first signers.
    pub signers: Vec<SignerEntry>,
    /// The first recipients.
    pub recipients: &'a Recipients,
    /// The policy's bytes.
    pub policy: &'a [u8],
    /// Retention by container.
    pub retention: RetentionBy,
    /// Grace.
    pub grace: Grace,
    /// How objects are locked.
    pub lock_mode: LockMode,
    /// Which program on which host.
    pub agent: Agent,
}

/// Founds a vault in an empty store; gives the bytes of the genesis envelope.
pub fn found(store: &Arc<dyn Store>, founding: Founding<'_>) -> Result<Vec<u8>, GenesisError> {
    let commit = |e| GenesisError::Commit(CommitError::Store(e));
    if store.head(&ChainName::vault().envelope(1)).map_err(commit)?.is_some() {
        return Err(GenesisError::AlreadyFounded(store.describe()));
    }
    let now = store.now().map_err(commit)?;
    let started = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let run = RunId::new(now);
    let vault = run.to_string();
    let file = VaultFile {
        backstop: VaultVersion::One,
        vault: vault.clone(),
        created: started,
        signers: founding.signers.clone(),
        recipients: founding.recipients.texts().to_vec(),
    };
    let encode = |e| GenesisError::Commit(CommitError::Encode(e));
    let mut vault_json = serde_json::to_vec(&file).map_err(encode)?;
    // A founding that was interrupted left its description; with the same keys it is carried on.
    let mut vault = vault;
    if let Ok(bytes) = store.read(VAULT_JSON, None, 1 << 20) {
        match super::strict::from_slice::<VaultFile>(&bytes) {
            Ok(old) if old.signers == file.signers && old.recipients == file.recipients => {
                vault = old.vault;
                vault_json = bytes;
            }
            _ => return Err(GenesisError::AlreadyFounded(store.describe())),
        }
    }
    let policy_sha256 = Sha256::of(founding.policy);
    let retention = founding.retention.of(Container::Attestations);
    let lock = LockRequest { mode: founding.lock_mode, until: locked_until(month_end(started), retention, founding.grace) };
    let policy_name = names::policy(&policy_sha256);
    let parts: [(&str, &[u8]); 3] = [(VAULT_JSON, &vault_json), (RECOVERY_MD, recovery_text().as_bytes()), (&policy_name, founding.policy)];
    let mut objects = Vec::new();
    for (name, bytes) in parts {
        let sha256 = Sha256::of(bytes);
        let (version, state) = match store.put(name, Body::Bytes(bytes), &sha256, &lock) {
            Ok(receipt) => (receipt.version, receipt.lock),
            Err(StoreError::AlreadyExists { .. }) => {
                let founded = || GenesisError::AlreadyFounded(store.describe());
                let info = store.head(name).map_err(commit)?.ok_or_else(founded)?;
                let bytes_there = store.read(name, info.version.as_deref(), 1 << 20).map_err(commit)?;
                if Sha256::of(&bytes_there) != sha256 {
                    return Err(founded());
                }
                let state = store.extend_lock(name, info.version.as_deref(), &lock).map_err(commit)?;
                (info.version, Some(state))
            }
            Err(e) => return Err(commit(e)),
        };
        objects.push(Written { name: name.to_owned(), sha256, size: bytes.len() as u64, version, asked: lock, lock: state });
    }
    // A store that ignores locks is found out here, before anything is committed.
    let measured = measure(store.as_ref(), &objects).map_err(commit)?;
    let objects = measured.into_iter().collect::<Result<Vec<ObjectRef>, CommitError>>()?;
    let details = GenesisDetails { signers: founding.signers, recipients_list: founding.recipients.texts().to_vec() };
    let Value::Object(details) = serde_json::to_value(&details).map_err(encode)? else { unreachable!("a struct is an object") };
    let subject = objects.iter().map(|o| Subject { name: o.name.clone(), digest: SubjectDigest { sha256: o.sha256 } }).collect();
    let predicate = Predicate {
        vault,
        chain: ChainName::vault(),
        sequence: 1,
        previous: None,
        skipped: Vec::new(),
        run,
        agent: founding.agent,
        started,
        finished: store.now().map_err(commit)?,
        outcome: Outcome::Complete,
        policy_sha256,
        retention: founding.retention,
        grace: founding.grace,
        recipients: founding.recipients.fingerprint(),
        objects,
        details,
    };
    let statement = Statement { kind: Kind::Genesis, subject, predicate };
    Ok(commit_genesis(store.as_ref(), founding.operator, &statement, &lock)?)
}
