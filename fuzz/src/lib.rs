//! What several targets need: a vault in memory with known keys.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::sync::{Arc, Mutex};

use backstop::store::{Body, EnforcedBy, LockMode, LockRequest, LockState, ObjectInfo, Priority, Receipt, Sha256, Store, StoreError};
use backstop::vault::attestation::{Agent, RetentionBy};
use backstop::vault::epoch::{Grace, Retention};
use backstop::vault::keys::{Recipients, Role, Signer, SignerEntry};
use backstop::vault::{Anchor, Founding, Ledger, found};
use jiff::Timestamp;

/// A store in memory that believes every lock.
#[derive(Default)]
pub struct MemoryStore(Mutex<BTreeMap<String, (Vec<u8>, LockState)>>);

impl MemoryStore {
    fn objects(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (Vec<u8>, LockState)>> {
        self.0.lock().expect("no thread panics while it holds the map")
    }

    /// Puts anything anywhere, as an intruder would.
    pub fn plant(&self, name: &str, bytes: &[u8]) {
        let lock = LockState { mode: LockMode::None, until: None, enforced_by: EnforcedBy::Advisory, container: None };
        self.objects().insert(name.to_owned(), (bytes.to_vec(), lock));
    }
}

impl Store for MemoryStore {
    fn put(&self, name: &str, body: Body<'_>, _: &Sha256, lock: &LockRequest) -> Result<Receipt, StoreError> {
        let bytes = match body {
            Body::Bytes(bytes) => bytes.to_vec(),
            Body::File(path) => std::fs::read(path).expect("a finished file"),
        };
        let lock = LockState { mode: lock.mode, until: Some(lock.until), enforced_by: EnforcedBy::Advisory, container: None };
        if self.objects().insert(name.to_owned(), (bytes, lock.clone())).is_some() {
            return Err(StoreError::AlreadyExists { name: name.to_owned() });
        }
        Ok(Receipt { version: None, lock: Some(lock) })
    }

    fn open(&self, name: &str, _: Option<&str>) -> Result<Box<dyn Read + Send>, StoreError> {
        let bytes = self.objects().get(name).map(|o| o.0.clone());
        bytes.map_or_else(|| Err(StoreError::NotFound { name: name.to_owned() }), |b| Ok(Box::new(Cursor::new(b)) as Box<dyn Read + Send>))
    }

    fn head(&self, name: &str) -> Result<Option<ObjectInfo>, StoreError> {
        Ok(self.list(name)?.into_iter().find(|info| info.name == name))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let objects = self.objects();
        let fits = objects.iter().filter(|(name, _)| name.starts_with(prefix));
        let info = |(name, (bytes, lock)): (&String, &(Vec<u8>, LockState))| ObjectInfo {
            name: name.clone(),
            size: bytes.len() as u64,
            recorded_sha256: None,
            version: None,
            current: true,
            lock: Some(lock.clone()),
            held: false,
            archive: None,
        };
        Ok(fits.map(info).collect())
    }

    fn extend_lock(&self, name: &str, _: Option<&str>, _: &LockRequest) -> Result<LockState, StoreError> {
        let found = self.objects().get(name).map(|o| o.1.clone());
        found.ok_or_else(|| StoreError::NotFound { name: name.to_owned() })
    }

    fn set_hold(&self, name: &str, _: Option<&str>, _: bool) -> Result<bool, StoreError> {
        Err(StoreError::Locked { name: name.to_owned(), reason: "a store in memory holds nothing".into() })
    }

    fn remove(&self, name: &str, _: Option<&str>) -> Result<(), StoreError> {
        let gone = self.objects().remove(name);
        gone.map(drop).ok_or_else(|| StoreError::NotFound { name: name.to_owned() })
    }

    fn rehydrate(&self, _: &str, _: Option<&str>, _: Priority) -> Result<(), StoreError> {
        Ok(())
    }

    fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(Timestamp::constant(1_795_420_800, 0))
    }

    fn describe(&self) -> String {
        "memory".into()
    }
}

/// A signer that every run of a target has.
pub fn signer(role: Role) -> Signer {
    Signer::from_seed(
        [match role {
            Role::Agent => 1,
            Role::Tester => 2,
            Role::Operator => 3,
        }; 32],
    )
}

/// A vault of nothing but its genesis; gives the store and the genesis envelope.
pub fn vault() -> (Arc<MemoryStore>, Vec<u8>) {
    let memory = Arc::new(MemoryStore::default());
    let store: Arc<dyn Store> = memory.clone();
    // The recipient of an identity that nobody keeps.
    let recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p".to_owned();
    let recipients = Recipients::parse(&[recipient]).expect("a recipient");
    let founding = Founding {
        operator: &signer(Role::Operator),
        signers: [Role::Agent, Role::Tester, Role::Operator].map(|r| SignerEntry::new(r, &signer(r).public())).to_vec(),
        recipients: &recipients,
        policy: b"version: 1\n",
        retention: RetentionBy::All(Retention { years: 7 }),
        grace: Grace { days: 30 },
        lock_mode: LockMode::Locked,
        agent: Agent { version: "fuzz".into(), host_id: "fuzz".into() },
    };
    let genesis = found(&store, founding).expect("a vault");
    (memory, genesis)
}

/// The ledger of [`vault`].
pub fn ledger() -> Ledger {
    let (store, genesis) = vault();
    Ledger::open(store, &Anchor::Envelope(genesis)).expect("a ledger")
}
