//! Instants as the service writes them, fast enough to write millions.

use jiff::Timestamp;

/// Nanoseconds of a second.
pub const SECOND: i64 = 1_000_000_000;

/// Days since 1970 to a date of the Gregorian calendar.
fn civil(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month as u32, day as u32)
}

fn digits(out: &mut Vec<u8>, value: u64, width: usize) {
    let mut text = [b'0'; 20];
    let (mut value, mut at) = (value, width);
    while at > 0 {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&text[..width]);
}

/// `2026-11-24T19:16:44`, without what follows the second.
fn push_whole(out: &mut Vec<u8>, seconds: i64) {
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400) as u64;
    digits(out, year.max(0) as u64, 4);
    out.push(b'-');
    digits(out, u64::from(month), 2);
    out.push(b'-');
    digits(out, u64::from(day), 2);
    out.push(b'T');
    digits(out, of_day / 3600, 2);
    out.push(b':');
    digits(out, of_day / 60 % 60, 2);
    out.push(b':');
    digits(out, of_day % 60, 2);
}

/// `2026-11-24T19:16:44Z`
pub fn push_seconds(out: &mut Vec<u8>, nanos: i64) {
    push_whole(out, nanos.div_euclid(SECOND));
    out.push(b'Z');
}

/// `2026-11-24T19:16:44.0123456Z`, in ticks of 100 nanoseconds.
pub fn push_ticks(out: &mut Vec<u8>, nanos: i64) {
    push_whole(out, nanos.div_euclid(SECOND));
    out.push(b'.');
    digits(out, (nanos.rem_euclid(SECOND) / 100) as u64, 7);
    out.push(b'Z');
}

/// An instant at a whole second as text.
pub fn seconds_text(nanos: i64) -> String {
    let mut out = Vec::with_capacity(20);
    push_seconds(&mut out, nanos);
    String::from_utf8(out).unwrap_or_default()
}

/// An instant with its ticks as text.
pub fn ticks_text(nanos: i64) -> String {
    let mut out = Vec::with_capacity(28);
    push_ticks(&mut out, nanos);
    String::from_utf8(out).unwrap_or_default()
}

/// Nanoseconds since 1970, for instants up to the year 2262.
pub fn nanos(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)
}

/// Nanoseconds of an instant in text, with or without a time of day.
pub fn parse(text: &str) -> Option<i64> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(nanos(at));
    }
    let date: jiff::civil::Date = text.parse().ok()?;
    Some(nanos(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for text in ["2026-11-24T19:16:44Z", "2024-02-29T23:59:59Z", "1970-01-01T00:00:00Z", "2000-03-01T00:00:00Z"] {
            assert_eq!(seconds_text(parse(text).unwrap()), text);
        }
        assert_eq!(ticks_text(parse("2026-01-31T01:02:03.0123456Z").unwrap()), "2026-01-31T01:02:03.0123456Z");
        assert_eq!(parse("2026-11-24"), parse("2026-11-24T00:00:00Z"));
        assert_eq!(parse("yesterday"), None);
    }
}
