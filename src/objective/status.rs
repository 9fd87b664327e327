//! Everything that can be said of a vault's objectives at an instant.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;

use super::{
    Availability, Class, Coverage, DataObject, Estimate, Held, Measurement, Point, Tests, availability, by_day, coverage, data_objects,
    estimate, measured_by_tests, newest_at, points, rpo_at, since,
};
use crate::store::{LockMode, StoreError};
use crate::vault::attestation::{CollectionOutcome, DrillDetails, Kind, Outcome, RestoreTestDetails, SnapshotDetails};
use crate::vault::names::{ChainName, RunId, period_folder, period_of};
use crate::vault::{Attested, ChainView, Ledger};

/// So many days are told one by one.
const CALENDAR_DAYS: i64 = 90;
/// A test that is so late was missed.
const LATE: SignedDuration = SignedDuration::from_hours(24);
/// Of a stream so much would be brought back after an incident.
const LOGS_BROUGHT_BACK: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A source or stream that is held to objectives.
#[derive(Debug, Clone)]
pub struct Subject {
    /// What kind of data it is of.
    pub class: Class,
    /// Its name.
    pub name: String,
    /// Its chain.
    pub chain: ChainName,
    /// Nobody but whoever delivers files decides when an imported stream grows.
    pub delivered: bool,
}

/// What is held to.
pub struct Objectives<'a> {
    /// The largest loss.
    pub rpo: SignedDuration,
    /// The longest time until everything is back.
    pub rto: SignedDuration,
    /// The share of time in percent within the RPO.
    pub availability: f64,
    /// When a restore test or a drill is due after an instant; never, where none is scheduled.
    pub due: &'a dyn Fn(Kind, Timestamp) -> Option<Timestamp>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// An objective is missed, or something is damaged.
    Error,
    /// Somebody should look.
    Warning,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// For machines.
    pub kind: &'static str,
    /// The chain.
    pub chain: ChainName,
    /// For people.
    pub message: String,
}

/// The RPO of one source or stream.
#[derive(Debug, Clone, Serialize)]
pub struct Rpo {
    /// Of which class.
    pub class: Class,
    /// Its name.
    pub name: String,
    /// Its chain.
    pub chain: ChainName,
    /// Now; none without a recovery point.
    pub achieved_seconds: Option<i64>,
    /// What is asked for; none of what is delivered.
    pub objective_seconds: Option<i64>,
    /// When anything was last attested of it, failed runs included.
    pub last_attested: Option<Timestamp>,
    /// Up to when everything is in the newest recovery point.
    #[serde(skip)]
    pub captured: Option<Timestamp>,
}

/// The newest recovery point of a source or stream.
#[derive(Debug, Clone, Serialize)]
pub struct Newest {
    /// Of which class.
    pub class: Class,
    /// The source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Its chain.
    pub chain: ChainName,
    /// The run.
    pub run: RunId,
    /// Its number.
    pub sequence: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Up to when everything is in it.
    pub captured: Timestamp,
    /// When it was committed.
    pub finished: Timestamp,
    /// The shortest lock of its objects.
    pub lock_mode: Option<LockMode>,
    /// Until when.
    pub lock_until: Option<Timestamp>,
    /// When all of its objects were last restored and checked; none where they were not within 90 days.
    pub tested: Option<Timestamp>,
}

/// The availability of a period.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Available {
    /// In percent.
    pub percent: f64,
    /// Since when.
    pub from: Timestamp,
    /// How long an RPO was exceeded.
    pub beyond_seconds: i64,
}

impl From<Availability> for Available {
    fn from(a: Availability) -> Self {
        Self { percent: a.percent, from: a.from, beyond_seconds: a.beyond.as_secs() }
    }
}

/// The newest restore test.
#[derive(Debug, Clone, Serialize)]
pub struct LastTest {
    /// The run.
    pub run: RunId,
    /// When it ended.
    pub finished: Timestamp,
    /// How.
    pub outcome: Outcome,
    /// Checks that failed.
    pub failed_checks: Vec<String>,
}

/// The newest drill.
#[derive(Debug, Clone, Serialize)]
pub struct LastDrill {
    /// The run.
    pub run: RunId,
    /// When it ended.
    pub finished: Timestamp,
    /// What was practised.
    pub scenario: String,
    /// Whether every check passed and every objective was kept.
    pub passed: bool,
    /// From declared to validated.
    pub rto_achieved_seconds: f64,
    /// What is asked for.
    pub rto_objective_seconds: i64,
}

/// How long bringing one source or stream back would take.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreTime {
    /// Of which class.
    pub class: Class,
    /// Its name.
    pub name: String,
    /// Records or events.
    pub entries: u64,
    /// Stored bytes that would be read at most.
    pub stored_bytes: u64,
    /// How long; none where nothing was ever measured.
    pub estimated_seconds: Option<f64>,
    /// From how many measurements.
    pub measurements: usize,
    /// When the newest of them was made.
    pub measured: Option<Timestamp>,
}

/// The period whose locks end first.
#[derive(Debug, Clone, Serialize)]
pub struct Review {
    /// Of which chain.
    pub chain: ChainName,
    /// Which period.
    pub period: String,
    /// When its first lock ends.
    pub at: Timestamp,
}

/// Everything that can be said at an instant.
#[derive(Debug, Clone)]
pub struct Status {
    /// Every objective is kept, and nothing is damaged.
    pub ok: bool,
    /// The instant.
    pub at: Timestamp,
    /// By source and stream.
    pub rpo: Vec<Rpo>,
    /// Those that have one.
    pub newest: Vec<Newest>,
    /// Of everything stored.
    pub coverage: Coverage,
    /// Over 30 days.
    pub days_30: Option<Available>,
    /// Over 365 days.
    pub days_365: Option<Available>,
    /// Of each day of the last 90, the oldest first.
    pub days: Vec<Available>,
    /// If there was one.
    pub restore_test: Option<LastTest>,
    /// If there was one.
    pub drill: Option<LastDrill>,
    /// By source and stream.
    pub restore_times: Vec<RestoreTime>,
    /// What must be reviewed next.
    pub next_review: Option<Review>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

struct Standing<'a> {
    subject: &'a Subject,
    view: ChainView,
    points: Vec<Point>,
}

/// Says it, from attestations alone; `measured_here` are restores that were made on this machine.
pub fn status(
    ledger: &Ledger,
    subjects: &[Subject],
    objectives: &Objectives<'_>,
    measured_here: &[Measurement],
    now: Timestamp,
) -> Result<Status, StoreError> {
    let mut all = Vec::new();
    for subject in subjects {
        let view = ledger.chain_since(&subject.chain, u64::MAX)?;
        all.push(Standing { subject, points: points(&view), view });
    }
    let test_chain = ChainName::restore_test();
    let test_view = ledger.chain_since(&test_chain, u64::MAX)?;
    let tests = Tests::of(&test_view, now);
    // What the policy names no more is stored all the same.
    let mut others = Vec::new();
    for chain in ledger.chains()? {
        let data = chain.source().is_some() || chain.stream().is_some();
        if data && subjects.iter().all(|s| s.chain != chain) {
            let view = ledger.chain_since(&chain, u64::MAX)?;
            others.push((chain, view));
        }
    }
    let named = all.iter().map(|s| (&s.subject.chain, &s.view));
    let data: Vec<DataObject<'_>> = named
        .chain(others.iter().map(|(chain, view)| (chain, view)))
        .flat_map(|(chain, view)| data_objects(chain, view))
        .filter(|o| ledger.disposal_of(&o.object.name, &o.object.sha256).is_none())
        .collect();
    let mut findings: Vec<Finding> = all.iter().flat_map(|s| look(s, now, objectives.rpo)).collect();
    let back = |days: i64| now - SignedDuration::from_hours(24 * days);
    let held = || {
        let held = all.iter().filter(|s| !s.subject.delivered);
        held.filter_map(|s| Some(Held { points: &s.points, since: since(&s.view)?, objective: objectives.rpo }))
    };
    let over = |days: i64| availability(held(), back(days), now).map(Available::from);
    let days = by_day(held(), back(CALENDAR_DAYS), now).into_iter().map(Available::from).collect();
    let (days_30, days_365) = (over(30), over(365));
    let last = test_view.attested.iter().rev().find(|a| a.statement.kind == Kind::RestoreTest).map(last_test);
    let founded = ledger.vault_chain().attested.first().map(|g| g.statement.predicate.finished);
    findings.extend(look_at_tests(&test_chain, last.as_ref(), founded, objectives, now));
    let drill_chain = ChainName::drill();
    let is_drill = |a: &Attested| a.statement.kind == Kind::Drill;
    let drill_view = ledger.chain_since(&drill_chain, u64::MAX)?;
    let drill = drill_view.attested.iter().rev().find(|a| is_drill(a)).and_then(last_drill);
    findings.extend(look_at_drills(&drill_chain, drill.as_ref(), founded, objectives, now));
    let class = |chain: &ChainName| subjects.iter().find(|s| s.chain == *chain).map_or_else(|| super::class_of(chain, None), |s| s.class);
    let mut measured = measured_by_tests(&test_view, class);
    measured.extend_from_slice(measured_here);
    let restore_times: Vec<RestoreTime> = all.iter().map(|s| restore_time(s, &measured, now)).collect();
    let sum: f64 = restore_times.iter().filter_map(|t| t.estimated_seconds).sum();
    if sum > objectives.rto.as_secs_f64() {
        let message = format!(
            "bringing everything back would take {:.0} s by the measured rates, and the RTO is {} s",
            sum,
            objectives.rto.as_secs()
        );
        findings.push(Finding { severity: Severity::Error, kind: "rto_out_of_reach", chain: test_chain, message });
    }
    for (chain, view) in [(ChainName::restore_test(), &test_view), (drill_chain, &drill_view)] {
        let lost = view.missing.len() + view.voids.len() + view.attested.iter().filter(|a| a.from_bundle).count();
        if lost > 0 {
            let message = format!("{lost} of its attestations are missing or damaged: `backstop verify` names them");
            findings.push(Finding { severity: Severity::Error, kind: "missing_attestation", chain, message });
        }
    }
    if let Some(a) = days_30.filter(|a| a.percent < objectives.availability) {
        let beyond = spoken(SignedDuration::from_secs(a.beyond_seconds));
        let message = format!(
            "available {:.3} % of the last 30 days; the objective is {} %: {beyond} beyond an RPO",
            a.percent, objectives.availability
        );
        findings.push(Finding { severity: Severity::Error, kind: "availability_missed", chain: ChainName::vault(), message });
    }
    Ok(Status {
        ok: findings.iter().all(|f| f.severity != Severity::Error),
        at: now,
        rpo: all.iter().map(|s| rpo(s, now, objectives.rpo)).collect(),
        newest: all.iter().filter_map(|s| newest(s, &tests, now)).collect(),
        coverage: coverage(data.iter().copied(), &tests),
        days_30,
        days_365,
        days,
        restore_test: last,
        drill,
        restore_times,
        next_review: next_review(&data),
        findings,
    })
}

fn rpo(s: &Standing<'_>, now: Timestamp, objective: SignedDuration) -> Rpo {
    Rpo {
        class: s.subject.class,
        name: s.subject.name.clone(),
        chain: s.subject.chain.clone(),
        achieved_seconds: rpo_at(&s.points, now).map(|d| d.as_secs()),
        objective_seconds: (!s.subject.delivered).then_some(objective.as_secs()),
        last_attested: s.view.head().map(|a| a.statement.predicate.finished),
        captured: newest_at(&s.points, now).map(|p| p.captured),
    }
}

/// What is wrong with one chain.
fn look(s: &Standing<'_>, now: Timestamp, objective: SignedDuration) -> Vec<Finding> {
    let chain = &s.subject.chain;
    let finding = |severity, kind, message| Finding { severity, kind, chain: chain.clone(), message };
    let mut out = Vec::new();
    if !s.view.missing.is_empty() {
        let message = format!("{} of its attestations are missing: `backstop verify` names them", s.view.missing.len());
        out.push(finding(Severity::Error, "missing_attestation", message));
    }
    let salvaged = s.view.attested.iter().filter(|a| a.from_bundle).count();
    if salvaged > 0 {
        let message = format!("the store's copies of {salvaged} of its attestations are missing or damaged: `backstop verify` names them");
        out.push(finding(Severity::Error, "damaged_attestation", message));
    }
    if !s.view.voids.is_empty() {
        let message = format!("{} of its numbers are void: `backstop verify` names them", s.view.voids.len());
        out.push(finding(Severity::Warning, "void_attestation", message));
    }
    match rpo_at(&s.points, now).filter(|_| !s.subject.delivered) {
        None if s.subject.delivered => {}
        None => {
            let message = "it has no recovery point that counts: nothing complete was ever committed".to_owned();
            out.push(finding(Severity::Error, "no_recovery_point", message));
        }
        Some(age) if age > objective => {
            let message = format!("its newest recovery point is {} old; the RPO is {}", spoken(age), spoken(objective));
            out.push(finding(Severity::Error, "rpo_exceeded", message));
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
        let code = || p.details.get("error_code").and_then(Value::as_str).map(|c| format!(" ({c})")).unwrap_or_default();
        match p.outcome {
            Outcome::Complete => {}
            Outcome::Partial => {
                let what = incomplete().map(|names| format!(": not complete are {names}")).unwrap_or_default();
                out.push(finding(Severity::Warning, "partial", format!("its newest run {} is partial{what}", p.run)));
            }
            Outcome::Failed => out.push(finding(Severity::Warning, "failed", format!("its newest run {} failed{}", p.run, code()))),
        }
    }
    out
}

fn last_test(attested: &Attested) -> LastTest {
    let p = &attested.statement.predicate;
    let checks = p.details::<RestoreTestDetails>().map(|d| d.checks).unwrap_or_default();
    let failed_checks = checks.into_iter().filter(|c| c.outcome == "failed").map(|c| c.name).collect();
    LastTest { run: p.run, finished: p.finished, outcome: p.outcome, failed_checks }
}

fn look_at_tests(
    chain: &ChainName,
    last: Option<&LastTest>,
    founded: Option<Timestamp>,
    objectives: &Objectives<'_>,
    now: Timestamp,
) -> Option<Finding> {
    let finding = |severity, kind, message| Some(Finding { severity, kind, chain: chain.clone(), message });
    if let Some(last) = last.filter(|l| l.outcome == Outcome::Failed) {
        let what = if last.failed_checks.is_empty() { "it could not be carried out".to_owned() } else { last.failed_checks.join(", ") };
        let message = format!("the restore test {} failed: {what}; `backstop show {}` tells more", last.run, last.run);
        return finding(Severity::Error, "restore_test_failed", message);
    }
    let due = last.map(|l| l.finished).or(founded).and_then(|after| (objectives.due)(Kind::RestoreTest, after));
    if let Some(due) = due.filter(|due| now.duration_since(*due) > LATE) {
        let message = format!("a restore test was due at {due}, and none was attested since");
        return finding(Severity::Error, "restore_test_missed", message);
    }
    let partial = last.filter(|l| l.outcome == Outcome::Partial)?;
    let message = format!("the restore test {} could not restore everything that it drew", partial.run);
    finding(Severity::Warning, "restore_test_partial", message)
}

fn last_drill(attested: &Attested) -> Option<LastDrill> {
    let p = &attested.statement.predicate;
    let d = p.details::<DrillDetails>().ok()?;
    Some(LastDrill {
        run: p.run,
        finished: p.finished,
        scenario: d.scenario,
        passed: d.passed,
        rto_achieved_seconds: d.rto_achieved_seconds,
        rto_objective_seconds: d.rto_objective_seconds,
    })
}

fn look_at_drills(
    chain: &ChainName,
    last: Option<&LastDrill>,
    founded: Option<Timestamp>,
    objectives: &Objectives<'_>,
    now: Timestamp,
) -> Option<Finding> {
    let finding = |kind, message| Some(Finding { severity: Severity::Error, kind, chain: chain.clone(), message });
    if let Some(last) = last.filter(|l| !l.passed) {
        return finding("drill_not_passed", format!("the drill {} did not pass; `backstop drill show {}` tells why", last.run, last.run));
    }
    let due = (objectives.due)(Kind::Drill, last.map(|l| l.finished).or(founded)?)?;
    let late = now.duration_since(due) > LATE;
    if late { finding("drill_missed", format!("a drill was due at {due}, and none was attested since")) } else { None }
}

fn newest(s: &Standing<'_>, tests: &Tests, now: Timestamp) -> Option<Newest> {
    let point = newest_at(&s.points, now)?;
    let attested = s.view.attested.iter().find(|a| a.sequence() == point.sequence)?;
    let p = &attested.statement.predicate;
    let data = || p.objects.iter().filter(|o| period_folder(&o.name).is_some());
    let lock = data().map(|o| &o.lock).min_by_key(|l| l.until).or(attested.lock.as_ref());
    let own = |object| DataObject { chain: &s.subject.chain, sequence: p.sequence, committed: p.finished, object };
    let (source, stream) = match s.subject.class {
        Class::Logs => (None, Some(s.subject.name.clone())),
        _ => (Some(s.subject.name.clone()), None),
    };
    Some(Newest {
        class: s.subject.class,
        source,
        stream,
        chain: s.subject.chain.clone(),
        run: p.run,
        sequence: point.sequence,
        outcome: p.outcome,
        captured: point.captured,
        finished: point.committed,
        lock_mode: lock.map(|l| l.mode),
        lock_until: lock.and_then(|l| l.until),
        tested: data().map(|object| tests.covered(&own(object))).min().flatten(),
    })
}

/// Of a source its newest recovery point would be brought back, of a stream what was sealed within 30 days.
fn restore_time(s: &Standing<'_>, measured: &[Measurement], now: Timestamp) -> RestoreTime {
    let counts =
        |a: &&Attested| matches!(a.statement.kind, Kind::Snapshot | Kind::Export) && a.statement.predicate.outcome != Outcome::Failed;
    let stored =
        |a: &Attested| a.statement.predicate.objects.iter().filter(|o| period_folder(&o.name).is_some()).map(|o| o.size).sum::<u64>();
    let runs = || s.view.attested.iter().filter(counts);
    let (entries, stored_bytes) = match s.subject.class {
        Class::Logs => {
            let recent = || runs().filter(|a| now.duration_since(a.statement.predicate.finished) <= LOGS_BROUGHT_BACK);
            let events = |a: &Attested| a.statement.predicate.details.get("events").and_then(Value::as_u64).unwrap_or(0);
            (recent().map(events).sum(), recent().map(stored).sum())
        }
        _ => {
            let newest = newest_at(&s.points, now).and_then(|p| runs().find(|a| a.sequence() == p.sequence)).or_else(|| runs().next_back());
            let details = newest.and_then(|a| a.statement.predicate.details::<SnapshotDetails>().ok());
            let from = |d: &SnapshotDetails| runs().filter(|a| d.segments_from.contains(&a.statement.predicate.run)).map(stored).sum();
            details.map_or((0, 0), |d| (d.entries, from(&d)))
        }
    };
    let estimated: Option<Estimate> = estimate(measured, s.subject.class, entries, stored_bytes);
    RestoreTime {
        class: s.subject.class,
        name: s.subject.name.clone(),
        entries,
        stored_bytes,
        estimated_seconds: estimated.map(|e| e.seconds),
        measurements: estimated.map_or(0, |e| e.measurements),
        measured: estimated.map(|e| e.measured),
    }
}

fn next_review(data: &[DataObject<'_>]) -> Option<Review> {
    let first = data.iter().filter(|o| o.object.lock.until.is_some()).min_by_key(|o| o.object.lock.until)?;
    let (chain, period) = period_folder(&first.object.name).and_then(period_of)?;
    Some(Review { chain, period, at: first.object.lock.until? })
}

/// A duration as people say it, of two units.
pub fn spoken(duration: SignedDuration) -> String {
    let s = duration.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}
