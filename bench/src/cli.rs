//! The command line. What the options mean is said here once; `--help` prints it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "bench",
    about = "Compares ntlmfront with nginx, HAProxy and a relay that knows no HTTP"
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What the program can do. The hidden commands are the processes that `compare` starts of itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the contenders side by side and report
    Compare(Box<CompareArgs>),
    /// Name the scenarios
    Scenarios,
    /// The relay that knows no HTTP
    #[command(hide = true)]
    Floor(FloorArgs),
    /// The server behind the contenders
    #[command(hide = true)]
    Origin(OriginArgs),
    /// Become another program, on certain cores and with as many descriptors as allowed
    #[command(hide = true)]
    Launch(LaunchArgs),
}

/// Options of `compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Every scenario once and shortly: a smoke test of the bench, its figures mean little
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only these scenarios; `small` means all whose name begins with `small-`
    #[arg(long = "scenario", value_name = "NAME", value_delimiter = ',')]
    pub(crate) scenarios: Vec<String>,
    /// Only these of: floor, ntlmfront, ntlmfront-epoll, nginx, nginx-custom, haproxy, and the names given with --also
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) contenders: Vec<String>,
    /// How often each contender is measured in each scenario [default: 5, with --quick 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: Option<u32>,
    /// Seconds of one measurement [default: 2, with --quick 0.3]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) duration: Option<Duration>,
    /// Workers of each contender, where the scenario does not say it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) workers: u16,
    /// Full NTLM on both sides instead of messages that only look like it
    #[arg(long)]
    pub(crate) real_ntlm: bool,
    /// One more nginx, named nginx-custom
    #[arg(long, value_name = "PATH")]
    pub(crate) nginx: Option<PathBuf>,
    /// The configuration of that nginx, with {{listen}} and the other words of bench/README.md in it
    #[arg(long, value_name = "TEMPLATE", requires = "nginx")]
    pub(crate) nginx_conf: Option<PathBuf>,
    /// HAProxy's binary, if not the installed one
    #[arg(long, value_name = "PATH")]
    pub(crate) haproxy: Option<PathBuf>,
    /// ntlmfront's binary, if not the workspace's, which is built when it is out of date
    #[arg(long, value_name = "PATH")]
    pub(crate) ntlmfront: Option<PathBuf>,
    /// One more binary of ntlmfront, such as one built before a change
    #[arg(long, value_name = "NAME=PATH", value_parser = named_path)]
    pub(crate) also: Vec<(String, PathBuf)>,
    /// No counting of system calls
    #[arg(long)]
    pub(crate) no_syscalls: bool,
    /// Where the report goes: DIR/NAME.json and DIR/NAME.html [default: results/compare-DATE]
    #[arg(long, value_name = "DIR/NAME")]
    pub(crate) out: Option<PathBuf>,
}

/// Options of `floor`.
#[derive(Debug, Args)]
pub(crate) struct FloorArgs {
    /// Where to listen.
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    /// Where the bytes go.
    #[arg(long)]
    pub(crate) upstream: SocketAddr,
    /// Number of threads.
    #[arg(long, default_value_t = 1)]
    pub(crate) workers: u16,
}

/// Options of `origin`.
#[derive(Debug, Args)]
pub(crate) struct OriginArgs {
    /// Where to listen, on every address of the loopback interface.
    #[arg(long)]
    pub(crate) port: u16,
    /// Check logins in full.
    #[arg(long)]
    pub(crate) real_ntlm: bool,
    /// Speak TLS, with the certificate and the key of this file.
    #[arg(long)]
    pub(crate) tls: Option<PathBuf>,
}

/// Options of `launch`.
#[derive(Debug, Args)]
pub(crate) struct LaunchArgs {
    /// The cores to run on.
    #[arg(long, value_delimiter = ',', required = true)]
    pub(crate) cores: Vec<usize>,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub(crate) program: Vec<std::ffi::OsString>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if !(0.05..=3600.0).contains(&seconds) {
        return Err("between 0.05 and 3600".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn named_path(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), path.into()))
        }
        _ => Err("NAME=PATH is expected".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lists_are_split_and_wrong_values_refused() {
        let parsed = |line: &str| Cli::try_parse_from(line.split(' '));
        let Ok(Cli {
            command: Command::Compare(args),
        }) = parsed("bench compare --scenario small,idle --also old=/x --duration 0.5")
        else {
            panic!("not understood");
        };
        assert_eq!(args.scenarios, ["small", "idle"]);
        assert_eq!(args.also, [("old".to_owned(), PathBuf::from("/x"))]);
        assert_eq!(args.duration, Some(Duration::from_millis(500)));
        for line in [
            "bench compare --duration 0",
            "bench compare --rounds 0",
            "bench compare --also x",
            "bench compare --nginx-conf x",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
