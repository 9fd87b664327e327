//! Checks events, strips their white space, and takes their measure.
//!
//! Promises: every line of the result is a valid UTF-8 JSON object, equal to
//! the one delivered byte for byte but for white space outside strings. Pure:
//! the same chunk gives the same batch, on any thread.
//!
//! Must never: drop an event because its id or time is missing or odd.
//!
//! Leaves to others: cutting files into chunks, removing duplicates.

use jiff::Timestamp;

use super::error::ImportError;
use super::pointer::{Found, Paths, Pointers};
use super::scan::{Compact, Fault, Ignore, Kind, Scanner, Sink};
use super::time::{parse_time, unix};
use super::{Batch, EventKey, RawChunk};

/// Checks and strips one chunk. Takes about the size of the chunk in memory.
///
/// # Errors
/// The first line that is not UTF-8, not JSON, not an object, or nested too
/// deep; a misspelt pointer.
pub fn normalise(chunk: &RawChunk, pointers: &Pointers) -> Result<Batch, ImportError> {
    let paths = Paths::new(pointers)?;
    let mut found = paths.room();
    let mut batch = Batch::default();
    let data = chunk.data.as_slice();
    let mut out = Vec::with_capacity(data.len() + 1);
    let mut scanner = Scanner::new(data, Compact::new(data, &mut out));
    let mut start = 0;
    while start < data.len() {
        let end = memchr::memchr(b'\n', &data[start..]).map_or(data.len(), |i| start + i);
        let line = check_utf8(data, start, end).and_then(|()| {
            scanner.data = &data[..end];
            scanner.pos = start;
            events_of_line(&mut scanner, &paths, &mut found, &mut batch, data.len())
        });
        if let Err((at, cause, advice)) = line {
            let number = chunk.first_line + memchr::memchr_iter(b'\n', &data[..start]).count() as u64;
            return Err(ImportError::at(number, Some((at - start) as u64 + 1), cause, advice));
        }
        start = end + 1;
    }
    scanner.sink.flush(data.len());
    if out.last().is_some_and(|&last| last != b'\n') {
        out.push(b'\n');
    }
    batch.ndjson = out;
    Ok(batch)
}

/// Index of the byte at fault, cause, advice.
type Flaw = (usize, String, &'static str);

/// Takes the events of the line from the scanner's position to the end of its
/// data: none, one, or several. `whole` is the length of the chunk.
#[inline]
fn events_of_line(
    scanner: &mut Scanner<'_, Compact<'_>>,
    paths: &Paths,
    found: &mut [Option<Found>],
    batch: &mut Batch,
    whole: usize,
) -> Result<(), Flaw> {
    let end = scanner.data.len();
    scanner.peek();
    if scanner.pos == end {
        // A blank line: leave out its line end, too.
        scanner.sink.gap(end, whole.min(end + 1));
        return Ok(());
    }
    loop {
        scanner.event(paths, found).map_err(|fault| line_flaw(&fault, scanner.data))?;
        let (id, time) = key_of(paths, found, scanner.data);
        batch.events += 1;
        batch.without_id += u64::from(id.is_none());
        match time {
            Some(time) => {
                batch.first = Some(batch.first.map_or(time, |first| first.min(time)));
                batch.last = Some(batch.last.map_or(time, |last| last.max(time)));
            }
            None => batch.untimed += 1,
        }
        scanner.peek();
        if scanner.pos == end {
            // The line end that follows is copied with the next run.
            return Ok(());
        }
        scanner.sink.end_line(scanner.pos);
    }
}

/// Id and time of one event, which may be followed by a line end.
///
/// # Errors
/// As [`normalise`]; the line is 1.
pub fn event_key(line: &[u8], pointers: &Pointers) -> Result<EventKey, ImportError> {
    let paths = Paths::new(pointers)?;
    let mut found = paths.room();
    let mut scanner = Scanner::new(line, Ignore);
    let checked = check_utf8(line, 0, line.len()).and_then(|()| {
        let flaw = |fault: Fault| line_flaw(&fault, line);
        scanner.event(&paths, &mut found).map_err(flaw)?;
        scanner.peek();
        if scanner.pos == line.len() {
            return Ok(());
        }
        scanner.fault(scanner.pos, Kind::Expected("the end of the line")).map_err(flaw)
    });
    if let Err((at, cause, advice)) = checked {
        return Err(ImportError::at(1, Some(at as u64 + 1), cause, advice));
    }
    let (id, time) = key_of(&paths, &found, line);
    Ok(EventKey { id: id.map(|found| found.text(line).into_owned()), time })
}

fn key_of(paths: &Paths, found: &[Option<Found>], data: &[u8]) -> (Option<Found>, Option<Timestamp>) {
    let (id, time) = paths.pick(found);
    let time = time.and_then(|found| {
        let text = found.text(data);
        if found.string { parse_time(&text) } else { unix(&text) }
    });
    (id, time)
}

fn line_flaw(fault: &Fault, data: &[u8]) -> Flaw {
    let (mut cause, advice) = fault.words(data);
    if fault.kind == Kind::End {
        cause = "the line ends inside a JSON value".into();
    }
    (fault.at, cause, advice)
}

/// Checks `data[start..end]`.
#[inline]
pub(super) fn check_utf8(data: &[u8], start: usize, end: usize) -> Result<(), Flaw> {
    std::str::from_utf8(&data[start..end]).map(|_| ()).map_err(|error| {
        let at = start + error.valid_up_to();
        let byte = data.get(at).copied().unwrap_or(0);
        (at, format!("byte 0x{byte:02x} is not valid UTF-8"), "convert the file to UTF-8 (for example with iconv), or deliver it again")
    })
}
