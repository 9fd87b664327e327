//! A difference in the order in which people read it: what to look at first, then collection by collection.

use serde_json::Value;

use crate::cli::output::shown;
use crate::restore::{AttributeChange, Change, RecordChange};
use crate::source::catalog::Catalog;

/// The records of one collection that differ.
pub struct Group<'r> {
    /// Its title; of what no collection holds, none.
    pub title: Option<&'static str>,
    /// Where its records lie, with a slash at its end.
    pub folder: String,
    /// In path order, each with its number in the difference.
    pub records: Vec<(usize, &'r RecordChange)>,
}

impl Group<'_> {
    /// A record's path without what the heading says already.
    pub fn rest<'p>(&self, path: &'p str) -> &'p str {
        path.strip_prefix(&self.folder).unwrap_or(path)
    }
}

/// Groups records by collection, in the catalog's order; what no collection holds comes last.
pub fn groups(changes: &[RecordChange]) -> Vec<Group<'_>> {
    let of = |id: Option<&str>| -> Vec<(usize, &RecordChange)> {
        changes.iter().enumerate().filter(|(_, change)| change.collection.as_deref() == id).collect()
    };
    let known = Catalog::all().collections.iter();
    let known = known.map(|spec| Group { title: Some(spec.title()), folder: format!("{}/", spec.folder()), records: of(Some(&spec.id)) });
    known.chain([Group { title: None, folder: String::new(), records: of(None) }]).filter(|group| !group.records.is_empty()).collect()
}

/// How many were added, removed and changed.
pub fn counts<'r>(changes: impl IntoIterator<Item = &'r RecordChange>) -> [usize; 3] {
    let mut counts = [0; 3];
    for change in changes {
        counts[match change.change {
            Change::Added => 0,
            Change::Removed => 1,
            Change::Changed => 2,
        }] += 1;
    }
    counts
}

/// Counts in words, without those that are nothing.
pub fn in_words([added, removed, changed]: [usize; 3]) -> String {
    let words = [(added, "added"), (removed, "removed"), (changed, "changed")];
    let words: Vec<String> = words.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    words.join(", ")
}

/// Which place of a record an attribute is, for people.
pub fn place(attribute: &AttributeChange) -> String {
    let pointer = attribute.set.as_ref().unwrap_or(&attribute.pointer);
    let steps: Vec<String> = pointer.trim_start_matches('/').split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
    shown(&steps.join(" › "))
}

/// A value for people: its name where it has one, and what it is called by machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// What is read.
    pub text: String,
    /// What is added with little weight.
    pub detail: Option<String>,
}

/// One side of an attribute.
pub fn value(attribute: &AttributeChange, value: &Value, name: Option<&String>) -> Shown {
    let plain = match value {
        // Quotes tell text from what looks like something else.
        Value::String(text) if plain(text) => shown(text),
        other => shown(&other.to_string()),
    };
    match (name, value) {
        (None, _) => Shown { text: plain, detail: None },
        (Some(name), _) if attribute.set.is_some() => {
            let key = attribute.pointer.rsplit('/').next().unwrap_or_default();
            Shown { text: shown(name), detail: Some(shown(&key.replace("~1", "/").replace("~0", "~"))) }
        }
        (Some(name), Value::String(_)) => Shown { text: shown(name), detail: Some(plain) },
        // Much may stand beside the references.
        (Some(name), _) => Shown { text: plain, detail: Some(format!("({})", shown(name))) },
    }
}

fn plain(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && serde_json::from_str::<Value>(text).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_shown_by_name_and_told_apart_by_quotes() {
        let of = |pointer: &str, set: Option<&str>, v: Value, name: Option<&str>| {
            let attribute = AttributeChange { set: set.map(str::to_owned), ..AttributeChange::new(pointer, None, None) };
            let shown = value(&attribute, &v, name.map(str::to_owned).as_ref());
            (shown.text, shown.detail)
        };
        assert_eq!(of("/a", None, json!("PT8H"), None), ("PT8H".into(), None));
        for text in ["", "true", "1", "null", " x", "\"x\""] {
            assert_eq!(of("/a", None, json!(text), None), (json!(text).to_string(), None));
        }
        assert_eq!(of("/a", None, json!(true), None), ("true".into(), None));
        assert_eq!(of("/a", None, json!("7"), Some("Alice")), ("Alice".into(), Some("\"7\"".into())));
        assert_eq!(of("/m/7~1", Some("/m"), json!({"id": "7/"}), Some("Alice")), ("Alice".into(), Some("7/".into())));
        assert_eq!(of("/m", None, json!(["u"]), Some("Alice")), ("[\"u\"]".into(), Some("(Alice)".into())));
        assert_eq!(of("/a", None, json!("x\u{1b}[2J\u{202e}y"), None), ("x\u{fffd}[2J\u{fffd}y".into(), None));
    }

    #[test]
    fn places_read_as_ways() {
        let mut attribute = AttributeChange::new("/rules/a~1b/on/mfa", None, None);
        assert_eq!(place(&attribute), "rules › a/b › on › mfa");
        attribute.set = Some("/rules/a~1b/on".into());
        assert_eq!(place(&attribute), "rules › a/b › on");
        assert_eq!(place(&AttributeChange::new("sha256", None, None)), "sha256");
    }
}
