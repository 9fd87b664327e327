//! Adds years of attestations to a vault in a directory, for measuring what an old vault costs: statements as the agent
//! signs them, one after the other on several chains, without the objects that they name.
//!
//! ```text
//! ten-years --home DIR --chains N --attestations N --days N
//! ```
//!
//! `DIR` holds the policy's `keys/` and `vault/`. The vault's chain `snapshot.s00` must have one snapshot, which all others are made
//! from; the chains `snapshot.s00`, `snapshot.s01`, … and `restore-test` grow up to now.

use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use backstop::store::{LockMode, Sha256};
use backstop::vault::attestation::{Kind, ObjectRef, Statement, Subject, SubjectDigest};
use backstop::vault::dsse::Envelope;
use backstop::vault::keys::{Signer, from_base64};
use backstop::vault::names::{ChainName, RunId};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

const USAGE: &str = "usage: ten-years --home DIR --chains N --attestations N --days N";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            writeln!(std::io::stderr(), "{why}\n{USAGE}").ok();
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut home = PathBuf::new();
    let (mut chains, mut attestations, mut days) = (12_usize, 1_000_000_u64, 3652_i64);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--home" => home = value.into(),
            "--chains" => chains = value.parse()?,
            "--attestations" => attestations = value.parse()?,
            "--days" => days = value.parse()?,
            _ => return Err(format!("{argument} is not known").into()),
        }
    }
    let now = Timestamp::now();
    let vault = home.join("vault");
    let agent = Signer::load(&home.join("keys/agent.key"))?;
    let first = vault.join(ChainName::snapshot(&"s00".parse()?).envelope(1));
    let template = Statement::parse(&from_base64(&Envelope::parse(&fs::read(&first)?).ok_or("no envelope")?.payload).ok_or("no payload")?)?;
    let genesis = Sha256::of(&fs::read(vault.join(ChainName::vault().envelope(1)))?);
    if chains == 0 || attestations < chains as u64 || days < 7 {
        return Err("there must be a chain, an attestation for each, and a week".into());
    }
    let each = attestations / chains as u64;
    let interval = SignedDuration::from_secs(days * 86_400 / i64::try_from(each)?);
    std::thread::scope(|scope| {
        let grown: Vec<_> = (0..chains)
            .map(|n| {
                let (template, vault, agent) = (&template, &vault, &agent);
                scope.spawn(move || grow(n, each, interval, now, template, genesis, vault, agent).map_err(|e| e.to_string()))
            })
            .collect();
        grown.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread broke".to_owned())?)
    })?;
    let tester = Signer::load(&home.join("keys/tester.key"))?;
    let weeks = tests(chains, each, now, days, &template, genesis, &vault, &tester)?;
    checkpoint(chains, each, weeks, now, template, genesis, &vault, &agent)
}

/// One checkpoint now, which saw every chain.
#[expect(clippy::too_many_arguments, reason = "a tool of one page")]
fn checkpoint(
    chains: usize,
    each: u64,
    weeks: u64,
    now: Timestamp,
    mut statement: Statement,
    genesis: Sha256,
    vault: &Path,
    signer: &Signer,
) -> Result<(), Box<dyn Error>> {
    let chain = ChainName::checkpoint();
    let _ = fs::remove_dir_all(vault.join(chain.folder()));
    fs::create_dir_all(vault.join(chain.folder()))?;
    let head = |chain: ChainName, sequence: u64| -> Result<serde_json::Value, Box<dyn Error>> {
        Ok(json!({ "chain": chain, "sequence": sequence, "sha256": Sha256::of(&fs::read(vault.join(chain.envelope(sequence)))?) }))
    };
    let mut heads = vec![head(ChainName::restore_test(), weeks)?, head(ChainName::vault(), 1)?];
    for n in 0..chains {
        heads.push(head(ChainName::snapshot(&format!("s{n:02}").parse()?), each)?);
    }
    statement.kind = Kind::Checkpoint;
    let p = &mut statement.predicate;
    (p.chain, p.sequence, p.previous, p.run) = (chain, 1, Some(genesis), RunId::new(now));
    (p.started, p.finished) = (now, now);
    p.objects.clear();
    p.details = json!({ "heads": heads, "locks": [], "bundle": null }).as_object().cloned().unwrap_or_default();
    put(statement, vault, signer).map(drop)
}

/// One chain of snapshots up to now.
#[expect(clippy::too_many_arguments, reason = "a tool of one page")]
fn grow(
    n: usize,
    each: u64,
    interval: SignedDuration,
    now: Timestamp,
    template: &Statement,
    genesis: Sha256,
    vault: &Path,
    signer: &Signer,
) -> Result<(), Box<dyn Error>> {
    let source = format!("s{n:02}");
    let chain = ChainName::snapshot(&source.parse()?);
    fs::create_dir_all(vault.join(chain.folder()))?;
    let (mut previous, mut before) = (genesis, None);
    for sequence in 1..=each {
        let at = now - interval * i32::try_from(each - sequence)?;
        let mut statement = template.clone();
        let p = &mut statement.predicate;
        p.chain = chain.clone();
        p.sequence = sequence;
        p.previous = Some(previous);
        p.run = RunId::new(at);
        (p.started, p.finished) = (at - SignedDuration::from_secs(20), at);
        for object in &mut p.objects {
            object.name =
                object.name.replace("/s00/", &format!("/{source}/")).replace(&template.predicate.run.to_string(), &p.run.to_string());
            object.sha256 = Sha256::of(object.name.as_bytes());
            object.lock.until = Some(at + SignedDuration::from_hours(24 * 2600));
        }
        p.details.insert("captured".into(), json!(p.started));
        p.details.insert("base".into(), json!(p.run));
        p.details.insert("previous_snapshot".into(), json!(before));
        p.details.insert("segments_from".into(), json!([p.run]));
        before = Some(p.run);
        previous = put(statement, vault, signer)?;
    }
    Ok(())
}

/// A restore test each week, of what the week brought.
#[expect(clippy::too_many_arguments, reason = "a tool of one page")]
fn tests(
    chains: usize,
    each: u64,
    now: Timestamp,
    days: i64,
    template: &Statement,
    genesis: Sha256,
    vault: &Path,
    signer: &Signer,
) -> Result<u64, Box<dyn Error>> {
    let chain = ChainName::restore_test();
    fs::create_dir_all(vault.join(chain.folder()))?;
    let weeks = u64::try_from(days)? / 7;
    let mut previous = genesis;
    for week in 1..=weeks {
        let at = now - SignedDuration::from_hours(24 * 7 * i64::try_from(weeks - week)?);
        let mut statement = template.clone();
        statement.kind = Kind::RestoreTest;
        let p = &mut statement.predicate;
        (p.chain, p.sequence, p.previous, p.run) = (chain.clone(), week, Some(previous), RunId::new(at));
        (p.started, p.finished) = (at, at);
        p.objects.clear();
        let (from, to) = ((week - 1) * each / weeks + 1, week * each / weeks);
        let covered: Vec<_> = (0..chains).map(|n| json!({ "chain": format!("snapshot.s{n:02}"), "from": from, "to": to })).collect();
        let tested = json!({
            "chain": "snapshot.s00", "run": p.run, "sequence": to, "drawn": "newest", "passed": true, "objects": 2, "stored_bytes": 20_000,
            "entries": 100, "restored_bytes": 100_000, "restore_seconds": 0.5, "check_seconds": 0.1,
        });
        p.details = json!({
            "tested": [tested], "covered": covered, "not_covered": [], "checks": [], "stored_bytes": 0, "covered_bytes": 0,
        })
        .as_object()
        .cloned()
        .unwrap_or_default();
        previous = put(statement, vault, signer)?;
    }
    Ok(weeks)
}

/// Signs a statement and puts it where it belongs, with its lock.
fn put(mut statement: Statement, vault: &Path, signer: &Signer) -> Result<Sha256, Box<dyn Error>> {
    let subject = |o: &ObjectRef| Subject { name: o.name.clone(), digest: SubjectDigest { sha256: o.sha256 } };
    statement.subject = statement.predicate.objects.iter().map(subject).collect();
    let bytes = Envelope::sign(&statement.to_bytes()?, signer);
    let (folder, name) = (statement.predicate.chain.folder(), statement.predicate.chain.envelope(statement.predicate.sequence));
    let path = vault.join(&name);
    fs::write(&path, &bytes)?;
    let sha256 = Sha256::of(&bytes);
    let lock = json!({
        "mode": LockMode::Locked, "until": statement.predicate.finished + SignedDuration::from_hours(24 * 3700), "enforced_by": "advisory",
        "sha256": sha256, "size": bytes.len(),
    });
    let file = name.trim_start_matches(&folder);
    fs::write(vault.join(format!("{folder}.{file}.lock")), lock.to_string())?;
    Ok(sha256)
}
