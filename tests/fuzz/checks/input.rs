//! How the bytes of a fuzzer become an input: options, places to cut, and what is cut.

/// An input taken apart. Its first byte holds the number of cuts in its low four bits and options in the others; a byte for
/// each cut follows.
pub struct Input<'a> {
    /// The high four bits of the first byte, as 0 to 15.
    pub options: u8,
    /// Lengths of growing prefixes of `bytes`, the last of them all of it. Those before may repeat.
    pub ends: Vec<usize>,
    /// A byte for each cut.
    pub places: &'a [u8],
    /// What is to be read.
    pub bytes: &'a [u8],
}

impl<'a> Input<'a> {
    /// Takes an input apart; any bytes are one.
    pub fn new(input: &'a [u8]) -> Self {
        let (&first, rest) = input.split_first().unwrap_or((&0, &[]));
        let count = usize::from(first & 15).min(rest.len());
        let (places, bytes) = rest.split_at(count);
        let mut ends: Vec<usize> = places
            .iter()
            // The end is cut at as often as the beginning, and every byte of a short input can be met.
            .map(|&place| match bytes.len() {
                length @ 0..=255 => usize::from(place) % (length + 1),
                length => usize::from(place) * length / 255,
            })
            .collect();
        ends.push(bytes.len());
        ends.sort_unstable();
        Self {
            options: first >> 4,
            ends,
            places,
            bytes,
        }
    }

    /// Whether an option is set, 0 to 3.
    pub fn option(&self, bit: u8) -> bool {
        self.options >> bit & 1 == 1
    }

    /// The pieces between the cuts; some may be empty.
    pub fn pieces(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let piece = &self.bytes[start..end];
            start = end;
            piece
        })
    }

    /// Takes the first byte of `bytes`, or 0 without one; the cuts keep their places from the end.
    pub fn take_byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.bytes.split_first() else {
            return 0;
        };
        self.bytes = rest;
        for end in &mut self.ends {
            *end = end.saturating_sub(1);
        }
        first
    }
}
