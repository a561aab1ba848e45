//! The login of one connection: `Authorization` values in, decisions out. Knows nothing of sockets and requests.

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::kerberos;
use crate::ntlm::{self, Accepted, Challenged, SessionKeys, User};
use crate::spnego::{Init, Mechanism, Reply, State, Token};

/// What a server does with Kerberos' stand-in (see [`kerberos`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kerberos {
    /// Not taken. A client that offers NTLM as well is asked to go on with it: a login of three legs.
    #[default]
    Declined,
    /// Accepted at once, and good for the whole connection.
    BindsConnection,
    /// Accepted at once for this request alone; the answer says `Persistent-Auth: false`.
    PerRequest,
    /// What [`kerberos::token_for`] was told, for plans that mix all of them on one server.
    AsTheTicketSays,
}

/// Against what logins are checked.
#[derive(Clone, Debug)]
pub(crate) struct Realm {
    pub(crate) users: Vec<User>,
    pub(crate) domain: String,
    pub(crate) computer: String,
    pub(crate) kerberos: Kerberos,
    pub(crate) schemes: &'static [&'static str],
}

impl Realm {
    /// The fields that offer a login.
    pub(crate) fn offers(&self) -> String {
        let field = |scheme| format!("WWW-Authenticate: {scheme}\r\n");
        self.schemes.iter().map(field).collect()
    }
}

/// What a request's credentials, or their absence, come to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// No credentials came: the request is that of whoever the connection belongs to.
    AsBefore,
    /// Answer 401 with this `WWW-Authenticate`; the next leg is expected.
    Continue(String),
    /// Answer 401 with the offers; the connection belongs to nobody now.
    Refused,
    /// Logged in. `proof` is a last `WWW-Authenticate` for the client to check the server by.
    LoggedIn {
        identity: String,
        proof: Option<String>,
        persistent: bool,
    },
}

/// What a connection remembers.
#[derive(Debug, Default)]
pub(crate) struct Login {
    identity: Option<String>,
    handshake: Handshake,
}

#[derive(Debug, Default)]
enum Handshake {
    #[default]
    None,
    /// NTLM was chosen out of this list, in place of what the client preferred; its Type 1 is due.
    Chosen { mechanism_list: Vec<u8> },
    /// A Type 2 was sent.
    Challenged {
        challenged: Challenged,
        wrapping: Wrapping,
    },
}

/// How NTLM's messages travel.
#[derive(Debug)]
enum Wrapping {
    /// Scheme NTLM.
    Ntlm,
    /// Scheme Negotiate, the messages bare in it.
    BareNegotiate,
    /// Scheme Negotiate, the messages in SPNEGO tokens.
    Spnego { mechanism_list: Vec<u8> },
}

impl Login {
    /// Whose connection it is.
    pub(crate) fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }

    /// Takes the `Authorization` of a request. Schemes that are not NTLM or Negotiate are none of ours.
    pub(crate) fn request(&mut self, authorization: Option<&str>, realm: &Realm) -> Decision {
        let Some((scheme, token)) = authorization.and_then(|value| value.split_once(' ')) else {
            return Decision::AsBefore;
        };
        let negotiate = scheme.eq_ignore_ascii_case("Negotiate");
        if !negotiate && !scheme.eq_ignore_ascii_case("NTLM") {
            return Decision::AsBefore;
        }
        // Credentials are a new login: what was before ends here, whatever comes of them.
        self.identity = None;
        let handshake = std::mem::take(&mut self.handshake);
        if !realm
            .schemes
            .iter()
            .any(|it| it.eq_ignore_ascii_case(scheme))
        {
            return Decision::Refused;
        }
        let Ok(token) = BASE64_STANDARD.decode(token.trim()) else {
            return Decision::Refused;
        };
        let decision = if ntlm::is_message(&token) {
            self.bare(&token, negotiate, handshake, realm)
        } else if negotiate {
            self.wrapped(&token, handshake, realm)
        } else {
            None
        };
        decision.unwrap_or(Decision::Refused)
    }

    fn bare(
        &mut self,
        token: &[u8],
        negotiate: bool,
        handshake: Handshake,
        realm: &Realm,
    ) -> Option<Decision> {
        match handshake {
            Handshake::Challenged {
                challenged,
                wrapping: Wrapping::Ntlm | Wrapping::BareNegotiate,
            } if token.get(8) == Some(&3) => {
                let accepted = challenged.authenticate(token, &realm.users).ok()?;
                Some(self.logged_in(accepted.identity, None))
            }
            _ => {
                let wrapping = if negotiate {
                    Wrapping::BareNegotiate
                } else {
                    Wrapping::Ntlm
                };
                self.challenge(token, wrapping, realm)
            }
        }
    }

    fn wrapped(&mut self, token: &[u8], handshake: Handshake, realm: &Realm) -> Option<Decision> {
        match (Token::parse(token)?, handshake) {
            (Token::Init(init), _) => self.opening(init, realm),
            (Token::Reply(reply), Handshake::Chosen { mechanism_list }) => {
                self.challenge(&reply.token?, Wrapping::Spnego { mechanism_list }, realm)
            }
            (
                Token::Reply(reply),
                Handshake::Challenged {
                    challenged,
                    wrapping: Wrapping::Spnego { mechanism_list },
                },
            ) => {
                let Accepted { identity, keys } =
                    challenged.authenticate(&reply.token?, &realm.users).ok()?;
                let mic = countersign(reply.mic.as_deref(), &keys, &mechanism_list)?;
                let proof = Reply {
                    state: Some(State::Completed),
                    mic,
                    ..Reply::default()
                };
                Some(self.logged_in(identity, Some(negotiate_header(&proof.encode()))))
            }
            (Token::Reply(_), _) => None,
        }
    }

    fn opening(&mut self, init: Init, realm: &Realm) -> Option<Decision> {
        let mechanism_list = init.mechanism_list;
        let kerberos = match (realm.kerberos, &init.token) {
            (Kerberos::AsTheTicketSays, Some(ticket)) => kerberos::treatment(ticket),
            (Kerberos::AsTheTicketSays, None) => Kerberos::Declined,
            (known, _) => known,
        };
        match (init.mechanisms.first()?, init.token) {
            (Mechanism::Ntlm, Some(token)) => {
                self.challenge(&token, Wrapping::Spnego { mechanism_list }, realm)
            }
            (Mechanism::Kerberos, Some(ticket)) if kerberos != Kerberos::Declined => {
                let identity = kerberos::identity(&ticket)?;
                let proof = Reply {
                    state: Some(State::Completed),
                    mechanism: Some(Mechanism::Kerberos),
                    ..Reply::default()
                };
                let proof = Some(negotiate_header(&proof.encode()));
                if kerberos == Kerberos::PerRequest {
                    return Some(Decision::LoggedIn {
                        identity,
                        proof,
                        persistent: false,
                    });
                }
                Some(self.logged_in(identity, proof))
            }
            _ if init.mechanisms.contains(&Mechanism::Ntlm) => {
                self.handshake = Handshake::Chosen { mechanism_list };
                let reply = Reply {
                    state: Some(State::RequestMic),
                    mechanism: Some(Mechanism::Ntlm),
                    ..Reply::default()
                };
                Some(Decision::Continue(negotiate_header(&reply.encode())))
            }
            _ => None,
        }
    }

    fn challenge(&mut self, type1: &[u8], wrapping: Wrapping, realm: &Realm) -> Option<Decision> {
        let challenged = ntlm::challenge(type1, &realm.domain, &realm.computer).ok()?;
        let header = match wrapping {
            Wrapping::Ntlm => format!("NTLM {}", BASE64_STANDARD.encode(challenged.message())),
            Wrapping::BareNegotiate => negotiate_header(challenged.message()),
            Wrapping::Spnego { .. } => {
                let reply = Reply {
                    state: Some(State::Incomplete),
                    mechanism: Some(Mechanism::Ntlm),
                    token: Some(challenged.message().to_vec()),
                    mic: None,
                };
                negotiate_header(&reply.encode())
            }
        };
        self.handshake = Handshake::Challenged {
            challenged,
            wrapping,
        };
        Some(Decision::Continue(header))
    }

    fn logged_in(&mut self, identity: String, proof: Option<String>) -> Decision {
        self.identity = Some(identity.clone());
        Decision::LoggedIn {
            identity,
            proof,
            persistent: true,
        }
    }
}

/// Checks the client's signature of the list of mechanisms, if it sent one, and makes the server's (RFC 4178 section 5).
/// `None` if the client's does not fit: someone changed the list.
fn countersign(
    mic: Option<&[u8]>,
    keys: &SessionKeys,
    mechanism_list: &[u8],
) -> Option<Option<Vec<u8>>> {
    match mic {
        None => Some(None),
        Some(mic) if mic == keys.client_signature(mechanism_list) => {
            Some(Some(keys.server_signature(mechanism_list).to_vec()))
        }
        Some(_) => None,
    }
}

fn negotiate_header(token: &[u8]) -> String {
    format!("Negotiate {}", BASE64_STANDARD.encode(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ntlm::{type1, type3};

    fn realm(kerberos: Kerberos) -> Realm {
        Realm {
            users: vec![User::new("EXAMPLE", "alice", "wonderland")],
            domain: "EXAMPLE".into(),
            computer: "ORIGIN".into(),
            kerberos,
            schemes: &["Negotiate", "NTLM"],
        }
    }

    fn send(login: &mut Login, scheme: &str, token: &[u8], realm: &Realm) -> Decision {
        login.request(
            Some(&format!("{scheme} {}", BASE64_STANDARD.encode(token))),
            realm,
        )
    }

    fn token_of(decision: &Decision) -> Vec<u8> {
        let Decision::Continue(header) = decision else {
            panic!("no next leg: {decision:?}")
        };
        let (_, token) = header.split_once(' ').expect("scheme and token");
        BASE64_STANDARD.decode(token).expect("base64")
    }

    fn reply_of(decision: &Decision) -> Reply {
        match Token::parse(&token_of(decision)) {
            Some(Token::Reply(reply)) => reply,
            other => panic!("no reply: {other:?}"),
        }
    }

    fn alice(proof: Option<String>) -> Decision {
        Decision::LoggedIn {
            identity: "EXAMPLE\\alice".into(),
            proof,
            persistent: true,
        }
    }

    #[test]
    fn bare_messages_log_in_under_both_schemes() {
        let realm = realm(Kerberos::Declined);
        for scheme in ["NTLM", "ntlm", "Negotiate"] {
            let mut login = Login::default();
            let challenge = token_of(&send(&mut login, scheme, &type1(), &realm));
            let answer = type3(&challenge, "alice", "", "wonderland").expect("a Type 2");
            assert_eq!(login.identity(), None);
            assert_eq!(
                send(&mut login, scheme, &answer.message, &realm),
                alice(None)
            );
            assert_eq!(login.request(None, &realm), Decision::AsBefore);
            assert_eq!(
                login.request(Some("Basic eA=="), &realm),
                Decision::AsBefore
            );
            assert_eq!(login.identity(), Some("EXAMPLE\\alice"));
            // A Type 3 a second time answers no challenge.
            assert_eq!(
                send(&mut login, scheme, &answer.message, &realm),
                Decision::Refused
            );
            assert_eq!(login.identity(), None);
        }
    }

    #[test]
    fn three_legs_when_kerberos_is_declined() {
        let realm = realm(Kerberos::Declined);
        for tampered in [false, true] {
            let mut login = Login::default();
            let opening = kerberos::token("EXAMPLE\\alice", 0).encode();
            let chosen = reply_of(&send(&mut login, "Negotiate", &opening, &realm));
            assert_eq!(
                (chosen.state, chosen.mechanism),
                (Some(State::RequestMic), Some(Mechanism::Ntlm))
            );
            let second = Reply {
                token: Some(type1()),
                ..Reply::default()
            };
            let challenge = reply_of(&send(&mut login, "Negotiate", &second.encode(), &realm));
            let answer = type3(
                &challenge.token.expect("a Type 2"),
                "alice",
                "",
                "wonderland",
            )
            .expect("a Type 2");
            let mut list =
                Init::new(&[Mechanism::Kerberos, Mechanism::Ntlm], Vec::new()).mechanism_list;
            let proof = Reply {
                state: Some(State::Completed),
                mic: Some(answer.keys.server_signature(&list).to_vec()),
                ..Reply::default()
            };
            let expected = match tampered {
                false => alice(Some(negotiate_header(&proof.encode()))),
                true => Decision::Refused,
            };
            list[3] ^= u8::from(tampered);
            let mic = Some(answer.keys.client_signature(&list).to_vec());
            let third = Reply {
                token: Some(answer.message),
                mic,
                ..Reply::default()
            };
            assert_eq!(
                send(&mut login, "Negotiate", &third.encode(), &realm),
                expected
            );
        }
    }

    #[test]
    fn tickets() {
        let token = kerberos::token("EXAMPLE\\alice", 0).encode();
        for (kerberos, bound) in [
            (Kerberos::BindsConnection, true),
            (Kerberos::PerRequest, false),
        ] {
            let mut login = Login::default();
            let decision = send(&mut login, "Negotiate", &token, &realm(kerberos));
            assert!(
                matches!(decision, Decision::LoggedIn { persistent, .. } if persistent == bound),
                "{decision:?}"
            );
            assert_eq!(login.identity().is_some(), bound);
        }
    }

    #[test]
    fn what_is_no_credential_is_refused() {
        let realm = realm(Kerberos::Declined);
        for value in [
            "NTLM !",
            "NTLM ",
            "Negotiate AAAA",
            "NTLM YIIC",
            "Negotiate TlRMTVNTUAACAAAA",
        ] {
            assert_eq!(
                Login::default().request(Some(value), &realm),
                Decision::Refused,
                "{value}"
            );
        }
    }
}
