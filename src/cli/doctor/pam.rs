//! The module's file, and the services in which it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{Finding, Fix, Gravity, Patient};
use crate::cli::module_file;
use crate::cli::pam_d::{self, Entry, MODULE, Stack, Trouble};
use crate::config::OnError;

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

/// The first service whose sessions the module serves.
pub(super) fn first_served() -> Option<&'static str> {
    clients()
        .into_iter()
        .find(|(_, stack)| stack.lines_of_ours().next().is_some())
        .map(|(service, _)| service)
}

pub(super) fn examine(patient: &Patient, findings: &mut Vec<Finding>) -> anyhow::Result<()> {
    let clients = clients();
    let every_service = pam_d::services();
    let mut lines: Vec<Entry> = Vec::new();
    let mut troubles: BTreeSet<Trouble> = BTreeSet::new();
    for service in &every_service {
        let stack = pam_d::session(service);
        troubles.extend(stack.troubles.iter().cloned());
        for line in stack.lines_of_ours() {
            if !lines.contains(line) {
                lines.push(line.clone());
            }
        }
    }
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
    examine_clients(patient, &clients, findings);
    examine_sshd(&clients, findings);
    Ok(())
}

/// The files that the lines name, or the one that would be.
fn examine_files(lines: &[Entry], findings: &mut Vec<Finding>) -> anyhow::Result<()> {
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
        if found.uid() != 0 || found.mode() & 0o022 != 0 || found.mode() & 0o444 != 0o444 {
            findings.push(
                Finding::new(
                    "module-mode",
                    Gravity::Some,
                    format!(
                        "{shown} belongs to uid {} with mode {:04o}: it runs as root in every login, so only root \
                         may write it, and everybody must be able to read it",
                        found.uid(),
                        found.mode() & 0o7777
                    ),
                    "give it to root, mode 0644",
                )
                .run(format!("chown root:root {shown} && chmod 0644 {shown}"))
                .fix(Fix::ModuleMode(file.clone())),
            );
        }
        // Loading runs the file's own code as root: not that of whoever could have written it.
        if found.uid() != 0 || found.mode() & 0o022 != 0 {
            continue;
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

/// What the lines would do on a bad day.
fn examine_lines(patient: &Patient, lines: &[Entry], findings: &mut Vec<Finding>) {
    if patient.settings.loaded.config.on_error == OnError::Fail {
        return;
    }
    for line in lines.iter().filter(|line| line.is_binding()) {
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

/// Clients that open sessions without the module, by the file that would serve them.
fn examine_clients(patient: &Patient, clients: &[(&str, Stack)], findings: &mut Vec<Finding>) {
    let services = &patient.settings.loaded.config.services;
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

/// Makes the module's file root's, 0644.
pub(super) fn mend_module(path: &Path) -> anyhow::Result<()> {
    std::os::unix::fs::chown(path, Some(0), Some(0))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).context("cannot set its mode")
}
