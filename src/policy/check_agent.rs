//! Meaning of what a policy says about the daemon and about alerts.

use std::net::SocketAddr;

use serde_saphyr::{Location, Spanned};

use super::agent::{AddressPolicy, AgentPolicy};
use super::check::Checker;
use super::model::parse_duration;
use super::notify::{ChatPolicy, EmailPolicy, NotifyPolicy, Security};
use super::problem::Problem;
use crate::http;

/// More jitter than this, in seconds, makes runs late.
const MOST_JITTER: u64 = 600;
/// So many jobs at a time are enough for anybody.
const MOST_AT_ONCE: u32 = 16;

impl Checker<'_> {
    pub(super) fn agent(&mut self, agent: &AgentPolicy) {
        if let Some(jitter) = agent.jitter.as_ref().filter(|j| j.value != "0s") {
            self.duration("jitter", jitter);
            if parse_duration(&jitter.value).is_some_and(|seconds| seconds > MOST_JITTER) {
                self.error(jitter.defined, format!("a jitter of {} makes runs late: write 10m at most", jitter.value));
            }
        }
        if let Some(at_once) = agent.concurrency.as_ref().filter(|c| !(1..=MOST_AT_ONCE).contains(&c.value)) {
            self.error(at_once.defined, format!("concurrency goes from 1 to {MOST_AT_ONCE}"));
        }
        if let Some(listen) = agent.listen.as_ref().filter(|l| l.value != "off") {
            match listen.value.parse::<SocketAddr>() {
                Ok(address) if address.port() == 0 => self.error(listen.defined, "nobody would know the port: write one".into()),
                Ok(address) if address.ip().is_loopback() => {}
                Ok(_) => {
                    let problem = Problem::at(
                        self.text,
                        listen.defined,
                        "the status page asks nobody who they are: it is served on this machine only",
                    );
                    self.problems
                        .push(problem.hint("write 127.0.0.1:9475 or [::1]:9475, and let a proxy that knows its users in front of it"));
                }
                Err(_) => self.error(listen.defined, format!("{:?} is no address: write 127.0.0.1:9475, or off", listen.value)),
            }
        }
        if let Some(heartbeat) = &agent.heartbeat {
            self.address(heartbeat.defined, &heartbeat.value, "heartbeat's address");
        }
    }

    pub(super) fn notify(&mut self, notify: &NotifyPolicy) {
        if let Some(email) = &notify.email {
            self.email(email, notify.contacts.is_some());
        }
        for (chat, what) in [(&notify.teams, "Teams webhook's address"), (&notify.slack, "Slack webhook's address")] {
            if let Some(Spanned { value: ChatPolicy { url_env, url_file, .. }, defined, .. }) = chat {
                self.secret(*defined, what, ["url_env", "url_file"], [url_env, url_file]);
            }
        }
        if let Some(pager) = &notify.pagerduty {
            let places = [&pager.value.routing_key_env, &pager.value.routing_key_file];
            self.secret(pager.defined, "routing key", ["routing_key_env", "routing_key_file"], places);
            if let Some(url) = &pager.value.url {
                self.url(pager.defined, url);
            }
        }
        if let Some(webhook) = &notify.webhook {
            self.address(webhook.defined, &webhook.value.address, "webhook's address");
            let places = [&webhook.value.secret_env, &webhook.value.secret_file];
            if places.iter().any(|place| place.is_some()) {
                self.secret(webhook.defined, "signing secret", ["secret_env", "secret_file"], places);
            }
        }
        if let Some(syslog) = &notify.syslog {
            let to = syslog.value.to.as_str();
            let place =
                |rest: &str| rest.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0));
            let net = to.strip_prefix("udp:").or_else(|| to.strip_prefix("tcp:"));
            let known = net.map_or_else(|| to.starts_with("unix:/"), place);
            if !known {
                self.error(syslog.defined, format!("{:?}: write unix:/dev/log, udp:HOST:PORT or tcp:HOST:PORT", syslog.value.to));
            }
        }
        if let Some(file) = notify.file.as_ref().filter(|file| self.base.join(&file.value.path).is_dir()) {
            self.error(file.defined, format!("{:?} is a directory: write the name of a file", file.value.path));
        }
        if let Some(contacts) = &notify.contacts {
            let place = self.base.join(&contacts.value);
            match std::fs::read_to_string(&place).map_err(|e| e.to_string()).and_then(|text| crate::policy::contacts(&text)) {
                Ok(people) if people.is_empty() => self.warn(contacts.defined, format!("{} names nobody", place.display())),
                Ok(_) if notify.email.is_none() => {
                    self.warn(contacts.defined, "contacts are told by e-mail, and notify.email is missing: nobody is told".into());
                }
                Ok(_) => {}
                Err(e) => self.error(contacts.defined, format!("{}: {e}", place.display())),
            }
        }
    }

    fn email(&mut self, email: &Spanned<EmailPolicy>, contacts: bool) {
        let EmailPolicy { host, from, to, security, username, password_env, password_file, .. } = &email.value;
        for address in std::iter::once(from).chain(to) {
            if address.parse::<lettre::message::Mailbox>().is_err() {
                self.error(email.defined, format!("{address:?} is no e-mail address"));
            }
        }
        if to.is_empty() && !contacts {
            self.error(email.defined, "the e-mail goes to nobody: write `to: [ops@example.org]`, or notify.contacts".into());
        }
        let here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if *security == Security::None && !here {
            self.error(email.defined, format!("to {host} mail would go in the open: write `security: starttls` or `tls`"));
        }
        if username.is_some() || password_env.is_some() || password_file.is_some() {
            self.secret(email.defined, "mail server's password", ["password_env", "password_file"], [password_env, password_file]);
        }
    }

    fn address(&mut self, at: Location, address: &AddressPolicy, what: &str) {
        let AddressPolicy { url, url_env, url_file } = address;
        match url {
            Some(url) if url_env.is_none() && url_file.is_none() => self.url(at, url),
            Some(_) => self.error(at, "write exactly one of `url`, `url_env` and `url_file`".into()),
            None => self.secret(at, what, ["url_env", "url_file"], [url_env, url_file]),
        }
    }

    fn url(&mut self, at: Location, url: &str) {
        // What may be a secret is not repeated.
        let secret = url::Url::parse(url).is_ok_and(|u| !u.username().is_empty() || u.password().is_some() || u.query().is_some());
        match http::endpoint(url) {
            Err(_) if secret => self.error(at, "the address is not encrypted, or none: write https://".into()),
            Err(e) => self.error(at, e),
            Ok(_) if secret => {
                let problem = Problem::at(self.text, at, "the address holds what may be a secret, and no secret stands in a policy");
                self.problems.push(problem.hint("put it into a variable or a file, and write `url_env` or `url_file`"));
            }
            Ok(_) => {}
        }
    }
}
