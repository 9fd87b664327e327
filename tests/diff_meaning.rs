//! What a difference means, through the command line: names for ids, nothing that changes by itself, sets as sets,
//! what to look at first; on a terminal, for machines, and as a page.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/mod.rs"]
mod support;
#[path = "support/witness.rs"]
mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;

use backstop::restore::{diff, diff_raw};
use backstop::vault::names::{is_manifest, is_segment};
use backstop::vault::{Anchor, Ledger};
use serde_json::{Value, json};
use support::{LibraryVault, Ran, Sandbox};
use witness::{Counting, opens};

const ID: [&str; 2] = ["--identity", "keys/identity-1.txt"];
const ALICE: &str = "a11ce000-0000-4000-8000-000000000001";
const BOB: &str = "b0b00000-0000-4000-8000-000000000002";
const MALLORY: &str = "3a110000-0000-4000-8000-000000000003";
const ADMINS: &str = "ad000000-0000-4000-8000-000000000004";
const GLOBAL: &str = "62e90394-69f5-4237-9190-012177145e10";
const READER: &str = "88d8e3e3-8f55-4a1e-953a-9b9898b8876b";
const POLICY: &str = "DirectoryRole_t_p1";
const HOSTILE: &str = "<script>alert(\"x\")</script> & 'Mallory'";
const DIRECTORY: &str = "roleManagement/directory";

struct Estate(Sandbox);

impl Estate {
    /// A tenant before and after a night; and beside the catalog, a record of nobody's.
    fn new() -> Self {
        let estate = Self(Sandbox::new());
        estate.0.init();
        for n in 0..40 {
            estate.put(
                &format!("users/bystander-{n:02}"),
                json!({"id": format!("bystander-{n:02}"), "displayName": format!("Bystander {n}")}),
            );
        }
        for (id, name) in [(ALICE, "Alice Example"), (BOB, "Bob Example"), (MALLORY, HOSTILE)] {
            estate.put(&format!("users/{id}"), json!({"id": id, "displayName": name}));
        }
        estate.put(&format!("groups/{ADMINS}"), json!({"id": ADMINS, "displayName": "Admins", "membershipRuleProcessingState": "On"}));
        estate.members(&[ALICE, BOB]);
        let role = |id: &str, name: &str, privileged: bool| {
            estate.put(&format!("{DIRECTORY}/roleDefinitions/{id}"), json!({"id": id, "displayName": name, "isPrivileged": privileged}));
        };
        role(GLOBAL, "Global Administrator", true);
        role(READER, "Directory Readers", false);
        estate.assign("roleAssignments", "gone", READER, BOB);
        estate.activate("one", "2026-11-01T00:00:00Z");
        estate.eligible("2026-11-01T00:00:00Z", "noExpiration");
        estate.put(
            &format!("policies/roleManagementPolicyAssignments/{POLICY}_{GLOBAL}"),
            json!({"id": "x", "policyId": POLICY, "roleDefinitionId": GLOBAL}),
        );
        estate.policy(&["Justification", "MultiFactorAuthentication"], "PT1H");
        estate.put("identity/conditionalAccess/policies/ca", json!({"id": "ca", "displayName": "Require MFA", "state": "enabled"}));
        estate.put("applications/app", json!({"id": "app", "displayName": "Deployer", "passwordCredentials": []}));
        estate.put("notes/mine", json!({"text": "a", "createdDateTime": "1"}));
        estate.snapshot();

        estate.put(&format!("groups/{ADMINS}"), json!({"membershipRuleProcessingState": "Paused", "id": ADMINS, "displayName": "Admins"}));
        estate.members(&[MALLORY, BOB]);
        fs::remove_file(estate.0.path(&format!("tree/{DIRECTORY}/roleAssignments/gone.json"))).unwrap();
        fs::remove_file(estate.0.path(&format!("tree/{DIRECTORY}/roleAssignmentSchedules/one.json"))).unwrap();
        estate.activate("two", "2026-11-02T00:00:00Z");
        estate.eligible("2026-11-02T00:00:00Z", "noExpiration");
        estate.assign("roleAssignments", "new", GLOBAL, MALLORY);
        estate.policy(&["Justification"], "PT8H");
        estate.put("identity/conditionalAccess/policies/ca", json!({"id": "ca", "displayName": "Require MFA", "state": "disabled"}));
        let secret = json!({"keyId": "k1", "displayName": "night"});
        estate.put("applications/app", json!({"id": "app", "displayName": "Deployer", "passwordCredentials": [secret]}));
        estate.put("notes/mine", json!({"text": "b", "createdDateTime": "2"}));
        estate.snapshot();
        estate
    }

    fn put(&self, path: &str, record: Value) {
        self.0.write(&format!("tree/{path}.json"), record.to_string());
    }

    fn members(&self, ids: &[&str]) {
        let members: Vec<Value> = ids.iter().map(|id| json!({"id": id})).collect();
        self.put(&format!("groupMembers/{ADMINS}"), json!({"id": ADMINS, "members": members}));
    }

    fn assign(&self, collection: &str, id: &str, role: &str, who: &str) {
        self.put(&format!("{DIRECTORY}/{collection}/{id}"), json!({"id": id, "roleDefinitionId": role, "principalId": who}));
    }

    fn activate(&self, id: &str, modified: &str) {
        let record = json!({"id": id, "assignmentType": "Activated", "roleDefinitionId": GLOBAL, "principalId": ALICE, "modifiedDateTime": modified});
        self.put(&format!("{DIRECTORY}/roleAssignmentSchedules/{id}"), record);
    }

    fn eligible(&self, start: &str, kind: &str) {
        let record = json!({"id": "e", "roleDefinitionId": GLOBAL, "principalId": ALICE, "status": start, "createdDateTime": start,
            "scheduleInfo": {"startDateTime": start, "expiration": {"type": kind}}});
        self.put(&format!("{DIRECTORY}/roleEligibilitySchedules/e"), record);
    }

    fn policy(&self, enabled: &[&str], longest: &str) {
        let rules = json!([{"id": "Expiration_EndUser_Assignment", "maximumDuration": longest},
            {"id": "Enablement_EndUser_Assignment", "enabledRules": enabled}]);
        self.put(
            &format!("policies/roleManagementPolicies/{POLICY}"),
            json!({"id": POLICY, "displayName": "DirectoryRole", "lastModifiedDateTime": longest, "rules": rules}),
        );
    }

    fn snapshot(&self) {
        let ran = self.0.backstop(&["snapshot"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }

    fn diff(&self, more: &[&str]) -> Ran {
        let args: Vec<&str> = ["diff", "tree~1", "tree"].into_iter().chain(ID).chain(more.iter().copied()).collect();
        let ran = self.0.backstop_with(&args, &[("COLUMNS", "80")]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran
    }

    /// Records by path.
    fn json(&self, more: &[&str]) -> BTreeMap<String, Value> {
        let args: Vec<&str> = ["--json"].into_iter().chain(more.iter().copied()).collect();
        let lines = self.diff(&args).json();
        let paths: Vec<&str> = lines.iter().map(|line| line["path"].as_str().unwrap()).collect();
        assert!(paths.is_sorted(), "in order of path: {paths:?}");
        lines.iter().map(|line| (line["path"].as_str().unwrap().to_owned(), line.clone())).collect()
    }
}

#[test]
fn machines_are_told_what_counts_and_what_it_is_called() {
    let told = Estate::new().json(&[]);
    let policy = format!("policies/roleManagementPolicies/{POLICY}.json");
    let members = format!("groupMembers/{ADMINS}.json");
    let (gone, new) = (format!("{DIRECTORY}/roleAssignments/gone.json"), format!("{DIRECTORY}/roleAssignments/new.json"));
    let paths: Vec<&str> = told.keys().map(String::as_str).collect();
    let ca = "identity/conditionalAccess/policies/ca.json";
    assert_eq!(paths, ["applications/app.json", &members, ca, "notes/mine.json", &policy, &gone, &new]);

    assert_eq!(
        told[&members],
        json!({"path": members, "change": "changed", "collection": "entra.groups.members", "name": "Admins", "attributes": [
            {"pointer": format!("/members/{MALLORY}"), "set": "/members", "to": {"id": MALLORY}, "to_name": HOSTILE},
            {"pointer": format!("/members/{ALICE}"), "set": "/members", "from": {"id": ALICE}, "from_name": "Alice Example"},
        ]})
    );
    assert_eq!(
        told[&new],
        json!({"path": new, "change": "added", "collection": "entra.roleAssignments", "name": format!("Global Administrator · {HOSTILE}"),
            "attributes": [], "attention": ["a privileged role was assigned"]})
    );
    // No role that anybody need look at.
    assert_eq!(
        told[&gone],
        json!({"path": gone, "change": "removed", "collection": "entra.roleAssignments", "name": "Directory Readers · Bob Example", "attributes": []})
    );
    let rule = "/rules/Enablement_EndUser_Assignment/enabledRules";
    assert_eq!(
        told[&policy],
        json!({"path": policy, "change": "changed", "collection": "entra.roleManagementPolicies", "name": "Global Administrator", "attributes": [
            {"pointer": format!("{rule}/MultiFactorAuthentication"), "set": rule, "from": "MultiFactorAuthentication"},
            {"pointer": "/rules/Expiration_EndUser_Assignment/maximumDuration", "from": "PT1H", "to": "PT8H"},
        ], "attention": ["multi-factor authentication is no longer required"]})
    );
    assert_eq!((&told[ca]["name"], &told[ca]["attention"]), (&json!("Require MFA"), &json!(["the policy was switched off"])));
    assert_eq!(told["applications/app.json"]["attention"], json!(["a new secret can sign in as it"]));
    // What the catalog does not know is told as ever.
    assert_eq!(
        told["notes/mine.json"],
        json!({"path": "notes/mine.json", "change": "changed", "attributes": [
            {"pointer": "/createdDateTime", "from": "1", "to": "2"}, {"pointer": "/text", "from": "a", "to": "b"}]})
    );
}

#[test]
fn raw_tells_everything_as_it_stands() {
    let estate = Estate::new();
    let (told, raw) = (estate.json(&[]), estate.json(&["--raw"]));
    let more: Vec<&str> = raw.keys().filter(|path| !told.contains_key(*path)).map(String::as_str).collect();
    let schedules = format!("{DIRECTORY}/roleAssignmentSchedules");
    let eligible = format!("{DIRECTORY}/roleEligibilitySchedules/e.json");
    let group = format!("groups/{ADMINS}.json");
    assert_eq!(more, [&group, &format!("{schedules}/one.json"), &format!("{schedules}/two.json"), &eligible]);
    for (path, record) in &raw {
        let fields: Vec<&str> = record.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, ["attributes", "change", "path"], "{path}");
        for attribute in record["attributes"].as_array().unwrap() {
            assert!(attribute.as_object().unwrap().keys().all(|key| ["pointer", "from", "to"].contains(&key.as_str())), "{attribute}");
        }
    }
    assert_eq!(
        raw[&format!("groupMembers/{ADMINS}.json")]["attributes"],
        json!([{"pointer": "/members/0/id", "from": ALICE, "to": MALLORY}]),
        "an array is compared place by place"
    );
    // As many as were left out are said to be; machines hear of it on stderr.
    let said = "4 changed only in fields that change by themselves; --raw shows them";
    assert!(estate.diff(&[]).stdout.contains(said) && estate.diff(&["--json", "-v"]).stderr.contains(said));
    assert!(!estate.diff(&["--raw"]).stdout.contains("--raw shows them"));
}

#[test]
fn a_schedule_that_begins_to_end_is_told() {
    let estate = Estate::new();
    estate.eligible("2026-11-03T00:00:00Z", "afterDateTime");
    estate.snapshot();
    let told = estate.json(&[]);
    let record = &told[&format!("{DIRECTORY}/roleEligibilitySchedules/e.json")];
    assert_eq!(record["name"], "Global Administrator · Alice Example");
    let pointers: Vec<&str> = record["attributes"].as_array().unwrap().iter().map(|a| a["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, ["/scheduleInfo/expiration/type", "/scheduleInfo/startDateTime"]);
    assert_eq!(told.len(), 1);
}

#[test]
fn what_is_in_the_earlier_state_only_has_a_name_too() {
    let estate = Estate::new();
    fs::remove_file(estate.0.path(&format!("tree/users/{MALLORY}.json"))).unwrap();
    fs::remove_file(estate.0.path(&format!("tree/{DIRECTORY}/roleAssignments/new.json"))).unwrap();
    fs::remove_file(estate.0.path(&format!("tree/policies/roleManagementPolicyAssignments/{POLICY}_{GLOBAL}.json"))).unwrap();
    fs::remove_file(estate.0.path(&format!("tree/policies/roleManagementPolicies/{POLICY}.json"))).unwrap();
    estate.snapshot();
    let told = estate.json(&[]);
    let names: Vec<&str> = told.values().map(|record| record["name"].as_str().unwrap()).collect();
    let assignment = format!("Global Administrator · {HOSTILE}");
    assert_eq!(names, ["Global Administrator", "Global Administrator", &assignment, HOSTILE]);
    assert_eq!(
        told[&format!("{DIRECTORY}/roleAssignments/new.json")]["attention"],
        json!(["the assignment of a privileged role was removed"])
    );
}

#[test]
fn people_read_it_at_eighty_columns() {
    let estate = Estate::new();
    let text = estate.diff(&[]).stdout;
    let (body, end) = text.rsplit_once("\n\n").unwrap();
    let expected = format!(
        "Look at these first
  ! Deployer  App registrations
    a new secret can sign in as it
  ! Require MFA  Conditional access policies
    the policy was switched off
  ! Global Administrator · {HOSTILE}
    a privileged role was assigned
  ! Global Administrator  PIM policies
    multi-factor authentication is no longer required

Group members  1 changed  groupMembers/
  ~ Admins  {ADMINS}.json
      + members: {HOSTILE}
      - members: Alice Example  {ALICE}

App registrations  1 changed  applications/
  ~ Deployer  app.json
      + passwordCredentials: {{\"displayName\":\"night\",\"keyId\":\"k1\"}}

Conditional access policies  1 changed  identity/conditionalAccess/policies/
  ~ Require MFA  ca.json
      state: enabled → disabled

Role assignments  1 added, 1 removed  roleManagement/directory/roleAssignments/
  - Directory Readers · Bob Example  gone.json
  + Global Administrator · {HOSTILE}  new.json

PIM policies  1 changed  policies/roleManagementPolicies/
  ~ Global Administrator  {POLICY}.json
      - …Enablement_EndUser_Assignment › enabledRules: MultiFactorAuthentication
      rules › Expiration_EndUser_Assignment › maximumDuration: PT1H → PT8H

Other records  1 changed
  ~ notes/mine.json
      /createdDateTime: \"1\" → \"2\"
      /text: \"a\" → \"b\""
    );
    for line in body.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
    assert!(end.starts_with("1 added, 1 removed, 5 changed\n4 changed only in fields"), "{end}");
    assert!(end.lines().all(|line| line.chars().count() <= 80) && end.trim_end().lines().last().unwrap().contains(" → "), "{end}");
    assert_eq!(body, expected);
    // Nothing but text for who is no terminal; the same words with colours for who is.
    assert!(!text.contains('\u{1b}'));
    let coloured = estate.diff(&["--color", "always"]).stdout;
    assert!(coloured.contains("\u{1b}["));
    assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), text);
}

#[test]
fn only_the_paths_when_asked_for_them() {
    let text = Estate::new().diff(&["--names-only"]).stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 10, "{text}");
    assert_eq!(lines[0], "~ applications/app.json");
    assert_eq!(lines[6], format!("+ {DIRECTORY}/roleAssignments/new.json"));
}

#[test]
fn a_page_says_the_same_and_runs_nothing() {
    let estate = Estate::new();
    let ran = estate.diff(&["--html", "night.html"]);
    assert!(ran.stdout.ends_with("wrote night.html\n"), "{}", ran.stdout);
    let file = estate.0.path("night.html");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "it holds what the vault seals");
    let page = fs::read_to_string(&file).unwrap();
    assert!(!page.to_lowercase().contains("<script"), "a name became markup");
    assert!(page.contains("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; &#39;Mallory&#39;"));
    for word in
        ["Look at these first", "PIM policies", "Global Administrator", "Alice Example", "MultiFactorAuthentication", "4 changed only"]
    {
        assert!(page.contains(word), "{word}");
    }
    let runs: Vec<Value> = estate.0.json(&["ls"], 0).into_iter().filter(|run| run["kind"] == "snapshot").collect();
    assert_eq!(runs.len(), 2);
    for run in &runs {
        assert!(page.contains(run["run"].as_str().unwrap()) && page.contains(&run["started"].as_str().unwrap()[..19]), "{run}");
    }
    for n in 0..7 {
        assert_eq!(page.matches(&format!("id=\"r{n}\"")).count(), 1, "an anchor a record");
    }
    let first = page.split("Look at these first").nth(1).unwrap().split("</section>").next().unwrap();
    assert_eq!(first.matches("href=\"#r").count(), 4);
    assert!(first.find("a privileged role was assigned").is_some());
    // What is there is left as it is, and nothing is left beside it.
    let args: Vec<&str> = ["diff", "tree~1", "tree", "--html", "night.html"].into_iter().chain(ID).collect();
    let again = estate.0.backstop(&args);
    assert_eq!((again.code, again.stdout.as_str()), (2, ""), "{}", again.stderr);
    assert!(again.stderr.contains("there is a night.html already"), "{}", again.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), page);
    let beside =
        fs::read_dir(estate.0.path(".")).unwrap().filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with(".tmp")).count();
    assert_eq!(beside, 0);
}

#[test]
fn names_cost_the_segments_that_hold_them_and_no_others() {
    let vault = LibraryVault::new("2026-11-02T02:00:00Z");
    let put = |path: String, record: Value| vault.sandbox.write(&format!("tree/{path}.json"), record.to_string());
    put(
        format!("{DIRECTORY}/roleDefinitions/{GLOBAL}"),
        json!({"id": GLOBAL, "displayName": "Global Administrator", "isPrivileged": true}),
    );
    for n in 0..2000usize {
        // 12 kB each: users then lie in two segments.
        let noise: String = (0..180).map(|k| format!("{:016x}-{:032x} ", n * 7919 + k, (n * 31 + k) * 104_729)).collect();
        put(format!("users/{n:04}"), json!({"id": format!("{n:04}"), "displayName": format!("User {n}"), "noise": noise}));
    }
    let base = vault.snapshot().unwrap();
    assert_eq!(base.objects, 3, "two segments and a manifest");
    vault.clock.advance_hours(1);
    let chain = "snapshot.tree".parse().unwrap();
    let mut before = base.run;
    let mut read = BTreeSet::new();
    // A user in the first segment, where the role is too, and one in the second.
    for (n, segments) in [("0001", 1), ("1999", 2)] {
        put(format!("{DIRECTORY}/roleAssignments/{n}"), json!({"id": n, "roleDefinitionId": GLOBAL, "principalId": n}));
        let run = vault.snapshot().unwrap().run;
        vault.clock.advance_hours(1);
        let deltas = read.len() as u64 + 1;
        let store = Counting::new(vault.store());
        let ledger = Ledger::open(store.clone(), &Anchor::Envelope(vault.genesis.clone())).unwrap();
        store.take();
        let report = diff(&ledger, &vault.identities, (&chain, before), (&chain, run)).unwrap();
        assert_eq!(report.failed, []);
        let name = format!("Global Administrator · User {}", n.parse::<usize>().unwrap());
        assert_eq!(report.changes.last().unwrap().name, Some(name), "{:?}", report.changes);
        let opened: Vec<String> = opens(&store.take()).into_iter().filter(|name| is_manifest(name) || is_segment(name)).collect();
        let of = |keep: fn(&str) -> bool| opened.iter().filter(|name| keep(name)).count() as u64;
        // The delta between; the state before; the state after, for what is there and once more for names.
        assert_eq!(of(is_manifest), 1 + deltas + 2 * (deltas + 1), "{opened:#?}");
        // The delta's own segment with the assignment, and those that hold role and user.
        assert_eq!(of(is_segment), 1 + segments, "{opened:#?}");
        assert_eq!(report.objects_read, opened.len() as u64);
        // Without names nothing is read but what says which records there are.
        let raw = diff_raw(&ledger, &vault.identities, (&chain, before), (&chain, run)).unwrap();
        assert_eq!(raw.objects_read, 1 + deltas + deltas + 1);
        let back = diff_raw(&ledger, &vault.identities, (&chain, run), (&chain, before)).unwrap();
        assert_eq!(back.objects_read, raw.objects_read, "a record that went is not read either");
        read.insert(n);
        before = run;
    }
}
