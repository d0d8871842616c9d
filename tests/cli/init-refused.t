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
    mv -nT /srv/y/.staging /srv/y/.staging.old
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

# By another path, too: a symbolic link, a bind mount.
$ rm /etc/security/cargo-target.conf; mkdir /data; mv /home/alice /home/bob /data; ln -s data /homes; sed -i -E '/^(alice|bob):/s,/home/,/homes/,' /etc/passwd; cargo-targetctl init --root /data --yes; cargo-targetctl init --root /data/alice/cache --yes
refused: /data is, or contains, the home directory of alice: /homes/alice
    give the shared root a directory of its own, such as /srv/cargo-target
Nothing was changed.
refused: /data/alice belongs to uid 2001, who could replace what is in it; run: chown -h root /data/alice
Nothing was changed.
[3]

$ mkdir /srv/bound; mount --bind /data /srv/bound; cargo-targetctl init --root /srv/bound --yes; cargo-targetctl init --root /srv/bound/bob --yes; umount /srv/bound; rmdir /srv/bound
refused: /srv/bound is, or contains, the home directory of alice: /homes/alice
    give the shared root a directory of its own, such as /srv/cargo-target
Nothing was changed.
refused: /srv/bound/bob is, or contains, the home directory of bob: /homes/bob
    give the shared root a directory of its own, such as /srv/cargo-target
Nothing was changed.

# What is something else already, however deep it lies.
$ for directory in /var/spool/cron/crontabs /var/log/apt /var/lib/dpkg /var/lib/private/x /snap/x; do cargo-targetctl init --root $directory --dry-run; done
refused: /var/spool/cron/crontabs is the system's
    give the shared root a directory of its own, such as /srv/cargo-target
Nothing was changed.
refused: /var/log/apt is the system's
    give the shared root a directory of its own, such as /srv/cargo-target
Nothing was changed.
refused: /var/lib/dpkg is the system's
    give the shared root a directory of its own, such as /srv/cargo-target
Nothing was changed.
refused: /var/lib/private/x is the system's
    give the shared root a directory of its own, such as /srv/cargo-target
Nothing was changed.
refused: /snap/x is the system's
    give the shared root a directory of its own, such as /srv/cargo-target
Nothing was changed.
[3]

$ mkdir /srv/web; touch /srv/web/index.html; mkdir /srv/web/cgi /srv/web/alice; cargo-targetctl init --root /srv/web --yes; rm -r /srv/web
refused: /srv/web is in use for something else: it holds cgi and 1 more, no user's directory
    give the shared root a directory of its own, such as /srv/cargo-target
    or, if it is to be the root all the same, say so in /etc/security/cargo-target.conf first: root = /srv/web
Nothing was changed.

$ install -d -o mail /srv/mail; cargo-targetctl init --root /srv/mail --yes; rmdir /srv/mail
refused: /srv/mail belongs to mail, a system user, who needs it
    give the shared root a directory of its own, such as /srv/cargo-target
    or, if it is to be the root all the same, say so in /etc/security/cargo-target.conf first: root = /srv/mail
Nothing was changed.

$ ln -s web /srv/link; mkdir /srv/web; cargo-targetctl init --root /srv/link --group nobodies --json | grep root; rm -r /srv/web /srv/link
  "root": "/srv/web",
  "root_given": "/srv/link",

# A conf that cannot be written: nothing is half done.
$ cargo-targetctl --conf /proc/x.conf init --root /srv/c --group new --create-group --yes; cargo-targetctl --conf /etc/nowhere/x.conf init --root /srv/c --yes; ls -d /srv/c; getent group new
refused: /proc/x.conf cannot be written: No such file or directory (os error 2)
    see that its directory is there and can be written, or name another file with --conf
Nothing was changed.
refused: /etc/nowhere/x.conf cannot be written: No such file or directory (os error 2)
    see that its directory is there and can be written, or name another file with --conf
Nothing was changed.
ls: cannot access '/srv/c': No such file or directory
[2]
