//! The journal: what a run has sealed, so that a later run of the same epoch can adopt it.
//!
//! A segment's digest and entries are journalled and synced before the segment is uploaded. After an
//! interruption the journal, proved against the store, becomes the *salvage*: entries in path order whose
//! bytes lie in objects that no attestation names yet.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::state::{RecordReader, RecordWriter, StateDir, StateEntry, is_whole, remove};
use crate::store::Sha256;
use crate::vault::manifest::{Chunk, Content, Placement, SegmentRef};
use crate::vault::names::RunId;

/// What must be equal for a run to adopt an earlier run's objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalKey {
    /// The vault.
    pub vault: String,
    /// The folder of the epoch.
    pub epoch_folder: String,
    /// The recipients' fingerprint.
    pub recipients: Sha256,
}

/// A sealed segment and the entries that were complete with it.
#[derive(Debug, Serialize, Deserialize)]
pub struct JournalSegment {
    /// Number in the run's own count.
    pub number: u32,
    /// Which object.
    pub object: SegmentRef,
    /// Stored bytes.
    pub size: u64,
    /// Entries in path order; their segments are numbers in the run's own count.
    pub entries: Vec<StateEntry>,
}

/// Writes a run's journal.
pub struct JournalWriter {
    file: File,
}

impl JournalWriter {
    /// Begins a journal.
    pub fn create(dir: &StateDir, key: &JournalKey, run: RunId) -> io::Result<Self> {
        let mut writer = Self { file: File::create(dir.journal())? };
        writer.push(&(key, run))?;
        Ok(writer)
    }

    fn push<T: Serialize>(&mut self, record: &T) -> io::Result<()> {
        let body = postcard::to_stdvec(record).map_err(io::Error::other)?;
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let mut out = Vec::with_capacity(body.len() + 36);
        out.extend(length.to_le_bytes());
        out.extend(Sha256::of(&body).0);
        out.extend(body);
        self.file.write_all(&out)?;
        self.file.sync_data()
    }

    /// Records a segment before it is uploaded.
    pub fn segment(&mut self, segment: &JournalSegment) -> io::Result<()> {
        self.push(segment)
    }
}

/// The next whole record and where it ends; `None` where the journal is torn or ends.
fn next_record(file: &mut (impl Read + Seek)) -> Option<Vec<u8>> {
    let mut head = [0; 36];
    file.read_exact(&mut head).ok()?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    if length > 512 << 20 {
        return None;
    }
    let mut body = vec![0; length as usize];
    file.read_exact(&mut body).ok()?;
    (Sha256::of(&body).0 == head[4..]).then_some(body)
}

/// The salvage's table, before its entries.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SalvageHeader {
    /// For which runs it is good.
    pub key: JournalKey,
    /// Objects that entries name by number, and their sizes.
    pub segments: Vec<(SegmentRef, u64)>,
}

/// Entries of interrupted runs, in path order.
pub struct Salvage {
    header: SalvageHeader,
    records: RecordReader<BufReader<File>>,
}

impl Salvage {
    /// Gathers what interrupted runs with this key left and `stands` still finds in the store.
    ///
    /// What has another key is forgotten: its objects stay orphans.
    pub fn gather(dir: &StateDir, key: &JournalKey, mut stands: impl FnMut(&SegmentRef, u64) -> bool) -> io::Result<Option<Self>> {
        if dir.journal().exists() {
            let older = Self::open(&dir.salvage()).filter(|s| s.header.key == *key);
            let merged = dir.path().join("salvage.new");
            if merge(&dir.journal(), older, key, &merged)? {
                fs::rename(&merged, dir.salvage())?;
            }
            remove(&dir.journal())?;
        }
        let Some(mut salvage) = Self::open(&dir.salvage()).filter(|s| s.header.key == *key) else {
            remove(&dir.salvage())?;
            return Ok(None);
        };
        // An entry whose object is not there is skipped when it is read.
        for (object, size) in &mut salvage.header.segments {
            if !stands(object, *size) {
                *size = 0;
            }
        }
        Ok(Some(salvage))
    }

    fn open(path: &Path) -> Option<Self> {
        // What it says of a file is believed without reading the file again.
        if !is_whole(path).unwrap_or(false) {
            return None;
        }
        let mut records = RecordReader::new(BufReader::with_capacity(1 << 18, File::open(path).ok()?)).ok()?;
        let header = records.next().ok()??;
        Some(Self { header, records })
    }

    /// The objects that entries name by number; a size of 0 means that the object does not stand.
    pub fn segments(&self) -> &[(SegmentRef, u64)] {
        &self.header.segments
    }

    /// The next entry all of whose objects stand.
    pub fn next_entry(&mut self) -> io::Result<Option<StateEntry>> {
        while let Some(entry) = self.records.next::<StateEntry>()? {
            if segments_of(&entry).iter().all(|n| self.header.segments.get(*n as usize).is_some_and(|s| s.1 > 0)) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}

/// The numbers of the segments that an entry needs.
pub fn segments_of(entry: &StateEntry) -> Vec<u32> {
    match &entry.entry.content {
        Content::File { placement: Placement::Whole { segment, .. }, .. } => vec![*segment],
        Content::File { placement: Placement::Chunks(chunks), .. } => chunks.iter().map(|c| c.segment).collect(),
        Content::Dir | Content::Symlink { .. } => Vec::new(),
    }
}

/// An entry with other numbers for its segments.
pub fn renumber(mut entry: StateEntry, mut number: impl FnMut(u32) -> u32) -> StateEntry {
    match &mut entry.entry.content {
        Content::File { placement: Placement::Whole { segment, .. }, .. } => *segment = number(*segment),
        Content::File { placement: Placement::Chunks(chunks), .. } => {
            for Chunk { segment, .. } in chunks {
                *segment = number(*segment);
            }
        }
        Content::Dir | Content::Symlink { .. } => {}
    }
    entry
}

/// Merges a journal over an older salvage into `out`; `false` when the journal is of no use.
fn merge(journal: &Path, older: Option<Salvage>, key: &JournalKey, out: &Path) -> io::Result<bool> {
    let mut file = BufReader::new(File::open(journal)?);
    let head = next_record(&mut file).and_then(|body| postcard::from_bytes::<(JournalKey, RunId)>(&body).ok());
    if head.is_none_or(|(found, _)| found != *key) {
        return Ok(false);
    }
    // Segments are journalled as they are sealed, side by side: their own numbers give the order of paths.
    let mut places = BTreeMap::new();
    let mut segments = older.as_ref().map(|s| s.header.segments.clone()).unwrap_or_default();
    let mut numbers = BTreeMap::new();
    loop {
        let at = file.stream_position()?;
        let Some(body) = next_record(&mut file) else { break };
        let Ok(segment) = postcard::from_bytes::<JournalSegment>(&body) else { break };
        numbers.insert(segment.number, u32::try_from(segments.len()).unwrap_or(u32::MAX));
        segments.push((segment.object, segment.size));
        places.insert(segment.number, at);
    }
    if places.is_empty() {
        return Ok(false);
    }
    let mut writer = RecordWriter::new(BufWriter::new(File::create(out)?))?;
    writer.push(&SalvageHeader { key: key.clone(), segments })?;
    let mut older = older;
    let mut pending = older.as_mut().map(Salvage::next_entry).transpose()?.flatten();
    for at in places.values() {
        file.seek(SeekFrom::Start(*at))?;
        let Some(body) = next_record(&mut file) else { break };
        let Ok(segment) = postcard::from_bytes::<JournalSegment>(&body) else { break };
        for entry in segment.entries {
            if !segments_of(&entry).iter().all(|n| numbers.contains_key(n)) {
                continue;
            }
            while let Some(old) = pending.take_if(|old| old.entry.path < entry.entry.path) {
                writer.push(&old)?;
                pending = older.as_mut().map(Salvage::next_entry).transpose()?.flatten();
            }
            if pending.as_ref().is_some_and(|old| old.entry.path == entry.entry.path) {
                pending = older.as_mut().map(Salvage::next_entry).transpose()?.flatten();
            }
            writer.push(&renumber(entry, |n| numbers.get(&n).copied().unwrap_or(u32::MAX)))?;
        }
    }
    while let Some(old) = pending {
        writer.push(&old)?;
        pending = older.as_mut().map(Salvage::next_entry).transpose()?.flatten();
    }
    writer.finish()?.into_inner().map_err(|e| e.into_error())?.sync_all()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::manifest::Entry;

    /// What is believed without reading a file again is believed whole or not at all.
    #[test]
    fn a_salvage_with_one_other_byte_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let dir = StateDir::open(dir.path(), "vault", "tree").unwrap();
        let key = JournalKey { vault: "vault".into(), epoch_folder: "2026-11".into(), recipients: Sha256::of(b"r") };
        let mut journal = JournalWriter::create(&dir, &key, RunId::new(jiff::Timestamp::UNIX_EPOCH)).unwrap();
        let object = SegmentRef { name: "segment".into(), sha256: Sha256::of(b"s") };
        let content = Content::File { sha256: Sha256::of(b"c"), size: 1, placement: Placement::Whole { segment: 0, member: None } };
        let entry = Entry { path: "a".into(), content, mode: None, mtime: None };
        let entries = vec![StateEntry { entry, fingerprint: None }];
        journal.segment(&JournalSegment { number: 0, object, size: 9, entries: entries.clone() }).unwrap();
        let gather = || Salvage::gather(&dir, &key, |_, _| true).unwrap();
        let mut salvage = gather().unwrap();
        assert_eq!(salvage.next_entry().unwrap().as_ref(), entries.first());
        let whole = fs::read(dir.salvage()).unwrap();
        // The first eight bytes are the form, which is checked by itself.
        for at in 8..whole.len() {
            let mut other = whole.clone();
            other[at] ^= 1;
            fs::write(dir.salvage(), &other).unwrap();
            assert!(gather().is_none(), "byte {at}");
            assert!(!dir.salvage().exists(), "byte {at}");
        }
        fs::write(dir.salvage(), &whole).unwrap();
        assert!(gather().is_some());
    }
}
