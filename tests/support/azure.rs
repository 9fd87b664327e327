//! A store over the double of the Blob service, and policies that name it.

use std::collections::BTreeMap;
use std::sync::Arc;

use backstop::http::{Transport, endpoint};
use backstop::store::azure::{Access, AzureOptions, AzureStore, LockBy};

use crate::blob::{BlobDouble, ContainerOptions, Options};

pub const CONTAINERS: [&str; 4] = ["config-snapshots", "audit-logs", "evidence", "attestations"];

/// The options of a double with the four containers of a vault, each keeping locks by version.
pub fn four_containers() -> Options {
    Options { containers: CONTAINERS.iter().map(|name| ContainerOptions::locking(name)).collect(), ..Options::default() }
}

/// A double with the four containers, on the real clock.
pub fn double() -> BlobDouble {
    BlobDouble::start(four_containers())
}

/// Options of a store at an endpoint.
pub fn options(address: &str, access: Access) -> AzureOptions {
    let endpoint = endpoint(address).unwrap();
    AzureOptions {
        transport: Transport::new([&endpoint]).unwrap(),
        endpoint,
        containers: CONTAINERS.iter().map(|c| ((*c).to_owned(), (*c).to_owned())).collect::<BTreeMap<_, _>>(),
        access,
        who: "the test's SAS".into(),
        by: LockBy::Version,
    }
}

/// A store with every right.
pub fn store(double: &BlobDouble) -> Arc<AzureStore> {
    Arc::new(AzureStore::open(options(&double.endpoint(), Access::Sas(double.full_sas()))).unwrap())
}
