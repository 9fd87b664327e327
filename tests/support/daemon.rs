//! The daemon as users run it, in a sandbox.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Sandbox;

pub struct Daemon {
    pub child: Child,
    pub log: PathBuf,
    pub port: u16,
}

/// A port that nobody uses now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Adds a part to the policy of a sandbox in place of the one that `init` wrote.
pub fn policy(sandbox: &Sandbox, name: &str, jobs: &str, more: &str) {
    let text = fs::read_to_string(sandbox.path("backstop.yaml")).unwrap();
    let (before, _) = text.split_once("\njobs:").unwrap();
    sandbox.write(name, format!("{before}\njobs:\n{jobs}\n{more}\n"));
}

impl Daemon {
    /// `backstop run`, or another daemon, with a policy of the sandbox.
    pub fn start(sandbox: &Sandbox, policy: &str, port: u16, arguments: &[&str], env: &[(&str, &str)]) -> Self {
        let log = sandbox.path(&format!("{policy}.{}.log", arguments.join("-").replace(['/', ' '], "_")));
        let err = fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstop"));
        command.current_dir(sandbox.path("")).args(["--policy", policy]).args(arguments);
        command.env_remove("BACKSTOP_POLICY").env_remove("BACKSTOP_IDENTITY").env_remove("NOTIFY_SOCKET");
        command.envs(env.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(err);
        Self { child: command.spawn().unwrap(), log, port }
    }

    pub fn log(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| Value::String(line.to_owned()))).collect()
    }

    /// Waits for a line of the log.
    pub fn wait_for(&self, what: &str, seconds: u64, is: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + Duration::from_secs(seconds);
        loop {
            let log = self.log();
            if let Some(line) = log.iter().find(|line| is(line)) {
                return line.clone();
            }
            let lines: Vec<String> = log.iter().map(Value::to_string).collect();
            assert!(Instant::now() < end, "no {what} within {seconds} s:\n{}", lines.join("\n"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a job said something, for the `nth` time.
    pub fn job(&self, job: &str, message: &str, nth: usize, seconds: u64) -> Value {
        let end = Instant::now() + Duration::from_secs(seconds);
        loop {
            let log = self.log();
            let found = log.iter().filter(|l| l["job"] == job && l["message"].as_str().is_some_and(|m| m.starts_with(message)));
            if let Some(line) = found.clone().nth(nth - 1) {
                return line.clone();
            }
            let lines: Vec<String> = log.iter().map(Value::to_string).collect();
            assert!(Instant::now() < end, "{job} did not say {message:?} {nth} times within {seconds} s:\n{}", lines.join("\n"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Waits for its end; how it ended and after how long.
    pub fn end(&mut self, seconds: u64) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), begun.elapsed());
            }
            assert!(begun.elapsed() < Duration::from_secs(seconds), "it does not end: {:?}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks its web server.
    pub fn get(&self, path: &str) -> (u16, String) {
        get(self.port, path, "localhost")
    }

    /// Waits until its web server answers 200.
    pub fn ready(&self, path: &str, seconds: u64) -> String {
        let end = Instant::now() + Duration::from_secs(seconds);
        loop {
            let (status, body) = self.get(path);
            if status == 200 {
                return body;
            }
            assert!(Instant::now() < end, "{path} answers {status}: {body}\n{:?}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until a page shows a text.
    pub fn shows(&self, path: &str, text: &str) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let (_, body) = self.get(path);
            if body.contains(text) {
                return;
            }
            assert!(Instant::now() < end, "{path} does not show {text}:\n{body}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

pub fn get(port: u16, path: &str, host: &str) -> (u16, String) {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return (0, String::new()) };
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return (0, answer) };
    let status = head.split_whitespace().nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    (status, body.to_owned())
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Attested runs of a chain by `ls`, oldest first.
pub fn runs(sandbox: &Sandbox, chain: &str) -> Vec<Value> {
    let mut runs = sandbox.json(&["ls", "--chain", chain], 0);
    runs.reverse();
    runs
}
