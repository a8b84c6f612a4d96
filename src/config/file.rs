//! What the YAML file may say. Documented structures, no logic: the comments are the reference
//! that `doorstep schema` prints.

mod identity;
mod personal;
mod profiles;
mod vendor;

use schemars::JsonSchema;
use serde::Deserialize;

use super::secret::Secret;
use super::units::{ByteSize, Duration};

pub use identity::{Cookies, Identity, IdentityCheck, Prolonged, SameSite, Secure};
pub use personal::{
    AppliesTo, Choice, Experiment, Exposures, Insert, Links, Methods, Rewrite, Route, Set, Sticky,
    TraitCookie, Variant, Variation,
};
pub use profiles::{
    ActivationApi, HttpJson, ProfileMemory, ProfileSource, Profiles, ProfilesApi, Pull, Redis,
    RedisMaster, RedisMode, RedisStore, Store, StoreWord,
};
pub use vendor::{Generic, GenericRule, RudderStack, Segment, SegmentRoutes, Vendor};

/// The configuration of one node.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Where the node listens for visitors.
    #[schemars(length(min = 1))]
    pub listeners: Vec<Listener>,
    /// Health, readiness and metrics, for the operator alone.
    #[serde(default)]
    pub admin: Admin,
    /// A file of `NAME=value` lines for `${NAME}`, as systemd's `EnvironmentFile=` has it; read again at every reload. It
    /// counts before the environment of the process. Relative to this file.
    #[serde(default)]
    pub environment_file: Option<String>,
    /// Worker threads: a number, or `auto` for one a core.
    #[serde(default)]
    pub threads: Threads,
    /// Networks whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed, e.g. `10.0.0.0/8`.
    /// From anyone else these headers are replaced.
    #[serde(default)]
    pub trusted_proxies: Vec<String>,
    /// How many connections visitors may hold at one time.
    #[serde(default)]
    pub connections: Connections,
    /// Where visitors are, by address.
    #[serde(default)]
    pub geoip: Geoip,
    /// Where the embedded store lives.
    #[serde(default)]
    pub data: Data,
    /// What the node remembers of visitors' profiles.
    #[serde(default)]
    pub profiles: Profiles,
    /// The cache of SDK files.
    #[serde(default)]
    pub cache: Cache,
    /// Events on their way to the vendor.
    #[serde(default)]
    pub events: Events,
    /// The log of requests, on standard output, one JSON object a line.
    #[serde(default)]
    pub access_log: AccessLog,
    /// How a process ends and hands over to the next.
    #[serde(default)]
    pub shutdown: Shutdown,
    /// The web sites behind this node.
    #[schemars(length(min = 1))]
    pub sites: Vec<Site>,
}

/// One address to listen on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address and port: `0.0.0.0:80`, `[::]:443`.
    pub address: String,
    /// Certificates: with them the listener speaks TLS, HTTP/1.1 and HTTP/2.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// Answer every request with a redirect (308) to the same URL on https.
    #[serde(default)]
    pub redirect_to_https: bool,
}

/// TLS of one listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file of the chain, leaf first. For several names use `certificates` instead.
    #[serde(default)]
    #[schemars(extend("x-show" = "file"))]
    pub certificate: Option<String>,
    /// PEM file of the private key to `certificate`.
    #[serde(default)]
    #[schemars(extend("x-show" = "file"))]
    pub key: Option<String>,
    /// Several certificates, chosen by the name that the client asks for (SNI). The first one
    /// serves clients that name no host or an unknown one.
    #[serde(default)]
    pub certificates: Vec<CertificateFiles>,
    /// Offer HTTP/2.
    #[serde(default = "yes")]
    pub http2: bool,
}

/// A certificate and its key.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// PEM file of the chain, leaf first.
    #[schemars(extend("x-show" = "file"))]
    pub certificate: String,
    /// PEM file of the private key.
    #[schemars(extend("x-show" = "file"))]
    pub key: String,
}

/// The operator's listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Address and port. Keep it on loopback or a private network: it has no login.
    pub address: String,
}

impl Default for Admin {
    fn default() -> Self {
        Self { address: "127.0.0.1:9180".into() }
    }
}

/// How many worker threads.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Threads {
    /// That many.
    Count(#[schemars(range(min = 1, max = 1024))] u16),
    /// `auto`: one a core.
    Word(ThreadsWord),
}

impl Default for Threads {
    fn default() -> Self {
        Self::Word(ThreadsWord::Auto)
    }
}

/// The only word that `threads` knows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ThreadsWord {
    /// One a core.
    Auto,
}

/// The embedded store.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// Directory of the store. It is made when missing and needs to be the service's own.
    pub path: String,
    /// The most that the store may grow to. It is address space: only what is used takes disk.
    pub size: ByteSize,
}

impl Default for Data {
    fn default() -> Self {
        Self { path: "/var/lib/doorstep".into(), size: ByteSize::mib(64 * 1024) }
    }
}

/// Databases of addresses (MMDB, such as GeoLite2-City). They are read again when they change.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Geoip {
    /// One file.
    pub database: Option<String>,
    /// Several, asked one after the other, where IPv4 and IPv6 have files of their own.
    pub databases: Vec<String>,
}

/// The cache of SDK files.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// Most bytes of SDK files in memory. The SDK with all its parts takes about 1 MiB a site.
    pub memory: ByteSize,
}

impl Default for Cache {
    fn default() -> Self {
        Self { memory: ByteSize::mib(64) }
    }
}

/// Events on their way to the vendor. They are kept in `data.path` until the vendor has them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    /// When an event is acknowledged.
    pub durability: EventDurability,
    /// How long an event is tried before it is put aside as a dead letter. At most 8 days.
    pub retain: Duration,
    /// Most bytes of waiting events on the disk. When it is full, new events are answered 503 with
    /// `Retry-After`, and the SDK keeps them in the browser. Half of it is shared out evenly among the sites, the
    /// other half is anyone's. At least 4MiB.
    pub disk: ByteSize,
    /// Most bytes of dead letters of each site and vendor; then the oldest go.
    pub dead_letters: ByteSize,
    /// Most batches on their way to a site's vendor at one time.
    #[schemars(range(min = 1, max = 1024))]
    pub in_flight: usize,
    /// The most that one call to the vendor may take.
    pub timeout: Duration,
    /// Most requests with events of one address (IPv6: one /64) a second; 0 for no bound. More are
    /// answered 429.
    pub per_client: usize,
    /// Most bytes of events of one address a second, without compression; 0 for no bound. More are answered 429.
    pub bytes_per_client: ByteSize,
    /// Most requests with events at one time; 0 for no bound. More are answered 503. One address has an eighth of
    /// them: more are answered 429.
    pub at_once: usize,
}

/// When an event is acknowledged.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventDurability {
    /// Once it is on the disk.
    Sync,
    /// Once the system has it: a loss of power may cost the last second.
    Relaxed,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            durability: EventDurability::Sync,
            retain: Duration::secs(72 * 3600),
            disk: ByteSize::mib(2048),
            dead_letters: ByteSize::mib(64),
            in_flight: 4,
            timeout: Duration::secs(10),
            per_client: 100,
            bytes_per_client: ByteSize::mib(1),
            at_once: 4096,
        }
    }
}

/// How many connections visitors may hold at one time. One more is closed at once.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Connections {
    /// All together; 0 for as many as the process has file descriptors for, with one to the origin each.
    pub most: usize,
    /// One address (IPv6: one /64); 0 for no bound. Addresses of `trusted_proxies` have none.
    pub per_client: usize,
    /// What has come of answers and visitors have not read: memory that they hold, all together. An answer for which
    /// there is no room is a 503.
    pub unread: ByteSize,
    /// One address, as above. A long answer that is read slowly counts as 704 KiB.
    pub unread_per_client: ByteSize,
}

impl Default for Connections {
    fn default() -> Self {
        let (unread, unread_per_client) = (ByteSize::mib(1024), ByteSize::mib(256));
        Self { most: 0, per_client: 2000, unread, unread_per_client }
    }
}

/// The log of requests.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLog {
    /// Share of the requests answered below 300 that are logged, 0 to 1. All others always are.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample: f64,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { sample: 0.01 }
    }
}

/// The end of a process.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Shutdown {
    /// The most that requests in flight and waiting events may take after SIGTERM or a hand-over.
    /// The process leaves as soon as nothing is in flight.
    pub drain: Duration,
    /// After SIGTERM the node goes on as before for so long, and `/readyz` says that it ends: what stands in front of it
    /// can see that.
    pub delay: Duration,
    /// Has no effect any more: listeners are handed over without a socket of their own.
    pub upgrade_socket: Option<String>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { drain: Duration::secs(30), delay: Duration::secs(0), upgrade_socket: None }
    }
}

/// One web site.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Name in metrics and logs: letters, digits, `-` and `_`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
    pub name: String,
    /// Hosts of the site: `www.shop.example`, or `*.shop.example` for every name below. Without
    /// port. A request for any other host is answered 421.
    #[schemars(length(min = 1))]
    pub hosts: Vec<String>,
    /// The site's own server, or `none`: then the edge has a host of its own below the site's domain,
    /// such as `cdn.shop.example`, and serves its routes alone.
    pub origin: OriginChoice,
    /// Other origins whose pages may use our routes with cookies, such as `https://other.example`. Those
    /// of the site's registrable domain always may.
    #[serde(default)]
    pub cors: Vec<String>,
    /// Of the site's registrable domain only pages of `hosts` may: for domains whose other names belong to others, such
    /// as users' own pages.
    #[serde(default)]
    pub cors_own_hosts: bool,
    /// Path below which Doorstep's own routes live. Nothing below it reaches the origin.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// Whose SDK and tracking API the site uses.
    pub vendor: Vendor,
    /// Credentials of the profile webhook. Without them the webhook refuses every call.
    #[serde(default)]
    pub webhook: Option<Webhook>,
    /// Where profiles come from that no store has, when the vendor's own `profiles_api` is not it.
    #[serde(default)]
    pub profile_source: Option<ProfileSource>,
    /// The SDK snippet in the site's pages.
    #[serde(default)]
    pub inject: Inject,
    /// Visitors' ids and their cookies.
    #[serde(default)]
    pub identity: Identity,
    /// What events say beside what the page has said.
    #[serde(default)]
    pub enrich: Enrich,
    /// What visitors allow.
    #[serde(default)]
    pub consent: Consent,
    /// CEL over `request`, `ids` and `geo`: events of requests that it is true of are answered and
    /// thrown away.
    #[serde(default)]
    pub bots: Option<String>,
    /// Other pages under the same URL, by profile. The first route that matches counts.
    #[serde(default)]
    pub variations: Vec<Variation>,
    /// Traits that the page may see, by name: each value is a CEL expression.
    #[serde(default)]
    pub client_traits: std::collections::BTreeMap<String, String>,
    /// Traits that the page may see as cookies.
    #[serde(default)]
    pub trait_cookies: Vec<TraitCookie>,
    /// Traits that the origin may see as headers, by name: `X-Doorstep-…`, each value a CEL expression.
    /// Visitors can't send these headers.
    #[serde(default)]
    pub request_headers: std::collections::BTreeMap<String, String>,
    /// Changes of elements of the site's pages.
    #[serde(default)]
    pub rewrite: Vec<Rewrite>,
    /// Experiments.
    #[serde(default)]
    pub experiments: Vec<Experiment>,
    /// What the vendor is told of who saw which variant: `track` for `Experiment Viewed`, `identify` for a
    /// trait, `none`.
    #[serde(default)]
    pub exposures: Exposures,
    /// Keys that sign user ids and preview links, of 32 bytes or more: the first signs, all are accepted.
    /// `openssl rand -hex 32` makes one.
    #[serde(default)]
    pub signing_keys: Vec<Secret>,
}

/// A server, or none.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OriginChoice {
    /// A server.
    At(Box<Origin>),
    /// `none`.
    None(OriginWord),
}

/// The only word that `origin` knows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OriginWord {
    /// None.
    None,
}

/// The site's own server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// `127.0.0.1:3000`, `http://host:port` or `https://host`.
    #[schemars(extend("x-show" = "url"))]
    pub address: String,
    /// Host header that the origin gets. Default: the one that the visitor asked for.
    #[serde(default)]
    pub host: Option<String>,
    /// The most that a connection may take to be made, TLS included.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Duration,
    /// The longest pause of the origin while it answers.
    #[serde(default = "default_read_timeout")]
    pub read_timeout: Duration,
    /// The longest pause of the origin while it takes a request.
    #[serde(default = "default_write_timeout")]
    pub write_timeout: Duration,
    /// How long a page that was chosen for a visitor may take to begin: then they get the one that everybody gets.
    #[serde(default = "default_fallback_after")]
    pub fallback_after: Duration,
    /// For how long an idle connection is kept for the next request.
    #[serde(default = "default_idle_timeout")]
    pub keepalive: Duration,
    /// TLS towards an `https://` origin.
    #[serde(default)]
    pub tls: OriginTls,
    /// Headers by which clients say who or where they are (`X-Real-IP`, `CF-Connecting-IP`, `Remote-User`,
    /// `X-Forwarded-…`, …) are kept from the origin. Those named here pass: name what a proxy in front of
    /// the edge sets on every request, and no other.
    #[serde(default)]
    pub client_headers: Vec<String>,
}

/// TLS towards the origin.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OriginTls {
    /// Name asked for and checked in the certificate. Default: the host in `address`.
    pub server_name: Option<String>,
    /// Check the origin's certificate. Switch off for tests only.
    pub verify: bool,
}

impl Default for OriginTls {
    fn default() -> Self {
        Self { server_name: None, verify: true }
    }
}

/// Credentials of `POST {prefix}/profiles-webhook`: Basic authentication, a signing secret, or both.
/// Those that are set are needed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// User name of Basic authentication.
    #[serde(default)]
    pub username: Option<String>,
    /// Password of Basic authentication. This or `password_file`.
    #[serde(default)]
    pub password: Option<Secret>,
    /// File that holds the password and nothing else.
    #[serde(default)]
    pub password_file: Option<String>,
    /// Secret that the sender signs its bodies with: `X-Signature` is their HMAC by SHA-1 or SHA-256.
    #[serde(default)]
    pub signing_secret: Option<Secret>,
    /// File that holds the signing secret and nothing else.
    #[serde(default)]
    pub signing_secret_file: Option<String>,
}

/// The SDK snippet in the site's pages.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Inject {
    /// Put the snippet in.
    pub enabled: bool,
    /// Let the snippet send a `page` event for each page.
    pub page_call: bool,
    /// Let it send another one for a page that the browser shows again as it was left, after "back" (its back/forward
    /// cache). Needs `page_call`.
    pub restored_pages: bool,
    /// CEL over `request`, `ids` and `geo`: where it is true, the edge itself sends the `page` event of
    /// a delivered page, and the snippet does not. For visitors whose browser runs no scripts, or, with
    /// `"true"`, as the only source of a site.
    pub edge_page_views: Option<String>,
    /// Pages such as `/offline` or `/app/**` that get the snippet even where a script fetches them and says nothing of what
    /// for: a service worker that stores the shell of an app.
    pub also: Vec<String>,
}

impl Default for Inject {
    fn default() -> Self {
        Self {
            enabled: true,
            page_call: true,
            restored_pages: false,
            edge_page_views: None,
            also: Vec::new(),
        }
    }
}

/// What events say beside what the page has said.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Enrich {
    /// How much of the visitor's address the vendor may know.
    pub ip: IpDetail,
    /// Traits of the visitor's profile, as `context.profile`.
    pub profile: Vec<String>,
}

/// How much of an address.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IpDetail {
    /// All.
    #[default]
    Full,
    /// Without the last 8 bits of IPv4, the last 80 of IPv6.
    Anonymised,
    /// Nothing: `0.0.0.0`.
    None,
}

/// What visitors allow: CEL over `request`, `ids`, `geo`, `tcf`, `gpp` and `us_privacy`, in which what is absent is `null`. A rule
/// that can't be decided allows nothing.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Consent {
    /// True: no snippet, no identity cookies, no profile, events are answered and thrown away.
    pub denied: Option<String>,
    /// True: the browser is counted and not known. A list of members leaves with an event; events that say
    /// who somebody is are thrown away.
    pub limited: Option<String>,
    /// Take identity cookies away where `denied` is true.
    pub clear_cookies: bool,
}

fn yes() -> bool {
    true
}
fn default_prefix() -> String {
    "/seg".into()
}
fn default_connect_timeout() -> Duration {
    Duration::secs(5)
}
fn default_read_timeout() -> Duration {
    Duration::secs(60)
}
fn default_fallback_after() -> Duration {
    Duration::secs(5)
}
fn default_write_timeout() -> Duration {
    Duration::secs(60)
}
fn default_idle_timeout() -> Duration {
    Duration::secs(60)
}
