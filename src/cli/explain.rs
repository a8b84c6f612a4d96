//! `doorstep explain`: what a request would get, and why. Nothing is sent to the origin or a vendor.

use std::path::PathBuf;

use clap::Args;
use http::{HeaderValue, Uri};
use serde_json::{Map, Value, json};

use super::profile::{chain, shown};
use super::{Failure, configuration, say};
use crate::config::StoreChoice;
use crate::decide::{
    Asking, Decision, Earlier, ExperimentKey, Facts, RequestFacts, Target, Trace, Wants, told,
};
use crate::geo::{Geo, Place};
use crate::html::{Edit, Editor, framework};
use crate::identity::{
    AnonymousId, IdError, Purpose, USER_SIGNATURE, UserId, Visitor, cookie, read,
};
use crate::node::{StartError, open_store};
use crate::profile::ProfileKey;
use crate::profile::store::ProfileStore;
use crate::site::{Route, Site, normal_path};
use crate::upstream::{Call, Client, USER_AGENT};

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
    /// `experiment=variant`: as with a preview link; may be given several times.
    #[arg(long)]
    variant: Vec<String>,
    /// A file with the page as the origin has it: says where the rules match, and whether a framework would
    /// undo them.
    #[arg(long, conflicts_with = "fetch")]
    page: Option<PathBuf>,
    /// Get the page from the origin, as it is for this visitor, for the same.
    #[arg(long)]
    fetch: bool,
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
                let (mut told, decision) =
                    self.page(site, &path, &url, &*store, tier, place).await?;
                if let Some(page) = self.bytes(site, &url, decision.target.as_ref()).await?
                    && let Some(told) = told.as_object_mut()
                {
                    told.insert("page_as_it_is".into(), matches(&page, &decision.edits));
                }
                Ok::<_, Failure>(told)
            })?;
            if let (Some(told), Value::Object(page)) = (told.as_object_mut(), page) {
                told.extend(page);
            }
        }
        say(format_args!("{told:#}"))
    }

    async fn page(
        &self,
        site: &Site,
        path: &str,
        url: &Uri,
        store: &dyn ProfileStore,
        tier: &str,
        place: Option<Place>,
    ) -> Result<(Value, Decision), Failure> {
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
        let mut visitor = self.visitor(site, &headers)?;
        // A cookie's id counts only with its signature; one that was named here is taken for granted.
        let said = visitor.user.clone().filter(|_| site.identity.signed && self.user_id.is_none());
        let unsigned = said.filter(|user| {
            let cookies = headers.iter().filter(|(name, _)| name == "cookie");
            let values: Vec<_> =
                cookies.filter_map(|(_, value)| HeaderValue::from_str(value).ok()).collect();
            let parts = [&*site.name, user.as_str()];
            !cookie(&values, USER_SIGNATURE)
                .is_some_and(|signature| site.signing_keys.admits(Purpose::User, &parts, signature))
        });
        if unsigned.is_some() {
            visitor.user = None;
        }
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
        let before = Facts::new(&visitor, None, &asked).with_null_for_absent();
        let ((consent, _), consent_rules) = (site.consent.of(&before), site.consent.told(&before));
        let mut facts = Facts::new(&visitor, profile.as_ref(), &asked).with_consent(consent);
        let (rules, decision) = rules(site, &mut facts, self.wanted()?);
        let ids = json!({
            "user_id": visitor.user.as_ref().map(UserId::as_str),
            "unsigned_user_id": unsigned.as_ref().map(UserId::as_str),
            "anonymous_id": visitor.anonymous.as_ref().map(AnonymousId::as_str),
        });
        let told = json!({
            "identity": ids, "consent": consent.label(), "consent_rules": consent_rules,
            "profile": from, "decisions": rules,
        });
        Ok((told, decision))
    }

    /// The page as it is before anything is done to it, where somebody wants it looked at.
    async fn bytes(
        &self,
        site: &Site,
        url: &Uri,
        target: Option<&Target>,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let failed = |why: String| Failure::Page(why);
        if let Some(file) = &self.page {
            return std::fs::read(file).map(Some).map_err(|error| failed(error.to_string()));
        }
        if !self.fetch {
            return Ok(None);
        }
        let (other, path) = match target {
            Some(Target::Other { origin, path, .. }) => (*origin, path.as_deref()),
            _ => (None, None),
        };
        let origin = other.map_or(site.origin.as_ref(), |other| site.other_origins.get(other));
        let origin = origin.ok_or_else(|| failed("the site has no origin".into()))?;
        origin.resolve().await.map_err(|error| failed(error.to_string()))?;
        let path = path.unwrap_or_else(|| url.path());
        let accept = http::HeaderValue::from_static("text/html");
        let call = Call {
            method: http::Method::GET,
            path,
            headers: &[(http::header::ACCEPT, accept), (http::header::USER_AGENT, USER_AGENT)],
            body: bytes::Bytes::new(),
            most: 8 * 1024 * 1024,
        };
        let deadline = std::time::Duration::from_secs(30);
        let answer = Client::default().send(origin, call, deadline).await;
        let answer = answer.map_err(|error| failed(error.to_string()))?;
        if !answer.status.is_success() {
            return Err(failed(format!("`{path}` answers {}", answer.status)));
        }
        Ok(Some(answer.body.to_vec()))
    }

    fn wanted(&self) -> Result<Vec<(String, String)>, Failure> {
        self.variant.iter().map(|text| variant(text)).collect()
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

/// Where `edits` match in `page`, and whether a framework would undo them.
fn matches(page: &[u8], edits: &[Edit]) -> Value {
    let found = edits.iter().map(|edit| {
        let (mut editor, mut out) = (Editor::new(vec![edit.clone()]), Vec::new());
        let whole = editor.push(page, &mut out).and_then(|()| editor.end(&mut out)).is_ok();
        json!({ "select": edit.select.as_str(), "elements": whole.then(|| editor.changed()) })
    });
    let mut told = json!({ "matches": found.collect::<Vec<_>>() });
    let framework = framework(page);
    let undone: Vec<&str> =
        edits.iter().filter(|edit| !edit.keep).map(|edit| edit.select.as_str()).collect();
    if let (Some(framework), Some(told), false) =
        (framework, told.as_object_mut(), undone.is_empty())
    {
        let warning = format!(
            "{framework} makes this page anew in the browser and undoes changes of {}: say `persist: true` there",
            undone.join(", ")
        );
        told.insert("warning".into(), warning.into());
    }
    told
}

/// What was given of earlier pages: nothing, but variants that somebody wants to look at.
struct Wanted(Vec<(String, String)>);

impl Earlier for Wanted {
    fn previewed(&self, experiment: &ExperimentKey) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == experiment.as_str());
        found.map(|(_, variant)| &**variant)
    }
    fn kept(&self, _: &ExperimentKey) -> Option<&str> {
        None
    }
}

/// Every rule with its outcome, and what comes of all.
fn rules<'f>(
    site: &'f Site,
    facts: &mut Facts<'f>,
    wanted: Vec<(String, String)>,
) -> (Value, Decision) {
    let wants = Wants::PAGE;
    let concerned = site.rules.concerning(&site.name, facts.path(), wants, &[]);
    let mut trace = Trace::new();
    let wanted = Wanted(wanted);
    let asking = Asking { site: &site.name, wants, earlier: &wanted, deciders: &[] };
    let began = std::time::Instant::now();
    let decision = site.rules.decide(&concerned, facts, &asking, Some(&mut trace));
    let took = began.elapsed();
    let cookies: Map<String, Value> = decision
        .cookies
        .iter()
        .filter_map(|(index, value)| {
            let cookie = site.rules.cookies.get(*index)?;
            Some((cookie.name.to_string(), value.clone().into()))
        })
        .collect();
    let headers: Map<String, Value> = decision
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("?").into()))
        .collect();
    let edits = decision.edits.iter().map(|edit| format!("{edit:?}"));
    let told = json!({
        "rules": trace.told(),
        "page": decision.target.as_ref().map_or_else(|| facts.path().into(), told),
        "client_traits": decision.traits,
        "trait_cookies": cookies,
        "request_headers": headers,
        "edits": edits.collect::<Vec<_>>(),
        "failed": decision.failed.iter().map(|name| &**name).collect::<Vec<_>>(),
        "refused": decision.refused,
        "us": (took.as_secs_f64() * 1e7).round() / 10.0,
    });
    (told, decision)
}

/// Reads `experiment=variant`.
pub(super) fn variant(text: &str) -> Result<(String, String), Failure> {
    let pair = text.split_once('=').ok_or_else(|| Failure::Variant(text.to_owned()))?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
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
        Route::Keep => "keep: the script that keeps changes of pages",
        Route::Traits => "traits: the visitor's client traits",
        Route::Reset => "reset: ends the browser's identity",
        Route::Seen => "seen: a page that was fetched ahead is seen",
        Route::Nothing => "nothing: 404",
    }
}
