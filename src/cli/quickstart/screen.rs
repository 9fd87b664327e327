//! The last screen: what was protected, what was proved, what was measured, where it is, what to try next.

use jiff::Timestamp;
use serde_json::json;

use super::Proof;
use super::home::{Home, IDENTITY, POLICY};
use super::tools::Recovery;
use crate::cli::context::Context;
use crate::cli::exit::CliError;
use crate::cli::output::{DOUBT, FAINT, GOOD, STRONG, day, grouped, human_bytes};
use crate::policy::{LoadedPolicy, parse_duration};
use crate::store::LockMode;
use crate::vault::attestation::{ExportDetails, Kind, Outcome, SnapshotDetails};
use crate::vault::names::{ChainName, RECOVERY_MD};
use crate::vault::{Attested, Ledger};

/// One source or stream, as the vault's attestations say.
struct Protected {
    name: String,
    what: String,
    /// Of what instant its newest state or event is.
    as_of: Timestamp,
    count: u64,
    stored_bytes: u64,
    locked_until: Option<Timestamp>,
}

fn protected(ledger: &Ledger) -> Result<Vec<Protected>, CliError> {
    let mut out = Vec::new();
    for chain in ledger.chains()? {
        let view = ledger.chain(&chain)?;
        let runs: Vec<&Attested> = view.attested.iter().filter(|a| a.statement.predicate.outcome != Outcome::Failed).collect();
        if let Some(one) = snapshots(&chain, &runs).or_else(|| exports(&chain, &runs)) {
            out.push(one);
        }
    }
    Ok(out)
}

fn sums(runs: &[&Attested]) -> (u64, Option<Timestamp>) {
    let objects = || runs.iter().flat_map(|a| &a.statement.predicate.objects);
    let locked = objects().map(|o| o.lock.until.filter(|_| o.lock.mode != LockMode::None));
    (objects().map(|o| o.size).sum(), locked.min().flatten())
}

fn snapshots(chain: &ChainName, runs: &[&Attested]) -> Option<Protected> {
    let name = chain.source()?.to_string();
    let newest = runs.iter().rev().find(|a| a.statement.kind == Kind::Snapshot)?;
    let details: SnapshotDetails = newest.statement.predicate.details().ok()?;
    let (stored_bytes, locked_until) = sums(runs);
    let count = details.entries;
    let of = details.collections.len();
    let what = format!("{} records{}", grouped(count), if of > 1 { format!(", {of} collections") } else { String::new() });
    Some(Protected { name, what, as_of: details.captured, count, stored_bytes, locked_until })
}

fn exports(chain: &ChainName, runs: &[&Attested]) -> Option<Protected> {
    let name = chain.stream()?.to_string();
    let windows: Vec<ExportDetails> = runs.iter().filter_map(|a| a.statement.predicate.details::<ExportDetails>().ok()).collect();
    let last = windows.iter().rev().find_map(|d| d.window)?;
    let first = windows.iter().find_map(|d| d.window)?;
    let count = windows.iter().map(|d| d.events).sum();
    let (stored_bytes, locked_until) = sums(runs);
    let days = (last.to.duration_since(first.from).as_secs_f64() / 86_400.0).ceil();
    let what = format!("{} events of {days:.0} {}", grouped(count), if days > 1.0 { "days" } else { "day" });
    Some(Protected { name, what, as_of: last.to, count, stored_bytes, locked_until })
}

pub(super) fn show(context: &Context, home: &Home, ledger: &Ledger, proof: &Proof, seconds: f64) -> Result<(), CliError> {
    let now = Timestamp::now();
    let all = protected(ledger)?;
    let output = context.output;
    let age = |p: &Protected| now.duration_since(p.as_of).as_secs_f64();
    let objectives = LoadedPolicy::load(std::path::Path::new(POLICY))?.policy.objectives;
    let (rpo, rto) = (&objectives.rpo.value, &objectives.rto.value);
    output.json(&json!({
        "dir": home.path("."), "policy": home.path("backstop.yaml"), "vault": if home.in_azure() { ledger.store().describe() } else { home.path("vault").display().to_string() }, "restored": home.path("restored"),
        "damaged": home.path("damaged"), "damaged_object": proof.damaged_object, "genesis_sha256": ledger.trust().genesis(),
        "protected": all.iter().map(|p| json!({
            "name": p.name, "count": p.count, "stored_bytes": p.stored_bytes, "lock_until": p.locked_until,
            "rpo_achieved_seconds": age(p), "rpo_objective_seconds": parse_duration(rpo),
        })).collect::<Vec<_>>(),
        "restored_records": proof.restored, "compared_records": proof.compared, "attestations": proof.attestations, "objects": proof.objects,
        "snapshot_seconds": proof.snapshot_seconds, "export_seconds": proof.export_seconds, "delta_seconds": proof.delta_seconds,
        "restore_seconds": proof.restore_seconds,
        "recovered_with_tools": matches!(proof.tools, Recovery::Done { .. }), "duration_seconds": seconds,
    }));
    let line = |text: String| output.say(format!("  {text}"));
    output.say(format!("\n{STRONG}What was protected{STRONG:#}  {FAINT}and until when it is locked{FAINT:#}"));
    for p in &all {
        let lock = p.locked_until.map_or_else(|| format!("{DOUBT}not locked{DOUBT:#}"), |until| format!("until {}", day(until)));
        line(format!("{:<17} {:<30} {:>9}  {lock}", p.name, p.what, human_bytes(p.stored_bytes)));
    }
    output.say(format!("\n{STRONG}What was proved{STRONG:#}"));
    let yes = format!("{GOOD}yes{GOOD:#}");
    line(format!("{yes}  nothing is missing and nothing was changed: {} attestations and", grouped(proof.attestations)));
    line(format!("     {} objects, checked without a key", grouped(proof.objects)));
    line(format!("{yes}  it restores: {} records equal to what the tenant served", grouped(proof.compared)));
    line(format!("{yes}  damage is found: one flipped byte was named"));
    match &proof.tools {
        Recovery::Done { .. } => line(format!("{yes}  it needs no backstop: age, zstd, tar and jq brought it back")),
        other => {
            line(format!("{DOUBT}no{DOUBT:#}   recovery by ordinary tools was"));
            line(format!("     {}", other.told()));
        }
    }
    if home.without_locks() {
        line(format!("{DOUBT}no{DOUBT:#}   nothing is locked: this store takes locks and ignores them, so whoever may"));
        line("     write can delete all of it. That is fine for a trial, and for nothing else".into());
    }
    output.say(format!("\n{STRONG}Measured here{STRONG:#}"));
    let worst = |streams: bool| all.iter().filter(|p| p.what.contains(" events of ") == streams).map(age).fold(0.0, f64::max);
    line(format!("RPO now       configuration {}, logs {} (objective {rpo})", spoken(worst(false)), spoken(worst(true))));
    line(format!("restore time  {} for {} records (objective {rto})", spoken(proof.restore_seconds), grouped(proof.restored)));
    line(format!(
        "backup time   {} full, {} changes, {} logs",
        spoken(proof.snapshot_seconds),
        spoken(proof.delta_seconds),
        spoken(proof.export_seconds)
    ));
    output.say(format!("\n{STRONG}Where it is{STRONG:#}  {FAINT}{}{FAINT:#}", home.path("").display()));
    line("backstop.yaml    the policy       keys/       identities and signing keys".into());
    if home.in_azure() {
        line(format!("the backups are in {}", ledger.store().describe()));
        line("vault/           a download      restored/   what came back".into());
    } else {
        line("vault/           the backups      restored/   what came back".into());
    }
    line(format!("damaged/         the bad copy     vault/{RECOVERY_MD}"));
    output.say(format!("\n{STRONG}Try next{STRONG:#}  {FAINT}in that directory{FAINT:#}"));
    line("backstop ls".into());
    line(format!("backstop show entra --identity {IDENTITY}"));
    line(format!("backstop diff entra~1 entra --identity {IDENTITY} --html diff.html"));
    line("backstop quickstart --dir . --serve      goes on from here".into());
    line("For your own tenant: policies/production.yaml".into());
    output.say(format!("{FAINT}all of this took {seconds:.0} s{FAINT:#}"));
    Ok(())
}

/// A duration as people say it.
fn spoken(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s => format!("{:.0} min", s / 60.0),
    }
}
