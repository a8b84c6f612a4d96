//! What a newcomer starts first: no file, and no account.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::client::Request;
use crate::support::server::{Reply, Server};
use crate::support::{eventually, port};

/// A node that is tried, which ends with the test.
struct Trying {
    child: Child,
    port: u16,
    said: Arc<Mutex<String>>,
}

impl Drop for Trying {
    fn drop(&mut self) {
        // So that it takes away what it has made.
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

impl Trying {
    async fn start(options: &[&str]) -> Self {
        let port = port();
        let mut child = Command::new(env!("CARGO_BIN_EXE_doorstep"))
            .arg("run")
            .args(options)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let said = Arc::<Mutex<String>>::default();
        let (lines, to) = (BufReader::new(child.stdout.take().unwrap()).lines(), Arc::clone(&said));
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                to.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        let node = Self { child, port, said };
        eventually("it says what to open", || async {
            node.said.lock().unwrap().contains("Ctrl-C").then_some(())
        })
        .await;
        eventually("it answers", || async {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok().then_some(())
        })
        .await;
        node
    }

    fn request(&self, method: &str, target: &str) -> Request {
        let at = format!("localhost:{}", self.port);
        Request::new(self.port, method, target).header("Host", &at).header("Accept", "text/html")
    }

    /// The port of the URL that it names behind this word.
    fn named(&self, word: &str) -> u16 {
        let said = self.said.lock().unwrap();
        let line = said.lines().find(|line| line.trim_start().starts_with(word)).expect(word);
        let (_, rest) = line.split_once("http://").unwrap();
        rest.split([':', '/']).nth(1).unwrap().parse().unwrap()
    }
}

#[tokio::test]
async fn a_shop_opens_without_a_file_and_shows_what_the_vendor_gets() {
    let node = Trying::start(&["--demo"]).await;
    let home = node.request("GET", "/").send().await;
    assert!(home.text().contains("analytics.load"), "{}", home.text());
    let john = node.request("GET", "/").header("Cookie", "ajs_user_id=john").send().await;
    let teaser = |text: String| text.split("id=teaser").nth(1).unwrap()[..80].to_owned();
    assert_ne!(teaser(john.text()), teaser(home.text()), "another page under the same address");
    let event = json!({"event": "Tried it", "anonymousId": "a"}).to_string();
    assert_eq!(node.request("POST", "/seg/evs/t").body(event).send().await.status, 200);
    let events = node.named("Events");
    eventually("the event", || async {
        let page = Request::new(events, "GET", "/events").send().await.text();
        page.contains("Tried it").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_stands_before_a_site_without_a_file() {
    let origin = Server::start(|_| Reply::html("<head></head>my own site")).await;
    let at = format!("http://127.0.0.1:{}", origin.port);
    let node = Trying::start(&["--origin", &at, "--write-key", "abcdefgh1234"]).await;
    let home = node.request("GET", "/").send().await.text();
    assert!(home.contains("analytics.load") && home.ends_with("my own site"), "{home}");
    assert!(!home.contains("abcdefgh1234"), "the key stays here");
    let event = json!({"event": "Tried it", "anonymousId": "a"}).to_string();
    assert_eq!(node.request("POST", "/seg/evs/t").body(event).send().await.status, 200);
}

/// Whoever asks for a reload does not know how far the start is.
#[tokio::test]
async fn a_reload_that_is_asked_for_during_the_start_ends_nothing() {
    let port = port();
    let child = Command::new(env!("CARGO_BIN_EXE_doorstep"))
        .args(["run", "--demo", "--listen", &format!("127.0.0.1:{port}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let mut node = Trying { child, port, said: Arc::default() };
    // Whether `signal` is in this set of the process's.
    let has = |set: &str, signal: Signal| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let all = status.lines().find_map(|line| line.strip_prefix(set))?.trim_start_matches(':');
        let all = u64::from_str_radix(all.trim(), 16).ok()?;
        (all >> (signal as u64 - 1) & 1 == 1).then_some(())
    };
    eventually("it holds the signal", || async { has("SigBlk", Signal::SIGHUP) }).await;
    kill(pid, Signal::SIGHUP).expect("signalled");
    eventually("it serves all the same", || async {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        has("SigCgt", Signal::SIGTERM)
    })
    .await;
    kill(pid, Signal::SIGTERM).expect("signalled");
    assert!(node.child.wait().unwrap().success());
}
