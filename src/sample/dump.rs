//! The truth about the tenant, for those who judge a backup of it.

use std::io::{self, Write};

use serde_json::json;

use super::estate::{Estate, Member};
use super::instant::ticks_text;
use super::kinds::{Kind, RULES};
use super::logs::{Event, Journal, Source};
use super::query::{Expand, Query};
use super::serve::Renderer;

const MINUTE: i64 = 60_000_000_000;

/// What the catalogue asks of a collection.
fn wish(kind: Kind) -> Query {
    let expand = |name: &str, inside: Option<&str>| vec![Expand { name: name.into(), expand: inside.map(Into::into), select: None }];
    let select = kind.rules().select;
    Query {
        select: (!select.is_empty()).then(|| select.iter().map(|n| (*n).to_owned()).collect()),
        expand: match kind {
            Kind::RoleDefinitions => expand("inheritsPermissionsFrom", None),
            Kind::RoleManagementPolicies => expand("rules", None),
            // The rules of an assignment's policy are those of the policy.
            _ => Vec::new(),
        },
        ..Query::default()
    }
}

/// Writes the configuration, a line for each record.
pub fn configuration(estate: &Estate, out: &mut impl Write) -> io::Result<()> {
    let mut line = Vec::with_capacity(16_384);
    for rules in &RULES {
        let beta = matches!(rules.kind, Kind::RoleDefinitions | Kind::ConditionalAccessPolicies);
        let Ok(mut renderer) = Renderer::new(estate, rules, beta, &wish(rules.kind)) else { continue };
        for (id, record) in estate.table(rules.kind).records() {
            line.clear();
            write!(line, "{{\"collection\":\"{}\",\"id\":{},\"record\":", rules.catalog, json!(id))?;
            renderer.write(record, &mut line);
            line.extend_from_slice(b"}\n");
            out.write_all(&line)?;
        }
    }
    for which in ["members", "owners"] {
        for (place, entry) in estate.table(Kind::Groups).entries().iter().enumerate().filter(|(_, e)| e.record.is_some()) {
            let people = if which == "members" { estate.members(place) } else { estate.owners(place) };
            let describe = |m: &Member| estate.member(*m).map(|(id, _)| json!({"@odata.type": m.kind().rules().odata_type, "id": id}));
            let people: Vec<_> = people.iter().filter_map(describe).collect();
            let id = &*entry.id;
            let value = json!({"collection": format!("entra.groups.{which}"), "id": id, "record": {"id": id, which: people}});
            writeln!(out, "{value}")?;
        }
    }
    Ok(())
}

/// Writes every version of every event of a stream that has arrived.
pub fn events(journal: &Journal, now: i64, source: Source, from: Option<i64>, to: Option<i64>, out: &mut impl Write) -> io::Result<()> {
    let from = from.unwrap_or_else(|| journal.floor(source, now)).max(journal.floor(source, now) - 400 * 1440 * MINUTE);
    let to = to.unwrap_or(now).min(now);
    let (mut list, mut line) = (Vec::new(), Vec::new());
    let beta = source.signs_in() && source != Source::InteractiveSignIns;
    for minute in from.div_euclid(MINUTE)..=to.div_euclid(MINUTE) {
        list.clear();
        for part in 0..journal.parts(source) {
            journal.minute(source, part, minute, &mut list);
        }
        list.retain(|e| e.time >= from && e.time <= to && e.arrival <= now);
        list.sort_by_key(Event::key);
        for event in &list {
            let second = event.again.filter(|again| *again <= now);
            for (version, arrival) in [(1, Some(event.arrival)), (2, second)] {
                let Some(arrival) = arrival else { continue };
                line.clear();
                write!(
                    line,
                    "{{\"stream\":\"{}\",\"id\":{},\"time\":\"{}\",\"arrival\":\"{}\",\"version\":{version},\"event\":",
                    source.name(),
                    json!(journal.id(event)),
                    ticks_text(event.time),
                    ticks_text(arrival)
                )?;
                journal.write(event, version == 2, beta, &mut line);
                line.extend_from_slice(b"}\n");
                out.write_all(&line)?;
            }
        }
    }
    Ok(())
}
