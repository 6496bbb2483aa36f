//! Writes files whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::Context;

/// Replaces a file. A reader sees the whole new content, or what was there before.
pub(super) fn write_whole(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let write = || {
        let unfinished = path.with_extension("new");
        let mut file = File::create(&unfinished)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
