// Keeps the page's files, so that it works without a network; a new version replaces them all.

const VERSION = "{{ version }}";
const FILES = {{ files|tojson }};

self.addEventListener("install", (event) => event.waitUntil((async () => {
  await (await caches.open(VERSION)).addAll(FILES);
  await self.skipWaiting();
})()));

self.addEventListener("activate", (event) => event.waitUntil((async () => {
  const old = (await caches.keys()).filter((name) => name.startsWith("faces-") && name !== VERSION);
  await Promise.all(old.map((name) => caches.delete(name)));
  await self.clients.claim();
})()));

self.addEventListener("fetch", (event) => event.respondWith((async () => {
  const kept = await (await caches.open(VERSION)).match(event.request, { ignoreSearch: true });
  return kept ?? fetch(event.request);
})()));
