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
        let actions = self.actions();
        let action = |code| actions.iter().find(|(name, _)| name == code).map(|(_, action)| action.as_str());
        matches!(action("module_unknown").or(action("default")), Some("bad" | "die"))
    }

    /// What is done for which return code: pam.conf(5).
    fn actions(&self) -> Vec<(String, String)> {
        let control = self.control.to_ascii_lowercase();
        let words = match control.strip_prefix('[') {
            Some(words) => words.trim_end_matches(']'),
            None => match control.as_str() {
                "required" => "success=ok new_authtok_reqd=ok ignore=ignore default=bad",
                "requisite" => "success=ok new_authtok_reqd=ok ignore=ignore default=die",
                "sufficient" => "success=done new_authtok_reqd=done default=ignore",
                _ => "success=ok new_authtok_reqd=ok default=ignore",
            },
        };
        let actions = words.split_ascii_whitespace().filter_map(|action| action.split_once('='));
        actions.map(|(code, action)| (code.into(), action.into())).collect()
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
    /// The substacks that each line stands in, the innermost last.
    substacks: Vec<Vec<usize>>,
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

/// A line before ours that can keep a session from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before<'a> {
    /// Where it succeeds, the stack ends.
    Ends(&'a Entry),
    /// It can jump to a line behind ours.
    Jumps(&'a Entry),
}

impl Stack {
    /// The lines before ours that can keep a session from it.
    pub(super) fn before_ours(&self) -> Vec<Before<'_>> {
        let ours = self.lines_of_ours().last();
        let Some(at) = ours.and_then(|ours| self.entries.iter().rposition(|entry| entry == ours)) else {
            return Vec::new();
        };
        let none = Vec::new();
        let within = |index: usize| self.substacks.get(index).unwrap_or(&none);
        let before = self.entries.iter().enumerate().take(at);
        before
            .filter_map(|(index, entry)| {
                // The end of a substack is the end of that substack alone.
                let ends_ours = within(at).starts_with(within(index));
                entry.actions().iter().find_map(|(code, action)| match (action.as_str(), action.parse()) {
                    ("done", _) if ends_ours => Some(Before::Ends(entry)),
                    ("die", _) if ends_ours && code == "success" => Some(Before::Ends(entry)),
                    (_, Ok(jump)) if self.lands(index, jump) > at => Some(Before::Jumps(entry)),
                    _ => None,
                })
            })
            .collect()
    }

    /// The index of the line that a jump over so many leads to. A substack counts as one, and is not left.
    fn lands(&self, from: usize, jump: usize) -> usize {
        let level = |index: usize| self.substacks.get(index).map(Vec::len);
        let Some(own) = level(from) else { return from };
        let mut at = from + 1;
        for _ in 0..jump {
            if level(at).is_none_or(|level| level < own) {
                break;
            }
            at += 1;
            while level(at).is_some_and(|level| level > own) {
                at += 1;
            }
        }
        at
    }
}

/// Reads the session stack of a service.
pub(super) fn session(service: &str) -> Stack {
    let mut stack = Stack { file: find(Path::new(service)), ..Stack::default() };
    if let Some(file) = stack.file.clone() {
        stack.read(&file, &mut Vec::new(), &[]);
    }
    // A service without a file, or without a line for sessions, has those of `other`.
    if stack.entries.is_empty() && service != "other" {
        if let Some(other) = find(Path::new("other")) {
            stack.read(&other, &mut Vec::new(), &[]);
        }
    }
    stack
}

/// Every service that has a file. What package managers and editors leave beside one is none.
pub(super) fn services() -> BTreeSet<String> {
    let files =
        DIRECTORIES.iter().flat_map(|directory| fs::read_dir(directory).into_iter().flatten().flatten());
    let names = files.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| !is_left_over(name)).collect()
}

/// Whether a file is a copy that dpkg, ucf, rpm, pam-auth-update, authselect or an editor keeps.
fn is_left_over(name: &str) -> bool {
    const ENDS: [&str; 7] = ["~", ".bak", ".old", ".orig", ".pam-old", ".save", ".swp"];
    const MIDDLES: [&str; 3] = [".dpkg-", ".rpm", ".ucf-"];
    name.starts_with(['.', '#'])
        || ENDS.iter().any(|end| name.ends_with(end))
        || MIDDLES.iter().any(|middle| name.contains(middle))
}

/// The file of a service, or of an include that names one.
fn find(name: &Path) -> Option<PathBuf> {
    DIRECTORIES.iter().map(|directory| Path::new(directory).join(name)).find(|file| file.exists())
}

impl Stack {
    /// Adds what a file says of sessions.
    fn read(&mut self, file: &Path, including: &mut Vec<PathBuf>, substacks: &[usize]) {
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
                    self.include(file, &name, including, substacks);
                }
                continue;
            }
            // A leading `-` keeps libpam from logging that the module is missing.
            let kind = kind.trim_start_matches('-').to_ascii_lowercase();
            let (Some(control), Some(module)) = (text(), text()) else { continue };
            if kind != "session" {
                continue;
            }
            match control.to_ascii_lowercase().as_str() {
                "include" => self.include(file, &module, including, substacks),
                // Known by the line that is its first.
                "substack" => {
                    self.include(file, &module, including, &[substacks, &[self.entries.len()]].concat());
                }
                _ => {
                    self.substacks.push(substacks.to_vec());
                    self.entries.push(Entry { file: file.into(), number, control, module, arguments: words });
                }
            }
        }
        including.pop();
    }

    fn include(&mut self, by: &Path, name: &str, including: &mut Vec<PathBuf>, substacks: &[usize]) {
        if let Some(file) = find(Path::new(name)) {
            self.read(&file, including, substacks);
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
    fn copies_beside_a_service_are_no_services() {
        for name in [
            "sshd.dpkg-old",
            "sshd.dpkg-new",
            "sshd.ucf-dist",
            "sshd.rpmnew",
            "sshd.rpmsave",
            "common-auth.pam-old",
            "sshd~",
            ".sshd.swp",
            "#sshd#",
            "sshd.bak",
        ] {
            assert!(is_left_over(name), "{name}");
        }
        for name in ["sshd", "su-l", "gdm-password", "org.example.login", "systemd-user"] {
            assert!(!is_left_over(name), "{name}");
        }
    }

    #[test]
    fn line_that_ends_a_stack_or_jumps_over_ours_is_found() {
        let stack = |lines: &[(&str, &str, &[usize])]| {
            let mut stack = Stack::default();
            for (number, (control, module, substacks)) in lines.iter().enumerate() {
                stack.entries.push(Entry {
                    file: PathBuf::new(),
                    number,
                    control: (*control).into(),
                    module: (*module).into(),
                    arguments: Vec::new(),
                });
                stack.substacks.push(substacks.to_vec());
            }
            stack
        };
        let found = |lines: &[(&str, &str, &[usize])]| -> String {
            let stack = stack(lines);
            let letter = |before: &Before<'_>| match before {
                Before::Ends(line) => format!("e{}", line.number),
                Before::Jumps(line) => format!("j{}", line.number),
            };
            stack.before_ours().iter().map(letter).collect()
        };
        let ours: (&str, &str, &[usize]) = ("optional", MODULE, &[]);
        // Debian's common-session: the jump is over the line behind it.
        assert_eq!(
            found(&[
                ("[default=1]", "pam_permit.so", &[]),
                ("requisite", "pam_deny.so", &[]),
                ("required", "pam_permit.so", &[]),
                ours,
            ]),
            ""
        );
        // Fedora's system-auth, with ours put where the jump is to.
        assert_eq!(found(&[("[success=1 default=ignore]", "pam_succeed_if.so", &[]), ours]), "j0");
        assert_eq!(found(&[("sufficient", "a.so", &[]), ("[success=done]", "b.so", &[]), ours]), "e0e1");
        assert_eq!(found(&[("[success=die]", "a.so", &[]), ("requisite", "b.so", &[]), ours]), "e0");
        assert_eq!(found(&[ours, ("sufficient", "a.so", &[])]), "");
        // A substack ends itself, and counts as one line; a jump does not leave it.
        assert_eq!(found(&[("sufficient", "a.so", &[0]), ours]), "");
        assert_eq!(found(&[("[success=9]", "a.so", &[0]), ours]), "");
        assert_eq!(
            found(&[
                ("[success=1]", "a.so", &[]),
                ("required", "b.so", &[1]),
                ("required", "c.so", &[1]),
                ours
            ]),
            ""
        );
        assert_eq!(found(&[("sufficient", "a.so", &[]), ("optional", MODULE, &[1])]), "e0");
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
