//! A temporary file or folder that is deleted after use.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A path in the temporary folder, at which nothing exists yet. Dropping the value deletes the file or folder at the path.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(std::env::temp_dir().join(format!("measure.{}", uuid::Uuid::new_v4())))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(if self.0.is_dir() { fs::remove_dir_all(&self.0) } else { fs::remove_file(&self.0) });
    }
}
