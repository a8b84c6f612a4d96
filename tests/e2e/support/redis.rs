//! A real redis-server on a port of its own, alone, in a cluster, or watched by a sentinel.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{eventually, port};

/// A redis-server. Dropping it ends it.
pub struct Redis {
    pub port: u16,
    folder: tempfile::TempDir,
    more: String,
    child: Option<Child>,
}

impl Redis {
    pub async fn start() -> Self {
        Self::with("").await
    }

    /// With more lines of configuration.
    pub async fn with(more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut redis = Self { port: port(), folder, more: more.to_owned(), child: None };
        redis.launch("").await;
        redis
    }

    /// A process that waits for nothing: `launch` does.
    fn spawn(&mut self, argument: &str) {
        let Self { port, folder, more, .. } = self;
        let at = folder.path().display();
        let conf = format!(
            "port {port}\nbind 127.0.0.1\ndir {at}\nlogfile {at}/log\nappendonly no\nsave \"\"\n\
             repl-diskless-sync-delay 0\n{more}\n"
        );
        let file = folder.path().join(format!("{port}.conf"));
        if !file.exists() {
            std::fs::write(&file, conf).expect("written");
        }
        let mut command = Command::new("redis-server");
        command.arg(&file);
        if !argument.is_empty() {
            command.arg(argument);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        self.child = Some(child.expect("redis-server is installed (make test installs it)"));
    }

    async fn launch(&mut self, argument: &str) {
        self.spawn(argument);
        let port = self.port;
        eventually("redis-server", || async {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What a command answers, as redis-cli prints it.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(arguments)
            .output()
            .expect("redis-cli");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).expect("signalled");
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The next process takes its time to load what was saved.
    pub fn slow_to_load(&mut self) {
        let file = self.folder.path().join(format!("{}.conf", self.port));
        let conf = std::fs::read_to_string(&file).expect("read");
        let slow = "key-load-delay 1000\nloading-process-events-interval-bytes 1024\n";
        std::fs::write(&file, conf + slow).expect("written");
    }

    /// The same again, with what was saved, whether or not it is ready.
    pub fn start_again(&mut self) {
        self.spawn("");
    }

    /// The same again, empty.
    pub async fn restart(&mut self) {
        self.kill();
        self.launch("").await;
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- redis {}\n{}", self.port, self.log());
        }
    }
}

/// A master, a replica and a sentinel that alone decides who is the master.
pub struct Watched {
    pub master: Redis,
    pub replica: Redis,
    pub sentinel: Redis,
}

impl Watched {
    pub async fn start() -> Self {
        let master = Redis::start().await;
        let replica = Redis::with(&format!("replicaof 127.0.0.1 {}", master.port)).await;
        eventually("the replica follows", || async {
            replica.cli(&["INFO", "replication"]).contains("master_link_status:up").then_some(())
        })
        .await;
        let folder = tempfile::tempdir().expect("a folder");
        let more = format!(
            "sentinel monitor shop 127.0.0.1 {} 1\nsentinel down-after-milliseconds shop 1000\n\
             sentinel failover-timeout shop 5000\n",
            master.port
        );
        let mut sentinel = Redis { port: port(), folder, more: String::new(), child: None };
        let file = sentinel.folder.path().join(format!("{}.conf", sentinel.port));
        let at = sentinel.folder.path().display().to_string();
        let conf =
            format!("port {}\nbind 127.0.0.1\ndir {at}\nlogfile {at}/log\n{more}", sentinel.port);
        std::fs::write(file, conf).expect("written");
        sentinel.launch("--sentinel").await;
        eventually("the sentinel knows the replica", || async {
            let known = sentinel.cli(&["SENTINEL", "replicas", "shop"]);
            known.contains(&replica.port.to_string()).then_some(())
        })
        .await;
        Self { master, replica, sentinel }
    }
}

/// A port of a cluster's node. The nodes talk on the one that is 10,000 above; both are out of the
/// range of all others.
fn bus_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 900).unwrap_or(0);
    loop {
        let port = 10_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 900;
        let free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + 10_000) {
            return port;
        }
    }
}

/// A cluster of three masters.
pub struct Cluster(pub Vec<Redis>);

impl Cluster {
    pub async fn start() -> Self {
        let conf =
            "cluster-enabled yes\ncluster-node-timeout 1500\ncluster-require-full-coverage no";
        let mut nodes = Vec::new();
        while nodes.len() < 3 {
            let folder = tempfile::tempdir().expect("a folder");
            let mut node = Redis { port: bus_port(), folder, more: conf.into(), child: None };
            node.launch("").await;
            nodes.push(node);
        }
        let addresses: Vec<String> =
            nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        let made = Command::new("redis-cli")
            .args(["--cluster", "create", "--cluster-yes"])
            .args(&addresses)
            .output()
            .expect("redis-cli");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        for node in &nodes {
            eventually("the cluster", || async {
                node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok").then_some(())
            })
            .await;
        }
        Self(nodes)
    }

    pub fn urls(&self) -> String {
        self.0.iter().map(Redis::url).collect::<Vec<_>>().join(", ")
    }
}
