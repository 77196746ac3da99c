//! Each line of the flow of decision, and the quirks of lists of clients.

use super::*;

const CLIENT: &str = "open-xchange-mobile-api-facade-1";

fn offer(kind: SourceKind) -> SourceOffer {
    SourceOffer {
        kind,
        objection: None,
        is_permanent: kind != SourceKind::ImapIdle,
        needs_credentials: kind == SourceKind::Dovecot,
    }
}

/// Facts of which some are changed, and the last step that they lead to.
#[track_caller]
fn check(change: impl FnOnce(&mut ListenerFacts<'_>), expected: &str) -> Vec<String> {
    let clients = AllowedClients::new(["USM-EAS*", "open-xchange-mobile-api-facade*"]);
    let subscribed = [CLIENT.to_owned()];
    let sources = [offer(SourceKind::ImapIdle), offer(SourceKind::Dovecot)];
    let mut facts = ListenerFacts {
        is_allowed: true,
        clients: &clients,
        subscribed: &subscribed,
        sources: &sources,
        passwords: PasswordSource::Session,
        keeps_credentials: true,
        has_credentials: true,
    };
    change(&mut facts);
    let decision = decide(&facts);
    let last = decision.steps.last().expect("a step");
    assert_eq!(last, &format!("permanent listener: {expected}"));
    assert_eq!(decision.outcome.is_ok(), expected == "started");
    decision.steps
}

#[test]
fn a_listener_is_started_where_everything_is_there() {
    let steps = check(|_| {}, "started");
    assert_eq!(
        steps,
        [
            "allow_permanent_push: true",
            "client `open-xchange-mobile-api-facade-1`: allowed by `open-xchange-mobile-api-facade*`",
            "source `imapidle`: does not support permanent listeners",
            "source `dovecot`: logs in with stored credentials",
            "permanent listener: started",
        ]
    );
    check(|facts| facts.passwords = PasswordSource::Global, "started");
}

#[test]
fn each_thing_that_is_missing_denies_it() {
    check(
        |facts| facts.is_allowed = false,
        "denied: `allow_permanent_push` is false",
    );
    check(
        |facts| facts.subscribed = &[],
        "denied: no subscription for new mail",
    );
    let other = AllowedClients::new(["phone"]);
    let others: &AllowedClients = &*Box::leak(Box::new(other));
    check(
        |facts| facts.clients = others,
        "denied: no client with a subscription is allowed",
    );
    check(
        |facts| facts.sources = &[],
        "denied: no source supports permanent listeners",
    );
    check(
        |facts| facts.keeps_credentials = false,
        "denied: no credentials: `password_source` is \"session\", and `credstorage` is not enabled",
    );
    check(
        |facts| facts.has_credentials = false,
        "denied: no credentials of this person are stored, or they were refused",
    );
}

#[test]
fn a_source_without_credentials_is_passed_over_for_one_that_needs_none() {
    let sources = [offer(SourceKind::Dovecot), offer(SourceKind::MailNotify)];
    let sources: &[SourceOffer] = &*Box::leak(Box::new(sources));
    let steps = check(
        |facts| {
            facts.sources = sources;
            facts.has_credentials = false;
        },
        "started",
    );
    assert_eq!(steps[3], "source `mailnotify`: needs no credentials");
}

#[test]
fn clients_are_allowed_by_patterns_and_all_by_none() {
    let long = "x".repeat(1000);
    for (patterns, client, expected) in [
        (&[][..], "anything", Some("*")),
        (&["", " "], "anything", Some("*")),
        (&[" \"USM-EAS*\" "], "usm-eas/7", Some("USM-EAS*")),
        (&["phone?"], "phone1", Some("phone?")),
        (&["phone?"], "phone12", None),
        (&["*"], &long, None),
    ] {
        let allowed = AllowedClients::new(patterns.iter().copied());
        assert_eq!(allowed.allowing(client), expected, "{patterns:?} {client}");
    }
}

#[test]
fn a_session_has_the_first_source_that_can_hear_its_mailbox() {
    let mut sources = [
        offer(SourceKind::Dovecot),
        offer(SourceKind::ImapIdle),
        offer(SourceKind::MailNotify),
    ];
    let chosen = |sources: &[SourceOffer], passwords, has_credentials| {
        bound_to_session(sources, passwords, has_credentials)
    };
    let (own, master) = (PasswordSource::Session, PasswordSource::Global);
    assert_eq!(chosen(&sources, own, true), Some(SourceKind::Dovecot));
    assert_eq!(chosen(&sources, master, false), Some(SourceKind::Dovecot));
    assert_eq!(chosen(&sources, own, false), Some(SourceKind::ImapIdle));
    sources[1].objection = Some("is not configured".to_owned());
    assert_eq!(chosen(&sources, own, false), Some(SourceKind::MailNotify));
    assert_eq!(chosen(&sources[..2], own, false), None);
}
