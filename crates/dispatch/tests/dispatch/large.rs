//! Bodies that are large beside the memory there is for them: everything arrives, though little is
//! in memory at a time.

use std::time::Duration;

use crate::sink::{Answer, OK, Sink};
use crate::world::{World, notification, until, until_taken};

const KB: usize = 1024;
const RECORDS: u32 = 60;
/// The largest, read while what was read before it hangs.
const LARGEST: u32 = 5;
/// Endpoints that never answer.
const HUNG: u32 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_finds_no_room_in_memory_arrives_later_whoever_takes_it_up() {
    let mut world = World::new();
    // The largest takes all of it, and waits for what hangs.
    world.in_flight_bytes = 1024 * KB as u64;
    let (good, slow, hung) = (
        Sink::start().await,
        Sink::start().await,
        Sink::start().await,
    );
    slow.answer(Answer {
        after: Some(Duration::from_millis(20)),
        ..OK
    });
    hung.answer(Answer { after: None, ..OK });
    world.put(1, &good, |_| {});
    world.put(2, &slow, |endpoint| endpoint.concurrency = 2);
    for number in 0..HUNG {
        world.put(3 + u128::from(number), &hung, |_| {});
    }
    for number in 0..RECORDS {
        let length = if number == LARGEST { 1500 } else { 256 };
        let message = format!(r#""{number} {}""#, "x".repeat(length * KB));
        world.append([notification(&message)]).await;
    }
    world.start();
    world.committed().await;
    assert!(world.stats().crowded_out > 0, "there was room for all");
    for sink in [&good, &slow] {
        until_taken(sink, RECORDS).await;
    }
    hung.answer(OK);
    until_taken(&hung, HUNG * RECORDS).await;
    until("nothing is owed, and all memory is free", || async {
        let kept = world.ledger.kept();
        let is_idle = kept.owed.is_empty() && kept.ranges.is_empty();
        is_idle && world.stats().in_flight_bytes == 0
    })
    .await;
    world.stop().await;
}
