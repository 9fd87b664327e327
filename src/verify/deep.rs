//! With an identity: every sealed object is opened, and every record compared with its manifest.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, Read};
use std::ops::Bound;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{AuditError, AuditJob, Chains, Finding};
use crate::observe::Event;
use crate::restore::{LogObject, Members, RestoreError, Walk, Wanted, log_objects, open_manifest, read_log_object};
use crate::sort::Sorter;
use crate::store::Sha256;
use crate::vault::attestation::{Kind, ObjectRef, Outcome, SnapshotDetails, SnapshotKind};
use crate::vault::keys::Identities;
use crate::vault::manifest::{Content, Entry, Line, Mtime, Placement, SegmentRef, TreeHasher};
use crate::vault::names::{self, ChainName, RunId};
use crate::vault::seal::{self, SealError};

/// Memory for sorting what a manifest wants by segment, in bytes.
const SORT_BUDGET: usize = 16 << 20;

/// What the keyless audit says of an object that is not what it was: it is not told again.
const OF_BYTES: [&str; 5] = ["missing_object", "truncated_object", "extended_object", "changed_object", "unreadable_object"];

/// What was found, from many threads.
#[derive(Default)]
struct Found<'a> {
    /// What lies in the archive tier: nothing is opened there, and the keyless audit has told it.
    archived: Option<&'a HashSet<String>>,
    /// Of what something was told already: by the keyless audit, or because it could not be read here.
    told: Mutex<HashSet<String>>,
    findings: Mutex<Vec<Finding>>,
    records: AtomicU64,
}

impl Found<'_> {
    fn push(&self, finding: Finding) {
        if let Ok(mut list) = self.findings.lock() {
            list.push(finding);
        }
    }

    /// An object that could not be read: whatever the keyless audit saw earlier, nothing in it was compared.
    fn unread(&self, finding: Finding, why: &dyn std::fmt::Display) {
        let name = finding.object.clone().unwrap_or_default();
        let silent = self.archived.is_some_and(|archived| archived.contains(&name));
        if !silent && self.told.lock().is_ok_and(|mut told| told.insert(name)) {
            self.push(Finding { message: format!("it cannot be read: {why}"), ..finding });
        }
    }
}

/// An object that cannot be read.
fn unreadable(object: &ObjectRef) -> Finding {
    Finding::error("unreadable_object", "").object(&object.name)
}

/// Opens everything; gives the number of records compared.
pub(super) fn check(
    job: &AuditJob<'_>,
    identities: &Identities,
    chains: &Chains,
    archived: &HashSet<String>,
    out: &mut Vec<Finding>,
) -> Result<u64, AuditError> {
    let told = out.iter().filter(|f| OF_BYTES.contains(&f.kind)).filter_map(|f| f.object.clone()).collect();
    let found = Found { archived: Some(archived), told: Mutex::new(told), ..Found::default() };
    for (chain, view) in chains {
        if chain.source().is_some() {
            snapshots(job, identities, chain, view, &found)?;
        } else if chain.stream().is_some() {
            logs(job, identities, chain, &found)?;
        }
    }
    out.extend(found.findings.into_inner().unwrap_or_default());
    Ok(found.records.into_inner())
}

/// The outer form of a sealed object.
fn form(job: &AuditJob<'_>, identities: &Identities, object: &ObjectRef, found: &Found<'_>) -> Result<(), RestoreError> {
    let bytes = match job.ledger.read_object(&object.name, object.version.as_deref(), &object.sha256, object.size) {
        Ok(bytes) => bytes,
        Err(e) => {
            found.unread(unreadable(object), &e);
            return Ok(());
        }
    };
    let tell = |message: String| found.push(Finding::error("bad_form", message).object(&object.name));
    let mut plain = Vec::new();
    match seal::decrypt(bytes.as_slice(), identities) {
        Err(SealError::WrongIdentity) => {
            let recipients = job.ledger.trust().recipients().to_vec();
            return Err(RestoreError::WrongIdentity { object: object.name.clone(), recipients });
        }
        Err(e) => tell(format!("it cannot be opened: {e}")),
        Ok(mut reader) => match reader.read_to_end(&mut plain) {
            Err(e) => tell(format!("it cannot be opened: {e}")),
            Ok(_) => {
                if let Err(e) = seal::check_frames(&plain) {
                    tell(e);
                }
            }
        },
    }
    Ok(())
}

/// What stands at each path, one allocation an entry: `path NUL packed`, which sorts as paths do.
#[derive(Default)]
struct Tree(BTreeSet<Box<[u8]>>);

impl Tree {
    fn key(path: &str) -> Vec<u8> {
        let mut key = Vec::with_capacity(path.len() + 48);
        key.extend_from_slice(path.as_bytes());
        key.push(0);
        key
    }

    /// Whether something stood there.
    fn remove(&mut self, path: &str) -> bool {
        let from = Self::key(path);
        let found = self.0.range::<[u8], _>((Bound::Included(from.as_slice()), Bound::Unbounded)).next();
        let found = found.filter(|k| k.starts_with(&from)).cloned();
        found.is_some_and(|key| self.0.remove(&key))
    }

    fn insert(&mut self, entry: &Entry) {
        self.remove(&entry.path);
        let mut key = Self::key(&entry.path);
        key.extend(pack(entry));
        self.0.insert(key.into());
    }

    fn digest(&self) -> Sha256 {
        let mut hasher = TreeHasher::default();
        for key in &self.0 {
            let cut = key.iter().position(|b| *b == 0).unwrap_or(key.len());
            let packed = key.get(cut + 1..).unwrap_or_default();
            let Ok(((kind, sha256, target), mode, mtime)) = postcard::from_bytes::<Packed>(packed) else { continue };
            let content = match (kind, sha256, target) {
                (0, Some(sha256), _) => Content::File { sha256, size: 0, placement: Placement::Chunks(Vec::new()) },
                (2, _, Some(target)) => Content::Symlink { target },
                _ => Content::Dir,
            };
            let path = String::from_utf8_lossy(&key[..cut]).into_owned();
            hasher.add(&Entry { path, content, mode, mtime });
        }
        hasher.finish()
    }
}

/// The part of an entry that the tree's digest is over.
type Packed = ((u8, Option<Sha256>, Option<String>), Option<u32>, Option<Mtime>);

fn pack(entry: &Entry) -> Vec<u8> {
    let content = match &entry.content {
        Content::File { sha256, .. } => (0u8, Some(sha256), None),
        Content::Dir => (1, None, None),
        Content::Symlink { target } => (2, None, Some(target)),
    };
    postcard::to_stdvec(&(content, entry.mode, entry.mtime)).unwrap_or_default()
}

fn snapshots(
    job: &AuditJob<'_>,
    identities: &Identities,
    chain: &ChainName,
    view: &crate::vault::ChainView,
    found: &Found<'_>,
) -> Result<(), AuditError> {
    let sizes: HashMap<Sha256, u64> =
        view.attested.iter().flat_map(|a| &a.statement.predicate.objects).map(|o| (o.sha256, o.size)).collect();
    let mut tree: Option<(RunId, Tree)> = None;
    for attested in view.attested.iter().filter(|a| a.statement.kind == Kind::Snapshot) {
        let predicate = &attested.statement.predicate;
        let Ok(details) = predicate.details::<SnapshotDetails>() else { continue };
        if predicate.outcome == Outcome::Failed {
            continue;
        }
        let here = |f: Finding| f.at(chain, attested.sequence());
        if predicate.objects.iter().any(|o| job.ledger.disposal_of(&o.name, &o.sha256).is_some()) {
            tree = None;
            continue;
        }
        let Some(object) = predicate.objects.iter().find(|o| names::is_manifest(&o.name)) else {
            found.push(here(Finding::error("no_manifest", "it attests a snapshot without a manifest")).object(&attested.name));
            tree = None;
            continue;
        };
        form(job, identities, object, found)?;
        let previous =
            tree.take().filter(|(run, _)| Some(*run) == details.previous_snapshot && details.snapshot_kind == SnapshotKind::Delta);
        let known = previous.is_some() || details.snapshot_kind == SnapshotKind::Base;
        let mut state = previous.map(|(_, t)| t).unwrap_or_default();
        let mut reader = match open_manifest(job.ledger, identities, object) {
            Ok(reader) => reader,
            Err(e @ RestoreError::WrongIdentity { .. }) => return Err(e.into()),
            Err(e @ (RestoreError::Manifest(_) | RestoreError::Seal(_))) => {
                found.push(here(Finding::error("bad_manifest", e.to_string())).object(&object.name));
                continue;
            }
            Err(e) => {
                found.unread(here(unreadable(object)), &e);
                continue;
            }
        };
        let header = reader.header().clone();
        if header.run != predicate.run
            || Some(header.base) != details.base
            || header.kind != details.snapshot_kind
            || header.previous_snapshot != details.previous_snapshot
        {
            found.push(here(Finding::error("bad_manifest", "its header is not what the attestation says")).object(&object.name));
        }
        let mut wanted = Sorter::new(&std::env::temp_dir(), SORT_BUDGET);
        loop {
            match reader.next_line() {
                Ok(None) => break,
                Ok(Some(Ok(Line::Entry(entry)))) => {
                    want(&entry, &mut wanted).map_err(sorting)?;
                    state.insert(&entry);
                }
                Ok(Some(Ok(Line::Deleted(path)))) => {
                    if !state.remove(&path) && known {
                        found.push(
                            here(Finding::error("bad_manifest", format!("it deletes {path}, which was not there"))).object(&object.name),
                        );
                    }
                }
                Ok(Some(Err(problem))) => found.push(here(Finding::error("bad_manifest", problem.to_string())).object(&object.name)),
                Err(e) => {
                    found.push(here(Finding::error("bad_manifest", e.to_string())).object(&object.name));
                    break;
                }
            }
        }
        // The sealed manifest is still in memory, and may be large.
        drop(reader);
        let digest = state.digest();
        if known && (Some(digest) != details.tree_sha256 || digest != header.tree_sha256 || state.0.len() as u64 != header.total_entries) {
            let message = "the state that its manifests make is not the one that it attests";
            found.push(here(Finding::error("tree_differs", message)).object(&object.name));
        }
        records(job, identities, &header.segments, &sizes, wanted, found)?;
        let own_segments = predicate.objects.iter().filter(|o| names::is_segment(&o.name));
        for segment in own_segments {
            form(job, identities, segment, found)?;
        }
        job.monitor.event(Event::Done { records: header.entries, bytes: object.size });
        if known {
            tree = Some((predicate.run, state));
        }
    }
    Ok(())
}

/// Notes which members an entry wants, by segment.
fn want(entry: &Entry, wanted: &mut Sorter) -> io::Result<()> {
    let Content::File { sha256, size, placement } = &entry.content else { return Ok(()) };
    let mut add = |segment: u32, member: &str, sha256: &Sha256, size: u64| {
        let value = postcard::to_stdvec(&(&entry.path, member, sha256, size)).map_err(io::Error::other)?;
        wanted.push(&segment.to_be_bytes(), &value)
    };
    match placement {
        Placement::Whole { segment, member } => add(*segment, member.as_deref().unwrap_or(&entry.path), sha256, *size),
        Placement::Chunks(chunks) => chunks.iter().try_for_each(|c| add(c.segment, &c.member, &c.sha256, c.size)),
    }
}

fn sorting(source: io::Error) -> RestoreError {
    RestoreError::Write { operation: "sort in", path: std::env::temp_dir(), source }
}

/// Compares the records of one manifest, some segments side by side.
fn records(
    job: &AuditJob<'_>,
    identities: &Identities,
    segments: &[SegmentRef],
    sizes: &HashMap<Sha256, u64>,
    wanted: Sorter,
    found: &Found<'_>,
) -> Result<(), AuditError> {
    let segments: Vec<(SegmentRef, u64)> =
        segments.iter().map(|segment| (segment.clone(), sizes.get(&segment.sha256).copied().unwrap_or(0))).collect();
    let archived = |n: u32| segments.get(n as usize).is_some_and(|(s, _)| found.archived.is_some_and(|a| a.contains(&s.name)));
    let walk = Walk { ledger: job.ledger, identities, segments: &segments, threads: job.threads };
    let walked = walk.run(
        |give| {
            let mut group: (u32, Members<()>) = (0, HashMap::new());
            let mut full = |(n, wanted): (u32, Members<()>)| match archived(n) {
                true => Ok(()),
                false => give(n, wanted).map_err(|_| io::Error::other("stopped")),
            };
            let sorted = wanted.finish(|key, value| {
                let n = u32::from_be_bytes(key.try_into().map_err(io::Error::other)?);
                let (path, member, sha256, size) =
                    postcard::from_bytes::<(String, String, Sha256, u64)>(value).map_err(io::Error::other)?;
                if n != group.0 {
                    full(std::mem::replace(&mut group, (n, HashMap::new())))?;
                }
                group.1.entry(member).or_default().push(Wanted { sha256, size, path, tag: () });
                Ok(())
            });
            sorted.and_then(|()| full(group)).map_err(sorting)
        },
        || (),
        |(), _, _| {
            found.records.fetch_add(1, Ordering::Relaxed);
            Ok(())
        },
        |f| {
            let (path, object) = (f.path.unwrap_or_default(), f.object.unwrap_or_default());
            found.push(Finding::error("lost_record", format!("{path}: {}", f.message)).object(&object));
        },
    );
    Ok(walked?)
}

fn logs(job: &AuditJob<'_>, identities: &Identities, chain: &ChainName, found: &Found<'_>) -> Result<(), AuditError> {
    let logs = match log_objects(job.ledger, chain, None) {
        Ok(logs) => logs,
        Err(e @ RestoreError::WrongIdentity { .. }) => return Err(e.into()),
        Err(e) => {
            found.push(Finding::error("not_a_statement", e.to_string()));
            return Ok(());
        }
    };
    for log in logs.iter().filter(|log| job.ledger.disposal_of(&log.object.name, &log.object.sha256).is_none()) {
        form(job, identities, &log.object, found)?;
        check_log(job, identities, chain, log, found)?;
    }
    Ok(())
}

fn check_log(job: &AuditJob<'_>, identities: &Identities, chain: &ChainName, log: &LogObject, found: &Found<'_>) -> Result<(), AuditError> {
    let here = |f: Finding| f.object(&log.object.name).at(chain, log.sequence);
    let (mut count, mut first, mut last) = (0, None, None);
    let read = read_log_object(job.ledger, identities, log, |_, key, _| -> io::Result<()> {
        count += 1;
        if let Some(time) = key.time {
            first = Some(first.map_or(time, |f: jiff::Timestamp| f.min(time)));
            last = Some(last.map_or(time, |l: jiff::Timestamp| l.max(time)));
        }
        Ok(())
    });
    found.records.fetch_add(count, Ordering::Relaxed);
    match read {
        Err(e @ RestoreError::WrongIdentity { .. }) => return Err(e.into()),
        Err(RestoreError::Store(e)) => found.unread(here(unreadable(&log.object)), &e),
        Err(e) => found.push(here(Finding::error("lost_record", e.to_string()))),
        Ok(()) if (count, first, last) != (log.span.count, log.span.first, log.span.last) => {
            found.push(here(Finding::error("span_differs", "its events are not the number or the span that was attested")));
        }
        Ok(()) => {}
    }
    Ok(())
}
