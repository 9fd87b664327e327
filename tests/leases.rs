//! One suite for every kind of lease: local, and on the double of the Blob service, which ends them by its own clock.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/azure.rs"]
mod azure;
#[path = "support/blob/mod.rs"]
mod blob;
#[path = "support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use azure::Cloud;
use backstop::store::azure::{Access, AzureLeases, AzureStore};
use backstop::store::{Clock, LEASE, Leases, LocalLeases};
use blob::{BlobDouble, ContainerOptions};
use jiff::{SignedDuration, Timestamp};

#[derive(Default)]
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + self.0.load(Ordering::SeqCst)).unwrap()
    }
}

/// What every kind promises; `wait` lets so many seconds pass.
fn suite(a: &dyn Leases, b: &dyn Leases, wait: &dyn Fn(u64)) {
    assert_eq!(a.note("nightly").unwrap(), None);
    let first = a.acquire("nightly").unwrap().unwrap();
    assert_eq!(b.acquire("nightly").unwrap(), None, "somebody has it");
    assert_eq!(a.note("nightly").unwrap(), None, "nothing is noted yet");
    assert!(a.set_note("nightly", &first, b"{\"one\":1}").unwrap());
    assert_eq!(b.note("nightly").unwrap().unwrap(), b"{\"one\":1}");
    assert!(a.set_note("nightly", &first, b"{}x").unwrap());
    assert!(b.acquire("other").unwrap().is_some());
    // Renewed, it goes on.
    for _ in 0..3 {
        wait(LEASE.as_secs() - 20);
        assert!(a.renew("nightly", &first).unwrap());
        assert_eq!(b.acquire("nightly").unwrap(), None);
    }
    // Released, it is free at once.
    a.release("nightly", &first).unwrap();
    let second = b.acquire("nightly").unwrap().unwrap();
    assert!(!a.set_note("nightly", &first, b"late").unwrap(), "whoever has it no more notes nothing");
    assert_eq!(a.note("nightly").unwrap().unwrap(), b"{}x");
    assert!(!a.renew("nightly", &first).unwrap());
    a.release("nightly", &first).unwrap();
    assert!(b.renew("nightly", &second).unwrap(), "giving up what is another's does nothing");
    // Not renewed, it ends.
    assert_eq!(a.acquire("nightly").unwrap(), None);
    wait(LEASE.as_secs() + 5);
    let third = a.acquire("nightly").unwrap().unwrap();
    assert!(!b.renew("nightly", &second).unwrap());
    assert!(!b.set_note("nightly", &second, b"late").unwrap());
    assert!(a.set_note("nightly", &third, &vec![b'x'; 40_000]).unwrap());
    assert_eq!(b.note("nightly").unwrap().unwrap().len(), 40_000);
}

#[test]
fn local() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Hand::default());
    let of = || LocalLeases::open(dir.path().join("leases"), clock.clone());
    suite(&of(), &of(), &|seconds| {
        clock.0.fetch_add(i64::try_from(seconds).unwrap(), Ordering::SeqCst);
    });
}

fn on(double: &BlobDouble) -> AzureLeases {
    let store = AzureStore::open(azure::options(&double.endpoint(), Access::Sas(double.full_sas()))).unwrap();
    AzureLeases::new(store, "backstop-leases".into())
}

#[test]
fn on_the_blob_service() {
    let double = azure::double();
    double.put_container(ContainerOptions::plain("backstop-leases"));
    suite(&on(&double), &on(&double), &|seconds| double.advance(SignedDuration::from_secs(i64::try_from(seconds).unwrap())));
}

#[test]
fn without_its_container_it_says_so() {
    let error = on(&azure::double()).acquire("nightly").unwrap_err().to_string();
    assert!(error.contains("backstop-leases"), "{error}");
}

#[test]
fn two_agents_share_a_vault_in_azure() {
    let cloud = Cloud::new();
    cloud.double.put_container(ContainerOptions::plain("backstop-leases"));
    cloud.sandbox.write("tree/a.json", "{}");
    let sas = cloud.sas.lock().unwrap().clone();
    let mut daemons = Vec::new();
    for name in ["a", "b"] {
        let port = support::daemon::free_port();
        let more = format!("state: .state-{name}\nagent: {{ listen: \"127.0.0.1:{port}\", jitter: 0s }}");
        support::daemon::policy(
            &cloud.sandbox,
            &format!("{name}.yaml"),
            "  delta: { snapshot: [tree], schedule: \"*/4 * * * * *\" }",
            &more,
        );
        daemons.push(support::daemon::Daemon::start(&cloud.sandbox, &format!("{name}.yaml"), port, &["run"], &[("VAULT_SAS", &sas)]));
    }
    let done = |daemon: &support::daemon::Daemon| {
        let log = daemon.log();
        let due = log.iter().filter(|l| l["message"] == "done").map(|l| l["due"].as_str().unwrap().to_owned());
        due.collect::<std::collections::BTreeSet<_>>()
    };
    let end = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while done(&daemons[0]).len() + done(&daemons[1]).len() < 6 {
        assert!(std::time::Instant::now() < end, "{:?} {:?}", daemons[0].log(), daemons[1].log());
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let both: Vec<String> = done(&daemons[0]).intersection(&done(&daemons[1])).cloned().collect();
    assert!(both.is_empty(), "what one did, the other does not: {both:?}");
    for daemon in &mut daemons {
        daemon.signal("TERM");
        assert_eq!(daemon.end(30).0, Some(0));
    }
    assert_eq!(cloud.json(&["verify"], 0)[0]["ok"], true);
}

#[test]
fn a_watcher_does_not_look_away_from_a_slow_store() {
    let cloud = Cloud::new();
    cloud.sandbox.write("tree/a.json", "{}");
    support::daemon::policy(
        &cloud.sandbox,
        "watch.yaml",
        "  often: { snapshot: [tree], schedule: \"*/10 * * * * *\" }",
        "notify: { file: { path: told } }",
    );
    let text = std::fs::read_to_string(cloud.sandbox.path("watch.yaml")).unwrap();
    cloud.sandbox.write("watch.yaml", text.replace("rpo: 1h", "rpo: 40s"));
    cloud.json(&["snapshot", "tree"], 0);
    // Each look takes long, but costs next to nothing.
    cloud.double.configure(|options| options.latency_ms = 1000);
    let sas = cloud.sas.lock().unwrap().clone();
    let arguments = ["watch", "--every", "1"];
    let mut watcher = support::daemon::Daemon::start(&cloud.sandbox, "watch.yaml", 0, &arguments, &[("VAULT_SAS", &sas)]);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(150);
    let told = || std::fs::read_to_string(cloud.sandbox.path("told")).unwrap_or_default();
    while !told().contains("rpo_exceeded") {
        assert!(std::time::Instant::now() < end, "nobody is told: {}\n{:?}", told(), watcher.log());
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    watcher.signal("TERM");
    assert_eq!(watcher.end(30).0, Some(0));
}
