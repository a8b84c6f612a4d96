//! The cookie by which a visitor keeps variants: `pricing:short*~menu:control`. A star says that it has
//! been reported that the visitor saw it.

use smallvec::SmallVec;

use super::ExperimentKey;

/// The cookie's name.
pub const KEPT: &str = "doorstep_experiments";
/// The most experiments that a cookie names: it has to stay below what browsers take.
const MAX_KEPT: usize = 32;

/// The variants that a visitor has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept(SmallVec<[One; 4]>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct One {
    experiment: ExperimentKey,
    variant: ExperimentKey,
    told: bool,
}

impl Kept {
    /// Reads a cookie. What is not of our form counts as nothing.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let one = |text: &str| {
            let (key, variant) = text.split_once(':')?;
            let (variant, told) = variant.strip_suffix('*').map_or((variant, false), |v| (v, true));
            let experiment = ExperimentKey::parse(key).ok()?;
            Some(One { experiment, variant: ExperimentKey::parse(variant).ok()?, told })
        };
        Self(text.split('~').filter_map(one).take(MAX_KEPT).collect())
    }

    /// The cookie's text.
    #[must_use]
    pub fn write(&self) -> String {
        let one = |one: &One| {
            let star = if one.told { "*" } else { "" };
            format!("{}:{}{star}", one.experiment.as_str(), one.variant.as_str())
        };
        self.0.iter().map(one).collect::<Vec<_>>().join("~")
    }

    /// The variant of `experiment`.
    #[must_use]
    pub fn variant(&self, experiment: &ExperimentKey) -> Option<&str> {
        self.find(experiment).map(|one| one.variant.as_str())
    }

    /// Whether it has been reported that the visitor saw `variant`.
    #[must_use]
    pub fn is_told(&self, experiment: &ExperimentKey, variant: &str) -> bool {
        self.find(experiment).is_some_and(|one| one.told && one.variant.as_str() == variant)
    }

    /// Keeps `variant` of `experiment`.
    pub fn keep(&mut self, experiment: &ExperimentKey, variant: &str, told: bool) {
        let Ok(variant) = ExperimentKey::parse(variant) else { return };
        match self.0.iter().position(|one| one.experiment == *experiment) {
            Some(at) => {
                if let Some(one) = self.0.get_mut(at) {
                    (one.variant, one.told) = (variant, told);
                }
            }
            None if self.0.len() < MAX_KEPT => {
                self.0.push(One { experiment: experiment.clone(), variant, told });
            }
            None => {}
        }
    }

    /// Forgets experiments that there are no longer.
    pub fn retain(&mut self, exists: impl Fn(&ExperimentKey) -> bool) {
        self.0.retain(|one| exists(&one.experiment));
    }

    /// Whether it keeps nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn find(&self, experiment: &ExperimentKey) -> Option<&One> {
        self.0.iter().find(|one| one.experiment == *experiment)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let key = |text: &str| ExperimentKey::parse(text).unwrap();
        let mut kept = Kept::default();
        kept.keep(&key("pricing"), "short", true);
        kept.keep(&key("menu"), "control", false);
        assert_eq!(kept.write(), "pricing:short*~menu:control");
        assert_eq!(Kept::read(&kept.write()), kept);
        assert!(kept.is_told(&key("pricing"), "short") && !kept.is_told(&key("pricing"), "long"));
        kept.keep(&key("pricing"), "long", false);
        assert_eq!(kept.variant(&key("pricing")), Some("long"));
        kept.retain(|key| key.as_str() == "menu");
        assert_eq!(kept.write(), "menu:control");
    }

    #[test]
    fn a_cookie_names_so_many_experiments_at_most() {
        let mut kept = Kept::default();
        for number in 0..MAX_KEPT + 5 {
            let key = ExperimentKey::parse(&format!("e{number}")).unwrap();
            kept.keep(&key, "a", false);
            assert_eq!(kept.variant(&key).is_some(), number < MAX_KEPT, "{number}");
        }
        let more = format!("{}~one:a~more:b", kept.write());
        assert_eq!(Kept::read(&more), kept);
    }

    proptest! {
        #[test]
        fn nonsense_is_nothing(text in "\\PC{0,300}") {
            let kept = Kept::read(&text);
            prop_assert_eq!(Kept::read(&kept.write()), kept);
        }
    }
}
