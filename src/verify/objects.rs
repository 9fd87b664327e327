//! Every attested object against the stored bytes, every lock against the attested policy.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use super::{AuditError, AuditJob, Chains, Finding, Severity};
use crate::observe::Event;
use crate::store::{EnforcedBy, HashingReader, LockMode, LockState, ObjectInfo, StoreError};
use crate::vault::attestation::ObjectRef;
use crate::vault::epoch::locked_until;
use crate::vault::names::{CANARIES, ChainName, Container};
use crate::vault::{Attested, kept_until};

/// Every version of every object by name, the oldest first.
pub(super) type Versions = HashMap<String, Vec<ObjectInfo>>;

/// The version that an attestation means: the recorded one, or where the store has other ids the oldest.
pub(super) fn meant<'a>(stored: &'a Versions, object: &ObjectRef) -> Option<&'a ObjectInfo> {
    let versions = stored.get(&object.name)?;
    let recorded = object.version.as_ref().and_then(|v| versions.iter().find(|info| info.version.as_ref() == Some(v)));
    recorded.or(versions.first())
}

/// What was counted.
pub(super) struct Counted {
    pub objects: u64,
    pub bytes: u64,
    /// Names of what lies in the archive tier, and cannot be opened.
    pub archived: HashSet<String>,
}

/// One object to be judged, and who attests it.
struct Claim<'a> {
    object: &'a ObjectRef,
    chain: &'a ChainName,
    attested: &'a Attested,
    /// Not read, since a checkpoint from outside says that it was.
    skip: bool,
}

pub(super) fn check(job: &AuditJob<'_>, chains: &Chains, out: &mut Vec<Finding>) -> Result<Counted, AuditError> {
    let store = job.ledger.store();
    let mut stored = Versions::new();
    for container in Container::ALL {
        for info in store.list(&format!("{container}/"))? {
            stored.entry(info.name.clone()).or_default().push(info);
        }
    }
    let since: HashMap<&ChainName, u64> = job.since.iter().flat_map(|k| &k.heads).map(|h| (&h.chain, h.sequence)).collect();
    let mut claims: BTreeMap<&str, Vec<Claim<'_>>> = BTreeMap::new();
    for (chain, view) in chains {
        for attested in &view.attested {
            let skip = since.get(chain).is_some_and(|upto| attested.sequence() <= *upto);
            for object in &attested.statement.predicate.objects {
                claims.entry(&object.name).or_default().push(Claim { object, chain, attested, skip });
            }
        }
    }
    let bytes = hash_all(job, &claims, &stored, out);
    let archived = archived(&claims, &stored, out);
    let mut locks = Locks { ignore: job.ignore_locks, shown: 0, weaker: Vec::new(), unlocked: 0, findings: Vec::new() };
    for list in claims.values() {
        for claim in list {
            if list[0].object.sha256 != claim.object.sha256 {
                let message = format!("it is attested with other bytes by {}", list[0].attested.name);
                out.push(Finding::error("contradiction", message).object(&claim.object.name).at(claim.chain, claim.attested.sequence()));
            }
            locks.judge(claim, meant(&stored, claim.object));
        }
    }
    for (chain, view) in chains {
        for attested in view.attested.iter().filter(|a| !a.from_bundle) {
            locks.judge_envelope(chain, attested);
        }
    }
    locks.finish(out);
    shadows(chains, &claims, &stored, out);
    orphans(chains, &claims, &stored, out);
    policies(chains, &stored, &claims, out);
    super::retained::check(job, chains, &stored, out)?;
    Ok(Counted { objects: claims.len() as u64, bytes, archived })
}

/// Reads every object once, on all threads, and compares.
fn hash_all(job: &AuditJob<'_>, claims: &BTreeMap<&str, Vec<Claim<'_>>>, stored: &Versions, out: &mut Vec<Finding>) -> u64 {
    let mut todo: Vec<(&&str, &Claim<'_>)> =
        claims.iter().filter_map(|(name, list)| list.iter().find(|c| !c.skip).or(list.first()).map(|c| (name, c))).collect();
    // The large ones first, so that no thread ends alone with one.
    todo.sort_by_key(|(_, c)| std::cmp::Reverse(c.object.size));
    let total = todo.iter().filter(|(_, c)| !c.skip).map(|(_, c)| c.object.size).sum();
    job.monitor.event(Event::Expect { records: todo.len() as u64, bytes: total });
    let (next, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
    let found = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..job.threads.max(job.ledger.store().parallelism()) {
            scope.spawn(|| {
                while let Some((name, claim)) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let finding = judge_bytes(job, name, claim, meant(stored, claim.object), &bytes);
                    job.monitor.event(Event::Done { records: 1, bytes: if claim.skip { 0 } else { claim.object.size } });
                    if let (Some(finding), Ok(mut list)) = (finding, found.lock()) {
                        list.push(finding.object(name).at(claim.chain, claim.attested.sequence()));
                    }
                }
            });
        }
    });
    out.extend(found.into_inner().unwrap_or_default());
    bytes.into_inner()
}

fn judge_bytes(job: &AuditJob<'_>, name: &str, claim: &Claim<'_>, info: Option<&ObjectInfo>, bytes: &AtomicU64) -> Option<Finding> {
    let object = claim.object;
    let healed = || job.ledger.healed_names(&object.sha256).iter().any(|n| digest_of(job, n, None).is_ok_and(|d| d.0 == object.sha256));
    let severity = |kind: &'static str, message: String| {
        if healed() {
            Finding::new(Severity::Warning, kind, format!("{message}; a healed copy stands"))
        } else {
            Finding::error(kind, message)
        }
    };
    let Some(info) = info else {
        if job.ledger.disposal_of(name, &object.sha256).is_some() {
            return None;
        }
        return Some(severity("missing_object", "the object is missing".into()));
    };
    if info.size < object.size {
        return Some(severity("truncated_object", format!("it has {} bytes of {}", info.size, object.size)));
    }
    if info.size > object.size {
        return Some(severity("extended_object", format!("it has {} bytes, but {} were attested", info.size, object.size)));
    }
    if claim.skip || info.archive.is_some() {
        return None;
    }
    match digest_of(job, name, info.version.as_deref()) {
        Ok((digest, read)) => {
            bytes.fetch_add(read, Ordering::Relaxed);
            if digest == object.sha256 {
                return None;
            }
            // What came wrong over a network may lie right in the store.
            match digest_of(job, name, info.version.as_deref()) {
                Ok((again, _)) if again == object.sha256 => {
                    let message = "its bytes came wrong once and right when they were read again: the way from the store is not sound";
                    Some(Finding::warning("unsound_read", message))
                }
                _ => Some(severity("changed_object", "its bytes are not the ones that were attested".into())),
            }
        }
        Err(e) => Some(severity("unreadable_object", format!("it cannot be read: {e}"))),
    }
}

/// What lies in the archive tier is there, with its version and its lock, but nothing read its bytes.
fn archived(claims: &BTreeMap<&str, Vec<Claim<'_>>>, stored: &Versions, out: &mut Vec<Finding>) -> HashSet<String> {
    let lying = claims.values().filter_map(|list| meant(stored, list.first()?.object)).filter(|info| info.archive.is_some());
    let lying: Vec<&ObjectInfo> = lying.collect();
    if !lying.is_empty() {
        let (objects, bytes) = (lying.len(), lying.iter().map(|info| info.size).sum::<u64>());
        let message = format!(
            "{objects} objects ({bytes} bytes) lie in the archive tier: they are there, with their locks, but their bytes were not read; \
             bringing them back takes up to 15 h"
        );
        out.push(Finding::new(Severity::Info, "archived", message));
    }
    lying.into_iter().map(|info| info.name.clone()).collect()
}

fn digest_of(job: &AuditJob<'_>, name: &str, version: Option<&str>) -> Result<(crate::store::Sha256, u64), StoreError> {
    let mut hashed = HashingReader::new(job.ledger.store().open(name, version)?);
    let mut buffer = vec![0; 1 << 17];
    loop {
        match io::Read::read(&mut hashed, &mut buffer) {
            Ok(0) => return Ok(hashed.finish()),
            Ok(_) => {}
            Err(source) => return Err(StoreError::Io { operation: "read", path: name.into(), source }),
        }
    }
}

/// Judges locks and gathers what would otherwise be said a thousand times.
struct Locks {
    ignore: bool,
    shown: u64,
    weaker: Vec<String>,
    unlocked: u64,
    findings: Vec<Finding>,
}

impl Locks {
    fn judge(&mut self, claim: &Claim<'_>, info: Option<&ObjectInfo>) {
        let object = claim.object;
        let here = |f: Finding| f.object(&object.name).at(claim.chain, claim.attested.sequence());
        if object.lock.mode == LockMode::None {
            self.unlocked += 1;
            return;
        }
        if let Some(expected) = kept_until(&claim.attested.statement, object)
            && object.lock.until.is_none_or(|until| until < expected)
        {
            let said = object.lock.until.map_or_else(|| "no instant".to_owned(), |u| u.to_string());
            self.findings.push(here(Finding::error("short_lock", format!("it was locked until {said}; its policy demands {expected}"))));
        }
        if let Some(info) = info {
            if !self.ignore && info.recorded_sha256.is_some_and(|recorded| recorded != object.sha256) {
                self.findings.push(here(Finding::error("lock_weakened", "the lock beside it is that of other bytes")));
            }
            self.stands(&object.name, &object.lock, info.lock.as_ref(), here);
        }
    }

    /// What the store shows now against what it answered then.
    fn stands(&mut self, name: &str, then: &LockState, now: Option<&LockState>, here: impl Fn(Finding) -> Finding) {
        if self.ignore {
            return;
        }
        let Some(now) = now else {
            self.findings.push(here(Finding::error("no_lock", "the store shows no lock on it")));
            return;
        };
        self.shown += 1;
        let ranks = |mode: LockMode| match mode {
            LockMode::None => 0,
            LockMode::Unlocked => 1,
            LockMode::Locked => 2,
        };
        if ranks(now.mode) < ranks(then.mode) || now.until < then.until {
            let said = now.until.map_or_else(|| "no instant".to_owned(), |u| u.to_string());
            self.findings.push(here(Finding::error("lock_weakened", format!("it was locked more strictly; the store now says {said}"))));
        }
        if then.enforced_by == EnforcedBy::Kernel && now.enforced_by != EnforcedBy::Kernel {
            self.weaker.push(name.to_owned());
        }
    }

    fn judge_envelope(&mut self, chain: &ChainName, attested: &Attested) {
        let predicate = &attested.statement.predicate;
        let longest = predicate.objects.iter().filter_map(|o| o.lock.until).max();
        let own = locked_until(predicate.finished, predicate.retention.of(Container::Attestations), predicate.grace);
        let expected = longest.map_or(own, |l| l.max(own));
        if self.ignore || predicate.objects.iter().any(|o| o.lock.mode == LockMode::None) {
            return;
        }
        let here = |f: Finding| f.object(&attested.name).at(chain, attested.sequence());
        match &attested.lock {
            None => self.findings.push(here(Finding::error("no_lock", "the store shows no lock on it"))),
            Some(lock) => {
                self.shown += 1;
                // Genesis is locked to the end of its month and so always longer; all others to the second.
                // Its objects are locked, and so it was. One without objects is held to what checkpoints recorded.
                let gone = lock.mode == LockMode::None && !predicate.objects.is_empty();
                if gone || (lock.mode != LockMode::None && lock.until.is_none_or(|until| until < expected)) {
                    let said = lock.until.filter(|_| !gone).map_or_else(|| "no instant".to_owned(), |u| u.to_string());
                    self.findings
                        .push(here(Finding::error("short_lock", format!("it is locked until {said}; its policy demands {expected}"))));
                }
            }
        }
    }

    fn finish(self, out: &mut Vec<Finding>) {
        let nowhere = self.shown == 0 && self.findings.iter().any(|f| f.kind == "no_lock");
        if nowhere {
            let message = "the store shows no lock on any object: if this is a plain copy of a vault, say --ignore-locks";
            out.push(Finding::error("no_lock", message));
            out.extend(self.findings.into_iter().filter(|f| f.kind != "no_lock"));
        } else {
            out.extend(self.findings);
        }
        if let Some(first) = self.weaker.first() {
            let message = format!(
                "{} objects had the kernel's immutable flag when they were attested and have it no longer; the first is named",
                self.weaker.len()
            );
            out.push(Finding::warning("enforcement_weaker", message).object(first));
        }
        if self.unlocked > 0 {
            let message =
                format!("{} objects were stored without any lock, as their policy said: they can be deleted at any time", self.unlocked);
            out.push(Finding::warning("unlocked", message));
        }
    }
}

/// A second version of an object that the vault names, or one that an ordinary listing no longer shows: somebody
/// with the right to write put something over it, or hid it. The first still restores.
fn shadows(chains: &Chains, claims: &BTreeMap<&str, Vec<Claim<'_>>>, stored: &Versions, out: &mut Vec<Finding>) {
    let envelopes = chains.iter().flat_map(|(chain, v)| v.attested.iter().map(move |a| (a.name.as_str(), chain, a.sequence())));
    let objects = claims.iter().filter_map(|(name, list)| list.first().map(|c| (*name, c.chain, c.attested.sequence())));
    let mut seen = HashSet::new();
    for (name, chain, sequence) in envelopes.chain(objects) {
        let Some(versions) = stored.get(name).filter(|_| seen.insert(name)) else { continue };
        let here = |f: Finding| f.object(name).at(chain, sequence);
        let version = |info: &ObjectInfo| info.version.clone().unwrap_or_default();
        if let [_, later @ ..] = versions.as_slice()
            && !later.is_empty()
        {
            let ids: Vec<String> = later.iter().map(version).collect();
            let message =
                format!("it was written over: {} later version(s), {}; the first one still restores", later.len(), ids.join(", "));
            out.push(here(Finding::error("shadowed", message)));
        }
        if versions.iter().all(|info| !info.current) {
            let message = "it was deleted by name: an ordinary listing no longer shows it; its locked version still restores";
            out.push(here(Finding::error("hidden", message)));
        }
    }
}

/// Objects that no attestation names.
fn orphans(chains: &Chains, claims: &BTreeMap<&str, Vec<Claim<'_>>>, stored: &Versions, out: &mut Vec<Finding>) {
    let envelopes: HashSet<&str> = chains
        .iter()
        .flat_map(|(_, v)| {
            v.attested
                .iter()
                .map(|a| a.name.as_str())
                .chain(v.voids.iter().map(|v| v.name.as_str()))
                .chain(v.strays.iter().map(String::as_str))
        })
        .collect();
    for (name, versions) in stored {
        let Some(info) = versions.first() else { continue };
        if claims.contains_key(name.as_str()) || envelopes.contains(name.as_str()) || name.starts_with(CANARIES) {
            continue;
        }
        let finding = if name.starts_with("attestations/") {
            Finding::warning("stray_object", "no attestation names it, and it is not one itself")
        } else {
            Finding::new(Severity::Info, "orphan", format!("no attestation names it ({} bytes): an interrupted run left it", info.size))
        };
        out.push(finding.object(name));
    }
}

/// Every policy that a run was made under is kept.
fn policies(chains: &Chains, stored: &Versions, claims: &BTreeMap<&str, Vec<Claim<'_>>>, out: &mut Vec<Finding>) {
    let mut told = HashSet::new();
    for (chain, view) in chains {
        for attested in &view.attested {
            let sha256 = attested.statement.predicate.policy_sha256;
            let name = crate::vault::names::policy(&sha256);
            if !stored.contains_key(&name) && !claims.contains_key(name.as_str()) && told.insert(sha256) {
                let finding = Finding::error("missing_policy", "the policy that a run was made under is missing");
                out.push(finding.object(&name).at(chain, attested.sequence()));
            }
        }
    }
}
