// The status page's board: shows what the proxy said last, and how it changed since.
// Not here: the token, calls and dialogs (`page.js`), which says what a click on the board is to do.
"use strict";
const board = (() => {
  const { COLUMNS, $, whole, fine, short, element, button, keep, setText, percent, span, chart, options, moment } = draw;
  const ALL_RULES = "";

  /** What a click does: `reset(rule)`, `grant(whom)`, `revoke(grant)`. */
  const clicks = {};
  /** What the proxy said last, and what each rule counted from look to look. */
  let seen = null;
  const history = new Map();
  let violatorsBy = "users";

  /** What a rule counted since the poll before; a reset begins anew. */
  function remember(now) {
    for (const name of history.keys()) if (!(name in now.metrics)) history.delete(name);
    for (const [name, counts] of Object.entries(now.metrics)) {
      const kept = history.get(name) ?? { last: null, at: now.at, steps: [] };
      if (kept.last && counts.total >= kept.last.total) {
        const seconds = Math.max(0.2, (now.at - kept.at) / 1000);
        const grown = (key) => Math.max(0, (counts[key] ?? 0) - (kept.last[key] ?? 0)) / seconds;
        const refused = grown("rejected");
        const soft = grown("delayed") + grown("queued") + grown("degraded");
        const granted = grown("granted");
        kept.steps.push({ total: grown("total"), refused, soft, granted, allowed: Math.max(0, grown("total") - refused - soft - granted) });
        if (kept.steps.length > COLUMNS) kept.steps.shift();
      } else if (kept.last) {
        kept.steps = [];
      }
      kept.last = counts;
      kept.at = now.at;
      history.set(name, kept);
    }
  }

  const stack = (step) => [["allowed", step.allowed], ["granted", step.granted], ["soft", step.soft], ["refused", step.refused]];

  /** Shows what the proxy said. */
  function show(now) {
    remember(now);
    seen = now;
    showTiles();
    showRules();
    showViolators();
    showAlerts();
    showGrants();
    showAudit();
  }

  function showTiles() {
    const { status, metrics, overrides, rules } = seen;
    setText($("namespace"), String(status.policy?.namespace ?? ""));
    document.title = `Tidegate: ${status.policy?.namespace ?? ""}`;
    const sums = [];
    for (const { steps } of history.values()) {
      steps.slice().reverse().forEach((step, back) => {
        const sum = (sums[back] ??= { total: 0, refused: 0, soft: 0, granted: 0, allowed: 0 });
        for (const key of Object.keys(sum)) sum[key] += step[key];
      });
    }
    setText($("tile-rate"), sums.length ? short.format(sums[0].total) : "–");
    chart($("tile-spark"), sums.reverse().map(stack));
    const all = Object.values(metrics).reduce((sum, it) => sum + it.total, 0);
    const limited = Object.values(metrics).reduce((sum, it) => sum + it.limited, 0);
    setText($("tile-limited"), percent(limited, all));
    setText($("tile-limited-of"), `${whole.format(limited)} of ${whole.format(all)} verdicts`);
    setText($("tile-grants"), whole.format(overrides.length));
    const kills = overrides.filter(isKillSwitch).length;
    setText($("tile-grants-of"), kills ? `${kills} of them a kill switch` : `${rules.length} rules`);
    const table = status.table ?? {};
    const fill = table.capacity_keys > 0 ? table.keys / table.capacity_keys : 0;
    setText($("tile-table"), `${short.format(100 * fill)} %`);
    $("tile-meter").style.width = `${Math.min(100, 100 * fill)}%`;
    $("tile-meter").classList.toggle("full", fill > 0.85 || table.given_up_limiting > 0);
    const given = table.given_up_limiting > 0 ? `, ${whole.format(table.given_up_limiting)} given up at their limit` : "";
    setText($("tile-table-of"), `${whole.format(table.keys ?? 0)} of ${whole.format(table.capacity_keys ?? 0)} counters${given}`);
    const healthy = status.store?.healthy !== false;
    setText($("tile-store"), healthy ? "healthy" : "failing");
    $("tile-store").classList.toggle("bad", !healthy);
    setText($("tile-store-of"), `${status.store?.type ?? "?"}, ${status.workers} workers, ${whole.format(status.waiting ?? 0)} held`);
    const misfit = status.runtime?.applied === false ? " · the rules put at run time do not fit the policy file and are not applied" : "";
    setText($("foot"), `Tidegate ${status.version} · policy ${String(status.policy?.sha256 ?? "").slice(0, 12)} · generation ${status.generation} · ${document.body.dataset.proxy}${misfit}`);
    $("foot").classList.toggle("error", misfit !== "");
  }

  function makeRule(rule) {
    const node = element("li", "rule");
    const top = element("div", "rule-top");
    const what = element("div", "rule-what");
    const chips = element("div", "chips");
    what.append(element("span", "rule-name", rule.name), chips);
    const spark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    spark.setAttribute("class", "spark");
    spark.setAttribute("aria-hidden", "true");
    const reset = button("Reset", "small", () => clicks.reset(rule.name), `Reset the counts of ${rule.name}`);
    top.append(what, spark, reset);
    const bar = element("div", "stack");
    bar.setAttribute("role", "img");
    const parts = {};
    for (const kind of ["allowed", "granted", "soft", "refused"]) bar.append((parts[kind] = element("i", kind)));
    const numbers = element("div", "numbers");
    node.append(top, bar, numbers);
    return Object.assign(node, { parts: { chips, spark, bar, numbers, ...parts } });
  }

  function updateRule(node, rule) {
    const counts = seen.metrics[rule.name] ?? {};
    const { chips, spark, bar, numbers, ...parts } = node.parts;
    const strategy = typeof rule.strategy === "object" && rule.strategy ? rule.strategy.type : rule.strategy;
    const burst = rule.burst === undefined ? "" : `, burst ${whole.format(rule.burst)}`;
    const labels = [[rule.scope], [`${whole.format(rule.rate)} in ${rule.window_seconds} s${burst}`], [rule.algorithm], [strategy]];
    const off = rule.enabled === false;
    if (rule.source === "runtime") labels.push(["put at run time", "runtime"]);
    if (off) labels.push(["disabled", "off"]);
    if (rule.mode === "shadow") labels.push(["in shadow", "off"]);
    const wanted = labels.filter(([text]) => text).map(([text, kind]) => `${kind ?? ""} ${text}`).join("|");
    if (chips.shown !== wanted) {
      chips.replaceChildren(...labels.filter(([text]) => text).map(([text, kind]) => element("span", `chip ${kind ?? ""}`, String(text))));
      chips.shown = wanted;
    }
    node.classList.toggle("off-rule", off);
    const total = counts.total ?? 0;
    const soft = (counts.delayed ?? 0) + (counts.queued ?? 0) + (counts.degraded ?? 0);
    const shares = { granted: counts.granted ?? 0, soft, refused: counts.rejected ?? 0 };
    shares.allowed = Math.max(0, total - shares.granted - shares.soft - shares.refused);
    for (const [kind, count] of Object.entries(shares)) {
      parts[kind].hidden = count === 0;
      parts[kind].style.flexGrow = total ? String((100 * count) / total) : "0";
    }
    bar.setAttribute("aria-label", `${percent(counts.limited ?? 0, total)} of ${total} limited`);
    const words = [[counts.allowed ?? 0, "allowed"], [shares.refused, "refused"]];
    if (soft) words.push([soft, "held, queued or reduced"]);
    if (shares.granted) words.push([shares.granted, "granted"]);
    if (counts.shadow_limited) words.push([counts.shadow_limited, "would be limited"]);
    const cells = words.map(([count, word]) => [whole.format(count), ` ${word}`]);
    if (total) cells.push([short.format(counts.average_remaining ?? 0), " left on average"]);
    cells.push([percent(counts.limited ?? 0, total), " limited", "share"]);
    const text = cells.flat().join("|");
    if (numbers.shown !== text) {
      numbers.replaceChildren(...cells.map(([count, word, kind]) => {
        const cell = element("span", kind ?? "");
        cell.append(element("b", "", count), word);
        return cell;
      }));
      numbers.shown = text;
    }
    chart(spark, (history.get(rule.name)?.steps ?? []).map(stack));
  }

  function showRules() {
    keep($("rules"), seen.rules, (rule) => rule.name, makeRule, updateRule, "The policy has no rules.");
    options($("violators-rule"), [[ALL_RULES, "all"], ...seen.rules.map((rule) => [rule.name, rule.name])]);
    options($("grant-rule"), [["", "all that apply"], ["*", "every rule"], ...seen.rules.map((rule) => [rule.name, rule.name])]);
  }

  function showViolators() {
    const only = $("violators-rule").value;
    const counts = new Map();
    for (const [name, rule] of Object.entries(seen.metrics)) {
      if (only && name !== only) continue;
      for (const it of rule.violations?.[violatorsBy] ?? []) {
        const sum = counts.get(it.key) ?? { key: it.key, count: 0, error: 0 };
        counts.set(it.key, { key: it.key, count: sum.count + it.count, error: sum.error + it.error });
      }
    }
    const top = [...counts.values()].sort((a, b) => b.count - a.count || (a.key < b.key ? -1 : 1)).slice(0, 8);
    const most = top[0]?.count ?? 1;
    const make = (it) => {
      const node = element("li");
      const who = element("span", "who mono");
      const fill = element("i");
      const name = element("span", "", it.key.startsWith("sha256:") ? `${it.key.slice(0, 19)}… (not verified)` : it.key);
      name.title = it.key;
      who.append(fill, name);
      const count = element("span", "count");
      node.append(who, count, it.key.startsWith("sha256:") ? element("span") : button("Grant…", "small", () => clicks.grant({ [violatorsBy]: it.key }), `Give ${it.key} a grant`));
      return Object.assign(node, { fill, count });
    };
    const update = (node, it) => {
      node.fill.style.width = `${(100 * it.count) / most}%`;
      setText(node.count, `${it.error ? "≤ " : ""}${whole.format(it.count)}`);
    };
    keep($("violators"), top, (it) => `${violatorsBy} ${it.key}`, make, update, "Nobody was refused.");
  }

  function showAlerts() {
    const alerts = seen.status.alerts;
    $("alerts-card").hidden = !Array.isArray(alerts) || alerts.length === 0;
    if (!Array.isArray(alerts)) return;
    const make = () => {
      const node = element("li");
      const row = element("div", "row");
      const parts = { name: element("span", "target"), state: element("span", "state"), why: element("p", "muted") };
      row.append(parts.name, parts.state);
      node.append(row, parts.why);
      return Object.assign(node, { parts });
    };
    const update = (node, it) => {
      setText(node.parts.name, String(it.name));
      setText(node.parts.state, String(it.state ?? "?"));
      node.parts.state.className = `state ${it.state === "firing" ? "firing" : ""}`;
      const rule = it.rule ? ` in ${it.rule}` : "";
      const value = typeof it.value === "number" ? `, now ${fine.format(it.value)}` : "";
      const threshold = typeof it.threshold === "number" ? ` ${fine.format(it.threshold)}` : "";
      const since = it.since ? `, since ${moment(it.since)}` : "";
      setText(node.parts.why, `${String(it.when ?? "").replaceAll("_", " ")}${threshold}${rule}${value}${since}`);
    };
    const sorted = alerts.slice().sort((a, b) => (b.state === "firing") - (a.state === "firing"));
    keep($("alerts"), sorted, (it) => String(it.name), make, update);
  }

  const isKillSwitch = (it) => !it.target_user_id && !it.target_ip && !it.target_endpoint && it.unlimited === true;
  const allows = (it) => (it.unlimited ? "no limit" : `${short.format(it.rate_multiplier)} × the rate`);

  const named = (rule) => (!rule || rule === "*" ? "all rules" : rule);

  function target(it) {
    const parts = [it.target_user_id, it.target_ip, it.target_endpoint].filter(Boolean);
    if (parts.length === 0) return named(it.target_rule);
    return parts.join(" at ") + (it.target_rule && it.target_rule !== "*" ? ` in ${it.target_rule}` : "");
  }

  function showGrants() {
    const make = (it) => {
      const node = element("li");
      const row = element("div", "row");
      const what = element("div");
      what.append(element("span", "target", target(it)), element("p", "muted", `${isKillSwitch(it) ? "kill switch" : allows(it)} · ${it.reason.replaceAll("_", " ")} · by ${it.admin_id}`));
      if (it.note) what.append(element("p", "muted", it.note));
      row.append(what, button("Revoke", "small", () => clicks.revoke(it), `Revoke the grant of ${target(it)}`));
      const countdown = element("div", "countdown");
      const meter = element("div", "meter");
      const fill = element("i");
      const left = element("span");
      meter.append(fill);
      countdown.append(meter, left);
      node.append(row, countdown);
      return Object.assign(node, { fill, left, length: Math.max(1, (Date.parse(it.expires_at) - Date.parse(it.created_at)) / 1000) });
    };
    const update = (node, it) => { node.ends = seen.at + it.expires_in_seconds * 1000; };
    const sorted = seen.overrides.slice().sort((a, b) => a.expires_in_seconds - b.expires_in_seconds);
    keep($("grants"), sorted, (it) => it.override_id, make, update, "Nothing is granted.");
    countDown();
  }

  function countDown() {
    for (const node of $("grants").children) {
      if (node.ends === undefined) continue;
      const left = (node.ends - performance.now()) / 1000;
      setText(node.left, left > 0 ? span(left) : "ended");
      node.fill.style.width = `${Math.min(100, Math.max(0, (100 * left) / node.length))}%`;
    }
  }

  const ACTIONS = { rule_put: "put the rule", rule_removed: "removed the rule", override_given: "gave a grant to", override_revoked: "revoked the grant of", override_expired: "saw the end of the grant of", metrics_reset: "reset the counts of", counter_cleared: "cleared a counter of", alert_fired: "raised the alert", alert_resolved: "ended the alert" };

  function showAudit() {
    const { audit } = seen;
    // A grant that ends is named by its number; whom it was for stands where it was given.
    const given = new Map((audit.entries ?? []).filter((it) => it.action === "override_given").map((it) => [it.detail?.override_id, it.detail]));
    const make = (it) => {
      const node = element("li");
      const detail = given.get(it.detail?.override_id) ?? it.detail ?? {};
      const row = element("div", "row");
      const what = element("span", "what");
      const about = detail.target_user_id || detail.target_ip || detail.target_endpoint || detail.target_rule ? target(detail) : detail.rule ?? detail.override_id ?? detail.name ?? "";
      const key = detail.key?.value ? ` (${detail.key.value})` : "";
      const did = it.action === "override_given" && isKillSwitch(detail) ? "switched off" : ACTIONS[it.action] ?? it.action;
      what.append(element("b", "", it.actor), ` ${did} `, element("span", "mono", `${about}${key}`));
      const time = element("time", "", moment(it.at));
      time.dateTime = it.at;
      time.title = it.at;
      row.append(what, time);
      node.append(row);
      return node;
    };
    const newest = (audit.entries ?? []).slice(-12).reverse();
    keep($("audit"), newest, (it) => `${it.seq} ${it.hash}`, make, () => {}, "Nothing was changed yet.");
    const failed = audit.failed_logins?.total ?? 0;
    setText($("failed-logins"), failed ? `${whole.format(failed)} failed ${failed === 1 ? "login" : "logins"}` : "");
  }

  /** What was shown goes: the next to sit here has not logged in. */
  function forget() {
    seen = null;
    history.clear();
    for (const id of ["rules", "violators", "violators-rule", "grants", "audit", "alerts", "tile-spark", "grant-rule"]) $(id).replaceChildren();
    for (const id of ["namespace", "foot", "failed-logins"]) $(id).textContent = "";
    document.querySelectorAll("[id^=tile-]:not(svg):not(i)").forEach((node) => { node.textContent = ""; });
  }

  function chooseTab(tab) {
    violatorsBy = tab.dataset.kind;
    for (const other of document.querySelectorAll("[role=tab]")) {
      other.setAttribute("aria-selected", String(other === tab));
      other.tabIndex = other === tab ? 0 : -1;
    }
    $("violators").setAttribute("aria-labelledby", tab.id);
    if (seen) showViolators();
  }

  function moveTab(event) {
    const tabs = [...document.querySelectorAll("[role=tab]")];
    const step = { ArrowRight: 1, ArrowLeft: tabs.length - 1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(event.currentTarget) + step) % tabs.length];
    next.focus();
    chooseTab(next);
  }

  document.querySelectorAll("[role=tab]").forEach((tab) => {
    tab.addEventListener("click", () => chooseTab(tab));
    tab.addEventListener("keydown", moveTab);
  });
  $("violators-rule").addEventListener("change", () => seen && showViolators());
  setInterval(countDown, 1000);
  return { show, forget, clicks, target, allows, named, isKillSwitch };
})();
