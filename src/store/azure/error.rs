//! What Azure answered, in words for the person who has to mend it.

use azure_core::error::ErrorKind;
use serde::Deserialize;

use crate::store::StoreError;

/// What a token or SAS needs before it can lock.
pub(super) const NO_LOCK_RIGHT: &str = "the credential may not lock: Storage Blob Data Contributor is not enough. Assign the role of \
     deploy/azure/role.json (it has the action immutableStorage/runAsSuperUser), or give the SAS the permission i";

/// Why Azure did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AzureError {
    /// The service refused.
    #[error("the service refuses to {operation} {name}: {said} (HTTP {status}, {code})")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// On what.
        name: String,
        /// HTTP status.
        status: u16,
        /// The service's code.
        code: String,
        /// The service's words.
        said: String,
    },
    /// The credential does not allow it.
    #[error("{who} may not {operation} {name}: {said} (HTTP {status}, {code})")]
    Denied {
        /// The credential.
        who: String,
        /// What was tried.
        operation: &'static str,
        /// On what.
        name: String,
        /// HTTP status.
        status: u16,
        /// The service's code.
        code: String,
        /// The service's words.
        said: String,
    },
    /// The SAS's time is over, or has not begun.
    #[error("the SAS is not valid now, while trying to {operation} {name}: {said}")]
    SasTime {
        /// What was tried.
        operation: &'static str,
        /// On what.
        name: String,
        /// The service's words.
        said: String,
    },
    /// No token could be had.
    #[error("no token for the storage account: {what}")]
    Credential {
        /// What was tried and why it failed.
        what: String,
    },
    /// There is no answer.
    #[error("cannot reach {place} to {operation} {name}: {what}")]
    Unreachable {
        /// The endpoint.
        place: String,
        /// What was tried.
        operation: &'static str,
        /// On what.
        name: String,
        /// The transport's words.
        what: String,
    },
    /// Something else answers in the service's place.
    #[error("{place} does not answer as the Blob service does: {what}")]
    NotTheService {
        /// The endpoint.
        place: String,
        /// What answers.
        what: String,
    },
    /// The service is busy beyond patience.
    #[error("{place} is busy and asks to come back later, while trying to {operation} {name}")]
    Busy {
        /// The endpoint.
        place: String,
        /// What was tried.
        operation: &'static str,
        /// On what.
        name: String,
    },
    /// A container is missing.
    #[error("there is no container {container} at {place}")]
    NoContainer {
        /// Its real name.
        container: String,
        /// The account.
        place: String,
    },
    /// The credential as given cannot be used.
    #[error("{what}")]
    Setup {
        /// What is wrong.
        what: String,
        /// What to do.
        mend: String,
    },
}

impl AzureError {
    /// Whether a later try may succeed with nothing changed.
    pub fn passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Busy { .. })
    }

    /// What to do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Refused { code, .. } if code == "AuthenticationFailed" => {
                "check the credential of vault.azure, and this machine's clock".into()
            }
            Self::Refused { .. } => return None,
            Self::Denied { operation: "write", .. } => NO_LOCK_RIGHT.into(),
            Self::Denied { operation: "remove", .. } => {
                "the agent's role has no delete, on purpose; removing what its locks allow needs an operator's credential with \
                 Storage Blob Data Owner"
                    .into()
            }
            Self::Denied { .. } => "assign the role of deploy/azure/role.json to it on the account or its containers".into(),
            Self::SasTime { .. } => {
                "make a new SAS and run the same command again: it carries on, and nothing that was committed is lost".into()
            }
            Self::Credential { .. } => "check the credential of vault.azure in the policy".into(),
            Self::Unreachable { .. } => {
                "check the network, DNS and the account's firewall; run the same command again: it carries on where it stopped".into()
            }
            Self::NotTheService { .. } => {
                "check vault.azure.endpoint, and whether a proxy wants a login first (HTTPS_PROXY, NO_PROXY)".into()
            }
            Self::Busy { .. } => "run the same command again later: it carries on where it stopped".into(),
            Self::NoContainer { container, .. } => {
                format!(
                    "`deploy/azure/setup.sh` makes the containers; or map it in vault.azure.containers ({container} is what was asked for)"
                )
            }
            Self::Setup { mend, .. } => mend.clone(),
        })
    }
}

/// What was being done, for the message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doing<'a> {
    pub operation: &'static str,
    pub name: &'a str,
    pub place: &'a str,
    pub who: &'a str,
}

/// The gate's own verdicts travel inside the crate's errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Impostor(pub String);

/// The parts of a refusal.
#[derive(Debug, Default, Clone)]
pub(super) struct Refusal {
    pub status: u16,
    pub code: String,
    pub said: String,
}

#[derive(Deserialize, Default)]
#[serde(rename = "Error")]
struct Body {
    #[serde(rename = "Code", default)]
    code: Option<String>,
    #[serde(rename = "Message", default)]
    message: Option<String>,
    #[serde(rename = "AuthenticationErrorDetail", default)]
    detail: Option<String>,
}

/// Reads a refusal out of an error, where it is one.
pub(super) fn refusal(error: &azure_core::Error) -> Option<Refusal> {
    let ErrorKind::HttpResponse { status, error_code, raw_response } = error.kind() else { return None };
    let body: Body = raw_response.as_ref().and_then(|r| azure_core::xml::from_xml(r.body()).ok()).unwrap_or_default();
    let header = azure_core::http::headers::HeaderName::from_static("x-ms-error-code");
    let shown = raw_response.as_ref().and_then(|r| r.headers().get_optional_string(&header));
    let code = shown.or(body.code).or_else(|| error_code.clone()).unwrap_or_else(|| "no code".into());
    let said = body.detail.or(body.message).unwrap_or_default();
    let said = said.lines().next().unwrap_or_default().trim().trim_end_matches('.').to_owned();
    Some(Refusal { status: u16::from(*status), said: if said.is_empty() { code.clone() } else { said }, code })
}

/// An error of the official crate as the store's.
pub(super) fn translate(error: &azure_core::Error, doing: Doing<'_>) -> StoreError {
    let Doing { operation, name, place, who } = doing;
    let (name, place, who) = (name.to_owned(), place.to_owned(), who.to_owned());
    if let Some(what) = impostor(error) {
        return Box::new(AzureError::NotTheService { place, what }).into();
    }
    let Some(Refusal { status, code, said }) = refusal(error) else {
        let what = with_causes(error);
        return Box::new(match error.kind() {
            ErrorKind::Credential => AzureError::Credential { what },
            ErrorKind::DataConversion => AzureError::NotTheService { place, what: format!("its answer cannot be read: {what}") },
            _ => AzureError::Unreachable { place, operation, name, what },
        })
        .into();
    };
    match (status, code.as_str()) {
        (404, "ContainerNotFound") => {
            let container = name.split('/').next().unwrap_or_default().to_owned();
            Box::new(AzureError::NoContainer { container, place }).into()
        }
        (404, _) => StoreError::NotFound { name },
        (409, "BlobArchived" | "BlobBeingRehydrated") => StoreError::Archived { name, rehydrating: code == "BlobBeingRehydrated" },
        (409, "BlobImmutableDueToPolicy") => StoreError::Locked { name, reason: format!("a lock stands on it ({said})") },
        (409, "BlobImmutableDueToLegalHold") => StoreError::Locked { name, reason: format!("a legal hold stands on it ({said})") },
        (403, "AuthenticationFailed") if said.contains("time frame") => Box::new(AzureError::SasTime { operation, name, said }).into(),
        (401 | 403, _) => Box::new(AzureError::Denied { who, operation, name, status, code, said }).into(),
        (429 | 500 | 503, "ServerBusy" | "TooManyRequests" | "OperationTimedOut" | "InternalError") | (429 | 503, _) => {
            Box::new(AzureError::Busy { place, operation, name }).into()
        }
        _ => Box::new(AzureError::Refused { operation, name, status, code, said }).into(),
    }
}

fn impostor(error: &azure_core::Error) -> Option<String> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<Impostor>() {
            return Some(found.0.clone());
        }
        next = cause.source();
    }
    None
}

/// The chain of causes, each said once.
fn with_causes(error: &azure_core::Error) -> String {
    let mut said = vec![error.to_string()];
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if !said.iter().any(|s| s.contains(&text)) {
            said.push(text);
        }
        next = cause.source();
    }
    said.join(": ")
}
