//! Command line and exit codes.

use std::process::ExitCode;

use ntlmfront::cli::{self, Command, Invocation, Options};
use ntlmfront::config::model::{self, Level, LogTarget};
use ntlmfront::config::{self, Config, System};
use ntlmfront::control::{self, Source};
use ntlmfront::demo;
use ntlmfront::observe::error_log::ErrorLog;
use ntlmfront::observe::files::LogFiles;
use ntlmfront::probe::{self, Target, password};
use ntlmfront::process::{self, Io};

fn main() -> ExitCode {
    let Invocation { command, options } = match cli::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(error) => {
            eprintln!("ntlmfront: {error}");
            return ExitCode::FAILURE;
        }
    };
    match command {
        Command::Help => eprint!("{}", cli::help()),
        Command::Version => eprint!("{}", cli::version()),
        Command::Configure => eprint!("{}", cli::configure()),
        Command::Test { dump } => return test(&options, dump),
        Command::Signal(control) => return signal(&options, control),
        Command::Serve => {
            let source = sources(&options);
            return match config::load(&source, &System, &System) {
                Ok(config) => serve(config, Source::Files(source), options.io),
                Err(error) => failure(&error, &before_configuration(&options)),
            };
        }
        Command::Simple {
            listen,
            upstream,
            ntlm,
        } => {
            return match Config::simple(&listen, &upstream, ntlm.unwrap_or(100)) {
                Ok(config) => serve(config, Source::CommandLine, options.io),
                Err(error) => failure(&error, &before_configuration(&options)),
            };
        }
        Command::Demo => {
            if let Err(error) = demo::run(options.io) {
                eprintln!("ntlmfront: [emerg] {error}");
                return ExitCode::FAILURE;
            }
        }
        Command::Probe {
            url,
            user,
            behind,
            insecure,
        } => {
            return match probe(&url, user.as_deref(), behind.as_deref(), insecure) {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::FAILURE,
                Err(error) => {
                    eprintln!("ntlmfront: {error}");
                    ExitCode::FAILURE
                }
            };
        }
    }
    ExitCode::SUCCESS
}

/// `--probe`: whether nothing is wrong.
fn probe(
    url: &str,
    user: Option<&str>,
    behind: Option<&str>,
    insecure: bool,
) -> Result<bool, Box<dyn std::error::Error>> {
    // It is not repeated: a password may be in it.
    let target = |option, url| {
        Target::parse(url).map_err(|error| format!("invalid URL of \"{option}\": {error}"))
    };
    let options = probe::Options {
        target: target("--probe", url)?,
        behind: behind.map(|url| target("--behind", url)).transpose()?,
        insecure,
        user: match user {
            None => None,
            Some(name) => {
                let mut user = password::user(name)?;
                user.password = password::ask(name)?;
                Some(user)
            }
        },
    };
    Ok(probe::run(&options, &mut std::io::stdout())?)
}

fn sources(options: &Options) -> config::Options {
    config::Options {
        prefix: options.prefix.clone(),
        file: options.file.clone(),
        globals: options.globals.clone(),
        error_log: options.error_log.clone(),
    }
}

fn serve(config: Config, source: Source, io: Io) -> ExitCode {
    let logs = config.main.error_logs.clone();
    // What is logged there need not be printed there too.
    if logs.iter().all(|log| log.target != LogTarget::Stderr) {
        warn(&config);
    }
    match control::serve(config, source, io) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure(&error, &logs),
    }
}

/// `-t` and `-T`.
fn test(options: &Options, dump: bool) -> ExitCode {
    let file = options.conf();
    let file = file.display();
    let failed = |error: &dyn std::fmt::Display| {
        eprintln!("ntlmfront: [emerg] {error}");
        eprintln!("ntlmfront: configuration file {file} test failed");
        ExitCode::FAILURE
    };
    let config = match config::load(&sources(options), &System, &System) {
        Ok(config) => config,
        Err(error) => return failed(&error),
    };
    warn(&config);
    if !options.quiet {
        eprintln!("ntlmfront: the configuration file {file} syntax is ok");
    }
    if let Err(error) = control::check(&config) {
        return failed(&error);
    }
    if !options.quiet {
        eprintln!("ntlmfront: configuration file {file} test is successful");
    }
    if dump {
        for (name, text) in &config.files {
            println!("# configuration file {}:\n{text}", name.display());
        }
    }
    ExitCode::SUCCESS
}

/// `-s`
fn signal(options: &Options, control: process::Control) -> ExitCode {
    let config = match config::load(&sources(options), &System, &System) {
        Ok(config) => config,
        Err(error) => {
            let mut logs = before_configuration(options).to_vec();
            // One that root makes here is nothing that the process could write to.
            logs.retain(|log| matches!(&log.target, LogTarget::File(path) if path.exists()));
            return failure(&error, &logs);
        }
    };
    let log = control::signaller_log(&config);
    match process::send_signal(control, &config.main.pid, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log.note(error.level(), format_args!("{error}"));
            eprintln!(
                "ntlmfront: [{}] {error}",
                ntlmfront::observe::error_log::level_word(error.level())
            );
            ExitCode::FAILURE
        }
    }
}

fn warn(config: &Config) {
    for warning in &config.warnings {
        eprintln!("ntlmfront: [warn] {warning}");
    }
}

/// Where errors go while there is no configuration that says it.
fn before_configuration(options: &Options) -> [model::ErrorLog; 1] {
    [model::ErrorLog {
        target: options.error_log.clone(),
        level: Level::Error,
    }]
}

/// Says why nothing runs, on standard error and in the logs where the operator looks.
fn failure(error: &dyn std::fmt::Display, logs: &[model::ErrorLog]) -> ExitCode {
    eprintln!("ntlmfront: [emerg] {error}");
    let mut files = LogFiles::default();
    for log in logs.iter().filter(|log| log.target != LogTarget::Stderr) {
        // A log that cannot be opened may be what the error is about.
        if let Ok(file) = files.open(&log.target) {
            ErrorLog::new(vec![(file, log.level)]).note(Level::Emerg, format_args!("{error}"));
        }
    }
    ExitCode::FAILURE
}
