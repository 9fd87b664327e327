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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{Job, Record, Work};
    use crate::policy::Timetable;

    const RPO: SignedDuration = SignedDuration::from_hours(1);

    /// A job that was due at eight, with a record of that firing, as it stands so many minutes later.
    fn told(own: bool, state: State, tried: i64, later: i64) -> Vec<Condition> {
        let due: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        let after = |minutes: i64| due + SignedDuration::from_mins(minutes);
        let job = Job {
            name: "nightly".into(),
            work: Work::Snapshot(vec!["entra".into()]),
            table: Timetable::new("0 0 8 * * *", "UTC").unwrap(),
            deadline: SignedDuration::from_hours(6),
            last_retry: SignedDuration::from_mins(15),
        };
        let record = Record {
            version: 1,
            job: "nightly".into(),
            due,
            state,
            attempts: 1,
            failures: 1,
            started: after(tried - 1),
            finished: (state != State::Running).then(|| after(tried)),
            success: None,
            exit: Some(1),
            message: None,
            agent: "a".into(),
            policy_sha256: String::new(),
            missed: 0,
            missed_from: None,
            results: Vec::new(),
        };
        of_jobs(&[Slot { record: Some(record), ..Slot::new(job, own) }], RPO, after(later))
    }

    #[test]
    fn a_failed_job_that_is_not_tried_again_is_told() {
        let missed = |told: Vec<Condition>| told.iter().any(|c| c.kind == "job_missed" && c.summary.contains("nobody has begun it"));
        // It waits for its next try, which comes within the RPO.
        assert!(!missed(told(true, State::Failed, 10, 61)));
        assert!(!missed(told(true, State::Failed, 10, 70)));
        // Something keeps it from that.
        assert!(missed(told(true, State::Failed, 10, 71)));
        assert!(missed(told(true, State::Interrupted, 10, 61)));
        // Another agent's job is that one's to tell; what runs, or is done, is not late.
        assert!(!missed(told(false, State::Failed, 10, 71)));
        assert!(!missed(told(true, State::Running, 10, 120)));
        assert!(missed(told(true, State::Running, 10, 10 + 6 * 60)), "who ran it is gone for longer than a run may last");
        assert!(!missed(told(true, State::Done, 10, 600)));
    }
}
