//! What is wrong with a policy, and where.

use std::fmt;
use std::path::PathBuf;

use serde_saphyr::Location;

/// How bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The policy cannot be used.
    Error,
    /// It can, and should be mended.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// Line and column from 1, where there is a place.
    pub place: Option<(u64, u64)>,
    /// What was found and what was expected.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// The line itself.
    pub line_text: Option<String>,
}

impl Problem {
    /// A problem without a place.
    pub fn general(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, place: None, message: message.into(), hint: None, line_text: None }
    }

    /// A problem at a place of `text`.
    pub fn at(text: &str, location: Location, message: impl Into<String>) -> Self {
        let (line, column) = (location.line(), location.column());
        let line_text = usize::try_from(line).ok().and_then(|n| text.lines().nth(n.checked_sub(1)?));
        // A secret that somebody put into the policy is not shown again, whatever is wrong with its line.
        let line_text = line_text.filter(|line| !holds_secret(line) && !seems_secret(line)).map(str::to_owned);
        Self { place: (line > 0).then_some((line, column)), line_text, ..Self::general(message) }
    }

    /// With advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// As a warning.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let (Some((line, column)), Some(text)) = (self.place, &self.line_text) {
            let margin = line.to_string();
            let blank = " ".repeat(margin.len());
            let before: String = text.chars().take(usize::try_from(column.saturating_sub(1)).unwrap_or(0)).collect();
            let indent: String = before.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            let word = text[before.len()..].chars().take_while(|c| c.is_alphanumeric() || "_-./".contains(*c)).count().max(1);
            write!(f, "\n{margin} | {text}\n{blank} | {indent}{}", "^".repeat(word))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhelp: {hint}")?;
        }
        Ok(())
    }
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("cannot read the policy {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file is not a valid policy.
    #[error("{}", listed(file, problems))]
    Invalid {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problems: Vec<Problem>,
    },
}

fn listed(file: &std::path::Path, problems: &[Problem]) -> String {
    let one = |p: &Problem| match p.place {
        Some((line, column)) => format!("{}:{line}:{column}: {p}", file.display()),
        None => format!("{}: {p}", file.display()),
    };
    problems.iter().map(one).collect::<Vec<_>>().join("\n\n")
}

/// Whether a text holds an age identity.
pub(super) fn holds_secret(text: &str) -> bool {
    text.to_ascii_uppercase().contains("AGE-SECRET-KEY")
}

/// Whether a line seems to hold a secret in the place of one's name: a signature, or a field that no policy has.
fn seems_secret(line: &str) -> bool {
    let field = |name: &str| line.match_indices(name).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'));
    line.contains("sig=") || ["secret:", "password:", "assertion:", "token:"].into_iter().any(field)
}

/// The nearest of some spellings, if one is near.
pub fn nearest<'a>(word: &str, spellings: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = spellings.into_iter().map(|s| (strsim::jaro_winkler(word, s), s));
    scored.filter(|(score, _)| *score > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, s)| s)
}
