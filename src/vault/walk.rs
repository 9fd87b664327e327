//! Chains read without keeping them: number after number from the top, or one number by its name.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ops::{ControlFlow, RangeInclusive};

use super::chain_reader::{ChainReader, Numbered};
use super::dsse::MAX_ENVELOPE;
use super::ledger::{Attested, ChainView, Ledger, Void, bundled, missing};
use super::names::ChainName;
use super::trust::{UNREADABLE, VoidReason};
use crate::store::{Sha256, StoreError};

/// So many absent numbers in a row end a chain: nobody commits behind a hole.
const BEYOND_A_HOLE: u64 = 4;
/// So far down from the head something is looked for by its number; beyond that the chain is listed.
const DOWN: u64 = 64;

/// What stands at a number.
#[derive(Debug, Clone)]
pub enum ChainLink {
    /// A valid attestation.
    Attested(Box<Attested>),
    /// Something else.
    Void(Void),
}

/// Where the envelopes that bundles hold are kept while a chain is read.
enum Bundles {
    /// With those of all chains, for as long as the ledger is.
    Kept,
    /// Those of this chain alone.
    Passing(OnceCell<BTreeMap<u64, Vec<u8>>>),
}

impl Ledger {
    /// Reads a whole chain.
    pub fn chain(&self, chain: &ChainName) -> Result<ChainView, StoreError> {
        self.chain_until(chain, |_| false)
    }

    /// Reads a whole chain, but takes what was proved before, up to a number, from the bundles where the listing
    /// shows an object with the same digest: one request a day of envelopes instead of one an envelope.
    pub fn chain_since(&self, chain: &ChainName, proved: u64) -> Result<ChainView, StoreError> {
        self.view(chain, proved, |_| false)
    }

    /// Reads a chain from its head down to the first attestation that `enough` accepts, inclusive.
    pub fn chain_until(&self, chain: &ChainName, enough: impl FnMut(&Attested) -> bool) -> Result<ChainView, StoreError> {
        self.view(chain, 0, enough)
    }

    /// Reads a whole chain from its head down and keeps nothing of it but what `take` does.
    pub fn chain_each(&self, chain: &ChainName, mut take: impl FnMut(ChainLink)) -> Result<(), StoreError> {
        if *chain == ChainName::vault() {
            let view = self.vault_chain_now()?;
            view.attested.into_iter().rev().for_each(|a| take(ChainLink::Attested(Box::new(a))));
            view.voids.into_iter().rev().for_each(|v| take(ChainLink::Void(v)));
            return Ok(());
        }
        let mut reader = ChainReader::list(self.store().as_ref(), chain)?;
        // Where an envelope costs a request, bundles save most of them; from a disk it is better read itself.
        let proved = if self.store().parallelism() > 1 { u64::MAX } else { 0 };
        let bundles = Bundles::Passing(OnceCell::new());
        self.read_down(chain, &mut reader, proved, &bundles, &mut |link| {
            take(link);
            ControlFlow::Continue(())
        })
        .map(drop)
    }

    fn view(&self, chain: &ChainName, proved: u64, mut enough: impl FnMut(&Attested) -> bool) -> Result<ChainView, StoreError> {
        if *chain == ChainName::vault() {
            return self.vault_chain_now();
        }
        let mut reader = ChainReader::list(self.store().as_ref(), chain)?;
        let mut view = ChainView { strays: std::mem::take(&mut reader.strays), ..ChainView::default() };
        let whole = self.read_down(chain, &mut reader, proved, &Bundles::Kept, &mut |link| {
            match link {
                ChainLink::Void(void) => view.voids.push(void),
                ChainLink::Attested(attested) => {
                    view.attested.push(*attested);
                    if view.attested.last().is_some_and(&mut enough) {
                        return ControlFlow::Break(());
                    }
                }
            }
            ControlFlow::Continue(())
        })?;
        view.attested.reverse();
        view.voids.reverse();
        if whole {
            view.missing = missing(&view);
        }
        Ok(view)
    }

    /// Tells what stands at each number from the head down; says whether it came to the end.
    fn read_down(
        &self,
        chain: &ChainName,
        reader: &mut ChainReader,
        proved: u64,
        bundles: &Bundles,
        take: &mut dyn FnMut(ChainLink) -> ControlFlow<()>,
    ) -> Result<bool, StoreError> {
        let mut any = false;
        let tell = |all: Vec<Attested>, any: &mut bool, take: &mut dyn FnMut(ChainLink) -> ControlFlow<()>| {
            *any |= !all.is_empty();
            all.into_iter().try_for_each(|a| take(ChainLink::Attested(Box::new(a)))).is_break()
        };
        // What is missing above and between the stored numbers may still stand in a bundle.
        let highest = reader.numbers.last().map_or(0, |n| n.sequence);
        if self.checkpointed_heads()?.get(chain).is_some_and(|head| *head > highest)
            && tell(self.held(chain, highest + 1..=u64::MAX, bundles)?, &mut any, take)
        {
            return Ok(false);
        }
        let mut above = highest.saturating_add(1);
        for at in (0..reader.numbers.len()).rev() {
            let number = reader.numbers[at].sequence;
            if above - number > 1 && any && tell(self.held(chain, number + 1..=above - 1, bundles)?, &mut any, take) {
                return Ok(false);
            }
            above = number;
            if number <= proved
                && let Some(attested) = self.proved_before(chain, &reader.numbers[at], bundles)?
            {
                if tell(vec![attested], &mut any, take) {
                    return Ok(false);
                }
                continue;
            }
            let mut failed = None;
            let from_bundle = |n| match self.held(chain, n..=n, bundles) {
                Ok(mut held) => held.pop(),
                Err(e) => {
                    failed = Some(e);
                    None
                }
            };
            let judged = reader.judge(self.store().as_ref(), self.trust(), at, from_bundle)?;
            if let Some(e) = failed {
                return Err(e);
            }
            let damaged = reader.damaged.take();
            if let Some(void) = damaged
                && take(ChainLink::Void(void)).is_break()
            {
                return Ok(false);
            }
            let broken = match judged {
                Ok(attested) => tell(vec![attested], &mut any, take),
                Err(void) => take(ChainLink::Void(void)).is_break(),
            };
            if broken {
                return Ok(false);
            }
        }
        if any && above > 1 && tell(self.held(chain, 1..=above - 1, bundles)?, &mut any, take) {
            return Ok(false);
        }
        Ok(true)
    }

    /// The envelopes of a chain that bundles hold, by number.
    fn held_of<'a>(&'a self, chain: &ChainName, bundles: &'a Bundles) -> Result<Option<&'a BTreeMap<u64, Vec<u8>>>, StoreError> {
        match bundles {
            Bundles::Kept => Ok(self.bundles()?.get(chain)),
            Bundles::Passing(own) => {
                if own.get().is_none() {
                    // It is not there, so it is set.
                    let _ = own.set(self.load_bundles(Some(chain))?.remove(chain).unwrap_or_default());
                }
                Ok(own.get())
            }
        }
    }

    /// What bundles hold of some numbers of a chain, descending.
    fn held(&self, chain: &ChainName, numbers: RangeInclusive<u64>, bundles: &Bundles) -> Result<Vec<Attested>, StoreError> {
        let held = self.held_of(chain, bundles)?.map(|envelopes| envelopes.range(numbers).rev()).into_iter().flatten();
        Ok(held.filter_map(|(sequence, bytes)| bundled(self.trust(), chain, *sequence, bytes)).collect())
    }

    /// What a bundle holds of a number, where the listing shows the same bytes at it.
    fn proved_before(&self, chain: &ChainName, shown: &Numbered, bundles: &Bundles) -> Result<Option<Attested>, StoreError> {
        let Some(bytes) = self.held_of(chain, bundles)?.and_then(|held| held.get(&shown.sequence)) else { return Ok(None) };
        let held = bundled(self.trust(), chain, shown.sequence, bytes);
        let same = |held: &Attested| shown.size == bytes.len() as u64 && shown.recorded == Some(held.sha256);
        Ok(held.filter(same).map(|held| Attested { version: shown.version.clone(), lock: shown.lock.clone(), from_bundle: false, ..held }))
    }

    /// What stands at one number, by its name: no listing is needed. What is damaged is not sought in bundles.
    pub fn number(&self, chain: &ChainName, sequence: u64) -> Result<Option<ChainLink>, StoreError> {
        let name = chain.envelope(sequence);
        let Some(info) = self.store().head(&name)? else { return Ok(None) };
        let void = |reason| ChainLink::Void(Void { sequence, name: name.clone(), reason });
        let unreadable = |message: String| void(VoidReason { code: UNREADABLE, message });
        let bytes = match self.store().read(&name, info.version.as_deref(), MAX_ENVELOPE) {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => return Ok(Some(unreadable("it vanished while it was read".into()))),
            Err(StoreError::Io { source, .. }) => return Ok(Some(unreadable(format!("it cannot be read: {source}")))),
            Err(e) => return Err(e),
        };
        Ok(Some(match self.trust().accept(&bytes, chain, sequence) {
            Ok((statement, role)) => ChainLink::Attested(Box::new(Attested {
                sha256: Sha256::of(&bytes),
                version: info.version,
                lock: info.lock,
                from_bundle: false,
                name,
                statement,
                role,
            })),
            Err(reason) => void(reason),
        }))
    }

    /// The attestation at a number, from a bundle where the store's copy is missing or damaged.
    pub fn attestation(&self, chain: &ChainName, sequence: u64) -> Result<Option<Attested>, StoreError> {
        match self.number(chain, sequence)? {
            Some(ChainLink::Attested(attested)) => Ok(Some(*attested)),
            _ => Ok(self.held(chain, sequence..=sequence, &Bundles::Kept)?.pop()),
        }
    }

    /// The chains that the newest checkpoint saw.
    pub fn checkpointed_chains(&self) -> Result<impl Iterator<Item = ChainName> + '_, StoreError> {
        Ok(self.checkpointed_heads()?.keys().cloned())
    }

    /// How far the newest checkpoint saw a chain reach.
    pub fn checkpointed_head(&self, chain: &ChainName) -> Result<Option<u64>, StoreError> {
        Ok(self.checkpointed_heads()?.get(chain).copied())
    }

    /// What stands behind a number, ascending; asked for number after number. None where it is more than `most`.
    pub fn chain_after(&self, chain: &ChainName, sequence: u64, most: usize) -> Result<Option<Vec<ChainLink>>, StoreError> {
        let (mut out, mut at, mut absent) = (Vec::new(), sequence, 0);
        while absent < BEYOND_A_HOLE {
            at += 1;
            match self.number(chain, at)? {
                Some(link) => {
                    absent = 0;
                    out.push(link);
                    if out.len() > most {
                        return Ok(None);
                    }
                }
                None => absent += 1,
            }
        }
        Ok(Some(out))
    }

    /// The newest attestation of a chain that `counts`, found by asking for numbers: from one that is known to be there,
    /// from where the newest checkpoint saw it, or by doubling. Where that leads nowhere the chain is listed.
    ///
    /// A hole can hide what stands behind it, so this says what a schedule needs and nothing that is committed upon.
    pub fn newest(&self, chain: &ChainName, known: u64, counts: impl Fn(&Attested) -> bool) -> Result<Option<Attested>, StoreError> {
        let listed = || Ok(self.chain_until(chain, &counts)?.attested.into_iter().rev().find(&counts));
        let there = |n: u64| -> Result<bool, StoreError> { Ok(self.store().head(&chain.envelope(n))?.is_some()) };
        let mut low = known.max(self.checkpointed_heads()?.get(chain).copied().unwrap_or(0)).max(1);
        if !there(low)? {
            return listed();
        }
        // Up by doubling until nothing is there, nor right behind it; then the head lies between.
        let mut step = 1;
        let mut high = loop {
            let at = low.saturating_add(step);
            match (at..at.saturating_add(BEYOND_A_HOLE)).find_map(|n| there(n).map(|t| t.then_some(n)).transpose()).transpose()? {
                Some(found) => (low, step) = (found, step.saturating_mul(2)),
                None => break at,
            }
        };
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if there(middle)? { low = middle } else { high = middle }
        }
        for n in (low.saturating_sub(DOWN).max(1)..=low).rev() {
            if let Some(ChainLink::Attested(attested)) = self.number(chain, n)?
                && counts(&attested)
            {
                return Ok(Some(*attested));
            }
        }
        listed()
    }
}
