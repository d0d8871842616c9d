//! The calls that the crates lack or do badly: the only unsafe code of ours.

#![allow(unsafe_code)]

#[cfg(feature = "cli")]
use std::ffi::c_void;
use std::ffi::{CStr, c_char, c_int, c_long, c_uint};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{pipe2, read};
use pam::module::PamHandle;

/// The first buffer for a group's entry, in bytes: about 4,000 members. nix starts at 1 KiB and asks NSS
/// anew at each doubling, and copies every member (10,000 members: 1 ms).
const GROUP_BUFFER: usize = 64 * 1024;

/// No group's entry is read beyond this, in bytes.
const GROUP_BUFFER_LIMIT: usize = 16 * 1024 * 1024;

/// The first buffer for a user's groups. nix starts at 8, and each doubling is a whole NSS lookup (a user
/// in 500 groups: 2.6 ms against 0.36).
const GROUP_LIST: usize = 1024;

/// `NGROUPS_MAX`: the kernel takes no more for a process.
const GROUP_LIST_LIMIT: usize = 65_536;

/// What a group's entry says, as far as the module asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    /// The group's id.
    pub(crate) gid: u32,
    /// Whether its member list names the user.
    pub(crate) lists_member: bool,
}

/// `getgrnam_r(3)`: the group of this name, and whether its own member list names `member`.
pub(crate) fn group(name: &CStr, member: &CStr) -> nix::Result<Option<Group>> {
    let mut buffer: Vec<c_char> = Vec::new();
    let mut size = GROUP_BUFFER;
    loop {
        buffer.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
        let mut entry = libc::group {
            gr_name: ptr::null_mut(),
            gr_passwd: ptr::null_mut(),
            gr_gid: 0,
            gr_mem: ptr::null_mut(),
        };
        let mut found = ptr::null_mut();
        // SAFETY: `name` ends with a NUL; `entry`, `found` and `buffer.capacity()` bytes may be written,
        // and all of them outlive every use of what is written below.
        let code = unsafe {
            libc::getgrnam_r(
                name.as_ptr(),
                &raw mut entry,
                buffer.as_mut_ptr(),
                buffer.capacity(),
                &raw mut found,
            )
        };
        match code {
            0 if found.is_null() => return Ok(None),
            0 => {
                // SAFETY: the call succeeded and found a group, so `gr_mem` is null or a list of
                // NUL-terminated names that a null pointer ends, all within `buffer`.
                let lists_member = unsafe { contains(entry.gr_mem, member) };
                return Ok(Some(Group { gid: entry.gr_gid, lists_member }));
            }
            libc::ERANGE if size < GROUP_BUFFER_LIMIT => size *= 4,
            // glibc answers 0 for a name that is not found, whatever getgrnam(3) lists; ENOENT too is a service that
            // cannot be asked, as nslcd's is when nslcd or its server is gone.
            code => return Err(Errno::from_raw(code)),
        }
    }
}

/// Whether a list of names that a null pointer ends has this one.
///
/// # Safety
///
/// `list` is null or points to such a list, of NUL-terminated names.
unsafe fn contains(list: *const *mut c_char, name: &CStr) -> bool {
    if list.is_null() {
        return false;
    }
    let mut next = list;
    loop {
        // SAFETY: the caller vouches for the list, and the loop ends at its null pointer.
        let entry = unsafe { *next };
        if entry.is_null() {
            return false;
        }
        // SAFETY: the caller vouches for the names.
        if unsafe { CStr::from_ptr(entry) } == name {
            return true;
        }
        // SAFETY: `entry` was not the null pointer that ends the list, so there is one more.
        next = unsafe { next.add(1) };
    }
}

/// getgrouplist(3): every gid of the user. It has no way to say that a source did not answer.
pub(crate) fn group_list(user: &CStr, primary: u32) -> nix::Result<Vec<u32>> {
    let mut size = GROUP_LIST;
    loop {
        let mut gids: Vec<libc::gid_t> = Vec::new();
        gids.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
        let mut count = c_int::try_from(size).map_err(|_| Errno::ERANGE)?;
        // SAFETY: `user` ends with a NUL, and there is room for `count` gids.
        let code = unsafe { libc::getgrouplist(user.as_ptr(), primary, gids.as_mut_ptr(), &raw mut count) };
        let found = usize::try_from(count).unwrap_or(0);
        if code >= 0 && found <= size {
            // SAFETY: the call succeeded and says that it wrote so many, which is within the capacity.
            unsafe { gids.set_len(found) };
            return Ok(gids);
        }
        if size >= GROUP_LIST_LIMIT {
            return Err(Errno::ERANGE);
        }
        size = found.clamp(size * 2, GROUP_LIST_LIMIT);
    }
}

/// fremovexattr(2) of an attribute that may be absent, on a file system that may have none.
pub(crate) fn remove_attribute(file: impl AsFd, name: &CStr) -> nix::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed, and `name` ends with a NUL.
    let code = unsafe { libc::fremovexattr(file.as_fd().as_raw_fd(), name.as_ptr()) };
    match Errno::result(code) {
        Ok(_) | Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Whether a file has an extended attribute, fgetxattr(2); a file system without any has none.
#[cfg(feature = "cli")]
pub(crate) fn has_attribute(file: impl AsFd, name: &CStr) -> nix::Result<bool> {
    // SAFETY: the descriptor is open for as long as it is borrowed, `name` ends with a NUL, and with a size
    // of 0 nothing is written.
    let length = unsafe { libc::fgetxattr(file.as_fd().as_raw_fd(), name.as_ptr(), ptr::null_mut(), 0) };
    match Errno::result(length) {
        Ok(_) => Ok(true),
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// statx(2) of a name in a directory, or with an empty one of the descriptor itself; no link is followed and
/// no automount triggered.
#[cfg(feature = "cli")]
pub(crate) fn stat_at(directory: impl AsFd, name: &CStr) -> nix::Result<libc::statx> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT;
    let wanted = libc::STATX_BASIC_STATS | libc::STATX_BTIME | libc::STATX_MNT_ID;
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the descriptor is open for as long as it is borrowed, `name` ends with a NUL, and there is room
    // for the answer.
    let code = unsafe {
        libc::statx(directory.as_fd().as_raw_fd(), name.as_ptr(), flags, wanted, found.as_mut_ptr())
    };
    Errno::result(code)?;
    // SAFETY: every field is a number, for which zeros are a value; the kernel wrote the rest.
    Ok(unsafe { found.assume_init() })
}

/// Whether somebody else may be able to write to this file, which is open for reading: by a descriptor opened
/// for writing, wherever it is (in another pid namespace, in a socket's queue, behind a mapping). A read lease
/// (fcntl(2), `F_SETLEASE`) is given on a file that nobody has open for writing, and lasts until `file` is
/// closed. Where the file system has no leases, the answer is that somebody may.
#[cfg(feature = "cli")]
pub(crate) fn may_have_writers(file: impl AsFd) -> bool {
    // SAFETY: the descriptor is open for as long as it is borrowed, and the last argument is a number.
    let code = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
    Errno::result(code).is_err()
}

/// Writes a file's content to the disk, and waits for that alone, with `sync_file_range(2)`. fsync(2) would wait for
/// all that the journal has not written yet. For a file that is then renamed it is enough: the journal keeps the
/// order, so that after a loss of power the name is never there without the content. (XFS writes a renamed file's
/// content when it likes, and shows an empty file if that was too late.)
#[cfg(feature = "cli")]
pub(crate) fn write_out(file: impl AsFd) -> nix::Result<()> {
    let flags =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: the descriptor is open for as long as it is borrowed, and the rest are numbers; a length of 0 is all.
    let code = unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), 0, 0, flags) };
    match Errno::result(code) {
        // Not on this kernel, or not for this file system.
        Err(Errno::ENOSYS | Errno::EINVAL | Errno::ESPIPE | Errno::EOPNOTSUPP) => nix::unistd::fsync(file),
        done => done.map(drop),
    }
}

/// Begins to write what a file was given to the disk, and waits for none of it (`sync_file_range(2)`). A file
/// system that cannot is left to do so by itself.
#[cfg(feature = "cli")]
pub(crate) fn begin_to_write_out(file: impl AsFd) {
    // SAFETY: the descriptor is open for as long as it is borrowed, and the other arguments are numbers.
    unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

/// How many bytes more a user's disk quota allows on a file system, by `quotactl_fd(2)`; none where there is no limit, or
/// the kernel does not say (before Linux 5.14).
#[cfg(feature = "cli")]
pub(crate) fn quota_left(file: impl AsFd, uid: u32) -> Option<u64> {
    // `linux/quota.h`: the quota of a user, not a group; and limits are in units of so many bytes.
    const USER: c_int = 0;
    const UNIT: u64 = 1024;
    let command = libc::QCMD(libc::Q_GETQUOTA, USER);
    let mut found = MaybeUninit::<libc::dqblk>::zeroed();
    // SAFETY: the descriptor is open for as long as it is borrowed, and there is room for the answer.
    let code = unsafe {
        libc::syscall(libc::SYS_quotactl_fd, file.as_fd().as_raw_fd(), command, uid, found.as_mut_ptr())
    };
    Errno::result(code).ok()?;
    // SAFETY: every field is a number, for which zeros are a value; the kernel wrote the rest.
    let found = unsafe { found.assume_init() };
    let limit = [found.dqb_bhardlimit, found.dqb_bsoftlimit].into_iter().find(|limit| *limit != 0)?;
    Some(limit.saturating_mul(UNIT).saturating_sub(found.dqb_curspace))
}

/// flock(2), without the panic that nix's guard has for a failing unlock: closing the file unlocks it.
/// `operation` is of `LOCK_SH` or `LOCK_EX`; the call never waits.
pub(crate) fn try_lock(file: impl AsFd, operation: c_int) -> nix::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed.
    Errno::result(unsafe { libc::flock(file.as_fd().as_raw_fd(), operation | libc::LOCK_NB) }).map(drop)
}

/// statx(2) from memory: nothing is asked of a server, and no automount is triggered.
pub(crate) fn stat_in_memory(file: impl AsFd) -> nix::Result<libc::statx> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC | libc::AT_NO_AUTOMOUNT;
    let wanted = libc::STATX_TYPE | libc::STATX_MODE | libc::STATX_UID | libc::STATX_INO;
    let asked = wanted | libc::STATX_MNT_ID;
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the descriptor is open for as long as it is borrowed, the path is empty and ends with a NUL,
    // and there is room for the answer.
    let code =
        unsafe { libc::statx(file.as_fd().as_raw_fd(), c"".as_ptr(), flags, asked, found.as_mut_ptr()) };
    Errno::result(code)?;
    // SAFETY: every field is a number, for which zeros are a value; the kernel wrote the rest.
    let found = unsafe { found.assume_init() };
    if found.stx_mask & wanted == wanted { Ok(found) } else { Err(Errno::EAGAIN) }
}

/// getdents64(2): the next entries of a directory, as `linux_dirent64` records; 0 bytes at its end.
/// readdir(3) would allocate.
pub(crate) fn read_entries(directory: impl AsFd, buffer: &mut [u8]) -> nix::Result<usize> {
    let descriptor = directory.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open for as long as it is borrowed, and the buffer has that many bytes.
    let code = unsafe { libc::syscall(libc::SYS_getdents64, descriptor, buffer.as_mut_ptr(), buffer.len()) };
    Errno::result(code).map(|length| usize::try_from(length).unwrap_or(0))
}

/// getrandom(2), without waiting. std's random source is a thread-local of ours, and the first use of one in
/// a thread makes the dynamic linker allocate: in a child of a threaded host that can wait without end.
pub(crate) fn random() -> nix::Result<u64> {
    let mut number = 0u64;
    // SAFETY: there is room for so many bytes, and every pattern of them is a number. (The system call itself,
    // since newer C libraries keep a lock and a state for each thread behind their function.)
    let code = unsafe {
        libc::syscall(libc::SYS_getrandom, &raw mut number, size_of_val(&number), libc::GRND_NONBLOCK)
    };
    // So few bytes come all or not at all.
    Errno::result(code).map(|_| number)
}

/// Why a child gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildError {
    /// It was not done in time; it was killed, and goes as soon as whatever it waits for lets it.
    Late,
    /// It ended without one.
    Died,
    /// It could not be started.
    NotStarted(Errno),
}

/// How long a child that has answered, or was killed, is waited for before it is left to itself.
const REAP_TRIES: u32 = 50;
const REAP_PAUSE: Duration = Duration::from_millis(1);

/// Does work in a child process, for at most so long: nothing inside a process can end a wait for a dead
/// file server.
///
/// The child is made so that the host does not notice it: with exit signal 0, its end raises no SIGCHLD, and
/// the host's own wait(2) does not find it. It shares nothing with the host but one pipe and the answer.
///
/// In a threaded host, the child inherits whatever locks other threads held. `work` must not allocate
/// memory, nor panic, nor take a lock, nor use a thread-local; it has system calls, and what it borrows.
pub(crate) fn in_child<T: Copy + 'static>(
    timeout: Duration,
    work: impl FnOnce() -> T,
) -> Result<T, ChildError> {
    let deadline = Instant::now() + timeout;
    let answer = SharedAnswer::<T>::new().map_err(ChildError::NotStarted)?;
    let (done, tell) = pipe2(OFlag::O_CLOEXEC).map_err(ChildError::NotStarted)?;

    let mut every_signal = MaybeUninit::<libc::sigset_t>::uninit();
    let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: there is room for both sets; sigfillset writes the one, pthread_sigmask the other. In the child
    // every signal stays blocked: no handler of the host runs there, and what a terminal sends to the whole
    // process group, which the host may ignore, does not end it.
    unsafe {
        libc::sigfillset(every_signal.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, every_signal.as_ptr(), mask.as_mut_ptr());
    }
    // SAFETY: it takes nothing and changes nothing.
    let parent = unsafe { libc::getpid() };
    // SAFETY: without flags and with no stack of its own, this is fork(2) but for the exit signal (the low
    // byte of the flags), the handlers of pthread_atfork(3), and the locks of libc, none of which the child
    // takes. All arguments are 0, so their order, which differs between architectures, does not matter.
    let pid = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
    if pid == 0 {
        let end = ExitOnDrop;
        become_a_child(tell.as_raw_fd(), parent);
        answer.put(work());
        // SAFETY: the descriptor is open, and there is one byte to write.
        unsafe { libc::write(tell.as_raw_fd(), c"!".as_ptr().cast(), 1) };
        drop(end);
    }
    let started = Errno::result(pid);
    // SAFETY: pthread_sigmask wrote the set above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask.as_ptr(), ptr::null_mut()) };
    let pid = started.map_err(ChildError::NotStarted)?;
    drop(tell);

    let outcome = match wait_for(&done, deadline) {
        // SAFETY: the child says that it has put the answer, and it puts no other.
        Ok(true) => Ok(unsafe { answer.take() }),
        Ok(false) => Err(ChildError::Died),
        Err(_) => Err(ChildError::Late),
    };
    reap(pid, outcome.is_err());
    outcome
}

/// In the child: nothing of the host runs there ever again, not even if our own code should panic.
struct ExitOnDrop;

impl Drop for ExitOnDrop {
    fn drop(&mut self) {
        // SAFETY: it ends this process, without running what the host registered for its own end.
        unsafe { libc::_exit(0) };
    }
}

/// In the child: lets go of all that was the host's, except for one descriptor, and dies when the host does.
fn become_a_child(keep: RawFd, parent: libc::pid_t) {
    // SAFETY: these calls touch this process alone, which runs nothing but our code from here on; no
    // descriptor that is closed is used again.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != parent {
            libc::_exit(0);
        }
        let below = if keep == 0 { 0 } else { libc::syscall(libc::SYS_close_range, 0, keep - 1, 0) };
        let above = libc::syscall(libc::SYS_close_range, keep + 1, c_uint::MAX, 0);
        if below < 0 || above < 0 {
            // Linux before 5.9.
            let limit = RawFd::try_from(libc::sysconf(libc::_SC_OPEN_MAX).min(65_536)).unwrap_or(1024);
            for descriptor in (0..limit).filter(|&descriptor| descriptor != keep) {
                libc::close(descriptor);
            }
        }
        libc::chdir(c"/".as_ptr());
    }
}

/// Whether a byte comes out of a pipe before its writer is gone.
fn wait_for(pipe: &OwnedFd, deadline: Instant) -> nix::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_zero() => return Err(Errno::ETIMEDOUT),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return read(pipe, &mut [0]).map(|length| length == 1),
            Err(errno) => return Err(errno),
        }
    }
}

/// Takes a child's exit status, so that it does not stay as a zombie; for a while, if it takes one.
fn reap(pid: c_long, kill: bool) {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return };
    if kill {
        // SAFETY: nobody but us waits for a child without SIGCHLD, so the number is still its.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    for _ in 0..REAP_TRIES {
        // SAFETY: no status is asked for; __WCLONE is for children without SIGCHLD.
        match unsafe { libc::waitpid(pid, ptr::null_mut(), libc::WNOHANG | libc::__WCLONE) } {
            0 => thread::sleep(REAP_PAUSE),
            _ => return,
        }
    }
}

/// Memory that a child writes and its parent reads.
struct SharedAnswer<T>(NonNull<T>);

impl<T: Copy> SharedAnswer<T> {
    fn new() -> nix::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, wherever the kernel likes it; page alignment is enough for any `T` here.
        let start = unsafe { libc::mmap(ptr::null_mut(), size_of::<T>(), protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        NonNull::new(start.cast()).map(Self).ok_or(Errno::ENOMEM)
    }

    fn put(&self, value: T) {
        // SAFETY: the mapping has room for a `T`, and the parent reads it only when told.
        unsafe { self.0.write(value) };
    }

    /// # Safety
    ///
    /// The child must have put a value, and say so.
    unsafe fn take(&self) -> T {
        // SAFETY: the caller vouches for the value; parent and child are the same program, so its bytes,
        // and a reference to the program's own constants, mean the same in both.
        unsafe { self.0.read() }
    }
}

impl<T> Drop for SharedAnswer<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody has a reference into it. A child that is late keeps its own.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<T>()) };
    }
}

#[link(name = "pam")]
unsafe extern "C" {
    fn pam_putenv(handle: *mut PamHandle, assignment: *const c_char) -> c_int;
}

/// `pam_putenv(3)` of `NAME=VALUE`; libpam copies it. A bare `NAME` would delete the variable.
///
/// # Errors
///
/// The PAM return code, as a number.
pub(crate) fn put_environment(handle: &mut PamHandle, assignment: &CStr) -> Result<(), c_int> {
    // SAFETY: the handle is the one libpam gave to the entry point, and `assignment` ends with a NUL.
    match unsafe { pam_putenv(handle, assignment.as_ptr()) } {
        0 => Ok(()),
        code => Err(code),
    }
}

/// A PAM application with one session to open: what `try` needs of libpam.
#[cfg(feature = "cli")]
pub(crate) struct Application {
    handle: NonNull<PamHandle>,
    _conversation: Box<Conversation>,
}

/// `struct pam_conv`.
#[cfg(feature = "cli")]
#[repr(C)]
struct Conversation {
    function: extern "C" fn(c_int, *const c_void, *mut *mut c_void, *mut c_void) -> c_int,
    data: *mut c_void,
}

/// Nobody is asked anything: a session that prompted would hang a login too.
#[cfg(feature = "cli")]
extern "C" fn refuse_to_talk(_: c_int, _: *const c_void, _: *mut *mut c_void, _: *mut c_void) -> c_int {
    const PAM_CONV_ERR: c_int = 19;
    PAM_CONV_ERR
}

#[cfg(feature = "cli")]
#[link(name = "pam")]
unsafe extern "C" {
    fn pam_start_confdir(
        service: *const c_char,
        user: *const c_char,
        conversation: *const Conversation,
        directory: *const c_char,
        handle: *mut *mut PamHandle,
    ) -> c_int;
    fn pam_open_session(handle: *mut PamHandle, flags: c_int) -> c_int;
    fn pam_close_session(handle: *mut PamHandle, flags: c_int) -> c_int;
    fn pam_getenvlist(handle: *mut PamHandle) -> *mut *mut c_char;
    fn pam_strerror(handle: *mut PamHandle, code: c_int) -> *const c_char;
    fn pam_end(handle: *mut PamHandle, status: c_int) -> c_int;
}

#[cfg(feature = "cli")]
impl Application {
    /// `pam_start_confdir(3)`: reads the service in this directory, and loads its modules.
    ///
    /// # Errors
    ///
    /// The PAM return code.
    pub(crate) fn start(directory: &CStr, service: &CStr, user: &CStr) -> Result<Self, c_int> {
        let conversation = Box::new(Conversation { function: refuse_to_talk, data: ptr::null_mut() });
        let mut handle = ptr::null_mut();
        // SAFETY: the strings end with NULs, and libpam copies them; the conversation lives as long as the
        // handle, which the call may write.
        let code = unsafe {
            pam_start_confdir(
                service.as_ptr(),
                user.as_ptr(),
                &raw const *conversation,
                directory.as_ptr(),
                &raw mut handle,
            )
        };
        match NonNull::new(handle) {
            Some(handle) if code == 0 => Ok(Self { handle, _conversation: conversation }),
            _ => Err(code),
        }
    }

    /// `pam_open_session(3)`; answers with its return code.
    pub(crate) fn open_session(&mut self) -> c_int {
        // SAFETY: the handle is open.
        unsafe { pam_open_session(self.handle.as_ptr(), 0) }
    }

    /// `pam_close_session(3)`; answers with its return code.
    pub(crate) fn close_session(&mut self) -> c_int {
        // SAFETY: the handle is open.
        unsafe { pam_close_session(self.handle.as_ptr(), 0) }
    }

    /// `pam_getenvlist(3)`: the session's variables.
    pub(crate) fn environment(&mut self) -> Vec<String> {
        let mut variables = Vec::new();
        // SAFETY: the handle is open. The list is the caller's to free, and so are its strings, which end
        // with NULs; a null pointer ends it.
        unsafe {
            let list = pam_getenvlist(self.handle.as_ptr());
            let mut next = list;
            while !next.is_null() && !(*next).is_null() {
                variables.push(CStr::from_ptr(*next).to_string_lossy().into_owned());
                libc::free((*next).cast());
                next = next.add(1);
            }
            libc::free(list.cast());
        }
        variables
    }
}

#[cfg(feature = "cli")]
impl Drop for Application {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and nobody has it after this.
        unsafe { pam_end(self.handle.as_ptr(), 0) };
    }
}

/// `pam_strerror(3)`: what a PAM return code means.
#[cfg(feature = "cli")]
pub(crate) fn pam_error(code: c_int) -> String {
    // SAFETY: Linux-PAM does not look at the handle, and answers with a constant string.
    let text = unsafe { pam_strerror(ptr::null_mut(), code) };
    if text.is_null() {
        return format!("code {code}");
    }
    // SAFETY: it is a string that ends with a NUL and is never freed.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// dlopen(3) with every symbol resolved, as libpam loads a module. It stays loaded.
///
/// # Errors
///
/// What dlerror(3) says.
#[cfg(feature = "cli")]
pub(crate) fn load_library(path: &CStr) -> Result<(), String> {
    // SAFETY: `path` ends with a NUL. Loading runs the library's constructors: the caller is a process of
    // its own for this.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: after a failed dlopen it answers with a string, or with null.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return Err("dlopen failed without a reason".into());
    }
    // SAFETY: the string ends with a NUL, and lives until the next call of the kind.
    Err(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}
