//! How the agent shows who it is: exactly what a policy says, never a chain of attempts.

use std::fmt;
use std::path::PathBuf;

/// A secret that no debug output shows.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for whoever it is shown to.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// How the agent shows who it is.
#[derive(Debug, Clone)]
pub enum Credential {
    /// The secret of an application registration.
    ClientSecret {
        /// The application's id.
        client_id: String,
        /// Its secret.
        secret: Secret,
    },
    /// A certificate of an application registration.
    ClientCertificate {
        /// The application's id.
        client_id: String,
        /// A PEM file with the certificate and its RSA private key; read at every renewal.
        file: PathBuf,
    },
    /// A token of another issuer that the application registration trusts.
    ClientAssertion {
        /// The application's id.
        client_id: String,
        /// The token.
        assertion: Assertion,
    },
    /// The service account of a pod in Kubernetes.
    WorkloadIdentity {
        /// The application's or the user-assigned identity's client id.
        client_id: String,
        /// The service account's token; read at every renewal.
        file: PathBuf,
    },
    /// The identity of the machine in Azure.
    ManagedIdentity(ManagedIdentity),
    /// Whoever is signed in to the Azure CLI.
    AzureCli,
}

/// Where another issuer's token is.
#[derive(Debug, Clone)]
pub enum Assertion {
    /// In a file, read at every renewal.
    File(PathBuf),
    /// The token itself.
    Text(Secret),
}

/// Which identity of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManagedIdentity {
    /// The machine's own.
    System,
    /// A user-assigned one, by its client id.
    ClientId(String),
    /// A user-assigned one, by its object id.
    ObjectId(String),
    /// A user-assigned one, by its resource id.
    ResourceId(String),
}

impl Credential {
    /// The words of a policy for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ClientSecret { .. } => "client_secret",
            Self::ClientCertificate { .. } => "client_certificate",
            Self::ClientAssertion { .. } => "client_assertion",
            Self::WorkloadIdentity { .. } => "workload_identity",
            Self::ManagedIdentity(_) => "managed_identity",
            Self::AzureCli => "azure_cli",
        }
    }

    /// Whether it is worth something only in a tenant that is named.
    pub fn needs_tenant(&self) -> bool {
        !matches!(self, Self::ManagedIdentity(_) | Self::AzureCli)
    }

    /// Who asks, as an error names it.
    pub(super) fn who(&self, tenant: Option<&str>) -> String {
        let tenant = tenant.map_or(String::new(), |tenant| format!(" of tenant {tenant}"));
        match self {
            Self::ClientSecret { client_id, .. } => format!("the client {client_id}{tenant}"),
            Self::ClientCertificate { client_id, file } => {
                format!("the client {client_id}{tenant} with the certificate in {}", file.display())
            }
            Self::ClientAssertion { client_id, assertion: Assertion::File(file) } => {
                format!("the client {client_id}{tenant} with the assertion in {}", file.display())
            }
            Self::ClientAssertion { client_id, .. } => format!("the client {client_id}{tenant} with its assertion"),
            Self::WorkloadIdentity { client_id, file } => {
                format!("the workload identity {client_id}{tenant} with the token in {}", file.display())
            }
            Self::ManagedIdentity(identity) => identity.to_string(),
            Self::AzureCli => format!("the user who is signed in{tenant}"),
        }
    }

    /// What a person does when it is refused.
    pub(super) fn advice(&self, tenant: Option<&str>) -> String {
        match self {
            Self::ClientSecret { .. } => "put a valid secret of this client where the policy says it is".into(),
            Self::ClientCertificate { .. } => {
                "add the certificate in this file to the application registration, or put one there that it has".into()
            }
            Self::ClientAssertion { .. } | Self::WorkloadIdentity { .. } => {
                "compare issuer, subject and audience of the token with the federated credential of this client".into()
            }
            Self::ManagedIdentity(ManagedIdentity::System) => {
                "switch the system-assigned identity of this machine on, or name the user-assigned one in the policy".into()
            }
            Self::ManagedIdentity(_) => "assign this identity to the machine, or name one in the policy that it has".into(),
            Self::AzureCli => format!("sign in with `az login{}`", tenant.map_or(String::new(), |tenant| format!(" --tenant {tenant}"))),
        }
    }
}

impl fmt::Display for ManagedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("the system-assigned managed identity"),
            Self::ClientId(id) => write!(f, "the managed identity with the client id {id}"),
            Self::ObjectId(id) => write!(f, "the managed identity with the object id {id}"),
            Self::ResourceId(id) => write!(f, "the managed identity {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let credential = Credential::ClientSecret { client_id: "c".into(), secret: Secret::new("hunter2") };
        assert!(!format!("{credential:?}").contains("hunter2"));
    }
}
