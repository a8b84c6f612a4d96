//! The ids that an event names, in the one form that vendors take and that cookies, links and deletions
//! compare: text. What is no id is left out.

use serde_json::value::{RawValue, to_raw_value};

use crate::collect::Object;
use crate::identity::{IdError, UserId, as_id};

/// Whom an event names as its user.
pub(super) enum Named {
    /// Nobody: nothing, `null`, or what a script writes that knows nobody.
    Nobody,
    /// This user.
    User(UserId),
    /// Somebody, by what can be no id: nobody else must be taken for that user.
    Unreadable,
}

/// Ids of an event that stand beside its user's.
const OTHERS: [&str; 3] = ["anonymousId", "previousId", "groupId"];
/// Lists of more ids, in Segment's and in RudderStack's context.
const EXTERNAL: [&str; 2] = ["externalIds", "externalId"];

/// Makes all ids of `event` text. Tells whom it names as its user.
pub(super) fn settle(event: &mut Object) -> Named {
    for name in OTHERS {
        settle_one(event, name);
    }
    settle_one(event, "userId")
}

/// Makes all ids of an event's context text.
pub(super) fn settle_context(context: &mut Object) {
    settle_one(context, "groupId");
    for name in EXTERNAL {
        let list = context.list(name);
        if list.is_empty() {
            continue;
        }
        let settled = list.into_iter().map(|mut id| {
            settle_one(&mut id, "id");
            id
        });
        if let Ok(list) = to_raw_value(&settled.collect::<Vec<_>>()) {
            context.set(name, list);
        }
    }
}

fn settle_one(object: &mut Object, name: &str) -> Named {
    let Some(raw) = object.get(name).filter(|raw| raw.get() != "null") else {
        return Named::Nobody;
    };
    match as_id(raw).map(|text| UserId::parse(&text)) {
        Some(Ok(id)) => {
            if !is_text(raw) {
                object.set_text(name, id.as_str());
            }
            Named::User(id)
        }
        // RudderStack's SDK writes an empty one where nobody is known.
        Some(Err(IdError::Empty)) => Named::Nobody,
        Some(Err(IdError::Placeholder)) => {
            object.remove(name);
            Named::Nobody
        }
        Some(Err(IdError::TooLong(_) | IdError::Control)) | None => {
            object.remove(name);
            Named::Unreadable
        }
    }
}

fn is_text(raw: &RawValue) -> bool {
    raw.get().starts_with('"')
}
