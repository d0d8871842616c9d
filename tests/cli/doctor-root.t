$ cargo-targetctl init --root /srv/cargo-target --yes >/dev/null; heal >/dev/null; for user in alice bob; do cargo-targetctl try --user $user >/dev/null; done; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ mv /srv/cargo-target /srv/away; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /srv/cargo-target does not exist
    make it
    # cargo-targetctl init --root /srv/cargo-target --yes
1 problem.
[3]

$ heal
problem root-absent
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
advice: alice has no directory yet
    the next login makes it
advice: bob has no directory yet
    the next login makes it
No problem, 2 pieces of advice.

$ rm -r /srv/cargo-target; ln -s away /srv/cargo-target; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /srv/cargo-target is a symbolic link, which could be pointed elsewhere
    set root to what this prints: realpath /srv/cargo-target
1 problem.
[3]

$ rm /srv/cargo-target; mv /srv/away /srv/cargo-target; chmod 2775 /srv/cargo-target; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /srv/cargo-target (mode 2775) is writable by group or others without the sticky bit: they could replace another user's directory in it
    run: chmod go-w /srv/cargo-target
    # cargo-targetctl init --root /srv/cargo-target --yes
1 problem.
1 of them can be mended by cargo-targetctl doctor --fix.
[3]

$ heal
problem root-unsafe, fixable
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ chown alice /srv/cargo-target; heal
problem root-unsafe, fixable
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ chmod 0777 /srv; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /srv (mode 0777) is writable by group or others without the sticky bit: they could replace another user's directory in it
    run: chmod go-w /srv
    # chmod go-w /srv
1 problem.
[3]

$ heal
problem root-unsafe
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ chmod 1777 /srv/cargo-target; cargo-targetctl doctor; echo exit $?
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
advice: /srv/cargo-target (mode 1777) is sticky: anybody can take the name of a future user's directory
    let only root write it
    # chmod 0755 /srv/cargo-target
No problem, 1 piece of advice.
1 of them can be mended by cargo-targetctl doctor --fix.
exit 0

$ heal
advice root-sticky, fixable
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ chmod 0700 /srv/cargo-target; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /srv/cargo-target (mode 0700) cannot be entered by alice, and 1 more: they do not reach their directories
    let everybody pass
    # chmod a+x /srv/cargo-target
1 problem.
[3]

$ heal
problem root-closed
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ chgrp workspace /srv/cargo-target; chmod 0750 /srv/cargo-target; cargo-targetctl doctor; chgrp carol /srv/cargo-target
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ cargo-targetctl doctor; setfacl -m g:workspace:rx /srv/cargo-target; cargo-targetctl doctor; setfacl -b /srv/cargo-target; chgrp root /srv/cargo-target; chmod 0755 /srv/cargo-target
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /srv/cargo-target (mode 0750) cannot be entered by alice, and 1 more: they do not reach their directories
    let everybody pass
    # chmod a+x /srv/cargo-target
1 problem.
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

# The file system.
$ mount -t tmpfs -o noexec,ro,size=8m,nr_inodes=100 small /srv/cargo-target; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: the file system of /srv/cargo-target is mounted read-only
    mount it rw, in /etc/fstab too
    # mount -o remount,rw "$(findmnt -no TARGET -T /srv/cargo-target)"
problem: the file system of /srv/cargo-target is mounted noexec: build scripts and tests cannot run
    mount it exec, in /etc/fstab too
    # mount -o remount,exec "$(findmnt -no TARGET -T /srv/cargo-target)"
problem: the file system of /srv/cargo-target has 8 MiB left
    see what takes it: du -xsh /srv/cargo-target/*
problem: the file system of /srv/cargo-target has 99 inodes left
    see what takes them: du -x --inodes -s /srv/cargo-target/*
advice: /srv/cargo-target (mode 1777) is sticky: anybody can take the name of a future user's directory
    let only root write it
    # chmod 0755 /srv/cargo-target
advice: alice has no directory yet
    the next login makes it
advice: bob has no directory yet
    the next login makes it
4 problems, 3 pieces of advice.
1 of them can be mended by cargo-targetctl doctor --fix.
[3]

$ umount /srv/cargo-target; mount --bind /srv/cargo-target /srv/cargo-target; mount -o remount,bind,noexec /srv/cargo-target; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: the file system of /srv/cargo-target is mounted noexec: build scripts and tests cannot run
    mount it exec, in /etc/fstab too
    # mount -o remount,exec "$(findmnt -no TARGET -T /srv/cargo-target)"
1 problem.
[3]

$ heal
problem mount-noexec
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ umount /srv/cargo-target; rm -r /srv/cargo-target/.staging; touch /srv/cargo-target/.staging; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /srv/cargo-target/.staging is not a directory of root's that nobody else can enter: no directory can be made
    move it away
    # mv -nT /srv/cargo-target/.staging /srv/cargo-target/.staging.old
1 problem.
[3]

$ heal
problem staging-unsafe
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ mkdir -m 0700 /srv/cargo-target/.staging; mount -t tmpfs -o mode=0700 staging /srv/cargo-target/.staging; cargo-targetctl doctor; cargo-targetctl init --yes
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /srv/cargo-target/.staging is a mount point: no directory can be made
    unmount it
    # umount /srv/cargo-target/.staging
1 problem.
refused: /srv/cargo-target/.staging is a mount point
    umount /srv/cargo-target/.staging
Nothing was changed.
[3]

$ heal
problem staging-unsafe
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

# What dead logins left, what is nobody's, an old shared cache.
$ mkdir -m 0700 /srv/cargo-target/.staging /srv/cargo-target/.staging/0123456789abcdef; cargo-targetctl doctor
mkdir: cannot create directory ‘/srv/cargo-target/.staging’: File exists
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: logins that died left 1 in /srv/cargo-target/.staging
    the next new directory sweeps it, and so does --fix
    # cargo-targetctl doctor --fix --yes
1 problem.
1 of them can be mended by cargo-targetctl doctor --fix.
[3]

$ heal
problem staging-litter, fixable
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

# A login that was stopped while it holds the lock.
$ mkdir -m 0700 /srv/cargo-target/.staging/0123456789abcdef; flock -s /srv/cargo-target/.staging sleep 100 & while flock -n /srv/cargo-target/.staging true; do sleep 0.05; done; cargo-targetctl doctor | sed -E 's/\([0-9]+\)/(PID)/'; kill $!; wait; rm -r /srv/cargo-target/.staging
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
advice: there are 1 in /srv/cargo-target/.staging, which flock (PID) keeps from being swept
    it is a login at work; if it stays, see why that process does not go on
No problem, 1 piece of advice.

# A root that is a file system of its own.
$ mkdir -m 0700 /srv/cargo-target/lost+found; cargo-targetctl doctor; rmdir /srv/cargo-target/lost+found
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ mkdir /srv/cargo-target/zoe /srv/cargo-target/debug; chown 2999 /srv/cargo-target/zoe; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /srv/cargo-target/debug is no user's directory; it belongs to root
    see whether anybody misses it, then move it out of there, or remove it
problem: /srv/cargo-target/zoe is no user's directory; it belongs to uid 2999, which is nobody's
    see whether anybody misses it, then move it out of there, or remove it
2 problems.
[3]

$ rm -r /srv/cargo-target/zoe /srv/cargo-target/debug; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

# Names are anybody's: nothing of them reaches the terminal as it is.
$ mkdir "$(printf '/srv/cargo-target/a\033[2J b')"; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /srv/cargo-target/a\u{1b}[2J b is no user's directory; it belongs to root
    see whether anybody misses it, then move it out of there, or remove it
1 problem.
[3]

$ rm -r /srv/cargo-target/a*b; mkdir $(printf '/srv/cargo-target/z\377'); cargo-targetctl doctor; rmdir /srv/cargo-target/z*
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /srv/cargo-target/z� is no user's directory; it belongs to root
    see whether anybody misses it, then move it out of there, or remove it
1 problem.

$ ln -s cargo-target /srv/link; cargo-targetctl doctor --root /srv/link -v
/srv/link leads to /srv/cargo-target
service sshd: /etc/pam.d/common-session:3: session optional pam_cargo_target.so
settings in force (/etc/security/cargo-target.conf and the pam.d line):
    root = /srv/cargo-target
    group = workspace
    skip = 
    min_uid = 1000
    name = %u
    mode = 0700
    export = CARGO_TARGET_DIR
    on_error = ignore
    timeout = 2
    debug = off
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ cargo-targetctl doctor --root /srv/link --json | grep root
  "as_root": true,
  "root": "/srv/cargo-target",
  "root_given": "/srv/link",
