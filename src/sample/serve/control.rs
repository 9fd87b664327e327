//! What a real tenant does not have: the knobs of the sample. Only this machine may turn them.

use serde_json::{Value, json};

use super::faults::Fault;
use crate::sample::instant::{parse, ticks_text};
use crate::sample::kinds::RULES;
use crate::sample::logs::Source;
use crate::sample::query::Query;
use crate::sample::reply::{Call, Reply};
use crate::sample::{DISASTERS, SampleError, Tenant, lock};

fn bad(text: impl Into<String>) -> Reply {
    Reply::json(400, &json!({"error": {"code": "BadRequest", "message": text.into()}}))
}

/// Answers a request below `/sample`.
pub fn answer(tenant: &Tenant, call: &Call) -> Reply {
    if !call.local {
        return Reply::json(403, &json!({"error": {"code": "Forbidden", "message": "only this machine may do that"}}));
    }
    let body: Result<Value, _> = if call.body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&call.body) };
    let Ok(body) = body else { return bad("the body is not JSON") };
    match (call.method.as_str(), call.path.trim_end_matches('/')) {
        ("GET", "/sample") => Reply::json(200, &status(tenant)),
        ("POST", "/sample/clock") => clock(tenant, &body),
        ("POST", "/sample/change") => {
            let count = body["count"].as_u64().unwrap_or(10).min(100_000) as usize;
            Reply::json(200, &json!(tenant.change(count)))
        }
        ("POST", "/sample/mischief") => Reply::json(200, &json!(tenant.mischief())),
        ("POST", "/sample/disaster") => match tenant.disaster(body["name"].as_str().unwrap_or_default()) {
            Ok(done) => Reply::json(200, &json!(done)),
            Err(error) => {
                let mut value = json!({"error": {"code": "BadRequest", "message": error.to_string()}});
                if matches!(error, SampleError::UnknownDisaster { .. }) {
                    value["names"] = json!(DISASTERS);
                }
                Reply::json(400, &value)
            }
        },
        ("POST", "/sample/faults") => match serde_json::from_value::<Vec<Fault>>(body) {
            Ok(rules) => {
                let count = rules.len();
                tenant.set_faults(rules);
                Reply::json(200, &json!({"faults": count}))
            }
            Err(error) => bad(format!("these are no fault rules: {error}")),
        },
        ("GET", "/sample/dump") => {
            let mut out = Vec::new();
            // Writing into memory cannot fail.
            let _ = tenant.dump(&mut out);
            Reply::lines(out)
        }
        ("GET", "/sample/dump/logs") => logs(tenant, &call.query),
        ("GET", "/sample/requests") => Reply::json(200, &json!(*lock(tenant.requests()))),
        (_, path) => Reply::json(404, &json!({"error": {"code": "NotFound", "message": format!("the sample has no {path}")}})),
    }
}

fn status(tenant: &Tenant) -> Value {
    let options = tenant.options();
    let estate = tenant.estate();
    let counts: serde_json::Map<String, Value> =
        RULES.iter().map(|rules| (rules.catalog.to_owned(), json!(estate.table(rules.kind).len()))).collect();
    json!({
        "tenant": options.tenant, "domain": crate::sample::DOMAIN, "client_id": options.client_id, "clock": ticks_text(tenant.now()),
        "frozen": tenant.clock().frozen(), "start": ticks_text(estate.basis.start), "seed": options.seed, "change": estate.change,
        "subscriptions": estate.basis.subscriptions(), "events_per_hour": tenant.events_per_hour(), "counts": counts,
    })
}

fn clock(tenant: &Tenant, body: &Value) -> Reply {
    let clock = tenant.clock();
    let mut done = false;
    if let Some(text) = body["now"].as_str() {
        let Some(at) = parse(text) else { return bad(format!("{text:?} is no instant")) };
        clock.set(at);
        done = true;
    }
    if let Some(seconds) = body["advance_seconds"].as_f64() {
        clock.advance((seconds * 1e9) as i64);
        done = true;
    }
    if let Some(frozen) = body["frozen"].as_bool() {
        clock.freeze(frozen);
        done = true;
    }
    if !done {
        return bad("the clock takes \"now\", \"advance_seconds\" or \"frozen\"");
    }
    Reply::json(200, &json!({"now": ticks_text(clock.now()), "frozen": clock.frozen()}))
}

fn logs(tenant: &Tenant, query: &str) -> Reply {
    if Query::parse(query).is_err() {
        return bad("the query is not understood");
    }
    let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let field = |name: &str| pairs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let Some(source) = field("stream").and_then(Source::of_name) else {
        return bad(format!("stream is one of {}", Source::ALL.map(Source::name).join(", ")));
    };
    let instant = |name: &str| field(name).map_or(Some(None), |text| parse(text).map(Some));
    let (Some(from), Some(to)) = (instant("from"), instant("to")) else { return bad("from and to are instants") };
    let mut out = Vec::new();
    let _ = tenant.dump_logs(source, from, to, &mut out);
    Reply::lines(out)
}
