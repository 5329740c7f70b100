/** What a middleware asks with; each member may be a function of the framework's request or context. */
export interface MiddlewareSettings<Context> {
  /** The client's address; where absent, what the framework or the runtime says. */
  ip?: string | ((context: Context) => string | null | undefined | Promise<string | null | undefined>);
  /** The user, whom your code has verified. */
  user?: string | ((context: Context) => string | null | undefined | Promise<string | null | undefined>);
  metadata?: Record<string, string> | ((context: Context) => Record<string, string> | undefined | Promise<Record<string, string> | undefined>);
  cost?: number | ((context: Context) => number | undefined | Promise<number | undefined>);
  /** `false` lets throttled requests through at once, with `delayMs` in their decision; else they are held until their moment. */
  wait?: boolean;
}
