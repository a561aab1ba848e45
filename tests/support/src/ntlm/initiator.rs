//! The client's side: an opening message and the answer to a challenge.

use md5::{Digest, Md5};

use super::acceptor::strength;
use super::crypto::{SessionKeys, Sum, hmac_md5, ntowf_v2, rc4, utf16le};
use super::message::{MIC, Reader, Writer, av, av_pair, av_pairs, flag, push_av_pair};

/// A Type 3, and what signs after it.
#[derive(Debug)]
pub struct Authenticate {
    /// The message to send.
    pub message: Vec<u8>,
    /// For SPNEGO's signatures.
    pub keys: SessionKeys,
}

/// What a client binds its login to, as Windows does: Extended Protection. (\[MS-NLMP\] 3.1.5.1.2)
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// `tls-server-end-point` (RFC 5929 section 4.1) of the certificate that the server showed. `None`: the login is expressly
    /// bound to no channel, as over plain HTTP.
    pub end_point: Option<&'a [u8]>,
    /// For which service it is: `HTTP/mail.example.com`.
    pub service: &'a str,
}

/// The longest target info that is answered, in bytes: all that is made of it has to fit into fields of 64 KiB.
const TARGET_INFO_BYTES_MAX: usize = 16 * 1024;

const WISHES: u32 = flag::UNICODE
    | flag::REQUEST_TARGET
    | flag::SIGN
    | flag::NTLM
    | flag::ALWAYS_SIGN
    | flag::EXTENDED_SESSION_SECURITY
    | flag::VERSION
    | flag::BITS_128
    | flag::KEY_EXCHANGE
    | flag::BITS_56;

/// The opening message; always the same.
pub fn type1() -> Vec<u8> {
    let mut message = Writer::new(1, 40);
    message.put(12, &WISHES.to_le_bytes());
    message.put(32, &[10, 0, 0x7c, 0x4f, 0, 0, 0, 15]);
    message.finish()
}

/// Answers a challenge that [`type1`] brought; `None` if it is none that a version 2 answer can be given to. Says nothing of
/// bindings, as clients before Extended Protection.
///
/// # Panics
/// A name is longer than 16 KiB.
pub fn type3(challenge: &[u8], user: &str, domain: &str, password: &str) -> Option<Authenticate> {
    answer(challenge, user, domain, password, None)
}

/// The same, with the login bound.
///
/// # Panics
/// A name is longer than 16 KiB.
pub fn type3_bound(
    challenge: &[u8],
    user: &str,
    domain: &str,
    password: &str,
    binding: &Binding<'_>,
) -> Option<Authenticate> {
    answer(challenge, user, domain, password, Some(binding))
}

fn answer(
    challenge: &[u8],
    user: &str,
    domain: &str,
    password: &str,
    binding: Option<&Binding<'_>>,
) -> Option<Authenticate> {
    let reader = Reader::new(challenge, 2)?;
    let flags = reader.u32(20)? & WISHES | flag::UNICODE | flag::NTLM;
    let server_challenge: [u8; 8] = reader.array(24)?;
    let target_info = reader.field(40)?;
    // 3.1.5.1.2: a challenge with a timestamp is answered with that timestamp, an integrity code and no LM response.
    let timestamp: Option<[u8; 8]> =
        av_pair(target_info, av::TIMESTAMP).and_then(|time| time.try_into().ok());
    let target_info = target_info_back(target_info, timestamp.is_some(), binding)?;
    let secret = ntowf_v2(user, domain, password);
    let blob = blob(timestamp.unwrap_or_default(), rand::random(), &target_info);
    let (proof, session_base_key) = prove(&secret, &server_challenge, &blob);

    let key_exchange = flags & flag::KEY_EXCHANGE != 0;
    let exported: Sum = if key_exchange {
        rand::random()
    } else {
        session_base_key
    };
    let mut message = Writer::new(3, MIC.end);
    message.put(60, &flags.to_le_bytes());
    message.put(64, &[10, 0, 0x7c, 0x4f, 0, 0, 0, 15]);
    message.field(28, &utf16le(domain));
    message.field(36, &utf16le(user));
    message.field(44, &utf16le("CLIENT"));
    message.field(12, &[0; 24]);
    message.field(20, &[&proof[..], &blob].concat());
    if key_exchange {
        let mut encrypted = exported;
        rc4(&session_base_key, &mut encrypted);
        message.field(52, &encrypted);
    }
    let mut message = message.finish();
    if timestamp.is_some() {
        let mic = hmac_md5(&exported, &[&type1(), challenge, &message]);
        message[MIC].copy_from_slice(&mic);
    }
    Some(Authenticate {
        message,
        keys: SessionKeys {
            exported,
            key_exchange,
            strength: strength(flags),
        },
    })
}

/// The proof, and the session base key that follows from it (3.3.2).
fn prove(secret: &Sum, server_challenge: &[u8; 8], blob: &[u8]) -> (Sum, Sum) {
    let proof = hmac_md5(secret, &[server_challenge, blob]);
    (proof, hmac_md5(secret, &[&proof]))
}

/// `temp` of 3.3.2: versions, timestamp, client challenge, target info.
fn blob(timestamp: [u8; 8], client_challenge: [u8; 8], target_info: &[u8]) -> Vec<u8> {
    [
        &[1, 1, 0, 0, 0, 0, 0, 0][..],
        &timestamp,
        &client_challenge,
        &[0; 4],
        target_info,
        &[0; 4],
    ]
    .concat()
}

/// The server's target info as the client sends it back: with what it says about an integrity code and a binding.
fn target_info_back(
    target_info: &[u8],
    integrity_code: bool,
    binding: Option<&Binding<'_>>,
) -> Option<Vec<u8>> {
    if !integrity_code && binding.is_none() {
        return (target_info.len() <= TARGET_INFO_BYTES_MAX).then(|| target_info.to_vec());
    }
    let mut flags = if integrity_code { av::FLAG_HAS_MIC } else { 0 };
    let mut list = Vec::new();
    // Old servers send none.
    let pairs = (!target_info.is_empty()).then(|| av_pairs(target_info));
    for pair in pairs.into_iter().flatten() {
        match pair.ok()? {
            (av::FLAGS, value) => flags |= u32::from_le_bytes(value.try_into().ok()?),
            // Ours to say.
            (av::CHANNEL_BINDINGS | av::TARGET_NAME, _) => {}
            (id, value) => push_av_pair(&mut list, id, value),
        }
    }
    push_av_pair(&mut list, av::FLAGS, &flags.to_le_bytes());
    if let Some(binding) = binding {
        let bound = binding.end_point.map_or([0; 16], channel_bindings);
        push_av_pair(&mut list, av::CHANNEL_BINDINGS, &bound);
        push_av_pair(&mut list, av::TARGET_NAME, &utf16le(binding.service));
    }
    push_av_pair(&mut list, av::END, &[]);
    (list.len() <= TARGET_INFO_BYTES_MAX).then_some(list)
}

/// The sum over `gss_channel_bindings_struct` (RFC 2744 section 3.11) with no addresses in it.
fn channel_bindings(end_point: &[u8]) -> Sum {
    const PREFIX: &[u8] = b"tls-server-end-point:";
    const ADDRESSES: &[u8] = &[0; 16];
    let length = u32::try_from(PREFIX.len() + end_point.len()).unwrap_or(u32::MAX);
    Md5::new()
        .chain_update(ADDRESSES)
        .chain_update(length.to_le_bytes())
        .chain_update(PREFIX)
        .chain_update(end_point)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    // [MS-NLMP] 4.2.4: time 0, client challenge 0xaa.., server challenge 0123456789abcdef, names Domain and Server.
    #[test]
    fn proof_and_session_base_key_are_those_of_4_2_4() {
        let mut target_info = Vec::new();
        push_av_pair(&mut target_info, av::DOMAIN_NAME, &utf16le("Domain"));
        push_av_pair(&mut target_info, av::COMPUTER_NAME, &utf16le("Server"));
        push_av_pair(&mut target_info, av::END, &[]);
        let secret = ntowf_v2("User", "Domain", "Password");
        let blob = blob([0; 8], [0xaa; 8], &target_info);
        let (proof, session_base_key) = prove(&secret, b"\x01\x23\x45\x67\x89\xab\xcd\xef", &blob);
        assert_eq!(
            proof,
            *b"\x68\xcd\x0a\xb8\x51\xe5\x1c\x96\xaa\xbc\x92\x7b\xeb\xef\x6a\x1c"
        );
        assert_eq!(
            session_base_key,
            *b"\x8d\xe4\x0c\xca\xdb\xc1\x4a\x82\xf1\x5c\xb0\xad\x0d\xe9\x5c\xa3"
        );
    }

    /// A challenge with this target info.
    fn challenge_with(target_info: &[u8]) -> Vec<u8> {
        let mut challenge = Writer::new(2, 56);
        challenge.put(20, &WISHES.to_le_bytes());
        challenge.field(40, target_info);
        challenge.finish()
    }

    /// The target info that a Type 3 sends back.
    fn sent_back(message: &[u8]) -> Vec<u8> {
        let response = Reader::new(message, 3).and_then(|reader| reader.field(20));
        response.expect("a response")[16 + 28..].to_vec()
    }

    #[test]
    fn a_binding_is_sent_back_once_and_keeps_what_the_server_said() {
        let mut target_info = Vec::new();
        push_av_pair(&mut target_info, av::DOMAIN_NAME, &utf16le("Domain"));
        push_av_pair(&mut target_info, av::FLAGS, &1u32.to_le_bytes());
        push_av_pair(&mut target_info, av::TIMESTAMP, &[7; 8]);
        push_av_pair(&mut target_info, av::CHANNEL_BINDINGS, &[9; 16]);
        push_av_pair(&mut target_info, av::END, &[]);
        // Some servers pad it.
        target_info.extend([0; 4]);
        // md5 of 16 zero bytes, the length 53, the prefix and 32 times 0x11.
        let sum = *b"\x18\x7b\x8e\xd1\x62\x57\x05\x06\x35\xbf\x9b\xbd\x99\xeb\x5e\x29";
        for (end_point, expected) in [(Some(&[0x11; 32][..]), sum), (None, [0; 16])] {
            let binding = Binding {
                end_point,
                service: "HTTP/mail.test",
            };
            let challenge = challenge_with(&target_info);
            let answer = type3_bound(&challenge, "u", "d", "p", &binding).expect("a challenge");
            let list = sent_back(&answer.message);
            let value = |id| av_pair(&list, id).expect("an item");
            assert_eq!(value(av::DOMAIN_NAME), utf16le("Domain"));
            assert_eq!(value(av::FLAGS), (1 | av::FLAG_HAS_MIC).to_le_bytes());
            assert_eq!(value(av::CHANNEL_BINDINGS), expected);
            assert_eq!(value(av::TARGET_NAME), utf16le("HTTP/mail.test"));
            assert_eq!(av_pairs(&list).count(), 5);
        }
        let plain = type3(&challenge_with(&target_info), "u", "d", "p").expect("a challenge");
        let list = sent_back(&plain.message);
        assert_eq!(av_pair(&list, av::CHANNEL_BINDINGS), None);
    }

    #[test]
    fn hostile_target_infos_are_survived() {
        let binding = Binding {
            end_point: Some(&[1; 32]),
            service: "HTTP/a",
        };
        let mut timed = Vec::new();
        push_av_pair(&mut timed, av::TIMESTAMP, &[7; 8]);
        let mut huge = timed.clone();
        push_av_pair(&mut huge, av::DOMAIN_NAME, &[0; 60_000]);
        let mut flags = timed.clone();
        push_av_pair(&mut flags, av::FLAGS, &[1]);
        for target_info in [&[1][..], &[1, 0, 255, 255], &timed, &huge, &flags] {
            let challenge = challenge_with(target_info);
            for cut in 0..challenge.len().min(100) {
                type3_bound(&challenge[..cut], "u", "d", "p", &binding);
            }
            let bound = type3_bound(&challenge, "u", "d", "p", &binding);
            assert!(bound.is_none(), "{} bytes", target_info.len());
        }
    }

    #[test]
    fn no_answer_to_what_is_no_challenge() {
        for message in [&b""[..], b"NTLMSSP\0", &type1()] {
            assert!(type3(message, "u", "d", "p").is_none());
        }
    }
}
