use proptest::prelude::*;

use super::*;
use crate::edge::{LOOK, RawRequest};
use crate::node::patience::Patience;

fn requests() -> Requests {
    Requests::new(Patience::new(Arc::default()), RawRequest::default())
}

/// Takes so many bytes a call as it is told, none at times, and remembers each call's.
#[derive(Debug, Default, Clone)]
struct Socket {
    calls: Arc<Mutex<Vec<Vec<u8>>>>,
    appetite: Arc<Mutex<Vec<usize>>>,
}

impl Socket {
    fn calls(&self) -> Vec<Vec<u8>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let most = self.appetite.lock().unwrap().pop().unwrap_or(usize::MAX);
        if most == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        all.truncate(most);
        let n = all.len();
        self.calls.lock().unwrap().push(all);
        Poll::Ready(Ok(n))
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
#[async_trait]
impl Shutdown for Socket {
    async fn shutdown(&mut self) {}
}
impl UniqueID for Socket {
    fn id(&self) -> UniqueIDType {
        7
    }
}
impl Ssl for Socket {}
impl GetTimingDigest for Socket {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        vec![]
    }
}
impl GetProxyDigest for Socket {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}
impl GetSocketDigest for Socket {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}
impl Peek for Socket {}

fn open() -> (Socket, Wire, Gathered) {
    let socket = Socket::default();
    let wire = Wire::new(Box::new(socket.clone()));
    let stream = Gathered::new(wire.clone(), requests());
    (socket, wire, stream)
}

#[tokio::test]
async fn a_head_leaves_with_its_body() {
    let (socket, _wire, mut stream) = open();
    stream.write_all(b"head").await.unwrap();
    assert_eq!(socket.calls().len(), 0);
    stream.write_all(&[b'x'; 5000]).await.unwrap();
    assert_eq!(socket.calls().len(), 1, "without waiting for a flush");
    assert_eq!(socket.calls().concat().len(), 5004);
}

#[tokio::test]
async fn a_chunked_answer_leaves_when_its_task_rests() {
    let (socket, wire, mut stream) = open();
    wire.at_work(async {
        for part in [b"head", vec![b'x'; 40_000].as_slice(), b"last"] {
            stream.write_all(part).await.unwrap();
            stream.flush().await.unwrap();
            assert_eq!(socket.calls().len(), 0);
        }
        tokio::task::yield_now().await;
        assert_eq!(socket.calls().len(), 1);
        assert_eq!(socket.calls().concat().len(), 40_008);
        // What has not been flushed waits for what comes after it.
        stream.write_all(b"head").await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(socket.calls().len(), 1);
        stream.flush().await.unwrap();
    })
    .await;
    assert_eq!(socket.calls().len(), 2, "done is at rest, too");
}

#[tokio::test]
async fn more_than_may_be_kept_leaves_while_its_task_is_at_work() {
    let (socket, wire, mut stream) = open();
    wire.at_work(async {
        stream.write_all(b"head").await.unwrap();
        stream.flush().await.unwrap();
        stream.write_all(&vec![b'x'; FLUSHED]).await.unwrap();
        assert_eq!(socket.calls().concat().len(), 4 + FLUSHED);
    })
    .await;
}

#[tokio::test]
async fn nothing_stays_behind() {
    let (socket, wire, mut stream) = open();
    stream.write_all(b"one").await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(socket.calls().concat(), b"one");
    stream.write_all(b"two").await.unwrap();
    AsyncWriteExt::shutdown(&mut stream).await.unwrap();
    assert_eq!(socket.calls().concat(), b"onetwo");
    // A task that ends while its visitor takes nothing.
    *socket.appetite.lock().unwrap() = vec![1, 0, 1, 0, 0];
    wire.at_work(async {
        stream.write_all(b"three").await.unwrap();
        stream.flush().await.unwrap();
    })
    .await;
    drop(stream);
    assert_eq!(socket.calls().concat(), b"onetwo");
    wire.end().await;
    assert_eq!(socket.calls().concat(), b"onetwothree");
}

#[tokio::test(start_paused = true)]
async fn a_visitor_who_takes_nothing_is_not_waited_for_for_ever() {
    for close in [false, true] {
        let (visitor, stream) = tokio::io::duplex(1);
        let wire = Wire::new(Box::new(stream));
        let mut stream = Gathered::new(wire.clone(), requests());
        let began = tokio::time::Instant::now();
        wire.at_work(async {
            stream.write_all(b"last").await.unwrap();
            stream.flush().await.unwrap();
            if close {
                Shutdown::shutdown(&mut stream).await;
            }
        })
        .await;
        wire.end().await;
        assert_eq!(began.elapsed(), LOOK);
        drop(visitor);
    }
}

/// What is written: these lengths in a vectored call, or a flush, or nothing for a while.
#[derive(Debug, Clone)]
enum Act {
    Write(Vec<usize>),
    Flush,
    Rest,
}

/// Does `acts`, and checks that what has been flushed leaves: at once, or when the task rests.
async fn act(acts: Vec<Act>, socket: &Socket, mut stream: Gathered, at_once: bool) -> Vec<u8> {
    let (mut sent, mut flushed, mut most) = (Vec::new(), 0, KEPT);
    for act in acts {
        match act {
            Act::Write(lengths) => {
                let pieces: Vec<Vec<u8>> = (sent.len()..)
                    .zip(lengths)
                    .map(|(at, length)| vec![u8::try_from(at % 251).unwrap(); length])
                    .collect();
                let mut left: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
                let mut left = left.as_mut_slice();
                sent.extend(pieces.concat());
                while left.iter().any(|piece| !piece.is_empty()) {
                    let n = stream.write_vectored(left).await.unwrap();
                    assert!(n > 0);
                    IoSlice::advance_slices(&mut left, n);
                }
                assert!(sent.len() - socket.calls().concat().len() <= most);
            }
            Act::Flush => {
                stream.flush().await.unwrap();
                flushed = sent.len();
                most = if at_once { KEPT } else { FLUSHED };
                assert!(!at_once || socket.calls().concat() == sent);
            }
            Act::Rest => {
                // The socket takes nothing in so many polls at most.
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                assert!(socket.calls().concat().len() >= flushed);
            }
        }
    }
    stream.flush().await.unwrap();
    sent
}

proptest! {
    /// Whatever is written, and however the socket takes it, arrives once and in its order.
    #[test]
    fn bytes_keep_their_order(
        acts in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(prop_oneof![0..40_usize, 0..4000_usize, 0..40_000_usize], 1..12)
                    .prop_map(Act::Write),
                Just(Act::Flush),
                Just(Act::Rest),
            ],
            1..20,
        ),
        appetite in prop::collection::vec(prop_oneof![0..3_usize, 0..3000_usize, 0..40_000_usize], 0..60),
        driven in any::<bool>(),
    ) {
        let (socket, wire, stream) = open();
        *socket.appetite.lock().unwrap() = appetite;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let sent = runtime.block_on(async {
            let acts = act(acts, &socket, stream, !driven);
            let sent = if driven { wire.at_work(acts).await } else { acts.await };
            wire.end().await;
            sent
        });
        prop_assert_eq!(socket.calls().concat(), sent);
    }
}
