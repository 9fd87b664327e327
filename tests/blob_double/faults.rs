//! Faults, damage, counters, and the control of another process.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::blob::{Damage, Fault, Kind};
use super::{Harness, instant, of_version, version_of};

const BLOB: &str = "plain/a";

#[test]
fn a_lost_response_is_work_done() {
    let h = Harness::new();
    h.double.fault(Fault::once(Kind::LostResponse).on("PutBlob"));
    let all = [("x-ms-blob-type", "BlockBlob"), ("if-none-match", "*")];
    assert!(h.try_call("PUT", BLOB, "", &all, b"one").is_err());
    assert_eq!(h.get(BLOB, "").body, b"one");
    assert_eq!(h.call("PUT", BLOB, "", &all, b"one").outcome(), (409, "BlobAlreadyExists"));
}

#[test]
fn a_reset_is_work_not_done() {
    let h = Harness::new();
    h.double.fault(Fault::once(Kind::Reset).on("PutBlob"));
    let error = h.try_call("PUT", BLOB, "", &[("x-ms-blob-type", "BlockBlob")], b"one").err().unwrap();
    assert!(!error.is_status());
    assert_eq!(h.get(BLOB, "").status, 404);
}

#[test]
fn refusals_come_as_they_are_told() {
    let h = Harness::new();
    let status =
        |status: u16, code: &str, after: Option<&str>| Kind::Status { status, code: code.into(), retry_after: after.map(Into::into) };
    h.double.fault(Fault::once(status(503, "ServerBusy", Some("7"))).times(2));
    for _ in 0..2 {
        let busy = h.put(BLOB, &[], b"one");
        assert_eq!((busy.outcome(), busy.header("retry-after")), ((503, "ServerBusy"), Some("7")));
        assert_eq!(busy.element("Code").as_deref(), Some("ServerBusy"));
    }
    assert_eq!(h.get(BLOB, "").status, 404);
    // The second upload of a name, and no other.
    h.double.fault(Fault::once(status(403, "AuthorizationFailure", None)).on("PutBlob").named("plain/b").after(1));
    assert_eq!((h.put("plain/b", &[], b"").status, h.put("plain/a", &[], b"").status), (201, 201));
    assert_eq!(h.put("plain/b", &[], b"").outcome(), (403, "AuthorizationFailure"));
    assert_eq!(h.put("plain/b", &[], b"").status, 201);
    h.double.fault(Fault::once(status(429, "TooManyRequests", None)).times(0));
    assert!((0..3).all(|_| h.get(BLOB, "").status == 429));
    h.double.clear_faults();
    assert_eq!(h.get(BLOB, "").status, 200);
}

#[test]
fn bodies_come_wrong_or_short() {
    let h = Harness::new();
    let body: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    h.put(BLOB, &[], &body);
    h.double.fault(Fault::once(Kind::FlipByte { at: 1000 }).on("GetBlob"));
    let got = h.get(BLOB, "").body;
    assert_eq!(got.iter().zip(&body).filter(|(a, b)| a != b).count(), 1);
    assert_eq!(h.get(BLOB, "").body, body);
    h.double.fault(Fault::once(Kind::Truncate { at: 150_000 }).on("GetBlob"));
    assert!(h.try_call("GET", BLOB, "", &[], b"").is_err());
    assert_eq!(h.get(BLOB, "").body, body);
}

#[test]
fn a_proxy_answers_in_its_place() {
    let h = Harness::new();
    h.double.fault(Fault::once(Kind::ProxyPage { status: 200 }));
    let page = h.put(BLOB, &[], b"one");
    assert_eq!((page.status, page.header("x-ms-request-id"), page.header("etag")), (200, None, None));
    assert!(page.header("content-type").unwrap().starts_with("text/html") && page.text().contains("Sign in"));
    h.double.fault(Fault::once(Kind::ProxyPage { status: 302 }));
    assert_eq!(h.get(BLOB, "").header("location"), Some("http://127.0.0.1:9/login"));
    assert_eq!(h.get(BLOB, "").status, 404);
}

#[test]
fn time_can_be_slow_and_wrong() {
    let h = Harness::new();
    h.double.fault(Fault::once(Kind::Slow { ms: 120 }));
    let start = Instant::now();
    let date = h.put(BLOB, &[], b"one").header("date").unwrap().to_owned();
    assert!(start.elapsed() >= Duration::from_millis(120) && date.starts_with("Tue, 24 Nov 2026 12:00:0"), "{date}");
    h.double.configure(|o| o.latency_ms = 60);
    let start = Instant::now();
    h.double.fault(Fault::once(Kind::DateOffset { seconds: -3600 }));
    assert!(h.get(BLOB, "").header("date").unwrap().starts_with("Tue, 24 Nov 2026 11:00:0"));
    assert!(start.elapsed() >= Duration::from_millis(60));
}

#[test]
fn requests_and_bytes_are_counted() {
    let h = Harness::new();
    h.put(BLOB, &[], b"hello");
    h.get(BLOB, "");
    h.get(BLOB, "");
    h.head(BLOB, "");
    let counts = h.double.counts();
    assert_eq!((counts["PutBlob"], counts["GetBlob"], counts["HeadBlob"]), (1, 2, 1));
    let totals = h.double.totals();
    assert_eq!((totals.requests, totals.bytes_in, totals.bytes_out), (4, 5, 10));
    h.double.reset_counts();
    assert_eq!(h.double.totals(), super::blob::Totals::default());
}

#[test]
fn stored_data_can_rot_or_vanish_whatever_locks_it() {
    let h = Harness::new();
    let first = version_of(&h.put_locked("evidence/a", "Locked", 30, b"hello"));
    assert!(h.double.damage("evidence", "a", None, Damage::Flip { at: 1 }));
    assert_eq!(h.get("evidence/a", "").body, b"hdllo");
    assert!(!h.double.damage("evidence", "a", None, Damage::Flip { at: 5 }));
    assert!(h.double.damage("evidence", "a", Some(&first), Damage::Truncate { to: 2 }));
    assert_eq!((h.get("evidence/a", "").body.as_slice(), h.double.content("evidence", "a", None).unwrap().len()), (b"hd".as_slice(), 2));
    let second = version_of(&h.put("evidence/a", &[], b"two"));
    assert!(h.double.damage("evidence", "a", Some(&first), Damage::Remove));
    assert_eq!((h.get("evidence/a", &of_version(&first)).status, h.get("evidence/a", &of_version(&second)).status), (404, 200));
    assert!(h.double.damage("evidence", "a", None, Damage::Remove));
    assert_eq!(h.get("evidence/a", "").status, 404);
    assert!(!h.double.damage("evidence", "a", None, Damage::Remove));
}

#[test]
fn a_failover_loses_what_the_secondary_does_not_have() {
    let h = Harness::new();
    h.put_locked("evidence/a", "Locked", 30, b"one");
    h.put("plain/a", &[], b"one");
    h.double.set_clock(instant("2026-11-24T13:00:00Z"));
    h.put_locked("evidence/a", "Locked", 30, b"two");
    h.put_locked("evidence/b", "Locked", 30, b"new");
    assert_eq!(h.double.fail_over(instant("2026-11-24T12:30:00Z")), 2);
    assert_eq!((h.get("evidence/a", "").body.as_slice(), h.get("evidence/b", "").status), (b"one".as_slice(), 404));
    assert_eq!(h.get("plain/a", "").body, b"one");
}

#[test]
fn another_process_can_do_the_same() {
    let h = Harness::new();
    let control = |method: &str, what: &str, body: Value| -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let url = format!("{}/{what}", h.double.control());
        let response = h.client.request(method, url).body(body.to_string()).send().unwrap();
        (response.status().as_u16(), serde_json::from_slice(&response.bytes().unwrap()).unwrap())
    };
    let clock = control("POST", "clock", json!({ "set": "2026-12-01T00:00:00Z", "advance_seconds": 60 })).1;
    assert!(clock["now"].as_str().unwrap().starts_with("2026-12-01T00:01:0"));
    let fault = json!({ "fault": "status", "status": 500, "code": "InternalError", "operation": "PutBlob", "times": 1 });
    assert_eq!(control("POST", "faults", fault).0, 200);
    assert_eq!(control("POST", "faults", json!({ "fault": "no_such" })).0, 400);
    assert_eq!((h.put(BLOB, &[], b"x").status, h.put(BLOB, &[], b"x").status), (500, 201));
    let counts = control("GET", "counts", json!({})).1;
    assert_eq!((&counts["operations"]["PutBlob"], &counts["bytes_in"]), (&json!(2), &json!(2)));
    let dump = control("GET", "dump", json!({})).1;
    assert_eq!(dump["containers"]["plain"]["blobs"]["a"]["versions"][0]["size"], 1);
    assert_eq!(control("POST", "damage", json!({ "container": "plain", "name": "a", "damage": "flip", "at": 0 })).0, 200);
    assert_eq!(h.get(BLOB, "").body, b"y");
    assert_eq!(control("POST", "damage", json!({ "container": "plain", "name": "nothing", "damage": "remove" })).0, 404);
    let made = control("PUT", "containers/late", json!({ "versioning": true, "version_level": true })).1;
    assert_eq!(made["version_level"], true);
    assert_eq!(h.put_locked("late/a", "Locked", 1, b"x").status, 201);
    let options = control("PATCH", "options", json!({ "latency_ms": 1, "arm": { "refuse": true } })).1;
    assert_eq!((&options["latency_ms"], &options["arm"]["refuse"], &options["account"]), (&json!(1), &json!(true), &json!("pimvault")));
    let sas = control("POST", "sas", json!({ "permissions": "r", "resource": "plain" })).1;
    let url = format!("{}/plain/a?{}", h.double.endpoint(), sas["sas"].as_str().unwrap());
    assert_eq!(h.client.get(url).send().unwrap().status(), 200);
    assert_eq!(control("POST", "token", json!({ "role": "Agent" })).0, 200);
    assert_eq!(control("POST", "failover", json!({ "until": "2026-11-30T00:00:00Z" })).1["lost"], 2);
    assert_eq!(control("GET", "nothing", json!({})).0, 404);
}

#[test]
fn large_blocks_come_back_as_they_went() {
    let h = Harness::new();
    let block = vec![7_u8; 16 << 20];
    let mut list = String::from("<BlockList>");
    for n in 0..4 {
        let id = super::blob_base64(format!("{n:04}").as_bytes());
        assert_eq!(h.call("PUT", BLOB, &format!("&comp=block&blockid={id}"), &[], &block).status, 201);
        list += &format!("<Latest>{id}</Latest>");
    }
    assert_eq!(h.call("PUT", BLOB, "&comp=blocklist", &[], (list + "</BlockList>").as_bytes()).status, 201);
    let mut read = Vec::new();
    std::io::copy(&mut h.client.get(h.url(BLOB, "", &h.sas)).send().unwrap(), &mut read).unwrap();
    assert!(read.len() == 64 << 20 && read.iter().all(|byte| *byte == 7));
    assert!(h.double.totals().bytes_in >= 64 << 20 && h.double.totals().bytes_out >= 64 << 20);
}
