// What a page needs before the SDK has come: a queue of stubs as the vendor's own snippet has it
// (@rudderstack/analytics-js), plus the ids that HttpOnly cookies hide from scripts (identity.js, in front of
// this).
// `edge` is made for each page: k write key as browsers may know it, b path of our routes, p page
// call, r another one when a page comes back as it was left, x variants by experiment, s the page was fetched ahead and their sight is to be told, and what identity.js says.
// Lines that start with two slashes, and indents, are taken out when the site is loaded.
var doorstep = window.doorstep = window.doorstep || {};
doorstep.experiments = edge.x;
// Scripts have put another page into the same window: the SDK is here.
if (doorstep.rudderstack) return;
doorstep.rudderstack = true;
var sdk = window.rudderanalytics = window.rudderanalytics || [];
if (sdk.snippetExecuted || !Array.isArray(sdk)) {
  if (window.console && console.error) console.error("RudderStack snippet included twice.");
  return;
}
sdk.snippetExecuted = true;
var base = location.protocol + "//" + location.host + edge.b;
function tell() {
  mark();
  if (window.fetch) fetch(base + "/reset", { method: "POST", credentials: "same-origin", keepalive: true });
}
["setDefaultInstanceKey", "load", "ready", "page", "track", "identify", "alias", "group", "reset",
  "setAnonymousId", "startSession", "endSession", "consent", "addCustomIntegration",
  "setCustomContext", "clearCustomContext", "setAuthToken"].forEach(function (method) {
  sdk[method] = function () {
    if (method === "reset") tell();
    if (Array.isArray(window.rudderanalytics)) {
      // The browser becomes another one: the SDK keeps its id otherwise.
      sdk.push(method === "reset" ? ["reset", true] : [method].concat(Array.prototype.slice.call(arguments)));
    } else if (window.rudderanalytics[method]) {
      window.rudderanalytics[method].apply(window.rudderanalytics, arguments);
    }
  };
});
var options = {
  configUrl: base,
  pluginsSDKBaseURL: base + "/v3/modern/plugins",
  destSDKBaseURL: base + "/v3/modern/js-integrations",
  dataServiceEndpoint: base + "/rsaRequest"
};
// Ids in a link are no login: the SDK has no option to pass over them.
if (edge.q && /[?&]ajs_/.test(location.search)) {
  var query = location.search.slice(1).split("&").filter(function (pair) { return pair.indexOf("ajs_"); }).join("&");
  try {
    history.replaceState(history.state, "", location.pathname + (query && "?" + query) + location.hash);
  } catch (e) {}
}
// The edge keeps the identity cookies: the SDK must not write readable ones beside them.
if (edge.c) options.storage = { type: "localStorage" };
else options.useServerSideCookies = true;
sdk.load(edge.k, base, options);
sdk.ready(function () {
  var own = window.rudderanalytics, reset = own.reset;
  own.reset = function () {
    tell();
    return reset.call(own, true);
  };
});
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
function seen() { sdk.page(); }
if (edge.p && document.prerendering) document.addEventListener("prerenderingchange", seen, { once: true });
else if (edge.p) seen();
if (edge.p && edge.r) addEventListener("pageshow", function (event) { if (event.persisted) seen(); });
var own = document.currentScript;
var nonce = own && (own.nonce || own.getAttribute("nonce"));
var script = document.createElement("script");
script.async = true;
if (nonce) script.setAttribute("nonce", nonce);
script.src = base + "/assets/rudder.js";
document.head.appendChild(script);
