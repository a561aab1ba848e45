//! Which driver the workers run on.
#![forbid(unsafe_code)]

use crate::net::Driver;

use super::RingRefusal;

/// What `--io` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Io {
    /// io_uring, or epoll where it is refused.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll.
    Epoll,
}

impl Io {
    /// The values of `--io`.
    pub const WORDS: [(&str, Self); 3] = [
        ("auto", Self::Auto),
        ("uring", Self::Uring),
        ("epoll", Self::Epoll),
    ];

    /// The value of `--io`.
    pub fn from_word(word: &str) -> Option<Self> {
        let mut words = Self::WORDS.into_iter();
        words.find_map(|(known, io)| (known == word).then_some(io))
    }

    /// Settles the driver. `check_ring` says whether io_uring can be used; its refusal is returned where epoll takes its
    /// place.
    ///
    /// # Errors
    /// io_uring was asked for and is refused.
    pub fn choose(
        self,
        check_ring: impl FnOnce() -> Result<(), RingRefusal>,
    ) -> Result<(Driver, Option<RingRefusal>), RingRefusal> {
        match self {
            Self::Epoll => Ok((Driver::Epoll, None)),
            Self::Uring => check_ring().map(|()| (Driver::Uring, None)),
            Self::Auto => Ok(match check_ring() {
                Ok(()) => (Driver::Uring, None),
                Err(refusal) => (Driver::Epoll, Some(refusal)),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoll_takes_the_place_of_a_refused_ring_unless_the_ring_was_asked_for() {
        let refusal = RingRefusal::Forbidden;
        let refused = Err(refusal.clone());
        for (word, ring, chosen) in [
            ("auto", Ok(()), Ok((Driver::Uring, None))),
            (
                "auto",
                refused.clone(),
                Ok((Driver::Epoll, Some(refusal.clone()))),
            ),
            ("uring", Ok(()), Ok((Driver::Uring, None))),
            ("uring", refused.clone(), Err(refusal)),
            ("epoll", Ok(()), Ok((Driver::Epoll, None))),
            ("epoll", refused, Ok((Driver::Epoll, None))),
        ] {
            let io = Io::from_word(word).unwrap();
            assert_eq!(io.choose(|| ring.clone()), chosen, "{word} {ring:?}");
        }
        assert_eq!(Io::from_word("select"), None);
        assert_eq!(Io::default(), Io::Auto);
    }
}
