//! The tree of directives → the typed configuration: the main and events contexts, and what the others share.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;

use regex::bytes::Regex;

use super::error::{Error, Place, Result};
use super::model::{Buffering, Config, GroupIndex, Http, LogFormat, LogTarget, Main};
use super::parse::{Directive, Parser};
use super::pattern::{self, Pattern};
use super::template::Template;
use super::variable::{TlsVariable, Variable};
use super::{Options, Resolve, value};

mod http;
mod level;
mod limit;
mod listen;
mod log;
mod map;
mod proxy;
mod scope;
mod server;
mod syslog;
mod tls;
mod upstream;
mod variables;

use level::Level;

/// Builds a configuration from all that was read.
pub(super) fn config(
    parser: Parser<'_>,
    options: &Options,
    resolver: &dyn Resolve,
) -> Result<Config> {
    let mut builder = Builder {
        options,
        resolver,
        variables: HashMap::new(),
        formats: Vec::new(),
        buffers: HashMap::new(),
        groups: HashMap::new(),
        unverified: Vec::new(),
        shows_offered: Cell::new(false),
        warnings: Vec::new(),
        http: Http::default(),
    };
    let level = Level(&parser.directives);
    builder.warn_of_accepted(&parser.directives, &mut HashSet::new());
    let main = builder.main(level)?;
    if let Some(http) = level.one("http") {
        builder.http(http, &main)?;
    }
    // As nginx: a file that is empty, or cut while it is written, shall not take effect.
    if !level.has("events") {
        return Err(Error::new("no \"events\" section in configuration"));
    }
    builder.http.shows_offered = builder.shows_offered.get();
    Ok(Config {
        main,
        http: builder.http,
        warnings: builder.warnings,
        files: parser.read,
    })
}

/// What is known while building.
struct Builder<'a> {
    options: &'a Options,
    resolver: &'a dyn Resolve,
    /// Variables that the configuration defines, by name in lower case.
    variables: HashMap<String, Variable>,
    formats: Vec<Arc<LogFormat>>,
    /// `buffer=` and `flush=` hold for a file, whichever of its `access_log` lines says them.
    buffers: HashMap<LogTarget, Buffering>,
    /// Groups by name in lower case; implicit ones with their port.
    groups: HashMap<String, GroupIndex>,
    /// Groups of whose unverified servers was warned.
    unverified: Vec<GroupIndex>,
    /// Whether some variable is about what clients offer in their handshakes.
    shows_offered: Cell<bool>,
    warnings: Vec<String>,
    http: Http,
}

impl Builder<'_> {
    /// One warning for each directive without effect, where it stands first.
    fn warn_of_accepted<'d>(&mut self, directives: &'d [Directive], said: &mut HashSet<&'d str>) {
        for directive in directives {
            if let Some(reason) = directive.accepted
                && said.insert(&directive.name)
            {
                let message = format!("\"{}\" has no effect: {reason}", directive.name);
                self.warn(&directive.place, message);
            }
            self.warn_of_accepted(&directive.children, said);
        }
    }

    fn main(&mut self, level: Level<'_>) -> Result<Main> {
        let mut main = Main {
            daemon: true,
            pid: self.path("logs/ntlmfront.pid"),
            user: None,
            workers: Some(1),
            cpu_affinity: false,
            rlimit_nofile: None,
            shutdown_timeout: None,
            worker_connections: 512,
            error_logs: self.main_error_logs(level)?,
        };
        level.set("daemon", &mut main.daemon, Directive::flag)?;
        level.set("pid", &mut main.pid, |d| Ok(self.path(&d.args[0])))?;
        level.set("user", &mut main.user, |d| {
            Ok(Some((d.args[0].clone(), d.args.get(1).cloned())))
        })?;
        level.set("worker_processes", &mut main.workers, workers)?;
        level.set(
            "worker_cpu_affinity",
            &mut main.cpu_affinity,
            |d| match &d.args[0][..] {
                "auto" => Ok(true),
                _ => Err(d.hinted(d.invalid_value_of(0), "only auto: a worker for each core")),
            },
        )?;
        level.set("worker_rlimit_nofile", &mut main.rlimit_nofile, |d| {
            d.number().map(Some)
        })?;
        level.set("worker_shutdown_timeout", &mut main.shutdown_timeout, |d| {
            // As in nginx, 0 is no limit.
            d.time().map(|time| (!time.is_zero()).then_some(time))
        })?;
        if let Some(events) = level.one("events") {
            let events = Level(&events.children);
            level::positive(events, "worker_connections", &mut main.worker_connections)?;
        }
        Ok(main)
    }

    fn warn(&mut self, place: &Place, message: impl Display) {
        self.warnings.push(format!("{message} in {place}"));
    }

    /// A path, relative to the configuration file's directory.
    fn conf_path(&self, text: &str) -> PathBuf {
        let file = self.options.prefix.join(&self.options.file);
        file.parent().unwrap_or(&file).join(text)
    }

    /// A path, relative to the prefix.
    fn path(&self, text: &str) -> PathBuf {
        self.options.prefix.join(text)
    }

    /// A string with variables.
    fn template(&self, directive: &Directive, text: &str) -> Result<Template> {
        Template::parse(text, |name| self.variable(name)).map_err(|error| directive.error(error))
    }

    /// A string with variables that may also name the captures of `regex`: they are numbered ones then.
    fn captured_template(
        &self,
        directive: &Directive,
        text: &str,
        regex: &Regex,
    ) -> Result<Template> {
        let capture = |name: &str| {
            let group = regex.capture_names().position(|n| n == Some(name))?;
            u8::try_from(group).ok().map(Variable::Capture)
        };
        let variable = |name: &str| capture(name).or_else(|| self.variable(name));
        Template::parse(text, variable).map_err(|error| directive.error(error))
    }

    fn variable(&self, name: &str) -> Option<Variable> {
        let own = self.variables.get(&name.to_ascii_lowercase());
        let found = own.cloned().or_else(|| Variable::builtin(name));
        if let Some(Variable::Tls(TlsVariable::Ciphers | TlsVariable::Curves)) = found {
            self.shows_offered.set(true);
        }
        found
    }

    fn pattern(&self, directive: &Directive, text: &str, ignore_case: bool) -> Result<Pattern> {
        let regex = regex(directive, text, ignore_case)?;
        Ok(Pattern::new(regex, |name| {
            match self.variables.get(&name.to_ascii_lowercase()) {
                Some(Variable::User(variable)) => Some(*variable),
                _ => None,
            }
        }))
    }
}

fn regex(directive: &Directive, text: &str, ignore_case: bool) -> Result<Regex> {
    pattern::compile(text, ignore_case).map_err(|error| directive.error(error))
}

/// `worker_processes`
fn workers(directive: &Directive) -> Result<Option<usize>> {
    match &directive.args[0][..] {
        "auto" => Ok(None),
        text => match value::number(text) {
            Some(number @ 1..=1024) => Ok(Some(number as usize)),
            _ => Err(directive.error_of("invalid value")),
        },
    }
}
