//! Filters: what a person says, and that nothing else ever widens one.

use anyhow::{Context, Result, ensure};
use dovecast_store::{
    EndpointEdit, EventTypeName, FilterEdit, FilterFields, FilterSet, FilterSets, LevelName,
    Members, StoreError,
};

use crate::setup::{Test, cases, create, endpoint, mail};

cases![
    a_filter_is_loaded_by_the_names_of_notifications,
    what_a_removal_leaves_empty_matches_nothing_until_a_person_says_otherwise,
    what_is_not_said_about_a_filter_stays,
    a_filter_with_an_unknown_member_changes_nothing,
    an_endpoint_without_a_filter_is_loaded_without_one,
];

async fn a_filter_is_loaded_by_the_names_of_notifications(test: Test) -> Result<()> {
    let (store, account, application) = test.filled().await?;
    let new = &application.event_types[0];
    let sets = FilterSets {
        applications: vec![application.id],
        event_types: vec![new.id],
        levels: vec![new.levels[1].id],
    };
    let made = create(&store, &account, "a", Some(sets.clone())).await?;
    let id = made.endpoint.id;
    let records = store.load_endpoints(&[id]).await?;
    let record = records.first().context("no record")?;
    ensure!(record.endpoint == made.endpoint && record.account_number == "6089719");
    let filter = record.filter.as_ref().context("no filter")?;
    ensure!(filter.enabled && filter.condition.is_none());
    ensure!(filter.applications == Members::These(vec!["mail".to_owned()]));
    let event_type = EventTypeName {
        application: "mail".to_owned(),
        event_type: "new".to_owned(),
    };
    ensure!(filter.event_types == Members::These(vec![event_type]));
    let level = LevelName {
        application: "mail".to_owned(),
        event_type: "new".to_owned(),
        level: "high".to_owned(),
    };
    ensure!(filter.levels == Members::These(vec![level]));
    let filter = store.filter(account.id, id).await?.context("no filter")?;
    ensure!(filter.sets == sets && filter.stale.is_empty());
    Ok(())
}

async fn what_a_removal_leaves_empty_matches_nothing_until_a_person_says_otherwise(
    test: Test,
) -> Result<()> {
    let (store, account, application) = test.filled().await?;
    let new = &application.event_types[0];
    let sets = FilterSets {
        applications: Vec::new(),
        event_types: vec![new.id],
        levels: new.levels.iter().map(|level| level.id).collect(),
    };
    let id = create(&store, &account, "a", Some(sets)).await?.endpoint.id;
    // One level goes, then the type with the other one.
    store.register(&mail(&[("new", &["low"])]), false).await?;
    let filter = store.filter(account.id, id).await?.context("no filter")?;
    ensure!(filter.sets.levels.len() == 1 && filter.stale.is_empty());
    for event_types in [
        &[("gone", &[] as &[&str])][..],
        &[("other", &["low", "high"])],
    ] {
        // Levels of another event type are others.
        store.register(&mail(event_types), false).await?;
        let filter = store.filter(account.id, id).await?.context("no filter")?;
        ensure!(filter.stale == [FilterSet::EventTypes, FilterSet::Levels]);
        let records = store.load_endpoints(&[id]).await?;
        let record = records[0].filter.as_ref().context("no filter")?;
        ensure!(record.applications == Members::Any);
        ensure!(record.event_types == Members::These(Vec::new()));
        ensure!(record.levels == Members::These(Vec::new()));
    }
    // What does not speak of the sets leaves them as they are.
    let put = |fields| EndpointEdit {
        filter: FilterEdit::Put(fields),
        ..EndpointEdit::default()
    };
    let enable = put(FilterFields {
        enabled: Some(true),
        ..FilterFields::default()
    });
    store.edit_endpoint(account.id, id, &enable).await?;
    ensure!(
        store
            .filter(account.id, id)
            .await?
            .context("no filter")?
            .stale
            .len()
            == 2
    );
    let open = put(FilterFields {
        sets: Some(FilterSets::default()),
        ..FilterFields::default()
    });
    store.edit_endpoint(account.id, id, &open).await?;
    let records = store.load_endpoints(&[id]).await?;
    let record = records[0].filter.as_ref().context("no filter")?;
    ensure!(record.event_types == Members::Any && record.levels == Members::Any);
    Ok(())
}

async fn what_is_not_said_about_a_filter_stays(test: Test) -> Result<()> {
    let (store, account, application) = test.filled().await?;
    let mut new = endpoint("a");
    new.filter = Some(FilterFields {
        enabled: Some(false),
        condition: Some(Some("true".to_owned())),
        sets: Some(FilterSets {
            applications: vec![application.id, application.id],
            ..FilterSets::default()
        }),
    });
    let id = store
        .create_endpoint(account.id, &new, u64::MAX)
        .await?
        .endpoint
        .id;
    let edit = EndpointEdit {
        filter: FilterEdit::Put(FilterFields {
            condition: Some(None),
            ..FilterFields::default()
        }),
        ..EndpointEdit::default()
    };
    store.edit_endpoint(account.id, id, &edit).await?;
    let filter = store.filter(account.id, id).await?.context("no filter")?;
    ensure!(!filter.enabled && filter.condition.is_none());
    ensure!(filter.sets.applications == [application.id]);
    Ok(())
}

async fn a_filter_with_an_unknown_member_changes_nothing(test: Test) -> Result<()> {
    let (store, account, application) = test.filled().await?;
    let unknown = FilterSets {
        applications: vec![application.id],
        // The id of something else.
        event_types: vec![application.id.uuid().into()],
        levels: Vec::new(),
    };
    let mut new = endpoint("a");
    new.filter = Some(FilterFields {
        sets: Some(unknown.clone()),
        ..FilterFields::default()
    });
    let refused = store.create_endpoint(account.id, &new, u64::MAX).await;
    ensure!(
        matches!(refused, Err(StoreError::Unknown { .. })),
        "{refused:?}"
    );
    ensure!(!store.is_name_taken(account.id, "a", None).await?);
    let id = create(&store, &account, "b", None).await?.endpoint.id;
    let edit = EndpointEdit {
        name: Some("c".to_owned()),
        filter: FilterEdit::Put(FilterFields {
            sets: Some(unknown),
            ..FilterFields::default()
        }),
        ..EndpointEdit::default()
    };
    let refused = store.edit_endpoint(account.id, id, &edit).await;
    ensure!(
        matches!(refused, Err(StoreError::Unknown { .. })),
        "{refused:?}"
    );
    let shown = store.endpoint(account.id, id).await?.context("gone")?;
    ensure!(shown.name == "b" && store.filter(account.id, id).await?.is_none());
    Ok(())
}

async fn an_endpoint_without_a_filter_is_loaded_without_one(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let sets = Some(FilterSets::default());
    let id = create(&store, &account, "a", sets).await?.endpoint.id;
    ensure!(store.load_endpoints(&[id]).await?[0].filter.is_some());
    let remove = EndpointEdit {
        filter: FilterEdit::Remove,
        ..EndpointEdit::default()
    };
    for _ in 0..2 {
        store.edit_endpoint(account.id, id, &remove).await?;
        ensure!(store.load_endpoints(&[id]).await?[0].filter.is_none());
        ensure!(store.filter(account.id, id).await?.is_none());
    }
    Ok(())
}
