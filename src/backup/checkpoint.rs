//! Checkpoints: the head of every chain in one signed statement, and the envelopes since the last one in
//! one object. Kept elsewhere, a checkpoint shows a cut-off tail and a replayed old vault.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::error::SnapshotError;
use super::put_policy;
use crate::store::{Body, Sha256, StoreError};
use crate::vault::Written;
use crate::vault::attestation::{CheckpointDetails, EnvelopeLock, Head, HeartbeatDetails, Kind, Outcome};
use crate::vault::epoch::month_end;
use crate::vault::names::{self, ChainName, Container, RECOVERY_MD, RESTATED, RunId, VAULT_JSON};
use crate::vault::{Attested, CommitError, Draft, Writer};

/// A chain speaks at least this often.
const DAY: SignedDuration = SignedDuration::from_hours(24);
/// Runs twice a day by the local time are 23 hours apart where summer begins, and none is to the second: a checkpoint that
/// waited for the whole day would wait for the run after, and an audit would miss it.
const NEARLY_A_DAY: SignedDuration = SignedDuration::from_mins(22 * 60 + 30);
/// A job of its own should have made it by now; an audit misses it after 26 hours.
const OVERDUE: SignedDuration = SignedDuration::from_mins(24 * 60 + 30);
const TRIES: usize = 5;

/// What a checkpoint recorded.
#[derive(Debug, Clone)]
pub struct CheckpointReport {
    /// The run.
    pub run: RunId,
    /// Its number on the chain `checkpoint`.
    pub sequence: u64,
    /// Digest of its envelope.
    pub sha256: Sha256,
    /// When it was committed.
    pub finished: Timestamp,
    /// The head of every chain.
    pub heads: Vec<Head>,
    /// The bundle.
    pub bundle: Option<String>,
    /// Envelopes in the bundle.
    pub bundled: u64,
}

/// A chain that the policy expects to speak.
#[derive(Debug, Clone)]
pub struct DueChain {
    /// Which.
    pub chain: ChainName,
    /// When its next run is due.
    pub next_due: Option<Timestamp>,
}

/// Whether a day has nearly passed since the last checkpoint, or, where a job of the policy makes them (`scheduled`), more
/// than a day.
pub fn checkpoint_is_due(writer: &Writer, scheduled: bool) -> Result<bool, SnapshotError> {
    let after = if scheduled { OVERDUE } else { NEARLY_A_DAY };
    let now = writer.now()?;
    let view = writer.ledger.chain_until(&ChainName::checkpoint(), |_| true)?;
    Ok(view.head().is_none_or(|head| now.duration_since(head.statement.predicate.finished) >= after))
}

/// Writes a heartbeat on every chain that had nothing to say for a day; gives their names.
pub fn write_heartbeats(writer: &Writer, policy: &[u8], chains: &[DueChain]) -> Result<Vec<ChainName>, SnapshotError> {
    let started = writer.now()?;
    let mut written = Vec::new();
    for DueChain { chain, next_due } in chains {
        let succeeded = |a: &Attested| a.statement.kind != Kind::Heartbeat && a.statement.predicate.outcome != Outcome::Failed;
        let view = writer.ledger.chain_until(chain, succeeded)?;
        let spoke = view.head().map(|head| head.statement.predicate.finished);
        let founded = writer.ledger.vault_chain().attested.first().map(|g| g.statement.predicate.finished);
        if spoke.or(founded).is_some_and(|at| started.duration_since(at) < DAY) {
            continue;
        }
        let success = view.attested.iter().rev().find(|a| succeeded(a));
        let failed = view.attested.iter().rev().take_while(|a| !succeeded(a)).find(|a| a.statement.predicate.outcome == Outcome::Failed);
        let code = failed.and_then(|a| a.statement.predicate.details.get("error_code")?.as_str().map(str::to_owned));
        let failing = code.into_iter().chain(success.is_none().then(|| "never_succeeded".to_owned())).collect();
        let details = HeartbeatDetails { last_success: success.map(|a| a.statement.predicate.finished), next_due: *next_due, failing };
        let objects = put_policy(writer, policy, started)?.into_iter().collect();
        let draft = draft(Kind::Heartbeat, chain, RunId::new(started), started, objects).with_details(&details)?;
        writer.commit(&draft, |_| true, |_| Ok(()))?;
        written.push(chain.clone());
    }
    Ok(written)
}

fn draft(kind: Kind, chain: &ChainName, run: RunId, started: Timestamp, objects: Vec<Written>) -> Draft {
    Draft { kind, chain: chain.clone(), run, started, outcome: Outcome::Complete, objects, details: serde_json::Map::new() }
}

/// Commits a checkpoint.
#[tracing::instrument(skip_all)]
pub fn checkpoint(writer: &Writer, policy: &[u8]) -> Result<CheckpointReport, SnapshotError> {
    let mut last = None;
    for _ in 0..TRIES {
        match attempt(writer, policy) {
            Err(SnapshotError::Commit(CommitError::Dropped(why))) => last = Some(why),
            other => return other,
        }
    }
    Err(CommitError::Dropped(last.unwrap_or_default()).into())
}

fn attempt(writer: &Writer, policy: &[u8]) -> Result<CheckpointReport, SnapshotError> {
    let started = writer.now()?;
    let run = RunId::new(started);
    let own = ChainName::checkpoint();
    let before = writer.ledger.chain_until(&own, |a| a.statement.kind == Kind::Checkpoint)?;
    let last = before.attested.iter().rev().find(|a| a.statement.kind == Kind::Checkpoint);
    let known: BTreeMap<ChainName, u64> = last
        .and_then(|a| a.statement.predicate.details::<CheckpointDetails>().ok())
        .map(|d| d.heads.into_iter().map(|h| (h.chain, h.sequence)).collect())
        .unwrap_or_default();
    let mut heads = Vec::new();
    let mut locks = Vec::new();
    let mut bundle = Vec::new();
    let mut bundled = 0;
    for chain in writer.ledger.chains()? {
        let upto = known.get(&chain).copied().unwrap_or(0);
        let view = writer.ledger.chain_until(&chain, |a| a.sequence() <= upto)?;
        let Some(head) = view.head() else { continue };
        heads.push(Head { chain: chain.clone(), sequence: head.sequence(), sha256: head.sha256 });
        for attested in view.attested.iter().filter(|a| a.sequence() > upto && !a.from_bundle) {
            let bytes = writer.ledger.store().read(&attested.name, attested.version.as_deref(), crate::vault::dsse::MAX_ENVELOPE)?;
            if Sha256::of(&bytes) != attested.sha256 {
                continue;
            }
            bundle.extend_from_slice(&bytes);
            bundle.push(b'\n');
            bundled += 1;
            let until = attested.lock.as_ref().and_then(|l| l.until);
            locks.push(EnvelopeLock { chain: chain.clone(), sequence: attested.sequence(), until });
        }
    }
    let mut objects = Vec::new();
    let bundle = if bundle.is_empty() { None } else { Some(put_bundle(writer, &bundle, started, run)?) };
    let bundle_name = bundle.as_ref().map(|b| b.name.clone());
    objects.extend(bundle);
    objects.extend(put_policy(writer, policy, started)?);
    objects.extend(restate(writer, started)?);
    let details = CheckpointDetails { heads: heads.clone(), locks, bundle: bundle_name.clone() };
    let draft = draft(Kind::Checkpoint, &own, run, started, objects).with_details(&details)?;
    let based_on = before.head().map(|h| h.sha256);
    let committed = writer.commit(
        &draft,
        |_| true,
        |view| match view.head().map(|h| h.sha256) == based_on {
            true => Ok(()),
            false => Err(CommitError::Dropped("another checkpoint was committed meanwhile".into())),
        },
    )?;
    Ok(CheckpointReport {
        run,
        sequence: committed.sequence,
        sha256: committed.sha256,
        finished: committed.finished,
        heads,
        bundle: bundle_name,
        bundled,
    })
}

fn put_bundle(writer: &Writer, lines: &[u8], started: Timestamp, run: RunId) -> Result<Written, SnapshotError> {
    let mut frames = crate::vault::seal::Frames::new(crate::vault::seal::Tuning::Level(9))?;
    let mut bytes = Vec::new();
    for part in lines.chunks(4 << 20) {
        bytes.extend(frames.frame(part)?);
    }
    let sha256 = Sha256::of(&bytes);
    let lock = writer.lock_from(Container::Attestations, month_end(started));
    Ok(writer.put(&names::bundle(started, run), Body::Bytes(&bytes), &sha256, bytes.len() as u64, &lock)?)
}

/// Once a calendar year, writes again what must outlive its first lock: same bytes, same identity, a new lock.
fn restate(writer: &Writer, started: Timestamp) -> Result<Vec<Written>, SnapshotError> {
    let year = |at: Timestamp| at.to_zoned(TimeZone::UTC).year();
    let now = year(started);
    let genesis = writer.ledger.vault_chain().attested.first();
    if genesis.is_none_or(|g| year(g.statement.predicate.started) >= now) {
        return Ok(Vec::new());
    }
    let store = writer.ledger.store();
    let attested = genesis.map(|g| g.statement.predicate.objects.as_slice()).unwrap_or_default();
    let policy = names::policy(&writer.policy_sha256);
    let lock = writer.lock_from(Container::Attestations, month_end(started));
    debug_assert!(RESTATED.starts_with("attestations/"));
    let mut objects = Vec::new();
    for name in [VAULT_JSON, RECOVERY_MD, policy.as_str()] {
        let again = names::restated(name, now);
        if store.head(&again)?.is_some() {
            continue;
        }
        let expected = attested.iter().find(|o| o.name == name).map_or(writer.policy_sha256, |o| o.sha256);
        let bytes = match writer.ledger.read_object(name, None, &expected, 16 << 20) {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) if name == policy => continue,
            Err(e) => return Err(e.into()),
        };
        objects.push(writer.put(&again, Body::Bytes(&bytes), &expected, bytes.len() as u64, &lock)?);
    }
    Ok(objects)
}
