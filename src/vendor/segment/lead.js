// What stands before the SDK where the edge does not see the page, on a host of its own below the site's
// domain: the way to its parts, and the ids that HttpOnly cookies hide from scripts.
// `edge` is made for each visitor: b URL below which our routes are, a anonymous id, m it was minted
// now, u user id, t client traits.
(function (edge) {
  var analytics = window.analytics = window.analytics || [];
  analytics._cdn = edge.b + "/assets";
  function stored(name) {
    try { return localStorage.getItem(name); } catch (error) { return null; }
  }
  function store(name, value) {
    try { localStorage.setItem(name, JSON.stringify(value)); } catch (error) {}
  }
  // An id that the browser has kept is older than one minted now.
  if (edge.a && !(edge.m && stored("ajs_anonymous_id"))) store("ajs_anonymous_id", edge.a);
  if (edge.u) store("ajs_user_id", edge.u);
  if (edge.t) {
    var traits = {};
    try { traits = JSON.parse(stored("ajs_user_traits")) || {}; } catch (error) {}
    for (var name in edge.t) traits[name] = edge.t[name];
    store("ajs_user_traits", traits);
  }
  if (analytics.on) analytics.on("reset", function () {
    if (window.fetch) fetch(edge.b + "/reset", { method: "POST", credentials: "include", keepalive: true });
  });
})
