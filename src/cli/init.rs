//! `backstop init`: keys, a commented policy, the vault's genesis, and what to do with each key.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::context::{Context, agent};
use super::exit::{CliError, Exit};
use super::init_azure::PlaceArgs;
use super::output::{GOOD, STRONG};
use crate::policy::LoadedPolicy;
use crate::store::{Sha256, Store};
use crate::vault::keys::{Identities, Recipients, Role, Signer, SignerEntry, new_identity};
use crate::vault::names::ShortName;
use crate::vault::{Founding, GenesisError, found};

#[derive(Args)]
pub struct InitArgs {
    /// Where to put keys, policy and vault
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// A directory tree to take snapshots of; repeatable
    #[arg(long, value_name = "NAME=PATH")]
    source: Vec<String>,
    /// A stream to import logs into, with ids at /id and times at /createdDateTime; repeatable
    #[arg(long, value_name = "NAME")]
    stream: Vec<String>,
    #[command(flatten)]
    place: PlaceArgs,
}

const TEMPLATE: &str = include_str!("init.yaml");

pub fn run(context: &Context, args: &InitArgs) -> Result<Exit, CliError> {
    create(context, &args.dir, |recipients| policy_text(args, recipients))?;
    Ok(Exit::Done)
}

/// Makes keys, the policy that `text` gives for the recipients, and the vault's genesis.
pub fn create(context: &Context, dir: &Path, text: impl Fn(&[String]) -> Result<String, CliError>) -> Result<(), CliError> {
    let policy_file = dir.join("backstop.yaml");
    let keys = dir.join("keys");
    let genesis_file = keys.join("genesis.json");
    if genesis_file.exists() {
        return Err(CliError::new(Exit::Usage, format!("{} was initialised before", dir.display()))
            .hint("its keys and policy are kept as they are; choose another --dir for another vault"));
    }
    if policy_file.exists() && !keys.join("agent.key").exists() {
        return Err(CliError::new(Exit::Usage, format!("there is a policy {} already", policy_file.display()))
            .hint("choose another --dir, or move the policy away: `init` does not overwrite it"));
    }
    make_dir(&keys, 0o700)?;
    let mut recipients = Vec::new();
    let mut identities = Vec::new();
    for n in 1..=2 {
        let path = keys.join(format!("identity-{n}.txt"));
        if !path.exists() {
            write_new(&path, new_identity(jiff::Timestamp::now()).0.as_bytes(), 0o600)?;
        }
        recipients.extend(Identities::load(std::slice::from_ref(&path))?.recipients());
        identities.push(path);
    }
    let mut signers = Vec::new();
    let mut operator = None;
    for role in [Role::Agent, Role::Tester, Role::Operator] {
        let (private, public) = (keys.join(format!("{role}.key")), keys.join(format!("{role}.pub")));
        if !private.exists() {
            let signer = Signer::generate().map_err(|e| CliError::new(Exit::Failed, format!("the system gives no randomness: {e}")))?;
            write_new(&private, signer.to_pem().as_bytes(), 0o600)?;
        }
        let signer = Signer::load(&private)?;
        write_new(&public, signer.public().to_pem().as_bytes(), 0o644)?;
        signers.push((SignerEntry::new(role, &signer.public()), public));
        operator = Some(signer);
    }
    let Some(operator) = operator else { return Err(CliError::new(Exit::Failed, "no operator key")) };
    if !policy_file.exists() {
        write_new(&policy_file, text(&recipients)?.as_bytes(), 0o644)?;
    }
    let policy = LoadedPolicy::load(&policy_file)?;
    let store = super::store::create(&policy)?;
    let recipients = Recipients::parse(&recipients)?;
    let founding = Founding {
        operator: &operator,
        signers: signers.iter().map(|s| s.0.clone()).collect(),
        recipients: &recipients,
        policy: &policy.bytes,
        retention: policy.policy.retention(),
        grace: policy.policy.vault.lock.grace,
        lock_mode: policy.policy.vault.lock.mode,
        agent: agent(),
    };
    let genesis = match found(&store, founding) {
        // Killed between genesis and its copy: the copy is taken now.
        Err(GenesisError::AlreadyFounded(_)) if founded_by(&store, &operator) => {
            store.read("attestations/vault/0000000001.json", None, 1 << 20)?
        }
        other => other?,
    };
    write_new(&genesis_file, &genesis, 0o644)?;
    report(context, &policy, &store.describe(), &identities, &recipients, &signers, &Sha256::of(&genesis));
    Ok(())
}

fn founded_by(store: &Arc<dyn Store>, operator: &Signer) -> bool {
    let bytes = store.read("attestations/vault/0000000001.json", None, 1 << 20).unwrap_or_default();
    crate::vault::dsse::Envelope::parse(&bytes).is_some_and(|e| e.verified_payload(&operator.public()).is_some())
}

fn report(
    context: &Context,
    policy: &LoadedPolicy,
    vault: &str,
    identities: &[PathBuf],
    recipients: &Recipients,
    signers: &[(SignerEntry, PathBuf)],
    genesis: &Sha256,
) {
    let output = context.output;
    output.json(&json!({
        "policy": policy.file,
        "vault": vault,
        "identities": identities,
        "recipients": recipients.texts(),
        "signers": signers.iter().map(|(s, file)| json!({ "role": s.role, "public_key": file, "keyid": s.keyid })).collect::<Vec<_>>(),
        "genesis_sha256": genesis,
    }));
    let keys = identities.first().and_then(|i| i.parent()).unwrap_or(Path::new("keys")).display();
    output.say(format!(
        "{GOOD}A new vault is at {}.{GOOD:#}

{STRONG}Its genesis{STRONG:#}, from which all trust starts. Keep this digest elsewhere, on paper too:
  {genesis}

{STRONG}What to do with each key{STRONG:#}
  {keys}/identity-1.txt   opens backups. Move it off this machine: who restores keeps it.
  {keys}/identity-2.txt   opens backups too. Take it offline (a safe, another place), so that losing one loses nothing.
  {keys}/agent.key        signs backups. It stays here; it cannot open what it backs up.
  {keys}/tester.key       signs restore tests and drills. Move it to the machine that tests.
  {keys}/operator.key     signs rotations, holds and dispositions. Take it offline.
  {keys}/genesis.json     public: what this agent checks the vault against.

{STRONG}Next{STRONG:#}
  edit {}        say what is backed up
  backstop --policy {} policy check
  backstop --policy {} snapshot",
        vault,
        policy.file.display(),
        policy.file.display(),
        policy.file.display(),
    ));
}

fn policy_text(args: &InitArgs, recipients: &[String]) -> Result<String, CliError> {
    let usage = |message: String| CliError::new(Exit::Usage, message);
    let mut sources = String::new();
    for text in &args.source {
        let (name, path) = text.split_once('=').ok_or_else(|| usage(format!("--source {text}: write NAME=PATH")))?;
        name.parse::<ShortName>().map_err(|e| usage(format!("--source: {e}")))?;
        let path = fs::canonicalize(path).map_err(|e| usage(format!("--source {name}: cannot find {path}: {e}")))?;
        let path = serde_json::to_string(&path).map_err(|_| usage(format!("--source {name}: the path is not UTF-8")))?;
        sources.push_str(&format!("  {name}: {{ files: {{ path: {path} }} }}\n"));
    }
    let mut streams = String::new();
    for name in &args.stream {
        name.parse::<ShortName>().map_err(|e| usage(format!("--stream: {e}")))?;
        streams.push_str(&format!("  {name}: {{ import: {{ id: /id, time: /createdDateTime }} }}\n"));
    }
    let section = |name: &str, body: String| if body.is_empty() { format!("{name}: {{}}\n") } else { format!("{name}:\n{body}") };
    Ok(TEMPLATE
        .replace("@VAULT@", &args.place.yaml()?)
        .replace("@LOCK@", args.place.lock_mode())
        .replace("@RECIPIENTS@", &recipients.join(", "))
        .replace("@SOURCES@", &section("sources", sources))
        .replace("@STREAMS@", &section("streams", streams)))
}

fn make_dir(path: &Path, mode: u32) -> Result<(), CliError> {
    let failed = |e: std::io::Error| CliError::new(Exit::Failed, format!("cannot create {}: {e}", path.display()));
    if !path.is_dir() {
        fs::create_dir_all(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    }
    Ok(())
}

/// Writes a file whole or not at all; one that is there already is replaced by the same content only.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CliError> {
    let failed = |e: std::io::Error| CliError::new(Exit::Failed, format!("cannot write {}: {e}", path.display()));
    let temporary = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&temporary).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)
}
