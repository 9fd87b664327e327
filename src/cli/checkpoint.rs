//! `backstop checkpoint`.

use clap::Args;
use serde_json::json;
use serde_saphyr::Spanned;

use super::context::Context;
use super::exit::{CliError, Exit};
use super::output::{FAINT, GOOD};
use crate::backup::{CheckpointReport, DueChain, checkpoint, checkpoint_is_due, write_heartbeats};
use crate::policy::{JobPolicy, LoadedPolicy, next_due};
use crate::vault::Writer;
use crate::vault::names::ChainName;

#[derive(Args)]
pub struct CheckpointArgs {}

pub fn run(context: &Context, _: &CheckpointArgs) -> Result<Exit, CliError> {
    let (writer, policy) = context.writer()?;
    let report = commit(&writer, &policy)?;
    let output = context.output;
    output.json(&json!({
        "vault": writer.ledger.trust().vault(), "genesis_sha256": writer.ledger.trust().genesis(), "run": report.run,
        "sequence": report.sequence, "sha256": report.sha256, "finished": report.finished, "heads": report.heads,
        "bundle": report.bundle, "bundled": report.bundled,
    }));
    output.say(format!("{GOOD}checkpoint {} {}{GOOD:#}", report.sequence, report.sha256));
    for head in &report.heads {
        output.say(format!("  {:<28} {:>8}  {FAINT}{}{FAINT:#}", head.chain.as_str(), head.sequence, head.sha256));
    }
    output.say("\nKeep it elsewhere: `backstop checkpoint --json > FILE` now and `backstop verify --checkpoint FILE` later\nshow a tail that was cut off and an old vault that was put back.");
    Ok(Exit::Done)
}

fn commit(writer: &Writer, policy: &LoadedPolicy) -> Result<CheckpointReport, CliError> {
    write_heartbeats(writer, &policy.bytes, &due_chains(policy, writer))?;
    Ok(checkpoint(writer, &policy.bytes)?)
}

/// The chains of the policy's sources and streams, and when each is due next.
fn due_chains(policy: &LoadedPolicy, writer: &Writer) -> Vec<DueChain> {
    let now = writer.clock.now();
    let zone = policy.policy.zone();
    let due = |name: &str, of: fn(&JobPolicy) -> &Option<Vec<Spanned<String>>>| {
        let jobs = policy.policy.jobs.values().filter(|j| of(&j.value).iter().flatten().any(|s| s.value == name));
        jobs.filter_map(|j| next_due(&j.value.schedule.value, zone, now)).min()
    };
    let sources = policy.policy.sources.keys().filter_map(|name| {
        let chain = ChainName::snapshot(&name.parse().ok()?);
        Some(DueChain { chain, next_due: due(name, |job| &job.snapshot) })
    });
    let streams = policy.policy.streams.keys().filter_map(|name| {
        let chain = ChainName::export(&name.parse().ok()?);
        Some(DueChain { chain, next_due: due(name, |job| &job.export) })
    });
    sources.chain(streams).collect()
}

/// After a run that committed: the daily checkpoint, if a day has passed since the last one.
pub fn after_a_run(context: &Context, writer: &Writer, policy: &LoadedPolicy) {
    let scheduled = policy.policy.jobs.values().any(|job| job.value.checkpoint.is_some());
    let done = match checkpoint_is_due(writer, scheduled) {
        Ok(false) => return,
        Ok(true) => commit(writer, policy).map(|report| context.output.note(format!("checkpoint {} {}", report.sequence, report.sha256))),
        Err(e) => Err(e.into()),
    };
    if let Err(error) = done {
        context.output.warn(format!("the run is committed, but the daily checkpoint is not: {}", error.causes.join(": ")));
    }
}
