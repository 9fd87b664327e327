//! The command line: arguments in, one library call, rendering out. No logic of its own.

mod channels;
mod checkpoint;
mod context;
mod credential;
mod daemon;
mod diff;
mod dispose;
mod doctor;
mod drill;
mod estimate;
pub mod exit;
mod export;
mod find;
mod generate;
mod hold;
mod import;
mod init;
mod init_azure;
mod key;
mod ls;
mod notify;
mod otlp;
mod output;
mod policy;
mod quickstart;
mod restore;
mod restore_logs;
mod restore_test;
mod run;
mod sample;
mod scheduler;
mod select;
mod show;
mod signals;
mod snapshot;
mod status;
mod store;
mod telemetry;
mod tenant;
mod verify;
mod watch;

use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use context::Context;
use exit::{CliError, Exit};
use output::{Color, Output};

/// Backup and disaster recovery for an Azure PIM estate.
///
/// Everything is sealed to age recipients, locked, signed and provable without a key; what is written needs
/// nothing but age, zstd, tar and jq to recover.
#[derive(Parser)]
#[command(
    name = "backstop",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done; 1 failed; 2 bad usage or policy; 3 damage or tampering found;\n4 an objective was missed; 5 refused by a lock or hold; 6 partial; 75 try again later."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Args, Clone)]
struct Global {
    /// The policy; paths in it are relative to its own directory
    #[arg(long, global = true, value_name = "FILE", env = "BACKSTOP_POLICY", default_value = "backstop.yaml")]
    policy: PathBuf,
    /// A vault in a directory, to read it without a policy
    #[arg(long, global = true, value_name = "DIR")]
    vault: Option<PathBuf>,
    /// The digest of the vault's genesis, as `init` printed it
    #[arg(long, global = true, value_name = "HEX")]
    genesis: Option<String>,
    /// An age identity that opens sealed data; repeatable
    #[arg(long, global = true, value_name = "FILE", env = "BACKSTOP_IDENTITY", value_delimiter = ':')]
    identity: Vec<PathBuf>,
    /// Machine output on stdout
    #[arg(long, global = true)]
    json: bool,
    /// Say more
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Say nothing but errors and results
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    color: Color,
    /// No progress bars
    #[arg(long, global = true)]
    no_progress: bool,
    /// The agent runs this command, by its own copy of the policy; it ends with the agent
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    run_by_agent: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Show the whole life of a backup on a sample tenant, in a directory of its own
    Quickstart(quickstart::QuickstartArgs),
    /// Make keys, a commented policy and the vault's genesis
    Init(init::InitArgs),
    /// Check a policy, or print its schema
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Capture and commit a snapshot
    Snapshot(snapshot::SnapshotArgs),
    /// Export the next window of logs
    Export(export::ExportArgs),
    /// Seal log files that another system delivered
    Import(import::ImportArgs),
    /// List runs, newest first
    Ls(ls::LsArgs),
    /// Show one run: its attestation and, with an identity, its contents
    Show(show::ShowArgs),
    /// Compare two snapshots, attribute by attribute
    Diff(diff::DiffArgs),
    /// Find records by what people call them
    Find(find::FindArgs),
    /// Bring data back
    #[command(subcommand)]
    Restore(restore::RestoreCommand),
    /// Restore recovery points for a test, check what they mean, and attest it: the newest, and older ones in turn
    RestoreTest(restore_test::RestoreTestArgs),
    /// Hold a drill: a disaster in a tenant that stands in for the real one, brought back from the vault alone, and measured
    Drill(drill::DrillArgs),
    /// The daemon: runs the policy's jobs when they are due, tells who must know, shows how things stand
    Run(run::RunArgs),
    /// Looks at a vault from elsewhere, with rights to read and no key, and raises the alarm
    Watch(watch::WatchArgs),
    /// The channels by which people are told, the open alerts, and who acts
    #[command(subcommand)]
    Notify(notify::NotifyCommand),
    /// Audit the whole vault, without a key or in depth
    Verify(verify::VerifyArgs),
    /// What is really in force: store, locks, rights, keys, clock, disk, schedules; exit 1 where backups are endangered
    Doctor,
    /// Live RPO, newest recovery points, availability, findings and what is due; exit 4 where an objective is missed
    Status(status::StatusArgs),
    /// Keep things beyond their retention: legal holds
    #[command(subcommand)]
    Hold(hold::HoldCommand),
    /// Destroy, after review by two operators, what is past its retention
    #[command(subcommand)]
    Dispose(dispose::DisposeCommand),
    /// Commit and print the head of every chain, to be kept elsewhere
    Checkpoint(checkpoint::CheckpointArgs),
    /// Make and list keys
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Serve a sample tenant, and let things happen to it
    #[command(subcommand)]
    Sample(sample::SampleCommand),
    /// Shell completions and man pages
    #[command(subcommand)]
    Generate(generate::GenerateCommand),
}

/// Runs the program; the result is its exit code.
pub fn run() -> Exit {
    let parsed =
        Cli::command().try_get_matches().and_then(|m| Ok((m.subcommand_name().unwrap_or_default().to_owned(), Cli::from_arg_matches(&m)?)));
    let (name, cli) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let Global { json, quiet, verbose, no_progress, color, .. } = cli.global;
    Output::set_color(color);
    let output = Output { json, quiet, verbose, progress: !no_progress, muted: false };
    let context = Context { global: cli.global, output };
    context.end_with_the_agent();
    let daemon = match &cli.command {
        Command::Run(args) => args.is_daemon(),
        Command::Watch(args) => args.is_daemon(),
        _ => false,
    };
    let telemetry = telemetry::begin(&context, daemon);
    // A daemon has no end, and so no span of its own.
    let span = if daemon { tracing::Span::none() } else { otlp::root(&name) };
    let exit = span.in_scope(|| match dispatch(&context, cli.command) {
        Ok(exit) => exit,
        Err(error) => {
            if !daemon || !telemetry::failed(&context, &error) {
                output.error(&error);
            }
            error.exit
        }
    });
    span.record("exit", exit as u8);
    drop(span);
    telemetry.end();
    exit
}

fn dispatch(context: &Context, command: Command) -> Result<Exit, CliError> {
    match command {
        Command::Quickstart(args) => quickstart::run(context, &args),
        Command::Init(args) => init::run(context, &args),
        Command::Policy(command) => policy::run(context, &command),
        Command::Snapshot(args) => snapshot::run(context, &args),
        Command::Export(args) => export::run(context, &args),
        Command::Import(args) => import::run(context, &args),
        Command::Ls(args) => ls::run(context, &args),
        Command::Show(args) => show::run(context, &args),
        Command::Diff(args) => diff::run(context, &args),
        Command::Find(args) => find::run(context, &args),
        Command::Restore(command) => restore::run(context, &command),
        Command::RestoreTest(args) => restore_test::run(context, &args),
        Command::Drill(args) => drill::run(context, &args),
        Command::Watch(args) => watch::run(context, &args),
        Command::Generate(command) => generate::run(context, &command),
        Command::Notify(command) => notify::run(context, &command),
        Command::Run(args) => run::run(context, &args),
        Command::Doctor => doctor::run(context),
        Command::Status(args) => status::run(context, &args),
        Command::Verify(args) => verify::run(context, &args),
        Command::Hold(command) => hold::run(context, &command),
        Command::Dispose(command) => dispose::run(context, &command),
        Command::Checkpoint(args) => checkpoint::run(context, &args),
        Command::Key(command) => key::run(context, &command),
        Command::Sample(command) => sample::run(context, &command),
    }
}
