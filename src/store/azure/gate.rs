//! The gate through which every request to the Blob service passes.
//!
//! It lets no answer in that the service did not give (a proxy's login page has no `x-ms-request-id`), sends a
//! checksum with each whole object so that the service refuses what arrives changed, compares the one that it answers
//! to a block, keeps the service's clock, and counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::HeaderName;
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Method, Request};
use jiff::Timestamp;

use super::error::Impostor;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
const DATE: HeaderName = HeaderName::from_static("date");
const CRC64: HeaderName = HeaderName::from_static("x-ms-content-crc64");
const BLOB_TYPE: HeaderName = HeaderName::from_static("x-ms-blob-type");
/// The service's clock is asked again after so long without an answer.
const FRESH: Duration = Duration::from_secs(20);

/// A transport that watches.
#[derive(Debug)]
pub(super) struct Gate {
    inner: Arc<dyn HttpClient>,
    /// The newest `Date`, and when it came.
    date: Mutex<Option<(Timestamp, Instant)>>,
    requests: AtomicU64,
}

impl Gate {
    pub fn new(inner: Arc<dyn HttpClient>) -> Self {
        Self { inner, date: Mutex::default(), requests: AtomicU64::new(0) }
    }

    /// The service's clock in whole seconds, if it was heard lately. Its `Date` says no more; finer instants would
    /// seem to go back when the next `Date` comes.
    pub fn now(&self) -> Option<Timestamp> {
        let (date, at) = (*self.date.lock().ok()?)?;
        let since = at.elapsed();
        let now = date.checked_add(since).ok().filter(|_| since < FRESH)?;
        Timestamp::from_second(now.as_second()).ok()
    }

    /// Requests so far, repeated ones included.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn hear(&self, response: &AsyncRawResponse) {
        let heard = response.headers().get_optional_string(&DATE).and_then(|text| jiff::fmt::rfc2822::parse(&text).ok());
        if let (Some(date), Ok(mut kept)) = (heard, self.date.lock()) {
            *kept = Some((date.timestamp(), Instant::now()));
        }
    }
}

/// The checksum of the Blob service: CRC-64/NVME, least significant byte first.
pub(super) fn crc64(bytes: &[u8]) -> String {
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes);
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, sum.to_le_bytes())
}

#[async_trait::async_trait]
impl HttpClient for Gate {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let staged = request.url().query_pairs().any(|(k, v)| k == "comp" && v == "block");
        let whole = request.headers().get_optional_str(&BLOB_TYPE).is_some();
        let response = match request.body() {
            Body::Bytes(bytes) if request.method() == Method::Put && whole && !bytes.is_empty() => {
                let mut summed = request.clone();
                summed.insert_header(CRC64, crc64(bytes));
                self.inner.execute_request(&summed).await?
            }
            _ => self.inner.execute_request(request).await?,
        };
        let status = u16::from(response.status());
        if response.headers().get_optional_str(&REQUEST_ID).is_none() && status < 500 {
            let what = match status {
                300..=399 => "it sends elsewhere, as a proxy that wants a login does".to_owned(),
                _ => format!("an answer (HTTP {status}) without x-ms-request-id, perhaps a proxy's login page"),
            };
            return Err(Error::with_error(ErrorKind::Other, Impostor(what), "an answer that is not the service's"));
        }
        self.hear(&response);
        // The service sums each block by itself; asked to compare, it would sum it twice.
        if staged
            && let Body::Bytes(bytes) = request.body()
            && let Some(answered) = response.headers().get_optional_str(&CRC64)
            && status == 201
            && answered != crc64(bytes)
        {
            return Err(Error::with_message(ErrorKind::Io, "a block arrived changed, by the service's own checksum"));
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use azure_core::http::StatusCode;
    use azure_core::http::headers::Headers;

    /// Answers 201 with a checksum of its own.
    #[derive(Debug)]
    struct Service(String);

    #[async_trait::async_trait]
    impl HttpClient for Service {
        async fn execute_request(&self, _: &Request) -> azure_core::Result<AsyncRawResponse> {
            let mut headers = Headers::new();
            headers.insert(REQUEST_ID, "1");
            headers.insert(CRC64, self.0.clone());
            Ok(AsyncRawResponse::from_bytes(StatusCode::Created, headers, ""))
        }
    }

    #[test]
    fn a_block_that_arrived_changed_is_sent_again() {
        assert_eq!(crc64(b"123456789"), "iJh5CoYUi64=", "the check value of CRC-64/NVME");
        let runtime = crate::http::runtime().unwrap();
        for (answered, arrives) in [(crc64(b"block"), true), (crc64(b"clock"), false)] {
            let gate = Gate::new(Arc::new(Service(answered)));
            let mut request = Request::new("https://a.example/c/b?comp=block&blockid=x".parse().unwrap(), Method::Put);
            request.set_body(azure_core::Bytes::from_static(b"block"));
            let outcome = runtime.block_on(gate.execute_request(&request));
            // An error of this kind is tried again.
            let again = outcome.as_ref().is_err_and(|e| matches!(e.kind(), ErrorKind::Io));
            assert_eq!((outcome.is_ok(), again), (arrives, !arrives));
        }
    }
}
