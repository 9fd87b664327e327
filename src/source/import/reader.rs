//! Cuts a file into chunks at event borders.
//!
//! Promises: chunks in file order, each close to the wished size, no event in
//! two chunks; the same events whatever the chunk size. NDJSON passes at the
//! speed of memory: only line ends and the bytes next to them are looked at.
//!
//! Must never: hold more than a chunk and an event, or pass over text between
//! events that is not white space.
//!
//! Leaves to others: checking NDJSON lines (`normalise`). Elements of arrays,
//! objects over several lines and CSV rows are checked here, where their
//! place in the file is known.

use std::io::Read;

use super::error::ImportError;
use super::records::{Layout, Records};
use super::scan::is_blank;
use super::source::Source;
use super::table::Table;
use super::{Format, MAX_EVENT_BYTES, RawChunk};

/// A file being cut into chunks.
pub struct ChunkReader {
    source: Source,
    body: Body,
    chunk_bytes: usize,
    failed: Option<ImportError>,
}

enum Body {
    Records(Records),
    Table(Table),
}

impl ChunkReader {
    /// Starts reading a file. `chunk_bytes` is the wished size of a chunk; a
    /// chunk is larger by at most one event, and can be smaller. It is taken
    /// for 64 MiB if it is more than that. An empty file has no chunks.
    ///
    /// # Errors
    /// Reading or unpacking fails; the file is not UTF-8 text by its first
    /// bytes, or has not the `format` that is asked for; a bad CSV header.
    pub fn open(read: impl Read + Send + 'static, format: Format, chunk_bytes: usize) -> Result<Self, ImportError> {
        let mut source = Source::open(read)?;
        let body = match (format, source.next_byte()?) {
            (Format::JsonArray, Some(b'[') | None) | (Format::Auto, Some(b'[')) => Body::Records(Records::new(Layout::Array)),
            (Format::JsonArray, Some(_)) => {
                return Err(source.error(
                    0,
                    "the file is not a JSON array: it does not start with `[`",
                    "set the format to auto or ndjson",
                ));
            }
            (Format::Ndjson, _) | (Format::Auto, None) => Body::Records(Records::new(Layout::Sequence)),
            (Format::Auto, Some(b'{')) => Body::Records(Records::new(Layout::find(&mut source)?)),
            (Format::Csv, _) | (Format::Auto, Some(_)) => Body::Table(Table::open(&mut source)?),
        };
        let chunk_bytes = chunk_bytes.clamp(1, MAX_EVENT_BYTES);
        Ok(Self { source, body, chunk_bytes, failed: None })
    }

    /// What the file was found to be: `ndjson`, `json_array`, `graph_page`
    /// (Microsoft Graph response pages) or `csv`.
    #[must_use]
    pub fn format(&self) -> &'static str {
        match &self.body {
            Body::Records(records) => match records.layout {
                Layout::Sequence => "ndjson",
                Layout::Array => "json_array",
                Layout::Pages => "graph_page",
            },
            Body::Table(_) => "csv",
        }
    }

    /// The next chunk, with at least one event; none at the end of the file.
    ///
    /// # Errors
    /// Reading or unpacking fails; an event is too long; outside plain NDJSON
    /// lines also all that `normalise` would find. After an error, it comes
    /// again.
    pub fn next_chunk(&mut self) -> Result<Option<RawChunk>, ImportError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let chunk = self.cut();
        self.failed = chunk.as_ref().err().cloned();
        chunk
    }

    fn cut(&mut self) -> Result<Option<RawChunk>, ImportError> {
        if self.format() == "ndjson"
            && let Some(chunk) = self.plain_lines()?
        {
            return Ok(Some(chunk));
        }
        let mut data = Vec::new();
        let mut first_line = None;
        while data.len() < self.chunk_bytes {
            let line = match &mut self.body {
                Body::Records(records) => records.next(&mut self.source, &mut data)?,
                Body::Table(table) => table.next(&mut self.source, &mut data)?,
            };
            if line.is_none() {
                break;
            }
            first_line = first_line.or(line);
        }
        Ok(first_line.map(|first_line| RawChunk { data, first_line }))
    }

    /// A chunk of lines that each start with `{` and end with `}`, and are
    /// followed by such a start; none if the next line is not so.
    ///
    /// In valid JSON, `}` line end `{` can only stand between two top-level
    /// values: inside arrays and objects a comma must be there, and strings
    /// cannot hold line ends. So this cuts at event borders without looking
    /// inside. If the JSON is not valid, `normalise` says where.
    fn plain_lines(&mut self) -> Result<Option<RawChunk>, ImportError> {
        self.source.next_byte()?;
        if self.source.column() != 1 {
            return Ok(None);
        }
        self.source.fill(self.chunk_bytes)?;
        let window = self.source.window();
        let ended = self.source.ended() && window.len() <= self.chunk_bytes;
        let window = &window[..window.len().min(self.chunk_bytes)];
        let first_line = self.source.line();
        let (mut at, mut lines, mut cut, mut lines_before_cut) = (0, 0, 0, 0);
        // False once a line is found that must not be in the chunk.
        let mut whole = true;
        while at < window.len() {
            let end = memchr::memchr(b'\n', &window[at..]).map(|length| at + length);
            let line = trim(&window[at..end.unwrap_or(window.len())]);
            if let Some(first) = line.first() {
                if *first != b'{' {
                    whole = false;
                    break;
                }
                (cut, lines_before_cut) = (at, lines);
                let known = end.is_some() || ended;
                if !known || line.last() != Some(&b'}') || line.len() > MAX_EVENT_BYTES {
                    whole = false;
                    break;
                }
            }
            at = end.map_or(window.len(), |end| end + 1);
            lines += u64::from(end.is_some());
        }
        if whole && ended {
            (cut, lines_before_cut) = (window.len(), lines);
        }
        if cut == 0 {
            return Ok(None);
        }
        let mut data = self.source.take_lines(cut, lines_before_cut);
        if data.last() != Some(&b'\n') {
            data.push(b'\n');
        }
        Ok(Some(RawChunk { data, first_line }))
    }
}

fn trim(line: &[u8]) -> &[u8] {
    let start = line.iter().take_while(|b| is_blank(**b)).count();
    let end = line.len() - line.iter().rev().take_while(|b| is_blank(**b)).count();
    line.get(start..end).unwrap_or_default()
}
