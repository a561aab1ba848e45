//! `error_log`, `access_log` and `log_format`.

use std::sync::Arc;

use super::super::error::{Error, Result};
use super::super::model::{
    AccessLog, Buffering, ErrorLog, Escape, Level as Severity, LogFormat, LogTarget,
};
use super::super::parse::Directive;
use super::super::value;
use super::{Builder, Level};

/// nginx's predefined format.
const COMBINED: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status \
                        $body_bytes_sent \"$http_referer\" \"$http_user_agent\"";

const NOT_IN_MEMORY: &str = "logs go to files, to stderr and to syslog";
const NO_VARIABLES: &str =
    "names of log files hold no variables here; name a log in each server or location";
const NO_GZIP: &str = "log files are not compressed here; compress them when they are rotated";

impl Builder<'_> {
    /// What holds without any `error_log`.
    pub(super) fn default_error_logs(&self) -> Vec<ErrorLog> {
        vec![ErrorLog {
            target: self.options.error_log.clone(),
            level: Severity::Error,
        }]
    }

    /// The main context's logs. As in nginx, errors go to the default file, too, if all that is configured is elsewhere.
    pub(super) fn main_error_logs(&self, level: Level<'_>) -> Result<Vec<ErrorLog>> {
        let mut logs = self.error_logs(level)?.unwrap_or_default();
        if logs
            .iter()
            .all(|log| matches!(log.target, LogTarget::Syslog(_)))
        {
            logs.extend(self.default_error_logs());
        }
        Ok(logs)
    }

    /// The `error_log` lines of a block; `None` if there is none, and those around it hold.
    pub(super) fn error_logs(&self, level: Level<'_>) -> Result<Option<Vec<ErrorLog>>> {
        let mut logs = Vec::new();
        for directive in level.all("error_log") {
            let target = match &directive.args[0][..] {
                "stderr" => LogTarget::Stderr,
                path => self.log_file(directive, path)?,
            };
            let level = match directive.args.get(1) {
                Some(word) => severity(word)
                    .ok_or_else(|| directive.error(format!("invalid log level \"{word}\"")))?,
                None => Severity::Error,
            };
            logs.push(ErrorLog { target, level });
        }
        Ok((!logs.is_empty()).then_some(logs))
    }

    /// The `access_log` lines of a block; `None` if there is none. `off` takes the others of its block away.
    pub(super) fn access_logs(&mut self, level: Level<'_>) -> Result<Option<Vec<AccessLog>>> {
        let mut logs = Vec::new();
        let mut off = false;
        for directive in level.all("access_log") {
            if directive.args[0] == "off" {
                if let Some(more) = directive.args.get(1) {
                    return Err(directive.invalid_parameter(more));
                }
                off = true;
                continue;
            }
            logs.push(self.access_log(directive)?);
        }
        if off {
            logs.clear();
        }
        Ok((off || !logs.is_empty()).then_some(logs))
    }

    fn access_log(&mut self, directive: &Directive) -> Result<AccessLog> {
        let args = &directive.args;
        let target = self.log_file(directive, &args[0])?;
        let name = args.get(1).map_or("combined", |name| name);
        let format = self.format(name);
        let format =
            format.ok_or_else(|| directive.error(format!("unknown log format \"{name}\"")))?;
        let (mut condition, mut bytes, mut flush) = (None, None, None);
        for parameter in args.iter().skip(2) {
            match parameter.split_once('=') {
                Some(("if", text)) => condition = Some(self.template(directive, text)?),
                Some(("buffer", text)) => {
                    let size = value::size(text).filter(|&size| size > 0);
                    let size = size.and_then(|size| usize::try_from(size).ok());
                    let invalid = || directive.error(format!("invalid buffer size \"{text}\""));
                    bytes = Some(size.ok_or_else(invalid)?);
                }
                Some(("flush", text)) => {
                    let time = value::time(text).filter(|time| !time.is_zero());
                    let invalid = || directive.error(format!("invalid flush time \"{text}\""));
                    flush = Some(time.ok_or_else(invalid)?);
                }
                Some(("gzip", _)) => return Err(no_gzip(directive, parameter)),
                None if parameter == "gzip" => return Err(no_gzip(directive, parameter)),
                _ => return Err(directive.invalid_parameter(parameter)),
            }
        }
        match (bytes, flush) {
            (Some(bytes), flush) => {
                self.buffer(directive, &target, Buffering { bytes, flush })?;
            }
            (None, Some(_)) => {
                let message = format!("no buffer is defined for access_log \"{}\"", args[0]);
                return Err(directive.error(message));
            }
            (None, None) => {}
        }
        Ok(AccessLog {
            target,
            format,
            condition,
            buffering: None,
        })
    }

    /// The format of a name. As in nginx, where `log_format` regards case and `access_log` does not, the first that fits.
    fn format(&self, name: &str) -> Option<Arc<LogFormat>> {
        let fits = |format: &&Arc<LogFormat>| format.name.eq_ignore_ascii_case(name);
        self.formats.iter().find(fits).cloned()
    }

    /// Notes how the lines for a file wait.
    fn buffer(
        &mut self,
        directive: &Directive,
        target: &LogTarget,
        buffering: Buffering,
    ) -> Result<()> {
        if matches!(target, LogTarget::Syslog(_)) {
            return Err(directive.error("logs to syslog cannot be buffered"));
        }
        let known = *self.buffers.entry(target.clone()).or_insert(buffering);
        if known != buffering {
            let path = &directive.args[0];
            let message =
                format!("access_log \"{path}\" already defined with conflicting parameters");
            return Err(directive.error(message));
        }
        Ok(())
    }

    /// Gives every `access_log` line the buffering of its file.
    pub(super) fn share_buffers(&mut self) {
        let locations = &mut self.http.locations;
        for log in locations.iter_mut().flat_map(|l| &mut l.access_logs) {
            log.buffering = self.buffers.get(&log.target).copied();
        }
    }

    fn log_file(&self, directive: &Directive, path: &str) -> Result<LogTarget> {
        if let Some(parameters) = path.strip_prefix("syslog:") {
            return Ok(LogTarget::Syslog(self.syslog(directive, parameters)?));
        }
        if path.starts_with("memory:") {
            return Err(directive.hinted(directive.invalid_value_of(0), NOT_IN_MEMORY));
        }
        if path.contains('$') {
            return Err(directive.hinted(directive.invalid_value_of(0), NO_VARIABLES));
        }
        Ok(LogTarget::File(self.path(path)))
    }

    /// All `log_format` lines, and `combined`.
    pub(super) fn log_formats(&mut self, http: &Directive) -> Result<()> {
        let combined = LogFormat {
            name: "combined".to_owned(),
            escape: Escape::Default,
            template: self.template(http, COMBINED)?,
        };
        self.formats.push(Arc::new(combined));
        for directive in Level(&http.children).all("log_format") {
            let name = directive.args[0].clone();
            let mut text = &directive.args[1..];
            let mut escape = Escape::Default;
            if let Some(word) = text[0].strip_prefix("escape=") {
                escape = match word {
                    "default" => Escape::Default,
                    "json" => Escape::Json,
                    "none" => Escape::None,
                    _ => {
                        let message = format!("unknown log format escaping \"{word}\"");
                        return Err(directive.error(message));
                    }
                };
                text = &text[1..];
            }
            if self.formats.iter().any(|format| format.name == name) {
                let message = format!("duplicate \"log_format\" name \"{name}\"");
                return Err(directive.error(message));
            }
            self.formats.push(Arc::new(LogFormat {
                name,
                escape,
                template: self.template(directive, &text.concat())?,
            }));
        }
        Ok(())
    }
}

fn no_gzip(directive: &Directive, parameter: &str) -> Error {
    directive.hinted(format!("invalid parameter \"{parameter}\""), NO_GZIP)
}

pub(super) fn severity(word: &str) -> Option<Severity> {
    Some(match word {
        "debug" => Severity::Debug,
        "info" => Severity::Info,
        "notice" => Severity::Notice,
        "warn" => Severity::Warn,
        "error" => Severity::Error,
        "crit" => Severity::Crit,
        "alert" => Severity::Alert,
        "emerg" => Severity::Emerg,
        _ => return None,
    })
}
