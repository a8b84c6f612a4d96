//! The path below which a site's own routes live.

/// `/seg`: one slash, then letters, digits, `-` and `_`, in one or more parts. Fits a script, an
/// attribute and a URL as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePrefix(Box<str>);

/// Why text is not a prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a path such as `/seg`: parts of letters, digits, `-` and `_`, found `{0}`")]
pub struct PrefixError(String);

impl RoutePrefix {
    /// Reads a prefix.
    ///
    /// # Errors
    /// When `text` is none.
    pub fn parse(text: &str) -> Result<Self, PrefixError> {
        let fits = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        match text.strip_prefix('/') {
            Some(parts) if text.len() <= 64 && parts.split('/').all(fits) => Ok(Self(text.into())),
            _ => Err(PrefixError(text.into())),
        }
    }

    /// The prefix, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What of a normalised `path` is below the prefix, with its leading slash; `None` for a path
    /// of the site itself.
    #[must_use]
    pub fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(&*self.0)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_plain_paths() {
        for wrong in ["", "/", "seg", "/seg/", "//seg", "/a/../b", "/a b", "/a'", "/%61"] {
            assert!(RoutePrefix::parse(wrong).is_err(), "{wrong}");
        }
        let prefix = RoutePrefix::parse("/a/seg").unwrap();
        assert_eq!(prefix.below("/a/seg/t"), Some("/t"));
        assert_eq!(prefix.below("/a/seg"), Some(""));
        assert_eq!(prefix.below("/a/segment"), None);
    }
}
