//! The format and nothing else: names, epochs and locks, segments, manifests, sealing, attestations,
//! chains, keys.
//!
//! It promises that what it writes is what `docs/vault-format.md` says. It must never read an object that
//! no valid attestation names, nor trust a name where a digest is recorded. It knows no source: what goes
//! into a vault is `backup`'s business, what comes out `restore`'s.

pub mod attestation;
mod chain_reader;
mod commit;
mod details;
pub mod dsse;
pub mod epoch;
mod genesis;
pub mod keys;
mod ledger;
pub mod manifest;
pub mod names;
pub mod seal;
pub mod segment;
pub mod strict;
mod trust;

pub use commit::{CommitError, Committed, Draft, Writer, Written};
pub use genesis::{Founding, GenesisError, found, recovery_text};
pub use ledger::{Attested, BundleError, ChainView, Ledger, LedgerError, Void, read_bundle};
pub use trust::{Anchor, Trust, TrustError, VoidReason};
