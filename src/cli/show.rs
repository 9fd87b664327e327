//! `backstop show`.

use clap::Args;
use serde_json::{Value, json};

use super::context::Context;
use super::exit::{CliError, Exit};
use super::output::{FAINT, STRONG, at_second, human_bytes, shown};
use super::select;
use crate::restore::read_tree;
use crate::vault::attestation::{ExportDetails, Kind, SnapshotDetails};
use crate::vault::manifest::{Content, Entry};

#[derive(Args)]
pub struct ShowArgs {
    #[arg(help = select::RUN_HELP)]
    run: String,
}

pub fn run(context: &Context, args: &ShowArgs) -> Result<Exit, CliError> {
    let (ledger, _) = context.ledger()?;
    let attested = select::find(&ledger, &args.run, None)?;
    let p = &attested.statement.predicate;
    let output = context.output;
    let statement: Value = attested.statement.to_bytes().ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
    let disposal = p.objects.iter().find_map(|o| ledger.disposal_of(&o.name, &o.sha256));
    output.json(&json!({
        "run": p.run, "chain": p.chain, "sequence": p.sequence, "kind": attested.statement.kind, "outcome": p.outcome,
        "envelope": attested.name, "envelope_sha256": attested.sha256, "signer_role": attested.role, "statement": statement,
        "disposed": disposal.map(|d| json!({ "run": d.run, "at": d.at })),
    }));
    let row = |name: &str, value: String| output.tell(format!("{STRONG}{name:<14}{STRONG:#} {value}"));
    row("run", p.run.to_string());
    row("attestation", format!("{} {}, signed by {}", attested.name, attested.sha256.short(), attested.role));
    row("kind", format!("{}, {}", attested.statement.kind, p.outcome));
    row("time", format!("{} to {}", at_second(p.started), at_second(p.finished)));
    if let Some(disposal) = disposal {
        row("disposed of", format!("{} by the disposition {} (vault/{})", at_second(disposal.at), disposal.run, disposal.sequence));
    }
    row("made by", format!("backstop {} on host {}", p.agent.version, shown(&p.agent.host_id)));
    if let Ok(d) = p.details::<SnapshotDetails>()
        && attested.statement.kind == Kind::Snapshot
    {
        row(
            "snapshot",
            format!("{} of {} entries, epoch {} to {}", d.snapshot_kind, d.entries, at_second(d.epoch.start), at_second(d.epoch.end)),
        );
        row("built on", d.previous_snapshot.map_or_else(|| "nothing: the first".into(), |r| r.to_string()));
        row("tree", d.tree_sha256.map_or_else(|| "none".into(), |t| t.to_string()));
        for c in &d.collections {
            let code = c.error_code.as_deref().map(|code| format!(" ({})", shown(code))).unwrap_or_default();
            row("collection", format!("{}: {:?}{code}, {} entries", shown(&c.name), c.outcome, c.count));
        }
    }
    if let Ok(d) = p.details::<ExportDetails>()
        && attested.statement.kind == Kind::Export
    {
        row("events", d.events.to_string());
        for s in &d.spans {
            let span = s.first.zip(s.last).map(|(a, b)| format!("{} to {}", at_second(a), at_second(b))).unwrap_or_default();
            row("", format!("{FAINT}{}{FAINT:#}  {} events  {span}", s.name, s.count));
        }
    }
    for o in &p.objects {
        let kind = format!("{:?} by {:?}", o.lock.mode, o.lock.enforced_by).to_lowercase();
        let lock = o.lock.until.map_or_else(|| "not locked".to_owned(), |until| format!("{kind} until {}", at_second(until)));
        row("object", format!("{}\n{:15}{FAINT}{}  {}  {}{FAINT:#}", o.name, "", o.sha256, human_bytes(o.size), lock));
    }
    if disposal.is_some() {
        output.say(format!("{FAINT}(its contents were destroyed after their retention){FAINT:#}"));
    } else if attested.statement.kind == Kind::Snapshot && !context.global.identity.is_empty() {
        let identities = context.identities(&ledger)?;
        let info = read_tree(&ledger, &identities, &p.chain, p.run, |entry| {
            content(context, &entry);
            Ok(())
        })?;
        for failed in &info.failed {
            output.warn(format!("{} {}", failed.object.as_deref().unwrap_or_default(), failed.message));
        }
        if !info.failed.is_empty() {
            return Ok(Exit::Damage);
        }
    } else if attested.statement.kind == Kind::Snapshot {
        output.say(format!("{FAINT}(with --identity FILE the entries are listed too){FAINT:#}"));
    }
    Ok(Exit::Done)
}

fn content(context: &Context, entry: &Entry) {
    let mode = entry.mode.map(|m| format!("{m:04o}"));
    let mtime = entry.mtime.map(|m| m.text());
    let (kind, size, sha256, target) = match &entry.content {
        Content::File { sha256, size, .. } => ("file", Some(*size), Some(sha256), None),
        Content::Dir => ("dir", None, None, None),
        Content::Symlink { target } => ("symlink", None, None, Some(target)),
    };
    let mut value = json!({ "path": entry.path, "type": kind });
    for (name, field) in
        [("size", json!(size)), ("sha256", json!(sha256)), ("target", json!(target)), ("mode", json!(mode)), ("mtime", json!(mtime))]
    {
        if !field.is_null() {
            value[name] = field;
        }
    }
    context.output.json(&value);
    let target = target.map(|t| format!(" -> {}", shown(t))).unwrap_or_default();
    let size = size.map(human_bytes).unwrap_or_default();
    context.output.tell(format!("{kind:<8} {:>10}  {}  {}{target}", size, mode.unwrap_or_default(), shown(&entry.path)));
}
