// What the edge says of the visitor, and what the SDK keeps in localStorage, are one identity: what the edge has
// handed over is taken away again where it does not say so any more.
// The SDK reads ids from there before it asks anyone else: no event is needed to tell it.
// `edge`: c when the edge says who the visitor is, a anonymous id, m it was minted just now, u user id, e when an identity
// has ended here, t all client traits (absent: not known).
function stored(name) {
  var text = null;
  try {
    text = localStorage.getItem(name);
    return JSON.parse(text);
  } catch (error) {
    // The SDK takes what is no JSON as it is.
    return text;
  }
}
function store(name, value) {
  try {
    if (value === undefined) localStorage.removeItem(name);
    else localStorage.setItem(name, JSON.stringify(value));
  } catch (error) {}
}
function keeps() {
  try {
    localStorage.setItem("doorstep_probe", "1");
    localStorage.removeItem("doorstep_probe");
    return true;
  } catch (error) { return false; }
}
// The identity ends here: pages that were made before say nothing any more, and the next one may be asked for before the
// edge hears of it.
var began = Date.now();
function mark() {
  if (!edge.c) return;
  store("doorstep_segment", { e: (stored("doorstep_segment") || {}).e, c: edge.c + Date.now() - began });
  try {
    document.cookie = "doorstep_reset=1; path=/; max-age=30; samesite=lax" + (location.protocol === "https:" ? "; secure" : "");
  } catch (error) {}
}
var before = stored("doorstep_segment");
if (!before || !Array.isArray(before.t || [])) before = {};
// A page that the browser shows again as it has kept it says nothing new: it is older than what is known here. Unless an
// identity has ended since, or the clock of who said that was wrong by a day.
var old = edge.c && before.c >= edge.c && before.c < edge.c + 864e5 && !(edge.e > (before.e || 0));
if (!old) {
  var user = stored("ajs_user_id");
  var over = edge.c && edge.e > (before.e || 0);
  // A user whom the SDK knows and the edge does not is one whose event is still on its way.
  var gone = edge.c && user && user !== edge.u && (edge.u || over || user === before.u);
  if (gone || over) {
    ["ajs_user_id", "ajs_user_traits", "ajs_group_id", "ajs_group_properties"].forEach(function (name) { store(name); });
  }
  // An id that the browser has kept is older than one minted just now.
  if (edge.a && (over || !edge.m || !stored("ajs_anonymous_id"))) store("ajs_anonymous_id", edge.a);
  else if (over) store("ajs_anonymous_id");
  if (edge.u) store("ajs_user_id", edge.u);
  var names = edge.t ? Object.keys(edge.t) : gone || over ? [] : before.t || [];
  if (edge.t && (names.length || before.t)) {
    var traits = stored("ajs_user_traits") || {};
    if (typeof traits !== "object") traits = {};
    (before.t || []).forEach(function (name) { delete traits[name]; });
    names.forEach(function (name) { traits[name] = edge.t[name]; });
    store("ajs_user_traits", traits);
  }
  var now = { u: edge.c ? edge.u : before.u, e: edge.e || before.e, t: names.length ? names : undefined, c: edge.c || before.c };
  if (JSON.stringify(now) !== JSON.stringify(before)) store("doorstep_segment", now);
}
