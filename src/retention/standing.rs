//! Everything that a vault attests, and everything that its store shows.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::RetentionError;
use crate::store::ObjectInfo;
use crate::vault::names::{ChainName, Container};
use crate::vault::{Attested, Hold, Kept, Ledger, holds_in};

/// A vault at one instant.
pub struct Standing {
    /// Every version of every object, the oldest first.
    pub versions: BTreeMap<String, Vec<ObjectInfo>>,
    /// Every valid attestation.
    pub attested: Vec<Attested>,
    /// Every hold, removed ones too.
    pub holds: Vec<Hold>,
    /// The store's clock.
    pub now: Timestamp,
}

impl Standing {
    /// Lists and reads everything: attestations first, so that what they name is in the listing.
    pub fn read(ledger: &Ledger) -> Result<Self, RetentionError> {
        let mut attested = Vec::new();
        let mut chains = ledger.chains()?;
        if !chains.contains(&ChainName::vault()) {
            chains.push(ChainName::vault());
        }
        for chain in chains {
            attested.extend(ledger.chain(&chain)?.attested);
        }
        let mut versions: BTreeMap<String, Vec<ObjectInfo>> = BTreeMap::new();
        for container in Container::ALL {
            for info in ledger.store().list(&format!("{container}/"))? {
                versions.entry(info.name.clone()).or_default().push(info);
            }
        }
        let holds = holds_in(&attested);
        Ok(Self { versions, attested, holds, now: ledger.store().now()? })
    }

    /// The version that an attestation means: the recorded one, or where the store has other ids the oldest.
    pub fn meant(&self, kept: &Kept) -> Option<&ObjectInfo> {
        let versions = self.versions.get(&kept.name)?;
        let recorded = kept.version.as_ref().and_then(|v| versions.iter().find(|info| info.version.as_ref() == Some(v)));
        recorded.or(versions.first())
    }

    /// Everything that holds in force keep, but for one of them, by name.
    pub fn kept(&self, except: Option<&Hold>) -> BTreeMap<String, Kept> {
        let others = self.holds.iter().filter(|h| h.in_force() && except.is_none_or(|e| e.hold != h.hold));
        others.flat_map(|h| h.keeps(&self.attested)).collect()
    }
}
