//! `backstop watch` sees, from attestations and listings alone and without a key, each thing that can go wrong, and
//! nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::daemon::{Daemon, policy};
use support::receiver::Receiver;
use support::{Ran, Sandbox, faketime};

const JOBS: &str = "  delta: { snapshot: [tree], schedule: \"0 */30 * * * *\" }\n  daily: { checkpoint: {}, schedule: \"0 0 3 * * *\" }\n  test: { restore_test: {}, schedule: \"0 0 4 * * Sun\" }\n  drill: { drill: {}, schedule: \"0 0 5 1 * *\" }";

/// A vault with some snapshots and a checkpoint, and a watcher's copy of the policy without any key beside it.
fn watched(more: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.init();
    policy(&sandbox, "backstop.yaml", JOBS, "");
    for n in 0..3 {
        sandbox.write("tree/a.json", format!("{{\"n\":{n}}}"));
        assert_eq!(sandbox.backstop(&["snapshot"]).code, 0);
    }
    sandbox.json(&["checkpoint"], 0);
    sandbox.write("tree/a.json", "{\"n\":9}");
    assert_eq!(sandbox.backstop(&["snapshot"]).code, 0);
    fs::create_dir_all(sandbox.path("watcher/keys")).unwrap();
    fs::copy(sandbox.path("keys/genesis.json"), sandbox.path("watcher/keys/genesis.json")).unwrap();
    let text = fs::read_to_string(sandbox.path("backstop.yaml")).unwrap().replace("path: ./vault", "path: ../vault");
    sandbox.write("watcher/backstop.yaml", format!("{text}\n{more}\n"));
    sandbox
}

fn look(sandbox: &Sandbox, moved: &str) -> Ran {
    let library = faketime();
    let env = [("LD_PRELOAD", library.to_str().unwrap()), ("FAKETIME", moved)];
    let env = if moved.is_empty() { &env[..0] } else { &env[..] };
    sandbox.backstop_with(&["--policy", "watcher/backstop.yaml", "--json", "watch", "--once"], env)
}

fn kinds(ran: &Ran) -> BTreeSet<String> {
    ran.json().iter().map(|l| format!("{} {}", l["kind"].as_str().unwrap(), l["subject"].as_str().unwrap())).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

#[track_caller]
fn sees(sandbox: &Sandbox, moved: &str, code: i32, expected: &[&str]) {
    let ran = look(sandbox, moved);
    assert_eq!(kinds(&ran), set(expected), "{}\n{}", ran.stdout, ran.stderr);
    assert_eq!(ran.code, code, "{}\n{}", ran.stdout, ran.stderr);
}

#[test]
fn nothing_is_wrong_then_it_grows_quiet_then_what_is_due_is_late() {
    let sandbox = watched("");
    sees(&sandbox, "", 0, &[]);
    // Half an hour and a third of the RPO after the last run at most; then the RPO.
    sees(&sandbox, "+55m", 4, &["chain_quiet snapshot.tree"]);
    let ran = look(&sandbox, "+3h");
    assert!(kinds(&ran).is_superset(&set(&["chain_quiet snapshot.tree", "rpo_exceeded snapshot.tree"])), "{}", ran.stdout);
    let line = ran.json().into_iter().find(|l| l["kind"] == "rpo_exceeded").unwrap();
    assert_eq!((line["severity"].as_str(), line["command"].as_str()), (Some("critical"), Some("backstop status")));
    let late = kinds(&look(&sandbox, "+70d"));
    for kind in ["restore_test_missed restore-test", "drill_missed drill", "checkpoint_missed checkpoint"] {
        assert!(late.contains(kind), "{kind} is not in {late:?}");
    }
}

#[test]
fn a_missing_number_and_a_changed_object_are_seen() {
    let sandbox = watched("");
    sees(&sandbox, "", 0, &[]);
    sandbox.remove("vault/attestations/snapshot.tree/0000000002.json");
    let found = kinds(&look(&sandbox, ""));
    assert!(found.contains("damaged_attestation snapshot.tree") || found.contains("missing_attestation snapshot.tree"), "{found:?}");
    assert_eq!(look(&sandbox, "").code, 3);

    let sandbox = watched("");
    let object = sandbox.objects().into_iter().find(|o| o.contains("config-snapshots/tree")).unwrap();
    sandbox.tamper(&format!("vault/{object}"), |bytes| bytes[30] ^= 1);
    let ran = look(&sandbox, "");
    assert!(kinds(&ran).iter().all(|k| k.starts_with("audit_finding")) && ran.code == 3, "{}", ran.stdout);
}

#[test]
fn a_wrong_lock_is_seen() {
    let sandbox = watched("");
    sees(&sandbox, "", 0, &[]);
    let object = sandbox.objects().into_iter().find(|o| o.contains("config-snapshots/tree")).unwrap();
    let (folder, name) = object.rsplit_once('/').unwrap();
    let lock = format!("vault/{folder}/.{name}.lock");
    let text = fs::read_to_string(sandbox.path(&lock)).unwrap();
    let year: String = text.split("\"until\":\"").nth(1).unwrap().chars().take(4).collect();
    fs::remove_file(sandbox.path(&lock)).unwrap();
    sandbox.write(&lock, text.replace(&format!("\"until\":\"{year}"), "\"until\":\"2027"));
    let ran = look(&sandbox, "");
    let found = kinds(&ran);
    assert!(!found.is_empty() && found.iter().all(|k| k.starts_with("wrong_lock")) && ran.code == 3, "{}", ran.stdout);
}

#[test]
fn a_tail_that_is_cut_off_and_an_old_vault_that_is_put_back_are_seen() {
    let sandbox = watched("");
    sandbox.copy("vault", "older");
    sandbox.write("tree/a.json", "{\"n\":10}");
    assert_eq!(sandbox.backstop(&["snapshot"]).code, 0);
    sandbox.json(&["checkpoint"], 0);
    sees(&sandbox, "", 0, &[]);
    // A watcher that never saw more sees nothing in the older copy; this one does.
    fs::rename(sandbox.path("vault"), sandbox.path("newer")).unwrap();
    fs::rename(sandbox.path("older"), sandbox.path("vault")).unwrap();
    let ran = look(&sandbox, "");
    let found = kinds(&ran);
    assert!(found.iter().any(|k| k.starts_with("checkpoint_back")) && ran.code == 3, "{}", ran.stdout);
    // It does not get used to it.
    assert_eq!(kinds(&look(&sandbox, "")), found);
    // Somebody who only looks, while a watcher has the directory or where it cannot be written, sees the same.
    let lock = sandbox.path("watcher/.backstop/watch/lock");
    assert!(lock.is_file());
    let mut holder =
        Command::new("flock").arg("-F").arg(lock).args(["sh", "-c", "echo held; exec sleep 600"]).stdout(Stdio::piped()).spawn().unwrap();
    holder.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
    let ran = look(&sandbox, "");
    assert!(kinds(&ran) == found && ran.stderr.contains("not kept"), "{}\n{}", ran.stdout, ran.stderr);
    holder.kill().unwrap();
    holder.wait().unwrap();
    let text = fs::read_to_string(sandbox.path("watcher/backstop.yaml")).unwrap();
    sandbox.write("watcher/backstop.yaml", format!("{text}\nstate: /proc/nowhere\n"));
    let ran = look(&sandbox, "");
    assert!(ran.stderr.contains("not kept") && ran.code == 0, "{}\n{}", ran.stdout, ran.stderr);
}

#[test]
fn another_vault_in_its_place_is_tampering_and_nothing_is_trusted_without_a_genesis() {
    let (sandbox, other) = (watched(""), watched(""));
    sees(&sandbox, "", 0, &[]);
    fs::rename(sandbox.path("vault"), sandbox.path("own")).unwrap();
    let copied = sandbox.shell(&format!("cp -a '{}' vault", other.path("vault").display()));
    assert_eq!(copied.code, 0, "{}", copied.stderr);
    let ran = look(&sandbox, "");
    assert!(ran.code == 3 && kinds(&ran).iter().all(|k| k.starts_with("checkpoint_back")), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.json().iter().all(|l| l["severity"] == "critical"), "{}", ran.stdout);
    let text = fs::read_to_string(sandbox.path("watcher/backstop.yaml")).unwrap();
    sandbox.write("watcher/backstop.yaml", text.replace("  genesis_file:", "  # genesis_file:"));
    let ran = look(&sandbox, "");
    assert!(ran.code == 2 && ran.stderr.contains("genesis"), "{}{}", ran.stdout, ran.stderr);
    // A copy that is damaged is named, and not the vault blamed.
    sandbox.write("watcher/backstop.yaml", text);
    sandbox.write("watcher/keys/genesis.json", "garbage");
    let ran = look(&sandbox, "");
    assert!(ran.code != 3 && ran.stderr.contains("keys/genesis.json is no genesis"), "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn a_damaged_memory_is_put_aside_and_the_vault_audited() {
    let sandbox = watched("");
    sees(&sandbox, "", 0, &[]);
    sandbox.write("watcher/.backstop/watch/kept.json", "");
    let ran = look(&sandbox, "");
    assert!(ran.code == 0 && ran.stderr.contains("kept.json.damaged"), "{}{}", ran.stdout, ran.stderr);
    sees(&sandbox, "", 0, &[]);
    sandbox.remove("vault/attestations/snapshot.tree/0000000002.json");
    assert_eq!(look(&sandbox, "").code, 3);
}

#[test]
fn a_vault_that_cannot_be_read_is_no_good_news() {
    let sandbox = watched("");
    fs::rename(sandbox.path("vault"), sandbox.path("away")).unwrap();
    let ran = look(&sandbox, "");
    assert_eq!(ran.code, 1, "{}\n{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("there is no vault at"), "{}", ran.stderr);
}

#[test]
fn it_raises_the_alarm_within_a_minute_and_calls_it_over() {
    let receiver = Receiver::new();
    let sandbox = watched(&format!("notify: {{ webhook: \"{}\" }}", receiver.url("/hook")));
    let arguments = ["watch", "--every", "2", "--audit-every", "3"];
    let mut watcher = Daemon::start(&sandbox, "watcher/backstop.yaml", 0, &arguments, &[]);
    watcher.wait_for("start", 30, |l| l["message"] == "the watcher runs");
    std::thread::sleep(Duration::from_secs(8));
    assert!(receiver.received("/hook").is_empty(), "{:?}", receiver.received("/hook"));
    sandbox.copy("vault/attestations/snapshot.tree/0000000002.json", "kept.json");
    sandbox.remove("vault/attestations/snapshot.tree/0000000002.json");
    let told = receiver.wait("/hook", 1, 60)[0].json();
    let alert = &told["data"]["alerts"][0];
    assert_eq!(
        (alert["severity"].as_str(), alert["state"].as_str(), alert["subject"].as_str()),
        (Some("critical"), Some("opened"), Some("snapshot.tree"))
    );
    let open = sandbox.json(&["--policy", "watcher/backstop.yaml", "notify", "ls", "--watch"], 0);
    assert!(open.iter().any(|a| a["id"] == alert["id"]), "{open:?}");
    sandbox.json(&["--policy", "watcher/backstop.yaml", "notify", "ack", alert["id"].as_str().unwrap(), "--watch", "--by", "me"], 0);
    receiver.wait("/hook", 2, 60);
    watcher.signal("TERM");
    assert_eq!(watcher.end(30).0, Some(0));
}
