//! `backstop quickstart`: the whole life of a backup on this machine, with the commands one would type.
//!
//! Every step is one that may be interrupted and run again: what is there is kept, and the story goes on.

mod azure;
mod damage;
mod home;
mod screen;
mod tools;
mod truth;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;

use super::context::Context;
use super::exit::{CliError, Exit};
use super::output::{DOUBT, FAINT, GOOD, STRONG, grouped, human_bytes};
use super::{Cli, dispatch};
use crate::sample::Tenant;
use crate::vault::Ledger;
use home::Home;
use truth::Truth;

#[derive(Args)]
pub struct QuickstartArgs {
    /// Where everything goes: an empty directory, or one of an earlier quickstart
    #[arg(long, value_name = "DIR", default_value = "backstop-quickstart")]
    dir: PathBuf,
    /// Users of the sample tenant, the first time
    #[arg(long, value_name = "N", default_value_t = 500)]
    users: usize,
    /// Where the sample tenant listens; unless said, 8480 or whatever is free
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// A storage account for the vault: its Blob endpoint, or that of an emulator, with or without a SAS as its query
    #[arg(long, value_name = "URL")]
    azure: Option<String>,
    /// Keep the sample tenant running at the end, to try things on it
    #[arg(long)]
    serve: bool,
}

/// Everyday changes between two snapshots.
const CHANGES: usize = 6;

/// What the story proved and measured; every part is filled by the step that saw it.
#[derive(Default)]
pub(super) struct Proof {
    snapshot_seconds: f64,
    export_seconds: f64,
    delta_seconds: f64,
    restore_seconds: f64,
    restored: u64,
    compared: u64,
    attestations: u64,
    objects: u64,
    damaged_object: String,
    tools: tools::Recovery,
}

pub fn run(context: &Context, args: &QuickstartArgs) -> Result<Exit, CliError> {
    let begun = Instant::now();
    let mut home = Home::open(&args.dir, args.users)?;
    let story = Story { context: context.muted_if_json() };
    let again = home.is_initialised();
    if let Some(address) = &args.azure {
        if again {
            return Err(CliError::new(Exit::Usage, "the vault of this quickstart was made already, and is not moved")
                .hint("choose another --dir, or leave --azure out: the policy says where the vault is"));
        }
        let place = azure::place(address)?;
        home.place(place.yaml, place.lock)?;
    }
    let place = if home.in_azure() { "in a storage account" } else { "on this machine" };
    story.title(&format!("A tenant and keys on this machine, and a vault {place}"));
    if home.without_locks() {
        story.say(format!("{DOUBT}{}{DOUBT:#}", azure::IGNORES_LOCKS));
    }
    story.say(format!("{FAINT}$ cd {}{FAINT:#}", args.dir.display()));
    let (tenant, server) = home.tenant(args.port)?;
    home.initialise(&context.muted(), &server.url(), &tenant)?;
    let sort = if again { "goes on" } else { "begins" };
    if !again {
        story.say("Two age identities that open backups (the agent needs neither), three");
        story.say("signing keys, a policy and an empty vault, as `backstop init` makes them.");
    }
    story.say(format!("A sample tenant of {} users answers at {} as", home.users(), server.url()));
    story.say(format!("Microsoft Graph and Azure do; its history {sort}."));

    let mut proof = Proof::default();
    story.title("The first night: full configuration, then the access logs");
    proof.snapshot_seconds = story.run(&["snapshot"], Exit::Done)?;
    proof.export_seconds = story.run(&["export"], Exit::Done)?;
    let before = Truth::of(&tenant)?;

    story.title("A day passes: everyday changes, and an intruder");
    for deed in home.change(&tenant, CHANGES)? {
        story.say(format!("  {FAINT}{}{FAINT:#}", deed.what));
    }
    for deed in home.mischief(&tenant)? {
        story.say(format!("  {DOUBT}{}{DOUBT:#}", deed.what));
    }

    story.title("The next snapshot stores only what changed");
    proof.delta_seconds = story.run(&["snapshot"], Exit::Done)?;
    let after = Truth::of(&tenant)?;

    story.title("What happened? The two snapshots, compared");
    story.run(&["diff", "entra~1", "entra", "--identity", home::IDENTITY], Exit::Done)?;

    story.title("An auditor's look: no key, only the vault and its first digest");
    let genesis = home.genesis()?;
    if home.in_azure() {
        story.run(&["verify", "--genesis", &genesis], Exit::Done)?;
        story.title("A plain download of the containers, as any tool makes it");
        home.clear("vault")?;
        let (objects, bytes) = azure::download(home.store()?.as_ref(), Path::new("vault"))?;
        story.say(format!("{} objects, {}, into vault/", grouped(objects), human_bytes(bytes)));
        story.run(&["verify", "--vault", "vault", "--genesis", &genesis, "--ignore-locks"], Exit::Done)?;
    } else {
        story.run(&["verify", "--vault", "vault", "--genesis", &genesis], Exit::Done)?;
    }

    story.title("Back to before the intruder: restored, and compared with what the tenant served");
    home.clear("restored")?;
    proof.restore_seconds = story.run(&["restore", "files", "entra~1", "--to", "restored", "--identity", home::IDENTITY], Exit::Done)?;
    proof.compared = before.compare(&home.path("restored"))?;
    proof.restored = proof.compared;
    story.say(format!("{GOOD}{} records of the tenant's own dump, each the same{GOOD:#}", grouped(proof.compared)));

    story.title("The weekly test, by another hand: restored, read back, and what it means checked");
    story.run(&["restore-test", "--identity", home::IDENTITY, "--no-live"], Exit::Done)?;

    story.title("The monthly drill: a disaster in a stand-in, brought back from the vault alone");
    story.run(&["drill", "--identity", home::IDENTITY], Exit::Done)?;

    story.title("One byte is flipped in a copy of the vault");
    home.clear("damaged")?;
    proof.damaged_object = damage::flip_a_byte(&home)?;
    story.say(format!("{FAINT}in {}{FAINT:#}", proof.damaged_object));
    story.run(&["verify", "--vault", "damaged", "--genesis", &genesis, "--ignore-locks"], Exit::Damage)?;
    let ledger = home.ledger()?;
    (proof.attestations, proof.objects) = damage::whole_and_found(&home, &ledger, &proof.damaged_object)?;

    story.title("Without this program: age, zstd, tar and jq, by the page that lies in the vault");
    home.clear("recovered")?;
    proof.tools = tools::recover(&home, &ledger)?;
    if let tools::Recovery::Done { .. } = proof.tools {
        after.compare(&home.path("recovered"))?;
    }
    story.say(proof.tools.told());

    screen::show(context, &home, &ledger, &proof, begun.elapsed().as_secs_f64())?;
    if args.serve {
        serve(context, &server.url(), &tenant)?;
    }
    Ok(Exit::Done)
}

/// Keeps the tenant answering until the process is told to end.
fn serve(context: &Context, url: &str, tenant: &Arc<Tenant>) -> Result<(), CliError> {
    let id = &tenant.options().tenant;
    context.output.say(format!("\n{STRONG}The tenant {id} goes on answering at {url}{STRONG:#} until you press Ctrl-C."));
    super::signals::Signals::hear()?.next();
    Ok(())
}

/// Tells the story and runs its commands.
struct Story {
    context: Context,
}

impl Story {
    fn title(&self, text: &str) {
        self.say(format!("\n{STRONG}{text}{STRONG:#}"));
    }

    fn say(&self, line: impl std::fmt::Display) {
        self.context.output.say(line);
    }

    /// Runs a command as if it had been typed; gives how long it took.
    fn run(&self, args: &[&str], expected: Exit) -> Result<f64, CliError> {
        self.say(format!("{FAINT}$ backstop {}{FAINT:#}", args.join(" ")));
        let begun = Instant::now();
        let parsed = <Cli as clap::Parser>::try_parse_from(["backstop"].iter().chain(args))
            .map_err(|e| CliError::new(Exit::Failed, e.to_string()))?;
        let mut global = parsed.global;
        global.policy = PathBuf::from(home::POLICY);
        let context = Context { global, output: self.context.output };
        let ended = dispatch(&context, parsed.command)?;
        if ended != expected {
            let message = format!("`backstop {}` ended with {} where {} was expected", args.join(" "), ended as u8, expected as u8);
            return Err(CliError::new(Exit::Failed, message).hint("what is above says why; nothing that was committed is lost"));
        }
        Ok(begun.elapsed().as_secs_f64())
    }
}

impl Context {
    /// The same, but silent where one JSON document is all that machines want.
    fn muted_if_json(&self) -> Self {
        if self.output.json { self.muted() } else { Self { global: self.global.clone(), output: self.output } }
    }

    /// The same, but silent.
    fn muted(&self) -> Self {
        let mut output = self.output;
        output.muted = true;
        Self { global: self.global.clone(), output }
    }
}

/// The vault of a quickstart, to read.
fn open_vault(dir: &std::path::Path, genesis: Option<Vec<u8>>) -> Result<Ledger, CliError> {
    use crate::store::{LocalStore, LocalStoreOptions, Store};
    let store: Arc<dyn Store> = Arc::new(LocalStore::open(dir, LocalStoreOptions::default())?);
    let anchor = genesis.map_or(crate::vault::Anchor::Shown, crate::vault::Anchor::Envelope);
    Ok(Ledger::open(store, &anchor)?)
}
