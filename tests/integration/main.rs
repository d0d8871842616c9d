//! What runs against a real libpam and real clients, each test as root in a sandbox of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::too_many_lines,
    reason = "a test stops at the first surprise and says so"
)]

mod agreement;
mod attack;
mod c_host;
mod cli;
mod clients;
mod crowds;
mod disks;
mod faults;
mod fuse;
mod host;
mod install;
mod limits;
mod manuals;
mod names;
mod network_root;
mod no_alloc;
mod pam;
mod planted;
mod sandbox;
mod sanitizers;
mod session;
