//! A status from an index says what one from the whole vault says, whatever happened since, and an index that does
//! not fit counts for nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/mod.rs"]
mod support;
#[path = "support/tenant.rs"]
mod tenant;

use std::fs;

use serde_json::Value;
use support::Sandbox;
use tenant::Estate;

const INDEX: &str = ".backstop/agent/index";

/// What does not change while a test looks twice.
fn without_the_clock(mut status: Value) -> Value {
    for field in ["at", "read_whole", "availability", "next"] {
        status.as_object_mut().unwrap().remove(field);
    }
    status["findings"].as_array_mut().unwrap().retain(|f| f["kind"] != "availability_missed");
    for rpo in status["rpo"].as_array_mut().unwrap() {
        rpo.as_object_mut().unwrap().remove("achieved_seconds");
    }
    status
}

/// Of a young vault the shares change with each second.
fn is_close(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => a.len() == b.len() && a.iter().all(|(name, v)| b.get(name).is_some_and(|w| is_close(v, w))),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(v, w)| is_close(v, w)),
        (Value::Number(a), Value::Number(b)) => (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 5.0,
        _ => a == b,
    }
}

/// The status from the index and from the vault: the same, the first without reading the vault whole.
#[track_caller]
fn agree(sandbox: &Sandbox, after: &str) -> Value {
    let quick = sandbox.backstop(&["status", "--quick", "--json"]);
    let whole = sandbox.backstop(&["status", "--json"]);
    assert_eq!(quick.code, whole.code, "{after}");
    let (quick, whole) = (quick.json().remove(0), whole.json().remove(0));
    assert_ne!(quick["read_whole"], quick["at"], "{after}: it was read whole");
    assert_eq!(whole["read_whole"], whole["at"], "{after}");
    assert!(is_close(&quick["availability"], &whole["availability"]), "{after}: {} {}", quick["availability"], whole["availability"]);
    assert_eq!(without_the_clock(quick.clone()), without_the_clock(whole), "{after}");
    quick
}

/// A new one.
fn keep(sandbox: &Sandbox) -> Value {
    let _ = fs::remove_dir_all(sandbox.path(INDEX));
    fs::create_dir_all(sandbox.path(INDEX)).unwrap();
    sandbox.backstop(&["status", "--index", INDEX, "--json"]).json().remove(0)
}

#[test]
fn what_was_attested_since_is_in_it() {
    let estate = Estate::new();
    let sandbox = &estate.sandbox;
    keep(sandbox);
    agree(sandbox, "an empty vault");
    estate.snapshot("entra", 0);
    agree(sandbox, "a chain that is newer than the index");
    keep(sandbox);
    estate.snapshot("entra", 0);
    sandbox.json(&["export", "audits"], 0);
    agree(sandbox, "a snapshot and an export");
    sandbox.json(&["restore-test", "--key", "keys/tester.key", "--identity", "keys/identity-1.txt"], 0);
    let tested = agree(sandbox, "a restore test");
    assert!(tested["coverage"].as_f64().unwrap() > 0.1, "{tested}");
    // A sealed object that is damaged is not covered by the test that finds it.
    let object = sandbox.objects().into_iter().find(|o| o.contains("segment-")).unwrap();
    sandbox.tamper(&format!("vault/{object}"), |bytes| bytes[40] ^= 1);
    sandbox.json(&["restore-test", "--key", "keys/tester.key", "--identity", "keys/identity-1.txt"], 3);
    let damaged = agree(sandbox, "a test that failed");
    assert!(damaged["coverage"].as_f64() < tested["coverage"].as_f64());
    keep(sandbox);
    agree(sandbox, "the same from an index that holds the tests");
    estate.faults(serde_json::json!([{ "path": "/v1.0/users", "kind": "status", "status": 401 }]));
    estate.snapshot("entra", 6);
    let partial = agree(sandbox, "a partial snapshot");
    assert!(partial["findings"].to_string().contains("entra.users"), "{partial}");
    sandbox.write("vault/attestations/snapshot.entra/0000000009.json", "no envelope");
    let quick = sandbox.backstop(&["status", "--quick", "--json"]).json().remove(0);
    assert!(!quick["findings"].to_string().contains("void"), "behind so wide a hole only a whole reading looks: {quick}");
    keep(sandbox);
    assert!(agree(sandbox, "a void number behind a hole")["findings"].to_string().contains("void_attestation"));
}

/// The file of a chain's entries.
fn file_of(sandbox: &Sandbox, chain: &str) -> String {
    let names = fs::read_dir(sandbox.path(INDEX)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    format!("{INDEX}/{}", names.filter(|n| n.starts_with(&format!("{chain}."))).min().unwrap())
}

/// It is read whole, and so says what the vault says.
#[track_caller]
fn is_read_whole(sandbox: &Sandbox, because: &str) -> Value {
    let ran = sandbox.backstop(&["status", "--quick", "--json"]);
    let status = ran.json().remove(0);
    assert_eq!(status["read_whole"], status["at"], "{because}");
    assert!(ran.stderr.contains("the vault is read whole"), "{because}: {}", ran.stderr);
    assert_eq!(without_the_clock(status.clone()), without_the_clock(sandbox.backstop(&["status", "--json"]).json().remove(0)), "{because}");
    status
}

#[test]
fn an_index_that_does_not_fit_counts_for_nothing() {
    let estate = Estate::new();
    let sandbox = &estate.sandbox;
    estate.snapshot("entra", 0);
    is_read_whole(sandbox, "there is none");
    keep(sandbox);
    agree(sandbox, "a fitting one");
    let chain = file_of(sandbox, "snapshot.entra");
    let good = fs::read(sandbox.path(&chain)).unwrap();
    for (what, bytes) in [
        ("a chain cut short", good[..good.len() - 1].to_vec()),
        ("a chain with a byte changed", good.iter().enumerate().map(|(n, b)| if n == good.len() / 2 { b ^ 1 } else { *b }).collect()),
        ("a chain twice", [good.clone(), good.clone()].concat()),
        ("a chain of garbage", b"garbage".to_vec()),
        ("an empty file", Vec::new()),
    ] {
        sandbox.write(&chain, bytes);
        is_read_whole(sandbox, what);
    }
    fs::remove_file(sandbox.path(&chain)).unwrap();
    is_read_whole(sandbox, "a chain that is gone");
    sandbox.write(&chain, &good);
    agree(sandbox, "the good one again");
    sandbox.write(&format!("{INDEX}/index.json"), "{}");
    is_read_whole(sandbox, "no stamp");
    // Another vault's, whole.
    let other = Estate::new();
    other.snapshot("entra", 0);
    keep(&other.sandbox);
    fs::remove_dir_all(sandbox.path(INDEX)).unwrap();
    fs::create_dir_all(sandbox.path(INDEX)).unwrap();
    for file in fs::read_dir(other.sandbox.path(INDEX)).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), sandbox.path(INDEX).join(file.file_name())).unwrap();
    }
    is_read_whole(sandbox, "another vault's");
    keep(sandbox);
    agree(sandbox, "its own");
    // Whoever is trusted, and what was disposed of, stands on the vault's own chain.
    sandbox.json(&["hold", "add", "--source", "entra", "--reason", "r", "--authority", "a", "--key", "keys/operator.key"], 0);
    is_read_whole(sandbox, "the vault's own chain grew");
    // A directory in the way of a file: told, and never half an index.
    fs::remove_dir_all(sandbox.path(INDEX)).unwrap();
    fs::create_dir_all(sandbox.path(&format!("{INDEX}/index.json"))).unwrap();
    let ran = sandbox.backstop(&["status", "--index", INDEX, "--json"]);
    assert!(ran.stderr.contains("no index is kept"), "{}", ran.stderr);
    fs::remove_dir(sandbox.path(&format!("{INDEX}/index.json"))).unwrap();
    is_read_whole(sandbox, "it could not be kept");
}

#[test]
fn what_an_index_has_and_the_vault_no_longer_is_seen() {
    let estate = Estate::new();
    let sandbox = &estate.sandbox;
    for _ in 0..3 {
        estate.snapshot("entra", 0);
    }
    let envelope = |n: u64| format!("vault/attestations/snapshot.entra/{n:010}.json");
    let tell = |status: &Value| status["findings"].to_string();
    keep(sandbox);
    // The newest recovery point is gone, then damaged.
    sandbox.copy(&envelope(3), "kept.json");
    sandbox.remove(&envelope(3));
    is_read_whole(sandbox, "the newest recovery point is gone");
    sandbox.write(&envelope(3), "no envelope");
    assert!(tell(&is_read_whole(sandbox, "it is damaged")).contains("void"));
    // An index of that time notices that it is mended.
    keep(sandbox);
    assert!(tell(&agree(sandbox, "an index with a void")).contains("void"));
    sandbox.remove(&envelope(3));
    sandbox.copy("kept.json", &envelope(3));
    assert!(!tell(&is_read_whole(sandbox, "it is mended")).contains("void"));
    // One that arrives before the one below it.
    keep(sandbox);
    estate.snapshot("entra", 0);
    estate.snapshot("entra", 0);
    sandbox.copy(&envelope(4), "kept.json");
    sandbox.remove(&envelope(4));
    assert!(tell(&is_read_whole(sandbox, "a hole in what is new")).contains("missing_attestation"));
    sandbox.copy("kept.json", &envelope(4));
    agree(sandbox, "the hole is closed");
    // A tail that a checkpoint saw.
    keep(sandbox);
    estate.snapshot("entra", 0);
    sandbox.json(&["checkpoint"], 0);
    sandbox.remove(&envelope(6));
    assert!(tell(&is_read_whole(sandbox, "a tail that was cut off")).contains("attestation"));
    // A chain that the policy does not name.
    keep(sandbox);
    let before = agree(sandbox, "before another chain")["stored_bytes"].as_u64();
    sandbox.json(&["export", "audits"], 0);
    estate.policy("  audits:", "  others:");
    let after = agree(sandbox, "a chain that no policy names any more");
    assert!(after["stored_bytes"].as_u64() > before, "{after}");
}
