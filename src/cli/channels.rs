//! From what a policy says of alerts to channels, with their secrets.

use std::fs;

use super::context::Context;
use super::credential::secret;
use super::exit::CliError;
use crate::alert::{Address, Channel, Mail, Route, Security as Protection};
use crate::http::Secret;
use crate::policy::{AddressPolicy, AlertSeverity, EmailPolicy, LoadedPolicy, Security, contacts};

/// Where PagerDuty takes events.
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";

/// A channel that the policy names and that cannot be used now.
#[derive(Debug, Clone, PartialEq)]
pub struct Unusable {
    /// Its name.
    pub name: &'static str,
    /// The least that it takes.
    pub least: AlertSeverity,
    /// Why.
    pub why: String,
}

/// The channels that can be used, and why others cannot.
pub fn channels(policy: &LoadedPolicy) -> (Vec<Channel>, Vec<Unusable>) {
    let notify = &policy.policy.notify;
    let mut made: Vec<(&'static str, AlertSeverity, Result<Route, CliError>)> = Vec::new();
    if let Some(email) = &notify.email {
        let people = notify.contacts.as_ref().map(|c| policy.path(&c.value));
        made.push(("email", email.value.least, mail(policy, &email.value, people.as_deref()).map(|m| Route::Email(Box::new(m)))));
    }
    let hook = |what: &str, env: Option<&str>, file: Option<&str>| {
        let text = secret(policy, what, (env, file), "put the address of the webhook there, readable by this user alone")?;
        Address::new(text.reveal()).map_err(|e| usage(format!("{what}: {e}")))
    };
    if let Some(teams) = &notify.teams {
        let address = hook("the Teams webhook's address", teams.value.url_env.as_deref(), teams.value.url_file.as_deref());
        made.push(("teams", teams.value.least, address.map(Route::Teams)));
    }
    if let Some(slack) = &notify.slack {
        let address = hook("the Slack webhook's address", slack.value.url_env.as_deref(), slack.value.url_file.as_deref());
        made.push(("slack", slack.value.least, address.map(Route::Slack)));
    }
    if let Some(pager) = &notify.pagerduty {
        let place = (pager.value.routing_key_env.as_deref(), pager.value.routing_key_file.as_deref());
        let key = secret(policy, "the routing key", place, "put the integration's key there, readable by this user alone");
        let route = key.and_then(|routing_key| {
            let url = Address::new(pager.value.url.as_deref().unwrap_or(PAGERDUTY)).map_err(usage)?;
            Ok(Route::PagerDuty { url, routing_key })
        });
        made.push(("pagerduty", pager.value.least, route));
    }
    if let Some(webhook) = &notify.webhook {
        let said = &webhook.value;
        let route = address(policy, &said.address, "the webhook's address").and_then(|url| {
            let place = (said.secret_env.as_deref(), said.secret_file.as_deref());
            let secret = match place {
                (None, None) => None,
                place => {
                    let secret = secret(policy, "the signing secret", place, "put whsec_… there, readable by this user alone")?;
                    strong(secret.reveal())?;
                    Some(secret)
                }
            };
            Ok(Route::Webhook { url, secret })
        });
        made.push(("webhook", said.least, route));
    }
    if let Some(syslog) = &notify.syslog {
        made.push(("syslog", syslog.value.least, Ok(Route::Syslog(syslog.value.to.clone()))));
    }
    if let Some(file) = &notify.file {
        made.push(("file", file.value.least, Ok(Route::File(policy.path(&file.value.path)))));
    }
    let (mut usable, mut unusable) = (Vec::new(), Vec::new());
    for (name, least, route) in made {
        match route {
            Ok(route) => usable.push(Channel { name, least, route }),
            Err(e) => unusable.push(Unusable { name, least, why: e.causes.join(": ") }),
        }
    }
    (usable, unusable)
}

/// Whether a signing secret is one: `whsec_` and the base64 of 24 bytes or more, or as long a text.
fn strong(secret: &str) -> Result<(), CliError> {
    use base64::Engine as _;
    let length = match secret.strip_prefix("whsec_") {
        Some(encoded) => base64::engine::general_purpose::STANDARD.decode(encoded).map(|key| key.len()).unwrap_or(0),
        None => secret.len(),
    };
    if length >= 24 { Ok(()) } else { Err(usage("the signing secret is too short, or not whsec_ and base64: 24 bytes at least")) }
}

/// An address that stands in the policy, in a variable or in a file.
pub fn address(policy: &LoadedPolicy, said: &AddressPolicy, what: &str) -> Result<Address, CliError> {
    let text = match &said.url {
        Some(url) => Secret::new(url.clone()),
        None => {
            let place = (said.url_env.as_deref(), said.url_file.as_deref());
            secret(policy, what, place, "put the address there, readable by this user alone")?
        }
    };
    Address::new(text.reveal()).map_err(|e| usage(format!("{what}: {e}")))
}

fn usage(message: impl Into<String>) -> CliError {
    CliError::new(super::exit::Exit::Usage, message)
}

fn mail(policy: &LoadedPolicy, said: &EmailPolicy, people: Option<&std::path::Path>) -> Result<Mail, CliError> {
    let mailbox = |text: &str| text.parse::<lettre::message::Mailbox>().map_err(|_| usage(format!("{text:?} is no e-mail address")));
    let (port, security) = match said.security {
        Security::Starttls => (587, Protection::Starttls),
        Security::Tls => (465, Protection::Tls),
        Security::None => (25, Protection::None),
    };
    let mut to = said.to.iter().map(|t| mailbox(t)).collect::<Result<Vec<_>, _>>()?;
    let mut second = Vec::new();
    if let Some(file) = people {
        let text = fs::read_to_string(file).map_err(|e| usage(format!("cannot read the contacts {}: {e}", file.display())))?;
        for one in contacts(&text).map_err(|e| usage(format!("{}: {e}", file.display())))? {
            let mailbox = lettre::message::Mailbox::new(Some(one.name.clone()), mailbox(&one.email)?.email);
            if one.level == 1 { to.push(mailbox) } else { second.push(mailbox) }
        }
    }
    let login = match &said.username {
        Some(user) => {
            let place = (said.password_env.as_deref(), said.password_file.as_deref());
            Some((user.clone(), secret(policy, "the mail server's password", place, "put it there, readable by this user alone")?))
        }
        None => None,
    };
    Ok(Mail { host: said.host.clone(), port: said.port.unwrap_or(port), security, from: mailbox(&said.from)?, to, second, login })
}

/// What waits for channels until they can be used.
pub fn waiting(unusable: &[Unusable]) -> Vec<(&'static str, AlertSeverity)> {
    unusable.iter().map(|u| (u.name, u.least)).collect()
}

/// Tells on stderr which channels cannot be used.
pub fn tell_unusable(context: &Context, unusable: &[Unusable]) {
    for Unusable { name, why, .. } in unusable {
        context.output.warn(format!("alerts do not go to {name}: {why}"));
    }
}
