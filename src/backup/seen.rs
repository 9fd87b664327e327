//! Which events a stream has sealed: a cache by day of event time, so that what arrives late or changes
//! afterwards is told from what is sealed already.
//!
//! It is never the truth: it counts only while it belongs to the chain as it stands, it is written after the
//! commit, and losing it seals some events once more, which readers leave out.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use sha2::Digest as _;

use crate::source::import::EventKey;
use crate::store::Sha256;
use crate::vault::ChainView;

/// In place of an instant: every event that is sealed is known.
const ALWAYS: &str = "always";

/// An event's id and its bytes, each by the beginning of a digest.
pub(super) type Mark = [u8; 32];

/// What tells an event and its version.
pub(super) fn mark(key: &EventKey, line: &[u8]) -> Mark {
    let mut out = [0; 32];
    let bytes = sha2::Sha256::digest(line);
    match &key.id {
        Some(id) => out[..16].copy_from_slice(&sha2::Sha256::digest(id.as_bytes())[..16]),
        None => out[..16].copy_from_slice(&bytes[16..]),
    }
    out[16..].copy_from_slice(&bytes[..16]);
    out
}

/// The day of an instant, as files are named and keys are sorted.
pub(super) fn day_of(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

/// What a stream's cache knows.
pub(super) struct Seen {
    dir: PathBuf,
    /// The envelope after whose commit it was written, where that still stands on the chain.
    known: bool,
    /// From this event time on, every event that is sealed is known; `None`: of all times.
    complete_from: Option<Timestamp>,
}

impl Seen {
    /// Opens the cache of a stream whose chain is `view`; `head` is its newest export.
    pub fn open(dir: &Path, view: &ChainView, head: Option<&Sha256>) -> io::Result<Self> {
        let dir = dir.join("seen");
        fs::create_dir_all(&dir)?;
        let Some(head) = head else { return Ok(Self { dir, known: false, complete_from: None }) };
        let text = fs::read_to_string(dir.join("head")).unwrap_or_default();
        let (written, from) = text.trim().split_once(' ').unwrap_or((text.trim(), "never"));
        let written: Option<Sha256> = written.parse().ok();
        let known = written.is_some_and(|w| view.attested.iter().any(|a| a.sha256 == w));
        let complete_from = match from.parse() {
            // What another agent sealed since is not known here.
            _ if written.as_ref() != Some(head) => Some(Timestamp::MAX),
            Ok(at) => Some(at),
            Err(_) if from == ALWAYS => None,
            Err(_) => Some(Timestamp::MAX),
        };
        Ok(Self { dir, known, complete_from })
    }

    /// Whether an event from `start` on may be sealed without being known here; `None`: of any time.
    pub fn is_cold(&self, start: Option<Timestamp>) -> bool {
        match (self.complete_from, start) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(from), Some(start)) => start < from,
        }
    }

    fn file(&self, day: Date) -> PathBuf {
        self.dir.join(day.to_string())
    }

    /// The marks of one day, in order.
    fn marks(&self, day: Date) -> io::Result<Marks> {
        if !self.known {
            return Ok(Marks { file: None });
        }
        match File::open(self.file(day)) {
            Ok(file) => Ok(Marks { file: Some(BufReader::with_capacity(1 << 16, file)) }),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Marks { file: None }),
            Err(e) => Err(e),
        }
    }

    /// Begins to look events up, which must come in order of day and mark.
    pub fn look_up(&self) -> Lookup<'_> {
        Lookup { seen: self, day: None, pending: Vec::new() }
    }

    /// Makes what was looked up known, once it is sealed under the envelope `head`; forgets days before `oldest`.
    /// Every event from `start` on (`None`: of any time) is known now.
    pub fn keep(&self, files: Vec<Prepared>, head: &Sha256, start: Option<Timestamp>, oldest: Date) -> io::Result<()> {
        if !self.known {
            // What is here belongs to a chain that no longer is.
            for entry in fs::read_dir(&self.dir)?.flatten() {
                if !files.iter().any(|f| f.temporary.path().file_name() == Some(&entry.file_name())) {
                    fs::remove_file(entry.path())?;
                }
            }
        }
        for Prepared { day, temporary } in files {
            temporary.persist(self.file(day)).map_err(|e| e.error)?;
        }
        for entry in fs::read_dir(&self.dir)?.flatten() {
            let day = entry.file_name().to_str().and_then(|name| name.parse::<Date>().ok());
            if day.is_some_and(|day| day < oldest) {
                fs::remove_file(entry.path())?;
            }
        }
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        let complete = match (self.complete_from, start) {
            (Some(from), Some(start)) => from.min(start).to_string(),
            _ => ALWAYS.to_owned(),
        };
        file.write_all(format!("{head} {complete}\n").as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(self.dir.join("head")).map_err(|e| e.error)?;
        Ok(())
    }
}

/// Marks of one day from disk, in order.
struct Marks {
    file: Option<BufReader<File>>,
}

impl Marks {
    fn next(&mut self) -> io::Result<Option<Mark>> {
        let Some(file) = &mut self.file else { return Ok(None) };
        let mut mark = [0; 32];
        match file.read_exact(&mut mark) {
            Ok(()) => Ok(Some(mark)),
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// A day's new file, ready to be put in place.
pub(super) struct Prepared {
    day: Date,
    temporary: tempfile::NamedTempFile,
}

/// What is known of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing.
    New,
    /// Its id, with other bytes.
    Changed,
    /// It is sealed.
    Sealed,
}

/// A merge of events with what is known of their days.
pub(super) struct Lookup<'a> {
    seen: &'a Seen,
    day: Option<Day>,
    pending: Vec<Prepared>,
}

struct Day {
    day: Date,
    marks: Marks,
    next: Option<Mark>,
    out: BufWriter<tempfile::NamedTempFile>,
    /// Known marks of the id that is looked at.
    same_id: BTreeSet<Mark>,
    id: [u8; 16],
}

impl Day {
    /// Brings the known marks of an id together, writing what comes before them through.
    fn advance(&mut self, id: &[u8]) -> io::Result<()> {
        if self.id == *id {
            return Ok(());
        }
        self.flush()?;
        self.id.copy_from_slice(id);
        while let Some(mark) = self.next {
            match mark[..16].cmp(id) {
                std::cmp::Ordering::Less => self.out.write_all(&mark)?,
                std::cmp::Ordering::Equal => {
                    self.same_id.insert(mark);
                }
                std::cmp::Ordering::Greater => break,
            }
            self.next = self.marks.next()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        for mark in std::mem::take(&mut self.same_id) {
            self.out.write_all(&mark)?;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<Prepared> {
        self.flush()?;
        while let Some(mark) = self.next {
            self.out.write_all(&mark)?;
            self.next = self.marks.next()?;
        }
        let temporary = self.out.into_inner().map_err(|e| e.into_error())?;
        temporary.as_file().sync_all()?;
        Ok(Prepared { day: self.day, temporary })
    }
}

impl Lookup<'_> {
    /// Says what is known of an event, and knows it from now on.
    pub fn ask(&mut self, day: Date, mark: &Mark) -> io::Result<Known> {
        if self.day.as_ref().is_none_or(|d| d.day != day) {
            self.end_day()?;
            let mut marks = self.seen.marks(day)?;
            let next = marks.next()?;
            let out = BufWriter::with_capacity(1 << 16, tempfile::NamedTempFile::new_in(&self.seen.dir)?);
            // An id that no mark begins with: the first one asked for always advances.
            self.day = Some(Day { day, marks, next, out, same_id: BTreeSet::new(), id: [0; 16] });
        }
        let Some(current) = &mut self.day else { return Ok(Known::New) };
        current.advance(&mark[..16])?;
        let known = match current.same_id.is_empty() {
            true => Known::New,
            false => Known::Changed,
        };
        Ok(if current.same_id.insert(*mark) { known } else { Known::Sealed })
    }

    fn end_day(&mut self) -> io::Result<()> {
        if let Some(day) = self.day.take() {
            self.pending.push(day.finish()?);
        }
        Ok(())
    }

    /// The new files of every day that was asked for.
    pub fn finish(mut self) -> io::Result<Vec<Prepared>> {
        self.end_day()?;
        Ok(self.pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(id: &str, line: &str) -> Mark {
        mark(&EventKey { id: Some(id.into()), time: None }, line.as_bytes())
    }

    #[test]
    fn what_was_kept_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let day: Date = "2026-11-23".parse().unwrap();
        let seen = |known| Seen { dir: dir.path().to_owned(), known, complete_from: None };
        let head = Sha256::of(b"x");
        let mut marks: Vec<Mark> = (0..500).map(|n| of(&format!("id{n}"), "one")).collect();
        marks.sort_unstable();
        let first = seen(true);
        let mut lookup = first.look_up();
        assert!(marks.iter().all(|m| lookup.ask(day, m).unwrap() == Known::New));
        first.keep(lookup.finish().unwrap(), &head, None, day).unwrap();
        // Half of them again, half changed, some new.
        let mut again: Vec<(Mark, Known)> = (0..500)
            .map(|n| match n % 2 {
                0 => (of(&format!("id{n}"), "one"), Known::Sealed),
                _ => (of(&format!("id{n}"), "two"), Known::Changed),
            })
            .chain((500..510).map(|n| (of(&format!("id{n}"), "one"), Known::New)))
            .collect();
        again.sort_unstable_by_key(|(m, _)| *m);
        let second = seen(true);
        let mut lookup = second.look_up();
        for (mark, known) in &again {
            assert_eq!(lookup.ask(day, mark).unwrap(), *known);
        }
        second.keep(lookup.finish().unwrap(), &head, None, day).unwrap();
        let kept = fs::read(dir.path().join("2026-11-23")).unwrap();
        assert_eq!(kept.len(), 32 * (500 + 250 + 10));
        assert!(kept.chunks(32).is_sorted());
        // Of another chain, nothing is known, and the old days go.
        let other = seen(false);
        let mut lookup = other.look_up();
        assert_eq!(lookup.ask(day, &marks[0]).unwrap(), Known::New);
        other.keep(lookup.finish().unwrap(), &head, None, day).unwrap();
        assert_eq!(fs::read(dir.path().join("2026-11-23")).unwrap().len(), 32);
    }

    #[test]
    fn the_same_event_twice_in_one_reading_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let seen = Seen { dir: dir.path().to_owned(), known: true, complete_from: None };
        let mut lookup = seen.look_up();
        let day: Date = "2026-11-23".parse().unwrap();
        assert_eq!(lookup.ask(day, &of("a", "x")).unwrap(), Known::New);
        assert_eq!(lookup.ask(day, &of("a", "x")).unwrap(), Known::Sealed);
    }
}
