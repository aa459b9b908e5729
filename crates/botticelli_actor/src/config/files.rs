//! The files that a load looked for, as they were then: by them a change is noticed.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Files by their paths. `None`: there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<PathBuf, Option<Stamp>>);

/// What tells a file from what it was before, without reading it: one that was replaced is another file, also where a
/// link on its way leads elsewhere by now; one that was written to has other times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device_and_inode: (u64, u64),
    size: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let file = std::fs::metadata(path).ok()?;
        Some(Self {
            device_and_inode: (file.dev(), file.ino()),
            size: file.size(),
            written: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}

impl Files {
    /// Whether there is such a file. Asked before the file is read, so that no later change is missed.
    pub(crate) fn note(&mut self, path: &Path) -> bool {
        self.0.entry(path.to_owned()).or_insert_with(|| Stamp::of(path)).is_some()
    }

    /// The same files as they are now.
    pub fn now(&self) -> Self {
        Self(self.0.keys().map(|path| (path.clone(), Stamp::of(path))).collect())
    }

    /// Those of them that `others` has otherwise, or not at all.
    pub fn unlike<'a>(&'a self, others: &'a Self) -> impl Iterator<Item = &'a Path> {
        let differs = |(path, stamp): &(&PathBuf, _)| others.0.get(*path) != Some(*stamp);
        self.0.iter().filter(differs).map(|(path, _)| path.as_path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// Whether a look tells that `change` was made in a folder with a `file`.
    fn is_noticed(change: impl FnOnce(&Path)) -> bool {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, "before").expect("a file");
        let mut files = Files::default();
        assert!(files.note(&path) && !files.note(&folder.path().join("missing")));
        assert_eq!(files.now(), files, "nothing has changed yet");
        change(folder.path());
        files.now() != files
    }

    #[test]
    fn every_kind_of_change_is_noticed() {
        let kept = |folder: &Path| fs::metadata(folder.join("file")).and_then(|file| file.modified());
        assert!(is_noticed(|folder| fs::write(folder.join("file"), "longer than before").expect("written")));
        assert!(is_noticed(|folder| fs::write(folder.join("missing"), "").expect("made")));
        assert!(is_noticed(|folder| fs::remove_file(folder.join("file")).expect("removed")));
        // As long as before, and with its time: only that it is another file tells.
        assert!(is_noticed(|folder| {
            let (new, time) = (folder.join("new"), kept(folder).expect("a time"));
            fs::write(&new, "behind").expect("a file");
            fs::File::options().write(true).open(&new).and_then(|file| file.set_modified(time)).expect("set");
            fs::rename(new, folder.join("file")).expect("renamed");
        }));
        assert!(!is_noticed(|folder| fs::write(folder.join("another"), "").expect("made")));
    }

    #[test]
    fn a_link_that_leads_elsewhere_by_now_is_a_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for version in ["one", "two"] {
            fs::create_dir(at(version)).expect("a folder");
            fs::write(at(version).join("file"), version).expect("a file");
        }
        symlink("one", at("data")).expect("a link");
        symlink("data/file", at("file")).expect("a link");
        let mut files = Files::default();
        assert!(files.note(&at("file")));
        symlink("two", at("next")).expect("a link");
        fs::rename(at("next"), at("data")).expect("renamed");
        assert_eq!(files.now().unlike(&files).collect::<Vec<_>>(), [at("file")]);
    }
}
