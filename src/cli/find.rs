//! `backstop find`.

use clap::Args;
use serde_json::{Value, json};

use super::context::{Context, threads};
use super::exit::{CliError, Exit};
use super::output::{DOUBT, FAINT, at_second, shown};
use super::{restore, select};
use crate::restore::{Thaw, find};
use crate::source::PathGlobs;
use crate::vault::Attested;
use crate::vault::names::ChainName;

#[derive(Args)]
pub struct FindArgs {
    /// Part of a name, a user principal name, an id or a path, whatever its case
    name: String,
    /// Only in this run; the newest of every source unless said
    #[arg(long, value_name = "RUN", conflicts_with = "at")]
    run: Option<String>,
    /// In the newest recovery points at or before this instant
    #[arg(long, value_name = "T")]
    at: Option<String>,
}

pub fn run(context: &Context, args: &FindArgs) -> Result<Exit, CliError> {
    if args.name.trim().is_empty() {
        return Err(
            CliError::new(Exit::Usage, "an empty name fits everything").hint("`backstop show RUN --identity FILE` lists a whole run")
        );
    }
    let at = args.at.as_ref().map(|text| restore::instant("at", text)).transpose()?;
    let (ledger, _) = context.ledger()?;
    let runs: Vec<Attested> = match &args.run {
        Some(text) => vec![select::snapshot(&ledger, text)?],
        None => {
            let chains = ledger.chains()?;
            let sources = chains.iter().filter_map(ChainName::source);
            let newest = |source: &str| match at {
                Some(at) => select::snapshot_at(&ledger, Some(source), at),
                None => select::snapshot(&ledger, source),
            };
            // A source without any recovery point then has nothing to find in.
            let (found, none): (Vec<_>, Vec<_>) = sources.map(|s| newest(s.as_str())).partition(Result::is_ok);
            let mut none: Vec<CliError> = none.into_iter().filter_map(Result::err).collect();
            // A store that does not answer is another matter.
            if let Some(at) = none.iter().position(|e| e.exit != Exit::Usage) {
                return Err(none.swap_remove(at));
            }
            let mut none = none.into_iter();
            match (found.is_empty(), none.next()) {
                (true, Some(e)) => return Err(e),
                (true, None) => {
                    return Err(CliError::new(Exit::Usage, "the vault has no snapshot yet").hint("`backstop snapshot` takes one"));
                }
                (false, e) => e
                    .into_iter()
                    .chain(none)
                    .for_each(|e| context.output.warn(format!("{DOUBT}not searched:{DOUBT:#} {}", e.causes.join(": ")))),
            }
            found.into_iter().filter_map(Result::ok).collect()
        }
    };
    let identities = context.identities(&ledger)?;
    let everything = PathGlobs::new(&[]).map_err(|e| CliError::new(Exit::Failed, e.to_string()))?;
    let output = context.output;
    let (mut count, mut damaged) = (0, false);
    for attested in &runs {
        let p = &attested.statement.predicate;
        restore::Lacks::of(p).tell(context, p.run);
        let progress = output.monitor("searching");
        // What lies in the archive tier is not lost.
        let thaw = Thaw { ledger: &ledger, priority: None, wait: false, monitor: &progress };
        thaw.snapshot(&identities, &p.chain, p.run, &everything)?;
        let report = find(&ledger, &identities, (&p.chain, p.run), &args.name, threads());
        progress.finish();
        let report = report?;
        for found in &report.found {
            let mut value = json!({ "run": p.run, "source": p.chain.source() });
            if let (Value::Object(into), Ok(Value::Object(from))) = (&mut value, serde_json::to_value(found)) {
                into.extend(from);
            }
            output.json(&value);
            let name = found.name.as_deref().map(|n| format!("  {FAINT}{}{FAINT:#}", shown(n))).unwrap_or_default();
            output.tell(format!("{}{name}", shown(&found.path)));
        }
        count += report.found.len();
        damaged |= !report.failed.is_empty();
        restore::lost(context, &report.failed);
        output.say(format!("{FAINT}{} in the run {} of {}, {}{FAINT:#}", report.found.len(), p.run, p.chain, at_second(p.started)));
    }
    match (damaged, count) {
        (true, _) => Ok(Exit::Damage),
        (false, 0) => Err(CliError::new(Exit::Failed, format!("nothing is called {:?}", args.name))
            .hint("only the newest recovery points were searched: --at T or --run RUN looks into earlier ones")),
        (false, _) => Ok(Exit::Done),
    }
}
