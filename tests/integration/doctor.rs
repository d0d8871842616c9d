//! `doctor` runs as root over what users have written, and its remedies are pasted into a root shell: what a
//! user can make of that. And every finding that it knows, each planted, with the id that programs go by.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::c_host;
use crate::cli::{machine, run};
use crate::fuse::Fuse;
use crate::sandbox::{SyslogSocket, TOOL, checkout, sandboxed, succeeded, text_of};

/// A machine on which doctor finds nothing: the module is in place, and alice and bob have their directories.
fn healthy() -> SyslogSocket {
    let log = machine();
    run(
        "cargo-targetctl init --root /srv/cargo-target --yes; heal; for user in alice bob; do cargo-targetctl try --user $user; done",
    );
    assert_eq!(findings(), Vec::<String>::new());
    log
}

/// `problem no-root`, one for each kind of finding.
fn findings() -> Vec<String> {
    let answer = diagnosis();
    let mut found: Vec<String> = Vec::new();
    for finding in answer["findings"].as_array().unwrap() {
        let (gravity, id) = (finding["gravity"].as_str().unwrap(), finding["id"].as_str().unwrap());
        let finding = format!("{gravity} {id}");
        if !found.contains(&finding) {
            found.push(finding);
        }
    }
    found
}

fn diagnosis() -> Value {
    let output = Command::new("timeout").args(["60", TOOL, "doctor", "--json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text_of(&output)))
}

fn as_alice(command: &str) {
    let mut alice = Command::new("setpriv");
    alice.args(["--reuid=alice", "--regid=alice", "--init-groups", "bash", "-c", command]);
    succeeded(&alice.env("HOME", "/home/alice").output().unwrap());
}

fn module() -> std::path::PathBuf {
    crate::install::installed_module()
}

/// What a command opens to read or write, by the path that the kernel has for it.
fn opened_by(command: &str) -> Vec<String> {
    let output = Command::new("strace")
        .args([
            "-f",
            "-y",
            "-qq",
            "-o",
            "/run/trace",
            "-e",
            "trace=open,openat,openat2",
            "bash",
            "-c",
            command,
        ])
        .output()
        .unwrap();
    assert!(output.status.code().is_some_and(|code| code < 4), "{}", text_of(&output));
    let trace = fs::read_to_string("/run/trace").unwrap();
    let opened = trace.lines().filter(|line| !line.contains("O_PATH"));
    opened.filter_map(|line| Some(line.rsplit_once(" = ")?.1.split_once('<')?.1.to_owned())).collect()
}

/// Every finding: how it is planted, how it is mended, and what is found in between.
const PLANTS: [(&str, &str, &[&str]); 45] = [
    ("mv $M /tmp/m", "mv /tmp/m $M", &["problem module-missing"]),
    ("mv $M /tmp/m; echo none >$M", "mv /tmp/m $M", &["problem module-not-loadable"]),
    ("chmod 0600 $M", "chmod 0644 $M", &["problem module-mode"]),
    ("chown carol $M", "chown root $M", &["problem module-untrusted"]),
    ("mv $P $P.away", "mv $P.away $P", &["problem libpam-missing"]),
    (
        "sed -i 's/optional\\tpam_c/required\\tpam_c/' $S",
        "sed -i 's/required\\tpam_c/optional\\tpam_c/' $S",
        &["problem module-required"],
    ),
    ("cp $S /tmp/s; sed -i /pam_cargo/d $S", "cp /tmp/s $S", &["problem client-without-module"]),
    ("echo '@include gone' >/etc/pam.d/x", "rm /etc/pam.d/x", &["problem pam-include"]),
    ("mkfifo /etc/pam.d/x", "rm /etc/pam.d/x", &["problem pam-unreadable"]),
    ("sed -i '1i session sufficient pam_permit.so' $S", "sed -i 1d $S", &["problem line-not-reached"]),
    ("sed -i '1i session [success=9] pam_permit.so' $S", "sed -i 1d $S", &["advice line-jumped-over"]),
    ("sed -i 's/target.so$/& debug/' $S", "sed -i 's/ debug$//' $S", &["advice lines-differ"]),
    (
        "sed -i s/UsePAM/#UsePAM/ /etc/ssh/sshd_config",
        "sed -i s/#UsePAM/UsePAM/ /etc/ssh/sshd_config",
        &["problem sshd-without-pam"],
    ),
    ("echo 'rot = /x' >>$C", "sed -i '$d' $C", &["problem configuration"]),
    ("mv $C /tmp/c", "mv /tmp/c $C", &["problem no-root"]),
    ("mv $R /srv/away", "mv /srv/away $R", &["problem root-absent"]),
    ("chmod 0777 $R", "chmod 0755 $R", &["problem root-unsafe"]),
    ("chmod 1777 $R", "chmod 0755 $R", &["advice root-sticky"]),
    ("chmod 0700 $R", "chmod 0755 $R", &["problem root-closed"]),
    (
        "mkdir /tmp/u /tmp/w; mount -t overlay -o lowerdir=$R,upperdir=/tmp/u,workdir=/tmp/w over $R",
        "umount $R",
        &["problem root-not-local"],
    ),
    ("mount --bind $R $R; mount -o remount,bind,ro $R", "umount $R", &["problem mount-read-only"]),
    ("mount --bind $R $R; mount -o remount,bind,noexec $R", "umount $R", &["problem mount-noexec"]),
    (
        "mount -t tmpfs -o size=8m,mode=0755 small $R",
        "umount $R",
        &["problem little-space", "advice no-directory-yet"],
    ),
    (
        "mount -t tmpfs -o nr_inodes=99,mode=0755 small $R",
        "umount $R",
        &["problem few-inodes", "advice no-directory-yet"],
    ),
    ("mv $R/alice /srv/away", "mv /srv/away $R/alice", &["advice no-directory-yet"]),
    ("rm $R/alice/CACHEDIR.TAG", "cargo-targetctl doctor --fix --yes", &["problem no-tag"]),
    ("setfacl -m u:bob:rx $R/alice", "setfacl -b $R/alice", &["problem directory-acl"]),
    ("touch $R/alice/x", "rm $R/alice/x", &["problem foreign-files"]),
    ("mkdir -p $R/.staging; chmod 0755 $R/.staging", "rmdir $R/.staging", &["problem staging-unsafe"]),
    ("mkdir -m 0700 $R/.staging $R/.staging/x", "rm -r $R/.staging", &["problem staging-litter"]),
    (
        "mkdir -m 0700 $R/.staging $R/.staging/x; flock -s $R/.staging sleep 300 & echo $! >/run/pid; \
         while flock -n $R/.staging true; do sleep 0.05; done",
        "kill $(</run/pid); rm -r $R/.staging",
        &["advice staging-busy"],
    ),
    ("mkdir $R/zoe", "rmdir $R/zoe", &["problem orphan"]),
    ("chown carol $R/alice", "chown alice $R/alice", &["problem member-refused"]),
    ("gpasswd -a daemon workspace", "gpasswd -d daemon workspace", &["advice member-below-min-uid"]),
    (
        "sed -i '/^workspace/s/$/,ghost/' /etc/group",
        "sed -i s/,ghost// /etc/group",
        &["problem unknown-member"],
    ),
    (
        "cp /etc/group /tmp/g; sed -i '/^workspace/s/:[^:]*$/:/' /etc/group",
        "cp /tmp/g /etc/group",
        &["problem no-members"],
    ),
    ("cp /etc/group /tmp/g; sed -i /^workspace/d /etc/group", "cp /tmp/g /etc/group", &["problem no-group"]),
    ("echo CARGO_TARGET_DIR=/x >/etc/environment", ": >/etc/environment", &["problem overridden"]),
    (
        "echo 'AcceptEnv CARGO_*' >>/etc/ssh/sshd_config",
        "sed -i '$d' /etc/ssh/sshd_config",
        &["problem overridden-by-sshd"],
    ),
    (
        "echo 'Defaults env_keep += CARGO_TARGET_DIR' >/etc/sudoers.d/x",
        "rm /etc/sudoers.d/x",
        &["problem kept-by-sudo"],
    ),
    (
        "mkdir /srv/.cargo; echo 'target-dir = \"/x\"' >/srv/.cargo/config.toml",
        "rm -r /srv/.cargo",
        &["problem target-dir-overridden"],
    ),
    (
        "CARGO_TARGET_DIR=/x setpriv --reuid=alice --regid=alice --clear-groups sleep 300 & echo $! >/run/pid; \
         until grep -qx sleep /proc/$!/comm; do sleep 0.05; done",
        "kill $(</run/pid)",
        &["problem process-with-another-value"],
    ),
    (
        "cp /bin/sleep /tmp/tmux; env -u CARGO_TARGET_DIR setpriv --reuid=alice --regid=alice --clear-groups /tmp/tmux 300 & \
         echo $! >/run/pid; until grep -qx tmux /proc/$!/comm; do sleep 0.05; done",
        "kill $(</run/pid); rm /tmp/tmux",
        &["problem process-without-the-value"],
    ),
    (
        "mkdir ~bob/one ~bob/two; for dir in one two; do echo 'name = \"engine\"' >~bob/$dir/Cargo.toml; done",
        "rm -r ~bob/one ~bob/two",
        &["advice several-checkouts"],
    ),
    (
        "cp $C /tmp/c; printf 'export = CARGO_TARGET_DIR\\nexport = CARGO_BUILD_BUILD_DIR:build\\n' >>$C; rm -f /usr/bin/cargo; \
         printf '#!/bin/sh\\necho cargo 1.65.0\\n' >/usr/bin/cargo; chmod 0755 /usr/bin/cargo",
        "cp /tmp/c $C; rm /usr/bin/cargo",
        &["advice old-cargo"],
    ),
];

sandboxed! {
    fn every_finding_has_an_id_and_a_gravity_that_stay() {
        let _log = healthy();
        let mut planted: BTreeSet<String> = BTreeSet::new();
        let names = format!(
            "M={}; P=$(dirname $M)/pam_permit.so; S=/etc/pam.d/common-session; R=/srv/cargo-target; \
             C=/etc/security/cargo-target.conf; rmdir $R/.staging 2>/dev/null",
            module().display()
        );
        for (plant, mend, expected) in PLANTS {
            run(&format!("{names}; {{ {plant}; }} >/dev/null 2>&1"));
            assert_eq!(findings(), expected, "{plant}");
            run(&format!("{names}; {{ {mend}; }} >/dev/null 2>&1"));
            planted.extend(expected.iter().map(|finding| (*finding).to_owned()));
        }
        fs::rename("/srv/cargo-target", "/srv/away").unwrap();
        fs::create_dir("/srv/cargo-target").unwrap();
        let fuse = Fuse::mount("/srv/cargo-target", "hang");
        let dead = findings();
        fuse.behave("");
        assert_eq!(dead, ["problem root-dead", "problem root-not-local"]);
        planted.extend(dead);

        // Those are all: no other stands in the sources, and the manual explains each.
        let mut ids: Vec<&str> = planted.iter().map(|finding| finding.split_once(' ').unwrap().1).collect();
        ids.sort_unstable();
        let mut in_sources: BTreeSet<String> = BTreeSet::new();
        for entry in fs::read_dir(checkout().join("src/cli/doctor")).unwrap() {
            let source = fs::read_to_string(entry.unwrap().path()).unwrap();
            for made in source.split("Finding::new(").chain(source.split("Finding::said(")).skip(1) {
                let id = made.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
                in_sources.extend(id.map(|(id, _)| id.to_owned()));
            }
        }
        assert_eq!(ids, in_sources.iter().map(String::as_str).collect::<Vec<_>>());
        let manual = succeeded(&Command::new(TOOL).arg("manual").output().unwrap()).replace('\\', "");
        let explained: BTreeSet<&str> =
            manual.lines().filter(|line| line.ends_with(" (problem)") || line.ends_with(" (advice)")).collect();
        let wanted: Vec<String> = planted
            .iter()
            .map(|finding| finding.split_once(' ').unwrap())
            .map(|(gravity, id)| format!(".B {id} ({gravity})"))
            .collect();
        assert_eq!(explained, wanted.iter().map(String::as_str).collect::<BTreeSet<_>>());
    }

    fn doctor_opens_nothing_that_a_user_leads_it_to() {
        let _log = healthy();
        fs::write("/etc/secret", "CARGO_TARGET_DIR=/x\n").unwrap();
        as_alice(
            "mkdir -p ~/.config ~/code; ln -s /dev ~/.config/environment.d; ln -s /dev ~/.profile; ln -s /proc ~/.zshrc; \
             ln -s /etc/secret ~/.bashrc; ln -s /dev ~/.cargo; ln -s /dev ~/code/Cargo.toml; ln -s /dev ~/work; \
             mkfifo ~/.login; ln -s /dev /srv/cargo-target/alice/debug",
        );
        let devices = |opened: &[String]| -> Vec<String> {
            let is_device = |path: &&String| path.starts_with("/dev/") && !path.starts_with("/dev/null");
            opened.iter().filter(is_device).cloned().collect()
        };
        let opened = opened_by("cargo-targetctl doctor");
        assert_eq!(devices(&opened), Vec::<String>::new());
        assert!(opened.iter().any(|path| path.starts_with("/etc/environment")), "{opened:?}");
        assert!(!opened.iter().any(|path| path.starts_with("/etc/secret")), "{opened:?}");
        assert_eq!(findings(), Vec::<String>::new());
        // What is seen so is seen where somebody is led.
        assert!(!devices(&opened_by("cat /home/alice/.config/environment.d/zero | head -c 1")).is_empty());
        // A file of her own is read.
        as_alice("rm ~/.bashrc ~/.config/environment.d; mkdir ~/.config/environment.d; \
                  echo CARGO_TARGET_DIR=/x | tee ~/.bashrc >~/.config/environment.d/a");
        let answer = diagnosis();
        assert_eq!(answer["problems"], 2, "{answer}");
    }

    fn doctor_neither_runs_nor_blesses_a_module_that_others_could_have_written() {
        let _log = healthy();
        let (traitor, module) = (c_host::module("traitor"), module());
        let ran = Path::new("/run/traitor-ran");
        fs::copy(&traitor, &module).unwrap();
        let directory = module.parent().unwrap().display().to_string();
        for (plant, mend) in [
            (format!("chown carol {0}", module.display()), format!("chown root {0}", module.display())),
            (format!("chmod 0666 {0}", module.display()), format!("chmod 0644 {0}", module.display())),
            (format!("chmod 0777 {directory}"), format!("chmod 0755 {directory}")),
            (format!("chown carol {directory}"), format!("chown root {directory}")),
        ] {
            run(&plant);
            let before = fs::metadata(&module).unwrap();
            for command in ["cargo-targetctl doctor", "cargo-targetctl doctor --fix --yes", "heal"] {
                let printed = run(command);
                assert!(!ran.exists(), "{plant}: {printed}");
                let after = fs::metadata(&module).unwrap();
                assert_eq!((before.uid(), before.mode()), (after.uid(), after.mode()), "{plant}: {printed}");
            }
            assert_eq!(findings(), ["problem module-untrusted"], "{plant}");
            run(&mend);
        }
        // Nor does it change what a link leads to.
        fs::remove_file(&module).unwrap();
        as_alice("mkdir ~/src; ln -s /etc/shadow ~/src/m.so");
        symlink("/home/alice/src/m.so", &module).unwrap();
        let mode = fs::metadata("/etc/shadow").unwrap().permissions().mode();
        run("cargo-targetctl doctor --fix --yes");
        assert_eq!(fs::metadata("/etc/shadow").unwrap().permissions().mode(), mode);
        // What is root's alone is loaded, as every login would: the traitor does run.
        fs::remove_file(&module).unwrap();
        fs::copy(&traitor, &module).unwrap();
        run("cargo-targetctl doctor");
        assert!(ran.exists());
    }

    fn no_remedy_deletes_anything() {
        let _log = healthy();
        run(r#"
            printf 'if [ -d /srv/old ]; then\n    export CARGO_TARGET_DIR=/srv/old/$USER\nfi\n' >/etc/profile.d/cargo.sh
            printf 'Defaults env_keep += "CARGO_TARGET_DIR \\\n   HTTP_PROXY"\n' >/etc/sudoers.d/x
            printf '\nAcceptEnv LANG CARGO_*\nSetEnv CARGO_TARGET_DIR=/x\n' >>/etc/ssh/sshd_config
            echo 'CARGO_TARGET_DIR=/x' | tee /etc/cron.d/x /home/alice/.bashrc >/var/spool/cron/crontabs/alice
            mkdir /home/alice/.cargo; echo 'target-dir = "x"' >/home/alice/.cargo/config.toml
            mkdir /srv/cargo-target/zoe; touch /srv/cargo-target/zoe/x /srv/cargo-target/alice/x
            CARGO_TARGET_DIR=/x setpriv --reuid=bob --regid=bob --clear-groups sleep 300 >/dev/null 2>&1 & echo $! >/run/pid
            until grep -qx sleep /proc/$!/comm; do sleep 0.05; done
        "#);
        let files = "find /etc/profile.d /etc/sudoers.d /etc/ssh /etc/cron.d /var/spool/cron /home /srv -type f \
                     -exec sha256sum {} + | sort; ps -o comm= -p $(</run/pid)";
        let before = run(files);
        assert_eq!(before.lines().last(), Some("sleep"));
        let printed = run("heal");
        for id in [
            "overridden",
            "overridden-by-sshd",
            "kept-by-sudo",
            "target-dir-overridden",
            "process-with-another-value",
            "orphan",
            "foreign-files",
        ] {
            assert!(printed.contains(&format!("problem {id}\n")), "{id}: {printed}");
        }
        assert_eq!(run(files), before);
        run("kill $(</run/pid)");
    }

    fn doctor_reads_so_much_of_an_environment_and_no_more() {
        let _log = healthy();
        let program = c_host::program("endless");
        let mut endless = Command::new("setpriv")
            .args(["--reuid=alice", "--regid=alice", "--clear-groups"])
            .arg(program)
            .arg("64")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(endless.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        let length = run(&format!("head -c 100000000 /proc/{}/environ | wc -c", endless.id()));
        assert_eq!(length, "100000000\n");
        // It has 64 GiB; this is enough for doctor.
        let printed = run("ulimit -v 500000; timeout 60 cargo-targetctl doctor");
        endless.kill().unwrap();
        endless.wait().unwrap();
        assert!(printed.ends_with("No problem found.\n"), "{printed}");
    }

    fn what_a_user_has_any_number_of_is_told_in_a_few_lines() {
        let _log = healthy();
        as_alice(
            "mkdir -p ~/.config/environment.d; cd ~/.config/environment.d; for i in {1..1000}; do echo CARGO_TARGET_DIR=1 >$i; done; \
             yes CARGO_TARGET_DIR=1 | head -n 40000 >~/.bashrc; \
             cd /srv/cargo-target/alice; for i in {1..300}; do mkdir d; cd d || exit; done",
        );
        let printed = run("timeout 60 cargo-targetctl doctor");
        assert!(printed.contains("/home/alice/.bashrc:1,2,3,4,5 and 39995 more sets"), "{printed}");
        assert!(printed.len() < 4096, "{} bytes: {printed}", printed.len());
    }

    fn no_server_that_is_dead_holds_the_tool() {
        let _log = healthy();
        // Root's own, or an automounter's: a link needs no right to mount.
        fs::create_dir("/mnt/server").unwrap();
        let server = Fuse::mount("/mnt/server", "hang");
        as_alice("ln -s /mnt/server/x ~/.bashrc; ln -s /mnt/server ~/.config; ln -s /mnt/server ~/code; mkdir ~/mount");
        // Her own, in her home, beneath her directory, and over the tag.
        as_alice("mkdir /srv/cargo-target/alice/debug");
        let mounts = ["/home/alice/mount", "/srv/cargo-target/alice/debug"].map(|at| Fuse::mount_by(2001, at, "hang"));
        let tag = Fuse::mount_by_on_a_file(2001, "/srv/cargo-target/alice/CACHEDIR.TAG", "hang");
        for command in ["doctor", "check", "try --user alice", "init --yes", "init --root /srv/new --dry-run"] {
            let printed = run(&format!("timeout --signal=KILL 60 cargo-targetctl {command}"));
            assert!(!printed.ends_with("[137]\n"), "{command}: {printed}");
        }
        // A home that is on one is left alone, and named.
        run("usermod -d /mnt/server/alice alice");
        let printed = run("timeout --signal=KILL 60 cargo-targetctl doctor");
        assert!(printed.contains("Not looked into, on network, FUSE or autofs mounts: /mnt/server/alice."), "{printed}");
        assert!(printed.ends_with("No problem found.\n"), "{printed}");
        run("usermod -d /home/alice alice; echo timeout = 1 >>/etc/security/cargo-target.conf");
        // A root that is dead, by its name and by a link to it.
        symlink("/mnt/server", "/srv/link").unwrap();
        for root in ["/mnt/server/deep", "/srv/link"] {
            for (command, status) in [("try --user bob", 0), ("init --yes", 3), ("check", 3), ("doctor", 3)] {
                let conf = if command.starts_with("init") { "--conf /etc/new.conf" } else { "" };
                let command = format!("cargo-targetctl --root {root} {conf} {command}");
                let printed = run(&format!("timeout --signal=KILL 60 {command}; exit $(($?))"));
                let ended = if status == 0 { String::new() } else { format!("[{status}]\n") };
                assert!(printed.ends_with(&ended) && !printed.ends_with("[137]\n"), "{command}: {printed}");
                assert!(printed.contains("did not answer") || printed.contains("does not answer"), "{command}: {printed}");
            }
        }
        server.behave("");
        tag.behave("");
        for mount in &mounts {
            mount.behave("");
        }
    }
}
