//! Witnesses of the promise tests: what stands in a directory, read without the program; snapshots brought
//! back to be compared with it; audits; and a store that counts.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use backstop::observe::Silent;
use backstop::path::encode_component;
use backstop::restore::{Existing, FilesJob, FilesReport, Pick, restore_files};
use backstop::source::PathGlobs;
use backstop::store::{Body, LockRequest, LockState, ObjectInfo, Priority, Receipt, Sha256, Store, StoreError};
use backstop::vault::attestation::{Kind, Outcome};
use backstop::vault::keys::Identities;
use backstop::vault::names::{ChainName, RunId};
use backstop::vault::{Attested, Ledger};
use backstop::verify::{AuditJob, AuditReport, Severity, audit};
use jiff::Timestamp;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    File(Sha256, u64),
    Dir,
    Link(Vec<u8>),
}

/// A path's content and, where they are kept, mode and modification time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub standing: Standing,
    pub mode: Option<u32>,
    pub mtime: Option<(i64, i64)>,
}

/// Everything below a directory, by encoded path.
pub type Tree = BTreeMap<String, Node>;

/// Looks at a directory as the test sees it; with mode and time where `metadata` says so.
pub fn look(root: &Path, metadata: bool) -> Tree {
    let mut tree = Tree::new();
    look_below(root, "", metadata, &mut tree);
    tree
}

fn look_below(dir: &Path, prefix: &str, metadata: bool, tree: &mut Tree) {
    for entry in fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let entry = entry.unwrap();
        let mut path = prefix.to_owned();
        encode_component(entry.file_name().as_bytes(), &mut path);
        let seen = fs::symlink_metadata(entry.path()).unwrap();
        let standing = if seen.is_dir() {
            look_below(&entry.path(), &format!("{path}/"), metadata, tree);
            Standing::Dir
        } else if seen.is_symlink() {
            Standing::Link(fs::read_link(entry.path()).unwrap().as_os_str().as_bytes().to_vec())
        } else {
            Standing::File(Sha256::of(&fs::read(entry.path()).unwrap()), seen.size())
        };
        let mode = (metadata && !seen.is_symlink()).then_some(seen.mode() & 0o7777);
        let mtime = metadata.then_some((seen.mtime(), seen.mtime_nsec()));
        tree.insert(path, Node { standing, mode, mtime });
    }
}

/// The difference of two trees in a few words, for messages: nothing when they are equal.
pub fn differences(expected: &Tree, found: &Tree) -> Vec<String> {
    let paths: std::collections::BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    let shown = |n: Option<&Node>| n.map_or_else(|| "nothing".to_owned(), |n| format!("{n:?}"));
    let differ = paths.into_iter().filter(|p| expected.get(*p) != found.get(*p));
    differ.take(5).map(|p| format!("{p}: expected {}, found {}", shown(expected.get(p)), shown(found.get(p)))).collect()
}

/// The attestations of a chain, oldest first; the chain may not exist yet.
pub fn attested(ledger: &Ledger, chain: &str) -> Vec<Attested> {
    ledger.chain(&chain.parse::<ChainName>().unwrap()).unwrap().attested
}

/// The snapshots that a reader of `ls` would take for one: not failed, oldest first.
pub fn snapshots(ledger: &Ledger, chain: &str) -> Vec<RunId> {
    let stands = |a: &Attested| a.statement.kind == Kind::Snapshot && a.statement.predicate.outcome != Outcome::Failed;
    attested(ledger, chain).iter().filter(|a| stands(a)).map(|a| a.statement.predicate.run).collect()
}

/// Restores a snapshot, or what of it fits the globs, into a new directory.
pub fn restore(ledger: &Ledger, identities: &Identities, chain: &str, run: RunId, to: &Path, only: &[&str]) -> FilesReport {
    let only: Vec<String> = only.iter().map(|s| (*s).to_owned()).collect();
    restore_files(&FilesJob {
        ledger,
        identities,
        chain: &chain.parse().unwrap(),
        run,
        to,
        pick: Pick::fitting(&PathGlobs::new(&only).unwrap()),
        existing: Existing::Refuse,
        outside_links: true,
        threads: 2,
        monitor: &Silent,
    })
    .unwrap_or_else(|e| panic!("{run} does not restore: {e}"))
}

/// Restores a whole snapshot, expects it to prove itself, and gives what then stands in the directory.
pub fn restored(ledger: &Ledger, identities: &Identities, chain: &str, run: RunId, scratch: &Path, metadata: bool) -> Tree {
    let to = tempfile::tempdir_in(scratch).unwrap();
    let report = restore(ledger, identities, chain, run, to.path(), &[]);
    assert!(report.failed.is_empty(), "{run}: {:?}", report.failed);
    assert_eq!(report.tree_matches, Some(true), "{run}");
    let tree = look(to.path(), metadata);
    assert_eq!(report.entries, tree.len() as u64, "{run}");
    tree
}

/// Audits a vault, with an identity in depth.
pub fn audited(ledger: &Ledger, deep: Option<&Identities>) -> AuditReport {
    audit(&AuditJob { ledger, kept: None, since: None, deep, ignore_locks: false, threads: 2, monitor: &Silent }).unwrap()
}

/// The errors of an audit, as text.
pub fn errors(report: &AuditReport) -> Vec<String> {
    report.findings.iter().filter(|f| f.severity == Severity::Error).map(|f| format!("{f:?}")).collect()
}

/// One call of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// An object was created, with its size.
    Put(String, u64),
    /// An object was opened.
    Open(String),
    Head(String),
    List(String),
    Extend(String),
}

/// Passes everything on and remembers it.
pub struct Counting {
    inner: Arc<dyn Store>,
    calls: Mutex<Vec<Call>>,
    read: Arc<Mutex<u64>>,
}

impl Counting {
    pub fn new(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { inner, calls: Mutex::default(), read: Arc::default() })
    }

    fn note(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }

    /// What was asked for since the last time.
    pub fn take(&self) -> Vec<Call> {
        *self.read.lock().unwrap() = 0;
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    /// Bytes that readers took since the calls were taken.
    pub fn bytes_read(&self) -> u64 {
        *self.read.lock().unwrap()
    }
}

/// The objects that were created, with their sizes.
pub fn puts(calls: &[Call]) -> Vec<(String, u64)> {
    calls.iter().filter_map(|c| if let Call::Put(name, size) = c { Some((name.clone(), *size)) } else { None }).collect()
}

/// The objects that were opened, once for each time.
pub fn opens(calls: &[Call]) -> Vec<String> {
    calls.iter().filter_map(|c| if let Call::Open(name) = c { Some(name.clone()) } else { None }).collect()
}

struct Counted {
    inner: Box<dyn Read + Send>,
    read: Arc<Mutex<u64>>,
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        *self.read.lock().unwrap() += n as u64;
        Ok(n)
    }
}

impl Store for Counting {
    fn put(&self, name: &str, body: Body<'_>, sha256: &Sha256, lock: &LockRequest) -> Result<Receipt, StoreError> {
        let receipt = self.inner.put(name, body, sha256, lock)?;
        let size = match body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::File(path) => fs::metadata(path).unwrap().len(),
        };
        self.note(Call::Put(name.to_owned(), size));
        Ok(receipt)
    }
    fn open(&self, name: &str, version: Option<&str>) -> Result<Box<dyn Read + Send>, StoreError> {
        self.note(Call::Open(name.to_owned()));
        Ok(Box::new(Counted { inner: self.inner.open(name, version)?, read: self.read.clone() }))
    }
    fn head(&self, name: &str) -> Result<Option<ObjectInfo>, StoreError> {
        self.note(Call::Head(name.to_owned()));
        self.inner.head(name)
    }
    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.note(Call::List(prefix.to_owned()));
        self.inner.list(prefix)
    }
    fn extend_lock(&self, name: &str, version: Option<&str>, lock: &LockRequest) -> Result<LockState, StoreError> {
        self.note(Call::Extend(name.to_owned()));
        self.inner.extend_lock(name, version, lock)
    }
    fn set_hold(&self, name: &str, version: Option<&str>, held: bool) -> Result<bool, StoreError> {
        self.inner.set_hold(name, version, held)
    }
    fn remove(&self, name: &str, version: Option<&str>) -> Result<(), StoreError> {
        self.inner.remove(name, version)
    }
    fn rehydrate(&self, name: &str, version: Option<&str>, priority: Priority) -> Result<(), StoreError> {
        self.inner.rehydrate(name, version, priority)
    }
    fn now(&self) -> Result<Timestamp, StoreError> {
        self.inner.now()
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
}
