//! Schedules: `cron`'s form with seconds, read in the policy's time zone.

use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, Utc};
use jiff::Timestamp;
use jiff::civil::DateTime as Civil;
use jiff::tz::TimeZone;

/// How far ahead schedules are looked at, in firings and days.
const FIRINGS: usize = 20_000;
const DAYS: i64 = 400;

/// Reads an expression, or says why it is none.
pub(super) fn parse(text: &str) -> Result<cron::Schedule, String> {
    let fields = text.split_whitespace().count();
    if !(6..=7).contains(&fields) && !text.starts_with('@') {
        return Err(format!("{text:?} has {fields} fields; a schedule has six: second minute hour day month weekday"));
    }
    cron::Schedule::from_str(text).map_err(|e| format!("{text:?} is not a schedule: {e}"))
}

/// The longest time between two firings of any of these schedules in the year ahead, in seconds.
pub(super) fn longest_gap(schedules: &[cron::Schedule], from: Timestamp) -> Option<u64> {
    let start = DateTime::<Utc>::from_timestamp(from.as_second(), 0)?;
    let end = start + chrono::TimeDelta::days(DAYS);
    let mut all: Vec<DateTime<Utc>> = schedules.iter().flat_map(|s| s.after(&start).take(FIRINGS).take_while(|at| *at < end)).collect();
    all.sort_unstable();
    all.dedup();
    let gaps = all.windows(2).filter_map(|w| u64::try_from((w[1] - w[0]).num_seconds()).ok());
    gaps.max()
}

/// When a schedule fires next after an instant, in a time zone.
pub fn next_due(expression: &str, zone: &str, after: Timestamp) -> Option<Timestamp> {
    let zone = TimeZone::get(zone).ok()?;
    let schedule = parse(expression).ok()?;
    let local = after.to_zoned(zone.clone()).datetime();
    let naive = chrono::NaiveDate::from_ymd_opt(local.year().into(), local.month().try_into().ok()?, local.day().try_into().ok()?)?
        .and_hms_opt(local.hour().try_into().ok()?, local.minute().try_into().ok()?, local.second().try_into().ok()?)?;
    let next: NaiveDateTime = schedule.after(&naive.and_utc()).next()?.naive_utc();
    let civil: Civil = next.format("%Y-%m-%dT%H:%M:%S").to_string().parse().ok()?;
    Some(civil.to_zoned(zone).ok()?.timestamp())
}
