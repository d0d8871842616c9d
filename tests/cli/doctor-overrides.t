$ cargo-targetctl init --root /srv/cargo-target --yes >/dev/null; heal >/dev/null; for user in alice bob; do cargo-targetctl try --user $user >/dev/null; done; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ echo 'CARGO_TARGET_DIR=/srv/old' >/etc/environment; echo 'CARGO_TARGET_DIR DEFAULT=/srv/old' >>/etc/security/pam_env.conf; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /etc/environment:1 sets CARGO_TARGET_DIR: for sessions by ssh it wins over the module
    take it out of that line, with sudoedit /etc/environment
problem: /etc/security/pam_env.conf:2 sets CARGO_TARGET_DIR: where pam_env stands after the module, it wins
    take it out of that line, with sudoedit /etc/security/pam_env.conf
2 problems.
[3]

$ : >/etc/environment; sed -i '$d' /etc/security/pam_env.conf; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ printf '# a cache for all\nexport CARGO_TARGET_DIR=/srv/old/$USER\necho "$CARGO_TARGET_DIR"\n' >/etc/profile.d/cargo.sh; mkdir -p /etc/environment.d; echo 'CARGO_TARGET_DIR=/srv/old' >/etc/environment.d/cargo.conf; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /etc/profile.d/cargo.sh:2 sets CARGO_TARGET_DIR: login shells take it instead
    take it out of that line, with sudoedit /etc/profile.d/cargo.sh
problem: /etc/environment.d/cargo.conf:1 sets CARGO_TARGET_DIR: users' services take it instead
    take it out of that line, with sudoedit /etc/environment.d/cargo.conf
2 problems.
[3]

$ rm /etc/profile.d/cargo.sh /etc/environment.d/cargo.conf; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ printf 'SetEnv A=b CARGO_TARGET_DIR=/srv/old\nAcceptEnv LANG CARGO_*\n' >/etc/ssh/sshd_config.d/cargo.conf; echo 'Defaults env_keep += "CARGO_TARGET_DIR"' >/etc/sudoers.d/cargo; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /etc/ssh/sshd_config.d/cargo.conf:1 sets CARGO_TARGET_DIR: sessions by ssh take it instead, restart sshd when it is out
    take the word out of that line, with sudoedit /etc/ssh/sshd_config.d/cargo.conf; then sshd -t, and restart sshd
problem: /etc/ssh/sshd_config.d/cargo.conf:2 takes CARGO_TARGET_DIR from ssh's clients: whoever gets none from the module keeps theirs
    take the word out of that line, with sudoedit /etc/ssh/sshd_config.d/cargo.conf; then sshd -t, and restart sshd
problem: /etc/sudoers.d/cargo:1 lets sudo keep CARGO_TARGET_DIR: root then builds in the caller's directory, and leaves files there
    take the word out of that line, with visudo -f /etc/sudoers.d/cargo
3 problems.
[3]

$ rm /etc/ssh/sshd_config.d/cargo.conf /etc/sudoers.d/cargo; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ echo 'CARGO_TARGET_DIR=/srv/old' >/etc/cron.d/cargo; printf 'CARGO_TARGET_DIR=/srv/old\n' >/var/spool/cron/crontabs/alice; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /etc/cron.d/cargo:1 sets CARGO_TARGET_DIR: its jobs take it instead
    take it out of that line, with sudoedit /etc/cron.d/cargo
problem: /var/spool/cron/crontabs/alice:1 sets CARGO_TARGET_DIR: its jobs take it instead
    take it out of that line, with crontab -u alice -e
2 problems.
[3]

$ rm /etc/cron.d/cargo /var/spool/cron/crontabs/alice; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ echo 'export CARGO_TARGET_DIR=~/target' >>/home/alice/.bashrc; mkdir -p /home/alice/.cargo; printf '[build]\ntarget-dir = "/srv/old"\n' >/home/alice/.cargo/config.toml; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /home/alice/.bashrc:1 sets CARGO_TARGET_DIR: that user's shells or services take it instead
    let alice take it out of that line
problem: /home/alice/.cargo/config.toml:2 sets target-dir, which CARGO_TARGET_DIR overrides
    let alice take that line out, so that nobody wonders
2 problems.
[3]

$ rm -r /home/alice/.bashrc /home/alice/.cargo; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

# A user's file may be anything.
$ mkfifo /home/alice/.profile; ln -s /etc/shadow /home/alice/.zshrc; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

# A process that was there before.
$ cp /bin/sleep /tmp/tmux; CARGO_TARGET_DIR=/srv/old setpriv --reuid=alice --regid=alice --init-groups /tmp/tmux 300 & a=$!; CARGO_TARGET_DIR=/srv/cargo-target/bob setpriv --reuid=bob --regid=bob --init-groups sleep 300 & b=$!; until grep -qx tmux /proc/$a/comm && grep -qx sleep /proc/$b/comm; do sleep 0.05; done; cargo-targetctl doctor | sed -E "s/\\([0-9]+\\)/(PID)/"; kill $a; { wait $a; } 2>/dev/null; cargo-targetctl doctor; kill $b
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: tmux of alice (PID) still has CARGO_TARGET_DIR=/srv/old
    tmux kill-server, as that user, once the work in it is saved
1 problem.
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

# Those that were there before the user was a member have none, and hand on none; other programs may do without.
$ cp /bin/sleep /tmp/systemd; for program in /tmp/systemd /tmp/tmux sleep; do setpriv --reuid=bob --regid=bob --init-groups env -u CARGO_TARGET_DIR $program 300 & done; until grep -qsx systemd /proc/[0-9]*/comm && grep -qsx tmux /proc/[0-9]*/comm; do sleep 0.05; done; cargo-targetctl doctor | sed -E "s/\\([0-9]+\\)/(PID)/; s/kill [0-9]+/kill PID/"; kill $(jobs -p); wait 2>/dev/null; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: systemd's user manager of bob (PID) has no CARGO_TARGET_DIR, nor has what it starts: it has run since before a login set it
    restart it, once that user's services may stop; sessions stay open
    # systemctl restart user@2002.service
problem: tmux of bob (PID) has no CARGO_TARGET_DIR, nor has what it starts: it has run since before a login set it
    tmux kill-server, as that user, once the work in it is saved
2 problems.
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

# Two checkouts of one workspace; then the pair of exports, beside a cargo that is too old for it.
$ for place in one two/deep; do mkdir -p /home/bob/$place; printf '[package]\nname = "engine"\n' >/home/bob/$place/Cargo.toml; done; cargo-targetctl doctor; echo exit $?
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
advice: /home/bob/one and /home/bob/two/deep look like checkouts of one workspace, engine: in one target directory cargo takes the one's artefacts for the other's, and runs what was built from the wrong sources
    with cargo 1.91 or newer everywhere, add to /etc/security/cargo-target.conf: export = CARGO_TARGET_DIR and export = CARGO_BUILD_BUILD_DIR:build/{workspace-path-hash}
No problem, 1 piece of advice.
exit 0

$ printf 'export = CARGO_TARGET_DIR\nexport = CARGO_BUILD_BUILD_DIR:build/{workspace-path-hash}\n' >>/etc/security/cargo-target.conf; rm -f /usr/bin/cargo /usr/local/bin/cargo; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ printf '#!/bin/sh\necho cargo 1.65.0\n' >/usr/bin/cargo; chmod 0755 /usr/bin/cargo; cargo-targetctl doctor; echo exit $?
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
advice: /usr/bin/cargo is 1.65 and ignores CARGO_BUILD_BUILD_DIR, which is exported
    use cargo 1.91 or newer, or do without the export
No problem, 1 piece of advice.
exit 0
