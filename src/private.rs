//! Files and folders of the service alone, whatever the umask. What root makes in the service's folder, by a tool
//! beside it, belongs to whom the folder belongs: the service could not read it otherwise.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

const FILE: u32 = 0o600;
const FOLDER: u32 = 0o700;
const OTHERS: u32 = 0o077;

/// Opens a file of the service's folder. One that is made is private, and so is one that was not before.
///
/// # Errors
/// The disk's.
pub fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.mode(FILE).open(path)?;
    hide(&file)?;
    give(&file, path)?;
    Ok(file)
}

/// Makes a file that is written anew, for whoever asks.
///
/// # Errors
/// The disk's.
pub fn create(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(true).mode(FILE).open(path)?;
    hide(&file)?;
    Ok(file)
}

/// Makes a folder, with those that it is in, where it is missing.
///
/// # Errors
/// The disk's.
pub fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_folder(parent)?;
    }
    match DirBuilder::new().mode(FOLDER).create(path) {
        Ok(()) => give(&File::open(path)?, path),
        // Somebody else was faster.
        Err(_) if path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// An older version, or another program, may have made it for all to read.
fn hide(file: &File) -> io::Result<()> {
    let about = file.metadata()?;
    let own = about.uid() == rustix::process::geteuid().as_raw();
    if about.is_file() && own && about.mode() & OTHERS != 0 {
        file.set_permissions(PermissionsExt::from_mode(FILE))?;
    }
    Ok(())
}

fn give(file: &File, path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent().filter(|_| rustix::process::geteuid().is_root()) else {
        return Ok(());
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let owner = std::fs::metadata(folder)?;
    if file.metadata()?.uid() != owner.uid() {
        fchown(file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}
