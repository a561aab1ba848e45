//! A login from its first leg to the server's verdict, for the log and the counters. Decides nothing about the pin.

use std::fmt;
use std::time::{Duration, Instant};

use super::credentials::{Credentials, Scheme};
use super::pins::Answer;
use super::token::message;

/// How a login ended. A counter's label and the log's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoginEnd {
    /// The server answered its last leg as somebody's.
    Succeeded,
    /// The server refused it: 401 or 407 that asks for no next leg.
    Failed,
    /// There was no verdict: one side left, began anew or failed, or the server asked nobody to log in.
    Aborted,
}

impl LoginEnd {
    /// Every end, in the order of the counters.
    pub const ALL: [Self; 3] = [Self::Succeeded, Self::Failed, Self::Aborted];

    /// The word for logs and labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
        }
    }
}

/// The types of NTLM messages that a client sent, as `1 3`; `-` if there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageTypes(u8);

impl MessageTypes {
    fn has(self, message_type: u8) -> bool {
        self.0 & 1 << message_type != 0
    }

    fn add(&mut self, message_type: u8) {
        // Others do not exist.
        if (1..=3).contains(&message_type) {
            self.0 |= 1 << message_type;
        }
    }
}

impl fmt::Display for MessageTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("-");
        }
        let mut separator = "";
        for message_type in (1..=3).filter(|&it| self.has(it)) {
            write!(f, "{separator}{message_type}")?;
            separator = " ";
        }
        Ok(())
    }
}

/// A login under way.
#[derive(Clone, Copy, Debug)]
pub struct Login {
    scheme: Scheme,
    types: MessageTypes,
    legs: u32,
    began: Instant,
}

impl Login {
    /// Begins with the leg that carries `credentials`, at the time when that arrived.
    pub fn begin(credentials: Credentials, now: Instant) -> Self {
        let mut login = Self {
            scheme: credentials.scheme,
            types: MessageTypes::default(),
            legs: 0,
            began: now,
        };
        login.goes_on(credentials);
        login
    }

    /// Takes its next leg. False if `credentials` are another login's first.
    pub fn goes_on(&mut self, credentials: Credentials) -> bool {
        let anew = credentials.message_type == Some(message::NEGOTIATE)
            && self.types.has(message::NEGOTIATE);
        if anew || credentials.scheme != self.scheme {
            return false;
        }
        if let Some(message_type) = credentials.message_type {
            self.types.add(message_type);
        }
        self.legs = self.legs.saturating_add(1);
        true
    }

    /// What the answer to its latest leg makes of it; `None` if another leg is asked for.
    pub fn answered(&self, answer: &Answer) -> Option<LoginEnd> {
        Some(match answer.status {
            401 | 407 if answer.challenge => return None,
            401 | 407 => LoginEnd::Failed,
            // Whoever answers so may have looked at no credentials.
            400 | 431 | 500.. => LoginEnd::Aborted,
            // NTLM never ends before the client's second message: the server did not ask for a login there.
            _ if self.types.has(message::NEGOTIATE) && !self.types.has(message::AUTHENTICATE) => {
                LoginEnd::Aborted
            }
            _ => LoginEnd::Succeeded,
        })
    }

    /// The scheme of all of its legs.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The NTLM messages that were seen in it.
    pub fn types(&self) -> MessageTypes {
        self.types
    }

    /// Requests that it took so far.
    pub fn legs(&self) -> u32 {
        self.legs
    }

    /// How long it takes already.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(scheme: Scheme, message_type: Option<u8>) -> Credentials {
        Credentials {
            scheme,
            ntlm_message: message_type.is_some(),
            message_type,
        }
    }

    /// The challenge of a 401, or none.
    fn answer(status: u16, challenge: bool) -> Answer {
        Answer {
            status,
            challenge,
            persistent_auth_false: false,
        }
    }

    #[test]
    fn each_course_has_its_end() {
        use LoginEnd::{Aborted, Failed, Succeeded};
        const NTLM: Scheme = Scheme::Ntlm;
        const NEGOTIATE: Scheme = Scheme::Negotiate;
        // Scheme, each leg's message and answer, the types that are shown, the end.
        type Course<'a> = (
            Scheme,
            &'a [(Option<u8>, u16, bool)],
            &'a str,
            Option<LoginEnd>,
        );
        let courses: [Course<'_>; 15] = [
            (
                NTLM,
                &[(Some(1), 401, true), (Some(3), 200, false)],
                "1 3",
                Some(Succeeded),
            ),
            (
                NTLM,
                &[(Some(1), 401, true), (Some(3), 401, false)],
                "1 3",
                Some(Failed),
            ),
            (
                NTLM,
                &[(Some(1), 401, true), (Some(3), 407, false)],
                "1 3",
                Some(Failed),
            ),
            (
                NTLM,
                &[(Some(1), 401, true), (Some(3), 302, false)],
                "1 3",
                Some(Succeeded),
            ),
            (
                NTLM,
                &[(Some(1), 401, true), (Some(3), 403, false)],
                "1 3",
                Some(Succeeded),
            ),
            (
                NTLM,
                &[(Some(1), 401, true), (Some(3), 503, false)],
                "1 3",
                Some(Aborted),
            ),
            // No login is asked for there.
            (NTLM, &[(Some(1), 200, false)], "1", Some(Aborted)),
            (NTLM, &[(Some(1), 401, false)], "1", Some(Failed)),
            (NTLM, &[(Some(1), 401, true)], "1", None),
            (NTLM, &[(None, 200, false)], "-", Some(Succeeded)),
            (NTLM, &[(Some(9), 401, true)], "-", None),
            (NEGOTIATE, &[(None, 200, false)], "-", Some(Succeeded)),
            (NEGOTIATE, &[(None, 400, false)], "-", Some(Aborted)),
            (NEGOTIATE, &[(None, 431, false)], "-", Some(Aborted)),
            (
                NEGOTIATE,
                &[
                    (None, 401, true),
                    (Some(1), 401, true),
                    (Some(3), 200, false),
                ],
                "1 3",
                Some(Succeeded),
            ),
        ];
        for (scheme, legs, types, end) in courses {
            let now = Instant::now();
            let mut login: Option<Login> = None;
            let mut last = None;
            for &(message_type, status, challenge) in legs {
                assert_eq!(last, None, "it went on");
                let credentials = credentials(scheme, message_type);
                match &mut login {
                    None => login = Some(Login::begin(credentials, now)),
                    Some(login) => assert!(login.goes_on(credentials)),
                }
                last = login.and_then(|login| login.answered(&answer(status, challenge)));
            }
            let login = login.expect("a leg");
            assert_eq!(last, end, "{legs:?}");
            assert_eq!(login.types().to_string(), types, "{legs:?}");
            assert_eq!(login.legs() as usize, legs.len());
            assert_eq!(login.scheme(), scheme);
            let later = now + Duration::from_millis(7);
            assert_eq!(login.age(later), Duration::from_millis(7));
        }
    }

    #[test]
    fn another_login_begins_with_a_first_message_or_another_scheme() {
        let ntlm = |message_type| credentials(Scheme::Ntlm, Some(message_type));
        let mut login = Login::begin(ntlm(1), Instant::now());
        for (other, goes_on) in [
            (ntlm(1), false),
            (credentials(Scheme::Negotiate, Some(3)), false),
            (ntlm(3), true),
            (ntlm(3), true),
            (credentials(Scheme::Ntlm, None), true),
            (ntlm(1), false),
        ] {
            let before = login.legs();
            assert_eq!(login.goes_on(other), goes_on, "{other:?}");
            assert_eq!(login.legs(), before + u32::from(goes_on));
        }
    }
}
