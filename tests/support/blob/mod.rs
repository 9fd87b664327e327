//! A double of the Azure Blob service, with its rules of immutability, its signatures and tokens, what the resource
//! manager says of the account, a clock that tests move, faults, and damage behind the rules' back.
//!
//! It takes over what Microsoft documents. Where no public source settles an answer, `Options` does.
#![allow(dead_code, unused_imports, clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod alter;
mod arm;
mod auth;
mod call;
mod containers;
mod control;
mod damage;
mod faults;
mod instants;
mod lease;
mod list;
mod locks;
mod options;
mod read;
mod reply;
mod server;
mod state;
mod sums;
mod tokens;
mod write;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

pub use damage::Damage;
pub use faults::{Fault, Kind};
pub use instants::http_date;
pub use options::{Arm, ContainerOptions, ContainerPolicy, Identity, Options, Refusal, Role};
pub use sums::{crc64, md5};

use server::Core;
use state::State;

/// Every letter that a signature can carry.
pub const ALL_LETTERS: &str = "rwdxylacuptfi";

/// A running double; it ends when this is dropped.
pub struct BlobDouble {
    core: Arc<Core>,
    runtime: Option<Runtime>,
}

/// What was asked so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub requests: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl BlobDouble {
    pub fn start(options: Options) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).unwrap();
        let origin = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
        listener.set_nonblocking(true).unwrap();
        let core = Arc::new(Core { state: State::new(options).into(), origin });
        let runtime = Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
        let served = core.clone();
        runtime.spawn(async move { server::serve(served, tokio::net::TcpListener::from_std(listener).unwrap()).await });
        BlobDouble { core, runtime: Some(runtime) }
    }

    /// `http://127.0.0.1:PORT`: the authority, the resource manager, the instance's and the app service's endpoints.
    pub fn origin(&self) -> String {
        self.core.origin.clone()
    }

    /// `http://127.0.0.1:PORT/ACCOUNT`
    pub fn endpoint(&self) -> String {
        format!("{}/{}", self.core.origin, self.core.lock().options.account)
    }

    pub fn control(&self) -> String {
        format!("{}/__control", self.core.origin)
    }

    /// An account SAS, as a query string without its question mark.
    pub fn sas(&self, permissions: &str, starts: Timestamp, ends: Timestamp) -> String {
        auth::sas(&self.core.lock().options, None, permissions, starts, ends)
    }

    /// A service SAS, for a container or for `container/blob`.
    pub fn service_sas(&self, resource: &str, permissions: &str, starts: Timestamp, ends: Timestamp) -> String {
        auth::sas(&self.core.lock().options, Some(resource), permissions, starts, ends)
    }

    /// An account SAS with all rights, for ten years.
    pub fn full_sas(&self) -> String {
        let now = self.now();
        self.sas(ALL_LETTERS, now - SignedDuration::from_mins(5), now + SignedDuration::from_hours(24 * 3650))
    }

    /// A token without the way through the endpoint for tokens.
    pub fn token(&self, role: Role, audience: &str) -> String {
        tokens::grant(&mut self.core.lock(), role, audience)
    }

    pub fn now(&self) -> Timestamp {
        self.core.lock().now()
    }

    pub fn set_clock(&self, to: Timestamp) {
        self.core.lock().set_clock(to);
    }

    pub fn advance(&self, by: SignedDuration) {
        self.core.lock().advance(by);
    }

    pub fn options(&self) -> Options {
        self.core.lock().options.clone()
    }

    /// Changes options while it runs; account, port and containers are read at the start only.
    pub fn configure(&self, change: impl FnOnce(&mut Options)) {
        change(&mut self.core.lock().options);
    }

    /// Makes a container, or changes what it promises; blobs stay.
    pub fn put_container(&self, options: ContainerOptions) {
        self.core.lock().put_container(options);
    }

    pub fn fault(&self, fault: Fault) {
        self.core.lock().faults.push(fault);
    }

    pub fn clear_faults(&self) {
        self.core.lock().faults.clear();
    }

    /// Requests by operation.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.core.lock().counts.clone()
    }

    pub fn totals(&self) -> Totals {
        let state = self.core.lock();
        Totals { requests: state.counts.values().sum(), bytes_in: state.bytes_in, bytes_out: state.bytes_out }
    }

    pub fn reset_counts(&self) {
        let mut state = self.core.lock();
        state.counts.clear();
        (state.bytes_in, state.bytes_out) = (0, 0);
    }

    /// All containers, blobs and versions with their locks, whatever the service would say.
    pub fn dump(&self) -> Value {
        self.core.lock().dump()
    }

    /// The stored bytes of a version, or of the current one.
    pub fn content(&self, container: &str, name: &str, version: Option<&str>) -> Option<Vec<u8>> {
        damage::content(&self.core.lock(), container, name, version)
    }

    /// Damages what is stored, whatever locks it; false if there is no such version or byte.
    pub fn damage(&self, container: &str, name: &str, version: Option<&str>, damage: Damage) -> bool {
        damage::inflict(&mut self.core.lock(), container, name, version, &damage)
    }

    /// Makes so many small blobs at once, for listings; their names are the prefix and eight digits.
    pub fn fill(&self, container: &str, prefix: &str, count: usize) {
        damage::fill(&mut self.core.lock(), container, prefix, count);
    }

    /// Makes one blob without a request: metadata `sha256` and a lock as the store sets them.
    pub fn load(&self, container: &str, name: &str, data: Vec<u8>, sha256: &str, locked_until: Timestamp) {
        let lock = Some(state::Lock { until: locked_until, locked: true });
        let metadata = vec![("sha256".to_owned(), sha256.to_owned())];
        damage::load(&mut self.core.lock(), container, name.to_owned(), data.into(), metadata, lock);
    }

    /// Loses everything written after an instant; returns how many versions that were.
    pub fn fail_over(&self, until: Timestamp) -> usize {
        damage::fail_over(&mut self.core.lock(), until)
    }
}

impl Drop for BlobDouble {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
