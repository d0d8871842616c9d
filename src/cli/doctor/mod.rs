//! `doctor`: everything that keeps a team from a working setup, each finding with its remedy.
//!
//! It reads, and changes nothing; with `--fix` it applies the remedies that are safe whatever is the case.
//! What it says of a user's directory is what a login says of it.

mod cargo;
mod overrides;
mod pam;
mod people;
mod root;
mod users_files;

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use anyhow::Context;
use nix::unistd::geteuid;
use serde_json::{Value, json};

use super::accounts::{self, Person};
use super::check::Verdict;
use super::output::{self, Output, SCHEMA, Style};
use super::pam_d::{Entry, MODULE};
use super::settings::{self, Settings, slices};
use super::{Exit, Globals, init, places};
use crate::cache_dir::{self, TAG_NAME};
use crate::config::{Export, RootPath};
use crate::session::{self, Request, Stop};
use users_files::Homes;

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
    /// Somebody cannot log in, or could become root.
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
#[derive(Clone)]
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

    /// Whether another says the same.
    fn is_like(&self, other: &Self) -> bool {
        (self.id, &self.text) == (other.id, &other.text)
    }

    /// The same, of some services only.
    fn in_sessions_of(&self, services: &[String]) -> Self {
        Self { text: format!("in sessions of {}: {}", services.join(", "), self.text), ..self.clone() }
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
    /// The module's file, which root alone could have written, is made readable.
    ModuleMode(PathBuf),
    /// The root is made what `init` makes of it.
    Root(RootPath, init::Change),
    /// What dead logins left in `.staging` is swept, as the next one would.
    Sweep(RootPath),
    /// The tag of a user's directory is put back, as the next login would.
    Tag { user: String, service: String, arguments: Vec<Vec<u8>> },
}

impl Display for Fix {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::ModuleMode(path) => write!(f, "set the mode of {} to 0644", path.display()),
            Self::Root(_, change) => change.fmt(f),
            Self::Sweep(root) => write!(f, "sweep {root}/.staging"),
            Self::Tag { user, .. } => write!(f, "put the {TAG_NAME} of {user} back"),
        }
    }
}

impl Fix {
    fn apply(&self) -> anyhow::Result<()> {
        match self {
            Self::ModuleMode(path) => pam::mend_module(path),
            Self::Root(root, change) => init::apply(change, root),
            Self::Sweep(root) => {
                let opened = places::open_root(root, settings::PATIENCE);
                let opened = opened.map_err(|_| anyhow::anyhow!("{root} does not answer"))?;
                let opened = opened.map_err(|error| Stop::Root(root.clone(), error).to_string());
                cache_dir::sweep(&opened.map_err(anyhow::Error::msg)?)
                    .map_err(|_| anyhow::anyhow!(".staging cannot be used"))
            }
            Self::Tag { user, service, arguments } => {
                let request = Request { service, user: Some(user.as_str()), arguments: &slices(arguments) };
                session::open(&request).outcome.map(drop).map_err(|stop| anyhow::anyhow!("{stop}"))
            }
        }
    }
}

/// What sessions of those services get whose lines say the same.
struct Course {
    /// The services; none where no service has the module.
    services: Vec<String>,
    settings: Settings,
    /// What logins of the members would come to.
    members: Vec<Verdict>,
}

impl Course {
    fn of(services: Vec<String>, settings: Settings, everybody: &[Person]) -> anyhow::Result<Self> {
        let config = &settings.loaded.config;
        let mut members = Vec::new();
        for name in accounts::members(&config.groups, everybody)? {
            let verdict = Verdict::of(&name, &settings);
            let waited = matches!(verdict.outcome, Err(Stop::Remote { .. }));
            members.push(verdict);
            // Each of the others would wait as long.
            if waited && root::is_dead(config) {
                break;
            }
        }
        Ok(Self { services, settings, members })
    }

    fn examine(&self, everybody: &[Person]) -> anyhow::Result<Vec<Finding>> {
        let mut findings = Vec::new();
        examine_configuration(&self.settings, &mut findings);
        root::examine(self, everybody, &mut findings)?;
        people::examine(self, &mut findings)?;
        Ok(findings)
    }
}

/// What is looked at.
struct Patient {
    everybody: Vec<Person>,
    /// The course that stands for all where one must.
    main: Course,
    /// Those of services whose lines say something else.
    others: Vec<Course>,
    /// The lines that name the module, each with the services whose sessions pass it.
    lines: Vec<(Entry, BTreeSet<String>)>,
}

impl Patient {
    fn of(globals: &Globals) -> anyhow::Result<Self> {
        let everybody = accounts::everybody()?;
        let mut courses = pam::courses(globals)?.into_iter();
        let (services, settings) = match courses.next() {
            Some(first) => first,
            None => (Vec::new(), Settings::of(globals, settings::DEFAULT_SERVICE)?),
        };
        let main = Course::of(services, settings, &everybody)?;
        let others = courses
            .map(|(services, settings)| Course::of(services, settings, &everybody))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { everybody, main, others, lines: pam::lines() })
    }

    fn courses(&self) -> impl Iterator<Item = &Course> {
        std::iter::once(&self.main).chain(&self.others)
    }

    fn members(&self) -> impl Iterator<Item = &Verdict> {
        self.courses().flat_map(|course| &course.members)
    }

    fn member_names(&self) -> BTreeSet<&str> {
        self.members().map(|member| member.user.as_str()).collect()
    }

    fn exports(&self) -> impl Iterator<Item = &Export> {
        self.courses().flat_map(|course| &course.settings.loaded.config.exports)
    }

    fn examine(&self, homes: &Homes) -> anyhow::Result<Vec<Finding>> {
        let mut findings = Vec::new();
        pam::examine(self, &mut findings)?;
        let mut of_courses = Vec::new();
        for course in self.courses() {
            of_courses.push((course, course.examine(&self.everybody)?));
        }
        let is_everywhere = |finding: &Finding| {
            of_courses.iter().all(|(_, found)| found.iter().any(|other| other.is_like(finding)))
        };
        for (index, (course, found)) in of_courses.iter().enumerate() {
            for finding in found {
                if !is_everywhere(finding) {
                    findings.push(finding.in_sessions_of(&course.services));
                } else if index == 0 {
                    findings.push(finding.clone());
                }
            }
        }
        overrides::examine(self, homes, &mut findings);
        cargo::examine(self, homes, &mut findings);
        findings.sort_by_key(|finding| finding.gravity);
        Ok(findings)
    }
}

fn examine_configuration(settings: &Settings, findings: &mut Vec<Finding>) {
    let loaded = &settings.loaded;
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
            format!("no root is configured, in {} or on the module's line", settings.conf),
            "choose one: cargo-targetctl init --root /srv/cargo-target",
        ));
    }
}

pub(super) fn run(globals: &Globals, arguments: &Arguments, output: &mut Output) -> anyhow::Result<Exit> {
    if arguments.fix && !geteuid().is_root() {
        anyhow::bail!("--fix changes what is root's: run it as root");
    }
    let mut fixed: Vec<Fix> = Vec::new();
    loop {
        let patient = Patient::of(globals)?;
        let homes = Homes::of(&patient);
        let findings = patient.examine(&homes)?;
        // What did not help will not help again; what is mended may show what lay behind it.
        let to_fix = findings.iter().filter_map(|finding| Some((finding, finding.fix.as_ref()?)));
        let to_fix: Vec<_> = to_fix.filter(|(_, fix)| arguments.fix && !fixed.contains(fix)).collect();
        if to_fix.is_empty() || !agreed(&to_fix, arguments, output)? {
            return tell(
                &Report { patient: &patient, homes: &homes, findings: &findings, fixed: &fixed },
                output,
            );
        }
        for (finding, fix) in to_fix {
            fix.apply().with_context(|| format!("cannot mend this: {}", finding.text))?;
            fixed.push(fix.clone());
        }
        output.line("Done.")?;
    }
}

/// Shows what is to be done, and asks.
fn agreed(to_fix: &[(&Finding, &Fix)], arguments: &Arguments, output: &mut Output) -> anyhow::Result<bool> {
    output.styled(Style::Heading, "To do:")?;
    for (_, fix) in to_fix {
        output.line(format!("    {fix}"))?;
    }
    let agreed = output.ask(arguments.yes, "Go on?")?;
    if !agreed {
        output.line("Nothing was changed.")?;
    }
    Ok(agreed)
}

/// What there is to tell.
struct Report<'a> {
    patient: &'a Patient,
    homes: &'a Homes,
    findings: &'a [Finding],
    fixed: &'a [Fix],
}

fn tell(report: &Report<'_>, output: &mut Output) -> anyhow::Result<Exit> {
    let Report { patient, homes, findings, fixed } = report;
    let advice = findings.iter().filter(|finding| finding.gravity == Gravity::Advice).count();
    let problems = findings.len() - advice;
    let exit = if problems == 0 { Exit::Fine } else { Exit::Problems };
    let settings = &patient.main.settings;
    let is_root = geteuid().is_root();
    if output.is_json {
        let services: Vec<Value> = patient
            .lines
            .iter()
            .map(|(line, services)| json!({ "line": line.to_string(), "services": services }))
            .collect();
        let fixed: Vec<String> = fixed.iter().map(ToString::to_string).collect();
        let homes: Vec<_> = homes.remote.iter().map(|home| home.display().to_string()).collect();
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
            "lines": services, "homes_left_alone": homes, "findings": findings, "problems": problems, "advice": advice, "fixed": fixed, "exit": exit as u8,
        }))?;
        return Ok(exit);
    }
    settings.announce_root(output)?;
    settings.announce_at_length(output)?;
    if !is_root {
        output.styled(Style::Warning, "Not run as root: much of what can go wrong cannot be seen.")?;
    }
    for (line, services) in &patient.lines {
        let services: Vec<&str> = services.iter().map(String::as_str).collect();
        let place = format!("{}:{}", line.file.display(), line.number);
        output.line(format!("{MODULE} stands in {place}, for {}.", services.join(", ")))?;
    }
    if let Some(first) = homes.remote.first() {
        let more = match homes.remote.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let first = first.display();
        output.line(format!("Not looked into, on network, FUSE or autofs mounts: {first}{more}."))?;
    }
    for finding in *findings {
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
