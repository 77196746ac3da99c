//! What an error of librdkafka or of a broker means for a delivery.

use dovecast_dispatch::driver::{Answer, Attempt, Outcome};
use rdkafka::types::RDKafkaErrorCode as Code;

/// Whether brokers say an error of a batch as a whole: one record of it is to blame, perhaps
/// another one.
pub(super) fn is_of_batch(code: Code) -> bool {
    matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::InvalidMessage
            | Code::InvalidMessageSize
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::InvalidDifferentRecord
    )
}

/// Whether the client does not know the topic: it may be there meanwhile.
pub(super) fn is_unknown_topic(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition
    )
}

/// What an error of a record that was handed over alone says about its delivery.
pub(super) fn judged(code: Code, bytes: usize) -> Attempt {
    match code {
        Code::MessageSizeTooLarge => refused(format!(
            "the record of {bytes} bytes is larger than the cluster takes: {code}"
        )),
        // By the clock of the broker or of whoever made the record: it will be right again.
        Code::InvalidTimestamp => failed(format!(
            "the cluster takes no record of this time, one of its clocks or of ours is wrong: {code}"
        )),
        code if is_of_batch(code) || code == Code::InvalidTopic => {
            refused(format!("the cluster does not take the record: {code}"))
        }
        code if is_unknown_topic(code) => failed(format!("the cluster has no such topic: {code}")),
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => failed(format!(
            "the cluster does not let dovecast write to the topic: {code}"
        )),
        Code::BrokerDestroy | Code::PurgeQueue | Code::PurgeInflight => {
            Attempt::failed("the server stops")
        }
        // Numbers of brokers are positive, those of librdkafka's own are not.
        code if code as i32 > 0 => failed(format!("the cluster has not stored the record: {code}")),
        code => Attempt::failed(format!("the cluster cannot be reached: {code}")),
    }
}

/// The cluster has answered, and a later attempt may succeed.
fn failed(reason: String) -> Attempt {
    answered(
        &reason.clone(),
        Outcome::Failed {
            reason,
            retry_after: None,
        },
    )
}

/// The cluster has answered, and no later attempt succeeds.
fn refused(reason: String) -> Attempt {
    answered(&reason.clone(), Outcome::Refused { reason })
}

fn answered(head: &str, outcome: Outcome) -> Attempt {
    Attempt {
        note: None,
        outcome,
        answer: Some(Answer {
            status: None,
            head: head.to_owned(),
        }),
        latency: std::time::Duration::ZERO,
    }
}
