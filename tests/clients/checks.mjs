// What the clients for Node.js are asked alike: a small set of calls with a known answer each.
import assert from 'node:assert/strict';

// `call(name, ...arguments)` sends one command; `pipeline(list of such)` several at once.
export async function checkCommands({ call, pipeline }) {
  assert.equal(await call('PING'), 'PONG');
  assert.equal(await call('ECHO', 'höher'), 'höher');

  assert.equal(await call('SET', 'text', 'value'), 'OK');
  assert.equal(await call('GET', 'text'), 'value');
  assert.equal(await call('GET', 'nothing'), null);
  assert.equal(await call('SET', 'text', 'other', 'NX'), null);
  assert.equal(await call('SET', 'text', 'other', 'XX', 'GET'), 'value');
  assert.equal(await call('STRLEN', 'text'), 5);
  assert.equal(await call('APPEND', 'text', '!'), 6);
  assert.equal(await call('GETRANGE', 'text', '-2', '-1'), 'r!');
  assert.equal(await call('TYPE', 'text'), 'string');

  assert.equal(await call('MSET', 'one', '1', 'two', '2'), 'OK');
  assert.deepEqual(await call('MGET', 'one', 'nothing', 'two'), ['1', null, '2']);
  assert.equal(await call('EXISTS', 'one', 'two', 'two', 'nothing'), 3);

  assert.equal(await call('INCR', 'count'), 1);
  assert.equal(await call('INCRBY', 'count', '41'), 42);
  assert.equal(await call('DECR', 'count'), 41);
  assert.equal(await call('INCRBYFLOAT', 'count', '0.5'), '41.5');
  await assert.rejects(call('INCR', 'text'), /value is not an integer or out of range/);

  assert.equal(await call('TTL', 'text'), -1);
  assert.equal(await call('EXPIRE', 'text', '100'), 1);
  const ttl = await call('TTL', 'text');
  assert.ok(ttl > 0 && ttl <= 100, `a TTL of ${ttl}`);
  assert.equal(await call('PERSIST', 'text'), 1);
  assert.equal(await call('TTL', 'nothing'), -2);

  const counters = Array.from({ length: 500 }, () => ['INCR', 'pipelined']);
  assert.deepEqual(
    await pipeline(counters),
    counters.map((_, index) => index + 1),
  );
  const writes = Array.from({ length: 500 }, (_, index) => ['SET', `key:${index}`, `${index}`]);
  assert.deepEqual(new Set(await pipeline(writes)), new Set(['OK']));
  const reads = Array.from({ length: 500 }, (_, index) => ['GET', `key:${index}`]);
  assert.deepEqual(
    await pipeline(reads),
    reads.map((_, index) => `${index}`),
  );

  const found = new Set();
  let cursor = '0';
  do {
    const [next, keys] = await call('SCAN', cursor, 'MATCH', 'key:*', 'COUNT', '50');
    cursor = String(next);
    for (const key of keys) found.add(key);
  } while (cursor !== '0');
  assert.equal(found.size, 500);

  assert.equal(await call('DBSIZE'), 506 - 1);
  await assert.rejects(call('NONSENSE', 'a'), /unknown command/);
  assert.equal(await call('DEL', 'one', 'two', 'nothing'), 2);
  assert.equal(await call('FLUSHDB'), 'OK');
  assert.equal(await call('DBSIZE'), 0);
}
