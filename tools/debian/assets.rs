//! Writes the manual page and the completions of bash, zsh and fish into a directory, from the options that `-h` prints.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap_complete::aot::{Bash, Fish, Zsh, generate_to};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use jiff::Timestamp;
use ntlmfront::cli;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: assets DIRECTORY");
        return ExitCode::FAILURE;
    };
    match write_all(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("assets: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_all(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let name = "ntlmfront";
    generate_to(Bash, &mut cli::command(), name, directory)?;
    generate_to(Zsh, &mut cli::command(), name, directory)?;
    generate_to(Fish, &mut cli::command(), name, directory)?;
    manual(&mut File::create(directory.join("ntlmfront.8"))?)
}

/// What the program does beyond its options: sections of paragraphs, each with what it is about, if it is a list.
const SECTIONS: [(&str, &[(&str, &str)]); 4] = [
    (
        "SIGNALS",
        &[
            ("TERM, INT", "Stop at once. As -s stop."),
            (
                "QUIT",
                "Finish what is in flight, for worker_shutdown_timeout at the most, then stop. As -s quit.",
            ),
            (
                "HUP",
                "Read the configuration again. Connections and logins go on; a configuration that is wrong changes nothing. As -s reload.",
            ),
            ("USR1", "Open the logs again. As -s reopen."),
            (
                "USR2",
                "Start the binary that is there now beside this process, with its listening sockets. QUIT then ends the one that is not wanted.",
            ),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            (
                "NTLMFRONT_PASSWORD",
                "The password of the user that --probe logs in. Without it, it is asked for.",
            ),
            (
                "NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID",
                "Set by a service manager: it is told that the front is ready, reloads, stops, and is well, see sd_notify(3).",
            ),
            (
                "LISTEN_FDS, LISTEN_PID",
                "Set by a service manager that has opened listening sockets, see sd_listen_fds(3).",
            ),
        ],
    ),
    (
        "EXIT STATUS",
        &[(
            "",
            "0 for success; 1 where something is wrong with the command line, the configuration, the start or what is probed, or a worker has failed.",
        )],
    ),
    (
        "SEE ALSO",
        &[
            ("", "nginx(8), systemctl(1)"),
            (
                "",
                "Every directive of the configuration is described in directives.md, the service in service.md, in the documentation \
                 that comes with the program.",
            ),
        ],
    ),
];

fn manual(out: &mut impl Write) -> io::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let about = "ntlmfront is a front for servers that log people in with NTLM and Negotiate: Exchange, SharePoint, Azure DevOps \
                 Server, anything on IIS. Such a login belongs to a connection, so each client connection gets an upstream \
                 connection of its own from the first credentials on. It reads nginx's configuration language and takes nginx's \
                 command line and signals.";
    let page = Man::new(cli::command().long_about(about))
        .title("NTLMFRONT")
        .section("8")
        .date(date())
        .source(format!("ntlmfront {version}"))
        .manual("System Administration");
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    page.render_options_section(out)?;
    let mut sections = Roff::new();
    for (title, paragraphs) in SECTIONS {
        sections.control("SH", [title]);
        for (nth, (subject, text)) in paragraphs.iter().enumerate() {
            if !subject.is_empty() {
                sections.control("TP", []);
                sections.text([bold(*subject)]);
            } else if nth > 0 {
                sections.control("PP", []);
            }
            sections.text([roman(*text)]);
        }
    }
    sections.to_writer(out)
}

/// The day of the build, or the one that `SOURCE_DATE_EPOCH` names, so that builds can be repeated.
fn date() -> String {
    let named = std::env::var("SOURCE_DATE_EPOCH").ok();
    let named = named.and_then(|seconds| Timestamp::from_second(seconds.parse().ok()?).ok());
    let day = named.unwrap_or_else(Timestamp::now);
    day.strftime("%F").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_in_every_file() {
        let directory =
            std::env::temp_dir().join(format!("ntlmfront-assets-{}", std::process::id()));
        write_all(&directory).unwrap();
        let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
        let [bash, zsh, fish, page] = [
            "ntlmfront.bash",
            "_ntlmfront",
            "ntlmfront.fish",
            "ntlmfront.8",
        ]
        .map(read);
        let bash: Vec<_> = bash.split([' ', '"', '\n']).collect();
        let mut options = 0;
        for argument in cli::command().get_arguments() {
            let short = argument.get_short_and_visible_aliases();
            let long = argument.get_long();
            options += 1;
            for letter in short.unwrap_or_default() {
                assert!(bash.contains(&&*format!("-{letter}")), "{letter}");
                assert!(zsh.contains(&format!("'-{letter}")), "{letter}");
                assert!(fish.contains(&format!(" -s {letter} ")), "{letter}");
            }
            if let Some(letter) = argument.get_short() {
                assert!(page.contains(&format!("\n\\fB\\-{letter}\\fR")), "{letter}");
            }
            if let Some(long) = long {
                assert!(bash.contains(&&*format!("--{long}")), "{long}");
                assert!(zsh.contains(&format!("--{long}")), "{long}");
                assert!(fish.contains(&format!(" -l {long}")), "{long}");
                assert!(page.contains(&format!("\\-\\-{long}")), "{long}");
            }
        }
        assert!(options > 10, "{options}");
        for word in ["stop", "quit", "reopen", "reload", "uring", "epoll"] {
            assert!(bash.iter().any(|shown| shown.ends_with(word)), "{word}");
            for file in [&zsh, &fish, &page] {
                assert!(file.contains(word), "{word}");
            }
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
