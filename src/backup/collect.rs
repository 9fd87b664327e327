//! The middle of the pipeline: takes records in path order, fills segments, writes manifest lines, the
//! new state and the tree's digest.

use std::collections::HashMap;
use std::io::{BufReader, Read};

use crossbeam_channel::{Receiver, Sender};
use fastcdc::v2020::StreamCDC;
use sha2::Digest as _;

use super::error::SnapshotError;
use super::journal::segments_of;
use super::pipeline::{Done, DoneBatch, Earlier, Payload, Pipeline};
use super::state::{StateDir, StateEntry, StateSegment, StateSpool};
use crate::observe::{Event, Monitor};
use crate::source::{Collection, Node, Probe, RecordProblem};
use crate::store::Sha256;
use crate::vault::epoch::Epoch;
use crate::vault::manifest::{Chunk, Content, Placement, SegmentRef, TreeHasher, write_deleted, write_entry};
use crate::vault::names::{self, Container, RunId, ShortName};
use crate::vault::seal::{LineSpool, SEGMENT_PAYLOAD, Tuning};
use crate::vault::segment;

/// Where full segments go.
pub(super) struct Sink {
    out: Sender<Payload>,
    /// Emptied payloads, to be filled again.
    empty: Receiver<Vec<u8>>,
}

impl Sink {
    pub fn new(out: Sender<Payload>, empty: Receiver<Vec<u8>>) -> Self {
        Self { out, empty }
    }

    fn send(&self, payload: Payload) -> Result<(), SnapshotError> {
        self.out.send(payload).map_err(|_| SnapshotError::Stopped)
    }
}

/// What was counted on the way.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    pub entries: u64,
    pub changed: u64,
    pub deleted: u64,
    pub read_bytes: u64,
    /// Records that were not captured as they should be: path, code, message.
    pub problems: u64,
    pub collections: Vec<CollectionCount>,
    /// Lines written to the manifest.
    pub lines: u64,
}

/// What was counted of one collection.
#[derive(Debug, Clone)]
pub(super) struct CollectionCount {
    pub collection: Collection,
    pub entries: u64,
    pub problems: u64,
    pub first_code: Option<&'static str>,
    /// Nothing of it could be seen.
    pub failed: bool,
}

impl CollectionCount {
    pub fn new(collection: Collection) -> Self {
        Self { collection, entries: 0, problems: 0, first_code: None, failed: false }
    }

    /// A hole in place of the whole collection has the collection's own path.
    fn is_at(&self, path: &str) -> bool {
        self.collection.prefix.strip_suffix('/') == Some(path)
    }
}

/// Names the new segments of a run.
pub(super) struct Naming<'a> {
    pub container: Container,
    pub source: &'a ShortName,
    pub epoch: Epoch,
    pub run: RunId,
}

/// Takes records in path order.
pub(super) struct Collector<'a> {
    naming: Naming<'a>,
    monitor: &'a dyn Monitor,
    /// Whether every entry gets a line, or only what changed.
    base: bool,
    lines: LineSpool,
    state: StateSpool,
    tree: TreeHasher,
    /// Segments of earlier runs that entries may name, then the new ones.
    table: Vec<Option<StateSegment>>,
    /// Of the table: which the state needs.
    needed: Vec<bool>,
    /// Segment numbers as this manifest's header has them.
    header_table: HashMap<u32, u32>,
    header_order: Vec<u32>,
    first_new: u32,
    payload: Vec<u8>,
    payload_entries: Vec<StateEntry>,
    /// The collection that the last path lay in.
    collection: usize,
    pub counts: Counts,
}

/// What a collector leaves.
pub(super) struct Collected {
    pub lines: LineSpool,
    pub state: StateSpool,
    pub tree_sha256: Sha256,
    pub table: Vec<Option<StateSegment>>,
    pub needed: Vec<bool>,
    /// The header's table, as numbers of `table`.
    pub header_order: Vec<u32>,
    pub first_new: u32,
    pub counts: Counts,
}

impl<'a> Collector<'a> {
    pub fn new(
        naming: Naming<'a>,
        monitor: &'a dyn Monitor,
        base: bool,
        level: Option<i32>,
        dir: &StateDir,
        table: Vec<StateSegment>,
        collections: Vec<Collection>,
    ) -> Result<Self, SnapshotError> {
        let first_new = u32::try_from(table.len()).unwrap_or(u32::MAX);
        Ok(Self {
            naming,
            monitor,
            base,
            lines: LineSpool::new(dir.path(), Tuning::of(level, Tuning::Lines))?,
            state: StateSpool::new(dir).map_err(SnapshotError::State)?,
            tree: TreeHasher::default(),
            needed: vec![false; table.len()],
            table: table.into_iter().map(Some).collect(),
            header_table: HashMap::new(),
            header_order: Vec::new(),
            first_new,
            payload: Vec::new(),
            payload_entries: Vec::new(),
            collection: 0,
            counts: Counts { collections: collections.into_iter().map(CollectionCount::new).collect(), ..Counts::default() },
        })
    }

    /// The collection that a path lies in.
    fn collection_of(&mut self, path: &str) -> Option<&mut CollectionCount> {
        let all = &mut self.counts.collections;
        let has = |c: &CollectionCount| path.starts_with(&c.collection.prefix) || c.is_at(path);
        if !all.get(self.collection).is_some_and(has) {
            self.collection = all.iter().position(has)?;
        }
        all.get_mut(self.collection)
    }

    /// The number that the segment being filled will have.
    fn current(&self) -> u32 {
        u32::try_from(self.table.len()).unwrap_or(u32::MAX)
    }

    pub fn take(&mut self, pipeline: &Pipeline<'_>, batch: DoneBatch, sink: &mut Sink) -> Result<Vec<u8>, SnapshotError> {
        let (mut records, mut bytes) = (0, 0);
        for done in batch.done {
            records += 1;
            match done {
                Done::Entry { entry, bytes: range, earlier, read } => {
                    bytes += read;
                    self.counts.read_bytes += read;
                    match range {
                        Some(range) => self.store_whole(entry, &batch.tar[range], earlier.as_ref(), sink)?,
                        None => self.keep(entry, earlier.as_ref())?,
                    }
                }
                Done::Carry(entry) => self.keep(entry.clone(), Some(&entry))?,
                Done::Gone(path) => self.gone(&path)?,
                Done::Problem { path, problem, earlier } => self.problem(path, &problem, earlier)?,
                Done::Large { node, probe, earlier } => bytes += self.large(pipeline, node, probe, earlier, sink)?,
            }
        }
        self.monitor.event(Event::Done { records, bytes });
        Ok(batch.tar)
    }

    pub fn end(&mut self, sink: &mut Sink) -> Result<(), SnapshotError> {
        self.close(sink)
    }

    pub fn finish(self) -> Collected {
        Collected {
            lines: self.lines,
            state: self.state,
            tree_sha256: self.tree.finish(),
            table: self.table,
            needed: self.needed,
            header_order: self.header_order,
            first_new: self.first_new,
            counts: self.counts,
        }
    }

    fn store_whole(
        &mut self,
        mut entry: StateEntry,
        member: &[u8],
        earlier: Option<&StateEntry>,
        sink: &mut Sink,
    ) -> Result<(), SnapshotError> {
        self.make_room(member.len(), sink)?;
        self.payload.extend_from_slice(member);
        let current = self.current();
        if let Content::File { placement, .. } = &mut entry.entry.content {
            *placement = Placement::Whole { segment: current, member: None };
        }
        self.payload_entries.push(entry.clone());
        self.keep(entry, earlier)
    }

    fn make_room(&mut self, more: usize, sink: &mut Sink) -> Result<(), SnapshotError> {
        // Two blocks end a tar.
        if !self.payload.is_empty() && self.payload.len() + more + 1024 > SEGMENT_PAYLOAD {
            self.close(sink)?;
        }
        if self.payload.capacity() == 0 {
            self.payload = sink.empty.try_recv().unwrap_or_default();
            self.payload.clear();
        }
        Ok(())
    }

    fn close(&mut self, sink: &mut Sink) -> Result<(), SnapshotError> {
        if self.payload.is_empty() {
            return Ok(());
        }
        segment::append_end(&mut self.payload);
        let own = self.current() - self.first_new;
        let Naming { container, source, epoch, run } = &self.naming;
        let name = names::segment(*container, source, epoch, *run, own as usize);
        // In the journal a run's segments are counted from 0; what lies in earlier segments is not journalled.
        let mut entries = std::mem::take(&mut self.payload_entries);
        entries.retain(|e| segments_of(e).iter().all(|n| *n >= self.first_new));
        let first_new = self.first_new;
        let entries = entries.into_iter().map(|e| super::journal::renumber(e, |n| n - first_new)).collect();
        self.table.push(None);
        self.needed.resize(self.table.len(), false);
        sink.send(Payload { number: own, name, bytes: std::mem::take(&mut self.payload), entries })
    }

    /// Records an entry as part of the new state, with a line where it is new or changed.
    fn keep(&mut self, entry: StateEntry, earlier: Option<&StateEntry>) -> Result<(), SnapshotError> {
        for n in segments_of(&entry) {
            let n = n as usize;
            if n >= self.needed.len() {
                self.needed.resize(n + 1, false);
            }
            self.needed[n] = true;
        }
        self.tree.add(&entry.entry);
        self.counts.entries += 1;
        if let Some(collection) = self.collection_of(&entry.entry.path) {
            collection.entries += 1;
        }
        let changed = earlier.is_none_or(|before| before.entry != entry.entry);
        self.counts.changed += u64::from(changed);
        if self.base || changed {
            let (table, order) = (&mut self.header_table, &mut self.header_order);
            let number = |n: u32| {
                *table.entry(n).or_insert_with(|| {
                    order.push(n);
                    u32::try_from(order.len() - 1).unwrap_or(u32::MAX)
                })
            };
            write_entry(self.lines.buffer(), &entry.entry, number);
            self.lines.advance()?;
            self.counts.lines += 1;
        }
        self.state.push(&entry).map_err(SnapshotError::State)
    }

    fn gone(&mut self, path: &str) -> Result<(), SnapshotError> {
        self.counts.deleted += 1;
        if !self.base {
            write_deleted(self.lines.buffer(), path);
            self.lines.advance()?;
            self.counts.lines += 1;
        }
        Ok(())
    }

    fn problem(&mut self, path: String, problem: &RecordProblem, earlier: Option<StateEntry>) -> Result<(), SnapshotError> {
        let vanished = problem.code == "vanished";
        // Where something stands that is not backed up, what stood there before is gone.
        let carried = !vanished && problem.code != "skipped" && earlier.is_some();
        let message = match carried {
            true => format!("{}; its earlier version is carried on", problem.message),
            false => problem.message.clone(),
        };
        self.monitor.event(Event::Problem { path: path.clone(), message });
        if !vanished {
            self.counts.problems += 1;
            if let Some(collection) = self.collection_of(&path) {
                collection.problems += 1;
                collection.first_code.get_or_insert(problem.code);
                collection.failed |= collection.is_at(&path);
            }
        }
        match earlier {
            Some(entry) if carried => self.keep(entry.clone(), Some(&entry)),
            Some(_) => self.gone(&path),
            None => Ok(()),
        }
    }

    /// A file that is read here, piece by piece; gives the bytes read.
    fn large(
        &mut self,
        pipeline: &Pipeline<'_>,
        node: Node,
        probe: Probe,
        earlier: Earlier,
        sink: &mut Sink,
    ) -> Result<u64, SnapshotError> {
        if probe.size <= segment::CHUNKED_ABOVE {
            let mut tar = Vec::new();
            let done = match pipeline.read_whole(node, earlier, &mut tar) {
                Done::Large { node, probe, earlier } => return self.chunked(pipeline, node, probe, earlier, sink),
                done => done,
            };
            return match done {
                Done::Entry { entry, bytes: Some(range), earlier, read } => {
                    self.counts.read_bytes += read;
                    self.store_whole(entry, &tar[range], earlier.as_ref(), sink).map(|()| read)
                }
                Done::Entry { entry, bytes: None, earlier, read } => {
                    self.counts.read_bytes += read;
                    self.keep(entry, earlier.as_ref()).map(|()| read)
                }
                Done::Problem { path, problem, earlier } => self.problem(path, &problem, earlier).map(|()| 0),
                _ => Ok(0),
            };
        }
        self.chunked(pipeline, node, probe, earlier, sink)
    }

    fn chunked(
        &mut self,
        pipeline: &Pipeline<'_>,
        node: Node,
        mut probe: Probe,
        earlier: Earlier,
        sink: &mut Sink,
    ) -> Result<u64, SnapshotError> {
        let mut known: HashMap<Sha256, Chunk> = HashMap::new();
        for before in [&earlier.committed, &earlier.salvaged].into_iter().flatten() {
            if let Content::File { placement: Placement::Chunks(chunks), .. } = &before.entry.content {
                known.extend(chunks.iter().map(|c| (c.sha256, c.clone())));
            }
        }
        const TRIES: usize = 3;
        let mut read = 0;
        let parts = segment::parts_prefix(&node.path);
        let mut stored = 0;
        for attempt in 1..=TRIES {
            let file = match pipeline.source.open(&node) {
                Ok(file) => file,
                Err(problem) => {
                    self.problem(node.path, &problem, earlier.committed)?;
                    return Ok(read);
                }
            };
            let outcome = self.chunks_of(&parts, &mut stored, file, &mut known, sink);
            let (sha256, size, chunks) = match outcome {
                Ok(found) => found,
                Err(ChunkError::Read(e)) => {
                    self.problem(node.path, &RecordProblem::from_io(&e), earlier.committed)?;
                    return Ok(read);
                }
                Err(ChunkError::Snapshot(e)) => return Err(e),
            };
            read += size;
            self.counts.read_bytes += size;
            let after = pipeline.source.probe(&node);
            let unchanged =
                after.as_ref().is_ok_and(|a| a.size == size && probe.size == size && a.mtime == probe.mtime && a.kind == probe.kind);
            if unchanged {
                let content = Content::File { sha256, size, placement: Placement::Chunks(chunks) };
                let entry = pipeline.entry(node.path, &probe, content);
                self.payload_entries.push(entry.clone());
                self.keep(entry, earlier.committed.as_ref())?;
                return Ok(read);
            }
            match after {
                Ok(after) if attempt < TRIES => probe = after,
                Ok(_) => break,
                Err(problem) => {
                    self.problem(node.path, &problem, earlier.committed)?;
                    return Ok(read);
                }
            }
        }
        let problem = RecordProblem { code: "changed_while_read", message: format!("it changed while it was read, {TRIES} times") };
        self.problem(node.path, &problem, earlier.committed)?;
        Ok(read)
    }

    fn chunks_of(
        &mut self,
        parts: &str,
        stored: &mut usize,
        file: Box<dyn Read>,
        known: &mut HashMap<Sha256, Chunk>,
        sink: &mut Sink,
    ) -> Result<(Sha256, u64, Vec<Chunk>), ChunkError> {
        let (min, average, max) = segment::CHUNK_SIZES;
        let mut whole = sha2::Sha256::new();
        let (mut size, mut chunks) = (0, Vec::new());
        for piece in StreamCDC::new(BufReader::with_capacity(1 << 20, file), min, average, max) {
            let data = piece.map_err(|e| ChunkError::Read(e.into()))?.data;
            whole.update(&data);
            size += data.len() as u64;
            let sha256 = Sha256::of(&data);
            if let Some(chunk) = known.get(&sha256) {
                chunks.push(chunk.clone());
                continue;
            }
            self.make_room(data.len() + 2048, sink)?;
            let segment = self.current();
            // Counted on when the file is read again, so that no segment has a name twice.
            let member = format!("{parts}{stored:06}");
            *stored += 1;
            segment::append_header(&mut self.payload, &member, data.len() as u64);
            self.payload.extend_from_slice(&data);
            segment::pad(&mut self.payload, data.len());
            let chunk = Chunk { segment, member, sha256, size: data.len() as u64 };
            known.insert(sha256, chunk.clone());
            chunks.push(chunk);
            self.monitor.event(Event::Done { records: 0, bytes: data.len() as u64 });
        }
        Ok((Sha256::finish(whole), size, chunks))
    }
}

/// Either the file or the backup failed.
enum ChunkError {
    Read(std::io::Error),
    Snapshot(SnapshotError),
}

impl From<SnapshotError> for ChunkError {
    fn from(error: SnapshotError) -> Self {
        Self::Snapshot(error)
    }
}

/// A segment's object once it is stored.
pub(super) fn segment_of(object: &crate::vault::Written, run: RunId) -> StateSegment {
    StateSegment { object: SegmentRef { name: object.name.clone(), sha256: object.sha256 }, run }
}
