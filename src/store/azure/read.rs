//! Reading: the recorded version, in ranges that are fetched ahead and each fetched again when it broke off.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::num::NonZero;
use std::sync::Arc;

use azure_core::Bytes;
use azure_core::http::headers::HeaderName;
use azure_storage_blob::clients::BlobClient;
use azure_storage_blob::models::BlobClientDownloadOptions;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::{AzureStore, refusal, translate};
use crate::store::StoreError;

/// One request's bytes.
const RANGE: u64 = 8 << 20;
/// Ranges under way at a time.
const AHEAD: usize = 3;
/// How often a range that breaks off is asked for.
const TRIES: u32 = 4;
const CONTENT_RANGE: HeaderName = HeaderName::from_static("content-range");

pub(super) fn open(store: &AzureStore, name: &str, version: Option<&str>) -> Result<Box<dyn Read + Send>, StoreError> {
    let problem = |e: &azure_core::Error| translate(e, store.doing("read", name));
    let blob = store.blob(name, version)?;
    let (blob, first) = match store.block_on(fetch(&blob, 0, RANGE)) {
        Ok(first) => (blob, first),
        // A copy of a vault in another account has other version ids; the digest decides what is accepted.
        Err(e) if version.is_some() && refusal(&e).is_some_and(|r| r.status == 404 || r.status == 400) => {
            let current = store.blob(name, None)?;
            let first = store.block_on(fetch(&current, 0, RANGE)).map_err(|e| problem(&e))?;
            (current, first)
        }
        Err(e) => return Err(problem(&e)),
    };
    let size = first.size;
    let mut reader = Ranges {
        runtime: store.runtime.handle().clone(),
        blob: Arc::new(blob),
        name: name.to_owned(),
        size,
        next: first.bytes.len() as u64,
        current: first.bytes,
        ahead: VecDeque::new(),
    };
    reader.prefetch();
    Ok(Box::new(reader))
}

/// A range as it came.
struct Fetched {
    bytes: Bytes,
    /// The whole object's size.
    size: u64,
}

/// One range, whole: a body that breaks off is asked for again.
async fn fetch(blob: &BlobClient, from: u64, length: u64) -> azure_core::Result<Fetched> {
    let mut tries = 0;
    loop {
        tries += 1;
        match fetch_once(blob, from, length).await {
            Err(e) if e.http_status().is_none() && tries < TRIES => {
                tokio::time::sleep(std::time::Duration::from_millis(200 << tries)).await
            }
            other => return other,
        }
    }
}

async fn fetch_once(blob: &BlobClient, from: u64, length: u64) -> azure_core::Result<Fetched> {
    let options = BlobClientDownloadOptions {
        range: Some((from..from + length).into()),
        parallel: NonZero::new(1),
        partition_size: NonZero::new(usize::try_from(length).unwrap_or(usize::MAX)),
        ..BlobClientDownloadOptions::default()
    };
    let answer = blob.download(Some(options)).await?;
    let total = answer.headers.get_optional_string(&CONTENT_RANGE).and_then(|text| text.rsplit('/').next()?.parse::<u64>().ok());
    let bytes = answer.body.collect().await?;
    let size = total.unwrap_or(bytes.len() as u64);
    let wanted = length.min(size.saturating_sub(from));
    if (bytes.len() as u64) < wanted {
        let message = format!("the answer has {} bytes of {wanted}", bytes.len());
        return Err(azure_core::Error::with_message(azure_core::error::ErrorKind::Io, message));
    }
    Ok(Fetched { bytes, size })
}

/// The bytes of one version, in order.
struct Ranges {
    runtime: Handle,
    blob: Arc<BlobClient>,
    name: String,
    size: u64,
    /// Where the next range to be asked for begins.
    next: u64,
    current: Bytes,
    ahead: VecDeque<JoinHandle<azure_core::Result<Fetched>>>,
}

impl Ranges {
    fn prefetch(&mut self) {
        while self.ahead.len() < AHEAD && self.next < self.size {
            let (client, from, length) = (self.blob.clone(), self.next, RANGE.min(self.size - self.next));
            self.ahead.push_back(self.runtime.spawn(async move { fetch(&client, from, length).await }));
            self.next += length;
        }
    }
}

impl Read for Ranges {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            let Some(task) = self.ahead.pop_front() else { return Ok(0) };
            let fetched = self.runtime.block_on(task).map_err(io::Error::other)?;
            let fetched = fetched.map_err(|e| io::Error::other(format!("{} broke off: {e}", self.name)))?;
            self.current = fetched.bytes;
            self.prefetch();
        }
        let n = buf.len().min(self.current.len());
        buf[..n].copy_from_slice(&self.current.split_to(n));
        Ok(n)
    }
}

impl Drop for Ranges {
    fn drop(&mut self) {
        for task in self.ahead.drain(..) {
            task.abort();
        }
    }
}
