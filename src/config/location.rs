//! Which location of a server a path belongs to.

use super::model::LocationIndex;
use super::variable::UserVariable;

/// The locations of a server or, nested, of a location: exact, longest prefix (`^~` stops), first regex in order.
#[derive(Debug, Default)]
pub struct Locations {}

impl Locations {
    /// Finds the location for a normalised path. `captures` and `assign` as in [`super::names::ServerNames::find`].
    pub fn find(
        &self,
        _path: &[u8],
        _captures: &mut Vec<Vec<u8>>,
        _assign: impl FnMut(UserVariable, &[u8]),
    ) -> Option<LocationIndex> {
        todo!()
    }
}
