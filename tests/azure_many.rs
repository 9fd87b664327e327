//! A hundred thousand attestations in Azure: what a checkpoint proved is listed, not fetched one by one; and one that is
//! gone or new among them is still seen.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/azure.rs"]
mod azure;
#[path = "support/blob/mod.rs"]
mod blob;
#[path = "support/mod.rs"]
mod support;

use std::fs;

use azure::Cloud;
use backstop::store::Sha256;
use backstop::vault::attestation::{Kind, Statement, Subject, SubjectDigest};
use backstop::vault::dsse::Envelope;
use backstop::vault::keys::{Signer, from_base64};
use backstop::vault::names::RunId;
use blob::Damage;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

const MANY: u64 = 100_000;

#[test]
fn a_hundred_thousand_attestations_are_listed_once_they_were_proved() {
    let cloud = Cloud::new();
    cloud.sandbox.write("tree/role.json", "{}");
    cloud.json(&["snapshot"], 0);
    load(&cloud);
    let kept = cloud.run(&["checkpoint", "--json"]);
    assert_eq!(kept.code, 0, "{}", kept.stderr);
    fs::write(cloud.sandbox.path("kept.json"), &kept.stdout).unwrap();
    cloud.json(&["snapshot"], 0);

    cloud.double.reset_counts();
    let since = cloud.json(&["verify", "--since", "kept.json"], 0).remove(0);
    let counts = cloud.double.counts();
    assert!(since["attestations"].as_u64().unwrap() > MANY, "{since}");
    let requests: u64 = counts.values().sum();
    assert!(requests <= MANY / 5_000 * 4 + 40, "a listing has 5,000 names: {counts:?}");
    // The bundle of all of them is one object, which comes in parts.
    assert!(counts["GetBlob"] <= 24, "{counts:?}");

    assert!(cloud.double.damage("attestations", "snapshot.tree/0000054321.json", None, Damage::Remove));
    let lost = cloud.json(&["verify", "--since", "kept.json"], 3).remove(0);
    let finding = lost["findings"].as_array().unwrap().iter().find(|f| f["kind"] == "missing_attestation").unwrap();
    assert_eq!((&finding["chain"], &finding["sequence"]), (&json!("snapshot.tree"), &json!(54_321)), "{lost}");
}

/// Heartbeats after the chain's first snapshot, each signed and chained as the agent does, put behind the service's back.
fn load(cloud: &Cloud) {
    let signer = Signer::load(&cloud.sandbox.path("keys/agent.key")).unwrap();
    let mut envelope = cloud.double.content("attestations", "snapshot.tree/0000000001.json", None).unwrap();
    let payload = from_base64(&Envelope::parse(&envelope).unwrap().payload).unwrap();
    let mut statement = Statement::parse(&payload).unwrap();
    let begun = statement.predicate.finished;
    statement.kind = Kind::Heartbeat;
    statement.predicate.objects.clear();
    let details = json!({ "last_success": begun, "next_due": null, "failing": [] });
    statement.predicate.details = details.as_object().unwrap().clone();
    let until = Timestamp::now() + SignedDuration::from_hours(24 * 366 * 9);
    for sequence in 2..=MANY {
        let predicate = &mut statement.predicate;
        predicate.sequence = sequence;
        let before = Sha256::of(&envelope);
        predicate.previous = Some(before);
        let subject =
            Subject { name: format!("attestations/snapshot.tree/{:010}.json", sequence - 1), digest: SubjectDigest { sha256: before } };
        statement.subject = vec![subject];
        predicate.run = RunId::new(begun);
        (predicate.started, predicate.finished) = (begun, begun);
        envelope = Envelope::sign(&statement.to_bytes().unwrap(), &signer);
        let name = format!("snapshot.tree/{sequence:010}.json");
        cloud.double.load("attestations", &name, envelope.clone(), &Sha256::of(&envelope).to_string(), until);
    }
}
