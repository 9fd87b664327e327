//! The drill brings a tenant's configuration back from the vault alone, in a stand-in, and what it says of RPO and RTO is what
//! its attestation shows; the real tenant is never asked.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/mod.rs"]
mod support;
#[path = "support/tenant.rs"]
mod tenant;

use std::fs;

use jiff::Timestamp;
use serde_json::{Value, json};
use support::forge::Forge;
use support::{Ran, Sandbox};
use tenant::Estate;

const WITH: [&str; 5] = ["drill", "--identity", "keys/identity-1.txt", "--key", "keys/tester.key"];

/// A tenant with a first night in its vault.
fn night() -> Estate {
    // Of now, as the vault's clock is: a drill brings back the events of the last days.
    let estate = Estate::with(|options| options.start = None);
    for command in ["snapshot", "export"] {
        let ran = estate.sandbox.backstop(&[command]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    estate
}

fn drill(sandbox: &Sandbox, code: i32) -> Value {
    sandbox.json(&WITH, code).remove(0)
}

fn refused(sandbox: &Sandbox, args: &[&str], code: i32, says: &[&str]) -> Ran {
    let ran = sandbox.backstop(args);
    assert_eq!(ran.code, code, "{args:?} {}{}", ran.stdout, ran.stderr);
    says.iter().for_each(|words| assert!(ran.stderr.contains(words), "{words} in {}", ran.stderr));
    ran
}

fn at(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

fn check<'v>(report: &'v Value, name: &str) -> &'v Value {
    report["checks"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("{name} in {report}"))
}

#[test]
fn a_lost_configuration_comes_back_and_is_measured() {
    let estate = night();
    let sandbox = &estate.sandbox;
    let asked = |estate: &Estate| estate.tenant.requests().lock().unwrap().values().sum::<u64>();
    let before = asked(&estate);
    let report = drill(sandbox, 0);
    assert_eq!(asked(&estate), before, "the real tenant is never asked");
    assert_eq!(
        (&report["outcome"], &report["passed"], &report["scenario"]),
        (&json!("complete"), &json!(true), &json!("tenant-configuration-loss"))
    );
    // What was destroyed is what had to be changed, and every record of both sources is as it was.
    assert!(report["destroyed"].as_u64().unwrap() > 20, "{report}");
    assert_eq!((&report["destroyed"], &report["planned"]), (&report["planned"], &report["applied"]));
    let names = [
        "detected",
        "source_selected",
        "key_available",
        "data_available",
        "verified",
        "planned",
        "restore_started",
        "restore_done",
        "cleanup_done",
    ];
    let instants: Vec<Timestamp> = names.iter().map(|name| at(&report["timeline"][name])).collect();
    assert!(instants.is_sorted() && instants[0] == at(&report["declared"]), "{}", report["timeline"]);
    assert_eq!((&report["type"], &report["unattended"], &report["clock"]["source"]), (&json!("functional"), &json!(true), &json!("store")));
    let entries = |source: &str| sandbox.json(&["show", source], 0)[0]["statement"]["predicate"]["entries"].as_u64().unwrap();
    assert_eq!(check(&report, "brought_back")["count"], entries("entra") + entries("azure"));
    for name in ["restored", "trees", "brought_back", "stays_gone", "events"] {
        assert_eq!(check(&report, name)["outcome"], "passed", "{report}");
        assert!(check(&report, name)["count"].as_u64().unwrap() > 0, "{name}");
    }
    assert_eq!(check(&report, "stays_gone")["count"], 3, "a guest, an assignment and its schedule");
    // RPO: from what was captured to the disaster.
    let forge = Forge::new(sandbox, ".");
    let disaster = at(&report["disaster"]);
    for rpo in report["rpo"].as_array().unwrap() {
        let name = rpo["name"].as_str().unwrap();
        let chain = if rpo["class"] == "logs" { format!("export.{name}") } else { format!("snapshot.{name}") };
        let details = forge.statement(&chain, forge.head(&chain)).predicate.details;
        let captured = if rpo["class"] == "logs" { at(&details["window"]["to"]) } else { at(&details["captured"]) };
        assert_eq!(rpo["achieved_seconds"], disaster.duration_since(captured).as_secs(), "{rpo}");
        assert_eq!(rpo["objective_seconds"], 3600);
    }
    assert_eq!(report["rpo"].as_array().unwrap().len(), 4);
    // RTO: from declared to validated, and the steps between fill it.
    let rto = report["rto_achieved_seconds"].as_f64().unwrap();
    assert!((at(&report["validated"]).duration_since(at(&report["declared"])).as_secs_f64() - rto).abs() < 1e-6);
    let steps = report["steps"].as_array().unwrap();
    let counted: f64 = steps.iter().filter(|s| s["counts_toward_rto"] == true).map(|s| s["duration_seconds"].as_f64().unwrap()).sum();
    // Two readings of a clock may be apart by a little.
    assert!((counted - rto).abs() < 1e-3, "{counted} {rto}");
    for pair in steps.windows(2) {
        assert_eq!(pair[0]["finished"], pair[1]["started"]);
    }
    let order: Vec<&str> = steps.iter().map(|s| s["name"].as_str().unwrap()).filter(|n| n.starts_with("apply entra")).collect();
    let place = |name: &str| order.iter().position(|n| n.ends_with(name)).unwrap_or_else(|| panic!("{name} in {order:?}"));
    assert!(place("users") < place("roleAssignments"), "what others refer to comes first");
    assert!(order.iter().any(|n| n.ends_with("roleManagementPolicies")), "{order:?}");
    // The runbook is the one in the repository, and the record holds it.
    let page = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/dr-runbooks/tenant-configuration-loss.md")).unwrap();
    assert_eq!(report["runbook_sha256"], backstop::store::Sha256::of(&page).to_string());
    let statement = forge.statement("drill", 1);
    let record = &statement.predicate.objects[0].name;
    let opened = sandbox.shell(&format!("age -d -i keys/identity-2.txt vault/{record} | zstd -d | jq -r '.runbook' | head -3"));
    assert!(opened.stdout.contains("id: tenant-configuration-loss"), "{}{}", opened.stdout, opened.stderr);
    let audit = sandbox.json(&["verify"], 0).remove(0);
    assert!(audit["findings"].as_array().unwrap().iter().all(|f| f["severity"] != "error"), "{audit}");
    // The next one names this one.
    let next = drill(sandbox, 0);
    assert_eq!((&next["earlier"]["run"], &next["earlier"]["passed"]), (&report["run"], &json!(true)));
    let listed = sandbox.json(&["drill", "ls"], 0);
    assert_eq!(listed.iter().map(|l| l["run"].clone()).collect::<Vec<_>>(), [next["run"].clone(), report["run"].clone()]);
    let shown = sandbox.json(&["drill", "show", report["run"].as_str().unwrap()], 0).remove(0);
    assert_eq!((&shown["disaster"], &shown["rto_achieved_seconds"]), (&report["disaster"], &report["rto_achieved_seconds"]));
    assert_eq!(sandbox.json(&["drill", "show"], 0)[0]["run"], next["run"]);
    let status = sandbox.backstop(&["status", "--json"]).json().remove(0);
    assert_eq!((&status["drill"]["run"], &status["drill"]["passed"]), (&next["run"], &json!(true)));
    assert_eq!(status["runbooks"][0]["runbook"], "tenant-configuration-loss");
    let said = sandbox.backstop(&WITH);
    assert!(said.stdout.contains("of the RTO") && said.stdout.contains("passed: RTO"), "{}", said.stdout);
}

#[test]
fn an_objective_that_is_missed_is_told_and_the_work_is_done_all_the_same() {
    let estate = night();
    let sandbox = &estate.sandbox;
    estate.policy("rpo: 1h", "rpo: 1s");
    std::thread::sleep(std::time::Duration::from_millis(1_200));
    let report = drill(sandbox, 4);
    assert_eq!((&report["outcome"], &report["passed"]), (&json!("complete"), &json!(false)), "{report}");
    assert!(report["rpo"].as_array().unwrap().iter().all(|r| r["achieved_seconds"].as_i64() > r["objective_seconds"].as_i64()));
    let said = sandbox.backstop(&WITH);
    assert!(said.code == 4 && said.stdout.contains("an objective was missed"), "{}", said.stdout);
    let status = sandbox.json(&["status"], 4).remove(0);
    assert!(status["findings"].as_array().unwrap().iter().any(|f| f["kind"] == "drill_not_passed"), "{status}");
}

#[test]
fn damage_fails_the_drill_and_is_named() {
    let estate = night();
    let sandbox = &estate.sandbox;
    let segment = sandbox.objects().into_iter().find(|o| o.starts_with("config-snapshots/entra") && o.contains("segment")).unwrap();
    sandbox.tamper(&format!("vault/{segment}"), |bytes| bytes[400] ^= 1);
    let report = drill(sandbox, 3);
    assert_eq!((&report["outcome"], &report["passed"]), (&json!("failed"), &json!(false)));
    assert_eq!(check(&report, "restored")["outcome"], "failed", "{report}");
    assert!(report["problems"].to_string().contains("restored: snapshot.entra"), "{report}");
    assert_eq!(sandbox.json(&["drill", "ls"], 0)[0]["passed"], false, "a drill that failed is attested, too");
}

#[test]
fn what_cannot_be_practised_is_refused_and_nothing_is_attested() {
    let estate = Estate::new();
    let sandbox = &estate.sandbox;
    refused(sandbox, &WITH, 2, &["nothing to bring back", "backstop snapshot"]);
    assert_eq!(sandbox.backstop(&["snapshot"]).code, 0);
    refused(sandbox, &["drill", "--key", "keys/tester.key"], 2, &["no identity was given"]);
    refused(sandbox, &["drill", "--identity", "keys/identity-1.txt", "--key", "keys/agent.key"], 2, &["agent's key"]);
    assert_eq!(sandbox.backstop(&["key", "new", "identity", "--out", "other.txt"]).code, 0);
    refused(sandbox, &["drill", "--identity", "other.txt", "--key", "keys/tester.key"], 2, &["none of the identities opens", "age1"]);
    refused(
        sandbox,
        &["drill", "alien-invasion", "--identity", "keys/identity-1.txt"],
        2,
        &["alien-invasion", "tenant-configuration-loss"],
    );
    let nowhere: Vec<&str> = WITH.iter().copied().chain(["--temporary", "nowhere"]).collect();
    refused(sandbox, &nowhere, 1, &["nowhere", "--temporary"]);
    refused(sandbox, &["drill", "show"], 2, &["no drill was ever attested"]);
    assert!(!sandbox.path("vault/attestations/drill").exists());
    // A tree of files is no tenant.
    let tree = Sandbox::new();
    tree.init();
    tree.write("tree/a.json", "{}");
    assert_eq!(tree.backstop(&["snapshot"]).code, 0);
    refused(&tree, &["drill", "--identity", "keys/identity-1.txt"], 2, &["no complete snapshot of a tenant"]);
}
