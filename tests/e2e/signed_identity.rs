//! Nobody sees another person's page by saying a name.

use serde_json::json;

use crate::support::client::{Answer, Request};
use crate::support::edge::{Edge, Setup};
use crate::support::server::{Reply, Server};
use crate::support::vendor::Vendor;

const OLD: &str = "old-key-old-key-old-key-old-key-";
const NEW: &str = "new-key-new-key-new-key-new-key-";
/// printf ceo | openssl dgst -sha256 -hmac hash-secret
const CEO_HASH: &str = "78e097bfa70abc25e932fed7bc975e3cd21e0c3a4195ebcb76df8fdef1180853";

async fn origin() -> Server {
    Server::start(|asked| match asked.target.as_str() {
        "/login" => Reply::new(302, &["Location: /", "X-Doorstep-User: ceo"], ""),
        "/logout" => Reply::new(200, &["Content-Type: text/html", "X-Doorstep-User:"], "bye"),
        "/both" => Reply::new(302, &["X-Doorstep-User: ceo", "X-Doorstep-User: mary"], ""),
        // Chosen pages that are not what was chosen.
        "/rich/ended" => Reply::new(
            301,
            &["Location: /rich/new", "X-Doorstep-User:", "Set-Cookie: sid=; Max-Age=0"],
            "",
        ),
        "/rich/lost" => Reply::new(500, &["X-Doorstep-User:", "Set-Cookie: sid=; Max-Age=0"], ""),
        "/rich/left" => Reply::new(
            404,
            &["Set-Cookie: ajs_user_id=; Max-Age=0", "Set-Cookie: sid=; Max-Age=0"],
            "",
        ),
        "/rich/other" => Reply::new(
            308,
            &["Location: /rich/new", "X-Doorstep-User: mary", "Set-Cookie: sid=m"],
            "",
        ),
        "/rich/moved" => Reply::new(
            301,
            &["Location: /rich/new", "X-Doorstep-User: ceo", "Set-Cookie: sid=kept"],
            "",
        ),
        "/whoami" => match asked.header("cookie") {
            Some("sid=ceo-session") => {
                Reply::new(200, &["Content-Type: application/json"], r#"{"user_id": "ceo"}"#)
            }
            Some(sid) if sid.starts_with("sid=broken") => Reply::new(500, &[], ""),
            Some("sid=limited") => Reply::new(429, &[], ""),
            _ => Reply::new(401, &[], ""),
        },
        target => Reply::html(format!("<head></head>{target}")),
    })
    .await
}

fn setup(origin: &Server, vendor: &Vendor, keys: &str, more: &str) -> Setup {
    Setup::new(origin.port)
        .vendor(vendor.port())
        .site(&format!(
            "webhook: {{ username: u, password: p }}
signing_keys: [{keys}]
identity: {{ signed: true, user_hash_secret: hash-secret{more} }}
client_traits: {{ salary: traits.salary }}
enrich: {{ profile: [salary] }}
experiments: [{{ key: e, route: /tested, sticky: [trait], variants: [{{ name: a }}] }}]
variations: [{{ route: '/my/{{part}}', choose: [{{ when: has(traits.salary), path: '/rich/{{part}}' }}] }}, {{ route: /, choose: [{{ when: has(traits.salary), path: /rich }}, {{ when: \"has(ids.user_id)\", path: /known }}] }}]"
        ))
}

async fn edge(setup: Setup) -> Edge {
    let edge = setup.start().await;
    let push = json!({"type": "identify", "userId": "ceo", "traits": {"salary": 1_000_000}});
    let request =
        edge.request("POST", "/seg/profiles-webhook").header("Authorization", "Basic dTpw");
    assert_eq!(request.body(push.to_string()).send().await.status, 200);
    edge
}

fn get(edge: &Edge, path: &str, cookie: &str) -> Request {
    edge.request("GET", path).header("Accept", "text/html").header("Cookie", cookie)
}

fn is_rich(page: &Answer) -> bool {
    assert_eq!(page.status, 200);
    assert!(page.text().contains("/rich") || !page.text().contains("1000000"), "{}", page.text());
    page.text().contains("/rich")
}

/// The cookies of an answer, as a browser sends them.
fn jar(answer: &Answer) -> String {
    let pairs = answer.all("set-cookie").into_iter().map(|line| line.split(';').next().unwrap());
    pairs.collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn an_origin_that_names_two_users_names_none() {
    let (origin, vendor) = (origin().await, Vendor::start().await);
    let edge = edge(setup(&origin, &vendor, NEW, "")).await;
    let answer = get(&edge, "/both", "").send().await;
    assert_eq!((answer.status, answer.cookie("ajs_user_id")), (302, None));
    assert!(answer.header("x-doorstep-user").is_none());
    assert_eq!(get(&edge, "/login", "").send().await.cookie("ajs_user_id").as_deref(), Some("ceo"));
}

#[tokio::test]
async fn typing_another_name_shows_nobody_elses_page() {
    let (origin, vendor) = (origin().await, Vendor::start().await);
    let edge = edge(setup(&origin, &vendor, NEW, "")).await;
    for cookie in [
        "ajs_user_id=ceo",
        "ajs_user_id=ceo; doorstep_user=AAAA",
        "ajs_user_id=ceo; doorstep_user=",
        "ajs_user_id=%22ceo%22",
    ] {
        let page = get(&edge, "/", cookie).send().await;
        assert!(!is_rich(&page) && page.text().ends_with("</head>/"), "{cookie}");
        let traits = get(&edge, "/seg/traits", cookie).send().await;
        assert_eq!(traits.json(), json!({}));
        assert!(!get(&edge, "/seg/snippet.js", cookie).send().await.text().contains("1000000"));
    }
    edge.reaches("doorstep_unsigned_ids_total", &[("reason", "missing")], 2.0).await;
    edge.reaches("doorstep_unsigned_ids_total", &[("reason", "wrong")], 2.0).await;
    // The name still labels events, and the vendor is not told the other's traits.
    let event = edge
        .event("t", &json!({"event": "x", "anonymousId": "mine"}))
        .header("Cookie", "ajs_user_id=ceo");
    assert_eq!(event.send().await.status, 200);
    // Nor does saying it in an event link the two.
    let identify = edge.event("i", &json!({"userId": "ceo", "anonymousId": "mine"})).send().await;
    assert_eq!((identify.status, identify.cookie("ajs_user_id").as_deref()), (200, Some("ceo")));
    assert_eq!(identify.cookie("doorstep_user"), None);
    let told = vendor.until(2).await;
    assert_eq!(told[0]["userId"], "ceo");
    assert!(told[0]["context"].get("profile").is_none(), "{}", told[0]);
    assert!(!is_rich(&get(&edge, "/", "ajs_anonymous_id=mine").send().await));
}

#[tokio::test]
async fn a_name_that_nobody_vouches_for_writes_to_no_profile() {
    let (origin, vendor) = (origin().await, Vendor::start().await);
    let edge = edge(setup(&origin, &vendor, NEW, "").site("exposures: none")).await;
    let cookies = jar(&get(&edge, "/login", "").send().await);
    let keeps = |id: &'static str| {
        let edge = &edge;
        async move { edge.cli(&["profile", "get", id]).await.1.contains("doorstep_experiment_e") }
    };
    for cookies in ["ajs_user_id=ceo; ajs_anonymous_id=liar", "ajs_anonymous_id=liar"] {
        assert_eq!(get(&edge, "/tested", cookies).send().await.status, 200);
    }
    // Nothing is told, and a variant is kept all the same.
    get(&edge, "/tested", &cookies).send().await;
    crate::support::eventually("the user's profile has it", || async {
        keeps("user_id:ceo").await.then_some(())
    })
    .await;
    // Nor to the browser's own, which a login makes the user's.
    assert!(!keeps("anonymous_id:liar").await);
    assert!(vendor.events().is_empty());
}

#[tokio::test]
async fn the_origin_vouches_for_its_users() {
    let (origin, vendor) = (origin().await, Vendor::start().await);
    let edge = edge(setup(&origin, &vendor, &format!("{NEW}, {OLD}"), "")).await;
    let login = get(&edge, "/login", "").send().await;
    assert_eq!((login.status, login.header("x-doorstep-user")), (302, None));
    let cookies = jar(&login);
    let signature = login
        .all("set-cookie")
        .into_iter()
        .find(|line| line.starts_with("doorstep_user="))
        .unwrap()
        .to_owned();
    assert!(signature.contains("HttpOnly") && signature.contains("SameSite=Lax"), "{signature}");
    assert!(is_rich(&get(&edge, "/", &cookies).send().await));
    // A signature is for its user alone.
    let other = cookies.replace("ajs_user_id=ceo", "ajs_user_id=other");
    assert!(get(&edge, "/", &other).send().await.text().ends_with("</head>/"));
    // The header of a visitor says nothing.
    let said = get(&edge, "/", "").header("X-Doorstep-User", "ceo").send().await;
    assert!(!is_rich(&said) && said.cookie("doorstep_user").is_none());
    // An identify of a confirmed user links the browser to the profile.
    let identify = edge
        .event("i", &json!({"userId": "ceo", "anonymousId": "laptop"}))
        .header("Cookie", &cookies);
    let identify = identify.send().await;
    assert_eq!(identify.status, 200);
    // The signature goes over to the browser's new id, and counts for that alone.
    let laptop = format!("{}; ajs_user_id=ceo", jar(&identify));
    assert!(is_rich(&get(&edge, "/", &laptop).send().await), "{laptop}");
    let mixed =
        format!("{cookies}; ").replace("ajs_anonymous_id=", "x=") + "ajs_anonymous_id=laptop";
    assert!(!is_rich(&get(&edge, "/", &mixed).send().await), "{mixed}");
    // The browser's id by itself opens nothing.
    assert!(!is_rich(&get(&edge, "/", "ajs_anonymous_id=laptop").send().await));
    let out = get(&edge, "/logout", &cookies).send().await;
    assert_eq!(out.header("x-doorstep-user"), None);
    let lines = out.all("set-cookie").join("\n");
    assert!(lines.contains("doorstep_user=; ") && lines.contains("ajs_user_id=; "), "{lines}");
    let reset = edge.request("POST", "/seg/reset").send().await;
    assert!(reset.all("set-cookie").iter().any(|line| line.starts_with("doorstep_user=; ")));

    // After a change of keys the old signature counts as long as its key is listed.
    for (keys, rich) in [(format!("{OLD}, {NEW}"), true), (OLD.to_owned(), false)] {
        let again = self::edge(setup(&origin, &vendor, &keys, "")).await;
        assert_eq!(is_rich(&get(&again, "/", &cookies).send().await), rich, "{keys}");
    }
}

#[tokio::test]
async fn a_page_that_signs_its_identify_is_believed() {
    let (origin, vendor) = (origin().await, Vendor::start().await);
    let edge = edge(setup(&origin, &vendor, NEW, "")).await;
    let identify = |hash: &str| {
        let event =
            json!({"userId": "ceo", "anonymousId": "phone", "context": {"user_hash": hash}});
        edge.event("i", &event)
    };
    let wrong = identify(&CEO_HASH.replace('a', "b")).send().await;
    assert_eq!((wrong.status, wrong.cookie("doorstep_user")), (200, None));
    assert!(!is_rich(&get(&edge, "/", "ajs_anonymous_id=phone").send().await));
    let right = identify(CEO_HASH).send().await;
    assert!(is_rich(&get(&edge, "/", &jar(&right)).send().await));
    assert!(!is_rich(&get(&edge, "/", "ajs_anonymous_id=phone").send().await));
    for event in vendor.until(2).await {
        assert!(event["context"].get("user_hash").is_none(), "{event}");
    }
}

#[tokio::test]
async fn a_session_of_the_sites_own_is_asked_for() {
    let (origin, vendor) = (origin().await, Vendor::start().await);
    let check = format!(
        ", check: {{ url: 'http://127.0.0.1:{}/whoami', cookie: sid, fresh_for: 10m }}",
        origin.port
    );
    let edge = edge(setup(&origin, &vendor, NEW, &check)).await;
    let page = get(&edge, "/", "sid=ceo-session; other=1").send().await;
    assert!(is_rich(&page), "{}", page.text());
    // The visitor's other cookies are not the check's business.
    assert_eq!(origin.until("/whoami", 1).await[0].header("cookie"), Some("sid=ceo-session"));
    // The check decides: cookies from before count for nothing beside it.
    assert_eq!(
        (page.cookie("ajs_user_id").as_deref(), page.cookie("doorstep_user")),
        (Some("ceo"), None)
    );
    assert!(!is_rich(&get(&edge, "/", &jar(&page)).send().await));
    assert!(is_rich(&get(&edge, "/", "sid=ceo-session").send().await));
    for sid in ["nobody", "broken"] {
        let page = get(&edge, "/", &format!("sid={sid}; ajs_user_id=ceo")).send().await;
        assert!(!is_rich(&page));
        // Who is nobody's any more is not kept as somebody's.
        let ended = page.all("set-cookie").iter().any(|line| line.starts_with("ajs_user_id=; "));
        assert_eq!(ended, sid == "nobody", "{sid}");
    }
    // A limit says nothing of the session.
    let page = get(&edge, "/", "sid=limited; ajs_user_id=ceo").send().await;
    assert!(!is_rich(&page));
    assert!(!page.all("set-cookie").iter().any(|line| line.starts_with("ajs_user_id=; ")));
    // Answers are remembered, and one session that has none keeps no other from being asked.
    assert!(!is_rich(&get(&edge, "/", "sid=broken").send().await));
    assert!(!is_rich(&get(&edge, "/", "sid=pause").send().await));
    assert!(!is_rich(&get(&edge, "/", "sid=another").send().await));
    assert!(is_rich(&get(&edge, "/", "sid=ceo-session").send().await));
    let asked: Vec<_> = origin
        .until("/whoami", 6)
        .await
        .into_iter()
        .filter_map(|asked| asked.header("cookie").map(str::to_owned))
        .collect();
    let sessions = ["ceo-session", "nobody", "broken", "limited", "pause", "another"];
    assert_eq!(asked, sessions.map(|session| format!("sid={session}")));
}

#[tokio::test]
async fn a_check_decides_again_when_its_answer_is_old() {
    let (origin, vendor) = (origin().await, Vendor::start().await);
    let check = format!(
        ", check: {{ url: 'http://127.0.0.1:{}/whoami', cookie: sid, fresh_for: 50ms }}",
        origin.port
    );
    let edge = edge(setup(&origin, &vendor, NEW, &check)).await;
    let page = get(&edge, "/", "sid=ceo-session").send().await;
    assert!(is_rich(&page));
    let ids = jar(&page);
    // The session is another one's, or nobody's: so is the page, at once, whatever the cookies say.
    for sid in ["sid=mary-session; ", "sid=nobody; ", ""] {
        let page = get(&edge, "/", &format!("{sid}{ids}")).send().await;
        assert!(!is_rich(&page), "{sid}");
        let anonymous = page.cookie("ajs_anonymous_id").unwrap();
        assert!(!ids.contains(&anonymous), "{sid}: the browser becomes another one");
    }
    crate::support::eventually("the session is asked for again", || async {
        let page = get(&edge, "/", &format!("sid=ceo-session; {ids}")).send().await;
        assert!(is_rich(&page));
        let asked = origin
            .asked()
            .into_iter()
            .filter(|asked| asked.header("cookie") == Some("sid=ceo-session"));
        (asked.count() >= 2).then_some(())
    })
    .await;
}

/// Routes about the visitor, and pages without any rule, hear the check as well.
#[tokio::test]
async fn a_check_decides_for_every_route_of_the_edges_own() {
    let (origin, vendor) = (origin().await, Vendor::start().await);
    let check = format!(
        ", check: {{ url: 'http://127.0.0.1:{}/whoami', cookie: sid, fresh_for: 10m }}",
        origin.port
    );
    let edge = edge(setup(&origin, &vendor, NEW, &check)).await;
    let stale = "ajs_user_id=john; ajs_anonymous_id=johns";
    for path in ["/plain", "/seg/snippet.js", "/seg/traits"] {
        for (sid, user) in [("sid=ceo-session; ", Some("ceo")), ("", None)] {
            let answer = get(&edge, path, &format!("{sid}{stale}")).send().await;
            let text = answer.text();
            assert!(!text.contains("john"), "{path} {sid}: {text}");
            let lines = answer.all("set-cookie").join("\n");
            assert!(!lines.contains("ajs_user_id=john"), "{path} {sid}: {lines}");
            match user {
                Some(user) => {
                    assert!(lines.contains(&format!("ajs_user_id={user}; ")), "{path}: {lines}");
                }
                None => assert!(lines.contains("ajs_user_id=; "), "{path}: {lines}"),
            }
        }
    }
}

/// Every way by which a browser's id could come to stand for a user's.
#[tokio::test]
async fn a_browsers_id_never_opens_a_users_profile() {
    let (origin, vendor) = (origin().await, Vendor::start().await);
    let edge = edge(setup(&origin, &vendor, NEW, "")).await;
    let push = async |event: serde_json::Value| {
        let request =
            edge.request("POST", "/seg/profiles-webhook").header("Authorization", "Basic dTpw");
        assert_eq!(request.body(event.to_string()).send().await.status, 200);
    };
    // The victim's own browser, whose id a link has planted.
    let identify =
        json!({"userId": "ceo", "anonymousId": "planted", "context": {"user_hash": CEO_HASH}});
    let mine = edge.event("i", &identify).send().await;
    assert!(is_rich(&get(&edge, "/", &jar(&mine)).send().await));
    // A stranger's event that comes back by the vendor's webhook.
    push(json!({"type": "identify", "userId": "ceo", "anonymousId": "returned", "traits": {}}))
        .await;
    // A link from before, or by an operator.
    assert!(edge.cli(&["profile", "link", "anonymous_id:before", "user_id:ceo"]).await.0);
    // What was given to a browser's own id shows.
    push(json!({"type": "identify", "anonymousId": "own", "traits": {"salary": 7}})).await;
    for id in ["planted", "returned", "before"] {
        let cookie = format!("ajs_anonymous_id={id}");
        let page = get(&edge, "/", &cookie).send().await;
        assert!(!is_rich(&page), "{id}");
        assert_eq!(get(&edge, "/seg/traits", &cookie).send().await.json(), json!({}), "{id}");
        let event =
            edge.event("t", &json!({"event": "x", "anonymousId": id})).header("Cookie", &cookie);
        assert_eq!(event.send().await.status, 200);
    }
    assert!(is_rich(&get(&edge, "/", "ajs_anonymous_id=own").send().await));
    for event in vendor.until(4).await {
        assert!(event["context"].get("profile").is_none(), "{event}");
    }
}

#[tokio::test]
async fn logging_out_leaves_nothing_of_the_user_on_the_next_page() {
    let (origin, vendor) = (origin().await, Vendor::start().await);
    let edge = edge(setup(&origin, &vendor, NEW, "")).await;
    let cookies = jar(&get(&edge, "/login", "").send().await);
    assert!(is_rich(&get(&edge, "/", &cookies).send().await));
    let before = cookies.split("; ").find(|pair| pair.starts_with("ajs_anonymous_id=")).unwrap();
    let out = get(&edge, "/logout", &cookies).send().await;
    // Nor on that very page.
    assert!(!out.text().contains("1000000") && !out.text().contains(r#""u":"#), "{}", out.text());
    let after = out.cookie("ajs_anonymous_id").unwrap();
    assert!(!before.ends_with(&after));
    assert!(out.text().contains(&format!(r#""a":"{after}""#)), "{}", out.text());
    let next = get(&edge, "/", &jar(&out)).send().await;
    assert!(!is_rich(&next) && next.text().contains(r#""e":"#), "{}", next.text());
    // The id that has ended is nobody's, also where something brings it back.
    let mark = out.cookie("doorstep_ended").unwrap();
    let back = get(&edge, "/", &format!("doorstep_ended={mark}; {before}")).send().await;
    assert!(!before.ends_with(&back.cookie("ajs_anonymous_id").unwrap()));
    // Whoever comes next at this browser is another user, and becomes another browser.
    let again = get(&edge, "/login", "ajs_user_id=mary; ajs_anonymous_id=marys").send().await;
    let lines = again.all("set-cookie").join("\n");
    assert!(
        lines.contains("ajs_user_id=ceo") && !lines.contains("ajs_anonymous_id=marys"),
        "{lines}"
    );
}

/// What was set for a user is not left to whoever comes next.
#[tokio::test]
async fn a_traits_cookie_goes_with_its_user() {
    let (origin, vendor) = (origin().await, Vendor::start().await);
    let edge = edge(
        setup(&origin, &vendor, NEW, "")
            .site("trait_cookies: [{ name: pay, value: string(traits.salary), readable: true }]"),
    )
    .await;
    let cookies = jar(&get(&edge, "/login", "").send().await);
    let page = get(&edge, "/", &cookies).send().await;
    assert_eq!(page.cookie("pay").as_deref(), Some("1000000"));
    let cookies = format!("{cookies}; pay=1000000");
    let mary = cookies.replace("ajs_user_id=ceo", "ajs_user_id=mary");
    for (what, request) in [
        ("a logout", get(&edge, "/logout", &cookies)),
        ("a reset", edge.request("POST", "/seg/reset").header("Cookie", &cookies)),
        ("another user", get(&edge, "/login", &mary)),
    ] {
        let answer = request.send().await;
        let ends = answer.all("set-cookie").iter().any(|line| line.starts_with("pay=;"));
        assert!(ends, "{what}: {:?}", answer.all("set-cookie"));
    }
}

/// The profile of the cookies' user stands in events of that user alone.
#[tokio::test]
async fn an_event_about_somebody_else_has_no_profile_of_the_cookies_user() {
    let (origin, vendor) = (origin().await, Vendor::start().await);
    let edge = edge(setup(&origin, &vendor, NEW, "")).await;
    let cookies = jar(&get(&edge, "/login", "").send().await);
    for (kind, event) in [
        // After `reset` in the page, before the edge has heard of it.
        ("t", json!({"event": "x", "anonymousId": "next"})),
        ("i", json!({"userId": "mary", "anonymousId": "marys"})),
        (
            "b",
            json!({"batch": [{"type": "track", "event": "x", "userId": "mary", "anonymousId": "marys"}]}),
        ),
    ] {
        let event = edge.event(kind, &event).header("Cookie", &cookies);
        assert_eq!(event.send().await.status, 200);
    }
    for event in vendor.until(3).await {
        assert!(event["context"].get("profile").is_none(), "{event:#}");
    }
}

/// A vendor pushes what anybody has sent to it, and a user may say any browser's id.
#[tokio::test]
async fn what_is_a_users_is_handed_to_nobody_by_an_event() {
    let (origin, vendor) = (origin().await, Vendor::start().await);
    let edge = edge(setup(&origin, &vendor, NEW, "")).await;
    let push = async |event: serde_json::Value| {
        let request =
            edge.request("POST", "/seg/profiles-webhook").header("Authorization", "Basic dTpw");
        assert_eq!(request.body(event.to_string()).send().await.status, 200);
    };
    let mail = json!({"externalIds": [{"type": "email", "id": "ceo@shop.example"}]});
    let known = json!({"type": "identify", "userId": "ceo", "anonymousId": "ceos", "traits": {}, "context": mail});
    push(known).await;
    for event in [
        json!({"type": "alias", "userId": "mallory", "previousId": "ceo"}),
        json!({"type": "alias", "userId": "mallory", "previousId": "ceos"}),
        json!({"type": "identify", "userId": "mallory", "anonymousId": "ceos", "traits": {}, "context": mail}),
    ] {
        push(event).await;
    }
    let lead = async |key: &str| edge.cli(&["profile", "get", key]).await.1;
    for key in ["user_id:ceo", "anonymous_id:ceos", "email:ceo@shop.example"] {
        let told = lead(key).await;
        assert!(told.contains("1000000") && !told.contains("mallory"), "{key}: {told}");
    }
}

/// Where the check knows the session as one user, and the cookies still name another.
#[tokio::test]
async fn an_event_has_no_profile_of_another_than_it_names() {
    let (origin, vendor) = (origin().await, Vendor::start().await);
    let check = format!(
        ", check: {{ url: 'http://127.0.0.1:{}/whoami', cookie: sid, fresh_for: 10m }}",
        origin.port
    );
    let edge = edge(setup(&origin, &vendor, NEW, &check)).await;
    let cookies = "sid=ceo-session; ajs_user_id=mary; ajs_anonymous_id=marys";
    let event = edge.event("t", &json!({"event": "x"})).header("Cookie", cookies);
    assert_eq!(event.send().await.status, 200);
    let event = vendor.until(1).await.pop().unwrap();
    assert!(event["userId"] == "ceo" || event["context"].get("profile").is_none(), "{event:#}");
}

/// What the origin says of the visitor counts, also where its answer is not the one that is shown.
#[tokio::test]
async fn a_chosen_page_that_is_not_shown_has_its_say() {
    let (origin, vendor) = (origin().await, Vendor::start().await);
    let edge = edge(setup(&origin, &vendor, NEW, "")).await;
    let login = get(&edge, "/login", "").send().await;
    let ceo = jar(&login);
    assert!(is_rich(&get(&edge, "/", &ceo).send().await));
    for (page, sid) in [("ended", "sid="), ("lost", "sid="), ("left", "sid="), ("other", "sid=m")] {
        let answer = get(&edge, &format!("/my/{page}"), &ceo).send().await;
        let (text, lines) = (answer.text(), answer.all("set-cookie").join("\n"));
        // The page that everybody gets.
        assert!(text.ends_with(&format!("</head>/my/{page}")), "{page}: {text}");
        assert!(!text.contains("1000000") && !text.contains("ceo"), "{page}: {text}");
        assert!(lines.lines().any(|line| line.split(';').next() == Some(sid)), "{page}: {lines}");
        let user = answer.cookie("ajs_user_id").unwrap_or_default();
        assert_eq!(user, if page == "other" { "mary" } else { "" }, "{page}: {lines}");
    }
    assert!(!origin.asked().iter().any(|asked| asked.target == "/rich/new"));
    let moved = get(&edge, "/my/moved", &ceo).send().await;
    assert!(moved.text().ends_with("</head>/rich/new") && moved.text().contains("1000000"));
    assert!(moved.all("set-cookie").contains(&"sid=kept"), "{moved:?}");
}

/// A second cookie beside the session's, which any host of the domain can set, logs nobody out.
#[tokio::test]
async fn two_sessions_say_nothing() {
    let (origin, vendor) = (origin().await, Vendor::start().await);
    let check = format!(
        ", check: {{ url: 'http://127.0.0.1:{}/whoami', cookie: sid, fresh_for: 10m }}",
        origin.port
    );
    let edge = edge(setup(&origin, &vendor, NEW, &check)).await;
    let cookies = "sid=ceo-session; sid=tossed; ajs_user_id=ceo; ajs_anonymous_id=b";
    let page = get(&edge, "/", cookies).send().await;
    assert!(!is_rich(&page));
    let lines = page.all("set-cookie").join("\n");
    assert!(!lines.contains("ajs_user_id=; ") && !lines.contains("doorstep_ended"), "{lines}");
}

/// Whoever has many sessions that are slow, or fail, keeps no other from being asked for.
#[tokio::test]
async fn one_network_does_not_silence_the_check() {
    let (origin, vendor) = (origin().await, Vendor::start().await);
    let check = format!(
        ", check: {{ url: 'http://127.0.0.1:{}/whoami', cookie: sid, fresh_for: 3s }}",
        origin.port
    );
    let setup = setup(&origin, &vendor, NEW, &check).node("trusted_proxies: [127.0.0.1]");
    let edge = edge(setup).await;
    let from = |address: &str, sid: &str| {
        get(&edge, "/", &format!("sid={sid}")).header("X-Forwarded-For", address)
    };
    for n in 0..20 {
        let address = if n % 2 == 0 { "192.0.2.1".into() } else { format!("2001:db8:0:{n}::1") };
        assert!(!is_rich(&from(&address, &format!("broken-{n}")).send().await));
    }
    assert!(is_rich(&from("192.0.2.2", "ceo-session").send().await));
    // Several networks without an answer: the check is down. What it has said before counts a while.
    for n in 0..6 {
        assert!(!is_rich(&from(&format!("198.51.100.{n}"), &format!("broken-a{n}")).send().await));
    }
    let asked = origin.asked().len();
    let fresh = from("203.0.113.1", "mary-session").send().await;
    assert!(!is_rich(&fresh));
    let asked = &origin.asked()[asked..];
    assert!(!asked.iter().any(|asked| asked.target == "/whoami"), "{asked:?}");
    assert!(is_rich(&from("192.0.2.2", "ceo-session").send().await));
}

/// An event can name any browser: one that is known is handed over by itself alone.
#[tokio::test]
async fn a_browser_that_is_known_is_handed_over_by_itself_alone() {
    let (origin, vendor) = (origin().await, Vendor::start().await);
    let edge = edge(setup(&origin, &vendor, NEW, "")).await;
    let push =
        json!({"type": "identify", "anonymousId": "victims", "traits": {"secret": "s3cret"}});
    let request =
        edge.request("POST", "/seg/profiles-webhook").header("Authorization", "Basic dTpw");
    assert_eq!(request.body(push.to_string()).send().await.status, 200);
    let identify = |cookies: &str| {
        let context = json!({"user_hash": CEO_HASH});
        let event = json!({"userId": "ceo", "anonymousId": "victims", "context": context});
        edge.event("i", &event).header("Cookie", cookies)
    };
    let told = async || edge.cli(&["profile", "get", "user_id:ceo"]).await.1;
    for cookies in ["", "ajs_anonymous_id=other"] {
        assert_eq!(identify(cookies).send().await.status, 200);
        assert!(!told().await.contains("s3cret"), "{cookies}");
    }
    assert_eq!(identify("ajs_anonymous_id=victims").send().await.status, 200);
    assert!(told().await.contains("s3cret"));
}

/// A preview link explains a page to whoever has it: what is known of somebody is told to its owner alone.
#[tokio::test]
async fn an_explanation_tells_nobody_what_is_known_of_another() {
    let (origin, vendor) = (origin().await, Vendor::start().await);
    let edge = edge(setup(&origin, &vendor, NEW, "")).await;
    let (made, link) =
        edge.cli(&["preview", "--variant", "e=a", "--explain", "http://shop.example/"]).await;
    assert!(made, "{link}");
    let path = link.trim().strip_prefix("http://shop.example").unwrap();
    let explained = async |cookies: &str| {
        let page = get(&edge, path, cookies).send().await;
        page.header("x-doorstep-explain").unwrap().to_owned()
    };
    let typed = explained("ajs_user_id=ceo; ajs_anonymous_id=b").await;
    assert!(!typed.contains("1000000"), "{typed}");
    let login = get(&edge, "/login", "").send().await;
    let own = explained(&jar(&login)).await;
    assert!(own.contains("1000000"), "{own}");
}
