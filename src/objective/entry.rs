//! What a status needs of one attestation: a tenth of what was signed, so that ten years of them can be kept at hand.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Point;
use crate::store::Sha256;
use crate::vault::attestation::{ExportDetails, Kind, ObjectRef, Outcome, RestoreTestDetails, SnapshotDetails};
use crate::vault::names::{ChainName, RunId, period_folder};
use crate::vault::{Attested, ChainLink, ChainView};

/// One number of a chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The number.
    pub sequence: u64,
    /// When it was committed; of what is void, the epoch.
    #[serde(with = "nanoseconds")]
    pub finished: Timestamp,
    /// The store's copy is missing or damaged; a bundle holds another.
    pub salvaged: bool,
    /// What it attests.
    pub what: What,
}

/// What an attestation is of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum What {
    /// Nothing that is valid.
    Void,
    /// A snapshot or an export.
    Run(Run),
    /// A restore test, and what it measured.
    Test(Vec<Measured>),
    /// A drill.
    Drill,
    /// Anything else.
    Other,
}

/// A snapshot or an export.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The run.
    #[serde(with = "compact_run")]
    pub run: RunId,
    /// How it ended.
    pub outcome: Outcome,
    /// What can be recovered since.
    pub reach: Reach,
    /// Records or events.
    pub entries: u64,
    /// What it stored; nothing of a failed run, nor what was disposed of.
    pub objects: Vec<Stored>,
    /// When the first lock of those ends.
    #[serde(with = "optional_nanoseconds")]
    pub review: Option<Timestamp>,
}

/// Up to when a run holds everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reach {
    /// It is no recovery point.
    Nowhere,
    /// Up to an instant.
    To(#[serde(with = "nanoseconds")] Timestamp),
    /// From one instant to another, if what is before it is there.
    Window(#[serde(with = "nanoseconds")] Timestamp, #[serde(with = "nanoseconds")] Timestamp),
}

/// One stored object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The beginning of its digest: enough to find it in a list.
    #[serde(with = "postcard::fixint::le")]
    pub digest: u64,
    /// Stored bytes.
    pub size: u64,
}

/// What a restore test took to restore one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Of which chain.
    pub chain: ChainName,
    /// Records or events.
    pub entries: u64,
    /// Stored bytes that were read for them.
    pub stored_bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

/// The beginning of a digest.
pub(super) fn beginning(sha256: &Sha256) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&sha256.0[..8]);
    u64::from_be_bytes(bytes)
}

impl Entry {
    /// Of what stands at a number; `disposed` says which objects are no more.
    pub fn of(link: &ChainLink, disposed: impl Fn(&ObjectRef) -> bool) -> Self {
        match link {
            ChainLink::Attested(attested) => Self::attested(attested, disposed),
            ChainLink::Void(void) => Self { sequence: void.sequence, finished: Timestamp::UNIX_EPOCH, salvaged: false, what: What::Void },
        }
    }

    /// Of an attestation.
    pub fn attested(attested: &Attested, disposed: impl Fn(&ObjectRef) -> bool) -> Self {
        let p = &attested.statement.predicate;
        let failed = p.outcome == Outcome::Failed;
        let run = |reach, entries| {
            let mut names: Vec<&str> = Vec::new();
            let mut data: Vec<&ObjectRef> = Vec::new();
            for object in p.objects.iter().filter(|o| !failed && period_folder(&o.name).is_some() && !disposed(o)) {
                if !names.contains(&object.name.as_str()) {
                    names.push(&object.name);
                    data.push(object);
                }
            }
            What::Run(Run {
                run: p.run,
                outcome: p.outcome,
                reach,
                entries,
                objects: data.iter().map(|o| Stored { digest: beginning(&o.sha256), size: o.size }).collect(),
                review: data.iter().filter_map(|o| o.lock.until).min(),
            })
        };
        let what = match attested.statement.kind {
            Kind::Snapshot => {
                let details = p.details::<SnapshotDetails>().ok();
                let captured = details.as_ref().filter(|_| p.outcome == Outcome::Complete).map(|d| d.captured);
                run(captured.map_or(Reach::Nowhere, Reach::To), details.map_or(0, |d| d.entries))
            }
            Kind::Export => {
                let details = p.details::<ExportDetails>().ok();
                let reach = details.as_ref().filter(|_| !failed).map_or(Reach::Nowhere, |d| match d.window {
                    Some(window) => Reach::Window(window.from, window.to),
                    None => d.spans.iter().filter_map(|s| s.last).max().map_or(Reach::Nowhere, Reach::To),
                });
                run(reach, details.map_or(0, |d| d.events))
            }
            Kind::RestoreTest => {
                let tested = p.details::<RestoreTestDetails>().map(|d| d.tested).unwrap_or_default();
                What::Test(
                    tested
                        .into_iter()
                        .filter(|t| t.passed && t.entries > 0)
                        .map(|t| Measured { chain: t.chain, entries: t.entries, stored_bytes: t.stored_bytes, seconds: t.restore_seconds })
                        .collect(),
                )
            }
            Kind::Drill => What::Drill,
            _ => What::Other,
        };
        Self { sequence: attested.sequence(), finished: p.finished, salvaged: attested.from_bundle, what }
    }

    /// Its run, if it is of one that did not fail.
    pub fn sound(&self) -> Option<&Run> {
        match &self.what {
            What::Run(run) if run.outcome != Outcome::Failed => Some(run),
            _ => None,
        }
    }
}

/// The recovery points of a chain, in the order of their numbers.
///
/// Of a source: complete snapshots, each by the instant at which its reading began. Of a stream: the end of its windows
/// as far as they touch; of imported files the last event time. (The definitions of RPO in `docs/objectives.md`.)
pub fn points_of(entries: &[Entry]) -> Vec<Point> {
    let mut mark: Option<Timestamp> = None;
    let mut out = Vec::new();
    for entry in entries {
        let captured = match entry.sound().map(|run| run.reach) {
            Some(Reach::To(at)) => Some(at),
            // A later window behind a gap does not count.
            Some(Reach::Window(from, to)) => {
                let touches = mark.is_none_or(|mark| from <= mark);
                mark = mark.max(touches.then_some(to));
                touches.then_some(to)
            }
            Some(Reach::Nowhere) | None => None,
        };
        out.extend(captured.map(|captured| Point { sequence: entry.sequence, committed: entry.finished, captured }));
    }
    out
}

/// The recovery points of a chain that was read.
pub fn points(view: &ChainView) -> Vec<Point> {
    points_of(&view.attested.iter().map(|a| Entry::attested(a, |_| false)).collect::<Vec<_>>())
}

/// Instants as nanoseconds of a fixed width: read a million times.
mod nanoseconds {
    use jiff::Timestamp;
    use postcard::fixint::le;
    use serde::{Deserializer, Serializer, de, ser};

    pub fn of<E: ser::Error>(at: &Timestamp) -> Result<i64, E> {
        i64::try_from(at.as_nanosecond()).map_err(E::custom)
    }

    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        le::serialize(&of(at)?, serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let nanoseconds: i64 = le::deserialize(deserializer)?;
        Timestamp::from_nanosecond(nanoseconds.into()).map_err(de::Error::custom)
    }
}

/// The same where there may be none: the least number says so.
mod optional_nanoseconds {
    use jiff::Timestamp;
    use postcard::fixint::le;
    use serde::{Deserializer, Serializer, de};

    const NONE: i64 = i64::MIN;

    #[expect(clippy::ref_option, reason = "serde asks for it")]
    pub fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        le::serialize(&at.as_ref().map_or(Ok(NONE), super::nanoseconds::of)?, serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        let nanoseconds: i64 = le::deserialize(deserializer)?;
        let at = (nanoseconds != NONE).then(|| Timestamp::from_nanosecond(nanoseconds.into()));
        at.transpose().map_err(de::Error::custom)
    }
}

/// Runs as their 16 bytes.
mod compact_run {
    use postcard::fixint::le;
    use serde::{Deserializer, Serializer, de::Error};

    use crate::vault::names::RunId;

    pub fn serialize<S: Serializer>(run: &RunId, serializer: S) -> Result<S::Ok, S::Error> {
        le::serialize(&run.number(), serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RunId, D::Error> {
        RunId::of_number(le::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("no run has this id"))
    }
}
