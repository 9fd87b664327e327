//! The endpoint that hands out access tokens, and the judge of those that come back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::sample::instant::seconds_text;
use crate::sample::query::Sealer;
use crate::sample::reply::{Call, Plane, Reply};
use crate::sample::{DOMAIN, Tenant, guid};

/// What a client assertion says that it is.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Whom another issuer's token is for.
const FEDERATED_AUDIENCE: &str = "api://AzureADTokenExchange";

/// Tokens that were handed out, without a list of them: each carries its own end under a seal.
#[derive(Debug)]
pub struct Tokens {
    began: Instant,
    generation: AtomicU64,
    handed_out: AtomicU64,
}

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is none.
    Missing,
    /// It is no token of ours.
    Garbage,
    /// Its time is over.
    Expired,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { began: Instant::now(), generation: AtomicU64::new(0), handed_out: AtomicU64::new(0) }
    }
}

impl Tokens {
    /// Makes all tokens so far invalid.
    pub fn expire_all(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn issue(&self, sealer: &Sealer, audience: &str, seconds: u64) -> String {
        let end = self.began.elapsed().as_millis() as u64 + seconds * 1000;
        let number = self.handed_out.fetch_add(1, Ordering::Relaxed);
        let generation = self.generation.load(Ordering::Acquire);
        let head = URL_SAFE_NO_PAD.encode(json!({"typ": "JWT", "alg": "none"}).to_string());
        format!("{head}.{}.sample", sealer.seal(&format!("token {end} {generation} {number} {audience}")))
    }

    /// Judges a token.
    pub fn judge(&self, sealer: &Sealer, token: Option<&str>) -> Result<(), Refusal> {
        let token = token.ok_or(Refusal::Missing)?;
        let inside = token.split('.').nth(1).and_then(|t| sealer.open(t)).ok_or(Refusal::Garbage)?;
        let words: Vec<&str> = inside.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|w| w.parse::<u64>().ok());
        match (words.first(), number(1), number(2)) {
            (Some(&"token"), Some(end), Some(generation)) => {
                let over = end <= self.began.elapsed().as_millis() as u64 || generation != self.generation.load(Ordering::Acquire);
                if over { Err(Refusal::Expired) } else { Ok(()) }
            }
            _ => Err(Refusal::Garbage),
        }
    }
}

fn fail(tenant: &Tenant, status: u16, error: &str, code: u32, text: &str) -> Reply {
    let now = tenant.now();
    let id = |kind: &str| guid(now as u64, kind, u64::from(code));
    let (trace, correlation, at) = (id("trace"), id("correlation"), seconds_text(now).replace('T', " "));
    let value = json!({
        "error": error,
        "error_description": format!("AADSTS{code}: {text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {at}"),
        "error_codes": [code], "timestamp": at, "trace_id": trace, "correlation_id": correlation,
        "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
    });
    Reply::json(status, &value).header("cache-control", "no-store, no-cache")
}

/// Judges a client assertion: form, claims and time. The sample tenant knows no certificates and no other issuers, so it
/// takes the signature as it comes.
fn judge_assertion(assertion: &str, client: &str, base: &str, now: u64) -> Result<(), (u32, String)> {
    let garbage = || (50_027, "JWT token is invalid or malformed.".to_owned());
    let [head, claims, signature] = assertion.split('.').collect::<Vec<_>>()[..] else { return Err(garbage()) };
    let read = |part: &str| URL_SAFE_NO_PAD.decode(part).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let (Some(head), Some(claims)) = (read(head), read(claims)) else { return Err(garbage()) };
    if signature.is_empty() || head["alg"] == "none" {
        return Err((5_002_738, "Invalid JWT token. Unsigned tokens are not accepted.".into()));
    }
    let (issuer, audience) = (claims["iss"].as_str().unwrap_or_default(), claims["aud"].as_str().unwrap_or_default());
    let certified = !head["x5t"].is_null() || !head["x5t#S256"].is_null();
    if certified && (issuer != client || claims["sub"] != issuer) {
        return Err((700_021, "Client assertion application identifier doesn't match 'client_id' parameter.".into()));
    }
    let expected = if certified { audience.starts_with(base) } else { audience == FEDERATED_AUDIENCE };
    if !expected {
        return Err((700_212, format!("No matching federated identity record found for presented assertion audience '{audience}'.")));
    }
    let inside = |from: &Value, to: &Value| from.as_u64().is_none_or(|from| from <= now + 300) && to.as_u64().is_some_and(|to| to > now);
    if inside(&claims["nbf"], &claims["exp"]) {
        return Ok(());
    }
    Err((700_024, "Client assertion is not within its valid time range.".into()))
}

/// Answers a request for a token.
pub fn answer(tenant: &Tenant, call: &Call, asked: &str) -> Reply {
    let options = tenant.options();
    if call.method != "POST" {
        return fail(tenant, 405, "invalid_request", 900_561, "The endpoint only accepts POST requests. Received a GET request.");
    }
    if !asked.eq_ignore_ascii_case(&options.tenant) && asked != DOMAIN {
        let text = format!(
            "Tenant '{asked}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. This may happen if there are no active subscriptions for the tenant."
        );
        return fail(tenant, 400, "invalid_request", 90_002, &text);
    }
    let form: Vec<(String, String)> = form_urlencoded::parse(&call.body).into_owned().collect();
    let field = |name: &str| form.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let missing = |name: &str| {
        fail(tenant, 400, "invalid_request", 900_144, &format!("The request body must contain the following parameter: '{name}'."))
    };
    match field("grant_type") {
        None => return missing("grant_type"),
        Some("client_credentials") => {}
        Some(other) => {
            let text = format!("The provided grant_type '{other}' is not supported by this endpoint.");
            return fail(tenant, 400, "unsupported_grant_type", 70_003, &text);
        }
    }
    let Some(client) = field("client_id") else { return missing("client_id") };
    if !client.eq_ignore_ascii_case(&options.client_id) {
        let text = format!(
            "Application with identifier '{client}' was not found in the directory 'Contoso'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant."
        );
        return fail(tenant, 400, "unauthorized_client", 700_016, &text);
    }
    if field("client_assertion_type").is_some() || field("client_assertion").is_some() {
        if field("client_assertion_type") != Some(ASSERTION_TYPE) {
            let text = "The request body must contain the following parameter: 'client_assertion_type' with the value of a JWT bearer.";
            return fail(tenant, 400, "invalid_request", 900_144, text);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        if let Err((code, text)) = judge_assertion(field("client_assertion").unwrap_or_default(), client, &call.base, now) {
            return fail(tenant, 401, "invalid_client", code, &text);
        }
    } else if field("client_secret") != Some(options.client_secret.as_str()) {
        let text = format!(
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{client}'."
        );
        return fail(tenant, 401, "invalid_client", 7_000_215, &text);
    }
    let Some(scope) = field("scope") else { return missing("scope") };
    let Some(audience) = scope.strip_suffix("/.default") else {
        let text = format!(
            "The provided value for scope {scope} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."
        );
        return fail(tenant, 400, "invalid_scope", 1_002_012, &text);
    };
    let known = ["https://graph.microsoft.com", "https://management.azure.com", "https://management.core.windows.net"];
    if !known.contains(&audience.trim_end_matches('/')) && !audience.starts_with(&call.base) {
        let text = format!("The resource principal named {audience} was not found in the tenant named Contoso.");
        return fail(tenant, 400, "invalid_resource", 500_011, &text);
    }
    let seconds = options.token_seconds;
    let token = tenant.tokens().issue(tenant.sealer(), audience, seconds);
    let value: Value = json!({"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token});
    Reply::json(200, &value).header("cache-control", "no-store, no-cache")
}

/// Refuses a request without a good token.
pub fn authorise(tenant: &Tenant, call: &Call) -> Result<(), Reply> {
    let Err(refusal) = tenant.tokens().judge(tenant.sealer(), call.bearer.as_deref()) else { return Ok(()) };
    let (code, text) = match (call.plane(), refusal) {
        (Plane::Graph, Refusal::Missing) => ("InvalidAuthenticationToken", "Access token is empty."),
        (Plane::Graph, Refusal::Garbage) => ("InvalidAuthenticationToken", "CompactToken parsing failed with error code: 80049217"),
        (Plane::Graph, Refusal::Expired) => ("InvalidAuthenticationToken", "Lifetime validation failed, the token is expired."),
        (Plane::Arm, Refusal::Missing) => ("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing."),
        (Plane::Arm, Refusal::Garbage) => ("InvalidAuthenticationToken", "The access token is invalid."),
        (Plane::Arm, Refusal::Expired) => {
            ("ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than current UTC time.")
        }
    };
    let challenge = format!("Bearer realm=\"\", authorization_uri=\"{}/{}/oauth2/v2.0/authorize\"", call.base, tenant.options().tenant);
    Err(Reply::fail(call, tenant.now(), 401, code, text).header("www-authenticate", challenge))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_end() {
        let (tokens, sealer) = (Tokens::default(), Sealer::new(1, "t"));
        let token = tokens.issue(&sealer, "x", 100);
        assert_eq!(tokens.judge(&sealer, Some(&token)), Ok(()));
        assert_eq!(tokens.judge(&sealer, Some("a.b.c")), Err(Refusal::Garbage));
        assert_eq!(tokens.judge(&sealer, None), Err(Refusal::Missing));
        assert_eq!(tokens.judge(&sealer, Some(&tokens.issue(&sealer, "x", 0))), Err(Refusal::Expired));
        tokens.expire_all();
        assert_eq!(tokens.judge(&sealer, Some(&token)), Err(Refusal::Expired));
        let page = format!("a.{}.b", sealer.seal("{\"p\":1}"));
        assert_eq!(tokens.judge(&sealer, Some(&page)), Err(Refusal::Garbage));
    }

    #[test]
    fn an_assertion_is_held_to_its_claims() {
        let jwt = |head: Value, claims: Value| {
            format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(head.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()))
        };
        let judge = |text: &str| judge_assertion(text, "app", "http://here", 1000).map_err(|(code, _)| code);
        let certified = || json!({"alg": "RS256", "x5t": "x"});
        let own = |aud: &str, iss: &str, exp: u64| json!({"aud": aud, "iss": iss, "sub": iss, "nbf": 900, "exp": exp});
        assert_eq!(judge(&jwt(certified(), own("http://here/t/oauth2/v2.0/token", "app", 1500))), Ok(()));
        assert_eq!(judge(&jwt(certified(), own("http://there", "app", 1500))), Err(700_212));
        assert_eq!(judge(&jwt(certified(), own("http://here", "other", 1500))), Err(700_021));
        assert_eq!(judge(&jwt(certified(), own("http://here", "app", 1000))), Err(700_024));
        assert_eq!(judge(&jwt(json!({"alg": "RS256"}), own(FEDERATED_AUDIENCE, "cluster", 1500))), Ok(()));
        assert_eq!(judge(&jwt(json!({"alg": "none"}), own(FEDERATED_AUDIENCE, "cluster", 1500))), Err(5_002_738));
        assert_eq!(judge("a.b.c"), Err(50_027));
        assert_eq!(judge("token"), Err(50_027));
    }
}
