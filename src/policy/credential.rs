//! The policy's part about credentials: how the agent shows who it is. Secrets never stand here, only where they are.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::model::NotInThisVersion;

/// Exactly one way to show who the agent is to a tenant.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct CredentialPolicy {
    /// The identity of the machine in Azure.
    #[serde(default)]
    #[schemars(with = "Option<ManagedIdentityPolicy>")]
    pub managed_identity: Option<Spanned<ManagedIdentityPolicy>>,
    /// The service account of a pod in Kubernetes.
    #[serde(default)]
    #[schemars(with = "Option<WorkloadIdentityPolicy>")]
    pub workload_identity: Option<Spanned<WorkloadIdentityPolicy>>,
    /// The secret of an application registration.
    #[serde(default)]
    #[schemars(with = "Option<ClientSecretPolicy>")]
    pub client_secret: Option<Spanned<ClientSecretPolicy>>,
    /// A certificate of an application registration.
    #[serde(default)]
    #[schemars(with = "Option<ClientCertificatePolicy>")]
    pub client_certificate: Option<Spanned<ClientCertificatePolicy>>,
    /// A token of another issuer that the application registration trusts.
    #[serde(default)]
    #[schemars(with = "Option<ClientAssertionPolicy>")]
    pub client_assertion: Option<Spanned<ClientAssertionPolicy>>,
    /// Whoever is signed in to the Azure CLI.
    #[serde(default)]
    #[schemars(with = "Option<AzureCliPolicy>")]
    pub azure_cli: Option<Spanned<AzureCliPolicy>>,
    /// For stores only.
    #[serde(default)]
    #[schemars(skip)]
    pub sas: Option<Spanned<NotInThisVersion>>,
}

/// Exactly one way to show who the agent is to a store.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct StoreCredentialPolicy {
    /// The identity of the machine in Azure.
    #[serde(default)]
    #[schemars(with = "Option<ManagedIdentityPolicy>")]
    pub managed_identity: Option<Spanned<ManagedIdentityPolicy>>,
    /// The service account of a pod in Kubernetes.
    #[serde(default)]
    #[schemars(with = "Option<WorkloadIdentityPolicy>")]
    pub workload_identity: Option<Spanned<WorkloadIdentityPolicy>>,
    /// The secret of an application registration.
    #[serde(default)]
    #[schemars(with = "Option<ClientSecretPolicy>")]
    pub client_secret: Option<Spanned<ClientSecretPolicy>>,
    /// A certificate of an application registration.
    #[serde(default)]
    #[schemars(with = "Option<ClientCertificatePolicy>")]
    pub client_certificate: Option<Spanned<ClientCertificatePolicy>>,
    /// A token of another issuer that the application registration trusts.
    #[serde(default)]
    #[schemars(with = "Option<ClientAssertionPolicy>")]
    pub client_assertion: Option<Spanned<ClientAssertionPolicy>>,
    /// Whoever is signed in to the Azure CLI.
    #[serde(default)]
    #[schemars(with = "Option<AzureCliPolicy>")]
    pub azure_cli: Option<Spanned<AzureCliPolicy>>,
    /// A shared access signature.
    #[serde(default)]
    #[schemars(with = "Option<SasPolicy>")]
    pub sas: Option<Spanned<SasPolicy>>,
}

/// The machine's own identity, or a user-assigned one.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManagedIdentityPolicy {
    /// The user-assigned identity with this client id.
    #[serde(default)]
    pub client_id: Option<String>,
    /// The user-assigned identity with this object (principal) id.
    #[serde(default)]
    pub object_id: Option<String>,
    /// The user-assigned identity with this resource id: `/subscriptions/…`.
    #[serde(default)]
    pub resource_id: Option<String>,
}

/// What the webhook of Azure Workload Identity sets in a pod, unless it is said here.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkloadIdentityPolicy {
    /// The client id; the environment variable `AZURE_CLIENT_ID` unless said.
    #[serde(default)]
    pub client_id: Option<String>,
    /// The file with the service account's token; the environment variable `AZURE_FEDERATED_TOKEN_FILE` unless said.
    #[serde(default)]
    pub token_file: Option<String>,
}

/// The secret of an application registration; never the secret itself.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientSecretPolicy {
    /// The application's (client) id.
    pub client_id: String,
    /// The environment variable that holds the secret.
    #[serde(default)]
    pub secret_env: Option<String>,
    /// The file that holds the secret, relative to the policy's directory.
    #[serde(default)]
    pub secret_file: Option<String>,
}

/// A certificate of an application registration.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificatePolicy {
    /// The application's (client) id.
    pub client_id: String,
    /// A PEM file with the certificate and its RSA private key, relative to the policy's directory.
    pub certificate_file: String,
}

/// A token of another issuer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientAssertionPolicy {
    /// The application's (client) id.
    pub client_id: String,
    /// The file that holds the token, relative to the policy's directory; read at every renewal.
    #[serde(default)]
    pub assertion_file: Option<String>,
    /// The environment variable that holds the token.
    #[serde(default)]
    pub assertion_env: Option<String>,
}

/// `{}`: who `az login` signed in.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AzureCliPolicy {}

/// A shared access signature; never the signature itself.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SasPolicy {
    /// The environment variable that holds it.
    #[serde(default)]
    pub env: Option<String>,
    /// The file that holds it, relative to the policy's directory.
    #[serde(default)]
    pub file: Option<String>,
}

/// One way to show who the agent is.
#[derive(Debug, Clone, Copy)]
pub enum CredentialKind<'p> {
    /// The identity of the machine in Azure.
    ManagedIdentity(&'p Spanned<ManagedIdentityPolicy>),
    /// The service account of a pod in Kubernetes.
    WorkloadIdentity(&'p Spanned<WorkloadIdentityPolicy>),
    /// The secret of an application registration.
    ClientSecret(&'p Spanned<ClientSecretPolicy>),
    /// A certificate of an application registration.
    ClientCertificate(&'p Spanned<ClientCertificatePolicy>),
    /// A token of another issuer.
    ClientAssertion(&'p Spanned<ClientAssertionPolicy>),
    /// Whoever is signed in to the Azure CLI.
    AzureCli(&'p Spanned<AzureCliPolicy>),
    /// A shared access signature; stores only.
    Sas(&'p Spanned<SasPolicy>),
}

macro_rules! kinds {
    ($said:expr) => {{
        let said = $said;
        [
            said.managed_identity.as_ref().map(CredentialKind::ManagedIdentity),
            said.workload_identity.as_ref().map(CredentialKind::WorkloadIdentity),
            said.client_secret.as_ref().map(CredentialKind::ClientSecret),
            said.client_certificate.as_ref().map(CredentialKind::ClientCertificate),
            said.client_assertion.as_ref().map(CredentialKind::ClientAssertion),
            said.azure_cli.as_ref().map(CredentialKind::AzureCli),
        ]
        .into_iter()
        .flatten()
    }};
}

impl CredentialPolicy {
    /// Every way that is said; a valid policy says one.
    pub fn kinds(&self) -> Vec<CredentialKind<'_>> {
        kinds!(self).collect()
    }
}

impl StoreCredentialPolicy {
    /// Every way that is said; a valid policy says one.
    pub fn kinds(&self) -> Vec<CredentialKind<'_>> {
        kinds!(self).chain(self.sas.as_ref().map(CredentialKind::Sas)).collect()
    }
}

impl CredentialKind<'_> {
    /// The words of a policy for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ManagedIdentity(_) => "managed_identity",
            Self::WorkloadIdentity(_) => "workload_identity",
            Self::ClientSecret(_) => "client_secret",
            Self::ClientCertificate(_) => "client_certificate",
            Self::ClientAssertion(_) => "client_assertion",
            Self::AzureCli(_) => "azure_cli",
            Self::Sas(_) => "sas",
        }
    }

    /// Whether it is worth something only in a tenant that is named.
    pub fn needs_tenant(&self) -> bool {
        matches!(self, Self::ClientSecret(_) | Self::ClientCertificate(_) | Self::ClientAssertion(_))
    }
}
