//! A store over the double of the Blob service, and policies that name it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::sync::Arc;

use backstop::http::{Transport, endpoint};
use backstop::store::azure::{Access, AzureOptions, AzureStore, LockBy};

use serde_json::Value;

use crate::blob::{BlobDouble, ContainerOptions, Options};
use crate::support::{Ran, Sandbox};

pub const CONTAINERS: [&str; 4] = ["config-snapshots", "audit-logs", "evidence", "attestations"];

/// The options of a double with the four containers of a vault, each keeping locks by version.
pub fn four_containers() -> Options {
    Options { containers: CONTAINERS.iter().map(|name| ContainerOptions::locking(name)).collect(), ..Options::default() }
}

/// A double with the four containers, on the real clock.
pub fn double() -> BlobDouble {
    BlobDouble::start(four_containers())
}

/// Options of a store at an endpoint.
pub fn options(address: &str, access: Access) -> AzureOptions {
    let endpoint = endpoint(address).unwrap();
    AzureOptions {
        transport: Transport::new([&endpoint]).unwrap(),
        endpoint,
        containers: CONTAINERS.iter().map(|c| ((*c).to_owned(), (*c).to_owned())).collect::<BTreeMap<_, _>>(),
        access,
        who: "the test's SAS".into(),
        by: LockBy::Version,
    }
}

/// A store with every right.
pub fn store(double: &BlobDouble) -> Arc<AzureStore> {
    Arc::new(AzureStore::open(options(&double.endpoint(), Access::Sas(double.full_sas()))).unwrap())
}

/// A sandbox whose vault is in a double.
pub struct Cloud {
    pub double: BlobDouble,
    pub sandbox: Sandbox,
    pub sas: std::sync::Mutex<String>,
}

impl Cloud {
    /// Nothing is initialised yet.
    pub fn bare(options: Options) -> Self {
        let double = BlobDouble::start(options);
        let sas = double.full_sas().into();
        let cloud = Self { double, sandbox: Sandbox::new(), sas };
        std::fs::create_dir_all(cloud.sandbox.path("tree")).unwrap();
        cloud
    }

    /// A vault with the source `tree` and the stream `log`.
    pub fn new() -> Self {
        let cloud = Self::bare(four_containers());
        let ran = cloud.init(&[]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        cloud
    }

    pub fn init(&self, more: &[&str]) -> Ran {
        let endpoint = self.double.endpoint();
        let credential = if more.contains(&"--azure-credential") { vec![] } else { vec!["--azure-credential", "sas: { env: VAULT_SAS }"] };
        let args = ["init", "--dir", ".", "--source", "tree=tree", "--stream", "log", "--azure", &endpoint];
        self.run(&[&args, credential.as_slice(), more].concat())
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        self.sandbox.backstop_with(args, &[("VAULT_SAS", &self.sas.lock().unwrap())])
    }

    /// Gives the policy another credential for its vault.
    pub fn credential(&self, authority: &str, credential: &str) {
        let policy = std::fs::read_to_string(self.sandbox.path("backstop.yaml")).unwrap();
        let kept = policy.lines().filter(|l| !["tenant:", "authority:", "arm_endpoint:"].iter().any(|k| l.trim().starts_with(k)));
        let (tenant, origin) = (self.double.options().tenant, self.double.origin());
        let said =
            format!("    tenant: {tenant}\n    authority: {authority}\n    arm_endpoint: {origin}\n    credential: {{ {credential} }}");
        let lines: Vec<String> = kept.map(|l| if l.starts_with("    credential:") { said.clone() } else { l.to_owned() }).collect();
        self.sandbox.write("backstop.yaml", lines.join("\n"));
    }

    /// Runs, expects an exit code, and gives the lines of stdout.
    pub fn json(&self, args: &[&str], code: i32) -> Vec<Value> {
        let all: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let ran = self.run(&all);
        assert_eq!(ran.code, code, "{args:?}\n{}\n{}", ran.stdout, ran.stderr);
        ran.json()
    }

    /// Runs, expects an exit code, and gives what was said to people.
    pub fn fails(&self, args: &[&str], code: i32) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, code, "{args:?}\n{}\n{}", ran.stdout, ran.stderr);
        ran.stderr
    }

    /// `container/name` of every blob, with its versions as the double knows them.
    pub fn blobs(&self) -> BTreeMap<String, Vec<Value>> {
        let dump = self.double.dump();
        let mut out = BTreeMap::new();
        for (container, shown) in dump["containers"].as_object().unwrap() {
            for (name, blob) in shown["blobs"].as_object().unwrap() {
                out.insert(format!("{container}/{name}"), blob["versions"].as_array().unwrap().clone());
            }
        }
        out
    }

    /// The first object whose name holds all the parts.
    pub fn find(&self, parts: &[&str]) -> (String, String) {
        let name = self.blobs().into_keys().find(|name| parts.iter().all(|p| name.contains(p))).unwrap();
        let (container, rest) = name.split_once('/').unwrap();
        (container.to_owned(), rest.to_owned())
    }

    /// How many envelopes a chain has.
    pub fn envelopes(&self, chain: &str) -> usize {
        self.blobs().keys().filter(|name| name.starts_with(&format!("attestations/{chain}/"))).count()
    }

    /// Sends a request of somebody who holds the SAS, past the program.
    pub fn raw(&self, method: &str, blob: &str, query: &str, headers: &[(&str, &str)], body: &str) -> u16 {
        let url = format!("{}/{blob}?{}{}", self.double.endpoint(), self.sas.lock().unwrap(), query);
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::blocking::Client::builder().no_proxy().build().unwrap();
        let mut request = client.request(method.parse().unwrap(), url).header("x-ms-version", "2025-01-05").body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().unwrap().status().as_u16()
    }

    /// Puts other bytes over an object, as whoever may write can.
    pub fn shadow(&self, blob: &str) {
        assert_eq!(self.raw("PUT", blob, "", &[("x-ms-blob-type", "BlockBlob")], "not what was sealed"), 201);
    }
}
