//! Why a message is refused: a closed list, whose words are the log's and a counter's label.

use std::fmt;

macro_rules! refusals {
    ($($variant:ident $status:literal $word:literal $sentence:literal;)+) => {
        /// A rule that a message broke. In a request it is answered with [`Refusal::status`]; the same reason in a
        /// response becomes 502 or a closed connection. `Refusal as usize` is the index in [`Refusal::ALL`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $(#[doc = $sentence] $variant,)+
        }

        impl Refusal {
            /// Every reason, in the order of the variants.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The status that a request refused for this reason is answered with.
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// The log's word and the counter's label.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl Refusal {
            /// What of a message breaks the rule: its `headers`, the first line among them, or its `body`.
            pub fn part(self) -> &'static str {
                match self {
                    Self::ChunkSize
                    | Self::ChunkExtension
                    | Self::ChunkExtensionsTooLarge
                    | Self::ChunkEnd
                    | Self::Trailer
                    | Self::TrailersTooLarge
                    | Self::BodyCutShort => "body",
                    _ => "headers",
                }
            }
        }

        impl fmt::Display for Refusal {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $sentence,)+ })
            }
        }
    };
}

refusals! {
    // The first line and the shape of a head.
    Malformed 400 "malformed" "the first line is not that of an HTTP/1 message";
    Blanks 400 "blanks" "the parts of the request line are not separated by one space";
    BareLf 400 "bare_lf" "a line feed without a carriage return before it";
    BareCr 400 "bare_cr" "a carriage return without a line feed after it";
    ControlByte 400 "control_byte" "a control byte in a name, a value or the target";
    EmptyLines 400 "empty_lines" "more than one empty line before the first line";
    Http09 400 "http_09" "a request without a version, as in HTTP/0.9";
    VersionMalformed 400 "version_malformed" "a malformed version";
    VersionUnknown 505 "version_unknown" "a version other than HTTP/1.0 and HTTP/1.1";
    Http2Preface 505 "http2_preface" "the preface of an HTTP/2 connection";
    FirstLineTooLong 414 "first_line_too_long" "the first line is too long";
    FieldTooLong 431 "field_too_long" "a field line is too long";
    HeadTooLarge 431 "head_too_large" "the head is too large";
    TooManyFields 431 "too_many_fields" "the head has too many fields";

    // Field lines.
    FoldedLine 400 "folded_line" "a field line begins with a blank";
    NoColon 400 "no_colon" "a field line without a colon";
    BlankBeforeColon 400 "blank_before_colon" "a blank between a field's name and its colon";
    FieldName 400 "field_name" "a field name is empty or no token";

    // Lengths and codings.
    LengthAndCoding 400 "length_and_coding" "Content-Length beside Transfer-Encoding";
    LengthRepeated 400 "length_repeated" "more than one Content-Length";
    LengthInvalid 400 "length_invalid" "Content-Length is not a decimal number";
    CodingInvalid 400 "coding_invalid" "Transfer-Encoding is not the single word chunked";
    CodingNotImplemented 501 "coding_not_implemented" "a transfer coding other than chunked";
    CodingInHttp10 400 "coding_in_http_10" "Transfer-Encoding in HTTP/1.0";

    // Host and target.
    HostMissing 400 "host_missing" "HTTP/1.1 without Host";
    HostRepeated 400 "host_repeated" "more than one Host";
    HostInvalid 400 "host_invalid" "the host is not a name or an address, alone or with a port";
    HostDiffers 400 "host_differs" "Host differs from the authority of the target";
    Connect 405 "connect" "the method is CONNECT";
    TargetForm 400 "target_form" "the target is neither a path nor an http or https address";
    TargetFragment 400 "target_fragment" "a number sign in the target";
    TargetBackslash 400 "target_backslash" "a backslash in the target's path";
    PathEscape 400 "path_escape" "a broken percent escape in the path";
    PathByte 400 "path_byte" "an encoded NUL, CR or LF in the path";
    PathPrefix 400 "path_prefix" "the path does not begin with its location byte for byte, so that proxy_pass cannot replace it";
    PathAboveRoot 400 "path_above_root" "the path leads above the root";

    // Other fields.
    AuthorizationRepeated 400 "authorization_repeated" "more than one Authorization";
    CredentialsVia 403 "credentials_via" "credentials that came through a proxy, which may put several people on one connection";
    TooManyOptions 400 "too_many_options" "Connection names too many fields";
    Expectation 417 "expectation" "an expectation other than 100-continue";

    // Bodies.
    ChunkSize 400 "chunk_size" "a chunk size is not 1 to 16 hexadecimal digits, or too large";
    ChunkExtension 400 "chunk_extension" "a malformed chunk extension";
    ChunkExtensionsTooLarge 400 "chunk_extensions_too_large" "too many bytes of chunk extensions";
    ChunkEnd 400 "chunk_end" "chunk data is not followed by CRLF";
    Trailer 400 "trailer" "a malformed trailer field";
    TrailersTooLarge 431 "trailers_too_large" "the trailers are too large";
    BodyCutShort 400 "body_cut_short" "the connection was closed before the end of the body";

    // Responses.
    Status 400 "status" "the status is not a number from 100 to 599";
    TooManyInformational 400 "too_many_informational" "too many informational responses";
    SwitchUnasked 400 "switch_unasked" "101 without a request to switch, or without a protocol";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn words_are_labels_and_each_is_used_once() {
        let mut seen = HashSet::new();
        for (index, refusal) in Refusal::ALL.iter().enumerate() {
            let word = refusal.word();
            assert!(seen.insert(word), "{word} twice");
            assert!(
                word.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{word}"
            );
            assert_eq!(*refusal as usize, index);
            assert!((400..=505).contains(&refusal.status()), "{word}");
            assert!(!refusal.to_string().is_empty());
        }
    }
}
