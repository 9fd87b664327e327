//! What every command needs: the policy, the vault, the keys.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Global;
use super::exit::{CliError, Exit};
use super::output::Output;
use super::signals::Signals;
use crate::policy::{LoadedPolicy, LocalVault};
use crate::store::{LocalStore, LocalStoreOptions, Sha256, Store, SystemClock};
use crate::vault::attestation::Agent;
use crate::vault::keys::{Identities, Recipients, Role, Signer};
use crate::vault::{Anchor, Ledger, Trust, TrustError, Writer};

/// Where the local cache is kept unless the policy says.
const STATE_DIR: &str = ".backstop";

/// The global options, and how to answer.
pub struct Context {
    pub global: Global,
    pub output: Output,
}

/// This program on this host.
pub fn agent() -> Agent {
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let seed = format!("backstop host {} {node}", machine.trim());
    Agent { version: env!("CARGO_PKG_VERSION").into(), host_id: Sha256::of(seed.as_bytes()).to_string()[..32].to_owned() }
}

/// From now on a process that is interrupted first removes what it restored for a while: it is what the vault seals.
pub fn leave_nothing_behind() -> Result<(), CliError> {
    let mut signals = Signals::hear()?;
    std::thread::spawn(move || {
        signals.next();
        crate::restore::end_scratch();
        std::process::exit(130);
    });
    Ok(())
}

/// Worker threads: as many as cores.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).min(16)
}

impl Context {
    /// A process that the agent started ends when the agent is gone.
    pub fn end_with_the_agent(&self) {
        if self.global.run_by_agent.is_some() {
            // Without the kernel's help it ends by itself, later.
            let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
        }
    }

    /// The policy, with its warnings told.
    pub fn policy(&self) -> Result<LoadedPolicy, CliError> {
        let policy = match &self.global.run_by_agent {
            // Paths in it are relative to where it was first.
            Some(copy) => {
                let read = fs::read(copy);
                let bytes = read.map_err(|source| crate::policy::PolicyError::Read { file: copy.clone(), source })?;
                LoadedPolicy::from_bytes(&self.global.policy, bytes)?
            }
            None => LoadedPolicy::load(&self.global.policy)?,
        };
        for warning in &policy.warnings {
            let place = warning.place.map_or_else(String::new, |(l, c)| format!(":{l}:{c}"));
            self.output.note(format!("{}{place}: {warning}", policy.file.display()));
        }
        Ok(policy)
    }

    /// The store that a policy names.
    pub fn store(policy: &LoadedPolicy) -> Result<Arc<dyn Store>, CliError> {
        super::store::open(policy)
    }

    /// What trust in the vault starts from.
    pub fn anchor(&self, policy: Option<&LoadedPolicy>) -> Result<Anchor, CliError> {
        if let Some(text) = &self.global.genesis {
            let digest = text.parse().map_err(|e| CliError::new(Exit::Usage, format!("--genesis: {e}")))?;
            return Ok(Anchor::Digest(digest));
        }
        let file = policy.and_then(|p| p.policy.vault.genesis_file.as_ref().map(|f| p.path(&f.value)));
        match file {
            Some(file) => match fs::read(&file) {
                Ok(bytes) => match Trust::from_genesis(&bytes, || None) {
                    Ok(_) => Ok(Anchor::Envelope(bytes)),
                    Err(e) => {
                        // The copy is wrong, and not the vault.
                        let why = if let TrustError::NoGenesis(why) = e { why } else { e.to_string() };
                        let message = format!("vault.genesis_file {} is no genesis: {why}", file.display());
                        Err(CliError::new(Exit::Usage, message)
                            .hint("copy back the one that `init` made, or say --genesis DIGEST as it printed it"))
                    }
                },
                Err(e) => {
                    let message = format!("cannot read vault.genesis_file {}: {e}", file.display());
                    Err(CliError::new(Exit::Usage, message)
                        .hint("it holds what trust starts from; copy it back, or say --genesis DIGEST as `init` printed it"))
                }
            },
            None => Ok(Anchor::Shown),
        }
    }

    /// The vault of a policy in an opened store.
    pub fn ledger_of(&self, policy: &LoadedPolicy, store: Arc<dyn Store>) -> Result<Ledger, CliError> {
        Ok(Ledger::open(store, &self.anchor(Some(policy))?)?)
    }

    /// The vault, to read: from `--vault`, else from the policy.
    pub fn ledger(&self) -> Result<(Ledger, Option<LoadedPolicy>), CliError> {
        if let Some(dir) = &self.global.vault {
            let store: Arc<dyn Store> = Arc::new(LocalStore::open(dir, LocalStoreOptions::default())?);
            let anchor = self.anchor(None)?;
            let ledger = Ledger::open(store, &anchor)?;
            if matches!(anchor, Anchor::Shown) {
                self.output.note(format!("trusting the genesis that the vault shows: {}", ledger.trust().genesis()));
            }
            return Ok((ledger, None));
        }
        let policy = self.policy()?;
        let ledger = self.ledger_of(&policy, Self::store(&policy)?)?;
        Ok((ledger, Some(policy)))
    }

    /// The vault, to write what the agent attests.
    pub fn writer(&self) -> Result<(Writer, LoadedPolicy), CliError> {
        let (writer, policy) = self.writer_with(None)?;
        let own = writer.ledger.trust().signers().find(|(entry, valid)| entry.keyid == writer.signer.key_id() && *valid);
        if let Some((entry, _)) = own.filter(|(entry, _)| entry.role != Role::Agent) {
            let message =
                format!("signing.key_file is the key of the vault's {}, and what it attested of a backup would be void", entry.role);
            return Err(CliError::new(Exit::Usage, message)
                .hint("name the agent's key there, as `init` made it in keys/agent.key; `backstop key ls` shows who has which role"));
        }
        Ok((writer, policy))
    }

    /// The vault, to write what only an operator attests.
    pub fn operator(&self, key: &Path) -> Result<(Writer, LoadedPolicy), CliError> {
        let (writer, policy) = self.writer_with(Some(key))?;
        if writer.ledger.trust().operator_at(&writer.signer.key_id(), u64::MAX).is_none() {
            let message = format!("{} is not an operator's key, and this is an operator's decision", key.display());
            return Err(CliError::new(Exit::Usage, message).hint("`backstop key ls` shows who has which role"));
        }
        Ok((writer, policy))
    }

    /// The vault, to write what a tester attests. Unless a key is given, the policy names it.
    pub fn tester(&self, key: Option<&Path>) -> Result<(Writer, LoadedPolicy), CliError> {
        let said = match key {
            Some(key) => key.to_owned(),
            None => {
                let policy = self.policy()?;
                let file = policy.policy.signing.tester_key_file.as_ref().map(|f| policy.path(&f.value));
                file.ok_or_else(|| {
                    CliError::new(Exit::Usage, "this is attested by a tester, and no tester's key was given")
                        .hint("say --key FILE, or signing.tester_key_file in the policy; `init` made one in keys/tester.key")
                })?
            }
        };
        let (writer, policy) = self.writer_with(Some(&said))?;
        let role = writer.ledger.trust().signers().find(|(entry, valid)| entry.keyid == writer.signer.key_id() && *valid);
        if role.is_none_or(|(entry, _)| entry.role == Role::Agent) {
            let message = format!("{} is the agent's key, and who backs up must not attest that it restores", said.display());
            return Err(CliError::new(Exit::Usage, message)
                .hint("give the tester's key; `backstop key ls` shows who has which role, `key add-signer --role tester` names one"));
        }
        Ok((writer, policy))
    }

    fn writer_with(&self, key: Option<&Path>) -> Result<(Writer, LoadedPolicy), CliError> {
        if self.global.vault.is_some() {
            return Err(CliError::new(Exit::Usage, "--vault is for reading; what writes needs a policy"));
        }
        let policy = self.policy()?;
        let store = Self::store(&policy)?;
        let ledger = Ledger::open(store, &self.anchor(Some(&policy))?)?;
        if !ledger.is_founded() {
            let message =
                format!("{} holds nothing of this vault, not even its genesis: nothing is written there", ledger.store().describe());
            return Err(CliError::new(Exit::Damage, message).hint(
                "is the disk or share mounted, and is it the right place? If the vault was lost, `backstop init` founds another one",
            ));
        }
        let p = &policy.policy;
        let key = key.map_or_else(|| policy.path(&p.signing.key_file.value), Path::to_owned);
        let signer = Signer::load(&key)?;
        if !ledger.trust().signers().any(|(entry, valid)| entry.keyid == signer.key_id() && valid) {
            let message = format!("the signing key {} is not, or no longer, a signer of this vault", key.display());
            return Err(
                CliError::new(Exit::Usage, message).hint("`backstop key ls` shows the signers; what another key attests would be void")
            );
        }
        let texts: Vec<String> = p.encryption.recipients.value.iter().map(|r| r.value.clone()).collect();
        let writer = Writer {
            ledger,
            signer,
            agent: agent(),
            clock: Arc::new(SystemClock),
            policy_sha256: policy.sha256(),
            retention: p.retention(),
            grace: p.vault.lock.grace,
            recipients: Recipients::parse(&texts)?,
            lock_mode: p.vault.lock.mode,
        };
        Ok((writer, policy))
    }

    /// The identities at hand; an error when there are none.
    pub fn identities(&self, ledger: &Ledger) -> Result<Identities, CliError> {
        let identities = Identities::load(&self.global.identity)?;
        if identities.is_empty() {
            let recipients = ledger.trust().recipients().join("\n    ");
            let message = "this opens sealed data, and no identity was given";
            return Err(CliError::new(Exit::Usage, message)
                .hint(format!("give one with --identity FILE or BACKSTOP_IDENTITY; the vault is sealed to\n    {recipients}")));
        }
        Ok(identities)
    }

    /// Where the local cache is kept.
    pub fn state_dir(policy: &LoadedPolicy) -> PathBuf {
        policy.policy.state.as_ref().map_or_else(|| policy.path(STATE_DIR), |s| policy.path(&s.value))
    }
}

/// zstd's level, where a policy says one.
pub fn level(policy: &LoadedPolicy) -> Option<i32> {
    policy.policy.vault.compression_level.as_ref().map(|l| l.value)
}

/// How a policy's local store behaves.
pub fn store_options(local: &LocalVault) -> LocalStoreOptions {
    let containers = local.containers.iter().map(|(c, d)| (c.as_str().to_owned(), d.clone())).collect();
    LocalStoreOptions { immutable_flag: local.immutable_flag, containers, ..LocalStoreOptions::default() }
}
