//! One user's directory beneath the shared root: judged where it is there, made and published where not.
//!
//! What is there is never changed, only accepted or refused. What is missing is made in `.staging`, which
//! is root's alone, under a name nobody can guess, and renamed into place when it is complete: no other
//! user can reach it before, and a crash leaves only litter that the next provisioning sweeps.
//!
//! [`Provision::run`] and all that it calls allocate no memory: they may run in a child of a threaded
//! process.

use std::ffi::CStr;
use std::fmt::{self, Display, Formatter};
use std::iter;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, openat, renameat, renameat2};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat, write};

use crate::config::DirMode;
use crate::ffi;
use crate::quoting::ShellWord;
use crate::shared_root::{
    Identity, LookError, OTHERS_MAY_WRITE, Patience, SharedRoot, kind, kind_in_memory, open_in_memory,
    open_in_mount,
};

/// What tells backup tools, and cargo from 1.97 on, that a directory holds nothing but a cache.
pub const TAG_NAME: &str = "CACHEDIR.TAG";

/// The tag that cargo itself writes; the first line is what the specification asks for
/// (<https://bford.info/cachedir/>).
pub const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55
# This file is a cache directory tag created by cargo.
# For information about cache directory tags see https://bford.info/cachedir/
";

/// Where directories are made: in the root, and root's alone.
pub const STAGING: &str = ".staging";

/// The longest name of a directory, in bytes (`NAME_MAX`).
const NAME_MAX: usize = 255;

/// What cargo itself puts at the top of a target directory: a user of that name would share it with a
/// cache that was laid there before.
pub(crate) const CARGO_NAMES: [&str; 7] = ["debug", "release", "doc", "tmp", "package", "build", TAG_NAME];

/// How often, and how long apart, the staging lock is tried while another login sweeps. Waiting without
/// end would let whoever stops a `su` in mid-sweep stop every first login.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// How much of the litter in `.staging` one login removes, in directories: whoever leaves much of it there
/// must not make the next login pay for all.
const SWEEP: usize = 64;

/// How often a directory is made whose making is disturbed: a sweeper on another host of a network file
/// system does not see the lock, and a login that is tired of waiting has none.
const MAKE_TRIES: u32 = 3;

/// POSIX ACLs that a directory inherits, and that `fchmod` leaves in place.
pub(crate) const ACLS: [&CStr; 2] = [c"system.posix_acl_access", c"system.posix_acl_default"];

/// How a directory is opened whose entries are to be changed.
const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Whose directory it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The user's primary group.
    pub gid: u32,
}

/// The name of a user's directory: one component of a path, and safe in a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirName(String);

impl DirName {
    /// The directory name made for this user. Names are refused, never rewritten: two users must not meet
    /// in one directory.
    pub fn new(user: &str, made: String) -> Result<Self, NameError> {
        for name in [user, &made] {
            let cause = match name {
                "" => "is empty",
                "." | ".." => "is a directory of its own",
                _ if name.contains('/') => "contains `/`",
                // cargo joins the directory into LD_LIBRARY_PATH.
                _ if name.contains(':') => "contains `:`",
                _ if name.contains('=') => "contains `=`",
                _ if name.contains(char::is_control) => "contains a control character",
                // cargo panics; and two such names may look the same here.
                _ if name.contains(char::REPLACEMENT_CHARACTER) => "is not UTF-8",
                _ => continue,
            };
            return Err(NameError { name: name.into(), cause });
        }
        let cause = match made.as_str() {
            name if name.starts_with('.') => "starts with `.`",
            name if name.starts_with('-') => "starts with `-`",
            name if name.len() > NAME_MAX => "is longer than 255 bytes",
            name if CARGO_NAMES.contains(&name) => "is a name that cargo uses in a target directory",
            _ => return Ok(Self(made)),
        };
        Err(NameError { name: made, cause })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name that cannot be a user's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameError {
    name: String,
    cause: &'static str,
}

impl Display for NameError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no directory can be named `{}`, which {}; set name to a template that makes another, such as \
             name=user-%U",
            self.name, self.cause
        )
    }
}

/// What there is to provide for one user.
#[derive(Debug, Clone)]
pub struct Provision<'a> {
    /// What the directory is called.
    pub name: &'a DirName,
    /// Whose it must be.
    pub owner: Owner,
    /// The user's home directory, which it must not be.
    pub home: &'a Path,
    /// The mode of a new one.
    pub mode: DirMode,
    /// How far to go.
    pub purpose: Purpose,
}

/// How far a provision goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// What is missing is made.
    Provide,
    /// What is there is found, and nothing is made.
    Find,
    /// Nothing is made, and what would keep it from being made is found too.
    #[cfg(feature = "cli")]
    Explain,
}

/// How a user's directory was provided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provided {
    /// It was there, and in order.
    Found,
    /// It was made just now.
    Made,
    /// It is not there, and nothing may be created.
    Missing,
}

/// Why a user has no directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheDirError {
    /// It cannot be judged without waiting.
    WouldWait,
    /// This, which is no directory, has its name.
    NotADirectory(&'static str),
    /// It belongs to this uid.
    WrongOwner(u32),
    /// It has this mode, and others can write it.
    Writable(u32),
    /// It lies on a FUSE file system that this uid has mounted.
    MountedBy(u32),
    /// It is the user's home directory, or would be.
    Home,
    /// `.staging` is not a directory that only root can enter.
    UnsafeStaging,
    /// The user's uid or gid is the one that chown(2) takes for "leave it as it is".
    NoId,
    /// The file system made a new directory this uid's.
    NotGiven(u32),
    /// The file system gave a new directory another group or mode.
    NotKept,
    /// The root is sticky, on a file system where a rename would replace what another user put there.
    NoExclusiveRename,
    /// This could not be done.
    Failed(Step, Errno),
}

/// What can fail while a directory is provided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Opening what is there.
    Open,
    /// Opening or making `.staging`.
    Staging,
    /// Making and preparing the new directory.
    Make,
    /// Giving it its name.
    Publish,
    /// Finding it there afterwards.
    FindAgain,
}

impl CacheDirError {
    /// Whether the system failed, rather than somebody having put something in the way.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::WouldWait | Self::Failed(..) | Self::NotGiven(_) | Self::NotKept)
    }

    /// The sentence for the log: path, cause and remedy.
    pub(crate) fn describe(
        &self,
        root: &str,
        name: &DirName,
        uid: u32,
        f: &mut Formatter<'_>,
    ) -> fmt::Result {
        let path = format!("{root}/{}", name.as_str());
        let (in_shell, root_in_shell) = (ShellWord(&path), ShellWord(root));
        // A hidden name is nobody's.
        let hidden = format!("{root}/.{}.old", name.as_str());
        let hidden = ShellWord(&hidden);
        match self {
            Self::WouldWait => write!(
                f,
                "{path} lies on a file system that was not in the list of mounts a moment ago; log in again, and see \
                 that /proc is mounted"
            ),
            Self::NotADirectory(what) => {
                write!(f, "{path} is {what}, not a directory; move it away: mv -nT {in_shell} {hidden}")
            }
            Self::WrongOwner(owner) => write!(
                f,
                "{path} belongs to uid {owner}, not to uid {uid}: whoever owns it could plant build scripts; look \
                 into it, then move it away: mv -nT {in_shell} {hidden}"
            ),
            Self::Writable(mode) => write!(
                f,
                "{path} (mode {mode:04o}) is writable by group or others, who could plant build scripts; look into \
                 it, then run: setfacl -b {in_shell}; chmod go-w {in_shell}"
            ),
            Self::MountedBy(mounter) => write!(
                f,
                "{path} lies on a file system that uid {mounter} has mounted, whose owners and modes are what that \
                 user says; unmount it: umount {in_shell}"
            ),
            Self::Home => write!(
                f,
                "{path} is the user's home directory, by another path; set root to a directory that holds nothing else"
            ),
            Self::UnsafeStaging => write!(
                f,
                "{root}/{STAGING} is not a directory of root's that nobody else can enter; unmount it if it is a mount \
                 point, then move it away: mv -nT {0} {0}.old",
                ShellWord(&format!("{root}/{STAGING}"))
            ),
            Self::NoId => write!(
                f,
                "{path} cannot be given away: {} is not an id that anything can have; give the user another uid, or \
                 primary gid",
                u32::MAX
            ),
            Self::NotGiven(owner) => write!(
                f,
                "the file system of {root} made a directory for uid {uid} uid {owner}'s, as NFS with root_squash \
                 does; make users' directories on its server"
            ),
            Self::NotKept => write!(
                f,
                "the file system of {root} does not keep the group and the mode of a new directory; put the root on \
                 one that does"
            ),
            Self::NoExclusiveRename => write!(
                f,
                "{root} is sticky and its file system has no exclusive rename, so that anybody's directory could be \
                 replaced; run: chmod go-w {root_in_shell}"
            ),
            Self::Failed(step, errno) => {
                let doing = match step {
                    Step::Open => "open",
                    Step::Staging => "use .staging to make",
                    Step::Make => "make",
                    Step::Publish => "rename a new directory to",
                    Step::FindAgain => "find what was just made at",
                };
                write!(
                    f,
                    "cannot {doing} {path}: {}; see that its file system is in order and has space",
                    errno.desc()
                )
            }
        }
    }
}

impl Provision<'_> {
    /// Finds the user's directory in order, or makes it and gives it to the user: it appears complete or not
    /// at all. With [`Patience::Cached`], what is found in memory is all that can be provided: a block device,
    /// by which it is told from a remote file system, may have a process for a server too (ntfs-3g).
    pub fn run(&self, root: &SharedRoot, patience: Patience<'_>) -> Result<Provided, CacheDirError> {
        if let Some(found) = CacheDir::find(root, self, patience)? {
            match found.tag(patience)? {
                Tag::There => {}
                // A cache that has served before has its tag.
                Tag::Missing if self.is_home(root, Some(found.identity)) => return Err(CacheDirError::Home),
                tag if self.purpose == Purpose::Provide => found.put_back_tag(tag, self.owner),
                _ => {}
            }
            return Ok(Provided::Found);
        }
        if self.is_home(root, None) {
            return Err(CacheDirError::Home);
        }
        let nobodys = self.owner.uid == u32::MAX || self.owner.gid == u32::MAX;
        match self.purpose {
            Purpose::Find => return Ok(Provided::Missing),
            _ if nobodys => return Err(CacheDirError::NoId),
            Purpose::Provide => {}
            #[cfg(feature = "cli")]
            Purpose::Explain => return Staging::judge(root, patience).map(|()| Provided::Missing),
        }
        let Patience::Wait(_) = patience else { return Err(CacheDirError::WouldWait) };
        let published = self.make(root)?;
        // Of two logins at once the slower finds what the faster made; both judge what is there.
        match CacheDir::find(root, self, patience)? {
            Some(_) if published => Ok(Provided::Made),
            Some(_) => Ok(Provided::Found),
            None => Err(CacheDirError::Failed(Step::FindAgain, Errno::ENOENT)),
        }
    }

    /// Whether the user's home directory is what was found, or would be made in this root. Where its path leads
    /// through a symbolic link or another mount, the paths do not show it.
    ///
    /// Its file system may have a dead server and is not asked: the answer is as good as the kernel's caches, which
    /// know a home after any program has looked for something there. (`cargo-targetctl init` asks.)
    fn is_home(&self, root: &SharedRoot, found: Option<Identity>) -> bool {
        match (Identity::in_memory(self.home), self.home.parent()) {
            (Some(home), _) => found == Some(home),
            (None, Some(parent)) => Identity::in_memory(parent) == Some(root.identity()),
            (None, None) => false,
        }
    }

    /// Makes the directory; false if something has its name already.
    fn make(&self, root: &SharedRoot) -> Result<bool, CacheDirError> {
        let mut tries_left = MAKE_TRIES;
        loop {
            tries_left -= 1;
            match NewDir::make(&Staging::open(root)?, self).and_then(|new| new.publish(root, self.name)) {
                // Somebody's sweep took it for litter.
                Err(CacheDirError::Failed(_, Errno::ENOENT)) if tries_left > 0 => {}
                made => return made,
            }
        }
    }
}

/// A user's directory, open, that was found in order.
struct CacheDir {
    directory: OwnedFd,
    identity: Identity,
}

impl CacheDir {
    /// The user's directory if it is there and in order; nothing is changed.
    ///
    /// It must be a directory, the user's, and closed to the writing of others. It may be stricter than a new
    /// one would be, and a mount point.
    fn find(
        root: &SharedRoot,
        provision: &Provision<'_>,
        patience: Patience<'_>,
    ) -> Result<Option<Self>, CacheDirError> {
        let &Provision { name, owner, .. } = provision;
        let (directory, seen) = match root.look(name.as_str(), patience) {
            Ok(found) => found,
            Err(LookError::WouldWait) => return Err(CacheDirError::WouldWait),
            Err(LookError::Failed(Errno::ENOENT)) => return Ok(None),
            Err(LookError::Failed(Errno::ENOTDIR | Errno::ELOOP)) => {
                return Err(CacheDirError::NotADirectory(what_is(root, name)));
            }
            Err(LookError::MountedBy(uid)) => return Err(CacheDirError::MountedBy(uid)),
            Err(LookError::Failed(errno)) => return Err(CacheDirError::Failed(Step::Open, errno)),
        };
        if seen.uid != owner.uid {
            return Err(CacheDirError::WrongOwner(seen.uid));
        }
        if seen.mode & OTHERS_MAY_WRITE != 0 {
            return Err(CacheDirError::Writable(seen.mode));
        }
        Ok(Some(Self { directory, identity: seen.identity }))
    }

    /// Whether it has its tag. Whatever the user has by that name is one, to be left as it is.
    fn tag(&self, patience: Patience<'_>) -> Result<Tag, CacheDirError> {
        let look = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        if matches!(patience, Patience::Cached) {
            return match open_in_memory(&self.directory, TAG_NAME, look).map(ffi::stat_in_memory) {
                Ok(Ok(found)) if found.stx_uid != 0 => Ok(Tag::There),
                Err(LookError::Failed(errno)) if errno != Errno::ENOENT => Ok(Tag::There),
                _ => Err(CacheDirError::WouldWait),
            };
        }
        // Not by a mount that stands at its name: its server need not answer.
        Ok(match open_in_mount(&self.directory, TAG_NAME, look).and_then(fstat) {
            Err(Errno::ENOENT) => Tag::Missing,
            Ok(found)
                if kind(&found) == SFlag::S_IFREG
                    && found.st_uid == 0
                    && found.st_nlink == 1
                    && usize::try_from(found.st_size).is_ok_and(|size| size <= TAG.len()) =>
            {
                Tag::Unfinished
            }
            _ => Tag::There,
        })
    }

    /// Puts the tag back. Failing is no fault: the directory serves without.
    fn put_back_tag(&self, tag: Tag, owner: Owner) {
        if tag == Tag::Unfinished {
            let _ = unlinkat(&self.directory, TAG_NAME, UnlinkatFlags::NoRemoveDir);
        }
        let _ = write_tag(&self.directory, owner);
    }
}

/// A directory's tag, as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    There,
    Missing,
    /// A login died while it wrote it: nobody but root makes a file of root's in a private directory.
    Unfinished,
}

/// For the message alone: what stands in a directory's place.
fn what_is(root: &SharedRoot, name: &DirName) -> &'static str {
    match kind_in_memory(root, name.as_str()) {
        Ok(SFlag::S_IFLNK) => "a symbolic link",
        Ok(SFlag::S_IFREG) => "a file",
        Ok(SFlag::S_IFIFO) => "a FIFO",
        Ok(SFlag::S_IFSOCK) => "a socket",
        Ok(SFlag::S_IFBLK | SFlag::S_IFCHR) => "a device",
        _ => "something else",
    }
}

/// Writes the user's tag into a directory, or leaves none behind.
pub(crate) fn write_tag(directory: &OwnedFd, owner: Owner) -> nix::Result<()> {
    // A write beyond RLIMIT_FSIZE raises SIGXFSZ, which ends the login; a module earlier in the stack may
    // have set one for the user.
    if getrlimit(Resource::RLIMIT_FSIZE)?.0 < TAG.len() as u64 {
        return Err(Errno::EFBIG);
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let tag = openat(directory, TAG_NAME, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let fill = || {
        match write(&tag, TAG.as_bytes())? {
            written if written == TAG.len() => {}
            _ => return Err(Errno::ENOSPC),
        }
        for acl in ACLS {
            ffi::remove_attribute(&tag, acl)?;
        }
        // Given away last: until then it shows that it is not finished.
        fchmod(&tag, Mode::from_bits_truncate(0o644))?;
        fchown(&tag, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
    };
    fill().inspect_err(|_| {
        let _ = unlinkat(directory, TAG_NAME, UnlinkatFlags::NoRemoveDir);
    })
}

/// Whether a directory of this owner and mode lets anybody in but root.
pub(crate) fn others_can_enter(owner: u32, mode: u32) -> bool {
    owner != 0 || mode & 0o077 != 0
}

/// Sweeps `.staging` of what died in it, unless somebody is at work there.
#[cfg(feature = "cli")]
pub(crate) fn sweep(root: &SharedRoot) -> Result<(), CacheDirError> {
    Staging::open(root).map(drop)
}

/// `.staging`, open and locked against sweeping for as long as this lives.
struct Staging(OwnedFd);

impl Staging {
    fn open(root: &SharedRoot) -> Result<Self, CacheDirError> {
        let failed = |errno| CacheDirError::Failed(Step::Staging, errno);
        // On another file system it is nothing to rename from; and in a sticky root it may be somebody's FUSE
        // mount, which need not answer.
        let open = || open_in_mount(root, STAGING, DIRECTORY);
        let mut made = false;
        let opened = match open() {
            Err(Errno::ENOENT) => match mkdirat(root, STAGING, Mode::S_IRWXU) {
                Ok(()) => {
                    made = true;
                    open()
                }
                Err(Errno::EEXIST) => open(),
                Err(errno) => return Err(failed(errno)),
            },
            opened => opened,
        };
        let directory = match opened {
            Ok(directory) => directory,
            Err(Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => return Err(CacheDirError::UnsafeStaging),
            Err(errno) => return Err(failed(errno)),
        };
        let found = fstat(&directory).map_err(failed)?;
        if made && found.st_uid != 0 {
            // NFS with root_squash. Left behind, it would be in the way even when that is mended.
            let _ = unlinkat(root, STAGING, UnlinkatFlags::RemoveDir);
            return Err(CacheDirError::NotGiven(found.st_uid));
        }
        if others_can_enter(found.st_uid, found.st_mode) {
            return Err(CacheDirError::UnsafeStaging);
        }
        let staging = Self(directory);
        staging.lock();
        Ok(staging)
    }

    /// Whether what has the name would do; nothing is changed.
    #[cfg(feature = "cli")]
    fn judge(root: &SharedRoot, patience: Patience<'_>) -> Result<(), CacheDirError> {
        let Patience::Wait(_) = patience else { return Err(CacheDirError::WouldWait) };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match open_in_mount(root, STAGING, flags).and_then(fstat) {
            Ok(found) if !others_can_enter(found.st_uid, found.st_mode) => Ok(()),
            Ok(_) | Err(Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => Err(CacheDirError::UnsafeStaging),
            Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(CacheDirError::Failed(Step::Staging, errno)),
        }
    }

    /// Sweeps if nobody is at work here, then says that somebody is.
    ///
    /// Going on without the lock is harmless but for a missing tag, or a second try: what a sweeper takes for
    /// litter is never under a name that anyone uses.
    fn lock(&self) {
        if ffi::try_lock(&self.0, libc::LOCK_EX).is_ok() {
            self.sweep();
        }
        for _ in 0..LOCK_TRIES {
            match ffi::try_lock(&self.0, libc::LOCK_SH) {
                Err(Errno::EWOULDBLOCK) => thread::sleep(LOCK_PAUSE),
                _ => return,
            }
        }
    }

    /// Removes what logins left that died: one tag, one directory each, never deeper.
    fn sweep(&self) {
        let mut buffer = [0; 4096];
        let mut left = SWEEP;
        while let Ok(length @ 1..) = ffi::read_entries(&self.0, &mut buffer) {
            for name in names(buffer.get(..length).unwrap_or_default()) {
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                if left == 0 {
                    return;
                }
                left -= 1;
                if let Ok(litter) = openat(&self.0, name, DIRECTORY, Mode::empty()) {
                    let _ = unlinkat(&litter, TAG_NAME, UnlinkatFlags::NoRemoveDir);
                    let _ = unlinkat(&self.0, name, UnlinkatFlags::RemoveDir);
                }
            }
        }
    }
}

/// The names in `linux_dirent64` records (getdents(2)): inode and offset of 8 bytes each, the record's
/// length in 2, the type in 1, then the name.
fn names(mut records: &[u8]) -> impl Iterator<Item = &CStr> {
    iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes([*records.get(16)?, *records.get(17)?]));
        let name = CStr::from_bytes_until_nul(records.get(19..length)?).ok()?;
        records = records.get(length..)?;
        Some(name)
    })
}

/// A directory in the making. Dropped before it is published, it is gone.
struct NewDir<'a> {
    staging: &'a Staging,
    name: [u8; 16],
    directory: OwnedFd,
    published: bool,
}

impl<'a> NewDir<'a> {
    /// Makes a directory with its tag, and gives it to the user.
    fn make(staging: &'a Staging, provision: &Provision<'_>) -> Result<Self, CacheDirError> {
        let &Provision { owner, mode, .. } = provision;
        let failed = |errno| CacheDirError::Failed(Step::Make, errno);
        let name = unguessable().map_err(failed)?;
        mkdirat(&staging.0, &name[..], Mode::S_IRWXU).map_err(failed)?;
        let directory = openat(&staging.0, &name[..], DIRECTORY, Mode::empty()).map_err(|errno| {
            let _ = unlinkat(&staging.0, &name[..], UnlinkatFlags::RemoveDir);
            failed(errno)
        })?;
        let new = Self { staging, name, directory, published: false };
        match new.give_to(owner, mode) {
            Ok(stat)
                if (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777)
                    == (owner.uid, owner.gid, mode.bits()) =>
            {
                Ok(new)
            }
            Ok(stat) if stat.st_uid == owner.uid => Err(CacheDirError::NotKept),
            // NFS with root_squash made it nobody's, and fails with EPERM or keeps it so.
            Ok(stat) => Err(CacheDirError::NotGiven(stat.st_uid)),
            Err(errno) => match fstat(&new.directory) {
                Ok(stat) if errno == Errno::EPERM && stat.st_uid != 0 => {
                    Err(CacheDirError::NotGiven(stat.st_uid))
                }
                _ => Err(failed(errno)),
            },
        }
    }

    /// Makes it the user's, with what was inherited from the parent undone: ACLs, setgid, umask. Answers
    /// with what the file system made of it.
    fn give_to(&self, owner: Owner, mode: DirMode) -> nix::Result<FileStat> {
        for acl in ACLS {
            ffi::remove_attribute(&self.directory, acl)?;
        }
        // A full disk can refuse the tag and yet have taken the directory, which serves without.
        let _ = write_tag(&self.directory, owner);
        fchown(&self.directory, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
        fchmod(&self.directory, Mode::from_bits_truncate(mode.bits()))?;
        fstat(&self.directory)
    }

    /// Renames it to its name, never over anything; false if something has the name already.
    fn publish(mut self, root: &SharedRoot, name: &DirName) -> Result<bool, CacheDirError> {
        let (from, to) = (&self.name[..], name.as_str());
        let exclusive = renameat2(&self.staging.0, from, root, to, RenameFlags::RENAME_NOREPLACE);
        let renamed = match exclusive {
            // The file system, or the kernel, has no exclusive rename. Where root alone can write the root,
            // all that a plain one could replace is this user's own empty directory.
            Err(Errno::EINVAL | Errno::ENOSYS) if root.only_root_writes() => {
                renameat(&self.staging.0, from, root, to)
            }
            Err(Errno::EINVAL | Errno::ENOSYS) => return Err(CacheDirError::NoExclusiveRename),
            renamed => renamed,
        };
        match renamed {
            Ok(()) => {
                self.published = true;
                Ok(true)
            }
            Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => Ok(false),
            Err(errno) => Err(CacheDirError::Failed(Step::Publish, errno)),
        }
    }
}

impl Drop for NewDir<'_> {
    fn drop(&mut self) {
        if !self.published {
            let _ = unlinkat(&self.directory, TAG_NAME, UnlinkatFlags::NoRemoveDir);
            let _ = unlinkat(&self.staging.0, &self.name[..], UnlinkatFlags::RemoveDir);
        }
    }
}

/// What a directory is called while it is made: 16 hexadecimal digits from the system's random source.
fn unguessable() -> nix::Result<[u8; 16]> {
    let mut left = ffi::random()?;
    Ok([(); 16].map(|()| {
        let digit = (left % 16) as u8;
        left /= 16;
        if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops and says so")]
mod tests {
    use super::*;

    fn cause(user: &str, made: &str) -> Option<&'static str> {
        DirName::new(user, made.into()).err().map(|error| error.cause)
    }

    #[test]
    fn name_is_one_plain_component_or_refused() {
        let long = "l".repeat(255);
        for good in [
            "alice",
            "a b",
            "a.b",
            "a..",
            "DOM\\jo",
            "größe",
            "%u",
            "~",
            "*",
            "#x",
            "alice@host",
            "Debug",
            "debug2",
            "CACHEDIR.TAG2",
            "'",
            "\u{a0}",
            &long,
        ] {
            assert_eq!(DirName::new(good, good.into()).unwrap().as_str(), good);
        }
        let too_long = "l".repeat(256);
        let too_wide = "é".repeat(128);
        for (bad, why) in [
            ("", "is empty"),
            (".", "is a directory of its own"),
            ("..", "is a directory of its own"),
            ("/", "contains `/`"),
            ("../x", "contains `/`"),
            ("a/b", "contains `/`"),
            ("a:b", "contains `:`"),
            ("A=b", "contains `=`"),
            ("a\0b", "contains a control character"),
            ("a\nb", "contains a control character"),
            ("a\u{85}", "contains a control character"),
            ("a\u{fffd}", "is not UTF-8"),
            (".hid", "starts with `.`"),
            ("...", "starts with `.`"),
            (STAGING, "starts with `.`"),
            ("-rf", "starts with `-`"),
            (&too_long, "is longer than 255 bytes"),
            (&too_wide, "is longer than 255 bytes"),
        ] {
            assert_eq!(cause(bad, bad), Some(why), "{bad:?}");
        }
        for name in CARGO_NAMES {
            assert_eq!(cause(name, name), Some("is a name that cargo uses in a target directory"));
        }
    }

    /// The user's name must be sound too, whatever is made of it; but a template may mend what only the
    /// directory must not be.
    #[test]
    fn template_mends_only_what_is_the_directorys() {
        for user in ["debug", ".hid", "-rf"] {
            assert_eq!(cause(user, &format!("user-{user}")), None, "{user}");
        }
        for user in ["..", "a/b", "a:b", "a\nb", "a\u{fffd}", ""] {
            assert!(cause(user, "2001").is_some(), "{user:?}");
        }
        assert_eq!(cause("alice", "a/b"), Some("contains `/`"));
    }

    #[test]
    fn tag_is_the_one_that_cargo_writes() {
        assert_eq!(TAG.len(), 177);
        assert!(TAG.starts_with("Signature: 8a477f597d28d172789f06886806bc55\n") && TAG.ends_with('\n'));
    }

    #[test]
    fn staging_names_differ_each_time() {
        let names: std::collections::BTreeSet<_> = (0..1000).map(|_| unguessable().unwrap()).collect();
        assert_eq!(names.len(), 1000);
        assert!(names.iter().flatten().all(u8::is_ascii_hexdigit));
        // All sixteen digits of the name are random.
        assert!((0..16).all(|at| names.iter().any(|name| name.get(at) != names.first().unwrap().get(at))));
    }
}
