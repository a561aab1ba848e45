//! A parser in a process of its own, which reads batches from its standard input and answers on its standard output.

use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::case::{Case, Kind};
use crate::message::{Message, View};

/// A running parser, ended with its value.
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// h11, under the interpreter that `NTLMFRONT_TEST_PYTHON` names, or else that of `.venv`.
    pub(crate) fn h11() -> Self {
        let interpreter = std::env::var_os("NTLMFRONT_TEST_PYTHON").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python"),
            std::path::PathBuf::from,
        );
        let mut command = Command::new(interpreter);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        Self::start(command, "h11_reader.py")
    }

    /// Node's llhttp.
    pub(crate) fn llhttp() -> Self {
        let mut command = Command::new("node");
        command.arg("--no-deprecation");
        Self::start(command, "llhttp_reader.js")
    }

    fn start(mut command: Command, script: &str) -> Self {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/parsers");
        let mut child = command
            .arg(scripts.join(script))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}, which tools/test installs: {error}"));
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let input = child.stdin.take();
        Self {
            child,
            input,
            output,
        }
    }

    /// Hands a batch over. Its answer has to be taken before the next one.
    pub(crate) fn ask(&mut self, batch: &[Case]) -> io::Result<()> {
        let mut bytes = Vec::new();
        let count = |number: usize| u32::try_from(number).expect("a small number").to_be_bytes();
        bytes.extend(count(batch.len()));
        for case in batch {
            let (kind, heads) = match &case.kind {
                Kind::Request => (b'Q', Vec::new()),
                Kind::Response { heads } => {
                    let letter = |head: &bool| if *head { b'H' } else { b'G' };
                    (b'S', heads.iter().map(letter).collect())
                }
            };
            bytes.extend([kind, u8::from(case.closed)]);
            for part in [&heads, &case.bytes] {
                bytes.extend(count(part.len()));
                bytes.extend_from_slice(part);
            }
        }
        let input = self.input.as_mut().expect("there until the end");
        input.write_all(&bytes)?;
        input.flush()
    }

    /// What it saw in the `batch` that it was handed last.
    pub(crate) fn answer(&mut self, batch: &[Case]) -> io::Result<Vec<View>> {
        batch.iter().map(|_| self.view()).collect()
    }

    fn view(&mut self) -> io::Result<View> {
        let mut view = View::default();
        for _ in 0..self.number()? {
            view.messages.push(Message {
                method: self.part()?,
                target: self.part()?,
                version: self.part()?,
                body: self.part()?,
            });
        }
        let error = String::from_utf8_lossy(&self.part()?).into_owned();
        view.error = (!error.is_empty()).then_some(error);
        Ok(view)
    }

    fn number(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 4];
        self.output.read_exact(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes) as usize)
    }

    fn part(&mut self) -> io::Result<Vec<u8>> {
        let mut part = vec![0; self.number()?];
        self.output.read_exact(&mut part)?;
        Ok(part)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input is its own; one that does not notice is ended.
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
