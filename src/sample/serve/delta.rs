//! Delta queries: everything once, and from then on what has changed.

use serde_json::json;

use super::list::{Page, PageToken, context, room};
use super::render::Renderer;
use crate::sample::estate::Estate;
use crate::sample::instant::SECOND;
use crate::sample::kinds::{Kind, Rules};
use crate::sample::query::Query;
use crate::sample::reply::{Call, Reply};
use crate::sample::{Tenant, lock};

/// Objects on a page.
const PAGE: usize = 500;
/// Delta links of directory objects are good for a week.
const LIFETIME: i64 = 7 * 86_400 * SECOND;

/// A page of a delta query.
pub fn page(tenant: &Tenant, call: &Call, rules: &Rules, version: &str) -> Result<Reply, String> {
    let asked = Query::parse(&call.query)?;
    let foreign = || "Badly formed token: the token is not one that this service issued for this request.".to_owned();
    let mut token = PageToken::of(tenant, call, asked.skip.as_deref().or(asked.delta.as_deref())).ok_or_else(foreign)?;
    let estate = tenant.estate();
    let fresh = asked.skip.is_none();
    if fresh {
        if asked.delta.is_some() {
            if token.issued == 0 {
                return Err(foreign());
            }
            if tenant.now() - token.issued > LIFETIME {
                let path = format!("{}{}?$deltatoken=latest", call.base, call.encoded_path());
                let text = "The sync state generation is not found; continuing requires a full synchronization.";
                return Ok(Reply::fail(call, tenant.now(), 410, "syncStateNotFound", text).header("location", path));
            }
        }
        token.upto = estate.change;
    }
    let mut query = Query::parse(&token.q)?;
    // The id comes whether it is selected or not.
    if let Some(names) = query.select.as_mut().filter(|names| !names.iter().any(|n| n == "id")) {
        names.push("id".into());
    }
    if query.top.is_some() || query.orderby.is_some() || !query.expand.is_empty() || query.filter.is_some() {
        return Err("$top, $orderby, $expand and $filter are not supported by this delta query.".into());
    }
    let mut renderer = Renderer::new(&estate, rules, version == "beta", &query)?;
    let members = rules.kind == Kind::Groups && query.select.as_ref().is_none_or(|names| names.iter().any(|n| n == "members"));
    let mut page = Page { context: format!("{}/$delta", context(call, version, rules.path, &query)), ..Page::default() };
    let room = room(tenant, &token, PAGE);
    let mut written = 0;
    for (place, entry) in estate.table(rules.kind).entries().iter().enumerate().skip(token.place()) {
        let wanted = match token.since {
            None => entry.record.is_some(),
            // What came and went in between was never seen.
            Some(since) => entry.touched > since && (entry.record.is_some() || entry.made <= since),
        };
        if !wanted {
            continue;
        }
        if written == room {
            page.next = Some(PageToken { at: place.to_string(), e: room == 0, ..token.clone() }.link(tenant, call, "$skiptoken"));
            break;
        }
        if written > 0 {
            page.items.push(b',');
        }
        written += 1;
        let Some(record) = &entry.record else {
            let value = json!({"id": &*entry.id, "@removed": {"reason": "changed"}});
            page.items.extend_from_slice(value.to_string().as_bytes());
            continue;
        };
        page.items.push(b'{');
        renderer.write_inside(record, &mut page.items);
        if members {
            write_members(&estate, place, token.since, &mut page.items);
        }
        page.items.push(b'}');
    }
    if page.next.is_none() {
        let later = PageToken { at: String::new(), e: false, since: Some(token.upto), issued: tenant.now(), ..token };
        page.delta = Some(later.link(tenant, call, "$deltatoken"));
    }
    Ok(page.graph())
}

/// `members@delta`: everyone at first, later who came and who went.
fn write_members(estate: &Estate, group: usize, since: Option<u64>, out: &mut Vec<u8>) {
    let describe = |member: crate::sample::estate::Member, there: bool| {
        let id = estate.table(member.kind()).entries().get(member.place()).map(|e| &*e.id).unwrap_or_default();
        let mut value = json!({"@odata.type": member.kind().rules().odata_type, "id": id});
        if !there {
            value["@removed"] = json!({"reason": "deleted"});
        }
        value
    };
    let list: Vec<_> = match since {
        None => estate.members(group).iter().filter(|m| estate.member(**m).is_some()).map(|m| describe(*m, true)).collect(),
        Some(since) => {
            let mut changed: Vec<_> = estate.membership.iter().filter(|c| c.group == group && c.change > since).map(|c| c.member).collect();
            changed.sort();
            changed.dedup();
            let now = estate.members(group);
            changed.into_iter().map(|m| describe(m, now.contains(&m))).collect()
        }
    };
    if since.is_none() || !list.is_empty() {
        out.extend_from_slice(b",\"members@delta\":");
        let _ = serde_json::to_writer(&mut *out, &list);
    }
}

/// Counts requests by path, with ids taken out.
pub fn count(tenant: &Tenant, call: &Call) {
    let template: String = call.path.split('/').map(|part| if names_one(part) { "{id}" } else { part }).collect::<Vec<_>>().join("/");
    *lock(tenant.requests()).entry(format!("{} {template}", call.method)).or_insert(0) += 1;
}

/// Whether a part of a path names one object.
fn names_one(part: &str) -> bool {
    part.contains('@') || (part.len() >= 20 && part.bytes().any(|b| b.is_ascii_digit()))
}
