//! A configuration without a file: `--listen ADDR --upstream URL [--ntlm N]`.

use std::path::PathBuf;

use super::error::{Error, Result};
use super::model::LogTarget;
use super::parse::Parser;
use super::{Config, Options, System, build};

impl Config {
    /// One server on `listen` before one upstream server, `http://host[:port]` or `host[:port]`; ports may be 0 to listen.
    /// Stays in the foreground and logs to standard error. `ntlm` is as in the configuration; with 0 nothing is pinned.
    ///
    /// # Errors
    /// As [`super::load`].
    pub fn simple(listen: &str, upstream: &str, ntlm: usize) -> Result<Self> {
        for word in [listen, upstream] {
            if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(Error::new(format!("invalid address \"{word}\"")));
            }
        }
        let upstream = match upstream.contains("://") {
            true => upstream.to_owned(),
            false => format!("http://{upstream}"),
        };
        let ntlm = match ntlm {
            0 => String::new(),
            connections => format!("ntlm {connections};"),
        };
        let text = format!(
            "daemon off;
             pid /dev/null;
             error_log stderr notice;
             worker_processes auto;
             events {{ worker_connections 4096; }}
             http {{
                 server {{
                     listen {};
                     location / {{
                         {ntlm}
                         client_max_body_size 0;
                         proxy_set_header Host $http_host;
                         proxy_read_timeout 1h;
                         proxy_pass {};
                     }}
                 }}
             }}",
            quoted(listen),
            quoted(&upstream),
        );
        let options = Options {
            prefix: PathBuf::new(),
            file: PathBuf::new(),
            globals: None,
            error_log: LogTarget::Stderr,
        };
        let mut parser = Parser::new(&System, PathBuf::new());
        parser.text(&text)?;
        build::config(parser, &options, &System)
    }
}

/// As a word that the lexer gives back as it is.
fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}
