//! Attestations: the in-toto Statement v1 of one run, with the predicate that this format defines.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::epoch::{Grace, Retention};
use super::keys::SignerEntry;
use super::names::{ChainName, Container, RunId, ShortName};
use crate::store::{LockState, Sha256};

pub use super::details::*;
pub use super::proof::*;

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// What an attestation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Kind {
    Genesis,
    Snapshot,
    Export,
    RestoreTest,
    Drill,
    Failover,
    Checkpoint,
    Heartbeat,
    Heal,
    Hold,
    Disposition,
    KeyRotation,
    Promotion,
}

impl Kind {
    const ALL: [(Self, &'static str); 13] = [
        (Self::Genesis, "genesis"),
        (Self::Snapshot, "snapshot"),
        (Self::Export, "export"),
        (Self::RestoreTest, "restore-test"),
        (Self::Drill, "drill"),
        (Self::Failover, "failover"),
        (Self::Checkpoint, "checkpoint"),
        (Self::Heartbeat, "heartbeat"),
        (Self::Heal, "heal"),
        (Self::Hold, "hold"),
        (Self::Disposition, "disposition"),
        (Self::KeyRotation, "key-rotation"),
        (Self::Promotion, "promotion"),
    ];

    /// The kind's name.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// `urn:backstop:attestation:<kind>:v1`.
    pub fn predicate_type(self) -> String {
        format!("urn:backstop:attestation:{}:v1", self.as_str())
    }

    fn of_predicate_type(text: &str) -> Option<Self> {
        let name = text.strip_prefix("urn:backstop:attestation:")?.strip_suffix(":v1")?;
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(kind, _)| *kind)
    }

    /// Whether an attestation of this kind belongs on a chain.
    pub fn belongs_on(self, chain: &ChainName) -> bool {
        match self {
            Self::Snapshot => chain.source().is_some(),
            Self::Export => chain.stream().is_some(),
            Self::RestoreTest | Self::Drill | Self::Failover | Self::Checkpoint => chain.as_str() == self.as_str(),
            Self::Heartbeat => chain.as_str() != "vault" && chain.as_str() != "checkpoint",
            _ => chain.as_str() == "vault",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything asked for was done.
    Complete,
    /// What was captured is committed; something was not captured, and the record says what.
    Partial,
    /// Nothing that counts.
    Failed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Complete => "complete",
            Self::Partial => "partial",
            Self::Failed => "failed",
        })
    }
}

/// The retention that a run was made under: one for all containers, or one for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RetentionBy {
    /// The same everywhere.
    All(Retention),
    /// By container.
    Containers(BTreeMap<Container, Retention>),
}

impl RetentionBy {
    /// The retention of one container.
    pub fn of(&self, container: Container) -> Retention {
        match self {
            Self::All(retention) => *retention,
            Self::Containers(map) => {
                let longest = map.values().max().copied().unwrap_or(Retention { years: 7 });
                map.get(&container).copied().unwrap_or(longest)
            }
        }
    }
}

/// The program that made a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// The program's version.
    pub version: String,
    /// Which host.
    pub host_id: String,
}

/// An object that a run wrote or adopted, as the store answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Logical name.
    pub name: String,
    /// Digest of the stored bytes: the object's identity.
    pub sha256: Sha256,
    /// Stored bytes.
    pub size: u64,
    /// The store's version id, where it has versions.
    pub version: Option<String>,
    /// The lock as measured.
    pub lock: LockState,
}

/// The common part of every predicate, and the details of its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Predicate {
    /// The vault's id.
    pub vault: String,
    /// The chain.
    pub chain: ChainName,
    /// From 1.
    pub sequence: u64,
    /// Digest of the previous valid envelope; of genesis for a chain's first; null in genesis.
    pub previous: Option<Sha256>,
    /// Void numbers passed over.
    pub skipped: Vec<u64>,
    /// The run.
    pub run: RunId,
    /// Which program on which host.
    pub agent: Agent,
    /// When the run began.
    pub started: Timestamp,
    /// When it was committed.
    pub finished: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// The policy it ran under.
    pub policy_sha256: Sha256,
    /// The retention it ran under.
    pub retention: RetentionBy,
    /// The grace it ran under.
    pub grace: Grace,
    /// Fingerprint of the recipients.
    pub recipients: Sha256,
    /// What it wrote or adopted.
    pub objects: Vec<ObjectRef>,
    /// What its kind adds.
    #[serde(flatten)]
    pub details: Map<String, Value>,
}

impl Predicate {
    /// The details as the type of their kind.
    pub fn details<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_value(Value::Object(self.details.clone()))
    }
}

/// The digest of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectDigest {
    /// SHA-256.
    pub sha256: Sha256,
}

/// A subject of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Logical name.
    pub name: String,
    /// Its digest.
    pub digest: SubjectDigest,
}

#[derive(Serialize, Deserialize)]
struct RawStatement {
    #[serde(rename = "_type")]
    statement_type: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate,
}

/// An in-toto statement of this format.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// What it is about.
    pub kind: Kind,
    /// The objects, or the previous envelope where the run wrote none.
    pub subject: Vec<Subject>,
    /// The predicate.
    pub predicate: Predicate,
}

impl Statement {
    /// The bytes to sign.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&RawStatement {
            statement_type: STATEMENT_TYPE.into(),
            subject: self.subject.clone(),
            predicate_type: self.kind.predicate_type(),
            predicate: self.predicate.clone(),
        })
    }

    /// Reads signed bytes; the text says why they are not a statement of this format.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let raw: RawStatement = super::strict::from_slice(bytes).map_err(|e| e.to_string())?;
        if raw.statement_type != STATEMENT_TYPE {
            return Err(format!("its type is {:?}", raw.statement_type));
        }
        let kind = Kind::of_predicate_type(&raw.predicate_type)
            .ok_or_else(|| format!("its predicate type {:?} is not known", raw.predicate_type))?;
        Ok(Self { kind, subject: raw.subject, predicate: raw.predicate })
    }
}

/// VAULT.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultFile {
    /// `vault/1`.
    pub backstop: VaultVersion,
    /// The vault's id.
    pub vault: String,
    /// When it was made.
    pub created: Timestamp,
    /// The first signers.
    pub signers: Vec<SignerEntry>,
    /// The first recipients.
    pub recipients: Vec<String>,
}

/// The version of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum VaultVersion {
    /// The first.
    #[serde(rename = "vault/1")]
    One,
}

/// The name of a source or stream that an attestation's chain belongs to.
pub fn subject_of(chain: &ChainName) -> Option<ShortName> {
    chain.source().or_else(|| chain.stream())
}

impl FromStr for Kind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().find(|(_, n)| *n == text).map(|(k, _)| *k).ok_or_else(|| format!("{text:?} is not a kind of attestation"))
    }
}
