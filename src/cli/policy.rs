//! `backstop policy check` and `policy schema`.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::exit::{CliError, Exit};
use super::output::{BAD, DOUBT, GOOD};
use crate::policy::{LoadedPolicy, PolicyError, Problem, Severity, schema};

#[derive(Subcommand)]
pub enum PolicyCommand {
    /// Check form and meaning: schedules against objectives, retention, recipients
    Check {
        /// The policy; that of --policy unless said
        file: Option<PathBuf>,
    },
    /// Print the JSON schema of policies
    Schema,
}

pub fn run(context: &Context, command: &PolicyCommand) -> Result<Exit, CliError> {
    let output = context.output;
    let file = match command {
        PolicyCommand::Schema => {
            let text = serde_json::to_string_pretty(&schema()).unwrap_or_default();
            if output.json {
                output.json(&schema())
            } else {
                output.tell(text)
            }
            return Ok(Exit::Done);
        }
        PolicyCommand::Check { file } => file.as_ref().unwrap_or(&context.global.policy),
    };
    let (problems, loaded) = match LoadedPolicy::load(file) {
        Ok(policy) => (policy.warnings, true),
        Err(PolicyError::Invalid { problems, .. }) => (problems, false),
        Err(e) => return Err(e.into()),
    };
    let findings: Vec<_> = problems.iter().map(finding).collect();
    output.json(&json!({ "ok": loaded, "policy": file, "findings": findings }));
    for problem in &problems {
        let (style, word) = match problem.severity {
            Severity::Error => (BAD, "error"),
            Severity::Warning => (DOUBT, "warning"),
        };
        let place = problem.place.map_or_else(String::new, |(l, c)| format!(":{l}:{c}"));
        output.tell(format!("{}{place}: {style}{word}:{style:#} {problem}\n", file.display()));
    }
    if !loaded {
        return Ok(Exit::Usage);
    }
    output.say(format!(
        "{GOOD}{} is a valid policy{GOOD:#}{}",
        file.display(),
        if problems.is_empty() { "" } else { ", with the warnings above" }
    ));
    Ok(Exit::Done)
}

fn finding(problem: &Problem) -> serde_json::Value {
    json!({
        "severity": problem.severity,
        "line": problem.place.map(|p| p.0),
        "column": problem.place.map(|p| p.1),
        "message": problem.message,
        "hint": problem.hint,
    })
}
