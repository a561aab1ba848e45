//! The access log: a line for each request, collected per worker and written many at a time.

use std::sync::Arc;

use crate::config::model::{Escape, LogFormat};
use crate::config::template::{Lookup, Part};

use super::escape::escape_from;
use super::files::LogFile;

/// A buffer that holds more than this is written at once.
const FLUSH_BYTES: usize = 32 * 1024;

/// The lines of one worker that are not written yet. Whoever owns it calls [`AccessBuffers::flush`] when a batch of work is
/// over, and once a second at the latest.
#[derive(Debug, Default)]
pub struct AccessBuffers {
    buffers: Vec<AccessBuffer>,
}

impl AccessBuffers {
    /// Adds a line to what is to be written to `file`.
    pub fn append(&mut self, file: &Arc<LogFile>, format: &LogFormat, lookup: &dyn Lookup) {
        // There are a few logs at the most, so a search is cheaper than a table.
        let known = self
            .buffers
            .iter()
            .position(|buffer| Arc::ptr_eq(&buffer.file, file));
        let index = known.unwrap_or_else(|| {
            self.buffers.push(AccessBuffer::new(Arc::clone(file)));
            self.buffers.len() - 1
        });
        self.buffers[index].append(format, lookup);
    }

    /// Writes all lines.
    pub fn flush(&mut self) {
        for buffer in &mut self.buffers {
            buffer.flush();
        }
    }

    /// Writes all lines and lets the files go, so that those which a new configuration does not name are closed.
    pub fn release(&mut self) {
        self.buffers.clear();
    }
}

/// The lines of one worker for one file. Writes them when dropped.
#[derive(Debug)]
pub struct AccessBuffer {
    file: Arc<LogFile>,
    /// Whole lines only, so that no write ends within one.
    lines: Vec<u8>,
}

impl AccessBuffer {
    /// An empty buffer.
    pub fn new(file: Arc<LogFile>) -> Self {
        Self {
            file,
            lines: Vec::new(),
        }
    }

    /// Adds a line.
    pub fn append(&mut self, format: &LogFormat, lookup: &dyn Lookup) {
        render(format, lookup, &mut self.lines);
        self.lines.push(b'\n');
        if self.lines.len() > FLUSH_BYTES {
            self.flush();
        }
    }

    /// Writes the lines with one `write(2)`.
    pub fn flush(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        self.file.write(&self.lines);
        self.lines.clear();
        // One huge line shall not be remembered for ever.
        self.lines.shrink_to(2 * FLUSH_BYTES);
    }
}

impl Drop for AccessBuffer {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Appends a line without its newline. As in nginx, a variable without a value is `-` in the default escaping and nothing
/// in the others.
pub fn render(format: &LogFormat, lookup: &dyn Lookup, out: &mut Vec<u8>) {
    for part in &format.template.parts {
        match part {
            Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
            Part::Variable(variable) => {
                let start = out.len();
                if lookup.append(variable, out) {
                    escape_from(start, format.escape, out);
                } else if format.escape == Escape::Default {
                    out.push(b'-');
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::LogTarget;
    use crate::config::template::Template;
    use crate::config::variable::Variable;
    use crate::observe::files::LogFiles;
    use std::fs;

    /// Has a `$uri`, an empty `$args` and nothing else.
    struct Request(&'static [u8]);

    impl Lookup for Request {
        fn append(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
            match variable {
                Variable::Uri => out.extend_from_slice(self.0),
                Variable::Args => {}
                _ => return false,
            }
            true
        }
    }

    fn format(escape: Escape) -> LogFormat {
        LogFormat {
            name: "main".into(),
            escape,
            template: Template {
                parts: vec![
                    Part::Literal("\"é\" ".into()),
                    Part::Variable(Variable::Uri),
                    Part::Literal(" ".into()),
                    Part::Variable(Variable::Args),
                    Part::Literal(" ".into()),
                    Part::Variable(Variable::Host),
                    Part::Literal(".".into()),
                ],
            },
        }
    }

    #[test]
    fn lines() {
        for (escape, uri, line) in [
            (Escape::Default, &b"/a\"\n"[..], "\"é\" /a\\x22\\x0A  -."),
            (Escape::Json, b"/a\"\n", "\"é\" /a\\\"\\n  ."),
            (Escape::None, b"/a\"", "\"é\" /a\"  ."),
        ] {
            let mut out = Vec::new();
            render(&format(escape), &Request(uri), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), line);
        }
    }

    #[test]
    fn lines_wait_for_a_flush_a_full_buffer_or_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let mut files = LogFiles::default();
        let file = files.open(&LogTarget::File(path.clone())).unwrap();
        let written = || fs::read_to_string(&path).unwrap();
        let format = format(Escape::Default);

        let mut buffers = AccessBuffers::default();
        buffers.append(&file, &format, &Request(b"/1"));
        buffers.append(&file, &format, &Request(b"/2"));
        assert_eq!(written(), "");
        buffers.flush();
        buffers.flush();
        assert_eq!(written(), "\"é\" /1  -.\n\"é\" /2  -.\n");

        let line_bytes = "\"é\" /3  -.\n".len();
        let before_full = FLUSH_BYTES / line_bytes;
        let old_len = written().len();
        for _ in 0..before_full {
            buffers.append(&file, &format, &Request(b"/3"));
        }
        assert_eq!(written().len(), old_len);
        buffers.append(&file, &format, &Request(b"/3"));
        assert_eq!(written().len(), old_len + (before_full + 1) * line_bytes);

        buffers.append(&file, &format, &Request(b"/4"));
        buffers.release();
        assert!(written().ends_with("\"é\" /4  -.\n"));
        assert_eq!(Arc::strong_count(&file), 2, "the test's and the registry's");
    }
}
