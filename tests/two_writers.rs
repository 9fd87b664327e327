//! Two agents on one vault at the same time, as threads and as processes: one commits or they follow one
//! another, never do two snapshots stand on the same predecessor, and numbers have no gaps.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/mod.rs"]
mod support;
#[path = "support/witness.rs"]
mod witness;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Barrier};

use backstop::backup::{ImportJob, SnapshotError, StateDir, checkpoint, checkpoint_is_due, import};
use backstop::observe::Silent;
use backstop::source::import::{Format, Pointers};
use backstop::store::{Clock, LocalStore, LocalStoreOptions, Store};
use backstop::vault::attestation::{Kind, Outcome, SnapshotDetails};
use backstop::vault::names::{ChainName, RunId};
use backstop::vault::{CommitError, Draft, Writer};
use jiff::Timestamp;
use support::{LibraryVault, Sandbox, TestClock};
use witness::{attested, audited, differences, errors, look, restored, snapshots};

/// A clock on which no two instants are equal.
struct Ticking {
    base: TestClock,
    ticks: AtomicI64,
}

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        let ticks = self.ticks.fetch_add(1, Ordering::SeqCst);
        self.base.now().checked_add(jiff::SignedDuration::from_millis(ticks)).unwrap()
    }
}

fn ticking_store(vault: &LibraryVault) -> Arc<dyn Store> {
    let clock = Arc::new(Ticking { base: vault.clock.clone(), ticks: AtomicI64::new(0) });
    let options = LocalStoreOptions { clock, immutable_flag: false, containers: Vec::new() };
    Arc::new(LocalStore::open(vault.sandbox.path("vault"), options).unwrap())
}

/// What must hold of a chain of snapshots whatever happened: no gap, no fork, one head.
fn one_line(ledger: &backstop::vault::Ledger, chain: &str) {
    let all = attested(ledger, chain);
    let numbers: Vec<u64> = all.iter().map(|a| a.sequence()).collect();
    assert_eq!(numbers, (1..=all.len() as u64).collect::<Vec<_>>());
    let mut newest = None;
    for a in all.iter().filter(|a| a.statement.predicate.outcome != Outcome::Failed) {
        let details: SnapshotDetails = a.statement.predicate.details().unwrap();
        assert_eq!(details.previous_snapshot, newest, "number {} stands on the snapshot before it", a.sequence());
        newest = Some(a.statement.predicate.run);
    }
}

#[test]
fn two_agents_in_one_process_take_turns_or_drop_out() {
    let vault = LibraryVault::new("2026-11-02T08:00:00Z");
    let store = ticking_store(&vault);
    let (mut won, mut dropped) = (0, 0);
    let rounds = 12;
    for round in 0..rounds {
        for n in 0..20 {
            vault.sandbox.write(&format!("tree/{n}.json"), format!("{{\"round\":{round},\"n\":{n}}}"));
        }
        vault.clock.advance_hours(1);
        let before = snapshots(&vault.ledger(), "snapshot.tree").len();
        let barrier = Barrier::new(2);
        let outcomes: Vec<Result<_, SnapshotError>> = std::thread::scope(|scope| {
            let agents: Vec<_> = ["state-a", "state-b"]
                .into_iter()
                .map(|state| {
                    let (vault, barrier, store) = (&vault, &barrier, store.clone());
                    scope.spawn(move || {
                        let writer = vault.writer_on(store).unwrap();
                        barrier.wait();
                        vault.snapshot_with(&writer, state)
                    })
                })
                .collect();
            agents.into_iter().map(|a| a.join().unwrap()).collect()
        });
        let committed: Vec<_> = outcomes.iter().filter_map(|o| o.as_ref().ok()).collect();
        assert!(!committed.is_empty(), "round {round}: somebody commits: {outcomes:?}");
        for outcome in &outcomes {
            match outcome {
                Ok(report) => assert_eq!(report.outcome, Outcome::Complete),
                Err(SnapshotError::Commit(CommitError::Dropped(_))) => dropped += 1,
                Err(other) => panic!("round {round}: {other:?}"),
            }
        }
        won += committed.len();
        let ledger = vault.ledger();
        let stand = snapshots(&ledger, "snapshot.tree");
        assert_eq!(stand.len() - before, committed.len(), "round {round}: what was reported is what stands");
        one_line(&ledger, "snapshot.tree");
        let tree = look(&vault.sandbox.path("tree"), false);
        for run in &stand[before..] {
            let back = restored(&ledger, &vault.identities, "snapshot.tree", *run, &vault.sandbox.path(""), false);
            assert_eq!(differences(&tree, &back), Vec::<String>::new(), "round {round}");
        }
    }
    assert!(won >= rounds, "{won} commits");
    assert!(dropped >= 1, "the agents never met: the test proves nothing");
    let ledger = vault.ledger();
    let report = audited(&ledger, Some(&vault.identities));
    assert_eq!(errors(&report), Vec::<String>::new());
    assert!(report.findings.iter().all(|f| f.kind != "fork"));
}

#[test]
fn a_loser_says_who_was_first_and_leaves_a_failed_run() {
    let vault = LibraryVault::new("2026-11-02T08:00:00Z");
    vault.sandbox.write("tree/a", "1");
    vault.snapshot_with(&vault.writer(), "state-a").unwrap();
    vault.clock.advance_hours(1);
    vault.sandbox.write("tree/a", "2");
    // The other agent commits while this one is reading: after its first look at the chain, before its commit.
    let overtaken = Overtaken { inner: vault.store(), vault: &vault };
    let outcome = overtaken.run();
    let message = match outcome {
        Err(SnapshotError::Commit(CommitError::Dropped(message))) => message,
        other => panic!("{other:?}"),
    };
    let ledger = vault.ledger();
    let stand = snapshots(&ledger, "snapshot.tree");
    assert_eq!(stand.len(), 2);
    assert!(message.contains(&stand[1].to_string()), "{message}");
    let all = attested(&ledger, "snapshot.tree");
    assert_eq!(all.len(), 3);
    assert_eq!(all[2].statement.predicate.outcome, Outcome::Failed);
    assert_eq!(all[2].statement.predicate.details["error_code"], "dropped_out");
    one_line(&ledger, "snapshot.tree");
    vault.clock.advance_hours(1);
    let next = vault.snapshot_with(&vault.writer(), "state-a").unwrap();
    assert_eq!(next.sequence, 4);
    assert_eq!(errors(&audited(&vault.ledger(), Some(&vault.identities))), Vec::<String>::new());
}

/// Lets another agent commit in the middle of a snapshot.
struct Overtaken<'a> {
    inner: Arc<dyn Store>,
    vault: &'a LibraryVault,
}

impl Overtaken<'_> {
    fn run(&self) -> Result<backstop::backup::SnapshotReport, SnapshotError> {
        struct At<'a> {
            vault: &'a LibraryVault,
            done: std::sync::atomic::AtomicBool,
        }
        impl backstop::observe::Monitor for At<'_> {
            fn event(&self, event: backstop::observe::Event) {
                let stored = matches!(event, backstop::observe::Event::Stored { .. });
                if stored && !self.done.swap(true, Ordering::SeqCst) {
                    self.vault.snapshot_with(&self.vault.writer(), "state-b").unwrap();
                }
            }
        }
        let writer = self.vault.writer_on(self.inner.clone()).unwrap();
        let monitor = At { vault: self.vault, done: false.into() };
        let none = backstop::source::PathGlobs::new(&[]).unwrap();
        let root = self.vault.sandbox.path("tree");
        let source = backstop::source::FilesSource::new(backstop::source::FilesOptions { root, include: none.clone(), exclude: none });
        let state = StateDir::open(&self.vault.sandbox.path("state-a"), writer.ledger.trust().vault(), "tree").unwrap();
        backstop::backup::snapshot(&backstop::backup::SnapshotJob {
            name: &"tree".parse().unwrap(),
            source: &source,
            container: backstop::vault::names::Container::ConfigSnapshots,
            epoch: backstop::vault::epoch::EpochKind::Month,
            metadata: false,
            writer: &writer,
            policy: &self.vault.policy,
            state: &state,
            level: None,
            threads: 2,
            monitor: &monitor,
        })
    }
}

#[test]
fn one_state_directory_serves_one_run_at_a_time() {
    let vault = LibraryVault::new("2026-11-02T08:00:00Z");
    vault.sandbox.write("tree/a", "1");
    let writer = vault.writer();
    let dir = StateDir::open(&vault.sandbox.path("state"), writer.ledger.trust().vault(), "tree").unwrap();
    let taken = dir.lock().unwrap().expect("it is free");
    assert!(matches!(vault.snapshot(), Err(SnapshotError::Busy(_))));
    assert_eq!(attested(&vault.ledger(), "snapshot.tree").len(), 0, "the second run wrote nothing");
    drop(taken);
    vault.snapshot().unwrap();
}

#[test]
fn imports_and_checkpoints_race_without_gaps() {
    let vault = LibraryVault::new("2026-11-02T08:00:00Z");
    let store = ticking_store(&vault);
    let files: Vec<PathBuf> = (0..6)
        .map(|n| {
            let lines: String = (0..50).map(|e| format!("{{\"id\":\"{n}-{e}\",\"time\":\"2026-11-01T0{n}:00:{e:02}Z\"}}\n")).collect();
            vault.sandbox.write(&format!("in/{n}.ndjson"), lines)
        })
        .collect();
    let pointers = Pointers::new(vec!["/id".into()], vec!["/time".into()]).unwrap();
    let barrier = Barrier::new(9);
    let (imports, checkpoints) = std::thread::scope(|scope| {
        let writer = |store: &Arc<dyn Store>| -> Writer { vault.writer_on(store.clone()).unwrap() };
        let (barrier, pointers, vault, store) = (&barrier, &pointers, &vault, &store);
        let imports: Vec<_> = files
            .iter()
            .map(|file| {
                scope.spawn(move || {
                    let writer = writer(store);
                    barrier.wait();
                    import(&ImportJob {
                        stream: &"log".parse().unwrap(),
                        files: std::slice::from_ref(file),
                        format: Format::Auto,
                        pointers,
                        again: false,
                        writer: &writer,
                        policy: &vault.policy,
                        level: None,
                        threads: 1,
                        monitor: &Silent,
                    })
                    .unwrap()
                    .sequence
                })
            })
            .collect();
        let checkpoints: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(move || {
                    let writer = writer(store);
                    barrier.wait();
                    checkpoint(&writer, &vault.policy).unwrap().sequence
                })
            })
            .collect();
        let all =
            |list: Vec<std::thread::ScopedJoinHandle<'_, u64>>| list.into_iter().map(|t| t.join().unwrap()).collect::<BTreeSet<u64>>();
        (all(imports), all(checkpoints))
    });
    assert_eq!(imports, (1..=6).collect());
    assert_eq!(checkpoints, (1..=3).collect());
    let ledger = vault.ledger();
    for (chain, count) in [("export.log", 6), ("checkpoint", 3)] {
        let numbers: Vec<u64> = attested(&ledger, chain).iter().map(|a| a.sequence()).collect();
        assert_eq!(numbers, (1..=count).collect::<Vec<_>>(), "{chain}");
    }
    assert_eq!(errors(&audited(&ledger, Some(&vault.identities))), Vec::<String>::new());
}

fn spawn(sandbox: &Sandbox, args: &[&str]) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_backstop"))
        .current_dir(sandbox.path(""))
        .args(args)
        .env_remove("BACKSTOP_POLICY")
        .env_remove("BACKSTOP_IDENTITY")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn two_processes_with_policies_of_their_own_share_a_vault() {
    let sandbox = Sandbox::new();
    sandbox.init();
    let policy = support::read(&sandbox.path("backstop.yaml"));
    sandbox.write("other.yaml", format!("{policy}\nstate: other-state\n"));
    let (mut done, mut later) = (0, 0);
    for round in 0..8 {
        for n in 0..200 {
            sandbox.write(&format!("tree/{n}.json"), format!("{{\"round\":{round},\"n\":{n}}}"));
        }
        let agents = [spawn(&sandbox, &["snapshot"]), spawn(&sandbox, &["--policy", "other.yaml", "snapshot"])];
        let mut codes = Vec::new();
        for agent in agents {
            let out = agent.wait_with_output().unwrap();
            let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
            let code = out.status.code().unwrap();
            match code {
                0 => done += 1,
                75 => {
                    later += 1;
                    assert!(stderr.contains("drops out") && stderr.contains("help:"), "{stderr}");
                }
                _ => panic!("round {round}: exit {code}: {stderr}"),
            }
            codes.push(code);
        }
        assert!(codes.contains(&0), "round {round}: {codes:?}");
    }
    assert_eq!(done + later, 16);
    let verify = sandbox.json(&["verify", "--deep", "--identity", "keys/identity-1.txt"], 0);
    assert_eq!(verify[0]["ok"], true);
    let runs = sandbox.json(&["ls", "--chain", "snapshot.tree"], 0);
    let complete = runs.iter().filter(|r| r["outcome"] == "complete").count();
    assert_eq!(complete, done, "what exited 0 stands, and nothing else");
    let numbers: Vec<u64> = runs.iter().rev().map(|r| r["sequence"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=runs.len() as u64).collect::<Vec<_>>());
    let expected = look(&sandbox.path("tree"), false);
    sandbox.json(&["restore", "files", "tree", "--to", "back", "--identity", "keys/identity-1.txt"], 0);
    assert_eq!(differences(&expected, &look(&sandbox.path("back"), false)), Vec::<String>::new());
}

#[test]
fn a_second_process_on_the_same_machine_is_told_to_come_later() {
    let sandbox = Sandbox::new();
    sandbox.init();
    sandbox.write("tree/a.json", "{}");
    sandbox.json(&["snapshot"], 0);
    let vault = std::fs::read_dir(sandbox.path(".backstop")).unwrap().next().unwrap().unwrap().file_name();
    let dir = StateDir::open(&sandbox.path(".backstop"), vault.to_str().unwrap(), "tree").unwrap();
    let taken = dir.lock().unwrap().expect("it is free");
    let ran = sandbox.backstop(&["snapshot"]);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    assert!(ran.stderr.contains("another run of tree is under way on this machine"), "{}", ran.stderr);
    drop(taken);
    sandbox.json(&["snapshot"], 0);
}

/// The command line refuses such a key at once; whoever uses the library is held by the writer itself.
#[test]
fn what_a_key_may_not_attest_is_not_committed() {
    let vault = LibraryVault::new("2026-11-02T08:00:00Z");
    vault.sandbox.write("tree/a.json", "{}");
    let tester = Writer { signer: backstop::vault::keys::Signer::from_seed([2; 32]), ..vault.writer() };
    let refused = vault.snapshot_with(&tester, "state");
    assert!(matches!(&refused, Err(SnapshotError::Commit(CommitError::Void(why))) if why.contains("role")), "{refused:?}");
    assert!(attested(&vault.ledger(), "snapshot.tree").is_empty());
    vault.snapshot().unwrap();
    one_line(&vault.ledger(), "snapshot.tree");
}

#[test]
fn what_nobody_would_read_is_not_committed() {
    let vault = LibraryVault::new("2026-11-02T08:00:00Z");
    let writer = vault.writer();
    let started = writer.now().unwrap();
    let draft = |details: &str| Draft {
        kind: Kind::Heartbeat,
        chain: ChainName::snapshot(&"tree".parse().unwrap()),
        run: RunId::new(started),
        started,
        outcome: Outcome::Complete,
        objects: Vec::new(),
        details: serde_json::Map::from_iter([("message".to_owned(), details.into())]),
    };
    // As base64 it is a third larger: just too much for any reader.
    let large = draft(&"x".repeat(49 << 20));
    let refused = writer.commit(&large, |_| true, |_| Ok(())).unwrap_err();
    assert!(refused.to_string().contains("64 MiB"), "{refused}");
    assert!(attested(&vault.ledger(), "snapshot.tree").is_empty());
    writer.commit(&draft("quiet"), |_| true, |_| Ok(())).unwrap();
    assert_eq!(attested(&vault.ledger(), "snapshot.tree").len(), 1, "its number is not taken");
}

#[test]
fn a_checkpoint_is_due_once_a_day_and_later_where_a_job_makes_them() {
    let vault = LibraryVault::new("2026-11-02T08:00:00Z");
    let due = |at: &str| {
        vault.clock.set(at);
        [false, true].map(|scheduled| checkpoint_is_due(&vault.writer(), scheduled).unwrap())
    };
    assert_eq!(due("2026-11-02T08:00:00Z"), [true, true], "there is none");
    checkpoint(&vault.writer(), &vault.policy).unwrap();
    assert_eq!(due("2026-11-03T06:29:00Z"), [false, false]);
    // Twice a day by local time is 23 hours where summer begins.
    assert_eq!(due("2026-11-03T06:31:00Z"), [true, false]);
    assert_eq!(due("2026-11-03T08:29:00Z"), [true, false]);
    assert_eq!(due("2026-11-03T08:31:00Z"), [true, true], "before an audit misses it");
}
