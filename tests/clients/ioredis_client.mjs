// ioredis against the server at HOST PORT: node ioredis_client.mjs HOST PORT MODULES
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

import { checkCommands } from './checks.mjs';

const [host, port, modules] = process.argv.slice(2);
const Redis = createRequire(`${modules}/`)('ioredis').Redis;

const options = { host, port: Number(port), db: 3, connectionName: 'from-ioredis', retryStrategy: null };
const client = new Redis(options);
await client.call('FLUSHDB');
await checkCommands({
  call: (...words) => client.call(...words),
  pipeline: async (commands) => {
    const answers = await client.pipeline(commands.map(([name, ...rest]) => [name.toLowerCase(), ...rest])).exec();
    return answers.map(([error, answer]) => {
      if (error) throw error;
      return answer;
    });
  },
});

// Bytes that are no text come back as they went.
const bytes = Buffer.from(Array.from({ length: 256 }, (_, index) => index));
await client.set('bytes', bytes);
assert.deepEqual(await client.getBuffer('bytes'), bytes);
assert.equal(await client.call('CLIENT', 'GETNAME'), 'from-ioredis');

// Databases are kept apart.
const other = new Redis({ ...options, db: 4 });
assert.equal(await other.get('bytes'), null);
await client.call('FLUSHDB');
await other.quit();
await client.quit();
