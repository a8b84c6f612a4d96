// What stands before the SDK where the edge does not see the page, on a host of its own below the site's
// domain: the ids that HttpOnly cookies hide from scripts. The page's own snippet names the edge's host in
// its load options.
// `edge` is made for each visitor: b URL below which our routes are, a anonymous id, m it was minted
// now, u user id, t client traits.
(function (edge) {
  function stored(name) {
    try { return localStorage.getItem(name); } catch (error) { return null; }
  }
  // The SDK takes values in its own form alone: base64 of the UTF-8 of their JSON.
  function store(name, value) {
    var json = unescape(encodeURIComponent(JSON.stringify(value)));
    try { localStorage.setItem(name, "RS_ENC_v3_" + btoa(json)); } catch (error) {}
  }
  if (edge.a && !(edge.m && stored("rl_anonymous_id"))) store("rl_anonymous_id", edge.a);
  if (edge.u) store("rl_user_id", edge.u);
  if (edge.t) store("rl_trait", edge.t);
})
