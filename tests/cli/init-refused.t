$ cargo-targetctl init --root / --yes
refused: / is the whole system; give the shared root a directory of its own
Nothing was changed.
[3]

$ cargo-targetctl init --root /srv --yes; cargo-targetctl init --root /var/lib --yes; cargo-targetctl init --root /usr/local/share/x --yes
refused: /srv is the system's
    give the shared root a directory of its own, such as /srv/cargo-target
Nothing was changed.
refused: /var/lib is the system's
    give the shared root a directory of its own, such as /srv/cargo-target
Nothing was changed.
refused: /usr/local/share/x is the system's
    give the shared root a directory of its own, such as /srv/cargo-target
Nothing was changed.
[3]

$ cargo-targetctl init --root /home/alice --yes; cargo-targetctl init --root /home/alice/cache --yes
refused: /home/alice is, or contains, the home directory of alice: /home/alice
    give the shared root a directory of its own, such as /srv/cargo-target
Nothing was changed.
refused: /home/alice/cache lies in the home directory of alice: /home/alice
    give the shared root a directory of its own, such as /srv/cargo-target
Nothing was changed.
[3]

$ cargo-targetctl init --root srv --yes
cargo-targetctl: --root: `srv` is not an absolute path
[2]

$ cargo-targetctl init --root /srv/x --group nobodies --yes
refused: there is no group nobodies
    groupadd nobodies
    or the same command again with --create-group
Nothing was changed.
[3]

$ cargo-targetctl init --root /srv/x --group nobodies --json
{
  "changed": false,
  "changes": [],
  "command": "init",
  "exit": 3,
  "kept": [],
  "next": [],
  "refused": [
    {
      "reason": "there is no group nobodies",
      "remedy": [
        "groupadd nobodies",
        "or the same command again with --create-group"
      ]
    }
  ],
  "root": "/srv/x",
  "root_given": null,
  "schema": 1
}
[3]

$ cargo-targetctl init --root /srv/x --group a,b --yes
cargo-targetctl: --group takes one group
[2]

# An ancestor that others can write, or that is no directory, is not ours to mend.
$ mkdir -m 0777 /srv/open; cargo-targetctl init --root /srv/open/x --yes
refused: /srv/open (mode 0777) is writable by group or others without the sticky bit: they could replace another user's directory in it; run: chmod go-w /srv/open
Nothing was changed.
[3]

$ touch /srv/file; cargo-targetctl init --root /srv/file/x --yes; cargo-targetctl init --root /srv/file --yes
refused: /srv/file is not a directory; remove it, or set root to another path
Nothing was changed.
refused: /srv/file is not a directory; remove it, or set root to another path
Nothing was changed.
[3]

$ ln -s /nowhere /srv/dangling; cargo-targetctl init --root /srv/dangling --yes
cargo-targetctl: /srv/dangling leads nowhere: No such file or directory (os error 2)
[1]

# Somebody has taken the name of .staging.
$ mkdir -m 0755 /srv/y; mkdir -m 0777 /srv/y/.staging; cargo-targetctl init --root /srv/y --yes
refused: /srv/y/.staging is not a directory of root's that nobody else can enter
    rm -r --one-file-system /srv/y/.staging
Nothing was changed.
[3]

# A conf that says otherwise, or that has faults.
$ echo 'root = /srv/elsewhere' >/etc/security/cargo-target.conf; cargo-targetctl init --root /srv/x --yes
refused: /etc/security/cargo-target.conf names another root, /srv/elsewhere; if it is to be /srv/x, make its line:
    root = /srv/x
Nothing was changed.
[3]

$ printf 'root = /srv/x\ngroup = makers\n' >/etc/security/cargo-target.conf; cargo-targetctl init --root /srv/x --group workspace --yes
refused: /etc/security/cargo-target.conf names another group; if workspace is to be one, make its line:
    group = makers,workspace
Nothing was changed.
[3]

$ printf 'rot = /srv/x\nmin_uid = many\n' >/etc/security/cargo-target.conf; cargo-targetctl init --root /srv/x --yes
refused: /etc/security/cargo-target.conf has faults; mend them first
    /etc/security/cargo-target.conf:1: unknown key `rot`; did you mean `root`?
    /etc/security/cargo-target.conf:2: min_uid: `many` is not a number from 0 to 4294967294
Nothing was changed.
[3]

$ rm /etc/security/cargo-target.conf; setpriv --reuid=alice --regid=alice --clear-groups cargo-targetctl init --root /srv/x --yes
cargo-targetctl: init changes what is root's: run it as root, or with --dry-run
[1]

# Nothing was made.
$ ls -A /srv; ls /etc/security/cargo-target.conf; getent group nobodies
dangling
file
open
y
ls: cannot access '/etc/security/cargo-target.conf': No such file or directory
[2]

# Nor is one read that is no file.
$ mkfifo /etc/security/cargo-target.conf; cargo-targetctl init --root /srv/x --yes
refused: /etc/security/cargo-target.conf has faults; mend them first
    /etc/security/cargo-target.conf: is a FIFO, not a regular file
Nothing was changed.
[3]
