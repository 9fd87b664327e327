//! Events change after they first appear, arrive twice, and have no id: what `restore logs` then gives.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use support::Sandbox;

const WINDOW: [&str; 4] = ["--from", "2026-01-01", "--to", "2026-02-01"];

fn event(id: &str, minute: u32, status: &str) -> String {
    format!("{{\"id\":\"{id}\",\"createdDateTime\":\"2026-01-10T08:{minute:02}:00Z\",\"status\":\"{status}\"}}\n")
}

fn events(sandbox: &Sandbox, more: &[&str]) -> Vec<String> {
    let args: Vec<&str> = ["restore", "logs", "log"]
        .into_iter()
        .chain(WINDOW)
        .chain(["--identity", "keys/identity-1.txt"])
        .chain(more.iter().copied())
        .collect();
    let ran = sandbox.backstop(&args);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.json().iter().map(|e| format!("{}={}", e["id"].as_str().unwrap_or("-"), e["status"].as_str().unwrap())).collect()
}

#[test]
fn the_newest_version_all_versions_and_what_was_known_then() {
    let sandbox = Sandbox::new();
    sandbox.init();
    sandbox.write("tree/a.json", "{}");
    sandbox.write("first.ndjson", event("one", 2, "pending") + &event("two", 1, "ok"));
    let first = sandbox.json(&["import", "log", "first.ndjson"], 0).remove(0);
    // The first run of a vault is followed by its first checkpoint.
    let second = event("one", 2, "done") + &event("two", 1, "ok") + &event("three", 0, "ok") + &event("three", 0, "better");
    let without_id = "{\"createdDateTime\":\"2026-01-10T09:00:00Z\",\"status\":\"same\"}\n".repeat(2);
    sandbox.write("second.ndjson", second + &without_id);
    sandbox.json(&["import", "log", "second.ndjson"], 0);
    let snapshot = sandbox.json(&["snapshot", "tree"], 0).remove(0);

    assert_eq!(events(&sandbox, &[]), ["three=better", "two=ok", "one=done", "-=same", "-=same"]);
    let all = events(&sandbox, &["--all-versions"]);
    assert_eq!(all, ["three=ok", "three=better", "two=ok", "one=pending", "one=done", "-=same", "-=same"]);
    let known = ["two=ok", "one=pending"];
    assert_eq!(events(&sandbox, &["--as-of", first["run"].as_str().unwrap()]), known);
    // A run of another chain goes by the heads of the newest checkpoint before it, which saw one import.
    assert_eq!(events(&sandbox, &["--as-of", "checkpoint/1"]), known);
    assert_eq!(events(&sandbox, &["--as-of", snapshot["run"].as_str().unwrap()]), known);
    sandbox.json(&["checkpoint"], 0);
    assert_eq!(events(&sandbox, &["--as-of", "checkpoint/2"]).len(), 5);
}

#[test]
fn bytes_sealed_again_count_from_their_first_sealing() {
    let sandbox = Sandbox::new();
    sandbox.init();
    for (n, status) in ["pending", "done", "pending"].iter().enumerate() {
        // Other neighbours, so that no file is the repetition of another.
        sandbox.write(&format!("{n}.ndjson"), event("one", 2, status) + &event(&format!("n{n}"), 5, "x"));
        sandbox.json(&["import", "log", &format!("{n}.ndjson")], 0);
    }
    assert_eq!(events(&sandbox, &[])[0], "one=done");
}
