//! Registration: what stays, what changes, what goes.

use anyhow::{Context, Result, ensure};
use dovecast_notification::EndpointId;
use dovecast_store::{
    Application, Changes, EventType, FilterSet, FilterSets, NewEventType, NewLevel, Registered,
    Registration, RegistrationChange as Change, Store, TouchedFilter,
};

use crate::setup::{Test, cases, create, mail};

cases![
    known_things_keep_their_ids_and_the_order_is_that_of_the_list,
    what_changes_is_told,
    a_dry_run_tells_the_same_and_keeps_nothing,
    the_same_registration_changes_nothing,
    applications_are_listed_in_pages,
    many_event_types_are_registered_by_few_statements,
    what_many_filters_lose_and_get_back_takes_few_statements,
];

/// Statements that a registration takes at most: its own, and a few for each kind of row. On
/// PostgreSQL changes are asked for meanwhile.
const FEW: u64 = 30;

/// `new[low high] gone[]`
fn shape(application: &Application) -> String {
    let types = application.event_types.iter().map(|event_type| {
        let levels = event_type.levels.iter().map(|level| &*level.external_id);
        let levels: Vec<_> = levels.collect();
        format!("{}[{}]", event_type.external_id, levels.join(" "))
    });
    types.collect::<Vec<_>>().join(" ")
}

async fn known_things_keep_their_ids_and_the_order_is_that_of_the_list(test: Test) -> Result<()> {
    let (store, _, before) = test.filled().await?;
    ensure!(shape(&before) == "new[low high] gone[]");
    let wanted = mail(&[
        ("first", &["x"]),
        ("gone", &["y"]),
        ("new", &["high", "mid", "low"]),
    ]);
    let after = store.register(&wanted, false).await?.application;
    ensure!(shape(&after) == "first[x] gone[y] new[high mid low]");
    ensure!(after.id == before.id);
    ensure!(after.event_types[2].id == before.event_types[0].id);
    ensure!(after.event_types[2].levels[0] == before.event_types[0].levels[1]);
    // Places have no gaps that a later one could fall into.
    for wanted in [
        &[("new", &["low"] as &[&str])][..],
        &[("new", &["low", "z"]), ("gone", &[])],
        &[("gone", &[]), ("first", &[]), ("new", &[])],
    ] {
        let after = store.register(&mail(wanted), false).await?.application;
        let expected: Vec<_> = wanted
            .iter()
            .map(|(name, levels)| format!("{name}[{}]", levels.join(" ")))
            .collect();
        ensure!(shape(&after) == expected.join(" "));
        ensure!(store.application(after.id).await?.context("gone")? == after);
    }
    Ok(())
}

async fn what_changes_is_told(test: Test) -> Result<()> {
    let (store, account, application) = test.filled().await?;
    let new = &application.event_types[0];
    let sets = FilterSets {
        levels: new.levels.iter().map(|level| level.id).collect(),
        ..FilterSets::default()
    };
    let with_levels = create(&store, &account, "levels", Some(sets)).await?;
    let sets = FilterSets {
        event_types: vec![application.event_types[1].id],
        ..FilterSets::default()
    };
    let with_type = create(&store, &account, "type", Some(sets)).await?;
    create(&store, &account, "open", Some(FilterSets::default())).await?;
    let mut wanted = mail(&[("new", &["high", "mid"]), ("more", &["x"])]);
    wanted.title.push('!');
    wanted.event_types[0].title.push('!');
    wanted.event_types[0].levels[0].title.push('!');
    let registered = store.register(&wanted, false).await?;
    let name = str::to_owned;
    let expected = [
        Change::ApplicationRetitled,
        Change::EventTypeRemoved(name("gone")),
        Change::LevelRemoved(name("new"), name("low")),
        Change::EventTypeRetitled(name("new")),
        Change::LevelRetitled(name("new"), name("high")),
        Change::LevelAdded(name("new"), name("mid")),
        Change::EventTypeAdded(name("more")),
        Change::LevelAdded(name("more"), name("x")),
    ];
    ensure!(registered.changes == expected, "{:#?}", registered.changes);
    let mut filters: Vec<_> = registered.filters.iter().map(emptied).collect();
    filters.sort_by_key(|(endpoint, _)| *endpoint);
    let expected = [
        (with_levels.endpoint.id, vec![]),
        (with_type.endpoint.id, vec![FilterSet::EventTypes]),
    ];
    ensure!(filters == expected, "{filters:?}");
    ensure!(registered.filters[0].account_number == account.number);
    Ok(())
}

fn emptied(filter: &TouchedFilter) -> (EndpointId, Vec<FilterSet>) {
    (filter.endpoint, filter.emptied.clone())
}

async fn a_dry_run_tells_the_same_and_keeps_nothing(test: Test) -> Result<()> {
    let (store, account, application) = test.filled().await?;
    let sets = FilterSets {
        event_types: vec![application.event_types[0].id],
        ..FilterSets::default()
    };
    let endpoint = create(&store, &account, "a", Some(sets)).await?.endpoint;
    let seq = store.last_change().await?;
    let wanted = mail(&[("other", &[])]);
    let dry = store.register(&wanted, true).await?;
    ensure!(store.application(application.id).await? == Some(application));
    ensure!(store.last_change().await? == seq);
    let filter = store.filter(account.id, endpoint.id).await?;
    ensure!(filter.context("no filter")?.stale.is_empty());
    let done = store.register(&wanted, false).await?;
    ensure!(dry.changes == done.changes && dry.filters == done.filters);
    ensure!(shape(&dry.application) == shape(&done.application));
    Ok(())
}

async fn the_same_registration_changes_nothing(test: Test) -> Result<()> {
    let (store, _, application) = test.filled().await?;
    let same = mail(&[("new", &["low", "high"]), ("gone", &[])]);
    let registered = store.register(&same, false).await?;
    ensure!(registered.changes.is_empty() && registered.filters.is_empty());
    ensure!(registered.application == application);
    Ok(())
}

async fn applications_are_listed_in_pages(test: Test) -> Result<()> {
    let (store, ..) = test.filled().await?;
    for name in ["b", "a"] {
        let mut wanted = mail(&[("new", &["low"])]);
        wanted.name = name.to_owned();
        store.register(&wanted, false).await?;
    }
    let page = store.applications(2, 1).await?;
    let names: Vec<_> = page.items.iter().map(|item| &*item.name).collect();
    ensure!(page.total == 3 && names == ["b", "a"], "{names:?}");
    ensure!(page.items.iter().all(|item| shape(item) == "new[low]"));
    Ok(())
}

/// Registers by few statements.
async fn register(store: &Store, wanted: &Registration) -> Result<Registered> {
    let before = store.statements();
    let registered = store.register(wanted, false).await?;
    let sent = store.statements() - before;
    ensure!(sent < FEW, "{sent} statements");
    Ok(registered)
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("type {number}")).collect()
}

/// Event types of these names with two levels each.
fn with_levels(names: &[String]) -> Registration {
    let levels: &[&str] = &["low", "high"];
    let event_types: Vec<_> = names.iter().map(|name| (&**name, levels)).collect();
    mail(&event_types)
}

/// What an application was registered with.
fn registration(application: &Application) -> Registration {
    let levels = |of: &EventType| {
        let levels = of.levels.iter().map(|level| NewLevel {
            external_id: level.external_id.clone(),
            title: level.title.clone(),
        });
        levels.collect()
    };
    let event_types = application.event_types.iter().map(|of| NewEventType {
        external_id: of.external_id.clone(),
        title: of.title.clone(),
        levels: levels(of),
    });
    Registration {
        name: application.name.clone(),
        title: application.title.clone(),
        event_types: event_types.collect(),
    }
}

/// What is told of each event type and of each of its levels, in their order.
fn told(
    of: &Registration,
    event_type: fn(String) -> Change,
    level: fn(String, String) -> Change,
) -> Vec<Change> {
    let mut changes = Vec::new();
    for of in &of.event_types {
        changes.push(event_type(of.external_id.clone()));
        let levels = of.levels.iter();
        changes.extend(levels.map(|one| level(of.external_id.clone(), one.external_id.clone())));
    }
    changes
}

async fn many_event_types_are_registered_by_few_statements(test: Test) -> Result<()> {
    let store = test.open().await?;
    let mut wanted = with_levels(&names(200));
    let added = register(&store, &wanted).await?;
    let expected = told(&wanted, Change::EventTypeAdded, Change::LevelAdded);
    ensure!(added.changes[0] == Change::ApplicationAdded);
    ensure!(added.changes[1..] == expected, "{:#?}", added.changes);
    ensure!(registration(&added.application) == wanted);
    // In the other order, and with other titles.
    wanted.event_types.reverse();
    for event_type in &mut wanted.event_types {
        event_type.title.push('!');
        event_type.levels.reverse();
        for level in &mut event_type.levels {
            level.title.push('!');
        }
    }
    let changed = register(&store, &wanted).await?;
    let expected = told(&wanted, Change::EventTypeRetitled, Change::LevelRetitled);
    ensure!(changed.changes == expected, "{:#?}", changed.changes);
    ensure!(registration(&changed.application) == wanted);
    let before = added.application.event_types.iter();
    for (before, after) in before.zip(changed.application.event_types.iter().rev()) {
        ensure!(before.id == after.id, "{before:?} and {after:?}");
        let levels = after.levels.iter().rev();
        ensure!(before.levels.iter().zip(levels).all(|(a, b)| a.id == b.id));
    }
    let found = store.application(changed.application.id).await?;
    ensure!(found.context("it is gone")? == changed.application);
    // Half of the levels, and then all but one event type, are not wanted any more.
    for event_type in &mut wanted.event_types {
        event_type.levels.truncate(1);
    }
    let fewer = register(&store, &wanted).await?;
    let gone = |of: &NewEventType| Change::LevelRemoved(of.external_id.clone(), "low".to_owned());
    let expected: Vec<_> = wanted.event_types.iter().map(gone).collect();
    ensure!(fewer.changes == expected, "{:#?}", fewer.changes);
    ensure!(registration(&fewer.application) == wanted);
    let gone = wanted.event_types.split_off(1);
    let gone = gone
        .into_iter()
        .map(|of| Change::EventTypeRemoved(of.external_id));
    let one = register(&store, &wanted).await?;
    ensure!(
        one.changes == gone.collect::<Vec<_>>(),
        "{:#?}",
        one.changes
    );
    ensure!(registration(&one.application) == wanted);
    ensure!(test.count("event_type")? == 1 && test.count("level")? == 1);
    Ok(())
}

async fn what_many_filters_lose_and_get_back_takes_few_statements(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let all = with_levels(&names(40));
    let application = store.register(&all, false).await?.application;
    let mut endpoints = Vec::new();
    for event_type in &application.event_types {
        let sets = FilterSets {
            event_types: vec![event_type.id],
            levels: event_type.levels.iter().map(|level| level.id).collect(),
            ..FilterSets::default()
        };
        let created = create(&store, &account, &event_type.external_id, Some(sets)).await?;
        endpoints.push(created.endpoint.id);
    }
    let both = [FilterSet::EventTypes, FilterSet::Levels];
    let seq = store.last_change().await?;
    let lost = register(&store, &mail(&[("other", &[])])).await?;
    let mut expected = endpoints.clone();
    expected.sort();
    let touched: Vec<_> = lost.filters.iter().map(|filter| filter.endpoint).collect();
    ensure!(touched == expected, "{touched:?}");
    ensure!(lost.filters.iter().all(|filter| filter.emptied == both));
    let Changes::Endpoints { mut ids, .. } = store.changes_since(seq).await? else {
        anyhow::bail!("everything has changed");
    };
    ids.sort();
    ensure!(ids == expected, "the dispatcher is not told: {ids:?}");
    let found = register(&store, &all).await?;
    ensure!(found.filters.len() == endpoints.len());
    ensure!(found.filters.iter().all(|filter| filter.restored == both));
    for (endpoint, event_type) in endpoints.iter().zip(&found.application.event_types) {
        let filter = store.filter(account.id, *endpoint).await?;
        let sets = filter.context("no filter")?.sets;
        let levels: Vec<_> = event_type.levels.iter().map(|level| level.id).collect();
        ensure!(sets.event_types == [event_type.id] && sets.levels == levels);
    }
    Ok(())
}
