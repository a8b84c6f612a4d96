// Keeps what the edge has changed while a framework makes the page anew from data of its own.
// `edits` is a list of { s: selector, f: first only, c: changes }, and a change is a list: what, then with
// what. Runs before the page is drawn again, so that nothing flickers, and ends once the page is at rest.
// Lines that start with two slashes, and indents, are taken out when the program starts.
(function (edits) {
  if (!window.MutationObserver || !edits) return;
  var observer, timer, began = Date.now(), path = location.pathname;
  // Where scripts show another page in the same window, its edits take the place of these.
  var own = window.doorstep = window.doorstep || {};
  function stop() {
    clearTimeout(timer);
    if (observer) observer.disconnect();
  }
  if (own.stopKeeping) own.stopKeeping();
  own.stopKeeping = stop;
  // Text in these is no text: it would be run.
  var raw = /^(script|style|iframe|noembed|noframes|xmp|plaintext)$/i;
  function setText(node, text) {
    // The framework holds on to its text nodes: the text changes, the node stays.
    var only = node.childNodes.length === 1 && node.firstChild;
    if (only && only.nodeType === 3) { if (only.nodeValue !== text) only.nodeValue = text; }
    else if (node.textContent !== text) node.textContent = text;
  }
  var ways = {
    text: function (node, text) { setText(node, text); },
    html: function (node, html) {
      if (node.doorstepHtml !== html || node.innerHTML !== node.doorstepMade) {
        node.innerHTML = html;
        node.doorstepHtml = html;
        node.doorstepMade = node.innerHTML;
      }
    },
    set: function (node, name, value) {
      if (node.getAttribute(name) !== value) node.setAttribute(name, value);
    },
    unset: function (node, name) { if (node.hasAttribute(name)) node.removeAttribute(name); },
    add: function (node, name) { if (!node.classList.contains(name)) node.classList.add(name); },
    drop: function (node, name) { if (node.classList.contains(name)) node.classList.remove(name); },
    style: function (node, property, value, important) {
      if (node.doorstepStyle && node.doorstepStyle[property] === node.style.getPropertyValue(property) &&
        node.style.getPropertyValue(property)) return;
      node.style.setProperty(property, value, important);
      (node.doorstepStyle = node.doorstepStyle || {})[property] = node.style.getPropertyValue(property);
    }
  };
  function apply() {
    stop();
    if (location.pathname !== path) return;
    for (var i = 0; i < edits.length; i++) {
      var edit = edits[i], nodes = [];
      try { nodes = document.querySelectorAll(edit.s); } catch (error) {}
      for (var j = 0; j < nodes.length && !(edit.f && j); j++) {
        for (var k = 0; k < edit.c.length; k++) {
          var change = edit.c[k], isContent = change[0] === "text" || change[0] === "html";
          if (isContent && raw.test(nodes[j].localName)) continue;
          // One that the browser refuses costs no other.
          try { ways[change[0]](nodes[j], change[1], change[2], change[3]); } catch (error) {}
        }
      }
    }
    watch();
  }
  function watch() {
    stop();
    if (!observer) observer = new MutationObserver(apply);
    observer.observe(document.documentElement,
      { childList: true, subtree: true, characterData: true, attributes: true });
    // At rest for three seconds after it has loaded, or half a minute later whatever happens.
    timer = setTimeout(function () {
      if (document.readyState === "complete" || Date.now() - began > 30000) stop();
      else watch();
    }, Date.now() - began > 30000 ? 0 : 3000);
  }
  watch();
})
