# Nothing is set up.
$ cargo-targetctl doctor
problem: sessions of sshd, login, su, su-l, sudo-i do not pass the module
    add its line to /etc/pam.d/common-session
    # printf 'session\toptional\tpam_cargo_target.so\n' >>/etc/pam.d/common-session
problem: sessions of sudo, cron do not pass the module
    add its line to /etc/pam.d/common-session-noninteractive
    # printf 'session\toptional\tpam_cargo_target.so\n' >>/etc/pam.d/common-session-noninteractive
problem: no root is configured, in /etc/security/cargo-target.conf or on the module's line
    choose one: cargo-targetctl init --root /srv/cargo-target
3 problems.
[3]

$ cargo-targetctl doctor --json
{
  "advice": 0,
  "as_root": true,
  "command": "doctor",
  "exit": 3,
  "findings": [
    {
      "commands": [
        "printf 'session\\toptional\\tpam_cargo_target.so\\n' >>/etc/pam.d/common-session"
      ],
      "fixable": false,
      "gravity": "problem",
      "id": "client-without-module",
      "remedy": "add its line to /etc/pam.d/common-session",
      "text": "sessions of sshd, login, su, su-l, sudo-i do not pass the module"
    },
    {
      "commands": [
        "printf 'session\\toptional\\tpam_cargo_target.so\\n' >>/etc/pam.d/common-session-noninteractive"
      ],
      "fixable": false,
      "gravity": "problem",
      "id": "client-without-module",
      "remedy": "add its line to /etc/pam.d/common-session-noninteractive",
      "text": "sessions of sudo, cron do not pass the module"
    },
    {
      "commands": [],
      "fixable": false,
      "gravity": "problem",
      "id": "no-root",
      "remedy": "choose one: cargo-targetctl init --root /srv/cargo-target",
      "text": "no root is configured, in /etc/security/cargo-target.conf or on the module's line"
    }
  ],
  "fixed": [],
  "homes_left_alone": [],
  "lines": [],
  "problems": 3,
  "root": null,
  "root_given": null,
  "schema": 1
}
[3]

$ cargo-targetctl init --root /srv/cargo-target --yes >/dev/null; cargo-targetctl doctor
problem: sessions of sshd, login, su, su-l, sudo-i do not pass the module
    add its line to /etc/pam.d/common-session
    # printf 'session\toptional\tpam_cargo_target.so\n' >>/etc/pam.d/common-session
problem: sessions of sudo, cron do not pass the module
    add its line to /etc/pam.d/common-session-noninteractive
    # printf 'session\toptional\tpam_cargo_target.so\n' >>/etc/pam.d/common-session-noninteractive
advice: alice has no directory yet
    the next login makes it
advice: bob has no directory yet
    the next login makes it
2 problems, 2 pieces of advice.
[3]

# Its remedies are followed to the letter, then each member logs in once.
$ heal
problem client-without-module
problem client-without-module
advice no-directory-yet
advice no-directory-yet
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
advice: alice has no directory yet
    the next login makes it
advice: bob has no directory yet
    the next login makes it
No problem, 2 pieces of advice.

$ for user in alice bob; do cargo-targetctl try --user $user | grep environment; done; cargo-targetctl doctor
environment  CARGO_TARGET_DIR=/srv/cargo-target/alice
environment  CARGO_TARGET_DIR=/srv/cargo-target/bob
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ cargo-targetctl doctor --json
{
  "advice": 0,
  "as_root": true,
  "command": "doctor",
  "exit": 0,
  "findings": [],
  "fixed": [],
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
  "problems": 0,
  "root": "/srv/cargo-target",
  "root_given": null,
  "schema": 1
}

# An ordinary user sees less, and is told so.
$ setpriv --reuid=alice --regid=alice --init-groups cargo-targetctl doctor
Not run as root: much of what can go wrong cannot be seen.
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ cargo-targetctl doctor --yes
error: the following required arguments were not provided:
  --fix

Usage: cargo-targetctl doctor --fix --yes

For more information, try '--help'.
[2]
