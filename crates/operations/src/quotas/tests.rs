//! What accounts, tokens and proxies are refused, and when they may come again.

use uuid::Uuid;

use super::*;

fn quotas(messages: RateLimits, of_a_token: RateLimits) -> Quotas {
    Quotas::new(QuotaLimits {
        messages,
        of_a_token,
        burst: Duration::from_secs(10),
        tests_per_minute: 0,
    })
}

fn after(refused: Result<()>) -> Option<(String, Duration)> {
    match refused {
        Err(Refusal::TooMuch { reason, after }) => Some((reason, after)),
        _ => None,
    }
}

#[test]
fn an_account_is_told_its_limit_and_when_to_come_again() {
    let now = Instant::now();
    for (limits, told) in [
        ((1, 0), "1 notifications a second"),
        ((0, 1), "1 KiB a second"),
        ((1, 1), "1 notifications and 1 KiB a second"),
    ] {
        let limits = RateLimits {
            count: limits.0,
            bytes: limits.1 * 1024,
        };
        let quotas = quotas(limits, RateLimits::default());
        let take = |account, bytes| quotas.take_message(&Sender::Anybody, account, bytes, now);
        let taken = (0..100).take_while(|_| take("7", 1024).is_ok());
        assert_eq!(taken.count(), 11);
        let (reason, after) = after(take("7", 1)).expect("refused");
        assert!(reason.contains(told) && reason.contains("`7`"), "{reason}");
        assert_eq!(after, Duration::from_secs(1));
        assert!(take("8", 1).is_ok());
        assert_eq!(quotas.stats().refused_messages, 2);
    }
}

#[test]
fn a_token_is_told_its_limit_whatever_accounts_it_sends_for() {
    let now = Instant::now();
    let limits = RateLimits { count: 1, bytes: 0 };
    let of_an_account = RateLimits { count: 0, bytes: 1 };
    let quotas = quotas(of_an_account, limits);
    let token = |n| {
        let id = TokenId::from(Uuid::from_u128(n));
        Sender::Applications(id, Arc::default())
    };
    let take = |sender: &Sender, account: usize, bytes| {
        quotas.take_message(sender, &account.to_string(), bytes, now)
    };
    // What an account refuses costs the token nothing.
    assert!(take(&token(1), 0, 1_000).is_ok());
    assert!((0..100).all(|_| take(&token(1), 0, 1).is_err()));
    let accepted = (1..100).take_while(|account| take(&token(1), *account, 1).is_ok());
    assert_eq!(accepted.count(), 10);
    let (reason, after) = after(take(&token(1), 101, 1)).expect("refused");
    let told = "This token sends too much: 1 notifications a second";
    assert!(reason.starts_with(told), "{reason}");
    assert_eq!(after, Duration::from_secs(1));
    assert!(take(&token(2), 102, 1).is_ok());
    assert!((103..200).all(|account| take(&Sender::Anybody, account, 1).is_ok()));
    let stats = quotas.stats();
    assert_eq!(stats.refused_token_messages, 2);
    assert_eq!(stats.refused_messages, 100);
}

#[test]
fn a_proxy_names_so_many_new_accounts_and_users_and_one_account_a_few_of_them() {
    let quotas = quotas(RateLimits::default(), RateLimits::default());
    let account = |n| AccountId::from(Uuid::from_u128(n));
    // At most so many more for each second that this takes.
    let of_one = (0..10_000).take_while(|_| quotas.take_user(account(0)).is_ok());
    assert!((51..200).contains(&of_one.count()));
    let others = (1..10_000).take_while(|n| quotas.take_user(account(*n)).is_ok());
    assert!((400..1_000).contains(&others.count()));
    let accounts = (0..10_000).take_while(|_| quotas.take_account().is_ok());
    assert!((501..1_000).contains(&accounts.count()));
    assert_eq!(quotas.stats().refused_identities, 3);
}

#[test]
fn an_endpoint_is_tested_once_at_a_time_and_an_account_has_a_few() {
    let quotas = quotas(RateLimits::default(), RateLimits::default());
    let now = Instant::now();
    let account = |n| AccountId::from(Uuid::from_u128(n));
    let endpoint = |n| EndpointId(Uuid::from_u128(n));
    let mut held: Vec<_> = (0..4)
        .map(|n| {
            quotas
                .take_test(account(1), endpoint(n), now)
                .expect("a place")
        })
        .collect();
    let twice = quotas.take_test(account(1), endpoint(0), now).err();
    assert!(matches!(twice, Some(Refusal::UnderWay { .. })), "{twice:?}");
    let fifth = quotas.take_test(account(1), endpoint(4), now).err();
    assert!(matches!(fifth, Some(Refusal::TooMuch { .. })), "{fifth:?}");
    let other = quotas.take_test(account(2), endpoint(5), now);
    assert!(other.is_ok());
    assert_eq!(quotas.stats().refused_tests, 2);
    held.pop();
    assert!(quotas.take_test(account(1), endpoint(4), now).is_ok());
}
#[test]
fn an_account_tests_its_endpoints_so_often_in_a_minute_and_another_has_its_own() {
    let now = Instant::now();
    let quotas = Quotas::new(QuotaLimits {
        tests_per_minute: 20,
        ..QuotaLimits::default()
    });
    let take = |account, now| {
        let account = AccountId::from(Uuid::from_u128(account));
        let endpoint = EndpointId(Uuid::from_u128(1));
        quotas.take_test(account, endpoint, now).map(drop)
    };
    // The twenty of a minute in which there was none, and the one that is due.
    let taken = (0..100).take_while(|_| take(1, now).is_ok());
    assert_eq!(taken.count(), 21);
    let (reason, after) = after(take(1, now)).expect("refused");
    assert!(reason.contains("20 tests a minute"), "{reason}");
    assert_eq!(after, Duration::from_secs(3));
    assert!(take(2, now).is_ok());
    assert!(take(1, now + after).is_ok() && take(1, now + after).is_err());
    assert_eq!(quotas.stats().refused_tests, 3);
}
