//! What people get wrong, and what they are told: each mistake has its exit code, names what is wrong and
//! where, and says what to do. Nothing of it harms what the vault holds.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Ran, Sandbox};

const ID: [&str; 2] = ["--identity", "keys/identity-1.txt"];

/// A vault with one snapshot of two records.
fn estate() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.init();
    sandbox.write("tree/a.json", "{\"a\":1}");
    sandbox.write("tree/dir/b.json", "{\"b\":1}");
    sandbox.json(&["snapshot"], 0);
    sandbox
}

/// Runs with a mistake: expects its code, an error, and each of some words in what is said.
fn told(sandbox: &Sandbox, args: &[&str], code: i32, words: &[&str]) -> Ran {
    let ran = sandbox.backstop(args);
    assert_eq!(ran.code, code, "{args:?}\n{}\n{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.starts_with("error: ") || ran.stderr.contains("\nerror: "), "{args:?}: {}", ran.stderr);
    for word in words {
        assert!(ran.stderr.contains(word), "{args:?} should say {word:?}:\n{}", ran.stderr);
    }
    assert!(!ran.stderr.contains("panicked") && !ran.stderr.contains("Error {"), "{}", ran.stderr);
    ran
}

fn runs(sandbox: &Sandbox) -> Vec<Value> {
    sandbox.json(&["ls"], 0)
}

#[test]
fn identities() {
    let sandbox = estate();
    let recipients = sandbox.json(&["key", "ls"], 0);
    let recipients: Vec<&str> = recipients.iter().filter_map(|k| k["recipient"].as_str()).collect();
    assert_eq!(recipients.len(), 2);
    sandbox.json(&["key", "new", "identity", "--out", "other.txt"], 0);
    sandbox.write("protected.txt", "age-encryption.org/v1\n-> scrypt xyz 18\nabc\n");
    sandbox.write("empty.txt", "# nothing\n");
    for command in [&["restore", "files", "tree", "--to", "out"][..], &["verify", "--deep"], &["diff", "tree", "snapshot.tree/1"]] {
        let with = |file: &'static str| command.iter().copied().chain(["--identity", file]).collect::<Vec<_>>();
        if command[0] != "diff" {
            told(&sandbox, &with("other.txt"), 2, &["none of the identities opens", recipients[0], recipients[1], "help:"]);
            told(&sandbox, command, 2, &["no identity was given", "--identity", "BACKSTOP_IDENTITY", recipients[0], recipients[1]]);
        }
        told(&sandbox, &with("missing.txt"), 2, &["missing.txt", "No such file", "help:"]);
        told(&sandbox, &with("protected.txt"), 2, &["protected.txt", "passphrase", "age -d"]);
        told(&sandbox, &with("empty.txt"), 2, &["empty.txt", "holds no age identity", "AGE-SECRET-KEY-1"]);
    }
    // One right identity among wrong ones is enough.
    sandbox.json(&["restore", "files", "tree", "--to", "back", "--identity", "other.txt", ID[0], ID[1]], 0);
    let env = sandbox.backstop_with(&["restore", "files", "tree", "--to", "back-2"], &[("BACKSTOP_IDENTITY", "keys/identity-2.txt")]);
    assert_eq!(env.code, 0, "{}", env.stderr);
}

/// A mistake in the policy: what is replaced by what, and what is said with which place.
type Mistake = (&'static str, &'static str, &'static [&'static str]);

const MISTAKES: [Mistake; 17] = [
    ("vault:", "vault:\n  lokal: x", &["backstop.yaml:9:3: ", "unknown field `lokal`", "9 |   lokal: x", "did you mean `local`?"]),
    ("{ rpo: 1h", "{ rpoo: 1h", &["backstop.yaml:6:15: ", "`rpoo`", "did you mean `rpo`?"]),
    ("mode: locked,", "mode: lockd,", &["backstop.yaml:14:17: ", "`lockd`", "did you mean `locked`?"]),
    ("version: 1", "version: one", &["backstop.yaml:3:10: ", "expected a whole number"]),
    ("version: 1", "version: 2", &["backstop.yaml:3:10: ", "version 1, not 2"]),
    ("retention: 7y", "retention: 7d", &["backstop.yaml:6:44: ", "\"7d\" is not a retention", "1y to 100y"]),
    ("grace: 30d", "grace: 30", &["backstop.yaml:14:45: ", "\"30\" is not a grace", "1d to 366d"]),
    ("rpo: 1h", "rpo: an hour", &["backstop.yaml:6:20: ", "\"an hour\" is not a duration", "15m"]),
    (
        "jobs: {}",
        "jobs:\n  n: { snapshot: [tree], schedule: \"0 2 * *\" }",
        &["backstop.yaml:43:36: ", "4 fields", "second minute hour day month weekday"],
    ),
    ("jobs: {}", "jobs:\n  n: { snapshot: [tree], schedule: \"0 0 25 * * *\" }", &["backstop.yaml:43:36: ", "not a schedule", "25"]),
    (
        "jobs: {}",
        "jobs:\n  n: { snapshot: [treee], schedule: \"0 */5 * * * *\" }",
        &["backstop.yaml:43:19: ", "no source \"treee\"", "did you mean `tree`?"],
    ),
    ("jobs: {}", "jobs:\n  n: { schedule: \"0 */5 * * * *\" }", &["backstop.yaml:43:", "0 actions", "`snapshot`"]),
    (
        "jobs: {}",
        "jobs:\n  n: { drill: { comprehensive: true }, schedule: \"0 */5 * * * *\" }",
        &["backstop.yaml:43:", "no comprehensive drills", "refused"],
    ),
    ("jobs: {}", "jobs: {}\njobs: {}", &["backstop.yaml:43:1: ", "duplicate"]),
    ("jobs: {}", "jobs:\n\tx: 1", &["backstop.yaml:43:2: ", "tab"]),
    ("@RECIPIENTS@", "", &["backstop.yaml:18:15: ", "no recipient"]),
    ("@RECIPIENTS@", "age1abc", &["backstop.yaml:18:16: ", "\"age1abc\" is not a native age recipient"]),
];

#[test]
fn mistakes_in_the_policy_are_said_with_line_and_column() {
    let sandbox = estate();
    let good = support::read(&sandbox.path("backstop.yaml"));
    let recipients = good.split("recipients: [").nth(1).unwrap().split(']').next().unwrap().to_owned();
    let before = runs(&sandbox).len();
    for (found, wrong, words) in MISTAKES {
        let found = if found == "@RECIPIENTS@" { recipients.as_str() } else { found };
        assert!(good.contains(found), "{found}");
        sandbox.write("backstop.yaml", good.replacen(found, wrong, 1));
        let check = sandbox.backstop(&["policy", "check"]);
        assert_eq!(check.code, 2, "{wrong}: {}{}", check.stdout, check.stderr);
        for word in words {
            assert!(check.stdout.contains(word), "{wrong} should say {word:?}:\n{}", check.stdout);
        }
        assert!(
            !check.stdout.contains("DuplicateKeyPolicy") && !check.stdout.contains("u32"),
            "words of the reader's own: {}",
            check.stdout
        );
        // A machine gets the same place.
        let json = &sandbox.json(&["policy", "check"], 2)[0];
        assert_eq!(json["ok"], false);
        let finding = &json["findings"][0];
        assert!(words[0].starts_with(&format!("backstop.yaml:{}:", finding["line"])), "{finding} for {}", words[0]);
        // Whatever would run under it says the same.
        told(&sandbox, &["snapshot"], 2, &words[..2]);
    }
    sandbox.write("backstop.yaml", &good);
    assert_eq!(runs(&sandbox).len(), before, "nothing was written under a wrong policy");
}

#[test]
fn files_that_are_no_policy() {
    let sandbox = estate();
    let good = fs::read(sandbox.path("backstop.yaml")).unwrap();
    let cases: [(&str, Vec<u8>, &[&str]); 4] = [
        ("empty.yaml", Vec::new(), &["empty.yaml", "the file is empty", "backstop init"]),
        ("comments.yaml", b"# nothing yet\n\n".to_vec(), &["comments.yaml", "the file is empty"]),
        ("list.yaml", b"- a\n".to_vec(), &["list.yaml:1:1: ", "expected"]),
        ("latin1.yaml", [good.as_slice(), b"# gr\xfc\xdfe\n"].concat(), &["latin1.yaml", "not UTF-8"]),
    ];
    for (file, bytes, words) in cases {
        sandbox.write(file, bytes);
        told(&sandbox, &["--policy", file, "snapshot"], 2, words);
        assert_eq!(sandbox.backstop(&["policy", "check", file]).code, 2, "{file}");
    }
    told(&sandbox, &["--policy", "missing.yaml", "snapshot"], 2, &["missing.yaml", "No such file", "backstop init"]);
    told(&sandbox, &["policy", "check", "missing.yaml"], 2, &["missing.yaml", "No such file"]);
    told(&sandbox, &["--policy", "tree", "snapshot"], 2, &["tree", "directory"]);
}

#[test]
fn a_secret_in_the_policy_is_never_shown_again() {
    let sandbox = estate();
    let good = support::read(&sandbox.path("backstop.yaml"));
    let identity = support::read(&sandbox.path("keys/identity-1.txt"));
    let secret = identity.lines().find(|l| l.starts_with("AGE-SECRET-KEY")).unwrap();
    let recipients = good.split("recipients: [").nth(1).unwrap().split(']').next().unwrap();
    let lower = secret.to_lowercase();
    let spellings = [
        secret.to_owned(),
        lower.clone(),
        format!("\" {secret}\""),
        format!("age1abc, {secret}"),
        format!("{secret}], extra: [1"),
        secret.to_string(),
        format!("{{ {secret}: 1 }}"),
    ];
    for spelling in spellings {
        sandbox.write("backstop.yaml", good.replace(recipients, &spelling));
        for args in [&["policy", "check"][..], &["policy", "check", "--json"], &["snapshot"], &["snapshot", "-v"]] {
            let ran = sandbox.backstop(args);
            assert_eq!(ran.code, 2, "{spelling}");
            let said = format!("{}{}", ran.stdout, ran.stderr).to_lowercase();
            assert!(!said.contains(&lower[..30]), "the secret is shown: {said}");
            assert!(said.contains("backstop.yaml") || args.contains(&"--json"), "{said}");
        }
    }
    sandbox.write("backstop.yaml", good.replace(recipients, secret));
    told(&sandbox, &["snapshot"], 2, &["backstop.yaml:18:16", "secret identity", "age1…", "disclosed"]);
}

#[test]
fn a_schedule_that_cannot_keep_the_rpo_is_refused_with_the_job_the_gap_and_the_cure() {
    let sandbox = estate();
    let good = support::read(&sandbox.path("backstop.yaml"));
    let with = |jobs: &str| sandbox.write("backstop.yaml", good.replace("jobs: {}", &format!("jobs:\n{jobs}")));
    with("  nightly: { snapshot: [tree], schedule: \"0 0 2 * * *\" }");
    told(
        &sandbox,
        &["snapshot"],
        2,
        &["backstop.yaml:43:42", "tree is captured by nightly", "RPO is 1h", "missed by 23 h", "add a delta job", "tree-delta:"],
    );
    let check = sandbox.backstop(&["policy", "check"]);
    assert_eq!(check.code, 2);
    // The advice is what it says: taken word for word, the policy is good.
    let cure = check.stdout.lines().find(|l| l.trim_start().starts_with("tree-delta:")).unwrap();
    with(&format!("  nightly: {{ snapshot: [tree], schedule: \"0 0 2 * * *\" }}\n{cure}"));
    let mended = &sandbox.json(&["policy", "check"], 0)[0];
    assert_eq!(mended["ok"], true, "{mended}");
    assert_eq!(mended["findings"].as_array().unwrap().len(), 0, "{mended}");
}

#[test]
fn names_that_do_not_exist() {
    let sandbox = estate();
    sandbox.json(&["snapshot"], 0);
    sandbox.write("e.ndjson", "{\"id\":1,\"createdDateTime\":\"2026-11-01T00:00:00Z\"}\n");
    told(&sandbox, &["snapshot", "treee"], 2, &["no source \"treee\"", "it has: tree"]);
    told(&sandbox, &["import", "lgo", "e.ndjson"], 2, &["no stream \"lgo\"", "it has: log"]);
    told(&sandbox, &["ls", "--chain", "nope"], 2, &["no chain \"nope\"", "snapshot.tree"]);
    for command in [&["show"][..], &["restore", "files", "--to", "out", ID[0], ID[1]]] {
        let of = |run: &'static str| [command, &[run]].concat();
        told(&sandbox, &of("nope"), 2, &["\"nope\"", "backstop ls"]);
        told(&sandbox, &of("00000000-0000-7000-8000-000000000000"), 2, &["no run", "backstop ls"]);
        told(&sandbox, &of("tree~9"), 2, &["\"tree~9\"", "backstop ls"]);
        told(&sandbox, &of("snapshot.tree/99"), 2, &["snapshot.tree/99", "backstop ls"]);
    }
    // Both snapshots began within one minute: eight digits of a run's id are the same.
    let all = runs(&sandbox);
    let snapshots: Vec<&str> = all.iter().filter(|r| r["kind"] == "snapshot").map(|r| r["run"].as_str().unwrap()).collect();
    let common = snapshots[0].bytes().zip(snapshots[1].bytes()).take_while(|(a, b)| a == b).count();
    assert!(common >= 8, "{snapshots:?}");
    told(&sandbox, &["show", &snapshots[0][..common]], 2, &["runs begin with", "write more of the id"]);
    sandbox.json(&["show", &snapshots[0][..common + 4]], 0);
    told(&sandbox, &["restore", "logs", "nope", "--from", "2026-11-01", "--to", "2026-11-02", ID[0], ID[1]], 2, &["no stream nope"]);
    sandbox.json(&["import", "log", "e.ndjson"], 0);
    told(
        &sandbox,
        &["restore", "logs", "nope", "--from", "2026-11-01", "--to", "2026-11-02", ID[0], ID[1]],
        2,
        &["no stream nope", "it has: log"],
    );
    told(
        &sandbox,
        &["restore", "logs", "log", "--from", "yesterday", "--to", "2026-11-02", ID[0], ID[1]],
        2,
        &["--from \"yesterday\"", "2026-11-23"],
    );
    told(&sandbox, &["restore", "logs", "log", "--from", "2026-11-02", "--to", "2026-11-01", ID[0], ID[1]], 2, &["before"]);
    let kind = told(&sandbox, &["restore", "files", "export.log/1", "--to", "out", ID[0], ID[1]], 2, &["not a snapshot"]);
    assert!(kind.stderr.contains("export"), "{}", kind.stderr);
    told(&sandbox, &["restore", "files", "tree", "--to", "none", "--path", "*.pdf", ID[0], ID[1]], 1, &["nothing", "*.pdf", "help:"]);
    told(&sandbox, &["--vault", "nowhere", "ls"], 2, &["no vault at nowhere", "help:"]);
    told(&sandbox, &["--vault", "vault", "snapshot"], 2, &["--vault is for reading"]);
    told(&sandbox, &["init", "--dir", "."], 2, &["was initialised before", "--dir"]);
    let usage = sandbox.backstop(&["restore", "flies"]);
    assert_eq!(usage.code, 2);
    assert!(usage.stderr.contains("files"), "{}", usage.stderr);
}

#[test]
fn targets_in_the_way() {
    let sandbox = estate();
    sandbox.write("full/mine.txt", "keep me");
    told(&sandbox, &["restore", "files", "tree", "--to", "full", ID[0], ID[1]], 2, &["full is not empty", "--overwrite"]);
    assert_eq!(support::read(&sandbox.path("full/mine.txt")), "keep me");
    assert_eq!(fs::read_dir(sandbox.path("full")).unwrap().count(), 1);
    told(&sandbox, &["restore", "files", "tree", "--to", "full/mine.txt", ID[0], ID[1]], 1, &["full/mine.txt"]);
    let ran = as_somebody(&sandbox, &["restore", "files", "tree", "--to", "locked/out", ID[0], ID[1]], |sandbox| {
        fs::create_dir(sandbox.path("locked")).unwrap();
        fs::set_permissions(sandbox.path("locked"), fs::Permissions::from_mode(0o555)).unwrap();
    });
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("locked/out") && ran.stderr.contains("Permission denied"), "{}", ran.stderr);
}

/// Runs as a user whom permissions bind: `nobody` where this is root, who then owns the sandbox.
fn as_somebody(sandbox: &Sandbox, args: &[&str], prepare: impl FnOnce(&Sandbox)) -> Ran {
    let root = rustix::process::geteuid().is_root();
    if root {
        // The vault's own files cannot change hands; they can be read.
        let _ = Command::new("chown").args(["-R", "65534:65534"]).arg(sandbox.path("")).output().unwrap();
    }
    prepare(sandbox);
    if root {
        let _ = Command::new("chown").args(["-R", "65534:65534"]).arg(sandbox.path("")).output().unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstop"));
    command.current_dir(sandbox.path("")).args(args).env_remove("BACKSTOP_POLICY").env_remove("BACKSTOP_IDENTITY").stdin(Stdio::null());
    if root {
        command.uid(65534).gid(65534);
    }
    Ran::of(command.output().expect("another user can start the program"))
}

#[test]
fn what_cannot_be_read_is_named_and_its_earlier_version_carried() {
    let sandbox = Sandbox::new();
    for file in ["tree/a.json", "tree/secret.json", "tree/dir/b.json", "tree/dir/deep/c.json"] {
        sandbox.write(file, "{\"v\":1}");
    }
    let init = as_somebody(&sandbox, &["init", "--source", "tree=tree", "--stream", "log"], |_| {});
    assert_eq!(init.code, 0, "{}", init.stderr);
    let first = as_somebody(&sandbox, &["snapshot", "--json"], |_| {});
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert_eq!(first.json()[0]["entries"], 6);
    let closed = |mode: u32| {
        move |sandbox: &Sandbox| {
            sandbox.write("tree/a.json", format!("{{\"v\":{mode}}}"));
            fs::write(sandbox.path("tree/secret.json"), "{\"v\":2}").unwrap();
            fs::set_permissions(sandbox.path("tree/secret.json"), fs::Permissions::from_mode(mode)).unwrap();
            fs::set_permissions(sandbox.path("tree/dir"), fs::Permissions::from_mode(mode | (mode & 0o444) >> 2)).unwrap();
        }
    };
    let partial = as_somebody(&sandbox, &["snapshot", "--json"], closed(0));
    assert_eq!(partial.code, 6, "{}", partial.stderr);
    for path in ["secret.json", "dir"] {
        assert!(partial.stderr.lines().any(|l| l.contains(&format!("{path}: Permission denied"))), "{path}: {}", partial.stderr);
    }
    assert!(partial.stderr.contains("earlier version is carried"), "{}", partial.stderr);
    let report = &partial.json()[0];
    assert_eq!(
        (&report["outcome"], &report["entries"], &report["deleted"], &report["changed"]),
        (&"partial".into(), &6.into(), &0.into(), &1.into()),
        "{report}"
    );
    assert_eq!(report["collections"]["files"]["outcome"], "partial");
    assert_eq!(report["collections"]["files"]["error_code"], "permission_denied");
    let back = as_somebody(&sandbox, &["restore", "files", "tree", "--to", "back", ID[0], ID[1]], |_| {});
    assert_eq!(back.code, 0, "{}", back.stderr);
    assert_eq!(support::read(&sandbox.path("back/secret.json")), "{\"v\":1}", "the version that could be read");
    assert_eq!(support::read(&sandbox.path("back/dir/deep/c.json")), "{\"v\":1}");
    let open = as_somebody(&sandbox, &["snapshot", "--json"], closed(0o644));
    assert_eq!(open.code, 0, "{}", open.stderr);
    assert_eq!(open.json()[0]["changed"], 2, "what changed meanwhile is captured now");
}

#[test]
fn a_missing_source_is_no_deletion() {
    let sandbox = estate();
    fs::rename(sandbox.path("tree"), sandbox.path("away")).unwrap();
    told(&sandbox, &["snapshot"], 1, &["tree", "is not there", "mounted", "nothing was deleted", "earlier snapshots stand"]);
    assert_eq!(runs(&sandbox).iter().filter(|r| r["kind"] == "snapshot").count(), 1);
    sandbox.json(&["restore", "files", "tree", "--to", "back", ID[0], ID[1]], 0);
    fs::rename(sandbox.path("away"), sandbox.path("tree")).unwrap();
    let next = &sandbox.json(&["snapshot"], 0)[0];
    assert_eq!((&next["deleted"], &next["kind"]), (&0.into(), &"delta".into()));
}

/// Takes a snapshot, and does something while it reads a first, large file by its descriptor.
fn while_it_is_read(sandbox: &Sandbox, act: impl FnOnce()) -> Ran {
    fs::File::create(sandbox.path("tree/a-large-one")).unwrap().set_len(1 << 30).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstop"));
    command.current_dir(sandbox.path("")).args(["snapshot", "--json"]).stdin(Stdio::null());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let descriptors = format!("/proc/{}/fd", child.id());
    let reads = |name: &str| {
        let open = fs::read_dir(&descriptors).into_iter().flatten().flatten();
        open.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|to| to.ends_with(name))
    };
    let end = Instant::now() + Duration::from_secs(60);
    while !reads("tree/a-large-one") {
        assert!(Instant::now() < end, "nobody reads it");
        std::thread::sleep(Duration::from_millis(1));
    }
    act();
    Ran::of(child.wait_with_output().unwrap())
}

/// A tree that goes away while it is read: unmounted, or exchanged by whoever exports into it.
#[test]
fn a_source_that_goes_away_while_it_is_read_is_no_deletion() {
    let sandbox = estate();
    for n in 0..3000 {
        sandbox.write(&format!("tree/later/{n}.json"), "{}");
    }
    sandbox.json(&["snapshot"], 0);
    let ran = while_it_is_read(&sandbox, || {
        fs::rename(sandbox.path("tree"), sandbox.path("away")).unwrap();
        fs::create_dir(sandbox.path("tree")).unwrap();
    });
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    for words in ["was unmounted or replaced while it was read", "nothing was deleted", "run it again later"] {
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
    }
    fs::remove_dir(sandbox.path("tree")).unwrap();
    fs::rename(sandbox.path("away"), sandbox.path("tree")).unwrap();
    fs::remove_file(sandbox.path("tree/a-large-one")).unwrap();
    let next = &sandbox.json(&["snapshot"], 0)[0];
    assert_eq!((&next["deleted"], &next["entries"]), (&0.into(), &3004.into()), "{next}");
}

/// The same of a file system that is mounted in the tree: one that leaves its directory behind was unmounted; one that went
/// with its directory, or of which nothing is backed up, is nobody's loss.
#[test]
fn a_mount_in_a_source_that_goes_away_while_it_is_read_is_no_deletion() {
    let sandbox = estate();
    struct Unmount<'a>(&'a Sandbox);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            self.0.shell("umount -l tree/share tree/other 2>/dev/null");
        }
    }
    let _unmount = Unmount(&sandbox);
    let mount = |at: &str| {
        let ran = sandbox.shell(&format!("mkdir -p {at} && mount -t tmpfs tmpfs {at} && echo '{{}}' > {at}/one.json"));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    };
    mount("tree/share");
    sandbox.json(&["snapshot"], 0);
    let ran = while_it_is_read(&sandbox, || assert_eq!(sandbox.shell("umount -l tree/share").code, 0));
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    assert!(ran.stderr.contains("tree/share was unmounted or replaced"), "{}", ran.stderr);
    mount("tree/share");
    assert_eq!(sandbox.json(&["snapshot"], 0)[0]["deleted"], 0);
    let ran = while_it_is_read(&sandbox, || assert_eq!(sandbox.shell("umount -l tree/share && rmdir tree/share").code, 0));
    assert!(ran.code == 0 && ran.json()[0]["deleted"].as_u64() <= Some(2), "{}{}", ran.stdout, ran.stderr);

    let policy = support::read(&sandbox.path("backstop.yaml"));
    sandbox
        .write("backstop.yaml", policy.replacen("  tree: { files: { path:", "  tree: { files: { include: [a-large-one, a.json], path:", 1));
    mount("tree/other");
    sandbox.json(&["snapshot"], 0);
    let ran = while_it_is_read(&sandbox, || assert_eq!(sandbox.shell("umount -l tree/other").code, 0));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

/// It may be meant, and is recorded; but it is what a file system that is not mounted looks like.
#[test]
fn a_source_that_was_emptied_is_told() {
    let sandbox = estate();
    fs::rename(sandbox.path("tree"), sandbox.path("away")).unwrap();
    fs::create_dir(sandbox.path("tree")).unwrap();
    let ran = sandbox.backstop(&["snapshot", "--json"]);
    assert_eq!((ran.code, &ran.json()[0]["deleted"]), (0, &3.into()), "{}", ran.stderr);
    assert!(ran.stderr.contains("tree is empty") && ran.stderr.contains("3 records") && ran.stderr.contains("mounted"), "{}", ran.stderr);
    let again = sandbox.backstop(&["snapshot", "--json"]);
    assert!(!again.stderr.contains("is empty"), "told once: {}", again.stderr);
}

#[test]
fn what_is_excluded_need_not_be_readable() {
    let sandbox = Sandbox::new();
    for file in ["tree/a.json", "tree/lost+found/b", "tree/dir/c.json"] {
        sandbox.write(file, "{}");
    }
    let init = as_somebody(&sandbox, &["init", "--source", "tree=tree", "--stream", "log"], |_| {});
    assert_eq!(init.code, 0, "{}", init.stderr);
    let policy = support::read(&sandbox.path("backstop.yaml"));
    let excluding = policy.replacen("  tree: { files: { path:", "  tree: { files: { exclude: [lost+found], path:", 1);
    assert_ne!(policy, excluding, "{policy}");
    sandbox.write("backstop.yaml", excluding);
    let closed = |sandbox: &Sandbox| fs::set_permissions(sandbox.path("tree/lost+found"), fs::Permissions::from_mode(0o000)).unwrap();
    let ran = as_somebody(&sandbox, &["snapshot", "--json"], closed);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.json()[0]["entries"], 3, "{}", ran.stdout);
}

#[test]
fn sockets_and_pipes_make_a_run_partial_and_are_named() {
    let sandbox = estate();
    sandbox.shell("mkfifo tree/pipe");
    let _socket = std::os::unix::net::UnixListener::bind(sandbox.path("tree/s")).unwrap();
    let ran = sandbox.backstop(&["snapshot", "--json"]);
    assert_eq!(ran.code, 6, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("pipe: a pipe cannot be backed up") && ran.stderr.contains("s: a socket cannot be backed up"),
        "{}",
        ran.stderr
    );
    let report = &ran.json()[0];
    assert_eq!((&report["outcome"], &report["collections"]["files"]["error_code"]), (&"partial".into(), &"skipped".into()));
    sandbox.json(&["verify"], 0);
}

/// What was a file or a directory and is something that is not backed up now: the snapshot is what it says, without it.
#[test]
fn a_pipe_in_the_place_of_a_file_is_its_deletion() {
    let sandbox = estate();
    sandbox.shell("rm -r tree/a.json tree/dir && mkfifo tree/a.json tree/dir");
    let ran = sandbox.backstop(&["snapshot", "--json"]);
    assert_eq!(ran.code, 6, "{}", ran.stderr);
    let report = &ran.json()[0];
    assert_eq!((&report["entries"], &report["deleted"], &report["kind"]), (&0.into(), &3.into(), &"delta".into()), "{report}");
    for word in ["a.json: a pipe cannot be backed up", "dir: a pipe cannot be backed up"] {
        assert!(ran.stderr.contains(word) && !ran.stderr.contains("carried"), "{word}: {}", ran.stderr);
    }
    sandbox.json(&["verify", "--deep", ID[0], ID[1]], 0);
    let before = sandbox.json(&["restore", "files", "snapshot.tree/1", "--to", "before", ID[0], ID[1]], 0);
    assert_eq!(before.last().unwrap()["entries"], 3, "{before:?}");
    let back = sandbox.backstop(&["restore", "files", "tree", "--to", "back", "--json", ID[0], ID[1]]);
    assert!(back.stderr.is_empty() || !back.stderr.contains("attested"), "{}", back.stderr);
    assert_eq!(fs::read_dir(sandbox.path("back")).unwrap().count(), 0, "{}", back.stdout);
}

/// Takes a snapshot while a file grows without pause.
fn snapshot_of_a_growing_file(sandbox: &Sandbox, file: &Path) -> Ran {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::io::Write;
            let mut log = fs::OpenOptions::new().append(true).open(file).unwrap();
            while !stop.load(Ordering::Relaxed) {
                log.write_all(b"one more line\n").unwrap();
            }
        });
        let ran = sandbox.backstop(&["snapshot", "--json"]);
        stop.store(true, Ordering::Relaxed);
        ran
    })
}

/// One that is read whole, and one that is read piece by piece. Where the machine lets the writer pause for as
/// long as a reading takes, the file stood still and is rightly captured: then once more.
#[test]
fn a_file_that_keeps_changing_is_reported_and_its_earlier_version_carried() {
    for size in [3 << 20, 9 << 20] {
        let sandbox = estate();
        let mut reported = None;
        for _ in 0..100 {
            let file = sandbox.write("tree/busy.log", vec![b'x'; size]);
            sandbox.json(&["snapshot"], 0);
            let ran = snapshot_of_a_growing_file(&sandbox, &file);
            assert!([0, 6].contains(&ran.code), "{}", ran.stderr);
            if ran.code == 6 {
                reported = Some(ran);
                break;
            }
        }
        let ran = reported.expect("a hundred readings of a growing file found it at rest");
        assert!(ran.stderr.contains("busy.log: it changed while it was read"), "{}", ran.stderr);
        assert!(ran.stderr.contains("earlier version is carried"), "{}", ran.stderr);
        assert_eq!(ran.json()[0]["collections"]["files"]["error_code"], "changed_while_read");
        sandbox.json(&["restore", "files", "tree", "--to", "back", ID[0], ID[1]], 0);
        assert!(fs::read(sandbox.path("back/busy.log")).unwrap() == vec![b'x'; size], "the version that stood still");
        assert_eq!(sandbox.json(&["snapshot"], 0)[0]["changed"], 1, "once it stands still it is captured");
        sandbox.json(&["verify", "--deep", ID[0], ID[1]], 0);
    }
}

#[test]
fn damaged_imports_commit_nothing_and_say_the_line() {
    let sandbox = estate();
    let good = "{\"id\":1,\"createdDateTime\":\"2026-11-01T00:00:00Z\"}\n";
    let gz = |text: &str| {
        use std::io::Write;
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        out.write_all(text.as_bytes()).unwrap();
        out.finish().unwrap()
    };
    let packed = gz(&good.repeat(100));
    let cases: [(&str, Vec<u8>, &[&str]); 8] = [
        ("cut.ndjson", format!("{good}{good}{{\"id\":3,").into_bytes(), &["line 3", "ends inside", "deliver it again"]),
        ("word.ndjson", format!("{good}not json\n{good}").into_bytes(), &["line 2", "column 1"]),
        ("array.ndjson", format!("{good}[1,2]\n").into_bytes(), &["line 2"]),
        ("array.json", format!("[{good},{good}").into_bytes(), &["line ", "ends inside"]),
        ("number.json", b"[{\"id\":1},\n2]".to_vec(), &["line 2", "expected an object"]),
        ("nul.ndjson", [good.as_bytes(), b"{\"id\":\"\0\"}\n"].concat(), &["line 2"]),
        ("cut.ndjson.gz", packed[..packed.len() / 2].to_vec(), &["cut short", "deliver it again"]),
        ("random.bin", (0..2000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect(), &["line "]),
    ];
    for (file, bytes, words) in cases {
        sandbox.write(file, bytes);
        told(&sandbox, &["import", "log", file], 1, &[&[file, "nothing of this import was committed"], words].concat());
        assert!(!runs(&sandbox).iter().any(|r| r["chain"] == "export.log" && r["outcome"] != "failed"), "{file}");
    }
    // One bad file among good ones: whole or not at all, and the run that wrote an object says that it failed.
    let exports = || runs(&sandbox).into_iter().filter(|r| r["chain"] == "export.log").collect::<Vec<Value>>();
    let before = exports().len();
    sandbox.write("good.ndjson", good);
    told(&sandbox, &["import", "log", "good.ndjson", "cut.ndjson"], 1, &["cut.ndjson", "line 3"]);
    assert_eq!(exports().len(), before + 1);
    assert!(exports().iter().all(|r| r["outcome"] == "failed"), "{:?}", exports());
    told(&sandbox, &["import", "log", "missing.ndjson"], 2, &["missing.ndjson", "No such file"]);
    told(&sandbox, &["import", "log", "tree"], 2, &["tree", "directory"]);
    sandbox.write("times.ndjson", "{\"id\":1,\"when\":\"2026-11-01T00:00:00Z\"}\n");
    told(&sandbox, &["import", "log", "times.ndjson"], 2, &["times.ndjson", "/createdDateTime", "`time`"]);
    let empty = sandbox.write("empty.ndjson", "");
    let ran = sandbox.backstop(&["import", "log", empty.to_str().unwrap()]);
    assert!(ran.stderr.contains("no event was found"), "an empty file is not passed over in silence: {}", ran.stderr);
    assert_eq!(sandbox.json(&["import", "log", "good.ndjson"], 0)[0]["events"], 1);
    assert_eq!(sandbox.json(&["verify", "--deep", ID[0], ID[1]], 0)[0]["ok"], true);
}

#[test]
fn the_same_file_is_imported_once() {
    let sandbox = estate();
    let line = |id: u32| format!("{{\"id\":{id},\"createdDateTime\":\"2026-11-01T00:00:00Z\"}}\n");
    sandbox.write("a.ndjson", line(1));
    sandbox.write("b.ndjson", line(2));
    let first = &sandbox.json(&["import", "log", "a.ndjson"], 0)[0];
    sandbox.shell("cp a.ndjson renamed.ndjson");
    let ran = sandbox.backstop(&["import", "log", "renamed.ndjson", "--json"]);
    assert_eq!(ran.code, 0);
    assert!(ran.stderr.contains("renamed.ndjson was imported before") && ran.stderr.contains("--again"), "{}", ran.stderr);
    let second = &ran.json()[0];
    assert_eq!((&second["run"], &second["events"], &second["already_imported"][0]), (&first["run"], &0.into(), &"renamed.ndjson".into()));
    let both = &sandbox.json(&["import", "log", "a.ndjson", "b.ndjson"], 0)[0];
    assert_eq!((&both["events"], &both["sequence"]), (&1.into(), &2.into()));
    assert_eq!(sandbox.json(&["import", "log", "a.ndjson", "--again"], 0)[0]["sequence"], 3);
    let logs = sandbox.backstop(&["restore", "logs", "log", "--from", "2026-11-01", "--to", "2026-11-02", ID[0], ID[1]]);
    assert_eq!((logs.code, logs.stdout.lines().count()), (0, 2), "each event once: {}", logs.stdout);
}

/// What it could not look into, doctor does not call well.
#[test]
fn doctor_says_where_it_could_not_look() {
    let sandbox = Sandbox::new();
    sandbox.write("tree/a.json", "{}");
    let init = as_somebody(&sandbox, &["init", "--source", "tree=tree", "--stream", "log"], |_| {});
    assert_eq!(init.code, 0, "{}", init.stderr);
    let identities = |ran: &Ran| -> Vec<String> {
        let findings = ran.json().remove(0)["findings"].as_array().unwrap().clone();
        let of = findings.into_iter().filter(|f| f["subject"] == "identities");
        of.map(|f| f["message"].as_str().unwrap().to_owned()).collect()
    };
    let set = |mode: u32| move |s: &Sandbox| fs::set_permissions(s.path("keys"), fs::Permissions::from_mode(mode)).unwrap();
    let found = as_somebody(&sandbox, &["doctor", "--json"], |_| {});
    assert!(identities(&found)[0].contains("keys/identity-1.txt"), "{}", found.stdout);
    // Without the right to list it, its files can be opened by their names only.
    let closed = as_somebody(&sandbox, &["doctor", "--json"], set(0o311));
    let told = identities(&closed);
    assert!(told.len() == 1 && told[0].contains("keys cannot be looked into for identities"), "{}", closed.stdout);
    let gone = as_somebody(&sandbox, &["doctor", "--json"], |s| {
        fs::create_dir(s.path("safe")).unwrap();
        set(0o755)(s);
        for n in 1..3 {
            fs::rename(s.path(&format!("keys/identity-{n}.txt")), s.path(&format!("safe/identity-{n}.txt"))).unwrap();
        }
    });
    assert_eq!(identities(&gone), ["no identity lies beside the policy: this machine cannot read what it backs up"]);
}

#[test]
fn a_key_of_another_role_backs_nothing_up() {
    let sandbox = estate();
    let before = sandbox.objects();
    for role in ["tester", "operator"] {
        let text = fs::read_to_string(sandbox.path("backstop.yaml")).unwrap();
        let text = text.replace("key_file: keys/agent.key", &format!("key_file: keys/{role}.key"));
        sandbox.write("other.yaml", text.replace("jobs: {}", "jobs: { often: { snapshot: [tree], schedule: \"0 * * * * *\" } }"));
        for command in ["snapshot", "checkpoint", "run"] {
            let ran = sandbox.backstop(&["--policy", "other.yaml", command]);
            assert_eq!(ran.code, 2, "{role} {command}: {}{}", ran.stdout, ran.stderr);
            assert!(
                ran.stderr.contains(&format!("the key of the vault's {role}")) && ran.stderr.contains("keys/agent.key"),
                "{}",
                ran.stderr
            );
        }
    }
    assert_eq!(sandbox.objects(), before, "nothing was written");
}
