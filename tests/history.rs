//! Random histories of an estate, over months, with lost state and interruptions: every snapshot that was
//! committed restores to what stood there when it was taken, and two of them differ as the model does.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/mod.rs"]
mod support;
#[path = "support/witness.rs"]
mod witness;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstop::backup::{SnapshotError, SnapshotJob, SnapshotReport, StateDir, snapshot};
use backstop::observe::Silent;
use backstop::restore::{Change, diff};
use backstop::source::{FilesOptions, FilesSource, PathGlobs};
use backstop::store::Store;
use backstop::vault::epoch::EpochKind;
use backstop::vault::names::{Container, RunId};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestRunner};
use support::LibraryVault;
use support::faulty::{Fault, FaultyStore};
use witness::{Tree, audited, differences, errors, look, restored, snapshots};

/// One change of the estate. Names are numbers into small pools, so that changes meet.
#[derive(Debug, Clone)]
enum Op {
    Write {
        path: usize,
        seed: u64,
        size: usize,
    },
    Remove {
        path: usize,
    },
    Rename {
        from: usize,
        to: usize,
    },
    Touch {
        path: usize,
        seconds: u32,
    },
    Chmod {
        path: usize,
        mode: u32,
    },
    EmptyDir {
        path: usize,
    },
    Link {
        path: usize,
        target: usize,
    },
    /// A file becomes a directory with a file in it, and the other way round.
    Turn {
        path: usize,
        seed: u64,
    },
    Large {
        seed: u64,
        edits: Vec<u32>,
    },
}

/// What happens between two snapshots, and how the second one is taken.
#[derive(Debug, Clone)]
struct Step {
    ops: Vec<Op>,
    hours: i64,
    lose_state: bool,
    crash: Option<(usize, bool)>,
}

const PATHS: [&str; 14] = [
    "a.json",
    "b.json",
    "dir/a.json",
    "dir/b.json",
    "dir/deep/c.json",
    "dir/deep/er/d.json",
    "dir-a",
    "dir.json",
    "empty",
    "größe/ü.json",
    "100%.json",
    "new\nline.json",
    "other/x",
    "other/y/z",
];
const TARGETS: [&str; 5] = ["a.json", "dir", "nowhere", "../outside", "/absolute/%41"];
const MODES: [u32; 5] = [0o644, 0o600, 0o755, 0o700, 0o444];
const LARGE: &str = "large/image.bin";

fn op() -> impl Strategy<Value = Op> {
    let path = || 0..PATHS.len();
    prop_oneof![
        12 => (path(), any::<u64>(), prop_oneof![Just(0usize), 1..2000usize, 60_000..70_000usize]).prop_map(|(path, seed, size)| Op::Write { path, seed, size }),
        4 => path().prop_map(|path| Op::Remove { path }),
        3 => (path(), path()).prop_map(|(from, to)| Op::Rename { from, to }),
        3 => (path(), 0..1_000_000u32).prop_map(|(path, seconds)| Op::Touch { path, seconds }),
        3 => (path(), 0..MODES.len()).prop_map(|(path, mode)| Op::Chmod { path, mode: MODES[mode] }),
        2 => path().prop_map(|path| Op::EmptyDir { path }),
        3 => (path(), 0..TARGETS.len()).prop_map(|(path, target)| Op::Link { path, target }),
        3 => (path(), any::<u64>()).prop_map(|(path, seed)| Op::Turn { path, seed }),
        1 => (0..3u64, prop::collection::vec(any::<u32>(), 0..3)).prop_map(|(seed, edits)| Op::Large { seed, edits }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let hours = prop_oneof![3 => 1..48i64, 2 => 48..200i64, 1 => 200..1000i64];
    let crash = prop_oneof![3 => Just(None), 1 => (0..30usize, any::<bool>()).prop_map(Some)];
    (prop::collection::vec(op(), 0..8), hours, prop::bool::weighted(0.15), crash).prop_map(|(ops, hours, lose_state, crash)| Step {
        ops,
        hours,
        lose_state,
        crash,
    })
}

fn bytes_of(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed | 1;
    (0..size)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 56) as u8
        })
        .collect()
}

fn clear(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(seen) if seen.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// Makes room for something at a path: what stands in its way, there or above, goes.
fn room(root: &Path, path: &str) -> PathBuf {
    let full = root.join(path);
    let mut above = root.to_owned();
    for part in Path::new(path).parent().unwrap().components() {
        above.push(part);
        if fs::symlink_metadata(&above).is_ok_and(|seen| !seen.is_dir()) {
            clear(&above);
        }
    }
    fs::create_dir_all(full.parent().unwrap()).unwrap();
    clear(&full);
    full
}

/// Whether a path leads through real directories to something real.
fn there(root: &Path, path: &str) -> bool {
    let mut at = root.to_owned();
    let parts: Vec<_> = Path::new(path).components().collect();
    for (n, part) in parts.iter().enumerate() {
        at.push(part);
        match fs::symlink_metadata(&at) {
            Ok(seen) if n + 1 == parts.len() => return !seen.is_symlink(),
            Ok(seen) if seen.is_dir() => {}
            _ => return false,
        }
    }
    false
}

fn apply(root: &Path, op: &Op) {
    match op {
        Op::Write { path, seed, size } => fs::write(room(root, PATHS[*path]), bytes_of(*seed, *size)).unwrap(),
        Op::Remove { path } if there(root, PATHS[*path]) => clear(&root.join(PATHS[*path])),
        Op::Rename { from, to } if there(root, PATHS[*from]) && from != to => {
            let aside = root.join("aside");
            fs::rename(root.join(PATHS[*from]), &aside).unwrap();
            fs::rename(aside, room(root, PATHS[*to])).unwrap();
        }
        Op::Touch { path, seconds } if there(root, PATHS[*path]) => {
            let at = std::time::UNIX_EPOCH + std::time::Duration::new(1_700_000_000 + u64::from(*seconds), *seconds);
            fs::File::open(root.join(PATHS[*path])).unwrap().set_modified(at).unwrap();
        }
        Op::Chmod { path, mode } if there(root, PATHS[*path]) => {
            let full = root.join(PATHS[*path]);
            // A directory stays one that its owner may enter and change.
            let mode = if full.is_dir() { mode | 0o700 } else { *mode };
            fs::set_permissions(full, fs::Permissions::from_mode(mode)).unwrap();
        }
        Op::EmptyDir { path } => fs::create_dir(room(root, PATHS[*path])).unwrap(),
        Op::Link { path, target } => std::os::unix::fs::symlink(TARGETS[*target], room(root, PATHS[*path])).unwrap(),
        Op::Turn { path, seed } => {
            let full = root.join(PATHS[*path]);
            let was_dir = there(root, PATHS[*path]) && full.is_dir();
            let full = room(root, PATHS[*path]);
            if was_dir {
                fs::write(full, bytes_of(*seed, 100)).unwrap();
            } else {
                fs::create_dir(&full).unwrap();
                fs::write(full.join("inside.json"), bytes_of(*seed, 100)).unwrap();
            }
        }
        Op::Large { seed, edits } => {
            let full = root.join(LARGE);
            let mut bytes = fs::read(&full).unwrap_or_else(|_| bytes_of(*seed + 77, 9 << 20));
            for edit in edits {
                let at = *edit as usize % bytes.len();
                match edit % 3 {
                    0 => bytes[at] ^= 0xff,
                    1 => bytes.insert(at, 7),
                    _ => drop(bytes.remove(at)),
                }
            }
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(full, bytes).unwrap();
        }
        _ => {}
    }
}

struct History {
    vault: LibraryVault,
    metadata: bool,
    /// What stood there when each snapshot was taken.
    model: BTreeMap<RunId, Tree>,
    order: Vec<RunId>,
}

const CHAIN: &str = "snapshot.tree";

impl History {
    fn new(metadata: bool) -> Self {
        let vault = LibraryVault::new("2026-01-30T20:00:00Z");
        fs::create_dir(vault.sandbox.path("tree")).unwrap();
        Self { vault, metadata, model: BTreeMap::new(), order: Vec::new() }
    }

    fn take(&self, store: Arc<dyn Store>) -> Result<SnapshotReport, SnapshotError> {
        let writer = self.vault.writer_on(store)?;
        let none = PathGlobs::new(&[]).unwrap();
        let source = FilesSource::new(FilesOptions { root: self.vault.sandbox.path("tree"), include: none.clone(), exclude: none });
        let state = StateDir::open(&self.vault.sandbox.path("state"), writer.ledger.trust().vault(), "tree").unwrap();
        snapshot(&SnapshotJob {
            name: &"tree".parse().unwrap(),
            source: &source,
            container: if self.metadata { Container::Evidence } else { Container::ConfigSnapshots },
            epoch: EpochKind::Month,
            metadata: self.metadata,
            writer: &writer,
            policy: &self.vault.policy,
            state: &state,
            level: None,
            threads: 2,
            monitor: &Silent,
        })
    }

    /// Books what the last attempt committed, whatever it said of itself.
    fn book(&mut self, tree: &Tree, reported: Option<&SnapshotReport>) -> TestCaseResult {
        let stand = snapshots(&self.vault.ledger(), CHAIN);
        prop_assert_eq!(&stand[..self.order.len()], &self.order[..], "what was committed stays");
        let new = &stand[self.order.len()..];
        prop_assert!(new.len() <= 1, "one attempt commits at most one snapshot");
        if let Some(report) = reported {
            prop_assert_eq!(new, &[report.run][..]);
            prop_assert_eq!(report.entries, tree.len() as u64);
        }
        for run in new {
            self.model.insert(*run, tree.clone());
            self.order.push(*run);
        }
        Ok(())
    }

    fn live(&mut self, step: &Step) -> TestCaseResult {
        let root = self.vault.sandbox.path("tree");
        step.ops.iter().for_each(|op| apply(&root, op));
        self.vault.clock.advance_hours(step.hours);
        if step.lose_state {
            let _ = fs::remove_dir_all(self.vault.sandbox.path("state"));
        }
        let tree = look(&root, self.metadata);
        if let Some((at, after)) = step.crash {
            let fault = if after { Fault::After } else { Fault::Before };
            let crashed = self.take(Arc::new(FaultyStore::new(self.vault.store(), at, fault)));
            self.book(&tree, crashed.as_ref().ok())?;
            self.vault.clock.advance_hours(1);
        }
        let report = self.take(self.vault.store()).map_err(|e| TestCaseError::fail(format!("{e:?}")))?;
        self.book(&tree, Some(&report))
    }

    /// Every snapshot restores to its model, and the audit finds no error.
    fn judge(&self) -> TestCaseResult {
        let ledger = self.vault.ledger();
        for (n, run) in self.order.iter().enumerate() {
            let found = restored(&ledger, &self.vault.identities, CHAIN, *run, &self.vault.sandbox.path(""), self.metadata);
            prop_assert_eq!(differences(&self.model[run], &found), Vec::<String>::new(), "snapshot {}", n);
        }
        prop_assert_eq!(errors(&audited(&ledger, Some(&self.vault.identities))), Vec::<String>::new());
        Ok(())
    }

    /// The difference of two snapshots is that of their models.
    fn compare(&self, a: usize, b: usize) -> TestCaseResult {
        let (a, b) = (self.order[a % self.order.len()], self.order[b % self.order.len()]);
        let (x, y) = (&self.model[&a], &self.model[&b]);
        let mut expected: BTreeMap<&str, Change> = BTreeMap::new();
        expected.extend(x.keys().filter(|p| !y.contains_key(*p)).map(|p| (p.as_str(), Change::Removed)));
        expected.extend(y.keys().filter(|p| !x.contains_key(*p)).map(|p| (p.as_str(), Change::Added)));
        expected.extend(x.iter().filter(|(p, n)| y.get(*p).is_some_and(|m| m != *n)).map(|(p, _)| (p.as_str(), Change::Changed)));
        let chain = CHAIN.parse().unwrap();
        let report =
            diff(&self.vault.ledger(), &self.vault.identities, (&chain, a), (&chain, b)).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert!(report.failed.is_empty(), "{:?}", report.failed);
        let found: Vec<(&str, Change)> = report.changes.iter().map(|c| (c.path.as_str(), c.change)).collect();
        prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "from {} to {}", a, b);
        for change in report.changes.iter().filter(|c| c.change == Change::Changed) {
            prop_assert!(!change.attributes.is_empty(), "{} changed in nothing", change.path);
        }
        Ok(())
    }
}

/// Lives random histories; gives how many snapshots, epochs and crashes there were.
fn histories(metadata: bool) -> [usize; 3] {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(24);
    let config = ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 100, ..ProptestConfig::default() };
    let sums = std::cell::Cell::new([0; 3]);
    let strategy = (prop::collection::vec(step(), 2..8), prop::collection::vec((any::<usize>(), any::<usize>()), 3));
    TestRunner::new(config)
        .run(&strategy, |(steps, pairs)| {
            let mut history = History::new(metadata);
            for step in &steps {
                history.live(step)?;
            }
            history.judge()?;
            for (a, b) in pairs {
                history.compare(a, b)?;
            }
            let mut epochs: Vec<String> = history
                .vault
                .sandbox
                .objects()
                .iter()
                .filter_map(|o| {
                    Some(o.strip_prefix(if metadata { "evidence/tree/" } else { "config-snapshots/tree/" })?.split('/').next()?.to_owned())
                })
                .collect();
            epochs.dedup();
            let [a, b, c] = sums.get();
            sums.set([a + history.order.len(), b + epochs.len(), c + steps.iter().filter(|s| s.crash.is_some()).count()]);
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
    let sums = sums.get();
    support::say(&format!("metadata {metadata}: {sums:?} snapshots, epochs, crashes"));
    let cases = cases as usize;
    assert!(sums[0] >= 2 * cases && (cases < 8 || sums[1] > cases), "{sums:?}: the histories are too tame");
    sums
}

#[test]
fn every_snapshot_of_a_random_history_restores() {
    histories(false);
}

#[test]
fn every_snapshot_of_random_evidence_restores_with_modes_and_times() {
    histories(true);
}

#[test]
fn a_file_that_becomes_a_directory_and_back_is_told_as_both() {
    for metadata in [false, true] {
        let mut history = History::new(metadata);
        let turn = |seed| Step { ops: vec![Op::Turn { path: 0, seed }], hours: 5, lose_state: false, crash: None };
        let write = Step { ops: vec![Op::Write { path: 0, seed: 1, size: 50 }], hours: 5, lose_state: false, crash: None };
        for step in [&write, &turn(2), &turn(3), &turn(4)] {
            history.live(step).unwrap();
        }
        history.judge().unwrap();
        for (a, b) in [(0, 1), (1, 2), (2, 3), (0, 3), (3, 0)] {
            history.compare(a, b).unwrap();
        }
    }
}

#[test]
fn a_large_file_with_small_edits_stores_only_the_parts_that_changed() {
    let mut history = History::new(false);
    let step = |edits: Vec<u32>| Step { ops: vec![Op::Large { seed: 1, edits }], hours: 5, lose_state: false, crash: None };
    history.live(&step(vec![])).unwrap();
    let before: u64 = sizes(&history);
    history.live(&step(vec![4_000_001])).unwrap();
    let grown = sizes(&history) - before;
    assert!(grown < before / 2, "{grown} bytes for one byte of {before}");
    history.live(&step(vec![1, 5_000_003])).unwrap();
    history.judge().unwrap();
    history.compare(0, 2).unwrap();
}

fn sizes(history: &History) -> u64 {
    history.vault.store().list("config-snapshots/").unwrap().iter().map(|o| o.size).sum()
}
