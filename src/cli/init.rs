//! `init`: makes the shared root, or makes one that is there safe, and writes the configuration.
//!
//! Everything is found out first: what must be refused is refused before anything changes, and what is to
//! change is shown. Nothing to change neither asks nor writes.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchown, geteuid};
use serde_json::json;

use super::accounts::{self, Person};
use super::check::{Decision, Verdict};
use super::output::{self, Output, SCHEMA, Style};
use super::places::{self, Real};
use super::settings::{self, Settings};
use super::{Exit, Globals, UsageError};
use crate::cache_dir::{ACLS, CARGO_NAMES, STAGING, others_can_enter};
use crate::config::{self, GroupRef, RootPath};
use crate::ffi;
use crate::quoting::ShellWord;
use crate::session::{self, Stop};
use crate::shared_root::{RootCause, open_in_mount};

/// Make the shared root, or make an existing one safe, and write the configuration
///
/// The root becomes root:root 0755 with a .staging of root's alone in it; users' directories are kept.
/// What will change is shown first, and asked.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The group whose members are developers [default: the configured one, or workspace]
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Create the group if there is none of that name
    #[arg(long)]
    create_group: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Directories of the system; nobody's cache belongs at these paths ...
pub(super) const SYSTEM: [&str; 21] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/lost+found",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/var",
];

/// ... at these ...
pub(super) const SYSTEM_BELOW_VAR: [&str; 5] =
    ["/var/cache", "/var/lib", "/var/local", "/var/opt", "/var/tmp"];

/// ... or anywhere below these.
pub(super) const SYSTEM_TREES: [&str; 27] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/snap",
    "/sys",
    "/usr",
    "/var/cache/apt",
    "/var/cache/private",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/lib/private",
    "/var/lib/rpm",
    "/var/lib/sudo",
    "/var/lib/systemd",
    "/var/log",
    "/var/mail",
    "/var/spool",
];

/// How many names of a directory are looked at.
const MAX_NAMES: usize = 10_000;

/// The file that is shipped, all of it comments.
const SHIPPED_CONF: &str = include_str!("../../packaging/cargo-target.conf");

/// One thing that is to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    CreateGroup(String),
    MakeDirectory(String),
    Owner { path: String, uid: u32, gid: u32 },
    Mode { path: String, mode: u32 },
    DropAcls(String),
    MakeStaging(String),
    WriteConf { path: String, content: String },
}

impl Change {
    /// For JSON.
    fn kind(&self) -> &'static str {
        match self {
            Self::CreateGroup(_) => "create-group",
            Self::MakeDirectory(_) => "make-directory",
            Self::Owner { .. } => "owner",
            Self::Mode { .. } => "mode",
            Self::DropAcls(_) => "drop-acls",
            Self::MakeStaging(_) => "make-staging",
            Self::WriteConf { .. } => "write-conf",
        }
    }
}

impl Display for Change {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateGroup(name) => write!(f, "create the group {name}"),
            Self::MakeDirectory(path) => write!(f, "make {path}, root:root 0755"),
            Self::Owner { path, uid, gid } => write!(f, "give {path} to root:root (it is {uid}:{gid})"),
            Self::Mode { path, mode } => write!(f, "set the mode of {path} to 0755 (it is {mode:04o})"),
            Self::DropAcls(path) => write!(f, "drop the ACLs of {path}"),
            Self::MakeStaging(path) => write!(f, "make {path}, root:root 0700"),
            Self::WriteConf { path, content } => {
                let settings: Vec<&str> = config_lines(content).collect();
                write!(f, "write {path}: {}", settings.join("; "))
            }
        }
    }
}

/// Why nothing is done, and what would help.
#[derive(Debug)]
struct Refused {
    reason: String,
    remedy: Vec<String>,
}

/// What there is to do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) changes: Vec<Change>,
    /// What a conf that has settings of its own lacks.
    conf_lines: Vec<String>,
    refused: Vec<Refused>,
}

impl Plan {
    /// The first reason why nothing may be done.
    pub(super) fn refusal(&self) -> Option<String> {
        self.refused.first().map(|refused| refused.reason.clone())
    }

    fn refuse(&mut self, reason: impl Into<String>, remedy: Vec<String>) {
        self.refused.push(Refused { reason: reason.into(), remedy });
    }
}

pub(super) fn run(globals: &Globals, arguments: &Arguments, output: &mut Output) -> anyhow::Result<Exit> {
    let conf = match &globals.conf {
        Some(given) => settings::conf_path(given)?,
        None => config::DEFAULT_FILE.into(),
    };
    let current = Conf::read(&conf)?;
    let mut plan = Plan::default();
    let Some(root) = root_to_make(globals, &current, &mut plan)? else {
        return refusal(&plan, None, None, output);
    };
    let given = globals.root.as_deref().filter(|given| Path::new(root.as_str()) != *given);
    let given = given.map(|given| given.display().to_string());
    if let Some(given) = &given {
        output.line(format!("{given} leads to {root}"))?;
    }
    if !geteuid().is_root() && !arguments.dry_run {
        bail!("init changes what is root's: run it as root, or with --dry-run");
    }

    let everybody = accounts::everybody()?;
    judge_place(&root, &everybody, &mut plan);
    let groups = plan_group(arguments, &current, &mut plan)?;
    if plan.refused.is_empty() {
        plan_root(&root, &mut plan)?;
    }
    if plan.refused.is_empty() {
        let remote = judge_homes(&root, &everybody, &mut plan);
        if remote > 0 {
            output.line(format!(
                "{remote} homes lie on network, FUSE or autofs mounts: their paths alone were compared with the root"
            ))?;
        }
        judge_content(&root, &current, &everybody, &mut plan)?;
    }
    plan_conf(&conf, &current, &root, arguments.group.as_deref(), &mut plan);
    if plan.refused.is_empty() && !arguments.dry_run {
        judge_conf_place(&mut plan);
    }
    if !plan.refused.is_empty() {
        return refusal(&plan, Some(&root), given.as_deref(), output);
    }

    let mut changed = false;
    if plan.changes.is_empty() {
        output.line(format!("{root} is in order; there is nothing to change."))?;
    } else {
        output.styled(Style::Heading, if arguments.dry_run { "Would:" } else { "To do:" })?;
        for change in &plan.changes {
            output.line(format!("    {change}"))?;
        }
        if !arguments.dry_run {
            if !output.ask(arguments.yes, "Go on?")? {
                output.line("Nothing was changed.")?;
                return Ok(Exit::Fine);
            }
            for change in &plan.changes {
                apply(change, &root).with_context(|| format!("cannot {change}"))?;
            }
            changed = true;
            output.line("Done.")?;
        }
    }

    let kept = if changed || plan.changes.is_empty() {
        judge_kept(globals, &root, &groups, &everybody)?
    } else {
        Vec::new()
    };
    let next = next_steps(globals, &conf, &plan, &groups, &everybody)?;
    if output.is_json {
        let changes: Vec<_> = plan
            .changes
            .iter()
            .map(|change| json!({ "change": change.kind(), "text": change.to_string() }))
            .collect();
        let kept: Vec<_> = kept
            .iter()
            .map(|verdict| {
                json!({
                    "user": verdict.user, "decision": verdict.decision().word(), "reason": verdict.reason(),
                    "directory": verdict.directory(),
                })
            })
            .collect();
        output::json(&json!({
            "schema": SCHEMA, "command": "init", "root": root.as_str(), "root_given": given, "changes": changes, "changed": changed,
            "refused": [], "kept": kept, "next": next, "exit": Exit::Fine as u8,
        }))?;
        return Ok(Exit::Fine);
    }
    tell_kept(&kept, output)?;
    if !next.is_empty() {
        output.styled(Style::Heading, "Next:")?;
        for step in next {
            output.line(format!("    {step}"))?;
        }
    }
    Ok(Exit::Fine)
}

/// Prints why nothing is done.
fn refusal(
    plan: &Plan,
    root: Option<&RootPath>,
    given: Option<&str>,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    if output.is_json {
        let refused: Vec<_> = plan
            .refused
            .iter()
            .map(|refused| json!({ "reason": refused.reason, "remedy": refused.remedy }))
            .collect();
        output::json(&json!({
            "schema": SCHEMA, "command": "init", "root": root.map(RootPath::as_str), "root_given": given, "changes": [],
            "changed": false, "refused": refused, "kept": [], "next": [], "exit": Exit::Problems as u8,
        }))?;
    }
    for refused in &plan.refused {
        output.tagged(Style::Bad, "refused:", &refused.reason)?;
        for line in &refused.remedy {
            output.line(format!("    {line}"))?;
        }
    }
    output.line("Nothing was changed.")?;
    Ok(Exit::Problems)
}

/// The root as it is to be: `--root`, or the one that is configured.
fn root_to_make(globals: &Globals, current: &Conf, plan: &mut Plan) -> anyhow::Result<Option<RootPath>> {
    let given: &Path = match (&globals.root, current.root()) {
        (Some(given), _) => given,
        (None, Some(configured)) => return Ok(Some(configured.clone())),
        (None, None) => {
            return Err(UsageError("init needs --root PATH: no root is configured yet".into()).into());
        }
    };
    if given.components().all(|component| component == std::path::Component::RootDir) {
        plan.refuse("/ is the whole system; give the shared root a directory of its own", Vec::new());
        return Ok(None);
    }
    settings::resolve(given).map(Some)
}

/// Refuses directories that are somebody's.
fn judge_place(root: &RootPath, everybody: &[Person], plan: &mut Plan) {
    let path = Path::new(root.as_str());
    if is_the_systems(root.as_str()) {
        let own = "give the shared root a directory of its own, such as /srv/cargo-target".into();
        plan.refuse(format!("{root} is the system's"), vec![own]);
        return;
    }
    let home_in = everybody.iter().find(|person| root.contains_home(&person.home));
    // A system user's "home" may be any directory that somebody found fit.
    let in_home = everybody
        .iter()
        .find(|person| person.uid >= 1000 && person.home != Path::new("/") && path.starts_with(&person.home));
    if let Some(person) = home_in.or(in_home) {
        let relation = if home_in.is_some() { "is, or contains," } else { "lies in" };
        plan.refuse(
            format!("{root} {relation} the home directory of {}: {}", person.name, person.home.display()),
            vec!["give the shared root a directory of its own, such as /srv/cargo-target".into()],
        );
    }
}

/// Refuses a root that is a home, contains one or lies in one by another path: a symbolic link, or a bind mount.
/// Answers with how many homes lie where nobody may have to answer, and were not asked.
fn judge_homes(root: &RootPath, everybody: &[Person], plan: &mut Plan) -> usize {
    let identity = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let root_path = Path::new(root.as_str());
    let roots = identity(root_path);
    let above_root: BTreeSet<_> = root_path.ancestors().skip(1).filter_map(identity).collect();
    let top = identity(Path::new("/"));
    let mut remote = 0;
    let homes = everybody.iter().filter(|person| person.home.is_absolute() && person.home != Path::new("/"));
    for person in homes {
        let relation = match places::real_path(&person.home) {
            Ok(Real::Local(home)) => {
                let itself = identity(&home);
                let contains = home.ancestors().any(|above| above == root_path || identity(above) == roots);
                let lies_in = person.uid >= 1000
                    && itself != top
                    && itself.is_some_and(|home| above_root.contains(&home));
                if roots.is_some() && contains || home.starts_with(root_path) {
                    "is, or contains,"
                } else if lies_in {
                    "lies in"
                } else {
                    continue;
                }
            }
            Ok(Real::Remote(known)) => {
                remote += usize::from(person.uid >= 1000);
                if !known.starts_with(root_path) {
                    continue;
                }
                "is, or contains,"
            }
            Err(_) => continue,
        };
        let home = person.home.display();
        let own = "give the shared root a directory of its own, such as /srv/cargo-target".into();
        plan.refuse(format!("{root} {relation} the home directory of {}: {home}", person.name), vec![own]);
        break;
    }
    remote
}

/// Refuses a directory that is there and is something else already: whoever uses it would lose it to root.
fn judge_content(
    root: &RootPath,
    current: &Conf,
    everybody: &[Person],
    plan: &mut Plan,
) -> anyhow::Result<()> {
    // Somebody has said that it is the root.
    if current.root() == Some(root) {
        return Ok(());
    }
    let Ok(directory) = open_root(root) else { return Ok(()) };
    let config = &current.loaded.config;
    let owner = fstat(&directory)?.st_uid;
    if owner != 0 && owner < config.min_uid {
        let whose = everybody.iter().find(|person| person.uid == owner).map(|person| person.name.as_str());
        let whose = whose.map_or_else(|| format!("uid {owner}"), str::to_owned);
        plan.refuse(
            format!("{root} belongs to {whose}, a system user, who needs it"),
            other_place(root, current),
        );
        return Ok(());
    }
    let host =
        if config.name.names_host() { session::short_host_name().unwrap_or_default() } else { String::new() };
    let developers = everybody.iter().filter(|person| person.uid >= config.min_uid);
    let known: BTreeSet<String> =
        developers.map(|person| config.name.expand(&person.name, person.uid, &host)).collect();
    let mut strangers = Vec::new();
    for entry in fs::read_dir(root.as_str()).into_iter().flatten().flatten().take(MAX_NAMES) {
        let (name, is_directory) = (entry.file_name(), entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let name = name.to_string_lossy().into_owned();
        // A team's own target directory may become the root.
        let is_cargos = CARGO_NAMES.contains(&name.as_str());
        if is_cargos && !is_directory {
            return Ok(());
        }
        let is_file_systems = is_directory && name == "lost+found";
        if !(name.starts_with('.') || is_cargos || is_file_systems || is_directory && known.contains(&name)) {
            strangers.push(name);
        }
    }
    strangers.sort();
    if let Some(first) = strangers.first() {
        let more = match strangers.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        plan.refuse(
            format!("{root} is in use for something else: it holds {first}{more}, no user's directory"),
            other_place(root, current),
        );
    }
    Ok(())
}

fn other_place(root: &RootPath, current: &Conf) -> Vec<String> {
    vec![
        "give the shared root a directory of its own, such as /srv/cargo-target".into(),
        format!("or, if it is to be the root all the same, say so in {} first: root = {root}", current.path),
    ]
}

/// Refuses a configuration that cannot be written: nothing may be half done.
fn judge_conf_place(plan: &mut Plan) {
    let path = plan.changes.iter().find_map(|change| match change {
        Change::WriteConf { path, .. } => Some(path.clone()),
        _ => None,
    });
    let Some(path) = path else { return };
    let beside = beside(Path::new(&path));
    match new_file(&beside) {
        Ok(_) => drop(fs::remove_file(&beside)),
        Err(error) => plan.refuse(
            format!("{path} cannot be written: {error}"),
            vec![
                "see that its directory is there and can be written, or name another file with --conf".into(),
            ],
        ),
    }
}

/// Whether a path is a directory of the system.
pub(super) fn is_the_systems(path: &str) -> bool {
    SYSTEM.contains(&path)
        || SYSTEM_BELOW_VAR.contains(&path)
        || SYSTEM_TREES.iter().any(|tree| Path::new(path).starts_with(tree))
}

/// What must change at the root and on the way to it.
pub(super) fn plan_root(root: &RootPath, plan: &mut Plan) -> anyhow::Result<()> {
    let staging = format!("{root}/{STAGING}");
    let opened = match places::open_root(root, settings::PATIENCE) {
        Ok(opened) => opened,
        Err(error) => {
            let stop = Stop::Remote { path: root.to_string(), timeout: settings::PATIENCE, error };
            plan.refuse(stop.to_string(), Vec::new());
            return Ok(());
        }
    };
    let count = root.components().count();
    match opened {
        Err(error) if error.cause == RootCause::Absent => {
            for depth in error.depth..=count {
                plan.changes.push(Change::MakeDirectory(root.first_components(depth).into()));
            }
            plan.changes.push(Change::MakeStaging(staging));
            return Ok(());
        }
        // The root itself can be mended; what is above it is not ours.
        Err(error)
            if error.depth == count
                && matches!(error.cause, RootCause::NotRootOwned(_) | RootCause::Writable(_)) => {}
        Err(error) => {
            let sentence = Stop::Root(root.clone(), error).to_string();
            plan.refuse(sentence, Vec::new());
            return Ok(());
        }
        Ok(_) => {}
    }

    let directory = open_root(root)?;
    plan_existing(root, &directory, plan)?;
    match look_at_staging(&directory)? {
        Staging::Missing => plan.changes.push(Change::MakeStaging(staging)),
        Staging::InOrder => {}
        Staging::Unsafe => plan.refuse(
            format!("{staging} is not a directory of root's that nobody else can enter"),
            vec![move_away(root, STAGING)],
        ),
        Staging::MountPoint => {
            plan.refuse(
                format!("{staging} is a mount point"),
                vec![format!("umount {}", ShellWord(&staging))],
            );
        }
    }
    Ok(())
}

/// What must change of a root that is there.
fn plan_existing(root: &RootPath, directory: &OwnedFd, plan: &mut Plan) -> anyhow::Result<()> {
    let path = root.to_string();
    let found = fstat(directory)?;
    let mode = found.st_mode & 0o7777;
    if (found.st_uid, found.st_gid) != (0, 0) {
        plan.changes.push(Change::Owner { path: path.clone(), uid: found.st_uid, gid: found.st_gid });
    }
    for acl in ACLS {
        if ffi::has_attribute(directory, acl).with_context(|| format!("cannot read the ACLs of {root}"))? {
            plan.changes.push(Change::DropAcls(path.clone()));
            break;
        }
    }
    if mode != 0o755 {
        plan.changes.push(Change::Mode { path, mode });
    }
    Ok(())
}

/// The command that gives a name in the root, which is in the way, a hidden one that is nobody's.
pub(super) fn move_away(root: &RootPath, name: &str) -> String {
    let (path, hidden) = (format!("{root}/{name}"), format!("{root}/.{}.old", name.trim_start_matches('.')));
    format!("mv -nT {} {}", ShellWord(&path), ShellWord(&hidden))
}

/// The mode of an open directory.
pub(super) fn mode_of(directory: BorrowedFd<'_>) -> anyhow::Result<u32> {
    Ok(fstat(directory)?.st_mode & 0o7777)
}

/// What has the name of the staging directory.
pub(super) enum Staging {
    Missing,
    InOrder,
    Unsafe,
    /// Of which no login makes use.
    MountPoint,
}

pub(super) fn look_at_staging(root: &OwnedFd) -> anyhow::Result<Staging> {
    match open_in_mount(root, STAGING, DIRECTORY) {
        Err(Errno::ENOENT) => Ok(Staging::Missing),
        Err(Errno::EXDEV) => Ok(Staging::MountPoint),
        Err(Errno::ENOTDIR | Errno::ELOOP) => Ok(Staging::Unsafe),
        Err(errno) => Err(anyhow!("cannot open {STAGING}: {}", errno.desc())),
        Ok(staging) => {
            let found = fstat(&staging)?;
            let is_unsafe = others_can_enter(found.st_uid, found.st_mode);
            Ok(if is_unsafe { Staging::Unsafe } else { Staging::InOrder })
        }
    }
}

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Opens the root, component by component, following nothing.
pub(super) fn open_root(root: &RootPath) -> anyhow::Result<OwnedFd> {
    let mut directory = openat(AT_FDCWD, "/", DIRECTORY, Mode::empty())?;
    for name in root.components() {
        directory = openat(&directory, name, DIRECTORY, Mode::empty())
            .with_context(|| format!("cannot open {name} on the way to {root}"))?;
    }
    Ok(directory)
}

/// The groups that count, and whether one is to be created.
fn plan_group(arguments: &Arguments, current: &Conf, plan: &mut Plan) -> anyhow::Result<Vec<GroupRef>> {
    let configured = current.groups();
    let groups = match &arguments.group {
        Some(name) => {
            let word = format!("group={name}");
            let parsed = config::parse(&[word.as_bytes()], "", Ok(&[]));
            match (parsed.problems.first(), parsed.config.groups.len()) {
                (None, 1) => parsed.config.groups,
                (Some(problem), _) => return Err(UsageError(format!("--{}", problem.cause())).into()),
                (None, _) => return Err(UsageError("--group takes one group".into()).into()),
            }
        }
        None => configured,
    };
    let mut missing = Vec::new();
    for group in &groups {
        match group {
            GroupRef::Name(name) if accounts::group(group)?.is_none() => missing.push(name.clone()),
            GroupRef::Name(_) | GroupRef::Gid(_) => return Ok(groups),
        }
    }
    // None of them is there.
    if let Some(name) = missing.into_iter().next() {
        if arguments.create_group {
            plan.changes.push(Change::CreateGroup(name));
        } else {
            plan.refuse(
                format!("there is no group {name}"),
                vec![format!("groupadd {name}"), "or the same command again with --create-group".into()],
            );
        }
    }
    Ok(groups)
}

/// The configuration file as it is.
struct Conf {
    path: String,
    /// None where there is no file.
    text: Option<String>,
    loaded: config::Loaded,
}

impl Conf {
    fn read(path: &str) -> anyhow::Result<Self> {
        let argument = format!("conf={path}");
        // With no file, that is what the module would say; here it is no fault.
        if !Path::new(path).exists() && fs::symlink_metadata(path).is_err() {
            return Ok(Self { path: path.into(), text: None, loaded: config::parse(&[], path, Ok(&[])) });
        }
        let loaded = config::load(&[argument.as_bytes()]);
        // One with faults is not looked into any further: it may be anything.
        let text = if loaded.problems.is_empty() {
            fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?
        } else {
            String::new()
        };
        Ok(Self { path: path.into(), text: Some(text), loaded })
    }

    fn root(&self) -> Option<&RootPath> {
        self.loaded.config.root.as_ref()
    }

    fn groups(&self) -> Vec<GroupRef> {
        self.loaded.config.groups.clone()
    }

    /// Whether somebody has set something: then the file is theirs.
    fn has_settings(&self) -> bool {
        self.text.as_deref().is_some_and(|text| config_lines(text).next().is_some())
    }
}

/// The lines of a configuration that are settings.
fn config_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// What the configuration must say.
fn plan_conf(conf: &str, current: &Conf, root: &RootPath, group: Option<&str>, plan: &mut Plan) {
    if !current.loaded.problems.is_empty() {
        let problems = current.loaded.problems.iter().map(settings::describe).collect();
        plan.refuse(format!("{conf} has faults; mend them first"), problems);
        return;
    }
    match current.root() {
        Some(other) if other != root => {
            plan.refuse(
                format!("{conf} names another root, {other}; if it is to be {root}, make its line:"),
                vec![format!("root = {root}")],
            );
        }
        _ => {}
    }
    let configured = current.groups();
    let names = |group: &str| configured.iter().any(|known| known.to_string() == group);
    if let Some(group) = group.filter(|group| current.has_settings() && !names(group)) {
        let mut all: Vec<String> = configured.iter().map(ToString::to_string).collect();
        let and = if config_sets(current, "group") {
            all.push(group.into());
            all.join(",")
        } else {
            group.into()
        };
        plan.refuse(
            format!("{conf} names another group; if {group} is to be one, make its line:"),
            vec![format!("group = {and}")],
        );
    }
    if !plan.refused.is_empty() || current.root().is_some() {
        return;
    }
    if current.has_settings() {
        plan.conf_lines.push(format!("root = {root}"));
        return;
    }
    let text = current.text.as_deref().unwrap_or(SHIPPED_CONF);
    let mut content = with_setting(text, "root", root.as_str());
    if let Some(group) = group.filter(|group| !names(group)) {
        content = with_setting(&content, "group", group);
    }
    plan.changes.push(Change::WriteConf { path: conf.into(), content });
}

fn config_sets(conf: &Conf, key: &str) -> bool {
    let text = conf.text.as_deref().unwrap_or_default();
    config_lines(text).any(|line| line.split('=').next().is_some_and(|word| word.trim() == key))
}

/// The text with a setting in the place of its commented example, or at the end.
fn with_setting(text: &str, key: &str, value: &str) -> String {
    let setting = format!("{key} = {value}");
    let example = format!("#{key} = ");
    let mut lines: Vec<&str> = text.lines().collect();
    match lines.iter_mut().find(|line| line.starts_with(&example)) {
        Some(line) => *line = &setting,
        None => lines.push(&setting),
    }
    lines.join("\n") + "\n"
}

pub(super) fn apply(change: &Change, root: &RootPath) -> anyhow::Result<()> {
    match change {
        Change::CreateGroup(name) => create_group(name),
        Change::MakeDirectory(path) => {
            make_directory(&RootPath::parse(path).map_err(|cause| anyhow!(cause))?)
        }
        Change::Owner { .. } => {
            fchown(open_root(root)?, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)))?;
            Ok(())
        }
        Change::Mode { .. } => Ok(fchmod(open_root(root)?, Mode::from_bits_truncate(0o755))?),
        Change::DropAcls(_) => drop_acls(&open_root(root)?),
        Change::MakeStaging(_) => {
            let directory = open_root(root)?;
            match mkdirat(&directory, STAGING, Mode::S_IRWXU) {
                // A login was faster; it makes the same.
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            make_roots_own(&openat(&directory, STAGING, DIRECTORY, Mode::empty())?, 0o700)
        }
        Change::WriteConf { path, content } => write_conf(Path::new(path), content),
    }
}

fn make_directory(path: &RootPath) -> anyhow::Result<()> {
    let mut names: Vec<&str> = path.components().collect();
    let Some(last) = names.pop() else { bail!("no name") };
    let mut parent = openat(AT_FDCWD, "/", DIRECTORY, Mode::empty())?;
    for name in names {
        parent = openat(&parent, name, DIRECTORY, Mode::empty())?;
    }
    mkdirat(&parent, last, Mode::S_IRWXU)?;
    make_roots_own(&openat(&parent, last, DIRECTORY, Mode::empty())?, 0o755)
}

/// Undoes what a new directory inherited, and whatever the umask says.
fn make_roots_own(directory: &OwnedFd, mode: u32) -> anyhow::Result<()> {
    if fstat(directory)?.st_uid != 0 {
        bail!("it is not root's");
    }
    fchown(directory, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)))?;
    drop_acls(directory)?;
    Ok(fchmod(directory, Mode::from_bits_truncate(mode))?)
}

fn drop_acls(directory: impl AsFd) -> anyhow::Result<()> {
    for acl in ACLS {
        ffi::remove_attribute(directory.as_fd(), acl)?;
    }
    Ok(())
}

fn create_group(name: &str) -> anyhow::Result<()> {
    let program = ["/usr/sbin/groupadd", "/sbin/groupadd"].into_iter().find(|path| Path::new(path).exists());
    let Some(program) = program else { bail!("there is no groupadd; create it by your own means") };
    let done = Command::new(program).args(["--", name]).output()?;
    if !done.status.success() {
        bail!("groupadd: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}

fn beside(path: &Path) -> PathBuf {
    let mut beside = PathBuf::from(path);
    beside.as_mut_os_string().push(".new");
    beside
}

/// A new file, in the place of one that an earlier run may have left.
fn new_file(path: &Path) -> std::io::Result<fs::File> {
    let _ = fs::remove_file(path);
    fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)
}

/// Writes beside it and renames: a login finds the old file or the new one.
fn write_conf(path: &Path, content: &str) -> anyhow::Result<()> {
    let beside = beside(path);
    let mut file = new_file(&beside)?;
    let written = (|| {
        file.write_all(content.as_bytes())?;
        fchmod(&file, Mode::from_bits_truncate(0o644))?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        anyhow::Ok(())
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// The members who have a directory already, and what a login makes of it.
fn judge_kept(
    globals: &Globals,
    root: &RootPath,
    groups: &[GroupRef],
    everybody: &[Person],
) -> anyhow::Result<Vec<Verdict>> {
    let mut settings = Settings::of(globals, settings::DEFAULT_SERVICE)?;
    settings.arguments.push(format!("root={root}").into_bytes());
    let members = accounts::members(groups, everybody)?;
    let verdicts = members.iter().map(|user| Verdict::of(user, &settings));
    Ok(verdicts
        .filter(|verdict| match &verdict.outcome {
            Ok(ready) => !ready.provisioned,
            Err(_) => verdict.decision() == Decision::Refuse,
        })
        .collect())
}

fn tell_kept(kept: &[Verdict], output: &mut Output) -> std::io::Result<()> {
    let in_order = kept.iter().filter(|verdict| verdict.decision() == Decision::Provision).count();
    match in_order {
        0 => {}
        1 => output.line("1 member's directory is there and in order.")?,
        count => output.line(format!("{count} members' directories are there and in order."))?,
    }
    for verdict in kept.iter().filter(|verdict| verdict.decision() == Decision::Refuse) {
        output.tagged(Style::Bad, &format!("{}:", verdict.user), verdict.reason())?;
    }
    Ok(())
}

/// What is left for the administrator.
fn next_steps(
    globals: &Globals,
    conf: &str,
    plan: &Plan,
    groups: &[GroupRef],
    everybody: &[Person],
) -> anyhow::Result<Vec<String>> {
    let mut steps = Vec::new();
    for line in &plan.conf_lines {
        steps.push(format!("add to {conf}: {line}"));
    }
    if accounts::members(groups, everybody)?.is_empty() {
        if let Some(group) = groups.first() {
            steps.push(format!("add the developers to the group: gpasswd -a USER {group}"));
        }
    }
    if conf != config::DEFAULT_FILE {
        steps.push(format!("name the file on the module's lines in /etc/pam.d: conf={conf}"));
    }
    if Settings::of(globals, settings::DEFAULT_SERVICE)?.line.is_none() {
        steps.push("see which lines PAM lacks: cargo-targetctl doctor".into());
    }
    if !steps.is_empty() {
        steps.push("see what a login would get: cargo-targetctl check".into());
    }
    Ok(steps)
}
