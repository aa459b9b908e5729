//! One file of JSON Lines that is only appended to, and the index of the keys in it.

use crate::regular_file;
use botticelli_server::post::{Extras, PostError};
use chrono::{DateTime, Utc};
use rustix::fs::{Access, access};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long another process may keep the lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// How often the lock is tried.
const LOCK_RETRY: Duration = Duration::from_millis(5);
/// So many bytes before the end of what is indexed tell whether it is still the same file.
const LANDMARK: u64 = 64;

/// One post in the file.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Line {
    pub(super) key: String,
    pub(super) content: String,
    #[serde(skip_serializing_if = "Extras::is_empty")]
    pub(super) extras: Extras,
    pub(super) posted_at: DateTime<Utc>,
}

/// What a line says of the post in it. The other fields don't matter here.
#[derive(Debug, Deserialize)]
struct Known {
    key: String,
    posted_at: DateTime<Utc>,
}

/// What became of a line.
#[derive(Debug)]
pub(super) enum Appended {
    /// It is written, and will survive a power cut.
    Now,
    /// A line with its key stands there already.
    Before { posted_at: DateTime<Utc> },
}

/// A file, and what is known of the lines in it. The index is only ever filled by reading the file.
#[derive(Debug)]
pub(super) struct Appendix {
    path: PathBuf,
    /// Which file the index is of: device and inode.
    identity: Option<(u64, u64)>,
    /// Where the line of each key begins.
    lines: HashMap<Fingerprint, u64>,
    /// Behind the last whole line that is indexed.
    end: u64,
    /// The bytes before `end`.
    landmark: Vec<u8>,
}

/// 128 bits of a hash of a key: two keys that differ never share one.
type Fingerprint = [u8; 16];

fn fingerprint(key: &str) -> Fingerprint {
    let mut fingerprint = [0; 16];
    fingerprint.copy_from_slice(&Sha256::digest(key)[..16]);
    fingerprint
}

/// What stands behind the last newline.
#[derive(Debug)]
enum Tail {
    /// Nothing.
    Clean,
    /// A line that only lacks its newline.
    Unterminated(Option<Known>),
    /// The beginning of a line that a crash cut off. It was never reported as posted.
    Torn,
}

impl Appendix {
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), identity: None, lines: HashMap::new(), end: 0, landmark: Vec::new() }
    }

    /// Appends `line`, unless its key stands there.
    pub(super) fn append(&mut self, line: &Line) -> Result<Appended, PostError> {
        let file = self.open_for_append().map_err(|error| self.not_opened(&error))?;
        let is_new = !self.is_indexed(&file.metadata().map_err(|error| self.not_read(&error))?);
        let (there, tail) = self.look(&file, &line.key).map_err(|error| self.not_read(&error))?;
        match there {
            None => self.write(&file, &tail, line)?,
            // Whoever wrote it may have died before it was safe.
            Some(_) => file.sync_data().map_err(|error| self.not_durable(&error))?,
        }
        if is_new {
            // The folder's entry too must survive a power cut.
            self.sync_folder().map_err(|error| self.not_durable(&error))?;
        }
        Ok(there.map_or(Appended::Now, |posted_at| Appended::Before { posted_at }))
    }

    /// When the post with this key was written, if it is there.
    pub(super) fn find(&mut self, key: &str) -> Result<Option<DateTime<Utc>>, PostError> {
        let file = match self.open_for_reading() {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound && self.folder().is_dir() => return Ok(None),
            Err(error) => return Err(self.not_read(&error)),
        };
        let (found, _) = self.look(&file, key).map_err(|error| self.not_read(&error))?;
        if found.is_some() {
            file.sync_data().map_err(|error| self.not_read(&error))?;
        }
        Ok(found)
    }

    /// Writes the line whole and durably, or takes back what was written of it.
    fn write(&self, file: &File, tail: &Tail, line: &Line) -> Result<(), PostError> {
        let mut bytes = Vec::new();
        match tail {
            Tail::Clean => {}
            Tail::Unterminated(_) => bytes.push(b'\n'),
            Tail::Torn => file.set_len(self.end).map_err(|error| self.not_written(&error))?,
        }
        serde_json::to_writer(&mut bytes, line).map_err(|error| {
            PostError::Refused(format!("the post can't be written as JSON: {error}").into())
        })?;
        bytes.push(b'\n');
        let length_before = file.metadata().map_err(|error| self.not_written(&error))?.len();
        let written = { file }.write_all(&bytes).and_then(|()| file.sync_data());
        written.map_err(|error| match file.set_len(length_before) {
            Ok(()) => self.not_written(&error),
            Err(_) => self.not_durable(&error),
        })
    }

    /// When the post with this key was written, and how the file ends.
    fn look(&mut self, file: &File, key: &str) -> io::Result<(Option<DateTime<Utc>>, Tail)> {
        let tail = self.refresh(file)?;
        if let Tail::Unterminated(Some(known)) = &tail
            && known.key == key
        {
            return Ok((Some(known.posted_at), tail));
        }
        let Some(begin) = self.lines.get(&fingerprint(key)) else { return Ok((None, tail)) };
        let known = read_lines(file, *begin)?.next_line()?.and_then(|line| parse(&line));
        if let Some(known) = known
            && known.key == key
        {
            return Ok((Some(known.posted_at), tail));
        }
        // The file was edited in place: nothing that is known of it holds.
        *self = Self::at(&self.path);
        self.look(file, key)
    }

    /// Indexes what was appended since the last time, or all of it if this is another file by now.
    fn refresh(&mut self, file: &File) -> io::Result<Tail> {
        if !self.is_same(file)? {
            let metadata = file.metadata()?;
            *self = Self { identity: Some(identity(&metadata)), ..Self::at(&self.path) };
        }
        let tail = self.index_from_end(file)?;
        self.landmark = read_before(file, self.end)?;
        Ok(tail)
    }

    fn index_from_end(&mut self, file: &File) -> io::Result<Tail> {
        let mut lines = read_lines(file, self.end)?;
        while let Some(line) = lines.next_line()? {
            if !line.ends_with(b"\n") {
                return Ok(judge_tail(&line));
            }
            if let Some(known) = parse(&line) {
                self.lines.entry(fingerprint(&known.key)).or_insert(self.end);
            }
            self.end += line.len() as u64;
        }
        Ok(Tail::Clean)
    }

    fn is_same(&self, file: &File) -> io::Result<bool> {
        let metadata = file.metadata()?;
        Ok(self.is_indexed(&metadata)
            && metadata.len() >= self.end
            && read_before(file, self.end)? == self.landmark)
    }

    fn is_indexed(&self, metadata: &Metadata) -> bool {
        self.identity == Some(identity(metadata))
    }

    /// Whether the file can be written, or created; nothing is.
    pub(super) fn check(&self) -> Result<(), PostError> {
        let may = |path: &Path, how| access(path, how).map_err(io::Error::from);
        let found =
            self.refuse_what_is_no_file().and_then(|()| may(&self.path, Access::READ_OK | Access::WRITE_OK));
        let writable = match found {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                may(self.folder(), Access::WRITE_OK | Access::EXEC_OK)
            }
            found => found,
        };
        writable.map_err(|error| self.not_opened(&error))
    }

    /// The file, created if it was not there, under a lock that ends when it is closed.
    fn open_for_append(&self) -> io::Result<File> {
        loop {
            self.refuse_what_is_no_file()?;
            let file = OpenOptions::new().read(true).append(true).create(true).open(&self.path)?;
            lock(|| file.try_lock())?;
            if self.is_still_there(&file)? {
                return Ok(file);
            }
        }
    }

    fn open_for_reading(&self) -> io::Result<File> {
        loop {
            self.refuse_what_is_no_file()?;
            let file = File::open(&self.path)?;
            lock(|| file.try_lock_shared())?;
            if self.is_still_there(&file)? {
                return Ok(file);
            }
        }
    }

    /// Opening a pipe would wait for somebody at its other end.
    fn refuse_what_is_no_file(&self) -> io::Result<()> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) => regular_file::check(&metadata),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// While the lock was waited for, the file may have been moved away, and another put in its place.
    fn is_still_there(&self, file: &File) -> io::Result<bool> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) => Ok(identity(&metadata) == identity(&file.metadata()?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            Some(_) | None => Path::new("."),
        }
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(self.folder())?.sync_all()
    }

    /// Nothing was written: who runs the server can mend most of it, so the post waits.
    fn not_opened(&self, error: &io::Error) -> PostError {
        let path = self.path.display();
        let closed = |reason: String| PostError::DestinationClosed(reason.into());
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                closed(format!("can't create {path}: its folder is not there; create it"))
            }
            ErrorKind::IsADirectory => {
                closed(format!("{path} is a folder; the destination must name a file"))
            }
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                closed(format!("can't write {path}: {error}; let the server's user write there"))
            }
            ErrorKind::Unsupported => closed(format!("{path} can't hold posts: {error}")),
            ErrorKind::InvalidInput | ErrorKind::InvalidFilename => {
                PostError::Refused(format!("can't write {path}: {error}").into())
            }
            _ => self.not_written(error),
        }
    }

    fn not_written(&self, error: &io::Error) -> PostError {
        let reason = format!("can't write {}: {error}; nothing was written", self.path.display());
        PostError::NotSent { reason: reason.into(), retry_after: None }
    }

    fn not_read(&self, error: &io::Error) -> PostError {
        PostError::NotSent {
            reason: format!("can't read {}: {error}", self.path.display()).into(),
            retry_after: None,
        }
    }

    fn not_durable(&self, error: &io::Error) -> PostError {
        PostError::Unknown(format!("{} may not be safe on the disk: {error}", self.path.display()).into())
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn lock(try_lock: impl Fn() -> Result<(), TryLockError>) -> io::Result<()> {
    let give_up = Instant::now() + LOCK_PATIENCE;
    loop {
        match try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= give_up => {
                return Err(io::Error::new(ErrorKind::TimedOut, "another process keeps it locked"));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_RETRY),
        }
    }
}

struct Lines<'a>(BufReader<&'a File>);

fn read_lines(file: &File, begin: u64) -> io::Result<Lines<'_>> {
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(begin))?;
    Ok(Lines(reader))
}

impl Lines<'_> {
    /// The next line with its newline, which the last one may lack.
    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let length = self.0.read_until(b'\n', &mut line)?;
        Ok((length > 0).then_some(line))
    }
}

fn read_before(file: &File, end: u64) -> io::Result<Vec<u8>> {
    let begin = end.saturating_sub(LANDMARK);
    let mut bytes = vec![0; usize::try_from(end - begin).unwrap_or_default()];
    file.read_exact_at(&mut bytes, begin)?;
    Ok(bytes)
}

fn parse(line: &[u8]) -> Option<Known> {
    serde_json::from_slice(line).ok()
}

/// Only what can be the beginning of one of our own lines, or what a power cut makes of it, is torn: the text of
/// somebody else is left alone.
fn judge_tail(tail: &[u8]) -> Tail {
    const OPENING: &[u8] = br#"{"key":""#;
    let is_whole = || serde_json::from_slice::<serde::de::IgnoredAny>(tail).is_ok();
    let without_zeros = tail.len() - tail.iter().rev().take_while(|byte| **byte == 0).count();
    let ours = &tail[..without_zeros];
    if !is_whole() && (ours.starts_with(OPENING) || OPENING.starts_with(ours)) {
        Tail::Torn
    } else {
        Tail::Unterminated(parse(tail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(key: &str) -> Line {
        let posted_at = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        Line {
            key: key.into(),
            content: format!("the text of {key}\nin two lines"),
            extras: Extras::new(),
            posted_at,
        }
    }

    fn bytes(key: &str) -> Vec<u8> {
        [serde_json::to_vec(&line(key)).expect("JSON"), b"\n".to_vec()].concat()
    }

    struct Place {
        path: PathBuf,
        _folder: tempfile::TempDir,
    }

    fn place() -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        Place { path: folder.path().join("posts.jsonl"), _folder: folder }
    }

    impl Place {
        fn holding(bytes: &[u8]) -> Self {
            let place = place();
            std::fs::write(&place.path, bytes).expect("written");
            place
        }

        fn content(&self) -> Vec<u8> {
            std::fs::read(&self.path).expect("read")
        }
    }

    fn is_new(appended: Result<Appended, PostError>) -> bool {
        matches!(appended.expect("appended"), Appended::Now)
    }

    #[test]
    fn a_key_that_stands_in_the_file_is_not_written_again_by_anybody() {
        let place = place();
        let (mut one, mut other) = (Appendix::at(&place.path), Appendix::at(&place.path));
        assert!(is_new(one.append(&line("a"))));
        assert!(!is_new(one.append(&line("a"))));
        assert!(!is_new(other.append(&line("a"))));
        assert!(is_new(other.append(&line("b"))));
        assert!(!is_new(one.append(&line("b"))));
        assert_eq!(place.content(), [bytes("a"), bytes("b")].concat());
    }

    #[test]
    fn what_stands_in_the_file_is_read_once() {
        let place = Place::holding(&[bytes("a"), bytes("b")].concat());
        let mut file = Appendix::at(&place.path);
        assert!(is_new(file.append(&line("c"))));
        assert_eq!(file.end, (bytes("a").len() + bytes("b").len()) as u64);
        // What is indexed is not parsed again: a key whose line is forgotten stays forgotten.
        file.lines.remove(&fingerprint("a"));
        assert_eq!(file.find("a"), Ok(None));
    }

    #[test]
    fn a_file_that_was_edited_in_place_is_read_anew_when_that_shows() {
        let place = Place::holding(&[bytes("a"), bytes("b"), bytes("c")].concat());
        let mut file = Appendix::at(&place.path);
        assert!(file.find("c").expect("found").is_some());
        let edited = [bytes("x"), bytes("b"), bytes("c")].concat();
        std::fs::write(&place.path, &edited).expect("written");
        assert_eq!(file.find("a"), Ok(None));
        assert!(file.find("b").expect("found").is_some());
        assert!(is_new(file.append(&line("a"))));
        assert_eq!(place.content(), [edited, bytes("a")].concat());
    }

    #[test]
    fn a_file_that_was_moved_away_or_cut_is_read_anew() {
        let place = place();
        let mut file = Appendix::at(&place.path);
        assert!(is_new(file.append(&line("a"))));
        assert!(file.find("a").expect("found").is_some());
        std::fs::rename(&place.path, place.path.with_extension("1")).expect("moved");
        assert!(file.find("a").expect("asked").is_none());
        assert!(is_new(file.append(&line("a"))));
        assert!(file.find("a").expect("found").is_some());
        // Cut and grown again behind the server's back.
        let longer = bytes("something else, and longer");
        std::fs::write(&place.path, &longer).expect("written");
        assert!(is_new(file.append(&line("a"))));
        assert_eq!(place.content(), [longer, bytes("a")].concat());
    }

    #[test]
    fn the_text_of_somebody_else_is_left_alone() {
        let place = Place::holding(b"# notes\nlast line");
        assert!(is_new(Appendix::at(&place.path).append(&line("a"))));
        assert_eq!(place.content(), [b"# notes\nlast line\n".to_vec(), bytes("a")].concat());
    }

    #[test]
    fn zeros_left_by_a_power_cut_are_taken_out() {
        for torn in [&b"\0\0\0"[..], b"{\"ke\0\0", b"{\"key\":\"b\",\"con\0"] {
            let place = Place::holding(&[&bytes("a")[..], torn].concat());
            assert!(is_new(Appendix::at(&place.path).append(&line("b"))));
            assert_eq!(place.content(), [bytes("a"), bytes("b")].concat());
        }
    }

    #[test]
    fn a_look_up_of_a_file_that_is_not_there_finds_nothing_unless_its_folder_is_missing_too() {
        let place = place();
        assert_eq!(Appendix::at(&place.path).find("a"), Ok(None));
        let lost = place.path.join("deeper/posts.jsonl");
        assert!(matches!(Appendix::at(&lost).find("a"), Err(PostError::NotSent { .. })));
        assert!(matches!(Appendix::at(&lost).append(&line("a")), Err(PostError::DestinationClosed(_))));
        assert!(!place.path.exists(), "a look-up creates nothing");
    }

    #[test]
    fn what_is_no_file_is_a_closed_destination() {
        let place = place();
        let folder = place.path.parent().expect("a folder");
        let error = Appendix::at(folder).append(&line("a")).expect_err("a folder");
        assert!(matches!(&error, PostError::DestinationClosed(reason) if reason.contains("is a folder")));
        let error = Appendix::at(Path::new("/dev/null")).append(&line("a")).expect_err("a device");
        assert!(matches!(error, PostError::DestinationClosed(_)), "{error:?}");
    }

    #[test]
    fn a_line_that_can_neither_be_written_nor_taken_back_is_an_unknown_outcome() {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        let error = Appendix::at(Path::new("posts.jsonl")).write(&full, &Tail::Clean, &line("a"));
        assert!(matches!(error, Err(PostError::Unknown(_))), "{error:?}");
    }

    #[test]
    fn a_file_that_another_process_keeps_locked_is_waited_for() {
        let place = Place::holding(b"");
        let other = File::open(&place.path).expect("opened");
        other.lock().expect("locked");
        let waiting = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| Appendix::at(&place.path).append(&line("a")));
            assert_eq!(place.content(), b"");
            other.unlock().expect("unlocked");
            waiting.join().expect("no panic")
        });
        assert!(is_new(waiting));
    }

    #[test]
    fn many_at_once_write_each_key_once() {
        let place = place();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut file = Appendix::at(&place.path);
                    for number in 0..25 {
                        file.append(&line(&number.to_string())).expect("appended");
                    }
                });
            }
        });
        let content = String::from_utf8(place.content()).expect("text");
        let mut keys: Vec<u32> = content
            .lines()
            .map(|line| parse(line.as_bytes()).expect("a line").key.parse().expect("a number"))
            .collect();
        keys.sort_unstable();
        assert_eq!(keys, (0..25).collect::<Vec<_>>());
    }

    proptest! {
        /// Killed at any byte of the last write, then asked again: one whole line for each key, none lost.
        #[test]
        fn a_crash_at_any_byte_leaves_each_post_once(cut in 0usize..200, again in 0..3u32) {
            let (first, second) = (bytes("a"), bytes("b"));
            let cut = cut % (second.len() + 1);
            let place = Place::holding(&[&first[..], &second[..cut]].concat());
            let found = Appendix::at(&place.path).find("b").expect("asked");
            // The line is there when all of it is, but for the newline.
            prop_assert_eq!(found.is_some(), cut + 1 >= second.len());
            for _ in 0..=again {
                let appended = is_new(Appendix::at(&place.path).append(&line("b")));
                prop_assert!(!(appended && found.is_some()));
            }
            is_new(Appendix::at(&place.path).append(&line("c")));
            prop_assert_eq!(place.content(), [first, second, bytes("c")].concat());
        }
    }
}
