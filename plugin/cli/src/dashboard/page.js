// The status page's session: asks the proxy's admin API through this page's own server, with the token that was typed
// in, again and again and at clicks. Not here: what is shown (`board.js`), and who may call, which `guard.rs` and the proxy
// decide.
"use strict";
(() => {
  const { $, whole, element, button, setText, moment } = draw;
  const { target, allows, named, isKillSwitch } = board;
  const POLL_MS = 2000;

  /** The token lives here and nowhere else. */
  let token = null;
  let session = 0;
  let timer = 0;
  let turns = 0;

  // --- Calls ---

  class Refused extends Error {
    constructor(status, message) {
      super(message);
      this.status = status;
    }
  }

  async function call(method, path, body) {
    const headers = { authorization: `Bearer ${token}`, accept: "application/json" };
    if (body !== undefined) headers["content-type"] = "application/json";
    const options = { method, headers, body: body === undefined ? undefined : JSON.stringify(body), credentials: "omit", cache: "no-store", redirect: "error", referrerPolicy: "no-referrer" };
    let answer;
    try {
      answer = await fetch(path, options);
    } catch {
      throw new Refused(0, "This page's server does not answer: has `tidegate dashboard` ended?");
    }
    const said = answer.status === 204 ? null : await answer.json().catch(() => null);
    if (answer.ok) return said;
    const mistakes = Array.isArray(said?.mistakes) ? said.mistakes : [];
    const lines = mistakes.map((it) => `${it.pointer || "(all)"}: found ${it.found}, allowed: ${it.allowed}`);
    throw new Refused(answer.status, [String(said?.detail ?? `The proxy answers ${answer.status}.`), ...lines].join("\n"));
  }

  const part = (text) => encodeURIComponent(text);

  // --- Logging in and out ---

  function leave(message) {
    token = null;
    session += 1;
    clearTimeout(timer);
    document.querySelectorAll("dialog[open]").forEach((dialog) => dialog.close());
    board.forget();
    $("notices").replaceChildren();
    $("board").hidden = true;
    $("login").hidden = false;
    $("login-error").textContent = message ?? "";
    document.title = "Tidegate";
    $("token").focus();
  }

  async function enter(event) {
    event.preventDefault();
    const typed = $("token").value.trim();
    $("login-error").textContent = "";
    if (!/^[\x21-\x7e]+$/.test(typed)) {
      $("login-error").textContent = "A token is one word of visible ASCII characters.";
      return;
    }
    $("login-button").disabled = true;
    token = typed;
    try {
      const status = await call("GET", "/v1/status");
      if (!status?.version || !Array.isArray(status.capabilities)) throw new Refused(0, "What answers is not the admin API: is its address the right one?");
      $("token").value = "";
      session += 1;
      $("login").hidden = true;
      $("board").hidden = false;
      await poll(session);
    } catch (error) {
      token = null;
      const elsewhere = "Is the path the policy's admin_api.path, and the host one of admin_api.hosts? `tidegate dashboard --host NAME` names another.";
      $("login-error").textContent = { 401: "The proxy does not know this token.", 404: `${error.message} ${elsewhere}` }[error.status] ?? error.message;
      $("token").select();
    } finally {
      $("login-button").disabled = false;
    }
  }

  // --- Asking again and again ---

  async function look() {
    const [status, rules, metrics, overrides, audit] = await Promise.all(
      ["status", "rules", "metrics", "overrides", "audit"].map((what) => call("GET", `/v1/${what}`)),
    );
    return { status, rules: rules.rules ?? [], metrics: metrics.rules ?? {}, overrides: overrides.overrides ?? [], audit, at: performance.now() };
  }

  async function poll(of) {
    clearTimeout(timer);
    if (of !== session || token === null) return;
    // Only the latest look counts: a click asks again while another answer may be on its way.
    const turn = (turns += 1);
    const isLate = () => of !== session || turn !== turns;
    try {
      const now = await look();
      if (isLate()) return;
      board.show(now);
      live(true, "live");
    } catch (error) {
      if (isLate()) return;
      if (error.status === 401) return leave("The proxy no longer knows this token.");
      live(false, error.message.split("\n")[0]);
    }
    timer = setTimeout(() => poll(of), document.hidden ? POLL_MS * 5 : POLL_MS);
  }

  function live(works, text) {
    $("live").classList.toggle("lost", !works);
    setText($("live-text"), text);
  }

  // --- Doing ---

  function notice(text, bad) {
    const node = element("div", bad ? "notice bad" : "notice");
    node.setAttribute("role", bad ? "alert" : "status");
    node.append(element("span", "", text), button("Dismiss", "small", () => node.remove()));
    $("notices").append(node);
    while ($("notices").children.length > 4) $("notices").firstElementChild.remove();
    if (!bad) setTimeout(() => node.remove(), 5000);
  }

  /** Asks before something is done; a refusal is shown in the dialog, which stays open. */
  function confirm({ title, text, word, action, done }) {
    $("confirm-title").textContent = title;
    $("confirm-text").textContent = text;
    $("confirm-button").textContent = word;
    $("confirm-error").textContent = "";
    $("confirm-form").onsubmit = (event) => carryOut(event, $("confirm-dialog"), $("confirm-button"), $("confirm-error"), action, done);
    $("confirm-dialog").showModal();
  }

  async function carryOut(event, dialog, submit, error, action, done) {
    event.preventDefault();
    const of = session;
    submit.disabled = true;
    error.textContent = "";
    try {
      const said = await action();
      if (of !== session) return;
      dialog.close();
      notice(done(said), false);
    } catch (failure) {
      if (of !== session) return;
      if (failure.status === 401) return leave("The proxy no longer knows this token.");
      error.textContent = failure.message;
    } finally {
      submit.disabled = false;
    }
    await poll(of);
  }

  function askToReset(rule) {
    confirm({
      title: `Reset ${rule}?`,
      text: "Its counts begin anew, and its list of the most refused. What its clients have left stays as it is.",
      word: "Reset",
      action: () => call("POST", `/v1/metrics/${part(rule)}/reset`),
      done: () => `The counts of ${rule} begin anew.`,
    });
  }

  function askToRevoke(it) {
    confirm({
      title: "Revoke this grant?",
      text: `${target(it)}: ${isKillSwitch(it) ? "the rule acts again" : "limited again"} from the next request on.`,
      word: "Revoke",
      action: () => call("DELETE", `/v1/overrides/${part(it.override_id)}`),
      done: () => `The grant of ${target(it)} is revoked.`,
    });
  }

  function openGrant(whom) {
    $("grant-user").value = whom.users ?? "";
    $("grant-ip").value = whom.ips ?? "";
    $("grant-endpoint").value = whom.endpoints ?? "";
    $("grant-rule").value = "";
    $("grant-note").value = "";
    $("grant-error").textContent = "";
    sumUp();
    $("grant-dialog").showModal();
  }

  /** The grant as the admin API takes it; what is wrong with it the proxy says. */
  function wanted() {
    const body = { reason: $("grant-reason").value, duration_minutes: Math.floor(Number($("grant-minutes").value)) };
    const given = { target_user_id: "grant-user", target_ip: "grant-ip", target_endpoint: "grant-endpoint", target_rule: "grant-rule", note: "grant-note" };
    for (const [name, id] of Object.entries(given)) if ($(id).value.trim()) body[name] = $(id).value.trim();
    if ($("grant-extent").value) body.rate_multiplier = Number($("grant-extent").value);
    else body.unlimited = true;
    return body;
  }

  function sumUp() {
    const body = wanted();
    const isFor = body.target_user_id || body.target_ip || body.target_endpoint;
    const minutes = body.duration_minutes >= 1 ? `for ${whole.format(body.duration_minutes)} minutes` : "for how long?";
    let text = "Say whom it is for.";
    if (isFor) text = `${[body.target_user_id, body.target_ip, body.target_endpoint].filter(Boolean).join(" at ")}: ${body.unlimited ? "no limit" : allows(body)} in ${named(body.target_rule)}, ${minutes}.`;
    else if (body.target_rule) text = body.unlimited ? `Kill switch: ${body.target_rule === "*" ? "no rule acts" : `${body.target_rule} does not act`} on anybody, ${minutes}.` : `Everybody: ${allows(body)} in ${named(body.target_rule)}, ${minutes}.`;
    setText($("grant-summary"), text);
  }

  document.querySelectorAll("[data-mark]").forEach((node) => node.prepend($("mark").content.cloneNode(true)));
  document.querySelectorAll("[data-close]").forEach((node) => node.addEventListener("click", () => node.closest("dialog").close()));
  $("login-proxy").textContent = document.body.dataset.proxy;
  $("login-form").addEventListener("submit", enter);
  $("logout-button").addEventListener("click", () => leave());
  $("grant-button").addEventListener("click", () => openGrant({}));
  $("grant-form").addEventListener("input", sumUp);
  $("grant-form").addEventListener("submit", (event) => {
    const body = wanted();
    const done = (said) => `Granted to ${target(said)} until ${moment(said.expires_at)}.`;
    carryOut(event, $("grant-dialog"), $("grant-submit"), $("grant-error"), () => call("POST", "/v1/overrides", body), done);
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(session); });
  Object.assign(board.clicks, { reset: askToReset, grant: openGrant, revoke: askToRevoke });
  $("token").focus();
})();
