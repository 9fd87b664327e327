//! `backstop drill`, `drill ls` and `drill show`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::context::{Context, leave_nothing_behind, threads};
use super::exit::{CliError, Exit};
use super::output::{BAD, DOUBT, FAINT, GOOD, Output, STRONG, at_second, grouped, shown};
use super::select;
use super::status::{duration, subjects};
use crate::drill::{DrillJob, RUNBOOKS, Runbook, drill};
use crate::objective::spoken;
use crate::vault::Attested;
use crate::vault::attestation::{DrillDetails, Kind, Outcome};
use crate::vault::names::ChainName;

/// So many problems are named for people; all of them for machines, and in the sealed record.
const SHOWN: usize = 20;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DrillArgs {
    #[command(subcommand)]
    command: Option<DrillCommand>,
    /// What is practised; an unknown one lists them all
    #[arg(default_value = "tenant-configuration-loss")]
    scenario: String,
    /// The tester's signing key; the policy's signing.tester_key_file unless said
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Where it is restored to, below a fresh directory; the system's temporary directory unless said
    #[arg(long, value_name = "DIR")]
    temporary: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum DrillCommand {
    /// List drills, newest first
    Ls,
    /// Show one drill as it is attested; the newest unless said
    Show {
        /// The run, or drill/NUMBER
        run: Option<String>,
    },
}

pub fn run(context: &Context, args: &DrillArgs) -> Result<Exit, CliError> {
    match &args.command {
        None => hold(context, args),
        Some(DrillCommand::Ls) => list(context),
        Some(DrillCommand::Show { run }) => show(context, run.as_deref()),
    }
}

fn hold(context: &Context, args: &DrillArgs) -> Result<Exit, CliError> {
    let Some(runbook) = Runbook::of(&args.scenario) else {
        let names: Vec<&str> = RUNBOOKS.iter().map(|r| r.id).collect();
        return Err(CliError::new(Exit::Usage, format!("there is no scenario {:?}", args.scenario)).hint(select::there_are(&names)));
    };
    let (writer, policy) = context.tester(args.key.as_deref())?;
    let identities = context.identities(&writer.ledger)?;
    let temporary = args.temporary.clone().unwrap_or_else(std::env::temp_dir);
    leave_nothing_behind()?;
    let progress = context.output.monitor("drill");
    let report = drill(&DrillJob {
        writer: &writer,
        policy: &policy.bytes,
        identities: &identities,
        runbook,
        subjects: &subjects(&policy.policy),
        rpo: duration("rpo", &policy.policy.objectives.rpo.value)?,
        rto: duration("rto", &policy.policy.objectives.rto.value)?,
        temporary: &temporary,
        threads: threads(),
        monitor: &progress,
    });
    progress.finish();
    let report = report?;
    let output = context.output;
    output.json(&document(
        &report.details,
        report.outcome,
        &json!({ "run": report.run, "sequence": report.sequence, "problems": report.problems }),
    ));
    people(output, &report.details);
    for problem in report.problems.iter().take(SHOWN) {
        output.warn(shown(problem));
    }
    if report.problems.len() > SHOWN {
        output.warn(format!("and {} more: --json and the sealed record name them all", report.problems.len() - SHOWN));
    }
    verdict(output, &report.details);
    output.say(format!("{FAINT}attested as drill/{}, run {}{FAINT:#}", report.sequence, report.run));
    Ok(match (report.outcome, report.details.passed) {
        (Outcome::Failed, _) => Exit::Damage,
        (_, false) => Exit::ObjectiveMissed,
        (_, true) => Exit::Done,
    })
}

/// What machines are told: everything that is attested.
fn document(details: &DrillDetails, outcome: Outcome, more: &Value) -> Value {
    let mut document = json!({ "chain": "drill", "outcome": outcome });
    let details = json!(details);
    for from in [&details, more] {
        if let (Some(document), Some(from)) = (document.as_object_mut(), from.as_object()) {
            document.extend(from.clone());
        }
    }
    document
}

fn seconds(s: f64) -> String {
    if s < 60.0 { format!("{s:.1} s") } else { spoken(SignedDuration::try_from_secs_f64(s).unwrap_or(SignedDuration::MAX)) }
}

fn people(output: Output, d: &DrillDetails) {
    output.say(format!(
        "{STRONG}{}{STRONG:#}: {} records destroyed, changed or added in a stand-in, {} changes to bring it back",
        d.scenario,
        grouped(d.destroyed),
        grouped(d.planned)
    ));
    output.say(format!("disaster {}, declared {}, validated {}", at_second(d.disaster), at_second(d.declared), at_second(d.validated)));
    output.say("");
    for step in &d.steps {
        let share = if d.rto_achieved_seconds > 0.0 { 100.0 * step.duration_seconds / d.rto_achieved_seconds } else { 0.0 };
        let share = if step.counts_toward_rto { format!("{share:>5.1} % of the RTO") } else { format!("{FAINT}does not count{FAINT:#}") };
        output.say(format!("  {:<44} {:>12}  {share}", step.name, seconds(step.duration_seconds)));
    }
    output.say("");
    for rpo in &d.rpo {
        let beyond = rpo.objective_seconds.is_some_and(|o| rpo.achieved_seconds.is_none_or(|a| a > o));
        let style = if beyond { BAD } else { GOOD };
        let achieved = rpo.achieved_seconds.map_or_else(|| "nothing to bring back".to_owned(), |a| spoken(SignedDuration::from_secs(a)));
        output.say(format!("  RPO {:<14} {:<20} {style}{achieved:>14}{style:#}", rpo.class, rpo.name));
    }
    for check in &d.checks {
        let style = match check.outcome.as_str() {
            "failed" => BAD,
            "skipped" => FAINT,
            _ => GOOD,
        };
        output.say(format!(
            "  {style}{:<8}{style:#}{:<14} {} of {}",
            check.outcome,
            check.name,
            grouped(check.count - check.failed.min(check.count)),
            grouped(check.count)
        ));
    }
}

fn verdict(output: Output, d: &DrillDetails) {
    let rto = format!("RTO {} of {}", seconds(d.rto_achieved_seconds), spoken(SignedDuration::from_secs(d.rto_objective_seconds)));
    if let Some(earlier) = &d.earlier {
        let word = if earlier.passed { "passed" } else { "did not pass" };
        output.say(format!(
            "{FAINT}the drill before, of {}, {word} with an RTO of {}{FAINT:#}",
            at_second(earlier.finished),
            seconds(earlier.rto_achieved_seconds)
        ));
    }
    let failed = d.checks.iter().any(|c| c.outcome == "failed");
    let (style, word) = match (failed, d.passed) {
        (true, _) => (BAD, "failed"),
        (_, false) => (DOUBT, "an objective was missed"),
        (_, true) => (GOOD, "passed"),
    };
    output.say(format!("{style}{word}{style:#}: {rto}"));
}

fn list(context: &Context) -> Result<Exit, CliError> {
    let (ledger, _) = context.ledger()?;
    let view = ledger.chain_since(&ChainName::drill(), u64::MAX)?;
    let drills = view.attested.iter().rev().filter(|a| a.statement.kind == Kind::Drill);
    let output = context.output;
    let mut none = true;
    for (attested, d) in drills.filter_map(|a| Some((a, a.statement.predicate.details::<DrillDetails>().ok()?))) {
        none = false;
        let p = &attested.statement.predicate;
        let worst = d.rpo.iter().filter(|r| r.objective_seconds.is_some()).filter_map(|r| r.achieved_seconds).max();
        output.json(&json!({
            "run": p.run, "sequence": p.sequence, "scenario": d.scenario, "finished": p.finished, "outcome": p.outcome, "passed": d.passed,
            "rto_achieved_seconds": d.rto_achieved_seconds, "rto_objective_seconds": d.rto_objective_seconds, "worst_rpo_seconds": worst,
        }));
        let (style, word) = if d.passed { (GOOD, "passed") } else { (BAD, "not passed") };
        output.tell(format!(
            "{:<38}{:<28}{:<22}{style}{word:<12}{style:#}RTO {:<12} worst RPO {}",
            p.run.to_string(),
            d.scenario,
            at_second(p.finished),
            seconds(d.rto_achieved_seconds),
            worst.map_or_else(|| "none".to_owned(), |w| spoken(SignedDuration::from_secs(w)))
        ));
    }
    if none {
        output.say("no drill was ever attested; `backstop drill` holds one");
    }
    Ok(Exit::Done)
}

fn show(context: &Context, run: Option<&str>) -> Result<Exit, CliError> {
    let (ledger, _) = context.ledger()?;
    let attested: Attested = match run {
        Some(run) => select::find(&ledger, run, Some(Kind::Drill))?,
        None => {
            let view = ledger.chain_until(&ChainName::drill(), |a| a.statement.kind == Kind::Drill)?;
            let newest = view.attested.into_iter().rev().find(|a| a.statement.kind == Kind::Drill);
            newest.ok_or_else(|| CliError::new(Exit::Usage, "no drill was ever attested").hint("`backstop drill` holds one"))?
        }
    };
    let p = &attested.statement.predicate;
    let details = p.details::<DrillDetails>().ok().filter(|_| attested.statement.kind == Kind::Drill);
    let details = details
        .ok_or_else(|| CliError::new(Exit::Usage, format!("the run {} is no drill", p.run)).hint("`backstop drill ls` shows them"))?;
    context.output.json(&document(&details, p.outcome, &json!({ "run": p.run, "sequence": p.sequence, "finished": p.finished })));
    people(context.output, &details);
    verdict(context.output, &details);
    Ok(Exit::Done)
}
