//! Disposition after retention: reviewed, approved by two operators, attested, carried out, certified. A vault of 2017
//! is made on a clock that tests move; the program itself then works on it with its own.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use backstop::backup::{ImportJob, SnapshotError, checkpoint, import};
use backstop::observe::Silent;
use backstop::retention::{ApplyJob, HOLD_BATCH, HoldJob, PlanFile, PlanFilter, RetentionError, add_hold, apply, list_holds, make_plan};
use backstop::source::import::{Format, Pointers};
use backstop::store::{
    Body, LocalStore, LocalStoreOptions, LockMode, LockRequest, LockState, ObjectInfo, Priority, Receipt, Sha256, Store, StoreError,
};
use backstop::vault::attestation::Kind;
use backstop::vault::keys::{Role, Signer, SignerEntry, from_base64};
use backstop::vault::names::RunId;
use backstop::vault::{Anchor, Approval, CommitError, DispositionDetails, HoldScope, Ledger, Writer};
use backstop::verify::{AuditJob, audit};
use jiff::Timestamp;
use serde_json::{Value, json};
use support::forge::{Forge, set_objects};
use support::{LibraryVault, Ran};

const PLAN: &str = "plan.json";
const OPERATORS: [&str; 2] = ["keys/operator.key", "keys/second.key"];
/// What is past its locks in 2026: two epochs of the source, one month of the stream.
const FOLDERS: [&str; 3] = ["audit-logs/log/2017/03/", "config-snapshots/tree/2017-03/", "config-snapshots/tree/2018-05/"];

/// Snapshots of March 2017 (a base and a delta), May 2018 and January 2020, and an import of March 2017.
struct Old {
    vault: LibraryVault,
    runs: Vec<String>,
}

impl Old {
    fn new() -> Self {
        let vault = LibraryVault::new("2017-03-01T00:00:00Z");
        let mut old = Self { vault, runs: Vec::new() };
        for (at, content) in [("2017-03-10T08:00:00Z", 1), ("2017-03-11T08:00:00Z", 2), ("2018-05-02T08:00:00Z", 3)] {
            old.snapshot(at, content);
            if content == 2 {
                old.import();
            }
        }
        old.snapshot("2020-01-05T08:00:00Z", 4);
        checkpoint(&old.vault.writer(), &old.vault.policy).unwrap();
        old.files();
        let add = ["key", "add-signer", "--role", "operator", "--public-key", "keys/second.pub", "--key", OPERATORS[0]];
        old.json(&add, 0);
        old
    }

    fn snapshot(&mut self, at: &str, content: u32) {
        self.vault.clock.set(at);
        self.vault.sandbox.write("tree/a.json", format!("{{\"a\":{content}}}"));
        self.vault.sandbox.write("tree/b.json", r#"{"b":1}"#);
        // A program that another test starts has this process's locks until it is itself.
        let run = loop {
            match self.vault.snapshot() {
                Err(SnapshotError::Busy(_)) => std::thread::yield_now(),
                other => break other.unwrap().run,
            }
        };
        self.runs.push(run.to_string());
    }

    fn import(&self) {
        let file = self.vault.sandbox.write("events.ndjson", "{\"id\":\"1\",\"createdDateTime\":\"2017-03-05T08:00:00Z\"}\n");
        let writer = self.vault.writer();
        import(&ImportJob {
            stream: &"log".parse().unwrap(),
            files: &[file],
            format: Format::Auto,
            pointers: &Pointers::new(vec!["/id".into()], vec!["/createdDateTime".into()]).unwrap(),
            again: false,
            writer: &writer,
            policy: &self.vault.policy,
            level: None,
            threads: 1,
            monitor: &Silent,
        })
        .unwrap();
    }

    /// Keys and a policy for the program.
    fn files(&self) {
        let sandbox = &self.vault.sandbox;
        for (seed, name) in [(1, "agent"), (2, "tester"), (3, "operator"), (4, "second")] {
            let signer = Signer::from_seed([seed; 32]);
            sandbox.write(&format!("keys/{name}.key"), signer.to_pem());
            sandbox.write(&format!("keys/{name}.pub"), signer.public().to_pem());
        }
        sandbox.write("keys/genesis.json", &self.vault.genesis);
        let recipients = self.vault.recipients.texts().join(", ");
        sandbox.write(
            "backstop.yaml",
            format!(
                "version: 1\nobjectives: {{ rpo: 1h, rto: 4h, retention: 7y, availability: 99.9 }}\nvault:\n  local: {{ path: ./vault }}\n  \
                 genesis_file: keys/genesis.json\n  lock: {{ mode: locked, by: version, grace: 30d }}\nencryption:\n  recipients: [{recipients}]\n\
                 signing: {{ key_file: keys/agent.key }}\nsources: {{}}\nstreams: {{}}\njobs: {{}}\n"
            ),
        );
    }

    fn run(&self, args: &[&str]) -> Ran {
        let ran = self.vault.sandbox.backstop(args);
        assert!(!ran.stderr.contains("panicked"), "{args:?}\n{}", ran.stderr);
        ran
    }

    fn json(&self, args: &[&str], code: i32) -> Value {
        self.vault.sandbox.json(args, code).pop().unwrap_or_default()
    }

    fn plan(&self) -> Value {
        let _ = fs::remove_file(self.vault.sandbox.path(PLAN));
        self.json(&["dispose", "plan", "--out", PLAN], 0)
    }

    fn approve(&self, key: &str, name: &str, code: i32) -> Value {
        self.json(&["dispose", "approve", PLAN, "--key", key, "--as", name], code)
    }

    fn approved_plan(&self) -> Value {
        let plan = self.plan();
        self.approve(OPERATORS[0], "A. First, compliance", 0);
        self.approve(OPERATORS[1], "B. Second, security", 0);
        plan
    }

    fn apply(&self, code: i32) -> Ran {
        let ran = self.run(&["dispose", "apply", PLAN, "--key", OPERATORS[0], "--json"]);
        assert_eq!(ran.code, code, "{}\n{}", ran.stdout, ran.stderr);
        ran
    }

    /// Findings of an audit, but for the age of the newest checkpoint.
    fn findings(&self, more: &[&str], code: i32) -> Vec<Value> {
        let found = self.json(&[&["verify"], more].concat(), code)["findings"].as_array().unwrap().clone();
        found.into_iter().filter(|f| f["kind"] != "checkpoint_old").collect()
    }

    fn there(&self, folder: &str) -> usize {
        self.vault.sandbox.objects().iter().filter(|o| o.starts_with(folder)).count()
    }

    fn dispositions(&self) -> usize {
        self.vault.sandbox.json(&["ls", "--chain", "vault"], 0).iter().filter(|l| l["kind"] == "disposition").count()
    }

    /// A library's writer with an operator's key, on the present clock.
    fn operator_on(&self, store: Arc<dyn Store>) -> Writer {
        self.vault.clock.set(&Timestamp::now().to_string());
        Writer { signer: Signer::from_seed([3; 32]), ..self.vault.writer_on(store).unwrap() }
    }

    fn file(&self, ledger: &Ledger) -> PlanFile {
        PlanFile::read(&fs::read(self.vault.sandbox.path(PLAN)).unwrap(), ledger).unwrap()
    }
}

fn kinds(findings: &[Value]) -> Vec<&str> {
    findings.iter().map(|f| f["kind"].as_str().unwrap()).collect()
}

#[test]
fn what_is_past_its_retention_is_due_for_review_and_nothing_else() {
    let old = Old::new();
    let findings = old.findings(&[], 0);
    let due: Vec<(&str, &str)> = findings.iter().map(|f| (f["kind"].as_str().unwrap(), f["object"].as_str().unwrap())).collect();
    assert_eq!(due, FOLDERS.map(|folder| ("review_due", folder)), "{findings:#?}");
    for f in &findings {
        let text = f["message"].as_str().unwrap();
        assert!(f["severity"] == "warning" && text.contains("dispose plan") && text.contains("hold add"), "{text}");
    }
    assert!(findings[1]["message"].as_str().unwrap().starts_with("2017-03: 4 objects"), "{}", findings[1]);
    assert!(findings[1]["message"].as_str().unwrap().contains("2024-05-01T00:00:00Z"), "{}", findings[1]);
    // By the store's clock: thirty days before the locks of January 2020 end, and a day earlier.
    for (now, count) in [("2027-02-01T00:00:00Z", 4), ("2027-01-31T23:00:00Z", 3)] {
        old.vault.clock.set(now);
        let ledger = old.vault.ledger();
        let job = AuditJob { ledger: &ledger, kept: None, since: None, deep: None, ignore_locks: false, threads: 1, monitor: &Silent };
        let report = audit(&job).unwrap();
        assert_eq!(report.findings.iter().filter(|f| f.kind == "review_due").count(), count, "{now}");
    }
    // What is held needs no review.
    old.json(&["hold", "add", "--source", "tree", "--reason", "r", "--authority", "a", "--key", OPERATORS[0]], 0);
    assert_eq!(kinds(&old.findings(&[], 0)), ["review_due"]);
}

#[test]
fn a_plan_lists_whole_periods_and_changes_nothing() {
    let old = Old::new();
    let before = old.vault.sandbox.objects();
    let said = old.plan();
    assert_eq!(old.vault.sandbox.objects(), before);
    assert_eq!((&said["items"], &said["objects"]), (&3.into(), &7.into()), "{said}");
    assert_eq!(said["left_out"][0]["reason"], "locked");
    let text = fs::read_to_string(old.vault.sandbox.path(PLAN)).unwrap();
    let plan: Value = serde_json::from_str(text.trim_end()).unwrap();
    assert_eq!(Sha256::of(text.trim_end().as_bytes()).to_string(), said["plan_sha256"]);
    let folders: Vec<&str> = plan["items"].as_array().unwrap().iter().map(|i| i["folder"].as_str().unwrap()).collect();
    assert_eq!(folders, FOLDERS);
    for item in plan["items"].as_array().unwrap() {
        let names: Vec<&str> = item["objects"].as_array().unwrap().iter().map(|o| o["name"].as_str().unwrap()).collect();
        let there: Vec<&String> = before.iter().filter(|o| o.starts_with(item["folder"].as_str().unwrap())).collect();
        assert_eq!(names, there, "every object of the period");
    }
    assert_eq!(old.run(&["dispose", "plan", "--out", PLAN]).code, 2, "a plan is never overwritten");
    for (only, items) in [(["--source", "tree"], 2), (["--stream", "log"], 1), (["--stream", "other"], 0)] {
        let out = format!("only-{}.json", only[1]);
        assert_eq!(old.json(&[&["dispose", "plan", "--out", &out], &only[..]].concat(), 0)["items"], items);
    }
    // A hold on one run keeps its whole epoch out.
    old.json(&["hold", "add", "--run", &old.runs[0], "--reason", "r", "--authority", "a", "--key", OPERATORS[0]], 0);
    let said = old.plan();
    assert_eq!(said["items"], 2);
    assert!(said["left_out"].as_array().unwrap().iter().any(|l| l["reason"] == "held" && l["items"] == 1), "{said}");
}

#[test]
fn one_object_that_is_still_locked_or_damaged_keeps_its_period() {
    let old = Old::new();
    let manifest = old.vault.sandbox.objects().into_iter().find(|o| o.starts_with(FOLDERS[1]) && o.contains("manifest")).unwrap();
    let until = "2030-01-01T00:00:00Z".parse().unwrap();
    old.vault.store().extend_lock(&manifest, None, &LockRequest { mode: LockMode::Locked, until }).unwrap();
    let other = old.vault.sandbox.objects().into_iter().find(|o| o.starts_with(FOLDERS[2])).unwrap();
    old.vault.sandbox.tamper(&format!("vault/{}", Forge::lock_of(&other)), |bytes| {
        *bytes = json!({ "mode": "locked", "until": "2020-01-01T00:00:00Z", "enforced_by": "advisory", "sha256": Sha256::of(b"") })
            .to_string()
            .into_bytes();
    });
    let said = old.plan();
    let reasons: Vec<(&str, u64)> =
        said["left_out"].as_array().unwrap().iter().map(|l| (l["reason"].as_str().unwrap(), l["items"].as_u64().unwrap())).collect();
    assert_eq!((&said["items"], reasons), (&1.into(), vec![("locked", 2), ("differs", 1)]), "{said}");
}

#[test]
fn what_two_operators_approved_is_destroyed_and_certified() {
    let old = Old::new();
    let before = old.vault.sandbox.objects();
    old.approved_plan();
    let done = old.apply(0).json().remove(0);
    assert_eq!((&done["objects"], &done["not_removed"], &done["resumed"]), (&7.into(), &json!([]), &false.into()));
    for folder in FOLDERS {
        assert_eq!(old.there(folder), 0, "{folder}");
    }
    // Everything else stands.
    let gone: Vec<&String> = before.iter().filter(|o| !old.vault.sandbox.path(&format!("vault/{o}")).exists()).collect();
    assert_eq!(gone.len(), 7);
    for more in [&[][..], &["--deep", "--identity", "keys/identity-0.txt"]] {
        assert_eq!(kinds(&old.findings(more, 0)), Vec::<&str>::new());
    }
    // The attestations say who decided, and what was done.
    let shown = old.json(&["show", &format!("vault/{}", done["sequence"])], 0);
    let details = &shown["statement"]["predicate"];
    assert_eq!((details["disposed"].as_array().unwrap().len(), &details["plan_sha256"]), (7, &done["plan_sha256"]));
    let names: Vec<&str> = details["approvals"].as_array().unwrap().iter().map(|a| a["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["A. First, compliance", "B. Second, security"]);
    let certificate = old.json(&["show", done["certificate_run"].as_str().unwrap()], 0);
    let details = &certificate["statement"]["predicate"];
    assert_eq!((&details["certificate_of"], &details["removed"]["objects"]), (&done["run"], &7.into()));
    // The certificate for people is sealed like all evidence; ordinary tools open it.
    let object = done["certificate"].as_str().unwrap();
    assert!(object.starts_with("evidence/backstop/"), "{object}");
    let opened = old.vault.sandbox.shell(&format!("age -d -i keys/identity-0.txt 'vault/{object}' | zstd -dc"));
    for expected in ["Certificate of destruction", "B. Second, security", "snapshot.tree | 2018-05"] {
        assert!(opened.stdout.contains(expected), "{expected}: {}{}", opened.stdout, opened.stderr);
    }
    // Done is done: nothing is attested twice.
    let again = old.apply(0).json().remove(0);
    assert_eq!((&again["run"], &again["resumed"], &again["certificate_run"]), (&done["run"], &true.into(), &Value::Null));
    assert_eq!(old.dispositions(), 2);
    assert_eq!(old.plan()["items"], 0);
}

#[test]
fn what_was_destroyed_is_said_to_be_and_what_was_not_restores() {
    let old = Old::new();
    old.approved_plan();
    let done = old.apply(0).json().remove(0);
    let id = ["--identity", "keys/identity-0.txt"];
    for run in &old.runs[..3] {
        let ran = old.run(&[&["restore", "files", run, "--to", "back"], &id[..]].concat());
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        for expected in ["disposed of", done["run"].as_str().unwrap(), "A. First, compliance", &done["from"].as_str().unwrap()[..19]] {
            assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
        }
    }
    let ran = old.run(&[&["restore", "files", &old.runs[3], "--to", "new"], &id[..]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(support::read(&old.vault.sandbox.path("new/a.json")), r#"{"a":4}"#);
    let logs = ["restore", "logs", "log", "--from", "2017-01-01", "--to", "2018-01-01", "--out", "o"];
    let ran = old.run(&[&logs[..], &id].concat());
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("disposed of") && !old.vault.sandbox.path("o").exists(), "{}", ran.stderr);
    // Of a window that reaches past it, the rest comes back.
    let newer = old.vault.sandbox.write("newer.ndjson", "{\"id\":\"2\",\"createdDateTime\":\"2017-06-05T08:00:00Z\"}\n");
    let mut policy = support::read(&old.vault.sandbox.path("backstop.yaml"));
    policy = policy.replace("streams: {}", "streams: { log: { import: { id: /id, time: /createdDateTime } } }");
    old.vault.sandbox.write("backstop.yaml", policy);
    old.json(&["import", "log", newer.to_str().unwrap()], 0);
    let part = old.json(&[&logs[..], &id].concat(), 6);
    assert_eq!((&part["events"], &part["disposed"][0]["run"], &part["disposed"][0]["events"]), (&1.into(), &done["run"], &1.into()));
    let ls = old.vault.sandbox.json(&["ls", "--chain", "tree"], 0);
    let disposed: Vec<bool> = ls.iter().map(|l| l.get("disposed").is_some_and(|d| d["run"] == done["run"])).collect();
    assert_eq!(disposed, [false, true, true, true]);
    assert!(old.run(&[&["show", &old.runs[0]], &id[..]].concat()).stdout.contains("disposed of"));
}

#[test]
fn one_approval_is_not_enough_nor_the_same_key_twice() {
    let old = Old::new();
    old.plan();
    let refused = |why: &str| {
        let ran = old.apply(2);
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
        assert_eq!((old.there("config-snapshots/tree/2017-03/"), old.dispositions()), (4, 0));
    };
    refused("0 valid approval(s)");
    old.approve(OPERATORS[0], "A. First, compliance", 0);
    refused("1 valid approval(s)");
    old.approve(OPERATORS[0], "A. First again", 2);
    // The same line twice, and the same key under another name, by hand.
    let path = old.vault.sandbox.path(PLAN);
    let text = fs::read_to_string(&path).unwrap();
    let line = text.lines().nth(1).unwrap();
    fs::write(&path, format!("{text}{line}\n")).unwrap();
    refused("1 valid approval(s)");
    let ledger = old.vault.ledger();
    let digest = Sha256::of(text.lines().next().unwrap().as_bytes());
    let by = |seed: u8, name: &str| {
        let vault = ledger.trust().vault();
        let approval = Approval::sign(vault, &digest, name, Timestamp::now(), &Signer::from_seed([seed; 32]));
        String::from_utf8(approval.to_envelope(vault, &digest)).unwrap()
    };
    fs::write(&path, format!("{text}{}\n", by(3, "B. Second, security"))).unwrap();
    refused("1 valid approval(s)");
    // Keys of other roles, and of nobody.
    for (seed, key) in [(1, "keys/agent.key"), (2, "keys/tester.key"), (9, "keys/nobody.key")] {
        old.vault.sandbox.write(key, Signer::from_seed([seed; 32]).to_pem());
        fs::write(&path, format!("{text}{}\n", by(seed, "C. Third"))).unwrap();
        refused("1 valid approval(s)");
        fs::write(&path, &text).unwrap();
        old.approve(key, "C. Third", 2);
    }
    // A signature that was changed, and one that another approver made of another name.
    let good = by(4, "B. Second, security");
    let mut envelope: Value = serde_json::from_str(&good).unwrap();
    let sig = envelope["signatures"][0]["sig"].as_str().unwrap().to_owned();
    let flipped = if let Some(rest) = sig.strip_prefix('A') { format!("B{rest}") } else { format!("A{}", &sig[1..]) };
    envelope["signatures"][0]["sig"] = json!(flipped);
    fs::write(&path, format!("{text}{envelope}\n")).unwrap();
    refused("1 valid approval(s)");
    let mut renamed: Value = serde_json::from_str(&good).unwrap();
    let payload = String::from_utf8(from_base64(renamed["payload"].as_str().unwrap()).unwrap()).unwrap();
    renamed["payload"] = json!(backstop::vault::keys::base64(payload.replace("B. Second", "D. Fourth").as_bytes()));
    fs::write(&path, format!("{text}{renamed}\n")).unwrap();
    refused("1 valid approval(s)");
    // Whoever applies must be an operator too.
    fs::write(&path, format!("{text}{good}\n")).unwrap();
    assert_eq!(old.run(&["dispose", "apply", PLAN, "--key", "keys/agent.key"]).code, 2);
    assert_eq!(old.dispositions(), 0);
    for name in ["", "  ", "two\nlines"] {
        old.approve(OPERATORS[1], name, 2);
    }
    old.apply(0);
}

#[test]
fn an_approver_whose_key_was_rotated_counts_no_longer() {
    let old = Old::new();
    old.approved_plan();
    old.vault.sandbox.write("keys/third.pub", Signer::from_seed([5; 32]).public().to_pem());
    old.json(&["key", "rotate", "--old", "keys/second.pub", "--public-key", "keys/third.pub", "--key", OPERATORS[0]], 0);
    assert!(old.apply(2).stderr.contains("1 valid approval(s)"));
}

#[test]
fn a_plan_that_was_changed_or_is_none_is_refused() {
    let old = Old::new();
    old.approved_plan();
    let path = old.vault.sandbox.path(PLAN);
    let text = fs::read_to_string(&path).unwrap();
    let (plan, approvals) = text.split_once('\n').unwrap();
    let mut more: Value = serde_json::from_str(plan).unwrap();
    let first = more["items"][0]["objects"][0].clone();
    more["items"][0]["objects"].as_array_mut().unwrap().push(first);
    let foreign = text.replace(&old.vault.ledger().trust().genesis().to_string(), &Sha256::of(b"").to_string());
    for (what, wrong) in [
        ("another list under the same approvals", format!("{more}\n{approvals}")),
        ("one byte", text.replacen("2017-03", "2017-04", 1)),
        ("a blank", format!(" {text}")),
        ("an unknown field", text.replacen("{\"backstop\"", "{\"x\":1,\"backstop\"", 1)),
        ("a key twice", text.replacen("{\"backstop\"", "{\"vault\":\"x\",\"backstop\"", 1)),
        ("another vault", foreign),
        ("nothing", String::new()),
        ("no JSON", "\u{0}\u{1}garbage".into()),
        ("half of it", text[..text.len() / 3].to_owned()),
        ("an attestation", String::from_utf8(old.vault.genesis.clone()).unwrap()),
    ] {
        fs::write(&path, wrong).unwrap();
        let ran = old.apply(2);
        assert!(!ran.stderr.is_empty() && ran.stdout.is_empty(), "{what}");
        assert_eq!(old.run(&["dispose", "approve", PLAN, "--key", OPERATORS[1], "--as", "B"]).code, 2, "{what}");
    }
    // An attestation in a plan: names outside the folders that may go.
    let mut names: Value = serde_json::from_str(plan).unwrap();
    names["items"][0]["objects"][0]["name"] = json!("attestations/vault/0000000001.json");
    fs::write(&path, format!("{names}\n")).unwrap();
    old.apply(2);
    assert_eq!(old.run(&["dispose", "apply", "nowhere.json", "--key", OPERATORS[0]]).code, 2);
    assert_eq!((old.there("config-snapshots/tree/2017-03/"), old.dispositions()), (4, 0));
}

#[test]
fn a_plan_that_no_longer_holds_is_refused_whole() {
    let old = Old::new();
    let refused = |why: &str| {
        let ran = old.apply(5);
        assert!(ran.stderr.contains(why), "{why}: {}", ran.stderr);
        assert_eq!((old.there("config-snapshots/tree/2018-05/"), old.dispositions()), (2, 0), "nothing is destroyed");
    };
    // A hold that came after the approvals.
    old.approved_plan();
    let hold = old.json(&["hold", "add", "--run", &old.runs[0], "--reason", "r", "--authority", "a", "--key", OPERATORS[0]], 0);
    refused("legal hold");
    // On the attestations alone it counts as well.
    let store = old.vault.store();
    let segment = old.vault.sandbox.objects().into_iter().find(|o| o.starts_with(FOLDERS[1]) && o.contains("segment")).unwrap();
    for object in store.list("config-snapshots/").unwrap() {
        store.set_hold(&object.name, None, false).unwrap();
    }
    refused("legal hold");
    old.json(&["hold", "remove", hold["hold"].as_str().unwrap(), "--reason", "r", "--authority", "a", "--key", OPERATORS[0]], 0);
    // On the store alone.
    store.set_hold(&segment, None, true).unwrap();
    refused("legal hold");
    store.set_hold(&segment, None, false).unwrap();
    // Something new in a folder, which the plan does not name.
    let stray = format!("{}x.tar.zst.age", FOLDERS[1]);
    old.vault.clock.set("2017-03-20T00:00:00Z");
    let lock = LockRequest { mode: LockMode::Locked, until: "2018-01-01T00:00:00Z".parse().unwrap() };
    old.vault.store().put(&stray, Body::Bytes(b"x"), &Sha256::of(b"x"), &lock).unwrap();
    refused("is new since the plan");
    old.vault.clock.set("2026-01-01T00:00:00Z");
    store.remove(&stray, None).unwrap();
    // A longer lock.
    let until = "2040-01-01T00:00:00Z".parse().unwrap();
    let other = old.vault.sandbox.objects().into_iter().find(|o| o.starts_with(FOLDERS[0])).unwrap();
    store.extend_lock(&other, None, &LockRequest { mode: LockMode::Locked, until }).unwrap();
    refused("is locked until 2040-01-01");
    // A plan of what is left is good.
    old.approved_plan();
    // Something that is gone.
    old.vault.sandbox.remove(&format!("vault/{segment}"));
    refused("is gone");
}

/// What a test does before a store is asked for something; an error takes the answer's place.
type Before = Box<dyn Fn(&str) -> Result<(), StoreError> + Send + Sync>;

/// A store in whose way a test can stand.
struct Bent {
    inner: Arc<dyn Store>,
    put: Before,
    remove: Before,
}

impl Bent {
    fn on_put(inner: Arc<dyn Store>, put: impl Fn(&str) -> Result<(), StoreError> + Send + Sync + 'static) -> Arc<dyn Store> {
        Arc::new(Self { inner, put: Box::new(put), remove: Box::new(|_| Ok(())) })
    }
}

impl Store for Bent {
    fn put(&self, name: &str, body: Body<'_>, sha256: &Sha256, lock: &LockRequest) -> Result<Receipt, StoreError> {
        (self.put)(name)?;
        self.inner.put(name, body, sha256, lock)
    }
    fn open(&self, name: &str, version: Option<&str>) -> Result<Box<dyn std::io::Read + Send>, StoreError> {
        self.inner.open(name, version)
    }
    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.inner.list(prefix)
    }
    fn extend_lock(&self, name: &str, version: Option<&str>, lock: &LockRequest) -> Result<LockState, StoreError> {
        self.inner.extend_lock(name, version, lock)
    }
    fn set_hold(&self, name: &str, version: Option<&str>, held: bool) -> Result<bool, StoreError> {
        self.inner.set_hold(name, version, held)
    }
    fn remove(&self, name: &str, version: Option<&str>) -> Result<(), StoreError> {
        (self.remove)(name)?;
        self.inner.remove(name, version)
    }
    fn rehydrate(&self, name: &str, version: Option<&str>, priority: Priority) -> Result<(), StoreError> {
        self.inner.rehydrate(name, version, priority)
    }
    fn now(&self) -> Result<Timestamp, StoreError> {
        self.inner.now()
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[test]
fn what_was_interrupted_carries_on_and_is_attested_once() {
    for (removals, spared, left) in [(0, "nothing", 7), (3, "nothing", 4), (99, "manifest", 3)] {
        let old = Old::new();
        old.approved_plan();
        let more = AtomicI64::new(removals);
        let full = |name: &str| Err(StoreError::NoSpace { path: name.into() });
        let stops = Bent {
            inner: old.vault.store(),
            put: Box::new(move |name| if name.starts_with("evidence/") { full(name) } else { Ok(()) }),
            remove: Box::new(
                move |name| {
                    if name.contains(spared) || more.fetch_sub(1, Ordering::Relaxed) <= 0 { full(name) } else { Ok(()) }
                },
            ),
        };
        let writer = old.operator_on(Arc::new(stops));
        let file = old.file(&writer.ledger);
        // It ends between the disposition and its certificate, after so many removals.
        let policy = fs::read(old.vault.sandbox.path("backstop.yaml")).unwrap();
        let ended = apply(&ApplyJob { writer: &writer, policy: &policy, file: &file, monitor: &Silent });
        assert!(matches!(ended, Err(RetentionError::Commit(_))), "{ended:?}");
        assert_eq!(old.dispositions(), 1);
        let findings = old.findings(&["--deep", "--identity", "keys/identity-0.txt"], 0);
        assert_eq!(kinds(&findings), ["disposal_unfinished"], "{findings:#?}");
        assert!(findings[0]["message"].as_str().unwrap().starts_with(&format!("{left} of the 7")), "{findings:?}");
        // It is no new plan's business.
        let _ = fs::copy(old.vault.sandbox.path(PLAN), old.vault.sandbox.path("kept.json"));
        let said = old.plan();
        assert_eq!(said["items"], 0);
        assert!(said["left_out"].as_array().unwrap().iter().any(|l| l["reason"] == "unfinished"), "{said}");
        fs::copy(old.vault.sandbox.path("kept.json"), old.vault.sandbox.path(PLAN)).unwrap();
        let done = old.apply(0).json().remove(0);
        assert_eq!((&done["resumed"], &done["objects"], &done["not_removed"]), (&true.into(), &7.into(), &json!([])));
        assert!(done["certificate_run"].is_string());
        assert_eq!(old.dispositions(), 2, "a disposition and its certificate");
        assert_eq!(kinds(&old.findings(&[], 0)), Vec::<&str>::new());
    }
}

#[test]
fn what_could_not_be_removed_is_certified_and_tried_again() {
    let old = Old::new();
    old.approved_plan();
    // The last object is held after the check and before its removal: the store refuses.
    let last = old.vault.sandbox.objects().into_iter().rfind(|o| o.starts_with(FOLDERS[2])).unwrap();
    let (store, held) = (old.vault.store(), last.clone());
    let late = move |name: &str| if name.starts_with("attestations/vault/") { store.set_hold(&held, None, true).map(drop) } else { Ok(()) };
    let writer = old.operator_on(Bent::on_put(old.vault.store(), late));
    let policy = fs::read(old.vault.sandbox.path("backstop.yaml")).unwrap();
    let file = old.file(&writer.ledger);
    let report = apply(&ApplyJob { writer: &writer, policy: &policy, file: &file, monitor: &Silent }).unwrap();
    assert_eq!((report.removed.objects, report.not_removed.len(), report.not_removed[0].name.as_str()), (6, 1, last.as_str()));
    assert!(report.not_removed[0].reason.contains("legal hold"), "{:?}", report.not_removed);
    let shown = old.json(&["show", &report.certificate_run.unwrap().to_string()], 0);
    assert_eq!((&shown["outcome"], &shown["statement"]["predicate"]["not_removed"][0]["name"]), (&"partial".into(), &last.clone().into()));
    // Nothing new is certified while it stays so; once the hold is gone it goes, and that is certified.
    let still = old.apply(5).json().remove(0);
    assert_eq!((&still["certificate_run"], &still["objects"]), (&Value::Null, &6.into()));
    let found = old.findings(&[], 0);
    assert_eq!(kinds(&found), ["unexplained_hold", "disposal_unfinished"], "{found:#?}");
    old.vault.store().set_hold(&last, None, false).unwrap();
    let done = old.apply(0).json().remove(0);
    assert_eq!((&done["objects"], done["certificate_run"].is_string()), (&7.into(), true));
    assert_eq!(kinds(&old.findings(&[], 0)), Vec::<&str>::new());
}

#[test]
fn a_reader_that_knows_the_page_alone_and_the_script_in_the_vault_agree() {
    let old = Old::new();
    old.approved_plan();
    old.apply(0);
    let genesis = Sha256::of(&old.vault.genesis).to_string();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let given = std::env::var_os("BACKSTOP_TEST_PYTHON").map(std::path::PathBuf::from);
    let python = given.unwrap_or_else(|| root.join("target/test-venv/bin/python3"));
    assert!(python.exists(), "{} is missing: scripts/test.sh makes it, or set BACKSTOP_TEST_PYTHON", python.display());
    let reader = root.join("tests/support/second_reader.py");
    let args = format!("'{}' -B '{}' deep vault --genesis {genesis} --identity keys/identity-0.txt", python.display(), reader.display());
    let ran = old.vault.sandbox.shell(&args);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}{}", ran.stdout, ran.stderr));
    assert_eq!(report["deviations"], json!([]), "{report:#}");
    let disposed = report["warnings"].as_array().unwrap().iter().filter(|w| w.as_str().unwrap().contains("disposed of")).count();
    assert!(disposed >= 7, "{report:#}");
    let script = "sed -n '/^```bash$/,/^```$/p' vault/attestations/RECOVERY.md | sed '1d;$d' > recover.sh";
    assert_eq!(old.vault.sandbox.shell(script).code, 0);
    let ran = old.vault.sandbox.shell(&format!("bash recover.sh check vault {genesis}"));
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let said = ran.stdout + &ran.stderr;
    assert_eq!(said.matches("was disposed of, as attested").count(), 7, "{said}");
}

/// Does something once, just before a policy is stored: after a plan was checked, before its disposition is attested.
fn once(inner: Arc<dyn Store>, what: impl FnOnce() + Send + 'static) -> Arc<dyn Store> {
    let what = std::sync::Mutex::new(Some(what));
    Bent::on_put(inner, move |name| {
        if name.starts_with("attestations/policies/")
            && let Some(what) = what.lock().unwrap().take()
        {
            what();
        }
        Ok(())
    })
}

#[test]
fn what_is_decided_between_check_and_attestation_counts() {
    // A hold on something of the plan, and another operator who applies the same plan.
    for other in ["hold", "apply"] {
        let old = Old::new();
        old.approved_plan();
        let home = old.vault.sandbox.path("");
        let args: Vec<&str> = match other {
            "hold" => vec!["hold", "add", "--stream", "log", "--reason", "r", "--authority", "a", "--key", OPERATORS[1]],
            _ => vec!["dispose", "apply", PLAN, "--key", OPERATORS[1]],
        };
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        let act = move || {
            let ran = std::process::Command::new(env!("CARGO_BIN_EXE_backstop")).args(args).current_dir(home).output().unwrap();
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        };
        let writer = old.operator_on(once(old.vault.store(), act));
        let file = old.file(&writer.ledger);
        let ended = apply(&ApplyJob { writer: &writer, policy: b"version: 1\n# another\n", file: &file, monitor: &Silent });
        assert!(matches!(ended, Err(RetentionError::Commit(CommitError::Dropped(_)))), "{other}: {ended:?}");
        let (dispositions, objects) = if other == "hold" { (0, 1) } else { (2, 0) };
        assert_eq!((old.dispositions(), old.there(FOLDERS[0])), (dispositions, objects), "{other}");
    }
}

#[test]
fn a_snapshot_that_is_committed_while_a_hold_is_added_is_held() {
    let old = Old::new();
    let agent = Writer { signer: Signer::from_seed([1; 32]), ..old.operator_on(old.vault.store()) };
    // Just before the hold's attestation stands: the snapshot cannot know of it.
    let (tree, made) = (old.vault.sandbox.path("tree/a.json"), Arc::new(std::sync::Mutex::new(None)));
    let store = old.vault.store();
    let out = made.clone();
    let state = old.vault.sandbox.path("state-2");
    let root = old.vault.sandbox.path("tree");
    let policy = old.vault.policy.clone();
    let act = std::sync::Mutex::new(Some(move || {
        fs::write(&tree, "{\"a\":6}").unwrap();
        let none = backstop::source::PathGlobs::new(&[]).unwrap();
        let source = backstop::source::FilesSource::new(backstop::source::FilesOptions { root, include: none.clone(), exclude: none });
        let dir = backstop::backup::StateDir::open(&state, agent.ledger.trust().vault(), "tree").unwrap();
        let report = backstop::backup::snapshot(&backstop::backup::SnapshotJob {
            name: &"tree".parse().unwrap(),
            source: &source,
            container: backstop::vault::names::Container::ConfigSnapshots,
            epoch: backstop::vault::epoch::EpochKind::Month,
            metadata: false,
            writer: &agent,
            policy: &policy,
            state: &dir,
            level: None,
            threads: 1,
            monitor: &Silent,
        });
        *out.lock().unwrap() = Some(report.unwrap().run.to_string());
    }));
    let bent = Bent::on_put(store, move |name| {
        if name.starts_with("attestations/vault/")
            && let Some(act) = act.lock().unwrap().take()
        {
            act();
        }
        Ok(())
    });
    let writer = old.operator_on(bent);
    let policy = fs::read(old.vault.sandbox.path("backstop.yaml")).unwrap();
    let scope = HoldScope { source: Some("tree".parse().unwrap()), ..HoldScope::default() };
    add_hold(&HoldJob { writer: &writer, policy: &policy, scope, until: None, reason: "r", authority: "a", batch: 99, monitor: &Silent })
        .unwrap();
    let run = made.lock().unwrap().clone().unwrap();
    let own: Vec<bool> =
        old.vault.store().list("config-snapshots/").unwrap().iter().filter(|o| o.name.contains(&run)).map(|o| o.held).collect();
    assert!(own.len() == 2 && own.iter().all(|held| *held), "{own:?}");
    assert!(!kinds(&old.findings(&[], 0)).contains(&"not_held"));
}

#[test]
fn a_period_that_another_needs_or_whose_lock_was_shortened_stays() {
    let old = Old::new();
    let forge = Forge::new(&old.vault.sandbox, ".");
    // Both the attested lock and the policy keep what the store alone would let go.
    for object in old.vault.sandbox.objects().iter().filter(|o| o.starts_with("config-snapshots/tree/2020-01/")) {
        old.vault.sandbox.tamper(&format!("vault/{}", Forge::lock_of(object)), |bytes| {
            let mut lock: Value = serde_json::from_slice(bytes).unwrap();
            lock["until"] = json!("2021-01-01T00:00:00Z");
            *bytes = lock.to_string().into_bytes();
        });
    }
    assert_eq!(old.plan()["items"], 3);
    // A snapshot of 2020 that says that it needs one of 2018.
    let mut next = forge.successor("snapshot.tree");
    next.predicate.details["segments_from"].as_array_mut().unwrap().push(json!(old.runs[2]));
    forge.commit(&next, &forge.signer("agent"));
    let said = old.plan();
    let reasons: Vec<&str> = said["left_out"].as_array().unwrap().iter().map(|l| l["reason"].as_str().unwrap()).collect();
    assert_eq!((&said["items"], reasons), (&2.into(), vec!["locked", "needed"]), "{said}");
}

#[test]
fn missing_and_not_disposed_of_stays_damage() {
    let old = Old::new();
    old.approved_plan();
    old.apply(0);
    let segment = old.vault.sandbox.objects().into_iter().find(|o| o.starts_with("config-snapshots/tree/2020-01/")).unwrap();
    old.vault.sandbox.remove(&format!("vault/{segment}"));
    let findings = old.findings(&[], 3);
    assert_eq!((kinds(&findings), &findings[0]["object"]), (vec!["missing_object"], &segment.into()));
}

#[test]
fn a_disposition_by_one_operator_alone_is_named() {
    let old = Old::new();
    let segment = old.vault.sandbox.objects().into_iter().find(|o| o.starts_with("config-snapshots/tree/2020-01/")).unwrap();
    let forge = Forge::new(&old.vault.sandbox, ".");
    let sha256 = Sha256::of(&forge.bytes(&segment));
    let mut statement = forge.successor("vault");
    statement.kind = Kind::Disposition;
    set_objects(&mut statement, Vec::new());
    let (name, previous) = (format!("attestations/vault/{:010}.json", forge.head("vault")), statement.predicate.previous.unwrap());
    statement.subject = serde_json::from_value(json!([{ "name": name, "digest": { "sha256": previous } }])).unwrap();
    statement.predicate.details = json!({ "disposed": [{ "name": segment, "sha256": sha256 }] }).as_object().unwrap().clone();
    // The agent's stolen key destroys nothing.
    old.vault.sandbox.remove(&format!("vault/{segment}"));
    forge.commit(&statement, &forge.signer("agent"));
    let findings = old.findings(&[], 3);
    let found = kinds(&findings);
    assert!(found.contains(&"wrong_role") && found.contains(&"missing_object"), "{found:?}");
    // An operator's makes it disposed of, and verify says that it was neither approved by two nor past its lock.
    forge.commit(&statement, &forge.signer("operator"));
    let findings = old.findings(&[], 3);
    let improper = |findings: &[Value]| {
        let improper = findings.iter().filter(|f| f["kind"] == "improper_disposal");
        improper.map(|f| f["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join("; ")
    };
    let said = improper(&findings);
    assert!(said.contains("0 operator(s)") && said.contains("was to be kept until 2027-03-03"), "{said}");
    assert!(!kinds(&findings).contains(&"missing_object"), "{findings:#?}");
    let ran = old.run(&["restore", "files", &old.runs[3], "--to", "x", "--identity", "keys/identity-0.txt"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    // And an attestation that a disposition names; and something that a hold covered.
    old.json(&["hold", "add", "--run", &old.runs[2], "--reason", "r", "--authority", "a", "--key", OPERATORS[0]], 0);
    let held = old.vault.sandbox.objects().into_iter().find(|o| o.starts_with(FOLDERS[2])).unwrap();
    let envelope = "attestations/snapshot.tree/0000000001.json";
    let disposed = [&held, envelope].map(|name| json!({ "name": name, "sha256": Sha256::of(&forge.bytes(name)) }));
    statement.predicate.sequence = forge.head("vault") + 1;
    statement.predicate.run = RunId::new(Timestamp::now());
    statement.predicate.finished = Timestamp::now();
    statement.predicate.details = json!({ "disposed": disposed }).as_object().unwrap().clone();
    forge.commit(&statement, &forge.signer("operator"));
    let said = improper(&old.findings(&[], 3));
    assert!(said.contains("while a legal hold covered it") && said.contains("kept for ever"), "{said}");
}

#[test]
fn a_kernels_flag_does_not_keep_what_may_go() {
    let old = Old::new();
    // Where the process may, every object of the plan gets the flag, as one that was written by the program has it.
    let clock: Arc<dyn backstop::store::Clock> = Arc::new(old.vault.clock.clone());
    old.vault.clock.set("2020-01-06T00:00:00Z");
    let flagged =
        LocalStore::open(old.vault.sandbox.path("vault"), LocalStoreOptions { clock, immutable_flag: true, ..Default::default() }).unwrap();
    for folder in FOLDERS {
        for object in flagged.list(folder).unwrap() {
            let until = object.lock.unwrap().until.unwrap();
            flagged.extend_lock(&object.name, None, &LockRequest { mode: LockMode::Locked, until }).unwrap();
            // A hold and its end do not touch the object itself.
            assert!(flagged.set_hold(&object.name, None, true).unwrap());
            assert!(!flagged.set_hold(&object.name, None, false).unwrap());
        }
    }
    old.approved_plan();
    old.apply(0);
    assert!(FOLDERS.iter().all(|folder| old.there(folder) == 0));
    assert_eq!(kinds(&old.findings(&[], 0)), Vec::<&str>::new());
}

#[test]
fn a_large_hold_is_attested_in_parts() {
    let old = Old::new();
    let writer = old.operator_on(old.vault.store());
    let policy = fs::read(old.vault.sandbox.path("backstop.yaml")).unwrap();
    let job = |batch| HoldJob {
        writer: &writer,
        policy: &policy,
        scope: HoldScope::default(),
        until: None,
        reason: "r",
        authority: "a",
        batch,
        monitor: &Silent,
    };
    let first = add_hold(&job(5)).unwrap();
    let lines = list_holds(&old.vault.ledger()).unwrap();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].hold.held.len() as u64, first.objects);
    let holds = old.vault.sandbox.json(&["ls", "--chain", "vault"], 0).into_iter().filter(|l| l["kind"] == "hold").count();
    assert_eq!(holds, (first.objects as usize).div_ceil(5));
    let again = add_hold(&job(HOLD_BATCH)).unwrap();
    assert_eq!((again.hold, again.newly_held), (first.hold, 0));
    assert!(kinds(&old.findings(&[], 0)).iter().all(|k| *k != "not_held" && *k != "unexplained_hold"));
}

#[test]
fn a_snapshot_that_began_before_a_hold_is_held_all_the_same() {
    let old = Old::new();
    // Its ledger was opened before the hold was attested.
    let late = old.operator_on(old.vault.store());
    let agent = Writer { signer: Signer::from_seed([1; 32]), ..old.operator_on(old.vault.store()) };
    let policy = fs::read(old.vault.sandbox.path("backstop.yaml")).unwrap();
    let scope = HoldScope { source: Some("tree".parse().unwrap()), ..HoldScope::default() };
    let job = HoldJob { writer: &late, policy: &policy, scope, until: None, reason: "r", authority: "a", batch: 9, monitor: &Silent };
    add_hold(&job).unwrap();
    old.vault.sandbox.write("tree/a.json", "{\"a\":5}");
    let made = old.vault.snapshot_with(&agent, "state").unwrap();
    let store = old.vault.store();
    let own = store.list("config-snapshots/").unwrap().into_iter().filter(|o| o.name.contains(&made.run.to_string()));
    let own: Vec<bool> = own.map(|o| o.held).collect();
    assert!(own.len() == 2 && own.iter().all(|held| *held), "{own:?}");
    let envelope = format!("attestations/snapshot.tree/{:010}.json", made.sequence);
    assert!(store.head(&envelope).unwrap().unwrap().held);
}

#[test]
fn a_signer_who_is_named_later_did_not_approve_earlier() {
    let old = Old::new();
    let ledger = Ledger::open(old.vault.store(), &Anchor::Envelope(old.vault.genesis.clone())).unwrap();
    let second = SignerEntry::new(Role::Operator, &Signer::from_seed([4; 32]).public()).keyid;
    assert!(ledger.trust().operator_at(&second, u64::MAX).is_some());
    assert!(ledger.trust().operator_at(&second, 2).is_none(), "the second attestation of the vault named it");
    assert!(ledger.trust().operator_at(&second, 3).is_some());
    let agent = SignerEntry::new(Role::Agent, &Signer::from_seed([1; 32]).public()).keyid;
    assert!(ledger.trust().operator_at(&agent, u64::MAX).is_none());
    // An approval is no attestation, whatever it says.
    let vault = ledger.trust().vault();
    let digest = Sha256::of(b"plan");
    let approval = Approval::sign(vault, &digest, "A", Timestamp::now(), &Signer::from_seed([3; 32]));
    let envelope: Value = serde_json::from_slice(&approval.to_envelope(vault, &digest)).unwrap();
    assert_ne!(envelope["payloadType"], "application/vnd.in-toto+json");
    assert_eq!(from_base64(envelope["payload"].as_str().unwrap()).unwrap(), Approval::payload(vault, &digest, "A", approval.at));
    assert_eq!(DispositionDetails::default().disposed.len(), 0);
    let none = make_plan(&ledger, PlanFilter { stream: Some("none".parse().unwrap()), source: None }).unwrap();
    assert!(none.items.is_empty());
}
