// How the status page draws: elements, lists that keep their nodes, small charts, numbers and moments as text.
// Whatever a client chose (users, paths) is put into the page as text only; nothing is ever parsed as HTML.
// Not here: what is drawn (`board.js`).
"use strict";
const draw = (() => {
  const COLUMNS = 45; // A minute and a half of polls.
  const $ = (id) => document.getElementById(id);
  const whole = new Intl.NumberFormat("en");
  const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 3 });
  const short = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

  /** An element with a class and a text. */
  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function button(text, className, action, label) {
    const made = element("button", className, text);
    made.type = "button";
    if (label) made.setAttribute("aria-label", label);
    made.addEventListener("click", action);
    return made;
  }

  /** Makes a list show the items, keeping the nodes of those that stay: focus and transitions survive a poll. */
  function keep(list, items, keyOf, make, update, nothing) {
    const known = new Map([...list.children].filter((node) => node.dataKey !== undefined).map((node) => [node.dataKey, node]));
    const wanted = items.map((item) => {
      const key = keyOf(item);
      const node = known.get(key) ?? Object.assign(make(item), { dataKey: key });
      update(node, item);
      return node;
    });
    if (wanted.length === 0 && nothing) {
      if (list.children.length !== 1 || list.firstElementChild.textContent !== nothing) list.replaceChildren(element("li", "empty", nothing));
      return;
    }
    const stays = new Set(wanted);
    [...list.children].forEach((node) => stays.has(node) || node.remove());
    wanted.forEach((node, at) => list.children[at] === node || list.insertBefore(node, list.children[at] ?? null));
  }

  const setText = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  const percent = (part, all) => (all > 0 ? `${short.format((100 * part) / all)} %` : "–");

  function span(seconds) {
    const left = Math.max(0, Math.ceil(seconds));
    const two = (number) => String(number).padStart(2, "0");
    if (left >= 86400) return `${Math.floor(left / 86400)} d ${Math.floor((left % 86400) / 3600)} h`;
    if (left >= 3600) return `${Math.floor(left / 3600)}:${two(Math.floor(left / 60) % 60)}:${two(left % 60)}`;
    return `${Math.floor(left / 60)}:${two(left % 60)}`;
  }

  /** Columns of a small chart: each a stack of [class, value]. */
  function chart(svg, stacks) {
    const NS = "http://www.w3.org/2000/svg";
    svg.setAttribute("viewBox", `0 0 ${COLUMNS * 3} 100`);
    svg.setAttribute("preserveAspectRatio", "none");
    const most = Math.max(1, ...stacks.map((stack) => stack.reduce((sum, [, value]) => sum + value, 0)));
    const bars = [];
    stacks.forEach((stack, at) => {
      let floor = 100;
      for (const [kind, value] of stack) {
        if (value <= 0) continue;
        const height = Math.max(3, (value / most) * 92);
        const bar = document.createElementNS(NS, "rect");
        floor -= height;
        const place = { x: (COLUMNS - stacks.length + at) * 3, y: floor, width: 2.2, height, rx: 0.6 };
        for (const [name, number] of Object.entries(place)) bar.setAttribute(name, String(number));
        bar.setAttribute("class", kind);
        bars.push(bar);
      }
    });
    svg.replaceChildren(...bars);
  }

  /** Fills a select anew where its choices have changed, keeping what is chosen. */
  function options(select, pairs) {
    const wanted = JSON.stringify(pairs);
    if (select.shown === wanted && select.options.length === pairs.length) return;
    const chosen = select.value;
    select.replaceChildren(...pairs.map(([value, text]) => {
      const option = element("option", "", text);
      option.value = value;
      return option;
    }));
    if (pairs.some(([value]) => value === chosen)) select.value = chosen;
    select.shown = wanted;
  }

  /** The local time of day; with the date where that is another day. */
  function moment(text) {
    const at = new Date(text);
    if (Number.isNaN(at.getTime())) return String(text);
    const time = at.toLocaleTimeString("en-GB");
    return at.toDateString() === new Date().toDateString() ? time : `${at.toLocaleDateString("en-CA")} ${time}`;
  }

  return { COLUMNS, $, whole, fine, short, element, button, keep, setText, percent, span, chart, options, moment };
})();
