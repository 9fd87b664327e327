//! `status` tells what is so, on a moved clock: RPO and availability are what another program computes from the vault's
//! envelopes, and each thing that is wrong is said with its exit code.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/mod.rs"]
mod support;
#[path = "support/tenant.rs"]
mod tenant;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{Ran, Sandbox};
use tenant::Estate;

/// Runs when it is so late.
fn at(sandbox: &Sandbox, clock: &str, args: &[&str]) -> Ran {
    let (preload, clock) = (support::faketime(), format!("@{clock}"));
    let env = [
        ("LD_PRELOAD", preload.to_str().unwrap()),
        ("FAKETIME", clock.as_str()),
        ("DONT_FAKE_MONOTONIC", "1"),
        ("NO_FAKE_STAT", "1"),
        ("TZ", "UTC"),
    ];
    sandbox.backstop_with(args, &env)
}

/// A vault of the first of March, before any snapshot.
fn march() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("tree/role.json", "{}");
    let ran = at(&sandbox, "2026-03-01 00:00:00", &["init", "--dir", ".", "--source", "tree=tree", "--stream", "log"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    sandbox
}

fn snapshots(sandbox: &Sandbox, clocks: &[&str]) {
    for clock in clocks {
        sandbox.write("tree/role.json", format!("{{\"at\":\"{clock}\"}}"));
        let ran = at(sandbox, &format!("2026-03-{clock}"), &["snapshot"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
}

fn status(sandbox: &Sandbox, clock: &str, code: i32) -> Value {
    let ran = at(sandbox, &format!("2026-03-{clock}"), &["status", "--json"]);
    assert_eq!(ran.code, code, "{}{}", ran.stdout, ran.stderr);
    ran.json().remove(0)
}

fn kinds(status: &Value) -> Vec<&str> {
    status["findings"].as_array().unwrap().iter().map(|f| f["kind"].as_str().unwrap()).collect()
}

/// What the other program finds, of the instant of a status.
fn recomputed(sandbox: &Sandbox, status: &Value, chains: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/recompute_objectives.py");
    let ran = sandbox.shell(&format!("python3 {} vault {} 3600 {}", script.display(), status["at"].as_str().unwrap(), chains.join(" ")));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.json().remove(0)
}

/// Both programs say the same, to the second.
fn agree(status: &Value, other: &Value, chains: &[(&str, &str)]) {
    for (name, chain) in chains {
        let own = status["rpo"].as_array().unwrap().iter().find(|r| r["name"] == *name).unwrap();
        assert_eq!(own["achieved_seconds"], other["rpo"][chain], "{status}\n{other}");
        assert_eq!(own["objective_seconds"], 3600);
    }
    for days in ["days_30", "days_365"] {
        let (own, other) = (&status["availability"][days], &other[days]);
        assert_eq!(own["beyond_seconds"], other["beyond_seconds"], "{status}");
        assert!((own["percent"].as_f64().unwrap() - other["percent"].as_f64().unwrap()).abs() < 1e-4, "{own} {other}");
    }
}

#[test]
fn a_vault_that_keeps_its_objectives_is_well() {
    let sandbox = march();
    let policy = fs::read_to_string(sandbox.path("backstop.yaml")).unwrap();
    let jobs =
        "jobs:\n  seldom: { snapshot: [tree], schedule: \"0 0 3 * * *\" }\n  often: { snapshot: [tree], schedule: \"0 */30 * * * *\" }\n";
    sandbox.write("backstop.yaml", policy.replace("jobs: {}\n", jobs));
    snapshots(&sandbox, &["01 00:00:30", "01 00:30:00", "01 01:00:00"]);
    let status = status(&sandbox, "01 01:20:00", 0);
    assert_eq!((&status["ok"], kinds(&status)), (&json!(true), vec![]));
    agree(&status, &recomputed(&sandbox, &status, &["snapshot.tree"]), &[("tree", "snapshot.tree")]);
    assert!((1195..=1200).contains(&status["rpo"][0]["achieved_seconds"].as_i64().unwrap()), "{status}");
    assert_eq!((&status["availability"]["days_30"]["percent"], &status["coverage"]), (&json!(100.0), &json!(0.0)));
    let newest = &status["newest"][0];
    assert_eq!((&newest["source"], &newest["sequence"], &newest["outcome"]), (&json!("tree"), &json!(3), &json!("complete")));
    assert!(newest["lock_until"].as_str().unwrap() > "2033-03-01", "{newest}");
    let next = json!([{ "job": "often", "at": "2026-03-01T01:30:00Z" }, { "job": "seldom", "at": "2026-03-01T03:00:00Z" }]);
    assert_eq!(status["next"], next);
}

#[test]
fn an_rpo_is_missed_and_kept_again_and_the_time_between_is_not_forgotten() {
    let sandbox = march();
    let nothing = status(&sandbox, "01 00:05:00", 4);
    assert_eq!((kinds(&nothing), &nothing["rpo"][0]["achieved_seconds"]), (vec!["no_recovery_point"], &Value::Null));
    assert_eq!(nothing["availability"]["days_30"], Value::Null);
    snapshots(&sandbox, &["01 00:10:00", "01 00:40:00"]);
    let late = status(&sandbox, "01 02:00:30", 4);
    assert_eq!((kinds(&late), &late["ok"]), (vec!["rpo_exceeded", "availability_missed"], &json!(false)));
    agree(&late, &recomputed(&sandbox, &late, &["snapshot.tree"]), &[("tree", "snapshot.tree")]);
    let said = at(&sandbox, "2026-03-01 02:00:30", &["status"]);
    for words in ["1 h 20 min old", "the RPO is 1 h 0 min", "error", "available"] {
        assert!(said.stdout.contains(words), "{words:?} should be said:\n{}", said.stdout);
    }
    snapshots(&sandbox, &["01 02:10:00"]);
    // It is within its RPO again, but the month is not what was promised.
    let again = status(&sandbox, "01 02:20:00", 4);
    assert_eq!(kinds(&again), ["availability_missed"]);
    let beyond = again["availability"]["days_30"]["beyond_seconds"].as_i64().unwrap();
    assert!((1795..=1810).contains(&beyond), "from 01:40 to 02:10: {again}");
    agree(&again, &recomputed(&sandbox, &again, &["snapshot.tree"]), &[("tree", "snapshot.tree")]);
}

#[test]
fn a_hole_in_a_chain_is_damage() {
    let sandbox = march();
    snapshots(&sandbox, &["01 00:10:00", "01 00:40:00", "01 01:00:00"]);
    sandbox.remove("vault/attestations/snapshot.tree/0000000002.json");
    let status = status(&sandbox, "01 01:10:00", 3);
    assert_eq!(kinds(&status), ["missing_attestation"]);
    assert_eq!(status["ok"], false);
}

#[test]
fn streams_count_as_far_as_their_windows_reach() {
    let estate = Estate::new();
    estate.snapshot("entra", 0);
    let exported = estate.sandbox.json(&["export", "audits"], 0).remove(0);
    let ran = estate.sandbox.backstop(&["status", "--json"]);
    let status = ran.json().remove(0);
    let other = recomputed(&estate.sandbox, &status, &["snapshot.entra", "export.audits"]);
    for (name, chain) in [("entra", "snapshot.entra"), ("audits", "export.audits")] {
        let own = status["rpo"].as_array().unwrap().iter().find(|r| r["name"] == name).unwrap();
        assert_eq!(own["achieved_seconds"], other["rpo"][chain], "{status}\n{other}");
    }
    let newest = status["newest"].as_array().unwrap().iter().find(|n| n["stream"] == "audits").unwrap();
    assert_eq!((&newest["captured"], &newest["class"]), (&exported["to"], &json!("logs")));
}

#[test]
fn a_window_behind_a_hole_does_not_count() {
    let estate = Estate::new();
    let export = || {
        std::thread::sleep(std::time::Duration::from_millis(1100));
        estate.sandbox.json(&["export", "audits"], 0).remove(0)
    };
    let (first, second, third) = (export(), export(), export());
    assert!(first["to"].as_str() < second["to"].as_str() && second["to"].as_str() < third["to"].as_str());
    let captured = || {
        let status = estate.sandbox.backstop(&["status", "--json"]).json().remove(0);
        let other = recomputed(&estate.sandbox, &status, &["export.audits"]);
        let own = status["rpo"].as_array().unwrap().iter().find(|r| r["name"] == "audits").unwrap();
        assert_eq!(own["achieved_seconds"], other["rpo"]["export.audits"]);
        status["newest"].as_array().unwrap().iter().find(|n| n["stream"] == "audits").unwrap()["captured"].clone()
    };
    assert_eq!(captured(), third["to"]);
    estate.sandbox.remove(&format!("vault/attestations/export.audits/{:010}.json", second["sequence"].as_u64().unwrap()));
    assert_eq!(captured(), first["to"]);
}

#[test]
fn what_is_partial_moves_no_rpo_and_is_told() {
    let estate = Estate::new();
    estate.snapshot("entra", 0);
    let status = || estate.sandbox.backstop(&["status", "--json"]).json().remove(0);
    let of_entra = |status: &Value| {
        let findings = status["findings"].as_array().unwrap().iter().filter(|f| f["chain"] == "snapshot.entra");
        findings.map(|f| (f["kind"].as_str().unwrap().to_owned(), f["message"].as_str().unwrap().to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(of_entra(&status()), []);
    estate.faults(json!([{ "path": "/v1.0/users", "kind": "status", "status": 401 }]));
    estate.snapshot("entra", 6);
    let partial = status();
    let said = of_entra(&partial);
    assert!(said.len() == 1 && said[0].0 == "partial" && said[0].1.contains("entra.users"), "{said:?}");
    let newest = partial["newest"].as_array().unwrap().iter().find(|n| n["source"] == "entra").unwrap();
    assert_eq!(newest["sequence"], 1, "{partial}");
    let other = recomputed(&estate.sandbox, &partial, &["snapshot.entra"]);
    let own = partial["rpo"].as_array().unwrap().iter().find(|r| r["name"] == "entra").unwrap();
    assert_eq!(own["achieved_seconds"], other["rpo"]["snapshot.entra"]);
}

#[test]
fn without_a_policy_there_is_nothing_to_hold_a_vault_to() {
    let sandbox = march();
    let ran = sandbox.backstop(&["status", "--vault", "vault"]);
    assert!(ran.code == 2 && ran.stderr.contains("no objectives") && ran.stderr.contains("help: "), "{}", ran.stderr);
}
