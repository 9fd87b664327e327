//! `backstop import`.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::checkpoint::after_a_run;
use super::context::{Context, level, threads};
use super::exit::{CliError, Exit};
use super::output::{GOOD, at_second, grouped, human_bytes};
use crate::backup::{ImportJob, import};
use crate::source::import::Pointers;
use crate::vault::names::ShortName;

#[derive(Args)]
pub struct ImportArgs {
    /// The stream, as the policy names it
    stream: String,
    /// NDJSON, JSON arrays or CSV with a header; plain, gzip or zstd
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Import files again that were imported before
    #[arg(long)]
    again: bool,
}

pub fn run(context: &Context, args: &ImportArgs) -> Result<Exit, CliError> {
    let begun = Instant::now();
    let (writer, policy) = context.writer()?;
    let usage = |message: String| CliError::new(Exit::Usage, message);
    let Some(stream) = policy.policy.streams.get(&args.stream) else {
        let names: Vec<&str> = policy.policy.streams.keys().map(String::as_str).collect();
        let hint = if names.is_empty() {
            format!("add it under `streams` in {}", policy.file.display())
        } else {
            format!("it has: {}", names.join(", "))
        };
        return Err(usage(format!("the policy has no stream {:?}", args.stream)).hint(hint));
    };
    let Some(kind) = &stream.value.import else {
        return Err(usage(format!("the stream {} takes no files: it is exported", args.stream)).hint("run `backstop export`"));
    };
    let pointers = Pointers::new(kind.id.clone(), kind.time.clone()).map_err(|e| usage(e.to_string()))?;
    let name: ShortName = args.stream.parse().map_err(|e| usage(format!("{e}")))?;
    let progress = context.output.monitor(&args.stream);
    let report = import(&ImportJob {
        stream: &name,
        files: &args.files,
        format: kind.format,
        pointers: &pointers,
        again: args.again,
        writer: &writer,
        policy: &policy.bytes,
        level: level(&policy),
        threads: threads(),
        monitor: &progress,
    });
    progress.finish();
    let report = report?;
    let seconds = begun.elapsed().as_secs_f64();
    let output = context.output;
    output.json(&json!({
        "run": report.run, "chain": report.chain, "sequence": report.sequence, "stream": args.stream, "from": report.from, "to": report.to,
        "events": report.events, "late_events": 0, "untimed_events": report.untimed_events, "read_bytes": report.read_bytes,
        "stored_bytes": report.stored_bytes, "objects": report.objects, "already_imported": report.already_imported, "outcome": "complete",
        "duration_seconds": seconds,
    }));
    for file in &report.already_imported {
        output.warn(format!("{} was imported before and is left out (--again imports it once more)", file.display()));
    }
    if report.untimed_events > 0 {
        output.warn(format!(
            "{} events have no time that can be read; they stand at the time of the event before them",
            grouped(report.untimed_events)
        ));
    }
    if report.events == 0 && report.already_imported.len() < args.files.len() {
        output.warn("no event was found: is it the right file?");
    }
    if report.already_imported.len() < args.files.len() {
        let span = match (report.from, report.to) {
            (Some(from), Some(to)) => format!(" from {} to {}", at_second(from), at_second(to)),
            _ => String::new(),
        };
        output.say(format!(
            "{GOOD}{}: imported {}{GOOD:#}  {} events{span}; read {}, stored {} in {} objects; {seconds:.1} s",
            args.stream,
            report.run,
            grouped(report.events),
            human_bytes(report.read_bytes),
            human_bytes(report.stored_bytes),
            report.objects
        ));
        after_a_run(context, &writer, &policy);
    }
    Ok(Exit::Done)
}
