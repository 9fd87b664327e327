//! A line of a sealed log object: id and time are those that a general JSON reader finds.
#![no_main]

use backstop::source::import::{Pointers, event_key};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let pointers = Pointers::new(vec!["/id".into(), "/a/b".into(), "/a/0".into()], vec!["/t".into()]).expect("pointers");
    let Ok(key) = event_key(data, &pointers) else { return };
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    assert!(value.is_object(), "only objects are events");
    let expected = ["/id", "/a/b", "/a/0"].iter().find_map(|pointer| match value.pointer(pointer)? {
        Value::String(text) if !text.is_empty() => Some(Some(text.clone())),
        Value::Bool(yes) => Some(Some(yes.to_string())),
        // A number keeps the spelling that it has in the line.
        Value::Number(_) => Some(None),
        _ => None,
    });
    match expected {
        Some(Some(text)) => assert_eq!(key.id, Some(text)),
        Some(None) => assert!(key.id.is_some()),
        None => assert_eq!(key.id, None),
    }
});
