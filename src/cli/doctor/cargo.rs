//! What cargo itself makes of the variables.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::overrides::read_users_file;
use super::{Finding, Gravity, Patient};

/// The variable that keeps the checkouts of one workspace apart, and the cargo that knows it first.
const BUILD_DIR: &str = "CARGO_BUILD_BUILD_DIR";
const BUILD_DIR_SINCE: (u32, u32) = (1, 91);

/// The system's own cargo: others are their users' business, and nothing for root to run.
const SYSTEM_CARGO: [&str; 2] = ["/usr/bin/cargo", "/usr/local/bin/cargo"];

/// How many directories of one home are looked at for checkouts, and how deep.
const MAX_DIRECTORIES: usize = 2000;
const MAX_DEPTH: usize = 3;

pub(super) fn examine(patient: &Patient, findings: &mut Vec<Finding>) {
    let exports = &patient.settings.loaded.config.exports;
    if exports.iter().any(|export| export.variable() == BUILD_DIR) {
        old_cargo(findings);
    } else if exports.iter().any(|export| export.variable() == "CARGO_TARGET_DIR") {
        for home in super::overrides::homes(patient) {
            several_checkouts(&patient.settings.conf, &home, findings);
        }
    }
}

fn old_cargo(findings: &mut Vec<Finding>) {
    for path in SYSTEM_CARGO {
        let Ok(real) = fs::canonicalize(path) else { continue };
        let only_roots = fs::metadata(&real).is_ok_and(|found| found.uid() == 0 && found.mode() & 0o022 == 0);
        let Some(version) = only_roots.then(|| version_of(path)).flatten() else { continue };
        if version < BUILD_DIR_SINCE {
            findings.push(Finding::new(
                "old-cargo",
                Gravity::Advice,
                format!("{path} is {}.{} and ignores {BUILD_DIR}, which is exported", version.0, version.1),
                format!(
                    "use cargo {}.{} or newer, or do without the export",
                    BUILD_DIR_SINCE.0, BUILD_DIR_SINCE.1
                ),
            ));
        }
    }
}

fn version_of(path: &str) -> Option<(u32, u32)> {
    let mut command = Command::new(path);
    command.arg("--version").current_dir("/").stdin(Stdio::null());
    let output =
        command.env_clear().env("HOME", "/nonexistent").env("PATH", "/usr/bin:/bin").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut numbers = text.split_ascii_whitespace().nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Two checkouts of one workspace in one target directory serve each other's artefacts.
fn several_checkouts(conf: &str, home: &Path, findings: &mut Vec<Finding>) {
    let mut checkouts: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut left = MAX_DIRECTORIES;
    let mut open = vec![(home.to_owned(), 0)];
    while let Some((directory, depth)) = open.pop() {
        if let Some(name) = read_users_file(&directory.join("Cargo.toml")).as_deref().and_then(workspace_name)
        {
            checkouts.entry(name).or_default().push(directory);
            continue;
        }
        if depth == MAX_DEPTH {
            continue;
        }
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            left = left.saturating_sub(1);
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_wanted = !name.starts_with('.') && name != "target" && name != "node_modules";
            if left > 0 && is_wanted && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push((entry.path(), depth + 1));
            }
        }
    }
    for (name, mut paths) in checkouts.into_iter().filter(|(_, paths)| paths.len() > 1) {
        paths.sort();
        let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        findings.push(Finding::new(
            "several-checkouts",
            Gravity::Advice,
            format!(
                "{} look like checkouts of one workspace, {name}: in one target directory cargo takes the one's \
                 artefacts for the other's, and runs what was built from the wrong sources",
                paths.join(" and ")
            ),
            format!(
                "with cargo 1.91 or newer everywhere, add to {conf}: export = CARGO_TARGET_DIR and export = \
                 {BUILD_DIR}:build/{{workspace-path-hash}}"
            ),
        ));
    }
}

/// What a manifest calls the package, or lists as a workspace's members.
fn workspace_name(manifest: &str) -> Option<String> {
    let value = |key: &str| {
        let line = manifest
            .lines()
            .map(str::trim)
            .find(|line| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('=')))?;
        line.split_once('=').map(|(_, value)| value.trim().trim_matches('"').to_owned())
    };
    value("name").or_else(|| value("members")).filter(|name| !name.is_empty())
}
