//! `dovecast endpoints render`: what an endpoint would be sent of a notification that was not
//! delivered, that is in the log, or that is given.

use anyhow::{Context, Result, ensure};
use dovecast_operations::NotificationName;

use super::deliveries::{outbox, print_json};
use super::endpoints::fields;
use super::pretty::printable;
use super::{deliveries, print, search};
use crate::access::Access;
use crate::cli::RenderArguments;
use crate::config::Config;
use crate::control::client::Client;
use crate::control::json::{ReadRecord, Render, Rendered, ToRender};

pub(super) async fn run(
    client: &Client,
    config: &Config,
    arguments: &RenderArguments,
) -> Result<()> {
    let RenderArguments {
        endpoint,
        notification: given,
        from,
        attributes,
    } = arguments;
    let tried = fields(attributes)?;
    let ask = async |notification| {
        let endpoint = tried.clone();
        let what = Render {
            notification,
            endpoint,
        };
        client.render(arguments.endpoint, &what).await
    };
    let rendered = if let Ok(NotificationName { id, endpoint: of }) = given.parse() {
        ensure!(
            of.is_none_or(|of| of == *endpoint),
            "`{given}` is the delivery to another endpoint"
        );
        let undelivered = ask(ToRender::Undelivered(id)).await?;
        if undelivered.is_some() {
            undelivered
        } else {
            let access = Access::new(config)?;
            let record = search::find(&access, config, id, *from).await?;
            ask(ToRender::Record(Box::new(ReadRecord::from(&record)))).await?
        }
    } else {
        let record = deliveries::event(config, given).unwrap_or_else(|| outbox(config, given));
        ask(ToRender::Record(Box::new(ReadRecord::from(&record)))).await?
    };
    let rendered = rendered.context("the server has answered with something unexpected")?;
    if attributes.json {
        return print_json(&rendered);
    }
    let Rendered { content_type, body } = rendered;
    let mut text = format!("{}\n\n", printable(&content_type));
    for line in body.lines() {
        text.extend([&printable(line), "\n"]);
    }
    print(&text)
}
