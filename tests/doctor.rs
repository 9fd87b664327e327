//! `doctor` says what is really in force: a healthy account gives no error, and each thing that is broken gives its
//! finding, with what mends it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/azure.rs"]
mod azure;
#[path = "support/blob/mod.rs"]
mod blob;
#[path = "support/mod.rs"]
mod support;

use std::fs;

use azure::{CONTAINERS, Cloud, four_containers};
use blob::{Arm, ContainerOptions, Fault, Kind, Options, Role};
use jiff::SignedDuration;
use serde_json::{Value, json};
use support::Sandbox;

/// An account as deploy/azure makes it.
fn sound() -> Options {
    Options {
        soft_delete_days: Some(30),
        arm: Arm {
            container_delete_retention_days: Some(30),
            management_policy: Some(lifecycle(
                &["config-snapshots/", "audit-logs/", "evidence/"],
                json!({
                    "tierToCool": { "daysAfterCreationGreaterThan": 365 }, "tierToArchive": { "daysAfterCreationGreaterThan": 1095 }
                }),
            )),
            ..Arm::default()
        },
        ..four_containers()
    }
}

fn lifecycle(prefixes: &[&str], actions: Value) -> Value {
    json!({ "policy": { "rules": [{
        "name": "tiers", "enabled": true, "type": "Lifecycle",
        "definition": { "filters": { "blobTypes": ["blockBlob"], "prefixMatch": prefixes }, "actions": { "baseBlob": actions } }
    }] } })
}

/// A vault whose agent has a role and a token; keys lie where they belong.
fn with_role(role: Role) -> Cloud {
    let cloud = Cloud::bare(sound());
    cloud.double.put_container(ContainerOptions::plain("backstop-leases"));
    let ran = cloud.init(&[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    tidy(&cloud);
    let mut policy = fs::read_to_string(cloud.sandbox.path("backstop.yaml")).unwrap();
    let options = cloud.double.options();
    let identity = options.identity(role);
    cloud.sandbox.write("agent-secret.txt", &identity.secret);
    let said = format!(
        "tenant: {0}\n    authority: {1}\n    arm_endpoint: {1}\n    credential: {{ client_secret: {{ client_id: {2}, secret_file: agent-secret.txt }} }}",
        options.tenant,
        cloud.double.origin(),
        identity.client_id
    );
    policy = policy.replace("credential: { sas: { env: VAULT_SAS } }", &said);
    cloud.sandbox.write("backstop.yaml", policy);
    // With the keys, every SAS that they sign is shut out: tokens only from here on.
    cloud.double.configure(|o| o.arm.allow_shared_key_access = false);
    cloud.double.configure(|o| o.identities.iter_mut().for_each(|i| i.arm = true));
    cloud
}

fn tidy(cloud: &Cloud) {
    fs::create_dir_all(cloud.sandbox.path("elsewhere")).unwrap();
    for name in ["identity-1.txt", "identity-2.txt", "operator.key", "tester.key"] {
        fs::rename(cloud.sandbox.path(&format!("keys/{name}")), cloud.sandbox.path(&format!("elsewhere/{name}"))).unwrap();
    }
    let policy = fs::read_to_string(cloud.sandbox.path("backstop.yaml")).unwrap();
    cloud.sandbox.write(
        "backstop.yaml",
        policy.replace(
            "jobs: {}",
            "jobs: { nightly: { snapshot: [tree], schedule: \"0 0 2 * * *\" }, delta: { snapshot: [tree], schedule: \"0 */30 * * * *\" } }\nnotify: { file: { path: alerts.ndjson } }",
        ),
    );
}

fn report(cloud: &Cloud) -> (Value, i32) {
    let ran = cloud.run(&["doctor", "--json"]);
    let report = ran.json().into_iter().next().unwrap_or_else(|| panic!("{} {}", ran.code, ran.stderr));
    (report, ran.code)
}

/// Whether a finding of a severity says all of these words.
fn has(report: &Value, severity: &str, words: &[&str]) -> bool {
    let list = report["findings"].as_array().unwrap();
    let fits =
        |f: &&Value| f["severity"] == severity && words.iter().all(|w| f["message"].as_str().unwrap().contains(w) || f["subject"] == *w);
    let found = list.iter().find(fits);
    // Whatever is wrong comes with what mends it.
    found.is_some_and(|f| severity == "info" || f["mend"].as_str().is_some_and(|mend| mend.len() > 10))
}

#[test]
fn nights_without_people_need_leases_and_somebody_who_is_told() {
    let cloud = with_role(Role::Agent);
    let (well, _) = report(&cloud);
    assert!(has(&well, "info", &["leases"]) && has(&well, "info", &["alerts", "1 channels"]), "{well:#}");
    let policy = fs::read_to_string(cloud.sandbox.path("backstop.yaml")).unwrap();
    let without = policy.replace("notify: { file: { path: alerts.ndjson } }", "").replace("  azure:\n", "  azure:\n    leases: nowhere\n");
    cloud.sandbox.write("backstop.yaml", without);
    let (report, code) = report(&cloud);
    assert_eq!(code, 0, "{report:#}");
    assert!(has(&report, "warning", &["leases", "nowhere"]) && has(&report, "warning", &["alerts", "nobody is told"]), "{report:#}");
}

#[test]
fn a_sound_account_with_the_agents_own_role_has_no_error_and_no_warning() {
    let cloud = with_role(Role::Agent);
    let (report, code) = report(&cloud);
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(report["ok"], true);
    let wrong: Vec<&Value> = report["findings"].as_array().unwrap().iter().filter(|f| f["severity"] != "info").collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (subject, words) in [
        ("lock", "the service shows it"),
        ("create", "created once"),
        ("rights", "cannot delete"),
        ("clock", "agree"),
        ("versioning", "kept"),
        ("containers", "its own lock"),
        ("soft_delete", "brought back"),
        ("lifecycle", "delete nothing"),
        ("signing_key", "valid signer"),
        ("identities", "cannot read"),
        ("recipients", "2 recipients"),
        ("genesis", "trust starts"),
        ("disk", "free"),
        ("schedule", "nightly"),
    ] {
        assert!(has(&report, "info", &[subject, words]), "{subject}: {report:#}");
    }
    // What it put is no part of the vault.
    assert_eq!(cloud.json(&["verify"], 0)[0]["findings"].as_array().unwrap().iter().filter(|f| f["kind"] == "stray_object").count(), 0);
}

#[test]
fn everything_that_is_broken_has_its_finding() {
    type Break = fn(&Cloud);
    let cases: &[(&str, Break, &str, &[&str])] = &[
        ("versioning", |c| c.double.configure(|o| o.arm.is_versioning_enabled = false), "error", &["versioning", "versioning is off"]),
        ("namespace", |c| c.double.configure(|o| o.hierarchical_namespace = true), "error", &["hierarchical namespace"]),
        ("restore", |c| c.double.configure(|o| o.arm.restore_policy_days = Some(7)), "error", &["point-in-time restore"]),
        ("tracking", |c| c.double.configure(|o| o.arm.last_access_time_tracking = true), "warning", &["last-access tracking"]),
        ("keys", |c| c.double.configure(|o| o.arm.allow_shared_key_access = true), "warning", &["account keys are allowed"]),
        ("tls", |c| c.double.configure(|o| o.arm.minimum_tls_version = "TLS1_0".into()), "warning", &["older than 1.2"]),
        ("http", |c| c.double.configure(|o| o.arm.supports_https_traffic_only = false), "warning", &["plain http"]),
        ("public", |c| c.double.configure(|o| o.arm.allow_blob_public_access = true), "warning", &["made public"]),
        ("one region", |c| c.double.configure(|o| o.sku = "Standard_LRS".into()), "warning", &["Standard_LRS", "only copy"]),
        ("soft delete", |c| c.double.configure(|o| o.soft_delete_days = None), "warning", &["soft_delete", "is off"]),
        ("arm", |c| c.double.configure(|o| o.arm.refuse = true), "warning", &["account", "could not be looked at"]),
        ("no rules", |c| c.double.configure(|o| o.arm.management_policy = None), "warning", &["lifecycle", "no lifecycle rules"]),
        (
            "deletion",
            |c| {
                c.double.configure(|o| {
                    o.arm.management_policy = Some(lifecycle(&[], json!({ "delete": { "daysAfterCreationGreaterThan": 2555 } })))
                })
            },
            "error",
            &["lifecycle", "on a timer"],
        ),
        (
            "early archive",
            |c| {
                c.double.configure(|o| {
                    o.arm.management_policy =
                        Some(lifecycle(&["config-snapshots/"], json!({ "tierToArchive": { "daysAfterCreationGreaterThan": 7 } })));
                });
            },
            "error",
            &["lifecycle", "after 7 days", "15 h"],
        ),
        (
            "archived attestations",
            |c| {
                c.double.configure(|o| {
                    o.arm.management_policy =
                        Some(lifecycle(&["attestations/"], json!({ "tierToArchive": { "daysAfterCreationGreaterThan": 900 } })));
                });
            },
            "error",
            &["lifecycle", "archives attestations"],
        ),
        (
            "container without locks",
            |c| c.double.put_container(ContainerOptions { versioning: true, ..ContainerOptions::plain("evidence") }),
            "error",
            &["containers", "evidence", "no version-level immutability"],
        ),
        ("clock", |c| c.double.fault(Fault::once(Kind::DateOffset { seconds: 900 }).times(0)), "error", &["clock", "refused"]),
        ("a little off", |c| c.double.fault(Fault::once(Kind::DateOffset { seconds: 120 }).times(0)), "warning", &["clock", "apart"]),
        (
            "proxy",
            |c| c.double.fault(Fault::once(Kind::ProxyPage { status: 200 }).on("GetContainerProperties").times(0)),
            "error",
            &["store", "does not answer as the Blob service"],
        ),
        (
            "locks ignored",
            |c| {
                c.double.configure(|o| o.ignores_locks = true);
                for name in CONTAINERS {
                    c.double.put_container(ContainerOptions { versioning: true, version_level: false, ..ContainerOptions::plain(name) });
                }
            },
            "error",
            &["no version-level immutability"],
        ),
        ("wrong secret", |c| drop(c.sandbox.write("agent-secret.txt", "wrong")), "error", &["AADSTS7000215"]),
        ("secret gone", |c| fs::remove_file(c.sandbox.path("agent-secret.txt")).unwrap(), "error", &["credential", "agent-secret.txt"]),
        (
            "identity here",
            |c| _ = fs::copy(c.sandbox.path("elsewhere/identity-1.txt"), c.sandbox.path("keys/mine.txt")).unwrap(),
            "warning",
            &["identities", "mine.txt", "every backup"],
        ),
        (
            "operator here",
            |c| _ = fs::copy(c.sandbox.path("elsewhere/operator.key"), c.sandbox.path("keys/operator.key")).unwrap(),
            "warning",
            &["operator.key", "dispose"],
        ),
        (
            "key readable",
            |c| {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(c.sandbox.path("keys/agent.key"), fs::Permissions::from_mode(0o644)).unwrap();
            },
            "warning",
            &["signing_key", "read by others"],
        ),
        (
            "another's key",
            |c| _ = fs::copy(c.sandbox.path("elsewhere/tester.key"), c.sandbox.path("keys/agent.key")).unwrap(),
            "error",
            &["signing_key", "another role"],
        ),
        ("no key", |c| fs::remove_file(c.sandbox.path("keys/agent.key")).unwrap(), "error", &["signing_key", "nothing can be committed"]),
        ("genesis gone", |c| fs::remove_file(c.sandbox.path("keys/genesis.json")).unwrap(), "error", &["vault", "genesis"]),
        (
            "no jobs",
            |c| {
                let policy = fs::read_to_string(c.sandbox.path("backstop.yaml")).unwrap();
                let until = policy.find("jobs:").unwrap();
                c.sandbox.write("backstop.yaml", format!("{}jobs: {{}}\n", &policy[..until]));
            },
            "warning",
            &["schedule", "nothing runs by itself"],
        ),
    ];
    for (name, break_it, severity, words) in cases {
        let cloud = with_role(Role::Agent);
        break_it(&cloud);
        let (report, code) = report(&cloud);
        assert!(has(&report, severity, words), "{name}: {report:#}");
        assert_eq!(code, i32::from(report["ok"] == false), "{name}");
        assert_eq!(report["ok"] == false, report["findings"].as_array().unwrap().iter().any(|f| f["severity"] == "error"), "{name}");
        if *severity == "error" {
            assert_eq!(code, 1, "{name}");
        }
    }
}

#[test]
fn a_role_that_cannot_lock_or_can_delete_is_told() {
    for (role, severity, words) in [
        (Role::Contributor, "error", ["lock", "Contributor is not enough"]),
        (Role::Owner, "warning", ["rights", "can delete"]),
        (Role::Reader, "error", ["lock", "may not"]),
    ] {
        let (report, _) = report(&with_role(role));
        assert!(has(&report, severity, &words), "{role:?}: {report:#}");
    }
}

#[test]
fn a_missing_container_is_told_with_the_command_that_makes_it() {
    let cloud = Cloud::bare(Options {
        containers: CONTAINERS.iter().filter(|c| **c != "evidence").map(|name| ContainerOptions::locking(name)).collect(),
        ..sound()
    });
    let ran = cloud.init(&[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let (report, code) = report(&cloud);
    assert_eq!(code, 1);
    assert!(has(&report, "error", &["containers", "no container evidence"]), "{report:#}");
    assert!(report.to_string().contains("az storage container-rm create --storage-account pimvault --name evidence --enable-vlw true"));
}

#[test]
fn a_sas_is_judged_by_what_it_allows_and_when_it_ends() {
    let cloud = Cloud::bare(sound());
    cloud.double.put_container(ContainerOptions::plain("backstop-leases"));
    let ran = cloud.init(&[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    tidy(&cloud);
    let now = cloud.double.now();
    let (hour, year) = (SignedDuration::from_hours(1), SignedDuration::from_hours(24 * 365));
    let cases = [
        (cloud.double.sas("rclwi", now - hour, now + year), "info", vec!["credential", "rclwi"]),
        (cloud.double.sas("rclwid", now - hour, now + year), "warning", vec!["credential", "permission d"]),
        (cloud.double.sas("rclw", now - hour, now + year), "error", vec!["credential", "cannot lock"]),
        (cloud.double.sas("rli", now - hour, now + year), "error", vec!["credential", "cannot write"]),
        (cloud.double.sas("rclwi", now - hour, now + hour * 48), "warning", vec!["credential", "from then on no backup"]),
        (cloud.double.sas("rclwi", now - hour * 3, now - hour), "error", vec!["credential", "ended at"]),
        (cloud.double.options().account_key, "error", vec!["credential", "account's key"]),
    ];
    for (sas, severity, words) in cases {
        *cloud.sas.lock().unwrap() = sas.clone();
        let (report, _) = report(&cloud);
        assert!(has(&report, severity, &words), "{sas}: {report:#}");
        assert!(!report.to_string().contains(sas.split("sig=").nth(1).unwrap_or(&sas)), "no secret in a report");
    }
    // What a SAS cannot look at is said.
    *cloud.sas.lock().unwrap() = cloud.double.sas("rclwi", now - hour, now + year);
    assert!(has(&report(&cloud).0, "warning", &["account", "could not be looked at"]));
}

#[test]
fn containers_that_lock_by_a_policy_of_their_own_must_outlast_the_retention() {
    for (state, days, severity, words) in [
        ("Locked", 2800, "info", ["containers", "for 2800 days"]),
        ("Locked", 2555, "error", ["containers", "shorter than the policy's retention"]),
        ("Unlocked", 2800, "error", ["containers", "is not locked"]),
    ] {
        let cloud = with_role(Role::Agent);
        for name in CONTAINERS {
            cloud.double.put_container(ContainerOptions::under_policy(name, state, days));
        }
        let policy = fs::read_to_string(cloud.sandbox.path("backstop.yaml")).unwrap();
        cloud.sandbox.write("backstop.yaml", policy.replace("by: version", "by: container"));
        let (report, _) = report(&cloud);
        assert!(has(&report, severity, &words), "{state} {days}: {report:#}");
    }
}

#[test]
fn nothing_at_the_address_is_an_error_that_says_so() {
    let cloud = with_role(Role::Agent);
    let policy = fs::read_to_string(cloud.sandbox.path("backstop.yaml")).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = cloud.double.endpoint();
    cloud.sandbox.write("backstop.yaml", policy.replace(&endpoint, &format!("http://127.0.0.1:{free}/pimvault")));
    let (report, code) = report(&cloud);
    assert_eq!(code, 1);
    assert!(has(&report, "error", &["store", "cannot reach"]), "{report:#}");
}

#[test]
fn a_directory_is_said_to_be_what_it_is() {
    let sandbox = Sandbox::new();
    sandbox.init();
    let ran = sandbox.backstop(&["doctor", "--json"]);
    let report = ran.json().remove(0);
    let shown = if sandbox.objects().iter().any(|o| o.starts_with("attestations/canaries/")) { "canary" } else { "none" };
    assert_eq!(shown, "canary");
    let sidecar = sandbox.shell("cat vault/attestations/canaries/.*.lock").stdout;
    let kernel = sidecar.contains("kernel");
    let (severity, words) = if kernel { ("info", ["lock", "kernel's immutable flag"]) } else { ("warning", ["lock", "advisory"]) };
    assert!(has(&report, severity, &words), "{report:#}");
    assert!(has(&report, "warning", &["identities", "identity-1.txt"]), "{report:#}");
    let policy = fs::read_to_string(sandbox.path("backstop.yaml")).unwrap();
    sandbox.write("backstop.yaml", policy.replace("mode: locked", "mode: none"));
    let ran = sandbox.backstop(&["doctor", "--json"]);
    assert_eq!(ran.code, 1);
    assert!(has(&ran.json()[0], "error", &["lock", "nothing is protected"]), "{}", ran.stdout);
}
