//! What `run` and `watch` have in common: what is logged, counted and shown.

use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;
use tracing::{error, info, warn};

use super::context::Context;
use super::scheduler::{Shown, Standing};
use crate::agent::{Agent, Happening, Job, Slot, State, Unread, Work, of_status, of_unread};
use crate::alert::Condition;
use crate::web::{Board, JobView};

/// What stands before the command in each process that the daemon starts.
pub fn arguments(context: &Context, copy: &Path) -> Vec<String> {
    let mut out = vec!["--json".into(), "--no-progress".into(), "--color".into(), "never".into()];
    out.extend(["--policy".into(), context.global.policy.display().to_string()]);
    out.extend(["--run-by-agent".into(), copy.display().to_string()]);
    for identity in &context.global.identity {
        out.extend(["--identity".into(), identity.display().to_string()]);
    }
    if let Some(genesis) = &context.global.genesis {
        out.extend(["--genesis".into(), genesis.clone()]);
    }
    out
}

/// Which jobs this agent runs: those that were named, or all that it has the keys for.
pub fn own(context: &Context, named: Vec<String>) -> impl Fn(&Job) -> bool + use<> {
    let opens = !context.global.identity.is_empty();
    move |job| match named.is_empty() {
        true => opens || !matches!(job.work, Work::RestoreTest | Work::Drill),
        false => named.contains(&job.name),
    }
}

pub fn log(happening: &Happening) {
    match happening {
        Happening::Begun { job, due, attempt } => info!(job, %due, attempt, "begun"),
        Happening::Ended { record, duration } => {
            let (job, due, seconds) = (record.job.as_str(), record.due, duration.as_secs_f64());
            let (attempt, exit) = (record.attempts, record.exit.unwrap_or(-1));
            let why = record.message.as_deref().map(super::output::shown).unwrap_or_default();
            match record.state {
                State::Done => info!(job, %due, attempt, exit, duration_seconds = seconds, "done"),
                State::Flawed => warn!(job, %due, attempt, exit, duration_seconds = seconds, "done, but: {why}"),
                State::Interrupted => warn!(job, %due, attempt, duration_seconds = seconds, "interrupted: it is run again"),
                State::Running | State::Failed => error!(job, %due, attempt, exit, duration_seconds = seconds, "failed: {why}"),
            }
        }
        Happening::Missed { job, from, until, count } => warn!(job, %from, %until, count, "missed; the newest firing is made up for"),
        Happening::Found { job, due } => info!(job, %due, "done already, as the vault shows"),
        Happening::Warning { job, message } => warn!(job, "{message}"),
    }
}

pub fn count(board: &Board, happening: &Happening) {
    let Ok(mut view) = board.write() else { return };
    match happening {
        Happening::Ended { record, .. } => {
            let outcome = spelled(record.state);
            *view.counts.runs.entry((record.job.clone(), outcome)).or_default() += 1;
        }
        Happening::Missed { job, count, .. } => *view.counts.missed.entry(job.clone()).or_default() += count,
        _ => {}
    }
}

fn spelled(state: State) -> String {
    serde_json::to_value(state).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Takes what `backstop status` answered.
pub fn took_status(board: &Board, conditions: &mut Vec<Condition>, read: Result<Value, Unread>) {
    match read {
        Ok(status) => {
            *conditions = of_status(&status);
            if let Ok(mut view) = board.write() {
                view.status = Some(status);
                view.status_error = None;
            }
        }
        Err(unread) => {
            error!("the vault cannot be read: {}", unread.why);
            let condition = of_unread("vault", &unread);
            conditions.retain(|c| !["vault_unreadable", "checkpoint_back"].contains(&c.kind.as_str()));
            conditions.push(condition);
            if let Ok(mut view) = board.write() {
                view.status_error = Some(unread.why);
            }
        }
    }
}

/// How each job of an agent stands.
pub fn job_views(agent: &Agent, now: Timestamp) -> Vec<JobView> {
    let of = |slot: &Slot| {
        // What it came to is of the last run that ended; which firing it is at, of the one under way.
        let (record, at) = (slot.record.as_ref(), slot.told());
        let sum = |field: &str| -> u64 {
            record.map(|r| r.results.iter().filter_map(|v| v.get(field).and_then(Value::as_u64)).sum()).unwrap_or_default()
        };
        JobView {
            job: slot.job.name.clone(),
            command: slot.job.work.command().to_owned(),
            own: slot.own,
            running: slot.is_running(),
            due: at.map(|r| r.due),
            state: record.map(|r| spelled(r.state)),
            attempts: at.map_or(0, |r| r.attempts),
            started: record.map(|r| r.started),
            finished: record.and_then(|r| r.finished),
            success: record.and_then(|r| r.success),
            message: record.and_then(|r| r.message.clone()),
            agent: record.map(|r| r.agent.clone()),
            next: slot.next(now),
            missed: at.map_or(0, |r| r.missed),
            read_bytes: sum("read_bytes"),
            stored_bytes: sum("stored_bytes"),
            objects: sum("objects"),
            // Not summed: the sum of nothing is -0.
            waited_seconds: record
                .map_or(0.0, |r| r.results.iter().filter_map(|v| v.get("waited_seconds")?.as_f64()).fold(0.0, |a, b| a + b)),
        }
    };
    agent.slots().iter().map(of).collect()
}

/// Shows how everything stands.
pub fn show(board: &Board, standing: &Standing, desk: &Shown, refused: Option<&String>) {
    let Ok(mut view) = board.write() else { return };
    view.jobs.clone_from(&standing.jobs);
    view.ticked = standing.ticked;
    view.held.clone_from(&standing.held);
    view.policy_error = refused.cloned();
    view.alerting = desk.sends;
    view.alerts.clone_from(&desk.open);
    view.counts.refused_alerts = desk.refused;
}
