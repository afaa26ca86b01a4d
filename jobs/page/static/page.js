"use strict";
// The page of render jobs. All that comes from jobs is put in as text, never as markup.

const GROUPS = {
  All: [], Waiting: ["queued"], Running: ["running", "done"], Published: ["published"],
  Failed: ["failed", "dead", "expired"], Stopped: ["cancelled", "suspended"],
};
const VERBS = {
  cancel: { label: "Cancel", ask: "What has been rendered of it is thrown away.", states: ["queued", "running", "suspended"] },
  suspend: { label: "Suspend", ask: "It waits until it is resumed, and then begins anew.", states: ["queued", "running"] },
  resume: { label: "Resume", ask: "", states: ["suspended"] },
  retry: { label: "Retry", ask: "It is rendered anew, at the end of the queue.", states: ["failed", "dead", "cancelled", "expired"] },
};
const BUSY_MS = 2000, IDLE_MS = 5000, TROUBLE_MS = 30000, STEP = 50;

const $ = (id) => document.getElementById(id);
let limit = STEP, skew = 0, timer = 0, failures = 0, round = 0;
const rows = new Map();  // "tenant/id" → what is shown of it
let open = null;  // the job in the dialog: {key, data, timer, shown}

// ---------------------------------------------------------------- words

function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value; else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

function span(seconds) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"]];
  for (const [size, unit] of units) {
    if (seconds >= size) return `${Number((seconds / size).toPrecision(seconds / size < 10 ? 2 : 3))} ${unit}`;
  }
  return `${Math.max(0, Math.round(seconds))} s`;
}

const now = () => Date.now() / 1000 + skew;
const when = (at) => new Date(at * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
const nameOf = (job) => job.output.split("/").pop();
const keyOf = (job) => `${job.tenant}/${job.id}`;
const stateOf = (job) => (job.stopping ? "stopping" : job.state);

function remark(job) {
  if (job.state === "queued" && job.not_before > now()) {
    const fault = job.fault ? ` after ${job.fault.kind}: ${job.fault.what}` : "";
    return `again in ${span(job.not_before - now())}${fault}`.replace(/^again/, job.fault ? "again" : "starts");
  }
  if (job.silent) return "its worker is silent; another takes over";
  if (job.state === "queued" && job.priority) return `priority ${job.priority}`;
  return "";
}

// ---------------------------------------------------------------- talking to the server

async function call(path, options = {}) {
  let reply;
  try {
    reply = await fetch(path, { headers: { Accept: "application/json" }, cache: "no-store", ...options });
  } catch {
    throw { error: "the server does not answer", fix: "trying again" };
  }
  if (reply.status === 401) {
    location.href = "/login?next=/jobs";
    throw { error: "this needs a token", fix: "log in" };
  }
  const body = await reply.json().catch(() => ({}));
  if (!reply.ok) throw { error: body.error || `the server answered ${reply.status}`, fix: body.fix, id: body.request_id };
  return body;
}

function trouble(place, error, cause = "look") {
  if (!error && place.cause !== cause) return;  // what somebody did wrong is not answered by a look that went well
  place.hidden = !error;
  place.cause = cause;
  if (!error) return;
  const said = error.error || String(error);
  const id = error.id ? ` (request ${error.id})` : "";
  place.replaceChildren(el("strong", {}, said), error.fix ? ` — ${error.fix}` : "", el("span", { className: "small" }, id));
}

// ---------------------------------------------------------------- the table

function query() {
  const asked = new URLSearchParams({ limit });
  for (const state of GROUPS[group()]) asked.append("state", state);
  const words = [];
  for (const word of $("search").value.trim().split(/\s+/)) {
    if (/^[A-Za-z0-9][\w./-]*=./.test(word)) asked.append("label", word);
    else if (word) words.push(word);
  }
  if (words.length) asked.set("text", words.join(" "));
  if ($("tenant").value) asked.set("tenant", $("tenant").value);
  return asked;
}

const group = () => document.querySelector("#states :checked")?.value ?? "All";

async function refresh() {
  clearTimeout(timer);
  const mine = ++round;
  let pause = IDLE_MS;
  try {
    const table = await call(`/jobs/table?${query()}`);
    if (mine !== round) return;  // a later question has been asked
    skew = table.now - Date.now() / 1000;
    failures = 0;
    trouble($("trouble"), null);
    show(table);
    if (table.jobs.some((job) => ["queued", "running", "done"].includes(job.state))) pause = BUSY_MS;
  } catch (error) {
    if (mine !== round) return;
    trouble($("trouble"), error);
    pause = Math.min(TROUBLE_MS, BUSY_MS * 2 ** ++failures);
  }
  if (!document.hidden) timer = setTimeout(refresh, pause);
}

function show(table) {
  tenants(table);
  const waiting = table.waiting >= table.waiting_most ? `${table.waiting_most} or more` : table.waiting;
  text($("summary"), `${waiting} waiting · ${table.busy} of ${table.slots} slots busy · ${table.workers} workers`);
  const seen = new Set(), body = $("rows");
  table.jobs.forEach((job, place) => {
    const key = keyOf(job);
    seen.add(key);
    if (!rows.has(key)) rows.set(key, row(job));
    const shown = rows.get(key);
    fill(shown, job, table.tenants !== null);
    if (body.children[place] !== shown.tr) body.insertBefore(shown.tr, body.children[place] ?? null);
  });
  for (const [key, shown] of rows) {
    if (!seen.has(key)) { shown.tr.remove(); rows.delete(key); }
  }
  const empty = $("empty");
  empty.hidden = table.jobs.length > 0;
  const filtered = group() !== "All" || $("search").value.trim() || $("tenant").value;
  text(empty, filtered ? "No job is like that." : "There are no jobs yet. “ifmdm jobs submit” hands one in.");
  $("more").hidden = !table.more;
}

function tenants(table) {
  const choice = $("tenant"), names = table.tenants;
  choice.hidden = names === null;
  if (names === null || choice.dataset.names === names.join()) return;
  const before = choice.value || new URLSearchParams(location.search).get("tenant") || "";
  choice.replaceChildren(el("option", { value: "" }, "All tenants"), ...names.map((name) => el("option", { value: name }, name)));
  choice.value = names.includes(before) ? before : "";
  choice.dataset.names = names.join();
}

function row(job) {
  const link = el("a", { href: `#${keyOf(job)}` });
  const parts = {
    link, where: el("div", { className: "small" }), tags: el("div"), state: el("span"), age: el("td", { className: "age" }),
    note: el("td", { className: "note" }), actions: el("td", { className: "actions" }),
  };
  parts.tr = el("tr", {}, el("td", { className: "output" }, link, parts.where, parts.tags), el("td", {}, parts.state),
    parts.age, parts.note, parts.actions);
  return parts;
}

function fill(parts, job, everybody) {
  parts.job = job;
  text(parts.link, nameOf(job));
  text(parts.where, job.output.slice(0, -nameOf(job).length));
  changed(parts.tags, [job.labels, everybody], () => [
    ...(everybody ? [el("span", { className: "tag" }, job.tenant)] : []),
    ...Object.entries(job.labels).map(([name, value]) => el("span", { className: "tag" }, `${name}=${value}`)),
  ]);
  parts.state.className = `state ${stateOf(job)}`;
  text(parts.state, stateOf(job));
  text(parts.age, span(now() - job.since));
  changed(parts.note, [job.progress, job.state, remark(job), job.fault], () => note(job));
  changed(parts.actions, [job.state, job.stopping], () => {
    const verb = ["cancel", "resume", "retry"].filter((name) => VERBS[name].states.includes(job.state));
    const chosen = verb.includes("resume") ? "resume" : verb[0];
    return chosen && !job.stopping ? [button(chosen, job)] : [];
  });
}

function note(job) {
  if (job.progress && job.progress.total) return bar(job.progress);
  if (job.fault && !["published", "done", "queued", "running"].includes(job.state)) {
    return [el("div", { className: "fault" }, job.fault.what)];
  }
  return [el("span", { className: "small" }, remark(job))];
}

function bar(progress) {
  const left = progress.remaining_s === null ? "" : `, ${span(progress.remaining_s)} left`;
  return [
    el("progress", { max: progress.total, value: progress.frames, ariaLabel: "Rendered" }),
    el("span", { className: "small" }, `${progress.frames} of ${progress.total} frames${left}`),
  ];
}

function changed(node, data, build) {
  const mark = JSON.stringify(data);
  if (node.mark === mark) return;
  node.mark = mark;
  node.replaceChildren(...build());
}

// ---------------------------------------------------------------- doing something

function button(verb, job) {
  const made = el("button", { type: "button", ariaLabel: `${VERBS[verb].label} ${nameOf(job)}` }, VERBS[verb].label);
  if (verb === "cancel") made.className = "danger";
  made.addEventListener("click", () => act(verb, job, made));
  return made;
}

async function act(verb, job, pressed) {
  if (!await sure(verb, job)) return;
  const place = open ? $("job-trouble") : $("trouble");
  pressed.disabled = true;
  trouble(place, null, "act");
  try {
    const after = await call(`/jobs/do/${verb}/${keyOf(job)}`, { method: "POST" });
    text($("said"), `${nameOf(job)} is ${stateOf(after)}`);
    if (open?.key === keyOf(job)) detail(after);
    await refresh();
  } catch (error) {
    trouble(place, error, "act");
    pressed.disabled = false;
  }
}

function sure(verb, job) {
  const dialog = $("ask");
  text($("ask-text"), `${VERBS[verb].label} “${nameOf(job)}”? ${VERBS[verb].ask}`);
  text($("ask-yes"), `${VERBS[verb].label} the job`);
  $("ask-yes").className = verb === "cancel" ? "danger" : "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

// ---------------------------------------------------------------- one job

async function look() {
  const key = decodeURIComponent(location.hash.slice(1));
  if (!/^[a-z0-9][a-z0-9._-]*\/[0-9a-f]{32}$/.test(key)) { leave(); return; }
  if (open?.key !== key) {
    clearTimeout(open?.timer);
    open = { key, timer: 0 };
    $("job-body").replaceChildren();
    for (const cause of ["look", "act"]) trouble($("job-trouble"), null, cause);
    text($("job-title"), rows.get(key) ? nameOf(rows.get(key).job) : key);
    if (!$("job").open) $("job").showModal();
  }
  const mine = open;
  let pause = IDLE_MS;
  try {
    const job = await call(`/jobs/one/${key}`);
    if (open !== mine) return;
    trouble($("job-trouble"), null);
    detail(job);
    pause = ["queued", "running", "done"].includes(job.state) ? BUSY_MS : 10 * BUSY_MS;
  } catch (error) {
    if (open !== mine) return;
    trouble($("job-trouble"), error);
    pause = TROUBLE_MS;
  }
  clearTimeout(mine.timer);
  if (!document.hidden) mine.timer = setTimeout(look, pause);
}

function leave() {
  if (!open) return;
  clearTimeout(open.timer);
  const back = rows.get(open.key)?.link;
  open = null;
  if ($("job").open) $("job").close();
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  back?.focus();
}

function detail(job) {
  const body = $("job-body");
  text($("job-title"), nameOf(job));
  if (!body.children.length) {
    const parts = { top: el("div"), main: el("div"), acts: el("div", { className: "actions" }), screen: el("div"),
      life: el("ol", { className: "life" }), logs: el("div") };
    parts.top.append(el("div", {}, parts.main, parts.acts), parts.screen);
    body.append(parts.top, el("h3", {}, "What happened"), parts.life, el("h3", {}, "Logs"), parts.logs);
    open.parts = parts;
  }
  const { top, main, acts, screen, life, logs } = open.parts;
  const video = job.watchable ? `/jobs/video/${keyOf(job)}/${job.video.epoch}` : "";
  top.className = video ? "top" : "top bare";
  changed(main, [job, Math.round(now() / 5)], () => facts(job));
  changed(acts, [job.state, job.stopping, job.record_only], () => (job.stopping || job.record_only ? []
    : Object.keys(VERBS).filter((verb) => VERBS[verb].states.includes(job.state)).map((verb) => button(verb, job))));
  changed(screen, video, () => (video ? [el("video", {
    src: video, controls: true, playsInline: true, preload: "metadata", ariaLabel: "The rendered video",
  })] : []));
  changed(life, job.timeline, () => job.timeline.map((moment) => el("li", { className: moment.kind },
    el("time", { dateTime: new Date(moment.at * 1000).toISOString(), title: `by ${moment.by}` }, when(moment.at)),
    el("div", { className: "what" }, moment.what, el("div", { className: "small" }, moment.by)))));
  changed(logs, job.logs, () => (job.logs.length ? job.logs.map((attempt) => log(job, attempt)).reverse()
    : [el("p", { className: "small" }, "None yet, or they were cleaned up.")]));
}

function facts(job) {
  const parts = [el("div", { className: "actions" },
    el("span", { className: `state ${stateOf(job)}` }, stateOf(job)),
    el("span", { className: "small" }, `for ${span(now() - job.since)}`))];
  if (job.progress && job.progress.total) parts.push(el("div", {}, ...bar(job.progress)));
  if (job.fault && job.state !== "published") {
    parts.push(el("p", { className: "fault" }, el("strong", {}, job.fault.what), job.fault.fix ? ` — ${job.fault.fix}` : ""));
  }
  if (job.why.length) {
    parts.push(el("div", { className: "reasons" },
      ...job.why.map((reason) => el("p", {}, reason.what, reason.fix ? el("span", { className: "small" }, ` → ${reason.fix}`) : ""))));
  }
  const busy = Object.entries(job.busy_s).map(([name, seconds]) => `${name} ${seconds < 60 ? `${seconds.toFixed(1)} s` : span(seconds)}`).join(", ");
  const lines = {
    Output: job.output, Portrait: job.job.portrait, Speech: job.job.audio,
    Model: `${job.job.model} (${job.bundle.slice(0, 12)})`,
    Labels: Object.entries(job.labels).map(([name, value]) => `${name}=${value}`).join(", "),
    Submitted: when(job.submitted_at), Deadline: job.deadline ? when(job.deadline) : "",
    Priority: job.priority ? String(job.priority) : "", Worked: busy, Job: keyOf(job),
  };
  parts.push(el("dl", { className: "facts" }, ...Object.entries(lines).filter(([, value]) => value)
    .flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
  return parts;
}

function log(job, attempt) {
  const lines = el("pre", { tabIndex: 0 }, "…");
  const made = el("details", {}, el("summary", {}, `Attempt ${attempt}`), lines);
  made.addEventListener("toggle", async () => {
    if (!made.open || made.read) return;
    made.read = true;
    try {
      const found = await call(`/jobs/log/${keyOf(job)}/${attempt}`);
      text(lines, found.map(line).join("\n") || "It is written when the attempt is over.");
    } catch (error) {
      made.read = false;
      text(lines, `${error.error}${error.fix ? ` — ${error.fix}` : ""}`);
    }
  });
  return made;
}

function line(entry) {
  const { time, event, ...rest } = entry;
  const fields = Object.entries(rest).map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`);
  return [(time || "").slice(11, 23), event, ...fields].join("  ");
}

// ---------------------------------------------------------------- beginning

function remember() {
  const kept = new URLSearchParams();
  if (group() !== "All") kept.set("show", group());
  if ($("search").value) kept.set("q", $("search").value);
  if ($("tenant").value) kept.set("tenant", $("tenant").value);
  history.replaceState(null, "", `${location.pathname}${kept.size ? `?${kept}` : ""}${location.hash}`);
  limit = STEP;
  trouble($("trouble"), null, "act");
  refresh();
}

function begin() {
  const kept = new URLSearchParams(location.search);
  for (const name of Object.keys(GROUPS)) {
    const choice = el("input", { type: "radio", name: "show", value: name, checked: (kept.get("show") ?? "All") === name });
    $("states").append(el("label", {}, choice, name));
  }
  if (!document.querySelector("#states :checked")) document.querySelector("#states input").checked = true;
  $("search").value = kept.get("q") ?? "";
  if (kept.get("tenant")) {
    $("tenant").append(el("option", { value: kept.get("tenant") }, kept.get("tenant")));
    $("tenant").value = kept.get("tenant");
  }
  let typing = 0;
  $("states").addEventListener("change", remember);
  $("tenant").addEventListener("change", remember);
  $("search").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(remember, 250); });
  $("filters").addEventListener("submit", (event) => { event.preventDefault(); remember(); });
  $("more").addEventListener("click", () => { limit += 2 * STEP; refresh(); });
  $("ask-yes").addEventListener("click", () => $("ask").close("yes"));
  $("ask-no").addEventListener("click", () => $("ask").close(""));
  $("job-close").addEventListener("click", leave);
  $("job").addEventListener("close", leave);
  $("job").addEventListener("click", (event) => { if (event.target === $("job")) leave(); });
  addEventListener("hashchange", look);
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !/input|select|textarea/i.test(event.target.tagName) && !document.querySelector("dialog[open]")) {
      event.preventDefault();
      $("search").focus();
    }
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) { refresh(); if (open) look(); } });
  setInterval(() => { for (const shown of rows.values()) text(shown.age, span(now() - shown.job.since)); }, 1000);
  refresh();
  look();
}

begin();
