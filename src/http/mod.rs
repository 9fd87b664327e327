//! What every Azure endpoint needs: credentials, throttling, retries, pages that stay on their host.
//!
//! It promises: a token goes to no host but the service's own; redirects are not followed; a wait that the
//! service asks for is kept; what fails for good is an error and never a shorter answer. It knows no
//! resource and no vault.

mod certificate;
mod credential;
mod error;
mod identity;
mod outbound;
mod pages;
mod retry;
mod token;
mod transport;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use reqwest::blocking::RequestBuilder;
use url::Url;

pub use credential::{Assertion, Credential, ManagedIdentity, Secret};
pub use error::HttpError;
pub use identity::{Identity, IdentityOptions};
pub use outbound::{Outbound, OutboundError};
pub use pages::{Page, Pages};
pub use transport::{METADATA_VARIABLE, Transport, for_sdk};

use crate::observe::Monitor;
use retry::{Answer, LONGEST_WAIT, answer, attempts, parse_retry_after, refusal, sleep_as_told, tries};
use token::Tokens;

/// How the agent names itself.
const USER_AGENT: &str = concat!("backstop/", env!("CARGO_PKG_VERSION"));

/// Which service, and as whom.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// The service, such as `https://graph.microsoft.com`.
    pub endpoint: Url,
    /// The token service, such as `https://login.microsoftonline.com`.
    pub authority: Url,
    /// The tenant's id or domain.
    pub tenant: String,
    /// What the token is for: the scope without `/.default`.
    pub resource: String,
    /// As whom.
    pub credential: Credential,
}

/// Reads an endpoint: https, or http on this machine itself.
pub fn endpoint(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| format!("{text:?} is not an address: {e}"))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(format!("{text} is not encrypted: a token would be sent in the open; write https://")),
        other => Err(format!("{text:?} begins with {other}:, not with https:")),
    }
}

/// Whether an address is this machine itself.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// One service and a way to ask it.
pub struct Service {
    http: reqwest::blocking::Client,
    endpoint: Url,
    tokens: Arc<Tokens>,
    /// When each workload may be asked next.
    pace: Mutex<std::collections::HashMap<String, Instant>>,
    gone: AtomicBool,
    waited: Arc<AtomicU64>,
    requests: AtomicU64,
}

impl Service {
    /// A client of one service; sends nothing yet.
    pub fn new(options: ServiceOptions) -> Result<Self, HttpError> {
        install_crypto();
        let builder = reqwest::blocking::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .timeout(Duration::from_secs(120));
        let builder = if is_loopback(&options.endpoint) { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|e| HttpError::Setup { what: with_causes(&e) })?;
        let transport = Transport::new([&options.authority])?;
        let who = IdentityOptions { authority: options.authority, tenant: Some(options.tenant), credential: options.credential };
        let identity = Identity::new(who, transport)?;
        let scope = format!("{}/.default", options.resource.trim_end_matches('/'));
        Ok(Self {
            http,
            endpoint: options.endpoint,
            tokens: identity.tokens(&scope)?,
            pace: Mutex::default(),
            gone: AtomicBool::new(false),
            waited: Arc::default(),
            requests: AtomicU64::new(0),
        })
    }

    /// An address of this service.
    pub fn url(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.endpoint.clone();
        url.set_path(&format!("{}{path}", self.endpoint.path().trim_end_matches('/')));
        if !query.is_empty() {
            // Blanks as %20: not every part of the services reads + as one.
            let encode = |text: &str| percent_encoding::utf8_percent_encode(text, QUERY).to_string();
            let pairs: Vec<String> = query.iter().map(|(k, v)| format!("{k}={}", encode(v))).collect();
            url.set_query(Some(&pairs.join("&")));
        }
        url
    }

    /// How long requests waited because they were told to, in seconds.
    pub fn waited_seconds(&self) -> f64 {
        Duration::from_millis(self.waited.load(Ordering::Relaxed)).as_secs_f64()
    }

    /// How many requests were sent, tokens not counted.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Asks, and reads the answer's body with `parse`.
    pub fn get<T>(
        &self,
        url: &Url,
        workload: Option<&str>,
        monitor: &dyn Monitor,
        parse: impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<T, HttpError> {
        self.send(&|| self.http.get(url.clone()), url, workload, monitor, &parse)
    }

    /// Sends a JSON body, and reads the answer's body with `parse`.
    pub fn post<T>(
        &self,
        url: &Url,
        body: &serde_json::Value,
        monitor: &dyn Monitor,
        parse: impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<T, HttpError> {
        let bytes = body.to_string();
        let request = || self.http.post(url.clone()).header("content-type", "application/json").body(bytes.clone());
        self.send(&request, url, None, monitor, &parse)
    }

    fn send<T>(
        &self,
        request: &dyn Fn() -> RequestBuilder,
        url: &Url,
        workload: Option<&str>,
        monitor: &dyn Monitor,
        parse: &dyn Fn(&[u8]) -> Result<T, String>,
    ) -> Result<T, HttpError> {
        let place = place(url);
        let mut refused_tokens = 0;
        let result = attempts(&place, tries(&self.gone), Some(&self.waited), monitor, || {
            // First the pace: a token may end meanwhile.
            self.keep_pace(workload);
            let token = self.tokens.get(&self.gone, monitor)?.token;
            self.requests.fetch_add(1, Ordering::Relaxed);
            let answered = answer(request().bearer_auth(token.secret()), &place, |status, body| match status {
                200..=299 => parse(body).map(Ok),
                _ => Ok(Err(refusal(&place, status, body))),
            })?;
            match answered {
                Answer::Given(Err(e @ HttpError::Refused { status: 401, .. })) => {
                    self.tokens.forget(token.secret());
                    refused_tokens += 1;
                    // It may have ended on its way; a fresh one that is refused again is another matter.
                    if refused_tokens <= 2 { Ok(Answer::Token) } else { Err(e) }
                }
                other => Ok(other),
            }
        });
        match &result {
            Err(HttpError::Unreachable { .. }) => self.gone.store(true, Ordering::Relaxed),
            _ => self.gone.store(false, Ordering::Relaxed),
        }
        result?
    }

    /// Keeps a wait that the service asks for inside an answer, unless it is longer than a run may wait.
    pub fn keep_wait(&self, url: &Url, retry_after: &str, monitor: &dyn Monitor) {
        if let Some(wait) = parse_retry_after(retry_after).filter(|wait| *wait <= LONGEST_WAIT) {
            sleep_as_told(&place(url), wait, Some(&self.waited), monitor);
        }
    }

    /// Keeps what the service documents for workloads that give no Retry-After: one request a second.
    fn keep_pace(&self, workload: Option<&str>) {
        let Some(workload) = workload.filter(|w| *w == "ca_and_identity_protection") else { return };
        let wait = match self.pace.lock() {
            Ok(mut pace) => {
                let now = Instant::now();
                let at = pace.get(workload).copied().filter(|at| *at > now).unwrap_or(now);
                pace.insert(workload.to_owned(), at + Duration::from_secs(1));
                at - now
            }
            Err(_) => return,
        };
        std::thread::sleep(wait);
    }
}

/// Makes ring the provider of encryption, unless whoever came first installed one: that serves as well.
pub(crate) fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The runtime of everything here that is asynchronous: tokens, and clients of the official Azure crates.
pub fn runtime() -> Result<&'static tokio::runtime::Runtime, HttpError> {
    static RUNTIME: OnceLock<Result<tokio::runtime::Runtime, String>> = OnceLock::new();
    let make = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("http").enable_all().build();
    RUNTIME.get_or_init(|| make().map_err(|e| e.to_string())).as_ref().map_err(|what| HttpError::Setup { what: what.clone() })
}

/// What stays as it is in a query's value.
const QUERY: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b',')
    .remove(b'$')
    .remove(b'(')
    .remove(b')')
    .remove(b':')
    .remove(b'/')
    .remove(b'\'');

/// Scheme, host and path of an address.
pub fn place(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let clean: String = line.chars().filter(|c| !c.is_control()).collect();
    match clean.char_indices().nth(300) {
        Some((at, _)) => format!("{}…", &clean[..at]),
        None => clean,
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_over_encrypted_lines_only() {
        assert!(endpoint("https://graph.microsoft.com").is_ok());
        assert!(endpoint("http://127.0.0.1:8080").is_ok() && endpoint("http://localhost:1").is_ok() && endpoint("http://[::1]:9").is_ok());
        for bad in ["http://graph.microsoft.com", "http://127.0.0.1.example.com", "ftp://x", "graph"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_server_says_stays_on_one_line() {
        assert_eq!(one_line("a\u{1b}[31mb\nc"), "a[31mb");
        assert_eq!(one_line(&"x".repeat(1000)).chars().count(), 301);
    }
}
