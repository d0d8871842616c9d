$ cargo-targetctl init --root /srv/cargo-target --yes >/dev/null; heal >/dev/null; for user in alice bob; do cargo-targetctl try --user $user >/dev/null; done; cargo-targetctl doctor
No problem found.

# The module's file.
$ chmod 0600 /lib/*/security/pam_cargo_target.so; cargo-targetctl doctor | sed -E 's#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#g'
problem: /usr/lib/ARCH/security/pam_cargo_target.so belongs to uid 0 with mode 0600: it runs as root in every login, so only root may write it, and everybody must be able to read it
    give it to root, mode 0644
    # chown root:root /usr/lib/ARCH/security/pam_cargo_target.so && chmod 0644 /usr/lib/ARCH/security/pam_cargo_target.so
1 problem.
1 of them can be mended by cargo-targetctl doctor --fix.
[3]

$ heal
problem module-mode, fixable
No problem found.

$ chown carol /lib/*/security/pam_cargo_target.so; cargo-targetctl doctor | sed -E 's#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#g'
problem: /usr/lib/ARCH/security/pam_cargo_target.so belongs to uid 2003 with mode 0644: it runs as root in every login, so only root may write it, and everybody must be able to read it
    give it to root, mode 0644
    # chown root:root /usr/lib/ARCH/security/pam_cargo_target.so && chmod 0644 /usr/lib/ARCH/security/pam_cargo_target.so
1 problem.
1 of them can be mended by cargo-targetctl doctor --fix.
[3]

$ heal
problem module-mode, fixable
No problem found.

$ mv /lib/*/security/pam_cargo_target.so /tmp/; cargo-targetctl doctor | sed -E 's#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#g'
problem: /usr/lib/ARCH/security/pam_cargo_target.so is not there
    build and install it: make build && sudo make install
1 problem.
[3]

$ echo none >$(dirname /lib/*/security/pam_permit.so)/pam_cargo_target.so; cargo-targetctl doctor | sed -E 's#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#g'
problem: /usr/lib/ARCH/security/pam_cargo_target.so cannot be loaded: /usr/lib/ARCH/security/pam_cargo_target.so: file too short
    build it on this host, and install it again: make build && sudo make install
1 problem.
[3]

$ sed -i 's/optional\tpam_cargo/required\tpam_cargo/' /etc/pam.d/common-session; rm /lib/*/security/pam_cargo_target.so; cargo-targetctl doctor | sed -E 's#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#g'
problem: /usr/lib/ARCH/security/pam_cargo_target.so is not there, and a line that requires it keeps everybody out
    build and install it: make build && sudo make install
problem: /etc/pam.d/common-session:3 says required: were the module's file to go missing, nobody could log in
    make the line optional
    # sed -i '3s/session[[:blank:]]*required/session optional/' /etc/pam.d/common-session
2 problems.
[3]

$ mv /tmp/pam_cargo_target.so $(dirname /lib/*/security/pam_permit.so)/; cargo-targetctl doctor
problem: /etc/pam.d/common-session:3 says required: were the module's file to go missing, nobody could log in
    make the line optional
    # sed -i '3s/session[[:blank:]]*required/session optional/' /etc/pam.d/common-session
1 problem.
[3]

$ heal
problem module-required
No problem found.

# A client's own line is not there; one that the configuration leaves out needs none.
$ sed -i /pam_cargo/d /etc/pam.d/common-session-noninteractive; cargo-targetctl doctor
problem: sessions of sudo, cron do not pass the module
    add its line to /etc/pam.d/common-session-noninteractive
    # printf 'session\toptional\tpam_cargo_target.so\n' >>/etc/pam.d/common-session-noninteractive
1 problem.
[3]

$ echo 'services = !cron,!sudo,!sudo-i' >>/etc/security/cargo-target.conf; cargo-targetctl doctor
No problem found.

$ sed -i /services/d /etc/security/cargo-target.conf; heal
problem client-without-module
No problem found.

# Includes that loop, or lead nowhere, and a file that is none.
$ cp /etc/pam.d/su /tmp/su; echo '@include su-l' >>/etc/pam.d/su; cargo-targetctl doctor
problem: /etc/pam.d/su includes itself, if only by way of others: a login by it never ends
    take the include out
problem: /etc/pam.d/su-l includes itself, if only by way of others: a login by it never ends
    take the include out
2 problems.
[3]

$ cp /tmp/su /etc/pam.d/su; echo 'session include absent' >>/etc/pam.d/su; cargo-targetctl doctor
problem: /etc/pam.d/su includes /etc/pam.d/absent, which does not exist: no session opens by it
    create the one or mend the other
1 problem.
[3]

$ cp /tmp/su /etc/pam.d/su; mkfifo /etc/pam.d/fifo; cargo-targetctl doctor
problem: /etc/pam.d/fifo cannot be read: it is not a regular file
    make it a file that root can read, or remove it
1 problem.
[3]

$ rm /etc/pam.d/fifo; sed -i 's/^UsePAM/#UsePAM/' /etc/ssh/sshd_config; cargo-targetctl doctor
problem: sshd does not use PAM: sessions by ssh do not pass the module
    let it, at the top of /etc/ssh/sshd_config, and restart sshd
    # sed -i '1i UsePAM yes' /etc/ssh/sshd_config
1 problem.
[3]

$ heal
problem sshd-without-pam
No problem found.

# A conf with faults.
$ printf 'root = /srv/cargo-target\ngruop = x\nmin_uid = many\n' >/etc/security/cargo-target.conf; cargo-targetctl doctor
problem: /etc/security/cargo-target.conf:2: unknown key `gruop`
    mend or remove it; did you mean `group`?
problem: /etc/security/cargo-target.conf:3: min_uid: `many` is not a number from 0 to 4294967294
    mend or remove it
2 problems.
[3]
