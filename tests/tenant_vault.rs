//! What a tenant gave stands in the vault as the format's page says: a reader written from the page alone agrees,
//! collections that failed included, and the vault's own page brings configuration and logs back with ordinary tools.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use backstop::sample::{Options, Server, Tenant, serve};
use serde_json::{Value, json};
use support::Sandbox;

const ID: [&str; 2] = ["--identity", "keys/identity-1.txt"];

/// A sandbox whose policy reads a tenant.
fn tenant_sandbox() -> (Sandbox, Arc<Tenant>, Server) {
    let tenant = Arc::new(Tenant::new(Options { users: 80, events_per_hour: Some(3), ragged_pages: true, ..Options::default() }));
    let server = serve(tenant.clone(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.backstop(&["init"]).code, 0);
    let Options { tenant: id, client_id, client_secret, .. } = tenant.options();
    sandbox.write("keys/secret.txt", client_secret);
    let url = server.url();
    let text = fs::read_to_string(sandbox.path("backstop.yaml")).unwrap();
    let kept: String = text
        .lines()
        .filter(|l| !["sources:", "streams:", "jobs:"].iter().any(|s| l.starts_with(s)))
        .map(|line| format!("{line}\n"))
        .collect();
    let access = format!("tenant: {id}, endpoint: \"{url}\", authority: \"{url}\"");
    let policy = format!(
        "{kept}sources:\n  entra: {{ graph: {{ {access}, catalog: [entra, pim], credential: &agent {{ client_secret: {{ client_id: {client_id}, \
         secret_file: keys/secret.txt }} }} }} }}\nstreams:\n  sign-ins: {{ graph_log: {{ {access}, log: signIns, available: 2d, credential: *agent }} }}\n  \
         pim-requests: {{ graph_log: {{ {access}, log: roleAssignmentScheduleRequests, credential: *agent }} }}\njobs: {{}}\n"
    );
    sandbox.write("backstop.yaml", policy);
    (sandbox, tenant, server)
}

fn second_reader(sandbox: &Sandbox, args: &[&str]) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let given = std::env::var_os("BACKSTOP_TEST_PYTHON").map(Into::into);
    let python = given.unwrap_or_else(|| root.join("target/test-venv/bin/python3"));
    let script = root.join("tests/support/second_reader.py");
    let out = Command::new(python).arg("-B").arg(script).args(args).current_dir(sandbox.path("")).output().unwrap();
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out.stderr)))
}

fn sorted_lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_tenants_vault_is_what_the_page_says() {
    let (sandbox, tenant, _server) = tenant_sandbox();
    let faults = |rules: Value| tenant.set_faults(serde_json::from_value(rules).unwrap());
    faults(json!([{ "path": "/v1.0/identity/conditionalAccess/namedLocations", "kind": "status", "status": 403, "code": "AccessDenied" }]));
    let first = sandbox.json(&["snapshot"], 6).remove(0);
    let locations = &first["collections"]["entra.namedLocations"];
    assert_eq!((&locations["outcome"], &locations["error_code"], &locations["count"]), (&json!("absent"), &json!("forbidden"), &json!(0)));
    assert!(locations["absent_since"].is_string() && locations["as_of"].is_null());
    // Still not there, since the same instant; then there; then failed, and carried.
    let second = sandbox.json(&["snapshot"], 6).remove(0);
    assert_eq!(second["collections"]["entra.namedLocations"]["outcome"], "failed");
    assert_eq!(second["collections"]["entra.namedLocations"]["absent_since"], locations["absent_since"]);
    faults(json!([]));
    let third = sandbox.json(&["snapshot"], 0).remove(0);
    let count = third["collections"]["entra.namedLocations"]["count"].as_u64().unwrap();
    assert!(count > 0 && third["collections"]["entra.namedLocations"]["absent_since"].is_null());
    // What could not be captured did not come and go.
    let changes = sandbox.json(&["diff", "entra~1", "entra", ID[0], ID[1]], 0);
    assert!(changes.iter().all(|c| c["collection"] != "entra.namedLocations"), "{changes:#?}");
    let told = sandbox.backstop(&["diff", "entra~1", "entra", ID[0], ID[1]]);
    let words = "entra.namedLocations is not complete: it could not be captured since";
    assert!(told.stderr.contains(words) && told.stderr.contains("neither added nor removed"), "{}", told.stderr);
    // Nor is a restore of it silent, whichever way it was chosen; and no difference is no proof where nobody looked.
    for run in ["entra~1", second["run"].as_str().unwrap()] {
        let dry = sandbox.backstop(&["restore", "files", run, "--dry-run", "--json", ID[0], ID[1]]);
        assert!(dry.code == 0 && dry.stderr.contains("it could not be captured since"), "{}", dry.stderr);
        let report = &dry.json()[0];
        assert_eq!((&report["outcome"], &report["incomplete"][0]["name"]), (&json!("partial"), &json!("entra.namedLocations")), "{report}");
        assert_eq!(report["incomplete"][0]["absent_since"], locations["absent_since"]);
    }
    let whole = sandbox.json(&["restore", "files", "entra", "--dry-run", ID[0], ID[1]], 0).remove(0);
    assert_eq!((&whole["outcome"], &whole["incomplete"]), (&json!("complete"), &json!([])));
    let nothing = sandbox.backstop(&["diff", "entra~2", "entra~1", "--html", "none.html", ID[0], ID[1]]);
    assert_eq!(nothing.stderr.matches("it could not be captured since").count(), 2, "{}", nothing.stderr);
    let page = fs::read_to_string(sandbox.path("none.html")).unwrap();
    assert!(page.contains("Not everything was captured") && page.contains("it could not be captured since"));
    tenant.change(5);
    faults(json!([{ "path": "/v1.0/identity/conditionalAccess/namedLocations", "kind": "status", "status": 403, "code": "AccessDenied" }]));
    let fourth = sandbox.json(&["snapshot"], 6).remove(0);
    let carried = &fourth["collections"]["entra.namedLocations"];
    assert_eq!((&carried["outcome"], &carried["count"]), (&json!("failed"), &json!(count)));
    assert_eq!(carried["as_of"], third["collections"]["entra.namedLocations"]["as_of"]);
    assert!(fourth["changed"].as_u64().unwrap() > 0 && fourth["deleted"] == 0);
    for args in [&["diff", "entra~1", "entra"][..], &["restore", "files", "entra", "--to", "carried"], &["find", "contoso"]] {
        let told = sandbox.backstop(&[args, &ID].concat());
        let words = ["entra.namedLocations", "could not be captured (forbidden): its records are as of"];
        assert!(told.code == 0 && words.iter().all(|w| told.stderr.contains(w)), "{args:?}: {}{}", told.stdout, told.stderr);
    }
    faults(json!([]));

    let exports = sandbox.json(&["export"], 0);
    for export in &exports {
        for field in ["run", "chain", "stream", "from", "to", "outcome"] {
            assert!(export[field].is_string(), "{field}: {export}");
        }
        for field in ["sequence", "events", "late_events", "read_bytes", "stored_bytes", "duration_seconds", "windows", "objects"] {
            assert!(export[field].is_number(), "{field}: {export}");
        }
    }
    let late = exports.iter().find(|e| e["stream"] == "pim-requests").unwrap()["late_events"].as_u64().unwrap();
    let events: u64 = exports.iter().map(|e| e["events"].as_u64().unwrap()).sum();
    assert!(late > 0 && events > late, "{events} events, {late} late");
    // What no window covers is not told as quiet.
    let logs = ["restore", "logs", "sign-ins", "--from", "2020-01-01", "--to", "2199-01-01", "--out", "all.ndjson", ID[0], ID[1]];
    let told = sandbox.backstop(&[&logs[..], &["--json"]].concat());
    let report = told.json().remove(0);
    let why: Vec<&str> = report["uncovered"].as_array().unwrap().iter().filter_map(|u| u["why"].as_str()).collect();
    assert_eq!((told.code, why), (0, vec!["before_the_first", "after_the_last"]), "{}", told.stderr);
    assert_eq!(told.stderr.matches("what happened then is not known from here").count(), 2, "{}", told.stderr);
    // A log that is read whole each time has no beginning.
    let logs = ["restore", "logs", "pim-requests", "--from", "2020-01-01", "--to", "2199-01-01", "--out", "whole.ndjson", ID[0], ID[1]];
    let report = sandbox.json(&logs, 0).remove(0);
    let why: Vec<&str> = report["uncovered"].as_array().unwrap().iter().filter_map(|u| u["why"].as_str()).collect();
    assert_eq!(why, ["after_the_last"], "{report}");
    assert_eq!(sandbox.json(&["verify"], 0)[0]["ok"], true);
    let deep = &sandbox.json(&["verify", "--deep", ID[0], ID[1]], 0)[0];
    assert_eq!(deep["ok"], true);

    let read = second_reader(&sandbox, &["deep", "vault", ID[0], ID[1]]);
    assert_eq!((&read["ok"], &read["deviations"], &read["events"]), (&json!(true), &json!([]), &json!(events)), "{read:#}");

    // With ordinary tools, by the vault's own page.
    let page = fs::read_to_string(sandbox.path("vault/attestations/RECOVERY.md")).unwrap();
    let script: Vec<&str> = page.lines().skip_while(|l| *l != "```bash").skip(1).take_while(|l| *l != "```").collect();
    sandbox.write("recover.sh", script.join("\n") + "\n");
    let run = fourth["run"].as_str().unwrap();
    for command in [
        format!("files vault {run} keys/identity-1.txt by-tools"),
        "logs vault sign-ins keys/identity-1.txt sign-ins.ndjson".into(),
        "logs vault pim-requests keys/identity-1.txt pim-requests.ndjson".into(),
    ] {
        let ran = sandbox.shell(&format!("bash recover.sh {command}"));
        assert_eq!(ran.code, 0, "{command}: {}", ran.stderr);
    }
    sandbox.json(&["restore", "files", run, "--to", "by-backstop", ID[0], ID[1]], 0);
    let same = sandbox.shell("diff -r by-tools by-backstop && find by-tools -type f | wc -l");
    assert_eq!((same.code, same.stdout.trim()), (0, fourth["entries"].to_string().as_str()), "{}", same.stdout);
    for stream in ["sign-ins", "pim-requests"] {
        let ours = sandbox.backstop(&["restore", "logs", stream, "--from", "2000-01-01", "--to", "2100-01-01", ID[0], ID[1]]);
        let theirs = fs::read_to_string(sandbox.path(&format!("{stream}.ndjson"))).unwrap();
        assert!(ours.code == 0 && !theirs.is_empty());
        assert_eq!(sorted_lines(&ours.stdout), sorted_lines(&theirs), "{stream}");
    }
}
