//! Leases of listeners: taken by one node, lost by one that hangs, moved from one that is dead.

use anyhow::{Context, Result, ensure};
use dovecast_dispatch::ledger::Ledger;
use dovecast_mail_push::Person;
use dovecast_mail_push::listener::SourceKind;
use dovecast_mail_push::placement::{Fares, moves, node_of};

use crate::setup::{Test, cases};

cases![
    a_lease_is_one_nodes_until_it_dies_and_an_old_one_is_worth_nothing,
    leases_of_a_node_that_leaves_are_anothers_at_once,
    leases_stay_when_the_dispatcher_of_their_node_leaves,
    leases_are_taken_and_given_many_in_a_statement,
    nodes_share_listeners_and_take_over_those_of_the_dead_only,
    leases_of_persons_who_have_left_are_forgotten,
    how_a_listener_fares_is_known_on_every_node,
];

fn persons(count: u32) -> Vec<Person> {
    let person = |number: u32| {
        let user = number.to_string();
        Person::new("1", &user, &format!("{user}@1")).expect("a person")
    };
    (0..count).map(person).collect()
}

async fn a_lease_is_one_nodes_until_it_dies_and_an_old_one_is_worth_nothing(
    test: Test,
) -> Result<()> {
    let one = test.open().await?;
    let two = one.another_node();
    let persons = persons(3);
    one.beat_push_node().await?;
    two.beat_push_node().await?;
    let leases = one.take_leases(&persons).await?;
    ensure!(leases.len() == 3 && leases[0].fence == 1);
    ensure!(two.take_leases(&persons).await?.is_empty());
    ensure!(one.holds_lease(&leases[0]).await? && !two.holds_lease(&leases[0]).await?);
    // The first one hangs.
    test.clock.pass(10_001);
    two.beat_push_node().await?;
    ensure!(!one.holds_lease(&leases[0]).await?);
    let taken = two.take_leases(&persons).await?;
    ensure!(taken.len() == 3 && taken[0].fence == 2);
    // It comes back, and does nothing with its old lease.
    one.beat_push_node().await?;
    ensure!(!one.holds_lease(&leases[0]).await? && two.holds_lease(&taken[0]).await?);
    ensure!(one.take_leases(&persons).await?.is_empty());
    two.give_leases(&persons[..1]).await?;
    let again = one.take_leases(&persons).await?;
    ensure!(again.len() == 1 && again[0].fence == 3, "{again:?}");
    ensure!(one.leased().await?.len() == 3);
    // Whose node has died is heard by nobody until another one takes the lease.
    let heard = one.heard_on().await?;
    ensure!(heard.len() == 3, "{heard:?}");
    test.clock.pass(10_001);
    ensure!(one.heard_on().await?.is_empty());
    ensure!(one.leased().await?.len() == 3);
    Ok(())
}

async fn leases_of_a_node_that_leaves_are_anothers_at_once(test: Test) -> Result<()> {
    let one = test.open().await?;
    let two = one.another_node();
    let persons = persons(2);
    one.beat_push_node().await?;
    let leases = one.take_leases(&persons).await?;
    ensure!(leases.len() == 2 && two.take_leases(&persons).await?.is_empty());
    one.leave_push_node().await?;
    ensure!(!one.holds_lease(&leases[0]).await? && one.heard_on().await?.is_empty());
    ensure!(two.beat_push_node().await? == [two.push_node()]);
    ensure!(two.take_leases(&persons).await?.len() == 2);
    Ok(())
}

async fn leases_stay_when_the_dispatcher_of_their_node_leaves(test: Test) -> Result<()> {
    let store = test.open().await?;
    let name = store.push_node();
    store.beat_push_node().await?;
    let leases = store.take_leases(&persons(1)).await?;
    store.leave().await?;
    ensure!(store.push_node() == name);
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    let (of_machine, number) = name.rsplit_once('/').unwrap_or(("", &name));
    ensure!(of_machine == machine.trim() && number.len() == 36, "{name}");
    ensure!(store.beat_push_node().await? == [name]);
    ensure!(leases.len() == 1 && store.holds_lease(&leases[0]).await?);
    ensure!(store.another_node().push_node() != store.push_node());
    Ok(())
}

async fn leases_are_taken_and_given_many_in_a_statement(test: Test) -> Result<()> {
    let store = test.open().await?;
    let other = store.another_node();
    let mut persons = persons(1_000);
    other.beat_push_node().await?;
    ensure!(other.take_leases(&persons[..10]).await?.len() == 10);
    store.beat_push_node().await?;
    // A person who is named twice is leased once.
    persons.push(persons[10].clone());
    let before = store.statements();
    let leases = store.take_leases(&persons).await?;
    ensure!(leases.len() == 990, "{}", leases.len());
    ensure!(leases.iter().all(|lease| lease.fence == 1));
    store.give_leases(&persons).await?;
    ensure!(store.leased().await?.len() == 10);
    let sent = store.statements() - before;
    ensure!(sent < 100, "{sent} statements for 1,000 leases");
    Ok(())
}

async fn nodes_share_listeners_and_take_over_those_of_the_dead_only(test: Test) -> Result<()> {
    let first = test.open().await?;
    let nodes = [first.clone(), first.another_node(), first.another_node()];
    let persons = persons(300);
    for node in &nodes {
        node.beat_push_node().await?;
    }
    let round = async |nodes: &[dovecast_store::Store]| -> Result<Vec<usize>> {
        let mut moved = Vec::new();
        for node in nodes {
            let alive = node.beat_push_node().await?;
            let name = node.push_node();
            let leased = node.leased().await?;
            let held: Vec<Person> = leased
                .into_iter()
                .filter_map(|(person, at)| (at == name).then_some(person))
                .collect();
            let change = moves(&name, &alive, &persons, &held);
            node.give_leases(&change.give).await?;
            moved.push(node.take_leases(&change.take).await?.len());
        }
        Ok(moved)
    };
    let shares = round(&nodes).await?;
    ensure!(shares.iter().sum::<usize>() == 300, "{shares:?}");
    ensure!(shares.iter().all(|share| *share > 50), "{shares:?}");
    ensure!(round(&nodes).await? == [0, 0, 0]);
    // The third one says nothing more.
    test.clock.pass(6_000);
    for node in &nodes[..2] {
        node.beat_push_node().await?;
    }
    test.clock.pass(4_001);
    let left = round(&nodes[..2]).await?;
    let alive = nodes[0].beat_push_node().await?;
    ensure!(alive.len() == 2, "{alive:?}");
    // The first of the two has not known yet that the third is dead, if it was asked first.
    let more = round(&nodes[..2]).await?;
    let moved: usize = left.iter().chain(&more).sum();
    ensure!(moved == shares[2], "{moved} of {shares:?}");
    for (person, node) in nodes[0].leased().await? {
        ensure!(node_of(&person, &alive) == Some(&*node), "{person}");
    }
    Ok(())
}

async fn leases_of_persons_who_have_left_are_forgotten(test: Test) -> Result<()> {
    const DAY_MS: i64 = 24 * 3_600_000;
    let store = test.open().await?;
    let persons = persons(4);
    store.beat_push_node().await?;
    let leases = store.take_leases(&persons).await?;
    store.create_session(&persons[0], 1_000).await?;
    ensure!(store.put_heard(&leases[1], "known").await?);
    ensure!(store.put_metadata(&leases[2]).await?);
    ensure!(store.forget_leases().await? == 0, "they are held");
    store.give_leases(&persons).await?;
    ensure!(store.forget_leases().await? == 1 && test.count("push_lease")? == 3);
    store.forget_metadata(&leases[2]).await?;
    ensure!(store.forget_leases().await? == 1);
    test.clock.pass(1_000 + DAY_MS);
    ensure!(store.forget_unheard().await? == 1 && store.forget_leases().await? == 2);
    ensure!(test.count("push_lease")? == 0);
    // Who comes back has a fence that is higher than any before.
    store.beat_push_node().await?;
    let again = store.take_leases(&persons[..1]).await?;
    ensure!(again.len() == 1 && again[0].fence > 1, "{again:?}");
    ensure!(!store.holds_lease(&leases[0]).await? && store.holds_lease(&again[0]).await?);
    // Of a node that is dead nobody gives any back.
    test.clock.pass(10_001);
    let other = store.another_node();
    other.beat_push_node().await?;
    ensure!(other.forget_leases().await? == 1);
    Ok(())
}

async fn how_a_listener_fares_is_known_on_every_node(test: Test) -> Result<()> {
    let one = test.open().await?;
    let two = one.another_node();
    one.beat_push_node().await?;
    two.beat_push_node().await?;
    let leases = one.take_leases(&persons(2)).await?;
    let fares = |trouble: Option<&str>| Fares {
        source: SourceKind::ImapIdle,
        trouble: trouble.map(|words| (words.to_owned(), 5)),
    };
    let of_first = async || -> Result<Option<Fares>> {
        let heard = two.heard_on().await?;
        let first = heard.into_iter().find(|on| on.person == leases[0].person);
        Ok(first.context("it is leased")?.fares)
    };
    ensure!(of_first().await?.is_none(), "it has not said so");
    let long = "ü".repeat(500);
    for (trouble, kept) in [
        (Some("no connection"), Some("no connection")),
        (None, None),
        (Some(&*long), Some(&long[..400])),
    ] {
        let noted = [(leases[0].clone(), fares(trouble))];
        one.note_listeners(&noted).await?;
        ensure!(of_first().await? == Some(fares(kept)), "{trouble:?}");
    }
    // Whoever has the lease next has not said anything, whatever the one before says still.
    one.give_leases(&[leases[0].person.clone()]).await?;
    let taken = two.take_leases(&[leases[0].person.clone()]).await?;
    ensure!(taken.len() == 1);
    one.note_listeners(&[(leases[0].clone(), fares(Some("late")))])
        .await?;
    ensure!(of_first().await?.is_none());
    Ok(())
}
