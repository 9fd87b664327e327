//! Segments of a snapshot: a pax tar whose member names are the records' own paths.

use std::io::Read;

use crate::path;
use crate::store::Sha256;

/// A file larger than this is split into chunks, in bytes.
pub const CHUNKED_ABOVE: u64 = 8 << 20;
/// FastCDC's smallest, average and largest chunk, in bytes.
pub const CHUNK_SIZES: (usize, usize, usize) = (1 << 20, 2 << 20, 8 << 20);
/// No reader takes a larger member into memory, in bytes; no writer makes one of more than 8 MiB.
pub const LARGEST_MEMBER: u64 = 16 << 20;
const BLOCK: usize = 512;

/// What the names of the members that hold a large file's parts begin with; a number of six digits follows.
pub fn parts_prefix(record_path: &str) -> String {
    format!("{}parts/{}/", path::RESERVED, Sha256::of(record_path.as_bytes()))
}

/// Appends a member's header, for `size` bytes that follow.
pub fn append_header(out: &mut Vec<u8>, name: &str, size: u64) {
    let short = name.len() <= 100 && name.is_ascii();
    if !short {
        let record = pax_record("path", name);
        let mut header = template();
        let _ = header.set_path("pax");
        header.set_entry_type(tar::EntryType::XHeader);
        put(out, header, record.len() as u64);
        out.extend_from_slice(record.as_bytes());
        pad(out, record.len());
    }
    let mut header = template();
    let field = &mut header.as_mut_bytes()[..100];
    let shown = if short { name.as_bytes() } else { b"long-name" };
    field[..shown.len()].copy_from_slice(shown);
    put(out, header, size);
}

/// Writes the size into a header block that was appended before the size was known.
pub fn set_size(block: &mut [u8], size: u64) {
    let mut header = tar::Header::new_ustar();
    if let Some(bytes) = block.first_chunk::<512>() {
        header.as_mut_bytes().copy_from_slice(bytes);
        header.set_size(size);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
    }
}

/// Appends the zero bytes that fill a member's last block.
pub fn pad(out: &mut Vec<u8>, size: usize) {
    out.resize(out.len() + (BLOCK - size % BLOCK) % BLOCK, 0);
}

/// Appends the two empty blocks that end a tar.
pub fn append_end(out: &mut Vec<u8>) {
    out.resize(out.len() + 2 * BLOCK, 0);
}

fn template() -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header
}

fn put(out: &mut Vec<u8>, mut header: tar::Header, size: u64) {
    header.set_size(size);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
}

/// `LEN KEY=VALUE LF`, where LEN counts itself.
fn pax_record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

/// Why a segment could not be read on.
#[derive(Debug, thiserror::Error)]
#[error("the segment's tar cannot be read")]
pub struct SegmentError(#[from] std::io::Error);

/// What a visitor wants of the members that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continue {
    /// Go on.
    Yes,
    /// Nothing more is needed.
    Enough,
}

/// Visits each member's name, declared size and bytes, in order.
///
/// Only regular members reach the visitor as `Some`; of links, devices and the like it learns the name and
/// gets `None`. No more than `limit` bytes of payload are unpacked.
pub fn visit_members(
    payload: impl Read,
    limit: u64,
    mut visit: impl FnMut(&str, Option<(u64, &mut dyn Read)>) -> std::io::Result<Continue>,
) -> Result<(), SegmentError> {
    let mut archive = tar::Archive::new(Limited { inner: payload, left: limit });
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let size = entry.size();
        let regular = entry.header().entry_type() == tar::EntryType::Regular;
        let body: Option<(u64, &mut dyn Read)> = if regular { Some((size, &mut entry)) } else { None };
        if visit(&name, body)? == Continue::Enough {
            break;
        }
    }
    Ok(())
}

/// Fails, rather than ends, when more than the limit is read.
pub struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Limited<R> {
    /// At most `limit` bytes of `inner`.
    pub fn new(inner: R, limit: u64) -> Self {
        Self { inner, left: limit }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.left =
            self.left.checked_sub(n as u64).ok_or_else(|| std::io::Error::other("it unpacks to more than a sealed object may hold"))?;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_back_with_long_and_foreign_names() {
        let names =
            ["a.json".to_owned(), "x".repeat(100), "x".repeat(101), format!("{}/ü.json", "long/".repeat(40)), "größe.json".to_owned()];
        let mut tar = Vec::new();
        for (n, name) in names.iter().enumerate() {
            append_header(&mut tar, name, n as u64 * 300);
            tar.resize(tar.len() + n * 300, b'z');
            pad(&mut tar, n * 300);
        }
        append_end(&mut tar);
        assert_eq!(tar.len() % BLOCK, 0);
        let mut seen = Vec::new();
        visit_members(tar.as_slice(), MAX, |name, body| {
            let (size, reader) = body.unwrap();
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes)?;
            assert_eq!(bytes.len() as u64, size);
            seen.push(name.to_owned());
            Ok(Continue::Yes)
        })
        .unwrap();
        assert_eq!(seen, names);
        assert!(visit_members(tar.as_slice(), 1000, |_, _| Ok(Continue::Yes)).is_err());
    }

    const MAX: u64 = 1 << 30;

    #[test]
    fn pax_lengths_count_themselves() {
        for n in 1..300 {
            let record = pax_record("path", &"v".repeat(n));
            let said: usize = record.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(said, record.len());
        }
    }
}
