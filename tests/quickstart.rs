//! What `backstop quickstart` claims is true, judged from outside; it touches nothing of anybody else's, and it may
//! be killed at any instant and run again.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/mod.rs"]
mod support;
#[path = "support/tenant.rs"]
mod tenant;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use backstop::store::Sha256;
use serde_json::Value;
use support::{Ran, Sandbox, walk};
use tenant::judge;

const USERS: &str = "80";

/// Runs it in a directory of the sandbox, on a port that nobody else's test takes.
fn quickstart(sandbox: &Sandbox, dir: &str, more: &[&str]) -> Ran {
    let args: Vec<&str> = ["quickstart", "--dir", dir, "--users", USERS].into_iter().chain(more.iter().copied()).collect();
    let ran = sandbox.backstop(&args);
    assert!(!ran.stderr.contains("panicked") && !ran.stderr.contains("Error {"), "{}", ran.stderr);
    ran
}

/// Every file below a directory with its content.
fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut out = BTreeMap::new();
    walk(root, &mut |path| {
        out.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(path).unwrap());
    });
    out
}

/// Runs in the quickstart's directory, as its last screen says.
fn there(sandbox: &Sandbox, dir: &str, args: &[&str], code: i32) -> Vec<Value> {
    let out = Command::new(env!("CARGO_BIN_EXE_backstop"))
        .current_dir(sandbox.path(dir))
        .args(args)
        .arg("--json")
        .env_remove("BACKSTOP_POLICY")
        .env_remove("BACKSTOP_IDENTITY")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(code), "{args:?}\n{text}\n{}", String::from_utf8_lossy(&out.stderr));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const ID: [&str; 2] = ["--identity", "keys/identity-1.txt"];

#[test]
fn its_claims_are_true() {
    let sandbox = Sandbox::new();
    let ran = quickstart(&sandbox, "q", &["--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
    let said = &ran.json()[0];
    let root = fs::canonicalize(sandbox.path("q")).unwrap();
    let place = |name: &str| fs::canonicalize(said[name].as_str().unwrap()).unwrap();
    assert_eq!((place("dir"), place("policy")), (root.clone(), root.join("backstop.yaml")));
    for name in ["vault", "restored", "damaged"] {
        assert_eq!(place(name), root.join(name));
    }
    for name in ["snapshot_seconds", "export_seconds", "delta_seconds", "restore_seconds", "duration_seconds"] {
        assert!(said[name].as_f64().unwrap() > 0.0, "{name}");
    }
    assert_eq!(said["recovered_with_tools"], true);

    // What was protected: the vault says the same, and so do files and dates.
    let protected: BTreeMap<&str, &Value> =
        said["protected"].as_array().unwrap().iter().map(|p| (p["name"].as_str().unwrap(), p)).collect();
    assert_eq!(
        protected.keys().copied().collect::<Vec<_>>(),
        ["activity", "azure", "directory-audits", "entra", "evidence", "pim-requests", "sign-ins"]
    );
    let runs = there(&sandbox, "q", &["ls"], 0);
    let of = |name: &str| runs.iter().filter(|r| r["source"] == name || r["stream"] == name).collect::<Vec<_>>();
    for (name, p) in &protected {
        let stored: u64 = of(name).iter().map(|r| r["stored_bytes"].as_u64().unwrap()).sum();
        assert_eq!(p["stored_bytes"].as_u64().unwrap(), stored, "{name}");
        assert!(p["count"].as_u64().unwrap() > 0 && p["rpo_achieved_seconds"].as_f64().unwrap() < 3600.0, "{p}");
        assert!(p["lock_until"].as_str().unwrap() > "2033", "{p}");
    }
    let newest = there(&sandbox, "q", &["restore", "files", "entra", "--to", "fresh", ID[0], ID[1]], 0);
    assert_eq!((newest[0]["tree_matches"].as_bool(), &newest[0]["entries"]), (Some(true), &protected["entra"]["count"]));

    // What came back without the program is what the program brings back.
    assert_eq!(tree(&root.join("recovered")), tree(&root.join("fresh")));
    // And what was restored is the state before: without the intruder, with as many records as it says.
    let restored = tree(&root.join("restored"));
    assert_eq!(restored.len() as u64, said["restored_records"].as_u64().unwrap());
    assert_eq!(said["restored_records"], said["compared_records"]);
    there(&sandbox, "q", &["restore", "files", "entra~1", "--to", "before", ID[0], ID[1]], 0);
    assert_eq!(restored, tree(&root.join("before")));
    assert_ne!(restored, tree(&root.join("fresh")));

    // The vault is whole, from the digest alone.
    let genesis = said["genesis_sha256"].as_str().unwrap();
    assert_eq!(Sha256::of(&fs::read(root.join("keys/genesis.json")).unwrap()).to_string(), genesis);
    let whole = there(&sandbox, "q", &["verify", "--vault", "vault", "--genesis", genesis], 0);
    assert_eq!((&whole[0]["attestations"], &whole[0]["objects"]), (&said["attestations"], &said["objects"]));
    assert_eq!(there(&sandbox, "q", &["verify", "--deep", ID[0], ID[1]], 0)[0]["ok"], true);

    // The damaged copy differs from the vault in one bit of one object, whose digest was attested.
    let name = said["damaged_object"].as_str().unwrap();
    let (good, bad) = (tree(&root.join("vault")), tree(&root.join("damaged")));
    assert!(good.keys().eq(bad.keys()));
    let differ: Vec<&PathBuf> = good.keys().filter(|path| good[*path] != bad[*path]).collect();
    assert_eq!(differ, [&PathBuf::from(name)]);
    let (a, b) = (&good[differ[0]], &bad[differ[0]]);
    assert_eq!((a.len(), a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>()), (b.len(), 1));
    let run = of("entra").into_iter().find(|r| r["sequence"] == 1).unwrap();
    let shown = there(&sandbox, "q", &["show", run["run"].as_str().unwrap()], 0);
    let subjects = shown[0]["statement"]["subject"].as_array().unwrap();
    let attested = subjects.iter().find(|s| s["name"] == name).unwrap()["digest"]["sha256"].as_str().unwrap();
    assert_eq!(Sha256::of(a).to_string(), attested);
    assert_ne!(Sha256::of(b).to_string(), attested);
    let found = there(&sandbox, "q", &["verify", "--vault", "damaged", "--genesis", genesis, "--ignore-locks"], 3);
    let errors: Vec<&Value> = found[0]["findings"].as_array().unwrap().iter().filter(|f| f["severity"] == "error").collect();
    assert!(!errors.is_empty() && errors.iter().all(|f| f["object"] == name), "{errors:?}");

    // Its secret and its identities are for its owner alone.
    use std::os::unix::fs::PermissionsExt;
    for file in ["keys/tenant-secret.txt", "keys/identity-1.txt", "keys/identity-2.txt", "keys/agent.key"] {
        assert_eq!(fs::metadata(root.join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }

    // Again: it goes on. Deltas, no error, and every claim anew.
    let again = quickstart(&sandbox, "q", &["--json"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    let more = &again.json()[0];
    assert_eq!(more["genesis_sha256"].as_str(), Some(genesis));
    let runs = there(&sandbox, "q", &["ls"], 0);
    let kinds: Vec<String> = runs
        .iter()
        .filter(|r| r["source"] == "entra")
        .map(|r| there(&sandbox, "q", &["show", r["run"].as_str().unwrap()], 0)[0]["statement"]["predicate"]["snapshot_kind"].to_string())
        .collect();
    assert_eq!(kinds, ["\"delta\"", "\"delta\"", "\"delta\"", "\"base\""]);
    assert_eq!(more["restored_records"].as_u64().unwrap(), tree(&root.join("restored")).len() as u64);
    there(&sandbox, "q", &["restore", "files", "entra", "--to", "fresh-2", ID[0], ID[1]], 0);
    assert_eq!(tree(&root.join("recovered")), tree(&root.join("fresh-2")));
}

#[test]
fn the_tenant_that_goes_on_is_what_was_captured() {
    let sandbox = Sandbox::new();
    let begun = quickstart(&sandbox, "q", &["--json"]);
    assert_eq!(begun.code, 0, "{}", begun.stderr);
    // Served once more, it is what the last snapshot has: an independent program says so.
    let mut serving = Command::new(env!("CARGO_BIN_EXE_backstop"))
        .current_dir(sandbox.path("q"))
        .args(["quickstart", "--dir", ".", "--serve", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let story = || serde_json::from_str::<Value>(&support::read(&sandbox.path("q/quickstart.json"))).unwrap_or_default();
    let entra = || there(&sandbox, "q", &["ls"], 0).iter().filter(|r| r["source"] == "entra").count();
    wait_until(|| story()["happened"].as_array().is_some_and(|h| h.len() == 4) && entra() == 4);
    let port = story()["port"].as_u64().unwrap();
    let dump = http_get(port, "/sample/dump");
    let dump = sandbox.write("dump.ndjson", dump);
    serving.kill().unwrap();
    serving.wait().unwrap();
    for source in ["entra", "azure"] {
        there(&sandbox, "q", &["restore", "files", source, "--to", &format!("last-{source}"), ID[0], ID[1]], 0);
        let judged = judge(source, &dump, &sandbox.path(&format!("q/last-{source}")));
        assert_eq!(judged.code, 0, "{}{}", judged.stdout, judged.stderr);
    }
}

fn wait_until(mut done: impl FnMut() -> bool) {
    for _ in 0..600 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("it never came to that");
}

/// The body of an answer on this machine.
fn http_get(port: u64, path: &str) -> Vec<u8> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", u16::try_from(port).unwrap())).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    assert!(bytes.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&bytes[..head]));
    assert!(!String::from_utf8_lossy(&bytes[..head]).contains("chunked"));
    bytes.split_off(head + 4)
}

#[test]
fn its_last_screen_fits() {
    let sandbox = Sandbox::new();
    let ran = quickstart(&sandbox, "q", &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(!ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'));
    let (_, screen) = ran.stdout.split_once("What was protected").expect("a last screen");
    let dir = sandbox.path("q");
    let lines: Vec<&str> = screen.lines().collect();
    assert!(lines.len() > 20, "{screen}");
    for line in lines {
        // How long the path to the directory is, is the reader's own affair.
        let own = line.replace(fs::canonicalize(&dir).unwrap().to_str().unwrap(), "DIR");
        assert!(own.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
    for part in ["What was proved", "Measured here", "Where it is", "Try next"] {
        assert!(screen.contains(part), "{part}");
    }
    // What it says to try works, in that directory.
    for line in screen.lines().skip_while(|l| !l.starts_with("Try next")).filter_map(|l| l.trim().strip_prefix("backstop ")) {
        if !line.starts_with("quickstart") {
            let args: Vec<&str> = line.split_whitespace().take_while(|arg| *arg != "--html").collect();
            there(&sandbox, "q", &args, 0);
        }
    }
    assert!(!ran.stdout.contains("sample-secret") && !ran.stderr.contains("sample-secret"));
}

#[test]
fn what_is_not_its_own_stays_as_it_is() {
    let sandbox = Sandbox::new();
    sandbox.write("mine/letter.txt", "dear");
    sandbox.write("mine/keys/agent.key", "private");
    sandbox.write("odd/quickstart.json", "{\"users\": \"many\"}");
    sandbox.write("file", "a file");
    for (dir, words) in [
        ("mine", "is not empty"),
        ("odd", "quickstart.json cannot be read"),
        ("file", "file is not a directory"),
        ("file/below", "file/below"),
    ] {
        let before = tree(&sandbox.path("."));
        let ran = quickstart(&sandbox, dir, &[]);
        assert!(ran.code == 2 || ran.code == 1 && dir == "file/below", "{dir}: {}\n{}", ran.code, ran.stderr);
        assert!(ran.stderr.contains("error: ") && ran.stderr.contains(words) && ran.stderr.contains("--dir"), "{dir}: {}", ran.stderr);
        assert_eq!(tree(&sandbox.path(".")), before);
        assert_eq!(fs::read_dir(sandbox.path(".")).unwrap().count(), 3);
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_said() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("closed")).unwrap();
    let ran = sandbox.shell(
        "if [ \"$(id -u)\" -eq 0 ]; then chattr +i closed; else chmod 555 closed; fi; lsattr -d closed >&2 || true; touch closed/x 2>/dev/null && echo open || echo closed",
    );
    let says_closed = ran.stdout.contains("closed");
    let below = quickstart(&sandbox, "closed/below", &[]);
    let itself = quickstart(&sandbox, "closed", &[]);
    sandbox.shell("chattr -i closed || true; chmod 755 closed");
    assert!(says_closed, "this file system has neither permissions nor flags: {}", ran.stderr);
    for ran in [below, itself] {
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(
            ran.stderr.contains("error: cannot ") && ran.stderr.contains("closed") && ran.stderr.contains("not permitted"),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains("--dir"), "{}", ran.stderr);
    }
    assert_eq!(fs::read_dir(sandbox.path("closed")).unwrap().count(), 0);
}

#[test]
fn a_port_that_is_taken_is_said_or_passed_over() {
    let sandbox = Sandbox::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ran = quickstart(&sandbox, "q", &["--port", &port]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains(&port) && ran.stderr.contains("taken") && ran.stderr.contains("--port"), "{}", ran.stderr);
    // Begun at one port and killed before the vault was there: the policy is of that port, the next run is elsewhere.
    drop(taken);
    let whole = quickstart(&sandbox, "q", &["--port", &port, "--json"]);
    assert_eq!(whole.code, 0, "{}", whole.stderr);
    let _taken = TcpListener::bind(("127.0.0.1", port.parse::<u16>().unwrap())).unwrap();
    let elsewhere = quickstart(&sandbox, "q", &["--json"]);
    assert_eq!(elsewhere.code, 0, "{}", elsewhere.stderr);
    assert!(!support::read(&sandbox.path("q/backstop.yaml")).contains(&format!(":{port}\n")));
    // The policy was written, the vault was not: a run that ended between them.
    let half = Sandbox::new();
    for name in ["quickstart.json", "backstop.yaml", "keys/identity-1.txt", "keys/identity-2.txt", "keys/agent.key"] {
        half.write(&format!("q/{name}"), fs::read(sandbox.path(&format!("q/{name}"))).unwrap());
    }
    let policy = support::read(&half.path("q/backstop.yaml"));
    let now = policy.split("endpoint: ").nth(1).unwrap().lines().next().unwrap().to_owned();
    half.write("q/backstop.yaml", policy.replace(&now, &format!("http://127.0.0.1:{port}")));
    half.write("q/quickstart.json", support::read(&half.path("q/quickstart.json")).replace("\"happened\"", "\"ignored\": 1, \"happened\""));
    let ran = quickstart(&half, "q", &["--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[test]
fn killed_at_any_instant_it_goes_on() {
    for after in [50, 150, 300, 500, 800, 1500, 3000] {
        let sandbox = Sandbox::new();
        for _ in 0..2 {
            let mut child = Command::new(env!("CARGO_BIN_EXE_backstop"))
                .current_dir(sandbox.path("."))
                .args(["quickstart", "--dir", "q", "--users", USERS])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(after));
            let _ = child.kill();
            child.wait().unwrap();
        }
        let ran = quickstart(&sandbox, "q", &["--json"]);
        assert_eq!(ran.code, 0, "killed after {after} ms: {}", ran.stderr);
        let said = &ran.json()[0];
        assert_eq!(said["restored_records"], said["compared_records"]);
        assert_eq!(there(&sandbox, "q", &["verify", "--deep", ID[0], ID[1]], 0)[0]["ok"], true);
    }
}
