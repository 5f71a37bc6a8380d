// Moves what is live on a page: everything with data-live shows the value of that name as it changes.
// Without this script the page is as true, and moves when it is loaded again.
(() => {
  const source = document.querySelector("[data-stream]");
  if (!source || !window.EventSource) return;
  const number = new Intl.NumberFormat("en-US");
  const sum = (queues, of) => queues.reduce((total, queue) => total + of(queue), 0);
  const show = (name, text) => {
    for (const place of document.querySelectorAll(`[data-live="${name}"]`)) {
      if (place.textContent === text) continue;
      place.textContent = text;
      place.classList.remove("changed");
      void place.offsetWidth;
      place.classList.add("changed");
    }
  };
  let paused = null;
  new EventSource(source.dataset.stream).addEventListener("standing", (message) => {
    const { credits, queues } = JSON.parse(message.data);
    show("available", number.format(credits.available));
    show("reserved", number.format(credits.reserved));
    const stopped = (queue) => queue.state === "no_credits" || queue.state === "held";
    const waits = sum(queues, (queue) => queue.waiting);
    const halted = sum(queues, (queue) => (stopped(queue) ? queue.waiting : 0));
    const values = {
      processed: sum(queues, (queue) => queue.processed),
      in_progress: sum(queues, (queue) => queue.in_progress),
      failed: sum(queues, (queue) => queue.failed),
      paused: halted,
      pending: waits - halted,
    };
    for (const [name, value] of Object.entries(values)) show(name, number.format(value));
    const done = values.processed + values.failed;
    const bar = document.querySelector("progress[data-live-done]");
    if (bar) {
      bar.max = Math.max(done + waits + values.in_progress, 1);
      bar.value = done;
    }
    // Why it is paused, and what to do, is told by the server.
    const now = queues.map((queue) => queue.state).join();
    if (paused !== null && paused !== now && document.querySelector("[data-reload]") && !document.querySelector("details[open]")) location.reload();
    paused = now;
  });
})();
