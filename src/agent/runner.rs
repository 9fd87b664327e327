//! Runs: each is a process of its own, of this same program.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

/// Of what a command says, so many bytes of a line and so many lines are kept.
const LONGEST_LINE: u64 = 1 << 16;
const MOST_LINES: usize = 200;
/// Of what a command answers for machines, so much of a line.
const LONGEST_ANSWER: u64 = 1 << 20;
/// What stands first in the line that says why a command failed.
const ERROR: &str = "error: ";

/// What is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The job.
    pub job: String,
    /// The command.
    pub command: &'static str,
    /// What it is done to.
    pub targets: Vec<Option<String>>,
    /// The firing.
    pub due: Timestamp,
    /// Which try.
    pub attempt: u32,
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ended {
    /// Its exit code.
    pub exit: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it answered, line by line, without lists.
    pub results: Vec<Value>,
    /// What it said went wrong.
    pub message: String,
}

/// Starts runs.
pub trait Runner: Send {
    /// Starts one.
    fn start(&self, order: &Order) -> io::Result<Box<dyn Running>>;
}

/// A run.
pub trait Running: Send {
    /// How it ended, once it did.
    fn poll(&mut self) -> Option<Ended>;

    /// Asks it to stop.
    fn stop(&mut self);

    /// Ends it.
    fn kill(&mut self);
}

/// A line that a run said.
pub type Said = dyn Fn(&Order, &str) + Send + Sync;

/// What a run's process gets to know of the span that it is traced under.
pub type Traced = dyn Fn(&tracing::Span) -> Vec<(String, String)> + Send + Sync;

/// Runs this same program.
pub struct Processes {
    /// Its path.
    pub program: PathBuf,
    /// What stands before the command.
    pub arguments: Vec<String>,
    /// Hears what runs say.
    pub said: Arc<Said>,
    /// Variables of its environment.
    pub traced: Arc<Traced>,
    /// Woken when a run ends.
    pub wake: Sender<()>,
}

impl Runner for Processes {
    fn start(&self, order: &Order) -> io::Result<Box<dyn Running>> {
        let span = tracing::info_span!(
            "run",
            job = order.job,
            command = order.command,
            due = %order.due,
            attempt = order.attempt,
            exit = tracing::field::Empty
        );
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .envs((self.traced)(&span))
            .arg(order.command)
            .args(order.targets.iter().flatten())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A signal to the agent's group is the agent's to pass on.
            .process_group(0)
            .spawn()?;
        let group = Pid::from_child(&child);
        let ended = Arc::new(Mutex::new(None));
        let pipes = (child.stdout.take(), child.stderr.take());
        let heard = Heard { order: order.clone(), said: self.said.clone() };
        let child = Arc::new(Mutex::new(child));
        let waiter = {
            let (child, ended, wake) = (child.clone(), ended.clone(), self.wake.clone());
            std::thread::Builder::new().name("run".into()).spawn(move || {
                let how = wait(&child, pipes.0, pipes.1, heard);
                span.record("exit", how.exit.unwrap_or(-1));
                drop(span);
                if let Ok(mut ended) = ended.lock() {
                    *ended = Some(how);
                }
                let _ = wake.send(());
            })
        };
        if let Err(e) = waiter {
            // Nobody would hear of its end.
            if let Ok(mut child) = child.lock() {
                let _ = child.kill();
                let _ = child.wait();
            }
            return Err(e);
        }
        Ok(Box::new(Process { group, ended, over: false }))
    }
}

/// Who hears what a run says.
struct Heard {
    order: Order,
    said: Arc<Said>,
}

fn wait(child: &Mutex<Child>, out: Option<ChildStdout>, err: Option<ChildStderr>, heard: Heard) -> Ended {
    let mut results = Vec::new();
    let listener = std::thread::Builder::new().name("listen".into()).spawn(move || {
        let mut errors = Vec::new();
        if let Some(err) = err {
            lines(err, LONGEST_LINE, |line| {
                (heard.said)(&heard.order, line);
                if errors.len() < MOST_LINES {
                    errors.push(line.to_owned());
                }
            });
        }
        errors
    });
    if let Some(out) = out {
        lines(out, LONGEST_ANSWER, |line| {
            if let Ok(value) = serde_json::from_str::<Value>(line)
                && results.len() < MOST_LINES
            {
                results.push(brief(value));
            }
        });
    }
    let errors = listener.map(|l| l.join().unwrap_or_default()).unwrap_or_default();
    let status = child.lock().ok().and_then(|mut child| child.wait().ok());
    let (exit, signal) = status.map_or((None, None), |s| (s.code(), s.signal()));
    Ended { exit, signal, results, message: reason(&errors) }
}

/// What the command said went wrong: from its first error on.
pub(super) fn reason(lines: &[String]) -> String {
    let from = lines.iter().position(|line| line.starts_with(ERROR));
    let joined = |text: String, line: &String| match line.trim().split_once(": ") {
        Some(("because", why)) => format!("{text}: {why}"),
        Some(("help", what)) => format!("{text} (help: {what})"),
        _ => format!("{text} {}", line.trim()),
    };
    let said = from.map(|from| lines[from + 1..].iter().take(5).take_while(|l| l.starts_with(' ')).fold(lines[from].clone(), joined));
    let said = said.or_else(|| lines.last().cloned()).unwrap_or_default();
    said.trim_start_matches(ERROR).chars().take(1000).collect()
}

fn lines(from: impl Read, longest: u64, mut each: impl FnMut(&str)) {
    let mut input = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match input.by_ref().take(longest).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => each(String::from_utf8_lossy(&line).trim_end()),
        }
    }
}

/// An answer without its lists, which may be long.
fn brief(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(map.into_iter().filter(|(_, v)| !v.is_array() && !v.is_object()).collect()),
        other => other,
    }
}

struct Process {
    group: Pid,
    ended: Arc<Mutex<Option<Ended>>>,
    over: bool,
}

impl Process {
    fn signal(&self, signal: Signal) {
        // Once it was waited for, its number may be another's.
        if !self.over && self.ended.lock().is_ok_and(|ended| ended.is_none()) {
            let _ = kill_process_group(self.group, signal);
        }
    }
}

impl Running for Process {
    fn poll(&mut self) -> Option<Ended> {
        let ended = self.ended.lock().ok()?.take()?;
        self.over = true;
        Some(ended)
    }

    fn stop(&mut self) {
        self.signal(Signal::TERM);
    }

    fn kill(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// A daemon that goes takes what it runs with it.
impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_command_failed_is_its_first_error() {
        let said = |lines: &[&str]| reason(&lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            said(&["warning: x", "error: the store is full", "  because: no room is left", "  help: free some room", "error: y"]),
            "the store is full: no room is left (help: free some room)"
        );
        assert_eq!(said(&["thread panicked"]), "thread panicked");
        assert_eq!(said(&[]), "");
    }
}
