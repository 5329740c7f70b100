// Uses the status page as an operator would, in a headless Chromium, while clients send requests to the proxy.
// Every check is an assertion; the first that fails ends it with status 1. Pictures go to OUTPUT.
import assert from "node:assert/strict";
import http from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";

const { DRIVER, PAGE, PROXY, TOKEN, READ_TOKEN, OUTPUT, TIDEGATE_PICTURES: PICTURES } = process.env;
const puppeteer = createRequire(path.join(DRIVER, "package.json"))("puppeteer-core");
const EVIL = "<img src=x onerror=alert(1)>";
const PATIENCE = 15_000;

// --- Clients of the proxy ---

const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });

function send(target, user, address, method = "GET") {
  return new Promise((resolve, reject) => {
    const headers = { "x-forwarded-for": address };
    if (user) headers["x-user-id"] = user;
    const request = http.request(PROXY + target, { agent, method, headers }, (answer) => {
      answer.resume();
      answer.on("end", () => resolve(answer.statusCode));
    });
    request.on("error", reject);
    request.end();
  });
}

const many = (count, ...what) => Promise.all(Array.from({ length: count }, () => send(...what)));
const passed = (codes) => codes.filter((code) => code === 200).length;

/** A site's usual clients: most stay below their limits, some do not. */
async function traffic(round) {
  const swing = 1 + Math.round(2 * (1 + Math.sin(round / 5)));
  await Promise.all([
    many(4 * swing, "/api/items", "user_456", "203.0.113.7"),
    many(2 + swing, "/api/items", "alice@example.com", "198.51.100.4"),
    many(swing, "/api/items", "bob@example.com", "198.51.100.9"),
    many(2, "/api/search", "user_456", "203.0.113.7"),
    many(1, "/api/reports/weekly", "batch-runner", "192.0.2.80"),
    many(swing, "/catalogue", undefined, "203.0.113.99"),
    many(1, "/login", undefined, "203.0.113.99", "POST"),
    many(1, "/api/search", EVIL, "203.0.113.66"),
  ]);
}

async function admin(method, target) {
  const answer = await fetch(`${PROXY}/.tidegate${target}`, { method, headers: { authorization: `Bearer ${TOKEN}` } });
  return answer.status === 204 ? null : answer.json();
}

// --- The browser ---

const browser = await puppeteer.launch({
  executablePath: "/usr/bin/chromium",
  headless: true,
  args: [
    "--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--font-render-hinting=none", "--disable-lcd-text",
  ],
});
const faults = [];
const requests = [];
const page = await browser.newPage();
await watch(page);

/** Notes what the page asks for, what goes wrong in it, and what its Content-Security-Policy stops. */
async function watch(page) {
  page.on("request", (request) => requests.push(request.url()));
  page.on("pageerror", (error) => faults.push(`script: ${error.message}`));
  page.on("dialog", (dialog) => { faults.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("console", (message) => {
    // The browser itself notes answers such as the 401 of the wrong token.
    if (message.type() === "error" && !/status of (401|403|422)/.test(message.text())) faults.push(`console: ${message.text()}`);
  });
  await page.evaluateOnNewDocument(() => {
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
  });
}
let violations = 0;

const text = (selector) => page.$eval(selector, (node) => node.textContent.trim());
const until = (what, condition, ...words) => page.waitForFunction(condition, { timeout: PATIENCE, polling: 100 }, ...words)
  .catch((error) => { throw new Error(`${what}: ${error.message}`); });
const press = (selector) => page.$eval(selector, (node) => node.click());
const ruleIs = (name, pattern) => until(`${name} is ${pattern}`, (name, pattern) => {
  const rule = [...document.querySelectorAll("#rules > li")].find((node) => node.querySelector(".rule-name").textContent === name);
  return rule && new RegExp(pattern).test(rule.querySelector(".numbers").textContent);
}, name, pattern);
const width = (name, kind) => page.evaluate((name, kind) => {
  const rule = [...document.querySelectorAll("#rules > li")].find((node) => node.querySelector(".rule-name").textContent === name);
  return parseFloat(rule.querySelector(`.stack .${kind}`).style.flexGrow);
}, name, kind);

async function logIn(token) {
  await page.type("#token", token);
  await page.keyboard.press("Enter");
}

async function theWrongTokenLearnsNothing() {
  await page.setViewport({ width: 1280, height: 800 });
  await page.goto(PAGE);
  assert.equal(await page.evaluate(() => document.activeElement.id), "token", "one may type at once");
  await logIn("a-token-of-nobody");
  await until("the wrong token is refused", () => document.querySelector("#login-error").textContent !== "");
  assert.equal(await text("#login-error"), "The proxy does not know this token.");
  assert.equal(await page.$eval("#board", (node) => node.hidden), true);
  const shown = await page.evaluate(() => document.documentElement.outerHTML.replace(/<script>.*<\/script>/s, ""));
  for (const secret of ["api_per_user", "expensive_operations", "user_456"]) assert.ok(!shown.includes(secret), secret);
  assert.deepEqual([...new Set(requests)].filter((url) => !url.startsWith("data:")), [PAGE, `${PAGE}v1/status`]);
  await page.$eval("#token", (node) => { node.value = ""; });
}

async function theRightOneOpens() {
  await logIn(TOKEN);
  await until("the board is shown", () => !document.querySelector("#board").hidden && document.querySelectorAll("#rules > li").length === 5);
  const kept = await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie, location.href, document.querySelector("#token").value]);
  assert.deepEqual(kept, [0, 0, "", PAGE, ""], "the token is in memory only");
  assert.match(await text("#tile-store-of"), /^local, \d workers/);
}

async function barsMove() {
  for (let round = 0; round < 3; round += 1) await traffic(round);
  await ruleIs("api_per_user", "[1-9]\\d* refused");
  const [allowed, refused] = [await width("api_per_user", "allowed"), await width("api_per_user", "refused")];
  assert.ok(allowed > 0 && refused > 0 && Math.abs(allowed + refused - 100) < 1, `${allowed} ${refused}`);
  await many(60, "/api/items", "user_456", "203.0.113.7");
  await until("the bar moves", (before) => {
    const rule = [...document.querySelectorAll("#rules > li")].find((node) => node.querySelector(".rule-name").textContent === "api_per_user");
    return parseFloat(rule.querySelector(".stack .refused").style.flexGrow) > before + 1;
  }, refused);
  const counts = (await admin("GET", "/v1/metrics/api_per_user")).rules.api_per_user;
  await ruleIs("api_per_user", `${counts.rejected} refused`);
  await ruleIs("api_per_user", "left on average");
  await ruleIs("logins", "would be limited|allowed");
  await until("the chart has columns", () => document.querySelectorAll("#tile-spark rect").length > 0);
}

async function whatClientsChoseStaysText() {
  await many(20, "/api/search", EVIL, "203.0.113.66");
  const isShown = (evil) => [...document.querySelectorAll("#violators .who")].some((node) => node.textContent === evil);
  await until("the hostile user is shown", isShown, EVIL);
  assert.equal(await page.evaluate(() => document.querySelectorAll("img").length), 0);
  await page.focus("#tab-users");
  await page.keyboard.press("ArrowRight");
  await until("addresses are shown", () => document.querySelector("#violators").textContent.includes("203.0.113.7"));
  assert.equal(await page.evaluate(() => document.activeElement.id), "tab-ips");
  await page.keyboard.press("ArrowRight");
  await until("endpoints are shown", () => document.querySelector("#violators").textContent.includes("/api/search"));
  await press("#tab-users");
}

async function aGrantByClick() {
  assert.ok(passed(await many(60, "/api/items", "user_456", "203.0.113.7")) < 30, "limited");
  await until("there is a row to grant from", () => [...document.querySelectorAll("#violators button")].some((node) => node.getAttribute("aria-label") === "Give user_456 a grant"));
  await page.evaluate(() => [...document.querySelectorAll("#violators button")].find((node) => node.getAttribute("aria-label") === "Give user_456 a grant").click());
  assert.equal(await page.$eval("#grant-user", (node) => node.value), "user_456");
  await page.select("#grant-reason", "emergency_access");
  await page.type("#grant-note", "INC-7 <b>");
  assert.equal(await text("#grant-summary"), "user_456: no limit in all rules, for 60 minutes.");
  await page.screenshot({ path: path.join(OUTPUT, "grant.png") });
  await press("#grant-submit");
  await until("the grant is listed", () => document.querySelector("#grants").textContent.includes("user_456"));
  assert.equal(passed(await many(40, "/api/items", "user_456", "203.0.113.7")), 40, "it acts on both workers");
  assert.match(await text("#grants"), /no limit · emergency access · by admin_123INC-7 <b>/);
  const left = await text("#grants .countdown span");
  assert.match(left, /^(1:00:00|59:\d\d)$/);
  await until("it counts down", (before) => document.querySelector("#grants .countdown span").textContent !== before, left);
  await until("the audit log has it", () => /admin_123 gave a grant to user_456/.test(document.querySelector("#audit").textContent));
  await ruleIs("api_per_user", "granted");
}

async function whatTheProxyRefusesIsShown() {
  await page.focus("#grant-button");
  await page.keyboard.press("Enter");
  await page.type("#grant-ip", "0.0.0.0/0");
  await press("#grant-submit");
  await until("the refusal is shown", () => document.querySelector("#grant-error").textContent.includes("/target_ip"));
  await page.keyboard.press("Escape");
  assert.equal(await page.$eval("#grant-dialog", (node) => node.open), false);
  assert.equal(await page.evaluate(() => document.activeElement.id), "grant-button", "the focus is back");
}

async function revokedByClick() {
  await press("#grants button");
  assert.match(await text("#confirm-text"), /^user_456: limited again from the next request on\.$/);
  await press("#confirm-dialog [data-close]");
  assert.equal((await admin("GET", "/v1/overrides")).overrides.length, 1, "nothing is done without the confirmation");
  await press("#grants button");
  await press("#confirm-button");
  await until("it is gone", () => document.querySelector("#grants").textContent === "Nothing is granted.");
  await many(12, "/api/items", "user_456", "203.0.113.7");
  assert.ok(passed(await many(60, "/api/items", "user_456", "203.0.113.7")) < 30, "limited again");
}

async function resetByClick() {
  await ruleIs("api_per_user", "[1-9]\\d* refused");
  await page.evaluate(() => [...document.querySelectorAll("#rules button")].find((node) => node.getAttribute("aria-label") === "Reset the counts of api_per_user").click());
  await press("#confirm-button");
  await ruleIs("api_per_user", "^0 allowed0 refused");
  assert.equal((await admin("GET", "/v1/metrics/api_per_user")).rules.api_per_user.total, 0);
}

/** Alerts are a member of the status that not every proxy has: one is put in on the way. */
async function alertsAreShown() {
  assert.equal(await page.$eval("#alerts-card", (node) => node.hidden), !((await admin("GET", "/v1/status")).alerts?.length > 0));
  const alerts = [
    { name: "calm", when: "store_unhealthy", state: "resolved", since: null, value: 0 },
    { name: EVIL, when: "hit_rate_above", rule: "api_per_user", state: "firing", since: new Date().toISOString(), value: 0.42, threshold: 0.25 },
  ];
  const put = async (request) => {
    if (!request.url().endsWith("/v1/status")) return request.continue();
    const status = await admin("GET", "/v1/status");
    return request.respond({ status: 200, contentType: "application/json", body: JSON.stringify({ ...status, alerts }) });
  };
  await page.setRequestInterception(true);
  page.on("request", put);
  await until("alerts are shown", () => document.querySelectorAll("#alerts > li").length === 2);
  assert.equal(await text("#alerts .target"), EVIL, "what fires comes first, as text");
  assert.match(await text("#alerts .muted"), /^hit rate above 0\.25 in api_per_user, now 0\.42, since \d\d:\d\d:\d\d$/);
  page.off("request", put);
  await page.setRequestInterception(false);
}

async function aTokenThatMayOnlyLook() {
  violations += (await page.evaluate(() => window.violations)).length;
  await press("#logout-button");
  assert.equal(await page.$eval("#rules", (node) => node.children.length), 0, "nothing is left in the page");
  await logIn(READ_TOKEN);
  await until("it may look", () => document.querySelectorAll("#rules > li").length === 5);
  await press("#rules button");
  await press("#confirm-button");
  await until("and not change", () => /look and not change/.test(document.querySelector("#confirm-error").textContent));
  await press("#confirm-dialog [data-close]");
  await press("#logout-button");
}

/** Opens the page in a window of its own, as large as a phone. */
async function phone() {
  const window = await (await browser.createBrowserContext()).newPage();
  await watch(window);
  await window.setViewport({ width: 390, height: 844, isMobile: true, hasTouch: true });
  await window.goto(PAGE);
  await window.type("#token", TOKEN);
  await window.tap("#login-button");
  await window.waitForFunction(() => document.querySelectorAll("#rules > li").length === 5, { timeout: PATIENCE });
  return window;
}

/** A board with something to see in it, on both screens in both schemes. */
async function pictures() {
  await logIn(TOKEN);
  await until("the board is back", () => document.querySelectorAll("#rules > li").length === 5);
  const small = await phone();
  const grant = (body) => fetch(`${PROXY}/.tidegate/v1/overrides`, {
    method: "POST", headers: { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" }, body: JSON.stringify(body),
  });
  await grant({ target_rule: "logins", reason: "maintenance", duration_minutes: 5, unlimited: true });
  await grant({ target_user_id: "bob@example.com", target_rule: "api_per_user", reason: "customer_support", duration_minutes: 30, rate_multiplier: 5, note: "ticket 4711" });
  let rounds = 0;
  let goes = true;
  const clients = (async () => { for (; goes; rounds += 1) await Promise.all([traffic(rounds), pause(1000)]); })();
  while (rounds < (PICTURES ? 100 : 4)) await pause(200);
  for (const [screen, window] of [["desktop", page], ["phone", small]]) {
    for (const scheme of ["light", "dark"]) {
      const name = `${screen}-${scheme}`;
      await window.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      await window.evaluate(() => { document.querySelector("#notices").replaceChildren(); scrollTo(0, 0); document.activeElement.blur(); });
      await pause(700); // Bars and colours settle; nothing below depends on it.
      const fits = await window.evaluate(() => document.scrollingElement.scrollWidth <= innerWidth);
      assert.ok(fits, `${name}: nothing is wider than the screen`);
      const tiny = await window.evaluate(() => [...document.querySelectorAll("#board button")].filter((node) => node.getClientRects().length && node.getBoundingClientRect().height < 30).length);
      assert.equal(tiny, 0, `${name}: buttons are large enough`);
      const ground = await window.evaluate(() => getComputedStyle(document.body).backgroundColor);
      assert.equal(ground, scheme === "dark" ? "rgb(13, 21, 25)" : "rgb(244, 247, 248)", name);
      for (const folder of [OUTPUT, PICTURES].filter(Boolean)) await window.screenshot({ path: path.join(folder, `${name}.png`) });
      await window.screenshot({ path: path.join(OUTPUT, `${name}-whole.png`), fullPage: true });
    }
  }
  goes = false;
  await clients;
  violations += (await small.evaluate(() => window.violations)).length;
}

try {
  for (const step of [
    theWrongTokenLearnsNothing, theRightOneOpens, barsMove, whatClientsChoseStaysText, aGrantByClick, whatTheProxyRefusesIsShown,
    revokedByClick, resetByClick, alertsAreShown, aTokenThatMayOnlyLook, pictures,
  ]) {
    await step();
    console.log(`ok ${step.name}`);
  }
  violations += (await page.evaluate(() => window.violations)).length;
  const away = requests.filter((url) => !url.startsWith(PAGE) && !url.startsWith("data:"));
  console.log(`csp violations ${violations}\nrequests that left loopback ${away.length}`);
  assert.deepEqual([violations, away, faults], [0, [], []]);
} catch (error) {
  await page.screenshot({ path: path.join(OUTPUT, "failed.png"), fullPage: true }).catch(() => {});
  console.error(error, faults);
  process.exitCode = 1;
} finally {
  await browser.close();
  agent.destroy();
}
