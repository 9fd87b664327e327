//! Promise: whoever holds an age identity and ordinary tools recovers everything without this program, by
//! the page that lies in the vault itself.
//!
//! The script is taken out of the vault's own RECOVERY.md and runs with nothing in its PATH but what that page
//! names. What it gives back is compared byte for byte.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/by_hand.rs"]
mod by_hand;
mod support;
#[path = "support/trees.rs"]
mod trees;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use by_hand::{recover, script, tools};
use support::Sandbox;
use trees::{assert_same, noise, odd_tree, tree};

fn fill_evidence(root: &Path) {
    fs::create_dir_all(root.join("2026-Q4/screens")).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::new(1_111_111_111, 123_456_789);
    for (n, (name, mode)) in
        [("2026-Q4/report.pdf", 0o640), ("2026-Q4/screens/a b.png", 0o400), ("run.sh", 0o755), ("2026-Q4/screens/\n%.csv", 0o664)]
            .into_iter()
            .enumerate()
    {
        let path = root.join(name);
        fs::write(&path, noise(1000 * n + 1, 3)).unwrap();
        fs::File::options().append(true).open(&path).unwrap().set_modified(old + Duration::from_nanos(n as u64 * 1_000_000_007)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::write(root.join("2026-Q4/large.bin"), noise(9 << 20, 11)).unwrap();
    symlink("run.sh", root.join("latest")).unwrap();
    for (name, mode, years) in [("2026-Q4/screens", 0o750, 5), ("2026-Q4", 0o700, 6)] {
        fs::File::open(root.join(name)).unwrap().set_modified(old + Duration::from_secs(years * 31_000_000)).unwrap();
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// A vault with two sources and a stream, and three snapshots of the first source; gives their runs.
struct Scene {
    sandbox: Sandbox,
    runs: Vec<String>,
    evidence: String,
    log: Vec<u8>,
}

impl Scene {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        odd_tree(&sandbox.path("tree"));
        fs::create_dir_all(sandbox.path("proof")).unwrap();
        fill_evidence(&sandbox.path("proof"));
        let out = sandbox.backstop(&["init", "--source", "tree=tree", "--source", "proof=proof", "--stream", "log"]);
        assert_eq!(out.code, 0, "{}", out.stderr);
        let policy = fs::read_to_string(sandbox.path("backstop.yaml")).unwrap();
        let evidence = policy.replace("/proof\" } }", "/proof\" }, container: evidence, epoch: quarter }");
        assert_ne!(policy, evidence);
        sandbox.write("backstop.yaml", evidence);

        let mut runs = Vec::new();
        for step in 0..3 {
            let root = sandbox.path("tree");
            match step {
                1 => {
                    sandbox.write("tree/roleManagement/directory/roleDefinitions/00000007.json", "{\"id\":\"7\",\"enabled\":false}");
                    fs::remove_file(root.join("roleManagement/directory/roleDefinitions/00000008.json")).unwrap();
                    fs::remove_dir_all(root.join("with blanks")).unwrap();
                    fs::remove_file(root.join("link")).unwrap();
                    symlink("percent%41/100%", root.join("link")).unwrap();
                    let mut large = noise(11 << 20, 7);
                    large.splice(5 << 20..5 << 20, *b"a little more in the middle");
                    fs::write(root.join("large/noise.bin"), large).unwrap();
                }
                2 => {
                    // A file becomes a directory and a directory a file; what was deleted comes back.
                    fs::remove_file(root.join("tab\there")).unwrap();
                    sandbox.write("tree/tab\there/now inside", "x");
                    fs::remove_dir_all(root.join(".hidden")).unwrap();
                    sandbox.write("tree/.hidden", "now a file");
                    sandbox.write("tree/with blanks/two  blanks .json", "back again");
                    sandbox.write("tree/roleManagement/directory/roleDefinitions/00000009.json", "{}");
                }
                _ => {}
            }
            let line = sandbox.json(&["snapshot", "tree"], 0).remove(0);
            assert_eq!(line["kind"], if step == 0 { "base" } else { "delta" });
            runs.push(line["run"].as_str().unwrap().to_owned());
            sandbox.copy("tree", &format!("tree-{step}"));
        }
        let evidence = sandbox.json(&["snapshot", "proof"], 0).remove(0)["run"].as_str().unwrap().to_owned();
        let mut log = Vec::new();
        for n in 0..500 {
            let line =
                format!("{{\"id\":\"e{n}\",\"createdDateTime\":\"2026-11-0{}T0{}:00:00Z\",\"text\":\"größe  {n}\"}}\n", 1 + n % 9, n % 7);
            log.extend(line.into_bytes());
        }
        sandbox.write("log.ndjson", &log);
        sandbox.json(&["import", "log", "log.ndjson"], 0);
        sandbox.json(&["checkpoint"], 0);
        Self { sandbox, runs, evidence, log }
    }
}

#[test]
fn the_vaults_own_page_brings_everything_back() {
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    tools(sandbox);
    script(sandbox, "vault");

    let listed = String::from_utf8(recover(sandbox, &["list", "vault"], 0).stdout).unwrap();
    for run in scene.runs.iter().chain([&scene.evidence]) {
        assert!(listed.contains(run.as_str()), "{listed}");
    }
    assert!(listed.contains("500\tlog"), "{listed}");

    let genesis = backstop::store::Sha256::of(&fs::read(sandbox.path("keys/genesis.json")).unwrap()).to_string();
    let checked = String::from_utf8(recover(sandbox, &["check", "vault", &genesis], 0).stdout).unwrap();
    assert!(checked.contains(&genesis), "{checked}");
    recover(sandbox, &["check", "vault", &"0".repeat(64)], 3);

    for (step, run) in scene.runs.iter().enumerate() {
        let (out, key) = (format!("out-{step}"), format!("keys/identity-{}.txt", 1 + step % 2));
        recover(sandbox, &["files", "vault", run, &key, &out], 0);
        assert_same(&tree(&sandbox.path(&out), false), &tree(&sandbox.path(&format!("tree-{step}")), false), &out);
        assert!(!sandbox.path(&format!("{out}.not-recovered")).exists());
    }
    recover(sandbox, &["files", "vault", &scene.evidence, "keys/identity-1.txt", "out-proof"], 0);
    assert_same(&tree(&sandbox.path("out-proof"), true), &tree(&sandbox.path("proof"), true), "evidence with modes and times");

    recover(sandbox, &["logs", "vault", "log", "keys/identity-1.txt", "out.ndjson"], 0);
    assert_eq!(fs::read(sandbox.path("out.ndjson")).unwrap(), scene.log);
    assert!(
        fs::read_dir(sandbox.path("")).unwrap().all(|e| !e.unwrap().file_name().to_string_lossy().contains(".work.")),
        "plain data left behind"
    );
}

#[test]
fn the_page_names_what_is_lost_and_brings_back_the_rest() {
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    tools(sandbox);
    script(sandbox, "vault");
    // The segment of the last delta: only what changed then is lost.
    let harmed = sandbox.objects().into_iter().find(|name| name.contains(&scene.runs[2]) && name.contains("segment-")).unwrap();
    sandbox.tamper(&format!("vault/{harmed}"), |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let out = recover(sandbox, &["check", "vault"], 3);
    assert!(String::from_utf8_lossy(&out.stderr).contains(&harmed));
    recover(sandbox, &["files", "vault", &scene.runs[2], "keys/identity-1.txt", "out"], 3);
    let lost: Vec<String> =
        fs::read_to_string(sandbox.path("out.not-recovered")).unwrap().lines().map(str::to_owned).filter(|line| !line.is_empty()).collect();
    assert_eq!(lost.len(), 4, "{lost:?}");
    let mut expected = tree(&sandbox.path("tree-2"), false);
    for path in
        ["tab\\there/now inside", ".hidden", "with blanks/two  blanks .json", "roleManagement/directory/roleDefinitions/00000009.json"]
    {
        assert!(expected.remove(path).is_some(), "{path}");
    }
    assert_same(&tree(&sandbox.path("out"), false), &expected, "all but the lost records");
    // Another key opens nothing.
    let stranger = backstop::vault::keys::new_identity(jiff::Timestamp::UNIX_EPOCH).0;
    sandbox.write("stranger.txt", stranger);
    recover(sandbox, &["files", "vault", &scene.runs[0], "stranger.txt", "out-stranger"], 3);
    assert!(tree(&sandbox.path("out-stranger"), false).values().all(|entry| entry.kind != "file"));
}
