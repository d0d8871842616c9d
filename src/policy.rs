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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops and says so")]
mod tests {
    use std::cell::RefCell;

    use nix::unistd::{Gid, Uid, User};

    use super::*;
    use crate::config;

    fn configured(settings: &[&str]) -> Config {
        let arguments: Vec<&[u8]> = settings.iter().map(|setting| setting.as_bytes()).collect();
        let loaded = config::parse(&arguments, config::DEFAULT_FILE, Ok(b""));
        assert!(loaded.usable && loaded.problems.is_empty(), "{loaded:?}");
        loaded.config
    }

    fn account(name: &str, uid: u32, shell: &str) -> Account {
        let (passwd, gecos) = Default::default();
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid));
        User { name: name.into(), passwd, uid, gid, gecos, dir: "/home/x".into(), shell: shell.into() }.into()
    }

    #[test]
    fn cheap_tests_need_no_group() {
        let config = configured(&["min_uid=1000", "skip=ci-*,@bots,carol"]);
        for (name, uid, shell, skip) in [
            ("alice", 1000, "/bin/bash", None),
            ("alice", 2001, "", None),
            ("alice", 2001, "/usr/bin/nologin-not", None),
            ("alice", 2001, "/opt/false/bash", None),
            ("bots", 2001, "/bin/bash", None),
            ("root", 0, "/bin/bash", Some("root has no cache of its own")),
            ("toor", 0, "/bin/bash", Some("root has no cache of its own")),
            ("daemon", 999, "/bin/bash", Some("uid 999 is below min_uid 1000")),
            ("svc", 2001, "/usr/sbin/nologin", Some("the shell /usr/sbin/nologin lets nobody in")),
            ("svc", 2001, "/bin/false", Some("the shell /bin/false lets nobody in")),
            ("svc", 2001, "nologin", Some("the shell nologin lets nobody in")),
            ("ci-7", 2001, "/bin/bash", Some("`skip` lists ci-*")),
            ("carol", 2001, "/bin/bash", Some("`skip` lists carol")),
        ] {
            let found = screen(&config, &account(name, uid, shell)).map(|skip| skip.to_string());
            assert_eq!(found.as_deref(), skip, "{name} {uid} {shell}");
        }
        assert_eq!(screen(&configured(&["min_uid=0"]), &account("root", 0, "")), Some(Skip::Root));
    }

    #[test]
    fn member_is_admitted_unless_a_group_is_skipped() {
        let config = configured(&["group=dev,7", "skip=x*,@bots,@8"]);
        let member_of = |groups: &'static [&str]| {
            move |asked: &[GroupRef]| -> Result<bool, ()> {
                Ok(asked.iter().any(|group| groups.contains(&group.to_string().as_str())))
            }
        };
        assert_eq!(admit(&config, member_of(&["dev"])), Ok(None));
        assert_eq!(admit(&config, member_of(&["7", "other"])), Ok(None));
        assert_eq!(admit(&config, member_of(&[])), Ok(Some(Skip::NotAMember)));
        assert_eq!(admit(&config, member_of(&["bots"])), Ok(Some(Skip::NotAMember)));
        for group in [&["dev", "bots"][..], &["dev", "8"]] {
            let found = admit(&config, member_of(group)).unwrap();
            assert!(matches!(found, Some(Skip::SkipRule(SkipRule::Members(_)))), "{group:?}: {found:?}");
        }
    }

    #[test]
    fn group_that_cannot_be_looked_up_stops() {
        let config = configured(&["group=dev", "skip=@bots"]);
        assert_eq!(admit(&config, |_| Err("gone")), Err("gone"));
        let asked = RefCell::new(Vec::new());
        let answer = |groups: &[GroupRef]| {
            asked.borrow_mut().push(groups.len());
            if asked.borrow().len() == 1 { Ok(true) } else { Err("gone") }
        };
        assert_eq!(
            admit(&config, answer),
            Err("gone"),
            "a skipped group that nobody knows about may skip the user"
        );
        assert_eq!(*asked.borrow(), [1, 1], "each question is put once");
    }
}
