# The old way: group-writable with setgid and a default ACL, behind a symbolic link.
$ mkdir -p /srv/shared && chgrp workspace /srv/shared && chmod 2775 /srv/shared && setfacl -d -m g:workspace:rwx /srv/shared && ln -s shared /srv/link

$ install -d -o alice -g alice -m 0700 /srv/shared/alice; install -d -o alice -g alice -m 0777 /srv/shared/bob

$ cargo-targetctl init --root /srv/link --dry-run
/srv/link leads to /srv/shared
Would:
    give /srv/shared to root:root (it is 0:4000)
    drop the ACLs of /srv/shared
    set the mode of /srv/shared to 0755 (it is 2775)
    make /srv/shared/.staging, root:root 0700
    write /etc/security/cargo-target.conf: root = /srv/shared
Next:
    see which lines PAM lacks: cargo-targetctl doctor
    see what a login would get: cargo-targetctl check

$ stat -c '%A %U:%G' /srv/shared; grep '^[^#]' /etc/security/cargo-target.conf
drwxrwsr-x root:workspace
grep: /etc/security/cargo-target.conf: No such file or directory
[2]

$ cargo-targetctl init --root /srv/link --yes
/srv/link leads to /srv/shared
To do:
    give /srv/shared to root:root (it is 0:4000)
    drop the ACLs of /srv/shared
    set the mode of /srv/shared to 0755 (it is 2775)
    make /srv/shared/.staging, root:root 0700
    write /etc/security/cargo-target.conf: root = /srv/shared
Done.
1 member's directory is there and in order.
bob: /srv/shared/bob belongs to uid 2001, not to uid 2002: whoever owns it could plant build scripts; look into it, then move it away: mv -nT /srv/shared/bob /srv/shared/.bob.old
Next:
    see which lines PAM lacks: cargo-targetctl doctor
    see what a login would get: cargo-targetctl check

$ stat -c '%A %U:%G %n' /srv/shared /srv/shared/*; getfacl -cp /srv/shared; grep '^[^#]' /etc/security/cargo-target.conf
drwxr-xr-x root:root /srv/shared
drwx--S--- alice:alice /srv/shared/alice
drwxrwsrwx alice:alice /srv/shared/bob
user::rwx
group::r-x
other::r-x

root = /srv/shared

$ cargo-targetctl init --root /srv/link --json </dev/null
{
  "changed": false,
  "changes": [],
  "command": "init",
  "exit": 0,
  "kept": [
    {
      "decision": "provision",
      "directory": "/srv/shared/alice",
      "reason": "a member",
      "user": "alice"
    },
    {
      "decision": "refuse",
      "directory": "/srv/shared/bob",
      "reason": "/srv/shared/bob belongs to uid 2001, not to uid 2002: whoever owns it could plant build scripts; look into it, then move it away: mv -nT /srv/shared/bob /srv/shared/.bob.old",
      "user": "bob"
    }
  ],
  "next": [
    "see which lines PAM lacks: cargo-targetctl doctor",
    "see what a login would get: cargo-targetctl check"
  ],
  "refused": [],
  "root": "/srv/shared",
  "root_given": "/srv/link",
  "schema": 1
}

# An owner that is not root, a sticky bit.
$ chown alice /srv/shared; chmod 1777 /srv/shared; cargo-targetctl init --yes | grep -v cargo-targetctl
To do:
    give /srv/shared to root:root (it is 2001:0)
    set the mode of /srv/shared to 0755 (it is 1777)
Done.
1 member's directory is there and in order.
bob: /srv/shared/bob belongs to uid 2001, not to uid 2002: whoever owns it could plant build scripts; look into it, then move it away: mv -nT /srv/shared/bob /srv/shared/.bob.old
Next:

$ stat -c '%A %U:%G' /srv/shared
drwxr-xr-x root:root

# A team's own target directory, with what cargo laid there, may become the root; and so may a disk of its own.
$ rm /etc/security/cargo-target.conf; mkdir -p /srv/team/debug /srv/team/x86_64-unknown-linux-gnu /srv/team/carol; touch /srv/team/CACHEDIR.TAG /srv/team/.rustc_info.json; cargo-targetctl init --root /srv/team --yes | head -n 3
To do:
    make /srv/team/.staging, root:root 0700
    write /etc/security/cargo-target.conf: root = /srv/team

$ rm /etc/security/cargo-target.conf; mkdir -p -m 0755 /srv/disk/lost+found /srv/disk/.hidden /srv/disk/alice; cargo-targetctl init --root /srv/disk --yes | head -n 3
To do:
    make /srv/disk/.staging, root:root 0700
    write /etc/security/cargo-target.conf: root = /srv/disk
