//! One process of the real binary.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Nothing that is waited for takes this long, on however busy a machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with this, whatever becomes of the test.
pub(crate) struct Server {
    child: Child,
    pub(crate) log: Log,
    pub(crate) out: Log,
    readers: Vec<JoinHandle<()>>,
}

/// The lines that a process has written so far.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<(Mutex<Vec<String>>, Condvar)>);

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Log {
    fn read(&self, from: impl Read + Send + 'static) -> JoinHandle<()> {
        let log = self.clone();
        std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while matches!(from.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                log.0.0.lock().unwrap().push(text);
                log.0.1.notify_all();
                line.clear();
            }
        })
    }

    pub(crate) fn text(&self) -> String {
        self.0.0.lock().unwrap().join("\n")
    }

    /// Waits until so many lines contain `words`. Says whether that came to be in time.
    pub(crate) fn reaches(&self, count: usize, words: &str, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let mut lines = self.0.0.lock().unwrap();
        while lines.iter().filter(|line| line.contains(words)).count() < count {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            lines = self.0.1.wait_timeout(lines, left).unwrap().0;
        }
        true
    }
}

impl Server {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::printing_to(command, Stdio::piped())
    }

    /// Its standard output goes there instead.
    pub(crate) fn printing_to(command: &mut Command, out: impl Into<Stdio>) -> Self {
        let command = command.stdin(Stdio::null()).stdout(out).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let (log, out) = (Log::default(), Log::default());
        let mut readers = vec![log.read(child.stderr.take().expect("a pipe"))];
        readers.extend(child.stdout.take().map(|printed| out.read(printed)));
        Self { child, log, out, readers }
    }

    /// Waits for a line of the log that contains `words`.
    pub(crate) fn says(&self, words: &str) {
        self.says_times(1, words);
    }

    /// Waits for so many of them.
    pub(crate) fn says_times(&self, count: usize, words: &str) {
        let said = self.log.reaches(count, words, PATIENCE);
        assert!(said, "it never said {words:?} {count} times, but:\n{}", self.log.text());
    }

    /// Sends a signal, as a person does with `kill -s`.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -s {signal} {}", self.child.id())]).status();
        assert!(sent.expect("a shell").success(), "{signal} could not be sent:\n{}", self.log.text());
    }

    /// Whether it has not ended by itself.
    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// `kill -9`. It must have lived until then.
    pub(crate) fn kill(mut self) -> Ended {
        assert!(self.lives(), "it had ended by itself:\n{}", self.log.text());
        self.child.kill().unwrap();
        self.ended_within(PATIENCE)
    }

    /// SIGTERM, and the end that follows. It must be a good one.
    pub(crate) fn stop(self) -> Ended {
        self.signal("TERM");
        let ended = self.ended_within(PATIENCE);
        assert_eq!(ended.status.code(), Some(0), "{}", ended.err);
        ended
    }

    /// Waits for the end, which must come in time.
    pub(crate) fn ended_within(mut self, within: Duration) -> Ended {
        let deadline = Instant::now() + within;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it did not end within {within:?}:\n{}", self.log.text());
            std::thread::sleep(Duration::from_millis(2));
        };
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        Ended { status, out: self.out.text(), err: self.log.text() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
        if std::thread::panicking() {
            eprintln!("log of the server {}:\n{}", self.child.id(), self.log.text());
        }
    }
}
