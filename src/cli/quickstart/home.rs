//! The directory of a quickstart: what is in it, and how its tenant's history is taken up again.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::open_vault;
use crate::cli::context::Context;
use crate::cli::exit::{CliError, Exit};
use crate::cli::{init, store};
use crate::policy::LoadedPolicy;
use crate::sample::{Deed, Options, SampleError, Server, Tenant, serve};
use crate::store::{Sha256, Store};
use crate::vault::{Anchor, Ledger};

/// The files of a quickstart, relative to its directory.
pub(super) const POLICY: &str = "backstop.yaml";
pub(super) const IDENTITY: &str = "keys/identity-1.txt";
const STORY: &str = "quickstart.json";
const GENESIS: &str = "keys/genesis.json";
const SECRET: &str = "keys/tenant-secret.txt";
const TEMPLATE: &str = include_str!("../../../policies/quickstart.yaml");
/// Evidence to begin with.
const EVIDENCE: [(&str, &str); 2] = [
    (
        "access-review-decisions.json",
        include_str!("../../../sample/evidence/access-reviews/accessreviewinstance-list-decisions.1.response.json"),
    ),
    ("application-credentials.csv", include_str!("../../../sample/evidence/investigations/2021-07-application-credentials.csv")),
];
/// Where the tenant listens if it can.
const PORT: u16 = 8480;

/// What a quickstart has done, so that its tenant can be made again.
#[derive(Debug, Serialize, Deserialize)]
struct StoryFile {
    users: usize,
    seed: u64,
    start: Timestamp,
    port: u16,
    happened: Vec<Happened>,
    /// Where the vault is, as the policy says.
    #[serde(default = "on_this_machine")]
    vault: String,
    /// How it locks.
    #[serde(default = "locked")]
    lock: String,
}

fn on_this_machine() -> String {
    "  local: { path: ./vault }".into()
}

fn locked() -> String {
    "locked".into()
}

/// Something that was done to the tenant.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Happened {
    at: Timestamp,
    what: What,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Changes(usize),
    Mischief,
}

/// The directory of a quickstart; the process works in it.
pub(super) struct Home {
    story: StoryFile,
}

impl Home {
    /// Opens or begins a quickstart, and changes into its directory.
    pub fn open(dir: &Path, users: usize) -> Result<Self, CliError> {
        let failed = |what: &str, e: std::io::Error| {
            CliError::new(Exit::Failed, format!("cannot {what} {}: {e}", dir.display())).hint("choose another directory with --dir")
        };
        if dir.exists() && !dir.is_dir() {
            return Err(CliError::new(Exit::Usage, format!("{} is not a directory", dir.display())).hint("choose another --dir"));
        }
        fs::create_dir_all(dir).map_err(|e| failed("make the directory", e))?;
        let story = dir.join(STORY);
        let begun = match fs::read(&story) {
            Ok(bytes) => Some(serde_json::from_slice::<StoryFile>(&bytes).map_err(|e| {
                CliError::new(Exit::Usage, format!("{} cannot be read: {e}", story.display())).hint("choose another --dir")
            })?),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(failed("read", e)),
        };
        let begun = match begun {
            Some(begun) => begun,
            None => {
                let mut entries = fs::read_dir(dir).map_err(|e| failed("read", e))?;
                if entries.next().is_some() {
                    return Err(CliError::new(Exit::Usage, format!("{} is not empty, and not of an earlier quickstart", dir.display()))
                        .hint("choose an empty or new directory with --dir"));
                }
                StoryFile {
                    users: users.max(20),
                    seed: 1,
                    start: Timestamp::now(),
                    port: PORT,
                    happened: Vec::new(),
                    vault: on_this_machine(),
                    lock: locked(),
                }
            }
        };
        std::env::set_current_dir(dir).map_err(|e| failed("change into", e))?;
        let home = Self { story: begun };
        home.save().map_err(|mut e| {
            e.causes.insert(0, format!("cannot write into {}", dir.display()));
            e.hint("choose another directory with --dir")
        })?;
        Ok(home)
    }

    fn save(&self) -> Result<(), CliError> {
        let text = serde_json::to_vec_pretty(&self.story).map_err(|e| CliError::new(Exit::Failed, e.to_string()))?;
        init::write_new(Path::new(STORY), &text, 0o644)
    }

    /// Lets the vault be somewhere else; said before it is made.
    pub fn place(&mut self, vault: String, lock: String) -> Result<(), CliError> {
        (self.story.vault, self.story.lock) = (vault, lock);
        self.save()
    }

    /// Whether the vault is in a storage account.
    pub fn in_azure(&self) -> bool {
        self.story.vault != on_this_machine()
    }

    /// Whether the vault has no locks.
    pub fn without_locks(&self) -> bool {
        self.story.lock == "none"
    }

    /// Whether keys and vault are there.
    pub fn is_initialised(&self) -> bool {
        Path::new(GENESIS).exists()
    }

    /// A path in the directory, absolute.
    pub fn path(&self, relative: &str) -> PathBuf {
        std::env::current_dir().unwrap_or_default().join(relative)
    }

    /// How many users the tenant began with.
    pub fn users(&self) -> usize {
        self.story.users
    }

    /// Makes the tenant as it was, and lets it answer where it did, or where there is room.
    pub fn tenant(&mut self, port: Option<u16>) -> Result<(Arc<Tenant>, Server), CliError> {
        let options = Options { seed: self.story.seed, users: self.story.users, start: Some(self.story.start), ..Options::default() };
        let tenant = Tenant::new(options);
        let nanos = |at: Timestamp| i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX);
        for Happened { at, what } in &self.story.happened {
            tenant.clock().freeze(true);
            tenant.clock().set(nanos(*at));
            match what {
                What::Changes(count) => drop(tenant.change(*count)),
                What::Mischief => drop(tenant.mischief()),
            }
        }
        tenant.clock().freeze(false);
        tenant.clock().set(nanos(Timestamp::now()));
        let tenant = Arc::new(tenant);
        let listen = |port: u16| serve(tenant.clone(), SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let server = match (listen(port.unwrap_or(self.story.port)), port) {
            (Err(SampleError::PortTaken { .. }), None) => listen(0),
            (result, _) => result,
        };
        let server = server.map_err(|e| match e {
            SampleError::PortTaken { .. } => CliError::new(Exit::Usage, e.to_string()).hint("choose another --port, or none"),
            other => CliError::new(Exit::Failed, other.to_string()),
        })?;
        self.story.port = server.addr().port();
        self.save()?;
        Ok((tenant, server))
    }

    /// Makes keys, policy, evidence and vault, whatever of them is missing.
    pub fn initialise(&self, context: &Context, url: &str, tenant: &Tenant) -> Result<(), CliError> {
        let failed = |what: &str, e: std::io::Error| CliError::new(Exit::Failed, format!("cannot write {what}: {e}"));
        fs::create_dir_all("compliance").map_err(|e| failed("compliance", e))?;
        for (name, text) in EVIDENCE {
            let path = Path::new("compliance").join(name);
            if !path.exists() {
                init::write_new(&path, text.as_bytes(), 0o644)?;
            }
        }
        let options = tenant.options();
        let filled = |recipients: &str| {
            TEMPLATE
                .replace("@RECIPIENTS@", recipients)
                .replace("@VAULT@", &self.story.vault)
                .replace("@LOCK@", &self.story.lock)
                .replace("@URL@", url)
                .replace("@TENANT@", &options.tenant)
                .replace("@CLIENT@", &options.client_id)
        };
        if !self.is_initialised() {
            init::create(context, Path::new("."), |recipients| Ok(filled(&recipients.join(", "))))?;
        }
        if !fs::read_to_string(POLICY).is_ok_and(|text| text.contains(&format!("endpoint: {url}\n"))) {
            // The tenant answers elsewhere than the last time.
            let recipients =
                crate::vault::keys::Identities::load(&[PathBuf::from(IDENTITY), PathBuf::from("keys/identity-2.txt")])?.recipients();
            init::write_new(Path::new(POLICY), filled(&recipients.join(", ")).as_bytes(), 0o644)?;
        }
        init::write_new(Path::new(SECRET), options.client_secret.as_bytes(), 0o600)
    }

    /// Lets people change things, and notes that it happened.
    pub fn change(&mut self, tenant: &Tenant, count: usize) -> Result<Vec<Deed>, CliError> {
        self.happen(tenant, What::Changes(count), |tenant| tenant.change(count))
    }

    /// Lets an intruder in, and notes that it happened.
    pub fn mischief(&mut self, tenant: &Tenant) -> Result<Vec<Deed>, CliError> {
        self.happen(tenant, What::Mischief, Tenant::mischief)
    }

    fn happen(&mut self, tenant: &Tenant, what: What, act: impl Fn(&Tenant) -> Vec<Deed>) -> Result<Vec<Deed>, CliError> {
        tenant.clock().freeze(true);
        let at = Timestamp::from_nanosecond(i128::from(tenant.now())).unwrap_or_else(|_| Timestamp::now());
        self.story.happened.push(Happened { at, what });
        // Noted first: if the process ends between, the next run's tenant has it all the same.
        self.save()?;
        let deeds = act(tenant);
        tenant.clock().freeze(false);
        Ok(deeds)
    }

    /// The digest of the vault's genesis.
    pub fn genesis(&self) -> Result<String, CliError> {
        Ok(Sha256::of(&self.genesis_envelope()?).to_string())
    }

    fn genesis_envelope(&self) -> Result<Vec<u8>, CliError> {
        fs::read(GENESIS).map_err(|e| CliError::new(Exit::Failed, format!("cannot read {GENESIS}: {e}")))
    }

    /// The vault, to read.
    pub fn ledger(&self) -> Result<Ledger, CliError> {
        if self.in_azure() {
            return Ok(Ledger::open(self.store()?, &Anchor::Envelope(self.genesis_envelope()?))?);
        }
        open_vault(Path::new("vault"), Some(self.genesis_envelope()?))
    }

    /// Where the vault's objects are.
    pub fn store(&self) -> Result<Arc<dyn Store>, CliError> {
        store::open(&LoadedPolicy::load(Path::new(POLICY))?)
    }

    /// A damaged copy of the vault, to read.
    pub fn damaged(&self) -> Result<Ledger, CliError> {
        open_vault(Path::new("damaged"), Some(self.genesis_envelope()?))
    }

    /// Takes away what an earlier run left under this name.
    pub fn clear(&self, name: &str) -> Result<(), CliError> {
        match fs::remove_dir_all(name) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(CliError::new(Exit::Failed, format!("cannot remove {name} of an earlier quickstart: {e}")))
            }
            _ => Ok(()),
        }
    }
}
