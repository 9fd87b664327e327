//! Manifests: what a snapshot contains, or what changed since the one before.
//!
//! NDJSON; the first line is the header, the others one entry each, ordered by the path's bytes.

use std::io::{BufRead, BufReader, Read, Write};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::attestation::{CollectionOutcome, SnapshotKind};
use super::names::{RunId, ShortName};
use crate::path::{self, PathProblem};
use crate::store::Sha256;

/// The longest line that is read, in bytes: that of a file of some hundred gigabytes.
const MAX_LINE: u64 = 128 << 20;
/// So many refused lines are told one by one; a manifest with more is read no further.
const MOST_REFUSED: u64 = 10_000;

/// The format's tag in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ManifestVersion {
    /// The first.
    #[serde(rename = "manifest/1")]
    One,
}

/// The first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Header {
    /// `manifest/1`.
    pub backstop: ManifestVersion,
    /// Base or delta.
    pub kind: SnapshotKind,
    /// The source.
    pub source: ShortName,
    /// The run.
    pub run: RunId,
    /// The run whose manifest lists everything.
    pub base: RunId,
    /// The snapshot before; null only in the first.
    pub previous_snapshot: Option<RunId>,
    /// Lines that follow.
    pub entries: u64,
    /// Paths in the state afterwards.
    pub total_entries: u64,
    /// Digest over the state afterwards.
    pub tree_sha256: Sha256,
    /// The collections.
    pub collections: Vec<HeaderCollection>,
    /// The segments that the lines name by number.
    pub segments: Vec<SegmentRef>,
}

/// A collection in a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderCollection {
    /// Its name.
    pub name: String,
    /// What its paths begin with.
    pub prefix: String,
    /// How its capture ended.
    pub outcome: CollectionOutcome,
    /// When what is in the snapshot was read.
    pub as_of: Option<Timestamp>,
    /// Since when nothing of it could be captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent_since: Option<Timestamp>,
}

/// A segment in a header's table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SegmentRef {
    /// Logical name.
    pub name: String,
    /// Identity.
    pub sha256: Sha256,
}

/// Which member of which segment holds some bytes. The segment is a number in a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Number in the table.
    pub segment: u32,
    /// Name of the tar member.
    pub member: String,
    /// Digest of the plain bytes.
    pub sha256: Sha256,
    /// Plain bytes.
    pub size: u64,
}

/// Where a file's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// One member.
    Whole {
        /// Number in the table.
        segment: u32,
        /// The member's name where it differs from the path.
        member: Option<String>,
    },
    /// Several members, in order.
    Chunks(Vec<Chunk>),
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// A file.
    File {
        /// Digest of the plain bytes.
        sha256: Sha256,
        /// Plain bytes.
        size: u64,
        /// Where they are.
        placement: Placement,
    },
    /// A directory.
    Dir,
    /// A symbolic link, percent-encoded as paths are, slashes apart.
    Symlink {
        /// Where it leads.
        target: String,
    },
}

/// A point in time with nanoseconds, as file systems keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mtime {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds.
    pub nanos: u32,
}

impl Mtime {
    /// RFC 3339 with all nine digits, as manifests and tree digests spell it.
    pub fn text(self) -> String {
        let nanos = i32::try_from(self.nanos).unwrap_or(0);
        format!("{:.9}", Timestamp::new(self.seconds, nanos).unwrap_or(Timestamp::UNIX_EPOCH))
    }

    fn of(timestamp: Timestamp) -> Self {
        // A timestamp before 1970 has a negative fraction; file systems count it forward.
        let total = timestamp.as_nanosecond();
        let seconds = i64::try_from(total.div_euclid(1_000_000_000)).unwrap_or(0);
        Self { seconds, nanos: u32::try_from(total.rem_euclid(1_000_000_000)).unwrap_or(0) }
    }
}

/// One path of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The encoded path.
    pub path: String,
    /// What stands there.
    pub content: Content,
    /// Permission bits, for evidence.
    pub mode: Option<u32>,
    /// Modification time, for evidence.
    pub mtime: Option<Mtime>,
}

/// One line of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// The path as it now is.
    Entry(Entry),
    /// The path is gone.
    Deleted(String),
}

impl Line {
    /// The path that the line is about.
    pub fn path(&self) -> &str {
        match self {
            Self::Entry(entry) => &entry.path,
            Self::Deleted(path) => path,
        }
    }
}

#[derive(Serialize, Deserialize, Default)]
struct RawLine<'a> {
    #[serde(borrow)]
    path: std::borrow::Cow<'a, str>,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    kind: Option<RawKind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Sha256>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    segment: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    member: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chunks: Option<Vec<Chunk>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtime: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleted: Option<bool>,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum RawKind {
    File,
    Dir,
    Symlink,
}

/// Appends an entry's line. Segment numbers are passed through `table`, from the writer's to this manifest's.
pub fn write_entry(out: &mut Vec<u8>, entry: &Entry, mut table: impl FnMut(u32) -> u32) {
    let mut raw = RawLine { path: entry.path.as_str().into(), ..RawLine::default() };
    match &entry.content {
        Content::File { sha256, size, placement } => {
            raw.kind = Some(RawKind::File);
            raw.sha256 = Some(*sha256);
            raw.size = Some(*size);
            match placement {
                Placement::Whole { segment, member } => {
                    raw.segment = Some(table(*segment));
                    raw.member = member.as_deref().map(Into::into);
                }
                Placement::Chunks(chunks) => {
                    let renumbered = chunks.iter().map(|c| Chunk { segment: table(c.segment), ..c.clone() });
                    raw.chunks = Some(renumbered.collect());
                }
            }
        }
        Content::Dir => raw.kind = Some(RawKind::Dir),
        Content::Symlink { target } => {
            raw.kind = Some(RawKind::Symlink);
            raw.target = Some(target.as_str().into());
        }
    }
    raw.mode = entry.mode.map(|mode| format!("{mode:04o}").into());
    raw.mtime = entry.mtime.map(|mtime| mtime.text().into());
    let _ = serde_json::to_writer(&mut *out, &raw);
    out.push(b'\n');
}

/// Appends the line of a path that is gone.
pub fn write_deleted(out: &mut Vec<u8>, path: &str) {
    let raw = RawLine { path: path.into(), deleted: Some(true), ..RawLine::default() };
    let _ = serde_json::to_writer(&mut *out, &raw);
    out.push(b'\n');
}

/// Why one line is refused.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the manifest's entry {shown:?} is refused: {reason}")]
pub struct LineProblem {
    /// The path, as far as it can be told and shown.
    pub shown: String,
    /// Why.
    pub reason: String,
}

fn parse_line(text: &[u8], segments: usize) -> Result<Line, LineProblem> {
    let raw: RawLine<'_> = serde_json::from_slice(text)
        .map_err(|e| LineProblem { shown: String::from_utf8_lossy(&text[..text.len().min(80)]).into_owned(), reason: e.to_string() })?;
    let shown: String = raw.path.chars().take(200).collect();
    let refuse = |reason: String| LineProblem { shown: shown.clone(), reason };
    path::check(&raw.path).map_err(|e: PathProblem| refuse(e.to_string()))?;
    let path = raw.path.clone().into_owned();
    if raw.deleted == Some(true) {
        return Ok(Line::Deleted(path));
    }
    let in_table = |n: u32| (n as usize) < segments;
    let content = match raw.kind {
        Some(RawKind::File) => {
            let (Some(sha256), Some(size)) = (raw.sha256, raw.size) else {
                return Err(refuse("it has no digest or size".into()));
            };
            let placement = match (raw.segment, raw.chunks) {
                (Some(segment), None) if in_table(segment) => {
                    Placement::Whole { segment, member: raw.member.map(std::borrow::Cow::into_owned) }
                }
                (None, Some(chunks)) if chunks.iter().all(|c| in_table(c.segment)) => {
                    let total = chunks.iter().try_fold(0u64, |sum, c| sum.checked_add(c.size));
                    if total != Some(size) {
                        return Err(refuse("its chunks do not add up to its size".into()));
                    }
                    Placement::Chunks(chunks)
                }
                _ => return Err(refuse("it names no segment of the table".into())),
            };
            Content::File { sha256, size, placement }
        }
        Some(RawKind::Dir) => Content::Dir,
        Some(RawKind::Symlink) => match raw.target {
            Some(target) => Content::Symlink { target: target.into_owned() },
            None => return Err(refuse("it is a link without a target".into())),
        },
        None => return Err(refuse("it has no type".into())),
    };
    let mode = match raw.mode {
        Some(text) => Some(u32::from_str_radix(&text, 8).map_err(|_| refuse(format!("{text:?} is not a mode")))? & 0o7777),
        None => None,
    };
    let mtime = match raw.mtime {
        Some(text) => Some(Mtime::of(text.parse().map_err(|_| refuse(format!("{text:?} is not an instant")))?)),
        None => None,
    };
    Ok(Line::Entry(Entry { path, content, mode, mtime }))
}

/// Why a manifest cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Reading failed.
    #[error("the manifest cannot be read")]
    Read(#[source] std::io::Error),
    /// There is no header of this format.
    #[error("the manifest's header is not one of this format: {0}")]
    Header(String),
    /// It is hardly a manifest.
    #[error("more than {MOST_REFUSED} of the manifest's lines are refused, and it is read no further")]
    Refused,
}

/// Reads a manifest line by line.
pub struct ManifestReader<R: Read> {
    input: BufReader<R>,
    header: Header,
    line: Vec<u8>,
    read: u64,
    last: String,
    /// Lengths of those beginnings of `last` at which something stands that is no directory.
    leaves: Vec<usize>,
    refused: u64,
}

impl<R: Read> ManifestReader<R> {
    /// Reads the header.
    pub fn new(payload: R) -> Result<Self, ManifestError> {
        let mut input = BufReader::with_capacity(1 << 16, payload);
        let mut line = Vec::new();
        read_line(&mut input, &mut line).map_err(ManifestError::Read)?;
        let header = serde_json::from_slice(&line).map_err(|e| ManifestError::Header(e.to_string()))?;
        Ok(Self { input, header, line, read: 0, last: String::new(), leaves: Vec::new(), refused: 0 })
    }

    /// The first line.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next line; a refused line does not end the manifest. `None` at its end.
    pub fn next_line(&mut self) -> Result<Option<Result<Line, LineProblem>>, ManifestError> {
        let n = read_line(&mut self.input, &mut self.line).map_err(ManifestError::Read)?;
        let said = self.header.entries;
        if n == 0 {
            if self.read < said {
                let missing =
                    LineProblem { shown: String::new(), reason: format!("{} lines follow the header, which says {said}", self.read) };
                self.read = said;
                return Ok(Some(Err(missing)));
            }
            return Ok(None);
        }
        self.read += 1;
        if self.read > said {
            return Err(ManifestError::Header(format!("more lines follow than the {said} that it says")));
        }
        let parsed = parse_line(&self.line, self.header.segments.len()).and_then(|line| self.in_order(line));
        if parsed.is_err() {
            self.refused += 1;
            if self.refused > MOST_REFUSED {
                return Err(ManifestError::Refused);
            }
        }
        Ok(Some(parsed))
    }

    /// A line must come after the one before it, and no entry lies below what is no directory.
    fn in_order(&mut self, line: Line) -> Result<Line, LineProblem> {
        let path = line.path();
        let refuse = |reason: String| LineProblem { shown: path.to_owned(), reason };
        if path <= self.last.as_str() && self.read > 1 {
            return Err(refuse("it does not come after the line before it".into()));
        }
        let shared = path.bytes().zip(self.last.bytes()).take_while(|(a, b)| a == b).count();
        self.leaves.retain(|length| *length <= shared);
        let above = self.leaves.iter().find(|length| path.as_bytes().get(**length) == Some(&b'/')).copied();
        self.last.clear();
        self.last.push_str(path);
        match &line {
            Line::Entry(_) if above.is_some() => {
                let above: String = path[..above.unwrap_or(0)].chars().take(200).collect();
                return Err(refuse(format!("it lies below {above}, which is no directory")));
            }
            Line::Entry(Entry { content: Content::File { .. } | Content::Symlink { .. }, .. }) => self.leaves.push(path.len()),
            _ => {}
        }
        Ok(line)
    }
}

fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<usize> {
    line.clear();
    let n = input.take(MAX_LINE).read_until(b'\n', line)?;
    if n as u64 == MAX_LINE {
        return Err(std::io::Error::other("a line is longer than 128 MiB"));
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(n)
}

/// Computes `tree_sha256`: over all current entries, in path order,
/// `path NUL type NUL sha256-or-target NUL mode NUL mtime LF`, empty where absent.
#[derive(Default)]
pub struct TreeHasher {
    hasher: sha2::Sha256,
    buffer: Vec<u8>,
    entries: u64,
}

impl TreeHasher {
    /// Adds the next entry in path order.
    pub fn add(&mut self, entry: &Entry) {
        let out = &mut self.buffer;
        out.extend_from_slice(entry.path.as_bytes());
        match &entry.content {
            Content::File { sha256, .. } => {
                out.extend_from_slice(b"\0file\0");
                out.extend_from_slice(&sha256.hex());
            }
            Content::Dir => out.extend_from_slice(b"\0dir\0"),
            Content::Symlink { target } => {
                out.extend_from_slice(b"\0symlink\0");
                out.extend_from_slice(target.as_bytes());
            }
        }
        out.push(0);
        if let Some(mode) = entry.mode {
            let _ = write!(out, "{mode:04o}");
        }
        out.push(0);
        if let Some(mtime) = entry.mtime {
            let _ = out.write_all(mtime.text().as_bytes());
        }
        out.push(b'\n');
        self.entries += 1;
        if out.len() > 1 << 15 {
            self.hasher.update(&self.buffer);
            self.buffer.clear();
        }
    }

    /// How many entries were added.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The digest.
    pub fn finish(mut self) -> Sha256 {
        self.hasher.update(&self.buffer);
        Sha256::finish(self.hasher)
    }
}
