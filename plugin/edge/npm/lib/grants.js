// Exceptions in this instance's memory, in the admin API's words. They always end.
import { checkField, options, own, shown } from "./arguments.js";

const MEMBERS = new Set(["admin_id", "target_user_id", "target_ip", "target_endpoint", "target_rule", "reason", "duration_minutes", "unlimited", "rate_multiplier", "note"]);
const TARGETS = ["target_user_id", "target_ip", "target_endpoint", "target_rule"];
const REASONS = ["emergency_access", "maintenance", "testing", "customer_support", "other"];
const LONGEST_MINUTES = 10_080;

export class Grants {
  #core;

  constructor(core) {
    this.#core = core;
  }

  give(override, nowUs) {
    const given = options(override, MEMBERS, "an override");
    if (given === undefined) throw new TypeError("an override must be an object");
    const minutes = own(given, "duration_minutes");
    if (!Number.isSafeInteger(minutes) || minutes < 1 || minutes > LONGEST_MINUTES) {
      throw new TypeError(`duration_minutes must be a whole number from 1 to ${LONGEST_MINUTES}, not ${shown(minutes)}`);
    }
    const times = own(given, "rate_multiplier");
    const isUnlimited = own(given, "unlimited") === true;
    if (isUnlimited ? times !== undefined : !(typeof times === "number" && times > 1 && times <= 1_000)) {
      throw new TypeError("an override says either unlimited: true or a rate_multiplier above 1, at most 1000");
    }
    if (!REASONS.includes(own(given, "reason"))) {
      throw new TypeError(`reason must be one of ${REASONS.join(", ")}, not ${shown(own(given, "reason"))}`);
    }
    if (checkField(own(given, "admin_id"), "admin_id") === "") throw new TypeError("admin_id must say who gives this");
    const targets = TARGETS.map((name) => checkField(own(given, name), name)).join("\0");
    const id = `ov_${crypto.randomUUID().replaceAll("-", "").slice(0, 16)}`;
    const grant = { id, nowUs, untilUs: nowUs + minutes * 60_000_000, targets, millionths: isUnlimited ? 0 : Math.ceil(times * 1_000_000) };
    const wrong = this.#core.give(grant);
    if (wrong !== "") throw new TypeError(wrong);
    this.#core.remember(grant);
    const moment = (micros) => new Date(micros / 1_000).toISOString();
    return { ...given, override_id: id, created_at: moment(nowUs), expires_at: moment(grant.untilUs) };
  }

  revoke(id, nowUs) {
    this.#core.forget(id);
    return this.#core.call((limiter) => limiter.revoke(checkField(id, "the override's id"), nowUs));
  }
}
