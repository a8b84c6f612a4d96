//! IAB's Transparency and Consent Framework, as far as rules need it: the purposes that a visitor has
//! agreed to, from the cookie `euconsent-v2`.
//! <https://github.com/InteractiveAdvertisingBureau/GDPR-Transparency-and-Consent-Framework>

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Where the framework's own cookie stands.
pub(super) const COOKIE: &str = "euconsent-v2";
/// The version that all consent strings have since 2020.
const VERSION: u8 = 2;
/// Bits before those of the purposes: version, two times, platform, its version, screen, language, list's
/// version, policy's version, two flags, special features.
const PURPOSES_AT: usize = 6 + 36 + 36 + 12 + 12 + 6 + 12 + 12 + 6 + 1 + 1 + 12;
const PURPOSES: usize = 24;

/// Numbers of the purposes that `text` agrees to; none where it can't be read.
pub(super) fn purposes(text: &str) -> Vec<i64> {
    let core = text.split('.').next().unwrap_or_default();
    let Ok(bytes) = URL_SAFE_NO_PAD.decode(core.trim_end_matches('=')) else { return Vec::new() };
    if bytes.first().map(|byte| byte >> 2) != Some(VERSION) {
        return Vec::new();
    }
    let is_set =
        |bit: usize| bytes.get(bit / 8).is_some_and(|byte| byte & (0x80 >> (bit % 8)) != 0);
    (1_i64..)
        .zip(PURPOSES_AT..PURPOSES_AT + PURPOSES)
        .filter(|(_, bit)| is_set(*bit))
        .map(|(number, _)| number)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_are_read_and_nonsense_agrees_to_nothing() {
        // The specification's own example: version 2, no purpose of its first 24 but these.
        let bits = |set: &[usize]| {
            let mut bytes = [0_u8; 30];
            bytes[0] = VERSION << 2;
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
        for wrong in ["", "!!", "AAAA", "C", "BOEFEAyOEFEAyAHABDENAI4AAAB9vABAASA"] {
            assert!(purposes(wrong).is_empty(), "{wrong}");
        }
    }
}
