//! Microsoft's own client library understands the double: headers, XML, errors.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::error::ErrorKind;
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Request, RequestContent, StatusCode, Transport, Url};
use azure_core::time::{OffsetDateTime, parse_rfc3339};
use azure_storage_blob::models::{
    BlobClientDeleteOptions, BlobClientGetPropertiesResultHeaders as _, BlobClientSetImmutabilityPolicyOptions,
    BlobContainerClientGetPropertiesResultHeaders as _, BlobContainerClientListBlobsOptions, BlockBlobClientUploadOptions, BlockListType,
    BlockLookupList, ImmutabilityPolicyMode, ListBlobsIncludeItem,
};
use azure_storage_blob::{BlobServiceClient, BlobServiceClientOptions, StorageError};
use futures::{AsyncReadExt as _, TryStreamExt as _};

use super::{Harness, client};

/// The way to the double: a client for blocking requests, on a thread of its own.
#[derive(Debug)]
struct Wire(reqwest::blocking::Client);

#[async_trait]
impl HttpClient for Wire {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let method = reqwest::Method::from_bytes(request.method().as_ref().as_bytes()).unwrap();
        let mut sent = self.0.request(method, request.url().as_str());
        for (name, value) in request.headers().iter().filter(|(name, _)| name.as_str() != "content-length") {
            sent = sent.header(name.as_str(), value.as_str());
        }
        let body = match request.body().clone() {
            Body::Bytes(bytes) => bytes.to_vec(),
            Body::SeekableStream(mut stream) => {
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).await.unwrap();
                bytes
            }
        };
        let failed = |why: reqwest::Error| azure_core::Error::new(ErrorKind::Io, why);
        let answer = tokio::task::spawn_blocking(move || {
            let response = sent.body(body).send()?;
            Ok((response.status().as_u16(), response.headers().clone(), response.bytes()?))
        });
        let (status, received, bytes) = answer.await.unwrap().map_err(failed)?;
        let mut headers = Headers::new();
        for (name, value) in &received {
            headers.insert(name.as_str().to_owned(), value.to_str().unwrap().to_owned());
        }
        Ok(AsyncRawResponse::from_bytes(StatusCode::from(status), headers, bytes))
    }
}

/// Runs what a test says to a client of the account.
fn with_client<F: Future<Output = ()>>(h: &Harness, run: impl FnOnce(BlobServiceClient) -> F) {
    let mut options = BlobServiceClientOptions::default();
    options.client_options.transport = Some(Transport::new(Arc::new(Wire(client()))));
    let url = Url::parse(&format!("{}?{}", h.double.endpoint(), h.sas)).unwrap();
    let service = BlobServiceClient::new(url, None, Some(options)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(run(service));
    runtime.shutdown_background();
}

fn until() -> OffsetDateTime {
    parse_rfc3339("2027-06-01T00:00:00Z").unwrap()
}

fn code(error: azure_core::Error) -> String {
    let error = StorageError::try_from(error).unwrap();
    assert!(error.message.is_some_and(|m| !m.is_empty()));
    error.error_code.unwrap().to_string()
}

#[test]
fn an_upload_with_a_lock_is_understood_both_ways() {
    let h = Harness::new();
    with_client(&h, |service| async move {
        let blob = service.blob_client("evidence", "a/b c&<d>.json");
        let options = || BlockBlobClientUploadOptions {
            immutability_policy_expiry: Some(until()),
            immutability_policy_mode: Some(ImmutabilityPolicyMode::Locked),
            metadata: Some(HashMap::from([("sha256".to_owned(), "abc".to_owned())])),
            if_none_match: Some("*".into()),
            ..Default::default()
        };
        blob.upload(RequestContent::from(b"hello".to_vec()), Some(options())).await.unwrap();
        let again = blob.upload(RequestContent::from(b"hello".to_vec()), Some(options())).await.err().unwrap();
        assert_eq!(code(again), "BlobAlreadyExists");
        let shown = blob.get_properties(None).await.unwrap();
        assert_eq!(shown.immutability_policy_expires_on().unwrap(), Some(until()));
        assert_eq!(shown.immutability_policy_mode().unwrap(), Some(ImmutabilityPolicyMode::Locked));
        assert_eq!((shown.content_length().unwrap(), shown.legal_hold().unwrap()), (Some(5), None));
        let version = shown.version_id().unwrap().unwrap();
        assert_eq!(code(blob.delete(None).await.err().unwrap()), "BlobImmutableDueToPolicy");
        let options = BlobClientDeleteOptions { version_id: Some(version.clone()), ..Default::default() };
        assert_eq!(code(blob.delete(Some(options)).await.err().unwrap()), "OperationNotAllowedOnRootBlob");
        blob.upload(RequestContent::from(b"newer".to_vec()), None).await.unwrap();
        let old = blob.with_version(&version).unwrap().download(None).await.unwrap();
        assert_eq!(old.body.collect().await.unwrap(), b"hello"[..]);
        let longer = until() + std::time::Duration::from_secs(86_400);
        let options = BlobClientSetImmutabilityPolicyOptions {
            immutability_policy_mode: Some(ImmutabilityPolicyMode::Locked),
            version_id: Some(version),
            ..Default::default()
        };
        blob.set_immutability_policy(&longer, Some(options)).await.unwrap();
        blob.set_legal_hold(true, None).await.unwrap();
        assert_eq!(blob.get_properties(None).await.unwrap().legal_hold().unwrap(), Some(true));
        let container = service.blob_container_client("evidence").get_properties(None).await.unwrap();
        assert_eq!(container.is_immutable_storage_with_versioning_enabled().unwrap(), Some(true));
    });
}

#[test]
fn listings_are_parsed_page_by_page() {
    let h = Harness::new();
    let names = ["a&b", "bell\u{7}", "c/d e", "z"];
    for name in names {
        h.put_locked(&format!("evidence/{name}"), "Unlocked", 30, b"one");
        h.put(&format!("evidence/{name}"), &[("x-ms-meta-n", "1"), ("x-ms-tags", "k=v"), ("x-ms-legal-hold", "true")], b"two");
    }
    with_client(&h, |service| async move {
        let options = BlobContainerClientListBlobsOptions {
            include: Some(vec![
                ListBlobsIncludeItem::Versions,
                ListBlobsIncludeItem::Metadata,
                ListBlobsIncludeItem::Tags,
                ListBlobsIncludeItem::ImmutabilityPolicy,
                ListBlobsIncludeItem::LegalHold,
            ]),
            maxresults: Some(3),
            ..Default::default()
        };
        let pager = service.blob_container_client("evidence").list_blobs(Some(options)).unwrap();
        let items: Vec<_> = pager.try_collect().await.unwrap();
        let found: Vec<_> = items.iter().map(|item| item.name.clone().unwrap()).collect();
        assert_eq!(found, names.iter().flat_map(|name| [name.to_string(), name.to_string()]).collect::<Vec<_>>());
        let (old, new) = (&items[0], &items[1]);
        let properties = old.properties.as_ref().unwrap();
        assert_eq!(properties.immutability_policy_mode, Some(ImmutabilityPolicyMode::Unlocked));
        assert!(properties.immutability_policy_expires_on.is_some() && properties.creation_time.is_some());
        assert_eq!((properties.content_length, properties.content_md5.as_ref().unwrap().len()), (Some(3), 16));
        assert_eq!((old.is_current_version, new.is_current_version), (None, Some(true)));
        assert_eq!(new.properties.as_ref().unwrap().legal_hold, Some(true));
        assert_eq!(new.metadata.as_ref().unwrap().values.as_ref().unwrap()["n"], "1");
        assert!(new.version_id > old.version_id && new.blob_tags.is_some());
    });
}

#[test]
fn blocks_containers_and_the_service_are_parsed() {
    let h = Harness::new();
    with_client(&h, |service| async move {
        let blob = service.blob_client("plain", "blocks").block_blob_client();
        for (id, data) in [(b"0001", "one"), (b"0002", "two")] {
            blob.stage_block(id, 3, RequestContent::from(data.as_bytes().to_vec()), None).await.unwrap();
        }
        let list = BlockLookupList { latest: Some(vec![b"0001".to_vec(), b"0002".to_vec()]), ..Default::default() };
        blob.commit_block_list(list.try_into().unwrap(), None).await.unwrap();
        let blocks = blob.get_block_list(BlockListType::All, None).await.unwrap().into_model().unwrap();
        let committed = blocks.committed_blocks.unwrap();
        assert_eq!((committed.len(), committed[1].name.as_deref(), committed[1].size), (2, Some(b"0002".as_slice()), Some(3)));
        let containers: Vec<_> = service.list_containers(None).unwrap().try_collect().await.unwrap();
        let properties = containers[0].properties.as_ref().unwrap();
        assert_eq!(properties.is_immutable_storage_with_versioning_enabled, Some(true));
        let shown = service.get_properties(None).await.unwrap().into_model().unwrap();
        assert_eq!(shown.delete_retention_policy.unwrap().enabled, Some(false));
        // An upload in parts, and a download of many ranges.
        let big: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
        let blob = service.blob_client("plain", "big");
        blob.upload(RequestContent::from(big.clone()), None).await.unwrap();
        let got = blob.download(None).await.unwrap().body.collect().await.unwrap();
        assert!(got == big);
        blob.upload(RequestContent::from(Vec::new()), None).await.unwrap();
        assert_eq!(blob.download(None).await.unwrap().body.collect().await.unwrap().len(), 0);
    });
    let counts = h.double.counts();
    assert!(counts["PutBlock"] > 2 && counts["GetBlob"] >= 2, "{counts:?}");
}
