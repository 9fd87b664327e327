//! Killed at any instant, disk full: nothing committed is lost, nothing half-committed is ever visible, and
//! the next run carries on with what the interrupted one had sealed.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/mod.rs"]
mod support;
#[path = "support/witness.rs"]
mod witness;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backstop::backup::{ImportJob, checkpoint, import};
use backstop::observe::Silent;
use backstop::restore::{LogsJob, restore_logs};
use backstop::source::import::{Format, Pointers};
use backstop::store::Store;
use support::faulty::{Fault, FaultyStore};
use support::small::Small;
use support::{LibraryVault, Ran, Sandbox};
use witness::{Counting, Tree, attested, audited, differences, errors, look, puts, restored, snapshots};

/// What is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Base,
    Delta,
    Import,
    Checkpoint,
}

/// Two versions of one estate, shared by all vaults of a test.
struct Estate {
    sandbox: Sandbox,
    before: Tree,
    after: Tree,
}

const MIB: usize = 1 << 20;

impl Estate {
    /// Files of just the size that is not split: each closes a segment of its own. A part of each is noise,
    /// so that the stored sizes tell segments apart.
    fn new() -> Self {
        let sandbox = Sandbox::new();
        for (version, seeds) in [("before", [1, 2, 3]), ("after", [4, 2, 5])] {
            for (n, seed) in seeds.into_iter().enumerate() {
                let mut bytes = noise(seed, 128 << 10);
                bytes.resize(8 * MIB, b'x');
                sandbox.write(&format!("{version}/large/{n}.bin"), bytes);
            }
            for n in 0..20 {
                let shown = if n % 5 == 0 { version } else { "same" };
                sandbox.write(&format!("{version}/small/{n}.json"), format!("{{\"n\":{n},\"v\":\"{shown}\"}}"));
            }
            sandbox.write(&format!("{version}/only-{version}"), version);
        }
        let (before, after) = (look(&sandbox.path("before"), false), look(&sandbox.path("after"), false));
        Self { sandbox, before, after }
    }

    /// A vault as it stands when the work begins.
    fn vault(&self, work: Work) -> LibraryVault {
        let vault = LibraryVault::new("2026-11-02T08:00:00Z");
        self.show(&vault, "before");
        if work != Work::Base {
            vault.snapshot().unwrap();
            vault.clock.advance_hours(1);
        }
        if work == Work::Delta {
            self.show(&vault, "after");
        }
        if work == Work::Checkpoint {
            checkpoint(&vault.writer(), &vault.policy).unwrap();
            vault.clock.advance_hours(1);
        }
        let log = (0..3000).map(|n| format!("{{\"id\":{n},\"time\":\"2026-11-01T10:00:{:02}Z\"}}\n", n % 60)).collect::<String>();
        vault.sandbox.write("in.ndjson", log);
        vault
    }

    /// Makes the vault's source lead to one of the versions.
    fn show(&self, vault: &LibraryVault, version: &str) {
        let link = vault.sandbox.path("tree");
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(self.sandbox.path(version), link).unwrap();
    }
}

/// Bytes that no compressor shortens.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut out: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).collect();
    out.truncate(length);
    out
}

/// Does the work; gives how many objects of interrupted runs it adopted.
fn act(work: Work, vault: &LibraryVault, store: Arc<dyn Store>) -> Result<u64, String> {
    let writer = vault.writer_on(store).map_err(|e| e.to_string())?;
    match work {
        Work::Base | Work::Delta => vault.snapshot_with(&writer, "state").map(|r| r.adopted).map_err(|e| e.to_string()),
        Work::Checkpoint => checkpoint(&writer, &vault.policy).map(|_| 0).map_err(|e| e.to_string()),
        Work::Import => {
            let pointers = Pointers::new(vec!["/id".into()], vec!["/time".into()]).unwrap();
            let files = [vault.sandbox.path("in.ndjson")];
            let job = ImportJob {
                stream: &"log".parse().unwrap(),
                files: &files,
                format: Format::Auto,
                pointers: &pointers,
                again: false,
                writer: &writer,
                policy: &vault.policy,
                level: None,
                threads: 2,
                monitor: &Silent,
            };
            import(&job).map(|_| 0).map_err(|e| e.to_string())
        }
    }
}

/// Everything that a reader can see is whole: each snapshot restores to the tree it was taken of, the log to
/// its events, and the audit finds no error.
fn whole(estate: &Estate, work: Work, vault: &LibraryVault, context: &str) {
    let ledger = vault.ledger();
    for (n, run) in snapshots(&ledger, "snapshot.tree").into_iter().enumerate() {
        let expected = if work == Work::Delta && n > 0 { &estate.after } else { &estate.before };
        let found = restored(&ledger, &vault.identities, "snapshot.tree", run, &vault.sandbox.path(""), false);
        assert_eq!(differences(expected, &found), Vec::<String>::new(), "{context}");
    }
    let log = "export.log".parse().unwrap();
    let imports = attested(&ledger, "export.log");
    if !imports.is_empty() {
        assert_eq!(imports.len(), 1, "{context}: the file is imported once");
        let (from, to) = ("2026-11-01T00:00:00Z".parse().unwrap(), "2026-11-02T00:00:00Z".parse().unwrap());
        let scratch = vault.sandbox.path("");
        let job = LogsJob {
            ledger: &ledger,
            identities: &vault.identities,
            chain: &log,
            from,
            to,
            as_of: None,
            all_versions: false,
            temporary: &scratch,
            monitor: &Silent,
        };
        let mut out = Vec::new();
        let report = restore_logs(&job, &mut out).unwrap();
        assert_eq!((report.events, report.failed.len()), (3000, 0), "{context}");
        assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 3000, "{context}");
    }
    for chain in ledger.chains().unwrap() {
        let numbers: Vec<u64> = ledger.chain(&chain).unwrap().attested.iter().map(|a| a.sequence()).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "{context}: {chain:?}");
    }
    assert_eq!(errors(&audited(&ledger, None)), Vec::<String>::new(), "{context}");
}

/// Which operations are interrupted: all of a few, a spread of many.
fn spread(operations: usize) -> Vec<usize> {
    let step = if operations < 80 { 1 } else { operations.div_ceil(60) };
    (0..operations).step_by(step).collect()
}

#[derive(Debug, Default)]
struct Sums {
    cases: usize,
    adopting: usize,
    cheaper: usize,
    committed_unawares: usize,
}

/// Interrupts the work at every operation, before and after, and then does it again.
fn interrupt_everywhere(work: Work, lose_state: bool) -> Sums {
    let estate = Estate::new();
    let vault = estate.vault(work);
    let clean = Counting::new(vault.store());
    let counter = Arc::new(FaultyStore::new(clean.clone(), usize::MAX, Fault::Before));
    act(work, &vault, counter.clone()).unwrap();
    let (operations, clean_puts) = (counter.operations(), puts(&clean.take()));
    let clean_bytes: u64 = clean_puts.iter().map(|p| p.1).sum();
    if matches!(work, Work::Base) {
        assert!(clean_puts.len() >= 5, "three segments, a manifest and an envelope: {clean_puts:?}");
    }
    whole(&estate, work, &vault, "undisturbed");
    let mut sums = Sums::default();
    for at in spread(operations) {
        for fault in [Fault::Before, Fault::After] {
            let context =
                format!("{work:?}, fault {fault:?} operation {at} of {operations}, state {}", if lose_state { "lost" } else { "kept" });
            let vault = estate.vault(work);
            let chains = ["snapshot.tree", "export.log", "checkpoint"];
            let count = |vault: &LibraryVault| chains.iter().map(|c| attested(&vault.ledger(), c).len()).sum::<usize>();
            let stood = count(&vault);
            let acted = act(work, &vault, Arc::new(FaultyStore::new(vault.store(), at, fault)));
            if at + 1 == operations {
                // The envelope stands; only the look for a hold that was attested meanwhile is lost.
                acted.unwrap_or_else(|e| panic!("{context}: committed, and said to have failed: {e}"));
                whole(&estate, work, &vault, &context);
                sums.cases += 1;
                continue;
            }
            acted.expect_err(&context);
            let unawares = count(&vault) - stood;
            assert!(unawares == 0 || (fault == Fault::After && at + 2 == operations), "{context}: committed although it failed");
            whole(&estate, work, &vault, &format!("{context}, interrupted"));
            if lose_state {
                let _ = fs::remove_dir_all(vault.sandbox.path("state"));
            }
            vault.clock.advance_hours(1);
            let store = Counting::new(vault.store());
            let adopted = act(work, &vault, store.clone()).unwrap_or_else(|e| panic!("{context}: the next run: {e}"));
            let bytes: u64 = puts(&store.take()).iter().map(|p| p.1).sum();
            whole(&estate, work, &vault, &context);
            let now = count(&vault);
            // An import that was committed unawares is known by its digest, and not sealed again.
            assert_eq!(now - stood, if work == Work::Import { 1 } else { 1 + unawares }, "{context}");
            sums.cases += 1;
            sums.committed_unawares += unawares;
            sums.adopting += usize::from(adopted > 0);
            if adopted > 0 {
                assert!(bytes < clean_bytes, "{context}: adopted {adopted}, and yet {bytes} of {clean_bytes} bytes were written");
                assert!(!lose_state, "{context}: without a journal nothing can be proved");
                sums.cheaper += 1;
            }
        }
    }
    support::say(&format!("{work:?}: {operations} operations, {clean_bytes} bytes clean: {sums:?}"));
    assert_eq!(sums.cases, 2 * spread(operations).len());
    assert_eq!(sums.committed_unawares, 1, "only the loss of the last answer leaves a run that committed unawares");
    sums
}

#[test]
fn a_first_base_survives_every_interruption() {
    let sums = interrupt_everywhere(Work::Base, false);
    assert!(sums.adopting >= 6, "{sums:?}: what was journalled is adopted");
}

#[test]
fn a_first_base_survives_every_interruption_without_its_state() {
    interrupt_everywhere(Work::Base, true);
}

#[test]
fn a_delta_survives_every_interruption() {
    let sums = interrupt_everywhere(Work::Delta, false);
    assert!(sums.adopting >= 4, "{sums:?}: what was journalled is adopted");
}

#[test]
fn a_delta_survives_every_interruption_without_its_state() {
    interrupt_everywhere(Work::Delta, true);
}

#[test]
fn an_import_survives_every_interruption() {
    interrupt_everywhere(Work::Import, false);
}

#[test]
fn a_checkpoint_survives_every_interruption() {
    interrupt_everywhere(Work::Checkpoint, false);
}

fn program(sandbox: &Sandbox, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstop"));
    command.current_dir(sandbox.path("")).args(args).env_remove("BACKSTOP_POLICY").env_remove("BACKSTOP_IDENTITY");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Starts the program and kills it after a while; whether it was still at work.
fn killed_after(sandbox: &Sandbox, args: &[&str], delay: Duration) -> bool {
    let mut child = program(sandbox, args).spawn().unwrap();
    std::thread::sleep(delay);
    let _ = child.kill();
    child.wait().unwrap().signal() == Some(9)
}

const IDENTITY: [&str; 2] = ["--identity", "keys/identity-1.txt"];

/// Through the command line: every complete snapshot is one of the trees, the newest is the present one, and
/// the audit is clean.
fn whole_by_cli(sandbox: &Sandbox, trees: &[Tree], context: &str) {
    let verify = sandbox.json(&["verify"], 0);
    assert_eq!(verify[0]["ok"], true, "{context}");
    let runs = sandbox.json(&["ls", "--chain", "snapshot.tree"], 0);
    let stand: Vec<&str> = runs.iter().filter(|r| r["outcome"] != "failed").map(|r| r["run"].as_str().unwrap()).collect();
    for (n, run) in stand.iter().take(2).enumerate() {
        let back = sandbox.path("back");
        let _ = fs::remove_dir_all(&back);
        let report = &sandbox.json(&["restore", "files", run, "--to", "back", IDENTITY[0], IDENTITY[1]], 0)[0];
        assert_eq!(report["tree_matches"], true, "{context}");
        let found = look(&back, false);
        let fits = |tree: &Tree| differences(tree, &found).is_empty();
        assert!(if n == 0 { fits(trees.last().unwrap()) } else { trees.iter().any(fits) }, "{context}: {run} is no tree that ever was");
    }
}

/// Three segments' worth of records, all of them changed in every round; little of each is noise.
fn write_tree(sandbox: &Sandbox, round: u64) {
    for n in 0..45u64 {
        let mut bytes = noise(round * 1000 + n + 1, 20_000);
        bytes.resize(MIB, b'x');
        sandbox.write(&format!("tree/{}/{n}.bin", n % 4), bytes);
    }
    sandbox.write("tree/round", round.to_string());
}

#[test]
fn the_process_may_be_killed_at_any_moment() {
    let sandbox = Sandbox::new();
    sandbox.init();
    write_tree(&sandbox, 0);
    let begun = Instant::now();
    sandbox.json(&["snapshot"], 0);
    let duration = begun.elapsed();
    let mut trees = vec![look(&sandbox.path("tree"), false)];
    let rounds = 25;
    let (mut killed, mut adopted) = (0, 0);
    for round in 1..=rounds {
        write_tree(&sandbox, u64::from(round));
        trees.push(look(&sandbox.path("tree"), false));
        if round % 4 == 0 {
            fs::remove_dir_all(sandbox.path(".backstop")).unwrap();
        }
        let dead = killed_after(&sandbox, &["snapshot"], duration * round / (rounds + 1));
        killed += usize::from(dead);
        let next = &sandbox.json(&["snapshot"], 0)[0];
        assert_eq!(next["outcome"], "complete", "round {round}");
        adopted += next["adopted_objects"].as_u64().unwrap();
        whole_by_cli(&sandbox, &trees, &format!("round {round}, killed: {dead}"));
    }
    support::say(&format!("{killed} of {rounds} runs were killed, {adopted} objects adopted"));
    assert!(killed >= 5, "only {killed} runs were still at work when they were killed");
    assert!(adopted >= 1, "nothing that the killed runs had sealed was adopted");
    let deep = &sandbox.json(&["verify", "--deep", IDENTITY[0], IDENTITY[1]], 0)[0];
    assert_eq!(deep["ok"], true);
    let left: Vec<String> = sandbox.objects().into_iter().filter(|name| name.contains(".tmp-")).collect();
    assert_eq!(left, Vec::<String>::new(), "temporary names are no objects");
}

#[test]
fn init_may_be_killed_at_any_moment() {
    let clean = Sandbox::new();
    fs::create_dir(clean.path("tree")).unwrap();
    let args = ["init", "--dir", ".", "--source", "tree=tree", "--stream", "log"];
    let begun = Instant::now();
    assert_eq!(clean.backstop(&args).code, 0);
    let duration = begun.elapsed();
    let rounds = 20;
    let mut killed = 0;
    for round in 0..rounds {
        let sandbox = Sandbox::new();
        sandbox.write("tree/a.json", "{}");
        killed += usize::from(killed_after(&sandbox, &args, duration * round / rounds));
        let again = sandbox.backstop(&args);
        if again.code != 0 {
            assert_eq!(again.code, 2, "round {round}: {}", again.stderr);
            assert!(again.stderr.contains("was initialised before") && again.stderr.contains("help:"), "round {round}: {}", again.stderr);
        }
        sandbox.json(&["snapshot"], 0);
        whole_by_cli(&sandbox, &[look(&sandbox.path("tree"), false)], &format!("round {round}"));
        // Every identity that init left opens the vault.
        sandbox.json(&["verify", "--deep", "--identity", "keys/identity-2.txt"], 0);
    }
    assert!(killed >= 5, "only {killed} of {rounds} were still at work when they were killed");
}

/// Runs with a limit on the size of each file, as a stand-in for a full disk; `None`: without one.
fn limited(sandbox: &Sandbox, args: &[&str], blocks: Option<u32>) -> Ran {
    let limit = blocks.map_or(String::new(), |b| format!("trap '' XFSZ; ulimit -f {b}; "));
    sandbox.shell(&format!("{limit}exec '{}' {}", env!("CARGO_BIN_EXE_backstop"), args.join(" ")))
}

/// What a person is told when there is no room, and what a reader then sees: nothing new.
fn refused_for_room(sandbox: &Sandbox, ran: &Ran, chain: &str, stood: usize, context: &str) {
    assert_eq!(ran.code, 1, "{context}: {}", ran.stderr);
    assert!(ran.stderr.contains("error:") && ran.stderr.contains("help:"), "{context}: what to do is said: {}", ran.stderr);
    let runs = sandbox.json(&["ls"], 0);
    let stands = runs.iter().filter(|r| r["chain"] == chain && r["outcome"] != "failed").count();
    assert_eq!(stands, stood, "{context}: nothing new is visible");
    assert_eq!(sandbox.json(&["verify"], 0)[0]["ok"], true, "{context}");
}

#[test]
fn a_full_vault_stops_the_run_and_room_lets_it_go_on() {
    // Each size runs full at another moment: among the first segment, the second, the manifest.
    for size in ["1m", "17m", "34m"] {
        let sandbox = Sandbox::new();
        let Some(disk) = Small::mount(&sandbox.path("vault"), size) else {
            files_that_may_not_grow("vault");
            continue;
        };
        sandbox.init();
        for n in 0..10 {
            sandbox.write(&format!("tree/{n}.bin"), noise(n + 1, 4 * MIB));
        }
        let tree = look(&sandbox.path("tree"), false);
        let ran = sandbox.backstop(&["snapshot"]);
        refused_for_room(&sandbox, &ran, "snapshot.tree", 0, size);
        assert!(ran.stderr.contains("no space is left") && ran.stderr.contains("free some room"), "{size}: {}", ran.stderr);
        disk.grow("200m");
        let next = &sandbox.json(&["snapshot"], 0)[0];
        assert_eq!(next["outcome"], "complete", "{size}");
        if size == "34m" {
            assert!(next["adopted_objects"].as_u64().unwrap() > 0, "what had found room is adopted: {next}");
        }
        whole_by_cli(&sandbox, &[tree], size);
        let lines: String =
            (0..200_000).map(|n| format!("{{\"id\":\"{:x}\",\"createdDateTime\":\"2026-11-01T10:00:00Z\"}}\n", n * 7919)).collect();
        sandbox.write("in.ndjson", lines);
        disk.grow("43m");
        sandbox.shell("head -c 100000000 /dev/zero > vault/filler || true");
        let ran = sandbox.backstop(&["import", "log", "in.ndjson"]);
        refused_for_room(&sandbox, &ran, "export.log", 0, "import");
        sandbox.shell("rm vault/filler");
        disk.grow("200m");
        assert_eq!(sandbox.json(&["import", "log", "in.ndjson"], 0)[0]["events"], 200_000);
        assert_eq!(sandbox.json(&["verify", "--deep", IDENTITY[0], IDENTITY[1]], 0)[0]["ok"], true);
    }
}

#[test]
fn a_full_state_directory_stops_the_run_and_room_lets_it_go_on() {
    let mut stopped = 0;
    for size in ["4k", "16k", "64k", "128k"] {
        let sandbox = Sandbox::new();
        let Some(disk) = Small::mount(&sandbox.path(".backstop"), size) else {
            files_that_may_not_grow("state");
            stopped += 1;
            continue;
        };
        sandbox.init();
        for n in 0..3000 {
            sandbox.write(&format!("tree/{}/{n}.json", n % 7), format!("{{\"n\":{n}}}"));
        }
        let tree = look(&sandbox.path("tree"), false);
        let ran = sandbox.backstop(&["snapshot"]);
        if ran.code == 0 {
            // Only the cache did not fit, after the commit: that is said, and costs a base.
            assert!(ran.stderr.contains("the next one will be a base"), "{size}: {}", ran.stderr);
        } else {
            stopped += 1;
            refused_for_room(&sandbox, &ran, "snapshot.tree", 0, size);
            assert!(ran.stderr.contains("room"), "{size}: {}", ran.stderr);
        }
        disk.grow("50m");
        assert_eq!(sandbox.json(&["snapshot"], 0)[0]["outcome"], "complete", "{size}");
        whole_by_cli(&sandbox, &[tree], size);
    }
    assert!(stopped >= 2, "only {stopped} sizes were too small");
}

/// Without the right to mount: no file may grow beyond a size.
fn files_that_may_not_grow(what: &str) {
    let mut stopped = 0;
    for blocks in [8, 64, 400, 4000] {
        let sandbox = Sandbox::new();
        sandbox.init();
        let size = if what == "vault" { 6 * MIB } else { 200 };
        for n in 0..if what == "vault" { 6 } else { 3000 } {
            sandbox.write(&format!("tree/{n}.bin"), noise(n + 1, size));
        }
        let tree = look(&sandbox.path("tree"), false);
        let ran = limited(&sandbox, &["snapshot"], Some(blocks));
        if ran.code == 0 {
            assert!(ran.stderr.is_empty() || ran.stderr.contains("the next one will be a base"), "{what} {blocks}: {}", ran.stderr);
        } else {
            stopped += 1;
            refused_for_room(&sandbox, &ran, "snapshot.tree", 0, &format!("{what}, {blocks} blocks"));
        }
        assert_eq!(limited(&sandbox, &["snapshot", "--json"], None).json()[0]["outcome"], "complete");
        whole_by_cli(&sandbox, &[tree], &format!("{what}, {blocks} blocks"));
    }
    assert!(stopped >= 2, "{what}: only {stopped} limits were too small");
}

#[test]
fn a_limit_on_file_sizes_is_told_like_a_full_disk() {
    files_that_may_not_grow("vault");
    files_that_may_not_grow("state");
}
