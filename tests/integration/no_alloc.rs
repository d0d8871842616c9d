//! What runs in a child of a threaded host must not allocate: another thread may have held malloc's lock.

#![allow(unsafe_code, reason = "an allocator is unsafe to write")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use pam_cargo_target::cache_dir::{DirName, Owner, Provided, Provision, Purpose};
use pam_cargo_target::config::{self, Config};
use pam_cargo_target::mounts::Mounts;
use pam_cargo_target::shared_root::{Patience, SharedRoot};

use crate::sandbox::sandboxed;

thread_local! {
    /// How often this thread has allocated.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

// SAFETY: everything is the system allocator's; counting is a thread's own cell, which needs no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(block, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a piece of work returned, and how often it allocated.
fn count<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = ALLOCATIONS.with(Cell::get);
    let result = work();
    (result, ALLOCATIONS.with(Cell::get) - before)
}

fn configured(line: &str) -> Config {
    config::parse(&[line.as_bytes()], config::DEFAULT_FILE, Ok(b"")).config
}

sandboxed! {
    /// Opening the root and providing a directory, on every path: made with litter to sweep, found, found
    /// without its tag, refused, and where there is no root.
    fn what_a_child_runs_allocates_nothing() {
        assert_ne!(count(|| String::from("x")).1, 0, "the counter does not count");

        let root = configured("root=/srv/cargo-target").root.unwrap();
        let name = DirName::new("alice", "alice".into()).unwrap();
        let owner = Owner { uid: 2001, gid: 2001 };
        let (home, mode) = (Path::new("/home/alice"), configured("").mode);
        let provision = Provision { name: &name, owner, home, mode, purpose: Purpose::Provide };
        let mounts = Mounts::on_the_way_to("/srv/cargo-target/alice");
        let session = || {
            count(|| {
                let root = SharedRoot::open(&root, Patience::Wait(&mounts)).ok()?;
                Some(provision.run(&root, Patience::Wait(&mounts)))
            })
        };

        assert_eq!(session(), (None, 0));
        fs::create_dir("/srv/cargo-target").unwrap();
        fs::create_dir_all("/srv/cargo-target/.staging/0123456789abcdef").unwrap();
        fs::write("/srv/cargo-target/.staging/0123456789abcdef/CACHEDIR.TAG", "").unwrap();
        fs::set_permissions("/srv/cargo-target/.staging", fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(session(), (Some(Ok(Provided::Made)), 0));
        assert_eq!(fs::read_dir("/srv/cargo-target/.staging").unwrap().count(), 0);
        assert_eq!(session(), (Some(Ok(Provided::Found)), 0));
        fs::remove_file("/srv/cargo-target/alice/CACHEDIR.TAG").unwrap();
        assert_eq!(session(), (Some(Ok(Provided::Found)), 0));
        assert!(fs::exists("/srv/cargo-target/alice/CACHEDIR.TAG").unwrap());
        chown("/srv/cargo-target/alice", Some(2002), None).unwrap();
        assert!(matches!(session(), (Some(Err(_)), 0)));
        fs::remove_dir_all("/srv/cargo-target/alice").unwrap();
        symlink("/etc", "/srv/cargo-target/alice").unwrap();
        assert!(matches!(session(), (Some(Err(_)), 0)));
        fs::remove_file("/srv/cargo-target/alice").unwrap();
        fs::set_permissions("/srv/cargo-target/.staging", fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(session(), (Some(Err(_)), 0)));
    }
}
