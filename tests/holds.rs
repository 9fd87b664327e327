//! Legal holds through the command line: what they keep, what is committed into them, and what `verify` says where the
//! store and the attestations differ.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::fs;

use backstop::store::{LocalStore, LocalStoreOptions, Store, StoreError};
use serde_json::Value;
use support::forge::Forge;
use support::{Ran, Sandbox};

const KEY: [&str; 2] = ["--key", "keys/operator.key"];
const WHY: [&str; 4] = ["--reason", "case 4711", "--authority", "Legal, A. Counsel"];

/// A vault with a source, a stream, two snapshots and one import.
struct Vault {
    sandbox: Sandbox,
}

impl Vault {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.init();
        let vault = Self { sandbox };
        vault.snapshot("1");
        vault.snapshot("2");
        vault.import("2026-03-01T08:00:00Z");
        vault
    }

    fn snapshot(&self, content: &str) -> Value {
        self.sandbox.write("tree/a.json", format!("{{\"a\":{content}}}"));
        self.sandbox.json(&["snapshot", "tree"], 0).remove(0)
    }

    fn import(&self, at: &str) -> Value {
        let name = format!("{}.ndjson", at.replace(':', "-"));
        self.sandbox.write(&name, format!("{{\"id\":\"{at}\",\"createdDateTime\":\"{at}\"}}\n"));
        self.sandbox.json(&["import", "log", &name], 0).remove(0)
    }

    fn run(&self, args: &[&str]) -> Ran {
        let ran = self.sandbox.backstop(args);
        assert!(!ran.stderr.contains("panicked"), "{args:?}\n{}", ran.stderr);
        ran
    }

    fn add(&self, scope: &[&str], code: i32) -> Option<Value> {
        self.sandbox.json(&[&["hold", "add"], scope, &WHY, &KEY].concat(), code).pop()
    }

    fn remove(&self, hold: &Value) -> Value {
        self.sandbox.json(&[&["hold", "remove", hold["hold"].as_str().unwrap()][..], &WHY, &KEY].concat(), 0).remove(0)
    }

    /// Names of the objects that the store holds.
    fn held(&self) -> BTreeSet<String> {
        let store = self.store();
        let all = ["attestations/", "audit-logs/", "config-snapshots/", "evidence/"].map(|c| store.list(c).unwrap()).concat();
        all.into_iter().filter(|o| o.held).map(|o| o.name).collect()
    }

    fn store(&self) -> LocalStore {
        LocalStore::open(self.sandbox.path("vault"), LocalStoreOptions::default()).unwrap()
    }

    /// Objects that no later run may leave out: everything but the holds' own attestations.
    fn objects_but_holds(&self) -> BTreeSet<String> {
        let holds = self.of_kind("hold");
        self.sandbox.objects().into_iter().filter(|o| !holds.contains(o)).collect()
    }

    fn of_kind(&self, kind: &str) -> BTreeSet<String> {
        let lines = self.sandbox.json(&["ls", "--chain", "vault"], 0);
        let of = lines.into_iter().filter(|l| l["kind"] == kind);
        of.map(|l| format!("attestations/vault/{:010}.json", l["sequence"].as_u64().unwrap())).collect()
    }

    fn findings(&self, code: i32) -> Vec<Value> {
        self.sandbox.json(&["verify"], code)[0]["findings"].as_array().unwrap().clone()
    }
}

fn kinds(findings: &[Value]) -> Vec<&str> {
    findings.iter().map(|f| f["kind"].as_str().unwrap()).collect()
}

fn in_folder<'a>(names: &'a BTreeSet<String>, prefix: &str) -> Vec<&'a String> {
    names.iter().filter(|n| n.starts_with(prefix)).collect()
}

#[test]
fn the_whole_vault_is_held_and_let_go() {
    let vault = Vault::new();
    let before = vault.sandbox.objects();
    let hold = vault.add(&[], 0).unwrap();
    assert_eq!(hold["newly_held"].as_u64().unwrap() as usize, before.len(), "{hold}");
    assert_eq!(vault.held(), vault.objects_but_holds());
    assert_eq!(kinds(&vault.findings(0)), Vec::<&str>::new());
    let shown = vault.sandbox.json(&["show", "vault/2"], 0).remove(0);
    let details = &shown["statement"]["predicate"];
    assert_eq!((&details["action"], &details["reason"], &details["authority"]), (&"add".into(), &WHY[1].into(), &WHY[3].into()));
    assert_eq!((shown["signer_role"].as_str(), details["held"].as_array().unwrap().len()), (Some("operator"), before.len()));
    let line = vault.sandbox.json(&["hold", "ls"], 0).remove(0);
    assert_eq!((&line["hold"], &line["state"], &line["objects"]), (&hold["hold"], &"active".into(), &hold["objects"]));
    assert!(vault.run(&["hold", "ls"]).stdout.contains("the whole vault"));

    // Idempotent: nothing is attested twice.
    let again = vault.add(&[], 0).unwrap();
    assert_eq!((&again["hold"], &again["newly_held"], &again["sequence"]), (&hold["hold"], &0.into(), &Value::Null));
    assert_eq!(vault.of_kind("hold").len(), 1);

    let removed = vault.remove(&hold);
    assert_eq!(removed["lifted"], hold["objects"]);
    assert_eq!(vault.held(), BTreeSet::new());
    assert_eq!(kinds(&vault.findings(0)), Vec::<&str>::new());
    assert_eq!(vault.sandbox.json(&["hold", "ls"], 0)[0]["state"], "removed");
}

#[test]
fn what_is_held_cannot_be_removed() {
    let vault = Vault::new();
    vault.add(&["--source", "tree"], 0);
    let store = vault.store();
    for name in vault.held() {
        let refused = store.remove(&name, None);
        assert!(matches!(&refused, Err(StoreError::Locked { reason, .. }) if reason.contains("legal hold")), "{name}: {refused:?}");
    }
}

#[test]
fn a_source_a_stream_a_period_and_a_run_are_held_with_their_attestations() {
    let vault = Vault::new();
    let source = vault.add(&["--source", "tree"], 0).unwrap();
    let held = vault.held();
    assert_eq!(in_folder(&held, "config-snapshots/").len(), in_folder(&vault.objects_but_holds(), "config-snapshots/").len());
    assert_eq!(in_folder(&held, "attestations/snapshot.tree/").len(), 2);
    assert_eq!(in_folder(&held, "audit-logs/").len(), 0);
    vault.remove(&source);

    vault.import("2026-04-01T08:00:00Z");
    // By the time of the events, not of the run.
    let period = vault.add(&["--stream", "log", "--from", "2026-02-01", "--to", "2026-03-15"], 0).unwrap();
    let held = vault.held();
    assert_eq!((in_folder(&held, "audit-logs/").len(), in_folder(&held, "attestations/export.log/").len()), (1, 1), "{held:?}");
    assert!(held.contains("attestations/export.log/0000000001.json"), "{held:?}");
    vault.remove(&period);
    assert!(vault.add(&["--stream", "log", "--from", "2020-02-01", "--to", "2020-03-15"], 2).is_none());
    // A snapshot's epoch is held whole where it meets the period at all.
    let now = jiff::Timestamp::now().to_string();
    let epoch = vault.add(&["--source", "tree", "--from", &now], 0).unwrap();
    assert_eq!(in_folder(&vault.held(), "attestations/snapshot.tree/").len(), 2);
    vault.remove(&epoch);

    // The delta needs its base.
    let run = vault.add(&["--run", "tree"], 0).unwrap();
    let held = vault.held();
    assert_eq!(in_folder(&held, "attestations/snapshot.tree/").len(), 2);
    assert_eq!(in_folder(&held, "config-snapshots/").len(), 4, "two segments, two manifests: {held:?}");
    vault.remove(&run);
    vault.add(&["--run", "tree~1"], 0).unwrap();
    assert_eq!(in_folder(&vault.held(), "attestations/snapshot.tree/").len(), 1);
}

#[test]
fn what_another_hold_covers_stays_held() {
    let vault = Vault::new();
    let source = vault.add(&["--source", "tree"], 0).unwrap();
    let run = vault.add(&["--run", "tree~1"], 0).unwrap();
    let all = vault.held();
    let removed = vault.remove(&source);
    let left = vault.held();
    assert!(!left.is_empty() && left.len() < all.len());
    assert_eq!((removed["lifted"].as_u64().unwrap() as usize, &removed["kept_by_others"]), (all.len() - left.len(), &run["objects"]));
    assert_eq!(kinds(&vault.findings(0)), Vec::<&str>::new());
    vault.remove(&run);
    assert_eq!(vault.held(), BTreeSet::new());
}

#[test]
fn what_is_committed_into_an_open_scope_is_held() {
    let vault = Vault::new();
    vault.add(&["--source", "tree", "--from", "2026-01-01"], 0);
    let before = vault.held();
    let snapshot = vault.snapshot("3");
    let fresh: Vec<String> = vault.held().difference(&before).cloned().collect();
    assert_eq!(fresh.len() as u64, snapshot["objects"].as_u64().unwrap() + 1, "its objects and its envelope: {fresh:?}");
    // Not what lies outside.
    let held = vault.held();
    vault.import("2026-05-01T08:00:00Z");
    assert_eq!(vault.held(), held);
    assert_eq!(kinds(&vault.findings(0)), Vec::<&str>::new());
    // The agent's own key did it; a checkpoint of a vault that is held whole is held as well.
    vault.add(&[], 0);
    vault.sandbox.json(&["checkpoint"], 0);
    assert_eq!(vault.held(), vault.objects_but_holds());
    assert_eq!(kinds(&vault.findings(0)), Vec::<&str>::new());
}

#[test]
fn until_extends_locks_and_the_hold_outlasts_it() {
    let vault = Vault::new();
    let until = |name: &str| vault.store().head(name).unwrap().unwrap().lock.unwrap().until.unwrap().to_string();
    let segment = vault.sandbox.objects().into_iter().find(|o| o.contains("segment-")).unwrap();
    let first = until(&segment);
    let far = "2034-06-01T00:00:00Z";
    assert!(first.as_str() < far);
    let hold = vault.add(&["--source", "tree", "--until", far], 0).unwrap();
    assert_eq!(until(&segment), far);
    assert!(hold["extended"].as_u64().unwrap() > 0);
    // What is committed later reaches as far, as its attestation says.
    let snapshot = vault.snapshot("3");
    assert_eq!(snapshot["lock_until"], far);
    assert_eq!(kinds(&vault.findings(0)), Vec::<&str>::new());
    // A lock that could not be taken back in a lifetime, and an instant that has passed.
    for wrong in ["2226-01-01", "2020-01-01"] {
        assert!(vault.add(&["--until", wrong], 2).is_none(), "{wrong}");
    }
    // Somebody shortens one behind the store's back.
    let beside = format!("vault/{}", Forge::lock_of(&segment));
    vault.sandbox.tamper(&beside, |bytes| *bytes = String::from_utf8_lossy(bytes).replace(far, &first).into_bytes());
    assert_eq!(kinds(&vault.findings(3)), ["short_lock"]);
}

#[test]
fn a_hold_whose_instant_passed_is_ended_and_holds_on() {
    let vault = Vault::new();
    let soon = jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_secs(3)).unwrap().to_string();
    let hold = vault.add(&["--source", "tree", "--until", &soon], 0).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(vault.sandbox.json(&["hold", "ls"], 0)[0]["state"], "ended");
    assert!(!vault.held().is_empty());
    assert_eq!(kinds(&vault.findings(0)), Vec::<&str>::new());
    vault.remove(&hold);
    assert!(vault.held().is_empty());
}

#[test]
fn verify_compares_the_store_with_the_holds() {
    let vault = Vault::new();
    let segment = vault.sandbox.objects().into_iter().find(|o| o.contains("segment-")).unwrap();
    // A hold on the store that nobody attested: what an interrupted `hold add` leaves.
    vault.store().set_hold(&segment, None, true).unwrap();
    let findings = vault.findings(0);
    assert_eq!(kinds(&findings), ["unexplained_hold"]);
    assert_eq!((&findings[0]["severity"], &findings[0]["object"]), (&"warning".into(), &segment.clone().into()));
    // Running it again completes it.
    let hold = vault.add(&["--source", "tree"], 0).unwrap();
    assert_eq!(hold["newly_held"].as_u64().unwrap() + 1, hold["objects"].as_u64().unwrap());
    assert_eq!(kinds(&vault.findings(0)), Vec::<&str>::new());
    // A hold that somebody lifted on the store alone.
    vault.store().set_hold(&segment, None, false).unwrap();
    let findings = vault.findings(3);
    assert_eq!(kinds(&findings), ["not_held"]);
    assert_eq!((&findings[0]["object"], &findings[0]["chain"], &findings[0]["sequence"]), (&segment.into(), &"vault".into(), &2.into()));
    let again = vault.add(&["--source", "tree"], 0).unwrap();
    assert_eq!((&again["hold"], &again["newly_held"]), (&hold["hold"], &1.into()));
    assert_eq!(kinds(&vault.findings(0)), Vec::<&str>::new());
    // An interrupted `hold remove` leaves too much, which the same command lifts.
    vault.remove(&hold);
    vault.store().set_hold("attestations/snapshot.tree/0000000001.json", None, true).unwrap();
    let findings = vault.findings(0);
    assert_eq!(kinds(&findings), ["unexplained_hold"]);
    assert!(findings[0]["message"].as_str().unwrap().contains("hold remove"), "{findings:?}");
    let lifted = vault.remove(&hold);
    assert_eq!((&lifted["lifted"], &lifted["sequence"]), (&1.into(), &Value::Null));
    assert_eq!(kinds(&vault.findings(0)), Vec::<&str>::new());
    // A plain copy has no holds.
    vault.add(&["--source", "tree"], 0);
    vault.sandbox.copy("vault", "copy");
    assert_eq!(vault.sandbox.shell("find copy -name '.*.lock' -delete").code, 0);
    assert_eq!(vault.run(&["verify", "--vault", "copy", "--ignore-locks"]).code, 0);
}

#[test]
fn an_object_that_does_not_hold_stops_it_and_a_lost_one_is_named() {
    let vault = Vault::new();
    let segment = vault.sandbox.objects().into_iter().find(|o| o.contains("segment-")).unwrap();
    let dir = vault.sandbox.path(&format!("vault/{segment}")).parent().unwrap().to_owned();
    // The lock file's place is taken by something that no lock file can replace.
    let beside = vault.sandbox.path(&format!("vault/{}", Forge::lock_of(&segment)));
    let kept = fs::read(&beside).unwrap();
    fs::remove_file(&beside).unwrap();
    fs::create_dir(&beside).unwrap();
    let refused = vault.run(&[&["hold", "add"][..], &WHY, &KEY].concat());
    assert_ne!(refused.code, 0, "{}", refused.stdout);
    assert_eq!(vault.of_kind("hold").len(), 0, "nothing is claimed");
    fs::remove_dir(&beside).unwrap();
    fs::write(&beside, kept).unwrap();
    assert!(dir.is_dir());
    // What is lost cannot be held; the rest is, and the attestation says what is not.
    vault.sandbox.remove(&format!("vault/{segment}"));
    let hold = vault.add(&["--source", "tree"], 3).unwrap();
    assert_eq!(hold["missing"], serde_json::json!([segment]));
    let shown = vault.sandbox.json(&["show", "vault/2"], 0).remove(0);
    assert_eq!((&shown["outcome"], &shown["statement"]["predicate"]["missing"]), (&"partial".into(), &hold["missing"]));
    assert_eq!(kinds(&vault.findings(3)), ["missing_object"]);
}

#[test]
fn only_an_operator_decides() {
    let vault = Vault::new();
    vault.run(&["key", "new", "signer", "--out", "stranger.key"]);
    for key in ["keys/agent.key", "keys/tester.key", "stranger.key", "keys/identity-1.txt", "nowhere.key"] {
        let ran = vault.run(&[&["hold", "add"][..], &WHY, &["--key", key]].concat());
        assert_eq!(ran.code, 2, "{key}: {}", ran.stderr);
    }
    assert_eq!(vault.held(), BTreeSet::new());
    let hold = vault.add(&["--source", "tree"], 0).unwrap();
    let id = hold["hold"].as_str().unwrap();
    assert_eq!(vault.run(&[&["hold", "remove", id][..], &WHY, &["--key", "keys/agent.key"]].concat()).code, 2);
    assert_eq!(vault.run(&[&["hold", "remove", "01890a5d-ac96"][..], &WHY, &KEY].concat()).code, 2);
    assert_eq!(vault.run(&[&["hold", "add", "--reason", " ", "--authority", "x"][..], &KEY].concat()).code, 2);
    assert_eq!(vault.run(&[&["hold", "add", "--source", "tree", "--stream", "log"][..], &WHY, &KEY].concat()).code, 2);
    assert_eq!(kinds(&vault.findings(0)), Vec::<&str>::new());
}

#[test]
fn a_rotated_operator_decides_no_longer_and_the_new_one_does() {
    let vault = Vault::new();
    let keyid = vault.sandbox.json(&["key", "new", "signer", "--out", "next.key"], 0)[0]["keyid"].clone();
    vault.sandbox.json(&[&["key", "rotate", "--old", "keys/operator.pub", "--public-key", "next.pub"], &KEY[..]].concat(), 0);
    assert_eq!(vault.run(&[&["hold", "add"][..], &WHY, &KEY].concat()).code, 2);
    let held = vault.sandbox.json(&[&["hold", "add"][..], &WHY, &["--key", "next.key"]].concat(), 0);
    assert!(held[0]["objects"].as_u64().unwrap() > 0);
    assert_eq!(kinds(&vault.findings(0)), Vec::<&str>::new());
    let signers = vault.sandbox.json(&["key", "ls"], 0);
    let valid: Vec<bool> = signers.iter().filter(|s| s["role"] == "operator").map(|s| s["valid"].as_bool().unwrap()).collect();
    assert_eq!(valid, [false, true]);
    assert!(signers.iter().any(|s| s["keyid"] == keyid));
}

#[test]
fn a_second_signer_is_added_and_the_agents_key_changes() {
    let vault = Vault::new();
    vault.sandbox.json(&["key", "new", "signer", "--out", "second.key"], 0);
    let add = ["key", "add-signer", "--role", "operator", "--public-key", "second.pub"];
    assert_eq!(vault.run(&[&add[..], &["--key", "keys/agent.key"]].concat()).code, 2, "an agent names nobody");
    let added = vault.sandbox.json(&[&add[..], &KEY].concat(), 0).remove(0);
    assert_eq!((&added["role"], &added["old"]), (&"operator".into(), &Value::Null));
    assert_eq!(vault.run(&[&add[..], &KEY].concat()).code, 2, "a key is named once");
    assert!(vault.sandbox.json(&["show", "vault/2"], 0)[0]["statement"]["predicate"].get("old").is_none());
    // Both decide.
    for (n, key) in ["keys/operator.key", "second.key"].iter().enumerate() {
        let reason = format!("case {n}");
        vault.sandbox.json(&["hold", "add", "--source", "tree", "--reason", &reason, "--authority", "Legal", "--key", key], 0);
    }
    assert_eq!(vault.sandbox.json(&["hold", "ls"], 0).len(), 2);
    // The agent's key ends where it stands; its successor carries on.
    vault.sandbox.json(&["key", "new", "signer", "--out", "agent-2.key"], 0);
    let rotate = ["key", "rotate", "--old", "keys/agent.pub", "--public-key", "agent-2.pub"];
    let rotated = vault.sandbox.json(&[&rotate[..], &["--key", "second.key"]].concat(), 0).remove(0);
    assert_eq!(rotated["role"], "agent");
    assert_eq!(vault.run(&[&rotate[..], &KEY].concat()).code, 2, "it has ended already");
    assert_eq!(vault.run(&["snapshot", "tree"]).code, 2);
    fs::copy(vault.sandbox.path("agent-2.key"), vault.sandbox.path("keys/agent.key")).unwrap();
    vault.snapshot("3");
    assert_eq!(kinds(&vault.findings(0)), Vec::<&str>::new());
    // A tester's key does not take an agent's place.
    assert_eq!(vault.run(&[&["key", "rotate", "--old", "nothing", "--public-key", "second.pub"][..], &KEY].concat()).code, 2);
}
