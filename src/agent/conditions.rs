//! What is wrong, as the agent sees it: of its jobs, and by what the vault's status says.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Slot, State, Unread};
use crate::alert::Condition;

/// One failure is nothing: it is tried again.
const FAILING: u32 = 2;
/// What was missed is told for so long after it was made up for.
const TOLD: SignedDuration = SignedDuration::from_mins(30);

/// What is wrong with the jobs.
pub fn of_jobs(slots: &[Slot], rpo: SignedDuration, now: Timestamp) -> Vec<Condition> {
    let mut out = Vec::new();
    for slot in slots {
        let (unshared, other) = slot.discord();
        let of =
            |kind: &str, subject: &str, summary: &str| Condition { kind: kind.into(), subject: subject.into(), summary: summary.into() };
        if unshared && !out.iter().any(|c: &Condition| c.kind == "leases_unavailable") {
            out.push(of("leases_unavailable", "leases", "they cannot be asked for: each agent works by itself"));
        }
        out.extend(other.map(|other| of("policies_differ", &slot.job.name, other)));
        let Some(record) = &slot.record else { continue };
        let mut tell = |kind: &str, summary: String| out.push(Condition { kind: kind.into(), subject: slot.job.name.clone(), summary });
        if record.failures >= FAILING {
            let why = record.message.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            tell("job_failing", format!("it failed {} times in a row{why}", record.failures));
        }
        if record.missed > 0 && now.duration_since(record.started) < TOLD {
            let since = record.missed_from.unwrap_or(record.due);
            let long = record.due.duration_since(since) >= rpo;
            if long || !slot.job.work.is_backup() {
                tell("job_missed", format!("{} firings were missed since {since}; the newest one is made up for", record.missed));
            }
        }
        // Nobody begins what waits for longer than it may.
        let late = slot.waiting(now).filter(|due| !slot.is_running() && now.duration_since(*due) > rpo);
        let elsewhere = record.state == State::Running && now.duration_since(record.started) <= slot.job.deadline;
        // What failed is tried again within a quarter of the RPO, unless something keeps it from that.
        let tried = record.state == State::Failed && record.finished.is_some_and(|at| now.duration_since(at) <= rpo);
        if let Some(due) = late.filter(|_| slot.own && !tried && !elsewhere) {
            tell("job_missed", format!("it was due at {due}, and nobody has begun it"));
        }
    }
    out
}

/// What is wrong by `backstop status --json`.
pub fn of_status(status: &Value) -> Vec<Condition> {
    let findings = status.get("findings").and_then(Value::as_array).into_iter().flatten();
    let text = |finding: &Value, field: &str| finding.get(field).and_then(Value::as_str).map(str::to_owned);
    findings.filter_map(|f| Some(Condition { kind: text(f, "kind")?, subject: text(f, "chain")?, summary: text(f, "message")? })).collect()
}

/// A chain may be so much later than its schedule says, or by a third of the RPO if that is longer: a run takes its time.
const LATE: SignedDuration = SignedDuration::from_mins(15);
/// A status that is older says nothing of now.
const OLD: SignedDuration = SignedDuration::from_mins(60);

/// Chains of which nothing was attested although something was due; `due` says when it was, after an instant.
pub fn of_quiet(
    status: &Value,
    now: Timestamp,
    objective: SignedDuration,
    due: impl Fn(&str, &str, Timestamp) -> Option<Timestamp>,
) -> Vec<Condition> {
    let Some(at) = status.get("at").and_then(Value::as_str).and_then(|at| at.parse::<Timestamp>().ok()) else { return Vec::new() };
    if now.duration_since(at) > OLD {
        let summary = format!("its status could last be read at {at}");
        return vec![Condition { kind: "vault_unreadable".into(), subject: "status".into(), summary }];
    }
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let each = status.get("rpo").and_then(Value::as_array).into_iter().flatten();
    each.filter_map(|rpo| {
        let (class, name) = (text(rpo, "class"), text(rpo, "name"));
        let last: Timestamp = text(rpo, "last_attested").parse().ok()?;
        let due = due(&class, &name, last)?;
        let summary = format!("nothing was attested of it since {last}, and something was due at {due}");
        (at.duration_since(due) > LATE.max(objective / 3)).then(|| Condition {
            kind: "chain_quiet".into(),
            subject: text(rpo, "chain"),
            summary,
        })
    })
    .collect()
}

/// What it means that the vault cannot be read: it does not answer, or something else stands in its place.
pub fn of_unread(subject: &str, unread: &Unread) -> Condition {
    let kind = if unread.damage { "checkpoint_back" } else { "vault_unreadable" };
    Condition { kind: kind.into(), subject: subject.into(), summary: unread.why.clone() }
}

/// What is wrong by `backstop verify --json`: of each kind and chain one, with how often it was found.
pub fn of_audit(audit: &Value) -> Vec<Condition> {
    let mut out: Vec<(Condition, u64)> = Vec::new();
    for finding in audit.get("findings").and_then(Value::as_array).into_iter().flatten() {
        let text = |field: &str| finding.get(field).and_then(Value::as_str).unwrap_or_default();
        let kind = match (text("severity"), text("kind")) {
            (_, "checkpoint_old" | "no_checkpoint") => "checkpoint_missed",
            ("error", "no_lock" | "short_lock" | "lock_weakened" | "enforcement_weaker") => "wrong_lock",
            ("error", "missing_attestation") => "missing_attestation",
            ("error", "checkpoint_backwards" | "cut_off_tail" | "replaced_history" | "other_vault") => "checkpoint_back",
            ("error", _) => "audit_finding",
            _ => continue,
        };
        let place = [text("object"), text("chain")].into_iter().find(|p| !p.is_empty()).unwrap_or("vault");
        let subject = match text("chain") {
            // An object by the folder that it lies in.
            "" => place.split('/').take(2).collect::<Vec<_>>().join("/"),
            chain => chain.to_owned(),
        };
        match out.iter_mut().find(|(c, _)| c.kind == kind && c.subject == subject) {
            Some((_, more)) => *more += 1,
            None => {
                let summary = format!("{} ({place}): {}", text("kind"), text("message"));
                out.push((Condition { kind: kind.into(), subject, summary }, 0));
            }
        }
    }
    let counted = |(mut condition, more): (Condition, u64)| {
        if more > 0 {
            condition.summary.push_str(&format!("; and {more} more of the kind"));
        }
        condition
    };
    out.into_iter().map(counted).collect()
}
