//! Walking, as root, a tree that others wrote and may be writing still.
//!
//! Everything is reached by a descriptor of the directory that holds it and a name of one component. No
//! symbolic link is followed and no mount point crossed, so that whatever is swapped while the walk goes on,
//! it stays in the tree it was started in. A directory is told to the [`Visit`] before it is read: one who
//! takes it over there finds in it only what nobody else can change any more.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt::{self, Display, Formatter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::Mode;
use nix::sys::time::TimeSpec;

use crate::ffi;

/// Two keep a disk's queue and two processors busy; more contend for the same directories' locks.
const THREADS: usize = 2;

/// How many names of one directory a thread hands over at a time to one that has nothing left.
const BATCH: usize = 32;

/// No build is nested so deeply. A path of that many directories could exhaust the descriptors.
const MAX_DEPTH: usize = 200;

/// What statx(2) tells of files whose owner cannot be changed.
#[allow(clippy::cast_sign_loss, reason = "bits")]
const FIXED: u64 = (libc::STATX_ATTR_IMMUTABLE | libc::STATX_ATTR_APPEND) as u64;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
    Symlink,
    /// A device, a FIFO or a socket.
    Special,
}

/// What statx(2) says of a name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) kind: Kind,
    /// Permissions, with the set-id and sticky bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) links: u32,
    pub(crate) inode: u64,
    pub(crate) device: (u32, u32),
    pub(crate) size: u64,
    /// What it takes on the disk, in bytes.
    pub(crate) allocated: u64,
    pub(crate) accessed: (i64, u32),
    pub(crate) modified: (i64, u32),
    pub(crate) changed: (i64, u32),
    /// When it was made; zeros where the file system does not say.
    pub(crate) born: (i64, u32),
    /// Whether it is immutable, or can only be appended to (chattr(1)).
    pub(crate) is_fixed: bool,
    /// Which mount it was found on; 0 where the kernel does not say (before Linux 5.8).
    pub(crate) mount: u64,
}

/// What makes a file or a directory this one, by whatever path it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Identity {
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
    /// Inode numbers are given anew; a moment is not.
    pub(crate) born: (i64, u32),
}

impl Seen {
    /// Looks at a name, or with an empty one at the descriptor itself.
    pub(crate) fn at(directory: impl AsFd, name: &CStr) -> nix::Result<Self> {
        let found = ffi::stat_at(directory, name)?;
        let mode = u32::from(found.stx_mode);
        let time = |at: libc::statx_timestamp| (at.tv_sec, at.tv_nsec);
        Ok(Self {
            kind: match mode & libc::S_IFMT {
                libc::S_IFDIR => Kind::Directory,
                libc::S_IFREG => Kind::File,
                libc::S_IFLNK => Kind::Symlink,
                _ => Kind::Special,
            },
            mode: mode & 0o7777,
            uid: found.stx_uid,
            gid: found.stx_gid,
            links: found.stx_nlink,
            inode: found.stx_ino,
            device: (found.stx_dev_major, found.stx_dev_minor),
            size: found.stx_size,
            allocated: found.stx_blocks * 512,
            accessed: time(found.stx_atime),
            modified: time(found.stx_mtime),
            changed: time(found.stx_ctime),
            born: time(found.stx_btime),
            is_fixed: found.stx_attributes & FIXED != 0,
            mount: found.stx_mnt_id,
        })
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity { device: self.device, inode: self.inode, born: self.born }
    }

    pub(crate) fn of(file: impl AsFd) -> nix::Result<Self> {
        Self::at(file, c"")
    }
}

/// The tree is not all on one mount of one file system.
#[derive(Debug)]
pub(crate) struct Mounted;

impl Display for Mounted {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("something is mounted there, or a subvolume begins; unmount it, or move it away")
    }
}

impl std::error::Error for Mounted {}

/// A time as the calls that set one want it.
pub(crate) fn time_spec((seconds, nanoseconds): (i64, u32)) -> TimeSpec {
    TimeSpec::new(seconds, nanoseconds.into())
}

/// A directory of the walk, open.
pub(crate) struct Directory<S> {
    fd: OwnedFd,
    name: CString,
    parent: Option<Arc<Self>>,
    depth: usize,
    /// What it was when it was opened.
    pub(crate) seen: Seen,
    /// What the [`Visit`] keeps about it.
    pub(crate) state: S,
}

impl<S> AsFd for Directory<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<S> Directory<S> {
    /// Its name in its parent; empty for the top.
    pub(crate) fn name(&self) -> &CStr {
        &self.name
    }

    pub(crate) fn parent(&self) -> Option<&Self> {
        self.parent.as_deref()
    }

    pub(crate) fn is_top(&self) -> bool {
        self.parent.is_none()
    }

    /// The way from the top; for people, and for what is written down: nothing is opened by it.
    pub(crate) fn path(&self) -> PathBuf {
        let mut path = self.parent.as_ref().map(|parent| parent.path()).unwrap_or_default();
        if !self.name.is_empty() {
            path.push(os(&self.name));
        }
        path
    }

    pub(crate) fn path_of(&self, name: &CStr) -> PathBuf {
        self.path().join(os(name))
    }
}

/// A name as the standard library has it.
pub(crate) fn os(name: &CStr) -> &OsStr {
    OsStr::from_bytes(name.to_bytes())
}

/// A directory that was opened and not read yet.
pub(crate) struct Opened<'a, S> {
    pub(crate) fd: BorrowedFd<'a>,
    /// Its name in its parent; empty for the top.
    pub(crate) name: &'a CStr,
    /// What it is; whoever changes it tells here.
    pub(crate) seen: &'a mut Seen,
    pub(crate) parent: Option<&'a Directory<S>>,
}

/// What is done on a walk. Calls come from several threads, for entries of one directory too.
pub(crate) trait Visit: Sync {
    /// What is kept about a directory until everything below it was visited.
    type State: Send + Sync;

    /// A directory was opened and not read yet.
    fn enter(&self, opened: Opened<'_, Self::State>) -> anyhow::Result<Self::State>;

    /// Whether a directory is wanted at all, with everything in it.
    fn wants(&self, _seen: &Seen) -> bool {
        true
    }

    /// Whether the directory's other entries are wanted, not only the directories in it.
    fn wants_entries(&self, _directory: &Directory<Self::State>) -> bool {
        true
    }

    /// Whether a name is part of the tree at all.
    fn admits(&self, _directory: &Directory<Self::State>, _name: &CStr) -> bool {
        true
    }

    /// Something that is no directory.
    fn entry(&self, directory: &Directory<Self::State>, name: &CStr, seen: &Seen) -> anyhow::Result<()>;

    /// All of a directory's names were told, everything below was left, and then this.
    fn leave(&self, _directory: &Directory<Self::State>) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Opens a directory in another: no link, no mount point, nothing above.
pub(crate) fn open_directory(parent: impl AsFd, name: &CStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat2(parent, name, how(flags))
}

/// The directories from an open one up to `/`: itself first. They are found by `..`, so that no name of any of
/// them counts.
pub(crate) fn ancestors(directory: impl AsFd) -> anyhow::Result<Vec<Seen>> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut seen = Seen::of(&directory)?;
    let mut found = vec![seen];
    let mut above = openat(&directory, "..", flags, Mode::empty())?;
    loop {
        let next = Seen::of(&above)?;
        if (next.identity(), next.mount) == (seen.identity(), seen.mount) {
            return Ok(found);
        }
        seen = next;
        found.push(seen);
        above = openat(&above, "..", flags, Mode::empty())?;
    }
}

/// Opens a file to read it: no link, no mount point, and without waiting, for the other end of a FIFO or for one who has
/// a lease (`EWOULDBLOCK`; from then on the kernel gives them `fs.lease-break-time` to give it up).
pub(crate) fn open_file(parent: impl AsFd, name: &CStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    openat2(parent, name, how(flags))
}

fn how(flags: OFlag) -> OpenHow {
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_XDEV
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    OpenHow::new().flags(flags).resolve(resolve)
}

/// Calls for every name in a directory, `.` and `..` aside, with the type byte of its record, until it says
/// that it has seen enough.
pub(crate) fn each_name(
    directory: impl AsFd,
    mut tell: impl FnMut(&CStr, u8) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let length = ffi::read_entries(&directory, &mut buffer)?;
        let mut records = buffer.get(..length).unwrap_or_default();
        if records.is_empty() {
            return Ok(());
        }
        // linux_dirent64, getdents(2): inode and offset of 8 bytes each, the record's length in 2, the type
        // in 1, then the name.
        while let Some(&[low, high]) = records.get(16..18) {
            let length = usize::from(u16::from_ne_bytes([low, high]));
            let (record, rest) =
                records.split_at_checked(length).context("a directory's record is cut off")?;
            records = rest;
            let name = CStr::from_bytes_until_nul(record.get(19..).unwrap_or_default())?;
            let kind = record.get(18).copied().unwrap_or(libc::DT_UNKNOWN);
            if !matches!(name.to_bytes(), b"." | b"..") && !tell(name, kind)? {
                return Ok(());
            }
        }
    }
}

/// Whether there is nothing in a directory but, perhaps, names that may be there.
pub(crate) fn is_empty_but_for(directory: impl AsFd, allowed: &[&CStr]) -> anyhow::Result<bool> {
    let mut empty = true;
    each_name(directory, |name, _| {
        empty = allowed.contains(&name);
        Ok(empty)
    })?;
    Ok(empty)
}

/// Walks a tree from its open top, and gives the visit back what it is owed: each directory is entered
/// before what is in it, and left after.
pub(crate) fn walk<V: Visit>(top: impl AsFd, shown_as: &str, visit: &V) -> anyhow::Result<()> {
    // Opened anew: a descriptor that was read to its end would show an empty directory.
    let top = open_directory(top, c".")?;
    let seen = Seen::of(&top)?;
    let walk = Walk {
        visit,
        shown_as,
        mount: seen.mount,
        device: seen.device,
        queue: Mutex::new(Queue { waiting: Vec::new(), is_done: false, failed: None }),
        changed: Condvar::new(),
        idle: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
    };
    let mut own = Vec::new();
    walk.process(top, CString::default(), None, &mut own)?;
    walk.queue().waiting.append(&mut own);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| walk.work());
        }
    });
    let queue = walk.queue.into_inner().unwrap_or_else(PoisonError::into_inner);
    queue.failed.map_or(Ok(()), Err)
}

struct Walk<'a, V: Visit> {
    visit: &'a V,
    shown_as: &'a str,
    mount: u64,
    device: (u32, u32),
    /// What a thread that has nothing left may take.
    queue: Mutex<Queue<V::State>>,
    changed: Condvar,
    /// How many threads have nothing left. It changes while the queue is locked.
    idle: AtomicUsize,
    failed: AtomicBool,
}

struct Queue<S> {
    waiting: Vec<Task<S>>,
    is_done: bool,
    failed: Option<anyhow::Error>,
}

/// What is still to be visited in a directory.
struct Task<S> {
    within: Arc<Directory<S>>,
    what: What,
}

enum What {
    Directory(CString),
    Entries(Vec<CString>),
}

impl<V: Visit> Walk<'_, V> {
    fn queue(&self) -> MutexGuard<'_, Queue<V::State>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each thread has its own tasks, of which it takes the last first, so that few directories are open at a
    /// time; it shares them only with one that has none, since threads that queue for a lock sleep and do not
    /// work.
    fn work(&self) {
        let mut own = Vec::new();
        while let Some(Task { within, what }) = own.pop().or_else(|| self.take(&mut own)) {
            let done = match what {
                What::Directory(name) => self.directory(&within, &name, &mut own),
                What::Entries(names) => names.iter().try_for_each(|name| self.entry(&within, name, &mut own)),
            };
            // It is held no longer than until it can be left.
            let left = self.leave(within);
            if let Err(error) = done.and(left) {
                self.failed.store(true, Ordering::Relaxed);
                self.queue().failed.get_or_insert(error);
            }
            if self.failed.load(Ordering::Relaxed) {
                own.clear();
            }
            if own.len() > 1 && self.is_wanting() {
                let rest = own.split_off(own.len() / 2);
                self.share(std::mem::replace(&mut own, rest));
            }
        }
    }

    /// Whether a thread has nothing left.
    fn is_wanting(&self) -> bool {
        self.idle.load(Ordering::Relaxed) > 0
    }

    fn share(&self, tasks: Vec<Task<V::State>>) {
        self.queue().waiting.extend(tasks);
        self.changed.notify_one();
    }

    /// Takes a part of what is shared; none if all is done.
    fn take(&self, own: &mut Vec<Task<V::State>>) -> Option<Task<V::State>> {
        let mut queue = self.queue();
        self.idle.fetch_add(1, Ordering::Relaxed);
        loop {
            if self.failed.load(Ordering::Relaxed) {
                queue.waiting.clear();
            }
            if !queue.waiting.is_empty() {
                let half = queue.waiting.len() / 2;
                *own = queue.waiting.split_off(half);
                self.idle.fetch_sub(1, Ordering::Relaxed);
                return own.pop();
            }
            if queue.is_done || self.idle.load(Ordering::Relaxed) == THREADS {
                queue.is_done = true;
                self.changed.notify_all();
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn show(&self, path: &std::path::Path) -> String {
        let mut shown = OsString::from(self.shown_as);
        if !path.as_os_str().is_empty() {
            shown.push("/");
            shown.push(path);
        }
        shown.to_string_lossy().into_owned()
    }

    /// Opens a directory that was seen in another, and goes through it.
    fn directory(
        &self,
        parent: &Arc<Directory<V::State>>,
        name: &CStr,
        own: &mut Vec<Task<V::State>>,
    ) -> anyhow::Result<()> {
        let at = || self.show(&parent.path_of(name));
        match open_directory(parent, name) {
            Ok(fd) => self.process(fd, name.to_owned(), Some(Arc::clone(parent)), own),
            // Somebody is at work here still, where a directory was not taken over.
            Err(Errno::ENOENT) => Ok(()),
            // It was none any more, or never one: the type in a record may be old.
            Err(Errno::ENOTDIR | Errno::ELOOP) => self.entry(parent, name, own),
            Err(Errno::EXDEV) => Err(Mounted.into()),
            Err(errno) => Err(anyhow!("cannot open it: {}", errno.desc())),
        }
        .with_context(at)
    }

    fn process(
        &self,
        fd: OwnedFd,
        name: CString,
        parent: Option<Arc<Directory<V::State>>>,
        own: &mut Vec<Task<V::State>>,
    ) -> anyhow::Result<()> {
        let depth = parent.as_ref().map_or(0, |parent| parent.depth + 1);
        if depth > MAX_DEPTH {
            bail!("directories are nested more than {MAX_DEPTH} deep");
        }
        let mut seen = Seen::of(&fd)?;
        self.same_mount(&seen)?;
        if !self.visit.wants(&seen) {
            return Ok(());
        }
        let opened = Opened { fd: fd.as_fd(), name: &name, seen: &mut seen, parent: parent.as_deref() };
        let state = self.visit.enter(opened)?;
        let directory = Arc::new(Directory { fd, name, parent, depth, seen, state });
        let wants_entries = self.visit.wants_entries(&directory);
        let task = |what| Task { within: Arc::clone(&directory), what };
        let mut batch = Vec::new();
        each_name(&*directory, |name, kind| {
            if !self.visit.admits(&directory, name) {
                return Ok(true);
            }
            match kind {
                libc::DT_DIR => own.push(task(What::Directory(name.to_owned()))),
                libc::DT_UNKNOWN => self.entry(&directory, name, own)?,
                _ if !wants_entries => {}
                // A directory of very many names is not one thread's alone.
                _ if self.is_wanting() => {
                    batch.push(name.to_owned());
                    if batch.len() == BATCH {
                        self.share(vec![task(What::Entries(std::mem::take(&mut batch)))]);
                    }
                }
                _ => self.entry(&directory, name, own)?,
            }
            Ok(true)
        })?;
        batch.iter().try_for_each(|name| self.entry(&directory, name, own))?;
        self.leave(directory)
    }

    /// Looks at a name that is no directory's, as far as its record tells, and visits it.
    fn entry(
        &self,
        directory: &Arc<Directory<V::State>>,
        name: &CStr,
        own: &mut Vec<Task<V::State>>,
    ) -> anyhow::Result<()> {
        let at = || self.show(&directory.path_of(name));
        let seen = match Seen::at(directory, name) {
            Ok(seen) => seen,
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(anyhow!("cannot look at it: {}", errno.desc()).context(at())),
        };
        if seen.kind == Kind::Directory {
            own.push(Task { within: Arc::clone(directory), what: What::Directory(name.to_owned()) });
        } else if self.visit.wants_entries(directory) {
            self.same_mount(&seen)
                .and_then(|()| self.visit.entry(directory, name, &seen))
                .with_context(at)?;
        }
        Ok(())
    }

    /// A directory is left by whoever held it last: the reader of it, or of the last one below.
    fn leave(&self, directory: Arc<Directory<V::State>>) -> anyhow::Result<()> {
        let mut next = Some(directory);
        while let Some(directory) = next.and_then(Arc::into_inner) {
            if self.failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.visit.leave(&directory).with_context(|| self.show(&directory.path()))?;
            next = directory.parent;
        }
        Ok(())
    }

    fn same_mount(&self, seen: &Seen) -> anyhow::Result<()> {
        // The file systems of an overlay lend their own device numbers to its files.
        let is_elsewhere = (self.mount == 0 || seen.kind == Kind::Directory) && seen.device != self.device;
        if is_elsewhere || seen.mount != self.mount {
            return Err(Mounted.into());
        }
        Ok(())
    }
}
