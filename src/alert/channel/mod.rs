//! The channels through which people and machines are told.

mod chat;
mod mail;
mod pager;
mod plain;
mod webhook;

use std::path::PathBuf;

use url::Url;

use super::{Alert, Message, News};
use crate::http::{Outbound, Secret};
use crate::policy::AlertSeverity;

pub use mail::{Mail, Security};

/// An address that may be a secret.
#[derive(Debug, Clone)]
pub struct Address(Secret);

impl Address {
    /// Reads it; it must be https, or on this machine.
    pub fn new(text: &str) -> Result<Self, String> {
        // What is wrong with it is said without it: it may be a secret.
        crate::http::endpoint(text.trim()).map_err(|_| "it is no https address".to_owned())?;
        Ok(Self(Secret::new(text.trim())))
    }

    /// The address itself.
    pub fn url(&self) -> Result<Url, String> {
        Url::parse(self.0.reveal()).map_err(|e| e.to_string())
    }
}

/// One channel.
#[derive(Debug)]
pub struct Channel {
    /// `email`, `teams`, `slack`, `pagerduty`, `webhook`, `syslog`, `file`.
    pub name: &'static str,
    /// Nothing less is told.
    pub least: AlertSeverity,
    /// How.
    pub route: Route,
}

/// How a channel is reached.
#[derive(Debug)]
pub enum Route {
    /// E-mail.
    Email(Box<Mail>),
    /// Microsoft Teams.
    Teams(Address),
    /// Slack.
    Slack(Address),
    /// PagerDuty's Events API v2.
    PagerDuty {
        /// Where it is.
        url: Address,
        /// The integration's key.
        routing_key: Secret,
    },
    /// JSON, signed where there is a secret.
    Webhook {
        /// Where to.
        url: Address,
        /// `whsec_…`, or any other secret text.
        secret: Option<Secret>,
    },
    /// RFC 5424, to `unix:PATH`, `udp:HOST:PORT` or `tcp:HOST:PORT`.
    Syslog(String),
    /// JSON lines.
    File(PathBuf),
}

/// What of a message a channel tells that takes what is no less bad than `least`: that, and whatever was escalated.
pub(super) fn wanted(least: AlertSeverity, message: &Message) -> Option<Message> {
    // Whoever was told of an escalation is told of its end.
    let wanted = |news: News, alert: &Alert| alert.severity >= least || alert.escalated.is_some() || news == News::Test;
    let news: Vec<_> = message.news.iter().filter(|(news, alert)| wanted(*news, alert)).cloned().collect();
    (!news.is_empty()).then(|| Message { news, ..message.clone() })
}

impl Channel {
    /// Delivers a message; says why it was not taken.
    pub fn send(&self, message: &Message, outbound: &Outbound) -> Result<(), String> {
        match &self.route {
            Route::Email(mail) => mail.send(message),
            Route::Teams(address) => post(outbound, address, &[], chat::teams(message)),
            Route::Slack(address) => post(outbound, address, &[], chat::slack(message)),
            Route::PagerDuty { url, routing_key } => {
                pager::events(message, routing_key).into_iter().try_for_each(|e| post(outbound, url, &[], e))
            }
            Route::Webhook { url, secret } => {
                let json = webhook::body(message);
                let headers = webhook::headers(message, &json, secret.as_ref())?;
                post(outbound, url, &headers, json)
            }
            Route::Syslog(to) => plain::syslog(to, message),
            Route::File(path) => plain::append(path, message),
        }
    }
}

fn post(outbound: &Outbound, address: &Address, headers: &[(&str, String)], json: String) -> Result<(), String> {
    outbound.post(&address.url()?, headers, json).map_err(|e| e.to_string())
}

/// A text that is not longer than a receiver takes.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_owned() } else { text.chars().take(most.saturating_sub(1)).chain(['…']).collect() }
}
