//! The built-in platforms keep what every platform promises.

use async_trait::async_trait;
use botticelli_actor::platforms::{Console, JsonLinesFile};
use botticelli_server::clock::Clock;
use botticelli_server::post::{Destination, Platform, PostContent};
use botticelli_testkit::clock::ManualClock;
use botticelli_testkit::platform_suite;
use botticelli_testkit::platform_suite::PlatformUnderTest;
use chrono::{DateTime, Utc};
use std::io::Write;
use std::sync::{Arc, Mutex};

platform_suite!(console, Terminal::default());
platform_suite!(file, Folder::default());

/// A terminal that can be read.
#[derive(Clone, Default)]
struct Terminal {
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.shown.lock().expect("not poisoned").write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[async_trait]
impl PlatformUnderTest for Terminal {
    fn connect(&self) -> Arc<Platform> {
        Arc::new(Console::writing_to(self.clone(), ManualClock::new()))
    }

    fn destination(&self) -> Destination {
        Destination { platform: "console".into(), target: "stdout".into() }
    }

    async fn visible(&self) -> Vec<String> {
        let shown = String::from_utf8(self.shown.lock().expect("not poisoned").clone()).expect("text");
        shown.lines().filter_map(|line| line.strip_prefix("│ ")).map(str::to_owned).collect()
    }

    fn refused(&self) -> Vec<(PostContent, Destination)> {
        ["", " \n\t"].map(|text| (PostContent::text(text), self.destination())).into()
    }

    fn before(&self) -> DateTime<Utc> {
        ManualClock::new().now()
    }
}

/// A folder of its own.
struct Folder {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl Default for Folder {
    fn default() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), clock: ManualClock::new() }
    }
}

#[async_trait]
impl PlatformUnderTest for Folder {
    fn connect(&self) -> Arc<Platform> {
        Arc::new(JsonLinesFile::new(self.clock.clone()))
    }

    fn destination(&self) -> Destination {
        let path = self.folder.path().join("posts.jsonl");
        Destination { platform: "file".into(), target: path.to_str().expect("text").into() }
    }

    async fn visible(&self) -> Vec<String> {
        let lines = std::fs::read_to_string(self.destination().target).unwrap_or_default();
        lines
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line of JSON"))
            .map(|line| line["content"].as_str().expect("content").to_owned())
            .collect()
    }

    fn refused(&self) -> Vec<(PostContent, Destination)> {
        let to = |target: &str| Destination { platform: "file".into(), target: target.into() };
        ["", "posts/", "po\0sts"].map(|target| (PostContent::text("Hi"), to(target))).into()
    }

    fn before(&self) -> DateTime<Utc> {
        self.clock.now()
    }
}
