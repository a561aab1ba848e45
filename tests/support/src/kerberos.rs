//! What stands in for Kerberos in tests: a token that names a user and is good at once, in the wrapping that real ones
//! have. Anybody who has this source can make one, so an origin takes them only when told to.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::login::Kerberos;
use crate::spnego::{Init, Mechanism};

const KEY: &[u8] = b"ntlm-origin: not a secret";
const MAC_BYTES: usize = 32;

/// A SPNEGO token that logs `identity` in, and offers NTLM as the second choice. `padding_bytes` more make it as large
/// as those of accounts in many groups.
pub fn token(identity: &str, padding_bytes: usize) -> Init {
    let mut ticket = mac(identity.as_bytes()).to_vec();
    ticket.extend_from_slice(identity.as_bytes());
    ticket.resize(ticket.len() + padding_bytes, 0);
    wrapped(ticket)
}

/// The same for a server that does what the ticket says ([`Kerberos::AsTheTicketSays`]); without `genuine`, one that
/// names nobody.
pub fn token_for(identity: &str, treatment: Kerberos, genuine: bool) -> Init {
    let mut ticket = mac(identity.as_bytes()).to_vec();
    ticket[0] ^= u8::from(!genuine);
    ticket.extend_from_slice(identity.as_bytes());
    ticket.extend_from_slice(&[0, treatment as u8]);
    wrapped(ticket)
}

fn wrapped(ticket: Vec<u8>) -> Init {
    Init::new(&[Mechanism::Kerberos, Mechanism::Ntlm], ticket)
}

/// What a ticket asks to be done with it. One that says nothing is declined.
pub(crate) fn treatment(ticket: &[u8]) -> Kerberos {
    let said = ticket
        .get(MAC_BYTES..)
        .and_then(|rest| rest.splitn(2, |&byte| byte == 0).nth(1)?.first());
    let known = [Kerberos::BindsConnection, Kerberos::PerRequest];
    let asked = known
        .into_iter()
        .find(|&known| said == Some(&(known as u8)));
    asked.unwrap_or(Kerberos::Declined)
}

/// Whom a token's ticket names, if it is one of ours.
pub(crate) fn identity(ticket: &[u8]) -> Option<String> {
    let (stated, rest) = ticket.split_at_checked(MAC_BYTES)?;
    let name = rest.split(|&byte| byte == 0).next()?;
    (mac(name) == stated).then_some(())?;
    String::from_utf8(name.to_vec()).ok()
}

fn mac(name: &[u8]) -> [u8; MAC_BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY).expect("HMAC takes keys of any length");
    mac.update(name);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tickets_of_ours_name_someone() {
        let mut ticket = token("EXAMPLE\\alice", 20_000).token.expect("a ticket");
        assert_eq!(identity(&ticket).as_deref(), Some("EXAMPLE\\alice"));
        ticket[40] ^= 1;
        assert_eq!(identity(&ticket), None);
        assert_eq!(identity(b"short"), None);
    }

    #[test]
    fn tickets_say_what_is_to_be_done_with_them() {
        for asked in [
            Kerberos::Declined,
            Kerberos::BindsConnection,
            Kerberos::PerRequest,
        ] {
            for genuine in [true, false] {
                let ticket = token_for("EXAMPLE\\alice", asked, genuine).token;
                let ticket = ticket.expect("a ticket");
                assert_eq!(treatment(&ticket), asked);
                assert_eq!(identity(&ticket).is_some(), genuine);
            }
        }
        let plain = token("EXAMPLE\\alice", 100).token.expect("a ticket");
        assert_eq!(treatment(&plain), Kerberos::Declined);
        assert_eq!(treatment(b"short"), Kerberos::Declined);
    }
}
