//! E-mail.

use std::time::Duration;

use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message as Mailed};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{SmtpTransport, Transport};

use super::cut;
use crate::alert::{Message, News};
use crate::http::Secret;

const PATIENCE: Duration = Duration::from_secs(10);

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Encrypted after STARTTLS, or not used.
    Starttls,
    /// Encrypted from the beginning.
    Tls,
    /// In the open, on this machine only.
    None,
}

/// A mail server, and who is written to.
#[derive(Debug)]
pub struct Mail {
    /// The server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub security: Security,
    /// The sender.
    pub from: Mailbox,
    /// Who is told.
    pub to: Vec<Mailbox>,
    /// Who is told as well when nobody acknowledged an alert in time.
    pub second: Vec<Mailbox>,
    /// User name and password.
    pub login: Option<(String, Secret)>,
}

impl Mail {
    pub(super) fn send(&self, message: &Message) -> Result<(), String> {
        let escalated = message.news.iter().any(|(news, _)| *news == News::Escalated);
        let to = self.to.iter().chain(self.second.iter().filter(|_| escalated || self.to.is_empty()));
        let domain = self.from.email.domain();
        let mut builder = Mailed::builder()
            .from(self.from.clone())
            // The same when it is sent again: a reader shows it once.
            .message_id(Some(format!("<{}@{domain}>", message.id)))
            .subject(cut(&message.title(), 200))
            .header(ContentType::TEXT_PLAIN);
        for mailbox in to {
            builder = builder.to(mailbox.clone());
        }
        let mail = builder.body(message.text()).map_err(|e| e.to_string())?;
        let transport = self.transport()?;
        transport.send(&mail).map(|_| ()).map_err(|e| with_causes(&e))
    }

    fn transport(&self) -> Result<SmtpTransport, String> {
        crate::http::install_crypto();
        let parameters = || TlsParameters::new(self.host.clone()).map_err(|e| with_causes(&e));
        let tls = match self.security {
            Security::Starttls => Tls::Required(parameters()?),
            Security::Tls => Tls::Wrapper(parameters()?),
            Security::None => Tls::None,
        };
        let mut builder = SmtpTransport::builder_dangerous(&self.host).port(self.port).tls(tls).timeout(Some(PATIENCE));
        if let Some((user, password)) = &self.login {
            builder = builder.credentials(Credentials::new(user.clone(), password.reveal().to_owned()));
        }
        Ok(builder.build())
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |e| e.source()).fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}
