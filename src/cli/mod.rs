//! The administrator's tool: what a login would do and why, and what keeps a team from a working setup.
//!
//! It decides nothing itself. Whatever it says of a session comes from [`session`](crate::session), asked
//! with the words of the pam.d line that a login would be served by.

#![allow(clippy::doc_markdown, reason = "the docs of arguments are what --help prints")]

mod accounts;
mod check;
mod doctor;
mod init;
mod manual;
mod migrate;
mod module_file;
mod output;
mod pam_d;
mod places;
mod settings;
mod try_session;

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use serde_json::json;

use output::Output;

/// How the tool ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is well, or was done.
    Fine = 0,
    /// It could not be done.
    Failed = 1,
    /// The command line, or a question that nobody was there to answer.
    Usage = 2,
    /// It was done, and found something that is not in order.
    Problems = 3,
    /// Somebody else is at work on it.
    Busy = 4,
}

/// What `--help` says after the options.
const AFTER_HELP: &str = "\
Exit status: 0 fine; 1 failed; 2 usage, or a question without a terminal; 3 problems found; 4 busy.";

/// Explains, checks and sets up pam_cargo_target: a private CARGO_TARGET_DIR for every developer of a
/// shared machine.
#[derive(Debug, Parser)]
#[command(name = "cargo-targetctl", bin_name = "cargo-targetctl", version, after_help = AFTER_HELP)]
#[command(disable_help_subcommand = true, subcommand_value_name = "COMMAND")]
struct Arguments {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// What stands before or after any subcommand.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
struct Globals {
    /// The configuration file, instead of /etc/security/cargo-target.conf
    #[arg(long, global = true, value_name = "PATH")]
    conf: Option<PathBuf>,
    /// The shared root, instead of the configured one; symbolic links in it are resolved
    #[arg(long, global = true, value_name = "PATH")]
    root: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// When to use colours; NO_COLOR is honoured
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Color,
    /// Say more: the settings in force, and where they come from
    #[arg(long, short, global = true)]
    verbose: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    /// Where stdout is a terminal
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Arguments),
    Check(check::Arguments),
    Doctor(doctor::Arguments),
    Migrate(migrate::Arguments),
    Try(try_session::Arguments),
    /// What `try` runs in a child
    #[command(hide = true)]
    Session(try_session::ChildArguments),
    /// Load a module
    #[command(hide = true)]
    Load {
        /// The file
        path: PathBuf,
    },
    /// Print the completions of a shell
    #[command(hide = true)]
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Print a page of the manual
    #[command(hide = true)]
    Manual {
        /// Which
        #[arg(default_value = "cargo-targetctl")]
        page: manual::Page,
    },
}

/// A command line that asks for what cannot be.
#[derive(Debug)]
struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    ExitCode::from(run(env::args_os()) as u8)
}

fn run(arguments: impl Iterator<Item = OsString>) -> Exit {
    let mut arguments: Vec<OsString> = arguments.collect();
    // `cargo targetctl check` is started as `cargo-targetctl targetctl check`.
    if arguments.get(1).is_some_and(|first| first == "targetctl") {
        arguments.remove(1);
    }
    let parsed = match Arguments::try_parse_from(arguments) {
        Ok(parsed) => parsed,
        Err(error) => return usage(&error),
    };
    let globals = parsed.globals;
    let mut output = Output::new(&globals);
    let ended = match parsed.command {
        Command::Init(arguments) => init::run(&globals, &arguments, &mut output),
        Command::Check(arguments) => check::run(&globals, &arguments, &mut output),
        Command::Doctor(arguments) => doctor::run(&globals, &arguments, &mut output),
        Command::Migrate(arguments) => migrate::run(&globals, &arguments, &mut output),
        Command::Try(arguments) => try_session::run(&globals, &arguments, &mut output),
        Command::Session(arguments) => try_session::child(&arguments),
        Command::Load { path } => match module_file::load(&path) {
            Ok(()) => Ok(Exit::Fine),
            Err(cause) => Err(anyhow::Error::msg(cause)),
        },
        Command::Completions { shell } => completions(shell),
        Command::Manual { page } => manual::print(page),
    };
    match ended {
        Ok(exit) => exit,
        // Whoever read our output has read enough.
        Err(error) if is_broken_pipe(&error) => Exit::Fine,
        Err(error) => {
            let exit = if error.is::<UsageError>() { Exit::Usage } else { Exit::Failed };
            let sentence = format!("{error:#}");
            if globals.json {
                let answer = json!({ "schema": output::SCHEMA, "error": sentence, "exit": exit as u8 });
                let _ = output::json(&answer);
            }
            output::complain(&sentence);
            exit
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Help and version go to stdout and are fine; anything else is a mistake.
fn usage(error: &clap::Error) -> Exit {
    let text = error.render().to_string();
    if error.use_stderr() {
        output::complain_at_length(&text);
        Exit::Usage
    } else {
        let _ = output::plain(text.as_bytes());
        Exit::Fine
    }
}

/// Of what `--help` shows: clap_complete offers hidden commands too.
fn completions(shell: clap_complete::Shell) -> anyhow::Result<Exit> {
    let whole = Arguments::command();
    let mut shown = clap::Command::new("cargo-targetctl")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .args(whole.get_arguments().cloned())
        .subcommands(whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned());
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown, "cargo-targetctl", &mut script);
    output::plain(&script)?;
    Ok(Exit::Fine)
}
