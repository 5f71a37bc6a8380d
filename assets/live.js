// Updates live numbers on a page. An element with data-live shows the value of that name: of the queue whose section it is in,
// or of the organisation. Without this script the page is correct too, but changes only when it is loaded again.
(() => {
  const source = document.querySelector("[data-stream]");
  if (!source || !window.EventSource) return;
  const number = new Intl.NumberFormat("en-US");
  const show = (within, name, text) => {
    for (const place of within.querySelectorAll(`[data-live="${name}"]`)) {
      if (place.textContent === text) continue;
      place.textContent = text;
      place.classList.remove("changed");
      void place.offsetWidth;
      place.classList.add("changed");
    }
  };
  // Shows one notice at the top: the page is out of date, or live updates have stopped.
  const notice = (says) => {
    const known = document.getElementById("live-notice");
    const place = known || document.createElement("p");
    place.id = "live-notice";
    place.className = "notice";
    place.setAttribute("role", "status");
    place.textContent = `${says} `;
    const again = document.createElement("a");
    again.href = location.href;
    again.textContent = "Load it again";
    place.append(again);
    if (!known) document.querySelector("main").prepend(place);
  };
  // The page is not reloaded while a person fills in a form.
  const busy = () =>
    document.querySelector("details[open] form") ||
    [...document.querySelectorAll("input, textarea, select")].some((field) => field === document.activeElement || (field.type === "file" && field.value));
  const stands = document.querySelector("[data-states]");
  const queue = (now) => {
    const part = document.querySelector(`[data-queue="${now.operation}"]`);
    if (!part) return;
    const stopped = ["no_credits", "budget", "held"].includes(now.state);
    const done = now.processed + now.undecided + now.duplicates + now.failed;
    const total = done + now.in_progress + now.waiting + now.following;
    const values = {
      total, processed: now.processed, failed: now.failed, in_progress: now.in_progress, undecided: now.undecided,
      duplicates: now.duplicates, following: now.following,
      paused: stopped ? now.waiting : 0, pending: stopped ? 0 : now.waiting,
    };
    for (const [name, value] of Object.entries(values)) show(part, name, number.format(value));
    show(part, "percent", `${total ? Math.floor((100 * done) / total) : 0} %`);
    const bar = part.querySelector("progress[data-live-done]");
    bar.max = Math.max(total, 1);
    bar.value = done;
    const left = !stopped && now.waiting && now.eta_seconds ? now.eta_seconds : 0;
    const words = left < 60 ? "less than a minute" : left < 3600 ? `about ${Math.round(left / 60)} min` : `about ${Math.floor(left / 3600)} h ${Math.round((left % 3600) / 60)} min`;
    const after = now.waiting - now.funded;
    part.querySelector("[data-eta]").textContent = left ? `${words} left${after > 0 ? ` with the available credits; then ${number.format(after)} photos will wait` : ""}` : "";
  };
  const open = () => {
    const stream = new EventSource(source.dataset.stream);
    stream.addEventListener("standing", (message) => {
      const { credits, queues } = JSON.parse(message.data);
      show(document, "available", number.format(credits.available));
      show(document, "reserved", number.format(credits.reserved));
      if (!stands) return;
      queues.forEach(queue);
      // Only the server renders why a queue is paused, so a new state needs a reload.
      if (queues.map((now) => now.state + (now.kept_back_by ?? "")).join() === stands.dataset.states) {
        document.getElementById("live-notice")?.remove();
        return;
      }
      if (busy()) notice("This page is out of date.");
      else location.reload();
    });
    stream.addEventListener("open", () => document.getElementById("live-notice")?.remove());
    stream.addEventListener("error", () => {
      if (stream.readyState !== EventSource.CLOSED) return;
      notice("Live updates have stopped.");
      setTimeout(open, 30000);
    });
  };
  open();
})();
