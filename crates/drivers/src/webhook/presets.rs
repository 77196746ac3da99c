//! Presets: services that take webhooks of a form of their own, and which endpoints they fit.

mod services;

use std::num::NonZeroU32;

use url::Url;

use super::verdict::Success;

pub use services::PRESETS;

/// A service.
#[derive(Debug)]
pub struct Preset {
    /// Name of the preset, as endpoints name it.
    pub name: &'static str,
    /// Name of the service.
    pub title: &'static str,
    /// Where it is; empty: wherever its operator runs it.
    pub places: &'static [ServiceUrl],
    /// Type of the body.
    pub content_type: &'static str,
    /// Makes the body.
    pub template: &'static str,
    /// How it knows who sends.
    pub credentials: Credentials,
    /// What an endpoint says in `data.parameters`.
    pub parameters: &'static [Parameter],
    /// Which of its answers mean that it has the notification.
    pub(super) success: Success,
    /// How often it may be called by one endpoint, in a second, where it says so.
    pub rate: Option<NonZeroU32>,
    /// Where the service says all that.
    pub source: &'static str,
}

/// Where a service is.
#[derive(Debug)]
pub struct ServiceUrl {
    /// Host of the service; `*.` at the beginning stands for any names before the rest.
    pub host: &'static str,
    /// What the path begins with; or behind a `*`, ends with.
    pub path: &'static str,
}

/// How a service knows who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// By the URL, which is a secret, or not at all.
    Url,
    /// By `data.authorization`.
    Authorization,
    /// By a header, with a parameter as its value.
    Header {
        /// Name of the header.
        name: &'static str,
        /// Stands before the value.
        prefix: &'static str,
        /// Name of the parameter.
        parameter: &'static str,
    },
}

/// A parameter, which is kept as a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Name of the parameter.
    pub name: &'static str,
    /// Whether nothing can be sent without it.
    pub is_required: bool,
}

/// Why an endpoint cannot have a preset. Shows no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresetError {
    /// No preset.
    #[error("`{0}` is no preset ({all})", all = names())]
    Unknown(String),
    /// A URL of something else.
    #[error("{title} is not at this URL, but at {places}")]
    Place {
        /// The service.
        title: &'static str,
        /// Where it is.
        places: String,
    },
    /// A parameter is missing.
    #[error("{title} needs `{name}`")]
    Missing {
        /// The service.
        title: &'static str,
        /// The parameter.
        name: &'static str,
    },
    /// A parameter that the service has not.
    #[error("{title} has no parameter `{name}`")]
    NoParameter {
        /// The service.
        title: &'static str,
        /// The parameter.
        name: String,
    },
}

fn names() -> String {
    let names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
    names.join(", ")
}

impl Preset {
    /// The preset of this name.
    pub fn get(name: &str) -> Result<&'static Self, PresetError> {
        let found = PRESETS.iter().find(|preset| preset.name == name);
        found.ok_or_else(|| PresetError::Unknown(name.to_owned()))
    }

    /// Whether an endpoint can have it: with this URL, with a value for `Authorization` or without,
    /// with parameters of these names. `also_at`: where the operator has something of the kind.
    pub fn check<'a>(
        &self,
        url: &Url,
        also_at: &[Url],
        has_authorization: bool,
        parameters: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), PresetError> {
        let is_there = self.places.is_empty()
            || self.places.iter().any(|place| place.is_of(url))
            || also_at.iter().any(|prefix| begins_with(url, prefix));
        if !is_there {
            let places: Vec<_> = self.places.iter().map(ServiceUrl::shown).collect();
            return Err(PresetError::Place {
                title: self.title,
                places: places.join(" or "),
            });
        }
        let missing = |name| PresetError::Missing {
            title: self.title,
            name,
        };
        if self.credentials == Credentials::Authorization && !has_authorization {
            return Err(missing("data.authorization"));
        }
        let given: Vec<&str> = parameters.into_iter().collect();
        let known = |name: &&&str| self.parameters.iter().any(|one| one.name == **name);
        if let Some(unknown) = given.iter().find(|name| !known(name)) {
            return Err(PresetError::NoParameter {
                title: self.title,
                name: (*unknown).to_owned(),
            });
        }
        let lacks = |one: &&Parameter| one.is_required && !given.contains(&one.name);
        match self.parameters.iter().find(lacks) {
            Some(parameter) => Err(missing(parameter.name)),
            None => Ok(()),
        }
    }
}

/// Whether a URL is of the same origin as another one, and its path begins with the other's.
fn begins_with(url: &Url, prefix: &Url) -> bool {
    url.origin() == prefix.origin() && url.path().starts_with(prefix.path())
}

impl ServiceUrl {
    fn is_of(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else {
            return false;
        };
        let is_host = match self.host.strip_prefix('*') {
            Some(end) => host.ends_with(end) && host.len() > end.len(),
            None => host == self.host,
        };
        let (begin, end) = self.path.split_once('*').unwrap_or((self.path, ""));
        let rest = url.path().strip_prefix(begin);
        is_host && url.scheme() == "https" && rest.is_some_and(|rest| rest.ends_with(end))
    }

    fn shown(&self) -> String {
        format!("`https://{}{}`", self.host, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::services::required;
    use super::*;

    #[track_caller]
    fn check(name: &str, url: &str, authorized: bool, given: &[&str], expected: Result<(), &str>) {
        let preset = Preset::get(name).expect(name);
        let url = Url::parse(url).expect("a URL");
        let also_at = [Url::parse("http://127.0.0.1:81/slack/").expect("a URL")];
        let checked = preset.check(&url, &also_at, authorized, given.iter().copied());
        let checked = checked.map_err(|error| error.to_string());
        assert_eq!(checked, expected.map_err(str::to_owned));
    }

    #[test]
    fn a_preset_fits_its_service_and_says_what_is_missing() {
        let slack = "Slack is not at this URL, but at `https://hooks.slack.com/services/` or \
                     `https://hooks.slack-gov.com/services/`";
        check(
            "slack",
            "https://hooks.slack.com/services/T/B/x",
            false,
            &[],
            Ok(()),
        );
        for other in [
            "http://hooks.slack.com/services/T/B/x",
            "https://hooks.slack.com.example.org/services/T",
            "https://hooks.slack.com/other",
            "http://127.0.0.1:82/slack/",
            "http://127.0.0.1:81/",
        ] {
            check("slack", other, false, &[], Err(slack));
        }
        check("slack", "http://127.0.0.1:81/slack/a", false, &[], Ok(()));
        let teams = "https://prod-1.westeurope.logic.azure.com:443/workflows/1?sig=x";
        check("teams", teams, false, &[], Ok(()));
        let twilio = "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages.json";
        check("twilio", twilio, true, &["to", "from"], Ok(()));
        // It would answer in XML.
        check(
            "twilio",
            "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages",
            true,
            &["to", "from"],
            Err(
                "Twilio is not at this URL, but at `https://api.twilio.com/2010-04-01/Accounts/*/Messages.json`",
            ),
        );
        check(
            "twilio",
            twilio,
            false,
            &["to", "from"],
            Err("Twilio needs `data.authorization`"),
        );
        check("twilio", twilio, true, &["to"], Err("Twilio needs `from`"));
        let unknown = Err("Twilio has no parameter `sender`");
        check("twilio", twilio, true, &["to", "sender"], unknown);
        check(
            "gotify",
            "http://gotify.example/message",
            false,
            &["token"],
            Ok(()),
        );
        let error = Preset::get("irc").expect_err("none").to_string();
        assert!(
            error.starts_with("`irc` is no preset (discord, google-chat,"),
            "{error}"
        );
    }

    #[test]
    fn rows_are_in_order_and_what_they_need_is_a_parameter() {
        assert!(PRESETS.is_sorted_by_key(|preset| preset.name));
        for preset in &PRESETS {
            if let Credentials::Header { parameter, .. } = preset.credentials {
                assert!(
                    preset.parameters.contains(&required(parameter)),
                    "{}",
                    preset.name
                );
            }
        }
    }

    /// A row of the table of a page.
    fn told<'a>(page: &'a str, name: &str) -> Option<&'a str> {
        let begin = format!("| {name} | ");
        let row = page.lines().find_map(|line| line.strip_prefix(&begin));
        row?.strip_suffix(" |")
    }

    #[test]
    fn the_page_of_a_preset_says_what_its_row_says() {
        let docs = dovecast_testkit::workspace::root().join("docs/drivers");
        for preset in &PRESETS {
            let name = preset.name;
            let page = std::fs::read_to_string(docs.join(format!("{name}.md"))).expect(name);
            let rate = preset
                .rate
                .map_or_else(|| "none".to_owned(), |rate| format!("{rate} a second"));
            let told_rate = told(&page, "rate").unwrap_or_default();
            let rest = told_rate.strip_prefix(&rate);
            let is_rate = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([',', ';']));
            assert!(is_rate, "{name}: {rate}: {told_rate}");
            let success = told(&page, "success").unwrap_or_default();
            let by_status = matches!(preset.success, Success::Status);
            assert!(success.starts_with("status 2xx"), "{name}: {success}");
            assert_eq!(success == "status 2xx", by_status, "{name}: {success}");
            // A gateway has no publication but the page itself.
            let source = told(&page, "checked against");
            let source = source.map(|link| link.trim_matches(['<', '>']));
            let own = format!("docs/drivers/{name}.md");
            assert_eq!(source.unwrap_or(&own), preset.source, "{name}");
            for parameter in preset.parameters {
                let is_told = page.contains(&format!("`{}`", parameter.name))
                    || page.contains(&format!("\"{}\"", parameter.name));
                assert!(is_told, "{name}: {}", parameter.name);
            }
        }
    }
}
