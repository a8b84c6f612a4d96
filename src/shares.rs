//! Places of which there are few: so many in all, and so many for one asker.

use std::collections::HashMap;

/// Who holds how many.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    all: usize,
    /// By asker: one that holds none is not in it.
    of: HashMap<u128, usize>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// All are taken.
    All,
    /// The asker has its share.
    OfOne,
}

impl NoPlace {
    /// How metrics call it.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::OfOne => "client",
        }
    }
}

impl Shares {
    /// Takes one of `most` for `asker`, who may hold `of_one`. Whoever is nobody in particular has no share of its own.
    pub(crate) fn take(
        &mut self,
        asker: Option<u128>,
        most: usize,
        of_one: usize,
    ) -> Result<(), NoPlace> {
        if self.all >= most {
            return Err(NoPlace::All);
        }
        if let Some(asker) = asker {
            if self.of.get(&asker).copied().unwrap_or_default() >= of_one {
                return Err(NoPlace::OfOne);
            }
            *self.of.entry(asker).or_default() += 1;
        }
        self.all += 1;
        Ok(())
    }

    /// Gives one back that `asker` has taken.
    pub(crate) fn give_back(&mut self, asker: Option<u128>) {
        self.all = self.all.saturating_sub(1);
        let Some(asker) = asker else { return };
        let Some(own) = self.of.get_mut(&asker) else { return };
        *own = own.saturating_sub(1);
        if *own == 0 {
            self.of.remove(&asker);
        }
    }

    /// Whether nobody holds any.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.all == 0 && self.of.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_and_each_have_a_bound_and_what_is_given_back_is_there_again() {
        let mut shares = Shares::default();
        let mut take = |asker| shares.take(asker, 3, 2);
        assert_eq!([take(Some(1)), take(Some(1))], [Ok(()), Ok(())]);
        assert_eq!(take(Some(1)), Err(NoPlace::OfOne));
        assert_eq!(
            [take(None), take(Some(2)), take(None)],
            [Ok(()), Err(NoPlace::All), Err(NoPlace::All)]
        );
        for asker in [Some(1), None, Some(1)] {
            shares.give_back(asker);
        }
        assert!(shares.is_empty());
        assert_eq!(shares.take(Some(2), 3, 0), Err(NoPlace::OfOne));
        assert!(shares.is_empty());
    }
}
