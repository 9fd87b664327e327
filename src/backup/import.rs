//! Sealing log files that another system delivered: whole or not at all.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::bounded;
use jiff::Timestamp;

use super::put_policy;
use crate::observe::{Event, Monitor};
use crate::source::import::{Batch, ChunkReader, Format, ImportError as ParseError, Pointers, RawChunk, normalise};
use crate::store::{Body, HashingReader, LockRequest, Sha256, StoreError};
use crate::vault::Written;
use crate::vault::attestation::{ExportDetails, ImportedFile, Kind, LogSpan, Outcome, Pointer};
use crate::vault::epoch::month_end;
use crate::vault::names::{self, ChainName, Container, RunId, ShortName};
use crate::vault::seal::{self, Frames, SEGMENT_PAYLOAD, SealError, Tuning};
use crate::vault::{ChainView, CommitError, Draft, LedgerError, Writer};

/// Why files were not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {problem}", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Where and what.
        problem: ParseError,
    },
    /// No event has a time where the policy says it is.
    #[error("{}: none of the first {events} events has a time at {pointers}", path.display())]
    NoTimes {
        /// Which file.
        path: PathBuf,
        /// How many were looked at.
        events: u64,
        /// Where.
        pointers: String,
    },
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Storing or committing failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What an import is made of.
pub struct ImportJob<'a> {
    /// The stream.
    pub stream: &'a ShortName,
    /// The files, `-` not among them.
    pub files: &'a [PathBuf],
    /// How to read them.
    pub format: Format,
    /// Where ids and times are.
    pub pointers: &'a Pointers,
    /// Whether a file that was imported before is imported again.
    pub again: bool,
    /// Who writes.
    pub writer: &'a Writer,
    /// The policy's bytes.
    pub policy: &'a [u8],
    /// zstd's level; the one tuned for this kind of data unless said.
    pub level: Option<i32>,
    /// Worker threads.
    pub threads: usize,
    /// Who listens.
    pub monitor: &'a dyn Monitor,
}

/// What an import did.
#[derive(Debug, Clone)]
pub struct ImportReport {
    /// The run; of the earlier import when nothing was new.
    pub run: RunId,
    /// Its chain.
    pub chain: ChainName,
    /// Its number.
    pub sequence: u64,
    /// First event time.
    pub from: Option<Timestamp>,
    /// Last event time.
    pub to: Option<Timestamp>,
    /// Events sealed.
    pub events: u64,
    /// Of them: without a readable time.
    pub untimed_events: u64,
    /// Bytes of the files.
    pub read_bytes: u64,
    /// Bytes of the objects.
    pub stored_bytes: u64,
    /// How many objects.
    pub objects: u64,
    /// Files that had been imported before and were left out.
    pub already_imported: Vec<PathBuf>,
}

/// The part of a run that one file is.
struct FileResult {
    digest: Sha256,
    bytes: u64,
    objects: Vec<(usize, Written, LogSpan, u64)>,
}

/// Imports files as one run.
#[tracing::instrument(skip_all, fields(stream = %job.stream, files = job.files.len()))]
pub fn import(job: &ImportJob<'_>) -> Result<ImportReport, ImportError> {
    let started = job.writer.now()?;
    let run = RunId::new(started);
    let chain = ChainName::export(job.stream);
    let view = job.writer.ledger.chain(&chain)?;
    let mut already = Vec::new();
    let mut earlier_run = None;
    let mut files = Vec::new();
    for path in job.files {
        match if job.again { None } else { imported_before(&view, path)? } {
            Some((run, sequence)) => {
                already.push(path.clone());
                earlier_run = Some((run, sequence));
            }
            None => files.push(path),
        }
    }
    if let (Some((run, sequence)), true) = (earlier_run, files.is_empty()) {
        return Ok(ImportReport {
            run,
            chain,
            sequence,
            from: None,
            to: None,
            events: 0,
            untimed_events: 0,
            read_bytes: 0,
            stored_bytes: 0,
            objects: 0,
            already_imported: already,
        });
    }
    let lock = job.writer.lock_from(Container::AuditLogs, month_end(started));
    let mut written = Vec::new();
    let mut imported = Vec::new();
    let mut spans: Vec<LogSpan> = Vec::new();
    let (mut untimed, mut read_bytes) = (0, 0);
    for path in files {
        let (objects, result) = seal_file(job, path, started, run, written.len(), &lock);
        written.extend(objects);
        let file = match result {
            Ok(file) => file,
            Err(error) => {
                if !written.is_empty() {
                    commit_failed(job, &chain, run, started, written);
                }
                return Err(error);
            }
        };
        read_bytes += file.bytes;
        untimed += file.objects.iter().map(|o| o.3).sum::<u64>();
        let own: Vec<LogSpan> = file.objects.into_iter().map(|o| o.2).collect();
        imported.push(ImportedFile {
            sha256: file.digest,
            first: own.iter().filter_map(|s| s.first).min(),
            last: own.iter().filter_map(|s| s.last).max(),
            count: own.iter().map(|s| s.count).sum(),
        });
        spans.extend(own);
    }
    let events = imported.iter().map(|f| f.count).sum();
    let details = ExportDetails {
        window: None,
        id: Pointer::from_list(job.pointers.id.clone()),
        time: Pointer::from_list(job.pointers.time.clone()),
        events,
        late_events: 0,
        largest_lateness_seconds: None,
        available_from: None,
        unrecoverable: None,
        dedupe: None,
        spans: spans.clone(),
        import: Some(imported),
        untimed_events: untimed,
    };
    let stored_bytes = written.iter().map(|o| o.size).sum();
    let objects = written.len() as u64;
    if let Some(policy) = put_policy(job.writer, job.policy, started)? {
        written.push(policy);
    }
    let draft = draft(&chain, run, started, Outcome::Complete, written).with_details(&details)?;
    let committed = job.writer.commit(&draft, |_| true, |_| Ok(()))?;
    Ok(ImportReport {
        run,
        chain,
        sequence: committed.sequence,
        from: spans.iter().filter_map(|s| s.first).min(),
        to: spans.iter().filter_map(|s| s.last).max(),
        events,
        untimed_events: untimed,
        read_bytes,
        stored_bytes,
        objects,
        already_imported: already,
    })
}

fn draft(chain: &ChainName, run: RunId, started: Timestamp, outcome: Outcome, objects: Vec<Written>) -> Draft {
    Draft { kind: Kind::Export, chain: chain.clone(), run, started, outcome, objects, details: serde_json::Map::new() }
}

fn commit_failed(job: &ImportJob<'_>, chain: &ChainName, run: RunId, started: Timestamp, written: Vec<Written>) {
    let details = ExportDetails {
        window: None,
        id: Pointer::from_list(job.pointers.id.clone()),
        time: Pointer::from_list(job.pointers.time.clone()),
        events: 0,
        late_events: 0,
        largest_lateness_seconds: None,
        available_from: None,
        unrecoverable: None,
        dedupe: None,
        spans: Vec::new(),
        import: Some(Vec::new()),
        untimed_events: 0,
    };
    let draft = draft(chain, run, started, Outcome::Failed, written).with_details(&details);
    if let Err(e) = draft.and_then(|draft| job.writer.commit(&draft, |_| true, |_| Ok(()))) {
        job.monitor.event(Event::Warning(format!("that this run failed could not be attested: {e}")));
    }
}

/// The run that sealed a file of these bytes before, if any.
fn imported_before(view: &ChainView, path: &Path) -> Result<Option<(RunId, u64)>, ImportError> {
    let sealed = view.attested.iter().filter(|a| a.statement.kind == Kind::Export && a.statement.predicate.outcome != Outcome::Failed);
    let known: Vec<(Sha256, RunId, u64)> = sealed
        .filter_map(|a| {
            let details = a.statement.predicate.details::<ExportDetails>().ok()?;
            let (run, sequence) = (a.statement.predicate.run, a.sequence());
            Some(details.import?.into_iter().map(move |f| (f.sha256, run, sequence)))
        })
        .flatten()
        .collect();
    if known.is_empty() {
        return Ok(None);
    }
    let read = |source| ImportError::Read { path: path.to_owned(), source };
    let mut hashed = HashingReader::new(File::open(path).map_err(read)?);
    io::copy(&mut hashed, &mut io::sink()).map_err(read)?;
    let (digest, _) = hashed.finish();
    Ok(known.into_iter().find(|k| k.0 == digest).map(|(_, run, sequence)| (run, sequence)))
}

/// Hashes a file's bytes as they pass, shared with whoever wants the digest at the end.
struct Tap {
    inner: std::sync::Arc<Mutex<Option<HashingReader<File>>>>,
}

impl io::Read for Tap {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut inner = self.inner.lock().map_err(|_| io::Error::other("a thread failed"))?;
        inner.as_mut().map_or(Ok(0), |reader| reader.read(buf))
    }
}

/// Seals one file's events; gives what reached the store, also when it failed.
fn seal_file(
    job: &ImportJob<'_>,
    path: &Path,
    started: Timestamp,
    run: RunId,
    first_number: usize,
    lock: &LockRequest,
) -> (Vec<Written>, Result<FileResult, ImportError>) {
    let stored = Mutex::new(Vec::new());
    let failure: Mutex<Option<ImportError>> = Mutex::new(None);
    let stop = AtomicBool::new(false);
    let fail = |error: ImportError| {
        stop.store(true, Ordering::Relaxed);
        if let Ok(mut slot) = failure.lock() {
            slot.get_or_insert(error);
        }
    };
    let (chunk_in, chunk_out) = bounded::<(usize, RawChunk)>(1);
    let mut digest = None;
    thread::scope(|scope| {
        for _ in 0..job.threads {
            let chunk_out = chunk_out.clone();
            let (stored, stop, fail) = (&stored, &stop, &fail);
            scope.spawn(move || {
                let work = || -> Result<(), ImportError> {
                    let mut frames = Frames::new(Tuning::of(job.level, Tuning::Events))?;
                    for (number, chunk) in &chunk_out {
                        if stop.load(Ordering::Relaxed) {
                            continue;
                        }
                        let batch = parse(job, path, number == first_number, &chunk)?;
                        let raw = chunk.data.len() as u64;
                        drop(chunk);
                        if batch.events > 0 {
                            let sealed = seal_batch(job, started, run, number, lock, &batch, &mut frames)?;
                            stored.lock().map(|mut s| s.push(sealed)).unwrap_or_default();
                        }
                        job.monitor.event(Event::Done { records: batch.events, bytes: raw });
                    }
                    Ok(())
                };
                if let Err(e) = work() {
                    fail(e);
                    chunk_out.iter().for_each(drop);
                }
            });
        }
        drop(chunk_out);
        match read_chunks(job, path, first_number, &chunk_in, &stop) {
            Ok(found) => digest = Some(found),
            Err(e) => fail(e),
        }
        drop(chunk_in);
    });
    let mut objects = stored.into_inner().unwrap_or_default();
    objects.sort_unstable_by_key(|o: &(usize, Written, LogSpan, u64)| o.0);
    let written = objects.iter().map(|o| o.1.clone()).collect();
    match (failure.into_inner().ok().flatten(), digest) {
        (None, Some((digest, bytes))) => (written, Ok(FileResult { digest, bytes, objects })),
        (Some(error), _) => (written, Err(error)),
        (None, None) => (written, Err(ImportError::Read { path: path.to_owned(), source: io::Error::other("a thread failed") })),
    }
}

fn read_chunks(
    job: &ImportJob<'_>,
    path: &Path,
    first_number: usize,
    out: &crossbeam_channel::Sender<(usize, RawChunk)>,
    stop: &AtomicBool,
) -> Result<(Sha256, u64), ImportError> {
    let read = |source| ImportError::Read { path: path.to_owned(), source };
    let parse = |problem| ImportError::Parse { path: path.to_owned(), problem };
    let file = File::open(path).map_err(read)?;
    if file.metadata().map_err(read)?.is_dir() {
        return Err(read(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    let shared = std::sync::Arc::new(Mutex::new(Some(HashingReader::new(file))));
    let mut chunks = ChunkReader::open(Tap { inner: shared.clone() }, job.format, SEGMENT_PAYLOAD).map_err(parse)?;
    let mut number = first_number;
    while let Some(chunk) = chunks.next_chunk().map_err(parse)? {
        if stop.load(Ordering::Relaxed) || out.send((number, chunk)).is_err() {
            break;
        }
        number += 1;
    }
    drop(chunks);
    let mut reader = shared.lock().ok().and_then(|mut s| s.take()).ok_or_else(|| read(io::Error::other("a thread failed")))?;
    // What follows the last event counts for the file's digest too.
    io::copy(&mut reader, &mut io::sink()).map_err(read)?;
    Ok(reader.finish())
}

fn parse(job: &ImportJob<'_>, path: &Path, first: bool, chunk: &RawChunk) -> Result<Batch, ImportError> {
    let batch = normalise(chunk, job.pointers).map_err(|problem| ImportError::Parse { path: path.to_owned(), problem })?;
    if first && batch.events > 0 && batch.untimed == batch.events && !job.pointers.time.is_empty() {
        let pointers = job.pointers.time.join(", ");
        return Err(ImportError::NoTimes { path: path.to_owned(), events: batch.events, pointers });
    }
    Ok(batch)
}

fn seal_batch(
    job: &ImportJob<'_>,
    started: Timestamp,
    run: RunId,
    number: usize,
    lock: &LockRequest,
    batch: &Batch,
    frames: &mut Frames,
) -> Result<(usize, Written, LogSpan, u64), ImportError> {
    let sealed = seal::seal(&batch.ndjson, frames, &job.writer.recipients)?;
    let name = names::log_object(job.stream, started, run, number);
    let size = sealed.bytes.len() as u64;
    let object = job.writer.put(&name, Body::Bytes(&sealed.bytes), &sealed.sha256, size, lock)?;
    job.monitor.event(Event::Stored { name: name.clone(), bytes: size });
    let span = LogSpan { name, first: batch.first, last: batch.last, count: batch.events };
    Ok((number, object, span, batch.untimed))
}
