//! What a page's Content-Security-Policy lets a snippet do.
//! <https://www.w3.org/TR/CSP3/>

/// The policies of one page. No policy allows everything; several all have to agree.
#[derive(Debug, Clone, Default)]
pub struct Csp {
    policies: Vec<Scripts>,
}

/// How the snippet can be in a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// As a script in the page, with this nonce where one is needed.
    Inline(Option<Box<str>>),
    /// As a file of the same host, with this nonce where one is needed.
    External(Option<Box<str>>),
    /// Not at all.
    Forbidden,
}

/// What one policy says of scripts.
#[derive(Debug, Clone, Default)]
struct Scripts {
    nonce: Option<Box<str>>,
    inline: bool,
    own_files: bool,
}

impl Csp {
    /// Adds the value of a `Content-Security-Policy` header or meta element: policies, separated by
    /// commas. `host` is the page's own.
    pub fn add(&mut self, value: &str, host: &str) {
        self.policies.extend(value.split(',').filter_map(|policy| Scripts::read(policy, host)));
    }

    /// How the snippet can be in this page.
    #[must_use]
    pub fn way(&self) -> Way {
        // One nonce has to satisfy every policy that asks for one.
        let nonce = self.policies.iter().find_map(|policy| policy.nonce.as_deref());
        let allows = |open: fn(&Scripts) -> bool| {
            self.policies
                .iter()
                .all(|policy| open(policy) || (nonce.is_some() && policy.nonce.as_deref() == nonce))
        };
        let own = nonce.map(Into::into);
        // The SDK's own file has to be allowed as well: by its place or by the nonce.
        if allows(|policy| policy.inline) && allows(|policy| policy.own_files) {
            return Way::Inline(own);
        }
        if allows(|policy| policy.own_files) {
            return Way::External(own);
        }
        Way::Forbidden
    }
}

impl Scripts {
    /// `None` where the policy says nothing of scripts.
    fn read(policy: &str, host: &str) -> Option<Self> {
        let directives: Vec<(&str, &str)> = policy
            .split(';')
            .filter_map(|directive| {
                let directive = directive.trim_ascii();
                let name = directive.split_ascii_whitespace().next()?;
                Some((name, directive.get(name.len()..)?))
            })
            .collect();
        let sources =
            ["script-src-elem", "script-src", "default-src"].iter().find_map(|wanted| {
                directives.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            })?;
        let mut scripts = Self::default();
        let (mut unsafe_inline, mut strict, mut dynamic) = (false, false, false);
        for source in sources.1.split_ascii_whitespace() {
            let lower = source.to_ascii_lowercase();
            if let Some(nonce) = keyword(source, "nonce-") {
                // A nonce of other characters could leave the attribute that we put it in.
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte);
                if !nonce.is_empty() && nonce.bytes().all(plain) {
                    scripts.nonce.get_or_insert_with(|| nonce.into());
                }
                strict = true;
            } else if HASHES.iter().any(|hash| keyword(source, hash).is_some()) {
                strict = true;
            } else {
                match lower.as_str() {
                    "'unsafe-inline'" => unsafe_inline = true,
                    "'strict-dynamic'" => dynamic = true,
                    "'self'" | "*" | "http:" | "https:" => scripts.own_files = true,
                    place => scripts.own_files |= is_host(place, host),
                }
            }
        }
        // With `strict-dynamic` places don't count: only what a nonce or hash vouches for.
        scripts.own_files &= !dynamic;
        strict |= dynamic;
        scripts.inline = unsafe_inline && !strict;
        Some(scripts)
    }
}

const HASHES: [&str; 3] = ["sha256-", "sha384-", "sha512-"];

/// `'nonce-abc'` → `abc`.
fn keyword<'s>(source: &'s str, name: &str) -> Option<&'s str> {
    let inner = source.strip_prefix('\'')?.strip_suffix('\'')?;
    let (given, value) = inner.split_at_checked(name.len())?;
    given.eq_ignore_ascii_case(name).then_some(value)
}

/// Whether a host source without a path names `host`.
fn is_host(source: &str, host: &str) -> bool {
    let bare = source.split_once("://").map_or(source, |(_, rest)| rest);
    let host = host.to_ascii_lowercase();
    match bare.strip_prefix("*.") {
        Some(parent) => host.strip_suffix(parent).is_some_and(|sub| sub.ends_with('.')),
        None => bare == host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(policies: &[&str]) -> Way {
        let mut csp = Csp::default();
        for policy in policies {
            csp.add(policy, "shop.example");
        }
        csp.way()
    }

    #[test]
    fn the_strictest_policy_decides() {
        let nonce = |nonce: &str| Some(nonce.into());
        for (policies, expected) in [
            (&[][..], Way::Inline(None)),
            (&["img-src 'none'"], Way::Inline(None)),
            (&["script-src 'none'"], Way::Forbidden),
            (&["default-src 'self'"], Way::External(None)),
            (&["script-src 'self' 'unsafe-inline'"], Way::Inline(None)),
            (
                &["script-src https: 'unsafe-inline' 'nonce-r4nd0m=='"],
                Way::Inline(nonce("r4nd0m==")),
            ),
            (&["script-src 'unsafe-inline' 'sha256-x' 'self'"], Way::External(None)),
            (&["script-src 'strict-dynamic' 'nonce-abc' https:"], Way::Inline(nonce("abc"))),
            (&["script-src 'strict-dynamic' https: 'unsafe-inline'"], Way::Forbidden),
            (&["script-src 'nonce-a\"b'"], Way::Forbidden),
            (&["default-src 'none'; script-src-elem *.shop.example"], Way::Forbidden),
            (&["SCRIPT-SRC shop.example"], Way::External(None)),
            (&["script-src 'self'", "script-src 'nonce-a'"], Way::External(nonce("a"))),
            (&["script-src 'nonce-a', script-src 'nonce-b'"], Way::Forbidden),
            (&["script-src 'nonce-a'; object-src 'none'"], Way::Inline(nonce("a"))),
        ] {
            assert_eq!(way(policies), expected, "{policies:?}");
        }
    }
}
