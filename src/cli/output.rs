//! What people and machines see: results on stdout, everything else on stderr.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::exit::CliError;
use crate::observe::{Event, Monitor};

/// Green: added, good.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Red: removed, bad.
pub const BAD: Style = AnsiColor::Red.on_default();
/// Yellow: changed, doubtful.
pub const DOUBT: Style = AnsiColor::Yellow.on_default();
/// Of little weight.
pub const FAINT: Style = Style::new().dimmed();
/// Of much weight.
pub const STRONG: Style = Style::new().bold();

/// When colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Default)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How much is said, and how.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Machine output on stdout.
    pub json: bool,
    /// Nothing but errors on stderr.
    pub quiet: bool,
    /// More on stderr.
    pub verbose: bool,
    /// Progress bars on a terminal.
    pub progress: bool,
    /// Nothing at all: for commands inside another that speaks for them.
    pub muted: bool,
}

impl Output {
    /// Applies `--color` to both streams.
    pub fn set_color(color: Color) {
        match color {
            Color::Auto => {}
            Color::Always => anstream::ColorChoice::Always.write_global(),
            Color::Never => anstream::ColorChoice::Never.write_global(),
        }
    }

    /// One line for people, on stdout, unless machines listen.
    pub fn say(&self, line: impl std::fmt::Display) {
        if !self.json && !self.quiet && !self.muted {
            write_out(&format!("{line}\n"));
        }
    }

    /// One line of a command's result for people, also when quiet.
    pub fn tell(&self, line: impl std::fmt::Display) {
        if !self.json && !self.muted {
            write_out(&format!("{line}\n"));
        }
    }

    /// One JSON document on one line, when machines listen.
    pub fn json(&self, value: &impl Serialize) {
        if self.json
            && !self.muted
            && let Ok(text) = serde_json::to_string(value)
        {
            write_out(&format!("{text}\n"));
        }
    }

    /// A warning on stderr.
    pub fn warn(&self, text: impl std::fmt::Display) {
        if !self.quiet && !self.muted {
            write_err(&format!("{DOUBT}warning:{DOUBT:#} {text}\n"));
        }
    }

    /// A note on stderr.
    pub fn note(&self, text: impl std::fmt::Display) {
        if self.verbose && !self.quiet && !self.muted {
            write_err(&format!("{FAINT}{text}{FAINT:#}\n"));
        }
    }

    /// What is waited for, on stderr.
    pub fn wait(&self, text: impl std::fmt::Display) {
        if !self.quiet && !self.muted {
            write_err(&format!("{text}\n"));
        }
    }

    /// An error on stderr, with its causes and advice.
    pub fn error(&self, error: &CliError) {
        let mut causes = error.causes.iter();
        let first = causes.next().map(String::as_str).unwrap_or_default();
        let mut text = format!("{BAD}error:{BAD:#} {first}\n");
        for cause in causes {
            text.push_str(&format!("  {FAINT}because:{FAINT:#} {cause}\n"));
        }
        if let Some(hint) = &error.hint {
            text.push_str(&format!("  {GOOD}help:{GOOD:#} {hint}\n"));
        }
        write_err(&text);
    }

    /// A listener that draws a bar where there is a terminal, and prints warnings.
    pub fn monitor(self, what: &str) -> Progress {
        let draw = self.progress && !self.quiet && !self.muted && io::stderr().is_terminal();
        let bar = if draw { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if draw {
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
            bar.set_message(what.to_owned());
            bar.set_style(spinner());
            bar.enable_steady_tick(Duration::from_millis(250));
        }
        Progress { output: self, bar, sums: Mutex::default(), what: what.to_owned(), listed: AtomicU64::new(0) }
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg}  {pos} records  {prefix}  {elapsed}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn counted() -> ProgressStyle {
    ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}  {prefix}  {eta}").unwrap_or_else(|_| ProgressStyle::default_bar())
}

// A reader that went away is no error of ours.
fn write_out(text: &str) {
    let _ = anstream::stdout().lock().write_all(text.as_bytes());
}

fn write_err(text: &str) {
    let _ = anstream::stderr().lock().write_all(text.as_bytes());
}

/// Turns events into a progress bar and warnings.
pub struct Progress {
    output: Output,
    bar: ProgressBar,
    /// Bytes done, objects stored.
    sums: Mutex<(u64, u64)>,
    what: String,
    listed: AtomicU64,
}

impl Progress {
    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Monitor for Progress {
    fn event(&self, event: Event) {
        match event {
            Event::Expect { records, .. } if records > 0 => {
                self.bar.set_length(records);
                self.bar.set_style(counted());
            }
            Event::Expect { .. } => {}
            Event::Listed { records } => {
                let listed = self.listed.fetch_add(records, Ordering::Relaxed) + records;
                self.bar.set_message(format!("{}: {} records read", self.what, grouped(listed)));
            }
            Event::Done { records, bytes } => {
                self.bar.inc(records);
                if let Ok(mut sums) = self.sums.lock() {
                    sums.0 += bytes;
                    self.bar.set_prefix(human_bytes(sums.0));
                }
            }
            Event::Stored { name, bytes } => {
                if self.output.verbose {
                    self.bar.suspend(|| self.output.note(format!("stored {name} ({})", human_bytes(bytes))));
                }
            }
            Event::Problem { path, message } => self.bar.suspend(|| self.output.warn(format!("{path}: {message}"))),
            Event::Warning(text) => self.bar.suspend(|| self.output.warn(text)),
            Event::Waiting(text) => self.bar.suspend(|| self.output.wait(text)),
            Event::Note(text) => self.bar.suspend(|| self.output.note(text)),
        }
    }
}

/// A size as people read it.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

/// A number in groups of three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// An instant to the second.
pub fn at_second(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The day of an instant.
pub fn day(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

/// Text from the vault for a terminal: control characters cannot steer it, nor turn around what is read.
pub fn shown(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// How wide lines may be: as the terminal, or as COLUMNS says; without either nothing is cut.
pub fn width() -> Option<usize> {
    let said = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let seen = || {
        let stdout = io::stdout();
        stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col))).flatten()
    };
    seen().filter(|width| *width > 0).or(said).map(|width| width.max(40))
}
