//! The one error type of the import.
//!
//! Promises: a place a person can go to, a cause, and a next step, as separate
//! values and as one sentence.
//!
//! Must never: carry event content beyond the one byte that is at fault, so
//! that errors may be logged.
//!
//! Leaves to others: naming the file.

use std::fmt;

/// Why a file, an event or a setting cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{cause}; {advice}", Place(.line, .column))]
pub struct ImportError {
    /// Line of the decompressed file, from 1; none when no line is at fault.
    pub line: Option<u64>,
    /// Byte in that line, from 1, when known.
    pub column: Option<u64>,
    /// What is wrong, without a full stop.
    pub cause: String,
    /// What to do about it, without a full stop.
    pub advice: String,
}

impl ImportError {
    /// An error at a line, and at a byte of it if `column` is given.
    pub(super) fn at(line: u64, column: Option<u64>, cause: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { line: Some(line), column, cause: cause.into(), advice: advice.into() }
    }

    /// An error that no line of a file is to blame for.
    pub(super) fn without_place(cause: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { line: None, column: None, cause: cause.into(), advice: advice.into() }
    }
}

struct Place<'a>(&'a Option<u64>, &'a Option<u64>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Some(line), Some(column)) => write!(f, "line {line}, column {column}: "),
            (Some(line), None) => write!(f, "line {line}: "),
            (None, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_one_sentence() {
        let full = ImportError::at(3, Some(7), "bad", "mend it");
        assert_eq!(full.to_string(), "line 3, column 7: bad; mend it");
        assert_eq!(ImportError::at(3, None, "bad", "mend it").to_string(), "line 3: bad; mend it");
        assert_eq!(ImportError::without_place("bad", "mend it").to_string(), "bad; mend it");
    }
}
