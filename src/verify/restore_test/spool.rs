//! Entries on disk, in the order in which they were added.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::vault::manifest::Entry;

/// Entries, each with its length before it: quicker to read again than manifests.
pub struct Spool(BufWriter<File>);

impl Spool {
    /// An empty one, in an unnamed file of a directory.
    pub fn new(scratch: &Path) -> io::Result<Self> {
        Ok(Self(BufWriter::with_capacity(1 << 18, tempfile::tempfile_in(scratch)?)))
    }

    /// Adds one.
    pub fn add(&mut self, entry: &Entry) -> io::Result<()> {
        let record = postcard::to_stdvec(entry).map_err(io::Error::other)?;
        self.0.write_all(&u32::try_from(record.len()).map_err(io::Error::other)?.to_le_bytes())?;
        self.0.write_all(&record)
    }

    /// Nothing is added any more.
    pub fn finish(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    /// Gives every entry, as they were added.
    pub fn entries(&self) -> Entries<'_> {
        Entries { file: BufReader::with_capacity(1 << 18, ReadAt { file: self.0.get_ref(), at: 0 }), record: Vec::new() }
    }
}

/// See [`Spool::entries`].
pub struct Entries<'a> {
    file: BufReader<ReadAt<'a>>,
    record: Vec<u8>,
}

impl Iterator for Entries<'_> {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut length = [0; 4];
        match self.file.read_exact(&mut length) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return None,
            Err(e) => return Some(Err(e)),
            Ok(()) => {}
        }
        self.record.resize(u32::from_le_bytes(length) as usize, 0);
        let read = self.file.read_exact(&mut self.record);
        Some(read.and_then(|()| postcard::from_bytes(&self.record).map_err(io::Error::other)))
    }
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
