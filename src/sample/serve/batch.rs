//! Several requests in one: each has its own status, and the answers come in no particular order.

use serde_json::{Value, json};

use crate::sample::Tenant;
use crate::sample::reply::{Call, Reply, Wire};
use crate::sample::rng::{Rng, hash_text};

/// Requests that one batch may hold.
const MOST: usize = 20;

/// Answers `$batch`.
pub fn answer(tenant: &Tenant, call: &Call) -> Reply {
    let bad = |text: &str| Reply::fail(call, tenant.now(), 400, "BadRequest", text);
    if call.method != "POST" {
        return Reply::fail(call, tenant.now(), 405, "Request_BadRequest", "Batches are posted.");
    }
    let Ok(body) = serde_json::from_slice::<Value>(&call.body) else { return bad("Invalid batch payload format.") };
    let Some(requests) = body["requests"].as_array() else { return bad("Invalid batch payload format.") };
    if requests.is_empty() || requests.len() > MOST {
        return bad("The number of batch requests is not between 1 and the maximum limit of 20.");
    }
    let mut ids: Vec<&str> = Vec::new();
    for request in requests {
        match (request["id"].as_str(), request["method"].as_str(), request["url"].as_str()) {
            (Some(id), Some(_), Some(_)) if !ids.contains(&id) => ids.push(id),
            _ => return bad("Each request of a batch needs an id of its own, a method and a url."),
        }
    }
    let version = if call.path.starts_with("/beta/") { "/beta" } else { "/v1.0" };
    let mut responses: Vec<Value> = requests.iter().map(|request| inner(tenant, call, version, request)).collect();
    let mut rng = Rng::new(&[tenant.options().seed, hash_text(&ids.join(","))]);
    for at in (1..responses.len()).rev() {
        responses.swap(at, rng.below(at + 1));
    }
    Reply::json(200, &json!({"responses": responses}))
}

fn inner(tenant: &Tenant, call: &Call, version: &str, request: &Value) -> Value {
    let url = request["url"].as_str().unwrap_or_default();
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let path = percent_encoding::percent_decode_str(path.trim_start_matches('/')).decode_utf8_lossy();
    let header = |name: &str| {
        let map = request["headers"].as_object()?;
        map.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).and_then(|(_, v)| v.as_str())
    };
    let inner = Call {
        method: request["method"].as_str().unwrap_or("GET").to_ascii_uppercase(),
        path: format!("{version}/{path}"),
        query: query.to_owned(),
        eventual: header("ConsistencyLevel").is_some_and(|v| v.eq_ignore_ascii_case("eventual")),
        body: request["body"].to_string().into_bytes(),
        nested: true,
        ..call.clone()
    };
    let reply = tenant.answer(&inner);
    let (status, body) = match reply.wire {
        Wire::Whole => (reply.status, reply.body),
        _ => (503, br#"{"error":{"code":"serviceNotAvailable","message":"The service is temporarily unavailable."}}"#.to_vec()),
    };
    let mut headers = json!({"Content-Type": "application/json"});
    for (name, value) in &reply.headers {
        let name = if *name == "retry-after" { "Retry-After" } else { name };
        headers[name] = json!(value);
    }
    // A body that is not JSON goes as text, as the service does with media.
    let body = serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&body)));
    json!({"id": request["id"], "status": status, "headers": headers, "body": body})
}
