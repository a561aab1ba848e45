//! `allow` and `deny`.

use std::net::IpAddr;

/// The rules in their order; the first that matches decides; without a match access is allowed.
#[derive(Clone, Debug, Default)]
pub struct AccessRules {}

impl AccessRules {
    /// Whether a client may come in. `None` is a client of a unix socket.
    pub fn allows(&self, _client: Option<IpAddr>) -> bool {
        todo!()
    }
}
