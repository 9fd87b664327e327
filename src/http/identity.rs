//! From a credential to tokens: the official identity crate behind this room's own transport and retry policy.
//!
//! The crate makes one request at a time; what it is answered is kept here and judged as every other answer is, so that
//! all kinds wait, try again and fail alike.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::{AccessToken, Secret as SdkSecret, TokenCredential, TokenRequestOptions};
use azure_core::error::{Error, ErrorKind};
use azure_core::http::{AsyncRawResponse, ClientMethodOptions, ClientOptions, HttpClient, Request, RetryOptions};
use azure_core::time::OffsetDateTime;
use azure_identity as sdk;
use futures::StreamExt;
use serde::Deserialize;
use url::Url;

use super::certificate::Certificate;
use super::credential::{Assertion, Credential, ManagedIdentity};
use super::error::HttpError;
use super::retry::{Answer, judged, parse_retry_after, refusal};
use super::token::Tokens;
use super::transport::{Transport, for_sdk};
use super::{one_line, place, runtime};
use crate::observe::Silent;

/// The largest answer of a token service.
const MAX_ANSWER: usize = 1 << 20;
/// A token is held to be good for so long if nobody says.
const AN_HOUR: i64 = 3600;

/// As whom, and who says so.
#[derive(Debug, Clone)]
pub struct IdentityOptions {
    /// The token service, such as `https://login.microsoftonline.com`.
    pub authority: Url,
    /// The tenant's id or domain; a managed identity and the Azure CLI need none.
    pub tenant: Option<String>,
    /// As whom.
    pub credential: Credential,
}

/// One credential, for any number of services: gives tokens, keeps them, and renews them.
///
/// It is a [`TokenCredential`] of the official crates as well. Whatever it fails with there is an [`HttpError`] inside
/// the crates' error, of the kind `Credential`.
pub struct Identity {
    asker: Arc<Asker>,
    tokens: Mutex<HashMap<String, Arc<Tokens>>>,
}

/// Asks for tokens, and keeps none.
pub(super) struct Asker {
    options: IdentityOptions,
    transport: Arc<Transport>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("options", &self.asker.options).finish_non_exhaustive()
    }
}

impl Identity {
    /// Looks at what the credential needs on this machine; sends nothing yet.
    pub fn new(options: IdentityOptions, transport: Arc<Transport>) -> Result<Arc<Self>, HttpError> {
        let credential = &options.credential;
        if credential.needs_tenant() && options.tenant.is_none() {
            let what = format!("a credential of the kind {} needs a tenant", credential.kind());
            return Err(HttpError::Credential { what, hint: "say `tenant:` beside the credential".into() });
        }
        let asker = Asker { options, transport };
        asker.assertion()?;
        Ok(Arc::new(Self { asker: Arc::new(asker), tokens: Mutex::default() }))
    }

    /// A token for a scope such as `https://storage.azure.com/.default`: blocks, tries again, waits as told. Not for
    /// asynchronous code, which has [`TokenCredential::get_token`].
    pub fn token(&self, scope: &str) -> Result<AccessToken, HttpError> {
        self.tokens(scope)?.get(&AtomicBool::new(false), &Silent)
    }

    /// The tokens of one scope.
    pub(super) fn tokens(&self, scope: &str) -> Result<Arc<Tokens>, HttpError> {
        let mut all = self.tokens.lock().map_err(|_| HttpError::Setup { what: "a thread failed".into() })?;
        let of_scope = all.entry(scope.to_owned()).or_insert_with(|| Arc::new(Tokens::new(self.asker.clone(), scope.to_owned())));
        Ok(of_scope.clone())
    }
}

impl Asker {
    /// Where requests for tokens go, as an error names it.
    pub(super) fn place(&self) -> String {
        match &self.options.credential {
            Credential::ManagedIdentity(_) => "the metadata service of this machine".into(),
            Credential::AzureCli => "the Azure CLI".into(),
            _ => self.token_endpoint().to_string(),
        }
    }

    fn token_endpoint(&self) -> Url {
        let mut url = self.options.authority.clone();
        let tenant = self.options.tenant.as_deref().unwrap_or_default();
        url.set_path(&format!("{}/{tenant}/oauth2/v2.0/token", url.path().trim_end_matches('/')));
        url
    }

    /// The credential is good for nothing here.
    pub(super) fn refused(&self, what: String) -> HttpError {
        HttpError::Credential { what, hint: self.options.credential.advice(self.options.tenant.as_deref()) }
    }

    /// There is no token, and nothing was sent over the network to get one.
    fn none(&self, why: String) -> HttpError {
        let IdentityOptions { tenant, credential, .. } = &self.options;
        let mut error = self.refused(format!("{} gave no token to {}: {why}", self.place(), credential.who(tenant.as_deref())));
        if let (HttpError::Credential { hint, .. }, true) = (&mut error, why.contains("not found on PATH")) {
            *hint = format!("install the Azure CLI, or put it into this process's PATH, and {hint}");
        }
        error
    }

    /// What stands for a secret with the kinds that have none.
    fn assertion(&self) -> Result<Option<String>, HttpError> {
        match &self.options.credential {
            Credential::ClientCertificate { client_id, file } => {
                let made = Certificate::load(file).and_then(|c| c.assertion(client_id, self.token_endpoint().as_str()));
                let hint = "give a PEM file with the certificate and its RSA private key, readable by this user alone";
                made.map(Some).map_err(|what| HttpError::Credential { what, hint: hint.into() })
            }
            Credential::ClientAssertion { assertion: Assertion::Text(text), .. } => Ok(Some(text.reveal().trim().to_owned())),
            Credential::ClientAssertion { assertion: Assertion::File(file), .. } => {
                read_token(file, "the assertion", "whatever issues it has to put it there, readable by this user").map(Some)
            }
            Credential::WorkloadIdentity { file, .. } => {
                let hint = "a pod gets it by the label azure.workload.identity/use and a service account with a client id";
                read_token(file, "the service account's token", hint).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The official credential for one request.
    fn sdk(&self, client_options: ClientOptions) -> Result<Arc<dyn TokenCredential>, HttpError> {
        let IdentityOptions { tenant, credential, .. } = &self.options;
        let tenant_id = tenant.clone().unwrap_or_default();
        let made: azure_core::Result<Arc<dyn TokenCredential>> = match credential {
            Credential::ClientSecret { client_id, secret } => {
                let options = Some(sdk::ClientSecretCredentialOptions { client_options });
                let secret = SdkSecret::new(secret.reveal().to_owned());
                sdk::ClientSecretCredential::new(&tenant_id, client_id.clone(), secret, options).map(|c| c as _)
            }
            Credential::ClientCertificate { client_id, .. }
            | Credential::ClientAssertion { client_id, .. }
            | Credential::WorkloadIdentity { client_id, .. } => {
                let options = Some(sdk::ClientAssertionCredentialOptions { client_options });
                let assertion = Fixed(SdkSecret::new(self.assertion()?.unwrap_or_default()));
                sdk::ClientAssertionCredential::new(tenant_id, client_id.clone(), assertion, options).map(|c| c as _)
            }
            Credential::ManagedIdentity(identity) => {
                let user_assigned_id = match identity.clone() {
                    ManagedIdentity::System => None,
                    ManagedIdentity::ClientId(id) => Some(sdk::UserAssignedId::ClientId(id)),
                    ManagedIdentity::ObjectId(id) => Some(sdk::UserAssignedId::ObjectId(id)),
                    ManagedIdentity::ResourceId(id) => Some(sdk::UserAssignedId::ResourceId(id)),
                };
                let options = sdk::ManagedIdentityCredentialOptions { user_assigned_id, client_options };
                sdk::ManagedIdentityCredential::new(Some(options)).map(|c| c as _)
            }
            Credential::AzureCli => {
                let options = sdk::AzureCliCredentialOptions { tenant_id: tenant.clone(), ..Default::default() };
                sdk::AzureCliCredential::new(Some(options)).map(|c| c as _)
            }
        };
        made.map_err(|e| {
            self.refused(format!("a credential of the kind {} cannot be made: {}", credential.kind(), one_line(&e.to_string())))
        })
    }

    /// Asks once.
    pub(super) fn ask(&self, scope: &str) -> Result<Answer<Result<AccessToken, HttpError>>, HttpError> {
        let authority = for_sdk(&self.options.authority);
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host = authority.to_string();
        let witness = Arc::new(Witness {
            transport: self.transport.clone(),
            prefix: (authority.path() != "/")
                .then(|| (authority.origin().ascii_serialization(), authority.path().trim_end_matches('/').to_owned())),
            seen: Mutex::default(),
        });
        let client_options = ClientOptions {
            transport: Some(azure_core::http::Transport::new(witness.clone())),
            retry: RetryOptions::none(),
            cloud: Some(Arc::new(CloudConfiguration::Custom(cloud))),
            ..ClientOptions::default()
        };
        let credential = self.sdk(client_options)?;
        let given = runtime()?.block_on(credential.get_token(&[scope], None));
        let seen = witness.seen.lock().ok().and_then(|mut seen| seen.take());
        let IdentityOptions { tenant, credential, authority } = &self.options;
        let who = credential.who(tenant.as_deref());
        let managed = matches!(credential, Credential::ManagedIdentity(_));
        let elsewhere = format!("it is asked for {who}, which only a machine in Azure has; elsewhere the policy needs another credential");
        let (place, status, retry_after, body) = match seen {
            Some(Seen::Nothing { place, what }) => {
                let what = if managed { format!("{what}; {elsewhere}") } else { what };
                return Ok(Answer::Again(HttpError::Unreachable { place, what }));
            }
            Some(Seen::Broken { place, what }) => return Ok(Answer::Again(HttpError::Unreadable { place, what })),
            Some(Seen::Answer { place, status, retry_after, body }) => (place, status, retry_after, body),
            None => {
                let given = given.map_err(|e| self.none(reason(&e)));
                return Ok(Answer::Given(given));
            }
        };
        // The metadata service says so while it is being updated, and another cloud's always does.
        if managed && matches!(status, 404 | 410) {
            let error = refusal(&place, status, &body);
            return Ok(Answer::Again(match error {
                HttpError::Refused { code, said, .. } if code.is_empty() && said.is_empty() => {
                    HttpError::Refused { place, status, code, said: format!("and did not say why; {elsewhere}") }
                }
                other => other,
            }));
        }
        let asked = if managed { place.clone() } else { super::place(authority) };
        Ok(judged(&place, status, retry_after, &body, |status, body| {
            if status == 200 {
                return match &given {
                    Ok(token) if token.token.secret().is_empty() => Err("there is no token in it".into()),
                    Ok(token) => Ok(Ok(ending(token, body))),
                    Err(_) => Err("it holds no token that can be read".into()),
                };
            }
            let denied = match serde_json::from_slice::<Denied>(body) {
                Ok(denied) => denied,
                // Other clouds have a service at the same place.
                Err(_) if managed => return Ok(Err(self.refused(format!("{asked} answered {status} and did not say why; {elsewhere}")))),
                Err(e) => return Err(format!("with the status {status} it is no JSON: {e}")),
            };
            let said = if denied.error_description.is_empty() { denied.error } else { denied.error_description };
            Ok(Err(self.refused(format!("{asked} refused {who}: {}", one_line(&said)))))
        }))
    }
}

#[async_trait::async_trait]
impl TokenCredential for Identity {
    async fn get_token(&self, scopes: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        let [scope] = scopes else {
            return Err(Error::with_message(ErrorKind::Credential, "a token is for exactly one scope"));
        };
        let failed = |e: HttpError| {
            let message = e.to_string();
            Error::with_error(ErrorKind::Credential, e, message)
        };
        let tokens = self.tokens(scope).map_err(failed)?;
        let asking = runtime().map_err(failed)?.spawn_blocking(move || tokens.get(&AtomicBool::new(false), &Silent));
        asking.await.map_err(|e| Error::with_error(ErrorKind::Credential, e, "a thread failed"))?.map_err(failed)
    }
}

/// A token, with an end even if the answer says none.
fn ending(token: &AccessToken, body: &[u8]) -> AccessToken {
    let said: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let silent = said["expires_in"].is_null() && said["expires_on"].is_null();
    let end = if silent { OffsetDateTime::now_utc() + Duration::from_secs(AN_HOUR.unsigned_abs()) } else { token.expires_on };
    AccessToken::new(token.token.clone(), end)
}

/// The line of an error that says most.
fn reason(error: &Error) -> String {
    let text = error.to_string();
    let text = text.split("authentication failed.").last().unwrap_or_default();
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    one_line(lines().find(|line| line.starts_with("ERROR")).or_else(|| lines().next()).unwrap_or("it did not say why"))
}

/// Reads a token that another program puts into a file.
fn read_token(file: &Path, what: &str, hint: &str) -> Result<String, HttpError> {
    let failed = |what: String| HttpError::Credential { what, hint: hint.into() };
    let text = fs::read_to_string(file).map_err(|e| failed(format!("cannot read {what} from {}: {e}", file.display())))?;
    match text.trim() {
        "" => Err(failed(format!("the file {}, which should hold {what}, is empty", file.display()))),
        token => Ok(token.to_owned()),
    }
}

#[derive(Deserialize)]
struct Denied {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

/// An assertion that was made for this one request.
#[derive(Debug)]
struct Fixed(SdkSecret);

#[async_trait::async_trait]
impl sdk::ClientAssertion for Fixed {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        Ok(self.0.secret().to_owned())
    }
}

/// What the one request came to.
enum Seen {
    /// No answer.
    Nothing { place: String, what: String },
    /// An answer that broke off or has no end.
    Broken { place: String, what: String },
    /// An answer.
    Answer { place: String, status: u16, retry_after: Option<Duration>, body: Vec<u8> },
}

/// Stands between the official crate and the transport, and keeps what it sees. The crate gets to see success only: it
/// has retries of its own for a machine's metadata, which cannot be switched off.
struct Witness {
    transport: Arc<Transport>,
    /// The path of an authority that has one; the crate forgets it.
    prefix: Option<(String, String)>,
    seen: Mutex<Option<Seen>>,
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witness")
    }
}

impl Witness {
    fn saw(&self, seen: Seen) -> Error {
        if let Ok(mut last) = self.seen.lock() {
            *last = Some(seen);
        }
        Error::with_message(ErrorKind::Other, "there is no token")
    }
}

#[async_trait::async_trait]
impl HttpClient for Witness {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let mut request = request.clone();
        if let Some((_, path)) = self.prefix.as_ref().filter(|(origin, _)| request.url().origin().ascii_serialization() == *origin) {
            let longer = format!("{path}{}", request.url().path());
            request.url_mut().set_path(&longer);
        }
        let place = place(&self.transport.really(request.url()));
        let response = match self.transport.execute_request(&request).await {
            Ok(response) => response,
            Err(e) => {
                let what = e.to_string();
                let what = what.split_once("cannot be reached: ").map_or(what.as_str(), |(_, what)| what).to_owned();
                return Err(self.saw(Seen::Nothing { place, what }));
            }
        };
        let (status, headers, mut stream) = response.deconstruct();
        let retry_after = headers.iter().find(|(name, _)| name.as_str() == "retry-after").and_then(|(_, v)| parse_retry_after(v.as_str()));
        let mut body = Vec::new();
        while let Some(piece) = stream.next().await {
            match piece {
                Ok(piece) if body.len() + piece.len() <= MAX_ANSWER => body.extend_from_slice(&piece),
                Ok(_) => return Err(self.saw(Seen::Broken { place, what: "it has more than 1 MiB".into() })),
                Err(e) => return Err(self.saw(Seen::Broken { place, what: format!("it broke off: {e}") })),
            }
        }
        let number = u16::from(status);
        let failed = self.saw(Seen::Answer { place, status: number, retry_after, body: body.clone() });
        if number == 200 { Ok(AsyncRawResponse::from_bytes(status, headers, body)) } else { Err(failed) }
    }
}
