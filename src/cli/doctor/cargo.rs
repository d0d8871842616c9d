//! What cargo itself makes of the variables.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::users_files::{Directory, Home, Homes};
use super::{Finding, Gravity, Patient};

/// The variable that keeps the checkouts of one workspace apart, and the cargo that knows it first.
const BUILD_DIR: &str = "CARGO_BUILD_BUILD_DIR";
const BUILD_DIR_SINCE: (u32, u32) = (1, 91);

/// The system's own cargo: others are their users' business, and nothing for root to run.
const SYSTEM_CARGO: [&str; 2] = ["/usr/bin/cargo", "/usr/local/bin/cargo"];

/// How many names of one home are looked at for checkouts, and how deep.
const MAX_NAMES: usize = 2000;
const MAX_DEPTH: usize = 3;

/// How many workspaces of one home are named, and checkouts of one.
const MAX_NAMED: usize = 5;

/// A name longer than this, in bytes, is no workspace's.
const MAX_NAME: usize = 1000;

pub(super) fn examine(patient: &Patient, homes: &Homes, findings: &mut Vec<Finding>) {
    if patient.exports().any(|export| export.variable() == BUILD_DIR) {
        old_cargo(findings);
    } else if patient.exports().any(|export| export.variable() == "CARGO_TARGET_DIR") {
        for home in &homes.open {
            several_checkouts(&patient.main.settings.conf, home, findings);
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
fn several_checkouts(conf: &str, home: &Home, findings: &mut Vec<Finding>) {
    let mut checkouts = BTreeMap::new();
    let mut left = MAX_NAMES;
    find_checkouts(&home.directory, 0, &mut left, &mut checkouts);
    let several = checkouts.into_iter().filter(|(_, paths)| paths.len() > 1);
    for (name, mut paths) in several.take(MAX_NAMED) {
        paths.sort();
        if let Some(more) = paths.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
            paths.truncate(MAX_NAMED);
            paths.push(format!("{more} more"));
        }
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

/// The directories with a manifest, by what it calls the package or the workspace.
fn find_checkouts(
    directory: &Directory,
    depth: usize,
    left: &mut usize,
    checkouts: &mut BTreeMap<String, Vec<String>>,
) {
    if let Some(name) = directory.read(Path::new("Cargo.toml")).as_deref().and_then(workspace_name) {
        checkouts.entry(name).or_default().push(directory.path().display().to_string());
        return;
    }
    if depth == MAX_DEPTH {
        return;
    }
    for name in directory.names(*left) {
        *left = left.saturating_sub(1);
        let shown = name.to_string_lossy();
        if !shown.starts_with('.') && shown != "target" && shown != "node_modules" {
            if let Some(directory) = directory.directory(&name) {
                find_checkouts(&directory, depth + 1, left, checkouts);
            }
        }
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
    value("name").or_else(|| value("members")).filter(|name| (1..=MAX_NAME).contains(&name.len()))
}
