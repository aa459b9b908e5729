//! `console`: prints what a person would see.

use super::extras::shown;
use async_trait::async_trait;
use botticelli_server::clock::Clock;
use botticelli_server::post::{
    Capabilities, ContentPoster, Destination, Doubt, IdempotencyKey, LookUp, PostContent, PostError, Receipt,
    TextLimit, TextUnit,
};
use chrono::{DateTime, Utc};
use std::fmt::Write as _;
use std::io::{ErrorKind, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Prints each post as a small block to standard output. The target is only a label on it.
///
/// A terminal gives no ids and remembers nothing. So the receipt's `message_id` is the post's own key, which the block
/// shows and by which a person can find it; and the console claims neither to recognise a post that is sent again nor
/// to know whether one was printed.
pub struct Console {
    clock: Arc<dyn Clock>,
    out: Arc<Mutex<dyn Write + Send>>,
}

impl Console {
    /// A console on standard output.
    pub fn stdout(clock: Arc<dyn Clock>) -> Self {
        Self::writing_to(std::io::stdout(), clock)
    }

    /// A console on `out`.
    pub fn writing_to(out: impl Write + Send + 'static, clock: Arc<dyn Clock>) -> Self {
        Self { clock, out: Arc::new(Mutex::new(out)) }
    }
}

#[async_trait]
impl ContentPoster for Console {
    type Content = PostContent;
    type Destination = Destination;
    type Posted = Receipt;

    fn capabilities(&self, _: &PostContent, _: &Destination) -> Capabilities {
        let text = TextLimit { max: None, unit: TextUnit::Scalars };
        Capabilities { idempotent_for: None, look_up: false, text }
    }

    fn validate(&self, content: &PostContent, _: &Destination) -> Result<(), PostError> {
        if content.text.trim().is_empty() {
            return Err(PostError::Refused("the text is empty: there is nothing to print".into()));
        }
        Ok(())
    }

    async fn post(
        &self,
        content: &PostContent,
        destination: &Destination,
        key: &IdempotencyKey,
    ) -> Result<Receipt, PostError> {
        self.validate(content, destination)?;
        let posted_at = self.clock.now();
        let block = block(posted_at, destination, key, content);
        let out = self.out.clone();
        // A terminal can be held up (Ctrl-S, a pager): that must not hold up the server.
        let printing = tokio::task::spawn_blocking(move || {
            print(&mut *out.lock().unwrap_or_else(PoisonError::into_inner), block.as_bytes())
        });
        printing
            .await
            .map_err(|panic| PostError::Unknown(format!("printing broke off: {panic}").into()))??;
        Ok(Receipt {
            message_id: key.as_str().to_owned(),
            posted_at,
            link: None,
            recovered: false,
            to_follow: Vec::new(),
            missing: Vec::new(),
        })
    }

    async fn look_up(
        &self,
        _: &PostContent,
        _: &Destination,
        _: &IdempotencyKey,
        _: &Doubt,
    ) -> Result<LookUp<Receipt>, PostError> {
        Ok(LookUp::Unknowable { reason: "a terminal can't be asked what it showed".into() })
    }
}

/// One write, so that nothing else that is printed comes between. What went wrong is told by how far it came.
fn print(out: &mut dyn Write, block: &[u8]) -> Result<(), PostError> {
    let mut printed = 0;
    while printed < block.len() {
        match out.write(&block[printed..]) {
            Ok(0) => return Err(broken_off(printed, &ErrorKind::WriteZero.into())),
            Ok(written) => printed += written,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(broken_off(printed, &error)),
        }
    }
    out.flush().map_err(|error| broken_off(printed, &error))
}

fn broken_off(printed: usize, error: &std::io::Error) -> PostError {
    match (printed, error.kind()) {
        (0, ErrorKind::BrokenPipe) => {
            PostError::DestinationClosed("nobody reads the standard output any more (closed pipe)".into())
        }
        (0, _) => PostError::NotSent { reason: format!("can't print: {error}").into(), retry_after: None },
        (_, _) => PostError::Unknown(format!("printing broke off: {error}").into()),
    }
}

/// The bar before each line keeps a text from passing itself off as a block of its own.
fn block(
    at: DateTime<Utc>,
    destination: &Destination,
    key: &IdempotencyKey,
    content: &PostContent,
) -> String {
    let mut block = format!(
        "┌ {} · {} · {}\n",
        at.format("%Y-%m-%d %H:%M:%S UTC"),
        harmless(&destination.to_string()),
        harmless(key.as_str()),
    );
    let extras = shown(&content.extras);
    for line in content.text.lines().chain(extras.lines()) {
        block.push_str("│ ");
        block.push_str(&harmless(line));
        block.push('\n');
    }
    block.push_str("└\n");
    block
}

/// `text` without what a terminal would obey: control characters, and marks that turn the direction of writing, are
/// shown as escapes.
fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if (character.is_control() && character != '\t') || turns_direction(character) {
            // Writing to a `String` can't fail.
            let _infallible = write!(shown, "{}", character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

fn turns_direction(character: char) -> bool {
    matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use botticelli_testkit::clock::ManualClock;
    use serde_json::json;

    fn console_destination() -> Destination {
        Destination { platform: "console".into(), target: "stdout".into() }
    }

    /// Takes `left` bytes, then fails like this.
    struct Failing {
        left: usize,
        with: ErrorKind,
    }

    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let taken = bytes.len().min(self.left);
            self.left -= taken;
            if taken == 0 { Err(self.with.into()) } else { Ok(taken) }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    async fn post_to(out: impl Write + Send + 'static) -> Result<Receipt, PostError> {
        Console::writing_to(out, ManualClock::new())
            .post(
                &PostContent::text("Hello"),
                &console_destination(),
                &IdempotencyKey::stored("key-1".into()),
            )
            .await
    }

    #[test]
    fn a_post_is_printed_as_a_block_that_its_text_can_neither_leave_nor_disguise() {
        let at = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        let text = "Hi \u{1b}[2J\u{7}there\r\n└\r\u{9b}31m\u{202e}evil\ttab";
        let extras = [("discord".to_owned(), json!({"embeds": [{"title": "T\u{1b}\n└"}], "silent": true}))];
        let content = PostContent { text: text.into(), extras: extras.into() };
        let printed = block(at, &console_destination(), &IdempotencyKey::stored("key-1".into()), &content);
        assert_eq!(
            printed,
            "┌ 2027-01-15 08:00:00 UTC · console:stdout · key-1\n\
             │ Hi \\u{1b}[2J\\u{7}there\n\
             │ └\\r\\u{9b}31m\\u{202e}evil\ttab\n\
             │ [discord] embeds[0].title: T\\u{1b}\n\
             │   └\n\
             │ [discord] silent: true\n\
             └\n"
        );
    }

    #[tokio::test]
    async fn the_receipt_holds_the_key_that_was_printed() {
        let receipt = post_to(std::io::sink()).await.expect("a receipt");
        assert_eq!(receipt.message_id, "key-1");
        assert!(!receipt.recovered);
    }

    #[tokio::test]
    async fn a_closed_pipe_closes_the_destination() {
        let error = post_to(Failing { left: 0, with: ErrorKind::BrokenPipe }).await.expect_err("closed");
        assert!(matches!(error, PostError::DestinationClosed(_)), "{error:?}");
    }

    #[tokio::test]
    async fn a_block_that_broke_off_may_have_been_seen() {
        let error = post_to(Failing { left: 9, with: ErrorKind::BrokenPipe }).await.expect_err("broken off");
        assert!(matches!(error, PostError::Unknown(_)), "{error:?}");
        let error = post_to(Failing { left: 0, with: ErrorKind::StorageFull }).await.expect_err("full");
        assert!(matches!(error, PostError::NotSent { .. }), "{error:?}");
    }
}
