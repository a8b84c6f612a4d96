//! The operator's address as the node that runs has it, kept beside its data: the configuration file may name another
//! one already, which is to be taken yet.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;

use crate::private;

/// In `data.path`.
const FILE: &str = "admin";
const NEW_FILE: &str = "admin.new";

/// Says that `address` is the operator's, of the node with its data in `data`.
pub(super) fn tell(data: &Path, address: SocketAddr) {
    let write = || -> io::Result<()> {
        let new = data.join(NEW_FILE);
        private::create(&new)?.write_all(address.to_string().as_bytes())?;
        fs::rename(new, data.join(FILE))
    };
    if let Err(error) = write() {
        tracing::warn!(%error, "`doorstep reload` asks the address that the file says: this one can't be kept");
    }
}

/// The node ends, and none follows it.
pub(super) fn forget(data: &Path) {
    // Where it is left, nobody answers there.
    let _ = fs::remove_file(data.join(FILE));
}

/// The operator's address of the node that has its data in `data`, where one runs, or has crashed.
#[must_use]
pub fn running_admin_address(data: &Path) -> Option<SocketAddr> {
    fs::read_to_string(data.join(FILE)).ok()?.parse().ok()
}
