//! The double of the Blob service keeps to the rules that Microsoft documents, seen over plain HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/blob/mod.rs"]
mod blob;

#[path = "blob_double/auth.rs"]
mod auth;
#[path = "blob_double/faults.rs"]
mod faults;
#[path = "blob_double/lists.rs"]
mod lists;
#[path = "blob_double/locks.rs"]
mod locks;
#[path = "blob_double/manager.rs"]
mod manager;
#[path = "blob_double/sdk.rs"]
mod sdk;
#[path = "blob_double/writes.rs"]
mod writes;

use std::sync::Once;
use std::time::Duration;

use blob::{BlobDouble, ContainerOptions, Options};
use jiff::SignedDuration;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use reqwest::blocking::{Client, Response};

/// A container that locks versions, one with neither versions nor locks, one under a locked policy of 10 days.
const LOCKING: &str = "config-snapshots";
const PLAIN: &str = "plain";
const WORM: &str = "worm";

/// A double, a client, and a signature for everything.
struct Harness {
    double: BlobDouble,
    client: Client,
    sas: String,
}

/// An answer, read.
struct Answer {
    status: u16,
    code: String,
    headers: reqwest::header::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn outcome(&self) -> (u16, &str) {
        (self.status, self.code.as_str())
    }

    /// The text of the first element with a name.
    fn element(&self, name: &str) -> Option<String> {
        elements(&self.text(), name).into_iter().next()
    }
}

fn elements(text: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split(&open).skip(1).map(|rest| rest.split(&close).next().unwrap().to_owned()).collect()
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let code = headers.get("x-ms-error-code").map_or("", |v| v.to_str().unwrap()).to_owned();
        Answer { status, code, headers, body: response.bytes().unwrap().to_vec() }
    }
}

fn client() -> Client {
    static CRYPTOGRAPHY: Once = Once::new();
    CRYPTOGRAPHY.call_once(|| rustls::crypto::ring::default_provider().install_default().unwrap());
    let redirects = reqwest::redirect::Policy::none();
    Client::builder().no_proxy().redirect(redirects).timeout(Duration::from_secs(60)).build().unwrap()
}

impl Harness {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options { now: Some("2026-11-24T12:00:00Z".parse().unwrap()), ..Options::default() };
        options.containers.push(ContainerOptions::plain(PLAIN));
        options.containers.push(ContainerOptions::under_policy(WORM, "Locked", 10));
        change(&mut options);
        let double = BlobDouble::start(options);
        let sas = double.full_sas();
        Harness { double, client: client(), sas }
    }

    /// `path` is the account's, decoded; `query` begins with `&` or is empty.
    fn url(&self, path: &str, query: &str, sas: &str) -> String {
        let mut parts = path.splitn(2, '/');
        let container = parts.next().unwrap_or_default();
        let blob = parts.next().map_or(String::new(), |b| format!("/{}", utf8_percent_encode(b, NON_ALPHANUMERIC)));
        format!("{}/{container}{blob}?{sas}{query}", self.double.endpoint())
    }

    fn call(&self, method: &str, path: &str, query: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_call(method, path, query, headers, body).unwrap()
    }

    fn try_call(&self, method: &str, path: &str, query: &str, headers: &[(&str, &str)], body: &[u8]) -> reqwest::Result<Answer> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, self.url(path, query, &self.sas)).header("x-ms-version", "2026-04-06");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.body(body.to_vec()).send()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let code = headers.get("x-ms-error-code").map_or("", |v| v.to_str().unwrap()).to_owned();
        Ok(Answer { status, code, headers, body: response.bytes()?.to_vec() })
    }

    fn put(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let all: Vec<_> = [("x-ms-blob-type", "BlockBlob")].into_iter().chain(headers.iter().copied()).collect();
        self.call("PUT", path, "", &all, body)
    }

    /// Puts with a lock so many days from now.
    fn put_locked(&self, path: &str, mode: &str, days: i64, body: &[u8]) -> Answer {
        let until = self.until(days);
        self.put(path, &[("x-ms-immutability-policy-until-date", &until), ("x-ms-immutability-policy-mode", mode)], body)
    }

    fn until(&self, days: i64) -> String {
        blob::http_date(self.double.now() + SignedDuration::from_hours(24 * days))
    }

    fn get(&self, path: &str, query: &str) -> Answer {
        self.call("GET", path, query, &[], b"")
    }

    fn head(&self, path: &str, query: &str) -> Answer {
        self.call("HEAD", path, query, &[], b"")
    }

    fn delete(&self, path: &str, query: &str) -> Answer {
        self.call("DELETE", path, query, &[], b"")
    }

    fn list(&self, container: &str, query: &str) -> Answer {
        self.get(container, &format!("&restype=container&comp=list{query}"))
    }

    fn advance_days(&self, days: i64) {
        self.double.advance(SignedDuration::from_hours(24 * days));
    }
}

fn version_of(answer: &Answer) -> String {
    answer.header("x-ms-version-id").unwrap().to_owned()
}

/// `&versionid=...`
fn of_version(id: &str) -> String {
    format!("&versionid={}", utf8_percent_encode(id, NON_ALPHANUMERIC))
}

fn blob_base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn instant(text: &str) -> jiff::Timestamp {
    text.parse().unwrap()
}
