//! `backstop status`.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::context::Context;
use super::exit::{CliError, Exit};
use super::output::{BAD, DOUBT, FAINT, GOOD, STRONG, at_second, shown};
use crate::objective::{Availability, Class, Held, Point, availability, newest_at, points, rpo_at, since};
use crate::policy::{Policy, next_due, parse_duration};
use crate::vault::attestation::{CollectionOutcome, Kind, Outcome, SnapshotDetails};
use crate::vault::names::{ChainName, Container, period_folder};
use crate::vault::{Attested, ChainView};

/// What one source or stream of the policy stands at.
struct Standing {
    class: Class,
    name: String,
    chain: ChainName,
    /// Nobody but whoever delivers files decides when an imported stream grows.
    delivered: bool,
    view: ChainView,
    points: Vec<Point>,
}

/// The kind of finding that is damage.
const MISSING: &str = "missing_attestation";

#[derive(serde::Serialize)]
struct Finding {
    severity: &'static str,
    kind: &'static str,
    chain: ChainName,
    message: String,
}

pub fn run(context: &Context) -> Result<Exit, CliError> {
    let (ledger, policy) = context.ledger()?;
    let Some(loaded) = policy else {
        return Err(CliError::new(Exit::Usage, "without a policy there are no objectives to hold the vault to")
            .hint("say --policy FILE instead of --vault; `backstop verify` audits a vault without one"));
    };
    let policy = &loaded.policy;
    let now = ledger.store().now()?;
    let objective = objective_of(policy)?;
    let mut all = Vec::new();
    for (class, name, chain, delivered) in subjects(policy) {
        let view = ledger.chain(&chain)?;
        all.push(Standing { class, name, chain, delivered, points: points(&view), view });
    }
    let findings: Vec<Finding> = all.iter().flat_map(|s| look(s, now, objective)).collect();
    let month = over(&all, objective, now, 30);
    let year = over(&all, objective, now, 365);
    let missed = month.is_some_and(|a| a.percent < policy.objectives.availability);
    let next = due(policy, now);
    let ok = !missed && findings.iter().all(|f| f.severity != "error");
    let output = context.output;
    output.json(&json!({
        "ok": ok, "at": now,
        "rpo": all.iter().map(|s| json!({
            "class": s.class, "name": s.name, "achieved_seconds": rpo_at(&s.points, now).map(|d| d.as_secs()),
            "objective_seconds": (!s.delivered).then_some(objective.as_secs()),
        })).collect::<Vec<_>>(),
        "newest": all.iter().filter_map(|s| newest(s, now)).collect::<Vec<_>>(),
        // Nothing has been restored for a test yet that this could be computed from.
        "coverage": Value::Null,
        "availability": {
            "objective_percent": policy.objectives.availability,
            "days_30": month.map(shown_availability), "days_365": year.map(shown_availability),
        },
        "findings": findings,
        "next": next.iter().map(|(job, at)| json!({ "job": job, "at": at })).collect::<Vec<_>>(),
    }));
    people(context, &all, now, objective);
    for f in &findings {
        let style = if f.severity == "error" { BAD } else { DOUBT };
        output.say(format!("{style}{}{style:#} {}: {}", f.severity, f.chain, f.message));
    }
    // A younger vault has one period only.
    let longer = year.filter(|year| month.is_none_or(|month| year.from < month.from));
    for a in month.into_iter().chain(longer) {
        let style = if a.percent < policy.objectives.availability { BAD } else { GOOD };
        output.say(format!(
            "{style}available {:.3} %{style:#} since {} (objective {} %): {} beyond an RPO",
            a.percent,
            at_second(a.from),
            policy.objectives.availability,
            spoken(a.beyond)
        ));
    }
    for (job, at) in &next {
        output.say(format!("{FAINT}next {} {}{FAINT:#}", at_second(*at), shown(job)));
    }
    Ok(match (findings.iter().any(|f| f.kind == MISSING), ok) {
        (true, _) => Exit::Damage,
        (false, false) => Exit::ObjectiveMissed,
        (false, true) => Exit::Done,
    })
}

fn objective_of(policy: &Policy) -> Result<SignedDuration, CliError> {
    let text = &policy.objectives.rpo.value;
    let seconds = parse_duration(text).and_then(|s| i64::try_from(s).ok());
    seconds.map(SignedDuration::from_secs).ok_or_else(|| CliError::new(Exit::Usage, format!("objectives.rpo {text:?} is not a duration")))
}

/// Sources and streams of the policy, by name.
fn subjects(policy: &Policy) -> Vec<(Class, String, ChainName, bool)> {
    let sources = policy.sources.iter().filter_map(|(name, source)| {
        let class = if source.value.container() == Container::Evidence { Class::Evidence } else { Class::Configuration };
        Some((class, name.clone(), ChainName::snapshot(&name.parse().ok()?), false))
    });
    let streams = policy.streams.iter().filter_map(|(name, stream)| {
        Some((Class::Logs, name.clone(), ChainName::export(&name.parse().ok()?), stream.value.import.is_some()))
    });
    sources.chain(streams).collect()
}

/// What is wrong with one chain.
fn look(s: &Standing, now: Timestamp, objective: SignedDuration) -> Vec<Finding> {
    let finding = |severity, kind, message| Finding { severity, kind, chain: s.chain.clone(), message };
    let mut out = Vec::new();
    if !s.view.missing.is_empty() {
        let message = format!("{} of its attestations are missing: `backstop verify` names them", s.view.missing.len());
        out.push(finding("error", MISSING, message));
    }
    if !s.view.voids.is_empty() {
        let message = format!("{} of its numbers are void: `backstop verify` names them", s.view.voids.len());
        out.push(finding("warning", "void_attestation", message));
    }
    match rpo_at(&s.points, now) {
        None if s.delivered => {}
        None => {
            let message = "it has no recovery point that counts: nothing complete was ever committed".to_owned();
            out.push(finding("error", "no_recovery_point", message));
        }
        Some(age) if age > objective && !s.delivered => {
            let message = format!("its newest recovery point is {} old; the RPO is {}", spoken(age), spoken(objective));
            out.push(finding("error", "rpo_exceeded", message));
        }
        Some(_) => {}
    }
    let spoke = |a: &&Attested| matches!(a.statement.kind, Kind::Snapshot | Kind::Export);
    if let Some(last) = s.view.attested.iter().rev().find(spoke) {
        let p = &last.statement.predicate;
        let incomplete = || {
            let details = p.details::<SnapshotDetails>().ok()?;
            let bad = details.collections.into_iter().filter(|c| c.outcome != CollectionOutcome::Complete).map(|c| c.name);
            Some(bad.collect::<Vec<_>>().join(", ")).filter(|names| !names.is_empty())
        };
        let code = || p.details.get("error_code").and_then(Value::as_str).map(|c| format!(" ({})", shown(c))).unwrap_or_default();
        match p.outcome {
            Outcome::Complete => {}
            Outcome::Partial => {
                let what = incomplete().map(|names| format!(": not complete are {}", shown(&names))).unwrap_or_default();
                out.push(finding("warning", "partial", format!("its newest run {} is partial{what}", p.run)));
            }
            Outcome::Failed => out.push(finding("warning", "failed", format!("its newest run {} failed{}", p.run, code()))),
        }
    }
    out
}

/// The newest recovery point, for machines.
fn newest(s: &Standing, now: Timestamp) -> Option<Value> {
    let point = newest_at(&s.points, now)?;
    let attested = s.view.attested.iter().find(|a| a.sequence() == point.sequence)?;
    let p = &attested.statement.predicate;
    let data = p.objects.iter().filter(|o| period_folder(&o.name).is_some()).map(|o| &o.lock);
    let lock = data.min_by_key(|l| l.until).or(attested.lock.as_ref());
    let mut value = json!({
        "class": s.class, "chain": s.chain, "run": p.run, "sequence": point.sequence, "outcome": p.outcome, "captured": point.captured,
        "finished": point.committed, "lock_mode": lock.map(|l| l.mode), "lock_until": lock.and_then(|l| l.until),
        // No restore test has been attested.
        "tested": Value::Null,
    });
    value[if s.class == Class::Logs { "stream" } else { "source" }] = json!(s.name);
    Some(value)
}

fn over(all: &[Standing], objective: SignedDuration, now: Timestamp, days: i64) -> Option<Availability> {
    let from = now - SignedDuration::from_hours(24 * days);
    let held = all.iter().filter(|s| !s.delivered).filter_map(|s| Some(Held { points: &s.points, since: since(&s.view)?, objective }));
    availability(held, from, now)
}

fn shown_availability(a: Availability) -> Value {
    json!({ "percent": a.percent, "from": a.from, "beyond_seconds": a.beyond.as_secs() })
}

/// When each job fires next.
fn due(policy: &Policy, now: Timestamp) -> Vec<(String, Timestamp)> {
    let zone = policy.timezone.as_ref().map_or("UTC", |z| z.value.as_str());
    let mut next: Vec<(String, Timestamp)> =
        policy.jobs.iter().filter_map(|(name, job)| Some((name.clone(), next_due(&job.value.schedule.value, zone, now)?))).collect();
    next.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    next
}

fn people(context: &Context, all: &[Standing], now: Timestamp, objective: SignedDuration) {
    let output = context.output;
    output.say(format!("{STRONG}{:<14} {:<20} {:>12}  {:<20}{STRONG:#}", "class", "name", "RPO", "newest of"));
    for s in all {
        let class = json!(s.class);
        let (age, style) = match rpo_at(&s.points, now) {
            None => ("never".to_owned(), if s.delivered { DOUBT } else { BAD }),
            Some(age) => (spoken(age), if age > objective && !s.delivered { BAD } else { GOOD }),
        };
        let captured = newest_at(&s.points, now).map(|p| at_second(p.captured)).unwrap_or_default();
        output.say(format!("{:<14} {:<20} {style}{age:>12}{style:#}  {captured:<20}", class.as_str().unwrap_or_default(), s.name));
    }
}

/// A duration as people say it, of two units.
fn spoken(duration: SignedDuration) -> String {
    let s = duration.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}
