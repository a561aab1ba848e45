//! Whole configurations: what they become, and what is wrong with them.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::model::*;
use super::*;

mod errors;
mod limits;
mod locations;
mod logs;
mod meaning;

/// Files and names of a test.
struct World(BTreeMap<PathBuf, String>);

impl ReadFiles for World {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let text = self.0.get(path).map(|text| text.as_bytes().to_vec());
        text.ok_or_else(|| io::Error::from_raw_os_error(2))
    }

    /// Knows one mask, `DIR/*.conf`.
    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let paths = self
            .0
            .keys()
            .filter(|path| path.parent() == pattern.parent());
        let paths = paths.filter(|path| path.extension().is_some_and(|e| e == "conf"));
        Ok(paths.cloned().collect())
    }
}

impl Resolve for World {
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        match host {
            "localhost" => Ok(vec![[127, 0, 0, 1].into()]),
            "exchange.example" => Ok(vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()]),
            _ => Err(io::Error::other("no such host")),
        }
    }
}

fn options() -> Options {
    Options {
        prefix: PathBuf::from("/p"),
        file: PathBuf::from("conf/f"),
        globals: None,
        error_log: LogTarget::Stderr,
    }
}

/// Loads a text as the configuration file `/p/conf/f`.
fn load_text(text: &str) -> Result<Config> {
    load_with(text, &[], &options())
}

fn load_with(text: &str, others: &[(&str, &str)], options: &Options) -> Result<Config> {
    let main = [("/p/conf/f", text)];
    let files = others.iter().chain(&main);
    let files = files.map(|(path, text)| (PathBuf::from(path), (*text).to_owned()));
    let world = World(files.collect());
    load(options, &world, &world)
}

/// Loads the contents of a server that listens.
fn load_server(text: &str) -> Result<Config> {
    load_text(&format!(
        "events{{}}http{{upstream u{{server 10.0.0.1;}}server{{\n{text}\n}}}}"
    ))
}

const EXCHANGE: &str = include_str!("../../tests/configs/exchange.conf");

proptest! {
    #[test]
    fn nothing_panics(text in "[ a-z$~*={};\"'\\\\\n./:\\[\\]0-9@^()?<>-]{0,80}") {
        let _ = load_text(&text);
        let _ = load_server(&text);
    }
}

#[test]
fn every_cut_is_answered() {
    for (at, _) in EXCHANGE.char_indices() {
        let _ = load_text(&EXCHANGE[..at]);
        let _ = load_text(&EXCHANGE[at..]);
        let after = EXCHANGE[at..].chars().next().map_or(1, char::len_utf8);
        let _ = load_text(&format!("{}{}", &EXCHANGE[..at], &EXCHANGE[at + after..]));
    }
}

#[test]
fn every_honoured_directive_is_read() {
    let sources = [
        include_str!("build/mod.rs"),
        include_str!("build/http.rs"),
        include_str!("build/limit.rs"),
        include_str!("build/listen.rs"),
        include_str!("build/log.rs"),
        include_str!("build/map.rs"),
        include_str!("build/proxy.rs"),
        include_str!("build/scope.rs"),
        include_str!("build/server.rs"),
        include_str!("build/tls.rs"),
        include_str!("build/upstream.rs"),
        include_str!("parse.rs"),
    ]
    .concat();
    for name in directives::honoured() {
        assert!(sources.contains(&format!("\"{name}\"")), "{name}");
    }
}
