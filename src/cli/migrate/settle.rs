//! Making a tree that others wrote the user's own.
//!
//! Two walks. The first takes each directory over before it reads it: from then on it is root's, and nobody
//! else can put a name into it or take one out, not even through a descriptor kept from before. So what a name
//! in it stood for when it was looked at is what it stands for when it is given away. A file that somebody may
//! have open for writing, in whatever way, is given away so that nobody opens it anew, and then replaced by a
//! copy: what is written by that descriptor reaches no name. The names of a file that has several are counted,
//! and it waits for the second walk: one with a name outside the tree is somebody else's too, and is copied,
//! never given away. Either walk gives a directory to the user when everything in it is done, the innermost
//! first, and nothing in it is touched again.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{Mode, UtimensatFlags, fchmod, futimens, utimensat};
use nix::unistd::{
    Gid, LinkatFlags, Uid, UnlinkatFlags, fchown, fchownat, fsync, linkat, symlinkat, unlinkat,
};

use super::busy::Locks;
use super::copy::copy_content;
use super::outputs::{self, Rewrite};
use super::source::shown;
use super::staging::{ORIGINAL, Staging, TIMES, TREE};
use super::survey::unreadable;
use super::{Target, guard, refused, refused_for};
use crate::account::Account;
use crate::cache_dir::{ACLS, Owner, write_tag};
use crate::config::GroupRef;
use crate::ffi;
use crate::tree::{
    Directory, Kind, Opened, Seen, Visit, each_name, open_directory, open_file, os, time_spec, walk,
};

/// What is left of a mode: no set-id, no sticky bit, and no writing for the group or others.
pub(super) const KEPT: u32 = 0o755;

/// A file of so many bytes and more is a large one.
const LARGE: u64 = 256 * 1024;

type Key = (u64, (u32, u32));

fn key(seen: &Seen) -> Key {
    (seen.inode, seen.device)
}

/// Whether a directory has POSIX ACLs.
pub(super) fn has_acls(directory: impl AsFd) -> anyhow::Result<bool> {
    Ok(ffi::has_attribute(&directory, ACLS[0])? || ffi::has_attribute(&directory, ACLS[1])?)
}

/// The files that have several names.
#[derive(Default)]
pub(super) struct Links(Mutex<HashMap<Key, Linked>>);

#[derive(Default)]
struct Linked {
    /// How many names it has, and how many of these were seen in the tree.
    all: u32,
    counted: u32,
    /// Whether the user may not read it.
    is_unreadable: bool,
    /// What was decided for all of its names.
    is_given: Option<bool>,
}

impl Links {
    /// Counts one name; true for the first of a file.
    pub(super) fn see(&self, seen: &Seen) -> bool {
        let mut links = guard(&self.0);
        let link = links.entry(key(seen)).or_default();
        // Whoever adds one while we count adds one outside.
        link.all = link.all.max(seen.links);
        link.counted += 1;
        link.counted == 1
    }

    /// Whether every name of a file was seen; none for a file with a single name.
    pub(super) fn is_complete(&self, seen: &Seen) -> Option<bool> {
        guard(&self.0).get(&key(seen)).map(|link| link.counted >= link.all)
    }

    /// Notes of a file that was seen that the user may not read it.
    pub(super) fn note_unreadable(&self, seen: &Seen) {
        guard(&self.0).entry(key(seen)).or_default().is_unreadable = true;
    }

    /// Whether a file that the user may not read has names that were not seen; of none, whether any has.
    pub(super) fn is_anothers(&self, seen: Option<&Seen>) -> bool {
        let links = guard(&self.0);
        let is_anothers = |link: &Linked| link.is_unreadable && link.counted < link.all;
        match seen {
            Some(seen) => links.get(&key(seen)).is_some_and(is_anothers),
            None => links.values().any(is_anothers),
        }
    }

    /// Gives a file away, and answers with what came of it; the same for all of its names.
    fn give_once(&self, seen: &Seen, give: impl FnOnce() -> anyhow::Result<bool>) -> anyhow::Result<bool> {
        let mut links = guard(&self.0);
        let link = links.entry(key(seen)).or_default();
        match link.is_given {
            Some(is_given) => Ok(is_given),
            None => Ok(*link.is_given.insert(give()?)),
        }
    }

    /// How many names in the tree are of files that have others outside.
    pub(super) fn names_outside(&self) -> u64 {
        let links = guard(&self.0);
        let outside = links.values().filter(|link| link.counted < link.all);
        outside.map(|link| u64::from(link.counted)).sum()
    }
}

/// What was done, for the summary.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) entries: AtomicU64,
    pub(super) given: AtomicU64,
    pub(super) modes: AtomicU64,
    pub(super) acls: AtomicU64,
    /// Files that were copied, since they have names outside the tree.
    pub(super) linked_outside: AtomicU64,
    /// Files that were copied, since somebody may have had them open for writing.
    pub(super) written_to: AtomicU64,
}

/// Makes `tree` in the staging directory the user's.
pub(super) struct Settle<'a> {
    target: &'a Target,
    staging: &'a Staging,
    locks: &'a Locks,
    rewrite: &'a Rewrite,
    done: &'a Done,
    tick: &'a (dyn Fn(u64) + Sync),
    scratch: OwnedFd,
    links: Links,
    /// The inodes of files that a run that was killed had begun to replace.
    replaced: HashSet<u64>,
    /// The directories that the first walk could not give away, and whether a file with several names is in one
    /// itself.
    waiting: Mutex<HashMap<Key, bool>>,
    /// The times of directories that were changed, now or by a run that was killed.
    times: Mutex<Times>,
    /// For what happens once in a while.
    one_at_a_time: Mutex<()>,
}

impl<'a> Settle<'a> {
    pub(super) fn run(
        target: &'a Target,
        staging: &'a Staging,
        locks: &'a Locks,
        rewrite: &'a Rewrite,
        done: &'a Done,
        tick: &'a (dyn Fn(u64) + Sync),
    ) -> anyhow::Result<()> {
        let mut settle = Self {
            target,
            staging,
            locks,
            rewrite,
            done,
            tick,
            scratch: staging.scratch()?,
            links: Links::default(),
            replaced: HashSet::new(),
            waiting: Mutex::default(),
            times: Mutex::new(Times::open(staging)?),
            one_at_a_time: Mutex::default(),
        };
        // What a run that was killed copied, or was about to hard-link, has a name there.
        each_name(open_directory(&settle.scratch, c".")?, |name, _| {
            let seen = Seen::at(&settle.scratch, name)?;
            if seen.links > 1 {
                settle.links.see(&seen);
            }
            if name.to_bytes().ends_with(ORIGINAL) {
                settle.replaced.insert(seen.inode);
            }
            Ok(true)
        })?;
        let shown = format!("{}/tree", staging.path);
        let known = guard(&settle.times).known.clone();
        walk(open_directory(&staging.fd, TREE)?, &shown, &TakeOver { settle: &settle, known })?;
        super::or_busy(locks.busy())?;
        let known = guard(&settle.times).known.clone();
        let waiting = std::mem::take(&mut *guard(&settle.waiting));
        walk(open_directory(&staging.fd, TREE)?, &shown, &Give { settle: &settle, known, waiting })?;
        super::or_busy(locks.busy())?;
        staging.empty_scratch()
    }

    fn owner(&self) -> Owner {
        self.target.owner
    }

    /// Gives one entry of a directory that was taken over to the user, and takes from its mode what others
    /// could use. Answers with whether it is the user's alone: no if somebody may have it open for writing.
    fn give_entry(&self, directory: &Directory<Taken>, name: &CStr, seen: &Seen) -> anyhow::Result<bool> {
        let Owner { uid, gid } = self.owner();
        let is_others = (seen.uid, seen.gid) != (uid, gid);
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        if seen.kind != Kind::File {
            if is_others {
                fchownat(directory, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(not_given)?;
                self.done.given.fetch_add(1, Ordering::Relaxed);
            }
            return Ok(true);
        }
        let path = || self.path_of(directory, name);
        // Of one that cannot be opened now the run ends busy, after the walk.
        let Some(file) = self.locks.open(directory, name, path)? else { return Ok(true) };
        if is_others {
            fchown(&file, uid, gid).map_err(not_given)?;
            self.done.given.fetch_add(1, Ordering::Relaxed);
        }
        let has_acl = ffi::has_attribute(&file, ACLS[0])?;
        if has_acl {
            ffi::remove_attribute(&file, ACLS[0])?;
            self.done.acls.fetch_add(1, Ordering::Relaxed);
        }
        // Until a moment ago its owner could have changed the mode, through a descriptor.
        if is_others || has_acl || seen.mode & !KEPT != 0 {
            fchmod(&file, Mode::from_bits_truncate(seen.mode & KEPT))?;
            self.done.modes.fetch_add(u64::from(seen.mode & !KEPT != 0), Ordering::Relaxed);
        }
        // Now nobody else can open it for writing any more; who has it so still?
        Ok(!ffi::may_have_writers(&file))
    }

    /// Where something is, for people.
    fn path_of(&self, directory: &Directory<Taken>, name: &CStr) -> PathBuf {
        PathBuf::from(&self.staging.path).join(os(TREE)).join(directory.path_of(name))
    }

    /// Gives a directory to the user, in which everything is done.
    fn give(&self, directory: &Directory<Taken>) -> anyhow::Result<()> {
        let Owner { uid, gid } = self.owner();
        if directory.state.touched.load(Ordering::Relaxed) {
            let (accessed, modified) = (directory.seen.accessed, directory.seen.modified);
            futimens(directory, &time_spec(accessed), &time_spec(modified))?;
        }
        Ok(fchown(directory, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?)
    }

    /// Notes a directory's times before something in it is replaced.
    fn touch(&self, directory: &Directory<Taken>) -> anyhow::Result<()> {
        directory.state.touched.store(true, Ordering::Relaxed);
        guard(&self.times).note(directory.seen.inode, directory.seen.modified)
    }

    /// Puts a copy of a file with one name in its place.
    fn replace(&self, directory: &Directory<Taken>, name: &CStr) -> anyhow::Result<()> {
        self.touch(directory)?;
        let file = File::from(open_file(directory, name)?);
        let draft = CString::new(format!("{}.draft", Seen::of(&file)?.inode))?;
        self.make_draft(&draft, &file)?;
        self.done.written_to.fetch_add(1, Ordering::Relaxed);
        Ok(renameat(&self.scratch, draft.as_c_str(), directory, name)?)
    }

    /// A copy of a file, on the disk.
    fn make_draft(&self, draft: &CStr, file: &File) -> anyhow::Result<()> {
        remove_if_there(&self.scratch, draft)?;
        copy_file(file, &Seen::of(file)?, &self.scratch, draft, self.owner())?;
        Ok(fsync(open_file(&self.scratch, draft)?)?)
    }

    /// Puts a copy of a file with several names in its place, with the names of it in the tree as names of the
    /// copy. The file itself keeps a name as long as its copy has one there: its inode's number, by which the
    /// copy is found again, is nobody else's meanwhile.
    fn replace_linked(&self, directory: &Directory<Taken>, name: &CStr) -> anyhow::Result<()> {
        let _alone = guard(&self.one_at_a_time);
        let seen = Seen::at(directory, name)?;
        if self.links.is_complete(&seen) == Some(false) && !self.target.may_read(&seen)? {
            let path = self.path_of(directory, name).display().to_string();
            return Err(refused_for(&unreadable(&self.target.user), &[path]));
        }
        self.touch(directory)?;
        let called = |what: &str| CString::new(format!("{}.{what}", seen.inode));
        let (original, copy, draft, link) =
            (called("old")?, called("new")?, called("draft")?, called("link")?);
        if Seen::at(&self.scratch, &copy).is_err() {
            match linkat(directory, name, &self.scratch, original.as_c_str(), LinkatFlags::empty()) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            if seen.kind == Kind::Symlink {
                remove_if_there(&self.scratch, &draft)?;
                copy_link(directory, name, &seen, &self.scratch, &draft, self.owner())?;
            } else {
                self.make_draft(&draft, &File::from(open_file(directory, name)?))?;
            }
            let is_ours = self.links.is_complete(&seen) == Some(true);
            let count = if is_ours { &self.done.written_to } else { &self.done.linked_outside };
            count.fetch_add(1, Ordering::Relaxed);
            renameat(&self.scratch, draft.as_c_str(), &self.scratch, copy.as_c_str())?;
        }
        remove_if_there(&self.scratch, &link)?;
        linkat(&self.scratch, copy.as_c_str(), &self.scratch, link.as_c_str(), LinkatFlags::empty())?;
        Ok(renameat(&self.scratch, link.as_c_str(), directory, name)?)
    }
}

/// Why an owner cannot be changed.
fn not_given(errno: Errno) -> anyhow::Error {
    match errno {
        Errno::EPERM => anyhow!("its owner cannot be changed; is it immutable (lsattr)?"),
        Errno::EDQUOT => anyhow!("its owner cannot be changed: the user's disk quota would be exceeded"),
        errno => anyhow!("cannot change its owner: {}", errno.desc()),
    }
}

/// Makes a complete copy of a symbolic link: the user's, with its times.
pub(super) fn copy_link(
    from: impl AsFd,
    name: &CStr,
    seen: &Seen,
    to: &OwnedFd,
    new_name: &CStr,
    owner: Owner,
) -> anyhow::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)));
    let leads_to = readlinkat(&from, name)?;
    symlinkat(leads_to.as_os_str(), to, new_name)?;
    fchownat(to, new_name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let (accessed, modified) = (time_spec(seen.accessed), time_spec(seen.modified));
    Ok(utimensat(to, new_name, &accessed, &modified, UtimensatFlags::NoFollowSymlink)?)
}

/// Makes a complete copy of an open file: the user's, with its mode and its times. `seen` is what it is.
/// Answers with how many bytes were copied.
pub(super) fn copy_file(
    source: &File,
    seen: &Seen,
    to: &OwnedFd,
    new_name: &CStr,
    owner: Owner,
) -> anyhow::Result<u64> {
    if seen.kind != Kind::File {
        bail!("it was replaced while it was copied; run this again");
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let copy = File::from(openat(to, new_name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    let copied = copy_content(source, seen, &copy)?;
    // The disk is what a copy waits for in the end: it had better begin at once.
    if copied >= LARGE {
        ffi::begin_to_write_out(&copy);
    }
    fchown(&copy, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
    // It has inherited no ACL: the directories here have none.
    fchmod(&copy, Mode::from_bits_truncate(seen.mode & KEPT))?;
    futimens(&copy, &time_spec(seen.accessed), &time_spec(seen.modified))?;
    Ok(copied)
}

/// Takes a directory over: from here on only root can change which names are in it. What is `seen` of it is
/// brought up to date; the answer is whether it had ACLs.
pub(super) fn take_over(directory: BorrowedFd<'_>, seen: &mut Seen, gid: u32) -> anyhow::Result<bool> {
    let mut changed = false;
    if (seen.uid, seen.gid) != (0, gid) {
        let before = seen.uid;
        fchown(directory, Some(Uid::from_raw(0)), Some(Gid::from_raw(gid)))
            .map_err(|errno| anyhow!("cannot take it over: {}; is it immutable (lsattr)?", errno.desc()))?;
        changed = before != 0;
    }
    let had_acls = has_acls(directory)?;
    if had_acls {
        for acl in ACLS {
            ffi::remove_attribute(directory, acl)?;
        }
        changed = true;
    }
    // Its owner may have changed the mode until a moment ago.
    if changed {
        seen.mode = Seen::of(directory)?.mode;
    }
    if seen.mode & !KEPT != 0 {
        seen.mode &= KEPT;
        fchmod(directory, Mode::from_bits_truncate(seen.mode))?;
    }
    Ok(had_acls)
}

/// Gives the top of a tree what nothing else in it needs: the tag, if it has none, and the configured mode.
/// `touch` is told before a name is added.
pub(super) fn complete_top(
    top: impl AsFd,
    target: &Target,
    touch: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if matches!(Seen::at(&top, c"CACHEDIR.TAG"), Err(Errno::ENOENT)) {
        touch()?;
        // The directory serves without.
        let _ = write_tag(&top.as_fd().try_clone_to_owned()?, target.owner);
    }
    Ok(fchmod(top, Mode::from_bits_truncate(target.mode))?)
}

/// What is known of a directory that was taken over.
pub(super) struct Taken {
    counted: AtomicU64,
    touched: AtomicBool,
    is_script: AtomicBool,
    /// A file with several names is in it.
    has_linked: AtomicBool,
    /// Or in a directory below it, which is not the user's yet.
    has_waiting: AtomicBool,
    /// Names of files that are to be replaced by copies.
    to_copy: Mutex<Vec<CString>>,
}

impl Taken {
    /// `touched` if its times are to be set again.
    fn new(touched: bool) -> Self {
        Self {
            counted: AtomicU64::new(1),
            touched: AtomicBool::new(touched),
            is_script: AtomicBool::new(false),
            has_linked: AtomicBool::new(false),
            has_waiting: AtomicBool::new(false),
            to_copy: Mutex::default(),
        }
    }
}

/// The first walk.
struct TakeOver<'a> {
    settle: &'a Settle<'a>,
    /// The times that a run that was killed wrote down.
    known: HashMap<u64, (i64, u32)>,
}

impl Visit for TakeOver<'_> {
    type State = Taken;

    fn enter(&self, opened: Opened<'_, Taken>) -> anyhow::Result<Taken> {
        let Opened { fd, seen, .. } = opened;
        let settle = self.settle;
        let known = self.known.get(&seen.inode).copied();
        if let Some(modified) = known {
            seen.modified = modified;
        }
        if take_over(fd, seen, settle.owner().gid)? {
            settle.done.acls.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Taken::new(known.is_some()))
    }

    fn entry(&self, directory: &Directory<Taken>, name: &CStr, seen: &Seen) -> anyhow::Result<()> {
        let settle = self.settle;
        directory.state.counted.fetch_add(1, Ordering::Relaxed);
        if seen.kind == Kind::Special {
            bail!("it is a device, a FIFO or a socket; remove it, then run this again");
        }
        settle.locks.take(directory, name, seen, || settle.path_of(directory, name))?;
        if name == outputs::MARK {
            directory.state.is_script.store(true, Ordering::Relaxed);
        }
        if seen.links > 1 {
            settle.links.see(seen);
            directory.state.has_linked.store(true, Ordering::Relaxed);
            if seen.kind == Kind::File {
                // Whoever has a lease on it is asked for it now, and not by the second walk.
                settle.locks.open(directory, name, || settle.path_of(directory, name))?;
            }
            return Ok(());
        }
        if !settle.give_entry(directory, name, seen)? {
            guard(&directory.state.to_copy).push(name.to_owned());
        }
        Ok(())
    }

    fn leave(&self, directory: &Directory<Taken>) -> anyhow::Result<()> {
        let settle = self.settle;
        for name in std::mem::take(&mut *guard(&directory.state.to_copy)) {
            settle.replace(directory, &name).with_context(|| shown(&name))?;
        }
        if directory.state.is_script.load(Ordering::Relaxed) {
            settle.rewrite.run(directory, &settle.scratch, settle.owner(), || settle.touch(directory))?;
        }
        let counted = directory.state.counted.load(Ordering::Relaxed);
        settle.done.entries.fetch_add(counted, Ordering::Relaxed);
        (settle.tick)(counted);
        let has_linked = directory.state.has_linked.load(Ordering::Relaxed);
        if !has_linked && !directory.state.has_waiting.load(Ordering::Relaxed) && !directory.is_top() {
            return settle.give(directory);
        }
        guard(&settle.waiting).insert(key(&directory.seen), has_linked);
        if let Some(parent) = directory.parent() {
            parent.state.has_waiting.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The second walk.
struct Give<'a> {
    settle: &'a Settle<'a>,
    /// The times of directories that were changed.
    known: HashMap<u64, (i64, u32)>,
    waiting: HashMap<Key, bool>,
}

impl Visit for Give<'_> {
    type State = Taken;

    fn wants(&self, seen: &Seen) -> bool {
        self.waiting.contains_key(&key(seen))
    }

    fn enter(&self, opened: Opened<'_, Taken>) -> anyhow::Result<Taken> {
        let Opened { seen, .. } = opened;
        let known = self.known.get(&seen.inode).copied();
        if let Some(modified) = known {
            seen.modified = modified;
        }
        Ok(Taken::new(known.is_some()))
    }

    fn wants_entries(&self, directory: &Directory<Taken>) -> bool {
        self.waiting.get(&key(&directory.seen)) == Some(&true)
    }

    fn entry(&self, directory: &Directory<Taken>, name: &CStr, seen: &Seen) -> anyhow::Result<()> {
        let settle = self.settle;
        let stays_as_it_is = match settle.links.is_complete(seen) {
            None => true,
            Some(false) => false,
            Some(true) if settle.replaced.contains(&seen.inode) => false,
            Some(true) => settle.links.give_once(seen, || settle.give_entry(directory, name, seen))?,
        };
        if !stays_as_it_is {
            guard(&directory.state.to_copy).push(name.to_owned());
        }
        Ok(())
    }

    fn leave(&self, directory: &Directory<Taken>) -> anyhow::Result<()> {
        for name in std::mem::take(&mut *guard(&directory.state.to_copy)) {
            self.settle.replace_linked(directory, &name).with_context(|| shown(&name))?;
        }
        if directory.is_top() {
            complete_top(directory, self.settle.target, || self.settle.touch(directory))?;
        }
        self.settle.give(directory)
    }
}

/// The times that directories had before something in them was replaced, by their inodes' numbers: there may be
/// many, with long paths. Written down before it is done, so that a run after a crash knows them.
struct Times {
    file: File,
    known: HashMap<u64, (i64, u32)>,
}

impl Times {
    fn open(staging: &Staging) -> anyhow::Result<Self> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_APPEND | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&staging.fd, TIMES, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        // What was cut off by a crash, or a full disk, was not acted on; and another will be appended.
        text.truncate(text.iter().rposition(|&byte| byte == 0).map_or(0, |last| last + 1));
        file.set_len(text.len().try_into()?)?;
        let mut known = HashMap::new();
        for record in text.split(|&byte| byte == 0) {
            let parse = || {
                let mut fields = std::str::from_utf8(record).ok()?.split(' ');
                let time = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
                Some((fields.next()?.parse().ok()?, time))
            };
            if let Some((inode, time)) = parse() {
                known.entry(inode).or_insert(time);
            }
        }
        Ok(Self { file, known })
    }

    fn note(&mut self, inode: u64, time: (i64, u32)) -> anyhow::Result<()> {
        if self.known.contains_key(&inode) {
            return Ok(());
        }
        self.file.write_all(format!("{} {} {inode}\0", time.0, time.1).as_bytes())?;
        self.known.insert(inode, time);
        Ok(())
    }
}

impl Target {
    /// Whether the user may read a file already, as far as its mode says.
    pub(super) fn may_read(&self, seen: &Seen) -> anyhow::Result<bool> {
        if seen.kind == Kind::Symlink || seen.mode & 0o044 == 0o044 || seen.uid == self.owner.uid {
            return Ok(true);
        }
        let account = Account::lookup(&self.user)
            .map_err(|error| anyhow!("{error}"))?
            .ok_or_else(|| refused(format!("there is no user {}", self.user)))?;
        let in_group = account.is_in_any(&[GroupRef::Gid(seen.gid)]).map_err(|error| anyhow!("{error}"))?;
        Ok(seen.mode & if in_group { 0o040 } else { 0o004 } != 0)
    }
}

pub(super) fn remove_if_there(directory: impl AsFd, name: &CStr) -> anyhow::Result<()> {
    match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
