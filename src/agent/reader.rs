//! What the vault says of itself: read by a process of its own, so that the daemon stays small.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use serde_json::Value;
use wait4::Wait4;

/// No more than one part in so many of a processor is spent on it; one long reading among short ones is not counted, nor
/// is waiting for a store that is slow: that is when to look.
const SHARE: u32 = 20;
/// Whoever reads for longer is stopped.
const LONGEST_READING: Duration = Duration::from_secs(3 * 3600);
/// Of what is said besides so many characters are told.
const LONGEST_SAID: usize = 500;
/// A status is no longer than this.
const LONGEST: u64 = 64 << 20;

/// Runs a command that reads the vault now and then, and takes the JSON that it answers.
pub struct Reader {
    program: PathBuf,
    arguments: Vec<String>,
    wake: Sender<()>,
    results: (Sender<Reading>, Receiver<Reading>),
    under_way: bool,
    every: Duration,
    next: Option<Duration>,
    wanted: bool,
    /// What the last reading took of a processor.
    spent: Duration,
    /// What it said besides its answer, the last time.
    said: String,
}

/// What was answered, and what was said besides.
type Answer = (Value, String);
/// With the time of a processor that it took.
type Reading = (Result<Answer, Unread>, Duration);

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// For people.
    pub why: String,
    /// The vault is damaged, or another one stands in its place: exit code 3.
    pub damage: bool,
}

impl<T: ToString> From<T> for Unread {
    fn from(why: T) -> Self {
        Self { why: why.to_string(), damage: false }
    }
}

impl Reader {
    /// By this program, so often; `wake` is told when there is an answer.
    pub fn new(program: PathBuf, arguments: Vec<String>, every: Duration, wake: Sender<()>) -> Self {
        Self {
            program,
            arguments,
            wake,
            results: channel(),
            under_way: false,
            every,
            next: None,
            wanted: false,
            spent: Duration::ZERO,
            said: String::new(),
        }
    }

    /// From now on with other arguments.
    pub fn set_arguments(&mut self, arguments: Vec<String>) {
        self.arguments = arguments;
    }

    /// At once, and waits for it.
    pub fn now(&self) -> Result<Value, Unread> {
        read(self.command()).0.map(|(value, _)| value)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Something changed.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// Begins to read where it is time to; says what was read.
    pub fn attend(&mut self, steady: Duration) -> Option<Result<Value, Unread>> {
        let read = self.results.1.try_recv().ok();
        if let Some((_, spent)) = &read {
            self.under_way = false;
            // One long reading, by which an index is made, is followed by short ones: two in a row are a habit.
            let usual = (*spent).min(self.spent).saturating_mul(SHARE);
            self.spent = *spent;
            // What changed is seen soon, but not over and over.
            let least = if self.wanted { Duration::from_secs(5) } else { self.every };
            self.next = Some(steady.saturating_add(least.max(usual)));
        }
        let due = self.next.is_none_or(|next| steady >= next)
            || (self.wanted && self.next.is_some_and(|n| n > steady.saturating_add(self.every / 2)));
        if !self.under_way && due {
            self.wanted = false;
            self.under_way = self.begin();
        }
        read.map(|(result, _)| {
            result.map(|(value, said)| {
                // Once, not with every reading.
                if said != self.said && !said.is_empty() {
                    tracing::warn!("{said}");
                }
                self.said = said;
                value
            })
        })
    }

    fn begin(&self) -> bool {
        let command = self.command();
        let (results, wake) = (self.results.0.clone(), self.wake.clone());
        let spawned = std::thread::Builder::new().name("reader".into()).spawn(move || {
            let _ = results.send(read(command));
            let _ = wake.send(());
        });
        spawned.is_ok()
    }
}

fn read(command: Command) -> Reading {
    let mut spent = Duration::ZERO;
    let answer = answered(command, &mut spent);
    (answer, spent)
}

fn answered(mut command: Command, spent: &mut Duration) -> Result<Answer, Unread> {
    let mut child = command.spawn()?;
    let (Some(mut out), Some(err)) = (child.stdout.take(), child.stderr.take()) else { return Err("it has no output".into()) };
    let listen = move || {
        let mut said = Vec::new();
        let _ = err.take(1 << 16).read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    };
    let said = std::thread::Builder::new().spawn(listen)?;
    let (pid, over) = (rustix::process::Pid::from_child(&child), std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let is_over = over.clone();
    let (end, done) = channel::<()>();
    let _ = std::thread::Builder::new().spawn(move || {
        if done.recv_timeout(LONGEST_READING) == Err(RecvTimeoutError::Timeout) && !is_over.load(Ordering::SeqCst) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    });
    let mut text = Vec::new();
    let read = out.by_ref().take(LONGEST).read_to_end(&mut text);
    drop(out);
    over.store(true, Ordering::SeqCst);
    drop(end);
    let ended = child.wait4()?;
    *spent = ended.rusage.utime + ended.rusage.stime;
    let said = said.join().unwrap_or_default();
    read?;
    match serde_json::from_slice(&text) {
        Ok(value) => Ok((value, said.trim().chars().take(LONGEST_SAID).collect())),
        Err(_) => {
            let lines: Vec<String> = said.lines().map(str::to_owned).collect();
            let reason = super::runner::reason(&lines);
            let why = if reason.is_empty() { format!("the command ended with {}", ended.status) } else { reason };
            Err(Unread { why, damage: ended.status.code() == Some(3) })
        }
    }
}
