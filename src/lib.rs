//! A PAM session module that gives every developer of a shared machine a private `CARGO_TARGET_DIR`.
//!
//! At session open it reads its [configuration](config), asks who the user is ([account]), decides whether
//! they are a developer of the workspace ([policy]), opens the [shared root](shared_root), finds or makes
//! the user's own directory in it ([`cache_dir`]), and puts its path in the session's environment. The
//! [session] module tells this story in order; `module` is the door that libpam knocks at, and `logging` what
//! it says. [mounts] tells which roots may hang, so that they are left to a child process; `ffi` has the calls
//! that need unsafe code, `quoting` what makes names fit for a log and a shell.
//!
//! It runs as root, inside sshd, in every login of everyone. Hence the order of its virtues: never stop a
//! login; never be tricked into giving anything away; be right; be fast; be short enough to read.

pub mod account;
pub mod cache_dir;
#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
mod ffi;
mod logging;
mod module;
pub mod mounts;
pub mod policy;
mod quoting;
pub mod session;
pub mod shared_root;
#[cfg(feature = "cli")]
mod tree;
