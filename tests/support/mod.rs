//! The harness of the promise tests: a sandbox with a vault, the program as users run it, and the
//! library with a clock and a store that tests can bend.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

pub mod daemon;
pub mod faulty;
pub mod forge;
pub mod receiver;
pub mod small;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use backstop::backup::{SnapshotError, SnapshotJob, SnapshotReport, StateDir, snapshot};
use backstop::observe::Silent;
use backstop::source::{FilesOptions, FilesSource, PathGlobs};
use backstop::store::{Clock, LocalStore, LocalStoreOptions, LockMode, Sha256, Store};
use backstop::vault::attestation::{Agent, RetentionBy};
use backstop::vault::epoch::{EpochKind, Grace, Retention};
use backstop::vault::keys::{Identities, Recipients, Role, Signer, SignerEntry, new_identity};
use backstop::vault::names::Container;
use backstop::vault::{Anchor, Founding, Ledger, Writer, found};
use jiff::Timestamp;
use serde_json::Value;

/// A directory that is taken away at the end, immutable flags and all.
pub struct Sandbox {
    dir: PathBuf,
}

impl Sandbox {
    pub fn new() -> Self {
        // Below the target directory, where `scripts/test.sh` also clears flags that a killed test left.
        let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(root).unwrap();
        let dir = tempfile::Builder::new().prefix("sandbox-").tempdir_in(root).unwrap().keep();
        Self { dir }
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.join(relative)
    }

    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// `backstop init` with a files source `tree` reading `tree/` and a stream `log`.
    pub fn init(&self) {
        fs::create_dir_all(self.path("tree")).unwrap();
        let out = self.backstop(&["init", "--dir", ".", "--source", "tree=tree", "--stream", "log"]);
        assert_eq!(out.code, 0, "{}", out.stderr);
    }

    /// Runs the program in the sandbox.
    pub fn backstop(&self, args: &[&str]) -> Ran {
        self.backstop_with(args, &[])
    }

    pub fn backstop_with(&self, args: &[&str], env: &[(&str, &str)]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstop"));
        command.current_dir(&self.dir).args(args).env_remove("BACKSTOP_POLICY").env_remove("BACKSTOP_IDENTITY").stdin(Stdio::null());
        for (name, value) in env {
            command.env(name, value);
        }
        Ran::of(command.output().unwrap())
    }

    /// Runs with `--json`, expects an exit code, and gives the lines of stdout.
    pub fn json(&self, args: &[&str], code: i32) -> Vec<Value> {
        let all: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let ran = self.backstop(&all);
        assert_eq!(ran.code, code, "{args:?}\n{}\n{}", ran.stdout, ran.stderr);
        ran.json()
    }

    /// Runs a shell script in the sandbox.
    pub fn shell(&self, script: &str) -> Ran {
        Ran::of(Command::new("bash").current_dir(&self.dir).args(["-euo", "pipefail", "-c", script]).output().unwrap())
    }

    /// Copies a directory of the sandbox, lock files and all, without immutable flags.
    pub fn copy(&self, from: &str, to: &str) {
        let ran = self.shell(&format!("cp -a '{from}' '{to}'"));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }

    /// Every object of the vault (not lock files), as names relative to `vault/`.
    pub fn objects(&self) -> Vec<String> {
        let root = self.path("vault");
        let mut out = Vec::new();
        walk(&root, &mut |path| {
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            if !path.file_name().unwrap().to_str().unwrap().starts_with('.') {
                out.push(name);
            }
        });
        out.sort();
        out
    }

    /// Makes a stored file changeable, as an intruder with root would.
    pub fn unlock(&self, relative: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(relative);
        let _ = backstop::store::clear_immutable(&path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// Changes a stored file behind the store's back.
    pub fn tamper(&self, relative: &str, change: impl FnOnce(&mut Vec<u8>)) {
        self.unlock(relative);
        let path = self.path(relative);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
    }

    /// Removes a stored file behind the store's back.
    pub fn remove(&self, relative: &str) {
        self.unlock(relative);
        fs::remove_file(self.path(relative)).unwrap();
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        walk(&self.dir, &mut |path| {
            let _ = backstop::store::clear_immutable(path);
        });
        let _ = Command::new("chmod").args(["-R", "u+rwx"]).arg(&self.dir).output();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub fn walk(dir: &Path, each: &mut dyn FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), each),
            Ok(kind) if kind.is_file() => each(&entry.path()),
            _ => {}
        }
    }
}

/// What a program did.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub fn json(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }
}

/// A clock that tests move.
#[derive(Clone)]
pub struct TestClock(Arc<Mutex<Timestamp>>);

impl TestClock {
    pub fn at(text: &str) -> Self {
        Self(Arc::new(Mutex::new(text.parse().unwrap())))
    }

    pub fn set(&self, text: &str) {
        *self.0.lock().unwrap() = text.parse().unwrap();
    }

    pub fn advance_hours(&self, hours: i64) {
        let mut now = self.0.lock().unwrap();
        *now = now.checked_add(jiff::SignedDuration::from_hours(hours)).unwrap();
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// A vault made by the library, on a clock that tests move; its objects have no immutable flag.
pub struct LibraryVault {
    pub sandbox: Sandbox,
    pub clock: TestClock,
    pub recipients: Recipients,
    pub identities: Identities,
    pub genesis: Vec<u8>,
    pub agent_seed: [u8; 32],
    pub policy: Vec<u8>,
}

impl LibraryVault {
    pub fn new(now: &str) -> Self {
        let sandbox = Sandbox::new();
        let clock = TestClock::at(now);
        let mut texts = Vec::new();
        let mut files = Vec::new();
        for n in 0..2 {
            let (text, recipient) = new_identity(Timestamp::UNIX_EPOCH);
            files.push(sandbox.write(&format!("keys/identity-{n}.txt"), text));
            texts.push(recipient);
        }
        let recipients = Recipients::parse(&texts).unwrap();
        let identities = Identities::load(&files).unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(sandbox.path("vault"), options(&clock)).unwrap());
        let signer = |seed| Signer::from_seed([seed; 32]);
        let founding = Founding {
            operator: &signer(3),
            signers: vec![
                SignerEntry::new(Role::Agent, &signer(1).public()),
                SignerEntry::new(Role::Tester, &signer(2).public()),
                SignerEntry::new(Role::Operator, &signer(3).public()),
            ],
            recipients: &recipients,
            policy: b"version: 1\n",
            retention: RetentionBy::All(Retention { years: 7 }),
            grace: Grace { days: 30 },
            lock_mode: LockMode::Locked,
            agent: agent(),
        };
        let genesis = found(&store, founding).unwrap();
        Self { sandbox, clock, recipients, identities, genesis, agent_seed: [1; 32], policy: b"version: 1\n".to_vec() }
    }

    pub fn store(&self) -> Arc<dyn Store> {
        Arc::new(LocalStore::open(self.sandbox.path("vault"), options(&self.clock)).unwrap())
    }

    pub fn ledger(&self) -> Ledger {
        Ledger::open(self.store(), &Anchor::Envelope(self.genesis.clone())).unwrap()
    }

    /// A writer on a store of the caller's making.
    pub fn writer_on(&self, store: Arc<dyn Store>) -> Result<Writer, backstop::vault::LedgerError> {
        Ok(Writer {
            ledger: Ledger::open(store, &Anchor::Envelope(self.genesis.clone()))?,
            signer: Signer::from_seed(self.agent_seed),
            agent: agent(),
            clock: Arc::new(self.clock.clone()),
            policy_sha256: Sha256::of(&self.policy),
            retention: RetentionBy::All(Retention { years: 7 }),
            grace: Grace { days: 30 },
            recipients: self.recipients.clone(),
            lock_mode: LockMode::Locked,
        })
    }

    pub fn writer(&self) -> Writer {
        self.writer_on(self.store()).unwrap()
    }

    /// A snapshot of the sandbox's `tree/` as source `tree`, with the state directory of that name.
    pub fn snapshot_with(&self, writer: &Writer, state: &str) -> Result<SnapshotReport, SnapshotError> {
        let none = PathGlobs::new(&[]).unwrap();
        let source = FilesSource::new(FilesOptions { root: self.sandbox.path("tree"), include: none.clone(), exclude: none });
        let dir = StateDir::open(&self.sandbox.path(state), writer.ledger.trust().vault(), "tree").unwrap();
        snapshot(&SnapshotJob {
            name: &"tree".parse().unwrap(),
            source: &source,
            container: Container::ConfigSnapshots,
            epoch: EpochKind::Month,
            metadata: false,
            writer,
            policy: &self.policy,
            state: &dir,
            level: None,
            threads: 2,
            monitor: &Silent,
        })
    }

    pub fn snapshot(&self) -> Result<SnapshotReport, SnapshotError> {
        self.snapshot_with(&self.writer(), "state")
    }
}

fn options(clock: &TestClock) -> LocalStoreOptions {
    LocalStoreOptions { clock: Arc::new(clock.clone()), immutable_flag: false, containers: Vec::new() }
}

fn agent() -> Agent {
    Agent { version: "test".into(), host_id: "test".into() }
}

/// A file's lines, for messages.
pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Writes to stderr of a test.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The preloaded library that moves a program's clock.
pub fn faketime() -> PathBuf {
    let found = fs::read_dir("/usr/lib").unwrap().flatten().map(|dir| dir.path().join("faketime/libfaketimeMT.so.1"));
    found.into_iter().find(|path| path.is_file()).expect("faketime is not installed: scripts/test.sh installs what the tests need")
}
