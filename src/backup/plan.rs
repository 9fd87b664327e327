//! How a snapshot is going to be made: base or delta, on what, with what of interrupted runs.

use std::collections::HashMap;
use std::io;

use jiff::SignedDuration;

use super::error::SnapshotError;
use super::journal::{JournalKey, Salvage, renumber};
use super::pipeline::{Earlier, EarlierStates};
use super::snapshot::SnapshotJob;
use super::state::{State, StateEntry, StateHeader};
use crate::observe::Event;
use crate::store::{LockMode, LockRequest, ObjectInfo, originals};
use crate::vault::Attested;
use crate::vault::attestation::SnapshotKind;
use crate::vault::epoch::Epoch;
use crate::vault::manifest::SegmentRef;
use crate::vault::names;

/// A base manifest is written again after this long.
const REBASE_AFTER: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How a snapshot is going to be made.
pub(super) struct Plan {
    pub kind: SnapshotKind,
    pub why_base: Option<&'static str>,
    pub state: Option<State>,
    pub salvage: Option<Salvage>,
    pub lock: LockRequest,
    pub key: JournalKey,
}

impl Plan {
    pub fn new(job: &SnapshotJob<'_>, epoch: &Epoch, previous: Option<&Attested>, all_anew: bool) -> Result<Self, SnapshotError> {
        let lock = job.writer.lock_from(job.container, epoch.end());
        let folder = names::epoch_folder(job.container, job.name, epoch);
        let standing = Standing::list(job, &folder, &lock)?;
        let recipients = job.writer.recipients.fingerprint();
        let vault = job.writer.ledger.trust().vault().to_owned();
        let key = JournalKey { vault: vault.clone(), epoch_folder: folder, recipients };
        let salvage = Salvage::gather(job.state, &key, |object, size| standing.holds(object, Some(size))).map_err(SnapshotError::State)?;
        let state = State::open(&job.state.state());
        let why_base = match (&state, previous) {
            (_, None) => Some("the first snapshot"),
            _ if all_anew => Some("objects that it needed no longer stood"),
            (None, _) => Some("there was no usable local state"),
            (Some(state), Some(previous)) => {
                let h = state.header();
                match () {
                    () if h.vault != vault || h.head != previous.sha256 => Some("the local state was not that of the chain's head"),
                    () if h.epoch_start != epoch.start() => Some("a new epoch begins"),
                    () if h.recipients != recipients => Some("the recipients changed"),
                    () if h.container != job.container.as_str() => Some("the container changed"),
                    () => match standing.first_lost(h) {
                        Some(lost) => {
                            job.monitor
                                .event(Event::Warning(format!("{lost} no longer stands as it was attested: everything is written again")));
                            Some("objects that it needed no longer stood")
                        }
                        None => None,
                    },
                }
            }
        };
        let state = if why_base.is_some() { None } else { state };
        let rebase = state.as_ref().and_then(|state| {
            let h = state.header();
            let old = job.writer.clock.now().duration_since(h.base_captured) >= REBASE_AFTER;
            let large = h.lines_since_base > h.entries / 2 + 1000;
            (old || large).then_some("the last base manifest is a week old, or much has changed since")
        });
        let kind = if why_base.is_some() || rebase.is_some() { SnapshotKind::Base } else { SnapshotKind::Delta };
        Ok(Self { kind, why_base: why_base.or(rebase), state, salvage, lock, key })
    }
}

/// What the store holds of one epoch.
pub(super) struct Standing {
    objects: HashMap<String, ObjectInfo>,
    lock: LockRequest,
}

impl Standing {
    pub fn list(job: &SnapshotJob<'_>, folder: &str, lock: &LockRequest) -> Result<Self, SnapshotError> {
        let listed = job.writer.ledger.store().list(folder)?;
        Ok(Self { objects: originals(listed).into_iter().map(|info| (info.name.clone(), info)).collect(), lock: *lock })
    }

    pub fn holds(&self, object: &SegmentRef, size: Option<u64>) -> bool {
        self.objects.get(&object.name).is_some_and(|info| {
            let locked = self.lock.mode == LockMode::None
                || info.lock.as_ref().is_some_and(|l| l.mode == self.lock.mode && l.until.is_some_and(|until| until >= self.lock.until));
            info.recorded_sha256 == Some(object.sha256) && size.is_none_or(|size| info.size == size) && info.size > 0 && locked
        })
    }

    fn first_lost(&self, header: &StateHeader) -> Option<String> {
        let segments = header.segments.iter().map(|s| &s.object);
        segments.chain(&header.manifests).find(|o| !self.holds(o, None)).map(|o| o.name.clone())
    }
}

/// The committed state and the salvage, joined by path.
pub(super) struct Joined {
    state: Option<State>,
    salvage: Option<Salvage>,
    /// Where the salvage's objects begin in the joint table.
    offset: u32,
    next_state: Option<StateEntry>,
    next_salvage: Option<StateEntry>,
}

impl Joined {
    pub fn new(state: Option<State>, salvage: Option<Salvage>, offset: u32) -> io::Result<Self> {
        let mut joined = Self { state, salvage, offset, next_state: None, next_salvage: None };
        joined.advance_state()?;
        joined.advance_salvage()?;
        Ok(joined)
    }

    fn advance_state(&mut self) -> io::Result<Option<StateEntry>> {
        let next = self.state.as_mut().map(State::next_entry).transpose()?.flatten();
        Ok(std::mem::replace(&mut self.next_state, next))
    }

    fn advance_salvage(&mut self) -> io::Result<Option<StateEntry>> {
        let next = self.salvage.as_mut().map(Salvage::next_entry).transpose()?.flatten();
        let offset = self.offset;
        Ok(std::mem::replace(&mut self.next_salvage, next.map(|e| renumber(e, |n| n + offset))))
    }
}

impl EarlierStates for Joined {
    fn next(&mut self) -> io::Result<Option<(String, Earlier)>> {
        let path = |e: &Option<StateEntry>| e.as_ref().map(|e| e.entry.path.clone());
        let (a, b) = (path(&self.next_state), path(&self.next_salvage));
        let Some(least) = a.iter().chain(&b).min().cloned() else { return Ok(None) };
        let committed = if a.as_ref() == Some(&least) { self.advance_state()? } else { None };
        let salvaged = if b.as_ref() == Some(&least) { self.advance_salvage()? } else { None };
        Ok(Some((least, Earlier { committed, salvaged })))
    }
}
