//! What hanging attempts take of the places and the memory there are.

use dovecast_notification::EndpointId;
use uuid::Uuid;

use super::*;
use crate::budget::Budget;
use crate::driver::nowhere;
use crate::endpoint::Endpoint;
use crate::room::Share;

const MB: usize = 1024 * 1024;
const BUDGET_MB: usize = 64;

/// The lane of an endpoint of which nothing else is known.
fn lane(number: u128) -> Arc<Lane> {
    let id = EndpointId(Uuid::from_u128(number));
    let endpoint = Endpoint::new(id, "1".into(), nowhere());
    Arc::new(Lane::new(Arc::new(endpoint), Share::alone()))
}

fn hanging(budget: &Budget) -> Hanging {
    Hanging::new(budget.total(), &Arc::default())
}

fn budget() -> Budget {
    Budget::new((BUDGET_MB * MB) as u64)
}

/// An attempt at a host of its own, by an endpoint of its own.
fn take(
    hanging: &Hanging,
    account: &str,
    held: Option<&Arc<Reserved>>,
) -> Result<Hangs, Exhausted> {
    let wanted = Wanted {
        account: &account.into(),
        host: Some(&Arc::default()),
        held,
    };
    hanging.try_take(&lane(1), &wanted)
}

/// Takes until there is no more.
fn take_all(
    hanging: &Hanging,
    account: &str,
    held: impl Fn() -> Option<Arc<Reserved>>,
) -> (Vec<Hangs>, Exhausted) {
    let mut taken = Vec::new();
    loop {
        match take(hanging, account, held().as_ref()) {
            Ok(hangs) => taken.push(hangs),
            Err(exhausted) => return (taken, exhausted),
        }
    }
}

#[test]
fn one_account_with_many_hosts_leaves_places_to_others() {
    let hanging = hanging(&budget());
    let (one, exhausted) = take_all(&hanging, "1", || None);
    assert_eq!(exhausted, Exhausted::AttemptsOfAccount);
    assert_eq!(one.len(), MAX_HANGING_OF_ACCOUNT);
    let others = ["2", "3", "4"].map(|account| take_all(&hanging, account, || None).0);
    assert!(others.iter().all(|of| of.len() == MAX_HANGING_OF_ACCOUNT));
    assert_eq!(
        take(&hanging, "5", None).expect_err("full"),
        Exhausted::Attempts
    );
    drop(one);
    assert!(take(&hanging, "5", None).is_ok());
}

#[test]
fn an_account_holds_part_of_the_memory_and_all_together_leave_the_rest() {
    let (budget, mut taken) = (budget(), Vec::new());
    let hanging = hanging(&budget);
    // What a body takes besides itself makes it one less.
    for (account, expected, why) in [
        ("1", 7, Exhausted::BytesOfAccount),
        ("2", 7, Exhausted::BytesOfAccount),
        ("3", 7, Exhausted::BytesOfAccount),
        ("4", 7, Exhausted::BytesOfAccount),
        ("5", 3, Exhausted::Bytes),
    ] {
        let (of, exhausted) = take_all(&hanging, account, || budget.try_take(MB));
        assert_eq!((of.len(), exhausted), (expected, why), "account {account}");
        taken.push(of);
    }
    taken.remove(0);
    assert!(take(&hanging, "5", budget.try_take(MB).as_ref()).is_ok());
}

#[test]
fn drivers_of_the_configuration_have_places_whatever_accounts_hold() {
    let (budget, mut taken) = (budget(), Vec::new());
    let hanging = hanging(&budget);
    for account in ["1", "2", "3", "4", "5"] {
        let (of, _) = take_all(&hanging, account, || budget.try_take(MB));
        taken.push(of);
    }
    let own = take(&hanging, EVERY_ACCOUNT, budget.try_take(MB).as_ref());
    assert!(own.is_ok(), "{own:?}");
    let hanging = self::hanging(&budget);
    for account in ["1", "2", "3", "4"] {
        taken.push(take_all(&hanging, account, || None).0);
    }
    assert!(take(&hanging, EVERY_ACCOUNT, None).is_ok());
}

#[test]
fn what_attempts_share_counts_once_until_none_of_them_hangs() {
    let budget = budget();
    let hanging = hanging(&budget);
    let shared = budget.try_take(5 * MB);
    let many: Vec<_> = (0..100)
        .map(|_| take(&hanging, "1", shared.as_ref()).expect("it is one body"))
        .collect();
    let other = budget.try_take(5 * MB);
    let refused = take(&hanging, "1", other.as_ref());
    assert_eq!(refused.expect_err("no room"), Exhausted::BytesOfAccount);
    drop(many);
    assert!(take(&hanging, "1", other.as_ref()).is_ok());
}

#[test]
fn a_body_that_is_larger_than_the_share_of_an_account_hangs_alone() {
    let budget = budget();
    let hanging = hanging(&budget);
    let large = budget.try_take(BUDGET_MB / 4 * MB);
    let _alone = take(&hanging, "1", large.as_ref()).expect("room");
    let small = budget.try_take(1);
    let refused = take(&hanging, "1", small.as_ref());
    assert_eq!(refused.expect_err("no room"), Exhausted::BytesOfAccount);
}

#[test]
fn accounts_of_which_nothing_hangs_are_forgotten() {
    let hanging = hanging(&budget());
    let hangs = take(&hanging, "hangs", None);
    for number in 0..3 * KEPT_ACCOUNTS {
        drop(take(&hanging, &number.to_string(), None));
    }
    let accounts = hanging.accounts.lock();
    assert!(accounts.len() <= KEPT_ACCOUNTS && accounts.contains_key("hangs"));
    drop(accounts);
    drop(hangs);
}

#[test]
fn what_is_refused_for_its_host_leaves_nothing_taken() {
    let (hanging, lane, host) = (hanging(&budget()), lane(1), Arc::default());
    let (account, all) = (Arc::from("1"), hanging.all.attempts.available_permits());
    let wanted = Wanted {
        account: &account,
        host: Some(&host),
        held: None,
    };
    let taken: Vec<_> = (0..=MOST_OF_HOST)
        .map(|_| hanging.try_take(&lane, &wanted).expect("room"))
        .collect();
    let refused = hanging.try_take(&lane, &wanted).expect_err("no room");
    assert_eq!(refused, Exhausted::AttemptsAtHost);
    drop(taken);
    assert_eq!(lane.hanging.load(Ordering::Acquire), 0);
    assert_eq!(hanging.all.attempts.available_permits(), all);
}

#[test]
fn an_attempt_of_an_account_without_places_is_in_vain_where_others_hang() {
    let hanging = hanging(&budget());
    let (here, quiet): (Arc<AtHost>, AtHost) = Default::default();
    let (account, other) = (Arc::from("1"), Arc::from("2"));
    let wanted = Wanted {
        account: &account,
        host: Some(&here),
        held: None,
    };
    let first = hanging.try_take(&lane(1), &wanted).expect("a place");
    assert!(!hanging.is_in_vain(&account, &here));
    let (of_account, exhausted) = take_all(&hanging, "1", || None);
    assert_eq!(exhausted, Exhausted::AttemptsOfAccount);
    assert!(hanging.is_in_vain(&account, &here));
    assert!(!hanging.is_in_vain(&other, &here));
    // Where nothing hangs it is tried all the same.
    assert!(!hanging.is_in_vain(&account, &quiet));
    drop(first);
    assert!(!hanging.is_in_vain(&account, &here));
    assert_eq!(here.attempts.load(Ordering::Acquire), 0);
    drop(of_account);
}
