//! One record in canonical form: the same content has the same bytes, however the service ordered it.
//!
//! Keys are sorted by their bytes, there is no white space, arrays that are sets (by the catalog) are sorted,
//! and annotations of the transport (`@odata.etag` and the like) are left out. Nothing else is changed.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;
use sha2::Digest as _;

use crate::source::catalog::CollectionSpec;
pub(super) use crate::source::catalog::path_of;

/// A record and what is needed to keep it.
pub(super) struct Record {
    /// Its id as the service gave it.
    pub id: String,
    /// Canonical JSON.
    pub bytes: Vec<u8>,
    /// Digest without what changes by itself.
    pub fingerprint: [u8; 16],
}

/// Why a record cannot be kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadRecord {
    /// It is no JSON object.
    NoObject,
    /// It has no id where the catalog says it is.
    NoId,
    /// Its id can be read, the rest cannot: half a character, say, where the service cut a name.
    Unreadable {
        /// The id.
        id: String,
        /// What is wrong.
        what: String,
    },
}

/// Brings a record into canonical form.
pub(super) fn canonical(raw: &str, spec: &CollectionSpec) -> Result<Record, BadRecord> {
    let mut value: Value = serde_json::from_str(raw).map_err(|e| unreadable(raw, spec, &e))?;
    let Value::Object(map) = &mut value else { return Err(BadRecord::NoObject) };
    map.retain(|key, _| !annotation(key));
    let id = match map.get(&spec.key) {
        Some(Value::String(id)) if !id.is_empty() => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        _ => return Err(BadRecord::NoId),
    };
    Ok(keep(id, value, spec))
}

fn unreadable(raw: &str, spec: &CollectionSpec, error: &serde_json::Error) -> BadRecord {
    let Ok(fields) = serde_json::from_str::<BTreeMap<String, &RawValue>>(raw) else { return BadRecord::NoObject };
    let id = fields.get(&spec.key).and_then(|id| serde_json::from_str::<String>(id.get()).ok());
    id.filter(|id| !id.is_empty()).map_or(BadRecord::NoId, |id| BadRecord::Unreadable { id, what: error.to_string() })
}

/// Canonical form of a value that has an id already.
pub(super) fn keep(id: String, mut value: Value, spec: &CollectionSpec) -> Record {
    for set in &spec.sets {
        set.sort(&mut value);
    }
    let bytes = value.to_string().into_bytes();
    let fingerprint = if spec.volatile.is_empty() { short(&bytes) } else { short(spec.without_volatile(value).to_string().as_bytes()) };
    Record { id, bytes, fingerprint }
}

/// Annotations that tell of the transport, not of the record; `@odata.type` says what it is, and stays.
fn annotation(key: &str) -> bool {
    key.starts_with("@odata.") && key != "@odata.type"
        || ["@odata.context", "@odata.navigationLink", "@odata.associationLink"].iter().any(|end| key.ends_with(end))
}

fn short(bytes: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&sha2::Sha256::digest(bytes)[..16]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::catalog::Catalog;

    fn of(collection: &str, raw: &str) -> Record {
        canonical(raw, Catalog::all().collection(collection).unwrap()).ok().unwrap()
    }

    #[test]
    fn order_white_space_and_transport_do_not_matter() {
        let a = of("entra.groups", r#"{"id":"1","displayName":"é","groupTypes":["b","a"],"@odata.etag":"x"}"#);
        let b = of("entra.groups", r#"{ "groupTypes": ["a", "b"], "displayName": "\u00e9", "id": "1" }"#);
        assert_eq!(String::from_utf8(a.bytes.clone()).unwrap(), r#"{"displayName":"é","groupTypes":["a","b"],"id":"1"}"#);
        assert_eq!((a.bytes, a.fingerprint), (b.bytes, b.fingerprint));
    }

    #[test]
    fn a_fraction_keeps_its_value() {
        let raw = r#"{"id":"1","latitude":31.245270191439438}"#;
        assert_eq!(of("entra.users", raw).bytes, raw.as_bytes());
    }

    #[test]
    fn what_changes_by_itself_is_no_change() {
        let schedule = |start: &str, kind: &str| {
            of(
                "entra.roleEligibilitySchedules",
                &format!(r#"{{"id":"1","scheduleInfo":{{"startDateTime":"{start}","expiration":{{"type":"{kind}"}}}}}}"#),
            )
        };
        let (a, b) = (schedule("2026-01-01T00:00:00Z", "noExpiration"), schedule("2026-01-02T00:00:00Z", "noExpiration"));
        assert_ne!(a.bytes, b.bytes);
        assert_eq!(a.fingerprint, b.fingerprint);
        let (a, b) = (schedule("2026-01-01T00:00:00Z", "afterDateTime"), schedule("2026-01-02T00:00:00Z", "afterDateTime"));
        assert_ne!(a.fingerprint, b.fingerprint);
    }

    #[test]
    fn a_record_without_an_id_is_refused() {
        let spec = Catalog::all().collection("entra.users").unwrap();
        for raw in [r#"{"displayName":"x"}"#, r#"{"id":""}"#, r#"{"id":null}"#] {
            assert_eq!(canonical(raw, spec).err(), Some(BadRecord::NoId));
        }
        assert_eq!(canonical("[]", spec).err(), Some(BadRecord::NoObject));
        let cut = canonical(r#"{"id":"1","displayName":"\ud83d"}"#, spec).err();
        assert!(matches!(cut, Some(BadRecord::Unreadable { id, .. }) if id == "1"));
        assert_eq!(canonical(r#"{"id":"\ud83d"}"#, spec).err(), Some(BadRecord::NoId));
    }
}
