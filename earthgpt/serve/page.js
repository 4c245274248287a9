"use strict";
const at = id => document.getElementById(id);
const made = (name, text = "", classes = "") => {
  const element = document.createElement(name);
  if (text !== "") element.textContent = text;  // text of models, files and users is never markup
  if (classes) element.className = classes;
  return element;
};
const drawn = (name, values = {}) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(values)) element.setAttribute(key, value);
  return element;
};
const button = (text, act, classes = "") => {
  const element = made("button", text, classes);
  element.type = "button";
  element.addEventListener("click", act);
  return element;
};
const many = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

// --- the server ---------------------------------------------------------------------------------------------------

const storage = name => { try { return window[name]; } catch { return null; } };  // a browser may forbid it
const session = storage("sessionStorage"), local = storage("localStorage");
let key = session?.getItem("key") || "", model = null, jobs = false;

class Told extends Error {}  // what went wrong, in words for people

async function reach(path, options = {}) {
  for (;;) {
    let reply;
    try {
      reply = await fetch(path, { ...options, headers: { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) } });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Told("The server does not answer. Is it still running?");
    }
    if (reply.ok) return reply;
    let said = "", code = null;
    try { ({ message: said, code } = (await reply.json()).error); } catch { /* no JSON: the status has to do */ }
    if (reply.status === 401) {
      if (await askForKey(said)) continue;
      throw new Told("Without an API key this server does not answer.");
    }
    const wait = reply.headers.get("Retry-After");
    if (reply.status === 429 || reply.status === 503) throw new Told(`The server is busy. Try again in ${many(+wait || 5, "second")}.`);
    if (reply.status === 413 && jobs && scene?.large) said += " Tick “Large scene, in tiles” to have it looked at piece by piece.";
    throw Object.assign(new Told(said || `The server refused (${reply.status}).`), { code, status: reply.status });
  }
}

let asking = null;
function askForKey(reason) {
  asking ??= new Promise(resolve => {
    if (key) at("entry_reason").textContent = `${reason} Try another.`;
    at("entry").returnValue = "";
    at("key").value = "";
    at("entry").showModal();
    at("entry").addEventListener("close", () => {
      const given = at("entry").returnValue === "use" && at("key").value.trim();
      if (given) { key = given; session?.setItem("key", key); }
      asking = null;
      resolve(!!given);
    }, { once: true });
  });
  return asking;
}
at("entry_close").addEventListener("click", () => at("entry").close());

const form = values => {
  const body = new FormData();
  for (const [name, value] of Object.entries(values)) {
    if (value === null || value === undefined || value === "") continue;
    if (value instanceof Blob) body.append(name, value, value.name || "image"); else body.append(name, String(value));
  }
  return body;
};
const post = (path, values, signal) => reach(path, { method: "POST", body: form(values), signal });

// --- the image ----------------------------------------------------------------------------------------------------

let scene = null;  // { file, name, sensor (as chosen, or ""), found (what took it), large, facts, url (for the chat, once it was needed) }
let boxes = [];    // { label, score, corners in pixels, feature (GeoJSON), lines (elements that speak of it), shape, group }
let group = null;  // what is shown: the boxes of one answer, and what was said of them since; an SVG element
let chosen = null, hovered = null;
let messages = [];  // of the chat, in turns; the image goes with the first that is sent
let entries = [];   // what was asked and answered, oldest first: { name, words, how, data (of SHOW) or job (its name) }
const view = { scale: 1, x: 0, y: 0 };
let wide = 1, high = 1;

let opening = 0;  // the number of the last image that was asked for: one before it comes too late
async function show(file, sensor = "", kept = false) {
  const mine = ++opening;
  if (running) running.abort();
  at("busy").hidden = false;
  at("toast").hidden = true;
  try {
    await learn();
    const seen = await (await post("/v1/preview", { image: file, sensor })).json();
    const picture = new Image();
    picture.src = seen.picture;
    await picture.decode();
    if (mine !== opening) return false;
    scene = { file, name: file.name || "image", sensor, found: seen.sensor, large: seen.large, facts: seen.facts, picture };
    if (!kept) forgetDialogue();  // another sensor leaves the dialogue and its boxes as they are
    const [width, height] = seen.facts.size, image = at("image");
    image.setAttribute("href", seen.picture);
    image.setAttribute("width", width);
    image.setAttribute("height", height);
    image.setAttribute("preserveAspectRatio", "none");
    at("sensor").value = sensor;
    at("sensor").options[0].text = sensor ? "as found" : `as found: ${seen.sensor}`;
    at("facts").textContent = [scene.name, ...seen.facts.about].join(" · ");
    document.title = `${scene.name} – EarthGPT`;
    at("view").removeAttribute("hidden");  // SVG has no property for it
    for (const id of ["tools", "facts"]) at(id).hidden = false;
    at("welcome").hidden = true;
    at("stage").classList.remove("empty");
    for (const id of CONTROLS) at(id).disabled = false;
    at("tiled").checked = seen.large;
    hint();
    setTask(task);
    measure();
    if (kept) paint(); else fit();
    keep();
    return true;
  } catch (error) {
    if (mine === opening) tell(error);
    return false;
  } finally {
    if (mine === opening) at("busy").hidden = true;
  }
}
const CONTROLS = ["sensor", "words_asked", "send", "save", "new"];
function forgetDialogue() {
  messages = [];
  entries = [];
  at("log").replaceChildren();
  clearBoxes();
}
function startAnew() {
  if (running) running.abort();
  opening += 1;
  at("busy").hidden = true;
  if (drawing) setDrawing(false);
  scene = null;
  forgetDialogue();
  at("view").setAttribute("hidden", "");
  for (const id of ["tools", "facts", "scale", "where"]) at(id).hidden = true;
  at("welcome").hidden = false;
  at("stage").classList.add("empty");
  for (const id of CONTROLS) at(id).disabled = true;
  at("hints").replaceChildren();
  at("sensor").value = "";
  at("sensor").options[0].text = "as found";
  document.title = "EarthGPT";
  setTask("ask");
  drop();
  at("choose").focus();
}

function measure() {
  const box = at("stage").getBoundingClientRect();
  [wide, high] = [Math.max(box.width, 1), Math.max(box.height, 1)];
}
function fit(box = [0, 0, ...scene.facts.size], part = 0.94) {
  view.scale = Math.min(wide / Math.max(box[2] - box[0], 1), high / Math.max(box[3] - box[1], 1), 40 / part) * part;
  view.x = wide / 2 - (box[0] + box[2]) / 2 * view.scale;
  view.y = high / 2 - (box[1] + box[3]) / 2 * view.scale;
  paint();
}
function zoom(factor, x = wide / 2, y = high / 2) {
  if (!scene) return;
  const [width, height] = scene.facts.size;
  const scale = Math.min(Math.max(view.scale * factor, Math.min(wide / width, high / height) / 4), 40);
  view.x = x - (x - view.x) * scale / view.scale;
  view.y = y - (y - view.y) * scale / view.scale;
  view.scale = scale;
  paint();
}
let waiting = false;
function paint() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    if (!scene) return;
    at("world").setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.scale})`);
    at("image").style.imageRendering = view.scale * scene.facts.size[0] / scene.picture.naturalWidth > 3 ? "pixelated" : "auto";
    write();
    scaleBar();
  });
}
const bounds = corners => {
  const xs = corners.map(point => point[0]), ys = corners.map(point => point[1]);
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
};
const dark = hex => {
  const [r, g, b] = [1, 3, 5].map(k => parseInt(hex.slice(k, k + 2), 16));
  return 0.299 * r + 0.587 * g + 0.114 * b <= 100;
};
const colours = new Map();
function colourOf(label) {
  if (!colours.has(label)) colours.set(label, scene.facts.colours[colours.size % scene.facts.colours.length]);
  return colours.get(label);
}
const saying = box => box.label + (box.score === null ? "" : ` ${box.score.toFixed(2)}`);
function placeWords(some, pen, toScreen, width) {
  // Words where there is room: the chosen and the surest first, none over another.
  const taken = [], placed = [];
  const order = [...some].sort((a, b) => (b === chosen) - (a === chosen) || (b.score ?? 0) - (a.score ?? 0)).slice(0, 200);
  for (const box of order) {
    const text = saying(box).length > 34 ? saying(box).slice(0, 33) + "…" : saying(box);
    const [left, top] = toScreen(bounds(box.corners)), w = pen.measureText(text).width + 8, h = 17;
    const x = Math.max(Math.min(left, width - w), 0), y = Math.max(top - h - 1, 0);
    if (taken.some(([a, b, c]) => x < a + c && a < x + w && y < b + h && b < y + h)) continue;
    taken.push([x, y, w]);
    placed.push({ text, x, y, w, h, colour: colourOf(box.label) });
  }
  return placed;
}
const ruler = document.createElement("canvas").getContext("2d");
ruler.font = "12px system-ui, sans-serif";
function write() {
  const inView = shown().filter(box => {
    const [l, t, r, b] = bounds(box.corners);
    return r * view.scale + view.x > 0 && l * view.scale + view.x < wide && b * view.scale + view.y > 0 && t * view.scale + view.y < high;
  });
  const words = placeWords(inView, ruler, ([l, t]) => [l * view.scale + view.x, t * view.scale + view.y], wide);
  at("words").replaceChildren(...words.flatMap(({ text, x, y, w, h, colour }) => {
    const letters = drawn("text", { x: x + 4, y: y + 12.5, fill: dark(colour) ? "#fff" : "#000" });
    letters.textContent = text;
    return [drawn("rect", { x, y, width: w, height: h, rx: 3, fill: colour }), letters];
  }));
}
function scaleBar() {
  const metres = scene.facts.gsd_m;
  at("scale").hidden = !metres;
  if (!metres) return;
  const most = 120 * metres / view.scale, power = 10 ** Math.floor(Math.log10(most));
  const length = ([5, 2, 1].find(k => k * power <= most) || 1) * power;
  at("scale").firstElementChild.style.width = `${length / metres * view.scale}px`;
  at("scale").lastElementChild.textContent = length >= 1000 ? `${length / 1000} km` : length >= 1 ? `${length} m` : `${length * 100} cm`;
}
function lonlat([px, py]) {
  // Between the nodes of a grid of longitudes and latitudes, which do not jump at the antimeridian.
  const { grid, size: [width, height] } = scene.facts;
  if (!grid) return null;
  const n = grid.length - 1, fx = px / width * n, fy = py / height * n;
  const i = Math.min(Math.max(Math.floor(fx), 0), n - 1), j = Math.min(Math.max(Math.floor(fy), 0), n - 1), u = fx - i, v = fy - j;
  const nodes = [grid[j][i], grid[j][i + 1], grid[j + 1][i], grid[j + 1][i + 1]];
  if (nodes.some(node => node === null)) return null;
  const weights = [(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v];
  let lon = 0, lat = 0;
  nodes.forEach(([a, b], k) => { lon += weights[k] * (nodes[0][0] + ((a - nodes[0][0] + 540) % 360 - 180)); lat += weights[k] * b; });
  return [(lon + 540) % 360 - 180, lat];
}
function tellPlace(x, y) {
  const [width, height] = scene.facts.size, px = (x - view.x) / view.scale, py = (y - view.y) / view.scale;
  at("where").hidden = px < 0 || py < 0 || px > width || py > height;
  const said = [`pixel ${Math.floor(px)}, ${Math.floor(py)}`], place = lonlat([px, py]), t = scene.facts.transform;
  if (place) said.unshift(`${Math.abs(place[1]).toFixed(6)}° ${place[1] < 0 ? "S" : "N"}, ${Math.abs(place[0]).toFixed(6)}° ${place[0] < 0 ? "W" : "E"}`);
  if (t) {
    const digits = scene.facts.degrees ? 6 : 1;
    said.push(`${(t[0] * px + t[1] * py + t[2]).toFixed(digits)}, ${(t[3] * px + t[4] * py + t[5]).toFixed(digits)} ${scene.facts.crs}`);
  }
  at("where").textContent = said.join("   ");
}

// --- boxes --------------------------------------------------------------------------------------------------------

const shown = () => boxes.filter(box => box.group === group);
function showGroup(one) {
  group = one;
  for (const other of at("shapes").children) other.toggleAttribute("hidden", other !== one);
  if (chosen && boxes.includes(chosen) && chosen.group !== one) choose(null);
  at("geojson").disabled = !shown().length;
  paint();
}
function newGroup() {
  at("shapes").append(drawn("g"));
  showGroup(at("shapes").lastChild);
}
function clearBoxes() {
  boxes = [];
  group = null;
  colours.clear();
  at("shapes").replaceChildren();
  at("geojson").disabled = true;
  choose(null);
}
function addBox(label, score, corners, feature = null) {
  if (!group) newGroup();
  const box = { label, score, corners, feature, lines: [], group };
  const points = corners.map(point => point.join(",")).join(" ");
  box.shape = drawn("polygon", { points, stroke: colourOf(label) });
  box.shape.addEventListener("pointerenter", () => light(box));
  box.shape.addEventListener("pointerleave", () => light(null));
  group.append(drawn("polygon", { points, class: "casing" }), box.shape);
  boxes.push(box);
  at("geojson").disabled = false;
  return box;
}
function joined(box, element) {
  // An element of the dialogue speaks of the box: either points to the other.
  box.lines.push(element);
  for (const name of ["pointerenter", "focus"]) element.addEventListener(name, () => light(box));
  for (const name of ["pointerleave", "blur"]) element.addEventListener(name, () => light(null));
  element.addEventListener("click", () => {
    if (!boxes.includes(box)) return;
    showGroup(box.group);
    choose(box);
  });
}
function light(box) {
  hovered = box;
  for (const one of boxes) {
    const lit = one === hovered || one === chosen;
    one.shape.classList.toggle("lit", lit);
    for (const line of one.lines) line.classList.toggle("lit", lit);
  }
}
function choose(box) {
  chosen = box;
  light(hovered);
  const own = box && !boxes.includes(box);
  at("selection").hidden = !box;
  at("drawn").toggleAttribute("hidden", !own);
  if (own) at("drawn").setAttribute("points", box.corners.map(point => point.join(",")).join(" "));
  if (box) {
    at("chosen").textContent = own ? `Region, ${pixelsOf(box.corners)}` : saying(box);
    box.lines[0]?.scrollIntoView({ block: "nearest" });
    bringIn(box);
    if (task === "describe") at("words_asked").value = numbersOf(box.corners);
  }
  paint();
}
function bringIn(box) {
  // Moves the image as far as needed to see the box above the buttons that are about it.
  const [l, t, r, b] = bounds(box.corners), by = (low, high, from, to) => Math.max(from - low, 0) || Math.min(to - high, 0);
  view.x += by(l * view.scale + view.x, r * view.scale + view.x, 0, wide);
  view.y += by(t * view.scale + view.y, b * view.scale + view.y, 0, at("selection").offsetTop - 8);
}
const pixelsOf = corners => { const [l, t, r, b] = bounds(corners).map(Math.round); return `${r - l} × ${b - t} pixels`; };
function numbersOf(corners) {
  const [width, height] = scene.facts.size, [l, t, r, b] = bounds(corners), tidy = value => +value.toFixed(2);
  return [Math.max(l, 0), Math.max(t, 0), Math.min(r, width), Math.min(b, height)].map(tidy).join(",");
}
function step(by) {
  const here = shown();
  if (!here.length) return;
  const now = here.indexOf(chosen);
  choose(here[now < 0 ? (by > 0 ? 0 : here.length - 1) : (now + by + here.length) % here.length]);
}
function zoomTo(box) {
  const [l, t, r, b] = bounds(box.corners), around = Math.max(r - l, b - t, 10);
  fit([l - around, t - around, r + around, b + around], 1);
}
const cornersOf = (l, t, r, b) => [[l, t], [r, t], [r, b], [l, b]];

// --- mouse, pen and fingers ---------------------------------------------------------------------------------------

const canvas = at("view"), fingers = new Map();
let moved = 0, drawing = false, start = null;
const spot = event => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
const inScene = ([x, y]) => [0, 1].map(i => Math.min(Math.max(((i ? y : x) - (i ? view.y : view.x)) / view.scale, 0), scene.facts.size[i]));
function setDrawing(on) {
  drawing = on;
  at("region").setAttribute("aria-pressed", String(on));
  canvas.classList.toggle("drawing", on);
}
canvas.addEventListener("pointerdown", event => {
  if (!fingers.size) moved = 0;
  fingers.set(event.pointerId, spot(event));
  start = fingers.size === 1 && (drawing || event.shiftKey) ? inScene(spot(event)) : null;
});
canvas.addEventListener("pointermove", event => {
  const now = spot(event), before = fingers.get(event.pointerId);
  tellPlace(...now);
  if (!before) return;
  const far = Math.hypot(now[0] - before[0], now[1] - before[1]);
  const other = [...fingers].find(([id]) => id !== event.pointerId);
  if (moved + far > 4 && !canvas.hasPointerCapture(event.pointerId)) canvas.setPointerCapture(event.pointerId);
  if (other) {
    start = null;
    const reach = ([x, y]) => Math.max(Math.hypot(x - other[1][0], y - other[1][1]), 1);
    zoom(reach(now) / reach(before), (now[0] + other[1][0]) / 2, (now[1] + other[1][1]) / 2);
  } else if (start) {
    const end = inScene(now);
    at("drawn").removeAttribute("hidden");
    at("drawn").setAttribute("points", cornersOf(...start, ...end).map(point => point.join(",")).join(" "));
  } else {
    canvas.classList.add("moving");
    view.x += now[0] - before[0];
    view.y += now[1] - before[1];
    paint();
  }
  moved += far;
  fingers.set(event.pointerId, now);
});
function lift(event) {
  if (!fingers.delete(event.pointerId)) return;
  canvas.classList.remove("moving");
  if (event.type === "pointerup" && start && moved >= 5) {
    const end = inScene(spot(event)), box = bounds([start, end]);
    if (box[2] - box[0] >= 1 && box[3] - box[1] >= 1) choose({ label: "region", score: null, corners: cornersOf(...box), lines: [] });
    setDrawing(false);
  } else if (event.type === "pointerup" && moved < 5) {
    choose(boxes.find(box => box.shape === event.target) || null);
  }
  start = null;
}
for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, lift);
canvas.addEventListener("pointerleave", () => { at("where").hidden = true; });
canvas.addEventListener("wheel", event => { event.preventDefault(); zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...spot(event)); }, { passive: false });
canvas.addEventListener("dblclick", event => zoom(2, ...spot(event)));
new ResizeObserver(() => {
  const before = [wide, high];
  measure();
  view.x += (wide - before[0]) / 2;
  view.y += (high - before[1]) / 2;
  paint();
}).observe(at("stage"));

// --- tasks --------------------------------------------------------------------------------------------------------

const TASKS = {
  ask: { name: "Ask", field: "Ask about the image", send: "Ask" },
  caption: { name: "Caption", send: "Caption" },
  classify: { name: "Classify", field: "Classes with commas; empty for the model's own", send: "Classify", empty: true },
  detect: { name: "Detect", field: "A class, such as ship; empty for all", send: "Detect", empty: true },
  ground: { name: "Find", field: "A phrase, such as: the leftmost ship", send: "Find" },
  describe: { name: "Describe", field: "Draw a region, or give left,top,right,bottom in pixels", send: "Describe" },
};
const TILED = ["ask", "caption", "classify", "detect"];
let task = "ask", running = null;

for (const [name, { name: title }] of Object.entries(TASKS)) {
  const label = made("label"), choice = made("input"), words = made("span", title);
  Object.assign(choice, { type: "radio", name: "task", value: name, id: `task_${name}` });
  choice.addEventListener("change", () => setTask(name));
  label.append(choice, words);
  at("tasks").append(label);
}
// Small images are seen whole; tiles are for those with more than the model can make out at once.
const tileable = name => jobs && scene !== null && TILED.includes(name) && Math.max(...scene.facts.size) > 512;
function setTask(name) {
  task = name;
  const { field, send } = TASKS[name], input = at("words_asked");
  at(`task_${name}`).checked = true;
  input.placeholder = field || "";
  input.hidden = !field;
  at("asked_name").textContent = field || send;
  at("rotated_line").hidden = name !== "detect" && name !== "ground";
  at("tiled_line").hidden = !tileable(name);
  if (!running) at("send").textContent = send;
  if (name === "describe" && scene) {
    if (chosen) input.value = numbersOf(chosen.corners); else setDrawing(true);
  }
}
const HINTS = {
  optical: [["Describe the image", "caption", ""], ["What is this?", "ask", "What is this?"], ["Find all objects", "detect", ""]],
  sar: [["Find all objects", "detect", ""], ["What is this?", "ask", "What is this?"], ["Describe the image", "caption", ""]],
  infrared: [["How many people?", "ask", "How many people are there in the image?"], ["Find all objects", "detect", ""], ["Describe the image", "caption", ""]],
};
function hint() {
  const lines = HINTS[scene.found].map(([text, name, words]) => button(text, () => go(name, words)));
  at("hints").replaceChildren(...lines);
}

at("ask").addEventListener("submit", event => {
  event.preventDefault();
  if (running) { running.abort(); return; }
  if (!scene) return;
  const words = TASKS[task].field ? at("words_asked").value.trim() : "";
  if (!words && TASKS[task].field && !TASKS[task].empty) { at("words_asked").focus(); return; }
  if (task === "describe" && !/^(\s*-?[\d.]+\s*(,|$)){4}$/.test(words)) {
    tell(new Told("A region is left, top, right, bottom in pixels: draw it, or write four numbers with commas."));
    return;
  }
  if (task === "ask") at("words_asked").value = "";
  go(task, words);
});
at("words_asked").addEventListener("keydown", event => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); at("ask").requestSubmit(); }
});

async function go(name, words) {
  if (running || !scene) return;
  const rotated = at("rotated").checked, tiled = tileable(name) && at("tiled").checked;
  const how = tiled ? "in tiles" : name === "describe" ? words : rotated && ["detect", "ground"].includes(name) ? "rotated boxes" : "";
  const inputs = { image: scene.file, sensor: scene.sensor }, entry = { name, words, how };
  await answerOf(entry, async (answer, signal) => {
    if (tiled) return asJob(entry, rotated, answer, signal);
    entry.data = await DO[name](answer, words, rotated, inputs, signal);
    return entry.data;
  });
}
async function answerOf(entry, work) {
  // A question with its answer in the dialogue: what work returns is shown as SHOW does; null was shown by itself.
  const { name, words, how } = entry;
  const question = made("div", "", "question"), answer = made("div", "", "answer waiting");
  question.textContent = said(name, words);
  if (how) question.append(made("small", how));
  answer.setAttribute("aria-busy", "true");  // read out once it is whole
  at("log").append(question, answer);
  answer.scrollIntoView({ block: "end" });
  const mine = running = new AbortController(), here = scene;
  at("send").textContent = "Stop";
  try {
    const data = await work(answer, mine.signal);
    if (here !== scene || data === null) return;
    SHOW[name](answer, data);
    if (!entries.includes(entry)) entries.push(entry);
    keep();
  } catch (error) {
    if (error.name === "AbortError") {
      answer.append(made("p", answer.textContent ? "(stopped)" : "Stopped."));
    } else {
      answer.classList.add("bad");
      answer.append(made("p", error instanceof Told ? error.message : "Something went wrong in the page."));
      if (!(error instanceof Told)) console.error(error);
      const row = made("div", "", "row");
      row.append(button("Try again", () => {
        if (running) return;
        question.remove();
        answer.remove();
        if (entry.job) answerOf(entry, (again, signal) => followed(entry, again, signal)); else go(name, words);
      }));
      if (here === scene) answer.append(row);
    }
  } finally {
    if (running === mine) running = null;
    answer.classList.remove("waiting");
    answer.removeAttribute("aria-busy");
    at("send").textContent = TASKS[task].send;
    answer.scrollIntoView({ block: "nearest" });
  }
}
function said(name, words) {
  if (name === "caption") return "Caption the image";
  if (name === "classify") return words ? `Which of these is it: ${words}` : "What kind of scene is it?";
  if (name === "detect") return words ? `Find all: ${words}` : "Find all objects";
  if (name === "ground") return `Where is ${words}?`;
  if (name === "describe") return "What is in this region?";
  return words;
}

const DO = {
  async ask(answer, words, rotated, inputs, signal) {
    const here = scene, url = await dataUrl(), line = made("p");
    let reply = null;
    messages.push({ role: "user", content: words });
    try {
      while (!reply) {
        const [first, ...others] = messages;
        const asked = { role: "user", content: [{ type: "image_url", image_url: { url } }, { type: "text", text: first.content }] };
        const body = JSON.stringify({ model, messages: [asked, ...others], stream: true, sensor: inputs.sensor || scene.found });
        try {
          reply = await reach("/v1/chat/completions", { method: "POST", body, signal, headers: { "Content-Type": "application/json" } });
        } catch (error) {
          if (error.code !== "context_length_exceeded" || messages.length < 3) throw error;
          messages.splice(0, 2);  // the oldest question and its answer
        }
      }
      answer.append(line);
      await stream(reply, line, answer);
    } catch (error) {
      if (here === scene) messages.pop();
      throw error;
    }
    const text = line.textContent;
    line.remove();
    if (here === scene) messages.push({ role: "assistant", content: text });
    return text;
  },
  async caption(answer, words, rotated, inputs, signal) {
    return (await (await post("/v1/caption", inputs, signal)).json()).caption;
  },
  async classify(answer, words, rotated, inputs, signal) {
    const { label, probabilities } = await (await post("/v1/classify", { ...inputs, classes: words }, signal)).json();
    return { label, likely: Object.entries(probabilities).slice(0, 20) };
  },
  async detect(answer, words, rotated, inputs, signal) {
    const { features, ...about } = await (await post("/v1/detect", { ...inputs, classes: words, oriented: rotated, format: "geojson" }, signal)).json();
    tellAbout(answer, about);
    return features;
  },
  async ground(answer, words, rotated, inputs, signal) {
    const { features, ...about } = await (await post("/v1/ground", { ...inputs, phrase: words, oriented: rotated, format: "geojson" }, signal)).json();
    tellAbout(answer, about);
    return features;
  },
  async describe(answer, words, rotated, inputs, signal) {
    return (await (await post("/v1/describe", { ...inputs, box: words, format: "geojson" }, signal)).json()).features;
  },
};
function tellAbout(answer, { guessed = [], note = "" }) {
  if (guessed.length) answer.append(made("p", `The detector was not trained to find ${guessed.join(", ")} in such images: this is a guess.`));
  if (note) answer.append(made("p", `The image is large and was looked at as a whole, so small objects are missed.${jobs ? " “Large scene, in tiles” finds them." : ""}`));
}
const SHOW = {
  ask(answer, text) {
    const line = made("p");
    answer.append(line);
    if (text.trim()) line.replaceChildren(...spoken(text)); else line.textContent = "(The model said nothing.)";
  },
  caption(answer, text) { answer.append(made("p", text)); },
  classify(answer, { label, likely }) {
    answer.append(made("p", label || "(The model said nothing.)"));
    const bars = made("div", "", "bars");
    for (const [label, probability] of likely) {
      const track = made("i"), bar = made("i");
      track.append(bar);
      bar.style.width = `${Math.max(probability * 100, 1)}%`;
      bars.append(made("span", label), track, made("b", `${Math.round(probability * 100)} %`));
    }
    answer.append(bars);
  },
  detect(answer, features) {
    newGroup();
    list(answer, features, count => (count ? `${many(count, "object")} found.` : "Nothing found."));
  },
  ground(answer, features) {
    newGroup();
    list(answer, features, count => (count ? "Here." : "The model names no place."));
  },
  describe(answer, features) {
    list(answer, features, () => "");
    if (chosen && !boxes.includes(chosen)) choose(boxes.at(-1) || null);
  },
};

async function dataUrl() {
  // The file itself: what the server reads best.
  scene.url ??= await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Told("The file cannot be read any more; open it again."));
    reader.readAsDataURL(new Blob([scene.file], { type: scene.file.type.startsWith("image/") ? scene.file.type : "image/tiff" }));
  });
  return scene.url;
}
async function stream(reply, line, answer) {
  for await (const part of events(reply)) {
    line.textContent += part;
    answer.scrollIntoView({ block: "end" });
  }
}
async function* events(reply) {
  // The words in server-sent events.
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (!part.startsWith("data: ") || part === "data: [DONE]") continue;
      const told = JSON.parse(part.slice(6));
      if (told.error) throw new Told(told.error.message);
      yield told.choices[0]?.delta.content || "";
    }
  }
}
// Where the image lies in the square that the model sees: boxes in its text are parts of that square.
function square() {
  const [width, height] = scene.facts.size, side = Math.max(width, height);
  return { width, height, side, left: Math.trunc((side - width) / 2), top: Math.trunc((side - height) / 2) };
}
function spoken(text) {
  // The text with a button in place of each box that it states, and the boxes drawn.
  const number = "\\s*[-+]?(?:\\d+(?:\\.\\d*)?|\\.\\d+)\\s*", one = `${number}(?:,${number}){3}(?:(?:,${number}){4})?`;
  const parts = [], { width, height, side, left, top } = square();
  let end = 0;
  for (const found of text.matchAll(new RegExp(`\\[${one}(?:;${one})*;?\\s*\\]`, "g"))) {
    const before = text.slice(end, found.index);
    if (!end) newGroup();
    const label = before.split(/[.;\n]/).at(-1).replace(/[:,\s]+$/, "").replace(/^[\s,]+/, "").split(/\s+/).slice(-4).join(" ") || "region";
    parts.push(document.createTextNode(before));
    for (const values of found[0].slice(1, -1).split(";").filter(part => part.trim()).map(part => part.split(",").map(Number))) {
      const points = values.length === 4 ? cornersOf(...values) : [0, 2, 4, 6].map(k => [values[k], values[k + 1]]);
      const corners = points.map(([x, y]) => [Math.min(Math.max(x * side - left, 0), width), Math.min(Math.max(y * side - top, 0), height)].map(v => +v.toFixed(2)));
      const box = addBox(label, null, corners), chip = button("", () => {}, "chip"), swatch = made("i");
      swatch.style.background = colourOf(label);
      chip.append(swatch, `box ${boxes.length}`);
      joined(box, chip);
      parts.push(chip, document.createTextNode(" "));
    }
    end = found.index + found[0].length;
  }
  paint();
  return [...parts, document.createTextNode(text.slice(end))];
}
const MOST_LINES = 200, MOST_SHAPES = 3000;
function list(answer, features, head) {
  // Features as boxes, and a line for each.
  const text = head(features.length), lines = made("ul", "", "found");
  if (text) answer.append(made("p", text));
  features.slice(0, MOST_SHAPES).forEach((feature, i) => {
    const { label, score = null, pixels, answer: reply } = feature.properties;
    const box = addBox(String(label), score, pixels.slice(0, 4), feature);
    if (i >= MOST_LINES) return;
    const row = made("li"), line = button("", () => {}, "plain"), swatch = made("i");
    swatch.style.background = colourOf(box.label);
    line.append(swatch, made("span", reply ? `${label}: ${reply}` : box.label), made("b", score === null ? "" : score.toFixed(2)));
    joined(box, line);
    row.append(line);
    lines.append(row);
  });
  if (features.length) answer.append(lines);
  if (features.length > MOST_LINES) answer.append(made("p", `The list has the first ${MOST_LINES}; the GeoJSON has all.`));
  paint();
}

// --- large scenes -------------------------------------------------------------------------------------------------

const FORMATS = [["geojson", "GeoJSON"], ["gpkg", "GeoPackage"], ["csv", "CSV"], ["kml", "KML"]];
const JOB_NAMES = { ask: "Ask", caption: "Caption", classify: "Classify", detect: "Detect" };
const live = job => job.state === "queued" || job.state === "running";
const pause = seconds => new Promise(resolve => setTimeout(resolve, seconds * 1000));
const progressOf = job => (job.state === "queued" ? "Waiting for its turn …" : `Tile ${job.done.toLocaleString("en")} of ${job.total.toLocaleString("en")}`);
const downloads = (job, name) => FORMATS.filter(([kind]) => job.results[kind]).map(([kind, title]) => button(title, async () => {
  try { save(await (await reach(job.results[kind])).blob(), `${name}.${kind}`); } catch (error) { tell(error); }
}));

async function asJob(entry, rotated, answer, signal) {
  const { name, words } = entry, asked = { ask: { question: words }, classify: { classes: words }, detect: { classes: words, oriented: rotated } }[name];
  const line = made("p", "Sending …");
  answer.append(line);
  const job = await (await post("/v1/jobs", { scene: scene.file, task: name, sensor: scene.sensor, ...asked }, signal)).json();
  line.remove();
  entry.job = job.id;  // from here on a reload finds it again
  entries.push(entry);
  keep();
  return followed(entry, answer, signal);
}
async function followed(entry, answer, signal) {
  // Watches a job to its end, and shows what it found.
  const path = `/v1/jobs/${entry.job}`, here = scene, line = made("p"), bar = made("progress");
  bar.setAttribute("aria-label", "Progress of the job");
  let job = await (await reach(path)).json();
  if (live(job)) answer.append(line, bar);
  while (live(job)) {
    line.textContent = progressOf(job);
    if (job.state === "running") { bar.max = job.total; bar.value = job.done; } else bar.removeAttribute("value");
    await pause(0.7);
    if (here !== scene) return null;  // another image is open; the job goes on, and is in the list of jobs
    job = await (await reach(signal.aborted ? `${path}/cancel` : path, signal.aborted ? { method: "POST" } : {})).json();
  }
  bar.remove();
  line.remove();
  if (job.state === "cancelled") { answer.append(made("p", "Cancelled.")); return null; }
  if (job.state === "failed") throw new Told(`The job failed: ${job.message}`);
  const { features } = await (await reach(job.results.geojson)).json();
  if (here !== scene) return null;
  newGroup();
  list(answer, features, count => (entry.name === "detect" ? `${count ? many(count, "object") : "Nothing"} found in ${many(job.total, "tile")}.` : `${many(count, "tile")} looked at.`));
  if (job.message) answer.append(made("p", job.message));
  const row = made("div", "", "row");
  row.append(...downloads(job, stem()));
  answer.append(row);
  return null;
}

let listing = 0;
async function listJobs() {
  // The jobs of this key, told anew while the list is open.
  const mine = ++listing;
  let told = null;
  if (!at("jobs").open) at("jobs").showModal();
  try {
    while (mine === listing && at("jobs").open) {
      const { data } = await (await reach("/v1/jobs")).json();
      if (mine !== listing) return;
      const now = JSON.stringify(data);
      if (now !== told) fillJobs(data);
      told = now;
      await pause(data.some(live) ? 1 : 5);
    }
  } catch (error) { at("jobs").close(); tell(error); }
}
function fillJobs(all) {
  const focus = document.activeElement?.dataset?.act, row = at("job_list").contains(document.activeElement) && document.activeElement.closest("li").dataset.job;
  at("job_list").replaceChildren(...all.map(job => {
    const line = made("li"), head = made("p"), acts = made("div", "", "row");
    line.dataset.job = job.id;
    const words = job.question || job.classes.join(", "), when = new Date(job.created * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    head.append(made("b", job.title || "scene"), made("span", ` ${JOB_NAMES[job.task]}${words ? `: ${words}` : ""}`), made("small", when));
    line.append(head);
    if (live(job)) {
      const bar = made("progress");
      bar.setAttribute("aria-label", "Progress of the job");
      if (job.state === "running") { bar.max = job.total; bar.value = job.done; }
      line.append(bar, made("small", progressOf(job)));
    } else {
      const count = Object.values(job.counts).reduce((sum, one) => sum + one, 0);
      const found = job.task === "detect" ? `${count ? many(count, "object") : "Nothing"} found in ${many(job.total, "tile")}` : `${many(job.total, "tile")} looked at`;
      line.append(made("small", { done: found, failed: `Failed: ${job.message}`, cancelled: `Cancelled at tile ${job.done} of ${job.total}` }[job.state]));
    }
    const act = (text, path, method) => button(text, async () => {
      try { await reach(`/v1/jobs/${job.id}${path}`, { method }); listJobs(); } catch (error) { tell(error); }
    }, "away");
    if (live(job) || job.state === "done") acts.append(button(live(job) ? "Watch" : "Open", () => openJob(job), "main"));
    if (job.state === "done") acts.append(...downloads(job, (job.title || "scene").replace(/\.[^.]*$/, "")));
    acts.append(live(job) ? act("Cancel", "/cancel", "POST") : act("Delete", "", "DELETE"));
    for (const one of acts.children) one.dataset.act = one.textContent;
    line.append(acts);
    return line;
  }));
  at("no_jobs").hidden = all.length > 0;
  if (focus && row) at("job_list").querySelector(`[data-job="${row}"] [data-act="${focus}"]`)?.focus();
}
async function openJob(job) {
  // The scene of a job with what was found in it, or with its progress.
  at("jobs").close();
  const entry = entries.find(one => one.job === job.id);
  try {
    if (!entry) {
      at("busy").hidden = false;
      const content = await (await reach(`/v1/jobs/${job.id}/scene`)).blob();
      if (!await show(new File([content], job.title || "scene.tif", { type: content.type }), job.sensor || "")) return;
    } else if (running) return;
    const again = entry || { name: job.task, words: job.question || job.classes.join(", "), how: "in tiles", job: job.id };
    if (!entry) entries.push(again);
    keep();
    await answerOf(again, (answer, signal) => followed(again, answer, signal));
  } catch (error) { tell(error); } finally { at("busy").hidden = true; }
}
at("job_button").addEventListener("click", listJobs);
at("jobs_close").addEventListener("click", () => at("jobs").close());
at("jobs").addEventListener("close", () => { listing += 1; });

// --- over a reload ------------------------------------------------------------------------------------------------

// The image and the dialogue of this tab are kept in the browser, the last of them for a day; jobs are the server's.
const KEPT = { bytes: 64 * 2 ** 20, letters: 2_000_000, tabs: 4, ms: 24 * 3600 * 1000 };
let tab = session?.getItem("tab");
function nameTab() { tab = crypto.getRandomValues(new Uint32Array(2)).join("-"); session?.setItem("tab", tab); }
if (!tab) nameTab();
const shelf = new Promise(resolve => {
  let asked;
  try { asked = indexedDB.open("earthgpt", 1); } catch { resolve(null); return; }  // forbidden by the browser: nothing is kept
  asked.onupgradeneeded = () => asked.result.createObjectStore("tabs");
  asked.onsuccess = () => resolve(asked.result);
  asked.onerror = () => resolve(null);
});
async function atShelf(mode, act) {
  const base = await shelf;
  if (!base) return undefined;
  return new Promise(resolve => {
    const change = base.transaction("tabs", mode), asked = act(change.objectStore("tabs"));
    change.oncomplete = () => resolve(asked?.result);
    change.onabort = change.onerror = () => resolve(undefined);  // full: the page goes on without
  });
}
function lastEntries() {
  let letters = 0;
  const sizes = entries.map(entry => JSON.stringify(entry).length);
  return entries.filter((_, i) => (letters = sizes.slice(i).reduce((sum, one) => sum + one, 0)) <= KEPT.letters);
}
function drop() {
  const old = tab;
  nameTab();  // at once: a reload right now brings nothing back
  return atShelf("readwrite", store => { store.delete(old); });
}
function keep() {
  if (scene.file.size > KEPT.bytes) return drop();
  const { file, name, sensor } = scene, own = tab, value = { file, name, sensor, entries: lastEntries(), at: Date.now() };
  return atShelf("readwrite", store => {
    store.put(value, own);
    const cursor = store.openCursor(), others = [];  // of other tabs
    cursor.onsuccess = () => {
      const found = cursor.result;
      if (found) { if (found.key !== own) others.push([found.value.at, found.key]); found.continue(); return; }
      others.sort((a, b) => b[0] - a[0]).forEach(([then, name], i) => { if (i >= KEPT.tabs - 1 || then < Date.now() - KEPT.ms) store.delete(name); });
    };
  });
}
async function bringBack() {
  await atShelf("readwrite", store => {  // what is too old goes, whatever tab it is of
    const cursor = store.openCursor();
    cursor.onsuccess = () => {
      const found = cursor.result;
      if (!found) return;
      if (found.value.at < Date.now() - KEPT.ms) found.delete();
      found.continue();
    };
  });
  const found = await atShelf("readonly", store => store.get(tab));
  if (!found || scene || opening || !await show(new File([found.file], found.name, { type: found.file.type }), found.sensor)) return;
  entries = found.entries;
  keep();
  for (const entry of entries) {
    if (entry.name === "ask" && !entry.job) messages.push({ role: "user", content: entry.words }, { role: "assistant", content: entry.data });
    await answerOf(entry, (answer, signal) => (entry.job ? followed(entry, answer, signal) : entry.data));
  }
}

// --- downloads ----------------------------------------------------------------------------------------------------

const stem = () => scene.name.replace(/\.[^.]*$/, "") || "image";
function save(blob, name) {
  const link = made("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
function asFeature(box) {
  if (box.feature) return box.feature;
  let geometry = { type: "Polygon", coordinates: [[...box.corners, box.corners[0]]] };
  if (scene.facts.grid) {
    // Along the edges in steps, so that a region across the antimeridian is told from one around most of the Earth.
    const steps = box.corners.flatMap(([x, y], i) => {
      const [ex, ey] = box.corners[(i + 1) % box.corners.length];
      return Array.from({ length: 16 }, (_, k) => lonlat([x + k / 16 * (ex - x), y + k / 16 * (ey - y)]));
    });
    let last = steps[0]?.[0];
    geometry = steps.includes(null) ? null : onEarth(steps.map(([x, y]) => [last += (x - last + 540) % 360 - 180, y]).filter((_, i) => i % 16 === 0));
  }
  return { type: "Feature", properties: { label: box.label, pixels: box.corners }, geometry };
}
function onEarth(ring) {
  // As placing.rings_on_earth: counterclockwise, and cut in two at the antimeridian, where longitudes go on beyond 180
  // degrees (RFC 7946, 3.1.6 and 3.1.9); null where nothing is left.
  const xs = ring.map(([x]) => x);
  const half = (points, inside) => points.flatMap(([x, y], i) => {
    const [px, py] = points.at(i - 1), before = inside(px), here = inside(x), part = before / (before - here);
    return [...(before * here < 0 ? [[px + part * (x - px), py + part * (y - py)]] : []), ...(here >= 0 ? [[x, y]] : [])];
  });
  const closed = points => {
    const area = points.reduce((sum, [x, y], i) => sum + points.at(i - 1)[0] * y - x * points.at(i - 1)[1], 0);
    const turned = (area < 0 ? [...points].reverse() : points).map(point => point.map(value => +value.toFixed(7)));
    return [...turned, turned[0]];
  };
  const rings = [];
  for (let k = Math.floor((Math.min(...xs) + 180) / 360); k < Math.ceil((Math.max(...xs) + 180) / 360); k++) {
    const west = 360 * k - 180, part = half(half(ring, x => x - west), x => west + 360 - x).map(([x, y]) => [x - 360 * k, y]);
    const wide = part.map(([x]) => x);
    if (part.length > 2 && Math.max(...wide) - Math.min(...wide) > 1e-6) rings.push([closed(part)]);
  }
  if (!rings.length) return null;
  return rings.length > 1 ? { type: "MultiPolygon", coordinates: rings } : { type: "Polygon", coordinates: rings[0] };
}
function saveGeoJSON() {
  const collection = { type: "FeatureCollection", features: shown().map(asFeature) };
  if (!scene.facts.grid) collection.coordinates = "pixels of the image, y down";
  save(new Blob([JSON.stringify(collection)], { type: "application/geo+json" }), `${stem()}.geojson`);
}
function savePicture() {
  const { picture, facts } = scene, ratio = Math.max(1, 1024 / Math.max(picture.naturalWidth, picture.naturalHeight));
  const sheet = document.createElement("canvas"), pen = sheet.getContext("2d");
  sheet.width = Math.round(picture.naturalWidth * ratio);
  sheet.height = Math.round(picture.naturalHeight * ratio);
  const [sx, sy] = [sheet.width / facts.size[0], sheet.height / facts.size[1]];
  pen.drawImage(picture, 0, 0, sheet.width, sheet.height);
  pen.lineJoin = "round";
  for (const [width, style] of [[4, () => "#000a"], [2, box => colourOf(box.label)]]) {
    for (const box of shown()) {
      pen.beginPath();
      box.corners.forEach(([x, y]) => pen.lineTo(x * sx, y * sy));
      pen.closePath();
      pen.lineWidth = width;
      pen.strokeStyle = style(box);
      pen.stroke();
    }
  }
  pen.font = "12px system-ui, sans-serif";
  for (const { text, x, y, w, h, colour } of placeWords(shown(), pen, ([l, t]) => [l * sx, t * sy], sheet.width)) {
    pen.fillStyle = colour;
    pen.fillRect(x, y, w, h);
    pen.fillStyle = dark(colour) ? "#fff" : "#000";
    pen.fillText(text, x + 4, y + 12.5);
  }
  sheet.toBlob(blob => save(blob, `${stem()}.png`));
}

// --- the rest -----------------------------------------------------------------------------------------------------

let fading = 0;
function tell(error) {
  at("toast").textContent = error instanceof Error && !(error instanceof Told) ? "That cannot be shown as an image." : error.message;
  at("toast").hidden = false;
  clearTimeout(fading);
  fading = setTimeout(() => { at("toast").hidden = true; }, 8000);
}
at("toast").addEventListener("click", () => { at("toast").hidden = true; });

const open = () => at("file").click();
at("open").addEventListener("click", open);
at("new").addEventListener("click", startAnew);
at("choose").addEventListener("click", open);
at("file").addEventListener("change", event => { const [file] = event.target.files; if (file) show(file); event.target.value = ""; });
let over = 0;
document.addEventListener("dragenter", event => { event.preventDefault(); over += 1; at("dropping").hidden = false; });
document.addEventListener("dragleave", () => { over = Math.max(0, over - 1); at("dropping").hidden = over > 0 ? false : true; });
document.addEventListener("dragover", event => event.preventDefault());
document.addEventListener("drop", event => {
  event.preventDefault();
  over = 0;
  at("dropping").hidden = true;
  const [file] = event.dataTransfer.files;
  if (file) show(file); else tell(new Told("Drop a file; a link cannot be opened."));
});
document.addEventListener("paste", event => { const [file] = event.clipboardData.files; if (file) { event.preventDefault(); show(file); } });
at("sensor").addEventListener("change", event => {
  if (scene) show(scene.file, event.target.value, true);
});
at("in").addEventListener("click", () => zoom(1.6));
at("out").addEventListener("click", () => zoom(1 / 1.6));
at("fit").addEventListener("click", () => fit());
at("region").addEventListener("click", () => setDrawing(!drawing));
at("clear").addEventListener("click", () => { choose(null); canvas.focus(); });
at("there").addEventListener("click", () => chosen && zoomTo(chosen));
at("describe").addEventListener("click", () => chosen && go("describe", numbersOf(chosen.corners)));
at("about").addEventListener("click", () => {
  // The model knows regions by the numbers that it writes itself.
  const { side, left, top } = square(), [l, t, r, b] = bounds(chosen.corners);
  const numbers = [(l + left) / side, (t + top) / side, (r + left) / side, (b + top) / side].map(value => value.toFixed(3));
  setTask("ask");
  const input = at("words_asked");
  input.value = `What is at [${numbers.join(",")}]?`;
  input.focus();
  input.setSelectionRange(0, "What is".length);
});
at("geojson").addEventListener("click", saveGeoJSON);
at("annotated").addEventListener("click", savePicture);
at("saving").addEventListener("click", () => at("saving").hidePopover());
for (const one of at("more_menu").children) {  // on a phone, for buttons that have no room
  one.addEventListener("click", () => { at("more_menu").hidePopover(); at(one.dataset.for).click(); });
}

const isDark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const turn = () => { document.documentElement.dataset.theme = isDark() ? "light" : "dark"; local?.setItem("theme", document.documentElement.dataset.theme); };
if (local?.getItem("theme")) document.documentElement.dataset.theme = local.getItem("theme");
at("theme").addEventListener("click", turn);

const KEYS = [
  ["o", "open an image", open], ["x", "start anew: forget image and dialogue", () => scene && (!entries.length || confirm("Forget the image and its dialogue?")) && startAnew()], ["/", "to the question", () => at("words_asked").focus()],
  ["1 … 6", "choose a task"], ["r", "draw a region; or hold Shift and draw", () => scene && setDrawing(!drawing)],
  ["n", "next box", () => step(1)], ["p", "previous box", () => step(-1)],
  ["d", "describe the chosen box", () => chosen && at("describe").click()],
  ["Escape", "let go of the box, stop the answer"], ["+", "zoom in", () => zoom(1.6)], ["-", "zoom out", () => zoom(1 / 1.6)],
  ["0", "whole image", () => scene && fit()], ["t", "dark or light", turn], ["?", "these keys", () => at("keys").showModal()],
];
at("key_table").replaceChildren(...KEYS.map(([name, meaning]) => {
  const row = made("tr"), cell = made("td");
  cell.append(made("kbd", name));
  row.append(cell, made("td", meaning));
  return row;
}));
at("help").addEventListener("click", () => at("keys").showModal());
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") {
    if (drawing) setDrawing(false); else if (chosen) choose(null); else if (running) running.abort();
    return;
  }
  if (event.target.matches("textarea, select, input:not([type=checkbox])")) return;
  const pan = document.activeElement === canvas && { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] }[event.key];
  const name = Object.keys(TASKS)[+event.key - 1], act = KEYS.find(([key]) => key === event.key)?.[2] || (event.key === "=" && (() => zoom(1.6)));
  if (pan) { view.x += pan[0]; view.y += pan[1]; paint(); }
  else if (name) { setTask(name); at("words_asked").focus(); }
  else if (act) act();
  else return;
  event.preventDefault();
});

async function learn() {
  // What the server has. Asked for once; where it did not answer, again before the next image.
  if (model) return;
  const { data } = await (await reach("/v1/models")).json(), examples = await (await reach("/v1/examples")).json();
  at("examples").replaceChildren(...examples.map(({ name, sensor, kind, address, picture }) => {
    const card = button("", async () => {
      try { await show(new File([await (await reach(address)).blob()], name, { type: "image/tiff" }), sensor); } catch (error) { tell(error); }
    });
    const image = made("img"), words = made("span", sensor === "sar" ? "SAR" : sensor[0].toUpperCase() + sensor.slice(1));
    image.src = picture;
    image.alt = "";
    words.append(made("small", kind));
    card.append(image, words);
    return card;
  }));
  try { await reach("/v1/jobs"); jobs = true; } catch (error) { if (error.status !== 404) throw error; }  // it takes none
  at("job_button").hidden = at("more_menu").firstElementChild.hidden = !jobs;
  model = data[0].id;
  setTask(task);
}
async function begin() {
  setTask("ask");
  at("stage").classList.add("empty");
  at("job_button").hidden = at("more_menu").firstElementChild.hidden = true;
  try { await learn(); await bringBack(); } catch (error) { tell(error); }
}
begin();
