//! The ledger: every chain of attestations, read and judged without a key.
//!
//! It promises that each [`Attested`] was signed by a key that was valid for it. Missing and void numbers
//! are told, not hidden; an envelope that a bundle still holds is taken from there.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;
use std::sync::{Arc, OnceLock};

use super::attestation::{CheckpointDetails, HealDetails, Kind, Statement};
use super::chain_reader::{ChainReader, Numbered};
use super::disposal::Disposals;
use super::dsse::MAX_ENVELOPE;
use super::keys::Role;
use super::names::{ChainName, VAULT_JSON};
use super::trust::{Anchor, Trust, TrustError, VoidReason};
use crate::store::{LockState, Sha256, Store, StoreError};

/// One valid attestation.
#[derive(Debug, Clone)]
pub struct Attested {
    /// The envelope's logical name.
    pub name: String,
    /// Digest of the envelope's bytes.
    pub sha256: Sha256,
    /// What it says.
    pub statement: Statement,
    /// Whose role signed it.
    pub role: Role,
    /// The store's version id of the envelope, where it has versions.
    pub version: Option<String>,
    /// The envelope's own lock, from the listing.
    pub lock: Option<LockState>,
    /// The store's copy is missing or damaged; this one is from a checkpoint's bundle.
    pub from_bundle: bool,
}

impl Attested {
    /// Its number.
    pub fn sequence(&self) -> u64 {
        self.statement.predicate.sequence
    }
}

/// A number that holds something that is not a valid envelope.
#[derive(Debug, Clone)]
pub struct Void {
    /// The number.
    pub sequence: u64,
    /// The object.
    pub name: String,
    /// Why it is void.
    pub reason: VoidReason,
}

/// A chain as far as it was read.
#[derive(Debug, Clone, Default)]
pub struct ChainView {
    /// Valid attestations, ascending.
    pub attested: Vec<Attested>,
    /// Void numbers, ascending.
    pub voids: Vec<Void>,
    /// Numbers below the head at which there is nothing.
    pub missing: Vec<u64>,
    /// Objects in the chain's folder that are not spelled as an envelope.
    pub strays: Vec<String>,
}

impl ChainView {
    /// The newest valid attestation.
    pub fn head(&self) -> Option<&Attested> {
        self.attested.last()
    }
}

/// Why the ledger cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no trustworthy genesis.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the bundle cannot be read")]
pub struct BundleError(#[from] std::io::Error);

/// The envelopes of a bundle, as bytes, in their order.
pub fn read_bundle(bytes: &[u8]) -> Result<Vec<Vec<u8>>, BundleError> {
    let mut decoder = zstd::stream::read::Decoder::new(bytes)?;
    decoder.window_log_max(super::seal::WINDOW_LOG)?;
    // Digests and signatures do not compress: a true bundle unpacks to a tenth of this.
    let most = (bytes.len() as u64).saturating_mul(100).saturating_add(1 << 20).min(LARGEST_BUNDLE);
    let mut input = std::io::BufReader::new(super::segment::Limited::new(decoder, most));
    let mut out = Vec::new();
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(out);
        }
        if line.pop() != Some(b'\n') {
            return Err(BundleError(std::io::Error::other("its last line has no end")));
        }
        if line.len() < SHORTEST_ENVELOPE {
            return Err(BundleError(std::io::Error::other("one of its lines is too short for an envelope")));
        }
        out.push(line);
    }
}

/// No bundle unpacks to more, in bytes.
const LARGEST_BUNDLE: u64 = 1 << 30;
/// A signature and a key's digest alone are longer, in bytes.
const SHORTEST_ENVELOPE: usize = 200;
/// So many missing numbers of a chain are told: a signed number far beyond the others must not fill the memory.
const MOST_MISSING: usize = 10_000;

pub(super) type BundleMap = HashMap<ChainName, BTreeMap<u64, Vec<u8>>>;

/// All chains of a vault.
pub struct Ledger {
    store: Arc<dyn Store>,
    trust: Trust,
    vault_chain: ChainView,
    /// Whether the store holds its genesis, or a bundle with it.
    founded: bool,
    bundles: OnceLock<BundleMap>,
    /// How far the newest checkpoint saw each chain reach.
    heads: OnceLock<HashMap<ChainName, u64>>,
    /// What was disposed of, by name.
    pub(super) disposals: OnceLock<Disposals>,
}

impl Ledger {
    /// Reads the vault's own chain and so learns whom to trust.
    pub fn open(store: Arc<dyn Store>, anchor: &Anchor) -> Result<Self, LedgerError> {
        let first = ChainName::vault().envelope(1);
        let chain = ChainName::vault();
        // One listing serves for the chain and for the version of genesis that was there first.
        let mut reader = ChainReader::list(store.as_ref(), &chain)?;
        let original = reader.numbers.first().filter(|n| n.sequence == 1).and_then(|n| n.version.clone());
        let shown = match store.read(&first, original.as_deref(), MAX_ENVELOPE) {
            Ok(bytes) => Some(bytes),
            Err(StoreError::NotFound { .. }) => None,
            Err(e) => return Err(e.into()),
        };
        let bytes = match anchor {
            Anchor::Envelope(kept) => kept.clone(),
            Anchor::Digest(expected) => match shown.clone() {
                Some(bytes) if Sha256::of(&bytes) == *expected => bytes,
                other => in_any_bundle(store.as_ref(), expected)?.ok_or_else(|| match other {
                    Some(bytes) => TrustError::OtherGenesis { found: Sha256::of(&bytes), expected: *expected },
                    None => TrustError::NoGenesis("there is no attestations/vault/0000000001.json".into()),
                })?,
            },
            Anchor::Shown => shown.clone().ok_or_else(|| TrustError::NoGenesis("there is no attestations/vault/0000000001.json".into()))?,
        };
        let vault_file = || read_original(store.as_ref(), VAULT_JSON).ok();
        let mut trust = Trust::from_genesis(&bytes, vault_file)?;
        // Which genesis is kept decides: a vault that shows a different valid one is another vault.
        if let (Anchor::Envelope(_), Some(shown)) = (anchor, &shown)
            && Trust::from_genesis(shown, || None).is_ok_and(|t| t.genesis() != trust.genesis())
        {
            let (found, expected) = (Sha256::of(shown), trust.genesis());
            return Err(TrustError::OtherGenesis { found, expected }.into());
        }
        let kept = (ChainName::vault(), 1, bytes);
        let mut vault_chain = ChainView { strays: std::mem::take(&mut reader.strays), ..ChainView::default() };
        // A rotation that is damaged or gone may still stand in a bundle; it proves itself by its signature.
        let held = OnceCell::new();
        let failed = RefCell::new(None);
        let read = || {
            vault_envelopes_in_bundles(store.as_ref()).unwrap_or_else(|e| {
                failed.replace(Some(e));
                BTreeMap::new()
            })
        };
        let held = || held.get_or_init(read);
        let salvaged = |trust: &Trust, n: u64| held().get(&n)?.iter().find_map(|e| bundled(trust, &chain, n, e)).filter(|_| n > 1);
        let mut after = 0;
        // Ascending, because a rotation decides about what follows it.
        for at in 0..reader.numbers.len() {
            let number = reader.numbers[at].sequence;
            if number - after > 1 {
                for lost in held().range(after + 1..number).map(|(n, _)| *n) {
                    if let Some(attested) = salvaged(&trust, lost) {
                        trust.learn(&attested.statement);
                        vault_chain.attested.push(attested);
                    }
                }
            }
            after = number;
            let found = reader.judge(store.as_ref(), &trust, at, |n| salvaged(&trust, n))?;
            vault_chain.voids.extend(reader.damaged.take());
            match found {
                Ok(attested) => {
                    trust.learn(&attested.statement);
                    vault_chain.attested.push(attested);
                }
                Err(void) => vault_chain.voids.push(void),
            }
        }
        // A rotation that could not be looked for may have ended a key.
        if let Some(e) = failed.take() {
            return Err(e.into());
        }
        if vault_chain.attested.first().map(Attested::sequence) != Some(1)
            && let Ok((statement, role)) = trust.accept(&kept.2, &chain, 1)
        {
            let genesis = Attested { name: first, sha256: trust.genesis(), statement, role, version: None, lock: None, from_bundle: true };
            vault_chain.attested.insert(0, genesis);
        }
        vault_chain.missing = missing(&vault_chain);
        let founded = shown.is_some() || unless_passing(in_any_bundle(store.as_ref(), &trust.genesis()))?.flatten().is_some();
        Ok(Self { store, trust, vault_chain, founded, bundles: OnceLock::new(), heads: OnceLock::new(), disposals: OnceLock::new() })
    }

    /// Where everything lies.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Who may attest what.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The chain `vault`.
    pub fn vault_chain(&self) -> &ChainView {
        &self.vault_chain
    }

    /// The chain `vault` with what was committed on it since this ledger was opened.
    pub fn vault_chain_now(&self) -> Result<ChainView, StoreError> {
        let mut view = self.vault_chain.clone();
        let mut reader = ChainReader::list(self.store.as_ref(), &ChainName::vault())?;
        let known = view.attested.iter().map(Attested::sequence).chain(view.voids.iter().map(|v| v.sequence)).max().unwrap_or(0);
        let mut trust = None;
        for at in (0..reader.numbers.len()).filter(|at| reader.numbers[*at].sequence > known).collect::<Vec<_>>() {
            let trust = trust.get_or_insert_with(|| self.trust.clone());
            match reader.judge(self.store.as_ref(), trust, at, |_| None)? {
                Ok(attested) => {
                    trust.learn(&attested.statement);
                    view.attested.push(attested);
                }
                Err(void) => view.voids.push(void),
            }
        }
        Ok(view)
    }

    /// The names of all chains that have a folder.
    pub fn chains(&self) -> Result<Vec<ChainName>, StoreError> {
        let folders = self.store.folders("attestations/")?;
        let mut names: Vec<ChainName> = folders.iter().filter_map(|folder| ChainName::of_object(folder)).collect();
        names.sort();
        Ok(names)
    }

    /// Whether the place holds anything of the vault's genesis, and not the kept copy alone: an empty directory, as of a
    /// share that is not mounted, does not, and nothing must be written there.
    pub fn is_founded(&self) -> bool {
        self.founded
    }

    /// The names of all chains that have a folder, or had one when the newest checkpoint was made.
    pub fn known_chains(&self) -> Result<Vec<ChainName>, StoreError> {
        let mut names = self.chains()?;
        names.extend(self.checkpointed_heads()?.keys().cloned());
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Every envelope that bundles hold.
    pub(super) fn bundles(&self) -> Result<&BundleMap, StoreError> {
        if let Some(bundles) = self.bundles.get() {
            return Ok(bundles);
        }
        let loaded = self.load_bundles(None)?;
        Ok(self.bundles.get_or_init(|| loaded))
    }

    /// How far the newest checkpoint saw each chain reach: a tail cut off below that is seen, and not written over.
    pub(super) fn checkpointed_heads(&self) -> Result<&HashMap<ChainName, u64>, StoreError> {
        if let Some(heads) = self.heads.get() {
            return Ok(heads);
        }
        let mut heads = HashMap::new();
        if let Some(mut reader) = unless_passing(ChainReader::list(self.store.as_ref(), &ChainName::checkpoint()))? {
            for at in (0..reader.numbers.len()).rev() {
                let judged = unless_passing(reader.judge(self.store.as_ref(), &self.trust, at, |_| None))?;
                let details = judged.and_then(Result::ok).and_then(|a| a.statement.predicate.details::<CheckpointDetails>().ok());
                if let Some(details) = details {
                    heads = details.heads.into_iter().map(|h| (h.chain, h.sequence)).collect();
                    break;
                }
            }
        }
        Ok(self.heads.get_or_init(|| heads))
    }

    /// Every envelope of every attested bundle, from the newest checkpoint down; of one chain alone, if one is named.
    pub(super) fn load_bundles(&self, only: Option<&ChainName>) -> Result<BundleMap, StoreError> {
        let mut map = BundleMap::new();
        let chain = ChainName::checkpoint();
        let Some(reader) = unless_passing(ChainReader::list(self.store.as_ref(), &chain))? else { return Ok(map) };
        for Numbered { sequence: number, version, .. } in reader.numbers.iter().rev() {
            let stored = unless_passing(self.store.read(&chain.envelope(*number), version.as_deref(), MAX_ENVELOPE))?.unwrap_or_default();
            let bytes = match self.trust.accept(&stored, &chain, *number) {
                Ok(found) => Some(found),
                Err(_) => map.get(&chain).and_then(|held| held.get(number)).and_then(|b| self.trust.accept(b, &chain, *number).ok()),
            };
            let Some((statement, _)) = bytes else { continue };
            let Ok(Some(name)) = statement.predicate.details::<CheckpointDetails>().map(|d| d.bundle) else { continue };
            let Some(object) = statement.predicate.objects.iter().find(|o| o.name == name) else { continue };
            let Some(bundle) = unless_passing(self.store.read(&name, object.version.as_deref(), object.size))? else { continue };
            if Sha256::of(&bundle) != object.sha256 {
                continue;
            }
            for envelope in read_bundle(&bundle).unwrap_or_default() {
                // Those of checkpoints lead to further bundles.
                if let Some((place, sequence)) = claimed_place(&envelope)
                    && only.is_none_or(|only| *only == place || place == chain)
                {
                    map.entry(place).or_default().entry(sequence).or_insert(envelope);
                }
            }
        }
        Ok(map)
    }

    /// Further names under which the bytes of a digest were healed.
    pub fn healed_names(&self, sha256: &Sha256) -> Vec<String> {
        let heals = self.vault_chain.attested.iter().filter(|a| a.statement.kind == Kind::Heal);
        let details = heals.filter_map(|a| a.statement.predicate.details::<HealDetails>().ok());
        details.flat_map(|d| d.heals).filter(|h| h.sha256 == *sha256).map(|h| h.name).collect()
    }

    /// An object's bytes, by digest: the recorded version, any other version under its name, or where it was
    /// healed. At most `size` bytes are read.
    pub fn read_object(&self, name: &str, version: Option<&str>, sha256: &Sha256, size: u64) -> Result<Vec<u8>, StoreError> {
        let mut problem = None;
        // What is not there under its version may have been hidden, or lie in a copy with other version ids.
        let others = || self.store.list(name).unwrap_or_default().into_iter().filter(|i| i.name == name && i.version.is_some());
        let places = std::iter::once((name.to_owned(), version.map(str::to_owned)))
            .chain(std::iter::once_with(others).flatten().map(|info| (info.name, info.version)))
            .chain(std::iter::once_with(|| self.healed_names(sha256)).flatten().map(|name| (name, None)));
        for (name, version) in places {
            match self.store.read(&name, version.as_deref(), size) {
                Ok(bytes) if Sha256::of(&bytes) == *sha256 => return Ok(bytes),
                Ok(_) => {
                    let source = std::io::Error::other("its bytes are not the ones that were attested");
                    problem.get_or_insert(StoreError::Io { operation: "use", path: name.into(), source });
                }
                Err(e) => {
                    problem.get_or_insert(e);
                }
            }
        }
        Err(problem.unwrap_or_else(|| StoreError::NotFound { name: name.to_owned() }))
    }
}

/// An envelope from a bundle, if it is what belongs at that number.
pub(super) fn bundled(trust: &Trust, chain: &ChainName, sequence: u64, bytes: &[u8]) -> Option<Attested> {
    let (statement, role) = trust.accept(bytes, chain, sequence).ok()?;
    let name = chain.envelope(sequence);
    Some(Attested { name, sha256: Sha256::of(bytes), statement, role, version: None, lock: None, from_bundle: true })
}

/// The chain and number that an envelope claims, before anything is checked.
pub(super) fn claimed_place(envelope: &[u8]) -> Option<(ChainName, u64)> {
    #[derive(serde::Deserialize)]
    struct Claim {
        predicate: Place,
    }
    #[derive(serde::Deserialize)]
    struct Place {
        chain: ChainName,
        sequence: u64,
    }
    let payload = super::keys::from_base64(&super::dsse::Envelope::parse(envelope)?.payload)?;
    let Claim { predicate: Place { chain, sequence } } = serde_json::from_slice(&payload).ok()?;
    Some((chain, sequence))
}

fn in_any_bundle(store: &dyn Store, genesis: &Sha256) -> Result<Option<Vec<u8>>, StoreError> {
    for info in store.list(super::names::BUNDLES)? {
        let envelopes = store.read(&info.name, info.version.as_deref(), info.size).ok().and_then(|b| read_bundle(&b).ok());
        if let Some(found) = envelopes.unwrap_or_default().into_iter().find(|e| Sha256::of(e) == *genesis) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Envelopes that claim a place on the chain `vault`, from any bundle: before anybody but genesis is trusted.
fn vault_envelopes_in_bundles(store: &dyn Store) -> Result<BTreeMap<u64, Vec<Vec<u8>>>, StoreError> {
    let mut out: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    for info in unless_passing(store.list(super::names::BUNDLES))?.unwrap_or_default() {
        let bundle = unless_passing(store.read(&info.name, info.version.as_deref(), info.size))?;
        let envelopes = bundle.and_then(|b| read_bundle(&b).ok());
        for envelope in envelopes.unwrap_or_default() {
            if let Some((chain, sequence)) = claimed_place(&envelope)
                && chain == ChainName::vault()
            {
                out.entry(sequence).or_default().push(envelope);
            }
        }
    }
    Ok(out)
}

/// What was read, or nothing where it cannot be read at all; what fails for a while only is an error: to go on as if it
/// were not there would mean to trust an ended key, or to write over a tail that somebody cut off.
fn unless_passing<T>(read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(StoreError::Azure(e)) if e.passing() => Err(StoreError::Azure(e)),
        Err(_) => Ok(None),
    }
}

/// Missing numbers, as many as anybody reads.
pub(super) fn missing(view: &ChainView) -> Vec<u64> {
    let mut there: BTreeMap<u64, ()> = view.attested.iter().filter(|a| !a.from_bundle).map(|a| (a.sequence(), ())).collect();
    there.extend(view.voids.iter().map(|v| (v.sequence, ())));
    let head = view.attested.last().map_or(0, Attested::sequence);
    (1..=head).filter(|n| !there.contains_key(n)).take(MOST_MISSING).collect()
}

/// The oldest version of an object that is known by its name alone.
fn read_original(store: &dyn Store, name: &str) -> Result<Vec<u8>, StoreError> {
    let info = store.head(name)?.ok_or_else(|| StoreError::NotFound { name: name.to_owned() })?;
    store.read(name, info.version.as_deref(), MAX_ENVELOPE)
}
