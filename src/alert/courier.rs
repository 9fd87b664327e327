//! Delivery: each channel by itself, again until it takes what it is given, and never in anybody's way.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::book::Book;
use super::channel::{Channel, wanted};
use super::{Condition, Message, News};
use crate::http::Outbound;
use crate::policy::AlertSeverity;

/// A channel that fails is tried again after so long, then after twice as long, up to the last.
const FIRST: SignedDuration = SignedDuration::from_secs(15);
const LAST: SignedDuration = SignedDuration::from_mins(15);
/// What was not delivered for so long is of no use any more.
const STALE: SignedDuration = SignedDuration::from_hours(24 * 7);
/// Whoever takes longer does not answer.
const PATIENCE: Duration = Duration::from_secs(90);
/// A channel that fails so often in a row is told through the others.
const FAILING: u32 = 3;

/// A message on its way through one channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parcel {
    channel: String,
    message: Message,
    attempts: u32,
    next: Timestamp,
    /// Why the last try failed.
    error: Option<String>,
}

impl Parcel {
    /// The same message goes through several channels.
    fn key(&self) -> String {
        format!("{} {}", self.channel, self.message.id)
    }
}

/// Delivers.
pub struct Courier {
    channels: Vec<Arc<Channel>>,
    /// Channels that the policy names and that cannot be used now, and the least that they take: it waits for them.
    unusable: Vec<(&'static str, AlertSeverity)>,
    /// What is being sent, and since when.
    busy: HashMap<String, Instant>,
    sender: Sender<(String, String, Result<(), String>)>,
    results: Receiver<(String, String, Result<(), String>)>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Courier {
    /// Through these channels, while others that are named cannot be used; `wake` is called when one of them answered.
    pub fn new(channels: Vec<Channel>, unusable: Vec<(&'static str, AlertSeverity)>, wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        let (sender, results) = channel();
        Self { channels: channels.into_iter().map(Arc::new).collect(), unusable, busy: HashMap::new(), sender, results, wake }
    }

    /// Other channels, from a policy that was read again; what is under way goes on.
    pub fn reload(&mut self, channels: Vec<Channel>, unusable: Vec<(&'static str, AlertSeverity)>) {
        self.channels = channels.into_iter().map(Arc::new).collect();
        self.unusable = unusable;
    }

    /// Gives a message to every channel that wants it.
    pub fn post(&self, book: &mut Book, message: &Message) {
        let usable = self.channels.iter().map(|c| (c.name, c.least));
        for (name, least) in usable.chain(self.unusable.iter().copied()) {
            let Some(part) = wanted(least, message) else { continue };
            let waiting = book.outbox.iter_mut().rfind(|p| p.channel == name && !self.busy.contains_key(&p.key()));
            match waiting {
                // What waits is told together with what is new.
                Some(parcel) => parcel.message = merged(&parcel.message, part),
                None => book.outbox.push(Parcel { channel: name.to_owned(), next: part.at, message: part, attempts: 0, error: None }),
            }
        }
    }

    /// Takes what was answered; says what failed.
    pub fn settle(&mut self, book: &mut Book) -> Vec<String> {
        let mut failures = Vec::new();
        while let Ok((channel, id, outcome)) = self.results.try_recv() {
            self.busy.remove(&format!("{channel} {id}"));
            let Some(at) = book.outbox.iter().position(|p| p.channel == channel && p.message.id == id) else { continue };
            match outcome {
                Ok(()) => drop(book.outbox.remove(at)),
                Err(error) => failures.push(failed(&mut book.outbox[at], error)),
            }
        }
        // Whoever never answers is not waited for; nor is a thread that is no more.
        for parcel in &mut book.outbox {
            if self.busy.get(&parcel.key()).is_some_and(|since| since.elapsed() > PATIENCE) {
                self.busy.remove(&parcel.key());
                failures.push(failed(parcel, format!("no answer within {} s", PATIENCE.as_secs())));
            }
        }
        failures
    }

    /// Takes what was answered, and sends what waits; says what failed. Unless the clock is `certain`, nothing is too old.
    pub fn deliver(&mut self, book: &mut Book, now: Timestamp, certain: bool) -> Vec<String> {
        let tried: Vec<(String, u32)> = book.outbox.iter().map(|p| (p.key(), p.attempts)).collect();
        let failures = self.settle(book);
        for parcel in &mut book.outbox {
            if tried.iter().any(|(key, attempts)| *key == parcel.key() && *attempts < parcel.attempts) {
                let pause = (FIRST * (1 << parcel.attempts.saturating_sub(1).min(10))).min(LAST);
                parcel.next = now.saturating_add(pause).unwrap_or(now);
            }
            // An instant of the future was noted by a clock that was wrong.
            parcel.next = parcel.next.min(now.saturating_add(LAST).unwrap_or(now));
        }
        let known = |name: &str| self.channels.iter().any(|c| c.name == name) || self.unusable.iter().any(|(n, _)| *n == name);
        book.outbox.retain(|p| known(&p.channel) && (!certain || now.duration_since(p.message.at) < STALE));
        for channel in &self.channels {
            let mut own = book.outbox.iter().filter(|p| p.channel == channel.name);
            let under_way = own.clone().any(|p| self.busy.contains_key(&p.key()));
            let Some(parcel) = own.next().filter(|p| !under_way && p.next <= now) else { continue };
            let (channel, message, sender, wake) = (channel.clone(), parcel.message.clone(), self.sender.clone(), self.wake.clone());
            let spawned = std::thread::Builder::new().name(format!("to {}", channel.name)).spawn(move || {
                let outcome = Outbound::new().and_then(|outbound| channel.send(&message, &outbound));
                let _ = sender.send((channel.name.to_owned(), message.id, outcome));
                wake();
            });
            if spawned.is_ok() {
                self.busy.insert(parcel.key(), Instant::now());
            }
        }
        failures
    }

    /// Channels that do not take anything any more.
    pub fn conditions(&self, book: &Book) -> Vec<Condition> {
        let failing = book.outbox.iter().filter(|p| p.attempts >= FAILING);
        failing
            .map(|p| Condition {
                kind: "channel_failing".into(),
                subject: p.channel.clone(),
                summary: format!("it does not take alerts: {}", p.error.clone().unwrap_or_default()),
            })
            .collect()
    }

    /// When something is to be sent.
    pub fn next(&self, book: &Book) -> Option<Timestamp> {
        let first = |channel: &Arc<Channel>| {
            let mut own = book.outbox.iter().filter(|p| p.channel == channel.name);
            // One at a time: what is behind another waits for its answer.
            let under_way = own.clone().any(|p| self.busy.contains_key(&p.key()));
            own.next().filter(|_| !under_way).map(|p| p.next)
        };
        self.channels.iter().filter_map(first).min()
    }

    /// Whether something is being sent.
    pub fn is_busy(&self) -> bool {
        !self.busy.is_empty()
    }
}

fn failed(parcel: &mut Parcel, error: String) -> String {
    let said = format!("{} does not take an alert: {error}", parcel.channel);
    parcel.attempts += 1;
    parcel.error = Some(error);
    said
}

/// Two messages as one: of each alert the newest news, but that it was escalated is not lost. It is another message than
/// either, since a receiver may have taken the first, and its answer was lost.
fn merged(first: &Message, second: Message) -> Message {
    let mut news: Vec<(News, super::Alert)> = Vec::new();
    for (before, alert) in &first.news {
        match second.news.iter().find(|(_, later)| later.id == alert.id) {
            None => news.push((*before, alert.clone())),
            Some((News::Repeated, later)) if *before == News::Escalated => news.push((News::Escalated, later.clone())),
            Some(_) => {}
        }
    }
    for (what, alert) in second.news {
        if !news.iter().any(|(_, known)| known.id == alert.id) {
            news.push((what, alert));
        }
    }
    Message { news, ..second }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Route;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn wrong(kind: &str) -> Condition {
        Condition { kind: kind.into(), subject: "x".into(), summary: "it is wrong".into() }
    }

    fn file(path: &std::path::Path, name: &'static str, least: AlertSeverity) -> Channel {
        Channel { name, least, route: Route::File(path.join(name)) }
    }

    /// Delivers until nothing is under way.
    fn settle(courier: &mut Courier, book: &mut Book, now: Timestamp) {
        for _ in 0..200 {
            courier.deliver(book, now, true);
            if !courier.is_busy() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn states(path: &std::path::Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let state = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["state"].as_str().unwrap().to_owned();
        text.lines().map(state).collect()
    }

    #[test]
    fn what_waits_is_told_with_what_is_new_and_an_escalation_is_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("not-yet");
        let mut courier = Courier::new(vec![file(&gone, "a", AlertSeverity::Low)], Vec::new(), Arc::new(|| ()));
        let mut book = Book::default();
        // Nobody takes the opening, the escalation, the repetition.
        for second in [0, 900, 2700] {
            let message = book.update(at(second), &[wrong("rpo_exceeded")], true, "v").unwrap();
            courier.post(&mut book, &message);
            settle(&mut courier, &mut book, at(second));
        }
        assert_eq!(book.outbox.len(), 1, "one parcel a channel");
        assert!(book.outbox[0].attempts >= 2 && courier.next(&book).unwrap() > at(2700));
        std::fs::create_dir(&gone).unwrap();
        settle(&mut courier, &mut book, at(2700 + 901));
        assert_eq!(states(&gone.join("a")), ["escalated"]);
        assert!(book.outbox.is_empty() && courier.next(&book).is_none());
    }

    #[test]
    fn whoever_was_told_of_an_escalation_is_told_of_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut courier = Courier::new(vec![file(dir.path(), "pager", AlertSeverity::High)], Vec::new(), Arc::new(|| ()));
        let mut book = Book::default();
        for (second, conditions) in
            [(0, vec![wrong("job_failing")]), (30, vec![wrong("job_failing")]), (30 + 4 * 3600, vec![wrong("job_failing")])]
        {
            if let Some(message) = book.update(at(second), &conditions, true, "v") {
                courier.post(&mut book, &message);
            }
            settle(&mut courier, &mut book, at(second));
        }
        assert_eq!(states(&dir.path().join("pager")), ["escalated"], "a medium alert is not for it until then");
        for second in [20_000, 20_120] {
            if let Some(message) = book.update(at(second), &[], true, "v") {
                courier.post(&mut book, &message);
            }
            settle(&mut courier, &mut book, at(second));
        }
        assert_eq!(states(&dir.path().join("pager")), ["escalated", "resolved"]);
    }

    #[test]
    fn what_waits_for_a_channel_that_cannot_be_used_now_waits() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        let mut courier = Courier::new(vec![file(&gone, "a", AlertSeverity::Low)], Vec::new(), Arc::new(|| ()));
        let mut book = Book::default();
        let message = book.update(at(0), &[wrong("rpo_exceeded")], true, "v").unwrap();
        courier.post(&mut book, &message);
        settle(&mut courier, &mut book, at(0));
        // Its secret is missing after a restart; then the policy names it no more.
        courier.reload(Vec::new(), vec![("a", AlertSeverity::Low)]);
        courier.deliver(&mut book, at(60), true);
        assert_eq!(book.outbox.len(), 1);
        courier.deliver(&mut book, at(8 * 86_400), false);
        assert_eq!(book.outbox.len(), 1, "a clock that is not certain makes nothing too old");
        courier.reload(Vec::new(), Vec::new());
        courier.deliver(&mut book, at(60), true);
        assert!(book.outbox.is_empty());
    }
}
