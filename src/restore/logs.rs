//! Events of a window, in time order, each id once, in bounded memory.
//!
//! The same id with other bytes is a new version of the event; the newest (by sequence, then line) is
//! given, or all of them. Bytes that were sealed again in a later run count from their first sealing. An
//! event without a time stands at the time of the event before it in its object; where nothing in an object
//! has a time, all of it is given for every window.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::tree::{with_causes, wrong_identity};
use super::{Failed, RestoreError};
use crate::observe::{Event, Monitor};
use crate::sort::Sorter;
use crate::source::import::{EventKey, Pointers, event_key};
use crate::store::Sha256;
use crate::vault::attestation::{CheckpointDetails, ExportDetails, Kind, LogSpan, ObjectRef, Outcome};
use crate::vault::keys::Identities;
use crate::vault::names::{self, ChainName, RunId};
use crate::vault::seal::{self, MAX_PAYLOAD};
use crate::vault::segment::Limited;
use crate::vault::{Attested, ChainView, Disposal, Ledger};

/// Memory for sorting, in bytes.
const SORT_BUDGET: usize = 48 << 20;
/// Events that arrive later than this are not looked for in a run whose attestation cannot be used.
const LATE: SignedDuration = SignedDuration::from_hours(24);
/// So many attestations beyond the end of a chain are named.
const MOST_CUT_OFF: usize = 1000;
/// The longest event, in bytes.
const MAX_EVENT: u64 = 64 << 20;

/// Which events are restored.
pub struct LogsJob<'a> {
    /// The vault.
    pub ledger: &'a Ledger,
    /// What opens it.
    pub identities: &'a Identities,
    /// The stream's chain.
    pub chain: &'a ChainName,
    /// First instant.
    pub from: Timestamp,
    /// First instant after the window.
    pub to: Timestamp,
    /// Only what was sealed up to this number of the stream's chain; see [`known_at`].
    pub as_of: Option<u64>,
    /// Every version of each event.
    pub all_versions: bool,
    /// Where sorting spills to.
    pub temporary: &'a Path,
    /// Who listens.
    pub monitor: &'a dyn Monitor,
}

/// What was restored.
#[derive(Debug, Default)]
pub struct LogsReport {
    /// Events given.
    pub events: u64,
    /// Earlier versions and repetitions left out.
    pub superseded: u64,
    /// Objects opened.
    pub objects_read: u64,
    /// What could not be read.
    pub failed: Vec<Failed>,
    /// What was destroyed after its retention, and is therefore not among the events.
    pub disposed: Vec<LogDisposal>,
    /// Parts of the window of which the vault never had the events, in order; empty for a stream that is only imported.
    pub uncovered: Vec<Uncovered>,
    /// Events of objects in which no event has a time: they are given for every window.
    pub untimed: u64,
}

/// Why a part of a window is not in the vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyUncovered {
    /// Before the first window that was exported.
    BeforeTheFirst,
    /// After the last window that was exported.
    AfterTheLast,
    /// Between windows: the service no longer had it when it was exported, or an attestation is missing.
    Hole,
}

/// A part of the window whose events the vault never had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Uncovered {
    /// First instant.
    pub from: Timestamp,
    /// First instant after it.
    pub to: Timestamp,
    /// Why.
    pub why: WhyUncovered,
}

/// Events of the window that were destroyed after their retention.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LogDisposal {
    /// The disposition.
    pub run: RunId,
    /// When it was attested.
    pub at: Timestamp,
    /// Objects that may have held events of the window.
    pub objects: u64,
    /// Events in those.
    pub events: u64,
}

/// One attested object of events.
#[derive(Debug, Clone)]
pub struct LogObject {
    /// The object.
    pub object: ObjectRef,
    /// What the attestation says is in it.
    pub span: LogSpan,
    /// The run's number on the chain.
    pub sequence: u64,
    /// Where ids and times are.
    pub pointers: Pointers,
}

/// The last number of a stream's chain that was known when a run was made.
///
/// A run of the chain itself says so by its own number; one of another chain by the heads of the newest
/// checkpoint before it, and where there is none, by when the attestations were finished.
pub fn known_at(ledger: &Ledger, chain: &ChainName, run: &Attested) -> Result<u64, RestoreError> {
    let predicate = &run.statement.predicate;
    if predicate.chain == *chain {
        return Ok(predicate.sequence);
    }
    let before = |a: &Attested| a.statement.kind == Kind::Checkpoint && a.statement.predicate.finished <= predicate.finished;
    let checkpoints = ledger.chain_until(&ChainName::checkpoint(), before)?;
    let newest = checkpoints.attested.iter().rev().find(|a| before(a));
    if let Some(details) = newest.and_then(|a| a.statement.predicate.details::<CheckpointDetails>().ok()) {
        return Ok(details.heads.iter().find(|h| h.chain == *chain).map_or(0, |h| h.sequence));
    }
    let finished = |a: &Attested| a.statement.predicate.finished <= predicate.finished;
    let view = ledger.chain_until(chain, finished)?;
    Ok(view.attested.iter().rev().find(|a| finished(a)).map_or(0, Attested::sequence))
}

/// Every object of a stream that a valid attestation names, up to a number of its chain, in the order in
/// which versions count.
pub fn log_objects(ledger: &Ledger, chain: &ChainName, as_of: Option<u64>) -> Result<Vec<LogObject>, RestoreError> {
    named_in(&ledger.chain(chain)?, as_of)
}

fn named_in(view: &ChainView, as_of: Option<u64>) -> Result<Vec<LogObject>, RestoreError> {
    let until = as_of.unwrap_or(u64::MAX);
    let mut out = Vec::new();
    for attested in view.attested.iter().filter(|a| a.sequence() <= until) {
        out.extend(log_objects_of(attested)?);
    }
    Ok(out)
}

/// The objects of one export, in the order in which versions count; none of one that failed, or of another kind.
pub fn log_objects_of(attested: &Attested) -> Result<Vec<LogObject>, RestoreError> {
    let predicate = &attested.statement.predicate;
    if attested.statement.kind != Kind::Export || predicate.outcome == Outcome::Failed {
        return Ok(Vec::new());
    }
    let unreadable = |e: &dyn std::fmt::Display| RestoreError::Nothing(format!("{}: {e}", attested.name));
    let details: ExportDetails = predicate.details().map_err(|e| unreadable(&e))?;
    let pointers = Pointers::new(details.id.to_list(), details.time.to_list()).map_err(|e| unreadable(&e))?;
    let objects = predicate.objects.iter().filter(|o| names::is_log_object(&o.name)).map(|object| {
        let said = details.spans.iter().find(|s| s.name == object.name).cloned();
        let span = said.unwrap_or(LogSpan { name: object.name.clone(), first: None, last: None, count: 0 });
        LogObject { object: object.clone(), span, sequence: attested.sequence(), pointers: pointers.clone() }
    });
    let mut own: Vec<LogObject> = objects.collect();
    // Late ones are read after the main ones. A number that outgrew its four digits makes its name longer.
    own.sort_by_key(|o| (names::is_late_log_object(&o.object.name), o.object.name.len(), o.object.name.clone()));
    Ok(own)
}

/// Gives each line of an object of events with its key and number from 0.
pub fn read_log_object(
    ledger: &Ledger,
    identities: &Identities,
    log: &LogObject,
    mut each: impl FnMut(&[u8], EventKey, u64) -> io::Result<()>,
) -> Result<(), RestoreError> {
    let name = &log.object.name;
    let bytes = ledger.read_object(name, log.object.version.as_deref(), &log.object.sha256, log.object.size)?;
    let plain = seal::open(bytes.as_slice(), identities).map_err(|e| wrong_identity(e, ledger, name))?;
    let mut input = BufReader::with_capacity(1 << 17, Limited::new(plain, MAX_PAYLOAD));
    let damaged = |what: String| RestoreError::Nothing(what);
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let n = io::Read::take(&mut input, MAX_EVENT).read_until(b'\n', &mut line).map_err(|e| damaged(e.to_string()))?;
        if n == 0 {
            return Ok(());
        }
        if line.pop() != Some(b'\n') {
            return Err(damaged(format!("line {} has no end", number + 1)));
        }
        let key = event_key(&line, &log.pointers).map_err(|e| damaged(format!("line {}: {e}", number + 1)))?;
        each(&line, key, number).map_err(|source| RestoreError::Write {
            operation: "write",
            path: "the temporary directory".into(),
            source,
        })?;
        number += 1;
    }
}

impl LogsJob<'_> {
    /// The objects that may hold events of the window.
    pub fn objects(&self) -> Result<Vec<LogObject>, RestoreError> {
        self.of_window(&self.ledger.chain(self.chain)?)
    }

    fn of_window(&self, view: &ChainView) -> Result<Vec<LogObject>, RestoreError> {
        let overlaps = |span: &LogSpan| match (span.first, span.last) {
            (Some(first), Some(last)) => first < self.to && last >= self.from,
            _ => true,
        };
        let mut objects = named_in(view, self.as_of)?;
        objects.retain(|log| !(log.span.count == 0 && log.object.size == 0) && overlaps(&log.span));
        Ok(objects)
    }

    /// What of the window no export covers: that nothing is given of it does not mean that nothing happened.
    fn uncovered(&self, view: &ChainView) -> Vec<Uncovered> {
        let until = self.as_of.unwrap_or(u64::MAX);
        let exports = view.attested.iter().filter(|a| a.statement.kind == Kind::Export && a.sequence() <= until);
        let good = exports.filter(|a| a.statement.predicate.outcome != Outcome::Failed);
        let mut covered: Vec<(Timestamp, Timestamp)> = Vec::new();
        for details in good.filter_map(|a| a.statement.predicate.details::<ExportDetails>().ok()) {
            let Some(window) = details.window else { continue };
            let from = match (details.unrecoverable, details.available_from) {
                // What the service no longer had is the beginning of a window.
                (Some(lost), _) => lost.to,
                // A log that is read whole each time: the first window has all that is older, too.
                (None, None) if covered.is_empty() => Timestamp::MIN,
                _ => window.from,
            };
            covered.extend((from < window.to).then_some((from, window.to)));
        }
        covered.sort_unstable();
        let (Some(first), Some(last)) = (covered.first().map(|c| c.0), covered.iter().map(|c| c.1).max()) else {
            let details = |a: &Attested| a.statement.predicate.details::<ExportDetails>().ok();
            let imported = view.attested.iter().filter_map(details).any(|d| d.import.is_some());
            let all = Uncovered { from: self.from, to: self.to, why: WhyUncovered::AfterTheLast };
            return if imported { Vec::new() } else { vec![all] };
        };
        let why = |from: Timestamp, to: Timestamp| match () {
            () if to <= first => WhyUncovered::BeforeTheFirst,
            () if from >= last => WhyUncovered::AfterTheLast,
            () => WhyUncovered::Hole,
        };
        let mut at = self.from;
        let mut out = Vec::new();
        for (from, to) in covered.into_iter().chain([(Timestamp::MAX, Timestamp::MAX)]) {
            let end = from.min(self.to);
            if at < end {
                out.push(Uncovered { from: at, to: end, why: why(at, end) });
            }
            at = at.max(to);
        }
        out
    }

    /// Attestations that are missing or void, of runs that may have sealed events of the window: nobody knows what.
    fn unknown(&self, view: &ChainView) -> Result<Vec<Failed>, RestoreError> {
        let window = |a: &Attested| a.statement.predicate.details::<ExportDetails>().ok().and_then(|d| d.window);
        // Whoever committed after such a number, and said so, exported again what it would have held.
        let skipped: HashSet<u64> = view.attested.iter().flat_map(|a| a.statement.predicate.skipped.iter().copied()).collect();
        let voids = view.voids.iter().map(|v| (v.sequence, v.reason.message.as_str()));
        // What was cut off at the end is known to the newest checkpoint alone.
        let last = view.attested.last().map_or(0, Attested::sequence).max(view.voids.last().map_or(0, |v| v.sequence));
        let cut_off = last + 1..=self.ledger.checkpointed_head(self.chain)?.unwrap_or(0);
        let missing = view.missing.iter().copied().chain(cut_off.take(MOST_CUT_OFF)).map(|n| (n, "it is missing"));
        let all = voids.chain(missing);
        // A damaged one may stand in a bundle.
        let all = all.filter(|(n, _)| view.attested.binary_search_by_key(n, Attested::sequence).is_err());
        let lost = all.filter(|(n, _)| !skipped.contains(n) && self.as_of.is_none_or(|until| *n <= until)).filter(|(n, _)| {
            let before = view.attested.iter().rev().filter(|a| a.sequence() < *n).find_map(window);
            let after = view.attested.iter().filter(|a| a.sequence() > *n).find_map(window);
            // Late events are older than the window that found them.
            let from = before.and_then(|w| w.to.checked_sub(LATE).ok()).unwrap_or(Timestamp::MIN);
            self.from < after.map_or(Timestamp::MAX, |w| w.from) && self.to > from
        });
        let name = |n: u64| self.chain.envelope(n);
        let told = |n, why| Failed::object(&name(n), format!("what this run sealed is not known: its attestation cannot be used: {why}"));
        Ok(lost.map(|(n, why)| told(n, why)).collect())
    }
}

/// Writes the events of a window to `out`, one a line.
pub fn restore_logs(job: &LogsJob<'_>, out: &mut dyn Write) -> Result<LogsReport, RestoreError> {
    let spill = |source| RestoreError::Write { operation: "sort in", path: job.temporary.to_owned(), source };
    let view = job.ledger.chain(job.chain)?;
    let mut report = LogsReport { failed: job.unknown(&view)?, uncovered: job.uncovered(&view), ..LogsReport::default() };
    let mut by_id = Sorter::new(job.temporary, SORT_BUDGET);
    for (ordinal, log) in job.of_window(&view)?.iter().enumerate() {
        if let Some(disposal) = job.ledger.disposal_of(&log.object.name, &log.object.sha256)
            && job.ledger.store().head(&log.object.name)?.is_none()
        {
            destroyed(&mut report, disposal, log);
            continue;
        }
        report.objects_read += 1;
        let mut current = log.span.first;
        let read = read_log_object(job.ledger, job.identities, log, |line, key, number| {
            current = key.time.or(current);
            // Where nothing has a time, nothing can be left out.
            let at = current.unwrap_or(job.from);
            if at < job.from || at >= job.to {
                return Ok(());
            }
            report.untimed += u64::from(current.is_none());
            let identity = match &key.id {
                Some(id) => Sha256::of(id.as_bytes()),
                None => Sha256::of(format!("{} {number}", log.object.sha256).as_bytes()),
            };
            // Identity, then the order in which versions count.
            let mut sort_key = identity.0[..16].to_vec();
            sort_key.extend(log.sequence.to_be_bytes());
            sort_key.extend((ordinal as u64).to_be_bytes());
            sort_key.extend(number.to_be_bytes());
            let mut value = order_of(at).to_vec();
            value.extend_from_slice(line);
            by_id.push(&sort_key, &value)
        });
        match read {
            Ok(()) => {}
            Err(e @ (RestoreError::WrongIdentity { .. } | RestoreError::Write { .. })) => return Err(e),
            Err(e) => report.failed.push(Failed::object(
                &log.object.name,
                format!("{} events of {}: {}", log.span.count, span_text(&log.span), with_causes(&e)),
            )),
        }
        job.monitor.event(Event::Done { records: log.span.count, bytes: log.object.size });
    }
    if let (0, Some(first)) = (report.objects_read, report.disposed.first())
        && let Some(disposal) = job.ledger.disposals().iter().find(|d| d.run == first.run)
    {
        return Err(RestoreError::disposed(format!("every object of {} in this window", job.chain), disposal));
    }
    let mut by_time = Sorter::new(job.temporary, SORT_BUDGET);
    let mut group = Versions { all: job.all_versions, ..Versions::default() };
    by_id
        .finish(|key, value| {
            if group.identity != key[..16] {
                group.give(&mut by_time)?;
                group.identity = key[..16].to_vec();
            }
            group.take(key, value, &mut by_time, &mut report.superseded)
        })
        .map_err(spill)?;
    group.give(&mut by_time).map_err(spill)?;
    by_time
        .finish(|_, line| {
            report.events += 1;
            out.write_all(line)?;
            out.write_all(b"\n")
        })
        .map_err(|source| RestoreError::Write { operation: "write", path: "the output".into(), source })?;
    Ok(report)
}

/// Counts an object that is gone for good.
fn destroyed(report: &mut LogsReport, disposal: &Disposal, log: &LogObject) {
    let known = report.disposed.iter_mut().find(|d| d.run == disposal.run);
    match known {
        Some(known) => {
            known.objects += 1;
            known.events += log.span.count;
        }
        None => report.disposed.push(LogDisposal { run: disposal.run, at: disposal.at, objects: 1, events: log.span.count }),
    }
}

fn span_text(span: &LogSpan) -> String {
    match (span.first, span.last) {
        (Some(first), Some(last)) => format!("{first} to {last}"),
        _ => "an unknown span".into(),
    }
}

/// An instant as bytes that sort like it.
fn order_of(at: Timestamp) -> [u8; 16] {
    at.as_nanosecond().wrapping_add(i128::MIN).to_be_bytes()
}

/// The versions of one event, in the order in which they count.
#[derive(Default)]
struct Versions {
    all: bool,
    identity: Vec<u8>,
    /// Bytes sealed by earlier runs than the one at hand.
    earlier: HashSet<Sha256>,
    /// Bytes sealed by the run at hand.
    current: HashSet<Sha256>,
    sequence: Vec<u8>,
    newest: Option<(Vec<u8>, Vec<u8>)>,
}

impl Versions {
    fn take(&mut self, key: &[u8], value: &[u8], out: &mut Sorter, superseded: &mut u64) -> io::Result<()> {
        let sequence = &key[16..24];
        if self.sequence != sequence {
            self.sequence = sequence.to_vec();
            let current = std::mem::take(&mut self.current);
            self.earlier.extend(current);
        }
        let digest = Sha256::of(&value[16..]);
        if self.earlier.contains(&digest) {
            *superseded += 1;
            return Ok(());
        }
        self.current.insert(digest);
        if self.all {
            return push(out, key, value);
        }
        *superseded += u64::from(self.newest.replace((key.to_vec(), value.to_vec())).is_some());
        Ok(())
    }

    fn give(&mut self, out: &mut Sorter) -> io::Result<()> {
        self.earlier.clear();
        self.current.clear();
        self.sequence.clear();
        match self.newest.take() {
            Some((key, value)) => push(out, &key, &value),
            None => Ok(()),
        }
    }
}

/// By time, then by the order in which versions count.
fn push(out: &mut Sorter, key: &[u8], value: &[u8]) -> io::Result<()> {
    let mut by_time = value[..16].to_vec();
    by_time.extend_from_slice(&key[16..]);
    out.push(&by_time, &value[16..])
}
