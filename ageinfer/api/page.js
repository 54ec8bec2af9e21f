// A page to try the service. Texts from files and from the service are only ever shown as text.
const LARGEST_PX = 2000; // of a picture that is drawn
const PAPER = "#ffdc50"; // boxes and labels, as in annotated pictures
const INK = "#141414";
const SHOWN = 3; // files that the curl line names
const NUMBERS = /\[[\s\d.,-]+\]/g; // of a box or a point, which stand on one line

const byId = (id) => document.getElementById(id);
let files = [];

// The address with its token has done its work: a cookie holds it now.
history.replaceState(null, "", location.pathname);
showCurl();
greet();

byId("files").addEventListener("change", () => send([...byId("files").files]));
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  greet();
});
for (const kind of ["dragenter", "dragover"]) document.addEventListener(kind, (event) => over(event, true));
for (const kind of ["dragleave", "drop"]) document.addEventListener(kind, (event) => over(event, false));
document.addEventListener("drop", (event) => send([...event.dataTransfer.files]));
document.addEventListener("paste", (event) => send([...event.clipboardData.files]));
for (const name of ["curl", "answer"]) {
  byId(`copy-${name}`).addEventListener("click", (event) => copy(event.target, byId(name).textContent));
}

function over(event, inside) {
  event.preventDefault();
  byId("drop").classList.toggle("over", inside);
}

function headers() {
  const token = byId("token").value.trim();
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function greet() {
  try {
    const health = await (await fetch("v1/health", { headers: headers() })).json();
    const known = "model" in health;
    const refused = !known && byId("token").value !== "";
    if (!known) byId("token-form").hidden = false;
    byId("token-form").hidden &&= known;
    if (health.status === "stopping") say("lost", "The service is stopping");
    else if (!known) say("", refused ? "This is not its token" : "It needs its token");
    else {
      say("ready", `${health.model} on ${health.provider}`);
      byId("version").textContent = `ageinfer ${health.version}`;
    }
    showCurl();
  } catch {
    say("lost", "The service does not answer");
  }
}

function say(state, text) {
  for (const name of ["ready", "lost"]) document.body.classList.toggle(name, name === state);
  byId("status").textContent = text;
}

function showCurl() {
  const names = files.slice(0, SHOWN).map((file) => file.name);
  if (!names.length) names.push("photo.jpg");
  const lines = ["curl"];
  if (!byId("token-form").hidden) lines.push('-H "Authorization: Bearer $AGEINFER_TOKEN"');
  for (const name of names) {
    const plain = /^[\w.+-]+$/.test(name);
    lines.push(`-F ${plain ? `picture=@${name}` : quoted(`picture=@"${name.replaceAll(/[\\"]/g, "\\$&")}"`)}`);
  }
  if (files.length > SHOWN) lines.push("-F ...");
  byId("curl").textContent = [...lines, `${location.origin}/v1/faces`].join(" \\\n  ");
}

// A text as one word of a shell.
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

async function send(chosen) {
  if (!chosen.length || document.body.classList.contains("busy")) return;
  files = chosen;
  showCurl();
  byId("problem").hidden = true;
  document.body.classList.add("busy");
  const form = new FormData();
  for (const file of files) form.append("picture", file);
  const began_ms = performance.now();
  try {
    const response = await fetch("v1/faces", { method: "POST", body: form, headers: headers() });
    const answer = await response.json();
    const took_ms = performance.now() - began_ms;
    byId("answer").textContent = JSON.stringify(answer, null, 2).replaceAll(NUMBERS, (found) => found.replaceAll(/\s+/g, " "));
    byId("answer").parentElement.hidden = false;
    byId("took").textContent = `${response.status}, after ${took_ms.toFixed(0)} ms`;
    if (response.ok) await show(answer.pictures);
    else complain(answer.detail);
    if (response.status === 401) greet();
  } catch {
    complain("The service does not answer. Is it running?");
  } finally {
    document.body.classList.remove("busy");
    byId("files").value = ""; // so that the same file can be chosen again
  }
}

function complain(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = false;
  byId("pictures").replaceChildren();
}

async function show(records) {
  byId("pictures").replaceChildren(...(await Promise.all(records.map((record, i) => figureOf(record, files[i])))));
}

async function figureOf(record, file) {
  const figure = element("figure", { className: record.error ? "card failed" : "card" });
  const caption = element("figcaption");
  caption.append(element("div", { textContent: record.source }));
  figure.append(caption);
  if (record.error) {
    caption.append(element("div", { className: "soft", textContent: record.error }));
    return figure;
  }
  const count = record.faces.length;
  const said = record.damaged ? "damaged, so no face was looked for" : `${count || "no"} ${count === 1 ? "face" : "faces"}`;
  const image = await createImageBitmap(file).catch(() => null);
  const unseen = image ? "" : " · this browser does not show this format";
  caption.append(element("div", { className: "soft", textContent: `${record.size.join(" × ")} · ${said}${unseen}` }));
  const ages = record.faces.map((face) => ageOf(face)).join(", ");
  const canvas = element("canvas", { role: "img", ariaLabel: `${record.source}: ${said}${ages && `, ${ages} years`}` });
  draw(canvas, record, image);
  figure.prepend(canvas);
  if (count) figure.append(tableOf(record.faces));
  return figure;
}

function element(name, properties = {}) {
  return Object.assign(document.createElement(name), properties);
}

function ageOf(face) {
  const answer = face.over ? ` ${face.over.answer} ${face.over.years}` : "";
  return `${face.age.toFixed(0)} ± ${face.age_std.toFixed(0)}${answer}`;
}

function tableOf(faces) {
  const table = element("table");
  const head = table.createTHead().insertRow();
  for (const name of ["Face", "Age, years", "Quality", "Score"]) {
    head.append(element("th", { scope: "col", textContent: name }));
  }
  const body = table.createTBody();
  faces.forEach((face, i) => {
    const quality = face.quality === null ? "–" : `${(100 * face.quality).toFixed(0)} %`;
    const row = body.insertRow();
    for (const text of [i + 1, `${face.age.toFixed(1)} ± ${face.age_std.toFixed(1)}`, quality, face.score.toFixed(2)]) {
      row.insertCell().textContent = text;
    }
  });
  return table;
}

function draw(canvas, record, image) {
  const [width, height] = record.size;
  const scale = Math.min(1, LARGEST_PX / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const pen = canvas.getContext("2d");
  if (image) pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  const side = Math.max(canvas.width, canvas.height);
  pen.lineWidth = 1 + Math.round(side / 500);
  pen.textBaseline = "middle";
  for (const face of record.faces) {
    const [x, y, w, h] = face.box.map((value) => value * scale);
    pen.strokeStyle = PAPER;
    pen.strokeRect(x, y, w, h);
    const size = Math.min(Math.max(side / 60, w / 5), side / 20, 40);
    pen.font = `600 ${size}px system-ui, sans-serif`;
    const label = ageOf(face);
    const [wide, high] = [pen.measureText(label).width + 0.7 * size, 1.4 * size];
    const left = Math.min(Math.max(0, x - pen.lineWidth / 2), canvas.width - wide);
    const top = y - high < 0 ? Math.min(y + h, canvas.height - high) : y - high;
    pen.fillStyle = PAPER;
    pen.fillRect(left, top, wide, high);
    pen.fillStyle = INK;
    pen.fillText(label, left + 0.35 * size, top + 0.53 * high);
  }
}

async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed"; // browsers allow it on HTTPS and on this machine
  }
  setTimeout(() => (button.textContent = "Copy"), 1500);
}
