use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::*;

const LIMITS: Limits = Limits { bytes: 10_000, events: 100, added: 0 };

fn open(folder: &Path) -> (Spool, Share) {
    let room = Room::new(4 * 1024 * 1024).share("shop");
    (Spool::open(folder, Durability::Sync, room.clone()).unwrap(), room)
}

fn parcel(text: &str) -> Parcel {
    Parcel::batched(text.as_bytes().to_vec())
}

fn bodies(batch: &Batch) -> Vec<String> {
    let text = |event: &Event| String::from_utf8(event.parcel.body.to_vec()).unwrap();
    batch.events.iter().map(text).collect()
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[tokio::test]
async fn events_come_out_in_order_once_and_their_files_go() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, room) = open(folder.path());
    assert!(spool.take(LIMITS).unwrap().is_none());
    spool.append(&[parcel("1"), parcel("2")], Sender::Light).await.unwrap();
    spool.append(&[Parcel::post("/m", b"3".to_vec())], Sender::Light).await.unwrap();
    spool.append(&[parcel("4")], Sender::Light).await.unwrap();
    assert_eq!(spool.waiting(), 4);
    let batches: Vec<Batch> = std::iter::from_fn(|| spool.take(LIMITS).unwrap()).collect();
    // A call of its own stands alone.
    let found: Vec<_> = batches.iter().map(bodies).collect();
    assert_eq!(found, [vec!["1", "2"], vec!["3"], vec!["4"]]);
    for batch in &batches {
        spool.done(batch);
    }
    assert_eq!(spool.waiting(), 0);

    // Full files are made and go again.
    let large = parcel(&"x".repeat(200_000));
    for _ in 0..4 {
        spool.append(std::slice::from_ref(&large), Sender::Light).await.unwrap();
    }
    assert_eq!(files(folder.path()), 2);
    while let Some(batch) = spool.take(LIMITS).unwrap() {
        assert_eq!(batch.events.len(), 1, "one that is larger than a batch goes alone");
        spool.done(&batch);
    }
    assert_eq!(files(folder.path()), 1);
    assert!(room.used() < 400_000);
}

#[tokio::test]
async fn what_was_taken_can_be_erased_as_soon_as_it_is_settled() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _room) = open(folder.path());
    for number in 0..50 {
        // Nobody waits for these, as for what the edge tells itself.
        drop(spool.append_later(&[parcel(&format!("john {number}"))], Sender::Light).unwrap());
    }
    spool.settle().await.unwrap();
    let is_his = |event: &Event| event.parcel.body.starts_with(b"john");
    assert_eq!(erase(folder.path(), is_his).unwrap(), 50);
    // Nothing is made only to find that nothing is there.
    let empty = tempfile::tempdir().unwrap();
    let (spool, _room) = open(empty.path());
    spool.settle().await.unwrap();
    assert_eq!(files(empty.path()), 0);
}

#[tokio::test]
async fn batches_keep_their_limits() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    let parcels: Vec<Parcel> = (0..250).map(|n| parcel(&n.to_string())).collect();
    spool.append(&parcels, Sender::Light).await.unwrap();
    let sizes: Vec<usize> = std::iter::from_fn(|| spool.take(LIMITS).unwrap())
        .map(|batch| batch.events.len())
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 250);
    assert!(sizes.iter().all(|size| *size <= 100), "{sizes:?}");
    spool
        .append(&(0..30).map(|_| parcel(&"y".repeat(999))).collect::<Vec<_>>(), Sender::Light)
        .await
        .unwrap();
    while let Some(batch) = spool.take(LIMITS).unwrap() {
        assert!(
            batch.events.iter().map(|event| event.parcel.body.len() + 1).sum::<usize>() <= 10_000
        );
    }
}

#[tokio::test]
async fn what_a_process_leaves_is_taken_over_from_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (first, _) = open(folder.path());
    first.append(&[parcel("1"), parcel("2")], Sender::Light).await.unwrap();
    first.append(&[parcel("3")], Sender::Light).await.unwrap();
    let limits = Limits { events: 2, ..LIMITS };
    let batch = first.take(limits).unwrap().unwrap();
    first.done(&batch);
    // As long as somebody has it, nobody else does.
    let (second, room) = open(folder.path());
    second.adopt().unwrap();
    assert!(second.take(LIMITS).unwrap().is_none());
    drop(first);
    // The writer's thread lets go of its file.
    let start = Instant::now();
    while second.waiting() == 0 && start.elapsed() < Duration::from_mins(1) {
        second.adopt().unwrap();
        std::thread::yield_now();
    }
    second.append(&[parcel("4")], Sender::Light).await.unwrap();
    let batch = second.take(LIMITS).unwrap().unwrap();
    assert_eq!(bodies(&batch), ["3"]);
    second.rewind();
    let batch = second.take(LIMITS).unwrap().unwrap();
    second.done(&batch);
    assert_eq!(bodies(&second.take(LIMITS).unwrap().unwrap()), ["4"]);
    assert_eq!(files(folder.path()), 1);
    assert!(room.used() < 1000);
}

static BROKEN: AtomicBool = AtomicBool::new(false);

fn sync(file: &File) -> io::Result<()> {
    if BROKEN.load(Ordering::SeqCst) {
        return Err(io::Error::other("the disk is gone"));
    }
    file.sync_data()
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_taken_until_another_file_stands() {
    let folder = tempfile::tempdir().unwrap();
    let room = Room::new(4 * 1024 * 1024).share("shop");
    let spool = Spool::open_with(folder.path(), Durability::Sync, room.clone(), sync).unwrap();
    spool.append(&[parcel("before")], Sender::Light).await.unwrap();
    let used = room.used();
    BROKEN.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let refused = spool.append(&[parcel("lost")], Sender::Light).await.unwrap_err();
        assert!(matches!(refused, SpoolError::Failed(why) if why.contains("the disk is gone")));
    }
    assert_eq!(room.used(), used);
    BROKEN.store(false, Ordering::SeqCst);
    spool.append(&[parcel("after")], Sender::Light).await.unwrap();
    assert_eq!(files(folder.path()), 2, "the file whose sync failed gets no more");
    let all: Vec<String> = std::iter::from_fn(|| spool.take(LIMITS).unwrap())
        .flat_map(|batch| bodies(&batch))
        .collect();
    assert_eq!(all, ["before", "after"]);
}

#[tokio::test]
async fn where_nothing_can_be_added_a_file_whose_events_are_delivered_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, room) = open(folder.path());
    spool.append(&[parcel("before")], Sender::Light).await.unwrap();
    spool.done(&spool.take(LIMITS).unwrap().unwrap());
    assert_eq!(files(folder.path()), 1, "it takes more");
    let read_only = {
        let state = spool.shared.lock();
        Arc::new(File::open(&state.segments.front().unwrap().path).unwrap())
    };
    spool.shared.lock().segments.front_mut().unwrap().file = read_only;
    spool.append(&[parcel("lost")], Sender::Light).await.unwrap_err();
    assert_eq!((files(folder.path()), room.used()), (0, 0));
    spool.append(&[parcel("after")], Sender::Light).await.unwrap();
    assert_eq!(bodies(&spool.take(LIMITS).unwrap().unwrap()), ["after"]);
}

#[test]
fn a_file_that_is_just_made_is_not_taken_for_one_that_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let looks = AtomicBool::new(true);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let (other, _) = open(folder.path());
                while looks.load(Ordering::SeqCst) {
                    other.adopt().unwrap();
                }
            });
        }
        let made: Vec<_> = (0..300).map(|_| Segment::create(folder.path()).is_ok()).collect();
        looks.store(false, Ordering::SeqCst);
        assert!(
            made.iter().all(|made| *made),
            "{} of 300",
            made.iter().filter(|made| **made).count()
        );
    });
}

#[tokio::test]
async fn room_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    let large = parcel(&"x".repeat(1_000_000));
    for _ in 0..4 {
        spool.append(std::slice::from_ref(&large), Sender::Light).await.unwrap();
    }
    let full = spool.append(std::slice::from_ref(&large), Sender::Light).await.unwrap_err();
    assert!(matches!(full, SpoolError::Full { capacity, .. } if capacity == 4 * 1024 * 1024));
    while let Some(batch) = spool.take(LIMITS).unwrap() {
        spool.done(&batch);
    }
    spool.append(&[large], Sender::Light).await.unwrap();
}

#[tokio::test]
async fn any_process_can_look_and_erase() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    spool
        .append(&[parcel("mine"), parcel("theirs"), parcel("mine too")], Sender::Light)
        .await
        .unwrap();
    let about = status(folder.path()).unwrap();
    assert_eq!((about.events, about.damaged), (3, 0));
    assert!(about.oldest.is_some_and(|at| at <= now_millis()));
    let mine = |event: &Event| event.parcel.body.starts_with(b"mine");
    assert_eq!(erase(folder.path(), mine).unwrap(), 2);
    assert_eq!(erase(folder.path(), mine).unwrap(), 0);
    let bytes =
        std::fs::read(std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path());
    assert!(memchr::memmem::find(&bytes.unwrap(), b"mine").is_none(), "nothing of it is left");
    let batch = spool.take(LIMITS).unwrap().unwrap();
    assert_eq!(bodies(&batch), ["theirs"]);
    assert_eq!(spool.again(&batch).unwrap(), batch.events);
    // Erased after it was handed out.
    assert_eq!(erase(folder.path(), |_| true).unwrap(), 1);
    assert!(spool.again(&batch).unwrap().is_empty());
    spool.done(&batch);
    assert_eq!(spool.waiting(), 0);
    assert_eq!(status(&folder.path().join("none")).unwrap(), Waiting::default());
}

#[tokio::test]
async fn a_file_that_shrinks_under_us_ends_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    spool.append(&[parcel("1"), parcel("2")], Sender::Light).await.unwrap();
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    File::options().write(true).open(file).unwrap().set_len(segment::HEAD_BYTES).unwrap();
    let batch = spool.take(LIMITS).unwrap().unwrap();
    assert!(batch.events.is_empty());
    spool.done(&batch);
    assert!(spool.take(LIMITS).unwrap().is_none());
    spool.append(&[parcel("3")], Sender::Light).await.unwrap();
    assert_eq!(bodies(&spool.take(LIMITS).unwrap().unwrap()), ["3"]);
}
