//! Legal holds: set on the store first, then attested; lifted after it is attested.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde_json::Map;

use super::RetentionError;
use super::standing::Standing;
use crate::observe::{Event, Monitor};
use crate::store::{LockMode, LockRequest, ObjectInfo, Store, StoreError, side_by_side};
use crate::vault::attestation::{Kind, Outcome};
use crate::vault::epoch::{Grace, locked_until};
use crate::vault::names::{ChainName, Container, RunId};
use crate::vault::{Committed, Draft, Hold, HoldAction, HoldDetails, HoldScope, HoldState, Kept, Ledger, Writer};

/// So many objects are named in one attestation: an envelope has at most 64 MiB.
pub const HOLD_BATCH: usize = 100_000;
/// How often the vault is read again for what was committed meanwhile.
const PASSES: usize = 5;

/// A hold to be added.
pub struct HoldJob<'a> {
    /// Who writes; its signer is an operator.
    pub writer: &'a Writer,
    /// The policy's bytes.
    pub policy: &'a [u8],
    /// What it is about.
    pub scope: HoldScope,
    /// Until when, if that is known.
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: &'a str,
    /// On whose authority.
    pub authority: &'a str,
    /// Objects named in one attestation: [`HOLD_BATCH`].
    pub batch: usize,
    /// Who listens.
    pub monitor: &'a dyn Monitor,
}

/// What was held.
#[derive(Debug, Clone)]
pub struct HoldReport {
    /// The hold.
    pub hold: RunId,
    /// The number of its newest attestation; none where everything was attested before.
    pub sequence: Option<u64>,
    /// Objects held.
    pub objects: u64,
    /// Of them: held only now.
    pub newly_held: u64,
    /// Locks that reach further now.
    pub extended: u64,
    /// Objects in the scope that the store has lost.
    pub missing: Vec<String>,
}

/// What one pass over the store did.
#[derive(Default)]
struct Pass {
    held: Vec<Kept>,
    newly: u64,
    extended: u64,
    missing: Vec<String>,
}

/// Holds everything in a scope, and attests it. Run again after an interruption it carries on.
pub fn add_hold(job: &HoldJob<'_>) -> Result<HoldReport, RetentionError> {
    let writer = job.writer;
    let started = writer.now()?;
    check_until(job, started)?;
    let standing = Standing::read(&writer.ledger)?;
    let same =
        |h: &&Hold| h.in_force() && h.scope == job.scope && h.until == job.until && h.reason == job.reason && h.authority == job.authority;
    let known = standing.holds.iter().find(same);
    let run = RunId::new(started);
    let hold = known.map_or(run, |h| h.hold);
    let mut chosen = job.scope.chosen(&standing.attested);
    if chosen.is_empty() {
        return Err(RetentionError::NothingInScope);
    }
    chosen.extend(known.iter().flat_map(|h| &h.held).map(|kept| (kept.name.clone(), kept.clone())));
    job.monitor.event(Event::Expect { records: chosen.len() as u64, bytes: 0 });
    let first = hold_all(job, &standing, &chosen)?;
    let named: HashSet<&str> = known.iter().flat_map(|h| &h.held).map(|k| k.name.as_str()).collect();
    let fresh: Vec<Kept> = first.held.iter().filter(|k| !named.contains(k.name.as_str())).cloned().collect();
    let mut sequence = None;
    let mut batches: Vec<&[Kept]> = fresh.chunks(job.batch.max(1)).collect();
    if batches.is_empty() && known.is_none() {
        batches.push(&[]);
    }
    for (n, held) in batches.into_iter().enumerate() {
        let details = HoldDetails {
            hold,
            action: HoldAction::Add,
            scope: job.scope.clone(),
            reason: job.reason.to_owned(),
            authority: job.authority.to_owned(),
            until: job.until,
            held: held.to_vec(),
            missing: if n == 0 { first.missing.clone() } else { Vec::new() },
        };
        let run = if n == 0 && known.is_none() { run } else { RunId::new(writer.now()?) };
        sequence = Some(attest(writer, job.policy, run, started, &details)?.sequence);
    }
    // A run that was committed while this went on did not know of the hold yet.
    let (mut objects, mut newly_held, mut extended) = (first.held.len() as u64, first.newly, first.extended);
    for _ in 0..PASSES {
        let standing = Standing::read(&writer.ledger)?;
        let pass = hold_all(job, &standing, &job.scope.chosen(&standing.attested))?;
        objects = objects.max(pass.held.len() as u64);
        newly_held += pass.newly;
        extended += pass.extended;
        if pass.newly == 0 {
            break;
        }
    }
    Ok(HoldReport { hold, sequence, objects, newly_held, extended, missing: first.missing })
}

fn check_until(job: &HoldJob<'_>, now: Timestamp) -> Result<(), RetentionError> {
    let Some(until) = job.until else { return Ok(()) };
    if until <= now {
        return Err(RetentionError::UntilPassed { until, now });
    }
    let Writer { retention, grace, .. } = job.writer;
    let longest = |c| locked_until(now, retention.of(c), Grace { days: grace.days.saturating_add(368) });
    match Container::ALL.into_iter().map(longest).min() {
        Some(longest) if until > longest => Err(RetentionError::UntilTooFar { until, longest }),
        _ => Ok(()),
    }
}

/// Holds what of `chosen` stands; the first that does not hold is an error.
fn hold_all(job: &HoldJob<'_>, standing: &Standing, chosen: &BTreeMap<String, Kept>) -> Result<Pass, RetentionError> {
    let ledger = &job.writer.ledger;
    let store = ledger.store().as_ref();
    let mut pass = Pass::default();
    let mut todo: Vec<(&Kept, &ObjectInfo)> = Vec::new();
    for kept in chosen.values() {
        match standing.meant(kept) {
            Some(info) => todo.push((kept, info)),
            None if ledger.disposal_of(&kept.name, &kept.sha256).is_some() => {}
            None => pass.missing.push(kept.name.clone()),
        }
    }
    let answers = side_by_side(&todo, store.parallelism(), |(_, info)| {
        let done = hold_one(store, info, job.until);
        job.monitor.event(Event::Done { records: 1, bytes: 0 });
        done
    });
    let mut problems = Vec::new();
    for ((kept, info), answer) in todo.iter().zip(answers) {
        match answer {
            Ok((newly, extended)) => {
                pass.newly += u64::from(newly);
                pass.extended += u64::from(extended);
                // What the store shows: after a copy its ids are others.
                pass.held.push(Kept { version: info.version.clone(), ..(*kept).clone() });
            }
            Err(why) => problems.push((kept.name.clone(), why)),
        }
    }
    match problems.first() {
        None => Ok(pass),
        Some((first, why)) => Err(RetentionError::NotHeld { count: problems.len(), first: first.clone(), why: why.clone() }),
    }
}

/// Holds one object; whether it was not held before, and whether its lock was extended.
fn hold_one(store: &dyn Store, info: &ObjectInfo, until: Option<Timestamp>) -> Result<(bool, bool), String> {
    let version = info.version.as_deref();
    if !info.held {
        match store.set_hold(&info.name, version, true) {
            Ok(true) => {}
            Ok(false) => return Err("the store took the hold and does not show it".to_owned()),
            Err(e) => return Err(causes(&e)),
        }
    }
    let lock = info.lock.as_ref().filter(|l| l.mode != LockMode::None);
    let Some((lock, until)) = lock.zip(until).filter(|(lock, until)| lock.until.is_none_or(|end| end < *until)) else {
        return Ok((!info.held, false));
    };
    let state = store.extend_lock(&info.name, version, &LockRequest { mode: lock.mode, until }).map_err(|e| causes(&e))?;
    match state.until {
        Some(end) if end >= until => Ok((!info.held, true)),
        _ => Err(format!("the store did not extend its lock to {until}")),
    }
}

fn causes(error: &StoreError) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

fn attest(writer: &Writer, policy: &[u8], run: RunId, started: Timestamp, details: &HoldDetails) -> Result<Committed, RetentionError> {
    let draft = Draft {
        kind: Kind::Hold,
        chain: ChainName::vault(),
        run,
        started,
        outcome: if details.missing.is_empty() { Outcome::Complete } else { Outcome::Partial },
        objects: writer.put_policy(policy, started)?.into_iter().collect(),
        details: Map::new(),
    };
    Ok(writer.commit(&draft.with_details(details)?, |_| true, |_| Ok(()))?)
}

/// A hold to be removed.
pub struct LiftJob<'a> {
    /// Who writes; its signer is an operator.
    pub writer: &'a Writer,
    /// The policy's bytes.
    pub policy: &'a [u8],
    /// The hold.
    pub hold: RunId,
    /// Why it ends.
    pub reason: &'a str,
    /// On whose authority.
    pub authority: &'a str,
    /// Who listens.
    pub monitor: &'a dyn Monitor,
}

/// What was let go.
#[derive(Debug, Clone)]
pub struct LiftReport {
    /// The number of the attestation; none where it was removed before.
    pub sequence: Option<u64>,
    /// Objects that are held no longer.
    pub lifted: u64,
    /// Objects that another hold keeps.
    pub kept: u64,
}

/// Removes a hold: attested first, so that an interruption leaves too much held and never too little.
pub fn remove_hold(job: &LiftJob<'_>) -> Result<LiftReport, RetentionError> {
    let writer = job.writer;
    let started = writer.now()?;
    let standing = Standing::read(&writer.ledger)?;
    let hold = standing.holds.iter().find(|h| h.hold == job.hold).ok_or_else(|| RetentionError::NoHold(job.hold.to_string()))?;
    let others = standing.kept(Some(hold));
    let (kept, free): (Vec<Kept>, Vec<Kept>) = hold.keeps(&standing.attested).into_values().partition(|k| others.contains_key(&k.name));
    let mut sequence = None;
    if hold.in_force() {
        let details = HoldDetails {
            hold: hold.hold,
            action: HoldAction::Remove,
            scope: hold.scope.clone(),
            reason: job.reason.to_owned(),
            authority: job.authority.to_owned(),
            until: hold.until,
            // Beyond what one envelope holds, the hold's own attestations name them.
            held: if free.len() <= HOLD_BATCH { free.clone() } else { Vec::new() },
            missing: Vec::new(),
        };
        sequence = Some(attest(writer, job.policy, RunId::new(started), started, &details)?.sequence);
    }
    let store = writer.ledger.store().as_ref();
    let held: Vec<&ObjectInfo> = free.iter().filter_map(|k| standing.meant(k)).filter(|info| info.held).collect();
    job.monitor.event(Event::Expect { records: held.len() as u64, bytes: 0 });
    let answers = side_by_side(&held, store.parallelism(), |info| {
        let done = store.set_hold(&info.name, info.version.as_deref(), false);
        job.monitor.event(Event::Done { records: 1, bytes: 0 });
        done
    });
    let lifted = answers.len() as u64;
    answers.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(LiftReport { sequence, lifted, kept: kept.len() as u64 })
}

/// One hold, for people.
#[derive(Debug, Clone)]
pub struct HoldLine {
    /// The hold.
    pub hold: Hold,
    /// How it stands.
    pub state: HoldState,
    /// Objects that it keeps; of one that was removed, those that it named.
    pub objects: u64,
}

/// Every hold that a vault attests, the oldest first.
pub fn list_holds(ledger: &Ledger) -> Result<Vec<HoldLine>, RetentionError> {
    let now = ledger.store().now()?;
    let mut attested = Vec::new();
    for chain in ledger.chains()? {
        attested.extend(ledger.chain(&chain)?.attested);
    }
    let line = |hold: Hold| {
        let objects = if hold.in_force() { hold.keeps(&attested).len() } else { hold.held.len() };
        HoldLine { state: hold.state(now), objects: objects as u64, hold }
    };
    Ok(ledger.holds().into_iter().map(line).collect())
}
