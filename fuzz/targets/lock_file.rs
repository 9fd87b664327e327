//! The lock file beside an object of a local store: whatever stands in it, the object is listed, and a lock
//! that cannot be read is no lock.
#![no_main]

use std::cell::LazyCell;

use backstop::store::{LocalStore, LocalStoreOptions, Store};
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;

thread_local! {
    static DIR: LazyCell<tempfile::TempDir> = LazyCell::new(|| {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("evidence")).expect("a container");
        std::fs::write(dir.path().join("evidence/x"), b"object").expect("an object");
        dir
    });
}

fuzz_target!(|data: &[u8]| {
    DIR.with(|dir| {
        std::fs::write(dir.path().join("evidence/.x.lock"), data).expect("a lock file");
        let store = LocalStore::open(dir.path(), LocalStoreOptions::default()).expect("a store");
        let listed = store.list("evidence/").expect("a list");
        assert_eq!(listed.len(), 1);
        let info = &listed[0];
        assert_eq!((info.name.as_str(), info.size), ("evidence/x", 6));
        let is_json = serde_json::from_slice::<IgnoredAny>(data).is_ok();
        assert!(is_json || (info.lock.is_none() && info.recorded_sha256.is_none()), "what is no JSON is no lock");
    });
});
