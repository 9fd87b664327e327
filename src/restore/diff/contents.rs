//! The JSON of records, from only the segments that hold it.

use std::collections::HashMap;

use serde_json::Value;

use super::DiffReport;
use crate::restore::RestoreError;
use crate::restore::members::{Members, SegmentRead, Wanted, read_segment};
use crate::vault::Ledger;
use crate::vault::keys::Identities;
use crate::vault::manifest::{Content, Entry, Placement, SegmentRef};

/// Records larger than this are not compared attribute by attribute, in bytes.
const LARGEST: u64 = 8 << 20;

/// A record on one side; its segment is a number in that side's table.
pub(super) struct Side {
    pub entry: Entry,
}

/// Segments by number, with their stored sizes.
pub(super) type Table = Vec<(SegmentRef, u64)>;

/// JSON of records by path.
pub(super) type Contents = HashMap<String, Value>;

/// Reads the JSON of records that have any, each segment once.
pub(super) fn read_values<'s, T: Copy>(
    ledger: &Ledger,
    identities: &Identities,
    records: impl IntoIterator<Item = (&'s str, &'s Side, &'s Table, T)>,
    report: &mut DiffReport,
    mut found: impl FnMut(&str, T, Value),
) -> Result<(), RestoreError> {
    let mut wanted: HashMap<&SegmentRef, (u64, Members<T>)> = HashMap::new();
    for (path, side, table, tag) in records {
        let Content::File { sha256, size, placement: Placement::Whole { segment, member } } = &side.entry.content else { continue };
        let Some((object, stored)) = table.get(*segment as usize) else { continue };
        if *size > LARGEST || !path.ends_with(".json") {
            continue;
        }
        let member = member.clone().unwrap_or_else(|| path.to_owned());
        let want = Wanted { sha256: *sha256, size: *size, path: path.to_owned(), tag };
        wanted.entry(object).or_insert_with(|| (*stored, HashMap::new())).1.entry(member).or_default().push(want);
    }
    for (segment, (size, wanted)) in wanted {
        report.objects_read += 1;
        let failed = read_segment(ledger, identities, SegmentRead { segment, size, wanted }, |want, bytes| {
            if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
                found(&want.path, want.tag, value);
            }
            Ok(())
        })?;
        report.failed.extend(failed);
    }
    Ok(())
}
