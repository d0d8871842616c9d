$ cargo-targetctl init --root /srv/cargo-target --yes >/dev/null; heal >/dev/null; for user in alice bob; do cargo-targetctl try --user $user >/dev/null; done; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

# The module's file.
$ chmod 0600 /lib/*/security/pam_cargo_target.so; cargo-targetctl doctor | sed -E 's#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#g'
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /usr/lib/ARCH/security/pam_cargo_target.so (mode 0600) cannot be read by everybody: a screen locker, which is not root, gets nothing of it
    let everybody read it
    # chmod 0644 /usr/lib/ARCH/security/pam_cargo_target.so
1 problem.
1 of them can be mended by cargo-targetctl doctor --fix.
[3]

$ heal
problem module-mode, fixable
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ chown carol /lib/*/security/pam_cargo_target.so; cargo-targetctl doctor | sed -E 's#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#g'
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /usr/lib/ARCH/security/pam_cargo_target.so runs as root in every login, and /usr/lib/ARCH/security/pam_cargo_target.so belongs to uid 2003
    what is in it cannot be trusted: look into it, then build and install it again, in a directory that root alone can write: make build && sudo make install
1 problem.
[3]

$ heal | sed -E 's#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#g'; chown root /lib/*/security/pam_cargo_target.so; cargo-targetctl doctor
problem module-untrusted
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /usr/lib/ARCH/security/pam_cargo_target.so runs as root in every login, and /usr/lib/ARCH/security/pam_cargo_target.so belongs to uid 2003
    what is in it cannot be trusted: look into it, then build and install it again, in a directory that root alone can write: make build && sudo make install
1 problem.
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

$ mv /lib/*/security/pam_cargo_target.so /tmp/; cargo-targetctl doctor | sed -E 's#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#g'
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /usr/lib/ARCH/security/pam_cargo_target.so is not there
    build and install it: make build && sudo make install
1 problem.
[3]

$ echo none >$(dirname /lib/*/security/pam_permit.so)/pam_cargo_target.so; cargo-targetctl doctor | sed -E 's#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#g'
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /usr/lib/ARCH/security/pam_cargo_target.so cannot be loaded: /usr/lib/ARCH/security/pam_cargo_target.so: file too short
    build it on this host, and install it again: make build && sudo make install
1 problem.
[3]

$ sed -i 's/optional\tpam_cargo/required\tpam_cargo/' /etc/pam.d/common-session; rm /lib/*/security/pam_cargo_target.so; cargo-targetctl doctor | sed -E 's#/lib/[^ /]*-linux-gnu/#/lib/ARCH/#g'
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /usr/lib/ARCH/security/pam_cargo_target.so is not there, and a line that requires it keeps everybody out
    build and install it: make build && sudo make install
problem: /etc/pam.d/common-session:3 says required: were the module's file to go missing, nobody could log in
    make the line optional
    # sed -i '3s/session[[:blank:]]*required/session optional/' /etc/pam.d/common-session
2 problems.
[3]

$ mv /tmp/pam_cargo_target.so $(dirname /lib/*/security/pam_permit.so)/; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /etc/pam.d/common-session:3 says required: were the module's file to go missing, nobody could log in
    make the line optional
    # sed -i '3s/session[[:blank:]]*required/session optional/' /etc/pam.d/common-session
1 problem.
[3]

$ heal
problem module-required
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

# A client's own line is not there; one that the configuration leaves out needs none.
$ sed -i /pam_cargo/d /etc/pam.d/common-session-noninteractive; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
problem: sessions of sudo, cron do not pass the module
    add its line to /etc/pam.d/common-session-noninteractive
    # printf 'session\toptional\tpam_cargo_target.so\n' >>/etc/pam.d/common-session-noninteractive
1 problem.
[3]

$ echo 'services = !cron,!sudo,!sudo-i' >>/etc/security/cargo-target.conf; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
No problem found.

$ sed -i /services/d /etc/security/cargo-target.conf; heal
problem client-without-module
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

# Includes that loop, or lead nowhere, and a file that is none.
$ cp /etc/pam.d/su /tmp/su; echo '@include su-l' >>/etc/pam.d/su; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /etc/pam.d/su includes itself, if only by way of others: a login by it never ends
    take the include out
problem: /etc/pam.d/su-l includes itself, if only by way of others: a login by it never ends
    take the include out
2 problems.
[3]

$ cp /tmp/su /etc/pam.d/su; echo 'session include absent' >>/etc/pam.d/su; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /etc/pam.d/su includes /etc/pam.d/absent, which does not exist: no session opens by it
    create the one or mend the other
1 problem.
[3]

$ cp /tmp/su /etc/pam.d/su; mkfifo /etc/pam.d/fifo; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /etc/pam.d/fifo cannot be read: it is not a regular file
    make it a file that root can read, or remove it
1 problem.
[3]

$ rm /etc/pam.d/fifo; sed -i 's/^UsePAM/#UsePAM/' /etc/ssh/sshd_config; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: sshd does not use PAM: sessions by ssh do not pass the module
    let it, at the top of /etc/ssh/sshd_config, and restart sshd
    # sed -i '1i UsePAM yes' /etc/ssh/sshd_config
1 problem.
[3]

$ heal
problem sshd-without-pam
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

# A conf with faults.
$ printf 'root = /srv/cargo-target\ngruop = x\nmin_uid = many\n' >/etc/security/cargo-target.conf; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /etc/security/cargo-target.conf:2: unknown key `gruop`
    mend or remove it; did you mean `group`?
problem: /etc/security/cargo-target.conf:3: min_uid: `many` is not a number from 0 to 4294967294
    mend or remove it
2 problems.
[3]

$ cargo-targetctl init --yes >/dev/null; printf 'root = /srv/cargo-target\n' >/etc/security/cargo-target.conf; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

# What dpkg and editors leave beside a service is no service.
$ for end in .dpkg-old .ucf-dist '~' .bak; do echo '@include gone' >/etc/pam.d/sshd$end; done; cargo-targetctl doctor; rm /etc/pam.d/sshd?*
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

# Lines before ours by which a session never comes to it.
$ sed -i '1i session sufficient pam_permit.so' /etc/pam.d/common-session; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:4, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: /etc/pam.d/common-session:1: session sufficient pam_permit.so: where that succeeds, sessions of sshd, login, su, su-l, sudo-i end before the module's line
    move the module's line before it, or take pam_permit.so out
1 problem.
[3]

$ sed -i '1s/.*/session [success=2 default=ignore] pam_succeed_if.so quiet uid = 0/' /etc/pam.d/common-session; cargo-targetctl doctor; echo exit $?
pam_cargo_target.so stands in /etc/pam.d/common-session:4, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
advice: /etc/pam.d/common-session:1: session [success=2 default=ignore] pam_succeed_if.so quiet uid = 0: sessions of sshd, login, su, su-l, sudo-i can jump over the module's line
    move the module's line before it, or take pam_succeed_if.so out
No problem, 1 piece of advice.
exit 0

$ sed -i '1s/success=2/success=1/' /etc/pam.d/common-session; cargo-targetctl doctor; sed -i 1d /etc/pam.d/common-session
pam_cargo_target.so stands in /etc/pam.d/common-session:4, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
No problem found.

# Lines that say different things: each is looked at.
$ sed -i 's/pam_cargo_target.so/& root=\/srv\/gone group=nobodies/' /etc/pam.d/common-session-noninteractive; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: in sessions of sudo, cron: /srv/gone does not exist
    make it
    # cargo-targetctl init --root /srv/gone --yes
problem: in sessions of sudo, cron: there is no group nobodies
    create it, and add the developers
    # groupadd nobodies
advice: the module's lines say different things, so that what one user gets depends on the service: /etc/pam.d/common-session:3 (sshd, login, su, su-l, sudo-i); /etc/pam.d/common-session-noninteractive:3 (sudo, cron)
    say it once for all, in /etc/security/cargo-target.conf
2 problems, 1 piece of advice.
[3]

$ cargo-targetctl doctor --json | jq -c '.findings[] | {id, gravity, fixable}'; sed -i 's/ root=.*//' /etc/pam.d/common-session-noninteractive
{"id":"root-absent","gravity":"problem","fixable":false}
{"id":"no-group","gravity":"problem","fixable":false}
{"id":"lines-differ","gravity":"advice","fixable":false}

# Display managers, a web console, users' services: each by the program that is there.
$ for client in /usr/sbin/gdm3 /usr/sbin/lightdm /usr/bin/sddm /usr/bin/greetd /usr/lib/cockpit/cockpit-ws /lib/systemd/systemd; do mkdir -p $(dirname $client); [[ -e $client ]] || touch $client; done; for service in gdm-password gdm-autologin lightdm greetd cockpit systemd-user; do echo 'session required pam_permit.so' >/etc/pam.d/$service; done; mkdir -p /usr/lib/pam.d; echo 'session include common-session' >/usr/lib/pam.d/sddm; cargo-targetctl doctor
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sddm, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
problem: sessions of cockpit do not pass the module
    add its line to /etc/pam.d/cockpit
    # printf 'session\toptional\tpam_cargo_target.so\n' >>/etc/pam.d/cockpit
problem: sessions of gdm-autologin do not pass the module
    add its line to /etc/pam.d/gdm-autologin
    # printf 'session\toptional\tpam_cargo_target.so\n' >>/etc/pam.d/gdm-autologin
problem: sessions of gdm-password do not pass the module
    add its line to /etc/pam.d/gdm-password
    # printf 'session\toptional\tpam_cargo_target.so\n' >>/etc/pam.d/gdm-password
problem: sessions of greetd do not pass the module
    add its line to /etc/pam.d/greetd
    # printf 'session\toptional\tpam_cargo_target.so\n' >>/etc/pam.d/greetd
problem: sessions of lightdm do not pass the module
    add its line to /etc/pam.d/lightdm
    # printf 'session\toptional\tpam_cargo_target.so\n' >>/etc/pam.d/lightdm
problem: sessions of systemd-user do not pass the module
    add its line to /etc/pam.d/systemd-user
    # printf 'session\toptional\tpam_cargo_target.so\n' >>/etc/pam.d/systemd-user
6 problems.
[3]

$ heal; cat /etc/pam.d/cockpit
problem client-without-module
problem client-without-module
problem client-without-module
problem client-without-module
problem client-without-module
problem client-without-module
pam_cargo_target.so stands in /etc/pam.d/cockpit:2, for cockpit.
pam_cargo_target.so stands in /etc/pam.d/common-session:3, for login, sddm, sshd, su, su-l, sudo-i.
pam_cargo_target.so stands in /etc/pam.d/common-session-noninteractive:3, for cron, sudo.
pam_cargo_target.so stands in /etc/pam.d/gdm-autologin:2, for gdm-autologin.
pam_cargo_target.so stands in /etc/pam.d/gdm-password:2, for gdm-password.
pam_cargo_target.so stands in /etc/pam.d/greetd:2, for greetd.
pam_cargo_target.so stands in /etc/pam.d/lightdm:2, for lightdm.
pam_cargo_target.so stands in /etc/pam.d/systemd-user:2, for systemd-user.
No problem found.
session required pam_permit.so
session	optional	pam_cargo_target.so
