//! Events, page by page: a window of time, newest first, of what has arrived.

use serde_json::Value;

use super::{Event, Journal, MINUTE, Source};
use crate::sample::Tenant;
use crate::sample::estate::Estate;
use crate::sample::filter::{Filter, Operator};
use crate::sample::kinds::{Kind, USER_DEFAULT};
use crate::sample::query::Query;
use crate::sample::record::Projection;
use crate::sample::reply::{Call, Reply};
use crate::sample::serve::{Page, PageToken, context, room};

/// The most events on a page, and how many there are when nothing is asked.
const PAGE: usize = 1000;
/// Events on a page of the activity log.
const ACTIVITY_PAGE: usize = 200;
/// Events that one request looks at before it hands out what it has found.
const PATIENCE: usize = 200_000;

/// What a request wants of the streams.
struct Wish<'a> {
    sources: Vec<(Source, u8)>,
    from: i64,
    to: i64,
    upward: bool,
    rest: Vec<&'a Filter>,
    select: Option<&'a [String]>,
    beta: bool,
    room: usize,
    principals: Option<&'a Estate>,
}

/// Narrows a window by what a filter says about a property of time; the rest of the filter comes back.
fn narrow<'a>(filter: Option<&'a Filter>, property: &str, from: &mut i64, to: &mut i64) -> Vec<&'a Filter> {
    let mut rest = Vec::new();
    for part in filter.map(Filter::conjuncts).unwrap_or_default() {
        let bound = match part {
            Filter::Compare(path, operator, literal) if path.len() == 1 && path[0] == property => {
                literal.instant().map(|at| (*operator, at))
            }
            _ => None,
        };
        match bound {
            Some((Operator::Ge, at)) => *from = at.max(*from),
            Some((Operator::Gt, at)) => *from = (at + 1).max(*from),
            Some((Operator::Le, at)) => *to = at.min(*to),
            Some((Operator::Lt, at)) => *to = (at - 1).min(*to),
            Some((Operator::Eq, at)) => {
                *from = at.max(*from);
                *to = at.min(*to);
            }
            _ => rest.push(part),
        }
    }
    rest
}

/// The kinds of sign-in that a filter names, if it names any.
fn kinds_of_sign_in(part: &Filter) -> Option<Vec<Source>> {
    let named = |text: &str| Source::ALL.into_iter().filter(|s| s.signs_in()).find(|s| s.event_type() == text);
    match part {
        Filter::Any(path, _, inner) if path.first().is_some_and(|p| p == "signInEventTypes") => kinds_inside(inner, &named),
        Filter::Or(a, b) => {
            let mut list = kinds_of_sign_in(a)?;
            list.extend(kinds_of_sign_in(b)?);
            Some(list)
        }
        _ => None,
    }
}

fn kinds_inside(inner: &Filter, named: &dyn Fn(&str) -> Option<Source>) -> Option<Vec<Source>> {
    match inner {
        Filter::Compare(_, Operator::Eq, crate::sample::filter::Literal::Text(text)) => Some(named(text).into_iter().collect()),
        Filter::Or(a, b) => {
            let mut list = kinds_inside(a, named)?;
            list.extend(kinds_inside(b, named)?);
            Some(list)
        }
        _ => None,
    }
}

/// A page of a stream of Microsoft Graph.
pub fn graph_page(tenant: &Tenant, call: &Call, version: &str, path: &str, source: Source) -> Result<Reply, String> {
    let asked = Query::parse(&call.query)?;
    let token = PageToken::of(tenant, call, asked.skip.as_deref());
    let token = token.ok_or("Specified page token value is invalid or was issued for another request.")?;
    let query = Query::parse(&token.q)?;
    let (journal, now) = (tenant.journal(), tenant.now());
    let pim = matches!(source, Source::DirectoryActivations | Source::DirectoryEligibilityRequests);
    let property = if source == Source::DirectoryAudits { "activityDateTime" } else { "createdDateTime" };
    if query.orderby.as_ref().is_some_and(|(name, _)| name != property) {
        return Err(format!("Only '{property}' can be sorted by."));
    }
    if query.expand.iter().any(|e| !pim || e.name != "principal") {
        return Err("Parsing OData Select and Expand failed: this property cannot be expanded.".into());
    }
    let (mut from, mut to) = (journal.floor(source, now), now);
    let mut rest = narrow(query.filter.as_ref(), property, &mut from, &mut to);
    if pim {
        // Conditions on time are not reliably honoured there; this service never honours them.
        (from, to) = (journal.floor(source, now), now);
    }
    let mut sources = vec![source];
    if source.signs_in() {
        let named: Vec<Source> = rest.iter().filter_map(|part| kinds_of_sign_in(part)).flatten().collect();
        if rest.iter().any(|p| p.roots().contains(&"signInEventTypes")) {
            if version != "beta" {
                return Err(
                    "Invalid filter clause: Could not find a property named 'signInEventTypes' on type 'microsoft.graph.signIn'.".into()
                );
            }
            if named.is_empty() {
                return Err("Invalid filter clause: signInEventTypes takes interactiveUser, nonInteractiveUser, servicePrincipal or managedIdentity.".into());
            }
            sources = named;
            sources.sort();
            sources.dedup();
            rest.retain(|p| kinds_of_sign_in(p).is_none());
        }
    }
    let most = query.top.unwrap_or(PAGE).min(PAGE);
    let room = room(tenant, &token, most);
    let estate = (!query.expand.is_empty()).then(|| tenant.estate());
    let wish = Wish {
        sources: sources.into_iter().map(|s| (s, 0)).collect(),
        from,
        to,
        upward: query.orderby.as_ref().is_some_and(|(_, down)| !down),
        rest,
        select: query.select.as_deref(),
        beta: version == "beta",
        room,
        principals: estate.as_deref(),
    };
    let mut page = Page { context: context(call, version, path, &query), ..Page::default() };
    let next = collect(journal, now, &wish, &token.at, &mut page.items);
    page.next = next.map(|at| PageToken { at, e: room == 0, ..token.clone() }.link(tenant, call, "$skiptoken"));
    Ok(page.graph())
}

/// A page of a subscription's activity log.
pub fn activity_page(tenant: &Tenant, call: &Call, subscription: &str) -> Reply {
    let fail = |code: &str, text: &str| Reply::fail(call, tenant.now(), 400, code, text);
    let Ok(asked) = Query::parse(&call.query) else { return fail("BadRequest", "The query is not valid.") };
    let foreign = || fail("InvalidSkipToken", "The skip token is not one that was issued for this request.");
    let Some(token) = PageToken::of(tenant, call, asked.skip.as_deref()) else { return foreign() };
    let Ok(query) = Query::parse(&token.q) else { return foreign() };
    let (journal, now) = (tenant.journal(), tenant.now());
    let Some(part) = journal.part_of(subscription) else { return fail("SubscriptionNotFound", "The subscription could not be found.") };
    let floor = journal.floor(Source::ArmActivity, now);
    let (mut from, mut to) = (i64::MIN, now);
    let rest = narrow(query.filter.as_ref(), "eventTimestamp", &mut from, &mut to);
    if from == i64::MIN {
        return fail("BadRequest", "The filter must have a start: eventTimestamp ge '…'.");
    }
    let room = room(tenant, &token, ACTIVITY_PAGE);
    let wish = Wish {
        sources: vec![(Source::ArmActivity, part)],
        from: from.max(floor),
        to,
        upward: false,
        rest,
        select: query.select.as_deref(),
        beta: false,
        room,
        principals: None,
    };
    let mut page = Page::default();
    let next = collect(journal, now, &wish, &token.at, &mut page.items);
    page.next = next.map(|at| PageToken { at, e: room == 0, ..token.clone() }.link(tenant, call, "$skipToken"));
    page.arm()
}

fn place(event: &Event) -> String {
    format!("{}:{}:{}:{}", event.time, event.source as u8, event.part, event.n)
}

/// The key at which the page before ended.
fn read_place(text: &str) -> Option<(i64, Source, u8, u32)> {
    let mut parts = text.split(':');
    let time = parts.next()?.parse().ok()?;
    let source = Source::ALL.get(parts.next()?.parse::<usize>().ok()?)?;
    Some((time, *source, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Writes a page of events; where the next one starts, if there is more.
fn collect(journal: &Journal, now: i64, wish: &Wish<'_>, at: &str, out: &mut Vec<u8>) -> Option<String> {
    let after = read_place(at);
    let (first, last) = (wish.from.div_euclid(MINUTE), wish.to.div_euclid(MINUTE));
    if wish.from > wish.to {
        return None;
    }
    let start = after.map_or(if wish.upward { first } else { last }, |key| key.0.div_euclid(MINUTE));
    let (mut minute, mut written, mut seen) = (start, 0, 0);
    let (mut events, mut text) = (Vec::new(), Vec::new());
    // What a page may go on from: the last event that was written or passed over.
    let mut end = at.to_owned();
    while (first..=last).contains(&minute) {
        events.clear();
        for (source, part) in &wish.sources {
            journal.minute(*source, *part, minute, &mut events);
        }
        events.retain(|e| e.time >= wish.from && e.time <= wish.to && e.arrival <= now);
        if let Some(key) = after {
            events.retain(|e| if wish.upward { e.key() > key } else { e.key() < key });
        }
        events.sort_by_key(Event::key);
        if !wish.upward {
            events.reverse();
        }
        for event in &events {
            let second = event.again.is_some_and(|again| again <= now);
            if wish.rest.is_empty() && wish.select.is_none() {
                if written == wish.room {
                    return Some(end);
                }
                if written > 0 {
                    out.push(b',');
                }
                journal.write(event, second, wish.beta, out);
            } else {
                seen += 1;
                if seen > PATIENCE {
                    return Some(end);
                }
                text.clear();
                journal.write(event, second, wish.beta, &mut text);
                let value: Value = serde_json::from_slice(&text).unwrap_or_default();
                if !wish.rest.iter().all(|part| part.fits(&value)) {
                    if written < wish.room {
                        end = place(event);
                    }
                    continue;
                }
                if written == wish.room {
                    return Some(end);
                }
                if written > 0 {
                    out.push(b',');
                }
                write_selected(value, wish.select, &text, out);
            }
            if let Some(estate) = wish.principals {
                join_principal(estate, out, journal, event);
            }
            written += 1;
            end = place(event);
        }
        minute += if wish.upward { 1 } else { -1 };
    }
    None
}

fn write_selected(value: Value, select: Option<&[String]>, text: &[u8], out: &mut Vec<u8>) {
    match (value, select) {
        (Value::Object(map), Some(names)) => {
            let some: serde_json::Map<String, Value> = map.into_iter().filter(|(name, _)| names.contains(name)).collect();
            let _ = serde_json::to_writer(out, &some);
        }
        _ => out.extend_from_slice(text),
    }
}

/// Puts the principal of a request into it.
fn join_principal(estate: &Estate, out: &mut Vec<u8>, journal: &Journal, event: &Event) {
    let mut text = Vec::new();
    journal.write(event, false, false, &mut text);
    let value: Value = serde_json::from_slice(&text).unwrap_or_default();
    let found = value["principalId"].as_str().and_then(|id| estate.principal(id));
    out.pop();
    out.extend_from_slice(b",\"principal\":");
    match found {
        None => out.extend_from_slice(b"null"),
        Some((kind, record)) => {
            out.extend_from_slice(format!("{{\"@odata.type\":\"{}\",", kind.rules().odata_type).as_bytes());
            let mut projection =
                if kind == Kind::Users { Projection::these(USER_DEFAULT) } else { Projection::these(["id", "displayName"]) };
            projection.write(record, out);
            out.push(b'}');
        }
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_narrowed() {
        let filter =
            Filter::parse("createdDateTime ge 2026-01-01T00:00:00Z and createdDateTime lt 2026-01-02T00:00:00Z and appId eq 'x'").unwrap();
        let (mut from, mut to) = (0, i64::MAX);
        let rest = narrow(Some(&filter), "createdDateTime", &mut from, &mut to);
        assert_eq!(rest.len(), 1);
        assert_eq!(to - from, 86_400 * crate::sample::instant::SECOND - 1);
    }

    #[test]
    fn kinds_of_sign_in_are_told_apart() {
        let kinds = |text: &str| kinds_of_sign_in(&Filter::parse(text).unwrap());
        assert_eq!(kinds("signInEventTypes/any(t: t eq 'servicePrincipal')"), Some(vec![Source::ServicePrincipalSignIns]));
        let both = kinds("signInEventTypes/any(t: t eq 'interactiveUser' or t eq 'nonInteractiveUser')");
        assert_eq!(both, Some(vec![Source::InteractiveSignIns, Source::NonInteractiveSignIns]));
        assert_eq!(kinds("appId eq 'x'"), None);
    }
}
