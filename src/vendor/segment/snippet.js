// What a page needs before the SDK has come: the same queue of stubs as the vendor's snippet
// (@segment/snippet), plus the ids that HttpOnly cookies hide from scripts (identity.js, in front of this).
// `edge` is made for each page: k write key as browsers may know it, d path of the SDK where it has one of its own, b path of our routes, p page
// call, r another one when a page comes back as it was left, q links may not say who somebody is, x variants by experiment, s the page was fetched ahead and their sight is to be told, and what identity.js says.
// Lines that start with two slashes, and indents, are taken out when the site is loaded.
var doorstep = window.doorstep = window.doorstep || {};
doorstep.experiments = edge.x;
// Scripts have put another page into the same window: the SDK is here.
if (doorstep.segment) return;
doorstep.segment = true;
var analytics = window.analytics = window.analytics || [];
if (analytics.initialize) return;
if (analytics.invoked) {
  if (window.console && console.error) console.error("Segment snippet included twice.");
  return;
}
analytics.invoked = true;
analytics.methods = ["trackSubmit", "trackClick", "trackLink", "trackForm", "pageview", "identify",
  "reset", "group", "track", "ready", "alias", "debug", "page", "screen", "once", "off", "on",
  "addSourceMiddleware", "addIntegrationMiddleware", "setAnonymousId", "addDestinationMiddleware",
  "register"];
function tell() {
  mark();
  if (window.fetch) fetch(base + "/reset", { method: "POST", credentials: "same-origin", keepalive: true });
}
analytics.factory = function (method) {
  return function () {
    if (window.analytics.initialized) {
      return window.analytics[method].apply(window.analytics, arguments);
    }
    // The page may be left before the SDK has come.
    if (method === "reset") tell();
    var call = Array.prototype.slice.call(arguments);
    if (["track", "screen", "alias", "group", "page", "identify"].indexOf(method) > -1) {
      // Where the visitor is now: the SDK may come after the next navigation in the page.
      var canonical = document.querySelector("link[rel='canonical']");
      call.push({
        __t: "bpc",
        c: canonical && canonical.getAttribute("href") || undefined,
        p: location.pathname,
        u: location.href,
        s: location.search,
        t: document.title,
        r: document.referrer
      });
    }
    call.unshift(method);
    analytics.push(call);
    return analytics;
  };
};
for (var i = 0; i < analytics.methods.length; i++) {
  analytics[analytics.methods[i]] = analytics.factory(analytics.methods[i]);
}
var host = location.protocol + "//" + location.host;
var base = host + edge.b;
var own = document.currentScript;
var nonce = own && (own.nonce || own.getAttribute("nonce"));
analytics.load = function (key, options) {
  var script = document.createElement("script");
  script.async = true;
  script.setAttribute("data-global-segment-analytics-key", "analytics");
  if (nonce) script.setAttribute("nonce", nonce);
  script.src = edge.d ? host + edge.d : base + "/assets/sdk.js";
  var first = document.getElementsByTagName("script")[0];
  if (first) first.parentNode.insertBefore(script, first);
  else document.head.appendChild(script);
  analytics._loadOptions = options;
};
analytics._writeKey = edge.k;
analytics._cdn = base + "/assets";
analytics.SNIPPET_VERSION = "5.2.1";
var id = stored("ajs_anonymous_id") || !old && edge.a;
if (edge.a && id) analytics.setAnonymousId(id);
analytics.on("reset", tell);
var options = {};
// The edge keeps the identity cookies: the SDK must not write readable ones beside them.
// Nor keep an id of its own that another page has ended: memory is for where there is nothing else.
if (edge.c) options.storage = { stores: [keeps() ? "localStorage" : "memory"] };
if (edge.q) options.useQueryString = false;
analytics.load(edge.k, options);
// Of a page that was made ready ahead the edge hears which variants are seen once it is shown.
function shown() {
  if (window.fetch) fetch(base + "/seen", { method: "POST", credentials: "same-origin", keepalive: true, body: JSON.stringify(edge.x) });
}
if (edge.s && !doorstep.shown) {
  doorstep.shown = true;
  if (document.prerendering) document.addEventListener("prerenderingchange", shown, { once: true });
  else shown();
}
// A page that is made ready ahead is seen once it is shown.
function seen() { analytics.page(); }
if (edge.p && document.prerendering) document.addEventListener("prerenderingchange", seen, { once: true });
else if (edge.p) seen();
if (edge.p && edge.r) addEventListener("pageshow", function (event) { if (event.persisted) seen(); });
