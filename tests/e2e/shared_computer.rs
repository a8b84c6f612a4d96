//! Two people at one computer, in a real browser with the real SDKs: who has logged out stays so, and who comes next
//! gets nothing of the last one's.

use serde_json::{Value, json};

use crate::browser::{Visit, visit};
use crate::support::client::Answer;
use crate::support::edge::{Edge, Setup, WRITE_KEY};
use crate::support::server::{Reply, Server};
use crate::support::vendor::Vendor;

async fn origin() -> Server {
    Server::start(|asked| match asked.target.as_str() {
        "/logout" => Reply::new(
            200,
            &["Content-Type: text/html", "X-Doorstep-User:"],
            "<!doctype html><html><head><title>Bye</title></head><body><p>Bye</body></html>",
        ),
        "/favicon.ico" => Reply::new(204, &[], ""),
        _ => Reply::new(
            200,
            // The browser may keep it, if it were for the origin.
            &["Content-Type: text/html", "Cache-Control: public, max-age=3600"],
            "<!doctype html><html><head><title>Shop</title></head><body><p id=plan>none</p></body></html>",
        ),
    })
    .await
}

async fn shop(setup: Setup) -> Edge {
    let edge = setup
        .site(
            "webhook: { username: u, password: p }\nclient_traits: { plan: traits.plan }\n\
             rewrite: [{ select: '#plan', set: { text: '{{ traits.plan }}' } }]",
        )
        .start()
        .await;
    push(&edge, "ann", json!({"plan": "gold"})).await;
    edge
}

async fn push(edge: &Edge, user: &str, traits: Value) {
    let push = json!({"type": "identify", "userId": user, "traits": traits});
    let request =
        edge.request("POST", "/seg/profiles-webhook").header("Authorization", "Basic dTpw");
    assert_eq!(request.body(push.to_string()).send().await.status, 200);
}

/// How one vendor's SDK is spoken to.
struct Sdk {
    /// True once it has come.
    loaded: &'static str,
    /// What it and the page say.
    state: &'static str,
    object: &'static str,
    /// Where its events go.
    track: &'static str,
    identify: &'static str,
    page: &'static str,
}

const SEGMENT: Sdk = Sdk {
    loaded: "window.analytics && analytics.initialized === true",
    state: "({ user: analytics.user().id() || null, anonymous: analytics.user().anonymousId(), \
             traits: analytics.user().traits() || {}, plan: document.getElementById('plan').textContent })",
    object: "analytics",
    track: "/seg/evs/t",
    identify: "/seg/evs/i",
    page: "/seg/evs/p",
};

const RUDDERSTACK: Sdk = Sdk {
    loaded: "window.rudderanalytics && !Array.isArray(rudderanalytics) && !!rudderanalytics.getAnonymousId",
    state: "({ user: rudderanalytics.getUserId() || null, anonymous: rudderanalytics.getAnonymousId(), \
             traits: rudderanalytics.getUserTraits() || {}, plan: document.getElementById('plan').textContent })",
    object: "rudderanalytics",
    track: "/seg/v1/track",
    identify: "/seg/v1/identify",
    page: "/seg/v1/page",
};

impl Sdk {
    fn open(&self, path: &str) -> Value {
        json!({ "open": path, "until": self.page, "when": self.loaded, "value": if path == "/" { self.state } else { "1" } })
    }
    fn run(&self, call: &str, until: &[&str]) -> Value {
        json!({ "run": call.replace("SDK", self.object), "until": until })
    }
}

fn is_nobodys(state: &Value) {
    assert_eq!((&state["user"], &state["plan"]), (&Value::Null, &json!("none")), "{state}");
    assert_eq!(state["traits"].get("plan"), None, "{state}");
}

fn is_anns(state: &Value) {
    assert_eq!((&state["user"], &state["plan"]), (&json!("ann"), &json!("gold")), "{state}");
    assert_eq!(state["traits"]["plan"], "gold", "{state}");
}

/// The usual order: `track('Logged Out')`, then `reset()`, and at once another page.
async fn log_out_again_and_again(edge: &Edge, sdk: &Sdk) {
    const ROUNDS: usize = 4;
    let mut steps = vec![sdk.open("/")];
    for _ in 0..ROUNDS {
        steps.push(sdk.run("SDK.identify('ann')", &[sdk.identify]));
        steps.push(sdk.open("/"));
        let out = sdk.run("SDK.track('Logged Out'); SDK.reset()", &["/seg/reset", sdk.track]);
        steps.extend([out, sdk.open("/")]);
    }
    let story = visit(edge, json!(steps)).await;
    let mut browsers: Vec<Value> = Vec::new();
    for round in 0..ROUNDS {
        is_anns(story.value(4 * round + 2));
        let out = story.value(4 * round + 4);
        is_nobodys(out);
        let cookie = story
            .cookie(4 * round + 4, "ajs_user_id")
            .or(story.cookie(4 * round + 4, "rl_user_id"));
        assert_eq!(cookie, None, "round {round}");
        assert!(
            !browsers.contains(&out["anonymous"]),
            "round {round}: the browser becomes another one"
        );
        browsers.push(out["anonymous"].clone());
    }
}

/// The site logs Ann out by itself, and Bob comes. `events` are what the vendor has got.
async fn another_user_comes(edge: &Edge, sdk: &Sdk) -> Visit {
    let story = visit(
        edge,
        json!([
            sdk.open("/"),
            sdk.run("SDK.identify('ann', { email: 'ann@shop.example' })", &[sdk.identify]),
            sdk.open("/"),
            sdk.open("/logout"),
            sdk.open("/"),
            sdk.run("SDK.identify('bob', { first: 'Bob' })", &[sdk.identify]),
            sdk.open("/"),
        ]),
    )
    .await;
    is_anns(story.value(2));
    is_nobodys(story.value(4));
    assert_ne!(story.value(2)["anonymous"], story.value(4)["anonymous"]);
    assert_eq!(story.value(4)["traits"], json!({}), "nothing of Ann's");
    let bobs = story.value(6);
    assert_eq!((&bobs["user"], &bobs["plan"]), (&json!("bob"), &json!("none")), "{bobs}");
    assert_eq!(bobs["traits"], json!({"first": "Bob"}));
    story
}

/// No event says of Bob what is known of Ann.
fn bob_is_nobody_else(events: &[Value]) {
    let bobs: Vec<&Value> = events.iter().filter(|event| event["userId"] == "bob").collect();
    assert!(!bobs.is_empty(), "{events:#?}");
    for event in bobs {
        let text = event.to_string();
        assert!(!text.contains("gold") && !text.contains("ann@shop.example"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_logs_out_stays_logged_out_with_segment() {
    let (vendor, origin) = (Vendor::real().await, origin().await);
    let edge = shop(Setup::new(origin.port).vendor(vendor.port())).await;
    log_out_again_and_again(&edge, &SEGMENT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_user_gets_nothing_of_the_last_ones_with_segment() {
    let (vendor, origin) = (Vendor::real().await, origin().await);
    let edge = shop(Setup::new(origin.port).vendor(vendor.port())).await;
    another_user_comes(&edge, &SEGMENT).await;
    bob_is_nobody_else(&vendor.until(7).await);
}

/// Another tab logs the user out: what it does to cookies and localStorage, this one finds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_is_left_open_brings_nobody_back() {
    let (vendor, origin) = (Vendor::real().await, origin().await);
    let edge = shop(Setup::new(origin.port).vendor(vendor.port())).await;
    let sdk = &SEGMENT;
    let elsewhere = "(async () => { const tab = document.createElement('iframe'); tab.src = '/'; document.body.append(tab); \
         for (;;) { const sdk = tab.contentWindow.analytics; \
         if (sdk && sdk.initialized === true) { sdk.reset(); return; } await new Promise((done) => setTimeout(done, 20)); } })()";
    let steps = json!([
        sdk.open("/"),
        sdk.run("SDK.identify('ann')", &[sdk.identify]),
        sdk.open("/"),
        { "run": elsewhere, "until": "/seg/reset" },
        { "run": "analytics.track('Clicked')", "until": sdk.track, "value": sdk.state },
        sdk.open("/"),
    ]);
    let story = visit(&edge, steps).await;
    is_anns(story.value(2));
    assert_eq!(story.value(4)["user"], Value::Null);
    is_nobodys(story.value(5));
    let events = vendor.until(6).await;
    let clicked = events.iter().find(|event| event["event"] == "Clicked").unwrap();
    assert_eq!(clicked["userId"], Value::Null, "{clicked}");
}

/// The browser shows an old page as it has kept it, with the snippet that it had then.
async fn a_page_from_before_tells_nothing(edge: &Edge, sdk: &Sdk) {
    let goes = |to: &str| json!({ "run": format!("setTimeout(() => history.go({to}))"), "until": sdk.page });
    let state = |query: &str| {
        let there = format!("{} && location.search === '{query}'", sdk.loaded);
        json!({ "when": there, "value": sdk.state })
    };
    let steps = json!([
        sdk.open("/?new"),
        sdk.run("SDK.identify('ann', { shoe: 44 })", &[sdk.identify]),
        sdk.open("/?ann"),
        state("?ann"),
        // A page from before the login takes nothing away.
        goes("-1"),
        state("?new"),
        goes("1"),
        state("?ann"),
        sdk.run("SDK.track('Logged Out'); SDK.reset()", &["/seg/reset", sdk.track]),
        sdk.open("/?out"),
        // Nor does one from before the logout bring anybody back.
        goes("-1"),
        state("?ann"),
        sdk.open("/?next"),
        state("?next"),
    ]);
    let story = visit(edge, steps).await;
    is_anns(story.value(3));
    let before = story.value(5);
    assert_eq!((&before["user"], &before["traits"]["shoe"]), (&json!("ann"), &json!(44)));
    assert_eq!(story.value(7)["traits"]["shoe"], 44);
    let old = story.value(11);
    assert_eq!(old["plan"], "gold", "it is the old page");
    assert_eq!((&old["user"], &old["traits"]), (&Value::Null, &json!({})), "{old}");
    is_nobodys(story.value(13));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_from_before_tells_nothing_with_segment() {
    let (vendor, origin) = (Vendor::real().await, origin().await);
    let edge = shop(Setup::new(origin.port).vendor(vendor.port())).await;
    a_page_from_before_tells_nothing(&edge, &SEGMENT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_from_before_tells_nothing_with_rudderstack() {
    let (vendor, origin) = (Vendor::rudderstack().await, origin().await);
    let edge = shop(rudderstack(origin.port, &vendor)).await;
    a_page_from_before_tells_nothing(&edge, &RUDDERSTACK).await;
}

/// As sites do it: the next page is asked for at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_follows_a_reset_at_once_is_nobodys() {
    let (vendor, origin) = (Vendor::real().await, origin().await);
    let edge = shop(Setup::new(origin.port).vendor(vendor.port())).await;
    let sdk = &SEGMENT;
    let mut steps = vec![sdk.open("/")];
    for round in 0..4 {
        let leave =
            format!("setTimeout(() => {{ analytics.reset(); location.href = '/?{round}' }})");
        let there = format!("{} && location.search === '?{round}'", sdk.loaded);
        steps.extend([
            sdk.run("SDK.identify('ann')", &[sdk.identify]),
            sdk.open("/"),
            json!({ "run": leave }),
            // Until the call of the page before has been answered, too.
            json!({ "when": there, "quiet": true, "value": sdk.state }),
        ]);
    }
    let story = visit(&edge, json!(steps)).await;
    for round in 0..4 {
        is_anns(story.value(4 * round + 2));
        is_nobodys(story.value(4 * round + 4));
        assert_eq!(story.cookie(4 * round + 4, "ajs_user_id"), None, "{round}");
    }
}

/// As on a page whose SDK is slow, or blocked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_counts_before_the_sdk_has_come() {
    let origin = origin().await;
    // No vendor is there.
    let edge = shop(Setup::new(origin.port)).await;
    let ann =
        json!([{ "name": "ajs_user_id", "value": "ann", "domain": ".shop.example", "path": "/" }]);
    let url = format!("http://www.shop.example:{}", edge.port);
    let there = "document.readyState === 'complete' && location.search === '?next'";
    let steps = json!([
        { "open": "/", "value": "document.getElementById('plan').textContent" },
        { "run": "setTimeout(() => { analytics.reset(); location.href = '/?next' })" },
        { "when": there, "value": "({ plan: document.getElementById('plan').textContent, user: localStorage.ajs_user_id || null })" },
    ]);
    let story = crate::browser::visit_with(&url, steps, ann, Value::Null).await;
    assert_eq!(story.value(0), "gold");
    assert_eq!(story.value(2), &json!({"plan": "none", "user": null}));
}

/// What a browser sends whose page has ended the identity, while the call of it is still on its way.
const RESETS: &str =
    "ajs_user_id=ann; ajs_anonymous_id=a-1; doorstep_experiments=price:short*; doorstep_reset=1";

impl Jar {
    fn of(cookies: &str) -> Self {
        let pairs = cookies.split("; ").map(|pair| pair.split_once('=').unwrap());
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

async fn reset_shop(signed: bool) -> (Edge, Server) {
    let origin = Server::start(|asked| match asked.target.as_str() {
        "/login" => Reply::new(303, &["Location: /", "X-Doorstep-User: bob"], ""),
        _ => Reply::html("<head></head><p id=plan>none</p>"),
    })
    .await;
    let experiment = "experiments: [{ key: price, route: /, variants: [{ name: short }] }]";
    let keys = format!(
        "signing_keys: [0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef]\nidentity: {{ signed: {signed} }}"
    );
    (shop(Setup::new(origin.port).site(experiment).site(&keys)).await, origin)
}

#[tokio::test]
async fn the_next_request_ends_what_a_script_has_ended() {
    for signed in [false, true] {
        let (edge, _origin) = reset_shop(signed).await;
        let mut jar = Jar::of(RESETS);
        let page = jar.ask(&edge, "GET", "/").await;
        assert!(page.text().contains("<p id=plan>none") && !page.text().contains("\"ann\""));
        assert!(page.header("cache-control").unwrap().contains("private"));
        assert!(!jar.0.contains_key("ajs_user_id") && !jar.0.contains_key("doorstep_reset"));
        let fresh = jar.0["ajs_anonymous_id"].clone();
        assert_ne!(fresh, "a-1");
        assert_eq!(
            jar.0["doorstep_experiments"], "price:short",
            "of the new browser, not told yet"
        );
        assert_eq!(jar.0["doorstep_ended"].split('.').count(), 2, "one id has ended: {jar:?}");
        // The browser is one browser from there on, and a login behind it counts.
        assert!(jar.ask(&edge, "GET", "/").await.text().contains(&fresh));
        let login = json!({"userId": "bob", "anonymousId": fresh});
        let login = edge.event("i", &login).header("Cookie", &jar.text()).send().await;
        jar.take(&login);
        assert_eq!((&*jar.0["ajs_user_id"], &jar.0["ajs_anonymous_id"]), ("bob", &fresh));
    }
}

#[tokio::test]
async fn who_comes_with_the_end_of_another_stays() {
    for signed in [false, true] {
        let (edge, _origin) = reset_shop(signed).await;
        if signed {
            // A form that the origin answers by leading on.
            let mut jar = Jar::of(RESETS);
            jar.ask(&edge, "POST", "/login").await;
            assert_eq!(jar.0["ajs_user_id"], "bob", "{jar:?}");
            assert!(!jar.0.contains_key("doorstep_reset"), "{jar:?}");
            let page = jar.ask(&edge, "GET", "/").await;
            assert!(page.text().contains("\"bob\""), "{}", page.text());
        }
        // An event, which may be some seconds old.
        let login = json!({"userId": "bob", "anonymousId": "b-2", "timestamp": "2026-01-01T00:00:00Z", "sentAt": "2026-01-01T00:00:03Z"});
        let mut jar = Jar::of(RESETS);
        jar.take(&edge.event("i", &login).header("Cookie", RESETS).send().await);
        assert_eq!((&*jar.0["ajs_user_id"], &*jar.0["ajs_anonymous_id"]), ("bob", "b-2"));
        assert!(!jar.0.contains_key("doorstep_reset"), "{jar:?}");
        // One of whom has gone brings nobody back, and ends the cookie's user as a page does.
        for cookies in [RESETS, "ajs_user_id=ann; doorstep_reset=1"] {
            let late = json!({"userId": "ann", "anonymousId": "a-1", "timestamp": "2026-01-01T00:00:00Z", "sentAt": "2026-01-01T00:00:03Z"});
            let mut jar = Jar::of(RESETS);
            jar.take(&edge.event("t", &late).header("Cookie", cookies).send().await);
            assert!(!jar.0.contains_key("ajs_user_id"), "{cookies}: {jar:?}");
        }
    }
}

/// Where the SDK keeps its own cookies, it has ended them by itself.
#[tokio::test]
async fn the_edge_ends_nothing_that_is_the_sdks() {
    let origin = Server::start(|_| Reply::html("<head></head><p id=plan>none</p>")).await;
    let edge = shop(Setup::new(origin.port).site("identity: { server_side_cookies: false }")).await;
    let mut jar = Jar::of("ajs_user_id=ann; ajs_anonymous_id=new; doorstep_reset=1");
    let page = jar.ask(&edge, "GET", "/").await;
    assert!(page.text().contains("<p id=plan>gold"), "{}", page.text());
    assert!(!jar.0.contains_key("doorstep_ended"), "{jar:?}");
}

/// The group that the SDK keeps, and the variants that the browser has kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_group_and_the_kept_variants_go_with_the_user() {
    let (vendor, origin) = (Vendor::real().await, origin().await);
    let experiment = "experiments: [{ key: price, route: /, variants: [{ name: short }] }]";
    let edge = shop(Setup::new(origin.port).vendor(vendor.port()).site(experiment)).await;
    let kept = "({ group: localStorage.ajs_group_id || null, of: localStorage.ajs_group_properties || null })";
    let sdk = &SEGMENT;
    let steps = json!([
        sdk.open("/"),
        sdk.run("SDK.identify('ann')", &[sdk.identify]),
        { "run": "analytics.group('acme', { size: 7 })", "until": "/seg/evs/g", "value": kept },
        sdk.open("/logout"),
        { "run": "1", "value": kept },
    ]);
    let story = visit(&edge, steps).await;
    assert_eq!(story.value(2), &json!({"group": "\"acme\"", "of": "{\"size\":7}"}));
    assert!(story.cookie(2, "doorstep_experiments").is_some());
    assert_eq!(story.value(4), &json!({"group": null, "of": null}));
    assert_eq!(story.cookie(4, "doorstep_experiments"), None);
}

/// What the profile has no more is not handed over any more, nor kept from before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trait_that_is_gone_is_gone_from_the_browser() {
    let (vendor, origin) = (Vendor::real().await, origin().await);
    let edge = shop(Setup::new(origin.port).vendor(vendor.port())).await;
    let sdk = &SEGMENT;
    let ann =
        json!([{ "name": "ajs_user_id", "value": "ann", "domain": ".shop.example", "path": "/" }]);
    let url = format!("http://www.shop.example:{}", edge.port);
    let taking = async {
        edge.reaches("doorstep_events_accepted_total", &[], 1.0).await;
        push(&edge, "ann", json!({"plan": null, "size": "L"})).await;
        edge.event("t", &json!({"event": "pushed", "anonymousId": "other"})).send().await
    };
    let steps = json!([
        sdk.open("/"),
        // Until the push has been taken.
        { "run": "(async () => { for (;;) { const traits = await (await fetch('/seg/traits')).json(); \
                  if (!('plan' in traits)) return; await new Promise((done) => setTimeout(done, 20)); } })()" },
        sdk.open("/"),
    ]);
    let (story, taken) =
        tokio::join!(crate::browser::visit_with(&url, steps, ann, Value::Null), taking);
    assert_eq!(taken.status, 200);
    assert_eq!(story.value(0)["traits"], json!({"plan": "gold"}));
    let last = story.value(2);
    assert_eq!((&last["user"], &last["traits"]), (&json!("ann"), &json!({})), "{last}");
}

fn rudderstack(origin: u16, vendor: &Vendor) -> Setup {
    let at = format!("http://127.0.0.1:{}", vendor.port());
    Setup::new(origin).vendor_yaml(&format!(
        "vendor: {{ rudderstack: {{ write_key: {WRITE_KEY}, cdn: '{at}', config_api: '{at}', data_plane: '{at}' }} }}"
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_logs_out_stays_logged_out_with_rudderstack() {
    let (vendor, origin) = (Vendor::rudderstack().await, origin().await);
    let edge = shop(rudderstack(origin.port, &vendor)).await;
    log_out_again_and_again(&edge, &RUDDERSTACK).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_user_gets_nothing_of_the_last_ones_with_rudderstack() {
    let (vendor, origin) = (Vendor::rudderstack().await, origin().await);
    let edge = shop(rudderstack(origin.port, &vendor)).await;
    another_user_comes(&edge, &RUDDERSTACK).await;
    bob_is_nobody_else(&vendor.until(7).await);
}

/// A link that names somebody, opened by whoever gets it, where ids are signed.
async fn a_link_logs_nobody_in(edge: &Edge, sdk: &Sdk) {
    let steps = json!([
        sdk.open("/?ajs_uid=ann&ajs_aid=stolen&a=b"),
        { "run": "1", "value": "({ id: document.cookie, query: location.search })" },
        sdk.open("/"),
    ]);
    let story = visit(edge, steps).await;
    is_nobodys(story.value(2));
    assert_ne!(story.value(2)["anonymous"], "stolen");
    assert!(story.value(1)["query"].as_str().unwrap().contains("a=b"));
    let named = story.cookie(2, "ajs_user_id").or(story.cookie(2, "rl_user_id"));
    assert_eq!(named, None);
}

const SIGNED: &str = "signing_keys: [key-key-key-key-key-key-key-key-]\nidentity: { signed: true }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_logs_nobody_in_with_segment() {
    let (vendor, origin) = (Vendor::real().await, origin().await);
    let edge = shop(Setup::new(origin.port).vendor(vendor.port()).site(SIGNED)).await;
    a_link_logs_nobody_in(&edge, &SEGMENT).await;
    let events = vendor.until(2).await;
    assert!(
        events.iter().all(|event| event.get("userId").is_none_or(Value::is_null)),
        "{events:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_logs_nobody_in_with_rudderstack() {
    let (vendor, origin) = (Vendor::rudderstack().await, origin().await);
    let edge = shop(rudderstack(origin.port, &vendor).site(SIGNED)).await;
    a_link_logs_nobody_in(&edge, &RUDDERSTACK).await;
    let events = vendor.until(2).await;
    assert!(events.iter().all(|event| event.get("userId").is_none_or(|id| id == "")), "{events:?}");
}

/// Answers to what was asked before the end may come after it, and bring the cookies back. The mark that names the
/// browser's old id has them go at the next page, before that id is replaced.
#[tokio::test]
async fn an_answer_from_before_the_end_brings_nobody_back() {
    let origin = Server::start(|asked| match asked.target.as_str() {
        "/logout" => {
            Reply::new(200, &["Content-Type: text/html", "X-Doorstep-User: "], "<head></head>")
        }
        "/login" => {
            Reply::new(200, &["Content-Type: text/html", "X-Doorstep-User: ann"], "<head></head>")
        }
        _ => Reply::html("<head></head>"),
    })
    .await;
    for signed in [false, true] {
        let keys =
            "signing_keys: [0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef]";
        let edge =
            Setup::new(origin.port).site(keys).site(&format!("identity: {{ signed: {signed} }}"));
        let edge = edge.start().await;
        for (ends, late) in
            [("/logout", "/"), ("/seg/reset", "/"), ("/logout", "/login"), ("/seg/reset", "/login")]
        {
            let mut jar = Jar(std::collections::BTreeMap::from([(
                "ajs_anonymous_id".to_owned(),
                "a-1".to_owned(),
            )]));
            if signed {
                jar.ask(&edge, "GET", "/login").await;
            } else {
                jar.0.insert("ajs_user_id".to_owned(), "ann".to_owned());
            }
            let before = jar.clone();
            let method = if ends == "/seg/reset" { "POST" } else { "GET" };
            jar.ask(&edge, method, ends).await;
            let mut other = before.clone();
            let brought = other.ask(&edge, "GET", late).await;
            jar.take(&brought);
            assert_eq!(jar.0["ajs_user_id"], "ann", "it was on its way");
            let next = jar.ask(&edge, "GET", "/").await;
            assert!(!next.text().contains("ann"), "{signed} {ends} {late}");
            for name in ["ajs_user_id", "doorstep_user"] {
                assert!(!jar.0.contains_key(name), "{signed} {ends} {late}: {name} in {jar:?}");
            }
            assert_ne!(jar.0["ajs_anonymous_id"], "a-1");
        }
    }
}

/// A browser's cookies, of one host.
#[derive(Debug, Clone)]
struct Jar(std::collections::BTreeMap<String, String>);

impl Jar {
    fn take(&mut self, answer: &Answer) {
        for line in answer.all("set-cookie") {
            let (name, value) =
                line.split(';').next().and_then(|pair| pair.split_once('=')).unwrap();
            if line.contains("Max-Age=0") {
                self.0.remove(name);
            } else {
                self.0.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    fn text(&self) -> String {
        let cookies = self.0.iter().map(|(name, value)| format!("{name}={value}"));
        cookies.collect::<Vec<_>>().join("; ")
    }

    async fn ask(&mut self, edge: &Edge, method: &str, target: &str) -> Answer {
        let request = edge.request(method, target).header("Host", "www.shop.example");
        let request = request.header("Origin", "http://www.shop.example");
        let answer = request.header("Cookie", &self.text()).send().await;
        self.take(&answer);
        answer
    }
}
