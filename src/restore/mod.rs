//! From the vault to elsewhere: records and evidence into a directory, events of a window, the difference
//! of two snapshots, records by their names.
//!
//! It promises: nothing is written outside the target, nothing unverified is written at all, and what
//! could not be recovered is named while the rest is. Only objects that a valid attestation names are
//! ever opened.

mod diff;
mod files;
mod find;
mod logs;
mod members;
mod place;
mod scratch;
mod thaw;
mod tree;
mod walk;

use std::path::PathBuf;

use crate::store::StoreError;
use crate::vault::LedgerError;
use crate::vault::manifest::ManifestError;
use crate::vault::names::RunId;
use crate::vault::seal::SealError;

pub use diff::{AttributeChange, Change, DiffReport, RecordChange, diff, diff_raw};
pub use files::{Existing, FilesJob, FilesReport, Pick, restore_files, restore_tree};
pub use find::{FindReport, Found, Preview, find, preview};
pub use logs::{
    LogDisposal, LogObject, LogsJob, LogsReport, Uncovered, WhyUncovered, known_at, log_objects, log_objects_of, read_log_object,
    restore_logs,
};
pub use members::{Members, Wanted, unpack_segment};
pub use scratch::{Scratch, end_scratch};
pub use thaw::Thaw;
pub use tree::{Lineage, TreeInfo, open_manifest, read_history, read_tree, snapshot_of};
pub use walk::{Stopped, Walk};

impl RestoreError {
    fn disposed(what: String, disposal: &crate::vault::Disposal) -> Self {
        let names: Vec<&str> = disposal.details.approvals.iter().map(|a| a.name.as_str()).collect();
        let approved = if names.is_empty() { "nobody whom it names".to_owned() } else { names.join(" and ") };
        Self::Disposed { what, by: disposal.run, sequence: disposal.sequence, at: disposal.at, approved }
    }
}

/// Something that could not be recovered.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Failed {
    /// The record, if it can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The object that is to blame, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Why.
    pub message: String,
}

impl Failed {
    fn record(path: &str, object: Option<&str>, message: impl Into<String>) -> Self {
        Self { path: Some(path.to_owned()), object: object.map(str::to_owned), message: message.into() }
    }

    fn object(object: &str, message: impl Into<String>) -> Self {
        Self { path: None, object: Some(object.to_owned()), message: message.into() }
    }
}

/// Why a restore could not even begin, or not go on.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is no such snapshot.
    #[error("the run {0} is not a snapshot that this vault attests")]
    NoSnapshot(RunId),
    /// The snapshot failed when it was made.
    #[error("the run {0} failed when it was made and holds nothing that counts")]
    FailedRun(RunId),
    /// It was destroyed after its retention, as attested.
    #[error(
        "{what} was disposed of by the disposition {by} (vault/{sequence}) of {at}: it was destroyed after its retention, on the approval of {approved}"
    )]
    Disposed {
        /// What was asked for.
        what: String,
        /// The disposition.
        by: RunId,
        /// Its number on the chain `vault`.
        sequence: u64,
        /// When it was attested.
        at: jiff::Timestamp,
        /// Who approved it.
        approved: String,
    },
    /// No identity opens the sealed objects.
    #[error("none of the identities opens {object}; the vault is sealed to {}", recipients.join(", "))]
    WrongIdentity {
        /// What was tried.
        object: String,
        /// The vault's recipients.
        recipients: Vec<String>,
    },
    /// Objects lie in the archive tier.
    #[error(
        "{objects} objects ({:.1} MB) that this needs lie in the archive tier, {under_way} of them on their way back: \
         bringing them back takes up to 15 h with standard priority, mostly under 1 h with high", *bytes as f64 / 1e6
    )]
    Archived {
        /// How many.
        objects: u64,
        /// Their stored bytes.
        bytes: u64,
        /// How many of them are on their way back.
        under_way: u64,
    },
    /// Nothing could be opened.
    #[error("nothing of the snapshot can be recovered: {0}")]
    Nothing(String),
    /// The target is in the way.
    #[error("{} is not empty: restore into a new directory, say --resume to go on with a restore that was broken off, or --overwrite to replace what is there", .0.display())]
    TargetNotEmpty(PathBuf),
    /// Writing failed.
    #[error("cannot {operation} {}", path.display())]
    Write {
        /// What was tried.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Opening failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}
