//! Alerts: from what is wrong now to who is told, and when.
//!
//! It promises: what is wrong is told once, in one message with what else began at that time; repeated sparingly,
//! escalated when nobody acknowledged it in time, and called over when it is. What a channel does not take is kept and
//! tried again, over restarts, and nothing waits for it.

mod book;
mod channel;
mod courier;
mod desk;
mod rules;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::policy::AlertSeverity;

pub use book::Book;
pub use channel::{Address, Channel, Mail, Route, Security};
pub use courier::Courier;
pub use desk::{Acknowledgement, Desk, Keeper};
pub use rules::{RULES, Rule, rule_of};

/// Something that is wrong now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Of which kind.
    pub kind: String,
    /// What it is about: a chain, a job, a channel.
    pub subject: String,
    /// What happened, for people.
    pub summary: String,
}

/// How soon somebody must act.
pub fn response_time(severity: AlertSeverity) -> SignedDuration {
    match severity {
        AlertSeverity::Critical => SignedDuration::from_mins(15),
        AlertSeverity::High => SignedDuration::from_hours(1),
        AlertSeverity::Medium => SignedDuration::from_hours(4),
        AlertSeverity::Low => SignedDuration::from_hours(24),
    }
}

/// How a severity is spelled.
pub fn spelled(severity: AlertSeverity) -> &'static str {
    match severity {
        AlertSeverity::Critical => "critical",
        AlertSeverity::High => "high",
        AlertSeverity::Medium => "medium",
        AlertSeverity::Low => "low",
    }
}

/// One alert, from its beginning to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// What it is acknowledged by.
    pub id: String,
    /// Of which kind.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// How soon somebody must act.
    pub severity: AlertSeverity,
    /// What happened.
    pub summary: String,
    /// What it endangers.
    pub endangers: String,
    /// Where to read on.
    pub runbook: String,
    /// What to type.
    pub command: String,
    /// Since when.
    pub opened: Timestamp,
    /// When it was first told.
    pub told: Option<Timestamp>,
    /// By when somebody must have acted.
    pub respond_by: Timestamp,
    /// Who acknowledged it, and when.
    pub acknowledged: Option<Acknowledged>,
    /// When it was escalated.
    pub escalated: Option<Timestamp>,
    /// When it is told again.
    pub repeat_at: Option<Timestamp>,
    /// How often it was.
    pub repeats: u32,
    /// Since when it is over, if that is not sure yet.
    pub over_since: Option<Timestamp>,
}

/// Somebody acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// What is new of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// It began.
    Opened,
    /// It goes on, and nobody acted.
    Repeated,
    /// It was not acknowledged in time.
    Escalated,
    /// Somebody acts.
    Acknowledged,
    /// It is over.
    Resolved,
    /// Nothing is wrong: somebody tries the channel.
    Test,
}

/// What is told at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its id: a receiver that gets it twice can tell.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// Which vault.
    pub vault: String,
    /// What is new.
    pub news: Vec<(News, Alert)>,
}

impl Message {
    /// The worst of what it tells.
    pub fn severity(&self) -> AlertSeverity {
        self.news.iter().map(|(_, alert)| alert.severity).max().unwrap_or_default()
    }

    /// In one line.
    pub fn title(&self) -> String {
        let word = |news: News| match news {
            News::Opened => "",
            News::Repeated => "still ",
            News::Escalated => "ESCALATED ",
            News::Acknowledged => "acknowledged ",
            News::Resolved => "resolved ",
            News::Test => "test ",
        };
        // What is worst is said first; what is over is not as bad.
        let rank = |(news, alert): &&(News, Alert)| (!matches!(news, News::Resolved | News::Acknowledged), alert.severity);
        let Some((news, alert)) = self.news.iter().max_by_key(rank) else { return "backstop".into() };
        let more = match self.news.len() {
            1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        format!("[backstop {}] {}{}: {}{more}", spelled(alert.severity).to_uppercase(), word(*news), alert.subject, alert.summary)
    }

    /// In many.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (news, alert) in &self.news {
            let state = match news {
                News::Opened => format!("since {}; act by {}", second(alert.opened), second(alert.respond_by)),
                News::Repeated => format!("goes on since {}, and nobody acknowledged it", second(alert.opened)),
                News::Escalated => format!("escalated: nobody acknowledged it by {}", second(alert.respond_by)),
                News::Acknowledged => match &alert.acknowledged {
                    Some(ack) => format!("acknowledged by {} at {}", ack.by, second(ack.at)),
                    None => "acknowledged".to_owned(),
                },
                News::Resolved => format!("over; it began {}", second(alert.opened)),
                News::Test => "this is a test: nothing is wrong".to_owned(),
            };
            out.push_str(&format!("{} {} {}\n", spelled(alert.severity).to_uppercase(), alert.kind, alert.subject));
            out.push_str(&format!("  what:      {}\n  state:     {state}\n", alert.summary));
            if !matches!(news, News::Resolved) {
                out.push_str(&format!(
                    "  endangers: {}\n  type:      {}\n  read:      {}\n  then:      backstop notify ack {}\n",
                    alert.endangers, alert.command, alert.runbook, alert.id
                ));
            }
            out.push('\n');
        }
        out.push_str(&format!("vault {}\n", self.vault));
        out
    }
}

fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}
