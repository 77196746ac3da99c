//! A lane beside a ledger that is nothing but lists, in which anything may happen next.

use super::*;

/// What the ledger has of a key: by offset, when it is due, and whether it is claimed.
type Rows = BTreeMap<u64, (Millis, bool)>;

/// A lane with its ledger, in which anything may happen next.
struct Model {
    recorder: Arc<Recorder>,
    order: Order,
    queue: Vec<Item>,
    under_way: Vec<Item>,
    rows: BTreeMap<OrderKey, Rows>,
    /// Writes that are not written yet: a row that is made, given back or gone.
    unwritten: Vec<(KeyPlace, Option<Millis>)>,
    /// Writes that are under way.
    in_writing: Vec<(KeyPlace, Option<Millis>)>,
    batch: u64,
    written: u64,
    sent: u64,
    delivered: BTreeMap<OrderKey, Vec<u64>>,
    dead: BTreeSet<u64>,
    random: u64,
}

impl Model {
    fn new(seed: u64) -> Self {
        Self {
            recorder: Arc::new(Recorder::new(&Clock::default())),
            order: Order::default(),
            queue: Vec::new(),
            under_way: Vec::new(),
            rows: BTreeMap::new(),
            unwritten: Vec::new(),
            in_writing: Vec::new(),
            batch: 0,
            written: 0,
            sent: 0,
            delivered: BTreeMap::new(),
            dead: BTreeSet::new(),
            random: seed,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    fn step(&mut self, may_fail: bool) {
        match self.random(8) {
            0 | 1 if may_fail => self.send(),
            2 => self.begin(),
            3 | 4 => self.end(may_fail),
            5 => self.write(),
            6 => self.claim(),
            7 if may_fail => {
                let joins = self.order.take_live();
                self.join(joins);
            }
            _ => self.check_held(),
        }
    }

    fn send(&mut self) {
        let place = place(self.random(3), self.sent);
        self.sent += 1;
        let item = item(&self.recorder, place, false);
        match self.order.enter(item, self.written, Ends::Awaited) {
            Entered::Ready(item) => self.queue.push(item),
            Entered::Waits => {}
            Entered::Joins(joining) => self.join(vec![joining]),
        }
    }

    fn begin(&mut self) {
        if !self.queue.is_empty() {
            let item = self.queue.remove(0);
            self.under_way.push(item);
        }
    }

    fn end(&mut self, may_fail: bool) {
        if self.under_way.is_empty() {
            return;
        }
        let at = usize::try_from(self.random(self.under_way.len() as u64)).unwrap_or(0);
        let item = self.under_way.remove(at);
        let place = item.order.as_deref().cloned().expect("a place");
        let is_row = item.is_owed();
        let over = match self.random(6) {
            0 if may_fail => Over::Owed,
            1 if may_fail => Over::Dead,
            _ => Over::Done,
        };
        match over {
            Over::Done => {
                let of_key = self.delivered.entry(place.key).or_default();
                of_key.push(place.offset);
            }
            Over::Dead => drop(self.dead.insert(place.offset)),
            Over::Owed => self.unwritten.push((place.clone(), Some(0))),
        }
        if is_row && over != Over::Owed {
            self.unwritten.push((place.clone(), None));
        }
        item.abandon();
        let (next, joins) = self.order.over(&place, over, self.batch + 1);
        self.queue.extend(next);
        self.join(joins);
    }

    fn join(&mut self, joins: Vec<Joining>) {
        for Joining { item, due } in joins {
            let place = item.order.as_deref().cloned().expect("a place");
            let due_ms = if due == Due::Behind { BEHIND } else { 0 };
            self.unwritten.push((place.clone(), Some(due_ms)));
            self.order.joined(place.key, 1, self.batch + 1);
            item.abandon();
        }
    }

    /// Takes what is to be written, or writes what was taken. As the store does it: what is there
    /// stays due as it is, but for what is given back.
    fn write(&mut self) {
        if self.written == self.batch {
            self.batch += 1;
            self.in_writing = std::mem::take(&mut self.unwritten);
            return;
        }
        for (place, due_ms) in std::mem::take(&mut self.in_writing) {
            let rows = self.rows.entry(place.key).or_default();
            match due_ms {
                Some(due_ms) => drop(rows.insert(place.offset, (due_ms, false))),
                None => drop(rows.remove(&place.offset)),
            }
            if let Some((due_ms, _)) = rows.values_mut().next()
                && *due_ms == BEHIND
            {
                *due_ms = 0;
            }
        }
        self.written = self.batch;
    }

    fn claim(&mut self) {
        let key = OrderKey::new("", TOPIC, 0, &self.random(3).to_be_bytes());
        let most = usize::try_from(1 + self.random(3)).unwrap_or(1);
        let Some(rows) = self.rows.get_mut(&key) else {
            return;
        };
        if rows
            .values()
            .next()
            .is_none_or(|(due_ms, is_claimed)| *is_claimed || *due_ms > 0)
        {
            return;
        }
        let is_more = rows.len() > most || rows.values().any(|(_, is_claimed)| *is_claimed);
        let mut run = Vec::new();
        for (offset, (_, is_claimed)) in rows.iter_mut().take(most) {
            if std::mem::replace(is_claimed, true) {
                break;
            }
            run.push(*offset);
        }
        let of_key = |offset| KeyPlace {
            key,
            ..place(0, offset)
        };
        let last = run.last().copied().unwrap_or_default();
        if !self.order.accepts(key, last, self.written) {
            let behind = run.into_iter().map(of_key);
            self.unwritten
                .extend(behind.map(|place| (place, Some(BEHIND))));
            return;
        }
        for offset in run {
            let item = item(&self.recorder, of_key(offset), true);
            if let Entered::Ready(item) = self.order.enter(item, 0, Ends::Awaited) {
                self.queue.push(item);
            }
        }
        if is_more {
            self.order.hold(key);
        } else {
            self.order.is_complete(key, self.written);
        }
    }

    fn check_held(&mut self) {
        for owing in self.order.owing(self.written) {
            let rows = self
                .rows
                .get_mut(&owing.key)
                .filter(|rows| !rows.is_empty());
            match rows {
                None => self.order.owes_nothing(&owing),
                Some(rows) => {
                    if let Some((due_ms, _)) = rows.values_mut().next()
                        && *due_ms == BEHIND
                    {
                        *due_ms = 0;
                    }
                }
            }
        }
    }

    /// Nothing came behind something newer, and in the end all came that is not dead.
    fn check(&mut self) {
        for _ in 0..100_000 {
            self.step(false);
            let is_written = self.unwritten.is_empty() && self.in_writing.is_empty();
            if self.order.is_empty() && is_written {
                break;
            }
        }
        let mut came: BTreeSet<u64> = BTreeSet::new();
        for offsets in self.delivered.values() {
            assert!(offsets.is_sorted(), "{offsets:?}");
            came.extend(offsets);
        }
        let missing =
            (0..self.sent).find(|offset| !came.contains(offset) && !self.dead.contains(offset));
        assert_eq!(missing, None, "{:?}", self.rows);
        assert!(self.order.is_empty());
    }
}

#[test]
fn whatever_fails_each_key_is_delivered_in_order_and_to_its_end() {
    for seed in 0..100 {
        let mut model = Model::new(seed);
        for _ in 0..2_000 {
            model.step(true);
        }
        model.check();
    }
}
