//! The services that have a preset: each is one row, and a page in `docs/drivers/`.
//!
//! A row says where the service is, what it wants to be sent and with which credentials, which of
//! its answers are a success, and how often it may be called. `source` is the publication of the
//! service that the row was checked against. A template cuts what would be longer than the service
//! takes, although title and text are cut before; a text message ends with `...`, because one other
//! character would make all of it take more than twice as many messages.

use std::num::NonZeroU32;

use super::{Credentials, Parameter, Preset, ServiceUrl};
use crate::webhook::verdict::{self, Success};

pub(super) const fn required(name: &'static str) -> Parameter {
    Parameter {
        name,
        is_required: true,
    }
}

const fn optional(name: &'static str) -> Parameter {
    Parameter {
        name,
        is_required: false,
    }
}

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// All of them, in the order of their names.
pub static PRESETS: [Preset; 12] = [
    Preset {
        name: "discord",
        title: "Discord",
        places: &[
            ServiceUrl {
                host: "discord.com",
                path: "/api/webhooks/",
            },
            ServiceUrl {
                host: "discordapp.com",
                path: "/api/webhooks/",
            },
        ],
        content_type: JSON,
        template: r#"{"content": {{ ("**" ~ title ~ "**\n" ~ text)|cut(2000) }}, "allowed_mentions": {"parse": []}}"#,
        credentials: Credentials::Url,
        parameters: &[],
        success: Success::Status,
        rate: NonZeroU32::new(2),
        source: "https://discord.com/developers/docs/resources/webhook#execute-webhook",
    },
    Preset {
        name: "google-chat",
        title: "Google Chat",
        places: &[ServiceUrl {
            host: "chat.googleapis.com",
            path: "/v1/spaces/",
        }],
        content_type: JSON,
        template: r#"{"text": {{ ("*" ~ title|no_mentions ~ "*\n" ~ text|no_mentions)|cut(4000) }}}"#,
        credentials: Credentials::Url,
        parameters: &[],
        success: Success::Body(verdict::google_chat),
        rate: NonZeroU32::new(1),
        source: "https://developers.google.com/workspace/chat/quickstart/webhooks",
    },
    Preset {
        name: "gotify",
        title: "Gotify",
        places: &[],
        content_type: JSON,
        template: r#"{"title": {{ title }}, "message": {{ text or title }}, "priority": {{ {"critical": 8, "error": 6, "warning": 5}[severity]|default(4) }}}"#,
        credentials: Credentials::Header {
            name: "x-gotify-key",
            prefix: "",
            parameter: "token",
        },
        parameters: &[required("token")],
        success: Success::Body(verdict::has_id),
        rate: None,
        source: "https://gotify.net/api-docs#/message/createMessage",
    },
    Preset {
        name: "mattermost",
        title: "Mattermost",
        places: &[],
        content_type: JSON,
        template: r#"{"text": {{ "**" ~ title|no_mentions ~ "**\n" ~ text|no_mentions }}{% if parameters.channel %}, "channel": {{ parameters.channel }}{% endif %}}"#,
        credentials: Credentials::Url,
        parameters: &[optional("channel")],
        success: Success::Body(verdict::says_ok),
        rate: None,
        source: "https://developers.mattermost.com/integrate/webhooks/incoming/",
    },
    Preset {
        name: "ntfy",
        title: "ntfy",
        places: &[],
        content_type: JSON,
        template: r#"{"topic": {{ parameters.topic }}, "title": {{ title }}, "message": {{ (text or title)|cut(1000) }}, "priority": {{ {"critical": 5, "error": 4}[severity]|default(3) }}}"#,
        credentials: Credentials::Url,
        parameters: &[required("topic")],
        success: Success::Body(verdict::has_id),
        rate: None,
        source: "https://docs.ntfy.sh/publish/#publish-as-json",
    },
    Preset {
        name: "pagerduty",
        title: "PagerDuty",
        places: &[
            ServiceUrl {
                host: "events.pagerduty.com",
                path: "/v2/enqueue",
            },
            ServiceUrl {
                host: "events.eu.pagerduty.com",
                path: "/v2/enqueue",
            },
        ],
        content_type: JSON,
        template: r#"{"routing_key": {{ parameters.routing_key }}, "event_action": "trigger", "dedup_key": {{ id }}, "payload": {"summary": {{ title }}, "source": {{ (key or account_id)|cut(255) }}, "severity": {{ severity }}, "component": {{ application|cut(255) }}, "class": {{ event_type|cut(255) }}, "custom_details": {"text": {{ text }}}}}"#,
        credentials: Credentials::Url,
        parameters: &[required("routing_key")],
        success: Success::Body(verdict::pagerduty),
        rate: NonZeroU32::new(2),
        source: "https://developer.pagerduty.com/docs/send-alert-event",
    },
    Preset {
        name: "servicenow",
        title: "ServiceNow",
        places: &[ServiceUrl {
            host: "*.service-now.com",
            path: "/api/global/em/jsonv2",
        }],
        content_type: JSON,
        template: r#"{"records": [{"source": "dovecast", "event_class": {{ application|cut(100) }}, "type": {{ event_type|cut(100) }}, "node": {{ (key or account_id)|cut(100) }}, "message_key": {{ id }}, "severity": {{ {"critical": "1", "error": "2", "warning": "4"}[severity]|default("5") }}, "description": {{ (title ~ "\n" ~ text)|cut(4000) }}}]}"#,
        credentials: Credentials::Authorization,
        parameters: &[],
        success: Success::Body(verdict::has_no_error),
        rate: None,
        source: "https://www.servicenow.com/docs/bundle/zurich-it-operations-management/page/product/event-management/task/send-events-via-web-service.html",
    },
    Preset {
        name: "slack",
        title: "Slack",
        places: &[
            ServiceUrl {
                host: "hooks.slack.com",
                path: "/services/",
            },
            ServiceUrl {
                host: "hooks.slack-gov.com",
                path: "/services/",
            },
        ],
        content_type: JSON,
        template: r#"{"text": {{ "*" ~ title|slack ~ "*\n" ~ text|slack }}}"#,
        credentials: Credentials::Url,
        parameters: &[],
        success: Success::Body(verdict::says_ok),
        rate: NonZeroU32::new(1),
        source: "https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks",
    },
    Preset {
        name: "sms",
        title: "an SMS gateway",
        places: &[],
        content_type: JSON,
        template: r#"{"to": {{ parameters.to }}, {% if parameters.from %}"from": {{ parameters.from }}, {% endif %}"text": {{ (title ~ "\n" ~ text)|trim|replace("…", "...")|cut(459, "...") }}}"#,
        credentials: Credentials::Url,
        parameters: &[required("to"), optional("from")],
        success: Success::Status,
        rate: None,
        source: "docs/drivers/sms.md",
    },
    Preset {
        name: "splunk",
        title: "Splunk",
        places: &[],
        content_type: JSON,
        template: r#"{"source": "dovecast", "sourcetype": "_json", "event": {"id": {{ id }}, "application": {{ application }}, "event_type": {{ event_type }}, "level": {{ level }}, "account_id": {{ account_id }}, "timestamp": {{ timestamp }}, "message": {{ message }}}}"#,
        credentials: Credentials::Header {
            name: "authorization",
            prefix: "Splunk ",
            parameter: "token",
        },
        parameters: &[required("token")],
        success: Success::Body(verdict::splunk),
        rate: None,
        source: "https://help.splunk.com/en/splunk-enterprise/get-started/get-data-in/10.0/get-data-with-http-event-collector/format-events-for-http-event-collector",
    },
    Preset {
        name: "teams",
        title: "Microsoft Teams",
        places: &[
            ServiceUrl {
                host: "*.logic.azure.com",
                path: "/workflows/",
            },
            ServiceUrl {
                host: "*.api.powerplatform.com",
                path: "/",
            },
        ],
        content_type: JSON,
        template: r#"{"type": "message", "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": {"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4", "body": [{"type": "TextBlock", "weight": "bolder", "wrap": true, "text": {{ title }}}{% if text %}, {"type": "TextBlock", "wrap": true, "text": {{ text }}}{% endif %}]}}]}"#,
        credentials: Credentials::Url,
        parameters: &[],
        success: Success::Body(verdict::teams),
        rate: NonZeroU32::new(4),
        source: "https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using",
    },
    Preset {
        name: "twilio",
        title: "Twilio",
        places: &[ServiceUrl {
            host: "api.twilio.com",
            path: "/2010-04-01/Accounts/*/Messages.json",
        }],
        content_type: FORM,
        template: r#"{"To": {{ parameters.to }}, "From": {{ parameters.from }}, "Body": {{ (title ~ "\n" ~ text)|trim|replace("…", "...")|cut(1600, "...") }}}"#,
        credentials: Credentials::Authorization,
        parameters: &[required("to"), required("from")],
        success: Success::Body(verdict::twilio),
        rate: NonZeroU32::new(1),
        source: "https://www.twilio.com/docs/messaging/api/message-resource#create-a-message-resource",
    },
];
