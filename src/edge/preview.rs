//! What a request brings of earlier pages: a preview link, kept variants.

use pingora::http::RequestHeader;

use super::context::Context;
use crate::decide::{Earlier, ExperimentKey, KEPT, Kept, PREVIEW, Preview, PreviewError};
use crate::identity::{OtherCookie, cookie};
use crate::site::Site;

/// What a request brings.
#[derive(Debug, Default)]
pub(super) struct Given {
    kept: Kept,
    /// The kept variants, as the browser has them.
    kept_text: String,
    preview: Option<Preview>,
    /// The token of a link that the browser has come by, which a cookie is to keep.
    token: Option<String>,
    /// Why a token is worth nothing.
    pub(super) refused: Option<PreviewError>,
}

impl Given {
    /// What `request` brings.
    pub(super) fn of(site: &Site, request: &RequestHeader) -> Self {
        let mut given = Self::default();
        if !site.rules.experiments.is_empty() {
            given.kept_text = cookie(request.headers.get_all(http::header::COOKIE), KEPT)
                .map(str::to_owned)
                .unwrap_or_default();
            given.kept = Kept::read(&given.kept_text);
        }
        if site.signing_keys.is_empty() {
            return given;
        }
        let by_link = in_query(request.uri.query().unwrap_or_default());
        let by_cookie = || cookie(request.headers.get_all(http::header::COOKIE), PREVIEW);
        let Some(token) = by_link.or_else(by_cookie) else { return given };
        match Preview::read(token, &site.name, &site.signing_keys) {
            Ok(preview) => {
                given.token = by_link.map(str::to_owned);
                given.preview = Some(preview);
            }
            Err(why) => {
                site.metrics.preview_refused(why.label());
                given.refused = Some(why);
            }
        }
        given
    }

    /// Whether the visitor may know why.
    pub(super) fn explains(&self) -> bool {
        self.preview.as_ref().is_some_and(|preview| preview.explain)
    }

    /// The variants go that the browser has kept: they are somebody else's.
    pub(super) fn keep_nothing(&mut self) {
        (self.kept, self.kept_text) = (Kept::default(), String::new());
    }

    /// The variants that the visitor has by now.
    pub(super) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Cookies that keep what is new, with `kept` as it is now.
    pub(super) fn cookies(&self, site: &Site, kept: &Kept, context: &Context) -> Vec<String> {
        const YEAR: i64 = 365 * 24 * 3600;
        let (host, secure) = (context.authority.as_str(), context.client.secure);
        let mut out = Vec::new();
        let text = kept.write();
        if text != self.kept_text {
            let age = if kept.is_empty() { 0 } else { YEAR };
            let cookie = OtherCookie { name: KEPT, value: &text, readable: false };
            out.push(site.identity.other(&cookie, Some(age), host, secure));
        }
        let left = self.preview.as_ref().and_then(Preview::left);
        if let (Some(token), Some(left)) = (&self.token, left) {
            let cookie = OtherCookie { name: PREVIEW, value: token, readable: false };
            out.push(site.identity.other(&cookie, i64::try_from(left).ok(), host, secure));
        }
        out
    }
}

impl Earlier for Given {
    fn previewed(&self, experiment: &ExperimentKey) -> Option<&str> {
        self.preview.as_ref()?.variant(experiment)
    }
    fn kept(&self, experiment: &ExperimentKey) -> Option<&str> {
        self.kept.variant(experiment)
    }
}

/// The token in a query.
fn in_query(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix(PREVIEW)?.strip_prefix('='))
}

/// A query without the token, which is nobody's business behind the edge.
pub(super) fn without_token(query: &str) -> Option<String> {
    in_query(query)?;
    let others = query
        .split('&')
        .filter(|pair| pair.strip_prefix(PREVIEW).is_none_or(|rest| !rest.starts_with('=')));
    Some(others.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_stays_at_the_edge() {
        for (query, rest) in [
            ("a=1&doorstep_preview=x.y&b=2", Some("a=1&b=2")),
            ("doorstep_preview=x", Some("")),
            ("a=1", None),
            ("doorstep_previews=1", None),
            ("", None),
        ] {
            assert_eq!(without_token(query).as_deref(), rest, "{query}");
        }
    }
}
