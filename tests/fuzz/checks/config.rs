//! The configuration: any text is either understood, twice the same way, or refused with a place that exists.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ntlmfront::config::model::LogTarget;
use ntlmfront::config::{Options, ReadFiles, Resolve, load};

use super::input::Input;

const MAIN: &str = "/p/conf/f";
const OTHER: &str = "/p/conf/o.conf";

/// Checks one input. Options: 0 the text stands in a server of an `http` block with an upstream; 1 it is the text of `-g`. What is
/// behind a zero byte is the file `o.conf` beside it.
///
/// # Panics
/// The product is wrong.
pub fn check(input: &[u8]) {
    let input = Input::new(input);
    let mut parts = input.bytes.splitn(2, |&b| b == 0);
    let text = parts.next().unwrap_or_default();
    let wrapped = if input.option(0) {
        let before = b"events{}http{upstream u{server 10.0.0.1;}server{\n";
        [before, text, b"\n}}"].concat()
    } else {
        text.to_vec()
    };
    let globals = input
        .option(1)
        .then(|| String::from_utf8_lossy(text).into_owned());
    let files = Files {
        main: if globals.is_some() {
            b"events{}http{}".to_vec()
        } else {
            wrapped
        },
        other: parts.next().unwrap_or_default().to_vec(),
    };
    let options = Options {
        prefix: PathBuf::from("/p"),
        file: PathBuf::from("conf/f"),
        globals,
        error_log: LogTarget::Stderr,
    };
    let first = load(&options, &files, &files);
    let second = load(&options, &files, &files);
    match (&first, &second) {
        (Ok(first), Ok(second)) => {
            assert_eq!(format!("{:?}", first.main), format!("{:?}", second.main))
        }
        (Err(first), Err(second)) => {
            assert_eq!(first.to_string(), second.to_string());
            has_place(&first.to_string(), &files);
        }
        _ => panic!("once {first:?}, then {second:?}"),
    }
    // No cut of a text may do what its whole does not: end the process.
    for &end in &input.ends {
        let files = Files {
            main: files.main[..end.min(files.main.len())].to_vec(),
            other: Vec::new(),
        };
        let _ = load(&options, &files, &files);
    }
}

/// The line that an error names is one of its file.
fn has_place(message: &str, files: &Files) {
    for (name, text) in [(MAIN, &files.main), (OTHER, &files.other)] {
        for (at, _) in message.match_indices(&format!(" in {name}:")) {
            let behind = &message[at + " in :".len() + name.len()..];
            let digits: String = behind.chars().take_while(char::is_ascii_digit).collect();
            // The text itself may hold such words, in a name that the message repeats.
            let Ok(line) = digits.parse::<usize>() else {
                continue;
            };
            let lines = text.iter().filter(|&&b| b == b'\n').count() + 1;
            let quoted = String::from_utf8_lossy(text).contains(&format!(" in {name}:"));
            assert!(
                quoted || (1..=lines).contains(&line),
                "{message}, but there are {lines} lines"
            );
        }
    }
}

/// Two files, and names that need no resolver.
struct Files {
    main: Vec<u8>,
    other: Vec<u8>,
}

impl ReadFiles for Files {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some(MAIN) => Ok(self.main.clone()),
            Some(OTHER) => Ok(self.other.clone()),
            _ => Err(io::Error::from_raw_os_error(2)),
        }
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let matches = pattern.parent() == Path::new(OTHER).parent();
        Ok(matches.then(|| OTHER.into()).into_iter().collect())
    }
}

impl Resolve for Files {
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        match host {
            "localhost" => Ok(vec![[127, 0, 0, 1].into()]),
            "exchange.example" => Ok(vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()]),
            _ => Err(io::Error::other("no such host")),
        }
    }
}
