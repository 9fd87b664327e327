//! What each kind of attestation adds to the common predicate.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::keys::SignerEntry;
use super::names::{ChainName, RunId};
use crate::store::Sha256;

/// Base or delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotKind {
    /// The manifest lists everything.
    Base,
    /// The manifest lists what changed.
    Delta,
}

impl fmt::Display for SnapshotKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Base { "base" } else { "delta" })
    }
}

/// Begin and end of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochSpan {
    /// First instant.
    pub start: Timestamp,
    /// First instant after it.
    pub end: Timestamp,
}

/// How the capture of one collection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CollectionOutcome {
    /// All of it.
    Complete,
    /// Some of it; the rest is carried from before where that is possible.
    Partial,
    /// None of it; all is carried from before.
    Failed,
    /// Not captured, and there is no earlier state to carry: not a deletion.
    Absent,
}

/// One collection in an attestation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionRecord {
    /// Its name.
    pub name: String,
    /// How its capture ended.
    pub outcome: CollectionOutcome,
    /// Entries of it in the snapshot.
    pub count: u64,
    /// When what is in the snapshot was read.
    pub as_of: Option<Timestamp>,
    /// Why it is not complete: a code, never a server's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// Since when nothing of it could be captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent_since: Option<Timestamp>,
}

impl CollectionRecord {
    /// Whether the snapshot has nothing of it because it could not be captured.
    pub fn is_absent(&self) -> bool {
        self.absent_since.is_some() && self.as_of.is_none()
    }

    /// Why the snapshot is not what the collection was then, for people; nothing where it is.
    pub fn lacks(&self) -> Option<String> {
        let why = self.error_code.as_ref().map(|code| format!(" ({})", code.replace('_', " "))).unwrap_or_default();
        Some(match (self.outcome, self.as_of, self.absent_since) {
            (CollectionOutcome::Complete, ..) => return None,
            (CollectionOutcome::Partial, ..) => format!("some of its records could not be captured{why}"),
            (_, Some(as_of), _) => format!("it could not be captured{why}: its records are as of {as_of:.0}"),
            (_, None, Some(since)) => format!("it could not be captured since {since:.0}{why}: there are no records of it"),
            (_, None, None) => format!("it could not be captured{why}"),
        })
    }
}

/// What a snapshot adds to the predicate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotDetails {
    /// Base or delta.
    pub snapshot_kind: SnapshotKind,
    /// The run whose manifest lists everything.
    pub base: Option<RunId>,
    /// The snapshot before; null only in the first.
    pub previous_snapshot: Option<RunId>,
    /// Every run whose objects the whole state needs, itself included.
    pub segments_from: Vec<RunId>,
    /// The epoch.
    pub epoch: EpochSpan,
    /// Digest over all current entries; null when the run failed.
    pub tree_sha256: Option<Sha256>,
    /// When reading began.
    pub captured: Timestamp,
    /// By collection.
    pub collections: Vec<CollectionRecord>,
    /// Entries afterwards.
    #[serde(default)]
    pub entries: u64,
    /// Why a failed run failed: a code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
}

/// The span of one object of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpan {
    /// The object.
    pub name: String,
    /// First event time in it; null when none has a time.
    pub first: Option<Timestamp>,
    /// Last event time in it.
    pub last: Option<Timestamp>,
    /// Events in it.
    pub count: u64,
}

/// One imported file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedFile {
    /// Digest of the file as it was delivered.
    pub sha256: Sha256,
    /// First event time in it.
    pub first: Option<Timestamp>,
    /// Last event time in it.
    pub last: Option<Timestamp>,
    /// Events in it.
    pub count: u64,
}

/// A half-open window of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// First instant.
    pub from: Timestamp,
    /// First instant after it.
    pub to: Timestamp,
}

/// One JSON pointer, or several of which the first that is present wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(untagged)]
pub enum Pointer {
    /// None.
    #[default]
    None,
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

impl Pointer {
    /// From a list.
    pub fn from_list(mut list: Vec<String>) -> Self {
        match list.len() {
            0 => Self::None,
            1 => Self::One(list.remove(0)),
            _ => Self::Several(list),
        }
    }

    /// As a list.
    pub fn to_list(&self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::One(one) => vec![one.clone()],
            Self::Several(several) => several.clone(),
        }
    }
}

/// What an export or import adds to the predicate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportDetails {
    /// The window; absent in an import.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Where an event's id is.
    #[serde(default)]
    pub id: Pointer,
    /// Where an event's time is.
    #[serde(default)]
    pub time: Pointer,
    /// Events, late ones included.
    pub events: u64,
    /// Late events.
    #[serde(default)]
    pub late_events: u64,
    /// The largest lateness; null where it is not known.
    #[serde(default)]
    pub largest_lateness_seconds: Option<f64>,
    /// From when on the source could give events.
    #[serde(default)]
    pub available_from: Option<Timestamp>,
    /// The part of the window that can never be had.
    #[serde(default)]
    pub unrecoverable: Option<Window>,
    /// `cold` when nothing is known of what was sealed before.
    #[serde(default)]
    pub dedupe: Option<String>,
    /// By object.
    pub spans: Vec<LogSpan>,
    /// The imported files, in place of a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<Vec<ImportedFile>>,
    /// Events whose time could not be read.
    #[serde(default)]
    pub untimed_events: u64,
}

/// A chain's head in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The chain.
    pub chain: ChainName,
    /// Its newest valid number.
    pub sequence: u64,
    /// The digest of that envelope.
    pub sha256: Sha256,
}

/// The lock that an envelope got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeLock {
    /// The chain.
    pub chain: ChainName,
    /// The number.
    pub sequence: u64,
    /// Until when.
    pub until: Option<Timestamp>,
}

/// What a checkpoint adds to the predicate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointDetails {
    /// The head of every chain.
    pub heads: Vec<Head>,
    /// The locks of the envelopes since the last checkpoint.
    pub locks: Vec<EnvelopeLock>,
    /// The bundle of the envelopes since the last checkpoint, by name.
    pub bundle: Option<String>,
}

/// What genesis adds to the predicate: the same that VAULT.json says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenesisDetails {
    /// The first signers.
    pub signers: Vec<SignerEntry>,
    /// The first recipients.
    pub recipients_list: Vec<String>,
}

/// What a key rotation adds to the predicate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationDetails {
    /// The new key.
    pub new: SignerEntry,
    /// The key that ends; absent where a signer is only added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Sha256>,
    /// The head of every chain: up to where the old key is valid.
    pub heads: Vec<Head>,
}

/// What a heal adds to the predicate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealDetails {
    /// Which bytes now lie under which further name.
    pub heals: Vec<Healed>,
}

/// One healed object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healed {
    /// The object's identity.
    pub sha256: Sha256,
    /// Its new name.
    pub name: String,
}

/// What a heartbeat adds to the predicate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatDetails {
    /// The newest success on this chain.
    pub last_success: Option<Timestamp>,
    /// When the next run is due by the policy's schedule.
    pub next_due: Option<Timestamp>,
    /// What is failing: codes.
    pub failing: Vec<String>,
}
