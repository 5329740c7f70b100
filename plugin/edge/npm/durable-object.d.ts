/** The class of the Durable Objects that `durableObject()` asks: export it from your Worker. */
export class RatelimitObject {
  constructor(context: any, env: any);
}
