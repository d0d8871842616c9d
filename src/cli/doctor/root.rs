//! The shared root, the file system below it, and what lies in it.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{Uid, User, geteuid};

use super::users_files::Directory;
use super::{Course, Finding, Fix, Gravity};
use crate::account::Account;
use crate::cache_dir::{DirName, STAGING, TAG_NAME};
use crate::cli::accounts::Person;
use crate::cli::check::Verdict;
use crate::cli::init;
use crate::cli::places::{self, is_local};
use crate::cli::settings::Settings;
use crate::config::{Config, GroupRef, RootPath};
use crate::ffi;
use crate::quoting::ShellWord;
use crate::session::{self, Stop};
use crate::shared_root::{RootCause, RootError, SharedRoot, kind};

/// Below this, in bytes, a build of any size fails.
const LITTLE_SPACE: u64 = 1 << 30;

/// Below this, a build of any size fails for want of inodes.
const FEW_INODES: u64 = 10_000;

/// How many names of the root are looked at.
const MAX_NAMES: usize = 10_000;

/// How many files of one directory are looked at: a second or two.
const SAMPLE: usize = 20_000;

/// How deep they are looked for: each level keeps a descriptor open. And no path is longer, in bytes, or cargo
/// could not have made it.
const MAX_DEPTH: usize = 64;
const PATH_MAX: usize = 4096;

/// How often, and how long apart, the lock of `.staging` is tried: a login holds it for milliseconds.
const LOCK_TRIES: u32 = 25;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

pub(super) fn examine(
    course: &Course,
    everybody: &[Person],
    findings: &mut Vec<Finding>,
) -> anyhow::Result<()> {
    let config = &course.settings.loaded.config;
    let Some(path) = &config.root else { return Ok(()) };
    if !is_local(Path::new(path.as_str())) && !config.name.names_host() {
        findings.push(Finding::new(
            "root-not-local",
            Gravity::Some,
            format!(
                "{path} lies on a network, FUSE or autofs mount: cargo takes no lock on NFS, so that two hosts would \
                 build in one directory at once"
            ),
            format!("give each host directories of its own, in {}: name = %u@%h", course.settings.conf),
        ));
    }
    let root = match places::open_root(path, config.timeout) {
        Ok(Ok(root)) => root,
        Ok(Err(error)) => {
            findings.push(refused(path, error));
            return Ok(());
        }
        Err(error) => {
            let stop = Stop::Remote { path: path.to_string(), timeout: config.timeout, error };
            findings.push(Finding::said("root-dead", Gravity::Nobody, &stop.to_string()));
            return Ok(());
        }
    };
    examine_root(path, &root, &course.members, findings)?;
    examine_file_system(path, &root, findings);
    let Ok(root) = openat(&root, ".", DIRECTORY, Mode::empty()) else {
        // An ordinary user may be unable to list it.
        return Ok(());
    };
    examine_staging(path, &root, findings);
    let root = Directory::of(root, path.as_str().into());
    for member in &course.members {
        examine_directory(&root, member, &course.settings, findings);
    }
    examine_names(&root, config, everybody, findings);
    Ok(())
}

/// Whether the root's file system does not answer.
pub(super) fn is_dead(config: &Config) -> bool {
    config.root.as_ref().is_some_and(|path| places::open_root(path, config.timeout).is_err())
}

/// What a login says of the root.
fn refused(path: &RootPath, error: RootError) -> Finding {
    let itself = error.depth == path.components().count();
    let again = format!("cargo-targetctl init --root {} --yes", ShellWord(path.as_str()));
    if error.cause == RootCause::Absent {
        return Finding::new("root-absent", Gravity::Nobody, format!("{path} does not exist"), "make it")
            .run(again);
    }
    let finding = Finding::said("root-unsafe", Gravity::Nobody, &Stop::Root(path.clone(), error).to_string());
    match error.cause {
        RootCause::NotRootOwned(uid) if itself => {
            let change = init::Change::Owner { path: path.to_string(), uid, gid: 0 };
            finding.run(again).fix(Fix::Root(path.clone(), change))
        }
        RootCause::Writable(mode) if itself => {
            let change = init::Change::Mode { path: path.to_string(), mode };
            finding.run(again).fix(Fix::Root(path.clone(), change))
        }
        RootCause::NotRootOwned(_) => {
            finding.run(format!("chown -h root {}", ShellWord(path.first_components(error.depth))))
        }
        RootCause::Writable(_) => {
            finding.run(format!("chmod go-w {}", ShellWord(path.first_components(error.depth))))
        }
        _ => finding,
    }
}

/// A root that logins accept can still be better.
fn examine_root(
    path: &RootPath,
    root: &SharedRoot,
    members: &[Verdict],
    findings: &mut Vec<Finding>,
) -> anyhow::Result<()> {
    let shown = ShellWord(path.as_str());
    if !root.only_root_writes() {
        let mode = init::mode_of(root.as_fd())?;
        findings.push(
            Finding::new(
                "root-sticky",
                Gravity::Advice,
                format!("{path} (mode {mode:04o}) is sticky: anybody can take the name of a future user's directory"),
                "let only root write it",
            )
            .run(format!("chmod 0755 {shown}"))
            .fix(Fix::Root(path.clone(), init::Change::Mode { path: path.to_string(), mode })),
        );
    }
    for depth in 1..=path.components().count() {
        let ancestor = path.first_components(depth);
        let Ok(found) = fs::symlink_metadata(ancestor) else { continue };
        let kept_out = who_cannot_enter(ancestor, &found, members);
        if let Some(first) = kept_out.first() {
            let more = match kept_out.len() {
                1 => String::new(),
                count => format!(", and {} more", count - 1),
            };
            findings.push(
                Finding::new(
                    "root-closed",
                    Gravity::Some,
                    format!(
                        "{ancestor} (mode {:04o}) cannot be entered by {first}{more}: they do not reach their directories",
                        found.mode() & 0o7777
                    ),
                    "let everybody pass",
                )
                .run(format!("chmod a+x {}", ShellWord(ancestor))),
            );
        }
    }
    Ok(())
}

/// The members who get a directory and cannot pass this one on the way to it.
fn who_cannot_enter<'a>(path: &str, found: &fs::Metadata, members: &'a [Verdict]) -> Vec<&'a str> {
    let (group_enters, others_enter) = (found.mode() & 0o010 != 0, found.mode() & 0o001 != 0);
    // An ACL can let in whom the mode keeps out.
    let has_acl = || Directory::open(path.as_ref()).is_some_and(|directory| directory.has_acl());
    if (group_enters && others_enter) || has_acl() {
        return Vec::new();
    }
    let group = [GroupRef::Gid(found.gid())];
    let enters = |user: &str| match Account::lookup(user) {
        Ok(Some(account)) if account.is_in_any(&group).unwrap_or(false) => group_enters,
        _ => others_enter,
    };
    let provided = members.iter().filter(|member| member.outcome.is_ok());
    provided.map(|member| member.user.as_str()).filter(|user| !enters(user)).collect()
}

fn examine_file_system(path: &RootPath, root: &SharedRoot, findings: &mut Vec<Finding>) {
    let Ok(found) = fstatvfs(root) else { return };
    let remount = |option: &str| {
        format!("mount -o remount,{option} \"$(findmnt -no TARGET -T {})\"", ShellWord(path.as_str()))
    };
    if found.flags().contains(FsFlags::ST_RDONLY) {
        findings.push(
            Finding::new(
                "mount-read-only",
                Gravity::Nobody,
                format!("the file system of {path} is mounted read-only"),
                "mount it rw, in /etc/fstab too",
            )
            .run(remount("rw")),
        );
    }
    if found.flags().contains(FsFlags::ST_NOEXEC) {
        findings.push(
            Finding::new(
                "mount-noexec",
                Gravity::Nobody,
                format!("the file system of {path} is mounted noexec: build scripts and tests cannot run"),
                "mount it exec, in /etc/fstab too",
            )
            .run(remount("exec")),
        );
    }
    let space = found.blocks_available() * found.fragment_size();
    if space < LITTLE_SPACE {
        findings.push(Finding::new(
            "little-space",
            Gravity::Some,
            format!("the file system of {path} has {} MiB left", space >> 20),
            format!("see what takes it: du -xsh {}/*", ShellWord(path.as_str())),
        ));
    }
    if found.files() > 0 && found.files_available() < FEW_INODES {
        findings.push(Finding::new(
            "few-inodes",
            Gravity::Some,
            format!("the file system of {path} has {} inodes left", found.files_available()),
            format!("see what takes them: du -x --inodes -s {}/*", ShellWord(path.as_str())),
        ));
    }
}

/// What dead logins left, or what stands in the staging directory's place.
fn examine_staging(path: &RootPath, root: &OwnedFd, findings: &mut Vec<Finding>) {
    let shown = format!("{path}/{STAGING}");
    let word = ShellWord(&shown);
    let unsafe_staging = |text: &str, remedy: &str, command: String| {
        let text = format!("{shown} {text}: no directory can be made");
        Finding::new("staging-unsafe", Gravity::Nobody, text, remedy).run(command)
    };
    match init::look_at_staging(root) {
        Ok(init::Staging::Unsafe) => findings.push(unsafe_staging(
            "is not a directory of root's that nobody else can enter",
            "move it away",
            init::move_away(path, STAGING),
        )),
        Ok(init::Staging::MountPoint) => {
            findings.push(unsafe_staging("is a mount point", "unmount it", format!("umount {word}")));
        }
        Ok(init::Staging::InOrder) => {
            let Ok(staging) = openat(root, STAGING, DIRECTORY, Mode::empty()) else { return };
            let is_locked = is_locked(&staging);
            let count = Directory::of(staging, PathBuf::from(&shown)).names(MAX_NAMES).len();
            match (count, is_locked) {
                (0, _) => {}
                (count, None) => findings.push(
                    Finding::new(
                        "staging-litter",
                        Gravity::Some,
                        format!("logins that died left {count} in {shown}"),
                        "the next new directory sweeps it, and so does --fix",
                    )
                    .run("cargo-targetctl doctor --fix --yes")
                    .fix(Fix::Sweep(path.clone())),
                ),
                // Whoever holds the lock is making a directory there just now, or was stopped while doing so.
                (count, Some(holders)) => findings.push(Finding::new(
                    "staging-busy",
                    Gravity::Advice,
                    format!("there are {count} in {shown}, which {holders} keeps from being swept"),
                    "it is a login at work; if it stays, see why that process does not go on",
                )),
            }
        }
        Ok(init::Staging::Missing) | Err(_) => {}
    }
}

/// Who holds the lock of `.staging`, if that is not soon over.
fn is_locked(staging: &OwnedFd) -> Option<String> {
    for _ in 0..LOCK_TRIES {
        match ffi::try_lock(staging, libc::LOCK_EX) {
            Err(Errno::EAGAIN) => thread::sleep(LOCK_PAUSE),
            // A file system without locks has no holder of one.
            Ok(()) | Err(_) => return None,
        }
    }
    let inode = fstat(staging).map_or(0, |found| found.st_ino);
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let holders: Vec<String> = locks.lines().filter_map(|line| holder(line, inode)).collect();
    Some(if holders.is_empty() { "somebody".into() } else { holders.join(" and ") })
}

/// The process that a line of /proc/locks is about, if that is a flock(2) of this inode:
/// `1: FLOCK  ADVISORY  READ  4711 08:01:123 0 EOF`. The device is left aside: btrfs has two numbers for one.
fn holder(line: &str, inode: u64) -> Option<String> {
    let mut words = line.split_ascii_whitespace().skip(1);
    if words.next()? != "FLOCK" {
        return None;
    }
    let pid = words.nth(2)?;
    let locked = words.next()?.rsplit(':').next()?;
    if locked.parse() != Ok(inode) {
        return None;
    }
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("{} ({pid})", name.trim()))
}

/// A member's directory, as far as a login accepts it.
fn examine_directory(root: &Directory, member: &Verdict, settings: &Settings, findings: &mut Vec<Finding>) {
    let (Ok(ready), Some(uid)) = (&member.outcome, member.uid) else { return };
    let path = Path::new(&ready.directory);
    let Some(name) = path.file_name().filter(|_| !ready.provisioned) else { return };
    let directory = match root.directory(name) {
        Some(directory) => directory,
        // A volume per user, which root has mounted.
        None if is_local(path) => match Directory::open(path) {
            Some(directory) => directory,
            None => return,
        },
        None => return,
    };
    let shown = ShellWord(&ready.directory);
    // Root alone can put a tag back.
    if directory.look(TAG_NAME.as_ref()).err() == Some(Errno::ENOENT) && geteuid().is_root() {
        let (user, service) = (member.user.clone(), settings.service.clone());
        findings.push(
            Finding::new(
                "no-tag",
                Gravity::Some,
                format!(
                    "{} has no {TAG_NAME}: backups take it along, and cargo 1.97 does not clean it",
                    ready.directory
                ),
                "the next login puts it back, and so does --fix",
            )
            .run("cargo-targetctl doctor --fix --yes")
            .fix(Fix::Tag { user, service, arguments: settings.arguments.clone() }),
        );
    }
    if directory.has_acl() {
        findings.push(
            Finding::new(
                "directory-acl",
                Gravity::Some,
                format!("{} has ACLs, which let others in or pass on to what is built", ready.directory),
                "drop them",
            )
            .run(format!("setfacl -b {shown}")),
        );
    }
    let mut foreign = Foreign { uid, seen: 0, count: 0, first: None };
    foreign.look_through(&directory, "", 0);
    if let Some(first) = foreign.first {
        let more = match foreign.count {
            1 => String::new(),
            count => format!(", and {} more", count - 1),
        };
        findings.push(
            Finding::new(
                "foreign-files",
                Gravity::Some,
                format!(
                    "in {} are files of others, as `sudo cargo` leaves them: {first}{more} (of {} looked at)",
                    ready.directory, foreign.seen
                ),
                "see what they are, then remove them; cargo builds them anew",
            )
            .run(format!("find {shown} -xdev ! -uid {uid}")),
        );
    }
}

/// Files that are not the user's, of a bounded sample.
struct Foreign {
    uid: u32,
    seen: usize,
    count: usize,
    first: Option<String>,
}

impl Foreign {
    /// The tree is the user's, who may change it under way, and make it as deep as they like.
    fn look_through(&mut self, directory: &Directory, path: &str, depth: usize) {
        for name in directory.names(SAMPLE) {
            if self.seen >= SAMPLE {
                return;
            }
            self.seen += 1;
            let Ok((opened, found)) = directory.look(&name) else { continue };
            let at = format!("{path}{}", name.to_string_lossy());
            if found.st_uid != self.uid {
                self.count += 1;
                self.first.get_or_insert_with(|| at.clone());
            }
            if kind(&found) == SFlag::S_IFDIR && depth < MAX_DEPTH && at.len() < PATH_MAX {
                let below = Directory::of(opened, directory.path().join(&name));
                self.look_through(&below, &format!("{at}/"), depth + 1);
            }
        }
    }
}

/// Names in the root that are no user's.
fn examine_names(root: &Directory, config: &Config, everybody: &[Person], findings: &mut Vec<Finding>) {
    let host =
        if config.name.names_host() { session::short_host_name().unwrap_or_default() } else { String::new() };
    let named = |user: &str, uid: u32| DirName::new(user, config.name.expand(user, uid, &host)).ok();
    let known: BTreeSet<String> = everybody
        .iter()
        .filter_map(|person| named(&person.name, person.uid))
        .map(|name| name.as_str().to_owned())
        .collect();
    for name in root.names(MAX_NAMES) {
        let shown = name.to_string_lossy();
        // Hidden names are root's: `.staging`, and what was moved away.
        if shown.starts_with('.') || known.contains(shown.as_ref()) {
            continue;
        }
        let whose = match root.look(&name).map(|(_, found)| found) {
            Err(Errno::EXDEV) => "it is a mount point".into(),
            Err(_) => continue,
            // The root is a file system of its own.
            Ok(found) if shown == "lost+found" && found.st_uid == 0 && kind(&found) == SFlag::S_IFDIR => {
                continue;
            }
            Ok(found) => match User::from_uid(Uid::from_raw(found.st_uid)).ok().flatten() {
                // Directory services that list nobody know the owner all the same.
                Some(owner)
                    if named(&owner.name, found.st_uid).is_some_and(|made| made.as_str() == shown) =>
                {
                    continue;
                }
                Some(owner) => format!("it belongs to {}", owner.name),
                None => format!("it belongs to uid {}, which is nobody's", found.st_uid),
            },
        };
        findings.push(Finding::new(
            "orphan",
            Gravity::Some,
            format!("{} is no user's directory; {whose}", root.path().join(&name).display()),
            "see whether anybody misses it, then move it out of there, or remove it",
        ));
    }
}
