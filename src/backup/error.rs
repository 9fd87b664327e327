//! Why a backup did not commit.

use std::io;

use crate::source::SourceError;
use crate::store::StoreError;
use crate::vault::seal::SealError;
use crate::vault::{CommitError, LedgerError};

/// Why a snapshot did not commit.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The source cannot be read at all.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The state directory failed.
    #[error("the state directory failed")]
    State(#[source] io::Error),
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Storing or committing failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Another run of this machine is at work.
    #[error("another run of {0} is under way on this machine")]
    Busy(String),
    /// Objects that the state needs no longer stand.
    #[error("{0} no longer stands as it was attested; what the state needs is written again")]
    NotStanding(String),
    /// Another thread's failure ended the run.
    #[error("the run was stopped")]
    Stopped,
}

impl SnapshotError {
    /// A code for attestations: never a text that could hold a path or a server's words.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Source(_) => "source_unreadable",
            Self::State(_) => "state_failed",
            Self::Seal(_) => "seal_failed",
            Self::Commit(CommitError::Dropped(_)) => "dropped_out",
            Self::Commit(_) | Self::Store(_) | Self::Ledger(_) => "store_failed",
            Self::Busy(_) => "busy",
            Self::NotStanding(_) => "not_standing",
            Self::Stopped => "stopped",
        }
    }
}
