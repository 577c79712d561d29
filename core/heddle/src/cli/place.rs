//! Where an export is written: beside its place, and renamed when it is complete.

use std::path::{Path, PathBuf};

use super::exit::Failure;

/// A folder that appears when it is complete.
pub struct Place {
    wanted: PathBuf,
    making: tempfile::TempDir,
}

impl Place {
    /// Starts writing beside `wanted`, which must not exist, or be empty.
    pub fn of(wanted: &Path) -> Result<Self, Failure> {
        let io = |what: &str| Failure::io(format!("{what} {}", wanted.display()));
        match std::fs::read_dir(wanted) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    let message = format!("`{}` is not empty; nothing was written", wanted.display());
                    return Err(Failure::Other(message));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(io("looking into")(error)),
        }
        let above = match wanted.parent() {
            Some(above) if !above.as_os_str().is_empty() => above,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(above).map_err(io("making the folder above"))?;
        let making =
            tempfile::Builder::new().prefix(".heddle-export-").tempdir_in(above).map_err(io("writing"))?;
        Ok(Self { wanted: wanted.to_owned(), making })
    }

    /// Where to write meanwhile.
    pub fn folder(&self) -> &Path {
        self.making.path()
    }

    /// Puts the complete folder in its place.
    pub fn publish(self) -> Result<(), Failure> {
        let io = || Failure::io(format!("making {}", self.wanted.display()));
        // An empty folder may stand there; it is replaced.
        if self.wanted.is_dir() {
            std::fs::remove_dir(&self.wanted).map_err(io())?;
        }
        let made = self.making.keep();
        #[cfg(unix)]
        {
            // A temporary folder is its owner's alone.
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o755)).map_err(io())?;
        }
        std::fs::rename(&made, &self.wanted).map_err(io())
    }
}
