//! The contract of a store, as one suite over `&dyn Store`: whoever adds a store adds a line below. What is
//! true of files and the kernel only is asked of the local store at the end.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/azure.rs"]
mod azure;
#[path = "support/azurite.rs"]
mod azurite;
#[path = "support/blob/mod.rs"]
mod blob;
#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Barrier};

use backstop::store::azure::{Access, AzureStore};
use backstop::store::{Body, EnforcedBy, LocalStore, LocalStoreOptions, LockMode, LockRequest, Sha256, Store, StoreError};
use jiff::{SignedDuration, Timestamp};
use support::{Sandbox, TestClock};

const NOW: &str = "2026-11-23T08:00:00Z";

fn hours(n: i64) -> Timestamp {
    NOW.parse::<Timestamp>().unwrap().checked_add(SignedDuration::from_hours(n)).unwrap()
}

fn locked(until: i64) -> LockRequest {
    LockRequest { mode: LockMode::Locked, until: hours(until) }
}

fn put(store: &dyn Store, name: &str, bytes: &[u8], lock: &LockRequest) -> Result<backstop::store::Receipt, StoreError> {
    store.put(name, Body::Bytes(bytes), &Sha256::of(bytes), lock)
}

fn content(store: &dyn Store, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.open(name, None).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// Everything that every store promises. Each part uses names of its own.
fn contract(store: &dyn Store, scratch: &Path) {
    first_come_first_served(store);
    locks_are_read_back(store);
    locks_only_grow(store);
    readers_agree(store, scratch);
    bad_names_are_refused(store);
    folders_are_those_of_a_listing(store);
}

fn folders_are_those_of_a_listing(store: &dyn Store) {
    for name in ["attestations/vault-b/x/0000000001.json", "attestations/vault/0000000001.json", "attestations/plain.json"] {
        put(store, name, b"{}", &locked(24)).unwrap();
    }
    for prefix in ["attestations/", "audit-logs/", "attestations/nothing/"] {
        let listed = store.list(prefix).unwrap();
        let mut expected: Vec<String> = Vec::new();
        for info in &listed {
            if let Some((folder, _)) = info.name[prefix.len()..].split_once('/') {
                expected.push(format!("{prefix}{folder}/"));
            }
        }
        expected.sort();
        expected.dedup();
        assert_eq!(store.folders(prefix).unwrap(), expected, "{prefix}");
    }
}

fn first_come_first_served(store: &dyn Store) {
    for round in 0..10 {
        let name = format!("attestations/race/{round:010}.json");
        let barrier = Barrier::new(8);
        let outcomes: Vec<(Vec<u8>, Result<_, StoreError>)> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8u8)
                .map(|n| {
                    let (name, barrier) = (&name, &barrier);
                    scope.spawn(move || {
                        let bytes = vec![n; 20_000 + usize::from(n)];
                        barrier.wait();
                        let outcome = put(store, name, &bytes, &locked(1 + i64::from(n)));
                        (bytes, outcome)
                    })
                })
                .collect();
            writers.into_iter().map(|w| w.join().unwrap()).collect()
        });
        let winners: Vec<_> = outcomes.iter().filter(|(_, o)| o.is_ok()).collect();
        assert_eq!(winners.len(), 1, "{name}");
        for (_, outcome) in &outcomes {
            assert!(matches!(outcome, Ok(_) | Err(StoreError::AlreadyExists { .. })), "{outcome:?}");
        }
        let (bytes, receipt) = winners[0];
        let info = store.head(&name).unwrap().unwrap();
        assert_eq!(content(store, &name), *bytes);
        assert_eq!(info.recorded_sha256, Some(Sha256::of(bytes)), "the digest beside the object is the winner's");
        assert_eq!(info.size, bytes.len() as u64);
        if let Some(answered) = &receipt.as_ref().unwrap().lock {
            assert_eq!(info.lock.as_ref(), Some(answered), "the lock is the winner's");
        }
        assert_eq!(info.lock.as_ref().unwrap().until, Some(hours(1 + i64::from(bytes[0]))), "the lock is the winner's");
    }
    let again = put(store, "attestations/race/0000000000.json", b"late", &locked(1));
    assert!(matches!(again, Err(StoreError::AlreadyExists { .. })), "{again:?}");
}

/// The lock as a listing shows it, which is what the store answered at once, where it did.
fn shown_lock(store: &dyn Store, name: &str, receipt: &backstop::store::Receipt) -> backstop::store::LockState {
    let shown = store.head(name).unwrap().unwrap().lock.unwrap();
    assert!(receipt.lock.as_ref().is_none_or(|answered| *answered == shown), "{name}");
    shown
}

fn locks_are_read_back(store: &dyn Store) {
    for (n, mode) in [LockMode::Locked, LockMode::Unlocked].into_iter().enumerate() {
        let name = format!("evidence/locks/{n}");
        let receipt = put(store, &name, b"x", &LockRequest { mode, until: hours(48) }).unwrap();
        let shown = shown_lock(store, &name, &receipt);
        assert_eq!((shown.mode, shown.until), (mode, Some(hours(48))));
    }
    let receipt = put(store, "evidence/locks/none", b"x", &LockRequest { mode: LockMode::None, until: hours(48) }).unwrap();
    let shown = shown_lock(store, "evidence/locks/none", &receipt);
    assert_eq!((shown.mode, shown.until), (LockMode::None, None));
    for (n, past) in [0, -1, -24 * 3650].into_iter().enumerate() {
        let name = format!("evidence/locks/past-{n}");
        let refused = put(store, &name, b"x", &locked(past));
        assert!(matches!(refused, Err(StoreError::LockRefused { .. })), "{refused:?}");
        assert!(store.head(&name).unwrap().is_none(), "what was refused is not there");
    }
    assert_eq!(store.list("evidence/locks/").unwrap().len(), 3);
}

fn locks_only_grow(store: &dyn Store) {
    let name = "config-snapshots/s/2026-11/grow";
    put(store, name, b"x", &locked(48)).unwrap();
    for shorter in [
        locked(47),
        locked(1),
        LockRequest { mode: LockMode::Unlocked, until: hours(72) },
        LockRequest { mode: LockMode::None, until: hours(72) },
    ] {
        let refused = store.extend_lock(name, None, &shorter);
        assert!(matches!(refused, Err(StoreError::LockRefused { .. })), "{shorter:?}: {refused:?}");
        let lock = store.head(name).unwrap().unwrap().lock.unwrap();
        assert_eq!((lock.mode, lock.until), (LockMode::Locked, Some(hours(48))), "{shorter:?}");
    }
    for longer in [48, 72] {
        let state = store.extend_lock(name, None, &locked(longer)).unwrap();
        assert_eq!((state.mode, state.until), (LockMode::Locked, Some(hours(longer))));
        let info = store.head(name).unwrap().unwrap();
        assert_eq!(info.lock, Some(state));
        assert_eq!(info.recorded_sha256, Some(Sha256::of(b"x")), "the digest stays");
    }
    assert_eq!(content(store, name), b"x");
    let missing = store.extend_lock("config-snapshots/s/2026-11/none", None, &locked(1));
    assert!(matches!(missing, Err(StoreError::NotFound { .. } | StoreError::Io { .. })), "{missing:?}");
}

fn readers_agree(store: &dyn Store, scratch: &Path) {
    let names = ["audit-logs/s/2026/11/23/b", "audit-logs/s/2026/11/23/a", "audit-logs/s/2026/12/01/c", "audit-logs/t/x-0000"];
    for (n, name) in names.iter().enumerate() {
        let bytes = vec![n as u8; n * 1000];
        if n % 2 == 0 {
            put(store, name, &bytes, &locked(5)).unwrap();
        } else {
            let file = scratch.join(format!("body-{n}"));
            fs::write(&file, &bytes).unwrap();
            store.put(name, Body::File(&file), &Sha256::of(&bytes), &locked(5)).unwrap();
        }
    }
    let listed = store.list("audit-logs/").unwrap();
    let mut sorted: Vec<&str> = names.to_vec();
    sorted.sort_unstable();
    assert_eq!(listed.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), sorted);
    for info in &listed {
        let n = names.iter().position(|name| *name == info.name).unwrap();
        let head = store.head(&info.name).unwrap().unwrap();
        assert_eq!((head.size, head.recorded_sha256, &head.lock), (info.size, info.recorded_sha256, &info.lock));
        assert_eq!(content(store, &info.name), vec![n as u8; n * 1000]);
        assert_eq!(info.size, n as u64 * 1000);
        assert_eq!(info.recorded_sha256, Some(Sha256::of(&content(store, &info.name))));
    }
    assert_eq!(store.list("audit-logs/s/2026/11/").unwrap().len(), 2);
    assert_eq!(store.list("audit-logs/none/").unwrap().len(), 0);
    assert!(store.head("audit-logs/s/2026/11/23/none").unwrap().is_none());
    assert!(store.head("audit-logs/s/2026/11").unwrap().is_none(), "a folder is no object");
    assert!(matches!(store.open("audit-logs/none", None).map(drop), Err(StoreError::NotFound { .. })));
    assert!(store.read("audit-logs/t/x-0000", None, 2999).is_err(), "a reader's limit holds");
    assert_eq!(store.read("audit-logs/t/x-0000", None, 3000).unwrap().len(), 3000);
}

fn bad_names_are_refused(store: &dyn Store) {
    let bad = [
        "",
        "evidence",
        "evidence/",
        "/evidence/x",
        "evidence//x",
        "evidence/../x",
        "../evidence/x",
        "evidence/./x",
        "evidence/.x",
        ".x/y",
        "evidence/a/.tmp-1",
        "evidence/a\0b",
        "evidence/x/",
    ];
    for name in bad {
        let outcomes = [
            put(store, name, b"x", &locked(1)).map(drop),
            store.open(name, None).map(drop),
            store.head(name).map(drop),
            store.extend_lock(name, None, &locked(1)).map(drop),
        ];
        for outcome in outcomes {
            assert!(matches!(outcome, Err(StoreError::BadName { .. })), "{name:?}: {outcome:?}");
        }
    }
}

fn local(sandbox: &Sandbox, dir: &str, immutable_flag: bool, containers: &[(&str, &str)]) -> Arc<dyn Store> {
    let containers = containers.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let options = LocalStoreOptions { clock: Arc::new(TestClock::at(NOW)), immutable_flag, containers };
    Arc::new(LocalStore::create(sandbox.path(dir), options).unwrap())
}

/// The contract, then what is true of files.
fn local_contract(immutable_flag: bool, containers: &[(&str, &str)]) {
    let sandbox = Sandbox::new();
    let store = local(&sandbox, "vault", immutable_flag, containers);
    contract(store.as_ref(), &sandbox.path(""));
    for (logical, directory) in containers {
        assert!(sandbox.path("vault").join(directory).is_dir(), "{logical} lies in {directory}");
        assert!(!sandbox.path("vault").join(logical).exists());
    }
    let root = sandbox.path("vault");
    let mut objects = 0;
    support::walk(&root, &mut |path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o444, "{name}");
        assert!(!name.starts_with(".tmp-"), "{name} was left behind");
        objects += usize::from(!name.starts_with('.'));
    });
    assert_eq!(objects, 10 + 3 + 1 + 4 + 3);
}

#[test]
fn local_store_without_the_kernel() {
    local_contract(false, &[]);
}

#[test]
fn local_store_with_the_kernel_where_it_may() {
    local_contract(true, &[]);
}

#[test]
fn local_store_with_other_names_for_containers() {
    local_contract(true, &[("attestations", "pim-proof"), ("audit-logs", "pim-logs")]);
}

#[test]
fn azure_store_on_the_double() {
    let sandbox = Sandbox::new();
    let options = blob::Options { now: Some(hours(0)), ..azure::four_containers() };
    let double = blob::BlobDouble::start(options);
    let store = azure::store(&double);
    contract(store.as_ref(), &sandbox.path(""));
    azure_contract(&store, &sandbox, true);
}

/// Locks and versions are left out: Azurite has neither. It says that it took a lock, and the store does not believe it.
#[test]
fn azure_store_on_azurite_without_locks_and_versions() {
    let sandbox = Sandbox::new();
    let emulator = azurite::Azurite::start();
    let store = Arc::new(AzureStore::open(azure::options(&emulator.endpoint(), Access::Sas(emulator.sas()))).unwrap());
    for container in azure::CONTAINERS {
        store.make_container(container).unwrap();
        store.make_container(container).unwrap();
    }
    bad_names_are_refused(store.as_ref());
    azure_contract(&store, &sandbox, false);
    let race: Vec<_> = std::thread::scope(|scope| {
        let none = LockRequest { mode: LockMode::None, until: hours(48) };
        let store = store.as_ref();
        let writers: Vec<_> = (0..8u8).map(|n| scope.spawn(move || put(store, "attestations/race/1", &[n; 3000], &none))).collect();
        writers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    assert_eq!(race.iter().filter(|r| r.is_ok()).count(), 1, "create-if-absent holds here too");
    let until = Timestamp::now().checked_add(SignedDuration::from_hours(1)).unwrap();
    let lock = LockRequest { mode: LockMode::Locked, until };
    let receipt = put(store.as_ref(), "evidence/locked", b"x", &lock).unwrap();
    assert_eq!((receipt.version, receipt.lock.is_none()), (None, true));
    assert_eq!(store.head("evidence/locked").unwrap().unwrap().lock.unwrap().mode, LockMode::None, "nothing is said that is not shown");
    assert!(!store.keeps_lock("evidence/canary", &lock).unwrap());
}

/// The real service, where the environment names an account: `BACKSTOP_TEST_AZURE_ENDPOINT` and
/// `BACKSTOP_TEST_AZURE_SAS`. Its locks are real, so names of a fresh folder are used and all locks are short.
#[test]
fn azure_store_on_a_real_account_where_one_is_named() {
    let named = ["BACKSTOP_TEST_AZURE_ENDPOINT", "BACKSTOP_TEST_AZURE_SAS"].map(|name| std::env::var(name).ok());
    // Where none is named, the double and Azurite stand for it.
    let [Some(endpoint), Some(sas)] = named else { return };
    let store = Arc::new(AzureStore::open(azure::options(&endpoint, Access::Sas(sas))).unwrap());
    let folder = format!("evidence/contract-{}", Timestamp::now().as_second());
    let until = Timestamp::from_second(store.now().unwrap().as_second() + 60).unwrap();
    let lock = LockRequest { mode: LockMode::Unlocked, until };
    let name = format!("{folder}/one");
    let receipt = put(store.as_ref(), &name, b"real", &lock).unwrap();
    assert!(receipt.version.is_some());
    assert!(matches!(put(store.as_ref(), &name, b"again", &lock), Err(StoreError::AlreadyExists { .. })));
    let shown = store.head(&name).unwrap().unwrap();
    assert_eq!((shown.size, shown.version, shown.recorded_sha256), (4, receipt.version, Some(Sha256::of(b"real"))));
    assert_eq!(shown.lock.map(|l| (l.mode, l.until)), Some((LockMode::Unlocked, Some(until))));
    assert_eq!(content(store.as_ref(), &name), b"real");
    assert!(matches!(store.remove(&name, None), Err(StoreError::Locked { .. })));
}

/// What is true of a store over the Blob service: large bodies, holds, removal.
fn azure_contract(store: &Arc<AzureStore>, sandbox: &Sandbox, locks: bool) {
    let none = LockRequest { mode: LockMode::None, until: hours(48) };
    // Several blocks, and several ranges on the way back.
    let large: Vec<u8> = (0..70_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let file = sandbox.write("large", &large);
    let receipt = store.put("evidence/large", Body::File(&file), &Sha256::of(&large), &none).unwrap();
    let info = store.head("evidence/large").unwrap().unwrap();
    assert_eq!((info.size, info.recorded_sha256), (large.len() as u64, Some(Sha256::of(&large))));
    assert!(content(store.as_ref(), "evidence/large") == large, "the bytes came back as they went");
    let again = store.put("evidence/large", Body::File(&file), &Sha256::of(&large), &none);
    assert!(matches!(again, Err(StoreError::AlreadyExists { .. })), "{again:?}");
    // A version that this account does not know: the name serves, and the digest decides.
    let mut bytes = Vec::new();
    store.open("evidence/large", Some("2020-01-01T00:00:00.0000000Z")).unwrap().read_to_end(&mut bytes).unwrap();
    assert!(bytes == large);
    if locks {
        let version = receipt.version.as_deref();
        assert!(store.set_hold("evidence/large", version, true).unwrap());
        assert!(store.head("evidence/large").unwrap().unwrap().held);
        assert!(matches!(store.remove("evidence/large", version), Err(StoreError::Locked { .. })));
        assert!(!store.set_hold("evidence/large", version, false).unwrap());
    }
    store.remove("evidence/large", receipt.version.as_deref()).unwrap();
    assert!(store.list("evidence/large").unwrap().is_empty(), "every version is gone");
}

#[test]
fn an_upload_that_was_cut_off_goes_on_where_it_stopped() {
    let sandbox = Sandbox::new();
    let double = blob::BlobDouble::start(azure::four_containers());
    let store = azure::store(&double);
    let large: Vec<u8> = (0..70_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let file = sandbox.write("large", &large);
    let until = double.now().checked_add(SignedDuration::from_hours(1)).unwrap();
    let lock = LockRequest { mode: LockMode::Locked, until: Timestamp::from_second(until.as_second()).unwrap() };
    let refusal = blob::Kind::Status { status: 403, code: "AuthorizationFailure".into(), retry_after: None };
    double.fault(blob::Fault::once(refusal).on("PutBlock").after(7).times(0));
    let cut = store.put("evidence/large", Body::File(&file), &Sha256::of(&large), &lock);
    assert!(matches!(cut, Err(StoreError::LockRefused { .. })), "{cut:?}");
    assert!(store.head("evidence/large").unwrap().is_none(), "nothing is visible before the commit");
    double.clear_faults();
    double.reset_counts();
    store.put("evidence/large", Body::File(&file), &Sha256::of(&large), &lock).unwrap();
    assert_eq!(double.counts()["PutBlock"], 9 - 7, "seven of nine blocks were there");
    assert!(content(store.as_ref(), "evidence/large") == large);
    assert_eq!(store.head("evidence/large").unwrap().unwrap().lock.unwrap().until, Some(lock.until), "the commit carries the lock");
    // And a commit whose answer was lost is recognised.
    double.fault(blob::Fault::once(blob::Kind::LostResponse).on("PutBlockList"));
    store.put("evidence/second", Body::File(&file), &Sha256::of(&large), &lock).unwrap();
    assert_eq!(store.list("evidence/second").unwrap().len(), 1);
}

#[test]
fn a_body_that_changes_on_its_way_is_refused_by_the_service() {
    // The checksum that goes with each body is the service's own: CRC-64/NVME, least significant byte first.
    let double = blob::BlobDouble::start(azure::four_containers());
    let cloud = azure::store(&double);
    let none = LockRequest { mode: LockMode::None, until: hours(48) };
    put(cloud.as_ref(), "evidence/x", &[7; 5000], &none).unwrap();
    assert_eq!(double.content("evidence", "x", None).unwrap(), [7; 5000]);
    assert_eq!(blob::crc64(b"123456789"), "iJh5CoYUi64=", "the check value of CRC-64/NVME, 0xae8b14860a799888");
}

/// What `lsattr` says of a file: whether the immutable flag stands on it.
fn is_immutable(path: &Path) -> bool {
    let out = Command::new("lsattr").arg(path).output().expect("lsattr (e2fsprogs) is needed to ask the file itself");
    // A file system without flags has no immutable files.
    out.status.success() && String::from_utf8_lossy(&out.stdout).split_whitespace().next().is_some_and(|flags| flags.contains('i'))
}

#[test]
fn what_is_said_of_enforcement_is_what_the_file_itself_says() {
    let sandbox = Sandbox::new();
    let asked = local(&sandbox, "asked", true, &[]);
    let receipt = put(asked.as_ref(), "evidence/x", b"x", &locked(1)).unwrap();
    let path = sandbox.path("asked/evidence/x");
    let stands = is_immutable(&path);
    assert_eq!(receipt.lock.unwrap().enforced_by, if stands { EnforcedBy::Kernel } else { EnforcedBy::Advisory });
    let sidecar: serde_json::Value = serde_json::from_slice(&fs::read(sandbox.path("asked/evidence/.x.lock")).unwrap()).unwrap();
    assert_eq!(sidecar["enforced_by"], if stands { "kernel" } else { "advisory" });
    if stands {
        // Not even root writes, replaces or deletes.
        assert!(fs::OpenOptions::new().write(true).open(&path).is_err());
        assert!(fs::OpenOptions::new().append(true).open(&path).and_then(|mut f| f.write_all(b"y")).is_err());
        assert!(fs::remove_file(&path).is_err());
        assert!(fs::rename(&path, sandbox.path("asked/evidence/y")).is_err());
        assert!(fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).is_err());
        let other = sandbox.write("other", "y");
        assert!(fs::rename(other, &path).is_err());
        // Taken off behind the store's back, it is reported so.
        sandbox.unlock("asked/evidence/x");
        assert_eq!(asked.head("evidence/x").unwrap().unwrap().lock.unwrap().enforced_by, EnforcedBy::Advisory);
    }
    assert_eq!(fs::read(&path).unwrap(), b"x");
    let unasked = local(&sandbox, "unasked", false, &[]);
    let receipt = put(unasked.as_ref(), "evidence/x", b"x", &locked(1)).unwrap();
    assert_eq!(receipt.lock.unwrap().enforced_by, EnforcedBy::Advisory);
    assert!(!is_immutable(&sandbox.path("unasked/evidence/x")));
    let trial = put(asked.as_ref(), "evidence/trial", b"x", &LockRequest { mode: LockMode::Unlocked, until: hours(1) }).unwrap();
    assert_eq!(trial.lock.unwrap().enforced_by, EnforcedBy::Advisory);
    assert!(!is_immutable(&sandbox.path("asked/evidence/trial")));
}

#[test]
fn the_lock_file_says_mode_instant_enforcement_digest_and_size() {
    let sandbox = Sandbox::new();
    let store = local(&sandbox, "vault", false, &[]);
    put(store.as_ref(), "evidence/s/x.age", b"hello", &locked(24)).unwrap();
    let read = || serde_json::from_slice::<serde_json::Value>(&fs::read(sandbox.path("vault/evidence/s/.x.age.lock")).unwrap()).unwrap();
    let expected = serde_json::json!({
        "mode": "locked", "until": "2026-11-24T08:00:00Z", "enforced_by": "advisory", "sha256": Sha256::of(b"hello").to_string(), "size": 5,
    });
    assert_eq!(read(), expected);
    store.extend_lock("evidence/s/x.age", None, &locked(48)).unwrap();
    assert_eq!(read()["until"], "2026-11-25T08:00:00Z");
    assert_eq!(read()["sha256"], expected["sha256"]);
    // A lock file that is gone or damaged is no lock.
    sandbox.tamper("vault/evidence/s/.x.age.lock", |bytes| bytes.truncate(10));
    assert!(store.head("evidence/s/x.age").unwrap().unwrap().lock.is_none());
    sandbox.remove("vault/evidence/s/.x.age.lock");
    assert!(store.list("evidence/").unwrap()[0].lock.is_none());
}

#[test]
fn leftovers_and_lock_files_are_no_objects() {
    let sandbox = Sandbox::new();
    let store = local(&sandbox, "vault", false, &[]);
    put(store.as_ref(), "evidence/s/x", b"x", &locked(1)).unwrap();
    sandbox.write("vault/evidence/s/.tmp-abc", "half an object");
    sandbox.write("vault/evidence/.tmp-dir/y", "in a hidden directory");
    sandbox.write("vault/evidence/s/.z.lock", "{}");
    std::os::unix::fs::symlink(sandbox.path("vault/evidence/s/x"), sandbox.path("vault/evidence/s/link")).unwrap();
    let names: Vec<String> = store.list("evidence/").unwrap().into_iter().map(|i| i.name).collect();
    assert_eq!(names, ["evidence/s/x"]);
    assert!(store.head("evidence/s/link").unwrap().is_none(), "a link is no object");
    assert!(store.open("evidence/s/link", None).is_err(), "and is not followed");
    assert!(put(store.as_ref(), "evidence/s/link", b"x", &locked(1)).is_err(), "nor written through");
}

#[test]
fn a_missing_vault_is_said_to_be_missing() {
    let sandbox = Sandbox::new();
    let options = LocalStoreOptions { clock: Arc::new(TestClock::at(NOW)), immutable_flag: false, containers: Vec::new() };
    assert!(matches!(LocalStore::open(sandbox.path("none"), options).map(drop), Err(StoreError::NoStore { .. })));
    assert!(!sandbox.path("none").exists(), "looking makes nothing");
}
