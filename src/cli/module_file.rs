//! The module's file: where libpam looks for it, and whether it can be loaded.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::Context;

use super::pam_d::MODULE;
use crate::ffi;

/// Directories that libpam may have been built with.
const DIRECTORIES: [&str; 6] = [
    "/usr/lib64/security",
    "/lib64/security",
    "/usr/lib/security",
    "/lib/security",
    "/usr/lib/pam",
    "/lib/pam",
];

/// A module of libpam's own: where it lies, others are looked for.
const LANDMARK: &str = "pam_permit.so";

/// The directory that libpam was built with: the one where its own modules lie.
pub(super) fn directory() -> Option<PathBuf> {
    let arch = env::consts::ARCH;
    let multiarch = |base: &str| {
        let mut found: Vec<PathBuf> = fs::read_dir(base)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains("-linux-gnu")))
            .map(|path| path.join("security"))
            .collect();
        // Where there are several, ours first.
        found.sort_by_key(|path| !path.to_string_lossy().contains(arch));
        found
    };
    let mut places = multiarch("/usr/lib");
    places.extend(multiarch("/lib"));
    places.extend(DIRECTORIES.iter().map(PathBuf::from));
    places.into_iter().find(|place| place.join(LANDMARK).exists())
}

/// The file that a line's word means.
pub(super) fn path_of(word: &str) -> Option<PathBuf> {
    if word.starts_with('/') { Some(word.into()) } else { Some(directory()?.join(word)) }
}

/// Where the module is when no line says otherwise.
pub(super) fn installed() -> Option<PathBuf> {
    path_of(MODULE)
}

/// Whether the file can be loaded, found out in a child: loading runs the library's own code.
pub(super) fn try_to_load(path: &Path) -> anyhow::Result<Result<(), String>> {
    let done = Command::new("/proc/self/exe")
        .args(["load", "--"])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .context("cannot start a child to load the module")?;
    if done.status.success() {
        return Ok(Ok(()));
    }
    let cause = String::from_utf8_lossy(&done.stderr);
    let cause = cause.trim().trim_start_matches("cargo-targetctl: ").to_owned();
    Ok(Err(if cause.is_empty() { format!("loading it ended with {}", done.status) } else { cause }))
}

/// The child's part.
pub(super) fn load(path: &Path) -> Result<(), String> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    ffi::load_library(&path)
}
