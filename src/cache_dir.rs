//! One user's directory beneath the shared root: judged where it is there, made and published where not.
//!
//! What is there is never changed, only accepted or refused. What is missing is made in `.staging`, which
//! is root's alone, under a name nobody can guess, and renamed into place when it is complete: no other
//! user can reach it before, and a crash leaves only litter that the next provisioning sweeps. A
//! [`CacheDir`] can only be had by having been judged.

use std::fmt::{self, Display, Formatter};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat, renameat2};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat, write};

use crate::config::DirMode;
use crate::ffi;
use crate::shared_root::{OTHERS_MAY_WRITE, SharedRoot, kind};

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
const CARGO_NAMES: [&str; 7] = ["debug", "release", "doc", "tmp", "package", "build", TAG_NAME];

/// How often, and how long apart, the staging lock is tried while another login sweeps. Waiting without
/// end would let whoever stops a `su` in mid-sweep stop every first login.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// POSIX ACLs that a directory inherits, and that `fchmod` leaves in place.
const ACLS: [&std::ffi::CStr; 2] = [c"system.posix_acl_access", c"system.posix_acl_default"];

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

/// A user's directory, open, that was found in order or was just made.
#[derive(Debug)]
pub struct CacheDir {
    directory: OwnedFd,
    path: String,
}

/// Why a user has no directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheDirError {
    /// Something that is no directory has its name.
    NotADirectory {
        /// The path.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// It belongs to somebody else.
    WrongOwner {
        /// The path.
        path: String,
        /// The owner.
        uid: u32,
        /// Who should be.
        expected: u32,
    },
    /// Others can write it.
    Writable {
        /// The path.
        path: String,
        /// The mode.
        mode: u32,
    },
    /// `.staging` is not a directory that only root can enter.
    UnsafeStaging {
        /// The path.
        path: String,
    },
    /// The file system did not give the new directory to the user.
    NotGiven {
        /// The path of the root.
        root: String,
        /// Whose it is instead.
        uid: u32,
        /// Who should be.
        expected: u32,
    },
    /// A sticky root on a file system where a rename would replace what another user put there.
    NoExclusiveRename {
        /// The path of the root.
        root: String,
    },
    /// A system call failed.
    Failed {
        /// What was tried, with the path.
        doing: String,
        /// The cause.
        errno: Errno,
    },
}

impl CacheDirError {
    /// Whether the system failed, rather than somebody having put something in the way.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::NotGiven { .. })
    }

    fn failed(doing: impl Into<String>) -> impl FnOnce(Errno) -> Self {
        |errno| Self::Failed { doing: doing.into(), errno }
    }
}

impl Display for CacheDirError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotADirectory { path, what } => {
                write!(f, "{path} is {what}, not a directory; move it away: mv {0} {0}.old", ShellWord(path))
            }
            Self::WrongOwner { path, uid, expected } => write!(
                f,
                "{path} belongs to uid {uid}, not to uid {expected}: whoever owns it could plant build scripts; \
                 look into it, then move it away: mv {0} {0}.old",
                ShellWord(path)
            ),
            Self::Writable { path, mode } => write!(
                f,
                "{path} (mode {mode:04o}) is writable by group or others, who could plant build scripts; \
                 look into it, then run: setfacl -b {0}; chmod go-w {0}",
                ShellWord(path)
            ),
            Self::UnsafeStaging { path } => {
                write!(
                    f,
                    "{path} is not a directory of root's that nobody else can enter; remove it: rm -r {path}"
                )
            }
            Self::NotGiven { root, uid, expected } => write!(
                f,
                "{root} is on a file system that made a directory for uid {expected} uid {uid}'s (NFS with \
                 root_squash does); make users' directories on its server"
            ),
            Self::NoExclusiveRename { root } => write!(
                f,
                "{root} is sticky and its file system has no exclusive rename, so that anybody's directory could \
                 be replaced; run: chmod go-w {root}"
            ),
            Self::Failed { doing, errno } => write!(
                f,
                "cannot {doing}: {}; see that the file system is in order and has space",
                errno.desc()
            ),
        }
    }
}

/// A path in a command that somebody may paste into a root shell: user names come from directory services.
struct ShellWord<'a>(&'a str);

impl Display for ShellWord<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plain =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | '@' | ',');
        if self.0.chars().all(plain) {
            f.write_str(self.0)
        } else {
            write!(f, "'{}'", self.0.replace('\'', r"'\''"))
        }
    }
}

impl CacheDir {
    /// The user's directory if it is there and in order; nothing is changed.
    ///
    /// It must be a directory, the user's, and closed to the writing of others. It may be a mount point,
    /// and stricter than a new one would be.
    pub fn find(root: &SharedRoot, name: &DirName, owner: Owner) -> Result<Option<Self>, CacheDirError> {
        let path = format!("{}/{}", root.path(), name.as_str());
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = match openat(root, name.as_str(), flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                return Err(CacheDirError::NotADirectory { what: what_is(root, name.as_str()), path });
            }
            Err(errno) => return Err(CacheDirError::Failed { doing: format!("open {path}"), errno }),
        };
        let found = fstat(&directory).map_err(CacheDirError::failed(format!("look at {path}")))?;
        if found.st_uid != owner.uid {
            return Err(CacheDirError::WrongOwner { path, uid: found.st_uid, expected: owner.uid });
        }
        if found.st_mode & OTHERS_MAY_WRITE != 0 {
            return Err(CacheDirError::Writable { path, mode: found.st_mode & 0o7777 });
        }
        Ok(Some(Self { directory, path }))
    }

    /// The user's directory, and whether it was made just now: what is missing is made and given to the
    /// user, and appears complete or not at all.
    pub fn provision(
        root: &SharedRoot,
        name: &DirName,
        owner: Owner,
        mode: DirMode,
    ) -> Result<(Self, bool), CacheDirError> {
        if let Some(found) = Self::find(root, name, owner)? {
            return Ok((found, false));
        }
        let published = NewDir::make(&Staging::open(root)?, root, owner, mode)?.publish(root, name)?;
        // Of two logins at once the slower finds what the faster made; both judge what is there.
        let found = Self::find(root, name, owner)?.ok_or_else(|| CacheDirError::Failed {
            doing: format!("find {}/{}, made a moment ago", root.path(), name.as_str()),
            errno: Errno::ENOENT,
        })?;
        Ok((found, published))
    }

    /// Puts the tag back where it is missing. Whatever has its name is left as it is, and failing is no
    /// fault: the directory serves without.
    pub fn put_back_tag(&self, owner: Owner) {
        if fstatat(&self.directory, TAG_NAME, AtFlags::AT_SYMLINK_NOFOLLOW) == Err(Errno::ENOENT) {
            let _ = write_tag(&self.directory, owner);
        }
    }

    /// The absolute path, for the environment.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// For the message alone: what stands in a directory's place.
fn what_is(root: &SharedRoot, name: &str) -> &'static str {
    match fstatat(root, name, AtFlags::AT_SYMLINK_NOFOLLOW).map(|found| kind(&found)) {
        Ok(SFlag::S_IFLNK) => "a symbolic link",
        Ok(SFlag::S_IFREG) => "a file",
        Ok(SFlag::S_IFIFO) => "a FIFO",
        Ok(SFlag::S_IFSOCK) => "a socket",
        Ok(SFlag::S_IFBLK | SFlag::S_IFCHR) => "a device",
        _ => "something else",
    }
}

/// Writes the user's tag into a directory, or leaves none behind.
fn write_tag(directory: &OwnedFd, owner: Owner) -> nix::Result<()> {
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
        fchown(&tag, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
        fchmod(&tag, Mode::from_bits_truncate(0o644))
    };
    fill().inspect_err(|_| {
        let _ = unlinkat(directory, TAG_NAME, UnlinkatFlags::NoRemoveDir);
    })
}

/// `.staging`, open and locked against sweeping for as long as this lives.
struct Staging {
    directory: OwnedFd,
    path: String,
}

impl Staging {
    fn open(root: &SharedRoot) -> Result<Self, CacheDirError> {
        let path = format!("{}/{STAGING}", root.path());
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let open = || openat(root, STAGING, flags, Mode::empty());
        let directory = match open() {
            Err(Errno::ENOENT) => match mkdirat(root, STAGING, Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => open(),
                Err(errno) => return Err(CacheDirError::Failed { doing: format!("create {path}"), errno }),
            },
            opened => opened,
        };
        let directory = match directory {
            Ok(directory) => directory,
            Err(Errno::ENOTDIR | Errno::ELOOP) => return Err(CacheDirError::UnsafeStaging { path }),
            Err(errno) => return Err(CacheDirError::Failed { doing: format!("open {path}"), errno }),
        };
        let found = fstat(&directory).map_err(CacheDirError::failed(format!("look at {path}")))?;
        if found.st_uid != 0 || found.st_mode & 0o077 != 0 {
            return Err(CacheDirError::UnsafeStaging { path });
        }
        let staging = Self { directory, path };
        staging.lock();
        Ok(staging)
    }

    /// Sweeps if nobody is at work here, then says that somebody is.
    ///
    /// Going on without the lock is harmless but for a missing tag, or a rename that fails: what a sweeper
    /// takes for litter is never under a name that anyone uses.
    fn lock(&self) {
        if ffi::try_lock(&self.directory, libc::LOCK_EX).is_ok() {
            self.sweep();
        }
        for _ in 0..LOCK_TRIES {
            match ffi::try_lock(&self.directory, libc::LOCK_SH) {
                Err(Errno::EWOULDBLOCK) => thread::sleep(LOCK_PAUSE),
                _ => return,
            }
        }
    }

    /// Removes what logins left that died: one tag, one directory each, never deeper.
    fn sweep(&self) {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let Ok(mut entries) = Dir::openat(&self.directory, ".", flags, Mode::empty()) else { return };
        for entry in entries.iter().flatten() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if let Ok(litter) = openat(&self.directory, name, flags, Mode::empty()) {
                let _ = unlinkat(&litter, TAG_NAME, UnlinkatFlags::NoRemoveDir);
                let _ = unlinkat(&self.directory, name, UnlinkatFlags::RemoveDir);
            }
        }
    }
}

/// A directory in the making. Dropped before it is published, it is gone.
struct NewDir<'a> {
    staging: &'a Staging,
    name: String,
    directory: OwnedFd,
    published: bool,
}

impl<'a> NewDir<'a> {
    /// Makes a directory with its tag, and gives it to the user.
    fn make(
        staging: &'a Staging,
        root: &SharedRoot,
        owner: Owner,
        mode: DirMode,
    ) -> Result<Self, CacheDirError> {
        let failed = || CacheDirError::failed(format!("create a directory in {}", staging.path));
        let name = unguessable();
        mkdirat(&staging.directory, name.as_str(), Mode::S_IRWXU).map_err(failed())?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = openat(&staging.directory, name.as_str(), flags, Mode::empty()).map_err(|errno| {
            let _ = unlinkat(&staging.directory, name.as_str(), UnlinkatFlags::RemoveDir);
            failed()(errno)
        })?;
        let new = Self { staging, name, directory, published: false };
        let not_given = |uid| CacheDirError::NotGiven { root: root.path().into(), uid, expected: owner.uid };
        match new.give_to(owner, mode) {
            Ok(stat)
                if (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777)
                    == (owner.uid, owner.gid, mode.bits()) =>
            {
                Ok(new)
            }
            // NFS with root_squash made it nobody's, and fails with EPERM or keeps it so.
            Ok(stat) => Err(not_given(stat.st_uid)),
            Err(Errno::EPERM) => Err(not_given(fstat(&new.directory).map_err(failed())?.st_uid)),
            Err(errno) => Err(failed()(errno)),
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
        let (from, to) = (self.name.as_str(), name.as_str());
        let exclusive = renameat2(&self.staging.directory, from, root, to, RenameFlags::RENAME_NOREPLACE);
        let renamed = match exclusive {
            // The file system, or the kernel, has no exclusive rename. Where root alone can write the root,
            // all that a plain one could replace is this user's own empty directory.
            Err(Errno::EINVAL | Errno::ENOSYS) if root.only_root_writes() => {
                renameat(&self.staging.directory, from, root, to)
            }
            Err(Errno::EINVAL | Errno::ENOSYS) => {
                return Err(CacheDirError::NoExclusiveRename { root: root.path().into() });
            }
            renamed => renamed,
        };
        match renamed {
            Ok(()) => {
                self.published = true;
                Ok(true)
            }
            Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => Ok(false),
            Err(errno) => {
                let doing = format!("rename a directory from {} to {}/{to}", self.staging.path, root.path());
                Err(CacheDirError::Failed { doing, errno })
            }
        }
    }
}

impl Drop for NewDir<'_> {
    fn drop(&mut self) {
        if !self.published {
            let _ = unlinkat(&self.directory, TAG_NAME, UnlinkatFlags::NoRemoveDir);
            let _ = unlinkat(&self.staging.directory, self.name.as_str(), UnlinkatFlags::RemoveDir);
        }
    }
}

/// A name from the system's random source, by way of the seed of std's hash tables; the pid keeps two
/// children of one fork apart.
fn unguessable() -> String {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    format!("{:016x}", hasher.finish())
}
