//! The drill: a disaster in a tenant that stands in for the real one, brought back from the vault alone, and measured.
//!
//! It promises that what it writes to is a stand-in by its type, that nothing but the vault is read to bring it back, and that
//! what it says of RPO and RTO was measured. It signs with the tester's key, on a chain of its own.

mod compare;
mod material;
mod record;
mod runbook;
mod watch;

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use crate::objective::{Subject, newest_at, points};
use crate::observe::Monitor;
use crate::restore::{RestoreError, Scratch};
use crate::sample::{SampleError, StandIn};
use crate::store::StoreError;
use crate::vault::attestation::{CheckRecord, DrillClock, DrillDetails, DrillRpo, DrillTimeline, Kind, Outcome};
use crate::vault::keys::Identities;
use crate::vault::names::{ChainName, RunId};
use crate::vault::seal::SealError;
use crate::vault::{Attested, CommitError, LedgerError, Writer};

use compare::{Plan, Truth};
use material::{Material, Selected};
use watch::Watch;

pub use runbook::{RUNBOOKS, Runbook};

/// A drill.
pub struct DrillJob<'a> {
    /// Who attests: a tester.
    pub writer: &'a Writer,
    /// The policy's bytes.
    pub policy: &'a [u8],
    /// What opens the vault.
    pub identities: &'a Identities,
    /// What is practised.
    pub runbook: &'a Runbook,
    /// Everything that is held to the RPO.
    pub subjects: &'a [Subject],
    /// The largest loss.
    pub rpo: SignedDuration,
    /// The longest time from declared to validated.
    pub rto: SignedDuration,
    /// Below which directory it is restored.
    pub temporary: &'a Path,
    /// Worker threads.
    pub threads: usize,
    /// Who listens.
    pub monitor: &'a dyn Monitor,
}

/// What a drill measured.
#[derive(Debug)]
pub struct DrillReport {
    /// The run.
    pub run: RunId,
    /// Its number on the chain `drill`.
    pub sequence: u64,
    /// `complete` where everything was brought back and every check passed, whether or not within the objectives.
    pub outcome: Outcome,
    /// What is attested.
    pub details: DrillDetails,
    /// What a check found, with names.
    pub problems: Vec<String>,
}

/// Why a drill could not be held.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// There is nothing to bring back.
    #[error("the vault has no complete snapshot of a tenant that the policy names: there is nothing to bring back")]
    NothingYet,
    /// The directory is full, vanished, or cannot be written.
    #[error("cannot restore into {}", path.display())]
    Scratch {
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The disaster did not happen.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// A restore could not go on.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The drill could not be attested.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The record could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Holds a drill, and attests it.
#[tracing::instrument(skip_all, fields(scenario = job.runbook.id))]
pub fn drill(job: &DrillJob<'_>) -> Result<DrillReport, DrillError> {
    let ledger = &job.writer.ledger;
    let struck = job.writer.now()?;
    let ahead = job.writer.clock.now().duration_since(struck).as_secs_f64();
    let run = RunId::new(struck);
    let mut watch = Watch::start(struck);
    // The disaster strikes now; staging what it strikes takes time that no real one would.
    let scratch = |source| DrillError::Scratch { path: job.temporary.to_owned(), source };
    let dir = Scratch::new(job.temporary).map_err(scratch)?;
    let staged = dir.path().join("staged");
    let mut stand_in = StandIn::new(struck, struck.as_second().unsigned_abs());
    let material = Material::fetch(job, &select(job, struck)?, &staged)?;
    material.load(job, &mut stand_in)?;
    dir.clear(&staged).map_err(scratch)?;
    let truth = Truth::of(&stand_in);
    // Where everything is lost, that is what the drill finds.
    let expected = material.expected();
    if truth.is_empty() && expected == 0 {
        return Err(DrillError::NothingYet);
    }
    watch.step("stage", false);
    let mut destroyed = 0;
    for name in job.runbook.disasters {
        destroyed += stand_in.disaster(name)?.len() as u64;
    }
    let lost_events = stand_in.lose_events();
    let added = truth.added(&stand_in);
    watch.step("disaster", false);
    let declared = watch.now();

    // From here on the clock runs, and nothing but the vault is read.
    let selected = select(job, struck)?;
    let source_selected = watch.step("select", true);
    selected.iter().find(|s| s.point.is_some()).map_or(Ok(()), |s| s.open(job))?;
    let key_available = watch.step("open", true);
    let material = Material::fetch(job, &selected, &dir.path().join("restored"))?;
    let data_available = watch.step("fetch_and_verify", true);
    let plan = Plan::make(&stand_in, &material).map_err(scratch)?;
    let restore_started = watch.step("plan", true);
    let (planned, mut applied) = (plan.changes(), 0);
    for (collection, changes) in plan.in_order() {
        applied += changes.apply(&mut stand_in);
        watch.step(&format!("apply {collection}"), true);
    }
    material.load_events(job, &mut stand_in)?;
    let restore_done = watch.step("apply logs", true);
    let (mut checks, mut problems) = (Vec::new(), Vec::new());
    material.judge(&mut checks, &mut problems);
    truth.judge(&stand_in, &added, expected, &mut checks, &mut problems);
    compare::judge_events(&mut stand_in, &lost_events, &mut checks, &mut problems);
    watch.step("validate", true);
    let validated = watch.now();
    let restored_bytes = material.restored_bytes();
    drop(dir);
    let cleanup_done = watch.step("clean_up", false);

    let rpo: Vec<DrillRpo> = selected.iter().map(|s| s.rpo(struck, job.rpo)).collect();
    let rto_achieved = validated.duration_since(declared).as_secs_f64();
    let well = checks.iter().all(|c: &CheckRecord| c.outcome != "failed");
    let missed = rpo.iter().any(|r| r.objective_seconds.is_some_and(|o| r.achieved_seconds.is_none_or(|a| a > o)));
    let is_drill = |a: &Attested| a.statement.kind == Kind::Drill;
    let earlier = ledger.chain_until(&ChainName::drill(), is_drill)?.attested.into_iter().rev().find(is_drill);
    let details = DrillDetails {
        scenario: job.runbook.id.to_owned(),
        drill_type: "functional".to_owned(),
        class: job.runbook.head("class").unwrap_or_default().to_owned(),
        unattended: true,
        clock: DrillClock { source: "store".to_owned(), ahead_seconds: ahead },
        timeline: DrillTimeline {
            detected: declared,
            source_selected,
            key_available,
            data_available,
            verified: data_available,
            planned: restore_started,
            plan_approved: None,
            restore_started,
            restore_done,
            service_accepted: None,
            cleanup_done,
        },
        runbook: job.runbook.id.to_owned(),
        runbook_sha256: job.runbook.sha256(),
        environment: "stand_in".to_owned(),
        disaster: struck,
        declared,
        validated,
        steps: watch.steps,
        sources: material.sources(),
        streams: material.streams(),
        destroyed,
        planned,
        applied,
        left_out: 0,
        restored_bytes,
        rpo,
        rto_achieved_seconds: rto_achieved,
        rto_objective_seconds: job.rto.as_secs(),
        passed: well && !missed && rto_achieved <= job.rto.as_secs_f64(),
        checks,
        earlier: earlier.and_then(|a| record::earlier(&a)),
    };
    let outcome = if well { Outcome::Complete } else { Outcome::Failed };
    let sequence = record::commit(job, run, struck, outcome, &details, &problems)?;
    Ok(DrillReport { run, sequence, outcome, details, problems })
}

/// What there is to bring back at an instant: the newest complete snapshot of each source, and each stream up to its
/// high-water mark.
fn select(job: &DrillJob<'_>, at: Timestamp) -> Result<Vec<Selected>, DrillError> {
    let mut out = Vec::new();
    for subject in job.subjects {
        let view = job.writer.ledger.chain_since(&subject.chain, u64::MAX)?;
        let point = newest_at(&points(&view), at);
        let attested = point.and_then(|p| view.attested.into_iter().find(|a| a.sequence() == p.sequence));
        out.push(Selected { subject: subject.clone(), point: point.zip(attested) });
    }
    let tenant = |s: &Selected| s.subject.chain.source().is_some() && s.point.is_some();
    if out.iter().any(tenant) { Ok(out) } else { Err(DrillError::NothingYet) }
}

/// A check as attestations name it.
fn check(name: &str, count: u64, failed: u64) -> CheckRecord {
    let outcome = match (failed, count) {
        (1.., _) => "failed",
        (_, 0) => "skipped",
        _ => "passed",
    };
    CheckRecord { name: name.to_owned(), outcome: outcome.to_owned(), count, failed }
}
