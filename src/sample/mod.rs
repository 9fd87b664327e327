//! A tenant to try things on: a server that behaves like Microsoft Graph and Azure Resource Manager, made from a
//! seed, a number of users and an instant, so that the same numbers always give the same tenant.
//!
//! ```text
//! serve ─▶ tenant ─▶ estate (configuration), logs (events), clock
//! ```
//!
//! It pages, filters, throttles and ages as the services are documented to, keeps its own clock, and can be told
//! to change, to be broken into, to lose things, and to answer badly. What is true about it can be dumped, so that
//! a backup of it can be judged.

mod change;
mod clock;
mod dump;
mod estate;
mod filter;
mod incident;
mod instant;
mod kinds;
mod logs;
mod names;
mod query;
mod record;
mod reply;
mod rng;
mod serve;
mod stand_in;
mod table;
mod tenant;

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};

use jiff::Timestamp;
use serde::Serialize;

pub use clock::Clock;
pub use estate::DOMAIN;
pub use incident::DISASTERS;
pub use logs::Source;
pub use reply::{Call, Plane, Reply, Wire};
pub use serve::{Fault, FaultKind, Server, serve};
pub use stand_in::{Events, StandIn};
pub use tenant::Tenant;

pub(crate) use rng::guid;

/// What a tenant is made from, and how it behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// The seed of everything that is drawn.
    pub seed: u64,
    /// How many users there are.
    pub users: usize,
    /// What the tenant's clock shows at the start; nothing: the real time.
    pub start: Option<Timestamp>,
    /// How long access tokens are good for.
    pub token_seconds: u64,
    /// Interactive sign-ins in an hour, on average; nothing: as the number of users suggests.
    pub events_per_hour: Option<u64>,
    /// The application that may ask for tokens.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// The tenant's id.
    pub tenant: String,
    /// Whether the documented limits on requests hold.
    pub throttle: bool,
    /// Whether pages are short or empty now and then.
    pub ragged_pages: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            users: 500,
            start: None,
            token_seconds: 3599,
            events_per_hour: None,
            client_id: "4f3c1f0e-9d53-4f6a-8c0b-5b1f6f2f7a10".into(),
            client_secret: "sample-secret-that-guards-nothing".into(),
            tenant: "7c9d2a44-31c5-4b0e-9d7a-0c6a4a1f5e01".into(),
            throttle: false,
            ragged_pages: false,
        }
    }
}

/// Something that was done to the tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deed {
    /// The collection, as the backup catalogue names it.
    pub collection: String,
    /// Where the object is or was served.
    pub path: String,
    /// The object's id.
    pub id: String,
    /// What was done.
    pub what: String,
}

/// What can go wrong with the sample.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// Somebody else listens there.
    #[error("port {port} is taken by another program")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// The address cannot be had.
    #[error("cannot listen at {addr}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The server's thread or runtime did not start.
    #[error("cannot start the server")]
    Start(#[source] io::Error),
    /// There is no such disaster.
    #[error("there is no disaster {name:?}; there are {}", DISASTERS.join(", "))]
    UnknownDisaster {
        /// What was asked for.
        name: String,
    },
}

/// A lock that a panic elsewhere does not spoil: what it guards is changed in single steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
