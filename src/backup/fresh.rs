//! Which events of a span are not sealed yet: all of it is read, sorted as the cache is, and merged with it.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::export::{ExportError, ExportJob};
use super::seen::{Known, Lookup, day_of, mark};
use crate::observe::Event;
use crate::sort::Sorter;
use crate::source::graph::{LogError, LogQuery};
use crate::vault::attestation::Window;

/// Memory for sorting, in bytes; more goes to unnamed files.
pub(super) const SORT_BUDGET: usize = 48 << 20;
/// An event's day as a key, and its mark.
const KEY: usize = 8 + 32;

/// What reading found out.
#[derive(Default)]
pub(super) struct Found {
    pub read_bytes: u64,
    pub changed: u64,
    pub untimed: u64,
    /// The earliest late event that is no new version.
    pub earliest_late: Option<Timestamp>,
}

/// Reads everything in question, and gives what is not sealed yet to `fresh`: main events before late
/// ones, each in order of time.
pub(super) fn unsealed(
    job: &ExportJob<'_>,
    window: Window,
    start: Timestamp,
    lookup: &mut Lookup<'_>,
    fresh: &mut Sorter,
) -> Result<Found, ExportError> {
    let Window { from, to } = window;
    let listed = job.reader.spec.filter.is_none();
    let mut found = Found::default();
    let mut by_mark = Sorter::new(job.state.path(), SORT_BUDGET);
    let query = LogQuery { from: start, to };
    let mut pending = 0;
    found.read_bytes = job
        .reader
        .read(query, job.monitor, &mut |event| {
            pending += 1;
            if pending == 1000 {
                job.monitor.event(Event::Listed { records: std::mem::take(&mut pending) });
            }
            let time = event.key.time;
            // Both ends of the service's span are inclusive; a list that is not filtered has everything.
            if time.is_some_and(|at| at >= to || at < start && !listed) {
                return Ok(());
            }
            let day = day_of(time.unwrap_or(from));
            let mut key = [0; KEY];
            key[..8].copy_from_slice(&sortable_day(day).to_be_bytes());
            key[8..].copy_from_slice(&mark(&event.key, event.line));
            let mut value = order_of(time).to_vec();
            value.extend_from_slice(event.line);
            by_mark.push(&key, &value)
        })
        .map_err(|source| match source {
            LogError::Taking(e) => ExportError::State(e),
            other => ExportError::Log { stream: job.stream.to_string(), source: Box::new(other) },
        })?;
    let mut ordinal = 0u64;
    by_mark
        .finish(|key, value| {
            let day = date_of(&key[..8]);
            let mut of = [0; 32];
            of.copy_from_slice(&key[8..]);
            let known = lookup.ask(day, &of)?;
            if known == Known::Sealed {
                return Ok(());
            }
            let time = time_of(&value[..16]);
            found.untimed += u64::from(time.is_none());
            let late = time.is_some_and(|at| at < from);
            if late && known == Known::Changed {
                found.changed += 1;
            } else if late {
                found.earliest_late = Some(found.earliest_late.map_or(time.unwrap_or(from), |at| at.min(time.unwrap_or(from))));
            }
            let mut place = vec![u8::from(late)];
            place.extend_from_slice(&value[..16]);
            place.extend_from_slice(&ordinal.to_be_bytes());
            ordinal += 1;
            fresh.push(&place, &value[16..])
        })
        .map_err(ExportError::State)?;
    Ok(found)
}

/// A day as a number that sorts like it.
fn sortable_day(day: jiff::civil::Date) -> u64 {
    let days = day.to_zoned(TimeZone::UTC).map_or(0, |z| z.timestamp().as_second().div_euclid(86_400));
    u64::try_from(days).unwrap_or(0)
}

fn date_of(bytes: &[u8]) -> jiff::civil::Date {
    let days = bytes.try_into().map_or(0, u64::from_be_bytes);
    let at = i64::try_from(days).ok().and_then(|days| Timestamp::from_second(days * 86_400).ok());
    day_of(at.unwrap_or(Timestamp::UNIX_EPOCH))
}

/// An event's time as bytes that sort like it; an event without one sorts last.
fn order_of(time: Option<Timestamp>) -> [u8; 16] {
    // Times lie in 1970 to 2200, so they are never negative.
    time.map_or([0xff; 16], |at| at.as_nanosecond().to_be_bytes())
}

fn time_of(bytes: &[u8]) -> Option<Timestamp> {
    let number = i128::from_be_bytes(bytes.try_into().ok()?);
    (number >= 0).then(|| Timestamp::from_nanosecond(number).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_times_survive_being_keys() {
        let at: Timestamp = "2026-11-23T10:11:12.345Z".parse().unwrap();
        assert_eq!(date_of(&sortable_day(day_of(at)).to_be_bytes()), day_of(at));
        assert_eq!(time_of(&order_of(Some(at))), Some(at));
        assert_eq!(time_of(&order_of(None)), None);
        assert!(order_of(Some(at)) < order_of(None));
    }
}
