// node-redis against the server at HOST PORT: node node_redis_client.mjs HOST PORT MODULES
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

import { checkCommands } from './checks.mjs';

const [host, port, modules] = process.argv.slice(2);
const { createClient, RESP_TYPES } = createRequire(`${modules}/`)('@redis/client');

const options = {
  socket: { host, port: Number(port), reconnectStrategy: false },
  database: 5,
  name: 'from-node-redis',
};
const client = createClient(options);
client.on('error', (error) => {
  throw error;
});
await client.connect();
await client.flushDb();
await checkCommands({
  call: (...words) => client.sendCommand(words),
  pipeline: (commands) => Promise.all(commands.map((words) => client.sendCommand(words))),
});

const bytes = Buffer.from(Array.from({ length: 256 }, (_, index) => index));
await client.set('bytes', bytes);
const buffers = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
assert.deepEqual(await buffers.get('bytes'), bytes);
assert.equal(await client.sendCommand(['CLIENT', 'GETNAME']), 'from-node-redis');

let scanned = 0;
for await (const keys of client.scanIterator()) scanned += keys.length;
assert.equal(scanned, 1);
await client.flushDb();
await client.close();
