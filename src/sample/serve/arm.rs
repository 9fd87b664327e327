//! Azure Resource Manager: scopes, and what belongs to them.

use std::borrow::Cow;

use serde_json::Value;

use super::list::{Page, PageToken, Walk, room};
use crate::sample::Tenant;
use crate::sample::filter::Properties;
use crate::sample::kinds::{Kind, Rules};
use crate::sample::query::Query;
use crate::sample::record::Record;
use crate::sample::reply::{Call, Reply};

/// A resource, read by a filter: its properties first, then what stands beside them.
struct View<'a>(&'a Record);

impl Properties for View<'_> {
    fn property(&self, name: &str) -> Option<Cow<'_, Value>> {
        let value: Value = serde_json::from_slice(self.0.raw("properties").unwrap_or(b"null")).ok()?;
        let inside = value.get(name).cloned();
        inside.or_else(|| serde_json::from_slice(self.0.raw(name)?).ok()).map(Cow::Owned)
    }
}

fn fail(tenant: &Tenant, call: &Call, status: u16, code: &str, text: &str) -> Reply {
    Reply::fail(call, tenant.now(), status, code, text)
}

/// Answers a request of Azure Resource Manager.
pub fn answer(tenant: &Tenant, call: &Call) -> Reply {
    if call.method != "GET" {
        return fail(tenant, call, 405, "MethodNotAllowed", "The requested resource does not support this method.");
    }
    let query = match Query::parse(&call.query) {
        Ok(query) => query,
        Err(text) => return fail(tenant, call, 400, "BadRequest", &text),
    };
    if query.api_version.is_none() {
        let text = "The api-version query parameter (?api-version=) is required for all requests.";
        return fail(tenant, call, 400, "MissingApiVersionParameter", text);
    }
    let path = call.path.trim_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    let same = |part: &str, want: &str| part.eq_ignore_ascii_case(want);
    match parts.as_slice() {
        [a] if same(a, "subscriptions") => page(tenant, call, &query, Kind::Subscriptions.rules(), ""),
        [a, id] if same(a, "subscriptions") => match tenant.estate().table(Kind::Subscriptions).get(id) {
            Some(record) => Reply::json_text(200, record.json().to_vec()),
            None => no_subscription(tenant, call, id),
        },
        [a, b, c] if same(a, "providers") && same(b, "Microsoft.Authorization") => collection(tenant, call, &query, "", c),
        [a, b, c, id] if same(a, "providers") && same(b, "Microsoft.Authorization") => one(tenant, call, "", c, id),
        [a, id, rest @ ..] if same(a, "subscriptions") => {
            if tenant.estate().table(Kind::Subscriptions).get(id).is_none() {
                return no_subscription(tenant, call, id);
            }
            let scope = format!("/subscriptions/{id}");
            match rest {
                [p, a, c] if same(p, "providers") && same(a, "Microsoft.Authorization") => collection(tenant, call, &query, &scope, c),
                [p, a, c, name] if same(p, "providers") && same(a, "Microsoft.Authorization") => one(tenant, call, &scope, c, name),
                [p, a, b, c, d]
                    if same(p, "providers")
                        && same(a, "Microsoft.Insights")
                        && same(b, "eventtypes")
                        && same(c, "management")
                        && same(d, "values") =>
                {
                    crate::sample::logs::serve::activity_page(tenant, call, id)
                }
                _ => not_found(tenant, call),
            }
        }
        _ => not_found(tenant, call),
    }
}

fn not_found(tenant: &Tenant, call: &Call) -> Reply {
    let text = format!("The resource '{}' was not found.", call.path);
    fail(tenant, call, 404, "ResourceNotFound", &text)
}

fn no_subscription(tenant: &Tenant, call: &Call, id: &str) -> Reply {
    fail(tenant, call, 404, "SubscriptionNotFound", &format!("The subscription '{id}' could not be found."))
}

fn collection(tenant: &Tenant, call: &Call, query: &Query, scope: &str, name: &str) -> Reply {
    match Kind::of_arm(name) {
        Some(Kind::ArmRoleDefinitions | Kind::ArmPolicyDefinitions) => {}
        Some(_) if !scope.is_empty() => {}
        _ => return not_found(tenant, call),
    }
    Kind::of_arm(name).map_or_else(|| not_found(tenant, call), |kind| page(tenant, call, query, kind.rules(), scope))
}

/// Whether a resource shows at a scope: what belongs to it, and what is built in.
fn belongs(record: &Record, scope: &str) -> bool {
    let id = record.text("id").unwrap_or_default();
    id.starts_with("/providers/") || (!scope.is_empty() && id.len() > scope.len() && id[..scope.len()].eq_ignore_ascii_case(scope))
}

fn one(tenant: &Tenant, call: &Call, scope: &str, collection: &str, name: &str) -> Reply {
    let Some(kind) = Kind::of_arm(collection) else { return not_found(tenant, call) };
    let estate = tenant.estate();
    let mut found = estate.table(kind).records().map(|(_, r)| r).filter(|r| belongs(r, scope));
    match found.find(|r| r.text("name").is_some_and(|n| n.eq_ignore_ascii_case(name))) {
        Some(record) => Reply::json_text(200, record.json().to_vec()),
        None => not_found(tenant, call),
    }
}

fn page(tenant: &Tenant, call: &Call, asked: &Query, rules: &Rules, scope: &str) -> Reply {
    let foreign = || fail(tenant, call, 400, "InvalidSkipToken", "The skip token is not one that was issued for this request.");
    let Some(token) = PageToken::of(tenant, call, asked.skip.as_deref()) else { return foreign() };
    let Ok(query) = Query::parse(&token.q) else { return foreign() };
    let estate = tenant.estate();
    let parts: Vec<_> = query.filter.iter().flat_map(|f| f.conjuncts()).collect();
    // `atScope()` leaves out what is assigned below.
    let at_scope = parts.iter().any(|p| matches!(p, crate::sample::filter::Filter::AtScope)) && rules.kind == Kind::ArmRoleAssignments;
    let everywhere = rules.kind == Kind::Subscriptions;
    let fits = |record: &Record| {
        let here = everywhere || belongs(record, scope);
        let direct = !at_scope || !record.text("id").is_some_and(|id| id.contains("/resourceGroups/"));
        here && direct && parts.iter().all(|p| p.fits(&View(record)))
    };
    let most = query.top.unwrap_or(rules.page).min(rules.most);
    let room = room(tenant, &token, most);
    let walk = Walk { estate: &estate, kind: rules.kind, fits: &fits };
    let mut page = Page::default();
    let next = walk.write(token.place(), room, &mut page.items, |record, out| out.extend_from_slice(record.json()));
    page.next = next.map(|at| PageToken { at: at.to_string(), e: room == 0, ..token.clone() }.link(tenant, call, "$skipToken"));
    page.arm()
}
