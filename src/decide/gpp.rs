//! IAB's Global Privacy Platform, as far as rules need it: which sections the cookie `__gpp` has, and whether one of
//! those about the United States opts out of the sale, the sharing or the use for advertising of personal data.
//! <https://github.com/InteractiveAdvertisingBureau/Global-Privacy-Platform>

use super::bits::Bits;
use super::us_privacy::UsPrivacy;

/// Where the string stands.
pub(super) const COOKIE: &str = "__gpp";
/// The section that is a string of the Transparency and Consent Framework.
pub(super) const TCF: u16 = 2;
/// The section that is a US Privacy string.
pub(super) const US_PRIVACY: u16 = 6;

/// What the header begins with: its own kind, and its version.
const HEADER: (u16, u16) = (3, 1);
const OPTED_OUT: u16 = 1;
const NOT_OPTED_OUT: [u16; 2] = [0, 2];
/// The kind of a sub-section that says what the browser's `Sec-GPC` said.
const GPC: u16 = 1;

/// A GPP string: its sections, each with its number.
pub(super) struct Gpp<'t>(Vec<(u16, &'t str)>);

/// Where a section about the United States says what.
struct Layout {
    sections: &'static [u16],
    /// Versions that have it.
    versions: &'static [u16],
    /// First bits of the opt-outs, two bits each: sale, sharing, targeted advertising.
    opt_outs: &'static [usize],
    /// Where the section has a part about `Sec-GPC`.
    gpc: bool,
}

/// As the sections' specifications of December 2025 have them (`Sections/US-National`, `Sections/US-States`).
const LAYOUTS: &[Layout] = &[
    // The whole country.
    Layout { sections: &[7], versions: &[1, 2], opt_outs: &[18, 20, 22], gpc: true },
    // California.
    Layout { sections: &[8], versions: &[1], opt_outs: &[12, 14], gpc: true },
    // Virginia, Florida.
    Layout { sections: &[9, 13], versions: &[1], opt_outs: &[12, 14], gpc: false },
    // Colorado, Connecticut, Montana, Oregon, Texas, Delaware, Nebraska, New Hampshire, New Jersey, Tennessee,
    // Minnesota.
    Layout {
        sections: &[10, 12, 14, 15, 16, 17, 19, 20, 21, 22, 23],
        versions: &[1],
        opt_outs: &[12, 14],
        gpc: true,
    },
    // Utah.
    Layout { sections: &[11], versions: &[1], opt_outs: &[14, 16], gpc: false },
    // Iowa.
    Layout { sections: &[18], versions: &[1], opt_outs: &[14, 16], gpc: true },
    // Maryland.
    Layout { sections: &[24], versions: &[1], opt_outs: &[16, 18], gpc: true },
    // Indiana, Kentucky, Rhode Island.
    Layout { sections: &[25, 26, 27], versions: &[1], opt_outs: &[16, 18], gpc: false },
];

impl<'t> Gpp<'t> {
    /// Reads `text`. `None` where the header can't be read, or is about other sections than follow.
    pub(super) fn read(text: &'t str) -> Option<Self> {
        let mut parts = text.split('~');
        let mut header = Bits::of(parts.next()?)?;
        if (header.int(6)?, header.int(6)?) != HEADER {
            return None;
        }
        let parts: Vec<&str> = parts.collect();
        let (mut numbers, mut last) = (Vec::new(), 0);
        for _ in 0..header.int(12)? {
            let several = header.flag()?;
            let first = last + header.fibonacci()?;
            last = if several { first + header.fibonacci()? } else { first };
            if numbers.len() as u64 + u64::from(last - first) >= parts.len() as u64 {
                return None;
            }
            numbers.extend((first..=last).map(u16::try_from).collect::<Result<Vec<_>, _>>().ok()?);
        }
        (numbers.len() == parts.len()).then(|| Self(numbers.into_iter().zip(parts).collect()))
    }

    /// The numbers of its sections.
    pub(super) fn sections(&self) -> impl Iterator<Item = i64> {
        self.0.iter().map(|(number, _)| i64::from(*number))
    }

    /// One of its sections.
    pub(super) fn section(&self, number: u16) -> Option<&'t str> {
        self.0.iter().find(|(own, _)| *own == number).map(|(_, text)| *text)
    }

    /// Whether a section about the United States opts out. `None` where none of them says, and where one of
    /// them can't be read and no other opts out.
    pub(super) fn opted_out(&self) -> Option<bool> {
        let said = self.0.iter().filter_map(|(number, text)| {
            if *number == US_PRIVACY {
                // Where the law does not apply it says so.
                return UsPrivacy::read(text)
                    .map_or(Some(None), |read| read.opt_out_sale.map(Some));
            }
            let layout = LAYOUTS.iter().find(|layout| layout.sections.contains(number))?;
            Some(layout.read(*number, text))
        });
        said.reduce(either)?
    }
}

/// True where one of both is, false where both are; `None` is what nobody knows.
fn either(one: Option<bool>, other: Option<bool>) -> Option<bool> {
    match (one, other) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        _ => None,
    }
}

impl Layout {
    fn read(&self, number: u16, text: &str) -> Option<bool> {
        let mut parts = text.split('.');
        let mut core = Bits::of(parts.next()?)?;
        let mut version = core.int(6)?;
        if version == number {
            // Maryland and later: the specification puts a header in front, which encoders leave out.
            version = core.int(6)?;
            core = Bits::of(parts.next()?)?;
        }
        if !self.versions.contains(&version) {
            return None;
        }
        let opt_outs = self.opt_outs.iter().map(|at| {
            core.seek(*at);
            match core.int(2)? {
                OPTED_OUT => Some(true),
                other => NOT_OPTED_OUT.contains(&other).then_some(false),
            }
        });
        let opted_out = opt_outs.reduce(either)?;
        let asked = parts.filter(|_| self.gpc).map(|part| {
            let mut part = Bits::of(part)?;
            Some(part.int(2)? == GPC && part.flag()?)
        });
        asked.fold(opted_out, either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sections(text: &str) -> Option<Vec<i64>> {
        Gpp::read(text).map(|gpp| gpp.sections().collect())
    }

    fn opted_out(text: &str) -> Option<bool> {
        Gpp::read(text).and_then(|gpp| gpp.opted_out())
    }

    /// A string of `sections`, in their order.
    fn gpp(sections: &[(u16, &str)]) -> String {
        let mut bits = format!("000011000001{:012b}", sections.len());
        let mut last = 0;
        for (number, _) in sections {
            bits.push('0');
            bits.push_str(&fibonacci(*number - last));
            last = *number;
        }
        while bits.len() % 6 > 0 {
            bits.push('0');
        }
        let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let six = bits.as_bytes().chunks(6).map(|six| std::str::from_utf8(six).unwrap());
        let header = six.map(|six| char::from(digits[usize::from_str_radix(six, 2).unwrap()]));
        let header: String = header.collect();
        let parts = sections.iter().map(|(_, text)| *text);
        [header.as_str()].into_iter().chain(parts).collect::<Vec<_>>().join("~")
    }

    fn fibonacci(mut number: u16) -> String {
        let mut weights = vec![1, 2];
        while weights[weights.len() - 1] <= number {
            weights.push(weights[weights.len() - 1] + weights[weights.len() - 2]);
        }
        let mut bits = String::new();
        for weight in weights.iter().rev() {
            let is_in = *weight <= number;
            if is_in {
                number -= weight;
            }
            if is_in || !bits.is_empty() {
                bits.insert(0, if is_in { '1' } else { '0' });
            }
        }
        bits + "1"
    }

    #[test]
    fn headers_are_read_as_the_specification_writes_them() {
        let tcf = "CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA";
        // The examples of the specification, with and without the padding of encoders.
        for (header, numbers) in [
            ("DBABM", vec![2]),
            ("DBABMA", vec![2]),
            ("DBACNY", vec![2, 6]),
            ("DBACNYA", vec![2, 6]),
            ("DBABjw", vec![5, 6]),
            ("DBABTA", vec![6]),
            ("DBABLA", vec![7]),
            ("DBACOeA", vec![2, 5, 6]),
            ("DBAA", vec![]),
        ] {
            let parts = format!("~{tcf}").repeat(numbers.len());
            assert_eq!(sections(&format!("{header}{parts}")), Some(numbers), "{header}");
        }
        assert_eq!(gpp(&[(2, "x"), (6, "y")]), "DBACNY~x~y");
        let all: Vec<(u16, &str)> = (2..30).map(|number| (number, "x")).collect();
        assert_eq!(sections(&gpp(&all)), Some((2..30).collect()));
        for wrong in [
            "",
            "~",
            "DBABM",
            "DBABM~a~b",
            "DBAA~a",
            "D",
            "DBAB",
            "DCABM~a",
            "CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA",
            "DBAB!~a",
            "DB__________________________~a",
            "DBABgAAAAAAAAAB~a",
        ] {
            assert_eq!(sections(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_section_about_the_united_states_can_opt_out() {
        // What IAB's own encoder writes where everything is opted out of; the second without `Sec-GPC`.
        for (number, out, not) in [
            (7, "CVVVkkkkkpFY", "CAAAAAAAAABA.QA"),
            (7, "BVVVkkkkpFY", "BAAAVVVVUQA.QA"),
            (8, "BVWSSSVY", "BAAAAABA.QA"),
            (11, "BVVkklWA", "BAAAAAQA"),
            (18, "BVVkklWA", "BAAAAAQA.QA"),
            (24, "BVVU", "BQAA.QA"),
            (25, "BVVV.kkk", "BQAA.AAA"),
            (26, "BVVV.kkk", "BQAA.AAA"),
            (27, "BVVV.kkk", "BQAA.AAA"),
        ] {
            assert_eq!(opted_out(&gpp(&[(number, out)])), Some(true), "{number} {out}");
            assert_eq!(opted_out(&gpp(&[(number, not)])), Some(false), "{number} {not}");
        }
        // Each opt-out alone, at its place: `B`, notices that do not apply, and the opt-outs.
        for (numbers, alone) in [
            (&[7][..], &["BAAQAA", "BAAEAA", "BAABAA"][..]),
            (&[8, 9, 10, 12, 13, 14, 15, 16, 17, 19, 20, 21, 22, 23], &["BAQAAA", "BAEAAA"]),
            (&[11, 18], &["BAEAAA", "BABAAA"]),
            (&[24, 25, 26, 27], &["BABAAA", "BAAQAA"]),
        ] {
            for (number, out) in
                numbers.iter().flat_map(|n| alone.iter().map(move |out| (*n, *out)))
            {
                assert_eq!(opted_out(&gpp(&[(number, out)])), Some(true), "{number} {out}");
            }
        }
    }

    #[test]
    fn what_the_browser_asked_for_counts_where_the_section_has_a_place_for_it() {
        for number in [7, 8, 10, 12, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24] {
            assert_eq!(opted_out(&gpp(&[(number, "BAAAAAAA.YA")])), Some(true), "{number}");
            assert_eq!(opted_out(&gpp(&[(number, "BAAAAAAA.QA")])), Some(false), "{number}");
        }
        // What stands there in these is about sensitive data.
        for number in [25, 26, 27] {
            assert_eq!(opted_out(&gpp(&[(number, "BQAA.YAA")])), Some(false), "{number}");
        }
        // With the header that the specification of the latest sections has: 24, version 1, parts 0 and 1.
        assert_eq!(opted_out(&gpp(&[(24, "YBAA.BVVU.QA")])), Some(true));
        assert_eq!(opted_out(&gpp(&[(24, "YBAA.BQAA.YA")])), Some(true));
        assert_eq!(opted_out(&gpp(&[(24, "YBAA.BQAA.QA")])), Some(false));
        assert_eq!(opted_out(&gpp(&[(24, "YCAA.BQAA.QA")])), None);
    }

    #[test]
    fn what_is_not_said_or_not_readable_is_no_answer() {
        assert_eq!(opted_out("DBABM~CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA"), None);
        for (text, answer) in
            [("1YYN", Some(true)), ("1YNN", Some(false)), ("1---", None), ("nonsense", None)]
        {
            assert_eq!(opted_out(&gpp(&[(6, text)])), answer, "{text}");
        }
        for unreadable in ["", "B", "BA", "DAAAAAAA", "!", "BAwAAA", "BAAAAAAA.!", "BAAAAAAA."] {
            assert_eq!(opted_out(&gpp(&[(8, unreadable)])), None, "{unreadable}");
            let beside = |other| opted_out(&gpp(&[(7, other), (8, unreadable)]));
            assert_eq!(beside("CAAAAAAAAABA"), None, "{unreadable}");
            assert_eq!(beside("CVVVkkkkkpFY"), Some(true), "{unreadable}");
        }
        // One opt-out that can be read is enough.
        assert_eq!(opted_out(&gpp(&[(8, "BAcAAA")])), Some(true));
        assert_eq!(opted_out(&gpp(&[(8, "BAQAAA.!")])), Some(true));
        // A section that is not known says nothing about the others.
        assert_eq!(opted_out(&gpp(&[(7, "CAAAAAAAAABA"), (28, "!")])), Some(false));
    }
}
