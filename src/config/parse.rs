//! Statements → a tree of directives, each known, in its place and with the right number of arguments.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::ReadFiles;
use super::directives::{self, Block, Contexts, Definition, Disposition, Known, MAIN, Repeat};
use super::error::{Error, Place, Result};
use super::lex::{End, LexError, Lexer};
use super::value;

/// Blocks and included files within each other; far more than anyone writes, and far less than the stack bears.
const MAX_DEPTH: usize = 64;

/// A directive, or a line of a block that holds entries.
#[derive(Clone, Debug)]
pub(super) struct Directive {
    /// The first word.
    pub(super) name: String,
    /// The other words.
    pub(super) args: Vec<String>,
    /// What stands between its braces.
    pub(super) children: Vec<Directive>,
    /// Where its words end.
    pub(super) place: Place,
    /// Where its block ends.
    pub(super) end: Place,
    /// The reason why it has no effect.
    pub(super) accepted: Option<&'static str>,
}

/// What a text is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Block,
    /// `-g`
    Parameter,
}

/// What the directives of a block may be.
#[derive(Clone, Copy)]
enum Body {
    Directives(Contexts),
    Entries,
}

/// Reads texts into one tree of the main context.
pub(super) struct Parser<'a> {
    files: &'a dyn ReadFiles,
    /// What `include` is relative to.
    directory: PathBuf,
    /// Every file that was read, once.
    pub(super) read: Vec<(PathBuf, String)>,
    /// Directives of the main context.
    pub(super) directives: Vec<Directive>,
    depth: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(files: &'a dyn ReadFiles, directory: PathBuf) -> Self {
        Self {
            files,
            directory,
            read: Vec::new(),
            directives: Vec::new(),
            depth: 0,
        }
    }

    /// Reads the configuration file into the main context.
    pub(super) fn file(&mut self, path: &Path) -> Result<()> {
        let mut directives = std::mem::take(&mut self.directives);
        self.include(path, Body::Directives(MAIN), None, &mut directives)?;
        self.directives = directives;
        Ok(())
    }

    /// Reads the text of `-g` into the main context: directives without blocks.
    pub(super) fn parameter(&mut self, text: &str) -> Result<()> {
        self.main_text(text, Kind::Parameter)
    }

    /// Reads a text of our own, whose place is the command line, into the main context.
    pub(super) fn text(&mut self, text: &str) -> Result<()> {
        self.main_text(text, Kind::File)
    }

    fn main_text(&mut self, text: &str, kind: Kind) -> Result<()> {
        let mut directives = std::mem::take(&mut self.directives);
        let body = Body::Directives(MAIN);
        self.body(&mut Lexer::new(text), None, kind, body, &mut directives)?;
        self.directives = directives;
        Ok(())
    }

    /// Reads one file in the middle of a block; `from` is the line that asks for it.
    fn include(
        &mut self,
        path: &Path,
        body: Body,
        from: Option<&Place>,
        out: &mut Vec<Directive>,
    ) -> Result<()> {
        let bytes = self.files.read(path).map_err(|error| {
            let message = open_failed(path, &error);
            match from {
                Some(place) => Error::at(place, message),
                None => Error::new(message),
            }
        })?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if !self.read.iter().any(|(known, _)| known == path) {
            self.read.push((path.to_owned(), text.clone()));
        }
        let file: Rc<str> = path.to_string_lossy().into();
        self.body(&mut Lexer::new(&text), Some(&file), Kind::File, body, out)
    }

    /// Reads directives up to the end of a block or text.
    fn body(
        &mut self,
        lexer: &mut Lexer<'_>,
        file: Option<&Rc<str>>,
        kind: Kind,
        body: Body,
        out: &mut Vec<Directive>,
    ) -> Result<()> {
        self.depth += 1;
        let mut words = Vec::new();
        loop {
            let end = lexer.statement(&mut words);
            let place = Place {
                file: file.cloned(),
                line: lexer.line(),
            };
            let block = match end {
                Err(error) => return Err(Error::at(&place, lex_message(error, kind))),
                Ok(End::Text) if kind == Kind::Block => {
                    return Err(Error::at(&place, "unexpected end of file, expecting \"}\""));
                }
                Ok(End::Close) if kind != Kind::Block => {
                    return Err(Error::at(&place, "unexpected \"}\""));
                }
                Ok(End::Text | End::Close) => break,
                Ok(End::Semicolon) => false,
                Ok(End::Open) => true,
            };
            if block && kind == Kind::Parameter {
                let message = "block directives are not supported in -g option";
                return Err(Error::at(&place, message));
            }
            if self.depth > MAX_DEPTH {
                return Err(Error::at(&place, "blocks and files are nested too deeply"));
            }
            let mut words = words.drain(..);
            // A statement that ends with `;` or `{` has at least one word.
            let Some(name) = words.next() else { continue };
            let mut directive = Directive {
                name,
                args: words.collect(),
                children: Vec::new(),
                end: place.clone(),
                place,
                accepted: None,
            };
            if directive.name == "include" {
                check_arguments(&directive, 1, 1, block, false)?;
                self.includes(&directive, body, out)?;
                continue;
            }
            let inner = match body {
                Body::Entries if block => {
                    return Err(Error::at(&directive.place, "unexpected \"{\""));
                }
                Body::Entries => None,
                Body::Directives(context) => {
                    let definition = known(&directive, context)?;
                    directive.accepted = check(&directive, definition, block, out)?;
                    definition.arguments.block
                }
            };
            if let Some(inner) = inner {
                let inner = match inner {
                    Block::Context(context) => Body::Directives(context),
                    Block::Entries => Body::Entries,
                };
                self.body(lexer, file, Kind::Block, inner, &mut directive.children)?;
                directive.end.line = lexer.line();
            }
            out.push(directive);
        }
        self.depth -= 1;
        Ok(())
    }

    /// `include file` or `include mask`.
    fn includes(
        &mut self,
        directive: &Directive,
        body: Body,
        out: &mut Vec<Directive>,
    ) -> Result<()> {
        let place = Some(&directive.place);
        let path = self.directory.join(&directive.args[0]);
        if !directive.args[0].contains(['*', '?', '[']) {
            return self.include(&path, body, place, out);
        }
        let matches = self.files.glob(&path).map_err(|error| {
            let message = format!("glob() \"{}\" failed ({error})", path.display());
            Error::at(&directive.place, message)
        })?;
        for path in matches {
            self.include(&path, body, place, out)?;
        }
        Ok(())
    }
}

fn lex_message(error: LexError, kind: Kind) -> String {
    match (error, kind) {
        (LexError::Unexpected(character), _) => format!("unexpected \"{character}\""),
        (LexError::UnexpectedEnd, Kind::Parameter) => {
            "unexpected end of parameter, expecting \";\"".to_owned()
        }
        (LexError::UnexpectedEnd, _) => {
            "unexpected end of file, expecting \";\" or \"}\"".to_owned()
        }
    }
}

/// `open() "F" failed (2: No such file or directory)`
fn open_failed(path: &Path, error: &io::Error) -> String {
    let reason = match error.raw_os_error() {
        Some(code) => format!("{code}: {}", nix::errno::Errno::from_raw(code).desc()),
        None => error.to_string(),
    };
    format!("open() \"{}\" failed ({reason})", path.display())
}

/// The definition of a directive where it stands.
fn known(directive: &Directive, context: Contexts) -> Result<&'static Definition> {
    let (name, place) = (&directive.name, &directive.place);
    match directives::find(name, context) {
        Known::Here(definition) => Ok(definition),
        Known::Elsewhere => {
            let message = format!("\"{name}\" directive is not allowed here");
            Err(Error::at(place, message))
        }
        Known::Refused(hint) => {
            let message = format!("unknown directive \"{name}\"");
            Err(Error::hinted(place, message, hint))
        }
        Known::Unknown => Err(Error::at(place, format!("unknown directive \"{name}\""))),
    }
}

/// Judges a directive by its definition and its predecessors in the same block. Returns why it has no effect, if so.
fn check(
    directive: &Directive,
    definition: &Definition,
    block: bool,
    before: &[Directive],
) -> Result<Option<&'static str>> {
    let (name, place) = (&directive.name, &directive.place);
    let arguments = definition.arguments;
    let wants_block = arguments.block.is_some();
    check_arguments(directive, arguments.min, arguments.max, block, wants_block)?;
    if definition.repeat == Repeat::Once && before.iter().any(|other| other.name == *name) {
        let message = format!("\"{name}\" directive is duplicate");
        return Err(Error::at(place, message));
    }
    if arguments.flag && value::flag(&directive.args[0]).is_none() {
        let message = format!(
            "invalid value \"{}\" in \"{name}\" directive, it must be \"on\" or \"off\"",
            directive.args[0]
        );
        return Err(Error::at(place, message));
    }
    match definition.disposition {
        Disposition::Accepted(reason) => Ok(Some(reason)),
        Disposition::Only(value, hint) if !directive.args[0].eq_ignore_ascii_case(value) => {
            let message = format!(
                "invalid value \"{}\" in \"{name}\" directive, it must be \"{value}\"",
                directive.args[0]
            );
            Err(Error::hinted(place, message, hint))
        }
        _ => Ok(None),
    }
}

fn check_arguments(
    directive: &Directive,
    min: usize,
    max: usize,
    block: bool,
    wants_block: bool,
) -> Result<()> {
    let name = &directive.name;
    let message = if block && !wants_block {
        format!("directive \"{name}\" is not terminated by \";\"")
    } else if wants_block && !block {
        format!("directive \"{name}\" has no opening \"{{\"")
    } else if !(min..=max).contains(&directive.args.len()) {
        format!("invalid number of arguments in \"{name}\" directive")
    } else {
        return Ok(());
    };
    Err(Error::at(&directive.place, message))
}
