//! Records and evidence into a directory.
//!
//! The state's entries are spooled in path order into an unnamed file in the target; then each segment is
//! opened once, several side by side. Directories are finished and links made last.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::members::Wanted;
use super::place::{Large, LastParent, Place, Target};
use super::tree::{TreeInfo, read_tree};
use super::walk::Walk;
use super::{Failed, RestoreError};
use crate::observe::{Event, Monitor};
use crate::path;
use crate::source::PathGlobs;
use crate::store::{HashingReader, Sha256};
use crate::vault::Ledger;
use crate::vault::keys::Identities;
use crate::vault::manifest::{Content, Entry, Placement};
use crate::vault::names::{ChainName, RunId};

/// What is restored, and where.
pub struct FilesJob<'a> {
    /// The vault.
    pub ledger: &'a Ledger,
    /// What opens it.
    pub identities: &'a Identities,
    /// The source's chain.
    pub chain: &'a ChainName,
    /// The snapshot.
    pub run: RunId,
    /// Where to.
    pub to: &'a Path,
    /// How much of it.
    pub pick: Pick<'a>,
    /// What becomes of what is there.
    pub existing: Existing,
    /// Whether links that lead out of the target are made.
    pub outside_links: bool,
    /// Worker threads.
    pub threads: usize,
    /// Who listens.
    pub monitor: &'a dyn Monitor,
}

/// What becomes of what lies in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Nothing may be there.
    Refuse,
    /// It is replaced.
    Replace,
    /// What is right already is left, and everything else replaced: a restore that was broken off goes on.
    Resume,
}

/// How much of a snapshot is restored.
#[derive(Clone, Copy)]
pub enum Pick<'a> {
    /// All of it.
    All,
    /// What fits.
    Globs(&'a PathGlobs),
    /// The paths from the first to just before the second, in their order.
    Range(&'a str, Option<&'a str>),
}

impl<'a> Pick<'a> {
    /// What fits; all, where there are no globs.
    pub fn fitting(globs: &'a PathGlobs) -> Self {
        if globs.is_empty() { Self::All } else { Self::Globs(globs) }
    }

    /// Whether a path is of it.
    pub fn takes(self, path: &str) -> bool {
        match self {
            Self::All => true,
            Self::Globs(globs) => globs.matches(path),
            Self::Range(from, to) => path >= from && to.is_none_or(|to| path < to),
        }
    }
}

/// What a restore did.
#[derive(Debug)]
pub struct FilesReport {
    /// Entries restored.
    pub entries: u64,
    /// Those of them that were there already.
    pub kept: u64,
    /// Bytes of files restored.
    pub restored_bytes: u64,
    /// Digest over the restored state, when all of it was asked for.
    pub tree_sha256: Option<Sha256>,
    /// Whether that digest is the attested one.
    pub tree_matches: Option<bool>,
    /// Files and links that lie in the target and are not of what was restored; counted only where something may be there.
    pub foreign: u64,
    /// What could not be restored.
    pub failed: Vec<Failed>,
    /// Sealed objects that were opened.
    pub objects_read: u64,
    /// Stored bytes of the segments among them.
    pub read_bytes: u64,
}

/// Where an entry of one segment lies in the spool.
struct Spooled {
    segment: u32,
    at: u64,
    length: u32,
}

/// A large file and its parts.
struct LargeFile {
    entry: Entry,
    file: Large,
    /// Set once a part is lost.
    broken: Mutex<bool>,
}

/// What to do with a member.
enum Use {
    Whole(Target, Option<u32>, Option<crate::vault::manifest::Mtime>),
    Part { large: usize, offset: u64 },
}

struct Run<'a> {
    job: &'a FilesJob<'a>,
    place: Place,
    failed: Mutex<Vec<Failed>>,
    entries: AtomicU64,
    kept: AtomicU64,
    bytes: AtomicU64,
    objects: AtomicU64,
    read_bytes: AtomicU64,
}

/// Restores a snapshot, or what of it is picked.
pub fn restore_files(job: &FilesJob<'_>) -> Result<FilesReport, RestoreError> {
    restore_tree(job, |visit| read_tree(job.ledger, job.identities, job.chain, job.run, visit))
}

/// Takes one entry of a state.
pub type Visit<'v> = &'v mut dyn FnMut(Entry) -> Result<(), RestoreError>;

/// Restores a state whose entries `read` gives, in the order of paths.
pub fn restore_tree(
    job: &FilesJob<'_>,
    read: impl FnOnce(Visit<'_>) -> Result<TreeInfo, RestoreError>,
) -> Result<FilesReport, RestoreError> {
    let place = Place::open(job.to, job.existing != Existing::Refuse)?;
    let run = Run {
        job,
        place,
        failed: Mutex::default(),
        entries: AtomicU64::new(0),
        kept: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        objects: AtomicU64::new(0),
        read_bytes: AtomicU64::new(0),
    };
    run.restore(read)
}

impl Run<'_> {
    fn fail(&self, failed: Failed) {
        if let Ok(mut list) = self.failed.lock() {
            list.push(failed);
        }
    }

    fn write_error(&self, operation: &'static str) -> impl Fn(io::Error) -> RestoreError + '_ {
        move |source| RestoreError::Write { operation, path: self.place.path().to_owned(), source }
    }

    fn restore(self, read: impl FnOnce(Visit<'_>) -> Result<TreeInfo, RestoreError>) -> Result<FilesReport, RestoreError> {
        let job = self.job;
        let failed_spool = self.write_error("write a temporary file in");
        let mut spool = BufWriter::with_capacity(1 << 18, tempfile::tempfile_in(job.to).map_err(&failed_spool)?);
        let (mut at, mut index) = (0u64, Vec::new());
        let (mut dirs, mut links, mut large) = (Vec::new(), Vec::new(), Vec::new());
        let mut last = LastParent::default();
        let (mut matched, mut leaves) = (0u64, 0u64);
        let info = read(&mut |entry| {
            if !job.pick.takes(&entry.path) {
                return Ok(());
            }
            matched += 1;
            leaves += u64::from(!matches!(entry.content, Content::Dir));
            if job.existing == Existing::Resume && self.there(&entry, &mut last) {
                return Ok(());
            }
            match &entry.content {
                Content::Dir => {
                    let made = Target::of(&entry.path).map_err(io::Error::other).and_then(|t| self.place.make_dir(&t, &mut last));
                    match made {
                        Ok(()) => {
                            self.entries.fetch_add(1, Ordering::Relaxed);
                            if entry.mode.is_some() || entry.mtime.is_some() {
                                dirs.push(entry);
                            }
                        }
                        Err(e) => self.fail(Failed::record(&entry.path, None, e.to_string())),
                    }
                }
                Content::Symlink { .. } => links.push(entry),
                Content::File { placement: Placement::Chunks(_), .. } => large.push(entry),
                Content::File { placement: Placement::Whole { segment, .. }, .. } => {
                    let record = postcard::to_stdvec(&entry).map_err(|e| failed_spool(io::Error::other(e)))?;
                    spool.write_all(&record).map_err(&failed_spool)?;
                    let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
                    index.push(Spooled { segment: *segment, at, length });
                    at += u64::from(length);
                }
            }
            Ok(())
        })?;
        let spool = spool.into_inner().map_err(|e| failed_spool(e.into_error()))?;
        self.objects.fetch_add(info.objects_read, Ordering::Relaxed);
        let manifests_whole = info.failed.is_empty();
        info.failed.into_iter().for_each(|f| self.fail(f));
        job.monitor.event(Event::Expect { records: matched, bytes: 0 });
        let large = self.begin_large(large);
        self.segments(&info.segments, &spool, index, &large)?;
        self.end_large(&large);
        let made: Vec<&Entry> = links.iter().filter(|link| self.link(link)).collect();
        // Where a link leads through others can be told only now.
        made.into_iter().filter(|_| !job.outside_links).for_each(|link| self.recall_link(link));
        // Children before parents, so that a directory's time is not touched again.
        for dir in dirs.iter().rev() {
            let done = Target::of(&dir.path).map_err(io::Error::other).and_then(|t| self.place.finish_dir(&t, dir.mode, dir.mtime));
            if let Err(e) = done {
                self.fail(Failed::record(&dir.path, None, e.to_string()));
            }
        }
        drop(failed_spool);
        let foreign = match job.existing {
            Existing::Refuse => 0,
            _ => count(job.to).map_err(self.write_error("list"))?.saturating_sub(leaves),
        };
        let mut failed = self.failed.into_inner().unwrap_or_default();
        failed.sort_by(|a, b| a.path.cmp(&b.path));
        let whole = matches!(job.pick, Pick::All) && failed.is_empty() && manifests_whole && foreign == 0;
        let matches = whole.then_some(info.attested_tree == Some(info.tree_sha256));
        if matches == Some(false) {
            let message = "the restored state's digest is not the attested one: a manifest is not what was attested".to_owned();
            failed.push(Failed { path: None, object: None, message });
        }
        Ok(FilesReport {
            entries: self.entries.into_inner(),
            kept: self.kept.into_inner(),
            restored_bytes: self.bytes.into_inner(),
            tree_sha256: whole.then_some(info.tree_sha256),
            tree_matches: matches,
            foreign,
            failed,
            objects_read: self.objects.into_inner(),
            read_bytes: self.read_bytes.into_inner(),
        })
    }

    /// Whether a file is there already, as it should be.
    fn there(&self, entry: &Entry, last: &mut LastParent) -> bool {
        let Content::File { sha256, size, .. } = &entry.content else { return false };
        let Ok(target) = Target::of(&entry.path) else { return false };
        let there = self.place.has_file(&target, (sha256, *size), entry.mode, entry.mtime, last);
        if there {
            self.entries.fetch_add(1, Ordering::Relaxed);
            self.kept.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(*size, Ordering::Relaxed);
            self.job.monitor.event(Event::Done { records: 1, bytes: *size });
        }
        there
    }

    fn begin_large(&self, entries: Vec<Entry>) -> Vec<LargeFile> {
        let mut out = Vec::new();
        for entry in entries {
            let Content::File { size, .. } = entry.content else { continue };
            let begun = Target::of(&entry.path).map_err(io::Error::other).and_then(|t| self.place.begin_large(&t, size));
            match begun {
                Ok(file) => out.push(LargeFile { entry, file, broken: Mutex::new(false) }),
                Err(e) => self.fail(Failed::record(&entry.path, None, e.to_string())),
            }
        }
        out
    }

    /// Opens each segment that is needed once.
    fn segments(
        &self,
        segments: &[(crate::vault::manifest::SegmentRef, u64)],
        spool: &File,
        mut index: Vec<Spooled>,
        large: &[LargeFile],
    ) -> Result<(), RestoreError> {
        let mut parts: HashMap<u32, Vec<(usize, usize, u64)>> = HashMap::new();
        for (l, file) in large.iter().enumerate() {
            let Content::File { placement: Placement::Chunks(chunks), .. } = &file.entry.content else { continue };
            let mut offset = 0;
            for (c, chunk) in chunks.iter().enumerate() {
                parts.entry(chunk.segment).or_default().push((l, c, offset));
                offset += chunk.size;
            }
        }
        index.sort_by_key(|s| (s.segment, s.at));
        let mut groups: Vec<(u32, std::ops::Range<usize>)> = Vec::new();
        for (n, spooled) in index.iter().enumerate() {
            match groups.last_mut() {
                Some((segment, range)) if *segment == spooled.segment => range.end = n + 1,
                _ => groups.push((spooled.segment, n..n + 1)),
            }
        }
        groups.extend(parts.keys().filter(|s| index.binary_search_by_key(s, |i| &i.segment).is_err()).map(|s| (*s, 0..0)));
        let walk = Walk { ledger: self.job.ledger, identities: self.job.identities, segments, threads: self.job.threads };
        walk.run(
            |give| {
                for (segment, range) in groups {
                    let wanted = self.wanted(spool, &index[range], parts.get(&segment), large)?;
                    self.objects.fetch_add(1, Ordering::Relaxed);
                    self.read_bytes.fetch_add(segments.get(segment as usize).map_or(0, |(_, size)| *size), Ordering::Relaxed);
                    if give(segment, wanted).is_err() {
                        break;
                    }
                }
                Ok(())
            },
            LastParent::default,
            |last, want, bytes| self.found(want, bytes, large, last),
            |failed| self.lose(failed, large),
        )
    }

    fn wanted(
        &self,
        spool: &File,
        entries: &[Spooled],
        parts: Option<&Vec<(usize, usize, u64)>>,
        large: &[LargeFile],
    ) -> Result<HashMap<String, Vec<Wanted<Use>>>, RestoreError> {
        let mut wanted: HashMap<String, Vec<Wanted<Use>>> = HashMap::with_capacity(entries.len());
        let mut record = Vec::new();
        for spooled in entries {
            record.resize(spooled.length as usize, 0);
            spool.read_exact_at(&mut record, spooled.at).map_err(self.write_error("read a temporary file in"))?;
            let entry: Entry =
                postcard::from_bytes(&record).map_err(|e| self.write_error("read a temporary file in")(io::Error::other(e)))?;
            let Content::File { sha256, size, placement: Placement::Whole { member, .. } } = entry.content else { continue };
            match Target::of(&entry.path) {
                Ok(target) => {
                    let tag = Use::Whole(target, entry.mode, entry.mtime);
                    let member = member.unwrap_or_else(|| entry.path.clone());
                    wanted.entry(member).or_default().push(Wanted { sha256, size, path: entry.path, tag });
                }
                Err(e) => self.fail(Failed::record(&entry.path, None, e.to_string())),
            }
        }
        for (l, c, offset) in parts.into_iter().flatten() {
            let entry = &large[*l].entry;
            let Content::File { placement: Placement::Chunks(chunks), .. } = &entry.content else { continue };
            let chunk = &chunks[*c];
            let tag = Use::Part { large: *l, offset: *offset };
            let want = Wanted { sha256: chunk.sha256, size: chunk.size, path: entry.path.clone(), tag };
            wanted.entry(chunk.member.clone()).or_default().push(want);
        }
        Ok(wanted)
    }

    fn found(&self, want: &Wanted<Use>, bytes: &[u8], large: &[LargeFile], last: &mut LastParent) -> Result<(), RestoreError> {
        let done = match &want.tag {
            Use::Whole(target, mode, mtime) => {
                let done = self.place.write_file(target, bytes, *mode, *mtime, last);
                if done.is_ok() {
                    self.entries.fetch_add(1, Ordering::Relaxed);
                    self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                }
                self.job.monitor.event(Event::Done { records: 1, bytes: bytes.len() as u64 });
                done
            }
            // Zeros stay a hole.
            Use::Part { .. } if bytes.iter().all(|b| *b == 0) => Ok(()),
            Use::Part { large: l, offset } => {
                self.job.monitor.event(Event::Done { records: 0, bytes: bytes.len() as u64 });
                large[*l].file.file.write_all_at(bytes, *offset)
            }
        };
        match done {
            Err(e) if e.kind() == io::ErrorKind::StorageFull => Err(self.write_error("write into")(e)),
            Err(e) => {
                self.lose(Failed::record(&want.path, None, e.to_string()), large);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// A record is lost; of a large file only the first loss is told.
    fn lose(&self, failed: Failed, large: &[LargeFile]) {
        let of_large = large.iter().find(|l| Some(&l.entry.path) == failed.path.as_ref());
        if let Some(file) = of_large
            && let Ok(mut broken) = file.broken.lock()
            && std::mem::replace(&mut *broken, true)
        {
            return;
        }
        self.fail(failed);
    }

    fn end_large(&self, large: &[LargeFile]) {
        for LargeFile { entry, file, broken } in large {
            let Content::File { sha256, size, .. } = &entry.content else { continue };
            let proved = || -> io::Result<()> {
                let mut hashed = HashingReader::new(ReadAt { file: &file.file, at: 0 });
                io::copy(&mut hashed, &mut io::sink())?;
                match hashed.finish() {
                    (digest, length) if digest == *sha256 && length == *size => self.place.finish_large(file, entry.mode, entry.mtime),
                    _ => Err(io::Error::other("its parts do not make the bytes that its manifest names")),
                }
            };
            let was_broken = broken.lock().map_or(true, |b| *b);
            match if was_broken { None } else { Some(proved()) } {
                Some(Ok(())) => {
                    self.entries.fetch_add(1, Ordering::Relaxed);
                    self.bytes.fetch_add(*size, Ordering::Relaxed);
                    self.job.monitor.event(Event::Done { records: 1, bytes: 0 });
                }
                Some(Err(e)) => {
                    self.place.drop_large(file);
                    self.fail(Failed::record(&entry.path, None, e.to_string()));
                }
                None => self.place.drop_large(file),
            }
        }
    }

    /// Whether the link was made.
    fn link(&self, entry: &Entry) -> bool {
        let Content::Symlink { target } = &entry.content else { return false };
        let made = || -> io::Result<()> {
            let mut raw = Vec::new();
            for (n, part) in target.split('/').enumerate() {
                if n > 0 {
                    raw.push(b'/');
                }
                match part {
                    "" | "." | ".." => raw.extend(part.as_bytes()),
                    _ => raw.extend(path::decode_component(part).map_err(io::Error::other)?),
                }
            }
            if !self.job.outside_links && path::leads_out(&entry.path, &raw) {
                return Err(io::Error::other(format!(
                    "it is a link that leads out of the target, to {target}; --outside-links makes it all the same"
                )));
            }
            let at = Target::of(&entry.path).map_err(io::Error::other)?;
            self.place.make_link(&at, &raw, entry.mtime)
        };
        let made = made();
        match &made {
            Ok(()) => {
                self.entries.fetch_add(1, Ordering::Relaxed);
            }
            Err(e) => self.fail(Failed::record(&entry.path, None, e.to_string())),
        }
        made.is_ok()
    }

    /// Takes a link away again that leads out of the target through other links.
    fn recall_link(&self, entry: &Entry) {
        let taken = Target::of(&entry.path).map_err(io::Error::other).and_then(|at| self.place.take_back_if_outside(&at));
        let message = match taken {
            Ok(false) => return,
            Ok(true) => "it is a link that leads out of the target through other links; --outside-links makes it all the same".to_owned(),
            Err(e) => format!("it is a link that leads out of the target through other links, and it cannot be taken away again: {e}"),
        };
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.fail(Failed::record(&entry.path, None, message));
    }
}

/// How many files and links lie below a directory.
fn count(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Ok(sum)
}

struct ReadAt<'a> {
    file: &'a File,
    at: u64,
}

impl Read for ReadAt<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buf, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}
