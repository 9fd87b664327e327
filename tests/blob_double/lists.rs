//! Listings: pages, versions, groups, and names that XML cannot write.

use std::time::Instant;

use super::{Harness, elements, version_of};

/// All pages' texts of an element.
fn all_pages(h: &Harness, container: &str, query: &str, element: &str) -> (Vec<String>, usize) {
    let (mut out, mut marker, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = h.list(container, &format!("{query}&marker={marker}"));
        assert_eq!(page.status, 200, "{}", page.text());
        out.extend(elements(&page.text(), element));
        pages += 1;
        marker = page.element("NextMarker").unwrap();
        if marker.is_empty() {
            return (out, pages);
        }
    }
}

#[test]
fn pages_follow_each_other_in_order() {
    let h = Harness::new();
    let mut names: Vec<String> = (0..25).map(|n| format!("dir/{n}")).chain(["a".into(), "z".into(), "dir".into()]).collect();
    for name in &names {
        h.put(&format!("plain/{name}"), &[], b"x");
    }
    names.sort();
    assert_eq!(all_pages(&h, "plain", "", "Name"), (names.clone(), 1));
    assert_eq!(all_pages(&h, "plain", "&maxresults=7", "Name"), (names.clone(), 4));
    let under: Vec<String> = names.iter().filter(|n| n.starts_with("dir/")).cloned().collect();
    assert_eq!(all_pages(&h, "plain", "&maxresults=5&prefix=dir%2F", "Name").0, under);
    assert_eq!(h.list("plain", "&maxresults=0").status, 400);
    let first = h.list("plain", "&maxresults=7").element("NextMarker").unwrap();
    h.put("plain/0-new", &[], b"x");
    assert_eq!(elements(&h.list("plain", &format!("&marker={first}")).text(), "Name"), names[7..]);
}

#[test]
fn a_delimiter_gathers_names() {
    let h = Harness::new();
    for name in ["a", "b/1", "b/2", "b/c/3", "d/4", "e"] {
        h.put(&format!("plain/{name}"), &[], b"x");
    }
    for limit in ["", "&maxresults=1", "&maxresults=2"] {
        assert_eq!(all_pages(&h, "plain", &format!("&delimiter=%2F{limit}"), "Name").0, ["a", "b/", "d/", "e"]);
        assert_eq!(all_pages(&h, "plain", &format!("&delimiter=%2F&prefix=b%2F{limit}"), "Name").0, ["b/1", "b/2", "b/c/"]);
    }
    assert_eq!(elements(&h.list("plain", "&delimiter=%2F").text(), "BlobPrefix").len(), 2);
}

#[test]
fn versions_are_listed_oldest_first_across_pages() {
    let h = Harness::new();
    let mut ids = Vec::new();
    for name in ["a", "b"] {
        for n in 0..3 {
            ids.push(version_of(&h.put(&format!("evidence/{name}"), &[], format!("{n}").as_bytes())));
        }
    }
    for limit in 1..=7 {
        assert_eq!(all_pages(&h, "evidence", &format!("&include=versions&maxresults={limit}"), "VersionId").0, ids);
    }
    let text = h.list("evidence", "&include=versions").text();
    assert_eq!(elements(&text, "IsCurrentVersion").len(), 2);
    let blobs = elements(&text, "Blob");
    assert!(blobs[2].contains("IsCurrentVersion") && blobs[5].contains("IsCurrentVersion"));
    assert_eq!(all_pages(&h, "evidence", "", "Name").0, ["a", "b"]);
}

#[test]
fn everything_that_is_asked_for_is_there() {
    let h = Harness::new();
    let until = h.until(30);
    let headers = [
        ("content-type", "application/json"),
        ("x-ms-meta-digest", "a<b"),
        ("x-ms-immutability-policy-until-date", &until),
        ("x-ms-immutability-policy-mode", "Unlocked"),
        ("x-ms-legal-hold", "true"),
        ("x-ms-access-tier", "Cool"),
        ("x-ms-tags", "k=v"),
    ];
    assert_eq!(h.put("evidence/a", &headers, b"hello").status, 201);
    let all = h.list("evidence", "&include=versions,metadata,immutabilitypolicy,legalhold,deleted,uncommittedblobs,tags,copy");
    let expected = [
        ("Content-Length", "5"),
        ("Content-Type", "application/json"),
        ("BlobType", "BlockBlob"),
        ("AccessTier", "Cool"),
        ("ImmutabilityPolicyMode", "unlocked"),
        ("ImmutabilityPolicyUntilDate", until.as_str()),
        ("LegalHold", "true"),
        ("digest", "a&lt;b"),
        ("Key", "k"),
        ("Content-MD5", "XUFAKrxLKna5cZ2REBfFkg=="),
        ("IsCurrentVersion", "true"),
    ];
    for (element, value) in expected {
        assert_eq!(all.element(element).as_deref(), Some(value), "{element}");
    }
    for element in ["Creation-Time", "Last-Modified", "Etag", "VersionId"] {
        assert!(all.element(element).is_some(), "{element}");
    }
    let plain = h.list("evidence", "");
    for element in ["VersionId", "Metadata", "ImmutabilityPolicyMode", "LegalHold", "Tags"] {
        assert_eq!(plain.element(element), None, "{element}");
    }
    assert!(plain.text().contains(&format!("ServiceEndpoint=\"{}/\" ContainerName=\"evidence\"", h.double.endpoint())));
}

#[test]
fn names_that_xml_cannot_write_are_encoded() {
    let h = Harness::new();
    h.put("plain/a&<b>", &[], b"x");
    h.put("plain/bell\u{7}", &[], b"x");
    let text = h.list("plain", "").text();
    assert!(text.contains("<Name>a&amp;&lt;b&gt;</Name>"), "{text}");
    assert!(text.contains("<Name Encoded=\"true\">bell%07</Name>"), "{text}");
}

#[test]
fn containers_are_listed_with_what_they_support() {
    let h = Harness::new();
    let text = h.get("", "&comp=list").text();
    assert_eq!(elements(&text, "Name"), ["audit-logs", "config-snapshots", "evidence", "plain", "worm"]);
    assert_eq!(elements(&text, "ImmutableStorageWithVersioningEnabled"), ["true", "true", "true", "false", "false"]);
    assert_eq!(elements(&text, "HasImmutabilityPolicy"), ["false", "false", "false", "false", "true"]);
    assert_eq!(elements(&h.get("", "&comp=list&prefix=e").text(), "Name"), ["evidence"]);
}

#[test]
fn a_hundred_thousand_blobs_are_listed_quickly() {
    let h = Harness::new();
    h.double.fill("plain", "many/", 100_000);
    let start = Instant::now();
    let (names, pages) = all_pages(&h, "plain", "&include=metadata", "Name");
    assert_eq!((names.len(), pages), (100_000, 20));
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}
