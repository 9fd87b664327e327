//! Validly signed, hostile content: what somebody with the agent's stolen key can put into a vault.
//!
//! It proves that a restore writes nothing outside its target and nothing that is not what the manifest names,
//! names what it refuses, restores the innocent records beside it, and stays within bounded memory; and that
//! `verify --deep` reports each of these.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use backstop::store::Sha256;
use backstop::vault::names::RunId;
use backstop::vault::segment;
use jiff::Timestamp;
use rstest::rstest;
use serde_json::{Value, json};
use support::forge::{Forge, Poison, Poisoned, envelope_name, file_line, seal_frames, seal_repeated, set_objects};
use support::{Ran, Sandbox};
use wait4::Wait4;

const INNOCENT: [(&str, &str); 2] = [("a-innocent.json", r#"{"a":1}"#), ("z/innocent.json", r#"{"z":1}"#)];
const MIB: usize = 1 << 20;
/// No reader may need more, whatever it is given.
const MOST_KIB: u64 = 400 << 10;
const TARGET: &str = "out/target";

/// A vault with one true snapshot and one true import, and something beside the restore's target to be hit.
struct Victim {
    sandbox: Sandbox,
}

impl Victim {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.write("tree/true.json", "{}");
        sandbox.write("out/canary", "alive");
        let out = sandbox.backstop(&["init", "--dir", "home", "--source", "tree=tree", "--stream", "log"]);
        assert_eq!(out.code, 0, "{}", out.stderr);
        let events = sandbox.write("events.ndjson", "{\"id\":\"1\",\"createdDateTime\":\"2026-11-01T08:00:00Z\"}\n");
        let victim = Self { sandbox };
        assert_eq!(victim.run(&["snapshot"]).code, 0);
        assert_eq!(victim.run(&["import", "log", events.to_str().unwrap()]).code, 0);
        victim
    }

    fn forge(&self) -> Forge<'_> {
        Forge::new(&self.sandbox, "home")
    }

    fn run(&self, args: &[&str]) -> Ran {
        let ran = self.sandbox.backstop(&[&["--policy", "home/backstop.yaml", "--identity", "home/keys/identity-1.txt"], args].concat());
        assert!(!ran.stderr.contains("panicked"), "{args:?}\n{}", ran.stderr);
        ran
    }

    /// Everything in the sandbox but the target and how long restores took, with what is in it.
    fn outside(&self) -> BTreeMap<String, Vec<u8>> {
        let own = |path: &str| path.starts_with(TARGET) || path == "home/.backstop/measured.ndjson";
        listing(&self.sandbox.path("")).into_iter().filter(|(path, _)| !own(path)).collect()
    }

    /// Restores a run into a new target, and proves that nothing beside it changed.
    fn restore(&self, run: &str, options: &[&str], code: i32) -> Restored {
        let before = self.outside();
        assert!(before.contains_key("out/canary"));
        let ran = self.run(&[&["restore", "files", run, "--to", TARGET, "--json"], options].concat());
        assert_eq!(ran.code, code, "{}\n{}", ran.stdout, ran.stderr);
        assert_eq!(self.outside(), before);
        let target = self.sandbox.path(TARGET);
        let there = listing(&target);
        fs::remove_dir_all(target).unwrap();
        let failed = ran.json()[0]["failed"].as_array().unwrap().clone();
        assert_eq!(failed.is_empty(), code == 0);
        Restored { there, failed }
    }

    /// `verify --deep` names the object with an error of this kind.
    fn deep_names(&self, kind: &str, object: &str) {
        let ran = self.run(&["verify", "--deep", "--json"]);
        assert_eq!(ran.code, 3, "{}\n{}", ran.stdout, ran.stderr);
        names(&ran, kind, object);
    }

    /// Runs a command and measures the most memory that it held.
    fn measured(&self, args: &[&str], code: i32) -> Ran {
        let [out, err] = ["measured.out", "measured.err"].map(|name| self.sandbox.path(name));
        let mut child = Command::new(env!("CARGO_BIN_EXE_backstop"))
            .current_dir(self.sandbox.path(""))
            .args(["--policy", "home/backstop.yaml", "--identity", "home/keys/identity-1.txt"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&err).unwrap())
            .spawn()
            .unwrap();
        let mut seen = 0;
        let used = loop {
            // The kernel keeps the high-water mark, so no peak falls between two looks.
            seen = high_water_kib(child.id()).unwrap_or(0).max(seen);
            if seen > 2 * MOST_KIB {
                child.kill().unwrap();
            }
            match child.try_wait4().unwrap() {
                Some(used) => break used,
                None => std::thread::sleep(std::time::Duration::from_millis(1)),
            }
        };
        // One that ended before the first look left its peak with the kernel. That figure also counts what
        // the parent held when it started the process, so it is an upper bound.
        let (status, peak) = (used.status, if seen > 0 { seen } else { used.rusage.maxrss >> 10 });
        assert!(peak > 0, "nothing was measured");
        let ran = Ran { code: status.code().unwrap_or(-1), stdout: support::read(&out), stderr: support::read(&err) };
        assert!(!ran.stderr.contains("panicked"), "{args:?}\n{}", ran.stderr);
        assert!(peak < MOST_KIB, "{args:?} held {} MiB", peak >> 10);
        let shown: String = ran.stderr.chars().take(2000).collect();
        assert_eq!(ran.code, code, "{args:?} after {} MiB\n{shown}", peak >> 10);
        ran
    }
}

fn high_water_kib(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

fn names(ran: &Ran, kind: &str, object: &str) {
    let report = ran.json().remove(0);
    let findings = report["findings"].as_array().unwrap();
    let named = findings.iter().any(|f| f["severity"] == "error" && f["kind"] == kind && f["object"] == object);
    assert!(named, "{kind} of {object}: {:#?}", findings.iter().take(30).collect::<Vec<_>>());
}

/// What is in a directory: files with their content, links with their targets, directories.
fn listing(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut out = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let what = match () {
                () if kind.is_symlink() => format!("-> {}", fs::read_link(&path).unwrap().display()).into_bytes(),
                () if kind.is_dir() => b"/".to_vec(),
                () if kind.is_file() => fs::read(&path).unwrap(),
                () => b"device".to_vec(),
            };
            out.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), what);
            if kind.is_dir() {
                todo.push(path);
            }
        }
    }
    out
}

struct Restored {
    there: BTreeMap<String, Vec<u8>>,
    failed: Vec<Value>,
}

impl Restored {
    /// The innocent records and these are there, and nothing else.
    fn holds(&self, more: &[(&str, &str)]) {
        let mut expected = BTreeMap::from([("z".to_owned(), b"/".to_vec())]);
        expected.extend(INNOCENT.iter().chain(more).map(|(path, content)| ((*path).to_owned(), content.as_bytes().to_vec())));
        assert_eq!(self.there, expected, "{:?}", self.failed);
    }

    /// These records and no others are named as lost.
    fn refuses(&self, paths: &[&str]) {
        let named: BTreeSet<&str> = self.failed.iter().filter_map(|f| f["path"].as_str()).collect();
        assert_eq!(named, paths.iter().copied().collect(), "{:?}", self.failed);
    }
}

/// A record of each kind at a path; the bytes that it names are really in the segment.
fn at_path(path: &str, kind: &str) -> Poison {
    let mut poison = Poison::among(&INNOCENT);
    let content = b"hostile";
    poison.member("hostile", tar::EntryType::Regular, content);
    let mut line = file_line(path, content, 0);
    line["member"] = json!("hostile");
    match kind {
        "file" => poison.line(path, line),
        "large" => {
            let chunk = json!({ "segment": 0, "member": "hostile", "sha256": Sha256::of(content), "size": content.len() });
            poison.line(
                path,
                json!({ "path": path, "type": "file", "sha256": Sha256::of(content), "size": content.len(), "chunks": [chunk] }),
            );
        }
        "dir" => poison.line(path, json!({ "path": path, "type": "dir", "mode": "0777" })),
        "symlink" => poison.line(path, json!({ "path": path, "type": "symlink", "target": "a-innocent.json" })),
        _ => panic!("{kind}"),
    }
    poison
}

#[rstest]
#[case("../x")]
#[case("ABSOLUTE")]
#[case("a/../../x")]
#[case("a%2Fb")]
#[case("..%2Fx")]
#[case("%2E%2E/x")]
#[case("a/%2e%2e/x")]
#[case("..")]
#[case(".")]
#[case("./x")]
#[case("a//b")]
#[case("a/")]
#[case("")]
#[case("a%00b")]
#[case("a\u{0}b")]
#[case("a\nb")]
#[case("100%")]
#[case("%41")]
#[case(".backstop/parts/..")]
#[case(".backstop/parts/x/000000")]
#[case("HUGE")]
fn a_path_that_leads_elsewhere_is_refused(#[case] path: &str) {
    let victim = Victim::new();
    let absolute = victim.sandbox.path("out/absolute").to_str().unwrap().to_owned();
    let huge = "x".repeat(100_000);
    let path = match path {
        "ABSOLUTE" => &absolute,
        "HUGE" => &huge,
        other => other,
    };
    for kind in ["file", "large", "dir", "symlink"] {
        let poisoned = at_path(path, kind).commit(&victim.forge());
        let restored = victim.restore(&poisoned.run, &["--outside-links"], 3);
        restored.holds(&[]);
        let shown: String = path.chars().take(200).collect();
        restored.refuses(&[&shown]);
        victim.deep_names("bad_manifest", &poisoned.manifest);
    }
}

fn link(path: &str, target: &str) -> (String, Value) {
    (path.to_owned(), json!({ "path": path, "type": "symlink", "target": target }))
}

fn with_lines(lines: impl IntoIterator<Item = (String, Value)>) -> Poison {
    let mut poison = Poison::among(&INNOCENT);
    lines.into_iter().for_each(|(path, line)| poison.line(&path, line));
    poison
}

/// A source may hold such links, so they are no damage: but they are made only when asked for.
#[rstest]
#[case("link", "..")]
#[case("link", "/etc/passwd")]
#[case("link", "../canary")]
#[case("link", "z/../../canary")]
#[case("z/link", "../../canary")]
#[case("z/link", ".././../canary")]
fn a_link_that_leads_out_is_made_only_when_asked_for(#[case] path: &str, #[case] target: &str) {
    let victim = Victim::new();
    let poisoned = with_lines([link(path, target)]).commit(&victim.forge());
    let restored = victim.restore(&poisoned.run, &[], 3);
    restored.holds(&[]);
    restored.refuses(&[path]);
    let shown = format!("-> {target}");
    victim.restore(&poisoned.run, &["--outside-links"], 0).holds(&[(path, &shown)]);
}

/// Each of these links stays inside by its own words; through one another they lead out.
#[rstest]
#[case(&[("z/m", "u/../canary"), ("z/u", "..")], &["z/m"], &[("z/u", "-> ..")])]
#[case(&[("m", "z/d/u/.."), ("z/d/u", "../..")], &["m"], &[("z/d", "/"), ("z/d/u", "-> ../..")])]
#[case(&[("m", "n/canary"), ("n", "z/u/.."), ("z/u", "..")], &["m", "n"], &[("z/u", "-> ..")])]
fn links_that_lead_out_through_one_another_are_refused(
    #[case] links: &[(&str, &str)],
    #[case] refused: &[&str],
    #[case] made: &[(&str, &str)],
) {
    let victim = Victim::new();
    let poisoned = with_lines(links.iter().map(|(path, target)| link(path, target))).commit(&victim.forge());
    while_anything_is_renamed(|| {
        for _ in 0..10 {
            let restored = victim.restore(&poisoned.run, &[], 3);
            restored.holds(made);
            restored.refuses(refused);
        }
    });
}

/// Then the kernel does not always say where `..` leads, even if it is renamed elsewhere.
fn while_anything_is_renamed(test: impl Fn()) {
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (elsewhere, over) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let [one, other] = ["one", "other"].map(|name| elsewhere.path().join(name));
    fs::create_dir(&one).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                fs::rename(&one, &other).and_then(|()| fs::rename(&other, &one)).unwrap();
            }
        });
        let _over = Over(&over);
        test();
    });
}

/// A record that would be written through a link.
#[rstest]
#[case("..", &[])]
#[case("../..", &["--outside-links"])]
#[case("/", &["--outside-links"])]
#[case("z", &[])]
fn nothing_is_written_through_a_link(#[case] target: &str, #[case] options: &[&str]) {
    let victim = Victim::new();
    let mut poison = with_lines([link("link", target)]);
    poison.file("link-not.json", b"not below it");
    poison.file("link/canary", b"dead");
    poison.file("link/deep/x", b"dead");
    let poisoned = poison.commit(&victim.forge());
    let restored = victim.restore(&poisoned.run, options, 3);
    let shown = format!("-> {target}");
    let made = target == "z" || !options.is_empty();
    let more = [("link-not.json", "not below it"), ("link", &shown)];
    restored.holds(&more[..if made { 2 } else { 1 }]);
    restored.refuses(&[&["link/canary", "link/deep/x"][..], if made { &[] } else { &["link"] }].concat());
    victim.deep_names("bad_manifest", &poisoned.manifest);
}

#[rstest]
fn a_member_that_is_no_file_is_refused(
    #[values(
        tar::EntryType::Symlink,
        tar::EntryType::Link,
        tar::EntryType::Char,
        tar::EntryType::Block,
        tar::EntryType::Fifo,
        tar::EntryType::Directory,
        tar::EntryType::Continuous
    )]
    kind: tar::EntryType,
) {
    let victim = Victim::new();
    let mut poison = Poison::among(&INNOCENT);
    // Empty, so that nothing but its type speaks against it.
    poison.member("member", kind, b"");
    poison.line("member", file_line("member", b"", 0));
    let poisoned = poison.commit(&victim.forge());
    let restored = victim.restore(&poisoned.run, &[], 3);
    restored.holds(&[]);
    restored.refuses(&["member"]);
    victim.deep_names("lost_record", &poisoned.segments[0]);
}

/// What a manifest says and its segments do not hold, or the other way round.
#[rstest]
#[case("larger", "lost_record")]
#[case("smaller", "lost_record")]
#[case("other_bytes", "lost_record")]
#[case("absent", "lost_record")]
#[case("no_such_segment", "bad_manifest")]
#[case("chunks_do_not_add_up", "bad_manifest")]
#[case("chunks_overflow", "bad_manifest")]
#[case("terabytes", "lost_record")]
#[case("repeated_key", "bad_manifest")]
#[case("no_digest", "bad_manifest")]
#[case("no_type", "bad_manifest")]
#[case("no_json", "bad_manifest")]
fn a_false_line_costs_its_own_record_only(#[case] what: &str, #[case] kind: &str) {
    let victim = Victim::new();
    let mut poison = Poison::among(&INNOCENT);
    let held: &[u8] = b"1234567890";
    if what != "absent" {
        poison.member("m", tar::EntryType::Regular, if what == "larger" { &[b'1'; 5000] } else { held });
    }
    let mut line = file_line("m", if what == "other_bytes" { b"123456789x" } else { held }, 0);
    let chunk = |size: u64| json!({ "segment": 0, "member": "m", "sha256": Sha256::of(held), "size": size });
    let mut chunks = |size: u64, sizes: &[u64]| {
        line.as_object_mut().unwrap().remove("segment");
        line["size"] = json!(size);
        line["chunks"] = sizes.iter().map(|size| chunk(*size)).collect();
        line.to_string()
    };
    let text = match what {
        "smaller" => line.to_string().replace("\"size\":10", "\"size\":11"),
        "no_such_segment" => line.to_string().replace("\"segment\":0", "\"segment\":7"),
        "chunks_do_not_add_up" => chunks(11, &[10]),
        "chunks_overflow" => chunks(9, &[10, u64::MAX]),
        "terabytes" => chunks(1 << 40, &[1 << 40]),
        "repeated_key" => line.to_string().replace("\"size\":10", "\"size\":10,\"size\":10"),
        "no_digest" => line.to_string().replace("sha256", "sha257"),
        "no_type" => line.to_string().replace("\"type\":\"file\"", "\"type\":\"device\""),
        "no_json" => "m".to_owned(),
        _ => line.to_string(),
    };
    poison.line("m", text);
    let poisoned = poison.commit(&victim.forge());
    let restored = victim.restore(&poisoned.run, &[], 3);
    restored.holds(&[]);
    assert_eq!(restored.failed.len(), 1, "{:?}", restored.failed);
    victim.deep_names(kind, if kind == "bad_manifest" { &poisoned.manifest } else { &poisoned.segments[0] });
}

#[test]
fn a_path_stands_once_and_in_its_order() {
    let victim = Victim::new();
    let mut twice = Poison::among(&INNOCENT);
    twice.file("m", b"first");
    twice.member("second", tar::EntryType::Regular, b"second");
    let mut line = file_line("m", b"second", 0);
    line["member"] = json!("second");
    twice.line("m", line);
    let poisoned = twice.commit(&victim.forge());
    let restored = victim.restore(&poisoned.run, &[], 3);
    restored.holds(&[("m", "first")]);
    restored.refuses(&["m"]);
    victim.deep_names("bad_manifest", &poisoned.manifest);

    let mut unsorted = Poison { unsorted: true, ..Poison::among(&INNOCENT) };
    unsorted.file("b-late", b"out of order");
    let poisoned = unsorted.commit(&victim.forge());
    let restored = victim.restore(&poisoned.run, &[], 3);
    restored.holds(&[]);
    restored.refuses(&["b-late"]);
    victim.deep_names("bad_manifest", &poisoned.manifest);
}

#[test]
fn nothing_that_no_attestation_names_is_opened() {
    let victim = Victim::new();
    let hidden = Poison { hide_segments: true, ..Poison::among(&INNOCENT) }.commit(&victim.forge());
    let restored = victim.restore(&hidden.run, &[], 3);
    assert!(restored.there.is_empty(), "{:?}", restored.there);
    restored.refuses(&INNOCENT.map(|(path, _)| path));
    victim.deep_names("lost_record", &hidden.segments[0]);

    let foreign = Poison { foreign_run: Some(RunId::new(Timestamp::now())), ..Poison::among(&INNOCENT) }.commit(&victim.forge());
    let restored = victim.restore(&foreign.run, &[], 3);
    assert!(restored.there.is_empty(), "{:?}", restored.there);
    assert!(restored.failed.iter().any(|f| f["object"] == foreign.manifest.as_str()), "{:?}", restored.failed);
    victim.deep_names("bad_manifest", &foreign.manifest);
}

#[test]
fn a_statement_with_a_repeated_key_is_void() {
    let victim = Victim::new();
    let forge = victim.forge();
    let poisoned = Poison::among(&INNOCENT).commit(&forge);
    victim.restore(&poisoned.run, &[], 0).holds(&[]);
    let text = String::from_utf8(forge.statement("snapshot.tree", 2).to_bytes().unwrap()).unwrap();
    let twice = text.replacen("\"sequence\":2", "\"sequence\":2,\"sequence\":2", 1);
    assert_ne!(text, twice);
    let bytes = backstop::vault::dsse::Envelope::sign(twice.as_bytes(), &forge.signer("agent"));
    forge.put(&envelope_name("snapshot.tree", 2), &bytes);
    victim.deep_names("not_a_statement", &envelope_name("snapshot.tree", 2));
    assert_eq!(victim.run(&["restore", "files", &poisoned.run, "--to", TARGET]).code, 2);
    assert!(!victim.sandbox.path(TARGET).exists());
}

/// A segment that begins with a header and goes on with two gibibytes of zeros.
fn bomb(forge: &Forge<'_>, header: &[u8]) -> Vec<u8> {
    seal_repeated(&[(header, 1), (&vec![0; 4 * MIB], 512)], &forge.recipients())
}

fn header_of(name: &str, kind: tar::EntryType, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// Every reader that opens things stays small, and the harmless records are restored.
fn defused(victim: &Victim, poisoned: &Poisoned, kind: &str, object: &str) {
    let before = victim.outside();
    victim.measured(&["restore", "files", &poisoned.run, "--to", TARGET], 3);
    Restored { there: listing(&victim.sandbox.path(TARGET)), failed: Vec::new() }.holds(&[]);
    fs::remove_dir_all(victim.sandbox.path(TARGET)).unwrap();
    let mut after = victim.outside();
    after.retain(|path, _| !path.starts_with("measured."));
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    names(&victim.measured(&["verify", "--deep", "--json"], 3), kind, object);
}

#[rstest]
#[case::wanted(tar::EntryType::Regular, "bomb")]
#[case::before_what_is_wanted(tar::EntryType::Regular, "other")]
#[case::extended_header(tar::EntryType::XHeader, "bomb")]
#[case::long_name(tar::EntryType::GNULongName, "bomb")]
fn a_segment_that_unpacks_without_end_is_left(#[case] kind: tar::EntryType, #[case] name: &str) {
    let victim = Victim::new();
    let forge = victim.forge();
    let mut poison = Poison::among(&INNOCENT);
    // One for each core of a small machine.
    for number in 1..=2 {
        poison.segments.push(bomb(&forge, &header_of(name, kind, 2 << 30)));
        let path = format!("bomb-{number}");
        poison.line(
            &path,
            json!({ "path": path, "type": "file", "sha256": Sha256::of(b""), "size": 2u64 << 30, "segment": number, "member": "bomb" }),
        );
    }
    let poisoned = poison.commit(&forge);
    defused(&victim, &poisoned, "lost_record", &poisoned.segments[1]);
}

#[rstest]
#[case::empty_lines(b"\n".as_slice(), 256 * MIB)]
#[case::one_line(b"x".as_slice(), 512 * MIB)]
#[case::the_same_line(br#"{"path":"a-innocent.json","type":"dir"}"#.as_slice(), 16 * MIB)]
#[case::false_lines(b"{\"path\":\"../////////////////////////////////////////////////////////\"}\n".as_slice(), 8 * MIB)]
fn a_manifest_without_end_is_left(#[case] part: &[u8], #[case] times: usize) {
    let victim = Victim::new();
    let mut part = part.to_vec();
    if part.len() > 1 && part.last() != Some(&b'\n') {
        part.push(b'\n');
    }
    let in_a_frame = 4 * MIB / part.len();
    let mut poison = Poison { entries: Some(u64::MAX), ..Poison::among(&INNOCENT) };
    poison.tail = vec![(part.repeat(in_a_frame), times / in_a_frame)];
    let poisoned = poison.commit(&victim.forge());
    defused(&victim, &poisoned, "bad_manifest", &poisoned.manifest);
    victim.measured(&["show", &poisoned.run], 3);
    victim.measured(&["diff", "tree~1", &poisoned.run], 3);
}

#[rstest]
#[case::no_end(b"", b"x", 512, b"")]
#[case::many_values(br#"{"other":["#, b"0,", 30, b"0]}\n")]
#[case::many_values_in_place(br#"{"segments":["#, b"0,", 30, b"0]}\n")]
fn a_manifest_header_without_end_is_left(#[case] begin: &[u8], #[case] part: &[u8], #[case] times: usize, #[case] end: &[u8]) {
    let victim = Victim::new();
    let forge = victim.forge();
    let mut poison = Poison::among(&INNOCENT);
    let parts = [(begin, 1), (&part.repeat(4 * MIB / part.len())[..], times), (end, 1)];
    poison.manifest = Some(seal_repeated(&parts, &forge.recipients()));
    let poisoned = poison.commit(&forge);
    for args in [&["restore", "files", &poisoned.run, "--to", TARGET][..], &["show", &poisoned.run], &["diff", "tree~1", &poisoned.run]] {
        victim.measured(args, 3);
    }
    names(&victim.measured(&["verify", "--deep", "--json"], 3), "bad_manifest", &poisoned.manifest);
}

/// Sealed bytes are whole and attested, and yet what is in them ends in the middle of a record.
#[rstest]
#[case::no_more_frames(&[])]
#[case::no_frame(b"this is no zstd frame")]
fn a_segment_that_breaks_off_names_its_record(#[case] rest: &[u8]) {
    let victim = Victim::new();
    let forge = victim.forge();
    let mut part = Vec::new();
    segment::append_header(&mut part, "broken", 2048);
    part.extend([b'b'; 1024]);
    let mut plain = zstd::bulk::compress(&part, 3).unwrap();
    plain.extend_from_slice(rest);
    let mut poison = Poison::among(&INNOCENT);
    poison.segments.push(seal_frames(plain, &forge.recipients()));
    poison.line("broken", file_line("broken", &[b'b'; 2048], 1));
    let poisoned = poison.commit(&forge);
    let restored = victim.restore(&poisoned.run, &[], 3);
    restored.holds(&[]);
    restored.refuses(&["broken"]);
    victim.deep_names("lost_record", &poisoned.segments[1]);
}

/// A window larger than 8 MiB would be memory that the writer of the frame chooses.
#[test]
fn a_frame_with_a_huge_window_is_refused() {
    let victim = Victim::new();
    let forge = victim.forge();
    let mut compressor = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    compressor.window_log(27).unwrap();
    let mut tar = Vec::new();
    segment::append_header(&mut tar, "wide", 5);
    tar.extend_from_slice(b"hello");
    segment::pad(&mut tar, 5);
    segment::append_end(&mut tar);
    std::io::Write::write_all(&mut compressor, &tar).unwrap();
    let mut poison = Poison::among(&INNOCENT);
    poison.segments.push(seal_frames(compressor.finish().unwrap(), &forge.recipients()));
    poison.line("wide", file_line("wide", b"hello", 1));
    let poisoned = poison.commit(&forge);
    let restored = victim.restore(&poisoned.run, &[], 3);
    restored.holds(&[]);
    restored.refuses(&["wide"]);
    victim.deep_names("lost_record", &poisoned.segments[1]);
}

#[rstest]
#[case::one_line(b"x")]
#[case::empty_lines(b"\n")]
#[case::false_events(b"[]\n")]
fn a_log_object_without_end_is_left(#[case] part: &[u8]) {
    let victim = Victim::new();
    let forge = victim.forge();
    let sealed = seal_repeated(&[(&part.repeat(4 * MIB / part.len()), 512)], &forge.recipients());
    let object = forge.commit_export(&sealed, 1);
    let args = ["restore", "logs", "log", "--from", "2026-10-01", "--to", "2026-12-01", "--out", "events-out", "--json"];
    let report = victim.measured(&args, 3).json().remove(0);
    assert_eq!(report["failed"][0]["object"], object.as_str());
    assert_eq!(support::read(&victim.sandbox.path("events-out")), support::read(&victim.sandbox.path("events.ndjson")));
    names(&victim.measured(&["verify", "--deep", "--json"], 3), "lost_record", &object);
}

/// Nothing that was sealed is left out because nobody knows when it was.
#[test]
fn what_has_no_time_is_given_for_every_window() {
    let victim = Victim::new();
    let forge = victim.forge();
    let events: &[u8] = b"{\"id\":\"a\"}\n{\"id\":\"b\"}\n";
    forge.commit_export_of(&seal_repeated(&[(events, 1)], &forge.recipients()), 2, None);
    for (from, to, expected) in [("2026-11-01", "2026-11-02", 3), ("2031-01-01", "2031-01-02", 2)] {
        let ran = victim.run(&["restore", "logs", "log", "--from", from, "--to", to, "--out", from, "--json"]);
        assert!(ran.code == 0 && ran.stderr.contains("2 events have no time"), "{}", ran.stderr);
        let report = &ran.json()[0];
        assert_eq!((&report["events"], &report["untimed"], &report["uncovered"]), (&expected.into(), &2.into(), &json!([])), "{report}");
        assert!(support::read(&victim.sandbox.path(from)).contains("{\"id\":\"a\"}\n{\"id\":\"b\"}\n"));
    }
}

#[rstest]
#[case::empty_lines(b"\n")]
#[case::short_lines(b"{}\n")]
#[case::one_line(b"x")]
fn a_bundle_without_end_is_left(#[case] part: &[u8]) {
    let victim = Victim::new();
    let forge = victim.forge();
    let frame = zstd::bulk::compress(&part.repeat(4 * MIB / part.len()), 3).unwrap();
    let mut next = forge.successor("checkpoint");
    let bundle = forge.put(&format!("attestations/bundles/2026-11-01-{}.ndjson.zst", next.predicate.run), &frame.repeat(1024));
    let name = bundle.name.clone();
    next.predicate.details.insert("bundle".into(), json!(name));
    set_objects(&mut next, vec![bundle]);
    forge.commit(&next, &forge.signer("agent"));
    names(&victim.measured(&["verify", "--json"], 3), "bad_bundle", &name);
    // A damaged attestation is looked for in the bundles.
    victim.sandbox.tamper(&forge.file(&envelope_name("snapshot.tree", 1)), |bytes| bytes[200] ^= 1);
    victim.measured(&["restore", "files", "tree", "--to", TARGET], 0);
}
