//! From a source's records to sealed segments: one pass, each byte read once, every queue bounded.
//!
//! ```text
//! walk + earlier state ─batches─▶ readers ×N ─▶ in path order ─payloads─▶ seal + store ×N
//! ```

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::collect::{Collector, Sink};
use super::error::SnapshotError;
use super::journal::{JournalSegment, JournalWriter};
use super::room::Room;
use super::state::StateEntry;
use crate::observe::{Event, Monitor};
use crate::source::{Node, NodeKind, Probe, Reading, RecordProblem, Source, Walked};
use crate::store::{Body, LockRequest, Sha256};
use crate::vault::Writer;
use crate::vault::Written;
use crate::vault::manifest::{Content, Entry, Mtime, Placement, SegmentRef};
use crate::vault::seal::{self, Tuning};
use crate::vault::segment;

const BATCH_RECORDS: usize = 128;
/// A batch that has read this much leaves the rest of its larger files to be read one by one, in bytes.
const BATCH_BYTES: usize = 4 << 20;
const SMALL: u64 = 64 << 10;

/// What is known of a path from before.
#[derive(Debug, Clone, Default)]
pub struct Earlier {
    /// In the committed state.
    pub committed: Option<StateEntry>,
    /// In objects of interrupted runs.
    pub salvaged: Option<StateEntry>,
}

impl Earlier {
    /// The one whose bytes are the newest.
    fn newest(&self) -> Option<&StateEntry> {
        self.salvaged.as_ref().or(self.committed.as_ref())
    }
}

/// One step in path order.
pub(super) enum Step {
    Look(Node, Earlier),
    /// Cannot be seen: what was there is carried.
    Carry(StateEntry),
    /// Was there and is no more.
    Gone(String),
    Hole(String, RecordProblem),
}

/// What became of a step.
pub(super) enum Done {
    /// As it is now. Bytes to be stored lie in the batch's tar at this range.
    Entry {
        entry: StateEntry,
        bytes: Option<std::ops::Range<usize>>,
        earlier: Option<StateEntry>,
        read: u64,
    },
    /// To be read piece by piece.
    Large {
        node: Node,
        probe: Probe,
        earlier: Earlier,
    },
    Carry(StateEntry),
    Gone(String),
    Problem {
        path: String,
        problem: RecordProblem,
        earlier: Option<StateEntry>,
    },
}

pub(super) struct DoneBatch {
    pub done: Vec<Done>,
    pub tar: Vec<u8>,
}

/// The earlier state, in path order.
pub trait EarlierStates {
    /// The next path's.
    fn next(&mut self) -> io::Result<Option<(String, Earlier)>>;
}

/// A full segment on its way to be sealed.
pub(super) struct Payload {
    pub number: u32,
    pub name: String,
    pub bytes: Vec<u8>,
    pub entries: Vec<StateEntry>,
}

/// What a pipeline works with.
pub struct Pipeline<'a> {
    /// The source.
    pub source: &'a dyn Source,
    /// Whether entries carry mode and modification time.
    pub metadata: bool,
    /// Who writes.
    pub writer: &'a Writer,
    /// The lock of every object.
    pub lock: LockRequest,
    /// zstd's level; the one tuned for this kind of data unless said.
    pub level: Option<i32>,
    /// Worker threads of each kind.
    pub threads: usize,
    /// Who listens.
    pub monitor: &'a dyn Monitor,
}

impl Pipeline<'_> {
    /// Runs everything through `collector`; gives the stored segments in order of number.
    pub(super) fn run(
        &self,
        mut earlier: impl EarlierStates + Send,
        collector: &mut Collector<'_>,
        journal: JournalWriter,
    ) -> (Vec<(u32, Written)>, Result<(), SnapshotError>) {
        let room = match Room::new(self.threads, Tuning::of(self.level, Tuning::Records)) {
            Ok(room) => room,
            Err(e) => return (Vec::new(), Err(e.into())),
        };
        let stored = Mutex::new(Vec::new());
        let failure = Mutex::new(None);
        let stop = AtomicBool::new(false);
        let journal = Mutex::new(journal);
        let fail = |error: SnapshotError| {
            stop.store(true, Ordering::Relaxed);
            if let Ok(mut slot) = failure.lock() {
                slot.get_or_insert(error);
            }
        };
        let (step_in, step_out) = bounded::<(u64, Vec<Step>)>(self.threads * 2);
        let (done_in, done_out) = bounded::<(u64, DoneBatch)>(self.threads * 2);
        let (seal_in, seal_out) = bounded::<Payload>(1);
        let (spare_in, spare_out) = bounded::<Vec<u8>>(self.threads * 4);
        let (empty_in, empty_out) = bounded::<Vec<u8>>(self.threads + 2);
        let span = tracing::Span::current();
        thread::scope(|scope| {
            scope.spawn(|| {
                if let Err(e) = span.in_scope(|| self.walk(&mut earlier, step_in, &stop)) {
                    fail(e);
                }
            });
            for _ in 0..self.threads {
                let (step_out, done_in, spare_out) = (step_out.clone(), done_in.clone(), spare_out.clone());
                scope.spawn(move || self.look(&step_out, &done_in, &spare_out));
            }
            for _ in 0..self.threads.max(self.writer.ledger.store().parallelism()) {
                let seal_out = seal_out.clone();
                let empty_in = empty_in.clone();
                let (room, stored, journal, fail, stop) = (&room, &stored, &journal, &fail, &stop);
                scope.spawn(move || {
                    if let Err(e) = self.seal(room, &seal_out, &empty_in, journal, stored, stop) {
                        fail(e);
                        // Whoever waits for room must not wait for ever.
                        seal_out.iter().for_each(drop);
                    }
                });
            }
            drop((step_out, done_in, seal_out));
            let mut sink = Sink::new(seal_in, empty_out);
            if let Err(e) = self.collect(&done_out, &spare_in, collector, &mut sink, &stop) {
                fail(e);
            }
            // Draining lets the other threads run to their end.
            drop(sink);
            done_out.iter().for_each(drop);
        });
        let mut stored = stored.into_inner().unwrap_or_default();
        stored.sort_unstable_by_key(|(number, _)| *number);
        let failure = failure.into_inner().ok().flatten();
        (stored, failure.map_or(Ok(()), Err))
    }

    /// Joins the source's walk with the earlier states.
    fn walk(
        &self,
        earlier: &mut (impl EarlierStates + Send),
        out: Sender<(u64, Vec<Step>)>,
        stop: &AtomicBool,
    ) -> Result<(), SnapshotError> {
        let mut batch = Vec::with_capacity(BATCH_RECORDS);
        let mut index = 0;
        let mut trouble = None;
        let mut pending = earlier.next().map_err(SnapshotError::State)?;
        let mut send = |step: Step, batch: &mut Vec<Step>, force: bool| {
            batch.push(step);
            if batch.len() < BATCH_RECORDS && !force {
                return true;
            }
            let full = std::mem::replace(batch, Vec::with_capacity(BATCH_RECORDS));
            index += 1;
            out.send((index - 1, full)).is_ok() && !stop.load(Ordering::Relaxed)
        };
        let mut open = true;
        self.source.walk(&mut |walked| {
            let mut step = || -> io::Result<bool> {
                let at = match &walked {
                    Walked::Node(node) => node.path.as_str(),
                    Walked::Hole { path, .. } => path.as_str(),
                };
                while let Some((path, before)) = pending.take_if(|(path, _)| path.as_str() < at) {
                    pending = earlier.next()?;
                    if before.committed.is_some() && !send(Step::Gone(path), &mut batch, false) {
                        return Ok(false);
                    }
                }
                match &walked {
                    Walked::Node(node) => {
                        let before = pending.take_if(|(path, _)| *path == node.path).map(|(_, e)| e);
                        if before.is_some() {
                            pending = earlier.next()?;
                        }
                        Ok(send(Step::Look(node.clone(), before.unwrap_or_default()), &mut batch, false))
                    }
                    Walked::Hole { path, problem } => {
                        let below = format!("{path}/");
                        let inside = |p: &str| path.is_empty() || p == path || p.starts_with(&below);
                        // Names such as `a-b` sort between `a` and what lies in it.
                        while let Some((gone, before)) = pending.take_if(|(p, _)| p.as_str() < below.as_str() && !inside(p)) {
                            pending = earlier.next()?;
                            if before.committed.is_some() && !send(Step::Gone(gone), &mut batch, false) {
                                return Ok(false);
                            }
                        }
                        let mut problem = problem.clone();
                        if pending.as_ref().is_some_and(|(p, before)| inside(p) && before.committed.is_some()) {
                            problem.message.push_str("; what was captured before is carried on");
                        }
                        if !send(Step::Hole(path.clone(), problem), &mut batch, false) {
                            return Ok(false);
                        }
                        while let Some((_, before)) = pending.take_if(|(p, _)| inside(p)) {
                            pending = earlier.next()?;
                            if let Some(entry) = before.committed
                                && !send(Step::Carry(entry), &mut batch, false)
                            {
                                return Ok(false);
                            }
                        }
                        Ok(true)
                    }
                }
            };
            open = step().unwrap_or_else(|e| {
                trouble = Some(e);
                false
            });
            open
        })?;
        if let Some(e) = trouble {
            return Err(SnapshotError::State(e));
        }
        while open && let Some((path, before)) = pending {
            pending = earlier.next().map_err(SnapshotError::State)?;
            if before.committed.is_some() {
                open = send(Step::Gone(path), &mut batch, false);
            }
        }
        if open && !batch.is_empty() {
            let last = batch.pop();
            last.map(|step| send(step, &mut batch, true));
        }
        Ok(())
    }

    fn look(&self, steps: &Receiver<(u64, Vec<Step>)>, out: &Sender<(u64, DoneBatch)>, spare: &Receiver<Vec<u8>>) {
        for (index, steps) in steps {
            // Memory that was used before needs no new pages from the kernel.
            let mut tar = spare.try_recv().unwrap_or_default();
            tar.clear();
            let done = steps.into_iter().map(|step| self.look_at(step, &mut tar)).collect();
            if out.send((index, DoneBatch { done, tar })).is_err() {
                return;
            }
        }
    }

    fn look_at(&self, step: Step, tar: &mut Vec<u8>) -> Done {
        let (node, earlier) = match step {
            Step::Look(node, earlier) => (node, earlier),
            Step::Carry(entry) => return Done::Carry(entry),
            Step::Gone(path) => return Done::Gone(path),
            Step::Hole(path, problem) => return Done::Problem { path, problem, earlier: None },
        };
        // A file of which nothing is known is read at once; if it is something else by now, it is looked at.
        if node.file && earlier.newest().is_none() && tar.len() <= BATCH_BYTES {
            match self.read_whole(node.clone(), Earlier::default(), tar) {
                Done::Problem { .. } => {}
                done => return done,
            }
        }
        let probe = match self.source.probe(&node) {
            Ok(probe) => probe,
            Err(problem) => return Done::Problem { path: node.path, problem, earlier: earlier.committed },
        };
        match &probe.kind {
            NodeKind::Skipped(what) => {
                let problem = RecordProblem { code: "skipped", message: format!("{what} cannot be backed up") };
                return Done::Problem { path: node.path, problem, earlier: earlier.committed };
            }
            NodeKind::Dir => return self.plain(node, &probe, Content::Dir, earlier),
            NodeKind::Symlink(target) => {
                let content = Content::Symlink { target: target.clone() };
                return self.plain(node, &probe, content, earlier);
            }
            NodeKind::File => {}
        }
        if let Some(before) = earlier.newest()
            && probe.fingerprint.is_some()
            && before.fingerprint == probe.fingerprint
            && matches!(before.entry.content, Content::File { .. })
        {
            let read = node.held.as_ref().map_or(0, |held| held.bytes.len() as u64);
            let entry = self.entry(node.path, &probe, before.entry.content.clone());
            return Done::Entry { entry, bytes: None, earlier: earlier.committed, read };
        }
        if probe.size > segment::CHUNKED_ABOVE || (tar.len() > BATCH_BYTES && probe.size > SMALL) {
            return Done::Large { node, probe, earlier };
        }
        self.read_whole(node, earlier, tar)
    }

    /// Reads a file into `tar`, unless its bytes are stored already.
    pub(super) fn read_whole(&self, node: Node, earlier: Earlier, tar: &mut Vec<u8>) -> Done {
        let start = tar.len();
        segment::append_header(tar, &node.path, 0);
        let body = tar.len();
        let probe = match self.source.read(&node, segment::CHUNKED_ABOVE, tar) {
            Ok(Reading::Whole(probe)) => probe,
            Ok(Reading::Larger(probe)) => {
                tar.truncate(start);
                return Done::Large { node, probe, earlier };
            }
            Err(problem) => {
                tar.truncate(start);
                return Done::Problem { path: node.path, problem, earlier: earlier.committed };
            }
        };
        let size = (tar.len() - body) as u64;
        let sha256 = Sha256::of(&tar[body..]);
        let same = |e: &&StateEntry| matches!(&e.entry.content, Content::File { sha256: before, .. } if *before == sha256);
        let known = [&earlier.committed, &earlier.salvaged].into_iter().filter_map(Option::as_ref).find(same);
        if let Some(before) = known {
            tar.truncate(start);
            let entry = self.entry(node.path, &probe, before.entry.content.clone());
            return Done::Entry { entry, bytes: None, earlier: earlier.committed, read: size };
        }
        segment::set_size(&mut tar[body - 512..body], size);
        segment::pad(tar, usize::try_from(size).unwrap_or(0));
        let content = Content::File { sha256, size, placement: Placement::Whole { segment: u32::MAX, member: None } };
        let entry = self.entry(node.path, &probe, content);
        Done::Entry { entry, bytes: Some(start..tar.len()), earlier: earlier.committed, read: size }
    }

    fn plain(&self, node: Node, probe: &Probe, content: Content, earlier: Earlier) -> Done {
        let entry = self.entry(node.path, probe, content);
        Done::Entry { entry, bytes: None, earlier: earlier.committed, read: 0 }
    }

    /// An entry as the probe shows it.
    pub(super) fn entry(&self, path: String, probe: &Probe, content: Content) -> StateEntry {
        let link = matches!(content, Content::Symlink { .. });
        let mode = (self.metadata && !link).then_some(probe.mode);
        let mtime = self.metadata.then_some(Mtime { seconds: probe.mtime.0, nanos: probe.mtime.1 });
        StateEntry { entry: Entry { path, content, mode, mtime }, fingerprint: probe.fingerprint }
    }

    /// Brings the batches into order and hands them to the collector.
    fn collect(
        &self,
        batches: &Receiver<(u64, DoneBatch)>,
        spare: &Sender<Vec<u8>>,
        collector: &mut Collector<'_>,
        sink: &mut Sink,
        stop: &AtomicBool,
    ) -> Result<(), SnapshotError> {
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        for (index, batch) in batches {
            waiting.insert(index, batch);
            while let Some(batch) = waiting.remove(&next) {
                let used = collector.take(self, batch, sink)?;
                // A buffer that one batch of large files has swollen is not kept.
                if used.capacity() <= 2 * BATCH_BYTES {
                    let _ = spare.try_send(used);
                }
                next += 1;
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
        collector.end(sink)
    }

    fn seal(
        &self,
        room: &Room,
        payloads: &Receiver<Payload>,
        empty: &Sender<Vec<u8>>,
        journal: &Mutex<JournalWriter>,
        stored: &Mutex<Vec<(u32, Written)>>,
        stop: &AtomicBool,
    ) -> Result<(), SnapshotError> {
        for Payload { number, name, bytes, entries } in payloads {
            if stop.load(Ordering::Relaxed) {
                continue;
            }
            let sealed = room.sealing(|frames| seal::seal(&bytes, frames, &self.writer.recipients)).ok_or(SnapshotError::Stopped)??;
            let _ = empty.try_send(bytes);
            let size = sealed.bytes.len() as u64;
            let object = SegmentRef { name: name.clone(), sha256: sealed.sha256 };
            let record = JournalSegment { number, object, size, entries };
            journal.lock().map_err(|_| SnapshotError::Stopped)?.segment(&record).map_err(SnapshotError::State)?;
            drop(record);
            let put = || self.writer.put(&name, Body::Bytes(&sealed.bytes), &sealed.sha256, size, &self.lock);
            let object = room.sending(size, put)?;
            self.monitor.event(Event::Stored { name, bytes: size });
            stored.lock().map_err(|_| SnapshotError::Stopped)?.push((number, object));
        }
        Ok(())
    }
}
