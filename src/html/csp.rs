//! What a page's Content-Security-Policy lets a snippet do.
//! <https://www.w3.org/TR/CSP3/>, <https://www.w3.org/TR/trusted-types/>

/// The policies of one page. No policy allows everything; several all have to agree.
#[derive(Debug, Clone, Default)]
pub struct Csp {
    policies: Vec<Scripts>,
}

/// Where the edge's own files are, as the page's policies could name it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnFiles {
    /// The page's host, lower case.
    pub host: String,
    /// Its port, where that is not the scheme's own.
    pub port: Option<u16>,
    /// Below this path, which ends with a slash.
    pub below: String,
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
    nonces: Vec<Box<str>>,
    inline: bool,
    own_files: bool,
    /// No script may run, or none may bring another: SDKs make script elements.
    never: bool,
}

impl Csp {
    /// Adds the value of a `Content-Security-Policy` header: policies, separated by commas.
    pub fn add(&mut self, value: &str, own: &OwnFiles) {
        self.policies.extend(value.split(',').filter_map(|one| Scripts::read(one, own, true)));
    }

    /// Adds the policy of a `meta` element, which can't shut the page in a sandbox (CSP 3, 3.3).
    pub fn add_of_page(&mut self, policy: &str, own: &OwnFiles) {
        self.policies.extend(Scripts::read(policy, own, false));
    }

    /// How the snippet can be in this page.
    #[must_use]
    pub fn way(&self) -> Way {
        if self.policies.iter().any(|policy| policy.never) {
            return Way::Forbidden;
        }
        // One nonce has to satisfy every policy that asks for one.
        let nonces = || self.policies.iter().flat_map(|policy| &policy.nonces);
        let find = |open: fn(&Scripts) -> bool| {
            let mut choices = nonces().map(Some).chain([None]);
            let choice = choices.find(|nonce| {
                let has =
                    |policy: &Scripts| nonce.is_some_and(|nonce| policy.nonces.contains(nonce));
                self.policies.iter().all(|policy| open(policy) || has(policy))
            });
            choice.map(Option::<&Box<str>>::cloned)
        };
        // The SDK's own file has to be allowed as well: by its place or by the nonce.
        if let Some(nonce) = find(|policy| policy.inline && policy.own_files) {
            return Way::Inline(nonce);
        }
        find(|policy| policy.own_files).map_or(Way::Forbidden, Way::External)
    }
}

impl Scripts {
    /// `None` where the policy says nothing of scripts.
    fn read(policy: &str, own: &OwnFiles, can_shut_in: bool) -> Option<Self> {
        let directives: Vec<(&str, &str)> = policy
            .split(';')
            .filter_map(|directive| {
                let directive = directive.trim_ascii();
                let name = directive.split_ascii_whitespace().next()?;
                Some((name, directive.get(name.len()..)?))
            })
            .collect();
        let find = |wanted: &str| {
            let mut named = directives.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
            named.next().map(|(_, value)| *value)
        };
        let has = |value: &str, wanted: &str| {
            value.split_ascii_whitespace().any(|one| one.eq_ignore_ascii_case(wanted))
        };
        let shut_in = find("sandbox").filter(|_| can_shut_in);
        let trusted = find("require-trusted-types-for");
        let never = shut_in.is_some_and(|flags| !has(flags, "allow-scripts"))
            || trusted.is_some_and(|sinks| has(sinks, "'script'"));
        let sources = ["script-src-elem", "script-src", "default-src"].into_iter().find_map(find);
        let Some(sources) = sources else {
            return never.then_some(Self { never, ..Self::default() });
        };
        let mut scripts = Self { never, ..Self::default() };
        let (mut unsafe_inline, mut strict, mut dynamic) = (false, false, false);
        for source in sources.split_ascii_whitespace() {
            let lower = source.to_ascii_lowercase();
            if let Some(nonce) = keyword(source, "nonce-") {
                // A nonce of other characters could leave the attribute that we put it in.
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte);
                if !nonce.is_empty() && nonce.bytes().all(plain) {
                    scripts.nonces.push(nonce.into());
                }
                strict = true;
            } else if HASHES.iter().any(|hash| keyword(source, hash).is_some()) {
                strict = true;
            } else {
                match lower.as_str() {
                    "'unsafe-inline'" => unsafe_inline = true,
                    "'strict-dynamic'" => dynamic = true,
                    "'self'" | "*" | "http:" | "https:" => scripts.own_files = true,
                    _ => scripts.own_files |= own.is_named_by(source),
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

impl OwnFiles {
    /// What stands before a file's path: a page may say that paths are another host's (`<base href>`).
    #[must_use]
    pub(super) fn base(&self) -> String {
        match (&*self.host, self.port) {
            ("", _) => String::new(),
            (host, None) => format!("//{host}"),
            (host, Some(port)) => format!("//{host}:{port}"),
        }
    }

    /// Whether a host source names all of them (CSP 3, 6.7.2.7 to 6.7.2.11). Its scheme is taken for the page's.
    fn is_named_by(&self, source: &str) -> bool {
        let (scheme, bare) = source.split_once("://").unwrap_or_default();
        let bare = if scheme.is_empty() { source } else { bare };
        let (place, path) = match memchr::memchr(b'/', bare.as_bytes()) {
            Some(slash) => bare.split_at_checked(slash).unwrap_or((bare, "")),
            None => (bare, ""),
        };
        let (host, port) = place.rsplit_once(':').map_or((place, None), |(a, b)| (a, Some(b)));
        let host = host.to_ascii_lowercase();
        let host_fits = match host.strip_prefix('*') {
            Some("") => true,
            Some(parent) => parent.starts_with('.') && self.host.ends_with(parent),
            None => host == self.host,
        };
        let port_fits = match (port, self.port) {
            (Some("*"), _) => true,
            (Some(port), Some(own)) => port.parse() == Ok(own),
            // The page is at its scheme's own.
            (Some(port), None) => matches!(port, "443" | "80"),
            (None, own) => own.is_none(),
        };
        // A path that ends with a slash is all below it, any other one file.
        let path_fits = path.is_empty() || (path.ends_with('/') && self.below.starts_with(path));
        host_fits && port_fits && path_fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(policies: &[&str]) -> Way {
        let mut csp = Csp::default();
        let own = OwnFiles { host: "shop.example".into(), port: None, below: "/seg/".into() };
        for policy in policies {
            csp.add(policy, &own);
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
            (&["script-src 'nonce-a' 'nonce-b', script-src 'nonce-b'"], Way::Inline(nonce("b"))),
            (&["require-trusted-types-for 'script'"], Way::Forbidden),
            (&["trusted-types default; Require-Trusted-Types-For 'SCRIPT'"], Way::Forbidden),
            (&["trusted-types default"], Way::Inline(None)),
            (&["sandbox"], Way::Forbidden),
            (&["sandbox allow-forms; script-src 'self'"], Way::Forbidden),
            (&["sandbox allow-scripts"], Way::Inline(None)),
        ] {
            assert_eq!(way(policies), expected, "{policies:?}");
        }
    }

    #[test]
    fn own_files_are_named_in_many_ways() {
        for (port, source, named) in [
            (None, "shop.example", true),
            (None, "https://SHOP.example", true),
            (None, "https://shop.example:443", true),
            (None, "shop.example:8443", false),
            (None, "shop.example:*", true),
            (None, "https://*", true),
            (None, "*:*", true),
            (None, "*.example", true),
            (None, "*.shop.example", false),
            (None, "otherexample", false),
            (None, "shop.example/", true),
            (None, "shop.example/seg/", true),
            (None, "https://shop.example/se", false),
            (None, "shop.example/seg/snippet.js", false),
            (None, "shop.example/other/", false),
            (Some(8443), "shop.example", false),
            (Some(8443), "https://shop.example:8443/seg/", true),
            (Some(8443), "*.example:*", true),
        ] {
            let own = OwnFiles { host: "shop.example".into(), port, below: "/seg/".into() };
            assert_eq!(own.is_named_by(source), named, "{port:?} {source}");
        }
    }

    #[test]
    fn a_page_can_not_shut_itself_in() {
        let (mut csp, own) = (Csp::default(), OwnFiles::default());
        csp.add_of_page("sandbox", &own);
        assert_eq!(csp.way(), Way::Inline(None));
        csp.add_of_page("require-trusted-types-for 'script'", &own);
        assert_eq!(csp.way(), Way::Forbidden);
    }
}
