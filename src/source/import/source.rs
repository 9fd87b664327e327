//! A decompressed file seen through a window that slides over it.
//!
//! Promises: finds gzip (any number of members) and zstd (any number of frames)
//! by their first bytes; knows the line and column of every byte in the window;
//! takes a stream that is cut short for an error. The window holds no more
//! than one chunk or one event (twice that while it grows).
//!
//! Must never: unpack a second layer of compression, or an archive.
//!
//! Leaves to others: what the text means, and checking that it is UTF-8.

use std::io::{self, BufReader, Cursor, ErrorKind, Read};

use super::MAX_EVENT_BYTES;
use super::error::ImportError;
use super::scan::{Fault, is_blank};

/// Bytes to ask for at a time, and at least.
const STEP: usize = 256 << 10;

/// First bytes of formats that are not text, their name, and what to do.
const NOT_TEXT: &[(&[u8], &str, &str)] = &[
    (b"\xff\xfe", "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8"),
    (b"PK\x03\x04", "a ZIP or Excel file", "unpack it, or save the sheet as CSV"),
    (b"\x1f\x8b", "gzip data inside compressed data", "unpack it once"),
    (b"\x28\xb5\x2f\xfd", "zstd data inside compressed data", "unpack it once"),
    (b"\xfd7zXZ\0", "xz data", "unpack it, or compress it with zstd or gzip"),
    (b"BZh91AY&SY", "bzip2 data", "unpack it, or compress it with zstd or gzip"),
    (b"PAR1", "a Parquet file", "export it as NDJSON or CSV"),
    (b"Obj\x01", "an Avro file", "export it as NDJSON or CSV"),
];

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Zstd,
}

/// The window and what is behind it.
pub(super) struct Source {
    read: Box<dyn Read + Send>,
    packing: Packing,
    buf: Vec<u8>,
    start: usize,
    ended: bool,
    line: u64,
    column: u64,
}

impl Source {
    /// Starts reading: finds the packing, passes a UTF-8 byte order mark, and
    /// refuses what is not text.
    pub(super) fn open(mut read: impl Read + Send + 'static) -> Result<Self, ImportError> {
        let mut head = Vec::with_capacity(32);
        let first = read.by_ref().take(4).read_to_end(&mut head);
        let (packing, read) = match first {
            Err(error) => return Err(read_error(&error, Packing::None, 1)),
            Ok(_) => unpack(head, read).map_err(|(p, e)| read_error(&e, p, 1))?,
        };
        let buf = Vec::new();
        let mut source = Self { read, packing, buf, start: 0, ended: false, line: 1, column: 1 };
        source.fill(32)?;
        for (magic, name, advice) in NOT_TEXT {
            if source.window().starts_with(magic) {
                return Err(source.error(0, format!("the file is {name}, not UTF-8 text"), *advice));
            }
        }
        if source.window().starts_with(b"\xef\xbb\xbf") {
            source.start = 3;
        }
        Ok(source)
    }

    /// The bytes at hand.
    pub(super) fn window(&self) -> &[u8] {
        &self.buf[self.start..]
    }

    /// True when nothing follows the window.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// The line of the window's first byte.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// The column of the window's first byte, from 1.
    pub(super) fn column(&self) -> u64 {
        self.column
    }

    /// Lets the window have `want` bytes, or all there are.
    pub(super) fn fill(&mut self, want: usize) -> Result<(), ImportError> {
        let have = self.buf.len() - self.start;
        if have >= want || self.ended {
            return Ok(());
        }
        self.buf.drain(..self.start);
        self.start = 0;
        let missing = want - have;
        // `read_to_end` wants some room to find the end with.
        self.buf.reserve(missing + 64);
        match self.read.by_ref().take(missing as u64).read_to_end(&mut self.buf) {
            Ok(read) => self.ended = read < missing,
            Err(error) => {
                let lines = memchr::memchr_iter(b'\n', &self.buf).count() as u64;
                return Err(read_error(&error, self.packing, self.line + lines));
            }
        }
        Ok(())
    }

    /// Widens the window for an event that does not fit into it.
    pub(super) fn more(&mut self) -> Result<(), ImportError> {
        let have = self.window().len();
        if have > MAX_EVENT_BYTES {
            return Err(self.too_long());
        }
        self.fill((2 * have).clamp(STEP, MAX_EVENT_BYTES + 1))
    }

    /// The error for an event at the window's start that is too long.
    pub(super) fn too_long(&self) -> ImportError {
        self.error(
            0,
            format!("the event that starts here is longer than {} MiB", MAX_EVENT_BYTES >> 20),
            "check that this is the file you mean, and that its format is named rightly",
        )
    }

    /// Moves the window's start past `count` bytes.
    pub(super) fn consume(&mut self, count: usize) {
        (self.line, self.column) = self.place(count);
        self.start += count;
    }

    /// Takes the window's first `count` bytes, which hold `lines` line ends
    /// and finish a line.
    pub(super) fn take_lines(&mut self, count: usize, lines: u64) -> Vec<u8> {
        self.line += lines;
        self.column = 1;
        if self.start > 0 || count < self.buf.len() / 2 {
            let taken = self.buf[self.start..self.start + count].to_vec();
            self.start += count;
            return taken;
        }
        let mut rest = Vec::with_capacity(self.buf.len() + 64);
        rest.extend_from_slice(&self.buf[count..]);
        self.buf.truncate(count);
        std::mem::replace(&mut self.buf, rest)
    }

    /// Moves past white space, and gives the byte behind it, if any.
    pub(super) fn next_byte(&mut self) -> Result<Option<u8>, ImportError> {
        loop {
            let blank = self.window().iter().take_while(|b| is_blank(**b)).count();
            self.consume(blank);
            if let Some(byte) = self.window().first() {
                return Ok(Some(*byte));
            }
            if self.ended {
                return Ok(None);
            }
            self.fill(STEP)?;
        }
    }

    /// Line and column of the byte at `at` of the window.
    fn place(&self, at: usize) -> (u64, u64) {
        let before = &self.window()[..at];
        match memchr::memrchr(b'\n', before) {
            None => (self.line, self.column + at as u64),
            Some(end) => {
                let lines = memchr::memchr_iter(b'\n', before).count() as u64;
                (self.line + lines, (at - end) as u64)
            }
        }
    }

    /// An error at the byte at `at` of the window.
    pub(super) fn error(&self, at: usize, cause: impl Into<String>, advice: impl Into<String>) -> ImportError {
        let (line, column) = self.place(at.min(self.window().len()));
        ImportError::at(line, Some(column), cause, advice)
    }

    /// A scanner's fault as an error; the value begins at the window's start.
    pub(super) fn fault(&self, fault: &Fault) -> ImportError {
        let (cause, advice) = fault.words(self.window());
        let mut error = self.error(fault.at, cause, advice);
        if error.line != Some(self.line) {
            error.cause = format!("{} (in the value that starts on line {})", error.cause, self.line);
        }
        error
    }
}

type Unpacked = (Packing, Box<dyn Read + Send>);

fn unpack(head: Vec<u8>, read: impl Read + Send + 'static) -> Result<Unpacked, (Packing, io::Error)> {
    // A zstd stream may also begin with a skippable frame.
    let zstd = head == *b"\x28\xb5\x2f\xfd" || matches!(head[..], [0x50..=0x5f, 0x2a, 0x4d, 0x18]);
    let gzip = head.starts_with(b"\x1f\x8b");
    let whole = Cursor::new(head).chain(read);
    if gzip {
        let packed = BufReader::with_capacity(STEP, whole);
        Ok((Packing::Gzip, Box::new(flate2::bufread::MultiGzDecoder::new(packed))))
    } else if zstd {
        let unpacked = zstd::Decoder::new(whole).map_err(|error| (Packing::Zstd, error))?;
        Ok((Packing::Zstd, Box::new(unpacked)))
    } else {
        Ok((Packing::None, Box::new(whole)))
    }
}

fn read_error(error: &io::Error, packing: Packing, line: u64) -> ImportError {
    let name = match packing {
        Packing::None => {
            let cause = format!("reading failed: {error}");
            return ImportError::at(line, None, cause, "check the disk or share, then try again");
        }
        Packing::Gzip => "gzip",
        Packing::Zstd => "zstd",
    };
    match error.kind() {
        ErrorKind::UnexpectedEof => ImportError::at(
            line,
            None,
            format!("the {name} data is cut short"),
            "the file is incomplete or still being written; deliver it again",
        ),
        _ => ImportError::at(
            line,
            None,
            format!("the {name} data cannot be unpacked: {error}"),
            format!("check the file with `{name} -t`, and deliver it again"),
        ),
    }
}
