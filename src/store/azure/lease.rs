//! Leases on blobs of a container of its own, which no policy locks.
//!
//! The service itself ends a lease that is not renewed. The note is the blob's content, written under the lease.

use std::future::Future;
use std::time::Duration;

use azure_core::Bytes;
use azure_core::http::RequestContent;
use azure_storage_blob::clients::BlobClient;
use azure_storage_blob::models::{BlobClientAcquireLeaseOptions, BlobClientAcquireLeaseResultHeaders, BlobClientUploadOptions};

use super::error::refusal;
use super::{AzureError, AzureStore, translate};
use crate::store::{LEASE, LeaseToken, Leases, StoreError};

/// An answer that takes longer comes too late to be of use.
const PATIENCE: Duration = Duration::from_secs(15);
/// A note is no longer than this.
const LONGEST_NOTE: usize = 1 << 20;
/// What a blob holds on which nothing was noted yet: not every range of an empty one can be read.
const NOTHING: &[u8] = b"{}";

/// Leases in a container of the account.
pub struct AzureLeases {
    store: AzureStore,
    container: String,
}

impl AzureLeases {
    /// Leases in a container of the store's account; sends nothing yet.
    pub fn new(store: AzureStore, container: String) -> Self {
        Self { store, container }
    }

    fn blob(&self, name: &str) -> BlobClient {
        self.store.service.blob_client(&self.container, name)
    }

    /// Does something within patience.
    fn ask<T>(
        &self,
        operation: &'static str,
        name: &str,
        work: impl Future<Output = azure_core::Result<T>>,
    ) -> Result<Answer<T>, StoreError> {
        let full = format!("{}/{name}", self.container);
        let doing = self.store.doing(operation, &full);
        match self.store.block_on(async { tokio::time::timeout(PATIENCE, work).await }) {
            Ok(Ok(done)) => Ok(Answer::Done(done)),
            Ok(Err(e)) => match refusal(&e).map(|r| (r.status, r.code)) {
                Some((404, code)) if code == "BlobNotFound" => Ok(Answer::Absent),
                // Somebody else holds the lease, or this one ended.
                Some((409 | 412, code)) if code.contains("Lease") || code == "BlobAlreadyExists" => Ok(Answer::NotHis),
                _ => Err(translate(&e, doing)),
            },
            Err(_) => {
                let what = format!("no answer within {} s", PATIENCE.as_secs());
                Err(Box::new(AzureError::Unreachable { place: self.store.place.clone(), operation, name: full.clone(), what }).into())
            }
        }
    }
}

enum Answer<T> {
    Done(T),
    Absent,
    NotHis,
}

fn options(token: Option<&LeaseToken>) -> BlobClientUploadOptions<'static> {
    BlobClientUploadOptions { lease_id: token.map(|t| t.0.clone()), ..BlobClientUploadOptions::default() }
}

impl Leases for AzureLeases {
    fn acquire(&self, name: &str) -> Result<Option<LeaseToken>, StoreError> {
        let seconds = i32::try_from(LEASE.as_secs()).unwrap_or(60);
        for _ in 0..2 {
            // Named by who asks: an answer that was lost is no lease that nobody has.
            let own = uuid::Uuid::now_v7().to_string();
            let proposed =
                BlobClientAcquireLeaseOptions { proposed_lease_id: Some(own.clone()), ..BlobClientAcquireLeaseOptions::default() };
            let blob = self.blob(name);
            match self.ask("take the lease", name, blob.acquire_lease(seconds, Some(proposed)))? {
                Answer::Done(answer) => {
                    let told = answer.lease_id().ok().flatten();
                    return Ok(Some(LeaseToken(told.unwrap_or(own))));
                }
                Answer::NotHis => return Ok(None),
                Answer::Absent => {
                    let first = options(None).if_not_exists();
                    self.ask("create the lease", name, blob.upload(RequestContent::from(NOTHING.to_vec()), Some(first)))?;
                }
            }
        }
        Ok(None)
    }

    fn renew(&self, name: &str, token: &LeaseToken) -> Result<bool, StoreError> {
        let answer = self.ask("renew the lease", name, self.blob(name).renew_lease(token.0.clone(), None))?;
        Ok(matches!(answer, Answer::Done(_)))
    }

    fn release(&self, name: &str, token: &LeaseToken) -> Result<(), StoreError> {
        self.ask("give up the lease", name, self.blob(name).release_lease(token.0.clone(), None)).map(|_| ())
    }

    fn note(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let blob = self.blob(name);
        let read = async {
            let answer = blob.download(None).await?;
            answer.body.collect().await
        };
        Ok(match self.ask("read the note", name, read)? {
            Answer::Done(bytes) => Some(bytes.to_vec()).filter(|bytes: &Vec<u8>| *bytes != NOTHING && bytes.len() <= LONGEST_NOTE),
            Answer::Absent | Answer::NotHis => None,
        })
    }

    fn set_note(&self, name: &str, token: &LeaseToken, note: &[u8]) -> Result<bool, StoreError> {
        let content: RequestContent<Bytes, _> = RequestContent::from(note.to_vec());
        let answer = self.ask("write the note", name, self.blob(name).upload(content, Some(options(Some(token)))))?;
        Ok(matches!(answer, Answer::Done(_)))
    }
}
