//! A PAM application: transactions of the real libpam with services of a private directory.

#![allow(unsafe_code, reason = "libpam is a C library")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr;

pub(crate) const PAM_SUCCESS: i32 = 0;
pub(crate) const PAM_PERM_DENIED: i32 = 6;
pub(crate) const PAM_SESSION_ERR: i32 = 14;
const PAM_CONV_ERR: c_int = 19;
const PAM_USER: c_int = 2;

#[repr(C)]
struct Conversation {
    function: extern "C" fn(c_int, *const c_void, *mut *mut c_void, *mut c_void) -> c_int,
    data: *mut c_void,
}

/// Nothing here may ever be asked: a session that prompts would hang a login.
extern "C" fn refuse(_: c_int, _: *const c_void, _: *mut *mut c_void, _: *mut c_void) -> c_int {
    PAM_CONV_ERR
}

#[link(name = "pam")]
unsafe extern "C" {
    fn pam_start_confdir(
        service: *const c_char,
        user: *const c_char,
        conversation: *const Conversation,
        confdir: *const c_char,
        handle: *mut *mut c_void,
    ) -> c_int;
    fn pam_set_item(handle: *mut c_void, item: c_int, value: *const c_void) -> c_int;
    fn pam_putenv(handle: *mut c_void, assignment: *const c_char) -> c_int;
    fn pam_getenvlist(handle: *mut c_void) -> *mut *mut c_char;
    fn pam_authenticate(handle: *mut c_void, flags: c_int) -> c_int;
    fn pam_setcred(handle: *mut c_void, flags: c_int) -> c_int;
    fn pam_acct_mgmt(handle: *mut c_void, flags: c_int) -> c_int;
    fn pam_chauthtok(handle: *mut c_void, flags: c_int) -> c_int;
    fn pam_open_session(handle: *mut c_void, flags: c_int) -> c_int;
    fn pam_close_session(handle: *mut c_void, flags: c_int) -> c_int;
    fn pam_end(handle: *mut c_void, status: c_int) -> c_int;
}

/// One of the calls that run a stack.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Call {
    Authenticate,
    SetCredentials,
    Account,
    ChangeToken,
    OpenSession,
    CloseSession,
}

/// A directory of services, as /etc/pam.d is one.
pub(crate) struct Services(PathBuf);

impl Services {
    pub(crate) fn new() -> Self {
        let directory = PathBuf::from("/run/pam-services");
        fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    /// Services that are there.
    pub(crate) fn at(directory: &str) -> Self {
        Self(directory.into())
    }

    /// Writes the stack of a service.
    pub(crate) fn write(&self, service: &str, stack: &str) -> &Self {
        fs::write(self.0.join(service), format!("{stack}\n")).unwrap();
        self
    }

    pub(crate) fn start(&self, service: &str, user: Option<&[u8]>) -> Transaction {
        Transaction::start(&self.0, service, user)
    }
}

/// A PAM transaction, ended when dropped.
pub(crate) struct Transaction {
    handle: *mut c_void,
    _conversation: Box<Conversation>,
}

impl Transaction {
    fn start(confdir: &Path, service: &str, user: Option<&[u8]>) -> Self {
        let conversation = Box::new(Conversation { function: refuse, data: ptr::null_mut() });
        let mut handle = ptr::null_mut();
        let confdir = CString::new(confdir.to_str().unwrap()).unwrap();
        let service = CString::new(service).unwrap();
        // SAFETY: the strings end with NULs and are copied; the conversation lives as long as the handle.
        let code = unsafe {
            pam_start_confdir(
                service.as_ptr(),
                ptr::null(),
                &raw const *conversation,
                confdir.as_ptr(),
                &raw mut handle,
            )
        };
        assert_eq!(code, PAM_SUCCESS, "pam_start_confdir");
        if let Some(user) = user {
            let user = CString::new(user).unwrap();
            // SAFETY: the handle is open, and libpam copies the string.
            assert_eq!(unsafe { pam_set_item(handle, PAM_USER, user.as_ptr().cast()) }, PAM_SUCCESS);
        }
        Self { handle, _conversation: conversation }
    }

    /// Sets a variable as an earlier module would.
    pub(crate) fn put(&mut self, assignment: &str) {
        let assignment = CString::new(assignment).unwrap();
        // SAFETY: the handle is open, and libpam copies the string.
        assert_eq!(unsafe { pam_putenv(self.handle, assignment.as_ptr()) }, PAM_SUCCESS);
    }

    /// Runs a stack and returns libpam's answer.
    pub(crate) fn call(&mut self, call: Call) -> i32 {
        // SAFETY: the handle is open.
        unsafe {
            match call {
                Call::Authenticate => pam_authenticate(self.handle, 0),
                Call::SetCredentials => pam_setcred(self.handle, 2),
                Call::Account => pam_acct_mgmt(self.handle, 0),
                Call::ChangeToken => pam_chauthtok(self.handle, 0),
                Call::OpenSession => pam_open_session(self.handle, 0),
                Call::CloseSession => pam_close_session(self.handle, 0),
            }
        }
    }

    /// The session's environment, sorted.
    pub(crate) fn environment(&self) -> Vec<String> {
        let mut variables = Vec::new();
        // SAFETY: the handle is open; the list is the caller's, of C strings that are its too, and a null
        // pointer ends it.
        unsafe {
            let list = pam_getenvlist(self.handle);
            assert!(!list.is_null(), "pam_getenvlist");
            let mut next = list;
            while !(*next).is_null() {
                variables.push(CStr::from_ptr(*next).to_str().unwrap().to_owned());
                libc::free((*next).cast());
                next = next.add(1);
            }
            libc::free(list.cast());
        }
        variables.sort();
        variables
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and nobody uses it after this.
        unsafe { pam_end(self.handle, PAM_SUCCESS) };
    }
}
