//! The policy's part about alerts: which channels, and where their secrets are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use super::agent::AddressPolicy;

/// How soon somebody must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertSeverity {
    /// Within a day.
    #[default]
    Low,
    /// Within four hours.
    Medium,
    /// Within an hour.
    High,
    /// Within a quarter of an hour.
    Critical,
}

/// Who is told when something is wrong; each channel that is named is used.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyPolicy {
    /// By e-mail.
    #[schemars(with = "Option<EmailPolicy>")]
    pub email: Option<Spanned<EmailPolicy>>,
    /// A Microsoft Teams channel, through a workflow "when a webhook request is received".
    #[schemars(with = "Option<ChatPolicy>")]
    pub teams: Option<Spanned<ChatPolicy>>,
    /// A Slack channel, through an incoming webhook.
    #[schemars(with = "Option<ChatPolicy>")]
    pub slack: Option<Spanned<ChatPolicy>>,
    /// PagerDuty, through an Events API v2 integration.
    #[schemars(with = "Option<PagerPolicy>")]
    pub pagerduty: Option<Spanned<PagerPolicy>>,
    /// Any receiver of signed JSON, as of standardwebhooks.com.
    #[schemars(with = "Option<WebhookForm>")]
    pub webhook: Option<Spanned<WebhookPolicy>>,
    /// A syslog server (RFC 5424).
    #[schemars(with = "Option<SyslogPolicy>")]
    pub syslog: Option<Spanned<SyslogPolicy>>,
    /// A file of JSON lines, which a SIEM collects.
    #[schemars(with = "Option<FilePolicy>")]
    pub file: Option<Spanned<FilePolicy>>,
    /// A file of people, each with name, email, phone and level: they are told by e-mail, those of level 2 when an
    /// alert was not acknowledged in time.
    #[schemars(with = "Option<String>")]
    pub contacts: Option<Spanned<String>>,
}

/// By e-mail.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmailPolicy {
    /// The mail server.
    pub host: String,
    /// Its port; 587 with `starttls`, 465 with `tls`, 25 with `none` unless said.
    #[serde(default)]
    pub port: Option<u16>,
    /// How the connection is protected; `none` on this machine only.
    #[serde(default)]
    pub security: Security,
    /// The sender.
    pub from: String,
    /// Who is told, besides the contacts.
    #[serde(default)]
    pub to: Vec<String>,
    /// As whom the server is used, if it wants to know.
    #[serde(default)]
    pub username: Option<String>,
    /// The environment variable that holds the password.
    #[serde(default)]
    pub password_env: Option<String>,
    /// The file that holds the password.
    #[serde(default)]
    pub password_file: Option<String>,
    /// Nothing less is told here.
    #[serde(default)]
    pub least: AlertSeverity,
}

/// How a connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// Encrypted after STARTTLS, or not used.
    #[default]
    Starttls,
    /// Encrypted from the beginning.
    Tls,
    /// In the open.
    None,
}

/// A channel of a chat.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatPolicy {
    /// The environment variable that holds the webhook's address.
    #[serde(default)]
    pub url_env: Option<String>,
    /// The file that holds it.
    #[serde(default)]
    pub url_file: Option<String>,
    /// Nothing less is told here.
    #[serde(default)]
    pub least: AlertSeverity,
}

/// PagerDuty.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PagerPolicy {
    /// The environment variable that holds the routing key.
    #[serde(default)]
    pub routing_key_env: Option<String>,
    /// The file that holds it.
    #[serde(default)]
    pub routing_key_file: Option<String>,
    /// Another place of the Events API: `https://events.eu.pagerduty.com/v2/enqueue`.
    #[serde(default)]
    pub url: Option<String>,
    /// Nothing less is told here; `high` unless said.
    #[serde(default = "high")]
    pub least: AlertSeverity,
}

fn high() -> AlertSeverity {
    AlertSeverity::High
}

/// A receiver of signed JSON: an address, or more.
#[derive(Debug, Clone, JsonSchema)]
pub struct WebhookPolicy {
    /// Where to.
    #[schemars(flatten)]
    pub address: AddressPolicy,
    /// The environment variable that holds the secret (`whsec_…`) that the JSON is signed with.
    pub secret_env: Option<String>,
    /// The file that holds it.
    pub secret_file: Option<String>,
    /// Nothing less is told here.
    pub least: AlertSeverity,
}

/// What may stand there, for the schema.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code)]
enum WebhookForm {
    /// The address.
    Short(String),
    /// The address, and more.
    Long(WebhookPolicy),
}

impl<'de> Deserialize<'de> for WebhookPolicy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Long {
            #[serde(default)]
            url: Option<String>,
            #[serde(default)]
            url_env: Option<String>,
            #[serde(default)]
            url_file: Option<String>,
            #[serde(default)]
            secret_env: Option<String>,
            #[serde(default)]
            secret_file: Option<String>,
            #[serde(default)]
            least: AlertSeverity,
        }
        struct Either;
        impl<'de> serde::de::Visitor<'de> for Either {
            type Value = WebhookPolicy;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an address, or `{ url: …, secret_env: … }`")
            }
            fn visit_str<E>(self, text: &str) -> Result<WebhookPolicy, E> {
                let address = AddressPolicy { url: Some(text.to_owned()), url_env: None, url_file: None };
                Ok(WebhookPolicy { address, secret_env: None, secret_file: None, least: AlertSeverity::default() })
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<WebhookPolicy, A::Error> {
                let long = Long::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                let address = AddressPolicy { url: long.url, url_env: long.url_env, url_file: long.url_file };
                Ok(WebhookPolicy { address, secret_env: long.secret_env, secret_file: long.secret_file, least: long.least })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A syslog server.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyslogPolicy {
    /// `unix:/dev/log`, `udp:HOST:PORT` or `tcp:HOST:PORT`.
    pub to: String,
    /// Nothing less is told here.
    #[serde(default)]
    pub least: AlertSeverity,
}

/// A file of JSON lines.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilePolicy {
    /// The file, relative to the policy's directory; lines are added at its end.
    pub path: String,
    /// Nothing less is told here.
    #[serde(default)]
    pub least: AlertSeverity,
}

/// One who is told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// The name.
    pub name: String,
    /// The e-mail address.
    pub email: String,
    /// For those who read the alert.
    #[serde(default)]
    pub phone: Option<String>,
    /// 1: at once; 2: when an alert was not acknowledged in time.
    #[serde(default = "at_once")]
    pub level: u8,
}

fn at_once() -> u8 {
    1
}

/// Reads a file of contacts: a list of people.
pub fn contacts(text: &str) -> Result<Vec<Contact>, String> {
    let people: Vec<Contact> =
        serde_saphyr::from_str(text).map_err(|e| e.without_snippet().to_string().lines().next().unwrap_or_default().to_owned())?;
    for one in &people {
        if one.email.parse::<lettre::message::Mailbox>().is_err() {
            return Err(format!("{:?} of {} is no e-mail address", one.email, one.name));
        }
        if !(1..=2).contains(&one.level) {
            return Err(format!("the level of {} is {}, and there are 1 and 2", one.name, one.level));
        }
    }
    Ok(people)
}
