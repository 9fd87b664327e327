//! Promise: what stands in deploy/azure does what it says. The templates are valid and agree with each other, no role
//! but the operators' deletes, no rule deletes, and the script runs the commands that it shows, in an order that holds.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::Sandbox;

/// Data actions under `…/blobs/`, as Microsoft lists them, that any of the roles may have.
const BLOBS: &str = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/";
const READS: [&str; 2] = ["read", "filter/action"];
const WRITES: [&str; 3] = ["add/action", "write", "immutableStorage/runAsSuperUser/action"];
const DELETES: [&str; 2] = ["delete", "deleteBlobVersion/action"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn shipped(name: &str) -> String {
    fs::read_to_string(root().join("deploy/azure").join(name)).unwrap()
}

fn parsed(name: &str) -> Value {
    serde_json::from_str(&shipped(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn texts(value: &Value) -> BTreeSet<&str> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect()
}

/// Every key and every text in a document.
fn words<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, inner)| {
            out.push(key);
            words(inner, out);
        }),
        Value::Array(items) => items.iter().for_each(|inner| words(inner, out)),
        Value::String(text) => out.push(text),
        _ => {}
    }
}

/// Runs the judge of templates; gives what it finds wrong.
fn judge(args: &[&str], template: &Value) -> Vec<String> {
    let given = std::env::var_os("BACKSTOP_TEST_PYTHON").map(PathBuf::from);
    let python = given.unwrap_or_else(|| root().join("target/test-venv/bin/python3"));
    assert!(python.exists(), "{} is missing: scripts/test.sh makes it, or set BACKSTOP_TEST_PYTHON", python.display());
    let mut judge = Command::new(python)
        .arg("-B")
        .arg(root().join("tests/support/arm_template.py"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    judge.stdin.take().unwrap().write_all(template.to_string().as_bytes()).unwrap();
    let out = judge.wait_with_output().unwrap();
    assert!(out.status.success());
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn only_operators_may_delete() {
    let actions = |role: &Value| -> BTreeSet<String> { texts(&role["DataActions"]).into_iter().map(str::to_owned).collect() };
    let named = |groups: &[&[&str]]| -> BTreeSet<String> { groups.concat().iter().map(|name| format!("{BLOBS}{name}")).collect() };
    let (agent, tester, operator) = (parsed("role.json"), parsed("role-tester.json"), parsed("role-operator.json"));
    assert_eq!(actions(&agent), named(&[&READS, &WRITES]));
    assert_eq!(actions(&tester), named(&[&READS]));
    assert_eq!(actions(&operator), named(&[&READS, &WRITES, &DELETES]));
    for role in [&agent, &tester, &operator] {
        let settings = texts(&role["Actions"]);
        assert!(settings.iter().all(|action| action.starts_with("Microsoft.Storage/storageAccounts/") && action.ends_with("/read")));
        assert_eq!((&role["NotActions"], &role["NotDataActions"]), (&json!([]), &json!([])), "what is not granted needs no exception");
        assert_eq!(
            role["AssignableScopes"],
            json!(["/subscriptions/00000000-0000-0000-0000-000000000000"]),
            "the script puts the scope here"
        );
    }
    for role in [&agent, &tester] {
        let said: Vec<&str> = texts(&role["Actions"]).into_iter().chain(texts(&role["DataActions"])).collect();
        for word in ["delete", "*", "tags", "permission", "ownership", "move", "setacl", "listkeys", "immutabilitypolicies/write", "lock"] {
            assert!(!said.iter().any(|action| action.to_lowercase().contains(word)), "{word}");
        }
        assert!(!said.contains(&format!("{BLOBS}runAsSuperUser/action").as_str()), "the other super user restores and deletes");
    }
}

#[test]
fn nothing_is_deleted_by_age_and_attestations_stay_within_reach() {
    let rules = parsed("lifecycle.json");
    let mut said = Vec::new();
    words(&rules, &mut said);
    assert!(!said.iter().any(|word| word.to_lowercase().contains("delete")), "{said:?}");
    let by_name = |name: &str| rules["rules"].as_array().unwrap().iter().find(|r| r["name"] == name).unwrap()["definition"].clone();
    let (data, attestations) = (by_name("backstopTierData"), by_name("backstopCoolAttestations"));
    assert_eq!(rules["rules"].as_array().unwrap().len(), 2);
    assert_eq!(texts(&data["filters"]["prefixMatch"]), BTreeSet::from(["config-snapshots/", "audit-logs/", "evidence/"]));
    assert_eq!(texts(&attestations["filters"]["prefixMatch"]), BTreeSet::from(["attestations/"]));
    // Earlier versions grow cold like current ones: which of them is current is nothing that an attacker may decide by.
    for (part, age) in [("baseBlob", "daysAfterModificationGreaterThan"), ("version", "daysAfterCreationGreaterThan")] {
        let archive = json!({ age: 1095, "daysAfterLastTierChangeGreaterThan": 30 });
        assert_eq!(data["actions"][part], json!({ "tierToCool": { age: 365 }, "tierToArchive": archive }));
        assert_eq!(attestations["actions"][part], json!({ "tierToCool": { age: 365 } }));
    }
}

#[test]
fn the_template_is_what_the_service_takes() {
    let template = parsed("main.json");
    assert_eq!(template["$schema"], "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#");
    assert_eq!(judge(&["check"], &template), [""; 0]);
    let broken: [(&str, Value, &str); 8] = [
        ("/resources/0/kind", json!("StorageV9"), "none of its values"),
        ("/resources/0/sku", json!({}), "sku.name: missing"),
        ("/resources/0/properties/minimumTlsVersion", json!("TLS2"), "none of its values"),
        ("/resources/0/apiVersion", json!("2020-01-01"), "API version"),
        ("/resources/1/properties/isVersioningEnabled", json!("yes"), "is no bool"),
        ("/resources/1/properties/restorePolicy", json!({ "on": true }), "no such property"),
        ("/resources/2/properties", json!({ "hasLegalHold": true }), "only the service sets it"),
        ("/resources/4/properties/policy/rules/0/definition/actions", json!({ "version": { "tierToCool": {} } }), "missing"),
    ];
    for (place, value, says) in broken {
        let mut template = template.clone();
        *template.pointer_mut(place).unwrap() = value;
        let wrong = judge(&["check"], &template);
        assert!(wrong.iter().any(|w| w.contains(says)), "{place}: {wrong:?}");
    }
}

#[test]
fn bicep_and_template_say_the_same() {
    let (bicep, template) = (root().join("deploy/azure/main.bicep"), parsed("main.json"));
    assert_eq!(judge(&["bicep", bicep.to_str().unwrap()], &template), [""; 0]);
    let sandbox = Sandbox::new();
    for (from, to) in [
        ("isVersioningEnabled: true", "isVersioningEnabled: false"),
        ("minimumTlsVersion: 'TLS1_2'", "minimumTlsVersion: 'TLS1_0'"),
        ("param allowSharedKeyAccess bool = false", "param allowSharedKeyAccess bool = true"),
        ("param archiveAfterDays int = 1095", "param archiveAfterDays int = 90"),
        ("daysAfterCreationGreaterThan: archiveAfterDays", "daysAfterCreationGreaterThan: coolAfterDays"),
        ("storageAccounts@2023-05-01", "storageAccounts@2023-01-01"),
        ("blobs/deleteBlobVersion/action'", "blobs/permanentDelete/action'"),
        ("principalId: testerPrincipalId", "principalId: agentPrincipalId"),
    ] {
        let text = shipped("main.bicep");
        assert!(text.contains(from), "{from}");
        sandbox.write("other.bicep", text.replace(from, to));
        let wrong = judge(&["bicep", sandbox.path("other.bicep").to_str().unwrap()], &template);
        assert!(!wrong.is_empty(), "{to} is not seen");
    }
    // The settings that a vault stands on, as text.
    for setting in ["allowBlobPublicAccess: false", "supportsHttpsTrafficOnly: true", "isHnsEnabled: false", "publicAccess: 'None'"] {
        let (name, value) = setting.split_once(": ").unwrap();
        let in_template = format!("\"{name}\": {}", value.replace('\'', "\""));
        assert!(shipped("main.bicep").contains(setting) && shipped("main.json").contains(&in_template), "{setting}");
    }
    assert_eq!(shipped("main.bicep").matches("immutableStorageWithVersioning: {\n").count(), 2, "of the account and of each container");
}

#[test]
fn the_template_has_the_same_roles_and_rules_as_the_files() {
    let template = parsed("main.json");
    let default = |name: &str| &template["parameters"][name]["defaultValue"];
    // With every parameter at its default the template's rules are the file's.
    let mut rules = template.pointer("/resources/4/properties/policy").unwrap().to_string();
    for name in ["coolAfterDays", "archiveAfterDays", "staysRehydratedDays"] {
        rules = rules.replace(&format!("\"[parameters('{name}')]\""), &default(name).to_string());
    }
    for (key, name) in default("containerNames").as_object().unwrap() {
        rules = rules.replace(&format!("[format('{{0}}/', parameters('containerNames').{key})]"), &format!("{}/", name.as_str().unwrap()));
    }
    assert_eq!(serde_json::from_str::<Value>(&rules).unwrap(), parsed("lifecycle.json"));

    let files = ["role.json", "role-tester.json", "role-operator.json"].map(parsed);
    let roles = template["variables"]["roles"].as_array().unwrap();
    assert_eq!(roles.len(), files.len());
    for (role, file) in roles.iter().zip(&files) {
        assert_eq!(
            file["Name"].as_str().unwrap(),
            format!("{} {}", default("rolePrefix").as_str().unwrap(), role["name"].as_str().unwrap())
        );
        assert_eq!((&role["dataActions"], &role["description"]), (&file["DataActions"], &file["Description"]));
        assert_eq!(template["variables"]["settings"], file["Actions"]);
    }
    // Nobody gets a role by default, and the role that each gets is the one that was meant.
    for (resource, who) in template["resources"].as_array().unwrap()[6..].iter().zip(["agent", "tester", "operator"]) {
        let title = json!({ "agent": "agent", "tester": "restore tester", "operator": "operator" })[who].as_str().unwrap().to_owned();
        assert_eq!(*default(&format!("{who}PrincipalId")), "");
        assert_eq!(resource["condition"], format!("[not(empty(parameters('{who}PrincipalId')))]"));
        assert_eq!(resource["properties"]["principalId"], format!("[parameters('{who}PrincipalId')]"));
        assert!(resource["properties"]["roleDefinitionId"].as_str().unwrap().ends_with(&format!("'{title}'))]")));
        assert!(resource["name"].as_str().unwrap().ends_with(&format!("'{title}')]")));
    }
}

/// What is in the cloud that the stand-in for the Azure CLI shows.
#[derive(Clone, Copy, PartialEq)]
enum Cloud {
    Empty,
    /// All of it, as the script makes it.
    Ready,
    /// Containers without version-level immutability, and somebody else's lifecycle rules.
    Foreign,
    /// The CLI is not allowed to look.
    Refused,
    /// Policies on the containers, locked at 100 days.
    Locked,
    /// A sovereign one.
    Government,
}

/// A stand-in for the Azure CLI: it writes down what it was asked, and answers as the real one does.
const AZ: &str = r#"#!/bin/sh
for word in "$@"; do printf '%s\037' "$word"; done >> "$AZ_CALLS"
printf '\n' >> "$AZ_CALLS"
missing() { echo 'ERROR: (ResourceNotFound) it is not there' >&2; exit 3; }
case $AZ_CLOUD in Refused) echo 'ERROR: (AuthorizationFailed) you may not' >&2; exit 1 ;; esac
case "$*" in
    'account show'*) echo 22222222-2222-2222-2222-222222222222 ;;
    *primaryEndpoints.blob*)
        case $AZ_CLOUD in
            Government) echo https://vault01.blob.core.usgovcloudapi.net/ ;;
            *) echo https://vault01.blob.core.windows.net/ ;;
        esac ;;
    *'--query exists'*) case $AZ_CLOUD in Empty | Government) echo false ;; *) echo true ;; esac ;;
    'role definition list'*) case $AZ_CLOUD in Ready) echo 33333333-3333-3333-3333-333333333333 ;; esac ;;
    *'--query etag'*) echo '"8d1"' ;;
    *immutability-policy*'--query state'*) case $AZ_CLOUD in Locked) echo Locked ;; esac ;;
    *immutability-policy*'--query immutabilityPeriod'*) case $AZ_CLOUD in Locked) echo 100 ;; esac ;;
    'storage account show'*enabled*) case $AZ_CLOUD in Ready) echo true ;; *) echo None ;; esac ;;
    'storage account show'*isHnsEnabled*) case $AZ_CLOUD in Empty | Government) missing ;; *) echo false ;; esac ;;
    'storage account show'*) case $AZ_CLOUD in Empty | Government) missing ;; *) echo /subscriptions/x ;; esac ;;
    'storage container-rm show'*) case $AZ_CLOUD in Ready) echo true ;; *) ;; esac ;;
    *'management-policy show'*) case $AZ_CLOUD in Empty | Government | Locked) missing ;; Ready) echo 0 ;; Foreign) echo 3 ;; esac ;;
esac
"#;

struct Setup {
    code: i32,
    stdout: String,
    stderr: String,
    /// Each call of the CLI, word by word.
    calls: Vec<Vec<String>>,
}

impl Setup {
    /// Calls that change something.
    fn changes(&self) -> Vec<&Vec<String>> {
        let asks = |call: &[String]| call.iter().any(|word| ["show", "list", "exists"].contains(&word.as_str()));
        self.calls.iter().filter(|call| !asks(call)).collect()
    }

    /// Where the first change stands whose words begin so.
    fn place(&self, begin: &str) -> usize {
        let found = self.changes().iter().position(|call| call.join(" ").starts_with(begin));
        found.unwrap_or_else(|| panic!("no `az {begin}` in {:#?}", self.changes()))
    }

    fn has(&self, begin: &str) -> bool {
        self.changes().iter().any(|call| call.join(" ").starts_with(begin))
    }
}

fn setup(cloud: Cloud, more: &[&str]) -> Setup {
    let sandbox = Sandbox::new();
    sandbox.write("bin/az", AZ);
    fs::set_permissions(sandbox.path("bin/az"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", sandbox.path("bin").display(), std::env::var("PATH").unwrap());
    let name = match cloud {
        Cloud::Empty => "Empty",
        Cloud::Ready => "Ready",
        Cloud::Foreign => "Foreign",
        Cloud::Refused => "Refused",
        Cloud::Locked => "Locked",
        Cloud::Government => "Government",
    };
    let out = Command::new("sh")
        .arg(root().join("deploy/azure/setup.sh"))
        .args(["--account", "vault01", "--resource-group", "backup"])
        .args(more)
        .env("PATH", path)
        .env("AZ_CALLS", sandbox.path("calls"))
        .env("AZ_CLOUD", name)
        .current_dir(sandbox.path(""))
        .output()
        .unwrap();
    let calls = fs::read_to_string(sandbox.path("calls")).unwrap_or_default();
    let words = |line: &str| line.split_terminator('\u{1f}').map(str::to_owned).collect();
    Setup {
        code: out.status.code().unwrap(),
        stdout: String::from_utf8(out.stdout).unwrap(),
        stderr: String::from_utf8(out.stderr).unwrap(),
        calls: calls.lines().map(words).collect(),
    }
}

const NEW: [&str; 4] = ["--location", "westeurope", "--subscription", "22222222-2222-2222-2222-222222222222"];
const SUBSCRIPTION: [&str; 4] = ["--subscription", "22222222-2222-2222-2222-222222222222", "--output", "none"];

/// What follows a flag.
fn value_of<'a>(call: &'a [String], flag: &str) -> &'a str {
    &call[call.iter().position(|word| word == flag).unwrap() + 1]
}

/// A command of words without blanks.
fn line(text: &str) -> Vec<String> {
    text.split_whitespace().chain(SUBSCRIPTION).map(str::to_owned).collect()
}

#[test]
fn the_script_is_sound_shell() {
    let script = root().join("deploy/azure/setup.sh");
    assert!(fs::metadata(&script).unwrap().permissions().mode() & 0o111 != 0, "it cannot be run");
    for tool in [["sh", "-n"].as_slice(), &["shellcheck"]] {
        let out = Command::new(tool[0]).args(&tool[1..]).arg(&script).output();
        let out = out.unwrap_or_else(|e| panic!("{}: {e}; scripts/test.sh installs it", tool[0]));
        assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    }
}

#[test]
fn a_new_account_is_made_in_an_order_that_holds() {
    let agent = "11111111-1111-1111-1111-111111111111";
    let done = setup(Cloud::Empty, &[&NEW[..], &["--create-group", "--agent-principal", agent]].concat());
    assert_eq!(done.code, 0, "{}", done.stderr);
    let changes = done.changes();
    let (data, roles) = changes.split_at(8);
    assert_eq!(*data[0], line("group create --name backup --location westeurope"));
    assert_eq!(
        *data[1],
        line(
            "storage account create --name vault01 --resource-group backup --location westeurope --kind StorageV2 --sku Standard_RAGRS \
             --access-tier Hot --https-only true --min-tls-version TLS1_2 --allow-blob-public-access false \
             --allow-shared-key-access false --allow-cross-tenant-replication false --enable-alw true"
        )
    );
    // Versions first: a container that is made before cannot have locks of its own.
    assert_eq!(
        *data[2],
        line(
            "storage account blob-service-properties update --account-name vault01 --resource-group backup --enable-versioning true \
             --enable-delete-retention true --delete-retention-days 14 --enable-container-delete-retention true \
             --container-delete-retention-days 14 --enable-restore-policy false --enable-last-access-tracking false"
        )
    );
    for (call, name) in data[3..].iter().zip(["config-snapshots", "audit-logs", "evidence", "attestations"]) {
        let rest = "--storage-account vault01 --resource-group backup --public-access off --enable-vlw true";
        assert_eq!(**call, line(&format!("storage container-rm create --name {name} {rest}")));
    }
    // No lock is on it: leases end, and notes change.
    let leases = "storage container-rm create --name backstop-leases --storage-account vault01 --resource-group backup --public-access off";
    assert_eq!(*data[7], line(leases));
    let begins = |call: &[String], words: &str| assert_eq!(call[..words.split(' ').count()].join(" "), words);
    begins(roles[0], "storage account management-policy create --account-name vault01 --resource-group backup --policy");
    assert_eq!(serde_json::from_str::<Value>(value_of(roles[0], "--policy")).unwrap(), parsed("lifecycle.json"));
    let scope = "/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/backup";
    for (call, file) in roles[1..4].iter().zip(["role.json", "role-tester.json", "role-operator.json"]) {
        begins(call, "role definition create --role-definition");
        let mut wanted = parsed(file);
        wanted["AssignableScopes"] = json!([scope]);
        assert_eq!(serde_json::from_str::<Value>(value_of(call, "--role-definition")).unwrap(), wanted);
    }
    let account = format!("{scope}/providers/Microsoft.Storage/storageAccounts/vault01");
    let to = ["--assignee-object-id", agent, "--assignee-principal-type", "ServicePrincipal", "--scope", &account];
    let wanted: Vec<&str> = [&["role", "assignment", "create", "--role", "Backstop agent"], &to[..], &SUBSCRIPTION].concat();
    assert_eq!(*roles[4], wanted);
    assert_eq!(roles.len(), 5, "nobody else gets a role");
}

#[test]
fn a_dry_run_shows_what_would_be_run_and_runs_nothing() {
    assert_eq!(setup(Cloud::Empty, &[&NEW[..], &["--role-prefix", "O'Brien", "--dry-run"]].concat()).code, 2, "no name for a role");
    for more in [&[][..], &["--change-feed", "--create-group", "--role-prefix", "Vault 2"], &["--lock-by", "container", "--lock"]] {
        let all = [&NEW[..], more].concat();
        let (shown, done) = (setup(Cloud::Empty, &[&all[..], &["--dry-run"]].concat()), setup(Cloud::Empty, &all));
        assert_eq!((shown.code, done.code), (0, 0), "{}{}", shown.stderr, done.stderr);
        assert_eq!(shown.calls, [[""; 0]; 0]);
        // What it shows is what a shell runs: it is run by one, with the same stand-in.
        let commands: String = shown.stdout.lines().filter(|l| l.starts_with("az ")).map(|l| format!("{l}\n")).collect();
        assert_eq!(typed(&commands.replace("ETAG", "'\"8d1\"'")), done.changes().into_iter().cloned().collect::<Vec<_>>());
        assert_eq!(shown.stdout.split_once("\n# Into").unwrap().1, done.stdout.split_once("# Into").unwrap().1);
    }
}

/// What commands say when a shell runs them.
fn typed(commands: &str) -> Vec<Vec<String>> {
    let sandbox = Sandbox::new();
    sandbox.write("bin/az", AZ);
    fs::set_permissions(sandbox.path("bin/az"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", sandbox.path("bin").display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(commands).env("PATH", path).env("AZ_CALLS", sandbox.path("calls")).env("AZ_CLOUD", "Empty");
    assert!(shell.status().unwrap().success());
    let calls = fs::read_to_string(sandbox.path("calls")).unwrap();
    calls.lines().map(|line| line.split_terminator('\u{1f}').map(str::to_owned).collect()).collect()
}

#[test]
fn nothing_that_is_run_deletes() {
    let every: [(Cloud, &[&str]); 6] = [
        (Cloud::Empty, &[]),
        (Cloud::Ready, &["--replace-lifecycle"]),
        (Cloud::Foreign, &["--replace-lifecycle"]),
        (Cloud::Empty, &["--lock-by", "container", "--lock"]),
        (Cloud::Locked, &["--lock-by", "container", "--lock"]),
        (Cloud::Foreign, &["--lock-by", "container"]),
    ];
    for (cloud, more) in every {
        for call in setup(cloud, &[&NEW[..], more].concat()).calls {
            // The verb stands before the first flag.
            let verb: Vec<&str> = call.iter().map(String::as_str).take_while(|word| !word.starts_with('-')).collect();
            for word in ["delete", "purge", "remove", "clear", "migrate-vlw", "revoke", "failover"] {
                assert!(!verb.contains(&word), "{call:?}");
            }
        }
    }
}

#[test]
fn what_is_there_is_kept() {
    let done = setup(Cloud::Ready, &["--replace-lifecycle"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    for made in ["storage account create", "storage container-rm create", "group create", "role definition create"] {
        assert!(!done.has(made), "{made}");
    }
    assert!(done.place("storage account update") < done.place("storage account blob-service-properties update"));
    assert!(done.has("role definition update"));
    assert!(done.changes().iter().all(|call| call[call.len() - 4..] == SUBSCRIPTION), "the signed-in subscription, by its id");
    // A region is needed only for what is made.
    assert_eq!(setup(Cloud::Empty, &[]).code, 2);
}

#[test]
fn what_cannot_be_undone_is_explained_and_left_alone() {
    let done = setup(Cloud::Foreign, &NEW);
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains("NOT DONE: the container evidence") && done.stderr.contains("az storage container-rm migrate-vlw"));
    assert!(done.stderr.contains("3 lifecycle rule(s) of somebody else"));
    assert!(!done.has("storage container-rm") && !done.has("storage account management-policy"));
    assert!(done.has("role definition create"), "the rest is done");
    assert!(setup(Cloud::Foreign, &[&NEW[..], &["--replace-lifecycle"]].concat()).has("storage account management-policy create"));
    // What may not be looked at is not taken for missing.
    let refused = setup(Cloud::Refused, &NEW);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("AuthorizationFailed") && refused.changes().is_empty(), "{}", refused.stderr);
}

#[test]
fn policies_of_containers_are_locked_only_when_asked() {
    let by_container = |cloud, more: &[&str]| setup(cloud, &[&NEW[..], &["--lock-by", "container", "--no-roles"], more].concat());
    let open = by_container(Cloud::Empty, &[]);
    assert_eq!(open.code, 0, "{}", open.stderr);
    assert!(!open.has("storage container immutability-policy lock") && open.stderr.contains("NOT locked"));
    // Seven years, a quarter and the grace: what `doctor` holds a policy to.
    let rest = "--resource-group backup --period 2684 --allow-protected-append-writes false";
    let wanted = line(&format!("storage container immutability-policy create --account-name vault01 --container-name evidence {rest}"));
    assert!(open.changes().contains(&&wanted), "{:#?}", open.changes());
    assert!(open.calls.iter().flatten().all(|word| word != "--enable-alw" && word != "--enable-vlw"), "a policy would be a default only");

    let locked = by_container(Cloud::Empty, &["--lock", "--period", "audit-logs=4000"]);
    assert!(locked.stderr.contains("LOCKED. Nobody can undo that"));
    let wanted = "storage container immutability-policy lock --account-name vault01 --container-name audit-logs --resource-group backup --if-match \"8d1\"";
    assert!(locked.changes().contains(&&line(wanted)), "{:#?}", locked.changes());
    let period = |name: &str| {
        let create = format!("storage container immutability-policy create --account-name vault01 --container-name {name}");
        value_of(locked.changes()[locked.place(&create)], "--period").to_owned()
    };
    assert_eq!(
        [period("audit-logs"), period("attestations"), period("evidence")],
        ["4000", "4000", "2684"],
        "attestations outlast what they attest"
    );

    // A locked policy that is too short is named; one that is long enough is fine.
    let short = by_container(Cloud::Locked, &["--lock"]);
    assert_eq!(short.code, 1);
    assert!(short.stderr.contains("locked at 100 days, and 2684") && !short.has("storage container immutability-policy"));
    let mut fits = vec!["--lock"];
    fits.extend(["config-snapshots=90", "audit-logs=90", "evidence=100", "attestations=90"].iter().flat_map(|p| ["--period", p]));
    assert_eq!(by_container(Cloud::Locked, &fits).code, 0);
    // Where everything has version-level immutability, such a policy would lock nothing.
    let account = by_container(Cloud::Ready, &[]);
    assert!(account.code == 1 && account.changes().is_empty() && account.stderr.contains("lock by version"), "{}", account.stderr);
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_run() {
    for (more, says) in [
        (&["--sku", "Standard_RAGZRS"][..], "no archive tier"),
        (&["--account", "Vault"], "lower-case"),
        (&["--container", "evidence=audit-logs"], "name of its own"),
        (&["--container", "logs=x"], "not one of"),
        (&["--soft-delete-days", "0"], "1 to 365"),
        (&["--lock"], "only with --lock-by container"),
        (&["--lock-by", "container", "--period", "evidence=200000"], "1 to 146000"),
        (&["--lock-by", "blob"], "version or container"),
        (&["--agent-type", "Robot"], "none of"),
        (&["--create-group"], "--location"),
        (&["--nonsense", "x"], "no option"),
        (&["--agent-principal"], "needs a value"),
    ] {
        let refused = setup(Cloud::Empty, more);
        assert_eq!((refused.code, refused.calls.len()), (2, 0), "{more:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(says), "{more:?}: {}", refused.stderr);
    }
    let help = setup(Cloud::Empty, &["--help"]);
    let script = shipped("setup.sh");
    let flags: BTreeSet<&str> = script.lines().filter_map(|l| l.trim().strip_prefix("--")?.split_once(") ").map(|(f, _)| f)).collect();
    assert!(
        flags.len() > 15 && flags.iter().all(|flag| help.stdout.contains(&format!("--{flag}")) || ["*", "help | -h"].contains(flag)),
        "{flags:?}"
    );
}

/// A policy around the part that the script prints.
fn policy_with(vault: &str) -> String {
    let production = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/production.yaml")).unwrap();
    let (before, rest) = production.split_once("\nvault:\n").unwrap();
    let after = &rest[rest.find("\n# Whom everything is sealed to").unwrap()..];
    let vault = vault.trim_end().replace("  lock:", "  genesis_file: keys/genesis.json\n  lock:");
    format!("{before}\n{vault}\n{after}")
        .replace("<age1… of the identity that restores>", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
        .replace("<age1… of the identity in the safe>", "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg")
        .replace("<contoso.onmicrosoft.com>", "contoso.onmicrosoft.com")
        .replace("<client id>", "4f3c1f0e-9d53-4f6a-8c0b-5b1f6f2f7a10")
}

#[test]
fn what_it_prints_is_a_policy() {
    let renamed = ["--container", "evidence=proofs", "--no-roles"];
    for (cloud, more, says) in [
        (Cloud::Empty, &[][..], "by: version"),
        (Cloud::Empty, &renamed, "evidence: proofs"),
        (Cloud::Empty, &["--lock-by", "container"], "by: container"),
        (Cloud::Government, &[], "arm_endpoint: https://management.usgovcloudapi.net"),
    ] {
        let done = setup(cloud, &[&NEW[..], more].concat());
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert!(done.stdout.contains(says), "{}", done.stdout);
        let sandbox = Sandbox::new();
        sandbox.write("backstop.yaml", policy_with(&done.stdout));
        let report = sandbox.json(&["policy", "check"], 0).remove(0);
        assert_eq!(report["ok"], true, "{report:#}");
    }
    let renamed = setup(Cloud::Empty, &[&NEW[..], &renamed].concat());
    let rules = value_of(renamed.changes()[renamed.place("storage account management-policy create")], "--policy");
    assert!(rules.contains("\"proofs/\"") && !rules.contains("\"evidence/\""), "the rules follow the names: {rules}");
}
