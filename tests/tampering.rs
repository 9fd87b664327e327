//! Attacks by somebody who knows the format: with no key, with a foreign key, with the agent's own key.
//!
//! It proves that `verify` names each of them at its place, that nothing which was committed before is lost by
//! any of them, and that a checkpoint kept outside shows what the inside of a vault cannot.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;

use backstop::store::Sha256;
use backstop::vault::attestation::{Kind, Statement};
use backstop::vault::dsse::Envelope;
use backstop::vault::keys::{Role, Signer, SignerEntry};
use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};
use support::forge::{Forge, envelope_name, set_objects};
use support::{Ran, Sandbox};

const TREE: &str = "snapshot.tree";

/// A vault with a base, a delta, two imports and one checkpoint, which came after the base.
struct Vault {
    sandbox: Sandbox,
    runs: [String; 2],
}

impl Vault {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.write("tree/a.json", r#"{"a":1}"#);
        sandbox.write("tree/b.json", r#"{"b":1}"#);
        let out = sandbox.backstop(&["init", "--dir", "home", "--source", "tree=tree", "--stream", "log"]);
        assert_eq!(out.code, 0, "{}", out.stderr);
        let mut vault = Self { sandbox, runs: Default::default() };
        vault.runs[0] = vault.snapshot()["run"].as_str().unwrap().to_owned();
        vault.sandbox.write("tree/b.json", r#"{"b":2}"#);
        vault.runs[1] = vault.snapshot()["run"].as_str().unwrap().to_owned();
        for n in 1..=2 {
            let event = format!("{{\"id\":\"{n}\",\"createdDateTime\":\"2026-11-0{n}T08:00:00Z\"}}\n");
            let file = vault.sandbox.write(&format!("events-{n}.ndjson"), event);
            assert_eq!(vault.run(&["import", "log", file.to_str().unwrap()]).code, 0);
        }
        vault.findings(&["verify"], 0);
        vault
    }

    fn forge(&self) -> Forge<'_> {
        Forge::new(&self.sandbox, "home")
    }

    fn run(&self, args: &[&str]) -> Ran {
        let ran = self.sandbox.backstop(&[&["--policy", "home/backstop.yaml", "--identity", "home/keys/identity-1.txt"], args].concat());
        assert!(!ran.stderr.contains("panicked"), "{args:?}\n{}", ran.stderr);
        ran
    }

    fn snapshot(&self) -> Value {
        let ran = self.run(&["snapshot", "--json"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.json().remove(0)
    }

    fn checkpoint(&self) -> String {
        let ran = self.run(&["checkpoint", "--json"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.stdout
    }

    fn findings(&self, args: &[&str], code: i32) -> Findings {
        let ran = self.run(&[args, &["--json"]].concat());
        assert_eq!(ran.code, code, "{args:?}\n{}\n{}", ran.stdout, ran.stderr);
        Findings(ran.json()[0]["findings"].as_array().unwrap().clone())
    }

    fn restores(&self, run: &str, a: &str, b: &str) {
        let ran = self.run(&["restore", "files", run, "--to", "restored"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(support::read(&self.sandbox.path("restored/a.json")), a);
        assert_eq!(support::read(&self.sandbox.path("restored/b.json")), b);
        fs::remove_dir_all(self.sandbox.path("restored")).unwrap();
    }

    /// What was committed before the attack is there as it was.
    fn earlier_runs_restore(&self) {
        self.restores(&self.runs[0], r#"{"a":1}"#, r#"{"b":1}"#);
        self.restores(&self.runs[1], r#"{"a":1}"#, r#"{"b":2}"#);
    }
}

struct Findings(Vec<Value>);

impl Findings {
    fn at(&self, severity: &str, kind: &str, chain: &str, sequence: u64) {
        let fits = |f: &&Value| f["severity"] == severity && f["kind"] == kind && f["chain"] == chain && f["sequence"] == sequence;
        assert_eq!(self.0.iter().filter(fits).count(), 1, "{severity} {kind} at {chain} {sequence}: {:#?}", self.0);
    }

    fn of(&self, severity: &str, kind: &str, object: &str) {
        let fits = |f: &&Value| f["severity"] == severity && f["kind"] == kind && f["object"] == object;
        assert_eq!(self.0.iter().filter(fits).count(), 1, "{severity} {kind} of {object}: {:#?}", self.0);
    }
}

#[test]
fn a_foreign_signature_makes_an_envelope_void() {
    let vault = Vault::new();
    let forge = vault.forge();
    let statement = forge.statement(TREE, 2);
    forge.commit(&statement, &Signer::from_seed([9; 32]));
    vault.findings(&["verify"], 3).at("error", "unknown_signer", TREE, 2);
    // The same, under the agent's name.
    let bytes = Envelope::sign(&statement.to_bytes().unwrap(), &Signer::from_seed([9; 32]));
    let mut envelope = Envelope::parse(&bytes).unwrap();
    envelope.signatures[0].keyid = forge.signer("agent").key_id();
    forge.put(&envelope_name(TREE, 2), &serde_json::to_vec(&envelope).unwrap());
    vault.findings(&["verify"], 3).at("error", "bad_signature", TREE, 2);
    vault.restores(&vault.runs[0], r#"{"a":1}"#, r#"{"b":1}"#);
    assert_eq!(vault.run(&["restore", "files", &vault.runs[1], "--to", "restored"]).code, 2);
}

#[rstest]
#[case(TREE, 3)]
#[case("export.log", 3)]
#[case("snapshot.other", 1)]
#[case("checkpoint", 2)]
#[case("vault", 2)]
fn a_true_envelope_in_another_place_is_void(#[case] chain: &str, #[case] number: u64) {
    let vault = Vault::new();
    let forge = vault.forge();
    forge.put(&envelope_name(chain, number), &forge.bytes(&envelope_name(TREE, 2)));
    vault.findings(&["verify"], 3).at("error", "misplaced", chain, number);
    vault.earlier_runs_restore();
}

#[test]
fn two_envelopes_that_changed_places_are_both_void() {
    let vault = Vault::new();
    let forge = vault.forge();
    let [one, two] = [1, 2].map(|n| forge.bytes(&envelope_name("export.log", n)));
    forge.put(&envelope_name("export.log", 1), &two);
    forge.put(&envelope_name("export.log", 2), &one);
    let findings = vault.findings(&["verify"], 3);
    findings.at("error", "misplaced", "export.log", 1);
    findings.at("error", "misplaced", "export.log", 2);
    vault.earlier_runs_restore();
}

#[test]
fn a_squatted_number_does_not_stop_the_chain() {
    let vault = Vault::new();
    let forge = vault.forge();
    forge.put(&envelope_name(TREE, 3), b"mine now");
    vault.findings(&["verify"], 3).at("error", "not_an_envelope", TREE, 3);
    vault.sandbox.write("tree/b.json", r#"{"b":3}"#);
    let made = vault.snapshot();
    assert_eq!(made["sequence"], 4);
    let predicate = forge.statement(TREE, 4).predicate;
    assert_eq!(predicate.skipped, [3]);
    assert_eq!(predicate.previous, Some(Sha256::of(&forge.bytes(&envelope_name(TREE, 2)))));
    vault.findings(&["verify"], 0).at("warning", "void", TREE, 3);
    vault.restores(made["run"].as_str().unwrap(), r#"{"a":1}"#, r#"{"b":3}"#);
    vault.earlier_runs_restore();
}

/// Sixty megabytes that nobody signed must not become a gigabyte in every reader.
#[test]
fn a_huge_squatter_is_not_taken_apart() {
    let vault = Vault::new();
    let text = [r#"{"payload":["#.as_bytes(), &b"0,".repeat(30 << 20), b"0]}"].concat();
    vault.forge().put(&envelope_name(TREE, 3), &text);
    let limited = "ulimit -v 900000; \"$BACKSTOP\" --policy home/backstop.yaml verify --json";
    let program = env!("CARGO_BIN_EXE_backstop");
    let ran = vault.sandbox.shell(&format!("BACKSTOP='{program}'; {limited}"));
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    Findings(ran.json()[0]["findings"].as_array().unwrap().clone()).at("error", "not_an_envelope", TREE, 3);
}

/// A cut-off tail, and a whole old vault put back: both are whole from inside.
#[rstest]
#[case::printed("kept.json")]
#[case::envelope("kept-envelope.json")]
fn a_kept_checkpoint_shows_what_is_gone(#[case] kept: &str) {
    let vault = Vault::new();
    vault.sandbox.copy("home", "old");
    vault.sandbox.write("tree/b.json", r#"{"b":3}"#);
    vault.snapshot();
    let printed = vault.checkpoint();
    vault.sandbox.write("kept.json", printed);
    vault.sandbox.write("kept-envelope.json", vault.forge().bytes(&envelope_name("checkpoint", 2)));
    vault.findings(&["verify", "--checkpoint", kept], 0);
    let policy = ["--policy", "old/backstop.yaml"];
    let replayed = |args: &[&str], code| {
        let ran = vault.sandbox.backstop(&[&policy, args, &["--json"]].concat());
        assert_eq!(ran.code, code, "{}", ran.stderr);
        Findings(ran.json()[0]["findings"].as_array().unwrap().clone())
    };
    replayed(&["verify"], 0);
    let findings = replayed(&["verify", "--checkpoint", kept], 3);
    findings.at("error", "cut_off_tail", TREE, 3);
    findings.at("error", "cut_off_tail", "checkpoint", 2);
    // Only the newest attestations are gone, with the checkpoint that knew them.
    vault.sandbox.remove(&vault.forge().file(&envelope_name(TREE, 3)));
    vault.sandbox.remove(&vault.forge().file(&envelope_name("checkpoint", 2)));
    vault.findings(&["verify"], 0);
    let findings = vault.findings(&["verify", "--checkpoint", kept], 3);
    findings.at("error", "cut_off_tail", TREE, 3);
    findings.at("error", "cut_off_tail", "checkpoint", 2);
}

#[test]
fn a_rewritten_history_is_shown_by_a_kept_checkpoint() {
    let vault = Vault::new();
    vault.sandbox.copy("home", "rewritten");
    vault.sandbox.write("tree/b.json", r#"{"b":3}"#);
    vault.snapshot();
    vault.sandbox.write("kept.json", vault.checkpoint());
    let rewritten = ["--policy", "rewritten/backstop.yaml"];
    let run = |args: &[&str], code: i32| vault.sandbox.json(&[&rewritten, args].concat(), code);
    run(&["snapshot"], 0);
    run(&["checkpoint"], 0);
    run(&["verify"], 0);
    let findings = Findings(run(&["verify", "--checkpoint", "kept.json"], 3)[0]["findings"].as_array().unwrap().clone());
    findings.at("error", "replaced_history", TREE, 3);
    findings.at("error", "replaced_history", "checkpoint", 2);
    // Nothing that is no checkpoint of this vault is taken for one.
    vault.sandbox.write("nonsense.json", "{}");
    assert_eq!(vault.run(&["verify", "--checkpoint", "nonsense.json"]).code, 2);
    let mut forged = vault.forge().statement("checkpoint", 1);
    forged.predicate.details.insert("heads".into(), json!([]));
    vault.sandbox.write("forged.json", Envelope::sign(&forged.to_bytes().unwrap(), &Signer::from_seed([9; 32])));
    assert_eq!(vault.run(&["verify", "--checkpoint", "forged.json"]).code, 2);
}

/// A statement of another kind, with no objects, at the end of the chain `vault`.
fn on_the_vault_chain(forge: &Forge<'_>, kind: Kind, details: Value) -> Statement {
    let mut statement = forge.successor("vault");
    statement.kind = kind;
    set_objects(&mut statement, Vec::new());
    let (name, previous) = (envelope_name("vault", forge.head("vault")), statement.predicate.previous.unwrap());
    let subject = json!([{ "name": name, "digest": { "sha256": previous } }]);
    statement.subject = serde_json::from_value(subject).unwrap();
    statement.predicate.details = details.as_object().unwrap().clone();
    statement
}

#[test]
fn a_key_is_good_for_its_role_only() {
    let vault = Vault::new();
    let forge = vault.forge();
    forge.commit(&forge.successor(TREE), &forge.signer("tester"));
    vault.findings(&["verify"], 3).at("error", "wrong_role", TREE, 3);
    let hold = on_the_vault_chain(&forge, Kind::Hold, json!({}));
    for (role, code) in [("agent", 3), ("tester", 3), ("operator", 3)] {
        forge.commit(&hold, &forge.signer(role));
        let findings = vault.findings(&["verify"], code);
        if role != "operator" {
            findings.at("error", "wrong_role", "vault", 2);
        }
    }
    vault.sandbox.remove(&forge.file(&envelope_name(TREE, 3)));
    vault.findings(&["verify"], 0);
    vault.earlier_runs_restore();
}

fn rotation(forge: &Forge<'_>, new: &Signer) -> Statement {
    let head = |chain: &str| {
        let number = forge.head(chain);
        json!({ "chain": chain, "sequence": number, "sha256": Sha256::of(&forge.bytes(&envelope_name(chain, number))) })
    };
    let heads: Vec<Value> = ["checkpoint", "export.log", TREE, "vault"].map(head).to_vec();
    let details = json!({ "new": SignerEntry::new(Role::Agent, &new.public()), "old": forge.signer("agent").key_id(), "heads": heads });
    on_the_vault_chain(forge, Kind::KeyRotation, details)
}

#[test]
fn after_its_rotation_a_key_is_void_and_the_new_one_is_not() {
    let vault = Vault::new();
    let forge = vault.forge();
    let (old, new) = (forge.signer("agent"), Signer::from_seed([7; 32]));
    // The stolen key cannot name its own successor.
    let rotation = rotation(&forge, &new);
    forge.commit(&rotation, &old);
    vault.findings(&["verify"], 3).at("error", "wrong_role", "vault", 2);
    forge.commit(&rotation, &forge.signer("operator"));
    vault.findings(&["verify"], 0);
    forge.commit(&forge.successor(TREE), &old);
    vault.findings(&["verify"], 3).at("error", "rotated_key", TREE, 3);
    assert_eq!(vault.run(&["snapshot"]).code, 2, "the old key is refused before anything is written");
    vault.sandbox.write("home/keys/agent.key", new.to_pem());
    vault.sandbox.write("tree/b.json", r#"{"b":4}"#);
    let made = vault.snapshot();
    assert_eq!(made["sequence"], 4);
    vault.findings(&["verify"], 0).at("warning", "void", TREE, 3);
    vault.restores(made["run"].as_str().unwrap(), r#"{"a":1}"#, r#"{"b":4}"#);
    vault.earlier_runs_restore();
    // All that the new key signed hangs on the rotation; when its envelope is damaged, a bundle still holds it.
    vault.checkpoint();
    let name = forge.file(&envelope_name("vault", 2));
    let hold = on_the_vault_chain(&forge, Kind::Hold, json!({}));
    forge.commit(&hold, &forge.signer("operator"));
    for damage in [|b: &mut Vec<u8>| b[100] ^= 1, Vec::clear] {
        vault.sandbox.tamper(&name, damage);
        vault.findings(&["verify"], 3);
        vault.restores(made["run"].as_str().unwrap(), r#"{"a":1}"#, r#"{"b":4}"#);
    }
    vault.sandbox.remove(&name);
    vault.findings(&["verify"], 3).at("error", "missing_attestation", "vault", 2);
    vault.restores(made["run"].as_str().unwrap(), r#"{"a":1}"#, r#"{"b":4}"#);
}

#[test]
fn another_vaults_genesis_is_not_trusted() {
    let (vault, other) = (Vault::new(), Vault::new());
    let genesis = Sha256::of(&vault.forge().bytes(&envelope_name("vault", 1))).to_string();
    let refused = |args: &[&str]| {
        let ran = vault.run(args);
        assert_eq!(ran.code, 3, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("this is another vault"), "{args:?}: {}", ran.stderr);
    };
    // The whole vault is another one.
    let wrong = Sha256::of(b"wrong").to_string();
    refused(&["--vault", "home/vault", "--genesis", &wrong, "verify"]);
    refused(&["--genesis", &wrong, "restore", "files", &vault.runs[0], "--to", "restored"]);
    assert_eq!(vault.run(&["--genesis", "4711", "verify"]).code, 2);
    assert_eq!(vault.run(&["--vault", "home/vault", "--genesis", &genesis, "verify"]).code, 0);
    // Only its beginning was replaced.
    vault.forge().put(&envelope_name("vault", 1), &other.forge().bytes(&envelope_name("vault", 1)));
    let before = vault.sandbox.objects().len();
    for command in [&["verify"][..], &["ls"], &["snapshot"], &["checkpoint"], &["restore", "files", &vault.runs[0], "--to", "restored"]] {
        refused(command);
    }
    assert_eq!(vault.sandbox.objects().len(), before);
    assert!(!vault.sandbox.path("restored").exists());
}

/// Makes an attestation wrong in one thing.
fn falsify(what: &str, s: &mut Statement) {
    let run = s.predicate.run;
    let unknown = "01a20000-0000-7000-8000-000000000000";
    let mut detail = |name: &str, value: Value| drop(s.predicate.details.insert(name.to_owned(), value));
    match what {
        "previous snapshot of another" => {
            let base = s.predicate.details["base"].clone();
            s.predicate.details.insert("previous_snapshot".into(), base);
        }
        "no previous snapshot" => detail("previous_snapshot", Value::Null),
        "unknown previous snapshot" => detail("previous_snapshot", json!(unknown)),
        "unknown segments" => detail("segments_from", json!([run, unknown])),
        "another epoch" => detail("epoch", json!({ "start": "2026-01-01T00:00:00Z", "end": "2026-02-01T00:00:00Z" })),
        "count" => detail("events", json!(99)),
        "no heads" => detail("heads", json!([])),
        "no details" => s.predicate.details.clear(),
        "previous" => s.predicate.previous = Some(Sha256::of(b"elsewhere")),
        "no previous" => s.predicate.previous = None,
        "finished" => s.predicate.finished = s.predicate.finished.checked_sub(SignedDuration::from_hours(1)).unwrap(),
        "subject" => s.subject[0].digest.sha256 = Sha256::of(b"elsewhere"),
        "far number" => s.predicate.sequence = 1 << 50,
        "largest number" => s.predicate.sequence = u64::MAX,
        "lock" => {
            let until = s.predicate.objects[0].lock.until.as_mut().unwrap();
            *until = until.checked_sub(SignedDuration::from_hours(24)).unwrap();
        }
        "name" | "digest" => {
            let mut objects = s.predicate.objects.clone();
            match what {
                "name" => objects[0].name = objects[0].name.replace("/tree/", "/other/"),
                _ => objects[0].sha256 = Sha256::of(b"other bytes"),
            }
            set_objects(s, objects);
        }
        _ => panic!("{what}"),
    }
}

/// What a stolen agent key can sign at the end of a chain, each wrong in one thing.
#[rstest]
#[case("previous", "broken_link", TREE)]
#[case("no previous", "broken_link", TREE)]
#[case("previous snapshot of another", "fork", TREE)]
#[case("no previous snapshot", "fork", TREE)]
#[case("unknown previous snapshot", "open_closure", TREE)]
#[case("unknown segments", "open_closure", TREE)]
#[case("another epoch", "open_closure", TREE)]
#[case("finished", "time_backwards", TREE)]
#[case("subject", "subjects_differ", TREE)]
#[case("name", "misnamed_object", TREE)]
#[case("digest", "contradiction", TREE)]
#[case("lock", "short_lock", TREE)]
#[case("no details", "not_a_statement", TREE)]
#[case("count", "counts_differ", "export.log")]
#[case("no heads", "checkpoint_backwards", "checkpoint")]
#[case("far number", "missing_attestation", TREE)]
#[case("largest number", "misplaced", TREE)]
fn what_a_stolen_agent_key_signs_is_named(#[case] what: &str, #[case] kind: &str, #[case] chain: &str) {
    let vault = Vault::new();
    let forge = vault.forge();
    let mut statement = forge.successor(chain);
    falsify(what, &mut statement);
    let number = statement.predicate.sequence;
    forge.commit(&statement, &forge.signer("agent"));
    let findings = vault.findings(&["verify"], 3);
    let fits = |f: &&Value| f["severity"] == "error" && f["kind"] == kind && f["chain"] == chain;
    let places: Vec<u64> = findings.0.iter().filter(fits).map(|f| f["sequence"].as_u64().unwrap()).collect();
    let expected = if kind == "missing_attestation" { 3 } else { number };
    assert!(places.contains(&expected), "{kind} at {chain} {expected}: {:#?}", findings.0.iter().take(20).collect::<Vec<_>>());
    vault.earlier_runs_restore();
}

#[test]
fn a_run_that_is_attested_twice_is_named() {
    let vault = Vault::new();
    let forge = vault.forge();
    let mut again = forge.successor(TREE);
    again.predicate.run = vault.runs[1].parse().unwrap();
    forge.commit(&again, &forge.signer("agent"));
    vault.findings(&["verify"], 3).at("error", "repeated_run", TREE, 3);
}

#[test]
fn weaker_locks_are_named() {
    let vault = Vault::new();
    let forge = vault.forge();
    let objects = forge.statement(TREE, 1).predicate.objects;
    let edit = |object: &str, edit: &dyn Fn(&mut Value)| {
        let file = forge.file(&Forge::lock_of(object));
        let before = forge.bytes(&Forge::lock_of(object));
        vault.sandbox.tamper(&file, |bytes| {
            let mut lock: Value = serde_json::from_slice(bytes).unwrap();
            edit(&mut lock);
            *bytes = lock.to_string().into_bytes();
        });
        before
    };
    let envelope = envelope_name(TREE, 2);
    for (object, kind) in [(&objects[0].name, "lock_weakened"), (&envelope, "short_lock")] {
        let before = edit(object, &|lock| lock["until"] = json!("2030-01-01T00:00:00Z"));
        vault.findings(&["verify"], 3).of("error", kind, object);
        forge_restore(&vault, object, &before);
        let before = edit(object, &|lock| lock["size"] = json!(1));
        vault.findings(&["verify"], 3).of("error", "no_lock", object);
        forge_restore(&vault, object, &before);
        vault.sandbox.remove(&forge.file(&Forge::lock_of(object)));
        vault.findings(&["verify"], 3).of("error", "no_lock", object);
        forge_restore(&vault, object, &before);
    }
    let before = edit(&objects[0].name, &|lock| lock["mode"] = json!("unlocked"));
    vault.findings(&["verify"], 3).of("error", "lock_weakened", &objects[0].name);
    forge_restore(&vault, &objects[0].name, &before);
    // The kernel's flag is missing: said, where it had been there.
    let flagged = serde_json::to_value(objects[0].lock.enforced_by).unwrap() == "kernel";
    backstop::store::clear_immutable(&forge.path(&objects[0].name)).ok();
    let weaker = vault.findings(&["verify"], 0).0.iter().filter(|f| f["kind"] == "enforcement_weaker").count();
    assert_eq!(weaker, usize::from(flagged));
    // A plain copy has no lock at all.
    let ran = vault.sandbox.shell("cp -a home/vault plain; find plain -name '.*.lock' -delete");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    vault.findings(&["--vault", "plain", "verify"], 3);
    vault.findings(&["--vault", "plain", "verify", "--ignore-locks"], 0);
}

fn forge_restore(vault: &Vault, object: &str, lock: &[u8]) {
    let path = vault.forge().path(&Forge::lock_of(object));
    let _ = fs::remove_file(&path);
    fs::write(path, lock).unwrap();
    let still: Vec<_> = vault.findings(&["verify"], 0).0.into_iter().filter(|f| f["severity"] == "error").collect();
    assert_eq!(still, Vec::<Value>::new());
}
