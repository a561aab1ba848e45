//! Which server of a listener answers for a host name.

use super::model::ServerIndex;
use super::variable::UserVariable;

/// The servers of one listener by name: exact, longest `*.name`, longest `name.*`, first regex, default server.
#[derive(Debug)]
pub struct ServerNames {
    /// Answers where nothing matches.
    pub default: ServerIndex,
}

impl ServerNames {
    /// Finds the server for `host` (lower-cased, without port and trailing dot). `assign` gets the named captures of a regex
    /// name, and `$1` … through `captures`.
    pub fn find(
        &self,
        _host: &[u8],
        _captures: &mut Vec<Vec<u8>>,
        _assign: impl FnMut(UserVariable, &[u8]),
    ) -> ServerIndex {
        todo!()
    }
}
