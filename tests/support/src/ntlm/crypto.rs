//! The sums of \[MS-NLMP\] sections 3.3.2 and 3.4.

use hmac::{Hmac, KeyInit, Mac};
use md4::Md4;
use md5::{Digest, Md5};
use rc4::{Rc4, StreamCipher};

/// A key, a challenge's answer or an integrity code: all of NTLM's sums are this long.
pub(super) type Sum = [u8; 16];

/// `NTOWFv2`: the secret that a password gives together with the names, in the spelling the client used for the domain.
pub(super) fn ntowf_v2(user: &str, domain: &str, password: &str) -> Sum {
    let password_hash: Sum = Md4::digest(utf16le(password)).into();
    hmac_md5(
        &password_hash,
        &[&utf16le(&user.to_uppercase()), &utf16le(domain)],
    )
}

pub(super) fn hmac_md5(key: &[u8], parts: &[&[u8]]) -> Sum {
    let mut mac = Hmac::<Md5>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

pub(super) fn rc4(key: &Sum, data: &mut [u8]) {
    Rc4::new_from_slice(key)
        .expect("RC4 takes keys of 16 bytes")
        .apply_keystream(data);
}

pub(super) fn utf16le(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// What both sides hold after a login; SPNEGO signs its list of mechanisms with it.
#[derive(Clone, Debug)]
pub struct SessionKeys {
    pub(super) exported: Sum,
    /// Whether the session key travelled encrypted: then signatures are encrypted too.
    pub(super) key_exchange: bool,
    /// How strong the sealing key is.
    pub(super) strength: Strength,
}

/// The flags 128 and 56, the stronger first.
#[derive(Clone, Copy, Debug)]
pub(super) enum Strength {
    Bits128,
    Bits56,
    Bits40,
}

impl SessionKeys {
    /// The first signature that the client makes, over `data`.
    pub fn client_signature(&self, data: &[u8]) -> [u8; 16] {
        self.signature("client-to-server", data)
    }

    /// The first signature that the server makes, over `data`.
    pub fn server_signature(&self, data: &[u8]) -> [u8; 16] {
        self.signature("server-to-client", data)
    }

    /// 3.4.4.2, with sequence number 0: version, eight bytes of the sum, sequence number.
    fn signature(&self, direction: &str, data: &[u8]) -> [u8; 16] {
        const SEQUENCE: [u8; 4] = [0; 4];
        let key = |purpose: &str, secret: &[u8]| -> Sum {
            let magic = format!("session key to {direction} {purpose} key magic constant\0");
            Md5::new()
                .chain_update(secret)
                .chain_update(magic)
                .finalize()
                .into()
        };
        let sum = hmac_md5(&key("signing", &self.exported), &[&SEQUENCE, data]);
        let mut checksum = [0; 8];
        checksum.copy_from_slice(&sum[..8]);
        if self.key_exchange {
            let secret = match self.strength {
                Strength::Bits128 => &self.exported[..],
                Strength::Bits56 => &self.exported[..7],
                Strength::Bits40 => &self.exported[..5],
            };
            rc4(&key("sealing", secret), &mut checksum);
        }
        let mut signature = [0; 16];
        signature[0] = 1;
        signature[4..12].copy_from_slice(&checksum);
        signature[12..].copy_from_slice(&SEQUENCE);
        signature
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // [MS-NLMP] 4.2: User, Domain, Password; the session key is sixteen times 0x55.
    #[test]
    fn ntowf_v2_is_that_of_4_2_4_1_1() {
        assert_eq!(
            ntowf_v2("User", "Domain", "Password"),
            *b"\x0c\x86\x8a\x40\x3b\xfd\x7a\x93\xa3\x00\x1e\xf2\x2e\xf0\x2e\x3f"
        );
    }

    #[test]
    fn encrypted_session_key_is_that_of_4_2_4_2_3() {
        let session_base_key = *b"\x8d\xe4\x0c\xca\xdb\xc1\x4a\x82\xf1\x5c\xb0\xad\x0d\xe9\x5c\xa3";
        let mut key = [0x55; 16];
        rc4(&session_base_key, &mut key);
        assert_eq!(
            key,
            *b"\xc5\xda\xd2\x54\x4f\xc9\x79\x90\x94\xce\x1c\xe9\x0b\xc9\xd0\x3e"
        );
    }

    #[test]
    fn signature_is_that_of_4_2_4_4() {
        // The message is sealed before it is signed there, so its signature is encrypted with the key stream's bytes
        // 18 to 26 and only the sum before encryption is comparable: 7f b3 8e c5 c5 5d 49 76 comes of the first eight.
        let keys = SessionKeys {
            exported: [0x55; 16],
            key_exchange: false,
            strength: Strength::Bits128,
        };
        let signature = keys.client_signature(&utf16le("Plaintext"));
        let signing: Sum = *b"\x47\x88\xdc\x86\x1b\x47\x82\xf3\x5d\x43\xfd\x98\xfe\x1a\x2d\x39";
        let sealing: Sum = *b"\x59\xf6\x00\x97\x3c\xc4\x96\x0a\x25\x48\x0a\x7c\x19\x6e\x4c\x58";
        let sum = hmac_md5(&signing, &[&[0; 4], &utf16le("Plaintext")]);
        assert_eq!(signature[4..12], sum[..8]);
        let mut sealed = utf16le("Plaintext");
        sealed.extend_from_slice(&sum[..8]);
        rc4(&sealing, &mut sealed);
        assert_eq!(
            sealed[..18],
            *b"\x54\xe5\x01\x65\xbf\x19\x36\xdc\x99\x60\x20\xc1\x81\x1b\x0f\x06\xfb\x5f"
        );
        assert_eq!(sealed[18..], *b"\x7f\xb3\x8e\xc5\xc5\x5d\x49\x76");
    }
}
