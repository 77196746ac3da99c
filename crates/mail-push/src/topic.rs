//! Topics: what a subscription asks for, and the form in which it gets an event.
//!
//! One event is one message per subscription, in the form of the first topic of its list that fits.

use std::fmt;

use dovecast_event::EventKind;

/// Most topics of one subscription: there are eight that can be asked for.
pub const MAX_TOPICS: usize = 16;

/// Topic of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// New mail, with the fields that Open-Xchange's mail push gives.
    OxMailNew,
    /// New mail.
    MailNew,
    /// Mail that a client has put into a mailbox.
    MailAppend,
    /// Flags and keywords that were set or cleared.
    MailFlags,
    /// Mail that is gone.
    MailExpunge,
    /// A mailbox that was created, deleted, renamed or subscribed to.
    MailMailbox,
    /// Several messages of other topics than new mail, gathered.
    MailChanges,
    /// End of a notification that a device may still show.
    MailClose,
}

/// What a subscription names to get messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// `*`
    All,
    /// `mail:*`
    Mail,
    One(Topic),
}

/// The topics of a subscription, in its own order. Made by [`Topics::parse`] only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics(Vec<Wish>);

/// Why texts are no topics of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTopics {
    /// A subscription without a topic would get nothing.
    #[error("is empty: name at least one topic, `*` for all")]
    Empty,
    /// The list is longer than [`MAX_TOPICS`].
    #[error("has more than {MAX_TOPICS} topics")]
    TooMany,
    /// The text is none of the topics; what is long is cut.
    #[error(
        "has `{0}`, which is none of ox:mail:new, mail:new, mail:append, mail:flags, mail:expunge, mail:mailbox, mail:* and *"
    )]
    Unknown(String),
}

/// Topics that can be asked for by name.
const NAMED: [Topic; 6] = [
    Topic::OxMailNew,
    Topic::MailNew,
    Topic::MailAppend,
    Topic::MailFlags,
    Topic::MailExpunge,
    Topic::MailMailbox,
];

impl Topic {
    /// Name of the topic in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OxMailNew => "ox:mail:new",
            Self::MailNew => "mail:new",
            Self::MailAppend => "mail:append",
            Self::MailFlags => "mail:flags",
            Self::MailExpunge => "mail:expunge",
            Self::MailMailbox => "mail:mailbox",
            Self::MailChanges => "mail:changes",
            Self::MailClose => "mail:close",
        }
    }

    /// The topic of that name, as it stands in what waits.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = NAMED
            .into_iter()
            .chain([Self::MailChanges, Self::MailClose]);
        all.into_iter().find(|topic| topic.name() == name)
    }

    /// Whether messages of the topic tell of a mail that has just come from outside.
    pub const fn is_new_mail(self) -> bool {
        matches!(self, Self::OxMailNew | Self::MailNew)
    }

    /// The topic below `mail:` of an event; `None`: another event of the same transaction says the
    /// same (MessageRead and MessageTrash stand beside FlagsSet).
    pub const fn of_kind(kind: EventKind) -> Option<Self> {
        Some(match kind {
            EventKind::MessageNew => Self::MailNew,
            EventKind::MessageAppend => Self::MailAppend,
            EventKind::FlagsSet | EventKind::FlagsClear => Self::MailFlags,
            EventKind::MessageExpunge => Self::MailExpunge,
            EventKind::MailboxCreate
            | EventKind::MailboxDelete
            | EventKind::MailboxRename
            | EventKind::MailboxSubscribe
            | EventKind::MailboxUnsubscribe => Self::MailMailbox,
            EventKind::MessageRead | EventKind::MessageTrash => return None,
        })
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl Topics {
    /// All topics, as a stream has them that names none.
    pub fn all() -> Self {
        Self(vec![Wish::All])
    }

    /// Reads the topics of a subscription; one that stands there twice counts once.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, BadTopics> {
        let mut wishes = Vec::new();
        for name in names {
            let wish = match name {
                "*" => Wish::All,
                "mail:*" => Wish::Mail,
                name => {
                    let known = NAMED.into_iter().find(|topic| topic.name() == name);
                    let unknown = || BadTopics::Unknown(dovecast_event::brief(name));
                    Wish::One(known.ok_or_else(unknown)?)
                }
            };
            if wishes.contains(&wish) {
                continue;
            }
            if wishes.len() == MAX_TOPICS {
                return Err(BadTopics::TooMany);
            }
            wishes.push(wish);
        }
        if wishes.is_empty() {
            return Err(BadTopics::Empty);
        }
        Ok(Self(wishes))
    }

    /// Names of the topics, in the order of the subscription.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.iter().map(|wish| match wish {
            Wish::All => "*",
            Wish::Mail => "mail:*",
            Wish::One(topic) => topic.name(),
        })
    }

    /// The form in which an event of this kind is told; `None`: it is not asked for.
    pub fn form_of(&self, kind: EventKind) -> Option<Topic> {
        let usual = Topic::of_kind(kind)?;
        self.0.iter().find_map(|wish| match wish {
            Wish::All | Wish::Mail => Some(usual),
            Wish::One(Topic::OxMailNew) if usual == Topic::MailNew => Some(Topic::OxMailNew),
            Wish::One(topic) => (*topic == usual).then_some(usual),
        })
    }

    /// Whether new mail is asked for, in whatever form: such subscriptions hold a permanent
    /// listener.
    pub fn have_new_mail(&self) -> bool {
        self.form_of(EventKind::MessageNew).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(topics: &[&str], kind: EventKind, expected: Option<Topic>) {
        let topics = Topics::parse(topics.iter().copied()).expect("topics");
        assert_eq!(topics.form_of(kind), expected, "{topics:?} {kind}");
    }

    #[test]
    fn an_event_has_the_form_of_the_first_topic_that_fits() {
        use EventKind::{FlagsSet, MailboxRename, MessageAppend, MessageExpunge, MessageNew};
        for (topics, kind, expected) in [
            (
                &["mail:new", "ox:mail:new"][..],
                MessageNew,
                Some(Topic::MailNew),
            ),
            (
                &["ox:mail:new", "mail:new"],
                MessageNew,
                Some(Topic::OxMailNew),
            ),
            (&["*", "ox:mail:new"], MessageNew, Some(Topic::MailNew)),
            (
                &["mail:flags", "ox:mail:new", "*"],
                MessageNew,
                Some(Topic::OxMailNew),
            ),
            (&["ox:mail:new"], MessageAppend, None),
            (&["mail:new"], MessageAppend, None),
            (&["mail:append"], MessageAppend, Some(Topic::MailAppend)),
            (&["mail:*"], MessageExpunge, Some(Topic::MailExpunge)),
            (&["*"], FlagsSet, Some(Topic::MailFlags)),
            (&["mail:mailbox"], MailboxRename, Some(Topic::MailMailbox)),
        ] {
            check(topics, kind, expected);
        }
        for kind in [EventKind::MessageRead, EventKind::MessageTrash] {
            check(&["*"], kind, None);
        }
    }

    #[test]
    fn what_asks_for_new_mail_in_any_form_holds_a_permanent_listener() {
        for (topics, expected) in [
            (&["ox:mail:new"][..], true),
            (&["mail:new"], true),
            (&["mail:*"], true),
            (&["*"], true),
            (&["mail:flags", "mail:*"], true),
            (&["mail:append"], false),
            (&["mail:flags"], false),
            (
                &["mail:append", "mail:flags", "mail:expunge", "mail:mailbox"],
                false,
            ),
        ] {
            let parsed = Topics::parse(topics.iter().copied()).expect("topics");
            assert_eq!(parsed.have_new_mail(), expected, "{topics:?}");
        }
    }

    #[test]
    fn what_is_no_topic_is_named_and_cut() {
        let refused = |names: &[&str]| Topics::parse(names.iter().copied()).expect_err("refused");
        assert_eq!(refused(&[]), BadTopics::Empty);
        for name in [
            "",
            "mail",
            "mail:",
            "mail:nwe",
            "ox:*",
            "mail:changes",
            "MAIL:NEW",
        ] {
            assert_eq!(refused(&["*", name]), BadTopics::Unknown(name.to_owned()));
        }
        let long = "x".repeat(1024 * 1024);
        assert!(refused(&[&long]).to_string().len() < 500);
    }

    #[test]
    fn a_thousand_times_the_same_is_one_topic() {
        let topics = Topics::parse(std::iter::repeat_n("mail:new", 1000)).expect("one");
        assert_eq!(topics.names().collect::<Vec<_>>(), ["mail:new"]);
        assert!(topics.have_new_mail());
    }
}
