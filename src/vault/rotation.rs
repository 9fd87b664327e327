//! New signers, and keys that end.

use serde_json::Map;

use super::attestation::{Head, Kind, Outcome, RotationDetails};
use super::commit::{CommitError, Committed, Draft, Writer};
use super::keys::{Role, SignerEntry};
use super::names::{ChainName, RunId};
use crate::store::Sha256;

/// Why a signer was neither added nor replaced.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The new key was named before.
    #[error("the key {0} is, or was, a signer of this vault already: a key is named once")]
    Known(Sha256),
    /// The old key does not sign for this vault.
    #[error("the key {0} is not, or no longer, a signer of this vault")]
    NotASigner(Sha256),
    /// The new key would have another role.
    #[error("the old key is {old}, the new one would be {new}")]
    OtherRole {
        /// The old key's role.
        old: Role,
        /// The new key's.
        new: Role,
    },
    /// Committing failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Writer {
    /// Names a new signer, and ends `old` at the present heads, if one is given. This writer's signer is an operator.
    pub fn rotate(&self, new: SignerEntry, old: Option<Sha256>, policy: &[u8]) -> Result<Committed, RotationError> {
        let signers: Vec<(&SignerEntry, bool)> = self.ledger.trust().signers().collect();
        if signers.iter().any(|(entry, _)| entry.keyid == new.keyid) {
            return Err(RotationError::Known(new.keyid));
        }
        if let Some(old) = old {
            let entry = signers.iter().find(|(entry, valid)| entry.keyid == old && *valid).ok_or(RotationError::NotASigner(old))?;
            if entry.0.role != new.role {
                return Err(RotationError::OtherRole { old: entry.0.role, new: new.role });
            }
        }
        let started = self.now()?;
        let mut heads = Vec::new();
        for chain in self.ledger.chains().map_err(CommitError::Store)? {
            let view = self.ledger.chain_until(&chain, |_| true).map_err(CommitError::Store)?;
            heads.extend(view.head().map(|head| Head { chain, sequence: head.sequence(), sha256: head.sha256 }));
        }
        let draft = Draft {
            kind: Kind::KeyRotation,
            chain: ChainName::vault(),
            run: RunId::new(started),
            started,
            outcome: Outcome::Complete,
            objects: self.put_policy(policy, started)?.into_iter().collect(),
            details: Map::new(),
        };
        let draft = draft.with_details(&RotationDetails { new, old, heads })?;
        Ok(self.commit(&draft, |_| true, |_| Ok(()))?)
    }
}
