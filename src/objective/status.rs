//! Everything that can be said of a vault's objectives at an instant.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::standing::{Health, Holdings, Standing, next_review};
use super::{
    Availability, COVERAGE_PERIOD, Class, Coverage, Entry, Held, Measurement, Survey, SurveyError, Tests, What, availability, by_day,
    measured_by_tests,
};
use crate::store::LockMode;
use crate::vault::Attested;
use crate::vault::attestation::{DrillDetails, Kind, Outcome, RestoreTestDetails};
use crate::vault::names::{ChainName, RunId};

/// So many days are told one by one.
const CALENDAR_DAYS: i64 = 90;
/// A test that is so late was missed.
const LATE: SignedDuration = SignedDuration::from_hours(24);

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

/// Says it, from attestations alone; `measured_here` are restores that were made on this machine.
pub fn status(
    survey: &Survey<'_>,
    subjects: &[Subject],
    objectives: &Objectives<'_>,
    measured_here: &[Measurement],
    now: Timestamp,
) -> Result<Status, SurveyError> {
    let ledger = survey.ledger();
    let (test_chain, drill_chain) = (ChainName::restore_test(), ChainName::drill());
    let test_entries = survey.entries(&test_chain)?;
    let is_test = |e: &&Entry| matches!(e.what, What::Test(_));
    // Those that cover something, and the newest.
    let counting = test_entries.iter().filter(is_test).filter(|e| now.duration_since(e.finished) < COVERAGE_PERIOD);
    let mut read = counting.collect::<Vec<_>>();
    read.extend(test_entries.iter().rfind(is_test).filter(|last| !read.contains(last)));
    let attested_tests = survey.attestations(&test_chain, &read)?;
    let tests = Tests::of(&attested_tests, now);
    let drill_entries = survey.entries(&drill_chain)?;

    let (mut all, mut holdings) = (Vec::new(), Vec::new());
    for subject in subjects {
        let entries = survey.entries(&subject.chain)?;
        holdings.push(Holdings::of(&subject.chain, &entries, &tests));
        all.push(Standing::of(subject, &entries, survey, now, objectives.rpo)?);
    }
    // What the policy names no more is stored all the same.
    let others = survey.chains().iter().filter(|c| c.source().is_some() || c.stream().is_some());
    for chain in others.filter(|c| subjects.iter().all(|s| s.chain != **c)) {
        holdings.push(Holdings::of(chain, &survey.entries(chain)?, &tests));
    }
    let mut coverage = Coverage::default();
    holdings.iter().for_each(|h| coverage += h.coverage);

    let mut findings: Vec<Finding> = all.iter().flat_map(|s| s.look(now, objectives.rpo)).collect();
    let back = |days: i64| now - SignedDuration::from_hours(24 * days);
    let held = || {
        let held = all.iter().filter(|s| !s.subject.delivered);
        held.filter_map(|s| Some(Held { points: &s.points, since: s.since?, objective: objectives.rpo }))
    };
    let over = |days: i64| availability(held(), back(days), now).map(Available::from);
    let days = by_day(held(), back(CALENDAR_DAYS), now).into_iter().map(Available::from).collect();
    let (days_30, days_365) = (over(30), over(365));
    let last = attested_tests.last().map(last_test);
    let founded = ledger.vault_chain().attested.first().map(|g| g.statement.predicate.finished);
    findings.extend(look_at_tests(&test_chain, last.as_ref(), founded, objectives, now));
    let newest_drill = drill_entries.iter().rfind(|e| e.what == What::Drill);
    let drill = survey.attestations(&drill_chain, newest_drill.as_slice())?.last().and_then(last_drill);
    findings.extend(look_at_drills(&drill_chain, drill.as_ref(), founded, objectives, now));
    let class = |chain: &ChainName| subjects.iter().find(|s| s.chain == *chain).map_or_else(|| super::class_of(chain, None), |s| s.class);
    let mut measured = measured_by_tests(&test_entries, class);
    measured.extend_from_slice(measured_here);
    let restore_times: Vec<RestoreTime> = all.iter().map(|s| s.restore_time(&measured)).collect();
    let sum: f64 = restore_times.iter().filter_map(|t| t.estimated_seconds).sum();
    if sum > objectives.rto.as_secs_f64() {
        let message = format!(
            "bringing everything back would take {:.0} s by the measured rates, and the RTO is {} s",
            sum,
            objectives.rto.as_secs()
        );
        findings.push(Finding { severity: Severity::Error, kind: "rto_out_of_reach", chain: test_chain.clone(), message });
    }
    if ledger.vault_chain().attested.first().is_none_or(|genesis| genesis.from_bundle) {
        let message = match ledger.is_founded() {
            true => "its genesis is missing or damaged: `backstop verify` says more",
            false => "the place holds nothing of this vault, not even its genesis: an empty directory, or another one",
        };
        let chain = ChainName::vault();
        findings.push(Finding { severity: Severity::Error, kind: "missing_attestation", chain, message: message.into() });
    }
    for (chain, entries) in [(test_chain, &test_entries), (drill_chain, &drill_entries)] {
        let lost = Health::of(entries).lost();
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
        rpo: all.iter().map(|s| s.rpo(now, objectives.rpo)).collect(),
        newest: all.iter().filter_map(|s| s.newest(&tests)).collect(),
        coverage,
        days_30,
        days_365,
        days,
        restore_test: last,
        drill,
        restore_times,
        next_review: next_review(survey, &holdings)?,
        findings,
    })
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
