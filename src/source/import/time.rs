//! Reads the times that logs carry.
//!
//! Promises: never fails otherwise than by saying that it cannot read a text;
//! what it reads lies in the years 1970 to 2200.
//!
//! Must never: use the local time zone or the current date, or guess between
//! day and month (a slash date is month first, as Azure writes it).
//!
//! Leaves to others: where the text comes from.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// 2201-01-01T00:00:00Z in Unix seconds.
const END: i64 = 7_289_654_400;

/// Reads a time; UTC where the text names no offset. Understood are
///
/// - RFC 3339, with a space or `t` for `T`, `z` for `Z`, any number of
///   fraction digits (cut after nine), no offset, one without a colon or
///   behind a space, or `UTC`;
/// - `M/D/YYYY, h:mm:ss[.fff] AM|PM`, with or without the comma;
/// - digits only: Unix seconds, milliseconds from 1e11, microseconds from
///   1e14.
///
/// None for anything else, and outside the years 1970 to 2200.
#[must_use]
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let bytes = text.as_bytes();
    match bytes.get(4) {
        Some(b'-') => rfc3339(bytes),
        _ if bytes.iter().all(u8::is_ascii_digit) => unix(text),
        _ => azure_portal(text),
    }
}

/// Reads a JSON number as [`parse_time`] does digits; it may have a fraction
/// and an exponent.
pub(super) fn unix(number: &str) -> Option<Timestamp> {
    if number.contains(['e', 'E']) {
        let value: f64 = number.parse().ok().filter(|v| (0.0..1e18).contains(v))?;
        return unix(&format!("{value:.9}"));
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().ok()?;
    let unit: i128 = match whole {
        0..100_000_000_000 => 1_000_000_000,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        _ => 1_000,
    };
    let part = i128::from(nanoseconds(fraction.as_bytes())?) * unit / 1_000_000_000;
    in_range(Timestamp::from_nanosecond(i128::from(whole) * unit + part).ok()?)
}

fn rfc3339(text: &[u8]) -> Option<Timestamp> {
    let (date_time, mut rest) = text.split_at_checked(19)?;
    let at = |from: usize, to: usize| digits(&date_time[from..to]);
    let separators = [date_time[4], date_time[7], date_time[13], date_time[16]];
    if separators != *b"--::" || !matches!(date_time[10], b'T' | b't' | b' ') {
        return None;
    }
    let mut nanosecond = 0;
    if let Some(after) = rest.strip_prefix(b".") {
        let length = after.iter().take_while(|b| b.is_ascii_digit()).count();
        if length == 0 {
            return None;
        }
        nanosecond = nanoseconds(&after[..length])?;
        rest = &after[length..];
    }
    if let [b' ', behind @ ..] = rest
        && !behind.is_empty()
    {
        rest = behind;
    }
    let offset = match *rest {
        [] | [b'Z' | b'z'] | [b'U', b'T', b'C'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] | [sign @ (b'+' | b'-'), h1, h2, m1, m2] => {
            let (hours, minutes) = (digits(&[h1, h2])?, digits(&[m1, m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            if sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    // A leap second counts as the second before it.
    let second = match at(17, 19)? {
        60 => 59,
        second => second,
    };
    let date = (at(0, 4)?, at(5, 7)?, at(8, 10)?);
    instant(date, (at(11, 13)?, at(14, 16)?, second), nanosecond, offset)
}

fn azure_portal(text: &str) -> Option<Timestamp> {
    // Browsers put a (narrow) no-break space before AM and PM.
    let mut words = text.split([' ', '\u{a0}', '\u{202f}']);
    let (date, clock, half) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() {
        return None;
    }
    let number = |text: &str, longest: usize| (1..=longest).contains(&text.len()).then(|| digits(text.as_bytes())).flatten();
    let mut parts = date.strip_suffix(',').unwrap_or(date).split('/');
    let (month, day) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let year = parts.next().filter(|year| year.len() == 4)?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut units = clock.split(':');
    let hour = number(units.next()?, 2).filter(|hour| (1..=12).contains(hour))?;
    let (minute, second) = (units.next()?, units.next()?);
    if parts.next().is_some() || units.next().is_some() || fraction.is_empty() {
        return None;
    }
    if minute.len() != 2 || second.len() != 2 {
        return None;
    }
    let afternoon = match half {
        "AM" | "am" => 0,
        "PM" | "pm" => 12,
        _ => return None,
    };
    let clock = (hour % 12 + afternoon, number(minute, 2)?, number(second, 2)?);
    let nanosecond = nanoseconds(fraction.as_bytes())?;
    instant((number(year, 4)?, month, day), clock, nanosecond, 0)
}

/// A number of digits only, at most nine of them.
fn digits(text: &[u8]) -> Option<i32> {
    text.iter().try_fold(0_i32, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i32::from(b - b'0')))
}

/// A fraction's digits as nanoseconds, cut after nine digits.
fn nanoseconds(fraction: &[u8]) -> Option<i32> {
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let shown = &fraction[..fraction.len().min(9)];
    (shown.len()..9).try_fold(digits(shown)?, |sum, _| sum.checked_mul(10))
}

fn instant(
    (year, month, day): (i32, i32, i32),
    (hour, minute, second): (i32, i32, i32),
    nanosecond: i32,
    offset: i32,
) -> Option<Timestamp> {
    let small = |number: i32| i8::try_from(number).ok();
    let local =
        DateTime::new(i16::try_from(year).ok()?, small(month)?, small(day)?, small(hour)?, small(minute)?, small(second)?, nanosecond);
    let offset = Offset::from_seconds(offset).ok()?;
    in_range(offset.to_timestamp(local.ok()?).ok()?)
}

fn in_range(time: Timestamp) -> Option<Timestamp> {
    let fits = time.as_nanosecond() >= 0 && time.as_second() < END;
    fits.then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_logs_carry() {
        for (text, expected) in [
            ("2024-12-17T10:30:00Z", "2024-12-17T10:30:00Z"),
            ("2024-12-17T10:30:00.0000000Z", "2024-12-17T10:30:00Z"),
            ("2021-04-19T12:13:19.4834758+00:00", "2021-04-19T12:13:19.4834758Z"),
            ("2021-04-19t12:13:19.123456789123z", "2021-04-19T12:13:19.123456789Z"),
            ("2025-01-15 14:20:35.456", "2025-01-15T14:20:35.456Z"),
            ("2022-12-12 15:57:57", "2022-12-12T15:57:57Z"),
            ("2024-02-29T23:30:00-05:30", "2024-03-01T05:00:00Z"),
            ("2024-02-29T23:30:00+0100", "2024-02-29T22:30:00Z"),
            ("2024-01-15 10:30:45 +0100", "2024-01-15T09:30:45Z"),
            ("2024-01-15 10:30:45.5 UTC", "2024-01-15T10:30:45.5Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
            (" 2024-12-17T10:30:00Z ", "2024-12-17T10:30:00Z"),
            ("4/19/2021, 12:13:19.483 PM", "2021-04-19T12:13:19.483Z"),
            ("4/19/2021 12:13:19 AM", "2021-04-19T00:13:19Z"),
            ("12/1/2021, 1:02:03 pm", "2021-12-01T13:02:03Z"),
            ("12/01/2021, 11:02:03\u{202f}PM", "2021-12-01T23:02:03Z"),
            ("1700000000", "2023-11-14T22:13:20Z"),
            ("1700000000123", "2023-11-14T22:13:20.123Z"),
            ("1700000000123456", "2023-11-14T22:13:20.123456Z"),
            ("99999999999999", "5138-11-16T09:46:39.999Z"),
            ("0", "1970-01-01T00:00:00Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("2200-12-31T23:59:59.999999999Z", "2200-12-31T23:59:59.999999999Z"),
        ] {
            let expected: Timestamp = expected.parse().unwrap();
            let expected = in_range(expected);
            assert_eq!(parse_time(text), expected, "{text}");
        }
        assert_eq!(Timestamp::from_second(END).unwrap().to_string(), "2201-01-01T00:00:00Z");
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            " ",
            "now",
            "2024-12-17",
            "2024-12-17T10:30Z",
            "2024-13-17T10:30:00Z",
            "2023-02-29T10:30:00Z",
            "2024-12-17T24:30:00Z",
            "2024-12-17T10:30:00.Z",
            "2024-12-17T10:30:00+25:00",
            "2024-12-17T10:30:00  Z",
            "2024-12-17X10:30:00Z",
            "2024-1２-17T10:30:00Z",
            "1969-12-31T23:59:59.999999999Z",
            "2201-01-01T00:00:00Z",
            "0001-01-01T00:00:00Z",
            "99999999999",
            "12345678901234567890123",
            "-5",
            "13/19/2021, 1:00:00 PM",
            "4/19/2021, 0:13:19 PM",
            "4/19/2021, 13:13:19 PM",
            "4/19/2021, 1:13:19",
            "4/19/21, 1:13:19 PM",
            "4/19/2021, 1:3:19 PM",
            "4/19/2021, 1:13:19. PM",
            "4/19/2021, 1:13 PM",
            "é/19/2021, 1:13:19 PM",
            "4/19/2021, 1:13:19 PM x",
            "1.5",
            "२०२४-12-17T10:30:00Z",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn reads_json_numbers() {
        for (number, expected) in [
            ("1700000000", Some("2023-11-14T22:13:20Z")),
            ("1700000000.5", Some("2023-11-14T22:13:20.5Z")),
            ("1700000000123.25", Some("2023-11-14T22:13:20.12325Z")),
            ("1.7e9", Some("2023-11-14T22:13:20Z")),
            ("17E8", Some("2023-11-14T22:13:20Z")),
            ("-1", None),
            ("-0.5", None),
            ("1e300", None),
            ("-1e3", None),
            ("123456789012345678901234567890", None),
        ] {
            let expected = expected.map(|time| time.parse().unwrap());
            assert_eq!(unix(number), expected, "{number}");
        }
    }
}
