//! The double's own endpoints, for tests in other processes: all JSON, under `/__control`.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::arm::merge;
use super::call::Call;
use super::damage::{self, Damage};
use super::faults::Fault;
use super::options::{ContainerOptions, Options, Role};
use super::reply::{Outcome, Reply};
use super::state::{Container, State};
use super::{auth, tokens};

fn bad(why: impl ToString) -> Reply {
    Reply::json(400, &json!({ "error": why.to_string() }))
}

fn ok(value: &Value) -> Outcome {
    Ok(Reply::json(200, value))
}

pub fn answer(state: &mut State, call: &Call) -> Outcome {
    let what = call.path.trim_start_matches("/__control").trim_matches('/').to_owned();
    let body: Value = if call.body.is_empty() { json!({}) } else { serde_json::from_slice(&call.body).map_err(bad)? };
    let text = |key: &str| body[key].as_str();
    let instant = |key: &str| text(key).map(|t| t.parse::<Timestamp>().map_err(bad)).transpose();
    match (call.method.as_str(), what.as_str()) {
        ("GET", "clock") => ok(&json!({ "now": state.now().to_string() })),
        ("POST", "clock") => {
            if let Some(to) = instant("set")? {
                state.set_clock(to);
            }
            if let Some(seconds) = body["advance_seconds"].as_i64() {
                state.advance(SignedDuration::from_secs(seconds));
            }
            ok(&json!({ "now": state.now().to_string() }))
        }
        ("GET", "faults") => ok(&json!(state.faults)),
        ("POST", "faults") => {
            let faults = if body.is_array() { body } else { json!([body]) };
            let new: Vec<Fault> = serde_json::from_value(faults).map_err(bad)?;
            state.faults.extend(new);
            ok(&json!(state.faults))
        }
        ("DELETE", "faults") => {
            state.faults.clear();
            ok(&json!([]))
        }
        ("GET", "counts") => ok(&totals(state)),
        ("DELETE", "counts") => {
            state.counts.clear();
            (state.bytes_in, state.bytes_out) = (0, 0);
            ok(&totals(state))
        }
        ("GET", "dump") => ok(&state.dump()),
        ("GET", "options") => ok(&json!(state.options)),
        ("PATCH", "options") => {
            let mut options = json!(state.options);
            merge(&mut options, &body);
            state.options = serde_json::from_value::<Options>(options).map_err(bad)?;
            ok(&json!(state.options))
        }
        ("PUT", path) if path.starts_with("containers/") => {
            let name = path.trim_start_matches("containers/");
            let mut options = json!(state.containers.get(name).map(|c| c.options.clone()).unwrap_or_default());
            merge(&mut options, &body);
            options["name"] = json!(name);
            state.put_container(serde_json::from_value::<ContainerOptions>(options).map_err(bad)?);
            ok(&json!(state.containers.get(name).map(|c: &Container| &c.options)))
        }
        ("POST", "sas") => {
            let now = state.now();
            let starts = instant("starts")?.unwrap_or(now - SignedDuration::from_mins(5));
            let ends = instant("ends")?.unwrap_or(now + SignedDuration::from_hours(24));
            let letters = text("permissions").unwrap_or(super::ALL_LETTERS);
            ok(&json!({ "sas": auth::sas(&state.options, text("resource"), letters, starts, ends) }))
        }
        ("POST", "token") => {
            let role: Role = serde_json::from_value(body["role"].clone()).map_err(bad)?;
            let audience = text("audience").unwrap_or("https://storage.azure.com/");
            ok(&json!({ "token": tokens::grant(state, role, audience) }))
        }
        ("POST", "damage") => {
            let (Some(container), Some(name)) = (text("container"), text("name")) else { return Err(bad("container and name are needed")) };
            let done =
                damage::inflict(state, container, name, text("version"), &serde_json::from_value::<Damage>(body.clone()).map_err(bad)?);
            if done { ok(&json!({ "done": true })) } else { Err(Reply::json(404, &json!({ "error": "no such version or byte" }))) }
        }
        ("POST", "failover") => {
            let until = instant("until")?.ok_or_else(|| bad("until is needed"))?;
            ok(&json!({ "lost": damage::fail_over(state, until) }))
        }
        _ => Err(Reply::json(404, &json!({ "error": "no such control" }))),
    }
}

pub fn totals(state: &State) -> Value {
    json!({
        "operations": state.counts,
        "total": state.counts.values().sum::<u64>(),
        "bytes_in": state.bytes_in,
        "bytes_out": state.bytes_out,
    })
}
