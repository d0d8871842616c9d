$ cargo-targetctl check
No line of /etc/pam.d names pam_cargo_target.so for sessions of sshd: this is what they would get.
USER   UID   DECISION  REASON                 DIRECTORY  STATE  VARIABLES
alice  2001  skip      no root is configured  -          -      -
bob    2002  skip      no root is configured  -          -      -

$ cargo-targetctl init --root /srv/cargo-target --yes >/dev/null; cargo-targetctl check
No line of /etc/pam.d names pam_cargo_target.so for sessions of sshd: this is what they would get.
USER   UID   DECISION   REASON    DIRECTORY                STATE    VARIABLES
alice  2001  provision  a member  /srv/cargo-target/alice  missing  CARGO_TARGET_DIR=/srv/cargo-target/alice
bob    2002  provision  a member  /srv/cargo-target/bob    missing  CARGO_TARGET_DIR=/srv/cargo-target/bob

$ echo 'session optional pam_cargo_target.so' >>/etc/pam.d/common-session

$ cargo-targetctl check -v
service sshd: /etc/pam.d/common-session:3: session optional pam_cargo_target.so
settings in force (/etc/security/cargo-target.conf and the pam.d line):
    root = /srv/cargo-target
    group = workspace
    skip = 
    min_uid = 1000
    name = %u
    mode = 0700
    export = CARGO_TARGET_DIR
    on_error = ignore
    timeout = 2
    debug = off
USER   UID   DECISION   REASON    DIRECTORY                STATE    VARIABLES
alice  2001  provision  a member  /srv/cargo-target/alice  missing  CARGO_TARGET_DIR=/srv/cargo-target/alice
bob    2002  provision  a member  /srv/cargo-target/bob    missing  CARGO_TARGET_DIR=/srv/cargo-target/bob

$ cargo-targetctl check carol root daemon --service SU
USER    UID   DECISION  REASON                            DIRECTORY  STATE  VARIABLES
carol   2003  skip      in none of the configured groups  -          -      -
root    0     skip      root has no cache of its own      -          -      -
daemon  1     skip      uid 1 is below min_uid 1000       -          -      -

$ cargo-targetctl check --json carol alice
{
  "command": "check",
  "configuration": [],
  "exit": 0,
  "line": "/etc/pam.d/common-session:3: session optional pam_cargo_target.so",
  "root": "/srv/cargo-target",
  "root_given": null,
  "schema": 1,
  "service": "sshd",
  "users": [
    {
      "decision": "skip",
      "directory": null,
      "reason": "in none of the configured groups",
      "state": null,
      "uid": 2003,
      "user": "carol",
      "variables": []
    },
    {
      "decision": "provision",
      "directory": "/srv/cargo-target/alice",
      "reason": "a member",
      "state": "missing",
      "uid": 2001,
      "user": "alice",
      "variables": [
        "CARGO_TARGET_DIR=/srv/cargo-target/alice"
      ]
    }
  ]
}

# The settings of the service's own line count.
$ sed -i '$d' /etc/pam.d/common-session; echo 'session optional pam_cargo_target.so name=dev-%u export=CARGO_TARGET_DIR:target export=SCCACHE_DIR:sccache services=!cron' >>/etc/pam.d/common-session

$ cargo-targetctl check alice; cargo-targetctl check alice --service cron
USER   UID   DECISION   REASON    DIRECTORY                    STATE    VARIABLES
alice  2001  provision  a member  /srv/cargo-target/dev-alice  missing  CARGO_TARGET_DIR=/srv/cargo-target/dev-alice/target SCCACHE_DIR=/srv/cargo-target/dev-alice/sccache
No line of /etc/pam.d names pam_cargo_target.so for sessions of cron: this is what they would get.
USER   UID   DECISION   REASON    DIRECTORY                STATE    VARIABLES
alice  2001  provision  a member  /srv/cargo-target/alice  missing  CARGO_TARGET_DIR=/srv/cargo-target/alice

$ sed -i '$d' /etc/pam.d/common-session; echo 'session optional pam_cargo_target.so' >>/etc/pam.d/common-session

# A directory that is there, and ones that are not right: exit 3.
$ install -d -o alice -g alice -m 0700 /srv/cargo-target/alice; cargo-targetctl check
USER   UID   DECISION   REASON    DIRECTORY                STATE    VARIABLES
alice  2001  provision  a member  /srv/cargo-target/alice  ready    CARGO_TARGET_DIR=/srv/cargo-target/alice
bob    2002  provision  a member  /srv/cargo-target/bob    missing  CARGO_TARGET_DIR=/srv/cargo-target/bob

$ install -d -o carol -m 0755 /srv/cargo-target/bob; cargo-targetctl check
USER   UID   DECISION   REASON     DIRECTORY                STATE        VARIABLES
alice  2001  provision  a member   /srv/cargo-target/alice  ready        CARGO_TARGET_DIR=/srv/cargo-target/alice
bob    2002  refuse     see below  /srv/cargo-target/bob    wrong-owner  -
bob: /srv/cargo-target/bob belongs to uid 2003, not to uid 2002: whoever owns it could plant build scripts; look into it, then move it away: mv -nT /srv/cargo-target/bob /srv/cargo-target/.bob.old
[3]

$ cargo-targetctl check --json bob
{
  "command": "check",
  "configuration": [],
  "exit": 3,
  "line": "/etc/pam.d/common-session:3: session optional pam_cargo_target.so",
  "root": "/srv/cargo-target",
  "root_given": null,
  "schema": 1,
  "service": "sshd",
  "users": [
    {
      "decision": "refuse",
      "directory": "/srv/cargo-target/bob",
      "reason": "/srv/cargo-target/bob belongs to uid 2003, not to uid 2002: whoever owns it could plant build scripts; look into it, then move it away: mv -nT /srv/cargo-target/bob /srv/cargo-target/.bob.old",
      "state": "wrong-owner",
      "uid": 2002,
      "user": "bob",
      "variables": []
    }
  ]
}
[3]

$ rmdir /srv/cargo-target/bob; install -d -o bob -m 0775 /srv/cargo-target/bob; cargo-targetctl check bob
USER  UID   DECISION  REASON     DIRECTORY              STATE     VARIABLES
bob   2002  refuse    see below  /srv/cargo-target/bob  writable  -
bob: /srv/cargo-target/bob (mode 0775) is writable by group or others, who could plant build scripts; look into it, then run: setfacl -b /srv/cargo-target/bob; chmod go-w /srv/cargo-target/bob
[3]

$ rmdir /srv/cargo-target/bob; ln -s alice /srv/cargo-target/bob; cargo-targetctl check bob
USER  UID   DECISION  REASON     DIRECTORY              STATE            VARIABLES
bob   2002  refuse    see below  /srv/cargo-target/bob  not-a-directory  -
bob: /srv/cargo-target/bob is a symbolic link, not a directory; move it away: mv -nT /srv/cargo-target/bob /srv/cargo-target/.bob.old
[3]

$ rm /srv/cargo-target/bob; chmod 0755 /srv/cargo-target/.staging; cargo-targetctl check
USER   UID   DECISION   REASON     DIRECTORY                STATE    VARIABLES
alice  2001  provision  a member   /srv/cargo-target/alice  ready    CARGO_TARGET_DIR=/srv/cargo-target/alice
bob    2002  refuse     see below  /srv/cargo-target/bob    missing  -
bob: /srv/cargo-target/.staging is not a directory of root's that nobody else can enter; unmount it if it is a mount point, then move it away: mv -nT /srv/cargo-target/.staging /srv/cargo-target/.staging.old
[3]

$ chmod 0700 /srv/cargo-target/.staging; chmod 0775 /srv/cargo-target; cargo-targetctl check bob
USER  UID   DECISION  REASON     DIRECTORY  STATE  VARIABLES
bob   2002  refuse    see below  -          -      -
bob: /srv/cargo-target (mode 0775) is writable by group or others without the sticky bit: they could replace another user's directory in it; run: chmod go-w /srv/cargo-target
[3]

# Nothing was made, and no tag put back.
$ chmod 0755 /srv/cargo-target; ls -A /srv/cargo-target /srv/cargo-target/alice
/srv/cargo-target:
.staging
alice

/srv/cargo-target/alice:

# Another root on the command line, through a link, or one that is not there.
$ ln -s cargo-target /srv/link; cargo-targetctl check alice --root /srv/link/; cargo-targetctl check alice --root /srv/none
/srv/link/ leads to /srv/cargo-target
USER   UID   DECISION   REASON    DIRECTORY                STATE  VARIABLES
alice  2001  provision  a member  /srv/cargo-target/alice  ready  CARGO_TARGET_DIR=/srv/cargo-target/alice
USER   UID   DECISION  REASON                    DIRECTORY  STATE  VARIABLES
alice  2001  skip      /srv/none does not exist  -          -      -

# An ordinary user asks for oneself.
$ setpriv --reuid=alice --regid=alice --init-groups cargo-targetctl check
USER   UID   DECISION   REASON    DIRECTORY                STATE  VARIABLES
alice  2001  provision  a member  /srv/cargo-target/alice  ready  CARGO_TARGET_DIR=/srv/cargo-target/alice

$ setpriv --reuid=carol --regid=carol --init-groups cargo-targetctl check
USER   UID   DECISION  REASON                            DIRECTORY  STATE  VARIABLES
carol  2003  skip      in none of the configured groups  -          -      -

$ setpriv --reuid=bob --regid=bob --init-groups cargo-targetctl check --json
{
  "command": "check",
  "configuration": [],
  "exit": 0,
  "line": "/etc/pam.d/common-session:3: session optional pam_cargo_target.so",
  "root": "/srv/cargo-target",
  "root_given": null,
  "schema": 1,
  "service": "sshd",
  "users": [
    {
      "decision": "provision",
      "directory": "/srv/cargo-target/bob",
      "reason": "a member",
      "state": "missing",
      "uid": 2002,
      "user": "bob",
      "variables": [
        "CARGO_TARGET_DIR=/srv/cargo-target/bob"
      ]
    }
  ]
}

# No member at all.
$ echo 'group = nobodies' >>/etc/security/cargo-target.conf; cargo-targetctl check
No user is a member of nobodies.

# Colours, at a terminal only, and not where NO_COLOR is set.
$ export TERM=xterm; for set in NO_COLOR= NO_COLOR=1; do env $set script -E never -qec 'cargo-targetctl check carol' /dev/null | cat -v; done; cargo-targetctl check carol | cat -v; NO_COLOR=1 cargo-targetctl check carol --color always | cat -v
^[[1mUSER^[[0m   ^[[1mUID^[[0m   ^[[1mDECISION^[[0m  ^[[1mREASON^[[0m                            ^[[1mDIRECTORY^[[0m  ^[[1mSTATE^[[0m  ^[[1mVARIABLES^[[0m^M
carol  2003  ^[[2mskip^[[0m      in none of the configured groups  -          -      -^M
USER   UID   DECISION  REASON                            DIRECTORY  STATE  VARIABLES^M
carol  2003  skip      in none of the configured groups  -          -      -^M
USER   UID   DECISION  REASON                            DIRECTORY  STATE  VARIABLES
carol  2003  skip      in none of the configured groups  -          -      -
^[[1mUSER^[[0m   ^[[1mUID^[[0m   ^[[1mDECISION^[[0m  ^[[1mREASON^[[0m                            ^[[1mDIRECTORY^[[0m  ^[[1mSTATE^[[0m  ^[[1mVARIABLES^[[0m
carol  2003  ^[[2mskip^[[0m      in none of the configured groups  -          -      -

$ TERM=dumb script -E never -qec 'cargo-targetctl check carol' /dev/null | cat -v; TERM=xterm script -E never -qec 'cargo-targetctl check carol --color never' /dev/null | cat -v
USER   UID   DECISION  REASON                            DIRECTORY  STATE  VARIABLES^M
carol  2003  skip      in none of the configured groups  -          -      -^M
USER   UID   DECISION  REASON                            DIRECTORY  STATE  VARIABLES^M
carol  2003  skip      in none of the configured groups  -          -      -^M
