//! The client's side: an opening message and the answer to a challenge.

use super::acceptor::strength;
use super::crypto::{SessionKeys, Sum, hmac_md5, ntowf_v2, rc4, utf16le};
use super::message::{MIC, Reader, Writer, av, av_pair, flag, push_av_pair};

/// A Type 3, and what signs after it.
#[derive(Debug)]
pub struct Authenticate {
    /// The message to send.
    pub message: Vec<u8>,
    /// For SPNEGO's signatures.
    pub keys: SessionKeys,
}

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

/// Answers a challenge that [`type1`] brought; `None` if it is none that a version 2 answer can be given to.
pub fn type3(challenge: &[u8], user: &str, domain: &str, password: &str) -> Option<Authenticate> {
    let reader = Reader::new(challenge, 2)?;
    let flags = reader.u32(20)? & WISHES | flag::UNICODE | flag::NTLM;
    let server_challenge: [u8; 8] = reader.array(24)?;
    let target_info = reader.field(40)?;
    // 3.1.5.1.2: a challenge with a timestamp is answered with that timestamp, an integrity code and no LM response.
    let timestamp: Option<[u8; 8]> =
        av_pair(target_info, av::TIMESTAMP).and_then(|time| time.try_into().ok());
    let target_info = match timestamp {
        Some(_) => with_integrity_flag(target_info)?,
        None => target_info.to_vec(),
    };
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

/// The server's target info with the item that announces an integrity code put before its end.
fn with_integrity_flag(target_info: &[u8]) -> Option<Vec<u8>> {
    let mut list = target_info.strip_suffix(&[0; 4])?.to_vec();
    push_av_pair(&mut list, av::FLAGS, &av::FLAG_HAS_MIC.to_le_bytes());
    push_av_pair(&mut list, av::END, &[]);
    Some(list)
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

    #[test]
    fn no_answer_to_what_is_no_challenge() {
        for message in [&b""[..], b"NTLMSSP\0", &type1()] {
            assert!(type3(message, "u", "d", "p").is_none());
        }
    }
}
