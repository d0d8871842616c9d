$ cargo-targetctl init --root /srv/cargo-target --yes >/dev/null; heal >/dev/null; for user in alice bob; do cargo-targetctl try --user $user >/dev/null; done; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ chmod 0777 /srv/cargo-target; chmod 0600 $(dirname /lib/*/security/pam_permit.so)/pam_cargo_target.so; rm /srv/cargo-target/bob/CACHEDIR.TAG; echo 'CARGO_TARGET_DIR=/srv/old' >/etc/environment

$ cargo-targetctl doctor --fix </dev/null | sed -E 's#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#g'
cargo-targetctl: nothing was changed: there is no terminal to ask at; --yes answers beforehand
To do:
    set the mode of /srv/cargo-target to 0755 (it is 0777)
    set the mode of /usr/lib/ARCH/security/pam_cargo_target.so to 0644
[2]

$ cargo-targetctl doctor --fix --yes | sed -E 's#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#g'
To do:
    set the mode of /srv/cargo-target to 0755 (it is 0777)
    set the mode of /usr/lib/ARCH/security/pam_cargo_target.so to 0644
Done.
To do:
    put the CACHEDIR.TAG of bob back
Done.
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /etc/environment:1 sets CARGO_TARGET_DIR: for sessions by ssh it wins over the module
    take it out of that line, with sudoedit /etc/environment
1 problem.
[3]

$ rmdir /srv/cargo-target/.staging; mkdir -m 0700 /srv/cargo-target/.staging /srv/cargo-target/.staging/0123456789abcdef; cargo-targetctl doctor --fix --yes --json | sed -E 's#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#g'
{
  "advice": 0,
  "as_root": true,
  "command": "doctor",
  "exit": 3,
  "findings": [
    {
      "commands": [],
      "fixable": false,
      "gravity": "problem",
      "id": "overridden",
      "remedy": "take it out of that line, with sudoedit /etc/environment",
      "text": "/etc/environment:1 sets CARGO_TARGET_DIR: for sessions by ssh it wins over the module"
    }
  ],
  "fixed": [
    "sweep /srv/cargo-target/.staging"
  ],
  "homes_left_alone": [],
  "lines": [
    {
      "line": "/etc/pam.d/common-session:3: session optional pam_cargo_target.so",
      "services": [
        "login",
        "sshd",
        "su",
        "su-l",
        "sudo-i"
      ]
    },
    {
      "line": "/etc/pam.d/common-session-noninteractive:3: session optional pam_cargo_target.so",
      "services": [
        "cron",
        "sudo"
      ]
    }
  ],
  "problems": 1,
  "root": "/srv/cargo-target",
  "root_given": null,
  "schema": 1
}
[3]

$ stat -c '%A %U:%G %n' /srv/cargo-target /srv/cargo-target/.staging /srv/cargo-target/bob/CACHEDIR.TAG; ls /srv/cargo-target/.staging; cat /etc/environment
drwxr-xr-x root:root /srv/cargo-target
drwx------ root:root /srv/cargo-target/.staging
-rw-r--r-- bob:bob /srv/cargo-target/bob/CACHEDIR.TAG
CARGO_TARGET_DIR=/srv/old

$ setpriv --reuid=alice --regid=alice --init-groups cargo-targetctl doctor --fix --yes
cargo-targetctl: --fix changes what is root's: run it as root
[1]

# What is mended may show what lay behind it: it goes on until there is nothing left that it can mend.
$ : >/etc/environment; chown alice /srv/cargo-target; chmod 0777 /srv/cargo-target; rm /srv/cargo-target/alice/CACHEDIR.TAG; cargo-targetctl doctor --fix --yes; stat -c '%A %U:%G %n' /srv/cargo-target /srv/cargo-target/alice/CACHEDIR.TAG
To do:
    give /srv/cargo-target to root:root (it is 2001:0)
Done.
To do:
    set the mode of /srv/cargo-target to 0755 (it is 0777)
Done.
To do:
    put the CACHEDIR.TAG of alice back
Done.
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.
drwxr-xr-x root:root /srv/cargo-target
-rw-r--r-- alice:alice /srv/cargo-target/alice/CACHEDIR.TAG
