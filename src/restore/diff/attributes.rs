//! How one record differs: by JSON pointer, in sets by element, and where it is no JSON by what it is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::source::catalog::{SetRule, escape};
use crate::vault::manifest::{Content, Entry};

/// One attribute that differs.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct AttributeChange {
    /// JSON pointer; an element of a set stands there by its key. Of what is not JSON: `type`, `mode`, `mtime`,
    /// `target`, `size`, `sha256`.
    pub pointer: String,
    /// The earlier value; absent where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// The later value; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
    /// Where the set is that this element came into or went out of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
    /// The name of what the earlier value refers to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_name: Option<String>,
    /// The name of what the later value refers to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_name: Option<String>,
}

impl AttributeChange {
    /// A difference between two values, either of which may be absent.
    pub fn new(pointer: &str, from: Option<Value>, to: Option<Value>) -> Self {
        Self { pointer: pointer.to_owned(), from, to, ..Self::default() }
    }
}

/// How two entries differ besides their JSON; with `json` their bytes are compared elsewhere.
pub(super) fn of_entries(a: &Entry, b: &Entry, json: bool) -> Vec<AttributeChange> {
    let mut out = Vec::new();
    let mut attribute = |pointer: &str, from: Option<Value>, to: Option<Value>| {
        if from != to {
            out.push(AttributeChange::new(pointer, from, to));
        }
    };
    let of = |e: &Entry| match &e.content {
        Content::File { sha256, size, .. } => ("file", Some(sha256.to_string()), Some(*size), None),
        Content::Dir => ("dir", None, None, None),
        Content::Symlink { target } => ("symlink", None, None, Some(target.clone())),
    };
    let (x, y) = (of(a), of(b));
    attribute("type", Some(x.0.into()), Some(y.0.into()));
    attribute("target", x.3.map(Value::from), y.3.map(Value::from));
    let mode = |m: Option<u32>| m.map(|m| Value::from(format!("{m:04o}")));
    attribute("mode", mode(a.mode), mode(b.mode));
    if !json {
        attribute("size", x.2.map(Value::from), y.2.map(Value::from));
        attribute("sha256", x.1.map(Value::from), y.1.map(Value::from));
    }
    if a.mtime != b.mtime {
        attribute("mtime", a.mtime.map(|m| m.text().into()), b.mtime.map(|m| m.text().into()));
    }
    out
}

/// The same values, written otherwise.
pub(super) fn of_bytes(a: &Entry, b: &Entry) -> AttributeChange {
    let hex = |e: &Entry| match &e.content {
        Content::File { sha256, .. } => Some(Value::from(sha256.to_string())),
        Content::Dir | Content::Symlink { .. } => None,
    };
    AttributeChange::new("sha256", hex(a), hex(b))
}

/// The differences of two JSON values; arrays that a rule calls sets are compared as such.
pub(super) fn of_values(sets: &[SetRule], from: &Value, to: &Value) -> Vec<AttributeChange> {
    let mut comparison = Comparison { sets, pointer: String::new(), out: Vec::new() };
    comparison.step(Some(from), Some(to));
    comparison.out
}

struct Comparison<'s> {
    sets: &'s [SetRule],
    pointer: String,
    out: Vec<AttributeChange>,
}

impl Comparison<'_> {
    fn step(&mut self, from: Option<&Value>, to: Option<&Value>) {
        let rule = self.sets.iter().find(|rule| rule.at.fits(&self.pointer));
        if let Some((rule, a, b)) = rule.and_then(|rule| as_sets(from, to).map(|(a, b)| (rule, a, b))) {
            return self.set(rule, a, b);
        }
        match (from, to) {
            (Some(Value::Object(a)), Some(Value::Object(b))) => {
                let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
                for key in keys {
                    self.below(key, |c| c.step(a.get(key), b.get(key)));
                }
            }
            (Some(Value::Array(a)), Some(Value::Array(b))) if a.len() == b.len() => {
                for (n, (x, y)) in a.iter().zip(b).enumerate() {
                    self.below(&n.to_string(), |c| c.step(Some(x), Some(y)));
                }
            }
            _ if from != to => self.out.push(AttributeChange::new(&self.pointer, from.cloned(), to.cloned())),
            _ => {}
        }
    }

    fn below(&mut self, step: &str, compare: impl FnOnce(&mut Self)) {
        let length = self.pointer.len();
        self.pointer.push('/');
        self.pointer.push_str(&escape(step));
        compare(self);
        self.pointer.truncate(length);
    }

    fn set(&mut self, rule: &SetRule, from: &[Value], to: &[Value]) {
        let set = self.pointer.clone();
        // Nothing forbids an element to be there twice.
        let mut by_key: BTreeMap<String, [Vec<&Value>; 2]> = BTreeMap::new();
        for (side, list) in [from, to].into_iter().enumerate() {
            for element in list {
                by_key.entry(rule.key(element)).or_default()[side].push(element);
            }
        }
        for (key, [a, b]) in by_key {
            for n in 0..a.len().max(b.len()) {
                let (x, y) = (a.get(n).copied(), b.get(n).copied());
                self.below(&key, |c| match (x, y) {
                    (Some(_), Some(_)) => c.step(x, y),
                    _ => {
                        let change = AttributeChange::new(&c.pointer, x.cloned(), y.cloned());
                        c.out.push(AttributeChange { set: Some(set.clone()), ..change });
                    }
                });
            }
        }
    }
}

/// Both sides as lists; where one has nothing, the other's elements all came or all went.
fn as_sets<'v>(from: Option<&'v Value>, to: Option<&'v Value>) -> Option<(&'v [Value], &'v [Value])> {
    match (from, to) {
        (Some(Value::Array(a)), Some(Value::Array(b))) => Some((a, b)),
        (Some(Value::Array(a)), None | Some(Value::Null)) if !a.is_empty() => Some((a, &[])),
        (None | Some(Value::Null), Some(Value::Array(b))) if !b.is_empty() => Some((&[], b)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(sets: &[&str], a: &Value, b: &Value) -> Vec<(String, Value, Value, bool)> {
        let sets: Vec<SetRule> = sets.iter().map(|s| serde_json::from_value(json!(s)).unwrap()).collect();
        let out = of_values(&sets, a, b);
        out.into_iter().map(|c| (c.pointer, c.from.unwrap_or(json!("-")), c.to.unwrap_or(json!("-")), c.set.is_some())).collect()
    }

    fn change(pointer: &str, from: Value, to: Value, set: bool) -> (String, Value, Value, bool) {
        (pointer.to_owned(), from, to, set)
    }

    #[test]
    fn attributes_by_pointer() {
        let (a, b) = (json!({"a": 1, "b": {"c/d": [1, 2]}, "e": null}), json!({"a": 1, "b": {"c/d": [1, 3]}, "f": "x"}));
        assert_eq!(
            shown(&[], &a, &b),
            [
                change("/b/c~1d/1", json!(2), json!(3), false),
                change("/e", Value::Null, json!("-"), false),
                change("/f", json!("-"), json!("x"), false)
            ]
        );
        assert_eq!(shown(&[], &json!([1, 2]), &json!([1])), [change("", json!([1, 2]), json!([1]), false)]);
    }

    #[test]
    fn a_set_has_no_order() {
        let (a, b) = (json!({"s": ["x", "y", "a/b"]}), json!({"s": ["z", "y", "x"]}));
        assert_eq!(
            shown(&["/s"], &a, &b),
            [change("/s/a~1b", json!("a/b"), json!("-"), true), change("/s/z", json!("-"), json!("z"), true)]
        );
        assert_eq!(shown(&["/s"], &json!({"s": [1, 2]}), &json!({"s": [2, 1]})), []);
        assert_eq!(shown(&["/s"], &json!({"s": ["a", "a"]}), &json!({"s": ["a"]})), [change("/s/a", json!("a"), json!("-"), true)]);
        // A number is no text.
        assert_eq!(shown(&["/s"], &json!({"s": [1]}), &json!({"s": ["1"]})), [change("/s/1", json!(1), json!("1"), false)]);
    }

    #[test]
    fn what_was_not_there_is_an_empty_set() {
        for none in [json!({}), json!({"s": null})] {
            assert_eq!(shown(&["/s"], &none, &json!({"s": ["a"]})), [change("/s/a", json!("-"), json!("a"), true)]);
            assert_eq!(shown(&["/s"], &json!({"s": ["a"]}), &none), [change("/s/a", json!("a"), json!("-"), true)]);
        }
        assert_eq!(shown(&["/s"], &json!({}), &json!({"s": []})), [change("/s", json!("-"), json!([]), false)]);
        assert_eq!(shown(&["/s"], &json!({"s": "all"}), &json!({"s": ["a"]})), [change("/s", json!("all"), json!(["a"]), false)]);
    }

    #[test]
    fn elements_told_apart_by_a_property_are_compared_within() {
        let a = json!({"rules": [{"id": "E/1", "on": ["mfa", "why"], "max": "PT8H"}, {"id": "gone"}]});
        let b = json!({"rules": [{"id": "new"}, {"id": "E/1", "on": ["why"], "max": "PT1H"}]});
        assert_eq!(
            shown(&["/rules#id", "/rules/*/on"], &a, &b),
            [
                change("/rules/E~11/max", json!("PT8H"), json!("PT1H"), false),
                change("/rules/E~11/on/mfa", json!("mfa"), json!("-"), true),
                change("/rules/gone", json!({"id": "gone"}), json!("-"), true),
                change("/rules/new", json!("-"), json!({"id": "new"}), true),
            ]
        );
    }
}
