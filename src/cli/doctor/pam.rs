//! The module's file, and the services in which it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat};

use super::{Finding, Fix, Gravity, Patient};
use crate::cli::pam_d::{self, Before, Entry, MODULE, Stack, Trouble};
use crate::cli::settings::Settings;
use crate::cli::{Globals, module_file, places};
use crate::config::OnError;
use crate::quoting::ShellWord;
use crate::shared_root::kind;

/// What people log in by: the service, and the program whose presence says that this host has it.
const CLIENTS: [(&str, &[&str]); 22] = [
    ("sshd", &["/usr/sbin/sshd"]),
    ("login", &["/bin/login", "/usr/bin/login"]),
    ("su", &["/bin/su", "/usr/bin/su"]),
    ("su-l", &["/bin/su", "/usr/bin/su"]),
    ("sudo", &["/usr/bin/sudo"]),
    ("sudo-i", &["/usr/bin/sudo"]),
    ("cron", &["/usr/sbin/cron"]),
    ("crond", &["/usr/sbin/crond"]),
    ("systemd-user", &["/lib/systemd/systemd", "/usr/lib/systemd/systemd"]),
    ("gdm-password", &["/usr/sbin/gdm3", "/usr/sbin/gdm"]),
    ("gdm-autologin", &["/usr/sbin/gdm3", "/usr/sbin/gdm"]),
    ("gdm-fingerprint", &["/usr/sbin/gdm3", "/usr/sbin/gdm"]),
    ("gdm-smartcard", &["/usr/sbin/gdm3", "/usr/sbin/gdm"]),
    ("lightdm", &["/usr/sbin/lightdm"]),
    ("lightdm-autologin", &["/usr/sbin/lightdm"]),
    ("sddm", &["/usr/bin/sddm"]),
    ("sddm-autologin", &["/usr/bin/sddm"]),
    ("lxdm", &["/usr/sbin/lxdm"]),
    ("xdm", &["/usr/bin/xdm"]),
    ("greetd", &["/usr/sbin/greetd", "/usr/bin/greetd"]),
    ("xrdp-sesman", &["/usr/sbin/xrdp-sesman"]),
    ("cockpit", &["/usr/lib/cockpit/cockpit-ws", "/usr/libexec/cockpit-ws"]),
];

/// Files that other services include: one line there serves them all.
const SHARED: [&str; 4] = ["common-session", "common-session-noninteractive", "postlogin", "system-auth"];

/// The services of this host's login clients, with their stacks.
fn clients() -> Vec<(&'static str, Stack)> {
    CLIENTS
        .iter()
        .filter(|(_, programs)| programs.iter().any(|program| Path::new(program).exists()))
        .map(|(service, _)| (*service, pam_d::session(service)))
        .filter(|(_, stack)| stack.file.is_some())
        .collect()
}

/// Whether a file serves others alone, by being included.
fn is_shared(name: &str) -> bool {
    SHARED.contains(&name) || name.starts_with("common-") || name.ends_with("-auth")
}

/// The services whose sessions pass the module, together where their lines say the same, with what they say.
pub(super) fn courses(globals: &Globals) -> anyhow::Result<Vec<(Vec<String>, Settings)>> {
    let mut services: Vec<String> = clients().into_iter().map(|(service, _)| service.into()).collect();
    let others = pam_d::services().into_iter().filter(|name| !is_shared(name) && name != "other");
    services.extend(others.filter(|name| !CLIENTS.iter().any(|(client, _)| client == name)));
    let mut courses: Vec<(Vec<String>, Settings)> = Vec::new();
    for service in services {
        let settings = Settings::of(globals, &service)?;
        if settings.line.is_none() || !settings.loaded.config.services.allow(&service) {
            continue;
        }
        match courses.iter_mut().find(|(_, others)| others.arguments == settings.arguments) {
            Some((services, _)) => services.push(service),
            None => courses.push((vec![service], settings)),
        }
    }
    Ok(courses)
}

/// The lines that name the module, each with the services whose sessions pass it.
pub(super) fn lines() -> Vec<(Entry, BTreeSet<String>)> {
    let mut lines: Vec<(Entry, BTreeSet<String>)> = Vec::new();
    for service in pam_d::services() {
        for line in pam_d::session(&service).lines_of_ours() {
            let known = lines.iter_mut().position(|(known, _)| known == line);
            let index = known.unwrap_or_else(|| {
                lines.push((line.clone(), BTreeSet::new()));
                lines.len() - 1
            });
            if let Some((_, services)) = lines.get_mut(index).filter(|_| !is_shared(&service)) {
                services.insert(service.clone());
            }
        }
    }
    lines
}

pub(super) fn examine(patient: &Patient, findings: &mut Vec<Finding>) -> anyhow::Result<()> {
    let clients = clients();
    let lines: Vec<&Entry> = patient.lines.iter().map(|(line, _)| line).collect();
    let stacks: Vec<Stack> = pam_d::services().iter().map(|service| pam_d::session(service)).collect();
    let troubles: BTreeSet<&Trouble> = stacks.iter().flat_map(|stack| &stack.troubles).collect();
    for trouble in troubles {
        let gravity = match trouble {
            Trouble::Loop(_) | Trouble::Missing { .. } => Gravity::Lockout,
            Trouble::Unreadable(..) => Gravity::Some,
        };
        let text = trouble.to_string();
        findings.push(match text.split_once("; ") {
            Some((text, remedy)) => Finding::new("pam-include", gravity, text, remedy),
            None => Finding::new(
                "pam-unreadable",
                gravity,
                text,
                "make it a file that root can read, or remove it",
            ),
        });
    }
    examine_files(&lines, findings)?;
    examine_lines(patient, &lines, findings);
    examine_what_stands_before(&clients, findings);
    examine_differences(patient, findings);
    examine_clients(patient, &clients, findings);
    examine_sshd(&clients, findings);
    Ok(())
}

/// The files that the lines name, or the one that would be.
fn examine_files(lines: &[&Entry], findings: &mut Vec<Finding>) -> anyhow::Result<()> {
    let mut files: BTreeSet<PathBuf> =
        lines.iter().filter_map(|line| module_file::path_of(&line.module)).collect();
    if lines.is_empty() {
        files.extend(module_file::installed());
    }
    if files.is_empty() {
        findings.push(Finding::new(
            "libpam-missing",
            Gravity::Nobody,
            "the directory of libpam's modules was not found",
            "name the module by its absolute path in /etc/pam.d",
        ));
    }
    for file in files {
        let shown = file.display();
        let Ok(found) = fs::metadata(&file) else {
            let binding = lines
                .iter()
                .any(|line| line.is_binding() && module_file::path_of(&line.module).as_ref() == Some(&file));
            let (gravity, consequence) = if binding {
                (Gravity::Lockout, ", and a line that requires it keeps everybody out")
            } else {
                (Gravity::Nobody, "")
            };
            findings.push(Finding::new(
                "module-missing",
                gravity,
                format!("{shown} is not there{consequence}"),
                "build and install it: make build && sudo make install",
            ));
            continue;
        };
        // Loading runs the file's own code as root: not that of whoever could have written it. And what is in it
        // would still be theirs if the file were given to root.
        if let Some(untrusted) = who_could_write(&file) {
            findings.push(Finding::new(
                "module-untrusted",
                Gravity::Lockout,
                format!("{shown} runs as root in every login, and {untrusted}"),
                "what is in it cannot be trusted: look into it, then build and install it again, in a directory that \
                 root alone can write: make build && sudo make install",
            ));
            continue;
        }
        let real = fs::canonicalize(&file)?;
        if found.mode() & 0o444 != 0o444 {
            findings.push(
                Finding::new(
                    "module-mode",
                    Gravity::Some,
                    format!(
                        "{shown} (mode {:04o}) cannot be read by everybody: a screen locker, which is not root, gets \
                         nothing of it",
                        found.mode() & 0o7777
                    ),
                    "let everybody read it",
                )
                .run(format!("chmod 0644 {}", ShellWord(&real.to_string_lossy())))
                .fix(Fix::ModuleMode(real)),
            );
        }
        if let Err(cause) = module_file::try_to_load(&file)? {
            findings.push(Finding::new(
                "module-not-loadable",
                Gravity::Nobody,
                format!("{shown} cannot be loaded: {cause}"),
                "build it on this host, and install it again: make build && sudo make install",
            ));
        }
    }
    Ok(())
}

/// Who else than root could have put something else in a file's place, or into it.
fn who_could_write(file: &Path) -> Option<String> {
    // Every link on the way may have been made by somebody, and be made to lead elsewhere.
    let steps = match places::steps(file) {
        Ok(steps) => steps,
        Err(error) => return Some(format!("cannot be found: {error}")),
    };
    steps.iter().filter_map(|path| Some((path, fs::symlink_metadata(path).ok()?))).find_map(
        |(path, found)| {
            let mode = found.mode() & 0o7777;
            let shown = path.display();
            match found.uid() {
                0 if mode & 0o022 != 0 => {
                    Some(format!("{shown} (mode {mode:04o}) is writable by group or others"))
                }
                0 => None,
                uid => Some(format!("{shown} belongs to uid {uid}")),
            }
        },
    )
}

/// What the lines would do on a bad day.
fn examine_lines(patient: &Patient, lines: &[&Entry], findings: &mut Vec<Finding>) {
    let wants_it = |line: &Entry| {
        patient.courses().any(|course| {
            course.settings.line.as_ref().is_some_and(|own| own.arguments == line.arguments)
                && course.settings.loaded.config.on_error == OnError::Fail
        })
    };
    for line in lines.iter().filter(|line| line.is_binding() && !wants_it(line)) {
        findings.push(
            Finding::new(
                "module-required",
                Gravity::Some,
                format!(
                    "{}:{} says {}: were the module's file to go missing, nobody could log in",
                    line.file.display(),
                    line.number,
                    line.control
                ),
                "make the line optional",
            )
            .run(format!(
                r"sed -i '{}s/session[[:blank:]]*{}/session optional/' {}",
                line.number,
                line.control.replace('[', r"\[").replace(']', r"\]"),
                line.file.display()
            )),
        );
    }
}

/// Lines before ours by which a session ends, or jumps, before it comes to ours.
fn examine_what_stands_before(clients: &[(&str, Stack)], findings: &mut Vec<Finding>) {
    let mut before: Vec<(Before<'_>, Vec<&str>)> = Vec::new();
    for (service, stack) in clients {
        for found in stack.before_ours() {
            match before.iter_mut().find(|(known, _)| *known == found) {
                Some((_, services)) => services.push(service),
                None => before.push((found, vec![service])),
            }
        }
    }
    for (before, services) in before {
        let services = services.join(", ");
        let remedy = |of: &Entry| format!("move the module's line before it, or take {} out", of.module);
        findings.push(match before {
            Before::Ends(line) => Finding::new(
                "line-not-reached",
                Gravity::Some,
                format!("{line}: where that succeeds, sessions of {services} end before the module's line"),
                remedy(line),
            ),
            Before::Jumps(line) => Finding::new(
                "line-jumped-over",
                Gravity::Advice,
                format!("{line}: sessions of {services} can jump over the module's line"),
                remedy(line),
            ),
        });
    }
}

/// Services whose lines say different things.
fn examine_differences(patient: &Patient, findings: &mut Vec<Finding>) {
    if patient.others.is_empty() {
        return;
    }
    let said: Vec<String> = patient
        .courses()
        .filter_map(|course| {
            let line = course.settings.line.as_ref()?;
            Some(format!("{}:{} ({})", line.file.display(), line.number, course.services.join(", ")))
        })
        .collect();
    findings.push(Finding::new(
        "lines-differ",
        Gravity::Advice,
        format!(
            "the module's lines say different things, so that what one user gets depends on the service: {}",
            said.join("; ")
        ),
        format!("say it once for all, in {}", patient.main.settings.conf),
    ));
}

/// Clients that open sessions without the module, by the file that would serve them.
fn examine_clients(patient: &Patient, clients: &[(&str, Stack)], findings: &mut Vec<Finding>) {
    let services = &patient.main.settings.loaded.config.services;
    let mut lacking: BTreeMap<PathBuf, Vec<&str>> = BTreeMap::new();
    let mut any = false;
    for (service, stack) in clients {
        let served = stack.lines_of_ours().next().is_some();
        any |= served;
        if served || !services.allow(service) {
            continue;
        }
        let shared = SHARED.iter().find_map(|name| stack.files.iter().find(|file| file.ends_with(name)));
        if let Some(file) = shared.or(stack.file.as_ref()) {
            lacking.entry(file.clone()).or_default().push(service);
        }
    }
    let gravity = if any { Gravity::Some } else { Gravity::Nobody };
    for (file, services) in lacking {
        let shown = file.display();
        let finding = Finding::new(
            "client-without-module",
            gravity,
            format!("sessions of {} do not pass the module", services.join(", ")),
            format!("add its line to {shown}"),
        );
        let line = format!(r"printf 'session\toptional\t{MODULE}\n' >>");
        findings.push(match file.file_name() {
            // The vendor's directory: the administrator's file of that name replaces the vendor's.
            Some(name) if !file.starts_with("/etc") => {
                let own = Path::new("/etc/pam.d").join(name);
                finding.run(format!("cp {shown} {} && {line}{}", own.display(), own.display()))
            }
            _ if Path::new("/etc/authselect").exists() && SHARED.iter().any(|name| file.ends_with(name)) => {
                Finding {
                    remedy: "authselect writes that file: see pam.d/postlogin in the sources".into(),
                    ..finding
                }
            }
            _ => finding.run(format!("{line}{shown}")),
        });
    }
}

/// sshd asks PAM only where it is told to.
fn examine_sshd(clients: &[(&str, Stack)], findings: &mut Vec<Finding>) {
    if !clients.iter().any(|(service, _)| *service == "sshd") {
        return;
    }
    let settings = super::overrides::sshd_settings();
    let first = settings.iter().find(|(_, _, keyword, _)| keyword.eq_ignore_ascii_case("UsePAM"));
    if first.is_some_and(|(_, _, _, value)| value.eq_ignore_ascii_case("yes")) || settings.is_empty() {
        return;
    }
    findings.push(
        Finding::new(
            "sshd-without-pam",
            Gravity::Some,
            "sshd does not use PAM: sessions by ssh do not pass the module",
            "let it, at the top of /etc/ssh/sshd_config, and restart sshd",
        )
        .run(r"sed -i '1i UsePAM yes' /etc/ssh/sshd_config"),
    );
}

/// Makes the module's file readable for everybody; one that root alone could have written, and that it still is.
pub(super) fn mend_module(path: &Path) -> anyhow::Result<()> {
    if let Some(untrusted) = who_could_write(path) {
        anyhow::bail!("{untrusted}");
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = openat(AT_FDCWD, path, flags, Mode::empty())?;
    let found = fstat(&file)?;
    if kind(&found) != SFlag::S_IFREG || found.st_uid != 0 || found.st_mode & 0o022 != 0 {
        anyhow::bail!("it is not the file that was looked at");
    }
    fchmod(&file, Mode::from_bits_truncate(0o644)).context("cannot set its mode")
}
