//! An index of a vault's attestations in a directory: what a status needs of each, so that only what was attested since
//! has to be read.
//!
//! It is a cache and proves nothing: what is wrong with it in any way, or was made before the vault's own chain grew,
//! counts for nothing, and the vault is read whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Entry;
use crate::store::{Sha256, StoreError, replace};
use crate::vault::Ledger;
use crate::vault::names::ChainName;

/// The form of the files.
const FORM: u32 = 1;
/// Says which chains there are and when they were read whole.
const STAMP: &str = "index.json";
/// Reading a vault whole is worth so much of the time: one part of it.
const SHARE: f64 = 100.0;
/// A block of entries: its length and the beginning of its digest come first, in bytes.
const BLOCK_HEAD: usize = 4 + 8;

/// Of what an index is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stamp {
    form: u32,
    genesis: Sha256,
    /// The head of the vault's own chain: whoever is trusted, and whatever was disposed of, stands there.
    vault_head: u64,
    /// When every chain was read whole.
    whole: Timestamp,
    /// How long that took.
    took_seconds: f64,
    chains: Vec<ChainName>,
}

/// The chains of a vault, as entries.
pub struct Survey<'l> {
    ledger: &'l Ledger,
    /// Where the index is, and whether it is kept up to date.
    dir: Option<(PathBuf, bool)>,
    stamp: Stamp,
    /// Read from the index, not from the vault.
    quick: bool,
    begun: Instant,
}

/// The index does not say how a chain stands: it must be read whole.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The index does not fit the vault, or is damaged.
    #[error("the index in {} cannot be used: {why}", dir.display())]
    Unusable {
        /// Where it is.
        dir: PathBuf,
        /// Why.
        why: String,
    },
    /// The vault cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<'l> Survey<'l> {
    /// Every chain read whole; an index of it is kept in a directory, if one is named.
    pub fn whole(ledger: &'l Ledger, now: Timestamp, keep: Option<&Path>) -> Result<Self, StoreError> {
        let chains = ledger.known_chains()?;
        let stamp = Stamp { whole: now, chains, ..stamp_of(ledger) };
        Ok(Self { ledger, dir: keep.map(|dir| (dir.to_owned(), true)), stamp, quick: false, begun: Instant::now() })
    }

    /// From the index in a directory, with what was attested since. None where there is no index of this vault, or one
    /// that is older than `oldest`. Whoever keeps it up to date also reads the vault whole again as soon as that takes
    /// no more than a hundredth of the time: a small one each time.
    pub fn quick(ledger: &'l Ledger, now: Timestamp, dir: &Path, oldest: SignedDuration, keep: bool) -> Option<Self> {
        let stamp: Stamp = serde_json::from_slice(&fs::read(dir.join(STAMP)).ok()?).ok()?;
        let own = stamp_of(ledger);
        let same = stamp.form == own.form && stamp.genesis == own.genesis && stamp.vault_head == own.vault_head;
        let age = now.duration_since(stamp.whole);
        let worth = SignedDuration::try_from_secs_f64(stamp.took_seconds * SHARE).unwrap_or(oldest);
        let oldest = if keep { worth.min(oldest) } else { oldest };
        let usable = same && age >= SignedDuration::ZERO && age <= oldest;
        usable.then(|| Self { ledger, dir: Some((dir.to_owned(), keep)), stamp, quick: true, begun: Instant::now() })
    }

    /// When every chain was last read whole.
    pub fn whole_at(&self) -> Timestamp {
        self.stamp.whole
    }

    /// The chains that there are.
    pub fn chains(&self) -> &[ChainName] {
        &self.stamp.chains
    }

    /// The ledger behind it.
    pub fn ledger(&self) -> &'l Ledger {
        self.ledger
    }

    /// What stands on a chain, ascending.
    pub fn entries(&self, chain: &ChainName) -> Result<Vec<Entry>, SurveyError> {
        let disposed = |o: &crate::vault::attestation::ObjectRef| self.ledger.disposal_of(&o.name, &o.sha256).is_some();
        if !self.quick {
            let mut entries = Vec::new();
            self.ledger.chain_each(chain, |numeral| entries.push(Entry::of(&numeral, disposed)))?;
            entries.reverse();
            if let Some((dir, true)) = &self.dir {
                // Without it the next status reads the vault whole again: slower, and as true.
                let kept = self.block(&entries).and_then(|block| replace(&file_of(dir, chain), &block, false));
                kept.unwrap_or_else(|e| tracing::warn!("the index of {chain} cannot be kept: {e}"));
            }
            return Ok(entries);
        }
        let Some((dir, keep)) = &self.dir else { return Ok(Vec::new()) };
        let unusable = |why: &str| SurveyError::Unusable { dir: dir.clone(), why: format!("{chain}: {why}") };
        let path = file_of(dir, chain);
        let mut entries = match fs::read(&path) {
            Ok(bytes) => self.read(&bytes).ok_or_else(|| unusable("it is damaged or of another time"))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound && !self.stamp.chains.contains(chain) => Vec::new(),
            Err(e) => return Err(unusable(&e.to_string())),
        };
        let head = entries.last().map_or(0, |e| e.sequence);
        let since: Vec<Entry> = self.ledger.chain_after(chain, head)?.iter().map(|n| Entry::of(n, disposed)).collect();
        if *keep && !since.is_empty() {
            let appended = self.block(&since).and_then(|block| File::options().append(true).create(true).open(&path)?.write_all(&block));
            appended.unwrap_or_else(|e| tracing::warn!("the index of {chain} cannot be kept up to date: {e}"));
        }
        entries.extend(since);
        let head = entries.last().map_or(0, |e| e.sequence);
        match self.ledger.checkpointed_head(chain) {
            Some(seen) if seen > head => Err(unusable("a checkpoint saw it reach further")),
            _ => Ok(entries),
        }
    }

    /// Every chain was read: from now on the index counts.
    pub fn finish(mut self) {
        self.stamp.took_seconds = self.begun.elapsed().as_secs_f64();
        if let (Some((dir, true)), false) = (&self.dir, self.quick) {
            let kept = serde_json::to_vec(&self.stamp).map_err(io::Error::other).and_then(|bytes| replace(&dir.join(STAMP), &bytes, false));
            kept.unwrap_or_else(|e| tracing::warn!("the index cannot be kept: {e}"));
        }
    }

    fn block(&self, entries: &[Entry]) -> io::Result<Vec<u8>> {
        let body = postcard::to_stdvec(&(self.stamp.whole.as_nanosecond(), entries)).map_err(io::Error::other)?;
        let mut block = Vec::with_capacity(BLOCK_HEAD + body.len());
        block.extend(u32::try_from(body.len()).map_err(io::Error::other)?.to_be_bytes());
        block.extend(&Sha256::of(&body).0[..8]);
        block.extend(body);
        Ok(block)
    }

    /// The entries of all blocks; none where one is not as it was written, or not to its end.
    fn read(&self, mut bytes: &[u8]) -> Option<Vec<Entry>> {
        let mut out: Vec<Entry> = Vec::new();
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_at_checked(BLOCK_HEAD)?;
            let length = usize::try_from(u32::from_be_bytes(head[..4].try_into().ok()?)).ok()?;
            let (body, rest) = rest.split_at_checked(length)?;
            if Sha256::of(body).0[..8] != head[4..] {
                return None;
            }
            let (whole, entries): (i128, Vec<Entry>) = postcard::from_bytes(body).ok()?;
            let follows = entries.first().zip(out.last()).is_none_or(|(first, last)| first.sequence > last.sequence);
            if whole != self.stamp.whole.as_nanosecond() || !follows {
                return None;
            }
            out.extend(entries);
            bytes = rest;
        }
        Some(out)
    }
}

fn stamp_of(ledger: &Ledger) -> Stamp {
    let vault = ledger.vault_chain();
    let vault_head = vault.attested.iter().map(crate::vault::Attested::sequence).chain(vault.voids.iter().map(|v| v.sequence)).max();
    Stamp {
        form: FORM,
        genesis: ledger.trust().genesis(),
        vault_head: vault_head.unwrap_or(0),
        whole: Timestamp::UNIX_EPOCH,
        took_seconds: 0.0,
        chains: Vec::new(),
    }
}

fn file_of(dir: &Path, chain: &ChainName) -> PathBuf {
    dir.join(format!("{chain}.index"))
}
