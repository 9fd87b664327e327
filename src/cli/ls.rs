//! `backstop ls`.

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::exit::{CliError, Exit};
use super::output::{BAD, DOUBT, FAINT, GOOD, STRONG, at_second, human_bytes};
use crate::vault::attestation::Outcome;
use crate::vault::names::{ChainName, period_folder};
use crate::vault::{Attested, Ledger};

#[derive(Args)]
pub struct LsArgs {
    /// Only this chain, such as snapshot.entra; or a source's or stream's name
    #[arg(long)]
    chain: Option<String>,
}

pub fn run(context: &Context, args: &LsArgs) -> Result<Exit, CliError> {
    let (ledger, _) = context.ledger()?;
    let chains = ledger.chains()?;
    let wanted: Vec<&ChainName> = match &args.chain {
        None => chains.iter().collect(),
        Some(text) => {
            let fits = |c: &&ChainName| {
                c.as_str() == text || c.source().is_some_and(|s| s.as_str() == text) || c.stream().is_some_and(|s| s.as_str() == text)
            };
            chains.iter().filter(fits).collect()
        }
    };
    if let (Some(text), true) = (&args.chain, wanted.is_empty()) {
        let names: Vec<&str> = chains.iter().map(ChainName::as_str).collect();
        return Err(CliError::new(Exit::Usage, format!("there is no chain {text:?}")).hint(format!("there are: {}", names.join(", "))));
    }
    let mut runs = Vec::new();
    let mut doubtful = 0;
    for chain in wanted {
        let view = ledger.chain(chain)?;
        doubtful += view.voids.len() + view.missing.len();
        runs.extend(view.attested);
    }
    runs.sort_by_key(|a| std::cmp::Reverse((a.statement.predicate.finished, a.sequence(), a.statement.predicate.run)));
    if !runs.is_empty() {
        context.output.tell(format!(
            "{STRONG}{:<36}  {:<22} {:>6}  {:<10} {:<8}  {:<20}  {:>7}  {:>9}  {}{STRONG:#}",
            "run", "chain", "number", "kind", "outcome", "finished", "objects", "stored", "locked until"
        ));
    }
    for run in &runs {
        line(context, &ledger, run);
    }
    if doubtful > 0 {
        context.output.warn(format!("{doubtful} numbers are missing or void: `backstop verify` names them"));
    }
    Ok(Exit::Done)
}

fn line(context: &Context, ledger: &Ledger, attested: &Attested) {
    let p = &attested.statement.predicate;
    let stored: u64 = p.objects.iter().map(|o| o.size).sum();
    let shortest =
        |data: bool| p.objects.iter().filter(|o| period_folder(&o.name).is_some() == data).map(|o| &o.lock).min_by_key(|l| l.until);
    let lock = shortest(true).or_else(|| shortest(false)).or(attested.lock.as_ref());
    let (mode, until) = (lock.map(|l| l.mode), lock.and_then(|l| l.until));
    let mut value = json!({
        "run": p.run, "chain": p.chain, "sequence": p.sequence, "kind": attested.statement.kind, "outcome": p.outcome,
        "started": p.started, "finished": p.finished, "objects": p.objects.len(), "stored_bytes": stored, "lock_mode": mode, "lock_until": until,
    });
    if let Some(source) = p.chain.source() {
        value["source"] = json!(source);
    }
    if let Some(stream) = p.chain.stream() {
        value["stream"] = json!(stream);
    }
    let disposal = p.objects.iter().find_map(|o| ledger.disposal_of(&o.name, &o.sha256));
    if let Some(disposal) = disposal {
        value["disposed"] = json!({ "run": disposal.run, "at": disposal.at });
    }
    context.output.json(&value);
    let style = match p.outcome {
        Outcome::Complete => GOOD,
        Outcome::Partial => DOUBT,
        Outcome::Failed => BAD,
    };
    context.output.tell(format!(
        "{:<36}  {:<22} {:>6}  {:<10} {style}{:<8}{style:#}  {:<20}  {:>7}  {:>9}  {FAINT}{}{FAINT:#}",
        p.run.to_string(),
        p.chain.as_str(),
        p.sequence,
        attested.statement.kind.as_str(),
        p.outcome.to_string(),
        at_second(p.finished),
        p.objects.len(),
        human_bytes(stored),
        match disposal {
            Some(disposal) => format!("disposed of {}", at_second(disposal.at)),
            None => until.map_or_else(|| "not locked".into(), at_second),
        },
    ));
}
