//! Files that can be read to their end. Opening a pipe would wait for somebody at its other end, and devices have no end.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::path::Path;

/// Opens a file for reading, if it is one after all links are followed.
///
/// # Errors
/// As [`std::fs::File::open`]; `IsADirectory` for a folder, and `Unsupported` for what is neither.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    check(&std::fs::metadata(path)?)?;
    File::open(path)
}

/// Refuses what is no file.
pub(crate) fn check(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        Ok(())
    } else if metadata.is_dir() {
        Err(ErrorKind::IsADirectory.into())
    } else {
        Err(io::Error::new(ErrorKind::Unsupported, "it is a device or a pipe, not a file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    #[test]
    fn only_files_are_opened_and_nothing_is_waited_for() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
        std::fs::write(at("file"), "text").expect("a file");
        for (link, to) in [("link to pipe", "pipe"), ("link to file", "file")] {
            std::os::unix::fs::symlink(at(to), at(link)).expect("a link");
        }
        let refused = |path: &Path| open(path).expect_err("no file").kind();
        assert_eq!(refused(&at("pipe")), ErrorKind::Unsupported);
        assert_eq!(refused(&at("link to pipe")), ErrorKind::Unsupported);
        assert_eq!(refused(Path::new("/dev/zero")), ErrorKind::Unsupported);
        assert_eq!(refused(folder.path()), ErrorKind::IsADirectory);
        assert_eq!(refused(&at("nothing")), ErrorKind::NotFound);
        assert!(open(&at("link to file")).is_ok());
    }
}
