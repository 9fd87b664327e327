//! What things cost, in objects and bytes and never in seconds: a quiet night, a small change, one record
//! back, a difference, an audit, an index, a schedule.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/mod.rs"]
mod support;
#[path = "support/witness.rs"]
mod witness;

use std::collections::BTreeMap;
use std::fs;

use backstop::backup::SnapshotReport;
use backstop::objective::Survey;
use backstop::restore::{Change, diff};
use backstop::vault::attestation::Kind;
use backstop::vault::names::{ChainName, is_manifest, is_segment};
use backstop::vault::{Anchor, Ledger};
use jiff::SignedDuration;
use support::LibraryVault;
use witness::{Call, Counting, audited, opens, puts, restore};

const RECORDS: usize = 2000;

/// A vault with one base of two segments of small records, on the first of a month.
struct Estate {
    vault: LibraryVault,
    base: SnapshotReport,
}

fn record(n: usize, version: usize) -> String {
    // 12 kB each: the base then has two segments.
    let noise: String =
        (0..180).map(|k| format!("\"k{k}\":\"{:016x}-{version}-{:032x}\",", n * 7919 + k, (n * 31 + k) * 104_729)).collect();
    format!("{{{noise}\"id\":\"{n:05}\",\"version\":{version}}}")
}

fn path(n: usize) -> String {
    format!("tree/{}/{n:05}.json", if n.is_multiple_of(2) { "assignments" } else { "roles" })
}

impl Estate {
    fn new() -> Self {
        let vault = LibraryVault::new("2026-11-02T02:00:00Z");
        for n in 0..RECORDS {
            vault.sandbox.write(&path(n), record(n, 1));
        }
        let base = vault.snapshot().unwrap();
        assert_eq!(base.objects, 3, "two segments and a manifest");
        vault.clock.advance_hours(1);
        Self { vault, base }
    }

    /// Changes some records and takes a snapshot an hour later; gives what it created too.
    fn delta(&self, changed: &[usize], version: usize) -> (SnapshotReport, Vec<(String, u64)>) {
        for n in changed {
            self.vault.sandbox.write(&path(*n), record(*n, version));
        }
        let store = Counting::new(self.vault.store());
        let report = self.vault.snapshot_with(&self.vault.writer_on(store.clone()).unwrap(), "state").unwrap();
        self.vault.clock.advance_hours(1);
        (report, puts(&store.take()))
    }

    fn counted_ledger(&self) -> (std::sync::Arc<Counting>, Ledger) {
        let store = Counting::new(self.vault.store());
        let ledger = Ledger::open(store.clone(), &Anchor::Envelope(self.vault.genesis.clone())).unwrap();
        store.take();
        (store, ledger)
    }
}

/// How many of each: envelopes, manifests, segments, others.
fn kinds<'a>(names: impl IntoIterator<Item = &'a String>) -> [usize; 4] {
    let mut counts = [0; 4];
    for name in names {
        let kind = match name.as_str() {
            n if n.starts_with("attestations/") && n.ends_with(".json") => 0,
            n if is_manifest(n) => 1,
            n if is_segment(n) => 2,
            _ => 3,
        };
        counts[kind] += 1;
    }
    counts
}

#[test]
fn a_quiet_night_costs_one_manifest_and_one_envelope() {
    let estate = Estate::new();
    let (report, created) = estate.delta(&[], 1);
    assert_eq!((report.changed, report.deleted, report.objects), (0, 0, 1));
    assert_eq!(kinds(created.iter().map(|c| &c.0)), [1, 1, 0, 0], "{created:?}");
    let (sealed, envelope): (Vec<_>, Vec<_>) = created.into_iter().partition(|(name, _)| is_manifest(name));
    assert!(sealed[0].1 < 2000, "the manifest has {} bytes", sealed[0].1);
    assert_eq!(report.stored_bytes, sealed[0].1);
    assert!(envelope[0].1 < 3000, "the envelope has {} bytes", envelope[0].1);
}

#[test]
fn a_quiet_night_costs_the_same_whatever_the_size_of_the_tenant() {
    let estate = Estate::new();
    let small = LibraryVault::new("2026-11-02T02:00:00Z");
    for n in 0..10 {
        small.sandbox.write(&path(n), record(n, 1));
    }
    small.snapshot().unwrap();
    small.clock.advance_hours(1);
    let quiet = small.snapshot().unwrap();
    let (large, _) = estate.delta(&[], 1);
    // age adds a stanza of random length to each header, some two hundred bytes at most; a byte for each record would be more.
    assert!(large.stored_bytes.abs_diff(quiet.stored_bytes) < 400, "{} against {}", large.stored_bytes, quiet.stored_bytes);
}

#[test]
fn a_small_change_costs_two_objects_of_its_own_size() {
    let estate = Estate::new();
    let changed: Vec<usize> = (0..RECORDS).step_by(200).collect();
    let (report, created) = estate.delta(&changed, 2);
    assert_eq!((report.changed, report.objects), (RECORDS as u64 / 200, 2), "half a percent");
    assert_eq!(kinds(created.iter().map(|c| &c.0)), [1, 1, 1, 0], "{created:?}");
    let plain: usize = changed.iter().map(|n| record(*n, 2).len()).sum();
    assert!(report.stored_bytes < plain as u64, "{} stored for {plain}", report.stored_bytes);
    assert!(report.stored_bytes * 20 < estate.base.stored_bytes, "{} against the base's {}", report.stored_bytes, estate.base.stored_bytes);
}

#[test]
fn a_deletion_and_a_new_directory_cost_no_segment() {
    let estate = Estate::new();
    std::fs::remove_file(estate.vault.sandbox.path(&path(7))).unwrap();
    std::fs::create_dir(estate.vault.sandbox.path("tree/empty")).unwrap();
    let (report, created) = estate.delta(&[], 1);
    assert_eq!((report.changed, report.deleted, report.objects), (1, 1, 1));
    assert_eq!(kinds(created.iter().map(|c| &c.0)), [1, 1, 0, 0], "{created:?}");
}

#[test]
fn unchanged_records_are_not_read_again() {
    let estate = Estate::new();
    // A record that was touched a moment ago has no fingerprint yet.
    let sleep = std::time::Duration::from_millis(1500);
    std::thread::sleep(sleep);
    estate.delta(&[], 1);
    let (report, _) = estate.delta(&[3], 2);
    assert_eq!(report.read_bytes, record(3, 2).len() as u64);
}

#[test]
fn one_record_comes_back_from_its_manifests_and_one_segment() {
    let estate = Estate::new();
    estate.delta(&[0, 2], 2);
    estate.delta(&[4], 3);
    let (last, _) = estate.delta(&[], 3);
    for (n, version) in [(1001, 1), (0, 2), (4, 3)] {
        let (store, ledger) = estate.counted_ledger();
        let relative = path(n);
        let only = relative.trim_start_matches("tree/");
        let to = estate.vault.sandbox.path(&format!("back-{n}"));
        let report = restore(&ledger, &estate.vault.identities, "snapshot.tree", last.run, &to, &[only]);
        assert_eq!(std::fs::read_to_string(to.join(only)).unwrap(), record(n, version));
        let opened = opens(&store.take());
        // Base manifest, three deltas' manifests, the one segment; and the four envelopes that name them.
        assert_eq!(kinds(&opened), [4, 4, 1, 0], "{opened:#?}");
        assert_eq!(report.objects_read, 5);
    }
}

#[test]
fn neighbours_are_compared_from_deltas_and_the_segments_that_hold_the_changes() {
    let estate = Estate::new();
    let (a, _) = estate.delta(&[10], 2);
    let (b, _) = estate.delta(&[12, 14], 3);
    let chain = "snapshot.tree".parse().unwrap();
    let (store, ledger) = estate.counted_ledger();
    let report = diff(&ledger, &estate.vault.identities, (&chain, a.run), (&chain, b.run)).unwrap();
    let paths: Vec<(&str, Change)> = report.changes.iter().map(|c| (c.path.as_str(), c.change)).collect();
    assert_eq!(paths, [("assignments/00012.json", Change::Changed), ("assignments/00014.json", Change::Changed)]);
    let opened = opens(&store.take());
    let mut times: BTreeMap<&String, usize> = BTreeMap::new();
    opened.iter().filter(|name| is_segment(name)).for_each(|name| *times.entry(name).or_default() += 1);
    // The delta's own segment with the new bytes, and of the base's two only the one with the old bytes.
    assert_eq!(times.len(), 2, "{times:?}");
    assert!(times.values().all(|n| *n == 1), "{times:?}");
    // The delta between says which paths; the state before and after is read from base and deltas: 1 + 2 + 3.
    assert_eq!(kinds(&opened)[1..], [6, 2, 0], "{opened:#?}");
    assert_eq!(report.objects_read, 8);
    // Of nothing changed, one manifest tells.
    let (c, _) = estate.delta(&[], 3);
    let (store, ledger) = estate.counted_ledger();
    let report = diff(&ledger, &estate.vault.identities, (&chain, b.run), (&chain, c.run)).unwrap();
    assert!(report.changes.is_empty());
    assert_eq!(kinds(&opens(&store.take()))[1..], [1, 0, 0]);
}

#[test]
fn an_audit_reads_each_object_once() {
    let estate = Estate::new();
    estate.delta(&[1, 2, 3], 2);
    estate.delta(&[4], 3);
    let (store, ledger) = estate.counted_ledger();
    let report = audited(&ledger, None);
    assert!(report.ok, "{:?}", report.findings);
    let read = store.bytes_read();
    let calls = store.take();
    let mut attested = BTreeMap::new();
    let mut envelopes = 0;
    for chain in ledger.chains().unwrap() {
        for a in ledger.chain(&chain).unwrap().attested {
            envelopes += estate.vault.store().head(&a.name).unwrap().unwrap().size;
            attested.extend(a.statement.predicate.objects.iter().map(|o| (o.name.clone(), o.size)));
        }
    }
    let sizes: u64 = attested.values().sum();
    assert_eq!(report.objects, attested.len() as u64);
    assert_eq!(report.verified_bytes, sizes);
    let opened = opens(&calls);
    for name in attested.keys() {
        assert_eq!(opened.iter().filter(|o| *o == name).count(), 1, "{name}");
    }
    // Besides the objects, at most every envelope once: genesis was read when the ledger was opened.
    assert!(read >= sizes && read <= sizes + envelopes, "{read} bytes were read for {sizes} of objects and {envelopes} of envelopes");
    let mut once: Vec<&String> = opened.iter().collect();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), opened.len(), "nothing is opened twice");
    let heads = calls.iter().filter(|c| matches!(c, witness::Call::Head(_))).count();
    assert_eq!(heads, 0, "locks are read from listings, never object by object");
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
        assert!(!first.iter().any(|call| *call == Call::List("attestations/snapshot.tree/".into())), "the chain is listed: {first:?}");
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
