//! `quickstart --azure URL`: the whole first night into a storage account, on the double and on Azurite, which keeps no
//! locks and is said to keep none.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/azure.rs"]
mod azure;
#[path = "support/azurite.rs"]
mod azurite;
#[path = "support/blob/mod.rs"]
mod blob;
#[path = "support/mod.rs"]
mod support;

use std::fs;

use serde_json::Value;
use support::Sandbox;

fn quickstart(sandbox: &Sandbox, address: &str, env: &[(&str, &str)], code: i32) -> (Value, String) {
    let ran = sandbox.backstop_with(&["quickstart", "--dir", "q", "--users", "60", "--port", "0", "--azure", address, "--json"], env);
    assert_eq!(ran.code, code, "{}\n{}", ran.stdout, ran.stderr);
    (ran.json().into_iter().next().unwrap_or_default(), ran.stderr)
}

#[test]
fn the_first_night_into_an_account_that_locks() {
    let sandbox = Sandbox::new();
    let double = azure::double();
    let (shown, _) = quickstart(&sandbox, &format!("{}?{}", double.endpoint(), double.full_sas()), &[], 0);
    assert_eq!(shown["vault"], double.endpoint());
    assert_eq!(shown["recovered_with_tools"], true);
    assert!(shown["compared_records"].as_u64().unwrap() > 100, "{shown}");
    // What it claims, seen from outside.
    let dump = double.dump();
    let mut locked = 0;
    for container in azure::CONTAINERS {
        for (name, blob) in dump["containers"][container]["blobs"].as_object().unwrap() {
            assert_eq!(blob["versions"][0]["lock"]["mode"], "locked", "{name}");
            locked += 1;
        }
    }
    assert!(locked > 100);
    let policy = fs::read_to_string(sandbox.path("q/backstop.yaml")).unwrap();
    assert!(policy.contains("mode: locked") && !policy.contains("sig="), "{policy}");
    let verified = sandbox.backstop(&["--policy", "q/backstop.yaml", "verify", "--json"]);
    assert_eq!(verified.code, 0, "{}", verified.stdout);
    // A second time it goes on, and the vault stays where it is.
    let again = sandbox.backstop(&["quickstart", "--dir", "q", "--port", "0", "--json"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(again.json()[0]["vault"], double.endpoint());
    let (_, said) = quickstart(&sandbox, &double.endpoint(), &[], 2);
    assert!(said.contains("is not moved"), "{said}");
}

#[test]
fn azurite_serves_and_is_said_to_lock_nothing() {
    let sandbox = Sandbox::new();
    let emulator = azurite::Azurite::start();
    let sas = emulator.sas();
    let ran = sandbox.backstop_with(
        &["quickstart", "--dir", "q", "--users", "60", "--port", "0", "--azure", &emulator.endpoint()],
        &[("AZURE_STORAGE_SAS_TOKEN", &sas)],
    );
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    for said in ["takes locks and ignores them", "not locked", "nothing is locked", "were stored without any lock"] {
        assert!(ran.stdout.contains(said), "{said}: {}", ran.stdout);
    }
    assert!(!ran.stdout.contains("until 20"), "no lock is claimed: {}", ran.stdout);
    let policy = fs::read_to_string(sandbox.path("q/backstop.yaml")).unwrap();
    assert!(policy.contains("mode: none"), "{policy}");
}

#[test]
fn an_account_that_refuses_locks_is_no_place_for_a_first_night() {
    let sandbox = Sandbox::new();
    let containers = azure::CONTAINERS.iter().map(|name| blob::ContainerOptions::plain(name)).collect();
    let double = blob::BlobDouble::start(blob::Options { containers, ..blob::Options::default() });
    let (_, said) = quickstart(&sandbox, &format!("{}?{}", double.endpoint(), double.full_sas()), &[], 5);
    assert!(said.contains("keeps no locks as it is set up") && said.contains("setup.sh"), "{said}");
}
