//! A file of any vendor's SDK.

use super::{Own, Vendor, WriteKey, rudderstack, segment};

/// A file of a vendor's SDK. What is not one of these never reaches the vendor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SdkFile {
    /// Of Segment's.
    Segment(segment::Asset),
    /// Of RudderStack's.
    RudderStack(rudderstack::Asset),
}

impl SdkFile {
    /// Reads a normalised path below the prefix, with its leading slash.
    #[must_use]
    pub fn parse(vendor: Vendor, path: &str, key: &WriteKey) -> Option<Self> {
        match vendor {
            Vendor::Segment => segment::Asset::parse(path, key).map(Self::Segment),
            Vendor::RudderStack => rudderstack::Asset::parse(path).map(Self::RudderStack),
        }
    }

    /// Whose it is.
    #[must_use]
    pub fn vendor(&self) -> Vendor {
        match self {
            Self::Segment(_) => Vendor::Segment,
            Self::RudderStack(_) => Vendor::RudderStack,
        }
    }

    /// What the vendor is asked for.
    #[must_use]
    pub fn target(&self, key: &WriteKey) -> String {
        match self {
            Self::Segment(asset) => asset.at_cdn(key),
            Self::RudderStack(asset) => asset.at_vendor(key),
        }
    }

    /// Whether it comes from the vendor's API for configurations, which wants to know the key, and not
    /// from the CDN.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::RudderStack(rudderstack::Asset::SourceConfig))
    }

    /// Whether it is the SDK itself.
    #[must_use]
    pub fn is_sdk(&self) -> bool {
        match self {
            Self::Segment(asset) => *asset == segment::Asset::Sdk,
            Self::RudderStack(asset) => *asset == rudderstack::Asset::sdk(),
        }
    }

    /// `body` as the site's own host serves it.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn rewrite(
        &self,
        body: Vec<u8>,
        own: Own<'_>,
    ) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(match self {
            Self::Segment(asset) => segment::rewrite(asset, body, own)?,
            Self::RudderStack(asset) => rudderstack::rewrite(asset, body, own)?,
        })
    }
}
