//! Times the store's transfers against the bare crate's own parallel block transfer, in one run against one service:
//! `azure-transfer ENDPOINT SAS MEGABYTES`. The service should run in a process of its own (`examples/blob-double.rs`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;
use std::io::Read;
use std::num::NonZero;
use std::time::Instant;

use azure_core::http::{ClientOptions, Transport as SdkTransport};
use azure_storage_blob::clients::{BlobServiceClient, BlobServiceClientOptions};
use azure_storage_blob::models::{BlobClientDownloadOptions, BlockBlobClientUploadOptions};
use azure_storage_blob::stream::tokio::FileStream;
use backstop::http::{Transport, endpoint, for_sdk};
use backstop::store::azure::{Access, AzureOptions, AzureStore, LockBy};
use backstop::store::{Body, LockMode, LockRequest, Sha256, Store};

const PARALLEL: usize = 8;
const PART: usize = 8 << 20;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, address, sas, megabytes] = args.as_slice() else { panic!("azure-transfer ENDPOINT SAS MEGABYTES") };
    let size = megabytes.parse::<usize>().unwrap() * 1_000_000;
    let mut state = 88_172_645_463_325_252u64;
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(size);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("large");
    std::fs::write(&file, &bytes).unwrap();
    let sha256 = Sha256::of(&bytes);
    let shared = azure_core::Bytes::from(bytes);

    let url = endpoint(address).unwrap();
    let transport = Transport::new([&url]).unwrap();
    let names = ["config-snapshots", "audit-logs", "evidence", "attestations"];
    let options = AzureOptions {
        endpoint: url.clone(),
        containers: names.iter().map(|c| ((*c).to_owned(), (*c).to_owned())).collect::<BTreeMap<_, _>>(),
        access: Access::Sas(sas.clone()),
        who: "the SAS".into(),
        transport: transport.clone(),
        by: LockBy::Version,
    };
    let store = AzureStore::open(options).unwrap();
    let mut sdk = for_sdk(&url);
    sdk.set_query(Some(sas));
    let client = ClientOptions { transport: Some(SdkTransport::new(transport)), ..ClientOptions::default() };
    let options = BlobServiceClientOptions { client_options: client, ..BlobServiceClientOptions::default() };
    let service = BlobServiceClient::new(sdk, None, Some(options)).unwrap();
    let runtime = backstop::http::runtime().unwrap();
    names.iter().for_each(|name| store.make_container(name).unwrap());
    let none = LockRequest { mode: LockMode::None, until: store.now().unwrap() };
    for round in 0..3 {
        let bare = service.blob_client("evidence", &format!("bare-{round}"));
        let options = BlockBlobClientUploadOptions {
            parallel: NonZero::new(PARALLEL),
            partition_size: NonZero::new(PART as u64),
            ..BlockBlobClientUploadOptions::default()
        };
        let begun = Instant::now();
        let body = azure_core::http::Body::from(shared.clone());
        runtime.block_on(bare.block_blob_client().upload(body.into(), Some(options))).unwrap();
        let bare_up = begun.elapsed().as_secs_f64();
        // The crate's own way for what lies on disk, as the store's does.
        let from_disk = service.blob_client("evidence", &format!("bare-disk-{round}"));
        let options = BlockBlobClientUploadOptions {
            parallel: NonZero::new(PARALLEL),
            partition_size: NonZero::new(PART as u64),
            ..BlockBlobClientUploadOptions::default()
        };
        let begun = Instant::now();
        runtime.block_on(async {
            let open = tokio::fs::File::open(&file).await.unwrap();
            let stream = FileStream::builder(open).with_buffer_size(PART).build().await.unwrap();
            from_disk.block_blob_client().upload(azure_core::http::Body::from(stream).into(), Some(options)).await.unwrap();
        });
        let disk_up = begun.elapsed().as_secs_f64();
        let name = format!("evidence/store-{round}");
        let begun = Instant::now();
        store.put(&name, Body::File(&file), &sha256, &none).unwrap();
        let own_up = begun.elapsed().as_secs_f64();

        let begun = Instant::now();
        let options = BlobClientDownloadOptions {
            parallel: NonZero::new(PARALLEL),
            partition_size: NonZero::new(PART),
            ..BlobClientDownloadOptions::default()
        };
        let got = runtime.block_on(async { bare.download(Some(options)).await.unwrap().body.collect().await.unwrap() });
        assert_eq!(got.len(), size);
        drop(got);
        let bare_down = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let mut reader = store.open(&name, None).unwrap();
        let (mut buffer, mut total) = (vec![0; 1 << 20], 0);
        loop {
            match reader.read(&mut buffer).unwrap() {
                0 => break,
                n => total += n,
            }
        }
        assert_eq!(total, size);
        let own_down = begun.elapsed().as_secs_f64();
        println!(
            "round {round}: up from memory bare {bare_up:.2} s, from the file bare {disk_up:.2} s, store {own_up:.2} s: {:.2} of bare from memory, {:.2} from the file; down bare {bare_down:.2} s, store {own_down:.2} s, rate {:.2} of bare",
            bare_up / own_up,
            disk_up / own_up,
            bare_down / own_down
        );
        store.remove(&name, None).unwrap();
        store.remove(&format!("evidence/bare-{round}"), None).unwrap();
        store.remove(&format!("evidence/bare-disk-{round}"), None).unwrap();
    }
    // A night of small objects, as many under way as the store likes.
    for _ in 0..2 {
        let night = Instant::now();
        let next = std::sync::atomic::AtomicUsize::new(0);
        let run = std::process::id();
        std::thread::scope(|scope| {
            for _ in 0..store.parallelism() {
                scope.spawn(|| {
                    loop {
                        let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if n >= 100 {
                            return;
                        }
                        let body = [n as u8; 3000];
                        let name = format!("config-snapshots/night/{run}/{}-{n}", night.elapsed().as_nanos());
                        store.put(&name, Body::Bytes(&body), &Sha256::of(&body), &none).unwrap();
                    }
                });
            }
        });
        println!("100 objects, {} at a time: {:.3} s", store.parallelism(), night.elapsed().as_secs_f64());
    }
}
