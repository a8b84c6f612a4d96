// What the edge says of the visitor, and what the SDK keeps in localStorage, are one identity: what the edge has
// handed over is taken away again where it does not say so any more.
// The SDK reads ids from there before it makes any: no event is needed to tell it. It takes values in its own form
// alone: base64 of the UTF-8 of their JSON.
// `edge`: c when the edge says who the visitor is, a anonymous id, m it was minted just now, u user id, e when an identity
// has ended here, t all client traits (absent: not known).
function stored(name) {
  try {
    var text = localStorage.getItem(name);
    // The SDK writes it as JSON once more, and reads it either way.
    if (text.charAt(0) === '"') text = JSON.parse(text);
    if (text.indexOf("RS_ENC_v3_") === 0) text = decodeURIComponent(escape(atob(text.slice(10))));
    return JSON.parse(text);
  } catch (error) { return null; }
}
function store(name, value) {
  try {
    if (value === undefined) localStorage.removeItem(name);
    else localStorage.setItem(name, "RS_ENC_v3_" + btoa(unescape(encodeURIComponent(JSON.stringify(value)))));
  } catch (error) {}
}
// The identity ends here: pages that were made before say nothing any more, and the next one may be asked for before the
// edge hears of it.
var began = Date.now();
function mark() {
  if (!edge.c) return;
  store("doorstep_rudderstack", { e: (stored("doorstep_rudderstack") || {}).e, c: edge.c + Date.now() - began });
  try {
    document.cookie = "doorstep_reset=1; path=/; max-age=30; samesite=lax" + (location.protocol === "https:" ? "; secure" : "");
  } catch (error) {}
}
var before = stored("doorstep_rudderstack");
if (!before || !Array.isArray(before.t || [])) before = {};
// A page that the browser shows again as it has kept it says nothing new: it is older than what is known here. Unless an
// identity has ended since, or the clock of who said that was wrong by a day.
var old = edge.c && before.c >= edge.c && before.c < edge.c + 864e5 && !(edge.e > (before.e || 0));
if (!old) {
  var user = stored("rl_user_id");
  var over = edge.c && edge.e > (before.e || 0);
  // A user whom the SDK knows and the edge does not is one whose event is still on its way.
  var gone = edge.c && user && user !== edge.u && (edge.u || over || user === before.u);
  if (gone || over) {
    ["rl_user_id", "rl_trait", "rl_group_id", "rl_group_trait"].forEach(function (name) { store(name); });
  }
  // An id that the browser has kept is older than one minted just now.
  if (edge.a && (over || !edge.m || !stored("rl_anonymous_id"))) store("rl_anonymous_id", edge.a);
  else if (over) store("rl_anonymous_id");
  if (edge.u) store("rl_user_id", edge.u);
  var names = edge.t ? Object.keys(edge.t) : gone || over ? [] : before.t || [];
  if (edge.t && (names.length || before.t)) {
    var traits = stored("rl_trait") || {};
    if (typeof traits !== "object") traits = {};
    (before.t || []).forEach(function (name) { delete traits[name]; });
    names.forEach(function (name) { traits[name] = edge.t[name]; });
    store("rl_trait", traits);
  }
  var now = { u: edge.c ? edge.u : before.u, e: edge.e || before.e, t: names.length ? names : undefined, c: edge.c || before.c };
  if (JSON.stringify(now) !== JSON.stringify(before)) store("doorstep_rudderstack", now);
}
