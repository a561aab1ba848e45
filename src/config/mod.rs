//! The configuration: text → tokens → directives (one table) → typed, validated values. After this room there is no
//! string left to check.
//!
//! Pure but for two things it is handed: a way to read files (`include`) and a way to resolve host names. [`System`] is
//! both for real.
#![forbid(unsafe_code)]

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub mod access;
mod address;
mod build;
pub mod ciphers;
mod directives;
mod error;
mod lex;
pub mod location;
pub mod model;
pub mod names;
mod parse;
mod pattern;
mod simple;
mod system;
pub mod template;
#[cfg(test)]
mod tests;
mod value;
pub mod variable;

pub use directives::reference;
pub use error::Error;
pub use model::Config;
pub use system::System;

use error::Result;
use parse::Parser;

/// What the command line says about the configuration.
#[derive(Clone, Debug)]
pub struct Options {
    /// `-p`: what other paths are relative to.
    pub prefix: PathBuf,
    /// `-c`: the configuration file, relative to the prefix.
    pub file: PathBuf,
    /// `-g`: directives of the main context.
    pub globals: Option<String>,
    /// `-e`: the error log unless the configuration names one.
    pub error_log: model::LogTarget,
}

/// Reads configuration files.
pub trait ReadFiles {
    /// The whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The files that a mask with `*`, `?` and `[…]` matches, in alphabetical order.
    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>>;
}

/// Resolves host names.
pub trait Resolve {
    /// All addresses of a name, each once.
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// Reads and checks a configuration.
///
/// # Errors
/// What nginx would write after `[emerg] `.
pub fn load(options: &Options, files: &dyn ReadFiles, resolver: &dyn Resolve) -> Result<Config> {
    let path = options.prefix.join(&options.file);
    let directory = path.parent().unwrap_or(&options.prefix).to_owned();
    let mut parser = Parser::new(files, directory);
    if let Some(globals) = &options.globals {
        parser.parameter(globals)?;
    }
    parser.file(&path)?;
    build::config(parser, options, resolver)
}
