//! What can be captured: the resource catalog, which is data (`policies/catalog/`), not code.
//!
//! A collection says where its records are, how to ask for them, what tells them apart, which of their
//! fields change by themselves, which arrays are sets, and what refers to what. Code handles kinds of
//! endpoint, never single endpoints.

mod attention;
mod pattern;
mod place;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

pub use attention::{Attention, Happening, Refers};
pub use pattern::{Pattern, SetRule, escape};
pub use place::path_of;

/// The catalogs that the program brings: name and text.
const SHIPPED: [(&str, &str); 4] = [
    ("entra", include_str!("../../../policies/catalog/entra.yaml")),
    ("pim", include_str!("../../../policies/catalog/pim.yaml")),
    ("azure", include_str!("../../../policies/catalog/azure.yaml")),
    ("logs", include_str!("../../../policies/catalog/logs.yaml")),
];

/// Which service answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plane {
    /// Microsoft Graph.
    Graph,
    /// Azure Resource Manager.
    Arm,
}

/// For what a path is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Once.
    #[default]
    Tenant,
    /// Once for each subscription, whose path is put before it.
    Subscriptions,
}

/// A field that changes by itself, always or under a condition.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Volatile {
    /// Always.
    Always(Pattern),
    /// When other fields have these values.
    When {
        /// Where.
        at: Pattern,
        /// Field and value; all of them.
        when: BTreeMap<Pattern, String>,
    },
}

/// Whose name a record is shown by when its own says nothing: it goes before `label`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelBy {
    /// The collection whose records name this one.
    pub collection: String,
    /// Where they name its id.
    #[serde(rename = "match")]
    pub matching: Pattern,
    /// Which of their fields names the record to be shown.
    pub show: Pattern,
    /// The collections that it may be in.
    pub of: Vec<String>,
}

/// One collection of records.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectionSpec {
    /// Its name, in attestations too.
    pub id: String,
    /// What people call it; see [`CollectionSpec::title`].
    #[serde(default)]
    pub title: Option<String>,
    /// Which service answers.
    pub plane: Plane,
    /// `v1.0` or `beta` of Graph; ARM's `api-version`.
    pub version: String,
    /// Of a child: the version that is asked where `version` is not served.
    #[serde(default)]
    pub fallback_version: Option<String>,
    /// The resource's path; `{id}` stands for the parent's.
    pub path: String,
    /// For what it is asked.
    #[serde(default)]
    pub scope: Scope,
    /// The collection for each of whose records this one is asked.
    #[serde(default)]
    pub parent: Option<String>,
    /// Of a child: the name of the list that becomes one record for each parent.
    #[serde(default)]
    pub gather: Option<String>,
    /// Where its records go in a snapshot; its path unless said.
    #[serde(default)]
    pub folder: Option<String>,
    /// `$select`.
    #[serde(default)]
    pub select: Vec<String>,
    /// `$filter`.
    #[serde(default)]
    pub filter: Option<String>,
    /// `$expand`.
    #[serde(default)]
    pub expand: Option<String>,
    /// `$top`; the service's own size unless said.
    #[serde(default)]
    pub page_size: Option<u32>,
    /// The property that tells its records apart and names their files.
    #[serde(default = "id")]
    pub key: String,
    /// The workload that it is throttled with.
    #[serde(default)]
    pub throttle: Option<String>,
    /// Properties to show a record by, best first; `a/b` leads into an object.
    #[serde(default)]
    pub label: Vec<String>,
    /// Fields that name other records to show this one by, in this order.
    #[serde(default, deserialize_with = "in_order")]
    pub label_of: Vec<(Pattern, Vec<String>)>,
    /// Records of another collection that name this one.
    #[serde(default)]
    pub label_by: Option<LabelBy>,
    /// Fields that change by themselves: no reason to store a record again, and no part of a difference.
    #[serde(default)]
    pub volatile: Vec<Volatile>,
    /// Fields that follow from others or tell only of the change itself: stored, but no part of a difference.
    #[serde(default)]
    pub ignore: Vec<Pattern>,
    /// Arrays whose order means nothing.
    #[serde(default)]
    pub sets: Vec<SetRule>,
    /// Records with these values are events rather than configuration: stored, but no part of a difference.
    #[serde(default)]
    pub transient: BTreeMap<Pattern, String>,
    /// Fields that hold another record's id, and the collections that it may be in.
    #[serde(default)]
    pub references: BTreeMap<Pattern, Vec<String>>,
    /// What its references may say besides: words that stand for many records, and kinds of record (`@odata.type`) that are not
    /// captured.
    #[serde(default)]
    pub outside: Vec<String>,
    /// Changes that somebody should look at first.
    #[serde(default)]
    pub attention: Vec<Attention>,
    /// The application permission that reading needs; the first is enough.
    pub permissions: Vec<String>,
}

fn id() -> String {
    "id".into()
}

/// A map whose order means something.
fn in_order<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(Pattern, Vec<String>)>, D::Error> {
    struct InOrder;
    impl<'de> Visitor<'de> for InOrder {
        type Value = Vec<(Pattern, Vec<String>)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("fields, each with a list of collections")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut out = Vec::new();
            while let Some(entry) = map.next_entry()? {
                out.push(entry);
            }
            Ok(out)
        }
    }
    deserializer.deserialize_map(InOrder)
}

impl CollectionSpec {
    /// What people call it.
    pub fn title(&self) -> &str {
        self.title.as_deref().unwrap_or(&self.id)
    }

    /// The folder of its records in a snapshot, without a slash at either end.
    pub fn folder(&self) -> &str {
        self.folder.as_deref().unwrap_or_else(|| self.path.trim_start_matches('/'))
    }

    /// A record without what changes by itself.
    pub fn without_volatile(&self, mut value: Value) -> Value {
        for volatile in &self.volatile {
            match volatile {
                Volatile::Always(at) => at.remove(&mut value),
                Volatile::When { at, when } => {
                    let holds = when.iter().all(|(field, wanted)| field.get(&value).and_then(Value::as_str) == Some(wanted));
                    if holds {
                        at.remove(&mut value);
                    }
                }
            }
        }
        value
    }

    /// What of a record counts in a difference: without what changes by itself or tells only of the change, its sets in order.
    pub fn settled(&self, value: Value) -> Value {
        let mut value = self.without_volatile(value);
        self.ignore.iter().for_each(|at| at.remove(&mut value));
        self.sets.iter().for_each(|set| set.sort(&mut value));
        value
    }
}

/// One access log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSpec {
    /// Its name.
    pub id: String,
    /// Which service answers.
    pub plane: Plane,
    /// `v1.0` or `beta` of Graph; ARM's `api-version`.
    pub version: String,
    /// The resource's path.
    pub path: String,
    /// For what it is asked.
    #[serde(default)]
    pub scope: Scope,
    /// JSON pointer to an event's id.
    pub key: String,
    /// JSON pointer to an event's time.
    pub time: String,
    /// `$filter` with `{from}` and `{to}`, both inclusive; without one the whole list is read.
    #[serde(default)]
    pub filter: Option<String>,
    /// `$top`.
    #[serde(default)]
    pub page_size: Option<u32>,
    /// The workload that it is throttled with.
    #[serde(default)]
    pub throttle: Option<String>,
    /// How long the service keeps events, such as `30d`; nothing is lost with time unless said.
    #[serde(default)]
    pub available: Option<String>,
    /// The application permissions that reading needs.
    pub permissions: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default)]
    collections: Vec<CollectionSpec>,
    #[serde(default)]
    logs: Vec<LogSpec>,
}

/// Why a catalog cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// There is none of this name.
    #[error("there is no catalog {name:?}; there are: {}", names().join(", "))]
    Unknown {
        /// The name.
        name: String,
    },
    /// It is not what it should be.
    #[error("the catalog {name} is damaged: {what}")]
    Damaged {
        /// The name.
        name: String,
        /// Where and what.
        what: String,
    },
}

/// The collections and logs of some catalogs.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// In the order of the files.
    pub collections: Vec<CollectionSpec>,
    /// In the order of the files.
    pub logs: Vec<LogSpec>,
}

/// The names of the shipped catalogs of collections.
pub fn names() -> Vec<&'static str> {
    SHIPPED.iter().map(|(name, _)| *name).filter(|name| *name != "logs").collect()
}

impl Catalog {
    /// The shipped catalogs of these names.
    pub fn load<'n>(wanted: impl IntoIterator<Item = &'n str>) -> Result<Self, CatalogError> {
        let mut out = Self::default();
        for name in wanted {
            let Some((_, text)) = SHIPPED.iter().find(|(known, _)| *known == name) else {
                return Err(CatalogError::Unknown { name: name.to_owned() });
            };
            let damaged = |what: String| CatalogError::Damaged { name: name.to_owned(), what };
            let file: File = serde_saphyr::from_str(text).map_err(|e| damaged(e.to_string()))?;
            if file.version != 1 {
                return Err(damaged(format!("it is of version {}", file.version)));
            }
            out.collections.extend(file.collections);
            out.logs.extend(file.logs);
        }
        Ok(out)
    }

    /// Everything that is shipped.
    pub fn all() -> &'static Self {
        static ALL: OnceLock<Catalog> = OnceLock::new();
        // A test reads every shipped catalog.
        ALL.get_or_init(|| Self::load(SHIPPED.iter().map(|(name, _)| *name)).unwrap_or_default())
    }

    /// The collection in whose folder a record lies.
    pub fn collection_of(&self, path: &str) -> Option<&CollectionSpec> {
        self.collections.iter().find(|c| path.strip_prefix(c.folder()).is_some_and(|rest| rest.starts_with('/')))
    }

    /// The collection of this name.
    pub fn collection(&self, id: &str) -> Option<&CollectionSpec> {
        self.collections.iter().find(|c| c.id == id)
    }

    /// The log of this name.
    pub fn log(&self, id: &str) -> Option<&LogSpec> {
        self.logs.iter().find(|l| l.id == id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_shipped_catalog_is_sound() {
        for (name, _) in SHIPPED {
            Catalog::load([name]).unwrap_or_else(|e| panic!("{e}"));
        }
        let all = Catalog::all();
        assert!(all.collections.len() > 15 && all.logs.len() >= 5);
        let ids: BTreeSet<&str> = all.collections.iter().map(|c| c.id.as_str()).collect();
        assert_eq!(ids.len(), all.collections.len());
        let mut folders: Vec<&str> = all.collections.iter().map(CollectionSpec::folder).collect();
        folders.sort_unstable();
        // A collection that fails is carried by its folder: none may lie in another's.
        for pair in folders.windows(2) {
            assert!(!pair[1].starts_with(&format!("{}/", pair[0])) && pair[0] != pair[1], "{pair:?}");
        }
        for c in &all.collections {
            let named = c.references.values().chain(c.label_of.iter().map(|(_, of)| of)).flatten();
            let by = c.label_by.iter().flat_map(|l| l.of.iter().chain([&l.collection]));
            for other in named.chain(by).chain(&c.parent) {
                assert!(ids.contains(other.as_str()), "{}: {other}", c.id);
            }
            assert_eq!(c.parent.is_some(), c.gather.is_some(), "{}", c.id);
            assert!(!c.permissions.is_empty(), "{}", c.id);
            assert!(c.title.is_some(), "{}: people see it", c.id);
            for a in &c.attention {
                assert!(a.refers.as_ref().is_none_or(|r| c.references.contains_key(&r.at) && !r.any.is_empty()), "{}: {}", c.id, a.say);
                assert!(a.at.is_some() || [&a.from, &a.to, &a.lost].iter().all(|v| v.is_none()), "{}: {}", c.id, a.say);
            }
        }
    }

    #[test]
    fn what_the_catalog_says_in_order_stays_so() {
        let fields: Vec<String> =
            Catalog::all().collection("entra.roleAssignments").unwrap().label_of.iter().map(|(at, _)| at.to_string()).collect();
        assert_eq!(fields, ["/roleDefinitionId", "/principalId"]);
        let refers = Catalog::all().collection("entra.roleAssignments").unwrap().attention[0].refers.clone().unwrap();
        assert!(refers.any.iter().any(|says| says.values().any(|v| *v == serde_json::Value::Bool(true))), "a yes is no text: {refers:?}");
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_right_ones() {
        let error = Catalog::load(["entre"]).unwrap_err().to_string();
        assert!(error.contains("entra, pim, azure"), "{error}");
    }
}
