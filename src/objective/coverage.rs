//! The share of stored bytes that was restored and checked, from attestations alone.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::Entry;
use super::entry::beginning;
use crate::vault::attestation::{Kind, ObjectRef, Outcome, RestoreTestDetails};
use crate::vault::names::{ChainName, period_folder};
use crate::vault::{Attested, ChainView};

/// What was restored and checked within so long counts.
pub const COVERAGE_PERIOD: SignedDuration = SignedDuration::from_hours(90 * 24);

/// One stored object of a recovery point.
#[derive(Debug, Clone, Copy)]
pub struct DataObject<'a> {
    /// The chain of the run that attests it.
    pub chain: &'a ChainName,
    /// The number of that run.
    pub sequence: u64,
    /// When it was committed.
    pub committed: Timestamp,
    /// The object.
    pub object: &'a ObjectRef,
}

/// The objects of every snapshot and export of a chain that did not fail: what coverage is the share of.
pub fn data_objects<'a>(chain: &'a ChainName, view: &'a ChainView) -> impl Iterator<Item = DataObject<'a>> {
    let runs = view
        .attested
        .iter()
        .filter(|a| matches!(a.statement.kind, Kind::Snapshot | Kind::Export) && a.statement.predicate.outcome != Outcome::Failed);
    runs.flat_map(move |a| {
        let p = &a.statement.predicate;
        let data = p.objects.iter().filter(|o| period_folder(&o.name).is_some());
        data.map(move |object| DataObject { chain, sequence: p.sequence, committed: p.finished, object })
    })
}

/// When objects were last restored and checked, by the tests of the 90 days before an instant.
#[derive(Debug, Default)]
pub struct Tests(Vec<Test>);

#[derive(Debug)]
struct Test {
    at: Timestamp,
    ranges: HashMap<ChainName, Vec<(u64, u64)>>,
    /// By the beginning of their digests. Those that failed their checks are told apart: somebody may have mended them.
    not_covered: HashMap<u64, bool>,
}

impl Test {
    fn new(at: Timestamp, details: &RestoreTestDetails) -> Self {
        let mut ranges: HashMap<ChainName, Vec<(u64, u64)>> = HashMap::new();
        for range in &details.covered {
            ranges.entry(range.chain.clone()).or_default().push((range.from, range.to));
        }
        ranges.values_mut().for_each(|list| list.sort_unstable());
        Self { at, ranges, not_covered: details.not_covered.iter().map(|n| (beginning(&n.sha256), n.reason == "failed")).collect() }
    }

    fn tried(&self, chain: &ChainName, sequence: u64) -> bool {
        self.ranges.get(chain).is_some_and(|list| within(list, sequence))
    }
}

fn within(ranges: &[(u64, u64)], sequence: u64) -> bool {
    let before = ranges.partition_point(|(from, _)| *from <= sequence);
    ranges[..before].last().is_some_and(|(_, to)| sequence <= *to)
}

/// How far each chain reached when it was tested, by all tests that were ever attested.
pub fn tested_heads(view: &ChainView) -> HashMap<ChainName, u64> {
    let mut out: HashMap<ChainName, u64> = HashMap::new();
    let tests = view.attested.iter().filter(|a| a.statement.kind == Kind::RestoreTest);
    for range in tests.filter_map(|a| a.statement.predicate.details::<RestoreTestDetails>().ok()).flat_map(|d| d.covered) {
        let head = out.entry(range.chain).or_default();
        *head = (*head).max(range.to);
    }
    out
}

impl Tests {
    /// From the attested restore tests, the oldest first.
    pub fn of<'a>(attested: impl IntoIterator<Item = &'a Attested>, at: Timestamp) -> Self {
        let since = at - COVERAGE_PERIOD;
        let tests = attested.into_iter().filter(|a| a.statement.kind == Kind::RestoreTest).filter_map(|a| {
            let p = &a.statement.predicate;
            (p.finished > since && p.finished <= at).then_some(())?;
            Some(Test::new(p.finished, &p.details().ok()?))
        });
        Self(tests.collect())
    }

    /// With one more, which is about to be attested.
    pub fn and(&mut self, at: Timestamp, details: &RestoreTestDetails) {
        self.0.push(Test::new(at, details));
    }

    /// When the last of them ended.
    pub fn last(&self) -> Option<Timestamp> {
        self.0.iter().map(|t| t.at).max()
    }

    /// When a test last tried an object, whatever came of it.
    pub fn tried(&self, object: &DataObject<'_>) -> Option<Timestamp> {
        self.0.iter().rev().find(|t| t.tried(object.chain, object.sequence)).map(|t| t.at)
    }

    /// Whether the newest test that tried an object found it wrong.
    pub fn failed(&self, object: &DataObject<'_>) -> bool {
        let newest = self.0.iter().rev().find(|t| t.tried(object.chain, object.sequence));
        newest.is_some_and(|t| t.not_covered.get(&beginning(&object.object.sha256)) == Some(&true))
    }

    /// When an object was last restored and checked. The newest test that tried it decides: what it found damaged is not
    /// covered, whatever was so before.
    pub fn covered(&self, object: &DataObject<'_>) -> Option<Timestamp> {
        let newest = self.0.iter().rev().find(|t| t.tried(object.chain, object.sequence))?;
        (!newest.not_covered.contains_key(&beginning(&object.object.sha256))).then_some(newest.at)
    }

    /// The coverage of what stands on a chain.
    pub fn coverage(&self, chain: &ChainName, entries: &[Entry]) -> Coverage {
        let newest_first: Vec<_> = self.0.iter().rev().filter_map(|t| Some((t.ranges.get(chain)?, &t.not_covered))).collect();
        let mut out = Coverage::default();
        for entry in entries {
            let Some(run) = entry.sound() else { continue };
            out.stored_bytes += run.objects.iter().map(|o| o.size).sum::<u64>();
            let Some((_, not)) = newest_first.iter().find(|(ranges, _)| within(ranges, entry.sequence)) else { continue };
            out.covered_bytes += run.objects.iter().filter(|o| !not.contains_key(&o.digest)).map(|o| o.size).sum::<u64>();
        }
        out
    }
}

/// How much of the stored bytes was restored and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Coverage {
    /// All of them.
    pub stored_bytes: u64,
    /// Those.
    pub covered_bytes: u64,
}

impl Coverage {
    /// From 0 to 1; 1 of nothing.
    pub fn share(self) -> f64 {
        if self.stored_bytes == 0 { 1.0 } else { self.covered_bytes as f64 / self.stored_bytes as f64 }
    }
}

impl std::ops::AddAssign for Coverage {
    fn add_assign(&mut self, other: Self) {
        self.stored_bytes += other.stored_bytes;
        self.covered_bytes += other.covered_bytes;
    }
}
