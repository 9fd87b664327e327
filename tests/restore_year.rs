//! A year of weekly restore tests on a moved clock: a growing vault is covered whole every quarter, each of thirty damages is
//! found by the first test that covers it, and another program finds the same coverage, RPO and availability.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::forge::Forge;
use support::{Ran, Sandbox};

const ID: [&str; 2] = ["--identity", "keys/identity-1.txt"];

fn at(sandbox: &Sandbox, now: Timestamp, args: &[&str]) -> Ran {
    let (preload, clock) = (support::faketime(), format!("@{}", now.strftime("%Y-%m-%d %H:%M:%S")));
    let env = [
        ("LD_PRELOAD", preload.to_str().unwrap()),
        ("FAKETIME", clock.as_str()),
        ("DONT_FAKE_MONOTONIC", "1"),
        ("NO_FAKE_STAT", "1"),
        ("TZ", "UTC"),
    ];
    sandbox.backstop_with(args, &env)
}

fn done(ran: &Ran) {
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
}

/// The chain and number of the run that attests each data object, by another program.
fn recomputed(sandbox: &Sandbox, now: &str) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/recompute_objectives.py");
    let ran = sandbox.shell(&format!("python3 {} vault {now} 3600 snapshot.tree export.log", script.display()));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.json().remove(0)
}

/// What the newest test says that it covers.
fn covered(sandbox: &Sandbox, test: &Value) -> Vec<(String, u64, u64)> {
    let statement = Forge::new(sandbox, ".").statement("restore-test", test["sequence"].as_u64().unwrap());
    let ranges = statement.predicate.details["covered"].as_array().unwrap().iter();
    ranges.map(|r| (r["chain"].as_str().unwrap().to_owned(), r["from"].as_u64().unwrap(), r["to"].as_u64().unwrap())).collect()
}

/// Takes back the damages that a test named; gives how many.
fn mend(sandbox: &Sandbox, damages: &mut BTreeMap<String, (usize, String, u64)>, report: &Value) -> usize {
    let problems = report["problems"].as_array().unwrap();
    let named: Vec<String> = damages.keys().filter(|name| problems.iter().any(|p| p["object"] == json!(name))).cloned().collect();
    for name in &named {
        let (place, ..) = damages.remove(name).unwrap();
        sandbox.tamper(&format!("vault/{name}"), |bytes| bytes[place] ^= 0x10);
    }
    named.len()
}

#[test]
fn a_year_of_weekly_tests_covers_everything_and_finds_every_damage() {
    let sandbox = Sandbox::new();
    sandbox.write("tree/0.json", "{}");
    let start: Timestamp = "2026-01-04T03:00:00Z".parse().unwrap();
    done(&at(&sandbox, start, &["init", "--dir", ".", "--source", "tree=tree", "--stream", "log"]));
    let (hours, forge) = (SignedDuration::from_hours, Forge::new(&sandbox, "."));
    let mut damages: BTreeMap<String, (usize, String, u64)> = BTreeMap::new();
    let (mut injected, mut found, mut full) = (0, 0, 0);
    let mut lottery: u64 = 20_261_125;
    let mut draw = |below: usize| {
        lottery = lottery.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(lottery >> 33).unwrap() % below
    };
    // Which run attests each object of the data.
    let mut attested: Vec<(String, String, u64)> = Vec::new();
    for week in 0..52i64 {
        let monday = start + hours(24 * 7 * week);
        for day in [0, 2, 4] {
            let now = monday + hours(24 * day + 1);
            sandbox.write(&format!("tree/{}.json", week * 3 + day), format!("{{\"week\":{week},\"day\":{day}}}"));
            sandbox.write("tree/often.json", format!("{{\"at\":\"{now}\"}}"));
            done(&at(&sandbox, now, &["snapshot", "--json"]));
            sandbox.write(
                "events.ndjson",
                (0..20)
                    .map(|n| format!("{{\"id\":\"{week}-{day}-{n}\",\"createdDateTime\":\"{}\"}}\n", now - hours(n)))
                    .collect::<String>(),
            );
            done(&at(&sandbox, now + SignedDuration::from_mins(5), &["import", "log", "events.ndjson"]));
        }
        for chain in ["snapshot.tree", "export.log"] {
            let known = attested.iter().filter(|(_, c, _)| c == chain).map(|(.., n)| *n).max().unwrap_or(0);
            for number in known + 1..=forge.head(chain) {
                let objects = forge.statement(chain, number).predicate.objects;
                let names = objects.into_iter().map(|o| o.name).filter(|n| !n.starts_with("attestations/"));
                attested.extend(names.map(|name| (name, chain.to_owned(), number)));
            }
        }
        // Thirty damages in fifty weeks: old objects and new ones.
        if injected < 30 && week % 5 != 4 {
            let (name, chain, number) = attested[draw(attested.len())].clone();
            if let Entry::Vacant(place) = damages.entry(name.clone()) {
                let length = fs::metadata(sandbox.path(&format!("vault/{name}"))).unwrap().len();
                let at = draw(usize::try_from(length).unwrap());
                sandbox.tamper(&format!("vault/{name}"), |bytes| bytes[at] ^= 0x10);
                place.insert((at, chain, number));
                injected += 1;
            }
        }
        let sunday = monday + hours(24 * 6 + 1);
        let test = |now: Timestamp| {
            let args: Vec<&str> = ["restore-test", "--json"].iter().chain(&ID).copied().collect();
            let ran = at(&sandbox, now, &args);
            assert!(ran.code == 0 || ran.code == 3, "{}{}", ran.stdout, ran.stderr);
            (ran.code, ran.json().remove(0))
        };
        let (code, report) = test(sunday);
        let drawn: Vec<&str> = report["tested"].as_array().unwrap().iter().map(|t| t["drawn"].as_str().unwrap()).collect();
        assert!(drawn.len() >= 2 && drawn[..2] == ["newest", "newest"] && !drawn[2..].contains(&"newest"), "the newest first: {drawn:?}");
        let ranges = covered(&sandbox, &report);
        let hit = |chain: &str, number: u64| ranges.iter().any(|(c, from, to)| c == chain && (*from..=*to).contains(&number));
        let expected: Vec<String> = damages.iter().filter(|(_, (_, chain, n))| hit(chain, *n)).map(|(name, _)| name.clone()).collect();
        assert_eq!(code, if expected.is_empty() { 0 } else { 3 }, "week {week}: {report}");
        let named = |name: &String| report["problems"].as_array().unwrap().iter().any(|p| p["object"] == json!(name));
        for name in &expected {
            assert!(named(name), "week {week}: {name} is not named in {report}");
        }
        assert!(report["problems"].as_array().unwrap().iter().all(|p| expected.iter().any(|name| p["object"] == json!(name))), "{report}");
        // What was found is mended, and tested again.
        let mut report = report;
        found += mend(&sandbox, &mut damages, &report);
        if code == 3 {
            report = test(sunday + hours(1)).1;
            found += mend(&sandbox, &mut damages, &report);
        }
        if week % 13 == 12 {
            // What was mended is covered again by the tests that follow.
            let mut late = sunday + hours(2);
            while report["coverage"] != json!(1.0) {
                report = test(late).1;
                found += mend(&sandbox, &mut damages, &report);
                late += hours(1);
                assert!(late < sunday + hours(6), "week {week}: {}", report["coverage"]);
            }
            full += 1;
        }
        if week % 10 == 9 || week == 51 {
            let ran = at(&sandbox, sunday + hours(23), &["status", "--json"]);
            let status = ran.json().remove(0);
            let other = recomputed(&sandbox, status["at"].as_str().unwrap());
            assert_eq!(
                (&status["stored_bytes"], &status["covered_bytes"]),
                (&other["stored_bytes"], &other["covered_bytes"]),
                "week {week}"
            );
            assert_eq!(status["rpo"][0]["achieved_seconds"], other["rpo"]["snapshot.tree"]);
            for days in ["days_30", "days_365"] {
                assert_eq!(status["availability"][days]["beyond_seconds"], other[days]["beyond_seconds"], "week {week}: {status} {other}");
            }
        }
    }
    // What was damaged last lies in what will be drawn within the next eleven.
    let mut week = 52;
    while !damages.is_empty() {
        let now = start + hours(24 * (7 * week + 6));
        let args: Vec<&str> = ["restore-test", "--json"].iter().chain(&ID).copied().collect();
        found += mend(&sandbox, &mut damages, &at(&sandbox, now, &args).json().remove(0));
        week += 1;
        assert!(week < 64, "never found: {damages:?}");
    }
    assert_eq!((injected, found, full), (30, 30, 4));
}
