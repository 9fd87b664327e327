//! `backstop generate`: shell completions and man pages, from the command line itself.

use std::io;
use std::path::PathBuf;

use clap::{CommandFactory, Subcommand};
use clap_complete::Shell;

use super::Cli;
use super::context::Context;
use super::exit::{CliError, Exit};

#[derive(Subcommand)]
pub enum GenerateCommand {
    /// Print completions for a shell
    Completions {
        /// Which
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write the man pages, one a command
    Man {
        /// Into this directory
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
}

pub fn run(context: &Context, command: &GenerateCommand) -> Result<Exit, CliError> {
    match command {
        GenerateCommand::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "backstop", &mut io::stdout());
        }
        GenerateCommand::Man { dir } => {
            let failed = |e: io::Error| CliError::new(Exit::Failed, format!("cannot write man pages into {}: {e}", dir.display()));
            std::fs::create_dir_all(dir).map_err(failed)?;
            clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?;
            context.output.say(format!("man pages are in {}", dir.display()));
        }
    }
    Ok(Exit::Done)
}
