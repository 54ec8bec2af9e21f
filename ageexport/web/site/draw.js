// Draws a picture with a box and an age on each face, or makes the faces unrecognisable.

const COLOURS = ["#50dcff", "#6ec8fa", "#82eb78", "#ffa0cd", "#ffa55a", "#5ae1e1", "#e1f5a0", "#c8a5ff"];
const INK = "#141414";
const HEAD_MARGIN = 0.5; // of the longer side of a box, as ageinfer blurs: hair, ears and chin
const CELLS = 8;

// A track keeps its colour; the first is for faces without one.
export function colourOf({ track }) {
  return track === null ? COLOURS[0] : COLOURS[1 + (track % (COLOURS.length - 1))];
}

export function yearsOf(face) {
  return Math.round(face.age_smoothed ?? face.age);
}

export function labelOf(face) {
  return `${yearsOf(face)} ± ${Math.round(face.age_std)}`;
}

// Draws the picture, which fills the canvas from then on.
export function draw(canvas, picture, faces, { blur }) {
  const { width, height } = picture;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  if (blur) for (const face of faces) hide(context, face.box);
  const unit = Math.max(width, height) / 640;
  context.lineWidth = Math.max(1, 2 * unit);
  context.font = `600 ${Math.max(10, 18 * unit)}px system-ui, sans-serif`;
  for (const face of faces) drawFace(context, face, unit);
}

function drawFace(context, face, unit) {
  const [x, y, w, h] = face.box;
  context.strokeStyle = context.fillStyle = colourOf(face);
  context.strokeRect(x, y, w, h);
  const text = labelOf(face);
  const line = 26 * Math.max(0.6, unit);
  const wide = context.measureText(text).width + 10 * unit;
  const top = y >= line ? y - line : y + h;
  const left = Math.max(0, Math.min(x, context.canvas.width - wide)); // of a face at the edge, too
  context.fillRect(left, top, wide, line);
  context.fillStyle = INK;
  context.textBaseline = "middle";
  context.fillText(text, left + 5 * unit, top + line / 2);
}

// Replaces a face by a few flat cells, which nothing brings back.
function hide(context, [x, y, w, h]) {
  const { canvas } = context;
  const margin = HEAD_MARGIN * Math.max(w, h);
  const left = Math.max(0, Math.floor(x - margin));
  const top = Math.max(0, Math.floor(y - margin));
  const right = Math.min(canvas.width, Math.ceil(x + w + margin));
  const bottom = Math.min(canvas.height, Math.ceil(y + h + margin));
  if (right <= left || bottom <= top) return;
  const cells = new OffscreenCanvas(CELLS, CELLS);
  const small = cells.getContext("2d");
  small.imageSmoothingQuality = "high";
  small.drawImage(canvas, left, top, right - left, bottom - top, 0, 0, CELLS, CELLS);
  context.imageSmoothingEnabled = false;
  context.drawImage(cells, 0, 0, CELLS, CELLS, left, top, right - left, bottom - top);
  context.imageSmoothingEnabled = true;
}
