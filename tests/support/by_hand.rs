//! Recovery without this program: the script of a vault's own page, with nothing in its PATH but what that page names.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::Sandbox;

/// What the page says is needed, and no more: bash, age, zstd, tar, jq, openssl, findutils, coreutils.
const TOOLS: &str = "bash age zstd tar jq openssl find xargs \
    env cat sort head tail tac wc cut paste tr uniq comm join sha256sum base64 mktemp realpath dirname basename \
    mkdir rmdir rm mv cp ln chmod touch date printf echo test true false seq tee split od stat readlink sleep id ls";

/// A directory with links to the named tools; a tool that is missing fails the test.
pub fn tools(sandbox: &Sandbox) -> PathBuf {
    let bin = sandbox.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let search = std::env::var("PATH").unwrap();
    for tool in TOOLS.split_whitespace() {
        let found = search.split(':').map(|dir| Path::new(dir).join(tool)).find(|path| path.is_file());
        let found = found.unwrap_or_else(|| panic!("{tool} is not installed: scripts/test.sh installs what the tests need"));
        symlink(found, bin.join(tool)).unwrap();
    }
    bin
}

/// Takes the script out of the page of the vault in that folder, as the page says.
pub fn script(sandbox: &Sandbox, vault: &str) {
    let page = fs::read_to_string(sandbox.path(&format!("{vault}/attestations/RECOVERY.md"))).unwrap();
    let command = page.lines().find(|line| line.starts_with("sed -n '/^```bash$/")).expect("the page says how to take its script out");
    let out = sandbox.shell(&command.replace("VAULT", vault));
    assert_eq!(out.code, 0, "{}", out.stderr);
    assert!(fs::read_to_string(sandbox.path("recover.sh")).unwrap().starts_with("#!/usr/bin/env bash\n"));
}

pub fn recover(sandbox: &Sandbox, args: &[&str], code: i32) -> Output {
    let out = Command::new(sandbox.path("recover.sh"))
        .current_dir(sandbox.path(""))
        .args(args)
        .env_clear()
        .env("PATH", sandbox.path("bin"))
        .env("HOME", sandbox.path("bin"))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(out.status.code(), Some(code), "recover.sh {args:?}\n{}\n{}", text(&out.stdout), text(&out.stderr));
    out
}
