//! Command line and exit codes.

use std::process::ExitCode;

use ntlmfront::cli::{self, Command, Invocation, Options};
use ntlmfront::config::model::Level;
use ntlmfront::config::{self, Config, System};
use ntlmfront::control::{self, Source};
use ntlmfront::demo;
use ntlmfront::observe::error_log::ErrorLog;
use ntlmfront::observe::files::LogFiles;
use ntlmfront::process;

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
                Ok(config) => {
                    warn(&config);
                    serve(config, Source::Files(source), &options)
                }
                Err(error) => failure(&error, &options),
            };
        }
        Command::Simple {
            listen,
            upstream,
            ntlm,
        } => {
            return match Config::simple(&listen, &upstream, ntlm.unwrap_or(100)) {
                Ok(config) => serve(config, Source::CommandLine, &options),
                Err(error) => failure(&error, &options),
            };
        }
        Command::Demo => {
            if let Err(error) = demo::run(options.io) {
                eprintln!("ntlmfront: [emerg] {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn sources(options: &Options) -> config::Options {
    config::Options {
        prefix: options.prefix.clone(),
        file: options.conf.clone(),
        globals: options.globals.clone(),
        error_log: options.error_log.clone(),
    }
}

fn serve(config: Config, source: Source, options: &Options) -> ExitCode {
    match control::serve(config, source, options.io) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure(&error, options),
    }
}

/// `-t` and `-T`.
fn test(options: &Options, dump: bool) -> ExitCode {
    let file = options.conf.display();
    match config::load(&sources(options), &System, &System) {
        Ok(config) => {
            warn(&config);
            if !options.quiet {
                eprintln!("ntlmfront: the configuration file {file} syntax is ok");
                eprintln!("ntlmfront: configuration file {file} test is successful");
            }
            if dump {
                for (name, text) in &config.files {
                    println!("# configuration file {}:\n{text}", name.display());
                }
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ntlmfront: [emerg] {error}");
            eprintln!("ntlmfront: configuration file {file} test failed");
            ExitCode::FAILURE
        }
    }
}

/// `-s`
fn signal(options: &Options, control: process::Control) -> ExitCode {
    let config = match config::load(&sources(options), &System, &System) {
        Ok(config) => config,
        Err(error) => return failure(&error, options),
    };
    let log = ErrorLog::open(&config.main.error_logs, &mut LogFiles::default()).unwrap_or_default();
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

/// Says why nothing runs, on standard error and where the operator looks.
fn failure(error: &dyn std::fmt::Display, options: &Options) -> ExitCode {
    eprintln!("ntlmfront: [emerg] {error}");
    if let Ok(file) = LogFiles::default().open(&options.error_log)
        && options.error_log != ntlmfront::config::model::LogTarget::Stderr
    {
        ErrorLog::new(vec![(file, Level::Emerg)]).note(Level::Emerg, format_args!("{error}"));
    }
    ExitCode::FAILURE
}
