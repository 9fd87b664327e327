//! The difference of two snapshots: added, removed and changed records, JSON attribute by attribute.
//!
//! Two snapshots of one epoch that share a line of deltas are compared from the deltas between them; the
//! earlier state is then read for the changed paths only. Otherwise both states are read side by side.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::mpsc;

use serde_json::Value;

use super::members::{Members, SegmentRead, Wanted, read_segment};
use super::tree::{Lineage, open_manifest, read_tree, snapshot_of};
use super::{Failed, RestoreError};
use crate::vault::Ledger;
use crate::vault::attestation::{SnapshotDetails, SnapshotKind};
use crate::vault::keys::Identities;
use crate::vault::manifest::{Content, Entry, Line, Placement, SegmentRef};
use crate::vault::names::{self, ChainName, RunId};

/// Records larger than this are not compared attribute by attribute, in bytes.
const LARGEST: u64 = 8 << 20;

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

/// One attribute that differs.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct AttributeChange {
    /// JSON pointer; of what is not JSON: `type`, `mode`, `mtime`, `target`, `size`, `sha256`.
    pub pointer: String,
    /// The earlier value; absent where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// The later value; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
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
}

/// A difference.
#[derive(Debug, Default)]
pub struct DiffReport {
    /// In path order.
    pub changes: Vec<RecordChange>,
    /// What could not be read.
    pub failed: Vec<Failed>,
    /// Sealed objects that were opened.
    pub objects_read: u64,
}

type Pair = (Option<Side>, Option<Side>);

/// A record on one side; its segment is a number in that side's table.
struct Side {
    entry: Entry,
}

/// Compares the state at run `a` with that at run `b`.
pub fn diff(ledger: &Ledger, identities: &Identities, a: (&ChainName, RunId), b: (&ChainName, RunId)) -> Result<DiffReport, RestoreError> {
    let mut report = DiffReport::default();
    let paths = if a.0 == b.0 { changed_between(ledger, identities, a.0, a.1, b.1, &mut report)? } else { None };
    if paths.as_ref().is_some_and(HashSet::is_empty) {
        return Ok(report);
    }
    let keep = |entry: &Entry| paths.as_ref().is_none_or(|p| p.contains(&entry.path));
    // The earlier state is gathered; where all is compared, both states stream past one another.
    let (pairs, tables) = if paths.is_some() {
        let mut earlier = BTreeMap::new();
        let info_a = read_tree(ledger, identities, a.0, a.1, |entry| {
            if keep(&entry) {
                earlier.insert(entry.path.clone(), (Some(Side { entry }), None));
            }
            Ok(())
        })?;
        let mut pairs: BTreeMap<String, Pair> = earlier;
        let info_b = read_tree(ledger, identities, b.0, b.1, |entry| {
            if keep(&entry) {
                let path = entry.path.clone();
                pairs.entry(path).or_default().1 = Some(Side { entry });
            }
            Ok(())
        })?;
        report.objects_read += info_a.objects_read + info_b.objects_read;
        report.failed.extend(info_a.failed.into_iter().chain(info_b.failed));
        pairs.retain(|_, (a, b)| differ(a, b));
        (pairs, [info_a.segments, info_b.segments])
    } else {
        side_by_side(ledger, identities, a, b, &mut report)?
    };
    let mut contents = read_contents(ledger, identities, &pairs, &tables, &mut report)?;
    for (path, pair) in pairs {
        let found = [contents[0].remove(&path), contents[1].remove(&path)];
        report.changes.push(record_change(path, pair, found));
    }
    Ok(report)
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
        let Some(object) = predicate.objects.iter().find(|o| names::is_manifest(&o.name)).filter(|_| delta) else { return Ok(None) };
        let mut reader = match open_manifest(ledger, identities, object) {
            Ok(reader) => reader,
            Err(e @ RestoreError::WrongIdentity { .. }) => return Err(e),
            Err(_) => return Ok(None),
        };
        report.objects_read += 1;
        while let Ok(Some(line)) = reader.next_line() {
            match line {
                Ok(Line::Entry(Entry { path, .. }) | Line::Deleted(path)) => {
                    paths.insert(path);
                }
                Err(_) => return Ok(None),
            }
        }
    }
    Ok(Some(paths))
}

type Tables = [Vec<(SegmentRef, u64)>; 2];

/// Reads both states at once and keeps what differs.
fn side_by_side(
    ledger: &Ledger,
    identities: &Identities,
    a: (&ChainName, RunId),
    b: (&ChainName, RunId),
    report: &mut DiffReport,
) -> Result<(BTreeMap<String, Pair>, Tables), RestoreError> {
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

/// Reads the bytes of changed files that can be compared, from only the segments that hold them.
fn read_contents(
    ledger: &Ledger,
    identities: &Identities,
    pairs: &BTreeMap<String, Pair>,
    tables: &Tables,
    report: &mut DiffReport,
) -> Result<[HashMap<String, Value>; 2], RestoreError> {
    let mut wanted: HashMap<&SegmentRef, (u64, Members<usize>)> = HashMap::new();
    for (path, pair) in pairs {
        let (Some(a), Some(b)) = (&pair.0, &pair.1) else { continue };
        for (side, table, n) in [(a, &tables[0], 0), (b, &tables[1], 1)] {
            let Content::File { sha256, size, placement: Placement::Whole { segment, member } } = &side.entry.content else { continue };
            let Some((object, stored)) = table.get(*segment as usize) else { continue };
            if *size > LARGEST || !path.ends_with(".json") {
                continue;
            }
            let member = member.clone().unwrap_or_else(|| path.clone());
            let want = Wanted { sha256: *sha256, size: *size, path: path.clone(), tag: n };
            wanted.entry(object).or_insert_with(|| (*stored, HashMap::new())).1.entry(member).or_default().push(want);
        }
    }
    let mut contents = [HashMap::new(), HashMap::new()];
    for (segment, (size, wanted)) in wanted {
        report.objects_read += 1;
        let failed = read_segment(ledger, identities, SegmentRead { segment, size, wanted }, |want, bytes| {
            if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
                contents[want.tag].insert(want.path.clone(), value);
            }
            Ok(())
        })?;
        report.failed.extend(failed);
    }
    Ok(contents)
}

fn record_change(path: String, pair: Pair, contents: [Option<Value>; 2]) -> RecordChange {
    let (a, b) = match pair {
        (Some(a), Some(b)) => (a.entry, b.entry),
        (None, _) => return RecordChange { path, change: Change::Added, attributes: Vec::new() },
        (_, None) => return RecordChange { path, change: Change::Removed, attributes: Vec::new() },
    };
    let mut attributes = Vec::new();
    let mut attribute = |pointer: &str, from: Option<Value>, to: Option<Value>| {
        if from != to {
            attributes.push(AttributeChange { pointer: pointer.to_owned(), from, to });
        }
    };
    let of = |e: &Entry| match &e.content {
        Content::File { sha256, size, .. } => ("file", Some(sha256.to_string()), Some(*size), None),
        Content::Dir => ("dir", None, None, None),
        Content::Symlink { target } => ("symlink", None, None, Some(target.clone())),
    };
    let (x, y) = (of(&a), of(&b));
    attribute("type", Some(x.0.into()), Some(y.0.into()));
    attribute("target", x.3.clone().map(Value::from), y.3.clone().map(Value::from));
    let mode = |m: Option<u32>| m.map(|m| Value::from(format!("{m:04o}")));
    attribute("mode", mode(a.mode), mode(b.mode));
    let both_json = contents.iter().all(Option::is_some);
    if !both_json {
        attribute("size", x.2.map(Value::from), y.2.map(Value::from));
        attribute("sha256", x.1.clone().map(Value::from), y.1.clone().map(Value::from));
    }
    if a.mtime != b.mtime {
        attribute("mtime", a.mtime.map(|m| m.text().into()), b.mtime.map(|m| m.text().into()));
    }
    if let [Some(from), Some(to)] = &contents {
        compare(&mut String::new(), from, to, &mut attributes);
        // The same values, written otherwise.
        if attributes.is_empty() {
            let hex = |text: Option<String>| text.map(Value::from);
            attributes.push(AttributeChange { pointer: "sha256".into(), from: hex(x.1), to: hex(y.1) });
        }
    }
    RecordChange { path, change: Change::Changed, attributes }
}

/// Collects the differences of two JSON values, by pointer.
fn compare(pointer: &mut String, from: &Value, to: &Value, out: &mut Vec<AttributeChange>) {
    let length = pointer.len();
    match (from, to) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
                step(pointer, a.get(key), b.get(key), out);
                pointer.truncate(length);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (n, (x, y)) in a.iter().zip(b).enumerate() {
                pointer.push('/');
                pointer.push_str(&n.to_string());
                step(pointer, Some(x), Some(y), out);
                pointer.truncate(length);
            }
        }
        _ => step_leaf(pointer, Some(from), Some(to), out),
    }
}

fn step(pointer: &mut String, from: Option<&Value>, to: Option<&Value>, out: &mut Vec<AttributeChange>) {
    match (from, to) {
        (Some(a), Some(b)) => compare(pointer, a, b, out),
        _ => step_leaf(pointer, from, to, out),
    }
}

fn step_leaf(pointer: &str, from: Option<&Value>, to: Option<&Value>, out: &mut Vec<AttributeChange>) {
    if from != to {
        out.push(AttributeChange { pointer: pointer.to_owned(), from: from.cloned(), to: to.cloned() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn attributes_by_pointer() {
        let mut out = Vec::new();
        let (a, b) = (json!({"a": 1, "b": {"c/d": [1, 2]}, "e": null}), json!({"a": 1, "b": {"c/d": [1, 3]}, "f": "x"}));
        compare(&mut String::new(), &a, &b, &mut out);
        let shown: Vec<_> = out.iter().map(|c| (c.pointer.as_str(), c.from.clone(), c.to.clone())).collect();
        assert_eq!(shown, [("/b/c~1d/1", Some(json!(2)), Some(json!(3))), ("/e", Some(Value::Null), None), ("/f", None, Some(json!("x")))]);
    }
}
