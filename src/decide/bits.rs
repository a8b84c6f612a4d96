//! Bits that are written as text, six a character: the form of IAB's consent strings.
//! <https://github.com/InteractiveAdvertisingBureau/Global-Privacy-Platform> (Core, Consent String Specification)

/// The bits of one part of a consent string, read from its beginning on.
pub(super) struct Bits {
    /// Six bits each.
    digits: Vec<u8>,
    at: usize,
}

const DIGIT_BITS: usize = 6;
/// No number of a consent string that is asked for is larger.
const MAX_FIBONACCI: u32 = 4096;

impl Bits {
    /// Reads `text`. `None` where a character is none of base64's, in either of its alphabets.
    pub(super) fn of(text: &str) -> Option<Self> {
        let digits = text.trim_end_matches('=').bytes().map(digit).collect::<Option<_>>()?;
        Some(Self { digits, at: 0 })
    }

    /// Goes on at the bit `at`, counted from 0.
    pub(super) fn seek(&mut self, at: usize) {
        self.at = at;
    }

    /// The next bit. `None` behind the last one.
    pub(super) fn flag(&mut self) -> Option<bool> {
        let digit = self.digits.get(self.at / DIGIT_BITS)?;
        let bit = digit & (0b10_0000 >> (self.at % DIGIT_BITS));
        self.at += 1;
        Some(bit != 0)
    }

    /// The next `bits` as a number, at most 16 of them.
    pub(super) fn int(&mut self, bits: usize) -> Option<u16> {
        (0..bits).try_fold(0, |number, _| Some((number << 1) | u16::from(self.flag()?)))
    }

    /// The next number in Fibonacci coding: the Fibonacci numbers that it is the sum of, up to two ones.
    pub(super) fn fibonacci(&mut self) -> Option<u32> {
        let (mut sum, mut was_set) = (0, false);
        let (mut weight, mut next) = (1, 2);
        while weight <= MAX_FIBONACCI {
            let is_set = self.flag()?;
            if is_set && was_set {
                return Some(sum);
            }
            if is_set {
                sum += weight;
            }
            was_set = is_set;
            (weight, next) = (next, weight + next);
        }
        None
    }
}

fn digit(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'-' | b'+' => 62,
        b'_' | b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_specification_writes_them() {
        // 000101 is 5; 011 is 2, 1011 is 4, 01011 is 7.
        let mut bits = Bits::of("F").unwrap();
        assert_eq!((bits.int(6), bits.flag()), (Some(5), None));
        // 011 1011 01011 and zeros: 011101 101011 is d, r.
        let mut bits = Bits::of("dr").unwrap();
        let numbers = [bits.fibonacci(), bits.fibonacci(), bits.fibonacci(), bits.fibonacci()];
        assert_eq!(numbers, [Some(2), Some(4), Some(7), None]);
        let mut bits = Bits::of("_-+/==").unwrap();
        assert_eq!([bits.int(12), bits.int(12)], [Some(0b1111_1111_1110), Some(0b1111_1011_1111)]);
        bits.seek(5);
        assert_eq!(bits.int(2), Some(3));
        assert!(Bits::of("a~b").is_none() && Bits::of("ä").is_none());
        // A number without an end.
        assert_eq!(Bits::of(&"A".repeat(50)).unwrap().fibonacci(), None);
    }
}
