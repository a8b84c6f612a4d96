//! Whatever happens to a spool: what was acknowledged and not damaged comes out, in its order, at least once, as it
//! was; and nothing else does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::unix::fs::FileExt;

use http::{HeaderName, HeaderValue, Method};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::collect::Call;

#[derive(Debug, Clone)]
enum Act {
    /// Accepts events together.
    Accept(Vec<Form>),
    /// Reads a batch.
    Take,
    /// Acknowledges the oldest batch that was read.
    Done,
    /// Erases every seventh event.
    Erase(u64),
    /// Looks for the newest.
    Newest,
    /// The process ends, in the middle of writing a frame of which so much is there, and bytes of files turn.
    Crash { torn: Option<u8>, turned: Vec<(u16, u8)> },
}

/// What an event looks like.
#[derive(Debug, Clone)]
struct Form {
    call: Option<Vec<u8>>,
    body: Vec<u8>,
}

fn form() -> impl Strategy<Value = Form> {
    let few = || vec(any::<u8>(), 0..40);
    // What the beginning of a frame looks like, too.
    let body = prop_oneof![few(), Just(b"DSe+DSe".to_vec()), vec(any::<u8>(), 2000..2500)];
    (proptest::option::of(few()), body).prop_map(|(call, body)| Form { call, body })
}

fn act() -> impl Strategy<Value = Act> {
    let turned = vec((any::<u16>(), 1..=u8::MAX), 0..3);
    prop_oneof![
        4 => vec(form(), 1..5).prop_map(Act::Accept),
        4 => Just(Act::Take),
        3 => Just(Act::Done),
        1 => (0..7_u64).prop_map(Act::Erase),
        1 => Just(Act::Newest),
        2 => (proptest::option::of(1..200_u8), turned)
            .prop_map(|(torn, turned)| Act::Crash { torn, turned }),
    ]
}

/// An event of that number.
fn parcel(number: u64, form: &Form) -> Parcel {
    let body = [&number.to_le_bytes()[..], &form.body].concat();
    let Some(value) = &form.call else { return Parcel::batched(body) };
    let value = HeaderValue::from_bytes(value);
    let value = value.unwrap_or_else(|_| HeaderValue::from_static(""));
    let headers = vec![(HeaderName::from_static("user-agent"), value)];
    let call = Call { method: Method::POST, path: "/t?a=b".into(), headers };
    Parcel { way: Way::Call(Box::new(call)), body: body.into() }
}

fn number(event: &Event) -> u64 {
    u64::from_le_bytes(*event.parcel.body.first_chunk().unwrap())
}

struct World {
    folder: tempfile::TempDir,
    spool: Spool,
    runtime: tokio::runtime::Runtime,
    accepted: BTreeMap<u64, Parcel>,
    /// May come out or not.
    damaged: BTreeSet<u64>,
    erased: BTreeSet<u64>,
    read: BTreeSet<u64>,
    out: VecDeque<Batch>,
    /// The last that came out of this process.
    last: Option<u64>,
}

const FEW: Limits = Limits { bytes: 4000, events: 3, added: 0 };

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spool = Self::open(folder.path());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (accepted, out) = (BTreeMap::new(), VecDeque::new());
        let (damaged, erased, read) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self { folder, spool, runtime, accepted, damaged, erased, read, out, last: None }
    }

    fn open(folder: &Path) -> Spool {
        // Small enough for several files.
        let room = Room::new(8 * 16 * 1024).share("shop");
        Spool::open(folder, Durability::Sync, room).unwrap()
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Accept(forms) => self.accept(&forms),
            Act::Take => drop(self.take()),
            Act::Done => {
                if let Some(batch) = self.out.pop_front() {
                    self.spool.done(&batch);
                }
            }
            Act::Erase(part) => {
                let is_it = |event: &Event| number(event) % 7 == part;
                erase(self.folder.path(), is_it).unwrap();
                let accepted = self.accepted.keys().copied();
                self.erased.extend(accepted.filter(|number| number % 7 == part));
            }
            Act::Newest => {
                if let Some(event) = self.spool.newest().unwrap() {
                    assert_eq!(self.accepted[&number(&event)], event.parcel);
                    assert!(!self.erased.contains(&number(&event)));
                }
            }
            Act::Crash { torn, turned } => self.crash(torn, &turned),
        }
    }

    fn accept(&mut self, forms: &[Form]) {
        let next = self.accepted.len() as u64;
        let parcels: Vec<Parcel> =
            forms.iter().zip(next..).map(|(form, number)| parcel(number, form)).collect();
        match self.runtime.block_on(self.spool.append(&parcels, Sender::Light)) {
            Ok(()) => self.accepted.extend((next..).zip(parcels)),
            Err(error) => assert!(matches!(error, SpoolError::Full { .. }), "{error}"),
        }
    }

    /// Whether there was something.
    fn take(&mut self) -> bool {
        let Some(batch) = self.spool.take(FEW).unwrap() else { return false };
        for event in &batch.events {
            let number = number(event);
            assert_eq!(self.accepted[&number], event.parcel, "what comes out is what came in");
            assert!(self.last.is_none_or(|last| last < number), "in its order");
            assert!(!self.erased.contains(&number), "what is erased does not come out");
            self.last = Some(number);
            self.read.insert(number);
        }
        self.out.push_back(batch);
        true
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    fn crash(&mut self, torn: Option<u8>, turned: &[(u16, u8)]) {
        let files = self.files();
        for (at, by) in turned {
            if let Some(file) = files.get(usize::from(*at) % files.len().max(1)) {
                self.turn(file, u64::from(*at), *by);
            }
        }
        if let Some((last, torn)) = files.last().zip(torn) {
            let mut frame = Vec::new();
            let whole = parcel(u64::MAX, &Form { call: None, body: vec![b'x'; 200] });
            frame::write(&whole, 1, &mut frame).unwrap();
            let file = File::options().write(true).open(last).unwrap();
            let end = file.metadata().unwrap().len();
            file.write_all_at(&frame[..usize::from(torn)], end).unwrap();
        }
        self.spool = Self::open(self.folder.path());
        // The thread of the one before lets go of its files.
        let is_left = |world: &Self, path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy();
            world.spool.shared.lock().find(&name).is_none()
        };
        let all = |world: &Self| world.files().iter().all(|path| !is_left(world, path));
        let start = std::time::Instant::now();
        while !all(self) {
            assert!(start.elapsed() < Duration::from_secs(20), "nobody has a file");
            std::thread::yield_now();
            self.spool.adopt().unwrap();
        }
        self.out.clear();
        self.last = None;
    }

    /// Turns bits of a byte, and notes whose it was.
    fn turn(&mut self, path: &Path, at: u64, by: u8) {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let at = at % file.metadata().unwrap().len();
        segment::look_through(&file, segment::HEAD_BYTES, |place, event| {
            if place.holds(at) {
                self.damaged.insert(number(&event));
            }
        })
        .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ by], at).unwrap();
    }

    fn end(mut self) {
        self.crash(None, &[]);
        while self.take() {}
        for number in self.accepted.keys() {
            let may_miss = self.damaged.contains(number) || self.erased.contains(number);
            assert!(may_miss || self.read.contains(number), "{number} never came out");
        }
        while let Some(batch) = self.out.pop_front() {
            self.spool.done(&batch);
        }
        assert_eq!(self.spool.waiting(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_was_acknowledged_comes_out_and_nothing_else(acts in vec(act(), 1..40)) {
        let mut world = World::new();
        for act in acts {
            world.act(act);
        }
        world.end();
    }
}
