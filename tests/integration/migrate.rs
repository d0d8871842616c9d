//! What `cargo-targetctl migrate` keeps: everything that was built, for real cargo, through a real login.
//!
//! One workspace of every kind of crate that a build leaves something for is built by two users into one
//! shared directory, as a team does it, and then moved in every way there is: by a rename, out of the shared
//! root itself, from another file system, and between two mounts of one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::clients::{Sshd, Workspace};
use crate::sandbox::{TOOL, User, print_figures, sandboxed, succeeded, text_of};

pub(crate) const ROOT: &str = "/srv/cargo-target";
const SOURCES: &str = "/srv/src/ws";
/// Where the team built.
const SHARED: &str = "/srv/team/shared";
const MASTER: &str = "/srv/master";

/// A name, the rest of the manifest, and files with their content.
type Package = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The packages: a proc-macro; a native library; one whose build script uses the native one's directory; one
/// that includes what its build script wrote; a chain of libraries; and a program with tests.
const PACKAGES: &[Package] = &[
    (
        "macros",
        "[lib]\nproc-macro = true\n",
        &[(
            "src/lib.rs",
            "use proc_macro::TokenStream;\n/// Nothing.\n#[proc_macro]\npub fn two(_: TokenStream) -> TokenStream { \"2\".parse().unwrap() }\n",
        )],
    ),
    (
        "native",
        "links = \"native\"\n",
        &[
            (
                "build.rs",
                r#"use std::{env, fs, path::Path, process::Command};
fn main() {
    let out = env::var("OUT_DIR").unwrap();
    let include = Path::new(&out).join("include");
    fs::create_dir_all(&include).unwrap();
    fs::write(include.join("native.h"), "int forty(void);\n").unwrap();
    let run = |program: &str, arguments: &[&str]| assert!(Command::new(program).args(arguments).status().unwrap().success());
    let (object, library) = (format!("{out}/native.o"), format!("{out}/libnative.a"));
    run("cc", &["-c", "native.c", "-o", &object]);
    run("ar", &["crs", &library, &object]);
    println!("cargo:rerun-if-changed=native.c");
    println!("cargo:rustc-link-lib=static=native");
    println!("cargo:rustc-link-search=native={out}");
    println!("cargo:include={}", include.display());
}
"#,
            ),
            ("native.c", "int forty(void) { return 40; }\n"),
            (
                "src/lib.rs",
                "unsafe extern \"C\" { fn forty() -> i32; }\n/// Forty.\npub fn number() -> i32 { unsafe { forty() } }\n",
            ),
        ],
    ),
    (
        "reader",
        "[dependencies]\nnative = { path = \"../native\" }\n",
        &[
            (
                "build.rs",
                r#"use std::{env, fs};
fn main() {
    let include = env::var("DEP_NATIVE_INCLUDE").unwrap();
    assert!(fs::read_to_string(format!("{include}/native.h")).unwrap().contains("forty"));
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-search=native={include}");
    println!("cargo:rustc-env=NATIVE_INCLUDE={include}");
}
"#,
            ),
            (
                "src/lib.rs",
                "/// Where it was.\npub const INCLUDE: &str = env!(\"NATIVE_INCLUDE\");\n/// Forty.\npub fn number() -> i32 { native::number() }\n",
            ),
        ],
    ),
    (
        "written",
        "",
        &[
            (
                "build.rs",
                r#"fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    std::fs::write(format!("{out}/one.rs"), "/// One.\npub fn one() -> i32 { 1 }\n").unwrap();
}
"#,
            ),
            ("src/lib.rs", "include!(concat!(env!(\"OUT_DIR\"), \"/one.rs\"));\n"),
        ],
    ),
    (
        "a",
        "[dependencies]\nwritten = { path = \"../written\" }\n",
        &[("src/lib.rs", "/// One.\npub fn a() -> i32 { written::one() }\n")],
    ),
    (
        "b",
        "[dependencies]\na = { path = \"../a\" }\nmacros = { path = \"../macros\" }\n",
        &[("src/lib.rs", "/// Three.\npub fn b() -> i32 { a::a() + macros::two!() }\n")],
    ),
    (
        "c",
        "[dependencies]\nb = { path = \"../b\" }\n",
        &[("src/lib.rs", "/// Three.\npub fn c() -> i32 { b::b() }\n")],
    ),
    (
        "d",
        "[dependencies]\nc = { path = \"../c\" }\n",
        &[("src/lib.rs", "/// Three.\npub fn d() -> i32 { c::c() }\n")],
    ),
    (
        "e",
        "[dependencies]\nd = { path = \"../d\" }\n",
        &[(
            "src/lib.rs",
            "/// Three.\n///\n/// ```\n/// assert_eq!(e::e(), 3);\n/// ```\npub fn e() -> i32 { d::d() }\n",
        )],
    ),
    (
        "app",
        "[dependencies]\ne = { path = \"../e\" }\nreader = { path = \"../reader\" }\n",
        &[
            ("src/main.rs", "fn main() { println!(\"{}\", e::e() + reader::number()); }\n"),
            ("tests/sum.rs", "#[test]\nfn sum() { assert_eq!(e::e(), 3); }\n"),
        ],
    ),
];

/// What the team ran, and by whom; what must be fresh afterwards.
const COMMANDS: &[(&str, &str)] = &[
    ("alice", "build --workspace"),
    ("bob", "build --workspace --release"),
    ("alice", "test --workspace --no-run"),
    ("bob", "check --workspace"),
    ("bob", "doc --workspace --no-deps"),
];

/// Writes the workspace, whose sources are root's.
fn write_sources() {
    let mut members = Vec::new();
    for (name, manifest, files) in PACKAGES {
        let directory = Path::new(SOURCES).join(name);
        fs::create_dir_all(directory.join("src")).unwrap();
        fs::create_dir_all(directory.join("tests")).unwrap();
        let manifest =
            format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{manifest}");
        fs::write(directory.join("Cargo.toml"), manifest).unwrap();
        for (file, content) in *files {
            fs::write(directory.join(file), content).unwrap();
        }
        members.push(format!("\"{name}\""));
    }
    let manifest = format!(
        "[workspace]\nresolver = \"3\"\nmembers = [{}]\n[profile.dev]\ndebug = false\n",
        members.join(", ")
    );
    fs::write(format!("{SOURCES}/Cargo.toml"), manifest).unwrap();
    run(&format!("cd {SOURCES} && cargo generate-lockfile --offline"));
}

/// A shell line as root.
#[track_caller]
pub(crate) fn run(line: &str) -> String {
    succeeded(&Command::new("bash").args(["-euc", line]).stdin(Stdio::null()).output().unwrap())
}

/// cargo as the team used it before: anybody, in one directory that the group can write.
#[track_caller]
fn build_as(user: &str, command: &str, target: &str) -> String {
    run(&format!(
        "exec setpriv --reuid={user} --regid={user} --init-groups env HOME=/home/{user} CARGO_TARGET_DIR={target} \
         bash -c 'umask 002; cd {SOURCES}; exec cargo {command} --offline' 2>&1"
    ))
}

/// The tool, as root, without a terminal.
pub(crate) fn migrate(arguments: &str) -> Output {
    let mut command = Command::new(TOOL);
    command.arg("migrate").args(arguments.split_whitespace()).stdin(Stdio::null());
    command.output().unwrap()
}

/// A migration that is killed at the so-many-th call of this name.
#[track_caller]
fn killed(place: &str, call: &str, when: u32) {
    let output = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:signal=SIGKILL:when={when}"), TOOL, "migrate"])
        .args(["--from", place, "--to-user", "alice", "--yes"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.signal() == Some(9) || output.status.code() == Some(137), "{}", text_of(&output));
    assert!(Path::new(&format!("{ROOT}/.migrate-alice/state")).exists());
}

/// What stands at a path of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: (i64, i64),
    /// A file's content, or where a link leads.
    content: Vec<u8>,
    /// The first name of the same file.
    same_as: PathBuf,
}

/// Everything in a tree, the top aside.
pub(crate) fn manifest(top: &str) -> BTreeMap<PathBuf, Item> {
    let mut items = BTreeMap::new();
    let mut waiting = vec![PathBuf::from(top)];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let found = path.symlink_metadata().unwrap();
            let content = if found.is_dir() {
                waiting.push(path.clone());
                Vec::new()
            } else if found.is_symlink() {
                fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
            } else {
                fs::read(&path).unwrap()
            };
            let name = path.strip_prefix(top).unwrap().to_owned();
            let item = Item {
                mode: found.mode(),
                uid: found.uid(),
                gid: found.gid(),
                modified: (found.mtime(), found.mtime_nsec()),
                content,
                same_as: PathBuf::from(found.ino().to_string()),
            };
            items.insert(name, item);
        }
    }
    let mut first_names = BTreeMap::new();
    for (name, item) in &mut items {
        let first = first_names.entry(item.same_as.clone()).or_insert_with(|| name.clone());
        item.same_as.clone_from(first);
    }
    items
}

/// What a manifest must be after the tree has become a user's.
pub(crate) fn as_owned_by(
    mut items: BTreeMap<PathBuf, Item>,
    uid: u32,
    moves: (&str, &str),
) -> BTreeMap<PathBuf, Item> {
    for (name, item) in &mut items {
        (item.uid, item.gid) = (uid, uid);
        if item.mode & libc::S_IFMT != libc::S_IFLNK {
            item.mode &= libc::S_IFMT | 0o755;
        }
        if name.ends_with("output") {
            let text = String::from_utf8(item.content.clone()).unwrap();
            let lines = text.split_inclusive('\n').map(|line| {
                if line.contains("rerun-if-changed") {
                    line.to_owned()
                } else {
                    line.replace(moves.0, moves.1)
                }
            });
            item.content = lines.collect::<String>().into_bytes();
        }
    }
    items
}

/// Compares, and shows the first differences if there are any.
#[track_caller]
pub(crate) fn assert_same(found: &BTreeMap<PathBuf, Item>, expected: &BTreeMap<PathBuf, Item>, what: &str) {
    let names = |one: &BTreeMap<PathBuf, Item>, other: &BTreeMap<PathBuf, Item>| -> Vec<PathBuf> {
        one.keys().filter(|name| !other.contains_key(*name)).take(5).cloned().collect()
    };
    assert_eq!(names(found, expected), names(expected, found), "{what}: found, and expected, alone");
    let shorten =
        |item: &Item| Item { content: item.content.iter().take(200).copied().collect(), ..item.clone() };
    for (name, item) in found {
        let wanted = &expected[name];
        assert!(item == wanted, "{what}: {}:\n{:?}\n{:?}", name.display(), shorten(item), shorten(wanted));
    }
    assert!(!found.is_empty());
}

/// The lines in which cargo says what it did with a unit.
fn units(printed: &str) -> Vec<&str> {
    let words = ["Fresh", "Compiling", "Checking", "Documenting", "Dirty"];
    printed
        .lines()
        .map(str::trim_start)
        .filter(|line| words.iter().any(|word| line.starts_with(word)))
        .collect()
}

/// A team that has built, and a host that has the module.
struct Team {
    _workspace: Workspace,
    sshd: Sshd,
}

impl Team {
    /// Who ran what; `COMMANDS`, or some of them.
    fn set_up(commands: &[(&str, &str)]) -> Self {
        let workspace = Workspace::set_up();
        User::developer("bob", 2002).add();
        write_sources();
        run(&format!("mkdir -p {SHARED}; chgrp workspace {SHARED}; chmod 2775 {SHARED}"));
        for (user, command) in commands {
            build_as(user, command, SHARED);
        }
        let owners: std::collections::BTreeSet<u32> =
            manifest(SHARED).values().map(|item| item.uid).collect();
        assert_eq!(owners.into_iter().collect::<Vec<_>>(), [2001, 2002], "two users built");
        run(&format!("cp -a {SHARED} {MASTER}"));
        Self { _workspace: workspace, sshd: Sshd::start() }
    }

    /// A command in a new session of a user's, over ssh, in the workspace.
    fn login(&self, user: &str, command: &str) -> Output {
        let mut client = self.sshd.client("ssh", user, &[]);
        client.arg(format!("export PATH=/opt/rust/bin:$PATH; cd {SOURCES}; {{ {command}; }} 2>&1"));
        client.stdin(Stdio::null()).output().unwrap()
    }

    /// Every command of the team finds every unit fresh, in alice's new session.
    #[track_caller]
    fn is_fresh(&self, what: &str) -> usize {
        let mut fresh = 0;
        for (_, command) in COMMANDS {
            let printed = succeeded(&self.login("alice", &format!("cargo {command} -v --offline")));
            let units = units(&printed);
            let stale: Vec<_> = units.iter().filter(|unit| !unit.starts_with("Fresh")).collect();
            assert!(stale.is_empty(), "{what}: cargo {command}: {stale:#?}\n{printed}");
            assert!(units.len() >= PACKAGES.len(), "{what}: cargo {command}:\n{printed}");
            fresh += units.len();
        }
        fresh
    }

    /// The program is linked again after an edit, with what other units' build scripts had printed.
    #[track_caller]
    fn relinks(&self, what: &str) {
        run(&format!("touch -r {SOURCES}/app/src/main.rs /tmp/stamp; touch {SOURCES}/app/src/main.rs"));
        let printed = succeeded(
            &self.login("alice", "cargo build --workspace -v --offline && $CARGO_TARGET_DIR/debug/app"),
        );
        let stale: Vec<_> = units(&printed).into_iter().filter(|unit| !unit.starts_with("Fresh")).collect();
        assert!(
            stale.iter().all(|unit| unit.contains("app v0.1.0")) && !stale.is_empty(),
            "{what}: {stale:?}\n{printed}"
        );
        assert_eq!(printed.lines().last(), Some("43"), "{what}:\n{printed}");
        // For the next one, who starts from what the team built.
        run(&format!("touch -r /tmp/stamp {SOURCES}/app/src/main.rs"));
    }

    /// Puts the team's directory where it was, and takes alice's away.
    fn again() {
        run(&format!("rm -rf {ROOT}/* {ROOT}/.migrate-* {SHARED}; cp -a {MASTER} {SHARED}"));
    }
}

sandboxed! {
    fn migrate_refuses_before_anything_changes_and_says_what_it_does() {
        crate::cli::replay("migrate.t");
    }

    /// Built by two users with mixed ownership; then one's own, by every way there is. The other one's login
    /// starts empty, and works.
    fn everything_is_fresh_after_migrate() {
        let team = Team::set_up(COMMANDS);
        let before = manifest(MASTER);
        assert!(before.values().any(|item| item.content.windows(SHARED.len()).any(|text| text == SHARED.as_bytes())));
        let alices = format!("{ROOT}/alice");
        let expected = || {
            let mut items = as_owned_by(before.clone(), 2001, (SHARED, &alices));
            // cargo made the tag when it made the directory; here the directory was there before.
            items.remove(Path::new("CACHEDIR.TAG"));
            items
        };
        let is_moved = |what: &str| {
            let mut found = manifest(&alices);
            let tag = found.remove(Path::new("CACHEDIR.TAG")).unwrap_or_else(|| panic!("{what}: no tag"));
            assert_eq!((tag.uid, tag.mode), (2001, libc::S_IFREG | 0o644), "{what}");
            assert_same(&found, &expected(), what);
            let top = fs::metadata(&alices).unwrap();
            assert_eq!((top.uid(), top.gid(), top.mode() & 0o7777), (2001, 2001, 0o700), "{what}");
            assert!(!Path::new(&format!("{ROOT}/.migrate-alice")).exists(), "{what}");
        };

        // 1. The same file system, killed on the way; the link leads old settings to the new place.
        killed(SHARED, "fchown", 40);
        let printed = succeeded(&migrate(&format!("--from {SHARED} --to-user alice --yes")));
        assert!(printed.contains("was begun and not finished"), "{printed}");
        is_moved("rename");
        assert_eq!(fs::read_link(SHARED).unwrap(), Path::new(&alices));
        let fresh = team.is_fresh("rename");
        team.relinks("rename");
        assert!(succeeded(&migrate(&format!("--from {SHARED} --to-user alice --yes"))).contains("already"));
        // The other one starts empty, and works.
        let printed = succeeded(&team.login("bob", "cargo build -p a -v --offline; ls -A $CARGO_TARGET_DIR; echo $CARGO_TARGET_DIR"));
        assert!(printed.contains("Compiling a v0.1.0") && printed.ends_with("/srv/cargo-target/bob\n"), "{printed}");

        // 2. Another file system, which is a mount point: it is emptied, and stays, so that there is no link.
        run("mkdir /srv/disk");
        Team::again();
        run(&format!("rm -rf {SHARED}; mkdir {SHARED}; mount -t tmpfs none {SHARED}; chmod 2775 {SHARED}; cp -a {MASTER}/. {SHARED}"));
        killed(SHARED, "mkdirat", 40);
        let printed = succeeded(&migrate(&format!("--from {SHARED} --to-user alice --yes --json")));
        assert!(printed.contains("\"resumed\": true") && printed.contains("\"way\": \"copy\"") && printed.contains("mount point"), "{printed}");
        is_moved("copy");
        assert_eq!(fs::read_dir(SHARED).unwrap().count(), 0);
        run(&format!("umount {SHARED}; rmdir {SHARED}"));
        team.is_fresh("copy");
        team.relinks("copy");

        // 3. Two mounts of one file system, whose device numbers are the same.
        Team::again();
        run(&format!("mkdir -p /srv/bound; mv {SHARED} /srv/bound/; mount --bind /srv/bound /srv/team"));
        assert_eq!(fs::metadata(SHARED).unwrap().dev(), fs::metadata(ROOT).unwrap().dev());
        succeeded(&migrate(&format!("--from {SHARED} --to-user alice --yes")));
        is_moved("two mounts");
        run("umount /srv/team; rm -rf /srv/bound");
        team.is_fresh("two mounts");

        // 4. The shared root itself, in which bob has a directory already, and which the group can write.
        run(&format!("rm -rf {ROOT}/alice; cp -a {MASTER}/. {ROOT}; chgrp workspace {ROOT}; chmod 2775 {ROOT}"));
        run(&format!("rm -rf {ROOT}/bob; install -d -o bob -g bob -m 0700 {ROOT}/bob; touch {ROOT}/bob/mine"));
        let printed = succeeded(&migrate(&format!("--from {ROOT} --to-user alice --yes")));
        assert!(printed.contains("before: set the mode of /srv/cargo-target to 0755"), "{printed}");
        let names: Vec<_> = fs::read_dir(ROOT).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(Path::new(&format!("{ROOT}/bob/mine")).exists());
        let top = fs::metadata(ROOT).unwrap();
        assert_eq!((top.uid(), top.gid(), top.mode() & 0o7777), (0, 0, 0o755));
        team.is_fresh("root");
        team.relinks("root");
        print_figures(&format!("migrate: {fresh} units fresh in {} cargo commands, after each of four ways", COMMANDS.len()));
    }

    /// Others' files stay where they are; what is stale of them is built again, and nothing fails.
    fn only_owned_takes_what_is_the_users() {
        // bob has a part in the profile that alice builds in, too.
        let commands = [("bob", "build -p d"), ("alice", "build --workspace"), ("bob", "build -p b --release")];
        let team = Team::set_up(&commands);
        let before = manifest(SHARED);
        let printed = succeeded(&migrate(&format!("--from {SHARED} --to-user alice --only-owned --yes")));
        assert!(printed.contains("built again") && printed.contains("stayed in /srv/team/shared"), "{printed}");
        let alices = format!("{ROOT}/alice");
        assert!(manifest(&alices).values().all(|item| item.uid == 2001));
        for (name, item) in manifest(SHARED) {
            let was = &before[&name];
            assert_eq!((item.uid, item.gid, item.mode), (was.uid, was.gid, was.mode), "{}", name.display());
        }
        let others = |items: &BTreeMap<PathBuf, Item>| -> Vec<PathBuf> {
            let files = items.iter().filter(|(_, item)| item.uid != 2001 && item.mode & libc::S_IFMT != libc::S_IFDIR);
            files.map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(others(&manifest(SHARED)), others(&before));
        assert!(!Path::new(SHARED).is_symlink());
        // What alice had built alone is fresh; everything works.
        let printed = succeeded(&team.login("alice", "cargo build --workspace -v --offline"));
        assert!(units(&printed).iter().any(|unit| unit.starts_with("Fresh")), "{printed}");
        for (_, command) in commands {
            let output = team.login("alice", &format!("cargo {command} --offline"));
            assert!(output.status.success(), "{command}:\n{}", text_of(&output));
        }
        team.relinks("only owned");
    }
}
