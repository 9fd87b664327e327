//! A page of a tenant's records: what is read of it is what a general JSON reader finds, the order of keys and the
//! transport's annotations make no other record, another id does, and nothing makes it panic.
#![no_main]

use backstop::http::Page;
use backstop::source::catalog::Catalog;
use backstop::source::graph::{same_record, spelled_path};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

/// The same object with its keys the other way round, and what a service adds to it on the way.
fn told_otherwise(object: &Map<String, Value>) -> String {
    let pairs: Vec<String> = object.iter().rev().map(|(key, value)| format!("{}: {value}", Value::from(key.as_str()))).collect();
    format!("{{ \"@odata.etag\": \"W/1\", {}, \"x@odata.navigationLink\": null }}", pairs.join(" ,\n"))
}

/// Whether a number in it is not a whole one: those keep their value, but not each its spelling.
fn has_fractions(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(list) => list.iter().any(has_fractions),
        Value::Object(map) => map.values().any(has_fractions),
        _ => false,
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(page) = Page::parse(data) else { return };
    assert!(page.next().is_none_or(|link| !link.is_empty()));
    let whole: Option<Value> = serde_json::from_slice(data).ok();
    assert!(whole.is_none_or(|whole| whole["value"].as_array().is_some_and(|list| list.len() == page.value.len())));
    for raw in page.value.iter().map(|raw| raw.get()) {
        let value: Option<Value> = serde_json::from_str(raw).ok();
        for spec in &Catalog::all().collections {
            let object = value.as_ref().and_then(Value::as_object);
            let id = object.and_then(|object| match object.get(&spec.key) {
                Some(Value::String(id)) if !id.is_empty() => Some(id.clone()),
                Some(Value::Number(id)) => Some(id.to_string()),
                _ => None,
            });
            assert_eq!(same_record(spec, raw, raw), id.is_some(), "a record is what has an id");
            let Some((object, id)) = object.zip(id) else { continue };
            if !value.as_ref().is_some_and(has_fractions) {
                assert!(same_record(spec, raw, &told_otherwise(object)) && same_record(spec, &told_otherwise(object), raw));
            }
            let mut other = object.clone();
            other.insert(spec.key.clone(), format!("{id}x").into());
            assert!(!same_record(spec, raw, &Value::from(other).to_string()), "another id is another record");
            let path = spelled_path(spec.folder(), &id);
            assert!(path.len() > 250 || backstop::path::check(&path).is_ok(), "{path:?}");
        }
    }
});
