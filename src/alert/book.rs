//! The open alerts, and what becomes of them as time passes.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Acknowledged, Alert, Condition, Message, News, response_time, rule_of};
use crate::policy::AlertSeverity;
use crate::store::Sha256;

/// What begins within so long is told together; what is critical waits for nothing.
const GROUP: SignedDuration = SignedDuration::from_secs(30);
/// Something is over when it was not seen for so long.
const OVER: SignedDuration = SignedDuration::from_mins(2);
/// What goes on is told at least so often.
const SELDOM: SignedDuration = SignedDuration::from_hours(24);

/// The open alerts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Book {
    alerts: BTreeMap<String, Alert>,
    /// What is told, and was not delivered everywhere.
    #[serde(default)]
    pub(super) outbox: Vec<super::courier::Parcel>,
}

impl Book {
    /// Those that are open, the worst first.
    pub fn open(&self) -> Vec<&Alert> {
        let mut all: Vec<&Alert> = self.alerts.values().collect();
        all.sort_by_key(|a| (std::cmp::Reverse(a.severity), a.opened));
        all
    }

    /// Takes what is wrong now; says what is to be told.
    ///
    /// Unless it is `certain` that nothing else is wrong, no alert ends.
    pub fn update(&mut self, now: Timestamp, conditions: &[Condition], certain: bool, vault: &str) -> Option<Message> {
        let mut seen = BTreeMap::new();
        for condition in conditions {
            seen.insert(format!("{} {}", condition.kind, condition.subject), condition);
        }
        for (key, condition) in &seen {
            match self.alerts.get_mut(key) {
                Some(alert) => {
                    alert.over_since = None;
                    alert.summary.clone_from(&condition.summary);
                }
                None => {
                    self.alerts.insert(key.clone(), opened(condition, now));
                }
            }
        }
        let mut news = if certain { self.ended(now, &seen) } else { Vec::new() };
        let untold = |a: &Alert| a.told.is_none() && a.over_since.is_none();
        let due = |a: &Alert| untold(a) && (a.severity == AlertSeverity::Critical || now.duration_since(a.opened) >= GROUP);
        let tell = self.alerts.values().any(due) || !news.is_empty();
        for alert in self.alerts.values_mut() {
            if untold(alert) {
                if tell {
                    alert.told = Some(now);
                    alert.respond_by = after(now, response_time(alert.severity));
                    alert.repeat_at = Some(after(now, response_time(alert.severity) * 2));
                    news.push((News::Opened, alert.clone()));
                }
                continue;
            }
            if alert.over_since.is_some() || alert.told.is_none() {
                continue;
            }
            if alert.acknowledged.is_none() && alert.escalated.is_none() && now >= alert.respond_by {
                alert.escalated = Some(now);
                alert.repeat_at = Some(after(now, response_time(alert.severity) * 2));
                news.push((News::Escalated, alert.clone()));
            } else if alert.repeat_at.is_some_and(|at| now >= at) {
                alert.repeats += 1;
                let pause = response_time(alert.severity) * 2 * (1 << alert.repeats.min(10));
                let pause = if alert.acknowledged.is_some() { SELDOM } else { pause.min(SELDOM) };
                alert.repeat_at = Some(after(now, pause));
                news.push((News::Repeated, alert.clone()));
            }
        }
        message(news, now, vault)
    }

    /// What was not seen for a while is over.
    fn ended(&mut self, now: Timestamp, seen: &BTreeMap<String, &Condition>) -> Vec<(News, Alert)> {
        let mut news = Vec::new();
        self.alerts.retain(|key, alert| {
            if seen.contains_key(key) {
                return true;
            }
            // An instant of the future was noted by a clock that was wrong.
            let since = *alert.over_since.insert(alert.over_since.map_or(now, |since| since.min(now)));
            // What nobody heard of needs no end.
            let over = now.duration_since(since) >= OVER || alert.told.is_none();
            if over && alert.told.is_some() {
                news.push((News::Resolved, alert.clone()));
            }
            !over
        });
        news
    }

    /// Somebody acts; says what is to be told, or nothing where there is no such alert or it was acknowledged before.
    pub fn acknowledge(&mut self, id: &str, by: &str, now: Timestamp, vault: &str) -> Option<Message> {
        let alert = self.alerts.values_mut().find(|a| a.id == id && a.acknowledged.is_none())?;
        alert.acknowledged = Some(Acknowledged { by: by.to_owned(), at: now });
        alert.repeat_at = Some(after(now, SELDOM));
        let news = vec![(News::Acknowledged, alert.clone())];
        message(news, now, vault)
    }

    /// When something is to be told although nothing changes.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let of = |a: &Alert| match (a.told, a.over_since) {
            (_, Some(since)) => Some(after(since, OVER)),
            (None, _) => Some(after(a.opened, GROUP)),
            _ => {
                let escalation = (a.acknowledged.is_none() && a.escalated.is_none()).then_some(a.respond_by);
                escalation.into_iter().chain(a.repeat_at).min()
            }
        };
        self.alerts.values().filter_map(of).min().map(|at| at.max(now))
    }
}

fn after(at: Timestamp, pause: SignedDuration) -> Timestamp {
    at.saturating_add(pause).unwrap_or(Timestamp::MAX)
}

/// An id that people can type.
pub(super) fn short_id(text: &str) -> String {
    Sha256::of(text.as_bytes()).to_string()[..8].to_owned()
}

fn opened(condition: &Condition, now: Timestamp) -> Alert {
    let rule = rule_of(&condition.kind);
    let Condition { kind, subject, summary } = condition.clone();
    Alert {
        id: short_id(&format!("{kind} {subject} {now}")),
        command: rule.command.replace("{}", &subject),
        kind,
        subject,
        severity: rule.severity,
        summary,
        endangers: rule.endangers.to_owned(),
        runbook: format!("docs/alerts.md#{}", rule.kind),
        opened: now,
        told: None,
        respond_by: after(now, response_time(rule.severity)),
        acknowledged: None,
        escalated: None,
        repeat_at: None,
        repeats: 0,
        over_since: None,
    }
}

fn message(news: Vec<(News, Alert)>, now: Timestamp, vault: &str) -> Option<Message> {
    if news.is_empty() {
        return None;
    }
    Some(Message { id: uuid::Uuid::now_v7().to_string(), at: now, vault: vault.to_owned(), news })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn wrong(kind: &str, subject: &str) -> Condition {
        Condition { kind: kind.into(), subject: subject.into(), summary: "it is wrong".into() }
    }

    fn told(message: Option<Message>) -> Vec<(News, String)> {
        message.map(|m| m.news.into_iter().map(|(news, a)| (news, a.subject)).collect()).unwrap_or_default()
    }

    #[test]
    fn what_begins_together_is_told_together_and_what_is_critical_at_once() {
        let mut book = Book::default();
        let (a, b, c) = (wrong("job_failing", "a"), wrong("job_failing", "b"), wrong("rpo_exceeded", "c"));
        assert_eq!(told(book.update(at(0), std::slice::from_ref(&a), true, "v")), []);
        assert_eq!(told(book.update(at(20), &[a.clone(), b.clone()], true, "v")), []);
        let both = vec![(News::Opened, "a".to_owned()), (News::Opened, "b".to_owned())];
        assert_eq!(told(book.update(at(30), &[a.clone(), b.clone()], true, "v")), both);
        assert_eq!(told(book.update(at(40), &[a.clone(), b.clone(), c.clone()], true, "v")), [(News::Opened, "c".into())]);
        assert_eq!(told(book.update(at(50), &[a, b, c], true, "v")), [], "and not again");
    }

    #[test]
    fn nobody_acts_somebody_acts_it_is_over() {
        let mut book = Book::default();
        let c = [wrong("rpo_exceeded", "c")];
        assert_eq!(told(book.update(at(0), &c, true, "v")).len(), 1);
        assert_eq!(told(book.update(at(899), &c, true, "v")), []);
        assert_eq!(told(book.update(at(900), &c, true, "v")), [(News::Escalated, "c".into())]);
        assert_eq!(told(book.update(at(2699), &c, true, "v")), []);
        assert_eq!(told(book.update(at(2700), &c, true, "v")), [(News::Repeated, "c".into())]);
        assert_eq!(told(book.update(at(2700 + 3599), &c, true, "v")), [], "more and more seldom");
        assert_eq!(told(book.update(at(2700 + 3600), &c, true, "v")), [(News::Repeated, "c".into())]);
        let id = book.open()[0].id.clone();
        assert_eq!(book.acknowledge("nobody", "me", at(7000), "v"), None);
        assert_eq!(told(book.acknowledge(&id, "me", at(7000), "v")), [(News::Acknowledged, "c".into())]);
        assert_eq!(told(book.update(at(80_000), &c, true, "v")), []);
        // It flickers.
        assert_eq!(told(book.update(at(80_010), &[], true, "v")), []);
        assert_eq!(told(book.update(at(80_100), &c, true, "v")), []);
        assert_eq!(told(book.update(at(80_110), &[], true, "v")), []);
        assert_eq!(told(book.update(at(80_230), &[], true, "v")), [(News::Resolved, "c".into())]);
        assert!(book.open().is_empty());
    }

    #[test]
    fn what_is_not_known_is_not_over() {
        let mut book = Book::default();
        assert_eq!(told(book.update(at(0), &[wrong("rpo_exceeded", "c")], true, "v")).len(), 1);
        for minute in 0..10 {
            assert_eq!(told(book.update(at(60 * minute), &[], false, "v")), []);
        }
        assert_eq!(told(book.update(at(600), &[], true, "v")), []);
        assert_eq!(told(book.update(at(720), &[], true, "v")), [(News::Resolved, "c".into())]);
    }

    #[test]
    fn what_was_over_before_it_was_told_is_not_told() {
        let mut book = Book::default();
        assert_eq!(told(book.update(at(0), &[wrong("job_failing", "a")], true, "v")), []);
        assert_eq!(told(book.update(at(20), &[], true, "v")), []);
        assert_eq!(told(book.update(at(500), &[], true, "v")), []);
        assert!(book.open().is_empty());
    }
}
