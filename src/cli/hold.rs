//! `backstop hold add`, `hold remove` and `hold ls`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::context::Context;
use super::exit::{CliError, Exit};
use super::output::{BAD, DOUBT, FAINT, GOOD, STRONG, at_second, grouped, shown};
use super::restore::instant;
use super::select;
use crate::retention::{HOLD_BATCH, HoldJob, HoldLine, LiftJob, add_hold, list_holds, remove_hold};
use crate::vault::names::{RunId, ShortName};
use crate::vault::{HoldScope, HoldState, Ledger};

#[derive(Subcommand)]
pub enum HoldCommand {
    /// Keep everything in a scope until an operator removes the hold; nothing said is the whole vault
    Add(AddArgs),
    /// End a hold; what another hold covers stays held
    Remove(RemoveArgs),
    /// List holds, the oldest first
    Ls,
}

#[derive(Args)]
pub struct AddArgs {
    /// Only the snapshots of this source
    #[arg(long, value_name = "NAME", conflicts_with_all = ["stream", "run"])]
    source: Option<String>,
    /// Only the logs of this stream
    #[arg(long, value_name = "NAME", conflicts_with = "run")]
    stream: Option<String>,
    /// Only what this run needs
    #[arg(long, value_name = "RUN", help = select::RUN_HELP, conflicts_with_all = ["from", "to"])]
    run: Option<String>,
    /// Only what reaches past this instant (RFC 3339, or a date in UTC); of snapshots whole epochs
    #[arg(long, value_name = "T")]
    from: Option<String>,
    /// Only what begins before this instant
    #[arg(long, value_name = "T")]
    to: Option<String>,
    /// Extend locks to this instant too; the hold lasts until it is removed all the same
    #[arg(long, value_name = "T")]
    until: Option<String>,
    #[command(flatten)]
    decision: Decision,
}

#[derive(Args)]
pub struct RemoveArgs {
    /// The hold: its id or the beginning of it
    hold: String,
    #[command(flatten)]
    decision: Decision,
}

#[derive(Args)]
struct Decision {
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// On whose authority
    #[arg(long, value_name = "TEXT")]
    authority: String,
    /// The operator's signing key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

impl Decision {
    fn checked(&self) -> Result<(&str, &str), CliError> {
        for (name, text) in [("reason", &self.reason), ("authority", &self.authority)] {
            if text.trim().is_empty() || text.chars().any(char::is_control) || text.chars().count() > 1000 {
                return Err(CliError::new(Exit::Usage, format!("--{name} needs one line of at most 1000 characters")));
            }
        }
        Ok((self.reason.trim(), self.authority.trim()))
    }
}

pub fn run(context: &Context, command: &HoldCommand) -> Result<Exit, CliError> {
    match command {
        HoldCommand::Add(args) => add(context, args),
        HoldCommand::Remove(args) => remove(context, args),
        HoldCommand::Ls => ls(context),
    }
}

fn scope(ledger: &Ledger, args: &AddArgs) -> Result<HoldScope, CliError> {
    let name = |text: &Option<String>| -> Result<Option<ShortName>, CliError> {
        text.as_ref().map(|t| t.parse()).transpose().map_err(|e| CliError::new(Exit::Usage, format!("{e}")))
    };
    let at = |name: &str, text: &Option<String>| text.as_ref().map(|t| instant(name, t)).transpose();
    let run = args.run.as_ref().map(|text| select::find(ledger, text, None)).transpose()?;
    let scope = HoldScope {
        source: name(&args.source)?,
        stream: name(&args.stream)?,
        run: run.map(|r| r.statement.predicate.run),
        from: at("from", &args.from)?,
        to: at("to", &args.to)?,
    };
    if scope.from.zip(scope.to).is_some_and(|(from, to)| from >= to) {
        return Err(CliError::new(Exit::Usage, "--from must lie before --to"));
    }
    Ok(scope)
}

fn add(context: &Context, args: &AddArgs) -> Result<Exit, CliError> {
    let (reason, authority) = args.decision.checked()?;
    let (writer, policy) = context.operator(&args.decision.key)?;
    let scope = scope(&writer.ledger, args)?;
    let until = args.until.as_ref().map(|t| instant("until", t)).transpose()?;
    let progress = context.output.monitor("holding");
    let job = HoldJob { writer: &writer, policy: &policy.bytes, scope, until, reason, authority, batch: HOLD_BATCH, monitor: &progress };
    let report = add_hold(&job);
    progress.finish();
    let report = report?;
    let output = context.output;
    output.json(&json!({
        "hold": report.hold, "sequence": report.sequence, "scope": job.scope, "reason": reason, "authority": authority, "until": until,
        "objects": report.objects, "newly_held": report.newly_held, "extended": report.extended, "missing": report.missing,
    }));
    let extended = if report.extended > 0 { format!(", {} locks extended", grouped(report.extended)) } else { String::new() };
    output.say(format!(
        "{GOOD}hold {}{GOOD:#}: {} objects are held, {} of them since now{extended}\nIt lasts until `backstop hold remove {}`.",
        report.hold,
        grouped(report.objects),
        grouped(report.newly_held),
        report.hold
    ));
    for name in &report.missing {
        output.warn(format!("{BAD}missing{BAD:#} {}: the store has lost it, and it cannot be held", shown(name)));
    }
    Ok(if report.missing.is_empty() { Exit::Done } else { Exit::Damage })
}

/// The hold that a text means.
fn meant(ledger: &Ledger, text: &str) -> Result<RunId, CliError> {
    let found: Vec<RunId> = ledger.holds().into_iter().map(|h| h.hold).filter(|h| h.to_string().starts_with(text)).collect();
    let none = |why: String| Err(CliError::new(Exit::Usage, why).hint("`backstop hold ls` shows every hold"));
    match found.as_slice() {
        [one] if text.len() >= 8 => Ok(*one),
        [] => none(format!("there is no hold {text:?}")),
        _ => none(format!("{text:?} is not clear: write more of the hold's id")),
    }
}

fn remove(context: &Context, args: &RemoveArgs) -> Result<Exit, CliError> {
    let (reason, authority) = args.decision.checked()?;
    let (writer, policy) = context.operator(&args.decision.key)?;
    let hold = meant(&writer.ledger, &args.hold)?;
    let progress = context.output.monitor("letting go");
    let report = remove_hold(&LiftJob { writer: &writer, policy: &policy.bytes, hold, reason, authority, monitor: &progress });
    progress.finish();
    let report = report?;
    let output = context.output;
    output.json(&json!({
        "hold": hold, "sequence": report.sequence, "reason": reason, "authority": authority, "lifted": report.lifted,
        "kept_by_others": report.kept,
    }));
    let kept = if report.kept > 0 { format!("; {} stay, since another hold covers them", grouped(report.kept)) } else { String::new() };
    output.say(format!("{GOOD}hold {hold} is removed{GOOD:#}: {} objects are held no longer{kept}", grouped(report.lifted)));
    Ok(Exit::Done)
}

fn ls(context: &Context) -> Result<Exit, CliError> {
    let (ledger, _) = context.ledger()?;
    let holds = list_holds(&ledger)?;
    if holds.is_empty() {
        context.output.say("There is no hold.");
    }
    for line in &holds {
        tell(context, line);
    }
    Ok(Exit::Done)
}

fn tell(context: &Context, HoldLine { hold, state, objects }: &HoldLine) {
    let output = context.output;
    let mut value = json!({
        "hold": hold.hold, "scope": hold.scope, "reason": hold.reason, "authority": hold.authority, "since": hold.since, "until": hold.until,
        "objects": objects, "state": state,
    });
    if let Some(lifted) = &hold.lifted {
        value["removed"] = json!({ "at": lifted.at, "reason": lifted.reason, "authority": lifted.authority });
    }
    output.json(&value);
    let (style, word) = match state {
        HoldState::Active => (GOOD, "active"),
        HoldState::Ended => (DOUBT, "ended"),
        HoldState::Removed => (FAINT, "removed"),
    };
    let until = hold.until.map_or_else(String::new, |until| format!(" until {}", at_second(until)));
    output.tell(format!(
        "{STRONG}{}{STRONG:#}  {style}{word:<7}{style:#}  {} objects  {}",
        hold.hold,
        grouped(*objects),
        scope_text(&hold.scope)
    ));
    output.tell(format!("  since {}{until}: {} ({})", at_second(hold.since), shown(&hold.reason), shown(&hold.authority)));
    if let Some(lifted) = &hold.lifted {
        output.tell(format!("  removed {}: {} ({})", at_second(lifted.at), shown(&lifted.reason), shown(&lifted.authority)));
    }
    if *state == HoldState::Ended {
        output.tell(format!("  its instant has passed; it holds until `backstop hold remove {}`", hold.hold));
    }
}

fn scope_text(scope: &HoldScope) -> String {
    let what = match (&scope.source, &scope.stream, &scope.run) {
        (Some(source), _, _) => format!("source {source}"),
        (_, Some(stream), _) => format!("stream {stream}"),
        (_, _, Some(run)) => format!("run {run}"),
        _ => "the whole vault".to_owned(),
    };
    let from = scope.from.map_or_else(String::new, |t| format!(" from {}", at_second(t)));
    let to = scope.to.map_or_else(String::new, |t| format!(" to {}", at_second(t)));
    format!("{what}{from}{to}")
}
