//! Sorting more than fits into memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Sorts records of key and value by key; memory is the budget and some buffers.
pub(crate) struct Sorter {
    directory: PathBuf,
    budget: usize,
    bytes: Vec<u8>,
    index: Vec<(usize, u32, u32)>,
    runs: Vec<BufReader<File>>,
}

type Record = (Vec<u8>, Vec<u8>);

impl Sorter {
    /// Spills into unnamed files of `directory` beyond `budget` bytes.
    pub fn new(directory: &Path, budget: usize) -> Self {
        Self { directory: directory.to_owned(), budget, bytes: Vec::new(), index: Vec::new(), runs: Vec::new() }
    }

    pub fn push(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let length = |n: usize| u32::try_from(n).map_err(io::Error::other);
        self.index.push((self.bytes.len(), length(key.len())?, length(value.len())?));
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        if self.bytes.len() + self.index.len() * 16 >= self.budget { self.spill() } else { Ok(()) }
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        let key = |(at, key, _): &(usize, u32, u32)| &bytes[*at..at + *key as usize];
        self.index.sort_by(|a, b| key(a).cmp(key(b)));
    }

    fn spill(&mut self) -> io::Result<()> {
        self.sort();
        let mut out = BufWriter::with_capacity(1 << 18, tempfile::tempfile_in(&self.directory)?);
        for (at, key, value) in self.index.drain(..) {
            out.write_all(&key.to_le_bytes())?;
            out.write_all(&value.to_le_bytes())?;
            out.write_all(&self.bytes[at..at + (key + value) as usize])?;
        }
        self.bytes.clear();
        let mut file = out.into_inner().map_err(|e| e.into_error())?;
        file.rewind()?;
        self.runs.push(BufReader::with_capacity(1 << 16, file));
        Ok(())
    }

    /// Gives every record in order of key; equal keys in the order in which they came.
    pub fn finish(mut self, mut each: impl FnMut(&[u8], &[u8]) -> io::Result<()>) -> io::Result<()> {
        if self.runs.is_empty() {
            self.sort();
            for (at, key, value) in &self.index {
                let middle = at + *key as usize;
                each(&self.bytes[*at..middle], &self.bytes[middle..middle + *value as usize])?;
            }
            return Ok(());
        }
        self.spill()?;
        (self.bytes, self.index) = (Vec::new(), Vec::new());
        let mut heap = BinaryHeap::new();
        for (n, run) in self.runs.iter_mut().enumerate() {
            if let Some((key, value)) = read(run)? {
                heap.push(Reverse((key, n, value)));
            }
        }
        while let Some(Reverse((key, n, value))) = heap.pop() {
            each(&key, &value)?;
            if let Some((key, value)) = read(&mut self.runs[n])? {
                heap.push(Reverse((key, n, value)));
            }
        }
        Ok(())
    }
}

fn read(run: &mut BufReader<File>) -> io::Result<Option<Record>> {
    let mut lengths = [0; 8];
    match run.read_exact(&mut lengths) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let of = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize;
    let (mut key, mut value) = (vec![0; of(&lengths[..4])], vec![0; of(&lengths[4..])]);
    run.read_exact(&mut key)?;
    run.read_exact(&mut value)?;
    Ok(Some((key, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_the_same_in_memory_and_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let records: Vec<([u8; 2], u32)> = (0..5000u32).map(|n| ([(n * 7919 % 251) as u8, (n % 3) as u8], n)).collect();
        let mut expected = records.clone();
        expected.sort_by_key(|r| r.0);
        for budget in [usize::MAX, 1000] {
            let mut sorter = Sorter::new(dir.path(), budget);
            for (key, n) in &records {
                sorter.push(key, &n.to_le_bytes()).unwrap();
            }
            let mut out = Vec::new();
            sorter
                .finish(|key, value| {
                    out.push(([key[0], key[1]], u32::from_le_bytes(value.try_into().unwrap())));
                    Ok(())
                })
                .unwrap();
            assert_eq!(out, expected);
        }
    }
}
