//! Options as they are written, and what is said of wrong ones.

use dovecast_event::EventSet;

use super::*;

const BOTH: [Spelling; 2] = [Spelling::V2_3, Spelling::V2_4];

fn instance(spelling: Spelling, options: &[(&str, &str)]) -> Result<InstanceOptions, String> {
    let options: Vec<(&[u8], &[u8])> = options
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .collect();
    InstanceOptions::parse(spelling, &options).map_err(|error| error.to_string())
}

fn general(spelling: Spelling, settings: &[(&str, &str)]) -> Result<ParsedGeneral, String> {
    let settings: Vec<(&[u8], &[u8])> = settings
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .collect();
    GeneralSettings::parse(spelling, &settings).map_err(|error| error.to_string())
}

#[test]
fn no_option_means_the_documented_defaults() {
    for spelling in BOTH {
        let parsed = instance(spelling, &[]).expect("defaults");
        assert_eq!((&*parsed.topic, parsed.events), ("dovecot", EventSet::ALL));
        assert_eq!(
            (&*parsed.keyword_prefix, parsed.send_flags),
            (&b"$"[..], true)
        );
        assert_eq!((parsed.full, parsed.content), (false, true));
        assert_eq!(parsed.feature, None);
        let general = general(spelling, &[]).expect("defaults").settings;
        assert_eq!(
            (&*general.brokers, general.max_retries),
            ("localhost:9092", 0)
        );
        let times = [general.retry_poll_time, general.flush_time].map(|time| time.as_millis());
        assert_eq!(times, [500, 1000]);
    }
}

#[test]
fn lists_lose_empty_parts_and_repetitions() {
    for spelling in BOTH {
        let parsed = instance(spelling, &[("userdb", "k1,,k2, k1")]).expect("a list");
        assert_eq!(parsed.userdb, [c"k1".to_owned(), c"k2".to_owned()]);
        let parsed = instance(spelling, &[("keyword_prefix", "")]).expect("empty");
        assert_eq!(parsed.keyword_prefix, b"");
    }
}

#[test]
fn every_wrong_option_is_named_as_it_is_spelled_with_its_value() {
    for spelling in BOTH {
        let check = |name: &str, value: &str, expected: &str| {
            let error = instance(spelling, &[(name, value)]).expect_err(name);
            let expected = expected.replace("NAME", &spelling.option_name(name));
            assert!(error.starts_with(&expected), "{error}");
        };
        let yes_no = match spelling {
            Spelling::V2_3 => "`on` or `off`",
            Spelling::V2_4 => "`yes` or `no`",
        };
        let known = spelling.known_options();
        check(
            "topik",
            "x",
            &format!("unknown option `NAME` (value `x`), known are: {known}"),
        );
        check("topic", "", "option `NAME` is empty");
        check(
            "topic",
            "a/b",
            "option `NAME`: `a/b` is not a Kafka topic (1 to 249 of letters",
        );
        check(
            "send_flags",
            "maybe",
            &format!("option `NAME`: `maybe` is not {yes_no}"),
        );
        check("content", "", &format!("option `NAME`: `` is not {yes_no}"));
        check(
            "detail",
            "fuller",
            "option `NAME`: `fuller` is not `compat` or `full`",
        );
        check(
            "max_field_bytes",
            "9",
            "option `NAME`: `9` is not a number of bytes from 64 to 1048576",
        );
        check(
            "metadata",
            "/private/x",
            "option `NAME` (value `/private/x`) needs full detail: set `",
        );
        check(
            "metadata",
            "comment",
            "option `NAME`: `comment` is not a list of METADATA entries (",
        );
        check(
            "events",
            "FlagsSet,MessageGone",
            "option `NAME`: unknown event `MessageGone` (known: FlagsClear, ",
        );
    }
}

#[test]
fn every_wrong_setting_is_named_as_it_is_spelled_with_its_value() {
    for spelling in BOTH {
        let check = |name: &str, value: &str, expected: &str| {
            let error = general(spelling, &[(name, value)]).expect_err(name);
            let expected = expected.replace("NAME", &spelling.setting_name(name));
            assert_eq!(error, expected);
        };
        check(
            "kafka_max_retries",
            "many",
            "option `NAME`: `many` is not a number",
        );
        check(
            "kafka_flush_time_in_ms",
            "-1",
            "option `NAME`: `-1` is not a number of milliseconds from 0 to 600000",
        );
        check(
            "relay_queue_max_kbytes",
            "many",
            "option `NAME`: `many` is not a number of kilobytes from 16 to 1048576",
        );
        check(
            "transport",
            "rely",
            "option `NAME`: `rely` is not `kafka` or `relay`",
        );
        let known = spelling.known_settings();
        check(
            "kafka_broker",
            "x",
            &format!("unknown option `NAME` (value `x`), known are: {known}"),
        );
    }
}

#[test]
fn an_event_behind_a_blank_is_told_from_an_option() {
    // Dovecot 2.3 takes `events=MessageNew, MessageRead` apart at the blank.
    let error = instance(
        Spelling::V2_3,
        &[("events", "MessageNew,"), ("MessageRead", "")],
    );
    let error = error.expect_err("two options");
    assert!(
        error.starts_with("`MessageRead` is not an option but an event"),
        "{error}"
    );
}

#[test]
fn everything_that_is_wrong_is_found_and_the_first_of_it_is_the_error() {
    let options: [(&[u8], &[u8]); 3] = [(b"topic", b"a/b"), (b"content", b"on"), (b"topik", b"x")];
    let (_, errors) = InstanceOptions::read(Spelling::V2_3, &options);
    assert_eq!(errors.len(), 2);
    let first = InstanceOptions::parse(Spelling::V2_3, &options);
    assert_eq!(first.err().as_ref(), errors.first());
    let settings: [(&[u8], &[u8]); 2] =
        [(b"transport", b"rely"), (b"kafka_flush_time_in_ms", b"x")];
    let (_, errors) = GeneralSettings::read(Spelling::V2_4, &settings);
    assert_eq!(errors.len(), 2);
}

#[test]
fn properties_are_passed_through_and_the_obsolete_is_told() {
    for spelling in BOTH {
        let parsed = general(spelling, &[("settings.linger.ms", "7")]).expect("a property");
        let expected = [("linger.ms".to_owned(), "7".to_owned())];
        assert_eq!(parsed.settings.properties, expected);
        let name = "kafka_topic_close_time_in_ms";
        let parsed = general(spelling, &[(name, "0")]).expect("obsolete");
        assert_eq!(parsed.obsolete, [spelling.setting_name(name)]);
    }
}
