//! What counts as credentials: an `Authorization` value whose scheme authenticates the connection.

/// Schemes that authenticate a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Scheme {
    Ntlm,
    Negotiate,
    Nego2,
    Kerberos,
}

/// Credentials found in a request. Holds no byte of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The scheme's name.
    pub scheme: Scheme,
    /// The token is an NTLM message, bare or inside SPNEGO.
    pub ntlm_message: bool,
}

impl Credentials {
    /// Looks at the value of an `Authorization` field. The scheme is compared without regard to case, as a whole word:
    /// the value ends there, or a space or tab follows.
    pub fn in_value(_value: &[u8]) -> Option<Self> {
        todo!()
    }
}
