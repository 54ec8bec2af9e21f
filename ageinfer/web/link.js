// The connection of a page to the run on the device: its events, and what is said when none come.
import { setText } from "./text.js";

export const RETRY_MS = 2000;
const SILENCE_MS = 4000; // the device says something every second

export class Link {
  // `address` gives the address of the stream at each try; `handlers` take the values of its events, by name.
  constructor(address, handlers) {
    Object.assign(this, { address, handlers, events: null, silence: 0, retry: 0 });
  }

  connect() {
    this.disconnect();
    this.events = new EventSource(this.address());
    for (const [name, handle] of Object.entries(this.handlers)) {
      this.events.addEventListener(name, (event) => {
        this.listen();
        handle(JSON.parse(event.data));
      });
    }
    this.events.addEventListener("end", () => this.lost("The run on the device has ended"));
    this.events.addEventListener("error", () => this.lost("Connection to the device lost, trying again"));
    this.listen();
  }

  disconnect() {
    clearTimeout(this.silence);
    clearTimeout(this.retry);
    if (this.events) this.events.close();
    this.events = null;
  }

  listen() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.lost("Connection to the device lost, trying again"), SILENCE_MS);
  }

  lost(text) {
    this.disconnect();
    say("lost", text);
    this.retry = setTimeout(() => this.tryAgain(), RETRY_MS);
  }

  async tryAgain() {
    let status = 0;
    try {
      const signal = AbortSignal.timeout(SILENCE_MS);
      status = (await fetch(this.address(), { method: "HEAD", cache: "no-store", signal })).status;
    } catch {
      // still away
    }
    if (document.hidden || this.events) return; // things have changed meanwhile
    if (status === 200) return this.connect();
    if (status === 401) say("lost", "The device asks for a token: open the address that it printed");
    if (status === 503) say("lost", "Too many are watching, trying again");
    this.retry = setTimeout(() => this.tryAgain(), RETRY_MS);
  }
}

export function say(state, text) {
  for (const name of ["waiting", "live", "lost"]) document.body.classList.toggle(name, name === state);
  setText(document.getElementById("status"), text);
}
