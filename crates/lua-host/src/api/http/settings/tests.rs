//! Both spellings, and what is wrong with some.

use mlua::Lua;

use super::*;

/// What a script in the manner of 2.3 or 2.4 says of a client.
fn settings(table: &str, is_for_2_4: bool) -> Result<Settings, String> {
    let lua = Lua::new();
    let table: Table = lua.load(table).eval().expect("a table");
    Settings::read(&table, is_for_2_4)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn both_spellings_say_the_same_whichever_dovecot_the_script_is_for() {
    const OLD: &str = "{request_timeout_msecs = 5000, connect_timeout_msecs = 2000.0, \
        request_absolute_timeout_msecs = 45000, max_idle_time_msecs = 60000, max_attempts = 3, \
        max_redirects = 2, no_auto_redirect = false, no_auto_retry = false, \
        user_agent = 'push', proxy_url = 'http://p:1/', debug = true}";
    const NEW: &str = "{request_timeout = '5s', connect_timeout = '2000ms', \
        request_absolute_timeout = '45 secs', max_idle_time = '1 min', request_max_attempts = 3, \
        request_max_redirects = '2', auto_redirect = 'yes', auto_retry = true, \
        user_agent = 'push', proxy_url = 'http://p:1/', event_parent = {}}";
    let expected = settings(OLD, false).expect("settings");
    assert_eq!(expected.timeout(&Method::POST), Duration::from_secs(5));
    assert_eq!(expected.attempts(&Method::POST), 3);
    assert_eq!(expected.connect_timeout, Some(seconds(2)));
    assert_eq!(expected.absolute_timeout, Some(seconds(45)));
    assert_eq!(expected.max_idle_time, Some(seconds(60)));
    assert_eq!((expected.is_redirected, expected.max_redirects), (true, 2));
    assert_eq!(expected.user_agent, "push");
    for (table, is_for_2_4) in [(OLD, true), (NEW, false), (NEW, true)] {
        assert_eq!(
            settings(table, is_for_2_4).as_ref(),
            Ok(&expected),
            "{table}"
        );
    }
}

#[test]
fn without_settings_a_request_takes_a_minute_and_is_sent_once() {
    let found = settings("{}", true).expect("settings");
    assert_eq!(found.timeout(&Method::GET), Duration::from_mins(1));
    assert_eq!(found.attempts(&Method::GET), 1);
    assert_eq!((found.is_redirected, found.max_redirects), (true, 0));
    assert!(found.tls.requires_valid_cert);
    // In 2.3 nought is what is not said.
    let nought = settings("{request_timeout_msecs = 0, max_attempts = 0}", false);
    assert_eq!(nought, Ok(found));
}

#[test]
fn methods_have_bounds_of_their_own() {
    let found = settings(
        "{request_timeout = '5s', read_request_timeout = '1s', write_request_timeout = '2s', \
          delete_request_timeout = '3s', request_max_attempts = 4, read_request_max_attempts = 1, \
          write_request_max_attempts = 200}",
        true,
    );
    let found = found.expect("settings");
    for (method, seconds, attempts) in [
        (Method::GET, 1, 1),
        (Method::HEAD, 1, 1),
        (Method::PUT, 2, MAX_ATTEMPTS),
        (Method::POST, 2, MAX_ATTEMPTS),
        (Method::DELETE, 3, 4),
        (Method::PATCH, 5, 4),
    ] {
        let bounds = (found.timeout(&method), found.attempts(&method));
        assert_eq!(bounds, (Duration::from_secs(seconds), attempts), "{method}");
    }
    for table in [
        "{request_max_attempts = 4, auto_retry = 'no'}",
        "{max_attempts = 4, no_auto_retry = true}",
    ] {
        let found = settings(table, true).expect("settings");
        assert!(!found.is_retried, "{table}");
    }
}

#[test]
fn an_answer_may_ask_to_wait_for_as_long_as_an_attempt_or_as_the_script_says() {
    for (table, expected) in [
        ("{request_timeout = '5s'}", 5),
        (
            "{request_timeout = '5s', max_auto_retry_delay = '1 min'}",
            60,
        ),
        (
            "{request_timeout_msecs = 5000, max_auto_retry_delay_secs = 2}",
            2,
        ),
    ] {
        let found = settings(table, true).expect("settings");
        assert_eq!(
            found.longest_delay(&Method::GET),
            seconds(expected),
            "{table}"
        );
    }
}

#[test]
fn what_no_dovecot_has_is_an_error_in_2_4_only() {
    for table in [
        "{timeout = 10000}",
        "{base_dir = '/'}",
        "{1}",
        "{ssl_client = 'x'}",
    ] {
        let error = settings(table, true).expect_err(table);
        assert!(error.ends_with(" is unknown setting"), "{error}");
        assert!(settings(table, false).is_ok(), "{table}");
    }
    let error = settings("{timeout = 10000}", true);
    assert_eq!(error, Err("timeout is unknown setting".to_owned()));
}

#[test]
fn what_2_3_does_not_know_is_passed_over_there_whatever_it_says() {
    let usual = settings("{}", false);
    for table in [
        "{request_timeout = 5000}",
        "{request_timeout = 0}",
        "{auto_retry = 'cow', dns_ttl = {}}",
    ] {
        assert_eq!(settings(table, false), usual, "{table}");
        assert!(settings(table, true).is_err(), "{table}");
    }
    // 2.3 has this one, too, and checks its type.
    let error = settings("{max_connect_attempts = 'cow'}", false).expect_err("a text");
    assert_eq!(error, "max_connect_attempts: non-negative number expected");
}

#[test]
fn a_value_that_cannot_be_read_is_named_in_the_words_of_dovecot() {
    for (table, expected) in [
        (
            "{auto_retry = 'cow'}",
            "auto_retry=cow: Invalid boolean value: cow (use yes or no)",
        ),
        (
            "{request_max_attempts = 'three'}",
            "request_max_attempts=three: Invalid number three: Not a valid number",
        ),
        (
            "{max_connect_attempts = -1}",
            "max_connect_attempts=-1: Invalid number -1: Number too small",
        ),
        (
            "{request_max_attempts = 4294967296}",
            "request_max_attempts=4294967296: Invalid number 4294967296: Number too large",
        ),
        (
            "{request_timeout = 5000}",
            "request_timeout=5000: Time interval '5000' is missing units (add e.g. 's' for seconds)",
        ),
        (
            "{request_timeout = '5 parsecs'}",
            "request_timeout=5 parsecs: Invalid time interval: 5 parsecs",
        ),
        (
            "{request_timeout = '50 days'}",
            "request_timeout=50 days: Time interval is too large: 50 days",
        ),
        (
            "{max_auto_retry_delay = '1500ms'}",
            "max_auto_retry_delay=1500ms: Milliseconds not supported for this setting: 1500ms",
        ),
        (
            "{socket_send_buffer_size = '1 x'}",
            "socket_send_buffer_size=1 x: Invalid size: 1 x",
        ),
        ("{request_timeout = 0}", "request_timeout must not be 0"),
        (
            "{request_max_attempts = 0}",
            "request_max_attempts must not be 0",
        ),
        ("{user_agent = {}}", "user_agent: string expected"),
        (
            "{ssl_client_key_password = 'secret'}",
            "ssl_client_key_password: a key with a password cannot be read",
        ),
    ] {
        assert_eq!(settings(table, true), Err(expected.to_owned()), "{table}");
    }
    for fine in [
        "{ssl_min_protocol = 'cow', socket_send_buffer_size = '64 KiB'}",
        "{max_idle_time = 0, request_max_redirects = 'unlimited', dns_ttl = '1H'}",
        "{max_auto_retry_delay = '2000 ms', request_timeout = '1m'}",
    ] {
        assert!(settings(fine, true).is_ok(), "{fine}");
    }
}
