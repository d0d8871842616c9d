# A team's shared directory: bob's and alice's, writable by the group.
$ install -d -m 0755 /srv/cargo-target; echo 'root = /srv/cargo-target' >/etc/security/cargo-target.conf

$ mkdir -p /srv/shared/debug/{deps,.fingerprint,build/x/out}; cd /srv/shared; touch .rustc_info.json debug/.cargo-lock; echo a >debug/deps/a; ln debug/deps/a debug/a; ln -s /srv/shared/debug/a debug/link; echo cargo:root=/srv/shared/debug/build/y/out >debug/build/x/output; touch debug/build/x/root-output; chown -R bob:workspace .; chown alice debug/a; chmod -R g+w .; find . -print0 | xargs -0 touch -hd @1700000000

# Refusals, each before anything changes.
$ cargo-targetctl migrate --from /srv/absent --to-user alice
cargo-targetctl: refused: /srv/absent does not exist
cargo-targetctl: nothing was changed
[3]

$ cargo-targetctl migrate --from /home --to-user alice
cargo-targetctl: refused: /home is the system's
cargo-targetctl: nothing was changed
[3]

$ cargo-targetctl migrate --from /srv --to-user alice
cargo-targetctl: refused: /srv is the system's
cargo-targetctl: nothing was changed
[3]

$ cargo-targetctl migrate --from /home/alice --to-user alice
cargo-targetctl: refused: /home/alice is, or contains, the home directory of alice: /home/alice
cargo-targetctl: nothing was changed
[3]

$ cargo-targetctl migrate --from /etc/security --to-user alice
cargo-targetctl: refused: /etc/security is the system's
cargo-targetctl: nothing was changed
[3]

$ mkdir /srv/other; cargo-targetctl migrate --from /srv/other --to-user alice
cargo-targetctl: refused: /srv/other does not look like a target directory (no .rustc_info.json, no valid CACHEDIR.TAG, no profile); if it is one, add --force
cargo-targetctl: nothing was changed
[3]

$ ln -s shared /srv/link; cargo-targetctl migrate --from /srv/link --to-user alice
cargo-targetctl: refused: /srv/link is a symbolic link to shared; name the directory itself
cargo-targetctl: nothing was changed
[3]

$ cargo-targetctl migrate --from /srv/shared --to-user carol
cargo-targetctl: refused: no login of carol gets a directory: in none of the configured groups
cargo-targetctl: nothing was changed
[3]

$ cargo-targetctl migrate --from /srv/shared --to-user root
cargo-targetctl: refused: no login of root gets a directory: root has no cache of its own
cargo-targetctl: nothing was changed
[3]

$ cargo-targetctl migrate --from /srv/shared --to-user nobody-knows
cargo-targetctl: refused: no login of nobody-knows gets a directory: there is no user nobody-knows
cargo-targetctl: nothing was changed
[3]

$ cargo-targetctl migrate --from /srv/shared --to-user alice </dev/null >/dev/null
cargo-targetctl: nothing was changed: there is no terminal to ask at; --yes answers beforehand
[2]

$ setpriv --reuid=alice --regid=alice --clear-groups cargo-targetctl migrate --from /srv/shared --to-user alice
cargo-targetctl: migrate takes over what others wrote: run it as root
[1]

$ mkfifo /srv/shared/debug/fifo; cargo-targetctl migrate --from /srv/shared --to-user alice --yes; rm /srv/shared/debug/fifo
cargo-targetctl: refused: devices, FIFOs and sockets are no part of a build; remove them, or move them away: debug/fifo
cargo-targetctl: nothing was changed

$ mount -t tmpfs none /srv/shared/debug/deps; cargo-targetctl migrate --from /srv/shared --to-user alice --yes; umount /srv/shared/debug/deps
cargo-targetctl: refused: /srv/shared/debug/deps: something is mounted there, or a subvolume begins; unmount it, or move it away
cargo-targetctl: nothing was changed

$ install -d -o bob -g bob -m 0700 /srv/cargo-target/bob; cargo-targetctl migrate --from /srv/cargo-target/bob --to-user alice --yes --force
cargo-targetctl: refused: /srv/cargo-target/bob is bob's own
cargo-targetctl: nothing was changed
[3]

$ install -d -o alice -g alice -m 0700 /srv/cargo-target/alice; touch /srv/cargo-target/alice/used; cargo-targetctl migrate --from /srv/shared --to-user alice --yes; rm -r /srv/cargo-target/alice
cargo-targetctl: refused: /srv/cargo-target/alice exists and is not empty; add --set-aside to keep it beside as .set-aside-alice-<date>
cargo-targetctl: nothing was changed

$ mount --bind /srv/cargo-target /opt; cargo-targetctl migrate --from /opt --to-user alice --yes; umount /opt
cargo-targetctl: refused: /opt is the shared root, mounted once more; name it by its own path: --from /srv/cargo-target
cargo-targetctl: nothing was changed

$ install -d -o 2099 -m 0700 /srv/cargo-target/left; mkdir /srv/cargo-target/debug; touch -d @1700000000 /srv/cargo-target/debug/.cargo-lock; cargo-targetctl migrate --from /srv/cargo-target --to-user alice --yes; rm -r /srv/cargo-target/left
cargo-targetctl: refused: these may be the own directories of users, of whom nobody has that name now; move away what is not to be migrated, and make root the owner of what is: /srv/cargo-target/left (uid 2099)
cargo-targetctl: nothing was changed

$ cargo-targetctl migrate --from /srv/cargo-target --to-user alice --dry-run; rm -r /srv/cargo-target/debug
/srv/cargo-target becomes alice's /srv/cargo-target/alice
    1 file, 2 directories, 0 symbolic links; 0.0 KiB on the disk
    owners: root 2 (0.0 KiB)
    last built by root, 2023-11-14 22:13 UTC
    stays where it is: bob (bob's)
    how: renamed, then made the user's where it is
    stays to be done by cargo: the first edit of each workspace crate redoes its code generation
note: what root built will run as alice from now on, build scripts and proc-macros included

$ mkdir /srv/ro; mount -t tmpfs -o ro none /srv/ro; cargo-targetctl migrate --from /srv/ro --to-user alice --yes --force; umount /srv/ro
cargo-targetctl: refused: /srv/ro lies on a file system that is mounted read-only
cargo-targetctl: nothing was changed

$ mkdir /srv/far; mount -t tmpfs none /srv/far; mkdir -p /srv/far/debug; touch -d @1700000000 /srv/far/debug/.cargo-lock; truncate -s 2M /srv/far/debug/hole; touch -hd @1700000000 /srv/far/debug/* /srv/far/debug; cargo-targetctl migrate --from /srv/far --to-user alice --dry-run 2>&1 | sed 's/[0-9.]* [KMGT]iB free/N free/'; umount /srv/far
/srv/far becomes alice's /srv/cargo-target/alice
    2 files, 2 directories, 0 symbolic links; 0.0 KiB on the disk
    owners: root 4 (0.0 KiB)
    last built by root, 2023-11-14 22:13 UTC
    how: copied, since it is on another file system: 0.0 KiB needed, N free; the old one is removed last
    lose the write permission of group or others: 1
    stays to be done by cargo: the first edit of each workspace crate redoes its code generation
note: what root built will run as alice from now on, build scripts and proc-macros included
note: /srv/far is a mount point: it is emptied, and stays

# Somebody is at work there.
$ bash -c 'exec 9</srv/shared/debug/.cargo-lock; flock 9; exec sleep 60' & sleep 0.5; cargo-targetctl migrate --from /srv/shared --to-user alice --dry-run 2>&1 | sed 's/process [0-9]*/process N/'; kill $!; wait
cargo-targetctl: busy: process N of root (sleep 60) has /srv/shared/debug/.cargo-lock open
cargo-targetctl: nothing was changed

$ sleep 60 </srv/shared/debug/deps/a & sleep 0.3; cargo-targetctl migrate --from /srv/shared --to-user alice --yes 2>&1 | sed 's/process [0-9]*/process N/'; kill $!; wait
cargo-targetctl: busy: process N of root (sleep 60) has /srv/shared/debug/deps/a open
cargo-targetctl: nothing was changed

# What is there, and what will be done.
$ cargo-targetctl migrate --from /srv/shared --to-user alice --dry-run
/srv/shared becomes alice's /srv/cargo-target/alice
    6 files, 7 directories, 1 symbolic link; 8.0 KiB on the disk
    owners: alice 2 (4.0 KiB), bob 12 (4.0 KiB)
    last built by bob, 2023-11-14 22:13 UTC
    how: renamed, then made the user's where it is
    lose the write permission of group or others: 13
    outputs of build scripts that are rewritten, since they name the old path: 1
    absolute symbolic links, which stay as they are: 1 (debug/link)
    stays to be done by cargo: the first edit of each workspace crate redoes its code generation
note: what bob built will run as alice from now on, build scripts and proc-macros included

$ cargo-targetctl migrate --from /srv/shared --to-user alice --dry-run --json | sed 's/"free_bytes": [0-9]*/"free_bytes": N/'
{
  "already_migrated": false,
  "command": "migrate",
  "copied_bytes": null,
  "did": null,
  "done": false,
  "dry_run": true,
  "exit": 0,
  "files_left": null,
  "found": {
    "absolute_symlinks": {
      "count": 1,
      "examples": [
        "debug/link"
      ]
    },
    "acls": {
      "count": 0,
      "examples": []
    },
    "bytes": 8192,
    "directories": 7,
    "files": 6,
    "free_bytes": N,
    "leaving_symlinks": {
      "count": 0,
      "examples": []
    },
    "linked_outside": 0,
    "outputs_naming_the_old_path": 1,
    "owners": [
      {
        "bytes": 4096,
        "entries": 2,
        "uid": 2001,
        "user": "alice"
      },
      {
        "bytes": 4096,
        "entries": 12,
        "uid": 2002,
        "user": "bob"
      }
    ],
    "quota_left_bytes": null,
    "set_gid_directories": 0,
    "set_id": {
      "count": 0,
      "examples": []
    },
    "stays": [],
    "symlinks": 1,
    "writable_by_others": 13
  },
  "from": "/srv/shared",
  "link_left": false,
  "only_owned": false,
  "resumed": false,
  "root_changes": [],
  "schema": 1,
  "set_aside": null,
  "source_changes": 0,
  "source_kept_for": [],
  "stopped": [],
  "to": "/srv/cargo-target/alice",
  "user": "alice",
  "warnings": [
    "what bob built will run as alice from now on, build scripts and proc-macros included"
  ],
  "way": "rename"
}

# A login made the directory meanwhile: that is no reason not to.
$ install -d -o alice -g alice -m 0700 /srv/cargo-target/alice; touch /srv/cargo-target/alice/CACHEDIR.TAG; cargo-targetctl migrate --from /srv/shared --to-user alice --yes | sed 's/([0-9.]* s)/(N s)/'
/srv/shared becomes alice's /srv/cargo-target/alice
    6 files, 7 directories, 1 symbolic link; 8.0 KiB on the disk
    owners: alice 2 (4.0 KiB), bob 12 (4.0 KiB)
    last built by bob, 2023-11-14 22:13 UTC
    how: renamed, then made the user's where it is
    lose the write permission of group or others: 13
    outputs of build scripts that are rewritten, since they name the old path: 1
    absolute symbolic links, which stay as they are: 1 (debug/link)
    stays to be done by cargo: the first edit of each workspace crate redoes its code generation
note: what bob built will run as alice from now on, build scripts and proc-macros included
/srv/cargo-target/alice is ready (N s).
    14 entries
    /srv/shared is a symbolic link to it
Next:
    take out whatever set the old CARGO_TARGET_DIR, or it wins: cargo-targetctl doctor
Tell the team:
    alice's next login builds in /srv/cargo-target/alice, and finds everything fresh
    everybody else's next login starts with an empty directory of their own
    whoever is logged in keeps the old CARGO_TARGET_DIR until then

$ cargo-targetctl migrate --from /srv/shared --to-user alice --yes
/srv/shared was migrated already: it leads to /srv/cargo-target/alice

$ find /srv/cargo-target /srv/shared | sort | xargs stat -c '%A %U:%G %Y %N' | sed 's/ 17[1-9][0-9]* / now /'; cat /srv/cargo-target/alice/debug/build/x/output
drwxr-xr-x root:root now '/srv/cargo-target'
drwx------ alice:alice 1700000000 '/srv/cargo-target/alice'
-rw-r--r-- alice:alice 1700000000 '/srv/cargo-target/alice/.rustc_info.json'
-rw-r--r-- alice:alice now '/srv/cargo-target/alice/CACHEDIR.TAG'
drwxr-xr-x alice:alice now '/srv/cargo-target/alice/debug'
-rw-r--r-- alice:alice 1700000000 '/srv/cargo-target/alice/debug/.cargo-lock'
drwxr-xr-x alice:alice 1700000000 '/srv/cargo-target/alice/debug/.fingerprint'
-rw-r--r-- alice:alice 1700000000 '/srv/cargo-target/alice/debug/a'
drwxr-xr-x alice:alice 1700000000 '/srv/cargo-target/alice/debug/build'
drwxr-xr-x alice:alice 1700000000 '/srv/cargo-target/alice/debug/build/x'
drwxr-xr-x alice:alice 1700000000 '/srv/cargo-target/alice/debug/build/x/out'
-rw-r--r-- alice:alice 1700000000 '/srv/cargo-target/alice/debug/build/x/output'
-rw-r--r-- alice:alice 1700000000 '/srv/cargo-target/alice/debug/build/x/root-output'
drwxr-xr-x alice:alice 1700000000 '/srv/cargo-target/alice/debug/deps'
-rw-r--r-- alice:alice 1700000000 '/srv/cargo-target/alice/debug/deps/a'
lrwxrwxrwx alice:alice 1700000000 '/srv/cargo-target/alice/debug/link' -> '/srv/shared/debug/a'
drwx------ bob:bob now '/srv/cargo-target/bob'
lrwxrwxrwx root:root now '/srv/shared' -> '/srv/cargo-target/alice'
cargo:root=/srv/cargo-target/alice/debug/build/y/out

# A directory that is used is kept beside.
$ mkdir -p /srv/again/debug; touch /srv/again/debug/.cargo-lock; find /srv/again -print0 | xargs -0 touch -d @1700000000; cargo-targetctl migrate --from /srv/again --to-user alice --yes --set-aside | sed 's/([0-9.]* s)/(N s)/; s/-[0-9]*-[0-9]*$/-DATE/'; ls -A /srv/cargo-target | sed 's/-[0-9]*-[0-9]*$/-DATE/'; ls -A /srv/cargo-target/alice
/srv/again becomes alice's /srv/cargo-target/alice
    1 file, 2 directories, 0 symbolic links; 0.0 KiB on the disk
    owners: root 3 (0.0 KiB)
    last built by root, 2023-11-14 22:13 UTC
    how: renamed, then made the user's where it is
    stays to be done by cargo: the first edit of each workspace crate redoes its code generation
note: what root built will run as alice from now on, build scripts and proc-macros included
/srv/cargo-target/alice is ready (N s).
    3 entries
    /srv/again is a symbolic link to it
    what alice had is kept in /srv/cargo-target/.set-aside-alice-DATE
Next:
    take out whatever set the old CARGO_TARGET_DIR, or it wins: cargo-targetctl doctor
Tell the team:
    alice's next login builds in /srv/cargo-target/alice, and finds everything fresh
    everybody else's next login starts with an empty directory of their own
    whoever is logged in keeps the old CARGO_TARGET_DIR until then
.set-aside-alice-DATE
alice
bob
CACHEDIR.TAG
debug
