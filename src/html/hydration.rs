//! Whether a framework makes a page anew in the browser, from data of its own.

use memchr::memmem;

/// What such pages can be known by.
const MARKS: [(&str, &str); 12] = [
    ("__NEXT_DATA__", "Next.js"),
    ("self.__next_f", "Next.js"),
    ("id=\"__next\"", "Next.js"),
    ("data-reactroot", "React"),
    ("hydrateRoot", "React"),
    ("window.__NUXT__", "Nuxt"),
    ("id=\"__NUXT_DATA__\"", "Nuxt"),
    ("data-server-rendered=\"true\"", "Vue"),
    ("data-v-app", "Vue"),
    ("ng-server-context", "Angular"),
    ("__sveltekit_", "SvelteKit"),
    ("astro-island", "Astro"),
];

/// The framework that will make `page` anew, as far as that is to see.
#[must_use]
pub fn framework(page: &[u8]) -> Option<&'static str> {
    let found = |(mark, _): &&(&str, &str)| memmem::find(page, mark.as_bytes()).is_some();
    MARKS.iter().find(found).map(|(_, name)| *name)
}
