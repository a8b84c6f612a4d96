//! Two nodes with everything switched on, and what stands around them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio_rustls::TlsConnector;

use super::http2::{SHARED, SharedConnection};
use super::identity::Victim;
use super::ledger::Ledger;
use super::origin::Origin;
use crate::support::edge::{Edge, Setup, WRITE_KEY};
use crate::support::port;
use crate::support::redis::Redis;
use crate::support::server::{Reply, Server};
use crate::support::vendor::{Vendor, npm};
use crate::tls;

/// The sites of both nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Site {
    /// Users count where the edge has signed them.
    Signed,
    /// Users are whom the site's own session names.
    Checked,
    /// Users are whom browsers say.
    Plain,
    /// The edge does not see the pages.
    Beside,
}

impl Site {
    pub(super) const ALL: [Self; 4] = [Self::Signed, Self::Checked, Self::Plain, Self::Beside];

    pub(super) fn host(self) -> &'static str {
        match self {
            Self::Signed => "shop.example",
            Self::Checked => "members.example",
            Self::Plain => "plain.example",
            Self::Beside => "cdn.beside.example",
        }
    }

    /// Whether somebody has to vouch for a user.
    pub(super) fn is_strict(self) -> bool {
        matches!(self, Self::Signed | Self::Checked)
    }
}

/// By which pages sign their `identify`.
pub(super) const HASH_SECRET: &str = "hash-secret";

/// A user of a site.
#[derive(Debug, Clone)]
pub(super) struct Person {
    pub(super) number: u64,
    /// With a mark in it.
    pub(super) id: String,
    /// What only the profile says.
    pub(super) secret: String,
}

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) most: u64,
    pub(super) ledger: Arc<Ledger>,
    persons: Mutex<HashMap<Site, Vec<Person>>>,
    /// Those whose ids others say.
    victims: Mutex<HashMap<Site, Vec<Victim>>>,
    pub(super) edges: Vec<Edge>,
    /// Ports of TLS.
    pub(super) secure: Vec<u16>,
    pub(super) http1: TlsConnector,
    pub(super) http2: TlsConnector,
    /// Of each node.
    pub(super) shared: [[SharedConnection; SHARED]; 2],
    pub(super) segment: Vendor,
    pub(super) rudderstack: Vendor,
    pub(super) hits: Server,
    pub(super) redis: Redis,
    _origin: Origin,
    _certificates: tempfile::TempDir,
}

impl World {
    pub(super) async fn start(seed: u64, most: u64) -> Self {
        let ledger = Arc::<Ledger>::default();
        let origin = Origin::start(Arc::clone(&ledger)).await;
        let (segment, rudderstack) = (Vendor::start().await, Vendor::rudderstack().await);
        let hits = hits().await;
        let redis = Redis::start().await;
        let certificates = tempfile::tempdir().unwrap();
        let hosts = Site::ALL.map(Site::host);
        let root = tls::certificate(certificates.path(), "all", &hosts);
        let roots = [root];
        let around = Surroundings {
            origin: origin.port,
            segment: segment.port(),
            rudderstack: rudderstack.port(),
            hits: hits.port,
        };
        let (mut edges, mut secure) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            secure.push(port());
            let setup = around.setup(&redis, *secure.last().unwrap(), certificates.path());
            edges.push(setup.start().await);
        }
        for edge in &edges {
            edge.becomes("doorstep_profile_channel_up", &[], 1.0).await;
        }
        Self {
            seed,
            most,
            ledger,
            persons: Mutex::default(),
            victims: Mutex::default(),
            edges,
            secure,
            http1: tls::connector(&roots, b"http/1.1"),
            http2: tls::connector(&roots, b"h2"),
            shared: Default::default(),
            segment,
            rudderstack,
            hits,
            redis,
            _origin: origin,
            _certificates: certificates,
        }
    }
}

impl World {
    /// Users who can come.
    pub(super) fn persons(&self, site: Site) -> Vec<Person> {
        self.persons.lock().unwrap().get(&site).cloned().unwrap_or_default()
    }
    pub(super) fn add_person(&self, site: Site, person: &Person) {
        self.persons.lock().unwrap().entry(site).or_default().push(person.clone());
    }
    pub(super) fn remove_person(&self, site: Site, person: &Person) {
        let mut persons = self.persons.lock().unwrap();
        persons.entry(site).or_default().retain(|one| one.number != person.number);
    }
    pub(super) fn victims(&self, site: Site) -> Vec<Victim> {
        self.victims.lock().unwrap().get(&site).cloned().unwrap_or_default()
    }
    pub(super) fn add_victim(&self, site: Site, victim: Victim) {
        self.victims.lock().unwrap().entry(site).or_default().push(victim);
    }
}

/// A vendor that is known by rules: what it is asked comes back.
async fn hits() -> Server {
    Server::start(|asked| {
        let body = String::from_utf8_lossy(&asked.body).into_owned();
        Reply::new(200, &["Content-Type: text/plain"], format!("{}{body}", asked.head))
    })
    .await
}

/// The ports of what stands around the nodes.
struct Surroundings {
    origin: u16,
    segment: u16,
    rudderstack: u16,
    hits: u16,
}

impl Surroundings {
    fn setup(&self, redis: &Redis, secure: u16, certificates: &std::path::Path) -> Setup {
        let at = certificates.display();
        let database = npm().join("@ip-location-db/geolite2-country-mmdb/geolite2-country.mmdb");
        let mut setup = Setup::new(self.origin)
            .hosts(&format!("[{}]", Site::Signed.host()))
            .listeners(&format!(
                "[{{ address: '127.0.0.1:PORT' }}, {{ address: '127.0.0.1:{secure}', tls: {{ \
                 certificate: {at}/all.pem, key: {at}/all.key }} }}]"
            ))
            .node("trusted_proxies: [127.0.0.1]")
            .node(&format!("geoip: {{ database: {} }}", database.display()))
            .node(&format!(
                "profiles: {{ store: {{ redis: {{ urls: ['{}'], timeout: 1s }} }}, wait: 2s }}",
                redis.url()
            ))
            .vendor_yaml(&self.vendors())
            .site(RULES)
            .site(PAGES)
            .site(&format!("identity: {{ signed: true, user_hash_secret: {HASH_SECRET} }}"));
        for site in [Site::Checked, Site::Plain, Site::Beside] {
            setup = setup.another_site(&self.another(site));
        }
        setup
    }

    fn vendors(&self) -> String {
        let Self { segment, rudderstack, hits, .. } = self;
        format!(
            "vendor: {{ segment: {{ write_key: {WRITE_KEY}, cdn: 'http://127.0.0.1:{segment}', \
             tracking_api: 'http://127.0.0.1:{segment}/v1' }}, \
             rudderstack: {{ write_key: {WRITE_KEY}, cdn: 'http://127.0.0.1:{rudderstack}', \
             config_api: 'http://127.0.0.1:{rudderstack}', \
             data_plane: 'http://127.0.0.1:{rudderstack}' }}, \
             generic: [{{ name: hits, address: 'http://127.0.0.1:{hits}', rules: [\
             {{ path: /hit, methods: [GET, POST], forward: [content-type, x-ask, user-agent], spooled: true }}, \
             {{ path: '/line/*', upstream: '/line/*', methods: [GET, POST], forward: [x-ask, user-agent] }}] }}] }}"
        )
    }

    fn another(&self, site: Site) -> String {
        let origin = self.origin;
        let check = format!(
            "check: {{ url: 'http://127.0.0.1:{origin}/whoami', cookie: sid, fresh_for: 5s, timeout: 5s }}"
        );
        let (name, origin, more) = match site {
            Site::Signed => unreachable!("the first site"),
            Site::Checked => (
                "members",
                format!("{{ address: '127.0.0.1:{origin}' }}"),
                format!(
                    "{PAGES}\nidentity: {{ signed: true, user_hash_secret: {HASH_SECRET}, {check} }}"
                ),
            ),
            Site::Plain => {
                ("plain", format!("{{ address: '127.0.0.1:{origin}' }}"), PAGES.to_owned())
            }
            Site::Beside => ("beside", "none".to_owned(), String::new()),
        };
        let rest = format!("{}\n{RULES}\n{more}", self.vendors());
        let rest: Vec<String> = rest.lines().map(|line| format!("  {line}\n")).collect();
        format!("- name: {name}\n  hosts: [{}]\n  origin: {origin}\n{}", site.host(), rest.concat())
    }
}

/// Of every site.
const RULES: &str = "\
webhook: { username: u, password: p }
signing_keys: [0123456789abcdef0123456789abcdef]
cors: [https://partner.test]
enrich: { profile: [secret, plan] }
consent: { denied: \"request.headers['sec-gpc'] == '1'\", limited: request.cookies.consent == 'little' }
bots: request.headers['user-agent'].contains('Robot')
client_traits: { secret: traits.secret, country: geo.country }";

/// Of those whose pages the edge sees.
const PAGES: &str = "\
inject: { edge_page_views: \"request.headers['user-agent'].contains('Quiet')\" }
trait_cookies:
- { name: secret_trait, value: string(traits.secret), max_age: 1h, readable: true }
request_headers: { X-Doorstep-Secret: traits.secret, X-Doorstep-Plan: traits.plan }
variations:
- route: '/page/{kind}'
  choose:
  - { when: traits.plan == 'gold', path: '/gold/{kind}' }
  - { when: traits.plan == 'moved', redirect: '/moved/{kind}' }
experiments:
- key: price
  route: '/page/**'
  sticky: [cookie, trait]
  variants:
  - { name: control }
  - name: short
    traits: { priced: traits.secret }
    rewrite: [{ select: h2, when: has(traits.secret), set: { text: 'Prices for {{ traits.secret }}' } }]
- { key: person, unit: user_id, route: '/person/**', sticky: [trait], variants: [{ name: a }, { name: b, traits: { own: ids.user_id } }] }
rewrite:
- { select: '#greeting', when: has(traits.secret), set: { text: 'Hi {{ traits.secret }}' } }
- { select: body, when: has(traits.secret), set: { attributes: { data-who: '{{ traits.secret }}' } } }
- { select: 'script#state', when: has(traits.secret), set: { json: '{\"s\": {{ traits.secret }}}' } }
- { select: p.more, when: has(traits.secret), insert: { append: '<b>{{ traits.secret }}</b>', after: '<i>{{ traits.secret }}</i>' } }
- { select: a.cta, when: has(traits.secret), persist: true, set: { text: 'For {{ traits.secret }}', attributes: { href: '/for/{{ traits.secret }}' } } }
- { select: 'li:not(.x)', route: /page/parsed, when: has(traits.secret), set: { text: '{{ traits.secret }}' } }
- { select: .login, when: has(ids.user_id), hide: true }";
