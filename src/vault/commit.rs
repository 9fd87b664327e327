//! Committing: the one way in which a run becomes part of the vault.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::attestation::{Agent, Kind, ObjectRef, Outcome, Predicate, RetentionBy, Statement, Subject, SubjectDigest};
use super::dsse::{Envelope, MAX_ENVELOPE};
use super::epoch::{Grace, locked_until, month_end};
use super::keys::{Recipients, Signer};
use super::ledger::{Attested, ChainView, Ledger, LedgerError};
use super::measure::{Written, hold_to, measure};
use super::names::{ChainName, Container, RunId};
use crate::store::{Body, Clock, EnforcedBy, LockMode, LockRequest, LockState, Receipt, Sha256, Store, StoreError};

/// The largest difference between the agent's clock and the store's, in seconds.
const MAX_SKEW_SECONDS: i64 = 300;
/// How often a commit tries the next number.
const MAX_TRIES: usize = 1000;

/// Everything that a run writes with.
pub struct Writer {
    /// The vault.
    pub ledger: Ledger,
    /// Who signs.
    pub signer: Signer,
    /// Which program on which host.
    pub agent: Agent,
    /// The agent's own clock.
    pub clock: Arc<dyn Clock>,
    /// The policy's digest.
    pub policy_sha256: Sha256,
    /// Retention by container.
    pub retention: RetentionBy,
    /// Grace after an epoch.
    pub grace: Grace,
    /// Whom everything is sealed to.
    pub recipients: Recipients,
    /// How objects are locked.
    pub lock_mode: LockMode,
}

/// A run that is ready to be committed.
#[derive(Debug, Clone)]
pub struct Draft {
    /// What it is.
    pub kind: Kind,
    /// On which chain.
    pub chain: ChainName,
    /// The run.
    pub run: RunId,
    /// When it began, by the store's clock.
    pub started: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// What it wrote or adopted.
    pub objects: Vec<Written>,
    /// What its kind adds.
    pub details: Map<String, Value>,
}

impl Draft {
    /// Puts the details of its kind into a draft.
    pub fn with_details(mut self, details: &impl Serialize) -> Result<Self, CommitError> {
        match serde_json::to_value(details) {
            Ok(Value::Object(map)) => self.details = map,
            Ok(_) => {}
            Err(e) => return Err(CommitError::Encode(e)),
        }
        Ok(self)
    }
}

/// A committed run.
#[derive(Debug, Clone)]
pub struct Committed {
    /// Its number.
    pub sequence: u64,
    /// Digest of its envelope.
    pub sha256: Sha256,
    /// When, by the store's clock.
    pub finished: Timestamp,
    /// The objects that it attests, with their locks as read back.
    pub objects: Vec<ObjectRef>,
}

/// Why a run was not committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The store did not do what it was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The chain cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The run no longer makes sense.
    #[error("the run drops out: {0}")]
    Dropped(String),
    /// The clocks disagree.
    #[error(
        "this machine's clock says {agent}, the store's {store}: they differ by more than 5 minutes, and a lock would end at a wrong instant"
    )]
    Skew {
        /// The agent's instant.
        agent: Timestamp,
        /// The store's instant.
        store: Timestamp,
    },
    /// The clock went back.
    #[error("the store's clock says {now}, before the end of the last run on this chain ({finished})")]
    ClockBack {
        /// The store's instant.
        now: Timestamp,
        /// The newest attestation's end.
        finished: Timestamp,
    },
    /// A lock would be absurdly long.
    #[error("a lock until {until} would last longer than retention, grace and one epoch, and could never be taken back")]
    LockTooLong {
        /// The instant.
        until: Timestamp,
    },
    /// The store locked less than it was asked to.
    #[error("the store shows {answered} on {name}, not a lock until {asked}: what is not locked is no backup")]
    LockNotKept {
        /// The object.
        name: String,
        /// The answer.
        answered: String,
        /// The wish.
        asked: Timestamp,
    },
    /// An object that the run wrote is not there.
    #[error("{name} was written by this run and is no longer in the store: nothing is committed on it")]
    Vanished {
        /// The object.
        name: String,
    },
    /// A hold's scope covers the run, and the store does not hold it.
    #[error("a legal hold covers this run, and the store does not hold {name}")]
    NotHeld {
        /// The object.
        name: String,
    },
    /// The statement cannot be encoded.
    #[error("the attestation cannot be encoded")]
    Encode(#[source] serde_json::Error),
    /// No reader would accept it.
    #[error("the attestation would be void, and is not committed: {0}")]
    Void(String),
    /// Every number was taken.
    #[error("no free number was found on the chain {0} in a thousand tries")]
    NoNumber(ChainName),
}

impl Writer {
    /// The store's clock, once it agrees with the agent's.
    pub fn now(&self) -> Result<Timestamp, CommitError> {
        let (agent, store) = (self.clock.now(), self.ledger.store().now()?);
        if (agent.as_second() - store.as_second()).abs() > MAX_SKEW_SECONDS {
            return Err(CommitError::Skew { agent, store });
        }
        Ok(store)
    }

    /// The lock of an object of a container whose period ends at `from`.
    pub fn lock_from(&self, container: Container, from: Timestamp) -> LockRequest {
        LockRequest { mode: self.lock_mode, until: locked_until(from, self.retention.of(container), self.grace) }
    }

    /// Creates an object under a lock.
    pub fn put(&self, name: &str, body: Body<'_>, sha256: &Sha256, size: u64, lock: &LockRequest) -> Result<Written, CommitError> {
        let now = self.ledger.store().now()?;
        let container = Container::of(name).unwrap_or(Container::Attestations);
        // One epoch is at most a year, and a leap day or two.
        let longest = locked_until(now, self.retention.of(container), Grace { days: self.grace.days.saturating_add(368) });
        if lock.mode != LockMode::None && lock.until > longest {
            return Err(CommitError::LockTooLong { until: lock.until });
        }
        let Receipt { version, lock: state } = self.ledger.store().put(name, body, sha256, lock)?;
        let stored = Written { name: name.to_owned(), sha256: *sha256, size, version, asked: *lock, lock: state };
        if let Some(state) = &stored.lock {
            hold_to(&stored, state)?;
        }
        Ok(stored)
    }

    /// Writes the policy that a run is made under, unless the vault has it.
    pub fn put_policy(&self, policy: &[u8], started: Timestamp) -> Result<Option<Written>, CommitError> {
        let sha256 = Sha256::of(policy);
        let name = super::names::policy(&sha256);
        if self.ledger.store().head(&name)?.is_some() {
            return Ok(None);
        }
        let lock = self.lock_from(Container::Attestations, month_end(started));
        match self.put(&name, Body::Bytes(policy), &sha256, policy.len() as u64, &lock) {
            Ok(object) => Ok(Some(object)),
            Err(CommitError::Store(StoreError::AlreadyExists { .. })) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Reads back the locks of what was put, as few listings as there are folders, and holds the store to them.
    pub fn measure(&self, objects: &mut [Written]) -> Result<(), CommitError> {
        let shown = measure(self.ledger.store().as_ref(), objects)?;
        for (written, shown) in objects.iter_mut().zip(shown) {
            written.lock = Some(shown?.lock);
        }
        Ok(())
    }

    /// Signs and commits a run at the lowest free number after the chain's head.
    ///
    /// `still` is asked before each try whether the run still makes sense on the chain as it now is; it must
    /// have been given enough of the chain by `enough` (see [`Ledger::chain_until`]).
    #[tracing::instrument(skip_all, fields(chain = %draft.chain, outcome = %draft.outcome))]
    pub fn commit(
        &self,
        draft: &Draft,
        mut enough: impl FnMut(&Attested) -> bool,
        mut still: impl FnMut(&ChainView) -> Result<(), CommitError>,
    ) -> Result<Committed, CommitError> {
        let shown = measure(self.ledger.store().as_ref(), &draft.objects)?.into_iter();
        // A run that failed attests what is left of it.
        let failed = draft.outcome == Outcome::Failed;
        let shown = shown.filter(|object| !(failed && matches!(object, Err(CommitError::Vanished { .. }))));
        let mut objects = shown.collect::<Result<Vec<ObjectRef>, CommitError>>()?;
        self.hold_before(draft, &mut objects)?;
        for _ in 0..MAX_TRIES {
            let view = self.ledger.chain_until(&draft.chain, &mut enough)?;
            still(&view)?;
            let now = self.now()?;
            let head = view.head();
            if let Some(head) = head
                && now < head.statement.predicate.finished
            {
                return Err(CommitError::ClockBack { now, finished: head.statement.predicate.finished });
            }
            let after = head.map_or(0, Attested::sequence);
            let mut sequence = after + 1;
            let mut skipped = Vec::new();
            while view.voids.iter().any(|v| v.sequence == sequence) {
                skipped.push(sequence);
                sequence += 1;
            }
            match self.put_envelope(draft, &objects, sequence, skipped, now, head) {
                Err(CommitError::Store(StoreError::AlreadyExists { .. })) => continue,
                other => {
                    let committed = other?;
                    self.hold_after(draft, &committed)?;
                    return Ok(committed);
                }
            }
        }
        Err(CommitError::NoNumber(draft.chain.clone()))
    }

    fn put_envelope(
        &self,
        draft: &Draft,
        objects: &[ObjectRef],
        sequence: u64,
        skipped: Vec<u64>,
        finished: Timestamp,
        head: Option<&Attested>,
    ) -> Result<Committed, CommitError> {
        let mut subject: Vec<Subject> =
            objects.iter().map(|o| Subject { name: o.name.clone(), digest: SubjectDigest { sha256: o.sha256 } }).collect();
        if subject.is_empty() {
            let genesis = || (ChainName::vault().envelope(1), self.ledger.trust().genesis());
            let (name, sha256) = head.map_or_else(genesis, |h| (h.name.clone(), h.sha256));
            subject.push(Subject { name, digest: SubjectDigest { sha256 } });
        }
        let predicate = Predicate {
            vault: self.ledger.trust().vault().to_owned(),
            chain: draft.chain.clone(),
            sequence,
            previous: Some(head.map_or_else(|| self.ledger.trust().genesis(), |h| h.sha256)),
            skipped,
            run: draft.run,
            agent: self.agent.clone(),
            started: draft.started,
            finished,
            outcome: draft.outcome,
            policy_sha256: self.policy_sha256,
            retention: self.retention.clone(),
            grace: self.grace,
            recipients: self.recipients.fingerprint(),
            objects: objects.to_vec(),
            details: draft.details.clone(),
        };
        let statement = Statement { kind: draft.kind, subject, predicate };
        let payload = statement.to_bytes().map_err(CommitError::Encode)?;
        let bytes = Envelope::sign(&payload, &self.signer);
        // What no reader would accept, as of a key whose role may not attest it, must not be locked for years under a
        // number of the chain.
        if bytes.len() as u64 > MAX_ENVELOPE {
            return Err(CommitError::Void(format!(
                "its envelope would be larger than {} MiB, and nobody would read it",
                MAX_ENVELOPE >> 20
            )));
        }
        self.ledger.trust().accept(&bytes, &draft.chain, sequence).map_err(|void| CommitError::Void(void.message))?;
        let own = self.lock_from(Container::Attestations, finished);
        let longest = objects.iter().filter_map(|o| o.lock.until).max();
        let lock = LockRequest { until: longest.map_or(own.until, |until| until.max(own.until)), ..own };
        let sha256 = Sha256::of(&bytes);
        let name = draft.chain.envelope(sequence);
        put_first(self.ledger.store().as_ref(), &name, &bytes, &sha256, &lock)?;
        Ok(Committed { sequence, sha256, finished, objects: objects.to_vec() })
    }
}

/// Puts an envelope, and sees whether it is really the first under its name: where a name's earlier version was
/// hidden by a deletion, create-if-absent succeeds, and yet readers go by the oldest version.
///
/// An envelope may be locked as long as its subjects, whose locks were judged when they were written.
fn put_first(store: &dyn Store, name: &str, bytes: &[u8], sha256: &Sha256, lock: &LockRequest) -> Result<(), CommitError> {
    let Receipt { version, lock: state } = store.put(name, Body::Bytes(bytes), sha256, lock)?;
    let stored = Written { name: name.to_owned(), sha256: *sha256, size: bytes.len() as u64, version, asked: *lock, lock: state };
    if let Some(state) = &stored.lock {
        return hold_to(&stored, state);
    }
    let shown = store.head(name)?.ok_or_else(|| CommitError::Vanished { name: name.to_owned() })?;
    if stored.version.is_some() && shown.version != stored.version {
        return Err(StoreError::AlreadyExists { name: name.to_owned() }.into());
    }
    hold_to(&stored, &shown.lock.unwrap_or_else(|| LockState::none(EnforcedBy::Service)))
}

/// Commits the very first attestation of a vault.
pub(super) fn commit_genesis(
    store: &dyn Store,
    signer: &Signer,
    statement: &Statement,
    lock: &LockRequest,
) -> Result<Vec<u8>, CommitError> {
    let bytes = Envelope::sign(&statement.to_bytes().map_err(CommitError::Encode)?, signer);
    put_first(store, &ChainName::vault().envelope(1), &bytes, &Sha256::of(&bytes), lock)?;
    Ok(bytes)
}
