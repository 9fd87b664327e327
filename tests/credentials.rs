//! Every kind of credential captures a tenant through the command line, exactly the one that the policy says; each
//! failure says what was tried, why it failed and what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/mod.rs"]
mod support;
#[path = "support/tenant.rs"]
mod tenant;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use backstop::sample::{Call, Tenant};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use support::Ran;
use tenant::Estate;

const IMDS: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} should be said:\n{text}");
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

// ---- a small service that keeps what it was asked

#[derive(Debug, Clone)]
struct Asked {
    method: String,
    target: String,
    head: String,
    body: String,
}

impl Asked {
    fn form(&self) -> HashMap<String, String> {
        url::form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }

    fn query(&self) -> HashMap<String, String> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    }
}

struct Service {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Service {
    /// Answers with what `answer` gives: status, further headers, body.
    fn new(answer: impl Fn(&Asked, &str) -> (u16, String, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (kept, base, answer) = (asked.clone(), url.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, base, answer) = (kept.clone(), base.clone(), answer.clone());
                std::thread::spawn(move || {
                    let one = read(&stream)?;
                    kept.lock().unwrap().push(one.clone());
                    let (status, headers, body) = answer(&one, &base);
                    let length = body.len();
                    let text = format!(
                        "HTTP/1.1 {status} Told\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
                    );
                    (&stream).write_all(text.as_bytes()).ok()
                });
            }
        });
        Self { url, asked }
    }

    /// The token endpoint of a tenant; `before` sees each request first.
    fn authority(tenant: &Arc<Tenant>, before: impl Fn(&Asked) + Send + Sync + 'static) -> Self {
        let tenant = tenant.clone();
        Self::new(move |asked, base| {
            before(asked);
            let call =
                Call { method: asked.method.clone(), base: base.into(), body: asked.body.clone().into(), ..Call::get(&asked.target) };
            let reply = tenant.answer(&call);
            (reply.status, String::new(), String::from_utf8(reply.body).unwrap())
        })
    }

    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        reader.read_until(b'\n', &mut head).ok().filter(|read| *read > 0)?;
    }
    let head = String::from_utf8(head).ok()?.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.trim().parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut words = head.split(' ');
    let (method, target) = (words.next()?.to_uppercase(), words.next()?.to_owned());
    Some(Asked { method, target, body: String::from_utf8(body).ok()?, head })
}

/// A token that the tenant's services take, got as the tenant's own client.
fn good_token(tenant: &Tenant, resource: &str) -> String {
    let options = tenant.options();
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", &options.client_id)
        .append_pair("client_secret", &options.client_secret)
        .append_pair("scope", &format!("{resource}/.default"))
        .append_pair("grant_type", "client_credentials")
        .finish();
    let target = format!("/{}/oauth2/v2.0/token", options.tenant);
    let reply = tenant.answer(&Call { method: "POST".into(), body: form.into(), ..Call::get(&target) });
    serde_json::from_slice::<Value>(&reply.body).unwrap()["access_token"].as_str().unwrap().to_owned()
}

// ---- policies

/// An estate whose policy says another credential.
struct Bench {
    estate: Estate,
    policy: String,
}

impl Bench {
    fn new(estate: Estate) -> Self {
        let policy = fs::read_to_string(estate.sandbox.path("backstop.yaml")).unwrap();
        Self { estate, policy }
    }

    fn client(&self) -> &str {
        &self.estate.tenant.options().client_id
    }

    fn tenant(&self) -> &str {
        &self.estate.tenant.options().tenant
    }

    /// Says a credential, and another token service if there is one.
    fn say(&self, credential: &str, authority: Option<&str>) {
        let from = format!("{{ client_secret: {{ client_id: {}, secret_file: secret.txt }} }}", self.client());
        assert!(self.policy.contains(&from));
        let text = self.policy.replace(&from, credential);
        let own = format!("authority: {}", self.estate.url());
        let text = authority.map_or_else(|| text.clone(), |url| text.replace(&own, &format!("authority: {url}")));
        self.estate.sandbox.write("backstop.yaml", text);
    }

    fn snapshot(&self, source: &str, env: &[(&str, &str)]) -> Ran {
        let ran = self.estate.sandbox.backstop_with(&["snapshot", source, "--json"], env);
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        ran
    }

    fn works(&self, env: &[(&str, &str)]) {
        for source in ["entra", "azure"] {
            let ran = self.snapshot(source, env);
            assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{source}");
        }
    }

    fn fails(&self, env: &[(&str, &str)], code: i32, words: &[&str]) -> Ran {
        let ran = self.snapshot("entra", env);
        assert_eq!(ran.code, code, "{}", ran.stderr);
        says(&ran.stderr, words);
        ran
    }
}

fn bench() -> Bench {
    Bench::new(Estate::new())
}

fn jwt(claims: &Value) -> String {
    let head = URL_SAFE_NO_PAD.encode(json!({"alg": "RS256", "typ": "JWT", "kid": "cluster"}).to_string());
    format!("{head}.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// Another issuer's token that the tenant takes; `number` tells it from others.
fn federated(number: u64) -> String {
    jwt(&json!({"iss": "https://cluster.example.com", "sub": "system:serviceaccount:backup:agent", "aud": "api://AzureADTokenExchange",
        "nbf": now() - 10, "exp": now() + 3600, "jti": number.to_string()}))
}

// ---- managed identity

/// A metadata service that gives the tenant's tokens.
fn metadata(tenant: &Arc<Tenant>, first: Vec<(u16, &'static str, &'static str)>) -> Service {
    let (tenant, first) = (tenant.clone(), Mutex::new(first));
    Service::new(move |asked, _| {
        let mut first = first.lock().unwrap();
        if !first.is_empty() {
            let (status, headers, body) = first.remove(0);
            return (status, headers.into(), body.into());
        }
        let token = good_token(&tenant, &asked.query()["resource"]);
        let body = json!({"access_token": token, "client_id": "c", "expires_in": "3600", "expires_on": (now() + 3600).to_string(),
            "ext_expires_in": "3600", "not_before": now().to_string(), "resource": asked.query()["resource"], "token_type": "Bearer"});
        (200, String::new(), body.to_string())
    })
}

#[test]
fn a_managed_identity_asks_the_machine_and_nobody_else() {
    let bench = bench();
    let imds = metadata(&bench.estate.tenant, vec![(410, "", "{}"), (429, "retry-after: 1\r\n", ""), (500, "", "")]);
    for (said, id) in [
        ("{ managed_identity: {} }", None),
        ("{ managed_identity: { client_id: abc } }", Some(("client_id", "abc"))),
        ("{ managed_identity: { object_id: def } }", Some(("object_id", "def"))),
        ("{ managed_identity: { resource_id: /subscriptions/x/y } }", Some(("msi_res_id", "/subscriptions/x/y"))),
    ] {
        bench.say(said, Some("http://127.0.0.1:1"));
        bench.estate.requests();
        bench.works(&[(IMDS, &imds.url)]);
        let asked = imds.asked();
        assert_eq!(asked.len(), if id.is_none() { 5 } else { 2 }, "{asked:#?}");
        for one in &asked {
            let query = one.query();
            assert!(one.head.contains("metadata: true") && one.target.starts_with("/metadata/identity/oauth2/token?"), "{one:?}");
            for name in ["client_id", "object_id", "msi_res_id"] {
                let expected = id.filter(|(of, _)| *of == name).map(|(_, id)| id);
                assert_eq!(query.get(name).map(String::as_str), expected);
            }
        }
        assert_eq!(asked.last().unwrap().query()["resource"], "https://management.azure.com");
    }
}

#[test]
fn a_managed_identity_says_why_it_has_no_token() {
    let bench = bench();
    bench.say("{ managed_identity: { client_id: abc } }", None);
    let none = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let ran = bench.snapshot("entra", &[(IMDS, &format!("http://{none}"))]);
    assert!(ran.code == 1 || ran.code == 75, "{} {}", ran.code, ran.stderr);
    says(&ran.stderr, &["/metadata/identity/oauth2/token", "cannot be reached", "client id abc", "only a machine in Azure"]);
    let denied = r#"{"error":"invalid_request","error_description":"Identity not found"}"#;
    let imds = metadata(&bench.estate.tenant, vec![(400, "", denied)]);
    bench.fails(&[(IMDS, &imds.url)], 1, &["client id abc", "Identity not found", "assign this identity to the machine"]);
    assert_eq!(imds.asked().len(), 1);
    // Other clouds have a service at the same address, which knows nothing of this.
    for (status, asked) in [(404, 6), (401, 1)] {
        let other = Service::new(move |_, _| (status, String::new(), "<html>".into()));
        bench.fails(&[(IMDS, &other.url)], 1, &[&format!("answered {status}"), "did not say why", "only a machine in Azure"]);
        assert_eq!(other.asked().len(), asked);
    }
    for far in ["http://example.com", "https://127.0.0.1:1", "nonsense"] {
        bench.fails(&[(IMDS, far)], 2, &[IMDS, far, "help: "]);
    }
    bench.fails(
        &[(IMDS, &imds.url), ("IDENTITY_ENDPOINT", &imds.url), ("IMDS_ENDPOINT", &imds.url)],
        1,
        &["managed_identity", "Azure Arc", "isn't supported"],
    );
}

// ---- workload identity and assertions

#[test]
fn a_workload_identity_reads_what_its_pod_has() {
    let bench = bench();
    let file = bench.estate.sandbox.write("var/token", federated(1));
    let file = file.to_str().unwrap();
    bench.say("{ workload_identity: {} }", None);
    let client = bench.client().to_owned();
    bench.works(&[("AZURE_CLIENT_ID", &client), ("AZURE_FEDERATED_TOKEN_FILE", file)]);
    bench.fails(
        &[("AZURE_CLIENT_ID", ""), ("AZURE_FEDERATED_TOKEN_FILE", file)],
        2,
        &["AZURE_CLIENT_ID", "is not set", "azure.workload.identity/use"],
    );
    bench.fails(&[("AZURE_CLIENT_ID", &client), ("AZURE_FEDERATED_TOKEN_FILE", "")], 2, &["AZURE_FEDERATED_TOKEN_FILE", "is not set"]);
    bench.fails(
        &[("AZURE_CLIENT_ID", &client), ("AZURE_FEDERATED_TOKEN_FILE", "/nowhere/token")],
        2,
        &["/nowhere/token", "No such file", "help: "],
    );
    bench.say(&format!("{{ workload_identity: {{ client_id: {client}, token_file: var/token }} }}"), None);
    bench.works(&[]);
    let old = jwt(&json!({"iss": "c", "sub": "s", "aud": "api://AzureADTokenExchange", "exp": now() - 5}));
    bench.estate.sandbox.write("var/token", &old);
    let ran =
        bench.fails(&[], 1, &[&client, bench.tenant(), &bench.estate.url(), "var/token", "AADSTS700024", "help: ", "federated credential"]);
    assert!(!ran.stderr.contains(&old));
    bench.estate.sandbox.write("var/token", "\n");
    bench.fails(&[], 2, &["var/token", "is empty"]);
}

#[test]
fn an_assertion_is_read_anew_at_every_renewal() {
    let bench = Bench::new(Estate::with(|o| {
        o.users = 1500;
        o.token_seconds = 2;
    }));
    bench.estate.faults(json!([{ "path": "/v1.0/users", "kind": "slow", "ms": 900 }]));
    let file = bench.estate.sandbox.write("assertion.jwt", federated(0) + "\n");
    let number = Mutex::new(0);
    let next = file.clone();
    let authority = Service::authority(&bench.estate.tenant, move |_| {
        let mut number = number.lock().unwrap();
        *number += 1;
        fs::write(&next, federated(*number)).unwrap();
    });
    bench.say(&format!("{{ client_assertion: {{ client_id: {}, assertion_file: assertion.jwt }} }}", bench.client()), Some(&authority.url));
    let ran = bench.snapshot("entra", &[]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let asked = authority.asked();
    let mut sent: Vec<String> = asked.iter().map(|one| one.form()["client_assertion"].clone()).collect();
    assert!(sent.len() >= 2, "{sent:?}");
    assert!(asked.iter().all(|one| one.form()["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
    sent.sort();
    sent.dedup();
    assert_eq!(sent.len(), asked.len(), "one was sent twice");
}

#[test]
fn an_assertion_may_stand_in_the_environment() {
    let bench = bench();
    bench.say(&format!("{{ client_assertion: {{ client_id: {}, assertion_env: AGENT_ASSERTION }} }}", bench.client()), None);
    bench.works(&[("AGENT_ASSERTION", &federated(1))]);
    bench.fails(&[], 2, &["AGENT_ASSERTION", "is not set", "help: "]);
    let ran = bench.fails(&[("AGENT_ASSERTION", "no-jwt-at-all")], 1, &["AADSTS50027", bench.client(), "help: "]);
    assert!(!ran.stderr.contains("no-jwt-at-all"));
    bench.say(&format!("{{ client_assertion: {{ client_id: {}, assertion_file: nowhere.jwt }} }}", bench.client()), None);
    bench.fails(&[], 2, &["nowhere.jwt", "No such file", "help: "]);
}

// ---- certificates

/// Keys and certificates; `agent.pem` is a good one.
const MAKE: &str = r#"
    new() { openssl req -x509 -newkey "$1" ${4:-} -nodes -keyout "$2.key" -out "$2.crt" -days "$3" -subj /CN=agent 2> /dev/null; }
    new rsa:2048 agent 3
    cat agent.crt agent.key > agent.pem
    openssl x509 -in agent.crt -noout -pubkey > agent.pub
    openssl rsa -in agent.key -traditional -out agent.pkcs1 2> /dev/null
    cat agent.pkcs1 agent.crt > pkcs1.pem
    new rsa:2048 other 3
    cat other.crt agent.key > mismatched.pem
    cat other.crt agent.key agent.crt > several.pem
    openssl ecparam -name prime256v1 -genkey -noout -out ec.sec1 && openssl pkcs8 -topk8 -nocrypt -in ec.sec1 -out ec.pk8
    cat agent.crt ec.sec1 > ec-sec1.pem
    cat agent.crt ec.pk8 > ec-pkcs8.pem
    openssl pkcs8 -topk8 -in agent.key -passout pass:x -out agent.enc && cat agent.crt agent.enc > encrypted.pem
    openssl x509 -in agent.crt -outform der -out binary.pem
    openssl req -new -key agent.key -subj /CN=agent -out agent.csr 2> /dev/null
    openssl x509 -req -in agent.csr -signkey agent.key -days -1 -out ended.crt 2> /dev/null && cat ended.crt agent.key > ended.pem
"#;

#[test]
fn a_certificate_signs_what_the_token_service_gets() {
    let bench = bench();
    let made = bench.estate.sandbox.shell(MAKE);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let authority = Service::authority(&bench.estate.tenant, |_| ());
    for file in ["agent.pem", "pkcs1.pem", "several.pem"] {
        bench
            .say(&format!("{{ client_certificate: {{ client_id: {}, certificate_file: {file} }} }}", bench.client()), Some(&authority.url));
        bench.works(&[]);
        let asked = authority.asked();
        assert_eq!(asked.len(), 2);
        let endpoint = format!("{}/{}/oauth2/v2.0/token", authority.url, bench.tenant());
        let jwt = asked[0].form()["client_assertion"].clone();
        let parts: Vec<&str> = jwt.split('.').collect();
        let part = |n: usize| URL_SAFE_NO_PAD.decode(parts[n]).unwrap();
        let (head, claims): (Value, Value) = (serde_json::from_slice(&part(0)).unwrap(), serde_json::from_slice(&part(1)).unwrap());
        bench.estate.sandbox.write("said", format!("{}.{}", parts[0], parts[1]));
        bench.estate.sandbox.write("signature", part(2));
        let verified = bench.estate.sandbox.shell("openssl dgst -sha256 -verify agent.pub -signature signature said");
        assert_eq!((verified.code, verified.stdout.trim()), (0, "Verified OK"), "{}", verified.stderr);
        for (name, algorithm) in [("x5t", "sha1"), ("x5t#S256", "sha256")] {
            let digest = bench
                .estate
                .sandbox
                .shell(&format!("openssl x509 -in agent.crt -outform der | openssl dgst -{algorithm} -r | cut -d' ' -f1"));
            let said: String = URL_SAFE_NO_PAD.decode(head[name].as_str().unwrap()).unwrap().iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(said, digest.stdout.trim(), "{name}");
        }
        assert_eq!((&head["alg"], &head["typ"]), (&json!("RS256"), &json!("JWT")));
        assert_eq!((&claims["aud"], &claims["iss"], &claims["sub"]), (&json!(endpoint), &json!(bench.client()), &json!(bench.client())));
        let (from, to) = (claims["nbf"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
        assert!(to - from == 600 && from <= now() && from + 300 > now(), "{claims}");
        assert!(claims["jti"].as_str().unwrap().len() >= 32);
    }
}

#[test]
fn a_file_that_is_no_certificate_says_what_it_is() {
    let bench = bench();
    let made = bench.estate.sandbox.shell(MAKE);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let say = |file: &str, authority: Option<&str>| {
        bench.say(&format!("{{ client_certificate: {{ client_id: {}, certificate_file: {file} }} }}", bench.client()), authority);
    };
    for (file, said) in [
        ("agent.crt", "holds no private key"),
        ("agent.key", "holds no certificate"),
        ("mismatched.pem", "belongs to none of its certificates"),
        ("ec-sec1.pem", "is not RSA"),
        ("ec-pkcs8.pem", "is not RSA"),
        ("encrypted.pem", "under a password"),
        ("binary.pem", "is not PEM"),
        ("ended.pem", "ended on"),
        ("nowhere.pem", "No such file"),
    ] {
        say(file, None);
        bench.estate.requests();
        bench.fails(&[], 2, &[file, said, "help: "]);
        assert!(bench.estate.requests().is_empty());
    }
    // What the token service says of one that it does not know.
    let refusing = Service::new(|_, _| {
        let said =
            json!({"error": "invalid_client", "error_description": "AADSTS700027: The certificate is not registered.\r\nTrace ID: x"});
        (401, String::new(), said.to_string())
    });
    say("agent.pem", Some(&refusing.url));
    let words = ["AADSTS700027", bench.client(), "agent.pem", &refusing.url, "help: ", "application registration"];
    let ran = bench.fails(&[], 1, &words);
    assert!(!ran.stderr.contains("Trace ID"), "{}", ran.stderr);
    assert_eq!(refusing.asked().len(), 1);
}

// ---- the Azure CLI

#[test]
fn the_azure_cli_is_asked_for_this_tenant() {
    let bench = bench();
    let az = |script: &str| {
        let path = bench
            .estate
            .sandbox
            .write("bin/az", format!("#!/bin/sh\necho \"$*\" >> '{}'\n{script}\n", bench.estate.sandbox.path("az.log").display()));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let path = format!("{}:{}", bench.estate.sandbox.path("bin").display(), std::env::var("PATH").unwrap());
    let env = [("PATH", path.as_str())];
    bench.say("{ azure_cli: {} }", Some("http://127.0.0.1:1"));
    let token = json!({"accessToken": good_token(&bench.estate.tenant, "https://graph.microsoft.com"), "expires_on": now() + 3600, "tokenType": "Bearer"});
    az(&format!("cat <<'END'\n{token}\nEND"));
    bench.works(&env);
    let log = fs::read_to_string(bench.estate.sandbox.path("az.log")).unwrap();
    for (line, resource) in log.lines().zip(["https://graph.microsoft.com", "https://management.azure.com"]) {
        says(line, &["account get-access-token", &format!("--scope {resource}/.default"), &format!("--tenant {}", bench.tenant())]);
    }
    assert_eq!(log.lines().count(), 2, "{log}");
    let login = format!("az login --tenant {}", bench.tenant());
    az("echo 'WARNING: something else' >&2; echo \"ERROR: Please run 'az login' to setup account.\" >&2; exit 1");
    bench.fails(&env, 1, &["the Azure CLI", "Please run 'az login'", "help: ", &login]);
    az("echo 'no json'");
    bench.fails(&env, 1, &["the Azure CLI", "help: "]);
    let nowhere = bench.estate.sandbox.path("nothing");
    bench.fails(&[("PATH", nowhere.to_str().unwrap())], 1, &["az not found on PATH", "help: ", "install the Azure CLI", &login]);
    assert!(Path::new("/bin/sh").exists());
}
