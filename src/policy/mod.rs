//! The policy: what should happen, as one YAML file.
//!
//! It promises that whatever is wrong is said with line, column and, where there is one, the nearest right
//! spelling. No secret is ever in a policy. What this version cannot do is refused, not ignored.

mod agent;
mod azure;
mod check;
mod check_agent;
mod check_azure;
mod check_credential;
mod check_tenant;
mod credential;
mod model;
mod notify;
mod problem;
mod schedule;
mod tenant;

use std::path::{Path, PathBuf};

use crate::store::Sha256;

pub use agent::{AddressPolicy, AgentPolicy};
pub use azure::AzureVault;
pub use check::{DEFAULT_SETTLE_SECONDS, check};
pub use credential::{
    AzureCliPolicy, ClientAssertionPolicy, ClientCertificatePolicy, ClientSecretPolicy, CredentialKind, CredentialPolicy,
    ManagedIdentityPolicy, SasPolicy, StoreCredentialPolicy, WorkloadIdentityPolicy,
};
pub use model::{
    Encryption, FilesPolicy, ImportPolicy, JobPolicy, LocalVault, LockPolicy, NotInThisVersion, Objectives, Policy, Signing, SourcePolicy,
    StreamPolicy, VaultPolicy, duration, parse_duration, schema,
};
pub use notify::{
    AlertSeverity, ChatPolicy, Contact, EmailPolicy, FilePolicy, NotifyPolicy, PagerPolicy, Security, SyslogPolicy, WebhookPolicy, contacts,
};
pub use problem::{PolicyError, Problem, Severity};
pub use schedule::{Timetable, next_due};
pub use tenant::{ArmPolicy, GraphPolicy, LogPolicy, SubscriptionsPolicy, TenantAccess};

/// A policy as it was read from a file.
#[derive(Debug, Clone)]
pub struct LoadedPolicy {
    /// The file.
    pub file: PathBuf,
    /// Its bytes, which attestations name by digest.
    pub bytes: Vec<u8>,
    /// What it says.
    pub policy: Policy,
    /// What should be mended but does not stop anything.
    pub warnings: Vec<Problem>,
}

impl LoadedPolicy {
    /// Reads and checks a policy.
    pub fn load(file: &Path) -> Result<Self, PolicyError> {
        let bytes = std::fs::read(file).map_err(|source| PolicyError::Read { file: file.to_owned(), source })?;
        Self::from_bytes(file, bytes)
    }

    /// Checks a policy's bytes as if they stood in `file`.
    pub fn from_bytes(file: &Path, bytes: Vec<u8>) -> Result<Self, PolicyError> {
        let invalid = |problems| PolicyError::Invalid { file: file.to_owned(), problems };
        let Ok(text) = std::str::from_utf8(&bytes) else {
            return Err(invalid(vec![Problem::general("the file is not UTF-8 text")]));
        };
        let policy = model::parse(text).map_err(|problem| invalid(vec![*problem]))?;
        let base = file.parent().unwrap_or(Path::new("")).to_owned();
        let (errors, warnings): (Vec<_>, Vec<_>) = check(&policy, text, &base).into_iter().partition(|p| p.severity == Severity::Error);
        if !errors.is_empty() {
            return Err(invalid(errors));
        }
        Ok(Self { file: file.to_owned(), bytes, policy, warnings })
    }

    /// The digest that attestations name.
    pub fn sha256(&self) -> Sha256 {
        Sha256::of(&self.bytes)
    }

    /// The digest of what agents that share a vault must agree on: everything but where each of them keeps its state,
    /// what it signs with, and where it listens. Comments and the order of parts do not matter.
    pub fn shared_sha256(&self) -> Sha256 {
        let text = String::from_utf8_lossy(&self.bytes);
        let mut parts: Vec<String> = Vec::new();
        for line in text.lines().map(str::trim_end).filter(|l| !l.is_empty() && !l.trim_start().starts_with('#')) {
            match parts.last_mut() {
                Some(part) if line.starts_with([' ', '-']) => {
                    part.push('\n');
                    part.push_str(line);
                }
                _ => parts.push(line.to_owned()),
            }
        }
        let own = ["state:", "agent:", "signing:"];
        parts.retain(|part| !own.iter().any(|name| part.starts_with(name)));
        parts.sort_unstable();
        Sha256::of(parts.join("\n").as_bytes())
    }

    /// A path of the policy, which is relative to the policy's own directory.
    pub fn path(&self, text: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(text.strip_prefix("./").unwrap_or(text))
    }
}
