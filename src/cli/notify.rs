//! `backstop notify`: the alert channels, the open alerts, and who acts.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;

use super::channels::{Unusable, channels, tell_unusable};
use super::context::Context;
use super::exit::{CliError, Exit};
use super::output::{BAD, DOUBT, FAINT, GOOD, STRONG, at_second, shown};
use super::store;
use crate::alert::{Acknowledgement, Alert, Keeper, Message, News, response_time, spelled};
use crate::http::Outbound;
use crate::policy::{AlertSeverity, LoadedPolicy};

#[derive(Subcommand)]
pub enum NotifyCommand {
    /// Send a test message through each channel, and say which took it
    Test(TestArgs),
    /// List open alerts, the worst first
    Ls(ListArgs),
    /// Say that somebody acts: it is not escalated, and told again once a day only
    Ack(AckArgs),
}

#[derive(Args)]
pub struct TestArgs {
    /// These channels alone: email, teams, slack, pagerduty, webhook, syslog, file
    #[arg(value_name = "CHANNEL")]
    channels: Vec<String>,
}

#[derive(Args)]
pub struct ListArgs {
    /// Those of the watcher on this machine, not of the agents
    #[arg(long)]
    watch: bool,
}

#[derive(Args)]
pub struct AckArgs {
    /// The alert's id, as the message or `notify ls` shows it
    #[arg(value_name = "ID")]
    id: String,
    /// Who acts; this user unless said
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// An alert of the watcher on this machine, not of the agents
    #[arg(long)]
    watch: bool,
}

pub fn run(context: &Context, command: &NotifyCommand) -> Result<Exit, CliError> {
    match command {
        NotifyCommand::Test(args) => test(context, args),
        NotifyCommand::Ls(args) => list(context, args),
        NotifyCommand::Ack(args) => acknowledge(context, args),
    }
}

fn test(context: &Context, args: &TestArgs) -> Result<Exit, CliError> {
    let policy = context.policy()?;
    let (usable, unusable) = channels(&policy);
    let wanted = |name: &str| args.channels.is_empty() || args.channels.iter().any(|c| c == name);
    let known: Vec<&str> = usable.iter().map(|c| c.name).chain(unusable.iter().map(|u| u.name)).collect();
    if let Some(unknown) = args.channels.iter().find(|c| !known.contains(&c.as_str())) {
        return Err(CliError::new(Exit::Usage, format!("the policy names no channel {unknown:?}")).hint(super::select::there_are(&known)));
    }
    if known.is_empty() {
        return Err(CliError::new(Exit::Usage, "the policy names no channel: nobody would be told anything").hint(
            "write, for example, `notify: { email: { host: smtp.example.org, from: backstop@example.org, to: [ops@example.org] } }`",
        ));
    }
    let vault = policy.path(policy.policy.vault.local.as_ref().map_or("", |l| &l.path)).display().to_string();
    let vault = policy.policy.vault.azure.as_ref().map_or(vault, |a| a.value.endpoint());
    let message = example(&vault);
    let outbound = Outbound::new().map_err(|e| CliError::new(Exit::Failed, e))?;
    let mut failed = 0;
    let mut tell = |channel: &str, outcome: Result<(), String>| {
        let output = context.output;
        output.json(&json!({ "channel": channel, "outcome": if outcome.is_ok() { "delivered" } else { "failed" }, "message": outcome.as_ref().err() }));
        match &outcome {
            Ok(()) => output.say(format!("{GOOD}delivered{GOOD:#} {channel}")),
            Err(why) => {
                failed += 1;
                output.say(format!("{BAD}failed   {BAD:#} {channel}: {}", shown(why)));
            }
        }
    };
    for Unusable { name, why, .. } in unusable.iter().filter(|u| wanted(u.name)) {
        tell(name, Err(why.clone()));
    }
    for channel in usable.iter().filter(|c| wanted(c.name)) {
        tell(channel.name, channel.send(&message, &outbound));
    }
    match failed {
        0 => Ok(Exit::Done),
        1 => Err(CliError::new(Exit::Failed, "a channel did not take the test: whoever reads it would not be told")),
        n => Err(CliError::new(Exit::Failed, format!("{n} channels did not take the test: whoever reads them would not be told"))),
    }
}

/// An alert as it would come, and says that it is none.
fn example(vault: &str) -> Message {
    let now = Timestamp::now();
    let severity = AlertSeverity::Low;
    let alert = Alert {
        id: "test".into(),
        kind: "test".into(),
        subject: "backstop notify test".into(),
        severity,
        summary: "somebody tries this channel; nothing is wrong".into(),
        endangers: "nothing".into(),
        runbook: "docs/alerts.md".into(),
        command: "backstop status".into(),
        opened: now,
        told: Some(now),
        respond_by: now.saturating_add(response_time(severity)).unwrap_or(now),
        acknowledged: None,
        escalated: None,
        repeat_at: None,
        repeats: 0,
        over_since: None,
    };
    Message { id: format!("test-{}", now.as_millisecond()), at: now, vault: vault.to_owned(), news: vec![(News::Test, alert)] }
}

/// The policy; where the file is broken, the one that the agent has in force.
fn in_force(context: &Context) -> Result<LoadedPolicy, CliError> {
    context.policy().or_else(|error| {
        let file = &context.global.policy;
        let copy = file.parent().unwrap_or(std::path::Path::new("")).join(".backstop/agent/policy.yaml");
        let kept = std::fs::read(copy).ok().and_then(|bytes| LoadedPolicy::from_bytes(file, bytes).ok());
        kept.inspect(|_| context.output.warn(format!("{} is broken; this goes by the one that the agent has in force", file.display())))
            .ok_or(error)
    })
}

fn keeper(policy: &LoadedPolicy, watch: bool) -> Result<Keeper, CliError> {
    Ok(match watch {
        true => Keeper::Own { dir: Context::state_dir(policy).join("watch") },
        false => Keeper::shared(store::leases(policy)?),
    })
}

fn list(context: &Context, args: &ListArgs) -> Result<Exit, CliError> {
    let policy = in_force(context)?;
    tell_unusable(context, &channels(&policy).1);
    let output = context.output;
    let Some(open) = keeper(&policy, args.watch)?.open()? else {
        let who =
            if args.watch { "no watcher has raised or kept an alert here" } else { "no agent has raised or kept an alert on this vault" };
        output.say(format!("{who}: it has never run, or nothing was ever wrong"));
        return Ok(Exit::Done);
    };
    if open.is_empty() {
        output.say("no alert is open");
    }
    for alert in &open {
        output.json(&json!(alert));
        let style = if alert.severity >= AlertSeverity::High { BAD } else { DOUBT };
        output.say(format!(
            "{STRONG}{}{STRONG:#} {style}{:<8}{style:#} {}: {}",
            alert.id,
            spelled(alert.severity),
            alert.subject,
            shown(&alert.summary)
        ));
        let state = match &alert.acknowledged {
            Some(ack) => format!("acknowledged by {} at {}", shown(&ack.by), at_second(ack.at)),
            None => format!("act by {}, then `backstop notify ack {}`", at_second(alert.respond_by), alert.id),
        };
        output.say(format!("  {FAINT}since {}; {state}; type `{}`{FAINT:#}", at_second(alert.opened), alert.command));
    }
    Ok(Exit::Done)
}

fn acknowledge(context: &Context, args: &AckArgs) -> Result<Exit, CliError> {
    let policy = in_force(context)?;
    let keeper = keeper(&policy, args.watch)?;
    let open = keeper.open()?.unwrap_or_default();
    if !open.iter().any(|alert| alert.id == args.id) {
        let ids: Vec<&str> = open.iter().map(|a| a.id.as_str()).collect();
        let hint = if ids.is_empty() { "no alert is open".to_owned() } else { super::select::there_are(&ids) };
        return Err(CliError::new(Exit::Usage, format!("no open alert has the id {:?}", args.id)).hint(hint));
    }
    let by = args.by.clone().or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "somebody".to_owned());
    let acknowledgement = Acknowledgement { id: args.id.clone(), by: by.clone(), at: Timestamp::now() };
    if !keeper.acknowledge(acknowledgement)? {
        return Err(CliError::new(Exit::TryAgain, "somebody else acknowledges an alert at this moment").hint("say it again"));
    }
    context.output.json(&json!({ "id": args.id, "by": by }));
    context.output.say(format!("{GOOD}acknowledged{GOOD:#} {} by {}", args.id, shown(&by)));
    Ok(Exit::Done)
}
