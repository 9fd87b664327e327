//! What the agent reads of the vault before it begins a job.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use super::Head;
use crate::store::{Store, StoreError};
use crate::vault::attestation::{Kind, Outcome};
use crate::vault::names::ChainName;
use crate::vault::{Attested, Ledger, LedgerError};

/// Opens the vault's ledger.
type Open = dyn Fn() -> Result<Ledger, LedgerError> + Send;

/// The vault behind a store.
pub struct VaultHead {
    store: Arc<dyn Store>,
    open: Box<Open>,
    remote: bool,
    /// A number that stands on each chain: the next look begins there.
    known: Mutex<HashMap<ChainName, u64>>,
}

impl VaultHead {
    /// Of a store, which is `remote` where its clock is not this machine's.
    pub fn new(store: Arc<dyn Store>, remote: bool, open: Box<Open>) -> Self {
        Self { store, open, remote, known: Mutex::default() }
    }

    fn ledger(&self) -> Result<Ledger, StoreError> {
        (self.open)().map_err(|e| match e {
            LedgerError::Store(e) => e,
            LedgerError::Trust(e) => {
                StoreError::Io { operation: "trust", path: self.store.describe().into(), source: std::io::Error::other(e.to_string()) }
            }
        })
    }
}

impl Head for VaultHead {
    fn newest(&self, chain: &ChainName) -> Result<Option<Timestamp>, StoreError> {
        let counts = |a: &Attested| {
            let kind = matches!(a.statement.kind, Kind::Snapshot | Kind::Export | Kind::Checkpoint | Kind::RestoreTest | Kind::Drill);
            kind && a.statement.predicate.outcome != Outcome::Failed
        };
        let known = self.known.lock().ok().and_then(|known| known.get(chain).copied()).unwrap_or(0);
        let newest = self.ledger()?.newest(chain, known, counts)?;
        if let (Some(newest), Ok(mut known)) = (&newest, self.known.lock()) {
            known.insert(chain.clone(), newest.sequence());
        }
        Ok(newest.map(|a| a.statement.predicate.started))
    }

    fn founded(&self) -> Result<Timestamp, StoreError> {
        let ledger = self.ledger()?;
        let first = ledger.vault_chain().attested.first().map(|genesis| genesis.statement.predicate.finished);
        Ok(first.unwrap_or(Timestamp::UNIX_EPOCH))
    }

    fn clock(&self) -> Option<Timestamp> {
        if self.remote { self.store.now().ok() } else { None }
    }
}
