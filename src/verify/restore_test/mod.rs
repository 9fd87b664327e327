//! The restore test: recovery points restored from the vault alone into a fresh directory, and what they mean checked.
//!
//! It promises that what it calls covered was opened and proved to the last record, that the newest recovery points come
//! first, and that a check whose subject is broken fails. It signs with the tester's key, on a chain of its own.

mod bench;
mod documents;
mod draw;
mod history;
mod live;
mod logs;
mod plan;
mod record;
mod snapshot;
mod spool;
mod tally;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use bench::Bench;
use draw::{Drawn, Unit, draw, units};
use live::compare as compare_live;

use crate::objective::{Coverage, DataObject, Entry, Tests, data_objects, tested_heads};
use crate::observe::{Event, Monitor};
use crate::restore::{RestoreError, Scratch};
use crate::store::{Sha256, StoreError};
use crate::vault::attestation::{CoveredRange, Kind, NotCovered, ObjectRef, Outcome, RestoreTestDetails, SnapshotDetails, TestedRun};
use crate::vault::keys::Identities;
use crate::vault::names::{ChainName, RunId};
use crate::vault::seal::SealError;
use crate::vault::{Attested, ChainView, CommitError, LedgerError, Writer};

pub use live::{LiveCapture, LiveSample};
pub use tally::{Check, Count, Problem};

/// What is tested, and with what.
pub struct TestJob<'a> {
    /// Who attests: a tester.
    pub writer: &'a Writer,
    /// The policy's bytes.
    pub policy: &'a [u8],
    /// What opens the vault.
    pub identities: &'a Identities,
    /// Below which directory it is restored.
    pub temporary: &'a Path,
    /// At most so many bytes are restored at once; half of what is free there unless said.
    pub disk: Option<u64>,
    /// At most so many stored bytes of older recovery points are restored; as many as 90 days need unless said.
    pub most: Option<u64>,
    /// References that are known to lead outside.
    pub outside: &'a [String],
    /// Worker threads.
    pub threads: usize,
    /// Who listens.
    pub monitor: &'a dyn Monitor,
}

impl TestJob<'_> {
    fn disk_budget(&self, free: u64) -> u64 {
        self.disk.unwrap_or(free / 2).max(1 << 20)
    }
}

/// What a test found.
#[derive(Debug)]
pub struct TestReport {
    /// The run.
    pub run: RunId,
    /// Its number on the chain `restore-test`; none where it could not be attested, and `error` says why.
    pub sequence: Option<u64>,
    /// `complete`: everything drawn was restored and every check passed; `partial`: all that was restored is well, and
    /// something could not be; `failed`.
    pub outcome: Outcome,
    /// Every check with its counts, in order; one that did not run has none.
    pub checks: Vec<(Check, Count)>,
    /// What was restored.
    pub tested: Vec<TestedRun>,
    /// Stored bytes that this test covers.
    pub covered_bytes: u64,
    /// The coverage of 90 days with it.
    pub coverage: Coverage,
    /// What failed.
    pub problems: Vec<Problem>,
    /// What could not be restored, and why.
    pub skipped: Vec<String>,
    /// What of the live tenant could not be compared, or not be explained.
    pub notes: Vec<String>,
    /// No identity opens these chains' units.
    pub cannot_open: Vec<ChainName>,
    /// Where something is damaged: what still restores.
    pub still_good: Vec<StillGood>,
    /// Why it could not go on.
    pub error: Option<RestoreTestError>,
}

/// What of a chain still restores when something of it is damaged.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StillGood {
    /// The chain.
    pub chain: ChainName,
    /// The newest recovery point that needs nothing that is damaged.
    pub newest: Option<RunId>,
    /// Up to when everything is in it.
    pub captured: Option<Timestamp>,
    /// How many recovery points of the chain need nothing that is damaged.
    pub good: u64,
    /// How many do.
    pub bad: u64,
}

/// Why a test could not begin, or not go on.
#[derive(Debug, thiserror::Error)]
pub enum RestoreTestError {
    /// There is nothing to restore.
    #[error("the vault has no recovery point yet: there is nothing to test")]
    NothingYet,
    /// The directory is full, vanished, or cannot be written.
    #[error("cannot restore into {}", path.display())]
    Scratch {
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A restore could not go on.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The test could not be attested.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The record could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl RestoreTestError {
    /// Whether other units may still be tested.
    fn is_of_one_unit(&self) -> bool {
        match self {
            Self::Scratch { source, .. } | Self::Restore(RestoreError::Write { source, .. }) => {
                source.kind() == std::io::ErrorKind::StorageFull
            }
            Self::Restore(e) => !matches!(e, RestoreError::Store(_) | RestoreError::Ledger(_)),
            _ => false,
        }
    }

    /// As attestations name it.
    fn code(&self) -> &'static str {
        match self {
            Self::Scratch { source, .. } | Self::Restore(RestoreError::Write { source, .. }) => match source.kind() {
                std::io::ErrorKind::StorageFull => "disk_full",
                _ => "cannot_write",
            },
            Self::Store(_) | Self::Restore(RestoreError::Store(_)) => "store_unreachable",
            _ => "stopped",
        }
    }
}

/// An error and its causes on one line.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}

/// Runs a test, compares a sample of live tenants, and attests what came of it.
#[tracing::instrument(skip_all)]
pub fn restore_test(job: &TestJob<'_>, live: &[LiveSample<'_>]) -> Result<TestReport, RestoreTestError> {
    let ledger = &job.writer.ledger;
    let started = job.writer.now()?;
    let run = RunId::new(started);
    let mut chains: Vec<(ChainName, ChainView)> = Vec::new();
    let tests_view = ledger.chain_since(&ChainName::restore_test(), u64::MAX)?;
    let reached = tested_heads(&tests_view);
    let known: BTreeSet<ChainName> = ledger.known_chains()?.into_iter().chain(reached.keys().cloned()).collect();
    for chain in known.into_iter().filter(|c| c.source().is_some() || c.stream().is_some()) {
        // Each envelope as it stands, not as a bundle had it.
        let view = ledger.chain(&chain)?;
        chains.push((chain, view));
    }
    let mut tests = Tests::of(&tests_view.attested, started);
    let is_gone = |o: &ObjectRef| ledger.disposal_of(&o.name, &o.sha256).is_some();
    let data: Vec<Vec<DataObject<'_>>> =
        chains.iter().map(|(chain, view)| data_objects(chain, view).filter(|o| !is_gone(o.object)).collect()).collect();
    let all = chains.iter().zip(&data).map(|((chain, view), data)| units(chain, view, data, &tests)).collect();
    let drawn = draw(all, started, tests.last(), job.most);
    if drawn.is_empty() {
        return Err(RestoreTestError::NothingYet);
    }
    let writers = chains
        .iter()
        .flat_map(|(_, view)| &view.attested)
        .flat_map(|a| a.statement.predicate.objects.iter().map(move |o| (o.name.as_str(), (o, a.statement.predicate.run))))
        .collect();
    let scratch = Scratch::new(job.temporary);
    let scratch = scratch.map_err(|source| RestoreTestError::Scratch { path: job.temporary.to_owned(), source })?;
    let bench = Bench { job, tally: tally::Tally::default(), scratch, writers };
    job.monitor.event(Event::Expect { records: 0, bytes: drawn.iter().map(|(_, u)| u.bytes).sum() });
    let mut trial = Trial { details: RestoreTestDetails::default(), covered_bytes: 0, skipped: Vec::new(), cannot_open: Vec::new() };
    for (chain, view) in &chains {
        whole(&bench, chain, view, reached.get(chain).copied().unwrap_or(0));
    }
    let (mut error, mut notes) = (None, Vec::new());
    for (why, unit) in &drawn {
        match trial.one(&bench, *why, unit) {
            Ok(()) => {}
            // What one unit has no room for, another may have.
            Err(e) if e.is_of_one_unit() => {
                let (from, to) = unit.range();
                trial.skipped.push(format!("{} {from} to {to}: {}", unit.chain, said(&e)));
                error.get_or_insert(e);
            }
            Err(e) => {
                error.get_or_insert(e);
                break;
            }
        }
    }
    if error.is_none() {
        let newest = |chain: &ChainName| drawn.iter().find(|(why, unit)| *why == Drawn::Newest && unit.chain == chain);
        for sample in live {
            let chain = ChainName::snapshot(sample.source);
            let point = newest(&chain).map(|(_, unit)| point_of(Drawn::Newest, unit));
            if trial.cannot_open.contains(&chain) {
                continue;
            }
            match compare_live(&bench, sample, point, &chains) {
                Ok(told) => notes.extend(told),
                // What was proved is attested all the same.
                Err(e) => notes.push(format!("{}: the live tenant could not be compared: {}", sample.source, said(&e))),
            }
        }
    }
    let Trial { mut details, covered_bytes, skipped, cannot_open } = trial;
    bench.scratch.unless_ended();
    // A wrong file on the command line is no test that failed.
    if error.is_none() && !details.tested.is_empty() && details.tested.iter().all(|t| cannot_open.contains(&t.chain)) {
        let object = drawn[0].1.runs[0].statement.predicate.objects.first().map(|o| o.name.clone()).unwrap_or_default();
        return Err(RestoreError::WrongIdentity { object, recipients: ledger.trust().recipients().to_vec() }.into());
    }
    let (counts, problems) = bench.tally.take();
    let failed = error.is_some() || !problems.is_empty() || !cannot_open.is_empty();
    let outcome = match (failed, skipped.is_empty()) {
        (true, _) => Outcome::Failed,
        (false, false) => Outcome::Partial,
        (false, true) => Outcome::Complete,
    };
    tests.and(started, &details);
    let mut coverage = Coverage::default();
    for (chain, view) in &chains {
        let entries: Vec<Entry> = view.attested.iter().map(|a| Entry::attested(a, is_gone)).collect();
        coverage += tests.coverage(chain, &entries);
    }
    details.checks = record::checks(&counts);
    (details.stored_bytes, details.covered_bytes) = (coverage.stored_bytes, coverage.covered_bytes);
    details.error_code = error.as_ref().map(|e: &RestoreTestError| e.code().to_owned());
    let checks = Check::ALL.iter().map(|c| (*c, counts.get(c).copied().unwrap_or_default())).collect();
    let still_good = still_good(&chains, &problems, &details.tested);
    let report = record::Record {
        run,
        started,
        outcome,
        details: &details,
        problems: &problems,
        skipped: &skipped,
        notes: &notes,
        still_good: &still_good,
    };
    let sequence = match record::commit(job, &report) {
        Ok(sequence) => Some(sequence),
        // What was found is told, although it could not be attested.
        Err(e) => {
            error.get_or_insert(e);
            None
        }
    };
    Ok(TestReport {
        run,
        sequence,
        outcome,
        checks,
        tested: details.tested,
        covered_bytes,
        coverage,
        problems,
        skipped,
        notes,
        cannot_open,
        still_good,
        error,
    })
}

/// Whether a chain has all of its numbers, each valid in the store, up to where an earlier test saw it reach.
fn whole(bench: &Bench<'_>, chain: &ChainName, view: &ChainView, reached: u64) {
    bench.tally.ran(Check::Chains, 1);
    let fail = |message: String| {
        let check = Check::Chains;
        bench.tally.failed(Problem { check, chain: chain.clone(), run: None, object: None, written_by: None, path: None, message });
    };
    let head = view.head().map_or(0, Attested::sequence);
    let n = view.missing.len();
    if let Some(first) = view.missing.first() {
        fail(format!("{n} of its attestations are missing, the first of them {chain}/{first}: what those runs stored is not known"));
    }
    if head < reached {
        fail(format!("an earlier test restored {chain}/{reached}, and the chain ends at {head}: its newest attestations are gone"));
    }
    let skipped: HashSet<u64> = view.attested.iter().flat_map(|a| a.statement.predicate.skipped.iter().copied()).collect();
    for void in view.voids.iter().filter(|v| !skipped.contains(&v.sequence)) {
        fail(format!("{chain}/{} is no valid attestation: {}", void.sequence, void.reason.message));
    }
    let salvaged = view.attested.iter().filter(|a| a.from_bundle).map(|a| a.sequence().to_string()).collect::<Vec<_>>();
    if !salvaged.is_empty() {
        fail(format!("the store's copies of {chain}/{} are missing or damaged; a checkpoint's bundle has them", salvaged.join(", ")));
    }
}

/// The recovery point of a unit that is restored: the newest complete one of the newest unit, any of an older.
fn point_of<'a>(why: Drawn, unit: &Unit<'a>) -> &'a Attested {
    let complete: Vec<&&Attested> = unit.runs.iter().filter(|a| a.statement.predicate.outcome == Outcome::Complete).collect();
    let last = unit.runs[unit.runs.len() - 1];
    match why {
        Drawn::Newest => complete.last().map_or(last, |a| **a),
        // A draw that nobody can know beforehand.
        _ if complete.is_empty() => last,
        _ => {
            let draw = RunId::new(Timestamp::now()).to_string();
            let digest = Sha256::of(draw.as_bytes()).0;
            let number = u64::from_be_bytes(digest[..8].try_into().unwrap_or_default());
            let at = usize::try_from(number % complete.len() as u64).unwrap_or(0);
            complete[at]
        }
    }
}

/// What a test came to so far.
struct Trial {
    details: RestoreTestDetails,
    covered_bytes: u64,
    skipped: Vec<String>,
    cannot_open: Vec<ChainName>,
}

impl Trial {
    fn one(&mut self, bench: &Bench<'_>, why: Drawn, unit: &Unit<'_>) -> Result<(), RestoreTestError> {
        let point = point_of(why, unit);
        let prove = || match unit.chain.source() {
            Some(_) => snapshot::prove(bench, unit, point),
            None => logs::prove(bench, unit),
        };
        let before = bench.tally.problems();
        let saved = bench.tally.save();
        let mut proof = prove()?;
        if !bench.scratch.path().is_dir() {
            return Err(bench.trouble(std::io::ErrorKind::NotFound.into()));
        }
        let mut problems = bench.tally.problems_since(before);
        // What could not be read and can be now was an outage, and no damage: it is tried once more.
        if bench.readable(&problems)? {
            bench.tally.load(saved);
            proof = prove()?;
            problems = bench.tally.problems_since(before);
            bench.readable(&problems)?;
        }
        let damaged: HashSet<&str> = problems.iter().filter_map(|p| p.object.as_deref()).collect();
        let (from, to) = unit.range();
        let ranges = unit.ranges.iter().map(|(from, to)| CoveredRange { chain: unit.chain.clone(), from: *from, to: *to });
        let mut not = BTreeMap::new();
        for attested in &unit.runs {
            for o in attested.statement.predicate.objects.iter().filter(|o| crate::vault::names::period_folder(&o.name).is_some()) {
                let reason = if damaged.contains(o.name.as_str()) {
                    "failed"
                } else if proof.archived.iter().any(|a| a.name == o.name) {
                    "archived"
                } else if proof.cannot_open.is_some() {
                    "wrong_identity"
                } else if !proof.opened.contains_key(&o.sha256) {
                    "not_opened"
                } else {
                    self.covered_bytes += o.size;
                    continue;
                };
                not.insert(o.name.clone(), NotCovered { name: o.name.clone(), sha256: o.sha256, reason: reason.to_owned() });
            }
        }
        self.details.not_covered.extend(not.into_values());
        self.details.covered.extend(ranges);
        self.details.tested.push(TestedRun {
            chain: unit.chain.clone(),
            run: point.statement.predicate.run,
            sequence: point.sequence(),
            drawn: why.as_str().to_owned(),
            passed: problems.is_empty() && proof.archived.is_empty() && proof.cannot_open.is_none(),
            objects: proof.read.1,
            stored_bytes: proof.read.0,
            entries: proof.entries,
            restored_bytes: proof.restored_bytes,
            restore_seconds: proof.restore_seconds,
            check_seconds: proof.check_seconds,
        });
        if !proof.archived.is_empty() {
            let bytes: u64 = proof.archived.iter().map(|o| o.size).sum();
            let n = proof.archived.len();
            self.skipped.push(format!("{} {from} to {to}: {n} objects ({:.1} MB) lie in the archive tier", unit.chain, bytes as f64 / 1e6));
        }
        if let Some(object) = &proof.cannot_open {
            self.cannot_open.push(unit.chain.clone());
            self.skipped.push(format!("{} {from} to {to}: none of the identities opens {object}", unit.chain));
        }
        bench.job.monitor.event(Event::Note(format!("{} {from} to {to}, {}: done", unit.chain, why.as_str())));
        Ok(())
    }
}

/// Of each chain of which something is damaged: which recovery points need none of it. What was restored is good, whatever
/// else is damaged; of the others, those that need nothing of a run of which something is.
fn still_good(chains: &[(ChainName, ChainView)], problems: &[Problem], tested: &[TestedRun]) -> Vec<StillGood> {
    let damaged: HashSet<&str> = problems.iter().filter_map(|p| p.object.as_deref()).collect();
    let broken =
        |run: RunId| problems.iter().any(|p| p.run == Some(run) && matches!(p.check, Check::Records | Check::Trees | Check::Events));
    let restored: HashSet<RunId> =
        tested.iter().filter(|t| t.entries > 0 && !broken(t.run)).filter(|t| t.chain.source().is_some()).map(|t| t.run).collect();
    let mut out = Vec::new();
    for (chain, view) in chains {
        let hurt: HashSet<RunId> = view
            .attested
            .iter()
            .filter(|a| a.statement.predicate.objects.iter().any(|o| damaged.contains(o.name.as_str())))
            .map(|a| a.statement.predicate.run)
            .collect();
        if hurt.is_empty() {
            continue;
        }
        let mut good = StillGood { chain: chain.clone(), newest: None, captured: None, good: 0, bad: 0 };
        let points: HashMap<u64, Timestamp> = crate::objective::points(view).into_iter().map(|p| (p.sequence, p.captured)).collect();
        let counts =
            |a: &&Attested| matches!(a.statement.kind, Kind::Snapshot | Kind::Export) && a.statement.predicate.outcome != Outcome::Failed;
        for attested in view.attested.iter().filter(counts) {
            let p = &attested.statement.predicate;
            let needs = p.details::<SnapshotDetails>().map(|d| d.segments_from).unwrap_or_default();
            if !restored.contains(&p.run) && (hurt.contains(&p.run) || needs.iter().any(|run| hurt.contains(run))) {
                good.bad += 1;
                continue;
            }
            good.good += 1;
            if let Some(captured) = points.get(&p.sequence) {
                (good.newest, good.captured) = (Some(p.run), Some(*captured));
            }
        }
        out.push(good);
    }
    out
}
