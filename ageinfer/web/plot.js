// Age over time: one line a track.

const GAP_S = 1.5; // a line is broken where its track was away for longer
const LABEL_PX = 13; // least distance of the numbers at the ends of the lines

// Draws into an SVG element. `lines`: track -> { colour, points: [[clock_s, years], ...] }, no line without a point.
export function drawPlot(svg, lines, clock_s, history_s, empty) {
  const [width, height] = [svg.clientWidth, svg.clientHeight];
  if (!width || !height) return;
  const [left, right, top, bottom] = [34, width - 34, 28, height - 22];
  const years = [...lines.values()].flatMap((line) => line.points.map((point) => point[1]));
  const [low, high, step] = axis(years);
  const x = (at_s) => right - ((clock_s - at_s) / history_s) * (right - left);
  const y = (age) => bottom - ((age - low) / (high - low)) * (bottom - top);
  const parts = [text(0, 12, "start", "years")];
  for (let age = low; age <= high; age += step) {
    parts.push(shape("line", { class: "rule", x1: left, x2: right, y1: y(age), y2: y(age) }));
    parts.push(text(left - 7, y(age) + 4, "end", age));
  }
  for (let ago_s = 0; ago_s <= history_s; ago_s += 15) {
    parts.push(text(x(clock_s - ago_s), height - 5, "middle", ago_s ? `−${ago_s} s` : "now"));
  }
  for (const line of lines.values()) parts.push(shape("path", { class: `age c${line.colour}`, d: path(line, x, y) }));
  parts.push(...labels(lines, x, y));
  if (!lines.size) parts.push(text((left + right) / 2, (top + bottom) / 2, "middle", empty, "empty"));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(...parts);
}

function path(line, x, y) {
  let before_s = -Infinity;
  let drawn = "";
  for (const [at_s, age] of line.points) {
    const at = `${x(at_s).toFixed(1)} ${y(age).toFixed(1)}`;
    // A point alone is drawn too, as a dot: the ends of lines are round.
    drawn += at_s - before_s > GAP_S ? `M${at}L${at}` : `L${at}`;
    before_s = at_s;
  }
  return drawn;
}

// The number of each track where its line ends, moved down where two would cover each other.
function labels(lines, x, y) {
  const ends = [...lines].map(([track, line]) => {
    const [at_s, age] = line.points[line.points.length - 1];
    return { track, colour: line.colour, x: x(at_s) + 6, y: y(age) + 4 };
  });
  ends.sort((a, b) => a.y - b.y);
  ends.forEach((end, index) => {
    for (const above of ends.slice(0, index)) {
      const beside = Math.abs(above.x - end.x) < 2 * LABEL_PX;
      if (beside) end.y = Math.max(end.y, above.y + LABEL_PX);
    }
  });
  return ends.map((end) => text(end.x, end.y, "start", end.track, `end c${end.colour}`));
}

// Lowest and highest age of the axis and the step of its marks: at least ten years, so that noise stays small.
function axis(years) {
  if (!years.length) return [0, 60, 20];
  const [least, most] = [Math.min(...years), Math.max(...years)];
  const middle = (least + most) / 2;
  const [low, high] = [Math.min(least - 1, middle - 5), Math.max(most + 1, middle + 5)];
  const step = [2, 5, 10, 20].find((size) => (high - low) / size <= 6) || 50;
  return [Math.max(0, Math.floor(low / step) * step), Math.ceil(high / step) * step, step];
}

function shape(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function text(x, y, anchor, content, className = "") {
  const made = shape("text", { x, y, "text-anchor": anchor, class: className });
  made.textContent = content;
  return made;
}
