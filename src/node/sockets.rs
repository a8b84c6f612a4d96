//! The sockets that a node listens on. They are bound before anything else happens, so that an address that can't be
//! had ends the start and nothing else, and the next process gets them from this one.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use async_trait::async_trait;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::{ServiceReadyNotifier, ServiceWithDependents};
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use socket2::{Domain, Protocol, Socket, Type};

use super::StartError;

/// By which a process tells the next one which sockets it has: `12=127.0.0.1:80,13=[::]:443`.
pub(super) const SOCKETS: &str = "DOORSTEP_SOCKETS";
/// Connections that may wait to be accepted: the system has a bound of its own.
const BACKLOG: i32 = 65_535;
/// Bytes of an answer that the system takes and can't send yet, for each connection.
const UNSENT: u32 = 128 << 10;

/// The sockets of the process before this one.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(SocketAddr, TcpListener)>);

impl Inherited {
    /// What the environment names. To be asked once: the sockets belong to the answer.
    #[must_use]
    pub fn take() -> Self {
        let named = std::env::var(SOCKETS).unwrap_or_default();
        let pairs = named.split(',').filter_map(|pair| {
            let (number, address) = pair.split_once('=')?;
            Some((address.parse().ok()?, adopt(number.parse().ok()?)?.into()))
        });
        Self(pairs.collect())
    }

    fn remove(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let at = self.0.iter().position(|(own, _)| *own == address)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// Takes a descriptor that the process before has left open for this one, and keeps it from the one after.
#[allow(unsafe_code, reason = "a descriptor's number has come through the environment")]
pub(super) fn adopt(number: RawFd) -> Option<OwnedFd> {
    if number <= 2 {
        return None;
    }
    // SAFETY: the process that started this one has left the descriptor open and told its number to this process alone
    // (`Successor::start`); each number is read once, before anything else is opened, so that nobody else owns it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    let flags = fcntl_getfd(&descriptor);
    match flags.and_then(|flags| fcntl_setfd(&descriptor, flags | FdFlags::CLOEXEC)) {
        Ok(()) => Some(descriptor),
        Err(_) => {
            // It is not open: nothing may close the number either.
            let _ = descriptor.into_raw_fd();
            None
        }
    }
}

/// The sockets of this process, open until they are dropped.
#[derive(Debug, Default)]
pub(super) struct Sockets(Vec<(SocketAddr, TcpListener)>);

impl Sockets {
    /// Those of `addresses`: taken over where there are any, else bound.
    pub(super) fn open(
        addresses: impl Iterator<Item = SocketAddr>,
        mut inherited: Inherited,
    ) -> Result<Self, StartError> {
        let sockets = addresses.map(|address| {
            let open = inherited.remove(address).map_or_else(|| bind(address), Ok);
            let socket = open.map_err(|error| StartError::Listen(address, error))?;
            Ok((address, socket))
        });
        sockets.collect::<Result<_, _>>().map(Self)
    }

    /// Copies for Pingora's services, which own what they are given.
    pub(super) fn handing(&self) -> io::Result<Handing> {
        let copies = self.0.iter().map(|(address, socket)| {
            socket.set_nonblocking(true)?;
            Ok((address.to_string(), socket.try_clone()?.into()))
        });
        copies.collect::<io::Result<_>>().map(Handing)
    }

    /// Copies that stay open in a process that is started next, and what tells it of them.
    pub(super) fn for_next(&self) -> io::Result<(String, Vec<OwnedFd>)> {
        let mut told = Vec::new();
        let mut copies = Vec::new();
        for (address, socket) in &self.0 {
            // `dup` without the flag that closes it there.
            let copy = rustix::io::dup(socket)?;
            told.push(format!("{}={address}", copy.as_raw_fd()));
            copies.push(copy);
        }
        Ok((told.join(","), copies))
    }

    /// Closes all but the one of `address`.
    pub(super) fn keep_only(&mut self, address: SocketAddr) {
        self.0.retain(|(own, _)| *own == address);
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier process may still be closing.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` on one port are two listeners.
        socket.set_only_v6(true)?;
    }
    // Its connections have it as well: a visitor who does not read holds so much of the system's memory, not megabytes.
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Gives Pingora's services the sockets, before those begin that listen.
pub(super) struct Handing(Vec<(String, OwnedFd)>);

#[async_trait]
impl ServiceWithDependents for Handing {
    async fn start_service(
        &mut self,
        table: Option<ListenFds>,
        _: ShutdownWatch,
        _: usize,
        ready: ServiceReadyNotifier,
    ) {
        if let Some(table) = table {
            let mut table = table.lock();
            for (address, socket) in self.0.drain(..) {
                table.add(address, socket.into_raw_fd());
            }
        }
        ready.notify_ready();
    }

    fn name(&self) -> &'static str {
        "sockets"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_address_is_said_and_an_inherited_one_is_used() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let taken = TcpListener::bind(any).unwrap();
        let address = taken.local_addr().unwrap();
        let refused = Sockets::open([address].into_iter(), Inherited::default());
        assert!(matches!(refused, Err(StartError::Listen(at, _)) if at == address));
        let inherited = Inherited(vec![(address, taken)]);
        let mut sockets = Sockets::open([address, any].into_iter(), inherited).unwrap();
        let (told, copies) = sockets.for_next().unwrap();
        assert_eq!(told.matches(&format!("={address}")).count(), 1, "{told}");
        assert!(copies.iter().all(|copy| fcntl_getfd(copy).unwrap().is_empty()));
        sockets.keep_only(any);
        drop((copies, sockets));
        assert!(TcpListener::bind(address).is_ok(), "nothing is left open");
    }

    #[test]
    fn only_what_is_open_is_adopted() {
        for number in [-1, 0, 2, 1_000_000] {
            assert!(adopt(number).is_none(), "{number}");
        }
    }
}
