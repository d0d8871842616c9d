//! Ordinary users as attackers: a process of a group member's swaps names as fast as the kernel lets it, while
//! a victim logs in over and over through the real libpam.
//!
//! Each attack of `tests/attack/attacker.c` is tried in a shared root of each mode. The attacker wins if
//! anything outside the victim's own directory changes its owner, mode or content, if something of another's
//! is given away, or if a directory is exported that somebody else can write or swap. The same attacks must
//! win against `tests/attack/naive.c`: a harness that cannot win proves nothing.
//!
//! `fs.protected_symlinks` keeps root from following a link in a sticky directory. So what a link in a sticky
//! root does to the naive module is counted and not judged; everything else is.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Seek as _, Write as _};
use std::ops::AddAssign;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown, fchown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::pam::{Call, PAM_SUCCESS, Services};
use crate::sandbox::{User, checkout, join, module_path, print_figures, sandboxed, succeeded};

const TEAM: &str = "/srv/team";
const ROOT: &str = "/srv/team/cache";
const CANARY: &str = "/srv/canary";
/// Where the links of the attacker point to: root's, with a file `shadow`.
const TARGET: &str = "/srv/canary/target";
/// Or to this: the victim's own, but not the victim's cache. As seen from the root, too: a link that starts at
/// `/` leaves the file system, which a module may have other reasons to refuse.
const HOME: &str = "/srv/canary/home";
const HOME_FROM_ROOT: &str = "../../canary/home";
const TAG_NAME: &str = "CACHEDIR.TAG";

const ALICE: User = User::new("alice", 2001);
const BOB: User = User::new("bob", 2002);
const MALLORY: User = User::new("mallory", 2666);
const WORKSPACE: u32 = 4000;

/// Bounds one attack that does not get on, not one that is slow on a busy machine; and one of the long form.
const PATIENCE: Duration = Duration::from_secs(300);
const SOAK_PATIENCE: Duration = Duration::from_secs(1800);

/// Who may change names in the directory that is attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RootMode {
    /// 0755, root's.
    Closed,
    /// 1777, root's.
    Sticky,
    /// 2775, root's and the group's.
    Group,
    /// 0755, the attacker's.
    Attackers,
}
use RootMode::{Attackers, Closed, Group, Sticky};

/// One way to attack.
#[derive(Debug)]
struct Attack {
    /// What `attacker.c` calls it.
    kind: &'static str,
    /// The directory in which names are changed.
    at: &'static str,
    /// The name that is attacked.
    name: &'static str,
    /// Who logs in meanwhile.
    login: User<'static>,
    /// The root modes in which it can change a name at all.
    possible: &'static [RootMode],
    /// The ways of the naive module that must lose to it, and in which modes.
    controls: &'static [(&'static str, &'static [RootMode])],
}

const OF_VICTIM: Attack = Attack {
    kind: "",
    at: ROOT,
    name: "alice",
    login: ALICE,
    possible: &[Group, Attackers],
    controls: &[("path", &[Group, Attackers])],
};

const ATTACKS: [Attack; 10] = [
    Attack { kind: "exchange-link", possible: &[Sticky, Group, Attackers], ..OF_VICTIM },
    Attack { kind: "churn", possible: &[Sticky, Group, Attackers], ..OF_VICTIM },
    Attack { kind: "planted", possible: &[Sticky, Group, Attackers], ..OF_VICTIM },
    Attack {
        kind: "sibling",
        controls: &[("path", &[Group, Attackers]), ("fd", &[Group, Attackers])],
        ..OF_VICTIM
    },
    Attack {
        kind: "own-sibling",
        possible: &[Sticky, Group, Attackers],
        controls: &[("path", &[Sticky, Group, Attackers]), ("fd", &[Group, Attackers])],
        ..OF_VICTIM
    },
    Attack { kind: "other-user", ..OF_VICTIM },
    Attack { kind: "ancestor", at: TEAM, name: "cache", ..OF_VICTIM },
    Attack {
        kind: "staging",
        possible: &[Sticky, Group, Attackers],
        controls: &[("staging", &[Sticky, Group, Attackers])],
        ..OF_VICTIM
    },
    Attack {
        kind: "own-directory",
        name: "mallory",
        login: MALLORY,
        possible: &[Sticky, Group, Attackers],
        ..OF_VICTIM
    },
    Attack {
        kind: "own-tag",
        at: "/srv/team/cache/mallory",
        name: TAG_NAME,
        login: MALLORY,
        possible: &[Closed, Sticky, Group, Attackers],
        controls: &[("path", &[Closed, Sticky, Group, Attackers])],
    },
];

/// What an attack came to.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    logins: u64,
    /// Of these, those during which the attacker was at work.
    contended: u64,
    /// Of these, those that got the variable.
    exported: u64,
    /// Calls of the attacker's that changed a name.
    swaps: u64,
    /// All calls of the attacker's.
    tried: u64,
    /// Times that something which is nobody's business but its owner's was changed.
    changed: u64,
    /// Times that a directory was exported with something of somebody else's in it.
    given: u64,
    /// Times that a directory was exported which others may write or swap.
    open: u64,
    /// Objects that were found afterwards and that nobody but the module can have made.
    strays: u64,
}

impl Figures {
    fn wins(&self) -> u64 {
        self.harm() + self.open
    }

    /// The wins that do not lie in the root's mode alone.
    fn harm(&self) -> u64 {
        self.changed + self.given + self.strays
    }
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.logins += other.logins;
        self.contended += other.contended;
        self.exported += other.exported;
        self.swaps += other.swaps;
        self.tried += other.tried;
        self.changed += other.changed;
        self.given += other.given;
        self.open += other.open;
        self.strays += other.strays;
    }
}

impl Display for Figures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} logins, {} of them under attack, {} exported; {} swaps of {} tried; {} wins \
             ({} changed, {} given away, {} open to others, {} strays)",
            self.logins,
            self.contended,
            self.exported,
            self.swaps,
            self.tried,
            self.wins(),
            self.changed,
            self.given,
            self.open,
            self.strays
        )
    }
}

/// How long an attack goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// Until there were so many logins under attack, and the attacker has changed a name so often (or tried
    /// to, where that cannot succeed).
    Both { logins: u64, swaps: u64 },
    /// Until something was won, or so many logins have shown that nothing will be.
    Win { logins: u64 },
}

impl Goal {
    fn is_reached(self, figures: &Figures, possible: bool) -> bool {
        match self {
            Self::Both { logins, swaps } => {
                let done = if possible { figures.swaps } else { figures.tried };
                figures.contended >= logins && done >= swaps
            }
            Self::Win { logins } => figures.changed + figures.given > 0 || figures.contended >= logins,
        }
    }
}

/// Something that no login of anybody may change, held open.
struct Canary {
    path: PathBuf,
    file: File,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    uid: u32,
    gid: u32,
    mode: u32,
    content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    File(Vec<u8>),
    Directory(BTreeSet<String>),
    /// A directory in which the attacker may do as they please.
    Attacked,
}

impl Canary {
    fn watch(path: impl Into<PathBuf>, content: bool) -> Self {
        let path = path.into();
        let file = OpenOptions::new().read(true).write(path.is_file()).open(&path).unwrap();
        let mut canary =
            Self { path, file, state: State { uid: 0, gid: 0, mode: 0, content: Content::Attacked } };
        if content {
            canary.state.content = Content::File(Vec::new());
        }
        canary.state = canary.look();
        canary
    }

    fn look(&self) -> State {
        let found = self.file.metadata().unwrap();
        let content = match self.state.content {
            Content::Attacked => Content::Attacked,
            _ if found.is_dir() => Content::Directory(names(&self.by_fd())),
            _ => {
                let mut bytes = vec![0; usize::try_from(found.len()).unwrap()];
                self.file.read_exact_at(&mut bytes, 0).unwrap();
                Content::File(bytes)
            }
        };
        State { uid: found.uid(), gid: found.gid(), mode: found.mode(), content }
    }

    /// Undoes what was done to it, so that the attack can go on.
    fn restore(&mut self) {
        let State { uid, gid, mode, content } = &self.state;
        fchown(&self.file, Some(*uid), Some(*gid)).unwrap();
        self.file.set_permissions(Permissions::from_mode(*mode & 0o7777)).unwrap();
        match content {
            Content::Attacked => {}
            Content::File(bytes) => {
                self.file.set_len(0).unwrap();
                self.file.rewind().unwrap();
                self.file.write_all(bytes).unwrap();
            }
            Content::Directory(expected) => {
                for new in names(&self.by_fd()).difference(expected) {
                    remove(&self.by_fd().join(new));
                }
                assert_eq!(self.look().content, *content, "{} cannot be restored", self.path.display());
            }
        }
    }

    /// Wherever it was moved to.
    fn by_fd(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn remove(path: &Path) {
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
        fs::remove_dir_all(path).unwrap();
    } else {
        let _ = fs::remove_file(path);
    }
}

/// A directory or file with this owner and mode.
fn make(path: &str, owner: (u32, u32), mode: u32, content: Option<&str>) {
    match content {
        None => fs::create_dir(path).unwrap(),
        Some(content) => fs::write(path, content).unwrap(),
    }
    chown(path, Some(owner.0), Some(owner.1)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Builds a program, or a PAM module, of `tests/attack`.
fn compile(source: &str, made: &str, options: &[&str]) -> PathBuf {
    let made = Path::new("/run").join(made);
    let compiler = Command::new("cc")
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&made)
        .arg(checkout().join("tests/attack").join(source))
        .args(options)
        .output();
    succeeded(&compiler.unwrap());
    made
}

/// The attacker's process, which ends with this.
struct Attacker {
    process: Child,
    counts: File,
}

impl Attacker {
    fn start(program: &Path, attack: &Attack) -> Self {
        let path = "/run/attacker.counts";
        fs::write(path, [0; 16]).unwrap();
        let counts = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let process = Command::new("setpriv")
            .args([format!("--reuid={}", MALLORY.uid), format!("--regid={}", MALLORY.gid)])
            .args(["--init-groups", "--"])
            .arg(program)
            .args([attack.kind, attack.name, TARGET, HOME_FROM_ROOT])
            .current_dir(attack.at)
            .stdin(Stdio::from(counts.try_clone().unwrap()))
            .spawn()
            .unwrap();
        Self { process, counts }
    }

    /// Calls tried, and those that changed a name.
    fn counts(&self) -> (u64, u64) {
        let mut bytes = [0; 16];
        self.counts.read_exact_at(&mut bytes, 0).unwrap();
        let (tried, swaps) = bytes.split_at(8);
        (u64::from_ne_bytes(tried.try_into().unwrap()), u64::from_ne_bytes(swaps.try_into().unwrap()))
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What is attacked: a root, what must stay as it is, and a service.
struct Arena {
    services: Services,
    attacker: PathBuf,
    naive: PathBuf,
}

impl Arena {
    fn new() -> Self {
        crate::sandbox::add_group("workspace", WORKSPACE);
        for user in [ALICE, BOB, MALLORY] {
            user.add();
            join(user.name, "workspace");
        }
        Self {
            services: Services::new(),
            attacker: compile("attacker.c", "attacker", &[]),
            naive: compile("naive.c", "pam_naive.so", &["-shared", "-fPIC", "-lpam"]),
        }
    }

    /// Lays everything out anew for an attack, and says what to watch.
    fn lay_out(mode: RootMode, attack: &Attack) -> Vec<Canary> {
        for path in [TEAM, CANARY] {
            remove(Path::new(path));
        }
        make(TEAM, (0, 0), 0o755, None);
        make(ROOT, (0, 0), 0o755, None);
        make(&format!("{ROOT}/bob"), (BOB.uid, BOB.gid), 0o700, None);
        make(&format!("{ROOT}/bob/keep"), (BOB.uid, BOB.gid), 0o600, Some("bob's"));
        make(&format!("{ROOT}/mallory"), (MALLORY.uid, MALLORY.gid), 0o700, None);
        if attack.login.name != MALLORY.name {
            make(&format!("{ROOT}/mallory/planted"), (MALLORY.uid, MALLORY.gid), 0o600, Some("mallory's"));
        }
        make(&format!("{ROOT}/sibling"), (0, 0), 0o755, None);
        make(&format!("{ROOT}/sibling/keep"), (0, 0), 0o644, Some("root's"));
        make(CANARY, (0, 0), 0o755, None);
        make(HOME, (ALICE.uid, ALICE.gid), 0o700, None);
        make(TARGET, (0, 0), 0o755, None);
        make(&format!("{TARGET}/shadow"), (0, 0), 0o600, Some("root:*:19000:0:99999:7:::\n"));

        let attacked = if attack.at == TEAM { TEAM } else { ROOT };
        let (owner, bits) = match mode {
            Closed => ((0, 0), 0o755),
            Sticky => ((0, 0), 0o1777),
            Group => ((0, WORKSPACE), 0o2775),
            Attackers => ((MALLORY.uid, MALLORY.gid), 0o755),
        };
        chown(attacked, Some(owner.0), Some(owner.1)).unwrap();
        fs::set_permissions(attacked, Permissions::from_mode(bits)).unwrap();

        let watched = ["bob", "bob/keep", "sibling", "sibling/keep"].map(|name| format!("{ROOT}/{name}"));
        let mut canaries: Vec<Canary> = watched.iter().map(|path| Canary::watch(path, true)).collect();
        canaries.extend(
            [CANARY, HOME, TARGET, "/srv/canary/target/shadow"].map(|path| Canary::watch(path, true)),
        );
        canaries.extend([TEAM, ROOT, "/srv"].map(|path| Canary::watch(path, false)));
        if attack.login.name != MALLORY.name {
            canaries.push(Canary::watch(format!("{ROOT}/mallory"), true));
        }
        canaries
    }

    /// One attack, for as long as the goal says, against a module with these arguments.
    fn attack(&self, mode: RootMode, attack: &Attack, module: &str, goal: Goal) -> Figures {
        let mut canaries = Self::lay_out(mode, attack);
        let known = inventory();
        let root = open(ROOT, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        self.services.write("attacked", &format!("session required {module} root={ROOT}"));
        let possible = attack.possible.contains(&mode);
        let what = format!("{} in a {mode:?} root, {module}", attack.kind);

        let mut figures = Figures::default();
        let mut attacker = Attacker::start(&self.attacker, attack);
        let begin = Instant::now();
        loop {
            (figures.tried, figures.swaps) = attacker.counts();
            if goal.is_reached(&figures, possible) {
                break;
            }
            let patience = if goal == SHORT { PATIENCE } else { SOAK_PATIENCE };
            assert!(begin.elapsed() < patience, "{what}: not done after {patience:?}: {figures}");
            assert!(attacker.process.try_wait().unwrap().is_none(), "{what}: the attacker ended");

            // Three logins find nothing of the victim's, the fourth finds what the third left.
            if attack.login.name == ALICE.name && figures.logins % 4 != 3 {
                clear(&root);
            }
            let before = attacker.counts().0;
            let exported = self.login(attack.login.name);
            figures.logins += 1;
            figures.contended += u64::from(attacker.counts().0 > before);
            figures.exported += u64::from(exported.is_some());

            for canary in &mut canaries {
                if canary.look() != canary.state {
                    figures.changed += 1;
                    canary.restore();
                }
            }
            if let Some(path) = exported {
                figures.open += u64::from(is_open(&path, attack.login));
                figures.given += u64::from(holds_alien(&path, attack.login));
            }
        }
        drop(attacker);
        figures.strays += strays(&known, &what);
        if !possible {
            assert_eq!(figures.swaps, 0, "{what}: was thought to be impossible: {figures}");
        }
        figures
    }

    /// Opens a session; the value of the variable.
    fn login(&self, user: &str) -> Option<String> {
        let mut transaction = self.services.start("attacked", Some(user.as_bytes()));
        assert_eq!(transaction.call(Call::OpenSession), PAM_SUCCESS);
        let environment = transaction.environment();
        environment.iter().find_map(|variable| variable.strip_prefix("CARGO_TARGET_DIR=").map(str::to_owned))
    }
}

/// Removes what the last login made, as far as the attacker lets us; never anything of others.
fn clear(root: &OwnedFd) {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    if let Ok(directory) = openat(root, ALICE.name, flags, Mode::empty()) {
        if fstat(&directory).unwrap().st_uid == ALICE.uid {
            let _ = unlinkat(&directory, TAG_NAME, UnlinkatFlags::NoRemoveDir);
        }
    }
    for name in [ALICE.name, ".staging"] {
        let _ = unlinkat(root, name, UnlinkatFlags::NoRemoveDir);
        let _ = unlinkat(root, name, UnlinkatFlags::RemoveDir);
    }
}

/// Whether anybody but root and this user may write an exported directory, or swap it.
fn is_open(exported: &str, user: User) -> bool {
    let others_write = |mode: u32| mode & 0o022 != 0;
    let swappable = Path::new(exported).ancestors().skip(1).any(|above| {
        fs::symlink_metadata(above).map_or(true, |found| {
            !found.is_dir() || found.uid() != 0 || (others_write(found.mode()) && found.mode() & 0o1000 == 0)
        })
    });
    // The attacker may do anything to a directory of their own.
    let unsound = user.uid != MALLORY.uid
        && fs::symlink_metadata(exported)
            .map_or(true, |found| !found.is_dir() || found.uid() != user.uid || others_write(found.mode()));
    swappable || unsound
}

/// Whether something of another user's is in an exported directory. What the attacker finds in their own is
/// their own doing.
fn holds_alien(exported: &str, user: User) -> bool {
    let Ok(entries) = fs::read_dir(exported) else { return false };
    user.uid != MALLORY.uid
        && entries.flatten().any(|entry| entry.metadata().is_ok_and(|found| found.uid() != user.uid))
}

/// Everything below /srv: which object, where, whose.
fn inventory() -> Vec<(PathBuf, fs::Metadata)> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::from("/srv")];
    while let Some(path) = todo.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.push((path, metadata));
    }
    found
}

/// Objects that were not there before, that the attacker did not make, and that are not the victim's own.
fn strays(known: &[(PathBuf, fs::Metadata)], what: &str) -> u64 {
    let known: BTreeSet<u64> = known.iter().map(|(_, metadata)| metadata.ino()).collect();
    let own = [format!("{ROOT}/alice"), format!("{ROOT}/alice/{TAG_NAME}")].map(PathBuf::from);
    let mut strays = 0;
    for (path, metadata) in inventory() {
        let explained = known.contains(&metadata.ino())
            || metadata.uid() == MALLORY.uid
            || (metadata.uid() == ALICE.uid && own.contains(&path))
            || (metadata.uid() == 0 && path == Path::new(ROOT).join(".staging"));
        if !explained {
            println!("{what}: stray {} of uid {}", path.display(), metadata.uid());
            strays += 1;
        }
    }
    strays
}

/// How many logins the naive module gets to lose in; it takes a few.
const LOGINS_OF_CONTROL: u64 = 10_000;

/// Every attack in a root of this mode, against the module, which must hold, and against the naive one.
fn nobody_wins(mode: RootMode, goal: Goal) -> Figures {
    let arena = Arena::new();
    let module = module_path().display().to_string();
    let naive = arena.naive.display().to_string();
    let mut all = Figures::default();
    for attack in &ATTACKS {
        for (way, _) in attack.controls.iter().filter(|(_, modes)| modes.contains(&mode)) {
            let goal = Goal::Win { logins: LOGINS_OF_CONTROL };
            let control = arena.attack(mode, attack, &format!("{naive} way={way}"), goal);
            println!("{mode:?} {}, naive way={way}: {control}", attack.kind);
            assert!(control.harm() > 0, "{} in a {mode:?} root harms nobody: {control}", attack.kind);
        }
        let figures = arena.attack(mode, attack, &module, goal);
        println!("{mode:?} {}: {figures}", attack.kind);
        assert_eq!(figures.wins(), 0, "{} in a {mode:?} root: {figures}", attack.kind);
        all += figures;
    }
    all
}

/// The figures that every test of an attack reaches, for each attack in each root mode.
const SHORT: Goal = Goal::Both { logins: 300, swaps: 100_000 };

/// And in the long form, for each root mode.
const SOAK_LOGINS: u64 = 10_000;
const SOAK_SWAPS: u64 = 10_000_000;

fn soak(mode: RootMode) {
    let attacks = ATTACKS.iter().filter(|attack| attack.possible.contains(&mode)).count() as u64;
    let goal = Goal::Both { logins: SOAK_LOGINS.div_ceil(attacks), swaps: SOAK_SWAPS.div_ceil(attacks) };
    let begin = Instant::now();
    let all = nobody_wins(mode, goal);
    assert!(all.contended >= SOAK_LOGINS && all.swaps >= SOAK_SWAPS, "{all}");
    print_figures(&format!("attackers in a {mode:?} root: {all}; {:.0?}", begin.elapsed()));
}

sandboxed! {
    /// Where only root can add a name, nobody gets at another's directory at all.
    fn nobody_wins_in_a_root_of_roots() {
        let all = nobody_wins(Closed, SHORT);
        // All of them but the attacker's own logins were the victim's first, or found what these made.
        assert_eq!(all.exported, all.logins, "{all}");
    }

    /// In a sticky root names can be squatted, which costs the victim the variable and nothing else.
    fn nobody_wins_in_a_sticky_root() {
        let all = nobody_wins(Sticky, SHORT);
        assert!(all.exported > 0 && all.exported < all.logins, "{all}");
    }

    /// On a block device the module believes what the kernel remembers of names: the attacker changes what it
    /// remembers.
    fn nobody_wins_in_a_sticky_root_on_a_disk() {
        let image = "/tmp/attacked.img";
        File::create(image).unwrap().set_len(64 << 20).unwrap();
        succeeded(&Command::new("mkfs.ext4").args(["-q", image]).output().unwrap());
        succeeded(&Command::new("mount").args(["-o", "loop", image, "/srv"]).output().unwrap());
        let all = nobody_wins(Sticky, Goal::Both { logins: 300, swaps: 20_000 });
        assert!(all.exported > 0 && all.exported < all.logins, "{all}");
        succeeded(&Command::new("umount").arg("/srv").output().unwrap());
    }

    fn nobody_wins_in_a_group_writable_root() {
        let all = nobody_wins(Group, SHORT);
        assert_eq!(all.exported, 0, "{all}");
    }

    fn nobody_wins_in_a_root_of_the_attackers() {
        let all = nobody_wins(Attackers, SHORT);
        assert_eq!(all.exported, 0, "{all}");
    }

    #[ignore = "long: make soak"]
    fn soak_attackers_in_a_root_of_roots() {
        soak(Closed);
    }

    #[ignore = "long: make soak"]
    fn soak_attackers_in_a_sticky_root() {
        soak(Sticky);
    }

    #[ignore = "long: make soak"]
    fn soak_attackers_in_a_group_writable_root() {
        soak(Group);
    }

    #[ignore = "long: make soak"]
    fn soak_attackers_in_a_root_of_the_attackers() {
        soak(Attackers);
    }
}
