//! Epochs and the locks that follow from them.
//!
//! Every object of an epoch is locked until the epoch's end + retention + grace, so that no lock ever
//! has to be extended. All instants are UTC; all locks are whole seconds.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

/// The calendar period within which the snapshots of one source share segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(rename_all = "snake_case")]
pub enum EpochKind {
    /// A calendar month.
    #[default]
    Month,
    /// Three months.
    Quarter,
    /// A calendar year.
    Year,
}

/// One epoch: `2026-11`, `2026-Q4` or `2026`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    kind: EpochKind,
    first: Date,
}

impl Epoch {
    /// The epoch that holds an instant.
    pub fn containing(instant: Timestamp, kind: EpochKind) -> Self {
        let day = instant.to_zoned(TimeZone::UTC).date();
        let month = match kind {
            EpochKind::Month => day.month(),
            EpochKind::Quarter => (day.month() - 1) / 3 * 3 + 1,
            EpochKind::Year => 1,
        };
        Self { kind, first: Date::constant(day.year(), month, 1) }
    }

    /// Its first instant.
    pub fn start(&self) -> Timestamp {
        at_midnight(self.first)
    }

    /// The first instant after it.
    pub fn end(&self) -> Timestamp {
        let length: Span = match self.kind {
            EpochKind::Month => 1.month(),
            EpochKind::Quarter => 3.months(),
            EpochKind::Year => 1.year(),
        };
        self.first.checked_add(length).map_or(Timestamp::MAX, at_midnight)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month) = (self.first.year(), self.first.month());
        match self.kind {
            EpochKind::Month => write!(f, "{year:04}-{month:02}"),
            EpochKind::Quarter => write!(f, "{year:04}-Q{}", (month - 1) / 3 + 1),
            EpochKind::Year => write!(f, "{year:04}"),
        }
    }
}

fn at_midnight(day: Date) -> Timestamp {
    day.to_zoned(TimeZone::UTC).map_or(Timestamp::MAX, |z| z.timestamp())
}

/// The end of the calendar month that holds an instant.
pub fn month_end(instant: Timestamp) -> Timestamp {
    Epoch::containing(instant, EpochKind::Month).end()
}

/// A retention in whole calendar years, written `7y`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Retention {
    /// Calendar years.
    pub years: u16,
}

/// A grace in whole days, written `30d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Grace {
    /// Days.
    pub days: u16,
}

impl FromStr for Retention {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let years = text.strip_suffix('y').and_then(|n| n.parse().ok()).filter(|n| (1..=100).contains(n));
        years.map(|years| Self { years }).ok_or_else(|| format!("{text:?} is not a retention: write whole years from 1y to 100y"))
    }
}

impl FromStr for Grace {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let days = text.strip_suffix('d').and_then(|n| n.parse().ok()).filter(|n| (1..=366).contains(n));
        days.map(|days| Self { days }).ok_or_else(|| format!("{text:?} is not a grace: write whole days from 1d to 366d"))
    }
}

macro_rules! text_of {
    ($($kind:ty => |$it:ident| $text:expr),*) => {$(
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let $it = self;
                f.write_str(&$text)
            }
        }
        impl TryFrom<String> for $kind {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }
        impl From<$kind> for String {
            fn from(value: $kind) -> String {
                value.to_string()
            }
        }
    )*};
}
text_of!(Retention => |it| format!("{}y", it.years), Grace => |it| format!("{}d", it.days));

/// `from` + retention (calendar years; 29 February becomes the 28th) + grace, rounded up to a whole second.
pub fn locked_until(from: Timestamp, retention: Retention, grace: Grace) -> Timestamp {
    let span = i64::from(retention.years).years();
    let years_on = from.to_zoned(TimeZone::UTC).checked_add(span);
    let with_grace = years_on.and_then(|z| z.checked_add(i64::from(grace.days).days()));
    let until = with_grace.map_or(Timestamp::MAX, |z| z.timestamp());
    let whole = if until.subsec_nanosecond() > 0 { until.as_second() + 1 } else { until.as_second() };
    Timestamp::from_second(whole).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn epochs_have_calendar_borders() {
        for (kind, name, start, end) in [
            (EpochKind::Month, "2026-11", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
            (EpochKind::Quarter, "2026-Q4", "2026-10-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            (EpochKind::Year, "2026", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ] {
            let epoch = Epoch::containing(at("2026-11-30T23:59:59.999Z"), kind);
            assert_eq!((epoch.to_string().as_str(), epoch.start(), epoch.end()), (name, at(start), at(end)));
            assert_ne!(Epoch::containing(epoch.end(), kind), epoch);
        }
    }

    #[test]
    fn locks_follow_the_calendar() {
        let (seven, thirty) = ("7y".parse().unwrap(), "30d".parse().unwrap());
        assert_eq!(locked_until(at("2026-12-01T00:00:00Z"), seven, thirty), at("2033-12-31T00:00:00Z"));
        assert_eq!(locked_until(at("2028-02-29T00:00:00.5Z"), "1y".parse().unwrap(), "1d".parse().unwrap()), at("2029-03-01T00:00:01Z"));
        for bad in ["7", "0y", "7d", "-1y", "101y", ""] {
            assert!(bad.parse::<Retention>().is_err(), "{bad}");
        }
    }
}
