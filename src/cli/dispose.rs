//! `backstop dispose plan`, `dispose approve` and `dispose apply`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::context::Context;
use super::exit::{CliError, Exit};
use super::init::write_new;
use super::output::{BAD, FAINT, GOOD, STRONG, at_second, day, grouped, human_bytes, shown};
use crate::retention::{ApplyJob, Plan, PlanFile, PlanFilter, Reason, apply, make_plan};
use crate::vault::Ledger;
use crate::vault::keys::Signer;
use crate::vault::names::ShortName;

/// No plan file is larger, in bytes.
const LARGEST: u64 = 256 << 20;
/// So many objects that were not removed are named for people.
const SHOWN: usize = 20;

#[derive(Subcommand)]
pub enum DisposeCommand {
    /// List whole epochs and log months past all their locks and under no hold; changes nothing
    Plan(PlanArgs),
    /// Add an operator's signed approval to a plan; two different operators are needed
    Approve(ApproveArgs),
    /// Destroy what a plan names that two operators approved; run again it carries on
    Apply(ApplyArgs),
}

#[derive(Args)]
pub struct PlanArgs {
    /// Where to; must not exist
    #[arg(long, value_name = "PLAN")]
    out: PathBuf,
    /// Only this source
    #[arg(long, value_name = "NAME", conflicts_with = "stream")]
    source: Option<String>,
    /// Only this stream
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
}

#[derive(Args)]
pub struct ApproveArgs {
    /// The plan
    plan: PathBuf,
    /// The approver's signing key, of role operator
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The approver's name and role
    #[arg(long = "as", value_name = "NAME, ROLE")]
    name: String,
}

#[derive(Args)]
pub struct ApplyArgs {
    /// The plan
    plan: PathBuf,
    /// The operator's signing key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

pub fn run(context: &Context, command: &DisposeCommand) -> Result<Exit, CliError> {
    match command {
        DisposeCommand::Plan(args) => plan(context, args),
        DisposeCommand::Approve(args) => approve(context, args),
        DisposeCommand::Apply(args) => destroy(context, args),
    }
}

fn name(text: &Option<String>) -> Result<Option<ShortName>, CliError> {
    text.as_ref().map(|t| t.parse()).transpose().map_err(|e| CliError::new(Exit::Usage, format!("{e}")))
}

fn read(path: &Path, ledger: &Ledger) -> Result<PlanFile, CliError> {
    let usage = |e: std::io::Error| CliError::new(Exit::Usage, format!("cannot read the plan {}: {e}", path.display()));
    if fs::metadata(path).map_err(usage)?.len() > LARGEST {
        return Err(CliError::new(Exit::Usage, format!("{} is too large for a plan", path.display())));
    }
    Ok(PlanFile::read(&fs::read(path).map_err(usage)?, ledger)?)
}

fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::Locked => "are locked still",
        Reason::Held => "are under a legal hold",
        Reason::Needed => "are needed by runs of another epoch",
        Reason::Differs => "are damaged, or their digests are not known: `backstop verify` first",
        Reason::Unfinished => "belong to a disposition that is not finished: apply its plan again",
        Reason::NextPlan => "are for the next plan",
    }
}

fn summary(context: &Context, plan: &Plan) {
    let output = context.output;
    for item in &plan.items {
        let until = item.lock_until.map_or_else(|| "had no lock".to_owned(), |until| format!("last lock ended {}", day(until)));
        output.say(format!(
            "  {:<28} {:<8} {:>8} objects {:>10}  {FAINT}{until}{FAINT:#}",
            item.chain.as_str(),
            shown(&item.period),
            grouped(item.objects.len() as u64),
            human_bytes(item.bytes)
        ));
    }
    for left in &plan.left_out {
        output.say(format!("{FAINT}  {} epochs and months ({} objects) {}{FAINT:#}", left.items, grouped(left.objects), why(left.reason)));
    }
}

fn described(file: &PlanFile, path: &Path) -> Value {
    let approvals: Vec<Value> = file.approvals.iter().map(|a| json!({ "keyid": a.keyid, "name": a.name, "at": a.at })).collect();
    json!({
        "plan": path, "plan_sha256": file.sha256, "created": file.plan.created, "items": file.plan.total.items,
        "objects": file.plan.total.objects, "stored_bytes": file.plan.total.bytes, "left_out": file.plan.left_out, "approvals": approvals,
    })
}

fn plan(context: &Context, args: &PlanArgs) -> Result<Exit, CliError> {
    if args.out.exists() {
        return Err(CliError::new(Exit::Usage, format!("{} exists already", args.out.display())));
    }
    let (ledger, _) = context.ledger()?;
    let filter = PlanFilter { source: name(&args.source)?, stream: name(&args.stream)? };
    let file = PlanFile::new(make_plan(&ledger, filter)?)?;
    write_new(&args.out, &file.to_bytes(), 0o644)?;
    let output = context.output;
    output.json(&described(&file, &args.out));
    let total = file.plan.total;
    output.say(format!(
        "{STRONG}{} objects, {} in {} epochs and months{STRONG:#} are past their retention",
        grouped(total.objects),
        human_bytes(total.bytes),
        total.items
    ));
    summary(context, &file.plan);
    output.say(format!(
        "\nNothing is changed. The plan is {}, SHA-256 {}.\nTwo operators review it and approve:\n  backstop dispose approve {} --key OPERATOR.key --as \"Name, role\"",
        args.out.display(),
        file.sha256,
        args.out.display()
    ));
    Ok(Exit::Done)
}

fn approve(context: &Context, args: &ApproveArgs) -> Result<Exit, CliError> {
    let (ledger, _) = context.ledger()?;
    let signer = Signer::load(&args.key)?;
    let mut file = read(&args.plan, &ledger)?;
    file.approve(&ledger, &signer, &args.name)?;
    write_new(&args.plan, &file.to_bytes(), 0o644)?;
    let output = context.output;
    let valid = file.approved_by(&ledger);
    let mut value = described(&file, &args.plan);
    value["approved_by"] = json!(valid);
    output.json(&value);
    output.say(format!(
        "{GOOD}approved{GOOD:#} as {}: {} objects, {}",
        shown(&args.name),
        grouped(file.plan.total.objects),
        human_bytes(file.plan.total.bytes)
    ));
    summary(context, &file.plan);
    output.say(match valid {
        0 | 1 => "One more operator must approve it.".to_owned(),
        _ => format!("It can be applied: `backstop dispose apply {} --key OPERATOR.key`", args.plan.display()),
    });
    Ok(Exit::Done)
}

fn destroy(context: &Context, args: &ApplyArgs) -> Result<Exit, CliError> {
    let (writer, policy) = context.operator(&args.key)?;
    let file = read(&args.plan, &writer.ledger)?;
    let progress = context.output.monitor("destroying");
    let report = apply(&ApplyJob { writer: &writer, policy: &policy.bytes, file: &file, monitor: &progress });
    progress.finish();
    let report = report?;
    let output = context.output;
    output.json(&json!({
        "run": report.run, "chain": "vault", "sequence": report.sequence, "resumed": report.resumed, "plan_sha256": file.sha256,
        "objects": report.removed.objects, "removed_bytes": report.removed.bytes, "from": report.removed.from, "to": report.removed.to,
        "not_removed": report.not_removed, "certificate_run": report.certificate_run, "certificate": report.certificate,
    }));
    output.say(format!(
        "{GOOD}destroyed{GOOD:#} {} objects, {}, from {} to {}",
        grouped(report.removed.objects),
        human_bytes(report.removed.bytes),
        at_second(report.removed.from),
        at_second(report.removed.to)
    ));
    output.say(format!("The disposition is {} (vault/{}).", report.run, report.sequence));
    if let (Some(run), Some(object)) = (report.certificate_run, &report.certificate) {
        output.say(format!("The certificate is {run}; for people, sealed: {object}"));
    }
    for left in report.not_removed.iter().take(SHOWN) {
        output.warn(format!("{BAD}not destroyed{BAD:#} {}: {}", shown(&left.name), shown(&left.reason)));
    }
    if report.not_removed.len() > SHOWN {
        output.warn(format!("and {} more; --json names them all", report.not_removed.len() - SHOWN));
    }
    Ok(if report.not_removed.is_empty() { Exit::Done } else { Exit::Refused })
}
