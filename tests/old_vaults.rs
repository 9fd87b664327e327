//! Promise: a vault that a released version wrote opens for ever. Each archive in `tests/data` holds a vault, an
//! identity, the kept genesis and checkpoint, and what must come out (`scripts/make-old-vault.sh`).
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use backstop::store::Sha256;
use support::Sandbox;

fn archives() -> Vec<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut found: Vec<PathBuf> = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.to_str().unwrap().ends_with(".tar.zst"));
    found.sort();
    assert!(!found.is_empty(), "there is no old vault in tests/data");
    found
}

fn unpack(archive: &Path) -> Sandbox {
    let sandbox = Sandbox::new();
    let plain = zstd::Decoder::new(fs::File::open(archive).unwrap()).unwrap();
    tar::Archive::new(plain).unpack(sandbox.path("")).unwrap();
    sandbox
}

/// A tree as `scripts/make-old-vault.sh` lists it.
fn listing(root: &Path, dir: &Path, metadata: bool, out: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let (kind, target) = match () {
            () if meta.is_symlink() => ('l', fs::read_link(&path).unwrap().to_str().unwrap().to_owned()),
            () if meta.is_dir() => ('d', String::new()),
            () => ('f', Sha256::of(&fs::read(&path).unwrap()).to_string()),
        };
        let extra = match metadata {
            true => format!("{:o} {}.{:09}0", meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec()),
            false => "x".to_owned(),
        };
        out.push(format!("{kind}|{extra}|{target}|{}", path.strip_prefix(root).unwrap().to_str().unwrap()));
        if meta.is_dir() {
            listing(root, &path, metadata, out);
        }
    }
}

#[test]
fn old_vaults_pass_the_audit() {
    for archive in archives() {
        let sandbox = unpack(&archive);
        let genesis = Sha256::of(&fs::read(sandbox.path("keys/genesis.json")).unwrap()).to_string();
        let args = ["verify", "--vault", "vault", "--genesis", &genesis, "--ignore-locks", "--checkpoint", "checkpoint.json"];
        let keyless = sandbox.json(&args, 0).remove(0);
        let deep = sandbox.json(&[&args[..], &["--deep", "--identity", "keys/identity-1.txt"]].concat(), 0).remove(0);
        for report in [&keyless, &deep] {
            // Time passes: the checkpoint of an old vault is old. Nothing else may be said of it.
            let findings = report["findings"].as_array().unwrap();
            assert!(findings.iter().all(|f| f["kind"] == "checkpoint_old"), "{}: {findings:#?}", archive.display());
            assert_eq!(report["attestations"], 8, "{}", archive.display());
        }
        assert!(deep["records"].as_u64().unwrap() > 300, "{deep:#}");
        let stranger = sandbox.backstop(&["verify", "--vault", "vault", "--genesis", &"0".repeat(64), "--ignore-locks"]);
        assert_eq!(stranger.code, 3, "{}", stranger.stderr);
    }
}

#[test]
fn old_vaults_give_back_what_went_in() {
    for archive in archives() {
        let sandbox = unpack(&archive);
        let identity = ["--vault", "vault", "--identity", "keys/identity-1.txt"];
        let mut restored = 0;
        for entry in fs::read_dir(sandbox.path("expected")).unwrap() {
            let path = entry.unwrap().path();
            let (Some(run), Some("list")) = (path.file_stem().and_then(|s| s.to_str()), path.extension().and_then(|e| e.to_str())) else {
                continue;
            };
            let expected = fs::read_to_string(&path).unwrap();
            let report = sandbox.json(&[&["restore", "files", run, "--to", run][..], &identity].concat(), 0).remove(0);
            assert_eq!((&report["tree_matches"], &report["entries"]), (&true.into(), &expected.lines().count().into()));
            let mut found = Vec::new();
            listing(&sandbox.path(run), &sandbox.path(run), report["source"] == "proof", &mut found);
            found.sort();
            let mut expected: Vec<&str> = expected.lines().collect();
            expected.sort();
            assert_eq!(found, expected, "{} {run}", archive.display());
            restored += 1;
        }
        assert_eq!(restored, 3);
        let logs = sandbox.backstop(&[&["restore", "logs", "log", "--from", "2026-11-01", "--to", "2026-12-01"][..], &identity].concat());
        assert_eq!((logs.code, logs.stdout), (0, fs::read_to_string(sandbox.path("expected/log.ndjson")).unwrap()), "{}", logs.stderr);
    }
}
