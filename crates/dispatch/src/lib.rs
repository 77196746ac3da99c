//! The dispatcher: reads the log, has drivers deliver what endpoints want, keeps what is owed.
//!
//! Which endpoints a notification is for is decided in `dovecast-notification`; how a delivery
//! reaches a receiver is behind the port `driver`, what is kept behind the port `ledger`.
//!
//! | room | does |
//! | --- | --- |
//! | `consume` | reads the log, matches, offers deliveries to lanes, commits |
//! | `offer` | has lanes take deliveries, or what they cannot take written down as owed |
//! | `live` | a notification that was just read |
//! | `matching` | which endpoints a notification is for |
//! | `evaluator` | evaluates conditions that cost much, on threads of its own |
//! | `endpoint` | an endpoint as the dispatcher knows it, and the directory of all |
//! | `item` | one delivery while it is in memory, and where it comes from |
//! | `lane`, `lane/gate` | the queue of an endpoint; when a delivery of it may begin |
//! | `lane/offers`, `lane/shed` | what the queue takes; what leaves it undelivered, and is owed |
//! | `lane/breaker`, `lane/pace` | probes only, after failures in a row; the rate of an endpoint |
//! | `lane/order` | deliveries of one key, one after the other; the steps of order by key |
//! | `driver` | the port to receivers: what a driver is to the dispatcher |
//! | `worker` | has the deliveries of a lane made |
//! | `account_pace` | how many attempts an account may have made, over all of its endpoints |
//! | `by_account` | what the endpoints of an account share |
//! | `host` | what endpoints of one host have in common |
//! | `hanging` | how many attempts may hang, and how much memory they may hold |
//! | `lanes` | looks after all lanes now and then |
//! | `dispatcher`, `options` | start and stop; what the dispatcher is told then |
//! | `shared` | what all parts share; nothing that it uses knows it |
//! | `partitions` | for order by key: the partitions that are ours |
//! | `debtors` | for order by key: who owes anything of those |
//! | `read_up` | for order by key: which partitions were read as far as they went |
//! | `partition_ends` | for order by key: where partitions end |
//! | `held_keys` | for order by key: which keys are free again |
//! | `heartbeat` | says to the ledger that this dispatcher lives |
//! | `alive` | until when others believe that, and which of its lives it lives |
//! | `life`, `panics` | what is begun anew after a fault, and how |
//! | `outcome`, `schedule` | how a delivery goes on after an attempt; when it is retried |
//! | `clock` | the time of day, and what waits whatever it says |
//! | `locks` | locks of which a thread holds one at a time |
//! | `permits` | how many there are of something, counted until they are dropped |
//! | `bad_record`, `buried` | records that are no notifications; how many become dead letters |
//! | `behind` | the ranges of the log that a lane owes |
//! | `missed`, `defer_missed` | records that a lane misses while behind; its ranges grow by them |
//! | `catch_up` | reads ranges that endpoints owe, once more |
//! | `range_reader`, `range_run` | reads one such range; how far it is done |
//! | `free_ranges` | ends ranges that nobody claims and the log does not have any more |
//! | `bounds` | the first and the last offset of partitions |
//! | `readers` | how many ranges are read at a time |
//! | `budget` | bounds the bytes of what is in memory |
//! | `room` | how many deliveries may be in flight, and how many of one account beside others |
//! | `retrier` | fetches owed deliveries that are due |
//! | `take_over` | claims ranges of endpoints with an order, with their partition |
//! | `take_up` | claims ranges that no dispatcher delivers, and delivers them |
//! | `taken_up` | what `take_up` has claimed |
//! | `stats`, `timings` | what is counted, and how long attempts and deliveries take |
//! | `reports` | how often the conditions of an account are logged |
//! | `trace` | lets a person follow one notification |
//! | `recorder` | gathers what has happened, and says what may be committed when that is written |
//! | `gathered` | the batch of it that is written next |
//! | `recording` | writes it, many things at a time |
//! | `ledger` | the port to what is kept: what the dispatcher asks of a store |
//!
//! The log is the queue: a delivery that succeeds leaves nothing behind but its attempt. What was
//! read is committed when each of its deliveries is done or durably owed; what was not when a
//! process has died is read again, and receivers know it by its `webhook-id`.

#![forbid(unsafe_code)]

mod account_pace;
mod alive;
mod bad_record;
mod behind;
mod bounds;
mod budget;
mod buried;
mod by_account;
mod catch_up;
mod clock;
mod consume;
mod debtors;
mod defer_missed;
mod dispatcher;
pub mod driver;
mod endpoint;
mod evaluator;
mod free_ranges;
mod gathered;
mod hanging;
mod heartbeat;
mod held_keys;
mod host;
mod item;
mod lane;
mod lanes;
pub mod ledger;
mod life;
mod live;
mod locks;
mod matching;
mod missed;
mod offer;
mod options;
mod outcome;
mod panics;
mod partition_ends;
mod partitions;
mod permits;
mod range_reader;
mod range_run;
mod read_up;
mod readers;
mod recorder;
mod recording;
mod reports;
mod retrier;
mod room;
pub mod schedule;
mod shared;
mod stats;
mod take_over;
mod take_up;
mod taken_up;
mod timings;
mod trace;
mod worker;

pub use account_pace::{AccountPace, AccountPaces};
pub use clock::Clock;
pub use dispatcher::Dispatcher;
pub use endpoint::{Directory, Endpoint};
pub use evaluator::{Evaluator, EvaluatorLimits};
pub use options::{DispatchOptions, Source};
pub use stats::Stats;
pub use timings::{ANSWER_CLASSES, TIMING_BUCKETS_MS, Timing, Timings};
pub use worker::webhook_id;
