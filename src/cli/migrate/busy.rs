//! Who is at work in a tree: who holds cargo's locks, and who has something in it open.
//!
//! cargo locks what it builds in; `cargo clean` and the programs that were built lock nothing, and are found
//! in /proc. That is a courtesy to whoever works there, and not what safety rests on: /proc does not show what
//! is in other pid namespaces, or in a socket's queue (see [`settle`](super::settle)).

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Mutex;

use anyhow::anyhow;
use nix::errno::Errno;
use nix::unistd::User;

use super::guard;
use crate::ffi;
use crate::tree::{Directory, Kind, Opened, Seen, Visit, open_file, walk};

/// What cargo locks, now or in a version to come.
const LOCKS: [&CStr; 3] = [c".cargo-lock", c".cargo-build-lock", c".cargo-artifact-lock"];

/// How many of those who are at work are named. There may be thousands, and finding each takes a while.
pub(super) const NAMED: usize = 10;

/// cargo's locks of a tree, held for as long as this lives.
#[derive(Default)]
pub(super) struct Locks(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    held: HashMap<(u64, (u32, u32)), OwnedFd>,
    busy: Vec<String>,
}

impl Taken {
    fn open(
        &mut self,
        directory: impl AsFd,
        name: &CStr,
        path: &impl Fn() -> PathBuf,
    ) -> anyhow::Result<Option<OwnedFd>> {
        match open_file(directory, name) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::EWOULDBLOCK) => {
                if self.busy.len() < NAMED {
                    self.busy.push(format!(
                        "somebody has a lease on {}, which ends within fs.lease-break-time (45 s)",
                        path().display()
                    ));
                }
                Ok(None)
            }
            Err(errno) => Err(anyhow!("cannot open it: {}", errno.desc())),
        }
    }
}

impl Locks {
    /// Opens a regular file to read it. Nobody is waited for: it is none if somebody has a lease on it, who is
    /// noted, and for whom the kernel begins to count the seconds.
    pub(super) fn open(
        &self,
        directory: impl AsFd,
        name: &CStr,
        path: impl Fn() -> PathBuf,
    ) -> anyhow::Result<Option<OwnedFd>> {
        match open_file(&directory, name) {
            Err(Errno::EWOULDBLOCK) => guard(&self.0).open(directory, name, &path),
            opened => opened.map(Some).map_err(|errno| anyhow!("cannot open it: {}", errno.desc())),
        }
    }

    /// Takes the lock if this is one, and notes who has it if that fails.
    pub(super) fn take(
        &self,
        directory: impl AsFd,
        name: &CStr,
        seen: &Seen,
        path: impl Fn() -> PathBuf,
    ) -> anyhow::Result<()> {
        if seen.kind != Kind::File || !LOCKS.contains(&name) {
            return Ok(());
        }
        let mut taken = guard(&self.0);
        let key = (seen.inode, seen.device);
        if taken.held.contains_key(&key) || taken.busy.len() >= NAMED {
            return Ok(());
        }
        let Some(lock) = taken.open(directory, name, &path)? else { return Ok(()) };
        match ffi::try_lock(&lock, libc::LOCK_EX) {
            Ok(()) => {
                taken.held.insert(key, lock);
            }
            Err(Errno::EWOULDBLOCK) => {
                let path = path();
                match holder_of(seen) {
                    Some(pid) => taken.busy.push(format!("{} holds {}", describe(&pid), path.display())),
                    // Whoever took it has ended, and left it to another.
                    None => match processes(&path, &|_| true).busy {
                        found if found.is_empty() => {
                            taken.busy.push(format!("somebody holds {}", path.display()));
                        }
                        found => taken.busy.extend(found),
                    },
                }
            }
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    /// Takes all locks of a tree.
    pub(super) fn take_all(&self, top: impl AsFd, path: &str) -> anyhow::Result<()> {
        walk(top, path, &TakeAll { locks: self, path })
    }

    /// Who held a lock that was wanted.
    pub(super) fn busy(&self) -> Vec<String> {
        guard(&self.0).busy.clone()
    }
}

struct TakeAll<'a> {
    locks: &'a Locks,
    path: &'a str,
}

impl Visit for TakeAll<'_> {
    type State = ();

    fn enter(&self, _: Opened<'_, ()>) -> anyhow::Result<()> {
        Ok(())
    }

    fn entry(&self, directory: &Directory<()>, name: &CStr, seen: &Seen) -> anyhow::Result<()> {
        self.locks.take(directory, name, seen, || Path::new(self.path).join(directory.path_of(name)))
    }
}

/// The process that holds a lock, as /proc/locks has it.
fn holder_of(seen: &Seen) -> Option<String> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let (major, minor) = seen.device;
    let exact = format!("{major:02x}:{minor:02x}:{}", seen.inode);
    // btrfs shows another device there than it tells stat(2).
    let inode = format!(":{}", seen.inode);
    let lines = || locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let find = |is_it: &dyn Fn(&str) -> bool| {
        lines().find_map(|fields| match fields.as_slice() {
            [_, "FLOCK", _, _, pid, place, ..] if is_it(place) => Some((*pid).to_owned()),
            _ => None,
        })
    };
    find(&|place| place == exact).or_else(|| find(&|place| place.ends_with(&inode)))
}

/// A process for people: pid, user and command.
fn describe(pid: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let uid =
        status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok());
    let user = uid.map_or_else(|| "somebody".into(), user_name);
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let command: String = command.trim().chars().take(80).collect();
    format!("process {pid} of {user} ({command})")
}

/// A user's name, or the number where there is none.
pub(super) fn user_name(uid: u32) -> String {
    User::from_uid(uid.into()).ok().flatten().map_or_else(|| format!("uid {uid}"), |user| user.name)
}

/// Processes that have to do with a tree.
#[derive(Debug, Default)]
pub(super) struct Processes {
    /// They run something in it, or have a file in it open.
    pub(super) busy: Vec<String>,
    /// They have it as their current directory.
    pub(super) inside: Vec<String>,
}

/// Looks through /proc for processes at work below a path; `counts` says of a path in it whether it counts.
pub(super) fn processes(below: &Path, counts: &dyn Fn(&Path) -> bool) -> Processes {
    let mut found = Processes::default();
    let is_in = |link: &PathBuf| link.starts_with(below) && link.strip_prefix(below).is_ok_and(counts);
    let own = process::id().to_string();
    let Ok(entries) = fs::read_dir("/proc") else { return found };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        if pid == own {
            continue;
        }
        let link = |what: &str| fs::read_link(entry.path().join(what)).ok().filter(is_in);
        if let Some(path) = link("cwd") {
            found.inside.push(format!("{} is in {}", describe(pid), path.display()));
        }
        if let Some(path) = link("exe") {
            found.busy.push(format!("{} runs {}", describe(pid), path.display()));
            continue;
        }
        let mut open = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        let open = open.find_map(|fd| fs::read_link(fd.path()).ok().filter(is_in));
        if let Some(path) = open {
            found.busy.push(format!("{} has {} open", describe(pid), path.display()));
        }
    }
    found
}
