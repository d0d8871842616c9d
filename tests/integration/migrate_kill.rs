//! Migrations that are killed, at any moment, and run again: the end is the same as without.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use crate::migrate::{Item, ROOT, as_owned_by, assert_same, manifest, migrate, run};
use crate::sandbox::{TOOL, User, append, print_figures, sandboxed, text_of};

const MASTER: &str = "/srv/master";
/// On the root's file system, and on another one.
const NEAR: &str = "/srv/near/shared";
const FAR: &str = "/srv/far/shared";

/// The calls by which the tool changes something, or the phase it is in. Killed at the so-many-th of each.
const CALLS: &[&str] = &[
    "renameat,renameat2",
    "mkdir,mkdirat",
    "fchown",
    "fchmod",
    "fchownat",
    "fchmodat,fchmodat2",
    "unlinkat",
    "openat2",
    "linkat",
    "utimensat",
    "symlinkat",
    "fsync",
    "write",
    "ftruncate",
    "copy_file_range,sendfile,splice",
];

/// A tree of about so many files, as two users leave one: hard links, build scripts' outputs, a file with a
/// name outside.
fn set_up(files: u32) {
    User::developer("alice", 2001).add();
    User::developer("bob", 2002).add();
    fs::create_dir(ROOT).unwrap();
    append("/etc/security/cargo-target.conf", &format!("root = {ROOT}\n"));
    let directories = files / 20;
    run(&format!(
        "mkdir -p {MASTER}/debug/deps /srv/near /srv/far; cd {MASTER}; touch .rustc_info.json debug/.cargo-lock; \
         mount -t tmpfs -o mode=0755 none /srv/far; \
         for d in $(seq {directories}); do \
             mkdir -p debug/build/p$d/out debug/.fingerprint/p$d; \
             for f in $(seq 16); do echo $d.$f >debug/build/p$d/out/f$f; done; \
             echo p$d >debug/deps/p$d; ln debug/deps/p$d debug/p$d; \
             echo 'cargo:include={NEAR}/debug/build/p$d/out' >debug/build/p$d/output; echo x >debug/build/p$d/root-output; \
         done; \
         ln -s ../deps debug/build/link; truncate -s 1M debug/sparse; echo end >>debug/sparse; \
         echo outside >debug/deps/kept; chown -R bob:workspace .; chown -R alice debug/build/p1; chmod -R g+w .; chmod -R a-x,g+s,a+X .; \
         find . -print0 | xargs -0 touch -h -d @1700000000.123456789; touch -d @1700000001 debug/build/p*/output"
    ));
}

/// The tree in its place, and nothing else.
fn again(place: &str) {
    run(&format!(
        "rm -rf {ROOT}/* {ROOT}/.[!.]* {place} {place}-link; cp -a {MASTER} {place}; ln {place}/debug/deps/kept {place}-link"
    ));
}

fn arguments(place: &str) -> String {
    format!("--from {place} --to-user alice --yes")
}

/// What came of it, without the tag and the times of the top's own.
fn outcome() -> BTreeMap<PathBuf, Item> {
    let mut items = manifest(&format!("{ROOT}/alice"));
    items.remove(Path::new("CACHEDIR.TAG")).expect("a tag");
    items
}

/// Runs it again, and compares everything with what an undisturbed run leaves.
#[track_caller]
fn resumes(place: &str, expected: &BTreeMap<PathBuf, Item>, what: &str) {
    // Until it has its name, and after: never a part of it in view.
    let alices = format!("{ROOT}/alice");
    if Path::new(&alices).exists() {
        assert_same(&outcome(), expected, &format!("{what}, what was in view"));
    }
    let output = migrate(&arguments(place));
    assert!(output.status.success(), "{what}: {}", text_of(&output));
    assert_same(&outcome(), expected, what);
    let left: Vec<_> = fs::read_dir(ROOT).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["alice"], "{what}");
    // The old place is a link, and the name outside has its own file.
    assert_eq!(fs::read_link(place).unwrap(), Path::new(&alices), "{what}");
    assert_eq!(fs::read(format!("{place}-link")).unwrap(), b"outside\n", "{what}");
}

/// Kills it so many times, half at moments spread over its time, half at one of its calls; both ways it takes.
fn kill(files: u32, points: u32) {
    set_up(files);
    let mut killed = 0;
    let mut in_time = 0;
    for (place, points) in [(NEAR, points / 2), (FAR, points - points / 2)] {
        // As it is without, and how long that takes.
        again(place);
        let begin = Instant::now();
        let output = migrate(&arguments(place));
        let took = begin.elapsed();
        assert!(output.status.success(), "{}", text_of(&output));
        let expected = outcome();
        let mut planned = as_owned_by(manifest(MASTER), 2001, (NEAR, NEAR));
        if place == NEAR {
            planned = as_owned_by(planned, 2001, (NEAR, &format!("{ROOT}/alice")));
        }
        assert_same(&expected, &planned, "undisturbed");
        again(place);

        for point in 0..points {
            again(place);
            let what = if point % 2 == 0 {
                let after = took * (point + 1) / (points + 1);
                let mut child = Command::new(TOOL)
                    .arg("migrate")
                    .args(arguments(place).split(' '))
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                thread::sleep(after);
                child.kill().unwrap();
                let was_killed = child.wait().unwrap().signal() == Some(9);
                killed += u32::from(was_killed);
                in_time += u32::from(was_killed);
                format!("{place}, killed after {after:?}")
            } else {
                let calls = CALLS[(point / 2) as usize % CALLS.len()];
                // Early ones, and with each round later ones.
                let at = 1 + (point / 2) / u32::try_from(CALLS.len()).unwrap() * 7 + (point % 3);
                let output = Command::new("strace")
                    .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={}", existing(calls))])
                    .args(["-e", &format!("inject={}:signal=SIGKILL:when={at}", existing(calls))])
                    .args([TOOL, "migrate"])
                    .args(arguments(place).split(' '))
                    .stdin(Stdio::null())
                    .output()
                    .unwrap();
                let was_killed = output.status.signal() == Some(9) || output.status.code() == Some(137);
                assert!(was_killed || output.status.success(), "{calls} {at}: {}", text_of(&output));
                killed += u32::from(was_killed);
                format!("{place}, killed at {calls} {at}")
            };
            resumes(place, &expected, &what);
        }
    }
    assert!(killed * 2 > points, "only {killed} of {points} were killed in time");
    print_figures(&format!(
        "migrate killed {killed} times ({in_time} by the clock, the others at a system call), {files} files, same and \
         other file system: run again, it ended in the same tree each time"
    ));
}

/// Of some calls, those that this machine has.
fn existing(calls: &str) -> String {
    let is_there = |call: &&str| {
        let probe = Command::new("strace").args(["-e", &format!("trace={call}"), "true"]).output().unwrap();
        probe.status.success()
    };
    calls.split(',').filter(is_there).collect::<Vec<_>>().join(",")
}

sandboxed! {
    fn killed_anywhere_it_goes_on() {
        kill(600, 20);
    }

    #[ignore = "long: make soak"]
    fn soak_killed_at_a_hundred_points() {
        kill(5_000, 100);
    }
}
