# Measured times and process ids differ from run to run.
$ cargo-targetctl try --user alice | sed -E 's/[0-9]+ µs/N µs/g; s/\[[0-9]+\]/[PID]/; s#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#'
sshd: session required /usr/lib/ARCH/security/pam_cargo_target.so
user         alice
answer       0 (Success)
environment  no variable
directory    -
time         N µs, after N µs for loading
log          no line

$ cargo-targetctl init --root /srv/cargo-target --yes >/dev/null; echo 'session optional pam_cargo_target.so debug' >>/etc/pam.d/common-session

$ cargo-targetctl try --user alice | sed -E 's/[0-9]+ µs/N µs/g; s/\[[0-9]+\]/[PID]/; s#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#'
sshd: session required /usr/lib/ARCH/security/pam_cargo_target.so debug
user         alice
answer       0 (Success)
environment  CARGO_TARGET_DIR=/srv/cargo-target/alice
directory    /srv/cargo-target/alice: uid 2001, gid 2001, mode 0700, CACHEDIR.TAG
time         N µs, after N µs for loading
log          info: pam_cargo_target[PID]: (sshd:session) provisioned /srv/cargo-target/alice for alice
             debug: pam_cargo_target[PID]: (sshd:session) alice gets CARGO_TARGET_DIR=/srv/cargo-target/alice

$ stat -c '%U:%G %A %n' /srv/cargo-target/alice /srv/cargo-target/alice/CACHEDIR.TAG
alice:alice drwx------ /srv/cargo-target/alice
alice:alice -rw-r--r-- /srv/cargo-target/alice/CACHEDIR.TAG

$ cargo-targetctl try --user alice --service su --json | sed -E 's/"(.*_us)": [0-9]+/"\1": "N"/; s/\[[0-9]+\]/[PID]/; s#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#'
{
  "close_code": 0,
  "code": 0,
  "code_text": "Success",
  "command": "try",
  "directory": {
    "exists": true,
    "gid": 2001,
    "mode": "0700",
    "path": "/srv/cargo-target/alice",
    "tag": true,
    "uid": 2001
  },
  "environment": [
    "CARGO_TARGET_DIR=/srv/cargo-target/alice"
  ],
  "exit": 0,
  "line": "session required /usr/lib/ARCH/security/pam_cargo_target.so debug",
  "load_us": "N",
  "log": [
    "debug: pam_cargo_target[PID]: (su:session) alice gets CARGO_TARGET_DIR=/srv/cargo-target/alice"
  ],
  "log_caught": true,
  "module": "/usr/lib/ARCH/security/pam_cargo_target.so",
  "open_us": "N",
  "root_given": null,
  "schema": 1,
  "service": "su",
  "user": "alice"
}

$ cargo-targetctl try --user carol | sed -E 's/[0-9]+ µs/N µs/g; s/\[[0-9]+\]/[PID]/; s#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#'
sshd: session required /usr/lib/ARCH/security/pam_cargo_target.so debug
user         carol
answer       0 (Success)
environment  no variable
directory    -
time         N µs, after N µs for loading
log          debug: pam_cargo_target[PID]: (sshd:session) carol gets nothing: in none of the configured groups

# Whoever calls sudo tries the own session.
$ SUDO_USER=bob cargo-targetctl try | grep directory
directory    /srv/cargo-target/bob: uid 2002, gid 2002, mode 0700, CACHEDIR.TAG

# A module that answers an error is exit 1; the log says why.
$ chmod 0777 /srv/cargo-target/alice; sed -i '$s/$/ on_error=fail/' /etc/pam.d/common-session

$ cargo-targetctl try --user alice | sed -E 's/[0-9]+ µs/N µs/g; s/\[[0-9]+\]/[PID]/; s#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#'
sshd: session required /usr/lib/ARCH/security/pam_cargo_target.so debug on_error=fail
user         alice
answer       14 (Cannot make/remove an entry for the specified session)
environment  no variable
directory    /srv/cargo-target/alice: uid 2001, gid 2001, mode 0777, CACHEDIR.TAG
time         N µs, after N µs for loading
log          warning: pam_cargo_target[PID]: (sshd:session) nothing done for alice: /srv/cargo-target/alice (mode 0777) is writable by group or others, who could plant build scripts; look into it, then run: setfacl -b /srv/cargo-target/alice; chmod go-w /srv/cargo-target/alice
[1]

$ cargo-targetctl try --user alice --json | sed -E 's/"(.*_us)": [0-9]+/"\1": "N"/; s/\[[0-9]+\]/[PID]/; s#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#'
{
  "close_code": 0,
  "code": 14,
  "code_text": "Cannot make/remove an entry for the specified session",
  "command": "try",
  "directory": {
    "exists": true,
    "gid": 2001,
    "mode": "0777",
    "path": "/srv/cargo-target/alice",
    "tag": true,
    "uid": 2001
  },
  "environment": [],
  "exit": 1,
  "line": "session required /usr/lib/ARCH/security/pam_cargo_target.so debug on_error=fail",
  "load_us": "N",
  "log": [
    "warning: pam_cargo_target[PID]: (sshd:session) nothing done for alice: /srv/cargo-target/alice (mode 0777) is writable by group or others, who could plant build scripts; look into it, then run: setfacl -b /srv/cargo-target/alice; chmod go-w /srv/cargo-target/alice"
  ],
  "log_caught": true,
  "module": "/usr/lib/ARCH/security/pam_cargo_target.so",
  "open_us": "N",
  "root_given": null,
  "schema": 1,
  "service": "sshd",
  "user": "alice"
}
[1]

$ cargo-targetctl try --user alice --conf /etc/none.conf --root /srv/cargo-target | grep -v time | sed -E 's/\[[0-9]+\]/[PID]/; s#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#'
cargo-targetctl: /etc/none.conf: does not exist; create it, or drop conf= from the pam.d line
sshd: session required /usr/lib/ARCH/security/pam_cargo_target.so debug on_error=fail conf=/etc/none.conf root=/srv/cargo-target
user         alice
answer       14 (Cannot make/remove an entry for the specified session)
environment  no variable
directory    -
log          error: pam_cargo_target[PID]: (sshd:session) nothing done for alice: /etc/none.conf: does not exist; create it, or drop conf= from the pam.d line
[1]

# Another module, one that is none, and one that is not there.
$ cp /usr/lib/*/security/pam_cargo_target.so /tmp/mine.so; echo none >/tmp/none.so

$ cd /tmp; cargo-targetctl try --user bob --module mine.so | grep -E '^(sshd|answer)'
sshd: session required /tmp/mine.so debug on_error=fail
answer       0 (Success)

$ cargo-targetctl try --user bob --module /tmp/none.so | grep -v time
sshd: session required /tmp/none.so debug on_error=fail
user         bob
answer       28 (Module is unknown)
environment  no variable
directory    /srv/cargo-target/bob: uid 2002, gid 2002, mode 0700, CACHEDIR.TAG
log          error: cargo-targetctl: PAM unable to dlopen(/tmp/none.so): /tmp/none.so: file too short
             error: cargo-targetctl: PAM adding faulty module: /tmp/none.so
[1]

$ cargo-targetctl try --user bob --module /tmp/absent.so
cargo-targetctl: /tmp/absent.so is not there; install it: make install
[1]

$ cargo-targetctl try --user nobody2
cargo-targetctl: there is no user nobody2
[1]

# Words with blanks and brackets come through; what libpam could not read back is refused.
$ sed -i '$d' /etc/pam.d/common-session; echo 'session optional pam_cargo_target.so [name=%u [x\]]' >>/etc/pam.d/common-session; cargo-targetctl try --user bob | grep -E '^(sshd|environment)' | sed -E 's#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#'
sshd: session required /usr/lib/ARCH/security/pam_cargo_target.so [name=%u [x\]]
environment  CARGO_TARGET_DIR=/srv/cargo-target/bob [x]

$ cargo-targetctl try --user bob --root '/srv/a#b'
cargo-targetctl: `root=/srv/a#b` cannot stand on a pam.d line
[2]

# Without root no log can be caught; the rest works, and nothing is left.
$ setpriv --reuid=bob --regid=bob --init-groups cargo-targetctl try | sed -E 's/[0-9]+ µs/N µs/g; s#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#'
sshd: session required /usr/lib/ARCH/security/pam_cargo_target.so [name=%u [x\]]
user         bob
answer       0 (Success)
environment  CARGO_TARGET_DIR=/srv/cargo-target/bob [x]
directory    /srv/cargo-target/bob [x]: uid 2002, gid 2002, mode 0700, CACHEDIR.TAG
time         N µs, after N µs for loading
log          not caught: that needs root and a mount namespace

$ find /tmp -xdev -type f -printf "%P\n" | sort; ls /etc/pam.d | grep -c targetctl; ls /dev | grep -c pam
mine.so
none.so
0
0
[1]
