//! A year of a vault on a moved clock, through both changes to and from daylight saving: a watcher raises every fault that
//! is put in within its time, calls each over when it is, and at all other times says that nothing is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::fs;

use backstop::policy::Timetable;
use jiff::{SignedDuration, Timestamp};
use support::daemon::policy;
use support::{Ran, Sandbox, faketime};

const START: &str = "2026-03-01T00:00:00Z";
const DAYS: i64 = 365;
const ZONE: &str = "Europe/Berlin";
const SNAPSHOTS: &str = "0 0 6,18 * * *";
const TESTS: &str = "0 0 4 * * Sun";
const RPO: SignedDuration = SignedDuration::from_hours(13);

struct Year {
    sandbox: Sandbox,
    snapshots: Timetable,
    tests: Timetable,
    now: Timestamp,
    /// Nobody takes snapshots.
    agents_gone: bool,
    tester_gone: bool,
    runs: u32,
    looks: u32,
}

impl Year {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let now: Timestamp = START.parse().unwrap();
        let year = Self {
            sandbox,
            snapshots: Timetable::new(SNAPSHOTS, ZONE).unwrap(),
            tests: Timetable::new(TESTS, ZONE).unwrap(),
            now,
            agents_gone: false,
            tester_gone: false,
            runs: 0,
            looks: 0,
        };
        let sandbox = &year.sandbox;
        assert_eq!(year.command(&["init", "--dir", "."]).code, 0);
        let jobs = format!(
            "  snap: {{ snapshot: [tree], schedule: \"{SNAPSHOTS}\" }}\n  test: {{ restore_test: {{}}, schedule: \"{TESTS}\" }}\ntimezone: {ZONE}"
        );
        let text = fs::read_to_string(sandbox.path("backstop.yaml")).unwrap();
        let text =
            text.replace("sources: {}", "sources:\n  tree: { files: { path: tree } }").replace("availability: 99.9", "availability: 80");
        sandbox.write(
            "backstop.yaml",
            text.replace("rpo: 1h", "rpo: 13h").replace("path: ./vault }", "path: ./vault, immutable_flag: false }"),
        );
        policy(sandbox, "backstop.yaml", &jobs, "");
        sandbox.write("tree/a.json", "{}");
        assert_eq!(year.command(&["snapshot"]).code, 0);
        fs::create_dir_all(sandbox.path("watcher/keys")).unwrap();
        fs::copy(sandbox.path("keys/genesis.json"), sandbox.path("watcher/keys/genesis.json")).unwrap();
        let text = fs::read_to_string(sandbox.path("backstop.yaml")).unwrap();
        sandbox.write("watcher/backstop.yaml", text.replace("path: ./vault", "path: ../vault"));
        year
    }

    fn command(&self, arguments: &[&str]) -> Ran {
        let library = faketime();
        let at = format!("@{}", self.now.strftime("%Y-%m-%d %H:%M:%S"));
        self.sandbox.backstop_with(arguments, &[("LD_PRELOAD", library.to_str().unwrap()), ("FAKETIME", &at), ("TZ", "UTC")])
    }

    /// Lets everything happen that is due until an instant.
    fn live(&mut self, until: Timestamp) {
        loop {
            let snapshot = self.snapshots.next_after(self.now).unwrap();
            let test = self.tests.next_after(self.now).unwrap();
            let next = snapshot.min(test);
            if next > until {
                break;
            }
            self.now = next;
            // It takes a moment.
            let due = (next == snapshot, next == test);
            self.now += SignedDuration::from_secs(90);
            if due.0 && !self.agents_gone {
                self.sandbox.write("tree/a.json", format!("{{\"n\":{}}}", self.runs));
                let ran = self.command(&["snapshot"]);
                assert_eq!(ran.code, 0, "{}: {}", self.now, ran.stderr);
                self.runs += 1;
            }
            if due.1 && !self.tester_gone {
                let ran = self.command(&["restore-test", "--key", "keys/tester.key", "--identity", "keys/identity-1.txt"]);
                assert_eq!(ran.code, 0, "{}: {}\n{}", self.now, ran.stdout, ran.stderr);
            }
        }
        self.now = self.now.max(until);
    }

    fn look(&mut self) -> (BTreeSet<String>, Ran) {
        self.looks += 1;
        self.now += SignedDuration::from_mins(1);
        let ran = self.command(&["--policy", "watcher/backstop.yaml", "--json", "watch", "--once"]);
        let kinds = ran.json().iter().map(|l| format!("{} {}", l["kind"].as_str().unwrap(), l["subject"].as_str().unwrap())).collect();
        (kinds, ran)
    }

    #[track_caller]
    fn is_well(&mut self, when: &str) {
        let (found, ran) = self.look();
        assert!(found.is_empty() && ran.code == 0, "{when}, {}: {found:?} {}\n{}", self.now, ran.stdout, ran.stderr);
    }

    /// Looks once an hour until something is seen; gives when, and what was seen besides.
    #[track_caller]
    fn until(&mut self, kind: &str, hours: i64) -> (Timestamp, BTreeSet<String>) {
        let end = self.now + SignedDuration::from_hours(hours);
        let mut all = BTreeSet::new();
        while self.now < end {
            let next = self.now + SignedDuration::from_hours(1);
            self.live(next);
            let (found, _) = self.look();
            all.extend(found.clone());
            if found.contains(kind) {
                return (self.now, all);
            }
        }
        panic!("{kind} was not raised within {hours} h: {all:?}");
    }

    fn day(&self, day: i64, hour: i64) -> Timestamp {
        let start: Timestamp = START.parse().unwrap();
        start + SignedDuration::from_hours(24 * day + hour)
    }

    /// Looks every 36 hours until a day, at noon and at midnight in turn.
    #[track_caller]
    fn quiet(&mut self, upto: i64) {
        let mut half = self.now.duration_since(START.parse().unwrap()).as_hours() / 12;
        while half < upto * 2 {
            let at = self.day(0, half * 12);
            if at > self.now {
                self.live(at);
                self.is_well("an ordinary day");
            }
            half += 3;
        }
        self.live(self.now.max(self.day(upto - 1, 12)));
    }

    fn newest(&self) -> Timestamp {
        let status = self.command(&["status", "--json"]).json().remove(0);
        status["newest"][0]["captured"].as_str().unwrap().parse().unwrap()
    }

    fn file(&self, number: u64) -> String {
        format!("vault/attestations/snapshot.tree/{number:010}.json")
    }
}

fn only(found: &BTreeSet<String>, allowed: &[&str]) {
    assert!(
        !found.is_empty() && found.iter().all(|f| allowed.iter().any(|a| f.starts_with(a))),
        "{found:?}, and only {allowed:?} were put in"
    );
}

#[test]
fn every_fault_of_a_year_is_raised_and_nothing_else() {
    let mut year = Year::new();
    year.live(year.day(1, 0));
    year.quiet(20);

    // The agents are gone for two days: the chain is quiet, then the RPO is exceeded, then it is over.
    let newest = year.newest();
    year.agents_gone = true;
    let (quiet, before) = year.until("chain_quiet snapshot.tree", 30);
    assert!(quiet.duration_since(newest) <= SignedDuration::from_hours(12 + 5 + 1), "{newest} {quiet}");
    let rpo = match before.contains("rpo_exceeded snapshot.tree") {
        true => quiet,
        false => year.until("rpo_exceeded snapshot.tree", 30).0,
    };
    assert!(rpo.duration_since(newest + RPO) <= SignedDuration::from_hours(5), "{newest} {rpo}");
    year.live(year.day(22, 0));
    only(&year.look().0, &["chain_quiet snapshot.tree", "rpo_exceeded snapshot.tree", "checkpoint_missed checkpoint"]);
    year.agents_gone = false;
    year.live(year.day(22, 12));
    year.is_well("the agents are back");
    year.quiet(60);

    // A number vanishes, and comes back.
    let gone = year.file(7);
    year.sandbox.copy(&gone, "kept.json");
    year.sandbox.remove(&gone);
    let (found, ran) = year.look();
    only(&found, &["missing_attestation snapshot.tree", "damaged_attestation snapshot.tree", "audit_finding"]);
    assert_eq!(ran.code, 3);
    year.sandbox.copy("kept.json", &gone);
    year.is_well("it is back");
    year.quiet(90);

    // A lock is made shorter.
    let object = year.sandbox.objects().into_iter().find(|o| o.contains("config-snapshots/tree")).unwrap();
    let (folder, name) = object.rsplit_once('/').unwrap();
    let lock = format!("vault/{folder}/.{name}.lock");
    let good = fs::read_to_string(year.sandbox.path(&lock)).unwrap();
    let long: String = good.split("\"until\":\"").nth(1).unwrap().chars().take(4).collect();
    fs::remove_file(year.sandbox.path(&lock)).unwrap();
    year.sandbox.write(&lock, good.replace(&format!("\"until\":\"{long}"), "\"until\":\"2027"));
    let (found, ran) = year.look();
    only(&found, &["wrong_lock"]);
    assert_eq!(ran.code, 3);
    year.sandbox.write(&lock, &good);
    year.is_well("the lock is as it was");
    year.quiet(120);

    // The vault of last week is put in place of today's.
    year.sandbox.copy("vault", "older");
    year.quiet(127);
    fs::rename(year.sandbox.path("vault"), year.sandbox.path("newer")).unwrap();
    fs::rename(year.sandbox.path("older"), year.sandbox.path("vault")).unwrap();
    let (found, ran) = year.look();
    assert!(found.iter().any(|f| f.starts_with("checkpoint_back")) && ran.code == 3, "{found:?}");
    fs::rename(year.sandbox.path("vault"), year.sandbox.path("older")).unwrap();
    fs::rename(year.sandbox.path("newer"), year.sandbox.path("vault")).unwrap();
    year.is_well("today's is back");
    year.quiet(160);

    // The newest attestation is cut off.
    let head = u64::from(year.runs);
    let head = (head..head + 20).rev().find(|n| year.sandbox.path(&year.file(*n)).is_file()).unwrap();
    let cut = year.file(head);
    year.sandbox.copy(&cut, "kept.json");
    year.sandbox.remove(&cut);
    let (found, ran) = year.look();
    assert!(!found.is_empty() && ran.code == 3, "{found:?}");
    year.sandbox.copy("kept.json", &cut);
    year.is_well("the head is back");
    year.quiet(190);

    // No restore test any more: told a day after the first that was due.
    year.tester_gone = true;
    let due = year.tests.next_after(year.now).unwrap();
    let (told, besides) = year.until("restore_test_missed restore-test", 24 * 9);
    let late = told.duration_since(due);
    assert!(late > SignedDuration::from_hours(23) && late <= SignedDuration::from_hours(25), "{due} {told}");
    only(&besides, &["restore_test_missed"]);
    year.tester_gone = false;
    let next = year.tests.next_after(year.now).unwrap();
    year.live(next + SignedDuration::from_hours(1));
    year.is_well("it was tested");
    year.quiet(DAYS);

    assert!(year.runs > 700 && year.looks > 290, "{} {}", year.runs, year.looks);
}
