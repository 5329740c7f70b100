// Counters in this instance's own memory: bounded, and gone when the instance is.

/** The store that `memory()` makes; the engine keeps its cells. */
export class MemoryStore {
  constructor(maxKeys) {
    this.maxKeys = maxKeys;
  }
}

/** Counters in memory, for about `maxKeys` keys in use at once; without, as many as the policy's store says. */
export function memory(settings) {
  const maxKeys = settings?.maxKeys ?? 0;
  if (maxKeys !== 0 && (!Number.isSafeInteger(maxKeys) || maxKeys < 1_024 || maxKeys > 4_194_304)) {
    throw new TypeError(`maxKeys must be a whole number from 1024 to 4194304, not ${maxKeys}`);
  }
  return new MemoryStore(maxKeys);
}
