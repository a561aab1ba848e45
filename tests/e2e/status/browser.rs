//! Headless Chromium, driven step by step by `tests/clients/status_page.py`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// A browser with one page. Ends with its value.
pub(super) struct Browser {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Browser {
    pub(super) fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = std::env::var_os("NTLMFRONT_TEST_PYTHON");
        let python = python.unwrap_or_else(|| root.join(".venv/bin/python").into());
        let mut child = Command::new(python)
            .arg(root.join("tests/clients/status_page.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python");
        Self {
            commands: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().expect("it is piped")),
            child,
        }
    }

    #[track_caller]
    fn ask(&mut self, command: &Value) -> Value {
        let commands = self.commands.as_mut().expect("until it is dropped");
        writeln!(commands, "{command}").expect("it reads");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{command}: {line:?}"))
    }

    /// Opens a page in a window of this size, in `light` or `dark`.
    #[track_caller]
    pub(super) fn open(&mut self, (width, height): (u32, u32), scheme: &str, url: &str) {
        let status = self.ask(&json!(["open", width, height, scheme, url]));
        assert_eq!(status, 200, "{url}");
    }

    /// Waits until an expression is true; returns its value.
    #[track_caller]
    pub(super) fn wait(&mut self, expression: &str) -> Value {
        self.ask(&json!(["wait", expression]))
    }

    /// The value of an expression now.
    #[track_caller]
    pub(super) fn value(&mut self, expression: &str) -> Value {
        self.ask(&json!(["value", expression]))
    }

    /// The same as text.
    #[track_caller]
    pub(super) fn text(&mut self, expression: &str) -> String {
        let value = self.value(expression);
        value
            .as_str()
            .unwrap_or_else(|| panic!("{expression}: {value}"))
            .to_owned()
    }

    #[track_caller]
    pub(super) fn press(&mut self, key: &str) {
        self.ask(&json!(["press", key]));
    }

    /// Has a picture of the page taken, or of so much of it.
    #[track_caller]
    pub(super) fn shot(&mut self, path: &Path, height: u32) {
        self.ask(&json!(["shot", path, height]));
    }

    /// What a page must not do, and did.
    #[track_caller]
    pub(super) fn problems(&mut self) -> Vec<String> {
        serde_json::from_value(self.ask(&json!(["problems"]))).expect("a list")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The end of its input ends it, and the browser with it.
        drop(self.commands.take());
        let _ = self.child.wait();
    }
}
