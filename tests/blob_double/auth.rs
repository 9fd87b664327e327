//! Signatures, tokens, and the rights of each.

use jiff::SignedDuration;
use serde_json::Value;

use super::blob::{ALL_LETTERS, Role};
use super::{Answer, Harness, instant, of_version, version_of};

impl Harness {
    /// The same double through another signature.
    fn signed(&self, path: &str, method: &str, sas: &str, headers: &[(&str, &str)]) -> Answer {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, self.url(path, "", sas));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::from(request.body("x").send().unwrap())
    }

    fn for_a_day(&self, letters: &str) -> String {
        let now = self.double.now();
        self.double.sas(letters, now - SignedDuration::from_mins(1), now + SignedDuration::from_hours(24))
    }

    fn with_token(&self, method: &str, path: &str, query: &str, token: &str, headers: &[(&str, &str)]) -> Answer {
        let url = format!("{}/{path}{query}", self.double.endpoint());
        let mut request = self.client.request(reqwest::Method::from_bytes(method.as_bytes()).unwrap(), url).bearer_auth(token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::from(request.body("x").send().unwrap())
    }

    fn form(&self, tenant: &str, fields: &[(&str, &str)]) -> (u16, Value) {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let url = format!("{}/{tenant}/oauth2/v2.0/token", self.double.origin());
        let response = self.client.post(url).header("content-type", "application/x-www-form-urlencoded").body(body).send().unwrap();
        (response.status().as_u16(), serde_json::from_slice(&response.bytes().unwrap()).unwrap())
    }
}

const BLOCK_BLOB: (&str, &str) = ("x-ms-blob-type", "BlockBlob");

#[test]
fn a_signature_must_be_right_and_in_time() {
    let h = Harness::new();
    h.put("plain/a", &[], b"one");
    let sas = h.double.sas("r", instant("2026-11-24T12:00:00Z"), instant("2026-11-24T13:00:00Z"));
    assert_eq!(h.signed("plain/a", "GET", &sas, &[]).status, 200);
    let forged = h.signed("plain/a", "GET", &sas.replace("sp=r", "sp=rw"), &[]);
    assert_eq!(forged.outcome(), (403, "AuthenticationFailed"));
    assert!(forged.element("AuthenticationErrorDetail").unwrap().starts_with("Signature did not match."));
    h.double.set_clock(instant("2026-11-24T13:00:05Z"));
    let late = h.signed("plain/a", "GET", &sas, &[]);
    assert_eq!(late.outcome(), (403, "AuthenticationFailed"));
    let detail = late.element("AuthenticationErrorDetail").unwrap();
    let expected = "Signature not valid in the specified time frame: Start [Tue, 24 Nov 2026 12:00:00 GMT] - Expiry [Tue, 24 Nov 2026 \
                    13:00:00 GMT] - Current [Tue, 24 Nov 2026 13:00:0";
    assert!(detail.starts_with(expected), "{detail}");
    h.double.set_clock(instant("2026-11-24T11:00:00Z"));
    assert_eq!(h.signed("plain/a", "GET", &sas, &[]).outcome(), (403, "AuthenticationFailed"));
    assert_eq!(h.signed("plain/a", "GET", "a=b", &[]).outcome(), (401, "NoAuthenticationInformation"));
    h.double.configure(|o| o.arm.allow_shared_key_access = false);
    assert_eq!(h.signed("plain/a", "GET", &sas, &[]).outcome(), (403, "KeyBasedAuthenticationNotPermitted"));
}

/// Spelled out here, not taken from the double.
#[test]
fn the_string_to_sign_is_the_documented_one() {
    use base64::Engine as _;
    use sha2::Digest as _;
    let h = Harness::new();
    let sas = h.double.sas("rl", instant("2026-11-24T12:00:00Z"), instant("2026-11-25T12:00:00Z"));
    let text = "pimvault\nrl\nb\nsco\n2026-11-24T12:00:00Z\n2026-11-25T12:00:00Z\n\nhttps,http\n2022-11-02\n\n";
    let key = base64::engine::general_purpose::STANDARD.decode(h.double.options().account_key).unwrap();
    let mut block = [0_u8; 64];
    block[..key.len()].copy_from_slice(&key);
    let pad = |with: u8| block.map(|b| b ^ with);
    let inner = sha2::Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    let signature = sha2::Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    let sent: String = url::form_urlencoded::parse(sas.as_bytes()).find(|(n, _)| n == "sig").unwrap().1.into_owned();
    assert_eq!(sent, super::blob_base64(&signature));
}

#[test]
fn each_letter_gives_its_right_and_no_other() {
    let h = Harness::new();
    let first = version_of(&h.put("evidence/a", &[], b"one"));
    h.put("evidence/a", &[], b"two");
    let until = h.until(30);
    let lock = [BLOCK_BLOB, ("x-ms-immutability-policy-until-date", until.as_str()), ("x-ms-immutability-policy-mode", "Unlocked")];
    let denied = (403, "AuthorizationPermissionMismatch");
    let try_as = |letters: &str, method: &str, query: &str, headers: &[(&str, &str)]| {
        let sas = format!("{}{query}", h.for_a_day(letters));
        let path = if query.contains("comp=list") { "evidence" } else { "evidence/a" };
        h.signed(path, method, &sas, headers)
    };
    let without = |letter: char| ALL_LETTERS.replace(letter, "");
    assert_eq!(try_as("l", "GET", "", &[]).outcome(), denied);
    assert_eq!(try_as(&without('l'), "GET", "&restype=container&comp=list", &[]).outcome(), denied);
    assert_eq!(try_as("r", "PUT", "", &[BLOCK_BLOB]).outcome(), denied);
    assert_eq!(try_as("rc", "PUT", "", &[BLOCK_BLOB]).outcome(), (403, "UnauthorizedBlobOverwrite"));
    assert_eq!(try_as(&without('d'), "DELETE", "", &[]).outcome(), denied);
    assert_eq!(try_as(&without('x'), "DELETE", &of_version(&first), &[]).outcome(), denied);
    assert_eq!(try_as(&without('i'), "PUT", "", &lock).outcome(), denied);
    assert_eq!(try_as(&without('i'), "PUT", "&comp=legalhold", &[("x-ms-legal-hold", "true")]).outcome(), denied);
    assert_eq!(try_as(&without('t'), "GET", "&comp=tags", &[]).outcome(), denied);
    assert_eq!(try_as(&without('y'), "DELETE", &format!("{}&deletetype=permanent", of_version(&first)), &[]).outcome(), denied);
    // And with no more than the letters.
    assert_eq!(try_as("r", "GET", "", &[]).status, 200);
    assert_eq!(try_as("l", "GET", "&restype=container&comp=list", &[]).status, 200);
    assert_eq!(try_as("wi", "PUT", "", &lock).status, 201);
    assert_eq!(try_as("i", "DELETE", "&comp=immutabilityPolicies", &[]).status, 200);
    assert_eq!(try_as("d", "DELETE", "", &[]).status, 202);
    assert_eq!(try_as("x", "DELETE", &of_version(&first), &[]).status, 202);
    assert_eq!(h.signed("evidence/new", "PUT", &h.for_a_day("c"), &[BLOCK_BLOB]).status, 201);
}

#[test]
fn a_service_signature_is_for_its_container_or_blob_only() {
    let h = Harness::new();
    h.put("plain/a", &[], b"one");
    h.put("plain/b", &[], b"two");
    let (from, to) = (instant("2026-11-24T11:00:00Z"), instant("2026-11-24T23:00:00Z"));
    let container = h.double.service_sas("plain", "rl", from, to);
    assert_eq!(h.signed("plain/a", "GET", &container, &[]).status, 200);
    assert_eq!(h.signed("plain", "GET", &format!("{container}&restype=container&comp=list"), &[]).status, 200);
    assert_eq!(h.signed("plain", "GET", &format!("{container}&restype=container"), &[]).code, "AuthorizationResourceTypeMismatch");
    assert_eq!(h.signed("evidence/a", "GET", &container, &[]).code, "AuthenticationFailed");
    let blob = h.double.service_sas("plain/a", "r", from, to);
    assert_eq!(h.signed("plain/a", "GET", &blob, &[]).status, 200);
    assert_eq!(h.signed("plain/b", "GET", &blob, &[]).code, "AuthenticationFailed");
}

#[test]
fn tokens_are_given_for_a_secret_or_an_assertion() {
    let h = Harness::new();
    let options = h.double.options();
    let agent = options.identity(Role::Agent);
    let mut fields = vec![
        ("grant_type", "client_credentials"),
        ("client_id", agent.client_id.as_str()),
        ("scope", "https://storage.azure.com/.default"),
    ];
    fields.push(("client_secret", "wrong"));
    let (status, answer) = h.form(&options.tenant, &fields);
    assert_eq!((status, answer["error"].as_str()), (401, Some("invalid_client")));
    assert!(answer["error_description"].as_str().unwrap().starts_with("AADSTS7000215: Invalid client secret provided."));
    fields[3].1 = &agent.secret;
    let (status, answer) = h.form(&options.tenant, &fields);
    assert_eq!((status, answer["expires_in"].as_i64()), (200, Some(3599)));
    assert_eq!(h.form("other-tenant", &fields).0, 400);
    fields[3] = ("client_assertion", "a.b.c");
    assert_eq!(h.form(&options.tenant, &fields).0, 200);
    fields[1].1 = "nobody";
    assert_eq!(h.form(&options.tenant, &fields).1["error"], "unauthorized_client");
    let token = answer["access_token"].as_str().unwrap();
    assert_eq!(h.with_token("GET", "plain/none", "", token, &[]).code, "BlobNotFound");
    h.double.advance(SignedDuration::from_secs(3601));
    let late = h.with_token("GET", "plain/none", "", token, &[]);
    assert_eq!(late.outcome(), (401, "InvalidAuthenticationInfo"));
    assert!(late.header("www-authenticate").unwrap().starts_with("Bearer authorization_uri="));
    assert_eq!(h.with_token("GET", "plain/none", "", "made-up", &[]).status, 401);
    let other = h.double.token(Role::Owner, "https://management.azure.com/");
    assert_eq!(h.with_token("GET", "plain/none", "", &other, &[]).status, 401, "a token for another audience");
}

#[test]
fn machines_get_tokens_from_where_they_run() {
    let h = Harness::new();
    let origin = h.double.origin();
    let instance = format!("{origin}/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fstorage.azure.com");
    assert_eq!(h.client.get(&instance).send().unwrap().status(), 400);
    let app = format!("{origin}/msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fstorage.azure.com");
    assert_eq!(h.client.get(&app).header("x-identity-header", "wrong").send().unwrap().status(), 401);
    let header = h.double.options().identity_header;
    for request in [h.client.get(&instance).header("Metadata", "true"), h.client.get(&app).header("X-IDENTITY-HEADER", header)] {
        let answer: Value = serde_json::from_slice(&request.send().unwrap().bytes().unwrap()).unwrap();
        assert!(answer["expires_on"].as_str().unwrap().parse::<i64>().unwrap() > h.double.now().as_second());
        let token = answer["access_token"].as_str().unwrap();
        assert_eq!(h.with_token("PUT", "plain/new", "", token, &[BLOCK_BLOB]).status, 201, "the managed identity has the agent's role");
    }
    let discovery = format!("{origin}/{}/v2.0/.well-known/openid-configuration", h.double.options().tenant);
    let answer: Value = serde_json::from_slice(&h.client.get(discovery).send().unwrap().bytes().unwrap()).unwrap();
    assert!(answer["token_endpoint"].as_str().unwrap().ends_with("/oauth2/v2.0/token"));
}

#[test]
fn roles_may_what_their_actions_say() {
    let h = Harness::new();
    let until = h.until(30);
    let lock = [BLOCK_BLOB, ("x-ms-immutability-policy-until-date", until.as_str()), ("x-ms-immutability-policy-mode", "Locked")];
    let statuses = |role: Role| {
        let first = version_of(&h.put("evidence/a", &[], b"one"));
        h.put("evidence/a", &[], b"two");
        let token = h.double.token(role, "https://storage.azure.com/");
        let t = |method: &str, path: &str, query: &str, headers: &[(&str, &str)]| h.with_token(method, path, query, &token, headers).status;
        [
            t("GET", "evidence", "?restype=container&comp=list", &[]),
            t("GET", "evidence/a", "", &[]),
            t("PUT", "evidence/a", "", &[BLOCK_BLOB]),
            t("PUT", &format!("evidence/locked-{role:?}"), "", &lock),
            t("DELETE", "evidence/a", &format!("?{}", &of_version(&first)[1..]), &[]),
            t("DELETE", "evidence/a", "", &[]),
            t("GET", "", "?restype=service&comp=properties", &[]),
        ]
    };
    assert_eq!(statuses(Role::Owner), [200, 200, 201, 201, 202, 202, 200]);
    assert_eq!(statuses(Role::Contributor), [200, 200, 201, 403, 202, 202, 403]);
    assert_eq!(statuses(Role::Agent), [200, 200, 201, 201, 403, 403, 403]);
    assert_eq!(statuses(Role::Reader), [200, 200, 403, 403, 403, 403, 403]);
    assert_eq!(statuses(Role::Lister), [200, 403, 403, 403, 403, 403, 403]);
    let token = h.double.token(Role::Contributor, "https://storage.azure.com/");
    assert_eq!(h.with_token("PUT", "evidence/b", "", &token, &lock).code, "AuthorizationPermissionMismatch");
}
