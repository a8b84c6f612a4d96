//! Events that were acknowledged are delivered, whatever happens.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::client::{Connection, Request};
use crate::support::edge::{Edge, Setup};
use crate::support::eventually;
use crate::support::server::{Piece, Reply, Server};
use crate::support::vendor::Vendor;

fn event(id: &str) -> Value {
    json!({"type": "track", "event": "e", "messageId": id, "properties": {"filler": "x".repeat(200)}})
}

fn ids(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| event["messageId"].as_str().unwrap().to_owned()).collect()
}

/// Sends events over one connection until told to stop, and notes what was acknowledged.
async fn sender(port: u16, name: String, stop: Arc<AtomicBool>, taken: Arc<Mutex<Vec<String>>>) {
    let mut connection = None;
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let id = format!("{name}-{number}");
        let request = Request::new(port, "POST", "/seg/evs/t").body(event(&id).to_string());
        let open = match connection.take() {
            Some(open) => Some(open),
            None => Connection::try_open(port).await,
        };
        let Some(mut open) = open else {
            tokio::task::yield_now().await;
            continue;
        };
        if !open.try_write(request.bytes()).await {
            continue;
        }
        if let Some(answer) = open.answer("POST").await {
            if answer.status == 200 {
                taken.lock().unwrap().push(id);
            }
            if answer.header("connection") != Some("close") {
                connection = Some(open);
            }
        }
    }
}

struct Senders {
    stop: Arc<AtomicBool>,
    taken: Arc<Mutex<Vec<String>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Senders {
    fn start(port: u16, name: &str, count: usize) -> Self {
        let (stop, taken) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<String>>>::default());
        let tasks = (0..count)
            .map(|n| {
                let (stop, taken) = (Arc::clone(&stop), Arc::clone(&taken));
                tokio::spawn(sender(port, format!("{name}-{n}"), stop, taken))
            })
            .collect();
        Self { stop, taken, tasks }
    }
    fn count(&self) -> usize {
        self.taken.lock().unwrap().len()
    }
    async fn until(&self, count: usize) {
        eventually("acknowledged events", || async { (self.count() >= count).then_some(()) }).await;
    }
    async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        futures::future::join_all(self.tasks).await;
        self.taken.lock().unwrap().clone()
    }
}

/// Waits until the vendor has all of `taken`, and tells how many it got twice.
async fn all_arrive(vendor: &Vendor, taken: &[String]) -> usize {
    let mut seen = HashMap::<String, usize>::new();
    eventually("all that was acknowledged", || {
        let got = ids(&vendor.delivered());
        let missing = {
            let got: HashSet<&String> = got.iter().collect();
            taken.iter().filter(|id| !got.contains(id)).count()
        };
        async move { (missing == 0).then_some(()) }
    })
    .await;
    for id in ids(&vendor.delivered()) {
        *seen.entry(id).or_default() += 1;
    }
    seen.values().map(|times| times - 1).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_nothing_that_was_acknowledged() {
    const SENDERS: usize = 8;
    let vendor = Vendor::start().await;
    let mut edge = Setup::new(1).vendor(vendor.port()).start().await;
    let mut taken = Vec::new();
    for round in 0..30 {
        let senders = Senders::start(edge.port, &format!("r{round}"), SENDERS);
        senders.until(20 + (round * 37) % 200).await;
        edge.signal(Signal::SIGKILL);
        taken.extend(senders.end().await);
        edge = edge.restart().await;
    }
    let twice = all_arrive(&vendor, &taken).await;
    // What was in flight: batches whose answer the killed process did not see.
    let largest = vendor
        .events()
        .iter()
        .filter_map(|call| call.json()["batch"].as_array().map(Vec::len))
        .max()
        .unwrap();
    assert!(twice <= 30 * 4 * largest, "{twice} of {} twice, {largest} in a batch", taken.len());
    edge.becomes("doorstep_events_waiting", &[], 0.0).await;
    assert!(edge.metric("doorstep_events_spool_damaged_bytes_total", &[]).await < 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_over_under_load_loses_no_event() {
    let vendor = Vendor::start().await;
    let mut edge = Setup::new(1).vendor(vendor.port()).start().await;
    let senders = Senders::start(edge.port, "h", 8);
    senders.until(100).await;
    let yaml = std::fs::read_to_string(&edge.file).unwrap();
    std::fs::write(&edge.file, yaml.replace("threads: 2", "threads: 3")).unwrap();
    edge.signal(Signal::SIGHUP);
    assert!(edge.ended().await.success());
    let before = senders.count();
    senders.until(before + 100).await;
    let taken = senders.end().await;
    let twice = all_arrive(&vendor, &taken).await;
    assert_eq!(twice, 0);
}

#[tokio::test]
async fn an_outage_of_the_vendor_is_waited_for() {
    let vendor = Vendor::start().await;
    vendor.mood.api_status.store(500, Ordering::SeqCst);
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    let mut taken = Vec::new();
    for (number, status) in [500, 429, 503, 401].into_iter().enumerate() {
        vendor.mood.api_status.store(status, Ordering::SeqCst);
        let id = format!("m{number}");
        assert_eq!(edge.event("t", &event(&id)).send().await.status, 200);
        taken.push(id);
        let calls = vendor.events().len();
        eventually("another try", || async { (vendor.events().len() > calls).then_some(()) }).await;
    }
    edge.becomes("doorstep_events_waiting", &[], 4.0).await;
    edge.becomes("doorstep_events_paused", &[], 1.0).await;
    edge.reaches("doorstep_events_retried_total", &[], 4.0).await;
    assert!(edge.metric("doorstep_events_oldest_timestamp_seconds", &[]).await > 1.7e9);
    vendor.mood.api_status.store(200, Ordering::SeqCst);
    edge.becomes("doorstep_events_ended_total", &[("end", "delivered")], 4.0).await;
    edge.becomes("doorstep_events_waiting", &[], 0.0).await;
    edge.becomes("doorstep_events_paused", &[], 0.0).await;
    // In the order of their arrival.
    let got = ids(&vendor.delivered());
    assert_eq!(got[got.len() - 4..], taken[..]);
}

#[tokio::test]
async fn poison_is_put_aside_and_blocks_nobody() {
    let vendor = Vendor::start().await;
    *vendor.mood.poison.lock().unwrap() = Some("poison".into());
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    let batch: Vec<Value> = (0..40)
        .map(|n| event(&if n % 17 == 3 { format!("poison{n}") } else { format!("good{n}") }))
        .collect();
    assert_eq!(edge.event("b", &json!({ "batch": batch })).send().await.status, 200);
    edge.becomes("doorstep_events_ended_total", &[("end", "refused")], 3.0).await;
    edge.becomes("doorstep_events_ended_total", &[("end", "delivered")], 37.0).await;
    edge.becomes("doorstep_events_waiting", &[], 0.0).await;
    let calls = vendor.events();
    let poisoned = |body: &[u8]| String::from_utf8_lossy(body).contains("poison");
    let good = calls.iter().filter(|call| !poisoned(&call.body));
    let good: usize = good.map(|call| call.json()["batch"].as_array().unwrap().len()).sum();
    assert_eq!(good, 37, "each once");

    let (status, out) = edge.cli(&["events", "status"]).await;
    assert!(status && out.contains("3 dead"), "{out}");
    let dead = edge.folder.path().join("data/events/shop.segment/dead.ndjson");
    let letters = std::fs::read_to_string(&dead).unwrap();
    let first: Value = serde_json::from_str(letters.lines().next().unwrap()).unwrap();
    assert_eq!((&first["reason"], &first["status"]), (&json!("refused"), &json!(400)));
    assert!(first["event"]["messageId"].as_str().unwrap().starts_with("poison"));

    // Mended, they are sent again.
    *vendor.mood.poison.lock().unwrap() = None;
    let (status, out) = edge.cli(&["events", "replay"]).await;
    assert!(status && out.contains("3 events"), "{out}");
    edge.becomes("doorstep_events_ended_total", &[("end", "delivered")], 40.0).await;
    let (_, out) = edge.cli(&["events", "status"]).await;
    assert!(out.contains("0 dead"), "{out}");
}

/// A firewall or a gateway before the vendor refuses one event, in its own way.
#[tokio::test]
async fn one_event_that_is_never_taken_holds_no_other_one() {
    for status in [403, 404, 406, 451, 500] {
        let vendor = Vendor::start().await;
        *vendor.mood.poison.lock().unwrap() = Some("poison".into());
        vendor.mood.poison_status.store(status, Ordering::SeqCst);
        let edge = Setup::new(1).vendor(vendor.port()).start().await;
        let mut taken = Vec::new();
        assert_eq!(edge.event("t", &event("poison")).send().await.status, 200);
        for n in 0..20 {
            let id = format!("m{n}");
            assert_eq!(edge.event("t", &event(&id)).send().await.status, 200);
            taken.push(id);
        }
        edge.becomes("doorstep_events_ended_total", &[("end", "delivered")], 20.0).await;
        all_arrive(&vendor, &taken).await;
        edge.becomes("doorstep_events_paused", &[], 0.0).await;
        if status == 500 {
            // What may be of the vendor is tried more often.
            continue;
        }
        // It is known by what passes while it does not.
        let dead = edge.folder.path().join("data/events/shop.segment/dead.ndjson");
        let letters = eventually("a dead letter", || async {
            assert_eq!(edge.event("t", &event("more")).send().await.status, 200);
            std::fs::read_to_string(&dead).ok().filter(|letters| letters.ends_with('\n'))
        })
        .await;
        edge.becomes("doorstep_events_waiting", &[], 0.0).await;
        let letter: Value = serde_json::from_str(letters.trim()).unwrap();
        let said = (&letter["status"], &letter["event"]["messageId"]);
        assert_eq!(said, (&json!(status), &json!("poison")));
    }
}

/// Whatever the umask: what waits is people's, and what root replays is the service's to deliver.
#[tokio::test]
async fn files_of_events_are_for_the_service_alone() {
    use std::os::unix::fs::{MetadataExt, chown};

    let vendor = Vendor::start().await;
    *vendor.mood.poison.lock().unwrap() = Some("poison".into());
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    for id in ["poison", "good"] {
        assert_eq!(edge.event("t", &event(id)).send().await.status, 200);
    }
    edge.becomes("doorstep_events_ended_total", &[("end", "refused")], 1.0).await;
    let lane = edge.folder.path().join("data/events/shop.segment");
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if is_root {
        chown(&lane, Some(12_345), Some(12_345)).unwrap();
    }
    vendor.mood.api_status.store(503, Ordering::SeqCst);
    *vendor.mood.poison.lock().unwrap() = None;
    let people = edge.folder.path().join("people.ndjson");
    for command in [
        format!("events replay --config {}", edge.file.display()),
        format!("profile export {} --config {}", people.display(), edge.file.display()),
    ] {
        let binary = env!("CARGO_BIN_EXE_doorstep");
        let mut shell = tokio::process::Command::new("bash");
        let ended = shell.args(["-c", &format!("umask 0; {binary} {command}")]).status().await;
        assert!(ended.unwrap().success(), "{command}");
    }
    let mut seen = 0;
    for folder in [edge.folder.path().join("data/events"), lane.clone()] {
        assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o777, 0o700, "{folder:?}");
    }
    for entry in std::fs::read_dir(&lane).unwrap() {
        let about = entry.unwrap().metadata().unwrap();
        assert_eq!(about.mode() & 0o777, 0o600);
        seen += usize::from(about.uid() == 12_345);
    }
    assert!(!is_root || seen > 0, "what was replayed is the folder's owner's");
    assert_eq!(std::fs::metadata(&people).unwrap().mode() & 0o777, 0o600);
    vendor.mood.api_status.store(200, Ordering::SeqCst);
    edge.becomes("doorstep_events_ended_total", &[("end", "delivered")], 2.0).await;
}

#[tokio::test]
async fn a_site_that_is_not_there_is_named_with_those_that_are() {
    let edge = Setup::new(1).start().await;
    for command in [
        &["events", "--site", "shpo", "status"][..],
        &["events", "--site", "shpo", "replay"],
        &["events", "--site", "shpo", "purge"],
        &["profile", "--site", "shpo", "get", "user_id:john"],
    ] {
        let (good, said) = edge.cli(command).await;
        assert!(!good && said.contains("there is no site `shpo`: one of shop"), "{said}");
    }
    let (good, said) = edge.cli(&["events", "--site", "shop", "status"]).await;
    assert!(good, "{said}");
}

/// A fault that lasts fills no log.
#[tokio::test]
async fn a_lasting_fault_is_said_once() {
    let vendor = Vendor::start().await;
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    assert_eq!(edge.event("t", &event("first")).send().await.status, 200);
    edge.becomes("doorstep_events_ended_total", &[("end", "delivered")], 1.0).await;
    // A folder of such a name can't be read as a file of events, whoever asks.
    let lane = edge.folder.path().join("data/events/shop.segment");
    std::fs::create_dir(lane.join("00000000000000-1-0.events")).unwrap();
    eventually("the fault", || async { edge.log().contains("events can't be read").then_some(()) })
        .await;
    // It was looked at again, more than once.
    for n in 0..3 {
        let left = lane.join(format!(".{n:014}-1-0.events"));
        std::fs::write(&left, "").unwrap();
        eventually("another look", || async { (!left.exists()).then_some(()) }).await;
    }
    assert_eq!(edge.log().matches("events can't be read").count(), 1);
    std::fs::remove_dir(lane.join("00000000000000-1-0.events")).unwrap();
}

/// What a vendor refuses costs it a call for each event, and little more.
#[tokio::test]
async fn refusals_are_not_paid_twice() {
    let vendor = Vendor::start().await;
    *vendor.mood.poison.lock().unwrap() = Some("poison".into());
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    for request in 0..10 {
        let batch: Vec<Value> = (0..100).map(|n| event(&format!("poison{request}-{n}"))).collect();
        assert_eq!(edge.event("b", &json!({ "batch": batch })).send().await.status, 200);
    }
    edge.becomes("doorstep_events_ended_total", &[("end", "refused")], 1000.0).await;
    let calls = vendor.events().len();
    assert!(calls <= 1150, "{calls}");
}

#[tokio::test]
async fn what_is_too_old_is_put_aside() {
    let vendor = Vendor::start().await;
    vendor.mood.api_status.store(503, Ordering::SeqCst);
    let edge = Setup::new(1).vendor(vendor.port()).node("events: { retain: 1s }").start().await;
    assert_eq!(edge.event("t", &event("old")).send().await.status, 200);
    edge.becomes("doorstep_events_ended_total", &[("end", "expired")], 1.0).await;
    edge.becomes("doorstep_events_waiting", &[], 0.0).await;
    let (_, out) = edge.cli(&["events", "status"]).await;
    assert!(out.contains("1 dead"), "{out}");
    let (status, out) = edge.cli(&["events", "purge", "--dead"]).await;
    assert!(status && out.contains("1 event"), "{out}");
}

#[tokio::test]
async fn a_full_spool_refuses_and_recovers() {
    let vendor = Vendor::start().await;
    vendor.mood.api_status.store(503, Ordering::SeqCst);
    let edge = Setup::new(1).vendor(vendor.port()).node("events: { disk: 4MiB }").start().await;
    let large = |n: usize| json!({"messageId": format!("m{n}"), "filler": "x".repeat(30_000)});
    let mut taken = Vec::new();
    let refused = loop {
        let answer = edge.event("t", &large(taken.len())).send().await;
        if answer.status != 200 {
            break answer;
        }
        taken.push(format!("m{}", taken.len()));
    };
    assert!((100..140).contains(&taken.len()), "{}", taken.len());
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    edge.reaches("doorstep_events_refused_total", &[("reason", "full")], 1.0).await;
    vendor.mood.api_status.store(200, Ordering::SeqCst);
    all_arrive(&vendor, &taken).await;
    edge.becomes("doorstep_events_waiting", &[], 0.0).await;
    eventually("room again", || async {
        (edge.event("t", &large(1000)).send().await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_acknowledges_nothing_and_recovers() {
    let vendor = Vendor::start().await;
    vendor.mood.api_status.store(503, Ordering::SeqCst);
    // No file grows larger than that: the disk is full in the middle of a write.
    let edge = Setup::new(1).vendor(vendor.port()).file_kib(1500).start().await;
    let large = |n: usize| json!({"messageId": format!("m{n}"), "filler": "x".repeat(30_000)});
    let (mut taken, mut refused) = (Vec::new(), 0);
    for n in 0..80 {
        match edge.event("t", &large(n)).send().await.status {
            200 => taken.push(format!("m{n}")),
            status => {
                assert_eq!(status, 503);
                refused += 1;
            }
        }
    }
    assert!(taken.len() > 10 && refused > 10, "{} {refused}", taken.len());
    edge.reaches("doorstep_events_spool_failures_total", &[], 1.0).await;
    vendor.mood.api_status.store(200, Ordering::SeqCst);
    all_arrive(&vendor, &taken).await;
    edge.becomes("doorstep_events_waiting", &[], 0.0).await;
    // The file that was full is delivered and gone.
    eventually("room again", || async {
        (edge.event("t", &large(1000)).send().await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_torn_tail_is_left_out_and_counted() {
    let vendor = Vendor::start().await;
    vendor.mood.api_status.store(503, Ordering::SeqCst);
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    for n in 0..5 {
        assert_eq!(edge.event("t", &event(&format!("m{n}"))).send().await.status, 200);
    }
    edge.signal(Signal::SIGKILL);
    for entry in std::fs::read_dir(edge.folder.path().join("data/events/shop.segment")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let length = bytes.len();
        // Half of the last event, and a bit in the middle of the second.
        bytes.truncate(length - 100);
        let at = bytes.windows(4).position(|part| part == b"\"m1\"").unwrap();
        bytes[at + 1] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    vendor.mood.api_status.store(200, Ordering::SeqCst);
    let before = vendor.delivered().len();
    let edge = edge.restart().await;
    edge.becomes("doorstep_events_ended_total", &[("end", "delivered")], 3.0).await;
    assert_eq!(ids(&vendor.delivered())[before..], ["m0", "m2", "m3"]);
    edge.reaches("doorstep_events_spool_damaged_bytes_total", &[], 200.0).await;
}

#[tokio::test]
async fn with_relaxed_durability_events_are_taken_and_delivered() {
    let vendor = Vendor::start().await;
    let edge: Edge =
        Setup::new(1).vendor(vendor.port()).node("events: { durability: relaxed }").start().await;
    assert_eq!(edge.event("t", &event("relaxed")).send().await.status, 200);
    all_arrive(&vendor, &["relaxed".to_owned()]).await;
}

/// A tracking API that does something else at each call, and takes the event in the end.
async fn moody(moods: Vec<Reply>) -> Server {
    let moods = Mutex::new(moods.into_iter());
    Server::start(move |_| {
        let next = moods.lock().unwrap().next();
        next.unwrap_or_else(|| Reply::new(200, &[], "{}"))
    })
    .await
}

#[tokio::test]
async fn a_vendor_that_is_silent_resets_or_answers_nonsense_is_asked_again() {
    let never = Arc::new(tokio::sync::Notify::new());
    let vendor = moody(vec![
        Reply(vec![Piece::Wait(never)]),
        Reply(vec![Piece::Close]),
        Reply(vec![Piece::Bytes(b"not http at all\r\n\r\n".to_vec()), Piece::Close]),
        Reply(vec![Piece::Bytes(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()), Piece::Close]),
        Reply::new(302, &["Location: http://elsewhere.test/"], ""),
    ])
    .await;
    let edge = Setup::new(1).vendor(vendor.port).node("events: { timeout: 300ms }").start().await;
    assert_eq!(edge.event("t", &event("m")).send().await.status, 200);
    edge.becomes("doorstep_events_ended_total", &[("end", "delivered")], 1.0).await;
    let calls = vendor.asked();
    assert_eq!(calls.len(), 6);
    assert!(calls.iter().all(|call| call.json()["batch"][0]["messageId"] == "m"));
    edge.becomes("doorstep_events_retried_total", &[], 5.0).await;
}

#[tokio::test]
async fn a_pause_that_the_vendor_asks_for_is_kept() {
    let vendor = moody(vec![Reply::new(429, &["Retry-After: 2"], "slow down")]).await;
    let edge = Setup::new(1).vendor(vendor.port).start().await;
    assert_eq!(edge.event("t", &event("first")).send().await.status, 200);
    vendor.until("/v1/batch", 1).await;
    let asked = std::time::Instant::now();
    edge.becomes("doorstep_events_paused", &[], 1.0).await;
    assert_eq!(edge.event("t", &event("second")).send().await.status, 200);
    edge.becomes("doorstep_events_ended_total", &[("end", "delivered")], 2.0).await;
    // Without the pause it would have been asked again after a half to one second.
    assert!(asked.elapsed() > std::time::Duration::from_millis(1500), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn half_a_body_is_no_event() {
    let vendor = Vendor::start().await;
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    let mut half = Connection::open(edge.port).await;
    half.write(
        "POST /seg/evs/t HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 100\r\n\r\n{\"event\":",
    )
    .await;
    edge.becomes("doorstep_requests_in_flight", &[], 1.0).await;
    drop(half);
    edge.becomes("doorstep_events_refused_total", &[("reason", "broken")], 1.0).await;
    edge.becomes("doorstep_events_waiting", &[], 0.0).await;
    assert!(vendor.events().is_empty());
    // Twice the same member: the last one counts, as browsers read it.
    let twice =
        edge.request("POST", "/seg/evs/t").body(r#"{"event":"a","event":"b","messageId":"m"}"#);
    assert_eq!(twice.send().await.status, 200);
    assert_eq!(vendor.until(1).await[0]["event"], "b");
}

/// A site is taken out while its events wait: that is told, they stay, and come when it is back.
#[tokio::test]
async fn events_of_a_site_that_is_gone_are_told_of_and_kept() {
    let vendor = Vendor::start().await;
    vendor.mood.api_status.store(503, Ordering::SeqCst);
    let (port, other) = (vendor.port(), "- name: other");
    let site = format!(
        "{other}\n  hosts: [other.example]\n  origin: {{ address: '127.0.0.1:1' }}\n  vendor: {{ segment: \
         {{ write_key: other-write-key, cdn: 'http://127.0.0.1:{port}', tracking_api: 'http://127.0.0.1:{port}/v1' }} }}"
    );
    let edge = Setup::new(1).vendor(port).another_site(&site).start().await;
    let told = edge.event("t", &event("m1")).header("Host", "other.example").send().await;
    assert_eq!(told.status, 200);
    assert!(edge.metric("doorstep_events_stranded", &[]).await < 0.5);
    let yaml = std::fs::read_to_string(&edge.file).unwrap();
    let (without, _) = yaml.split_once(other).unwrap();
    std::fs::write(&edge.file, without).unwrap();
    let edge = edge.restart().await;
    edge.becomes("doorstep_events_stranded", &[], 1.0).await;
    assert!(edge.log().contains("events wait for a site or vendor that is not configured"));
    // And back again.
    let without = std::fs::read_to_string(&edge.file).unwrap();
    std::fs::write(&edge.file, format!("{without}{site}\n")).unwrap();
    vendor.mood.api_status.store(200, Ordering::SeqCst);
    assert!(edge.cli(&["reload"]).await.0);
    edge.becomes("doorstep_events_ended_total", &[("end", "delivered")], 1.0).await;
    edge.becomes("doorstep_events_stranded", &[], 0.0).await;
}
