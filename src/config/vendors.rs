//! The vendors of one site of the file → what its requests need of them.

use std::sync::Arc;

use super::compile::Checking;
use super::file::{self, File};
use super::secret::Secret;
use super::site::{page_path, secret};
use crate::collect::Lane;
use crate::site::{RoutePrefix, Sdk, SdkPaths};
use crate::telemetry::LaneMetrics;
use crate::upstream::{Endpoint, Timeouts, Upstream, basic};
use crate::vendor::{Generic, Rule, Vendor, WriteKey, rudderstack, segment};

/// Segment and RudderStack, each where the site uses it.
type Sdks = (Option<Sdk>, Option<Sdk>);

/// What a vendor's configuration has in common with others'.
struct Given<'g> {
    vendor: Vendor,
    write_key: Option<&'g Secret>,
    write_key_file: Option<&'g str>,
    redact: bool,
    cdn: &'g str,
    config_api: Option<&'g str>,
    routes: Option<&'g file::SegmentRoutes>,
    events: (&'static str, &'g str),
}

/// The vendors that have a room of their own.
pub(super) fn sdks(
    checking: &mut Checking<'_>,
    at: &str,
    file: &File,
    site: &file::Site,
    prefix: Option<&RoutePrefix>,
) -> Option<Sdks> {
    let vendor = &site.vendor;
    if vendor.segment.is_none() && vendor.rudderstack.is_none() && vendor.generic.is_empty() {
        checking.problem(at, "expected `segment`, `rudderstack` or `generic`");
        return None;
    }
    let segment = vendor.segment.as_ref().map(|segment| Given {
        vendor: Vendor::Segment,
        write_key: segment.write_key.as_ref(),
        write_key_file: segment.write_key_file.as_deref(),
        redact: segment.redact_write_key,
        cdn: &segment.cdn,
        config_api: None,
        routes: Some(&segment.routes),
        events: ("tracking_api", &segment.tracking_api),
    });
    let rudderstack = vendor.rudderstack.as_ref().map(|rudder| Given {
        vendor: Vendor::RudderStack,
        write_key: rudder.write_key.as_ref(),
        write_key_file: rudder.write_key_file.as_deref(),
        redact: rudder.redact_write_key,
        cdn: &rudder.cdn,
        config_api: Some(&rudder.config_api),
        routes: None,
        events: ("data_plane", &rudder.data_plane),
    });
    let mut compile = |given: Option<Given<'_>>| match given {
        Some(given) => sdk(checking, at, file, (&site.name, prefix), &given).map(Some),
        None => Some(None),
    };
    let (segment, rudderstack) = (compile(segment), compile(rudderstack));
    Some((segment?, rudderstack?))
}

fn sdk(
    checking: &mut Checking<'_>,
    at: &str,
    file: &File,
    (site, prefix): (&str, Option<&RoutePrefix>),
    given: &Given<'_>,
) -> Option<Sdk> {
    let name = given.vendor.label();
    let at = format!("{at}/{name}");
    let key = secret(checking, &at, "write_key", given.write_key, given.write_key_file);
    let write_key = key.and_then(|key| {
        let inline = given.write_key.is_some();
        let place = format!("{at}/{}", if inline { "write_key" } else { "write_key_file" });
        checking.take(&place, WriteKey::parse(key.expose()))
    });
    let cdn = vendor_upstream(checking, &format!("{at}/cdn"), given.cdn, file);
    let config = given
        .config_api
        .map(|address| vendor_upstream(checking, &format!("{at}/config_api"), address, file));
    let (events, address) = given.events;
    let upstream = vendor_upstream(checking, &format!("{at}/{events}"), address, file);
    let paths = given.routes.map(|routes| paths(checking, &at, routes, prefix));
    let write_key = write_key?;
    let lane = Lane {
        name: format!("{site}.{name}").into(),
        upstream: upstream?,
        headers: vec![(http::header::AUTHORIZATION, basic(write_key.expose(), ""))],
        batch_path: match given.vendor {
            Vendor::Segment => "/batch",
            Vendor::RudderStack => "/v1/batch",
        },
        limits: match given.vendor {
            Vendor::Segment => segment::LIMITS,
            Vendor::RudderStack => rudderstack::LIMITS,
        },
        stamps_each: given.vendor == Vendor::RudderStack,
        metrics: LaneMetrics::new(site, name),
    };
    Some(Sdk {
        write_key,
        redact: given.redact,
        paths: match paths {
            Some(paths) => paths?,
            None => SdkPaths::default(),
        },
        cdn: cdn?,
        config_api: match config {
            Some(config) => Some(config?),
            None => None,
        },
        fetches: Arc::new(tokio::sync::Semaphore::new(Sdk::FETCHES_AT_ONCE)),
        lane: Arc::new(lane),
    })
}

/// Where the SDK is beside the prefix.
fn paths(
    checking: &mut Checking<'_>,
    at: &str,
    routes: &file::SegmentRoutes,
    prefix: Option<&RoutePrefix>,
) -> Option<SdkPaths> {
    let events = match &routes.events {
        Some(events) => {
            Some(checking.take(&format!("{at}/routes/events"), RoutePrefix::parse(events))?)
        }
        None => None,
    };
    let paths = SdkPaths::parse(routes.sdk.as_deref(), events, prefix?);
    let of = if routes.sdk.is_some() { "sdk" } else { "events" };
    checking.take(&format!("{at}/routes/{of}"), paths)
}

/// The vendors that are known by rules.
pub(super) fn generic(
    checking: &mut Checking<'_>,
    at: &str,
    file: &File,
    site: &file::Site,
) -> Option<Vec<Generic>> {
    let mut out = Vec::new();
    let mut names = vec!["segment".to_owned(), "rudderstack".to_owned()];
    for (index, given) in site.vendor.generic.iter().enumerate() {
        let at = format!("{at}/{index}");
        if names.contains(&given.name) {
            let taken = format!("another vendor is called `{}`", given.name);
            checking.problem(&format!("{at}/name"), taken);
        }
        names.push(given.name.clone());
        let upstream = vendor_upstream(checking, &format!("{at}/address"), &given.address, file);
        let headers = given.headers.iter().filter_map(|(name, value)| {
            let header = name.parse::<http::HeaderName>().ok();
            let value = http::HeaderValue::from_str(value.expose()).ok();
            let pair = header.zip(value);
            if pair.is_none() {
                let place = format!("{at}/headers/{}", name.replace('~', "~0").replace('/', "~1"));
                checking.problem(&place, "this is no name and value of a header");
            }
            pair
        });
        let headers: Vec<_> = headers.collect();
        let rules: Vec<Rule> = given
            .rules
            .iter()
            .enumerate()
            .filter_map(|(number, rule)| {
                generic_rule(checking, &format!("{at}/rules/{number}"), rule)
            })
            .collect();
        let Some(upstream) = upstream.filter(|_| rules.len() == given.rules.len()) else {
            continue;
        };
        let lane = Lane {
            name: format!("{}.{}", site.name, given.name).into(),
            upstream: Arc::clone(&upstream),
            headers: Vec::new(),
            batch_path: "/",
            limits: segment::LIMITS,
            stamps_each: false,
            metrics: LaneMetrics::new(&site.name, &given.name),
        };
        out.push(Generic { upstream, lane: Arc::new(lane), headers, rules });
    }
    (out.len() == site.vendor.generic.len()).then_some(out)
}

/// Half of what the spool can hold in one piece.
const MAX_SPOOLED_BYTES: usize = 4 * 1024 * 1024;

fn generic_rule(checking: &mut Checking<'_>, at: &str, rule: &file::GenericRule) -> Option<Rule> {
    let (path, below) = match rule.path.strip_suffix("/*") {
        Some(path) => (path, true),
        None => (rule.path.as_str(), false),
    };
    let wanted =
        rule.upstream.as_deref().map(|upstream| upstream.strip_suffix("/*").unwrap_or(upstream));
    let upstream = page_path(checking, &format!("{at}/upstream"), wanted.unwrap_or(path));
    let mut methods = Vec::new();
    for (index, name) in rule.methods.iter().enumerate() {
        match name.parse::<http::Method>() {
            Ok(method) if ["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str()) => {
                methods.push(method);
            }
            _ => {
                let place = format!("{at}/methods/{index}");
                checking.problem(&place, "expected GET, POST, PUT, PATCH or DELETE");
            }
        }
    }
    if rule.methods.is_empty() {
        methods.push(http::Method::GET);
    }
    let mut forward = Vec::new();
    for (index, name) in rule.forward.iter().enumerate() {
        let place = format!("{at}/forward/{index}");
        let hop = ["host", "connection", "content-length", "transfer-encoding", "upgrade", "te"];
        match name.parse::<http::HeaderName>() {
            Ok(name) if !hop.contains(&name.as_str()) => forward.push(name),
            _ => checking.problem(&place, format!("`{name}` is no header that can be passed on")),
        }
    }
    if rule.spooled && rule.body.bytes() > MAX_SPOOLED_BYTES {
        checking.problem(&format!("{at}/body"), "what is spooled has at most 4MiB");
    }
    Some(Rule {
        path: path.into(),
        below,
        upstream: upstream?,
        methods,
        body: rule.body.bytes(),
        headers: forward,
        spooled: rule.spooled,
    })
}

fn vendor_upstream(
    checking: &mut Checking<'_>,
    place: &str,
    address: &str,
    file: &File,
) -> Option<Arc<Upstream>> {
    let endpoint = checking.take(place, Endpoint::parse(address))?;
    let timeouts = Timeouts {
        read: file.events.timeout.get(),
        write: file.events.timeout.get(),
        ..Timeouts::default()
    };
    Some(Arc::new(Upstream::new(endpoint, timeouts, None, true)))
}
