//! A store that stops working at a chosen operation, as a killed process or a pulled cable would.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use backstop::store::{Body, LockRequest, LockState, ObjectInfo, Priority, Receipt, Sha256, Store, StoreError};
use jiff::Timestamp;

/// When the fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The operation is not done.
    Before,
    /// The operation is done, and nobody learns of it.
    After,
}

/// Counts operations; from number `at` on, everything fails.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    at: usize,
    fault: Fault,
    done: AtomicUsize,
}

impl FaultyStore {
    pub fn new(inner: Arc<dyn Store>, at: usize, fault: Fault) -> Self {
        Self { inner, at, fault, done: AtomicUsize::new(0) }
    }

    /// Operations so far.
    pub fn operations(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }

    fn step<T>(&self, operation: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let number = self.done.fetch_add(1, Ordering::SeqCst);
        let gone = || StoreError::Io { operation: "reach", path: "the store".into(), source: std::io::Error::other("it is gone") };
        match number {
            n if n < self.at => operation(),
            n if n == self.at && self.fault == Fault::After => {
                operation()?;
                Err(gone())
            }
            _ => Err(gone()),
        }
    }
}

impl Store for FaultyStore {
    fn put(&self, name: &str, body: Body<'_>, sha256: &Sha256, lock: &LockRequest) -> Result<Receipt, StoreError> {
        self.step(|| self.inner.put(name, body, sha256, lock))
    }
    fn open(&self, name: &str, version: Option<&str>) -> Result<Box<dyn Read + Send>, StoreError> {
        self.step(|| self.inner.open(name, version))
    }
    fn head(&self, name: &str) -> Result<Option<ObjectInfo>, StoreError> {
        self.step(|| self.inner.head(name))
    }
    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.step(|| self.inner.list(prefix))
    }
    fn extend_lock(&self, name: &str, version: Option<&str>, lock: &LockRequest) -> Result<LockState, StoreError> {
        self.step(|| self.inner.extend_lock(name, version, lock))
    }
    fn set_hold(&self, name: &str, version: Option<&str>, held: bool) -> Result<bool, StoreError> {
        self.step(|| self.inner.set_hold(name, version, held))
    }
    fn remove(&self, name: &str, version: Option<&str>) -> Result<(), StoreError> {
        self.step(|| self.inner.remove(name, version))
    }
    fn rehydrate(&self, name: &str, version: Option<&str>, priority: Priority) -> Result<(), StoreError> {
        self.step(|| self.inner.rehydrate(name, version, priority))
    }
    fn now(&self) -> Result<Timestamp, StoreError> {
        self.step(|| self.inner.now())
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
}
