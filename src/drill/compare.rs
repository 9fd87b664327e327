//! What must be changed to bring a stand-in back, and whether it is what it was before the disaster.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;

use serde_json::Value;

use super::check;
use super::material::Material;
use crate::sample::{Events, StandIn};
use crate::source::catalog::Catalog;
use crate::store::Sha256;
use crate::vault::attestation::CheckRecord;

/// So many differences are named.
const NAMED: usize = 100;

type Key = (String, String);

fn digest(value: &Value) -> Sha256 {
    Sha256::of(value.to_string().as_bytes())
}

/// What a stand-in was before the disaster.
pub struct Truth(HashMap<Key, Sha256>);

impl Truth {
    /// As it is now.
    pub fn of(stand_in: &StandIn) -> Self {
        let mut all = HashMap::new();
        stand_in.records(|collection, id, value| _ = all.insert((collection.to_owned(), id.to_owned()), digest(&value)));
        Self(all)
    }

    /// Whether there was nothing at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is there now, and was not: an intruder's.
    pub fn added(&self, stand_in: &StandIn) -> HashSet<Key> {
        let mut out = HashSet::new();
        stand_in.records(|collection, id, _| {
            let key = (collection.to_owned(), id.to_owned());
            if !self.0.contains_key(&key) {
                out.insert(key);
            }
        });
        out
    }

    /// Whether everything is as it was, as many records as are attested, and nothing else is there.
    pub fn judge(
        &self,
        stand_in: &StandIn,
        added: &HashSet<Key>,
        expected: u64,
        checks: &mut Vec<CheckRecord>,
        problems: &mut Vec<String>,
    ) {
        let (mut there, mut wrong, mut more) = (0u64, BTreeSet::new(), BTreeSet::new());
        stand_in.records(|collection, id, value| {
            let key = (collection.to_owned(), id.to_owned());
            match self.0.get(&key) {
                Some(was) if *was == digest(&value) => there += 1,
                Some(_) => _ = wrong.insert(format!("brought_back: {collection} {id} is not what it was")),
                None => _ = more.insert(format!("stays_gone: {collection} {id} was not there before")),
            }
        });
        let all = expected.max(self.0.len() as u64);
        let lost = all - there - wrong.len() as u64;
        checks.push(check("brought_back", all, lost + wrong.len() as u64));
        checks.push(check("stays_gone", (added.len() as u64).max(more.len() as u64), more.len() as u64));
        if lost > 0 {
            problems.push(format!("brought_back: {lost} records are missing"));
        }
        problems.extend(wrong.into_iter().take(NAMED).chain(more.into_iter().take(NAMED)));
    }
}

/// Changes to one collection.
pub struct Changes {
    collection: String,
    put: Vec<(String, Value)>,
    remove: Vec<String>,
}

impl Changes {
    /// Carries them out; gives how many were.
    pub fn apply(self, stand_in: &mut StandIn) -> u64 {
        self.put.iter().for_each(|(id, value)| stand_in.put(&self.collection, id, value));
        let removed = self.remove.iter().filter(|id| stand_in.remove(&self.collection, id)).count();
        (self.put.len() + removed) as u64
    }
}

/// What must be changed so that a stand-in is what the vault has.
pub struct Plan(Vec<Changes>);

impl Plan {
    /// By comparison.
    pub fn make(stand_in: &StandIn, material: &Material) -> io::Result<Self> {
        let mut now: HashMap<Key, Sha256> = HashMap::new();
        stand_in.records(|collection, id, value| _ = now.insert((collection.to_owned(), id.to_owned()), digest(&value)));
        let mut by_collection: BTreeMap<String, Changes> = BTreeMap::new();
        let mut changes = |collection: &str, change: Result<(String, Value), String>| {
            let new = || Changes { collection: collection.to_owned(), put: Vec::new(), remove: Vec::new() };
            let of = by_collection.entry(collection.to_owned()).or_insert_with(new);
            match change {
                Ok(put) => of.put.push(put),
                Err(id) => of.remove.push(id),
            }
        };
        material.documents(|spec, id, value| {
            let key = (spec.id.clone(), id);
            if now.remove(&key) != Some(digest(&value)) {
                changes(&spec.id, Ok((key.1, value)));
            }
        })?;
        let mut left: Vec<Key> = now.into_keys().collect();
        left.sort();
        left.into_iter().for_each(|(collection, id)| changes(&collection, Err(id)));
        Ok(Self(by_collection.into_values().collect()))
    }

    /// How many records are changed.
    pub fn changes(&self) -> u64 {
        self.0.iter().map(|c| (c.put.len() + c.remove.len()) as u64).sum()
    }

    /// By collection, what others refer to first: in the order of the catalog.
    pub fn in_order(mut self) -> impl Iterator<Item = (String, Changes)> {
        let place = |collection: &str| Catalog::all().collections.iter().position(|c| c.id == collection).unwrap_or(usize::MAX);
        self.0.sort_by_cached_key(|c| (place(&c.collection), c.collection.clone()));
        self.0.into_iter().map(|c| (c.collection.clone(), c))
    }
}

/// Whether the events of every stream are those that were lost.
pub fn judge_events(stand_in: &mut StandIn, lost: &BTreeMap<String, Events>, checks: &mut Vec<CheckRecord>, problems: &mut Vec<String>) {
    let (mut count, mut failed) = (0, 0);
    for (stream, events) in lost {
        let back = stand_in.events(stream);
        let missing = events.iter().filter(|(id, bytes)| back.get(*id) != Some(*bytes)).count() as u64;
        let more = back.keys().filter(|id| !events.contains_key(*id)).count() as u64;
        count += events.len() as u64;
        failed += missing + more;
        if missing + more > 0 {
            problems.push(format!("events: {stream}: {missing} events are missing or not what they were, {more} were not there before"));
        }
    }
    checks.push(check("events", count, failed));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(change: impl FnOnce(&mut StandIn)) -> (Vec<String>, Vec<String>) {
        let mut stand_in = StandIn::new("2026-11-25T10:00:00Z".parse().unwrap(), 1);
        for n in 0..3 {
            stand_in.put("entra.users", &format!("u{n}"), &json!({ "id": format!("u{n}"), "n": n }));
        }
        stand_in.events("audits").insert([1; 16], [2; 16]);
        let truth = Truth::of(&stand_in);
        let lost = stand_in.lose_events();
        stand_in.events("audits").insert([1; 16], [2; 16]);
        change(&mut stand_in);
        let (mut checks, mut problems) = (Vec::new(), Vec::new());
        truth.judge(&stand_in, &HashSet::new(), 3, &mut checks, &mut problems);
        judge_events(&mut stand_in, &lost, &mut checks, &mut problems);
        (checks.into_iter().filter(|c| c.outcome == "failed").map(|c| c.name).collect(), problems)
    }

    #[test]
    fn what_is_not_brought_back_or_does_not_stay_gone_is_seen() {
        assert_eq!(judged(|_| ()), (vec![], vec![]));
        assert_eq!(judged(|s| _ = s.remove("entra.users", "u1")).0, ["brought_back"]);
        assert_eq!(judged(|s| s.put("entra.users", "u1", &json!({ "id": "u1", "n": 7 }))).0, ["brought_back"]);
        let (checks, problems) = judged(|s| s.put("entra.roleAssignments", "rogue", &json!({ "id": "rogue" })));
        assert_eq!((checks.as_slice(), problems.len()), (&["stays_gone".to_owned()][..], 1));
        assert_eq!(judged(|s| _ = s.lose_events()).0, ["events"]);
        assert_eq!(judged(|s| _ = s.events("audits").insert([9; 16], [2; 16])).0, ["events"]);
    }
}
