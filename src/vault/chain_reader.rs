//! One chain's folder as the store shows it: which numbers there are, and the envelope at each.

use std::collections::HashMap;

use super::dsse::MAX_ENVELOPE;
use super::ledger::{Attested, Void};
use super::names::ChainName;
use super::trust::{Trust, UNREADABLE, VoidReason};
use crate::store::{LockState, Sha256, Store, StoreError, originals, side_by_side};

/// What stands at one number: its oldest version, for what was put over it later is not the envelope.
pub(super) struct Numbered {
    pub sequence: u64,
    pub size: u64,
    pub recorded: Option<Sha256>,
    pub version: Option<String>,
    pub lock: Option<LockState>,
}

/// The numbers that a chain's folder holds, ascending.
pub(super) struct ChainReader {
    chain: ChainName,
    pub numbers: Vec<Numbered>,
    pub strays: Vec<String>,
    /// The store's copy of the number judged last, where a bundle's took its place.
    pub damaged: Option<Void>,
    /// Envelopes that were read ahead, by their place in `numbers`.
    ahead: HashMap<usize, Result<Vec<u8>, StoreError>>,
    /// How many are read at a time; it grows while more are wanted.
    stride: usize,
}

impl ChainReader {
    pub fn list(store: &dyn Store, chain: &ChainName) -> Result<Self, StoreError> {
        let mut numbers = Vec::new();
        let mut strays = Vec::new();
        for info in originals(store.list(&chain.folder())?) {
            match chain.sequence_of(&info.name) {
                Some(sequence) => {
                    let (size, recorded) = (info.size, info.recorded_sha256);
                    numbers.push(Numbered { sequence, size, recorded, version: info.version, lock: info.lock });
                }
                None => strays.push(info.name),
            }
        }
        numbers.sort_unstable_by_key(|n| n.sequence);
        Ok(Self { chain: chain.clone(), numbers, strays, damaged: None, ahead: HashMap::new(), stride: 1 })
    }

    /// An envelope's bytes. Over a network several below it are read at the same time, more each time: whoever wants
    /// the head alone pays for one, whoever wants the chain does not wait for each.
    fn read(&mut self, store: &dyn Store, at: usize) -> Result<Vec<u8>, StoreError> {
        if let Some(read) = self.ahead.remove(&at) {
            return read;
        }
        let one = |numbered: &Numbered| store.read(&self.chain.envelope(numbered.sequence), numbered.version.as_deref(), MAX_ENVELOPE);
        let from = at.saturating_sub(self.stride - 1);
        if store.parallelism() > 1 {
            self.stride = (self.stride * 4).min(256);
        }
        if from == at {
            return one(&self.numbers[at]);
        }
        let places: Vec<usize> = (from..at).filter(|n| !self.ahead.contains_key(n)).chain([at]).collect();
        let read = side_by_side(&places, store.parallelism(), |place| (*place, one(&self.numbers[*place])));
        self.ahead.extend(read);
        let name = || self.chain.envelope(self.numbers[at].sequence);
        self.ahead.remove(&at).unwrap_or_else(|| Err(StoreError::NotFound { name: name() }))
    }

    pub fn judge(
        &mut self,
        store: &dyn Store,
        trust: &Trust,
        at: usize,
        bundle: impl FnOnce(u64) -> Option<Attested>,
    ) -> Result<Result<Attested, Void>, StoreError> {
        let read = self.read(store, at);
        let Numbered { sequence, version, lock, .. } = &self.numbers[at];
        let (sequence, lock) = (*sequence, lock.clone());
        let name = self.chain.envelope(sequence);
        let judged = match read {
            Ok(bytes) => trust.accept(&bytes, &self.chain, sequence).map(|(statement, role)| (statement, role, Sha256::of(&bytes))),
            Err(StoreError::NotFound { .. }) => {
                Err(VoidReason { code: UNREADABLE, message: "it vanished while the chain was read".into() })
            }
            Err(StoreError::Io { source, .. }) => Err(VoidReason { code: UNREADABLE, message: format!("it cannot be read: {source}") }),
            Err(e) => return Err(e),
        };
        Ok(match judged {
            Ok((statement, role, sha256)) => {
                Ok(Attested { name, sha256, statement, role, version: version.clone(), lock, from_bundle: false })
            }
            Err(reason) => {
                let void = Void { sequence, name, reason };
                match bundle(sequence) {
                    Some(attested) => {
                        self.damaged = Some(void);
                        Ok(attested)
                    }
                    None => Err(void),
                }
            }
        })
    }
}
