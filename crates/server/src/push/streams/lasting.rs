//! Whether open streams may go on: sessions end, here and on other nodes, tokens are deleted, and
//! accounts are closed.

use std::time::Duration;

use dovecast_operations::Refusal;
use dovecast_operations::push::MailPush;

use super::hub::Hub;

/// Asks for each token and each person again and again, and ends the streams of those that are
/// refused.
pub(super) async fn check(hub: &Hub, acts: &MailPush, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        for token in hub.tokens() {
            // While the store is away nobody is sent away.
            if let Err(Refusal::BadToken(_) | Refusal::Forbidden(_)) =
                acts.caller_of_token(&token).await
            {
                hub.end_token(&token);
            }
        }
        for person in hub.persons_without_token() {
            if let Err(Refusal::Forbidden(_)) = acts.caller(person.clone()).await {
                hub.end_person(&person);
            }
        }
    }
}
