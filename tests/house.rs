//! The house rules, read from the sources themselves: which room may know which, who may print or end the
//! process, who may spell the names of objects, and how large a file may grow.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms that it may know; `cli` may know all of them.
const ALLOWED: [(&str, &[&str]); 19] = [
    ("agent", &["alert", "objective", "policy", "vault", "store"]),
    ("alert", &["policy", "store", "http"]),
    ("web", &["alert", "objective", "policy"]),
    ("backup", &["vault", "source", "store", "observe", "path", "sort"]),
    ("restore", &["vault", "source", "store", "observe", "path", "sort"]),
    ("verify", &["vault", "source", "store", "observe", "path", "restore", "sort", "objective"]),
    ("retention", &["vault", "store", "observe", "path"]),
    ("drill", &["vault", "source", "store", "observe", "path", "restore", "objective", "sample"]),
    ("objective", &["vault", "store"]),
    ("doctor", &["policy", "vault", "store", "http"]),
    ("policy", &["source", "store", "vault", "path", "http"]),
    ("vault", &["store", "path"]),
    ("source", &["path", "http", "observe", "sort"]),
    ("http", &["observe"]),
    ("sort", &[]),
    ("store", &["http", "observe"]),
    ("path", &[]),
    ("observe", &[]),
    ("sample", &[]),
];

/// Files that may be longer than the rest; none.
const LONGEST: usize = 600;

/// Spellings of names that only `vault` may put together.
const NAME_PARTS: [&str; 9] = [
    "config-snapshots/",
    "evidence/",
    "audit-logs/",
    "attestations/",
    ".tar.zst",
    ".ndjson.zst",
    "segment-{",
    "manifest.ndjson",
    "bundles/",
];

/// Places outside `vault` that match names today, each with the number of lines that do, and why. A matching
/// place reads a name apart; it never makes one. The numbers may only fall.
const MATCHES: [(&str, usize, &str); 5] = [
    ("src/backup/checkpoint.rs", 1, "an assertion about a constant of vault::names"),
    ("src/cli/init.rs", 2, "reads genesis back after an interrupted init"),
    ("src/cli/verify.rs", 1, "finds the sources whose objects are damaged"),
    ("src/verify/chains.rs", 6, "judges whether a chain may write a name"),
    ("src/verify/objects.rs", 1, "tells stray attestations from orphans"),
];

struct SourceFile {
    /// `src/vault/names.rs`
    name: String,
    /// `vault`
    room: String,
    lines: usize,
    /// Without what stands under `#[cfg(test)]`, without comments.
    code: Vec<(usize, String)>,
}

fn files() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    gather(&root.join("src"), &mut paths);
    paths.sort();
    let test_only = modules_of_tests(&paths);
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let room = name.split('/').nth(1).unwrap().trim_end_matches(".rs").to_owned();
        let code = if test_only.contains(path) { Vec::new() } else { code_of(&text) };
        SourceFile { name, room, lines: text.lines().count(), code }
    };
    paths.iter().map(read).collect()
}

fn gather(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// Files that are declared as `#[cfg(test)] mod name;`.
fn modules_of_tests(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut out = BTreeSet::new();
    for path in paths {
        let text = fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]") {
            let declared = pair[1].trim_start_matches("pub ").strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';'));
            if let Some(module) = declared {
                let stem = path.file_stem().unwrap().to_str().unwrap();
                let dir = path.parent().unwrap();
                let below = if ["mod", "lib", "main"].contains(&stem) { dir.to_owned() } else { dir.join(stem) };
                out.insert(below.join(format!("{module}.rs")));
                out.insert(below.join(module).join("mod.rs"));
            }
        }
    }
    out
}

/// Numbered lines of code outside items under `#[cfg(test)]`, with `//` comments cut off.
fn code_of(text: &str) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    let mut skipping: Option<i64> = None;
    let mut armed = false;
    for (n, line) in text.lines().enumerate() {
        let code = without_comment(line);
        if code.trim() == "#[cfg(test)]" {
            armed = true;
            continue;
        }
        let depth = braces(&code);
        if let Some(open) = &mut skipping {
            *open += depth;
            if *open <= 0 {
                skipping = None;
            }
            continue;
        }
        if armed && !code.trim().is_empty() && !code.trim().starts_with("#[") {
            armed = false;
            if depth > 0 {
                skipping = Some(depth);
            }
            continue;
        }
        out.push((n + 1, code));
    }
    out
}

/// Cuts a line comment off, unless its slashes stand in a string.
fn without_comment(line: &str) -> String {
    let bytes = line.as_bytes();
    let (mut at, mut quoted) = (0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quoted => at += 1,
            b'"' if at == 0 || bytes[at - 1] != b'\'' => quoted = !quoted,
            b'/' if !quoted && bytes.get(at + 1) == Some(&b'/') => return line[..at].to_owned(),
            _ => {}
        }
        at += 1;
    }
    line.to_owned()
}

/// Braces opened less braces closed, outside strings and characters.
fn braces(code: &str) -> i64 {
    let bytes = code.as_bytes();
    let (mut at, mut quoted, mut sum) = (0, false, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quoted => at += 1,
            b'"' if at == 0 || bytes[at - 1] != b'\'' => quoted = !quoted,
            b'{' if !(quoted || at > 0 && bytes[at - 1] == b'\'') => sum += 1,
            b'}' if !(quoted || at > 0 && bytes[at - 1] == b'\'') => sum -= 1,
            _ => {}
        }
        at += 1;
    }
    sum
}

/// The rooms that a file's code names after `crate::` or `backstop::`, with the line.
fn rooms_named(file: &SourceFile) -> Vec<(usize, String)> {
    let text: String = file.code.iter().map(|(_, line)| format!("{line}\n")).collect();
    let line_of = |at: usize| file.code[text[..at].matches('\n').count()].0;
    let mut out = Vec::new();
    for (at, found) in text.match_indices("crate::") {
        let rest = &text[at + found.len()..];
        for room in first_names(rest) {
            out.push((line_of(at), room));
        }
    }
    out
}

/// The first component of a path, or of each path in braces.
fn first_names(rest: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(list) = rest.strip_prefix('{') else { return vec![word(rest)] };
    let (mut depth, mut start, mut out) = (0, true, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            c if start && depth == 0 && (c.is_alphanumeric() || c == '_') => {
                out.push(word(&list[at..]));
                start = false;
            }
            _ => {}
        }
    }
    out
}

#[test]
fn the_reader_of_sources_reads_them_right() {
    assert_eq!(first_names("{a::b, c::{d, e}, f};"), ["a", "c", "f"]);
    assert_eq!(first_names("vault::Ledger;"), ["vault"]);
    let code = code_of("let a = \"// no {\"; // yes\n#[cfg(test)]\nmod tests {\n    x.unwrap();\n}\nlet b = '{';\n");
    let shown: Vec<(usize, &str)> = code.iter().map(|(n, l)| (*n, l.as_str())).collect();
    assert_eq!(shown, [(1, "let a = \"// no {\"; "), (6, "let b = '{';")]);
    let total: usize = files().iter().map(|f| f.code.len()).sum();
    assert!(total > 5000, "only {total} lines of code were found");
}

#[test]
fn rooms_know_only_those_below_them() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let mut wrong = Vec::new();
    let mut edges = BTreeSet::new();
    for file in files().iter().filter(|f| !["lib", "main", "cli"].contains(&f.room.as_str())) {
        let may = allowed.get(file.room.as_str()).unwrap_or_else(|| panic!("{} is a room that no rule knows", file.room));
        for (line, room) in rooms_named(file).into_iter().filter(|(_, room)| *room != file.room) {
            edges.insert((file.room.clone(), room.clone()));
            if !may.contains(&room.as_str()) {
                wrong.push(format!("{}:{line}: {} may not know {room}", file.name, file.room));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(edges.len() >= 15, "only {} edges were found: is the reader blind?", edges.len());
}

#[test]
fn rooms_have_no_circle() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    fn reaches<'a>(from: &'a str, to: &str, allowed: &BTreeMap<&'a str, &'a [&'a str]>) -> bool {
        allowed.get(from).is_some_and(|next| next.iter().any(|n| *n == to || reaches(n, to, allowed)))
    }
    for room in allowed.keys() {
        assert!(!reaches(room, room, &allowed), "{room} reaches itself");
    }
}

/// Lines outside the given rooms that hold one of some words.
fn lines_with<'a>(files: &'a [SourceFile], rooms: &[&str], words: &[&str]) -> Vec<(&'a str, usize, &'a str)> {
    let outside = files.iter().filter(|f| !rooms.contains(&f.room.as_str()));
    let lines = outside.flat_map(|f| f.code.iter().map(move |(n, line)| (f.name.as_str(), *n, line.as_str())));
    lines.filter(|(_, _, line)| words.iter().any(|w| line.contains(w))).collect()
}

#[test]
fn only_the_command_line_prints_or_ends_the_process() {
    let files = files();
    let words = ["println!", "print!(", "eprint!(", "dbg!", "process::exit", "process::abort", "std::process", "io::stdout", "io::stderr"];
    let found = lines_with(&files, &["cli", "main"], &words);
    // The agent starts processes; it ends none but those.
    let starts = ["use std::process::{Command, Stdio};", "use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};"];
    let found: Vec<_> = found.into_iter().filter(|(file, _, line)| !(file.starts_with("src/agent/") && starts.contains(line))).collect();
    assert_eq!(found, []);
    assert!(!lines_with(&files, &["main"], &["std::process"]).is_empty(), "the words find nothing anywhere");
}

#[test]
fn only_the_vault_spells_the_names_of_objects() {
    let files = files();
    let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, line, text) in lines_with(&files, &["vault"], &NAME_PARTS).into_iter().chain(containers_spelled(&files)) {
        if text.contains('"') && !text.contains("include_str!") {
            let place = format!("{name}:{line}: {}", text.trim());
            let list = found.entry(name).or_default();
            if !list.contains(&place) {
                list.push(place);
            }
        }
    }
    let known: BTreeMap<&str, usize> = MATCHES.iter().map(|(file, count, _)| (*file, *count)).collect();
    for (file, places) in &found {
        let may = known.get(file).copied().unwrap_or(0);
        assert!(places.len() <= may, "{file} spells names in {} places, {may} are known:\n{}", places.len(), places.join("\n"));
    }
}

/// Containers as words of their own, such as `["config-snapshots" | "evidence", …]`; not as a JSON field's name.
fn containers_spelled(files: &[SourceFile]) -> Vec<(&str, usize, &str)> {
    let words = ["\"config-snapshots\"", "\"audit-logs\"", "\"attestations\"", "\"evidence\""];
    let field = |line: &str| words.iter().any(|w| line.contains(&format!("{w}:")));
    lines_with(files, &["vault"], &words).into_iter().filter(|(_, _, line)| !field(line)).collect()
}

#[test]
fn nothing_is_unwrapped() {
    let files = files();
    assert_eq!(lines_with(&files, &[], &[".unwrap()", ".expect(", "todo!(", "unimplemented!("]), []);
    assert!(lines_with(&files, &[], &["unwrap_or"]).len() > 10, "the words find nothing anywhere");
}

#[test]
fn no_file_grows_past_reading() {
    let long: Vec<String> = files().iter().filter(|f| f.lines > LONGEST).map(|f| format!("{}: {} lines", f.name, f.lines)).collect();
    assert_eq!(long, Vec::<String>::new());
    let silent: Vec<String> = files()
        .iter()
        .filter(|f| !fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&f.name)).unwrap().starts_with("//!"))
        .map(|f| f.name.clone())
        .collect();
    assert_eq!(silent, Vec::<String>::new(), "files that do not say what they are");
}
