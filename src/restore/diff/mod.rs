//! The difference of two snapshots: added, removed and changed records, JSON attribute by attribute.
//!
//! Two snapshots of one epoch that share a line of deltas are compared from the deltas between them; the
//! earlier state is then read for the changed paths only. Otherwise both states are read side by side.
//!
//! What lies in a folder of the catalog is compared by what it means: fields that change by themselves are no
//! difference, sets have no order, ids have names.

mod attention;
mod attributes;
mod contents;
mod meaning;
mod names;

use std::collections::{BTreeMap, HashSet};
use std::sync::mpsc;

use serde_json::Value;

use super::tree::{Lineage, open_manifest, read_tree, snapshot_of};
use super::{Failed, RestoreError};
use crate::source::catalog::{Catalog, CollectionSpec};
use crate::vault::Ledger;
use crate::vault::attestation::{CollectionOutcome, CollectionRecord, SnapshotDetails, SnapshotKind};
use crate::vault::keys::Identities;
use crate::vault::manifest::{Content, Entry, Line};
use crate::vault::names::{self as object_names, ChainName, RunId};

use contents::{Contents, Side, Table, read_values};
use names::Names;

pub use attributes::AttributeChange;

/// What happened to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Only the later snapshot has it.
    Added,
    /// Only the earlier snapshot has it.
    Removed,
    /// Both have it, and it differs.
    Changed,
}

/// One record that differs.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct RecordChange {
    /// The record.
    pub path: String,
    /// What happened.
    pub change: Change,
    /// How it differs; of a record in both.
    pub attributes: Vec<AttributeChange>,
    /// The collection of the catalog that it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collection: Option<String>,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Why somebody should look at it first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attention: Vec<String>,
}

/// A difference.
#[derive(Debug, Default)]
pub struct DiffReport {
    /// In path order.
    pub changes: Vec<RecordChange>,
    /// Records that changed only in what changes by itself, or that are events rather than configuration.
    pub left_out: u64,
    /// Collections that are not complete in one of the snapshots, and which one that is. Of those that are absent records
    /// did not come or go, and are not compared.
    pub lacking: Vec<(RunId, CollectionRecord)>,
    /// What could not be read.
    pub failed: Vec<Failed>,
    /// Sealed objects that were opened.
    pub objects_read: u64,
}

type Pair = (Option<Side>, Option<Side>);

/// A state that can be read.
struct State<'l> {
    ledger: &'l Ledger,
    identities: &'l Identities,
    chain: &'l ChainName,
    run: RunId,
}

/// Compares the state at run `a` with that at run `b`, by what the catalog says that records mean.
pub fn diff(ledger: &Ledger, identities: &Identities, a: (&ChainName, RunId), b: (&ChainName, RunId)) -> Result<DiffReport, RestoreError> {
    compare(ledger, identities, a, b, Some(Catalog::all()))
}

/// Compares two states without knowing what records mean: every difference is told.
pub fn diff_raw(
    ledger: &Ledger,
    identities: &Identities,
    a: (&ChainName, RunId),
    b: (&ChainName, RunId),
) -> Result<DiffReport, RestoreError> {
    compare(ledger, identities, a, b, None)
}

fn compare(
    ledger: &Ledger,
    identities: &Identities,
    a: (&ChainName, RunId),
    b: (&ChainName, RunId),
    catalog: Option<&Catalog>,
) -> Result<DiffReport, RestoreError> {
    let mut report = DiffReport::default();
    let lacking = [lacking(ledger, a)?, lacking(ledger, b)?];
    let absent = lacking.each_ref().map(|all| all.iter().filter(|c| c.is_absent()).map(|c| c.name.clone()).collect::<Vec<_>>());
    for (run, all) in [a.1, b.1].into_iter().zip(lacking) {
        report.lacking.extend(all.into_iter().map(|collection| (run, collection)));
    }
    let paths = if a.0 == b.0 { changed_between(ledger, identities, a.0, a.1, b.1, &mut report)? } else { None };
    if paths.as_ref().is_some_and(HashSet::is_empty) {
        return Ok(report);
    }
    let (mut pairs, tables) = match paths {
        Some(paths) => of_paths(ledger, identities, a, b, &paths, &mut report)?,
        None => side_by_side(ledger, identities, a, b, &mut report)?,
    };
    pairs.retain(|path, (before, after)| {
        let missing = |ids: &[String]| Catalog::all().collection_of(path).is_some_and(|c| ids.contains(&c.id));
        !(after.is_none() && missing(&absent[1]) || before.is_none() && missing(&absent[0]))
    });
    let contents = read_contents(ledger, identities, catalog, &pairs, &tables, &mut report)?;
    let mut compared = Vec::new();
    for (path, pair) in &pairs {
        let spec = meaning::spec_of(catalog, path);
        match record_change(path, pair, [contents[0].get(path), contents[1].get(path)], spec) {
            Some(change) => compared.push((spec, change)),
            None => report.left_out += 1,
        }
    }
    if let Some(catalog) = catalog {
        // Entries are needed no more; which paths differ still is.
        pairs.values_mut().for_each(|pair| *pair = Pair::default());
        let mut names = Names::new(catalog, &pairs, &contents);
        let later = State { ledger, identities, chain: b.0, run: b.1 };
        loop {
            for (spec, change) in &mut compared {
                if let Some(spec) = spec {
                    name(change, spec, &names, &contents);
                }
            }
            // A name may be made of others: each round knows more, and there are no more rounds than layers.
            if !names.fetch(&later, &mut report)? {
                break;
            }
        }
    }
    report.changes = compared.into_iter().map(|(_, change)| change).collect();
    Ok(report)
}

/// The collections that are not complete in a snapshot.
fn lacking(ledger: &Ledger, snapshot: (&ChainName, RunId)) -> Result<Vec<CollectionRecord>, RestoreError> {
    let lineage = snapshot_of(ledger, snapshot.0, snapshot.1)?;
    let details = lineage.steps.last().and_then(|step| step.statement.predicate.details::<SnapshotDetails>().ok());
    Ok(details.map_or_else(Vec::new, |d| d.collections.into_iter().filter(|c| c.outcome != CollectionOutcome::Complete).collect()))
}

/// Says what a record and its references are called, and why somebody should look at it.
fn name(change: &mut RecordChange, spec: &CollectionSpec, names: &Names<'_>, contents: &[Contents; 2]) {
    let path = change.path.as_str();
    let sides = [contents[0].get(path), contents[1].get(path)];
    for attribute in &mut change.attributes {
        attribute.from_name = names.of_value(spec, path, &attribute.pointer, attribute.from.as_ref());
        attribute.to_name = names.of_value(spec, path, &attribute.pointer, attribute.to.as_ref());
    }
    change.attention =
        attention::of(&spec.attention, change.change, &change.attributes, sides, |rule| names.refers(spec, path, sides, rule));
    change.name = names.of(path);
}

/// Both states at some paths, where they differ.
fn of_paths(
    ledger: &Ledger,
    identities: &Identities,
    a: (&ChainName, RunId),
    b: (&ChainName, RunId),
    paths: &HashSet<String>,
    report: &mut DiffReport,
) -> Result<(BTreeMap<String, Pair>, [Table; 2]), RestoreError> {
    let mut pairs: BTreeMap<String, Pair> = BTreeMap::new();
    let info_a = read_tree(ledger, identities, a.0, a.1, |entry| {
        if paths.contains(&entry.path) {
            pairs.insert(entry.path.clone(), (Some(Side { entry }), None));
        }
        Ok(())
    })?;
    let info_b = read_tree(ledger, identities, b.0, b.1, |entry| {
        if paths.contains(&entry.path) {
            let path = entry.path.clone();
            pairs.entry(path).or_default().1 = Some(Side { entry });
        }
        Ok(())
    })?;
    report.objects_read += info_a.objects_read + info_b.objects_read;
    report.failed.extend(info_a.failed.into_iter().chain(info_b.failed));
    pairs.retain(|_, (a, b)| differ(a, b));
    Ok((pairs, [info_a.segments, info_b.segments]))
}

fn differ(a: &Option<Side>, b: &Option<Side>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => !same(&a.entry, &b.entry),
        (None, None) => false,
        _ => true,
    }
}

fn same(a: &Entry, b: &Entry) -> bool {
    let content = match (&a.content, &b.content) {
        (Content::File { sha256: x, size: m, .. }, Content::File { sha256: y, size: n, .. }) => x == y && m == n,
        (x, y) => x == y,
    };
    content && a.mode == b.mode && a.mtime == b.mtime
}

/// The paths that the deltas between two runs touch; `None` when they do not follow one another so.
fn changed_between(
    ledger: &Ledger,
    identities: &Identities,
    chain: &ChainName,
    a: RunId,
    b: RunId,
    report: &mut DiffReport,
) -> Result<Option<HashSet<String>>, RestoreError> {
    if a == b {
        return Ok(Some(HashSet::new()));
    }
    let (older, newer) = if a < b { (a, b) } else { (b, a) };
    let Lineage { steps, failed, .. } = snapshot_of(ledger, chain, newer)?;
    if !failed.is_empty() {
        return Ok(None);
    }
    let Some(at) = steps.iter().position(|s| s.statement.predicate.run == older) else { return Ok(None) };
    let mut paths = HashSet::new();
    for step in &steps[at + 1..] {
        let predicate = &step.statement.predicate;
        let delta = predicate.details::<SnapshotDetails>().is_ok_and(|d| d.snapshot_kind == SnapshotKind::Delta);
        let Some(object) = predicate.objects.iter().find(|o| object_names::is_manifest(&o.name)).filter(|_| delta) else { return Ok(None) };
        let mut reader = match open_manifest(ledger, identities, object) {
            Ok(reader) => reader,
            Err(e @ RestoreError::WrongIdentity { .. }) => return Err(e),
            Err(_) => return Ok(None),
        };
        report.objects_read += 1;
        loop {
            match reader.next_line() {
                Ok(Some(Ok(Line::Entry(Entry { path, .. }) | Line::Deleted(path)))) => {
                    paths.insert(path);
                }
                Ok(None) => break,
                // Reading all of both states tells what is wrong with it.
                Ok(Some(Err(_))) | Err(_) => return Ok(None),
            }
        }
    }
    Ok(Some(paths))
}

/// Reads both states at once and keeps what differs.
fn side_by_side(
    ledger: &Ledger,
    identities: &Identities,
    a: (&ChainName, RunId),
    b: (&ChainName, RunId),
    report: &mut DiffReport,
) -> Result<(BTreeMap<String, Pair>, [Table; 2]), RestoreError> {
    let (out, input) = mpsc::sync_channel::<Entry>(1024);
    std::thread::scope(|scope| {
        let earlier = scope.spawn(move || {
            read_tree(ledger, identities, a.0, a.1, |entry| out.send(entry).map_err(|_| RestoreError::Nothing("stopped".into())))
        });
        let mut pairs = BTreeMap::new();
        let mut pending = input.recv().ok();
        let info_b = read_tree(ledger, identities, b.0, b.1, |later| {
            while let Some(entry) = pending.take_if(|e| e.path < later.path) {
                pairs.insert(entry.path.clone(), (Some(Side { entry }), None));
                pending = input.recv().ok();
            }
            let before = pending.take_if(|e| e.path == later.path);
            if before.is_some() {
                pending = input.recv().ok();
            }
            if before.as_ref().is_none_or(|before| !same(before, &later)) {
                pairs.insert(later.path.clone(), (before.map(|entry| Side { entry }), Some(Side { entry: later })));
            }
            Ok(())
        });
        while let Some(entry) = pending {
            pairs.insert(entry.path.clone(), (Some(Side { entry }), None));
            pending = input.recv().ok();
        }
        let info_a = earlier.join().map_err(|_| RestoreError::Nothing("a thread failed".into()))??;
        let info_b = info_b?;
        report.objects_read += info_a.objects_read + info_b.objects_read;
        report.failed.extend(info_a.failed.into_iter().chain(info_b.failed));
        Ok((pairs, [info_a.segments, info_b.segments]))
    })
}

/// Reads the JSON of changed records; where they have a meaning, also of those that came or went.
fn read_contents(
    ledger: &Ledger,
    identities: &Identities,
    catalog: Option<&Catalog>,
    pairs: &BTreeMap<String, Pair>,
    tables: &[Table; 2],
    report: &mut DiffReport,
) -> Result<[Contents; 2], RestoreError> {
    let compared = pairs.iter().filter(|(path, pair)| pair.0.is_some() && pair.1.is_some() || meaning::spec_of(catalog, path).is_some());
    let sides = compared.flat_map(|(path, pair)| {
        let both = [(&pair.0, &tables[0], 0), (&pair.1, &tables[1], 1)];
        both.into_iter().filter_map(|(side, table, n)| Some((path.as_str(), side.as_ref()?, table, n)))
    });
    let mut contents = [Contents::new(), Contents::new()];
    read_values(ledger, identities, sides, report, |path, side: usize, value| {
        contents[side].insert(path.to_owned(), value);
    })?;
    Ok(contents)
}

/// How a record differs; `None` when it does so in nothing that counts.
fn record_change(path: &str, pair: &Pair, contents: [Option<&Value>; 2], spec: Option<&CollectionSpec>) -> Option<RecordChange> {
    let event = |value: Option<&Value>| spec.zip(value).is_some_and(|(spec, value)| meaning::transient(spec, value));
    let change = |change: Change, attributes: Vec<AttributeChange>| {
        let collection = spec.map(|spec| spec.id.clone());
        Some(RecordChange { path: path.to_owned(), change, attributes, collection, name: None, attention: Vec::new() })
    };
    let (a, b) = match pair {
        (Some(a), Some(b)) => (&a.entry, &b.entry),
        (None, _) => return if event(contents[1]) { None } else { change(Change::Added, Vec::new()) },
        (_, None) => return if event(contents[0]) { None } else { change(Change::Removed, Vec::new()) },
    };
    let mut attributes = attributes::of_entries(a, b, contents.iter().all(Option::is_some));
    if let [Some(from), Some(to)] = contents {
        match spec {
            Some(_) if event(contents[0]) && event(contents[1]) => return None,
            Some(spec) => {
                let mut sides = [from.clone(), to.clone()];
                meaning::reduce(spec, &mut sides);
                attributes.extend(attributes::of_values(&spec.sets, &sides[0], &sides[1]));
                if attributes.is_empty() {
                    return None;
                }
            }
            None => {
                attributes.extend(attributes::of_values(&[], from, to));
                if attributes.is_empty() {
                    attributes.push(attributes::of_bytes(a, b));
                }
            }
        }
    }
    change(Change::Changed, attributes)
}
