//! `migrate`: an existing target directory becomes one user's own, and nothing is compiled again.
//!
//! In order: look at everything and say what will be done ([`survey`]); bring the tree into a directory that
//! only root can enter, by renames ([`gather`]) or, from another file system, by a copy ([`copy`]); make it
//! the user's ([`settle`]); give it its name in one step ([`publish`]); remove what a copy was made from. How
//! far it is stands in a file ([`staging`]), so that a run after a crash goes on where the last one was.

mod busy;
mod copy;
mod gather;
mod outputs;
mod publish;
mod report;
mod settle;
mod source;
mod staging;
mod survey;

use std::ffi::CString;
use std::fmt::{self, Display, Formatter};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{anyhow, bail};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{geteuid, gethostname, syncfs};

use super::check::Verdict;
use super::init;
use super::output::{Output, complain};
use super::settings::{self, Settings};
use super::{Exit, Globals, accounts};
use crate::account::Account;
use crate::cache_dir::{DirName, Owner};
use crate::config::{NameTemplate, RootPath};
use crate::policy::Skip;
use crate::session::Stop;
use crate::shared_root::RootCause;
use crate::tree::Mounted;
use busy::Locks;
use gather::Renamed;
use outputs::Rewrite;
use publish::Destination;
use report::{Progress, Report};
use settle::{Done, Settle};
use source::Source;
use staging::{Phase, Staging, State, TREE, Way};

/// Move an existing target directory into one user's own, with everything built in it
///
/// What is there is shown first, and asked. Killed at any moment, it can be run again, and goes on.
/// Exits 3 if it is refused, with nothing changed, and 4 if somebody is at work in the directory.
#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct Arguments {
    /// The target directory; the shared root itself moves all but users' own directories
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Whose it becomes
    #[arg(long, value_name = "USER")]
    to_user: String,
    /// Take only what belongs to USER; the rest stays where it is
    #[arg(long)]
    only_owned: bool,
    /// Show what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Move a directory that USER has and uses to <root>/.set-aside-<name>-<date>
    #[arg(long)]
    set_aside: bool,
    /// Take DIR for a target directory although nothing in it says so
    #[arg(long)]
    force: bool,
}

/// What is said of a run that failed on the way.
const HALF_DONE: &str = "it is half done, and nothing is lost: run it again when this is mended";

/// Why it goes no further.
#[derive(Debug)]
enum Stopped {
    /// It must not be done.
    Refused(String),
    /// Somebody is at work there.
    Busy(Vec<String>),
}

impl Display for Stopped {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => f.write_str(reason),
            Self::Busy(who) => f.write_str(&who.join("; ")),
        }
    }
}

impl std::error::Error for Stopped {}

fn refused(reason: String) -> anyhow::Error {
    Stopped::Refused(reason).into()
}

fn refused_for(reason: &str, examples: &[String]) -> anyhow::Error {
    Stopped::Refused(format!("{reason} {}", examples.join(", "))).into()
}

fn or_busy(who: Vec<String>) -> anyhow::Result<()> {
    if who.is_empty() { Ok(()) } else { Err(Stopped::Busy(who).into()) }
}

/// Whose the tree becomes, and where.
struct Target {
    user: String,
    owner: Owner,
    name: DirName,
    /// Of the user's directory.
    path: String,
    root: RootPath,
    /// The root, open.
    directory: OwnedFd,
    template: NameTemplate,
    host: String,
    mode: u32,
}

pub(super) fn run(globals: &Globals, arguments: &Arguments, output: &mut Output) -> anyhow::Result<Exit> {
    let mut report = Report::new(arguments);
    let ended = migrate(globals, arguments, &mut report, output);
    let exit = match ended {
        Ok(()) => Exit::Fine,
        Err(error) => {
            let exit = match error.downcast_ref::<Stopped>() {
                Some(Stopped::Busy(_)) => Exit::Busy,
                Some(Stopped::Refused(_)) if report.begun => Exit::Failed,
                Some(Stopped::Refused(_)) => Exit::Problems,
                None if error.is::<Mounted>() && !report.begun => Exit::Problems,
                None => return Err(if report.begun { error.context(HALF_DONE) } else { error }),
            };
            report.stopped = vec![format!("{error:#}")];
            if !output.is_json {
                // With what it was about, where that is known.
                complain(&format!(
                    "{}: {}",
                    if exit == Exit::Busy { "busy" } else { "refused" },
                    report.stopped.concat()
                ));
                complain(if report.begun { HALF_DONE } else { "nothing was changed" });
            }
            exit
        }
    };
    report.print(exit, output)?;
    Ok(exit)
}

fn migrate(
    globals: &Globals,
    arguments: &Arguments,
    report: &mut Report,
    output: &mut Output,
) -> anyhow::Result<()> {
    if !geteuid().is_root() {
        bail!("migrate takes over what others wrote: run it as root");
    }
    let settings = Settings::of(globals, settings::DEFAULT_SERVICE)?;
    settings.announce(output)?;
    let (target, root_changes) = find_target(&arguments.to_user, &settings)?;
    report.to = Some(target.path.clone());

    let source = Source::find(&arguments.from, &target)?;
    report.from = Some(source.path.clone());

    let safe = root_changes.changes.is_empty();
    let pending = if safe { staging::find_pending(&target, &source.path, !arguments.dry_run)? } else { None };
    // A run that was killed in its very last steps has left the link, too.
    if source.is_link_to_target && pending.is_none() {
        report.already = true;
        output.line(format!("{} was migrated already: it leads to {}", source.path, target.path))?;
        return Ok(());
    }
    let locks = Locks::default();
    let state = if let Some(pending) = &pending {
        report.resumed = true;
        output.line(format!(
                "A migration of {} to {} was begun and not finished (it got as far as: {}); this goes on with it.",
                pending.state.from,
                target.user,
                pending.state.phase.word()
            ))?;
        pending.state.clone()
    } else {
        source.judge(&target, &accounts::everybody()?, arguments.force)?;
        let in_use = publish::look(&target)? == Destination::InUse;
        if in_use && arguments.set_aside {
            or_busy(busy::processes(Path::new(&target.path), false, &|_| true).busy)?;
        } else if in_use {
            return Err(refused(format!(
                "{} exists and is not empty; add --set-aside to keep it beside as .set-aside-{}-<date>",
                target.path,
                target.name.as_str()
            )));
        }
        new_state(arguments, &source, &target)
    };

    if state.phase == Phase::Gather && source.there.is_some() {
        let own_only = (state.way == Way::RenameOwn).then_some(target.owner.uid);
        let rewrite = Rewrite::new(source.old_paths(), &target.path);
        let facts = survey::look(&source, &target, &rewrite, &locks, own_only)?;
        or_busy(locks.busy())?;
        let counts = |below: &Path| top_moves(&source, &target, below);
        let processes = busy::processes(Path::new(&source.path), false, &counts);
        or_busy(processes.busy)?;
        let way = predicted_way(&source, &target, state.way)?;
        if state.way == Way::RenameOwn && way == Way::Copy {
            return Err(refused(format!(
                "--only-owned takes files by renaming them, and {} is on another file system than {}",
                source.path, target.root
            )));
        }
        report.survey(&source, &target, &facts, way, processes.inside)?;
        report.facts = Some(facts);
    }
    report.root_changes = root_changes.changes.iter().map(ToString::to_string).collect();
    report.tell_plan(&target, output)?;
    if arguments.dry_run {
        return Ok(());
    }
    if !output.ask(arguments.yes, "Go on?")? {
        output.line("Nothing was changed.")?;
        report.declined = true;
        return Ok(());
    }

    report.begun = true;
    for change in &root_changes.changes {
        init::apply(change, &target.root).map_err(|error| error.context(format!("cannot {change}")))?;
    }
    if !safe {
        // Now a login's own judgement must hold.
        if let Err(stop) = Verdict::of(&arguments.to_user, &settings).outcome {
            bail!("{stop}");
        }
    }
    let staging = match pending {
        Some(pending) => pending.staging,
        None => Staging::make(&target, &state)?,
    };
    let mut run = Run::new(&target, &source, arguments, staging, state, report)?;
    run.locks = locks;
    run.all(output)
}

/// Whether a path below the source is part of what moves.
fn top_moves(source: &Source, target: &Target, below: &Path) -> bool {
    if !source.is_root {
        return true;
    }
    let Some(first) = below.components().next() else { return false };
    CString::new(first.as_os_str().as_encoded_bytes()).is_ok_and(|name| source.moves(target, &name))
}

/// The user's directory as a login would have it, and what must change of the root before.
fn find_target(user: &str, settings: &Settings) -> anyhow::Result<(Target, init::Plan)> {
    let config = &settings.loaded.config;
    let mut root_changes = init::Plan::default();
    let Some(root) = config.root.clone() else {
        return Err(refused("no root is configured; run: cargo-targetctl init --root PATH".into()));
    };
    match Verdict::of(user, settings).outcome {
        Ok(_) => {}
        Err(Stop::Skip(Skip::RootAbsent(root))) => {
            return Err(refused(format!("{root} does not exist; run: cargo-targetctl init --root {root}")));
        }
        Err(Stop::Skip(skip)) => {
            return Err(refused(format!("no login of {user} gets a directory: {skip}")));
        }
        Err(Stop::Root(_, error))
            if matches!(error.cause, RootCause::NotRootOwned(_) | RootCause::Writable(_)) =>
        {
            init::plan_root(&root, &mut root_changes)?;
            if let Some(reason) = root_changes.refusal() {
                return Err(refused(reason));
            }
        }
        Err(stop) => return Err(refused(stop.to_string())),
    }
    let account = Account::lookup(user)
        .map_err(|error| anyhow!("{error}"))?
        .ok_or_else(|| refused(format!("there is no user {user}")))?;
    let host = match gethostname() {
        Ok(name) => name.to_string_lossy().split('.').next().unwrap_or_default().to_owned(),
        Err(_) if !config.name.names_host() => String::new(),
        Err(errno) => bail!("cannot get the host's name: {}", errno.desc()),
    };
    let made = config.name.expand(&account.name, account.uid, &host);
    let name = DirName::new(&account.name, made).map_err(|error| refused(error.to_string()))?;
    let target = Target {
        path: format!("{root}/{}", name.as_str()),
        owner: Owner { uid: account.uid, gid: account.gid },
        user: account.name,
        name,
        directory: init::open_root(&root)?,
        root,
        template: config.name.clone(),
        host,
        mode: config.mode.bits(),
    };
    Ok((target, root_changes))
}

fn new_state(arguments: &Arguments, source: &Source, target: &Target) -> State {
    let way = if arguments.only_owned {
        Way::RenameOwn
    } else if source.is_root {
        Way::RenameEach
    } else {
        Way::Rename
    };
    let inode = source.there.as_ref().filter(|_| way == Way::Rename).map_or(0, |found| found.seen.inode);
    State {
        from: source.path.clone(),
        given: source.given.clone(),
        user: target.user.clone(),
        uid: target.owner.uid,
        way,
        phase: Phase::Gather,
        inode,
        sealed: (0, 0),
        leave_link: source.parent_is_roots && !source.is_root && !arguments.only_owned,
    }
}

/// Which way it will probably be: only the rename itself can tell.
fn predicted_way(source: &Source, target: &Target, way: Way) -> anyhow::Result<Way> {
    let Some(found) = &source.there else { return Ok(way) };
    let root = crate::tree::Seen::of(&target.directory)?;
    let differs = found.seen.device != root.device || (!source.is_root && found.seen.mount != root.mount);
    Ok(if differs { Way::Copy } else { way })
}

/// How much can be written to the root, in bytes.
fn free_space(target: &Target) -> anyhow::Result<u64> {
    let found = fstatvfs(&target.directory)?;
    Ok(found.blocks_available() * found.fragment_size())
}

/// A migration under way.
struct Run<'a> {
    target: &'a Target,
    source: &'a Source,
    arguments: &'a Arguments,
    staging: Staging,
    state: State,
    locks: Locks,
    report: &'a mut Report,
    begin: Instant,
}

impl<'a> Run<'a> {
    fn new(
        target: &'a Target,
        source: &'a Source,
        arguments: &'a Arguments,
        staging: Staging,
        state: State,
        report: &'a mut Report,
    ) -> anyhow::Result<Self> {
        if state.uid != target.owner.uid {
            bail!(
                "{} is uid {} now, and was uid {} when this was begun",
                state.user,
                target.owner.uid,
                state.uid
            );
        }
        if (state.way == Way::RenameOwn) != arguments.only_owned && state.phase == Phase::Gather {
            let with = if state.way == Way::RenameOwn { "with" } else { "without" };
            return Err(refused(format!(
                "the run that is pending was begun {with} --only-owned; go on {with} it"
            )));
        }
        let locks = Locks::default();
        Ok(Self { target, source, arguments, staging, state, locks, report, begin: Instant::now() })
    }

    /// Everything from where it stands.
    fn all(mut self, output: &mut Output) -> anyhow::Result<()> {
        if self.state.phase == Phase::Gather {
            self.gather()?;
        }
        if self.state.phase == Phase::Settle {
            self.settle()?;
        }
        if self.state.phase == Phase::Publish {
            self.publish()?;
        }
        self.finish(output)
    }

    fn enter(&mut self, phase: Phase) -> anyhow::Result<()> {
        self.state.phase = phase;
        self.staging.write_state(&self.state, false)
    }

    fn gather(&mut self) -> anyhow::Result<()> {
        let is_here = crate::tree::Seen::at(&self.staging.fd, TREE).ok();
        let renamed =
            match (self.state.way, is_here) {
                // Killed right after the rename, before anybody looked whether it was the right thing.
                (Way::Rename, Some(tree)) if tree.inode == self.state.inode => Renamed::Done,
                (Way::Rename, Some(_)) => {
                    gather::put_back(self.source, &self.staging)?;
                    bail!("{} had been replaced when it was moved, and is back as it was", self.source.path);
                }
                (Way::Rename, None) => gather::whole(self.source, &self.staging)?,
                (Way::RenameEach, _) => gather::each(self.source, self.target, &self.staging)?,
                (Way::RenameOwn, _) => {
                    let units = self.report.facts.take().map(|facts| facts.others_units).unwrap_or_default();
                    match gather::own(self.source, self.target, &self.staging, &units) {
                        Ok(left) => self.report.left = Some(left),
                        Err(error) if is_cross_device(&error) => return Err(refused(
                            "--only-owned takes files by renaming them, and these are on another file system"
                                .into(),
                        )),
                        Err(error) => return Err(error),
                    }
                    Renamed::Done
                }
                (Way::Copy, _) => Renamed::Elsewhere,
            };
        if renamed == Renamed::Elsewhere {
            self.state.way = Way::Copy;
            self.enter(Phase::Gather)?;
            self.copy()?;
        }
        self.enter(Phase::Settle)
    }

    fn copy(&mut self) -> anyhow::Result<()> {
        let Some(found) = &self.source.there else {
            bail!(
                "{} is gone, and only a part of it was copied ({}/tree)",
                self.source.path,
                self.staging.path
            );
        };
        let needed = self.report.facts.as_ref().map_or(0, |facts| facts.bytes);
        let free = free_space(self.target)?;
        if free < needed && !self.report.resumed {
            bail!(
                "a copy needs {}, and {} has {} left",
                report::size(needed),
                self.target.root,
                report::size(free)
            );
        }
        let progress = Progress::start(self.entries(), "copied");
        let bytes = AtomicU64::new(0);
        let copy = copy::Copy {
            source: self.source,
            found,
            target: self.target,
            staging: &self.staging,
            locks: &self.locks,
            tick: &|count| progress.add(count, bytes.load(Ordering::Relaxed)),
            bytes: &bytes,
        };
        self.state.sealed = copy.run()?;
        self.report.copied_bytes = Some(bytes.into_inner());
        Ok(())
    }

    fn entries(&self) -> u64 {
        self.report.entries
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        let done = Done::default();
        let mut old = vec![self.state.given.clone(), self.state.from.clone()];
        old.sort_by_key(|path| std::cmp::Reverse(path.len()));
        old.dedup();
        let rewrite = Rewrite::new(old, &self.target.path);
        let progress = Progress::start(self.entries(), "done");
        let tick = |count| progress.add(count, 0);
        Settle::run(self.target, &self.staging, &self.locks, &rewrite, &done, &tick)?;
        drop(progress);
        self.report.done(&done);
        let tree = format!("{}/tree", self.staging.path);
        or_busy(busy::processes(Path::new(&tree), true, &|_| true).busy)?;
        self.state.inode = crate::tree::Seen::at(&self.staging.fd, TREE)?.inode;
        if self.state.way == Way::Copy {
            // What it was copied from will be removed: it must be on the disk first.
            syncfs(&self.staging.fd)?;
        }
        self.enter(Phase::Publish)
    }

    fn publish(&mut self) -> anyhow::Result<()> {
        let aside = format!(".set-aside-{}-{}", self.target.name.as_str(), report::date_for_names(now()));
        let aside = self.arguments.set_aside.then_some(aside.as_str());
        self.report.set_aside = publish::run(self.target, &self.staging, self.state.inode, aside)?;
        self.enter(Phase::Compare)
    }

    /// From the publication on: the source of a copy, the link, and the staging directory itself.
    fn finish(mut self, output: &mut Output) -> anyhow::Result<()> {
        let mut is_gone = true;
        if self.state.way == Way::Copy {
            if let Some(found) = &self.source.there {
                if self.state.phase == Phase::Compare {
                    let changed = copy::changed_since(self.source, found, self.target, self.state.sealed)?;
                    if changed.is_empty() {
                        self.enter(Phase::Remove)?;
                    } else {
                        self.report.kept = changed;
                    }
                }
                if self.state.phase == Phase::Remove {
                    copy::remove(self.source, found, self.target)?;
                    is_gone = !found.is_mount_point;
                } else {
                    is_gone = false;
                }
            }
        }
        if self.state.leave_link && is_gone && self.source.is_free()? {
            publish::leave_link(self.source, self.target)?;
            self.report.link = true;
        }
        if self.state.way != Way::RenameOwn
            && !self.source.is_root
            && !self.report.link
            && is_gone
            && !self.source.is_free()?
        {
            let path = &self.source.path;
            self.report.warn(format!("{path} is there again: somebody built there meanwhile, or still does"));
        }
        self.staging.remove(self.target)?;
        self.report.finished(self.target, self.begin.elapsed(), output)
    }
}

impl Source {
    /// Whether nothing has the old name.
    fn is_free(&self) -> anyhow::Result<bool> {
        match crate::tree::Seen::at(&self.parent, &self.name) {
            Err(nix::errno::Errno::ENOENT) => Ok(true),
            Err(errno) => Err(errno.into()),
            Ok(_) => Ok(false),
        }
    }
}

fn is_cross_device(error: &anyhow::Error) -> bool {
    error.downcast_ref::<nix::errno::Errno>() == Some(&nix::errno::Errno::EXDEV)
}

fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
