//! Which recovery points a test restores: the newest of each source and stream, and older ones so that everything is
//! restored again within 90 days.
//!
//! What is drawn is a *unit*: the runs of one epoch of a source, which share their segments, or of one day of a stream.

use std::collections::{BTreeMap, HashMap};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::objective::{DataObject, Tests};
use crate::vault::attestation::{ExportDetails, Kind, Outcome, SnapshotDetails};
use crate::vault::names::ChainName;
use crate::vault::{Attested, ChainView};

/// Every so many tests, a week apart, everything was restored once: 77 days, so that one missed week still leaves 90.
const TESTS_FOR_ALL: u64 = 11;

/// Why a unit is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Drawn {
    /// It is what an incident would be answered with.
    Newest,
    /// Its newest run is at most 30 days old.
    Within30Days,
    /// At most a year.
    WithinAYear,
    /// Older.
    Older,
}

impl Drawn {
    /// As attestations name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Within30Days => "within_30_days",
            Self::WithinAYear => "within_a_year",
            Self::Older => "older",
        }
    }

    fn by_age(age: SignedDuration) -> Self {
        match age.as_hours() / 24 {
            ..=30 => Self::Within30Days,
            31..=365 => Self::WithinAYear,
            _ => Self::Older,
        }
    }
}

/// Runs that are restored and checked together.
#[derive(Debug, Clone)]
pub struct Unit<'a> {
    /// Their chain.
    pub chain: &'a ChainName,
    /// Everything on it.
    pub view: &'a ChainView,
    /// Those that did not fail, by number.
    pub runs: Vec<&'a Attested>,
    /// Stored bytes of what they attest.
    pub bytes: u64,
    /// When what was restored longest ago was restored; none where something was not within 90 days.
    pub covered: Option<Timestamp>,
}

impl Unit<'_> {
    /// Their first and last number.
    pub fn range(&self) -> (u64, u64) {
        let number = |a: Option<&&Attested>| a.map_or(0, |a| a.sequence());
        (number(self.runs.first()), number(self.runs.last()))
    }

    fn newest(&self) -> Timestamp {
        self.runs.iter().map(|a| a.statement.predicate.finished).max().unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// The runs of a chain in units, oldest first.
pub fn units<'a>(chain: &'a ChainName, view: &'a ChainView, data: &[DataObject<'a>], tests: &Tests) -> Vec<Unit<'a>> {
    let mut objects: HashMap<u64, Vec<&DataObject<'a>>> = HashMap::new();
    data.iter().for_each(|o| objects.entry(o.sequence).or_default().push(o));
    let mut by_period: BTreeMap<Timestamp, Vec<&'a Attested>> = BTreeMap::new();
    for attested in &view.attested {
        let p = &attested.statement.predicate;
        // What was disposed of has no objects left.
        if p.outcome == Outcome::Failed || !objects.contains_key(&p.sequence) && attested.statement.kind != Kind::Export {
            continue;
        }
        let period = match attested.statement.kind {
            Kind::Snapshot => p.details::<SnapshotDetails>().ok().map(|d| d.epoch.start),
            Kind::Export => p.details::<ExportDetails>().ok().map(|d| day(d.window.map_or(p.started, |w| w.from))),
            _ => None,
        };
        if let Some(period) = period {
            by_period.entry(period).or_default().push(attested);
        }
    }
    let unit = |runs: Vec<&'a Attested>| {
        let own = || runs.iter().filter_map(|a| objects.get(&a.sequence())).flatten();
        let bytes = own().map(|o| o.object.size).sum();
        let covered = own().map(|o| tests.covered(o)).min().flatten();
        Unit { chain, view, bytes, covered, runs }
    };
    // What is stored under no object has nothing to restore.
    by_period.into_values().map(unit).filter(|u| u.bytes > 0).collect()
}

fn day(at: Timestamp) -> Timestamp {
    let zoned = at.to_zoned(TimeZone::UTC);
    zoned.start_of_day().map_or(at, |start| start.timestamp())
}

/// What is drawn: first the newest unit of each chain, then older ones.
///
/// At least one of each age, then whatever was restored longest ago, until that is an eleventh of everything and as much as was
/// stored since the last test. `most` bounds the bytes of the older ones.
pub fn draw<'a>(mut chains: Vec<Vec<Unit<'a>>>, now: Timestamp, last_test: Option<Timestamp>, most: Option<u64>) -> Vec<(Drawn, Unit<'a>)> {
    let mut out: Vec<(Drawn, Unit<'a>)> = Vec::new();
    let all: u64 = chains.iter().flatten().map(|u| u.bytes).sum();
    for units in &mut chains {
        out.extend(units.pop().map(|unit| (Drawn::Newest, unit)));
    }
    let mut older: Vec<(Drawn, Unit<'a>)> =
        chains.into_iter().flatten().map(|unit| (Drawn::by_age(now.duration_since(unit.newest())), unit)).collect();
    // Longest ago first, what never was before all; the largest of equals.
    older.sort_by(|(_, a), (_, b)| (a.covered, b.bytes).cmp(&(b.covered, a.bytes)));
    let new: u64 = older.iter().filter(|(_, u)| last_test.is_some_and(|last| u.newest() > last)).map(|(_, u)| u.bytes).sum();
    let wanted = (all.div_ceil(TESTS_FOR_ALL) + new).min(most.unwrap_or(u64::MAX));
    let mut drawn = 0;
    let mut chosen: Vec<(Drawn, Unit<'a>)> = Vec::new();
    for age in [Drawn::Within30Days, Drawn::WithinAYear, Drawn::Older] {
        if let Some(at) = older.iter().position(|(d, u)| *d == age && most.is_none_or(|most| drawn + u.bytes <= most)) {
            drawn += older[at].1.bytes;
            chosen.push(older.remove(at));
        }
    }
    for (age, unit) in older {
        if drawn >= wanted || most.is_some_and(|most| drawn + unit.bytes > most) {
            continue;
        }
        drawn += unit.bytes;
        chosen.push((age, unit));
    }
    chosen.sort_by_key(|(age, _)| *age);
    out.extend(chosen);
    out
}
