//! What the checks came to, from many threads.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::Serialize;

use crate::vault::names::{ChainName, RunId};

/// What is checked. Each can fail: a test breaks its subject and sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Every chain has all of its numbers.
    Chains,
    /// Each restored record, as it lies on disk, has the bytes, mode and time that its manifest names; nothing else lies there.
    Records,
    /// Each restored state has the digest that its attestation says.
    Trees,
    /// Each record of a tenant is a document in canonical form.
    Documents,
    /// Each document is of the shape that its collection's catalog says, and lies where its id says.
    Shapes,
    /// Each reference leads to a record of the snapshot, or to what is declared to be outside.
    References,
    /// Each collection has as many records as its attestation says.
    Counts,
    /// Each record of earlier states of the same epoch has the bytes that its manifest names.
    History,
    /// Windows of a stream touch, but for what could never be had.
    Windows,
    /// Each object of events has the number and the span that its attestation says.
    Events,
    /// Each event of a window lies in it, a late one before it; what is restored is in time order.
    Times,
    /// No event stands twice in a window; what is restored has each id once.
    Ids,
    /// A sample of the live tenant is what the snapshot has, or was changed since.
    Live,
}

impl Check {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 13] = [
        Self::Chains,
        Self::Records,
        Self::Trees,
        Self::Documents,
        Self::Shapes,
        Self::References,
        Self::Counts,
        Self::History,
        Self::Windows,
        Self::Events,
        Self::Times,
        Self::Ids,
        Self::Live,
    ];

    /// As machines name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chains => "chains",
            Self::Records => "records",
            Self::Trees => "trees",
            Self::Documents => "documents",
            Self::Shapes => "shapes",
            Self::References => "references",
            Self::Counts => "counts",
            Self::History => "history",
            Self::Windows => "windows",
            Self::Events => "events",
            Self::Times => "times",
            Self::Ids => "ids",
            Self::Live => "live",
        }
    }

    /// What was counted.
    pub fn subjects(self) -> &'static str {
        match self {
            Self::Chains => "chains have all of their numbers",
            Self::Records => "records lie on disk as their manifests say",
            Self::Trees => "states have the digest that is attested",
            Self::Documents => "records are documents in canonical form",
            Self::Shapes => "documents have their collection's shape",
            Self::References => "references lead to a record, or are declared to lead outside",
            Self::Counts => "collections have as many records as is attested",
            Self::History => "records of earlier states have their bytes",
            Self::Windows => "windows touch the one before",
            Self::Events => "objects of events have the number and span that is attested",
            Self::Times => "events lie where their window says",
            Self::Ids => "events stand once",
            Self::Live => "records of the live tenant are as in the snapshot, or explained",
        }
    }
}

/// Something that a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The check.
    pub check: Check,
    /// The chain.
    pub chain: ChainName,
    /// The run that was restored.
    pub run: Option<RunId>,
    /// The object that is to blame, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The run that wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_by: Option<RunId>,
    /// The record, if it can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// For people.
    pub message: String,
}

/// Counts of one check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// On how much it ran.
    pub ran: u64,
    /// On how much of that it failed.
    pub failed: u64,
    /// Where it could be told that nothing had to be: references that are declared to lead outside, differences that are explained.
    pub excused: u64,
}

/// Counts and problems.
pub type Saved = (BTreeMap<Check, Count>, Vec<Problem>);

/// Everything that was counted and found.
#[derive(Default)]
pub struct Tally(Mutex<Saved>);

impl Tally {
    /// A check ran on so much more.
    pub fn ran(&self, check: Check, count: u64) {
        if let Ok(mut inner) = self.0.lock() {
            inner.0.entry(check).or_default().ran += count;
        }
    }

    /// It ran, and something is excused.
    pub fn excused(&self, check: Check, count: u64) {
        if let Ok(mut inner) = self.0.lock() {
            inner.0.entry(check).or_default().excused += count;
        }
    }

    /// It ran, and failed.
    pub fn failed(&self, problem: Problem) {
        if let Ok(mut inner) = self.0.lock() {
            inner.0.entry(problem.check).or_default().failed += 1;
            inner.1.push(problem);
        }
    }

    /// Everything so far, to go back to.
    pub fn save(&self) -> Saved {
        self.0.lock().map(|inner| inner.clone()).unwrap_or_default()
    }

    /// Goes back to what was saved.
    pub fn load(&self, saved: Saved) {
        if let Ok(mut inner) = self.0.lock() {
            *inner = saved;
        }
    }

    /// How many problems there are so far.
    pub fn problems(&self) -> usize {
        self.0.lock().map_or(0, |inner| inner.1.len())
    }

    /// Those that came after so many.
    pub fn problems_since(&self, before: usize) -> Vec<Problem> {
        self.0.lock().map(|inner| inner.1[before.min(inner.1.len())..].to_vec()).unwrap_or_default()
    }

    /// The counts and the problems.
    pub fn take(self) -> Saved {
        self.0.into_inner().unwrap_or_default()
    }
}
