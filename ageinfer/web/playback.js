// The buttons of a recording: pause, go on, from the start.

const buttons = document.getElementById("playback");
const [pause, repeat] = buttons.querySelectorAll("button");
let paused = false;

pause.addEventListener("click", () => ask(paused ? "play" : "pause"));
repeat.addEventListener("click", () => ask("repeat"));
document.addEventListener("keydown", (event) => {
  if (event.key !== " " || buttons.hidden || pause.disabled || event.target.closest("button, a, [tabindex]")) return;
  event.preventDefault();
  pause.click();
});

// `playback` is null for a camera, else { paused, ended, repeatable }.
export function showPlayback(playback) {
  buttons.hidden = !playback;
  if (!playback) return;
  paused = playback.paused;
  const label = paused ? "Go on" : "Pause";
  if (pause.textContent !== label) pause.textContent = label;
  pause.disabled = playback.ended;
  repeat.disabled = !playback.repeatable;
  repeat.title = playback.repeatable ? "" : "After the end, because the recording is also written to files";
}

async function ask(wish) {
  await fetch(`playback?do=${wish}`, { method: "POST" }).catch(() => {}); // the state shows whether it worked
}
