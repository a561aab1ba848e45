//! What a reader found in bytes, and the strictest reader of them all, which the origin and the client use.
//!
//! It is written for this test alone and shares no code with the front: it knows only what the front writes.

/// One message as some reader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// The method of a request, the status of a response.
    pub(crate) method: Vec<u8>,
    /// The target of a request; empty for a response.
    pub(crate) target: Vec<u8>,
    /// `1.1`.
    pub(crate) version: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

/// What one parser sees in all bytes of a case.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// The messages that it believes complete, informational responses left out.
    pub(crate) messages: Vec<Message>,
    /// Why it stopped.
    pub(crate) error: Option<String>,
}

/// What the strict reader says of the bytes of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Read {
    /// Nothing is complete yet.
    More,
    /// A message, and how many bytes it takes, informational responses before it included.
    Whole(Message, usize),
    /// Not what a careful sender writes.
    Bad(String),
}

/// A head taken apart.
pub(crate) struct Head<'a> {
    line: &'a [u8],
    fields: Vec<(Vec<u8>, &'a [u8])>,
    /// Its length, the empty line included.
    len: usize,
}

impl<'a> Head<'a> {
    /// The head that `bytes` begin with, if all of it is there.
    pub(crate) fn of(bytes: &'a [u8]) -> Result<Option<Self>, String> {
        let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = &bytes[..end];
        let mut lines = Vec::new();
        let mut rest = text;
        while let Some(at) = memchr::memmem::find(rest, b"\r\n") {
            lines.push(&rest[..at]);
            rest = &rest[at + 2..];
        }
        lines.push(rest);
        let is_control = |b: &u8| (*b < 0x20 && *b != b'\t') || *b == 0x7f;
        if lines.iter().any(|line| line.iter().any(is_control)) {
            return Err("a control byte in a head".into());
        }
        let mut fields = Vec::new();
        for line in &lines[1..] {
            let colon = line.iter().position(|b| *b == b':');
            let colon = colon.ok_or("a line without a colon")?;
            let name = line[..colon].to_ascii_lowercase();
            if name.is_empty() || name.iter().any(|b| *b <= b' ' || *b >= 0x7f) {
                return Err("a field name with blanks or none".into());
            }
            fields.push((name, line[colon + 1..].trim_ascii()));
        }
        Ok(Some(Self {
            line: lines[0],
            fields,
            len: end + 4,
        }))
    }

    /// The values of the fields of this name, in lower case.
    pub(crate) fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's {
        let same = move |field: &&(Vec<u8>, &'a [u8])| field.0 == name.as_bytes();
        self.fields.iter().filter(same).map(|(_, value)| *value)
    }

    /// Whether `Connection` says close.
    pub(crate) fn closes(&self) -> bool {
        self.all("connection")
            .any(|value| value.eq_ignore_ascii_case(b"close"))
    }

    /// Its length in bytes, the empty line included.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A response's status.
    pub(crate) fn status(&self) -> &'a [u8] {
        self.line.get(9..12).unwrap_or_default()
    }

    /// Whether a response's head is not an informational one.
    pub(crate) fn is_final(&self) -> bool {
        self.line.get(9) != Some(&b'1')
    }

    fn length(&self) -> Result<Length, String> {
        let lengths: Vec<_> = self.all("content-length").collect();
        let codings: Vec<_> = self.all("transfer-encoding").collect();
        match (&*lengths, &*codings) {
            ([], []) => Ok(Length::Unsaid),
            ([], [b"chunked"]) => Ok(Length::Chunked),
            ([digits], []) if digits.iter().all(u8::is_ascii_digit) => {
                let text = std::str::from_utf8(digits).expect("digits");
                let length = text.parse().map_err(|_| "an impossible length")?;
                Ok(Length::Known(length))
            }
            both => Err(format!("framed by {both:?}")),
        }
    }
}

enum Length {
    Unsaid,
    Known(usize),
    Chunked,
}

/// Reads a request.
pub(crate) fn request(bytes: &[u8]) -> Read {
    let head = match Head::of(bytes) {
        Ok(Some(head)) => head,
        Ok(None) => return Read::More,
        Err(problem) => return Read::Bad(problem),
    };
    let parts: Vec<_> = head.line.split(|b| *b == b' ').collect();
    let (method, target) = match &*parts {
        [method, target, b"HTTP/1.1"] if !method.is_empty() && !target.is_empty() => {
            (method, target)
        }
        _ => return Read::Bad("not a request line".into()),
    };
    let message = Message {
        method: method.to_vec(),
        target: target.to_vec(),
        version: b"1.1".to_vec(),
        body: Vec::new(),
    };
    match head.length() {
        Ok(Length::Unsaid) => Read::Whole(message, head.len),
        Ok(length) => body(bytes, head.len, &length, false, message),
        Err(problem) => Read::Bad(problem),
    }
}

/// Reads a final response to a request that was a HEAD or not. `closed` says that no more bytes come, which ends a body
/// without a length.
pub(crate) fn response(bytes: &[u8], to_head: bool, closed: bool) -> Read {
    let mut from = 0;
    loop {
        let head = match Head::of(&bytes[from..]) {
            Ok(Some(head)) => head,
            Ok(None) => return Read::More,
            Err(problem) => return Read::Bad(problem),
        };
        let body_at = from + head.len;
        let status = match head.line {
            [
                b'H',
                b'T',
                b'T',
                b'P',
                b'/',
                b'1',
                b'.',
                b'0' | b'1',
                b' ',
                status @ ..,
            ] if status.len() >= 3
                && status[..3].iter().all(u8::is_ascii_digit)
                && matches!(status.get(3), None | Some(b' ')) =>
            {
                &status[..3]
            }
            _ => return Read::Bad("not a status line".into()),
        };
        if status[0] == b'1' {
            from = body_at;
            continue;
        }
        let message = Message {
            method: status.to_vec(),
            target: Vec::new(),
            version: head.line[5..8].to_vec(),
            body: Vec::new(),
        };
        let length = match head.length() {
            Ok(length) => length,
            Err(problem) => return Read::Bad(problem),
        };
        if to_head || matches!(status, b"204" | b"304") {
            return Read::Whole(message, body_at);
        }
        return body(bytes, body_at, &length, closed, message);
    }
}

fn body(bytes: &[u8], from: usize, length: &Length, closed: bool, mut message: Message) -> Read {
    match *length {
        Length::Unsaid if closed => {
            message.body = bytes[from..].to_vec();
            Read::Whole(message, bytes.len())
        }
        Length::Unsaid => Read::More,
        Length::Known(length) => match from
            .checked_add(length)
            .and_then(|end| bytes.get(from..end))
        {
            Some(body) => {
                message.body = body.to_vec();
                Read::Whole(message, from + length)
            }
            None => Read::More,
        },
        Length::Chunked => chunked(bytes, from, message),
    }
}

fn chunked(bytes: &[u8], mut at: usize, mut message: Message) -> Read {
    let bad = |problem: &str| Read::Bad(problem.into());
    loop {
        let rest = &bytes[at..];
        let Some(line_end) = memchr::memmem::find(rest, b"\r\n") else {
            return Read::More;
        };
        let digits = &rest[..line_end];
        if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_hexdigit) {
            return bad("not the chunk size that the front writes");
        }
        let size = std::str::from_utf8(digits).expect("digits");
        let size = usize::from_str_radix(size, 16).expect("eight digits at the most");
        at += line_end + 2;
        let Some(data) = bytes.get(at..at + size + 2) else {
            return Read::More;
        };
        if &data[size..] != b"\r\n" {
            return bad("no CRLF behind a chunk");
        }
        at += size + 2;
        if size == 0 {
            return Read::Whole(message, at);
        }
        message.body.extend_from_slice(&data[..size]);
    }
}
