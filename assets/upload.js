// Uploads the photos that a person chooses or drops, a few at a time. A photo that the event has already is passed over; a
// lost connection is waited for. Without this script, the form sends them all at once.
(() => {
  const form = document.getElementById("upload");
  if (!form) return;
  const AT_ONCE = 3;
  const field = form.querySelector("input[type=file]");
  const place = document.getElementById("upload-state");
  const [state, bar, list, again] = ["[role=status]", "progress", "ul", "button"].map((css) => place.querySelector(css));
  const number = new Intl.NumberFormat("en-US");
  const most = Number(form.dataset.most);
  let files = [];
  let running = 0;
  let lost = false;

  field.required = false;
  form.querySelector("button[type=submit]").hidden = true;
  for (const part of form.querySelectorAll("[data-with-script]")) part.hidden = false;

  const pause = (seconds) => new Promise((go) => setTimeout(go, seconds * 1000));
  const address = (file) => form.dataset.files + encodeURIComponent(file.name);
  const count = (...states) => files.filter((one) => states.includes(one.state)).length;

  const draw = () => {
    const done = count("new", "known");
    const failed = files.filter((one) => one.state === "failed");
    const sum = (part) => files.reduce((all, one) => all + part(one), 0);
    place.hidden = false;
    bar.max = Math.max(sum((one) => one.file.size), 1);
    bar.value = sum((one) => (["new", "known", "failed"].includes(one.state) ? one.file.size : one.sent));
    const parts = [`${number.format(done)} of ${number.format(files.length)} photos are uploaded`];
    if (count("known")) parts.push(`${number.format(count("known"))} of them were there before`);
    if (failed.length) parts.push(`${number.format(failed.length)} were not uploaded`);
    const says = `${parts.join(", ")}.${lost ? " The connection is lost: it goes on by itself when it is back." : ""}`;
    if (state.textContent !== says) state.textContent = says;
    again.hidden = running > 0 || !failed.some((one) => one.retry);
    list.replaceChildren(...failed.slice(0, 100).map((one) => {
      const row = document.createElement("li");
      const name = document.createElement("b");
      name.textContent = one.file.name;
      row.append(name, `: ${one.why}`);
      return row;
    }));
  };

  const hash = async (file) => {
    // Browsers have this on HTTPS and on this machine only. Without it, the service compares.
    if (!window.crypto || !crypto.subtle) return null;
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
    return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  };

  // True if the event has this file. Whatever is not sure is sent: the service looks at it again.
  const isThere = async (file) => {
    const answer = await fetch(address(file), { redirect: "error" });
    if (!answer.ok) return false;
    const there = await answer.json();
    return there.bytes === file.size && there.sha256 !== null && there.sha256 === (await hash(file));
  };

  // XMLHttpRequest, because fetch does not tell how much is sent.
  const send = (one) =>
    new Promise((done) => {
      const request = new XMLHttpRequest();
      request.open("PUT", address(one.file));
      request.setRequestHeader("Content-Type", "application/octet-stream");
      request.setRequestHeader("X-Form-Key", form.elements.form_key.value);
      request.upload.onprogress = (event) => {
        one.sent = Math.min(event.loaded, one.file.size);
        draw();
      };
      request.onload = () => {
        let problem = {};
        try { problem = JSON.parse(request.responseText); } catch { /* A proxy may answer otherwise. */ }
        done({ status: request.status, problem, after: Number(request.getResponseHeader("Retry-After")) });
      };
      request.onerror = request.onabort = request.ontimeout = () => done({ status: 0 });
      request.send(one.file);
    });

  const fail = (one, why, retry) => Object.assign(one, { state: "failed", why, retry });

  const upload = async (one) => {
    one.state = "sending";
    if (one.file.size === 0) return fail(one, "the file is empty, or a folder: choose the photos in it", false);
    if (one.file.size > most) return fail(one, `the file is larger than ${most / 1048576} MiB`, false);
    for (let tries = 0; ; tries += 1) {
      one.sent = 0;
      let answer = { status: 0 };
      try {
        if (await isThere(one.file)) return (one.state = "known");
        await one.file.slice(0, 1).arrayBuffer();
      } catch (error) {
        if (error.name === "NotReadableError" || error.name === "NotFoundError") return fail(one, "the file cannot be read any more: choose it again", false);
      }
      answer = await send(one);
      if (answer.status === 201) return (one.state = "new");
      if (answer.status === 200) return (one.state = "known");
      const detail = answer.problem?.detail || `the service answered ${answer.status}`;
      if (answer.status === 401) return fail(one, "you are logged out: log in in another window, and try again", true);
      const passes = answer.status === 0 || answer.status === 408 || answer.status === 429 || answer.status >= 500;
      if (!passes) return fail(one, detail, answer.status === 403);
      // A service that answers is not waited for without end; a connection is.
      if (answer.status !== 0 && tries >= 8) return fail(one, detail, true);
      lost = answer.status === 0;
      draw();
      await pause(answer.after || Math.min(2 ** tries, 20));
      lost = false;
    }
  };

  const leaves = (event) => event.preventDefault();

  const show = async () => {
    // What comes next is on the page of the service.
    const answer = await fetch(location.pathname, { redirect: "error" });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const after = page.getElementById("after");
    if (after) document.getElementById("after").replaceWith(document.adoptNode(after));
  };

  const work = async () => {
    running += 1;
    if (running === 1) window.addEventListener("beforeunload", leaves);
    for (let one = files.find((one) => one.state === "waiting"); one; one = files.find((one) => one.state === "waiting")) {
      try {
        await upload(one);
      } catch {
        fail(one, "it was not uploaded", true);
      }
      draw();
    }
    running -= 1;
    if (running > 0) return;
    window.removeEventListener("beforeunload", leaves);
    draw();
    try { await show(); } catch { /* The link to the event is there in any case. */ }
  };

  const begin = () => {
    draw();
    while (running < AT_ONCE && running < count("waiting", "sending")) work();
  };

  const add = (chosen) => {
    const known = new Set(files.filter((one) => one.state !== "failed").map((one) => `${one.file.name}/${one.file.size}`));
    if (running === 0) files = [];
    for (const file of chosen) {
      if (running > 0 && known.has(`${file.name}/${file.size}`)) continue;
      files.push({ file, state: "waiting", sent: 0 });
    }
    begin();
  };

  field.addEventListener("change", () => {
    add([...field.files]);
    field.value = "";
  });
  again.addEventListener("click", () => {
    for (const one of files) if (one.state === "failed" && one.retry) one.state = "waiting";
    begin();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const kind of ["dragenter", "dragover"]) form.addEventListener(kind, (event) => { event.preventDefault(); form.classList.add("over"); });
  for (const kind of ["dragleave", "drop"]) form.addEventListener(kind, () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    add([...event.dataTransfer.files]);
  });
})();
