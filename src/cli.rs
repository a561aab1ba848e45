//! The command line: nginx's, and two ways to start without a file.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, CommandFactory, Parser, ValueHint};

use crate::config::model::LogTarget;
use crate::process::{Control, Io};

/// What relative names are relative to unless `-p` says otherwise. Who packages the program names the places when it is built,
/// by these variables.
const PREFIX: &str = built_with(option_env!("NTLMFRONT_PREFIX"), "/usr/local/ntlmfront/");
/// The configuration, under the prefix unless it is absolute; so are the others.
const CONF: &str = built_with(option_env!("NTLMFRONT_CONF_PATH"), "conf/ntlmfront.conf");
/// The error log until a configuration names one.
const ERROR_LOG: &str = built_with(option_env!("NTLMFRONT_ERROR_LOG_PATH"), "logs/error.log");
/// The pid file where the configuration names none.
pub const PID: &str = built_with(option_env!("NTLMFRONT_PID_PATH"), "logs/ntlmfront.pid");
/// The level of nginx's configuration language that is spoken.
pub const NGINX_VERSION: &str = "1.29.0";
const VERSION: &str = env!("CARGO_PKG_VERSION");

const fn built_with(path: Option<&'static str>, default: &'static str) -> &'static str {
    match path {
        Some(path) => path,
        None => default,
    }
}

/// A command line, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// What to do.
    pub command: Command,
    /// With what.
    pub options: Options,
}

/// What the program is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `-h`, `-?`: print [`help`].
    Help,
    /// `-v`: print [`version`].
    Version,
    /// `-V`: print [`configure`].
    Configure,
    /// `-t`, `-T`: check the configuration.
    Test {
        /// `-T`: print it too.
        dump: bool,
    },
    /// `-s`: tell the running process.
    Signal(Control),
    /// Serve what the configuration says.
    Serve,
    /// Serve one address without a configuration file.
    Simple {
        /// `--listen`, as the `listen` directive has it.
        listen: String,
        /// `--upstream`, as `proxy_pass` has it.
        upstream: String,
        /// `--ntlm`, the number of the `ntlm` directive.
        ntlm: Option<usize>,
    },
    /// `--demo`: a server with real NTLM and the front before it.
    Demo,
    /// `--probe`: log in somewhere and say what is wrong there.
    Probe {
        /// The URL.
        url: String,
        /// `-u`, without a password.
        user: Option<String>,
        /// `--behind`, the URL of the server to compare with.
        behind: Option<String>,
        /// `--insecure`: log in whatever certificate is shown.
        insecure: bool,
    },
}

/// What holds for every command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `-p`
    pub prefix: PathBuf,
    /// `-c`, relative to the prefix.
    pub file: PathBuf,
    /// `-e`, the prefix before it if it is relative; `stderr` is standard error.
    pub error_log: LogTarget,
    /// `-g`: more of the main context.
    pub globals: Option<String>,
    /// `-q`: no word about a configuration that is right.
    pub quiet: bool,
    /// `--io`: what workers wait with.
    pub io: Io,
}

impl Options {
    /// Where the configuration file is.
    pub fn conf(&self) -> PathBuf {
        self.prefix.join(&self.file)
    }
}

/// Understands a command line, the program's name first.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, UsageError> {
    let arguments = Arguments::try_parse_from(arguments).map_err(|error| usage_error(&error))?;
    let prefix = arguments.prefix.unwrap_or_else(|| PREFIX.into());
    let error_log = match arguments.error_log {
        Some(name) if name == Path::new("stderr") => LogTarget::Stderr,
        Some(name) => LogTarget::File(prefix.join(name)),
        None => LogTarget::File(prefix.join(ERROR_LOG)),
    };
    let options = Options {
        file: arguments.conf.unwrap_or_else(|| CONF.into()),
        error_log,
        globals: arguments.globals,
        quiet: arguments.quiet,
        io: arguments.io.unwrap_or_default(),
        prefix,
    };
    // The order is nginx's where several are asked for.
    let command = if arguments.help {
        Command::Help
    } else if arguments.configure {
        Command::Configure
    } else if arguments.version {
        Command::Version
    } else if arguments.test || arguments.dump {
        Command::Test {
            dump: arguments.dump,
        }
    } else if let Some(control) = arguments.signal {
        Command::Signal(control)
    } else if arguments.demo {
        Command::Demo
    } else if let Some(url) = arguments.probe {
        Command::Probe {
            url,
            user: arguments.user,
            behind: arguments.behind,
            insecure: arguments.insecure,
        }
    } else if let (Some(listen), Some(upstream)) = (arguments.listen, arguments.upstream) {
        Command::Simple {
            listen,
            upstream,
            ntlm: arguments.ntlm,
        }
    } else {
        Command::Serve
    };
    Ok(Invocation { command, options })
}

/// The options. `help` prints them from here, in this order.
#[derive(Parser)]
#[command(
    disable_help_flag = true,
    disable_version_flag = true,
    args_override_self = true
)]
struct Arguments {
    /// this help
    #[arg(short = '?', visible_short_alias = 'h', long)]
    help: bool,
    /// show version and exit
    #[arg(short = 'v', long)]
    version: bool,
    /// show version and configure options then exit
    #[arg(short = 'V')]
    configure: bool,
    /// test configuration and exit
    #[arg(short = 't')]
    test: bool,
    /// test configuration, dump it and exit
    #[arg(short = 'T')]
    dump: bool,
    /// suppress non-error messages during configuration testing
    #[arg(short = 'q')]
    quiet: bool,
    /// send signal to the running process: stop, quit, reopen, reload
    #[arg(short = 's', value_name = "signal", value_parser = control, allow_hyphen_values = true)]
    signal: Option<Control>,
    /// set prefix path
    #[arg(short = 'p', value_name = "prefix", value_hint = ValueHint::DirPath, allow_hyphen_values = true)]
    prefix: Option<PathBuf>,
    /// set error log file
    #[arg(short = 'e', value_name = "filename", value_hint = ValueHint::FilePath, allow_hyphen_values = true)]
    error_log: Option<PathBuf>,
    /// set configuration file
    #[arg(short = 'c', value_name = "filename", value_hint = ValueHint::FilePath, allow_hyphen_values = true)]
    conf: Option<PathBuf>,
    /// set global directives out of configuration file
    #[arg(short = 'g', value_name = "directives", allow_hyphen_values = true)]
    globals: Option<String>,
    /// what to wait with: uring, epoll, or auto for the first that the kernel allows
    #[arg(long, value_name = "driver", value_parser = io)]
    io: Option<Io>,
    /// without a configuration file: accept clients here ([addr:]port)
    #[arg(
        long,
        value_name = "address",
        requires = "upstream",
        conflicts_with_all = ["test", "dump", "signal", "conf", "demo"]
    )]
    listen: Option<String>,
    /// without a configuration file: the server behind (http://host[:port])
    #[arg(long, value_name = "url", value_hint = ValueHint::Url, requires = "listen")]
    upstream: Option<String>,
    /// without a configuration file: idle logins kept per worker
    #[arg(long, value_name = "number", requires = "listen")]
    ntlm: Option<usize>,
    /// start a server with real NTLM and a front before it, to try out
    #[arg(long, conflicts_with_all = ["test", "dump", "signal", "conf"])]
    demo: bool,
    /// log in to a front or server, say leg by leg what happens and what is wrong; status 0 if nothing is
    #[arg(
        long,
        value_name = "url",
        conflicts_with_all = ["test", "dump", "signal", "conf", "demo", "listen"]
    )]
    probe: Option<String>,
    /// the user to probe with (DOMAIN\name or name@domain); the password is asked for, or NTLMFRONT_PASSWORD
    #[arg(short = 'u', value_name = "user", requires = "probe")]
    user: Option<String>,
    /// the server behind the front that is probed, to compare with
    #[arg(long, value_name = "url", value_hint = ValueHint::Url, requires = "probe")]
    behind: Option<String>,
    /// log in also where this machine trusts no certificate that is shown, to who may be somebody in between
    #[arg(long, requires = "probe")]
    insecure: bool,
}

fn control(word: &str) -> Result<Control, &'static str> {
    Control::from_word(word).ok_or("no such signal")
}

fn io(word: &str) -> Result<Io, &'static str> {
    Io::from_word(word).ok_or("no such driver")
}

/// Why a command line is not understood, in nginx's words. Status 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageError {
    /// There is no such option, or its value is none of those it takes.
    Invalid(String),
    /// The option's value is missing.
    Requires {
        /// The option.
        option: String,
        /// What is missing.
        value: &'static str,
    },
    /// One option needs another.
    Alone(String),
    /// Two options that exclude each other.
    Together(String, String),
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(option) => write!(f, "invalid option: \"{option}\""),
            Self::Requires { option, value } => write!(f, "option \"{option}\" requires {value}"),
            Self::Alone(other) => write!(f, "option \"{other}\" is missing"),
            Self::Together(one, other) => {
                write!(f, "options \"{one}\" and \"{other}\" exclude each other")
            }
        }
    }
}

impl std::error::Error for UsageError {}

fn usage_error(error: &clap::Error) -> UsageError {
    // clap names an option as `-c <filename>`.
    let named = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => first_word(text),
        Some(ContextValue::Strings(texts)) => texts.first().map_or("", |text| first_word(text)),
        _ => "",
    };
    let option = named(ContextKind::InvalidArg).to_owned();
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => value.as_str(),
        _ => "",
    };
    match error.kind() {
        ErrorKind::InvalidValue if value.is_empty() => UsageError::Requires {
            value: match option.as_str() {
                "-p" => "directory name",
                "-c" | "-e" => "file name",
                _ => "parameter",
            },
            option,
        },
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            UsageError::Invalid(format!("{option} {value}"))
        }
        ErrorKind::MissingRequiredArgument => UsageError::Alone(option),
        ErrorKind::ArgumentConflict => {
            UsageError::Together(option, named(ContextKind::PriorArg).to_owned())
        }
        // nginx names a short option by its letter.
        _ => match option.strip_prefix('-') {
            Some(letter) if letter.chars().count() == 1 => UsageError::Invalid(letter.to_owned()),
            _ => UsageError::Invalid(option),
        },
    }
}

fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap_or_default()
}

/// What `-v` prints, on standard error.
pub fn version() -> String {
    format!("ntlmfront version: ntlmfront/{VERSION}\n")
}

/// What `-V` prints, on standard error. Test suites and scripts read from it, in nginx's own words, what is there.
pub fn configure() -> String {
    let mut text = version();
    text += "nginx version: nginx/";
    text += NGINX_VERSION;
    text += "\nbuilt with rustls and aws-lc-rs\nTLS SNI support enabled\nconfigure arguments:";
    text += " --prefix=";
    text += PREFIX.trim_end_matches('/');
    for (option, name) in [("conf", CONF), ("error-log", ERROR_LOG), ("pid", PID)] {
        // Writing to a String cannot fail.
        let path = Path::new(PREFIX).join(name);
        let _ = write!(text, " --{option}-path={}", path.display());
    }
    for module in ["http_realip", "http_ssl", "http_stub_status"] {
        text += " --with-";
        text += module;
        text += "_module";
    }
    for module in ABSENT_MODULES {
        text += " --without-";
        text += module;
        text += "_module";
    }
    text += " --without-http-cache\nio: io_uring epoll\n";
    text
}

/// Modules that nginx has unless it is told otherwise, and that are not here. What nginx has only on demand
/// is not here where `configure` does not name it.
const ABSENT_MODULES: [&str; 18] = [
    "http_charset",
    "http_gzip",
    "http_ssi",
    "http_userid",
    "http_auth_basic",
    "http_mirror",
    "http_autoindex",
    "http_geo",
    "http_split_clients",
    "http_referer",
    "http_fastcgi",
    "http_uwsgi",
    "http_scgi",
    "http_grpc",
    "http_memcached",
    "http_empty_gif",
    "http_browser",
    // `zone` is accepted, but workers share nothing.
    "http_upstream_zone",
];

/// How the program is called, line by line.
pub const USAGE: [&str; 5] = [
    "ntlmfront [-?hvVtTq] [-s signal] [-p prefix]",
    "          [-e filename] [-c filename] [-g directives] [--io driver]",
    "ntlmfront --listen address --upstream url [--ntlm number]",
    "ntlmfront --demo",
    "ntlmfront --probe url [-u user] [--behind url] [--insecure]",
];

/// The options as people are told of them: what `-h` prints, and what the manual page and the completions of shells are made of.
pub fn command() -> clap::Command {
    let with_default = |default: &'static str| {
        move |argument: Arg| {
            let about = argument.get_help().map(ToString::to_string);
            let about = about.unwrap_or_default();
            argument.help(format!("{about} (default: {default})"))
        }
    };
    Arguments::command()
        .name("ntlmfront")
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .override_usage(USAGE.join("\n"))
        .mut_arg("prefix", with_default(PREFIX))
        .mut_arg("error_log", with_default(ERROR_LOG))
        .mut_arg("conf", with_default(CONF))
        .mut_arg("io", with_default("auto"))
        .mut_arg("signal", one_of(Control::WORDS.map(|(word, _)| word)))
        .mut_arg("io", one_of(Io::WORDS.map(|(word, _)| word)))
}

/// Names the values of an option, which is parsed otherwise, so that what is wrong is said in nginx's words.
fn one_of<const N: usize>(words: [&'static str; N]) -> impl FnOnce(Arg) -> Arg {
    move |argument| argument.value_parser(words).hide_possible_values(true)
}

/// What `-h` prints, on standard error.
pub fn help() -> String {
    let mut text = version();
    for (usage, line) in USAGE.iter().enumerate() {
        text += if usage == 0 { "Usage: " } else { "       " };
        text += line;
        text.push('\n');
    }
    text += "\nOptions:\n";
    for argument in command().get_arguments() {
        let mut names: Vec<String> = argument
            .get_short_and_visible_aliases()
            .unwrap_or_default()
            .into_iter()
            .map(|letter| format!("-{letter}"))
            .collect();
        if names.is_empty() {
            names.extend(argument.get_long().map(|long| format!("--{long}")));
        }
        let mut usage = names.join(",");
        if argument.get_action().takes_values() {
            for value in argument.get_value_names().unwrap_or_default() {
                usage += " ";
                usage += value;
            }
        }
        let about = argument.get_help().map(ToString::to_string);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {usage:<18}: {}", about.unwrap_or_default());
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &[&str]) -> Result<Invocation, UsageError> {
        parse(["ntlmfront"].iter().chain(line).map(OsString::from))
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
        command().debug_assert();
    }

    #[test]
    fn commands() {
        for (line, command) in [
            (&[][..], Command::Serve),
            (&["-h"], Command::Help),
            (&["-?"], Command::Help),
            (&["--help"], Command::Help),
            (&["-?v"], Command::Help),
            (&["-v"], Command::Version),
            (&["-V"], Command::Configure),
            (&["-vV"], Command::Configure),
            (&["-t"], Command::Test { dump: false }),
            (&["-tt", "-t"], Command::Test { dump: false }),
            (&["-T"], Command::Test { dump: true }),
            (&["-tTq"], Command::Test { dump: true }),
            (&["-t", "-s", "stop"], Command::Test { dump: false }),
            (&["-s", "stop"], Command::Signal(Control::Stop)),
            (&["-squit"], Command::Signal(Control::Quit)),
            (
                &["-s", "quit", "-s", "reload"],
                Command::Signal(Control::Reload),
            ),
            (&["-qsreopen"], Command::Signal(Control::Reopen)),
            (&["--demo"], Command::Demo),
            (
                &["--probe", "http://mail", "-u", "D\\a"],
                Command::Probe {
                    url: "http://mail".into(),
                    user: Some("D\\a".into()),
                    behind: None,
                    insecure: false,
                },
            ),
            (
                &["--behind=https://b", "--probe=https://a", "--insecure"],
                Command::Probe {
                    url: "https://a".into(),
                    user: None,
                    behind: Some("https://b".into()),
                    insecure: true,
                },
            ),
            (
                &["--listen", "127.0.0.1:8080", "--upstream=http://10.0.0.1"],
                Command::Simple {
                    listen: "127.0.0.1:8080".into(),
                    upstream: "http://10.0.0.1".into(),
                    ntlm: None,
                },
            ),
            (
                &["--ntlm", "50", "--upstream", "http://a:1", "--listen", "80"],
                Command::Simple {
                    listen: "80".into(),
                    upstream: "http://a:1".into(),
                    ntlm: Some(50),
                },
            ),
        ] {
            assert_eq!(parsed(line).map(|it| it.command), Ok(command), "{line:?}");
        }
    }

    #[test]
    fn options() {
        for (line, prefix, conf, error_log) in [
            (
                &[][..],
                "/usr/local/ntlmfront/",
                "/usr/local/ntlmfront/conf/ntlmfront.conf",
                Some("/usr/local/ntlmfront/logs/error.log"),
            ),
            (
                &["-p", "/tmp/x", "-c", "a.conf"],
                "/tmp/x",
                "/tmp/x/a.conf",
                Some("/tmp/x/logs/error.log"),
            ),
            (
                &["-p/tmp/x/", "-c/etc/a.conf", "-e", "e.log"],
                "/tmp/x/",
                "/etc/a.conf",
                Some("/tmp/x/e.log"),
            ),
            (&["-tqc", "-t", "-p", "p", "-e/e"], "p", "p/-t", Some("/e")),
            (
                &["-e", "stderr", "-p", "/p"],
                "/p",
                "/p/conf/ntlmfront.conf",
                None,
            ),
        ] {
            let options = parsed(line).unwrap().options;
            assert_eq!(options.prefix, Path::new(prefix), "{line:?}");
            assert_eq!(options.conf(), Path::new(conf), "{line:?}");
            let target = error_log.map_or(LogTarget::Stderr, |path| LogTarget::File(path.into()));
            assert_eq!(options.error_log, target, "{line:?}");
        }
        let options = parsed(&["-tq", "-g", "daemon off; pid /p;"])
            .unwrap()
            .options;
        assert!(options.quiet);
        assert_eq!(options.io, Io::Auto);
        for (line, io) in [
            (&["--io", "epoll"][..], Io::Epoll),
            (&["--demo", "--io=uring"], Io::Uring),
            (&["--io", "uring", "--io", "auto"], Io::Auto),
        ] {
            assert_eq!(parsed(line).unwrap().options.io, io, "{line:?}");
        }
        assert_eq!(options.globals.as_deref(), Some("daemon off; pid /p;"));
    }

    #[test]
    fn mistakes() {
        for (line, message) in [
            (&["-x"][..], "invalid option: \"x\""),
            (&["-tx"], "invalid option: \"x\""),
            (&["foo"], "invalid option: \"foo\""),
            (&["--foo"], "invalid option: \"--foo\""),
            (&["-c"], "option \"-c\" requires file name"),
            (&["-tc"], "option \"-c\" requires file name"),
            (&["-e"], "option \"-e\" requires file name"),
            (&["-p"], "option \"-p\" requires directory name"),
            (&["-g"], "option \"-g\" requires parameter"),
            (&["-s"], "option \"-s\" requires parameter"),
            (&["-s", "foo"], "invalid option: \"-s foo\""),
            (&["--listen"], "option \"--listen\" requires parameter"),
            (&["--listen", "80"], "option \"--upstream\" is missing"),
            (
                &["--upstream", "http://a"],
                "option \"--listen\" is missing",
            ),
            (&["--io", "select"], "invalid option: \"--io select\""),
            (&["--io"], "option \"--io\" requires parameter"),
            (&["--ntlm", "1"], "option \"--upstream\" is missing"),
            (
                &["--listen", "80", "--upstream", "http://a", "--ntlm=-1"],
                "invalid option: \"--ntlm -1\"",
            ),
            (
                &["--listen", "80", "--upstream", "http://a", "--ntlm", "x"],
                "invalid option: \"--ntlm x\"",
            ),
            (&["-u", "alice"], "option \"--probe\" is missing"),
            (&["--behind", "http://a"], "option \"--probe\" is missing"),
            (&["--insecure"], "option \"--probe\" is missing"),
            (&["--probe"], "option \"--probe\" requires parameter"),
            (
                &["--probe", "http://a", "--demo"],
                "options \"--probe\" and \"--demo\" exclude each other",
            ),
            (
                &["--demo", "-c", "f"],
                "options \"--demo\" and \"-c\" exclude each other",
            ),
        ] {
            let error = parsed(line).expect_err(message);
            assert_eq!(error.to_string(), message, "{line:?}");
        }
    }

    #[test]
    fn texts() {
        let help = help();
        for line in [
            "  -?,-h             : this help",
            "  -v                : show version and exit",
            "  -s signal         : send signal to the running process: stop, quit, reopen, reload",
            "  -c filename       : set configuration file (default: conf/ntlmfront.conf)",
            "  -p prefix         : set prefix path (default: /usr/local/ntlmfront/)",
            "  --io driver       : what to wait with: uring, epoll, or auto for the first that the kernel allows (default: auto)",
            "  --listen address  : without a configuration file: accept clients here ([addr:]port)",
            "  --probe url       : log in to a front or server, say leg by leg what happens and what is wrong; status 0 if nothing is",
        ] {
            assert!(
                help.lines().any(|printed| printed == line),
                "{line}\n{help}"
            );
        }
        let configure = configure();
        let lines: Vec<&str> = configure.lines().collect();
        assert_eq!(lines[0], version().trim_end());
        assert_eq!(lines[1], "nginx version: nginx/1.29.0");
        assert_eq!(lines[2], "built with rustls and aws-lc-rs");
        assert_eq!(lines[3], "TLS SNI support enabled");
        let arguments = "configure arguments: --prefix=/usr/local/ntlmfront --conf-path=/usr/local/ntlmfront/conf/ntlmfront.conf ";
        assert!(lines[4].starts_with(arguments), "{}", lines[4]);
        assert!(lines[4].contains(" --with-http_realip_module --with-http_ssl_module "));
        assert!(lines[4].contains(" --without-http_ssi_module "));
    }
}
