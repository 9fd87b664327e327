//! Places in a record: a JSON pointer in which `*` stands for every key or index.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// One step of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Name(String),
    Every,
}

/// Places in a record, such as `/rules/*/enabledRules`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    steps: Vec<Step>,
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else { return Err(format!("{text:?} does not begin with /")) };
        let step = |part: &str| match part {
            "*" => Step::Every,
            name => Step::Name(unescape(name)),
        };
        Ok(Self { steps: rest.split('/').map(step).collect() })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| match step {
            Step::Name(name) => write!(f, "/{}", escape(name)),
            Step::Every => f.write_str("/*"),
        })
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A name as a step of a JSON pointer.
pub fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn unescape(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

impl Pattern {
    /// Whether a JSON pointer leads to one of these places.
    pub fn fits(&self, pointer: &str) -> bool {
        let Some(rest) = pointer.strip_prefix('/') else { return self.steps.is_empty() && pointer.is_empty() };
        let mut parts = rest.split('/');
        let every = self.steps.iter().all(|step| match (step, parts.next()) {
            (_, None) => false,
            (Step::Every, Some(_)) => true,
            (Step::Name(name), Some(part)) => part == name || unescape(part) == *name,
        });
        every && parts.next().is_none()
    }

    /// How many steps lead there.
    pub fn depth(&self) -> usize {
        self.steps.len()
    }

    /// Whether a JSON pointer leads to one of these places or below one.
    pub fn covers(&self, pointer: &str) -> bool {
        let mut end = pointer.len();
        loop {
            if self.fits(&pointer[..end]) {
                return true;
            }
            match pointer[..end].rfind('/') {
                Some(at) => end = at,
                None => return false,
            }
        }
    }

    /// Gives every value at these places.
    pub fn visit<'v>(&self, value: &'v Value, each: &mut dyn FnMut(&'v Value)) {
        visit(&self.steps, value, each);
    }

    /// The pattern of what holds these places, and their name in it; none where `*` is the last step.
    pub fn holder(&self) -> Option<(Self, &str)> {
        match self.steps.split_last()? {
            (Step::Name(name), before) => Some((Self { steps: before.to_vec() }, name)),
            (Step::Every, _) => None,
        }
    }

    /// Gives every value at these places, to be changed.
    pub fn visit_mut(&self, value: &mut Value, each: &mut dyn FnMut(&mut Value)) {
        visit_mut(&self.steps, value, each);
    }

    /// The value at the only place of a pattern without `*`.
    pub fn get<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        let mut found = None;
        self.visit(value, &mut |v| found = Some(v));
        found
    }

    /// Takes away what stands at these places.
    pub fn remove(&self, value: &mut Value) {
        let Some((last, before)) = self.steps.split_last() else { return };
        visit_mut(before, value, &mut |holder| match (last, holder) {
            (Step::Name(name), Value::Object(map)) => {
                map.remove(name);
            }
            (Step::Every, Value::Object(map)) => map.clear(),
            (Step::Every, Value::Array(list)) => list.clear(),
            _ => {}
        });
    }
}

fn visit<'v>(steps: &[Step], value: &'v Value, each: &mut dyn FnMut(&'v Value)) {
    let Some((first, rest)) = steps.split_first() else { return each(value) };
    match (first, value) {
        (Step::Every, Value::Array(list)) => list.iter().for_each(|v| visit(rest, v, each)),
        (Step::Every, Value::Object(map)) => map.values().for_each(|v| visit(rest, v, each)),
        (Step::Name(name), Value::Object(map)) => {
            if let Some(v) = map.get(name) {
                visit(rest, v, each);
            }
        }
        _ => {}
    }
}

fn visit_mut(steps: &[Step], value: &mut Value, each: &mut dyn FnMut(&mut Value)) {
    let Some((first, rest)) = steps.split_first() else { return each(value) };
    match (first, value) {
        (Step::Every, Value::Array(list)) => list.iter_mut().for_each(|v| visit_mut(rest, v, each)),
        (Step::Every, Value::Object(map)) => map.values_mut().for_each(|v| visit_mut(rest, v, each)),
        (Step::Name(name), Value::Object(map)) => {
            if let Some(v) = map.get_mut(name) {
                visit_mut(rest, v, each);
            }
        }
        _ => {}
    }
}

/// An array that is a set: of plain values, or of objects told apart by one property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetRule {
    /// Where.
    pub at: Pattern,
    /// What tells the elements apart; `None` for the whole element.
    pub by: Option<String>,
}

impl<'de> Deserialize<'de> for SetRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (at, by) = match text.split_once('#') {
            Some((at, by)) => (at, Some(by.to_owned())),
            None => (text.as_str(), None),
        };
        Ok(Self { at: at.parse().map_err(serde::de::Error::custom)?, by })
    }
}

impl SetRule {
    /// What tells one element from the others.
    pub fn key(&self, element: &Value) -> String {
        let told = self.by.as_ref().and_then(|by| element.get(by));
        match told.unwrap_or(element) {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// Brings the set's elements into one order.
    pub fn sort(&self, record: &mut Value) {
        self.at.visit_mut(record, &mut |value| {
            if let Value::Array(list) = value {
                list.sort_by_cached_key(|element| (self.key(element), element.to_string()));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patterns_find_what_they_name() {
        let pattern: Pattern = "/rules/*/enabledRules".parse().unwrap();
        assert!(pattern.fits("/rules/0/enabledRules") && pattern.fits("/rules/abc/enabledRules"));
        assert!(!pattern.fits("/rules/0/enabledRules/1") && !pattern.fits("/rules/0"));
        assert!(pattern.covers("/rules/0/enabledRules/1") && !pattern.covers("/rules/0/other"));
        let mut record = json!({"rules": [{"enabledRules": [2, 1]}, {"enabledRules": ["b", "a"]}, {"other": 1}]});
        let rule = SetRule { at: pattern.clone(), by: None };
        rule.sort(&mut record);
        assert_eq!(record, json!({"rules": [{"enabledRules": [1, 2]}, {"enabledRules": ["a", "b"]}, {"other": 1}]}));
        pattern.remove(&mut record);
        assert_eq!(record, json!({"rules": [{}, {}, {"other": 1}]}));
    }

    #[test]
    fn a_set_of_objects_is_told_apart_by_a_property() {
        let rule: SetRule = serde_json::from_value(json!("/rules#id")).unwrap();
        let mut record = json!({"rules": [{"id": "b", "x": 1}, {"id": "a", "x": 2}]});
        rule.sort(&mut record);
        assert_eq!(record["rules"][0]["id"], "a");
    }
}
