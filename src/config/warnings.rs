//! What is allowed, and mostly not meant.

use super::compile::Checking;
use super::file;
use crate::decide::{RewriteRule, Rules};

/// Warns where traits reach somebody while anybody can say to be any user.
pub(super) fn warn_of_unsigned_ids(
    checking: &mut Checking<'_>,
    at: &str,
    site: &file::Site,
    rules: &Rules,
) {
    if site.identity.signed {
        return;
    }
    let rewrites = rules.rewrite.all().iter().position(RewriteRule::shows_traits);
    let sticky = rules.experiments.all().iter().position(|experiment| experiment.by_trait);
    let told =
        |reach: bool, place: &str, whom: &str| reach.then(|| (place.to_owned(), whom.to_owned()));
    let to = [
        told(!site.client_traits.is_empty(), "client_traits", "pages show these traits to"),
        told(!site.trait_cookies.is_empty(), "trait_cookies", "cookies give these traits to"),
        told(
            !site.request_headers.is_empty(),
            "request_headers",
            "the origin takes these traits for those of",
        ),
        told(
            !site.enrich.profile.is_empty(),
            "enrich/profile",
            "the vendor takes these traits for those of",
        ),
        rewrites.map(|index| (format!("rewrite/{index}"), "pages show traits to".to_owned())),
    ];
    for (place, reach) in to.into_iter().flatten().chain(variants(rules)) {
        let why = format!(
            "{reach} whoever says a user's id, which anybody can: `identity.signed` lets an id count only where somebody vouches for it"
        );
        checking.warn(&format!("{at}/{place}"), why);
    }
    if let Some(index) = sticky {
        let why = "a variant is kept in a user's profile only where somebody vouches for the user (`identity.signed`)";
        checking.warn(&format!("{at}/experiments/{index}/sticky"), why);
    }
}

/// Variants of experiments by which traits reach a page, and how.
fn variants(rules: &Rules) -> impl Iterator<Item = (String, String)> {
    let all = rules.experiments.all().iter().enumerate();
    let variants = all.flat_map(|(experiment, one)| {
        one.variants.iter().enumerate().map(move |(variant, one)| {
            let place = format!("experiments/{experiment}/variants/{variant}");
            (place, one)
        })
    });
    variants.filter_map(|(place, variant)| {
        let shows = variant.rewrite.iter().position(RewriteRule::shows_traits);
        if let Some(index) = shows {
            return Some((format!("{place}/rewrite/{index}"), "pages show traits to".to_owned()));
        }
        let told = !variant.traits.is_empty();
        told.then(|| (format!("{place}/traits"), "pages show these traits to".to_owned()))
    })
}

/// Warns where browsers keep cookies for a shorter time than the file says: on a host of its own, beside the site's.
pub(super) fn warn_of_short_cookies(checking: &mut Checking<'_>, at: &str, site: &file::Site) {
    let beside = matches!(site.origin, file::OriginChoice::None(_));
    let identity = &site.identity;
    if beside && identity.server_side_cookies && identity.cookies.lives_for.get() > SAFARI_KEEPS {
        let why = "Safari keeps cookies of a host that is on another network than the site's pages for seven days; \
                   `lives_for: 7d` says that this is known";
        checking.warn(&format!("{at}/identity/cookies/lives_for"), why);
    }
}

/// What Safari makes of cookies that come from elsewhere (its tracking prevention).
const SAFARI_KEEPS: std::time::Duration = std::time::Duration::from_hours(7 * 24);
