//! Profiles in a real Redis: shared by nodes, and lost, slow or wrong in every way that it can be.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::edge::{Edge, Setup};
use crate::support::eventually;
use crate::support::proxy::Proxy;
use crate::support::redis::{Cluster, Redis, Watched};
use crate::support::server::{Reply, Server};
use crate::support::vendor::Vendor;

const LOGIN: &str = "Basic dXNlcjpwYXNz"; // user:pass
/// What a page may wait for its profile, and what this machine may add on top.
const WAIT: Duration = Duration::from_millis(25);

async fn origin() -> Server {
    Server::start(|asked| Reply::html(format!("<head></head>{}", asked.target))).await
}

/// A node whose home page says what it knows, with `store` for its profiles.
async fn node(origin: &Server, store: &str) -> Edge {
    node_with(origin, store, "").await
}

async fn node_with(origin: &Server, store: &str, memory: &str) -> Edge {
    Setup::new(origin.port)
        .node(&format!("profiles: {{ memory: {{ {memory} }}, store: {{ redis: {{ {store} }} }} }}"))
        .node("access_log: { sample: 1 }")
        .site("webhook: { username: user, password: pass }")
        .site("variations:\n- route: /\n  choose:\n  - { when: traits.red, path: /red }")
        .site("client_traits: { n: traits.n, who: traits.who }")
        .start()
        .await
}

fn single(url: &str) -> String {
    format!("urls: ['{url}']")
}

async fn push(edge: &Edge, push: Value) -> u16 {
    let request = edge.request("POST", "/seg/profiles-webhook").header("Authorization", LOGIN);
    request.body(push.to_string()).send().await.status
}

#[allow(clippy::needless_pass_by_value, reason = "reads better where it is called")]
fn identify(user: &str, traits: Value) -> Value {
    json!({"type": "identify", "userId": user, "traits": traits})
}

/// The page that `user` gets.
async fn page(edge: &Edge, user: &str) -> String {
    let answer =
        edge.request("GET", "/").header("Cookie", &format!("ajs_user_id={user}")).send().await;
    assert_eq!(answer.status, 200);
    answer.text().rsplit("</head>").next().unwrap_or_default().to_owned()
}

async fn traits(edge: &Edge, cookie: &str) -> Value {
    edge.request("GET", "/seg/traits").header("Cookie", cookie).send().await.json()
}

/// Once the node is connected and hears.
async fn hears(edge: &Edge) {
    edge.becomes("doorstep_profile_channel_up", &[], 1.0).await;
}

/// John is known to be red, and the node has heard of it itself: nothing is on its way any more.
async fn john_is_red(edge: &Edge) {
    hears(edge).await;
    assert_eq!(push(edge, identify("john", json!({"red": true}))).await, 200);
    edge.reaches("doorstep_profile_propagation_seconds_count", &[], 1.0).await;
    becomes(edge, "john", "/red").await;
}

/// Sends until it is taken, as a sender does.
async fn push_until_taken(edge: &Edge, what: Value) {
    eventually("taken", || async { (push(edge, what.clone()).await == 200).then_some(()) }).await;
}

/// Waits for the page to be one, without ever waiting too long for a page.
async fn becomes(edge: &Edge, user: &str, expected: &str) {
    eventually(&format!("{user} gets {expected}"), || async {
        (page(edge, user).await == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_write_on_one_node_shows_on_the_others() {
    let (redis, origin) = (Redis::start().await, origin().await);
    let memory = "fresh_for: 1h, missing_for: 1h";
    let one = node_with(&origin, &single(&redis.url()), memory).await;
    let two = node_with(&origin, &single(&redis.url()), memory).await;
    hears(&one).await;
    hears(&two).await;
    assert_eq!(page(&two, "john").await, "/");
    for red in [true, false, true] {
        assert_eq!(push(&one, identify("john", json!({"red": red}))).await, 200);
        // On the node itself at once, on the other as soon as it hears: by time alone it would be
        // an hour.
        assert_eq!(page(&one, "john").await, if red { "/red" } else { "/" });
        becomes(&two, "john", if red { "/red" } else { "/" }).await;
    }
    one.reaches("doorstep_profile_propagation_seconds_count", &[], 3.0).await;
    let type_of = redis.cli(&["TYPE", "doorstep:{shop:user_id:john}"]);
    assert_eq!(type_of, "hash", "one hash a profile");
}

#[tokio::test]
async fn links_and_deletions_reach_every_node() {
    let (redis, origin) = (Redis::start().await, origin().await);
    let memory = "fresh_for: 1h, missing_for: 1h";
    let one = node_with(&origin, &single(&redis.url()), memory).await;
    let two = node_with(&origin, &single(&redis.url()), memory).await;
    hears(&one).await;
    hears(&two).await;
    let browser = "ajs_anonymous_id=b1";
    push(&one, json!({"type": "identify", "anonymousId": "b1", "traits": {"n": 1}})).await;
    eventually("known by its own id", || async {
        (traits(&two, browser).await == json!({"n": 1})).then_some(())
    })
    .await;
    push(&one, identify("john", json!({"who": "john"}))).await;
    // The page's own identify leads from the browser to the user, and takes its traits along.
    let event = json!({"type": "identify", "userId": "john", "anonymousId": "b1"});
    assert_eq!(one.event("i", &event).send().await.status, 200);
    eventually("known by the user's", || async {
        (traits(&two, browser).await == json!({"n": 1, "who": "john"})).then_some(())
    })
    .await;
    assert_eq!(traits(&two, "ajs_user_id=john").await, json!({"n": 1, "who": "john"}));
    let deleted = one
        .request("DELETE", "/seg/profiles-webhook?anonymous_id=b1")
        .header("Authorization", LOGIN)
        .send()
        .await;
    assert_eq!(deleted.status, 200, "{}", deleted.text());
    eventually("forgotten", || async {
        let gone = traits(&two, browser).await == json!({});
        (gone && traits(&two, "ajs_user_id=john").await == json!({})).then_some(())
    })
    .await;
    let left = redis.cli(&["HKEYS", "doorstep:{shop:user_id:john}"]);
    assert!(!left.contains("t:"), "{left}");
    assert_eq!(redis.cli(&["EXISTS", "doorstep:{shop:anonymous_id:b1}"]), "0");
}

/// Two nodes, ten thousand updates that race, repeat and come in any order: one outcome, the one
/// that the model gives.
#[tokio::test]
async fn racing_nodes_converge() {
    use doorstep::profile::{Profile, Update};
    let (redis, origin) = (Redis::start().await, origin().await);
    let one = node(&origin, &single(&redis.url())).await;
    let two = node(&origin, &single(&redis.url())).await;
    hears(&one).await;
    hears(&two).await;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut model: BTreeMap<String, Profile> = BTreeMap::default();
    let mut batches: Vec<Vec<Value>> = Vec::new();
    for _ in 0..100 {
        let mut batch = Vec::new();
        for _ in 0..50 {
            let user = format!("u{}", random(8));
            let second = random(20);
            let value = match random(6) {
                0 => Value::Null,
                1 => json!(true),
                2 => json!(format!("ü\u{1f600}{}", random(3))),
                3 => json!({"b": [1, 2.5, null], "a": random(3)}),
                _ => json!(random(5)),
            };
            let name = format!("t{}", random(4));
            let at = format!("2026-01-01T00:00:{second:02}Z");
            batch.push(json!({"type": "identify", "userId": user, "timestamp": at, "traits": {&name: value}}));
            let millis = 1_767_225_600_000 + i64::try_from(second).unwrap() * 1000;
            let update = Update::new(millis, [(name.as_str().into(), value)]);
            model.entry(user).or_default().merge(&update, millis).unwrap();
        }
        batches.push(batch);
    }
    // Each batch goes to both nodes, in another order, at the same time.
    let send = |edge: &Edge, order: Vec<Vec<Value>>| {
        let requests: Vec<_> = order
            .into_iter()
            .map(|batch| {
                edge.request("POST", "/seg/profiles-webhook")
                    .header("Authorization", LOGIN)
                    .body(Value::from(batch).to_string())
            })
            .collect();
        async move {
            for chunk in requests.into_iter().collect::<Vec<_>>().chunks_mut(8) {
                let sending = chunk.iter().map(|request| async move {
                    let mut connection =
                        crate::support::client::Connection::open(request.port()).await;
                    connection.write(request.bytes()).await;
                    connection.answer("POST").await.expect("an answer")
                });
                for answer in futures::future::join_all(sending).await {
                    assert_eq!(answer.status, 200, "{}", answer.text());
                }
            }
        }
    };
    let mut reversed: Vec<Vec<Value>> = batches.clone();
    reversed.reverse();
    for batch in &mut reversed {
        batch.reverse();
    }
    tokio::join!(send(&one, batches), send(&two, reversed));
    for (user, expected) in model {
        let hash = redis.cli(&["HGETALL", &format!("doorstep:{{shop:user_id:{user}}}")]);
        let lines: Vec<&str> = hash.lines().collect();
        let stored: BTreeMap<&str, (i64, Value)> = lines
            .chunks(2)
            .filter_map(|pair| {
                let (at, json) = pair[1].split_once(':')?;
                Some((
                    pair[0].strip_prefix("t:")?,
                    (at.parse().ok()?, serde_json::from_str(json).ok()?),
                ))
            })
            .collect();
        let expected: BTreeMap<&str, (i64, Value)> =
            expected.entries().map(|one| (one.name, (one.at, one.value()))).collect();
        assert_eq!(stored, expected, "{user}");
    }
}

/// A page while the store is in trouble: right, and in time.
async fn in_time(edge: &Edge, user: &str) -> String {
    // The machine may be busy with other tests: one of several pages in time shows that pages do
    // not wait for the store.
    let mut fastest = Duration::MAX;
    let mut last = String::new();
    for _ in 0..8 {
        let asked = Instant::now();
        last = page(edge, user).await;
        fastest = fastest.min(asked.elapsed());
    }
    assert!(fastest < WAIT + Duration::from_millis(15), "{fastest:?}");
    last
}

#[tokio::test]
async fn a_stopped_redis_costs_no_page_and_old_profiles_serve() {
    let (redis, origin) = (Redis::start().await, origin().await);
    let edge = node_with(&origin, &single(&redis.url()), "fresh_for: 200ms").await;
    hears(&edge).await;
    john_is_red(&edge).await;
    redis.signal(Signal::SIGSTOP);
    // Nobody can know whether it is only slow, until its time is over. Then what is known serves.
    eventually("old profiles serve", || async {
        page(&edge, "john").await;
        let stale = &[("tier", "memory"), ("result", "stale")];
        (edge.metric("doorstep_profile_lookups_total", stale).await >= 1.0).then_some(())
    })
    .await;
    assert_eq!(in_time(&edge, "john").await, "/red");
    assert_eq!(in_time(&edge, "stranger").await, "/");
    let marked = r#""personalization":"personalized","stale_profile":true"#;
    eventually("the log marks them", || async { edge.log().contains(marked).then_some(()) }).await;
    assert_eq!(push(&edge, identify("john", json!({"red": false}))).await, 503);
    edge.becomes("doorstep_profile_channel_up", &[], 0.0).await;
    redis.signal(Signal::SIGCONT);
    hears(&edge).await;
    push_until_taken(&edge, identify("john", json!({"red": false}))).await;
    becomes(&edge, "john", "/").await;
}

#[tokio::test]
async fn old_profiles_serve_no_longer_than_they_may() {
    let (mut redis, origin) = (Redis::start().await, origin().await);
    let memory = "fresh_for: 100ms, stale_if_error: 1s";
    let edge = node_with(&origin, &single(&redis.url()), memory).await;
    hears(&edge).await;
    john_is_red(&edge).await;
    let known = Instant::now();
    redis.kill();
    let mut served_for = Duration::ZERO;
    eventually("john is not known any more", || async {
        (page(&edge, "john").await == "/").then_some(())
    })
    .await;
    served_for += known.elapsed();
    assert!(served_for < Duration::from_millis(1100) + Duration::from_secs(2), "{served_for:?}");
    let late = &[("outcome", "late")];
    edge.reaches("doorstep_personalization_total", late, 1.0).await;
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_is_believed() {
    let (mut redis, origin) = (Redis::start().await, origin().await);
    let edge = node_with(&origin, &single(&redis.url()), "fresh_for: 1h").await;
    hears(&edge).await;
    john_is_red(&edge).await;
    redis.kill();
    edge.becomes("doorstep_profile_channel_up", &[], 0.0).await;
    assert_eq!(in_time(&edge, "john").await, "/red");
    redis.restart().await;
    hears(&edge).await;
    becomes(&edge, "john", "/").await;
    push_until_taken(&edge, identify("john", json!({"red": true}))).await;
    becomes(&edge, "john", "/red").await;
}

#[tokio::test]
async fn a_partition_is_noticed_and_what_was_missed_is_read_again() {
    let (redis, origin) = (Redis::start().await, origin().await);
    let proxy = Proxy::to(redis.port).await;
    let one = node(&origin, &single(&redis.url())).await;
    let two = node_with(&origin, &single(&proxy.url()), "fresh_for: 1h").await;
    hears(&one).await;
    hears(&two).await;
    push(&one, identify("john", json!({"red": true}))).await;
    becomes(&two, "john", "/red").await;
    proxy.line.cut.store(true, Ordering::SeqCst);
    push(&one, identify("john", json!({"red": false}))).await;
    // Nothing tells the node; that nothing is heard does.
    two.becomes("doorstep_profile_channel_up", &[], 0.0).await;
    in_time(&two, "john").await;
    proxy.line.cut.store(false, Ordering::SeqCst);
    becomes(&two, "john", "/").await;
}

#[tokio::test]
async fn a_slow_redis_is_waited_for_only_so_long() {
    let (redis, origin) = (Redis::start().await, origin().await);
    let proxy = Proxy::to(redis.port).await;
    let edge = node(&origin, &single(&proxy.url())).await;
    hears(&edge).await;
    push(&edge, identify("john", json!({"red": true}))).await;
    proxy.line.delay.store(60, Ordering::SeqCst);
    // Late for the first page, there for a later one.
    assert_eq!(in_time(&edge, "john").await, "/red");
    edge.reaches("doorstep_personalization_total", &[("outcome", "late")], 1.0).await;
}

#[tokio::test]
async fn a_full_redis_refuses_writes_and_goes_on_reading() {
    let (redis, origin) = (Redis::start().await, origin().await);
    let edge = node_with(&origin, &single(&redis.url()), "fresh_for: 0s").await;
    hears(&edge).await;
    john_is_red(&edge).await;
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(push(&edge, identify("john", json!({"red": false}))).await, 503);
    assert_eq!(in_time(&edge, "john").await, "/red");
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    push_until_taken(&edge, identify("john", json!({"red": false}))).await;
}

/// No change that takes long stands before a page's question.
#[tokio::test]
async fn pages_are_told_while_changes_have_to_wait() {
    let (redis, origin) = (Redis::start().await, origin().await);
    let edge = node_with(&origin, &single(&redis.url()), "fresh_for: 0s").await;
    hears(&edge).await;
    john_is_red(&edge).await;
    redis.cli(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    let (refused, known) =
        tokio::join!(push(&edge, identify("john", json!({"red": false}))), async {
            let mut known = 0;
            for _ in 0..50 {
                known += usize::from(in_time(&edge, "john").await == "/red");
            }
            known
        });
    assert_eq!((refused, known), (503, 50));
    redis.cli(&["CLIENT", "UNPAUSE"]);
    push_until_taken(&edge, identify("john", json!({"red": false}))).await;
}

/// Other servers and other passwords are taken by the process that runs.
#[tokio::test]
async fn a_reload_goes_over_to_another_redis() {
    let (redis, other, origin) = (Redis::start().await, Redis::start().await, origin().await);
    let edge = node_with(&origin, &single(&redis.url()), "fresh_for: 1h, missing_for: 1h").await;
    hears(&edge).await;
    john_is_red(&edge).await;
    assert_eq!(page(&edge, "jane").await, "/");
    other.cli(&["HSET", "doorstep:{shop:user_id:jane}", "t:red", "1:true"]);
    redis.cli(&["CONFIG", "SET", "requirepass", "new"]);
    redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    let yaml = std::fs::read_to_string(&edge.file).unwrap();
    let with_password = redis.url().replace("redis://", "redis://:new@");
    std::fs::write(&edge.file, yaml.replace(&redis.url(), &with_password)).unwrap();
    let (taken, told) = edge.cli(&["reload"]).await;
    assert!(taken && told.contains("by the process that runs"), "{told}");
    push_until_taken(&edge, identify("john", json!({"red": false}))).await;
    becomes(&edge, "john", "/").await;

    // A server that has other profiles: what is in memory is asked for again.
    std::fs::write(&edge.file, yaml.replace(&redis.url(), &other.url())).unwrap();
    assert!(edge.cli(&["reload"]).await.0);
    becomes(&edge, "jane", "/red").await;
    hears(&edge).await;
    push_until_taken(&edge, identify("jane", json!({"red": false}))).await;
    becomes(&edge, "jane", "/").await;
}

#[tokio::test]
async fn a_master_that_becomes_a_replica_is_left() {
    let (redis, origin) = (Redis::start().await, origin().await);
    let edge = node_with(&origin, &single(&redis.url()), "fresh_for: 0s").await;
    hears(&edge).await;
    john_is_red(&edge).await;
    redis.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_eq!(push(&edge, identify("john", json!({"red": false}))).await, 503, "READONLY");
    becomes(&edge, "john", "/red").await;
    redis.cli(&["REPLICAOF", "NO", "ONE"]);
    push_until_taken(&edge, identify("john", json!({"red": false}))).await;
}

#[tokio::test]
async fn a_redis_that_is_loading_counts_as_down() {
    let (mut redis, origin) = (Redis::with("enable-debug-command local").await, origin().await);
    let edge = node_with(&origin, &single(&redis.url()), "fresh_for: 200ms").await;
    hears(&edge).await;
    john_is_red(&edge).await;
    // Loading these takes it a second for each thousand.
    redis.cli(&["EVAL", "for i = 1, 10000 do redis.call('SET', 'x' .. i, 'y') end", "0"]);
    redis.cli(&["SAVE"]);
    redis.slow_to_load();
    redis.kill();
    redis.start_again();
    eventually("LOADING", || async { redis.cli(&["GET", "x1"]).contains("LOADING").then_some(()) })
        .await;
    assert_eq!(in_time(&edge, "john").await, "/red");
    assert_eq!(push(&edge, identify("john", json!({"red": false}))).await, 503);
}

#[tokio::test]
async fn a_failover_under_sentinel_is_followed() {
    let (mut watched, origin) = (Watched::start().await, origin().await);
    let store = format!(
        "urls: ['{}'], mode: sentinel, master: {{ name: shop }}, connect_timeout: 500ms",
        watched.sentinel.url()
    );
    let edge = node_with(&origin, &store, "fresh_for: 300ms").await;
    hears(&edge).await;
    john_is_red(&edge).await;
    eventually("replicated", || async {
        watched
            .replica
            .cli(&["HGET", "doorstep:{shop:user_id:john}", "t:red"])
            .contains("true")
            .then_some(())
    })
    .await;
    watched.master.kill();
    assert_eq!(in_time(&edge, "john").await, "/red");
    push_until_taken(&edge, identify("john", json!({"red": true, "n": 2}))).await;
    hears(&edge).await;
    // The connection for pages follows by itself.
    eventually("the new master's traits", || async {
        (traits(&edge, "ajs_user_id=john").await == json!({"n": 2})).then_some(())
    })
    .await;
    assert!(watched.replica.cli(&["INFO", "replication"]).contains("role:master"));
}

#[tokio::test]
async fn a_cluster_serves_and_tells_all_nodes() {
    let (mut cluster, origin) = (Cluster::start().await, origin().await);
    let store = format!("urls: [{}], mode: cluster", cluster.urls());
    let memory = "fresh_for: 1h, missing_for: 1h";
    let one = node_with(&origin, &store, memory).await;
    let two = node_with(&origin, &store, memory).await;
    hears(&one).await;
    hears(&two).await;
    let users: Vec<String> = (0..30).map(|n| format!("user{n}")).collect();
    for user in &users {
        assert_eq!(page(&two, user).await, "/");
        assert_eq!(push(&one, identify(user, json!({"red": true}))).await, 200);
    }
    for user in &users {
        becomes(&two, user, "/red").await;
    }
    // Keys of one profile stand in one slot.
    let event = json!({"type": "identify", "userId": "user1", "anonymousId": "b}1"});
    assert_eq!(one.event("i", &event).send().await.status, 200);
    let deleted = one.request("DELETE", "/seg/profiles-webhook?anonymous_id=b%7D1");
    assert_eq!(deleted.header("Authorization", LOGIN).send().await.status, 200);
    becomes(&two, "user1", "/").await;
    // A third of the keys is gone with one node; pages go on, in time.
    cluster.0[2].kill();
    for user in users.iter().take(6) {
        in_time(&one, user).await;
    }
}

#[tokio::test]
async fn only_what_is_needed_needs_to_be_allowed() {
    let origin = origin().await;
    // As the README has it.
    let readme =
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"))
            .unwrap();
    let line = readme.lines().find(|line| line.starts_with("ACL SETUSER doorstep")).unwrap();
    let rule = line.trim_start_matches("ACL SETUSER doorstep").replace(">PASSWORD", ">secret");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/profile/store");
    let scripts = ["link", "unlink", "merge", "delete"].map(|name| format!("redis/{name}.lua"));
    for file in ["redis.rs".to_owned(), "redis/channel.rs".to_owned()].iter().chain(&scripts) {
        let source = std::fs::read_to_string(folder.join(file)).unwrap();
        for (call, end) in [("cmd(\"", '"'), ("redis.call('", '\'')] {
            for rest in source.split(call).skip(1) {
                let command = rest.split(end).next().unwrap().to_lowercase();
                let allowed = rule.split(' ').any(|word| word == format!("+{command}"));
                assert!(allowed, "{file}: README does not allow {command}");
            }
        }
    }
    let redis = Redis::with(&format!("user doorstep {rule}\nuser default off")).await;
    let url = format!("redis://doorstep:secret@127.0.0.1:{}", redis.port);
    let edge = node(&origin, &single(&url)).await;
    hears(&edge).await;
    assert_eq!(push(&edge, identify("john", json!({"red": true}))).await, 200);
    becomes(&edge, "john", "/red").await;
    let event = json!({"type": "identify", "userId": "john", "anonymousId": "b"});
    assert_eq!(edge.event("i", &event).send().await.status, 200);
    let linked = json!({"type": "identify", "userId": "john", "anonymousId": "b", "traits": {}});
    assert_eq!(push(&edge, linked).await, 200);
    let deleted = edge.request("DELETE", "/seg/profiles-webhook?user_id=john");
    assert_eq!(deleted.header("Authorization", LOGIN).send().await.status, 200);
    assert_eq!(page(&edge, "john").await, "/");
}

#[tokio::test]
async fn redis_over_tls_is_checked_against_the_authority_that_is_named() {
    let origin = origin().await;
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let at = folder.path().display();
    std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let tls = crate::support::port();
    let redis = Redis::with(&format!(
        "tls-port {tls}\ntls-cert-file {at}/cert.pem\ntls-key-file {at}/key.pem\n\
         tls-ca-cert-file {at}/cert.pem\ntls-auth-clients no\nrequirepass pw"
    ))
    .await;
    let url = format!("rediss://:pw@127.0.0.1:{tls}");
    let edge = node(&origin, &format!("urls: ['{url}'], ca_file: {at}/cert.pem")).await;
    hears(&edge).await;
    assert_eq!(push(&edge, identify("john", json!({"red": true}))).await, 200);
    becomes(&edge, "john", "/red").await;
    let stranger = node(&origin, &single(&url)).await;
    assert_eq!(push(&stranger, identify("john", json!({"red": false}))).await, 503);
    eventually("it says so", || async {
        stranger.log().contains("the profile store can't be connected").then_some(())
    })
    .await;
    drop(redis);
}

#[tokio::test]
async fn what_nobody_writes_is_forgotten_by_redis() {
    let (redis, origin) = (Redis::start().await, origin().await);
    let edge = Setup::new(origin.port)
        .node(&format!(
            "profiles: {{ expire_after: 1h, store: {{ redis: {{ urls: ['{}'], key_prefix: 'x:' }} }} }}",
            redis.url()
        ))
        .site("webhook: { username: user, password: pass }")
        .start()
        .await;
    hears(&edge).await;
    push(&edge, identify("john", json!({"red": true}))).await;
    let left: u32 = redis.cli(&["TTL", "x:{shop:user_id:john}"]).parse().unwrap();
    assert!((3500..=3600).contains(&left), "{left}");
}

#[tokio::test]
async fn replicas_may_answer() {
    let (master, origin) = (Redis::start().await, origin().await);
    let replica = Redis::with(&format!("replicaof 127.0.0.1 {}", master.port)).await;
    eventually("the replica follows", || async {
        replica.cli(&["INFO", "replication"]).contains("master_link_status:up").then_some(())
    })
    .await;
    let store =
        format!("urls: ['{}', '{}'], read_from_replicas: true", master.url(), replica.url());
    let edge = node_with(&origin, &store, "fresh_for: 1h, missing_for: 1h").await;
    hears(&edge).await;
    push(&edge, identify("john", json!({"red": true}))).await;
    becomes(&edge, "john", "/red").await;
    push(&edge, identify("john", json!({"red": false}))).await;
    becomes(&edge, "john", "/").await;
    let asked = |redis: &Redis| redis.cli(&["INFO", "commandstats"]).contains("cmdstat_hgetall");
    assert!(asked(&replica) && !asked(&master));
}

#[tokio::test]
async fn a_person_who_is_deleted_on_one_node_is_in_no_event_of_another() {
    let (redis, origin) = (Redis::start().await, origin().await);
    let vendor = Vendor::start().await;
    vendor.mood.api_status.store(503, std::sync::atomic::Ordering::SeqCst);
    let node = || {
        Setup::new(origin.port)
            .vendor(vendor.port())
            .node(&format!("profiles: {{ store: {{ redis: {{ {} }} }} }}", single(&redis.url())))
            .site("webhook: { username: user, password: pass }")
    };
    let (one, two) = (node().start().await, node().start().await);
    hears(&one).await;
    hears(&two).await;
    for (user, browser) in [("john", "b"), ("mary", "c")] {
        let event = json!({"type": "identify", "userId": user, "anonymousId": browser});
        assert_eq!(one.event("i", &event).send().await.status, 200);
        let event = json!({"type": "track", "event": user, "anonymousId": browser});
        assert_eq!(one.event("t", &event).send().await.status, 200);
    }
    one.becomes("doorstep_events_paused", &[], 1.0).await;
    let forget = two.request("DELETE", "/seg/personas?user_id=john").header("Authorization", LOGIN);
    assert_eq!(forget.send().await.status, 200);
    eventually("the other node has erased them", || async {
        let (_, out) = one.cli(&["events", "status"]).await;
        out.contains("2 events waiting").then_some(())
    })
    .await;
    let folder = one.folder.path().join("data/events/shop.segment");
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(memchr::memmem::find(&bytes, b"john").is_none());
    }
    // Who comes back is taken again.
    let event = json!({"type": "track", "event": "again", "userId": "john"});
    assert_eq!(one.event("t", &event).send().await.status, 200);
    let before = vendor.events().len();
    vendor.mood.api_status.store(200, std::sync::atomic::Ordering::SeqCst);
    one.becomes("doorstep_events_waiting", &[], 0.0).await;
    let late = vendor.delivered_since(before);
    assert!(late.iter().any(|event| event["event"] == "again"));
    assert!(late.iter().any(|event| event["event"] == "mary"));
    // Also what was in memory, waiting for the vendor.
    let his = |event: &&Value| {
        event["event"] == "john" || event["type"] == "identify" && event["userId"] == "john"
    };
    assert_eq!(late.iter().filter(his).count(), 0, "{late:?}");
}

/// More browsers than are remembered of one person: what is left out is not linked either.
#[tokio::test]
async fn a_person_with_very_many_browsers_is_deleted_whole() {
    const BROWSERS: usize = 12_000;
    let (redis, origin) = (Redis::start().await, origin().await);
    let one = node(&origin, &format!("{}, timeout: 10s", single(&redis.url()))).await;
    hears(&one).await;
    let browsers: Vec<Value> = (0..BROWSERS)
        .map(|n| json!({"type": "identify", "userId": "john", "anonymousId": format!("b{n}"), "traits": {}}))
        .collect();
    for some in browsers.chunks(500) {
        assert_eq!(push(&one, json!(some)).await, 200);
    }
    let links = || redis.cli(&["--scan", "--pattern", "doorstep:{shop:anonymous_id:*}"]);
    let listed = redis.cli(&["ZCARD", "doorstep:{shop:user_id:john}:links"]);
    assert_eq!((listed.as_str(), links().lines().count()), ("10000", 10_000));
    let forget = one.request("DELETE", "/seg/personas?user_id=john").header("Authorization", LOGIN);
    assert_eq!(forget.send().await.status, 200);
    assert_eq!(links(), "");
}

/// What only an event says does not lead elsewhere what the site has linked.
#[tokio::test]
async fn an_event_takes_no_browser_from_whom_the_site_has_linked_it_to() {
    let (redis, origin) = (Redis::start().await, origin().await);
    let shared = node(&origin, &single(&redis.url())).await;
    hears(&shared).await;
    let own = Setup::new(origin.port).site("webhook: { username: user, password: pass }");
    for edge in [shared, own.start().await] {
        let pushed =
            json!({"type": "identify", "userId": "john", "anonymousId": "b1", "traits": {"n": 1}});
        assert_eq!(push(&edge, pushed).await, 200);
        let event = json!({"type": "identify", "userId": "mary", "anonymousId": "b1"});
        assert_eq!(edge.event("i", &event).send().await.status, 200);
        let (_, told) = edge.cli(&["profile", "get", "anonymous_id:b1"]).await;
        assert!(told.contains("user_id:john") && !told.contains("mary"), "{told}");
    }
}

/// Lines of as many pushes.
fn many(count: usize) -> String {
    let line = |n| identify(&format!("u{n}"), json!({"n": n})).to_string();
    (0..count).map(line).collect::<Vec<_>>().join("\n")
}

/// Many pushes in one call are taken, and pages beside them know their visitors.
#[tokio::test]
async fn a_large_call_is_taken_and_pages_go_on() {
    let (redis, origin) = (Redis::start().await, origin().await);
    // Each page asks Redis anew, and what Redis does not say nothing else does.
    let profiles = format!(
        "profiles: {{ wait: 5s, memory: {{ fresh_for: 1ms, stale_if_error: 0s }}, store: {{ redis: {{ {} }} }} }}",
        single(&redis.url())
    );
    let edge = Setup::new(origin.port)
        .node(&profiles)
        .site("webhook: { username: user, password: pass }")
        .site("variations:\n- route: /\n  choose:\n  - { when: traits.red, path: /red }")
        .start()
        .await;
    john_is_red(&edge).await;
    let request = edge.request("POST", "/seg/profiles-webhook").header("Authorization", LOGIN);
    let beside = async {
        loop {
            assert_eq!(page(&edge, "john").await, "/red");
        }
    };
    let told = tokio::select! {
        told = request.body(many(8000)).send() => told,
        () = beside => unreachable!(),
    };
    assert_eq!((told.status, &told.json()["taken"]), (200, &json!(8000)), "{}", told.text());
    assert_eq!(redis.cli(&["EXISTS", "doorstep:{shop:user_id:u7999}"]), "1");
}

/// A call that can't be stored fails once, however many pushes it has.
#[tokio::test]
async fn a_call_that_fails_is_one_line_of_the_log() {
    let (mut redis, origin) = (Redis::start().await, origin().await);
    let edge = node(&origin, &single(&redis.url())).await;
    john_is_red(&edge).await;
    redis.kill();
    let request = edge.request("POST", "/seg/profiles-webhook").header("Authorization", LOGIN);
    let told = request.body(many(500)).send().await;
    assert_eq!((told.status, told.header("retry-after")), (503, Some("10")));
    let logged = || edge.log().matches("could not be stored").count();
    eventually("the line", || async { (logged() > 0).then_some(()) }).await;
    // What is said later comes later in the log.
    edge.signal(Signal::SIGQUIT);
    eventually("the next line", || async { edge.log().contains("SIGQUIT").then_some(()) }).await;
    assert_eq!(logged(), 1, "{}", edge.log());
}

/// What is refused of very many is counted, and the first of it listed.
#[tokio::test]
async fn an_answer_lists_only_so_much() {
    let (redis, origin) = (Redis::start().await, origin().await);
    let edge = node(&origin, &single(&redis.url())).await;
    john_is_red(&edge).await;
    let lines = format!("{}\n{}", "0\n".repeat(50_000), identify("mary", json!({"red": true})));
    let request = edge.request("POST", "/seg/profiles-webhook").header("Authorization", LOGIN);
    let told = request.body(lines).send().await.json();
    assert_eq!((&told["taken"], &told["refused_count"]), (&json!(1), &json!(50_000)));
    assert_eq!(told["refused"].as_array().map(Vec::len), Some(100));
}
