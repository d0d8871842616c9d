//! `check`: for each user what a login would do, and why.

use std::io;

use nix::unistd::{User, geteuid, getuid};
use serde_json::{Value, json};

use super::output::{self, Cell, Output, SCHEMA, Style, complain};
use super::settings::{self, Settings, slices};
use super::{Exit, Globals, accounts};
use crate::cache_dir::CacheDirError;
use crate::config;
use crate::policy::Skip;
use crate::session::{self, Ready, Request, Stop};

/// Say for each user what a login would do, and why
///
/// The answer is the one that a login gets, from the same code; nothing is created. Exits 3 if a member
/// of the workspace would be refused.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The users; without any, all members of the configured groups, and oneself when not root
    #[arg(value_name = "USER")]
    users: Vec<String>,
    /// The PAM service that they log in by
    #[arg(long, value_name = "NAME", default_value = settings::DEFAULT_SERVICE)]
    service: String,
}

pub(super) fn run(globals: &Globals, arguments: &Arguments, output: &mut Output) -> anyhow::Result<Exit> {
    let settings = Settings::of(globals, &arguments.service)?;
    let users = match arguments.users.as_slice() {
        [] if geteuid().is_root() => {
            let everybody = accounts::everybody()?;
            accounts::members(&settings.loaded.config.groups, &everybody)?.into_iter().collect()
        }
        [] => vec![oneself()?],
        users => users.to_vec(),
    };
    let verdicts: Vec<Verdict> = users.iter().map(|user| Verdict::of(user, &settings)).collect();

    let named = if arguments.users.is_empty() { &[] } else { verdicts.as_slice() };
    let unknown: Vec<&Verdict> = named.iter().filter(|verdict| verdict.uid.is_none()).collect();
    let exit = if !unknown.is_empty() {
        Exit::Failed
    } else if verdicts.iter().any(|verdict| verdict.decision() == Decision::Refuse) {
        Exit::Problems
    } else {
        Exit::Fine
    };

    settings.announce(output)?;
    for verdict in unknown {
        complain(&Skip::UnknownUser(verdict.user.clone()).to_string());
    }
    if output.is_json {
        output::json(&as_json(&settings, &verdicts, exit))?;
        return Ok(exit);
    }
    if settings.line.is_none() {
        output.styled(
            Style::Warning,
            format!(
                "No line of /etc/pam.d names {} for sessions of {}: this is what they would get.",
                super::pam_d::MODULE,
                settings.service
            ),
        )?;
    }
    if verdicts.is_empty() {
        let groups: Vec<String> = settings.loaded.config.groups.iter().map(ToString::to_string).collect();
        output.line(format!("No user is a member of {}.", groups.join(" or ")))?;
    } else {
        print_table(&verdicts, output)?;
    }
    Ok(exit)
}

/// Who asks.
pub(super) fn oneself() -> anyhow::Result<String> {
    let uid = getuid();
    match User::from_uid(uid)? {
        Some(user) => Ok(user.name),
        None => anyhow::bail!("uid {uid} has no name; name a user"),
    }
}

fn print_table(verdicts: &[Verdict], output: &mut Output) -> io::Result<()> {
    let rows: Vec<Vec<Cell>> = verdicts
        .iter()
        .map(|verdict| {
            let decision = verdict.decision();
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
            vec![
                Cell::plain(&verdict.user),
                Cell::plain(or_dash(verdict.uid.map(|uid| uid.to_string()))),
                Cell(decision.style(), decision.word().into()),
                Cell::plain(if decision == Decision::Refuse { "see below".into() } else { verdict.reason() }),
                Cell::plain(or_dash(verdict.directory())),
                Cell::plain(verdict.state().unwrap_or("-")),
                Cell::plain(or_dash(Some(verdict.variables().join(" ")).filter(|text| !text.is_empty()))),
            ]
        })
        .collect();
    output.table(&["USER", "UID", "DECISION", "REASON", "DIRECTORY", "STATE", "VARIABLES"], &rows)?;
    for verdict in verdicts.iter().filter(|verdict| verdict.decision() == Decision::Refuse) {
        output.tagged(Style::Bad, &format!("{}:", verdict.user), verdict.reason())?;
    }
    Ok(())
}

fn as_json(settings: &Settings, verdicts: &[Verdict], exit: Exit) -> Value {
    let users: Vec<Value> = verdicts
        .iter()
        .map(|verdict| {
            json!({
                "user": verdict.user,
                "uid": verdict.uid,
                "decision": verdict.decision().word(),
                "reason": verdict.reason(),
                "directory": verdict.directory(),
                "state": verdict.state(),
                "variables": verdict.variables(),
            })
        })
        .collect();
    json!({
        "schema": SCHEMA,
        "command": "check",
        "service": settings.service,
        "line": settings.line.as_ref().map(ToString::to_string),
        "root": settings.loaded.config.root.as_ref().map(ToString::to_string),
        "root_given": settings.root_was.as_ref().map(|root| root.display().to_string()),
        "configuration": problems(settings),
        "users": users,
        "exit": exit as u8,
    })
}

/// What was wrong with the configuration.
pub(super) fn problems(settings: &Settings) -> Vec<Value> {
    let problem = |problem: &config::Problem| {
        let nearest = settings::nearest(problem);
        json!({ "place": problem.place(), "cause": problem.cause(), "nearest": nearest })
    };
    settings.loaded.problems.iter().map(problem).collect()
}

/// What a login does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// It finds or makes the directory, and exports it.
    Provision,
    /// Policy says no.
    Skip,
    /// Policy says yes, but something is not right.
    Refuse,
}

impl Decision {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Skip => "skip",
            Self::Refuse => "refuse",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Provision => Style::Good,
            Self::Skip => Style::Quiet,
            Self::Refuse => Style::Bad,
        }
    }
}

/// What a login of one user would come to.
pub(super) struct Verdict {
    pub(super) user: String,
    pub(super) uid: Option<u32>,
    pub(super) outcome: Result<Ready, Stop>,
}

impl Verdict {
    pub(super) fn of(user: &str, settings: &Settings) -> Self {
        let arguments = slices(&settings.arguments);
        let request = Request { service: &settings.service, user: Some(user), arguments: &arguments };
        let uid = User::from_name(user).ok().flatten().map(|user| user.uid.as_raw());
        Self { user: user.into(), uid, outcome: session::explain(&request).outcome }
    }

    pub(super) fn decision(&self) -> Decision {
        match self.outcome {
            Ok(_) => Decision::Provision,
            Err(Stop::Skip(_)) => Decision::Skip,
            Err(_) => Decision::Refuse,
        }
    }

    pub(super) fn reason(&self) -> String {
        match &self.outcome {
            Ok(_) => "a member".into(),
            Err(stop) => stop.to_string(),
        }
    }

    /// The user's directory, once it is clear which that is.
    pub(super) fn directory(&self) -> Option<String> {
        match &self.outcome {
            Ok(ready) => Some(ready.directory.clone()),
            Err(Stop::Directory { root, name, .. }) => Some(format!("{root}/{}", name.as_str())),
            Err(Stop::Remote { path, .. }) => Some(path.clone()),
            Err(_) => None,
        }
    }

    /// In what state the directory is.
    pub(super) fn state(&self) -> Option<&'static str> {
        Some(match &self.outcome {
            Ok(ready) if ready.provisioned => "missing",
            Ok(_) => "ready",
            Err(Stop::Directory { error, .. }) => match error {
                CacheDirError::NotADirectory(_) => "not-a-directory",
                CacheDirError::WrongOwner(_) => "wrong-owner",
                CacheDirError::Writable(_) => "writable",
                CacheDirError::MountedBy(_) => "mount-point",
                CacheDirError::Home => "home",
                CacheDirError::UnsafeStaging | CacheDirError::NoId | CacheDirError::NoExclusiveRename => {
                    "missing"
                }
                CacheDirError::WouldWait
                | CacheDirError::NotGiven(_)
                | CacheDirError::NotKept
                | CacheDirError::Failed(..) => "unknown",
            },
            Err(Stop::Remote { .. }) => "unknown",
            Err(_) => return None,
        })
    }

    fn variables(&self) -> &[String] {
        self.outcome.as_ref().map_or(&[], |ready| &ready.assignments)
    }
}
