//! `make install` and `make uninstall`, for real, on a machine that is thrown away.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sandbox::{append, checkout, make, module_path, sandboxed, succeeded, text_of};

const CONF: &str = "/etc/security/cargo-target.conf";
const TOOL_PATH: &str = "/usr/bin/cargo-targetctl";
const MANUALS: [&str; 3] = [
    "/usr/share/man/man8/pam_cargo_target.8",
    "/usr/share/man/man5/cargo-target.conf.5",
    "/usr/share/man/man8/cargo-targetctl.8",
];
const COMPLETIONS: [&str; 3] = [
    "/usr/share/bash-completion/completions/cargo-targetctl",
    "/usr/share/zsh/site-functions/_cargo-targetctl",
    "/usr/share/fish/vendor_completions.d/cargo-targetctl.fish",
];
const NONE: [&str; 0] = [];

/// Where libpam's own modules lie, found without asking the Makefile.
fn module_dir() -> PathBuf {
    let mut places: Vec<PathBuf> =
        fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path()).collect();
    places.push(PathBuf::from("/usr/lib64"));
    places.push(PathBuf::from("/usr/lib"));
    let is_there = |place: &PathBuf| place.join("security/pam_unix.so").exists();
    places.into_iter().find(is_there).expect("pam_unix.so is installed").join("security")
}

pub(crate) fn installed_module() -> PathBuf {
    module_dir().join("pam_cargo_target.so")
}

#[track_caller]
fn assert_root_owned(path: &Path, mode: u32) {
    let metadata = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{}", path.display());
    assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "{}", path.display());
}

fn shipped_conf() -> Vec<u8> {
    fs::read(checkout().join("packaging/cargo-target.conf")).unwrap()
}

sandboxed! {
    fn make_alone_prints_the_targets() {
        let printed = succeeded(&make(NONE));
        for target in ["build", "install", "uninstall", "demo", "check", "check-packages", "dist", "deb", "clean"] {
            let start = format!("make {target} ");
            assert!(printed.lines().any(|line| line.starts_with(&start)), "no line for {target}:\n{printed}");
        }
        assert!(!installed_module().exists());
    }

    fn install_puts_the_module_where_libpam_looks() {
        let printed = succeeded(&make(["install"]));
        assert_root_owned(&installed_module(), 0o644);
        assert_eq!(fs::read(installed_module()).unwrap(), fs::read(module_path()).unwrap());
        assert_root_owned(Path::new(TOOL_PATH), 0o755);
        succeeded(&Command::new("cargo-targetctl").arg("--version").output().unwrap());
        for page in MANUALS {
            assert_root_owned(Path::new(page), 0o644);
            let name = Path::new(page).file_stem().unwrap().to_str().unwrap().to_uppercase();
            let text = fs::read_to_string(page).unwrap();
            assert!(text.starts_with(&format!(".TH {name} ")), "{page}: {text}");
        }
        for completions in COMPLETIONS {
            assert_root_owned(Path::new(completions), 0o644);
            assert!(fs::read_to_string(completions).unwrap().contains("dry-run"), "{completions}");
        }
        assert_root_owned(Path::new(CONF), 0o644);
        assert_eq!(fs::read(CONF).unwrap(), shipped_conf());
        assert!(printed.contains("Nothing uses it yet"), "{printed}");

        let left_over = fs::read_dir(module_dir()).unwrap().map(|entry| entry.unwrap().file_name());
        let ours: Vec<_> = left_over.filter(|name| name.to_string_lossy().contains("cargo_target")).collect();
        assert_eq!(ours, ["pam_cargo_target.so"]);
    }

    fn install_keeps_a_conf_that_is_there() {
        fs::write(CONF, "root = /srv/elsewhere\n").unwrap();
        for _ in 0..2 {
            succeeded(&make(["install"]));
            assert_eq!(fs::read_to_string(CONF).unwrap(), "root = /srv/elsewhere\n");
            assert_root_owned(&installed_module(), 0o644);
        }
    }

    fn install_replaces_an_older_module_in_one_step() {
        fs::write(installed_module(), "an older module").unwrap();
        let older = fs::File::open(installed_module()).unwrap();
        succeeded(&make(["install"]));
        assert_eq!(fs::read(installed_module()).unwrap(), fs::read(module_path()).unwrap());
        // A process that has the old one mapped keeps the old one.
        assert_eq!(older.metadata().unwrap().len(), "an older module".len() as u64);
    }

    fn destdir_takes_everything() {
        let stage = Path::new("/tmp/stage");
        succeeded(&make(["install", "DESTDIR=/tmp/stage"]));
        let staged = |path: &Path| stage.join(path.strip_prefix("/").unwrap());
        assert_root_owned(&staged(Path::new(CONF)), 0o644);
        assert_root_owned(&staged(Path::new(TOOL_PATH)), 0o755);
        let printed = succeeded(
            &Command::new("find").arg(stage).args(["-name", "pam_cargo_target.so"]).output().unwrap(),
        );
        assert_eq!(printed.lines().count(), 1, "{printed}");
        assert_root_owned(Path::new(printed.trim()), 0o644);
        assert!(!installed_module().exists());
        assert!(!Path::new(CONF).exists());

        succeeded(&make(["uninstall", "DESTDIR=/tmp/stage"]));
        let left = succeeded(&Command::new("find").arg(stage).args(["-type", "f"]).output().unwrap());
        assert_eq!(left, "");
    }

    fn module_directory_can_be_named() {
        succeeded(&make(["install", "DESTDIR=/tmp/stage", "PAM_MODULE_DIR=/usr/lib/elsewhere"]));
        assert_root_owned(Path::new("/tmp/stage/usr/lib/elsewhere/pam_cargo_target.so"), 0o644);
    }

    fn uninstall_removes_what_install_made() {
        succeeded(&make(["install"]));
        succeeded(&make(["uninstall"]));
        assert!(!installed_module().exists());
        assert!(!Path::new(TOOL_PATH).exists());
        assert!(MANUALS.iter().all(|page| !Path::new(page).exists()));
        assert!(COMPLETIONS.iter().all(|completions| !Path::new(completions).exists()));
        assert!(!Path::new(CONF).exists());
        succeeded(&make(["uninstall"]));
    }

    fn uninstall_keeps_an_edited_conf_and_names_the_pam_files() {
        succeeded(&make(["install"]));
        append(CONF, "root = /srv/cargo-target\n");
        append("/etc/pam.d/common-session", "session optional pam_cargo_target.so\n");
        append("/etc/pam.d/cron", "# session optional pam_cargo_target.so\n");
        let output = make(["uninstall"]);
        let printed = text_of(&output);
        succeeded(&output);
        assert!(!installed_module().exists());
        assert!(fs::read_to_string(CONF).unwrap().ends_with("root = /srv/cargo-target\n"));
        assert!(printed.contains("kept"), "{printed}");
        assert!(printed.contains("/etc/pam.d/common-session"), "{printed}");
        assert!(!printed.contains("/etc/pam.d/cron"), "{printed}");
    }

    fn stale_module_is_not_built_by_sudo() {
        let output = Command::new("make")
            .arg("-C").arg(checkout())
            .args(["install", "MODULE=/tmp/not-built.so"])
            .env("SUDO_USER", "alice")
            .output().unwrap();
        let printed = text_of(&output);
        assert!(!output.status.success());
        assert!(printed.contains("make build"), "{printed}");
        assert!(!installed_module().exists());
    }
}
