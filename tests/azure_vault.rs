//! A vault in Azure Blob Storage, through the command line, on a double of the service that enforces immutability:
//! what is locked is what the service shows, what somebody puts over it is told and harms nothing, and a fault of the
//! service loses nothing and commits nothing that is not locked.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/azure.rs"]
mod azure;
#[path = "support/blob/mod.rs"]
mod blob;
#[path = "support/mod.rs"]
mod support;

use std::fs;

use azure::{CONTAINERS, Cloud, four_containers};
use blob::{BlobDouble, ContainerOptions, Damage, Fault, Kind, Options, Role};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

const IDENTITY: &str = "keys/identity-1.txt";

fn fill(cloud: &Cloud, n: usize, salt: &str) {
    for i in 0..n {
        cloud.sandbox.write(&format!("tree/roles/{i}.json"), format!("{{\"id\":\"{i}\",\"salt\":\"{salt}\"}}"));
    }
}

fn restored_equals(cloud: &Cloud, run: &str, to: &str) {
    cloud.json(&["restore", "files", run, "--to", to, "--identity", IDENTITY], 0);
    let same = cloud.sandbox.shell(&format!("diff -r tree {to}"));
    assert_eq!(same.code, 0, "{}", same.stdout);
}

fn kinds(report: &serde_json::Value) -> Vec<&str> {
    report["findings"].as_array().unwrap().iter().map(|f| f["kind"].as_str().unwrap()).collect()
}

#[test]
fn everything_is_locked_as_the_policy_says_and_attested_as_the_service_shows() {
    let cloud = Cloud::new();
    fill(&cloud, 20, "a");
    let snapshot = cloud.json(&["snapshot"], 0).remove(0);
    cloud.sandbox.write("log.ndjson", "{\"id\":\"1\",\"createdDateTime\":\"2026-11-01T00:00:00Z\"}\n");
    cloud.json(&["import", "log", "log.ndjson"], 0);
    let report = cloud.json(&["verify"], 0).remove(0);
    assert_eq!(report["ok"], true);
    let blobs = cloud.blobs();
    let mut attested = 0;
    for line in cloud.json(&["ls"], 0) {
        let shown = cloud.json(&["show", line["run"].as_str().unwrap()], 0).remove(0);
        for object in shown["statement"]["predicate"]["objects"].as_array().unwrap_or_else(|| panic!("{shown}")) {
            let stored = &blobs[object["name"].as_str().unwrap()];
            assert_eq!(stored.len(), 1);
            assert_eq!(object["version"], stored[0]["version"], "the version is recorded");
            assert_eq!(object["lock"]["mode"], "locked");
            assert_eq!(object["lock"]["until"], stored[0]["lock"]["until"], "the lock is the service's");
            assert_eq!(object["lock"]["enforced_by"], "service");
            attested += 1;
        }
    }
    assert!(attested >= 6);
    for (name, versions) in &blobs {
        let until: Timestamp = versions[0]["lock"]["until"].as_str().unwrap().parse().unwrap();
        assert!(until > Timestamp::now() + SignedDuration::from_hours(24 * 365 * 7), "{name} is locked until {until}");
        // Who may delete everything else deletes nothing here.
        assert_eq!(cloud.raw("DELETE", name, "", &[], ""), 409, "{name}");
    }
    restored_equals(&cloud, snapshot["run"].as_str().unwrap(), "out");
}

#[test]
fn a_policy_maps_the_containers_to_an_estates_own() {
    let names = ["pim-config", "pim-logs", "pim-evidence", "pim-proof"];
    let containers = names.iter().map(|name| ContainerOptions::locking(name)).collect();
    let cloud = Cloud::bare(Options { containers, ..Options::default() });
    let maps: Vec<String> = CONTAINERS.iter().zip(names).map(|(logical, real)| format!("{logical}={real}")).collect();
    let more: Vec<&str> = maps.iter().flat_map(|map| ["--azure-container", map]).collect();
    assert_eq!(cloud.init(&more).code, 0);
    fill(&cloud, 3, "a");
    let run = cloud.json(&["snapshot"], 0).remove(0)["run"].as_str().unwrap().to_owned();
    assert!(cloud.blobs().keys().any(|name| name.starts_with("pim-config/tree/")));
    cloud.json(&["verify"], 0);
    restored_equals(&cloud, &run, "out");
}

#[test]
fn an_unchanged_night_costs_the_same_number_of_requests_however_old_the_vault_is() {
    let cloud = Cloud::new();
    fill(&cloud, 200, "a");
    cloud.json(&["snapshot"], 0);
    let night = || {
        cloud.double.reset_counts();
        cloud.json(&["snapshot"], 0);
        cloud.double.counts()
    };
    let second = night();
    for _ in 0..12 {
        night();
    }
    assert_eq!(night(), second);
    assert_eq!(second["PutBlob"], 2, "a manifest and an envelope: {second:?}");
    assert!(second.values().sum::<u64>() <= 20, "{second:?}");
    // Everything that only looks writes nothing.
    for (args, most) in [(vec!["verify"], 80), (vec!["ls"], 60), (vec!["policy", "check"], 0)] {
        cloud.double.reset_counts();
        cloud.json(&args, 0);
        let counts = cloud.double.counts();
        assert!(counts.values().sum::<u64>() <= most, "{args:?}: {counts:?}");
        assert!(counts.keys().all(|operation| operation.starts_with("Get") || operation.starts_with("List")), "{args:?}: {counts:?}");
    }
}

#[test]
fn what_was_proved_up_to_a_checkpoint_is_listed_not_fetched() {
    let cloud = Cloud::new();
    fill(&cloud, 5, "a");
    for _ in 0..15 {
        cloud.json(&["snapshot"], 0);
    }
    let kept = cloud.run(&["checkpoint", "--json"]);
    fs::write(cloud.sandbox.path("kept.json"), &kept.stdout).unwrap();
    cloud.json(&["snapshot"], 0);
    cloud.double.reset_counts();
    let whole = cloud.json(&["verify"], 0).remove(0);
    let all = cloud.double.counts();
    cloud.double.reset_counts();
    let since = cloud.json(&["verify", "--since", "kept.json"], 0).remove(0);
    let few = cloud.double.counts();
    assert_eq!(whole["attestations"], since["attestations"]);
    assert!(all["GetBlob"] >= 30, "{all:?}");
    assert!(few["GetBlob"] <= 14, "what a bundle holds is not fetched again: {few:?}");
    // But what is missing from the listing is seen.
    assert!(cloud.double.damage("attestations", "snapshot.tree/0000000007.json", None, Damage::Remove));
    let lost = cloud.json(&["verify", "--since", "kept.json"], 3).remove(0);
    assert!(kinds(&lost).contains(&"missing_attestation"), "{lost}");
}

#[test]
fn what_is_put_over_or_hidden_is_told_and_the_original_restores() {
    let cloud = Cloud::new();
    fill(&cloud, 10, "a");
    let run = cloud.json(&["snapshot"], 0).remove(0)["run"].as_str().unwrap().to_owned();
    let names: Vec<String> = cloud.blobs().into_keys().collect();
    for name in &names {
        cloud.shadow(name);
    }
    let report = cloud.json(&["verify"], 3).remove(0);
    let shadowed = kinds(&report).iter().filter(|k| **k == "shadowed").count();
    assert_eq!(shadowed, names.len(), "{report}");
    assert!(kinds(&report).iter().all(|k| ["shadowed"].contains(k) || *k == "kernel"), "{report}");
    restored_equals(&cloud, &run, "out-1");
    // Now the newer ones are deleted by name: an ordinary listing shows nothing of the vault any more.
    for name in &names {
        assert_eq!(cloud.raw("DELETE", name, "", &[], ""), 202, "{name}");
    }
    let report = cloud.json(&["verify"], 3).remove(0);
    assert_eq!(kinds(&report).iter().filter(|k| **k == "hidden").count(), names.len(), "{report}");
    restored_equals(&cloud, &run, "out-2");
    // And the agent goes on: the next number is not the hidden one.
    fill(&cloud, 10, "b");
    let next = cloud.json(&["snapshot"], 0).remove(0);
    assert_eq!(next["sequence"], 2);
    restored_equals(&cloud, next["run"].as_str().unwrap(), "out-3");
}

#[test]
fn a_number_that_was_taken_and_hidden_is_void_and_passed() {
    let cloud = Cloud::new();
    fill(&cloud, 3, "a");
    cloud.json(&["snapshot"], 0);
    cloud.shadow("attestations/snapshot.tree/0000000002.json");
    assert_eq!(cloud.raw("DELETE", "attestations/snapshot.tree/0000000002.json", "", &[], ""), 202);
    fill(&cloud, 3, "b");
    let next = cloud.json(&["snapshot"], 0).remove(0);
    assert_eq!(next["sequence"], 3, "create-if-absent would succeed at 2, and no reader would accept it");
    assert_eq!(cloud.json(&["verify"], 0)[0]["ok"], true);
}

#[test]
fn a_store_that_does_not_lock_is_refused_before_the_first_commit() {
    let ignoring = Options { ignores_locks: true, ..four_containers() };
    let plain = CONTAINERS.iter().map(|name| ContainerOptions::plain(name)).collect::<Vec<_>>();
    for (options, says) in [
        (Options { containers: plain.clone(), ..ignoring }, "no lock"),
        (Options { containers: plain.clone(), ..Options::default() }, "version-level immutability"),
    ] {
        let cloud = Cloud::bare(options);
        let ran = cloud.init(&[]);
        assert_eq!(ran.code, 5, "{}", ran.stderr);
        assert!(ran.stderr.contains(says), "{}", ran.stderr);
        assert_eq!(cloud.envelopes("vault"), 0, "nothing was committed");
    }
    // Unless the policy says so; then every attestation does as well.
    let cloud = Cloud::bare(Options { containers: plain, ..Options::default() });
    assert_eq!(cloud.init(&["--no-locks"]).code, 0);
    fill(&cloud, 3, "a");
    cloud.json(&["snapshot"], 0);
    let report = cloud.json(&["verify"], 0).remove(0);
    assert!(report["findings"].to_string().contains("without any lock"), "{report}");
    assert_eq!(cloud.json(&["ls"], 0)[0]["lock_mode"], "none");
}

#[test]
fn a_container_that_stops_locking_is_found_out_before_the_next_commit() {
    let cloud = Cloud::new();
    fill(&cloud, 3, "a");
    cloud.json(&["snapshot"], 0);
    cloud.double.configure(|o| o.ignores_locks = true);
    for name in CONTAINERS {
        cloud.double.put_container(ContainerOptions { versioning: true, ..ContainerOptions::plain(name) });
    }
    fill(&cloud, 3, "b");
    let said = cloud.fails(&["snapshot"], 5);
    assert!(said.contains("no lock at all"), "{said}");
    assert_eq!(cloud.envelopes("snapshot.tree"), 1, "nothing was committed that is not locked");
}

/// A policy with the secret of an application registration that has a role.
fn with_role(cloud: &Cloud, role: Role) -> (String, String) {
    let identity = cloud.double.options().identity(role).clone();
    cloud.sandbox.write("secret.txt", &identity.secret);
    let credential = format!("client_secret: {{ client_id: {}, secret_file: secret.txt }}", identity.client_id);
    (credential, cloud.double.options().tenant)
}

fn set_credential(cloud: &Cloud, role: Role) {
    let (credential, _) = with_role(cloud, role);
    cloud.credential(&cloud.double.origin(), &credential);
}

#[test]
fn the_agents_own_role_is_enough_and_the_built_in_one_is_not() {
    let cloud = Cloud::new();
    fill(&cloud, 3, "a");
    set_credential(&cloud, Role::Agent);
    let run = cloud.json(&["snapshot"], 0).remove(0)["run"].as_str().unwrap().to_owned();
    cloud.json(&["verify"], 0);
    restored_equals(&cloud, &run, "out");
    fill(&cloud, 3, "b");
    set_credential(&cloud, Role::Contributor);
    let said = cloud.fails(&["snapshot"], 5);
    assert!(said.contains("Storage Blob Data Contributor is not enough") && said.contains("runAsSuperUser"), "{said}");
    set_credential(&cloud, Role::Reader);
    let said = cloud.fails(&["snapshot"], 5);
    assert!(said.contains("may not"), "{said}");
    cloud.json(&["verify"], 0);
    assert_eq!(cloud.envelopes("snapshot.tree"), 1);
    cloud.sandbox.write("secret.txt", "wrong");
    let said = cloud.fails(&["snapshot"], 1);
    assert!(said.contains("AADSTS7000215") && said.contains("client"), "{said}");
}

#[test]
fn each_credential_that_cannot_serve_is_named_with_the_mend() {
    let cloud = Cloud::new();
    fill(&cloud, 3, "a");
    let good = cloud.sas.lock().unwrap().clone();
    let now = cloud.double.now();
    let hour = SignedDuration::from_hours(1);
    let cases = [
        (cloud.double.options().account_key, 2, "account's key"),
        ("DefaultEndpointsProtocol=https;AccountName=a;AccountKey=abc==".into(), 2, "account's key"),
        (cloud.double.sas("rwcl", now - hour, now + hour), 5, "permission i"),
        (cloud.double.sas("rl", now - hour, now + hour), 5, "may not"),
        (cloud.double.sas("rwcli", now - hour * 2, now - hour), 2, "ended at"),
        (good.replace("sig=", "sig=AAAA"), 1, "Signature"),
        ("nonsense".into(), 2, "no shared access signature"),
    ];
    for (sas, code, says) in cases {
        *cloud.sas.lock().unwrap() = sas.clone();
        let said = cloud.fails(&["snapshot"], code);
        assert!(said.contains(says) && said.contains("help:"), "{sas}: {said}");
        let signature = sas.split("sig=").nth(1).unwrap_or(&sas);
        assert!(!said.contains(signature), "no secret in a message: {said}");
    }
    *cloud.sas.lock().unwrap() = good;
    assert_eq!(cloud.envelopes("snapshot.tree"), 0);
    cloud.json(&["snapshot"], 0);
}

#[test]
fn a_sas_that_ends_in_the_middle_stops_the_run_and_the_next_carries_on() {
    let cloud = Cloud::new();
    // Incompressible, so that there are several segments.
    let noise = cloud.sandbox.shell("mkdir -p tree/big; for i in $(seq 1 60); do head -c 1000000 /dev/urandom > tree/big/$i; done");
    assert_eq!(noise.code, 0);
    let now = cloud.double.now();
    *cloud.sas.lock().unwrap() = cloud.double.sas("rwcli", now - SignedDuration::from_hours(1), now + SignedDuration::from_secs(90));
    cloud.double.fault(Fault::once(Kind::Slow { ms: 300 }).on("PutBlob").times(0));
    let said = std::thread::scope(|scope| {
        let double = &cloud.double;
        scope.spawn(move || {
            while !double.dump().to_string().contains("segment-0001") {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            double.advance(SignedDuration::from_secs(100));
        });
        cloud.fails(&["snapshot"], 1)
    });
    assert!(said.contains("SAS is not valid now") && said.contains("carries on"), "{said}");
    assert_eq!(cloud.envelopes("snapshot.tree"), 0);
    cloud.double.clear_faults();
    *cloud.sas.lock().unwrap() = cloud.double.full_sas();
    let run = cloud.json(&["snapshot"], 0).remove(0);
    assert!(run["adopted_objects"].as_u64().unwrap() > 0, "what was stored is not sent again: {run}");
    restored_equals(&cloud, run["run"].as_str().unwrap(), "out");
    cloud.json(&["verify"], 0);
}

#[test]
fn every_fault_of_the_service_is_ridden_out_and_commits_once() {
    let operations = ["PutBlob", "ListBlobs", "GetBlob"];
    let faults: [fn() -> Kind; 6] = [
        || Kind::LostResponse,
        || Kind::Reset,
        || Kind::Status { status: 503, code: "ServerBusy".into(), retry_after: Some("1".into()) },
        || Kind::Status { status: 503, code: "ServerBusy".into(), retry_after: None },
        || Kind::Status { status: 500, code: "InternalError".into(), retry_after: None },
        || Kind::Truncate { at: 20 },
    ];
    let cloud = Cloud::new();
    let mut number = 0;
    for operation in operations {
        for fault in faults {
            for skip in [0, 1, 3] {
                cloud.double.fault(Fault::once(fault()).on(operation).after(skip));
            }
            number += 1;
            fill(&cloud, 5, &number.to_string());
            let run = cloud.json(&["snapshot"], 0).remove(0);
            assert_eq!(run["sequence"], number, "{operation} {:?}", fault());
            cloud.double.clear_faults();
        }
    }
    let report = cloud.json(&["verify"], 0).remove(0);
    assert!(!kinds(&report).contains(&"orphan"), "a lost success is recognised, not written twice: {report}");
    restored_equals(&cloud, "latest", "out");
}

#[test]
fn a_fault_that_stays_is_named_and_leaves_nothing_half_done() {
    let cloud = Cloud::new();
    fill(&cloud, 3, "a");
    let forever = |kind: Kind| Fault::once(kind).times(0);
    let cases = [
        (forever(Kind::ProxyPage { status: 200 }), 1, "does not answer as the Blob service does"),
        (forever(Kind::ProxyPage { status: 302 }), 1, "proxy"),
        (forever(Kind::DateOffset { seconds: 900 }), 1, "differ by more than 5 minutes"),
        (forever(Kind::DateOffset { seconds: -900 }), 1, "differ by more than 5 minutes"),
        (forever(Kind::Status { status: 403, code: "AuthorizationFailure".into(), retry_after: None }).on("ListBlobs"), 1, "may not list"),
    ];
    for (fault, code, says) in cases {
        cloud.double.fault(fault);
        let said = cloud.fails(&["snapshot"], code);
        assert!(said.contains(says) && said.contains("help:"), "{said}");
        cloud.double.clear_faults();
        assert_eq!(cloud.envelopes("snapshot.tree"), 0);
    }
    cloud.json(&["snapshot"], 0);
}

#[test]
fn nobody_at_the_address_is_try_again_later() {
    let cloud = Cloud::new();
    fill(&cloud, 3, "a");
    let policy = fs::read_to_string(cloud.sandbox.path("backstop.yaml")).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    cloud.sandbox.write("backstop.yaml", policy.replace(&cloud.double.origin(), &format!("http://127.0.0.1:{free}")));
    let said = cloud.fails(&["snapshot"], 75);
    assert!(said.contains("cannot reach") && said.contains("carries on"), "{said}");
}

#[test]
fn what_the_provider_loses_or_corrupts_is_named_and_never_silent() {
    let cloud = Cloud::new();
    fill(&cloud, 10, "a");
    cloud.json(&["snapshot"], 0);
    let (container, segment) = cloud.find(&["segment-0000"]);
    assert!(cloud.double.damage(&container, &segment, None, Damage::Flip { at: 100 }));
    let report = cloud.json(&["verify"], 3).remove(0);
    assert!(kinds(&report).contains(&"changed_object"), "{report}");
    let lost = cloud.json(&["restore", "files", "latest", "--to", "out", "--identity", IDENTITY], 3).remove(0);
    assert_eq!(lost["failed"].as_array().unwrap().len(), 10, "{lost}");
    assert!(cloud.double.damage(&container, &segment, None, Damage::Remove));
    let report = cloud.json(&["verify"], 3).remove(0);
    assert!(kinds(&report).contains(&"missing_object"), "{report}");
    // The next snapshot sees it and writes everything again.
    let next = cloud.json(&["snapshot"], 0).remove(0);
    assert_eq!(next["kind"], "base");
    restored_equals(&cloud, next["run"].as_str().unwrap(), "whole");
}

#[test]
fn one_bad_read_is_not_damage() {
    let cloud = Cloud::new();
    fill(&cloud, 10, "a");
    cloud.json(&["snapshot"], 0);
    cloud.double.fault(Fault::once(Kind::FlipByte { at: 50 }).on("GetBlob").named("segment-0000"));
    let report = cloud.json(&["verify"], 0).remove(0);
    assert!(kinds(&report).contains(&"unsound_read"), "{report}");
    cloud.double.fault(Fault::once(Kind::FlipByte { at: 50 }).on("GetBlob").named("segment-0000"));
    restored_equals(&cloud, "latest", "out");
}

#[test]
fn a_failover_in_the_middle_of_a_run_commits_nothing_on_what_was_lost() {
    let cloud = Cloud::new();
    let noise = cloud.sandbox.shell("mkdir -p tree/big; for i in $(seq 1 60); do head -c 1000000 /dev/urandom > tree/big/$i; done");
    assert_eq!(noise.code, 0);
    cloud.double.fault(Fault::once(Kind::Slow { ms: 300 }).on("PutBlob").times(0));
    let before = cloud.double.now();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let said = std::thread::scope(|scope| {
        let double = &cloud.double;
        scope.spawn(move || {
            while double.counts().get("PutBlob").copied().unwrap_or(0) < 8 {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            std::thread::sleep(std::time::Duration::from_millis(400));
            assert!(double.fail_over(before) > 0);
        });
        cloud.fails(&["snapshot"], 0)
    });
    assert!(said.contains("no longer stands") && said.contains("written again"), "{said}");
    cloud.double.clear_faults();
    let outcomes: Vec<String> =
        cloud.json(&["ls", "--chain", "snapshot.tree"], 0).iter().map(|line| line["outcome"].as_str().unwrap().to_owned()).collect();
    assert_eq!(outcomes, ["complete", "failed"], "the attempt that lost its objects is attested as failed");
    restored_equals(&cloud, "latest", "out");
    cloud.json(&["verify"], 0);
}

fn under_policy(state: &str, days: i64) -> Options {
    let containers = CONTAINERS.iter().map(|name| ContainerOptions::under_policy(name, state, days)).collect();
    Options { containers, ..Options::default() }
}

#[test]
fn containers_that_lock_by_their_own_policy_serve_as_well() {
    for (state, days, code) in [("Locked", 3000, 0), ("Unlocked", 3000, 5), ("Locked", 365, 5)] {
        let cloud = Cloud::bare(under_policy(state, days));
        let (credential, tenant) = with_role(&cloud, Role::Owner);
        let init = cloud.init(&["--azure-credential", &credential, "--azure-tenant", &tenant]);
        assert_ne!(init.code, 0, "the double's authority is not the public one");
        let policy = fs::read_to_string(cloud.sandbox.path("backstop.yaml")).unwrap();
        let origin = cloud.double.origin();
        let said = policy
            .replace("    credential:", &format!("    authority: {origin}\n    arm_endpoint: {origin}\n    credential:"))
            .replace("by: version", "by: container");
        cloud.sandbox.write("backstop.yaml", said);
        let init = cloud.init(&["--azure-credential", &credential, "--azure-tenant", &tenant]);
        assert_eq!(init.code, code, "{state} {days}: {}", init.stderr);
        if code != 0 {
            assert_eq!(cloud.envelopes("vault"), 0, "{state} {days}");
            continue;
        }
        fill(&cloud, 4, "a");
        let run = cloud.json(&["snapshot"], 0).remove(0)["run"].as_str().unwrap().to_owned();
        let shown = cloud.json(&["show", &run], 0).remove(0);
        let lock = &shown["statement"]["predicate"]["objects"][0]["lock"];
        assert_eq!(lock["container"]["interval_days"], days, "{shown}");
        assert_eq!(lock["container"]["state"], "Locked");
        assert!(lock["container"]["etag"].as_str().is_some_and(|etag| !etag.is_empty()));
        cloud.json(&["verify"], 0);
        restored_equals(&cloud, &run, "out");
        for name in cloud.blobs().keys() {
            assert_eq!(cloud.raw("PUT", name, "", &[("x-ms-blob-type", "BlockBlob")], "x"), 409, "overwriting is refused outright");
            assert_eq!(cloud.raw("DELETE", name, "", &[], ""), 409);
        }
    }
}

#[test]
fn archived_objects_are_told_brought_back_and_waited_for() {
    let cloud = Cloud::new();
    fill(&cloud, 10, "a");
    let run = cloud.json(&["snapshot"], 0).remove(0)["run"].as_str().unwrap().to_owned();
    let archived: Vec<String> = cloud.blobs().into_keys().filter(|n| n.starts_with("config-snapshots/")).collect();
    for name in &archived {
        assert_eq!(cloud.raw("PUT", name, "&comp=tier", &[("x-ms-access-tier", "Archive")], ""), 200);
    }
    let report = cloud.json(&["verify"], 0).remove(0);
    assert!(kinds(&report).contains(&"archived"), "{report}");
    // Opening everything says the same, and calls nothing lost; one segment alone there hides nothing else.
    let deep = cloud.json(&["verify", "--deep", "--identity", IDENTITY], 0).remove(0);
    assert_eq!(kinds(&deep).iter().filter(|k| **k == "archived").count(), 1, "{deep}");
    let half = Cloud::new();
    fill(&half, 10, "a");
    half.json(&["snapshot"], 0);
    let (container, segment) = half.find(&["segment-0000"]);
    assert_eq!(half.raw("PUT", &format!("{container}/{segment}"), "&comp=tier", &[("x-ms-access-tier", "Archive")], ""), 200);
    let deep = half.json(&["verify", "--deep", "--identity", IDENTITY], 0).remove(0);
    assert!(!kinds(&deep).contains(&"lost_record"), "{deep}");
    assert!(deep["records"].as_u64().unwrap() < 10, "{deep}");
    let searched = half.fails(&["find", "roles", "--identity", IDENTITY], 75);
    assert!(searched.contains("1 objects") && !searched.contains("lost"), "{searched}");
    let restore = ["restore", "files", &run, "--to", "out", "--identity", IDENTITY];
    let said = cloud.fails(&restore, 75);
    assert!(said.contains("2 objects") && said.contains("up to 15 h") && said.contains("--rehydrate"), "{said}");
    assert!(!cloud.sandbox.path("out").join("roles").exists());
    // Started only: the manifest first, since nothing else is known to be needed.
    let start: Vec<&str> = restore.iter().copied().chain(["--rehydrate", "standard", "--no-wait"]).collect();
    cloud.fails(&start, 75);
    let counts = cloud.double.counts();
    cloud.fails(&start, 75);
    assert_eq!(cloud.double.counts().get("SetBlobTier"), counts.get("SetBlobTier"), "what is on its way is not asked for again");
    let said = std::thread::scope(|scope| {
        let double = &cloud.double;
        let waiting = scope.spawn(|| cloud.run(&[&restore[..], &["--rehydrate", "standard"]].concat()));
        while !waiting.is_finished() {
            std::thread::sleep(std::time::Duration::from_millis(200));
            double.advance(SignedDuration::from_hours(16));
        }
        waiting.join().unwrap()
    });
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains("on their way back") && said.stderr.contains("are back"), "{}", said.stderr);
    assert_eq!(cloud.sandbox.shell("diff -r tree out").code, 0);
}

#[test]
fn a_double_that_is_asked_by_many_agents_at_once_keeps_one_chain() {
    let cloud = Cloud::new();
    fill(&cloud, 5, "a");
    cloud.json(&["snapshot"], 0);
    for n in 0..6 {
        cloud.sandbox.write(&format!("log-{n}.ndjson"), format!("{{\"id\":\"{n}\",\"createdDateTime\":\"2026-11-01T00:00:00Z\"}}\n"));
    }
    let ran: Vec<i32> = std::thread::scope(|scope| {
        let sas = cloud.sas.lock().unwrap().clone();
        let sandbox = &cloud.sandbox;
        let agents: Vec<_> = (0..6)
            .map(|n| {
                let (sas, file) = (sas.clone(), format!("log-{n}.ndjson"));
                scope.spawn(move || sandbox.backstop_with(&["import", "log", &file], &[("VAULT_SAS", &sas)]).code)
            })
            .collect();
        agents.into_iter().map(|a| a.join().unwrap()).collect()
    });
    assert!(ran.iter().all(|code| [0, 75].contains(code)), "{ran:?}");
    let complete = cloud.json(&["ls", "--chain", "export.log"], 0).iter().filter(|l| l["outcome"] == "complete").count();
    assert_eq!(complete, ran.iter().filter(|code| **code == 0).count(), "{ran:?}");
    cloud.json(&["verify"], 0);
}

#[test]
fn https_only_but_for_this_machine() {
    let cloud = Cloud::bare(four_containers());
    let ran = cloud.sandbox.backstop(&["init", "--dir", ".", "--azure", "http://pimvault.blob.core.windows.net"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("not encrypted"), "{}", ran.stderr);
    let ran =
        cloud.sandbox.backstop(&["init", "--dir", ".", "--azure", &format!("{}?{}", cloud.double.endpoint(), cloud.double.full_sas())]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("does not belong into a policy") && !ran.stderr.contains("sig="), "{}", ran.stderr);
    let _: &BlobDouble = &cloud.double;
}

#[test]
fn a_restore_test_skips_the_archive_tier_and_is_not_misled_by_what_was_put_over_an_object() {
    let cloud = Cloud::new();
    fill(&cloud, 10, "a");
    cloud.json(&["snapshot"], 0);
    let test = ["restore-test", "--identity", IDENTITY, "--key", "keys/tester.key"];
    let whole = cloud.json(&test, 0).remove(0);
    assert_eq!((&whole["outcome"], &whole["coverage"]), (&json!("complete"), &json!(1.0)), "{whole}");
    // Another version over a segment changes nothing: the one that was attested is read.
    let (container, segment) = cloud.find(&["segment-0000"]);
    cloud.shadow(&format!("{container}/{segment}"));
    assert_eq!(cloud.json(&test, 0)[0]["coverage"], 1.0);
    // What lies in the archive tier is not lost, and not proved.
    let half = Cloud::new();
    fill(&half, 10, "a");
    half.json(&["snapshot"], 0);
    let (container, segment) = half.find(&["segment-0000"]);
    assert_eq!(half.raw("PUT", &format!("{container}/{segment}"), "&comp=tier", &[("x-ms-access-tier", "Archive")], ""), 200);
    let part = half.json(&test, 6).remove(0);
    assert_eq!((&part["outcome"], &part["problems"]), (&json!("partial"), &json!([])), "{part}");
    assert!(part["coverage"].as_f64().unwrap() < 1.0 && part["skipped"].to_string().contains("archive tier"), "{part}");
    let status = half.json(&["status"], 0).remove(0);
    assert!(status["findings"].as_array().unwrap().iter().any(|f| f["kind"] == "restore_test_partial"), "{status}");
    let estimate = half.json(&["restore", "files", "tree", "--estimate"], 0).remove(0);
    assert_eq!(estimate["rehydration_seconds"], 54_000, "{estimate}");
}

/// What the service does not give for a while is not gone: a damaged attestation whose bundle cannot be had now is not
/// taken for one that was never made.
#[test]
fn a_bundle_that_cannot_be_read_for_a_while_is_no_absence() {
    let cloud = Cloud::new();
    cloud.sandbox.write("tree/a.json", "{\"n\":1}");
    cloud.json(&["snapshot"], 0);
    cloud.sandbox.write("tree/a.json", "{\"n\":2}");
    cloud.json(&["snapshot"], 0);
    cloud.json(&["checkpoint"], 0);
    assert!(cloud.double.damage("attestations", "snapshot.tree/0000000002.json", None, Damage::Flip { at: 100 }));
    let restore = |to: &str, code| cloud.json(&["restore", "files", "tree", "--to", to, "--identity", "keys/identity-1.txt"], code);
    assert_eq!(restore("whole", 0)[0]["failed"], json!([]));
    assert!(fs::read_to_string(cloud.sandbox.path("whole/a.json")).unwrap().contains('2'), "from the bundle");
    let busy = Kind::Status { status: 503, code: "ServerBusy".into(), retry_after: None };
    cloud.double.fault(Fault::once(busy).times(0).on("GetBlob").named("bundles/"));
    let ran = cloud.run(&["restore", "files", "tree", "--to", "older", "--identity", "keys/identity-1.txt"]);
    assert!(ran.code == 75 && ran.stderr.contains("busy"), "{} {}{}", ran.code, ran.stdout, ran.stderr);
    assert!(!cloud.sandbox.path("older/a.json").exists(), "an older state is not brought back in its place");
}
