//! A configuration is taken while a node runs, and what can't be taken changes nothing.

use std::net::TcpListener;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::client::{Connection, Request};
use crate::support::edge::{Edge, Logs, Setup, WRITE_KEY, next_process};
use crate::support::server::{Reply, Server};
use crate::support::vendor::Vendor;
use crate::support::{eventually, port};

async fn origin() -> Server {
    Server::start(|asked| Reply::html(format!("<head></head>{}", asked.target))).await
}

fn rewrite(edge: &Edge, from: &str, to: &str) {
    let yaml = std::fs::read_to_string(&edge.file).unwrap();
    assert!(yaml.contains(from), "{yaml}");
    std::fs::write(&edge.file, yaml.replace(from, to)).unwrap();
}

/// Sites come, change and go in the process that runs: connections, profiles and what waits stay.
#[tokio::test]
async fn a_change_of_sites_is_taken_in_place() {
    let (origin, vendor) = (origin().await, Vendor::start().await);
    let edge = Setup::new(origin.port)
        .vendor(vendor.port())
        .site("webhook: { username: u, password: p }\nclient_traits: { plan: traits.plan }")
        .site("variations: [{ route: /, choose: [{ when: has(traits.plan), path: /gold }] }]")
        .start()
        .await;
    let push = json!({"type": "identify", "userId": "john", "traits": {"plan": "gold"}});
    let pushed = edge.request("POST", "/seg/personas").header("Authorization", "Basic dTpw");
    assert_eq!(pushed.body(push.to_string()).send().await.status, 200);
    let mut connection = Connection::open(edge.port).await;
    let page = |cookie: &str| edge.request("GET", "/").header("Cookie", cookie).bytes();
    connection.write(page("ajs_user_id=john")).await;
    assert!(connection.answer("GET").await.unwrap().text().ends_with("/gold"));

    rewrite(&edge, "path: /gold", "path: /silver");
    let second = format!(
        "- name: cafe\n  hosts: [cafe.example]\n  origin: {{ address: '127.0.0.1:{}' }}\n  \
         vendor: {{ segment: {{ write_key: cafe-key-123456, cdn: 'http://127.0.0.1:{vendor}', \
         tracking_api: 'http://127.0.0.1:{vendor}/v1' }} }}\n",
        origin.port,
        vendor = vendor.port(),
    );
    let yaml = std::fs::read_to_string(&edge.file).unwrap();
    std::fs::write(&edge.file, yaml.replace(WRITE_KEY, "another-key-12345") + &second).unwrap();
    let (taken, told) = edge.cli(&["reload"]).await;
    assert!(taken && told.contains("by the process that runs"), "{told}");
    assert!((edge.metric("doorstep_config_last_reload_successful", &[]).await - 1.0).abs() < 0.1);
    // The same connection, the same profile in memory, other rules.
    connection.write(page("ajs_user_id=john")).await;
    assert!(connection.answer("GET").await.unwrap().text().ends_with("/silver"));
    let own = Request::new(edge.port, "GET", "/x").header("Host", "cafe.example").send().await;
    assert!(own.text().ends_with("/x"), "{own:?}");
    // Events of both go out with the keys of now.
    let event = json!({"type": "track", "event": "e", "anonymousId": "a"});
    assert_eq!(edge.event("t", &event).send().await.status, 200);
    let of_cafe = Request::new(edge.port, "POST", "/seg/evs/t").header("Host", "cafe.example");
    let of_cafe = of_cafe.header("Content-Type", "text/plain").body(event.to_string());
    assert_eq!(of_cafe.send().await.status, 200);
    let keys = eventually("both are delivered", || async {
        let calls = vendor.events();
        let mut keys: Vec<String> = calls
            .iter()
            .filter_map(|call| call.header("authorization").map(str::to_owned))
            .collect();
        keys.sort();
        (keys.len() == 2).then_some(keys)
    })
    .await;
    // printf 'cafe-key-123456:' | base64; printf 'another-key-12345:' | base64
    let expected = ["Basic Y2FmZS1rZXktMTIzNDU2Og==", "Basic YW5vdGhlci1rZXktMTIzNDU6"];
    let mut expected = expected.map(str::to_owned);
    expected.sort();
    assert_eq!(keys, expected);

    // A site that is gone is nobody's host.
    let yaml = std::fs::read_to_string(&edge.file).unwrap();
    std::fs::write(&edge.file, yaml.replace(&second, "")).unwrap();
    assert!(edge.cli(&["reload"]).await.0);
    let gone = Request::new(edge.port, "GET", "/x").header("Host", "cafe.example").send().await;
    assert_eq!(gone.status, 421);
    assert_eq!(next_process(&edge.log()), None);
}

/// Whatever is wrong with it, the node that runs goes on, and says why.
#[tokio::test]
async fn what_can_not_be_taken_changes_nothing() {
    let origin = origin().await;
    let edge = Setup::new(origin.port).start().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let good = std::fs::read_to_string(&edge.file).unwrap();
    let listeners = format!("listeners: [{{ address: '{taken}' }}, ");
    for (yaml, why) in [
        (good.replace("threads: 2", "threads: many"), "threads"),
        (good.replace("listeners: [", &listeners), "can't listen on"),
        (good.replace("listeners: [", "listeners: [{ address: '192.0.2.1:80' }, "), "192.0.2.1:80"),
        (
            good.replace("data: { path: ", "data: { path: /proc/none, size: 64MiB }\n#"),
            "/proc/none",
        ),
        (good.replace("sites:", "environment_file: /none\nsites:"), "/none"),
    ] {
        std::fs::write(&edge.file, &yaml).unwrap();
        let (done, told) = edge.cli(&["reload"]).await;
        assert!(!done && told.contains(why), "{why}: {told}");
        assert_eq!(edge.get("/x").await.status, 200, "{why}");
        assert_eq!(edge.operator("/readyz").await.status, 200, "{why}");
        let listed =
            Request::new(edge.admin, "POST", "/reload").header("Host", "localhost").send().await;
        assert_eq!(listed.status, 422, "{why}: {listed:?}");
        edge.becomes("doorstep_config_last_reload_successful", &[], 0.0).await;
    }
    std::fs::write(&edge.file, &good).unwrap();
    assert!(edge.cli(&["reload"]).await.0);
    edge.becomes("doorstep_config_last_reload_successful", &[], 1.0).await;
    // A page in the operator's browser reloads nothing.
    let page = Request::new(edge.admin, "POST", "/reload").header("Origin", "http://x.example");
    assert_eq!(page.send().await.status, 403);
}

/// Secrets are read again with the file, from where the environment of the process does not know them.
#[tokio::test]
async fn secrets_change_with_a_reload() {
    let origin = origin().await;
    let edge = Setup::new(origin.port).site("webhook: { username: u, password: p }").start().await;
    rewrite(&edge, "password: p ", "password: '${PUSHES}' ");
    rewrite(&edge, "sites:", "environment_file: environment\nsites:");
    let push = async |login: &str| {
        let request = edge.request("POST", "/seg/personas").header("Authorization", login);
        let push = json!({"type": "identify", "userId": "john", "traits": {"a": 1}});
        request.body(push.to_string()).send().await.status
    };
    // printf u:one | base64
    for (secret, login, other) in
        [("one", "Basic dTpvbmU=", "Basic dTp0d28="), ("two", "Basic dTp0d28=", "Basic dTpvbmU=")]
    {
        let file = edge.folder.path().join("environment");
        std::fs::write(&file, format!("# ours\nPUSHES=\"{secret}\"\n")).unwrap();
        assert!(edge.cli_check().await.0);
        assert!(edge.cli(&["reload"]).await.0);
        assert_eq!((push(login).await, push(other).await), (200, 401), "{secret}");
    }
}

/// The next process dies before it has served for a while: the one that runs has let nothing go.
#[tokio::test]
async fn a_next_process_that_dies_is_not_missed() {
    let origin = origin().await;
    let mut edge = Setup::new(origin.port).start().await;
    rewrite(&edge, "threads: 2", "threads: 3");
    edge.signal(Signal::SIGHUP);
    let next = eventually("the next process", || async { next_process(&edge.log()) }).await;
    kill(Pid::from_raw(next), Signal::SIGKILL).unwrap();
    eventually("it is missed", || async {
        edge.log().contains("this process goes on").then_some(())
    })
    .await;
    for _ in 0..20 {
        assert_eq!(edge.get("/x").await.status, 200);
    }
    assert_eq!(edge.operator("/readyz").await.status, 200);
    edge.becomes("doorstep_config_last_reload_successful", &[], 0.0).await;
    // And another one follows; what is asked for meanwhile is done by it.
    edge.signal(Signal::SIGHUP);
    eventually("another one", || async { next_process(&edge.log()).filter(|pid| *pid != next) })
        .await;
    rewrite(&edge, "hosts: [", "hosts: [new.example, ");
    edge.signal(Signal::SIGHUP);
    assert!(edge.ended().await.success());
    eventually("the later file is taken too", || async {
        let answer = Request::new(edge.port, "GET", "/").header("Host", "new.example").send().await;
        (answer.status == 200).then_some(())
    })
    .await;
}

/// It runs, and does nothing: the one that serves goes on.
#[tokio::test]
async fn a_next_process_that_is_stopped_is_not_believed() {
    let origin = origin().await;
    let edge = Setup::new(origin.port).start().await;
    rewrite(&edge, "threads: 2", "threads: 3");
    edge.signal(Signal::SIGHUP);
    let next = eventually("the next process", || async { next_process(&edge.log()) }).await;
    kill(Pid::from_raw(next), Signal::SIGSTOP).unwrap();
    eventually("it is noticed", || async {
        edge.log().contains("does not answer any more").then_some(())
    })
    .await;
    for _ in 0..20 {
        assert_eq!(edge.get("/x").await.status, 200);
    }
    eventually("it is ended", || async { kill(Pid::from_raw(next), None).is_err().then_some(()) })
        .await;
}

#[tokio::test]
async fn a_log_that_can_not_be_written_stops_nothing() {
    let origin = origin().await;
    for logs in [Logs::Full, Logs::Gone, Logs::Stuck] {
        let setup = Setup::new(origin.port).node("access_log: { sample: 1 }").logs(logs);
        let mut edge = setup.start().await;
        // More than a pipe holds.
        for _ in 0..500 {
            let path = format!("/{}", "x".repeat(400));
            assert_eq!(edge.get(&path).await.status, 200);
        }
        rewrite(&edge, "hosts: [", "hosts: [new.example, ");
        edge.signal(Signal::SIGHUP);
        eventually("the reload", || async {
            let request = Request::new(edge.port, "GET", "/").header("Host", "new.example");
            (request.send().await.status == 200).then_some(())
        })
        .await;
        std::fs::write(&edge.file, "wrong").unwrap();
        assert!(!edge.cli(&["reload"]).await.0);
        assert_eq!(edge.get("/x").await.status, 200);
        edge.signal(Signal::SIGTERM);
        assert!(edge.ended().await.success());
    }
}

/// Who stands in front sees that a node ends before it takes no more.
#[tokio::test]
async fn a_node_says_that_it_ends_before_it_does() {
    let origin = origin().await;
    let mut edge = Setup::new(origin.port).start().await;
    rewrite(&edge, "drain: 10s", "drain: 10s, delay: 5s");
    assert!(edge.cli(&["reload"]).await.0);
    edge.signal(Signal::SIGQUIT);
    eventually("the refusal", || async {
        edge.log().contains("SIGQUIT is not used").then_some(())
    })
    .await;
    assert_eq!(edge.operator("/readyz").await.status, 200);
    edge.signal(Signal::SIGTERM);
    eventually("not ready", || async {
        (edge.operator("/readyz").await.status == 503).then_some(())
    })
    .await;
    assert_eq!(edge.get("/x").await.status, 200);
    assert!(edge.ended().await.success());
}

/// Who ends a node while the next process is starting wants none.
#[tokio::test]
async fn a_node_that_is_to_end_is_not_followed() {
    let origin = origin().await;
    for end in [Signal::SIGTERM, Signal::SIGINT] {
        let mut edge = Setup::new(origin.port).start().await;
        rewrite(&edge, "threads: 2", "threads: 3");
        edge.signal(Signal::SIGHUP);
        eventually("the next process", || async { next_process(&edge.log()) }).await;
        edge.signal(end);
        assert!(edge.ended().await.success());
        // And with them the listeners: others may have the port by now.
        eventually("nobody is left", || async { edge.processes().is_empty().then_some(()) }).await;
    }
}

/// Whoever asks for a reload while one process hands over to the next is answered by one of them.
#[tokio::test]
async fn a_reload_during_a_hand_over_is_taken() {
    let origin = origin().await;
    let mut edge = Setup::new(origin.port).start().await;
    rewrite(&edge, "threads: 2", "threads: 3");
    edge.signal(Signal::SIGHUP);
    eventually("the next process", || async { next_process(&edge.log()) }).await;
    let leaves = || async { edge.log().contains("by the next process") };
    let mut after = 0;
    // Some come before it is decided and some while the other one lets go.
    while after < 8 {
        after += u32::from(leaves().await);
        let (taken, told) = edge.cli(&["reload"]).await;
        assert!(taken, "{told}");
    }
    assert!(edge.ended().await.success());
}

/// The file names an address that nobody has taken yet.
#[tokio::test]
async fn a_reload_to_another_address_asks_the_one_that_runs() {
    let origin = origin().await;
    let mut edge = Setup::new(origin.port).start().await;
    let other = port();
    let address = |port: u16| format!("'127.0.0.1:{port}'");
    rewrite(&edge, &address(edge.admin), &address(other));
    let (taken, told) = edge.cli(&["reload"]).await;
    assert!(taken && told.contains("by the next process"), "{told}");
    assert!(edge.ended().await.success());
    edge.admin = other;
    // Nor is it asked any more.
    let (taken, told) = edge.cli(&["reload"]).await;
    assert!(taken && told.contains("by the process that runs"), "{told}");
}
