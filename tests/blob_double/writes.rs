//! Uploads, blocks, ranges, conditions, leases, tiers.

use jiff::SignedDuration;

use super::{Harness, blob, version_of};

const BLOB: &str = "plain/a/b c.json";

#[test]
fn what_is_put_is_got() {
    let h = Harness::new();
    let headers = [
        ("content-type", "application/json"),
        ("x-ms-blob-cache-control", "no-cache"),
        ("x-ms-meta-digest", "abc"),
        ("content-md5", &blob::md5(b"hello world")),
        ("x-ms-content-crc64", &blob::crc64(b"hello world")),
        ("x-ms-client-request-id", "mine"),
    ];
    let put = h.put(BLOB, &headers, b"hello world");
    assert_eq!(put.outcome(), (201, ""));
    assert_eq!((put.header("content-md5"), put.header("x-ms-client-request-id")), (Some(blob::md5(b"hello world").as_str()), Some("mine")));
    for name in ["etag", "last-modified", "date", "x-ms-request-id", "x-ms-version", "x-ms-request-server-encrypted"] {
        assert!(put.header(name).is_some(), "{name}");
    }
    let got = h.get(BLOB, "");
    assert_eq!((got.status, got.body.as_slice()), (200, b"hello world".as_slice()));
    let expected = [
        ("content-type", "application/json"),
        ("cache-control", "no-cache"),
        ("x-ms-meta-digest", "abc"),
        ("x-ms-blob-type", "BlockBlob"),
        ("x-ms-access-tier", "Hot"),
        ("x-ms-access-tier-inferred", "true"),
        ("x-ms-lease-state", "available"),
        ("content-length", "11"),
    ];
    for (name, value) in expected {
        assert_eq!(got.header(name), Some(value), "{name}");
    }
    let head = h.head(BLOB, "");
    assert_eq!((head.status, head.header("content-length"), head.header("etag")), (200, Some("11"), put.header("etag")));
    let missing = h.head("plain/other", "");
    assert_eq!((missing.outcome(), missing.body.len()), ((404, "BlobNotFound"), 0));
    assert_eq!(h.get("nowhere-at-all/x", "").outcome(), (404, "ContainerNotFound"));
    assert_eq!(h.get("plain/other", "").element("Code").as_deref(), Some("BlobNotFound"));
}

#[test]
fn the_checksum_is_the_one_of_the_published_example() {
    // The check value of this polynomial.
    assert_eq!(blob::crc64(b"123456789"), super::blob_base64(&0xAE8B_1486_0A79_9888_u64.to_le_bytes()));
    let h = Harness::new();
    assert_eq!(h.put(BLOB, &[("content-md5", &blob::md5(b"a"))], b"b").outcome(), (400, "Md5Mismatch"));
    assert_eq!(h.put(BLOB, &[("x-ms-content-crc64", &blob::crc64(b"a"))], b"b").outcome(), (400, "Crc64Mismatch"));
    assert_eq!(h.put(BLOB, &[("x-ms-blob-content-md5", &blob::md5(b"a"))], b"b").outcome(), (400, "Md5Mismatch"));
    assert_eq!(h.put(BLOB, &[("content-md5", "x")], b"b").outcome(), (400, "InvalidMd5"));
    let block = h.call("PUT", BLOB, "&comp=block&blockid=QUFB", &[("content-md5", &blob::md5(b"a"))], b"b");
    assert_eq!(block.outcome(), (400, "Md5Mismatch"));
    assert_eq!(h.get(BLOB, "").status, 404);
}

#[test]
fn a_name_may_hold_anything() {
    let h = Harness::new();
    for name in ["plain/a/b", "plain/ä ö/ü+%41&?#.json", "plain/<>&\"'", "plain/a//b"] {
        assert_eq!(h.put(name, &[], name.as_bytes()).status, 201, "{name}");
        assert_eq!(h.get(name, "").body, name.as_bytes());
    }
    // A slash may come encoded or as it is.
    let url = format!("{}/plain/a/b?{}", h.double.endpoint(), h.sas);
    assert_eq!(h.client.get(url).send().unwrap().bytes().unwrap(), b"plain/a/b"[..]);
}

#[test]
fn conditions_are_kept() {
    let h = Harness::new();
    assert_eq!(h.put(BLOB, &[("if-match", "*")], b"one").outcome(), (412, "ConditionNotMet"));
    let etag = h.put(BLOB, &[("if-none-match", "*")], b"one").header("etag").unwrap().to_owned();
    assert_eq!(h.put(BLOB, &[("if-none-match", "*")], b"two").outcome(), (409, "BlobAlreadyExists"));
    assert_eq!(h.put(BLOB, &[("if-match", "\"0x1\"")], b"two").outcome(), (412, "ConditionNotMet"));
    assert_eq!(h.call("GET", BLOB, "", &[("if-none-match", &etag)], b"").status, 304);
    assert_eq!(h.put(BLOB, &[("if-match", &etag)], b"two").status, 201);
    assert_eq!(h.call("GET", BLOB, "", &[("if-match", &etag)], b"").status, 412);
    let list = b"<BlockList></BlockList>";
    assert_eq!(h.call("PUT", BLOB, "&comp=blocklist", &[("if-none-match", "*")], list).outcome(), (409, "BlobAlreadyExists"));
    // A name that is hidden is free again.
    let hidden = "config-snapshots/x";
    h.put(hidden, &[], b"one");
    h.delete(hidden, "");
    assert_eq!(h.put(hidden, &[("if-none-match", "*")], b"two").status, 201);
}

#[test]
fn blocks_are_committed_in_the_order_of_the_list() {
    let h = Harness::new();
    let block = |id: &str, data: &[u8]| h.call("PUT", BLOB, &format!("&comp=block&blockid={id}"), &[], data).outcome().0;
    let commit = |list: &str| {
        h.call(
            "PUT",
            BLOB,
            "&comp=blocklist",
            &[],
            format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{list}</BlockList>").as_bytes(),
        )
    };
    assert_eq!([block("QUFB", b"one"), block("QkJC", b"two"), block("Q0ND", b"three")], [201, 201, 201]);
    assert_eq!(block("QQ%3D%3D", b"x"), 400, "ids of one blob are of one length");
    assert_eq!(block("!", b"x"), 400);
    assert_eq!(h.get(BLOB, "").status, 404);
    assert_eq!(h.list("plain", "").element("Name"), None);
    assert_eq!(h.list("plain", "&include=uncommittedblobs").element("Name").as_deref(), Some("a/b c.json"));
    let listed = h.get(BLOB, "&comp=blocklist&blocklisttype=all").text();
    assert_eq!(super::elements(&listed, "Name"), ["Q0ND", "QUFB", "QkJC"]);
    assert_eq!(commit("<Latest>QkJC</Latest><Uncommitted>QUFB</Uncommitted>").status, 201);
    let got = h.get(BLOB, "");
    assert_eq!((got.body.as_slice(), got.header("content-md5")), (b"twoone".as_slice(), None));
    assert_eq!(commit("<Latest>Q0ND</Latest>").outcome(), (400, "InvalidBlockList"), "uncommitted blocks go with a commit");
    block("RERE", b"four");
    assert_eq!(commit("<Committed>QUFB</Committed><Latest>RERE</Latest><Latest>QUFB</Latest>").status, 201);
    assert_eq!(h.get(BLOB, "").body, b"onefourone");
    let listed = h.get(BLOB, "&comp=blocklist&blocklisttype=committed").text();
    assert_eq!(super::elements(&listed, "Size"), ["3", "4", "3"]);
    block("RUVF", b"five");
    h.advance_days(8);
    assert_eq!(commit("<Latest>RUVF</Latest>").outcome(), (400, "InvalidBlockList"), "after 7 days they are gone");
}

#[test]
fn ranges_are_cut_across_blocks() {
    let h = Harness::new();
    h.call("PUT", BLOB, "&comp=block&blockid=QUFB", &[], b"01234");
    h.call("PUT", BLOB, "&comp=block&blockid=QkJC", &[], b"56789");
    h.call("PUT", BLOB, "&comp=blocklist", &[], b"<BlockList><Latest>QUFB</Latest><Latest>QkJC</Latest></BlockList>");
    let range = |header: &str, value: &str| h.call("GET", BLOB, "", &[(header, value)], b"");
    let got = range("x-ms-range", "bytes=3-6");
    assert_eq!((got.status, got.body.as_slice(), got.header("content-range")), (206, b"3456".as_slice(), Some("bytes 3-6/10")));
    assert_eq!(range("range", "bytes=8-").body, b"89");
    assert_eq!(range("range", "bytes=8-99").header("content-range"), Some("bytes 8-9/10"));
    assert_eq!(range("range", "bytes=10-").outcome(), (416, "InvalidRange"));
    h.put("plain/empty", &[], b"");
    assert_eq!(h.call("GET", "plain/empty", "", &[("range", "bytes=0-")], b"").outcome(), (416, "InvalidRange"));
    assert_eq!(h.get("plain/empty", "").header("content-length"), Some("0"));
}

#[test]
fn new_metadata_is_a_new_version() {
    let h = Harness::new();
    let first = version_of(&h.put("evidence/a", &[("x-ms-meta-n", "1")], b"one"));
    let set = h.call("PUT", "evidence/a", "&comp=metadata", &[("x-ms-meta-n", "2")], b"");
    assert!(set.status == 200 && version_of(&set) > first);
    assert_eq!(h.head("evidence/a", "").header("x-ms-meta-n"), Some("2"));
    assert_eq!(h.head("evidence/a", &super::of_version(&first)).header("x-ms-meta-n"), Some("1"));
    assert_eq!(h.put(BLOB, &[], b"x").header("x-ms-version-id"), None, "no versions, no version ids");
}

#[test]
fn a_lease_keeps_others_out() {
    let h = Harness::new();
    h.put(BLOB, &[], b"one");
    let lease = |headers: &[(&str, &str)]| h.call("PUT", BLOB, "&comp=lease", headers, b"");
    let taken = lease(&[("x-ms-lease-action", "acquire"), ("x-ms-lease-duration", "30")]);
    let id = taken.header("x-ms-lease-id").unwrap();
    assert_eq!(taken.status, 201);
    let again = lease(&[("x-ms-lease-action", "acquire"), ("x-ms-lease-duration", "-1")]);
    assert_eq!(again.outcome(), (409, "LeaseAlreadyPresent"));
    assert_eq!(h.put(BLOB, &[], b"two").outcome(), (412, "LeaseIdMissing"));
    assert_eq!(h.delete(BLOB, "").outcome(), (412, "LeaseIdMissing"));
    assert_eq!(h.put(BLOB, &[("x-ms-lease-id", "other")], b"two").outcome(), (412, "LeaseIdMismatchWithBlobOperation"));
    assert_eq!(h.put(BLOB, &[("x-ms-lease-id", id)], b"two").status, 201);
    assert_eq!(h.head(BLOB, "").header("x-ms-lease-state"), Some("leased"));
    assert_eq!(lease(&[("x-ms-lease-action", "renew"), ("x-ms-lease-id", id)]).status, 200);
    h.double.advance(SignedDuration::from_secs(31));
    assert_eq!(h.head(BLOB, "").header("x-ms-lease-state"), Some("expired"));
    assert_eq!(h.put(BLOB, &[], b"three").status, 201);
    let forever = lease(&[("x-ms-lease-action", "acquire"), ("x-ms-lease-duration", "-1"), ("x-ms-proposed-lease-id", "p")]);
    assert_eq!((forever.status, forever.header("x-ms-lease-id")), (201, Some("p")));
    assert_eq!(lease(&[("x-ms-lease-action", "change"), ("x-ms-lease-id", "p"), ("x-ms-proposed-lease-id", "q")]).status, 200);
    assert_eq!(lease(&[("x-ms-lease-action", "break")]).status, 202);
    assert_eq!(h.head(BLOB, "").header("x-ms-lease-state"), Some("broken"));
    assert_eq!(lease(&[("x-ms-lease-action", "release"), ("x-ms-lease-id", "q")]).status, 200);
}

#[test]
fn the_archive_takes_hours_to_read_again() {
    let h = Harness::new();
    h.put(BLOB, &[("x-ms-access-tier", "Archive")], b"one");
    let tier = |headers: &[(&str, &str)]| h.call("PUT", BLOB, "&comp=tier", headers, b"").outcome().0;
    assert_eq!(h.get(BLOB, "").outcome(), (409, "BlobArchived"));
    assert_eq!(h.head(BLOB, "").header("x-ms-access-tier"), Some("Archive"));
    assert_eq!(tier(&[("x-ms-access-tier", "Hot")]), 202);
    assert_eq!(h.head(BLOB, "").header("x-ms-archive-status"), Some("rehydrate-pending-to-hot"));
    assert_eq!(h.list("plain", "").element("ArchiveStatus").as_deref(), Some("rehydrate-pending-to-hot"));
    assert_eq!(tier(&[("x-ms-access-tier", "Cool")]), 409);
    h.double.advance(SignedDuration::from_hours(14));
    assert_eq!(h.get(BLOB, "").outcome(), (409, "BlobArchived"));
    h.double.advance(SignedDuration::from_hours(1));
    assert_eq!((h.get(BLOB, "").body.as_slice(), h.head(BLOB, "").header("x-ms-archive-status")), (b"one".as_slice(), None));
    assert_eq!(tier(&[("x-ms-access-tier", "Archive")]), 200);
    assert_eq!(tier(&[("x-ms-access-tier", "Cool"), ("x-ms-rehydrate-priority", "High")]), 202);
    h.double.advance(SignedDuration::from_hours(1));
    assert_eq!(h.get(BLOB, "").status, 200);
    assert_eq!(h.list("plain", "").element("AccessTier").as_deref(), Some("Cool"));
    assert_eq!(tier(&[("x-ms-access-tier", "Lukewarm")]), 400);
}

#[test]
fn soft_delete_keeps_what_was_deleted_for_a_while() {
    let h = Harness::new();
    let on = b"<?xml version=\"1.0\"?><StorageServiceProperties><DeleteRetentionPolicy><Enabled>true</Enabled><Days>7</Days></DeleteRetentionPolicy></StorageServiceProperties>";
    assert_eq!(h.call("PUT", "", "&restype=service&comp=properties", &[], on).status, 202);
    let shown = h.get("", "&restype=service&comp=properties");
    assert_eq!(shown.element("Days").as_deref(), Some("7"));
    h.put(BLOB, &[], b"one");
    assert_eq!(h.delete(BLOB, "").header("x-ms-delete-type-permanent"), Some("false"));
    assert_eq!((h.get(BLOB, "").status, h.list("plain", "").element("Name")), (404, None));
    assert_eq!(h.list("plain", "&include=deleted").element("Deleted").as_deref(), Some("true"));
    assert_eq!(h.call("PUT", BLOB, "&comp=undelete", &[], b"").status, 200);
    assert_eq!(h.get(BLOB, "").body, b"one");
    h.delete(BLOB, "");
    h.advance_days(8);
    h.call("PUT", BLOB, "&comp=undelete", &[], b"");
    assert_eq!(h.get(BLOB, "").status, 404);
}
