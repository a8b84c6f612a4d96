//! `doorstep reload`: lets the running node take its configuration, and says what became of that.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use crate::node::running_admin_address;

use super::{Failure, file, load, say};

/// Let the running node take its configuration: exit code 1 and every problem, where it does not.
#[derive(Args)]
pub(super) struct Reload {
    /// The configuration of the node: it names the operator's address.
    #[arg(short, long)]
    config: Option<PathBuf>,
}

/// A next process that takes over has that long to start, and then proves itself.
const PATIENCE: Duration = Duration::from_secs(90);
/// One process hands over to the next within this: until then it is asked again.
const HAND_OVER: Duration = Duration::from_secs(30);
/// Before it is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Longest answer.
const MAX_ANSWER: u64 = 1024 * 1024;

impl Reload {
    pub(super) fn run(self) -> Result<(), Failure> {
        let file = file(self.config)?;
        let began = Instant::now();
        loop {
            // Another process may listen elsewhere, and so may the one that runs.
            let node = load(&file)?.node;
            let runs = running_admin_address(&node.data).filter(|runs| *runs != node.admin);
            let answer = runs.and_then(|runs| ask(reachable(runs)).ok());
            let address = reachable(node.admin);
            let answer = answer.map_or_else(|| ask(address), Ok);
            let again = began.elapsed() < HAND_OVER;
            let answer = match answer {
                Err(cause) if again && is_cut(&cause) => String::new(),
                answer => answer.map_err(|cause| Failure::Unreachable { address, cause })?,
            };
            let (head, told) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
            let status = head.split(' ').nth(1);
            if status == Some("200") {
                return say(format_args!("{}", told.trim_end()));
            }
            let later = head.to_ascii_lowercase().contains("\r\nretry-after:");
            if !again || !(later || answer.is_empty()) {
                return Err(Failure::NotTaken(told.trim_end().to_owned()));
            }
            wait();
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a command has no workers that it could block")]
fn wait() {
    std::thread::sleep(AGAIN_AFTER);
}

/// The process that was asked has closed the connection: it ends.
fn is_cut(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof
    )
}

/// Where something that listens on every address is reached.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "POST /reload HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
