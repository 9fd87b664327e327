//! The local state: what each path's bytes were, and where they are. A cache and never the truth.
//!
//! A state belongs to one head of one chain. It is written beside the old one and renamed over it after
//! the commit; a state that is torn, damaged or of another head is thrown away, which costs one base and
//! not one byte of data.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::store::{HashingReader, Sha256};
use crate::vault::manifest::{Entry, SegmentRef};
use crate::vault::names::RunId;

const MAGIC: &[u8; 8] = b"bkstate2";
const MAX_RECORD: u32 = 512 << 20;
/// A lock that another run has is tried again so often, so long apart.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(30);

/// What a state says before its entries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateHeader {
    /// The vault.
    pub vault: String,
    /// Digest of the envelope that committed this state.
    pub head: Sha256,
    /// The snapshot.
    pub run: RunId,
    /// The epoch's first instant.
    pub epoch_start: Timestamp,
    /// The container's logical name.
    pub container: String,
    /// The recipients' fingerprint.
    pub recipients: Sha256,
    /// The base.
    pub base: RunId,
    /// When the base was captured.
    pub base_captured: Timestamp,
    /// Lines of all manifests since the base.
    pub lines_since_base: u64,
    /// Entries in this state.
    pub entries: u64,
    /// Base and delta manifests that the state needs.
    pub manifests: Vec<SegmentRef>,
    /// The segments that entries name by number.
    pub segments: Vec<StateSegment>,
}

/// A segment in a state's table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateSegment {
    /// Which.
    pub object: SegmentRef,
    /// The run whose attestation names it.
    pub run: RunId,
}

/// One entry with what tells cheaply that it is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateEntry {
    /// The entry; its segments are numbers in the header's table.
    pub entry: Entry,
    /// The source's fingerprint.
    pub fingerprint: Option<[u8; 16]>,
}

/// Writes records, each with its length, and a digest at the end.
pub struct RecordWriter<W: Write> {
    out: W,
    hasher: sha2::Sha256,
    buffer: Vec<u8>,
}

impl<W: Write> RecordWriter<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> io::Result<Self> {
        let mut writer = Self { out, hasher: sha2::Sha256::new(), buffer: Vec::new() };
        writer.out.write_all(MAGIC)?;
        Ok(writer)
    }

    /// Adds one record.
    pub fn push<T: Serialize>(&mut self, record: &T) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.extend_from_slice(&[0; 4]);
        self.buffer = postcard::to_extend(record, std::mem::take(&mut self.buffer)).map_err(io::Error::other)?;
        let length = u32::try_from(self.buffer.len() - 4).map_err(io::Error::other)?;
        self.buffer[..4].copy_from_slice(&length.to_le_bytes());
        self.hasher.update(&self.buffer);
        self.out.write_all(&self.buffer)
    }

    /// Ends the file.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&u32::MAX.to_le_bytes())?;
        self.out.write_all(&Sha256::finish(self.hasher).0)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Reads what [`RecordWriter`] wrote.
pub struct RecordReader<R: Read> {
    input: R,
    buffer: Vec<u8>,
}

impl<R: Read> RecordReader<R> {
    /// Reads from `input`.
    pub fn new(mut input: R) -> io::Result<Self> {
        let mut magic = [0; 8];
        input.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(io::Error::other("not a state file of this version"));
        }
        Ok(Self { input, buffer: Vec::new() })
    }

    /// The next record; `None` at the end.
    pub fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut length = [0; 4];
        self.input.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length == u32::MAX {
            return Ok(None);
        }
        if length > MAX_RECORD {
            return Err(io::Error::other("a record of the state is too long"));
        }
        self.buffer.resize(length as usize, 0);
        self.input.read_exact(&mut self.buffer)?;
        postcard::from_bytes(&self.buffer).map(Some).map_err(io::Error::other)
    }
}

/// Whether a file of records is whole.
pub(super) fn is_whole(path: &Path) -> io::Result<bool> {
    let length = fs::metadata(path)?.len();
    let Some(body) = length.checked_sub(8 + 4 + 32) else { return Ok(false) };
    let mut file = BufReader::with_capacity(1 << 18, File::open(path)?);
    file.read_exact(&mut [0; 8])?;
    let mut hashed = HashingReader::new(file.by_ref().take(body));
    io::copy(&mut hashed, &mut io::sink())?;
    let (digest, _) = hashed.finish();
    let mut end = [0; 36];
    file.read_exact(&mut end)?;
    Ok(end[..4] == u32::MAX.to_le_bytes() && end[4..] == digest.0)
}

/// The state of one source, read entry by entry in path order.
pub struct State {
    header: StateHeader,
    records: RecordReader<BufReader<File>>,
}

impl State {
    /// Opens a state; `None` when there is none or it cannot be trusted.
    pub fn open(path: &Path) -> Option<Self> {
        if !is_whole(path).unwrap_or(false) {
            return None;
        }
        let mut records = RecordReader::new(BufReader::with_capacity(1 << 18, File::open(path).ok()?)).ok()?;
        let header = records.next().ok()??;
        Some(Self { header, records })
    }

    /// What it says before its entries.
    pub fn header(&self) -> &StateHeader {
        &self.header
    }

    /// The next entry.
    pub fn next_entry(&mut self) -> io::Result<Option<StateEntry>> {
        self.records.next()
    }
}

/// Where the state of one source is kept.
#[derive(Debug, Clone)]
pub struct StateDir {
    dir: PathBuf,
}

impl StateDir {
    /// Below a state directory, by vault and source; made if absent.
    pub fn open(root: &Path, vault: &str, source: &str) -> io::Result<Self> {
        let dir = root.join(vault).join(source);
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The committed state.
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// What the run under way has sealed.
    pub fn journal(&self) -> PathBuf {
        self.dir.join("journal")
    }

    /// What interrupted runs sealed.
    pub fn salvage(&self) -> PathBuf {
        self.dir.join("salvage")
    }

    /// Takes the state directory for one run; `None` when another run of this machine has it.
    pub fn lock(&self) -> io::Result<Option<File>> {
        let file = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("lock"))?;
        for _ in 0..LOCK_TRIES {
            match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(file)),
                // Between a fork and its exec, a child of whoever had it just now has it too.
                Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(None)
    }

    /// Throws the committed state away: the next snapshot is a base.
    pub fn discard(&self) -> io::Result<()> {
        remove(&self.state())
    }

    /// Forgets what interrupted runs left.
    pub fn forget_journals(&self) -> io::Result<()> {
        remove(&self.journal())?;
        remove(&self.salvage())
    }
}

/// Removes a file that may be absent.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The entries of a state that is being made, in an unnamed file until the run is committed.
pub struct StateSpool {
    records: BufWriter<File>,
    buffer: Vec<u8>,
}

impl StateSpool {
    /// A spool in `dir`.
    pub fn new(dir: &StateDir) -> io::Result<Self> {
        Ok(Self { records: BufWriter::with_capacity(1 << 18, tempfile::tempfile_in(&dir.dir)?), buffer: Vec::new() })
    }

    /// Adds the next entry in path order.
    pub fn push(&mut self, entry: &StateEntry) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.extend_from_slice(&[0; 4]);
        self.buffer = postcard::to_extend(entry, std::mem::take(&mut self.buffer)).map_err(io::Error::other)?;
        let length = u32::try_from(self.buffer.len() - 4).map_err(io::Error::other)?;
        self.buffer[..4].copy_from_slice(&length.to_le_bytes());
        self.records.write_all(&self.buffer)
    }

    /// Puts header and entries in place of the old state.
    pub fn commit(self, dir: &StateDir, header: &StateHeader) -> io::Result<()> {
        let mut entries = self.records.into_inner().map_err(|e| e.into_error())?;
        io::Seek::seek(&mut entries, io::SeekFrom::Start(0))?;
        let temporary = dir.dir.join("state.new");
        let mut out = RecordWriter::new(BufWriter::with_capacity(1 << 18, File::create(&temporary)?))?;
        out.push(header)?;
        let mut chunk = vec![0; 1 << 18];
        loop {
            let n = entries.read(&mut chunk)?;
            if n == 0 {
                break;
            }
            out.hasher.update(&chunk[..n]);
            out.out.write_all(&chunk[..n])?;
        }
        let file = out.finish()?.into_inner().map_err(|e| e.into_error())?;
        file.sync_all()?;
        fs::rename(&temporary, dir.state())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::manifest::Content;

    fn header() -> StateHeader {
        let at = Timestamp::UNIX_EPOCH;
        let run = RunId::new(at);
        let digest = Sha256::of(b"x");
        StateHeader {
            vault: "v".into(),
            head: digest,
            run,
            epoch_start: at,
            container: "evidence".into(),
            recipients: digest,
            base: run,
            base_captured: at,
            lines_since_base: 0,
            entries: 2,
            manifests: vec![],
            segments: vec![],
        }
    }

    #[test]
    fn every_torn_or_flipped_state_is_thrown_away() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::open(root.path(), "v", "s").unwrap();
        let mut spool = StateSpool::new(&dir).unwrap();
        for path in ["a", "b"] {
            let entry = Entry { path: path.into(), content: Content::Dir, mode: None, mtime: None };
            spool.push(&StateEntry { entry, fingerprint: Some([1; 16]) }).unwrap();
        }
        let written = header();
        spool.commit(&dir, &written).unwrap();
        let mut state = State::open(&dir.state()).unwrap();
        assert_eq!(*state.header(), written);
        assert_eq!(state.next_entry().unwrap().unwrap().entry.path, "a");
        assert_eq!(state.next_entry().unwrap().unwrap().entry.path, "b");
        assert!(state.next_entry().unwrap().is_none());
        let good = fs::read(dir.state()).unwrap();
        for at in 0..good.len() {
            fs::write(dir.state(), &good[..at]).unwrap();
            assert!(State::open(&dir.state()).is_none(), "cut at {at}");
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(dir.state(), &bad).unwrap();
            assert!(State::open(&dir.state()).is_none(), "flipped {at}");
        }
    }
}
