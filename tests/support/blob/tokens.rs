//! Tokens: the OAuth endpoint of a tenant, the instance metadata service, and the app service's endpoint.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::call::Call;
use super::instants::seconds;
use super::options::{Identity, Role};
use super::reply::{Outcome, Reply};
use super::state::State;

pub struct Token {
    pub role: Role,
    pub arm: bool,
    pub audience: String,
    pub expires: Timestamp,
}

/// A token in the form of the real ones, so that clients which look inside find a tenant and an end.
fn issue(state: &mut State, identity: &Identity, audience: &str) -> (String, Timestamp) {
    let expires = state.now().checked_add(seconds(state.options.token_seconds)).unwrap();
    let claims = json!({
        "aud": audience, "tid": state.options.tenant, "appid": identity.client_id, "oid": identity.client_id,
        "exp": expires.as_second(), "nbf": state.now().as_second(), "jti": state.next_serial().to_string(),
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}.{}", part(&json!({ "alg": "none", "typ": "JWT" })), part(&claims), URL_SAFE_NO_PAD.encode("double"));
    let token = Token { role: identity.role, arm: identity.arm, audience: audience.to_owned(), expires };
    state.tokens.insert(text.clone(), token);
    (text, expires)
}

/// A token without the way through an endpoint.
pub fn grant(state: &mut State, role: Role, audience: &str) -> String {
    let identity = state.options.identity(role).clone();
    issue(state, &identity, audience).0
}

fn refusal(status: u16, error: &str, number: u32, text: &str) -> Reply {
    let description = format!("AADSTS{number}: {text} Trace ID: 00000000-0000-4000-8000-000000000000");
    Reply::json(status, &json!({ "error": error, "error_description": description, "error_codes": [number] }))
}

/// POST `/{tenant}/oauth2/v2.0/token`: by a secret, or by any signed assertion.
pub fn oauth(state: &mut State, call: &Call) -> Outcome {
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&call.body).into_owned().collect();
    let field = |name: &str| form.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str());
    let tenant = call.path.trim_start_matches('/').split('/').next().unwrap_or_default();
    if tenant != state.options.tenant {
        let text = format!("Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID.");
        return Err(refusal(400, "invalid_request", 90002, &text));
    }
    if field("grant_type") != "client_credentials" {
        return Err(refusal(400, "unsupported_grant_type", 70003, "The app requested an unsupported grant type."));
    }
    let Some(identity) = state.options.identities.iter().find(|i| i.client_id == field("client_id")).cloned() else {
        let text = format!("Application with identifier '{}' was not found in the directory.", field("client_id"));
        return Err(refusal(400, "unauthorized_client", 700016, &text));
    };
    let assertion = field("client_assertion");
    if assertion.is_empty() && field("client_secret") != identity.secret {
        let text = format!(
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client \
             secret ID, for a secret added to app '{}'.",
            identity.client_id
        );
        return Err(refusal(401, "invalid_client", 7000215, &text));
    }
    if !assertion.is_empty() && assertion.split('.').count() != 3 {
        return Err(refusal(401, "invalid_client", 50027, "JWT token is invalid or malformed."));
    }
    let audience = field("scope").trim_end_matches(".default").to_owned();
    let (token, _) = issue(state, &identity, &audience);
    let left = state.options.token_seconds - 1;
    Ok(Reply::json(200, &json!({ "token_type": "Bearer", "expires_in": left, "ext_expires_in": left, "access_token": token })))
}

/// GET `/metadata/identity/oauth2/token` and GET `/msi/token`.
pub fn managed(state: &mut State, call: &Call, instance: bool) -> Outcome {
    let known = if instance {
        call.header("metadata").is_some_and(|m| m.eq_ignore_ascii_case("true"))
    } else {
        call.header("x-identity-header") == Some(state.options.identity_header.as_str())
    };
    if !known {
        let error = json!({ "error": "invalid_request", "error_description": "Required metadata header not specified" });
        return Err(Reply::json(if instance { 400 } else { 401 }, &error));
    }
    let client = call.query("client_id").unwrap_or(&state.options.managed_identity).to_owned();
    let Some(identity) = state.options.identities.iter().find(|i| i.client_id == client).cloned() else {
        let error = json!({ "error": "invalid_request", "error_description": "Identity not found" });
        return Err(Reply::json(400, &error));
    };
    let resource = call.query("resource").unwrap_or_default().to_owned();
    let (token, expires) = issue(state, &identity, &resource);
    Ok(Reply::json(
        200,
        &json!({
            "access_token": token, "client_id": identity.client_id, "token_type": "Bearer", "resource": resource,
            "expires_in": state.options.token_seconds.to_string(), "expires_on": expires.as_second().to_string(),
            "not_before": state.now().as_second().to_string(),
        }),
    ))
}

/// What clients ask before they trust an authority.
pub fn discovery(state: &State, call: &Call, origin: &str) -> Outcome {
    let tenant = &state.options.tenant;
    if call.path.contains("/discovery/instance") {
        let endpoint = format!("{origin}/{tenant}/v2.0/.well-known/openid-configuration");
        return Ok(Reply::json(200, &json!({ "tenant_discovery_endpoint": endpoint, "api-version": "1.1", "metadata": [] })));
    }
    if call.path.ends_with("/keys") {
        return Ok(Reply::json(200, &json!({ "keys": [] })));
    }
    Ok(Reply::json(
        200,
        &json!({
            "issuer": format!("{origin}/{tenant}/v2.0"),
            "token_endpoint": format!("{origin}/{tenant}/oauth2/v2.0/token"),
            "authorization_endpoint": format!("{origin}/{tenant}/oauth2/v2.0/authorize"),
            "jwks_uri": format!("{origin}/{tenant}/discovery/v2.0/keys"),
        }),
    ))
}
