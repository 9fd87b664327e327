//! `backstop export`.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use clap::Args;
use jiff::SignedDuration;
use serde_json::json;

use super::checkpoint::after_a_run;
use super::context::{Context, level, threads};
use super::exit::{CliError, Exit};
use super::output::{DOUBT, FAINT, GOOD, at_second, grouped, human_bytes};
use super::tenant;
use crate::backup::{ExportJob, ExportReport, StateDir, export};
use crate::http::Service;
use crate::policy::{DEFAULT_SETTLE_SECONDS, LoadedPolicy, LogPolicy, StreamPolicy, parse_duration};
use crate::source::catalog::{Catalog, Plane};
use crate::source::graph::LogReader;
use crate::vault::Writer;
use crate::vault::attestation::Outcome;
use crate::vault::names::ShortName;

/// How far each export reads back, unless the policy says.
const DEFAULT_LOOKBACK_SECONDS: u64 = 3600;

#[derive(Args)]
pub struct ExportArgs {
    /// The streams; all that are exported unless said
    #[arg(value_name = "STREAM")]
    streams: Vec<String>,
}

pub fn run(context: &Context, args: &ExportArgs) -> Result<Exit, CliError> {
    let (writer, policy) = context.writer()?;
    let exported: Vec<&String> = policy.policy.streams.iter().filter(|(_, s)| log_of(&s.value).is_some()).map(|(name, _)| name).collect();
    let names = if args.streams.is_empty() { exported.clone() } else { args.streams.iter().collect() };
    if names.is_empty() {
        return Err(CliError::new(Exit::Usage, "the policy names no stream to export")
            .hint(format!("add one under `streams` in {}, with `graph_log` or `arm_log`", policy.file.display())));
    }
    for name in &names {
        if !exported.contains(name) {
            let message = match policy.policy.streams.contains_key(*name) {
                true => format!("the stream {name} is not exported: files are given to `backstop import`"),
                false => format!("the policy has no stream {name:?}"),
            };
            let names: Vec<&str> = exported.iter().map(|name| name.as_str()).collect();
            return Err(CliError::new(Exit::Usage, message).hint(super::select::there_are(&names)));
        }
    }
    let mut worst = Exit::Done;
    let mut first_error = None;
    for name in names {
        match one(context, &writer, &policy, name) {
            Ok(Outcome::Complete) => {}
            Ok(_) => worst = Exit::Partial,
            // The other streams are exported all the same.
            Err(error) if first_error.is_some() => context.output.error(&error),
            Err(error) => {
                context.output.note(format!("{name} failed; the other streams go on"));
                first_error = Some(error);
            }
        }
    }
    if let Some(error) = first_error {
        return Err(error);
    }
    after_a_run(context, &writer, &policy);
    Ok(worst)
}

/// The log that a stream exports, and which service has it.
fn log_of(stream: &StreamPolicy) -> Option<(&LogPolicy, Plane)> {
    match (&stream.graph_log, &stream.arm_log) {
        (Some(log), _) => Some((log, Plane::Graph)),
        (None, Some(log)) => Some((log, Plane::Arm)),
        (None, None) => None,
    }
}

fn one(context: &Context, writer: &Writer, policy: &LoadedPolicy, name: &str) -> Result<Outcome, CliError> {
    let begun = Instant::now();
    let usage = |message: String| CliError::new(Exit::Usage, message);
    let short: ShortName = name.parse().map_err(|e| usage(format!("{e}")))?;
    let stream = policy.policy.streams.get(name);
    let Some((log, plane)) = stream.and_then(|s| log_of(&s.value)) else { return Err(usage(format!("the stream {name} is not exported"))) };
    let Some(spec) = Catalog::all().log(&log.log.value) else { return Err(usage(format!("there is no log {:?}", log.log.value))) };
    let seconds = |said: Option<&str>| said.and_then(parse_duration).map(|s| i64::try_from(s).unwrap_or(i64::MAX));
    let of = |said: &Option<serde_saphyr::Spanned<String>>, unless: u64| {
        SignedDuration::from_secs(seconds(said.as_ref().map(|s| s.value.as_str())).unwrap_or(i64::try_from(unless).unwrap_or(0)))
    };
    let available = log.available.as_ref().map(|a| a.value.as_str()).or(spec.available.as_deref());
    let service = tenant::service(policy, &log.access(), plane)?;
    let dir = Context::state_dir(policy);
    let unusable = |e: std::io::Error| CliError::new(Exit::Failed, format!("cannot use the state directory {}: {e}", dir.display()));
    let state = StateDir::open(&dir, writer.ledger.trust().vault(), &format!("export.{name}")).map_err(unusable)?;
    let reader = LogReader {
        spec: spec.clone(),
        service: service.clone(),
        subscriptions: tenant::subscriptions(log.subscriptions.as_ref().map(|s| &s.value), &log.access(), Some(state.path())),
        found: Mutex::default(),
    };
    let progress = Arc::new(context.output.monitor(name));
    let report = export(&ExportJob {
        stream: &short,
        reader: &reader,
        settle: of(&log.settle, DEFAULT_SETTLE_SECONDS),
        lookback: of(&log.lookback, DEFAULT_LOOKBACK_SECONDS),
        available: seconds(available).map(SignedDuration::from_secs),
        writer,
        policy: &policy.bytes,
        state: &state,
        level: level(policy),
        threads: threads(),
        monitor: &*progress,
    });
    progress.finish();
    let report = report?;
    let found = reader.found.lock().map(|found| found.clone()).unwrap_or_default();
    tenant::keep_seen(context, state.path(), &log.access(), found.seen);
    tell(context, name, &report, &service, begun.elapsed().as_secs_f64());
    Ok(if found.lost.is_empty() { report.outcome() } else { Outcome::Partial })
}

fn tell(context: &Context, name: &str, report: &ExportReport, service: &Service, seconds: f64) {
    let output = context.output;
    output.json(&json!({
        "run": report.run, "chain": format!("export.{name}"), "sequence": report.sequence, "stream": name, "from": report.from,
        "to": report.to, "windows": report.windows, "events": report.events, "late_events": report.late_events,
        "changed_events": report.changed_events, "untimed_events": report.untimed_events,
        "largest_lateness_seconds": report.largest_lateness_seconds, "unrecoverable": report.unrecoverable,
        "dedupe": report.cold.then_some("cold"), "read_bytes": report.read_bytes, "stored_bytes": report.stored_bytes,
        "objects": report.objects, "outcome": report.outcome(), "waited_seconds": service.waited_seconds(),
        "duration_seconds": seconds,
    }));
    let until = report.to.map_or_else(|| "the beginning".to_owned(), at_second);
    if report.windows == 0 {
        output.say(format!("{name}: nothing is settled after {until} yet"));
        return;
    }
    let style = if report.outcome() == Outcome::Complete { GOOD } else { DOUBT };
    let from = report.from.map_or_else(String::new, at_second);
    let several = if report.windows > 1 { format!(" in {} windows", grouped(report.windows)) } else { String::new() };
    let late = match report.late_events - report.changed_events.min(report.late_events) {
        0 => String::new(),
        late => format!(", {} arrived late", grouped(late)),
    };
    let changed = if report.changed_events > 0 { format!(", {} changed since", grouped(report.changed_events)) } else { String::new() };
    output.say(format!(
        "{style}{name}: {} to {until}{style:#}; {} events{several}{late}{changed}",
        report.outcome(),
        grouped(report.events)
    ));
    let objects = if report.objects == 1 { "object" } else { "objects" };
    output.say(format!(
        "  {FAINT}from {from}; {} in {} {objects}, {} read; {seconds:.1} s{FAINT:#}",
        human_bytes(report.stored_bytes),
        report.objects,
        human_bytes(report.read_bytes),
    ));
    if service.waited_seconds() >= 1.0 {
        output.say(format!("  the service asked to wait, {:.0} s in all", service.waited_seconds()));
    }
    if report.cold {
        output.note("what was sealed before was not known: events of the lookback were sealed once more, and readers leave them out");
    }
    for lost in &report.unrecoverable {
        output.warn(format!(
            "{name}: events from {} to {} are lost: the source no longer had them; export more often than it forgets",
            at_second(lost.from),
            at_second(lost.to)
        ));
    }
}
