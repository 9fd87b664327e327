//! One unit of a stream: every object of a day opened, and its events restored in time order.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter};
use std::time::Instant;

use jiff::Timestamp;

use super::RestoreTestError;
use super::bench::{Bench, Proof};
use super::draw::Unit;
use super::tally::Check;
use crate::restore::{LogObject, LogsJob, RestoreError, log_objects_of, read_log_object, restore_logs};
use crate::source::import::{Pointers, event_key};
use crate::store::Sha256;
use crate::vault::Attested;
use crate::vault::attestation::{ExportDetails, Outcome, Window};
use crate::vault::names;

/// Memory for sorting, in bytes.
const SORT_BUDGET: usize = 16 << 20;

/// 8 bytes of a digest: a day has millions of events.
type Short = [u8; 8];

fn short(bytes: &[u8]) -> Short {
    <Short>::try_from(&Sha256::of(bytes).0[..8]).unwrap_or_default()
}

/// One export or import, and what it sealed.
struct Run<'a> {
    attested: &'a Attested,
    own: Vec<LogObject>,
    /// The identities of the events in its window.
    events: HashSet<Short>,
}

/// Opens every object of the unit's runs, and restores the events of their windows.
#[tracing::instrument(skip_all, fields(chain = %unit.chain))]
pub fn prove(bench: &Bench<'_>, unit: &Unit<'_>) -> Result<Proof, RestoreTestError> {
    let mut proof = Proof::default();
    let begun = Instant::now();
    windows(bench, unit);
    let mut logs: Vec<Run<'_>> = Vec::new();
    for attested in &unit.runs {
        logs.push(Run { attested, own: log_objects_of(attested)?, events: HashSet::new() });
    }
    let objects: Vec<_> = logs.iter().flat_map(|run| &run.own).map(|log| &log.object).collect();
    let archived = bench.archived(&objects)?;
    proof.archived = objects.iter().filter(|o| archived.contains(&o.name)).map(|o| (*o).clone()).collect();
    for Run { attested, own, events } in &mut logs {
        let details = attested.statement.predicate.details::<ExportDetails>().ok();
        let window = details.as_ref().and_then(|d| d.window);
        let mut ids = window.map(|_| crate::sort::Sorter::new(bench.scratch.path(), SORT_BUDGET));
        for log in own.iter().filter(|log| !archived.contains(&log.object.name)) {
            proof.opened.insert(log.object.sha256, log.object.size);
            match object(bench, unit, attested, log, window, ids.as_mut().map(|ids| (ids, &mut *events))) {
                Err(RestoreTestError::Restore(RestoreError::WrongIdentity { object, .. })) => {
                    proof.cannot_open = Some(object);
                    return Ok(proof);
                }
                other => other?,
            }
        }
        if let Some(ids) = ids {
            once(bench, unit, attested, ids)?;
        }
    }
    proof.check_seconds += begun.elapsed().as_secs_f64();
    if proof.archived.is_empty() {
        let budget = bench.job.disk_budget(bench.scratch.free().map_err(|e| bench.trouble(e))?);
        for part in parts(&logs, budget) {
            restored(bench, unit, part, &mut proof)?;
        }
    }
    Ok(proof)
}

/// Opens one object and holds it to its attestation.
fn object(
    bench: &Bench<'_>,
    unit: &Unit<'_>,
    attested: &Attested,
    log: &LogObject,
    window: Option<Window>,
    mut ids: Option<(&mut crate::sort::Sorter, &mut HashSet<Short>)>,
) -> Result<(), RestoreTestError> {
    let (job, tally) = (bench.job, &bench.tally);
    let run = attested.statement.predicate.run;
    let name = log.object.name.as_str();
    let late = names::is_late_log_object(name);
    let (mut count, mut first, mut last, mut outside) = (0u64, None::<Timestamp>, None::<Timestamp>, 0u64);
    let read = read_log_object(&job.writer.ledger, job.identities, log, |line, key, number| {
        count += 1;
        let mut inside = true;
        if let Some(time) = key.time {
            first = Some(first.map_or(time, |f| f.min(time)));
            last = Some(last.map_or(time, |l| l.max(time)));
            // A new version of an event that was sealed before may be late at any time before the window's end.
            inside = window.is_none_or(|w| if late { time < w.from } else { w.from <= time && time < w.to });
            outside += u64::from(!inside);
        }
        match (ids.as_mut().filter(|_| !late && inside), &key.id) {
            (Some((ids, events)), Some(id)) => {
                events.insert(short(id.as_bytes()));
                let mut key = Sha256::of(id.as_bytes()).0.to_vec();
                key.extend_from_slice(&Sha256::of(line).0);
                ids.push(&key, name.as_bytes())?;
            }
            (Some((_, events)), None) => _ = events.insert(short(format!("{name} {number}").as_bytes())),
            (None, _) => {}
        }
        Ok(())
    });
    tally.ran(Check::Events, 1);
    let fail = |check, message: String| bench.problem(check, unit.chain, run, Some(name), None, message);
    match read {
        Err(e @ RestoreError::WrongIdentity { .. }) => return Err(e.into()),
        Err(RestoreError::Write { source, .. }) => return Err(bench.trouble(source)),
        Err(e) => {
            let lost = format!("{} events{} are lost: {}", log.span.count, between(log.span.first, log.span.last), super::said(&e));
            fail(Check::Events, lost);
            return Ok(());
        }
        Ok(()) if (count, first, last) != (log.span.count, log.span.first, log.span.last) => {
            let attested = format!("{} events{} are attested", log.span.count, between(log.span.first, log.span.last));
            fail(Check::Events, format!("{attested}, and {count}{} are there", between(first, last)));
        }
        Ok(()) => {}
    }
    if window.is_some() {
        tally.ran(Check::Times, count);
        if outside > 0 {
            fail(Check::Times, format!("{outside} of its events do not lie where the window says"));
        }
    }
    Ok(())
}

fn between(first: Option<Timestamp>, last: Option<Timestamp>) -> String {
    match (first, last) {
        (Some(first), Some(last)) => format!(" from {first} to {last}"),
        _ => String::new(),
    }
}

/// No event stands twice in the main objects of a window.
fn once(bench: &Bench<'_>, unit: &Unit<'_>, attested: &Attested, ids: crate::sort::Sorter) -> Result<(), RestoreTestError> {
    let (mut before, mut events, mut again, mut place) = (Vec::new(), 0u64, 0u64, String::new());
    ids.finish(|key, object| {
        events += 1;
        if before == key {
            again += 1;
            place = String::from_utf8_lossy(object).into_owned();
        }
        before.clear();
        before.extend_from_slice(key);
        Ok(())
    })
    .map_err(|e| bench.trouble(e))?;
    bench.tally.ran(Check::Ids, events);
    if again > 0 {
        let message = format!("{again} events stand twice in the window");
        bench.problem(Check::Ids, unit.chain, attested.statement.predicate.run, Some(&place), None, message);
    }
    Ok(())
}

/// Sorting and the restored file take so many times the stored bytes, as a rule.
const UNPACKED: u64 = 30;

/// Runs that are restored together: as many as the disk has room for.
fn parts<'l, 'a>(mut logs: &'l [Run<'a>], budget: u64) -> Vec<&'l [Run<'a>]> {
    let mut out = Vec::new();
    while !logs.is_empty() {
        let mut sum = 0;
        let fits = logs.iter().take_while(|run| {
            sum += run.own.iter().map(|log| log.object.size * UNPACKED).sum::<u64>();
            sum <= budget
        });
        let (part, rest) = logs.split_at(fits.count().max(1));
        out.push(part);
        logs = rest;
    }
    out
}

/// Restores the events of the unit's windows into a file, as an incident would, and reads them back.
fn restored(bench: &Bench<'_>, unit: &Unit<'_>, logs: &[Run<'_>], proof: &mut Proof) -> Result<(), RestoreTestError> {
    let windows = logs.iter().filter_map(|run| run.attested.statement.predicate.details::<ExportDetails>().ok()?.window);
    let (from, to) = windows.fold((None::<Timestamp>, None::<Timestamp>), |(from, to), w| {
        (Some(from.map_or(w.from, |f| f.min(w.from))), Some(to.map_or(w.to, |t| t.max(w.to))))
    });
    let spans = || logs.iter().flat_map(|run| &run.own).filter_map(|log| Some((log.span.first?, log.span.last?)));
    let after = |at: Timestamp| at.checked_add(jiff::SignedDuration::from_nanos(1)).unwrap_or(at);
    // An import has no window: what it holds says where its events lie.
    let from = from.or_else(|| spans().map(|(first, _)| first).min());
    let to = to.or_else(|| spans().map(|(_, last)| after(last)).max());
    let (Some(from), Some(to), Some(Run { attested: newest, .. })) = (from, to, logs.last()) else { return Ok(()) };
    let begun = Instant::now();
    let dir = bench.scratch.part().map_err(|e| bench.trouble(e))?;
    let file = dir.join("events.ndjson");
    let job = LogsJob {
        ledger: &bench.job.writer.ledger,
        identities: bench.job.identities,
        chain: unit.chain,
        from,
        to,
        as_of: Some(newest.sequence()),
        all_versions: false,
        temporary: &dir,
        monitor: bench.job.monitor,
    };
    let mut out = BufWriter::with_capacity(1 << 18, File::create_new(&file).map_err(|e| bench.trouble(e))?);
    let report = restore_logs(&job, &mut out)?;
    out.into_inner().map_err(|e| bench.trouble(e.into_error()))?;
    proof.restore_seconds += begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let run = newest.statement.predicate.run;
    bench.lost(Check::Events, unit.chain, run, report.failed);
    // Where ids and times are may change between runs: what was sealed in another way is not judged by these.
    let pointers = logs.last().and_then(|run| run.own.last()).map(|log| log.pointers.clone());
    let read_from = job.objects()?;
    let same = |p: &Pointers| read_from.iter().all(|log| log.pointers == *p);
    let read = File::open(&file).and_then(|f| read_back(BufReader::with_capacity(1 << 18, f), pointers.filter(same).as_ref()));
    let back = read.map_err(|e| bench.trouble(e))?;
    proof.entries += back.lines;
    proof.restored_bytes += back.bytes;
    bench.tally.ran(Check::Times, back.lines);
    bench.tally.ran(Check::Ids, back.lines);
    let fail = |check, message: String| bench.problem(check, unit.chain, run, None, None, message);
    let read = (read_from.iter().map(|log| log.object.size).sum::<u64>(), read_from.len() as u64);
    proof.read = (proof.read.0 + read.0, proof.read.1 + read.1);
    let sealed: HashSet<&Short> = logs.iter().flat_map(|run| &run.events).collect();
    if back.lines < sealed.len() as u64 {
        fail(Check::Events, format!("{} events are sealed in these windows, and {} were restored", sealed.len(), back.lines));
    }
    if back.lines != report.events {
        fail(Check::Events, format!("{} events were restored, and {} lie on disk", report.events, back.lines));
    }
    if back.unordered > 0 {
        fail(Check::Times, format!("{} restored events stand before earlier ones", back.unordered));
    }
    if back.outside(from, to) {
        fail(Check::Times, format!("restored events lie outside of {from} to {to}"));
    }
    if back.repeated > 0 {
        fail(Check::Ids, format!("{} ids were restored twice", back.repeated));
    }
    bench.scratch.clear(&dir).map_err(|e| bench.trouble(e))?;
    proof.check_seconds += begun.elapsed().as_secs_f64();
    Ok(())
}

/// What a file of restored events holds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Back {
    lines: u64,
    bytes: u64,
    unordered: u64,
    repeated: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Back {
    fn outside(&self, from: Timestamp, to: Timestamp) -> bool {
        self.first.is_some_and(|first| first < from) || self.last.is_some_and(|last| last >= to)
    }
}

fn read_back(mut input: impl BufRead, pointers: Option<&Pointers>) -> io::Result<Back> {
    let (mut back, mut line, mut ids) = (Back::default(), Vec::new(), HashSet::new());
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(back);
        }
        back.lines += 1;
        back.bytes += line.len() as u64;
        let Some(pointers) = pointers else { continue };
        let key = event_key(line.strip_suffix(b"\n").unwrap_or(&line), pointers).map_err(io::Error::other)?;
        if let Some(time) = key.time {
            back.unordered += u64::from(back.last.is_some_and(|last| time < last));
            back.first = Some(back.first.map_or(time, |first| first.min(time)));
            back.last = Some(back.last.map_or(time, |last| last.max(time)));
        }
        if let Some(id) = key.id {
            back.repeated += u64::from(!ids.insert(short(id.as_bytes())));
        }
    }
}

/// Holds each window of the unit to the one before it, which may lie in another unit.
fn windows(bench: &Bench<'_>, unit: &Unit<'_>) {
    let window = |a: &Attested| {
        let p = &a.statement.predicate;
        p.details::<ExportDetails>().ok().filter(|_| p.outcome != Outcome::Failed).and_then(|d| d.window)
    };
    let first = unit.view.attested.partition_point(|a| a.sequence() < unit.range().0);
    let mut end = unit.view.attested[..first].iter().rev().find_map(window).map(|w| w.to);
    for (attested, window) in unit.runs.iter().filter_map(|a| Some((a, window(a)?))) {
        let (before, p) = (end.replace(window.to), &attested.statement.predicate);
        bench.tally.ran(Check::Windows, 1);
        if let Some(end) = before.filter(|end| *end != window.from) {
            let what = if window.from > end { "a hole" } else { "an overlap" };
            let message =
                format!("there is {what} between {end}, where the window before ends, and {}, where this one begins", window.from);
            bench.problem(Check::Windows, unit.chain, p.run, None, None, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(lines: &[&str]) -> Back {
        let pointers = Pointers::new(vec!["/id".into()], vec!["/at".into()]).unwrap();
        read_back(lines.join("").as_bytes(), Some(&pointers)).unwrap()
    }

    #[test]
    fn what_was_restored_in_disorder_twice_or_outside_is_seen() {
        let event = |id: &str, at: &str| format!("{{\"id\":\"{id}\",\"at\":\"2026-11-25T{at}Z\"}}\n");
        let (a, b, c) = (event("a", "10:00:00"), event("b", "10:00:01"), event("c", "10:00:02"));
        let well = back(&[&a, &b, &c]);
        assert_eq!((well.lines, well.unordered, well.repeated), (3, 0, 0));
        let at = |text: &str| format!("2026-11-25T{text}Z").parse::<Timestamp>().unwrap();
        assert!(!well.outside(at("10:00:00"), at("10:00:03")));
        assert!(well.outside(at("10:00:00"), at("10:00:02")) && well.outside(at("10:00:01"), at("10:00:03")));
        assert_eq!(back(&[&b, &a, &c]).unordered, 1);
        assert_eq!(back(&[&a, &b, &b]).repeated, 1);
    }
}
