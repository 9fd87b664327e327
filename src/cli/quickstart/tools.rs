//! Recovery by the vault's own page, with nothing but ordinary tools.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::home::{Home, IDENTITY};
use crate::cli::exit::{CliError, Exit};
use crate::cli::select;
use crate::vault::Ledger;
use crate::vault::names::RECOVERY_MD;

/// What the page's script needs.
const TOOLS: [&str; 5] = ["bash", "age", "zstd", "tar", "jq"];

/// What came of it.
#[derive(Default)]
pub(super) enum Recovery {
    /// Tools are missing: which.
    #[default]
    Untried,
    Missing(Vec<&'static str>),
    Done {
        seconds: f64,
    },
}

impl Recovery {
    pub fn told(&self) -> String {
        match self {
            Self::Untried => "not tried".into(),
            Self::Missing(missing) => format!("not tried: {} not installed here (Debian: apt-get install age zstd jq)", list(missing)),
            Self::Done { seconds } => {
                format!("the newest snapshot came back in {seconds:.1} s, each record the same")
            }
        }
    }
}

fn list(missing: &[&str]) -> String {
    format!("{} {}", missing.join(", "), if missing.len() == 1 { "is" } else { "are" })
}

fn is_installed(tool: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|dir| dir.join(tool).is_file())
}

/// Takes the script out of the vault's page and recovers the newest snapshot of the tenant with it.
pub(super) fn recover(home: &Home, ledger: &Ledger) -> Result<Recovery, CliError> {
    let missing: Vec<&str> = TOOLS.into_iter().filter(|tool| !is_installed(tool)).collect();
    if !missing.is_empty() {
        return Ok(Recovery::Missing(missing));
    }
    let failed = |what: String| CliError::new(Exit::Failed, format!("recovery by ordinary tools: {what}"));
    let page = home.path("vault").join(RECOVERY_MD);
    let text = fs::read_to_string(&page).map_err(|e| failed(format!("{}: {e}", page.display())))?;
    let script: Vec<&str> = text.lines().skip_while(|l| *l != "```bash").skip(1).take_while(|l| *l != "```").collect();
    fs::write("recover.sh", script.join("\n") + "\n").map_err(|e| failed(e.to_string()))?;
    let run = select::snapshot(ledger, "entra")?.statement.predicate.run.to_string();
    let begun = Instant::now();
    let ran = Command::new("bash")
        .args(["recover.sh", "files", "vault", &run, IDENTITY, "recovered"])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| failed(e.to_string()))?;
    if !ran.status.success() {
        return Err(failed(String::from_utf8_lossy(&ran.stderr).trim().to_owned()));
    }
    Ok(Recovery::Done { seconds: begun.elapsed().as_secs_f64() })
}
