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

use std::fmt::{self, Display, Formatter};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{anyhow, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
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
use crate::mounts::Mounts;
use crate::policy::Skip;
use crate::session::Stop;
use crate::shared_root::{Patience, RootCause, SharedRoot};
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

fn or_busy(mut who: Vec<String>) -> anyhow::Result<()> {
    if let Some(more) = who.len().checked_sub(busy::NAMED).filter(|more| *more > 0) {
        who.truncate(busy::NAMED);
        who.push(format!("and {more} more"));
    }
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
    min_uid: u32,
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
    allow_descriptors()?;
    // The kernel tells with it that somebody waits for a file that is looked at; unasked for, it ends a process.
    SigSet::from(Signal::SIGIO).thread_block()?;
    if !geteuid().is_root() {
        bail!("migrate takes over what others wrote: run it as root");
    }
    let settings = Settings::of(globals, settings::DEFAULT_SERVICE)?;
    settings.announce(output)?;
    let (target, root_changes) = find_target(&arguments.to_user, &settings)?;
    report.to = Some(target.path.clone());

    let mut source = Source::find(&arguments.from, &target)?;
    report.from = Some(source.path.clone());

    let safe = root_changes.changes.is_empty();
    let pending = if safe { staging::find_pending(&target, &source.path, !arguments.dry_run)? } else { None };
    // A run that was killed in its very last steps has left the link, too.
    if source.is_link_to_target && pending.is_none() {
        report.already = true;
        output.line(format!("{} was migrated already: it leads to {}", source.path, target.path))?;
        return Ok(());
    }
    let people = accounts::everybody()?;
    let state = if let Some(pending) = &pending {
        report.resumed = true;
        output.line(format!(
            "A migration of {} to {} was begun and not finished (it got as far as: {}); this goes on with it.",
            pending.state.from,
            target.user,
            pending.state.phase.word()
        ))?;
        go_on(&mut source, pending, arguments)?;
        pending.state.clone()
    } else {
        source.judge(&target, &people, arguments.force)?;
        new_state(arguments, &source, &target)?
    };
    // Somebody may use what is to be set aside.
    let locks = Locks::default();
    let in_use = publish::look(&target)? == Destination::InUse && state.phase < Phase::Publish;
    if in_use && arguments.set_aside {
        publish::lock(&target, &locks)?;
        or_busy(locks.busy())?;
        or_busy(busy::processes(Path::new(&target.path), &|_| true).busy)?;
    } else if in_use && pending.is_none() {
        return Err(refused(format!(
            "{} exists and is not empty; add --set-aside to keep it beside as .set-aside-{}-<date>",
            target.path,
            target.name.as_str()
        )));
    }

    if state.phase == Phase::Gather && source.there.is_some() {
        let own_only = (state.way == Way::RenameOwn).then_some(target.owner.uid);
        let rewrite = Rewrite::new(source.old_paths(), &target.path);
        let forbidden = survey::forbidden(&target, &people)?;
        let facts = survey::look(&source, &target, &rewrite, &locks, own_only, &forbidden)?;
        or_busy(locks.busy())?;
        let processes = busy::processes(Path::new(&source.path), &|below| counts(&source, below));
        or_busy(processes.busy)?;
        let way = predicted_way(&source, &target, state.way)?;
        if state.way == Way::RenameOwn && way == Way::Copy {
            return Err(refused(format!(
                "--only-owned takes files by renaming them, and {} is on another file system than {}",
                source.path, target.root
            )));
        }
        let free = free_space(&target)?;
        if way == Way::Copy && free < facts.bytes && pending.is_none() {
            return Err(refused(format!(
                "a copy needs {}, and {} has {} left",
                report::size(facts.bytes),
                target.root,
                report::size(free)
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
    is_still_the_root(&target)?;
    let staging = match pending {
        Some(pending) => pending.staging,
        None => Staging::make(&target, &state)?,
    };
    let mut run = Run::new(&target, &source, arguments, staging, state, report)?;
    run.locks = locks;
    run.all(output)
}

/// Each of cargo's locks takes a descriptor, and each directory on the way to where a walk is; there may be more
/// of them than the soft limit, which is for programs that use select(2).
fn allow_descriptors() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// Goes on with a run that was killed: of what stands at the old path now, only what it was begun for counts.
fn go_on(source: &mut Source, pending: &staging::Pending, arguments: &Arguments) -> anyhow::Result<()> {
    let state = &pending.state;
    let is_it = |found: &source::Found| found.seen.identity() == state.source;
    if !source.there.as_ref().is_some_and(is_it) {
        source.there = None;
    }
    if state.way == Way::RenameEach {
        source.names = Some(state.names.iter().cloned().collect());
    }
    if state.phase > Phase::Gather {
        return Ok(());
    }
    let (path, staging) = (&source.path, &pending.staging);
    // One rename brings all of it over, or nothing.
    let is_whole = state.way == Way::Rename && staging.has_tree();
    if source.there.is_none() && !is_whole {
        return Err(refused(format!(
            "{path} is not the directory any more for which this was begun, and not all of that was brought over; if \
             it has another name now, give it its old one; otherwise look into {}, remove it, and begin anew",
            staging.path
        )));
    }
    if (state.way == Way::RenameOwn) != arguments.only_owned {
        let with = if state.way == Way::RenameOwn { "with" } else { "without" };
        return Err(refused(format!(
            "the run that is pending was begun {with} --only-owned; go on {with} it"
        )));
    }
    Ok(())
}

/// Whether the directory that was judged is the one that is held.
fn is_still_the_root(target: &Target) -> anyhow::Result<()> {
    let mounts = Mounts::on_the_way_to(target.root.as_str());
    let judged = SharedRoot::open(&target.root, Patience::Wait(&mounts));
    let judged = judged.map_err(|error| anyhow!("{}", Stop::Root(target.root.clone(), error)))?;
    if crate::tree::Seen::of(&judged)?.identity() != crate::tree::Seen::of(&target.directory)?.identity() {
        bail!("{} was replaced a moment ago; see who does that", target.root);
    }
    Ok(())
}

/// Whether a path below the source is part of what moves.
fn counts(source: &Source, below: &Path) -> bool {
    let Some(names) = &source.names else { return true };
    let first = below.components().next().and_then(|first| first.as_os_str().to_str());
    first.is_some_and(|first| names.contains_key(first))
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
        min_uid: config.min_uid,
        mode: config.mode.bits(),
    };
    Ok((target, root_changes))
}

fn new_state(arguments: &Arguments, source: &Source, target: &Target) -> anyhow::Result<State> {
    let Some(found) = &source.there else { bail!("{} is gone", source.path) };
    let way = if arguments.only_owned {
        Way::RenameOwn
    } else if source.is_root {
        Way::RenameEach
    } else {
        Way::Rename
    };
    let state = State {
        from: source.path.clone(),
        given: source.given.clone(),
        user: target.user.clone(),
        uid: target.owner.uid,
        way,
        phase: Phase::Gather,
        source: found.seen.identity(),
        names: source.names.clone().unwrap_or_default().into_iter().collect(),
        tree: 0,
        leave_link: source.parent_is_roots && !source.is_root && !arguments.only_owned,
    };
    if !state.fits() {
        return Err(refused(format!(
            "{} holds so many names that they could not be remembered over a crash; remove what nobody built",
            source.path
        )));
    }
    Ok(state)
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
        let renamed = match (self.state.way, is_here) {
            // Killed right after the rename, before anybody looked whether it was the right thing.
            (Way::Rename, Some(tree)) if tree.inode == self.state.source.inode => Renamed::Done,
            (Way::Rename, Some(_)) => {
                gather::put_back(self.source, &self.staging)?;
                bail!("{} had been replaced when it was moved, and is back as it was", self.source.path);
            }
            (Way::Rename, None) => gather::whole(self.source, &self.staging)?,
            (Way::RenameEach, _) => {
                for path in gather::each(self.target, &self.staging, &self.state.names)? {
                    self.report.warn(format!("{path} was replaced meanwhile, and stays"));
                }
                Renamed::Done
            }
            (Way::RenameOwn, _) => {
                let units = self.report.facts.take().map(|facts| facts.others_units).unwrap_or_default();
                match gather::own(self.source, self.target, &self.staging, &units) {
                    Ok(left) => self.report.left = Some(left),
                    Err(error) if is_cross_device(&error) => {
                        return Err(refused(
                            "--only-owned takes files by renaming them, and these are on another file system"
                                .into(),
                        ));
                    }
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
            // From here on the copy is taken for complete, and what it was made from is removed in the end.
            syncfs(&self.staging.fd)?;
        }
        self.enter(Phase::Settle)
    }

    fn copy(&mut self) -> anyhow::Result<()> {
        let Some(found) = &self.source.there else { bail!("{} is gone", self.source.path) };
        self.staging.remove_copy()?;
        let needed = self.report.facts.as_ref().map_or(0, |facts| facts.bytes);
        let free = free_space(self.target)?;
        if free < needed {
            bail!(
                "a copy needs {}, and {} has {} left",
                report::size(needed),
                self.target.root,
                report::size(free)
            );
        }
        let progress = Progress::of_bytes(needed);
        let (files, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        let tick = |count| {
            files.fetch_add(count, Ordering::Relaxed);
            progress.copied(&files, bytes.load(Ordering::Relaxed));
        };
        let (done, rewrite) = (Done::default(), self.rewrite());
        let copy = copy::Copy {
            source: self.source,
            found,
            target: self.target,
            staging: &self.staging,
            locks: &self.locks,
            rewrite: &rewrite,
            done: &done,
            tick: &tick,
            bytes: &bytes,
        };
        copy.run()?;
        self.report.copied_bytes = Some(bytes.into_inner());
        self.report.done(&done);
        Ok(())
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        // A copy was made as it is to be.
        if self.state.way != Way::Copy {
            let (done, rewrite) = (Done::default(), self.rewrite());
            let progress = Progress::of_entries(self.report.entries);
            let tick = |count| progress.done(count);
            Settle::run(self.target, &self.staging, &self.locks, &rewrite, &done, &tick)?;
            drop(progress);
            self.report.done(&done);
        }
        self.state.tree = crate::tree::Seen::at(&self.staging.fd, TREE)?.inode;
        self.enter(Phase::Publish)
    }

    /// What build scripts' outputs may name, and what becomes of it.
    fn rewrite(&self) -> Rewrite {
        let mut old = vec![self.state.given.clone(), self.state.from.clone()];
        old.sort_by_key(|path| std::cmp::Reverse(path.len()));
        old.dedup();
        Rewrite::new(old, &self.target.path)
    }

    fn publish(&mut self) -> anyhow::Result<()> {
        let aside = format!(".set-aside-{}-{}", self.target.name.as_str(), report::date_for_names(now()));
        let aside = self.arguments.set_aside.then_some(aside.as_str());
        self.report.set_aside = publish::run(self.target, &self.staging, self.state.tree, aside)?;
        self.enter(Phase::Compare)
    }

    /// From the publication on: the source of a copy, the link, and the staging directory itself.
    fn finish(mut self, output: &mut Output) -> anyhow::Result<()> {
        if let (Way::Copy, Some(found)) = (self.state.way, &self.source.there) {
            if self.state.phase == Phase::Compare {
                self.report.kept = copy::changed_since(self.source, found, &self.staging)?;
                if self.report.kept.count == 0 {
                    self.enter(Phase::Remove)?;
                }
            }
            if self.state.phase == Phase::Remove {
                self.report.kept = copy::remove(self.source, found, &self.staging)?;
            }
        }
        let is_free = self.source.is_free()?;
        if self.state.leave_link && is_free {
            publish::leave_link(self.source, self.target)?;
            self.report.link = true;
        }
        let is_emptied = self.source.there.as_ref().is_some_and(|found| found.is_mount_point);
        let is_new = !is_free && !self.source.is_link_to_target && self.report.kept.count == 0 && !is_emptied;
        if matches!(self.state.way, Way::Rename | Way::Copy) && is_new {
            let path = &self.source.path;
            self.report.warn(format!(
                "{path} is there again, another one than was moved, and stays as it is: somebody built there meanwhile"
            ));
        }
        self.staging.remove(self.target)?;
        self.report.finished(self.target, self.begin.elapsed(), output)
    }
}

fn is_cross_device(error: &anyhow::Error) -> bool {
    error.downcast_ref::<nix::errno::Errno>() == Some(&nix::errno::Errno::EXDEV)
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
