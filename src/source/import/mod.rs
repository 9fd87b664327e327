//! Turns log files that other systems delivered into NDJSON.
//!
//! Promises: an event is the JSON object that was delivered, with the white
//! space outside strings removed and nothing else changed (key order, number
//! spelling, escapes and duplicate keys stay byte for byte). Memory is bounded:
//! one chunk plus one event of at most [`MAX_EVENT_BYTES`]. Every error names
//! the line of the decompressed file (and the column, a byte count from 1, when
//! it is known), the cause, and what to do.
//!
//! Must never: skip, repair or guess at data it cannot read; follow anything
//! an event says; hold a whole file in memory; print.
//!
//! Leaves to others: opening files, threads (`normalise` is free of shared
//! state, so that any number of workers may call it), ordering and removing
//! duplicates, sealing and storing.
//!
//! Path of the data: [`ChunkReader`] (one thread, cuts a stream at event
//! borders) → [`RawChunk`] → [`normalise`] (workers, checks and strips) →
//! [`Batch`].

mod error;
mod fault;
mod normalise;
mod pointer;
mod reader;
mod records;
mod scan;
mod source;
mod table;
mod time;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_errors;
#[cfg(test)]
mod tests_random;

use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use error::ImportError;
pub use normalise::{event_key, normalise};
pub use pointer::Pointers;
pub use reader::ChunkReader;
pub use time::parse_time;

/// The longest event (one NDJSON line, one array element, one CSV row) that is
/// accepted, in bytes of the decompressed file.
pub const MAX_EVENT_BYTES: usize = 64 << 20;

/// How a file's content is laid out. Compression is always found by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Decide by content: `[` is an array, `{` is a sequence of objects or
    /// Microsoft Graph response pages, anything else is CSV.
    #[default]
    Auto,
    /// A sequence of JSON objects separated by white space, usually one a
    /// line. A Graph response page is then one event like any other object.
    Ndjson,
    /// One JSON array whose elements are objects.
    JsonArray,
    /// Comma-separated values with a header row, RFC 4180.
    Csv,
}

impl FromStr for Format {
    type Err = ImportError;

    /// Reads `auto`, `ndjson`, `json_array` or `csv`.
    fn from_str(text: &str) -> Result<Self, ImportError> {
        match text {
            "auto" => Ok(Self::Auto),
            "ndjson" => Ok(Self::Ndjson),
            "json_array" => Ok(Self::JsonArray),
            "csv" => Ok(Self::Csv),
            other => Err(ImportError::without_place(format!("{other:?} is not a log format"), "write auto, ndjson, json_array or csv")),
        }
    }
}

/// A piece of a file, cut between events; input of [`normalise`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawChunk {
    /// Whole lines, each one JSON object (or blank), the last one ended by LF.
    /// White space may still surround and fill the objects, and nothing about
    /// them has been checked.
    pub data: Vec<u8>,
    /// Line of the decompressed file, from 1, on which `data` begins.
    pub first_line: u64,
}

/// Events that have been checked and stripped; output of [`normalise`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// One event a line, in file order, no white space outside strings, every
    /// line ended by LF.
    pub ndjson: Vec<u8>,
    /// Number of lines in `ndjson`.
    pub events: u64,
    /// Earliest event time.
    pub first: Option<Timestamp>,
    /// Latest event time.
    pub last: Option<Timestamp>,
    /// Events without a time, or with one that [`parse_time`] cannot read.
    pub untimed: u64,
    /// Events without an id.
    pub without_id: u64,
}

/// What identifies and dates one event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventKey {
    /// The id: a JSON string's content, or the JSON text of a number or
    /// boolean. Never empty.
    pub id: Option<String>,
    /// The time, 1970 to 2200.
    pub time: Option<Timestamp>,
}
