//! What a difference means by the catalog: which fields tell of no change, and which records are events.

use serde_json::Value;

use crate::source::catalog::{Catalog, CollectionSpec, Volatile};

/// Fields of every record that change by themselves or tell only of the change.
const COMMON: [&str; 4] = ["createdDateTime", "modifiedDateTime", "lastModifiedDateTime", "renewedDateTime"];
/// Annotations of the transport, of the record or of one of its fields.
const TRANSPORT: [&str; 2] = ["@odata.context", "@odata.etag"];

/// The collection that says what a record means; none of what is not JSON.
pub(super) fn spec_of<'c>(catalog: Option<&'c Catalog>, path: &str) -> Option<&'c CollectionSpec> {
    catalog?.collection_of(path).filter(|_| path.ends_with(".json"))
}

/// Whether a record is an event rather than configuration.
pub(super) fn transient(spec: &CollectionSpec, record: &Value) -> bool {
    !spec.transient.is_empty() && spec.transient.iter().all(|(at, wanted)| at.get(record).and_then(Value::as_str) == Some(wanted))
}

/// Takes away from both sides what is no part of a difference.
pub(super) fn reduce(spec: &CollectionSpec, sides: &mut [Value; 2]) {
    for volatile in &spec.volatile {
        let (at, counts) = match volatile {
            Volatile::Always(at) => (at, false),
            // Where the field begins or ceases to mean something, it is told.
            Volatile::When { at, when } => {
                let holds = |side: &Value| when.iter().all(|(field, wanted)| field.get(side).and_then(Value::as_str) == Some(wanted));
                (at, !sides.iter().all(holds))
            }
        };
        if !counts {
            sides.iter_mut().for_each(|side| at.remove(side));
        }
    }
    for side in sides {
        spec.ignore.iter().for_each(|at| at.remove(side));
        if let Value::Object(map) = side {
            map.retain(|key, _| !COMMON.contains(&key.as_str()) && !TRANSPORT.iter().any(|end| key.ends_with(end)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reduced(collection: &str, a: Value, b: Value) -> [Value; 2] {
        let mut sides = [a, b];
        reduce(Catalog::all().collection(collection).unwrap(), &mut sides);
        sides
    }

    #[test]
    fn what_changes_by_itself_is_left_out_while_it_does() {
        let schedule =
            |start: &str, kind: &str| json!({"status": start, "scheduleInfo": {"startDateTime": start, "expiration": {"type": kind}}});
        let [a, b] = reduced("entra.roleEligibilitySchedules", schedule("1", "noExpiration"), schedule("2", "noExpiration"));
        assert_eq!(a, b);
        assert_eq!(a, json!({"scheduleInfo": {"expiration": {"type": "noExpiration"}}}));
        // Under another condition, or under it on one side only, the field counts.
        for (x, y) in [("afterDateTime", "afterDateTime"), ("noExpiration", "afterDateTime"), ("afterDateTime", "noExpiration")] {
            let [a, b] = reduced("entra.roleEligibilitySchedules", schedule("1", x), schedule("2", y));
            assert_eq!((&a["scheduleInfo"]["startDateTime"], &b["scheduleInfo"]["startDateTime"]), (&json!("1"), &json!("2")));
        }
    }

    #[test]
    fn common_fields_are_left_out_at_the_top_only() {
        let record =
            json!({"@odata.etag": 1, "rules@odata.context": 2, "@odata.type": "t", "modifiedDateTime": 3, "a": {"createdDateTime": 4}});
        let [a, _] = reduced("entra.users", record, json!({}));
        assert_eq!(a, json!({"@odata.type": "t", "a": {"createdDateTime": 4}}));
    }

    #[test]
    fn an_activation_is_an_event() {
        let spec = |id: &str| Catalog::all().collection(id).unwrap();
        let (activated, assigned) = (json!({"assignmentType": "Activated"}), json!({"assignmentType": "Assigned"}));
        assert!(
            transient(spec("entra.roleAssignmentSchedules"), &activated) && !transient(spec("entra.roleAssignmentSchedules"), &assigned)
        );
        assert!(!transient(spec("entra.roleAssignments"), &activated), "nothing is said to be one there");
    }

    #[test]
    fn only_json_in_a_folder_of_the_catalog_has_a_meaning() {
        let of = |path: &str| spec_of(Some(Catalog::all()), path).map(|s| s.id.as_str());
        assert_eq!(
            [of("users/1.json"), of("users/1.txt"), of("elsewhere/users/1.json"), of("users.json")],
            [Some("entra.users"), None, None, None]
        );
        assert!(spec_of(None, "users/1.json").is_none());
    }
}
