//! What an endpoint may not see of a mail is in nothing that it is sent, and in nothing that is
//! kept for it.

use std::sync::Arc;
use std::time::Duration;

use dovecast_dispatch::schedule::Schedule;
use dovecast_notification::Content;

use crate::sink::{Answer, OK, Sink};
use crate::world::{World, until, until_taken};

const SECRET: &str = "s3cret";
const REFUSED: Answer = Answer {
    status: 503,
    after: Some(Duration::ZERO),
};

fn mail(uid: u32) -> String {
    format!(
        r#"{{"application":"dovecot","event_type":"MessageNew","level":null,"timestamp":"t","message":{{"user":"u","uid":{uid},"subject":"{SECRET}","snippet":"{SECRET}"}},"account_id":"1"}}"#
    )
}

fn seen(uid: u32) -> String {
    format!(
        r#"{{"timestamp":"t","application":"dovecot","event_type":"MessageNew","level":null,"message":{{"user":"u","uid":{uid}}}}}"#
    )
}

async fn is_owed(world: &World, count: usize) {
    until("owed", || async { world.ledger.kept().owed.len() == count }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_seen_is_neither_sent_nor_kept() {
    let mut world = World::new();
    let (sees_ids, sees_all, fallback) = (
        Sink::start().await,
        Sink::start().await,
        Sink::start().await,
    );
    world.put(1, &sees_ids, |endpoint| {
        endpoint.content = Some(Arc::new(Content::Ids));
        endpoint.fallback = Some(crate::world::endpoint(3, &fallback).id);
        endpoint.schedule = Schedule::new(vec![Duration::ZERO; 3], 0);
    });
    world.put(2, &sees_all, |_| {});
    world.put_without_filter(3, &fallback);
    world.start();
    world.append([mail(1)]).await;
    until_taken(&sees_ids, 1).await;
    until_taken(&sees_all, 1).await;
    assert_eq!(sees_ids.bodies(), [seen(1)]);
    assert!(sees_all.bodies()[0].contains(SECRET));

    // It fails, is owed, and dies; its fallback gets what it would have got.
    sees_ids.answer(REFUSED);
    world.append([mail(2)]).await;
    until("dead", || async { world.ledger.kept().dead.len() == 1 }).await;
    until_taken(&fallback, 1).await;
    assert_eq!(fallback.bodies(), [seen(2)]);
    world.stop().await;
    let kept = world.ledger.kept();
    let content = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(kept.dead.len(), 1);
    let dead = content(&kept.dead[0].content);
    assert!(
        dead.contains(r#""uid":2"#) && !dead.contains(SECRET),
        "{dead}"
    );
    for attempt in &kept.attempts {
        assert!(!attempt.said.contains(SECRET), "{attempt:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_owed_is_sent_as_the_endpoint_may_see_it_then() {
    let mut world = World::new();
    let sink = Sink::start().await;
    let sees = |content: Option<Content>| {
        let content = content.map(Arc::new);
        move |endpoint: &mut dovecast_dispatch::Endpoint| {
            endpoint.content = content;
            endpoint.schedule = Schedule::new(vec![Duration::from_millis(50); 1000], 0);
        }
    };
    world.put(1, &sink, sees(None));
    world.start();
    sink.answer(REFUSED);
    world.append([mail(1)]).await;
    is_owed(&world, 1).await;
    // It may see less from now on.
    world.put(
        1,
        &sink,
        sees(Some(Content::Fields(Box::new([
            "user".into(),
            "uid".into(),
        ])))),
    );
    sink.answer(OK);
    until_taken(&sink, 1).await;
    assert_eq!(sink.bodies(), [seen(1)]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_that_is_read_again_is_cut_as_well() {
    let mut world = World::new();
    let sink = Sink::start().await;
    let sees_ids = |is_paused| {
        move |endpoint: &mut dovecast_dispatch::Endpoint| {
            endpoint.content = Some(Arc::new(Content::Ids));
            endpoint.is_paused = is_paused;
        }
    };
    world.put(1, &sink, sees_ids(true));
    world.start();
    world.append((0..20).map(mail)).await;
    world.committed().await;
    world.put(1, &sink, sees_ids(false));
    until_taken(&sink, 20).await;
    let mut bodies = sink.bodies();
    bodies.sort();
    let mut expected: Vec<_> = (0..20).map(seen).collect();
    expected.sort();
    assert_eq!(bodies, expected);
    world.stop().await;
}
