//! A tenant that stands in for another: loaded from its records, broken on purpose, and brought back. It listens nowhere and
//! knows no address, so that nothing that is written to it can reach a real one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::estate::{Basis, Estate};
use super::instant::nanos;
use super::kinds::{Kind, RULES};
use super::logs::Journal;
use super::{Deed, SampleError, incident};

/// What the events of a stream are known by: id and bytes, as digests.
pub type Events = BTreeMap<[u8; 16], [u8; 16]>;

/// See above.
#[derive(Debug)]
pub struct StandIn {
    estate: Estate,
    journal: Journal,
    now: i64,
    /// Records of collections that the sample has no rules for, by collection and id.
    rest: BTreeMap<(String, String), Value>,
    events: BTreeMap<String, Events>,
}

impl StandIn {
    /// An empty one. `seed` decides who the intruder is.
    pub fn new(now: Timestamp, seed: u64) -> Self {
        let basis = Basis { seed, users: 0, start: nanos(now), tenant: "stand-in".into() };
        Self {
            estate: Estate::empty(basis.clone()),
            journal: Journal::new(basis, Some(0)),
            now: nanos(now),
            rest: BTreeMap::new(),
            events: BTreeMap::new(),
        }
    }

    /// The table of a collection of the directory. Azure's records have whole addresses, and lie with the rest.
    fn kind(collection: &str) -> Option<Kind> {
        RULES.iter().find(|r| r.catalog == collection && collection.starts_with("entra.")).map(|r| r.kind)
    }

    /// Adds or replaces a record.
    pub fn put(&mut self, collection: &str, id: &str, record: &Value) {
        match Self::kind(collection) {
            Some(kind) => {
                self.estate.next_change();
                self.estate.put(kind, id, record);
            }
            None => _ = self.rest.insert((collection.to_owned(), id.to_owned()), record.clone()),
        }
    }

    /// Takes a record away; false if there is none.
    pub fn remove(&mut self, collection: &str, id: &str) -> bool {
        match Self::kind(collection) {
            Some(kind) => self.estate.delete(kind, id),
            None => self.rest.remove(&(collection.to_owned(), id.to_owned())).is_some(),
        }
    }

    /// Shows every record with its collection and id.
    pub fn records(&self, mut each: impl FnMut(&str, &str, Value)) {
        for rules in RULES.iter().filter(|r| r.catalog.starts_with("entra.")) {
            self.estate.table(rules.kind).records().for_each(|(id, record)| each(rules.catalog, id, record.to_value()));
        }
        self.rest.iter().for_each(|((collection, id), record)| each(collection, id, record.clone()));
    }

    /// Lets one of [`super::DISASTERS`] happen.
    pub fn disaster(&mut self, name: &str) -> Result<Vec<Deed>, SampleError> {
        incident::disaster(&mut self.estate, &self.journal, self.now, name)
    }

    /// The events of a stream, to be added to.
    pub fn events(&mut self, stream: &str) -> &mut Events {
        self.events.entry(stream.to_owned()).or_default()
    }

    /// Loses the events of every stream; gives what they were.
    pub fn lose_events(&mut self) -> BTreeMap<String, Events> {
        std::mem::take(&mut self.events)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_gives_back_what_was_put_and_disasters_take_it() {
        let mut stand_in = StandIn::new("2026-11-25T10:00:00Z".parse().unwrap(), 7);
        let policy = json!({ "id": "p", "displayName": "Require MFA", "state": "enabled", "odd": { "n": 1.5 } });
        let user = json!({ "id": "u", "displayName": "Ada", "userPrincipalName": "ada@example.org" });
        stand_in.put("entra.conditionalAccessPolicies", "p", &policy);
        stand_in.put("entra.users", "u", &user);
        stand_in.put("arm.roleAssignments", "x/1.json", &json!({ "name": "1" }));
        stand_in.put("entra.somethingNew", "n", &json!({ "id": "n" }));
        let all = |s: &StandIn| {
            let mut out = Vec::new();
            s.records(|collection, id, record| out.push((collection.to_owned(), id.to_owned(), record)));
            out
        };
        let before = all(&stand_in);
        assert_eq!(before.len(), 4);
        assert!(before.contains(&("entra.conditionalAccessPolicies".into(), "p".into(), policy.clone())));
        assert_eq!(stand_in.disaster("conditional-access-removed").unwrap().len(), 1);
        assert_eq!(stand_in.disaster("rogue-global-admin").unwrap().len(), 3);
        assert_eq!(all(&stand_in).len(), 4 - 1 + 3);
        assert!(stand_in.remove("arm.roleAssignments", "x/1.json") && !stand_in.remove("arm.roleAssignments", "x/1.json"));
        stand_in.put("entra.conditionalAccessPolicies", "p", &policy);
        assert!(all(&stand_in).contains(&("entra.conditionalAccessPolicies".into(), "p".into(), policy)));
    }
}
