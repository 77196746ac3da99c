//! What APNs refuses, with its reasons.

use anyhow::{Result, ensure};
use http::request::Parts;
use serde_json::Value;

use super::{APNS_KEY_ID, APNS_TEAM_ID, APNS_TOPIC, State, TakenApns};
use crate::push::token::{self, Token};

/// Longest age of a provider token, in seconds.
const LONGEST: u64 = 3600;
/// Shortest age of a provider token at which another one may come, in seconds.
const SHORTEST: u64 = 20 * 60;
const MAX_PAYLOAD_BYTES: usize = 4096;
const MAX_COLLAPSE_BYTES: usize = 64;

type Refusal = (u16, &'static str);

impl State {
    pub(super) fn check(
        &mut self,
        public_key: &[u8],
        head: &Parts,
        payload: &[u8],
    ) -> Result<TakenApns, Refusal> {
        let header = |name: &str| {
            let value = head.headers.get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        if head.method != "POST" {
            return Err((405, "MethodNotAllowed"));
        }
        let device = head.uri.path().strip_prefix("/3/device/");
        let device = device.ok_or((404, "BadPath"))?.to_owned();
        self.known(public_key, header("authorization").as_deref())?;
        match header("apns-topic").as_deref() {
            Some(APNS_TOPIC) => {}
            Some(_) => return Err((400, "DeviceTokenNotForTopic")),
            None => return Err((400, "MissingTopic")),
        }
        let push_type = header("apns-push-type").unwrap_or_default();
        if !matches!(&*push_type, "alert" | "background") {
            return Err((400, "InvalidPushType"));
        }
        let priority = header("apns-priority").unwrap_or_else(|| "10".to_owned());
        let is_known = matches!(&*priority, "1" | "5" | "10");
        if !is_known || (push_type == "background" && priority == "10") {
            return Err((400, "BadPriority"));
        }
        let collapse_id = header("apns-collapse-id");
        if collapse_id
            .as_ref()
            .is_some_and(|id| id.len() > MAX_COLLAPSE_BYTES)
        {
            return Err((400, "BadCollapseId"));
        }
        let expiration = header("apns-expiration").unwrap_or_default();
        let expiration = expiration.parse().map_err(|_| (400, "BadExpirationDate"))?;
        if payload.is_empty() {
            return Err((400, "PayloadEmpty"));
        }
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err((413, "PayloadTooLarge"));
        }
        let payload: Value = serde_json::from_slice(payload).map_err(|_| (400, "BadMessage"))?;
        match self.devices.get(&device) {
            None => return Err((400, "BadDeviceToken")),
            Some(false) => return Err((410, "Unregistered")),
            Some(true) => {}
        }
        Ok(TakenApns {
            device,
            push_type,
            priority,
            expiration,
            collapse_id,
            payload,
        })
    }

    /// Who sends it.
    fn known(&mut self, public_key: &[u8], authorization: Option<&str>) -> Result<(), Refusal> {
        let text = authorization.and_then(|value| value.strip_prefix("bearer "));
        let text = text.ok_or((403, "MissingProviderToken"))?;
        let issued = issued(text, public_key).map_err(|_| (403, "InvalidProviderToken"))?;
        let now = token::now();
        if issued > now + 60 || now > issued + LONGEST {
            return Err((403, "ExpiredProviderToken"));
        }
        if let Some(before) = self.issued
            && before != issued
            && issued.abs_diff(before) < SHORTEST
        {
            return Err((429, "TooManyProviderTokenUpdates"));
        }
        self.issued = Some(issued);
        Ok(())
    }
}

/// When a token was signed, if it is one of the team.
fn issued(text: &str, public_key: &[u8]) -> Result<u64> {
    let token = Token::parse(text)?;
    token.verify_es256(public_key)?;
    ensure!(token.header["kid"] == APNS_KEY_ID, "another key");
    ensure!(token.claims["iss"] == APNS_TEAM_ID, "another team");
    token.time("iat")
}
