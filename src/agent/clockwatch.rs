//! Whether the machine's clock can be believed: a clock that is set far away from what the steady clock expects would
//! lock data to wrong instants and make every job due at once.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The store's clock is asked again after so long.
const AGAIN: Duration = Duration::from_secs(60);
/// So far a clock may be set without a question.
pub(super) const ORDINARY: SignedDuration = SignedDuration::from_mins(10);

pub(super) struct ClockWatch {
    /// What was believed last, and what the steady clock showed then.
    anchor: (Timestamp, Duration),
    /// How far the clock is away, while nothing is begun because of it.
    away: Option<SignedDuration>,
    /// When the store's clock was last asked.
    asked: Option<Duration>,
}

impl ClockWatch {
    pub fn new(now: Timestamp, steady: Duration) -> Self {
        Self { anchor: (now, steady), away: None, asked: None }
    }

    /// Compares the clocks; says what is to be told, once. `store` is a clock that somebody else keeps.
    pub fn look(&mut self, now: Timestamp, steady: Duration, store: impl FnOnce() -> Option<Timestamp>) -> Option<String> {
        let passed = SignedDuration::try_from(steady.saturating_sub(self.anchor.1)).unwrap_or(SignedDuration::MAX);
        let expected = self.anchor.0.saturating_add(passed).unwrap_or(Timestamp::MAX);
        let away = now.duration_since(expected);
        if away.abs() <= ORDINARY {
            self.anchor = (now, steady);
            return self.away.take().map(|_| "the clock is right again: jobs are begun".to_owned());
        }
        let told = self.away.is_some_and(|before| (before - away).abs() <= ORDINARY);
        if told && self.asked.is_some_and(|asked| steady.saturating_sub(asked) < AGAIN) {
            return None;
        }
        self.asked = Some(steady);
        if store().is_some_and(|store| store.duration_since(now).abs() <= ORDINARY) {
            self.anchor = (now, steady);
            self.away = None;
            return Some(format!("the clock was set by {}, and the store's clock agrees", spoken(away)));
        }
        self.away = Some(away);
        (!told).then(|| {
            format!(
                "the clock was set by {}, to {now}: nothing is begun until it is right again; if it is right, restart the agent",
                spoken(away)
            )
        })
    }

    pub fn held(&self) -> Option<String> {
        self.away.map(|away| format!("the clock was set by {}", spoken(away)))
    }
}

fn spoken(away: SignedDuration) -> String {
    let sign = if away.is_negative() { "-" } else { "+" };
    format!("{sign}{}", super::spoken(away.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_leaps_holds_everything_until_it_is_right_or_the_store_agrees() {
        let start = Timestamp::from_second(1_700_000_000).unwrap();
        let at = |seconds: i64| start + SignedDuration::from_secs(seconds);
        let steady = Duration::from_secs;
        let mut watch = ClockWatch::new(start, steady(0));
        assert_eq!(watch.look(at(300), steady(0), || None), None, "a step of some minutes is ordinary");
        let year = 365 * 86_400;
        let told = watch.look(at(year), steady(10), || None).unwrap();
        assert!(told.contains("+364 d") || told.contains("+365 d"), "{told}");
        assert!(watch.held().is_some());
        assert_eq!(watch.look(at(year + 30), steady(40), || None), None, "told once");
        assert!(watch.look(at(330), steady(40), || None).unwrap().contains("right again"));
        assert_eq!(watch.held(), None);
        assert!(watch.look(at(-86_400), steady(50), || Some(at(345))).is_some(), "a day back, and the store does not agree");
        assert!(watch.held().unwrap().contains("-1 d"));
        let mut frozen = ClockWatch::new(start, steady(0));
        assert!(frozen.look(at(3 * 86_400), steady(1), || Some(at(3 * 86_400 + 2))).unwrap().contains("agrees"));
        assert_eq!(frozen.held(), None);
    }
}
