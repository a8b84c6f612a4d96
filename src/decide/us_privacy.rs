//! IAB's US Privacy string, which Californian law came with: from the cookie `us_privacy`, or section 6 of a GPP
//! string.
//! <https://github.com/InteractiveAdvertisingBureau/USPrivacy> (CCPA, US Privacy String)

/// Where the string stands.
pub(super) const COOKIE: &str = "us_privacy";

/// What the string says.
pub(super) struct UsPrivacy {
    /// Whether the sale of personal data is opted out of. `None` where the string says that this does not apply.
    pub(super) opt_out_sale: Option<bool>,
}

impl UsPrivacy {
    /// Reads `text`, such as `1YNN`: version, notice, opt-out, and whether a contract covers it. `None` where it can't
    /// be read.
    pub(super) fn read(text: &str) -> Option<Self> {
        let &[VERSION, notice, opt_out, contract] = text.as_bytes() else { return None };
        let is_answer = |byte: &u8| b"YyNn-".contains(byte);
        [notice, opt_out, contract].iter().all(is_answer).then_some(Self {
            opt_out_sale: match opt_out {
                b'-' => None,
                other => Some(other.eq_ignore_ascii_case(&b'Y')),
            },
        })
    }
}

/// The only version.
const VERSION: u8 = b'1';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_counts() {
        let said = |text| UsPrivacy::read(text).map(|read| read.opt_out_sale);
        for (text, opt_out) in [
            ("1YYN", Some(Some(true))),
            ("1yyn", Some(Some(true))),
            ("1YNN", Some(Some(false))),
            ("1NNY", Some(Some(false))),
            ("1---", Some(None)),
            ("1Y-N", Some(None)),
            ("2YYN", None),
            ("1YY", None),
            ("1YYNN", None),
            ("1YYX", None),
            ("", None),
            ("1YÖ", None),
        ] {
            assert_eq!(said(text), opt_out, "{text}");
        }
    }
}
