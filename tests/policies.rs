//! The shipped policies are valid, and a policy is held to its own objectives: schedules that cannot meet them are
//! refused with the job that does.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::Sandbox;

const RECIPIENTS: [&str; 2] =
    ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg"];

fn shipped(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(name)).unwrap()
}

/// production.yaml as somebody fills it in.
fn production() -> String {
    shipped("production.yaml")
        .replace("<age1… of the identity that restores>", RECIPIENTS[0])
        .replace("<age1… of the identity in the safe>", RECIPIENTS[1])
        .replace("<contoso.onmicrosoft.com>", "contoso.onmicrosoft.com")
        .replace("<client id>", "4f3c1f0e-9d53-4f6a-8c0b-5b1f6f2f7a10")
}

/// What `policy check` finds: its report.
fn check(policy: &str, code: i32) -> Value {
    let sandbox = Sandbox::new();
    sandbox.write("backstop.yaml", policy);
    sandbox.json(&["policy", "check"], code).remove(0)
}

fn messages(report: &Value, severity: &str) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter().filter(|f| f["severity"] == severity);
    findings.map(|f| format!("{} {}", f["message"].as_str().unwrap(), f["hint"].as_str().unwrap_or_default())).collect()
}

#[test]
fn production_is_valid_once_it_is_filled_in() {
    let policy = production();
    let values = policy.lines().filter(|line| !line.trim_start().starts_with('#'));
    assert!(!values.clone().any(|line| line.split('#').next().unwrap().contains('<')), "a place to fill in was forgotten");
    let report = check(&policy, 0);
    assert_eq!(report["ok"], true);
    // Of this machine: the secret and the evidence are not here. Nothing else is to be said.
    let warnings = messages(&report, "warning");
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    assert!(warnings.iter().any(|w| w.contains("GRAPH_SECRET")) && warnings.iter().any(|w| w.contains("/srv/evidence")));
    // As it is shipped it says what is to be filled in.
    assert_eq!(check(&shipped("production.yaml"), 2)["ok"], false);
}

#[test]
fn a_daily_snapshot_cannot_keep_an_hour() {
    let policy = production();
    let nightly_only: String = policy.lines().filter(|line| !line.contains("config-delta:")).map(|line| format!("{line}\n")).collect();
    let errors = messages(&check(&nightly_only, 2), "error");
    let of = |name: &str| errors.iter().find(|e| e.starts_with(name)).unwrap_or_else(|| panic!("{name}: {errors:#?}"));
    for source in ["entra", "azure"] {
        let error = of(source);
        assert!(error.contains("nightly") && error.contains("1 d") && error.contains("missed by 23 h"), "{error}");
        let job = format!("{source}-delta: {{ snapshot: [{source}], schedule: \"0 */30 * * * *\" }}");
        assert!(error.contains(&job), "{error}");
    }
    assert_eq!(errors.len(), 2);
    // The jobs that it shows do it.
    let mended = format!(
        "{nightly_only}  entra-delta: {{ snapshot: [entra], schedule: \"0 */30 * * * *\" }}\n  azure-delta: {{ snapshot: [azure], schedule: \"0 */30 * * * *\" }}\n"
    );
    assert_eq!(check(&mended, 0)["ok"], true);
}

#[test]
fn an_export_counts_with_its_settle_time() {
    let hourly = production().replace("schedule: \"0 */15 * * * *\"", "schedule: \"0 0 * * * *\"");
    let errors = messages(&check(&hourly, 2), "error");
    assert_eq!(errors.len(), 4, "{errors:#?}");
    assert!(errors.iter().all(|e| e.contains("missed by 10 min") && e.contains("export: [")), "{errors:#?}");
    // Every quarter of an hour and ten minutes behind is within the hour; fifty behind is not.
    let slow = production().replace("settle: 10m", "settle: 50m");
    let errors = messages(&check(&slow, 2), "error");
    assert!(errors.len() == 1 && errors[0].starts_with("sign-ins") && errors[0].contains("missed by 5 min"), "{errors:#?}");
}

#[test]
fn mistakes_about_tenants_are_pointed_at() {
    for (from, to, said) in [
        ("catalog: [entra, pim]", "catalog: [entra, pimm]", "did you mean `pim`?"),
        ("catalog: [entra, pim]", "catalog: [entra, azure]", "there is no catalog \"azure\" for this kind of source"),
        ("catalog: [entra, pim]", "catalog: []", "names no catalog"),
        ("catalog: [entra, pim]", "catalog: [pim, pim]", "named twice"),
        ("log: signIns", "log: signins", "did you mean `signIns`?"),
        ("log: activityLog", "log: directoryAudits", "there is no log \"directoryAudits\""),
        ("subscriptions: all", "subscriptions: some", "neither `all` nor a list"),
        ("subscriptions: all", "subscriptions: [abc]", "not a subscription's id"),
        ("subscriptions: all", "subscriptions: []", "no subscription"),
        ("subscriptions: all", "subscriptions: all\n      arm_endpoint: http://management.example.com", "is not encrypted"),
        ("catalog: [entra, pim]", "catalog: [entra, pim]\n      endpoint: graph.microsoft.com", "is not an address"),
        ("secret_env: GRAPH_SECRET", "secret_env: GRAPH_SECRET, secret_file: x", "exactly one of"),
        (
            "client_secret: { client_id: 4f3c1f0e-9d53-4f6a-8c0b-5b1f6f2f7a10, secret_env: GRAPH_SECRET }",
            "managed_identity: {}",
            "has no credential of this kind",
        ),
        ("lookback: 60m", "lookback: 60", "is not a duration"),
        ("export: [sign-ins,", "export: [sign-in,", "did you mean `sign-ins`?"),
        ("tenant: contoso.onmicrosoft.com\n      catalog", "tenant: contoso/../other\n      catalog", "is not a tenant"),
    ] {
        let policy = production();
        assert!(policy.contains(from), "{from}");
        let report = check(&policy.replacen(from, to, 1), 2);
        let errors = messages(&report, "error");
        assert!(errors.iter().any(|e| e.contains(said)), "{to}: {errors:#?}");
        assert!(report["findings"].as_array().unwrap().iter().any(|f| f["line"].is_u64() && f["severity"] == "error"), "{to}");
    }
}
