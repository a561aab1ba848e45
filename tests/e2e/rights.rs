//! `user`, and what is read and written before and after it takes effect.

#![allow(clippy::unwrap_used)] // a test: a panic is a failure

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};

use crate::front::eventually;
use crate::prefix::{HELLO, Prefix, get, is_root, nobody, nobodys_group, run};
use crate::tls::pki::Pki;

const UNREADABLE: &str = "reloads and renewals will fail, since they are made as \"user\": ";

/// Certificates in a directory that anybody may enter, whose key is root's alone; and a server that shows them.
fn roots_key() -> (Pki, String) {
    let pki = Pki::new();
    fs::set_permissions(pki.path(""), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(pki.path("mail.key"), Permissions::from_mode(0o600)).unwrap();
    let http = format!(
        "{HELLO} server {{ listen 127.0.0.1:0 ssl; {} return 200 tls; }}",
        pki.directives("mail")
    );
    (pki, http)
}

#[test]
fn what_root_tests_is_fit_for_the_user() {
    if !is_root() {
        return;
    }
    let (pki, http) = roots_key();
    let http = format!("access_log logs/access.log; {http}");
    let prefix = Prefix::with(&format!("user nobody {};", nobodys_group()), &http);
    let tested = prefix.run(&["-t"]);
    assert_eq!(tested.code, Some(0), "{tested:?}");
    let warning = format!("ntlmfront: [warn] {UNREADABLE}");
    assert_eq!(tested.stderr.matches(&warning).count(), 1, "{tested:?}");
    assert!(tested.stderr.contains("mail.key"), "{tested:?}");
    for log in ["logs/error.log", "logs/access.log"] {
        let log = fs::metadata(prefix.path().join(log)).unwrap();
        assert_eq!((log.uid(), log.gid()), (nobody().0, 0), "its group stays");
    }
    fs::set_permissions(pki.path("mail.key"), Permissions::from_mode(0o644)).unwrap();
    let tested = prefix.run(&["-t"]);
    assert_eq!(tested.code, Some(0));
    assert!(!tested.stderr.contains("[warn]"), "{tested:?}");
}

#[test]
fn a_key_that_root_alone_may_read_is_shown_until_it_is_renewed() {
    if !is_root() {
        return;
    }
    let (mut pki, http) = roots_key();
    let prefix = Prefix::with(&format!("user nobody {};", nobodys_group()), &http);
    let ran = prefix.run(&[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let daemon = prefix.running_daemon();
    let log = prefix.error_log();
    assert_eq!(log.matches(UNREADABLE).count(), 1, "{log}");
    assert_eq!(get(prefix.listening()[0], "/").unwrap().0, 200);
    // The renewal comes as root writes it, and is nothing to this process.
    fs::remove_file(pki.path("mail.key")).unwrap();
    pki.add("mail", &["mail.test"]);
    fs::set_permissions(pki.path("mail.key"), Permissions::from_mode(0o600)).unwrap();
    let kept = "the old certificate is kept";
    eventually(kept, || prefix.error_log().contains(kept).then_some(()));
    fs::set_permissions(pki.path("mail.key"), Permissions::from_mode(0o644)).unwrap();
    eventually("the renewal", || {
        prefix.error_log().contains("\" renewed").then_some(())
    });
    assert_eq!(prefix.run(&["-s", "stop"]).code, Some(0));
    daemon.wait();
}

#[test]
fn who_is_the_user_already_hears_nothing_of_it() {
    if !is_root() {
        return;
    }
    let prefix = Prefix::with(&format!("user nobody {};", nobodys_group()), HELLO);
    fs::set_permissions(prefix.path().join("logs"), Permissions::from_mode(0o777)).unwrap();
    let ran = run(prefix.front_as_nobody(&[]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let daemon = prefix.running_daemon();
    assert!(!prefix.error_log().contains("[warn]"));
    assert_eq!(run(prefix.front_as_nobody(&["-s", "quit"])).code, Some(0));
    daemon.wait();
}

/// Whoever may write to the directory of the pid file can have made a link there.
#[test]
fn the_pid_file_empties_nothing_that_somebody_else_s_link_leads_to() {
    if !is_root() {
        return;
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let roots = elsewhere.path().join("file");
    let link_of = |prefix: &Prefix, uid: u32| {
        fs::write(&roots, "of value").unwrap();
        let link = prefix.path().join("logs/front.pid");
        symlink(&roots, &link).unwrap();
        lchown(link, Some(uid), None).unwrap();
    };
    let prefix = Prefix::with(&format!("user nobody {};", nobodys_group()), HELLO);
    link_of(&prefix, nobody().0);
    for arguments in [&["-t"][..], &[]] {
        let ran = prefix.run(arguments);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let refused = "front.pid\" failed (40: Too many levels of symbolic links)";
        assert!(ran.stderr.contains(refused), "{ran:?}");
        assert_eq!(fs::read_to_string(&roots).unwrap(), "of value");
    }
    // Root's own is followed.
    let prefix = Prefix::with("", HELLO);
    link_of(&prefix, 0);
    let daemon = prefix.daemon();
    assert_eq!(prefix.run(&["-s", "stop"]).code, Some(0));
    daemon.wait();
}
