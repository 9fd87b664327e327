//! Names for ids: what records are called, and what the ids in them refer to.
//!
//! It promises: only records that are asked for are read, besides the whole of a collection whose records name
//! those of another. Whoever asks does so again until nothing is missing; each round opens the later state once.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::contents::{Contents, Side, read_values};
use super::{DiffReport, Pair, State};
use crate::restore::RestoreError;
use crate::restore::tree::read_tree;
use crate::source::catalog::{Catalog, CollectionSpec, LabelBy, Refers, escape};

/// A name that is made of others' names is made of no more than so many layers.
const DEEPEST: u8 = 4;
/// Of a value with many references so many are named.
const MOST_NAMED: usize = 8;

/// What was asked for and is not known yet.
#[derive(Default)]
struct Missing {
    paths: BTreeSet<String>,
    folders: BTreeSet<String>,
}

/// What is known of records, in the difference and around it.
pub(super) struct Names<'a> {
    catalog: &'a Catalog,
    pairs: &'a BTreeMap<String, Pair>,
    contents: &'a [Contents; 2],
    /// What lies outside the difference; `None` where nothing lies.
    fetched: HashMap<String, Option<Value>>,
    /// The records of the folders that were read as a whole.
    folders: HashMap<String, Vec<String>>,
    missing: RefCell<Missing>,
}

impl<'a> Names<'a> {
    pub fn new(catalog: &'a Catalog, pairs: &'a BTreeMap<String, Pair>, contents: &'a [Contents; 2]) -> Self {
        Self { catalog, pairs, contents, fetched: HashMap::new(), folders: HashMap::new(), missing: RefCell::default() }
    }

    /// Reads what was asked for in vain; whether there was anything.
    pub fn fetch(&mut self, later: &State<'_>, report: &mut DiffReport) -> Result<bool, RestoreError> {
        let Missing { paths, folders } = self.missing.take();
        if paths.is_empty() && folders.is_empty() {
            return Ok(false);
        }
        let mut sides: Vec<(String, Side)> = Vec::new();
        // What cannot be read of the manifests was told when they were read first.
        let info = read_tree(later.ledger, later.identities, later.chain, later.run, |entry| {
            let folder = folders.iter().find(|folder| entry.path.starts_with(*folder));
            if let Some(folder) = folder {
                self.folders.entry(folder.clone()).or_default().push(entry.path.clone());
            }
            if (folder.is_some() || paths.contains(&entry.path)) && !self.pairs.contains_key(&entry.path) {
                sides.push((entry.path.clone(), Side { entry }));
            }
            Ok(())
        })?;
        report.objects_read += info.objects_read;
        for folder in folders {
            let list = self.folders.entry(folder.clone()).or_default();
            // Of the later state; what only the earlier one has is in the difference.
            list.extend(self.pairs.range(folder.clone()..).map(|(path, _)| path.clone()).take_while(|path| path.starts_with(&folder)));
            list.sort_unstable();
            list.dedup();
        }
        self.fetched.extend(paths.into_iter().map(|path| (path, None)));
        let wanted = sides.iter().map(|(path, side)| (path.as_str(), side, &info.segments, ()));
        let fetched = &mut self.fetched;
        read_values(later.ledger, later.identities, wanted, report, |path, (), value| {
            fetched.insert(path.to_owned(), Some(value));
        })?;
        Ok(true)
    }

    /// A record, of the later state if that has it.
    fn record(&self, path: &str) -> Option<&Value> {
        let here = self.contents[1].get(path).or_else(|| self.contents[0].get(path));
        if here.is_some() || self.pairs.contains_key(path) {
            return here;
        }
        let known = self.fetched.get(path);
        if known.is_none() {
            self.missing.borrow_mut().paths.insert(path.to_owned());
        }
        known?.as_ref()
    }

    /// What people call a record.
    pub fn of(&self, path: &str) -> Option<String> {
        self.name(path, 0)
    }

    fn name(&self, path: &str, depth: u8) -> Option<String> {
        let spec = self.catalog.collection_of(path).filter(|_| depth < DEEPEST)?;
        let record = self.record(path)?;
        let by = spec.label_by.as_ref().and_then(|by| self.name_by(spec, by, path, record, depth));
        by.or_else(|| own_name(spec, record)).or_else(|| self.composed(spec, path, record, depth))
    }

    /// From the names of the records that this one refers to; an id where one has none.
    fn composed(&self, spec: &CollectionSpec, path: &str, record: &Value, depth: u8) -> Option<String> {
        let mut named = false;
        let mut parts = Vec::new();
        for (at, of) in &spec.label_of {
            let Some(id) = at.get(record).and_then(Value::as_str).filter(|id| !id.is_empty()) else { continue };
            let name = self.target(of, id, path, depth);
            named |= name.is_some();
            parts.push(name.unwrap_or_else(|| id.rsplit('/').next().unwrap_or(id).to_owned()));
        }
        named.then(|| parts.join(" · "))
    }

    /// From the record of another collection that refers to this one.
    fn name_by(&self, spec: &CollectionSpec, by: &LabelBy, path: &str, record: &Value, depth: u8) -> Option<String> {
        let id = record.get(&spec.key).and_then(Value::as_str)?;
        let others = self.catalog.collection(&by.collection)?;
        // Where both belong to subscriptions, to the same one.
        let within = path.strip_prefix(spec.folder())?;
        let folder = others.folder_around(&format!("{}{within}", others.folder()))?.to_owned();
        let Some(paths) = self.folders.get(&folder) else {
            self.missing.borrow_mut().folders.insert(folder);
            return None;
        };
        let about = |other: &Value| by.matching.get(other).and_then(Value::as_str).is_some_and(|seen| spec.id_in(seen) == id);
        paths.iter().find_map(|other_path| {
            let other = self.record(other_path).filter(|other| about(other))?;
            self.target(&by.of, by.show.get(other)?.as_str()?, other_path, depth)
        })
    }

    /// The name of what a reference means.
    fn target(&self, of: &[String], id: &str, seen_in: &str, depth: u8) -> Option<String> {
        // All places are asked for before one is decided for, so that one round reads them.
        let places = self.catalog.places(of, id, seen_in);
        places.iter().map(|place| self.name(place, depth + 1)).collect::<Vec<_>>().into_iter().flatten().next()
    }

    /// The names of what a value at a pointer of a record refers to, itself or within.
    pub fn of_value(&self, spec: &CollectionSpec, path: &str, pointer: &str, value: Option<&Value>) -> Option<String> {
        let mut names = Vec::new();
        if !spec.references.is_empty() {
            self.gather(spec, path, &mut pointer.to_owned(), value?, &mut names);
        }
        names.truncate(MOST_NAMED);
        (!names.is_empty()).then(|| names.join(", "))
    }

    fn gather(&self, spec: &CollectionSpec, path: &str, pointer: &mut String, value: &Value, names: &mut Vec<String>) {
        let length = pointer.len();
        let mut below = |step: &str, value: &Value| {
            pointer.push('/');
            pointer.push_str(&escape(step));
            self.gather(spec, path, pointer, value, names);
            pointer.truncate(length);
        };
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| below(key, value)),
            Value::Array(list) => list.iter().enumerate().for_each(|(n, value)| below(&n.to_string(), value)),
            Value::String(id) => {
                let of = spec.references.iter().find(|(at, _)| at.fits(pointer)).map(|(_, of)| of);
                names.extend(of.and_then(|of| self.target(of, id, path, 0)));
            }
            _ => {}
        }
    }

    /// Whether a record that one of these sides refers to says what a rule wants.
    pub fn refers(&self, spec: &CollectionSpec, path: &str, sides: [Option<&Value>; 2], rule: &Refers) -> bool {
        let Some(of) = spec.references.get(&rule.at) else { return false };
        let mut places = Vec::new();
        for side in sides.into_iter().flatten() {
            rule.at.visit(side, &mut |id| places.extend(id.as_str().map(|id| self.catalog.places(of, id, path))));
        }
        let says = |record: &Value| rule.any.iter().any(|all| all.iter().all(|(at, wanted)| at.get(record) == Some(wanted)));
        let found: Vec<bool> = places.iter().flatten().map(|place| self.record(place).is_some_and(says)).collect();
        found.contains(&true)
    }
}

/// The first property that a record is called by.
fn own_name(spec: &CollectionSpec, record: &Value) -> Option<String> {
    spec.label.iter().find_map(|label| {
        let value = label.split('/').try_fold(record, |value, step| value.get(step))?;
        value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What is called what, all records being known.
    fn called(records: &[(&str, Value)], ask: impl Fn(&Names<'_>) -> Option<String>) -> Option<String> {
        let pairs = records.iter().map(|(path, _)| ((*path).to_owned(), Pair::default())).collect();
        let later = records.iter().map(|(path, value)| ((*path).to_owned(), value.clone())).collect();
        let contents = [Contents::new(), later];
        let mut names = Names::new(Catalog::all(), &pairs, &contents);
        for folder in ["policies/roleManagementPolicyAssignments/", "providers/Microsoft.Authorization/roleManagementPolicyAssignments/s/"]
        {
            let inside = records.iter().map(|(path, _)| (*path).to_owned()).filter(|path| path.starts_with(folder));
            names.folders.insert(folder.into(), inside.collect());
        }
        ask(&names)
    }

    fn tenant() -> Vec<(&'static str, Value)> {
        vec![
            ("users/1.json", json!({"id": "1", "displayName": "Alice", "userPrincipalName": "a@x"})),
            ("users/2.json", json!({"id": "2", "displayName": "", "userPrincipalName": "b@x"})),
            ("groups/3.json", json!({"id": "3", "displayName": "Admins"})),
            ("roleManagement/directory/roleDefinitions/r.json", json!({"id": "r", "displayName": "Reader", "isPrivileged": true})),
            ("roleManagement/directory/roleAssignments/a.json", json!({"roleDefinitionId": "r", "principalId": "1"})),
            ("roleManagement/directory/roleAssignments/b.json", json!({"roleDefinitionId": "r", "principalId": "nobody"})),
            ("roleManagement/directory/roleAssignments/c.json", json!({"roleDefinitionId": "none", "principalId": "nobody"})),
            ("policies/roleManagementPolicies/p.json", json!({"id": "p", "displayName": "DirectoryRole"})),
            ("policies/roleManagementPolicies/q.json", json!({"id": "q", "displayName": "DirectoryRole"})),
            ("policies/roleManagementPolicyAssignments/p_r.json", json!({"policyId": "p", "roleDefinitionId": "r"})),
            ("groupMembers/3.json", json!({"id": "3", "members": [{"id": "1"}]})),
        ]
    }

    #[test]
    fn a_record_has_a_name() {
        let name = |path: &'static str| called(&tenant(), |names| names.of(path));
        assert_eq!(name("users/1.json").as_deref(), Some("Alice"));
        assert_eq!(name("users/2.json").as_deref(), Some("b@x"), "an empty name is none");
        assert_eq!(name("roleManagement/directory/roleAssignments/a.json").as_deref(), Some("Reader · Alice"));
        assert_eq!(name("roleManagement/directory/roleAssignments/b.json").as_deref(), Some("Reader · nobody"));
        assert_eq!(name("roleManagement/directory/roleAssignments/c.json"), None, "ids alone are no name");
        assert_eq!(name("policies/roleManagementPolicies/p.json").as_deref(), Some("Reader"));
        assert_eq!(name("policies/roleManagementPolicies/q.json").as_deref(), Some("DirectoryRole"), "its own where no other names it");
        assert_eq!(name("groupMembers/3.json").as_deref(), Some("Admins"));
    }

    #[test]
    fn azure_refers_by_whole_addresses() {
        let root = "providers/Microsoft.Authorization";
        let (role, policy, assignment) = (
            format!("{root}/roleDefinitions/s/r.json"),
            format!("{root}/roleManagementPolicies/s/p.json"),
            format!("{root}/roleManagementPolicyAssignments/s/x.json"),
        );
        let address = |kind: &str, id: &str| format!("/subscriptions/s/providers/Microsoft.Authorization/{kind}/{id}");
        let records = [
            (role.as_str(), json!({"properties": {"roleName": "Deployer"}})),
            (policy.as_str(), json!({"name": "p", "id": address("roleManagementPolicies", "p"), "properties": {}})),
            (
                assignment.as_str(),
                json!({"properties": {"policyId": address("roleManagementPolicies", "p"), "roleDefinitionId": address("roleDefinitions", "r")}}),
            ),
        ];
        assert_eq!(called(&records, |names| names.of(&policy)).as_deref(), Some("Deployer"));
        assert_eq!(called(&records, |names| names.of(&assignment)).as_deref(), Some("Deployer"));
    }

    #[test]
    fn values_have_the_names_of_what_they_refer_to() {
        let spec = Catalog::all().collection("entra.groups.members").unwrap();
        let of = |pointer: &'static str, value: Value| {
            called(&tenant(), |names| names.of_value(spec, "groupMembers/3.json", pointer, Some(&value)))
        };
        assert_eq!(of("/members/1", json!({"id": "1"})).as_deref(), Some("Alice"));
        assert_eq!(of("/members", json!([{"id": "1"}, {"id": "9"}, {"id": "3"}])).as_deref(), Some("Alice, Admins"));
        assert_eq!(of("/id", json!("3")).as_deref(), Some("Admins"));
        assert_eq!(of("/other", json!("1")), None, "only what the catalog calls a reference");
    }

    #[test]
    fn a_rule_sees_what_is_referred_to() {
        let spec = Catalog::all().collection("entra.roleAssignments").unwrap();
        let rule = spec.attention[0].refers.clone().unwrap();
        let path = "roleManagement/directory/roleAssignments/a.json";
        let says =
            |record: Value| called(&tenant(), |names| names.refers(spec, path, [None, Some(&record)], &rule).then(String::new)).is_some();
        assert!(says(json!({"roleDefinitionId": "r"})) && !says(json!({"roleDefinitionId": "none"})) && !says(json!({})));
    }

    #[test]
    fn what_is_not_known_is_asked_for_once() {
        let (pairs, contents) = (BTreeMap::new(), [Contents::new(), Contents::new()]);
        let names = Names::new(Catalog::all(), &pairs, &contents);
        let members = Catalog::all().collection("entra.groups.members").unwrap();
        names.of_value(members, "groupMembers/3.json", "/members/1", Some(&json!({"id": "1"})));
        let asked: Vec<String> = names.missing.borrow().paths.iter().cloned().collect();
        assert_eq!(asked, ["groups/1.json", "servicePrincipals/1.json", "users/1.json"]);
    }
}
