//! Changes that somebody should look at first, as the catalog describes them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::Pattern;

/// What happened at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happening {
    /// There was nothing before.
    Added,
    /// There is nothing any more.
    Removed,
    /// There was something and is something else.
    Changed,
}

/// A record that another refers to, and what it must say.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refers {
    /// The field that refers to it; one of the collection's `references`.
    pub at: Pattern,
    /// Fields and their values; one of these must hold as a whole.
    pub any: Vec<BTreeMap<Pattern, Value>>,
}

/// One kind of change; every condition that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// What happened there; anything unless said.
    #[serde(default)]
    pub when: Vec<Happening>,
    /// Where; the whole record unless said.
    #[serde(default)]
    pub at: Option<Pattern>,
    /// What stood there.
    #[serde(default)]
    pub from: Option<Value>,
    /// What stands there now.
    #[serde(default)]
    pub to: Option<Value>,
    /// What the list there no longer has.
    #[serde(default)]
    pub lost: Option<Value>,
    /// What a record that this one refers to must say.
    #[serde(default)]
    pub refers: Option<Refers>,
    /// What people are told, after the record's name.
    pub say: String,
}
