//! Listeners ask the store a few at a time, and what they were cut off from was not told.

use futures_util::FutureExt;

use super::*;
use crate::push::care::tests::{Node, flagged};
use crate::push::tests::World;

#[tokio::test]
async fn few_listeners_ask_the_store_at_a_time() {
    let world = World::new().await;
    let node = Node::new(&world).await;
    let (sink, store) = (node.sink(), &world.store);
    let mut turns = node.turns();
    assert_eq!(turns.len(), ASKED_AT_ONCE);
    let before = store.statements();
    let mut holds = sink.holds(&node.person);
    let mut known = Box::pin(sink.known(&node.person));
    for _ in 0..100 {
        assert!(holds.as_mut().now_or_never().is_none());
        assert!(known.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    assert_eq!(store.statements(), before);
    // One turn is enough for both, one after the other.
    turns.pop();
    let (is_held, known) = tokio::join!(holds, known);
    assert!(is_held && known.is_none());
}

#[test]
fn what_was_cut_off_while_it_was_written_was_not_told() {
    let told = Mutex::new(EventIds::new(10, REMEMBERED_FOR));
    let heard = [flagged(1), flagged(2)];
    let first = Telling::begin(&told, "joe", &heard[..1]);
    assert_eq!(first.events.len(), 1);
    drop(first);
    let both = Telling::begin(&told, "joe", &heard);
    assert_eq!(both.events.len(), 2);
    both.keep();
    assert!(Telling::begin(&told, "joe", &heard).events.is_empty());
}
