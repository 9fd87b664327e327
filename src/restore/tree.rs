//! The state of a source at one run: its base manifest and every delta up to it, merged in path order.
//!
//! Memory grows with what changed since the base, not with the snapshot.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;

use super::{Failed, RestoreError};
use crate::store::Sha256;
use crate::vault::attestation::{Kind, ObjectRef, Outcome, SnapshotDetails, SnapshotKind, Statement};
use crate::vault::keys::Identities;
use crate::vault::manifest::{Chunk, Content, Entry, Header, Line, ManifestReader, Placement, SegmentRef, TreeHasher};
use crate::vault::names::{self, ChainName, RunId};
use crate::vault::seal::{self, SealError};
use crate::vault::{Attested, Ledger};

/// What was learned of a snapshot besides its entries.
#[derive(Debug, Clone)]
pub struct TreeInfo {
    /// The segments that entries name by number, with their stored sizes.
    pub segments: Vec<(SegmentRef, u64)>,
    /// Digest over the entries as they were read.
    pub tree_sha256: Sha256,
    /// Digest that the attestation says.
    pub attested_tree: Option<Sha256>,
    /// Entries.
    pub entries: u64,
    /// What could not be read of the manifests.
    pub failed: Vec<Failed>,
    /// Sealed objects that were read.
    pub objects_read: u64,
    /// The runs whose manifests were read.
    pub manifests: Vec<RunId>,
}

/// What a snapshot's state stands on.
pub struct Lineage {
    /// The attestations from its base to itself.
    pub steps: Vec<Attested>,
    /// Every object that those and their neighbours attest, by digest.
    pub objects: HashMap<Sha256, ObjectRef>,
    /// Attestations that are missing.
    pub failed: Vec<Failed>,
    /// Stored bytes of the runs that the state needs.
    pub stored_bytes: u64,
}

/// The attestations that a snapshot's state needs: from its base to itself.
pub fn snapshot_of(ledger: &Ledger, chain: &ChainName, run: RunId) -> Result<Lineage, RestoreError> {
    // By what is named, not by the order of ids: a run that dropped out is attested later than it began.
    let (mut open, mut seen) = (HashSet::from([run]), HashSet::new());
    let view = ledger.chain_until(chain, |a| {
        let p = &a.statement.predicate;
        if open.remove(&p.run) {
            seen.insert(p.run);
            if let Ok(d) = p.details::<SnapshotDetails>() {
                let before = if d.snapshot_kind == SnapshotKind::Delta { [d.previous_snapshot, d.base] } else { [None, None] };
                open.extend(before.into_iter().flatten().chain(d.segments_from).filter(|r| !seen.contains(r)));
            }
        }
        open.is_empty()
    })?;
    let by_run: HashMap<RunId, &Attested> =
        view.attested.iter().filter(|a| a.statement.kind == Kind::Snapshot).map(|a| (a.statement.predicate.run, a)).collect();
    let target = by_run.get(&run).ok_or(RestoreError::NoSnapshot(run))?;
    if target.statement.predicate.outcome == Outcome::Failed {
        return Err(RestoreError::FailedRun(run));
    }
    let objects = view.attested.iter().flat_map(|a| a.statement.predicate.objects.iter().cloned()).map(|o| (o.sha256, o)).collect();
    let mut steps = Vec::new();
    let mut failed = Vec::new();
    let mut at = Some(run);
    let mut base = None;
    while let Some(run) = at {
        let Some(attested) = by_run.get(&run) else {
            let message = format!("the attestation of the run {run} is missing or void: what it changed is not known");
            failed.push(Failed { path: None, object: None, message });
            // Its predecessor is named nowhere else; the base still is.
            at = base.filter(|b| *b != run && !steps.iter().any(|s: &Attested| s.statement.predicate.run == *b));
            continue;
        };
        let details: SnapshotDetails = attested.statement.predicate.details().map_err(|e| RestoreError::Nothing(e.to_string()))?;
        base = base.or(details.base);
        steps.push((*attested).clone());
        if steps.len() > by_run.len() {
            return Err(RestoreError::Nothing("its deltas form a circle".into()));
        }
        at = if details.snapshot_kind == SnapshotKind::Delta { details.previous_snapshot } else { None };
    }
    steps.reverse();
    // Destroyed is not lost. What a disposition names and still stands restores all the same.
    let needed = needs(&target.statement);
    let needed: Vec<&&Attested> = by_run.iter().filter(|(run, _)| needed.contains(run)).map(|(_, a)| a).collect();
    let data = needed.iter().flat_map(|a| &a.statement.predicate.objects).filter(|o| names::period_folder(&o.name).is_some());
    let stored_bytes = data.map(|o| o.size).sum();
    for object in needed.into_iter().flat_map(|a| &a.statement.predicate.objects) {
        if let Some(disposal) = ledger.disposal_of(&object.name, &object.sha256)
            && ledger.store().head(&object.name)?.is_none()
        {
            return Err(RestoreError::disposed(format!("the run {run}"), disposal));
        }
    }
    Ok(Lineage { steps, objects, failed, stored_bytes })
}

/// The runs whose objects a snapshot's state needs.
fn needs(statement: &Statement) -> HashSet<RunId> {
    let details = statement.predicate.details::<SnapshotDetails>().ok();
    let more = details.into_iter().flat_map(|d| d.segments_from.into_iter().chain(d.base));
    more.chain([statement.predicate.run]).collect()
}

/// Opens one attested manifest.
pub fn open_manifest(
    ledger: &Ledger,
    identities: &Identities,
    object: &ObjectRef,
) -> Result<ManifestReader<impl Read + use<>>, RestoreError> {
    let bytes = ledger.read_object(&object.name, object.version.as_deref(), &object.sha256, object.size)?;
    let plain = seal::open(std::io::Cursor::new(bytes), identities).map_err(|e| wrong_identity(e, ledger, &object.name))?;
    Ok(ManifestReader::new(plain)?)
}

pub(super) fn wrong_identity(error: SealError, ledger: &Ledger, object: &str) -> RestoreError {
    match error {
        SealError::WrongIdentity => {
            RestoreError::WrongIdentity { object: object.to_owned(), recipients: ledger.trust().recipients().to_vec() }
        }
        other => other.into(),
    }
}

/// Reads the state at a run, entry by entry in path order.
pub fn read_tree(
    ledger: &Ledger,
    identities: &Identities,
    chain: &ChainName,
    run: RunId,
    visit: impl FnMut(Entry) -> Result<(), RestoreError>,
) -> Result<TreeInfo, RestoreError> {
    read_history(ledger, identities, (chain, run), visit, |_| Ok(()))
}

/// Reads the state at a run, entry by entry in path order, and gives what only earlier states of its manifests have, too, in no
/// order. Segments are numbered alike in both.
pub fn read_history(
    ledger: &Ledger,
    identities: &Identities,
    (chain, run): (&ChainName, RunId),
    mut visit: impl FnMut(Entry) -> Result<(), RestoreError>,
    mut superseded: impl FnMut(Entry) -> Result<(), RestoreError>,
) -> Result<TreeInfo, RestoreError> {
    let Lineage { steps, objects, mut failed, .. } = snapshot_of(ledger, chain, run)?;
    let mut table = Table { numbers: HashMap::new(), segments: Vec::new(), objects: &objects };
    let mut overlay: BTreeMap<String, Option<Entry>> = BTreeMap::new();
    let mut base = None;
    let (mut objects_read, mut manifests) = (0, Vec::new());
    for step in &steps {
        let predicate = &step.statement.predicate;
        let Some(object) = predicate.objects.iter().find(|o| names::is_manifest(&o.name)) else {
            failed.push(Failed::object(&step.name, "it attests a snapshot without a manifest"));
            continue;
        };
        let mut reader = match open_manifest(ledger, identities, object) {
            Ok(reader) => reader,
            Err(e @ RestoreError::WrongIdentity { .. }) => return Err(e),
            Err(e) => {
                let what = "the manifest cannot be read, and what this run changed is not known";
                failed.push(Failed::object(&object.name, format!("{what}: {}", with_causes(&e))));
                continue;
            }
        };
        objects_read += 1;
        manifests.push(predicate.run);
        if reader.header().run != predicate.run {
            failed.push(Failed::object(&object.name, "it is the manifest of another run"));
            continue;
        }
        if reader.header().kind == SnapshotKind::Base {
            base = Some((reader, object.name.clone()));
            continue;
        }
        let header = reader.header().clone();
        let renumber = table.add(&header);
        loop {
            match reader.next_line() {
                Ok(None) => break,
                Ok(Some(Ok(Line::Entry(entry)))) => {
                    let before = overlay.insert(entry.path.clone(), Some(renumbered(entry, &renumber)));
                    before.flatten().map_or(Ok(()), &mut superseded)?;
                }
                Ok(Some(Ok(Line::Deleted(path)))) => overlay.insert(path, None).flatten().map_or(Ok(()), &mut superseded)?,
                Ok(Some(Err(problem))) => failed.push(Failed::record(&problem.shown, Some(&object.name), problem.reason)),
                Err(e) => {
                    failed.push(Failed::object(&object.name, with_causes(&e)));
                    break;
                }
            }
        }
    }
    let mut tree = TreeHasher::default();
    let mut overlay = overlay.into_iter().peekable();
    let mut give = |entry: Entry| {
        tree.add(&entry);
        visit(entry)
    };
    if let Some((mut reader, name)) = base {
        let header = reader.header().clone();
        let renumber = table.add(&header);
        loop {
            let entry = match reader.next_line() {
                Ok(None) => break,
                Ok(Some(Ok(Line::Entry(entry)))) => renumbered(entry, &renumber),
                Ok(Some(Ok(Line::Deleted(path)))) => {
                    failed.push(Failed::record(&path, Some(&name), "a base says that it is deleted"));
                    continue;
                }
                Ok(Some(Err(problem))) => {
                    failed.push(Failed::record(&problem.shown, Some(&name), problem.reason));
                    continue;
                }
                Err(e) => {
                    failed.push(Failed::object(&name, with_causes(&e)));
                    break;
                }
            };
            while let Some((_, newer)) = overlay.next_if(|(path, _)| *path < entry.path) {
                newer.map_or(Ok(()), &mut give)?;
            }
            match overlay.next_if(|(path, _)| *path == entry.path) {
                Some((_, newer)) => {
                    superseded(entry)?;
                    newer.map_or(Ok(()), &mut give)?;
                }
                None => give(entry)?,
            }
        }
    } else if failed.is_empty() {
        failed.push(Failed { path: None, object: None, message: "the snapshot's base is missing".into() });
    }
    for (_, newer) in overlay {
        newer.map_or(Ok(()), &mut give)?;
    }
    let attested_tree = steps
        .last()
        .filter(|s| s.statement.predicate.run == run)
        .and_then(|s| s.statement.predicate.details::<SnapshotDetails>().ok())
        .and_then(|d| d.tree_sha256);
    let entries = tree.entries();
    Ok(TreeInfo { segments: table.segments, entries, tree_sha256: tree.finish(), attested_tree, failed, objects_read, manifests })
}

/// The segments of several manifests under one numbering; what no attestation names gets no size.
struct Table<'a> {
    numbers: HashMap<SegmentRef, u32>,
    segments: Vec<(SegmentRef, u64)>,
    objects: &'a HashMap<Sha256, ObjectRef>,
}

impl Table<'_> {
    fn add(&mut self, header: &Header) -> Vec<u32> {
        let number = |object: &SegmentRef| {
            *self.numbers.entry(object.clone()).or_insert_with(|| {
                let size = self.objects.get(&object.sha256).map_or(0, |o| o.size);
                self.segments.push((object.clone(), size));
                u32::try_from(self.segments.len() - 1).unwrap_or(u32::MAX)
            })
        };
        header.segments.iter().map(number).collect()
    }
}

fn renumbered(mut entry: Entry, numbers: &[u32]) -> Entry {
    let number = |n: &mut u32| *n = numbers.get(*n as usize).copied().unwrap_or(u32::MAX);
    match &mut entry.content {
        Content::File { placement: Placement::Whole { segment, .. }, .. } => number(segment),
        Content::File { placement: Placement::Chunks(chunks), .. } => {
            chunks.iter_mut().for_each(|Chunk { segment, .. }| number(segment));
        }
        Content::Dir | Content::Symlink { .. } => {}
    }
    entry
}

/// An error and its causes on one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
