//! Who is a developer of the workspace: pure decisions, in the order of their cost.

use std::fmt::{self, Display, Formatter};

use crate::account::Account;
use crate::config::{Config, GroupRef, SkipRule};

/// Login shells that let nobody in; compared with the last component of the shell's path.
const NO_LOGIN_SHELLS: [&str; 2] = ["nologin", "false"];

/// Why a session is none of the module's business. None of these is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skip {
    /// `services` leaves this one out.
    Service(String),
    /// No `root` is configured.
    NoRootConfigured,
    /// The application named no user, or none that NSS could be asked about.
    NoUser,
    /// NSS does not know the user.
    UnknownUser(String),
    /// The user is root.
    Root,
    /// The uid is below `min_uid`.
    SystemUser {
        /// The user's uid.
        uid: u32,
        /// The smallest uid of a person.
        min_uid: u32,
    },
    /// The shell lets nobody in.
    NoLoginShell(String),
    /// `skip` names the user, or a group that the user is in.
    SkipRule(SkipRule),
    /// The shared root does not exist.
    RootAbsent(String),
    /// The user is in none of the groups.
    NotAMember,
    /// The process does not run as root, and there is nothing ready to export.
    Unprivileged,
}

impl Display for Skip {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service) => write!(f, "`services` leaves {service} out"),
            Self::NoRootConfigured => f.write_str("no root is configured"),
            Self::NoUser => f.write_str("the application named no user"),
            Self::UnknownUser(user) => write!(f, "there is no user {user}"),
            Self::Root => f.write_str("root has no cache of its own"),
            Self::SystemUser { uid, min_uid } => write!(f, "uid {uid} is below min_uid {min_uid}"),
            Self::NoLoginShell(shell) => write!(f, "the shell {shell} lets nobody in"),
            Self::SkipRule(rule) => write!(f, "`skip` lists {rule}"),
            Self::RootAbsent(root) => write!(f, "{root} does not exist"),
            Self::NotAMember => f.write_str("in none of the configured groups"),
            Self::Unprivileged => f.write_str("not running as root, and no directory is ready"),
        }
    }
}

/// The tests that cost nothing: why to skip this user, if they say so. None of them asks about a group.
#[must_use]
pub fn screen(config: &Config, account: &Account) -> Option<Skip> {
    if account.uid == 0 {
        return Some(Skip::Root);
    }
    if account.uid < config.min_uid {
        return Some(Skip::SystemUser { uid: account.uid, min_uid: config.min_uid });
    }
    if account.shell.file_name().is_some_and(|name| NO_LOGIN_SHELLS.iter().any(|shell| name == *shell)) {
        return Some(Skip::NoLoginShell(account.shell.display().to_string()));
    }
    config.skip.iter().find(|rule| rule.names(&account.name)).cloned().map(Skip::SkipRule)
}

/// The tests of membership: why to skip this user, if they say so. `is_in_any` answers whether the user
/// is in any of some groups; an error of its is the error here.
pub fn admit<E>(
    config: &Config,
    is_in_any: impl Fn(&[GroupRef]) -> Result<bool, E>,
) -> Result<Option<Skip>, E> {
    if !is_in_any(&config.groups)? {
        return Ok(Some(Skip::NotAMember));
    }
    for rule in &config.skip {
        if let SkipRule::Members(group) = rule {
            if is_in_any(std::slice::from_ref(group))? {
                return Ok(Some(Skip::SkipRule(rule.clone())));
            }
        }
    }
    Ok(None)
}
