//! What every Azure endpoint needs: credentials, throttling, retries, pages that stay on their host.
//!
//! It promises: a token goes to no host but the service's own; redirects are not followed; a wait that the
//! service asks for is kept; what fails for good is an error and never a shorter answer. It knows no
//! resource and no vault.

mod error;
mod pages;
mod token;

use std::fmt;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::blocking::RequestBuilder;
use url::Url;

pub use error::HttpError;
pub use pages::{Page, Pages};

use crate::observe::{Event, Monitor};
use token::Tokens;

/// How often a request that gets no answer is sent.
const TRIES: u32 = 6;
/// How often while the service was already found to be gone.
const TRIES_WHEN_GONE: u32 = 2;
/// How long one request waits at most because it is told to.
const LONGEST_WAIT: Duration = Duration::from_secs(900);
/// The first pause before another try.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// A wait that a person would notice is told.
const TOLD: Duration = Duration::from_secs(3);
/// The largest answer.
const MAX_BODY: u64 = 256 << 20;

/// A secret that no debug output shows.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    fn reveal(&self) -> &str {
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
}

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
    tokens: Tokens,
    /// When each workload may be asked next.
    pace: Mutex<std::collections::HashMap<String, Instant>>,
    gone: AtomicBool,
    waited: Arc<AtomicU64>,
    requests: AtomicU64,
}

/// How one request ended.
enum Answer<T> {
    Given(T),
    /// The service asks to wait, perhaps without saying how long.
    Wait(Option<Duration>),
    /// No answer, or none that can be read: worth another try.
    Again(HttpError),
    /// The token was refused: worth another one.
    Token,
}

impl Service {
    /// A client of one service; sends nothing yet.
    pub fn new(options: ServiceOptions) -> Result<Self, HttpError> {
        // Whoever came first has installed one: that serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::blocking::Client::builder()
            .user_agent(concat!("backstop/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .timeout(Duration::from_secs(120));
        let builder = if is_loopback(&options.endpoint) { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|e| HttpError::Setup { what: with_causes(&e) })?;
        let scope = format!("{}/.default", options.resource.trim_end_matches('/'));
        Ok(Self {
            http,
            endpoint: options.endpoint,
            tokens: Tokens::new(options.authority, options.tenant, scope, options.credential),
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
            let token = self.tokens.get(&self.http, &self.gone, monitor)?;
            self.requests.fetch_add(1, Ordering::Relaxed);
            let answered = answer(request().bearer_auth(&token), &place, |status, body| match status {
                200..=299 => parse(body).map(Ok),
                _ => Ok(Err(refusal(&place, status, body))),
            })?;
            match answered {
                Answer::Given(Err(e @ HttpError::Refused { status: 401, .. })) => {
                    self.tokens.forget(&token);
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

/// The error that a service's answer is, in either plane's form.
fn refusal(place: &str, status: u16, body: &[u8]) -> HttpError {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| value["error"][name].as_str().map(one_line).unwrap_or_default();
    HttpError::Refused { place: place.to_owned(), status, code: text("code"), said: text("message") }
}

/// Sends one request and judges its status and form; `read` makes something of the body.
fn answer<T>(
    request: RequestBuilder,
    place: &str,
    read: impl Fn(u16, &[u8]) -> Result<Result<T, HttpError>, String>,
) -> Result<Answer<Result<T, HttpError>>, HttpError> {
    let unreachable = |what: String| HttpError::Unreachable { place: place.to_owned(), what };
    let response = match request.send() {
        Ok(response) => response,
        Err(e) => return Ok(Answer::Again(unreachable(with_causes(&e.without_url())))),
    };
    let status = response.status().as_u16();
    let retry_after = response.headers().get("retry-after").and_then(|v| v.to_str().ok()).and_then(parse_retry_after);
    if status == 429 || status == 503 && retry_after.is_some() {
        return Ok(Answer::Wait(retry_after));
    }
    let mut body = Vec::new();
    if let Err(e) = response.take(MAX_BODY + 1).read_to_end(&mut body) {
        // The service is there: what is wrong is this answer.
        let what = format!("it broke off: {}", with_causes(&e));
        return Ok(Answer::Again(HttpError::Unreadable { place: place.to_owned(), what }));
    }
    if body.len() as u64 > MAX_BODY {
        return Err(HttpError::Unreadable { place: place.to_owned(), what: format!("it has more than {} MiB", MAX_BODY >> 20) });
    }
    if matches!(status, 408 | 500 | 502 | 503 | 504) {
        return Ok(Answer::Again(refusal(place, status, &body)));
    }
    Ok(match read(status, &body) {
        Ok(result) => Answer::Given(result),
        Err(what) => {
            let page = body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'<');
            let what = if page { "it is a web page, perhaps a proxy's".to_owned() } else { what };
            Answer::Again(HttpError::Unreadable { place: place.to_owned(), what })
        }
    })
}

/// Reads seconds or a date.
fn parse_retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<f64>() {
        return (seconds >= 0.0 && seconds.is_finite()).then(|| Duration::from_secs_f64(seconds.min(1e6)));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let seconds = at.duration_since(Timestamp::now()).as_secs_f64();
    Some(Duration::from_secs_f64(seconds.clamp(0.0, 1e6)))
}

/// Between a half and the whole of a pause, so that many clients do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let random = getrandom::u32().map_or(0.5, |n| f64::from(n) / f64::from(u32::MAX));
    pause.mul_f64(0.5 + random / 2.0)
}

/// How often to try.
fn tries(gone: &AtomicBool) -> u32 {
    if gone.load(Ordering::Relaxed) { TRIES_WHEN_GONE } else { TRIES }
}

/// Waits because the service asked for it.
fn sleep_as_told(place: &str, wait: Duration, counter: Option<&AtomicU64>, monitor: &dyn Monitor) {
    if wait >= TOLD {
        monitor.event(Event::Note(format!("{place} asks to wait; going on in {} s", wait.as_secs())));
    }
    std::thread::sleep(wait);
    if let Some(counter) = counter {
        counter.fetch_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Tries until there is an answer: waits as told, pauses longer each time where nothing is said.
fn attempts<T>(
    place: &str,
    most: u32,
    counter: Option<&AtomicU64>,
    monitor: &dyn Monitor,
    mut one: impl FnMut() -> Result<Answer<T>, HttpError>,
) -> Result<T, HttpError> {
    let mut failures = 0;
    let mut throttles = 0;
    let mut waited = Duration::ZERO;
    loop {
        match one()? {
            Answer::Given(value) => return Ok(value),
            Answer::Token => {}
            Answer::Again(error) => {
                failures += 1;
                if failures >= most {
                    return Err(error);
                }
                std::thread::sleep(jittered(FIRST_PAUSE * 2u32.pow(failures - 1)));
            }
            Answer::Wait(told) => {
                throttles += 1;
                // Some workloads always answer 1 s, or nothing at all: the pause grows all the same.
                let floor = jittered(Duration::from_millis(500) * 2u32.pow(throttles.min(7) - 1));
                let wait = told.map_or(floor * 2, |told| told.max(if throttles > 2 { floor } else { Duration::ZERO }));
                if waited + wait > LONGEST_WAIT {
                    return Err(HttpError::Throttled {
                        place: place.to_owned(),
                        waited_seconds: waited.as_secs(),
                        asks_seconds: wait.as_secs(),
                    });
                }
                sleep_as_told(place, wait, counter, monitor);
                waited += wait;
            }
        }
    }
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
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(parse_retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("soon"), None);
        assert_eq!(parse_retry_after("-1"), None);
    }

    #[test]
    fn a_secret_is_not_shown() {
        let credential = Credential::ClientSecret { client_id: "c".into(), secret: Secret::new("hunter2") };
        assert!(!format!("{credential:?}").contains("hunter2"));
    }

    #[test]
    fn what_a_server_says_stays_on_one_line() {
        assert_eq!(one_line("a\u{1b}[31mb\nc"), "a[31mb");
        assert_eq!(one_line(&"x".repeat(1000)).chars().count(), 301);
    }
}
