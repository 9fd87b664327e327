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
mod disposal;
pub mod dsse;
pub mod epoch;
mod genesis;
mod holds;
pub mod keys;
mod ledger;
pub mod manifest;
mod measure;
pub mod names;
mod proof;
mod rotation;
pub mod seal;
pub mod segment;
pub mod strict;
mod trust;
mod walk;

pub use commit::{CommitError, Committed, Draft, Writer};
pub use disposal::{
    Approval, Disposal, DisposedObject, DispositionDetails, NotRemoved, Removed, approvers, disposable_from, kept_until, needed_elsewhere,
};
pub use genesis::{Founding, GenesisError, found, recovery_text};
pub use holds::{Hold, HoldAction, HoldDetails, HoldScope, HoldState, Kept, Lifted, holds_in};
pub use ledger::{Attested, BundleError, ChainView, Ledger, LedgerError, Void, read_bundle};
pub use measure::Written;
pub use rotation::RotationError;
pub use trust::{Anchor, Trust, TrustError, UNREADABLE, VoidReason};
pub use walk::ChainLink;
