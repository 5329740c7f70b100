//! Writes a policy file whole or not at all: a proxy that reads it at that moment sees the old text or the new one.

use std::io::Write as _;

use super::PolicyFile;
use crate::failure::Failure;

impl PolicyFile {
    /// Puts `text` in the file's place, with its permissions. A link stays a link. A file that somebody else changed
    /// since it was read is left alone.
    pub(crate) fn replace(&self, text: &str) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::file("write", &self.path, error);
        // What a link leads to is replaced, not the link.
        let path = std::fs::canonicalize(&self.path).map_err(failed)?;
        let folder = path.parent().ok_or_else(|| Failure::file("write", &self.path, "it is a folder"))?;
        let mut file = tempfile::Builder::new().prefix(".tidegate-").tempfile_in(folder).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        let permissions = std::fs::metadata(&path).map_err(failed)?.permissions();
        file.as_file().set_permissions(permissions).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        if std::fs::read(&path).map_err(failed)? != self.text.as_bytes() {
            return Err(Failure::file("write", &self.path, "it was changed meanwhile; try again"));
        }
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}
