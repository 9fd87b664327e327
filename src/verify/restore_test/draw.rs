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
    /// When what was tried longest ago was tried; none where something was not within 90 days. What cannot be restored was tried,
    /// too, and waits for its turn like everything else.
    pub tried: Option<Timestamp>,
    /// The newest test that tried it found something wrong: it may have been mended since.
    pub failed: bool,
    /// The stretches of the chain that are this unit's alone: first and last number of each.
    pub ranges: Vec<(u64, u64)>,
}

impl Unit<'_> {
    /// Their first and last number.
    pub fn range(&self) -> (u64, u64) {
        (self.ranges.first().map_or(0, |r| r.0), self.ranges.last().map_or(0, |r| r.1))
    }

    fn newest(&self) -> Timestamp {
        self.runs.iter().map(|a| a.statement.predicate.finished).max().unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// The runs of a chain in units; the one with the newest run comes last.
pub fn units<'a>(chain: &'a ChainName, view: &'a ChainView, data: &[DataObject<'a>], tests: &Tests) -> Vec<Unit<'a>> {
    let mut objects: HashMap<u64, Vec<&DataObject<'a>>> = HashMap::new();
    data.iter().for_each(|o| objects.entry(o.sequence).or_default().push(o));
    // By period, each run with its place among all runs.
    let mut by_period: BTreeMap<(Timestamp, Timestamp), Vec<(usize, &'a Attested)>> = BTreeMap::new();
    let runs = view.attested.iter().filter(|a| a.statement.predicate.outcome != Outcome::Failed);
    for (place, (attested, period)) in runs.filter_map(|a| Some((a, period(a)?))).enumerate() {
        by_period.entry(period).or_default().push((place, attested));
    }
    let unit = |placed: Vec<(usize, &'a Attested)>| {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        let mut next = None;
        for (place, attested) in &placed {
            let number = attested.sequence();
            match ranges.last_mut() {
                Some(range) if next == Some(*place) => range.1 = number,
                _ => ranges.push((number, number)),
            }
            next = Some(place + 1);
        }
        let runs: Vec<&'a Attested> = placed.into_iter().map(|(_, attested)| attested).collect();
        let own = || runs.iter().filter_map(|a| objects.get(&a.sequence())).flatten();
        let bytes = own().map(|o| o.object.size).sum();
        let tried = own().map(|o| tests.tried(o)).min().flatten();
        let failed = own().any(|o| tests.failed(o));
        Unit { chain, view, bytes, tried, failed, ranges, runs }
    };
    // What is stored under no object, or was disposed of, has nothing to restore.
    let mut all: Vec<Unit<'a>> = by_period.into_values().map(unit).filter(|u| u.bytes > 0).collect();
    all.sort_by_key(|u| u.range().1);
    all
}

/// What share of a chain a run belongs to.
fn period(attested: &Attested) -> Option<(Timestamp, Timestamp)> {
    let p = &attested.statement.predicate;
    match attested.statement.kind {
        Kind::Snapshot => p.details::<SnapshotDetails>().ok().map(|d| (d.epoch.start, d.epoch.end)),
        Kind::Export => p.details::<ExportDetails>().ok().map(|d| day(d.window.map_or(p.started, |w| w.from))).map(|day| (day, day)),
        _ => None,
    }
}

fn day(at: Timestamp) -> Timestamp {
    let zoned = at.to_zoned(TimeZone::UTC);
    zoned.start_of_day().map_or(at, |start| start.timestamp())
}

/// What is drawn: first the newest unit of each chain, then older ones.
///
/// What was tried longest ago, until that is an eleventh of everything and as much as was stored since the last test; and at
/// least one of each age. `most` bounds the bytes of the older ones.
pub fn draw<'a>(mut chains: Vec<Vec<Unit<'a>>>, now: Timestamp, last_test: Option<Timestamp>, most: Option<u64>) -> Vec<(Drawn, Unit<'a>)> {
    let mut out: Vec<(Drawn, Unit<'a>)> = Vec::new();
    let all: u64 = chains.iter().flatten().map(|u| u.bytes).sum();
    for units in &mut chains {
        out.extend(units.pop().map(|unit| (Drawn::Newest, unit)));
    }
    let mut older: Vec<(Drawn, Unit<'a>)> =
        chains.into_iter().flatten().map(|unit| (Drawn::by_age(now.duration_since(unit.newest())), unit)).collect();
    // Longest ago first, what never was before all; the largest of equals.
    older.sort_by(|(_, a), (_, b)| (a.tried, b.bytes).cmp(&(b.tried, a.bytes)));
    let new: u64 = older.iter().filter(|(_, u)| last_test.is_some_and(|last| u.newest() > last)).map(|(_, u)| u.bytes).sum();
    let wanted = all.div_ceil(TESTS_FOR_ALL) + new;
    let (mut drawn, mut chosen, mut left) = (0, Vec::new(), Vec::new());
    for (age, unit) in older {
        // What failed is looked at again, and takes nothing from the others.
        if unit.failed && most.is_none_or(|most| unit.bytes <= most) {
            chosen.push((age, unit));
        } else if drawn < wanted && most.is_none_or(|most| drawn + unit.bytes <= most) {
            drawn += unit.bytes;
            chosen.push((age, unit));
        } else {
            left.push((age, unit));
        }
    }
    // What is taken for its age alone takes nothing from the others.
    for (age, unit) in left {
        if chosen.iter().all(|(chosen, _)| *chosen != age) && most.is_none_or(|most| drawn + unit.bytes <= most) {
            drawn += unit.bytes;
            chosen.push((age, unit));
        }
    }
    chosen.sort_by_key(|(age, _)| *age);
    out.extend(chosen);
    out
}
