//! The fields that scripts rely on: every one that the product promises is there, of its kind.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/mod.rs"]
mod support;

use serde_json::Value;
use support::Sandbox;

const ID: [&str; 2] = ["--identity", "keys/identity-1.txt"];

/// Fields by kind: `s` text, `n` number, `b` yes or no, `a` list, `o` object, `t` instant, `h` digest, `r` run.
fn has(value: &Value, fields: &str) {
    for field in fields.split_whitespace() {
        let (name, kind) = field.split_once(':').unwrap();
        let found = value.get(name).unwrap_or_else(|| panic!("{name} is missing in {value}"));
        let text = found.as_str().unwrap_or_default();
        let fits = match kind {
            "s" => !text.is_empty(),
            "n" => found.is_number(),
            "b" => found.is_boolean(),
            "a" => found.is_array(),
            "o" => found.is_object(),
            "t" => text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok(),
            "h" => text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)),
            "r" => text.len() == 36 && text.as_bytes()[14] == b'7',
            other => panic!("no kind {other}"),
        };
        assert!(fits, "{name} is not of kind {kind}: {found}");
    }
}

#[test]
fn every_promised_field_is_there() {
    let sandbox = Sandbox::new();
    sandbox.write("tree/a.json", "{\"a\":{\"b\":1}}");
    sandbox.write("tree/gone.json", "{}");
    let init = sandbox.json(&["init", "--dir", ".", "--source", "tree=tree", "--stream", "log"], 0);
    assert_eq!(init.len(), 1);
    has(&init[0], "policy:s vault:s identities:a recipients:a signers:a genesis_sha256:h");
    assert_eq!((init[0]["identities"].as_array().unwrap().len(), init[0]["recipients"].as_array().unwrap().len()), (2, 2));
    let roles: Vec<&str> = init[0]["signers"].as_array().unwrap().iter().map(|s| s["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["agent", "tester", "operator"]);
    for file in
        init[0]["identities"].as_array().unwrap().iter().chain(init[0]["signers"].as_array().unwrap().iter().map(|s| &s["public_key"]))
    {
        assert!(sandbox.path(file.as_str().unwrap()).is_file(), "{file}");
    }

    const SNAPSHOT: &str = "run:r chain:s sequence:n source:s kind:s outcome:s captured:t entries:n changed:n deleted:n read_bytes:n stored_bytes:n \
                            objects:n tree_sha256:h collections:o duration_seconds:n";
    let base = sandbox.json(&["snapshot"], 0);
    assert_eq!(base.len(), 1, "a line a source");
    has(&base[0], SNAPSHOT);
    has(&base[0]["collections"]["files"], "outcome:s count:n");
    assert_eq!((&base[0]["kind"], &base[0]["chain"], &base[0]["source"]), (&"base".into(), &"snapshot.tree".into(), &"tree".into()));
    sandbox.write("tree/a.json", "{\"a\":{\"b\":2}}");
    sandbox.write("tree/new.json", "{}");
    std::fs::remove_file(sandbox.path("tree/gone.json")).unwrap();
    let delta = &sandbox.json(&["snapshot"], 0)[0];
    has(delta, SNAPSHOT);
    assert_eq!((&delta["kind"], &delta["changed"], &delta["deleted"]), (&"delta".into(), &2.into(), &1.into()));

    sandbox.write("e.ndjson", "{\"id\":1,\"createdDateTime\":\"2026-11-01T00:00:00Z\"}\n");
    let import = sandbox.json(&["import", "log", "e.ndjson"], 0);
    assert_eq!(import.len(), 1, "a line a stream");
    has(
        &import[0],
        "run:r chain:s sequence:n stream:s from:t to:t events:n late_events:n read_bytes:n stored_bytes:n outcome:s duration_seconds:n",
    );

    let test = &sandbox.json(&["restore-test", "--identity", "keys/identity-1.txt"], 0)[0];
    has(
        test,
        "run:r chain:s sequence:n outcome:s checks:a tested:a covered_bytes:n coverage:n stored_bytes:n problems:a skipped:a notes:a still_good:a duration_seconds:n",
    );
    for check in test["checks"].as_array().unwrap() {
        has(check, "name:s outcome:s count:n failed:n excused:n message:s");
    }
    let tested =
        "chain:s run:r sequence:n drawn:s passed:b objects:n stored_bytes:n entries:n restored_bytes:n restore_seconds:n check_seconds:n";
    test["tested"].as_array().unwrap().iter().for_each(|t| has(t, tested));
    let status = &sandbox.json(&["status"], 0)[0];
    has(
        status,
        "ok:b at:t rpo:a newest:a coverage:n covered_bytes:n stored_bytes:n availability:o restore_test:o restore_times:a next_review:o runbooks:a findings:a next:a",
    );
    has(&status["restore_test"], "run:r finished:t outcome:s failed_checks:a");
    status["restore_times"]
        .as_array()
        .unwrap()
        .iter()
        .for_each(|t| has(t, "class:s name:s entries:n stored_bytes:n estimated_seconds:n measurements:n measured:t"));
    let estimate = &sandbox.json(&["restore", "files", "tree", "--estimate"], 0)[0];
    has(
        estimate,
        "estimate:b chain:s class:s run:r source:s entries:n stored_bytes:n estimated_seconds:n measurements:n measured:t rehydration_seconds:n objective_seconds:n",
    );

    let ls = sandbox.json(&["ls"], 0);
    for run in &ls {
        has(run, "run:r chain:s sequence:n kind:s outcome:s started:t finished:t objects:n stored_bytes:n lock_mode:s lock_until:t");
        let chain = run["chain"].as_str().unwrap();
        assert_eq!(run.get("source").is_some(), chain.starts_with("snapshot."), "{run}");
        assert_eq!(run.get("stream").is_some(), chain.starts_with("export."), "{run}");
    }
    let finished: Vec<&str> = ls.iter().map(|r| r["finished"].as_str().unwrap()).collect();
    assert!(finished.is_sorted_by(|a, b| a.parse::<jiff::Timestamp>().unwrap() >= b.parse().unwrap()), "newest first: {finished:?}");

    let diff = sandbox.json(&["diff", "tree~1", "tree", ID[0], ID[1]], 0);
    diff.iter().for_each(|d| has(d, "path:s change:s attributes:a"));
    let changes: Vec<(&str, &str)> = diff.iter().map(|d| (d["path"].as_str().unwrap(), d["change"].as_str().unwrap())).collect();
    assert_eq!(changes, [("a.json", "changed"), ("gone.json", "removed"), ("new.json", "added")]);
    assert_eq!(diff[0]["attributes"], serde_json::json!([{ "pointer": "/a/b", "from": 1, "to": 2 }]));

    let restore = &sandbox.json(&["restore", "files", "tree", "--to", "back", ID[0], ID[1]], 0)[0];
    has(restore, "run:r entries:n restored_bytes:n tree_sha256:h failed:a outcome:s incomplete:a not_found:a duration_seconds:n");
    assert_eq!((&restore["tree_sha256"], &restore["entries"], &restore["run"]), (&delta["tree_sha256"], &2.into(), &delta["run"]));

    let verify = &sandbox.json(&["verify"], 0)[0];
    has(verify, "ok:b deep:b attestations:n objects:n verified_bytes:n findings:a checkpoint:o duration_seconds:n");
    assert_eq!((&verify["ok"], &verify["deep"], verify["attestations"].as_u64()), (&true.into(), &false.into(), Some(ls.len() as u64)));
    let segment = sandbox.objects().into_iter().find(|o| o.contains("segment-")).unwrap();
    sandbox.remove(&format!("vault/{segment}"));
    let damaged = &sandbox.json(&["verify"], 3)[0];
    assert_eq!(damaged["ok"], false);
    let finding = &damaged["findings"][0];
    has(finding, "severity:s kind:s object:s chain:s sequence:n message:s");
    assert_eq!((&finding["severity"], &finding["object"]), (&"error".into(), &segment.clone().into()));
    let lost = &sandbox.json(&["restore", "files", "tree~1", "--to", "lost", ID[0], ID[1]], 3)[0];
    has(&lost["failed"][0], "path:s object:s message:s");
}

#[test]
fn machine_output_is_alone_on_stdout() {
    let sandbox = Sandbox::new();
    sandbox.init();
    sandbox.write("tree/a.json", "{}");
    for args in [&["snapshot"][..], &["ls"], &["verify"], &["checkpoint"], &["policy", "check"], &["key", "ls"], &["show", "tree"]] {
        let all: Vec<&str> = args.iter().copied().chain(["--json", "-v"]).collect();
        let ran = sandbox.backstop(&all);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        let lines = ran.json();
        assert!(!lines.is_empty(), "{args:?} says nothing");
        assert!(lines.iter().all(Value::is_object), "{args:?}: {}", ran.stdout);
    }
    let wrong = sandbox.backstop(&["show", "nope", "--json"]);
    assert_eq!((wrong.code, wrong.stdout.as_str()), (2, ""), "an error is told on stderr only");
}
