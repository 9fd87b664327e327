//! The tenant's clock: it runs with real time, but may stand elsewhere, jump, or stand still.

use std::sync::Mutex;
use std::time::Instant;

use super::lock;

#[derive(Debug)]
struct State {
    at: i64,
    since: Instant,
    frozen: bool,
}

impl State {
    fn now(&self) -> i64 {
        if self.frozen { self.at } else { self.at.saturating_add(i64::try_from(self.since.elapsed().as_nanos()).unwrap_or(i64::MAX)) }
    }
}

/// A clock in nanoseconds since 1970.
#[derive(Debug)]
pub struct Clock(Mutex<State>);

impl Clock {
    /// A clock that shows an instant now and runs from there.
    pub fn starting(at: i64) -> Self {
        Self(Mutex::new(State { at, since: Instant::now(), frozen: false }))
    }

    /// What it shows.
    pub fn now(&self) -> i64 {
        lock(&self.0).now()
    }

    /// Puts it to an instant.
    pub fn set(&self, at: i64) {
        let mut state = lock(&self.0);
        state.at = at;
        state.since = Instant::now();
    }

    /// Moves it, backwards too.
    pub fn advance(&self, nanos: i64) {
        let mut state = lock(&self.0);
        state.at = state.now().saturating_add(nanos);
        state.since = Instant::now();
    }

    /// Stops it or lets it run on.
    pub fn freeze(&self, frozen: bool) {
        let mut state = lock(&self.0);
        state.at = state.now();
        state.since = Instant::now();
        state.frozen = frozen;
    }

    /// Whether it stands still.
    pub fn frozen(&self) -> bool {
        lock(&self.0).frozen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_still_and_jumps() {
        let clock = Clock::starting(1000);
        clock.freeze(true);
        let at = clock.now();
        assert!(at >= 1000);
        clock.advance(500);
        assert_eq!(clock.now(), at + 500);
        clock.set(7);
        assert_eq!(clock.now(), 7);
        clock.freeze(false);
        assert!(clock.now() >= 7);
    }
}
