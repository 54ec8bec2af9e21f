// Age over time: one line for each person in the picture.

const GAP_S = 1.5; // a line is broken where its track was away for longer
const LABEL_PX = 13; // distance of the numbers at the ends of the lines
const DIGIT_PX = 8; // about the width of a digit in them
const TIE_PX = 14; // from the end of a line to its number
const CROWD = 8; // more lines are drawn thinner

// Draws into an SVG element. A line is { track, colour, points: [[clock_s, years], ...], left, lit }, the points not
// empty. The numbers of all lines may not fit: the first lines have them, and the one that is lit.
export function drawPlot(svg, lines, clock_s, history_s, empty) {
  const [width, height] = [svg.clientWidth, svg.clientHeight];
  if (!width || !height) return;
  const digits = Math.max(2, ...lines.map((line) => String(line.track).length));
  const [left, right, top, bottom] = [34, width - TIE_PX - DIGIT_PX * digits - 4, 28, height - 22];
  const [low, high, step] = axis(lines.flatMap((line) => line.points.map((point) => point[1])));
  const x = (at_s) => right - ((clock_s - at_s) / history_s) * (right - left);
  const y = (age) => bottom - ((age - low) / (high - low)) * (bottom - top);
  const shapes = [text("unit", 0, 12, "start", "years")];
  for (let age = low; age <= high; age += step) {
    shapes.push(shape(`rule ${age}`, "line", { class: "rule", x1: left, x2: right, y1: y(age), y2: y(age) }));
    shapes.push(text(`age ${age}`, left - 7, y(age) + 4, "end", age));
  }
  for (let ago_s = 0; ago_s <= history_s; ago_s += 15) {
    shapes.push(text(`ago ${ago_s}`, x(clock_s - ago_s), height - 5, "middle", ago_s ? `−${ago_s} s` : "now"));
  }
  const onTop = [...lines].sort((a, b) => a.lit - b.lit);
  for (const line of onTop) {
    shapes.push(shape(`line ${line.track}`, "path", { class: `age ${look(line)}`, d: path(line.points, x, y) }));
  }
  shapes.push(...labels(lines, x, y, { right, top, bottom, width }));
  if (!lines.length) shapes.push(text("empty", (left + right) / 2, (top + bottom) / 2, "middle", empty, "empty"));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.classList.toggle("crowd", lines.length > CROWD);
  svg.classList.toggle("pointed", lines.some((line) => line.lit));
  render(svg, shapes);
}

// Places numbers one below the other, each as near to the height it wants as the others allow.
// `wanted` grows; the numbers must fit between top and bottom.
export function spread(wanted, distance, top, bottom) {
  const groups = []; // of numbers that touch: [sum of the heights that the first of them should have, how many]
  wanted.forEach((height, index) => {
    let group = [height - index * distance, 1];
    while (groups.length && groups.at(-1)[0] / groups.at(-1)[1] > group[0] / group[1]) {
      const above = groups.pop();
      group = [above[0] + group[0], above[1] + group[1]];
    }
    groups.push(group);
  });
  const lowest = bottom - (wanted.length - 1) * distance;
  const firsts = groups.flatMap(([sum, count]) => Array(count).fill(Math.min(Math.max(sum / count, top), lowest)));
  return firsts.map((first, index) => first + index * distance);
}

export function svgElement(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function path(points, x, y) {
  let before_s = -Infinity;
  let drawn = "";
  for (const [at_s, age] of points) {
    const at = `${x(at_s).toFixed(1)} ${y(age).toFixed(1)}`;
    // A point alone is drawn too, as a dot: the ends of lines are round.
    drawn += at_s - before_s > GAP_S ? `M${at}L${at}` : `L${at}`;
    before_s = at_s;
  }
  return drawn;
}

// The number of each track beside the end of its line, and a tie from one to the other.
function labels(lines, x, y, { right, top, bottom, width }) {
  const present = lines.filter((line) => !line.left).sort((a, b) => b.lit - a.lit);
  const room = Math.floor((bottom - top) / LABEL_PX) + 1;
  const ends = present.slice(0, room).map((line) => {
    const [at_s, age] = line.points.at(-1);
    return { line, x: x(at_s), y: y(age) };
  });
  ends.sort((a, b) => a.y - b.y);
  const heights = spread(ends.map((end) => end.y), LABEL_PX, top, bottom);
  const shapes = ends.flatMap(({ line, ...end }, index) => {
    const d = `M${end.x + 2} ${end.y}L${right + TIE_PX - 3} ${heights[index]}`;
    return [
      shape(`tie ${line.track}`, "path", { class: `tie ${look(line)}`, d }),
      text(`end ${line.track}`, right + TIE_PX, heights[index] + 4, "start", line.track, `end ${look(line)}`),
    ];
  });
  if (present.length > room) shapes.push(text("more", width, 12, "end", `+${present.length - room} more`, "more"));
  return shapes;
}

function look(line) {
  return `c${line.colour}${line.left ? " left" : ""}${line.lit ? " lit" : ""}`;
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

function shape(key, name, attributes, content = "") {
  return { key, name, attributes, content: String(content) };
}

function text(key, x, y, anchor, content, className = "") {
  return shape(key, "text", { x, y, "text-anchor": anchor, class: className }, content);
}

// Makes these shapes the children of an element. Those that it has already, by their keys, are changed and not replaced.
function render(parent, shapes) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const keys = new Set(shapes.map((one) => one.key));
  for (const [key, child] of before) if (!keys.has(key)) child.remove();
  shapes.forEach(({ key, name, attributes, content }, index) => {
    const child = before.get(key) ?? svgElement(name, { "data-key": key });
    for (const [attribute, value] of Object.entries(attributes)) {
      if (child.getAttribute(attribute) !== String(value)) child.setAttribute(attribute, value);
    }
    if (child.textContent !== content) child.textContent = content;
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
}
