//! The end of a process, and its hand-over to the next.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::sync::Notify;

use crate::support::client::{Connection, Request};
use crate::support::edge::Setup;
use crate::support::eventually;
use crate::support::server::{Piece, Reply, Server};
use crate::support::vendor::Vendor;

#[tokio::test]
async fn a_request_in_flight_ends_before_the_process_and_the_process_right_after() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let origin = Server::start(move |_| {
        let Reply(mut pieces) = Reply::new(200, &[], "done");
        pieces.insert(0, Piece::Wait(Arc::clone(&wait)));
        Reply(pieces)
    })
    .await;
    let mut edge = Setup::new(origin.port).start().await;
    let mut connection = Connection::open(edge.port).await;
    connection.write(edge.request("GET", "/").bytes()).await;
    origin.until("/", 1).await;
    edge.signal(Signal::SIGTERM);
    eventually("not ready any more", || async {
        edge.log().contains("ended").then_some(()).or((tokio::net::TcpStream::connect((
            "127.0.0.1",
            edge.port,
        ))
        .await
        .is_err())
        .then_some(()))
    })
    .await;
    go.notify_one();
    assert_eq!(connection.answer("GET").await.unwrap().text(), "done");
    assert!(edge.ended().await.success());
    assert!(!edge.log().contains("the time to drain is over"), "{}", edge.log());
}

/// Both processes have requests in flight then, and the service manager knows of one alone.
#[tokio::test]
async fn an_end_during_a_hand_over_cuts_no_request() {
    const ALL: usize = 16;
    let waiting = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&waiting);
    let origin = Server::start(move |_| {
        let go = Arc::new(Notify::new());
        asked.lock().unwrap().push(Arc::clone(&go));
        let Reply(mut pieces) = Reply::new(200, &[], "done");
        pieces.insert(0, Piece::Wait(go));
        Reply(pieces)
    })
    .await;
    let mut edge = Setup::new(origin.port).start().await;
    let file = std::fs::read_to_string(&edge.file).unwrap();
    std::fs::write(&edge.file, file.replace("threads: 2", "threads: 3")).unwrap();
    edge.signal(Signal::SIGHUP);
    eventually("the next process", || async {
        edge.log().contains("the next process is ready").then_some(())
    })
    .await;
    let mut open = Vec::new();
    for _ in 0..ALL {
        let mut connection = Connection::open(edge.port).await;
        connection.write(edge.request("GET", "/").bytes()).await;
        open.push(connection);
    }
    origin.until("/", ALL).await;
    edge.signal(Signal::SIGTERM);
    eventually("nobody comes any more", || async {
        tokio::net::TcpStream::connect(("127.0.0.1", edge.port)).await.is_err().then_some(())
    })
    .await;
    waiting.lock().unwrap().iter().for_each(|go: &Arc<Notify>| go.notify_one());
    for mut connection in open {
        assert_eq!(connection.answer("GET").await.expect("an answer").text(), "done");
    }
    assert!(edge.ended().await.success());
    assert!(edge.processes().is_empty(), "the last one waits for the other");
}

/// A visitor who has a connection and whose request, the first or another one, is on its way when the node ends.
#[tokio::test]
async fn a_request_on_its_way_is_answered() {
    let origin = Server::start(|_| Reply::new(200, &[], "ok")).await;
    let mut edge = Setup::new(origin.port).start().await;
    let mut connection = Connection::open(edge.port).await;
    let mut silent = Connection::open(edge.port).await;
    let mut kept = Connection::open(edge.port).await;
    kept.write(edge.request("GET", "/").bytes()).await;
    assert_eq!(kept.answer("GET").await.unwrap().text(), "ok");
    edge.signal(Signal::SIGTERM);
    let port = edge.port;
    eventually("nobody comes any more", || async {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err().then_some(())
    })
    .await;
    // So slow is a phone.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    for connection in [&mut connection, &mut kept] {
        connection.write(edge.request("GET", "/").bytes()).await;
        let answer = connection.answer("GET").await.unwrap();
        assert_eq!((answer.header("connection"), &*answer.text()), (Some("close"), "ok"));
    }
    assert!(edge.ended().await.success());
    assert!(silent.answer("GET").await.is_none());
    assert!(!edge.log().contains("the time to drain is over"), "{}", edge.log());
}

#[tokio::test]
async fn waiting_events_are_delivered_before_the_end() {
    let vendor = Vendor::start().await;
    let mut edge = Setup::new(1).vendor(vendor.port()).start().await;
    for n in 0..50 {
        assert_eq!(edge.event("t", &json!({"event": n})).send().await.status, 200);
    }
    edge.signal(Signal::SIGTERM);
    assert!(edge.ended().await.success());
    assert_eq!(vendor.delivered().len(), 50);
    assert!(!edge.log().contains("are left for the next process"), "{}", edge.log());
}

#[tokio::test]
async fn a_vendor_that_is_down_keeps_no_process() {
    let vendor = Vendor::start().await;
    vendor.mood.api_status.store(503, Ordering::SeqCst);
    let mut edge = Setup::new(1).vendor(vendor.port()).start().await;
    assert_eq!(edge.event("t", &json!({"event": "late"})).send().await.status, 200);
    edge.becomes("doorstep_events_paused", &[], 1.0).await;
    edge.signal(Signal::SIGTERM);
    assert!(edge.ended().await.success());
    assert!(edge.log().contains("are left for the next process"), "{}", edge.log());
    vendor.mood.api_status.store(200, Ordering::SeqCst);
    let edge = edge.restart().await;
    edge.becomes("doorstep_events_ended_total", &[("end", "delivered")], 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_over_loses_no_request() {
    let origin = Server::start(|_| Reply::new(200, &[], "ok")).await;
    let mut edge = Setup::new(origin.port).start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let (good, bad) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let port = edge.port;
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (stop, good, bad) = (Arc::clone(&stop), Arc::clone(&good), Arc::clone(&bad));
            tokio::spawn(async move {
                let mut connection = Connection::open(port).await;
                while !stop.load(Ordering::SeqCst) {
                    connection.write(Request::new(port, "GET", "/").bytes()).await;
                    match connection.answer("GET").await {
                        Some(answer) if answer.text() == "ok" => {
                            good.fetch_add(1, Ordering::SeqCst);
                            if answer.header("connection") == Some("close") {
                                connection = Connection::open(port).await;
                            }
                        }
                        _ => {
                            bad.fetch_add(1, Ordering::SeqCst);
                            connection = Connection::open(port).await;
                        }
                    }
                }
            })
        })
        .collect();
    // All the time one of both processes is ready, and none that answers says otherwise.
    let unready = Arc::new(AtomicUsize::new(0));
    let balancer = {
        let (stop, unready, admin) = (Arc::clone(&stop), Arc::clone(&unready), edge.admin);
        tokio::spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let mut connection = Connection::open(admin).await;
                connection.write(Request::new(admin, "GET", "/readyz").bytes()).await;
                let answer = connection.answer("GET").await;
                let no = answer.is_some_and(|answer| answer.status != 200);
                unready.fetch_add(usize::from(no), Ordering::SeqCst);
            }
        })
    };
    // A wrong configuration changes nothing.
    let yaml = std::fs::read_to_string(&edge.file).unwrap();
    std::fs::write(&edge.file, yaml.replace("threads: 2", "threads: many")).unwrap();
    edge.signal(Signal::SIGHUP);
    eventually("the refusal", || async {
        edge.log().contains("the configuration is not taken").then_some(())
    })
    .await;
    assert!(edge.log().contains("threads\n"), "{}", edge.log());

    // A new one is served by the next process, under the same address.
    let more =
        yaml.replace("hosts: [", "hosts: [new.example, ").replace("threads: 2", "threads: 3");
    std::fs::write(&edge.file, more).unwrap();
    edge.signal(Signal::SIGHUP);
    assert!(edge.ended().await.success());
    let answer = Request::new(port, "GET", "/").header("Host", "new.example").send().await;
    assert_eq!(answer.text(), "ok");
    stop.store(true, Ordering::SeqCst);
    futures::future::join_all(clients).await;
    balancer.await.unwrap();
    assert_eq!(unready.load(Ordering::SeqCst), 0);
    assert!(good.load(Ordering::SeqCst) > 100);
    assert_eq!(bad.load(Ordering::SeqCst), 0, "of {}", good.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_node_leaves_when_the_time_to_drain_is_over_and_its_admin_listener_last() {
    let origin = Server::start(|_| Reply(vec![Piece::Wait(Arc::new(Notify::new()))])).await;
    let mut edge = Setup::new(origin.port).node("shutdown: { drain: 2s }").start().await;
    let mut connection = Connection::open(edge.port).await;
    connection.write(edge.request("GET", "/").bytes()).await;
    origin.until("/", 1).await;
    edge.signal(Signal::SIGTERM);
    let port = edge.port;
    eventually("nobody comes any more", || async {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err().then_some(())
    })
    .await;
    assert_eq!(edge.operator("/readyz").await.status, 503, "its operator still hears of it");
    assert!(edge.ended().await.success());
    assert!(edge.log().contains("the time to drain is over"), "{}", edge.log());
    assert!(connection.answer("GET").await.is_none_or(|answer| answer.status >= 500));
}

/// As under `WatchdogSec=`.
#[tokio::test]
async fn systemd_hears_from_a_node_while_its_threads_move() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let setup = Setup::new(1).env("NOTIFY_SOCKET", path.to_str().unwrap());
    let mut edge = setup.env("WATCHDOG_USEC", "400000").start().await;
    let mut heard = Vec::new();
    let mut alive = 0;
    while alive < 3 {
        let mut bytes = [0; 1024];
        let received = tokio::time::timeout(crate::support::PATIENCE, socket.recv(&mut bytes));
        let length = received.await.expect("systemd hears of it").unwrap();
        let told = String::from_utf8_lossy(&bytes[..length]).into_owned();
        alive += usize::from(told.contains("WATCHDOG=1"));
        heard.push(told);
    }
    assert!(heard.iter().any(|told| told.contains("READY=1")), "{heard:?}");
    edge.signal(Signal::SIGTERM);
    assert!(edge.ended().await.success());
}
