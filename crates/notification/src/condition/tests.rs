//! What conditions mean, and what is refused where.

use bytes::Bytes;
use uuid::Uuid;

use super::*;
use crate::NotificationId;

fn notification(message: &str) -> Notification {
    Notification {
        id: NotificationId(Uuid::nil()),
        application: "dovecot".into(),
        event_type: "MessageNew".into(),
        level: None,
        account: "alice".into(),
        timestamp: Bytes::from_static(br#""2026-11-20T21:35:28.120Z""#),
        message: Bytes::copy_from_slice(message.as_bytes()),
        key: None,
        headers: Vec::new(),
    }
}

#[test]
fn a_condition_is_true_false_or_cannot_be_told() {
    let message = notification(
        r#"{"mailbox":"INBOX","uid":7,"from":"Bob <bob@example.org>","flags":["\\Seen","\\Flagged"],"size":1.5,"nothing":null}"#,
    );
    for (text, expected) in [
        (r#"message.mailbox == "INBOX""#, true),
        (r#"message.mailbox == "Trash""#, false),
        (r#"message.subject == "Hi""#, false),
        ("!has(message.subject)", true),
        (r#"has(message.subject) && message.subject == "Hi""#, false),
        ("message.uid > 6 && message.uid < 8", true),
        ("message.size >= 1.5", true),
        (r#"message.from.contains("@example.org")"#, true),
        (r#"message.from.matches("^Bob .*org>$")"#, true),
        (r#"message.flags.exists(flag, flag == "\\Flagged")"#, true),
        (r#"message.flags.all(flag, flag.startsWith("\\"))"#, true),
        (r#""\\Seen" in message.flags"#, true),
        (r#"message["mailbox"] in ["INBOX", "Sent"]"#, true),
        (
            r#"application == "dovecot" && event_type == "MessageNew""#,
            true,
        ),
        ("level == null", true),
        (r#"account_id.endsWith("ice")"#, true),
        (r#"timestamp.startsWith("2026-11-20")"#, true),
        ("message.nothing == null", true),
        ("size(message.flags) == 2", true),
        ("message.uid", false),
        ("message.uid / 0 == 1", false),
        ("true", true),
    ] {
        let condition = Condition::new(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(condition.holds(&Facts::new(&message)), expected, "{text}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let deep = "(".repeat(31) + "1" + &")".repeat(31);
    let long = format!("message.a == \"{}\"", "x".repeat(2000));
    let wide = vec!["1 == 1"; 240].join("||");
    let chain = format!("message{}", ".a".repeat(150));
    for (text, place, expected) in [
        ("", (1, 1), "an expression is expected"),
        ("message.uid ==", (1, 15), ""),
        ("message.mailbox = \"INBOX\"", (1, 17), ""),
        ("mailbox == \"INBOX\"", (1, 1), "unknown name `mailbox`"),
        ("true &&\n  mesage.uid > 1", (2, 3), "unknown name `mesage`"),
        ("foo(message)", (1, 4), "unknown function `foo`"),
        ("_foo(message)", (1, 5), "unknown function `_foo`"),
        (
            "message.a.map(x, x).size() > 1",
            (1, 14),
            "`map` and `filter` cannot be used here",
        ),
        (
            "message.a.all(x, message.b.all(y, x == y))",
            (1, 31),
            "cannot be inside of each other",
        ),
        (
            "message.a.all(x, x.matches('a'))",
            (1, 27),
            "cannot be used within",
        ),
        ("message.a.matches(message.b)", (1, 18), "constant pattern"),
        ("message.a.matches('(')", (1, 18), "unclosed group"),
        (
            "message.a.matches('(a{1,500}){1,500}')",
            (1, 18),
            "too large",
        ),
        (&deep, (1, 31), "inside of each other"),
        (
            &format!("true &&\n {deep}"),
            (2, 32),
            "inside of each other",
        ),
        (&long, (1, 2001), "2015 characters are more than 2000"),
        (&wide, (1, 0), "too complex"),
        (&chain, (1, 0), "too complex"),
    ] {
        let error = Condition::new(text).expect_err(text);
        assert!(error.reason.contains(expected), "{error}: {text}");
        if place.1 > 0 {
            assert_eq!((error.line, error.column), place, "{text}: {error}");
        }
    }
}

#[test]
fn on_a_message_that_is_too_large_no_condition_holds() {
    let condition = Condition::new("true").expect("a condition");
    let message = format!("\"{}\"", "x".repeat(MAX_BYTES));
    assert!(!condition.holds(&Facts::new(&notification(&message))));
}

#[test]
fn of_a_message_of_which_no_value_can_be_made_the_rest_can_be_told() {
    let deep = "[".repeat(200) + &"]".repeat(200);
    for message in [r#""\ud83d""#, "1e400", &deep, r#"{"a":[1e400]}"#] {
        let notification = notification(message);
        for (text, expected) in [
            (r#"application == "dovecot""#, true),
            (
                r#"application == "dovecot" && timestamp.startsWith("2026")"#,
                true,
            ),
            (r#"application == "other""#, false),
            ("message == null", false),
            ("has(message.a)", false),
            (r#"message.a == 1 || account_id == "alice""#, true),
        ] {
            let condition = Condition::new(text).expect("a condition");
            let holds = condition.holds(&Facts::new(&notification));
            assert_eq!(holds, expected, "{text} of {message}");
        }
    }
}

#[test]
fn the_deepest_expression_has_room_on_the_stack_of_a_worker() {
    let message = notification(r#"{"a":[1],"b":"x"}"#);
    let sum = |count: usize| vec!["message.b"; count].join("+");
    let not = |count: usize| "!(".repeat(count) + "true" + &")".repeat(count);
    let lists = |count: usize| "[".repeat(count) + "]".repeat(count).as_str() + " != []";
    let choices = |count: usize| "false ? true : ".repeat(count) + "true";
    let in_a_loop = |count: usize| format!("message.a.all(x, size({}) > 0)", sum(count));
    let deepest = |of: &dyn Fn(usize) -> String| {
        let fits = (1..100).map(of).map(|text| Condition::new(&text));
        fits.map_while(Result::ok)
            .last()
            .expect("one that is short")
    };
    for deepest in [
        deepest(&|count| format!("size({}) > 0", sum(count))),
        deepest(&in_a_loop),
        deepest(&lists),
        deepest(&choices),
        deepest(&|count| not(2 * count)),
    ] {
        let text = deepest.text();
        assert!(text.len() > 50, "{text}");
        // Threads of the runtime have 2 MiB, of which some is taken.
        let holds = std::thread::scope(|scope| {
            let run = || deepest.holds(&Facts::new(&message));
            let thread = std::thread::Builder::new().stack_size(1024 * 1024 * 3 / 2);
            thread.spawn_scoped(scope, run).expect("a thread").join()
        });
        assert!(holds.expect("no panic"), "{text}");
    }
}

#[test]
fn what_would_cost_too_much_is_not_run_and_does_not_hold() {
    let list = |count: usize| vec!["1"; count].join(",");
    let message = |items: usize, chars: usize| {
        notification(&format!(
            r#"{{"list":[{}],"other":[{}],"text":"{}"}}"#,
            list(items),
            list(items / 2),
            "x".repeat(chars)
        ))
    };
    let copies = vec!["message.text"; 24].join("+");
    let steps = vec!["x == 1"; 100].join("&&");
    let patterns = vec!["message.text.matches('(x{1,40}){1,10}$')"; 45].join("&&");
    for text in [
        "message.list.all(x, x in message.list)",
        "message.list.all(x, message.text.contains('x'))",
        "message.list.all(x, message.other != message.list)",
        "message.list.all(x, [message, message] != [])",
        &format!("message.list.all(x, size({copies}) > 0)"),
        &format!("size({copies}) > 0"),
        &format!("message.list.all(x, {steps})"),
        &patterns,
    ] {
        let condition = Condition::new(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(condition.holds(&Facts::new(&message(2, 3))), "{text}");
        let large = message(20_000, 150_000);
        let facts = Facts::new(&large);
        assert_eq!(condition.evaluate(&facts), Verdict::TooCostly, "{text}");
        assert_eq!(condition.cost(&facts), 0, "{text}: it is not run");
        let small = message(20, 30);
        let told = condition.cost(&Facts::new(&small));
        assert!(condition.cost_unread(&small) >= told, "{text}");
    }
    // What looks at each item once may be run on anything.
    for text in [
        "message.list.exists(x, x == 2) || message.list.all(x, x < 3)",
        "message.text.contains('y') || size(message.list) > 7",
        "message.text.matches('x+$')",
        "has(message.list) && message.text.startsWith('xx')",
    ] {
        let condition = Condition::new(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let large = message(40_000, 100_000);
        assert!(condition.holds(&Facts::new(&large)), "{text}");
    }
}
