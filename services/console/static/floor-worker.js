// Keeps the floor's pages, styles and scripts for when there is no connection: always the newest that was seen.
const KEPT = "ordermill-floor";
const PATIENCE_MS = 8000;

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== self.location.origin) return;
  const isPage = request.mode === "navigate" && !/\/packages\/\d+\//.test(url.pathname);
  const isPart = /^\/(static|scripts)\//.test(url.pathname);
  if (isPage || isPart) event.respondWith(newest(request, isPage));
});

async function newest(request, isPage) {
  const kept = await caches.open(KEPT);
  try {
    const answer = await fetch(request, { signal: AbortSignal.timeout(PATIENCE_MS) });
    if (answer.ok && answer.type === "basic" && !answer.redirected) await kept.put(request.url, answer.clone());
    return answer;
  } catch {
    const found = await kept.match(request.url, { ignoreSearch: isPage });
    return found ?? (isPage ? await kept.match("/floor-offline") : undefined) ?? Response.error();
  }
}
