//! What the attestations that prove something add to the common predicate: restore tests and drills.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::attestation::Outcome;
use super::names::{ChainName, RunId};
use crate::store::Sha256;

/// One recovery point or window that a restore test restored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestedRun {
    /// Its chain.
    pub chain: ChainName,
    /// The run.
    pub run: RunId,
    /// Its number.
    pub sequence: u64,
    /// Why it was chosen: `newest`, `within_30_days`, `within_a_year`, `older`.
    pub drawn: String,
    /// Whether all of its checks passed.
    pub passed: bool,
    /// Sealed objects that were read to restore it.
    pub objects: u64,
    /// Their stored bytes.
    pub stored_bytes: u64,
    /// Records or events restored.
    pub entries: u64,
    /// Bytes restored.
    pub restored_bytes: u64,
    /// How long restoring took.
    pub restore_seconds: f64,
    /// How long the checks took besides.
    pub check_seconds: f64,
}

/// Runs of a chain, from one number to another, of which every object was restored and checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoveredRange {
    /// The chain.
    pub chain: ChainName,
    /// First number.
    pub from: u64,
    /// Last number.
    pub to: u64,
}

/// An object of a covered range that is not covered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCovered {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub sha256: Sha256,
    /// Why: `failed`, `archived`, `wrong_identity`.
    pub reason: String,
}

/// What one check of a restore test came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRecord {
    /// Its name.
    pub name: String,
    /// `passed`, `failed` or `skipped`.
    pub outcome: String,
    /// On how much it ran.
    pub count: u64,
    /// On how much of that it failed.
    pub failed: u64,
}

/// What a restore test adds to the predicate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RestoreTestDetails {
    /// What was restored, in order.
    pub tested: Vec<TestedRun>,
    /// Which runs' objects were all opened and checked.
    pub covered: Vec<CoveredRange>,
    /// What of those was not.
    pub not_covered: Vec<NotCovered>,
    /// Every check.
    pub checks: Vec<CheckRecord>,
    /// Stored bytes of all recovery points, and those covered within 90 days, this test included.
    pub stored_bytes: u64,
    /// See `stored_bytes`.
    pub covered_bytes: u64,
    /// Why it could not go on: a code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
}

/// One step of a drill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillStep {
    /// Its name.
    pub name: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// How long it took.
    pub duration_seconds: f64,
    /// How long of that somebody or something was waited for.
    pub waiting_seconds: f64,
    /// Whether it lies between declared and validated.
    pub counts_toward_rto: bool,
    /// `done` or `failed`.
    pub outcome: String,
}

/// A snapshot that a drill restored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillSource {
    /// Its chain.
    pub chain: ChainName,
    /// The run.
    pub run: RunId,
    /// Its number.
    pub sequence: u64,
    /// How it had ended.
    pub outcome: Outcome,
    /// Digest of what was restored.
    pub tree_sha256: Option<Sha256>,
    /// Whether it is the attested one.
    pub tree_matches: bool,
    /// Entries restored.
    pub entries: u64,
    /// Bytes restored.
    pub restored_bytes: u64,
    /// The shortest lock of its objects.
    pub lock_until: Option<Timestamp>,
    /// How long restoring took.
    pub duration_seconds: f64,
}

/// A stream of which a drill restored the newest events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillStream {
    /// Its chain.
    pub chain: ChainName,
    /// The newest run.
    pub run: RunId,
    /// Its number.
    pub sequence: u64,
    /// First instant.
    pub from: Timestamp,
    /// First instant after.
    pub to: Timestamp,
    /// Events restored.
    pub events: u64,
    /// How long restoring took.
    pub duration_seconds: f64,
}

/// What would have been lost of one source or stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillRpo {
    /// What kind of data it is of.
    pub class: String,
    /// Its name.
    pub name: String,
    /// Its age when the disaster struck; null without a recovery point.
    pub achieved_seconds: Option<i64>,
    /// What is asked for; null of what is delivered.
    pub objective_seconds: Option<i64>,
}

/// The drill before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EarlierDrill {
    /// The run.
    pub run: RunId,
    /// When it was attested.
    pub finished: Timestamp,
    /// What was practised.
    pub scenario: String,
    /// Whether it passed.
    pub passed: bool,
    /// Its RTO.
    pub rto_achieved_seconds: f64,
    /// Its worst RPO.
    pub worst_rpo_seconds: Option<i64>,
}

/// How the clock of a drill stood at its start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillClock {
    /// Whose clock every instant is by: `store`.
    pub source: String,
    /// By how much this machine's clock was ahead of it.
    pub ahead_seconds: f64,
}

/// The instants of a drill, as an after-action report lists them. What never happens in a stand-in is null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillTimeline {
    /// The disaster was seen.
    pub detected: Timestamp,
    /// The recovery points were chosen.
    pub source_selected: Timestamp,
    /// An identity had opened the first object.
    pub key_available: Timestamp,
    /// Everything was restored into a directory.
    pub data_available: Timestamp,
    /// Every byte of it was proved: at the same instant, since nothing unproved is written.
    pub verified: Timestamp,
    /// What must be changed was known.
    pub planned: Timestamp,
    /// Somebody approved it.
    pub plan_approved: Option<Timestamp>,
    /// The first change.
    pub restore_started: Timestamp,
    /// The last one.
    pub restore_done: Timestamp,
    /// Those whom it serves took it back.
    pub service_accepted: Option<Timestamp>,
    /// Nothing of it was left.
    pub cleanup_done: Timestamp,
}

/// What a drill adds to the predicate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillDetails {
    /// What was practised.
    pub scenario: String,
    /// `functional`: everything is done, in a stand-in.
    #[serde(rename = "type")]
    pub drill_type: String,
    /// What kind of disruption it is.
    pub class: String,
    /// Whether nobody took part.
    pub unattended: bool,
    /// How the clock stood.
    pub clock: DrillClock,
    /// Its instants.
    pub timeline: DrillTimeline,
    /// By which runbook.
    pub runbook: String,
    /// Its digest.
    pub runbook_sha256: Sha256,
    /// `stand_in`: nothing real can be written to.
    pub environment: String,
    /// When the disaster struck: what RPO counts to.
    pub disaster: Timestamp,
    /// When it was declared.
    pub declared: Timestamp,
    /// When what was restored had passed its checks.
    pub validated: Timestamp,
    /// Every step.
    pub steps: Vec<DrillStep>,
    /// What was restored.
    pub sources: Vec<DrillSource>,
    /// And of streams.
    pub streams: Vec<DrillStream>,
    /// Records that the disaster deleted, changed or added.
    pub destroyed: u64,
    /// Records that had to be changed to bring it back.
    pub planned: u64,
    /// Those that were.
    pub applied: u64,
    /// Those that were left out on purpose, or cannot be brought back at all: none in a stand-in.
    pub left_out: u64,
    /// Bytes restored from the vault.
    pub restored_bytes: u64,
    /// By source and stream.
    pub rpo: Vec<DrillRpo>,
    /// From declared to validated.
    pub rto_achieved_seconds: f64,
    /// What is asked for.
    pub rto_objective_seconds: i64,
    /// Every check.
    pub checks: Vec<CheckRecord>,
    /// Every check passed, and every objective was kept.
    pub passed: bool,
    /// The drill before.
    #[serde(default)]
    pub earlier: Option<EarlierDrill>,
}
