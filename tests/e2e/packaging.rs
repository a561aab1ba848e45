//! The unit that the package ships, as systemd's own tools see it. `tools/package-test` installs and runs it.

#![allow(clippy::unwrap_used)] // a test: a panic is a failure

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::front::BINARY;
use crate::prefix::{Ran, run};

/// A copy of the unit that starts the binary under test and has no manual.
fn unit() -> (TempDir, PathBuf) {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/debian/ntlmfront.service");
    let unit = fs::read_to_string(unit).unwrap();
    assert!(unit.contains("ExecStart=/usr/sbin/ntlmfront "));
    let unit = unit
        .replace("/usr/sbin/ntlmfront ", &format!("{BINARY} "))
        .replace("man:ntlmfront(8) ", "");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ntlmfront.service");
    fs::write(&path, unit).unwrap();
    (directory, path)
}

fn analyze(arguments: &[&str], unit: &Path) -> Ran {
    let mut command = Command::new("systemd-analyze");
    command.args(arguments).arg(unit);
    run(command)
}

/// The number in `systemd 252 (…)`.
fn systemd_version() -> u32 {
    let mut command = Command::new("systemd-analyze");
    command.arg("--version");
    let said = run(command).stdout;
    let number = said.split_whitespace().nth(1).unwrap();
    let digits = number.split(|letter: char| !letter.is_ascii_digit());
    digits.into_iter().next().unwrap().parse().unwrap()
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let (_directory, unit) = unit();
    let said = analyze(&["verify", "--man=no"], &unit).stderr;
    let known = systemd_version() < 253;
    let wrong: Vec<_> = said
        .lines()
        .filter(|line| line.contains("ntlmfront.service"))
        .filter(|line| !(known && line.ends_with("ignoring: notify-reload")))
        .collect();
    assert_eq!(wrong, Vec::<&str>::new());
}

#[test]
fn the_unit_stays_hardened() {
    let (_directory, unit) = unit();
    // 2.0, where 10 is the worst.
    let judged = |unit: &Path| {
        let arguments = ["security", "--offline=yes", "--no-pager", "--threshold=20"];
        analyze(&arguments, unit)
    };
    let ran = judged(&unit);
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    fs::write(&unit, "[Service]\nExecStart=/bin/true\n").unwrap();
    assert_eq!(judged(&unit).code, Some(1), "one that is not would show");
}
