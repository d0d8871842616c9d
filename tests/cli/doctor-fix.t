$ cargo-targetctl init --root /srv/cargo-target --yes >/dev/null; heal >/dev/null; for user in alice bob; do cargo-targetctl try --user $user >/dev/null; done; cargo-targetctl doctor
No problem found.

$ chmod 0777 /srv/cargo-target; chmod 0600 $(dirname /lib/*/security/pam_permit.so)/pam_cargo_target.so; rm /srv/cargo-target/bob/CACHEDIR.TAG; echo 'CARGO_TARGET_DIR=/srv/old' >/etc/environment

$ cargo-targetctl doctor --fix </dev/null | sed -E 's#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#g'
cargo-targetctl: nothing was changed: there is no terminal to ask at; --yes answers beforehand
To do:
    set the mode of /srv/cargo-target to 0755 (it is 0777)
    give /usr/lib/ARCH/security/pam_cargo_target.so to root:root, mode 0644
[2]

$ cargo-targetctl doctor --fix --yes | sed -E 's#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#g'
To do:
    set the mode of /srv/cargo-target to 0755 (it is 0777)
    give /usr/lib/ARCH/security/pam_cargo_target.so to root:root, mode 0644
Done.
problem: /srv/cargo-target/bob has no CACHEDIR.TAG: backups take it along, and cargo 1.97 does not clean it
    the next login puts it back, and so does --fix
    # cargo-targetctl doctor --fix --yes
problem: /etc/environment:1 sets CARGO_TARGET_DIR: for sessions by ssh it wins over the module
    take the line out
    # sed -i '1d' /etc/environment
2 problems.
1 of them can be mended by cargo-targetctl doctor --fix.
[3]

$ rmdir /srv/cargo-target/.staging; mkdir -m 0700 /srv/cargo-target/.staging /srv/cargo-target/.staging/0123456789abcdef; cargo-targetctl doctor --fix --yes --json | sed -E 's#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#g'
{
  "advice": 0,
  "as_root": true,
  "command": "doctor",
  "exit": 3,
  "findings": [
    {
      "commands": [
        "sed -i '1d' /etc/environment"
      ],
      "fixable": false,
      "gravity": "problem",
      "id": "overridden",
      "remedy": "take the line out",
      "text": "/etc/environment:1 sets CARGO_TARGET_DIR: for sessions by ssh it wins over the module"
    }
  ],
  "fixed": [
    "sweep .staging",
    "put the CACHEDIR.TAG of bob back"
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
