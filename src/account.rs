//! NSS: who is this user, and in which groups.
//!
//! Asked in the order of cost: the password entry once; then, for a question of membership, the primary
//! gid, a group's own member list, and only then the user's whole group list, which can cost more than the
//! rest of the session. Never `getgrent`, never `/etc/group` by hand.

use std::cell::OnceCell;
use std::ffi::CString;
use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::User;

use crate::config::GroupRef;
use crate::ffi;

/// A user as NSS knows it.
#[derive(Debug)]
pub struct Account {
    /// The canonical name, which may differ from what was typed. U+FFFD stands for what is not UTF-8.
    pub name: String,
    /// The user's id.
    pub uid: u32,
    /// The primary group's id.
    pub gid: u32,
    /// The home directory.
    pub home: PathBuf,
    /// The login shell; empty means /bin/sh.
    pub shell: PathBuf,
    /// Every gid of the user, asked for once.
    gids: OnceCell<Vec<u32>>,
}

/// A question that NSS could not answer. That it does not know a name is an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NssError {
    what: String,
    errno: Errno,
}

impl Display for NssError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot look up {}: {}; see that the services in /etc/nsswitch.conf answer (getent)",
            self.what,
            self.errno.desc()
        )
    }
}

impl Account {
    /// Asks for the user whose name was typed at login.
    pub fn lookup(typed: &str) -> Result<Option<Self>, NssError> {
        match User::from_name(typed) {
            Ok(found) => Ok(found.map(Self::from)),
            // getpwnam(3) lists these as "not found", and some services do answer so.
            Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
            Err(errno) => Err(NssError { what: format!("user {typed}"), errno }),
        }
    }

    /// Whether the user is in any of these groups. A name that NSS does not know has no members.
    pub fn is_in_any(&self, groups: &[GroupRef]) -> Result<bool, NssError> {
        if groups.contains(&GroupRef::Gid(self.gid)) {
            return Ok(true);
        }
        let Ok(user) = CString::new(self.name.as_str()) else { return Ok(false) };
        let mut gids = Vec::new();
        for group in groups {
            match group {
                GroupRef::Gid(gid) => gids.push(*gid),
                GroupRef::Name(name) => {
                    let Ok(group) = CString::new(name.as_str()) else { continue };
                    let found = ffi::group(&group, &user);
                    match found.map_err(|errno| NssError { what: format!("group {name}"), errno })? {
                        Some(found) if found.gid == self.gid || found.lists_member => return Ok(true),
                        Some(found) => gids.push(found.gid),
                        None => {}
                    }
                }
            }
        }
        if gids.is_empty() {
            return Ok(false);
        }
        // Nested groups, and sources that keep no member lists, show here alone.
        if self.gids.get().is_none() {
            let found = ffi::group_list(&user, self.gid)
                .map_err(|errno| NssError { what: format!("the groups of {}", self.name), errno })?;
            let _ = self.gids.set(found);
        }
        Ok(self.gids.get().is_some_and(|all| gids.iter().any(|gid| all.contains(gid))))
    }
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            home: user.dir,
            shell: user.shell,
            gids: OnceCell::new(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops and says so")]
mod tests {
    use nix::unistd::{Gid, Uid};

    use super::*;

    /// A user of uid and gid 0, whose groups NSS knows, with another name if wanted.
    fn root(name: &str) -> Account {
        let (passwd, gecos) = Default::default();
        let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
        User { name: name.into(), passwd, uid, gid, gecos, dir: "/root".into(), shell: "/bin/sh".into() }
            .into()
    }

    fn named(group: &str) -> GroupRef {
        GroupRef::Name(group.into())
    }

    #[test]
    fn known_user_is_found_and_unknown_is_no_error() {
        let root = Account::lookup("root").unwrap().unwrap();
        assert_eq!((root.name.as_str(), root.uid, root.gid), ("root", 0, 0));
        for typed in ["nobody-has-this-name", "", "a\0b", "../etc", "root\n", "\u{fffd}"] {
            assert!(Account::lookup(typed).unwrap().is_none(), "{typed:?}");
        }
    }

    #[test]
    fn primary_group_counts_by_number_and_by_name() {
        let root = root("root");
        assert_eq!(root.is_in_any(&[GroupRef::Gid(0)]), Ok(true));
        assert_eq!(root.is_in_any(&[named("root")]), Ok(true));
        assert_eq!(
            root.is_in_any(&[named("gone-group"), GroupRef::Gid(4_294_000_000), named("root")]),
            Ok(true)
        );
    }

    #[test]
    fn unknown_group_has_no_members() {
        let root = root("root");
        for groups in [&[][..], &[named("gone-group")], &[named("a\0b")], &[GroupRef::Gid(4_294_000_000)]] {
            assert_eq!(root.is_in_any(groups), Ok(false), "{groups:?}");
        }
    }

    #[test]
    fn user_with_a_name_that_no_c_string_has_is_in_no_group_by_name() {
        let odd = root("a\0b");
        assert_eq!(odd.is_in_any(&[named("root")]), Ok(false));
        assert_eq!(odd.is_in_any(&[GroupRef::Gid(0)]), Ok(true), "the primary gid needs no name");
    }
}
