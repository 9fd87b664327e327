//! Immutability, of versions and of containers.

use super::{Harness, LOCKING, PLAIN, WORM, of_version, version_of};

const BLOB: &str = "config-snapshots/a/b.json";

#[test]
fn a_lock_comes_with_the_upload_and_shows() {
    let h = Harness::new();
    let until = h.until(30);
    let put = h.put_locked(BLOB, "Locked", 30, b"one");
    assert_eq!(put.outcome(), (201, ""));
    for answer in [h.head(BLOB, ""), h.get(BLOB, "")] {
        assert_eq!(answer.header("x-ms-immutability-policy-until-date"), Some(until.as_str()));
        assert_eq!(answer.header("x-ms-immutability-policy-mode"), Some("locked"));
        assert_eq!(answer.header("x-ms-version-id"), put.header("x-ms-version-id"));
        assert_eq!(answer.header("x-ms-is-current-version"), Some("true"));
        assert_eq!(answer.header("x-ms-legal-hold"), None);
    }
    let list = h.list(LOCKING, "&include=immutabilitypolicy,legalhold,versions");
    assert_eq!(list.element("ImmutabilityPolicyUntilDate"), Some(until));
    assert_eq!(list.element("ImmutabilityPolicyMode").as_deref(), Some("locked"));
    assert_eq!(h.list(LOCKING, "").element("ImmutabilityPolicyMode"), None);
}

#[test]
fn overwriting_a_locked_blob_makes_a_new_version_and_keeps_the_old() {
    let h = Harness::new();
    let first = version_of(&h.put_locked(BLOB, "Locked", 30, b"one"));
    let second = h.put(BLOB, &[], b"two");
    assert_eq!(second.outcome(), (201, ""));
    assert!(version_of(&second) > first);
    assert_eq!(h.get(BLOB, "").body, b"two");
    let old = h.get(BLOB, &of_version(&first));
    assert_eq!((old.body.as_slice(), old.header("x-ms-immutability-policy-mode")), (b"one".as_slice(), Some("locked")));
    assert_eq!(old.header("x-ms-is-current-version"), None);
    assert_eq!(h.head(BLOB, "").header("x-ms-immutability-policy-mode"), None);
}

#[test]
fn deleting_obeys_the_lock_of_the_version() {
    let h = Harness::new();
    let first = version_of(&h.put_locked(BLOB, "Locked", 30, b"one"));
    assert_eq!(h.delete(BLOB, "").outcome(), (409, "BlobImmutableDueToPolicy"));
    assert_eq!(h.delete(BLOB, &of_version(&first)).outcome(), (403, "OperationNotAllowedOnRootBlob"));
    let second = version_of(&h.put(BLOB, &[], b"two"));
    assert_eq!(h.delete(BLOB, &of_version(&first)).outcome(), (409, "BlobImmutableDueToPolicy"));
    // The newer version has no lock: it can be taken away, and the name is empty. The locked one stays.
    assert_eq!(h.delete(BLOB, "").outcome(), (202, ""));
    assert_eq!(h.get(BLOB, "").outcome(), (404, "BlobNotFound"));
    assert_eq!(h.get(BLOB, &of_version(&first)).body, b"one");
    assert_eq!(h.list(LOCKING, "").element("Name"), None);
    assert_eq!(super::elements(&h.list(LOCKING, "&include=versions").text(), "VersionId"), [first.clone(), second.clone()]);
    assert_eq!(h.delete(BLOB, &of_version(&second)).outcome(), (202, ""));
    h.advance_days(31);
    assert_eq!(h.delete(BLOB, &of_version(&first)).outcome(), (202, ""));
    assert_eq!(h.double.dump()["containers"][LOCKING]["blobs"].as_object().unwrap().len(), 0);
}

#[test]
fn a_lock_ends_with_the_clock() {
    let h = Harness::new();
    h.put_locked(BLOB, "Locked", 30, b"one");
    h.advance_days(29);
    assert_eq!(h.delete(BLOB, "").code, "BlobImmutableDueToPolicy");
    h.advance_days(2);
    assert_eq!(h.delete(BLOB, "").status, 202);
}

#[test]
fn a_legal_hold_has_its_own_code_and_no_end() {
    let h = Harness::new();
    let put = h.put(BLOB, &[("x-ms-legal-hold", "true")], b"one");
    assert_eq!((put.status, h.head(BLOB, "").header("x-ms-legal-hold")), (201, Some("true")));
    h.advance_days(3000);
    assert_eq!(h.delete(BLOB, "").outcome(), (409, "BlobImmutableDueToLegalHold"));
    let off = h.call("PUT", BLOB, "&comp=legalhold", &[("x-ms-legal-hold", "false")], b"");
    assert_eq!((off.status, off.header("x-ms-legal-hold")), (200, Some("false")));
    assert_eq!(h.delete(BLOB, "").status, 202);
}

#[test]
fn metadata_and_properties_of_a_locked_version_stay() {
    let h = Harness::new();
    h.put_locked(BLOB, "Unlocked", 30, b"one");
    assert_eq!(h.call("PUT", BLOB, "&comp=metadata", &[("x-ms-meta-a", "b")], b"").outcome(), (409, "BlobImmutableDueToPolicy"));
    assert_eq!(h.call("PUT", BLOB, "&comp=properties", &[], b"").outcome(), (409, "BlobImmutableDueToPolicy"));
    // Tiers and tags may change.
    assert_eq!(h.call("PUT", BLOB, "&comp=tier", &[("x-ms-access-tier", "Cool")], b"").status, 200);
    let tags = b"<Tags><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tags>";
    assert_eq!(h.call("PUT", BLOB, "&comp=tags", &[], tags).status, 204);
}

fn set_policy(h: &Harness, mode: &str, days: i64) -> super::Answer {
    let headers = [("x-ms-immutability-policy-until-date", h.until(days)), ("x-ms-immutability-policy-mode", mode.to_owned())];
    let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    h.call("PUT", BLOB, "&comp=immutabilityPolicies", &headers, b"")
}

#[test]
fn a_policy_goes_one_way() {
    let h = Harness::new();
    let etag = h.put(BLOB, &[], b"one").header("etag").unwrap().to_owned();
    let set = set_policy(&h, "Unlocked", 30);
    assert_eq!((set.status, set.header("x-ms-immutability-policy-mode")), (200, Some("unlocked")));
    assert_eq!(h.head(BLOB, "").header("etag"), Some(etag.as_str()));
    assert_eq!(set_policy(&h, "Unlocked", 10).status, 200, "unlocked, it may be shortened");
    assert_eq!(h.delete(BLOB, "&comp=immutabilityPolicies").status, 200);
    assert_eq!(h.head(BLOB, "").header("x-ms-immutability-policy-mode"), None);
    assert_eq!(set_policy(&h, "Locked", 30).status, 200);
    assert_eq!(set_policy(&h, "Locked", 20).outcome(), (409, "BlobImmutableDueToPolicy"));
    assert_eq!(set_policy(&h, "Unlocked", 40).status, 409);
    assert_eq!(h.delete(BLOB, "&comp=immutabilityPolicies").outcome(), (409, "ImmutabilityPolicyDeleteOnLockedPolicy"));
    for days in [31, 32, 400] {
        let set = set_policy(&h, "Locked", days);
        assert_eq!((set.status, set.header("x-ms-immutability-policy-until-date")), (200, Some(h.until(days).as_str())));
    }
    assert_eq!(set_policy(&h, "Locked", -1).outcome(), (400, "InvalidHeaderValue"));
}

#[test]
fn a_lock_is_kept_to_the_second() {
    let h = Harness::new();
    let until = "2027-01-01T00:00:00.9990000Z";
    h.put(BLOB, &[("x-ms-immutability-policy-until-date", until), ("x-ms-immutability-policy-mode", "Locked")], b"one");
    assert_eq!(h.head(BLOB, "").header("x-ms-immutability-policy-until-date"), Some("Fri, 01 Jan 2027 00:00:00 GMT"));
}

#[test]
fn without_support_lock_headers_are_refused_or_ignored() {
    let h = Harness::new();
    let refused = h.put_locked("plain/a", "Locked", 30, b"one");
    assert_eq!(refused.outcome(), (409, "ImmutableStorageWithVersioningNotEnabled"));
    assert_eq!(h.get("plain/a", "").status, 404);
    h.double.configure(|o| o.ignores_locks = true);
    assert_eq!(h.put_locked("plain/a", "Locked", 30, b"one").status, 201);
    assert_eq!(h.head("plain/a", "").header("x-ms-immutability-policy-mode"), None);
    assert_eq!(h.put("plain/a", &[], b"two").status, 201);
    assert_eq!(h.delete("plain/a", "").status, 202);
    h.put("plain/a", &[], b"one");
    assert_eq!(h.head("plain/a", "").header("x-ms-version-id"), None);
    assert_eq!(h.call("PUT", "plain/a", "&comp=legalhold", &[("x-ms-legal-hold", "true")], b"").status, 409);
}

#[test]
fn a_policy_of_the_container_lets_new_names_in_and_nothing_out() {
    let h = Harness::new();
    assert_eq!(h.put("worm/a", &[], b"one").status, 201);
    let again = h.put("worm/a", &[("if-none-match", "*")], b"two");
    assert_eq!(again.outcome(), (409, "BlobAlreadyExists"));
    let refused = (409, "BlobImmutableDueToPolicy");
    let all = |h: &Harness| {
        [
            h.put("worm/a", &[], b"two"),
            h.call("PUT", "worm/a", "&comp=metadata", &[("x-ms-meta-a", "b")], b""),
            h.call("PUT", "worm/a", "&comp=properties", &[], b""),
        ]
    };
    assert!(all(&h).iter().all(|answer| answer.outcome() == refused));
    assert_eq!(h.delete("worm/a", "").outcome(), refused);
    assert_eq!(h.put("worm/b", &[], b"new").status, 201);
    assert_eq!(h.delete("worm", "&restype=container").status, 409);
    h.advance_days(11);
    assert!(all(&h).iter().all(|answer| answer.outcome() == refused), "overwriting is refused for ever");
    assert_eq!(h.delete("worm/a", "").status, 202);
    assert_eq!(h.get(WORM, "&restype=container").header("x-ms-has-immutability-policy"), Some("true"));
}

#[test]
fn a_container_says_what_it_supports_and_is_not_deleted() {
    let h = Harness::new();
    let shown = h.get(LOCKING, "&restype=container");
    assert_eq!(shown.header("x-ms-immutable-storage-with-versioning-enabled"), Some("true"));
    assert_eq!(shown.header("x-ms-has-immutability-policy"), Some("false"));
    assert_eq!(h.delete(LOCKING, "&restype=container").outcome(), (409, "ContainerImmutableStorageWithVersioningEnabled"));
    assert_eq!(h.delete(PLAIN, "&restype=container").status, 202);
    assert_eq!(h.put("plain/a", &[], b"").outcome(), (404, "ContainerNotFound"));
    assert_eq!(h.call("PUT", PLAIN, "&restype=container", &[], b"").status, 201);
    assert_eq!(h.call("PUT", PLAIN, "&restype=container", &[], b"").outcome(), (409, "ContainerAlreadyExists"));
}

#[test]
fn a_commit_of_blocks_takes_a_lock_too() {
    let h = Harness::new();
    h.call("PUT", BLOB, "&comp=block&blockid=QUFB", &[], b"one");
    let list = b"<?xml version=\"1.0\"?><BlockList><Latest>QUFB</Latest></BlockList>";
    let headers = [("x-ms-immutability-policy-until-date", h.until(30)), ("x-ms-immutability-policy-mode", "Locked".to_owned())];
    let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    assert_eq!(h.call("PUT", BLOB, "&comp=blocklist", &headers, list).status, 201);
    assert_eq!(h.delete(BLOB, "").code, "BlobImmutableDueToPolicy");
}
