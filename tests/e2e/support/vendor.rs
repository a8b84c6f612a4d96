//! The vendor: a CDN with small files, or the real SDK, and a tracking API that remembers.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::edge::WRITE_KEY;
use super::server::{Asked, Reply, Server};
use super::{PATIENCE, eventually};

/// What the vendor does at the moment.
#[derive(Default)]
pub struct Mood {
    /// The CDN answers 500.
    pub cdn_down: AtomicBool,
    /// Files whose name holds `bundle` are 404.
    pub no_bundles: AtomicBool,
    /// The tracking API answers this instead of 200.
    pub api_status: AtomicU16,
    /// It refuses every call with this in it,
    pub poison: Mutex<Option<String>>,
    /// with this status instead of 400.
    pub poison_status: AtomicU16,
}

/// The vendor.
pub struct Vendor {
    pub server: Server,
    pub mood: Arc<Mood>,
}

impl Vendor {
    /// A CDN with small files.
    pub async fn start() -> Self {
        Self::with(small_file).await
    }

    /// The CDN of the real SDK, from npm's `@segment/analytics-next`.
    pub async fn real() -> Self {
        let umd = npm().join("@segment/analytics-next/dist/umd");
        assert!(umd.join("standalone.js").exists(), "{}: make test installs it", umd.display());
        Self::with(move |asked| {
            let name = asked.target.rsplit('/').next().unwrap_or_default();
            match name {
                "analytics.min.js" => file(&umd.join("standalone.js")),
                "settings" => {
                    // A source with parts that come in bundles of their own.
                    let settings = SETTINGS
                        .replace(r#""enabledMiddleware":{}"#, r#""enabledMiddleware":{"sift":true}"#)
                        .replace(r#"{"integrations":{"#, r#"{"integrations":{"Legacy":{"type":"browser","bundlingStatus":"bundled","versionSettings":{"version":"1.0.0","componentTypes":["browser"]}},"#);
                    Reply::new(200, &["Content-Type: application/json"], settings)
                }
                name => file(&umd.join(name)),
            }
        })
        .await
    }

    /// RudderStack: its CDN and API with the real SDK, from npm's `@rudderstack/analytics-js`, and its
    /// data plane.
    pub async fn rudderstack() -> Self {
        let sdk = npm().join("@rudderstack/analytics-js/dist/npm/modern/bundled/umd/index.js");
        let sdk = std::fs::read_to_string(&sdk)
            .unwrap_or_else(|_| panic!("{}: make test installs it", sdk.display()));
        // The CDN's file makes an instance of what the package exports.
        let sdk = format!(
            "(function(){{var exports={{}},module={{}};{sdk}\nvar early=window.rudderanalytics;\
             window.rudderanalytics=early;new exports.RudderAnalytics();}})()"
        );
        Self::with(move |asked| {
            let path = asked.target.split('?').next().unwrap_or_default();
            match path {
                "/v3/modern/rsa.min.js" => {
                    Reply::new(200, &["Content-Type: text/javascript"], sdk.clone())
                }
                "/sourceConfig/" => {
                    let known = asked.header("authorization").is_some();
                    let config = if known { RUDDER_CONFIG } else { "{}" };
                    Reply::new(200, &["Content-Type: application/json"], config)
                }
                _ => Reply::new(404, &[], "missing"),
            }
        })
        .await
    }

    async fn with(cdn: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let mood = Arc::<Mood>::default();
        let own = Arc::clone(&mood);
        let server = Server::start(move |asked| {
            if asked.method == "POST" {
                let status = own.api_status.load(Ordering::SeqCst);
                let status = if status == 0 { 200 } else { status };
                let poison = own.poison.lock().unwrap().clone();
                let text = String::from_utf8_lossy(&asked.body);
                let poisoned = poison.is_some_and(|poison| text.contains(&poison));
                let refusal = match own.poison_status.load(Ordering::SeqCst) {
                    0 => 400,
                    status => status,
                };
                let status = if poisoned { refusal } else { status };
                return Reply::new(
                    status,
                    &["Content-Type: application/json"],
                    r#"{"success":true}"#,
                );
            }
            if own.cdn_down.load(Ordering::SeqCst) {
                return Reply::new(500, &[], "down");
            }
            if own.no_bundles.load(Ordering::SeqCst) && asked.target.contains("bundle") {
                return Reply::new(404, &["Location: https://cdn.segment.com/"], "missing");
            }
            cdn(asked)
        })
        .await;
        Self { server, mood }
    }

    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// What the tracking API got.
    pub fn events(&self) -> Vec<Asked> {
        self.server.asked().into_iter().filter(|asked| asked.method == "POST").collect()
    }
    /// The events that the tracking API was sent, in their order, whatever it answered.
    pub fn delivered(&self) -> Vec<Value> {
        self.delivered_since(0)
    }
    /// Those of all calls but the first ones.
    pub fn delivered_since(&self, calls: usize) -> Vec<Value> {
        let calls = self.events().into_iter().skip(calls);
        let batches = calls.filter(|asked| asked.target == "/v1/batch");
        batches.flat_map(|asked| asked.json()["batch"].as_array().unwrap().clone()).collect()
    }
    /// Waits until what came after the first calls is `enough`; says what came instead otherwise. Each
    /// event is counted once: the SDK and the edge send one again whose answer they have not seen.
    pub async fn told<T>(
        &self,
        calls: usize,
        what: &str,
        enough: impl Fn(&[Value]) -> Option<T>,
    ) -> T {
        let start = std::time::Instant::now();
        loop {
            let mut events = self.delivered_since(calls);
            let mut seen = std::collections::BTreeSet::new();
            events.retain(|event| seen.insert(event["messageId"].to_string()));
            if let Some(told) = enough(&events) {
                return told;
            }
            assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}: {events:#?}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
    /// Waits for that many of them.
    pub async fn until(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} events"), || async {
            let events = self.delivered();
            (events.len() >= count).then_some(events)
        })
        .await
    }
    /// What the CDN was asked for.
    pub fn files(&self) -> Vec<Asked> {
        self.server.asked().into_iter().filter(|asked| asked.method == "GET").collect()
    }
}

/// Where `make test` puts npm's packages.
pub fn npm() -> PathBuf {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    target.parent().expect("the target folder").join("npm/node_modules")
}

const SETTINGS: &str = concat!(
    r#"{"integrations":{"Segment.io":{"apiKey":"test-write-key-1234","unbundledIntegrations":[],"addBundledMetadata":true,"#,
    r#""versionSettings":{"version":"4.4.7","componentTypes":["browser"]}}},"plan":{"track":{"__default":{"enabled":true}}},"#,
    r#""edgeFunction":{},"analyticsNextEnabled":true,"middlewareSettings":{},"enabledMiddleware":{},"#,
    r#""metrics":{"sampleRate":1},"legacyVideoPluginsEnabled":false,"remotePlugins":[]}"#
);

/// As the API answers; the data plane in it must not be used.
const RUDDER_CONFIG: &str = r#"{"source":{"id":"s1","name":"shop","writeKey":"test-write-key-1234","enabled":true,
    "workspaceId":"w1","config":{"statsCollection":{"errors":{"enabled":true},"metrics":{"enabled":true}}},
    "dataplanes":{"US":[{"url":"https://elsewhere.dataplane.rudderstack.com","default":true}]},"destinations":[]}}"#;

fn file(path: &Path) -> Reply {
    match std::fs::read(path) {
        Ok(bytes) => {
            Reply::new(200, &["Content-Type: text/javascript", "Cache-Control: max-age=120"], bytes)
        }
        Err(_) => Reply::new(404, &[], "missing"),
    }
}

/// Small files of every kind.
fn small_file(asked: &Asked) -> Reply {
    let sdk = format!("/analytics.js/v1/{WRITE_KEY}/analytics.min.js");
    let settings = format!("/v1/projects/{WRITE_KEY}/settings");
    let gzipped = |body: &str| {
        use std::io::Write;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(body.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    let script = "Content-Type: text/javascript";
    match asked.target.as_str() {
        target if target == sdk => Reply::new(
            200,
            &[
                script,
                "ETag: \"sdk-1\"",
                "Set-Cookie: vendor=1",
                "Cache-Control: public, max-age=60",
            ],
            format!(
                "key='{WRITE_KEY}';cdn=\"https://cdn.segment.com\";api=\"api.segment.io/v1\"\n//# sourceMappingURL=a.map"
            ),
        ),
        target if target == settings => {
            Reply::new(200, &["Content-Type: application/json"], SETTINGS)
        }
        "/analytics-next/bundles/a.bundle.1.js" => Reply::new(
            200,
            &[script, "Content-Encoding: gzip", "Cache-Control: max-age=1, stale-if-error=600"],
            gzipped("bundle('https://cdn.segment.com')"),
        ),
        "/next-integrations/integrations/x/1/x.dynamic.js.gz" => {
            Reply::new(200, &[script, "Content-Encoding: gzip"], gzipped("integration()"))
        }
        "/analytics-next/bundles/short.js" => Reply::new(
            200,
            &[script, "Cache-Control: max-age=0, stale-while-revalidate=600"],
            "short()",
        ),
        "/analytics-next/bundles/broken.js" => {
            Reply::new(200, &[script, "Content-Encoding: gzip"], "not gzip at all")
        }
        "/analytics-next/bundles/moved.js" => {
            Reply::new(302, &["Location: https://cdn.segment.com/elsewhere.js"], "")
        }
        _ => Reply::new(404, &[], "missing"),
    }
}
