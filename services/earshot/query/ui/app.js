import { asker } from "/ui/ask.js";

const API = "/api/v1";
const FINAL = ["completed", "failed", "cancelled"];
const AGAIN_MS = 3000;
const $ = (id) => document.getElementById(id);
const player = $("player");
let next = null;

function make(tag, attributes = {}, ...children) {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children);
  return element;
}

function send(path, options = {}) {
  const key = sessionStorage.getItem("key");
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  return fetch(API + path, { ...options, headers });
}

async function call(path, options = {}) {
  const answer = await send(path, options);
  if (answer.status === 401) {
    sessionStorage.removeItem("key");
    $("login").hidden = false;
  }
  const body = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) throw new Error(`${body.detail} ${body.next_step}`);
  return body;
}

async function attempt(work) {
  $("message").textContent = "";
  try {
    await work();
  } catch (error) {
    $("message").textContent = error.message;
  }
}

function clock(ms) {
  const seconds = Math.floor(ms / 1000);
  const parts = [Math.floor(seconds / 60) % 60, seconds % 60].map((part) => String(part).padStart(2, "0"));
  return (seconds >= 3600 ? [Math.floor(seconds / 3600), ...parts] : parts).join(":");
}

function highlighted(text, query) {
  const wanted = new Set(query.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []);
  return text.split(/([\p{L}\p{N}]+)/u).map((part) => (wanted.has(part.toLowerCase()) ? make("mark", { textContent: part }) : part));
}

// A player sends no headers: where a key is needed, a ticket in the URL stands for it for an hour.
async function ticket() {
  if (!sessionStorage.getItem("key")) return "";
  return `?ticket=${(await call("/tickets", { method: "POST" })).ticket}`;
}

async function play(hit) {
  if (!hit.media_url) return;
  const seconds = hit.start_ms / 1000;
  const source = hit.media_url.split("#")[0];
  player.hidden = false;
  if (player.dataset.source === source) player.currentTime = seconds;
  else player.src = `${source}${await ticket()}#t=${seconds}`;
  player.dataset.source = source;
  player.play().catch((error) => { $("message").textContent = `The audio does not play: ${error.message}`; });
}

function stop() {
  player.pause();
  player.removeAttribute("src");
  player.load();
  delete player.dataset.source;
  player.hidden = true;
}

function hitItem(hit, query) {
  const where = make("span", { className: "where" }, make("b", { textContent: clock(hit.start_ms) }), hit.title || "Untitled");
  if (hit.speakers?.length) where.append(` · ${hit.speakers.join(", ")}`);
  if (hit.degraded) where.append(" · fallback engine");
  const said = make("span", { className: "said" }, ...highlighted(hit.text, query));
  if (hit.context_before) said.prepend(make("span", { className: "context", textContent: `… ${hit.context_before} ` }));
  if (hit.context_after) said.append(make("span", { className: "context", textContent: ` ${hit.context_after} …` }));
  const button = make("button", { className: "hit", type: "button", onclick: () => attempt(() => play(hit)) }, where, said);
  button.title = hit.media_url ? "Play from here" : "This transcript has no audio";
  const item = make("li", {}, button);
  item.dataset.recording = hit.recording_id;
  return item;
}

async function search(event) {
  event.preventDefault();
  const query = $("query").value;
  await attempt(async () => {
    const headers = { "Content-Type": "application/json" };
    const answer = await call("/query", { method: "POST", headers, body: JSON.stringify({ query, top_k: 10 }) });
    $("hits").replaceChildren(...answer.hits.map((hit) => hitItem(hit, query)));
    const count = answer.hits.length;
    $("outcome").textContent = `${count ? `${count} ${count === 1 ? "place" : "places"}` : "Nothing found"} in ${Math.round(answer.took_ms)} ms`;
    $("outcome").title = `Trace ${answer.trace_id}`;
  });
}

function show(item, job) {
  const progress = item.querySelector("progress");
  const state = item.querySelector(".state");
  state.textContent = job.state === "failed" ? `failed: ${job.error?.detail ?? ""}` : job.state;
  state.className = `state ${job.state}`;
  progress.hidden = FINAL.includes(job.state);
  if (!job.segments_total) return;
  const searchable = job.stages.indexer ?? { done: 0, failed: 0 };
  progress.max = job.segments_total;
  progress.value = searchable.done + searchable.failed;
  if (!progress.hidden) state.textContent = `${Math.round((100 * progress.value) / progress.max)} %`;
}

function follow(item, job) {
  show(item, job);
  if (FINAL.includes(job.state)) return;
  watch(item, job).catch(() => setTimeout(() => item.isConnected && follow(item, job), AGAIN_MS));
}

// An EventSource sends no headers, so the events are read from the answer's body.
async function watch(item, job) {
  const answer = await send(`/jobs/${job.id}/events`);
  if (!answer.ok) return;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (text + value).split(/\r?\n\r?\n/);
    text = events.pop();
    for (const event of events) {
      const data = event.split(/\r?\n/).filter((line) => line.startsWith("data:"));
      if (data.length) show(item, JSON.parse(data.map((line) => line.slice(5)).join("")));
    }
    if (!item.isConnected) return reader.cancel();
  }
}

function speakerForm(path, speaker) {
  const name = make("input", { value: speaker.name ?? "", maxLength: 100, placeholder: "Name" });
  name.setAttribute("aria-label", `Name of ${speaker.label}`);
  const form = make("form", {}, `${speaker.label} · ${clock(speaker.spoken_ms)} `, name, make("button", { textContent: "Save" }));
  form.onsubmit = (event) => {
    event.preventDefault();
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify({ [speaker.label]: name.value.trim() || null });
    attempt(() => call(path, { method: "PATCH", headers, body }));
  };
  return form;
}

async function listSpeakers(item, id) {
  const open = item.querySelector(".speakers");
  if (open) return open.remove();
  const path = `/recordings/${id}/speakers`;
  const { items } = await call(path);
  const list = make("div", { className: "speakers" }, ...items.map((speaker) => speakerForm(path, speaker)));
  if (!items.length) list.append("No speakers are known.");
  item.append(list);
}

function sound(quality) {
  if (!quality) return "";
  const figures = [[quality.loudness_lufs, "LUFS"], [quality.snr_db, "dB SNR"], [quality.bandwidth_hz, "Hz"], [quality.mos, "MOS"]];
  const shown = figures.filter(([value]) => value !== null).map(([value, unit]) => `${value} ${unit}`);
  if (quality.clipped_ratio >= 0.001) shown.push(`${(100 * quality.clipped_ratio).toFixed(1)} % clipped`);
  return shown.join(" · ");
}

function recordingItem(recording) {
  const title = recording.title || "Untitled";
  const duration = recording.duration_ms ? ` · ${clock(recording.duration_ms)}` : "";
  const name = make("a", { className: "name", textContent: title + duration, href: `${API}/recordings/${recording.id}/transcript?format=txt`, title: sound(recording.quality) });
  name.onclick = (event) => sessionStorage.getItem("key") && (event.preventDefault(), attempt(() => read(recording.id)));
  const speakers = make("button", { type: "button", textContent: "Speakers" });
  speakers.setAttribute("aria-label", `Speakers of ${title}`);
  speakers.onclick = () => attempt(() => listSpeakers(item, recording.id));
  const erase = make("button", { type: "button", textContent: "Erase" });
  erase.setAttribute("aria-label", `Erase ${title}`);
  const progress = make("progress", { ariaLabel: `Progress of ${title}` });
  const item = make("li", {}, name, make("span", { className: "state" }), speakers, erase, progress);
  erase.onclick = () => attempt(async () => {
    if (!confirm(`Erase “${title}” for ever?`)) return;
    await call(`/recordings/${recording.id}`, { method: "DELETE" });
    item.remove();
    if ($("sources").querySelector(`[data-recording="${CSS.escape(recording.id)}"]`)) $("answer").hidden = true;
    document.querySelectorAll(`[data-recording="${CSS.escape(recording.id)}"]`).forEach((hit) => hit.remove());
    if (player.dataset.source?.includes(recording.id)) stop();
  });
  if (recording.job) follow(item, recording.job);
  return item;
}

async function read(id) {
  const answer = await send(`/recordings/${id}/transcript?format=txt`);
  if (!answer.ok) throw new Error((await answer.json()).detail);
  location.assign(URL.createObjectURL(await answer.blob()));
}

async function list(cursor = "") {
  const page = await call(`/recordings?limit=20${cursor && `&cursor=${encodeURIComponent(cursor)}`}`);
  if (!cursor) $("recordings").replaceChildren();
  $("recordings").append(...page.items.map(recordingItem));
  next = page.next;
  $("more").hidden = !next;
}

async function upload(event) {
  event.preventDefault();
  await attempt(async () => {
    for (const file of $("files").files) {
      const form = new FormData();
      form.append("title", file.name);
      form.append(/\.(json|srt|vtt)$/i.test(file.name) ? "transcript" : "file", file);
      $("message").textContent = `Uploading ${file.name} …`;
      await call("/ingest", { method: "POST", body: form });
      $("message").textContent = "";
      await list();
    }
    $("upload").reset();
  });
}

async function start() {
  const about = await call("/");
  $("login").hidden = true;
  const notices = about.diarization.on ? about.degraded : [...about.degraded, about.diarization.detail];
  $("notice").hidden = !notices.length;
  $("notice").textContent = notices.join(" ");
  await list();
}

const ask = asker({ send, make, play, clock, $ });

$("search").addEventListener("submit", search);
$("ask").addEventListener("click", () => {
  if ($("search").reportValidity()) attempt(() => ask($("query").value));
});
$("upload").addEventListener("submit", upload);
$("more").addEventListener("click", () => attempt(() => list(next)));
$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("key").value);
  attempt(start);
});
attempt(start);
