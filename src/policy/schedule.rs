//! Schedules: `cron`'s form with seconds, read in the policy's time zone.
//!
//! It promises: where the clocks of the zone are set, no firing is lost and none comes twice. What fires every hour
//! goes on by real time; what fires at an hour of the day that is left out fires at the instant at which the clocks
//! are set forward, and where an hour comes twice, in the first.

use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, Utc};
use cron::TimeUnitSpec;
use jiff::civil::DateTime as Civil;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// How far ahead schedules are looked at, in firings and days.
const FIRINGS: usize = 20_000;
const DAYS: i64 = 400;
/// Firings that are looked at one by one at most.
const MOST: usize = 100_000;

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
    Timetable::new(expression, zone)?.next_after(after)
}

/// A schedule in a time zone.
#[derive(Debug, Clone)]
pub struct Timetable {
    schedule: cron::Schedule,
    zone: TimeZone,
    /// It fires in every hour: then the hours of the zone do not matter.
    hourly: bool,
}

impl Timetable {
    /// Of an expression and a zone that `policy check` accepts.
    pub fn new(expression: &str, zone: &str) -> Option<Self> {
        let schedule = parse(expression).ok()?;
        let hourly = schedule.hours().count() == 24;
        Some(Self { schedule, zone: TimeZone::get(zone).ok()?, hourly })
    }

    /// The first firing after an instant; none if it never fires again.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let mut at = Timestamp::from_second(after.as_second()).ok()?;
        // Up to the second before it, everything was looked at.
        for _ in 0..MOST {
            let offset = self.zone.to_offset(at);
            let civil = self.after(offset.to_datetime(at))?;
            let candidate = offset.to_timestamp(civil).ok()?;
            let set = self.zone.following(at).next().filter(|t| t.timestamp() <= candidate);
            let Some(set) = set else {
                if self.hourly || !self.comes_again(civil, offset) {
                    return Some(candidate);
                }
                at = candidate;
                continue;
            };
            let instant = set.timestamp();
            let (before, after) = (offset.to_datetime(instant), set.offset().to_datetime(instant));
            let just_before = |civil: Civil| civil.checked_sub(SignedDuration::from_secs(1)).ok();
            if after > before {
                // Clocks are set forward: from `before` until `after` no clock shows those times.
                let lost = self.after(just_before(before)?).filter(|lost| *lost < after);
                if lost.is_some() && !self.hourly {
                    return Some(instant);
                }
            }
            // What fires at the instant itself, as the clocks show it afterwards.
            let first = self.after(just_before(after)?)?;
            if first == after && (self.hourly || !self.comes_again(first, set.offset())) {
                return Some(instant);
            }
            at = instant;
        }
        None
    }

    /// The newest firing up to an instant, but after another one.
    pub fn newest(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let mut back = SignedDuration::from_mins(30);
        loop {
            let start = until.checked_sub(back).unwrap_or(after).max(after);
            if let Some(first) = self.next_after(start).filter(|first| *first <= until) {
                return self.firings(first, until).last();
            }
            if start == after {
                return None;
            }
            back = back.checked_mul(4)?;
        }
    }

    /// How many firings lie after an instant and before another one; no more than a hundred thousand are counted.
    pub fn between(&self, after: Timestamp, before: Timestamp) -> usize {
        let Some(first) = self.next_after(after).filter(|first| *first < before) else { return 0 };
        self.firings(first, before).take_while(|at| *at < before).count()
    }

    fn firings(&self, first: Timestamp, until: Timestamp) -> impl Iterator<Item = Timestamp> {
        let next = move |at: &Timestamp| self.next_after(*at).filter(|next| *next <= until);
        std::iter::successors(Some(first), next).take(MOST)
    }

    /// The first firing after a time of the clock.
    fn after(&self, civil: Civil) -> Option<Civil> {
        let date = chrono::NaiveDate::from_ymd_opt(civil.year().into(), civil.month().try_into().ok()?, civil.day().try_into().ok()?)?;
        let naive = date.and_hms_opt(civil.hour().try_into().ok()?, civil.minute().try_into().ok()?, civil.second().try_into().ok()?)?;
        let next: NaiveDateTime = self.schedule.after(&naive.and_utc()).next()?.naive_utc();
        next.format("%Y-%m-%dT%H:%M:%S").to_string().parse().ok()
    }

    /// Whether a clock showed this time before, and this is the second time.
    fn comes_again(&self, civil: Civil, offset: jiff::tz::Offset) -> bool {
        matches!(self.zone.to_ambiguous_timestamp(civil).offset(), AmbiguousOffset::Fold { after, .. } if after == offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Firings from an instant on, as a clock in UTC shows them.
    fn firings(expression: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let table = Timetable::new(expression, zone).unwrap();
        let first = table.next_after(from.parse().unwrap());
        let all = std::iter::successors(first, |at| table.next_after(*at)).take(count);
        all.map(|at| at.to_string()[5..16].to_owned()).collect()
    }

    #[test]
    fn what_fires_every_half_hour_goes_on_by_real_time() {
        let half = "0 */30 * * * *";
        let spring = firings(half, "Europe/Berlin", "2026-03-29T00:00:00Z", 4);
        assert_eq!(spring, ["03-29T00:30", "03-29T01:00", "03-29T01:30", "03-29T02:00"]);
        let autumn = firings(half, "Europe/Berlin", "2026-10-24T23:40:00Z", 6);
        assert_eq!(autumn, ["10-25T00:00", "10-25T00:30", "10-25T01:00", "10-25T01:30", "10-25T02:00", "10-25T02:30"]);
        // A zone that is set by half an hour.
        let lord_howe = firings("0 15 * * * *", "Australia/Lord_Howe", "2026-04-04T13:30:00Z", 3);
        assert_eq!(lord_howe, ["04-04T14:15", "04-04T15:45", "04-04T16:45"]);
    }

    #[test]
    fn an_hour_that_is_left_out_fires_when_the_clocks_are_set() {
        let nightly = "0 30 2 * * *";
        let spring = firings(nightly, "Europe/Berlin", "2026-03-27T12:00:00Z", 3);
        assert_eq!(spring, ["03-28T01:30", "03-29T01:00", "03-30T00:30"]);
        // Both hours fall on the same instant: once.
        let both = firings("0 0 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 3);
        assert_eq!(both, ["03-29T01:00", "03-30T00:00", "03-30T01:00"]);
    }

    #[test]
    fn an_hour_that_comes_twice_fires_once() {
        let autumn = firings("0 30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(autumn, ["10-25T00:30", "10-26T01:30"]);
        // Asked in the second of the two hours.
        let later = firings("0 30 2 * * *", "Europe/Berlin", "2026-10-25T00:45:00Z", 1);
        assert_eq!(later, ["10-26T01:30"]);
        // At the very instant at which the clocks go back to two.
        let two = firings("0 0 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(two, ["10-25T00:00", "10-26T01:00"]);
    }

    #[test]
    fn the_newest_firing_is_found_however_long_ago() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let yearly = Timetable::new("0 0 5 1 1 *", "UTC").unwrap();
        let newest = yearly.newest(at("2020-01-02T00:00:00Z"), at("2026-11-28T12:00:00Z"));
        assert_eq!(newest, Some(at("2026-01-01T05:00:00Z")));
        assert_eq!(yearly.newest(at("2026-01-01T05:00:00Z"), at("2026-11-28T12:00:00Z")), None);
        let minutes = Timetable::new("0 * * * * *", "UTC").unwrap();
        assert_eq!(minutes.newest(at("2020-01-02T00:00:00Z"), at("2026-11-28T12:00:00Z")), Some(at("2026-11-28T12:00:00Z")));
        assert_eq!(minutes.between(at("2026-11-28T12:00:00Z"), at("2026-11-28T12:10:00Z")), 9);
    }

    #[test]
    fn what_never_fires_says_so() {
        assert_eq!(Timetable::new("0 0 0 30 2 *", "UTC").unwrap().next_after(Timestamp::now()), None);
        assert_eq!(next_due("0 0 0 1 1 * 2019", "UTC", Timestamp::now()), None);
    }
}
