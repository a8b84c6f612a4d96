//! `doorstep explain`: what a request would get, and why. Nothing is sent to the origin or a vendor.

use std::path::PathBuf;

use clap::Args;
use http::Uri;
use serde_json::{Value, json};

use super::profile::{chain, shown};
use super::{Failure, configuration};
use crate::config::StoreChoice;
use crate::decide::{Facts, Outcome, RequestFacts};
use crate::geo::{Geo, Place};
use crate::identity::{AnonymousId, IdError, UserId, Visitor, read};
use crate::node::{StartError, open_store};
use crate::profile::store::ProfileStore;
use crate::profile::{Profile, ProfileKey};
use crate::site::{Route, Site, normal_path};

/// Tell what a request would get, and why.
#[derive(Args)]
pub(super) struct Explain {
    /// The configuration. Without it: conf/doorstep.yaml, else /etc/doorstep/doorstep.yaml.
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// What is asked for.
    url: String,
    /// The visitor is logged in as this user.
    #[arg(long)]
    user_id: Option<String>,
    /// The visitor's browser has this id.
    #[arg(long)]
    anonymous_id: Option<String>,
    /// `name=value`; may be given several times.
    #[arg(long)]
    cookie: Vec<String>,
    /// `name: value`; may be given several times.
    #[arg(long)]
    header: Vec<String>,
    /// The visitor's address.
    #[arg(long)]
    ip: Option<std::net::IpAddr>,
}

/// The request as rules see it.
struct Asked {
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    place: Option<Place>,
}

impl RequestFacts for Asked {
    fn method(&self) -> &'static str {
        "GET"
    }
    fn path(&self) -> &str {
        &self.path
    }
    fn query(&self) -> &str {
        &self.query
    }
    fn headers(&self) -> Vec<(String, String)> {
        self.headers.clone()
    }
    fn place(&self) -> Option<Place> {
        self.place.clone()
    }
}

impl Explain {
    pub(super) fn run(self) -> Result<(), Failure> {
        crate::telemetry::start_log();
        let config = configuration(self.config.clone())?;
        let wrong = || Failure::Url(self.url.clone());
        let url: Uri = self.url.parse().map_err(|_| wrong())?;
        let host = url.host().ok_or_else(wrong)?.to_ascii_lowercase();
        let site = config.snapshot.sites.find(&host).ok_or_else(wrong)?;
        let path = normal_path(url.path()).ok_or_else(wrong)?;
        let route = Route::of(site, &path);
        let mut told = json!({ "site": &*site.name, "route": route_name(&route), "path": &*path });
        if route == Route::Page {
            let runtime = tokio::runtime::Runtime::new().map_err(Failure::Runtime)?;
            let page = runtime.block_on(async {
                let store = open_store(&config.node)?;
                store.connect().await?;
                let tier = match &config.node.profile_store {
                    StoreChoice::Embedded => "embedded",
                    StoreChoice::Redis(_) => "redis",
                };
                let geo = Geo::open(config.node.geo.clone()).map_err(StartError::Geo);
                let geo = geo.map_err(Failure::Start)?;
                let place = self.ip.and_then(|ip| geo.place(ip));
                self.page(site, &path, &url, &*store, tier, place).await
            })?;
            if let (Some(told), Value::Object(page)) = (told.as_object_mut(), page) {
                told.extend(page);
            }
        }
        println!("{told:#}");
        Ok(())
    }

    async fn page(
        &self,
        site: &Site,
        path: &str,
        url: &Uri,
        store: &dyn ProfileStore,
        tier: &str,
        place: Option<Place>,
    ) -> Result<Value, Failure> {
        let host = url.authority().map_or("", |authority| authority.as_str());
        let mut headers = vec![("host".to_owned(), host.to_owned())];
        for text in &self.header {
            let (name, value) =
                text.split_once(':').ok_or_else(|| Failure::Header(text.clone()))?;
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
        if !self.cookie.is_empty() {
            headers.push(("cookie".to_owned(), self.cookie.join("; ")));
        }
        let visitor = self.visitor(site, &headers)?;
        let key = match (&visitor.user, &visitor.anonymous) {
            (Some(user), _) => Some(ProfileKey::user(&site.name, user)),
            (None, Some(id)) => Some(ProfileKey::anonymous(&site.name, id)),
            (None, None) => None,
        };
        let (mut profile, mut from) = (None, Value::Null);
        if let Some(key) = key {
            let (path, found) = chain(store, key).await?;
            let source = site.source.as_ref().zip(path.last());
            let source = source.is_some_and(|(source, end)| source.serves(end));
            from = shown(&path, found.as_ref());
            if let Some(from) = from.as_object_mut() {
                let tier = found.is_some().then_some(tier);
                from.insert("from".into(), tier.into());
                from.insert("has_source".into(), source.into());
            }
            profile = found;
        }
        let query = url.query().unwrap_or_default().to_owned();
        let asked = Asked { path: path.to_owned(), query, headers, place };
        let (consent, _) =
            site.consent.of(&Facts::new(&visitor, None, &asked).with_null_for_absent());
        let rules = rules(site, &visitor, profile.as_ref(), &asked);
        let ids = json!({
            "user_id": visitor.user.as_ref().map(UserId::as_str),
            "anonymous_id": visitor.anonymous.as_ref().map(AnonymousId::as_str),
        });
        Ok(
            json!({ "identity": ids, "consent": consent.label(), "profile": from, "decisions": rules }),
        )
    }

    fn visitor(&self, site: &Site, headers: &[(String, String)]) -> Result<Visitor, Failure> {
        let cookies = headers.iter().filter(|(name, _)| name == "cookie");
        let mut visitor = read(&site.identity.names, cookies.map(|(_, value)| value.as_bytes()));
        let wrong = |id: &String, why: IdError| Failure::Id(id.clone(), why.into());
        if let Some(id) = &self.user_id {
            visitor.user = Some(UserId::parse(id).map_err(|why| wrong(id, why))?);
        }
        if let Some(id) = &self.anonymous_id {
            visitor.anonymous = Some(AnonymousId::parse(id).map_err(|why| wrong(id, why))?);
        }
        Ok(visitor)
    }
}

/// Every rule with its outcome.
fn rules(site: &Site, visitor: &Visitor, known: Option<&Profile>, asked: &Asked) -> Value {
    let facts = Facts::new(visitor, known, asked);
    let mut decided = false;
    let choices: Vec<Value> = site
        .variations
        .choices(&asked.path)
        .iter()
        .map(|choice| {
            let outcome = match choice.when.test(&facts) {
                _ if decided => "not asked: an earlier one was true".to_owned(),
                Outcome::True => {
                    decided = true;
                    "true".to_owned()
                }
                Outcome::False => "false".to_owned(),
                Outcome::Failed(why) => format!("failed, counts as false: {why}"),
            };
            json!({ "when": choice.when.source(), "path": &*choice.path, "outcome": outcome })
        })
        .collect();
    let chosen = site.variations.choose(&asked.path, &facts);
    let (traits, failed) = site.client_traits.of(&facts);
    json!({
        "variations": choices,
        "upstream_path": chosen.path.unwrap_or(&asked.path),
        "client_traits": traits,
        "client_traits_failed": failed,
    })
}

fn route_name(route: &Route) -> &'static str {
    match route {
        Route::Page => "page: to the origin",
        Route::Asset(_) => "asset: a file of the SDK",
        Route::Event(..) => "event: to its vendor",
        Route::Generic => "generic: to a vendor that a rule names",
        Route::Cookies => "cookies: those that the SDK wants set by a server",
        Route::Webhook => "webhook: pushed profiles",
        Route::Snippet => "snippet: the snippet as a file",
        Route::Traits => "traits: the visitor's client traits",
        Route::Reset => "reset: ends the browser's identity",
        Route::Nothing => "nothing: 404",
    }
}
