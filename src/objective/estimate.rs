//! How long bringing something back would take, from what restores and tests took.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Class, Entry, What};
use crate::vault::names::{ChainName, Container};

/// So many measurements of a class count, the newest.
const COUNTED: usize = 20;
/// So many of the restores that were made on this machine are kept.
const KEPT: usize = 200;
const FILE: &str = "measured.ndjson";

/// One restore as it was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// When.
    pub at: Timestamp,
    /// Of what kind of data.
    pub class: Class,
    /// Records or events.
    pub entries: u64,
    /// Stored bytes that were read for them.
    pub stored_bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

/// What kind of data a chain is of; evidence is told from configuration by where its objects lie.
pub fn class_of(chain: &ChainName, object: Option<&str>) -> Class {
    match chain.stream() {
        Some(_) => Class::Logs,
        None if object.and_then(Container::of) == Some(Container::Evidence) => Class::Evidence,
        None => Class::Configuration,
    }
}

/// What the attested restore tests measured, oldest first. `class` says what a chain holds.
pub fn measured_by_tests(tests: &[Entry], class: impl Fn(&ChainName) -> Class) -> Vec<Measurement> {
    let mut out = Vec::new();
    for test in tests {
        let What::Test(measured) = &test.what else { continue };
        out.extend(measured.iter().map(|m| Measurement {
            at: test.finished,
            class: class(&m.chain),
            entries: m.entries,
            stored_bytes: m.stored_bytes,
            seconds: m.seconds,
        }));
    }
    out
}

/// The restores that were made on this machine, oldest first; what cannot be read is as if it never was.
pub fn measured_here(state: &Path) -> Vec<Measurement> {
    let text = fs::read_to_string(state.join(FILE)).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Keeps what a restore on this machine took, where there is a state directory: who only restores has none, and gets none.
pub fn keep_measurement(state: &Path, measurement: &Measurement) -> io::Result<()> {
    let mut all = measured_here(state);
    all.push(measurement.clone());
    let from = all.len().saturating_sub(KEPT);
    let mut file = tempfile::NamedTempFile::new_in(state)?;
    for one in &all[from..] {
        writeln!(file, "{}", serde_json::to_string(one).map_err(io::Error::other)?)?;
    }
    file.persist(state.join(FILE)).map(drop).map_err(|e| e.error)
}

/// How long something will take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Seconds.
    pub seconds: f64,
    /// From how many measurements.
    pub measurements: usize,
    /// When the newest of them was made.
    pub measured: Timestamp,
}

/// How long restoring so many records and stored bytes of a class takes: by the slower of the two rates of its newest
/// measurements. Without any of its own class, by those of all; nothing without any.
pub fn estimate(measurements: &[Measurement], class: Class, entries: u64, stored_bytes: u64) -> Option<Estimate> {
    let own: Vec<&Measurement> = measurements.iter().filter(|m| m.class == class).collect();
    let mut used = if own.is_empty() { measurements.iter().collect() } else { own };
    used.sort_by_key(|m| m.at);
    let used = &used[used.len().saturating_sub(COUNTED)..];
    let measured = used.last()?.at;
    let seconds: f64 = used.iter().map(|m| m.seconds).sum();
    let rate = |total: u64, of: u64| if total == 0 { 0.0 } else { seconds / total as f64 * of as f64 };
    let by_entries = rate(used.iter().map(|m| m.entries).sum(), entries);
    let by_bytes = rate(used.iter().map(|m| m.stored_bytes).sum(), stored_bytes);
    Some(Estimate { seconds: by_entries.max(by_bytes), measurements: used.len(), measured })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(class: Class, second: i64, entries: u64, stored_bytes: u64, seconds: f64) -> Measurement {
        Measurement { at: Timestamp::from_second(second).unwrap(), class, entries, stored_bytes, seconds }
    }

    #[test]
    fn the_slower_rate_of_the_own_class_decides() {
        let all = [measured(Class::Configuration, 10, 1000, 1000, 2.0), measured(Class::Logs, 20, 10, 1_000_000, 1.0)];
        let of = |class, entries, bytes| estimate(&all, class, entries, bytes).unwrap();
        assert_eq!(of(Class::Configuration, 5000, 10).seconds, 10.0);
        assert_eq!(of(Class::Configuration, 10, 5000).seconds, 10.0);
        assert_eq!(of(Class::Logs, 0, 3_000_000).seconds, 3.0);
        assert_eq!((of(Class::Logs, 1, 1).measured.as_second(), of(Class::Logs, 1, 1).measurements), (20, 1));
        // Evidence was never restored: all that is known counts.
        assert_eq!(of(Class::Evidence, 1010, 0).seconds, 3.0);
        assert_eq!(estimate(&[], Class::Logs, 1, 1), None);
    }

    #[test]
    fn only_the_newest_count_and_only_so_many_are_kept() {
        let mut all: Vec<Measurement> = (0..30).map(|n| measured(Class::Logs, n, 1, 0, 100.0)).collect();
        all.extend((30..50).map(|n| measured(Class::Logs, n, 1, 0, 1.0)));
        assert_eq!(estimate(&all, Class::Logs, 10, 0).unwrap().seconds, 10.0);
        let dir = tempfile::tempdir().unwrap();
        (0..250).for_each(|n| keep_measurement(dir.path(), &measured(Class::Logs, n, 1, 1, 1.0)).unwrap());
        let kept = measured_here(dir.path());
        assert_eq!((kept.len(), kept[0].at.as_second()), (200, 50));
    }
}
