//! Hostile texts against the double's own rule of who is pinged: whatever is written, nobody is woken who was not asked
//! for, neither by what is sent nor by an edit. `HOSTILE_TEXTS` says how many are tried, `HOSTILE_SEED` from which one on.

use super::*;
use crate::discord::Nonce;
use crate::text::split;
use botticelli_server::post::{IdempotencyKey, TextLimit, TextUnit};
use discord_double::{Id, Pings, Writes};
use serde_json::{Value, json};

const TEXT: TextLimit = TextLimit { max: Some(2000), unit: TextUnit::Scalars };
/// Who wrote what is answered.
const ANSWERED: Id = Id(600);

/// What mentions are made of, and what is put between to hide them.
const FRAGMENTS: &[&str] = &[
    "@everyone",
    "@here",
    "<@77>",
    "<@!77>",
    "<@&88>",
    "<@1300000000000000002>",
    "<@&1300000000000000012>",
    "<@",
    "<@!",
    "<@&",
    "77",
    "88",
    ">",
    "<",
    "@",
    "everyone",
    "here",
    "<#99>",
    "</say:5>",
    "<t:0:R>",
    "<id:guide>",
    "@every",
    "one",
    "\u{200b}",
    "\u{200c}",
    "\u{200d}",
    "\u{2060}",
    "\u{feff}",
    "\u{ad}",
    "\u{34f}",
    "\u{301}",
    "\u{20e3}",
    "\u{fe0f}",
    "\u{202e}",
    "\u{202d}",
    "\u{2066}",
    "\u{2067}",
    "\u{2069}",
    "\u{200f}",
    "\u{061c}",
    "שלום",
    "مرحبا",
    "＠everyone",
    "@\u{0435}veryone",
    "@\u{200b}everyone",
    "\u{ff1c}@77\u{ff1e}",
    "\\",
    "\\\\",
    "`",
    "``",
    "```",
    "```rust\n",
    "\n```\n",
    "~~~",
    "~~",
    "*",
    "**",
    "__",
    "||",
    "> ",
    ">>> ",
    "# ",
    "- ",
    "-# ",
    "[x](",
    ")",
    "[@everyone](https://x.example)",
    "https://x.example/@everyone/<@77>",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    " ",
    "\u{a0}",
    "\u{3000}",
    "\u{0}",
    "\u{1b}[31m",
    "\u{85}",
    "\u{2028}",
    "&lt;@77&gt;",
    "%40everyone",
    "\\u0040everyone",
    "😀",
    "👩‍👩‍👧",
    "🇩🇪",
    "\u{10ffff}",
    "\u{e000}",
    "x",
];
/// What Discord is known to take out of texts, and what it might.
const STRIPPED: &[char] =
    &['\u{200b}', '\u{200d}', '\u{2060}', '\u{feff}', '\u{ad}', '\u{301}', '\u{202e}', '\0', '\\'];

/// The same numbers for the same seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn text(&mut self) -> String {
        let mut text = String::new();
        if self.one_in(6) {
            // So that a mention lies on the place where the text is cut.
            let filler = ["x", "x ", "wort \n", "```\nx\n", "e\u{301}"][self.below(5)];
            let length = 1_960 + self.below(50);
            text.extend(filler.chars().cycle().take(length));
        }
        for _ in 0..1 + self.below(24) {
            text.push_str(FRAGMENTS[self.below(FRAGMENTS.len())]);
            if self.one_in(40) {
                text.extend(std::iter::repeat_n('\u{301}', self.below(300)));
            }
            if self.one_in(12) {
                text.extend(char::from_u32(self.below(0x11_0000) as u32));
            }
        }
        text
    }

    /// As JSON, with escapes where none are needed, and now and then half a character.
    fn json_string(&mut self, text: &str) -> String {
        let mut json = String::from("\"");
        let escape = self.below(3);
        for character in text.chars() {
            let needed = character < ' ' || matches!(character, '"' | '\\');
            if needed || escape == 2 && self.one_in(3) {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    json.push_str(&format!("\\u{unit:04x}"));
                }
            } else {
                json.push(character);
            }
            if escape == 1 && self.one_in(400) {
                json.push_str(["\\ud83d", "\\ude00", "\\udfff\\ud800"][self.below(3)]);
            }
        }
        json.push('"');
        json
    }

    /// Whom it may wake: mostly nobody.
    fn mentions(&mut self) -> Mentions {
        if !self.one_in(4) {
            return Mentions::default();
        }
        let any_user = self.one_in(4);
        let any_role = self.one_in(4);
        let ids = |asked: bool, id| if asked { vec![Snowflake(id)] } else { Vec::new() };
        Mentions {
            everyone: self.one_in(3),
            any_user,
            any_role,
            users: ids(!any_user && self.one_in(2), 77),
            roles: ids(!any_role && self.one_in(2), 88),
            replied_user: self.one_in(2),
        }
    }

    /// A post as it lies in the outbox, in JSON, and whom it may wake.
    fn stored(&mut self) -> (String, Mentions) {
        let text = self.text();
        let text = self.json_string(&text);
        if self.one_in(2) {
            return (format!("{{\"text\":{text}}}"), Mentions::default());
        }
        let mentions = self.mentions();
        let short: String = self.text().chars().take(200).collect();
        let short = self.json_string(&short);
        let mut own = vec![format!("\"mentions\":{}", json!(mentions))];
        for (part, in_how_many) in [
            (format!("\"content\":{text}"), 2),
            (format!("\"embeds\":[{{\"title\":{short},\"description\":{short}}}]"), 3),
            (format!("\"links\":[{{\"label\":{short},\"url\":\"https://x.example/\"}}]"), 6),
            (format!("\"poll\":{{\"question\":{short},\"answers\":[{short}]}}"), 6),
            ("\"reply\":{\"message_id\":\"9\"}".to_owned(), 3),
            ("\"silent\":true".to_owned(), 4),
        ] {
            if self.one_in(in_how_many) {
                own.push(part);
            }
        }
        (format!("{{\"text\":{text},\"extras\":{{\"discord\":{{{}}}}}}}", own.join(",")), mentions)
    }
}

/// What was seen, so that a run that tries nothing is noticed.
#[derive(Debug, Default)]
struct Seen {
    not_json: u64,
    refused: u64,
    cut: u64,
    bodies: u64,
    loud_unless_held: u64,
    asked_for: u64,
}

fn judge(stored: &str, wanted: &Mentions, seen: &mut Seen) {
    let Ok(content) = serde_json::from_str::<PostContent>(stored) else {
        seen.not_json += 1;
        return;
    };
    let Ok(whole) = Message::try_from(&content) else {
        seen.refused += 1;
        return;
    };
    // What the formatter does with a text that is too long.
    let Ok(parts) = split(&whole.content, TEXT) else {
        seen.refused += 1;
        return;
    };
    seen.cut += u64::from(parts.len() > 1);
    for part in parts {
        let message = Message { content: part, ..whole.clone() };
        let nonce = Nonce::of(&IdempotencyKey::stored("k".into()));
        let post = ForumPost { name: "post".into(), tags: Vec::new(), auto_archive_minutes: None };
        let edit = Message { files: vec![], poll: None, reply: None, silent: false, ..message.clone() };
        let on_channel = message.validate(Place::Channel).is_ok();
        let plain = Message { reply: None, poll: None, ..message.clone() };
        for (body, writes, is_sent) in [
            (message_body(&message, &nonce).json().clone(), Writes::Message, on_channel),
            (edit_body(&edit).json().clone(), Writes::Edit, edit.validate_edit().is_ok()),
            (webhook_body(&plain).json().clone(), Writes::Webhook, plain.validate(Place::Webhook).is_ok()),
            (forum_body(&plain, &post, &[]).json()["message"].clone(), Writes::ForumPost, on_channel),
        ] {
            if is_sent {
                hear(&body, writes, wanted, stored, seen);
            } else {
                seen.refused += 1;
            }
        }
    }
}

/// On the wire and back, as it is, and as it is when characters are lost on the way.
fn hear(body: &Value, writes: Writes, wanted: &Mentions, stored: &str, seen: &mut Seen) {
    let wire = body.to_string();
    let received: Value = serde_json::from_str(&wire).expect("JSON");
    let mut stripped = received.clone();
    if let Some(content) = received["content"].as_str() {
        stripped["content"] = content.replace(STRIPPED, "").into();
    }
    for body in [&received, &stripped] {
        let Ok(pings) = Pings::of(body, writes, ANSWERED) else { continue };
        seen.bodies += 1;
        assert!(is_wanted(&pings, wanted), "{writes:?}: {pings:?} from {body}, stored as {stored}");
        seen.asked_for += u64::from(!pings.is_empty());
    }
    let mut unheld = received;
    unheld["allowed_mentions"] = Value::Null;
    let loud = Pings::of(&unheld, writes, ANSWERED).is_ok_and(|pings| !pings.is_empty());
    seen.loud_unless_held += u64::from(loud);
}

fn is_wanted(pings: &Pings, wanted: &Mentions) -> bool {
    let user = |id: &Id| {
        let replied = wanted.replied_user && *id == ANSWERED;
        wanted.any_user || replied || wanted.users.contains(&Snowflake(id.0))
    };
    let role = |id: &Id| wanted.any_role || wanted.roles.contains(&Snowflake(id.0));
    (wanted.everyone || !pings.everyone && !pings.here)
        && pings.users.iter().all(user)
        && pings.roles.iter().all(role)
}

#[expect(clippy::disallowed_methods, reason = "the caller's wishes for this test")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value}")))
}

#[test]
fn no_text_pings_anybody_who_was_not_asked_for_on_send_or_edit() {
    let (first, texts) = (setting("HOSTILE_SEED").unwrap_or(1), setting("HOSTILE_TEXTS").unwrap_or(4_000));
    let mut seen = Seen::default();
    for seed in first..first + texts {
        let (stored, wanted) = Random(seed.wrapping_mul(0xd134_2543_de82_ef95)).stored();
        judge(&stored, &wanted, &mut seen);
    }
    println!("{texts} texts from {first} on: {seen:?}");
    let Seen { not_json, refused, cut, bodies, loud_unless_held, asked_for } = seen;
    let some = texts.min(100) / 100;
    assert!(not_json >= some && refused >= some && asked_for >= some, "{seen:?}");
    assert!(cut > texts / 50 && bodies > texts, "too little was cut, or sent: {seen:?}");
    assert!(loud_unless_held > texts, "too few of these texts would wake anybody: {seen:?}");
}
