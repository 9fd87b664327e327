//! Messages to receivers that are no Azure service: webhooks of chats, pagers, switches.
//!
//! It promises: an end after seconds, no redirect followed, and no address in an error, since such addresses are secrets
//! themselves. Who calls it lets nothing secret go out in the open.

use std::io::Read;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::Client;
use reqwest::header::HeaderMap;
use url::Url;

use super::{is_loopback, with_causes};

/// A receiver that takes longer is down.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of an answer so much is read, in bytes.
const LONGEST_ANSWER: u64 = 1 << 16;

/// What a receiver answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// Not the status of a success.
    #[error("it answers HTTP {status}")]
    Status {
        /// The status.
        status: u16,
        /// In how many seconds it wants to be asked again.
        retry_after: Option<u64>,
    },
    /// No answer.
    #[error("{0}")]
    NoAnswer(String),
}

/// Sends messages.
#[derive(Debug)]
pub struct Outbound {
    near: Client,
    far: Client,
}

impl Outbound {
    /// A client; sends nothing yet.
    pub fn new() -> Result<Self, String> {
        super::install_crypto();
        let builder = || {
            Client::builder()
                .user_agent(super::USER_AGENT)
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(PATIENCE / 2)
                .timeout(PATIENCE)
                .pool_max_idle_per_host(0)
        };
        let made = |client: Result<Client, reqwest::Error>| client.map_err(|e| with_causes(&e));
        Ok(Self { near: made(builder().no_proxy().build())?, far: made(builder().build())? })
    }

    fn client(&self, url: &Url) -> &Client {
        if is_loopback(url) { &self.near } else { &self.far }
    }

    /// Asks for an address.
    pub fn get(&self, url: &Url) -> Result<(), OutboundError> {
        judge(self.client(url).get(url.clone()).send())
    }

    /// Sends bytes, and takes what is answered, whatever the status, if it is not too much.
    pub fn exchange(&self, url: &Url, headers: HeaderMap, body: Vec<u8>) -> Result<(StatusCode, Vec<u8>), OutboundError> {
        let failed = |e: reqwest::Error| OutboundError::NoAnswer(with_causes(&e.without_url()));
        let answer = self.client(url).post(url.clone()).headers(headers).body(body).send().map_err(failed)?;
        let (status, mut bytes) = (answer.status(), Vec::new());
        answer.take(LONGEST_ANSWER).read_to_end(&mut bytes).map_err(|e| OutboundError::NoAnswer(e.to_string()))?;
        Ok((status, bytes))
    }

    /// Sends JSON.
    pub fn post(&self, url: &Url, headers: &[(&str, String)], json: String) -> Result<(), OutboundError> {
        let mut request = self.client(url).post(url.clone()).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        judge(request.body(json).send())
    }
}

fn judge(answer: Result<reqwest::blocking::Response, reqwest::Error>) -> Result<(), OutboundError> {
    let answer = answer.map_err(|e| match e.is_timeout() {
        true => OutboundError::NoAnswer(format!("no answer within {} s", PATIENCE.as_secs())),
        false => OutboundError::NoAnswer(with_causes(&e.without_url())),
    })?;
    if answer.status().is_success() {
        return Ok(());
    }
    let retry_after = answer.headers().get("retry-after").and_then(|v| v.to_str().ok()).and_then(|v| v.trim().parse().ok());
    Err(OutboundError::Status { status: answer.status().as_u16(), retry_after })
}
