//! Where a record lies in a snapshot, by its collection and its id.

use super::{Catalog, CollectionSpec, Plane, Scope};
use crate::path::encode_component;

/// A record's path in its folder.
pub fn path_of(folder: &str, id: &str) -> String {
    let mut path = String::with_capacity(folder.len() + id.len() + 6);
    path.push_str(folder);
    path.push('/');
    // A slash would make folders, and a leading dot may hide a file: both can stand in an id.
    let plain = id.replace('~', "~0").replace('/', "~1");
    encode_component(plain.as_bytes(), &mut path);
    path.push_str(".json");
    path
}

impl CollectionSpec {
    /// What tells a record apart, from how others refer to it: Azure names records by their whole address.
    pub fn id_in<'i>(&self, reference: &'i str) -> &'i str {
        match self.plane {
            Plane::Graph => reference,
            Plane::Arm => reference.rsplit('/').next().unwrap_or(reference),
        }
    }

    /// The folder of a record of this collection, with a slash at its end: one for each subscription, where it is
    /// asked so.
    pub fn folder_around<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(self.folder())?.strip_prefix('/')?;
        let below = match self.scope {
            Scope::Tenant => 0,
            Scope::Subscriptions => rest.find('/')? + 1,
        };
        Some(&path[..path.len() - rest.len() + below])
    }
}

impl Catalog {
    /// Where the record that a reference means may lie: in each of some collections, and for what belongs to a
    /// subscription, in that of the reference or of the record at `seen_in`, which refers to it.
    pub fn places(&self, of: &[String], reference: &str, seen_in: &str) -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        let mut add = |place: String| {
            if !out.contains(&place) {
                out.push(place);
            }
        };
        for spec in of.iter().filter_map(|name| self.collection(name)) {
            let id = spec.id_in(reference);
            if id.is_empty() {
                continue;
            }
            match spec.scope {
                Scope::Tenant => add(path_of(spec.folder(), id)),
                Scope::Subscriptions => {
                    let named = reference.strip_prefix("/subscriptions/").and_then(|rest| rest.split('/').next());
                    for subscription in named.into_iter().chain(self.subscription_of(seen_in)) {
                        add(path_of(path_of(spec.folder(), subscription).trim_end_matches(".json"), id));
                    }
                }
            }
        }
        out
    }

    fn subscription_of<'p>(&self, path: &'p str) -> Option<&'p str> {
        let spec = self.collection_of(path).filter(|spec| spec.scope == Scope::Subscriptions)?;
        let around = spec.folder_around(path)?;
        around[..around.len() - 1].rsplit('/').next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_makes_one_file() {
        assert_eq!(path_of("users", "a/b~c%"), "users/a~1b~0c%25.json");
        assert_eq!(path_of("users", "../x"), "users/..~1x.json");
    }

    #[test]
    fn references_lead_to_places() {
        let all = Catalog::all();
        let of = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(all.places(&of(&["entra.users", "entra.groups"]), "7", "groupMembers/1.json"), ["users/7.json", "groups/7.json"]);
        let roles = of(&["arm.roleDefinitions.builtIn", "arm.roleDefinitions"]);
        let built_in = "providers/Microsoft.Authorization/builtInRoleDefinitions/r.json";
        let custom = "providers/Microsoft.Authorization/roleDefinitions";
        let (named, own) = (format!("{custom}/s1/r.json"), format!("{custom}/s2/r.json"));
        let seen_in = "providers/Microsoft.Authorization/roleAssignments/s2/a.json";
        let in_subscription = "/subscriptions/s1/providers/Microsoft.Authorization/roleDefinitions/r";
        assert_eq!(all.places(&roles, in_subscription, seen_in), [built_in, &named, &own]);
        assert_eq!(all.places(&roles, "/providers/Microsoft.Authorization/roleDefinitions/r", seen_in), [built_in, &own]);
        assert_eq!(all.places(&roles, "", seen_in), Vec::<String>::new());
    }

    #[test]
    fn a_record_has_a_folder_around_it() {
        let all = Catalog::all();
        assert_eq!(all.collection("entra.users").unwrap().folder_around("users/1.json"), Some("users/"));
        let assignments = all.collection("arm.roleAssignments").unwrap();
        let folder = "providers/Microsoft.Authorization/roleAssignments/s/";
        assert_eq!(assignments.folder_around(&format!("{folder}a.json")), Some(folder));
        assert_eq!(assignments.folder_around("users/1.json"), None);
    }
}
