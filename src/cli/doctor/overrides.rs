//! Who else sets the variables: files that are read after the module, or by what PAM does not reach, and
//! processes that still have another value.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use super::users_files::{self, Directory, Home, Homes, MAX_FILE};
use super::{Finding, Gravity, Patient};
use crate::cli::places::is_local;
use crate::config::Export;
use crate::quoting::ShellWord;

/// Files of the host that set variables for everybody; of a directory, all files in it.
const FILES: [(&str, &str); 17] = [
    ("/etc/environment", "for sessions by ssh it wins over the module"),
    ("/etc/security/pam_env.conf", "where pam_env stands after the module, it wins"),
    ("/etc/profile", "login shells take it instead"),
    ("/etc/profile.d", "login shells take it instead"),
    ("/etc/bash.bashrc", "interactive shells take it instead"),
    ("/etc/bashrc", "interactive shells take it instead"),
    ("/etc/zshenv", "zsh takes it instead"),
    ("/etc/zsh", "zsh takes it instead"),
    ("/etc/csh.cshrc", "csh takes it instead"),
    ("/etc/fish/config.fish", "fish takes it instead"),
    ("/etc/fish/conf.d", "fish takes it instead"),
    ("/etc/environment.d", "users' services take it instead"),
    ("/usr/lib/environment.d", "users' services take it instead"),
    ("/etc/crontab", "its jobs take it instead"),
    ("/etc/cron.d", "its jobs take it instead"),
    ("/var/spool/cron/crontabs", "its jobs take it instead"),
    ("/var/spool/cron", "its jobs take it instead"),
];

/// The same, in a home directory.
const USERS_FILES: [&str; 13] = [
    ".profile",
    ".bash_profile",
    ".bash_login",
    ".bashrc",
    ".zshenv",
    ".zprofile",
    ".zshrc",
    ".cshrc",
    ".login",
    ".config/fish/config.fish",
    ".config/environment.d",
    ".pam_environment",
    ".ssh/environment",
];

/// Where cargo looks for a target directory that the variable overrides.
const CARGO_CONFIGS: [&str; 2] = [".cargo/config.toml", ".cargo/config"];

/// How many files of one directory are looked through.
const MAX_FILES: usize = 100;

/// How much of one home is looked through, in bytes.
const MAX_HOME: u64 = 8 * 1024 * 1024;

/// How much is read of the environments of one user's processes, in bytes: a thousand of a usual size.
const MAX_ENVIRONMENTS: u64 = 16 * 1024 * 1024;

/// How many are named of what can be many: lines, files of a home, processes.
const MAX_NAMED: usize = 5;

/// How much of a value is shown, in characters.
const MAX_SHOWN: usize = 200;

/// A program that outlives the session it was started from.
struct Lingering {
    /// As the kernel has it, or followed by a colon and more.
    name: &'static str,
    /// Whether what it starts has no variable where it has none. (Of node(1) one cannot know what it is.)
    hands_on: bool,
    remedy: &'static str,
}

const LINGERING: [Lingering; 4] = [
    Lingering {
        name: "tmux",
        hands_on: true,
        remedy: "tmux kill-server, as that user, once the work in it is saved",
    },
    Lingering { name: "screen", hands_on: true, remedy: "end that screen, once the work in it is saved" },
    Lingering {
        name: USER_MANAGER,
        hands_on: true,
        remedy: "restart it, once that user's services may stop; sessions stay open",
    },
    Lingering {
        name: "node",
        hands_on: false,
        remedy: "that looks like an editor's server: stop it, and connect anew",
    },
];

/// systemd's, one a user: it is started with the first session, or at boot for who lingers, and gives all of
/// the user's services the environment it had then.
const USER_MANAGER: &str = "systemd";

impl Lingering {
    fn of(process: &str) -> Option<&'static Self> {
        LINGERING.iter().find(|known| {
            process.strip_prefix(known.name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        })
    }
}

pub(super) fn examine(patient: &Patient, homes: &Homes, findings: &mut Vec<Finding>) {
    let variables: BTreeSet<&str> = patient.exports().map(Export::variable).collect();
    let mut seen = BTreeSet::new();
    for (path, consequence) in FILES {
        for file in files_at(Path::new(path)) {
            // Debian's environment.d has a link to /etc/environment.
            if seen.insert(fs::canonicalize(&file).unwrap_or_else(|_| file.clone())) {
                let editor = Editor::of_roots(&file);
                let text = read_file(&file);
                findings.extend(examine_file(&file, text, consequence, &editor, &variables));
            }
        }
    }
    for home in &homes.open {
        examine_home(home, &variables, findings);
    }
    examine_sshd(&variables, findings);
    examine_sudo(&variables, findings);
    if variables.contains("CARGO_TARGET_DIR") {
        examine_cargo_configs(homes, findings);
    }
    examine_processes(patient, findings);
}

/// The files of a user's shells and services. There can be any number of them, of any size.
fn examine_home(home: &Home, variables: &BTreeSet<&str>, findings: &mut Vec<Finding>) {
    let mut left = MAX_HOME;
    let mut found = Vec::new();
    for below in USERS_FILES.iter().flat_map(|name| home.directory.files(name, MAX_FILES)) {
        let Some(text) = home.directory.read(&below).filter(|_| left > 0) else { continue };
        left = left.saturating_sub(text.len() as u64);
        let consequence = "that user's shells or services take it instead";
        let path = home.directory.path().join(below);
        found.extend(examine_file(&path, Some(text), consequence, &Editor::User(&home.user), variables));
    }
    let more = found.len().saturating_sub(MAX_NAMED);
    findings.extend(found.into_iter().take(MAX_NAMED));
    if more > 0 {
        findings.push(Finding::new(
            "overridden",
            Gravity::Some,
            format!("{more} more files in {} do so too", home.directory.path().display()),
            "take the lines out of these too",
        ));
    }
}

/// With what a line is taken out of a file. That is no command which does so: a line can be one half of
/// something, and a user's file be swapped for another before the command runs.
enum Editor<'a> {
    /// This command opens the file.
    Command(String),
    /// It is this user's, in whose directories root's editor could be led anywhere.
    User(&'a str),
}

impl Editor<'_> {
    fn of_roots(file: &Path) -> Self {
        Self::Command(match file.strip_prefix("/var/spool/cron").ok().and_then(Path::file_name) {
            Some(user) => format!("crontab -u {} -e", ShellWord(&user.to_string_lossy())),
            None => format!("sudoedit {}", ShellWord(&file.to_string_lossy())),
        })
    }

    fn take(&self, what: &str) -> String {
        match self {
            Self::Command(command) => format!("take {what}, with {command}"),
            Self::User(user) => format!("let {user} take {what}"),
        }
    }
}

/// A file of root's, or the files of a directory.
fn files_at(path: &Path) -> Vec<PathBuf> {
    let Ok(found) = fs::metadata(path) else { return Vec::new() };
    if !found.is_dir() {
        return vec![path.into()];
    }
    let mut files: Vec<PathBuf> = fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

/// A file of root's, which may be a link to another.
fn read_file(path: &Path) -> Option<String> {
    let opened = openat(AT_FDCWD, path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    users_files::read_regular(&opened)
}

/// Whether a line of a shell, of crontab(5), of pam_env.conf(5) and their like sets, or unsets, a variable.
/// One that only uses it does not.
fn sets(line: &str, variable: &str) -> bool {
    let line = line.trim_start();
    if line.starts_with('#') {
        return false;
    }
    let is_of_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    line.match_indices(variable).any(|(at, _)| {
        let (before, after) =
            (line.get(..at).unwrap_or_default(), line.get(at + variable.len()..).unwrap_or_default());
        let is_word = !before.ends_with(is_of_name) && !after.starts_with(is_of_name);
        is_word && !before.ends_with(['$', '{']) && !before.contains(" #")
    })
}

/// What a file sets.
fn examine_file(
    file: &Path,
    text: Option<String>,
    consequence: &str,
    editor: &Editor<'_>,
    variables: &BTreeSet<&str>,
) -> Option<Finding> {
    let text = text?;
    let set: Vec<&str> =
        variables.iter().copied().filter(|variable| text.lines().any(|line| sets(line, variable))).collect();
    let sets_any = |line: &str| set.iter().any(|variable| sets(line, variable));
    let numbers = text.lines().enumerate().filter(|(_, line)| sets_any(line)).map(|(index, _)| index + 1);
    let numbers: Vec<usize> = numbers.collect();
    if numbers.is_empty() {
        return None;
    }
    let lines = if numbers.len() == 1 { "that line" } else { "those lines" };
    Some(Finding::new(
        "overridden",
        Gravity::Some,
        format!("{}:{} sets {}: {consequence}", file.display(), some_of(&numbers, ","), set.join(" and ")),
        editor.take(&format!("it out of {lines}")),
    ))
}

/// The first few, and how many more there are.
fn some_of<T: ToString>(all: &[T], between: &str) -> String {
    let named: Vec<String> = all.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    match all.len() - named.len() {
        0 => named.join(between),
        more => format!("{} and {more} more", named.join(between)),
    }
}

/// The settings of sshd: file, line, keyword, value. Those of `Match` blocks are among them.
pub(super) fn sshd_settings() -> Vec<(PathBuf, usize, String, String)> {
    let mut settings = Vec::new();
    // Debian's sshd_config includes its .d at the top.
    for file in files_at(Path::new("/etc/ssh/sshd_config.d"))
        .into_iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "conf"))
        .chain([PathBuf::from("/etc/ssh/sshd_config")])
    {
        let text = read_file(&file).unwrap_or_default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.starts_with('#') {
                continue;
            }
            if let Some((keyword, value)) =
                line.split_once(|character: char| character.is_whitespace() || character == '=')
            {
                let value =
                    value.trim_start_matches(|character: char| character.is_whitespace() || character == '=');
                settings.push((file.clone(), index + 1, keyword.into(), value.into()));
            }
        }
    }
    settings
}

fn examine_sshd(variables: &BTreeSet<&str>, findings: &mut Vec<Finding>) {
    for (file, number, keyword, value) in sshd_settings() {
        let words = || value.split_ascii_whitespace().map(|word| word.trim_matches('"'));
        let consequence = if keyword.eq_ignore_ascii_case("SetEnv") {
            words().filter_map(|word| word.split_once('=')).find(|(name, _)| variables.contains(name)).map(
                |(name, _)| {
                    format!("sets {name}: sessions by ssh take it instead, restart sshd when it is out")
                },
            )
        } else if keyword.eq_ignore_ascii_case("AcceptEnv") {
            let taken = |pattern: &str| variables.iter().find(|variable| glob(pattern, variable)).copied();
            words().find_map(taken).map(|name| {
                format!("takes {name} from ssh's clients: whoever gets none from the module keeps theirs")
            })
        } else {
            None
        };
        if let Some(consequence) = consequence {
            findings.push(Finding::new(
                "overridden-by-sshd",
                Gravity::Some,
                format!("{}:{number} {consequence}", file.display()),
                Editor::of_roots(&file).take("the word out of that line")
                    + "; then sshd -t, and restart sshd",
            ));
        }
    }
}

/// The patterns of sshd_config(5): `*` and `?`.
fn glob(pattern: &str, text: &str) -> bool {
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some('*'), next) => {
            let rest = pattern.get(1..).unwrap_or_default();
            glob(rest, text)
                || next.is_some_and(|next| glob(pattern, text.get(next.len_utf8()..).unwrap_or_default()))
        }
        (Some(wanted), Some(is)) if wanted == '?' || wanted == is => glob(
            pattern.get(wanted.len_utf8()..).unwrap_or_default(),
            text.get(is.len_utf8()..).unwrap_or_default(),
        ),
        _ => false,
    }
}

fn examine_sudo(variables: &BTreeSet<&str>, findings: &mut Vec<Finding>) {
    for file in files_at(Path::new("/etc/sudoers")).into_iter().chain(files_at(Path::new("/etc/sudoers.d"))) {
        let text = read_file(&file).unwrap_or_default();
        for (index, line) in text.lines().enumerate() {
            let Some((_, kept)) = line.split_once("env_keep").filter(|_| !line.trim_start().starts_with('#'))
            else {
                continue;
            };
            let mut words = kept.split(|character: char| {
                !character.is_ascii_alphanumeric() && !matches!(character, '_' | '*')
            });
            let Some(name) = words.find_map(|word| {
                variables
                    .iter()
                    .find(|variable| !word.is_empty() && word != "*" && glob(word, variable))
                    .copied()
            }) else {
                continue;
            };
            findings.push(Finding::new(
                "kept-by-sudo",
                Gravity::Some,
                format!(
                    "{}:{} lets sudo keep {name}: root then builds in the caller's directory, and leaves files there",
                    file.display(),
                    index + 1
                ),
                format!("take the word out of that line, with visudo -f {}", ShellWord(&file.to_string_lossy())),
            ));
        }
    }
}

/// A `target-dir` that no longer counts.
fn examine_cargo_configs(homes: &Homes, findings: &mut Vec<Finding>) {
    for home in &homes.open {
        examine_cargo_config(&home.directory, |_| Editor::User(&home.user), findings);
    }
    let everywhere = ["/", "/home", "/srv", "/opt"].map(Path::new);
    for directory in everywhere.into_iter().filter(|path| is_local(path)).filter_map(Directory::open) {
        examine_cargo_config(&directory, Editor::of_roots, findings);
    }
}

fn examine_cargo_config<'a>(
    directory: &Directory,
    editor: impl Fn(&Path) -> Editor<'a>,
    findings: &mut Vec<Finding>,
) {
    for name in CARGO_CONFIGS {
        let Some(text) = directory.read(Path::new(name)) else { continue };
        let sets_it = |line: &str| {
            let key = line.split('=').next().unwrap_or_default().trim();
            line.contains('=') && matches!(key, "target-dir" | "build.target-dir" | "target_dir")
        };
        let Some(index) = text.lines().position(sets_it) else { continue };
        let file = directory.path().join(name);
        findings.push(Finding::new(
            "target-dir-overridden",
            Gravity::Some,
            format!("{}:{} sets target-dir, which CARGO_TARGET_DIR overrides", file.display(), index + 1),
            editor(&file).take("that line out, so that nobody wonders"),
        ));
    }
}

/// A program of a member's that has not the value that a login gives.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Stale {
    uid: u32,
    user: String,
    process: String,
    variable: String,
    /// What it has instead, if anything.
    value: Option<String>,
}

/// Members' processes that have not the value that a login gives: they were there before, and stay so.
fn examine_processes(patient: &Patient, findings: &mut Vec<Finding>) {
    let mut expected: BTreeMap<u32, (&str, Vec<&str>)> = BTreeMap::new();
    for member in patient.members() {
        let (Some(uid), Ok(ready)) = (member.uid, &member.outcome) else { continue };
        let (_, assignments) = expected.entry(uid).or_insert((&member.user, Vec::new()));
        assignments.extend(ready.assignments.iter().map(String::as_str));
    }
    let mut left: BTreeMap<u32, u64> = BTreeMap::new();
    let mut stale: BTreeMap<Stale, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // What cannot be read is not ours to read, or has ended.
        let Ok(found) = entry.metadata() else { continue };
        let uid = found.uid();
        let Some((user, assignments)) = expected.get(&uid) else { continue };
        let left = left.entry(uid).or_insert(MAX_ENVIRONMENTS);
        let Some(environment) = environment(&entry.path(), (*left).min(MAX_FILE)) else { continue };
        *left = left.saturating_sub(environment.len() as u64);
        let process = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let (user, process) = ((*user).to_owned(), process.trim().to_owned());
        if let Some((variable, value)) = stale_variable(&environment, assignments, &process) {
            stale.entry(Stale { uid, user, process, variable, value }).or_default().push(pid);
        }
    }
    let mut told: BTreeMap<u32, usize> = BTreeMap::new();
    for (stale, pids) in stale {
        // Names and values are the user's to choose: there can be any number of them.
        let told = told.entry(stale.uid).or_default();
        *told += 1;
        if *told <= MAX_NAMED {
            findings.push(stale.finding(pids));
        }
    }
}

impl Stale {
    fn finding(&self, mut pids: Vec<u32>) -> Finding {
        let Self { uid, user, process, variable, value } = self;
        pids.sort_unstable();
        let is_manager = process == USER_MANAGER;
        let what = if is_manager { "systemd's user manager" } else { process };
        let whose = format!("{what} of {user} ({})", some_of(&pids, ", "));
        let known = Lingering::of(process);
        let remedy = known.map_or("end it, and start it anew from a new session", |known| known.remedy);
        let finding = match value {
            Some(value) => Finding::new(
                "process-with-another-value",
                Gravity::Some,
                format!("{whose} still has {variable}={value}"),
                remedy,
            ),
            None => Finding::new(
                "process-without-the-value",
                Gravity::Some,
                format!(
                    "{whose} has no {variable}, nor has what it starts: it has run since before a login set it"
                ),
                remedy,
            ),
        };
        if is_manager { finding.run(format!("systemctl restart user@{uid}.service")) } else { finding }
    }
}

/// The start of a process's environment. It can be without end: prctl(2) lets a process say where it lies.
fn environment(process: &Path, most: u64) -> Option<Vec<u8>> {
    let mut environment = Vec::new();
    File::open(process.join("environ")).ok()?.take(most).read_to_end(&mut environment).ok()?;
    Some(environment)
}

/// The first variable of these that a process has not as a session gets it, and what it has instead.
fn stale_variable(
    environment: &[u8],
    assignments: &[&str],
    process: &str,
) -> Option<(String, Option<String>)> {
    let hands_on = Lingering::of(process).is_some_and(|known| known.hands_on);
    assignments.iter().find_map(|assignment| {
        let (variable, _) = assignment.split_once('=')?;
        let mut entries = environment.split(|&byte| byte == 0);
        let has = entries
            .find(|entry| entry.strip_prefix(variable.as_bytes()).is_some_and(|rest| rest.starts_with(b"=")));
        let Some(has) = has else { return hands_on.then(|| (variable.to_owned(), None)) };
        if assignments.iter().any(|assignment| assignment.as_bytes() == has) {
            return None;
        }
        let value = has.get(variable.len() + 1..).unwrap_or_default();
        let value = String::from_utf8_lossy(value);
        let mut shown: String = value.chars().take(MAX_SHOWN).collect();
        if shown.len() < value.len() {
            shown.push_str(" ...");
        }
        Some((variable.to_owned(), Some(shown)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_that_sets_is_told_from_one_that_uses() {
        for line in [
            "CARGO_TARGET_DIR=/x",
            "  export CARGO_TARGET_DIR=/srv/$USER",
            "set -gx CARGO_TARGET_DIR /x",
            "setenv CARGO_TARGET_DIR /x",
            "CARGO_TARGET_DIR DEFAULT=/x",
            "unset CARGO_TARGET_DIR",
            "* * * * * alice CARGO_TARGET_DIR=/x make",
        ] {
            assert!(sets(line, "CARGO_TARGET_DIR"), "{line}");
        }
        for line in [
            "# CARGO_TARGET_DIR=/x",
            "ls # CARGO_TARGET_DIR=/x",
            "ls $CARGO_TARGET_DIR ${CARGO_TARGET_DIR}",
            "MY_CARGO_TARGET_DIR=/x",
            "CARGO_TARGET_DIRS=/x",
        ] {
            assert!(!sets(line, "CARGO_TARGET_DIR"), "{line}");
        }
    }

    #[test]
    fn patterns_of_sshd() {
        for pattern in ["CARGO_*", "*", "CARGO_TARGET_DI?", "*_DIR", "CARGO_TARGET_DIR"] {
            assert!(glob(pattern, "CARGO_TARGET_DIR"), "{pattern}");
        }
        for pattern in ["LC_*", "CARGO_?", "", "CARGO"] {
            assert!(!glob(pattern, "CARGO_TARGET_DIR"), "{pattern}");
        }
    }
}
