//! Bytes that only a seed decides.

/// Bytes from a xorshift generator, which its client makes too: shifts by 13, 7 and 17, each number as eight bytes, the lowest first.
/// The seed 0, from which nothing would follow, counts as 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pattern {
    state: u64,
}

impl Pattern {
    /// The pattern of `seed`, from its beginning.
    pub const fn new(seed: u64) -> Pattern {
        Pattern {
            state: if seed == 0 { 1 } else { seed },
        }
    }

    /// The next bytes. A length that is no multiple of 8 loses the rest of the last number, so it is for the end.
    pub fn fill(&mut self, into: &mut [u8]) {
        for piece in into.chunks_mut(8) {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            piece.copy_from_slice(&self.state.to_le_bytes()[..piece.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client's own definition is held to these too.
    #[test]
    fn the_pattern_of_a_seed_begins_so() {
        let mut bytes = [0; 18];
        Pattern::new(7).fill(&mut bytes);
        let first = 7_u64 ^ 7 << 13;
        let first = first ^ first >> 7;
        let first = first ^ first << 17;
        assert_eq!(bytes[..8], first.to_le_bytes());
        let mut whole = [0; 18];
        let mut pattern = Pattern::new(7);
        pattern.fill(&mut whole[..16]);
        pattern.fill(&mut whole[16..]);
        assert_eq!(bytes, whole);
        assert_eq!(Pattern::new(0), Pattern::new(1));
    }
}
