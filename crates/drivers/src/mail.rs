//! The driver `mail`: a notification becomes an e-mail, which the operator's mail server takes.
//!
//! Server, login and sender are the operator's; an account says to whom, and in which words. What
//! tells of a mail that was sent from here is not sent: it would go round.

mod done;
mod message;
mod server;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dovecast_dispatch::driver::{
    Answer, Attempt, Boxed, Courier, Delivery, Driver, Outcome, Rendered, Settings, SettingsError,
    Target,
};
use futures_util::future::join_all;
use lettre::message::Mailbox;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use crate::template::{Form, TemplateError, Templates, Variables, Words};
use done::Done;
use message::{Letter, why_untold};
pub use server::{MailError, MailOptions, MailTls};
use server::{Server, Taken};

const TO: &str = "to";
const SUBJECT: &str = "subject";
const TEXT: &str = "text";
const HTML: &str = "html";

/// Most recipients of one endpoint.
const MAX_RECIPIENTS: usize = 10;
/// How many of them are sent to at a time: half of them, so that all have their time in one
/// attempt, and half of the connections are left to others.
const RECIPIENTS_AT_A_TIME: usize = 5;
/// What a mail says that has no templates.
const USUAL_SUBJECT: &str = "{{ title }}";
const USUAL_TEXT: &str = "{{ title }}\n\n{{ text }}\n";

/// The driver `mail`.
pub struct MailDriver {
    /// `None`: the operator has none.
    server: Option<Arc<Server>>,
    templates: Templates,
}

impl MailDriver {
    /// Name of the driver.
    pub const NAME: &str = "mail";

    /// `options`: the operator's server, if there is one; `templates`: where those of endpoints are
    /// rendered.
    pub fn new(options: Option<&MailOptions>, templates: Templates) -> Result<Self, MailError> {
        let server = options.map(Server::new).transpose()?;
        Ok(Self {
            server: server.map(Arc::new),
            templates,
        })
    }
}

impl Driver for MailDriver {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn target(&self, settings: &Settings<'_>) -> Result<Arc<dyn Target>, SettingsError> {
        let Some(server) = &self.server else {
            return Err(SettingsError::new(
                TO,
                "cannot be sent to: this dovecast has no mail server ([mail] in its configuration)",
            ));
        };
        settings.known(&[TO, SUBJECT, TEXT, HTML], &[])?;
        let template = |key: &str, usual: Option<&str>, form| {
            let own = settings.optional_text(key)?;
            let own = own.map(|own| self.templates.of_account(settings.account, own, form));
            let words = own.or_else(|| usual.map(|usual| Words::ours(usual, form)));
            let words = words.transpose();
            words.map_err(|error| SettingsError::new(key, error.to_string()))
        };
        let missing = |key| SettingsError::new(key, "is missing");
        Ok(Arc::new(MailTarget {
            to: recipients(settings, server)?,
            subject: template(SUBJECT, Some(USUAL_SUBJECT), Form::Text)?
                .ok_or_else(|| missing(SUBJECT))?,
            text: template(TEXT, Some(USUAL_TEXT), Form::Text)?.ok_or_else(|| missing(TEXT))?,
            html: template(HTML, None, Form::Html)?,
            server: Arc::clone(server),
            done: Done::default(),
        }))
    }
}

fn recipients(settings: &Settings<'_>, server: &Server) -> Result<Vec<Mailbox>, SettingsError> {
    let wrong = || SettingsError::new(TO, "is neither an address nor a list of addresses");
    let texts: Vec<&str> = match settings.open.get(TO) {
        None | Some(Value::Null) => return Err(SettingsError::new(TO, "is missing")),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(all)) => all
            .iter()
            .map(|one| one.as_str().ok_or_else(wrong))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(wrong()),
    };
    if texts.is_empty() || texts.len() > MAX_RECIPIENTS {
        let reason = format!("is not one to {MAX_RECIPIENTS} addresses");
        return Err(SettingsError::new(TO, reason));
    }
    let mut found: Vec<Mailbox> = Vec::with_capacity(texts.len());
    for text in texts {
        let mailbox: Mailbox = text
            .parse()
            .map_err(|_| SettingsError::new(TO, format!("has `{text}`, which is no address")))?;
        if found.iter().any(|other| other.email == mailbox.email) {
            return Err(SettingsError::new(TO, format!("has `{text}` twice")));
        }
        if !server.may_tell(&mailbox) {
            let reason = format!(
                "has `{text}`, whom this dovecast may not write to (`recipients` in [mail] of its configuration)"
            );
            return Err(SettingsError::new(TO, reason));
        }
        found.push(mailbox);
    }
    Ok(found)
}

/// To whom, and in which words.
struct MailTarget {
    to: Vec<Mailbox>,
    subject: Words,
    text: Words,
    html: Option<Words>,
    server: Arc<Server>,
    done: Done,
}

impl std::fmt::Debug for MailTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Mail").field(&self.to.len()).finish()
    }
}

impl Target for MailTarget {
    fn authority(&self) -> Option<&str> {
        Some(self.server.authority())
    }

    fn check(&self) -> Boxed<'_, Result<(), SettingsError>> {
        Box::pin(async {
            let all = [(SUBJECT, &self.subject), (TEXT, &self.text)];
            let html = self.html.iter().map(|html| (HTML, html));
            for (key, words) in all.into_iter().chain(html) {
                let checked = words.check().await;
                checked.map_err(|error| SettingsError::new(key, error.to_string()))?;
            }
            Ok(())
        })
    }

    fn render<'a>(&'a self, delivery: &'a Delivery) -> Boxed<'a, Option<Result<Rendered, String>>> {
        Box::pin(async {
            let rendered = self
                .words(delivery)
                .await
                .map(|(subject, text, _)| Rendered {
                    content_type: "text/plain; charset=utf-8".to_owned(),
                    body: format!("Subject: {subject}\n\n{text}").into(),
                });
            Some(rendered.map_err(|error| format!("the template {error}")))
        })
    }

    fn open(self: Arc<Self>) -> Box<dyn Courier> {
        Box::new(Postman(self))
    }
}

/// Hands deliveries over, one after the other.
struct Postman(Arc<MailTarget>);

impl Courier for Postman {
    fn deliver<'a>(&'a mut self, delivery: &'a Delivery) -> Boxed<'a, Attempt> {
        Box::pin(async move {
            let began = Instant::now();
            let attempt = self.0.attempt(delivery).await;
            Attempt {
                latency: began.elapsed(),
                ..attempt
            }
        })
    }
}

impl MailTarget {
    async fn attempt(&self, delivery: &Delivery) -> Attempt {
        if let Some(why) = why_untold(delivery, &self.server) {
            return answered(Outcome::Delivered, why.to_owned());
        }
        let (subject, text, html) = match self.words(delivery).await {
            Ok(words) => words,
            // A template that is mended mends what is owed.
            Err(error) => return Attempt::not_made(format!("the template {error}")),
        };
        let letter = |to| Letter {
            to,
            subject: &subject,
            text: &text,
            html: html.as_deref(),
        };
        let places = Semaphore::new(RECIPIENTS_AT_A_TIME);
        let places = &places;
        let had: BTreeSet<&str> = delivery.note.lines().collect();
        let had = &had;
        let telling = self.to.iter().enumerate().map(async |(number, to)| {
            if had.contains(&*to.email.to_string()) {
                return None;
            }
            // It is never closed.
            let _place = places.acquire().await.ok()?;
            self.tell(&letter(to), &delivery.id, number).await
        });
        let mut said = Said::default();
        let taken = join_all(telling).await;
        let taken = self.to.iter().zip(taken);
        for (to, taken) in taken.filter_map(|(to, it)| Some((to, it?))) {
            said.note(to, taken);
        }
        let mut attempt = said.attempt();
        // Addresses, not numbers: the list may be another one by the next attempt.
        let have = self.to.iter().enumerate().filter_map(|(number, to)| {
            let email = to.email.to_string();
            let has = had.contains(&*email) || self.done.of(&delivery.id, number) == Some(None);
            has.then_some(email)
        });
        attempt.note = Some(have.collect::<Vec<_>>().join("\n"));
        match attempt.outcome {
            Outcome::Delivered => self.done.forget(&delivery.id),
            // Redelivered, it is tried with those who refused it, and with no others.
            Outcome::Refused { .. } => self.done.forget_refusals(&delivery.id),
            _ => {}
        }
        attempt
    }

    /// Tells a recipient; `None`: who has the mail already.
    async fn tell(&self, letter: &Letter<'_>, delivery: &str, number: usize) -> Option<Taken> {
        if let Some(end) = self.done.of(delivery, number) {
            return end.map(Taken::Never);
        }
        let taken = self.server.send(letter, delivery).await;
        match &taken {
            Taken::Yes(_) => self.done.note(delivery, number, None),
            Taken::Never(why) => self.done.note(delivery, number, Some(why.clone())),
            Taken::Later(_) | Taken::Away(_) => {}
        }
        Some(taken)
    }

    async fn words(
        &self,
        delivery: &Delivery,
    ) -> Result<(String, String, Option<String>), TemplateError> {
        let none = Map::new();
        let Some(variables) = Variables::of(delivery, &none) else {
            return Ok(Default::default());
        };
        let render = async |words: &Words| -> Result<String, TemplateError> {
            let made = words.render(&variables).await?;
            Ok(String::from_utf8_lossy(&made).into_owned())
        };
        let subject = render(&self.subject).await?;
        // A header is one line, whatever a mail or a template has in it.
        let subject = subject.split_whitespace().collect::<Vec<_>>().join(" ");
        let html = match &self.html {
            Some(html) => Some(render(html).await?),
            None => None,
        };
        Ok((subject, render(&self.text).await?, html))
    }
}

/// What the server has said, over all recipients.
#[derive(Default)]
struct Said {
    taken: Vec<String>,
    later: Vec<String>,
    never: Vec<String>,
    /// Whether the server was not there for somebody.
    is_away: bool,
}

impl Said {
    fn note(&mut self, to: &Mailbox, taken: Taken) {
        self.is_away |= matches!(taken, Taken::Away(_));
        let (list, what) = match taken {
            Taken::Yes(said) => (&mut self.taken, said),
            Taken::Later(why) | Taken::Away(why) => (&mut self.later, why),
            Taken::Never(why) => (&mut self.never, why),
        };
        list.push(format!("{}: {what}", to.email));
    }

    fn attempt(self) -> Attempt {
        let all = [&self.later[..], &self.never, &self.taken]
            .concat()
            .join("; ");
        let outcome = if !self.later.is_empty() {
            Outcome::Failed {
                reason: self.later.join("; "),
                retry_after: None,
            }
        } else if !self.never.is_empty() {
            Outcome::Refused {
                reason: self.never.join("; "),
            }
        } else {
            Outcome::Delivered
        };
        if self.is_away {
            // Nobody has answered: all endpoints of the server hear of that.
            return Attempt {
                note: None,
                outcome,
                answer: None,
                latency: Duration::ZERO,
            };
        }
        answered(outcome, all)
    }
}

fn answered(outcome: Outcome, head: String) -> Attempt {
    Attempt {
        note: None,
        outcome,
        answer: Some(Answer { status: None, head }),
        latency: Duration::ZERO,
    }
}
