//! Records by what people call them, and what a restore would bring back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use serde_json::Value;

use super::files::Pick;
use super::members::{Members, Wanted};
use super::tree::read_tree;
use super::walk::Walk;
use super::{Failed, RestoreError};
use crate::source::catalog::Catalog;
use crate::vault::Ledger;
use crate::vault::keys::Identities;
use crate::vault::manifest::{Content, Placement};
use crate::vault::names::{ChainName, RunId};

/// What records of any catalog are called by, besides the labels of their own collection.
const CALLED: [&str; 5] = ["displayName", "userPrincipalName", "mail", "name", "id"];
/// Records larger than this are found by their paths only, in bytes.
const LARGEST: u64 = 8 << 20;

/// A record that was found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Found {
    /// Where it lies in the snapshot.
    pub path: String,
    /// The collection of the catalog that it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collection: Option<String>,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its size in bytes.
    pub size: u64,
}

/// What was found, by path, and what could not be looked into.
#[derive(Debug, Default)]
pub struct FindReport {
    /// The records.
    pub found: Vec<Found>,
    /// What could not be read.
    pub failed: Vec<Failed>,
}

/// Records of a snapshot whose path or name holds a text, whatever its case. Each segment is opened once.
pub fn find(
    ledger: &Ledger,
    identities: &Identities,
    snapshot: (&ChainName, RunId),
    text: &str,
    threads: usize,
) -> Result<FindReport, RestoreError> {
    let needle = text.to_lowercase();
    let mut by_segment: BTreeMap<u32, Members<()>> = BTreeMap::new();
    let mut found = Vec::new();
    let info = read_tree(ledger, identities, snapshot.0, snapshot.1, |entry| {
        let fits = entry.path.to_lowercase().contains(&needle);
        match entry.content {
            Content::File { sha256, size, placement: Placement::Whole { segment, member } }
                if size <= LARGEST && entry.path.ends_with(".json") =>
            {
                let member = member.unwrap_or_else(|| entry.path.clone());
                let want = Wanted { sha256, size, path: entry.path, tag: () };
                by_segment.entry(segment).or_default().entry(member).or_default().push(want);
            }
            Content::File { size, .. } if fits => found.push(Found { path: entry.path, collection: None, name: None, size }),
            _ => {}
        }
        Ok(())
    })?;
    let report = Mutex::new(FindReport { found, failed: info.failed });
    let walk = Walk { ledger, identities, segments: &info.segments, threads };
    walk.run(
        |give| {
            // What stops it is told at the end.
            _ = by_segment.into_iter().try_for_each(|(segment, wanted)| give(segment, wanted));
            Ok(())
        },
        || (),
        |(), want, bytes| {
            if let (Some(found), Ok(mut report)) = (look(&want.path, bytes, &needle), report.lock()) {
                report.found.push(found);
            }
            Ok(())
        },
        |failed| {
            if let Ok(mut report) = report.lock() {
                report.failed.push(failed);
            }
        },
    )?;
    let mut report = report.into_inner().unwrap_or_default();
    report.found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(report)
}

/// The record, if its path or something that it is called by holds the text.
fn look(path: &str, bytes: &[u8], needle: &str) -> Option<Found> {
    let spec = Catalog::all().collection_of(path);
    let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let at = |label: &str| label.split('/').try_fold(&value, |v, step| v.get(step)).and_then(Value::as_str).filter(|t| !t.is_empty());
    let labels = spec.into_iter().flat_map(|s| s.label.iter().map(String::as_str));
    let called: Vec<&str> = labels.chain(CALLED).filter_map(at).collect();
    let fits = path.to_lowercase().contains(needle) || called.iter().any(|text| text.to_lowercase().contains(needle));
    let found = || Found {
        path: path.to_owned(),
        collection: spec.map(|s| s.id.clone()),
        name: called.first().map(|text| (*text).to_owned()),
        size: bytes.len() as u64,
    };
    fits.then(found)
}

/// What a restore would bring back, without reading more than the manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Entries.
    pub entries: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Sealed objects that would be read, manifests left out.
    pub objects: u64,
    /// Their stored bytes.
    pub stored_bytes: u64,
    /// What could not be read of the manifests.
    pub failed: Vec<Failed>,
}

/// Looks at what of a snapshot would be restored, and gives each path and size to `each`.
pub fn preview(
    ledger: &Ledger,
    identities: &Identities,
    snapshot: (&ChainName, RunId),
    pick: Pick<'_>,
    mut each: impl FnMut(&str, u64),
) -> Result<Preview, RestoreError> {
    let (mut entries, mut bytes, mut numbers) = (0, 0, BTreeSet::new());
    let info = read_tree(ledger, identities, snapshot.0, snapshot.1, |entry| {
        if !pick.takes(&entry.path) {
            return Ok(());
        }
        let mut length = 0;
        if let Content::File { size, placement, .. } = &entry.content {
            length = *size;
            match placement {
                Placement::Whole { segment, .. } => _ = numbers.insert(*segment),
                Placement::Chunks(chunks) => numbers.extend(chunks.iter().map(|c| c.segment)),
            }
        }
        entries += 1;
        bytes += length;
        each(&entry.path, length);
        Ok(())
    })?;
    let stored = numbers.iter().filter_map(|n| info.segments.get(*n as usize)).map(|(_, size)| size).sum();
    Ok(Preview { entries, bytes, objects: numbers.len() as u64, stored_bytes: stored, failed: info.failed })
}
