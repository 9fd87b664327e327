//! Turns CSV rows into JSON objects.
//!
//! Promises: RFC 4180, checked strictly: each row has as many fields as the
//! header, a quoted field ends with its quote, and the file does not end
//! within one. Each row becomes an object with the header's names as keys, in
//! order, and every value a string. A quote inside a field that does not start
//! with one is kept as it is.
//!
//! Must never: guess the separator, types or missing fields.
//!
//! Leaves to others: all meaning. (Blank lines are skipped.)

use super::MAX_EVENT_BYTES;
use super::error::ImportError;
use super::normalise::check_utf8;
use super::scan::{is_blank, next_special};
use super::source::Source;

/// A CSV file behind its header.
pub(super) struct Table {
    /// For each column what stands before its value: `{"name":` or `,"name":`.
    keys: Vec<Vec<u8>>,
    row: Row,
}

/// One row as ranges of the window.
#[derive(Default)]
struct Row {
    fields: Vec<Field>,
    /// Bytes of the row with its line end.
    length: usize,
}

struct Field {
    start: usize,
    end: usize,
    /// Has quotes in it, written twice each.
    doubled: bool,
    quoted: bool,
}

/// Why a row cannot be read.
enum Flaw {
    /// The window ends within the row.
    End,
    /// Index, cause and advice.
    Bad(usize, &'static str, &'static str),
}

impl Table {
    /// Reads the header, at the window's start.
    pub(super) fn open(source: &mut Source) -> Result<Self, ImportError> {
        let mut table = Self { keys: Vec::new(), row: Row::default() };
        if !table.read(source)? {
            return Ok(table);
        }
        let window = source.window();
        let mut names: Vec<String> = Vec::new();
        for (number, field) in (1..).zip(&table.row.fields) {
            let name = text(window, field).trim().to_owned();
            let wrong = if name.is_empty() {
                format!("the header has no name for column {number}")
            } else if let Some(other) = names.iter().position(|other| *other == name) {
                format!("columns {} and {number} of the header have the same name", other + 1)
            } else if name.contains(|c: char| c < ' ' && !matches!(c, '\t' | '\n' | '\r')) || !field.quoted && name.contains('\r') {
                format!("the name of column {number} has a control character in it")
            } else {
                names.push(name);
                continue;
            };
            let advice = "CSV must begin with a row of distinct names, end its lines with LF or \
                CRLF, and be named as the format only if it is CSV";
            return Err(source.error(field.start, wrong, advice));
        }
        table.keys = names
            .iter()
            .enumerate()
            .map(|(column, name)| {
                let mut key = if column == 0 { b"{".to_vec() } else { b",".to_vec() };
                push_json(&mut key, name.as_bytes(), false);
                key.push(b':');
                key
            })
            .collect();
        source.consume(table.row.length);
        Ok(table)
    }

    /// Appends the next row to `out` as one line, and gives the line on which
    /// it starts; none at the end.
    pub(super) fn next(&mut self, source: &mut Source, out: &mut Vec<u8>) -> Result<Option<u64>, ImportError> {
        if !self.read(source)? {
            return Ok(None);
        }
        let (fields, names) = (self.row.fields.len(), self.keys.len());
        if fields != names {
            return Err(source.error(
                0,
                format!("the row has {fields} fields, the header has {names}"),
                "put quotes around fields that hold commas, quotes or line ends, or deliver the \
                 file again if it was cut short",
            ));
        }
        let before = out.len();
        let window = source.window();
        for (key, field) in self.keys.iter().zip(&self.row.fields) {
            out.extend_from_slice(key);
            push_json(out, &window[field.start..field.end], field.doubled);
        }
        out.extend_from_slice(b"}\n");
        if out.len() - before > MAX_EVENT_BYTES {
            return Err(source.too_long());
        }
        let line = source.line();
        source.consume(self.row.length);
        Ok(Some(line))
    }

    /// Finds the next row that is not blank, which then is at the window's
    /// start, is UTF-8 and has no NUL bytes. False at the end.
    fn read(&mut self, source: &mut Source) -> Result<bool, ImportError> {
        loop {
            if source.window().is_empty() && source.ended() {
                return Ok(false);
            }
            match self.row.split(source.window(), source.ended()) {
                Ok(()) => {}
                Err(Flaw::End) => {
                    source.more()?;
                    continue;
                }
                Err(Flaw::Bad(at, cause, advice)) => return Err(source.error(at, cause, advice)),
            }
            let row = &source.window()[..self.row.length];
            // In a table of one column, blanks may be a value.
            let blank = match self.keys.len() {
                1 => row.iter().all(|b| matches!(b, b'\r' | b'\n')),
                _ => row.iter().all(|b| is_blank(*b)),
            };
            if blank {
                source.consume(self.row.length);
                continue;
            }
            if row.len() > MAX_EVENT_BYTES {
                return Err(source.too_long());
            }
            if let Some(at) = memchr::memchr(0, row) {
                return Err(source.error(
                    at,
                    "there is a NUL byte in the text",
                    "the file is damaged, or is UTF-16; convert it to UTF-8, or deliver it again",
                ));
            }
            if let Err((at, cause, advice)) = check_utf8(row, 0, row.len()) {
                return Err(source.error(at, cause, advice));
            }
            return Ok(true);
        }
    }
}

impl Row {
    /// Splits the row at the start of `data`; `ended` if no more data follows.
    fn split(&mut self, data: &[u8], ended: bool) -> Result<(), Flaw> {
        self.fields.clear();
        let mut at = 0;
        loop {
            let quoted = match data.get(at) {
                None if !ended => return Err(Flaw::End),
                Some(b'"') => true,
                _ => false,
            };
            // The index behind the field.
            let behind = if quoted {
                self.quoted(data, at, ended)?
            } else {
                let rest = data.get(at..).unwrap_or_default();
                let behind = match memchr::memchr2(b',', b'\n', rest) {
                    Some(length) => at + length,
                    None if ended => data.len(),
                    None => return Err(Flaw::End),
                };
                let line_end = data.get(behind) != Some(&b',');
                let cr = usize::from(line_end && data[at..behind].ends_with(b"\r"));
                let end = behind - cr;
                self.fields.push(Field { start: at, end, doubled: false, quoted: false });
                behind
            };
            if data.get(behind) == Some(&b',') {
                at = behind + 1;
                continue;
            }
            self.length = data.len().min(behind + 1);
            return Ok(());
        }
    }

    /// Takes the quoted field at `at`; gives the index behind it, where there
    /// is a comma, a line feed, or the end of the data.
    fn quoted(&mut self, data: &[u8], at: usize, ended: bool) -> Result<usize, Flaw> {
        let start = at + 1;
        let mut doubled = false;
        let mut from = start;
        loop {
            let end = match memchr::memchr(b'"', &data[from..]) {
                Some(length) => from + length,
                None if ended => {
                    return Err(Flaw::Bad(
                        at,
                        "the quoted field that starts here has no closing quote",
                        "add the quote, or deliver the file again if it was cut short",
                    ));
                }
                None => return Err(Flaw::End),
            };
            let (mut behind, mut next) = (end + 1, data.get(end + 1));
            if next == Some(&b'\r') {
                (behind, next) = (end + 2, data.get(end + 2));
                if next.is_some() && next != Some(&b'\n') {
                    return Err(stray(end + 1));
                }
            }
            match next {
                Some(b'"') => {
                    doubled = true;
                    from = end + 2;
                    continue;
                }
                None if !ended => return Err(Flaw::End),
                None | Some(b',' | b'\n') => {}
                Some(_) => return Err(stray(behind)),
            }
            self.fields.push(Field { start, end, doubled, quoted: true });
            return Ok(behind);
        }
    }
}

fn stray(at: usize) -> Flaw {
    Flaw::Bad(at, "there is text between a closing quote and the next comma or line end", "write each quote inside a quoted field twice")
}

/// The field's value; the row has been checked to be UTF-8.
fn text<'a>(data: &'a [u8], field: &Field) -> std::borrow::Cow<'a, str> {
    let text = String::from_utf8_lossy(&data[field.start..field.end]);
    if field.doubled { text.replace("\"\"", "\"").into() } else { text }
}

/// Appends `text` as a JSON string, spelt as `serde_json` does. If `doubled`,
/// two quotes stand for one.
fn push_json(out: &mut Vec<u8>, text: &[u8], doubled: bool) {
    out.push(b'"');
    let mut from = 0;
    loop {
        let at = next_special(text, from);
        out.extend_from_slice(&text[from..at]);
        let Some(&byte) = text.get(at) else { break };
        let short = match byte {
            b'"' | b'\\' => byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            _ => {
                out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                from = at + 1;
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
        from = at + 1 + usize::from(doubled && byte == b'"');
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_strings_as_serde_json() {
        let text: String = (0..0x250).filter_map(char::from_u32).collect();
        let mut out = Vec::new();
        push_json(&mut out, text.as_bytes(), false);
        assert_eq!(out, serde_json::to_vec(&text).unwrap());
        out.clear();
        push_json(&mut out, br#"a""b"""#, true);
        assert_eq!(out, br#""a\"b\"""#.as_slice());
    }
}
