//! What a migration once lost, or gave to the wrong user: each of these was found in a review of an earlier
//! version, and happened there.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::migrate::{Item, ROOT, manifest, migrate, run};
use crate::sandbox::{TOOL, User, append, checkout, print_figures, sandboxed, text_of};

/// On another file system than the root.
const FAR: &str = "/srv/far/shared";
/// On that of the root.
const NEAR: &str = "/srv/near";

fn set_up() {
    for (name, uid) in [("alice", 2001), ("bob", 2002), ("carol", 2003), ("mallory", 2004)] {
        User::developer(name, uid).add();
    }
    run(&format!("mkdir -p {ROOT} /srv/far; mount -t tmpfs -o mode=0755 none /srv/far"));
    append("/etc/security/cargo-target.conf", &format!("root = {ROOT}\n"));
}

/// A tree of the team's.
fn make_tree(at: &str) {
    run(&format!(
        "rm -rf {at} {ROOT}/alice {ROOT}/.migrate-*; mkdir -p {at}/debug/deps {at}/debug/build; cd {at}; touch .rustc_info.json debug/.cargo-lock; \
         for f in {{1..30}}; do echo $f >debug/deps/f$f; ln debug/deps/f$f debug/f$f; done; ln -s deps/f1 debug/link; \
         chown -R bob:workspace .; chmod -R g+w ."
    ));
}

fn arguments(place: &str) -> String {
    format!("--from {place} --to-user alice --yes")
}

/// What a person has, whatever the migration does about ownership: names and contents.
fn contents(of: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = manifest(of).into_iter().filter(|(_, item)| item.mode & libc::S_IFMT == libc::S_IFREG);
    files.map(|(name, _)| (name.clone(), fs::read(Path::new(of).join(&name)).unwrap())).collect()
}

/// Runs it until the so-many-th call of this name, in this directory if one is named, at which it is killed;
/// false if it came to its end.
fn killed_at(call: &str, directory: &str, when: u32, place: &str) -> bool {
    let only: &[&str] = if directory.is_empty() { &[] } else { &["-P", directory] };
    let output = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
        .args(only)
        .args(["-e", &format!("inject={call}:signal=SIGKILL:when={when}"), TOOL, "migrate"])
        .args(arguments(place).split(' '))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let killed = output.status.signal() == Some(9) || output.status.code() == Some(137);
    assert!(killed || output.status.success(), "{call} {when}: {}", text_of(&output));
    killed
}

/// Which state a run that was killed had come to; none if it had not begun, or was done.
fn phase() -> Option<String> {
    let state = fs::read_to_string(format!("{ROOT}/.migrate-alice/state")).ok()?;
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    Some(state["phase"].as_str().unwrap().to_owned())
}

/// Somebody who holds a file and its directory open.
struct Holder {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Holder {
    fn start(directory: &str, file: &str) -> Self {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=mallory",
            "--regid=mallory",
            "--init-groups",
            "/tmp/attacker",
            "hold",
            directory,
        ]);
        let mut process = command.arg(file).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { process, output }
    }

    /// Has it write to what it holds, and answers with what else it could do.
    fn end(mut self) -> String {
        kill(Pid::from_raw(self.process.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let mut printed = String::new();
        self.output.read_to_string(&mut printed).unwrap();
        assert!(self.process.wait().unwrap().success());
        printed
    }
}

/// The tool, in a pid namespace that shows none of the processes here.
fn migrate_blindly(arguments: &str) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount", "--mount-proc", TOOL, "migrate"]);
    command.args(arguments.split_whitespace()).stdin(Stdio::null());
    command.output().unwrap()
}

sandboxed! {
    /// Killed while the source of a copy is removed, or a moment before; then somebody builds at the old path,
    /// in a new directory or in what is left of the old one. Not a byte of that goes.
    fn a_resume_leaves_what_now_stands_at_the_old_path() {
        set_up();
        let mut killed = 0;
        // At the first removals of names of the source, or before: each time the copy has its name already.
        for (round, how) in ["another", "same", "inside", "moved in"].iter().cycle().enumerate().take(16) {
            make_tree(FAR);
            let before = contents(FAR);
            let when = [1, 3, 13, 29][round / 4];
            let was_killed = killed_at("unlinkat", &format!("{FAR}/debug/deps"), when, FAR);
            if !was_killed || !matches!(phase().as_deref(), Some("publish" | "compare" | "remove")) {
                continue;
            }
            killed += 1;
            assert_eq!(
                contents(&format!("{ROOT}/alice")).into_iter().filter(|(name, _)| name != Path::new("CACHEDIR.TAG")).collect::<BTreeMap<_, _>>(),
                before
            );
            let (new, mine): (&str, String) = match *how {
                // What was left of it stays somewhere; a new one has its path.
                "another" => ("debug/deps/new", format!("mv {FAR} {FAR}.kept; mkdir -p {FAR}/debug/deps; cp {FAR}.kept/debug/deps/f3 {FAR}/debug/deps/ 2>/dev/null || :")),
                "same" => ("debug/deps/f30", "true".into()),
                "inside" => ("debug/deps/new/deep", format!("mkdir -p {FAR}/debug/deps/new")),
                _ => ("debug/moved/in/file", format!("mkdir -p /srv/far/moved/in {FAR}/debug; echo old >/srv/far/moved/in/file; sleep 0.05; mv /srv/far/moved {FAR}/debug/")),
            };
            run(&format!("{mine}; mkdir -p $(dirname {FAR}/{new}); echo precious >{FAR}/{new}; [ -e {FAR}/debug/.cargo-lock ] || touch {FAR}/debug/.cargo-lock"));
            let output = migrate(&arguments(FAR));
            assert!(output.status.success(), "{how}: {}", text_of(&output));
            let kept = format!("{FAR}/{new}");
            assert_eq!(fs::read_to_string(&kept).unwrap_or_else(|error| panic!("{how}: {kept}: {error}\n{}", text_of(&output))), "precious\n");
            assert!(text_of(&output).contains("stays as it is"), "{how}: {}", text_of(&output));
            assert!(!Path::new(&format!("{ROOT}/.migrate-alice")).exists());
            run(&format!("rm -rf {FAR} {FAR}.kept"));
        }
        assert!(killed >= 8, "only {killed} were killed where it counts");
        print_figures(&format!("migrate killed {killed} times after it had published, and the old path used anew: nothing of that was lost"));
    }

    /// The same before the copy had its name: then the old tree is all there is, or a new one is none of it.
    fn a_copy_that_was_killed_takes_no_other_tree() {
        set_up();
        make_tree(FAR);
        assert!(killed_at("linkat", "", 20, FAR));
        assert_eq!(phase().as_deref(), Some("gather"));
        run(&format!("mv {FAR} {FAR}.kept; mkdir -p {FAR}/debug; touch {FAR}/debug/.cargo-lock; echo mine >{FAR}/debug/mine"));
        let kept = contents(&format!("{FAR}.kept"));
        let output = migrate(&arguments(FAR));
        assert_eq!(output.status.code(), Some(3), "{}", text_of(&output));
        assert!(text_of(&output).contains("not the directory any more"), "{}", text_of(&output));
        assert_eq!(contents(FAR).len(), 2);
        assert_eq!(contents(&format!("{FAR}.kept")), kept);
        assert!(!Path::new(&format!("{ROOT}/alice")).exists());
        // The remedy that is named works: the old one has its name again.
        run(&format!("mv {FAR} {FAR}.new; mv {FAR}.kept {FAR}"));
        let output = migrate(&arguments(FAR));
        assert!(output.status.success(), "{}", text_of(&output));
        assert_eq!(contents(&format!("{FAR}.new")).len(), 2);
        let mut found = contents(&format!("{ROOT}/alice"));
        found.remove(Path::new("CACHEDIR.TAG"));
        assert_eq!(found, kept);
    }

    /// A file that changes after it was copied stays, and all of the source with it.
    fn what_changes_after_it_was_copied_stays() {
        set_up();
        make_tree(FAR);
        // Killed when it is about to compare for the last time.
        let mut when = 1;
        while phase().as_deref() != Some("compare") {
            make_tree(FAR);
            assert!(killed_at("renameat", "", when, FAR), "no renameat is the one to compare");
            when += 1;
        }
        // Same size, same time.
        run(&format!("touch -r {FAR}/debug/deps/f7 /tmp/stamp; echo 8 >{FAR}/debug/deps/f7; touch -r /tmp/stamp {FAR}/debug/deps/f7"));
        let before = contents(FAR);
        let output = migrate(&arguments(FAR));
        assert!(output.status.success(), "{}", text_of(&output));
        assert!(text_of(&output).contains("debug/deps/f7"), "{}", text_of(&output));
        assert_eq!(contents(FAR), before);
    }

    /// Out of the root itself, whatever the template, a user's directory never goes to another one; where it
    /// cannot be told whose it is, nothing moves.
    fn others_directories_stay_in_the_root() {
        set_up();
        User::new("build-bot", 2010).add();
        // The same uid under another name: NSS answers with one of them.
        append("/etc/passwd", "robert:x:2002:2002::/home/bob:/bin/bash\n");
        let conf = |template: &str| fs::write("/etc/security/cargo-target.conf", format!("root = {ROOT}\nname = {template}\n")).unwrap();
        let again = || {
            run(&format!("rm -rf {ROOT}; mkdir -p {ROOT}/debug/deps {ROOT}/release; cd {ROOT}; touch .rustc_info.json debug/.cargo-lock release/.cargo-lock; echo a >debug/deps/a; chown -R bob:workspace debug release; chmod -R g+w debug release"));
        };
        let directory = |name: &str, owner: &str, mode: &str| {
            run(&format!("install -d -o {owner} -g {owner} -m {mode} {ROOT}/{name}; echo mine >{ROOT}/{name}/mine; chown {owner} {ROOT}/{name}/mine"));
        };
        // Template, name, owner.
        let provisioned = [
            ("%u", "bob", "bob"),
            // The other name of a uid, and what was %u's before the template changed.
            ("%u", "robert", "2002"),
            ("%u", "2003", "carol"),
            ("%U", "2002", "bob"),
            ("%U", "carol", "carol"),
            ("%u@%h", "bob@sandbox", "bob"),
            ("%u@%h", "carol@another-host", "carol"),
            ("%h-%U", "elsewhere-2003", "carol"),
            ("build.%u", "build.carol", "carol"),
            // Somebody's name, with another's files in it.
            ("%u", "carol", "bob"),
            ("%u", "build-bot", "build-bot"),
        ];
        for (template, name, owner) in provisioned {
            for mode in ["0700", "0755"] {
                conf(template);
                again();
                directory(name, owner, mode);
                let place = format!("{ROOT}/{name}");
                let before: Item = manifest(ROOT).remove(Path::new(name)).unwrap();
                let output = migrate(&arguments(ROOT));
                assert!(output.status.success(), "{template} {name}: {}", text_of(&output));
                let after = manifest(ROOT).remove(Path::new(name)).unwrap_or_else(|| panic!("{template}: {name} was moved:\n{}", text_of(&output)));
                assert_eq!((after.uid, after.gid, after.mode), (before.uid, before.gid, before.mode), "{template} {name}");
                assert_eq!(fs::read_to_string(format!("{place}/mine")).unwrap(), "mine\n");
                assert!(!Path::new(&format!("{ROOT}/debug")).exists(), "{template} {name}: nothing was migrated");
            }
        }
        // Someone who has left; who was renamed; who has something in it already; a volume of somebody's.
        conf("%u");
        let unsure = [("gone", "2099", "0755", "true"), ("old-name", "bob", "0700", "true"), ("cache", "bob", "0755", "touch .rustc_info.json"), ("empty", "bob", "0755", "rm mine; touch CACHEDIR.TAG"), ("volume", "bob", "0755", "mount -t tmpfs none .; chown bob .")];
        for (name, owner, mode, more) in unsure {
            again();
            directory(name, owner, mode);
            run(&format!("cd {ROOT}/{name}; {more}"));
            let before = manifest(ROOT);
            let output = migrate(&arguments(ROOT));
            assert_eq!(output.status.code(), Some(3), "{name}: {}", text_of(&output));
            assert!(text_of(&output).contains(&format!("{ROOT}/{name}")), "{name}: {}", text_of(&output));
            assert!(manifest(ROOT) == before, "{name}: something changed");
            run(&format!("umount {ROOT}/{name} 2>/dev/null || :"));
        }
        // What cargo itself makes there is the team's, and so is a profile of their own.
        again();
        run(&format!("mkdir -p {ROOT}/profiling/deps {ROOT}/x86_64-unknown-linux-gnu/debug/deps; chown -R carol:workspace {ROOT}/profiling {ROOT}/x86*; chmod 2775 {ROOT}/profiling; touch {ROOT}/profiling/.cargo-lock"));
        let output = migrate(&arguments(ROOT));
        assert!(output.status.success(), "{}", text_of(&output));
        let names: Vec<_> = fs::read_dir(ROOT).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["alice"]);
    }

    /// The root, what is in it and what it lies in, by whatever path: refused, or known as what it is.
    fn no_alias_hides_what_a_directory_is() {
        set_up();
        make_tree(&format!("{NEAR}/shared"));
        run(&format!("mkdir -p {ROOT}/debug; touch {ROOT}/debug/.cargo-lock; install -d -o bob -g bob -m 0700 {ROOT}/bob; mkdir -p {ROOT}/bob/debug; touch {ROOT}/bob/debug/.cargo-lock {ROOT}/bob/.rustc_info.json; chown -R bob {ROOT}/bob; \
                      install -d -m 0755 {ROOT}/carol; mount -t tmpfs none {ROOT}/carol; mkdir {ROOT}/carol/debug; touch {ROOT}/carol/debug/.cargo-lock; chown -R carol {ROOT}/carol; \
                      mkdir -p /srv/a /srv/b /srv/c /srv/d /srv/e /srv/f; mount --bind {ROOT} /srv/a; mount --bind {ROOT}/bob /srv/b; mount --bind {ROOT}/bob/debug /srv/c; mount --bind {ROOT}/carol /srv/d; mount --bind {ROOT}/carol/debug /srv/e; mount --bind /srv /srv/f; \
                      ln -s /srv /tmp/link; mkdir -p /home/carol/x/debug; touch /home/carol/x/debug/.cargo-lock; mkdir /srv/g /srv/h; mount --bind /home /srv/g; mount --bind /home/carol /srv/h"));
        let before = (manifest(ROOT), manifest("/home"));
        for alias in [
            "/srv/a", "/srv/b", "/srv/c", "/srv/d", "/srv/e", "/srv/f", "/srv/f/cargo-target", "/srv/f/cargo-target/bob", "/srv/f/cargo-target/bob/debug",
            "/srv/a/bob", "/srv/a/carol", "/tmp/link/cargo-target/bob", "/srv/near/../cargo-target/bob/debug", "/srv/g", "/srv/h", "/srv/g/carol", "/tmp/link/../", "/srv/a/.staging/..",
        ] {
            let output = migrate(&format!("--from {alias} --to-user alice --yes --force"));
            assert_eq!(output.status.code(), Some(3), "{alias}: {}", text_of(&output));
            assert!(text_of(&output).contains("nothing was changed"), "{alias}: {}", text_of(&output));
            assert!((manifest(ROOT), manifest("/home")) == before, "{alias}: something changed");
        }
        // What only looks like one is what it is.
        let output = migrate("--from /tmp/link/near/../near/./shared --to-user alice --yes");
        assert!(output.status.success(), "{}", text_of(&output));
        assert!(Path::new(&format!("{ROOT}/bob/debug/.cargo-lock")).exists());
        // The root by a path with a symbolic link or dots in it is the root.
        run("umount /srv/f /srv/a /srv/b /srv/c /srv/d /srv/e");
        run(&format!("rm -rf {ROOT}/alice; umount {ROOT}/carol"));
        let output = migrate("--from /tmp/link/near/../cargo-target/. --to-user alice --yes");
        assert!(output.status.success(), "{}", text_of(&output));
        assert!(Path::new(&format!("{ROOT}/bob/debug/.cargo-lock")).exists() && Path::new(&format!("{ROOT}/alice/debug/.cargo-lock")).exists());
    }

    /// Whoever holds a file of the tree open for writing, where /proc does not show it, writes to no file of the
    /// new owner's; and whoever holds a directory can do nothing with it.
    fn writers_that_proc_does_not_show_reach_no_file() {
        set_up();
        let source = checkout().join("tests/attack/migrate.c");
        run(&format!("cc -O2 -Wall -Werror -o /tmp/attacker {}", source.display()));
        let alices = format!("{ROOT}/alice/debug/deps");
        for place in [&format!("{NEAR}/shared"), FAR] {
            // Each way of holding one, a file with one name and one with several.
            for file in ["mapped", "sent", "mapped-linked", "sent-linked", "path", "path-linked"] {
                make_tree(place);
                run(&format!("cd {place}/debug/deps; printf 'good and long enough' >{file}; {}; chown mallory:workspace .. . {file}; chmod 666 {file}; chmod 2777 .; touch -d @1700000000 {file} .", if file.contains("linked") { format!("ln {file} ../{file}") } else { "true".into() }));
                let holder = Holder::start(&format!("{place}/debug/deps"), file);
                let output = migrate_blindly(&arguments(place));
                assert!(output.status.success(), "{file} of {place}: {}", text_of(&output));
                // What was copied is another file, and the old one is theirs as it was.
                let may = match file {
                    "mapped" | "mapped-linked" if place == FAR => "opened a file for writing by the directory\n",
                    "path" | "path-linked" if place == FAR => "opened the file anew\n",
                    "sent" | "sent-linked" if place == FAR => "changed the mode\nopened a file for writing by the directory\n",
                    _ => "",
                };
                assert_eq!(holder.end(), may, "{file} of {place}: what it could do");
                for name in [format!("{alices}/{file}"), format!("{ROOT}/alice/debug/{file}")].iter().take(if file.contains("linked") { 2 } else { 1 }) {
                    assert_eq!(fs::read_to_string(name).unwrap(), "good and long enough", "{name} from {place}");
                    let found = fs::metadata(name).unwrap();
                    assert_eq!((found.uid(), found.permissions().mode() & 0o7777, found.mtime()), (2001, 0o644, 1_700_000_000), "{name}");
                    assert_eq!(found.nlink(), if file.contains("linked") { 2 } else { 1 });
                }
                if !file.contains("path") {
                    assert!(text_of(&output).contains("open for writing"), "{file} of {place}: {}", text_of(&output));
                }
                let names: Vec<_> = fs::read_dir(&alices).unwrap().map(|entry| entry.unwrap().file_name()).collect();
                assert_eq!(names.len(), 31, "{names:?}");
                assert_eq!(fs::metadata(&alices).unwrap().mtime(), 1_700_000_000);
                // What it was copied from, with what somebody wrote since, is not thrown away.
                if place == FAR && !file.contains("path") {
                    assert!(fs::read_to_string(format!("{FAR}/debug/deps/{file}")).unwrap().starts_with("EVIL"));
                }
            }
        }
        // The control: chown and chmod, as anybody would do it.
        for file in ["mapped", "sent"] {
            make_tree(&format!("{NEAR}/shared"));
            run(&format!("cd {NEAR}/shared/debug/deps; printf 'good and long enough' >{file}; chown mallory . {file}; chmod 666 {file}"));
            let holder = Holder::start(&format!("{NEAR}/shared/debug/deps"), file);
            run(&format!("mv {NEAR}/shared {ROOT}/alice; chown -R alice:alice {ROOT}/alice; chmod -R go-w {ROOT}/alice"));
            holder.end();
            assert!(fs::read_to_string(format!("{alices}/{file}")).unwrap().starts_with("EVIL"), "{file}: it is no attack");
        }
    }

    /// A disk quota binds the user, and not root, who would fill it: said beforehand. (No file system here has quotas:
    /// strace answers in the kernel's place.)
    fn a_quota_that_does_not_suffice_is_told() {
        set_up();
        make_tree(&format!("{NEAR}/shared"));
        let told = |hard_limit: &str| {
            // struct dqblk: the hard limit, in KiB; the soft one; what is used, in bytes: 512.
            let quota = format!("{hard_limit}{}{}{}", "0".repeat(16), "0002", "0".repeat(12));
            let output = Command::new("strace")
                .args(["-qq", "-o", "/tmp/trace", "-e", "trace=quotactl_fd", "-e"])
                .arg(format!("inject=quotactl_fd:retval=0:poke_exit=@arg4={quota}"))
                .args([TOOL, "migrate", "--from", &format!("{NEAR}/shared"), "--to-user", "alice", "--dry-run"])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", text_of(&output));
            assert!(fs::read_to_string("/tmp/trace").unwrap().contains("2001"), "it is asked of alice's");
            text_of(&output)
        };
        assert!(told("0800000000000000").contains("alice's disk quota, which has 7.5 KiB left"));
        assert!(!told("0000100000000000").contains("quota"));
        assert!(!told("0000000000000000").contains("quota"), "no limit");
    }

    /// Who has leases on files of the tree, where /proc does not show it, is not waited for: that would take 45 seconds
    /// for each. All of them are asked for at once, and the next run finds none.
    fn leases_are_not_waited_for() {
        set_up();
        let source = checkout().join("tests/attack/migrate.c");
        run(&format!("cc -O2 -Wall -Werror -o /tmp/attacker {}", source.display()));
        for place in [&format!("{NEAR}/shared"), FAR] {
            make_tree(place);
            let files = ["leased-1", "leased-2", "leased-3"];
            let deps = format!("{place}/debug/deps");
            run(&format!("cd {deps}; touch {0}; ln leased-3 ../leased-3; chown mallory {0}", files.join(" ")));
            let holders = files.map(|file| Holder::start(&deps, file));
            let begin = Instant::now();
            let output = migrate_blindly(&arguments(place));
            let took = begin.elapsed();
            assert_eq!(output.status.code(), Some(4), "{place}: {}", text_of(&output));
            assert!(took < Duration::from_secs(30), "{place}: {took:?}");
            for file in files {
                assert!(text_of(&output).contains(file), "{file} of {place}: {}", text_of(&output));
            }
            assert!(!Path::new(&format!("{ROOT}/alice")).exists());
            for holder in holders {
                holder.end();
            }
            let output = migrate_blindly(&arguments(place));
            assert!(output.status.success(), "{place}: {}", text_of(&output));
            for name in ["deps/leased-1", "deps/leased-2", "deps/leased-3", "leased-3"] {
                let found = fs::metadata(format!("{ROOT}/alice/debug/{name}")).unwrap();
                assert_eq!((found.uid(), found.nlink()), (2001, if name.contains('3') { 2 } else { 1 }), "{name}");
            }
            run(&format!("rm -rf {ROOT}/alice"));
        }
    }

    /// A subvolume of btrfs can be renamed into the root, but what is made beside it cannot be renamed into it; and
    /// the tops of all subvolumes have one inode number.
    fn a_subvolume_is_copied() {
        set_up();
        let root = "/srv/disk/root";
        run("mkdir /srv/disk; truncate -s 300M /tmp/disk; mkfs.btrfs -q /tmp/disk; mount -o loop /tmp/disk /srv/disk; mkdir /srv/disk/root");
        for destination in ["no directory", "a subvolume"] {
            run("btrfs -q subvolume create /srv/disk/shared; cd /srv/disk/shared; mkdir -p debug/build/p/out; touch debug/.cargo-lock debug/build/p/root-output; \
                 echo cargo:include=/srv/disk/shared/debug/build/p/out >debug/build/p/output; chown -R bob:workspace .");
            if destination == "a subvolume" {
                run(&format!("btrfs -q subvolume create {root}/alice; chown alice:alice {root}/alice; chmod 700 {root}/alice"));
            }
            let output = migrate(&format!("--root {root} --from /srv/disk/shared --to-user alice --yes"));
            assert!(output.status.success(), "{destination}: {}", text_of(&output));
            assert_eq!(fs::read_to_string(format!("{root}/alice/debug/build/p/output")).unwrap(), format!("cargo:include={root}/alice/debug/build/p/out\n"));
            assert!(fs::symlink_metadata("/srv/disk/shared").unwrap().is_symlink());
            assert!(!Path::new(&format!("{root}/.migrate-alice")).exists());
            run(&format!("rm -rf {root}/alice /srv/disk/shared"));
        }
    }

    /// Killed on the way, and then the source has another name: half of what is the user's is not published.
    fn only_owned_is_not_published_in_part() {
        set_up();
        let near = format!("{NEAR}/shared");
        make_tree(&near);
        run(&format!("chown -R alice {near}; chown bob {near}/debug/f1"));
        let mut own = Command::new("strace");
        own.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat2", "-e", "inject=renameat2:signal=SIGKILL:when=12", TOOL, "migrate", "--only-owned"]);
        own.args(arguments(&near).split(' ')).stdin(Stdio::null());
        assert!(!own.output().unwrap().status.success());
        assert_eq!(phase().as_deref(), Some("gather"));
        run(&format!("mv {near} {near}.kept"));
        let output = migrate(&format!("{} --only-owned", arguments(&near)));
        assert_eq!(output.status.code(), Some(3), "{}", text_of(&output));
        assert!(text_of(&output).contains("not the directory any more"), "{}", text_of(&output));
        assert!(!Path::new(&format!("{ROOT}/alice")).exists());
        // The remedy that is named works.
        run(&format!("mv {near}.kept {near}"));
        let output = migrate(&format!("{} --only-owned", arguments(&near)));
        assert!(output.status.success(), "{}", text_of(&output));
        assert_eq!(contents(&format!("{ROOT}/alice")).len() - 1, 2 + 58);
    }

    /// Two administrators answer at the same moment: what is in the root does not become half the one user's and
    /// half the other's.
    fn of_two_that_begin_at_once_one_goes_on() {
        set_up();
        run(&format!("mkdir -m 700 {ROOT}/.staging; cd {ROOT}; touch .rustc_info.json; for d in {{1..40}}; do mkdir d$d; touch d$d/f; done"));
        // Each has looked, and found nothing pending, when the other one makes its directory.
        let start = |user: &str, wait: u32| {
            let mut command = Command::new("strace");
            command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=mkdirat,renameat2", "-e", &format!("inject=mkdirat:delay_enter={wait}:when=1")]);
            command.args(["-e", "inject=renameat2:delay_enter=5000", TOOL, "migrate", "--from", ROOT, "--to-user", user, "--yes"]);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let first = start("alice", 2_400_000);
        std::thread::sleep(std::time::Duration::from_millis(800));
        let second = start("bob", 1_600_000);
        let outputs = [first, second].map(|process| process.wait_with_output().unwrap());
        let codes = outputs.each_ref().map(|output| output.status.code());
        // Or both give way, if neither was there first.
        assert!(matches!(codes, [Some(0 | 4), Some(4)] | [Some(4), Some(0)]), "{} {}", text_of(&outputs[0]), text_of(&outputs[1]));
        for (user, code) in [("alice", codes[0]), ("bob", codes[1])] {
            let own = format!("{ROOT}/{user}");
            let found = Path::new(&own).exists().then(|| contents(&own).len());
            assert_eq!(found, (code == Some(0)).then_some(42), "{user}");
        }
        assert_eq!(run(&format!("ls -A {ROOT} | grep -c migrate || :")).trim(), "0");
    }

    /// The user's directory is empty but for a tag that is none: it is in use, and nothing is begun.
    fn a_tag_that_is_a_directory_is_no_tag() {
        set_up();
        make_tree(&format!("{NEAR}/shared"));
        run(&format!("mkdir -p {ROOT}/alice/CACHEDIR.TAG; chown -R alice:alice {ROOT}/alice; chmod 700 {ROOT}/alice"));
        let output = migrate(&arguments(&format!("{NEAR}/shared")));
        assert_eq!(output.status.code(), Some(3), "{}", text_of(&output));
        assert!(text_of(&output).contains("not empty"), "{}", text_of(&output));
        assert!(!Path::new(&format!("{ROOT}/.migrate-alice")).exists());
    }

    /// What moves of a root is remembered over a crash. More names than can be are refused beforehand.
    fn more_names_than_are_remembered_are_refused() {
        set_up();
        run(&format!("cd {ROOT}; touch .rustc_info.json; mkdir -p debug/deps"));
        for number in 0..12_000 {
            fs::write(format!("{ROOT}/{}{number:05}", "\x01".repeat(240)), "").unwrap();
        }
        let output = migrate(&arguments(ROOT));
        assert_eq!(output.status.code(), Some(3), "{}", text_of(&output));
        assert!(text_of(&output).contains("so many names"), "{}", text_of(&output));
        assert!(!Path::new(&format!("{ROOT}/.migrate-alice")).exists());
    }

    /// A full disk cuts off what is written down of a directory's time: what is written next is not lost with it.
    fn a_record_that_was_cut_off_spoils_no_other() {
        set_up();
        let near = format!("{NEAR}/shared");
        make_tree(&near);
        run(&format!(
            "cd {near}; for p in {{1..6}}; do mkdir debug/build/p$p; touch debug/build/p$p/root-output; \
             echo cargo:include={near}/x >debug/build/p$p/output; touch -d @1700000000 debug/build/p$p; done"
        ));
        assert!(killed_at("fchown", "", 1, &near));
        assert_eq!(phase().as_deref(), Some("settle"));
        fs::write(format!("{ROOT}/.migrate-alice/times"), "1700000000 0 1").unwrap();
        // Killed after the first outputs were replaced.
        assert!(killed_at("utimensat", "", 4, &near));
        assert!(fs::metadata(format!("{ROOT}/.migrate-alice/times")).unwrap().len() > 16);
        let output = migrate(&arguments(&near));
        assert!(output.status.success(), "{}", text_of(&output));
        for p in 1..=6 {
            assert_eq!(fs::metadata(format!("{ROOT}/alice/debug/build/p{p}")).unwrap().mtime(), 1_700_000_000, "p{p}");
        }
    }

    /// The power fails: what was rewritten or copied is there with its content, or is not there yet.
    fn a_loss_of_power_leaves_no_empty_file() {
        set_up();
        let (disk, root) = ("/srv/disk", "/srv/disk/root");
        let lose_power = |file_system: &str, how: &str| {
            run(&format!("xfs_io -x -c 'shutdown {how}' {disk}; umount {disk}; mount -o loop /tmp/{file_system} {disk}"));
        };
        for file_system in ["ext4", "xfs"] {
            run(&format!("mkdir -p {disk}; truncate -s 400M /tmp/{file_system}; mkfs.{file_system} -q /tmp/{file_system}; mount -o loop /tmp/{file_system} {disk}; mkdir {root}"));
            // By a rename: what is written anew is what build scripts printed.
            let near = format!("{disk}/shared");
            run(&format!(
                "mkdir -p {near}/debug/build; cd {near}/debug; touch .cargo-lock; for p in {{1..6}}; do mkdir build/p$p; touch build/p$p/root-output; \
                 echo cargo:include={near}/x >build/p$p/output; done; sync"
            ));
            let output = migrate(&format!("--root {root} {}", arguments(&near)));
            assert!(output.status.success(), "{file_system}: {}", text_of(&output));
            lose_power(file_system, "-f");
            for p in 1..=6 {
                assert_eq!(fs::read_to_string(format!("{root}/alice/debug/build/p{p}/output")).unwrap(), format!("cargo:include={root}/alice/x\n"), "{file_system}");
            }
            run(&format!("rm -rf {root}/alice {near}; sync"));

            // By a copy, when all is copied and nothing is settled yet.
            make_tree(FAR);
            let before = contents(FAR);
            let state = format!("{root}/.migrate-alice/state");
            for when in 1..20 {
                let output = Command::new("strace")
                    .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat", "-e", &format!("inject=renameat:signal=SIGKILL:when={when}")])
                    .args([TOOL, "migrate", "--root", root, "--from", FAR, "--to-user", "alice", "--yes"])
                    .stdin(Stdio::null())
                    .output()
                    .unwrap();
                assert!(!output.status.success(), "{file_system}: no renameat is the one");
                if fs::read_to_string(&state).is_ok_and(|state| state.contains("\"settle\"")) {
                    break;
                }
            }
            // Somebody else waits for a file of theirs, and the journal is written.
            run(&format!("dd if=/dev/zero of={disk}/other bs=4k count=1 conv=fsync status=none"));
            lose_power(file_system, "");
            let output = migrate(&format!("--root {root} {}", arguments(FAR)));
            assert!(output.status.success(), "{file_system}: {}", text_of(&output));
            let mut found = contents(&format!("{root}/alice"));
            found.remove(Path::new("CACHEDIR.TAG"));
            assert_eq!(found, before, "{file_system}");
            run(&format!("umount {disk}; rm {FAR}"));
        }
    }
}
