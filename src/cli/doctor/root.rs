//! The shared root, the file system below it, and what lies in it.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{Uid, User, geteuid};

use super::{Finding, Fix, Gravity, Patient};
use crate::cache_dir::{ACLS, DirName, STAGING, TAG_NAME};
use crate::cli::check::Verdict;
use crate::cli::init;
use crate::config::{Config, RootPath};
use crate::ffi::{self, ChildError};
use crate::mounts::Mounts;
use crate::quoting::ShellWord;
use crate::session::{self, Stop};
use crate::shared_root::{Patience, RootCause, RootError, SharedRoot};

/// Below this, in bytes, a build of any size fails.
const LITTLE_SPACE: u64 = 1 << 30;

/// Below this, a build of any size fails for want of inodes.
const FEW_INODES: u64 = 10_000;

/// How many names of the root are looked at.
const MAX_NAMES: usize = 10_000;

/// How many files of one directory are looked at: a second or two.
const SAMPLE: usize = 20_000;

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

pub(super) fn examine(patient: &Patient, findings: &mut Vec<Finding>) -> anyhow::Result<()> {
    let config = &patient.settings.loaded.config;
    let Some(path) = &config.root else { return Ok(()) };
    let mounts = Mounts::on_the_way_to(path.as_str());
    let is_local = mounts.are_local_up_to(path.as_str());
    if !is_local {
        if !config.name.names_host() {
            findings.push(Finding::new(
                "root-not-local",
                Gravity::Some,
                format!(
                    "{path} lies on a network, FUSE or autofs mount: cargo takes no lock on NFS, so that two \
                         hosts would build in one directory at once"
                ),
                format!("give each host directories of its own, in {}: name = %u@%h", patient.settings.conf),
            ));
        }
        if let Err(error) = knock(path, config) {
            let stop = Stop::Remote { path: path.to_string(), timeout: config.timeout, error };
            findings.push(Finding::said("root-dead", Gravity::Nobody, &stop.to_string()));
            return Ok(());
        }
    }
    let root = match SharedRoot::open(path, Patience::Wait(&mounts)) {
        Ok(root) => root,
        Err(error) => {
            findings.push(refused(path, error));
            return Ok(());
        }
    };
    examine_root(path, &root, findings)?;
    examine_file_system(path, &root, findings);
    let Ok(root) = openat(&root, ".", DIRECTORY, Mode::empty()) else {
        // An ordinary user may be unable to list it.
        return Ok(());
    };
    examine_staging(path, &root, findings);
    for member in &patient.members {
        examine_directory(&root, member, findings);
    }
    examine_names(path, &root, config, patient, findings);
    Ok(())
}

/// Opens a root in a child: its server may be dead, and whoever touches it then waits without end.
fn knock(path: &RootPath, config: &Config) -> Result<(), ChildError> {
    let mounts = Mounts::on_the_way_to(path.as_str());
    ffi::in_child(config.timeout, || SharedRoot::open(path, Patience::Wait(&mounts)).map(drop)).map(drop)
}

/// Whether the root's file system does not answer.
pub(super) fn is_dead(config: &Config) -> bool {
    config.root.as_ref().is_some_and(|path| knock(path, config).is_err())
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
            let path = path.to_string();
            finding.run(again).fix(Fix::Root(init::Change::Owner { path, uid, gid: 0 }))
        }
        RootCause::Writable(mode) if itself => {
            let path = path.to_string();
            finding.run(again).fix(Fix::Root(init::Change::Mode { path, mode }))
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
fn examine_root(path: &RootPath, root: &SharedRoot, findings: &mut Vec<Finding>) -> anyhow::Result<()> {
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
            .fix(Fix::Root(init::Change::Mode { path: path.to_string(), mode })),
        );
    }
    for depth in 1..=path.components().count() {
        let ancestor = path.first_components(depth);
        if fs::symlink_metadata(ancestor).is_ok_and(|found| found.mode() & 0o001 == 0) {
            findings.push(
                Finding::new(
                    "root-closed",
                    Gravity::Some,
                    format!(
                        "{ancestor} cannot be entered by everybody: users may not reach their directories"
                    ),
                    "let everybody pass",
                )
                .run(format!("chmod a+x {}", ShellWord(ancestor))),
            );
        }
    }
    Ok(())
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
    match init::look_at_staging(root) {
        Ok(init::Staging::Unsafe) => findings.push(
            Finding::new(
                "staging-unsafe",
                Gravity::Nobody,
                format!("{shown} is not a directory of root's that nobody else can enter: no directory can be made"),
                "remove it",
            )
            .run(format!("rm -r --one-file-system {}", ShellWord(&shown))),
        ),
        Ok(init::Staging::InOrder) => {
            let Ok(staging) = openat(root, STAGING, DIRECTORY, Mode::empty()) else { return };
            // Whoever holds the lock is making a directory there just now.
            if ffi::try_lock(&staging, libc::LOCK_EX).is_err() {
                return;
            }
            match names(&staging).len() {
                0 => {}
                count => findings.push(
                    Finding::new(
                        "staging-litter",
                        Gravity::Some,
                        format!("logins that died left {count} in {shown}"),
                        "the next new directory sweeps it, and so does --fix",
                    )
                    .run("cargo-targetctl doctor --fix --yes")
                    .fix(Fix::Sweep),
                ),
            }
        }
        Ok(init::Staging::Missing) | Err(_) => {}
    }
}

/// A member's directory, as far as a login accepts it.
fn examine_directory(root: &OwnedFd, member: &Verdict, findings: &mut Vec<Finding>) {
    let (Ok(ready), Some(uid)) = (&member.outcome, member.uid) else { return };
    let path = Path::new(&ready.directory);
    let Some(name) = path.file_name().filter(|_| !ready.provisioned) else { return };
    let Ok(directory) = openat(root, name, DIRECTORY, Mode::empty()) else { return };
    let shown = ShellWord(&ready.directory);
    if fstatat(&directory, TAG_NAME, AtFlags::AT_SYMLINK_NOFOLLOW) == Err(Errno::ENOENT) {
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
            .fix(Fix::Tag(member.user.clone())),
        );
    }
    if ACLS.iter().any(|acl| ffi::has_attribute(&directory, acl).unwrap_or(false)) {
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
    let foreign = foreign_files(directory, uid);
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
                "remove them; cargo builds them anew",
            )
            .run(format!("find {shown} -xdev ! -uid {uid} -delete")),
        );
    }
}

/// Files that are not the user's, of a bounded sample.
#[derive(Default)]
struct Foreign {
    seen: usize,
    count: usize,
    first: Option<String>,
}

/// Walks by descriptor, following nothing: the tree is the user's, who may change it under way.
fn foreign_files(directory: OwnedFd, uid: u32) -> Foreign {
    let mut found = Foreign::default();
    let mut open = vec![(directory, String::new())];
    while let Some((directory, path)) = open.pop() {
        for name in names(&directory) {
            if found.seen >= SAMPLE {
                return found;
            }
            found.seen += 1;
            let Ok(stat) = fstatat(&directory, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            let at = format!("{path}{name}");
            if stat.st_uid != uid {
                found.count += 1;
                found.first.get_or_insert_with(|| at.clone());
            }
            // Few descriptors at a time: what does not fit is not in the sample.
            if stat.st_mode & libc::S_IFMT == libc::S_IFDIR && open.len() < 256 {
                if let Ok(directory) = openat(&directory, name.as_str(), DIRECTORY, Mode::empty()) {
                    open.push((directory, format!("{at}/")));
                }
            }
        }
    }
    found
}

/// The names in a directory, sorted, `.` and `..` aside, and those that are not UTF-8.
fn names(directory: &impl AsFd) -> Vec<String> {
    let list = |directory: BorrowedFd<'_>| Dir::openat(directory, ".", DIRECTORY, Mode::empty());
    let Ok(mut opened) = list(directory.as_fd()) else { return Vec::new() };
    let entries = opened.iter().flatten().take(SAMPLE);
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned)).collect();
    names.retain(|name| name != "." && name != "..");
    names.sort();
    names
}

/// Names in the root that are no user's.
fn examine_names(
    path: &RootPath,
    root: &OwnedFd,
    config: &Config,
    patient: &Patient,
    findings: &mut Vec<Finding>,
) {
    let host =
        if config.name.names_host() { session::short_host_name().unwrap_or_default() } else { String::new() };
    let named = |user: &str, uid: u32| DirName::new(user, config.name.expand(user, uid, &host)).ok();
    let known: Vec<DirName> =
        patient.everybody.iter().filter_map(|person| named(&person.name, person.uid)).collect();
    for name in names(root).into_iter().filter(|name| !name.starts_with('.')).take(MAX_NAMES) {
        if known.iter().any(|known| known.as_str() == name) {
            continue;
        }
        let Ok(found) = fstatat(root, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
        let owner = User::from_uid(Uid::from_raw(found.st_uid)).ok().flatten();
        // Directory services that list nobody know the owner all the same.
        let is_owners = owner.as_ref().and_then(|owner| named(&owner.name, owner.uid.as_raw()));
        if is_owners.is_some_and(|made| made.as_str() == name) {
            continue;
        }
        let full = format!("{path}/{name}");
        let whose = match &owner {
            Some(owner) => format!("it belongs to {}", owner.name),
            None => format!("it belongs to uid {}, which is nobody's", found.st_uid),
        };
        findings.push(
            Finding::new(
                "orphan",
                Gravity::Some,
                format!("{full} is no user's directory; {whose}"),
                "see whether anybody misses it, then remove it",
            )
            .run(format!("rm -r --one-file-system {}", ShellWord(&full))),
        );
    }
    if !geteuid().is_root() {
        findings.retain(|finding| finding.fix.is_none() || finding.id != "no-tag");
    }
}
