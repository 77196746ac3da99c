//! What registrations take out of filters comes back with a registration that has it again, and
//! nothing else does.

use anyhow::{Context, Result, ensure};
use dovecast_store::{
    Account, Application, Changes, EndpointEdit, EndpointId, FilterEdit, FilterFields, FilterSet,
    FilterSets, Members, Store,
};

use crate::setup::{Test, cases, create, mail};

cases![
    a_registration_that_is_repaired_repairs_the_filters,
    an_application_that_is_registered_again_is_in_its_filters_again,
    a_filter_that_a_person_has_set_since_stays_so,
    a_set_that_loses_and_gets_at_once_is_not_empty,
];

const FULL: &[(&str, &[&str])] = &[("new", &["low", "high"]), ("gone", &["x"])];

fn sorted<T>(members: Members<T>, name: impl Fn(T) -> String) -> Option<Vec<String>> {
    match members {
        Members::Any => None,
        Members::These(list) => {
            let mut names: Vec<_> = list.into_iter().map(name).collect();
            names.sort();
            Some(names)
        }
    }
}

/// The names of a filter as it is matched.
async fn names(store: &Store, endpoint: EndpointId) -> Result<[Option<Vec<String>>; 3]> {
    let record = store.load_endpoints(&[endpoint]).await?.pop();
    let filter = record.context("no endpoint")?.filter.context("no filter")?;
    Ok([
        sorted(filter.applications, |name| name),
        sorted(filter.event_types, |of| of.event_type),
        sorted(filter.levels, |of| {
            format!("{}/{}", of.event_type, of.level)
        }),
    ])
}

/// A set of these names.
fn these<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(str::to_owned).to_vec()
}

/// An endpoint whose filter has chosen everything of an application by name, and one that has
/// chosen an event type.
async fn choosing(
    store: &Store,
    account: &Account,
    application: &Application,
) -> Result<(EndpointId, EndpointId)> {
    let event_types = &application.event_types;
    let all = FilterSets {
        applications: vec![application.id],
        event_types: event_types.iter().map(|one| one.id).collect(),
        levels: event_types
            .iter()
            .flat_map(|one| one.levels.iter().map(|level| level.id))
            .collect(),
    };
    let one = FilterSets {
        event_types: vec![event_types[1].id],
        ..FilterSets::default()
    };
    let all = create(store, account, "all", Some(all)).await?.endpoint.id;
    let one = create(store, account, "one", Some(one)).await?.endpoint.id;
    Ok((all, one))
}

async fn filled(test: &Test) -> Result<(Store, Account, Application)> {
    let (store, account, _) = test.filled().await?;
    let application = store.register(&mail(FULL), false).await?.application;
    Ok((store, account, application))
}

async fn a_registration_that_is_repaired_repairs_the_filters(test: Test) -> Result<()> {
    let (store, account, application) = filled(&test).await?;
    let (all, one) = choosing(&store, &account, &application).await?;
    let before = (names(&store, all).await?, names(&store, one).await?);
    store.register(&mail(&[("other", &["low"])]), false).await?;
    ensure!(names(&store, all).await? == [Some(these(["mail"])), Some(these([])), Some(these([]))]);
    let stale = store.filter(account.id, one).await?.context("no filter")?;
    ensure!(stale.stale == [FilterSet::EventTypes]);
    // Some of it first: only that comes back.
    let partly = store.register(&mail(&[("new", &["high"])]), true).await?;
    let seq = store.last_change().await?;
    let done = store.register(&mail(&[("new", &["high"])]), false).await?;
    ensure!(partly.filters == done.filters, "{partly:?}");
    ensure!(done.filters.len() == 1 && done.filters[0].endpoint == all);
    ensure!(done.filters[0].restored == [FilterSet::EventTypes, FilterSet::Levels]);
    let expected = [
        Some(these(["mail"])),
        Some(these(["new"])),
        Some(these(["new/high"])),
    ];
    ensure!(names(&store, all).await? == expected);
    let Changes::Endpoints { ids, .. } = store.changes_since(seq).await? else {
        anyhow::bail!("everything has changed");
    };
    ensure!(ids == [all], "the dispatcher is not told: {ids:?}");
    let done = store.register(&mail(FULL), false).await?;
    ensure!(done.filters.len() == 2, "{:?}", done.filters);
    let after = (names(&store, all).await?, names(&store, one).await?);
    ensure!(after == before, "{after:?}");
    let again = store.register(&mail(FULL), false).await?;
    ensure!(again.filters.is_empty() && test.count("filter_lost")? == 0);
    Ok(())
}

async fn an_application_that_is_registered_again_is_in_its_filters_again(test: Test) -> Result<()> {
    let (store, account, application) = filled(&test).await?;
    let (all, one) = choosing(&store, &account, &application).await?;
    let open = create(&store, &account, "open", Some(FilterSets::default())).await?;
    let before = (names(&store, all).await?, names(&store, one).await?);
    ensure!(store.delete_application(application.id).await?);
    ensure!(names(&store, all).await? == [Some(these([])), Some(these([])), Some(these([]))]);
    let mut other = mail(FULL);
    "other".clone_into(&mut other.name);
    store.register(&other, false).await?;
    ensure!(names(&store, one).await? == [None, Some(these([])), None]);
    store.register(&mail(FULL), false).await?;
    let after = (names(&store, all).await?, names(&store, one).await?);
    ensure!(after == before, "{after:?}");
    ensure!(names(&store, open.endpoint.id).await? == [None, None, None]);
    Ok(())
}

async fn a_filter_that_a_person_has_set_since_stays_so(test: Test) -> Result<()> {
    let (store, account, application) = filled(&test).await?;
    let (all, one) = choosing(&store, &account, &application).await?;
    let left = store.register(&mail(&[("new", &["low"])]), false).await?;
    let put = |fields: FilterFields| EndpointEdit {
        filter: FilterEdit::Put(fields),
        ..EndpointEdit::default()
    };
    let chosen = FilterSets {
        event_types: vec![left.application.event_types[0].id],
        ..FilterSets::default()
    };
    let edit = put(FilterFields {
        sets: Some(chosen),
        ..FilterFields::default()
    });
    store.edit_endpoint(account.id, one, &edit).await?;
    // What says nothing of the sets leaves what was lost as it is.
    let edit = put(FilterFields {
        enabled: Some(true),
        ..FilterFields::default()
    });
    store.edit_endpoint(account.id, all, &edit).await?;
    store.register(&mail(FULL), false).await?;
    ensure!(names(&store, one).await? == [None, Some(these(["new"])), None]);
    let levels = Some(these(["gone/x", "new/high", "new/low"]));
    let expected = [Some(these(["mail"])), Some(these(["gone", "new"])), levels];
    ensure!(names(&store, all).await? == expected);
    store.delete_endpoint(account.id, all).await?;
    ensure!(test.count("filter_lost")? == 0);
    Ok(())
}

async fn a_set_that_loses_and_gets_at_once_is_not_empty(test: Test) -> Result<()> {
    let (store, account, application) = filled(&test).await?;
    let sets = FilterSets {
        event_types: application.event_types.iter().map(|one| one.id).collect(),
        ..FilterSets::default()
    };
    let endpoint = create(&store, &account, "a", Some(sets)).await?.endpoint.id;
    store.register(&mail(&[("new", &[])]), false).await?;
    let done = store.register(&mail(&[("gone", &[])]), false).await?;
    ensure!(done.filters.len() == 1, "{:?}", done.filters);
    ensure!(done.filters[0].emptied.is_empty() && !done.filters[0].restored.is_empty());
    ensure!(names(&store, endpoint).await? == [None, Some(these(["gone"])), None]);
    Ok(())
}
