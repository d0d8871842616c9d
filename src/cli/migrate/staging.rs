//! `<root>/.migrate-<name>`: root's alone, so that no login and no other user touches a tree that is not done.
//!
//! What has to be known to go on after a crash stands in the file `state` there, which is replaced by a rename.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;

use anyhow::{Context, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde_json::{Value, json};

use super::source::shown;
use super::{Stopped, Target, refused};
use crate::ffi;
use crate::quoting::ShellWord;
use crate::tree::{Directory, Identity, Opened, Seen, Visit, each_name, open_directory, open_file, walk};

/// What the names of these directories start with.
const PREFIX: &str = ".migrate-";

/// The tree, while it is here.
pub(super) const TREE: &CStr = c"tree";

/// Single files that are made, to be put into the tree or hard-linked from it.
const SCRATCH: &CStr = c"scratch";

/// The times that changed directories had.
pub(super) const TIMES: &CStr = c"times";

/// What was copied, as it was then.
const RECORDS: &CStr = c"copied";

/// No state is longer, in bytes: it names what moves of a shared root.
const MAX_STATE: u64 = 16 * 1024 * 1024;

/// How the names of files in it end that have been replaced by copies.
pub(super) const ORIGINAL: &[u8] = b".old";

const STATE: &CStr = c"state";
const NEW_STATE: &CStr = c"state.new";

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// The tree is on its way to the staging directory.
    Gather,
    /// It is there, and being made the user's.
    Settle,
    /// It is about to appear at its name, or has.
    Publish,
    /// It has its name; what it was copied from may go, if it is known that nobody changed it.
    Compare,
    /// It is going.
    Remove,
}

const PHASES: [(Phase, &str); 5] = [
    (Phase::Gather, "gather"),
    (Phase::Settle, "settle"),
    (Phase::Publish, "publish"),
    (Phase::Compare, "compare"),
    (Phase::Remove, "remove"),
];

impl Phase {
    pub(super) fn word(self) -> &'static str {
        PHASES.iter().find(|(phase, _)| *phase == self).map_or("?", |(_, word)| word)
    }
}

/// How the tree gets here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By one rename.
    Rename,
    /// By a rename of each name in the shared root.
    RenameEach,
    /// By a rename of each file that is the user's.
    RenameOwn,
    /// By a copy.
    Copy,
}

const WAYS: [(Way, &str); 4] = [
    (Way::Rename, "rename"),
    (Way::RenameEach, "rename-each"),
    (Way::RenameOwn, "rename-own"),
    (Way::Copy, "copy"),
];

impl Way {
    pub(super) fn word(self) -> &'static str {
        WAYS.iter().find(|(way, _)| *way == self).map_or("?", |(_, word)| word)
    }
}

/// What the next run must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    /// The real path of the source, and the one that was given.
    pub(super) from: String,
    pub(super) given: String,
    pub(super) user: String,
    pub(super) uid: u32,
    pub(super) way: Way,
    pub(super) phase: Phase,
    /// Which directory the source is: another one may have its path by now.
    pub(super) source: Identity,
    /// Of the shared root, what moves: names and inodes.
    pub(super) names: Vec<(String, u64)>,
    /// The inode of the tree that is to be published.
    pub(super) tree: u64,
    /// Whether the old path is to become a link to the new one.
    pub(super) leave_link: bool,
}

impl State {
    fn to_json(&self) -> Value {
        json!({
            "schema": 2, "from": self.from, "given": self.given, "user": self.user, "uid": self.uid,
            "way": self.way.word(), "phase": self.phase.word(), "device": self.source.device,
            "inode": self.source.inode, "born": self.source.born, "names": self.names, "tree": self.tree,
            "leave_link": self.leave_link,
        })
    }

    /// Whether it is short enough to be read again.
    pub(super) fn fits(&self) -> bool {
        self.to_json().to_string().len() as u64 + 1 < MAX_STATE
    }

    fn from_json(value: &Value) -> Option<Self> {
        let text = |key: &str| value.get(key)?.as_str().map(str::to_owned);
        let number = |key: &str| value.get(key)?.as_u64();
        let phase = text("phase")?;
        let way = text("way")?;
        let small = |key: &str, index: usize| u32::try_from(value.get(key)?.get(index)?.as_u64()?).ok();
        let name = |name: &Value| Some((name.get(0)?.as_str()?.to_owned(), name.get(1)?.as_u64()?));
        (number("schema")? == 2).then_some(())?;
        Some(Self {
            from: text("from")?,
            given: text("given")?,
            user: text("user")?,
            uid: number("uid")?.try_into().ok()?,
            way: WAYS.iter().find(|(_, word)| *word == way)?.0,
            phase: PHASES.iter().find(|(_, word)| *word == phase)?.0,
            source: Identity {
                device: (small("device", 0)?, small("device", 1)?),
                inode: number("inode")?,
                born: (value.get("born")?.get(0)?.as_i64()?, small("born", 1)?),
            },
            names: value.get("names")?.as_array()?.iter().map(name).collect::<Option<_>>()?,
            tree: number("tree")?,
            leave_link: value.get("leave_link")?.as_bool()?,
        })
    }
}

/// The staging directory of one migration, open and locked.
pub(super) struct Staging {
    pub(super) fd: OwnedFd,
    pub(super) path: String,
    name: CString,
}

/// A migration that was begun.
pub(super) struct Pending {
    pub(super) staging: Staging,
    pub(super) state: State,
}

/// The migration that is pending in this root, if it is for this source and user; another one is refused.
/// What a crash left of one that had not begun, or was complete, is removed.
pub(super) fn find_pending(target: &Target, from: &str, may_change: bool) -> anyhow::Result<Option<Pending>> {
    let mut found = None;
    for name in names(target)? {
        let staging = Staging::open(target, &name)?;
        match staging.read_state()? {
            None if may_change => staging.remove(target)?,
            None => {}
            Some(state) if state.from == from && state.user == target.user => {
                found = Some(Pending { staging, state });
            }
            Some(state) => {
                let only_owned = if state.way == Way::RenameOwn { " --only-owned" } else { "" };
                return Err(refused(format!(
                    "a migration of {} to {} is pending ({}); finish it first: cargo-targetctl migrate --from {} \
                     --to-user {}{only_owned}",
                    state.from,
                    state.user,
                    staging.path,
                    ShellWord(&state.given),
                    ShellWord(&state.user)
                )));
            }
        }
    }
    Ok(found)
}

/// What there is in the root that has a name of ours.
fn names(target: &Target) -> anyhow::Result<Vec<CString>> {
    let mut names = Vec::new();
    each_name(open_directory(&target.directory, c".")?, |name, _| {
        if name.to_bytes().starts_with(PREFIX.as_bytes()) {
            names.push(name.to_owned());
        }
        Ok(true)
    })?;
    Ok(names)
}

impl Staging {
    /// Makes the directory, with a state in it.
    pub(super) fn make(target: &Target, state: &State) -> anyhow::Result<Self> {
        let name = CString::new(format!("{PREFIX}{}", target.name.as_str()))?;
        match mkdirat(&target.directory, name.as_c_str(), Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => bail!("cannot make {}/{}: {}", target.root, shown(&name), errno.desc()),
        }
        let staging = Self::open(target, &name)?;
        // The root was not safe until a moment ago, so that nobody looked for it.
        if staging.has_tree() || staging.read_state()?.is_some() {
            return Err(refused(format!(
                "a migration that was not finished is pending in {}; the root is in order now: run this again to go on \
                 with it",
                staging.path
            )));
        }
        // Of two that begin at once, each has made its own by now, and one at least sees the other's.
        if let Some(other) = names(target)?.into_iter().find(|other| *other != name) {
            staging.remove(target)?;
            let other = format!("{}/{}", target.root, shown(&other));
            return Err(
                Stopped::Busy(vec![format!("another migration was begun a moment ago in {other}")]).into()
            );
        }
        staging.write_state(state, true)?;
        Ok(staging)
    }

    fn open(target: &Target, name: &CStr) -> anyhow::Result<Self> {
        let path = format!("{}/{}", target.root, shown(name));
        let fd = open_directory(&target.directory, name)
            .map_err(|errno| refused(format!("cannot open {path}: {}; remove it", errno.desc())))?;
        let seen = Seen::of(&fd)?;
        if seen.uid != 0 || seen.mode & 0o077 != 0 {
            return Err(refused(format!(
                "{path} is not a directory of root's that nobody else can enter; look into it, then remove it"
            )));
        }
        if ffi::try_lock(&fd, libc::LOCK_EX).is_err() {
            return Err(Stopped::Busy(vec![format!("another cargo-targetctl is at work in {path}")]).into());
        }
        for acl in crate::cache_dir::ACLS {
            ffi::remove_attribute(&fd, acl)?;
        }
        Ok(Self { fd, path, name: name.to_owned() })
    }

    fn read_state(&self) -> anyhow::Result<Option<State>> {
        let file = match open_file(&self.fd, STATE) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(anyhow!("cannot read {}/state: {}", self.path, errno.desc())),
        };
        let mut text = String::new();
        File::from(file).take(MAX_STATE).read_to_string(&mut text)?;
        let state = serde_json::from_str(&text).ok().and_then(|value| State::from_json(&value));
        let unknown = || format!("{}/state is not what this version of cargo-targetctl writes", self.path);
        Ok(Some(state.with_context(unknown)?))
    }

    /// Replaces the state, so that a crash leaves the old one or the new one. Waiting until the new one has its
    /// name on the disk would be waiting for all that was changed before, and the journal keeps the order of renames.
    pub(super) fn write_state(&self, state: &State, wait: bool) -> anyhow::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&self.fd, NEW_STATE, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        file.write_all(format!("{}\n", state.to_json()).as_bytes())
            .and_then(|()| if wait { file.sync_all() } else { Ok(ffi::write_out(&file)?) })
            .with_context(|| format!("cannot write {}/state", self.path))?;
        Ok(renameat(&self.fd, NEW_STATE, &self.fd, STATE)?)
    }

    /// The directory of single files.
    pub(super) fn scratch(&self) -> anyhow::Result<OwnedFd> {
        match mkdirat(&self.fd, SCRATCH, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => Ok(open_directory(&self.fd, SCRATCH)?),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether there is a tree, or a part of one.
    pub(super) fn has_tree(&self) -> bool {
        Seen::at(&self.fd, TREE).is_ok()
    }

    /// A file for what is copied, as it was then.
    pub(super) fn new_records(&self) -> anyhow::Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(File::from(openat(&self.fd, RECORDS, flags, Mode::S_IRUSR | Mode::S_IWUSR)?))
    }

    pub(super) fn open_records(&self) -> anyhow::Result<File> {
        let records = open_file(&self.fd, RECORDS)
            .map_err(|errno| anyhow!("cannot read {}/copied: {}", self.path, errno.desc()))?;
        Ok(File::from(records))
    }

    /// Removes a copy that was not finished.
    pub(super) fn remove_copy(&self) -> anyhow::Result<()> {
        self.empty_scratch()?;
        remove_if_there(&self.fd, RECORDS)?;
        match open_directory(&self.fd, TREE) {
            Ok(tree) => {
                walk(&tree, &format!("{}/tree", self.path), &RemoveAll)?;
                Ok(unlinkat(&self.fd, TREE, UnlinkatFlags::RemoveDir)?)
            }
            Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Removes what was needed on the way. What keeps an inode's number from being given anew goes last.
    pub(super) fn empty_scratch(&self) -> anyhow::Result<()> {
        match open_directory(&self.fd, SCRATCH) {
            Ok(scratch) => {
                let (mut first, mut last) = (Vec::new(), Vec::new());
                each_name(&scratch, |name, _| {
                    let list = if name.to_bytes().ends_with(ORIGINAL) { &mut last } else { &mut first };
                    list.push(name.to_owned());
                    Ok(true)
                })?;
                for name in first.into_iter().chain(last) {
                    unlinkat(&scratch, name.as_c_str(), UnlinkatFlags::NoRemoveDir)?;
                }
                unlinkat(&self.fd, SCRATCH, UnlinkatFlags::RemoveDir)?;
            }
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        remove_if_there(&self.fd, TIMES)
    }

    /// Removes the directory: everything was done, or nothing.
    pub(super) fn remove(self, target: &Target) -> anyhow::Result<()> {
        self.empty_scratch()?;
        remove_if_there(&self.fd, RECORDS)?;
        remove_if_there(&self.fd, NEW_STATE)?;
        remove_if_there(&self.fd, STATE)?;
        match unlinkat(&target.directory, self.name.as_c_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(anyhow!("cannot remove {}: {}; look into it", self.path, errno.desc())),
        }
    }
}

fn remove_if_there(directory: &OwnedFd, name: &CStr) -> anyhow::Result<()> {
    match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes all there is in a tree that is root's alone.
struct RemoveAll;

impl Visit for RemoveAll {
    type State = ();

    fn enter(&self, _: Opened<'_, ()>) -> anyhow::Result<()> {
        Ok(())
    }

    fn entry(&self, directory: &Directory<()>, name: &CStr, _seen: &Seen) -> anyhow::Result<()> {
        Ok(unlinkat(directory, name, UnlinkatFlags::NoRemoveDir)?)
    }

    fn leave(&self, directory: &Directory<()>) -> anyhow::Result<()> {
        let Some(parent) = directory.parent() else { return Ok(()) };
        Ok(unlinkat(parent, directory.name(), UnlinkatFlags::RemoveDir)?)
    }
}
