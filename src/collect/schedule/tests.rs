use std::collections::BTreeMap;

use bytes::Bytes;
use http::StatusCode;

use super::*;
use crate::collect::Parcel;

fn event(text: &str) -> Event {
    Event { at: 1, parcel: Parcel::batched(text.as_bytes().to_vec()) }
}

fn text(event: &Event) -> String {
    String::from_utf8(event.parcel.body.to_vec()).unwrap()
}

fn batch(events: &[String]) -> Batch {
    Batch::of(events.iter().map(|text| event(text)).collect())
}

fn numbered(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{name}{n}")).collect()
}

fn answer(status: u16) -> Answer {
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        content_type: None,
        cache_control: None,
        retry_after: None,
        body: Bytes::new(),
    }
}

fn failed(status: u16) -> Outcome {
    let fault = match status {
        401 | 429 => Fault::Site,
        500.. => Fault::Vendor,
        _ => Fault::Answer,
    };
    Outcome::Failed { fault, told: None, answer: Some(answer(status)) }
}

/// Calls take their time, one after the other.
const CALL: Duration = Duration::from_millis(2);

/// A vendor that says what becomes of a call with these events.
struct Lane<V> {
    schedule: Schedule,
    waiting: VecDeque<Vec<String>>,
    vendor: V,
    calls: usize,
    /// How often each event was delivered.
    delivered: BTreeMap<String, usize>,
    aside: Vec<String>,
}

impl<V: FnMut(&[String]) -> Outcome> Lane<V> {
    fn new(waiting: Vec<Vec<String>>, vendor: V) -> Self {
        let (schedule, waiting) = (Schedule::new(4), waiting.into());
        Self { schedule, waiting, vendor, calls: 0, delivered: BTreeMap::new(), aside: Vec::new() }
    }

    async fn call(&mut self, events: &[Event]) -> Outcome {
        let texts: Vec<String> = events.iter().map(text).collect();
        self.calls += 1;
        tokio::time::sleep(CALL).await;
        let outcome = (self.vendor)(&texts);
        if matches!(outcome, Outcome::Delivered) {
            for text in texts {
                *self.delivered.entry(text).or_default() += 1;
            }
        }
        outcome
    }

    /// The newest event goes ahead, where one waits.
    async fn goes_ahead(&mut self) -> bool {
        let Some(newest) = self.waiting.back_mut().and_then(Vec::pop) else { return false };
        self.schedule.launch_scout();
        let outcome = self.call(&[event(&newest)]).await;
        self.schedule.scout_ended(&outcome);
        if !matches!(outcome, Outcome::Delivered) {
            self.waiting.back_mut().unwrap().push(newest);
        }
        true
    }

    /// Delivers until nothing is left, or the time is over.
    async fn run(&mut self, most: Duration) -> bool {
        let end = Instant::now() + most;
        while Instant::now() < end {
            while self.schedule.has_room()
                && let Some(events) = self.waiting.pop_front()
            {
                self.schedule.add(batch(&events));
            }
            let place = match self.schedule.choose() {
                Some(Next::Piece(place)) => place,
                Some(Next::Newest) if self.goes_ahead().await => continue,
                Some(Next::Newest | Next::Scout) => self.schedule.scout().unwrap(),
                None => match self.schedule.pause() {
                    Some(until) => {
                        tokio::time::sleep_until(until.min(end)).await;
                        continue;
                    }
                    None => {
                        assert!(self.schedule.done().is_none() && self.waiting.is_empty());
                        return true;
                    }
                },
            };
            let (id, _, events) = self.schedule.launch(place).unwrap();
            let outcome = self.call(&events).await;
            if let Some(aside) = self.schedule.ended(id, events, outcome) {
                self.aside.extend(aside.events.iter().map(text));
                self.schedule.put_aside(aside.id, None);
            }
            while self.schedule.done().is_some() {}
        }
        false
    }

    /// Delivers all, while others come now and then.
    async fn finish(&mut self) {
        for n in 0..40 {
            if self.run(Duration::from_mins(1)).await {
                return;
            }
            self.waiting.push_back(vec![format!("later{n}")]);
        }
        panic!("something still waits");
    }

    fn all_once(&self, name: &str, count: usize) {
        let own = self.delivered.iter().filter(|(text, _)| text.starts_with(name));
        let times: Vec<usize> = own.map(|(_, times)| *times).collect();
        assert_eq!(times, vec![1; count]);
    }
}

fn is_poisoned(events: &[String]) -> bool {
    events.iter().any(|event| event.starts_with("poison"))
}

#[tokio::test(start_paused = true)]
async fn one_event_that_the_vendor_never_takes_is_put_aside_whatever_it_answers() {
    for status in [400, 403, 404, 406, 451, 500, 503] {
        let vendor = |events: &[String]| match status {
            _ if !is_poisoned(events) => Outcome::Delivered,
            400 => Outcome::Refused(answer(400)),
            status => failed(status),
        };
        // First alone with others behind it, then in the middle of others.
        let mut first = vec![vec!["poison".to_owned()]];
        first.extend(numbered("good", 20).into_iter().map(|good| vec![good]));
        let mut middle = numbered("good", 20);
        middle.insert(7, "poison".to_owned());
        for waiting in [first, vec![middle]] {
            let mut lane = Lane::new(waiting, vendor);
            lane.finish().await;
            assert_eq!(lane.aside, ["poison"], "{status}");
            lane.all_once("good", 20);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_others_do_not_wait_until_poison_is_known() {
    for status in [403, 500] {
        let mut waiting = vec![vec!["poison".to_owned()]];
        waiting.extend((0..50).map(|n| vec![format!("good{n:02}")]));
        let vendor = |events: &[String]| {
            if is_poisoned(events) { failed(status) } else { Outcome::Delivered }
        };
        let mut lane = Lane::new(waiting, vendor);
        lane.run(Duration::from_secs(4)).await;
        lane.all_once("good", 50);
    }
}

/// Somebody sends one after the other: none costs the others a pause.
#[tokio::test(start_paused = true)]
async fn a_stream_of_poison_does_not_stop_the_others() {
    const TICK: Duration = Duration::from_millis(100);
    // Alone in each second batch, among others in each, and most of each.
    let alone = |n: usize| match n % 2 {
        0 => vec![format!("good{n:04}-0")],
        _ => vec![format!("poison{n}")],
    };
    let among = |n: usize| {
        let mut batch = numbered(&format!("good{n:04}-"), 9);
        batch.insert(n % 10, format!("poison{n}"));
        batch
    };
    let most = |n: usize| {
        let mut batch = numbered(&format!("poison{n}-"), 5);
        batch.insert(n % 6, format!("good{n:04}-0"));
        if n.is_multiple_of(5) { batch } else { Vec::new() }
    };
    let streams: [fn(usize) -> Vec<String>; 3] = [alone, among, most];
    for (name, stream) in ["alone", "among", "most"].into_iter().zip(streams) {
        for status in [400, 403, 500] {
            let vendor = |events: &[String]| match status {
                _ if !is_poisoned(events) => Outcome::Delivered,
                400 => Outcome::Refused(answer(400)),
                status => failed(status),
            };
            let mut lane = Lane::new(vec![vec!["before0".into()], vec!["before1".into()]], vendor);
            for n in 0..1200 {
                lane.waiting.extend(Some(stream(n)).filter(|batch| !batch.is_empty()));
                let next = Instant::now() + TICK;
                lane.run(TICK).await;
                tokio::time::sleep_until(next).await;
                // What came ten seconds ago has been delivered.
                let Some(before) = n.checked_sub(100) else { continue };
                let good = stream(before).into_iter().filter(|event| event.starts_with("good"));
                for event in good {
                    assert_eq!(
                        lane.delivered.get(&event),
                        Some(&1),
                        "{name} {status} {n}: {event}"
                    );
                }
            }
        }
    }
}

/// "Too many calls" is of the site as a whole, unless others pass each time.
#[tokio::test(start_paused = true)]
async fn an_event_that_is_always_one_too_many_does_not_stop_the_others() {
    for told in [None, Some(Duration::from_hours(1))] {
        let vendor = |events: &[String]| match failed(429) {
            Outcome::Failed { fault, answer, .. } if is_poisoned(events) => {
                Outcome::Failed { fault, told: told.filter(|_| events.len() == 1), answer }
            }
            _ => Outcome::Delivered,
        };
        let mut batch = numbered("good", 99);
        batch.insert(40, "poison".into());
        let mut lane = Lane::new(vec![batch], vendor);
        lane.waiting.extend((0..400).map(|n| vec![format!("later{n:03}")]));
        lane.run(Duration::from_hours(1)).await;
        lane.all_once("good", 99);
        lane.all_once("later", 400);
        assert!(lane.calls < 700, "{}", lane.calls);
    }
}

/// Once it is known that others pass, nothing but the poison itself waits for more of them.
#[tokio::test(start_paused = true)]
async fn what_came_with_poison_waits_for_nothing_else() {
    for status in [403, 500] {
        let mut first = numbered("good", 30);
        first.insert(17, "poison".to_owned());
        let vendor = |events: &[String]| {
            if is_poisoned(events) { failed(status) } else { Outcome::Delivered }
        };
        let mut lane = Lane::new(vec![first, vec!["good30".to_owned()]], vendor);
        lane.run(Duration::from_mins(10)).await;
        lane.all_once("good", 31);
        assert!(lane.calls < 80, "{}", lane.calls);
    }
}

#[tokio::test(start_paused = true)]
async fn where_each_batch_has_poison_single_events_find_out() {
    let batches = (0..8).map(|n| {
        let mut batch = numbered(&format!("good{n}-"), 20);
        batch.insert(10, format!("poison{n}"));
        // Nor is the newest one good.
        batch.push(format!("poison{n}b"));
        batch
    });
    let vendor =
        |events: &[String]| if is_poisoned(events) { failed(403) } else { Outcome::Delivered };
    let mut lane = Lane::new(batches.collect(), vendor);
    lane.finish().await;
    lane.all_once("good", 160);
    assert_eq!(lane.aside.len(), 16);
}

#[tokio::test(start_paused = true)]
async fn an_outage_puts_nothing_aside_and_costs_few_calls() {
    for status in [401, 403, 404, 500, 503] {
        let end = Instant::now() + Duration::from_hours(10);
        let waiting: Vec<_> = (0..10).map(|n| numbered(&format!("good{n}-"), 100)).collect();
        let vendor =
            |_: &[String]| if Instant::now() < end { failed(status) } else { Outcome::Delivered };
        let mut lane = Lane::new(waiting, vendor);
        lane.run(Duration::from_hours(10)).await;
        // Two to four in a minute.
        assert!((1000..2500).contains(&lane.calls), "{}", lane.calls);
        assert!(lane.run(Duration::from_mins(5)).await);
        lane.all_once("good", 1000);
        assert!(lane.aside.is_empty(), "{status}: {:?}", lane.aside);
    }
}

#[tokio::test(start_paused = true)]
async fn a_vendor_that_fails_by_chance_gets_everything() {
    for status in [429, 500] {
        let mut random = 7_u64;
        let vendor = |_: &[String]| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            if random % 10 < 3 { failed(status) } else { Outcome::Delivered }
        };
        let waiting: Vec<_> =
            (0..300).map(|n| numbered(&format!("good{n:03}-"), 1 + n % 7)).collect();
        let events = waiting.iter().map(Vec::len).sum();
        let mut lane = Lane::new(waiting, vendor);
        assert!(lane.run(Duration::from_hours(2)).await);
        lane.all_once("good", events);
        assert!(lane.aside.is_empty(), "{:?}", lane.aside);
    }
}

/// What refused events cost: each a call of its own, and little more.
#[tokio::test(start_paused = true)]
async fn refusals_are_not_paid_twice() {
    let vendor = |events: &[String]| {
        if is_poisoned(events) { Outcome::Refused(answer(400)) } else { Outcome::Delivered }
    };
    let all: Vec<_> = (0..10).map(|n| numbered(&format!("poison{n}-"), 100)).collect();
    let mut lane = Lane::new(all, vendor);
    assert!(lane.run(Duration::from_mins(1)).await);
    assert_eq!(lane.aside.len(), 1000);
    assert!(lane.calls <= 1050, "{}", lane.calls);

    let mut one = numbered("good", 99);
    one.insert(40, "poison".into());
    let mut lane = Lane::new(vec![one], vendor);
    assert!(lane.run(Duration::from_mins(1)).await);
    lane.all_once("good", 99);
    assert!(lane.calls <= 16, "{}", lane.calls);

    // Half of all, mixed.
    let mixed = numbered("good", 100).into_iter().zip(numbered("poison", 100));
    let mixed: Vec<_> = mixed.flat_map(|(good, poison)| [good, poison]).collect();
    let mut lane = Lane::new(vec![mixed], vendor);
    assert!(lane.run(Duration::from_mins(1)).await);
    lane.all_once("good", 100);
    assert!(lane.calls <= 300, "{}", lane.calls);
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_put_aside_comes_again() {
    let mut schedule = Schedule::new(1);
    schedule.add(batch(&["poison".into()]));
    let Some(Next::Piece(place)) = schedule.choose() else { panic!("nothing to send") };
    let (id, _, events) = schedule.launch(place).unwrap();
    let aside = schedule.ended(id, events, Outcome::Refused(answer(400))).unwrap();
    schedule.put_aside(aside.id, Some(aside.events));
    assert!(schedule.done().is_none() && schedule.choose().is_none());
    tokio::time::sleep_until(schedule.pause().unwrap()).await;
    assert_eq!(schedule.choose(), Some(Next::Piece(place)));
}
