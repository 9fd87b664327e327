//! `backstop status`.

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::context::Context;
use super::exit::{CliError, Exit};
use super::output::{BAD, DOUBT, FAINT, GOOD, STRONG, at_second, human_bytes, shown};
use crate::agent::StateLock;
use crate::drill::RUNBOOKS;
use crate::objective::{Class, Objectives, Severity, Status, Subject, Survey, SurveyError, measured_here, spoken, status};
use crate::policy::{self, JobPolicy, Policy, next_due};
use crate::vault::attestation::{Kind, Outcome};
use crate::vault::names::{ChainName, Container};

/// The agent reads the vault whole so often; between, what was attested since.
const WHOLE_EVERY: SignedDuration = SignedDuration::from_hours(6);
/// Whoever is in a hurry takes an index that is no older.
const HURRIED: SignedDuration = SignedDuration::from_hours(48);

#[derive(Args)]
pub struct StatusArgs {
    /// Take what the agent on this machine has read, and read what was attested since: seconds on a vault of any age
    #[arg(long)]
    quick: bool,
    /// The index that the agent keeps
    #[arg(long, hide = true, value_name = "DIR", conflicts_with = "quick")]
    index: Option<PathBuf>,
}

pub fn run(context: &Context, args: &StatusArgs) -> Result<Exit, CliError> {
    let (ledger, policy) = context.ledger()?;
    let Some(loaded) = policy else {
        return Err(CliError::new(Exit::Usage, "without a policy there are no objectives to hold the vault to")
            .hint("say --policy FILE instead of --vault; `backstop verify` audits a vault without one"));
    };
    let policy = &loaded.policy;
    let now = ledger.store().now()?;
    let test_due = |kind: Kind, after: Timestamp| {
        let of = |job: &JobPolicy| if kind == Kind::Drill { job.drill.is_some() } else { job.restore_test.is_some() };
        let jobs = policy.jobs.values().filter(|job| of(&job.value));
        jobs.filter_map(|job| next_due(&job.value.schedule.value, policy.zone(), after)).min()
    };
    let objectives = Objectives {
        rpo: duration("rpo", &policy.objectives.rpo.value)?,
        rto: duration("rto", &policy.objectives.rto.value)?,
        availability: policy.objectives.availability,
        due: &test_due,
    };
    let measured = measured_here(&Context::state_dir(&loaded));
    let subjects = subjects(policy);
    let read = |survey: Survey<'_>| -> Result<(Status, Timestamp), SurveyError> {
        let status = status(&survey, &subjects, &objectives, &measured, now)?;
        let whole = survey.whole_at();
        if let Some(why) = survey.finish() {
            context.output.warn(format!("no index is kept, and the next status reads the vault whole: {why}"));
        }
        Ok((status, whole))
    };
    let quick = match (&args.index, args.quick) {
        (Some(dir), _) => Some(Survey::quick(&ledger, now, dir, WHOLE_EVERY, true)),
        (None, true) => Some(Survey::quick(&ledger, now, &index_of(&Context::state_dir(&loaded).join("agent")), HURRIED, false)),
        (None, false) => None,
    };
    let quickly = match quick {
        Some(Ok(survey)) => match read(survey) {
            Err(e @ SurveyError::Unusable { .. }) => Some(Err(e.to_string())),
            other => Some(Ok(other?)),
        },
        Some(Err(why)) => Some(Err(why)),
        None => None,
    };
    let (status, read_whole) = match quickly {
        Some(Ok(read)) => read,
        other => {
            if let (Some(Err(why)), true) = (other, args.quick) {
                context
                    .output
                    .warn(format!("the vault is read whole, which takes minutes where it is old: the agent's index cannot be used: {why}"));
            }
            read(Survey::whole(&ledger, now, args.index.as_deref())?)?
        }
    };
    let next = due(policy, now);
    let known = status.coverage.stored_bytes > 0;
    context.output.json(&json!({
        "ok": status.ok, "at": now, "read_whole": read_whole, "rpo": status.rpo, "newest": status.newest,
        "coverage": known.then(|| status.coverage.share()),
        "covered_bytes": status.coverage.covered_bytes, "stored_bytes": status.coverage.stored_bytes,
        "availability": {
            "objective_percent": objectives.availability, "days_30": status.days_30, "days_365": status.days_365,
            "days": status.days,
        },
        "restore_test": status.restore_test, "drill": status.drill, "runbooks": runbooks(), "restore_times": status.restore_times, "next_review": status.next_review,
        "findings": status.findings,
        "next": next.iter().map(|(job, at)| json!({ "job": job, "at": at })).collect::<Vec<_>>(),
    }));
    people(context, &status, &objectives, &next);
    if read_whole != now {
        let output = context.output;
        output.say(format!("{FAINT}read whole {}, and what was attested since{FAINT:#}", at_second(read_whole)));
    }
    let damaged = status.findings.iter().any(|f| matches!(f.kind, "missing_attestation" | "damaged_attestation"));
    Ok(match (damaged, status.ok) {
        (true, _) => Exit::Damage,
        (false, false) => Exit::ObjectiveMissed,
        (false, true) => Exit::Done,
    })
}

/// Where an agent or watcher keeps its index, in its own directory.
fn index_of(own: &Path) -> PathBuf {
    own.join("index")
}

/// The status for whoever asks for it again and again, and keeps an index; without a place for one it is read whole.
pub fn kept(state: &StateLock) -> Vec<String> {
    let dir = index_of(&state.path(""));
    let index = match std::fs::create_dir_all(&dir) {
        Ok(()) => vec!["--index".to_owned(), dir.display().to_string()],
        Err(e) => {
            tracing::warn!("no index can be kept in {}: {e}", dir.display());
            Vec::new()
        }
    };
    [vec!["status".to_owned()], index].concat()
}

pub fn duration(name: &str, text: &str) -> Result<SignedDuration, CliError> {
    policy::duration(text).ok_or_else(|| CliError::new(Exit::Usage, format!("objectives.{name} {text:?} is not a duration")))
}

/// Sources and streams of the policy, by name.
pub fn subjects(policy: &Policy) -> Vec<Subject> {
    let sources = policy.sources.iter().filter_map(|(name, source)| {
        let class = if source.value.container() == Container::Evidence { Class::Evidence } else { Class::Configuration };
        Some(Subject { class, name: name.clone(), chain: ChainName::snapshot(&name.parse().ok()?), delivered: false })
    });
    let streams = policy.streams.iter().filter_map(|(name, stream)| {
        let delivered = stream.value.import.is_some();
        Some(Subject { class: Class::Logs, name: name.clone(), chain: ChainName::export(&name.parse().ok()?), delivered })
    });
    sources.chain(streams).collect()
}

/// By when each runbook must have been read again.
fn runbooks() -> Vec<Value> {
    RUNBOOKS.iter().map(|r| json!({ "runbook": r.id, "review_by": r.review_by().map(|d| d.to_string()) })).collect()
}

/// When each job fires next.
fn due(policy: &Policy, now: Timestamp) -> Vec<(String, Timestamp)> {
    let jobs = policy.jobs.iter();
    let mut next: Vec<(String, Timestamp)> =
        jobs.filter_map(|(name, job)| Some((name.clone(), next_due(&job.value.schedule.value, policy.zone(), now)?))).collect();
    next.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    next
}

fn people(context: &Context, status: &Status, objectives: &Objectives<'_>, next: &[(String, Timestamp)]) {
    let output = context.output;
    let seconds = |s: f64| spoken(SignedDuration::try_from_secs_f64(s.ceil()).unwrap_or(SignedDuration::MAX));
    output.say(format!(
        "{STRONG}{:<14} {:<20} {:>12}  {:<20}  {:<12} {}{STRONG:#}",
        "class", "name", "RPO", "newest of", "tested", "back within"
    ));
    for (rpo, time) in status.rpo.iter().zip(&status.restore_times) {
        let class = json!(rpo.class);
        let (age, style) = match (rpo.achieved_seconds, rpo.objective_seconds) {
            (None, objective) => ("never".to_owned(), if objective.is_none() { DOUBT } else { BAD }),
            (Some(age), objective) => {
                let style = if objective.is_some_and(|o| age > o) { BAD } else { GOOD };
                (spoken(SignedDuration::from_secs(age)), style)
            }
        };
        let own = status.newest.iter().find(|n| n.class == rpo.class && n.source.as_ref().or(n.stream.as_ref()) == Some(&rpo.name));
        let tested = own.map_or("", |n| if n.tested.is_some() { "yes" } else { "not yet" });
        output.say(format!(
            "{:<14} {:<20} {style}{age:>12}{style:#}  {:<20}  {tested:<12} {}",
            class.as_str().unwrap_or_default(),
            rpo.name,
            rpo.captured.map(at_second).unwrap_or_default(),
            time.estimated_seconds.map(seconds).unwrap_or_default()
        ));
    }
    for f in &status.findings {
        let (style, word) = if f.severity == Severity::Error { (BAD, "error") } else { (DOUBT, "warning") };
        output.say(format!("{style}{word}{style:#} {}: {}", f.chain, shown(&f.message)));
    }
    // A younger vault has one period only.
    let longer = status.days_365.filter(|year| status.days_30.is_none_or(|month| year.from < month.from));
    for a in status.days_30.into_iter().chain(longer) {
        let style = if a.percent < objectives.availability { BAD } else { GOOD };
        output.say(format!(
            "{style}available {:.3} %{style:#} since {} (objective {} %): {} beyond an RPO",
            a.percent,
            at_second(a.from),
            objectives.availability,
            spoken(SignedDuration::from_secs(a.beyond_seconds))
        ));
    }
    match &status.restore_test {
        Some(test) => {
            let style = if test.outcome == Outcome::Failed { BAD } else { GOOD };
            output.say(format!("last restore test {}: {style}{}{style:#}", at_second(test.finished), test.outcome));
        }
        None => output.say("no restore test was ever attested"),
    }
    match &status.drill {
        Some(drill) => {
            let (style, word) = if drill.passed { (GOOD, "passed") } else { (BAD, "not passed") };
            let rto = seconds(drill.rto_achieved_seconds);
            output.say(format!("last drill {}: {style}{word}{style:#}, {} back in {rto}", at_second(drill.finished), drill.scenario));
        }
        None => output.say("no drill was ever attested"),
    }
    match status.coverage.stored_bytes {
        0 => output.say("nothing is stored that could be restored"),
        stored => output.say(format!(
            "{:.1} % of {} was restored and checked within 90 days",
            100.0 * status.coverage.share(),
            human_bytes(stored)
        )),
    }
    if let Some(review) = &status.next_review {
        output.say(format!("{FAINT}first lock ends {}: {} of {}{FAINT:#}", at_second(review.at), review.period, review.chain));
    }
    for runbook in &RUNBOOKS {
        let by = runbook.review_by().map(|d| d.to_string()).unwrap_or_default();
        let past = runbook.review_by().is_some_and(|by| by < status.at.to_zoned(jiff::tz::TimeZone::UTC).date());
        let style = if past { DOUBT } else { FAINT };
        output.say(format!("{style}runbook {} to be reviewed by {by}{style:#}", runbook.id));
    }
    for (job, at) in next {
        output.say(format!("{FAINT}next {} {}{FAINT:#}", at_second(*at), shown(job)));
    }
}
