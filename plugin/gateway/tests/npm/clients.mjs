// The Upstash clients as their documentation shows them, against the gateway in GATEWAY_URL. Run by tests/gateway/clients.rs.
// Not here: what only Upstash's own service has (JSON documents, search, subscriptions).
import assert from 'node:assert/strict';
import { Ratelimit } from '@upstash/ratelimit';
import { Redis } from '@upstash/redis';

const { GATEWAY_URL: url, GATEWAY_TOKEN: token, GATEWAY_LAYOUT: layout } = process.env;
const run = Math.random().toString(36).slice(2);
const key = (name) => `{${run}}${name}`;

async function commands(options) {
  const redis = new Redis({ url, token, ...options });
  assert.equal(await redis.ping(), 'PONG');
  assert.equal(await redis.set(key('a'), { deep: [1, 'ü', null] }, { ex: 100 }), 'OK');
  assert.deepEqual(await redis.get(key('a')), { deep: [1, 'ü', null] });
  assert.equal(await redis.get(key('none')), null);
  assert.equal(await redis.incrby(key(`n${options.name}`), 9007199254740), 9007199254740);
  await redis.hset(key('h'), { one: 1, two: 'OK' });
  assert.deepEqual(await redis.hgetall(key('h')), { one: 1, two: 'OK' });
  assert.deepEqual(await redis.mget(key('a'), key('none')), [{ deep: [1, 'ü', null] }, null]);
  assert.equal(await redis.eval('return ARGV[1]', [key('a')], ['x']), 'x');
  const script = redis.createScript('return {KEYS[1], 2}');
  assert.deepEqual(await script.exec([key('a')], []), [key('a'), 2]);
  const sha = await redis.scriptLoad('return 7');
  assert.equal(await redis.evalsha(sha, [], []), 7);
  await assert.rejects(redis.evalsha('f'.repeat(40), [key('a')], []), /NOSCRIPT/);
  const answers = await redis.pipeline().set(key('p'), 1).incr(key('p')).get(key('p')).exec();
  assert.deepEqual(answers, ['OK', 2, 2]);
  assert.deepEqual(await redis.multi().incr(key('p')).incr(key('p')).exec(), [3, 4]);
  await assert.rejects(redis.hget(key('a'), 'b'), /WRONGTYPE/);
  await assert.rejects(redis.flushall(), /NOPERM/);
}

await commands({ name: 'base64' });
await commands({ name: 'plain', responseEncoding: false });
await commands({ name: 'automatic', enableAutoPipelining: true });
await commands({ name: 'one by one', enableAutoPipelining: false });
await assert.rejects(new Redis({ url, token: 'wrong-wrong-wrong-wrong', retry: false }).ping(), /Unauthorized/);
console.log('@upstash/redis passed');

const redis = new Redis({ url, token });
const limiters = {
  fixedWindow: Ratelimit.fixedWindow(3, '1000 s'),
  // Its two keys have no hash tag in common, so in a Cluster it cannot work, here or anywhere.
  ...(layout === 'cluster' ? {} : { slidingWindow: Ratelimit.slidingWindow(3, '1000 s') }),
  tokenBucket: Ratelimit.tokenBucket(3, '1000 s', 3),
};
for (const [name, limiter] of Object.entries(limiters)) {
  const ratelimit = new Ratelimit({ redis, limiter, prefix: `${run}:${name}`, ephemeralCache: false, timeout: 0 });
  for (const remaining of [2, 1, 0]) {
    const verdict = await ratelimit.limit('user');
    assert.equal(verdict.success, true, name);
    assert.equal(verdict.limit, 3, name);
    assert.equal(verdict.remaining, remaining, name);
    assert.ok(verdict.reset > Date.now(), name);
  }
  const refused = await ratelimit.limit('user');
  assert.equal(refused.success, false, name);
  assert.equal(refused.remaining, 0, name);
  assert.equal((await ratelimit.limit('other', { rate: 2 })).remaining, 1, name);
  assert.equal((await ratelimit.getRemaining('other')).remaining, 1, name);
  const concurrent = await Promise.all(Array.from({ length: 20 }, () => ratelimit.limit('many')));
  assert.equal(concurrent.filter((verdict) => verdict.success).length, 3, name);
}
console.log(`@upstash/ratelimit passed: ${Object.keys(limiters).join(' ')}`);
