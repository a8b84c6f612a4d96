//! IAB's Transparency and Consent Framework, as far as rules need it: the purposes that a visitor has
//! agreed to, from the cookie `euconsent-v2`.
//! <https://github.com/InteractiveAdvertisingBureau/GDPR-Transparency-and-Consent-Framework>

use super::bits::Bits;

/// Where the framework's own cookie stands.
pub(super) const COOKIE: &str = "euconsent-v2";
/// The version that all consent strings have since 2020.
const VERSION: u16 = 2;
/// Bits before those of the purposes: version, two times, platform, its version, screen, language, list's
/// version, policy's version, two flags, special features.
const PURPOSES_AT: usize = 6 + 36 + 36 + 12 + 12 + 6 + 12 + 12 + 6 + 1 + 1 + 12;
const PURPOSES: i64 = 24;

/// Numbers of the purposes that `text` agrees to; none where it can't be read.
pub(super) fn purposes(text: &str) -> Vec<i64> {
    read(text.split('.').next().unwrap_or_default()).unwrap_or_default()
}

fn read(core: &str) -> Option<Vec<i64>> {
    let mut bits = Bits::of(core)?;
    if bits.int(6)? != VERSION {
        return None;
    }
    bits.seek(PURPOSES_AT);
    let mut agreed = Vec::new();
    for number in 1..=PURPOSES {
        if bits.flag()? {
            agreed.push(number);
        }
    }
    Some(agreed)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    #[test]
    fn purposes_are_read_and_nonsense_agrees_to_nothing() {
        // The specification's own example: version 2, no purpose of its first 24 but these.
        let bits = |set: &[usize]| {
            let mut bytes = [0_u8; 30];
            bytes[0] = 2 << 2;
            for purpose in set {
                let bit = PURPOSES_AT + purpose - 1;
                bytes[bit / 8] |= 0x80 >> (bit % 8);
            }
            URL_SAFE_NO_PAD.encode(bytes)
        };
        assert_eq!(purposes(&bits(&[1, 7, 24])), [1, 7, 24]);
        assert_eq!(purposes(&format!("{}.YAAAAAAAAAAA", bits(&[10]))), [10]);
        // As a consent platform writes it, with all ten purposes given.
        let given =
            purposes("CPokAsAPokAsABEACBENC7CgAP_AAH_AAAwIF5wAQF5gXnABAXmAAAAA.YAAAAAAAAAAA");
        assert_eq!(given, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        let cut = &bits(&[1, 2, 3])[..28];
        for wrong in ["", "!!", "AAAA", "C", "BOEFEAyOEFEAyAHABDENAI4AAAB9vABAASA", cut] {
            assert!(purposes(wrong).is_empty(), "{wrong}");
        }
    }
}
