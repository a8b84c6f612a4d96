use serde_json::{Value, json};

use super::*;

const SPEC: &Spec = &crate::vendor::segment::EVENTS;

fn visitor() -> Visitor {
    Visitor {
        user: UserId::parse("john").ok(),
        anonymous: AnonymousId::parse("browser").ok(),
        ..Visitor::default()
    }
}

fn given(visitor: &Visitor) -> Given<'_> {
    Given {
        visitor,
        ip: Ip::Is("192.0.2.7".parse().unwrap()),
        user_agent: Some("Test/1"),
        place: None,
        profile: None,
        consent: None,
    }
}

fn sent(kind: Kind, body: &Value) -> (Value, Enriched) {
    let visitor = visitor();
    let given = given(&visitor);
    let enriched = enrich(kind, body.to_string().as_bytes(), &given, SPEC).unwrap();
    (serde_json::from_slice(&enriched.parcels[0].body).unwrap(), enriched)
}

#[test]
fn what_is_no_event_is_refused() {
    let nobody = Visitor::default();
    let given = given(&nobody);
    for (kind, body) in [
        (Kind::Track, "[]"),
        (Kind::Track, ""),
        (Kind::Track, "{\"a\":"),
        (Kind::Track, "\u{feff}{}"),
        (Kind::Batch, "{}"),
        (Kind::Batch, r#"{"batch":[]}"#),
        (Kind::Metrics, "{}"),
    ] {
        assert!(enrich(kind, body.as_bytes(), &given, SPEC).is_err(), "{body}");
    }
}

#[test]
fn an_event_of_a_batch_costs_no_other_one() {
    let nobody = Visitor::default();
    let taken = |batch: &Value| {
        let enriched = enrich(Kind::Batch, batch.to_string().as_bytes(), &given(&nobody), SPEC);
        let enriched = enriched.unwrap();
        let why = |(place, why): &(usize, BadEvent)| (*place, why.is_too_large());
        let refused: Vec<(usize, bool)> = enriched.refused.iter().map(why).collect();
        (enriched.parcels.len(), refused, enriched.ids)
    };
    let track = |user: &str| json!({"type": "track", "userId": user, "anonymousId": "b"});
    let mut large = track("mary");
    large["a"] = "x".repeat(MAX_EVENT_BYTES).into();
    let batch = json!({"batch": [track("john"), 1, large, {"type": "delete"}, track("john"), {}]});
    let (parcels, refused, ids) = taken(&batch);
    assert_eq!((parcels, refused), (2, vec![(1, false), (2, true), (3, false), (5, false)]));
    assert_eq!(ids.user.unwrap().as_str(), "john");
    let mut large = track("mary");
    large["a"] = "x".repeat(MAX_EVENT_BYTES).into();
    let (_, _, ids) = taken(&json!({"batch": [track("john"), large]}));
    assert_eq!(ids.user.unwrap().as_str(), "john", "who is refused has said nothing");
    // What is common leaves with each: it counts for each.
    let common = json!({"context": {"a": "x".repeat(MAX_EVENT_BYTES)},
        "batch": [{"type": "track", "context": {}}, {"type": "track"}]});
    assert_eq!(taken(&common).1, [(1, true)]);
    // And for all of them together.
    let event = json!({"type": "track"});
    let many =
        json!({"context": {"a": "x".repeat(MAX_EVENT_BYTES - 1000)}, "batch": vec![event; 100]});
    let (parcels, refused, _) = taken(&many);
    assert!((60..64).contains(&parcels) && refused.len() == 100 - parcels, "{parcels}");
}

/// An event that is not too large is not made so: what the edge adds is left out, or the sender is told.
/// Brackets in brackets, and a byte that is no text: of one event, or of what all of them share.
#[test]
fn a_batch_outlives_what_one_of_its_events_is() {
    let nobody = Visitor::default();
    let deep = "[".repeat(200) + &"]".repeat(200);
    let good = r#"{"type":"track","event":"a","anonymousId":"b"}"#;
    let take = |body: &[u8]| enrich(Kind::Batch, body, &given(&nobody), SPEC);
    let bad = format!(r#"{{"type":"track","properties":{{"x":{deep}}}}}"#);
    let taken = take(format!(r#"{{"batch":[{good},{bad},{good}]}}"#).as_bytes()).unwrap();
    assert_eq!(taken.parcels.len(), 2);
    assert!(matches!(taken.refused[..], [(1, BadEvent::TooDeep)]), "{:?}", taken.refused);
    let shared = format!(r#"{{"batch":[{good}],"context":{{"x":{deep}}}}}"#);
    assert!(matches!(take(shared.as_bytes()), Err(BadEvent::TooDeep)));
    let mut bytes = format!(r#"{{"batch":[{good},{{"type":"track","event":"?"}}]}}"#).into_bytes();
    let at = bytes.iter().position(|byte| *byte == b'?').unwrap();
    bytes[at] = 0xff;
    let taken = take(&bytes).unwrap();
    assert!(taken.refused.is_empty());
    let event: Value = serde_json::from_slice(&taken.parcels[1].body).unwrap();
    assert_eq!(event["event"], "\u{fffd}");
}

#[test]
fn what_leaves_is_no_larger_than_a_vendor_takes() {
    let visitor = visitor();
    let raw = |json: Value| RawValue::from_string(json.to_string()).unwrap();
    let place = raw(json!({"city": "y".repeat(2000)}));
    let traits = raw(json!({"plan": "z".repeat(2000)}));
    let known = KnownProfile { traits: &traits, user: visitor.user.as_ref() };
    for spec in [SPEC, &crate::vendor::rudderstack::EVENTS] {
        let mut seen = std::collections::BTreeSet::new();
        for bytes in (25_000..MAX_EVENT_BYTES).step_by(97) {
            let body = json!({"properties": {"x": "x".repeat(bytes)}}).to_string();
            let given = Given { place: Some(&place), profile: Some(known), ..given(&visitor) };
            let Ok(enriched) = enrich(Kind::Track, body.as_bytes(), &given, spec) else {
                seen.insert("refused");
                continue;
            };
            let leaves = &enriched.parcels[0].body;
            assert!(leaves.len() + STAMP_BYTES <= MAX_EVENT_BYTES);
            let event: Value = serde_json::from_slice(leaves).unwrap();
            let has = |name: &str| event["context"].get(name).is_some();
            seen.insert(match (has("profile"), has("edge")) {
                (true, true) => "whole",
                (false, true) => "without the profile",
                (false, false) => "bare",
                (true, false) => "without the place",
            });
        }
        let all = ["bare", "refused", "whole", "without the profile"];
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), all);
    }
}

#[test]
fn only_types_that_pages_send_leave() {
    let batch = json!({"batch": [{"type": "delete", "userId": "john"}, {"type": "track"}, {}]});
    let nobody = Visitor::default();
    let given = given(&nobody);
    let enriched = enrich(Kind::Batch, batch.to_string().as_bytes(), &given, SPEC).unwrap();
    assert_eq!(enriched.parcels.len(), 1);
}

#[test]
fn the_edge_adds_what_the_page_lacks_and_keeps_what_it_says() {
    let (event, _) = sent(
        Kind::Track,
        &json!({"event": "x", "writeKey": "REDACTED",
        "context": {"library": {"name": "analytics.js", "version": "1.84"}}}),
    );
    assert_eq!(event["anonymousId"], "browser");
    assert_eq!(event["userId"], "john");
    assert_eq!(event["context"]["ip"], "192.0.2.7");
    assert_eq!(event["context"]["userAgent"], "Test/1");
    let version = concat!("edge-", env!("CARGO_PKG_VERSION"), ":1.84");
    assert_eq!(event["context"]["library"], json!({"name": "analytics.js", "version": version}));
    assert_eq!(event["_metadata"]["jsRuntime"], "doorstep");
    assert!(event.get("writeKey").is_none());
    assert!(event["messageId"].as_str().unwrap().starts_with("edge-"));

    let (event, enriched) = sent(
        Kind::Page,
        &json!({"anonymousId": "browser", "userId": "mary",
        "messageId": "m1", "context": {"ip": "0.0.0.0", "userAgent": "own"}}),
    );
    assert_eq!((&event["userId"], &event["messageId"]), (&json!("mary"), &json!("m1")));
    assert_eq!(event["context"]["ip"], "0.0.0.0");
    assert_eq!(event["context"]["userAgent"], "own");
    assert_eq!(enriched.ids.user.unwrap().as_str(), "mary");
}

#[test]
fn after_a_reset_nobody_is_taken_for_the_last_user() {
    let (event, enriched) = sent(Kind::Page, &json!({"anonymousId": "new", "userId": null}));
    assert_eq!((&event["userId"], enriched.ids.user), (&Value::Null, None));
    let (event, _) = sent(Kind::Page, &json!({"anonymousId": "browser", "userId": null}));
    assert_eq!(event["userId"], "john");
}

#[test]
fn every_event_of_a_batch_is_enriched() {
    let (_, enriched) = sent(
        Kind::Batch,
        &json!({"writeKey": "x", "context": {"ip": "198.51.100.1"},
        "batch": [{"type": "page", "context": {}}, {"type": "track", "writeKey": "y"}]}),
    );
    let event = |number: usize| -> Value {
        serde_json::from_slice(&enriched.parcels[number].body).unwrap()
    };
    assert_eq!(enriched.parcels.len(), 2);
    assert_eq!(event(0)["context"]["ip"], "192.0.2.7");
    assert_eq!(event(1)["context"]["ip"], "198.51.100.1");
    assert!(event(1).get("writeKey").is_none() && event(1)["timestamp"].is_string());
    let reports = br#"{"series":[{"value":1.50},{}]}"#;
    let nobody = Visitor::default();
    let enriched = enrich(Kind::Metrics, reports, &given(&nobody), SPEC).unwrap();
    assert!(enriched.parcels.is_empty(), "no event");
    let reports: Vec<&str> = enriched.reports.iter().map(|report| report.get()).collect();
    assert_eq!(reports, [r#"{"value":1.50}"#, "{}"]);
}

fn limited(visitor: &Visitor) -> Given<'_> {
    Given { consent: Some(Consent::Limited), ip: Ip::HIDDEN, ..given(visitor) }
}

#[test]
fn who_may_not_be_known_is_not() {
    let visitor = visitor();
    let place = json!({"continent": "EU", "country": "DE", "city": "Munich", "latitude": 48.1});
    let place = RawValue::from_string(place.to_string()).unwrap();
    let given = Given {
        place: Some(&place),
        profile: Some(KnownProfile { traits: &place, user: None }),
        ..limited(&visitor)
    };
    let body = json!({
        "userId": "john", "anonymousId": "browser", "messageId": "m1", "previousId": "j@x.example",
        "rudderId": "r", "event": "Bought", "timestamp": "2026-01-02T03:04:05.678Z",
        "properties": {"price": 5, "url": "https://shop.example/?own=words"},
        "integrations": {"All": true, "Amplitude": {"session_id": 7}},
        "context": {
            "ip": "192.0.2.1", "traits": {"email": "x"}, "groupId": "g", "user_hash": "h",
            "externalIds": [{"id": "+4912345", "type": "phone"}], "profile": {"plan": "gold"},
            "device": {"id": "d", "advertisingId": "a", "type": "ios"},
            "location": {"country": "DE", "city": "Munich"}, "timezone": "Europe/Berlin",
            "campaign": {"source": "mail", "name": "sale", "recipient": "j@x.example"},
            "page": {"path": "/a", "url": "https://shop.example/a?email=j@x.example&gclid=1#b",
                "search": "?email=j@x.example&gclid=1", "title": "A", "referrer": ""},
            "userAgentData": {"mobile": false, "platform": "Linux", "model": "X1",
                "brands": [{"brand": "Chromium", "version": "150", "id": 5}]},
            "consent": {"categoryPreferences": {"Analytics": true, "Advertising": "no"}, "id": "c"},
            "library": {"name": "analytics.js", "version": "1.84"},
        },
        "_metadata": {"bundled": ["Segment.io"], "userId": "john"},
    });
    let track = enrich(Kind::Track, body.to_string().as_bytes(), &given, SPEC).unwrap();
    let event: Value = serde_json::from_slice(&track.parcels[0].body).unwrap();
    let version = concat!("edge-", env!("CARGO_PKG_VERSION"), ":1.84");
    assert_eq!(
        event,
        json!({
            "anonymousId": "browser", "messageId": "m1", "type": "track", "event": "Bought",
            "timestamp": "2026-01-02T03:04:05.678Z",
            "properties": {"price": 5, "url": "https://shop.example/?own=words"},
            "integrations": {"All": true},
            "context": {
                "ip": "0.0.0.0", "device": {"type": "ios"}, "location": {"country": "DE"},
                "edge": {"continent": "EU", "country": "DE"}, "timezone": "Europe/Berlin",
                "campaign": {"source": "mail", "name": "sale"},
                "page": {"path": "/a", "url": "https://shop.example/a", "title": "A", "referrer": ""},
                "userAgent": "Test/1",
                "userAgentData": {"mobile": false, "platform": "Linux",
                    "brands": [{"brand": "Chromium", "version": "150"}]},
                "consent": {"edge": "limited", "categoryPreferences": {"Analytics": true}},
                "library": {"name": "analytics.js", "version": version},
            },
            "_metadata": {"bundled": ["Segment.io"], "jsRuntime": "doorstep"},
        })
    );
    assert!(track.ids.user.is_none() && track.ids.user_hash.is_none());
    assert_eq!(track.ids.anonymous.unwrap().as_str(), "browser");
}

#[test]
fn what_the_sdk_says_of_the_page_is_bare_in_the_properties_of_a_page_view_too() {
    let visitor = visitor();
    let page = json!({"url": "https://shop.example/a?e=j@x.example", "search": "?e=j@x.example",
        "path": "/a", "referrer": "https://mail.example/#john", "title": "A", "price": 5});
    let sent = |page: &Value| {
        let body = json!({"properties": page, "context": {"page": page}}).to_string();
        let sent = enrich(Kind::Page, body.as_bytes(), &limited(&visitor), SPEC).unwrap();
        serde_json::from_slice::<Value>(&sent.parcels[0].body).unwrap()
    };
    let mut bare = json!({"url": "https://shop.example/a", "path": "/a",
        "referrer": "https://mail.example/", "title": "A"});
    assert_eq!(sent(&page)["context"]["page"], bare);
    bare["price"] = 5.into();
    assert_eq!(sent(&page)["properties"], bare);
    // A page's own word of this name is no query.
    assert_eq!(sent(&json!({"search": "shoes"}))["properties"], json!({"search": "shoes"}));
}

#[test]
fn what_says_who_somebody_is_does_not_leave_without_full_consent() {
    let visitor = visitor();
    let limited = limited(&visitor);
    for kind in [Kind::Identify, Kind::Group, Kind::Alias, Kind::Metrics] {
        assert!(enrich(kind, b"{}", &limited, SPEC).unwrap().parcels.is_empty(), "{kind:?}");
    }
    let batch = json!({"batch": [{"type": "identify"}, {"type": "track"}, {}]});
    let batch = enrich(Kind::Batch, batch.to_string().as_bytes(), &limited, SPEC).unwrap();
    assert_eq!(batch.parcels.len(), 1);
    let denied = Given { consent: Some(Consent::Denied), ..limited };
    assert!(enrich(Kind::Track, b"{}", &denied, SPEC).unwrap().parcels.is_empty());
    for (whole, part) in [("192.0.2.77", "192.0.2.0"), ("2001:db8:1:2::3", "2001:db8:1::")] {
        let ip = Ip::anonymised(whole.parse().unwrap());
        assert_eq!(ip, Ip::Only(part.parse().unwrap()));
    }
}

#[test]
fn events_say_what_was_decided_about_consent() {
    let visitor = visitor();
    let sent = |context: &Value, consent: Option<Consent>| {
        let given = Given { consent, ..given(&visitor) };
        let body = json!({ "context": context }).to_string();
        let sent = enrich(Kind::Track, body.as_bytes(), &given, SPEC).unwrap();
        let event: Value = serde_json::from_slice(&sent.parcels[0].body).unwrap();
        event["context"].clone()
    };
    let said = json!({"consent": {"edge": "given", "categoryPreferences": {"a": true, "b": "c"}},
        "consentManagement": {"allowedConsentIds": ["C0001", {"id": 1}], "deniedConsentIds": []}});
    assert_eq!(
        sent(&said, None)["consent"],
        said["consent"],
        "the page's own, where nobody decides"
    );
    let given = sent(&said, Some(Consent::Given));
    assert_eq!(given["consent"], said["consent"]);
    assert_eq!(given["consentManagement"], said["consentManagement"]);
    let limited = sent(&said, Some(Consent::Limited));
    assert_eq!(
        (&limited["consent"], &limited["consentManagement"]),
        (
            &json!({"edge": "limited", "categoryPreferences": {"a": true}}),
            &json!({"allowedConsentIds": ["C0001"], "deniedConsentIds": []})
        )
    );
    assert_eq!(
        sent(&json!({"consent": 1}), Some(Consent::Given))["consent"],
        json!({"edge": "given"})
    );
    assert_eq!(sent(&json!({}), None).get("consent"), None);
}

#[test]
fn ids_leave_in_one_form() {
    for (written, user) in
        [(json!(777), "777"), (json!(777.0), "777"), (json!(true), "true"), (json!("777"), "777")]
    {
        let (event, enriched) = sent(
            Kind::Track,
            &json!({"userId": written, "anonymousId": 5, "previousId": 6, "groupId": 7,
                "context": {"groupId": 8, "externalIds": [{"id": 9, "type": "crm"}],
                    "externalId": [{"id": 1.5, "type": "crm"}]}}),
        );
        assert_eq!(
            (&event["userId"], &event["anonymousId"], &event["previousId"], &event["groupId"]),
            (&json!(user), &json!("5"), &json!("6"), &json!("7"))
        );
        assert_eq!(event["context"]["externalIds"], json!([{"id": "9", "type": "crm"}]));
        assert_eq!(event["context"]["externalId"], json!([{"id": "1.5", "type": "crm"}]));
        assert_eq!(event["context"]["groupId"], "8");
        assert_eq!(enriched.ids.user.unwrap().as_str(), user);
        assert_eq!(enriched.ids.anonymous.unwrap().as_str(), "5");
    }
    // A script that knows nobody: the browser's own user. What is no id: nobody else in its place.
    for (written, user) in [
        (json!(null), json!("john")),
        (json!(""), json!("john")),
        (json!("undefined"), json!("john")),
        (json!("null"), json!("john")),
        (json!(["mary"]), Value::Null),
        (json!({"id": "mary"}), Value::Null),
        (json!("x".repeat(257)), Value::Null),
        (json!("a\nb"), Value::Null),
    ] {
        let (event, enriched) = sent(Kind::Track, &json!({"userId": written}));
        assert_eq!((&event["userId"], enriched.ids.user), (&user, None), "{written}");
    }
}

#[test]
fn time_keeps_its_meaning_after_a_delay() {
    let right = "2020-01-01T00:00:00.000Z";
    let (event, _) = sent(Kind::Track, &json!({"timestamp": right, "messageId": "m"}));
    assert_eq!((&event["timestamp"], &event["messageId"]), (&json!(right), &json!("m")));
    // Sent at once, by a clock that is years behind: it happened just now.
    let wrong = json!({"timestamp": right, "sentAt": "2020-01-01T00:00:01.000Z"});
    let (event, _) = sent(Kind::Track, &wrong);
    let said = humantime::parse_rfc3339_weak(event["timestamp"].as_str().unwrap()).unwrap();
    let ago = std::time::SystemTime::now().duration_since(said).unwrap();
    assert!((1..5).contains(&ago.as_secs()), "{ago:?}");
    assert!(event.get("sentAt").is_none(), "the batch has one");
    assert_eq!(event["type"], "track");
}
