//! Promise: the format page says enough. A reader that was written from it alone, in another language and
//! with none of this program's code, finds nothing in a vault that the page does not say, gives the same
//! bytes back, and sees a single flipped byte.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;
#[path = "support/trees.rs"]
mod trees;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use backstop::backup::{ImportJob, checkpoint, import};
use backstop::observe::Silent;
use backstop::source::import::{Format, Pointers};
use backstop::store::Sha256;
use serde_json::Value;
use support::{LibraryVault, Sandbox};
use trees::{assert_same, noise, odd_tree, tree};

/// The interpreter that has what the reader needs.
fn python() -> PathBuf {
    let given = std::env::var_os("BACKSTOP_TEST_PYTHON").map(PathBuf::from);
    let python = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-venv/bin/python3"));
    assert!(python.exists(), "{} is missing: scripts/test.sh makes it, or set BACKSTOP_TEST_PYTHON", python.display());
    python
}

/// Runs the second reader in a sandbox; gives its report, and what it wrote to stdout.
fn second_reader(sandbox: &Sandbox, args: &[&str]) -> (i32, Value, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/second_reader.py");
    let out = Command::new(python()).arg("-B").arg(script).args(args).current_dir(sandbox.path("")).output().unwrap();
    let (stdout, stderr) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8_lossy(&out.stderr).into_owned());
    let report = if args[0] == "logs" { &stderr } else { &stdout };
    let report = serde_json::from_str(report).unwrap_or_else(|e| panic!("{args:?}: {e}\n{stdout}\n{stderr}"));
    (out.status.code().unwrap(), report, stdout)
}

/// The reader agrees with the page, and warns of nothing but what is expected.
fn agrees(sandbox: &Sandbox, args: &[&str], expected_warnings: &[&str]) -> Value {
    let (code, report, _) = second_reader(sandbox, args);
    assert_eq!((code, &report["deviations"]), (0, &Value::Array(vec![])), "{report:#}");
    for warning in report["warnings"].as_array().unwrap() {
        let text = warning.as_str().unwrap();
        assert!(expected_warnings.iter().any(|w| text.contains(w)), "{text}");
    }
    report
}

fn event(n: usize, text: &str) -> String {
    format!("{{\"id\":\"e{n}\",\"createdDateTime\":\"2026-11-{:02}T{:02}:00:00Z\",\"text\":\"{text}\"}}\n", 1 + n % 28, n % 24)
}

#[test]
fn it_agrees_with_what_the_program_writes() {
    let sandbox = Sandbox::new();
    odd_tree(&sandbox.path("tree"));
    odd_tree(&sandbox.path("proof"));
    let out = sandbox.backstop(&["init", "--source", "tree=tree", "--source", "proof=proof", "--stream", "log"]);
    assert_eq!(out.code, 0, "{}", out.stderr);
    let policy = fs::read_to_string(sandbox.path("backstop.yaml")).unwrap();
    let policy = policy
        .replace("/proof\" } }", "/proof\" }, container: evidence, epoch: quarter }")
        .replace("grace: 30d }", "grace: 30d, retention: { audit-logs: 10y } }");
    sandbox.write("backstop.yaml", policy);

    let first = sandbox.json(&["snapshot"], 0);
    sandbox.write("a.ndjson", (0..300).map(|n| event(n, "first")).collect::<String>());
    sandbox.write("b.ndjson", (200..400).map(|n| event(n, if n < 250 { "first" } else { "newer" })).collect::<String>());
    sandbox.json(&["import", "log", "a.ndjson"], 0);
    let changed = sandbox.path("tree/large/noise.bin");
    let mut bytes = fs::read(&changed).unwrap();
    bytes.splice(3 << 20..4 << 20, noise(100_000, 5));
    fs::write(&changed, bytes).unwrap();
    fs::remove_dir_all(sandbox.path("tree/quotes")).unwrap();
    sandbox.json(&["snapshot", "tree"], 0);
    sandbox.json(&["import", "log", "b.ndjson"], 0);
    sandbox.json(&["checkpoint"], 0);
    // A run of nothing but deletions, and one of nothing at all.
    fs::remove_file(sandbox.path("tree/#hash")).unwrap();
    sandbox.json(&["snapshot", "tree"], 0);
    let last = sandbox.json(&["snapshot", "tree"], 0);
    // A signer who is added, a hold and its end, a hold that lasts, and a key that is rotated.
    let operator = ["--key", "keys/operator.key"];
    for name in ["second", "third"] {
        sandbox.json(&["key", "new", "signer", "--out", &format!("{name}.key")], 0);
    }
    sandbox.json(&[&["key", "add-signer", "--role", "operator", "--public-key", "second.pub"], &operator[..]].concat(), 0);
    let why = ["--reason", "case", "--authority", "Legal"];
    let hold = sandbox.json(&[&["hold", "add", "--stream", "log"], &why[..], &operator].concat(), 0).remove(0);
    sandbox.json(&[&["hold", "remove", hold["hold"].as_str().unwrap()], &why[..], &["--key", "second.key"]].concat(), 0);
    sandbox.json(&[&["hold", "add", "--source", "tree"], &why[..], &operator].concat(), 0);
    sandbox.json(&[&["key", "rotate", "--old", "keys/operator.pub", "--public-key", "third.pub"], &operator[..]].concat(), 0);
    sandbox.json(&["checkpoint"], 0);

    let genesis = Sha256::of(&fs::read(sandbox.path("keys/genesis.json")).unwrap()).to_string();
    let report = agrees(&sandbox, &["verify", "vault", "--genesis", &genesis], &[]);
    let ours = sandbox.json(&["verify"], 0).remove(0);
    assert_eq!((&report["attestations"], &report["objects"]), (&ours["attestations"], &ours["objects"]));
    agrees(&sandbox, &["deep", "vault", "--genesis", &genesis, "--identity", "keys/identity-2.txt"], &[]);

    let run = |lines: &[Value], source: &str| lines.iter().find(|l| l["source"] == source).unwrap()["run"].as_str().unwrap().to_owned();
    let identity = ["--genesis", genesis.as_str(), "--identity", "keys/identity-1.txt"];
    for (name, run, source, metadata) in [("tree", run(&last, "tree"), "tree", false), ("proof", run(&first, "proof"), "proof", true)] {
        let out = format!("{name}-out");
        let report = agrees(&sandbox, &[&["extract", "vault", &run, &out], identity.as_slice()].concat(), &[]);
        let expected = tree(&sandbox.path(source), metadata);
        assert_eq!(report["restored"], expected.len());
        assert_same(&tree(&sandbox.path(&out), metadata), &expected, name);
    }

    for all in [false, true] {
        let ours = [
            &["restore", "logs", "log", "--from", "2026-11-03", "--to", "2026-11-20", "--identity", "keys/identity-1.txt"][..],
            if all { &["--all-versions"] } else { &[] },
        ]
        .concat();
        let theirs = [
            &["logs", "vault", "log", "--from", "2026-11-03T00:00:00Z", "--to", "2026-11-20T00:00:00Z"][..],
            &identity,
            if all { &["--all-versions"] } else { &[] },
        ]
        .concat();
        let ours = sandbox.backstop(&ours);
        let (code, report, theirs) = second_reader(&sandbox, &theirs);
        assert_eq!((ours.code, code), (0, 0), "{report:#}");
        assert!(theirs.lines().count() > 100 && theirs.contains("newer"));
        assert_eq!(ours.stdout, theirs, "all versions: {all}");
    }
}

/// Epochs, months and a year pass; bases, deltas, checkpoints and restated copies follow.
#[test]
fn it_agrees_over_epochs_and_years() {
    let vault = LibraryVault::new("2026-10-28T08:00:00Z");
    let sandbox = &vault.sandbox;
    let write = |n: usize| sandbox.write(&format!("tree/records/{:02}.json", n % 12), format!("{{\"version\":{n}}}"));
    (0..12).for_each(|n| drop(write(n)));
    let stream = "log".parse().unwrap();
    let pointers = Pointers::new(vec!["/id".into()], vec!["/createdDateTime".into()]).unwrap();
    let mut kinds = Vec::new();
    for step in 0..20 {
        write(step + 12);
        let report = vault.snapshot().unwrap();
        kinds.push(report.kind.to_string());
        if step % 5 == 0 {
            let file = sandbox.write(&format!("log-{step}.ndjson"), event(step, "x"));
            import(&ImportJob {
                stream: &stream,
                files: &[file],
                format: Format::Auto,
                pointers: &pointers,
                again: false,
                writer: &vault.writer(),
                policy: &vault.policy,
                level: None,
                threads: 2,
                monitor: &Silent,
            })
            .unwrap();
        }
        if step % 3 == 0 {
            checkpoint(&vault.writer(), &vault.policy).unwrap();
        }
        vault.clock.advance_hours(if step % 7 == 6 { 24 * 25 } else { 40 });
    }
    checkpoint(&vault.writer(), &vault.policy).unwrap();
    assert!(kinds.iter().filter(|k| *k == "base").count() >= 4 && kinds.iter().any(|k| k == "delta"), "{kinds:?}");
    assert!(sandbox.objects().iter().any(|o| o == "attestations/restated/2027/VAULT.json"));

    let genesis = Sha256::of(&vault.genesis).to_string();
    // The clock that was moved is not the reader's.
    let report = agrees(
        sandbox,
        &["deep", "vault", "--genesis", &genesis, "--identity", "keys/identity-0.txt"],
        &["hours old; the limit is 26 hours"],
    );
    assert!(report["records"].as_u64().unwrap() > 30, "{report:#}");
    assert_eq!(report["events"], 4);
}

#[test]
fn it_sees_a_flipped_byte_in_every_kind_of_object() {
    let sandbox = Sandbox::new();
    sandbox.init();
    sandbox.write("tree/a.json", "{}");
    sandbox.json(&["snapshot"], 0);
    sandbox.write("log.ndjson", event(1, "x"));
    sandbox.json(&["import", "log", "log.ndjson"], 0);
    sandbox.json(&["checkpoint"], 0);
    let genesis = Sha256::of(&fs::read(sandbox.path("keys/genesis.json")).unwrap()).to_string();
    agrees(&sandbox, &["verify", "vault", "--genesis", &genesis], &[]);
    let objects = sandbox.objects();
    assert!(objects.len() >= 10, "{objects:?}");
    for name in &objects {
        let file = format!("vault/{name}");
        let middle = fs::metadata(sandbox.path(&file)).unwrap().len() as usize / 2;
        sandbox.tamper(&file, |bytes| bytes[middle] ^= 0x40);
        let (code, report, _) = second_reader(&sandbox, &["verify", "vault", "--genesis", &genesis]);
        assert_eq!(code, 3, "{name}: {report:#}");
        assert_ne!(report["deviations"], Value::Array(vec![]), "{name}");
        sandbox.tamper(&file, |bytes| bytes[middle] ^= 0x40);
    }
    agrees(&sandbox, &["verify", "vault", "--genesis", &genesis], &[]);
}
