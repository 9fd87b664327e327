//! Microsoft Graph: which path is which collection.

use super::delta;
use super::list::{PageToken, context, graph_page, people_page};
use super::render::Renderer;
use crate::sample::Tenant;
use crate::sample::kinds::{Kind, Rules};
use crate::sample::query::Query;
use crate::sample::reply::{Call, Reply};

fn bad(tenant: &Tenant, call: &Call, text: &str) -> Reply {
    let code = if text.starts_with("The filter is invalid") { "InvalidFilter" } else { "BadRequest" };
    Reply::fail(call, tenant.now(), 400, code, text)
}

fn none(tenant: &Tenant, call: &Call, id: &str) -> Reply {
    let text = format!("Resource '{id}' does not exist or one of its queried reference-property objects are not present.");
    Reply::fail(call, tenant.now(), 404, "Request_ResourceNotFound", &text)
}

/// Answers a request below `/v1.0` or `/beta`.
pub fn answer(tenant: &Tenant, call: &Call) -> Reply {
    let Some((version, path)) = call.path.trim_start_matches('/').split_once('/') else { return none(tenant, call, &call.path) };
    let path = path.trim_end_matches('/');
    if path.is_empty() || path.contains("//") {
        return bad(tenant, call, "Resource not found for the segment ''.");
    }
    if call.method != "GET" {
        let text = format!("Specified HTTP method {} is not allowed for the request target.", call.method);
        return Reply::fail(call, tenant.now(), 405, "Request_BadRequest", &text);
    }
    let done = route(tenant, call, version, path);
    done.unwrap_or_else(|text| bad(tenant, call, &text))
}

fn route(tenant: &Tenant, call: &Call, version: &str, path: &str) -> Result<Reply, String> {
    if let Some(stream) = crate::sample::logs::Source::at_graph_path(path) {
        return crate::sample::logs::serve::graph_page(tenant, call, version, path, stream);
    }
    let instances = match path {
        "roleManagement/directory/roleEligibilityScheduleInstances" => Some(Kind::RoleEligibilitySchedules),
        "roleManagement/directory/roleAssignmentScheduleInstances" => Some(Kind::RoleAssignmentSchedules),
        _ => None,
    };
    if let Some(kind) = instances.or_else(|| Kind::at_graph_path(path)) {
        let asked = Query::parse(&call.query)?;
        let token = PageToken::of(tenant, call, asked.skip.as_deref());
        let token = token.ok_or("Specified page token value is invalid or was issued for another request.")?;
        return graph_page(tenant, call, kind.rules(), version, &token, instances.is_some());
    }
    if let Some(rules) = path.strip_suffix("/delta").and_then(Kind::at_graph_path).map(Kind::rules) {
        if rules.delta {
            return delta::page(tenant, call, rules, version);
        }
        return Err(format!("Change tracking is not supported against '{}'.", rules.odata_type.trim_start_matches('#')));
    }
    if let Some((parent, last)) = path.rsplit_once('/') {
        if let Some(kind) = Kind::at_graph_path(parent) {
            return one(tenant, call, kind.rules(), version, last);
        }
        if let Some((collection, id)) = parent.rsplit_once('/') {
            match (Kind::at_graph_path(collection), last) {
                (Some(Kind::Groups), "members" | "owners") => return people(tenant, call, version, id, last),
                (Some(Kind::RoleManagementPolicies), "rules") => return policy_rules(tenant, call, version, id),
                _ => {}
            }
        }
    }
    let segment = path.split('/').next().unwrap_or_default();
    let text = format!("Resource not found for the segment '{segment}'.");
    Ok(Reply::fail(call, tenant.now(), 404, "ResourceNotFound", &text))
}

fn one(tenant: &Tenant, call: &Call, rules: &Rules, version: &str, id: &str) -> Result<Reply, String> {
    let query = Query::parse(&call.query)?;
    let estate = tenant.estate();
    let table = estate.table(rules.kind);
    let by_name = || table.records().map(|(_, r)| r).find(|r| r.text("userPrincipalName").is_some_and(|n| n.eq_ignore_ascii_case(id)));
    let found = table.get(id).or_else(|| if rules.kind == Kind::Users && id.contains('@') { by_name() } else { None });
    let Some(record) = found else { return Ok(none(tenant, call, id)) };
    let mut renderer = Renderer::new(&estate, rules, version == "beta", &query)?;
    let mut body = Vec::with_capacity(2048);
    body.extend_from_slice(format!("{{\"@odata.context\":\"{}/$entity\",", context(call, version, rules.path, &query)).as_bytes());
    renderer.write_inside(record, &mut body);
    body.push(b'}');
    Ok(Reply::json_text(200, body))
}

fn people(tenant: &Tenant, call: &Call, version: &str, id: &str, which: &str) -> Result<Reply, String> {
    let list = {
        let estate = tenant.estate();
        let table = estate.table(Kind::Groups);
        let (Some(_), Some(place)) = (table.get(id), table.place_of(id)) else { return Ok(none(tenant, call, id)) };
        let mut people = if which == "members" { estate.members(place).to_vec() } else { estate.owners(place).to_vec() };
        // A known issue of the service: v1.0 leaves them out.
        people.retain(|one| version == "beta" || which != "members" || one.kind() != Kind::ServicePrincipals);
        people
    };
    let asked = Query::parse(&call.query)?;
    let token = PageToken::of(tenant, call, asked.skip.as_deref());
    let token = token.ok_or("Specified page token value is invalid or was issued for another request.")?;
    people_page(tenant, call, version, &token, &list)
}

fn policy_rules(tenant: &Tenant, call: &Call, version: &str, id: &str) -> Result<Reply, String> {
    let estate = tenant.estate();
    let Some(record) = estate.table(Kind::RoleManagementPolicies).get(id) else { return Ok(none(tenant, call, id)) };
    let rules = record.raw("rules").unwrap_or(b"[]");
    let context = context(call, version, &format!("policies/roleManagementPolicies('{id}')/rules"), &Query::default());
    let mut body = format!("{{\"@odata.context\":\"{context}\",\"value\":").into_bytes();
    body.extend_from_slice(rules);
    body.push(b'}');
    Ok(Reply::json_text(200, body))
}
