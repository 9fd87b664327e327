//! What the scanner finds wrong, and how to say it.
//!
//! Promises: each fault comes with a cause and a next step for the person who
//! has the file.
//!
//! Must never: show more of an event than one byte.
//!
//! Leaves to others: line and column.

use super::scan::MAX_DEPTH;

/// What is wrong, and the index of the byte at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) kind: Kind,
}

/// The ways in which bytes are not an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The data ends inside a value. More data may make it valid.
    End,
    /// A control character inside a string.
    Control,
    /// A backslash sequence that JSON does not have.
    Escape,
    /// A number that JSON does not have.
    Number,
    /// More than [`MAX_DEPTH`] levels.
    TooDeep,
    /// Valid so far, but the value is not an object.
    NotObject,
    /// Something else than what the grammar asks for.
    Expected(&'static str),
}

impl Fault {
    /// Cause and advice in words; `data` is what was scanned.
    pub(super) fn words(&self, data: &[u8]) -> (String, &'static str) {
        const MEND: &str = "correct this line, or have the file delivered again";
        let byte = data.get(self.at).copied();
        match (self.kind, byte) {
            (Kind::End, _) | (_, None) => {
                ("the data ends inside a JSON value".into(), "the file was probably cut short or is still being written; deliver it again")
            }
            (_, Some(0)) => {
                ("there is a NUL byte in the text".into(), "the file is damaged, or is UTF-16; convert it to UTF-8, or deliver it again")
            }
            (Kind::Control, Some(b'\n')) => ("a string is broken by a line end".into(), MEND),
            (Kind::Control, Some(b)) => (format!("control character 0x{b:02x} inside a string"), MEND),
            (Kind::Escape, _) => ("this backslash sequence is not JSON".into(), MEND),
            (Kind::Number, _) => ("this number is not JSON".into(), MEND),
            (Kind::TooDeep, _) => (
                format!("the event is nested more than {MAX_DEPTH} levels deep"),
                "such an event cannot be read back; flatten it or leave it out",
            ),
            (Kind::NotObject, Some(b)) => (
                format!("expected an object, found {}", name_of(b)),
                "only JSON objects are events; remove the value, or name the right format",
            ),
            (Kind::Expected(what), Some(b)) => (format!("invalid JSON: expected {what}, found {}", name_of(b)), MEND),
        }
    }
}

/// What a value or token that starts with `byte` is called.
fn name_of(byte: u8) -> String {
    match byte {
        b'"' => "a string".into(),
        b'[' => "an array".into(),
        b'{' => "an object".into(),
        b'-' | b'0'..=b'9' => "a number".into(),
        0x21..=0x7e => format!("`{}`", char::from(byte)),
        b'\n' => "a line end".into(),
        other => format!("byte 0x{other:02x}"),
    }
}
