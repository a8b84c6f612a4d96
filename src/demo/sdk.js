// A stand-in for analytics.js, for the demonstration alone: the queue of the snippet, ids in
// localStorage, events in the form of the real one.
(function () {
  var queue = window.analytics, base = queue._cdn, key = queue._writeKey;
  function get(name) { try { return JSON.parse(localStorage.getItem(name)); } catch (e) { return null; } }
  function set(name, value) {
    if (value === null) localStorage.removeItem(name); else localStorage.setItem(name, JSON.stringify(value));
  }
  function id() {
    var own = get("ajs_anonymous_id");
    if (!own) set("ajs_anonymous_id", own = crypto.randomUUID ? crypto.randomUUID() : String(Math.random()).slice(2));
    return own;
  }
  var listeners = {};
  fetch(base + "/v1/projects/" + key + "/settings").then(function (r) { return r.json(); }).then(function (settings) {
    var own = settings.integrations["Segment.io"];
    function send(type, fields, done) {
      var event = Object.assign({
        type: type, messageId: "demo-" + Date.now() + "-" + Math.random(), timestamp: new Date().toISOString(),
        anonymousId: id(), userId: get("ajs_user_id"), writeKey: key,
        context: { library: { name: "demo", version: "1" }, page: { path: location.pathname, url: location.href, title: document.title } }
      }, fields);
      fetch(own.protocol + "://" + own.apiHost + "/" + type[0], {
        method: "POST", body: JSON.stringify(event), headers: { "Content-Type": "text/plain" }, keepalive: true
      }).finally(function () { if (done) done(); });
    }
    function last(args) { var f = args[args.length - 1]; return typeof f === "function" ? f : null; }
    var api = {
      page: function () { send("page", { properties: { path: location.pathname } }, last(arguments)); },
      track: function (name, properties) { send("track", { event: name, properties: properties || {} }, last(arguments)); },
      identify: function (user, traits) { set("ajs_user_id", user); send("identify", { userId: user, traits: traits || {} }, last(arguments)); },
      reset: function () {
        ["ajs_anonymous_id", "ajs_user_id", "ajs_user_traits"].forEach(function (name) { set(name, null); });
        (listeners.reset || []).forEach(function (f) { f(); });
      },
      on: function (name, f) { (listeners[name] = listeners[name] || []).push(f); },
      setAnonymousId: function (value) { set("ajs_anonymous_id", value); }
    };
    queue.initialized = true;
    queue.methods.forEach(function (name) { queue[name] = api[name] || function () {}; });
    queue.splice(0).filter(function (call) {
      if (call[0] !== "on") return true;
      api.on(call[1], call[2]);
    }).forEach(function (call) {
      var args = call.slice(1).filter(function (a) { return !(a && a.__t === "bpc"); });
      (api[call[0]] || function () {}).apply(null, args);
    });
  });
})();
