//! The clock of a drill: the store's at its start, and what this machine counted since.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

use crate::vault::attestation::DrillStep;

/// See above.
pub struct Watch {
    base: Timestamp,
    begun: Instant,
    last: Timestamp,
    /// The steps so far.
    pub steps: Vec<DrillStep>,
}

impl Watch {
    /// Starts at an instant of the store's clock.
    pub fn start(base: Timestamp) -> Self {
        Self { base, begun: Instant::now(), last: base, steps: Vec::new() }
    }

    /// The instant, whatever happens to the clocks.
    pub fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.begun.elapsed()).unwrap_or(SignedDuration::MAX);
        self.base.saturating_add(elapsed).unwrap_or(self.base)
    }

    /// A step ends now, which is given; it began where the last one ended.
    pub fn step(&mut self, name: &str, counts: bool) -> Timestamp {
        let finished = self.now();
        self.steps.push(DrillStep {
            name: name.to_owned(),
            started: self.last,
            finished,
            duration_seconds: finished.duration_since(self.last).as_secs_f64(),
            waiting_seconds: 0.0,
            counts_toward_rto: counts,
            outcome: "done".to_owned(),
        });
        self.last = finished;
        finished
    }
}
