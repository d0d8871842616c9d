//! Who else sets the variables: files that are read after the module, or by what PAM does not reach, and
//! processes that still have another value.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{Finding, Gravity, Patient};
use crate::config::Export;
use crate::mounts::Mounts;
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

/// No file that is looked through is larger, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// How many processes of one kind are named.
const MAX_PIDS: usize = 5;

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

pub(super) fn examine(patient: &Patient, findings: &mut Vec<Finding>) {
    let exports = &patient.settings.loaded.config.exports;
    let variables: BTreeSet<&str> = exports.iter().map(Export::variable).collect();
    let homes = homes(patient);
    let mut seen = BTreeSet::new();
    for (path, consequence) in FILES {
        for file in files_at(Path::new(path)) {
            // Debian's environment.d has a link to /etc/environment.
            if seen.insert(fs::canonicalize(&file).unwrap_or_else(|_| file.clone())) {
                examine_file(&file, read_file(&file, false), consequence, &variables, findings);
            }
        }
    }
    for home in &homes {
        for name in USERS_FILES {
            for file in files_at(&home.join(name)) {
                let text = read_file(&file, true);
                examine_file(
                    &file,
                    text,
                    "that user's shells or services take it instead",
                    &variables,
                    findings,
                );
            }
        }
    }
    examine_sshd(&variables, findings);
    examine_sudo(&variables, findings);
    if variables.contains("CARGO_TARGET_DIR") {
        examine_cargo_configs(&homes, findings);
    }
    examine_processes(patient, findings);
}

/// The members' home directories that lie on this host: others could make us wait.
pub(super) fn homes(patient: &Patient) -> Vec<PathBuf> {
    let mounts = Mounts::read();
    let members: BTreeSet<&str> = patient.members.iter().map(|member| member.user.as_str()).collect();
    let homes: BTreeSet<PathBuf> = patient
        .everybody
        .iter()
        .filter(|person| members.contains(person.name.as_str()) && person.home != Path::new("/"))
        .filter(|person| person.home.to_str().is_some_and(|home| mounts.are_local_up_to(home)))
        .map(|person| person.home.clone())
        .collect();
    homes.into_iter().collect()
}

/// A file itself, or the files of a directory.
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

/// A file of a user's, who may have put anything there.
pub(super) fn read_users_file(path: &Path) -> Option<String> {
    read_file(path, true)
}

fn read_file(path: &Path, is_users: bool) -> Option<String> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | if is_users { libc::O_NOFOLLOW } else { 0 };
    let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut content = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut content).ok()?;
    Some(String::from_utf8_lossy(&content).into_owned())
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

fn examine_file(
    file: &Path,
    text: Option<String>,
    consequence: &str,
    variables: &BTreeSet<&str>,
    findings: &mut Vec<Finding>,
) {
    let Some(text) = text else { return };
    let set: Vec<&str> =
        variables.iter().copied().filter(|variable| text.lines().any(|line| sets(line, variable))).collect();
    let sets_any = |line: &str| set.iter().any(|variable| sets(line, variable));
    let numbers = text.lines().enumerate().filter(|(_, line)| sets_any(line)).map(|(index, _)| index + 1);
    let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
    if numbers.is_empty() {
        return;
    }
    let lines = if numbers.len() == 1 { "the line" } else { "the lines" };
    findings.push(
        Finding::new(
            "overridden",
            Gravity::Some,
            format!("{}:{} sets {}: {consequence}", file.display(), numbers.join(","), set.join(" and ")),
            format!("take {lines} out"),
        )
        .run(without_lines(&numbers, file)),
    );
}

/// The command that takes lines out of a file; all at once, so that their numbers hold.
fn without_lines(numbers: &[String], file: &Path) -> String {
    format!("sed -i '{}d' {}", numbers.join("d;"), ShellWord(&file.to_string_lossy()))
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
        let text = read_file(&file, false).unwrap_or_default();
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
    // From the last line on: the numbers of the others still hold when it is gone.
    for (file, number, keyword, value) in sshd_settings().into_iter().rev() {
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
            findings.push(
                Finding::new(
                    "overridden-by-sshd",
                    Gravity::Some,
                    format!("{}:{number} {consequence}", file.display()),
                    "take the line out, or the word, and restart sshd",
                )
                .run(without_lines(&[number.to_string()], &file)),
            );
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
        let text = read_file(&file, false).unwrap_or_default();
        for (index, line) in text.lines().enumerate().collect::<Vec<_>>().into_iter().rev() {
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
            findings.push(
                Finding::new(
                    "kept-by-sudo",
                    Gravity::Some,
                    format!(
                        "{}:{} lets sudo keep {name}: root then builds in the caller's directory, and leaves files there",
                        file.display(),
                        index + 1
                    ),
                    "take the word out, with visudo",
                )
                .run(without_lines(&[(index + 1).to_string()], &file)),
            );
        }
    }
}

/// A `target-dir` that no longer counts.
fn examine_cargo_configs(homes: &[PathBuf], findings: &mut Vec<Finding>) {
    let everywhere = ["/", "/home", "/srv", "/opt"].map(PathBuf::from);
    for directory in homes.iter().chain(&everywhere) {
        for name in CARGO_CONFIGS {
            let file = directory.join(name);
            let Some(text) = read_file(&file, true) else { continue };
            let sets_it = |line: &str| {
                let key = line.split('=').next().unwrap_or_default().trim();
                line.contains('=') && matches!(key, "target-dir" | "build.target-dir" | "target_dir")
            };
            let Some(number) = text.lines().position(sets_it) else { continue };
            let number = number + 1;
            findings.push(
                Finding::new(
                    "target-dir-overridden",
                    Gravity::Some,
                    format!("{}:{number} sets target-dir, which CARGO_TARGET_DIR overrides", file.display()),
                    "take the line out, so that nobody wonders",
                )
                .run(without_lines(&[number.to_string()], &file)),
            );
        }
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
    let expected: BTreeMap<u32, (&str, &[String])> = patient
        .members
        .iter()
        .filter_map(|member| {
            let ready = member.outcome.as_ref().ok()?;
            Some((member.uid?, (member.user.as_str(), ready.assignments.as_slice())))
        })
        .collect();
    let mut stale: BTreeMap<Stale, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // What cannot be read is not ours to read, or has ended.
        let Ok(found) = entry.metadata() else { continue };
        let uid = found.uid();
        let Some((user, assignments)) = expected.get(&uid) else { continue };
        let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
        let process = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let process = process.trim();
        for (variable, value) in assignments.iter().filter_map(|assignment| assignment.split_once('=')) {
            let has = environment
                .split(|&byte| byte == 0)
                .find_map(|one| one.strip_prefix(variable.as_bytes())?.strip_prefix(b"="));
            let is_stale = match has {
                Some(has) => has != value.as_bytes(),
                None => Lingering::of(process).is_some_and(|known| known.hands_on),
            };
            if is_stale {
                let value = has.map(|has| String::from_utf8_lossy(has).into_owned());
                let (user, process, variable) = ((*user).into(), process.into(), variable.into());
                stale.entry(Stale { uid, user, process, variable, value }).or_default().push(pid);
            }
        }
    }
    findings.extend(stale.into_iter().map(|(stale, pids)| stale.finding(pids)));
}

impl Stale {
    fn finding(&self, mut pids: Vec<u32>) -> Finding {
        let Self { uid, user, process, variable, value } = self;
        pids.sort_unstable();
        let more = pids.len().saturating_sub(MAX_PIDS);
        let mut named: Vec<String> = pids.iter().take(MAX_PIDS).map(ToString::to_string).collect();
        let kill = format!("kill {}", named.join(" "));
        if more > 0 {
            named.push(format!("and {more} more"));
        }
        let is_manager = process == USER_MANAGER;
        let what = if is_manager { "systemd's user manager" } else { process };
        let whose = format!("{what} of {user} ({})", named.join(", "));
        let known = Lingering::of(process);
        let remedy = known.map_or("end it, and start it anew from a new session", |known| known.remedy);
        match value {
            Some(value) => Finding::new(
                "process-with-another-value",
                Gravity::Some,
                format!("{whose} still has {variable}={value}"),
                remedy,
            ),
            None => Finding::new(
                "process-without-the-value",
                Gravity::Some,
                format!("{whose} has no {variable}, nor has what it starts: it has run since before a login set it"),
                remedy,
            ),
        }
        .run(if is_manager { format!("systemctl restart user@{uid}.service") } else { kill })
    }
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
