// The service worker of the page: shows declarative messages (`web_push` is 8030) where the browser
// does not do it by itself, and closes by tag what was read elsewhere.

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("push", (event) => {
  let message;
  try {
    message = event.data.json();
  } catch {
    return;
  }
  event.waitUntil(take(message));
});

async function take(message) {
  const { notification } = message;
  if (message.web_push === 8030 && notification) {
    const { title, body, tag, navigate, data } = notification;
    await self.registration.showNotification(title, { body, tag, data: { navigate, message: data } });
    await badge(message.app_badge);
  } else if (message.topic === "mail:close" || message.close === true) {
    const shown = await self.registration.getNotifications({ tag: message.id });
    for (const one of shown) one.close();
    await badge(message.badge);
  }
  for (const page of await self.clients.matchAll({ type: "window" })) page.postMessage(message);
}

/** The number on the application's icon, where both are known. */
async function badge(count) {
  if (typeof count !== "number" || !self.navigator.setAppBadge) return;
  try {
    await self.navigator.setAppBadge(count);
  } catch {
    // Only installed applications have an icon.
  }
}

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  const place = new URL(event.notification.data?.navigate ?? "/push/", self.location.href);
  event.waitUntil(self.clients.openWindow(place.href));
});
