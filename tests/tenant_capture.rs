//! What a tenant has is captured whole, or the snapshot says what is missing: nothing that a service, a proxy or a
//! network does to an answer makes a record vanish, come twice or change, and nobody but the service gets a token.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/mod.rs"]
mod support;
#[path = "support/tenant.rs"]
mod tenant;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tenant::{Estate, Front, GRAPH_FOLDERS, judge};

/// The outcome of a collection and its code.
fn of<'v>(line: &'v Value, collection: &str) -> (&'v str, Option<&'v str>) {
    let found = &line["collections"][collection];
    (found["outcome"].as_str().unwrap_or_else(|| panic!("{collection}: {line}")), found["error_code"].as_str())
}

/// That all collections are complete but some, which ended as said.
fn all_complete_but(line: &Value, others: &[(&str, &str, &str)]) {
    for (name, ended) in line["collections"].as_object().unwrap() {
        let expected = others.iter().find(|(other, ..)| other == name).map_or(("complete", None), |(_, how, code)| (*how, Some(*code)));
        assert_eq!((ended["outcome"].as_str().unwrap(), ended["error_code"].as_str()), expected, "{name}");
    }
}

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} should be said:\n{text}");
    }
}

// ---- what is captured

#[test]
fn every_record_is_the_tenants_own() {
    for ragged in [false, true] {
        let estate = Estate::with(|o| {
            o.users = 2300;
            o.ragged_pages = ragged;
        });
        for source in ["entra", "azure"] {
            let (line, said) = estate.snapshot(source, 0);
            all_complete_but(&line, &[]);
            assert_eq!(said, "");
            assert_eq!(estate.holds(source, &format!("{source}-back")), line["entries"].as_u64().unwrap());
        }
        let (mut graph, mut seen) = (0, 0);
        for (collection, folder) in GRAPH_FOLDERS {
            graph += estate.count(collection);
            seen += fs::read_dir(estate.sandbox.path(&format!("entra-back/{folder}"))).unwrap().count() as u64;
        }
        assert_eq!(graph, seen);
        assert!(graph > 3000, "{graph} records");
        if ragged {
            continue;
        }
        // The judge is not blind: one field of one record is enough, and so is one record more or less.
        for (source, file, from, to) in [
            ("entra", "users", "\"accountEnabled\":true", "\"accountEnabled\":false"),
            ("azure", "providers/Microsoft.Authorization/builtInRoleDefinitions", "\"type\":\"BuiltInRole\"", "\"type\":\"BuiltInRolf\""),
        ] {
            let dir = estate.sandbox.path(&format!("{source}-back"));
            let dump = estate.dump("judge.ndjson");
            let mut records: Vec<_> = fs::read_dir(dir.join(file)).unwrap().map(|e| e.unwrap().path()).collect();
            records.sort();
            let victim = records.into_iter().find(|path| fs::read_to_string(path).unwrap().contains(from)).unwrap();
            let text = fs::read_to_string(&victim).unwrap();
            let name = victim.file_name().unwrap().to_str().unwrap().to_owned();
            let wrong = |what: &str| {
                let judged = judge(source, &dump, &dir);
                assert_eq!(judged.code, 1, "{}{}", judged.stdout, judged.stderr);
                says(&judged.json()[0][what].to_string(), &[&name]);
            };
            fs::write(&victim, text.replacen(from, to, 1)).unwrap();
            wrong("different");
            fs::remove_file(&victim).unwrap();
            wrong("missing");
            fs::write(&victim, &text).unwrap();
            fs::write(dir.join(file).join("x.json"), &text).unwrap();
            let judged = judge(source, &dump, &dir);
            assert_eq!((judged.code, judged.json()[0]["extra"].as_array().unwrap().len()), (1, 1));
            fs::remove_file(dir.join(file).join("x.json")).unwrap();
            assert_eq!(judge(source, &dump, &dir).code, 0);
        }
    }
}

#[test]
fn what_is_added_changed_and_removed_follows() {
    let estate = Estate::new();
    estate.snapshot("entra", 0);
    estate.tenant.change(40);
    estate.tenant.mischief();
    estate.tenant.disaster("users-deleted").unwrap();
    let (line, _) = estate.snapshot("entra", 0);
    assert_eq!((line["kind"].as_str(), line["outcome"].as_str()), (Some("delta"), Some("complete")));
    assert!(line["changed"].as_u64().unwrap() > 10 && line["deleted"].as_u64().unwrap() > 0, "{line}");
    assert_eq!(estate.holds("entra", "back"), line["entries"].as_u64().unwrap());
}

#[test]
fn an_unchanged_night_stores_next_to_nothing() {
    let estate = Estate::new();
    // As the service does: a schedule without an end begins whenever it is asked for.
    let asked = AtomicU64::new(0);
    let front = Front::new(&estate.tenant, move |target, body| {
        if target.contains("EligibilitySchedules") || target.contains("AssignmentSchedules") {
            let mut page: Value = serde_json::from_str(body).unwrap();
            for record in page["value"].as_array_mut().unwrap() {
                if record["scheduleInfo"]["expiration"]["type"] == "noExpiration" {
                    let n = asked.fetch_add(1, Ordering::Relaxed);
                    record["scheduleInfo"]["startDateTime"] = json!(format!("2026-11-24T20:{:02}:{:02}Z", n / 60 % 60, n % 60));
                }
            }
            *body = page.to_string();
        }
    });
    estate.policy(&estate.url(), &front.url);
    let (first, _) = estate.snapshot("entra", 0);
    estate.snapshot("azure", 0);
    let before = estate.sandbox.objects().len();
    for source in ["entra", "azure"] {
        let (line, _) = estate.snapshot(source, 0);
        assert_eq!(
            (line["kind"].as_str(), line["changed"].as_u64(), line["deleted"].as_u64()),
            (Some("delta"), Some(0), Some(0)),
            "{source}"
        );
        assert!(line["stored_bytes"].as_u64().unwrap() < 200_000, "{line}");
        assert_eq!(line["objects"], 1, "the manifest alone");
    }
    // The four new ones: a manifest and an attestation each.
    assert_eq!(estate.sandbox.objects().len(), before + 4);
    assert_eq!(estate.holds("entra", "delta"), first["entries"].as_u64().unwrap());
    // They did differ: a base has them as they are now.
    fs::remove_dir_all(estate.sandbox.path(".backstop")).unwrap();
    let (base, _) = estate.snapshot("entra", 0);
    assert_eq!(base["kind"], "base");
    assert_eq!(base["entries"], first["entries"]);
    assert_ne!(base["tree_sha256"], first["tree_sha256"]);
}

#[test]
fn requests_are_counted_to_the_last() {
    let estate = Estate::with(|o| o.users = 2500);
    let pages = |collection: &str, size: u64| estate.count(collection).div_ceil(size).max(1);
    let groups = estate.count("entra.groups");
    let dump = fs::read_to_string(estate.dump("members.ndjson")).unwrap();
    let members: u64 = dump
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["collection"] == "entra.groups.members")
        .map(|line| (line["record"]["members"].as_array().unwrap().len() as u64).div_ceil(999).max(1))
        .sum();
    let roles = "roleManagement/directory";
    let expected: BTreeMap<String, u64> = [
        (format!("POST /{}/oauth2/v2.0/token", "{id}"), 1),
        ("GET /v1.0/users".into(), 3),
        ("GET /v1.0/groups".into(), pages("entra.groups", 999)),
        ("POST /beta/$batch".into(), groups.div_ceil(20)),
        ("GET /beta/groups/{id}/members".into(), members),
        ("GET /v1.0/directory/administrativeUnits".into(), pages("entra.administrativeUnits", 100)),
        ("GET /v1.0/applications".into(), pages("entra.applications", 999)),
        ("GET /v1.0/servicePrincipals".into(), pages("entra.servicePrincipals", 999)),
        ("GET /beta/identity/conditionalAccess/policies".into(), pages("entra.conditionalAccessPolicies", 100)),
        ("GET /v1.0/identity/conditionalAccess/namedLocations".into(), pages("entra.namedLocations", 100)),
        (format!("GET /beta/{roles}/roleDefinitions"), pages("entra.roleDefinitions", 100)),
        (format!("GET /v1.0/{roles}/roleAssignments"), pages("entra.roleAssignments", 100)),
        (format!("GET /v1.0/{roles}/roleEligibilitySchedules"), pages("entra.roleEligibilitySchedules", 100)),
        (format!("GET /v1.0/{roles}/roleAssignmentSchedules"), pages("entra.roleAssignmentSchedules", 100)),
        ("GET /v1.0/policies/roleManagementPolicies".into(), pages("entra.roleManagementPolicies", 100)),
        ("GET /v1.0/policies/roleManagementPolicyAssignments".into(), pages("entra.roleManagementPolicyAssignments", 100)),
    ]
    .into();
    assert_eq!(estate.count("entra.users"), 2500);
    assert!(groups > 40 && members >= groups, "{groups} groups, {members} pages of members");
    for _ in 0..2 {
        estate.snapshot("entra", 0);
        assert_eq!(estate.requests(), expected);
    }
    estate.snapshot("azure", 0);
    let first = estate.requests();
    // Once for the collection, once to know for what the others are asked.
    assert_eq!(first["GET /subscriptions"], 2);
    assert_eq!(first["GET /subscriptions/{id}/providers/Microsoft.Authorization/policyDefinitions"], estate.count("arm.subscriptions"));
    assert_eq!(first["GET /providers/Microsoft.Authorization/roleDefinitions"], 928_u64.div_ceil(200));
    estate.snapshot("azure", 0);
    assert_eq!(estate.requests(), first);
}

// ---- credentials

#[test]
fn a_refused_credential_is_named_and_the_secret_is_not() {
    let estate = Estate::new();
    let before = (estate.runs(), estate.sandbox.objects());
    estate.sandbox.write("secret.txt", "a-secret-of-yesterday");
    let client = &estate.tenant.options().client_id;
    for args in [&["snapshot", "entra"][..], &["snapshot", "azure"], &["snapshot"], &["export"]] {
        let ran = estate.sandbox.backstop(args);
        assert_eq!(ran.code, 1, "{args:?}\n{}", ran.stderr);
        says(&ran.stderr, &["error: ", client, "AADSTS7000215", "help: "]);
        assert!(!ran.stderr.contains("of-yesterday") && !ran.stdout.contains("of-yesterday"), "{}", ran.stderr);
    }
    // Once a source or stream: each question more is one more failed sign-in in the tenant's log.
    let asked = estate.requests();
    assert_eq!(asked.values().sum::<u64>(), 6, "{asked:?}");
    estate.policy("secret_file: secret.txt", "secret_file: keys/nowhere.txt");
    let ran = estate.sandbox.backstop(&["snapshot", "entra"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    says(&ran.stderr, &["keys/nowhere.txt", "No such file", "help: "]);
    estate.policy("secret_file: keys/nowhere.txt", "secret_env: BACKSTOP_TEST_SECRET");
    let ran = estate.sandbox.backstop(&["snapshot", "entra"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    says(&ran.stderr, &["BACKSTOP_TEST_SECRET", "is not set", "help: "]);
    let ran = estate.sandbox.backstop_with(&["snapshot", "entra"], &[("BACKSTOP_TEST_SECRET", "\n")]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    says(&ran.stderr, &["empty", "BACKSTOP_TEST_SECRET"]);
    assert_eq!((estate.runs(), estate.sandbox.objects()), before);
    let secret = estate.tenant.options().client_secret.clone();
    let ran = estate.sandbox.backstop_with(&["snapshot", "entra"], &[("BACKSTOP_TEST_SECRET", &secret)]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[test]
fn tokens_may_end_in_the_middle() {
    let estate = Estate::with(|o| {
        o.users = 2300;
        o.token_seconds = 2;
    });
    estate.faults(json!([
        { "path": "/v1.0/users", "kind": "slow", "ms": 900 },
        { "path": "/v1.0/groups/", "after": 30, "times": 1, "kind": "expire_tokens" },
        { "path": "/policies/roleManagementPolicyAssignments", "after": 1, "times": 1, "kind": "expire_tokens" },
        { "path": "/v1.0/applications", "times": 1, "kind": "status", "status": 401 },
    ]));
    let (line, said) = estate.snapshot("entra", 0);
    all_complete_but(&line, &[]);
    assert_eq!(said, "");
    let tokens = estate.requests()[&format!("POST /{}/oauth2/v2.0/token", "{id}")];
    assert!(tokens >= 4, "{tokens}");
    assert_eq!(estate.holds("entra", "back"), line["entries"].as_u64().unwrap());
    // A token that is refused however fresh it is: that is no matter of time.
    estate.faults(json!([{ "path": "/v1.0/users", "kind": "status", "status": 401 }]));
    let (line, said) = estate.snapshot("entra", 6);
    all_complete_but(&line, &[("entra.users", "failed", "unauthorized")]);
    says(&said, &["entra.users", "401"]);
}

// ---- refusals

#[test]
fn a_missing_permission_costs_one_collection_and_no_record() {
    let estate = Estate::new();
    let policies = "entra.conditionalAccessPolicies";
    let refused = json!([{ "path": "/identity/conditionalAccess/policies", "kind": "status", "status": 403 }]);
    let count = estate.count(policies);
    // From the first night on: absent, not empty.
    estate.faults(refused.clone());
    let (line, said) = estate.snapshot("entra", 6);
    all_complete_but(&line, &[(policies, "absent", "forbidden")]);
    says(&said, &["Policy.Read.All", "403", policies]);
    let since = line["collections"][policies]["absent_since"].clone();
    assert_eq!(since, line["captured"]);
    assert_eq!(line["collections"][policies]["as_of"], Value::Null);
    estate.faults(json!([]));
    let (line, said) = estate.snapshot("entra", 0);
    all_complete_but(&line, &[]);
    assert_eq!((line["changed"].as_u64(), line["deleted"].as_u64()), (Some(count), Some(0)));
    assert_eq!(said, "");
    let as_of = line["collections"][policies]["as_of"].clone();
    // After a good night: carried, as of that night.
    estate.faults(refused.clone());
    for _ in 0..2 {
        let (line, said) = estate.snapshot("entra", 6);
        all_complete_but(&line, &[(policies, "failed", "forbidden")]);
        says(&said, &["Policy.Read.All"]);
        assert_eq!((&line["collections"][policies]["as_of"], line["collections"][policies]["count"].as_u64()), (&as_of, Some(count)));
        assert_eq!((line["changed"].as_u64(), line["deleted"].as_u64()), (Some(0), Some(0)));
    }
    estate.holds("entra", "carried");
    // A base of nothing but what can be had now.
    fs::remove_dir_all(estate.sandbox.path(".backstop")).unwrap();
    let (line, _) = estate.snapshot("entra", 6);
    all_complete_but(&line, &[(policies, "absent", "forbidden")]);
    assert_eq!((line["kind"].as_str(), line["deleted"].as_u64()), (Some("base"), Some(0)));
    let since = line["collections"][policies]["absent_since"].clone();
    assert_eq!(since, line["captured"]);
    let (line, _) = estate.snapshot("entra", 6);
    all_complete_but(&line, &[(policies, "failed", "forbidden")]);
    assert_eq!(line["collections"][policies]["as_of"], Value::Null);
    assert_eq!((&line["collections"][policies]["absent_since"], line["deleted"].as_u64()), (&since, Some(0)));
    estate.faults(json!([]));
    let (line, _) = estate.snapshot("entra", 0);
    assert_eq!((line["changed"].as_u64(), line["deleted"].as_u64()), (Some(count), Some(0)));
    estate.holds("entra", "whole-again");
}

#[test]
fn when_nothing_may_be_read_the_missing_permissions_are_named() {
    let estate = Estate::new();
    let before = estate.runs();
    estate.faults(json!([{ "path": "/v1.0/", "kind": "status", "status": 403 }, { "path": "/beta/", "kind": "status", "status": 403 }]));
    let (_, said) = estate.snapshot("entra", 1);
    says(&said, &["403", "Insufficient privileges", "application permission", "admin consent", "help: "]);
    estate.faults(json!([{ "path": "/subscriptions", "kind": "status", "status": 403 }]));
    let (_, said) = estate.snapshot("azure", 1);
    says(&said, &["403", "Reader"]);
    assert_eq!(estate.runs(), before);
}

#[test]
fn one_subscription_that_refuses_is_carried() {
    let estate = Estate::new();
    let (first, _) = estate.snapshot("azure", 0);
    let subscription = estate.ids("arm.subscriptions").pop_first().unwrap();
    estate.faults(json!([{ "path": format!("/subscriptions/{subscription}/*/roleAssignments"), "kind": "status", "status": 403 }]));
    let (line, said) = estate.snapshot("azure", 6);
    all_complete_but(&line, &[("arm.roleAssignments", "partial", "forbidden")]);
    says(&said, &[&subscription, "Microsoft.Authorization/roleAssignments/read"]);
    assert_eq!((&line["entries"], line["changed"].as_u64(), line["deleted"].as_u64()), (&first["entries"], Some(0), Some(0)));
    estate.holds("azure", "back");
}

#[test]
fn a_subscription_that_is_listed_no_more_is_asked_for() {
    let estate = Estate::new();
    let (first, _) = estate.snapshot("azure", 0);
    let subscription = estate.ids("arm.subscriptions").pop_first().unwrap();
    let own = subscription.clone();
    let front = Front::new(&estate.tenant, move |target, body| {
        if target.starts_with("/subscriptions?") {
            let mut list: Value = serde_json::from_str(body).unwrap();
            list["value"].as_array_mut().unwrap().retain(|s| s["subscriptionId"] != own.as_str());
            *body = list.to_string();
        }
    });
    estate.policy(&format!("arm_endpoint: {}", estate.url()), &format!("arm_endpoint: {}", front.url));
    estate.policy(&format!("log: activityLog, endpoint: {}", estate.url()), &format!("log: activityLog, endpoint: {}", front.url));
    // A list that leaves one out which answers for itself is not believed.
    let (line, _) = estate.snapshot("azure", 0);
    all_complete_but(&line, &[]);
    assert_eq!((&line["tree_sha256"], line["deleted"].as_u64()), (&first["tree_sha256"], Some(0)), "{line}");
    // A client that lost its role on it is shown the others: nothing was deleted.
    let answers = |status: u64, code: &str| {
        estate.faults(json!([{ "path": format!("/subscriptions/{subscription}"), "kind": "status", "status": status, "code": code }]));
    };
    answers(403, "AuthorizationFailed");
    for _ in 0..2 {
        let (line, said) = estate.snapshot("azure", 6);
        let partial: Vec<_> = line["collections"].as_object().unwrap().iter().filter(|(_, c)| c["outcome"] != "complete").collect();
        assert!(partial.len() > 4 && partial.iter().all(|(_, c)| c["outcome"] == "partial" && c["error_code"] == "forbidden"), "{line}");
        says(&said, &[&subscription, "is shown no more, and was not deleted", "403", "Reader"]);
        assert_eq!((line["changed"].as_u64(), line["deleted"].as_u64()), (Some(0), Some(0)));
    }
    // An export keeps the same for itself; this one has no window yet that could have told it.
    let kept = estate.sandbox.shell("f=$(find .backstop -name subscriptions.json) && d=$(dirname \"$(dirname \"$f\")\")/export.activity && mkdir -p \"$d\" && cp \"$f\" \"$d\"");
    assert_eq!(kept.code, 0, "{}", kept.stderr);
    let ran = estate.sandbox.backstop(&["export", "activity"]);
    assert_eq!(ran.code, 6, "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("its events are not exported").count(), 1, "{}", ran.stderr);
    // What the service itself says is gone is gone; and is asked for no more.
    answers(404, "ResourceNotFound");
    assert_eq!(estate.snapshot("azure", 6).0["deleted"], 0);
    answers(404, "SubscriptionNotFound");
    let (line, said) = estate.snapshot("azure", 0);
    assert!(line["deleted"].as_u64().unwrap() > 4 && line["entries"].as_u64() < first["entries"].as_u64(), "{line}\n{said}");
    answers(403, "AuthorizationFailed");
    estate.snapshot("azure", 0);
}

#[test]
fn no_subscription_is_not_an_empty_azure() {
    // Azure answers 200 and an empty list to a client that has lost its role.
    let estate = Estate::new();
    let (first, _) = estate.snapshot("azure", 0);
    let before = estate.runs();
    let front = Front::new(&estate.tenant, |target, body| {
        if target.starts_with("/subscriptions?") {
            *body = json!({ "value": [] }).to_string();
        }
    });
    estate.policy(&estate.url(), &front.url);
    let (_, said) = estate.snapshot("azure", 1);
    says(&said, &["no subscription", "Reader", "help: "]);
    let ran = estate.sandbox.backstop(&["export", "activity"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    says(&ran.stderr, &["no subscription", "Reader"]);
    assert_eq!(estate.runs(), before);
    // One that has no id is none that may be passed over.
    let front = Front::new(&estate.tenant, |target, body| {
        if target.starts_with("/subscriptions?") {
            *body = body.replacen("\"subscriptionId\"", "\"subscription\"", 1);
        }
    });
    estate.policy("arm_endpoint: http://127.0.0.1:", "arm_endpoint: http://localhost:");
    let text = support::read(&estate.sandbox.path("backstop.yaml"));
    let old = text.split("arm_endpoint: ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    estate.policy(&old, &front.url);
    let ran = estate.run("azure");
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    says(&ran.stderr, &["subscriptionId"]);
    let addr = format!("arm_endpoint: {}", front.url);
    estate.policy(&addr, &format!("arm_endpoint: {}", estate.url()));
    let (line, _) = estate.snapshot("azure", 0);
    assert_eq!((&line["entries"], line["changed"].as_u64(), line["deleted"].as_u64()), (&first["entries"], Some(0), Some(0)));
}

// ---- answers that are not what they should be

#[test]
fn a_page_that_fails_for_good_is_not_the_last() {
    let estate = Estate::new();
    let (first, _) = estate.snapshot("entra", 0);
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
    foreign.set_nonblocking(true).unwrap();
    let elsewhere = format!("http://{}", foreign.local_addr().unwrap());
    estate.faults(json!([
        { "path": "/directory/roleDefinitions", "after": 1, "kind": "status", "status": 500 },
        { "path": "/policies/roleManagementPolicies", "after": 1, "kind": "truncate" },
        { "path": "/policies/roleManagementPolicyAssignments", "after": 1, "kind": "invalid_json" },
        { "path": "/v1.0/applications", "kind": "html" },
        { "path": "/v1.0/servicePrincipals", "kind": "missing_value" },
        { "path": "/directory/administrativeUnits", "kind": "endless" },
        { "path": "/v1.0/users", "kind": "loop_link" },
        { "path": "/directory/roleAssignments", "kind": "foreign_link", "base": elsewhere },
        { "path": "/conditionalAccess/namedLocations", "kind": "status", "status": 404 },
        { "path": "/directory/roleAssignmentSchedules", "kind": "status", "status": 400, "code": "AadPremiumLicenseRequired" },
        { "path": "/directory/roleEligibilitySchedules", "kind": "status", "status": 429, "retry_after": 86400 },
    ]));
    let (line, said) = estate.snapshot("entra", 6);
    let ended = [
        ("entra.roleDefinitions", "failed", "server_error"),
        ("entra.roleManagementPolicies", "failed", "unreadable_answer"),
        ("entra.roleManagementPolicyAssignments", "failed", "unreadable_answer"),
        ("entra.applications", "failed", "unreadable_answer"),
        ("entra.servicePrincipals", "failed", "unreadable_answer"),
        ("entra.administrativeUnits", "failed", "endless_pages"),
        ("entra.users", "failed", "endless_pages"),
        ("entra.roleAssignments", "failed", "foreign_link"),
        ("entra.namedLocations", "failed", "not_found"),
        ("entra.roleAssignmentSchedules", "failed", "not_licensed"),
        ("entra.roleEligibilitySchedules", "failed", "throttled"),
    ];
    all_complete_but(&line, &ended);
    for (name, ..) in ended {
        says(&said, &[&format!("{name} could not be captured: ")]);
        assert_eq!(line["collections"][name]["count"], first["collections"][name]["count"], "{name}");
        assert_eq!(line["collections"][name]["as_of"], first["captured"], "{name}");
    }
    says(
        &said,
        &[
            "it broke off",
            &elsewhere,
            "no page of records",
            "a web page, perhaps a proxy's",
            "`value`",
            "licence",
            "86400 s",
            "the token is not sent there",
        ],
    );
    assert_eq!((&line["entries"], line["changed"].as_u64(), line["deleted"].as_u64()), (&first["entries"], Some(0), Some(0)));
    assert_eq!(line["tree_sha256"], first["tree_sha256"]);
    assert_eq!(foreign.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "somebody else was asked");
    estate.holds("entra", "back");
    estate.faults(json!([]));
    let (line, said) = estate.snapshot("entra", 0);
    assert_eq!((line["changed"].as_u64(), line["deleted"].as_u64(), said.as_str()), (Some(0), Some(0), ""));
}

#[test]
fn what_fails_once_is_asked_again() {
    let estate = Estate::new();
    let once = |path: &str, kind: &str| json!({ "path": path, "times": 1, "kind": kind, "status": 503 });
    estate.faults(json!([
        once("/directory/roleDefinitions", "truncate"),
        once("/policies/roleManagementPolicies", "reset"),
        once("/policies/roleManagementPolicyAssignments", "invalid_json"),
        once("/v1.0/applications", "html"),
        once("/v1.0/servicePrincipals", "missing_value"),
        once("/directory/administrativeUnits", "status"),
        once("/oauth2/v2.0/token", "truncate"),
        once("/$batch", "truncate"),
        { "path": "/groups/*/members", "after": 3, "times": 2, "kind": "status", "status": 500 },
    ]));
    let (line, said) = estate.snapshot("entra", 0);
    all_complete_but(&line, &[]);
    assert_eq!(said, "");
    assert_eq!(estate.holds("entra", "back"), line["entries"].as_u64().unwrap());
}

// ---- children

#[test]
fn one_groups_members_fail_alone() {
    let estate = Estate::new();
    let (first, _) = estate.snapshot("entra", 0);
    let members = "entra.groups.members";
    let mut ids = estate.ids("entra.groups").into_iter();
    let (a, b) = (ids.next().unwrap(), ids.next().unwrap());
    for (kind, code) in [("status", "server_error"), ("truncate", "unreadable_answer"), ("loop_link", "endless_pages")] {
        estate.faults(json!([{ "path": format!("/groups/{a}/members"), "kind": kind, "status": 500 }]));
        let (line, said) = estate.snapshot("entra", 6);
        all_complete_but(&line, &[(members, "partial", code)]);
        says(&said, &[&format!("{members} of {a} could not be captured: "), "what was captured before is carried on"]);
        assert_eq!((&line["entries"], line["changed"].as_u64(), line["deleted"].as_u64()), (&first["entries"], Some(0), Some(0)));
        assert_eq!(line["tree_sha256"], first["tree_sha256"]);
    }
    // A hidden membership is that group's own matter.
    estate.faults(json!([{ "path": format!("/groups/{b}/members"), "kind": "status", "status": 403 }]));
    let (line, said) = estate.snapshot("entra", 6);
    all_complete_but(&line, &[(members, "partial", "forbidden")]);
    says(&said, &[&format!("{members} of {b} could not be captured: "), "Member.Read.Hidden", "what was captured before is carried on"]);
    assert_eq!((line["changed"].as_u64(), line["deleted"].as_u64()), (Some(0), Some(0)));
    // A list that is not found, of a group that is there, is no deletion.
    estate.faults(json!([{ "path": format!("/groups/{b}/members"), "kind": "status", "status": 404 }]));
    let (line, _) = estate.snapshot("entra", 6);
    all_complete_but(&line, &[(members, "partial", "not_found")]);
    assert_eq!((line["changed"].as_u64(), line["deleted"].as_u64()), (Some(0), Some(0)));
    // A group that went away between the two questions has no members, and nobody is told of an error.
    estate.faults(json!([
        { "path": format!("/groups/{b}/members"), "kind": "status", "status": 404 },
        { "path": format!("/groups/{b}"), "kind": "status", "status": 404 },
    ]));
    let (line, said) = estate.snapshot("entra", 0);
    all_complete_but(&line, &[]);
    assert_eq!((line["deleted"].as_u64(), said.as_str()), (Some(1), ""));
    // What one is forbidden, all are.
    estate.faults(json!([{ "path": "/groups/*/members", "kind": "status", "status": 403 }]));
    let (line, said) = estate.snapshot("entra", 6);
    all_complete_but(&line, &[(members, "failed", "forbidden")]);
    says(&said, &["GroupMember.Read.All"]);
    assert_eq!(line["deleted"], 0);
    // Without the groups nobody knows whose members to ask for.
    estate.faults(json!([{ "path": "/v1.0/groups", "times": 1, "kind": "status", "status": 403 }]));
    let (line, said) = estate.snapshot("entra", 6);
    all_complete_but(&line, &[("entra.groups", "failed", "forbidden"), (members, "failed", "parent_failed")]);
    says(&said, &["Group.Read.All"]);
    assert_eq!(line["deleted"], 0);
    estate.faults(json!([]));
    assert_eq!(estate.snapshot("entra", 0).0["changed"], 1);
    estate.holds("entra", "back");
}

#[test]
fn waits_inside_a_batch_are_kept() {
    let estate = Estate::new();
    let groups = estate.count("entra.groups");
    assert!((10..20).contains(&groups), "{groups} groups fit one batch");
    estate.faults(json!([{ "path": "/groups/*/members", "times": 5, "kind": "status", "status": 429, "retry_after": 2 }]));
    let (line, _) = estate.snapshot("entra", 0);
    all_complete_but(&line, &[]);
    assert!(line["waited_seconds"].as_f64().unwrap() >= 2.0, "{line}");
    let asked = estate.requests();
    assert_eq!(asked["GET /beta/groups/{id}/members"], groups + 5, "{asked:?}");
    estate.holds("entra", "back");
}

#[test]
fn a_record_that_cannot_be_read_is_carried_where_its_id_can() {
    let estate = Estate::new();
    let (first, _) = estate.snapshot("entra", 0);
    let user = estate.ids("entra.users").pop_first().unwrap();
    // Half of a surrogate pair: a name that was cut in the middle of a character.
    let victim = format!("\"id\":\"{user}\"");
    let front = Front::new(&estate.tenant, move |target, body| {
        if target.starts_with("/v1.0/users?") {
            *body = body.replacen(&victim, &format!("{victim},\"nickname\":\"\\ud83d\""), 1);
        }
    });
    estate.policy(&estate.url(), &front.url);
    let (line, said) = estate.snapshot("entra", 6);
    all_complete_but(&line, &[("entra.users", "partial", "bad_record")]);
    says(&said, &[&format!("entra.users {user} cannot be read"), "what was captured before is carried on"]);
    assert_eq!((&line["entries"], line["changed"].as_u64(), line["deleted"].as_u64()), (&first["entries"], Some(0), Some(0)));
    estate.holds("entra", "back");
}

// ---- patience

#[test]
fn a_service_that_asks_to_wait_is_waited_for() {
    let estate = Estate::with(|o| o.throttle = true);
    let limit =
        |path: &str, times: u64, wait: Value| json!({ "path": path, "times": times, "kind": "status", "status": 429, "retry_after": wait });
    estate.faults(json!([
        limit("/v1.0/users", 2, json!(1)),
        limit("/identity/conditionalAccess/policies", 2, Value::Null),
        { "path": "/v1.0/applications", "times": 1, "kind": "status", "status": 503, "retry_after": 1 },
    ]));
    let (line, _) = estate.snapshot("entra", 0);
    all_complete_but(&line, &[]);
    assert!(line["waited_seconds"].as_f64().unwrap() >= 4.0, "{line}");
    let asked = estate.requests();
    assert_eq!((asked["GET /v1.0/users"], asked["GET /v1.0/applications"]), (3, 2));
    estate.holds("entra", "back");
}

#[test]
fn a_tenant_that_is_gone_deletes_nothing() {
    let mut estate = Estate::new();
    let (first, _) = estate.snapshot("entra", 0);
    let before = (estate.runs(), estate.sandbox.objects());
    estate.stop();
    for source in ["entra", "azure"] {
        let (_, said) = estate.snapshot(source, 75);
        says(&said, &["error: ", source, "cannot be reached", "Connection refused", "run it again later"]);
    }
    let ran = estate.sandbox.backstop(&["export"]);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    assert_eq!((estate.runs(), estate.sandbox.objects()), before);
    estate.start();
    let (line, _) = estate.snapshot("entra", 0);
    assert_eq!((&line["tree_sha256"], line["changed"].as_u64(), line["deleted"].as_u64()), (&first["tree_sha256"], Some(0), Some(0)));
}

#[test]
fn a_tenant_that_is_gone_is_not_asked_for_ever() {
    let estate = Estate::new();
    estate.faults(json!([{ "path": "/oauth2/", "kind": "reset" }]));
    let (_, said) = estate.snapshot("entra", 75);
    says(&said, &["oauth2/v2.0/token", "cannot be reached"]);
    // One collection is patient, six times; the thirteen less one that are not asked by their parents twice each.
    let asked = estate.requests();
    assert_eq!(asked.values().sum::<u64>(), 6 + 12 * 2, "{asked:?}");
    // What was found to be gone and is there again gets all patience again.
    estate.faults(
        json!([{ "path": "/v1.0/users", "times": 5, "kind": "reset" }, { "path": "/v1.0/applications", "times": 5, "kind": "reset" }]),
    );
    let (line, _) = estate.snapshot("entra", 0);
    all_complete_but(&line, &[]);
}

#[test]
fn a_tenant_that_goes_in_the_middle_deletes_nothing() {
    let estate = Estate::new();
    let (first, _) = estate.snapshot("entra", 0);
    for after in [1, 4, 9, 17] {
        estate.faults(json!([{ "path": "", "after": after, "kind": "reset" }]));
        let ran = estate.run("entra");
        assert!([6, 75].contains(&ran.code), "{after}: {}\n{}", ran.code, ran.stderr);
        says(&ran.stderr, &["cannot be reached"]);
        if let Some(line) = ran.json().pop() {
            assert_eq!((&line["entries"], line["changed"].as_u64(), line["deleted"].as_u64()), (&first["entries"], Some(0), Some(0)));
            assert!(
                line["collections"].as_object().unwrap().keys().any(|name| of(&line, name) == ("failed", Some("unreachable"))),
                "{line}"
            );
        }
    }
    estate.faults(json!([]));
    let (line, _) = estate.snapshot("entra", 0);
    assert_eq!((&line["tree_sha256"], line["changed"].as_u64(), line["deleted"].as_u64()), (&first["tree_sha256"], Some(0), Some(0)));
    estate.holds("entra", "back");
}
