// What a page needs before the SDK has come: a queue of stubs as the vendor's own snippet has it
// (@rudderstack/analytics-js), plus the ids that HttpOnly cookies hide from scripts.
// `edge` is made for each page: k write key as browsers may know it, b path of our routes, p page
// call, c the edge keeps the identity cookies, a anonymous id, m it was minted for this page, u user id,
// t client traits, x variants by experiment.
// Lines that start with two slashes, and indents, are taken out when the site is loaded.
(function (edge) {
  if (edge.x) (window.doorstep = window.doorstep || {}).experiments = edge.x;
  var sdk = window.rudderanalytics = window.rudderanalytics || [];
  if (sdk.snippetExecuted || !Array.isArray(sdk)) {
    if (window.console && console.error) console.error("RudderStack snippet included twice.");
    return;
  }
  sdk.snippetExecuted = true;
  var base = location.protocol + "//" + location.host + edge.b;
  function tell() {
    if (window.fetch) fetch(base + "/reset", { method: "POST", credentials: "same-origin", keepalive: true });
  }
  ["setDefaultInstanceKey", "load", "ready", "page", "track", "identify", "alias", "group", "reset",
    "setAnonymousId", "startSession", "endSession", "consent", "addCustomIntegration",
    "setCustomContext", "clearCustomContext", "setAuthToken"].forEach(function (method) {
    sdk[method] = function () {
      if (method === "reset") tell();
      if (Array.isArray(window.rudderanalytics)) {
        sdk.push([method].concat(Array.prototype.slice.call(arguments)));
      } else if (window.rudderanalytics[method]) {
        window.rudderanalytics[method].apply(window.rudderanalytics, arguments);
      }
    };
  });
  // The SDK reads ids from its storage before it makes any: no event is needed to tell it. It takes
  // values in its own form alone: base64 of the UTF-8 of their JSON.
  function stored(name) {
    try { return localStorage.getItem(name); } catch (error) { return null; }
  }
  function store(name, value) {
    var json = unescape(encodeURIComponent(JSON.stringify(value)));
    try { localStorage.setItem(name, "RS_ENC_v3_" + btoa(json)); } catch (error) {}
  }
  // An id that the browser has kept is older than one minted for this page.
  if (edge.a && !(edge.m && stored("rl_anonymous_id"))) store("rl_anonymous_id", edge.a);
  if (edge.u) store("rl_user_id", edge.u);
  if (edge.t) store("rl_trait", edge.t);
  var options = {
    configUrl: base,
    pluginsSDKBaseURL: base + "/v3/modern/plugins",
    destSDKBaseURL: base + "/v3/modern/js-integrations",
    dataServiceEndpoint: base + "/rsaRequest"
  };
  // The edge keeps the identity cookies: the SDK must not write readable ones beside them.
  if (edge.c) options.storage = { type: "localStorage" };
  else options.useServerSideCookies = true;
  sdk.load(edge.k, base, options);
  sdk.ready(function () {
    var own = window.rudderanalytics, reset = own.reset;
    own.reset = function () {
      tell();
      return reset.apply(own, arguments);
    };
  });
  if (edge.p) sdk.page();
  var own = document.currentScript;
  var nonce = own && (own.nonce || own.getAttribute("nonce"));
  var script = document.createElement("script");
  script.async = true;
  if (nonce) script.setAttribute("nonce", nonce);
  script.src = base + "/assets/rudder.js";
  document.head.appendChild(script);
})
