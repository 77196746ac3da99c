//! Endpoints that take a request and never answer: they neither keep the log from being read nor
//! try one after the other what one of them has found out.

use std::time::Duration;

use dovecast_dispatch::Stats;

use crate::sink::{Answer, OK, Sink};
use crate::world::{World, notification_of, target, until, until_taken};

const NEVER: Answer = Answer { after: None, ..OK };

fn stats(world: &World) -> Stats {
    world.dispatcher.as_ref().expect("it runs").stats()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_that_hang_leave_room_for_what_is_read() {
    const HUNG: u128 = 20;
    let mut world = World::new();
    world.in_flight = 50;
    let (good, hung) = (Sink::start().await, Sink::start().await);
    hung.answer(NEVER);
    // Longer than any test waits.
    for number in 10..10 + HUNG {
        world.put(number, &hung, |endpoint| {
            endpoint.target = target(&hung, Duration::from_mins(10));
        });
    }
    world.put(1, &good, |_| {});
    world.start();
    world.notify(20).await;
    until("more hang than may be in flight", || async {
        stats(&world).hanging > 50
    })
    .await;
    world.notify(500).await;
    until_taken(&good, 520).await;
    world.committed().await;
    assert!(stats(&world).in_flight < 50, "{:?}", stats(&world));
    world.stop().await;
    assert_eq!(world.ledger.made_again(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_of_a_dead_host_share_what_few_have_found_out() {
    const FIRST: u128 = 12;
    const OTHERS: u128 = 300;
    let mut world = World::new();
    let (good, dead) = (Sink::start().await, Sink::start().await);
    dead.answer(NEVER);
    let put = |world: &World, number| {
        world.put(number, &dead, |endpoint| {
            endpoint.target = target(&dead, Duration::from_secs(2));
            endpoint.concurrency = 1;
        });
    };
    (100..100 + FIRST).for_each(|number| put(&world, number));
    world.start();
    world.notify(1).await;
    until("they have failed", || async {
        world.ledger.kept().attempts.len() as u128 >= FIRST
    })
    .await;
    // Now many come that know nothing of it.
    world.put(1, &good, |_| {});
    (1000..1000 + OTHERS).for_each(|number| put(&world, number));
    let before = dead.asked();
    world.notify(20).await;
    until_taken(&good, 20).await;
    world.committed().await;
    let asked = dead.asked() - before;
    assert!(asked < 100, "{asked} attempts at a host that is down");
    dead.answer(OK);
    let all = usize::try_from(FIRST * 21 + OTHERS * 20).expect("few");
    until("everything arrives when it is up", || async {
        dead.distinct() == all
    })
    .await;
    world.stop().await;
    assert_eq!(world.ledger.made_again(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_attempts_that_hang_at_a_host_are_cut_off_and_made_again() {
    const COUNT: u32 = 400;
    let mut world = World::new();
    let slow = Sink::start().await;
    slow.answer(NEVER);
    world.put(1, &slow, |endpoint| {
        endpoint.target = target(&slow, Duration::from_secs(10));
        endpoint.concurrency = COUNT as usize;
    });
    world.start();
    world.notify(COUNT).await;
    let mut most = 0;
    until("some are cut off, and not made again at once", || {
        most = most.max(stats(&world).hanging);
        async { stats(&world).in_vain > 0 }
    })
    .await;
    // From the first that is cut off on they are made one at a time.
    let asked = slow.asked();
    assert!(
        stats(&world).cut_off > 0 && asked < COUNT as usize + 10,
        "{asked}"
    );
    slow.answer(OK);
    until_taken(&slow, COUNT).await;
    until("nothing is owed", || async {
        let kept = world.ledger.kept();
        kept.owed.is_empty() && kept.ranges.is_empty()
    })
    .await;
    world.committed().await;
    world.stop().await;
    assert!((1..=257).contains(&most), "{most}");
    assert_eq!(world.ledger.made_again(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_notifications_at_endpoints_that_hang_leave_memory_to_other_accounts() {
    const LARGE: usize = 1024 * 1024 - 1024;
    const COUNT: u32 = 40;
    let mut world = World::new();
    world.in_flight_bytes = 16 * 1024 * 1024;
    let (good, hung) = (Sink::start().await, Sink::start().await);
    hung.answer(NEVER);
    world.put(1, &hung, |endpoint| {
        endpoint.target = target(&hung, Duration::from_mins(10));
        endpoint.concurrency = COUNT as usize;
    });
    world.put(2, &good, |endpoint| endpoint.account = "2".into());
    world.start();
    let large = |account: &'static str| {
        let notification = move |number: u32| {
            let message = format!(r#""{number}{}""#, "x".repeat(LARGE));
            notification_of(account, &message)
        };
        (0..COUNT).map(notification)
    };
    // More than all the memory there is.
    world.append(large("1")).await;
    until("some hang", || async { stats(&world).hanging > 0 }).await;
    world.append(large("2")).await;
    until_taken(&good, COUNT).await;
    assert!(stats(&world).cut_off > 0, "{:?}", stats(&world));
    world.stop().await;
}
