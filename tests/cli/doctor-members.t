$ cargo-targetctl init --root /srv/cargo-target --yes >/dev/null; heal >/dev/null; for user in alice bob; do cargo-targetctl try --user $user >/dev/null; done; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ mv /srv/cargo-target/alice /srv/alice; cargo-targetctl doctor; echo exit $?
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
advice: alice has no directory yet
    the next login makes it
No problem, 1 piece of advice.
exit 0

$ mv /srv/alice /srv/cargo-target/alice; chown carol /srv/cargo-target/alice; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: alice gets nothing: /srv/cargo-target/alice belongs to uid 2003, not to uid 2001: whoever owns it could plant build scripts
    look into it, then move it away
    # mv -nT /srv/cargo-target/alice /srv/cargo-target/.alice.old
1 problem.
[3]

$ heal
problem member-refused
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
advice: alice has no directory yet
    the next login makes it
No problem, 1 piece of advice.

$ rm -r /srv/cargo-target/.alice.old; cargo-targetctl try --user alice | grep directory; chmod 0770 /srv/cargo-target/alice; cargo-targetctl doctor
directory    /srv/cargo-target/alice: uid 2001, gid 2001, mode 0700, CACHEDIR.TAG
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: alice gets nothing: /srv/cargo-target/alice (mode 0770) is writable by group or others, who could plant build scripts
    look into it, then run
    # setfacl -b /srv/cargo-target/alice; chmod go-w /srv/cargo-target/alice
1 problem.
[3]

$ heal
problem member-refused
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ setfacl -m u:bob:rx -d -m u:bob:rwx /srv/cargo-target/alice; rm /srv/cargo-target/alice/CACHEDIR.TAG; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /srv/cargo-target/alice has no CACHEDIR.TAG: backups take it along, and cargo 1.97 does not clean it
    the next login puts it back, and so does --fix
    # cargo-targetctl doctor --fix --yes
problem: /srv/cargo-target/alice has ACLs, which let others in or pass on to what is built
    drop them
    # setfacl -b /srv/cargo-target/alice
2 problems.
1 of them can be mended by cargo-targetctl doctor --fix.
[3]

$ heal
problem no-tag, fixable
problem directory-acl
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

# sudo cargo was here.
$ mkdir -p /srv/cargo-target/alice/debug/deps; touch /srv/cargo-target/alice/debug/deps/a /srv/cargo-target/alice/debug/b; chown -R alice /srv/cargo-target/alice/debug; touch /srv/cargo-target/alice/debug/deps/x /srv/cargo-target/alice/debug/y; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: in /srv/cargo-target/alice are files of others, as `sudo cargo` leaves them: debug/deps/x, and 1 more (of 7 looked at)
    see what they are, then remove them; cargo builds them anew
    # find /srv/cargo-target/alice -xdev ! -uid 2001
1 problem.
[3]

$ heal; find /srv/cargo-target/alice -xdev ! -uid 2001 -delete; cargo-targetctl doctor; find /srv/cargo-target/alice -type f | sort
problem foreign-files
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: in /srv/cargo-target/alice are files of others, as `sudo cargo` leaves them: debug/deps/x, and 1 more (of 7 looked at)
    see what they are, then remove them; cargo builds them anew
    # find /srv/cargo-target/alice -xdev ! -uid 2001
1 problem.
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.
/srv/cargo-target/alice/CACHEDIR.TAG
/srv/cargo-target/alice/debug/b
/srv/cargo-target/alice/debug/deps/a

$ echo 'min_uid = 3000' >>/etc/security/cargo-target.conf; cargo-targetctl doctor; sed -i '$d' /etc/security/cargo-target.conf
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
advice: alice is a member, and gets nothing: uid 2001 is below min_uid 3000 (UID_MIN of /etc/login.defs is 1000)
    take the user out of the group, or lower min_uid
advice: bob is a member, and gets nothing: uid 2002 is below min_uid 3000 (UID_MIN of /etc/login.defs is 1000)
    take the user out of the group, or lower min_uid
No problem, 2 pieces of advice.

# A service account in the group, a member whom nobody knows, no member, no group.
$ gpasswd -a daemon workspace >/dev/null; cargo-targetctl doctor; echo exit $?
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
advice: daemon is a member, and gets nothing: uid 1 is below min_uid 1000
    take the user out of the group, or lower min_uid
No problem, 1 piece of advice.
exit 0

$ gpasswd -d daemon workspace >/dev/null; sed -i '/^workspace/s/$/,ghost/' /etc/group; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: ghost is a member, but there is no such user
    take the name out of the group: whoever gets it one day is a member
1 problem.
[3]

$ sed -i 's/^workspace.*/workspace:x:4000:/' /etc/group; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: nobody is a member of workspace
    add the developers
    # gpasswd -a USER workspace
1 problem.
[3]

$ sed -i '/^workspace/d' /etc/group; cargo-targetctl doctor | grep -A 2 'no group'
problem: there is no group workspace
    create it, and add the developers
    # groupadd workspace
[3]

$ heal
problem no-group
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: nobody is a member of workspace
    add the developers
    # gpasswd -a USER workspace
1 problem.
[3]
