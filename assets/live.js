// Keeps a page up to date. When the page's stream says that something has changed, or every few seconds, the page is
// fetched again, and idiomorph changes only what differs. Nothing is loaded again, so whoever reads, types, or has
// opened something keeps their place. Without this script the page is correct too, but stands still.
(() => {
  const { stream, every } = document.body.dataset;
  if (!stream && !every) return;
  const PAUSE = 2000; // between two fetches, in milliseconds
  let fetching = false, wanted = false, left = false, last = 0;

  // What a person has begun stays as it is: a form that is filled in, a box that is ticked, what is open.
  const touched = (field) =>
    field === document.activeElement || (field.type === "file" ? field.value
      : field.type === "checkbox" || field.type === "radio" ? field.checked !== field.defaultChecked
      : field.tagName === "SELECT" ? [...field.options].some((option) => option.selected !== option.defaultSelected)
      : field.type !== "hidden" && field.defaultValue !== undefined && field.value !== field.defaultValue);
  const begun = (element) =>
    element.matches("dialog[open], :popover-open")
    || (element.matches("form") && [...element.elements].some(touched))
    || (element.matches("input, select, textarea") && touched(element));
  const callbacks = {
    beforeNodeMorphed: (old) => !(old instanceof Element && begun(old)),
    beforeNodeRemoved: (old) => !(old instanceof Element && (begun(old) || old.querySelector(":focus"))),
    beforeAttributeUpdated: (name, element) => !(name === "open" && element.matches("details")),
  };

  // Says that the page stands still, and offers to load it again.
  const stopped = (says) => {
    if (document.getElementById("live-notice")) return;
    const place = Object.assign(document.createElement("p"), { id: "live-notice", className: "notice" });
    place.setAttribute("role", "status");
    const again = Object.assign(document.createElement("a"), { href: location.href, textContent: "Load it again" });
    place.append(`${says} `, again);
    document.querySelector("main").prepend(place);
  };

  const update = async () => {
    wanted = true;
    if (fetching || left || document.hidden) return;
    fetching = true;
    await new Promise((done) => setTimeout(done, Math.max(0, last + PAUSE - Date.now())));
    wanted = false;
    last = Date.now();
    try {
      const answer = await fetch(location.href, { headers: { "photogate-live": "1" } });
      if (answer.redirected) stopped("You have been logged out.");
      else if (answer.ok && !left) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        Idiomorph.morph(document.querySelector("main"), page.querySelector("main"), { ignoreActiveValue: true, callbacks });
      } else if (!left) stopped("Live updates have stopped.");
    } catch {
      stopped("Live updates have stopped.");
    }
    fetching = false;
    if (wanted) update();
  };

  // A form that is being sent has the last word.
  addEventListener("submit", () => { left = true; });
  addEventListener("pageshow", () => { left = false; });
  document.addEventListener("visibilitychange", update);
  if (every) setInterval(update, 1000 * every);
  if (!stream || !window.EventSource) return;
  const open = () => {
    const source = new EventSource(stream);
    source.addEventListener("standing", update);
    source.addEventListener("error", () => {
      if (source.readyState !== EventSource.CLOSED) return;
      stopped("Live updates have stopped.");
      setTimeout(open, 30000);
    });
  };
  open();
})();
