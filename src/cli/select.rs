//! Which run is meant: `latest`, a source or stream, `NAME~2`, `CHAIN/42`, a run id or its beginning.

use std::collections::HashSet;

use jiff::Timestamp;

use super::exit::{CliError, Exit};
use crate::vault::attestation::{Kind, Outcome, SnapshotDetails};
use crate::vault::names::{ChainName, ShortName};
use crate::vault::{Attested, Ledger};

/// So many numbers without an attestation are looked for.
const MOST_UNUSABLE: usize = 1000;

/// How runs may be named, for help texts.
pub const RUN_HELP: &str =
    "A run: its id or the beginning of it, `latest`, a source's name, `NAME~1` for the one before, or `CHAIN/NUMBER`";

/// Which names there are, as advice after one that there is not.
pub fn there_are(names: &[impl AsRef<str>]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    if names.is_empty() { "it has none yet".into() } else { format!("it has: {}", names.join(", ")) }
}

/// Finds the run that a text means.
pub fn find(ledger: &Ledger, text: &str, want: Option<Kind>) -> Result<Attested, CliError> {
    let none = |why: String| CliError::new(Exit::Usage, why).hint("`backstop ls` shows every run");
    let counts = |a: &Attested| {
        want.is_none_or(|kind| a.statement.kind == kind)
            && a.statement.predicate.outcome != Outcome::Failed
            && a.statement.kind != Kind::Heartbeat
    };
    if let Some((chain, number)) = text.split_once('/')
        && let (Ok(chain), Ok(number)) = (chain.parse::<ChainName>(), number.parse::<u64>())
    {
        let view = ledger.chain_until(&chain, |a| a.sequence() <= number)?;
        let found = view.attested.into_iter().find(|a| a.sequence() == number);
        return found.ok_or_else(|| none(format!("there is no valid attestation {text}")));
    }
    let (name, back) = match text.rsplit_once('~') {
        Some((name, back)) => {
            (name, back.parse::<usize>().map_err(|_| none(format!("{text:?} is not a run: after ~ stands how many runs before")))?)
        }
        None => (text, 0),
    };
    let chains = ledger.chains()?;
    let of_name =
        |chain: &ChainName| name.parse::<ShortName>().is_ok_and(|n| *chain == ChainName::snapshot(&n) || *chain == ChainName::export(&n));
    let meant: Vec<&ChainName> = match name {
        "latest" => chains
            .iter()
            .filter(
                |c| if want == Some(Kind::Snapshot) { c.source().is_some() } else { c.as_str() != "vault" && c.as_str() != "checkpoint" },
            )
            .collect(),
        _ => chains.iter().filter(|c| of_name(c) || c.as_str() == name).collect(),
    };
    if !meant.is_empty() {
        let mut runs: Vec<Attested> = Vec::new();
        for chain in &meant {
            let mut left = back + 1;
            let view = ledger.chain_until(chain, |a| {
                left = left.saturating_sub(usize::from(counts(a)));
                left == 0
            })?;
            runs.extend(view.attested.into_iter().filter(|a| counts(a)));
        }
        // By commit: of two runs that began at the same time either may have been first.
        runs.sort_by_key(|a| std::cmp::Reverse((a.statement.predicate.finished, a.sequence())));
        if name == "latest" && want == Some(Kind::Snapshot) {
            let mut sources: Vec<&str> = meant.iter().map(|c| c.as_str()).collect();
            sources.dedup();
            if sources.len() > 1 {
                let names: Vec<String> = meant.iter().filter_map(|c| c.source()).map(|s| s.to_string()).collect();
                return Err(none(format!("`latest` is not clear: there are snapshots of {}; name the source", names.join(", "))));
            }
        }
        return runs.into_iter().nth(back).ok_or_else(|| none(format!("there is no run {text:?} that counts")));
    }
    if name == "latest" {
        return Err(none("the vault has no snapshot yet: `backstop snapshot` takes one".into()));
    }
    if text.len() < 8 {
        return Err(none(format!("there is no source, stream or run {text:?}; a run's id needs at least its first 8 digits")));
    }
    let mut found = Vec::new();
    for chain in &chains {
        let view = ledger.chain(chain)?;
        found.extend(view.attested.into_iter().filter(|a| a.statement.predicate.run.to_string().starts_with(text)));
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(none(format!("there is no run {text:?}"))),
        n => Err(none(format!("{n} runs begin with {text:?}: write more of the id"))),
    }
}

/// Finds the snapshot that a text means.
pub fn snapshot(ledger: &Ledger, text: &str) -> Result<Attested, CliError> {
    let found = find(ledger, text, Some(Kind::Snapshot))?;
    if found.statement.kind != Kind::Snapshot {
        return Err(CliError::new(Exit::Usage, format!("{text:?} is a {}, not a snapshot", found.statement.kind)));
    }
    Ok(found)
}

/// The numbers between a snapshot and the next one whose attestations cannot be used: one of them may have been nearer to
/// what was asked for.
pub fn unusable_after(ledger: &Ledger, snapshot: &Attested) -> Result<Vec<u64>, CliError> {
    let own = snapshot.sequence();
    let view = ledger.chain_until(&snapshot.statement.predicate.chain, |a| a.sequence() <= own)?;
    let later = view.attested.iter().filter(|a| a.sequence() > own);
    let counts = |a: &&Attested| a.statement.kind == Kind::Snapshot && a.statement.predicate.outcome != Outcome::Failed;
    let next = later.clone().filter(counts).map(Attested::sequence).min().unwrap_or(u64::MAX);
    // What whoever came next found unusable was never committed, or is made up for.
    let skipped: HashSet<u64> = later.clone().flat_map(|a| a.statement.predicate.skipped.iter().copied()).collect();
    let usable: HashSet<u64> = later.map(Attested::sequence).collect();
    // What was cut off at the end is known to the newest checkpoint alone.
    let seen = usable.iter().copied().chain(view.voids.iter().map(|v| v.sequence)).max().unwrap_or(own);
    let head = seen.max(ledger.checkpointed_head(&snapshot.statement.predicate.chain)?.unwrap_or(0));
    let between = own + 1..next.min(head.saturating_add(1));
    Ok(between.filter(|n| !skipped.contains(n) && !usable.contains(n)).take(MOST_UNUSABLE).collect())
}

/// Finds the newest recovery point of a source at or before an instant: by the instant up to which its state is known.
/// Without a name the vault must have one source only.
pub fn snapshot_at(ledger: &Ledger, name: Option<&str>, at: Timestamp) -> Result<Attested, CliError> {
    let none = |why: String| CliError::new(Exit::Usage, why);
    let chains = ledger.chains()?;
    let sources: Vec<(ShortName, &ChainName)> = chains.iter().filter_map(|c| Some((c.source()?, c))).collect();
    let names: Vec<&str> = sources.iter().map(|(s, _)| s.as_str()).collect();
    let chain = match (name, sources.as_slice()) {
        (Some(name), _) => sources.iter().find(|(s, c)| s.as_str() == name || c.as_str() == name).map(|(_, c)| *c),
        (None, [(_, one)]) => Some(*one),
        (None, []) => return Err(none("the vault has no snapshot yet".into()).hint("`backstop snapshot` takes one")),
        (None, _) => return Err(none("--at needs the name of a source".into()).hint(there_are(&names))),
    };
    let said = name.unwrap_or_default();
    let chain = chain.ok_or_else(|| none(format!("with --at stands a source, and {said:?} is none")).hint(there_are(&names)))?;
    let point = |a: &Attested| -> Option<Timestamp> {
        let p = &a.statement.predicate;
        let counts = a.statement.kind == Kind::Snapshot && p.outcome != Outcome::Failed;
        p.details::<SnapshotDetails>().ok().filter(|_| counts).map(|d| d.captured)
    };
    // A run that dropped out may be attested later than one that began after it: so all of the chain is looked at.
    let points = ledger.chain_since(chain, u64::MAX)?.attested.into_iter().filter_map(|a| Some((point(&a)?, a)));
    let (mut found, mut first): (Option<(Timestamp, Attested)>, Option<Timestamp>) = (None, None);
    for (captured, attested) in points {
        first = Some(first.map_or(captured, |f: Timestamp| f.min(captured)));
        if captured <= at && found.as_ref().is_none_or(|(best, _)| captured >= *best) {
            found = Some((captured, attested));
        }
    }
    let first = first.map_or_else(|| "it has none at all".to_owned(), |first| format!("its first is of {first}"));
    found.map(|(_, attested)| attested).ok_or_else(|| none(format!("{chain} has no recovery point at or before {at}: {first}")))
}
