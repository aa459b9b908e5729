//! The signature of the Standard Webhooks specification, version 1: HMAC-SHA256 over id, time and body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use sha2::Sha256;

/// How secrets begin, to be told from other texts.
const PREFIX: &str = "whsec_";

/// The key that both sides know.
#[derive(Clone)]
pub struct SigningKey(SecretSlice<u8>);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl SigningKey {
    /// Reads `whsec_` and base64 of 24-64 bytes.
    ///
    /// # Errors
    /// What is wrong with it, without showing it.
    pub fn parse(secret: &SecretString) -> Result<Self, &'static str> {
        let text = secret.expose_secret().trim();
        let key = STANDARD.decode(text.strip_prefix(PREFIX).unwrap_or(text)).map_err(|_| "is not base64")?;
        if (24..=64).contains(&key.len()) { Ok(Self(key.into())) } else { Err("has not 24-64 bytes") }
    }

    /// Whether it is the same key.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }

    /// What `webhook-signature` says.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mac = Hmac::<Sha256>::new_from_slice(self.0.expose_secret());
        let mut mac = mac.unwrap_or_else(|_| unreachable!("HMAC takes keys of every length"));
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIME: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    fn key(secret: &str) -> SigningKey {
        SigningKey::parse(&secret.into()).expect("a key")
    }

    #[test]
    fn it_is_the_one_that_the_specification_s_libraries_expect() {
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(key(SECRET).sign(ID, TIME, BODY), expected);
        assert_eq!(key(&SECRET[PREFIX.len()..]).sign(ID, TIME, BODY), expected, "the prefix may be left out");
    }

    #[test]
    fn whatever_is_changed_the_signature_is_another() {
        let right = key(SECRET).sign(ID, TIME, BODY);
        assert_ne!(key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx").sign(ID, TIME, BODY), right);
        assert_ne!(key(SECRET).sign("msg_other", TIME, BODY), right);
        assert_ne!(key(SECRET).sign(ID, TIME + 1, BODY), right);
        assert_ne!(key(SECRET).sign(ID, TIME, br#"{"test": 2432232315}"#), right);
    }

    #[test]
    fn a_secret_that_is_none_is_refused_and_never_shown() {
        for wrong in ["", "whsec_", "whsec_not base64!", "whsec_c2hvcnQ="] {
            assert!(SigningKey::parse(&wrong.into()).is_err(), "{wrong}");
        }
        assert_eq!(format!("{:?}", key(SECRET)), "SigningKey(…)");
    }
}
