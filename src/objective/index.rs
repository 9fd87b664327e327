//! An index of a vault's attestations in a directory: what a status needs of each, so that only what was attested since
//! has to be read.
//!
//! It is a cache and proves nothing: what is wrong with it in any way, or was made before the vault's own chain grew,
//! counts for nothing, and the vault is read whole.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Entry, What};
use crate::store::{Sha256, StoreError, replace, side_by_side};
use crate::vault::names::ChainName;
use crate::vault::{Attested, ChainLink, Ledger, UNREADABLE};

/// The form of the files.
const FORM: u32 = 1;
/// Says which chains there are and when they were read whole.
const STAMP: &str = "index.json";
/// Reading a vault whole is worth so much of the time: one part of it.
const SHARE: f64 = 100.0;
/// More than that is not followed number after number.
const MOST_NEW: usize = 20_000;
/// So many numbers at which something was wrong are looked at again each time.
const MOST_FLAWED: usize = 32;
/// A block of entries: its length and the beginning of its digest come first, in bytes.
const BLOCK_HEAD: usize = 4 + 8;

/// Of what an index is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stamp {
    form: u32,
    genesis: Sha256,
    /// What was read of the vault's own chain: whoever is trusted, and whatever was disposed of, stands there.
    vault_chain: Sha256,
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
    chains: Vec<ChainName>,
    /// Read from the index, not from the vault.
    quick: bool,
    begun: Instant,
    /// Why the index is not kept, or not up to date.
    problem: RefCell<Option<String>>,
}

/// The index does not say how a chain stands: it must be read whole.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The index does not fit the vault, or is damaged.
    #[error("{}: {why}", dir.display())]
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
        let stamp = Stamp { whole: now, chains: chains.clone(), ..stamp_of(ledger) };
        Ok(Self {
            ledger,
            chains,
            dir: keep.map(|dir| (dir.to_owned(), true)),
            stamp,
            quick: false,
            begun: Instant::now(),
            problem: RefCell::default(),
        })
    }

    /// From the index in a directory, with what was attested since; why not, where there is no index of this vault, or one
    /// that is older than `oldest`. Whoever keeps it up to date also reads the vault whole again as soon as that takes
    /// no more than a hundredth of the time: a small one each time.
    pub fn quick(ledger: &'l Ledger, now: Timestamp, dir: &Path, oldest: SignedDuration, keep: bool) -> Result<Self, String> {
        let bytes = fs::read(dir.join(STAMP)).map_err(|e| format!("{}: {e}", dir.join(STAMP).display()))?;
        let stamp: Stamp = serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", dir.join(STAMP).display()))?;
        let own = stamp_of(ledger);
        let same = stamp.form == own.form && stamp.genesis == own.genesis && stamp.vault_chain == own.vault_chain;
        let age = now.duration_since(stamp.whole);
        let worth = SignedDuration::try_from_secs_f64(stamp.took_seconds * SHARE).unwrap_or(oldest);
        let oldest = if keep { worth.min(oldest) } else { oldest };
        match (same, age >= SignedDuration::ZERO && age <= oldest) {
            (false, _) => Err(format!("{} is of another vault, or of before the vault's own chain grew", dir.display())),
            (true, false) => Err(format!("{} is of {}", dir.display(), stamp.whole)),
            (true, true) => {
                let mut chains = stamp.chains.clone();
                // Of chains that are new, the newest checkpoint tells, and a directory at once.
                chains.extend(ledger.checkpointed_chains().map_err(|e| e.to_string())?);
                if ledger.store().parallelism() == 1 {
                    chains.extend(ledger.chains().map_err(|e| e.to_string())?);
                }
                chains.sort();
                chains.dedup();
                let (dir, begun, problem) = (Some((dir.to_owned(), keep)), Instant::now(), RefCell::default());
                Ok(Self { ledger, dir, stamp, chains, quick: true, begun, problem })
            }
        }
    }

    /// When every chain was last read whole.
    pub fn whole_at(&self) -> Timestamp {
        self.stamp.whole
    }

    /// The chains that there are.
    pub fn chains(&self) -> &[ChainName] {
        &self.chains
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
            let mut unread = None;
            self.ledger.chain_each(chain, |link| {
                if let ChainLink::Void(void) = &link
                    && void.reason.code == UNREADABLE
                {
                    unread = Some(format!("{} {}", void.name, void.reason.message));
                }
                entries.push(Entry::of(&link, disposed));
            })?;
            entries.reverse();
            // It may be read the next time.
            if let Some(unread) = unread {
                self.flawed(unread);
            }
            if let Some((dir, true)) = &self.dir {
                // Without it the next status reads the vault whole again: slower, and as true.
                let kept = self.block(&entries).and_then(|block| replace(&self.file_of(dir, chain), &block, false));
                kept.unwrap_or_else(|e| self.flawed(format!("{}: {e}", self.file_of(dir, chain).display())));
            }
            return Ok(entries);
        }
        let Some((dir, keep)) = &self.dir else { return Ok(Vec::new()) };
        let unusable = |why: &str| SurveyError::Unusable { dir: dir.clone(), why: format!("{chain}: {why}") };
        let path = self.file_of(dir, chain);
        let mut entries = match fs::read(&path) {
            Ok(bytes) => self.read(&bytes).ok_or_else(|| unusable("it is damaged or of another time"))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound && !self.stamp.chains.contains(chain) => Vec::new(),
            Err(e) => return Err(unusable(&e.to_string())),
        };
        let head = entries.last().map_or(0, |e| e.sequence);
        // What was wrong may have been mended.
        for sequence in flawed_numbers(&entries) {
            if matches!(self.ledger.number(chain, sequence)?, Some(ChainLink::Attested(_))) {
                return Err(unusable(&format!("number {sequence} is there again")));
            }
        }
        let Some(since) = self.ledger.chain_after(chain, head, MOST_NEW)? else { return Err(unusable("too much is new")) };
        let since: Vec<Entry> = since.iter().map(|n| Entry::of(n, disposed)).collect();
        // A bundle may hold what should stand there, or it is still on its way.
        let expected = (head + 1..).zip(&since).find(|(n, e)| e.sequence != *n || e.what == What::Void);
        if let Some((sequence, _)) = expected {
            return Err(unusable(&format!("number {sequence} holds no valid attestation")));
        }
        if *keep && !since.is_empty() {
            let appended = self.block(&since).and_then(|block| File::options().append(true).create(true).open(&path)?.write_all(&block));
            appended.unwrap_or_else(|e| self.flawed(format!("{}: {e}", path.display())));
        }
        entries.extend(since);
        let head = entries.last().map_or(0, |e| e.sequence);
        match self.ledger.checkpointed_head(chain)? {
            Some(seen) if seen > head => Err(unusable("a checkpoint saw it reach further")),
            _ => Ok(entries),
        }
    }

    /// The attestations of some entries, whole. One that an index has and the vault no longer makes the index unusable.
    pub fn attestations(&self, chain: &ChainName, entries: &[&Entry]) -> Result<Vec<Attested>, SurveyError> {
        let read = side_by_side(entries, self.ledger.store().parallelism(), |e| self.ledger.attestation(chain, e.sequence));
        let mut out = Vec::new();
        for (entry, attested) in entries.iter().zip(read) {
            let attested = attested?;
            let same = attested.as_ref().is_some_and(|a| a.from_bundle == entry.salvaged);
            if let (false, true, Some((dir, _))) = (same, self.quick, &self.dir) {
                let why = format!("{chain}: number {} is no longer there as it was", entry.sequence);
                return Err(SurveyError::Unusable { dir: dir.clone(), why });
            }
            out.extend(attested);
        }
        Ok(out)
    }

    fn file_of(&self, dir: &Path, chain: &ChainName) -> PathBuf {
        dir.join(format!("{chain}.{}.index", self.stamp.whole.as_nanosecond()))
    }

    fn flawed(&self, problem: String) {
        self.problem.borrow_mut().get_or_insert(problem);
    }

    /// Every chain was read: from now on the index counts. Says why it is not kept, where it is not.
    pub fn finish(mut self) -> Option<String> {
        self.stamp.took_seconds = self.begun.elapsed().as_secs_f64();
        let flawed = self.problem.take();
        if let (Some((dir, true)), false, None) = (&self.dir, self.quick, &flawed) {
            let kept = serde_json::to_vec(&self.stamp).map_err(io::Error::other).and_then(|bytes| replace(&dir.join(STAMP), &bytes, false));
            // Until now the index before counted.
            let own = format!(".{}.index", self.stamp.whole.as_nanosecond());
            for old in fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.file_name()) {
                let name = old.to_string_lossy();
                // What a killed one left goes too: this is the only one that writes here.
                if kept.is_ok() && (name.ends_with(".index") && !name.ends_with(&own) || name.starts_with(".tmp-")) {
                    let _ = fs::remove_file(dir.join(&old));
                }
            }
            return kept.err().map(|e| format!("{}: {e}", dir.display()));
        }
        flawed
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
        loop {
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
            if bytes.is_empty() {
                return Some(out);
            }
        }
    }
}

fn stamp_of(ledger: &Ledger) -> Stamp {
    let vault = ledger.vault_chain();
    let valid = vault.attested.iter().map(|a| format!("{} {}\n", a.sequence(), a.sha256));
    let read: String = valid.chain(vault.voids.iter().map(|v| format!("{} {}\n", v.sequence, v.reason.code))).collect();
    Stamp {
        form: FORM,
        genesis: ledger.trust().genesis(),
        vault_chain: Sha256::of(read.as_bytes()),
        whole: Timestamp::UNIX_EPOCH,
        took_seconds: 0.0,
        chains: Vec::new(),
    }
}

/// The numbers at which something is wrong, if they are few.
fn flawed_numbers(entries: &[Entry]) -> Vec<u64> {
    let (mut out, mut next) = (Vec::new(), 1);
    for entry in entries {
        out.extend((next..entry.sequence).take(MOST_FLAWED + 1));
        if entry.salvaged || entry.what == What::Void {
            out.push(entry.sequence);
        }
        next = entry.sequence + 1;
        if out.len() > MOST_FLAWED {
            return Vec::new();
        }
    }
    out
}
