//! Text → statements: the words before a `;`, `{` or `}`, with nginx's quotes, escapes and comments.

/// What ended a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// `;`
    Semicolon,
    /// `{`
    Open,
    /// `}`, before any word.
    Close,
    /// The text's end, before any word.
    Text,
}

/// Why the text is no sequence of statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LexError {
    /// A character that cannot stand where it does.
    Unexpected(char),
    /// The text ended within a statement.
    UnexpectedEnd,
}

/// Reads statements. `pos <= text.len()`, always at a character's boundary, because only ASCII bytes end anything.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    pos: usize,
    line: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            pos: 0,
            line: 1,
        }
    }

    /// The line that was read last, counted from 1.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// Reads up to the next `;`, `{`, `}` or the end. `words` is cleared first.
    pub(super) fn statement(&mut self, words: &mut Vec<String>) -> Result<End, LexError> {
        words.clear();
        loop {
            self.skip_blanks();
            let Some(byte) = self.peek() else {
                return if words.is_empty() {
                    Ok(End::Text)
                } else {
                    Err(LexError::UnexpectedEnd)
                };
            };
            match byte {
                b';' | b'{' if words.is_empty() => return Err(self.unexpected()),
                b'}' if !words.is_empty() => return Err(self.unexpected()),
                b';' => return Ok(self.end(End::Semicolon)),
                b'{' => return Ok(self.end(End::Open)),
                b'}' => return Ok(self.end(End::Close)),
                b'"' | b'\'' => words.push(self.quoted(byte)?),
                _ => words.push(self.bare()?),
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.pos).copied()
    }

    /// Takes one byte, counting lines.
    fn advance(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.pos += 1;
        self.line += usize::from(byte == b'\n');
        Some(byte)
    }

    fn end(&mut self, end: End) -> End {
        self.pos += 1;
        end
    }

    fn unexpected(&self) -> LexError {
        match self.text[self.pos..].chars().next() {
            Some(character) => LexError::Unexpected(character),
            None => LexError::UnexpectedEnd,
        }
    }

    /// Skips blanks and comments; a comment starts only where a word could.
    fn skip_blanks(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => {
                    self.advance();
                }
                b'#' => while !matches!(self.advance(), None | Some(b'\n')) {},
                _ => return,
            }
        }
    }

    /// A quoted word; behind it only a blank, `;`, `{` or `)` may stand.
    fn quoted(&mut self, quote: u8) -> Result<String, LexError> {
        self.advance();
        let start = self.pos;
        loop {
            match self.advance() {
                None => return Err(LexError::UnexpectedEnd),
                Some(b'\\') => {
                    self.advance();
                }
                Some(byte) if byte == quote => break,
                Some(_) => {}
            }
        }
        let word = unescape(&self.text[start..self.pos - 1]);
        match self.peek() {
            None => Err(LexError::UnexpectedEnd),
            Some(b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{' | b')') => Ok(word),
            Some(_) => Err(self.unexpected()),
        }
    }

    /// A word without quotes; the `{` of `${name}` does not end it.
    fn bare(&mut self) -> Result<String, LexError> {
        let start = self.pos;
        let mut after_dollar = false;
        loop {
            match self.peek() {
                None => return Err(LexError::UnexpectedEnd),
                Some(b'{') if after_dollar => {}
                Some(b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{') => break,
                Some(b'\\') => {
                    self.advance();
                }
                Some(_) => {}
            }
            after_dollar = self.peek() == Some(b'$');
            self.advance();
        }
        Ok(unescape(&self.text[start..self.pos]))
    }
}

/// `\"`, `\'`, `\\`, `\t`, `\r` and `\n`; any other backslash stays, for the regular expressions it belongs to.
fn unescape(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let mut behind = rest[at + 1..].chars();
        match behind.next() {
            Some(quote @ ('"' | '\'' | '\\')) => out.push(quote),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('n') => out.push('\n'),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
        rest = behind.as_str();
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    type Statements = Vec<(Vec<String>, End)>;

    /// All statements of a text, or the error and its line.
    fn lex(text: &str) -> Result<Statements, (LexError, usize)> {
        let mut lexer = Lexer::new(text);
        let mut words = Vec::new();
        let mut statements = Vec::new();
        loop {
            match lexer.statement(&mut words) {
                Ok(End::Text) => return Ok(statements),
                Ok(end) => statements.push((words.clone(), end)),
                Err(error) => return Err((error, lexer.line())),
            }
        }
    }

    #[test]
    fn words() {
        for (text, expected) in [
            ("", &[][..]),
            ("# only a comment", &[]),
            ("a;", &["a"]),
            ("a b\tc\r\n d ;", &["a", "b", "c", "d"]),
            ("a # b;\n c;", &["a", "c"]),
            ("a b#c;", &["a", "b#c"]),
            (
                r#"a "b c" 'd "e"' "" '';"#,
                &["a", "b c", "d \"e\"", "", ""],
            ),
            (
                r#"a "b\"c" 'd\'e' "\\" "\t\r\n" "\d\.";"#,
                &["a", "b\"c", "d'e", "\\", "\t\r\n", "\\d\\."],
            ),
            (r"a b\ c\;d\{;", &["a", r"b\ c\;d\{"]),
            (r"\$a;", &[r"\$a"]),
            ("a ${b}c $d;", &["a", "${b}c", "$d"]),
            ("a ${b} $;", &["a", "${b}", "$"]),
            ("a b}c;", &["a", "b}c"]),
            ("a b\"c\";", &["a", "b\"c\""]),
            ("a \"b\");", &["a", "b", ")"]),
            ("a \"b\nc\";", &["a", "b\nc"]),
            ("ä \"ö\" \\ü;", &["ä", "ö", "\\ü"]),
        ] {
            let words: Vec<_> = match lex(text) {
                Ok(statements) => statements
                    .into_iter()
                    .flat_map(|(words, _)| words)
                    .collect(),
                Err(error) => panic!("{text}: {error:?}"),
            };
            assert_eq!(words, expected, "{text}");
        }
    }

    #[test]
    fn ends() {
        let statements = lex("a{b;}c d {}").unwrap();
        let ends: Vec<_> = statements.into_iter().map(|(_, end)| end).collect();
        use End::*;
        assert_eq!(ends, [Open, Semicolon, Close, Open, Close]);
    }

    #[test]
    fn errors() {
        use LexError::*;
        for (text, expected) in [
            (";", (Unexpected(';'), 1)),
            ("\n{", (Unexpected('{'), 2)),
            ("a\n}", (Unexpected('}'), 2)),
            ("a \"b\"c;", (Unexpected('c'), 1)),
            ("a \"b\"ä;", (Unexpected('ä'), 1)),
            ("a", (UnexpectedEnd, 1)),
            ("a b ", (UnexpectedEnd, 1)),
            ("a \"b", (UnexpectedEnd, 1)),
            ("a \"b\"", (UnexpectedEnd, 1)),
            ("a\n\\", (UnexpectedEnd, 2)),
            ("a # c;\n", (UnexpectedEnd, 2)),
        ] {
            assert_eq!(lex(text).unwrap_err(), expected, "{text}");
        }
    }
}
