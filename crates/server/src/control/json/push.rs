//! Listeners and registrations of mail push.

use serde::{Deserialize, Serialize};

/// A person whose mailbox is heard.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PushUserLine {
    pub(crate) context: String,
    pub(crate) user: String,
    /// Whether the mailbox is heard without a session.
    pub(crate) permanent: bool,
    pub(crate) source: String,
    /// Null: none has to do anything for it, or none has taken it yet.
    pub(crate) node: Option<String>,
}

/// A client that a person has registered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PushClientLine {
    pub(crate) context: String,
    pub(crate) user: String,
    pub(crate) client: String,
}

/// Which registration is to be deleted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PushRegistration {
    pub(crate) context: String,
    pub(crate) user: String,
    pub(crate) client: String,
}

/// How many subscriptions were deleted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Unregistered {
    pub(crate) deleted: u64,
}

/// A person that a command is about.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PushPerson {
    pub(crate) context: String,
    pub(crate) user: String,
}

/// Why a person has a permanent listener, or none.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExplainedListener {
    /// Source of the listener; null: it is denied.
    pub(crate) source: Option<String>,
    /// A line for each step of the decision.
    pub(crate) steps: Vec<String>,
}

/// Whose devices a command is about.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PushDevices {
    pub(crate) context: String,
    pub(crate) user: String,
    /// Null: devices of all clients.
    pub(crate) client: Option<String>,
}

/// A device of a person.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DeviceLine {
    pub(crate) id: String,
    pub(crate) client: String,
    pub(crate) transport: String,
    pub(crate) topics: Vec<String>,
    /// End of the token: no token is ever shown whole.
    pub(crate) last_four: String,
    pub(crate) created_ms: i64,
    pub(crate) expires_ms: Option<i64>,
    /// What its service has answered last.
    pub(crate) answer: Option<DeviceAnswer>,
}

/// What the service of a device has answered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DeviceAnswer {
    pub(crate) time_ms: i64,
    pub(crate) status: Option<u16>,
    pub(crate) reason: String,
}

/// What became of the test of a device.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TestedLine {
    pub(crate) device: DeviceLine,
    pub(crate) accepted: bool,
    /// The answer in words, or why the service was not asked.
    pub(crate) answer: String,
}

/// Why devices of a person did not ring.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WhySilent {
    /// Hops that are the same for all devices.
    pub(crate) person: Vec<String>,
    pub(crate) devices: Vec<SilentDevice>,
}

/// Why a device did not ring.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SilentDevice {
    pub(crate) device: DeviceLine,
    pub(crate) hops: Vec<String>,
}
