//! Buffers for the blocks of an upload, used again and again: a fresh one of 8 MiB costs 2,048 page faults.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use azure_core::Bytes;

/// As many buffers as blocks were ever under way at once.
#[derive(Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A filled buffer, given back when the last who looks at it is done.
struct Lent {
    bytes: Vec<u8>,
    length: usize,
    home: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Buffers {
    /// `length` bytes of `file` from `offset` on.
    pub(super) fn read(&self, file: &File, offset: u64, length: usize) -> std::io::Result<Bytes> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut bytes = free.unwrap_or_default();
        if bytes.len() < length {
            bytes.resize(length, 0);
        }
        let mut lent = Lent { bytes, length, home: Arc::clone(&self.0) };
        file.read_exact_at(&mut lent.bytes[..length], offset)?;
        Ok(Bytes::from_owner(lent))
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_serves_again_once_nobody_looks_and_never_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, b"abcdefgh").unwrap();
        let (file, buffers) = (File::open(&path).unwrap(), Buffers::default());
        let first = buffers.read(&file, 0, 5).unwrap();
        let twin = first.clone();
        let second = buffers.read(&file, 3, 3).unwrap();
        assert_eq!((&first[..], &second[..]), (&b"abcde"[..], &b"def"[..]));
        drop(first);
        let third = buffers.read(&file, 6, 2).unwrap();
        assert_eq!((&twin[..], &third[..]), (&b"abcde"[..], &b"gh"[..]));
        let place = twin.as_ptr();
        drop(twin);
        let fourth = buffers.read(&file, 0, 2).unwrap();
        assert_eq!((&fourth[..], fourth.as_ptr()), (&b"ab"[..], place));
        assert!(buffers.read(&file, 7, 2).is_err(), "the file ends before");
    }
}
