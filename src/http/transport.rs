//! The transport of the official Azure crates: reqwest with rustls, without redirects, in streams both ways.
//!
//! The crates send tokens over https only. What stands in for a service on this machine speaks plain http: it is
//! addressed to them as https ([`for_sdk`]), and this transport speaks http to it, to loopback addresses that it was
//! given as http and to nobody else.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use azure_core::Bytes;
use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::{HeaderName, HeaderValue, Headers};
use azure_core::http::response::PinnedStream;
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Request};
use futures::{Stream, StreamExt};
use tokio::time::{Instant, timeout, timeout_at};
use url::{Host, Url};

use super::error::HttpError;
use super::{is_loopback, place, with_causes};

/// A request ends when neither side moved a byte for so long.
const IDLE: Duration = Duration::from_secs(120);
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// The same, on this machine or to the metadata service beside it.
const CONNECT_NEAR: Duration = Duration::from_secs(3);
/// A body in memory is handed on in pieces of this size, so that progress is seen.
const PIECE: usize = 256 << 10;
/// Where the instance metadata service of Azure's machines is.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Another place of it, as other Azure libraries read it.
pub const METADATA_VARIABLE: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";

/// Sends the requests of the official Azure crates; one for many clients.
#[derive(Debug)]
pub struct Transport {
    /// Host and port of what is spoken to in plain http.
    plain: Vec<(String, u16)>,
    /// What stands in for the metadata service.
    metadata: Option<Url>,
    near: OnceLock<Result<reqwest::Client, String>>,
    far: OnceLock<Result<reqwest::Client, String>>,
}

impl Transport {
    /// A transport that speaks plain http to those of the endpoints that are loopback addresses with `http:`.
    pub fn new<'u>(endpoints: impl IntoIterator<Item = &'u Url>) -> Result<Arc<Self>, HttpError> {
        let metadata = std::env::var(METADATA_VARIABLE).ok().filter(|text| !text.is_empty());
        Self::with_metadata(endpoints, metadata.as_deref())
    }

    /// The same, with another place of the instance metadata service; it must be loopback or link-local.
    pub fn with_metadata<'u>(endpoints: impl IntoIterator<Item = &'u Url>, metadata: Option<&str>) -> Result<Arc<Self>, HttpError> {
        let plain = endpoints.into_iter().filter(|url| url.scheme() == "http" && is_loopback(url)).filter_map(origin).collect();
        let metadata = metadata.map(|text| {
            let url = Url::parse(text).ok().filter(|url| url.scheme() == "http" && is_near(url));
            let what = || {
                format!(
                    "{METADATA_VARIABLE} is {text:?}, which is no http address of this machine or its link: no token is asked for there"
                )
            };
            url.ok_or_else(|| HttpError::Credential { what: what(), hint: "unset it, or write http://127.0.0.1:PORT".into() })
        });
        Ok(Arc::new(Self { plain, metadata: metadata.transpose()?, near: OnceLock::new(), far: OnceLock::new() }))
    }

    /// Where a request really goes, and whether that is near: no proxy is asked there.
    fn address(&self, asked: &Url) -> Result<(Url, bool), Error> {
        let mut url = asked.clone();
        if asked.scheme() == "https" {
            let plain = origin(asked).filter(|origin| is_loopback(asked) && self.plain.contains(origin));
            if let Some((_, port)) = plain {
                // The port is said as well: 443 would vanish from an https address, and 80 from an http one.
                let changed = url.set_scheme("http").and_then(|()| url.set_port(Some(port)));
                changed.map_err(|()| Error::with_message(ErrorKind::Other, format!("{} has no plain form", place(asked))))?;
            }
            let near = is_near(&url);
            return Ok((url, near));
        }
        if let Some(stand_in) = self.metadata.as_ref().filter(|_| url.host() == Some(Host::Ipv4(METADATA))) {
            let changed = url.set_host(stand_in.host_str()).is_ok() && url.set_port(stand_in.port()).is_ok();
            if !changed {
                return Err(Error::with_message(ErrorKind::Other, format!("{METADATA_VARIABLE} is no place for the metadata service")));
            }
        }
        if url.scheme() != "http" || !is_near(&url) {
            let message = format!("{} is not encrypted: nothing is sent there", place(&url));
            return Err(Error::with_message(ErrorKind::Other, message));
        }
        Ok((url, true))
    }

    /// Where a request really goes, for messages.
    pub(super) fn really(&self, asked: &Url) -> Url {
        self.address(asked).map_or_else(|_| asked.clone(), |(url, _)| url)
    }

    fn client(&self, near: bool) -> Result<&reqwest::Client, Error> {
        let (cell, connect) = if near { (&self.near, CONNECT_NEAR) } else { (&self.far, CONNECT) };
        let made = cell.get_or_init(|| {
            super::install_crypto();
            let builder = reqwest::Client::builder()
                .user_agent(super::USER_AGENT)
                .redirect(reqwest::redirect::Policy::none())
                // What a store keeps is given as it is kept, whatever its encoding is said to be.
                .no_gzip()
                .connect_timeout(connect);
            let builder = if near { builder.no_proxy() } else { builder };
            builder.build().map_err(|e| with_causes(&e))
        });
        made.as_ref().map_err(|what| Error::with_message(ErrorKind::Other, what.clone()))
    }
}

/// How an endpoint is told to the official crates, which send no token to `http:`.
pub fn for_sdk(endpoint: &Url) -> Url {
    let mut url = endpoint.clone();
    if let Some((_, port)) = origin(endpoint).filter(|_| endpoint.scheme() == "http" && is_loopback(endpoint)) {
        // Neither can fail between http and https.
        let _ = url.set_scheme("https").and_then(|()| url.set_port(Some(port)));
    }
    url
}

fn origin(url: &Url) -> Option<(String, u16)> {
    Some((url.host_str()?.to_owned(), url.port_or_known_default()?))
}

/// This machine, or the link that it is on: where the metadata service is, and no proxy.
fn is_near(url: &Url) -> bool {
    let link = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_link_local(),
        _ => false,
    };
    link || is_loopback(url)
}

#[async_trait::async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let (url, near) = self.address(request.url())?;
        let at = place(&url);
        let method = reqwest::Method::from_bytes(request.method().as_str().as_bytes())
            .map_err(|e| Error::with_error(ErrorKind::Other, e, "no method of HTTP"))?;
        let mut builder = self.client(near)?.request(method, url);
        let mut has_length = false;
        for (name, value) in request.headers().iter() {
            has_length |= name.as_str().eq_ignore_ascii_case("content-length");
            builder = builder.header(name.as_str(), value.as_str());
        }
        let moved = Arc::new(Moved::default());
        let body = request.body().clone();
        let length = body.len();
        let (body, streams) = sent(body, &moved);
        if let Some(length) = length.filter(|_| streams && !has_length) {
            builder = builder.header("content-length", length);
        }
        let response = match moved.within(IDLE, builder.body(body).send()).await {
            Some(Ok(response)) => response,
            Some(Err(e)) => {
                let kind = if e.is_connect() { ErrorKind::Connection } else { ErrorKind::Io };
                let what = with_causes(&e.without_url());
                return Err(Error::with_message(kind, format!("{at} cannot be reached: {what}")));
            }
            None => return Err(silence(&at)),
        };
        let status = response.status().as_u16().into();
        let mut headers = Headers::new();
        for (name, value) in response.headers() {
            if let Ok(value) = value.to_str() {
                headers.insert(HeaderName::from(name.as_str().to_owned()), HeaderValue::from(value.to_owned()));
            }
        }
        Ok(AsyncRawResponse::new(status, headers, received(response.bytes_stream(), at)))
    }
}

fn silence(place: &str) -> Error {
    Error::with_message(ErrorKind::Io, format!("{place} said nothing for {} s", IDLE.as_secs()))
}

/// A body on its way out, and whether it goes in pieces. None of it is copied as a whole.
fn sent(body: Body, moved: &Arc<Moved>) -> (reqwest::Body, bool) {
    let moved = moved.clone();
    match body {
        Body::Bytes(bytes) if bytes.len() <= PIECE => (bytes.into(), false),
        Body::Bytes(bytes) => {
            let pieces = (0..bytes.len()).step_by(PIECE).map(move |at| {
                moved.now();
                Ok::<_, std::convert::Infallible>(bytes.slice(at..bytes.len().min(at + PIECE)))
            });
            (reqwest::Body::wrap_stream(futures::stream::iter(pieces)), true)
        }
        Body::SeekableStream(stream) => (reqwest::Body::wrap_stream(stream.inspect(move |_| moved.now())), true),
    }
}

/// A body on its way in.
fn received(stream: impl Stream<Item = reqwest::Result<Bytes>> + Send + 'static, place: String) -> PinnedStream {
    let open = Some((Box::pin(stream), place));
    Box::pin(futures::stream::unfold(open, |open| async {
        let (mut stream, place) = open?;
        match timeout(IDLE, stream.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some((stream, place)))),
            Ok(Some(Err(e))) => {
                let message = format!("the answer of {place} broke off: {}", with_causes(&e.without_url()));
                Some((Err(Error::with_message(ErrorKind::Io, message)), None))
            }
            Err(_) => Some((Err(silence(&place)), None)),
        }
    }))
}

/// When something was sent last.
struct Moved(Mutex<Instant>);

impl Default for Moved {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Moved {
    fn now(&self) {
        if let Ok(mut last) = self.0.lock() {
            *last = Instant::now();
        }
    }

    fn last(&self) -> Instant {
        self.0.lock().map_or_else(|broken| *broken.into_inner(), |last| *last)
    }

    /// Waits for the future as long as something moves.
    async fn within<T>(&self, idle: Duration, future: impl Future<Output = T>) -> Option<T> {
        let mut future = std::pin::pin!(future);
        loop {
            let due = self.last() + idle;
            match timeout_at(due, &mut future).await {
                Ok(done) => return Some(done),
                Err(_) if self.last() + idle > due => {}
                Err(_) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn goes(transport: &Transport, text: &str) -> Result<(String, bool), String> {
        transport.address(&url(text)).map(|(url, near)| (url.to_string(), near)).map_err(|e| e.to_string())
    }

    #[test]
    fn only_a_loopback_address_that_was_given_so_is_spoken_to_in_plain_http() {
        let given: Vec<Url> =
            ["http://127.0.0.1:8080", "http://localhost:443/x", "http://[::1]", "http://store.example.com:9", "https://127.0.0.1:9"]
                .map(url)
                .into();
        let transport = Transport::with_metadata(&given, None).unwrap();
        for (asked, goes_to) in [
            ("https://127.0.0.1:8080/a?b=c", "http://127.0.0.1:8080/a?b=c"),
            ("https://localhost/a", "http://localhost:443/a"),
            ("https://[::1]:80/a", "http://[::1]/a"),
            ("https://127.0.0.1:9/", "https://127.0.0.1:9/"),
            ("https://127.0.0.1/", "https://127.0.0.1/"),
        ] {
            assert_eq!(goes(&transport, asked), Ok((goes_to.into(), true)), "{asked}");
        }
        for encrypted in ["https://store.example.com:9/a", "https://login.microsoftonline.com/x"] {
            assert_eq!(goes(&transport, encrypted), Ok((encrypted.into(), false)));
        }
        for open in ["http://store.example.com:9/a", "http://10.0.0.1/", "ftp://127.0.0.1/"] {
            assert!(goes(&transport, open).unwrap_err().contains("not encrypted"), "{open}");
        }
        for (n, endpoint) in given.iter().enumerate() {
            let told = for_sdk(endpoint);
            assert_eq!(told.scheme(), if n == 3 { "http" } else { "https" });
            assert_eq!(told.port_or_known_default(), endpoint.port_or_known_default());
        }
    }

    #[test]
    fn the_metadata_service_may_be_elsewhere_near_by_only() {
        let asked = "http://169.254.169.254/metadata/identity/oauth2/token?resource=x";
        let plain = Transport::with_metadata([], None).unwrap();
        assert_eq!(goes(&plain, asked), Ok((asked.into(), true)));
        let moved = Transport::with_metadata([], Some("http://127.0.0.1:4000")).unwrap();
        assert_eq!(goes(&moved, asked), Ok(("http://127.0.0.1:4000/metadata/identity/oauth2/token?resource=x".into(), true)));
        for far in ["http://example.com", "https://127.0.0.1:1", "127.0.0.1:1", "http://10.1.2.3/"] {
            let refused = Transport::with_metadata([], Some(far)).unwrap_err().to_string();
            assert!(refused.contains(METADATA_VARIABLE) && refused.contains(far), "{refused}");
        }
    }
}
