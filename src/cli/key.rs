//! `backstop key new`, `key ls`, `key add-signer` and `key rotate`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::context::Context;
use super::exit::{CliError, Exit};
use super::init::write_new;
use super::output::{BAD, FAINT, GOOD, STRONG};
use crate::store::Sha256;
use crate::vault::keys::{Identities, KeyError, PublicKey, Role, Signer, SignerEntry, new_identity};

#[derive(Subcommand)]
pub enum KeyCommand {
    /// Make an age identity, or a signing key
    New {
        /// Which
        kind: NewKey,
        /// Where to; must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// List recipients and signers of the vault, and which recipients the given identities open
    Ls,
    /// Name one more signer of the vault; nobody's key ends
    AddSigner(AddArgs),
    /// Let a new key take an old one's place: the old one is valid up to now and no further
    Rotate(RotateArgs),
}

#[derive(Args)]
pub struct AddArgs {
    /// What it may attest
    #[arg(long, value_enum)]
    role: RoleName,
    /// The new signer's public key, as `key new signer` made it
    #[arg(long, value_name = "FILE")]
    public_key: PathBuf,
    /// The operator's signing key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(Args)]
pub struct RotateArgs {
    /// The key that ends: its key id, or a file with its public key
    #[arg(long, value_name = "KEYID|FILE")]
    old: String,
    /// The new signer's public key, as `key new signer` made it
    #[arg(long, value_name = "FILE")]
    public_key: PathBuf,
    /// The operator's signing key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum RoleName {
    /// Snapshots, exports, heartbeats, checkpoints
    Agent,
    /// Restore tests and drills
    Tester,
    /// Holds, dispositions, rotations
    Operator,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Agent => Self::Agent,
            RoleName::Tester => Self::Tester,
            RoleName::Operator => Self::Operator,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum NewKey {
    /// Opens sealed data; its recipient goes into the policy
    Identity,
    /// Signs attestations, in the role that a rotation will give it
    Signer,
}

pub fn run(context: &Context, command: &KeyCommand) -> Result<Exit, CliError> {
    match command {
        KeyCommand::New { kind, out } => new(context, *kind, out),
        KeyCommand::Ls => ls(context),
        KeyCommand::AddSigner(args) => {
            let new = SignerEntry::new(args.role.into(), &public_key(&args.public_key)?);
            commit(context, &args.key, new, None)
        }
        KeyCommand::Rotate(args) => rotate(context, args),
    }
}

fn new(context: &Context, kind: NewKey, out: &PathBuf) -> Result<Exit, CliError> {
    if out.exists() {
        return Err(CliError::new(Exit::Usage, format!("{} exists already", out.display()))
            .hint("choose another --out: keys are never overwritten"));
    }
    match kind {
        NewKey::Identity => {
            let (text, recipient) = new_identity(jiff::Timestamp::now());
            write_new(out, text.as_bytes(), 0o600)?;
            context.output.json(&json!({ "kind": "identity", "file": out, "recipient": recipient }));
            context.output.say(format!("{GOOD}{}{GOOD:#} opens what is sealed to\n  {recipient}\nAdd that to encryption.recipients in the policy; the next snapshot is then a base sealed to it.\nWhat was sealed before stays closed to it.", out.display()));
        }
        NewKey::Signer => {
            let signer = Signer::generate().map_err(|e| CliError::new(Exit::Failed, format!("the system gives no randomness: {e}")))?;
            let public = out.with_extension("pub");
            if public.exists() {
                return Err(CliError::new(Exit::Usage, format!("{} exists already", public.display())));
            }
            write_new(out, signer.to_pem().as_bytes(), 0o600)?;
            write_new(&public, signer.public().to_pem().as_bytes(), 0o644)?;
            context.output.json(&json!({ "kind": "signer", "file": out, "public_key": public, "keyid": signer.key_id() }));
            context.output.say(format!("{GOOD}{}{GOOD:#}, public key {}\n  key id {}\nThe vault does not know it yet: what it attests is void until `backstop key add-signer` or `key rotate` names it.", out.display(), public.display(), signer.key_id()));
        }
    }
    Ok(Exit::Done)
}

fn public_key(path: &Path) -> Result<PublicKey, CliError> {
    let text = std::fs::read_to_string(path).map_err(|source| KeyError::Read { path: path.to_owned(), source })?;
    PublicKey::from_pem(&text).map_err(|_| {
        let hint = "give the .pub file that `backstop key new signer` made";
        CliError::new(Exit::Usage, format!("{} is not an Ed25519 public key in PEM", path.display())).hint(hint)
    })
}

fn rotate(context: &Context, args: &RotateArgs) -> Result<Exit, CliError> {
    let old = match args.old.parse::<Sha256>() {
        Ok(keyid) => keyid,
        Err(_) => public_key(Path::new(&args.old))?.key_id(),
    };
    let (ledger, _) = context.ledger()?;
    let entry = ledger.trust().signers().find(|(entry, _)| entry.keyid == old).map(|(entry, _)| entry.role);
    let Some(role) = entry else { return Err(crate::vault::RotationError::NotASigner(old).into()) };
    commit(context, &args.key, SignerEntry::new(role, &public_key(&args.public_key)?), Some(old))
}

fn commit(context: &Context, key: &Path, new: SignerEntry, old: Option<Sha256>) -> Result<Exit, CliError> {
    let (writer, policy) = context.operator(key)?;
    let (role, keyid) = (new.role, new.keyid);
    let committed = writer.rotate(new, old, &policy.bytes)?;
    let output = context.output;
    output.json(&json!({
        "sequence": committed.sequence, "sha256": committed.sha256, "finished": committed.finished, "role": role, "keyid": keyid, "old": old,
    }));
    let ended = match old {
        Some(old) => format!("\n  {old}\nis valid up to now and no further; what it attests from here on is void."),
        None => String::new(),
    };
    output.say(format!("{GOOD}{keyid}{GOOD:#}\n  signs as {role} from now on (vault/{}){ended}", committed.sequence));
    if old.is_some() && role == Role::Agent {
        output.say("Put the new key where `signing.key_file` in the policy says before the next run.");
    }
    Ok(Exit::Done)
}

fn ls(context: &Context) -> Result<Exit, CliError> {
    let (ledger, policy) = context.ledger()?;
    let opened = Identities::load(&context.global.identity)?.recipients();
    let output = context.output;
    let mut recipients: Vec<String> = ledger.trust().recipients().to_vec();
    let sealing: Vec<String> =
        policy.map(|p| p.policy.encryption.recipients.value.iter().map(|r| r.value.clone()).collect()).unwrap_or_default();
    recipients.extend(sealing.iter().cloned());
    recipients.sort();
    recipients.dedup();
    output.tell(format!("{STRONG}recipients{STRONG:#}"));
    for recipient in &recipients {
        let (mine, now) = (opened.contains(recipient), sealing.is_empty() || sealing.contains(recipient));
        output.json(&json!({ "kind": "recipient", "recipient": recipient, "identity_at_hand": mine, "sealed_to_now": now }));
        let note = match (mine, now) {
            (true, _) => format!("{GOOD}opened by a given identity{GOOD:#}"),
            (false, true) => format!("{FAINT}no identity of it was given{FAINT:#}"),
            (false, false) => format!("{FAINT}earlier; the policy no longer names it{FAINT:#}"),
        };
        output.tell(format!("  {recipient}  {note}"));
    }
    output.tell(format!("{STRONG}signers{STRONG:#}"));
    for (signer, valid) in ledger.trust().signers() {
        output.json(
            &json!({ "kind": "signer", "role": signer.role, "keyid": signer.keyid, "public_key": signer.public_key, "valid": valid }),
        );
        let role = match signer.role {
            Role::Agent => "agent",
            Role::Tester => "tester",
            Role::Operator => "operator",
        };
        let note = if valid { format!("{GOOD}valid{GOOD:#}") } else { format!("{BAD}rotated{BAD:#}") };
        output.tell(format!("  {role:<9} {}  {note}", signer.keyid));
    }
    output.json(&json!({ "kind": "genesis", "sha256": ledger.trust().genesis(), "vault": ledger.trust().vault() }));
    output.tell(format!("{STRONG}genesis{STRONG:#}\n  {}", ledger.trust().genesis()));
    Ok(Exit::Done)
}
