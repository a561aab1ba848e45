//! What credentials are: the scheme as a whole word, and whether the token is an NTLM message, which takes only a look at its
//! beginning.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ntlmfront::pin::{Account, Credentials};

use super::input::Input;

/// How much of a token is looked at (the product's own number), in bytes.
const PEEK: usize = 192;

const SIGNATURE: &[u8] = b"NTLMSSP\0";
const NTLM: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a";
const SPNEGO: &[u8] = b"\x2b\x06\x01\x05\x05\x02";

/// Checks one input. Options: 0 it is a token in bytes, which is encoded here, not a field's value.
///
/// # Panics
/// The product is wrong.
pub fn check(input: &[u8]) {
    let input = Input::new(input);
    let value = if input.option(0) {
        let text = base64::engine::general_purpose::STANDARD.encode(input.bytes);
        format!("Negotiate {text}").into_bytes()
    } else {
        input.bytes.to_vec()
    };
    let found = Credentials::in_value(&value);
    let word = scheme(&value);
    assert_eq!(
        found.map(|found| found.scheme.word().to_owned()),
        word,
        "the scheme"
    );
    let Some(found) = found else { return };
    let token = token(&value);
    let start = &token[..token.len().min(PEEK)];
    if found.ntlm_message {
        assert!(
            contains(start, SIGNATURE) || contains(start, NTLM),
            "nothing of NTLM in the token"
        );
    }
    // A token that is well-formed is understood as far as the peek reaches.
    if let Some(place) = well_formed(&token) {
        match place {
            Some(end) if end <= PEEK => assert!(found.ntlm_message, "a message, bare or inside"),
            Some(_) => {}
            None => assert!(!found.ntlm_message, "a token without NTLM"),
        }
    }
    // A name is shown only out of a last message, and none that is longer than names are (in UTF-8, out of UTF-16).
    if let Some(Account { domain, user }) = Account::in_value(&value) {
        let last = [SIGNATURE, b"\x03\0\0\0"].concat();
        assert!(contains(&token, &last), "a name out of nothing");
        assert!(domain.len() <= 768 && user.len() <= 768, "a long name");
    }
    // More bytes never make another token of one that was an NTLM message. (An object identifier that is cut off may look like
    // NTLM's, and be a longer one.)
    for &end in input.ends.iter().filter(|&&end| end <= value.len()) {
        let before = Credentials::in_value(&value[..end]).is_some_and(|found| found.ntlm_message);
        let by_name = contains(&self::token(&value[..end]), NTLM);
        assert!(!before || by_name || found.ntlm_message, "cut at {end}");
    }
}

/// The scheme in lower case, if it is one that logs a connection in.
pub fn scheme(value: &[u8]) -> Option<String> {
    let text: String = value.iter().map(|&b| char::from(b)).collect();
    let mut words = text.split([' ', '\t']).filter(|word| !word.is_empty());
    let word = words.next()?.to_ascii_lowercase();
    ["ntlm", "negotiate", "nego2", "kerberos"]
        .contains(&&word[..])
        .then_some(word)
}

/// The token behind the scheme, decoded as far as it is base64.
fn token(value: &[u8]) -> Vec<u8> {
    let is_blank = |b: &&u8| matches!(b, b' ' | b'\t');
    let behind = value
        .iter()
        .skip_while(is_blank)
        .skip_while(|b| !is_blank(b))
        .skip_while(is_blank);
    let is_digit = |b: &&u8| b.is_ascii_alphanumeric() || b"+/".contains(b);
    let mut digits: Vec<u8> = behind.take_while(is_digit).copied().collect();
    if digits.len() % 4 == 1 {
        digits.pop();
    }
    let lenient = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(&STANDARD, lenient)
        .decode(digits)
        .expect("digits of base64")
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// An element of strict DER: its tag, its content, and where both end within the token.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    /// Offset of the content in the token.
    at: usize,
}

/// Where what says NTLM ends in a bare message or a token of DER; an inner `None` if nothing does. `None`: the token is not well-formed, or longer
/// or shorter than it says.
fn well_formed(token: &[u8]) -> Option<Option<usize>> {
    if token.starts_with(SIGNATURE) {
        return Some(Some(SIGNATURE.len()));
    }
    let outer = only(token, 0)?;
    let inner = match outer.tag {
        0x60 => {
            let parts = elements_of_gss(&outer)?;
            if parts.0.content == NTLM {
                return Some(Some(parts.0.at + NTLM.len()));
            }
            if parts.0.content != SPNEGO {
                return Some(None);
            }
            parts.1?
        }
        _ => outer,
    };
    let is_init = match inner.tag {
        0xa0 => true,
        0xa1 => false,
        _ => return Some(None),
    };
    let sequence = only(inner.content, inner.at).filter(|element| element.tag == 0x30)?;
    let mut found = None;
    for field in all(sequence.content, sequence.at)? {
        let value = only(field.content, field.at)?;
        let says = match (field.tag, value.tag) {
            (0xa0, 0x30) if is_init => {
                let list = all(value.content, value.at)?;
                let first = list.first();
                first
                    .filter(|first| first.tag == 6 && first.content == NTLM)
                    .map(|first| first.at + NTLM.len())
            }
            (0xa1, 0x06) if !is_init => (value.content == NTLM).then_some(value.at + NTLM.len()),
            (0xa2, 0x04) => value
                .content
                .starts_with(SIGNATURE)
                .then_some(value.at + SIGNATURE.len()),
            _ => None,
        };
        found = found.or(says);
    }
    Some(found)
}

/// The mechanism of an initial token, and the element behind it; what is behind another mechanism's need not be DER.
fn elements_of_gss<'a>(outer: &Element<'a>) -> Option<(Element<'a>, Option<Element<'a>>)> {
    let mut rest = (outer.content, outer.at);
    let mechanism = next(&mut rest).filter(|element| element.tag == 6)?;
    Some((mechanism, only(rest.0, rest.1)))
}

/// The element that bytes consist of.
fn only(bytes: &[u8], at: usize) -> Option<Element<'_>> {
    let mut rest = (bytes, at);
    let element = next(&mut rest)?;
    rest.0.is_empty().then_some(element)
}

/// The elements that bytes consist of.
fn all(bytes: &[u8], at: usize) -> Option<Vec<Element<'_>>> {
    let mut rest = (bytes, at);
    let mut all = Vec::new();
    while !rest.0.is_empty() {
        all.push(next(&mut rest)?);
    }
    Some(all)
}

fn next<'a>(rest: &mut (&'a [u8], usize)) -> Option<Element<'a>> {
    let (&tag, &first) = (rest.0.first()?, rest.0.get(1)?);
    let octets = if first < 0x80 {
        0
    } else {
        usize::from(first & 0x7f)
    };
    if first >= 0x80 && !(1..=4).contains(&octets) {
        return None;
    }
    let length = match octets {
        0 => usize::from(first),
        _ => rest
            .0
            .get(2..2 + octets)?
            .iter()
            .fold(0, |length, &octet| length * 256 + usize::from(octet)),
    };
    let from = 2 + octets;
    let content = rest.0.get(from..from.checked_add(length)?)?;
    let element = Element {
        tag,
        content,
        at: rest.1 + from,
    };
    *rest = (&rest.0[from + length..], rest.1 + from + length);
    Some(element)
}
