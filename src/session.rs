//! One session, from the pam.d line to the variables: what happens at a login, in order.
//!
//! Knows nothing of PAM, so that a tool can ask the same question and get the answer a login gets.

use std::fmt::{self, Display, Formatter};

use nix::unistd::{geteuid, gethostname};

use crate::account::{Account, NssError};
use crate::cache_dir::{CacheDir, CacheDirError, DirName, NameError, Owner};
use crate::config::{self, Config, Loaded, OnError, Problem};
use crate::policy::{self, Skip};
use crate::shared_root::{RootError, SharedRoot};

/// What PAM says of a session.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The name of the PAM service.
    pub service: &'a str,
    /// The user, as typed at login; none where PAM has none, or one that is not UTF-8.
    pub user: Option<&'a str>,
    /// The words of the pam.d line after the module's name.
    pub arguments: &'a [&'a [u8]],
}

/// What came of a session, and what there is to say about it.
#[derive(Debug)]
pub struct Report {
    /// What the session gets.
    pub outcome: Result<Ready, Stop>,
    /// What was wrong in the configuration; empty for a session that is none of the module's business.
    pub problems: Vec<Problem>,
    /// What a failure does to the login.
    pub on_error: OnError,
    /// Whether every decision is logged.
    pub debug: bool,
}

/// A developer's session: the directory is there, and these are the variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The user's directory.
    pub directory: String,
    /// Whether it was made just now.
    pub provisioned: bool,
    /// `NAME=VALUE`, in the order of the configuration.
    pub assignments: Vec<String>,
}

/// Why a session gets nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// It is none of the module's business.
    Skip(Skip),
    /// A setting was lost that would have narrowed what the module does.
    Configuration,
    /// NSS did not answer.
    Nss(NssError),
    /// The user's name cannot be a directory's.
    Name(NameError),
    /// The shared root is not in order.
    Root(RootError),
    /// The user's directory is not in order, or could not be made.
    Directory(CacheDirError),
    /// The host has no name to put into the directory's.
    HostName(nix::Error),
}

impl Stop {
    /// Whether the system failed; otherwise, and where it is no skip, somebody set something up wrong.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Nss(_) | Self::HostName(_) => true,
            Self::Root(error) => error.is_fault(),
            Self::Directory(error) => error.is_fault(),
            Self::Skip(_) | Self::Configuration | Self::Name(_) => false,
        }
    }
}

impl Display for Stop {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skip(skip) => skip.fmt(f),
            Self::Configuration => f.write_str("the configuration is not usable"),
            Self::Nss(error) => error.fmt(f),
            Self::Name(error) => error.fmt(f),
            Self::Root(error) => error.fmt(f),
            Self::Directory(error) => error.fmt(f),
            Self::HostName(errno) => {
                write!(f, "cannot get the host's name: {}; take %h out of name", errno.desc())
            }
        }
    }
}

impl From<Skip> for Stop {
    fn from(skip: Skip) -> Self {
        Self::Skip(skip)
    }
}

impl From<NssError> for Stop {
    fn from(error: NssError) -> Self {
        Self::Nss(error)
    }
}

impl From<NameError> for Stop {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}

impl From<RootError> for Stop {
    fn from(error: RootError) -> Self {
        Self::Root(error)
    }
}

impl From<CacheDirError> for Stop {
    fn from(error: CacheDirError) -> Self {
        Self::Directory(error)
    }
}

/// Opens a session: reads the configuration, decides, and provisions.
#[must_use]
pub fn open(request: &Request<'_>) -> Report {
    let loaded = config::load(request.arguments);
    let mut outcome = admit(request, &loaded).and_then(|developer| developer.provision(&loaded.config));
    // A screen locker, or a user namespace: it can mend nothing, and its user need not hear of it.
    if outcome.is_err() && !geteuid().is_root() {
        outcome = Err(Stop::Skip(Skip::Unprivileged));
    }
    let problems = match outcome {
        // A typo in the word `root` must be found somewhere.
        Err(Stop::Skip(Skip::NoRootConfigured)) | Ok(_) => loaded.problems,
        Err(Stop::Skip(_)) => Vec::new(),
        Err(_) => loaded.problems,
    };
    Report { outcome, problems, on_error: loaded.config.on_error, debug: loaded.config.debug }
}

/// A user for whom policy says yes, and the root to provision in.
struct Developer {
    account: Account,
    root: SharedRoot,
}

/// Decides, the cheapest tests first. Until it has said yes, nothing is logged and nothing is made.
fn admit(request: &Request<'_>, loaded: &Loaded) -> Result<Developer, Stop> {
    let config = &loaded.config;
    if !config.services.allow(request.service) {
        return Err(Skip::Service(request.service.into()).into());
    }
    if config.root.is_none() && loaded.problems.is_empty() {
        return Err(Skip::NoRootConfigured.into());
    }

    let typed = request.user.filter(|user| !user.is_empty()).ok_or(Skip::NoUser)?;
    let account = Account::lookup(typed)?.ok_or_else(|| Skip::UnknownUser(typed.into()))?;
    if let Some(skip) = policy::screen(config, &account) {
        return Err(skip.into());
    }
    // A root that is not in order is for later: it is nobody's concern but a developer's.
    let root = config.root.as_ref().map(SharedRoot::open);
    if let (Some(path), Some(Err(RootError::Absent))) = (&config.root, &root) {
        return Err(Skip::RootAbsent(path.to_string()).into());
    }
    if let Some(skip) = policy::admit(config, |groups| account.is_in_any(groups))? {
        return Err(skip.into());
    }

    if !loaded.usable {
        return Err(Stop::Configuration);
    }
    let root = root.ok_or(Skip::NoRootConfigured)??;
    root.keep_clear_of(&account.home)?;
    Ok(Developer { account, root })
}

impl Developer {
    /// Finds or makes the directory, and says what to export.
    fn provision(&self, config: &Config) -> Result<Ready, Stop> {
        let Account { name: user, uid, gid, .. } = &self.account;
        let host = if config.name.names_host() { short_host_name()? } else { String::new() };
        let name = DirName::new(user, config.name.expand(user, *uid, &host))?;
        let owner = Owner { uid: *uid, gid: *gid };

        let (directory, provisioned) = if geteuid().is_root() {
            let provisioned = CacheDir::provision(&self.root, &name, owner, config.mode)?;
            provisioned.0.put_back_tag(owner);
            provisioned
        } else {
            (CacheDir::find(&self.root, &name, owner)?.ok_or(Skip::Unprivileged)?, false)
        };

        let assignments = config.exports.iter().map(|export| export.assignment(directory.path())).collect();
        Ok(Ready { directory: directory.path().into(), provisioned, assignments })
    }
}

/// The host's name up to the first dot.
fn short_host_name() -> Result<String, Stop> {
    let name = gethostname().map_err(Stop::HostName)?;
    Ok(name.to_string_lossy().split('.').next().unwrap_or_default().into())
}
