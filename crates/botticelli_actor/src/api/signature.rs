//! Whether what arrived comes from whom it should, as it was sent, and now.

use super::problem::{Answer, Kind, Problem};
use crate::config::triggers::standard_key;
use axum::http::HeaderMap;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

/// What was signed longer ago, or will be later, is refused: it may be a copy.
const TOLERANCE_SECONDS: i64 = 300;

/// Checks a body that is signed after the Standard Webhooks specification. Returns its id, which is signed, too.
pub(super) fn standard(
    secret: &SecretString,
    headers: &HeaderMap,
    body: &[u8],
    now: DateTime<Utc>,
) -> Answer<String> {
    let id = id(headers, "webhook-id")?;
    let timestamp = text(headers, "webhook-timestamp")?;
    let shown = text(headers, "webhook-signature")?;
    let sent_at: i64 = timestamp
        .parse()
        .map_err(|_| wrong("webhook-timestamp", "is no number of seconds since 1970 began"))?;
    let key = standard_key(secret).unwrap_or_default();
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
    let matches = |shown: &str| {
        let tag = shown.strip_prefix("v1,").and_then(|tag| BASE64_STANDARD.decode(tag).ok());
        tag.is_some_and(|tag| is_signed(&key, &signed, &tag))
    };
    // Several: while the sender's secret changes, it signs with both.
    if key.is_empty() || !shown.split(' ').any(matches) {
        return Err(refused("webhook-signature"));
    }
    if now.timestamp().saturating_sub(sent_at).saturating_abs() > TOLERANCE_SECONDS {
        let detail = format!("webhook-timestamp is more than {TOLERANCE_SECONDS} seconds away from now");
        return Err(Problem::new(Kind::Unauthorized, detail)
            .hint("it is when this attempt was sent; the clocks may differ, or it is a copy"));
    }
    Ok(id.to_owned())
}

/// Checks a body that GitHub signed. Returns the delivery's id, which is not signed.
pub(super) fn github(secret: &SecretString, headers: &HeaderMap, body: &[u8]) -> Answer<String> {
    let shown = text(headers, "x-hub-signature-256")?;
    let tag = shown.strip_prefix("sha256=").and_then(from_hex);
    if !tag.is_some_and(|tag| is_signed(secret.expose_secret().as_bytes(), &[body], &tag)) {
        return Err(refused("x-hub-signature-256"));
    }
    id(headers, "x-github-delivery").map(str::to_owned)
}

/// Compares in the same time, whatever is shown.
fn is_signed(key: &[u8], parts: &[&[u8]], tag: &[u8]) -> bool {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return false };
    parts.iter().for_each(|part| mac.update(part));
    mac.verify_slice(tag).is_ok()
}

fn refused(header: &str) -> Problem {
    Problem::new(Kind::Unauthorized, format!("{header} does not fit to the body"))
        .hint("both sides need the same secret, and the body must arrive byte for byte as it was signed")
}

/// The one value of a header.
fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Answer<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().and_then(|value| value.to_str().ok()).filter(|_| values.next().is_none());
    value.ok_or_else(|| {
        Problem::new(Kind::Unauthorized, format!("the header {name} is missing, or there are several"))
            .hint("this webhook takes signed requests only")
    })
}

fn id<'a>(headers: &'a HeaderMap, name: &'static str) -> Answer<&'a str> {
    let id = text(headers, name)?;
    if (1..=255).contains(&id.len()) { Ok(id) } else { Err(wrong(name, "must have 1-255 characters")) }
}

fn wrong(header: &'static str, detail: &str) -> Problem {
    Problem::field(Kind::InvalidParameter, "header", header, detail)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(entries: &[(&'static str, &str)]) -> HeaderMap {
        entries.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    /// The example of the specification.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const STANDARD: [(&str, &str); 3] = [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ];

    fn standard_at(seconds: i64, change: Option<(usize, &str)>, body: &[u8]) -> Answer<String> {
        let mut entries = STANDARD;
        if let Some((index, value)) = change {
            entries[index].1 = value;
        }
        let now = DateTime::from_timestamp(seconds, 0).unwrap();
        standard(&SECRET.into(), &headers(&entries), body, now)
    }

    #[test]
    fn what_the_specification_shows_is_taken_and_nothing_that_was_changed() {
        let now = 1_614_265_330;
        assert_eq!(standard_at(now, None, BODY).unwrap(), "msg_p5jXN8AQM9LWM0D4loKWxJek");
        let rotated = format!("v1,AAAA v1a,x {}", STANDARD[2].1);
        assert!(standard_at(now, Some((2, &rotated)), BODY).is_ok());
        for change in [(0, "msg_other"), (1, "1614265331"), (2, "v1,AAAA"), (2, "g0hM"), (1, "soon")] {
            assert!(standard_at(now, Some(change), BODY).is_err(), "{change:?}");
        }
        assert!(standard_at(now, None, br#"{"test":2432232314}"#).is_err());
        let bare = headers(&STANDARD[..2]);
        assert!(standard(&SECRET.into(), &bare, BODY, DateTime::UNIX_EPOCH).is_err());
    }

    #[test]
    fn what_was_signed_at_another_time_is_refused() {
        let sent = 1_614_265_330;
        for (now, fresh) in [(sent - 301, false), (sent - 300, true), (sent + 300, true), (sent + 301, false)]
        {
            assert_eq!(standard_at(now, None, BODY).is_ok(), fresh, "{now}");
        }
    }

    #[test]
    fn what_github_shows_is_taken_and_nothing_that_was_changed() {
        // The example of GitHub's documentation.
        let secret = "It's a Secret to Everybody".into();
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let ask = |signature: &str, body: &[u8]| {
            let entries = [("x-hub-signature-256", signature), ("x-github-delivery", "72d3162e")];
            github(&secret, &headers(&entries), body)
        };
        assert_eq!(ask(signature, b"Hello, World!").unwrap(), "72d3162e");
        assert!(ask(signature, b"Hello, World?").is_err());
        assert!(ask(&signature[..70], b"Hello, World!").is_err());
        assert!(ask("sha256=zz", b"Hello, World!").is_err());
        assert!(github(&secret, &headers(&[("x-hub-signature-256", signature)]), b"Hello, World!").is_err());
    }
}
