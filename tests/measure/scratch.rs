//! A file or a folder for as long as somebody works with it.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A place among the temporary files, with nothing there yet; what is put there is gone when this is.
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
