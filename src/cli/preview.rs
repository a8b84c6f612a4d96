//! `doorstep preview`: a link that shows certain variants, or tells why a page is as it is.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use http::Uri;

use super::explain::variant;
use super::{Failure, configuration, say};
use crate::config::Duration;
use crate::decide::{PREVIEW, Preview as Token};

/// Make a link that shows certain variants, or tells why a page is as it is, signed by the site's key.
#[derive(Args)]
pub(super) struct Preview {
    /// The configuration. Without it: conf/doorstep.yaml, else /etc/doorstep/doorstep.yaml.
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// The page.
    url: String,
    /// `experiment=variant`; may be given several times.
    #[arg(long)]
    variant: Vec<String>,
    /// Answers tell in `X-Doorstep-Explain` why they are as they are, traits included.
    #[arg(long)]
    explain: bool,
    /// How long the link is good.
    #[arg(long = "for", default_value = "24h", value_parser = time)]
    lasts: Duration,
}

fn time(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text).map(|time| Duration::secs(time.as_secs()))
}

impl Preview {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = configuration(self.config)?;
        let wrong = || Failure::Url(self.url.clone());
        let url: Uri = self.url.parse().map_err(|_| wrong())?;
        let host = url.host().ok_or_else(wrong)?.to_ascii_lowercase();
        let site = config.snapshot.sites.find(&host).ok_or_else(wrong)?;
        let variants: Vec<_> =
            self.variant.iter().map(|text| variant(text)).collect::<Result<_, _>>()?;
        for (key, name) in &variants {
            let experiments = site.rules.experiments.all().iter();
            let mut known = experiments.filter(|experiment| experiment.key.as_str() == key);
            if known.next().and_then(|experiment| experiment.variant(name)).is_none() {
                return Err(Failure::Variant(format!("{key}={name}")));
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let token = Token {
            site: site.name.to_string(),
            expires: now + self.lasts.get().as_secs(),
            variants,
            explain: self.explain,
        };
        let token = token.token(&site.signing_keys).ok_or(Failure::NoKey)?;
        let glue = if url.query().is_some() { '&' } else { '?' };
        say(format_args!("{}{glue}{PREVIEW}={token}", self.url))
    }
}
