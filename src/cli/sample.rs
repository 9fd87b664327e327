//! `backstop sample`: a tenant to try things on, and the knobs of a running one.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::context::Context;
use super::exit::{CliError, Exit};
use super::output::{FAINT, STRONG};
use super::signals::Signals;
use crate::sample::{DISASTERS, Options, SampleError, Tenant, serve};

#[derive(Subcommand)]
pub enum SampleCommand {
    /// Serve a sample tenant that behaves like Microsoft Graph and Azure Resource Manager
    Serve(ServeArgs),
    /// Let a disaster happen to a running sample tenant
    Disaster(DisasterArgs),
    /// Let everyday changes happen to a running sample tenant
    Change(ChangeArgs),
    /// Let an intruder into a running sample tenant
    Mischief(AtArgs),
}

#[derive(Args)]
pub struct ServeArgs {
    /// The port on 127.0.0.1; 0 takes any that is free
    #[arg(long, default_value_t = 8480, value_name = "P")]
    port: u16,
    /// How many users the tenant has
    #[arg(long, default_value_t = 500, value_name = "N")]
    users: usize,
    /// The same seed, number of users and start make the same tenant
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// What the tenant's clock shows at the start; the real time by default
    #[arg(long, value_name = "RFC3339")]
    start: Option<Timestamp>,
    /// How long access tokens are good for
    #[arg(long, default_value_t = 3599, value_name = "N")]
    token_seconds: u64,
    /// Interactive sign-ins in an hour; about one for eight users by default
    #[arg(long, value_name = "N")]
    events_per_hour: Option<u64>,
    /// Keep to the documented limits on requests
    #[arg(long)]
    throttle: bool,
    /// Send short and empty pages now and then, as the services may
    #[arg(long)]
    ragged_pages: bool,
}

#[derive(Args)]
pub struct AtArgs {
    /// The address of the sample tenant
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8480")]
    at: String,
}

#[derive(Args)]
pub struct DisasterArgs {
    /// Its name; an unknown one lists them all
    name: String,
    #[command(flatten)]
    at: AtArgs,
}

#[derive(Args)]
pub struct ChangeArgs {
    /// How many changes
    #[arg(long, default_value_t = 10, value_name = "N")]
    count: u32,
    #[command(flatten)]
    at: AtArgs,
}

pub fn run(context: &Context, command: &SampleCommand) -> Result<Exit, CliError> {
    match command {
        SampleCommand::Serve(args) => run_server(context, args),
        SampleCommand::Disaster(args) => turn(context, &args.at, "disaster", &json!({"name": args.name})),
        SampleCommand::Change(args) => turn(context, &args.at, "change", &json!({"count": args.count})),
        SampleCommand::Mischief(args) => turn(context, args, "mischief", &Value::Null),
    }
}

fn run_server(context: &Context, args: &ServeArgs) -> Result<Exit, CliError> {
    let options = Options {
        seed: args.seed,
        users: args.users,
        start: args.start,
        token_seconds: args.token_seconds,
        events_per_hour: args.events_per_hour,
        throttle: args.throttle,
        ragged_pages: args.ragged_pages,
        ..Options::default()
    };
    let tenant = Arc::new(Tenant::new(options));
    let options = tenant.options();
    let server = serve(Arc::clone(&tenant), SocketAddr::from((Ipv4Addr::LOCALHOST, args.port))).map_err(|error| match error {
        SampleError::PortTaken { .. } => {
            CliError::new(Exit::Usage, error.to_string()).hint("choose another with --port, or 0 for any that is free")
        }
        other => CliError::new(
            Exit::Failed,
            format!("{other}: {}", std::error::Error::source(&other).map(ToString::to_string).unwrap_or_default()),
        ),
    })?;
    let url = server.url();
    context.output.json(&json!({
        "url": url, "tenant": options.tenant, "client_id": options.client_id, "client_secret": options.client_secret, "users": options.users,
        "seed": options.seed, "token_url": format!("{url}/{}/oauth2/v2.0/token", options.tenant),
    }));
    context.output.tell(format!("{STRONG}A sample tenant is at {url}{STRONG:#}"));
    context.output.tell(format!("  tenant         {}", options.tenant));
    context.output.tell(format!("  client id      {}", options.client_id));
    context.output.tell(format!("  client secret  {}", options.client_secret));
    context
        .output
        .tell(format!("  {FAINT}In a policy, give {url} in place of login.microsoftonline.com, graph.microsoft.com and{FAINT:#}"));
    context.output.tell(format!("  {FAINT}management.azure.com. It holds {} invented users; stop it with Ctrl-C.{FAINT:#}", options.users));
    Signals::hear()?.next();
    drop(server);
    Ok(Exit::Done)
}

/// Turns a knob of a running sample tenant and tells what it did.
fn turn(context: &Context, at: &AtArgs, knob: &str, body: &Value) -> Result<Exit, CliError> {
    // Building a client asks for a provider of cryptography, although none is used; one may be there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = format!("{}/sample/{knob}", at.at.trim_end_matches('/'));
    let away = |error: reqwest::Error| {
        CliError::new(Exit::Failed, format!("cannot reach the sample tenant at {}: {error}", at.at))
            .hint("start one with `backstop sample serve`")
    };
    let client = reqwest::blocking::Client::builder().no_proxy().timeout(None).build().map_err(away)?;
    let response = client.post(&url).header("content-type", "application/json").body(body.to_string()).send().map_err(away)?;
    let (status, bytes) = (response.status(), response.bytes().map_err(away)?);
    let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if !status.is_success() {
        let text = answer["error"]["message"].as_str().map_or_else(|| format!("{url} answered {status}"), str::to_owned);
        let error = CliError::new(Exit::Usage, text);
        return Err(if knob == "disaster" { error.hint(format!("choose one of {}", DISASTERS.join(", "))) } else { error });
    }
    let deeds = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    deeds.iter().for_each(|deed| context.output.json(deed));
    for deed in deeds.iter().take(50) {
        let word = |name: &str| deed[name].as_str().unwrap_or_default();
        context.output.tell(format!("{:<36} {}", word("collection"), word("what")));
    }
    if deeds.len() > 50 {
        context.output.tell(format!("{FAINT}and {} more{FAINT:#}", deeds.len() - 50));
    }
    Ok(Exit::Done)
}
