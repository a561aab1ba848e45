//! `error_log`, `access_log` and `log_format`.

use std::sync::Arc;

use super::super::error::Result;
use super::super::model::{AccessLog, ErrorLog, Escape, Level as Severity, LogFormat, LogTarget};
use super::super::parse::Directive;
use super::{Builder, Level};

/// nginx's predefined format.
const COMBINED: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status \
                        $body_bytes_sent \"$http_referer\" \"$http_user_agent\"";

const FILES_ONLY: &str = "logs go to files and to stderr";

impl Builder<'_> {
    /// What holds without any `error_log`.
    pub(super) fn default_error_logs(&self) -> Vec<ErrorLog> {
        vec![ErrorLog {
            target: self.options.error_log.clone(),
            level: Severity::Error,
        }]
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
        let format = self.formats.get(name).cloned();
        let format =
            format.ok_or_else(|| directive.error(format!("unknown log format \"{name}\"")))?;
        let mut condition = None;
        for parameter in args.iter().skip(2) {
            match parameter.split_once('=') {
                Some(("if", value)) => condition = Some(self.template(directive, value)?),
                Some(("buffer" | "flush", _)) => self.warn(
                    &directive.place,
                    format!("\"{parameter}\" has no effect: lines are gathered in any case"),
                ),
                _ => return Err(directive.invalid_parameter(parameter)),
            }
        }
        Ok(AccessLog {
            target,
            format,
            condition,
        })
    }

    fn log_file(&self, directive: &Directive, path: &str) -> Result<LogTarget> {
        if path.starts_with("syslog:") || path.starts_with("memory:") {
            return Err(directive.hinted(directive.invalid_value_of(0), FILES_ONLY));
        }
        if path.contains('$') {
            let hint = "names of log files hold no variables here";
            return Err(directive.hinted(directive.invalid_value_of(0), hint));
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
        self.formats
            .insert("combined".to_owned(), Arc::new(combined));
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
            let format = LogFormat {
                name: name.clone(),
                escape,
                template: self.template(directive, &text.concat())?,
            };
            if self.formats.insert(name, Arc::new(format)).is_some() {
                let name = &directive.args[0];
                let message = format!("duplicate \"log_format\" name \"{name}\"");
                return Err(directive.error(message));
            }
        }
        Ok(())
    }
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
