//! Resource limits that a stack may have set before the module: the session opens all the same.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pam_cargo_target::cache_dir::TAG;

use crate::c_host;
use crate::sandbox::{User, module_path, sandboxed, text_of};

const ROOT: &str = "/srv/cargo-target";
const DIRECTORY: &str = "/srv/cargo-target/alice";

/// What the host program prints of a session that has the variable, and of one that has not.
const EXPORTED: &str = "open 0\nCARGO_TARGET_DIR=/srv/cargo-target/alice\nclose 0\nend 0\n";

/// A member, a root, and a host program with two services: the module alone, and nothing but `pam_permit`.
struct Host {
    program: PathBuf,
}

impl Host {
    const SERVICES: &str = "/run/pam-services";

    fn new() -> Self {
        User::developer("alice", 2001).add();
        fs::create_dir(Self::SERVICES).unwrap();
        let module = format!("session required {} root={ROOT}\n", module_path().display());
        fs::write(format!("{}/module", Self::SERVICES), module).unwrap();
        fs::write(format!("{}/permit", Self::SERVICES), "session required pam_permit.so\n").unwrap();
        let host = Self { program: c_host::program("session") };
        Self::reset();
        host
    }

    /// Makes the root anew, empty.
    fn reset() {
        let _ = fs::remove_dir_all(ROOT);
        fs::create_dir(ROOT).unwrap();
        fs::set_permissions(ROOT, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// One session of alice's, with these options of the host program.
    fn session(&self, service: &str, options: &[&str]) -> Output {
        Command::new(&self.program).args(options).args([Self::SERVICES, service, "alice"]).output().unwrap()
    }
}

/// How a process ended, and what it said.
#[track_caller]
fn assert_printed(output: &Output, expected: &str, what: &str) {
    assert_eq!(output.status.signal(), None, "{what}: {}", text_of(output));
    assert_eq!(text_of(output), expected, "{what}");
}

#[track_caller]
fn assert_private(what: &str) {
    let found = fs::symlink_metadata(DIRECTORY).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode()), (2001, 2001, 0o040_700), "{what}");
}

sandboxed! {
    /// `pam_limits` can allow a user's files no more than some kilobytes, and a write beyond raises SIGXFSZ,
    /// whose default ends the login.
    fn a_limit_on_file_sizes_costs_the_tag_and_nothing_else() {
        let host = Host::new();
        let tag = Path::new(DIRECTORY).join("CACHEDIR.TAG");
        for (limit, tagged) in [(0, false), (1, false), (176, false), (177, true), (1024, true)] {
            let what = format!("--limit=fsize={limit}");
            Host::reset();
            for login in ["first", "next"] {
                let what = format!("{what}, {login} login");
                assert_printed(&host.session("module", &[&format!("--limit=fsize={limit}")]), EXPORTED, &what);
                assert_private(&what);
                assert_eq!(tag.exists(), tagged, "{what}");
            }
            assert_printed(&host.session("module", &[]), EXPORTED, &format!("after {what}"));
            assert_eq!(fs::read_to_string(&tag).unwrap(), TAG);
        }
    }
}
