//! Deleting a person reaches what waits for a vendor, and what no vendor has taken.

use std::io;
use std::path::Path;

use super::{DeadLetters, Event, FOLDER, Person, spool};

/// Erases what waits of `person` for any vendor of `site`, below `data`, and what is put aside. Tells how
/// many events that were. Waits for the disk.
///
/// # Errors
/// The disk's.
pub fn forget(data: &Path, site: &str, person: &Person) -> io::Result<usize> {
    let mut erased = 0;
    for lane in lanes(data)? {
        let (name, folder) = (&lane, data.join(FOLDER).join(&lane));
        if name.split_once('.').is_none_or(|(of, _)| of != site) {
            continue;
        }
        // What a vendor refuses meanwhile is put aside first and looked for in the spool then
        // (`Delivery`): in this order none of it is missed.
        erased += spool::erase(&folder, |event: &Event| person.is_in(&event.parcel, event.at))?;
        let dead = DeadLetters::new(&folder, 0);
        erased += dead.erase(|letter| {
            let is_in = |parcel| person.is_in(&parcel, letter.accepted);
            letter.parcel().is_some_and(is_in)
        })?;
        dead.erase_torn()?;
    }
    Ok(erased)
}

/// The names of all lanes that have a folder below `data`.
///
/// # Errors
/// The disk's.
pub fn lanes(data: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(data.join(FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.contains('.'))
        .collect();
    names.sort();
    Ok(names)
}
