//! `doorstep reload`: lets the running node take its configuration, and says what became of that.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

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
/// Longest answer.
const MAX_ANSWER: u64 = 1024 * 1024;

impl Reload {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = load(&file(self.config)?)?;
        let address = reachable(config.node.admin);
        let unreachable = |cause| Failure::Unreachable { address, cause };
        let answer = ask(address).map_err(unreachable)?;
        let (head, told) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        if head.split(' ').nth(1) == Some("200") {
            return say(format_args!("{}", told.trim_end()));
        }
        Err(Failure::NotTaken(told.trim_end().to_owned()))
    }
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
