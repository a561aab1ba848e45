//! The error log, line for line as nginx writes it.

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::sync::Arc;

use nix::unistd::{getpid, gettid};

use crate::config::model::{self, Level};

use super::escape::Escaped;
use super::files::{LogFiles, OpenError};
use super::log::Log;
use super::{outlet, time};

/// No line is longer, a newline included; what does not fit is cut off, as in nginx.
const LINE_BYTES_MAX: usize = 2048;

/// The logs of one place in the configuration, each with the least severe level it takes.
#[derive(Clone, Debug, Default)]
pub struct ErrorLog {
    logs: Vec<(Arc<Log>, Level)>,
    /// The least severe level that any of `logs` takes; `None` if there are none.
    least: Option<Level>,
}

impl ErrorLog {
    /// Opens the logs that `error_log` directives name.
    pub fn open(directives: &[model::ErrorLog], files: &mut LogFiles) -> Result<Self, OpenError> {
        let open = |log: &model::ErrorLog| Ok((files.open(&log.target)?, log.level));
        directives
            .iter()
            .map(open)
            .collect::<Result<_, _>>()
            .map(Self::new)
    }

    /// A log that goes to all of `logs`.
    pub fn new(logs: Vec<(Arc<Log>, Level)>) -> Self {
        logs.iter().for_each(|(log, _)| log.be_prompt());
        let least = logs.iter().map(|&(_, level)| level).min();
        Self { logs, least }
    }

    /// Whether a line of this level is written anywhere. Asked first, so that a line nobody wants costs a comparison.
    pub fn enabled(&self, level: Level) -> bool {
        self.least.is_some_and(|least| level >= least)
    }

    /// Writes a line. `connection` is the client connection's number. Control bytes in the message are escaped here;
    /// bytes of the network that stand in quotes in it are for the caller to wrap in [`Escaped`].
    pub fn log(
        &self,
        level: Level,
        connection: Option<u64>,
        context: &Context<'_>,
        message: fmt::Arguments<'_>,
    ) {
        thread_local! {
            static LINE: RefCell<String> = const { RefCell::new(String::new()) };
        }
        if !self.enabled(level) {
            return;
        }
        LINE.with(|line| {
            // A message that logs while it is written is a mistake of ours, but not one to stop for.
            let Ok(mut line) = line.try_borrow_mut() else {
                return;
            };
            line.clear();
            // Fails only where the line is full, and then a part of it is all that was wanted.
            let _ = write_line(&mut line, level, connection, context, message);
            for (log, least) in &self.logs {
                if level >= *least {
                    outlet::append(log, None, Some(level), |out| {
                        out.extend_from_slice(line.as_bytes());
                    });
                }
            }
        });
    }

    /// Writes a line that is about no connection.
    pub fn note(&self, level: Level, message: fmt::Arguments<'_>) {
        self.log(level, None, &Context::default(), message);
    }
}

/// The word of a level between the brackets of a line, and in `ntlmfront: [emerg] …` on standard error.
pub fn level_word(level: Level) -> &'static str {
    match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Notice => "notice",
        Level::Warn => "warn",
        Level::Error => "error",
        Level::Crit => "crit",
        Level::Alert => "alert",
        Level::Emerg => "emerg",
    }
}

/// What a line says about the request it is about. No header field has a place here but `Host`, so that credentials
/// cannot come into a log.
#[derive(Clone, Copy, Default)]
pub struct Context<'a> {
    /// The client's address without port, or `unix:`.
    pub client: Option<&'a dyn fmt::Display>,
    /// The server's name.
    pub server: Option<&'a str>,
    /// The request line. Only its bytes before the first CR or LF are written, because in a malformed head the next
    /// line may be a field with credentials.
    pub request: Option<&'a [u8]>,
    /// The server that the request went to: `http://10.0.0.1:80/uri`.
    pub upstream: Option<&'a dyn fmt::Display>,
    /// The client's `Host`.
    pub host: Option<&'a [u8]>,
}

fn write_line(
    line: &mut String,
    level: Level,
    connection: Option<u64>,
    context: &Context<'_>,
    message: fmt::Arguments<'_>,
) -> fmt::Result {
    time::with_now(|now| line.push_str(now.error_log()));
    let mut line = Line(line);
    write!(line, " [{}] {}#{}: ", level_word(level), getpid(), gettid())?;
    if let Some(connection) = connection {
        write!(line, "*{connection} ")?;
    }
    line.write_fmt(message)?;
    if let Some(client) = context.client {
        write!(line, ", client: {client}")?;
    }
    if let Some(server) = context.server {
        write!(line, ", server: {server}")?;
    }
    if let Some(request) = context.request {
        let end = request
            .iter()
            .position(|byte| matches!(byte, b'\r' | b'\n'));
        let request = Escaped(&request[..end.unwrap_or(request.len())]);
        write!(line, ", request: \"{request}\"")?;
    }
    if let Some(upstream) = context.upstream {
        write!(line, ", upstream: \"{upstream}\"")?;
    }
    if let Some(host) = context.host {
        write!(line, ", host: \"{}\"", Escaped(host))?;
    }
    Ok(())
}

/// Takes text up to the longest line, and no control character: no text can end the line or steer a terminal.
struct Line<'a>(&'a mut String);

impl fmt::Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            self.write_char(character)?;
        }
        Ok(())
    }

    fn write_char(&mut self, character: char) -> fmt::Result {
        const ESCAPED_BYTES: usize = "\\x00".len();
        let control = character.is_control();
        let bytes = if control {
            ESCAPED_BYTES
        } else {
            character.len_utf8()
        };
        if self.0.len() + bytes + "\n".len() > LINE_BYTES_MAX {
            return Err(fmt::Error);
        }
        if control {
            write!(self.0, "\\x{:02X}", u32::from(character))
        } else {
            self.0.push(character);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::net::{IpAddr, Ipv4Addr};

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// The line behind `[level] PID#TID: `, whose form is checked.
    fn line(level: Level, connection: Option<u64>, context: &Context<'_>, message: &str) -> String {
        let mut line = String::new();
        let _ = write_line(
            &mut line,
            level,
            connection,
            context,
            format_args!("{message}"),
        );
        let pattern = r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[([a-z]+)\] (\d+)#(\d+): (.*)$";
        let pattern = regex::Regex::new(pattern).unwrap();
        let captures = pattern.captures(&line).expect("the form of a line");
        assert_eq!(&captures[1], level_word(level));
        assert_eq!(captures[2], getpid().to_string());
        assert_eq!(captures[3], gettid().to_string());
        captures[4].to_owned()
    }

    #[test]
    fn lines() {
        let full = Context {
            client: Some(&CLIENT),
            server: Some("mail"),
            request: Some(b"GET /owa HTTP/1.1"),
            upstream: Some(&"http://10.0.0.1:80/owa"),
            host: Some(b"mail.example"),
        };
        for (connection, context, message, expected) in [
            (
                None,
                Context::default(),
                "signal process started",
                "signal process started",
            ),
            (
                Some(7),
                full,
                "upstream timed out",
                "*7 upstream timed out, client: 127.0.0.1, server: mail, request: \"GET /owa HTTP/1.1\", \
                 upstream: \"http://10.0.0.1:80/owa\", host: \"mail.example\"",
            ),
            (
                Some(7),
                Context {
                    server: None,
                    request: None,
                    upstream: None,
                    host: None,
                    ..full
                },
                "client timed out",
                "*7 client timed out, client: 127.0.0.1",
            ),
            (
                None,
                Context {
                    request: Some(b"GET /\"\x00\xff\nAuthorization: NTLM TlRMTVNTUAAB"),
                    host: Some(b"a\r\nb"),
                    ..Context::default()
                },
                "bad \x1b[1m\nline é",
                "bad \\x1B[1m\\x0Aline é, request: \"GET /\\x22\\x00\\xFF\", host: \"a\\x0D\\x0Ab\"",
            ),
        ] {
            assert_eq!(line(Level::Error, connection, &context, message), expected);
        }
    }

    #[test]
    fn a_line_is_cut_as_nginx_cuts_it() {
        for text in ["x", "é", "\n"] {
            let mut line = String::new();
            let message = text.repeat(LINE_BYTES_MAX);
            let written = write_line(
                &mut line,
                Level::Emerg,
                None,
                &Context::default(),
                format_args!("{message}"),
            );
            assert!(written.is_err());
            assert!(line.len() < LINE_BYTES_MAX && line.len() > LINE_BYTES_MAX - 6);
        }
    }

    #[test]
    fn each_log_takes_its_levels() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["warn", "crit"].map(|name| dir.path().join(name));
        let directive = |path: &std::path::PathBuf, level| model::ErrorLog {
            target: model::LogTarget::File(path.clone()),
            level,
        };
        let log = ErrorLog::open(
            &[
                directive(&paths[1], Level::Crit),
                directive(&paths[0], Level::Warn),
            ],
            &mut LogFiles::default(),
        )
        .unwrap();
        for (level, enabled) in [
            (Level::Debug, false),
            (Level::Notice, false),
            (Level::Warn, true),
            (Level::Error, true),
            (Level::Crit, true),
            (Level::Emerg, true),
        ] {
            assert_eq!(log.enabled(level), enabled, "{level:?}");
            assert!(!ErrorLog::default().enabled(level));
            log.note(level, format_args!("it happened"));
        }
        let levels = paths.map(|path| {
            let text = fs::read_to_string(path).unwrap();
            text.lines()
                .map(|line| {
                    assert!(line.ends_with(": it happened"));
                    line.split(['[', ']']).nth(1).unwrap().to_owned()
                })
                .collect::<Vec<_>>()
        });
        assert_eq!(levels[0], ["warn", "error", "crit", "emerg"]);
        assert_eq!(levels[1], ["crit", "emerg"]);
    }
}
