//! Events that wait for a site or a vendor that the configuration does not name: nobody delivers them until it does.

use std::path::Path;

use super::{FOLDER, lanes, spool};
use crate::telemetry::metrics::EVENTS_STRANDED;

/// Says of which lanes below `data` events wait that no lane of `is_known` will deliver. Reads their files.
pub(super) fn tell(data: &Path, is_known: impl Fn(&str) -> bool) {
    let lanes = match lanes(data) {
        Ok(lanes) => lanes,
        Err(error) => {
            return tracing::error!(%error, "the folders of events can't be looked through");
        }
    };
    let mut stranded = 0;
    for lane in lanes.iter().filter(|lane| !is_known(lane)) {
        match spool::status(&data.join(FOLDER).join(lane)) {
            Ok(waiting) if waiting.events > 0 => {
                let (events, oldest) = (waiting.events, waiting.oldest);
                tracing::warn!(
                    lane,
                    events,
                    oldest,
                    "events wait for a site or vendor that is not configured: name it again, or `doorstep events purge`"
                );
                stranded += events;
            }
            Ok(_) => {}
            Err(error) => tracing::error!(lane, %error, "events can't be read"),
        }
    }
    EVENTS_STRANDED.set(i64::try_from(stranded).unwrap_or(i64::MAX));
}
