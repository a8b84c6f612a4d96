//! A vendor's files as the site's own host serves them.

use memchr::memmem;

use super::{REDACTED, WriteKey};

/// The site's own host, in the forms that an SDK's files need.
#[derive(Debug, Clone, Copy)]
pub struct Own<'o> {
    /// `http` or `https`, as the visitor uses it.
    pub scheme: &'o str,
    /// Host with port, as the visitor asked for it.
    pub host: &'o str,
    /// Path below which our routes live.
    pub prefix: &'o str,
    /// Path below which the SDK's events come.
    pub events: &'o str,
    /// The SDK has a path of its own beside the prefix: names of its parts don't say whose they are either.
    pub renamed: bool,
    /// Pages are on another host of the site's domain: the SDK has to send cookies on purpose.
    pub elsewhere: bool,
    /// The key to hide; `None` where the site shows it.
    pub redact: Option<&'o WriteKey>,
}

impl Own<'_> {
    /// `body` without the write key, where the site hides it.
    #[must_use]
    pub fn redacted(&self, body: Vec<u8>) -> Vec<u8> {
        match self.redact {
            Some(key) => replace(body, key.expose(), REDACTED),
            None => body,
        }
    }
}

/// `body` with `to` in every place of `from`.
#[must_use]
pub(crate) fn replace(body: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    let finder = memmem::Finder::new(from);
    let mut out = Vec::new();
    let mut done = 0;
    for at in finder.find_iter(&body) {
        out.extend_from_slice(body.get(done..at).unwrap_or_default());
        out.extend_from_slice(to.as_bytes());
        done = at + from.len();
    }
    if done == 0 {
        return body;
    }
    out.extend_from_slice(body.get(done..).unwrap_or_default());
    out
}

/// Names that mean the same thing to every server: no escapes, no dot segments, no query.
pub(super) fn is_safe(rest: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-~+@/".contains(&byte);
    !rest.is_empty()
        && rest.len() <= 512
        && rest.bytes().all(fits)
        && rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
