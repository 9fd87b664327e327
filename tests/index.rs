//! A status from an index says what one from the whole vault says, whatever happened since; an index that does not fit
//! counts for nothing; and neither it nor a schedule costs more where a chain is long.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/mod.rs"]
mod support;
#[path = "support/tenant.rs"]
mod tenant;
#[path = "support/witness.rs"]
mod witness;

use std::fs;

use backstop::objective::Survey;
use backstop::vault::attestation::Kind;
use backstop::vault::names::ChainName;
use backstop::vault::{Anchor, Ledger};
use jiff::SignedDuration;
use serde_json::Value;
use support::{LibraryVault, Sandbox};
use tenant::Estate;
use witness::Counting;

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

/// The status from the index and from the vault: the same, the first without reading the vault whole.
#[track_caller]
fn agree(sandbox: &Sandbox, after: &str) -> Value {
    let quick = sandbox.backstop(&["status", "--quick", "--json"]);
    let whole = sandbox.backstop(&["status", "--json"]);
    assert_eq!(quick.code, whole.code, "{after}");
    let (quick, whole) = (quick.json().remove(0), whole.json().remove(0));
    assert_ne!(quick["read_whole"], quick["at"], "{after}: it was read whole");
    assert_eq!(whole["read_whole"], whole["at"], "{after}");
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

#[test]
fn an_index_that_does_not_fit_counts_for_nothing() {
    let estate = Estate::new();
    let sandbox = &estate.sandbox;
    estate.snapshot("entra", 0);
    let is_read_whole = |because: &str| {
        let ran = sandbox.backstop(&["status", "--quick", "--json"]);
        let status = ran.json().remove(0);
        assert_eq!(status["read_whole"], status["at"], "{because}");
        assert_eq!(status["newest"][0]["sequence"], 1, "{because}");
    };
    is_read_whole("there is none");
    keep(sandbox);
    agree(sandbox, "a fitting one");
    let chain = format!("{INDEX}/snapshot.entra.index");
    let good = fs::read(sandbox.path(&chain)).unwrap();
    for (what, bytes) in [
        ("a chain cut short", good[..good.len() - 1].to_vec()),
        ("a chain with a byte changed", good.iter().enumerate().map(|(n, b)| if n == good.len() / 2 { b ^ 1 } else { *b }).collect()),
        ("a chain twice", [good.clone(), good.clone()].concat()),
        ("a chain of garbage", b"garbage".to_vec()),
    ] {
        sandbox.write(&chain, bytes);
        is_read_whole(what);
    }
    fs::remove_file(sandbox.path(&chain)).unwrap();
    is_read_whole("a chain that is gone");
    sandbox.write(&chain, &good);
    agree(sandbox, "the good one again");
    sandbox.write(&format!("{INDEX}/index.json"), "{}");
    is_read_whole("no stamp");
    keep(sandbox);
    // Whoever is trusted, and what was disposed of, stands on the vault's own chain.
    sandbox.json(&["hold", "add", "--source", "entra", "--reason", "r", "--authority", "a", "--key", "keys/operator.key"], 0);
    is_read_whole("the vault's own chain grew");
    // Another vault's.
    let other = Estate::new();
    other.snapshot("entra", 0);
    keep(&other.sandbox);
    fs::copy(other.sandbox.path(&format!("{INDEX}/index.json")), sandbox.path(&format!("{INDEX}/index.json"))).unwrap();
    is_read_whole("another vault's");
    // A tail that a checkpoint saw and that was cut off since.
    estate.snapshot("entra", 0);
    sandbox.json(&["checkpoint"], 0);
    sandbox.remove("vault/attestations/snapshot.entra/0000000002.json");
    fs::create_dir_all(sandbox.path("elsewhere")).unwrap();
    sandbox.backstop(&["status", "--index", "elsewhere"]);
    keep(sandbox);
    let cut = agree(sandbox, "a tail that was cut off");
    assert!(cut["findings"].to_string().contains("attestation"), "{cut}");
}

/// Snapshots an hour apart.
fn grow(vault: &LibraryVault, snapshots: usize) {
    for n in 0..snapshots {
        vault.sandbox.write("tree/a.json", format!("{{\"n\":{n}}}"));
        vault.snapshot().unwrap();
        vault.clock.advance_hours(1);
    }
}

fn ledger(vault: &LibraryVault) -> (std::sync::Arc<Counting>, Ledger) {
    let store = Counting::new(vault.store());
    let ledger = Ledger::open(store.clone(), &Anchor::Envelope(vault.genesis.clone())).unwrap();
    store.take();
    (store, ledger)
}

#[test]
fn neither_an_index_nor_a_schedule_costs_more_where_a_chain_is_long() {
    let vault = LibraryVault::new("2026-01-01T00:00:00Z");
    let chain: ChainName = "snapshot.tree".parse().unwrap();
    let dir = vault.sandbox.path("index");
    fs::create_dir_all(&dir).unwrap();
    let (mut asked, mut scheduled) = (Vec::new(), Vec::new());
    for snapshots in [8, 120] {
        grow(&vault, snapshots);
        let now = vault.store().now().unwrap();
        let (_, whole) = ledger(&vault);
        let survey = Survey::whole(&whole, now, Some(&dir)).unwrap();
        let entries = survey.entries(&chain).unwrap();
        survey.finish();
        grow(&vault, 3);
        let (store, quick) = ledger(&vault);
        let now = vault.store().now().unwrap();
        let survey = Survey::quick(&quick, now, &dir, SignedDuration::from_hours(48), false).unwrap();
        let more = survey.entries(&chain).unwrap();
        assert_eq!((more.len(), &more[..entries.len()]), (entries.len() + 3, &entries[..]));
        asked.push(store.take().len());

        let (store, fresh) = ledger(&vault);
        let counts = |a: &backstop::vault::Attested| a.statement.kind == Kind::Snapshot;
        let newest = fresh.newest(&chain, 0, counts).unwrap().unwrap();
        assert_eq!(newest.sequence(), more.len() as u64);
        let first = store.take();
        assert!(!first.iter().any(|o| format!("{o:?}").contains("attestations/snapshot.tree/\"")), "the chain is listed: {first:?}");
        let known = fresh.newest(&chain, newest.sequence(), counts).unwrap().unwrap();
        assert_eq!(known.sequence(), newest.sequence());
        scheduled.push((first.len(), store.take().len()));
    }
    assert_eq!(asked[0], asked[1], "operations of an index");
    assert_eq!(scheduled[0].1, scheduled[1].1, "operations of a schedule that knows a number");
    assert!(scheduled[1].0 <= 60, "by doubling: {scheduled:?}");
}

#[test]
fn a_hole_or_a_lost_head_leads_a_schedule_astray_at_most_until_a_listing() {
    let vault = LibraryVault::new("2026-01-01T00:00:00Z");
    let chain: ChainName = "snapshot.tree".parse().unwrap();
    grow(&vault, 20);
    let counts = |a: &backstop::vault::Attested| a.statement.kind == Kind::Snapshot;
    let newest = |known| vault.ledger().newest(&chain, known, counts).unwrap().map(|a| a.sequence());
    assert_eq!(newest(0), Some(20));
    // Three in a row are stepped over, wherever they lie.
    for n in 9..12 {
        vault.sandbox.remove(&format!("vault/attestations/snapshot.tree/{n:010}.json"));
    }
    assert_eq!((newest(0), newest(8), newest(12)), (Some(20), Some(20), Some(20)));
    // A number that was known and is gone: the chain is listed.
    vault.sandbox.remove("vault/attestations/snapshot.tree/0000000020.json");
    assert_eq!(newest(20), Some(19));
    // What does not count is passed by.
    assert_eq!(vault.ledger().newest(&chain, 0, |a| a.sequence() <= 5).unwrap().map(|a| a.sequence()), Some(5));
    assert_eq!(vault.ledger().newest(&chain, 0, |_| false).unwrap().map(|a| a.sequence()), None);
    assert_eq!(vault.ledger().newest(&"snapshot.none".parse().unwrap(), 0, counts).unwrap().map(|a| a.sequence()), None);
}
