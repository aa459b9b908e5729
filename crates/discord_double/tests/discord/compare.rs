//! Asking two Discords the same.

use crate::{double_with, start};
use discord_double::compare::{Comparison, compare, of_double};
use discord_double::{
    AfterOrder, ContentUnit, Limits, NonceRules, NonceScope, Options, ScopeHeader, Settings,
};
use std::process::Command;
use std::time::Duration;

async fn differences(settings: Settings) -> Vec<String> {
    // Limits end only when time passes, so this clock runs.
    let (double, _http) = start(Options { settings, ..Options::default() });
    let comparisons = compare(&of_double(&double), Duration::ZERO).await.expect("both answer");
    assert!(double.all_visible().is_empty(), "it deletes what it posted");
    assert!(comparisons.len() > 30);
    comparisons.into_iter().filter(|found| !found.is_same()).map(|found| found.question).collect()
}

#[tokio::test]
async fn the_double_is_like_itself() {
    assert_eq!(differences(Settings { limits: Limits::off(), ..Settings::default() }).await, [""; 0]);
}

#[tokio::test]
async fn each_assumption_that_is_wrong_is_found() {
    let settings = Settings {
        limits: Limits { scope_header: ScopeHeader::Always, ..Limits::default().faster(100_000) },
        nonce: NonceRules { scope: NonceScope::AuthorAndChannel, ..NonceRules::default() },
        content_unit: ContentUnit::Utf16,
        nonce_in_reads: true,
        after_order: AfterOrder::OldestFirst,
        ..Settings::default()
    };
    assert_eq!(
        differences(settings).await,
        [
            "2000 emoji outside the BMP",
            "1000 emoji of several scalar values (1000 × 2)",
            "`X-RateLimit-Scope` with a 200",
            "the nonce in what is read",
            "the same nonce in another channel: the same message",
            "of 0, 1, 2, 3: after",
        ]
    );
}

#[tokio::test]
async fn the_program_says_what_differs_and_exits_with_1() {
    let settings = Settings { limits: Limits::off(), nonce_in_reads: true, ..Settings::default() };
    let (double, _http) = double_with(settings);
    let target = of_double(&double);
    let output = Command::new(env!("CARGO_BIN_EXE_discord-double"))
        .args(["compare", "--base-url", &target.base_url, "--token", &target.token])
        .args([
            "--channel",
            &target.channel.to_string(),
            "--second-channel",
            &target.second_channel.to_string(),
        ])
        .output()
        .expect("it runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(printed.contains("OTHER  the nonce in what is read: yes (the double: no)"), "{printed}");
    let same = Comparison { question: String::new(), double: "a".into(), target: "a".into() };
    assert!(same.is_same());
}
