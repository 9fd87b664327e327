//! What a hurried engineer restores: the state at an instant, one collection, one record, or what is called so; and what
//! it would be, before it is.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/mod.rs"]
mod support;
#[path = "support/tenant.rs"]
mod tenant;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::{Sandbox, walk};
use tenant::Estate;

const IDENTITY: [&str; 2] = ["--identity", "keys/identity-1.txt"];

fn files(dir: &Path) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    walk(dir, &mut |path| {
        if path.is_file() {
            out.insert(path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned());
        }
    });
    out
}

fn with_identity<'a>(args: &[&'a str]) -> Vec<&'a str> {
    args.iter().copied().chain(IDENTITY).collect()
}

fn captured(line: &Value) -> Timestamp {
    line["captured"].as_str().unwrap().parse().unwrap()
}

#[test]
fn an_instant_leads_to_the_newest_point_at_or_before_it() {
    let sandbox = Sandbox::new();
    sandbox.init();
    let mut lines = Vec::new();
    for state in ["one", "two", "three"] {
        sandbox.write("tree/state", state);
        lines.push(sandbox.json(&["snapshot"], 0).remove(0));
        sleep(Duration::from_millis(1100));
    }
    let restored = |at: Timestamp, to: &str| {
        let at = at.to_string();
        let report = sandbox.json(&with_identity(&["restore", "files", "--at", &at, "--to", to]), 0).remove(0);
        (report["run"].clone(), fs::read_to_string(sandbox.path(to).join("state")).unwrap())
    };
    let almost = SignedDuration::from_millis(1);
    for (n, state) in ["one", "two", "three"].iter().enumerate() {
        let exactly = restored(captured(&lines[n]), &format!("at-{n}"));
        assert_eq!(exactly, (lines[n]["run"].clone(), (*state).to_owned()));
        if n > 0 {
            let before = restored(captured(&lines[n]) - almost, &format!("before-{n}"));
            assert_eq!(before.0, lines[n - 1]["run"]);
        }
    }
    let early = (captured(&lines[0]) - almost).to_string();
    let ran = sandbox.backstop(&with_identity(&["restore", "files", "tree", "--at", &early, "--to", "early"]));
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    let first = lines[0]["captured"].as_str().unwrap();
    assert!(ran.stderr.contains("no recovery point at or before") && ran.stderr.contains(first), "{}", ran.stderr);
    let ran = sandbox.backstop(&with_identity(&["restore", "files", "nobody", "--at", &early, "--to", "early"]));
    assert!(ran.code == 2 && ran.stderr.contains("it has: tree"), "{}", ran.stderr);
    assert!(!sandbox.path("early").exists());
    let ran = sandbox.backstop(&with_identity(&["restore", "files", "--at", "yesterday", "--to", "early"]));
    assert!(ran.code == 2 && ran.stderr.contains("--at \"yesterday\" is not an instant"), "{}", ran.stderr);
}

#[test]
fn a_collection_and_an_id_are_enough_to_say() {
    let estate = Estate::new();
    estate.snapshot("entra", 0);
    let everything = files(&estate.restore("entra", "all"));
    let restore = |more: &[&str], to: &str| {
        let args: Vec<&str> = ["restore", "files", "entra", "--to", to].into_iter().chain(more.iter().copied()).collect();
        let report = estate.sandbox.json(&with_identity(&args), 0).remove(0);
        let got = files(&estate.sandbox.path(to));
        assert_eq!(report["entries"].as_u64().unwrap() as usize, got.len());
        got
    };
    let below = |folder: &str| everything.iter().filter(|p| p.starts_with(folder)).cloned().collect::<BTreeSet<_>>();
    assert!(below("users/").len() >= 60 && below("groups/").len() > 1);
    assert_eq!(restore(&["--collection", "entra.users"], "users"), below("users/"));
    let both: BTreeSet<String> = below("users/").union(&below("groups/")).cloned().collect();
    assert_eq!(restore(&["--collection", "entra.users", "--collection", "groups"], "both"), both);
    let id = estate.ids("entra.users").into_iter().next().unwrap();
    let own = format!("users/{id}.json");
    assert!(restore(&["--id", &id], "id").contains(&own));
    assert_eq!(restore(&["--collection", "entra.users", "--id", &id], "one"), BTreeSet::from([own.clone()]));
    assert_eq!(fs::read(estate.sandbox.path("one").join(&own)).unwrap(), fs::read(estate.sandbox.path("all").join(&own)).unwrap());
    let ran =
        estate.sandbox.backstop(&with_identity(&["restore", "files", "entra", "--to", "no", "--collection", "entra.groups", "--id", &id]));
    assert!(ran.code == 1 && ran.stderr.contains("nothing in the run") && ran.stderr.contains("backstop find"), "{}", ran.stderr);
    // Of several the one that is there comes back, and the others are named.
    let several = ["--collection", "entra.users", "--collection", "entra.groups", "--id", &id, "--id", "nobody", "--path", "no/*"];
    for (n, how) in [&["--to", "several"][..], &["--dry-run"], &["--estimate"]].into_iter().enumerate() {
        let ran = estate.sandbox.backstop(&with_identity(&[&["restore", "files", "entra", "--json"], how, &several].concat()));
        assert_eq!(ran.code, 6, "{how:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("fits no/*, the id nobody"), "{how:?}: {}", ran.stderr);
        let report = &ran.json()[0];
        assert_eq!(report["entries"], 1, "{report}");
        if n < 2 {
            assert_eq!(report["not_found"], json!(["no/*", "the id nobody"]));
        }
    }
    assert_eq!(files(&estate.sandbox.path("several")), BTreeSet::from([own]));
    // A collection that had no record when it was captured is not missing; one that is no collection is.
    let folder =
        |name: &str| estate.sandbox.backstop(&with_identity(&["restore", "files", "entra", "--dry-run", "--json", "--collection", name]));
    assert_eq!(folder("entra.nothing").code, 1);
    estate.tenant.disaster("conditional-access-removed").unwrap();
    estate.snapshot("entra", 0);
    let none = folder("entra.conditionalAccessPolicies");
    assert_eq!((none.code, &none.json()[0]["entries"], &none.json()[0]["not_found"]), (0, &json!(0), &json!([])), "{}", none.stderr);
}

#[test]
fn a_dry_run_says_what_a_restore_then_does_and_writes_nothing() {
    let estate = Estate::new();
    estate.snapshot("entra", 0);
    let dry = estate.sandbox.json(&with_identity(&["restore", "files", "entra", "--dry-run", "--collection", "entra.users"]), 0).remove(0);
    let done =
        estate.sandbox.json(&with_identity(&["restore", "files", "entra", "--to", "out", "--collection", "entra.users"]), 0).remove(0);
    assert_eq!((&dry["run"], &dry["entries"], &dry["restored_bytes"]), (&done["run"], &done["entries"], &done["restored_bytes"]));
    assert_eq!(dry["dry_run"], true);
    assert!(dry["objects"].as_u64().unwrap() >= 1 && dry["stored_bytes"].as_u64().unwrap() > 0, "{dry}");
    let ran = estate.sandbox.backstop(&with_identity(&["restore", "files", "entra", "--dry-run", "--to", "nothing"]));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("nothing was written") && ran.stdout.contains("users/"), "{}{}", ran.stdout, ran.stderr);
    assert!(!estate.sandbox.path("nothing").exists());
}

#[test]
fn records_are_found_by_what_people_call_them() {
    let estate = Estate::new();
    estate.snapshot("entra", 0);
    let dir = estate.restore("entra", "all");
    let path = files(&dir).into_iter().find(|p| p.starts_with("users/")).unwrap();
    let user: Value = serde_json::from_slice(&fs::read(dir.join(&path)).unwrap()).unwrap();
    let (name, upn, id) = (&user["displayName"], &user["userPrincipalName"], &user["id"]);
    for said in [name, upn, id].map(|v| v.as_str().unwrap()) {
        for spelled in [said.to_owned(), said.to_uppercase()] {
            let found = estate.sandbox.json(&with_identity(&["find", &spelled]), 0);
            let own = found.iter().find(|f| f["path"] == path.as_str()).unwrap_or_else(|| panic!("{spelled}: {found:?}"));
            assert_eq!((&own["collection"], &own["name"], &own["source"]), (&"entra.users".into(), name, &"entra".into()));
        }
    }
    // All whose names hold it, and no others.
    let part = name.as_str().unwrap().split(' ').next().unwrap().to_lowercase();
    let found: BTreeSet<String> = estate
        .sandbox
        .json(&with_identity(&["find", &part]), 0)
        .iter()
        .map(|f| f["path"].as_str().unwrap().to_owned())
        .filter(|p| p.starts_with("users/"))
        .collect();
    let holds = |p: &String| {
        let user: Value = serde_json::from_slice(&fs::read(dir.join(p)).unwrap()).unwrap();
        ["displayName", "userPrincipalName", "mail", "id"]
            .iter()
            .any(|k| user[k].as_str().is_some_and(|t| t.to_lowercase().contains(&part)))
    };
    let expected: BTreeSet<String> = files(&dir).into_iter().filter(|p| p.starts_with("users/")).filter(holds).collect();
    assert_eq!(found, expected);
    // In an earlier state, by its run or by an instant.
    let old = captured(&estate.snapshot("entra", 0).0).to_string();
    let user_id = id.as_str().unwrap();
    for (args, code) in [(["--at", &old], 0), (["--run", "entra~1"], 0), (["--at", "2020-01-01"], 2), (["--run", "entra~9"], 2)] {
        let ran = estate.sandbox.backstop(&with_identity(&[&["find", user_id][..], &args[..]].concat()));
        assert_eq!((ran.code, ran.stdout.contains(&path)), (code, code == 0), "{args:?}: {}{}", ran.stdout, ran.stderr);
    }
    let ran = estate.sandbox.backstop(&with_identity(&["find", "nobody is called so"]));
    assert!(ran.code == 1 && ran.stderr.contains("nothing is called") && ran.stderr.contains("--at"), "{}", ran.stderr);
    assert_eq!(estate.sandbox.backstop(&["find", "x"]).code, 2, "it needs an identity");
}

#[test]
fn what_cannot_be_looked_into_is_named_and_the_rest_found() {
    let estate = Estate::new();
    estate.snapshot("entra", 0);
    let objects = estate.sandbox.objects();
    let segment =
        objects.iter().find(|o| o.contains("config-snapshots/entra/") && o.contains("/segment-")).unwrap_or_else(|| panic!("{objects:?}"));
    estate.sandbox.tamper(&format!("vault/{segment}"), |bytes| bytes[40] ^= 1);
    let ran = estate.sandbox.backstop(&with_identity(&["find", "users"]));
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("lost"), "{}", ran.stderr);
}

#[test]
fn a_restore_that_was_broken_off_goes_on_and_writes_only_what_is_missing() {
    let sandbox = Sandbox::new();
    sandbox.init();
    for n in 0..30 {
        sandbox.write(&format!("tree/{n:02}.json"), format!("{{\"n\":{n}}}"));
    }
    let large: Vec<u8> = (0..9usize << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    sandbox.write("tree/large.bin", &large);
    assert_eq!(sandbox.backstop(&["snapshot"]).code, 0);
    let id = "keys/identity-1.txt";
    let whole = sandbox.json(&["restore", "files", "tree", "--to", "out", "--identity", id], 0).remove(0);
    assert_eq!((&whole["entries"], &whole["kept"]), (&json!(31), &json!(0)));
    // Missing, cut short, changed, and a link in the place of a file.
    let out = sandbox.path("out");
    fs::remove_file(out.join("03.json")).unwrap();
    fs::write(out.join("04.json"), "{\"n\"").unwrap();
    fs::write(out.join("05.json"), "{\"n\":6}").unwrap();
    fs::remove_file(out.join("06.json")).unwrap();
    std::os::unix::fs::symlink(sandbox.path("elsewhere"), out.join("06.json")).unwrap();
    sandbox.write("elsewhere", "{\"n\":6}");
    let written = fs::metadata(out.join("00.json")).unwrap().modified().unwrap();
    let again = sandbox.json(&["restore", "files", "tree", "--to", "out", "--resume", "--identity", id], 0).remove(0);
    assert_eq!((&again["entries"], &again["kept"], &again["tree_matches"]), (&json!(31), &json!(27), &json!(true)), "{again}");
    assert_eq!(fs::metadata(out.join("00.json")).unwrap().modified().unwrap(), written, "what was right was left");
    assert_eq!(fs::read(out.join("large.bin")).unwrap(), large);
    for n in 3..7 {
        assert_eq!(fs::read_to_string(out.join(format!("{n:02}.json"))).unwrap(), format!("{{\"n\":{n}}}"));
    }
    assert_eq!(fs::read_to_string(sandbox.path("elsewhere")).unwrap(), "{\"n\":6}", "nothing is written through a link");
    assert!(!out.join("06.json").is_symlink());
    // What is not of the run is left, and told: the directory is not the state.
    fs::write(out.join("foreign.txt"), "mine").unwrap();
    let mixed = sandbox.json(&["restore", "files", "tree", "--to", "out", "--resume", "--identity", id], 0).remove(0);
    assert_eq!((&mixed["foreign"], &mixed["tree_matches"]), (&json!(1), &Value::Null), "{mixed}");
    // Without saying so nothing is touched.
    assert_eq!(sandbox.backstop(&["restore", "files", "tree", "--to", "out", "--identity", id]).code, 2);
}

#[test]
fn how_long_it_takes_is_told_beforehand_from_what_it_took() {
    let sandbox = Sandbox::new();
    sandbox.init();
    sandbox.write("tree/a.json", "{}");
    sandbox.write("tree/b/c.json", "{}");
    assert_eq!(sandbox.backstop(&["snapshot"]).code, 0);
    let estimate = ["restore", "files", "tree", "--estimate"];
    let nothing = sandbox.json(&estimate, 0).remove(0);
    assert_eq!((&nothing["estimated_seconds"], &nothing["entries"]), (&Value::Null, &json!(3)), "nothing was measured: {nothing}");
    let id = "keys/identity-1.txt";
    let took = sandbox.json(&["restore", "files", "tree", "--to", "out", "--identity", id], 0).remove(0)["duration_seconds"].clone();
    let known = sandbox.json(&estimate, 0).remove(0);
    assert_eq!((&known["measurements"], &known["objective_seconds"]), (&json!(1), &json!(14_400)));
    let told = known["estimated_seconds"].as_f64().unwrap();
    assert!((told - took.as_f64().unwrap()).abs() < 0.2, "{told} {took}");
    assert!(known["measured"].is_string());
    // A part of it takes a part.
    let part = sandbox.json(&["restore", "files", "tree", "--estimate", "--path", "b/*", "--identity", id], 0).remove(0);
    assert_eq!(part["entries"], 1, "{part}");
    // A test measures, too.
    assert_eq!(sandbox.backstop(&["restore-test", "--identity", id]).code, 0);
    assert_eq!(sandbox.json(&estimate, 0)[0]["measurements"], 2);
    // What was measured says that four hours are not enough.
    let slow = json!({ "at": "2036-01-01T00:00:00Z", "class": "configuration", "entries": 1, "stored_bytes": 1, "seconds": 90_000.0 });
    let kept = fs::read_to_string(sandbox.path(".backstop/measured.ndjson")).unwrap();
    sandbox.write(".backstop/measured.ndjson", format!("{kept}{slow}\nno json\n"));
    let late = sandbox.json(&estimate, 4).remove(0);
    assert!(late["estimated_seconds"].as_f64().unwrap() > 14_400.0, "{late}");
    let status = sandbox.json(&["status"], 4).remove(0);
    assert!(status["findings"].as_array().unwrap().iter().any(|f| f["kind"] == "rto_out_of_reach"), "{status}");
}
