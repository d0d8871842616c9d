# A root that is not there, with a parent that is not there either; umask and directory say nothing.
$ cargo-targetctl init
cargo-targetctl: init needs --root PATH: no root is configured yet
[2]

$ cargo-targetctl init --root /srv/team/cargo-target --dry-run
Would:
    make /srv/team, root:root 0755
    make /srv/team/cargo-target, root:root 0755
    make /srv/team/cargo-target/.staging, root:root 0700
    write /etc/security/cargo-target.conf: root = /srv/team/cargo-target
Next:
    see which lines PAM lacks: cargo-targetctl doctor
    see what a login would get: cargo-targetctl check

$ ls -A /srv

$ cargo-targetctl init --root /srv/team/cargo-target </dev/null
To do:
    make /srv/team, root:root 0755
    make /srv/team/cargo-target, root:root 0755
    make /srv/team/cargo-target/.staging, root:root 0700
    write /etc/security/cargo-target.conf: root = /srv/team/cargo-target
cargo-targetctl: nothing was changed: there is no terminal to ask at; --yes answers beforehand
[2]

$ ls -A /srv

$ umask 077; cargo-targetctl init --root /srv/team/cargo-target --yes
To do:
    make /srv/team, root:root 0755
    make /srv/team/cargo-target, root:root 0755
    make /srv/team/cargo-target/.staging, root:root 0700
    write /etc/security/cargo-target.conf: root = /srv/team/cargo-target
Done.
Next:
    see which lines PAM lacks: cargo-targetctl doctor
    see what a login would get: cargo-targetctl check

$ stat -c '%A %U:%G %n' /srv/team /srv/team/cargo-target /srv/team/cargo-target/.staging /etc/security/cargo-target.conf
drwxr-xr-x root:root /srv/team
drwxr-xr-x root:root /srv/team/cargo-target
drwx------ root:root /srv/team/cargo-target/.staging
-rw-r--r-- root:root /etc/security/cargo-target.conf

$ grep '^[^#]' /etc/security/cargo-target.conf
root = /srv/team/cargo-target

# The second time there is nothing to do, so nothing is asked.
$ cargo-targetctl init --root /srv/team/cargo-target </dev/null
/srv/team/cargo-target is in order; there is nothing to change.
Next:
    see which lines PAM lacks: cargo-targetctl doctor
    see what a login would get: cargo-targetctl check

$ cargo-targetctl init </dev/null
/srv/team/cargo-target is in order; there is nothing to change.
Next:
    see which lines PAM lacks: cargo-targetctl doctor
    see what a login would get: cargo-targetctl check

$ cargo-targetctl --json init </dev/null
{
  "changed": false,
  "changes": [],
  "command": "init",
  "exit": 0,
  "kept": [],
  "next": [
    "see which lines PAM lacks: cargo-targetctl doctor",
    "see what a login would get: cargo-targetctl check"
  ],
  "refused": [],
  "root": "/srv/team/cargo-target",
  "root_given": null,
  "schema": 1
}

# As JSON, with a group that must be made, and the conf in another place; global flags may stand anywhere.
$ cargo-targetctl init --root /srv/other --group makers --create-group --conf /etc/other.conf --json --dry-run
{
  "changed": false,
  "changes": [
    {
      "change": "create-group",
      "text": "create the group makers"
    },
    {
      "change": "make-directory",
      "text": "make /srv/other, root:root 0755"
    },
    {
      "change": "make-staging",
      "text": "make /srv/other/.staging, root:root 0700"
    },
    {
      "change": "write-conf",
      "text": "write /etc/other.conf: root = /srv/other; group = makers"
    }
  ],
  "command": "init",
  "exit": 0,
  "kept": [],
  "next": [
    "add the developers to the group: gpasswd -a USER makers",
    "name the file on the module's lines in /etc/pam.d: conf=/etc/other.conf",
    "see which lines PAM lacks: cargo-targetctl doctor",
    "see what a login would get: cargo-targetctl check"
  ],
  "refused": [],
  "root": "/srv/other",
  "root_given": null,
  "schema": 1
}

$ cargo-targetctl --conf /etc/other.conf --root /srv/other init --group makers --create-group --yes
To do:
    create the group makers
    make /srv/other, root:root 0755
    make /srv/other/.staging, root:root 0700
    write /etc/other.conf: root = /srv/other; group = makers
Done.
Next:
    add the developers to the group: gpasswd -a USER makers
    name the file on the module's lines in /etc/pam.d: conf=/etc/other.conf
    see which lines PAM lacks: cargo-targetctl doctor
    see what a login would get: cargo-targetctl check

$ getent group makers | cut -d: -f1; grep '^[^#]' /etc/other.conf
makers
root = /srv/other
group = makers

# A conf as it is shipped, all comments, is completed and not replaced.
$ rm -r /srv/team /etc/other.conf; cp -p /etc/security/cargo-target.conf /tmp/conf; sed 's/^root/#root/' /tmp/conf >/etc/security/cargo-target.conf

$ cargo-targetctl init --root /srv/team/cargo-target --yes
To do:
    make /srv/team, root:root 0755
    make /srv/team/cargo-target, root:root 0755
    make /srv/team/cargo-target/.staging, root:root 0700
    write /etc/security/cargo-target.conf: root = /srv/team/cargo-target
Done.
Next:
    see which lines PAM lacks: cargo-targetctl doctor
    see what a login would get: cargo-targetctl check

$ diff /tmp/conf /etc/security/cargo-target.conf && stat -c %A /etc/security/cargo-target.conf
-rw-r--r--

# One that has settings is the administrator's: the line is shown.
$ echo 'mode = 0750' >/etc/security/cargo-target.conf; cargo-targetctl init --root /srv/team/cargo-target
/srv/team/cargo-target is in order; there is nothing to change.
Next:
    add to /etc/security/cargo-target.conf: root = /srv/team/cargo-target
    see which lines PAM lacks: cargo-targetctl doctor
    see what a login would get: cargo-targetctl check

$ cat /etc/security/cargo-target.conf
mode = 0750

# At a terminal it asks.
$ printf 'n\n' | script -E never -qec 'cargo-targetctl init --root /srv/asked --color never' /dev/null | tr -d '\r'; ls -d /srv/asked
To do:
    make /srv/asked, root:root 0755
    make /srv/asked/.staging, root:root 0700
Go on? [y/N] Nothing was changed.
ls: cannot access '/srv/asked': No such file or directory
[2]

$ rm /etc/security/cargo-target.conf; printf 'y\n' | script -E never -qec 'cargo-targetctl init --root /srv/asked --color never' /dev/null | tr -d '\r'; ls -d /srv/asked
To do:
    make /srv/asked, root:root 0755
    make /srv/asked/.staging, root:root 0700
    write /etc/security/cargo-target.conf: root = /srv/asked
Go on? [y/N] Done.
Next:
    see which lines PAM lacks: cargo-targetctl doctor
    see what a login would get: cargo-targetctl check
/srv/asked
