//! `backstop verify`.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::context::{Context, threads};
use super::exit::{CliError, Exit};
use super::output::{BAD, DOUBT, FAINT, GOOD, grouped, human_bytes, shown};
use crate::backup::StateDir;
use crate::vault::Ledger;
use crate::verify::{AuditJob, Finding, KeptCheckpoint, Severity, audit};

#[derive(Args)]
pub struct VerifyArgs {
    /// Also open everything and compare every record; needs an identity
    #[arg(long)]
    deep: bool,
    /// A checkpoint that was kept elsewhere: shows a cut-off tail and a replayed vault
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Do not read again what was attested up to this checkpoint
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
    /// Leave out the locks that the store shows: for the audit of a plain copy
    #[arg(long)]
    ignore_locks: bool,
}

fn kept(path: Option<&PathBuf>, ledger: &Ledger) -> Result<Option<KeptCheckpoint>, CliError> {
    let Some(path) = path else { return Ok(None) };
    let usage = |message: String| CliError::new(Exit::Usage, format!("the checkpoint {}: {message}", path.display()));
    let bytes = std::fs::read(path).map_err(|e| usage(e.to_string()))?;
    KeptCheckpoint::read(&bytes, ledger).map(Some).map_err(|e| usage(e.to_string()))
}

pub fn run(context: &Context, args: &VerifyArgs) -> Result<Exit, CliError> {
    let begun = Instant::now();
    let (ledger, policy) = context.ledger()?;
    let (checkpoint, since) = (kept(args.checkpoint.as_ref(), &ledger)?, kept(args.since.as_ref(), &ledger)?);
    let identities = if args.deep { Some(context.identities(&ledger)?) } else { None };
    let progress = context.output.monitor("verifying");
    let report = audit(&AuditJob {
        ledger: &ledger,
        kept: checkpoint.as_ref(),
        since: since.as_ref(),
        deep: identities.as_ref(),
        ignore_locks: args.ignore_locks,
        threads: threads(),
        monitor: &progress,
    });
    progress.finish();
    let report = report?;
    let output = context.output;
    output.json(&json!({
        "ok": report.ok, "deep": report.deep, "attestations": report.attestations, "objects": report.objects,
        "verified_bytes": report.verified_bytes, "records": report.records, "findings": report.findings,
        "checkpoint": report.checkpoint, "heads": report.heads, "genesis_sha256": ledger.trust().genesis(), "duration_seconds": begun.elapsed().as_secs_f64(),
    }));
    for finding in &report.findings {
        show(context, finding);
    }
    if let Some(policy) = policy.filter(|_| !report.ok) {
        distrust(context, &policy, &ledger, &report.findings);
    }
    let depth = if report.deep { format!(", {} records opened and compared", grouped(report.records)) } else { String::new() };
    let counted = format!(
        "{} attestations, {} objects, {} read{depth}",
        grouped(report.attestations),
        grouped(report.objects),
        human_bytes(report.verified_bytes)
    );
    if report.ok {
        output.say(format!("{GOOD}The vault is whole:{GOOD:#} {counted}; {:.1} s", begun.elapsed().as_secs_f64()));
        output.say(format!("{FAINT}genesis {}{FAINT:#}", ledger.trust().genesis()));
        return Ok(Exit::Done);
    }
    let errors = report.findings.iter().filter(|f| f.severity == Severity::Error).count();
    let findings = if errors == 1 { "finding" } else { "findings" };
    output.say(format!("{BAD}{errors} {findings} of damage or tampering{BAD:#} in {counted}"));
    output.say("What is unharmed still restores; `backstop ls` shows the runs, and `restore files` names what is lost of one.");
    Ok(Exit::Damage)
}

fn show(context: &Context, finding: &Finding) {
    let (style, word) = match finding.severity {
        Severity::Error => (BAD, "error"),
        Severity::Warning => (DOUBT, "warning"),
        Severity::Info => (FAINT, "info"),
    };
    let place = match (&finding.object, &finding.chain, finding.sequence) {
        (Some(object), _, _) => shown(object),
        (None, Some(chain), Some(n)) => format!("{chain} {n}"),
        _ => "vault".into(),
    };
    context.output.tell(format!("{style}{word:<8}{style:#}{:<20} {place}\n{:8}{}", finding.kind, "", shown(&finding.message)));
}

/// What the next snapshots build on may be damaged: without local state they write everything anew.
fn distrust(context: &Context, policy: &crate::policy::LoadedPolicy, ledger: &Ledger, findings: &[Finding]) {
    let root = Context::state_dir(policy);
    let harmed = |source: &str| {
        let prefix = [format!("config-snapshots/{source}/"), format!("evidence/{source}/")];
        findings
            .iter()
            .filter(|f| f.severity == Severity::Error)
            .any(|f| f.object.as_ref().is_some_and(|o| prefix.iter().any(|p| o.starts_with(p))))
    };
    for source in policy.policy.sources.keys().filter(|s| harmed(s)) {
        let discarded = StateDir::open(&root, ledger.trust().vault(), source).and_then(|dir| dir.discard());
        match discarded {
            Ok(()) => context.output.warn(format!("{source}: the next snapshot will write everything anew")),
            Err(e) => context.output.warn(format!("{source}: the local state could not be discarded: {e}")),
        }
    }
}
