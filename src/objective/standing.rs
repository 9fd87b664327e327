//! How one source or stream stands: what its chain says, without the chain.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::entry::points_of;
use super::status::{Finding, Newest, RestoreTime, Review, Rpo, Severity, Subject, spoken};
use super::{
    Class, Coverage, DataObject, Entry, Estimate, Measurement, Point, Survey, SurveyError, Tests, What, estimate, newest_at, rpo_at,
};
use crate::vault::Attested;
use crate::vault::attestation::{CollectionOutcome, Outcome, SnapshotDetails};
use crate::vault::names::{ChainName, period_folder, period_of};

/// Of a stream so much would be brought back after an incident.
const LOGS_BROUGHT_BACK: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Recovery points that were too old so long ago change no availability.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(366 * 24);
/// As many missing numbers are counted.
const MOST_MISSING: u64 = 10_000;

/// What is wrong with a chain itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Health {
    /// Numbers below the head at which the store has nothing.
    pub missing: u64,
    /// Numbers of which only a bundle holds the envelope.
    pub salvaged: u64,
    /// Numbers that hold something that is no valid envelope.
    pub voids: u64,
}

impl Health {
    pub fn of(entries: &[Entry]) -> Self {
        let head = entries.iter().rev().find(|e| e.what != What::Void).map_or(0, |e| e.sequence);
        let mut there: Vec<u64> = entries.iter().filter(|e| !e.salvaged && e.sequence <= head).map(|e| e.sequence).collect();
        there.dedup();
        Self {
            missing: (head - there.len() as u64).min(MOST_MISSING),
            salvaged: entries.iter().filter(|e| e.salvaged).count() as u64,
            voids: entries.iter().filter(|e| e.what == What::Void).count() as u64,
        }
    }

    /// How many of its attestations are not what they were.
    pub fn lost(self) -> u64 {
        self.missing + self.salvaged + self.voids
    }
}

/// What is stored on a chain, whoever may name it.
pub(super) struct Holdings {
    pub coverage: Coverage,
    /// When the first lock ends, and of what.
    review: Option<(Timestamp, Entry)>,
    chain: ChainName,
}

impl Holdings {
    pub fn of(chain: &ChainName, entries: &[Entry], tests: &Tests) -> Self {
        let locks = entries.iter().filter_map(|e| Some((e.sound()?.review?, e)));
        let review = locks.min_by_key(|(at, e)| (*at, e.sequence)).map(|(at, e)| (at, e.clone()));
        Self { coverage: tests.coverage(chain, entries), review, chain: chain.clone() }
    }
}

/// The period whose locks end first, of all that is stored.
pub(super) fn next_review(survey: &Survey<'_>, all: &[Holdings]) -> Result<Option<Review>, SurveyError> {
    let reviews = all.iter().filter_map(|h| h.review.as_ref().map(|(at, entry)| (*at, entry, &h.chain)));
    let Some((at, entry, chain)) = reviews.min_by_key(|(at, entry, chain)| (*at, entry.sequence, *chain)) else { return Ok(None) };
    let attested = survey.attestations(chain, &[entry])?.pop();
    let objects = attested.map(|a| a.statement.predicate.objects).unwrap_or_default();
    let first = objects.iter().find(|o| o.lock.until == Some(at) && period_folder(&o.name).is_some());
    let period = first.and_then(|o| period_folder(&o.name)).and_then(period_of);
    Ok(period.map(|(chain, period)| Review { chain, period, at }))
}

/// A source or stream that is held to objectives.
pub(super) struct Standing<'a> {
    pub subject: &'a Subject,
    /// Its recovery points, as far back as they matter.
    pub points: Vec<Point>,
    /// Since when it is answered for: its first attestation, whatever came of it.
    pub since: Option<Timestamp>,
    last_attested: Option<Timestamp>,
    health: Health,
    /// The attestation of the newest recovery point.
    newest: Option<(Point, Attested)>,
    /// How the newest run ended, where it was not complete.
    unwell: Option<Attested>,
    entries: u64,
    stored_bytes: u64,
}

impl<'a> Standing<'a> {
    pub fn of(
        subject: &'a Subject,
        entries: &[Entry],
        survey: &Survey<'_>,
        now: Timestamp,
        rpo: SignedDuration,
    ) -> Result<Self, SurveyError> {
        let at = |sequence| -> Result<Option<Attested>, SurveyError> {
            let entry = entries.iter().rfind(|e| e.sequence == sequence && e.what != What::Void);
            Ok(survey.attestations(&subject.chain, entry.as_slice())?.pop())
        };
        let mut points = points_of(entries);
        let point = newest_at(&points, now);
        let newest = match point {
            Some(point) => at(point.sequence)?.map(|attested| (point, attested)),
            None => None,
        };
        let valid = || entries.iter().filter(|e| e.what != What::Void);
        let last_run = entries.iter().rev().find_map(|e| if let What::Run(run) = &e.what { Some((e.sequence, run)) } else { None });
        let unwell = match last_run {
            Some((sequence, run)) if run.outcome != Outcome::Complete => at(sequence)?,
            _ => None,
        };
        let bytes = |e: &Entry| e.sound().map_or(0, |run| run.objects.iter().map(|o| o.size).sum::<u64>());
        let (count, stored_bytes) = match subject.class {
            Class::Logs => {
                let recent = || entries.iter().filter(|e| now.duration_since(e.finished) <= LOGS_BROUGHT_BACK);
                (recent().filter_map(|e| Some(e.sound()?.entries)).sum(), recent().map(bytes).sum())
            }
            _ => {
                let last = match &newest {
                    Some((_, attested)) => Some(attested.clone()),
                    None => entries.iter().rev().find(|e| e.sound().is_some()).map(|e| at(e.sequence)).transpose()?.flatten(),
                };
                let details = last.and_then(|a| a.statement.predicate.details::<SnapshotDetails>().ok());
                let from = |d: &SnapshotDetails| {
                    let needed = entries.iter().filter(|e| e.sound().is_some_and(|run| d.segments_from.contains(&run.run)));
                    needed.map(bytes).sum()
                };
                details.map_or((0, 0), |d| (d.entries, from(&d)))
            }
        };
        let forgotten = now - REMEMBERED;
        points.retain(|p| p.captured.saturating_add(rpo).is_ok_and(|end| end >= forgotten) || Some(*p) == point);
        Ok(Self {
            subject,
            points,
            since: valid().next().map(|e| e.finished),
            last_attested: valid().next_back().map(|e| e.finished),
            health: Health::of(entries),
            newest,
            unwell,
            entries: count,
            stored_bytes,
        })
    }

    pub fn rpo(&self, now: Timestamp, objective: SignedDuration) -> Rpo {
        Rpo {
            class: self.subject.class,
            name: self.subject.name.clone(),
            chain: self.subject.chain.clone(),
            achieved_seconds: rpo_at(&self.points, now).map(|d| d.as_secs()),
            objective_seconds: (!self.subject.delivered).then_some(objective.as_secs()),
            last_attested: self.last_attested,
            captured: newest_at(&self.points, now).map(|p| p.captured),
        }
    }

    /// What is wrong with it.
    pub fn look(&self, now: Timestamp, objective: SignedDuration) -> Vec<Finding> {
        let chain = &self.subject.chain;
        let finding = |severity, kind, message| Finding { severity, kind, chain: chain.clone(), message };
        let Health { missing, salvaged, voids } = self.health;
        let mut out = Vec::new();
        if missing > 0 {
            let message = format!("{missing} of its attestations are missing: `backstop verify` names them");
            out.push(finding(Severity::Error, "missing_attestation", message));
        }
        if salvaged > 0 {
            let message =
                format!("the store's copies of {salvaged} of its attestations are missing or damaged: `backstop verify` names them");
            out.push(finding(Severity::Error, "damaged_attestation", message));
        }
        if voids > 0 {
            let message = format!("{voids} of its numbers are void: `backstop verify` names them");
            out.push(finding(Severity::Warning, "void_attestation", message));
        }
        if !self.subject.delivered {
            match rpo_at(&self.points, now) {
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
        }
        if let Some(last) = &self.unwell {
            let p = &last.statement.predicate;
            let incomplete = || {
                let details = p.details::<SnapshotDetails>().ok()?;
                let bad = details.collections.into_iter().filter(|c| c.outcome != CollectionOutcome::Complete).map(|c| c.name);
                Some(bad.collect::<Vec<_>>().join(", ")).filter(|names| !names.is_empty())
            };
            let code = || p.details.get("error_code").and_then(Value::as_str).map(|c| format!(" ({c})")).unwrap_or_default();
            let (kind, message) = match p.outcome {
                Outcome::Failed => ("failed", format!("its newest run {} failed{}", p.run, code())),
                _ => {
                    let what = incomplete().map(|names| format!(": not complete are {names}")).unwrap_or_default();
                    ("partial", format!("its newest run {} is partial{what}", p.run))
                }
            };
            out.push(finding(Severity::Warning, kind, message));
        }
        out
    }

    pub fn newest(&self, tests: &Tests) -> Option<Newest> {
        let (point, attested) = self.newest.as_ref()?;
        let p = &attested.statement.predicate;
        let data = || p.objects.iter().filter(|o| period_folder(&o.name).is_some());
        let lock = data().map(|o| &o.lock).min_by_key(|l| l.until).or(attested.lock.as_ref());
        let own = |object| DataObject { chain: &self.subject.chain, sequence: p.sequence, committed: p.finished, object };
        let (source, stream) = match self.subject.class {
            Class::Logs => (None, Some(self.subject.name.clone())),
            _ => (Some(self.subject.name.clone()), None),
        };
        Some(Newest {
            class: self.subject.class,
            source,
            stream,
            chain: self.subject.chain.clone(),
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
    pub fn restore_time(&self, measured: &[Measurement]) -> RestoreTime {
        let estimated: Option<Estimate> = estimate(measured, self.subject.class, self.entries, self.stored_bytes);
        RestoreTime {
            class: self.subject.class,
            name: self.subject.name.clone(),
            entries: self.entries,
            stored_bytes: self.stored_bytes,
            estimated_seconds: estimated.map(|e| e.seconds),
            measurements: estimated.map_or(0, |e| e.measurements),
            measured: estimated.map(|e| e.measured),
        }
    }
}
