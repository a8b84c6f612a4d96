//! Where somebody falls in an experiment: GrowthBook's hashes and ranges, so that its SDKs put the same
//! visitor into the same variant. <https://docs.growthbook.io/lib/build-your-own>

/// Which of GrowthBook's hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The first: biased where one visitor is in several experiments.
    V1,
    /// The present one.
    V2,
}

/// FNV-1a of 32 bits, over UTF-16 units as JavaScript has them.
fn fnv(text: &str) -> u32 {
    text.encode_utf16()
        .fold(0x811c_9dc5, |hash, unit| (hash ^ u32::from(unit)).wrapping_mul(0x0100_0193))
}

/// A number from 0 up to and without 1, for ever the same for one `seed` and `value`.
#[must_use]
pub(super) fn of(version: Version, seed: &str, value: &str) -> f64 {
    match version {
        Version::V1 => f64::from(fnv(&[value, seed].concat()) % 1000) / 1000.0,
        Version::V2 => {
            let first = fnv(&[seed, value].concat());
            f64::from(fnv(&first.to_string()) % 10_000) / 10_000.0
        }
    }
}

/// The share of everybody that each of `weights` gets where `coverage` takes part. Weights that do not
/// add up to 1 count as equal.
#[must_use]
pub fn ranges(weights: &[f64], coverage: f64) -> Vec<(f64, f64)> {
    let coverage = coverage.clamp(0.0, 1.0);
    let sum: f64 = weights.iter().sum();
    let equal = 1.0 / (weights.len().max(1) as f64);
    let wrong = !(0.99..=1.01).contains(&sum);
    let mut start = 0.0;
    weights
        .iter()
        .map(|weight| {
            let weight = if wrong { equal } else { *weight };
            let range = (start, start + coverage * weight);
            start += weight;
            range
        })
        .collect()
}

/// Which of `ranges` holds `number`.
#[must_use]
pub(super) fn choose(number: f64, ranges: &[(f64, f64)]) -> Option<usize> {
    ranges.iter().position(|(start, end)| number >= *start && number < *end)
}

/// Whether `value` has the part of the namespace `name` between `start` and `end`: experiments with
/// parts that do not overlap never have the same visitor.
#[must_use]
pub(super) fn in_namespace(value: &str, name: &str, (start, end): (f64, f64)) -> bool {
    let number = of(Version::V1, &["__", name].concat(), value);
    number >= start && number < end
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GrowthBook's own cases: `packages/sdk-js/test/cases.json`, version 0.5.4.
    #[test]
    fn hashes_are_growthbooks() {
        use Version::{V1, V2};
        for (seed, value, version, expected) in [
            ("", "a", V1, 0.22),
            ("", "b", V1, 0.077),
            ("b", "a", V1, 0.946),
            ("ef", "d", V1, 0.652),
            ("asdf", "8952klfjas09ujk", V1, 0.549),
            ("", "123", V1, 0.011),
            ("", "___)((*\":&", V1, 0.563),
            ("seed", "a", V2, 0.0505),
            ("seed", "b", V2, 0.2696),
            ("foo", "ab", V2, 0.2575),
            ("foo", "def", V2, 0.2019),
            ("89123klj", "8952klfjas09ujkasdf", V2, 0.124),
            ("90850943850283058242805", "123", V2, 0.7516),
            ("()**(%$##$%#$#", "___)((*\":&", V2, 0.0128),
        ] {
            assert!((of(version, seed, value) - expected).abs() < 1e-9, "{seed} {value}");
        }
    }

    #[test]
    fn ranges_are_growthbooks() {
        for (weights, coverage, expected) in [
            (&[0.5, 0.5][..], 1.0, &[(0.0, 0.5), (0.5, 1.0)][..]),
            (&[0.5, 0.5], 0.5, &[(0.0, 0.25), (0.5, 0.75)]),
            (&[0.5, 0.5], 0.0, &[(0.0, 0.0), (0.5, 0.5)]),
            (&[0.4, 0.6], 1.0, &[(0.0, 0.4), (0.4, 1.0)]),
            (&[0.2, 0.3, 0.5], 0.2, &[(0.0, 0.04), (0.2, 0.26), (0.5, 0.6)]),
            (&[0.5, 0.5], -0.2, &[(0.0, 0.0), (0.5, 0.5)]),
            (&[0.5, 0.5], 1.5, &[(0.0, 0.5), (0.5, 1.0)]),
            (&[0.4, 0.1], 1.0, &[(0.0, 0.5), (0.5, 1.0)]),
            (&[0.7, 0.6], 1.0, &[(0.0, 0.5), (0.5, 1.0)]),
            (&[0.4, 0.5999], 1.0, &[(0.0, 0.4), (0.4, 0.9999)]),
        ] {
            let ranges = ranges(weights, coverage);
            assert_eq!(ranges.len(), expected.len());
            for (own, their) in ranges.iter().zip(expected) {
                assert!((own.0 - their.0).abs() < 1e-9 && (own.1 - their.1).abs() < 1e-9);
            }
        }
        let reduced = [(0.0, 0.25), (0.5, 0.75)];
        for (number, chosen) in
            [(0.2, Some(0)), (0.25, None), (0.4, None), (0.5, Some(1)), (0.8, None)]
        {
            assert_eq!(choose(number, &reduced), chosen, "{number}");
        }
        assert_eq!(choose(0.5, &[(0.0, 0.5), (0.5, 0.5), (0.5, 1.0)]), Some(2));
    }

    #[test]
    fn namespaces_are_growthbooks() {
        for (value, name, first) in [
            ("1", "namespace1", false),
            ("1", "namespace2", false),
            ("2", "namespace1", false),
            ("2", "namespace2", false),
            ("3", "namespace1", false),
            ("3", "namespace2", true),
        ] {
            assert_eq!(in_namespace(value, name, (0.0, 0.4)), first, "{value} {name}");
            assert_eq!(in_namespace(value, name, (0.4, 1.0)), !first, "{value} {name}");
        }
    }
}
