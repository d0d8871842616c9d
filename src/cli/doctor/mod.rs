//! `doctor`: everything that keeps a team from a working setup, each finding with its remedy.
//!
//! It reads, and changes nothing; with `--fix` it applies the remedies that are safe whatever is the case.
//! What it says of a user's directory is what a login says of it.

mod cargo;
mod overrides;
mod pam;
mod people;
mod root;

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use anyhow::Context;
use nix::unistd::geteuid;
use serde_json::{Value, json};

use super::accounts::{self, Person};
use super::check::Verdict;
use super::output::{self, Output, SCHEMA, Style};
use super::settings::{self, Settings, slices};
use super::{Exit, Globals, init};
use crate::cache_dir::{self, TAG_NAME};
use crate::mounts::Mounts;
use crate::session::{self, Request, Stop};
use crate::shared_root::{Patience, SharedRoot};

/// Find what keeps a team from a working setup
///
/// Problems exit 3, advice exits 0. Nothing is changed, unless by --fix.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Apply the remedies that are safe, after showing them
    #[arg(long)]
    fix: bool,
    /// Do not ask
    #[arg(long, short, requires = "fix")]
    yes: bool,
}

/// How bad it is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Gravity {
    /// Somebody cannot log in.
    Lockout,
    /// Nobody gets what they should.
    Nobody,
    /// Some do not, or not for long.
    Some,
    /// All is well; it could be better.
    Advice,
}

impl Gravity {
    fn word(self) -> &'static str {
        if self == Self::Advice { "advice" } else { "problem" }
    }
}

/// Something that is not as it should be.
struct Finding {
    /// For programs.
    id: &'static str,
    gravity: Gravity,
    /// What is the case.
    text: String,
    /// What to do about it.
    remedy: String,
    /// The remedy, where it can be typed.
    commands: Vec<String>,
    /// The remedy, where it is safe whatever is the case.
    fix: Option<Fix>,
}

impl Finding {
    fn new(id: &'static str, gravity: Gravity, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { id, gravity, text: text.into(), remedy: remedy.into(), commands: Vec::new(), fix: None }
    }

    fn run(mut self, command: impl Into<String>) -> Self {
        self.commands.push(command.into());
        self
    }

    fn fix(mut self, fix: Fix) -> Self {
        self.fix = Some(fix);
        self
    }

    /// What a login says: cause, then remedy.
    fn said(id: &'static str, gravity: Gravity, sentence: &str) -> Self {
        match sentence.split_once("; ") {
            Some((text, remedy)) => Self::new(id, gravity, text, remedy),
            None => Self::new(id, gravity, sentence, "see the log of logins"),
        }
    }
}

/// A remedy that `--fix` applies.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fix {
    /// The module's file is made root's, 0644.
    ModuleMode(PathBuf),
    /// The root is made what `init` makes of it.
    Root(init::Change),
    /// What dead logins left in `.staging` is swept, as the next one would.
    Sweep,
    /// The tag of a user's directory is put back, as the next login would.
    Tag(String),
}

impl Display for Fix {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::ModuleMode(path) => write!(f, "give {} to root:root, mode 0644", path.display()),
            Self::Root(change) => change.fmt(f),
            Self::Sweep => f.write_str("sweep .staging"),
            Self::Tag(user) => write!(f, "put the {TAG_NAME} of {user} back"),
        }
    }
}

/// What is looked at.
struct Patient {
    settings: Settings,
    everybody: Vec<Person>,
    /// What logins of the members would come to.
    members: Vec<Verdict>,
}

impl Patient {
    fn of(globals: &Globals) -> anyhow::Result<Self> {
        // The settings of the first service that has the module; the file's, if none has.
        let service = pam::first_served().unwrap_or(settings::DEFAULT_SERVICE);
        let settings = Settings::of(globals, service)?;
        let everybody = accounts::everybody()?;
        let names = accounts::members(&settings.loaded.config.groups, &everybody)?;
        let mut members = Vec::new();
        for name in &names {
            let verdict = Verdict::of(name, &settings);
            let waited = matches!(verdict.outcome, Err(Stop::Remote { .. }));
            members.push(verdict);
            // Each of the others would wait as long.
            if waited && root::is_dead(&settings.loaded.config) {
                break;
            }
        }
        Ok(Self { settings, everybody, members })
    }

    fn examine(&self) -> anyhow::Result<Vec<Finding>> {
        let mut findings = Vec::new();
        pam::examine(self, &mut findings)?;
        examine_configuration(self, &mut findings);
        root::examine(self, &mut findings)?;
        people::examine(self, &mut findings)?;
        overrides::examine(self, &mut findings);
        cargo::examine(self, &mut findings);
        findings.sort_by_key(|finding| finding.gravity);
        Ok(findings)
    }

    fn apply(&self, fix: &Fix) -> anyhow::Result<()> {
        let root = self.settings.loaded.config.root.as_ref();
        match fix {
            Fix::ModuleMode(path) => pam::mend_module(path),
            Fix::Root(change) => init::apply(change, root.context("no root is configured")?),
            Fix::Sweep => {
                let root = root.context("no root is configured")?;
                let mounts = Mounts::on_the_way_to(root.as_str());
                let opened = SharedRoot::open(root, Patience::Wait(&mounts));
                let opened = opened.map_err(|error| Stop::Root(root.clone(), error).to_string());
                cache_dir::sweep(&opened.map_err(anyhow::Error::msg)?)
                    .map_err(|_| anyhow::anyhow!(".staging cannot be used"))
            }
            Fix::Tag(user) => {
                let arguments = slices(&self.settings.arguments);
                let service = &self.settings.service;
                let request = Request { service, user: Some(user), arguments: &arguments };
                session::open(&request).outcome.map(drop).map_err(|stop| anyhow::anyhow!("{stop}"))
            }
        }
    }
}

fn examine_configuration(patient: &Patient, findings: &mut Vec<Finding>) {
    let loaded = &patient.settings.loaded;
    let gravity = if loaded.usable { Gravity::Some } else { Gravity::Nobody };
    for problem in &loaded.problems {
        let remedy = match settings::nearest(problem) {
            Some(key) => format!("mend or remove it; did you mean `{key}`?"),
            None => "mend or remove it".into(),
        };
        findings.push(Finding::new("configuration", gravity, problem.to_string(), remedy));
    }
    if loaded.config.root.is_none() {
        findings.push(Finding::new(
            "no-root",
            Gravity::Nobody,
            format!("no root is configured, in {} or on the module's line", patient.settings.conf),
            "choose one: cargo-targetctl init --root /srv/cargo-target",
        ));
    }
}

pub(super) fn run(globals: &Globals, arguments: &Arguments, output: &mut Output) -> anyhow::Result<Exit> {
    if arguments.fix && !geteuid().is_root() {
        anyhow::bail!("--fix changes what is root's: run it as root");
    }
    let mut patient = Patient::of(globals)?;
    let mut findings = patient.examine()?;
    let mut fixed = Vec::new();
    let fixes: Vec<&Finding> = findings.iter().filter(|finding| finding.fix.is_some()).collect();
    if arguments.fix && !fixes.is_empty() {
        output.styled(Style::Heading, "To do:")?;
        for finding in &fixes {
            if let Some(fix) = &finding.fix {
                output.line(format!("    {fix}"))?;
            }
        }
        if output.ask(arguments.yes, "Go on?")? {
            for finding in fixes {
                if let Some(fix) = &finding.fix {
                    patient.apply(fix).with_context(|| format!("cannot mend this: {}", finding.text))?;
                    fixed.push(fix.to_string());
                }
            }
            output.line("Done.")?;
            patient = Patient::of(globals)?;
            findings = patient.examine()?;
        } else {
            output.line("Nothing was changed.")?;
        }
    }
    tell(&patient, &findings, &fixed, output)
}

fn tell(
    patient: &Patient,
    findings: &[Finding],
    fixed: &[String],
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let advice = findings.iter().filter(|finding| finding.gravity == Gravity::Advice).count();
    let problems = findings.len() - advice;
    let exit = if problems == 0 { Exit::Fine } else { Exit::Problems };
    let settings = &patient.settings;
    let is_root = geteuid().is_root();
    if output.is_json {
        let findings: Vec<Value> = findings
            .iter()
            .map(|finding| {
                json!({
                    "id": finding.id, "gravity": finding.gravity.word(), "text": finding.text,
                    "remedy": finding.remedy, "commands": finding.commands, "fixable": finding.fix.is_some(),
                })
            })
            .collect();
        output::json(&json!({
            "schema": SCHEMA, "command": "doctor", "as_root": is_root,
            "root": settings.loaded.config.root.as_ref().map(ToString::to_string),
            "root_given": settings.root_was.as_ref().map(|root| root.display().to_string()),
            "findings": findings, "problems": problems, "advice": advice, "fixed": fixed, "exit": exit as u8,
        }))?;
        return Ok(exit);
    }
    settings.announce_root(output)?;
    settings.announce_at_length(output)?;
    if !is_root {
        output.styled(Style::Warning, "Not run as root: much of what can go wrong cannot be seen.")?;
    }
    for finding in findings {
        let style = if finding.gravity == Gravity::Advice { Style::Warning } else { Style::Bad };
        output.tagged(style, &format!("{}:", finding.gravity.word()), &finding.text)?;
        output.line(format!("    {}", finding.remedy))?;
        for command in &finding.commands {
            output.line(format!("    # {command}"))?;
        }
    }
    let safe = findings.iter().filter(|finding| finding.fix.is_some()).count();
    let count = |count: usize, word: &str| match count {
        0 => format!("No {word}"),
        1 => format!("1 {word}"),
        count => format!("{count} {word}s"),
    };
    let pieces = if advice == 1 { "1 piece of advice".into() } else { format!("{advice} pieces of advice") };
    output.line(match (problems, advice) {
        (0, 0) => "No problem found.".to_owned(),
        (_, 0) => format!("{}.", count(problems, "problem")),
        _ => format!("{}, {pieces}.", count(problems, "problem")),
    })?;
    if safe > 0 {
        output.line(format!("{safe} of them can be mended by cargo-targetctl doctor --fix."))?;
    }
    Ok(exit)
}
