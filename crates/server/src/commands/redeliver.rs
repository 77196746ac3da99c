//! `dovecast redeliver`: what is dead, or still in the log, is owed again.

use anyhow::{Result, ensure};

use super::deliveries::print_json;
use super::{print, search};
use crate::access::Access;
use crate::cli::RedeliverArguments;
use crate::config::Config;
use crate::control::client::Client;
use crate::control::json::{ReadRecord, Redeliver, Redelivered, Redelivery};

pub(super) async fn run(
    client: &Client,
    config: &Config,
    arguments: &RedeliverArguments,
) -> Result<()> {
    let ask = async |what| {
        let endpoint = arguments.endpoint;
        client.redeliver(&Redeliver { endpoint, what }).await
    };
    let done = match (&arguments.notification, arguments.since) {
        (Some(notification), _) => {
            ensure!(
                notification
                    .endpoint
                    .is_none_or(|of| of == arguments.endpoint),
                "`{notification}` is the delivery to another endpoint"
            );
            let id = notification.id;
            let done = ask(Redelivery::Notification(id)).await?;
            if done.redelivered > 0 {
                done
            } else {
                let access = Access::new(config)?;
                let record = search::find(&access, config, id, arguments.from).await?;
                let record = ReadRecord::from(&record);
                ask(Redelivery::Record(Box::new(record))).await?
            }
        }
        (None, _) if arguments.all => ask(Redelivery::All).await?,
        (None, Some(since)) => ask(Redelivery::SinceMs(since.as_millisecond())).await?,
        // The command line wants one of them.
        (None, None) => Redelivered { redelivered: 0 },
    };
    if arguments.json {
        return print_json(&done);
    }
    print(&match done.redelivered {
        1 => "1 delivery is due now\n".to_owned(),
        count => format!("{count} deliveries are due now\n"),
    })
}
