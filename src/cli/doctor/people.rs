//! The group, its members, and what each would get.

use std::fs;

use super::{Course, Finding, Gravity};
use crate::cli::accounts;
use crate::policy::Skip;
use crate::session::Stop;

pub(super) fn examine(course: &Course, findings: &mut Vec<Finding>) -> anyhow::Result<()> {
    let config = &course.settings.loaded.config;
    let names: Vec<String> = config.groups.iter().map(ToString::to_string).collect();
    let mut exists = false;
    for group in &config.groups {
        exists |= accounts::group(group)?.is_some();
    }
    if !exists {
        findings.push(
            Finding::new(
                "no-group",
                Gravity::Nobody,
                format!("there is no group {}", names.join(" or ")),
                "create it, and add the developers",
            )
            .run(format!("groupadd {}", names.first().map_or("workspace", String::as_str))),
        );
    } else if course.members.is_empty() {
        findings.push(
            Finding::new(
                "no-members",
                Gravity::Nobody,
                format!("nobody is a member of {}", names.join(" or ")),
                "add the developers",
            )
            .run(format!("gpasswd -a USER {}", names.first().map_or("workspace", String::as_str))),
        );
    }
    for member in &course.members {
        let user = &member.user;
        match &member.outcome {
            Ok(ready) if ready.provisioned => findings.push(Finding::new(
                "no-directory-yet",
                Gravity::Advice,
                format!("{user} has no directory yet"),
                "the next login makes it",
            )),
            Err(Stop::Skip(Skip::SystemUser { uid, min_uid })) => {
                let usual = match uid_min() {
                    Some(uid_min) if uid_min != *min_uid => {
                        format!(" (UID_MIN of /etc/login.defs is {uid_min})")
                    }
                    _ => String::new(),
                };
                findings.push(Finding::new(
                    "member-below-min-uid",
                    Gravity::Advice,
                    format!(
                        "{user} is a member, and gets nothing: uid {uid} is below min_uid {min_uid}{usual}"
                    ),
                    "take the user out of the group, or lower min_uid",
                ));
            }
            Err(Stop::Skip(Skip::UnknownUser(_))) => findings.push(Finding::new(
                "unknown-member",
                Gravity::Some,
                format!("{user} is a member, but there is no such user"),
                "take the name out of the group: whoever gets it one day is a member",
            )),
            // The root's own faults are told once, and so are the configuration's.
            Ok(_) | Err(Stop::Skip(_) | Stop::Root(..) | Stop::Configuration | Stop::Remote { .. }) => {}
            Err(stop) => {
                findings.push(Finding::said("member-refused", Gravity::Some, &stop.to_string()).about(user));
            }
        }
    }
    Ok(())
}

impl Finding {
    /// Says whom it is about, and takes the commands out of a login's own remedy.
    fn about(mut self, user: &str) -> Self {
        self.text = format!("{user} gets nothing: {}", self.text);
        if let Some((before, commands)) = self.remedy.clone().split_once(": ") {
            self.remedy = before.into();
            self.commands.push(commands.into());
        }
        self
    }
}

/// The smallest uid that useradd(8) gives to a person.
fn uid_min() -> Option<u32> {
    let text = fs::read_to_string("/etc/login.defs").ok()?;
    let line = text.lines().map(str::trim).find(|line| line.starts_with("UID_MIN"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}
