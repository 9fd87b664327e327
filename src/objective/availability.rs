//! The share of time in which every RPO was within its objective.

use jiff::{SignedDuration, Timestamp};

use super::Point;

/// A chain that is held to an objective.
pub struct Held<'a> {
    /// Its recovery points.
    pub points: &'a [Point],
    /// Since when it is answered for.
    pub since: Timestamp,
    /// Its objective.
    pub objective: SignedDuration,
}

/// Over a period.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Availability {
    /// Where the period begins: with the first chain, if that is later than what was asked for.
    pub from: Timestamp,
    /// How long at least one RPO was beyond its objective.
    pub beyond: SignedDuration,
    /// The rest as a share of the period, in percent.
    pub percent: f64,
}

/// Half open.
type Span = (Timestamp, Timestamp);

/// The availability from `from` to `to`; nothing if no chain is answered for by then.
pub fn availability<'a>(chains: impl IntoIterator<Item = Held<'a>>, from: Timestamp, to: Timestamp) -> Option<Availability> {
    let (from, beyond) = beyond(chains, from, to)?;
    Some(within(&beyond, from, to))
}

/// The availability of each day of UTC from `from` to `to`, as far as a chain is answered for.
pub fn by_day<'a>(chains: impl IntoIterator<Item = Held<'a>>, from: Timestamp, to: Timestamp) -> Vec<Availability> {
    let Some((from, beyond)) = beyond(chains, from, to) else { return Vec::new() };
    let midnight = |at: Timestamp| {
        let day = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        day.tomorrow().ok().and_then(|d| d.to_zoned(jiff::tz::TimeZone::UTC).ok()).map_or(to, |z| z.timestamp())
    };
    let first = (from < to).then(|| (from, midnight(from).min(to)));
    let days = std::iter::successors(first, |(_, end)| (*end < to).then(|| (*end, midnight(*end).min(to))));
    days.map(|(begin, end)| within(&beyond, begin, end)).collect()
}

/// Since when chains are answered for, and when at least one was beyond its objective: spans in order, apart.
fn beyond<'a>(chains: impl IntoIterator<Item = Held<'a>>, from: Timestamp, to: Timestamp) -> Option<(Timestamp, Vec<Span>)> {
    let mut all: Vec<Span> = Vec::new();
    let mut begins: Option<Timestamp> = None;
    for chain in chains {
        let start = chain.since.max(from);
        if start < to {
            begins = Some(begins.map_or(start, |b| b.min(start)));
            all.extend(gaps(&chain, start, to));
        }
    }
    let from = begins?;
    all.sort_unstable();
    let mut apart: Vec<Span> = Vec::with_capacity(all.len());
    for (begin, end) in all {
        match apart.last_mut() {
            Some(last) if begin <= last.1 => last.1 = last.1.max(end),
            _ => apart.push((begin, end)),
        }
    }
    Some((from, apart))
}

fn within(beyond: &[Span], from: Timestamp, to: Timestamp) -> Availability {
    let first = beyond.partition_point(|(_, end)| *end <= from);
    let inside = beyond[first..].iter().take_while(|(begin, _)| *begin < to);
    let sum = inside.fold(SignedDuration::ZERO, |sum, (begin, end)| sum + (*end).min(to).duration_since((*begin).max(from)));
    let all = to.duration_since(from);
    Availability { from, beyond: sum, percent: 100.0 * (1.0 - sum.as_secs_f64() / all.as_secs_f64()) }
}

/// When between two instants the chain was beyond its objective.
fn gaps(chain: &Held<'_>, start: Timestamp, to: Timestamp) -> Vec<Span> {
    // Within the objective from each commit until what it captured is too old.
    let mut within: Vec<Span> =
        chain.points.iter().map(|p| (p.committed, p.captured.saturating_add(chain.objective).unwrap_or(to))).collect();
    within.sort_unstable();
    let (mut out, mut upto) = (Vec::new(), start);
    for (begin, end) in within.into_iter().filter(|(begin, end)| begin < end) {
        if begin >= to {
            break;
        }
        if begin > upto {
            out.push((upto, begin));
        }
        upto = upto.max(end);
    }
    if upto < to {
        out.push((upto, to));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + 60 * minute).unwrap()
    }

    fn point(sequence: u64, captured: i64, committed: i64) -> Point {
        Point { sequence, committed: at(committed), captured: at(captured) }
    }

    fn held(points: &[Point], since: i64) -> Held<'_> {
        Held { points, since: at(since), objective: SignedDuration::from_mins(60) }
    }

    fn beyond(chains: &[(&[Point], i64)], from: i64, to: i64) -> Option<(i64, i64)> {
        let got = availability(chains.iter().map(|(points, since)| held(points, *since)), at(from), at(to))?;
        Some(((got.from.as_second() - at(0).as_second()) / 60, got.beyond.as_mins()))
    }

    #[test]
    fn what_is_too_old_counts_until_the_next_commit() {
        // Captured at 0, committed at 5, good until 60; captured at 90, committed at 100.
        let points = [point(1, 0, 5), point(2, 90, 100)];
        assert_eq!(beyond(&[(&points, 5)], 0, 120), Some((5, 40)));
        assert_eq!(beyond(&[(&points, 5)], 0, 200), Some((5, 40 + 50)));
        assert_eq!(beyond(&[(&points, 5)], 70, 90), Some((70, 20)));
    }

    #[test]
    fn a_failure_at_first_counts_and_a_commit_that_came_too_late_does_not_help() {
        assert_eq!(beyond(&[(&[point(2, 25, 30)], 0)], 0, 60), Some((0, 30)));
        assert_eq!(beyond(&[(&[point(1, 0, 61)], 0)], 0, 100), Some((0, 100)));
        assert_eq!(beyond(&[(&[], 0)], 0, 10), Some((0, 10)));
    }

    #[test]
    fn two_chains_that_fail_at_once_are_counted_once() {
        let a = [point(1, 0, 0), point(2, 100, 100)];
        let b = [point(1, 20, 20), point(2, 110, 110)];
        assert_eq!(beyond(&[(&a, 0), (&b, 20)], 0, 120), Some((0, 50)));
    }

    #[test]
    fn each_day_has_its_own() {
        let day = 1440;
        // It begins an hour before midnight, fails over the next midnight but one, and never comes back.
        let midnight = (at(0).as_second() / 86_400 + 1) * 86_400 - at(0).as_second();
        let first = midnight / 60 - 60;
        let points: Vec<Point> = (0..).map(|n| first + 30 * n).take_while(|m| *m < first + 60 + day - 90).map(|m| point(1, m, m)).collect();
        let days = by_day([held(&points, first)], at(0), at(first + 60 + day + 120));
        let minutes: Vec<i64> = days.iter().map(|d| d.beyond.as_mins()).collect();
        assert_eq!(days.len(), 3);
        assert_eq!(minutes[0], 0);
        assert!(minutes[1] > 0 && minutes[1] <= 60, "{minutes:?}");
        assert!((119..=120).contains(&minutes[2]), "{minutes:?}");
    }

    #[test]
    fn an_older_state_that_is_committed_later_takes_nothing_away() {
        assert_eq!(beyond(&[(&[point(1, 50, 50), point(2, 10, 55)], 50)], 0, 110), Some((50, 0)));
    }

    #[test]
    fn nothing_can_be_said_of_no_chain() {
        assert_eq!(beyond(&[], 0, 10), None);
        assert_eq!(beyond(&[(&[point(1, 20, 20)], 20)], 0, 10), None);
    }
}
