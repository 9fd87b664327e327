//! The damage matrix: every kind of damage to every kind of object, before every reader.
//!
//! It proves: `verify` names what is damaged; nothing panics; whatever is unharmed restores byte for byte and
//! whatever is not is named and never written; attestations that a checkpoint's bundle still holds are taken
//! from there; and after `verify` has seen the damage, the next snapshot restores completely.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Mutex, Weak};

use rstest::rstest;
use serde_json::Value;
use support::forge::{Forge, envelope_name};
use support::{Ran, Sandbox, walk};

type Records = BTreeMap<String, Vec<u8>>;

/// One vault that all cases copy: a base, two deltas, two imports, three checkpoints.
struct World {
    sandbox: Sandbox,
    /// Of the base and the two deltas.
    runs: [String; 3],
    /// The tree at each run, and as the next snapshot will find it.
    versions: [Records; 4],
    /// The events of each import, one a line.
    events: [String; 2],
}

/// Tests of one process share a world while one of them needs it; with the last one it is cleaned up.
fn world() -> Arc<World> {
    static SHARED: Mutex<Weak<World>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    shared.upgrade().unwrap_or_else(|| {
        let made = Arc::new(World::make());
        *shared = Arc::downgrade(&made);
        made
    })
}

fn record(path: &str, version: usize) -> Vec<u8> {
    format!("{{\"path\":\"{path}\",\"version\":{version},\"text\":\"{}\"}}", path.repeat(20)).into_bytes()
}

impl World {
    fn make() -> Self {
        let sandbox = Sandbox::new();
        let mut tree: Records = Records::new();
        let mut change = |version: usize, changed: &[&str], gone: &[&str]| {
            for path in changed {
                tree.insert((*path).to_owned(), record(path, version));
                sandbox.write(&format!("tree/{path}"), record(path, version));
            }
            for path in gone {
                tree.remove(*path).unwrap();
                fs::remove_file(sandbox.path(&format!("tree/{path}"))).unwrap();
            }
            tree.clone()
        };
        let first = [
            "kept/a.json",
            "kept/b.json",
            "kept/deep/c.json",
            "in-2.json",
            "in-3.json",
            "twice.json",
            "gone-2.json",
            "gone-3.json",
            "tomorrow.json",
        ];
        let v1 = change(1, &first, &[]);
        let out = sandbox.backstop(&["init", "--dir", "home", "--source", "tree=tree", "--stream", "log"]);
        assert_eq!(out.code, 0, "{}", out.stderr);
        let json = |args: &[&str]| sandbox.json(&[&["--policy", "home/backstop.yaml"], args].concat(), 0);
        let snapshot = || json(&["snapshot"])[0]["run"].as_str().unwrap().to_owned();
        // The first snapshot also commits the first checkpoint.
        let run1 = snapshot();
        let v2 = change(2, &["in-2.json", "twice.json", "added-2.json"], &["gone-2.json"]);
        let run2 = snapshot();
        let events = ["2026-11-01", "2026-11-02"].map(|day| {
            let event = |n| format!("{{\"id\":\"{day}-{n}\",\"createdDateTime\":\"{day}T08:00:0{n}Z\",\"actor\":\"somebody\"}}\n");
            (0..5).map(event).collect::<String>()
        });
        for (n, text) in events.iter().enumerate() {
            let file = sandbox.write(&format!("events-{n}.ndjson"), text);
            json(&["import", "log", file.to_str().unwrap()]);
        }
        json(&["checkpoint"]);
        // Another policy from here on.
        let policy = fs::read_to_string(sandbox.path("home/backstop.yaml")).unwrap();
        sandbox.write("home/backstop.yaml", policy + "\n# the same, said again\n");
        let v3 = change(3, &["in-3.json", "twice.json", "added-3.json"], &["gone-3.json"]);
        let run3 = snapshot();
        sandbox.copy("home", "early");
        let kept = json(&["checkpoint"]);
        sandbox.write("kept.json", kept[0].to_string());
        let v4 = change(4, &["tomorrow.json", "added-4.json"], &[]);
        Self { sandbox, runs: [run1, run2, run3], versions: [v1, v2, v3, v4], events }
    }

    /// The snapshot whose segment holds a record as it stood at the run `at`.
    fn owner(&self, at: usize, path: &str) -> usize {
        (0..=at).find(|n| self.versions[*n].get(path) == self.versions[at].get(path)).unwrap()
    }

    /// The object of a kind, and another of the same kind to swap it with.
    fn objects(&self, kind: &str) -> [String; 2] {
        let forge = Forge::new(&self.sandbox, "home");
        let of = |chain: &str, n: u64, part: &str| {
            let objects = forge.statement(chain, n).predicate.objects;
            objects.into_iter().find(|o| o.name.contains(part)).unwrap_or_else(|| panic!("{chain} {n} has no {part}")).name
        };
        let tree = |n, part: &str| of("snapshot.tree", n, part);
        match kind {
            "VAULT.json" => [of("vault", 1, "VAULT.json"), of("vault", 1, "RECOVERY.md")],
            "RECOVERY.md" => [of("vault", 1, "RECOVERY.md"), of("vault", 1, "VAULT.json")],
            "policy" => [of("vault", 1, "/policies/"), tree(3, "/policies/")],
            "genesis" => [envelope_name("vault", 1), envelope_name("snapshot.tree", 1)],
            "base envelope" => [envelope_name("snapshot.tree", 1), envelope_name("snapshot.tree", 2)],
            "delta envelope" => [envelope_name("snapshot.tree", 2), envelope_name("snapshot.tree", 3)],
            "head envelope" => [envelope_name("snapshot.tree", 3), envelope_name("snapshot.tree", 1)],
            "export envelope" => [envelope_name("export.log", 2), envelope_name("export.log", 1)],
            "older checkpoint" => [envelope_name("checkpoint", 2), envelope_name("checkpoint", 1)],
            "newest checkpoint" => [envelope_name("checkpoint", 3), envelope_name("checkpoint", 2)],
            "bundle" => [of("checkpoint", 2, "/bundles/"), of("checkpoint", 1, "/bundles/")],
            "base segment" => [tree(1, "segment"), tree(3, "segment")],
            "delta segment" => [tree(2, "segment"), tree(3, "segment")],
            "base manifest" => [tree(1, "manifest"), tree(2, "manifest")],
            "delta manifest" => [tree(2, "manifest"), tree(3, "manifest")],
            "log object" => [of("export.log", 1, "audit-logs"), of("export.log", 2, "audit-logs")],
            "lock" => [tree(1, "segment"), tree(2, "segment")].map(|o| Forge::lock_of(&o)),
            _ => panic!("{kind}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    FlippedStart,
    FlippedMiddle,
    FlippedEnd,
    Emptied,
    Halved,
    Extended,
    Removed,
    Swapped,
}

use Damage::{Emptied, Extended, FlippedEnd, FlippedMiddle, FlippedStart, Halved, Removed, Swapped};

const ALL: [Damage; 8] = [FlippedStart, FlippedMiddle, FlippedEnd, Emptied, Halved, Extended, Removed, Swapped];

/// A copy of the world with one damage.
struct Case {
    world: Arc<World>,
    sandbox: Sandbox,
    what: String,
    /// What is no longer itself: objects, without lock files.
    harmed: Vec<String>,
}

impl Case {
    fn new(world: &Arc<World>, home: &str, kind: &str, damage: Damage) -> Self {
        let sandbox = Sandbox::new();
        sandbox.copy(world.sandbox.path(home).to_str().unwrap(), "home");
        let objects = world.objects(kind);
        let files = objects.clone().map(|o| format!("home/vault/{o}"));
        let [file, other] = [&files[0], &files[1]];
        match damage {
            FlippedStart => sandbox.tamper(file, |b| b[0] ^= 1),
            FlippedMiddle => sandbox.tamper(file, |b| {
                let at = b.len() / 2;
                b[at] ^= 1;
            }),
            FlippedEnd => sandbox.tamper(file, |b| *b.last_mut().unwrap() ^= 1),
            Emptied => sandbox.tamper(file, Vec::clear),
            Halved => sandbox.tamper(file, |b| b.truncate(b.len() / 2)),
            Extended => sandbox.tamper(file, |b| b.push(b'x')),
            Removed => sandbox.remove(file),
            Swapped => {
                let (a, b) = (fs::read(sandbox.path(file)).unwrap(), fs::read(sandbox.path(other)).unwrap());
                sandbox.tamper(file, |bytes| *bytes = b);
                sandbox.tamper(other, |bytes| *bytes = a);
            }
        }
        let harmed = objects.iter().take(if damage == Swapped { 2 } else { 1 });
        let harmed = harmed.map(|o| o.replace("/.", "/").trim_end_matches(".lock").to_owned()).collect();
        Self { world: world.clone(), sandbox, what: format!("{kind}, {damage:?}"), harmed }
    }

    /// Runs a command on the damaged vault. No command may panic or leave by a code that is not documented.
    fn run(&self, args: &[&str]) -> Ran {
        let ran = self.sandbox.backstop(&[&["--policy", "home/backstop.yaml", "--identity", "home/keys/identity-1.txt"], args].concat());
        assert!(!ran.stderr.contains("panicked"), "{}: {args:?}\n{}", self.what, ran.stderr);
        assert!([0, 1, 2, 3, 4, 5, 6, 75].contains(&ran.code), "{}: {args:?} left with {}", self.what, ran.code);
        ran
    }

    fn expect(&self, args: &[&str], code: i32) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, code, "{}: {args:?}\n{}\n{}", self.what, ran.stdout, ran.stderr);
        ran
    }

    /// Every harmed object is named by an error.
    fn verify_names_it(&self, args: &[&str]) {
        let report = self.expect(&[&["verify", "--json"], args].concat(), 3).json().remove(0);
        let findings = report["findings"].as_array().unwrap();
        let errors: Vec<&Value> = findings.iter().filter(|f| f["severity"] == "error").collect();
        for object in &self.harmed {
            let named = errors.iter().any(|f| f["object"] == object.as_str());
            assert!(named, "{}: {object} is not named in {findings:#?}", self.what);
        }
    }

    /// Restores a run's records; gives them, and the failures as told.
    fn restore(&self, run: &str, code: i32) -> (Records, Vec<Value>) {
        let ran = self.expect(&["restore", "files", run, "--to", "restored", "--json"], code);
        let root = self.sandbox.path("restored");
        let mut got = Records::new();
        walk(&root, &mut |path| {
            got.insert(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap());
        });
        fs::remove_dir_all(&root).unwrap();
        let failed = ran.json()[0]["failed"].as_array().unwrap().clone();
        assert_eq!(failed.is_empty(), code == 0, "{}: {failed:?}", self.what);
        (got, failed)
    }

    /// Restores run `at` and expects all of it but the records that `lost` says, each of them named.
    fn restore_all_but(&self, at: usize, lost: impl Fn(&str) -> bool) {
        let mut expected = self.world.versions[at].clone();
        let gone: BTreeSet<String> = expected.keys().filter(|p| lost(p)).cloned().collect();
        expected.retain(|path, _| !gone.contains(path));
        let (got, failed) = self.restore(&self.world.runs[at], if gone.is_empty() { 0 } else { 3 });
        assert!(got == expected, "{}: run {at}: {:?}", self.what, got.keys());
        let named: BTreeSet<String> = failed.iter().filter_map(|f| f["path"].as_str().map(str::to_owned)).collect();
        assert_eq!(named, gone, "{}: run {at}", self.what);
    }

    fn restore_logs(&self, expected: &str, code: i32) {
        let args = ["restore", "logs", "log", "--from", "2026-10-01", "--to", "2026-12-01", "--out", "events", "--json"];
        let report = self.expect(&args, code).json().remove(0);
        assert_eq!(fs::read_to_string(self.sandbox.path("events")).unwrap(), expected, "{}", self.what);
        let failed = report["failed"].as_array().unwrap();
        assert_eq!(failed.is_empty(), code == 0);
        assert!(failed.iter().all(|f| self.harmed.iter().any(|h| f["object"] == h.as_str())), "{}: {failed:?}", self.what);
    }

    fn all_logs_restore(&self) {
        self.restore_logs(&self.world.events.concat(), 0);
    }

    fn ls_show_diff(&self, show: i32, diff: i32) {
        self.expect(&["ls", "--json"], 0);
        self.expect(&["show", &self.world.runs[2], "--json"], show);
        let told = self.expect(&["diff", &self.world.runs[0], &self.world.runs[2], "--json"], diff).json();
        if diff == 0 {
            let changes: BTreeMap<&str, &str> = told.iter().map(|c| (c["path"].as_str().unwrap(), c["change"].as_str().unwrap())).collect();
            let expected = [
                ("added-2.json", "added"),
                ("added-3.json", "added"),
                ("gone-2.json", "removed"),
                ("gone-3.json", "removed"),
                ("in-2.json", "changed"),
                ("in-3.json", "changed"),
                ("twice.json", "changed"),
            ];
            assert_eq!(changes, BTreeMap::from(expected), "{}", self.what);
        }
    }

    /// The next snapshot and the next checkpoint are made as if nothing had happened.
    fn goes_on(&self) -> Value {
        let made = self.expect(&["snapshot", "--json"], 0).json().remove(0);
        let (got, _) = self.restore(made["run"].as_str().unwrap(), 0);
        assert!(got == self.world.versions[3], "{}: {:?}", self.what, got.keys());
        self.expect(&["checkpoint"], 0);
        made
    }
}

#[rstest]
#[case("VAULT.json")]
#[case("RECOVERY.md")]
#[case("policy")]
#[case("genesis")]
#[case("base envelope")]
#[case("delta envelope")]
#[case("head envelope")]
#[case("export envelope")]
#[case("older checkpoint")]
#[case("newest checkpoint")]
#[case("bundle")]
#[case("lock")]
fn damage_beside_the_data_costs_no_data(#[case] kind: &str) {
    let world = world();
    for damage in ALL {
        let case = Case::new(&world, "home", kind, damage);
        if (kind, damage) == ("newest checkpoint", Removed) {
            // From inside a vault without its newest checkpoint is a vault before it: only what was kept outside shows it.
            case.expect(&["verify"], 0);
        } else {
            case.verify_names_it(&[]);
            case.verify_names_it(&["--deep"]);
        }
        if kind.ends_with("checkpoint") {
            let kept = case.world.sandbox.path("kept.json");
            let report = case.expect(&["verify", "--checkpoint", kept.to_str().unwrap(), "--json"], 3).json().remove(0);
            let seen = |f: &Value| f["severity"] == "error" && f["chain"] == "checkpoint" && (f["sequence"] == 3 || f["sequence"] == 2);
            assert!(report["findings"].as_array().unwrap().iter().any(seen), "{}: {report:#}", case.what);
        }
        for at in 0..3 {
            case.restore_all_but(at, |_| false);
        }
        case.all_logs_restore();
        case.ls_show_diff(0, 0);
        case.goes_on();
    }
}

#[rstest]
#[case("base segment", [0, 2])]
#[case("delta segment", [1, 2])]
fn a_damaged_segment_costs_its_own_records_only(#[case] kind: &str, #[case] snapshots: [usize; 2]) {
    let world = world();
    for damage in ALL {
        let case = Case::new(&world, "home", kind, damage);
        let harmed = &snapshots[..case.harmed.len()];
        case.verify_names_it(&[]);
        case.verify_names_it(&["--deep"]);
        for at in 0..3 {
            case.restore_all_but(at, |path| harmed.contains(&case.world.owner(at, path)));
        }
        case.all_logs_restore();
        case.ls_show_diff(0, 3);
        assert_eq!(case.goes_on()["kind"], "base", "{}", case.what);
    }
}

#[test]
fn a_damaged_base_manifest_leaves_what_the_deltas_name() {
    let world = world();
    for damage in ALL {
        let case = Case::new(&world, "home", "base manifest", damage);
        case.verify_names_it(&[]);
        case.verify_names_it(&["--deep"]);
        // Swapped with the first delta's, that one is lost too.
        let known = |path: &str| match damage {
            Swapped => case.world.owner(2, path) == 2,
            _ => case.world.owner(2, path) > 0,
        };
        let (got, failed) = case.restore(&case.world.runs[2], 3);
        let mut expected = case.world.versions[2].clone();
        expected.retain(|path, _| known(path));
        assert!(got == expected, "{}: {:?}", case.what, got.keys());
        for object in &case.harmed {
            assert!(failed.iter().any(|f| f["object"] == object.as_str()), "{}: {failed:?}", case.what);
        }
        let (got, failed) = case.restore(&case.world.runs[0], 3);
        assert!(got.is_empty() && failed.iter().any(|f| f["object"] == case.harmed[0].as_str()), "{}: {failed:?}", case.what);
        case.all_logs_restore();
        case.ls_show_diff(3, 3);
        assert_eq!(case.goes_on()["kind"], "base", "{}", case.what);
    }
}

#[test]
fn a_damaged_delta_manifest_leaves_the_states_around_it_and_says_so() {
    let world = world();
    for damage in ALL {
        let case = Case::new(&world, "home", "delta manifest", damage);
        case.verify_names_it(&[]);
        case.verify_names_it(&["--deep"]);
        case.restore_all_but(0, |_| false);
        // What the lost delta changed is not known, so its records come back as the base knew them: under exit 3.
        let [v1, v2, v3, _] = &case.world.versions;
        let mut expected = v1.clone();
        if damage != Swapped {
            expected.retain(|path, _| v3.contains_key(path) || !v2.contains_key(path));
            expected.extend(v3.iter().filter(|(p, _)| case.world.owner(2, p) == 2).map(|(p, b)| (p.clone(), b.clone())));
        }
        let (got, failed) = case.restore(&case.world.runs[2], 3);
        assert!(got == expected, "{}: {:?}", case.what, got.keys());
        for object in &case.harmed {
            assert!(failed.iter().any(|f| f["object"] == object.as_str()), "{}: {failed:?}", case.what);
        }
        case.all_logs_restore();
        case.ls_show_diff(3, 3);
        assert_eq!(case.goes_on()["kind"], "base", "{}", case.what);
    }
}

#[test]
fn a_damaged_log_object_costs_its_own_events_only() {
    let world = world();
    for damage in ALL {
        let case = Case::new(&world, "home", "log object", damage);
        case.verify_names_it(&[]);
        case.verify_names_it(&["--deep"]);
        case.restore_logs(if damage == Swapped { "" } else { &case.world.events[1] }, 3);
        for at in 0..3 {
            case.restore_all_but(at, |_| false);
        }
        case.ls_show_diff(0, 0);
        case.goes_on();
    }
}

/// A head that no bundle holds yet is lost with its envelope; the snapshots before it and after it are not.
#[test]
fn a_damaged_head_that_no_bundle_holds_costs_that_run_only() {
    let world = world();
    for damage in ALL.into_iter().filter(|d| *d != Swapped) {
        let case = Case::new(&world, "early", "head envelope", damage);
        if damage == Removed {
            case.expect(&["verify"], 0);
        } else {
            case.verify_names_it(&[]);
        }
        let kept = case.world.sandbox.path("kept.json");
        let report = case.expect(&["verify", "--checkpoint", kept.to_str().unwrap(), "--json"], 3).json().remove(0);
        let seen = |f: &Value| f["severity"] == "error" && f["chain"] == "snapshot.tree" && f["sequence"] == 3;
        assert!(report["findings"].as_array().unwrap().iter().any(seen), "{}: {report:#}", case.what);
        for at in 0..2 {
            case.restore_all_but(at, |_| false);
        }
        let ran = case.run(&["restore", "files", &case.world.runs[2], "--to", "restored"]);
        assert_eq!(ran.code, 2, "{}: {}", case.what, ran.stderr);
        assert!(!case.sandbox.path("restored").exists());
        let made = case.goes_on();
        assert_eq!(made["kind"], "base", "{}", case.what);
        assert_eq!(made["sequence"], if damage == Removed { 3 } else { 4 }, "{}", case.what);
    }
}

/// Without the kept genesis file nothing is trusted; with its digest, a bundle's copy is.
#[test]
fn a_damaged_genesis_is_found_in_a_bundle_by_its_digest() {
    let world = world();
    let printed = fs::read_to_string(world.sandbox.path("kept.json")).unwrap();
    let genesis = serde_json::from_str::<Value>(&printed).unwrap()["genesis_sha256"].as_str().unwrap().to_owned();
    for damage in ALL {
        let case = Case::new(&world, "home", "genesis", damage);
        for args in [&["verify"][..], &["ls"], &["restore", "files", "tree", "--to", "restored"]] {
            let ran = case.expect(&[&["--vault", "home/vault"], args].concat(), 3);
            assert!(ran.stderr.contains("genesis"), "{}: {}", case.what, ran.stderr);
        }
        let restore = ["--vault", "home/vault", "--genesis", &genesis, "restore", "files", &case.world.runs[2], "--to", "restored"];
        case.expect(&restore, 0);
    }
}

/// A sandbox with two snapshots and two imports, and no checkpoint that could hold their attestations.
fn unbundled() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.init();
    for n in 0..2 {
        sandbox.write("tree/a.json", format!("{{\"n\":{n}}}"));
        sandbox.json(&["snapshot"], 0);
        let event = format!("{{\"id\":\"{n}\",\"createdDateTime\":\"2026-11-01T08:00:0{n}Z\"}}\n");
        sandbox.write("event.ndjson", event);
        sandbox.json(&["import", "log", "event.ndjson"], 0);
    }
    sandbox
}

const IDENTITY: [&str; 2] = ["--identity", "keys/identity-1.txt"];

#[test]
fn what_a_lost_attestation_sealed_is_told_by_every_restore() {
    let sandbox = unbundled();
    let first = sandbox.objects().into_iter().filter(|o| o.starts_with("attestations/export.log/")).min().unwrap();
    let window = ["--from", "2026-10-01", "--to", "2026-12-01"];
    let restore = |to: &str, code| sandbox.json(&[&["restore", "logs", "log", "--out", to], &window[..], &IDENTITY[..]].concat(), code);
    assert_eq!(restore("before.ndjson", 0)[0]["failed"].as_array().unwrap().len(), 0);
    sandbox.remove(&format!("vault/{first}"));
    let told = restore("after.ndjson", 3).remove(0);
    assert!(told["failed"].to_string().contains(&first) && told["events"] == 1, "{told}");

    // The newest snapshot's attestation is damaged, and the one before it is not restored without a word.
    sandbox.tamper(&last_of(&sandbox, "snapshot.tree"), |bytes| bytes[40] ^= 1);
    let older = sandbox.backstop(&[&["restore", "files", "tree", "--to", "older"], &IDENTITY[..]].concat());
    assert!(older.code == 0 && older.stderr.contains("newer than snapshot.tree/1"), "{}{}", older.stdout, older.stderr);
    assert!(fs::read_to_string(sandbox.path("older/a.json")).unwrap().contains('0'));
}

/// One that is gone with nothing behind it is known to the newest checkpoint alone; one in the middle by the number after it.
#[test]
fn an_attestation_that_is_gone_is_told_by_every_restore() {
    let sandbox = unbundled();
    sandbox.write("tree/a.json", "{}");
    let third = sandbox.json(&["snapshot"], 0).remove(0);
    let behind = last_of(&sandbox, "snapshot.tree");
    let newest = behind.replace("0000000003", "0000000002");
    assert_ne!(behind, newest);
    sandbox.copy("vault", "whole");
    sandbox.remove(&newest);
    let restore = |to: &str, more: &[&str]| sandbox.backstop(&[&["restore", "files", "tree", "--to", to], more, &IDENTITY[..]].concat());
    let before: jiff::Timestamp = third["captured"].as_str().unwrap().parse().unwrap();
    let before = (before - jiff::SignedDuration::from_millis(1)).to_string();
    let older = restore("older", &["--at", &before]);
    let words = "snapshot.tree/2 is missing or cannot be used: a state that is newer than snapshot.tree/1";
    assert!(older.code == 0 && older.stderr.contains(words), "{}{}", older.stdout, older.stderr);

    // The same at the end of the chains, after a checkpoint; its bundle is gone, too.
    sandbox.shell("chattr -R -i vault 2>/dev/null || true; rm -rf vault && cp -a whole vault");
    sandbox.json(&["checkpoint"], 0);
    sandbox.shell("chattr -R -i vault 2>/dev/null || true; rm -rf vault/attestations/bundles");
    let event = last_of(&sandbox, "export.log");
    for gone in [&behind, &newest, &event] {
        sandbox.remove(gone);
    }
    let older = restore("cut-off", &[]);
    let words = "snapshot.tree/2 to 3 is missing or cannot be used";
    assert!(older.code == 0 && older.stderr.contains(words), "{}{}", older.stdout, older.stderr);
    let window = ["--from", "2026-10-01", "--to", "2026-12-01"];
    let told = sandbox.json(&[&["restore", "logs", "log", "--out", "cut-off.ndjson"], &window[..], &IDENTITY[..]].concat(), 3).remove(0);
    let name = event.trim_start_matches("vault/");
    assert!(told["failed"].to_string().contains(name) && told["events"] == 1, "{told}");
}

fn last_of(sandbox: &Sandbox, chain: &str) -> String {
    let all = sandbox.objects().into_iter().filter(|o| o.starts_with(&format!("attestations/{chain}/")));
    format!("vault/{}", all.max().unwrap())
}

#[test]
fn what_a_deep_audit_cannot_open_is_told_by_it() {
    let sandbox = unbundled();
    let kept = sandbox.json(&["checkpoint"], 0).remove(0);
    sandbox.write("kept.json", kept.to_string());
    let objects = sandbox.objects();
    let deep = [&["verify", "--deep", "--since", "kept.json"], &IDENTITY[..]].concat();
    assert_eq!(sandbox.json(&deep, 0)[0]["ok"], true);
    // What was seen before is not hashed again, but it is opened.
    for part in ["manifest", "audit-logs/log/"] {
        let object = objects.iter().find(|o| o.contains(part)).unwrap_or_else(|| panic!("{part} in {objects:?}"));
        let copy = format!("copy-of-{}", part.replace('/', "-"));
        sandbox.copy(&format!("vault/{object}"), &copy);
        sandbox.tamper(&format!("vault/{object}"), |bytes| bytes[40] ^= 1);
        let told = sandbox.json(&deep, 3).remove(0);
        let findings = told["findings"].as_array().unwrap();
        assert!(findings.iter().any(|f| f["kind"] == "unreadable_object" && f["object"] == object.as_str()), "{told}");
        fs::write(sandbox.path(&format!("vault/{object}")), fs::read(sandbox.path(&copy)).unwrap()).unwrap();
    }
}

#[test]
fn an_attestation_whose_lock_is_gone_is_told() {
    let sandbox = unbundled();
    assert_eq!(sandbox.json(&["verify"], 0)[0]["ok"], true);
    let envelope = last_of(&sandbox, "snapshot.tree");
    let (folder, name) = envelope.rsplit_once('/').unwrap();
    sandbox.tamper(&format!("{folder}/.{name}.lock"), |bytes| {
        let mut lock: Value = serde_json::from_slice(bytes).unwrap();
        lock["mode"] = "none".into();
        lock["until"] = Value::Null;
        *bytes = lock.to_string().into_bytes();
    });
    let told = sandbox.json(&["verify"], 3).remove(0);
    let findings = told["findings"].as_array().unwrap();
    assert!(findings.iter().any(|f| f["kind"] == "short_lock" && format!("vault/{}", f["object"].as_str().unwrap()) == envelope), "{told}");
}

#[test]
fn a_lock_file_that_cannot_be_understood_is_not_written_over() {
    let sandbox = unbundled();
    let object = sandbox.objects().into_iter().find(|o| o.contains("segment-")).unwrap();
    let (folder, name) = object.rsplit_once('/').unwrap();
    let lock = format!("vault/{folder}/.{name}.lock");
    sandbox.tamper(&lock, |bytes| bytes.truncate(20));
    let torn = fs::read(sandbox.path(&lock)).unwrap();
    let hold = ["hold", "add", "--source", "tree", "--reason", "a dispute", "--authority", "a court", "--key", "keys/operator.key"];
    let ran = sandbox.backstop(&hold);
    assert!(ran.code == 5 && ran.stderr.contains("cannot understand the lock file"), "{} {}{}", ran.code, ran.stdout, ran.stderr);
    assert_eq!(fs::read(sandbox.path(&lock)).unwrap(), torn, "what it said may still be told by somebody");
}
