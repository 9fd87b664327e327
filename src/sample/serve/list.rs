//! Collections, page by page.

use serde::{Deserialize, Serialize};

use super::render::{Renderer, View};
use crate::sample::Tenant;
use crate::sample::estate::{Estate, Member};
use crate::sample::filter::Filter;
use crate::sample::kinds::{Kind, Rules};
use crate::sample::query::Query;
use crate::sample::record::{Projection, Record};
use crate::sample::reply::{Call, Reply};
use crate::sample::rng::{hash, hash_text};

/// What a link to a further page carries under seal.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct PageToken {
    /// The path that it is for.
    pub p: String,
    /// The query of the first page.
    pub q: String,
    /// Where to go on; what it means is the collection's affair.
    pub at: String,
    /// The page before was empty.
    #[serde(default)]
    pub e: bool,
    /// Sets links apart that would be the same.
    #[serde(default)]
    pub n: u64,
    /// Delta: what has changed since; nothing: a full synchronisation.
    #[serde(default)]
    pub since: Option<u64>,
    /// Delta: up to what.
    #[serde(default)]
    pub upto: u64,
    /// Delta: when it was issued, by the tenant's clock.
    #[serde(default)]
    pub issued: i64,
}

impl PageToken {
    /// The token in a request, or the start of a new list.
    pub fn of(tenant: &Tenant, call: &Call, token: Option<&str>) -> Option<Self> {
        let Some(token) = token else {
            return Some(Self { p: call.path.clone(), q: call.query.clone(), at: String::new(), ..Self::default() });
        };
        let text = tenant.sealer().open(token)?;
        serde_json::from_str::<Self>(&text).ok().filter(|t| t.p == call.path)
    }

    /// A link that carries it.
    pub fn link(&self, tenant: &Tenant, call: &Call, name: &str) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        let version = match name {
            "$skipToken" => self.q.split('&').find(|p| p.starts_with("api-version=")).map(|p| format!("{p}&")).unwrap_or_default(),
            _ => String::new(),
        };
        format!("{}{}?{version}{name}={}", call.base, call.encoded_path(), tenant.sealer().seal(&text))
    }

    /// Where to go on, as a number.
    pub fn place(&self) -> usize {
        self.at.parse().unwrap_or(0)
    }
}

/// How many objects this page may hold: ragged tenants send short and empty ones now and then.
pub fn room(tenant: &Tenant, token: &PageToken, most: usize) -> usize {
    if !tenant.options().ragged_pages {
        return most;
    }
    match hash(&[tenant.options().seed, hash_text(&token.p), hash_text(&token.q), hash_text(&token.at)]) % 8 {
        0 if !token.e => 0,
        1 | 2 => (most / 2).max(1),
        _ => most,
    }
}

/// The parts of a page.
#[derive(Debug, Default)]
pub struct Page {
    /// `@odata.context`
    pub context: String,
    /// `@odata.count`
    pub count: Option<usize>,
    /// The link to the next page.
    pub next: Option<String>,
    /// The link to later changes.
    pub delta: Option<String>,
    /// The objects, with commas between.
    pub items: Vec<u8>,
}

impl Page {
    /// As Microsoft Graph sends it.
    pub fn graph(self) -> Reply {
        let mut body = Vec::with_capacity(self.items.len() + 1024);
        body.extend_from_slice(b"{\"@odata.context\":\"");
        body.extend_from_slice(self.context.as_bytes());
        body.push(b'"');
        if let Some(count) = self.count {
            body.extend_from_slice(format!(",\"@odata.count\":{count}").as_bytes());
        }
        for (name, link) in [("@odata.nextLink", self.next), ("@odata.deltaLink", self.delta)] {
            if let Some(link) = link {
                body.extend_from_slice(format!(",\"{name}\":\"{link}\"").as_bytes());
            }
        }
        body.extend_from_slice(b",\"value\":[");
        body.extend_from_slice(&self.items);
        body.extend_from_slice(b"]}");
        Reply::json_text(200, body)
    }

    /// As Azure Resource Manager sends it.
    pub fn arm(self) -> Reply {
        let mut body = Vec::with_capacity(self.items.len() + 512);
        body.push(b'{');
        if let Some(link) = self.next {
            body.extend_from_slice(format!("\"nextLink\":\"{link}\",").as_bytes());
        }
        body.extend_from_slice(b"\"value\":[");
        body.extend_from_slice(&self.items);
        body.extend_from_slice(b"]}");
        Reply::json_text(200, body)
    }
}

/// `@odata.context` of a collection.
pub fn context(call: &Call, version: &str, path: &str, query: &Query) -> String {
    // What a client wrote goes into the answer: only what a name can hold.
    let named = |names: &Vec<String>| {
        let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, ',' | '*' | '_');
        format!("({})", names.join(",").chars().filter(plain).collect::<String>())
    };
    let names = query.select.as_ref().map(named).unwrap_or_default();
    format!("{}/{version}/$metadata#{path}{names}", call.base)
}

/// A walk over a table: what fits, from a place on.
pub struct Walk<'a> {
    /// The estate.
    pub estate: &'a Estate,
    /// The collection.
    pub kind: Kind,
    /// What objects must fit.
    pub fits: &'a dyn Fn(&Record) -> bool,
}

impl Walk<'_> {
    /// Writes up to `room` objects from a place on; where the next page starts, if there is one.
    pub fn write(&self, from: usize, room: usize, out: &mut Vec<u8>, mut write: impl FnMut(&Record, &mut Vec<u8>)) -> Option<usize> {
        let mut written = 0;
        for (place, entry) in self.estate.table(self.kind).entries().iter().enumerate().skip(from) {
            let Some(record) = entry.record.as_ref().filter(|r| (self.fits)(r)) else { continue };
            if written == room {
                return Some(place);
            }
            if written > 0 {
                out.push(b',');
            }
            write(record, out);
            written += 1;
        }
        None
    }

    /// How many there are in all.
    pub fn count(&self) -> usize {
        self.estate.table(self.kind).records().filter(|(_, r)| (self.fits)(r)).count()
    }
}

/// Whether all properties that a filter reads exist.
pub fn check_filter(estate: &Estate, rules: &Rules, filter: &Filter) -> Result<(), String> {
    let table = estate.table(rules.kind);
    match filter.roots().into_iter().find(|name| !table.knows(name)) {
        Some(name) if table.len() > 0 => Err(format!(
            "Invalid filter clause: Could not find a property named '{name}' on type '{}'.",
            rules.odata_type.trim_start_matches('#')
        )),
        _ => Ok(()),
    }
}

/// What PIM policies must be asked by: a scope and its type.
enum Scope {
    Directory,
    Other,
}

fn policy_scope(query: &Query) -> Result<Scope, String> {
    let demand = |name: &str| query.filter.as_ref().and_then(|f| f.demands(name));
    match (demand("scopeId"), demand("scopeType")) {
        (Some("/"), Some("DirectoryRole" | "Directory")) => Ok(Scope::Directory),
        (Some(_), Some("Group" | "DirectoryRole" | "Directory")) => Ok(Scope::Other),
        _ => {
            Err("The filter is invalid: scopeId and scopeType must be given, as in \"scopeId eq '/' and scopeType eq 'DirectoryRole'\"."
                .into())
        }
    }
}

/// A page of a collection of Microsoft Graph.
pub fn graph_page(tenant: &Tenant, call: &Call, rules: &Rules, version: &str, token: &PageToken, instances: bool) -> Result<Reply, String> {
    let query = Query::parse(&token.q)?;
    if query.orderby.is_some() {
        return Err("Sorting is not supported for the resource.".into());
    }
    let estate = tenant.estate();
    let policies = matches!(rules.kind, Kind::RoleManagementPolicies | Kind::RoleManagementPolicyAssignments);
    let mut page = Page { context: context(call, version, rules.path, &query), ..Page::default() };
    if policies && matches!(policy_scope(&query)?, Scope::Other) {
        return Ok(page.graph());
    }
    if let Some(filter) = &query.filter {
        check_filter(&estate, rules, filter)?;
    }
    // That the scope type fits is settled, and "Directory" is another word for it.
    let parts: Vec<&Filter> =
        query.filter.iter().flat_map(Filter::conjuncts).filter(|f| !(policies && f.roots() == ["scopeType"])).collect();
    let preview = version != "beta" && rules.kind == Kind::ConditionalAccessPolicies;
    let fits = |record: &Record| {
        !(preview && record.text("displayName").is_some_and(crate::sample::estate::in_preview))
            && parts.iter().all(|p| p.fits(&View(record)))
    };
    let most = query.top.unwrap_or(rules.page).min(rules.most);
    let mut renderer = Renderer::new(&estate, rules, version == "beta", &query)?;
    if instances {
        renderer = renderer.with_instances();
    }
    let walk = Walk { estate: &estate, kind: rules.kind, fits: &fits };
    let room = room(tenant, token, most);
    let next = walk.write(token.place(), room, &mut page.items, |record, out| renderer.write(record, out));
    if query.count && call.eventual && token.place() == 0 {
        page.count = Some(walk.count());
    }
    page.next = next.map(|at| PageToken { at: at.to_string(), e: room == 0, ..token.clone() }.link(tenant, call, "$skiptoken"));
    Ok(page.graph())
}

/// A page of a group's members or owners.
pub fn people_page(tenant: &Tenant, call: &Call, version: &str, token: &PageToken, people: &[Member]) -> Result<Reply, String> {
    let query = Query::parse(&token.q)?;
    if query.filter.is_some() || query.orderby.is_some() || !query.expand.is_empty() {
        return Err("Unsupported query option for members of a group.".into());
    }
    let estate = tenant.estate();
    let mut projections: Vec<(Kind, Projection)> = Vec::new();
    let mut page = Page { context: context(call, version, "directoryObjects", &query), ..Page::default() };
    let room = room(tenant, token, query.top.unwrap_or(100).min(999));
    let mut at = token.place();
    let mut written = 0;
    while let Some(member) = people.get(at) {
        let Some((_, record)) = estate.member(*member) else {
            at += 1;
            continue;
        };
        if written == room {
            page.next = Some(PageToken { at: at.to_string(), e: room == 0, ..token.clone() }.link(tenant, call, "$skiptoken"));
            break;
        }
        let kind = member.kind();
        if !projections.iter().any(|(k, _)| *k == kind) {
            let projection = match (&query.select, kind.rules().default) {
                (Some(names), _) => Projection::these(names.iter().map(String::as_str)),
                (None, []) => Projection::all_but([""]),
                (None, names) => Projection::these(names.iter().copied()),
            };
            projections.push((kind, projection));
        }
        if written > 0 {
            page.items.push(b',');
        }
        page.items.extend_from_slice(b"{\"@odata.type\":\"");
        page.items.extend_from_slice(kind.rules().odata_type.as_bytes());
        page.items.push(b'"');
        if let Some((_, projection)) = projections.iter_mut().find(|(k, _)| *k == kind) {
            page.items.push(b',');
            if !projection.write(record, &mut page.items) {
                page.items.pop();
            }
        }
        page.items.push(b'}');
        written += 1;
        at += 1;
    }
    if query.count && call.eventual && token.place() == 0 {
        page.count = Some(people.iter().filter(|m| estate.member(**m).is_some()).count());
    }
    Ok(page.graph())
}
