//! A service that is as plain as the documentation allows: no `$batch`, lists in pages of its own size, and a group
//! with so many members that its record is cut into parts. What comes back is what it gave.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backstop::backup::{SnapshotJob, StateDir, snapshot};
use backstop::http::{Credential, Secret, Service, ServiceOptions, endpoint};
use backstop::observe::Silent;
use backstop::source::catalog::Catalog;
use backstop::source::graph::{GraphOptions, GraphSource, Subscriptions};
use backstop::store::Sha256;
use backstop::vault::attestation::{Outcome, SnapshotKind};
use backstop::vault::epoch::EpochKind;
use backstop::vault::names::{ChainName, Container};
use serde_json::{Value, json};
use support::LibraryVault;

const MEMBERS: usize = 150_000;
const PAGE: usize = 10_000;
/// A blank, `~` and `/` in an id: nothing that a path or an address may be confused by.
const ODD: &str = "odd ~/id";

fn member(n: usize) -> Value {
    json!({ "@odata.type": "#microsoft.graph.user", "id": format!("{}", Sha256::of(&n.to_le_bytes())) })
}

fn answer(target: &str, host: &str) -> (u16, Value) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match path {
        "/tenant/oauth2/v2.0/token" => (200, json!({ "token_type": "Bearer", "expires_in": 3600, "access_token": "t" })),
        "/v1.0/groups" => (200, json!({ "value": [{ "id": "large", "displayName": "Everybody" }, { "id": ODD, "displayName": "Odd" }] })),
        "/v1.0/groups/large/members" => {
            let from: usize = query.split('&').find_map(|p| p.strip_prefix("from=")).map_or(0, |n| n.parse().unwrap());
            let mut page = json!({ "value": (from..(from + PAGE).min(MEMBERS)).map(member).collect::<Vec<_>>() });
            if from + PAGE < MEMBERS {
                page["@odata.nextLink"] = format!("http://{host}/v1.0/groups/large/members?from={}", from + PAGE).into();
            }
            (200, page)
        }
        "/v1.0/groups/odd%20%7E%2Fid/members" => (200, json!({ "value": [] })),
        _ => (404, json!({ "error": { "code": "ResourceNotFound", "message": "there is nothing here" } })),
    }
}

fn serve(stream: TcpStream, host: &str, requests: &AtomicU64) {
    let mut input = BufReader::new(stream.try_clone().unwrap());
    let mut output = stream;
    loop {
        let mut first = String::new();
        if input.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let mut length = 0;
        loop {
            let mut line = String::new();
            input.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap();
            }
        }
        input.read_exact(&mut vec![0; length]).unwrap();
        requests.fetch_add(1, Ordering::Relaxed);
        let (status, body) = answer(first.split(' ').nth(1).unwrap(), host);
        let body = body.to_string();
        let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        if output.write_all(head.as_bytes()).and_then(|()| output.write_all(body.as_bytes())).is_err() {
            return;
        }
    }
}

#[test]
fn a_group_of_many_comes_back_in_parts() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let requests = Arc::new(AtomicU64::new(0));
    let (own, counted) = (host.clone(), requests.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (own, counted) = (own.clone(), counted.clone());
            std::thread::spawn(move || serve(stream, &own, &counted));
        }
    });
    let vault = LibraryVault::new("2026-11-24T12:00:00Z");
    let capture = || {
        let writer = vault.writer();
        let url = endpoint(&format!("http://{host}")).unwrap();
        let service = Service::new(ServiceOptions {
            endpoint: url.clone(),
            authority: url,
            tenant: "tenant".into(),
            resource: "https://graph.microsoft.com".into(),
            credential: Credential::ClientSecret { client_id: "c".into(), secret: Secret::new("s") },
        });
        let state = StateDir::open(&vault.sandbox.path("state"), writer.ledger.trust().vault(), "entra").unwrap();
        let of = |id: &str| Catalog::all().collection(id).unwrap().clone();
        let source = GraphSource::new(GraphOptions {
            name: "entra".into(),
            collections: vec![of("entra.groups"), of("entra.groups.members")],
            service: Arc::new(service.unwrap()),
            subscriptions: Subscriptions::All { earlier: Vec::new() },
            temporary: state.path().to_owned(),
            monitor: Arc::new(Silent),
        });
        snapshot(&SnapshotJob {
            name: &"entra".parse().unwrap(),
            source: &source,
            container: Container::ConfigSnapshots,
            epoch: EpochKind::Month,
            metadata: false,
            writer: &writer,
            policy: &vault.policy,
            state: &state,
            level: None,
            threads: 2,
            monitor: &Silent,
        })
        .unwrap()
    };
    let first = capture();
    assert_eq!((first.kind, first.outcome, first.entries), (SnapshotKind::Base, Outcome::Complete, 4));
    // A token, the groups, one batch that is refused, two lists that are not there in beta, the pages of the large group, the
    // list of the other.
    assert_eq!(requests.load(Ordering::Relaxed), 5 + (MEMBERS / PAGE) as u64 + 1);
    let second = capture();
    assert_eq!((second.kind, second.changed, second.deleted), (SnapshotKind::Delta, 0, 0));
    assert!(second.stored_bytes < 2_000, "{}", second.stored_bytes);

    let to = vault.sandbox.path("back");
    let report = backstop::restore::restore_files(&backstop::restore::FilesJob {
        ledger: &vault.ledger(),
        identities: &vault.identities,
        chain: &ChainName::snapshot(&"entra".parse().unwrap()),
        run: second.run,
        to: &to,
        pick: backstop::restore::Pick::All,
        existing: backstop::restore::Existing::Refuse,
        outside_links: false,
        threads: 2,
        monitor: &Silent,
    })
    .unwrap();
    assert_eq!((report.failed.len(), report.tree_matches), (0, Some(true)));
    let bytes = std::fs::read(to.join("groupMembers/large.json")).unwrap();
    assert!(bytes.len() > 8 << 20, "too small to be cut: {}", bytes.len());
    let record: Value = serde_json::from_slice(&bytes).unwrap();
    let mut expected: Vec<Value> = (0..MEMBERS).map(member).collect();
    expected.sort_by_key(|m| m["id"].as_str().unwrap().to_owned());
    assert_eq!(record, json!({ "id": "large", "members": expected }));
    let odd: Value = serde_json::from_slice(&std::fs::read(to.join("groups/odd ~0~1id.json")).unwrap()).unwrap();
    assert_eq!(odd["id"], ODD);
    assert!(to.join("groupMembers/odd ~0~1id.json").is_file());
}
