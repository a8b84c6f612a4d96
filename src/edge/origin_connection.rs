//! A connection to the origin carries one request and one answer at a time. Pingora keeps one whose answer came
//! or began before the request had gone, and whose rest followed: an origin that did not wait for the rest takes it
//! for the next request, and answers that to another visitor.

use std::os::fd::{BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, shutdown};
use rustix::net::sockopt;

use super::deadline::Deadline;
use super::pace::longest;

/// The connection that a page's request is on.
#[derive(Debug, Default)]
pub(super) struct OriginConnection {
    /// Open for as long as the request is on it: Pingora closes or keeps it behind all hooks of the answer.
    socket: Option<RawFd>,
    /// The whole request has been handed over.
    request_ended: bool,
    /// The answer has begun before that.
    is_early: bool,
    /// Bytes of the request's body that have come from the visitor.
    came: u64,
    /// The answer has to begin by then.
    deadline: Option<Deadline>,
}

impl OriginConnection {
    /// The request goes out on `socket`, and its answer has to begin `within` that time, where it says so.
    pub(super) fn open(&mut self, socket: RawFd, within: Option<Duration>) {
        // Without descriptors for it the origin's own pause bounds the wait.
        let deadline = within.and_then(|within| Deadline::start(socket, within).ok());
        *self = Self { socket: Some(socket), came: self.came, deadline, ..Self::default() };
    }

    /// The request has left it, with an error.
    pub(super) fn leave(&mut self) {
        self.socket = None;
        self.deadline = None;
    }

    /// The head of an answer that is not one of several has come. Whether that is in time: where it is not, the connection
    /// has been ended, and the rest of the answer will not come.
    pub(super) fn begin_answer(&mut self) -> bool {
        // Kept where it is over: who is told of the failure asks.
        if self.is_late() {
            return false;
        }
        self.deadline = None;
        true
    }

    /// Whether the answer has not begun in time.
    pub(super) fn is_late(&self) -> bool {
        self.deadline.as_ref().is_some_and(Deadline::is_over)
    }

    /// `bytes` of the body have come, of a request that came at `since`. Whether that is too slow by now.
    pub(super) fn is_too_slow(&mut self, bytes: usize, since: Instant) -> bool {
        self.came = self.came.saturating_add(bytes as u64);
        since.elapsed() > longest(self.came)
    }

    /// All of the request has come from the visitor.
    pub(super) fn request_ended(&mut self) {
        self.request_ended = true;
    }

    /// The head of the answer has come from the origin.
    pub(super) fn answer_began(&mut self) {
        self.is_early = !self.request_ended;
    }

    /// All of the answer has come from the origin. Where it began before the request had gone, the rest of that still
    /// goes, and then nothing is read from the connection any more: so it is not kept.
    pub(super) fn answer_ended(&mut self) {
        if let (true, Some(socket)) = (self.is_early, self.socket.take()) {
            // It may have ended by itself.
            let _ = shutdown(socket, Shutdown::Read);
        }
    }
}

/// So long a request for a tunnel waits to go: Pingora has done with its body by then.
const BEHIND_THE_BODY: Duration = Duration::from_millis(1);

/// Lets the head of a request for a tunnel go a little later. Pingora tells its upstream half that the request has no body
/// through a queue. Should the origin agree before that is read, it reads the end of that body as the tunnel's.
///
/// # Errors
/// The system's own, when there are no descriptors left.
#[allow(unsafe_code, reason = "Pingora tells its connection's descriptor as a number")]
pub(super) fn hold_back(socket: RawFd) -> std::io::Result<()> {
    // SAFETY: the caller is a hook of the request that holds the connection open until it returns, and the copy that is
    // made meanwhile is a descriptor of its own.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) }.try_clone_to_owned()?;
    sockopt::set_tcp_cork(&socket, true)?;
    tokio::spawn(async move {
        tokio::time::sleep(BEHIND_THE_BODY).await;
        // The system lets it go by itself, a little later.
        let _ = sockopt::set_tcp_cork(&socket, false);
    });
    Ok(())
}

/// Whether an idle connection can take a request: it is open, and nothing has come that nobody asked for. Pingora asks
/// that of the runtime, which may not have heard yet of what the system knows. Over TLS there may be messages that are
/// none of HTTP's.
pub(super) fn is_idle(socket: RawFd, tls: bool) -> bool {
    match recv(socket, &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
        Ok(came) => came > 0 && tls,
        Err(error) => error == Errno::EAGAIN,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_body_has_a_pace_of_its_own_for_a_while_only() {
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let mut connection = OriginConnection::default();
        assert!(!connection.is_too_slow(1, ago(19)));
        assert!(connection.is_too_slow(1, ago(21)));
        assert!(!connection.is_too_slow(10_000, ago(39)));
        connection.open(1, None);
        assert!(connection.is_too_slow(1, ago(41)), "another connection changes nothing");
    }

    #[test]
    fn what_has_ended_or_speaks_unasked_takes_no_request() {
        for (speaks, ends, plain, tls) in [
            (false, false, true, true),
            (true, false, false, true),
            (false, true, false, false),
            (true, true, false, true),
        ] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            if speaks {
                theirs.write_all(b"HTTP/1.1 200 OK").unwrap();
            }
            if ends {
                shutdown(ours.as_raw_fd(), Shutdown::Read).unwrap();
            }
            assert_eq!(is_idle(ours.as_raw_fd(), false), plain, "{speaks} {ends}");
            assert_eq!(is_idle(ours.as_raw_fd(), true), tls, "{speaks} {ends}");
        }
    }

    #[test]
    fn only_an_answer_that_began_before_its_requests_end_ends_the_connection() {
        // Whether the request ended before the answer began, and before that ended; whether it left the connection.
        for (before, meanwhile, left, closes) in [
            (false, false, false, true),
            (false, true, false, true),
            (true, false, false, false),
            (false, false, true, false),
        ] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let mut connection = OriginConnection::default();
            connection.request_ended();
            connection.open(ours.as_raw_fd(), None);
            if before {
                connection.request_ended();
            }
            connection.answer_began();
            if meanwhile {
                connection.request_ended();
            }
            if left {
                connection.leave();
            }
            connection.answer_ended();
            assert_eq!(ours.read(&mut [0]).is_ok_and(|read| read == 0), closes);
            assert!(ours.write(b"rest").is_ok(), "the request goes on");
            drop(theirs);
        }
    }
}
