//! Page views that the edge itself tells the vendors: for visitors whose browser runs no scripts, or
//! where the site has no other source. The snippet of such a page sends none.

use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, Method, header};
use pingora_proxy::Session;
use serde_json::{Map, Value, json};

use super::Edge;
use super::context::{Context, Page as SeenPage};
use super::event::ip;
use super::preview::without_token;
use crate::decide::Consent;
use crate::html::Title;
use crate::identity::Visitor;
use crate::site::Site;
use crate::telemetry::{EventRefusal, Feature, guard};
use crate::vendor::{Given, Kind, enrich};

/// A page view that will be told once the page has been delivered.
pub(super) struct View {
    pub(super) visitor: Visitor,
    pub(super) title: Arc<Mutex<Title>>,
}

impl Edge {
    /// Whether the edge tells that this page was seen.
    pub(super) fn tells_view(
        &self,
        session: &Session,
        context: &Context,
        site: &Site,
        page: &mut SeenPage,
    ) -> bool {
        let request = session.req_header();
        let rule = site.edge_page_views.as_ref();
        if rule.is_none() || request.method != Method::GET || is_prefetch(&request.headers) {
            return false;
        }
        let who = page.who.get_or_insert_with(|| self.who(site, request, context));
        if who.consent == Consent::Denied {
            return false;
        }
        let visitor = &who.visitor;
        self.is_true(("inject.edge_page_views", rule), site, visitor, request, context)
            && !self.is_true(("bots", site.bots.as_ref()), site, visitor, request, context)
    }

    /// Tells every vendor of the site. Nobody waits for it.
    pub(super) fn tell_view(
        &self,
        session: &Session,
        context: &Context,
        site: &Site,
        view: &View,
        consent: Consent,
    ) {
        let request = session.req_header();
        let text = |name| request.headers.get(name).and_then(|value| value.to_str().ok());
        let title = view.title.lock().unwrap_or_else(PoisonError::into_inner);
        let uri = &request.uri;
        let bare = uri.query().and_then(without_token);
        let event = event(&Page {
            scheme: context.client.scheme(),
            authority: context.authority.as_str(),
            path: uri.path(),
            query: bare.as_deref().or(uri.query()).unwrap_or_default(),
            referrer: text(header::REFERER).unwrap_or_default(),
            language: text(header::ACCEPT_LANGUAGE),
            title: title.get(),
        });
        drop(title);
        let _ = self.tell(session, context, site, (Kind::Page, &event), &view.visitor, consent);
    }

    /// Tells every vendor of the site what the edge itself has seen. Whether one of them will hear of it.
    pub(super) fn tell(
        &self,
        session: &Session,
        context: &Context,
        site: &Site,
        (kind, event): (Kind, &Value),
        visitor: &Visitor,
        consent: Consent,
    ) -> bool {
        let request = session.req_header();
        let agent = request.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let place = context.client.address.and_then(|address| self.geo.place(address));
        let place = place.and_then(|place| serde_json::value::to_raw_value(&place.context()).ok());
        let given = Given {
            visitor,
            ip: ip(context, site, consent),
            user_agent: agent,
            place: place.as_deref(),
            profile: None,
            consent: site.consent.decided(consent),
        };
        let (body, mut heard) = (event.to_string(), false);
        for (vendor, sdk) in site.sdks() {
            let enriched =
                guard(Feature::Event, || enrich(kind, body.as_bytes(), &given, vendor.spec()));
            let Some(Ok(enriched)) = enriched else { continue };
            if enriched.parcels.is_empty() {
                continue;
            }
            // Pages that somebody asks for without end make no more events than that client may send.
            let bytes = enriched.parcels.iter().map(|parcel| parcel.body.len()).sum();
            let (client, limits) = (context.client.address, context.snapshot.event_limits);
            let Ok(sender) = self.limits.charge(client, bytes, limits) else {
                site.metrics.event_refused(EventRefusal::Edge);
                continue;
            };
            match self.outbox.accept_later(&sdk.lane, &enriched.parcels, sender) {
                Ok(()) => {
                    site.metrics.events_accepted.inc();
                    heard = true;
                }
                Err(error) => {
                    site.metrics.event_refused(EventRefusal::Edge);
                    tracing::debug!(site = &*site.name, %error, "an event of the edge was not taken");
                }
            }
        }
        heard
    }
}

/// What is known of a page that was seen.
pub(super) struct Page<'p> {
    pub(super) scheme: &'p str,
    pub(super) authority: &'p str,
    pub(super) path: &'p str,
    pub(super) query: &'p str,
    pub(super) referrer: &'p str,
    pub(super) language: Option<&'p str>,
    pub(super) title: Option<&'p str>,
}

/// `context.page`, as the browser's SDK writes it.
pub(super) fn about(page: &Page<'_>) -> Value {
    let search = if page.query.is_empty() { String::new() } else { format!("?{}", page.query) };
    let mut about = json!({
        "path": page.path,
        "referrer": page.referrer,
        "search": search,
        "url": format!("{}://{}{}{search}", page.scheme, page.authority, page.path),
    });
    if let (Some(title), Some(about)) = (page.title, about.as_object_mut()) {
        about.insert("title".into(), title.into());
    }
    about
}

/// As the browser's SDK writes it.
fn event(page: &Page<'_>) -> Value {
    let about = about(page);
    let mut context = json!({ "page": about, "library": { "name": "doorstep" } });
    if let Some(context) = context.as_object_mut() {
        let campaign = campaign(page.query);
        if !campaign.is_empty() {
            context.insert("campaign".into(), campaign.into());
        }
        let locale = page.language.and_then(|list| list.split([',', ';']).next()).map(str::trim);
        if let Some(locale) = locale.filter(|locale| !locale.is_empty() && *locale != "*") {
            context.insert("locale".into(), locale.into());
        }
    }
    json!({ "type": "page", "properties": about, "context": context })
}

/// `utm_*` of a query, under the names that the SDK gives them.
fn campaign(query: &str) -> Map<String, Value> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    let pairs = query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let name = name.strip_prefix("utm_").filter(|name| !name.is_empty())?;
        let name = if name == "campaign" { "name".to_owned() } else { decode(name) };
        Some((name, Value::from(decode(value))))
    });
    pairs.collect()
}

/// A page that may never be seen (`Sec-Purpose`, what browsers sent before it, and what Turbo sends).
pub(super) fn is_prefetch(headers: &HeaderMap) -> bool {
    ["sec-purpose", "purpose", "x-moz", "x-sec-purpose", "x-purpose"].iter().any(|name| {
        headers.get(*name).and_then(|value| value.to_str().ok()).is_some_and(|value| {
            let value = value.to_ascii_lowercase();
            value.contains("prefetch") || value.contains("preview")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_says_what_the_browser_would() {
        let page = Page {
            scheme: "https",
            authority: "www.shop.example",
            path: "/sale",
            query: "x=1&utm_source=mail&utm_campaign=a+b&utm_=c",
            referrer: "https://search.example/",
            language: Some("de-DE,de;q=0.9"),
            title: Some("Sale"),
        };
        let event = event(&page);
        assert_eq!(
            event["context"]["page"],
            json!({"path": "/sale", "referrer": "https://search.example/", "title": "Sale",
                "search": "?x=1&utm_source=mail&utm_campaign=a+b&utm_=c",
                "url": "https://www.shop.example/sale?x=1&utm_source=mail&utm_campaign=a+b&utm_=c"})
        );
        assert_eq!(event["context"]["campaign"], json!({"source": "mail", "name": "a b"}));
        assert_eq!(event["context"]["locale"], "de-DE");
        assert_eq!(event["properties"], event["context"]["page"]);
        let mut headers = HeaderMap::new();
        assert!(!is_prefetch(&headers));
        headers.insert("sec-purpose", "prefetch;prerender".parse().unwrap());
        assert!(is_prefetch(&headers));
    }
}
