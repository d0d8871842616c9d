//! The calls that the crates lack or do badly: the only unsafe code of ours.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use nix::errno::Errno;
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
            // getgrnam(3) lists these as "not found", and some services do answer so.
            libc::ENOENT | libc::ESRCH => return Ok(None),
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
pub(crate) fn group_list(user: &CStr, primary: u32) -> Vec<u32> {
    let mut size = GROUP_LIST;
    loop {
        let mut gids: Vec<libc::gid_t> = Vec::new();
        if gids.try_reserve_exact(size).is_err() {
            return vec![primary];
        }
        let Ok(mut count) = c_int::try_from(size) else { return vec![primary] };
        // SAFETY: `user` ends with a NUL, and there is room for `count` gids.
        let code = unsafe { libc::getgrouplist(user.as_ptr(), primary, gids.as_mut_ptr(), &raw mut count) };
        let found = usize::try_from(count).unwrap_or(0);
        if code >= 0 && found <= size {
            // SAFETY: the call succeeded and says that it wrote so many, which is within the capacity.
            unsafe { gids.set_len(found) };
            return gids;
        }
        if size >= GROUP_LIST_LIMIT {
            return vec![primary];
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

/// flock(2), without the panic that nix's guard has for a failing unlock: closing the file unlocks it.
/// `operation` is of `LOCK_SH` or `LOCK_EX`; the call never waits.
pub(crate) fn try_lock(file: impl AsFd, operation: c_int) -> nix::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed.
    Errno::result(unsafe { libc::flock(file.as_fd().as_raw_fd(), operation | libc::LOCK_NB) }).map(drop)
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
