//! `backstop diff`.

use clap::Args;
use serde_json::Value;

use super::context::Context;
use super::exit::{CliError, Exit};
use super::output::{BAD, DOUBT, FAINT, GOOD, shown};
use super::select;
use crate::restore::{Change, RecordChange, diff};

#[derive(Args)]
pub struct DiffArgs {
    #[arg(help = select::RUN_HELP)]
    a: String,
    /// The later one
    b: String,
    /// Only the paths, without attributes
    #[arg(long)]
    names_only: bool,
}

pub fn run(context: &Context, args: &DiffArgs) -> Result<Exit, CliError> {
    let (ledger, _) = context.ledger()?;
    let a = select::snapshot(&ledger, &args.a)?.statement.predicate;
    let b = select::snapshot(&ledger, &args.b)?.statement.predicate;
    let identities = context.identities(&ledger)?;
    let report = diff(&ledger, &identities, (&a.chain, a.run), (&b.chain, b.run))?;
    let output = context.output;
    let mut counts = [0u64; 3];
    for change in &report.changes {
        counts[match change.change {
            Change::Added => 0,
            Change::Removed => 1,
            Change::Changed => 2,
        }] += 1;
        output.json(change);
        render(context, change, args.names_only);
    }
    for failed in &report.failed {
        let what = failed.path.as_deref().or(failed.object.as_deref()).unwrap_or_default();
        output.warn(format!("{}: {}", shown(what), failed.message));
    }
    let [added, removed, changed] = counts;
    output.say(format!(
        "{FAINT}{} → {}:{FAINT:#} {GOOD}{added} added{GOOD:#}, {BAD}{removed} removed{BAD:#}, {DOUBT}{changed} changed{DOUBT:#}",
        a.run, b.run
    ));
    output.note(format!("{} sealed objects were opened", report.objects_read));
    Ok(if report.failed.is_empty() { Exit::Done } else { Exit::Damage })
}

fn render(context: &Context, change: &RecordChange, names_only: bool) {
    let (style, sign) = match change.change {
        Change::Added => (GOOD, '+'),
        Change::Removed => (BAD, '-'),
        Change::Changed => (DOUBT, '~'),
    };
    context.output.tell(format!("{style}{sign} {}{style:#}", shown(&change.path)));
    if names_only {
        return;
    }
    for attribute in &change.attributes {
        let value = |v: &Option<Value>, style: anstyle::Style| match v {
            Some(v) => format!("{style}{}{style:#}", shown(&v.to_string())),
            None => format!("{FAINT}(none){FAINT:#}"),
        };
        let (from, to) = (value(&attribute.from, BAD), value(&attribute.to, GOOD));
        context.output.tell(format!("    {}: {from} → {to}", shown(&attribute.pointer)));
    }
}
