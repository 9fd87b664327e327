//! Applying an approved plan: attested first, then removed, then certified.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use serde_json::Map;

use super::plan::{Judge, PlanFile, PlanObject, folders};
use super::standing::Standing;
use super::{RetentionError, certificate};
use crate::observe::{Event, Monitor};
use crate::store::{ObjectInfo, Store, StoreError, side_by_side};
use crate::vault::attestation::{Kind, Outcome};
use crate::vault::names::{ChainName, RunId};
use crate::vault::{
    Attested, ChainView, CommitError, Committed, DisposedObject, DispositionDetails, Draft, NotRemoved, Removed, Writer, Written, holds_in,
};

/// So many obstacles are named.
const NAMED: usize = 5;

/// A plan to be applied.
pub struct ApplyJob<'a> {
    /// Who writes; its signer is an operator.
    pub writer: &'a Writer,
    /// The policy's bytes.
    pub policy: &'a [u8],
    /// The plan and its approvals.
    pub file: &'a PlanFile,
    /// Who listens.
    pub monitor: &'a dyn Monitor,
}

/// What was destroyed.
#[derive(Debug, Clone)]
pub struct ApplyReport {
    /// The disposition.
    pub run: RunId,
    /// Its number on the chain `vault`.
    pub sequence: u64,
    /// Whether an earlier, interrupted application had attested it.
    pub resumed: bool,
    /// The run that certifies it; none where nothing was new.
    pub certificate_run: Option<RunId>,
    /// The certificate's object.
    pub certificate: Option<String>,
    /// What is gone, of the whole plan.
    pub removed: Removed,
    /// What is not.
    pub not_removed: Vec<NotRemoved>,
}

/// Destroys what an approved plan names. Run again after an interruption it carries on.
pub fn apply(job: &ApplyJob<'_>) -> Result<ApplyReport, RetentionError> {
    let (writer, file) = (job.writer, job.file);
    let ledger = &writer.ledger;
    let keyid = writer.signer.key_id();
    if ledger.trust().operator_at(&keyid, u64::MAX).is_none() {
        return Err(RetentionError::NotAnOperator(keyid.to_string()));
    }
    let earlier = ledger.disposals().iter().find(|d| d.details.plan_sha256 == Some(file.sha256));
    let approved = file.approved_by(ledger);
    // What is attested was approved when it was: a key that ended since does not leave it half done.
    if approved < 2 && earlier.is_none() {
        return Err(RetentionError::NotApproved(approved));
    }
    let standing = Standing::read(ledger)?;
    let judge = Judge::new(ledger, &standing);
    let (run, sequence, at) = match earlier {
        Some(earlier) => (earlier.run, earlier.sequence, earlier.at),
        None => {
            recheck(file, &standing, &judge)?;
            let started = writer.now()?;
            let run = RunId::new(started);
            let committed = attest(job, &standing, run, started)?;
            (run, committed.sequence, committed.finished)
        }
    };
    let mut reasons = remove(job, &standing, &judge);
    // What is gone is what a fresh listing no longer shows.
    let left = standing_of(ledger.store().as_ref(), file)?;
    let objects: Vec<&PlanObject> = file.plan.items.iter().flat_map(|i| &i.objects).collect();
    let gone: Vec<&&PlanObject> = objects.iter().filter(|o| !left.contains(&o.name)).collect();
    let removed = Removed { objects: gone.len() as u64, bytes: gone.iter().map(|o| o.bytes).sum(), from: at, to: ledger.store().now()? };
    let why = |name: String| NotRemoved { reason: reasons.remove(&name).unwrap_or_else(|| "it is still listed".to_owned()), name };
    let not_removed: Vec<NotRemoved> = left.into_iter().map(why).collect();
    let certified = earlier.and_then(|d| d.certificates.last()).is_some_and(|c| c.not_removed.len() <= not_removed.len());
    let resumed = earlier.is_some();
    let mut report = ApplyReport { run, sequence, resumed, certificate_run: None, certificate: None, removed, not_removed };
    if !certified {
        certify(job, &mut report)?;
    }
    Ok(report)
}

/// Holds the store to the plan: the same objects, the same versions, no lock, no hold, nothing new.
fn recheck(file: &PlanFile, standing: &Standing, judge: &Judge<'_>) -> Result<(), RetentionError> {
    let there = folders(standing);
    let mut first = Vec::new();
    let mut count = 0;
    let mut obstacle = |message: String| {
        count += 1;
        if first.len() < NAMED {
            first.push(message);
        }
    };
    for item in &file.plan.items {
        let objects = there.get(item.folder.as_str()).map(Vec::as_slice).unwrap_or_default();
        match judge.folder(&item.folder, objects) {
            Err(found) => obstacle(found.message),
            Ok(now) => {
                let by_name: HashMap<&str, &PlanObject> = now.objects.iter().map(|o| (o.name.as_str(), o)).collect();
                for planned in &item.objects {
                    match by_name.get(planned.name.as_str()) {
                        None => obstacle(format!("{} is gone", planned.name)),
                        Some(o) if (o.sha256, o.bytes, &o.versions) != (planned.sha256, planned.bytes, &planned.versions) => {
                            obstacle(format!("{} is not what the plan says", planned.name));
                        }
                        Some(_) => {}
                    }
                }
                let planned: BTreeSet<&str> = item.objects.iter().map(|o| o.name.as_str()).collect();
                let news = now.objects.iter().filter(|o| !planned.contains(o.name.as_str()));
                news.for_each(|o| obstacle(format!("{} is new since the plan", o.name)));
            }
        }
    }
    if file.plan.items.is_empty() {
        obstacle("it names nothing".to_owned());
    }
    if count > 0 { Err(RetentionError::Obstacles { first, count }) } else { Ok(()) }
}

fn attest(job: &ApplyJob<'_>, standing: &Standing, run: RunId, started: Timestamp) -> Result<Committed, RetentionError> {
    let file = job.file;
    let objects = file.plan.items.iter().flat_map(|i| &i.objects);
    let details = DispositionDetails {
        disposed: objects.map(|o| DisposedObject { name: o.name.clone(), sha256: o.sha256 }).collect(),
        plan_sha256: Some(file.sha256),
        approvals: file.approvals.clone(),
        ..DispositionDetails::default()
    };
    let policy = job.writer.put_policy(job.policy, started)?;
    let draft = draft(run, started, Outcome::Complete, policy.into_iter().collect()).with_details(&details)?;
    let holds = |attested: &[Attested]| holds_in(attested).iter().map(|h| (h.hold, h.in_force(), h.held.len())).collect::<Vec<_>>();
    let known = standing.attested.iter().filter(|a| a.statement.predicate.chain == ChainName::vault()).cloned().collect::<Vec<_>>();
    let known = holds(&known);
    let still = |view: &ChainView| {
        let dropped = |why: &str| Err(CommitError::Dropped(why.to_owned()));
        if holds(&view.attested) != known {
            return dropped("a hold was added or removed meanwhile");
        }
        let plan_of = |a: &Attested| a.statement.predicate.details::<DispositionDetails>().ok().and_then(|d| d.plan_sha256);
        let twice = view.attested.iter().any(|a| a.statement.kind == Kind::Disposition && plan_of(a) == Some(file.sha256));
        if twice { dropped("another operator applies this plan") } else { Ok(()) }
    };
    Ok(job.writer.commit(&draft, |_| true, still)?)
}

pub(super) fn draft(run: RunId, started: Timestamp, outcome: Outcome, objects: Vec<Written>) -> Draft {
    Draft { kind: Kind::Disposition, chain: ChainName::vault(), run, started, outcome, objects, details: Map::new() }
}

/// Removes every version that the plan names; gives why something was not removed.
fn remove(job: &ApplyJob<'_>, standing: &Standing, judge: &Judge<'_>) -> BTreeMap<String, String> {
    let store = job.writer.ledger.store().as_ref();
    let objects: Vec<(&PlanObject, &[ObjectInfo])> =
        job.file.plan.items.iter().flat_map(|i| &i.objects).filter_map(|o| Some((o, standing.versions.get(&o.name)?.as_slice()))).collect();
    job.monitor.event(Event::Expect { records: objects.len() as u64, bytes: 0 });
    let answers = side_by_side(&objects, store.parallelism(), |(object, versions)| {
        let done = if judge.is_kept(&object.name) {
            Err("a legal hold covers it".to_owned())
        } else {
            versions.iter().try_for_each(|info| remove_one(store, object, info))
        };
        job.monitor.event(Event::Done { records: 1, bytes: object.bytes });
        done
    });
    objects.iter().zip(answers).filter_map(|((o, _), answer)| Some((o.name.clone(), answer.err()?))).collect()
}

fn remove_one(store: &dyn Store, object: &PlanObject, info: &ObjectInfo) -> Result<(), String> {
    let planned = info.version.as_ref().map_or(object.versions.is_empty(), |v| object.versions.contains(v));
    let same = info.recorded_sha256 == Some(object.sha256) || info.version.is_some();
    if !planned || !same {
        return Err("the plan does not name what stands there".to_owned());
    }
    match store.remove(&info.name, info.version.as_deref()) {
        Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
        Err(StoreError::Locked { reason, .. }) => Err(reason),
        Err(e) => Err(std::error::Error::source(&e).map_or_else(|| e.to_string(), |cause| format!("{e}: {cause}"))),
    }
}

/// The names of the plan that the store still lists.
fn standing_of(store: &dyn Store, file: &PlanFile) -> Result<BTreeSet<String>, StoreError> {
    let mut left = BTreeSet::new();
    for item in &file.plan.items {
        let listed: BTreeSet<String> = store.list(&item.folder)?.into_iter().map(|info| info.name).collect();
        left.extend(item.objects.iter().filter(|o| listed.contains(&o.name)).map(|o| o.name.clone()));
    }
    Ok(left)
}

/// Stores the certificate, and attests it.
fn certify(job: &ApplyJob<'_>, report: &mut ApplyReport) -> Result<(), RetentionError> {
    let started = job.writer.now()?;
    let run = RunId::new(started);
    let object = certificate::put(job.writer, job.file, report, run, started)?;
    let details = DispositionDetails {
        plan_sha256: Some(job.file.sha256),
        certificate_of: Some(report.run),
        removed: Some(report.removed.clone()),
        not_removed: report.not_removed.clone(),
        ..DispositionDetails::default()
    };
    let outcome = if report.not_removed.is_empty() { Outcome::Complete } else { Outcome::Partial };
    let name = object.name.clone();
    let mut objects = vec![object];
    objects.extend(job.writer.put_policy(job.policy, started)?);
    job.writer.commit(&draft(run, started, outcome, objects).with_details(&details)?, |_| true, |_| Ok(()))?;
    report.certificate_run = Some(run);
    report.certificate = Some(name);
    Ok(())
}
