//! `file`: appends each post as one line of JSON to the file that the destination names, exactly once.
//!
//! The file itself is the memory: a post whose key stands in it is not written again, whichever process asks and
//! whatever crashed before. All access is under an advisory lock on the file.

mod appendix;

use appendix::{Appended, Appendix, Line};
use async_trait::async_trait;
use botticelli_server::clock::Clock;
use botticelli_server::post::{
    Capabilities, ContentPoster, Destination, Doubt, IdempotencyKey, LookUp, PostContent, PostError, Receipt,
    TextLimit, TextUnit,
};
use chrono::{DateTime, Utc};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// When so many files are indexed, the indexes are dropped, and built again as they are needed.
const MOST_FILES: usize = 64;

/// Appends posts as JSON Lines: `{"key": …, "content": …, "extras": …, "posted_at": …}`, without `extras` where nothing
/// comes with the text. The target is the file's path; its folder
/// must exist. Other lines in the file are left alone. The receipt's `message_id` is the line's `key`.
///
/// Which keys a file holds is indexed in memory, about 40 bytes a line: a post reads only what was appended since the
/// last one. A file that was replaced or cut is read anew; one that was edited in place may not be.
pub struct JsonLinesFile {
    clock: Arc<dyn Clock>,
    files: Mutex<HashMap<PathBuf, Arc<Mutex<Appendix>>>>,
}

impl JsonLinesFile {
    /// The platform. `clock` says what stands in `posted_at`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, files: Mutex::default() }
    }

    /// Runs `work` on a thread that may block.
    async fn with_file<T: Send + 'static>(
        &self,
        destination: &Destination,
        work: impl FnOnce(&mut Appendix) -> Result<T, PostError> + Send + 'static,
    ) -> Result<T, PostError> {
        let file = self.file(Path::new(&destination.target));
        let working = tokio::task::spawn_blocking(move || {
            work(&mut file.lock().unwrap_or_else(PoisonError::into_inner))
        });
        working.await.map_err(|panic| PostError::Unknown(format!("writing broke off: {panic}").into()))?
    }

    fn file(&self, path: &Path) -> Arc<Mutex<Appendix>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if files.len() >= MOST_FILES && !files.contains_key(path) {
            files.clear();
        }
        files.entry(path.to_owned()).or_insert_with(|| Arc::new(Mutex::new(Appendix::at(path)))).clone()
    }
}

#[async_trait]
impl ContentPoster for JsonLinesFile {
    type Content = PostContent;
    type Destination = Destination;
    type Posted = Receipt;

    fn capabilities(&self, _: &PostContent, _: &Destination) -> Capabilities {
        let text = TextLimit { max: None, unit: TextUnit::Scalars };
        Capabilities { idempotent_for: Some(Duration::MAX), look_up: true, text }
    }

    fn validate(&self, _: &PostContent, destination: &Destination) -> Result<(), PostError> {
        let target = &destination.target;
        if target.is_empty() || target.ends_with('/') || target.contains('\0') {
            return Err(PostError::Refused(
                format!("the destination {target:?} does not name a file").into(),
            ));
        }
        Ok(())
    }

    fn check(&self, destination: &Destination) -> Result<(), PostError> {
        Appendix::at(Path::new(&destination.target)).check()
    }

    async fn post(
        &self,
        content: &PostContent,
        destination: &Destination,
        key: &IdempotencyKey,
    ) -> Result<Receipt, PostError> {
        self.validate(content, destination)?;
        let PostContent { text, extras } = content.clone();
        let line = Line { key: key.as_str().to_owned(), content: text, extras, posted_at: self.clock.now() };
        self.with_file(destination, move |file| {
            Ok(match file.append(&line)? {
                Appended::Now => receipt(line.key, line.posted_at, false),
                Appended::Before { posted_at } => receipt(line.key, posted_at, true),
            })
        })
        .await
    }

    async fn look_up(
        &self,
        _: &PostContent,
        destination: &Destination,
        key: &IdempotencyKey,
        _: &Doubt,
    ) -> Result<LookUp<Receipt>, PostError> {
        let key = key.as_str().to_owned();
        self.with_file(destination, move |file| {
            Ok(match file.find(&key)? {
                Some(posted_at) => LookUp::Found(receipt(key, posted_at, true)),
                None => LookUp::Absent,
            })
        })
        .await
    }
}

fn receipt(key: String, posted_at: DateTime<Utc>, recovered: bool) -> Receipt {
    Receipt { message_id: key, posted_at, link: None, recovered, to_follow: Vec::new(), missing: Vec::new() }
}
