//! Exporting a log window by window: the next window begins where the last one on the chain ended.
//!
//! It promises: windows touch and never cross UTC midnight; a window is sealed whole or not at all; the
//! cursor lives in the chain and nowhere else; what arrived late or changed since is sealed as late events;
//! what the source has forgotten is said.

use std::path::Path;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::fresh::{SORT_BUDGET, unsealed};
use super::put_policy;
use super::seal_events::{SealedEvents, Sealing};
use super::seen::{Seen, day_of};
use super::state::StateDir;
use crate::observe::{Event, Monitor};
use crate::sort::Sorter;
use crate::source::graph::{LogError, LogReader};
use crate::store::{Sha256, StoreError};
use crate::vault::Written;
use crate::vault::attestation::{ExportDetails, Kind, Outcome, Pointer, Window};
use crate::vault::epoch::month_end;
use crate::vault::names::{ChainName, Container, RunId, ShortName};
use crate::vault::seal::SealError;
use crate::vault::{Attested, CommitError, Draft, LedgerError, Writer};

/// Once a day, this much before the window is read again.
const DAILY_SWEEP: SignedDuration = SignedDuration::from_hours(48);

/// What an export is made of.
pub struct ExportJob<'a> {
    /// The stream.
    pub stream: &'a ShortName,
    /// The log.
    pub reader: &'a LogReader,
    /// How far windows stay behind now.
    pub settle: SignedDuration,
    /// How far each export reads back before its window.
    pub lookback: SignedDuration,
    /// How long the service keeps events; `None` when it keeps them.
    pub available: Option<SignedDuration>,
    /// Who writes.
    pub writer: &'a Writer,
    /// The policy's bytes.
    pub policy: &'a [u8],
    /// The state directory of this stream.
    pub state: &'a StateDir,
    /// zstd's level; the one tuned for this kind of data unless said.
    pub level: Option<i32>,
    /// Worker threads.
    pub threads: usize,
    /// Who listens.
    pub monitor: &'a dyn Monitor,
}

/// What an export did: one window, or several after a pause.
#[derive(Debug, Clone, Default)]
pub struct ExportReport {
    /// The newest run on the chain; `None` when there never was one and nothing is due yet.
    pub run: Option<RunId>,
    /// Its number.
    pub sequence: u64,
    /// Where the first window began.
    pub from: Option<Timestamp>,
    /// Where the last window ended.
    pub to: Option<Timestamp>,
    /// Windows committed.
    pub windows: u64,
    /// Events sealed, late ones included.
    pub events: u64,
    /// Events older than the window that found them, changed ones among them.
    pub late_events: u64,
    /// Of the late: new versions of events that were sealed before.
    pub changed_events: u64,
    /// Events whose time cannot be read.
    pub untimed_events: u64,
    /// By how much the latest of the late missed its window.
    pub largest_lateness_seconds: Option<f64>,
    /// What the source had forgotten before it was exported.
    pub unrecoverable: Vec<Window>,
    /// Bytes of events read, repetitions included.
    pub read_bytes: u64,
    /// Bytes of the objects.
    pub stored_bytes: u64,
    /// How many objects.
    pub objects: u64,
    /// Whether what was sealed before was not known.
    pub cold: bool,
}

impl ExportReport {
    /// Complete, or partial when something was lost at the source.
    pub fn outcome(&self) -> Outcome {
        if self.unrecoverable.is_empty() { Outcome::Complete } else { Outcome::Partial }
    }
}

/// Why a window was not exported; the cursor stays where it was.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The log cannot be read.
    #[error("{stream}: {source}")]
    Log {
        /// Which stream.
        stream: String,
        /// Why.
        source: Box<LogError>,
    },
    /// The state directory failed.
    #[error("the state directory failed")]
    State(#[source] std::io::Error),
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Storing or committing failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Another run of this machine is at work.
    #[error("another run of {0} is under way on this machine")]
    Busy(String),
}

impl ExportError {
    /// Whether the same window may be had later.
    pub fn passing(&self) -> bool {
        matches!(self, Self::Log { source, .. } if matches!(&**source, LogError::Service { error, .. } if error.passing()))
    }

    /// A code for attestations.
    fn code(&self) -> &'static str {
        match self {
            Self::Log { source, .. } => match &**source {
                LogError::Service { error, .. } => error.code(),
                LogError::Event { .. } => "unreadable_answer",
                LogError::Taking(_) => "state_failed",
            },
            Self::State(_) => "state_failed",
            Self::Seal(_) => "seal_failed",
            Self::Commit(CommitError::Dropped(_)) => "dropped_out",
            Self::Commit(_) | Self::Store(_) | Self::Ledger(_) => "store_failed",
            Self::Busy(_) => "busy",
        }
    }
}

/// Whether an attestation is of a window that was sealed.
fn is_window(attested: &Attested) -> bool {
    attested.statement.kind == Kind::Export && attested.statement.predicate.outcome != Outcome::Failed && window_of(attested).is_some()
}

fn window_of(attested: &Attested) -> Option<Window> {
    attested.statement.predicate.details::<ExportDetails>().ok()?.window
}

/// Exports every window that is due.
pub fn export(job: &ExportJob<'_>) -> Result<ExportReport, ExportError> {
    let _taken = job.state.lock().map_err(ExportError::State)?.ok_or_else(|| ExportError::Busy(job.stream.to_string()))?;
    let mut report = ExportReport::default();
    loop {
        let started = job.writer.now()?;
        let chain = ChainName::export(job.stream);
        let view = job.writer.ledger.chain_until(&chain, is_window)?;
        let head = view.attested.iter().rev().find(|a| is_window(a)).cloned();
        let until = settled(started, job.settle);
        let from = match head.as_ref().and_then(window_of) {
            Some(window) => window.to,
            None => first_instant(job, started, until),
        };
        if let (Some(head), 0) = (&head, report.windows) {
            (report.run, report.sequence) = (Some(head.statement.predicate.run), head.sequence());
            (report.from, report.to) = (Some(from), Some(from));
        }
        let to = next_midnight(from).min(until);
        if to <= from {
            return Ok(report);
        }
        let seen = Seen::open(job.state.path(), &view, head.as_ref().map(|h| &h.sha256)).map_err(ExportError::State)?;
        let mut export = Export { job, chain, run: RunId::new(started), started, window: Window { from, to }, head, seen };
        let mut written = Vec::new();
        if let Err(error) = export.run(&mut written, &mut report) {
            if !written.is_empty() {
                export.commit_failed(written, &error);
            }
            return Err(error);
        }
        // What settled while it was read is the next run's: windows of a second are not worth their objects.
        if to == until {
            return Ok(report);
        }
    }
}

/// What is settled by now, to the second.
fn settled(now: Timestamp, settle: SignedDuration) -> Timestamp {
    let at = now.checked_sub(settle).unwrap_or(now);
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// Where a stream's first window begins: as far back as the service gives events.
fn first_instant(job: &ExportJob<'_>, started: Timestamp, until: Timestamp) -> Timestamp {
    match job.available {
        // The first whole second that the service still has.
        Some(available) => {
            started.checked_sub(available).and_then(|at| Timestamp::from_second(at.as_second() + 1)).unwrap_or(until).min(until)
        }
        // A list that is always read whole needs no windows of the past: what is older is late.
        None => midnight(until),
    }
}

fn midnight(at: Timestamp) -> Timestamp {
    day_of(at).to_zoned(TimeZone::UTC).map_or(at, |z| z.timestamp())
}

fn next_midnight(at: Timestamp) -> Timestamp {
    let next = day_of(at).checked_add(1.day()).and_then(|day| day.to_zoned(TimeZone::UTC));
    next.map_or(at, |z| z.timestamp())
}

/// One window.
struct Export<'a> {
    job: &'a ExportJob<'a>,
    chain: ChainName,
    run: RunId,
    started: Timestamp,
    window: Window,
    head: Option<Attested>,
    seen: Seen,
}

impl Export<'_> {
    #[tracing::instrument(name = "window", skip_all, fields(stream = %self.job.stream, from = %self.window.from, to = %self.window.to))]
    fn run(&mut self, written: &mut Vec<Written>, report: &mut ExportReport) -> Result<(), ExportError> {
        let job = self.job;
        let Window { from, to } = self.window;
        let available_from = job.available.and_then(|available| self.started.checked_sub(available).ok());
        let lost = available_from.filter(|at| *at > from).map(|at| Window { from, to: at.min(to) });
        // A list that is not filtered has events of any time.
        let start = Some(self.read_from(available_from)).filter(|_| job.reader.spec.filter.is_some());
        let cold = self.seen.is_cold(start);
        let mut lookup = self.seen.look_up();
        let mut fresh = Sorter::new(job.state.path(), SORT_BUDGET);
        let found = unsealed(job, self.window, self.read_from(available_from), &mut lookup, &mut fresh)?;
        let prepared = lookup.finish().map_err(ExportError::State)?;

        let lock = job.writer.lock_from(Container::AuditLogs, month_end(from));
        let sealing = Sealing {
            stream: job.stream,
            run: self.run,
            day: from,
            pointers: job.reader.pointers().map_err(|problem| self.unreadable(problem))?,
            writer: job.writer,
            lock,
            level: job.level,
            threads: job.threads,
            monitor: job.monitor,
        };
        let (objects, sealed) = sealing.all(fresh);
        written.extend(objects);
        let SealedEvents { spans, events, late } = sealed?;
        let lateness = found.earliest_late.filter(|_| !cold).map(|at| from.duration_since(at).as_secs_f64());
        let pointers = job.reader.pointers().map_err(|problem| self.unreadable(problem))?;
        let details = ExportDetails {
            window: Some(self.window),
            id: Pointer::from_list(pointers.id),
            time: Pointer::from_list(pointers.time),
            events,
            late_events: late,
            largest_lateness_seconds: lateness,
            available_from,
            unrecoverable: lost,
            dedupe: cold.then(|| "cold".to_owned()),
            spans,
            import: None,
            untimed_events: found.untimed,
        };
        let (stored, count) = (written.iter().map(|o| o.size).sum::<u64>(), written.len() as u64);
        let outcome = if lost.is_some() { Outcome::Partial } else { Outcome::Complete };
        let mut draft = self.draft(outcome, written.clone()).with_details(&details)?;
        draft.objects.extend(put_policy(job.writer, job.policy, self.started)?);
        let built_on = self.head.as_ref().map(|h| h.sha256);
        let committed =
            job.writer.commit(&draft, is_window, |view| match view.attested.iter().rev().find(|a| is_window(a)).map(|a| a.sha256) {
                newest if newest == built_on => Ok(()),
                _ => Err(CommitError::Dropped(format!("another agent exported the window from {from} first"))),
            })?;
        self.keep(prepared, &committed.sha256, start, available_from);
        report.windows += 1;
        (report.run, report.sequence) = (Some(self.run), committed.sequence);
        report.from = if report.windows == 1 { Some(from) } else { report.from };
        report.to = Some(to);
        report.events += events;
        report.late_events += late;
        report.changed_events += found.changed;
        report.untimed_events += found.untimed;
        report.largest_lateness_seconds = report.largest_lateness_seconds.into_iter().chain(lateness).reduce(f64::max);
        report.unrecoverable.extend(lost);
        report.read_bytes += found.read_bytes;
        report.stored_bytes += stored;
        report.objects += count;
        report.cold |= cold;
        Ok(())
    }

    /// Where reading begins: the window, and before it what may have arrived late. The first window of a new
    /// day reads further back: reading happens now, whatever the window.
    fn read_from(&self, available_from: Option<Timestamp>) -> Timestamp {
        let Some(head) = &self.head else { return self.window.from };
        let before = &head.statement.predicate.started;
        let week = |at: Timestamp| day_of(at).iso_week_date().first_of_week().map(|w| w.date());
        let back = match () {
            // Once a week everything that is still to be had, once a day the last two days.
            () if week(*before).ok() != week(self.started).ok() => self.job.available.unwrap_or(DAILY_SWEEP).max(self.job.lookback),
            () if day_of(*before) != day_of(self.started) => DAILY_SWEEP.max(self.job.lookback),
            () => self.job.lookback,
        };
        let at = self.window.from.checked_sub(back).unwrap_or(self.window.from);
        available_from.map_or(at, |least| at.max(least.min(self.window.from)))
    }

    fn unreadable(&self, problem: crate::source::import::ImportError) -> ExportError {
        let log = self.job.reader.spec.id.clone();
        ExportError::Log { stream: self.job.stream.to_string(), source: Box::new(LogError::Event { log, problem }) }
    }

    /// From here on the window is committed: a cache that cannot be kept costs some repetitions, nothing else.
    fn keep(&self, prepared: Vec<super::seen::Prepared>, head: &Sha256, start: Option<Timestamp>, available_from: Option<Timestamp>) {
        let oldest = available_from.unwrap_or(self.started).checked_sub(SignedDuration::from_hours(72)).unwrap_or(self.started);
        // A list that is always read whole may bring up the oldest event again.
        let oldest = if self.job.reader.spec.filter.is_none() { Timestamp::UNIX_EPOCH } else { oldest };
        if let Err(e) = self.seen.keep(prepared, head, start, day_of(oldest)) {
            let message = format!(
                "the window is committed, but what it sealed could not be noted in {} ({e}): the next export reads its lookback anew",
                Path::display(self.job.state.path())
            );
            self.job.monitor.event(Event::Warning(message));
        }
    }

    fn draft(&self, outcome: Outcome, objects: Vec<Written>) -> Draft {
        Draft {
            kind: Kind::Export,
            chain: self.chain.clone(),
            run: self.run,
            started: self.started,
            outcome,
            objects,
            details: serde_json::Map::new(),
        }
    }

    /// Says on the chain that this run failed after it wrote objects, if that still can be said.
    fn commit_failed(&self, written: Vec<Written>, error: &ExportError) {
        let mut draft = self.draft(Outcome::Failed, written);
        draft.details.insert("error_code".into(), error.code().into());
        draft.details.insert("window".into(), serde_json::to_value(self.window).unwrap_or_default());
        draft.details.insert("events".into(), 0.into());
        draft.details.insert("spans".into(), serde_json::Value::Array(Vec::new()));
        if let Err(e) = self.job.writer.commit(&draft, |_| true, |_| Ok(())) {
            self.job.monitor.event(Event::Warning(format!("that this run failed could not be attested: {e}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_end_at_midnight() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(next_midnight(at("2026-02-28T23:59:59.5Z")), at("2026-03-01T00:00:00Z"));
        assert_eq!(next_midnight(at("2026-03-01T00:00:00Z")), at("2026-03-02T00:00:00Z"));
        assert_eq!(settled(at("2026-03-01T00:10:00.9Z"), SignedDuration::from_mins(10)), at("2026-03-01T00:00:00Z"));
    }
}
