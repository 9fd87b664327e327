//! What the account holds: containers, blobs, versions, blocks, and the clock that everything goes by.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hyper::body::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::faults::Fault;
use super::instants::{self, whole_seconds};
use super::lease::Lease;
use super::options::{ContainerOptions, ContainerPolicy, Options};
use super::reply::Reply;
use super::tokens::Token;

pub struct State {
    pub options: Options,
    pub containers: BTreeMap<String, Container>,
    pub tokens: HashMap<String, Token>,
    pub faults: Vec<Fault>,
    pub counts: BTreeMap<String, u64>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    offset: SignedDuration,
    last_tick: i128,
    serial: u64,
}

impl State {
    pub fn new(options: Options) -> Self {
        let real = Timestamp::now();
        let offset = options.now.map_or(SignedDuration::ZERO, |now| now.duration_since(real));
        let mut state = State {
            containers: BTreeMap::new(),
            tokens: HashMap::new(),
            faults: Vec::new(),
            counts: BTreeMap::new(),
            bytes_in: 0,
            bytes_out: 0,
            offset,
            last_tick: 0,
            serial: 0,
            options,
        };
        for container in state.options.containers.clone() {
            state.put_container(container);
        }
        state
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::now().checked_add(self.offset).unwrap()
    }

    pub fn set_clock(&mut self, to: Timestamp) {
        self.offset = to.duration_since(Timestamp::now());
    }

    pub fn advance(&mut self, by: SignedDuration) {
        self.offset = self.offset.checked_add(by).unwrap();
    }

    /// A name for a version: the present instant, and never one that was used.
    pub fn next_version_id(&mut self) -> String {
        let tick = instants::ticks(self.now()).max(self.last_tick + 1);
        self.last_tick = tick;
        instants::version_id(tick)
    }

    pub fn next_etag(&mut self) -> String {
        self.serial += 1;
        format!("\"0x8DE{:012X}\"", self.serial)
    }

    pub fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Makes a container or changes what it promises; blobs stay.
    pub fn put_container(&mut self, options: ContainerOptions) {
        let (now, etag) = (whole_seconds(self.now()), self.next_etag());
        let found = self.containers.entry(options.name.clone()).or_insert_with(|| Container {
            created: now,
            modified: now,
            etag,
            metadata: Vec::new(),
            blobs: BTreeMap::new(),
            lease: Lease::default(),
            options: ContainerOptions::default(),
        });
        found.options = options;
    }

    pub fn container(&mut self, name: &str) -> Result<&mut Container, Reply> {
        self.containers.get_mut(name).ok_or_else(|| Reply::error(404, "ContainerNotFound"))
    }

    /// A blob's current version, or the version that is asked for.
    pub fn version(&mut self, container: &str, blob: &str, version: Option<&str>) -> Result<&mut Version, Reply> {
        let found = self.container(container)?.blobs.get_mut(blob);
        found.and_then(|b| b.find(version)).ok_or_else(|| Reply::error(404, "BlobNotFound"))
    }

    /// The truth, whatever the service would say.
    pub fn dump(&self) -> Value {
        let containers = self.containers.iter().map(|(name, container)| (name.clone(), container.dump()));
        json!({ "now": self.now().to_string(), "containers": containers.collect::<serde_json::Map<_, _>>() })
    }
}

pub struct Container {
    pub options: ContainerOptions,
    pub created: Timestamp,
    pub modified: Timestamp,
    pub etag: String,
    pub metadata: Vec<(String, String)>,
    pub blobs: BTreeMap<String, Blob>,
    pub lease: Lease,
}

impl Container {
    /// A policy on the whole container; with version-level support it is only a default for new versions.
    pub fn worm(&self) -> Option<&ContainerPolicy> {
        self.options.policy.as_ref().filter(|_| !self.options.version_level)
    }

    fn dump(&self) -> Value {
        let blobs = self.blobs.iter().map(|(name, blob)| (name.clone(), blob.dump()));
        json!({ "options": self.options, "blobs": blobs.collect::<serde_json::Map<_, _>>() })
    }
}

#[derive(Default)]
pub struct Blob {
    /// Oldest first; without versioning, one.
    pub versions: Vec<Version>,
    /// Whether the last one is the current one, rather than all being previous ones.
    pub live: bool,
    /// By their ids in base64.
    pub uncommitted: BTreeMap<String, Block>,
    pub lease: Lease,
}

impl Blob {
    pub fn current(&mut self) -> Option<&mut Version> {
        if self.live { self.versions.last_mut() } else { None }
    }

    pub fn current_ref(&self) -> Option<&Version> {
        if self.live { self.versions.last() } else { None }
    }

    pub fn find(&mut self, version: Option<&str>) -> Option<&mut Version> {
        match version {
            None => self.current(),
            Some(id) => self.versions.iter_mut().find(|v| v.id == id && v.deleted.is_none()),
        }
    }

    pub fn is_current(&self, id: &str) -> bool {
        self.current_ref().is_some_and(|v| v.id == id)
    }

    /// Blocks that nobody committed within 7 days are gone.
    pub fn drop_stale_blocks(&mut self, now: Timestamp) {
        self.uncommitted.retain(|_, block| now.duration_since(block.written) < instants::days(7));
    }

    pub fn is_empty(&self) -> bool {
        self.versions.is_empty() && self.uncommitted.is_empty()
    }

    fn dump(&self) -> Value {
        let versions: Vec<Value> = self.versions.iter().map(|v| v.dump(self.is_current(&v.id))).collect();
        let blocks: Vec<Value> = self.uncommitted.iter().map(|(id, b)| json!({ "id": id, "size": b.data.len() })).collect();
        json!({ "live": self.live, "versions": versions, "uncommitted": blocks })
    }
}

#[derive(Clone)]
pub struct Block {
    pub data: Bytes,
    pub written: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    pub until: Timestamp,
    pub locked: bool,
}

impl Lock {
    /// As answers spell it.
    pub fn mode(&self) -> &'static str {
        if self.locked { "locked" } else { "unlocked" }
    }
}

#[derive(Clone)]
pub struct Version {
    pub id: String,
    pub etag: String,
    pub created: Timestamp,
    pub modified: Timestamp,
    /// When this version came to be, which new metadata on an older one also does.
    pub written: Timestamp,
    /// Pieces, one per block or one for all.
    pub data: Arc<Vec<Bytes>>,
    /// Of committed blocks: id and size.
    pub blocks: Arc<Vec<(String, u64)>>,
    pub md5: Option<String>,
    pub properties: BTreeMap<&'static str, String>,
    pub metadata: Vec<(String, String)>,
    pub tags: Vec<(String, String)>,
    /// What was asked for; nothing means the account's.
    pub tier: Option<String>,
    pub tier_changed: Option<Timestamp>,
    pub rehydrating: Option<Rehydration>,
    pub lock: Option<Lock>,
    pub legal_hold: bool,
    pub deleted: Option<Timestamp>,
}

#[derive(Clone)]
pub struct Rehydration {
    pub to: String,
    pub priority: String,
    pub due: Timestamp,
}

impl Version {
    pub fn size(&self) -> u64 {
        self.data.iter().map(|piece| piece.len() as u64).sum()
    }

    /// What has come back from the archive by now.
    pub fn settle(&mut self, now: Timestamp) {
        if let Some(pending) = self.rehydrating.take_if(|r| r.due <= now) {
            self.tier = Some(pending.to);
            self.tier_changed = Some(pending.due);
        }
    }

    pub fn archived(&self) -> bool {
        self.tier.as_deref() == Some("Archive")
    }

    /// The bytes between two offsets, without a copy.
    pub fn slice(&self, from: u64, to: u64) -> Vec<Bytes> {
        let mut out = Vec::new();
        let mut at = 0;
        for piece in self.data.iter() {
            let (start, end) = (at, at + piece.len() as u64);
            at = end;
            if end > from && start < to {
                let (a, b) = (from.max(start) - start, to.min(end) - start);
                out.push(piece.slice(a as usize..b as usize));
            }
        }
        out
    }

    fn dump(&self, current: bool) -> Value {
        json!({
            "version": self.id,
            "current": current,
            "size": self.size(),
            "created": self.created.to_string(),
            "etag": self.etag,
            "md5": self.md5,
            "metadata": self.metadata.iter().cloned().collect::<BTreeMap<_, _>>(),
            "tier": self.tier,
            "rehydrating": self.rehydrating.as_ref().map(|r| r.to.clone()),
            "lock": self.lock.map(|l| json!({ "until": l.until.to_string(), "mode": l.mode() })),
            "legal_hold": self.legal_hold,
            "deleted": self.deleted.map(|d| d.to_string()),
        })
    }
}
