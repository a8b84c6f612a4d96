//! URLs that values are a part of: judged once they are whole, as a browser reads them (WHATWG URL).

use std::ops::Range;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::skeleton::{OpensTemplate, Part, plain};

/// What a browser does with what a URL leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlUse {
    /// Goes there when somebody asks for it.
    Link,
    /// Shows or plays it.
    Media,
    /// Runs it, frames it, styles the page with it, or sends it what the visitor types.
    Code,
}

/// Why a URL can't be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Another scheme than those that a value may be under.
    #[error(
        "with a value in it a URL is a path, http or https; links may be mailto, tel and sms as well"
    )]
    Scheme,
    /// No host, one that is written in an unusual way, or a user name before it.
    #[error("a URL with a value in it needs a plain host behind `//`")]
    Host,
    /// A character that browsers leave out or read as another one.
    #[error("a URL can't hold control characters and `\\`")]
    Character,
    /// Whoever sets the value would choose what runs in the page.
    #[error(
        "here a browser runs, frames or styles the page with what it fetches, and a value would choose the \
         host: write the host before the first value, or list the hosts that may be meant in `hosts` of the rule"
    )]
    Unlisted,
    /// A value changes the host that the configuration says, or leads out of its folder.
    #[error("a value would lead elsewhere than the configuration says")]
    Elsewhere,
    /// In a list of images.
    #[error("expected images with sizes such as `a.png 1x, b.png 2x`")]
    Size,
    /// See [`OpensTemplate`].
    #[error(transparent)]
    Template(#[from] OpensTemplate),
}

/// The hosts that a value may choose where [`UrlUse::Code`] needs one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// URLs without a host.
    own: bool,
    exact: Vec<Box<str>>,
    /// With the dot before them.
    below: Vec<Box<str>>,
}

/// What a value behind the beginning of a URL keeps: the unreserved characters (RFC 3986, 2.3).
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Hosts {
    /// Adds `cdn.example`, `*.shop.example`, either with a port, or `self` for URLs without a host.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let wrong = || {
            format!(
                "`{text}` is not a host: expected `cdn.example`, `*.shop.example`, `cdn.example:8443`, or `self` \
                 for URLs without a host"
            )
        };
        let lower = text.to_ascii_lowercase();
        if lower == "self" {
            self.own = true;
            return Ok(());
        }
        let (name, port) = match lower.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (&*lower, None),
        };
        let label = |label: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            (1..=63).contains(&label.len()) && label.bytes().all(plain)
        };
        let (is_below, name) = match name.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, name),
        };
        if !name.split('.').all(label) || port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return Err(wrong());
        }
        if !is_below {
            self.exact.push(lower.into());
        } else if psl::domain_str(name).is_some() {
            self.below.push(lower.trim_start_matches('*').into());
        } else {
            return Err(format!(
                "below `{name}` there are hosts of anybody: name a domain of yours"
            ));
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn has(&self, reference: &Reference<'_>) -> bool {
        let Some(authority) = reference.authority else {
            return self.own && reference.scheme.is_none();
        };
        let host = authority.to_ascii_lowercase();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        let below = |end: &str| host.strip_suffix(end).is_some_and(|label| !label.is_empty());
        host.bytes().all(plain)
            && (self.exact.iter().any(|exact| **exact == *host)
                || self.below.iter().any(|end| below(end)))
    }
}

/// A URL in its parts, as far as they decide where it leads.
#[derive(PartialEq, Eq)]
struct Reference<'u> {
    scheme: Option<&'u str>,
    authority: Option<&'u str>,
}

impl<'u> Reference<'u> {
    /// Only what every browser reads in this one way.
    fn parse(url: &'u str, its_use: UrlUse) -> Result<Self, UrlError> {
        let url = trimmed(url);
        if url.chars().any(|char| char.is_control() || char == '\\') {
            return Err(UrlError::Character);
        }
        let (scheme, rest) = split_scheme(url, its_use)?;
        let Some(behind) = rest.strip_prefix("//") else {
            return match scheme {
                Some(scheme) if is_web(scheme) => Err(UrlError::Host),
                _ => Ok(Self { scheme, authority: None }),
            };
        };
        if scheme.is_some_and(|scheme| !is_web(scheme)) {
            return Err(UrlError::Host);
        }
        let end = behind.find(['/', '?', '#']).unwrap_or(behind.len());
        let authority = behind.get(..end).unwrap_or_default();
        if authority.is_empty() || authority.contains(['@', ' ']) {
            return Err(UrlError::Host);
        }
        Ok(Self { scheme, authority: Some(authority) })
    }
}

/// Without the spaces that browsers take off at both ends.
fn trimmed(url: &str) -> &str {
    url.trim_matches([' ', '\t', '\n', '\r'])
}

fn is_web(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

/// The scheme, if there is one, and what follows its colon.
fn split_scheme(url: &str, its_use: UrlUse) -> Result<(Option<&str>, &str), UrlError> {
    let end = url.find([':', '/', '?', '#']);
    let Some((scheme, rest)) = end.and_then(|end| url.split_at_checked(end)) else {
        return Ok((None, url));
    };
    let Some(rest) = rest.strip_prefix(':') else { return Ok((None, url)) };
    let told = ["mailto", "tel", "sms"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    if is_web(scheme) || (its_use == UrlUse::Link && told) {
        Ok((Some(scheme), rest))
    } else {
        Err(UrlError::Scheme)
    }
}

/// Where a URL leads by the text before its first value. `None` where that says nothing of the host: a value
/// chooses it.
fn beginning(fixed: &str, its_use: UrlUse) -> Result<Option<Reference<'_>>, UrlError> {
    let fixed = trimmed(fixed);
    let (scheme, rest) = split_scheme(fixed, its_use)?;
    let is_whole = match rest.strip_prefix("//") {
        Some(behind) => behind.contains(['/', '?', '#']),
        None => !fixed.is_empty() && !scheme.is_some_and(is_web),
    };
    if is_whole { Reference::parse(fixed, its_use).map(Some) } else { Ok(None) }
}

/// A URL being put together.
#[derive(Default)]
struct Composition<'s> {
    /// What stands between URLs, in a list of them.
    separators: &'s [char],
    text: String,
    /// Where the first value begins.
    begun: Option<usize>,
    /// Values that are a part of it, percent-encoded.
    encoded: Vec<Range<usize>>,
    /// What comes in some places is not known.
    is_unknown: bool,
}

impl<'s> Composition<'s> {
    /// A value at the beginning, and behind `separators` in a list, is put in as it is, another one as a part.
    fn of(parts: &[Part<'_>], separators: &'s [char]) -> Result<Self, UrlError> {
        let mut own = Self { separators, ..Self::default() };
        // Values meet as they are, before what is a part is encoded.
        plain(parts)?;
        for part in parts {
            if !matches!(part, Part::Fixed(_)) {
                own.begun.get_or_insert(own.text.len());
            }
            match part {
                Part::Fixed(fixed) => own.text.push_str(fixed),
                Part::Unknown => own.is_unknown = true,
                Part::Value(value) => {
                    let before = trimmed(&own.text);
                    let is_first =
                        before.is_empty() || own.text.ends_with(|char| separators.contains(&char));
                    if is_first {
                        own.text.push_str(value);
                    } else {
                        let from = own.text.len();
                        own.text.extend(utf8_percent_encode(value, PART));
                        own.encoded.push(from..own.text.len());
                    }
                }
            }
        }
        Ok(own)
    }

    /// What the configuration says before the first value.
    fn beginning(&self) -> &str {
        self.begun.and_then(|end| self.text.get(..end)).unwrap_or(&self.text)
    }

    /// Whether an encoded value makes a part of the path that leads to another folder: `..`, also as `%2e.`.
    fn leaves_folder(&self) -> bool {
        let separates = |char| self.separators.contains(&char);
        self.encoded.iter().any(|value| {
            let (before, _) = self.text.split_at_checked(value.start).unwrap_or_default();
            let before = before.rsplit(separates).next().unwrap_or_default();
            if before.contains(['?', '#']) {
                return false;
            }
            let from = value.start - before.rsplit('/').next().map_or(0, str::len);
            let rest = self.text.get(from..).unwrap_or_default();
            let ends = |char| matches!(char, '/' | '?' | '#') || separates(char);
            let segment = rest.split(ends).next().unwrap_or_default();
            let dots = segment.trim().to_ascii_lowercase().replace("%2e", ".");
            matches!(&*dots, "." | "..")
        })
    }
}

/// The URL that `parts` are together.
///
/// # Errors
/// A browser would do with it what no value may bring about.
pub(super) fn url(parts: &[Part<'_>], its_use: UrlUse, hosts: &Hosts) -> Result<String, UrlError> {
    let composition = Composition::of(parts, &[])?;
    let beginning = beginning(composition.beginning(), its_use)?;
    let is_open = beginning.is_none() && its_use == UrlUse::Code;
    if composition.is_unknown {
        let is_listed = !is_open || !hosts.is_empty();
        return if is_listed { Ok(composition.text) } else { Err(UrlError::Unlisted) };
    }
    let whole = Reference::parse(&composition.text, its_use)?;
    if is_open && !hosts.has(&whole) {
        return Err(UrlError::Unlisted);
    }
    if beginning.is_some_and(|fixed| fixed != whole) || composition.leaves_folder() {
        return Err(UrlError::Elsewhere);
    }
    Ok(composition.text)
}

/// A list of URLs, separated by spaces.
///
/// # Errors
/// As [`url`].
pub(super) fn urls(parts: &[Part<'_>]) -> Result<String, UrlError> {
    let composition = Composition::of(parts, &[' ', '\t', '\n', '\r'])?;
    beginning(composition.beginning(), UrlUse::Link)?;
    if !composition.is_unknown {
        for one in composition.text.split_ascii_whitespace() {
            Reference::parse(one, UrlUse::Link)?;
        }
    }
    if composition.leaves_folder() {
        return Err(UrlError::Elsewhere);
    }
    Ok(composition.text)
}

/// Images for several sizes (HTML, 4.8.4.2.1): URLs with what they are for, separated by commas.
///
/// # Errors
/// As [`url`].
pub(super) fn image_set(parts: &[Part<'_>]) -> Result<String, UrlError> {
    let composition = Composition::of(parts, &[' ', '\t', '\n', '\r', ','])?;
    beginning(composition.beginning(), UrlUse::Media)?;
    if composition.leaves_folder() {
        return Err(UrlError::Elsewhere);
    }
    if composition.is_unknown {
        return Ok(composition.text);
    }
    let is_size = |word: &str| {
        let number = word.strip_suffix(['w', 'x', 'h']);
        number
            .is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
    };
    let mut rest = &*composition.text;
    loop {
        rest = rest.trim_start_matches(|char: char| char.is_ascii_whitespace() || char == ',');
        if rest.is_empty() {
            return Ok(composition.text);
        }
        let end = rest.find(|char: char| char.is_ascii_whitespace()).unwrap_or(rest.len());
        let (image, behind) = rest.split_at(end);
        Reference::parse(image.trim_end_matches(','), UrlUse::Media)?;
        rest = behind;
        if !image.ends_with(',') {
            let (sizes, next) = behind.split_once(',').unwrap_or((behind, ""));
            if !sizes.split_ascii_whitespace().all(is_size) {
                return Err(UrlError::Size);
            }
            rest = next;
        }
    }
}

/// Whether `url` leads to a page, a mail or a call, and runs nothing.
#[must_use]
pub fn is_safe_url(url: &str) -> bool {
    Reference::parse(url, UrlUse::Link).is_ok()
}

/// Whether a text would run where a script takes it for a URL.
pub(super) fn is_code_url(text: &str) -> bool {
    let start = text.trim_start_matches(|char: char| char.is_ascii_control() || char == ' ');
    let plain = start.chars().filter(|char| !matches!(char, '\t' | '\n' | '\r')).take(20);
    let lower = plain.collect::<String>().to_ascii_lowercase();
    ["javascript:", "vbscript:", "livescript:", "mocha:", "data:", "blob:", "filesystem:"]
        .iter()
        .any(|scheme| lower.starts_with(scheme))
}

#[cfg(test)]
mod tests;
