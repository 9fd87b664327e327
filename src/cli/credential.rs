//! From what a policy says of a credential to one that can be used: secrets come from where it says.

use std::fs;

use super::exit::{CliError, Exit};
use crate::http::{Assertion, Credential, HttpError, ManagedIdentity, Secret};
use crate::policy::{CredentialKind, CredentialPolicy, LoadedPolicy, WorkloadIdentityPolicy};

fn usage(message: impl Into<String>) -> CliError {
    CliError::new(Exit::Usage, message)
}

/// As whom a tenant is read.
pub fn of_tenant(policy: &LoadedPolicy, said: &CredentialPolicy) -> Result<Credential, CliError> {
    match said.kinds()[..] {
        [kind] => of_kind(policy, kind)?.ok_or_else(|| usage("a shared access signature opens no tenant")),
        _ => Err(usage("the credential is not of exactly one kind")),
    }
}

/// As whom, of any kind that gives tokens; `None` of a shared access signature, which gives none.
pub fn of_kind(policy: &LoadedPolicy, kind: CredentialKind<'_>) -> Result<Option<Credential>, CliError> {
    Ok(Some(match kind {
        CredentialKind::ManagedIdentity(said) => {
            let said = said.value.clone();
            Credential::ManagedIdentity(match (said.client_id, said.object_id, said.resource_id) {
                (Some(id), ..) => ManagedIdentity::ClientId(id),
                (_, Some(id), _) => ManagedIdentity::ObjectId(id),
                (.., Some(id)) => ManagedIdentity::ResourceId(id),
                (None, None, None) => ManagedIdentity::System,
            })
        }
        CredentialKind::WorkloadIdentity(said) => {
            let WorkloadIdentityPolicy { client_id, token_file } = &said.value;
            let client_id = client_id.clone().map_or_else(|| of_pod("AZURE_CLIENT_ID", "the client id"), Ok)?;
            let file = match token_file {
                Some(file) => policy.path(file),
                None => of_pod("AZURE_FEDERATED_TOKEN_FILE", "the file with the service account's token")?.into(),
            };
            Credential::WorkloadIdentity { client_id, file }
        }
        CredentialKind::ClientSecret(said) => {
            let said = &said.value;
            let place = (said.secret_env.as_deref(), said.secret_file.as_deref());
            let hint = "put the secret of the application registration there, readable by this user alone";
            let secret = secret(policy, "the client's secret", place, hint)?;
            Credential::ClientSecret { client_id: said.client_id.clone(), secret }
        }
        CredentialKind::ClientCertificate(said) => {
            Credential::ClientCertificate { client_id: said.value.client_id.clone(), file: policy.path(&said.value.certificate_file) }
        }
        CredentialKind::ClientAssertion(said) => {
            let said = &said.value;
            let assertion = match &said.assertion_file {
                Some(file) => Assertion::File(policy.path(file)),
                None => Assertion::Text(secret(policy, "the assertion", (said.assertion_env.as_deref(), None), "")?),
            };
            Credential::ClientAssertion { client_id: said.client_id.clone(), assertion }
        }
        CredentialKind::AzureCli(_) => Credential::AzureCli,
        CredentialKind::Sas(_) => return Ok(None),
    }))
}

/// What the webhook of Azure Workload Identity sets.
fn of_pod(variable: &str, what: &str) -> Result<String, CliError> {
    std::env::var(variable).ok().filter(|value| !value.is_empty()).ok_or_else(|| {
        usage(format!("the environment variable {variable}, which gives {what} of workload_identity, is not set")).hint(
            "a pod with the label azure.workload.identity/use: \"true\" has it; elsewhere say `client_id` and `token_file` in the policy",
        )
    })
}

/// A secret from an environment variable or a file; `hint` is for a file that cannot be read.
pub fn secret(policy: &LoadedPolicy, what: &str, (variable, file): (Option<&str>, Option<&str>), hint: &str) -> Result<Secret, CliError> {
    let (text, place) = match (variable, file) {
        (Some(name), _) => {
            let text = std::env::var(name).map_err(|_| {
                usage(format!("the environment variable {name}, which holds {what}, is not set"))
                    .hint("set it for this process; a service gets it from its unit or secret store")
            })?;
            (text, format!("the environment variable {name}"))
        }
        (None, Some(file)) => {
            let path = policy.path(file);
            let text =
                fs::read_to_string(&path).map_err(|e| usage(format!("cannot read {what} from {}: {e}", path.display())).hint(hint))?;
            (text, format!("the file {file}"))
        }
        (None, None) => return Err(usage(format!("the credential does not say where {what} is"))),
    };
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() { Err(usage(format!("{what} is empty: it should stand in {place}"))) } else { Ok(Secret::new(text)) }
}

/// A credential that cannot be used on this machine; nothing was asked yet.
pub fn unfit(error: HttpError) -> CliError {
    match error {
        HttpError::Credential { what, hint } => usage(what).hint(hint),
        other => CliError::new(Exit::Failed, other.to_string()),
    }
}
