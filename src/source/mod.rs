//! Where data comes from.
//!
//! A source shows its records in the order of their paths' bytes and reads one when asked. It promises to
//! tell what it could not see: a place that it cannot list is a hole, never an empty place. It knows no
//! vault.

pub mod catalog;
mod files;
mod globs;
pub mod graph;
pub mod import;
mod mounts;

use std::io::{self, Read};
use std::sync::Arc;

pub use files::{FilesOptions, FilesSource};
pub use globs::PathGlobs;

/// One record that a source shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Percent-encoded path.
    pub path: String,
    /// Listed as a file: it may be read without looking at it first.
    pub file: bool,
    /// Its bytes, where the source had to read them to list it.
    pub held: Option<Arc<Held>>,
}

impl Node {
    /// A record that is read when it is asked for.
    pub fn listed(path: String, file: bool) -> Self {
        Self { path, file, held: None }
    }
}

/// The bytes of a record that were read when it was listed.
#[derive(Debug, PartialEq, Eq)]
pub struct Held {
    /// The record.
    pub bytes: Vec<u8>,
    /// Equal fingerprints mean that nothing changed that anybody did.
    pub fingerprint: [u8; 16],
}

/// What a walk meets, in the order of paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Walked {
    /// A record.
    Node(Node),
    /// Everything below this path (`""`: everything) could not be seen.
    Hole {
        /// The encoded path.
        path: String,
        /// Why.
        problem: RecordProblem,
    },
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link and where it leads, percent-encoded.
    Symlink(String),
    /// Something that is not backed up: what it is.
    Skipped(&'static str),
}

/// What a record looks like without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What it is.
    pub kind: NodeKind,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Modification time: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Equal fingerprints mean equal bytes; `None` when that cannot be said.
    pub fingerprint: Option<[u8; 16]>,
}

/// Why a record could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordProblem {
    /// A code for attestations: `vanished`, `permission_denied`, `changed_while_read`, `skipped`, `unreadable`.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl RecordProblem {
    /// From the operating system's answer.
    pub fn from_io(error: &io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::NotFound => "vanished",
            io::ErrorKind::PermissionDenied => "permission_denied",
            _ => "unreadable",
        };
        Self { code, message: error.to_string() }
    }
}

/// Why a source cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[error("the source {name} cannot be read: {what}")]
pub struct SourceError {
    /// The source.
    pub name: String,
    /// What is wrong.
    pub what: String,
    /// Whether it may be better later.
    pub passing: bool,
}

/// A part of a source that succeeds or fails by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// Its name.
    pub name: String,
    /// What its paths begin with.
    pub prefix: String,
}

/// What came of reading a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// Its bytes were appended; what it looked like then.
    Whole(Probe),
    /// It has more bytes than the limit; nothing was appended.
    Larger(Probe),
}

/// A place that records come from.
pub trait Source: Sync {
    /// Its collections.
    fn collections(&self) -> Vec<Collection>;

    /// Shows every record, in the order of the paths' bytes, until `visit` answers `false`.
    fn walk(&self, visit: &mut dyn FnMut(Walked) -> bool) -> Result<(), SourceError>;

    /// After everything was read: whether what was walked is still the same place. Where it went away meanwhile, what
    /// was not found in it was not deleted.
    fn still_there(&self) -> Result<(), SourceError> {
        Ok(())
    }

    /// Looks at a record.
    fn probe(&self, node: &Node) -> Result<Probe, RecordProblem>;

    /// Appends a record's bytes, unless they are more than `limit`. A record that changes while it is read
    /// is read again some times before that is a problem.
    fn read(&self, node: &Node, limit: u64, into: &mut Vec<u8>) -> Result<Reading, RecordProblem>;

    /// Opens a record for reading piece by piece.
    fn open(&self, node: &Node) -> Result<Box<dyn Read>, RecordProblem>;
}
