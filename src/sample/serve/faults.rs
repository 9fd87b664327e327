//! Faults on order: what networks, proxies and tired services do to an answer.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::list::PageToken;
use crate::sample::reply::{Call, Plane, Reply, Wire};
use crate::sample::{Tenant, lock};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// An error with a status.
    Status,
    /// The connection ends without an answer.
    Reset,
    /// The connection ends in the middle of the body.
    Truncate,
    /// A body that is not JSON.
    InvalidJson,
    /// The login page of a proxy.
    Html,
    /// A link to the next page that leads to the same page.
    LoopLink,
    /// Always a new link, always the same objects.
    Endless,
    /// A link that leads to another host.
    ForeignLink,
    /// The answer takes its time.
    Slow,
    /// All tokens so far become invalid.
    ExpireTokens,
    /// A page without its objects.
    MissingValue,
}

/// A rule: which requests it meets, and what then happens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Part of the path; `*` stands for anything in between.
    pub path: String,
    /// Requests that pass before it sets in.
    #[serde(default)]
    pub after: u64,
    /// How often it happens; nothing: for ever.
    #[serde(default)]
    pub times: Option<u64>,
    /// What happens.
    pub kind: FaultKind,
    /// The status of [`FaultKind::Status`].
    #[serde(default)]
    pub status: Option<u16>,
    /// Seconds in `Retry-After`.
    #[serde(default)]
    pub retry_after: Option<u64>,
    /// The error's code.
    #[serde(default)]
    pub code: Option<String>,
    /// Milliseconds of [`FaultKind::Slow`].
    #[serde(default)]
    pub ms: Option<u64>,
    /// The base of the link of [`FaultKind::ForeignLink`].
    #[serde(default)]
    pub base: Option<String>,
}

impl Fault {
    fn meets(&self, path: &str) -> bool {
        let mut rest = path;
        self.path.split('*').all(|part| match rest.find(part) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
    }
}

/// The rules in force, each with the number of requests that it met.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Vec<(Fault, u64)>>);

impl Faults {
    /// Puts rules in place of those in force.
    pub fn replace(&self, rules: Vec<Fault>) {
        *lock(&self.0) = rules.into_iter().map(|rule| (rule, 0)).collect();
    }

    /// What happens to a request: the first rule whose turn it is.
    pub fn strike(&self, path: &str) -> Option<Fault> {
        let mut struck = None;
        for (rule, met) in lock(&self.0).iter_mut().filter(|(rule, _)| rule.meets(path)) {
            *met += 1;
            let turn = *met > rule.after && rule.times.is_none_or(|times| *met <= rule.after + times);
            if turn && struck.is_none() {
                struck = Some(rule.clone());
            }
        }
        struck
    }
}

fn words(status: u16, plane: Plane) -> (&'static str, &'static str) {
    match (status, plane) {
        (429, Plane::Graph) => ("TooManyRequests", "Too many requests."),
        (429, Plane::Arm) => ("TooManyRequests", "The request is being throttled."),
        (401, _) => ("InvalidAuthenticationToken", "Access token has expired or is not yet valid."),
        (403, Plane::Graph) => ("Authorization_RequestDenied", "Insufficient privileges to complete the operation."),
        (403, Plane::Arm) => ("AuthorizationFailed", "The client does not have authorization to perform action over scope."),
        (404, Plane::Graph) => {
            ("Request_ResourceNotFound", "Resource does not exist or one of its queried reference-property objects are not present.")
        }
        (404, Plane::Arm) => ("ResourceNotFound", "The resource was not found."),
        (503, _) => ("serviceNotAvailable", "The service is temporarily unavailable."),
        _ => ("InternalServerError", "An error occurred while processing the request."),
    }
}

/// Answers in place of the service, if the fault does not need an answer of the service's.
pub fn instead(tenant: &Tenant, call: &Call, fault: &Fault) -> Option<Reply> {
    match fault.kind {
        FaultKind::Status => {
            let status = fault.status.unwrap_or(500);
            let (code, text) = words(status, call.plane());
            let reply = Reply::fail(call, tenant.now(), status, fault.code.as_deref().unwrap_or(code), text);
            Some(match fault.retry_after {
                Some(seconds) => reply.header("retry-after", seconds.to_string()),
                None => reply,
            })
        }
        FaultKind::Reset => Some(Reply { wire: Wire::Nothing, ..Reply::json_text(200, Vec::new()) }),
        FaultKind::Html => {
            let page = "<!DOCTYPE html><html><head><title>Sign in to the network</title></head><body><form method=\"post\" action=\"/login\"><input name=\"user\"></form></body></html>";
            Some(Reply { media: "text/html; charset=utf-8", ..Reply::json_text(200, page.as_bytes().to_vec()) })
        }
        FaultKind::ExpireTokens => {
            tenant.tokens().expire_all();
            None
        }
        _ => None,
    }
}

fn link_name(call: &Call) -> &'static str {
    if call.plane() == Plane::Arm { "nextLink" } else { "@odata.nextLink" }
}

/// A link that shows the same page under an address that was not seen before.
fn fresh_link(tenant: &Tenant, call: &Call) -> String {
    let name = if call.plane() == Plane::Arm { "$skipToken" } else { "$skiptoken" };
    let found = call.query.split('&').find_map(|p| {
        let (key, value) = p.split_once('=')?;
        key.trim_start_matches("%24").trim_start_matches('$').eq_ignore_ascii_case("skiptoken").then_some(value)
    });
    let token = PageToken::of(tenant, call, found).unwrap_or_default();
    PageToken { n: tenant.fresh(), ..token }.link(tenant, call, name)
}

/// Spoils an answer of the service.
pub fn spoil(tenant: &Tenant, call: &Call, fault: &Fault, mut reply: Reply) -> Reply {
    let link = match fault.kind {
        FaultKind::Truncate => {
            reply.wire = Wire::Half;
            return reply;
        }
        FaultKind::InvalidJson => {
            reply.body.truncate(reply.body.len() * 2 / 3);
            return reply;
        }
        FaultKind::Slow => {
            reply.wait = fault.ms.unwrap_or(1000);
            return reply;
        }
        FaultKind::MissingValue => None,
        FaultKind::LoopLink => Some(call.url()),
        FaultKind::Endless => Some(fresh_link(tenant, call)),
        FaultKind::ForeignLink => {
            let base = fault.base.clone().unwrap_or_else(|| "http://attacker.example".into());
            Some(fresh_link(tenant, call).replacen(&call.base, base.trim_end_matches('/'), 1))
        }
        _ => return reply,
    };
    let Ok(mut body) = serde_json::from_slice::<Value>(&reply.body) else { return reply };
    if let (Some(map), 200) = (body.as_object_mut(), reply.status) {
        match link {
            None => {
                map.remove("value");
            }
            Some(link) => {
                map.remove("@odata.deltaLink");
                map.insert(link_name(call).into(), Value::String(link));
            }
        }
        reply.body = body.to_string().into_bytes();
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_take_their_turn() {
        let faults = Faults::default();
        let rule: Fault = serde_json::from_str(r#"{"path":"/groups/*/members","kind":"status","status":503,"after":1,"times":2}"#).unwrap();
        faults.replace(vec![rule]);
        let struck: Vec<bool> = (0..5).map(|_| faults.strike("/v1.0/groups/x/members").is_some()).collect();
        assert_eq!(struck, [false, true, true, false, false]);
        assert!(faults.strike("/v1.0/groups").is_none());
        assert!(serde_json::from_str::<Fault>(r#"{"path":"","kind":"nothing"}"#).is_err());
    }
}
