// Registers the service worker, which keeps the site for use without a network and lets WebAssembly use threads.

// Resolves when the page is as isolated as it can be; it may be loaded once more for that.
export async function install() {
  if (!("serviceWorker" in navigator)) return;
  try {
    await navigator.serviceWorker.register("sw.js");
    await navigator.serviceWorker.ready;
  } catch {
    return; // for example in a private window: the page works without it
  }
  // The headers that isolate a page come from the service worker, which the first load did not go through.
  if (!self.crossOriginIsolated && !sessionStorage.getItem("isolating")) {
    sessionStorage.setItem("isolating", "yes");
    location.reload();
    await new Promise(() => {});
  }
}
