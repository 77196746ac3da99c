//! The index finds what the meaning of each filter says, whatever was put in and taken out before.

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::NotificationId;
use crate::filter::{EventType, Level};

fn name(number: u8) -> Box<str> {
    number.to_string().into()
}

fn application_of(number: u8) -> Box<str> {
    match number {
        0 => DOVECOT.into(),
        _ => name(number),
    }
}

fn event_type() -> impl Strategy<Value = EventType> {
    (0..3_u8, 0..3_u8).prop_map(|(application, of)| EventType {
        application: application_of(application),
        name: name(of),
    })
}

fn level() -> impl Strategy<Value = Level> {
    (event_type(), 0..3_u8).prop_map(|(event_type, of)| Level {
        event_type,
        name: name(of),
    })
}

fn choice<T: std::fmt::Debug + Clone>(
    of: impl Strategy<Value = T>,
) -> impl Strategy<Value = Choice<T>> {
    prop_oneof![
        Just(Choice::Any),
        proptest::collection::vec(of, 0..4).prop_map(Choice::These),
    ]
}

fn condition() -> impl Strategy<Value = Option<Arc<Condition>>> {
    let compiled = |text| Some(Arc::new(Condition::new(text).expect("a condition")));
    let (yes, no) = (compiled("message == 1"), compiled("message == 2"));
    prop_oneof![4 => Just(None), 1 => Just(yes), 1 => Just(no)]
}

fn filter() -> impl Strategy<Value = Filter> {
    let sets = (
        choice((0..3_u8).prop_map(application_of)),
        choice(event_type()),
        choice(level()),
    );
    let accounts = (0..3_u8, prop::option::of(3..5_u8));
    let rest = (0..12_u128, accounts, prop::bool::weighted(0.9), condition());
    (sets, rest).prop_map(
        |((applications, event_types, levels), (endpoint, accounts, enabled, condition))| Filter {
            endpoint: EndpointId(Uuid::from_u128(endpoint)),
            account: name(accounts.0),
            mail_account: accounts.1.map(name),
            enabled,
            applications,
            event_types,
            levels,
            condition,
        },
    )
}

fn notification() -> impl Strategy<Value = Notification> {
    (0..4_u8, 0..4_u8, proptest::option::of(0..4_u8), 0..5_u8).prop_map(
        |(application, event_type, level, account)| Notification {
            id: NotificationId(Uuid::nil()),
            application: application_of(application),
            event_type: name(event_type),
            level: level.map(name),
            account: name(account),
            timestamp: Bytes::from_static(b"0"),
            message: Bytes::from_static(b"1"),
            key: None,
            headers: Vec::new(),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn it_finds_what_the_filters_say(
        changes in proptest::collection::vec((filter(), any::<bool>()), 0..60),
        notifications in proptest::collection::vec(notification(), 1..20),
    ) {
        let mut index = Index::default();
        let mut plain = std::collections::BTreeMap::new();
        for (filter, is_put) in changes {
            if is_put {
                plain.insert(filter.endpoint, filter.clone());
                index.insert(Arc::new(filter.clone()), filter.endpoint);
            } else {
                plain.remove(&filter.endpoint);
                index.remove(filter.endpoint);
            }
            prop_assert_eq!(index.len(), plain.len());
        }
        for notification in &notifications {
            let mut found = Vec::new();
            index.matches(notification, |endpoint| found.push(*endpoint));
            found.sort_unstable();
            let expected: Vec<EndpointId> = plain
                .values()
                .filter(|filter| filter.mismatch(notification).is_none())
                .map(|filter| filter.endpoint)
                .collect();
            prop_assert_eq!(&found, &expected);
        }
        for endpoint in plain.keys() {
            index.remove(*endpoint);
        }
        prop_assert!(index.postings.is_empty() && index.accounts.is_empty() && index.by_mail.is_empty());
    }
}

#[test]
fn a_choice_that_has_become_empty_matches_nothing() {
    let any = Filter {
        endpoint: EndpointId(Uuid::from_u128(1)),
        account: "a".into(),
        mail_account: None,
        enabled: true,
        applications: Choice::Any,
        event_types: Choice::Any,
        levels: Choice::Any,
        condition: None,
    };
    let notification = Notification {
        id: NotificationId(Uuid::nil()),
        application: "x".into(),
        event_type: "y".into(),
        level: None,
        account: "a".into(),
        timestamp: Bytes::new(),
        message: Bytes::new(),
        key: None,
        headers: Vec::new(),
    };
    let count = |filter: Filter| {
        let mut index = Index::default();
        index.insert(Arc::new(filter), ());
        let mut found = 0;
        index.matches(&notification, |()| found += 1);
        found
    };
    assert_eq!(count(any.clone()), 1);
    for filter in [
        Filter {
            applications: Choice::These(Vec::new()),
            ..any.clone()
        },
        Filter {
            event_types: Choice::These(Vec::new()),
            ..any.clone()
        },
        Filter {
            levels: Choice::These(Vec::new()),
            ..any.clone()
        },
    ] {
        assert_eq!(count(filter), 0);
    }
}
