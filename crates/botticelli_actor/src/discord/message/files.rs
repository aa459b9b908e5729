//! Files that come with a message.

use super::{File, FileData, Problem};
use std::io::Read;

/// How large files may be, in bytes. Servers with boosts allow more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLimits {
    /// One file.
    pub each: usize,
    /// All files of a message. Discord takes requests of 25 MiB; the rest of the message needs room too.
    pub together: usize,
}

impl Default for FileLimits {
    fn default() -> Self {
        const MIB: usize = 1 << 20;
        Self { each: 10 * MIB, together: 24 * MIB }
    }
}

/// A file with what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedFile {
    /// The name under which it is sent.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

impl File {
    /// The name with Discord's mark for spoilers.
    pub fn shown_name(&self) -> String {
        let mark = if self.spoiler { "SPOILER_" } else { "" };
        format!("{mark}{}", self.name)
    }
}

/// Reads what is in `files`. Blocks.
///
/// # Errors
/// When a file can't be read or is too large.
pub fn load(files: &[File], limits: FileLimits) -> Result<Vec<LoadedFile>, Problem> {
    let mut left = limits.together;
    let mut loaded = Vec::with_capacity(files.len());
    for (index, file) in files.iter().enumerate() {
        let problem = |reason| Problem { field: format!("files[{index}]"), reason };
        let bytes = read(file, limits.each.saturating_add(1)).map_err(problem)?;
        if bytes.len() > limits.each {
            let allowed = limits.each;
            return Err(problem(format!("{:?} is too large (allowed: {allowed} bytes)", file.name)));
        }
        left = left.checked_sub(bytes.len()).ok_or_else(|| {
            problem(format!("together the files are too large (allowed: {} bytes)", limits.together))
        })?;
        loaded.push(LoadedFile { name: file.shown_name(), bytes });
    }
    Ok(loaded)
}

fn read(file: &File, most: usize) -> Result<Vec<u8>, String> {
    match &file.data {
        FileData::Text(text) => Ok(text.as_bytes()[..text.len().min(most)].to_vec()),
        FileData::Path(path) => {
            let unreadable = |error| format!("can't read {}: {error}", path.display());
            let opened = crate::regular_file::open(path).map_err(unreadable)?;
            let mut bytes = Vec::new();
            opened.take(most as u64).read_to_end(&mut bytes).map_err(unreadable)?;
            Ok(bytes)
        }
    }
}
