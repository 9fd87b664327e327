//! Takes JSON objects one by one from arrays, Graph pages and sequences.
//!
//! Promises: checks each object and all text around it, strips the object's
//! white space, so that it is one line.
//!
//! Must never: drop anything but white space, the array's or page's frame, and
//! a page's other members.
//!
//! Leaves to others: plain NDJSON, which `reader` cuts without looking inside.

use super::error::ImportError;
use super::normalise::check_utf8;
use super::scan::{Compact, Fault, Ignore, Kind, Scanner};
use super::source::Source;

/// How the objects of a file are strung together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// One after the other.
    Sequence,
    /// In one array.
    Array,
    /// In the `value` arrays of Microsoft Graph response pages.
    Pages,
}

impl Layout {
    /// Tells pages from other objects by the first object, at the window's
    /// start. Text that is not JSON counts as a sequence.
    pub(super) fn find(source: &mut Source) -> Result<Self, ImportError> {
        loop {
            return match is_page(source.window()) {
                Ok(true) => Ok(Self::Pages),
                Err(Fault { kind: Kind::End, .. }) if !source.ended() => {
                    source.more()?;
                    continue;
                }
                _ => Ok(Self::Sequence),
            };
        }
    }
}

/// True if an object has `@odata.context` and an array `value` of objects (or
/// of nothing); stops as soon as that is certain.
fn is_page(data: &[u8]) -> Result<bool, Fault> {
    let mut scanner = Scanner::new(data, Ignore);
    let (mut context, mut value) = (false, false);
    scanner.enter()?;
    if scanner.peek() == b'}' {
        return Ok(false);
    }
    loop {
        match scanner.key()?.0 {
            b"@odata.context" => context = true,
            b"value" if scanner.peek() == b'[' => {
                let mut inside = Scanner::new(data, Ignore);
                inside.pos = scanner.pos + 1;
                value = match inside.peek() {
                    b'{' | b']' => true,
                    _ if inside.pos == data.len() => return inside.fault(inside.pos, Kind::End),
                    _ => false,
                };
            }
            _ => {}
        }
        if context && value {
            return Ok(true);
        }
        scanner.skip()?;
        match scanner.peek() {
            b',' => scanner.pos += 1,
            b'}' => return Ok(false),
            _ => return scanner.fault(scanner.pos, Kind::Expected("`,` or `}`")),
        }
    }
}

/// The state between two objects.
pub(super) struct Records {
    pub(super) layout: Layout,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a top-level value.
    Top,
    /// In the array of events, before its first element, or after one.
    Array { first: bool },
    /// In a page, before its first member, or after one.
    Page { first: bool, value_seen: bool },
    /// Behind the only value.
    End,
}

impl Records {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, state: State::Top }
    }

    /// Appends the next object to `out` as one line, and gives the line on
    /// which it starts; none at the end.
    pub(super) fn next(&mut self, source: &mut Source, out: &mut Vec<u8>) -> Result<Option<u64>, ImportError> {
        loop {
            let byte = source.next_byte()?;
            match (self.state, self.layout) {
                (State::Top, layout) => match (layout, byte) {
                    (_, None) => return Ok(None),
                    (Layout::Sequence, _) => return object(source, out).map(Some),
                    (Layout::Array, _) => {
                        source.consume(1);
                        self.state = State::Array { first: true };
                    }
                    (Layout::Pages, _) => {
                        if Layout::find(source)? != Layout::Pages {
                            return Err(source.error(
                                0,
                                "a Microsoft Graph response page is followed by something else",
                                "split the file, or set the format to ndjson to keep each page as one event",
                            ));
                        }
                        source.consume(1);
                        self.state = State::Page { first: true, value_seen: false };
                    }
                },
                (State::Array { first }, layout) => {
                    if byte == Some(b']') {
                        source.consume(1);
                        self.state = match layout {
                            Layout::Pages => State::Page { first: false, value_seen: true },
                            _ => State::End,
                        };
                        continue;
                    }
                    if !first {
                        comma(source, byte, "`,` or `]`")?;
                    }
                    self.state = State::Array { first: false };
                    return object(source, out).map(Some);
                }
                (State::Page { first, value_seen }, _) => {
                    if byte == Some(b'}') {
                        source.consume(1);
                        self.state = State::Top;
                        continue;
                    }
                    if !first {
                        comma(source, byte, "`,` or `}`")?;
                    }
                    self.state = page_member(source, value_seen)?;
                }
                (State::End, _) => match byte {
                    None => return Ok(None),
                    Some(_) => {
                        return Err(source.error(
                            0,
                            "there is more text after the end of the array",
                            "remove it, or deliver one array a file",
                        ));
                    }
                },
            }
        }
    }
}

/// Passes a page's key and, unless it is that of the events, its value.
fn page_member(source: &mut Source, value_seen: bool) -> Result<State, ImportError> {
    let is_value = step(source, |scanner| Ok(scanner.key()?.0 == b"value"))?;
    if is_value && source.next_byte()? == Some(b'[') {
        if value_seen {
            return Err(source.error(
                0,
                "the page has a second array named value",
                "deliver each Microsoft Graph response as it was received",
            ));
        }
        source.consume(1);
        return Ok(State::Array { first: true });
    }
    step(source, |scanner| {
        // The page around it is one level.
        scanner.depth = 1;
        scanner.skip()?;
        // Something must follow, or a number might go on behind the window.
        if scanner.pos == scanner.data.len() {
            return scanner.fault(scanner.pos, Kind::End);
        }
        Ok(())
    })?;
    Ok(State::Page { first: false, value_seen })
}

fn comma(source: &mut Source, byte: Option<u8>, wanted: &'static str) -> Result<(), ImportError> {
    if byte != Some(b',') {
        let kind = if byte.is_none() { Kind::End } else { Kind::Expected(wanted) };
        return Err(source.fault(&Fault { at: 0, kind }));
    }
    source.consume(1);
    source.next_byte()?;
    Ok(())
}

/// Passes what `scan` passes, however far the window must be widened.
fn step<T>(source: &mut Source, scan: impl Fn(&mut Scanner<'_, Ignore>) -> Result<T, Fault>) -> Result<T, ImportError> {
    loop {
        let mut scanner = Scanner::new(source.window(), Ignore);
        match scan(&mut scanner) {
            Ok(value) => {
                let passed = scanner.pos;
                check(source, passed)?;
                source.consume(passed);
                return Ok(value);
            }
            Err(Fault { kind: Kind::End, .. }) if !source.ended() => source.more()?,
            Err(fault) => return Err(source.fault(&fault)),
        }
    }
}

/// Appends the object at the window's start to `out` as one line, and gives
/// the line on which it starts.
fn object(source: &mut Source, out: &mut Vec<u8>) -> Result<u64, ImportError> {
    let line = source.line();
    let before = out.len();
    loop {
        let window = source.window();
        let mut scanner = Scanner::new(window, Compact::new(window, out));
        let outcome = match scanner.peek() {
            b'{' => scanner.skip(),
            _ => scanner.fault(0, Kind::NotObject),
        };
        match outcome {
            Ok(()) if scanner.pos > super::MAX_EVENT_BYTES => return Err(source.too_long()),
            Ok(()) => {
                let passed = scanner.pos;
                scanner.sink.end_line(passed);
                check(source, passed)?;
                source.consume(passed);
                return Ok(line);
            }
            Err(Fault { kind: Kind::End, .. }) if !source.ended() => {
                out.truncate(before);
                source.more()?;
            }
            Err(fault) => return Err(source.fault(&fault)),
        }
    }
}

/// Checks that the window's first `length` bytes are UTF-8.
fn check(source: &Source, length: usize) -> Result<(), ImportError> {
    check_utf8(source.window(), 0, length).map_err(|(at, cause, advice)| source.error(at, cause, advice))
}
