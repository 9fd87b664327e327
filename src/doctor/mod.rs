//! What is really in force: keys, disk, clock, store, locks, rights. Each finding says what it endangers and what
//! mends it.
//!
//! It promises to name what it could not look at; silence about a subject never means that it is well.

mod account;
mod canary;
mod host;
mod night;

use serde::Serialize;

pub use account::{AccountCheck, check_account};
pub use canary::check_canary;
pub use host::{HostCheck, check_host};
pub use night::check_night;

/// How bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Backups are not made, not locked, or not readable.
    Error,
    /// Something is less safe than it looks.
    Warning,
    /// Looked at, and well.
    Info,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// What was looked at.
    pub subject: &'static str,
    /// What is so, and what it endangers.
    pub message: String,
    /// What mends it, as it is typed.
    pub mend: Option<String>,
}

/// Everything that was looked at.
#[derive(Debug, Default)]
pub struct Findings {
    /// In the order of looking.
    pub list: Vec<Finding>,
}

impl Findings {
    /// Backups are not made, not locked, or not readable.
    pub fn error(&mut self, subject: &'static str, message: impl Into<String>, mend: impl Into<String>) {
        self.add(Severity::Error, subject, message.into(), Some(mend.into()));
    }

    /// Something is less safe than it looks.
    pub fn warn(&mut self, subject: &'static str, message: impl Into<String>, mend: impl Into<String>) {
        self.add(Severity::Warning, subject, message.into(), Some(mend.into()));
    }

    /// Looked at, and well.
    pub fn well(&mut self, subject: &'static str, message: impl Into<String>) {
        self.add(Severity::Info, subject, message.into(), None);
    }

    fn add(&mut self, severity: Severity, subject: &'static str, message: String, mend: Option<String>) {
        self.list.push(Finding { severity, subject, message, mend });
    }

    /// Whether nothing is an error.
    pub fn ok(&self) -> bool {
        self.list.iter().all(|f| f.severity != Severity::Error)
    }
}
