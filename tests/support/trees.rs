//! What lies in a directory, as plain data that two trees can be compared by.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;

use backstop::store::Sha256;

/// One entry: what it is, and the digest of its bytes or where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: &'static str,
    pub content: String,
    /// Permission bits and modification time, where they count.
    pub metadata: Option<(u32, i64, i64)>,
}

/// Every entry below a directory, by the bytes of its path.
pub type Tree = BTreeMap<String, Entry>;

/// Reads a tree; with `metadata` also modes (not of links) and times.
pub fn tree(root: &Path, metadata: bool) -> Tree {
    let mut out = Tree::new();
    walk(root, root, metadata, &mut out);
    out
}

fn walk(root: &Path, dir: &Path, metadata: bool, out: &mut Tree) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let relative = path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
        let (kind, content) = if meta.is_symlink() {
            ("symlink", fs::read_link(&path).unwrap().as_os_str().as_bytes().escape_ascii().to_string())
        } else if meta.is_dir() {
            ("dir", String::new())
        } else {
            ("file", Sha256::of(&fs::read(&path).unwrap()).to_string())
        };
        let mode = if meta.is_symlink() { 0 } else { meta.mode() & 0o7777 };
        let metadata_of = metadata.then(|| (mode, meta.mtime(), meta.mtime_nsec()));
        out.insert(relative, Entry { kind, content, metadata: metadata_of });
        if meta.is_dir() {
            walk(root, &path, metadata, out);
        }
    }
}

/// Fails with the first paths that differ, not with two whole trees.
pub fn assert_same(found: &Tree, expected: &Tree, what: &str) {
    let all = expected.keys().chain(found.keys());
    let mut wrong: Vec<_> = all.filter(|path| found.get(*path) != expected.get(*path)).collect();
    wrong.sort();
    wrong.dedup();
    let shown: Vec<String> =
        wrong.iter().take(5).map(|path| format!("{path}: {:?}, expected {:?}", found.get(*path), expected.get(*path))).collect();
    assert!(wrong.is_empty(), "{what}: {} of {} entries differ:\n{}", wrong.len(), expected.len(), shown.join("\n"));
}

/// Bytes that neither repeat nor compress, the same on every run.
pub fn noise(length: usize, mut seed: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        out.extend(seed.to_le_bytes());
    }
    out.truncate(length);
    out
}

/// Every kind of name and entry that a file system can hold and a script can stumble over.
pub fn odd_tree(root: &Path) {
    fs::create_dir_all(root).unwrap();
    let put = |name: &[u8], bytes: &[u8]| {
        let path = root.join(OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    for n in 0..60 {
        put(
            format!("roleManagement/directory/roleDefinitions/{n:08}.json").as_bytes(),
            format!("{{\"id\":\"{n}\",\"enabled\":true}}").as_bytes(),
        );
    }
    for name in [
        &b"with blanks/two  blanks .json"[..],
        b"quotes/'single' \"double\" `back`",
        b"line\nfeed/x\ny",
        b"tab\there",
        b"-rf",
        b"--help/-n",
        b"not\xff\xfeutf8/\xe4",
        "umlauts/größe-ß-é.json".as_bytes(),
        b"percent%41/100%",
        b"back\\slash\\n",
        b"*?[a]/$HOME;&|<>",
        b".hidden/.dot",
        b"trailing /blank ",
        b"del\x7f",
        b"cr\rname",
        b"a/deep/er/than/the/rest/of/it",
        b"equal=sign",
        b"#hash",
        b"{brace}",
        b"!bang",
        b"~tilde",
    ] {
        put(name, name);
    }
    put([b"long/".as_slice(), &[b'n'; 255]].concat().as_slice(), b"255 bytes");
    put([[b'd'; 120].as_slice(), b"/", &[b'e'; 120], b"/", &[b'f'; 120]].concat().as_slice(), b"longer than tar's own field");
    put(b"empty.json", b"");
    put(b"large/noise.bin", &noise(11 << 20, 7));
    for name in ["nothing", "nothing at/all"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    symlink("empty.json", root.join("link")).unwrap();
    symlink("../empty.json", root.join("large/up and down")).unwrap();
    symlink(OsStr::from_bytes(b"gone \xff\n%41"), root.join("dangling")).unwrap();
    // Written with holes: reads as zeros, so one stored part serves many places.
    let sparse = fs::File::create(root.join("large/sparse.bin")).unwrap();
    sparse.set_len(40 << 20).unwrap();
    sparse.write_all_at(b"an island", 20 << 20).unwrap();
}
