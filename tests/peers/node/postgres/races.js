// The effect of duplicates, races and a killed worker on the SQL schema, counted in its tables.
// usage: node races.js URL                    prints JSON
import { fork } from 'node:child_process';
import { once } from 'node:events';

import { attribute, connect, convert, convertAfterRead, createSchema, mint } from './worker.js';

const url = process.argv[2];
const [REFERRALS, DUPLICATES, KILLS] = [200, 10, 5];
const db = await connect(url);

const people = Array.from({ length: REFERRALS }, (_, number) => `referee-${number}`);

/** A new schema with pending referrals. The preparation is one transaction. */
const pending = async () => {
  await createSchema(db);
  await db.query('BEGIN');
  await mint(db, 'referrer', 'CODE');
  for (const referee of people) await attribute(db, referee, 'CODE');
  await db.query('COMMIT');
};

const converted = async () => {
  await pending();
  await db.query('BEGIN');
  for (const referee of people) await convert(db, referee, `order-of-${referee}`);
  await db.query('COMMIT');
};

const count = async (query) => Number((await db.query(query)).rows[0].count);

/** Sends each order ten times concurrently, over ten connections; counts the answers that say that the order converted. */
const duplicates = async (act) => {
  await pending();
  const connections = await Promise.all(Array.from({ length: DUPLICATES }, () => connect(url)));
  let conversions = 0;
  for (const referee of people) {
    const answers = await Promise.all(connections.map((each) => act(each, referee, `order-of-${referee}`)));
    conversions += answers.filter(Boolean).length;
  }
  await Promise.all(connections.map((each) => each.end()));
  return { orders: REFERRALS * DUPLICATES, conversions, wanted: REFERRALS };
};

/** Starts a worker in a process of its own, and collects the rewards that it publishes. */
const start = async (way) => {
  const worker = fork(new URL('issuer.js', import.meta.url), [url, way]);
  const published = [];
  worker.on('message', ({ rewards }) => rewards && published.push(...rewards));
  await once(worker, 'message');
  return { worker, published };
};

/** Two workers issue the same referrals at the same time. */
const twoWorkers = async (way, unique) => {
  await converted();
  if (!unique) await db.query('ALTER TABLE rewards DROP CONSTRAINT one_for_each');
  const workers = [await start(way), await start(way)];
  const ended = workers.map(({ worker }) => once(worker, 'exit'));
  workers.forEach(({ worker }) => worker.send('go'));
  await Promise.all(ended);
  const rewards = await count('SELECT count(*) FROM rewards');
  const published = workers.flatMap((each) => each.published).length;
  return { rewards, published, wanted: 2 * REFERRALS, paid_twice: rewards - 2 * REFERRALS };
};

/** Kills workers after a commit and before publishing, then starts a worker that does the remaining work. */
const killed = async () => {
  await converted();
  let published = 0;
  for (let kill = 0; kill < KILLS; kill += 1) {
    const { worker, published: own } = await start('stops');
    const ended = once(worker, 'exit');
    worker.on('message', ({ committed }) => committed && worker.kill('SIGKILL'));
    worker.send('go');
    await ended;
    published += own.length;
  }
  const last = await start('careful');
  const ended = once(last.worker, 'exit');
  last.worker.send('go');
  await ended;
  published += last.published.length;
  const rewards = await count('SELECT count(*) FROM rewards');
  return { kills: KILLS, rewards, published, never_delivered: rewards - published };
};

const found = {
  duplicates: { condition: await duplicates(convert), look_first: await duplicates(convertAfterRead) },
  two_workers: {
    condition: await twoWorkers('careful', true),
    look_first_unique: await twoWorkers('look-first', true),
    look_first: await twoWorkers('look-first', false),
  },
  killed: await killed(),
};
await db.end();
console.log(JSON.stringify(found));
