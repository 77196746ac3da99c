//! What a configuration file may say, and how a wrong one is refused.

use dovecast_mail_push::Person;
use dovecast_store::Scope;

use super::*;

#[test]
fn the_default_file_says_exactly_the_defaults() {
    assert_eq!(Config::parse(DEFAULT_FILE), Ok(Config::default()));
    assert_eq!(Config::parse(""), Ok(Config::default()));
}

#[test]
fn what_the_default_file_shows_as_a_comment_can_be_set_and_is_the_default() {
    let shown: String = DEFAULT_FILE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(key)
                if key.contains(" = \"./")
                    || key.contains(" = \"sqlite:./")
                    || key.contains(" = \"file:./") =>
            {
                format!("{key}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let config = Config::parse(&shown).expect("the file with its comments");
    let default = Config::default();
    assert!(config.control.socket.is_some() && config.relay.socket.is_some());
    assert_eq!(config.control_socket(), default.control_socket());
    assert_eq!(config.relay_socket(), default.relay_socket());
    assert_eq!(config.spill_dir(), default.spill_dir());
    assert!(config.store.url.is_some());
    assert_eq!(
        config.store_options().expect("options").place,
        default.store_options().expect("options").place
    );
    assert!(config.secrets.keys.is_some());
    assert_eq!(
        config.store_options().expect("options").keys,
        default.store_options().expect("options").keys
    );
    assert!(config.ox.key_file.is_some());
    assert_eq!(config.ox_key_file(), default.ox_key_file());
}

#[test]
fn a_wrong_file_is_refused_with_place_key_value_and_what_is_expected() {
    #[rustfmt::skip]
    let cases = [
        ("data_dirs = 'x'", "1:1: unknown field `data_dirs`, expected one of `data_dir`, `roles`"),
        ("\n[relay]\nport = 1", "3:1: unknown field `port`, expected one of `socket`"),
        ("roles = ['relay', 'sender']", "1:19: `roles`: unknown value `sender`, expected `relay` or `dispatch`"),
        ("dispatch = 7", "1:12: `dispatch`: invalid type: integer `7`, expected a table"),
        ("relay = 'x'", "1:9: `relay`: invalid type: string \"x\", expected a table"),
        ("roles = 'relay'", "1:9: `roles`: invalid type: string \"relay\", expected a list"),
        ("roles = []", "1:9: `roles`: an empty list, expected at least one role"),
        ("data_dir = 7", "1:12: `data_dir`: invalid type: integer `7`, expected a string"),
        ("data_dir = ''", "1:12: `data_dir`: `` is not a path"),
        ("[relay]\nspill_dir = ''", "2:13: `spill_dir`: `` is not a path"),
        ("[control]\nsocket = '/a234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789'", "has 110 bytes, expected at most 107 for the path of a socket"),
        ("[http]\nlisten = 'localhost'", "2:10: `listen`: `localhost` is not an address to listen on, expected one such as"),
        ("[http]\nlisten = 8087", "2:10: `listen`: invalid type: integer `8087`, expected a string"),
        ("[http]\napi_prefix = 'api'", "2:14: `api_prefix`: `api` is not a prefix of paths, expected one such as `/api/hooks`"),
        ("[http]\napi_prefix = '/api/'", "`/api/` is not a prefix of paths"),
        ("[http]\napi_prefix = '/a//b'", "`/a//b` is not a prefix of paths"),
        ("[http]\napi_prefix = '/{id}'", "`/{id}` is not a prefix of paths"),
        ("[http]\napi_prefix = '/metrics'", "`/metrics` is not a prefix of paths"),
        ("[http]\ntrusted_proxies = ['proxy']", "2:19: `trusted_proxies`: `proxy` is not an address or network, expected one such as `127.0.0.1` or `10.1.0.0/16`"),
        ("[http]\nmax_endpoints = 0", "integer `0`, expected a number from 1 to 1000000"),
        ("[http]\nmax_messages = 0", "integer `0`, expected a number from 1 to 100000"),
        ("[http]\nmax_messages_bytes = 1024", "integer `1024`, expected a number from 1048576 to 268435456"),
        ("[http]\nmax_connections = 1", "2:19: `max_connections`: invalid value: integer `1`, expected a number from 10 to 100000"),
        ("[http]\nmonitor_listen = ''", "2:18: `monitor_listen`: `` is not an address to listen on"),
        ("[http]\nmax_connections_per_address = -1", "integer `-1`, expected a number from 0 to 100000"),
        ("[http]\nidle_timeout_seconds = 0", "integer `0`, expected a number from 1 to 3600"),
        ("[http]\nheader_timeout_seconds = 0", "integer `0`, expected a number from 1 to 3600"),
        ("[http]\nrequest_timeout_seconds = 'long'", "string \"long\", expected a number from 1 to 3600"),
        ("[quota]\nmessages_per_second = -1", "2:23: `messages_per_second`: invalid value: integer `-1`, expected a number from 0 to 1000000000"),
        ("[quota]\nmails_per_second = 1", "2:1: unknown field `mails_per_second`, expected one of `messages_per_second`"),
        ("[store]\nurl = 'mysql://a/b'", "2:7: `url`: this is not a place of a database, expected `sqlite:FILE` or"),
        ("[secrets]\nkeys = 's3cret'", "2:8: `keys`: no place of keys: expected `file:PATH`, `env:VARIABLE` or `credential:NAME`"),
        ("[secrets]\nkeys = 7", "2:8: `keys`: no place of keys"),
        ("[dispatch]\nevent_account = 'mailbox'", "2:17: `event_account`: `mailbox` is none of `user`, `domain` and `fixed:ACCOUNT`"),
        ("[dispatch]\nallowed_networks = ['lan']", "2:20: `allowed_networks`: `lan` is not an address or network"),
        ("[dispatch]\nallowed_networks = ['10.0.0.0/8:https']", "`10.0.0.0/8:https` is not an address or network"),
        ("[dispatch]\ntimeout_seconds = 60", "integer `60`, expected a number from 1 to 45"),
        ("[dispatch]\nmax_connections = 3", "integer `3`, expected a number from 4 to 100000"),
        ("[ox]\nuser = 'a'", "`user` in [ox] is nothing without `password`"),
        ("[ox]\npassword = 'a'", "`password` in [ox] is nothing without `user`"),
        ("[ox]\nuser = 'a:b'\npassword = 'c'", "2:8: `user`: `a:b` is not a user of basic authentication"),
        ("[ox]\nuser = 'a'\npassword = ''", "3:12: `password`: the password is empty"),
        ("[ox]\nurl = 'a'", "2:1: unknown field `url`, expected one of `user`, `password`, `password_file`, `users`, `require_owner`, `key_file`"),
        ("[ox]\nkey_file = ''", "2:12: `key_file`: `` is not a path"),
        ("[http]\napi_prefix = '/preliminary/http-notify/v1/notify'", "is not a prefix of paths"),
        ("[logging]\nformat = 'xml'", "2:10: `format`: unknown value `xml`, expected `text` or `json`"),
        ("[logging]\nfilter = 'inof'", "2:10: `filter`: `inof` is not a level, expected error, warn, info"),
        ("[logging]\nfilter = 'a=loud'", "2:10: `filter`: `a=loud` is not a filter"),
        ("[log]\nkind = 'redis'", "2:8: `kind`: unknown value `redis`, expected `embedded` or `kafka`"),
        ("[log]\npartitions = 0", "2:14: `partitions`: invalid value: integer `0`, expected a number from 1 to 1024"),
        ("[log]\npartitions = -1", "2:14: `partitions`: invalid value: integer `-1`, expected a number from 1 to 1024"),
        ("[log]\nretention_hours = 'week'", "2:19: `retention_hours`: invalid type: string \"week\", expected a number"),
        ("[log]\ndedup_window_records = 10", "integer `10`, expected a number from 1000 to 100000000"),
        ("[relay]\nmax_clients = 0", "2:15: `max_clients`: invalid value: integer `0`, expected a number from 1"),
        ("[relay]\ncommit_interval_ms = 101", "2:22: `commit_interval_ms`: invalid value: integer `101`, expected a number from 0 to 100"),
        ("[relay]\nallow = ['vmail', 'a b']", "2:19: `allow`: invalid value: string \"a b\", expected the name of a user"),
        ("[relay]\nallow = ['20-10']", "2:10: `allow`: invalid value: string \"20-10\", expected the name of a user"),
        ("[relay]\ntopics = ['a b']", "2:10: `topics`: `a b` is not a topic, expected 1 to 249 of letters"),
        ("[relay]\ntopics = ['..']", "2:10: `topics`: `..` is not a topic"),
        ("[dispatch]\noutbox_topic = 'hooks/outbox'", "2:16: `outbox_topic`: `hooks/outbox` is not a topic, expected 1 to 249 of letters, digits, `.`, `_`, `-`"),
        ("[dispatch]\nevent_topics = ['a', 'hooks.outbox']", "`event_topics` names `hooks.outbox`, which is `outbox_topic`"),
        ("[dispatch]\noutbox_topic = 'dovecot'", "`event_topics` names `dovecot`, which is `outbox_topic`"),
        ("[dispatch]\noutbox_topic = ''", "2:16: `outbox_topic`: `` is not a topic"),
        ("[dispatch]\nevent_topics = ['dovecot', 'mail*']", "2:16: `event_topics`: `mail*` is not a topic, expected 1 to 249 of letters"),
        ("[dispatch]\nevent_topics = ['.']", "2:16: `event_topics`: `.` is not a topic"),
        ("[ox]\nusers = ['']", "2:9: `users`: `` is not a user, expected a name"),
        ("[relay]\nallow = [-5]", "2:10: `allow`: invalid value: integer `-5`, expected the name of a user"),
        ("[kafka]\nbrokers = []", "2:11: `brokers`: an empty list, expected at least one broker"),
        ("[kafka]\nbrokers = ['a:b']", "2:11: `brokers`: `a:b` is not a broker, expected `host:port`"),
        ("[kafka.properties]\nacks = ['all']", "property `acks` is neither text nor a number nor a boolean"),
        ("[kafka_clusters.c]\naccounts = ['7']", "missing field `brokers`"),
        ("[presets.irc]\nurls = []", "`irc` is no preset (discord,"),
        ("[presets.slack]\nurls = ['chat.example.org']", "`chat.example.org` is not the beginning of a URL"),
        ("[presets.slack]\nurls = ['https://u@chat.example.org/']", "is not the beginning of a URL"),
        ("[presets.slack]\ntemplate = 'a'", "unknown field `template`, expected `urls`"),
        ("[kafka_clusters.c]\nbrokers = []", "2:11: `brokers`: an empty list, expected at least one broker"),
        ("[kafka_clusters.c]\nbrokers = ['a']\naccounts = [7]", "3:13: `accounts`: invalid type: integer `7`, expected a string"),
        ("[kafka_clusters.c]\nbrokers = ['a']\nacks = 1", "unknown field `acks`, expected one of `brokers`, `accounts`, `topics`, `properties`"),
        ("[kafka.properties]\n'sasl.password_file' = ''", "property `sasl.password_file`: an empty text, expected a path, `env:VARIABLE` or `credential:NAME`"),
        ("[log\n", "1:5: "),
        ("[dispatch]\nevent_account = 'fixed: '", "2:17: `event_account`: the number of the account behind `fixed:` can't be blank"),
        ("[dispatch]\nevent_account = \"fixed:a\\u0000b\"", "the number of the account behind `fixed:` has a control character"),
        ("[dispatch]\ngroup = ''", "2:9: `group`: `` is not a name of a consumer group, expected 1 to 249 bytes"),
        ("[dispatch]\ngroup = ' a'", "` a` is not a name of a consumer group"),
        ("[http]\napi_prefix = '/..'", "`/..` is not a prefix of paths"),
        ("[http]\napi_prefix = '/a/./b'", "`/a/./b` is not a prefix of paths"),
        ("[mail]\nserver = 'h h'\nfrom = 'a@b.c'", "2:10: `server`: `h h` is not a host, expected a name"),
        ("[mail]\nserver = 'h:25'\nfrom = 'a@b.c'", "`h:25` is not a host"),
        ("[mail]\nserver = ''\nfrom = 'a@b.c'", "`` is not a host"),
        ("[mail]\nserver = 'h'\nfrom = 'a@b.c'\nport = 0", "4:8: `port`: invalid value: integer `0`, expected a number from 1 to 65535"),
        ("[kafka_clusters.a]\nbrokers = ['a:1']\ntopics = ['a b']", "3:10: `topics`: `a b` is not a topic"),
        ("[kafka_clusters.a]\nbrokers = ['a:1']\ntopics = ['a.{user}']", "`a.{user}` is not a topic"),
    ];
    for (text, expected) in cases {
        let error = Config::parse(text).expect_err(text);
        assert!(error.contains(expected), "{text:?}: {error}");
    }
}

#[test]
fn what_is_unusual_is_taken_all_the_same() {
    let longest = format!("fixed:{}", "7".repeat(255));
    for text in [
        format!("[dispatch]\nevent_account = '{longest}'"),
        "[dispatch]\ngroup = 'dispatch of mail'".to_owned(),
        "[http]\napi_prefix = '/a/...'".to_owned(),
        "[mail]\nserver = '::1'\nfrom = 'a@b.c'\nport = 65535".to_owned(),
        "[mail]\nserver = 'mail_1.example.org'\nfrom = 'a@b.c'".to_owned(),
        #[cfg(feature = "kafka")]
        "[kafka_clusters.a]\nbrokers = ['a:1']\ntopics = ['mail.{account}.*', '*']".to_owned(),
    ] {
        assert_eq!(Config::parse(&text).err(), None, "{text}");
    }
    let of = |account: &str| {
        let text = format!("[dispatch]\nevent_account = 'fixed:{account}'");
        Config::parse(&text).map(|config| config.dispatch.event_account)
    };
    assert_eq!(of(" 7 "), of("7"));
    of(&"7".repeat(256)).expect_err("a number that is too long");
}

#[test]
fn an_error_shows_no_value_of_a_kafka_property() {
    for text in [
        "[kafka.properties]\n'sasl.password' = ['s3cret']",
        "[kafka.properties]\n'sasl.password' = { of = 's3cret' }",
        "[kafka.properties]\n'sasl.password' = 's3cret' oops",
        "[kafka]\nproperties = 's3cret",
    ] {
        let error = Config::parse(text).expect_err(text);
        assert!(!error.contains("s3cret"), "{error}");
    }
    let config = Config::parse(
        "[kafka.properties]\n'sasl.password' = 's3cret'\n'linger.ms' = 5\n'x' = true",
    );
    let config = config.expect("properties");
    assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
    #[cfg(feature = "kafka")]
    {
        let properties = config.kafka_options().expect("options").properties;
        let values: Vec<_> = properties.iter().map(|(_, value)| &**value).collect();
        assert_eq!(values, ["5", "s3cret", "true"]);
    }
}

#[cfg(not(feature = "kafka"))]
#[test]
fn clusters_are_refused_by_a_build_that_reaches_none() {
    let error = Config::parse("[kafka_clusters.c]\nbrokers = ['a:1']").expect_err("clusters");
    let expected = "this dovecast was built without the feature `kafka`";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn no_password_of_the_store_is_shown() {
    for text in [
        "[store]\nurl = 'pg://me:s3cret@db/hooks'",
        "[store]\nurl = 'postgres://me:s3cret@db'",
        "[store]\nurl = ['postgres://me:s3cret@db/hooks']",
    ] {
        let error = Config::parse(text).expect_err(text);
        assert!(!error.contains("s3cret"), "{error}");
    }
    let config = Config::parse("[store]\nurl = 'postgres://me:s3cret@db/hooks'").expect("a URL");
    assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
    assert_eq!(
        config.store_options().expect("options").place.to_string(),
        "postgres://db/hooks"
    );
}

#[test]
fn no_password_of_ox_is_shown() {
    for text in [
        "[ox]\npassword = 's3cret'",
        "[ox]\nuser = 'a'\npassword = ['s3cret']",
        "[ox]\nuser = 'a'\npassword = 53637",
        "[ox]\nuser = 'a:b'\npassword = 's3cret'",
        "[ox]\nuser = 'a'\npassword = 's3cret' oops",
    ] {
        let error = Config::parse(text).expect_err(text);
        assert!(
            !error.contains("s3cret") && !error.contains("53637"),
            "{error}"
        );
    }
    let config = Config::parse("[ox]\nuser = 'a'\npassword = 's3cret'").expect("both");
    assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
    assert!(config.ox.credentials.is_some_and(|ox| ox.user == "a"));
}

#[test]
fn health_and_metrics_have_a_place_beside_that_of_the_api() {
    for (text, expected) in [
        ("", "127.0.0.1:8088"),
        ("[http]\nlisten = '0.0.0.0:9000'", "127.0.0.1:9001"),
        ("[http]\nlisten = '[::]:65535'", "127.0.0.1:65534"),
        ("[http]\nlisten = '127.0.0.1:0'", "127.0.0.1:0"),
        ("[http]\nmonitor_listen = '10.0.0.1:1'", "10.0.0.1:1"),
    ] {
        let config = Config::parse(text).expect(text);
        assert_eq!(config.http.monitor_listen().to_string(), expected, "{text}");
    }
}

#[test]
fn a_proxy_is_an_address_or_a_network() {
    let config = Config::parse("[http]\ntrusted_proxies = ['127.0.0.1', '10.1.0.0/16', '::1']");
    let proxies = config.expect("proxies").http.trusted_proxies;
    let shown: Vec<_> = proxies.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["127.0.0.1/32", "10.1.0.0/16", "::1/128"]);
}

#[test]
fn mail_processes_write_to_the_topics_of_events_unless_it_is_said_otherwise() {
    for (text, allowed, known) in [
        ("", &["dovecot"][..], &["dovecot", "hooks.outbox"][..]),
        (
            "[dispatch]\nevent_topics = ['a', 'b']",
            &["a", "b"],
            &["a", "b", "hooks.outbox"],
        ),
        (
            "roles = ['relay']\n[relay]\ntopics = ['mail.*', 'c']",
            &["mail.a", "c"],
            &["c", "dovecot"],
        ),
        (
            "[relay]\ntopics = ['*']",
            &["dovecot", "a"],
            &["dovecot", "hooks.outbox"],
        ),
        (
            "[relay]\ntopics = ['hooks.outbox']",
            &["hooks.outbox"],
            &["dovecot", "hooks.outbox"],
        ),
    ] {
        let config = Config::parse(text).expect(text);
        let topics = config.relay_options().expect(text).topics;
        for topic in ["dovecot", "a", "b", "c", "mail.a", "hooks.outbox", "_a"] {
            let is_any = text.contains("'*'") && !matches!(topic, "hooks.outbox" | "_a");
            let expected = allowed.contains(&topic) || is_any;
            assert_eq!(topics.allow(topic), expected, "{text}: {topic}");
        }
        let topics: Vec<String> = config.known_topics().into_iter().collect();
        assert_eq!(topics, known, "{text}");
    }
}

#[test]
fn who_is_allowed_is_said_by_name_id_or_range() {
    let config =
        Config::parse("[relay]\nallow = ['root', 1000, '1001', '10000-19999', 'nobody-here']");
    let ids: Vec<_> = config
        .expect("users")
        .relay
        .allow
        .iter()
        .map(|entry| entry.ids().expect("a lookup"))
        .collect();
    let expected = [
        Some(0..=0),
        Some(1000..=1000),
        Some(1001..=1001),
        Some(10000..=19999),
        None,
    ];
    assert_eq!(ids, expected);
}

/// Each number of the default configuration stands in the table of limits, and nothing else does.
#[test]
fn the_limits_in_the_docs_are_the_defaults() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/security.md");
    let docs = std::fs::read_to_string(docs).expect("the page");
    let mut told: Vec<String> = docs
        .lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once("| `[")?;
            let (setting, value) = rest.strip_suffix(" |")?.split_once("` | ")?;
            Some(format!("[{setting} = {value}"))
        })
        .collect();
    let file: toml::Table = toml::from_str(DEFAULT_FILE).expect("the default file");
    let mut defaults = Vec::new();
    for (section, settings) in &file {
        for (key, value) in settings.as_table().into_iter().flatten() {
            if let Some(number) = value.as_integer() {
                defaults.push(format!("[{section}] {key} = {number}"));
            }
        }
    }
    told.sort();
    defaults.sort();
    assert_eq!(told, defaults);
}

/// Each scope that a token may have is a role that the table of roles says something of.
#[test]
fn the_roles_in_the_docs_are_the_scopes_of_tokens() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/security.md");
    let docs = std::fs::read_to_string(docs).expect("the page");
    let (_, roles) = docs.split_once("\n## Roles\n").expect("roles");
    let roles = roles.split("\n## ").next().unwrap_or_default();
    let roles: Vec<&str> = roles
        .lines()
        .filter_map(|line| line.strip_prefix("| **")?.split(" | ").next())
        .collect();
    let named = |what: &str| roles.iter().any(|role| role.contains(what));
    for scope in [
        Scope::Admin,
        Scope::Registration,
        Scope::Send,
        Scope::Account("1".to_owned()),
        Scope::Person(Person::of_ids("3", "11").expect("a person")),
    ] {
        let word = match &scope {
            // One that is new is to be added above.
            Scope::Admin
            | Scope::Registration
            | Scope::Send
            | Scope::Account(_)
            | Scope::Person(_) => scope.as_str(),
        };
        assert!(named(&format!("the scope `{word}`")), "{word}: {roles:?}");
    }
    assert!(named("`[mail_push.admin]`"), "{roles:?}");
}
