//! Which settings a session would have: those of the service's pam.d line and of the file, and over them
//! what the command line says.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::output::{Output, complain};
use super::pam_d::{self, Entry, Trouble};
use super::{Globals, UsageError};
use crate::config::{self, KEYS, Loaded, Problem, RootPath};

/// The service whose sessions are meant where none is named.
pub(super) const DEFAULT_SERVICE: &str = "sshd";

/// The settings of one service's sessions.
pub(super) struct Settings {
    /// The service, as libpam spells it.
    pub(super) service: String,
    /// The module's line in the service's stack.
    pub(super) line: Option<Entry>,
    /// What libpam would stumble over in the stack.
    pub(super) troubles: BTreeSet<Trouble>,
    /// What stands on the line, with the command line's overrides after it.
    pub(super) arguments: Vec<Vec<u8>>,
    /// What the module makes of it all.
    pub(super) loaded: Loaded,
    /// The file that is read.
    pub(super) conf: String,
    /// `--root` as it was given, where it led through a symbolic link.
    pub(super) root_was: Option<PathBuf>,
}

impl Settings {
    pub(super) fn of(globals: &Globals, service: &str) -> anyhow::Result<Self> {
        // libpam does so too.
        let service = service.to_ascii_lowercase();
        if service.is_empty() || service.contains('/') {
            return Err(UsageError(format!("`{service}` cannot be a PAM service")).into());
        }
        let stack = pam_d::session(&service);
        let line = stack.lines_of_ours().last().cloned();
        let mut arguments = line.as_ref().map(|line| line.arguments.clone()).unwrap_or_default();
        if let Some(conf) = &globals.conf {
            arguments.push(format!("conf={}", conf_path(conf)?).into_bytes());
        }
        let mut root_was = None;
        if let Some(given) = &globals.root {
            let root = resolve(given)?;
            root_was = (Path::new(root.as_str()) != given).then(|| given.clone());
            arguments.push(format!("root={root}").into_bytes());
        }
        let conf = arguments
            .iter()
            .rev()
            .find_map(|argument| argument.strip_prefix(b"conf="))
            .map_or_else(|| config::DEFAULT_FILE.into(), |path| String::from_utf8_lossy(path).into_owned());
        let loaded = config::load(&slices(&arguments));
        Ok(Self { service, line, troubles: stack.troubles, arguments, loaded, conf, root_was })
    }

    /// Tells where `--root` led.
    pub(super) fn announce_root(&self, output: &mut Output) -> std::io::Result<()> {
        match (&self.root_was, &self.loaded.config.root) {
            (Some(given), Some(root)) => output.line(format!("{} leads to {root}", given.display())),
            _ => Ok(()),
        }
    }

    /// Tells what was wrong with the configuration, and where `--root` led.
    pub(super) fn announce(&self, output: &mut Output) -> std::io::Result<()> {
        self.announce_root(output)?;
        for problem in &self.loaded.problems {
            complain(&describe(problem));
        }
        for trouble in &self.troubles {
            complain(&trouble.to_string());
        }
        self.announce_at_length(output)
    }

    /// With `-v`: the settings in force.
    pub(super) fn announce_at_length(&self, output: &mut Output) -> std::io::Result<()> {
        if output.verbose && !output.is_json {
            match &self.line {
                Some(line) => output.line(format!("service {}: {line}", self.service))?,
                None => output.line(format!("service {}: no line of ours", self.service))?,
            }
            output.line(format!("settings in force ({} and the pam.d line):", self.conf))?;
            for line in self.loaded.config.to_string().lines() {
                output.line(format!("    {line}"))?;
            }
        }
        Ok(())
    }
}

/// Arguments as the session takes them.
pub(super) fn slices(arguments: &[Vec<u8>]) -> Vec<&[u8]> {
    arguments.iter().map(Vec::as_slice).collect()
}

/// A fault of the configuration, with the key that may have been meant.
pub(super) fn describe(problem: &Problem) -> String {
    match nearest(problem) {
        Some(key) => format!("{problem}; did you mean `{key}`?"),
        None => problem.to_string(),
    }
}

/// The key that an unknown one may have been meant for.
pub(super) fn nearest(problem: &Problem) -> Option<&'static str> {
    let unknown = problem.unknown_key()?;
    let keys = KEYS.iter().map(|key| key.name);
    keys.min_by_key(|key| edits(unknown, key)).filter(|key| edits(unknown, key) <= 1 + key.len() / 3)
}

/// How many letters must be put in, taken out or replaced to make one word of another (Levenshtein).
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.chars().take(64).enumerate() {
        let mut left = row + 1;
        let mut line = vec![left];
        for (column, other) in to.iter().enumerate() {
            let at = |index: usize| above.get(index).copied().unwrap_or(usize::MAX - 1);
            let replaced = at(column) + usize::from(letter != *other);
            left = replaced.min(at(column + 1) + 1).min(left + 1);
            line.push(left);
        }
        above = line;
    }
    above.last().copied().unwrap_or(0)
}

/// The absolute path of a configuration file.
pub(super) fn conf_path(given: &Path) -> anyhow::Result<String> {
    let path = std::path::absolute(given).context("--conf")?;
    match path.to_str() {
        Some(text) => Ok(text.into()),
        None => Err(UsageError(format!("--conf {} is not UTF-8", given.display())).into()),
    }
}

/// The real path of a root of which the last part may not be there yet.
pub(super) fn resolve(given: &Path) -> anyhow::Result<RootPath> {
    let usage = |cause: String| UsageError(format!("--root: {cause}"));
    let text = given.to_str().ok_or_else(|| usage(format!("{} is not UTF-8", given.display())))?;
    let clean = RootPath::parse(text).map_err(usage)?;
    let mut real = PathBuf::from("/");
    for name in clean.components() {
        let next = real.join(name);
        real = match fs::symlink_metadata(&next) {
            Ok(found) if found.is_symlink() => {
                fs::canonicalize(&next).with_context(|| format!("{} leads nowhere", next.display()))?
            }
            _ => next,
        };
    }
    let real = real.to_str().ok_or_else(|| usage(format!("{} is not UTF-8", real.display())))?;
    RootPath::parse(real).map_err(|cause| usage(cause).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_find_their_neighbour() {
        let text = b"rot = /srv\ngruop = x\nminuid = 5\nexports = A\nfavourite_colour = blue\n";
        let loaded = config::parse(&[], "/c", Ok(text));
        let found: Vec<_> = loaded.problems.iter().map(nearest).collect();
        assert_eq!(found, [Some("root"), Some("group"), Some("min_uid"), Some("export"), None]);
    }
}
