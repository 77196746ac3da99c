//! Sealing of Web Pushes for one browser: RFC 8291 over the encoding `aes128gcm` of RFC 8188.

use base64::Engine;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use dovecast_mail_push::AddressFault;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::error::Unspecified;
use ring::hkdf::{self, HKDF_SHA256, KeyType};
use ring::rand::{SecureRandom, SystemRandom};

/// Bytes of an uncompressed point of P-256.
pub(super) const POINT_BYTES: usize = 65;
/// Length of a point, as the header of RFC 8188 has it.
const POINT_LENGTH: u8 = 65;
/// Bytes of the secret that a browser makes beside its key.
const AUTH_BYTES: usize = 16;
const SALT_BYTES: usize = 16;
/// Bytes of the header of RFC 8188: salt, record size, length of the key, the key.
const HEADER_BYTES: usize = SALT_BYTES + 4 + 1 + POINT_BYTES;
/// Most bytes of a body that every service takes (RFC 8030, 7.2).
pub(super) const MAX_BODY_BYTES: usize = 4096;
/// Most bytes that can be sealed: a delimiter and a tag come behind them.
pub(super) const MAX_PLAIN_BYTES: usize = MAX_BODY_BYTES - HEADER_BYTES - 1 - 16;
/// Size of the one record, which is larger than what is in it.
const RECORD_BYTES: u32 = 4096;
/// Delimiter of the last record.
const LAST: u8 = 2;

/// Base64url as browsers give it, and as some libraries do: padded.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Keys of one subscription of a browser.
#[derive(Clone)]
pub struct BrowserKeys {
    public: [u8; POINT_BYTES],
    auth: [u8; AUTH_BYTES],
}

/// Why a push was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// More than services take.
    #[error("the push is longer than {MAX_PLAIN_BYTES} bytes")]
    TooLarge,
    /// The browser's key is no point of the curve, or there are no random bytes.
    #[error("the push cannot be encrypted for the keys of the subscription")]
    Keys,
}

impl BrowserKeys {
    /// Reads both keys in base64url, without a look at the curve.
    pub fn read(p256dh: &str, auth: &str) -> Result<Self, AddressFault> {
        let fault = |field, detail: &str| AddressFault {
            field,
            detail: detail.to_owned(),
        };
        let bytes = |text: &str| BASE64.decode(text).unwrap_or_default();
        let public = <[u8; POINT_BYTES]>::try_from(bytes(p256dh)).ok();
        let public = public.filter(|point| point[0] == 4);
        let auth = <[u8; AUTH_BYTES]>::try_from(bytes(auth));
        Ok(Self {
            public: public.ok_or_else(|| {
                fault(
                    "keys/p256dh",
                    "is not an uncompressed point of P-256 in base64url",
                )
            })?,
            auth: auth.map_err(|_| fault("keys/auth", "is not 16 bytes in base64url"))?,
        })
    }

    /// Whether the public key is on the curve, which is found out by using it.
    pub(super) fn check(&self) -> Result<(), AddressFault> {
        seal(self, b"").map(drop).map_err(|_| AddressFault {
            field: "keys/p256dh",
            detail: "is no point of the curve P-256".to_owned(),
        })
    }
}

/// The body of a push: header and ciphertext, by a new key and salt.
pub fn seal(keys: &BrowserKeys, plain: &[u8]) -> Result<Vec<u8>, SealError> {
    let random = SystemRandom::new();
    let failed = |_: Unspecified| SealError::Keys;
    let own = EphemeralPrivateKey::generate(&ECDH_P256, &random).map_err(failed)?;
    let public = own.compute_public_key().map_err(failed)?;
    let public = <[u8; POINT_BYTES]>::try_from(public.as_ref()).map_err(|_| SealError::Keys)?;
    let mut salt = [0; SALT_BYTES];
    random.fill(&mut salt).map_err(failed)?;
    let browser = UnparsedPublicKey::new(&ECDH_P256, &keys.public);
    agree_ephemeral(own, &browser, |secret| {
        seal_with(secret, keys, (&public, &salt), plain)
    })
    .map_err(failed)?
}

/// Seals by a shared secret, our public key and a salt.
fn seal_with(
    secret: &[u8],
    keys: &BrowserKeys,
    (public, salt): (&[u8; POINT_BYTES], &[u8; SALT_BYTES]),
    plain: &[u8],
) -> Result<Vec<u8>, SealError> {
    if plain.len() > MAX_PLAIN_BYTES {
        return Err(SealError::TooLarge);
    }
    let failed = |_: Unspecified| SealError::Keys;
    // RFC 8291, 3.4: the secret of both keys and the browser's own is the keying material.
    let mut material = [0; 32];
    let info = [b"WebPush: info\0".as_slice(), &keys.public, public];
    derive(&keys.auth, secret, &info, &mut material).map_err(failed)?;
    // RFC 8188, 2.2 and 2.3.
    let mut key = [0; 16];
    let info = [b"Content-Encoding: aes128gcm\0".as_slice()];
    derive(salt, &material, &info, &mut key).map_err(failed)?;
    let mut nonce = [0; NONCE_LEN];
    let info = [b"Content-Encoding: nonce\0".as_slice()];
    derive(salt, &material, &info, &mut nonce).map_err(failed)?;

    let mut record = Vec::with_capacity(plain.len() + 1 + AES_128_GCM.tag_len());
    record.extend_from_slice(plain);
    record.push(LAST);
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).map_err(failed)?);
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, Aad::empty(), &mut record)
        .map_err(failed)?;

    let mut body = Vec::with_capacity(HEADER_BYTES + record.len());
    body.extend_from_slice(salt);
    body.extend_from_slice(&RECORD_BYTES.to_be_bytes());
    body.push(POINT_LENGTH);
    body.extend_from_slice(public);
    body.append(&mut record);
    Ok(body)
}

/// HKDF with SHA-256.
fn derive(salt: &[u8], material: &[u8], info: &[&[u8]], out: &mut [u8]) -> Result<(), Unspecified> {
    let prk = hkdf::Salt::new(HKDF_SHA256, salt).extract(material);
    prk.expand(info, Length(out.len()))?.fill(out)
}

/// Length of what is derived, in bytes.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        let bytes = BASE64.decode(text).expect(text);
        bytes.try_into().expect(text)
    }

    /// RFC 8291, 5 and appendix A.
    #[test]
    fn the_example_of_the_rfc_is_sealed_as_there() {
        let keys = BrowserKeys::read(
            "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
            "BTBZMqHH6r4Tts7J_aSIgg",
        )
        .expect("keys");
        let secret = bytes::<32>("kyrL1jIIOHEzg3sM2ZWRHDRB62YACZhhSlknJ672kSs");
        let public = bytes(
            "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8",
        );
        let salt = bytes("DGv6ra1nlYgDCS1FRnbzlw");
        let plain = b"When I grow up, I want to be a watermelon";
        let sealed = seal_with(&secret, &keys, (&public, &salt), plain).expect("sealed");
        let expected = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN";
        assert_eq!(BASE64.encode(sealed), expected);
    }

    #[test]
    fn keys_of_another_form_are_refused_and_not_shown() {
        let auth = "BTBZMqHH6r4Tts7J_aSIgg";
        let point = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
        let off = format!("{}8", &point[..point.len() - 1]);
        for (p256dh, auth, expected) in [
            (point, auth, None),
            (&*format!("{point}="), &*format!("{auth}=="), None),
            (&point[..40], auth, Some("keys/p256dh")),
            ("?", auth, Some("keys/p256dh")),
            (point, "BTBZMqHH6r4Tts7J", Some("keys/auth")),
            (&*off, auth, Some("keys/p256dh")),
        ] {
            let checked = BrowserKeys::read(p256dh, auth).and_then(|keys| keys.check());
            let field = checked.as_ref().err().map(|fault| fault.field);
            assert_eq!(field, expected, "{p256dh} {auth}");
            if let Err(fault) = checked {
                assert!(!fault.to_string().contains(p256dh), "{fault}");
            }
        }
    }

    #[test]
    fn a_push_is_as_long_as_services_take() {
        let keys = BrowserKeys::read(
            "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
            "BTBZMqHH6r4Tts7J_aSIgg",
        )
        .expect("keys");
        let longest = seal(&keys, &[0; MAX_PLAIN_BYTES]).expect("sealed");
        assert_eq!(longest.len(), MAX_BODY_BYTES);
        let longer = seal(&keys, &[0; MAX_PLAIN_BYTES + 1]);
        assert_eq!(longer, Err(SealError::TooLarge));
    }
}
