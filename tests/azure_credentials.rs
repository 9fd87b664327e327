//! A vault in Azure takes every kind of credential that a policy can name, through the command line, on the double of
//! the service and its token services; and each is asked in its own way, not some other that also works.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/azure.rs"]
mod azure;
#[path = "support/blob/mod.rs"]
mod blob;
#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use azure::Cloud;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use blob::Role;
use jiff::Timestamp;
use serde_json::json;
use support::Ran;

/// Nobody is there.
const NOWHERE: &str = "http://127.0.0.1:1";

fn agent(cloud: &Cloud) -> String {
    cloud.double.options().identity(Role::Agent).client_id.clone()
}

/// An assertion of another issuer, good for an hour.
fn federated() -> String {
    let now = Timestamp::now().as_second();
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({ "iss": "https://cluster.example.com", "sub": "agent", "aud": "api://AzureADTokenExchange", "nbf": now - 10,
        "exp": now + 3600 });
    format!("{}.{}.c2ln", part(json!({ "alg": "RS256", "typ": "JWT" })), part(claims))
}

fn snapshot(cloud: &Cloud, env: &[(&str, &str)]) -> Ran {
    cloud.sandbox.write("tree/role.json", format!("{{\"id\":\"{}\"}}", Timestamp::now()));
    cloud.sandbox.backstop_with(&["snapshot", "--json"], env)
}

/// The credential takes a snapshot, and what it wrote is locked and restores.
fn works(cloud: &Cloud, env: &[(&str, &str)]) {
    let before = cloud.envelopes("snapshot.tree");
    let ran = snapshot(cloud, env);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(cloud.envelopes("snapshot.tree"), before + 1);
    let verified = cloud.sandbox.backstop_with(&["verify", "--json"], env);
    assert_eq!((verified.code, &verified.json()[0]["ok"]), (0, &json!(true)), "{}{}", verified.stdout, verified.stderr);
    let run = ran.json()[0]["run"].as_str().unwrap().to_owned();
    let to = format!("out-{run}");
    let restored = cloud.sandbox.backstop_with(&["restore", "files", &run, "--to", &to, "--identity", "keys/identity-1.txt"], env);
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    assert_eq!(cloud.sandbox.shell(&format!("diff -r tree {to}")).code, 0);
}

/// The same credential without what it needs is refused, and nothing is committed.
fn refused(cloud: &Cloud, env: &[(&str, &str)], words: &[&str]) {
    let before = cloud.envelopes("snapshot.tree");
    let ran = snapshot(cloud, env);
    assert!([1, 2, 5].contains(&ran.code), "{}: {}", ran.code, ran.stderr);
    for word in words {
        assert!(ran.stderr.contains(word), "{word:?} should be said:\n{}", ran.stderr);
    }
    assert_eq!(cloud.envelopes("snapshot.tree"), before);
}

#[test]
fn a_managed_identity_opens_the_vault() {
    let cloud = Cloud::new();
    let origin = cloud.double.origin();
    let imds = [("AZURE_POD_IDENTITY_AUTHORITY_HOST", origin.as_str())];
    cloud.credential(NOWHERE, &format!("managed_identity: {{ client_id: {} }}", agent(&cloud)));
    works(&cloud, &imds);
    let reader = cloud.double.options().identity(Role::Reader).client_id.clone();
    cloud.credential(NOWHERE, &format!("managed_identity: {{ client_id: {reader} }}"));
    refused(&cloud, &imds, &["may not"]);
    cloud.credential(NOWHERE, "managed_identity: { client_id: 00000000-0000-4000-8000-00000000dead }");
    refused(&cloud, &imds, &["00000000-0000-4000-8000-00000000dead", "help: "]);
}

#[test]
fn a_workload_identity_opens_the_vault() {
    let cloud = Cloud::new();
    let file = cloud.sandbox.write("var/token", federated());
    let client = agent(&cloud);
    cloud.credential(&cloud.double.origin(), "workload_identity: {}");
    works(&cloud, &[("AZURE_CLIENT_ID", &client), ("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap())]);
    refused(&cloud, &[("AZURE_CLIENT_ID", &client), ("AZURE_FEDERATED_TOKEN_FILE", "")], &["AZURE_FEDERATED_TOKEN_FILE", "help: "]);
}

#[test]
fn a_certificate_opens_the_vault() {
    let cloud = Cloud::new();
    let made = cloud.sandbox.shell(
        "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=agent -days 2 -keyout agent.key -out agent.crt 2> /dev/null && cat agent.crt agent.key > agent.pem",
    );
    assert_eq!(made.code, 0, "{}", made.stderr);
    cloud.credential(
        &cloud.double.origin(),
        &format!("client_certificate: {{ client_id: {}, certificate_file: agent.pem }}", agent(&cloud)),
    );
    works(&cloud, &[]);
    cloud.sandbox.write("agent.pem", "no certificate");
    refused(&cloud, &[], &["agent.pem", "help: "]);
}

#[test]
fn an_assertion_opens_the_vault() {
    let cloud = Cloud::new();
    cloud.sandbox.write("assertion.jwt", federated());
    cloud.credential(
        &cloud.double.origin(),
        &format!("client_assertion: {{ client_id: {}, assertion_file: assertion.jwt }}", agent(&cloud)),
    );
    works(&cloud, &[]);
    cloud.sandbox.write("assertion.jwt", "");
    refused(&cloud, &[], &["assertion.jwt", "is empty"]);
}

#[test]
fn the_azure_cli_opens_the_vault() {
    let cloud = Cloud::new();
    let token = json!({ "accessToken": cloud.double.token(Role::Agent, "https://storage.azure.com/"),
        "expires_on": Timestamp::now().as_second() + 3600, "tokenType": "Bearer" });
    let az = |script: &str| {
        let path = cloud.sandbox.write("bin/az", format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    az(&format!("echo \"$*\" >> '{}'\ncat <<'END'\n{token}\nEND", cloud.sandbox.path("az.log").display()));
    let path = format!("{}:{}", cloud.sandbox.path("bin").display(), std::env::var("PATH").unwrap());
    cloud.credential(NOWHERE, "azure_cli: {}");
    works(&cloud, &[("PATH", &path)]);
    let log = fs::read_to_string(cloud.sandbox.path("az.log")).unwrap();
    assert!(log.lines().all(|l| l.contains("https://storage.azure.com/.default")), "{log}");
    az("echo \"ERROR: Please run 'az login' to setup account.\" >&2; exit 1");
    refused(&cloud, &[("PATH", &path)], &["Please run 'az login'", "help: "]);
}
