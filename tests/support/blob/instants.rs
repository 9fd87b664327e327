//! Instants as the service writes and reads them.

use jiff::fmt::rfc2822::{DateTimeParser, DateTimePrinter};
use jiff::{SignedDuration, Timestamp};

/// `Tue, 24 Nov 2026 22:17:03 GMT`
pub fn http_date(at: Timestamp) -> String {
    DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap()
}

/// An instant in a header, to the second: RFC 1123, or ISO 8601 from clients that are careless.
pub fn parse(text: &str) -> Option<Timestamp> {
    let read = DateTimeParser::new().parse_timestamp(text).ok().or_else(|| text.parse().ok())?;
    Some(whole_seconds(read))
}

/// The service keeps no fraction of a second in a lock.
pub fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap()
}

/// `2026-11-24T22:17:03.1234567Z`: what names a version, to 100 ns.
pub fn version_id(ticks: i128) -> String {
    let second = ticks.div_euclid(10_000_000);
    let at = Timestamp::from_second(i64::try_from(second).unwrap()).unwrap();
    format!("{}.{:07}Z", at.strftime("%Y-%m-%dT%H:%M:%S"), ticks.rem_euclid(10_000_000))
}

pub fn ticks(at: Timestamp) -> i128 {
    at.as_nanosecond() / 100
}

pub fn seconds(n: i64) -> SignedDuration {
    SignedDuration::from_secs(n)
}

pub fn days(n: i64) -> SignedDuration {
    SignedDuration::from_secs(n.saturating_mul(86_400))
}
