//! What a server offers to log in with.

/// The schemes that `WWW-Authenticate` fields name (RFC 9110 section 11.6.1), as they are spelt, in their order.
pub(super) fn schemes<'a>(fields: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut schemes = Vec::new();
    for member in fields.flat_map(members) {
        let name = member.split([' ', '\t']).next().unwrap_or_default();
        // A member that has a `=` before any blank is a parameter of the scheme before it.
        if !name.is_empty() && !name.contains('=') && !schemes.contains(&name) {
            schemes.push(name);
        }
    }
    schemes
}

/// The members of a list: what stands between commas outside of quotes.
fn members(list: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let separates = move |character: char| {
        let was_escaped = std::mem::take(&mut escaped);
        match character {
            '"' if !was_escaped => quoted = !quoted,
            '\\' if quoted && !was_escaped => escaped = true,
            _ => {}
        }
        character == ',' && !quoted
    };
    list.split(separates).map(|member| member.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_told_from_parameters() {
        for (fields, expected) in [
            (&["Negotiate", "NTLM"][..], &["Negotiate", "NTLM"][..]),
            (&["Negotiate, NTLM"], &["Negotiate", "NTLM"]),
            (&["Negotiate,NTLM ,"], &["Negotiate", "NTLM"]),
            (&["NTLM TlRM==", "NTLM"], &["NTLM"]),
            (
                &["Basic realm=\"a, NTLM\", charset=\"UTF-8\", Bearer"],
                &["Basic", "Bearer"],
            ),
            (&["Basic realm=\"a \\\", NTLM\", NTLM"], &["Basic", "NTLM"]),
            (&["Basic realm=\"NTLM"], &["Basic"]),
            (
                &["Digest qop=\"auth\", nonce=x, Negotiate oYIB="],
                &["Digest", "Negotiate"],
            ),
            (&["", " , "], &[]),
            (&[], &[]),
        ] {
            assert_eq!(schemes(fields.iter().copied()), expected, "{fields:?}");
        }
    }
}
