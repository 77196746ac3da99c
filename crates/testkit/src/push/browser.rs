//! A browser that has subscribed: its keys, and how it opens what comes (RFC 8291), by other
//! libraries than those of the server.

use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::{Aes128Gcm, Nonce};
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use p256::ecdh::diffie_hellman;
use p256::{PublicKey, SecretKey};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::Sha256;

/// A subscription of a browser.
#[derive(Clone)]
pub struct Browser {
    /// Where pushes for it are posted to.
    pub endpoint: String,
    /// Public key of the browser, in base64url.
    pub p256dh: String,
    /// Secret of the browser, in base64url.
    pub auth: String,
    key: SecretKey,
    secret: [u8; 16],
}

impl Browser {
    /// A browser with new keys.
    pub fn new(endpoint: String) -> Result<Self> {
        let random = SystemRandom::new();
        let (mut key, mut secret) = ([0; 32], [0; 16]);
        random.fill(&mut key).ok().context("no random bytes")?;
        random.fill(&mut secret).ok().context("no random bytes")?;
        let key = SecretKey::from_slice(&key).ok().context("no key")?;
        Ok(Self {
            endpoint,
            p256dh: BASE64_URL_SAFE_NO_PAD.encode(key.public_key().to_sec1_bytes()),
            auth: BASE64_URL_SAFE_NO_PAD.encode(secret),
            key,
            secret,
        })
    }

    /// What a body says.
    pub fn open(&self, body: &[u8]) -> Result<Vec<u8>> {
        let (salt, rest) = body.split_at_checked(16).context("no salt")?;
        let (size, rest) = rest.split_at_checked(4).context("no record size")?;
        let (length, rest) = rest.split_first().context("no length of a key")?;
        ensure!(*length == 65, "a key of another length");
        let (sender, sealed) = rest.split_at_checked(65).context("no key")?;
        let size = u32::from_be_bytes(size.try_into()?);
        ensure!(sealed.len() <= size as usize, "more than one record");

        let public = PublicKey::from_sec1_bytes(sender).ok().context("no key")?;
        let shared = diffie_hellman(self.key.to_nonzero_scalar(), public.as_affine());
        let own = self.key.public_key().to_sec1_bytes();
        let info = [b"WebPush: info\0", &*own, sender].concat();
        let material: [u8; 32] = expand(&self.secret, shared.raw_secret_bytes(), &info)?;
        let key: [u8; 16] = expand(salt, &material, b"Content-Encoding: aes128gcm\0")?;
        let nonce: [u8; 12] = expand(salt, &material, b"Content-Encoding: nonce\0")?;
        let cipher = Aes128Gcm::new_from_slice(&key).ok().context("no key")?;
        let opened = cipher.decrypt(&Nonce::from(nonce), sealed);
        let mut opened = opened.ok().context("what was sealed cannot be opened")?;
        // Zeros may come behind the delimiter.
        while opened.last() == Some(&0) {
            opened.pop();
        }
        ensure!(opened.pop() == Some(2), "no delimiter of the last record");
        Ok(opened)
    }
}

fn expand<const N: usize>(salt: &[u8], material: &[u8], info: &[u8]) -> Result<[u8; N]> {
    let mut out = [0; N];
    let expanded = Hkdf::<Sha256>::new(Some(salt), material).expand(info, &mut out);
    expanded.ok().context("too much is asked of HKDF")?;
    Ok(out)
}
