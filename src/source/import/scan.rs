//! A JSON checker that works in place: RFC 8259, one pass, no allocation.
//!
//! Promises: accepts exactly the JSON grammar, up to [`MAX_DEPTH`] levels (what
//! `serde_json` can read back), and reports each white space run outside
//! strings to a [`Sink`]. Linear time, constant memory, no recursion in
//! [`Scanner::skip`].
//!
//! Must never: accept a control character inside a string, or change a byte.
//!
//! Leaves to others: UTF-8 (callers check it), unpaired surrogate escapes
//! (legal JSON, kept), line numbers, duplicate keys.

pub(super) use super::fault::{Fault, Kind};

/// Levels of arrays and objects in one event; one fewer than the limit at
/// which `serde_json` gives up, so that every stored event can be read again.
pub(super) const MAX_DEPTH: u32 = 127;

/// Hears about the white space between tokens.
pub(super) trait Sink {
    /// `from..to` of the scanned data is white space outside strings.
    fn gap(&mut self, from: usize, to: usize);
}

/// Takes no notice of white space.
pub(super) struct Ignore;

impl Sink for Ignore {
    #[inline]
    fn gap(&mut self, _from: usize, _to: usize) {}
}

/// Copies all but the gaps to `out`, in runs as long as possible.
pub(super) struct Compact<'a> {
    data: &'a [u8],
    out: &'a mut Vec<u8>,
    copied: usize,
}

impl<'a> Compact<'a> {
    /// Copies from `data`, starting at its beginning.
    pub(super) fn new(data: &'a [u8], out: &'a mut Vec<u8>) -> Self {
        Self { data, out, copied: 0 }
    }

    /// Copies what is outstanding before `at`.
    #[inline]
    pub(super) fn flush(&mut self, at: usize) {
        self.out.extend_from_slice(&self.data[self.copied..at]);
        self.copied = at;
    }

    /// Ends the line before `at`.
    pub(super) fn end_line(&mut self, at: usize) {
        self.flush(at);
        self.out.push(b'\n');
    }
}

impl Sink for Compact<'_> {
    #[inline]
    fn gap(&mut self, from: usize, to: usize) {
        self.flush(from);
        self.copied = to;
    }
}

/// True for the white space of JSON.
#[inline]
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// A position in data that is being checked.
pub(super) struct Scanner<'a, S> {
    pub(super) data: &'a [u8],
    pub(super) pos: usize,
    pub(super) depth: u32,
    pub(super) sink: S,
}

impl<'a, S: Sink> Scanner<'a, S> {
    /// Starts at the beginning of `data`.
    pub(super) fn new(data: &'a [u8], sink: S) -> Self {
        Self { data, pos: 0, depth: 0, sink }
    }

    #[inline]
    pub(super) fn fault<T>(&self, at: usize, kind: Kind) -> Result<T, Fault> {
        let kind = if at >= self.data.len() { Kind::End } else { kind };
        Err(Fault { at, kind })
    }

    /// The byte at the position, after white space; 0 at the end of the data
    /// (a real NUL byte fails every comparison too, and `fault` tells them
    /// apart).
    #[inline]
    pub(super) fn peek(&mut self) -> u8 {
        match self.data.get(self.pos) {
            Some(&byte) if byte > b' ' => byte,
            _ => self.peek_after_gap(),
        }
    }

    fn peek_after_gap(&mut self) -> u8 {
        let from = self.pos;
        while self.data.get(self.pos).copied().is_some_and(is_blank) {
            self.pos += 1;
        }
        if self.pos > from {
            self.sink.gap(from, self.pos);
        }
        self.data.get(self.pos).copied().unwrap_or(0)
    }

    /// Steps into an array or object.
    #[inline]
    pub(super) fn enter(&mut self) -> Result<(), Fault> {
        if self.depth == MAX_DEPTH {
            return self.fault(self.pos, Kind::TooDeep);
        }
        self.depth += 1;
        self.pos += 1;
        Ok(())
    }

    /// Steps out of an array or object.
    #[inline]
    pub(super) fn leave(&mut self) {
        self.depth -= 1;
        self.pos += 1;
    }

    /// Passes an object key and its colon, and gives the key as it is spelt,
    /// without quotes, and whether it has escapes.
    #[inline]
    pub(super) fn key(&mut self) -> Result<(&'a [u8], bool), Fault> {
        if self.peek() != b'"' {
            return self.fault(self.pos, Kind::Expected("a key in double quotes"));
        }
        let start = self.pos + 1;
        let escaped = self.string()?;
        let key = &self.data[start..self.pos - 1];
        if self.peek() != b':' {
            return self.fault(self.pos, Kind::Expected("`:`"));
        }
        self.pos += 1;
        Ok((key, escaped))
    }

    /// Passes one value of any kind and everything in it.
    pub(super) fn skip(&mut self) -> Result<(), Fault> {
        let base = self.depth;
        // One bit a level, the lowest for the innermost: set for an object.
        let mut objects = 0_u128;
        loop {
            match self.peek() {
                b'"' => {
                    self.string()?;
                }
                b'{' => {
                    self.enter()?;
                    objects = objects << 1 | 1;
                    if self.peek() != b'}' {
                        self.key()?;
                        continue;
                    }
                    self.leave();
                    objects >>= 1;
                }
                b'[' => {
                    self.enter()?;
                    objects <<= 1;
                    if self.peek() != b']' {
                        continue;
                    }
                    self.leave();
                    objects >>= 1;
                }
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => return self.fault(self.pos, Kind::Expected("a value")),
            }
            loop {
                if self.depth == base {
                    return Ok(());
                }
                let object = objects & 1 == 1;
                match self.peek() {
                    b',' => {
                        self.pos += 1;
                        if object {
                            self.key()?;
                        }
                        break;
                    }
                    b'}' if object => self.leave(),
                    b']' if !object => self.leave(),
                    _ if object => return self.fault(self.pos, Kind::Expected("`,` or `}`")),
                    _ => return self.fault(self.pos, Kind::Expected("`,` or `]`")),
                }
                objects >>= 1;
            }
        }
    }

    /// Passes a string, and tells whether it has escapes; the position is at
    /// its opening quote.
    #[inline]
    fn string(&mut self) -> Result<bool, Fault> {
        let mut at = self.pos + 1;
        let mut escaped = false;
        loop {
            at = next_special(self.data, at);
            match self.data.get(at) {
                Some(b'"') => {
                    self.pos = at + 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    at = self.escape(at)?;
                    escaped = true;
                }
                _ => return self.fault(at, Kind::Control),
            }
        }
    }

    /// The index after the escape whose backslash is at `at`.
    #[inline]
    fn escape(&self, at: usize) -> Result<usize, Fault> {
        match self.data.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
            Some(b'u') => {
                for digit in at + 2..at + 6 {
                    if !self.data.get(digit).is_some_and(u8::is_ascii_hexdigit) {
                        return self.fault(digit, Kind::Escape);
                    }
                }
                Ok(at + 6)
            }
            _ => self.fault(at + 1, Kind::Escape),
        }
    }

    fn number(&mut self) -> Result<(), Fault> {
        let mut at = self.pos + usize::from(self.data[self.pos] == b'-');
        if self.data.get(at) == Some(&b'0') {
            at += 1;
            if self.data.get(at).is_some_and(u8::is_ascii_digit) {
                return self.fault(at, Kind::Number);
            }
        } else {
            at = self.digits(at)?;
        }
        if self.data.get(at) == Some(&b'.') {
            at = self.digits(at + 1)?;
        }
        if let Some(b'e' | b'E') = self.data.get(at) {
            at += 1;
            if let Some(b'+' | b'-') = self.data.get(at) {
                at += 1;
            }
            at = self.digits(at)?;
        }
        self.pos = at;
        Ok(())
    }

    /// The index after one or more digits.
    #[inline]
    fn digits(&self, from: usize) -> Result<usize, Fault> {
        let mut at = from;
        while self.data.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        if at == from { self.fault(at, Kind::Number) } else { Ok(at) }
    }

    #[inline]
    fn word(&mut self, word: &'static [u8]) -> Result<(), Fault> {
        let rest = &self.data[self.pos..];
        if rest.starts_with(word) {
            self.pos += word.len();
            return Ok(());
        }
        let same = rest.iter().zip(word).take_while(|(a, b)| a == b).count();
        self.fault(self.pos + same, Kind::Expected("true, false or null"))
    }
}

/// The index of the next quote, backslash or control character, or the end.
#[inline]
pub(super) fn next_special(data: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    while let Some(eight) = data.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        // A byte's top bit is set if the byte is wanted. Borrows can only set
        // bits above the first wanted byte, so the lowest set bit is exact.
        let word = u64::from_le_bytes(*eight);
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        let hits = (control | quote.wrapping_sub(ONES) & !quote | backslash.wrapping_sub(ONES) & !backslash) & (ONES << 7);
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while data.get(at).is_some_and(|&b| b >= b' ' && b != b'"' && b != b'\\') {
        at += 1;
    }
    at
}
