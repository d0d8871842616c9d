//! Somebody works in the tree while root makes it another user's, and tries to have root give away what lies
//! outside of it. What a naive script would do loses in the same surroundings, which shows that the attacks
//! are real.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::migrate::{ROOT, manifest, migrate, run};
use crate::sandbox::{TOOL, User, append, checkout, print_figures, sandboxed, text_of};

/// The tree and the victim are on one file system, and the root is there too or is not.
const TREE: &str = "/srv/disk/shared";
const NEAR: &str = "/srv/disk/root";
const ATTACKER: &str = "/tmp/attacker";
/// The victim's: a file that the group may write (so that `fs.protected_hardlinks` lets mallory link it), one
/// that nobody else may read, and a directory.
const FILE: &str = "/srv/disk/victim/file";
const SECRET: &str = "/srv/disk/victim/secret";
const DIRECTORY: &str = "/srv/disk/victim/dir";

/// How often each attack is tried.
const ROUNDS: usize = 12;

/// A team with an attacker in it: alice gets the tree, mallory attacks, victor has files on the same disk.
fn set_up() {
    for (name, uid) in [("alice", 2001), ("mallory", 2002), ("victor", 2003)] {
        User::developer(name, uid).add();
    }
    run(&format!("mkdir {ROOT} /srv/disk; mount -t tmpfs -o mode=0755 none /srv/disk; mkdir {NEAR}"));
    append("/etc/security/cargo-target.conf", &format!("root = {ROOT}\n"));
    run(&format!(
        "mkdir -p {DIRECTORY}; echo precious >{FILE}; echo secret >{SECRET}; echo inner >{DIRECTORY}/inner; \
         chown -R victor:workspace /srv/disk/victim; chmod 664 {FILE}; chmod 600 {SECRET}; chmod 2775 {DIRECTORY}"
    ));
    let source = checkout().join("tests/attack/migrate.c");
    run(&format!("cc -O2 -Wall -Werror -o {ATTACKER} {}", source.display()));
}

/// A tree of several users' files, in which mallory may write.
fn make_tree() {
    run(&format!(
        "rm -rf {TREE} {{{ROOT},{NEAR}}}/{{alice,.migrate-*}}; mkdir -p {TREE}/debug/deps {TREE}/debug/mallorys; touch {TREE}/debug/.cargo-lock; \
         for d in {{1..40}}; do mkdir {TREE}/debug/deps/d$d; for f in {{1..8}}; do echo $f >{TREE}/debug/deps/d$d/f$f; done; done; \
         chown -R mallory:workspace {TREE}; chmod -R u=rwX,g=rwXs,o=rX {TREE}"
    ));
}

/// What is the victim's, and must stay so.
fn victims() -> Vec<(u32, u32, u32, u64, Vec<u8>)> {
    let look = |path: &str| {
        let found = fs::symlink_metadata(path).unwrap();
        let content = if found.is_file() { fs::read(path).unwrap() } else { Vec::new() };
        (found.uid(), found.gid(), found.mode(), found.ino(), content)
    };
    [FILE, SECRET, DIRECTORY, "/srv/disk/victim/dir/inner", "/srv/disk/victim"].map(look).to_vec()
}

/// The attacker at work.
struct Attack {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Attack {
    fn start(how: &str) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=mallory", "--regid=mallory", "--init-groups", ATTACKER, how]);
        command.args([&format!("{TREE}/debug/mallorys"), FILE, DIRECTORY]).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { process, output }
    }

    /// Ends it, and says how often what it tried had worked.
    fn end(mut self) -> u64 {
        kill(Pid::from_raw(self.process.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let mut line = String::new();
        self.output.read_to_string(&mut line).unwrap();
        assert!(self.process.wait().unwrap().success());
        line.trim().parse().unwrap()
    }
}

/// What the old way would be: each does to the victim what `migrate` must not.
const NAIVE: &[(&str, &str)] = &[
    ("link", "chown -R alice:alice /srv/disk/shared"),
    (
        "swap",
        "find /srv/disk/shared -type f -exec chown alice:alice {} +; find /srv/disk/shared -type d -exec chmod go-w {} +",
    ),
];

/// The tree under attack so often; how many migrations were done, and how many operations worked in all.
fn attack(how: &str, rounds: usize, root: &str) -> (usize, u64) {
    let mut done = 0;
    let mut operations = 0;
    for round in 0..rounds {
        make_tree();
        let before = victims();
        let attack = Attack::start(how);
        let output = migrate(&format!("--root {root} --from {TREE} --to-user alice --yes"));
        operations += attack.end();
        assert_eq!(victims(), before, "{how}, round {round}:\n{}", text_of(&output));
        match output.status.code() {
            Some(0) => {
                done += 1;
                let tree = manifest(&format!("{root}/alice"));
                let foreign: Vec<_> = tree
                    .iter()
                    .filter(|(_, item)| {
                        (item.uid, item.gid) != (2001, 2001)
                            || (item.mode & 0o7022 != 0 && item.mode & libc::S_IFMT != libc::S_IFLNK)
                    })
                    .collect();
                assert!(foreign.is_empty(), "{how}, round {round}: {foreign:#?}");
                assert_eq!(tree.iter().filter(|(name, _)| name.starts_with("debug/deps")).count(), 361);
                // No file of the tree has a name elsewhere.
                let linked =
                    run(&format!("find {root}/alice -type f -links +1 -printf '%i %n\\n' | sort | uniq -c"));
                for line in linked.lines() {
                    let fields: Vec<&str> = line.split_whitespace().collect();
                    assert_eq!(fields[0], fields[2], "{how}, round {round}: a name outside: {line}");
                }
            }
            // Refused, with nothing changed or to be run again.
            Some(1 | 3 | 4) => {}
            code => panic!("{how}, round {round}: {code:?}\n{}", text_of(&output)),
        }
    }
    (done, operations)
}

sandboxed! {
    /// The naive way loses what is the victim's to each attack; `migrate` never does, whichever way the tree
    /// goes.
    fn attackers_in_the_tree_gain_nothing_outside_of_it() {
        set_up();
        for (how, naive) in NAIVE {
            let lost = (0..200).any(|_| {
                make_tree();
                let before = victims();
                let attack = Attack::start(how);
                let _ = Command::new("bash").args(["-c", naive]).stderr(Stdio::null()).status();
                attack.end();
                let lost = victims() != before;
                run(&format!("chown -R victor:workspace /srv/disk/victim; chmod 664 {FILE}; chmod 600 {SECRET}; chmod 2775 {DIRECTORY}; chmod 664 {DIRECTORY}/inner; chmod 755 /srv/disk/victim"));
                lost
            });
            assert!(lost, "the naive way withstood `{how}`: it is no attack");
        }
        let mut figures = Vec::new();
        for how in ["link", "swap"] {
            for root in [NEAR, ROOT] {
                let (done, operations) = attack(how, ROUNDS, root);
                assert!(done > ROUNDS / 3, "{how}: only {done} of {ROUNDS} were done");
                assert!(operations > 1000, "{how}: only {operations} operations");
                figures.push(format!("{how}{}: {done} of {ROUNDS} done, {operations} operations", if root == ROOT { " across file systems" } else { "" }));
            }
        }
        print_figures(&format!("migrate under attack, nothing lost: {}", figures.join("; ")));
    }

    /// A file with a name elsewhere is copied, with all its names in the tree; the other one's keeps what it was.
    fn a_file_with_names_outside_is_copied_once() {
        set_up();
        make_tree();
        let deps = format!("{TREE}/debug/deps");
        run(&format!("ln {FILE} {deps}/one; ln {FILE} {deps}/d1/two; ln {FILE} {deps}/d2/three; ln {deps}/d3/f1 {deps}/d4/f1-too; touch -d @1000000000.123456789 {deps}"));
        let before = victims();
        let inside = fs::metadata(format!("{deps}/d3/f1")).unwrap().ino();
        let output = migrate(&format!("--root {NEAR} --from {TREE} --to-user alice --yes"));
        assert!(output.status.success(), "{}", text_of(&output));
        assert!(text_of(&output).contains("names of files that have others outside the tree: these are copied: 3"), "{}", text_of(&output));
        assert_eq!(victims(), before);
        assert_eq!(fs::metadata(FILE).unwrap().nlink(), 1);
        let look = |name: &str| fs::metadata(format!("{NEAR}/alice/debug/deps/{name}")).unwrap();
        let copies = ["one", "d1/two", "d2/three"].map(look);
        assert!(copies.iter().all(|copy| copy.ino() == copies[0].ino() && copy.nlink() == 3 && copy.uid() == 2001));
        assert_eq!(fs::read(format!("{NEAR}/alice/debug/deps/one")).unwrap(), b"precious\n");
        assert_eq!(copies[0].mtime_nsec(), fs::metadata(FILE).unwrap().mtime_nsec());
        assert_eq!((look("d3/f1").ino(), look("d4/f1-too").ino(), look("d3/f1").nlink()), (inside, inside, 2));
        let deps = look(".");
        assert_eq!((deps.mtime(), deps.mtime_nsec()), (1_000_000_000, 123_456_789));
    }

    /// What the user may not read is not handed to them as a copy either.
    fn a_secret_linked_into_the_tree_is_not_given_away() {
        set_up();
        make_tree();
        // As it can be done where fs.protected_hardlinks is 0.
        run(&format!("ln {SECRET} {TREE}/debug/deps/mine"));
        let before = victims();
        let output = migrate(&format!("--root {NEAR} --from {TREE} --to-user alice --yes"));
        assert_eq!(output.status.code(), Some(3), "{}", text_of(&output));
        assert!(text_of(&output).contains("alice may not read"), "{}", text_of(&output));
        assert_eq!(victims(), before);
        assert_eq!(fs::read_dir(NEAR).unwrap().count(), 0);
        // The remedy that is named works.
        run(&format!("rm {TREE}/debug/deps/mine"));
        let output = migrate(&format!("--root {NEAR} --from {TREE} --to-user alice --yes"));
        assert!(output.status.success(), "{}", text_of(&output));
        assert_eq!(fs::metadata(SECRET).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(victims(), before);
    }

    /// A link that is not root's is not followed on the way to the tree: it may lead into another's home.
    fn a_link_of_anothers_on_the_way_is_not_followed() {
        set_up();
        let private = "/home/victor/projects";
        make_tree();
        run(&format!(
            "mkdir {private}; mv {TREE} {private}/shared; chown -R victor {private}; chmod 700 /home/victor; \
             mkdir /srv/team; chown mallory:workspace /srv/team; ln -s {private} /srv/team/build; chown -h mallory /srv/team/build"
        ));
        let arguments = "--from /srv/team/build/shared --to-user alice --yes";
        let before = manifest(private);
        let output = migrate(arguments);
        assert_eq!(output.status.code(), Some(3), "{}", text_of(&output));
        assert!(text_of(&output).contains(&format!("a symbolic link of mallory to {private}")), "{}", text_of(&output));
        assert_eq!(manifest(private), before);
        // One of root's, and a relative one, is what administrators use.
        run(&format!("mkdir /srv/here; ln -s /srv/here /srv/there; ln -s ../there/./ /srv/here/twice; mv {private}/shared /srv/here/"));
        let output = migrate("--from /srv/there/twice/../here/twice/shared --to-user alice --yes");
        assert!(output.status.success(), "{}", text_of(&output));
        assert!(fs::symlink_metadata("/srv/here/shared").unwrap().is_symlink());
    }

    /// In a sticky root anybody can put a directory where the user's is about to be. It is not made the user's,
    /// which a login would then export with all that is in it.
    fn a_directory_squatted_meanwhile_is_not_made_the_users() {
        set_up();
        make_tree();
        run(&format!("chmod 1777 {NEAR}"));
        let squatter = format!(
            "until [ -e {NEAR}/.migrate-alice ]; do sleep 0.01; done; mkdir {NEAR}/alice; cd {NEAR}/alice; mine=$(stat -c %i .); \
             for try in {{1..200}}; do [ $(stat -c %i {NEAR}/alice) = $mine ] || break; sleep 0.01; done; mkdir -m 777 debug"
        );
        let mut squatter = Command::new("setpriv")
            .args(["--reuid=mallory", "--regid=mallory", "--init-groups", "bash", "-c", &squatter])
            .spawn()
            .unwrap();
        // Slow enough for the shell, after each rename.
        let output = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat2", "-e", "inject=renameat2:delay_exit=500000", TOOL])
            .args(["migrate", "--root", NEAR, "--from", TREE, "--to-user", "alice", "--yes"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(squatter.wait().unwrap().success());
        assert_eq!(output.status.code(), Some(1), "{}", text_of(&output));
        assert!(text_of(&output).contains("belongs to mallory"), "{}", text_of(&output));
        let squatted = fs::metadata(format!("{NEAR}/alice")).unwrap();
        assert_eq!(squatted.uid(), 2002);
        // The remedy that is named works.
        run(&format!("mv {NEAR}/alice {NEAR}/.alice.old"));
        let output = migrate(&format!("--root {NEAR} --from {TREE} --to-user alice --yes"));
        assert!(output.status.success(), "{}", text_of(&output));
        assert!(manifest(&format!("{NEAR}/alice")).values().all(|item| item.uid == 2001));
    }

    /// Somebody holds thousands of locks: a few are named, at once.
    fn many_locks_held_are_refused_at_once() {
        set_up();
        make_tree();
        run(&format!("cd {TREE}/debug/mallorys; for d in {{1..2000}}; do mkdir p$d; >p$d/.cargo-lock; done; chown -R mallory ."));
        let hold = format!("cd {TREE}/debug/mallorys; for d in {{1..2000}}; do exec {{fd}}<p$d/.cargo-lock; flock $fd; done; echo ready; sleep 600");
        let mut holder = Command::new("setpriv")
            .args(["--reuid=mallory", "--regid=mallory", "--init-groups", "bash", "-c", &hold])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let begin = Instant::now();
        let output = migrate(&format!("--root {NEAR} --from {TREE} --to-user alice --yes"));
        let took = begin.elapsed();
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert_eq!(output.status.code(), Some(4), "{}", text_of(&output));
        assert!(text_of(&output).contains("of mallory") && text_of(&output).len() < 4096, "{}", text_of(&output));
        assert!(took < Duration::from_secs(10), "{took:?}");
    }

    /// More locks than the soft limit of descriptors, which a team with many profiles may have as well.
    fn there_may_be_more_locks_than_descriptors_by_default() {
        set_up();
        make_tree();
        run(&format!("cd {TREE}/debug/mallorys; for d in {{1..300}}; do mkdir p$d; >p$d/.cargo-lock; done"));
        let output = Command::new("bash")
            .args(["-c", &format!("ulimit -Sn 256; exec {TOOL} migrate --root {NEAR} --from {TREE} --to-user alice --yes")])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text_of(&output));
    }

    /// A secret under many names, each at the end of a path of 25 kB: they are refused, and not all remembered.
    fn long_paths_of_a_secret_take_no_memory() {
        set_up();
        make_tree();
        std::env::set_current_dir(format!("{TREE}/debug/mallorys")).unwrap();
        let name = "d".repeat(255);
        for _ in 0..100 {
            fs::create_dir(&name).unwrap();
            std::env::set_current_dir(&name).unwrap();
        }
        fs::write("f", "").unwrap();
        fs::set_permissions("f", fs::Permissions::from_mode(0o600)).unwrap();
        for link in 0..8000 {
            fs::hard_link("f", format!("l{link}")).unwrap();
        }
        fs::hard_link("f", "/srv/disk/outside").unwrap();
        std::env::set_current_dir("/").unwrap();
        let output = Command::new("bash")
            .args(["-c", &format!("ulimit -v 131072; exec {TOOL} migrate --root {NEAR} --from {TREE} --to-user alice --yes")])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", text_of(&output).len());
        assert!(text_of(&output).contains("alice may not read"));
    }

    /// A link to where the tree would go, put there by somebody else, does not pass for a migration that was done.
    fn a_link_of_anothers_is_no_migration_that_was_done() {
        set_up();
        make_tree();
        run(&format!("mv {TREE} {TREE}.hidden; ln -s {NEAR}/alice {TREE}; chown -h mallory {TREE}"));
        let arguments = format!("--root {NEAR} --from {TREE} --to-user alice --yes");
        let output = migrate(&arguments);
        assert_eq!(output.status.code(), Some(3), "{}", text_of(&output));
        assert!(text_of(&output).contains("is a symbolic link"), "{}", text_of(&output));
        run(&format!("rm {TREE}; mv {TREE}.hidden {TREE}"));
        assert!(migrate(&arguments).status.success());
        let output = migrate(&arguments);
        assert!(output.status.success() && text_of(&output).contains("was migrated already"), "{}", text_of(&output));
    }

    /// Many directories in which a build script's output is replaced, each at the end of a path of 25 kB.
    fn long_paths_of_outputs_take_no_memory() {
        set_up();
        make_tree();
        std::env::set_current_dir(format!("{TREE}/debug/mallorys")).unwrap();
        let name = "d".repeat(255);
        for _ in 0..100 {
            fs::create_dir(&name).unwrap();
            std::env::set_current_dir(&name).unwrap();
        }
        for script in 0..4000 {
            fs::create_dir(format!("s{script}")).unwrap();
            fs::write(format!("s{script}/root-output"), "").unwrap();
            fs::write(format!("s{script}/output"), format!("cargo:root={TREE}/x")).unwrap();
        }
        std::env::set_current_dir("/").unwrap();
        let output = Command::new("bash")
            .args(["-c", &format!("ulimit -v 131072; exec {TOOL} migrate --root {NEAR} --from {TREE} --to-user alice --yes")])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text_of(&output).len());
    }
}
