//! Promise: what is kept for seven years is there after seven years, and what nobody needs any longer can be let go.
//!
//! Seven years pass through the program as users run it, a night in every month and some nights in a row, against a
//! double of the Blob service. Both clocks are moved: the service's by the test, the program's by `faketime`. Keys and
//! recipients change, a hold is set, a night is interrupted; at the end the first periods are destroyed, all else is
//! still locked and comes back byte for byte: by the program, by the vault's own page, by a reader of another hand.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/azure.rs"]
mod azure;
#[path = "support/blob/mod.rs"]
mod blob;
#[path = "support/by_hand.rs"]
mod by_hand;
mod support;
#[path = "support/trees.rs"]
mod trees;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use backstop::store::Sha256;
use blob::{BlobDouble, Fault, Kind, Options};
use by_hand::{recover, script, tools};
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde_json::Value;
use support::{Ran, Sandbox};
use trees::{Tree, assert_same, noise, tree};

/// What the agent's signature may do: read, list, create, lock. It replaces nothing and deletes nothing.
const AGENT_RIGHTS: &str = "rlci";
const OPERATOR: [&str; 2] = ["--key", "keys/operator.key"];
const WHY: [&str; 4] = ["--reason", "case 4711", "--authority", "Legal, A. Counsel"];
const ID: [&str; 2] = ["--identity", "keys/identity-1.txt"];
/// The period that is held.
const HELD: &str = "config-snapshots/tree/2020-02";
/// A backup may read and seal for so many entries; enough to have something to change.
const ROLES: usize = 24;

/// A snapshot, and what the source was when it was taken.
struct Taken {
    source: &'static str,
    at: Timestamp,
    run: String,
    kind: String,
    /// Container, source and epoch.
    folder: String,
    tree: Tree,
}

/// An event as it was delivered.
struct Event {
    /// Container, stream and month of the import.
    folder: String,
    id: String,
    time: Timestamp,
    line: String,
}

struct Years {
    sandbox: Sandbox,
    double: BlobDouble,
    agent: String,
    operator: String,
    faketime: PathBuf,
    nights: usize,
    commands: AtomicUsize,
    taken: Vec<Taken>,
    events: Vec<Event>,
    gone: BTreeSet<String>,
}

fn midnight(day: Date) -> Timestamp {
    day.to_zoned(TimeZone::UTC).unwrap().timestamp()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// When the locks of a period end, by the calendar: the first instant after it, seven years, thirty days.
fn lock_end(folder: &str) -> Timestamp {
    let period = folder.splitn(3, '/').nth(2).unwrap().replace('/', "-");
    let (year, rest) = period.split_once('-').unwrap();
    let (year, month): (i16, i8) =
        (year.parse().unwrap(), rest.strip_prefix('Q').map_or_else(|| rest.parse().unwrap(), |q| q.parse::<i8>().unwrap() * 3));
    let after = date(year, month, 1).checked_add(1.month()).unwrap();
    midnight(after.checked_add(7.years()).unwrap().checked_add(30.days()).unwrap())
}

impl Years {
    fn begin(now: &str) -> Self {
        let double = BlobDouble::start(Options { now: Some(at(now)), ..azure::four_containers() });
        let (starts, ends) = (at(now) - SignedDuration::from_mins(5), at("2030-01-01T00:00:00Z"));
        let (agent, operator) = (double.sas(AGENT_RIGHTS, starts, ends), double.full_sas());
        let sandbox = Sandbox::new();
        for source in ["tree", "proof"] {
            fs::create_dir_all(sandbox.path(source)).unwrap();
        }
        let (taken, events, gone) = (Vec::new(), Vec::new(), BTreeSet::new());
        let years = Self {
            sandbox,
            double,
            agent,
            operator,
            faketime: support::faketime(),
            nights: 0,
            commands: AtomicUsize::new(0),
            taken,
            events,
            gone,
        };
        let endpoint = years.double.endpoint();
        let place = ["--azure", &endpoint, "--azure-credential", "sas: { env: VAULT_SAS }"];
        let what = ["--source", "tree=tree", "--source", "proof=proof", "--stream", "log"];
        years.run(&[&["init"], &place[..], &what].concat(), 0);
        years.policy("/proof\" } }", "/proof\" }, container: evidence, epoch: quarter }");
        years
    }

    /// Changes the policy.
    fn policy(&self, from: &str, to: &str) {
        let before = fs::read_to_string(self.sandbox.path("backstop.yaml")).unwrap();
        assert_eq!(before.matches(from).count(), 1, "{from}\n{before}");
        self.sandbox.write("backstop.yaml", before.replace(from, to));
    }

    fn set_clock(&self, now: &str) {
        self.double.set_clock(at(now));
    }

    /// What moves the clock of a program to the service's.
    fn clock(&self) -> [(&'static str, String); 5] {
        [
            ("LD_PRELOAD", self.faketime.to_str().unwrap().to_owned()),
            ("FAKETIME", self.double.now().strftime("@%Y-%m-%d %H:%M:%S").to_string()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
            ("TZ", "UTC".to_owned()),
        ]
    }

    fn run_with(&self, sas: &str, args: &[&str], code: i32) -> Ran {
        self.commands.fetch_add(1, Ordering::Relaxed);
        let clock = self.clock();
        let mut env: Vec<(&str, &str)> = clock.iter().map(|(name, value)| (*name, value.as_str())).collect();
        env.push(("VAULT_SAS", sas));
        let ran = self.sandbox.backstop_with(&[args, &["--json"]].concat(), &env);
        assert_eq!(ran.code, code, "{} {args:?}\n{}\n{}", self.double.now(), ran.stdout, ran.stderr);
        ran
    }

    /// The program with every right on the store.
    fn run(&self, args: &[&str], code: i32) -> Ran {
        let sas = self.operator.clone();
        self.run_with(&sas, args, code)
    }

    /// The same, and the last line that it wrote.
    fn said(&self, args: &[&str], code: i32) -> Value {
        self.run(args, code).json().pop().unwrap()
    }

    /// The program as the agent's machine runs it.
    fn agent(&self, args: &[&str], code: i32) -> Ran {
        let sas = self.agent.clone();
        self.run_with(&sas, args, code)
    }

    /// A night: what was changed by day is captured, the day's log is delivered, a checkpoint is made.
    fn night(&mut self, now: &str) -> Vec<Value> {
        self.set_clock(now);
        self.change();
        let captured = self.capture();
        self.import();
        self.agent(&["checkpoint"], 0);
        captured
    }

    fn capture(&mut self) -> Vec<Value> {
        let trees = [tree(&self.sandbox.path("tree"), false), tree(&self.sandbox.path("proof"), true)];
        let lines = self.agent(&["snapshot"], 0).json();
        assert_eq!(lines.len(), 2, "{lines:?}");
        for (source, tree) in ["tree", "proof"].into_iter().zip(trees) {
            let line = lines.iter().find(|l| l["source"] == source).unwrap();
            let (run, kind) = (line["run"].as_str().unwrap().to_owned(), line["kind"].as_str().unwrap().to_owned());
            let (at, day) = (self.double.now(), self.double.now().to_zoned(TimeZone::UTC).date());
            let folder = match source {
                "tree" => format!("config-snapshots/tree/{:04}-{:02}", day.year(), day.month()),
                _ => format!("evidence/proof/{:04}-Q{}", day.year(), (day.month() + 2) / 3),
            };
            assert_eq!((&line["outcome"], at_of(&line["lock_until"])), (&"complete".into(), lock_end(&folder)), "{line}");
            self.taken.push(Taken { source, at, run, kind, folder, tree });
        }
        lines
    }

    /// What people do to the sources in a day.
    fn change(&mut self) {
        let n = self.nights;
        self.nights += 1;
        let root = self.sandbox.path("tree");
        if n == 0 {
            for role in 0..ROLES {
                self.sandbox.write(&format!("tree/roles/{role:02}.json"), format!("{{\"id\":\"{role}\",\"enabled\":true}}"));
            }
        }
        self.sandbox.write(&format!("tree/roles/{:02}.json", n % ROLES), format!("{{\"id\":\"{}\",\"night\":{n}}}", n % ROLES));
        self.sandbox.write(&format!("tree/assignments/{n:03}/größe {n}.json"), format!("{{\"to\":{n}}}"));
        if n >= 6 {
            fs::remove_dir_all(root.join(format!("assignments/{:03}", n - 6))).unwrap();
        }
        match n % 5 {
            1 => symlink(format!("roles/{:02}.json", n % ROLES), root.join("newest")).unwrap(),
            3 => fs::remove_file(root.join("newest")).unwrap(),
            4 => fs::remove_file(root.join(format!("roles/{:02}.json", n % ROLES))).unwrap(),
            _ => {}
        }
        // Evidence is kept with its modes and times.
        let name = format!("proof/reviews/review-{n:03}.bin");
        let path = self.sandbox.write(&name, noise(2000 + 37 * n, n as u64 + 1));
        let modified = SystemTime::UNIX_EPOCH + Duration::new(1_500_000_000 + 86_400 * n as u64, 1_000_007 * n as u32);
        fs::File::options().append(true).open(&path).unwrap().set_modified(modified).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode([0o600, 0o640, 0o755][n % 3])).unwrap();
        if n >= 8 {
            fs::remove_file(self.sandbox.path(&format!("proof/reviews/review-{:03}.bin", n - 8))).unwrap();
        }
    }

    /// The day's events, and of one from the day before a newer version.
    fn import(&mut self) {
        let (n, now) = (self.nights, self.double.now().round(jiff::Unit::Second).unwrap());
        let folder = format!("audit-logs/log/{}", now.strftime("%Y/%m"));
        let mut events = Vec::new();
        for k in 0..5 {
            let (id, time) = (format!("{n}-{k}"), now - SignedDuration::from_hours(k + 1));
            let line = format!("{{\"id\":\"{id}\",\"createdDateTime\":\"{time}\",\"who\":\"größe  {k}\",\"ok\":{}}}", k % 2 == 0);
            events.push(Event { folder: folder.clone(), id, time, line });
        }
        let before = format!("{}-2", n - 1);
        if let Some(event) = self.events.iter().find(|e| e.id == before) {
            let line = event.line.replace("\"ok\":true", "\"ok\":\"changed\"");
            events.push(Event { folder, id: before, time: event.time, line });
        }
        let file = format!("delivered/{n:03}.ndjson");
        self.sandbox.write(&file, events.iter().map(|e| format!("{}\n", e.line)).collect::<String>());
        self.agent(&["import", "log", &file], 0);
        self.events.extend(events);
    }

    /// What a restore of a window must give, with what is gone left out.
    fn events_of(&self, year: i16) -> String {
        let (from, to) = (midnight(date(year, 1, 1)), midnight(date(year + 1, 1, 1)));
        let mut newest: BTreeMap<&str, &Event> = BTreeMap::new();
        for event in self.events.iter().filter(|e| !self.gone.contains(&e.folder) && from <= e.time && e.time < to) {
            newest.insert(&event.id, event);
        }
        let mut sorted: Vec<&Event> = newest.into_values().collect();
        sorted.sort_by_key(|e| e.time);
        sorted.iter().map(|e| format!("{}\n", e.line)).collect()
    }

    /// Every period that there is data of and that is not destroyed.
    fn folders(&self) -> BTreeSet<String> {
        let all = self.taken.iter().map(|t| &t.folder).chain(self.events.iter().map(|e| &e.folder));
        all.filter(|f| !self.gone.contains(*f)).cloned().collect()
    }

    /// The periods whose locks end by then.
    fn ended_by(&self, by: Timestamp) -> BTreeSet<String> {
        self.folders().into_iter().filter(|f| lock_end(f) <= by).collect()
    }

    /// Everything on the store that has a name: container and name, and the blob as the double dumps it.
    fn blobs(&self) -> BTreeMap<String, Value> {
        let dump = self.double.dump();
        let containers = dump["containers"].as_object().unwrap();
        let of = |(container, it): (&String, &Value)| {
            let blobs = it["blobs"].as_object().unwrap().clone();
            blobs.into_iter().map(|(name, blob)| (format!("{container}/{name}"), blob)).collect::<Vec<_>>()
        };
        containers.iter().flat_map(of).collect()
    }

    /// An audit without findings but for what is due for review; gives those periods.
    fn due(&self, more: &[&str]) -> BTreeSet<String> {
        let report = self.said(&[&["verify"], more].concat(), 0);
        assert_eq!(report["ok"], true);
        let findings = report["findings"].as_array().unwrap();
        let (left, due): (Vec<&Value>, Vec<&Value>) = findings.iter().partition(|f| f["severity"] == "info");
        // What the interrupted run left that nobody could take over: its manifest.
        assert!(left.len() == 1 && left[0]["kind"] == "orphan" && left[0]["object"].as_str().unwrap().contains("/2024-08/"), "{left:#?}");
        assert!(due.iter().all(|f| f["kind"] == "review_due" && f["severity"] == "warning"), "{due:#?}");
        due.iter().map(|f| f["object"].as_str().unwrap().trim_end_matches('/').to_owned()).collect()
    }

    /// A disposition by two operators; exactly those periods go, and nothing else is touched.
    fn dispose(&mut self, plan: &str, expected: &BTreeSet<String>) -> Value {
        let before = self.blobs();
        let made = self.said(&["dispose", "plan", "--out", plan], 0);
        assert_eq!(made["items"], expected.len(), "{made}");
        assert_eq!(self.blobs(), before, "a plan changes nothing");
        self.run(&[&["dispose", "approve", plan, "--as", "A. First, compliance"], &OPERATOR[..]].concat(), 0);
        self.run(&[&["dispose", "apply", plan], &OPERATOR[..]].concat(), 2);
        self.run(&["dispose", "approve", plan, "--as", "B. Second, security", "--key", "second.key"], 0);
        let done = self.said(&[&["dispose", "apply", plan], &OPERATOR[..]].concat(), 0);
        let after = self.blobs();
        let gone: BTreeSet<&String> = before.keys().filter(|name| !after.contains_key(*name)).collect();
        let meant: BTreeSet<&String> = before.keys().filter(|name| expected.iter().any(|f| name.starts_with(&format!("{f}/")))).collect();
        assert_eq!(gone, meant, "with all their versions");
        assert!(before.iter().all(|(name, blob)| meant.contains(name) || after.get(name) == Some(blob)), "nothing else changed");
        assert_eq!((&done["objects"], &done["not_removed"]), (&meant.len().into(), &serde_json::json!([])));
        self.gone.extend(expected.iter().cloned());
        done
    }

    /// Whoever has every right tries to delete what is locked: the service refuses each.
    fn nothing_locked_can_be_deleted(&self) {
        rustls::crypto::ring::default_provider().install_default().unwrap();
        let client = reqwest::blocking::Client::builder().no_proxy().build().unwrap();
        let now = self.double.now();
        let before = self.blobs();
        let mut refused = BTreeMap::<&str, usize>::new();
        for (name, blob) in &before {
            let [version] = blob["versions"].as_array().unwrap().as_slice() else { panic!("{name} was written once: {blob}") };
            let (until, held) = (at_of(&version["lock"]["until"]), version["legal_hold"] == true);
            let folder = self.folders().into_iter().find(|f| name.starts_with(&format!("{f}/")));
            match &folder {
                Some(folder) => assert_eq!(until, lock_end(folder), "{name}"),
                None => {
                    // From `finished`, which lies a moment before.
                    let finished = at_of(&version["created"]) - SignedDuration::from_secs(2);
                    let least = finished.to_zoned(TimeZone::UTC).checked_add(7.years().days(30)).unwrap().timestamp();
                    assert!(until >= least, "{name}: {until}, {least}");
                }
            }
            assert_eq!(version["lock"]["mode"], "locked", "{name}");
            if until <= now && !held {
                assert!(folder.is_none(), "{name}: its period is destroyed");
                continue;
            }
            let url = format!("{}/{name}?{}", self.double.endpoint(), self.operator);
            let answer = client.delete(&url).header("x-ms-version", "2026-04-06").send().unwrap();
            let code = answer.headers().get("x-ms-error-code").map_or("", |v| v.to_str().unwrap()).to_owned();
            let expected = if held { "BlobImmutableDueToLegalHold" } else { "BlobImmutableDueToPolicy" };
            assert_eq!((answer.status().as_u16(), code.as_str()), (409, expected), "{name}");
            *refused.entry(name.split('/').next().unwrap()).or_default() += 1;
        }
        assert_eq!(self.blobs(), before);
        assert!(refused.values().all(|n| *n > 80) && refused.len() == 4, "{refused:?}");
    }

    /// Every current blob in a folder for each container, as `az storage blob download-batch` leaves them.
    fn download(&self, to: &str) {
        for (name, blob) in self.blobs() {
            assert_eq!(blob["live"], true, "{name}");
            let (container, inner) = name.split_once('/').unwrap();
            self.sandbox.write(&format!("{to}/{name}"), self.double.content(container, inner, None).unwrap());
        }
    }
}

fn at_of(value: &Value) -> Timestamp {
    at(value.as_str().unwrap_or_else(|| panic!("no instant: {value}")))
}

fn set(folders: &[&str]) -> BTreeSet<String> {
    folders.iter().map(|f| (*f).to_owned()).collect()
}

#[test]
fn seven_years_pass() {
    let mut years = Years::begin("2020-01-10T00:30:00Z");
    let mut kept = None;
    for month in 0..88 {
        let day = date(2020, 1, 10).checked_add(month.months()).unwrap();
        match day.strftime("%Y-%m").to_string().as_str() {
            "2020-06" => second_operator(&mut years),
            "2021-05" => another_agents_key(&mut years),
            "2023-05" => hold(&mut years),
            "2024-08" => interrupted(&mut years),
            "2027-02" => nothing_may_go_yet(&mut years),
            _ => {}
        }
        years.night(&format!("{day}T02:00:00Z"));
        match day.strftime("%Y-%m").to_string().as_str() {
            // One more night in the first epoch: a base and a delta.
            "2020-01" => drop(years.night("2020-01-11T02:00:00Z")),
            "2021-06" => {
                let checkpoint = years.agent(&["checkpoint"], 0);
                kept = Some(years.sandbox.write("elsewhere.json", checkpoint.stdout));
            }
            "2022-03" => another_recipient(&mut years),
            // Night after night over the end of a month and a quarter.
            "2023-06" => ["06-28", "06-29", "06-30", "07-01", "07-02", "07-03"]
                .iter()
                .for_each(|d| drop(years.night(&format!("2023-{d}T02:00:00Z")))),
            _ => {}
        }
    }
    assert!(kept.is_some() && years.nights > 95);
    bases_and_deltas(&years);
    let first = let_go(&mut years);
    let second = the_held_one_goes_too(&mut years);
    // Nothing but what was due is missing, by every way there is to look.
    years.set_clock("2027-05-04T02:00:00Z");
    years.agent(&["checkpoint"], 0);
    let soon = set(&["audit-logs/log/2020/04", "config-snapshots/tree/2020-04"]);
    assert_eq!(years.due(&["--deep", ID[0], ID[1], "--checkpoint", "elsewhere.json"]), soon);
    years.download("download");
    tools(&years.sandbox);
    script(&years.sandbox, "download");
    let genesis = Sha256::of(&fs::read(years.sandbox.path("keys/genesis.json")).unwrap()).to_string();
    std::thread::scope(|at_once| {
        at_once.spawn(|| checked_by_hand(&years, &genesis));
        at_once.spawn(|| restores(&years, &first, &second));
        recovered_by_hand(&years);
        read_by_another_hand(&years, &genesis);
    });
    support::say(&format!("{} nights, {} commands, {} blobs", years.nights, years.commands.load(Ordering::Relaxed), years.blobs().len()));
}

/// A destruction needs two.
fn second_operator(years: &mut Years) {
    years.set_clock("2020-06-01T10:00:00Z");
    years.run(&["key", "new", "signer", "--out", "second.key"], 0);
    years.run(&[&["key", "add-signer", "--role", "operator", "--public-key", "second.pub"], &OPERATOR[..]].concat(), 0);
}

/// The agent's key ends; what it would sign from here on is refused until the new one is in its place.
fn another_agents_key(years: &mut Years) {
    years.set_clock("2021-05-01T10:00:00Z");
    years.run(&["key", "new", "signer", "--out", "keys/agent-2.key"], 0);
    years.run(&[&["key", "rotate", "--old", "keys/agent.pub", "--public-key", "keys/agent-2.pub"], &OPERATOR[..]].concat(), 0);
    let before = years.blobs().len();
    years.agent(&["snapshot"], 2);
    assert_eq!(years.blobs().len(), before);
    years.policy("keys/agent.key", "keys/agent-2.key");
}

/// The second identity is given up for a third: the next night is a base in the middle of its epoch, sealed to the new one.
fn another_recipient(years: &mut Years) {
    years.set_clock("2022-03-11T01:00:00Z");
    let made = years.said(&["key", "new", "identity", "--out", "keys/identity-3.txt"], 0);
    let all = years.run(&["key", "ls", "--identity", "keys/identity-2.txt"], 0).json();
    let second = all.iter().find(|l| l["identity_at_hand"] == true).unwrap();
    years.policy(second["recipient"].as_str().unwrap(), made["recipient"].as_str().unwrap());
    for (now, kind) in [("2022-03-11T02:00:00Z", "base"), ("2022-03-12T02:00:00Z", "delta")] {
        years.night(now);
        assert!(years.taken[years.taken.len() - 2..].iter().all(|t| t.kind == kind), "{now}");
        for (identity, code) in [("keys/identity-3.txt", 0), ("keys/identity-2.txt", 2)] {
            let (run, to) = (years.taken[years.taken.len() - 2].run.clone(), format!("tried-{}-{kind}", &identity[14..15]));
            years.run(&["restore", "files", &run, "--to", &to, "--identity", identity], code);
        }
    }
}

/// What was committed three years ago is held, with its attestations.
fn hold(years: &mut Years) {
    years.set_clock("2023-05-02T10:00:00Z");
    let period = ["--source", "tree", "--from", "2020-02-01", "--to", "2020-03-01"];
    let held = years.said(&[&["hold", "add"], &period[..], &WHY, &OPERATOR].concat(), 0);
    let marked = years.blobs().into_iter().filter(|(_, blob)| blob["versions"][0]["legal_hold"] == true);
    let names: Vec<String> = marked.map(|(name, _)| name).collect();
    assert_eq!(names.len(), held["newly_held"].as_u64().unwrap() as usize);
    assert_eq!(names.iter().filter(|n| n.starts_with(HELD)).count() + 1, names.len(), "{names:?}");
}

/// The store fails in the middle of a run: nothing is committed. The next night takes over what is sealed already.
fn interrupted(years: &mut Years) {
    years.set_clock("2024-08-09T02:00:00Z");
    years.change();
    let unavailable = Kind::Status { status: 403, code: "AccountIsDisabled".into(), retry_after: None };
    years.double.fault(Fault::once(unavailable).on("PutBlob").named("attestations").times(0));
    let before = years.blobs();
    years.agent(&["snapshot", "tree"], 1);
    years.double.clear_faults();
    let after = years.blobs();
    let left: Vec<&String> = after.keys().filter(|name| !before.contains_key(*name)).collect();
    assert!(!left.is_empty() && left.iter().all(|name| name.starts_with("config-snapshots/tree/2024-08/")), "{left:?}");
    assert_eq!(years.said(&["verify"], 0)["ok"], true);
    let next = years.night("2024-08-10T00:30:00Z");
    let tree = next.iter().find(|line| line["source"] == "tree").unwrap();
    assert_eq!((&tree["kind"], &tree["adopted_objects"]), (&"base".into(), &1.into()), "{tree}");
}

/// A month before the first locks end it is said what is due; before that nothing is, and nothing can be destroyed.
fn nothing_may_go_yet(years: &mut Years) {
    for (now, due) in
        [("2027-01-31T23:00:00Z", set(&[])), ("2027-02-01T00:00:01Z", set(&["audit-logs/log/2020/01", "config-snapshots/tree/2020-01"]))]
    {
        years.set_clock(now);
        years.agent(&["checkpoint"], 0);
        assert_eq!(years.due(&[]), due, "{now}");
    }
    let plan = years.said(&["dispose", "plan", "--out", "too-early.json"], 0);
    assert_eq!((&plan["items"], &plan["objects"]), (&0.into(), &0.into()), "{plan}");
}

/// Bases where a period begins or the recipients change, deltas on the nights between.
fn bases_and_deltas(years: &Years) {
    let kind = |source: &str, day: &str| {
        let taken = years.taken.iter().find(|t| t.source == source && t.at.to_string().starts_with(day));
        taken.unwrap_or_else(|| panic!("{source} {day}")).kind.as_str()
    };
    for (source, day, expected) in [
        ("tree", "2020-01-10", "base"),
        ("tree", "2020-01-11", "delta"),
        ("tree", "2020-02-10", "base"),
        ("tree", "2023-06-29", "delta"),
        ("tree", "2023-06-30", "delta"),
        ("tree", "2023-07-01", "base"),
        ("tree", "2023-07-02", "delta"),
        ("proof", "2023-06-30", "delta"),
        ("proof", "2023-07-01", "base"),
        ("proof", "2023-07-03", "delta"),
    ] {
        assert_eq!(kind(source, day), expected, "{source} {day}");
    }
}

/// The first periods are past their locks and go; the held one and everything else stay.
fn let_go(years: &mut Years) -> Value {
    years.set_clock("2027-05-03T10:00:00Z");
    years.agent(&["checkpoint"], 0);
    let now = years.double.now();
    let mut due = years.ended_by(now + SignedDuration::from_hours(24 * 30));
    assert!(due.remove(HELD));
    assert_eq!(years.due(&[]), due);
    let mut ended = years.ended_by(now);
    assert!(ended.remove(HELD), "its lock has ended");
    let expected = [
        "audit-logs/log/2020/01",
        "audit-logs/log/2020/02",
        "audit-logs/log/2020/03",
        "config-snapshots/tree/2020-01",
        "config-snapshots/tree/2020-03",
        "evidence/proof/2020-Q1",
    ];
    assert_eq!(ended, set(&expected));
    let done = years.dispose("first.json", &ended);
    assert!(years.blobs().keys().any(|name| name.starts_with(HELD)));
    years.nothing_locked_can_be_deleted();
    done
}

/// When the hold is removed, what it kept goes in its turn.
fn the_held_one_goes_too(years: &mut Years) -> Value {
    let holds = years.run(&["hold", "ls"], 0).json();
    assert_eq!((holds.len(), &holds[0]["state"]), (1, &"active".into()));
    years.run(&[&["hold", "remove", holds[0]["hold"].as_str().unwrap()], &WHY[..], &OPERATOR].concat(), 0);
    years.dispose("second.json", &set(&[HELD]))
}

/// Every snapshot and every year of events that still exists, byte for byte; of the rest, by which decision it went.
fn restores(years: &Years, first: &Value, second: &Value) {
    let taken = &years.taken;
    let mut back = BTreeMap::<(&str, i16), usize>::new();
    for (n, Taken { source, at, run, folder, tree: expected, .. }) in taken.iter().enumerate() {
        let (what, to) = (format!("{source} of {at}"), format!("back/{run}"));
        let restore = ["restore", "files", run, "--to", &to, ID[0], ID[1]];
        if !years.gone.contains(folder) {
            // The last of each year, and every night of those that were special.
            let following = taken[n + 1..].iter().find(|t| t.source == *source);
            let last = following.is_none_or(|t| t.at.to_zoned(TimeZone::UTC).year() != at.to_zoned(TimeZone::UTC).year());
            if !last && !["2020-04", "2022-03", "2023-06", "2023-07", "2024-08"].contains(&&at.to_string()[..7]) {
                continue;
            }
            let said = years.said(&restore, 0);
            assert_eq!(said["tree_matches"], true, "{what}");
            assert_same(&tree(&years.sandbox.path(&to), *source == "proof"), expected, &what);
            *back.entry((source, at.to_zoned(TimeZone::UTC).year())).or_default() += 1;
            continue;
        }
        let by = if folder == HELD { second } else { first };
        let ran = years.run(&restore, 1);
        for expected in ["disposed of", by["run"].as_str().unwrap(), "2027-05-03", "A. First, compliance", "B. Second, security"] {
            assert!(ran.stderr.contains(expected), "{what}: {expected}: {}", ran.stderr);
        }
    }
    assert!(back.len() == 16 && back.values().sum::<usize>() > 36, "{back:?}");
    for year in 2020..=2027 {
        let window = [format!("{year}-01-01"), format!("{}-01-01", year + 1)];
        // Of the first year a part is gone, and that is said.
        let restore =
            ["restore", "logs", "log", "--from", &window[0], "--to", &window[1], "--out", &format!("back/{year}.ndjson"), ID[0], ID[1]];
        let said = years.said(&restore, if year == 2020 { 6 } else { 0 });
        let by: Vec<&Value> = said["disposed"].as_array().unwrap().iter().map(|d| &d["run"]).collect();
        assert!(by.is_empty() != (year == 2020) && by.iter().all(|run| **run == first["run"]), "{said}");
        let found = fs::read_to_string(years.sandbox.path(&format!("back/{year}.ndjson"))).unwrap();
        assert_eq!(found, years.events_of(year), "the events of {year}");
        assert!(found.lines().count() > 15);
    }
}

/// By the vault's own page and ordinary tools, a plain download is what was written.
fn checked_by_hand(years: &Years, genesis: &str) {
    let checked = recover(&years.sandbox, &["check", "download", genesis], 0);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    let disposed: usize = ["first.json", "second.json"].iter().map(|plan| objects_in(years, plan)).sum();
    assert_eq!(said.matches("was disposed of, as attested").count(), disposed, "{said}");
}

fn objects_in(years: &Years, plan: &str) -> usize {
    let text = fs::read_to_string(years.sandbox.path(plan)).unwrap();
    let plan: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    plan["total"]["objects"].as_u64().unwrap() as usize
}

/// By the same page, backups and logs come back.
fn recovered_by_hand(years: &Years) {
    let sandbox = &years.sandbox;
    let listed = String::from_utf8(recover(sandbox, &["list", "download"], 0).stdout).unwrap();
    // The last of each year and source, each with one of the identities of its day.
    let mut last = BTreeMap::new();
    for taken in years.taken.iter().filter(|t| !years.gone.contains(&t.folder)) {
        assert!(listed.contains(&taken.run), "{}", taken.run);
        last.insert((taken.source, taken.at.to_zoned(TimeZone::UTC).year()), taken);
    }
    assert_eq!(last.len(), 16);
    for ((source, year), taken) in last {
        let other = if year < 2022 { "keys/identity-2.txt" } else { "keys/identity-3.txt" };
        let (to, key) = (format!("by-hand/{source}-{year}"), if source == "tree" { other } else { ID[1] });
        recover(sandbox, &["files", "download", &taken.run, key, &to], 0);
        assert_same(&tree(&sandbox.path(&to), source == "proof"), &taken.tree, &to);
    }
    let from = "2020-04-01T00:00:00Z";
    recover(sandbox, &["logs", "download", "log", ID[1], "by-hand.ndjson", from], 0);
    let found = fs::read_to_string(sandbox.path("by-hand.ndjson")).unwrap();
    let sealed: String = years.events.iter().filter(|e| !years.gone.contains(&e.folder)).map(|e| format!("{}\n", e.line)).collect();
    assert_eq!(found, sealed);
    // What was destroyed is named with the decision, not as damage.
    let gone = years.taken.iter().find(|t| years.gone.contains(&t.folder)).unwrap();
    for args in [["logs", "download", "log", ID[1], "all.ndjson"], ["files", "download", &gone.run, ID[1], "gone"]] {
        let out = recover(sandbox, &args, 3);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(said.contains("was disposed of, as attestations/vault/") && !said.contains("missing or damaged"), "{said}");
    }
    assert_eq!(fs::read_to_string(sandbox.path("all.ndjson")).unwrap(), sealed, "the rest comes back");
}

/// A reader that knows the format's page alone finds nothing that the page does not say.
fn read_by_another_hand(years: &Years, genesis: &str) {
    let given = std::env::var_os("BACKSTOP_TEST_PYTHON").map(PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = given.unwrap_or_else(|| root.join("target/test-venv/bin/python3"));
    assert!(python.exists(), "{} is missing: scripts/test.sh makes it, or set BACKSTOP_TEST_PYTHON", python.display());
    let mut reader = Command::new(python);
    reader.arg("-B").arg(root.join("tests/support/second_reader.py")).args(["deep", "download", "--genesis", genesis, ID[0], ID[1]]);
    let out = reader.current_dir(years.sandbox.path("")).envs(years.clock()).output().unwrap();
    let report: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out.stderr)));
    assert_eq!((&report["ok"], &report["deviations"]), (&true.into(), &serde_json::json!([])), "{report:#}");
    let warnings = report["warnings"].as_array().unwrap();
    let expected = |w: &str| w.contains("disposed of") || (w.contains("/2024-08/") && w.contains("is an orphan"));
    assert!(warnings.iter().all(|w| expected(w.as_str().unwrap())), "{warnings:#?}");
}
