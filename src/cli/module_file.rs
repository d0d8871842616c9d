//! The module's file: where libpam looks for it.

use std::path::PathBuf;
use std::{env, fs};

use super::pam_d::MODULE;

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
