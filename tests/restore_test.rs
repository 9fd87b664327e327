//! A restore test proves what it says: whatever is broken in a vault, the next test that covers it says so, and each of its
//! checks fails when its subject is broken.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/mod.rs"]
mod support;
#[path = "support/tenant.rs"]
mod tenant;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::sync::Arc;

use backstop::backup::{SnapshotJob, StateDir, snapshot};
use backstop::observe::Silent;
use backstop::source::{Collection, Node, NodeKind, Probe, Reading, RecordProblem, Source, SourceError, Walked};
use backstop::store::{LocalStore, LocalStoreOptions, LockMode, Sha256, SystemClock};
use backstop::vault::attestation::{Agent, RetentionBy, Statement};
use backstop::vault::epoch::{EpochKind, Grace, Retention};
use backstop::vault::keys::{Recipients, Signer};
use backstop::vault::names::Container;
use backstop::vault::{Anchor, Ledger, Writer};
use serde_json::{Value, json};
use support::forge::{Forge, envelope_name, seal_repeated, set_objects};
use support::{Ran, Sandbox};
use tenant::Estate;

const ID: [&str; 2] = ["--identity", "keys/identity-1.txt"];

/// A vault with three snapshots of a tree, a large file among it, and imported events.
fn vault() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.init();
    for n in 0..20 {
        sandbox.write(&format!("tree/roles/{n}.json"), format!("{{\"n\":{n}}}"));
    }
    let mut large = vec![0u8; 9 << 20];
    large.iter_mut().enumerate().for_each(|(n, b)| *b = (n.wrapping_mul(2_654_435_761) >> 13) as u8);
    sandbox.write("tree/large.bin", &large);
    assert_eq!(sandbox.backstop(&["snapshot"]).code, 0);
    sandbox.write("tree/roles/3.json", "{\"n\":33}");
    assert_eq!(sandbox.backstop(&["snapshot"]).code, 0);
    // What was changed twice is in no newest state.
    sandbox.write("tree/roles/3.json", "{\"n\":333}");
    assert_eq!(sandbox.backstop(&["snapshot"]).code, 0);
    let events: String = (0..50).map(|n| format!("{{\"id\":\"e{n}\",\"createdDateTime\":\"2026-11-01T00:{n:02}:00Z\"}}\n")).collect();
    sandbox.write("events.ndjson", events);
    assert_eq!(sandbox.backstop(&["import", "log", "events.ndjson"]).code, 0);
    sandbox
}

fn test(sandbox: &Sandbox, more: &[&str], code: i32) -> Value {
    let args: Vec<&str> = ["restore-test"].iter().chain(&ID).chain(more).copied().collect();
    sandbox.json(&args, code).remove(0)
}

fn refused(sandbox: &Sandbox, args: &[&str], code: i32, says: &[&str]) -> Ran {
    let ran = sandbox.backstop(args);
    assert_eq!(ran.code, code, "{args:?} {}{}", ran.stdout, ran.stderr);
    says.iter().for_each(|words| assert!(ran.stderr.contains(words), "{words} in {}", ran.stderr));
    ran
}

fn check<'v>(report: &'v Value, name: &str) -> &'v Value {
    report["checks"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap()
}

/// Which checks failed.
fn failed(report: &Value) -> Vec<&str> {
    let checks = report["checks"].as_array().unwrap().iter();
    checks.filter(|c| c["outcome"] == "failed").map(|c| c["name"].as_str().unwrap()).collect()
}

fn data_objects(sandbox: &Sandbox) -> Vec<String> {
    let data = |name: &String| !name.starts_with("attestations/") && !name.starts_with("evidence/backstop/");
    sandbox.objects().into_iter().filter(data).collect()
}

#[test]
fn everything_is_restored_checked_and_attested() {
    let sandbox = vault();
    let report = test(&sandbox, &[], 0);
    assert_eq!((&report["outcome"], &report["coverage"]), (&json!("complete"), &json!(1.0)), "{report}");
    let stored: u64 = data_objects(&sandbox).iter().map(|name| fs::metadata(sandbox.path(&format!("vault/{name}"))).unwrap().len()).sum();
    assert_eq!((report["covered_bytes"].as_u64(), report["stored_bytes"].as_u64()), (Some(stored), Some(stored)));
    // 20 roles, a large file, their folder; two earlier states of one role and three manifests; 50 events.
    assert_eq!((&check(&report, "records")["count"], &check(&report, "records")["outcome"]), (&json!(22), &json!("passed")), "{report}");
    assert_eq!(check(&report, "trees")["count"], 1);
    assert_eq!(check(&report, "counts")["count"], 2);
    assert_eq!(check(&report, "history")["count"], 5);
    assert_eq!(check(&report, "events")["count"], 1);
    assert_eq!(check(&report, "documents")["outcome"], "skipped", "a tree of files is no tenant");
    let tested = report["tested"].as_array().unwrap();
    assert_eq!(tested.len(), 2);
    assert!(tested.iter().all(|t| t["passed"] == true && t["drawn"] == "newest"), "{tested:?}");
    assert_eq!(tested.iter().map(|t| t["entries"].as_u64().unwrap()).collect::<Vec<_>>(), [50, 22]);
    // The tester signed it, on its own chain; an audit without a key finds nothing wrong.
    let attested = &sandbox.json(&["ls", "--chain", "restore-test"], 0)[0];
    assert_eq!((&attested["kind"], &attested["sequence"], &attested["outcome"]), (&json!("restore-test"), &json!(1), &json!("complete")));
    let audit = sandbox.json(&["verify"], 0).remove(0);
    assert_eq!(audit["findings"].as_array().unwrap().iter().filter(|f| f["severity"] == "error").count(), 0);
    // No name of a record stands outside of what is sealed.
    let forge = Forge::new(&sandbox, ".");
    let statement = String::from_utf8(forge.statement("restore-test", 1).to_bytes().unwrap()).unwrap();
    assert!(!statement.contains("roles/") && !statement.contains("large.bin"), "{statement}");
    let record = forge.statement("restore-test", 1).predicate.objects[0].name.clone();
    let opened = sandbox.shell(&format!("age -d -i keys/identity-2.txt vault/{record} | zstd -d | jq -r .tested[1].entries"));
    assert_eq!((opened.code, opened.stdout.trim()), (0, "22"), "{}", opened.stderr);
    // And status knows it.
    let status = sandbox.json(&["status"], 0).remove(0);
    assert_eq!((&status["coverage"], &status["restore_test"]["outcome"]), (&json!(1.0), &json!("complete")));
    assert!(status["newest"].as_array().unwrap().iter().all(|n| n["tested"].is_string()), "{status}");
    assert!(status["restore_times"].as_array().unwrap().iter().all(|t| t["estimated_seconds"].is_f64()), "{status}");
    assert!(!fs::read_dir(std::env::temp_dir()).unwrap().flatten().any(|e| {
        e.file_name().to_str().unwrap().starts_with("backstop-restore-test-")
            && fs::read_dir(e.path()).is_ok_and(|d| d.count() > 0)
            && e.metadata().unwrap().modified().unwrap().elapsed().unwrap().as_secs() > 600
    }));
}

#[test]
fn one_byte_of_any_object_is_found_and_told() {
    let sandbox = vault();
    let objects = data_objects(&sandbox);
    assert!(objects.len() >= 7, "{objects:?}");
    for (n, name) in objects.iter().enumerate() {
        let file = format!("vault/{name}");
        let at = fs::metadata(sandbox.path(&file)).unwrap().len() as usize * (n + 1) / (objects.len() + 1);
        sandbox.tamper(&file, |bytes| bytes[at] ^= 1);
        let report = test(&sandbox, &[], 3);
        assert_eq!(report["outcome"], "failed");
        let named: BTreeSet<&str> = report["problems"].as_array().unwrap().iter().filter_map(|p| p["object"].as_str()).collect();
        assert_eq!(named, BTreeSet::from([name.as_str()]), "{report}");
        let problem = &report["problems"][0];
        assert!(name.contains(problem["written_by"].as_str().unwrap()), "{problem}");
        assert!(report["coverage"].as_f64().unwrap() < 1.0);
        let good = &report["still_good"][0];
        // The third snapshot needs its own objects and the base's; the second's segment is in no later state.
        let expected = match name.split('/').nth(3).map(|_| name.contains("segment")) {
            _ if name.starts_with("audit-logs") => (0, 1),
            _ => (good["good"].as_u64().unwrap(), 3 - good["good"].as_u64().unwrap()),
        };
        assert_eq!((good["good"].as_u64(), good["bad"].as_u64()), (Some(expected.0), Some(expected.1)), "{good}");
        sandbox.tamper(&file, |bytes| bytes[at] ^= 1);
    }
    let report = test(&sandbox, &[], 0);
    assert_eq!((&report["outcome"], &report["coverage"]), (&json!("complete"), &json!(1.0)));
    // People read what it is, which records, and what is left.
    let runs = sandbox.json(&["ls", "--chain", "snapshot.tree"], 0);
    let (third, second) = (runs[0]["run"].as_str().unwrap(), runs[1]["run"].as_str().unwrap());
    let segment = objects.iter().find(|o| o.contains(second) && o.contains("segment")).unwrap();
    sandbox.tamper(&format!("vault/{segment}"), |bytes| bytes[300] ^= 1);
    let all: Vec<&str> = ["restore-test"].iter().chain(&ID).copied().collect();
    let ran = refused(&sandbox, &all, 3, &["history: snapshot.tree roles/3.json", segment, second, "2 of 3 recovery points", third]);
    assert!(ran.stdout.contains("failed  history") && ran.stdout.contains("passed  records"), "{}", ran.stdout);
    let status = sandbox.json(&["status"], 4).remove(0);
    let finding = status["findings"].as_array().unwrap().iter().find(|f| f["kind"] == "restore_test_failed").unwrap();
    assert!(finding["message"].as_str().unwrap().contains("history"), "{finding}");
}

#[test]
fn an_object_that_is_gone_and_an_attestation_that_is_gone_are_told() {
    let sandbox = vault();
    let objects = data_objects(&sandbox);
    let gone = objects.iter().find(|o| o.contains("segment-0001")).unwrap_or(&objects[1]).clone();
    sandbox.copy("vault", "whole");
    sandbox.remove(&format!("vault/{gone}"));
    let report = test(&sandbox, &[], 3);
    assert!(report["problems"].to_string().contains(&gone), "{report}");
    sandbox.shell("chattr -R -i vault 2>/dev/null || true; rm -rf vault; mv whole vault");
    sandbox.remove("vault/attestations/snapshot.tree/0000000002.json");
    let report = test(&sandbox, &[], 3);
    assert!(failed(&report).contains(&"chains"), "{report}");
    assert!(report["problems"].to_string().contains("snapshot.tree/2"), "{report}");
}

#[test]
fn a_test_needs_an_identity_and_a_key_that_is_not_the_agents() {
    let sandbox = vault();
    let chain = sandbox.path("vault/attestations/restore-test");
    refused(&sandbox, &["restore-test"], 2, &["no identity was given", "age1"]);
    let agents: Vec<&str> = ["restore-test", "--key", "keys/agent.key"].iter().chain(&ID).copied().collect();
    refused(&sandbox, &agents, 2, &["agent's key", "key ls"]);
    let none: Vec<&str> = ["restore-test", "--key", "keys/nowhere.key"].iter().chain(&ID).copied().collect();
    refused(&sandbox, &none, 2, &["keys/nowhere.key"]);
    assert!(!chain.exists(), "nothing was attested");
    assert_eq!(sandbox.backstop(&["key", "new", "identity", "--out", "other.txt"]).code, 0);
    refused(&sandbox, &["restore-test", "--identity", "other.txt"], 2, &["none of the identities opens", "age1"]);
    assert!(!chain.exists(), "a wrong file on the command line is no test");
    let policy = fs::read_to_string(sandbox.path("backstop.yaml")).unwrap();
    sandbox.write("backstop.yaml", policy.replace(", tester_key_file: keys/tester.key", ""));
    let all: Vec<&str> = ["restore-test"].iter().chain(&ID).copied().collect();
    refused(&sandbox, &all, 2, &["no tester's key was given", "--key"]);
    test(&sandbox, &["--key", "keys/tester.key"], 0);
    let doctor = sandbox.json(&["doctor"], 0).remove(0);
    let tester = doctor["findings"].as_array().unwrap().iter().find(|f| f["subject"] == "tester").unwrap();
    assert_eq!(tester["severity"], "warning");
    assert!(tester["message"].as_str().unwrap().contains("snapshot.tree"), "{tester}");
}

#[test]
fn an_identity_of_an_old_epoch_proves_what_it_opens_and_says_what_it_does_not() {
    let sandbox = vault();
    // From now on everything is sealed to others.
    let made = sandbox.json(&["key", "new", "identity", "--out", "new-1.txt"], 0);
    let other = sandbox.json(&["key", "new", "identity", "--out", "new-2.txt"], 0);
    let text = |made: &Vec<Value>| made[0]["recipient"].as_str().unwrap().to_owned();
    let policy = fs::read_to_string(sandbox.path("backstop.yaml")).unwrap();
    let line = policy.lines().find(|l| l.trim_start().starts_with("recipients:")).unwrap();
    sandbox.write("backstop.yaml", policy.replace(line, &format!("  recipients: [{}, {}]", text(&made), text(&other))));
    assert_eq!(sandbox.backstop(&["snapshot"]).code, 0);
    let old = sandbox.backstop(&["restore-test", "--identity", "keys/identity-1.txt", "--json"]);
    assert_eq!(old.code, 1, "{}", old.stderr);
    assert!(old.stderr.contains("snapshot.tree"), "{}", old.stderr);
    let report: Value = serde_json::from_str(&old.stdout).unwrap();
    let passed: Vec<&str> =
        report["tested"].as_array().unwrap().iter().filter(|t| t["passed"] == true).map(|t| t["chain"].as_str().unwrap()).collect();
    assert_eq!(passed, ["export.log"], "{report}");
    assert!(report["skipped"].to_string().contains("snapshot.tree"), "{report}");
    let both = sandbox.json(&["restore-test", "--identity", "keys/identity-1.txt", "--identity", "new-2.txt"], 0).remove(0);
    assert_eq!(both["coverage"], 1.0);
}

#[test]
fn what_is_larger_than_the_disk_is_tested_in_parts_and_a_full_one_is_told() {
    let sandbox = vault();
    for n in 0..24 {
        let mut bytes = vec![n as u8; 400_000];
        bytes.iter_mut().enumerate().for_each(|(at, b)| *b ^= (at.wrapping_mul(40_503) >> 7) as u8);
        sandbox.write(&format!("tree/more/{n:02}.bin"), bytes);
    }
    fs::remove_file(sandbox.path("tree/large.bin")).unwrap();
    assert_eq!(sandbox.backstop(&["snapshot"]).code, 0);
    let small = sandbox.path("small");
    fs::create_dir(&small).unwrap();
    let mounted = sandbox.shell("mount -t tmpfs -o size=4m tmpfs small");
    assert_eq!(mounted.code, 0, "{}", mounted.stderr);
    struct Unmount<'a>(&'a Sandbox);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            self.0.shell("umount -l small");
        }
    }
    let unmount = Unmount(&sandbox);
    let report = test(&sandbox, &["--temporary", "small"], 0);
    assert_eq!((&report["coverage"], &check(&report, "trees")["count"]), (&json!(1.0), &json!(1)), "{report}");
    assert_eq!(check(&report, "records")["count"], 20 + 24 + 2, "{report}");
    let all: Vec<&str> = ["restore-test", "--temporary", "small", "--disk", "1G"].iter().chain(&ID).copied().collect();
    refused(&sandbox, &all, 1, &["small", "No space left", "--disk"]);
    assert_eq!(fs::read_dir(&small).unwrap().count(), 0, "nothing is left lying about");
    let status = sandbox.json(&["status"], 4).remove(0);
    assert_eq!((&status["restore_test"]["outcome"], &status["coverage"]), (&json!("failed"), &json!(1.0)), "{status}");
    drop(unmount);
    let nowhere: Vec<&str> = ["restore-test", "--temporary", "nowhere"].iter().chain(&ID).copied().collect();
    refused(&sandbox, &nowhere, 1, &["nowhere", "--temporary"]);
}

#[test]
fn two_tests_at_once_are_both_attested_and_a_killed_one_leaves_nothing_behind() {
    let sandbox = vault();
    fs::create_dir(sandbox.path("tmp")).unwrap();
    let command = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_backstop"));
        command.current_dir(sandbox.path("")).args(["restore-test", "--temporary", "tmp", "--json"]).args(ID);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    let both = [command(), command()];
    for child in both {
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(0));
    }
    let numbers: Vec<u64> = sandbox.json(&["ls", "--chain", "restore-test"], 0).iter().map(|a| a["sequence"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [2, 1]);
    // Killed once it has something on disk.
    let mut child = command();
    while child.try_wait().unwrap().is_none() {
        let mut files = 0;
        support::walk(&sandbox.path("tmp"), &mut |_| files += 1);
        if files > 0 {
            child.kill().unwrap();
            child.wait().unwrap();
            break;
        }
    }
    test(&sandbox, &["--temporary", "tmp"], 0);
    assert_eq!(fs::read_dir(sandbox.path("tmp")).unwrap().count(), 0, "what the killed one restored is gone");
}

#[test]
fn orphans_and_a_failed_newest_run_do_not_disturb_it() {
    let sandbox = vault();
    let forge = Forge::new(&sandbox, ".");
    let objects = data_objects(&sandbox);
    let folder = objects.iter().find(|o| o.contains("segment")).unwrap().rsplit_once('/').unwrap().0.to_owned();
    forge.put(&format!("{folder}/segment-0077.tar.zst.age"), b"nobody attests it");
    let mut statement = forge.successor("snapshot.tree");
    statement.predicate.outcome = backstop::vault::attestation::Outcome::Failed;
    for (name, value) in [
        ("base", Value::Null),
        ("tree_sha256", Value::Null),
        ("segments_from", json!([])),
        ("collections", json!([])),
        ("error_code", json!("stopped")),
    ] {
        statement.predicate.details.insert(name.into(), value);
    }
    forge.commit(&statement, &forge.signer("agent"));
    let report = test(&sandbox, &[], 0);
    assert_eq!(report["coverage"], 1.0, "{report}");
    let tested = report["tested"].as_array().unwrap().iter().find(|t| t["chain"] == "snapshot.tree").unwrap();
    assert_eq!(tested["sequence"], 3, "the newest that did not fail");
}

#[test]
fn a_vault_without_a_recovery_point_has_nothing_to_test() {
    let sandbox = Sandbox::new();
    sandbox.init();
    let all: Vec<&str> = ["restore-test"].iter().chain(&ID).copied().collect();
    refused(&sandbox, &all, 2, &["nothing to test", "backstop snapshot"]);
}

// What is broken on purpose.

/// Documents of a tenant, as somebody captured them.
struct Documents(Vec<(String, Vec<u8>)>, Vec<Collection>);

impl Source for Documents {
    fn collections(&self) -> Vec<Collection> {
        self.1.clone()
    }

    fn walk(&self, visit: &mut dyn FnMut(Walked) -> bool) -> Result<(), SourceError> {
        for (path, _) in &self.0 {
            if !visit(Walked::Node(Node::listed(path.clone(), true))) {
                break;
            }
        }
        Ok(())
    }

    fn probe(&self, node: &Node) -> Result<Probe, RecordProblem> {
        let bytes = &self.0.iter().find(|(path, _)| *path == node.path).unwrap().1;
        Ok(Probe { kind: NodeKind::File, size: bytes.len() as u64, mode: 0o644, mtime: (0, 0), fingerprint: None })
    }

    fn read(&self, node: &Node, _: u64, into: &mut Vec<u8>) -> Result<Reading, RecordProblem> {
        into.extend(&self.0.iter().find(|(path, _)| *path == node.path).unwrap().1);
        Ok(Reading::Whole(self.probe(node)?))
    }

    fn open(&self, _: &Node) -> Result<Box<dyn Read>, RecordProblem> {
        unreachable!("none is large")
    }
}

/// Commits documents as a snapshot of the source `entra`, with the agent's own key.
fn captured(sandbox: &Sandbox, documents: &[(&str, &str)]) {
    let names = [
        ("entra.roleAssignments", "roleManagement/directory/roleAssignments/"),
        ("entra.roleDefinitions", "roleManagement/directory/roleDefinitions/"),
        ("entra.users", "users/"),
        ("entra.groups", "groups/"),
        ("entra.servicePrincipals", "servicePrincipals/"),
    ];
    let collections = names.map(|(name, prefix)| Collection { name: name.into(), prefix: prefix.into() }).to_vec();
    let mut documents: Vec<_> = documents.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect();
    documents.sort();
    let store = Arc::new(LocalStore::open(sandbox.path("vault"), LocalStoreOptions::default()).unwrap());
    let genesis = fs::read(sandbox.path("keys/genesis.json")).unwrap();
    let policy = fs::read(sandbox.path("backstop.yaml")).unwrap();
    let ledger = Ledger::open(store, &Anchor::Envelope(genesis)).unwrap();
    let recipients = Recipients::parse(ledger.trust().recipients()).unwrap();
    let writer = Writer {
        ledger,
        signer: Signer::load(&sandbox.path("keys/agent.key")).unwrap(),
        agent: Agent { version: "test".into(), host_id: "agent".into() },
        clock: Arc::new(SystemClock),
        policy_sha256: Sha256::of(&policy),
        retention: RetentionBy::All(Retention { years: 7 }),
        grace: Grace { days: 30 },
        recipients,
        lock_mode: LockMode::Locked,
    };
    let state = StateDir::open(&sandbox.path("state-entra"), writer.ledger.trust().vault(), "entra").unwrap();
    snapshot(&SnapshotJob {
        name: &"entra".parse().unwrap(),
        source: &Documents(documents, collections),
        container: Container::ConfigSnapshots,
        epoch: EpochKind::Month,
        metadata: false,
        writer: &writer,
        policy: &policy,
        state: &state,
        level: None,
        threads: 2,
        monitor: &Silent,
    })
    .unwrap();
}

const USER: (&str, &str) = ("users/u1.json", r#"{"displayName":"Ada","id":"u1"}"#);
const ROLE: (&str, &str) = ("roleManagement/directory/roleDefinitions/r1.json", r#"{"displayName":"Reader","id":"r1"}"#);
const ASSIGNED: (&str, &str) =
    ("roleManagement/directory/roleAssignments/a1.json", r#"{"id":"a1","principalId":"u1","roleDefinitionId":"r1"}"#);

#[test]
fn documents_that_mean_nothing_fail_their_check() {
    type Case<'c> = (&'c [(&'c str, &'c str)], &'c [&'c str], &'c str);
    let cases: [Case<'_>; 8] = [
        (&[USER, ROLE, ASSIGNED], &[], ""),
        (&[USER, ROLE, ASSIGNED, ("users/u2.json", "{\"id\":\"u2\"")], &["documents"], "users/u2.json"),
        (&[USER, ROLE, ASSIGNED, ("users/u2.json", "[1]")], &["documents"], "no object"),
        (&[USER, ROLE, ASSIGNED, ("users/u2.json", "{\"id\": \"u2\"}")], &["documents"], "canonical"),
        (&[USER, ROLE, ASSIGNED, ("users/u2.json", "{\"displayName\":\"x\"}")], &["shapes"], "it has no id"),
        (&[USER, ROLE, ASSIGNED, ("users/u2.json", "{\"id\":\"u3\"}")], &["shapes"], "it lies elsewhere"),
        (&[USER, ASSIGNED], &["references"], "/roleDefinitionId leads to r1"),
        (&[ROLE, ASSIGNED], &["references"], "/principalId leads to u1"),
    ];
    for (documents, expected, says) in cases {
        let sandbox = Sandbox::new();
        sandbox.init();
        captured(&sandbox, documents);
        let report = test(&sandbox, &[], if expected.is_empty() { 0 } else { 3 });
        assert_eq!(failed(&report), expected, "{report}");
        assert!(report["problems"].to_string().contains(says), "{says} in {report}");
    }
    // What the policy declares to lead outside is no failure.
    let sandbox = Sandbox::new();
    sandbox.init();
    captured(&sandbox, &[USER, ASSIGNED]);
    let policy = fs::read_to_string(sandbox.path("backstop.yaml")).unwrap();
    let jobs = "jobs:\n  weekly: { restore_test: { outside: [r1] }, schedule: \"0 0 4 * * Sun\" }\n";
    sandbox.write("backstop.yaml", policy.replace("jobs: {}\n", jobs));
    let report = test(&sandbox, &[], 0);
    assert_eq!((&check(&report, "references")["count"], &check(&report, "references")["excused"]), (&json!(2), &json!(1)), "{report}");
}

/// Signs a statement once more, with something else in it.
fn said_otherwise(sandbox: &Sandbox, chain: &str, sequence: u64, change: impl FnOnce(&mut Statement)) {
    let forge = Forge::new(sandbox, ".");
    let mut statement = forge.statement(chain, sequence);
    change(&mut statement);
    forge.commit(&statement, &forge.signer("agent"));
}

#[test]
fn attestations_that_say_something_else_fail_their_check() {
    let detail = |name: &'static str, value: Value| move |s: &mut Statement| _ = s.predicate.details.insert(name.into(), value);
    let sandbox = vault();
    said_otherwise(&sandbox, "snapshot.tree", 3, detail("tree_sha256", json!("ab".repeat(32))));
    assert_eq!(failed(&test(&sandbox, &[], 3)), ["trees"]);
    let sandbox = vault();
    said_otherwise(&sandbox, "snapshot.tree", 3, detail("entries", json!(21)));
    assert_eq!(failed(&test(&sandbox, &[], 3)), ["counts"]);
    let sandbox = vault();
    said_otherwise(&sandbox, "snapshot.tree", 3, |s| s.predicate.details["collections"][0]["count"] = json!(4));
    let report = test(&sandbox, &[], 3);
    assert_eq!(failed(&report), ["counts"]);
    assert!(report["problems"].to_string().contains("files: 4 records are attested, and 22 are there"), "{report}");
    let sandbox = vault();
    said_otherwise(&sandbox, "export.log", 1, |s| s.predicate.details["spans"][0]["count"] = json!(51));
    let report = test(&sandbox, &[], 3);
    assert_eq!(failed(&report), ["events"]);
    assert!(report["problems"].to_string().contains("51 events"), "{report}");
}

/// Commits a window of a stream with these events, sealed by hand.
fn window(sandbox: &Sandbox, from: &str, to: &str, events: &[(&str, &str)], late: bool) {
    let forge = Forge::new(sandbox, ".");
    let mut next = forge.successor("export.log");
    let day = from[..10].replace('-', "/");
    let kind = if late { "-late" } else { "" };
    let lines: String = events.iter().map(|(id, at)| format!("{{\"id\":\"{id}\",\"createdDateTime\":\"{at}\"}}\n")).collect();
    let sealed = seal_repeated(&[(lines.as_bytes(), 1)], &forge.recipients());
    let object = forge.put(&format!("audit-logs/log/{day}/{}{kind}-0000.ndjson.zst.age", next.predicate.run), &sealed);
    let times: Vec<&str> = events.iter().map(|(_, at)| *at).collect();
    let span = json!({ "name": object.name, "first": times.iter().min(), "last": times.iter().max(), "count": events.len() });
    let details = &mut next.predicate.details;
    details.remove("import");
    details.insert("window".into(), json!({ "from": from, "to": to }));
    details.insert("events".into(), json!(events.len()));
    details.insert("spans".into(), json!([span]));
    set_objects(&mut next, vec![object]);
    forge.commit(&next, &forge.signer("agent"));
}

#[test]
fn windows_and_events_that_are_not_right_fail_their_check() {
    let day = |time: &str| format!("2026-11-20T{time}Z");
    let (ten, eleven, twelve) = (day("10:00:00"), day("11:00:00"), day("12:00:00"));
    let (a, b, c) = (day("10:10:00"), day("10:20:00"), day("11:30:00"));
    let well = |sandbox: &Sandbox| window(sandbox, &ten, &eleven, &[("a", &a), ("b", &b)], false);
    let sandbox = vault();
    well(&sandbox);
    window(&sandbox, &eleven, &twelve, &[("c", &c)], false);
    let report = test(&sandbox, &[], 0);
    assert_eq!((&check(&report, "windows")["count"], &check(&report, "ids")["outcome"]), (&json!(2), &json!("passed")), "{report}");
    // A hole between windows.
    let sandbox = vault();
    well(&sandbox);
    window(&sandbox, &day("11:05:00"), &twelve, &[("c", &c)], false);
    let report = test(&sandbox, &[], 3);
    assert_eq!(failed(&report), ["windows"]);
    assert!(report["problems"].to_string().contains("a hole between 2026-11-20T11:00:00Z"), "{report}");
    // An overlap.
    let sandbox = vault();
    well(&sandbox);
    window(&sandbox, &day("10:55:00"), &twelve, &[("c", &c)], false);
    assert_eq!(failed(&test(&sandbox, &[], 3)), ["windows"]);
    // An event before its window, a late one in it, one that stands twice.
    for (events, late, expected) in [
        (vec![("a", a.as_str()), ("x", "2026-11-20T09:59:59Z")], false, "times"),
        (vec![("a", a.as_str()), ("x", "2026-11-20T11:00:00Z")], false, "times"),
        (vec![("a", a.as_str())], true, "times"),
        (vec![("a", a.as_str()), ("a", a.as_str())], false, "ids"),
    ] {
        let sandbox = vault();
        window(&sandbox, &ten, &eleven, &events, late);
        assert_eq!(failed(&test(&sandbox, &[], 3)), [expected], "{events:?}");
    }
    // No JSON at all.
    let sandbox = vault();
    let forge = Forge::new(&sandbox, ".");
    forge.commit_export(&seal_repeated(&[(b"{\"id\":\"x\"\n", 1)], &forge.recipients()), 1);
    assert_eq!(failed(&test(&sandbox, &[], 3)), ["events"]);
    assert_eq!(envelope_name("export.log", 2), "attestations/export.log/0000000002.json");
}

#[test]
fn a_real_tenant_is_whole_and_a_sample_of_it_is_compared() {
    let estate = Estate::new();
    let sandbox = &estate.sandbox;
    assert_eq!(sandbox.backstop(&["snapshot"]).code, 0);
    assert_eq!(sandbox.backstop(&["export"]).code, 0);
    let key = ["--key", "keys/tester.key"];
    let report = test(sandbox, &key, 0);
    for name in ["documents", "shapes", "references", "counts", "windows", "events", "times", "ids", "live"] {
        assert_eq!(check(&report, name)["outcome"], "passed", "{name}: {report}");
        assert!(check(&report, name)["count"].as_u64().unwrap() > 0, "{name}");
    }
    // Nobody answers: the rest is tested all the same, and why the tenant was not compared is said.
    let mut estate = estate;
    estate.stop();
    let report = test(&estate.sandbox, &key, 0);
    assert_eq!((&check(&report, "live")["outcome"], &report["outcome"]), (&json!("skipped"), &json!("complete")));
    assert!(check(&report, "live")["message"].as_str().unwrap().contains("could not be compared"), "{report}");
    let report = test(&estate.sandbox, &["--key", "keys/tester.key", "--no-live"], 0);
    assert_eq!(report["notes"], json!([]));
}

#[test]
fn what_is_gone_from_the_end_of_a_chain_or_damaged_in_it_is_told() {
    let sandbox = vault();
    test(&sandbox, &[], 0);
    sandbox.copy("vault", "whole");
    let again = || {
        let ran = sandbox.shell("chattr -R -i vault 2>/dev/null || true; rm -rf vault; cp -a whole vault");
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    };
    // The newest attestation, after a test had restored it.
    sandbox.remove("vault/attestations/snapshot.tree/0000000003.json");
    let report = test(&sandbox, &[], 3);
    assert_eq!(failed(&report), ["chains"]);
    assert!(report["problems"].to_string().contains("an earlier test restored snapshot.tree/3"), "{report}");
    again();
    sandbox.tamper("vault/attestations/snapshot.tree/0000000003.json", |bytes| bytes[200] ^= 1);
    let report = test(&sandbox, &[], 3);
    assert!(report["problems"].to_string().contains("snapshot.tree/3 is no valid attestation"), "{report}");
    // One that a bundle still has: everything restores, and the damage is told.
    again();
    sandbox.tamper("vault/attestations/snapshot.tree/0000000001.json", |bytes| bytes[200] ^= 1);
    let report = test(&sandbox, &[], 3);
    assert_eq!(failed(&report), ["chains"], "{report}");
    assert!(report["problems"].to_string().contains("a checkpoint's bundle has them"), "{report}");
    sandbox.remove("vault/attestations/snapshot.tree/0000000001.json");
    let status = sandbox.json(&["status"], 3).remove(0);
    assert!(status["findings"].as_array().unwrap().iter().any(|f| f["kind"] == "damaged_attestation"), "{status}");
    // The whole chain.
    again();
    let gone = sandbox.shell("chattr -R -i vault/attestations/snapshot.tree 2>/dev/null || true; rm -rf vault/attestations/snapshot.tree");
    assert_eq!(gone.code, 0, "{}", gone.stderr);
    let report = test(&sandbox, &[], 3);
    assert!(report["problems"].to_string().contains("snapshot.tree"), "{report}");
    again();
    test(&sandbox, &[], 0);
}

#[test]
fn nobody_else_reads_what_is_restored_and_an_interrupted_test_takes_it_away() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = vault();
    fs::create_dir(sandbox.path("tmp")).unwrap();
    for signal in ["INT", "TERM", "HUP"] {
        let mut seen = None;
        // Until it is caught with something on disk.
        for _ in 0..20 {
            let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_backstop"))
                .current_dir(sandbox.path(""))
                .args(["restore-test", "--temporary", "tmp", "--quiet"])
                .args(ID)
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            while child.try_wait().unwrap().is_none() {
                let dir = fs::read_dir(sandbox.path("tmp")).unwrap().flatten().next();
                if let Some(mode) = dir.and_then(|d| Some(d.metadata().ok()?.permissions().mode() & 0o777)) {
                    seen = Some(mode);
                    let pid = child.id().to_string();
                    assert_eq!(sandbox.shell(&format!("kill -{signal} {pid} 2>/dev/null || true")).code, 0);
                    break;
                }
            }
            if child.wait().unwrap().code() == Some(130) {
                break;
            }
        }
        assert_eq!(seen, Some(0o700), "{signal}");
        assert_eq!(fs::read_dir(sandbox.path("tmp")).unwrap().count(), 0, "{signal}: what was restored is gone");
    }
}

#[test]
fn a_partial_snapshot_is_restored_too_and_what_it_lacks_is_no_damage() {
    let estate = Estate::new();
    let refused = json!([{ "path": "/roleManagement/directory/roleDefinitions", "kind": "status", "status": 403 }]);
    estate.faults(refused);
    estate.snapshot("entra", 6);
    let key = ["--key", "keys/tester.key", "--no-live"];
    let report = test(&estate.sandbox, &key, 0);
    // Nothing complete was ever captured: the newest partial one is what an incident would be answered with.
    assert_eq!((&report["outcome"], &report["coverage"]), (&json!("complete"), &json!(1.0)), "{report}");
    let references = check(&report, "references");
    assert!(references["excused"].as_u64().unwrap() > 0, "roles that could not be captured are outside: {references}");
    // Once there is a complete one, that is restored, and a later partial one is proved with it.
    estate.faults(json!([]));
    let complete = estate.snapshot("entra", 0).0;
    estate.faults(json!([{ "path": "/roleManagement/directory/roleDefinitions", "kind": "status", "status": 403 }]));
    estate.snapshot("entra", 6);
    let report = test(&estate.sandbox, &key, 0);
    let tested = report["tested"].as_array().unwrap().iter().find(|t| t["chain"] == "snapshot.entra").unwrap();
    assert_eq!((&tested["run"], &report["coverage"]), (&complete["run"], &json!(1.0)), "{report}");
}

#[test]
fn a_directory_that_vanishes_and_a_clock_that_went_back_are_no_damage() {
    let sandbox = vault();
    fs::create_dir(sandbox.path("tmp")).unwrap();
    let mut told = None;
    for _ in 0..30 {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_backstop"));
        command.current_dir(sandbox.path("")).args(["restore-test", "--temporary", "tmp"]).args(ID);
        let child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        // As soon as it has something there.
        for _ in 0..100_000 {
            let dir = fs::read_dir(sandbox.path("tmp")).unwrap().flatten().next();
            if dir.is_some_and(|d| fs::remove_dir_all(d.path()).is_ok()) {
                break;
            }
        }
        let out = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        match out.status.code() {
            Some(1) => {
                told = Some(stderr);
                break;
            }
            // It was done before it was disturbed.
            code => assert_eq!(code, Some(0), "{stderr}"),
        }
    }
    let told = told.expect("it was never caught");
    assert!(told.contains("--temporary") || told.contains("cannot"), "{told}");
    // The clock goes back a day: what was found is told, and that it cannot be attested.
    let (preload, before) = (support::faketime(), "-1d");
    let env = [("LD_PRELOAD", preload.to_str().unwrap()), ("FAKETIME", before), ("DONT_FAKE_MONOTONIC", "1"), ("NO_FAKE_STAT", "1")];
    test(&sandbox, &[], 0);
    let args: Vec<&str> = ["restore-test", "--json"].iter().chain(&ID).copied().collect();
    let ran = sandbox.backstop_with(&args, &env);
    assert_eq!(ran.code, 1, "{}{}", ran.stdout, ran.stderr);
    let report: Value = serde_json::from_str(ran.stdout.trim()).unwrap();
    assert_eq!(report["sequence"], Value::Null, "{report}");
    assert!(ran.stderr.contains("clock"), "{}", ran.stderr);
}
