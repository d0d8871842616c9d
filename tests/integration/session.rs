//! The promises of a session, row by row: who gets what, and what bad input gets.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use crate::pam::{Call, PAM_PERM_DENIED, PAM_SESSION_ERR, PAM_SUCCESS, Services};
use crate::sandbox::{SyslogSocket, User, add_group, join, module_path, sandboxed};

const ROOT: &str = "/srv/cargo-target";
const CONF: &str = "/etc/security/cargo-target.conf";
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55
# This file is a cache directory tag created by cargo.
# For information about cache directory tags see https://bford.info/cachedir/
";

/// A host with users of every kind, and what came of the last session on it.
struct Host {
    services: Services,
    log: SyslogSocket,
}

/// What one session did.
#[derive(Debug)]
struct Session {
    code: i32,
    environment: Vec<String>,
    /// What stands in the root afterwards, hidden names aside.
    made: BTreeSet<String>,
    log: Vec<String>,
}

impl Host {
    fn new() -> Self {
        add_group("workspace", 4000);
        add_group("contractors", 4001);
        add_group("rust team", 4002);
        User::developer("alice", 2001).add();
        User { gid: 4000, ..User::new("bob", 2002) }.add();
        User::new("carol", 2003).add();
        User { groups: &["workspace", "contractors"], ..User::new("dave", 2004) }.add();
        User::developer("ci-runner", 2005).add();
        User { shell: "/usr/sbin/nologin", ..User::developer("nora", 2006) }.add();
        User { shell: "/bin/false", ..User::developer("fay", 2007) }.add();
        User { shell: "", ..User::developer("bare", 2008) }.add();
        User::developer("doorman", 900).add();
        User { groups: &["rust team"], ..User::new("rita", 2009) }.add();
        User::developer("debug", 2010).add();
        join("root", "workspace");
        let host = Self { services: Services::new(), log: SyslogSocket::bind() };
        host.reset();
        host
    }

    /// Makes the root anew, empty and in order, and no configuration file.
    fn reset(&self) {
        let _ = fs::remove_dir_all(ROOT);
        let _ = fs::remove_file(ROOT);
        fs::create_dir(ROOT).unwrap();
        fs::set_permissions(ROOT, fs::Permissions::from_mode(0o755)).unwrap();
        let _ = fs::remove_file(CONF);
        let _ = fs::remove_dir(CONF);
        self.log.drain();
    }

    /// Opens and closes a session with the module alone in the stack.
    fn session(&self, service: &str, user: Option<&[u8]>, arguments: &str, before: &[&str]) -> Session {
        let module = module_path();
        self.services.write(service, &format!("session required {} {arguments}", module.display()));
        let mut transaction = self.services.start(service, user);
        for assignment in before {
            transaction.put(assignment);
        }
        let code = transaction.call(Call::OpenSession);
        let environment = transaction.environment();
        if code == PAM_SUCCESS {
            assert_eq!(transaction.call(Call::CloseSession), PAM_SUCCESS);
        }
        let made = fs::read_dir(ROOT).map_or_else(
            |_| BTreeSet::new(),
            |entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect(),
        );
        let made = made.into_iter().filter(|name: &String| !name.starts_with('.')).collect();
        Session { code, environment, made, log: self.log.drain_module() }
    }

    /// A session of `user` by ssh, with a root on the pam.d line.
    fn simple(&self, user: &str) -> Session {
        self.session("sshd", Some(user.as_bytes()), &format!("root={ROOT}"), &[])
    }
}

/// One row of a table.
struct Row {
    what: &'static str,
    user: &'static str,
    service: &'static str,
    /// The words of the pam.d line.
    line: &'static str,
    /// The content of the configuration file.
    file: Option<&'static str>,
    /// The environment that earlier modules made.
    before: &'static [&'static str],
    code: i32,
    environment: &'static [&'static str],
    made: &'static [&'static str],
    /// Of each log line, a part; there must be as many.
    log: &'static [&'static str],
}

/// Alice, a member, by ssh, with a root and nothing else: what a row starts from.
const MEMBER: Row = Row {
    what: "",
    user: "alice",
    service: "sshd",
    line: "root=/srv/cargo-target",
    file: None,
    before: &[],
    code: PAM_SUCCESS,
    environment: &["CARGO_TARGET_DIR=/srv/cargo-target/alice"],
    made: &["alice"],
    log: &["provisioned /srv/cargo-target/alice for alice"],
};

/// The same for whom policy skips.
const SKIPPED: Row = Row { environment: &[], made: &[], log: &[], ..MEMBER };

fn assert_rows(rows: &[Row]) {
    let host = Host::new();
    let mut failures = Vec::new();
    for row in rows {
        host.reset();
        if let Some(content) = row.file {
            fs::write(CONF, content).unwrap();
        }
        let got = host.session(row.service, Some(row.user.as_bytes()), row.line, row.before);
        let logged = got.log.len() == row.log.len()
            && got.log.iter().zip(row.log).all(|(line, part)| line.contains(part));
        if got.code != row.code
            || got.environment != row.environment
            || !got.made.iter().eq(row.made.iter())
            || !logged
        {
            failures.push(format!("{} ({}, {}): {got:#?}", row.what, row.user, row.line));
        }
    }
    assert!(failures.is_empty(), "{} of {} rows:\n{}", failures.len(), rows.len(), failures.join("\n"));
}

sandboxed! {
    /// Who is a developer, and who is not.
    fn policy_table() {
        assert_rows(&[
            Row { what: "member by supplementary group", ..MEMBER },
            Row {
                what: "member by primary group", user: "bob",
                environment: &["CARGO_TARGET_DIR=/srv/cargo-target/bob"], made: &["bob"],
                log: &["provisioned /srv/cargo-target/bob for bob"], ..MEMBER
            },
            Row {
                what: "an empty shell is /bin/sh", user: "bare",
                environment: &["CARGO_TARGET_DIR=/srv/cargo-target/bare"], made: &["bare"],
                log: &["provisioned"], ..MEMBER
            },
            Row { what: "not a member", user: "carol", ..SKIPPED },
            Row { what: "root", user: "root", ..SKIPPED },
            Row { what: "root, whatever min_uid", user: "root", line: "root=/srv/cargo-target min_uid=0", ..SKIPPED },
            Row { what: "system uid", user: "doorman", ..SKIPPED },
            Row {
                what: "min_uid lowered", user: "doorman", line: "root=/srv/cargo-target min_uid=900",
                environment: &["CARGO_TARGET_DIR=/srv/cargo-target/doorman"], made: &["doorman"],
                log: &["provisioned"], ..MEMBER
            },
            Row { what: "min_uid raised", line: "root=/srv/cargo-target min_uid=2002", ..SKIPPED },
            Row { what: "min_uid just reached", line: "root=/srv/cargo-target min_uid=2001", ..MEMBER },
            Row { what: "nologin", user: "nora", ..SKIPPED },
            Row { what: "false", user: "fay", ..SKIPPED },
            Row { what: "unknown user", user: "nobody-has-this-name", ..SKIPPED },
            Row { what: "skipped by name", line: "root=/srv/cargo-target skip=carol,alice", ..SKIPPED },
            Row { what: "skip is not a prefix", line: "root=/srv/cargo-target skip=ali,alicea,lice", ..MEMBER },
            Row { what: "skipped by glob", user: "ci-runner", line: "root=/srv/cargo-target skip=ci-*", ..SKIPPED },
            Row { what: "a glob of another", line: "root=/srv/cargo-target skip=ci-*", ..MEMBER },
            Row { what: "skipped by group", user: "dave", line: "root=/srv/cargo-target skip=@contractors", ..SKIPPED },
            Row { what: "skipped by gid", user: "dave", line: "root=/srv/cargo-target skip=@4001", ..SKIPPED },
            Row { what: "not in the skipped group", line: "root=/srv/cargo-target skip=@contractors", ..MEMBER },
            Row { what: "a skipped group without members", line: "root=/srv/cargo-target skip=@gone", ..MEMBER },
            Row { what: "an empty skip", line: "root=/srv/cargo-target skip=", ..MEMBER },
            Row {
                what: "group by gid, supplementary", line: "root=/srv/cargo-target group=4000", ..MEMBER
            },
            Row {
                what: "group by gid, primary", user: "carol", line: "root=/srv/cargo-target group=2003",
                environment: &["CARGO_TARGET_DIR=/srv/cargo-target/carol"], made: &["carol"],
                log: &["provisioned"], ..MEMBER
            },
            Row { what: "any of several groups", line: "root=/srv/cargo-target group=gone,workspace", ..MEMBER },
            Row { what: "a group nobody knows", line: "root=/srv/cargo-target group=gone", ..SKIPPED },
            Row {
                what: "a group with a blank", user: "rita", line: "root=/srv/cargo-target [group=gone, rust team]",
                environment: &["CARGO_TARGET_DIR=/srv/cargo-target/rita"], made: &["rita"],
                log: &["provisioned"], ..MEMBER
            },
            Row { what: "service named", line: "root=/srv/cargo-target services=login,sshd", ..MEMBER },
            Row { what: "service not named", service: "cron", line: "root=/srv/cargo-target services=login,sshd", ..SKIPPED },
            Row { what: "service removed", line: "root=/srv/cargo-target services=!sshd", ..SKIPPED },
            Row { what: "another service removed", line: "root=/srv/cargo-target services=!cron", ..MEMBER },
            Row { what: "no root configured", line: "", ..SKIPPED },
            Row { what: "an empty file", line: "", file: Some(""), ..SKIPPED },
            Row { what: "a root that does not exist", line: "root=/srv/elsewhere", ..SKIPPED },
            Row { what: "a root beneath one that does not exist", line: "root=/srv/else/where", ..SKIPPED },
            Row { what: "a skip is no failure", user: "carol", line: "root=/srv/cargo-target on_error=fail", ..SKIPPED },
            Row { what: "an absent root is no failure", line: "root=/srv/elsewhere on_error=fail", ..SKIPPED },
        ]);
    }

    /// What a developer's session gets, in every form that can be configured.
    fn export_table() {
        assert_rows(&[
            Row { what: "root cleaned", line: "root=//srv///cargo-target/", ..MEMBER },
            Row {
                what: "an earlier value is replaced", before: &["CARGO_TARGET_DIR=/var/cache/shared", "OTHER=1"],
                environment: &["CARGO_TARGET_DIR=/srv/cargo-target/alice", "OTHER=1"], ..MEMBER
            },
            Row {
                what: "a skipped user keeps an earlier value", user: "carol",
                before: &["CARGO_TARGET_DIR=/var/cache/shared"],
                environment: &["CARGO_TARGET_DIR=/var/cache/shared"], ..SKIPPED
            },
            Row {
                what: "export with a suffix", line: "root=/srv/cargo-target export=CARGO_TARGET_DIR:target",
                environment: &["CARGO_TARGET_DIR=/srv/cargo-target/alice/target"], ..MEMBER
            },
            Row {
                what: "several exports",
                line: "root=/srv/cargo-target export=CARGO_TARGET_DIR \
                       export=CARGO_BUILD_BUILD_DIR:build//{workspace-path-hash}/ export=SCCACHE_DIR:sccache",
                environment: &[
                    "CARGO_BUILD_BUILD_DIR=/srv/cargo-target/alice/build/{workspace-path-hash}",
                    "CARGO_TARGET_DIR=/srv/cargo-target/alice",
                    "SCCACHE_DIR=/srv/cargo-target/alice/sccache",
                ],
                ..MEMBER
            },
            Row {
                what: "another variable alone", line: "root=/srv/cargo-target export=GOCACHE:go",
                environment: &["GOCACHE=/srv/cargo-target/alice/go"], ..MEMBER
            },
            Row {
                what: "%U", line: "root=/srv/cargo-target name=%U",
                environment: &["CARGO_TARGET_DIR=/srv/cargo-target/2001"], made: &["2001"],
                log: &["provisioned /srv/cargo-target/2001 for alice"], ..MEMBER
            },
            Row {
                what: "%u@%h", line: "root=/srv/cargo-target name=%u@%h",
                environment: &["CARGO_TARGET_DIR=/srv/cargo-target/alice@sandbox"], made: &["alice@sandbox"],
                log: &["provisioned"], ..MEMBER
            },
            Row {
                what: "%%", line: "root=/srv/cargo-target name=%%%u",
                environment: &["CARGO_TARGET_DIR=/srv/cargo-target/%alice"], made: &["%alice"],
                log: &["provisioned"], ..MEMBER
            },
            Row {
                what: "a name that cargo uses is refused", user: "debug",
                log: &["no directory can be named `debug`, which is a name that cargo uses"], ..SKIPPED
            },
            Row {
                what: "a template rescues it", user: "debug", line: "root=/srv/cargo-target name=user-%u",
                environment: &["CARGO_TARGET_DIR=/srv/cargo-target/user-debug"], made: &["user-debug"],
                log: &["provisioned"], ..MEMBER
            },
            Row { what: "a hidden name", line: "root=/srv/cargo-target name=.%u", log: &["starts with `.`"], ..SKIPPED },
            Row { what: "a name like an option", line: "root=/srv/cargo-target name=-%u", log: &["starts with `-`"], ..SKIPPED },
            Row {
                what: "debug", line: "root=/srv/cargo-target debug",
                log: &["provisioned", "(sshd:session) alice gets CARGO_TARGET_DIR=/srv/cargo-target/alice"], ..MEMBER
            },
            Row {
                what: "debug, skipped", user: "carol", line: "root=/srv/cargo-target debug",
                log: &["(sshd:session) carol gets nothing: in none of the configured groups"], ..SKIPPED
            },
            Row {
                what: "debug, no root configured", line: "debug",
                log: &["alice gets nothing: no root is configured"], ..SKIPPED
            },
        ]);
    }

    /// Two places, one grammar: the pam.d line wins, key by key.
    fn precedence_table() {
        assert_rows(&[
            Row { what: "from the file", line: "", file: Some("root=/srv/cargo-target"), ..MEMBER },
            Row {
                what: "blanks and comments", line: "",
                file: Some("\t# a comment\n\n  root \t=  /srv/cargo-target  \r\n#group = none\n group = gone , workspace\n"),
                ..MEMBER
            },
            Row { what: "no # within a line", line: "", file: Some("root = /srv/cargo-target # here\n"), ..SKIPPED },
            Row {
                what: "the line wins", line: "root=/srv/cargo-target group=workspace",
                file: Some("root = /srv/elsewhere\ngroup = gone\n"), ..MEMBER
            },
            Row {
                what: "key by key", user: "carol", line: "root=/srv/cargo-target",
                file: Some("root = /srv/elsewhere\ngroup = carol\n"),
                environment: &["CARGO_TARGET_DIR=/srv/cargo-target/carol"], made: &["carol"], log: &["provisioned"], ..MEMBER
            },
            Row { what: "the last of two wins", line: "root=/srv/elsewhere root=/srv/cargo-target", ..MEMBER },
            Row { what: "a bad value that is replaced is no loss", line: "root=relative root=/srv/cargo-target",
                log: &["argument 1: root: `relative` is not an absolute path", "provisioned"], ..MEMBER },
            Row {
                what: "any export of the line replaces all of the file", line: "root=/srv/cargo-target export=A",
                file: Some("export = B\nexport = C:c\n"), environment: &["A=/srv/cargo-target/alice"], ..MEMBER
            },
            Row {
                what: "exports of the file add", line: "root=/srv/cargo-target", file: Some("export = B\nexport = C:c\n"),
                environment: &["B=/srv/cargo-target/alice", "C=/srv/cargo-target/alice/c"], ..MEMBER
            },
            Row {
                what: "bare debug in the file", line: "root=/srv/cargo-target", file: Some("debug\n"),
                log: &["provisioned", "alice gets"], ..MEMBER
            },
            Row {
                what: "debug switched off on the line", line: "root=/srv/cargo-target debug=off",
                file: Some("debug\n"), ..MEMBER
            },
            Row {
                what: "a bad value of the line gives the default, not the file's",
                line: "root=/srv/cargo-target export=PATH", file: Some("export = B\n"),
                log: &["argument 2: export: PATH decides", "provisioned"], ..MEMBER
            },
        ]);
    }

    /// What cannot be used is named with its place, and stops the session's provisioning only where its
    /// loss would widen what the module does.
    fn bad_settings_table() {
        const PATH_IS_LOST: &[&str] = &["nothing done for alice: argument 1: root: "];
        assert_rows(&[
            Row {
                what: "unknown key on the line", line: "root=/srv/cargo-target colour=green",
                log: &["in the configuration: argument 2: unknown key `colour`", "provisioned"], ..MEMBER
            },
            Row {
                what: "unknown keys in the file, one line for all", line: "root=/srv/cargo-target",
                file: Some("# first\ncolour = green\nshape round\n"),
                log: &["/etc/security/cargo-target.conf:2: unknown key `colour`; /etc/security/cargo-target.conf:3: \
                        unknown key `shape`", "provisioned"], ..MEMBER
            },
            Row {
                what: "a long list is cut", line: "root=/srv/cargo-target a b c d e f g h i j",
                log: &["unknown key `h`; and 2 more", "provisioned"], ..MEMBER
            },
            Row { what: "a typo in root is told to a member", line: "rooot=/srv/cargo-target",
                log: &["argument 1: unknown key `rooot`"], ..SKIPPED },
            Row { what: "but not to others", user: "carol", line: "rooot=/srv/cargo-target", ..SKIPPED },
            Row { what: "nothing to system users", user: "doorman", line: "root=/srv/cargo-target mode=0777", ..SKIPPED },
            Row { what: "nothing to non-members", user: "carol", line: "root=/srv/cargo-target mode=0777", ..SKIPPED },
            Row { what: "nothing where the root is absent", line: "root=/srv/elsewhere mode=0777", ..SKIPPED },
            Row { what: "mode 0777", line: "root=/srv/cargo-target mode=0777",
                log: &["nothing done for alice: argument 2: mode: `0777` would let others write"], ..SKIPPED },
            Row { what: "mode 0720", line: "root=/srv/cargo-target mode=0720", log: &["argument 2: mode: `0720` would let"], ..SKIPPED },
            Row { what: "mode 02700", line: "root=/srv/cargo-target mode=02700", log: &["special bit"], ..SKIPPED },
            Row { what: "mode 0500", line: "root=/srv/cargo-target mode=0500", log: &["does not give the user all"], ..SKIPPED },
            Row { what: "mode rwx", line: "root=/srv/cargo-target mode=rwx", log: &["not an octal mode"], ..SKIPPED },
            Row { what: "mode +700", line: "root=/srv/cargo-target mode=+700", log: &["not an octal mode"], ..SKIPPED },
            Row { what: "mode empty", line: "root=/srv/cargo-target mode=", log: &["not an octal mode"], ..SKIPPED },
            Row { what: "min_uid", line: "root=/srv/cargo-target min_uid=many", log: &["argument 2: min_uid: `many` is not a number"], ..SKIPPED },
            Row { what: "min_uid without =", line: "root=/srv/cargo-target", file: Some("min_uid 2000\n"),
                log: &["cargo-target.conf:1: `min_uid` has no value; write min_uid=VALUE"], ..SKIPPED },
            Row { what: "min_uid too large", line: "root=/srv/cargo-target min_uid=4294967295", log: &["not a number"], ..SKIPPED },
            Row { what: "export name", line: "root=/srv/cargo-target export=1X", log: &["`1X` is not the name", "provisioned"], ..MEMBER },
            Row { what: "export PATH", line: "root=/srv/cargo-target export=PATH", log: &["PATH decides", "provisioned"], ..MEMBER },
            Row { what: "export LD_PRELOAD", line: "root=/srv/cargo-target export=LD_PRELOAD:x", log: &["LD_PRELOAD decides", "provisioned"], ..MEMBER },
            Row { what: "one bad export of two", line: "root=/srv/cargo-target export=A export=B:../b",
                environment: &["A=/srv/cargo-target/alice"], log: &["`.` or `..` component", "provisioned"], ..MEMBER },
            Row { what: "export absolute", line: "root=/srv/cargo-target export=A:/b", log: &["is absolute", "provisioned"], ..MEMBER },
            Row { what: "group empty", line: "root=/srv/cargo-target group=", log: &["empty element"], ..SKIPPED },
            Row { what: "group list", line: "root=/srv/cargo-target group=workspace,", log: &["empty element"], ..SKIPPED },
            Row { what: "skip @", line: "root=/srv/cargo-target skip=@", log: &["`@` names no group"], ..SKIPPED },
            Row { what: "services !", line: "root=/srv/cargo-target services=!", log: &["`!` names no service"], ..SKIPPED },
            Row { what: "name without user", line: "root=/srv/cargo-target name=cache", log: &["neither %u nor %U"], ..SKIPPED },
            Row { what: "name %x", line: "root=/srv/cargo-target name=%u%x", log: &["not %u, %U, %h or %%"], ..SKIPPED },
            Row { what: "name with a slash", line: "root=/srv/cargo-target name=x/%u", log: &["contains `/`"], ..SKIPPED },
            Row { what: "on_error", line: "root=/srv/cargo-target on_error=explode", log: &["neither ignore nor fail", "provisioned"], ..MEMBER },
            Row { what: "timeout", line: "root=/srv/cargo-target timeout=0", log: &["seconds from 1 to 60", "provisioned"], ..MEMBER },
            Row { what: "debug", line: "root=/srv/cargo-target debug=maybe", log: &["neither on nor off", "provisioned"], ..MEMBER },
            Row { what: "conf in the file", line: "root=/srv/cargo-target", file: Some("conf = /etc/x\n"),
                log: &["only stand on the pam.d line", "provisioned"], ..MEMBER },
            Row { what: "relative root", line: "root=srv/cargo-target", log: PATH_IS_LOST, ..SKIPPED },
            Row { what: "root /", line: "root=//", log: PATH_IS_LOST, ..SKIPPED },
            Row { what: "root with ..", line: "root=/srv/x/../cargo-target", log: PATH_IS_LOST, ..SKIPPED },
            Row { what: "root with .", line: "root=/srv/./cargo-target", log: PATH_IS_LOST, ..SKIPPED },
            Row { what: "root with a colon", line: "root=/srv/cargo:target", log: PATH_IS_LOST, ..SKIPPED },
            Row { what: "root empty", line: "root=", log: PATH_IS_LOST, ..SKIPPED },
            Row { what: "root bare", line: "root", log: &["nothing done for alice: argument 1: `root` has no value"], ..SKIPPED },
            Row { what: "fail on a lost setting", line: "root=/srv/cargo-target mode=0777 on_error=fail",
                code: PAM_SESSION_ERR, log: &["nothing done"], ..SKIPPED },
            Row { what: "fail on any bad setting", line: "root=/srv/cargo-target colour=green on_error=fail",
                code: PAM_SESSION_ERR, log: &["unknown key", "provisioned"], ..MEMBER },
            Row { what: "fail on a refusal", user: "debug", line: "root=/srv/cargo-target on_error=fail",
                code: PAM_SESSION_ERR, log: &["no directory can be named"], ..SKIPPED },
            Row { what: "fail does nothing to others", user: "carol", line: "root=/srv/cargo-target mode=0777 on_error=fail", ..SKIPPED },
        ]);
    }

    /// A configuration file is trusted like code, so it must be root's alone; a fault in it names it and
    /// leaves the login alone.
    fn configuration_file_must_be_roots_alone() {
        let host = Host::new();
        let line = format!("root={ROOT}");
        let refused = |what: &str, part: &str| {
            let got = host.session("sshd", Some(b"alice"), &line, &[]);
            assert_eq!((got.code, got.environment.len(), got.made.len()), (PAM_SUCCESS, 0, 0), "{what}: {got:?}");
            let [only] = got.log.as_slice() else { panic!("{what}: {got:?}") };
            assert!(only.contains(CONF) && only.contains(part), "{what}: {only}");
            assert!(!host.session("sshd", Some(b"carol"), &line, &[]).log.iter().any(|_| true), "{what}: carol");
            host.reset();
        };
        let write = |content: &[u8]| fs::write(CONF, content).unwrap();

        write(b"\x7fELF\x02\x01\x01\0\0\0");
        refused("binary", "NUL byte in line 1");
        write(b"# one\nroot = /caf\xe9\n");
        refused("not UTF-8", "line 2 is not UTF-8");
        write(&vec![b'#'; 64 * 1024 + 1]);
        refused("too large", "larger than 64 KiB");
        fs::create_dir(CONF).unwrap();
        refused("a directory", "is a directory");
        nix::unistd::mkfifo(CONF, nix::sys::stat::Mode::S_IRWXU).unwrap();
        refused("a FIFO", "is a FIFO");
        symlink(CONF, CONF).unwrap();
        refused("a loop", "cannot be read");
        symlink("/dev/zero", CONF).unwrap();
        refused("a device", "a special file");
        write(b"");
        chown(CONF, Some(2001), None).unwrap();
        refused("another's", "belongs to uid 2001");
        write(b"");
        fs::set_permissions(CONF, fs::Permissions::from_mode(0o664)).unwrap();
        refused("writable by the group", "mode 0664");

        // A large but allowed file, and one behind root's own link, are in order.
        write(&vec![b'\n'; 64 * 1024]);
        assert_eq!(host.simple("alice").made.len(), 1);
        host.reset();
        fs::write("/etc/security/real.conf", format!("root={ROOT}")).unwrap();
        symlink("real.conf", CONF).unwrap();
        assert_eq!(host.session("sshd", Some(b"alice"), "", &[]).made.len(), 1);
        host.reset();

        // conf= names another file, which must be there.
        let named = |line: &str| host.session("sshd", Some(b"alice"), line, &[]);
        assert_eq!(named("conf=/etc/security/real.conf").made.len(), 1);
        host.reset();
        // With blanks it is the same setting, and without a value it does not fall back on the default file.
        for line in ["[conf = /etc/security/real.conf]", "[ conf=/etc/security/real.conf ]"] {
            assert_eq!(named(line).made.len(), 1, "{line}");
            host.reset();
        }
        for (line, part) in [
            ("conf root=/srv/cargo-target", "is not an absolute path"),
            ("[conf /etc/security/real.conf]", "is not an absolute path"),
            ("conf=/etc/security/gone.conf root=/srv/cargo-target", "/etc/security/gone.conf: does not exist"),
            ("conf=real.conf root=/srv/cargo-target", "real.conf: is not an absolute path"),
            ("conf= root=/srv/cargo-target", "is not an absolute path"),
        ] {
            let got = named(line);
            assert_eq!((got.code, got.made.len(), got.log.len()), (PAM_SUCCESS, 0, 1), "{line}: {got:?}");
            assert!(got.log[0].contains(part), "{line}: {got:?}");
        }
    }

    /// Names that no directory may have are never created, whatever `PAM_USER` says.
    fn hostile_user_names_get_nothing() {
        let host = Host::new();
        let long = [b'a'; 300];
        let names: [Option<&[u8]>; 13] = [
            None, Some(b""), Some(b"."), Some(b".."), Some(b"/"), Some(b"alice/"), Some(b"../alice"), Some(b"a:b"),
            Some(b"a=b"), Some(b"a\nb"), Some(b"\x1b[2J"), Some(b"caf\xe9"), Some(&long),
        ];
        for name in names {
            let got = host.session("sshd", name, &format!("root={ROOT} debug"), &[]);
            assert_eq!((got.code, got.environment.len(), got.made.len()), (PAM_SUCCESS, 0, 0), "{name:?}: {got:?}");
            let [line] = got.log.as_slice() else { panic!("{name:?}: {got:?}") };
            assert!(line.starts_with("<87>") && !line.contains(char::is_control), "{name:?}: {line:?}");
        }
    }

    /// The root, and all that leads to it, must be root's; each refusal names the path and the remedy.
    fn unsafe_roots_are_refused() {
        let host = Host::new();
        let refused = |what: &str, root: &str, part: &str| {
            let got = host.session("sshd", Some(b"alice"), &format!("root={root}"), &[]);
            assert_eq!((got.code, got.environment.len()), (PAM_SUCCESS, 0), "{what}: {got:?}");
            let [line] = got.log.as_slice() else { panic!("{what}: {got:?}") };
            assert!(line.starts_with("<84>") && line.contains(part), "{what}: {line}");
            for made in ["alice/CACHEDIR.TAG", ".staging", "CACHEDIR.TAG"] {
                assert!(!Path::new(root).join(made).exists(), "{what}: {made}");
            }
            assert_eq!(host.session("sshd", Some(b"carol"), &format!("root={root}"), &[]).log.len(), 0, "{what}");
        };
        let mode = |path: &str, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();

        fs::create_dir_all("/srv/team/cache").unwrap();
        refused("above the home", "/home", "/home is, or contains, the user's home directory");
        refused("the home", "/home/alice", "/home/alice is, or contains, the user's home directory");
        symlink("/srv/team/cache", "/srv/link").unwrap();
        refused("a symlink", "/srv/link", "/srv/link is a symbolic link");
        symlink("/srv/team", "/srv/way").unwrap();
        refused("a symlink on the way", "/srv/way/cache", "/srv/way is a symbolic link");
        fs::write("/srv/file", "").unwrap();
        refused("a file", "/srv/file", "/srv/file is not a directory");
        mode("/srv/team/cache", 0o775);
        refused("group-writable", "/srv/team/cache", "run: chmod go-w /srv/team/cache");
        mode("/srv/team/cache", 0o2775);
        refused("setgid", "/srv/team/cache", "(mode 2775) is writable");
        mode("/srv/team/cache", 0o755);
        mode("/srv/team", 0o757);
        refused("writable ancestor", "/srv/team/cache", "/srv/team (mode 0757) is writable");
        mode("/srv/team", 0o755);
        chown("/srv/team", Some(2002), None).unwrap();
        refused("another's ancestor", "/srv/team/cache", "run: chown -h root /srv/team");
        chown("/srv/team", Some(0), None).unwrap();
        assert_eq!(host.session("sshd", Some(b"alice"), "root=/srv/team/cache on_error=fail", &[]).code, PAM_SUCCESS);

        // A sticky root is accepted, and so is a sticky directory on the way to one.
        mode("/srv/team", 0o1777);
        fs::create_dir("/srv/team/sticky").unwrap();
        mode("/srv/team/sticky", 0o1777);
        let got = host.session("sshd", Some(b"alice"), "root=/srv/team/sticky", &[]);
        assert_eq!(got.environment, ["CARGO_TARGET_DIR=/srv/team/sticky/alice"]);
    }

    /// What is made is the user's, private, tagged, and nothing is left beside it.
    fn member_gets_a_private_directory() {
        let host = Host::new();
        // Whatever the host's umask is, and whatever the parent hands down.
        chown(ROOT, None, Some(4000)).unwrap();
        fs::set_permissions(ROOT, fs::Permissions::from_mode(0o2755)).unwrap();
        for umask in [0o000, 0o022, 0o077, 0o777] {
            let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(umask));
            let got = host.simple("alice");
            nix::sys::stat::umask(before);
            assert_eq!(got.environment, ["CARGO_TARGET_DIR=/srv/cargo-target/alice"], "{got:?}");
            let made = fs::metadata("/srv/cargo-target/alice").unwrap();
            assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (2001, 2001, 0o700), "umask {umask:o}");
            let tag = fs::symlink_metadata("/srv/cargo-target/alice/CACHEDIR.TAG").unwrap();
            assert_eq!((tag.uid(), tag.gid(), tag.mode()), (2001, 2001, 0o100_644), "umask {umask:o}");
            assert_eq!(fs::read_to_string("/srv/cargo-target/alice/CACHEDIR.TAG").unwrap(), TAG);
            assert_eq!(TAG.len(), 177);
            assert_eq!(fs::read_dir("/srv/cargo-target/.staging").unwrap().count(), 0, "litter");
            fs::remove_dir_all("/srv/cargo-target/alice").unwrap();
            fs::remove_dir_all("/srv/cargo-target/.staging").unwrap();
        }
        let got = host.session("sshd", Some(b"alice"), &format!("root={ROOT} mode=0755"), &[]);
        assert_eq!(got.code, PAM_SUCCESS);
        assert_eq!(fs::metadata("/srv/cargo-target/alice").unwrap().mode() & 0o7777, 0o755);
    }

    /// The first login says what it made, in one line; later ones say nothing and change nothing.
    fn second_login_is_silent() {
        let host = Host::new();
        let first = host.simple("alice");
        let pid = std::process::id();
        let expected =
            format!("<86>pam_cargo_target[{pid}]: (sshd:session) provisioned /srv/cargo-target/alice for alice");
        assert_eq!(first.log, [expected]);
        let stat = || {
            let found = fs::metadata("/srv/cargo-target/alice").unwrap();
            (found.ino(), found.ctime(), found.ctime_nsec(), found.mtime_nsec())
        };
        let before = stat();
        let second = host.simple("alice");
        assert_eq!(second.log, Vec::<String>::new());
        assert_eq!(second.environment, first.environment);
        assert_eq!(stat(), before);
    }

    /// What stands at the name is accepted or refused, never changed.
    fn existing_directory_is_judged_and_never_changed() {
        let host = Host::new();
        let path = Path::new("/srv/cargo-target/alice");
        let make = |uid, mode| {
            host.reset();
            fs::create_dir(path).unwrap();
            chown(path, Some(uid), Some(uid)).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        for mode in [0o700, 0o755, 0o750, 0o500, 0o000] {
            make(2001, mode);
            let got = host.simple("alice");
            assert_eq!((got.environment.len(), got.log.len()), (1, 0), "{mode:o}: {got:?}");
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, mode);
            assert_eq!(fs::read_to_string(path.join("CACHEDIR.TAG")).unwrap(), TAG, "{mode:o}");
        }
        for (uid, mode, part) in [
            (2001, 0o777, "mode 0777) is writable by group or others"),
            (2001, 0o770, "mode 0770) is writable by group or others"),
            (2001, 0o1777, "mode 1777) is writable by group or others"),
            (2002, 0o700, "belongs to uid 2002, not to uid 2001"),
            (0, 0o755, "belongs to uid 0, not to uid 2001"),
        ] {
            make(uid, mode);
            let got = host.simple("alice");
            assert_eq!((got.code, got.environment.len(), got.log.len()), (PAM_SUCCESS, 0, 1), "{mode:o}: {got:?}");
            assert!(got.log[0].contains(part), "{got:?}");
            let found = fs::metadata(path).unwrap();
            assert_eq!((found.uid(), found.mode() & 0o7777), (uid, mode));
            assert_eq!(fs::read_dir(path).unwrap().count(), 0, "a tag was put into {uid} {mode:o}");
        }
    }

    /// The variable is left as it was found when there is no directory to name.
    fn fault_leaves_an_earlier_value() {
        let host = Host::new();
        fs::write("/srv/cargo-target/alice", "").unwrap();
        let got = host.session("sshd", Some(b"alice"), &format!("root={ROOT}"), &["CARGO_TARGET_DIR=/old"]);
        assert_eq!((got.code, got.environment.as_slice()), (PAM_SUCCESS, &["CARGO_TARGET_DIR=/old".to_owned()][..]));
        let expected = "<84>pam_cargo_target[";
        assert!(got.log.len() == 1 && got.log[0].starts_with(expected), "{got:?}");
        assert!(got.log[0].contains("/srv/cargo-target/alice is a file, not a directory"), "{got:?}");
    }

    /// Every entry point's answer, with the module alone in its stack. `PAM_IGNORE` from a sole module makes
    /// libpam deny: the module vouches for nobody.
    fn return_code_of_every_entry_point() {
        let host = Host::new();
        let module = module_path();
        for (call, facility, code) in [
            (Call::Authenticate, "auth", PAM_PERM_DENIED),
            (Call::SetCredentials, "auth", PAM_PERM_DENIED),
            (Call::Account, "account", PAM_PERM_DENIED),
            (Call::ChangeToken, "password", PAM_PERM_DENIED),
            (Call::OpenSession, "session", PAM_SUCCESS),
            (Call::CloseSession, "session", PAM_SUCCESS),
        ] {
            host.services.write("sole", &format!("{facility} required {} root={ROOT}", module.display()));
            assert_eq!(host.services.start("sole", Some(b"alice")).call(call), code, "{call:?}");
        }
    }

    /// Without root's rights there is nothing to make and nothing to say; what is ready is exported.
    fn unprivileged_host_exports_what_is_ready() {
        let host = Host::new();
        let uid = |uid| nix::unistd::seteuid(nix::unistd::Uid::from_raw(uid)).unwrap();
        // The service is written as root; only the session runs as alice.
        host.services.write("locker", &format!("session required {} root={ROOT}", module_path().display()));
        let session = || {
            uid(2001);
            let mut transaction = host.services.start("locker", Some(b"alice"));
            let code = transaction.call(Call::OpenSession);
            uid(0);
            (code, transaction.environment())
        };
        assert_eq!(session(), (PAM_SUCCESS, vec![]));
        assert_eq!(host.log.drain_module(), Vec::<String>::new());
        host.simple("alice");
        assert_eq!(session(), (PAM_SUCCESS, vec!["CARGO_TARGET_DIR=/srv/cargo-target/alice".to_owned()]));
    }
}
