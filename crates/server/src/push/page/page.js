// The page of mail push: logs in, subscribes this browser, shows live events. Texts of others are
// shown as texts only.

const API = "/api/push/v1";
const TOPICS = ["mail:new"];
const MAX_SHOWN = 100;
const MESSAGES = ["mail:new", "mail:append", "mail:flags", "mail:expunge", "mail:mailbox", "stream:gap"];

const element = (id) => document.getElementById(id);
let session = sessionStorage.getItem("session");
let live = null;

function tell(text, isError = false) {
  element("status").textContent = text;
  element("status").classList.toggle("error", isError);
}

/** Asks the API; what it refuses is an error with its own words. */
async function ask(method, path, body) {
  const headers = { "content-type": "application/json" };
  if (session) headers.authorization = `Bearer ${session}`;
  const request = { method, headers, body: body && JSON.stringify(body) };
  const answer = await fetch(API + path, request);
  const text = await answer.text();
  const said = text ? JSON.parse(text) : null;
  if (answer.ok) return said;
  if (answer.status === 401) forget();
  throw new Error(said?.errors?.map((error) => error.detail).join("; ") ?? `The answer is ${answer.status}`);
}

/** Runs what a person has asked for, and tells how it went. */
function act(id, event, what) {
  element(id).addEventListener(event, async (happened) => {
    happened.preventDefault();
    try {
      await what();
    } catch (error) {
      tell(error.message, true);
    }
  });
}

function show(text) {
  const item = document.createElement("li");
  const code = document.createElement("code");
  code.textContent = text;
  item.append(code);
  element("events").prepend(item);
  while (element("events").children.length > MAX_SHOWN) element("events").lastChild.remove();
}

function forget() {
  live?.close();
  live = null;
  session = null;
  sessionStorage.removeItem("session");
  element("person").hidden = true;
  element("login-form").hidden = false;
}

/** Begins when somebody is logged in. */
async function begin(token, name) {
  session = token;
  const { subscriptions } = await ask("GET", "/subscriptions");
  sessionStorage.setItem("session", token);
  element("login-form").hidden = true;
  element("person").hidden = false;
  element("person-name").textContent = name;
  element("log-out").focus();
  tell("Logged in.");
  listen();
  await compare(subscriptions);
}

/** Live events; the browser connects again by itself, and goes on from the log. */
function listen() {
  live?.close();
  live = new EventSource(`${API}/events?session=${encodeURIComponent(session)}`);
  live.addEventListener("open", () => (element("live-state").textContent = "Connected."));
  live.addEventListener("error", () => {
    const isOver = live?.readyState === EventSource.CLOSED;
    element("live-state").textContent = isOver ? "The connection has ended." : "Connecting again.";
  });
  for (const topic of MESSAGES) {
    live.addEventListener(topic, (event) => show(`${topic} ${event.data}`));
  }
}

const registration = () => navigator.serviceWorker?.getRegistration("/push/");

/** Whether this browser is subscribed, here and at the server. */
async function compare(subscriptions) {
  const subscribed = await (await registration())?.pushManager?.getSubscription();
  const id = subscribed && localStorage.getItem("subscription");
  const isKnown = Boolean(id) && subscriptions.some((one) => one.id === id);
  element("browser-state").textContent = isKnown
    ? "This browser is notified of new mail."
    : "This browser gets no notifications.";
  element("test").disabled = element("unsubscribe").disabled = !isKnown;
}

async function refresh() {
  await compare((await ask("GET", "/subscriptions")).subscriptions);
}

act("login-form", "submit", async () => {
  const token = element("token").value.trim();
  if (token) return begin(token, "Logged in by a token");
  const body = { login: element("login").value, password: element("password").value };
  const begun = await ask("POST", "/sessions", body);
  element("password").value = "";
  await begin(begun.session, `Logged in as ${begun.person.login}`);
});

// The login is needed only where there is no token.
element("token").addEventListener("input", (event) => {
  element("login").required = event.target.value.trim() === "";
});

act("log-out", "click", async () => {
  try {
    if (session.startsWith("dps_")) await ask("DELETE", "/sessions/current");
  } finally {
    forget();
  }
  tell("Logged out.");
  element("login").focus();
});

act("subscribe", "click", async () => {
  if (!("serviceWorker" in navigator && "PushManager" in window)) {
    throw new Error("This browser has no push: it needs https, or localhost.");
  }
  if ((await Notification.requestPermission()) !== "granted") {
    throw new Error("Notifications are not allowed in this browser.");
  }
  const { public_key: key } = await ask("GET", "/vapid");
  await navigator.serviceWorker.register("worker.js", { scope: "/push/" });
  const { pushManager } = await navigator.serviceWorker.ready;
  const subscribed = await pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
  const { endpoint, keys } = subscribed.toJSON();
  const body = { client: "page", transport: "webpush", webpush: { endpoint, keys }, topics: TOPICS };
  const { subscription } = await ask("POST", "/subscriptions", body);
  localStorage.setItem("subscription", subscription.id);
  tell("This browser is notified of new mail from now on.");
  await refresh();
});

act("test", "click", async () => {
  const { accepted, answer } = await ask("POST", `/subscriptions/${localStorage.getItem("subscription")}/test`);
  if (!accepted) throw new Error(`The push service answers ${answer.status ?? "nothing"}: ${answer.reason}`);
  tell("The push service has accepted a test.");
});

act("unsubscribe", "click", async () => {
  await ask("DELETE", `/subscriptions/${localStorage.getItem("subscription")}`);
  localStorage.removeItem("subscription");
  await (await (await registration())?.pushManager?.getSubscription())?.unsubscribe();
  tell("This browser gets no notifications any more.");
  await refresh();
});

navigator.serviceWorker?.addEventListener("message", ({ data }) => show(`push ${JSON.stringify(data)}`));

if (session) {
  begin(session, "Logged in").catch((error) => tell(error.message, true));
}
