//! The SDK's files on the site's own host.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;

use crate::support::edge::{Setup, WRITE_KEY};
use crate::support::server::{Piece, Reply, Server};
use crate::support::vendor::Vendor;

#[tokio::test]
async fn files_know_neither_the_vendor_nor_the_key_and_tell_it_nothing() {
    let vendor = Vendor::start().await;
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    for path in
        ["/seg/assets/sdk.js", "/seg/ajs/abc", "/seg/analytics.js/v1/REDACTED/analytics.min.js"]
    {
        let request = edge.request("GET", path).header("Cookie", "ajs_user_id=john; sid=secret");
        let request = request
            .header("Authorization", "Basic c2l0ZQ==")
            .header("Referer", "https://shop.example/private");
        let sdk = request
            .header("User-Agent", "Browser/1")
            .header("X-Forwarded-For", "192.0.2.1")
            .send()
            .await;
        assert_eq!(
            sdk.text(),
            "key='REDACTED';cdn=\"http://shop.example/seg\";api=\"shop.example/seg/evs\"\n"
        );
        assert_eq!(sdk.header("set-cookie"), None);
        assert_eq!(sdk.header("access-control-allow-origin"), Some("*"));
    }
    let asked = vendor.files();
    assert_eq!(asked.len(), 1, "one fetch for three names of one file");
    assert_eq!(asked[0].target, format!("/analytics.js/v1/{WRITE_KEY}/analytics.min.js"));
    let mut names: Vec<_> = asked[0]
        .head
        .lines()
        .skip(1)
        .filter_map(|line| Some(line.split_once(':')?.0.to_lowercase()))
        .collect();
    names.sort();
    assert_eq!(names, ["accept", "accept-encoding", "host", "user-agent"]);
    assert_eq!(
        asked[0].header("user-agent"),
        Some(concat!("doorstep/", env!("CARGO_PKG_VERSION")))
    );
}

#[tokio::test]
async fn settings_lead_to_the_sites_own_host() {
    let vendor = Vendor::start().await;
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    let request = edge
        .request("GET", "/seg/v1/projects/REDACTED/settings")
        .header("Host", "www.shop.example:8080");
    let settings = request.send().await.json();
    let own = &settings["integrations"]["Segment.io"];
    assert_eq!(own["apiHost"], "www.shop.example:8080/seg/evs");
    assert_eq!((&own["protocol"], &own["apiKey"]), (&"http".into(), &"REDACTED".into()));
    assert_eq!(settings["metrics"]["host"], "www.shop.example:8080/seg/evs");
    assert_eq!(settings["metrics"]["sampleRate"], 1);
    // Another host of the site does not get this one's.
    let other = edge.get("/seg/v1/projects/REDACTED/settings").await.json();
    assert_eq!(other["integrations"]["Segment.io"]["apiHost"], "shop.example/seg/evs");
}

#[tokio::test]
async fn files_are_stored_encoded_once_and_confirmed() {
    let vendor = Vendor::start().await;
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    let get = |coding: &str| {
        edge.request("GET", "/seg/assets/sdk.js").header("Accept-Encoding", coding).send()
    };
    let first = get("gzip, br").await;
    assert_eq!(
        (first.header("content-encoding"), first.header("vary")),
        (Some("br"), Some("accept-encoding"))
    );
    let second = get("gzip, br").await;
    assert_eq!(first.body, second.body);
    let etag = second.header("etag").unwrap().to_owned();
    assert_eq!(first.header("etag"), Some(etag.as_str()));
    assert!(etag.starts_with('"'), "strong: {etag}");
    assert!(second.header("content-length").is_some());
    let gzip = get("gzip").await;
    assert!(
        gzip.header("content-encoding") == Some("gzip")
            && gzip.header("etag") != Some(etag.as_str())
    );
    assert_eq!(vendor.files().len(), 2, "one fetch for each coding");

    let same = edge.request("GET", "/seg/assets/sdk.js").header("Accept-Encoding", "br");
    let same = same.header("If-None-Match", &etag).send().await;
    assert_eq!((same.status, same.body.len()), (304, 0));
    let head =
        edge.request("HEAD", "/seg/assets/sdk.js").header("Accept-Encoding", "br").send().await;
    assert_eq!((head.status, head.header("etag")), (200, Some(etag.as_str())));
    let part = edge.request("GET", "/seg/assets/sdk.js").header("Range", "bytes=0-3").send().await;
    assert_eq!(part.status, 200);
    edge.becomes("doorstep_cache_lookups_total", &[("result", "miss")], 3.0).await;
    edge.reaches("doorstep_cache_lookups_total", &[("result", "hit")], 3.0).await;
    edge.reaches("doorstep_cache_bytes", &[], 4000.0).await;

    // No validator of the CDN's: named by content.
    let integration = "/seg/next-integrations/integrations/x/1/x.dynamic.js.gz";
    assert_eq!(edge.get(integration).await.text(), "integration()");
    assert!(edge.get(integration).await.header("etag").is_some());
}

#[tokio::test]
async fn a_cdn_that_is_down_is_not_noticed_while_there_is_a_copy() {
    let vendor = Vendor::start().await;
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    let short = "/seg/analytics-next/bundles/short.js";
    assert_eq!(edge.get(short).await.text(), "short()");
    vendor.mood.cdn_down.store(true, Ordering::SeqCst);
    // Its life was over at once: an old copy serves while a new one is asked for, and after.
    for _ in 0..5 {
        let stale = edge.get(short).await;
        assert_eq!((stale.status, stale.text()), (200, "short()".into()));
    }
    edge.reaches("doorstep_cache_lookups_total", &[("result", "stale")], 5.0).await;
    let target = "/analytics-next/bundles/short.js";
    vendor.server.until(target, 2).await;
    let unknown = edge.get("/seg/analytics-next/bundles/a.bundle.1.js").await;
    assert!((500..=504).contains(&unknown.status), "{}", unknown.status);
    assert!(!unknown.text().contains("segment.com"));
    vendor.mood.cdn_down.store(false, Ordering::SeqCst);
    assert_eq!(
        edge.get("/seg/analytics-next/bundles/a.bundle.1.js").await.text(),
        "bundle('http://shop.example/seg')"
    );
}

#[tokio::test]
async fn what_the_cdn_gets_wrong_leads_no_browser_to_it() {
    let vendor = Vendor::start().await;
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    let moved = edge.get("/seg/analytics-next/bundles/moved.js").await;
    assert_eq!((moved.status, moved.header("location")), (502, None));
    let missing = edge.get("/seg/analytics-next/bundles/missing.js").await;
    assert_eq!((missing.status, missing.text()), (404, "not found\n".into()));
    assert_eq!(missing.header("cache-control"), Some("no-store"));
    // Broken bytes must not look whole, and are not stored.
    let mut connection = crate::support::client::Connection::open(edge.port).await;
    connection.write(edge.request("GET", "/seg/analytics-next/bundles/broken.js").bytes()).await;
    let broken = connection.answer("GET").await;
    assert!(broken.is_none_or(|answer| answer.status >= 500));
    let nobody = Setup::new(1).start().await;
    assert_eq!(nobody.get("/seg/assets/sdk.js").await.status, 502);
    let wrong = edge.request("POST", "/seg/assets/sdk.js").body("x").send().await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET, HEAD")));
}

#[tokio::test]
async fn a_thousand_at_once_are_one_fetch() {
    let vendor = Vendor::start().await;
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    let all = futures::future::join_all((0..200).map(|_| edge.get("/seg/assets/sdk.js"))).await;
    assert!(all.iter().all(|answer| answer.status == 200));
    assert_eq!(vendor.files().len(), 1);
}

#[tokio::test]
async fn a_file_that_comes_in_pieces_is_served_whole() {
    let (go, second) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (wait, at_second) = (Arc::clone(&go), Arc::clone(&second));
    let cdn = Server::start(move |_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/javascript\r\nContent-Length: 9\r\n\r\n";
        Reply(vec![
            Piece::Bytes(format!("{head}one").into_bytes()),
            Piece::Wait(Arc::clone(&wait)),
            Piece::Bytes(b"two".to_vec()),
            Piece::Tell(Arc::clone(&at_second)),
            Piece::Wait(Arc::clone(&wait)),
            Piece::Bytes(b"end".to_vec()),
        ])
    })
    .await;
    let edge = Setup::new(1).vendor(cdn.port).start().await;
    let answers =
        async { tokio::join!(edge.get("/seg/assets/sdk.js"), edge.get("/seg/assets/sdk.js")) };
    let pieces = async {
        cdn.until(&format!("/analytics.js/v1/{WRITE_KEY}/analytics.min.js"), 1).await;
        // A permit is kept until it is waited for, so that none is lost.
        go.notify_one();
        second.notified().await;
        go.notify_one();
    };
    let ((first, second), ()) = tokio::join!(answers, pieces);
    assert_eq!((first.text(), second.text()), ("onetwoend".into(), "onetwoend".into()));
    assert_eq!(cdn.asked().len(), 1);
}

#[tokio::test]
async fn the_cache_is_bounded() {
    let cdn = Server::start(|asked| {
        Reply::new(
            200,
            &["Content-Type: text/javascript", "Cache-Control: max-age=600"],
            asked.target.repeat(2000),
        )
    })
    .await;
    let edge = Setup::new(1).vendor(cdn.port).node("cache: { memory: 1MiB }").start().await;
    for n in 0..60 {
        assert_eq!(
            edge.get(&format!("/seg/analytics-next/bundles/file-number-{n}.js")).await.status,
            200
        );
    }
    let bytes = edge.metric("doorstep_cache_bytes", &[]).await;
    assert!(bytes < 1.2 * 1024.0 * 1024.0, "{bytes}");
    edge.reaches("doorstep_cache_evictions_total", &[], 10.0).await;
}

/// Also where browsers speak HTTP/2.
#[tokio::test]
async fn an_old_file_is_renewed_over_http2() {
    let vendor = Vendor::start().await;
    let (edge, secure, roots, _folder) =
        crate::tls::site_of(Setup::new(1).vendor(vendor.port())).await;
    let tls = crate::tls::connect(secure, "shop.example", &roots, b"h2").await;
    let (client, connection) = h2::client::handshake(tls).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let target = "/analytics-next/bundles/short.js";
    let asked = || vendor.files().iter().filter(|asked| asked.target == target).count();
    for _ in 0..2 {
        let uri = format!("https://shop.example/seg{target}");
        let request = http::Request::get(uri).body(()).unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    }
    crate::support::eventually("the old file is fetched again", || async {
        (asked() >= 2).then_some(())
    })
    .await;
    driver.abort();
    drop(edge);
}

/// One file serves all names that a client can make up, and each of them leads browsers back to itself.
#[tokio::test]
async fn a_file_is_fetched_once_whatever_a_client_calls_the_site() {
    let vendor = Vendor::start().await;
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    let get = async |host: &str, coding: &str| {
        let request = edge.request("GET", "/seg/assets/sdk.js").header("Host", host);
        request.header("Accept-Encoding", coding).send().await
    };
    let own = format!("shop.example:{}", edge.port);
    for host in ["shop.example", "SHOP.example.", "shop.example:80", &own] {
        assert_eq!(get(host, "br").await.status, 200, "{host}");
    }
    assert_eq!(vendor.files().len(), 2, "with and without the listener's port");
    for number in 0..20 {
        for host in [format!("shop.example:{}", 1000 + number), format!("n{number}.shop.example")] {
            for coding in ["br", "identity"] {
                let sdk = get(&host, coding).await;
                assert_eq!(
                    sdk.text(),
                    format!("key='REDACTED';cdn=\"http://{host}/seg\";api=\"{host}/seg/evs\"\n")
                );
                assert!(sdk.header("etag").unwrap().starts_with("W/"), "{sdk:?}");
            }
        }
    }
    assert_eq!(vendor.files().len(), 3, "and one for all the others");
    let small = edge.request("GET", "/seg/assets/sdk.js").header("Host", "n1.shop.example");
    let small = small.header("Accept-Encoding", "gzip, br").send().await;
    assert_eq!(small.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    let mut unpacked = flate2::read::GzDecoder::new(&small.body[..]);
    std::io::Read::read_to_string(&mut unpacked, &mut text).unwrap();
    assert!(text.contains("http://n1.shop.example/seg"), "{text}");
    let tag = small.header("etag").unwrap();
    let same = edge.request("GET", "/seg/assets/sdk.js").header("Host", "n2.shop.example");
    assert_eq!(same.header("If-None-Match", tag).send().await.status, 304);
}

/// Who asks for files that nobody has keeps nobody from those that are there.
#[tokio::test]
async fn fetches_are_bounded_and_stored_files_go_on() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let cdn = Server::start(move |asked| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/javascript\r\nContent-Length: 2\r\n\r\n";
        let whole = Piece::Bytes(format!("{head}ok").into_bytes());
        if asked.target.contains("invented") {
            return Reply(vec![Piece::Wait(Arc::clone(&wait)), whole]);
        }
        Reply(vec![whole])
    })
    .await;
    let edge = Setup::new(1).vendor(cdn.port).start().await;
    assert_eq!(edge.get("/seg/assets/sdk.js").await.status, 200);
    let invented: Vec<String> =
        (0..24).map(|n| format!("/seg/analytics-next/bundles/invented-{n}.js")).collect();
    let requests = invented.iter().map(|path| edge.request("GET", path).send());
    let asking = tokio::spawn(futures::future::join_all(requests));
    crate::support::eventually("all places are taken", || async {
        (cdn.asked().len() == 17).then_some(())
    })
    .await;
    assert_eq!(edge.get("/seg/assets/sdk.js").await.status, 200);
    let more = edge.get("/seg/analytics-next/bundles/one-more.js").await;
    assert_eq!((more.status, more.header("retry-after")), (503, Some("1")), "{more:?}");
    crate::support::eventually("all are answered", || async {
        // Those that have not begun to wait are waked the next time.
        go.notify_waiters();
        asking.is_finished().then_some(())
    })
    .await;
    let answers = asking.await.unwrap();
    let refused = answers.iter().filter(|answer| answer.status == 503).count();
    assert_eq!((answers.iter().filter(|answer| answer.status == 200).count(), refused), (16, 8));
    // There is room again.
    assert_eq!(edge.get("/seg/analytics-next/bundles/one-more.js").await.status, 200);
}

#[tokio::test]
async fn a_file_that_is_missing_is_told_plainly_to_every_host_of_a_site() {
    let vendor = Vendor::start().await;
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    vendor.mood.no_bundles.store(true, Ordering::SeqCst);
    // The last two are below a pattern: their files are made for each.
    for host in ["shop.example", "shop.example", "a.shop.example", "b.shop.example"] {
        let asked = edge.request("GET", "/seg/analytics-next/bundles/1.bundle.js");
        let asked = asked.header("Host", host).header("Accept-Encoding", "gzip");
        let missing = asked.send().await;
        assert_eq!((missing.status, missing.header("content-encoding")), (404, None), "{host}");
        assert_eq!(missing.text(), "not found\n", "{host}");
    }
}
