$ cargo-targetctl check zoe alice
cargo-targetctl: there is no user zoe
No line of /etc/pam.d names pam_cargo_target.so for sessions of sshd: this is what they would get.
USER   UID   DECISION  REASON                 DIRECTORY  STATE  VARIABLES
zoe    -     skip      no root is configured  -          -      -
alice  2001  skip      no root is configured  -          -      -
[1]

$ cargo-targetctl check zoe --json | grep -v alice
cargo-targetctl: there is no user zoe
{
  "command": "check",
  "configuration": [],
  "exit": 1,
  "line": null,
  "root": null,
  "root_given": null,
  "schema": 1,
  "service": "sshd",
  "users": [
    {
      "decision": "skip",
      "directory": null,
      "reason": "no root is configured",
      "state": null,
      "uid": null,
      "user": "zoe",
      "variables": []
    }
  ]
}
[1]

$ cargo-targetctl chek
error: unrecognized subcommand 'chek'

  tip: a similar subcommand exists: 'check'

Usage: cargo-targetctl [OPTIONS] <COMMAND>

For more information, try '--help'.
[2]

$ cargo-targetctl check --conf
error: a value is required for '--conf <PATH>' but none was supplied

For more information, try '--help'.
[2]

$ cargo-targetctl check --root cargo-target
cargo-targetctl: --root: `cargo-target` is not an absolute path
[2]

$ cargo-targetctl check --root cargo-target --json
{
  "error": "--root: `cargo-target` is not an absolute path",
  "exit": 2,
  "schema": 1
}
cargo-targetctl: --root: `cargo-target` is not an absolute path
[2]

$ cargo-targetctl check --service ../x alice
cargo-targetctl: `../x` cannot be a PAM service
[2]

# A conf with errors: all of them, with line and the nearest key.
$ printf 'rot = /srv/cargo-target\ngruop = workspace\nmin_uid = many\nfavourite = blue\n' >/etc/security/cargo-target.conf; cargo-targetctl check alice
cargo-targetctl: /etc/security/cargo-target.conf:1: unknown key `rot`; did you mean `root`?
cargo-targetctl: /etc/security/cargo-target.conf:2: unknown key `gruop`; did you mean `group`?
cargo-targetctl: /etc/security/cargo-target.conf:3: min_uid: `many` is not a number from 0 to 4294967294
cargo-targetctl: /etc/security/cargo-target.conf:4: unknown key `favourite`
No line of /etc/pam.d names pam_cargo_target.so for sessions of sshd: this is what they would get.
USER   UID   DECISION  REASON     DIRECTORY  STATE  VARIABLES
alice  2001  refuse    see below  -          -      -
alice: the configuration is not usable
[3]

$ cargo-targetctl check alice --json
cargo-targetctl: /etc/security/cargo-target.conf:1: unknown key `rot`; did you mean `root`?
cargo-targetctl: /etc/security/cargo-target.conf:2: unknown key `gruop`; did you mean `group`?
cargo-targetctl: /etc/security/cargo-target.conf:3: min_uid: `many` is not a number from 0 to 4294967294
cargo-targetctl: /etc/security/cargo-target.conf:4: unknown key `favourite`
{
  "command": "check",
  "configuration": [
    {
      "cause": "unknown key `rot`",
      "nearest": "root",
      "place": "/etc/security/cargo-target.conf:1"
    },
    {
      "cause": "unknown key `gruop`",
      "nearest": "group",
      "place": "/etc/security/cargo-target.conf:2"
    },
    {
      "cause": "min_uid: `many` is not a number from 0 to 4294967294",
      "nearest": null,
      "place": "/etc/security/cargo-target.conf:3"
    },
    {
      "cause": "unknown key `favourite`",
      "nearest": null,
      "place": "/etc/security/cargo-target.conf:4"
    }
  ],
  "exit": 3,
  "line": null,
  "root": null,
  "root_given": null,
  "schema": 1,
  "service": "sshd",
  "users": [
    {
      "decision": "refuse",
      "directory": null,
      "reason": "the configuration is not usable",
      "state": null,
      "uid": 2001,
      "user": "alice",
      "variables": []
    }
  ]
}
[3]

$ chmod 0666 /etc/security/cargo-target.conf; mkdir /srv/cargo-target; cargo-targetctl check alice --root /srv/cargo-target
cargo-targetctl: /etc/security/cargo-target.conf: belongs to uid 0 with mode 0666, but whoever can write it decides for root; look into it, then run: chown root /etc/security/cargo-target.conf; chmod go-w /etc/security/cargo-target.conf
No line of /etc/pam.d names pam_cargo_target.so for sessions of sshd: this is what they would get.
USER   UID   DECISION  REASON     DIRECTORY  STATE  VARIABLES
alice  2001  refuse    see below  -          -      -
alice: the configuration is not usable
[3]

$ rm /etc/security/cargo-target.conf; cargo-targetctl check alice --conf /etc/none.conf --root /srv/cargo-target
cargo-targetctl: /etc/none.conf: does not exist; create it, or drop conf= from the pam.d line
No line of /etc/pam.d names pam_cargo_target.so for sessions of sshd: this is what they would get.
USER   UID   DECISION  REASON     DIRECTORY  STATE  VARIABLES
alice  2001  refuse    see below  -          -      -
alice: the configuration is not usable
[3]

# Names are escaped, and a closed pipe is no error.
$ cargo-targetctl check "$(printf 'a\033[2Jb')" "$(printf 'r\xc3\xa4\xe2\x80\xaeb')"
cargo-targetctl: there is no user a\u{1b}[2Jb
cargo-targetctl: there is no user rä\u{202e}b
No line of /etc/pam.d names pam_cargo_target.so for sessions of sshd: this is what they would get.
USER         UID  DECISION  REASON                 DIRECTORY  STATE  VARIABLES
a\u{1b}[2Jb  -    skip      no root is configured  -          -      -
rä\u{202e}b  -    skip      no root is configured  -          -      -
[1]

$ cargo-targetctl check "$(printf 'a\xe2\x80\xaeb')" --json | grep -v null
cargo-targetctl: there is no user a\u{202e}b
{
  "command": "check",
  "configuration": [],
  "exit": 1,
  "schema": 1,
  "service": "sshd",
  "users": [
    {
      "decision": "skip",
      "reason": "no root is configured",
      "user": "a\u202eb",
      "variables": []
    }
  ]
}
[1]

$ cargo-targetctl check $(seq 20000) 2>/dev/null | head -n 1
No line of /etc/pam.d names pam_cargo_target.so for sessions of sshd: this is what they would get.

$ cargo-targetctl check --color always alice --root /srv/none | cat -v
^[[33mNo line of /etc/pam.d names pam_cargo_target.so for sessions of sshd: this is what they would get.^[[0m
^[[1mUSER^[[0m   ^[[1mUID^[[0m   ^[[1mDECISION^[[0m  ^[[1mREASON^[[0m                    ^[[1mDIRECTORY^[[0m  ^[[1mSTATE^[[0m  ^[[1mVARIABLES^[[0m
alice  2001  ^[[2mskip^[[0m      /srv/none does not exist  -          -      -

$ cargo targetctl check alice --root /srv/none
No line of /etc/pam.d names pam_cargo_target.so for sessions of sshd: this is what they would get.
USER   UID   DECISION  REASON                    DIRECTORY  STATE  VARIABLES
alice  2001  skip      /srv/none does not exist  -          -      -

# Loops of includes, and files that are not there.
$ printf '@include loop\n' >/etc/pam.d/loop; printf 'session include none\nsession optional pam_cargo_target.so\n' >/etc/pam.d/gap; mkfifo /etc/pam.d/fifo

$ for service in loop gap fifo; do cargo-targetctl check alice --service $service --root /srv/none; done
cargo-targetctl: /etc/pam.d/loop includes itself, if only by way of others: a login by it never ends; take the include out
No line of /etc/pam.d names pam_cargo_target.so for sessions of loop: this is what they would get.
USER   UID   DECISION  REASON                    DIRECTORY  STATE  VARIABLES
alice  2001  skip      /srv/none does not exist  -          -      -
cargo-targetctl: /etc/pam.d/gap includes /etc/pam.d/none, which does not exist: no session opens by it; create the one or mend the other
USER   UID   DECISION  REASON                    DIRECTORY  STATE  VARIABLES
alice  2001  skip      /srv/none does not exist  -          -      -
cargo-targetctl: /etc/pam.d/fifo cannot be read: it is not a regular file
No line of /etc/pam.d names pam_cargo_target.so for sessions of fifo: this is what they would get.
USER   UID   DECISION  REASON                    DIRECTORY  STATE  VARIABLES
alice  2001  skip      /srv/none does not exist  -          -      -
