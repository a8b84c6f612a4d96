//! Every label a metric can have that does not come from the configuration: closed lists.

/// Declares a closed list of label values, usable as the index of a table of counters.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$case_doc:meta])* $case:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$case_doc])* $case),+ }
        impl $name {
            /// All values, in the order of the declaration.
            pub const ALL: &'static [Self] = &[$(Self::$case),+];
            /// The value of the label.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$case => $text),+ }
            }
            /// The position in [`Self::ALL`].
            #[must_use]
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

labels! {
    /// A step that can be lost without losing the request.
    Feature {
        /// Reading ids and writing cookies.
        Identity = "identity",
        /// Choosing the page.
        Decision = "decision",
        /// The snippet in a page.
        Rewriting = "rewriting",
        /// A file of the SDK.
        Asset = "asset",
        /// Reading an event.
        Event = "event",
        /// Sending events to a vendor.
        Delivery = "delivery",
        /// Anything else in a request.
        Request = "request",
    }
}
labels! {
    /// What kind of thing a request asks for.
    RouteName {
        /// The site itself.
        Page = "page",
        /// A file of the SDK.
        Asset = "asset",
        /// An event.
        Event = "event",
        /// A push of a profile.
        Webhook = "webhook",
        /// The visitor's own data: traits, snippet, reset.
        Visitor = "visitor",
        /// Nothing that exists, or refused before it was looked at.
        Other = "other",
    }
}
labels! {
    /// What became of a page's personalisation.
    Personalization {
        /// A variation or client traits were used.
        Personalized = "personalized",
        /// The page that was chosen failed: the visitor got the one that everybody gets.
        FellBack = "fell_back",
        /// There is a profile, no rule was true of it.
        Default = "default",
        /// Nobody is known.
        Anonymous = "anonymous",
        /// An id without a profile.
        Unknown = "unknown",
        /// The profile did not come in time, or its store failed.
        Late = "late",
        /// The visitor's consent forbids it.
        Denied = "denied",
        /// The site has no rules for this page.
        Off = "off",
    }
}
labels! {
    /// Where a profile was looked for.
    Tier {
        /// The memory of this process.
        Memory = "memory",
        /// The store behind it.
        Store = "store",
        /// The vendor's own API, for profiles that no store has.
        Source = "source",
    }
}
labels! {
    /// What a tier knew.
    ProfileResult {
        /// A profile.
        Hit = "hit",
        /// That there is none.
        Missing = "missing",
        /// Nothing: the next tier is asked.
        Miss = "miss",
        /// A profile older than it should be, because the next tier failed.
        Stale = "stale",
        /// It did not answer in time.
        Late = "late",
        /// It failed.
        Error = "error",
    }
}
labels! {
    /// What became of the snippet on an HTML page.
    Rewrite {
        /// It is in the page.
        Injected = "injected",
        /// It is in the page as a reference to a first-party file, as the page's CSP wants it.
        External = "external",
        /// The page has the vendor's snippet already.
        Present = "present",
        /// The page's CSP allows neither form.
        Forbidden = "forbidden",
        /// The page has no place for it.
        NoPlace = "no_place",
        /// It is no page that may be changed: a part of one, a file of another type, or AMP.
        NoDocument = "no_document",
        /// Of an encoding or compression that can't be rewritten.
        Unreadable = "unreadable",
        /// The parser gave up; the page went on as it was.
        GaveUp = "gave_up",
        /// The origin's compressed page was broken.
        Broken = "broken",
    }
}
labels! {
    /// What became of the changes of a page's elements.
    Edits {
        /// Some elements were changed.
        Changed = "changed",
        /// No element was found.
        Nothing = "nothing",
        /// The parser gave up; the rest of the page went on as it was.
        GaveUp = "gave_up",
        /// Of an encoding or compression that can't be rewritten.
        Unreadable = "unreadable",
    }
}
labels! {
    /// How an event's way ended.
    EventEnd {
        /// The vendor took it.
        Delivered = "delivered",
        /// The vendor refused it for good.
        Refused = "refused",
        /// It was tried until its time was over.
        Expired = "expired",
    }
}
labels! {
    /// Why an event was not taken.
    EventRefusal {
        /// There is no room for it.
        Full = "full",
        /// Too many come at one time.
        Busy = "busy",
        /// The disk failed.
        Failed = "failed",
        /// Its sender sends too many.
        Rate = "rate",
        /// Its sender sends too many bytes.
        Bytes = "bytes",
        /// Its sender sends too many at one time.
        Open = "open",
        /// A page of another site sent it.
        Foreign = "foreign",
        /// It is not of a kind that is read.
        MediaType = "media_type",
        /// It is no event.
        Malformed = "malformed",
        /// It is larger than it may be.
        TooLarge = "too_large",
        /// It did not come in time.
        TooSlow = "too_slow",
        /// It did not come whole.
        Broken = "broken",
        /// The edge itself wanted to tell it.
        Edge = "edge",
    }
}
labels! {
    /// Why an event was answered and thrown away.
    EventDrop {
        /// The visitor's consent forbids it.
        Consent = "consent",
        /// No person sent it.
        Bot = "bot",
        /// What an SDK reports about itself, where too much of that waits.
        Report = "report",
    }
}
labels! {
    /// What the cache had of an SDK file.
    AssetLookup {
        /// A fresh copy.
        Hit = "hit",
        /// An old copy was served: it is being renewed, or the CDN failed.
        Stale = "stale",
        /// An old copy was renewed before the answer.
        Expired = "expired",
        /// Nothing.
        Miss = "miss",
        /// The cache was not asked.
        Bypass = "bypass",
    }
}
