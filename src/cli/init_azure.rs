//! Where a new vault lies: what `init` writes into the policy's `vault`.

use clap::Args;

use super::exit::{CliError, Exit};
use crate::vault::names::Container;

#[derive(Args)]
pub struct PlaceArgs {
    /// A storage account, by name or by its Blob endpoint, instead of a directory
    #[arg(long, value_name = "ACCOUNT|URL")]
    azure: Option<String>,
    /// As whom, in the policy's form: `sas: { env: NAME }`, `azure_cli: {}`, `client_secret: { … }` and so on
    #[arg(long, value_name = "YAML", default_value = "managed_identity: {}", requires = "azure")]
    azure_credential: String,
    /// The tenant of the credential, where it needs one
    #[arg(long, value_name = "TENANT", requires = "azure")]
    azure_tenant: Option<String>,
    /// Another container for one of the four; repeatable
    #[arg(long, value_name = "CONTAINER=NAME", requires = "azure")]
    azure_container: Vec<String>,
    /// Locks that can be lifted: for trials
    #[arg(long, conflicts_with = "no_locks")]
    unlocked: bool,
    /// No locks at all, as on an emulator: every attestation and report says so
    #[arg(long)]
    no_locks: bool,
}

impl PlaceArgs {
    /// `mode` of the policy's `lock`.
    pub fn lock_mode(&self) -> &'static str {
        match (self.unlocked, self.no_locks) {
            (true, _) => "unlocked",
            (_, true) => "none",
            _ => "locked",
        }
    }

    /// The lines under `vault:` that say where.
    pub fn yaml(&self) -> Result<String, CliError> {
        let usage = |message: String| CliError::new(Exit::Usage, message);
        let Some(azure) = &self.azure else { return Ok("  local: { path: ./vault }".into()) };
        let mut containers = Vec::new();
        for text in &self.azure_container {
            let (logical, real) = text.split_once('=').ok_or_else(|| usage(format!("--azure-container {text}: write CONTAINER=NAME")))?;
            if !Container::ALL.iter().any(|c| c.as_str() == logical) {
                let all: Vec<&str> = Container::ALL.iter().map(|c| c.as_str()).collect();
                return Err(usage(format!("--azure-container: {logical:?} is not one of {}", all.join(", "))));
            }
            containers.push(format!("{logical}: {real}"));
        }
        vault_yaml(azure, &self.azure_credential, self.azure_tenant.as_deref(), &containers)
    }
}

/// The lines under `vault:` of an account, by its name or its Blob endpoint.
pub fn vault_yaml(azure: &str, credential: &str, tenant: Option<&str>, containers: &[String]) -> Result<String, CliError> {
    let usage = |message: String| CliError::new(Exit::Usage, message);
    let mut lines = vec!["  azure:".to_owned()];
    if azure.contains("://") {
        let url = crate::http::endpoint(azure).map_err(usage)?;
        if url.query().is_some() {
            return Err(usage("the endpoint has a query: a signature does not belong into a policy".into())
                .hint("put the SAS into an environment variable or a file, and say --azure-credential 'sas: { env: NAME }'"));
        }
        lines.push(format!("    account: {}", account_of(&url).ok_or_else(|| usage(format!("{azure} names no storage account")))?));
        lines.push(format!("    endpoint: {}", azure.trim_end_matches('/')));
    } else {
        lines.push(format!("    account: {azure}"));
    }
    if !containers.is_empty() {
        lines.push(format!("    containers: {{ {} }}", containers.join(", ")));
    }
    lines.extend(tenant.map(|tenant| format!("    tenant: {tenant}")));
    lines.push(format!("    credential: {{ {credential} }}"));
    Ok(lines.join("\n"))
}

/// The account that a Blob endpoint is of: an emulator has it in the path, the service in the host.
fn account_of(url: &url::Url) -> Option<String> {
    let in_path = url.path_segments().and_then(|mut parts| parts.next().map(str::to_owned)).filter(|part| !part.is_empty());
    let in_host = || url.host_str()?.split('.').next().map(str::to_owned);
    if crate::http::is_loopback(url) { in_path } else { in_host() }
}
