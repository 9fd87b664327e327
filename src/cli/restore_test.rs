//! `backstop restore-test`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use super::context::{Context, leave_nothing_behind, threads};
use super::exit::{CliError, Exit};
use super::output::{BAD, DOUBT, FAINT, GOOD, Output, STRONG, at_second, grouped, human_bytes, shown};
use super::snapshot::open_tenant;
use crate::observe::Monitor;
use crate::policy::LoadedPolicy;
use crate::source::Source;
use crate::source::catalog::CollectionSpec;
use crate::vault::names::ShortName;
use crate::verify::{Check, Count, LiveCapture, LiveSample, TestJob, TestReport, restore_test};

/// So many failures are named for people; all of them for machines, and in the sealed record.
const SHOWN: usize = 30;

#[derive(Args)]
pub struct RestoreTestArgs {
    /// The tester's signing key; the policy's signing.tester_key_file unless said
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Where it is restored to, below a fresh directory; the system's temporary directory unless said
    #[arg(long, value_name = "DIR")]
    temporary: Option<PathBuf>,
    /// At most so many bytes lie there at once (10M, 2G); half of what is free unless said; a larger file lies there alone
    #[arg(long, value_name = "BYTES", value_parser = disk)]
    disk: Option<u64>,
    /// At most so many stored bytes of older recovery points; as many as coverage needs unless said
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    most: Option<u64>,
    /// Do not ask the live tenants
    #[arg(long)]
    no_live: bool,
}

fn disk(text: &str) -> Result<u64, String> {
    let value = bytes(text)?;
    if value < 1 << 20 { Err("less than 1.1M is too little to restore anything into".into()) } else { Ok(value) }
}

/// Reads `500`, `10M`, `2G`.
fn bytes(text: &str) -> Result<u64, String> {
    let units = [("k", 1_000), ("K", 1_000), ("M", 1_000_000), ("G", 1_000_000_000), ("T", 1_000_000_000_000)];
    let (number, unit) = units.iter().find_map(|(letter, n)| Some((text.strip_suffix(letter)?, *n))).unwrap_or((text, 1u64));
    let value = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).filter(|n| *n > 0);
    value.ok_or_else(|| format!("{text:?} is no size: write 500, 10M or 2G"))
}

pub fn run(context: &Context, args: &RestoreTestArgs) -> Result<Exit, CliError> {
    let begun = Instant::now();
    let (writer, policy) = context.tester(args.key.as_deref())?;
    let identities = context.identities(&writer.ledger)?;
    let temporary = args.temporary.clone().unwrap_or_else(std::env::temp_dir);
    leave_nothing_behind()?;
    let jobs = policy.policy.jobs.values().filter_map(|job| job.value.restore_test.as_ref());
    let outside: Vec<String> = jobs.flat_map(|test| test.outside.iter().cloned()).collect();
    let progress = Arc::new(context.output.monitor("testing"));
    let job = TestJob {
        writer: &writer,
        policy: &policy.bytes,
        identities: &identities,
        temporary: &temporary,
        disk: args.disk,
        most: args.most,
        outside: &outside,
        threads: threads(),
        monitor: &*progress,
    };
    let tenants = if args.no_live { Vec::new() } else { tenants(&policy) };
    let open = |name: &ShortName, specs: &[&'static CollectionSpec]| -> Result<Box<dyn Source>, String> {
        let source = policy.policy.sources.get(name.as_str()).ok_or("the policy does not name it")?;
        let specs = specs.iter().map(|spec| (*spec).clone()).collect();
        let monitor: Arc<dyn Monitor + Send> = progress.clone();
        let opened = open_tenant(&policy, name.as_str(), &source.value, specs, (&temporary, None), monitor);
        opened.map(|source| Box::new(source) as Box<dyn Source>).map_err(|e| e.causes.join(": "))
    };
    let opens: Vec<(ShortName, Box<LiveCapture<'_>>)> = tenants
        .into_iter()
        .map(|name| {
            let (own, open) = (name.clone(), &open);
            (name, Box::new(move |specs: &[&'static CollectionSpec]| open(&own, specs)) as Box<LiveCapture<'_>>)
        })
        .collect();
    let live: Vec<LiveSample<'_>> = opens.iter().map(|(source, open)| LiveSample { source, open: &**open }).collect();
    let report = restore_test(&job, &live);
    progress.finish();
    let report = report?;
    tell(context.output, &report, begun.elapsed().as_secs_f64());
    match report.error {
        // Damage weighs more than what else stood in the way.
        Some(error) if !report.problems.is_empty() => {
            context.output.error(&error.into());
            Ok(Exit::Damage)
        }
        Some(error) => Err(error.into()),
        None if !report.problems.is_empty() => Ok(Exit::Damage),
        None if !report.cannot_open.is_empty() => {
            let recipients = writer.ledger.trust().recipients().join(", ");
            let mut chains: Vec<&str> = report.cannot_open.iter().map(|c| c.as_str()).collect();
            chains.dedup();
            Err(CliError::new(Exit::Failed, format!("none of the identities opens what was drawn of {}", chains.join(", ")))
                .hint(format!("give the identity of one of these recipients with --identity FILE or BACKSTOP_IDENTITY: {recipients}")))
        }
        None if !report.skipped.is_empty() => Ok(Exit::Partial),
        None => Ok(Exit::Done),
    }
}

/// The sources of the policy that are tenants.
fn tenants(policy: &LoadedPolicy) -> Vec<ShortName> {
    let sources = policy.policy.sources.iter().filter(|(_, s)| s.value.graph.is_some() || s.value.arm.is_some());
    sources.filter_map(|(name, _)| name.parse().ok()).collect()
}

fn outcome_of(count: Count) -> &'static str {
    match count {
        Count { failed: 1.., .. } => "failed",
        Count { ran: 0, .. } => "skipped",
        _ => "passed",
    }
}

fn message_of(report: &TestReport, check: Check, count: Count) -> String {
    match count {
        Count { failed: failed @ 1.., ran, .. } => {
            format!("{} of {}: not all {}", grouped(failed), grouped(ran.max(failed)), check.subjects())
        }
        Count { ran: 0, .. } if check == Check::Live && !report.notes.is_empty() => report.notes.join("; "),
        Count { ran: 0, .. } => "there was nothing that it could be checked on".into(),
        Count { ran, excused: 0, .. } => format!("{} {}", grouped(ran), check.subjects()),
        Count { ran, excused, .. } => format!("{} {}, {} of them so", grouped(ran), check.subjects(), grouped(excused)),
    }
}

fn tell(output: Output, report: &TestReport, seconds: f64) {
    let checks: Vec<Value> = report
        .checks
        .iter()
        .map(|(check, count)| {
            json!({
                "name": check.as_str(), "outcome": outcome_of(*count), "count": count.ran, "failed": count.failed,
                "excused": count.excused, "message": message_of(report, *check, *count),
            })
        })
        .collect();
    output.json(&json!({
        "run": report.run, "chain": "restore-test", "sequence": report.sequence, "outcome": report.outcome, "checks": checks,
        "tested": report.tested, "covered_bytes": report.covered_bytes, "coverage": report.coverage.share(),
        "stored_bytes": report.coverage.stored_bytes, "problems": report.problems, "skipped": report.skipped, "notes": report.notes,
        "still_good": report.still_good, "duration_seconds": seconds,
    }));
    for t in &report.tested {
        let style = if t.passed { GOOD } else { BAD };
        output.say(format!(
            "{style}{}{style:#} {} {FAINT}({}){FAINT:#}: {} restored, {} from {} in {} sealed objects; {:.1} s, and {:.1} s to check",
            t.chain,
            t.run,
            t.drawn.replace('_', " "),
            grouped(t.entries),
            human_bytes(t.restored_bytes),
            human_bytes(t.stored_bytes),
            grouped(t.objects),
            t.restore_seconds,
            t.check_seconds
        ));
    }
    output.say("");
    for (check, count) in &report.checks {
        let (outcome, style) = (
            outcome_of(*count),
            if count.failed > 0 {
                BAD
            } else if count.ran == 0 {
                FAINT
            } else {
                GOOD
            },
        );
        output.say(format!("{style}{outcome:<8}{style:#}{:<12}{}", check.as_str(), message_of(report, *check, *count)));
    }
    for problem in report.problems.iter().take(SHOWN) {
        let path = problem.path.as_deref().map(|p| format!(" {}", shown(p))).unwrap_or_default();
        let object = problem.object.as_deref().map(|o| format!(" [{}]", shown(o))).unwrap_or_default();
        let by = problem.written_by.map(|run| format!(" written by the run {run}")).unwrap_or_default();
        output.error(&CliError::new(
            Exit::Damage,
            format!("{}: {}{path}{object}{by}: {}", problem.check.as_str(), problem.chain, shown(&problem.message)),
        ));
    }
    if report.problems.len() > SHOWN {
        output.warn(format!("and {} more: --json and the sealed record of the run name them all", report.problems.len() - SHOWN));
    }
    for good in &report.still_good {
        let points = format!("{} of {} recovery points need nothing that is damaged", grouped(good.good), grouped(good.good + good.bad));
        let newest = match (good.newest, good.captured) {
            (Some(run), Some(captured)) => format!("; the newest of them is {run}, of {}", at_second(captured)),
            _ => String::new(),
        };
        output.warn(format!("{}: {points}{newest}", good.chain));
    }
    for skipped in &report.skipped {
        output.warn(format!("not restored: {skipped}"));
    }
    for note in &report.notes {
        output.warn(note);
    }
    let style = match report.outcome.to_string().as_str() {
        "complete" => GOOD,
        "partial" => DOUBT,
        _ => BAD,
    };
    output.say(format!(
        "{style}{}{style:#}: {} of stored data proved by this test; {STRONG}{:.1} %{STRONG:#} of {} within 90 days; {seconds:.1} s",
        report.outcome,
        human_bytes(report.covered_bytes),
        100.0 * report.coverage.share(),
        human_bytes(report.coverage.stored_bytes)
    ));
}
