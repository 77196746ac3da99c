//! `dovecast import-dovecot [FILE|-]`: the part of dovecast.toml that does what the drivers of
//! Dovecot's plugin push_notification do, of what `doveconf -n` of 2.3 or of 2.4 prints.
//!
//! What is printed always is a configuration that starts, on a host that has the files it names:
//! each block is checked as the server checks it, and what the server refuses is a comment that
//! says why (`block`). What is read of Dovecot's configuration is in `read`.

mod block;
mod read;

use anyhow::Result;

use crate::cli::ImportDovecotArguments;
pub(super) use block::quoted;
use read::{Configuration, Series};

/// The entry of METADATA by which users switch on the driver `ox`.
const METADATA: &str = "/private/vendor/vendor.dovecot/http-notify";
/// The fields of a user that scripts read.
const USERDB: &str = "uid,gid,home";

/// Reads the configuration of a Dovecot, and prints the part of ours.
pub(super) fn run(arguments: &ImportDovecotArguments) -> Result<()> {
    let text = super::input(&arguments.file)?;
    super::print(&imported(&String::from_utf8_lossy(&text)))
}

/// The part of dovecast.toml.
fn imported(text: &str) -> String {
    let mut found = read::read(text);
    if found.drivers.is_empty() {
        let nothing = "# There is no driver of push_notification in this configuration.\n";
        return nothing.to_owned() + &comments(&found.notes);
    }
    let mut out = plugin(&found);
    out += &comments(&found.notes);
    found.make_names_unique();
    for driver in &found.drivers {
        out.push('\n');
        out += &block::imported(driver, &found);
    }
    out
}

/// What the plugin needs in Dovecot, in the spelling of the Dovecot that was read.
fn plugin(found: &Configuration) -> String {
    let head = "Drivers of Dovecot's plugin push_notification, for dovecast.toml. In Dovecot they go, and this takes their place:";
    let of_dovecot = match found.series {
        Series::V2_3 => format!(
            "  mail_plugins = $mail_plugins notify push_notification push_notification_kafka
  plugin {{
    push_notification_driver = kafka:detail=full keyword_prefix= userdb={USERDB} metadata={METADATA}
    kafka.notification.transport = relay
  }}"
        ),
        Series::V2_4 => format!(
            "  mail_plugins {{
    notify = yes
    push_notification = yes
    push_notification_kafka = yes
  }}
  push_notification dovecast {{
    driver = kafka
    kafka_transport = relay
    kafka_detail = full
    kafka_keyword_prefix = \"\"
    kafka_userdb = {USERDB}
    kafka_metadata = {METADATA}
  }}"
        ),
    };
    let lines = of_dovecot.lines().map(str::to_owned);
    comments(
        &std::iter::once(head.to_owned())
            .chain(lines)
            .collect::<Vec<_>>(),
    )
}

/// Lines of comments; no text ends one.
pub(super) fn comments(lines: &[String]) -> String {
    let line = |line: &String| {
        let line = line.replace(char::is_control, " ");
        format!("# {line}\n")
    };
    lines.iter().map(line).collect()
}

#[cfg(test)]
mod tests;
