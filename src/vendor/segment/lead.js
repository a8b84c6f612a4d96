// What stands before the SDK where the edge does not see the page, on a host of its own below the site's
// domain: the way to its parts, and the ids that HttpOnly cookies hide from scripts (identity.js, in front of this).
// `edge` is made for each visitor: b URL below which our routes are, and what identity.js says.
var analytics = window.analytics = window.analytics || [];
analytics._cdn = edge.b + "/assets";
if (analytics.on) analytics.on("reset", function () {
  if (window.fetch) fetch(edge.b + "/reset", { method: "POST", credentials: "include", keepalive: true });
});
