//! Experiments: who gets what, keeps it, and who is told of it.

use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::edge::{Edge, Setup};
use crate::support::server::{Reply, Server};
use crate::support::vendor::Vendor;

const KEY: &str = "0123456789abcdef0123456789abcdef";

async fn origin() -> Server {
    Server::start(|asked| match asked.target.split('?').next().unwrap_or_default() {
        "/short-gone" => Reply::new(404, &["Content-Type: text/html"], "gone"),
        "/data" => Reply::new(200, &["Content-Type: application/json"], "{}"),
        "/away" => Reply::new(302, &["Location: /"], ""),
        target => {
            Reply::html(format!("<html><head></head><body><h1>Prices</h1>{target}</body></html>"))
        }
    })
    .await
}

async fn edge(vendor: &Vendor, origin: &Server, more: &str) -> Edge {
    Setup::new(origin.port)
        .vendor(vendor.port())
        .site(&format!(
            "webhook: {{ username: u, password: p }}
signing_keys: [{KEY}]
bots: \"request.headers['user-agent'] == 'Robot'\"
client_traits: {{ seen: \"experiments['pricing']\" }}
variations:
- {{ route: /checkout, choose: [{{ when: \"experiments.pricing == 'short'\", path: /checkout-short }}] }}
experiments:
- key: pricing
  name: Prices
  route: [/pricing, /data, /away]
  sticky: [cookie, trait]
  force: {{ tester: short }}
  variants:
  - {{ name: control }}
  - {{ name: short, path: /short, rewrite: [{{ select: h1, set: {{ text: 'Simple {{{{ experiments.pricing }}}}' }} }}], traits: {{ size: \"'small'\" }} }}
- {{ key: menu, route: /menu, variants: [{{ name: control }}, {{ name: short, path: /short }}] }}
- {{ key: gone, route: /gone, variants: [{{ name: a, path: /short-gone, traits: {{ gone: \"'a'\" }}, rewrite: [{{ select: h1, set: {{ text: Gone }} }}] }}] }}
- {{ key: over, route: /over, ends: 2020-01-01T00:00:00Z, variants: [{{ name: a, path: /a }}] }}
- {{ key: later, route: /over, starts: 2999-01-01T00:00:00Z, variants: [{{ name: a, path: /a }}] }}
- {{ key: held, route: /held, holdout: {{ key: h, share: 100% }}, variants: [{{ name: a, path: /a }}] }}
- {{ key: none, route: /none, traffic: 0%, variants: [{{ name: a, path: /a }}] }}
- {{ key: company, route: /company, unit: traits.company, variants: [{{ name: a }}, {{ name: b, path: /b }}] }}
- {{ key: first, route: /two, variants: [{{ name: a, path: /first }}] }}
- {{ key: second, route: /two, variants: [{{ name: a, path: /second }}] }}
{more}"
        ))
        .start()
        .await
}

fn get(edge: &Edge, path: &str, cookie: &str) -> crate::support::client::Request {
    let request = edge.request("GET", path).header("Accept", "text/html");
    if cookie.is_empty() { request } else { request.header("Cookie", cookie) }
}

fn variant(page: &Answer) -> &'static str {
    if page.text().contains("/short") { "short" } else { "control" }
}

/// The first of `visitor-0`, `visitor-1`, … who gets `wanted`.
async fn one_who_gets(edge: &Edge, wanted: &str) -> String {
    for n in 0..50 {
        let cookie = format!("ajs_anonymous_id=visitor-{n}");
        let page = get(edge, "/pricing", &cookie).header("Sec-Purpose", "prefetch").send().await;
        if variant(&page) == wanted {
            return format!("visitor-{n}");
        }
    }
    panic!("nobody of fifty gets {wanted}");
}

fn viewed(events: &[Value]) -> Vec<Value> {
    events.iter().filter(|event| event["event"] == "Experiment Viewed").cloned().collect()
}

/// A page that a browser has made ready ahead is told of by its snippet, once it is shown: the edge is not asked again.
#[tokio::test]
async fn a_page_that_was_fetched_ahead_is_told_once_it_is_shown() {
    let (vendor, origin) = (Vendor::start().await, origin().await);
    let edge = edge(&vendor, &origin, "consent: { denied: \"request.cookies.c == 'no'\" }").await;
    let id = one_who_gets(&edge, "short").await;
    let cookie = format!("ajs_anonymous_id={id}");
    let ahead =
        get(&edge, "/pricing", &cookie).header("Sec-Purpose", "prefetch;prerender").send().await;
    assert!(ahead.text().contains(r#""x":{"pricing":"short"},"s":true"#), "{}", ahead.text());
    assert_eq!(ahead.cookie("doorstep_experiments").as_deref(), Some("pricing:short"));
    let seen = |cookie: &str, site: &str, named: &str| {
        let request = edge.request("POST", "/seg/seen").header("Cookie", cookie);
        let request = request
            .header("Sec-Fetch-Site", site)
            .header("Referer", "http://shop.example/pricing?q=2");
        request.body(named.to_owned()).send()
    };
    let named = r#"{"pricing":"short","menu":"unknown","none":"a"}"#;
    let kept = format!("{cookie}; doorstep_experiments=pricing:short");
    // Not by other sites, nor of what the browser has not kept, nor where nothing is allowed.
    assert_eq!(seen(&kept, "cross-site", named).await.status, 403);
    assert_eq!(seen(&kept, "same-origin", "[").await.status, 400);
    for (cookie, named) in
        [(&*cookie, named), (&kept, r#"{"pricing":"control"}"#), (&*format!("{kept}; c=no"), named)]
    {
        let answer = seen(cookie, "same-origin", named).await;
        assert_eq!((answer.status, answer.cookie("doorstep_experiments")), (200, None), "{cookie}");
    }
    let told = seen(&kept, "same-origin", named).await;
    assert_eq!(told.cookie("doorstep_experiments").as_deref(), Some("pricing:short*"));
    let events = viewed(&vendor.until(1).await);
    assert_eq!(events[0]["properties"]["variation_id"], "short");
    assert_eq!(events[0]["anonymousId"], json!(id));
    assert_eq!(events[0]["context"]["page"]["url"], "http://shop.example/pricing?q=2");
    // It is told already, by whichever way.
    seen(&kept, "same-origin", named).await;
    let shown = get(&edge, "/pricing", &kept).send().await;
    assert!(!shown.text().contains(r#""s":true"#));
    edge.event("t", &json!({"event": "last", "anonymousId": id})).send().await;
    assert_eq!(viewed(&vendor.until(2).await).len(), 1);
}

#[tokio::test]
async fn a_variant_is_shown_kept_and_told_once() {
    let (vendor, origin) = (Vendor::start().await, origin().await);
    let edge = edge(&vendor, &origin, "").await;
    // Nobody has seen a prefetched page.
    let id = one_who_gets(&edge, "short").await;
    let cookie = format!("ajs_anonymous_id={id}; ajs_user_id=john");
    let page = get(&edge, "/pricing?q=1", &cookie).header("User-Agent", "Test/1").send().await;
    let text = page.text();
    assert!(
        text.ends_with("<h1>Simple short</h1>/short</body></html>"),
        "{}",
        &text[text.len() - 200..]
    );
    assert!(
        text.contains(r#""t":{"seen":"short","size":"small"}"#)
            && text.contains(r#""x":{"pricing":"short"}"#),
        "{text}"
    );
    assert_eq!(page.cookie("doorstep_experiments").as_deref(), Some("pricing:short"));
    assert!(
        page.all("set-cookie")
            .iter()
            .any(|line| line.starts_with("doorstep_experiments=") && line.contains("HttpOnly"))
    );

    let event = vendor.until(1).await.pop().unwrap();
    assert_eq!(event["event"], "Experiment Viewed");
    assert_eq!(
        event["properties"],
        json!({"experiment_id": "pricing", "experiment_name": "Prices", "variation_id": "short", "variation_name": "short"})
    );
    assert_eq!((&event["anonymousId"], &event["userId"]), (&json!(id), &json!("john")));
    assert_eq!(event["context"]["page"]["url"], "http://shop.example/pricing?q=1");
    assert_eq!(event["context"]["userAgent"], "Test/1");
    assert!(event["messageId"].as_str().unwrap().starts_with("exposure-"));

    // The second page says that it was told, the third keeps quiet.
    let kept = format!("{cookie}; doorstep_experiments=pricing:short");
    let second = get(&edge, "/pricing", &kept).send().await;
    assert_eq!(second.cookie("doorstep_experiments").as_deref(), Some("pricing:short*"));
    let kept = format!("{cookie}; doorstep_experiments=pricing:short*");
    assert_eq!(get(&edge, "/pricing", &kept).send().await.cookie("doorstep_experiments"), None);
    // Another page asks, and is not part of the experiment.
    assert!(get(&edge, "/checkout", &kept).send().await.text().contains("/checkout-short"));
    let counted = [("experiment", "pricing"), ("variant", "short")];
    edge.becomes("doorstep_exposures_total", &counted, 1.0).await;
    edge.becomes("doorstep_experiment_pages_total", &counted, 3.0).await;
    // A track of our own comes behind whatever was told.
    let track = edge.event("t", &json!({"event": "last", "anonymousId": id})).send().await;
    assert_eq!(track.status, 200);
    let all = vendor.until(2).await;
    assert_eq!(viewed(&all).len(), 1, "{all:#?}");
}

#[tokio::test]
async fn a_newcomer_takes_part_from_the_first_page_on() {
    let (vendor, origin) = (Vendor::start().await, origin().await);
    let edge = edge(&vendor, &origin, "").await;
    let page = get(&edge, "/pricing", "").send().await;
    let (id, kept) =
        (page.cookie("ajs_anonymous_id").unwrap(), page.cookie("doorstep_experiments").unwrap());
    assert_eq!(kept, format!("pricing:{}", variant(&page)));
    assert_eq!(vendor.until(1).await[0]["anonymousId"], json!(id));
    // The same visitor gets the same, with and without the cookie that keeps it.
    for cookie in [
        format!("ajs_anonymous_id={id}"),
        format!("ajs_anonymous_id={id}; doorstep_experiments={kept}"),
    ] {
        assert_eq!(variant(&get(&edge, "/pricing", &cookie).send().await), variant(&page));
    }
    // What is kept counts, whatever the draw would say; nonsense does not.
    for kept in ["short", "control"] {
        let cookie = format!("ajs_anonymous_id={id}; doorstep_experiments=menu:{kept}");
        assert_eq!(variant(&get(&edge, "/menu", &cookie).send().await), kept);
    }
    let odd = format!("ajs_anonymous_id={id}; doorstep_experiments=pricing:%00~~::;x=\"");
    assert_eq!(variant(&get(&edge, "/pricing", &odd).send().await), variant(&page));
}

#[tokio::test]
async fn only_pages_that_are_seen_by_people_count() {
    let (vendor, origin) = (Vendor::start().await, origin().await);
    let edge = edge(&vendor, &origin, "").await;
    let id = one_who_gets(&edge, "control").await;
    let cookie = format!("ajs_anonymous_id={id}");
    for (path, header) in [
        ("/pricing", ("User-Agent", "Robot")),
        ("/pricing", ("Sec-Purpose", "prefetch;prerender")),
        ("/data", ("X", "y")),
        ("/away", ("X", "y")),
    ] {
        assert!(get(&edge, path, &cookie).header(header.0, header.1).send().await.status < 400);
    }
    let head =
        edge.request("HEAD", "/pricing").header("Accept", "text/html").header("Cookie", &cookie);
    assert_eq!(head.send().await.status, 200);
    // A variant whose page failed was not seen.
    let gone = get(&edge, "/gone", &cookie).send().await;
    let text = gone.text();
    assert!(gone.status == 200 && text.contains("<h1>Prices</h1>/gone"), "{text}");
    assert!(!text.contains("\"x\":") && !text.contains("\"gone\":"), "{text}");
    assert_eq!(gone.cookie("doorstep_experiments"), None);
    for path in ["/over", "/none", "/company"] {
        let page = get(&edge, path, &cookie).send().await;
        assert!(page.text().contains(&format!("</h1>{path}")), "{path}");
        assert_eq!(page.cookie("doorstep_experiments"), None, "{path}");
    }
    // Of two experiments about one page the first counts.
    assert!(get(&edge, "/two", &cookie).send().await.text().contains("/first"));
    assert!(get(&edge, "/held", &cookie).send().await.text().contains("</h1>/held"));
    let told = vendor.until(2).await;
    let told: Vec<_> = viewed(&told)
        .iter()
        .map(|event| {
            (
                event["properties"]["experiment_id"].clone(),
                event["properties"]["variation_id"].clone(),
            )
        })
        .collect();
    assert_eq!(told, [(json!("first"), json!("a")), (json!("held"), json!("holdout"))]);
}

#[tokio::test]
async fn a_person_keeps_a_variant_in_another_browser() {
    let (vendor, origin) = (Vendor::start().await, origin().await);
    let edge =
        edge(&vendor, &origin, "identity: { signed: true, user_hash_secret: hash-secret }").await;
    let (short, control) =
        (one_who_gets(&edge, "short").await, one_who_gets(&edge, "control").await);
    // printf ceo | openssl dgst -sha256 -hmac hash-secret
    let hash = "78e097bfa70abc25e932fed7bc975e3cd21e0c3a4195ebcb76df8fdef1180853";
    let login = async |browser: &str| {
        let event =
            json!({"userId": "ceo", "anonymousId": browser, "context": {"user_hash": hash}});
        let answer = edge.event("i", &event).send().await;
        let lines = answer.all("set-cookie").into_iter();
        lines.map(|line| line.split(';').next().unwrap()).collect::<Vec<_>>().join("; ")
    };
    let (one, other) = (login(&short).await, login(&control).await);
    assert_eq!(variant(&get(&edge, "/pricing", &one).send().await), "short");
    crate::support::eventually("the profile keeps it", || async {
        let (found, profile) = edge.cli(&["profile", "get", "user_id:ceo"]).await;
        (found && profile.contains("doorstep_experiment_pricing")).then_some(())
    })
    .await;
    assert_eq!(variant(&get(&edge, "/pricing", &other).send().await), "short");
}

/// Without signed ids anybody can say any.
#[tokio::test]
async fn a_typed_id_writes_no_variant_into_anybodys_profile() {
    let (vendor, origin) = (Vendor::start().await, origin().await);
    let edge = edge(&vendor, &origin, "exposures: none").await;
    let identify = edge.event("i", &json!({"userId": "ann", "anonymousId": "linked"}));
    assert_eq!(identify.send().await.status, 200);
    for cookie in ["ajs_anonymous_id=a; ajs_user_id=ann", "ajs_anonymous_id=linked"] {
        get(&edge, "/pricing", cookie).send().await;
    }
    // What comes after it is there: the browser's own.
    get(&edge, "/pricing", "ajs_anonymous_id=own").send().await;
    crate::support::eventually("the browser's own profile keeps it", || async {
        let (found, profile) = edge.cli(&["profile", "get", "anonymous_id:own"]).await;
        (found && profile.contains("doorstep_experiment_pricing")).then_some(())
    })
    .await;
    let (_, ann) = edge.cli(&["profile", "get", "user_id:ann"]).await;
    assert!(!ann.contains("doorstep_experiment"), "{ann}");
}

#[tokio::test]
async fn all_of_a_company_see_the_same() {
    let (vendor, origin) = (Vendor::start().await, origin().await);
    let edge = edge(&vendor, &origin, "").await;
    for (user, company) in [("u1", "acme"), ("u2", "acme"), ("u3", "acme")] {
        let push = json!({"type": "identify", "userId": user, "traits": {"company": company}});
        let request =
            edge.request("POST", "/seg/profiles-webhook").header("Authorization", "Basic dTpw");
        assert_eq!(request.body(push.to_string()).send().await.status, 200);
    }
    let mut pages = Vec::new();
    for n in 1..=3 {
        let cookie = format!("ajs_anonymous_id=browser-{n}; ajs_user_id=u{n}");
        pages.push(get(&edge, "/company", &cookie).send().await.text().contains("</h1>/b"));
    }
    assert!(pages.iter().all(|page| *page == pages[0]), "{pages:?}");
}

#[tokio::test]
async fn preview_links_show_what_they_say_to_those_who_have_them() {
    let (vendor, origin) = (Vendor::start().await, origin().await);
    let edge = edge(&vendor, &origin, "").await;
    let control = format!("ajs_anonymous_id={}", one_who_gets(&edge, "control").await);
    let url = "http://shop.example/pricing?a=1";
    let (made, link) = edge.cli(&["preview", "--variant", "pricing=short", "--explain", url]).await;
    assert!(made, "{link}");
    let path = link.trim().strip_prefix("http://shop.example").unwrap();
    let page = get(&edge, path, &control).send().await;
    let text = page.text();
    assert!(text.contains("</h1>/short<"), "{}", &text[text.len() - 200..]);
    let explained: Value =
        serde_json::from_str(page.header("x-doorstep-explain").unwrap()).unwrap();
    assert_eq!(explained["rules"][0]["experiment"], "pricing");
    assert_eq!(
        (&explained["rules"][0]["variant"], &explained["rules"][0]["outcome"]),
        (&json!("short"), &json!("preview"))
    );
    assert_eq!((&explained["site"], &explained["path"]), (&json!("shop"), &json!("/pricing")));
    // It lasts for the next pages, is told to nobody, and is nobody's variant afterwards.
    let token = page.cookie("doorstep_preview").unwrap();
    let next = get(&edge, "/pricing", &format!("{control}; doorstep_preview={token}")).send().await;
    assert_eq!((variant(&next), next.cookie("doorstep_experiments")), ("short", None));
    assert!(next.header("x-doorstep-explain").is_some());
    // A page without any rule is explained as well.
    let plain = get(&edge, "/plain", &format!("{control}; doorstep_preview={token}")).send().await;
    assert!(plain.header("x-doorstep-explain").is_some());
    let after = get(&edge, "/pricing", &control).send().await;
    assert_eq!((variant(&after), after.header("x-doorstep-explain")), ("control", None));

    let (body, signature) = token.split_once('.').unwrap();
    let (_, short_lived) =
        edge.cli(&["preview", "--variant", "pricing=short", "--for", "0s", url]).await;
    let expired = short_lived.trim().split_once("doorstep_preview=").unwrap().1.to_owned();
    for (token, why) in [
        (format!("{body}x.{signature}"), "forged"),
        (format!("{body}.AAAA"), "forged"),
        (expired, "expired"),
        ("nonsense".to_owned(), "malformed"),
    ] {
        let page = get(&edge, &format!("/pricing?doorstep_preview={token}"), &control).send().await;
        assert_eq!((page.status, variant(&page)), (200, "control"), "{why}");
        assert_eq!(page.header("x-doorstep-preview"), Some(why));
        assert_eq!(
            (page.header("x-doorstep-explain"), page.cookie("doorstep_preview")),
            (None, None)
        );
        assert!(!origin.asked().iter().any(|asked| asked.target.contains("doorstep_preview")));
    }
    edge.becomes("doorstep_previews_refused_total", &[("reason", "forged")], 2.0).await;
    let (made, why) = edge.cli(&["preview", "--variant", "pricing=nope", url]).await;
    assert!(!made && why.contains("pricing=nope"), "{why}");
    // A listed id has its variant, and does not count either.
    assert_eq!(
        variant(&get(&edge, "/pricing", "ajs_user_id=tester; ajs_anonymous_id=x").send().await),
        "short"
    );
    // Only what was told for the ones who were drawn.
    let told = viewed(&vendor.until(1).await);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["properties"]["variation_id"], "control");
}

#[tokio::test]
async fn a_trait_may_tell_instead_of_an_event() {
    let (vendor, origin) = (Vendor::start().await, origin().await);
    let edge = edge(&vendor, &origin, "exposures: identify").await;
    let page = get(&edge, "/pricing", "").send().await;
    let event = vendor.until(1).await.pop().unwrap();
    assert_eq!(event["type"], "identify");
    assert_eq!(event["traits"], json!({"experiment_pricing": variant(&page)}));
}

/// What scripts fetch of a page belongs to the variant that the visitor sees; nobody has seen it by that alone.
#[tokio::test]
async fn parts_and_data_of_a_page_are_those_of_the_variant() {
    let (vendor, origin) = (Vendor::start().await, origin().await);
    let edge = edge(&vendor, &origin, "").await;
    let mut seen = [0; 2];
    for number in 0..40 {
        let get = |path: &'static str, name: &'static str| {
            let request = edge
                .request("GET", path)
                .header("Cookie", &format!("ajs_anonymous_id=visitor-{number}"));
            request
                .header("Accept", "*/*")
                .header("Sec-Fetch-Dest", "empty")
                .header(name, "1")
                .send()
        };
        let mut answers = Vec::new();
        for (path, name) in
            [("/pricing", "HX-Request"), ("/pricing", "RSC"), ("/pricing.data", "X-Own")]
        {
            let answer = get(path, name).await;
            assert_eq!(answer.cookie("doorstep_experiments"), None);
            answers.push(answer.text().contains("/short"));
        }
        assert!(answers.iter().all(|short| *short == answers[0]), "{number}: {answers:?}");
        seen[usize::from(answers[0])] += 1;
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    assert!(edge.metric("doorstep_exposures_total", &[]).await < 1.0);
}
