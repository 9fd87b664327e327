//! Creating objects: one request for small ones, blocks side by side for large ones.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use azure_core::Bytes;
use azure_core::http::{Etag, RequestContent};
use azure_storage_blob::clients::BlobClient;
use azure_storage_blob::models::{
    BlobClientGetPropertiesResultHeaders, BlockBlobClientCommitBlockListOptions, BlockBlobClientCommitBlockListResultHeaders,
    BlockBlobClientUploadOptions, BlockListType, BlockLookupList,
};
use futures::{StreamExt, stream};

use super::error::{Doing, NO_LOCK_RIGHT, refusal};
use super::{AzureStore, LockBy, PARALLEL, instant, mode_of, translate};
use crate::store::{Body, LockMode, LockRequest, Receipt, Sha256, Store, StoreError};

/// The digest beside an object, as metadata.
pub(super) const SHA256: &str = "sha256";
/// Which call of `put` wrote it, as metadata: tells a success whose answer was lost from another writer's object.
const WRITE: &str = "write";
/// Up to here one request is enough.
const ONE_SHOT: u64 = 32 << 20;
/// A staged block.
const BLOCK: u64 = 8 << 20;
/// The service takes no more blocks than this.
const MOST_BLOCKS: u64 = 50_000;

/// What is sent.
enum Content {
    Whole(Bytes),
    Blocks { file: File, size: u64 },
}

pub(super) fn put(store: &AzureStore, name: &str, body: Body<'_>, sha256: &Sha256, lock: &LockRequest) -> Result<Receipt, StoreError> {
    let blob = store.blob(name, None)?;
    if lock.mode != LockMode::None && lock.until <= store.now()? {
        let reason = format!("it would end at {}, before now ({})", lock.until, store.now()?);
        return Err(StoreError::LockRefused { name: name.to_owned(), reason });
    }
    let content = match body {
        Body::Bytes(bytes) => Content::Whole(Bytes::copy_from_slice(bytes)),
        Body::File(path) => file(path)?,
    };
    let own = uuid::Uuid::now_v7().to_string();
    let metadata = HashMap::from([(SHA256.to_owned(), sha256.to_string()), (WRITE.to_owned(), own.clone())]);
    let by_version = matches!(store.options.by, LockBy::Version) && lock.mode != LockMode::None;
    let terms = Terms { metadata, lock: by_version.then_some(*lock) };
    let sent = store.block_on(async {
        match content {
            Content::Whole(bytes) => whole(&blob, bytes, &terms).await,
            Content::Blocks { file, size } => blocks(&blob, Arc::new(file), size, sha256, &terms).await,
        }
    });
    match sent {
        Ok(version) => Ok(Receipt { version, lock: None }),
        Err(e) => match taken(&e) {
            true => lost_success(store, &blob, name, &own),
            false if terms.lock.is_some() => Err(lock_problem(&e, name, store.doing("write", name))),
            false => Err(translate(&e, store.doing("write", name))),
        },
    }
}

/// Under what an object is created.
struct Terms {
    metadata: HashMap<String, String>,
    lock: Option<LockRequest>,
}

fn file(path: &Path) -> Result<Content, StoreError> {
    let failed = |source| StoreError::Io { operation: "read", path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    if size > ONE_SHOT {
        return Ok(Content::Blocks { file, size });
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0).map_err(failed)?;
    Ok(Content::Whole(Bytes::from(bytes)))
}

/// One request. Gives the version id.
async fn whole(blob: &BlobClient, bytes: Bytes, terms: &Terms) -> azure_core::Result<Option<String>> {
    let one = std::num::NonZero::new(ONE_SHOT.max(bytes.len() as u64));
    let options = BlockBlobClientUploadOptions {
        if_none_match: Some(Etag::from("*")),
        metadata: Some(terms.metadata.clone()),
        immutability_policy_expiry: terms.lock.map(|lock| instant(lock.until)),
        immutability_policy_mode: terms.lock.and_then(|lock| mode_of(lock.mode)),
        partition_size: one,
        ..BlockBlobClientUploadOptions::default()
    };
    let answer = blob.block_blob_client().upload(azure_core::http::Body::from(bytes).into(), Some(options)).await?;
    Ok(answer.version_id)
}

/// Blocks side by side, then one commit under the lock. Ids are made of the content's digest and the place, so
/// that what an interrupted upload of the same bytes left is not sent again.
async fn blocks(blob: &BlobClient, file: Arc<File>, size: u64, sha256: &Sha256, terms: &Terms) -> azure_core::Result<Option<String>> {
    let client = Arc::new(blob.block_blob_client());
    let block = BLOCK.max(size.div_ceil(MOST_BLOCKS));
    let count = size.div_ceil(block);
    let id = |n: u64| format!("{}-{n:08}", &sha256.to_string()[..32]).into_bytes();
    let length = |n: u64| block.min(size - n * block);
    let staged = match client.get_block_list(BlockListType::Uncommitted, None).await {
        Ok(answer) => answer.into_model()?.uncommitted_blocks.unwrap_or_default(),
        // Nothing of that name was begun.
        Err(e) if refusal(&e).is_some_and(|r| r.status == 404) => Vec::new(),
        Err(e) => return Err(e),
    };
    let staged: HashMap<Vec<u8>, i64> = staged.into_iter().filter_map(|b| Some((b.name?, b.size?))).collect();
    let missing: Vec<u64> = (0..count).filter(|n| staged.get(&id(*n)).is_none_or(|s| u64::try_from(*s) != Ok(length(*n)))).collect();
    // Each block on the runtime's own threads: reading, summing and sending go side by side.
    let stage = |n: u64| {
        let (client, file, id, offset, length) = (client.clone(), file.clone(), id(n), n * block, length(n));
        let work = async move {
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
            file.read_exact_at(&mut bytes, offset)?;
            client.stage_block(&id, length, RequestContent::from(bytes), None).await.map(drop)
        };
        async move { tokio::spawn(work).await.map_err(|e| azure_core::Error::with_message(azure_core::error::ErrorKind::Other, e.to_string()))? }
    };
    // After a failure nothing more is begun, and what is under way is let end: the next attempt finds it.
    let stop = AtomicBool::new(false);
    let begun = stream::iter(missing).take_while(|_| std::future::ready(!stop.load(Ordering::Relaxed)));
    let mut sent = std::pin::pin!(begun.map(stage).buffer_unordered(PARALLEL));
    let mut failure = None;
    while let Some(outcome) = sent.next().await {
        if let Err(e) = outcome {
            stop.store(true, Ordering::Relaxed);
            failure.get_or_insert(e);
        }
    }
    if let Some(e) = failure {
        return Err(e);
    }
    let list = BlockLookupList { latest: Some((0..count).map(id).collect()), ..BlockLookupList::default() };
    let options = BlockBlobClientCommitBlockListOptions {
        if_none_match: Some(Etag::from("*")),
        metadata: Some(terms.metadata.clone()),
        immutability_policy_expiry: terms.lock.map(|lock| instant(lock.until)),
        immutability_policy_mode: terms.lock.and_then(|lock| mode_of(lock.mode)),
        ..BlockBlobClientCommitBlockListOptions::default()
    };
    client.commit_block_list(list.try_into()?, Some(options)).await?.version_id()
}

/// Whether create-if-absent met something.
fn taken(error: &azure_core::Error) -> bool {
    refusal(error).is_some_and(|r| match (r.status, r.code.as_str()) {
        (412, _) | (409, "BlobAlreadyExists" | "BlobImmutableDueToPolicy" | "BlobImmutableDueToLegalHold") => true,
        // Resent after its own success, a commit's blocks are gone.
        (400, "InvalidBlockList") => true,
        _ => false,
    })
}

/// What stands under the name is ours when it carries this call's mark: then only the answer was lost.
fn lost_success(store: &AzureStore, blob: &BlobClient, name: &str, own: &str) -> Result<Receipt, StoreError> {
    let shown = store.block_on(blob.get_properties(None)).map_err(|e| translate(&e, store.doing("look at", name)))?;
    let problem = |e: azure_core::Error| translate(&e, store.doing("look at", name));
    let metadata = shown.metadata().map_err(problem)?;
    let ours = metadata.iter().any(|(k, v)| k.eq_ignore_ascii_case(WRITE) && v == own);
    if !ours {
        return Err(StoreError::AlreadyExists { name: name.to_owned() });
    }
    Ok(Receipt { version: shown.version_id().map_err(problem)?, lock: None })
}

/// A refusal of something that asked for a lock.
pub(super) fn lock_problem(error: &azure_core::Error, name: &str, doing: Doing<'_>) -> StoreError {
    let refused = |reason: String| StoreError::LockRefused { name: name.to_owned(), reason };
    let Some(r) = refusal(error) else { return translate(error, doing) };
    match (r.status, r.code.as_str()) {
        (403, "AuthorizationPermissionMismatch" | "AuthorizationFailure" | "InsufficientAccountPermissions") => {
            refused(format!("{} ({}): {NO_LOCK_RIGHT}", r.said, r.code))
        }
        (404, _) | (401 | 403 | 429 | 500..=599, _) if r.status != 501 => translate(error, doing),
        _ if r.code.contains("Crc64Mismatch") || r.code.contains("Md5Mismatch") => translate(error, doing),
        _ => refused(format!(
            "{} (HTTP {}, {}). Does the container have version-level immutability? `backstop doctor` says, and how to switch it on",
            r.said, r.status, r.code
        )),
    }
}
