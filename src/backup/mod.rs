//! From a source into the vault: snapshots, exports, imports, checkpoints.
//!
//! It promises: data objects first, each locked as it is created, then the attestation; nothing that an
//! attestation does not name exists. A record that could not be read is carried or named, never turned
//! into a deletion.

mod checkpoint;
mod collect;
mod error;
mod export;
mod fresh;
mod import;
mod journal;
mod pipeline;
mod plan;
mod room;
mod seal_events;
mod seen;
mod snapshot;
mod state;

use jiff::Timestamp;

use crate::vault::Written;
use crate::vault::{CommitError, Writer};

pub use checkpoint::{CheckpointReport, DueChain, checkpoint, checkpoint_is_due, write_heartbeats};
pub use error::SnapshotError;
pub use export::{ExportError, ExportJob, ExportReport, export};
pub use import::{ImportError, ImportJob, ImportReport, import};
pub use snapshot::{SnapshotJob, SnapshotReport, snapshot};
pub use state::StateDir;

/// Writes the policy that a run is made under, unless the vault has it.
fn put_policy(writer: &Writer, policy: &[u8], started: Timestamp) -> Result<Option<Written>, CommitError> {
    writer.put_policy(policy, started)
}
