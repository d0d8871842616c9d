//! Everybody: what a login never asks, since it can take long, and an administrator must be able to.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use nix::unistd::{Gid, Group};

use crate::config::GroupRef;

/// An entry of the password database.
#[derive(Debug, Clone)]
pub(super) struct Person {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: PathBuf,
}

/// Every user that NSS lists. Directory services may keep their lists to themselves.
///
/// getent(1) rather than getpwent(3): a list needs no code of ours that could be wrong about memory.
pub(super) fn everybody() -> anyhow::Result<Vec<Person>> {
    let listed = Command::new("/usr/bin/getent")
        .arg("passwd")
        .stdin(Stdio::null())
        .output()
        .context("cannot start getent to list the users")?;
    if !listed.status.success() {
        bail!("getent passwd failed; see that the services in /etc/nsswitch.conf answer");
    }
    let person = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Person { name, uid, gid, home: PathBuf::from(fields.nth(1)?) })
    };
    Ok(String::from_utf8_lossy(&listed.stdout).lines().filter_map(person).collect())
}

/// A group as NSS knows it; none if it does not.
pub(super) fn group(group: &GroupRef) -> anyhow::Result<Option<Group>> {
    let found = match group {
        GroupRef::Name(name) => Group::from_name(name),
        GroupRef::Gid(gid) => Group::from_gid(Gid::from_raw(*gid)),
    };
    found.with_context(|| format!("cannot look up group {group}"))
}

/// The names of all members of any of these groups, by their own lists or as a primary group.
pub(super) fn members(groups: &[GroupRef], everybody: &[Person]) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for wanted in groups {
        let found = group(wanted)?;
        let gid = match (&found, wanted) {
            (Some(found), _) => found.gid.as_raw(),
            (None, GroupRef::Gid(gid)) => *gid,
            (None, GroupRef::Name(_)) => continue,
        };
        names.extend(found.map(|found| found.mem).unwrap_or_default());
        names.extend(everybody.iter().filter(|person| person.gid == gid).map(|person| person.name.clone()));
    }
    Ok(names)
}
