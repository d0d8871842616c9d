//! The stacks of /etc/pam.d, as libpam reads them: which modules a service's sessions pass.
//!
//! Follows `@include`, `include` and `substack`. What libpam would stumble over is noted, not fatal.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::{Path, PathBuf};

/// Where libpam looks for a service, the administrator's directory first.
const DIRECTORIES: [&str; 2] = ["/etc/pam.d", "/usr/lib/pam.d"];

/// The name of the module's file.
pub(super) const MODULE: &str = "pam_cargo_target.so";

/// How deep files may include one another (libpam gives up at 16).
const MAX_DEPTH: usize = 16;

/// No sensible service file is longer, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// A line of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The file that it stands in.
    pub(super) file: PathBuf,
    /// Its number there, from 1.
    pub(super) number: usize,
    /// `optional`, `required`, `[success=ok ...]`.
    pub(super) control: String,
    /// The module, as the line names it.
    pub(super) module: String,
    /// The words after it.
    pub(super) arguments: Vec<Vec<u8>>,
}

impl Entry {
    /// Whether a module that is missing, or an error of its, fails the session.
    pub(super) fn is_binding(&self) -> bool {
        let control = self.control.to_ascii_lowercase();
        match control.strip_prefix('[') {
            None => matches!(control.as_str(), "required" | "requisite"),
            Some(actions) => {
                let actions: Vec<(&str, &str)> = actions
                    .trim_end_matches(']')
                    .split_ascii_whitespace()
                    .filter_map(|action| action.split_once('='))
                    .collect();
                let action = |code| actions.iter().find(|(name, _)| *name == code).map(|(_, action)| *action);
                matches!(action("module_unknown").or(action("default")), Some("bad" | "die"))
            }
        }
    }
}

impl Display for Entry {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: session {} {}", self.file.display(), self.number, self.control, self.module)?;
        for argument in &self.arguments {
            write!(f, " {}", String::from_utf8_lossy(argument))?;
        }
        Ok(())
    }
}

/// What libpam would stumble over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// A file includes itself, if only by way of others.
    Loop(PathBuf),
    /// A file that another includes, and that is not there.
    Missing {
        /// The one that includes it.
        by: PathBuf,
        /// What it names.
        file: PathBuf,
    },
    /// A file cannot be read, for this reason.
    Unreadable(PathBuf, String),
}

impl Display for Trouble {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loop(file) => write!(
                f,
                "{} includes itself, if only by way of others: a login by it never ends; take the include out",
                file.display()
            ),
            Self::Missing { by, file } => write!(
                f,
                "{} includes {}, which does not exist: no session opens by it; create the one or mend \
                 the other",
                by.display(),
                file.display()
            ),
            Self::Unreadable(file, cause) => write!(f, "{} cannot be read: {cause}", file.display()),
        }
    }
}

/// The session stack of a service.
#[derive(Debug, Default)]
pub(super) struct Stack {
    /// The service's own file; none where libpam falls back to `other`.
    pub(super) file: Option<PathBuf>,
    /// Every file that is read for it.
    pub(super) files: BTreeSet<PathBuf>,
    /// The lines, in order.
    pub(super) entries: Vec<Entry>,
    /// What is wrong.
    pub(super) troubles: BTreeSet<Trouble>,
}

impl Stack {
    /// The lines that name our module.
    pub(super) fn lines_of_ours(&self) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .filter(|entry| Path::new(&entry.module).file_name().is_some_and(|name| name == MODULE))
    }
}

/// Reads the session stack of a service.
pub(super) fn session(service: &str) -> Stack {
    let mut stack = Stack { file: find(Path::new(service)), ..Stack::default() };
    if let Some(file) = stack.file.clone() {
        stack.read(&file, &mut Vec::new());
    }
    // A service without a file, or without a line for sessions, has those of `other`.
    if stack.entries.is_empty() && service != "other" {
        if let Some(other) = find(Path::new("other")) {
            stack.read(&other, &mut Vec::new());
        }
    }
    stack
}

/// Every service that has a file.
pub(super) fn services() -> BTreeSet<String> {
    let files =
        DIRECTORIES.iter().flat_map(|directory| fs::read_dir(directory).into_iter().flatten().flatten());
    files.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The file of a service, or of an include that names one.
fn find(name: &Path) -> Option<PathBuf> {
    DIRECTORIES.iter().map(|directory| Path::new(directory).join(name)).find(|file| file.exists())
}

impl Stack {
    /// Adds what a file says of sessions.
    fn read(&mut self, file: &Path, including: &mut Vec<PathBuf>) {
        if including.len() >= MAX_DEPTH || including.iter().any(|above| above == file) {
            self.troubles.insert(Trouble::Loop(file.into()));
            return;
        }
        let content = match read_bounded(file) {
            Ok(content) => content,
            Err(cause) => {
                self.troubles.insert(Trouble::Unreadable(file.into(), cause));
                return;
            }
        };
        self.files.insert(file.into());
        including.push(file.into());
        for (number, line) in logical_lines(&content) {
            let mut words = words(&line);
            let mut text = || (!words.is_empty()).then(|| words.remove(0)).map(lossy);
            let Some(kind) = text() else { continue };
            if kind == "@include" {
                if let Some(name) = text() {
                    self.include(file, &name, including);
                }
                continue;
            }
            // A leading `-` keeps libpam from logging that the module is missing.
            let kind = kind.trim_start_matches('-').to_ascii_lowercase();
            let (Some(control), Some(module)) = (text(), text()) else { continue };
            if kind != "session" {
                continue;
            }
            if matches!(control.to_ascii_lowercase().as_str(), "include" | "substack") {
                self.include(file, &module, including);
            } else {
                self.entries.push(Entry { file: file.into(), number, control, module, arguments: words });
            }
        }
        including.pop();
    }

    fn include(&mut self, by: &Path, name: &str, including: &mut Vec<PathBuf>) {
        if let Some(file) = find(Path::new(name)) {
            self.read(&file, including);
        } else {
            let file = Path::new("/etc/pam.d").join(name);
            self.troubles.insert(Trouble::Missing { by: by.into(), file });
        }
    }
}

/// A file's content; a special file is none.
fn read_bounded(file: &Path) -> Result<Vec<u8>, String> {
    let found = fs::metadata(file).map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is not a regular file".into());
    }
    if found.len() > MAX_FILE {
        return Err("it is larger than 1 MiB".into());
    }
    fs::read(file).map_err(|error| error.to_string())
}

/// The lines without comments, those that end in `\` joined with the next, with the number of the first.
fn logical_lines(content: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, Vec<u8>)> = None;
    for (index, line) in content.split(|&byte| byte == b'\n').enumerate() {
        let comment = line.iter().position(|&byte| byte == b'#');
        let line = comment.and_then(|at| line.get(..at)).unwrap_or(line).trim_ascii_end();
        let (line, goes_on) = match line.strip_suffix(b"\\") {
            Some(line) if comment.is_none() => (line, true),
            _ => (line, false),
        };
        let (number, mut joined) = open.take().unwrap_or((index + 1, Vec::new()));
        joined.extend_from_slice(line);
        if goes_on {
            joined.push(b' ');
            open = Some((number, joined));
        } else {
            lines.push((number, joined));
        }
    }
    lines.extend(open);
    lines
}

/// Words at blanks; one that starts with `[` reaches to its `]`, in which `\]` stands for `]`.
///
/// The first word is a type and the second a control, which keeps its brackets.
fn words(line: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii_start();
    while let Some(&first) = rest.first() {
        let mut word = Vec::new();
        let mut used = 0;
        if first == b'[' {
            used = 1;
            while let Some(&byte) = rest.get(used) {
                used += 1;
                match byte {
                    b'\\' if rest.get(used) == Some(&b']') => {
                        word.push(b']');
                        used += 1;
                    }
                    b']' => break,
                    byte => word.push(byte),
                }
            }
            if words.len() == 1 {
                word.insert(0, b'[');
                word.push(b']');
            }
        } else {
            while let Some(&byte) = rest.get(used) {
                if byte.is_ascii_whitespace() {
                    break;
                }
                word.push(byte);
                used += 1;
            }
        }
        words.push(word);
        rest = rest.get(used..).unwrap_or_default().trim_ascii_start();
    }
    words
}

fn lossy(word: Vec<u8>) -> String {
    String::from_utf8(word).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_libpam_reads_them() {
        let content = b"# x\nsession optional \\\n  m.so a # b\n\nsession [default=1 x=y] m.so [a b\\]c] d\n";
        let lines = logical_lines(content);
        let numbered: Vec<usize> =
            lines.iter().filter(|(_, line)| !line.is_empty()).map(|(number, _)| *number).collect();
        assert_eq!(numbered, [2, 5]);
        let last = lines.into_iter().find(|(number, _)| *number == 5).map(|(_, line)| words(&line));
        let last: Vec<String> = last.unwrap_or_default().into_iter().map(lossy).collect();
        assert_eq!(last, ["session", "[default=1 x=y]", "m.so", "a b]c", "d"]);
    }

    #[test]
    fn control_that_fails_a_login_is_known() {
        let entry = |control: &str| Entry {
            file: PathBuf::new(),
            number: 1,
            control: control.into(),
            module: MODULE.into(),
            arguments: Vec::new(),
        };
        for control in
            ["required", "REQUISITE", "[success=ok default=bad]", "[success=ok module_unknown=die]"]
        {
            assert!(entry(control).is_binding(), "{control}");
        }
        for control in
            ["optional", "sufficient", "[success=ok module_unknown=ignore default=bad]", "[success=ok]"]
        {
            assert!(!entry(control).is_binding(), "{control}");
        }
    }
}
