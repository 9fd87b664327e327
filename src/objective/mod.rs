//! What of the objectives is kept, from attestations alone: the RPO of each source and stream at an instant, and the
//! availability over a period, and how much of what is stored was restored for a test.
//!
//! It promises: a state counts from when it was committed, and with the age of what it captured; what failed, is
//! partial or lies behind a gap counts for nothing.

mod availability;
mod coverage;
mod entry;
mod estimate;
mod index;
mod standing;
mod status;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub use availability::{Availability, Held, availability, by_day};
pub use coverage::{COVERAGE_PERIOD, Coverage, DataObject, Tests, data_objects, tested_heads};
pub use entry::{Entry, Run, What, points};
pub use estimate::{Estimate, Measurement, class_of, estimate, keep_measurement, measured_by_tests, measured_here};
pub use index::{Survey, SurveyError};
pub use status::{Finding, LastDrill, LastTest, Newest, Objectives, RestoreTime, Review, Rpo, Severity, Status, Subject, spoken, status};

/// What kind of data a source or stream is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Documents of a tenant.
    Configuration,
    /// Events.
    Logs,
    /// Files.
    Evidence,
}

/// A committed state: what can be recovered since `committed` reaches to `captured`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Its number on the chain.
    pub sequence: u64,
    /// When it was committed.
    pub committed: Timestamp,
    /// Up to when everything is in it.
    pub captured: Timestamp,
}

/// The newest state that could be recovered at an instant: the one captured last of those committed by then.
pub fn newest_at(points: &[Point], at: Timestamp) -> Option<Point> {
    points.iter().filter(|p| p.committed <= at).max_by_key(|p| (p.captured, p.sequence)).copied()
}

/// The RPO at an instant: the age of the newest state that could be recovered then.
pub fn rpo_at(points: &[Point], at: Timestamp) -> Option<SignedDuration> {
    newest_at(points, at).map(|p| at.duration_since(p.captured).max(SignedDuration::ZERO))
}
