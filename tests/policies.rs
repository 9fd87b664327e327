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
    // Of this machine: the secrets and the evidence are not here. Nothing else is to be said.
    let warnings = messages(&report, "warning");
    assert_eq!(warnings.len(), 3, "{warnings:#?}");
    assert!(warnings.iter().any(|w| w.contains("SMTP_PASSWORD")));
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

/// The production policy with another credential.
fn with_credential(credential: &str) -> String {
    let policy = production();
    let from = "{ client_secret: { client_id: 4f3c1f0e-9d53-4f6a-8c0b-5b1f6f2f7a10, secret_env: GRAPH_SECRET } }";
    assert!(policy.contains(from));
    policy.replacen(from, credential, 1)
}

#[test]
fn every_kind_of_credential_may_be_said() {
    for credential in [
        "{ managed_identity: {} }",
        "{ managed_identity: { client_id: a } }",
        "{ managed_identity: { object_id: a } }",
        "{ managed_identity: { resource_id: /subscriptions/a } }",
        "{ workload_identity: {} }",
        "{ workload_identity: { client_id: a, token_file: /var/run/token } }",
        "{ client_secret: { client_id: a, secret_file: s } }",
        "{ client_certificate: { client_id: a, certificate_file: keys/agent.pem } }",
        "{ client_assertion: { client_id: a, assertion_file: s } }",
        "{ client_assertion: { client_id: a, assertion_env: S } }",
        "{ azure_cli: {} }",
    ] {
        let report = check(&with_credential(credential), 0);
        assert_eq!(report["ok"], true, "{credential}: {report}");
    }
}

#[test]
fn a_credential_is_exactly_one_and_says_where_its_secret_is() {
    for (credential, said) in [
        ("{}", "write exactly one of `managed_identity: {}`"),
        ("{ managed_identity: }", "has no kind"),
        ("{ managed_identity: {}, azure_cli: {} }", "several kinds (managed_identity, azure_cli)"),
        ("{ managed_identities: {} }", "did you mean `managed_identity`?"),
        ("{ managed_identity: { clientid: a } }", "did you mean `client_id`?"),
        ("{ managed_identity: { client_id: a, object_id: b } }", "one of `client_id`, `object_id` and `resource_id`"),
        ("{ managed_identity: { client_id: '' } }", "id is empty"),
        ("{ managed_identity: { resource_id: agent } }", "begins with /subscriptions/"),
        ("{ workload_identity: { token_file: '' } }", "token_file is empty"),
        ("{ client_secret: { client_id: a } }", "exactly one of `secret_env` and `secret_file`"),
        ("{ client_secret: { client_id: a, secret: hunter2 } }", "unknown field `secret`"),
        ("{ client_secret: { client_id: '', secret_env: S } }", "client_id is empty"),
        ("{ client_certificate: { client_id: a } }", "certificate_file"),
        ("{ client_certificate: { client_id: a, certificate: x } }", "did you mean `certificate_file`?"),
        (
            "{ client_assertion: { client_id: a, assertion_env: A, assertion_file: b } }",
            "exactly one of `assertion_env` and `assertion_file`",
        ),
        ("{ azure_cli: { tenant: x } }", "unknown field `tenant`"),
        ("{ sas: { env: S } }", "opens stores only"),
        ("{ sas: 'sv=1&sig=hunter2' }", "opens stores only"),
    ] {
        let report = check(&with_credential(credential), 2);
        let errors = messages(&report, "error");
        assert!(errors.iter().any(|e| e.contains(said)), "{credential}: {errors:#?}");
        assert!(report["findings"].as_array().unwrap().iter().any(|f| f["line"].is_u64() && f["severity"] == "error"), "{credential}");
        let sandbox = Sandbox::new();
        sandbox.write("backstop.yaml", with_credential(credential));
        let shown = sandbox.backstop(&["policy", "check"]);
        assert!(!format!("{}{}{report}", shown.stdout, shown.stderr).contains("hunter2"), "{}", shown.stderr);
    }
}

#[test]
fn the_schema_has_every_kind_of_credential() {
    let schema = Sandbox::new().backstop(&["policy", "schema"]).stdout;
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let credential = &schema["$defs"]["CredentialPolicy"];
    let names: Vec<&String> = credential["properties"].as_object().unwrap().keys().collect();
    let kinds = ["azure_cli", "client_assertion", "client_certificate", "client_secret", "managed_identity", "workload_identity"];
    assert_eq!(names.len(), kinds.len());
    assert!(kinds.iter().all(|kind| names.iter().any(|name| *name == kind)), "{names:?}");
    assert_eq!((&credential["minProperties"], &credential["maxProperties"]), (&1.into(), &1.into()));
    for (name, field) in [
        ("ManagedIdentityPolicy", "resource_id"),
        ("WorkloadIdentityPolicy", "token_file"),
        ("ClientCertificatePolicy", "certificate_file"),
    ] {
        assert!(schema["$defs"][name]["properties"][field].is_object(), "{name}");
    }
}
