//! The configuration that the package ships, and the sites in `docs/examples`: each of them is right.

#![allow(clippy::unwrap_used)] // a test: a panic is a failure

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::front::BINARY;
use crate::prefix::{Prefix, Ran, is_root, nobodys_group, run};
use crate::tls::pki::Pki;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn examples() -> Vec<PathBuf> {
    let files = fs::read_dir(root().join("docs/examples")).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// What the package installs, in a directory instead of `/`, with these sites.
fn installed(sites: &[PathBuf]) -> Prefix {
    let prefix = Prefix::new();
    let conf = fs::read_to_string(root().join("tools/debian/ntlmfront.conf")).unwrap();
    let group = nobodys_group();
    let conf = conf
        .replace("user ntlmfront;", &format!("user nobody {group};"))
        .replace("/run/ntlmfront/", &prefix.name(""))
        .replace("/var/log/ntlmfront/", &prefix.name("logs/"));
    prefix.write("ntlmfront.conf", &conf);
    for directory in ["conf.d", "certs"] {
        fs::create_dir(prefix.path().join(directory)).unwrap();
    }
    let mut certificates = BTreeSet::new();
    for site in sites {
        let text = fs::read_to_string(site).unwrap();
        let names = text.split("certs/").skip(1);
        certificates.extend(names.map(|name| {
            let name = name.split(';').next().unwrap();
            name.trim_end_matches(".pem")
                .trim_end_matches(".key")
                .to_owned()
        }));
        let name = site.file_name().unwrap().to_str().unwrap();
        prefix.write(&format!("conf.d/{name}"), &text);
    }
    let mut pki = Pki::new();
    for called in certificates {
        pki.add(&called, &[&called]);
        for kind in ["pem", "key"] {
            let name = format!("{called}.{kind}");
            fs::copy(pki.path(&name), prefix.path().join("certs").join(&name)).unwrap();
        }
    }
    prefix
}

/// `-t` in a network of its own: every port is free there, and the servers' addresses lead nowhere.
fn test(prefix: &Prefix) -> Ran {
    let mut command = Command::new("unshare");
    command.args(["--net", BINARY, "-t", "-c"]);
    command.arg(prefix.path().join("ntlmfront.conf"));
    command.arg("-p").arg(prefix.path());
    run(command)
}

#[track_caller]
fn assert_right(sites: &[PathBuf]) {
    let prefix = installed(sites);
    let ran = test(&prefix);
    assert_eq!(ran.code, Some(0), "{sites:?}: {ran:?}");
    // Nothing of what an example says is without effect.
    let warnings = ran.stderr.lines().filter(|line| line.contains("[warn]"));
    let warnings: Vec<_> = warnings
        .filter(|line| !line.contains("Network is unreachable"))
        .collect();
    assert_eq!(warnings, Vec::<&str>::new(), "{sites:?}");
}

#[test]
fn the_packaged_configuration_is_right() {
    if is_root() {
        assert_right(&[]);
    }
}

#[test]
fn every_example_is_right_alone_and_beside_the_others() {
    if !is_root() {
        return;
    }
    let examples = examples();
    assert!(examples.len() >= 4, "{examples:?}");
    for example in &examples {
        assert_right(std::slice::from_ref(example));
    }
    assert_right(&examples);
}

#[test]
fn a_mistake_in_an_example_would_show() {
    if !is_root() {
        return;
    }
    for (right, wrong) in [
        ("ntlm_timeout 15m;", "ntlm_timeout fifteen;"),
        ("certs/mail.example.com.key;", "certs/authority.key;"),
        (
            "proxy_pass https://exchange;",
            "proxy_pass https://exchang;",
        ),
    ] {
        let prefix = installed(&examples());
        let site = prefix.read("conf.d/exchange.conf");
        assert!(site.contains(right));
        prefix.write("conf.d/exchange.conf", &site.replace(right, wrong));
        assert_eq!(test(&prefix).code, Some(1), "{wrong}");
    }
}
