//! Trust: from one genesis digest to every signer that was ever valid, and how far.

use std::collections::BTreeMap;

use super::attestation::{GenesisDetails, Kind, RotationDetails, Statement, VaultFile};
use super::dsse::Envelope;
use super::keys::{PublicKey, Role, SignerEntry};
use super::names::{ChainName, VAULT_JSON};
use crate::store::Sha256;

/// JSON keeps no larger integer exactly.
const LARGEST_NUMBER: u64 = 1 << 53;

/// From where trust starts.
#[derive(Debug, Clone, Default)]
pub enum Anchor {
    /// Whatever genesis the vault shows: the caller compares the digest with the one that was kept.
    #[default]
    Shown,
    /// The genesis of this digest.
    Digest(Sha256),
    /// This very genesis envelope, kept outside the vault.
    Envelope(Vec<u8>),
}

/// Why a genesis is not trusted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TrustError {
    /// It is not the expected one.
    #[error("the vault's genesis is {found}, but {expected} was kept: this is another vault, or its beginning was replaced")]
    OtherGenesis {
        /// Digest in the vault.
        found: Sha256,
        /// Digest that was kept.
        expected: Sha256,
    },
    /// It is missing or damaged and no copy was found.
    #[error("the vault's genesis attestation is missing or damaged: {0}")]
    NoGenesis(String),
}

/// The code of an envelope whose bytes the store did not give: it may the next time.
pub const UNREADABLE: &str = "unreadable";

/// Why an envelope is void.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoidReason {
    /// For machines: `bad_signature`, `wrong_role`, `misplaced` and the like.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

#[derive(Clone)]
struct Known {
    entry: SignerEntry,
    key: PublicKey,
    /// The number on the chain `vault` that named it.
    since: u64,
    /// After a rotation: the last number on each chain that this key may have signed.
    valid_up_to: Option<BTreeMap<ChainName, u64>>,
}

/// Who may attest what.
#[derive(Clone)]
pub struct Trust {
    genesis: Sha256,
    vault: String,
    recipients: Vec<String>,
    known: Vec<Known>,
}

impl Trust {
    /// Starts from the bytes of a genesis envelope. `vault_file` gives VAULT.json's bytes for a genesis
    /// that does not carry its signers itself.
    pub fn from_genesis(bytes: &[u8], vault_file: impl FnOnce() -> Option<Vec<u8>>) -> Result<Self, TrustError> {
        let no = |why: &str| TrustError::NoGenesis(why.to_owned());
        let envelope = Envelope::parse(bytes).ok_or_else(|| no("it is not a DSSE envelope"))?;
        let payload = super::keys::from_base64(&envelope.payload).ok_or_else(|| no("its payload is not base64"))?;
        let statement = Statement::parse(&payload).map_err(|e| no(&e))?;
        let predicate = &statement.predicate;
        if statement.kind != Kind::Genesis
            || predicate.chain != ChainName::vault()
            || predicate.sequence != 1
            || predicate.previous.is_some()
        {
            return Err(no("it is not the first attestation of the chain `vault`"));
        }
        let (signers, recipients) = match predicate.details::<GenesisDetails>() {
            Ok(details) => (details.signers, details.recipients_list),
            Err(_) => {
                let text = vault_file().ok_or_else(|| no("VAULT.json cannot be read"))?;
                let attested = statement.subject.iter().any(|s| s.name == VAULT_JSON && s.digest.sha256 == Sha256::of(&text));
                let file: VaultFile = super::strict::from_slice(&text).map_err(|e| no(&format!("VAULT.json: {e}")))?;
                if !attested {
                    return Err(no("VAULT.json is not the one that genesis attests"));
                }
                (file.signers, file.recipients)
            }
        };
        let known = signers
            .into_iter()
            .map(|s| Known::new(s, 1))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| no("it names a signer whose key is damaged"))?;
        let trust = Self { genesis: Sha256::of(bytes), vault: predicate.vault.clone(), recipients, known };
        let signer = envelope.key_id().and_then(|id| trust.find(&id)).ok_or_else(|| no("its signer is not among the signers"))?;
        if signer.entry.role != Role::Operator || envelope.verified_payload(&signer.key).is_none() {
            return Err(no("its signature is not the operator's"));
        }
        Ok(trust)
    }

    fn find(&self, key_id: &Sha256) -> Option<&Known> {
        self.known.iter().find(|k| k.entry.keyid == *key_id)
    }

    /// The digest of the genesis envelope.
    pub fn genesis(&self) -> Sha256 {
        self.genesis
    }

    /// The vault's id.
    pub fn vault(&self) -> &str {
        &self.vault
    }

    /// The first recipients.
    pub fn recipients(&self) -> &[String] {
        &self.recipients
    }

    /// Every signer ever valid, and whether it still is.
    pub fn signers(&self) -> impl Iterator<Item = (&SignerEntry, bool)> {
        self.known.iter().map(|k| (&k.entry, k.valid_up_to.is_none()))
    }

    /// The key of an operator who could decide at a number of the chain `vault`; at `u64::MAX`, who still can.
    pub fn operator_at(&self, key_id: &Sha256, number: u64) -> Option<&PublicKey> {
        let known = self.find(key_id).filter(|k| k.entry.role == Role::Operator && k.since < number)?;
        let ended = known.valid_up_to.as_ref().is_some_and(|limits| limits.get(&ChainName::vault()).is_none_or(|last| number > *last));
        (!ended).then_some(&known.key)
    }

    /// Checks an envelope found at a number of a chain.
    pub fn accept(&self, bytes: &[u8], chain: &ChainName, sequence: u64) -> Result<(Statement, Role), VoidReason> {
        let no = |code: &'static str, message: String| VoidReason { code, message };
        let envelope = Envelope::parse(bytes).ok_or_else(|| no("not_an_envelope", "it is not a DSSE envelope".into()))?;
        let key_id = envelope.key_id().ok_or_else(|| no("not_an_envelope", "it has no signature".into()))?;
        let signer =
            self.find(&key_id).ok_or_else(|| no("unknown_signer", format!("its signer {} is not known to this vault", key_id.short())))?;
        let payload =
            envelope.verified_payload(&signer.key).ok_or_else(|| no("bad_signature", "its signature does not fit its content".into()))?;
        let statement = Statement::parse(&payload).map_err(|e| no("not_a_statement", format!("its statement cannot be read: {e}")))?;
        let predicate = &statement.predicate;
        if predicate.vault != self.vault {
            return Err(no("other_vault", format!("it belongs to the vault {}", predicate.vault)));
        }
        if predicate.chain != *chain || predicate.sequence != sequence {
            return Err(no("misplaced", format!("it was signed as {} {}", predicate.chain, predicate.sequence)));
        }
        if sequence > LARGEST_NUMBER {
            return Err(no("misplaced", "no chain grows to this number".into()));
        }
        let role = signer.entry.role;
        if !statement.kind.belongs_on(chain) {
            return Err(no("misplaced", format!("a {} does not belong on the chain {chain}", statement.kind)));
        }
        if !role.may(statement.kind, chain) {
            return Err(no("wrong_role", format!("its signer is {role}, whose role may not attest {}", statement.kind)));
        }
        if let Some(limits) = &signer.valid_up_to
            && limits.get(chain).is_none_or(|last| sequence > *last)
        {
            return Err(no("rotated_key", format!("its key {} was rotated before it", key_id.short())));
        }
        Ok((statement, role))
    }

    /// Takes a valid attestation of the chain `vault` into account.
    pub fn learn(&mut self, statement: &Statement) {
        if statement.kind != Kind::KeyRotation {
            return;
        }
        let Ok(details) = statement.predicate.details::<RotationDetails>() else { return };
        if let Some(old) = self.known.iter_mut().find(|k| Some(k.entry.keyid) == details.old)
            && old.valid_up_to.is_none()
        {
            let mut heads: BTreeMap<_, _> = details.heads.into_iter().map(|h| (h.chain, h.sequence)).collect();
            // The rotation itself may have been signed by the key that it ends.
            heads.insert(ChainName::vault(), statement.predicate.sequence);
            old.valid_up_to = Some(heads);
        }
        if self.find(&details.new.keyid).is_none()
            && let Some(known) = Known::new(details.new, statement.predicate.sequence)
        {
            self.known.push(known);
        }
    }
}

impl Known {
    fn new(entry: SignerEntry, since: u64) -> Option<Self> {
        let key = PublicKey::from_pem(&entry.public_key).ok()?;
        (key.key_id() == entry.keyid).then_some(Self { entry, key, since, valid_up_to: None })
    }
}
