// The cost of each step for a worker on the SQL schema: statements, CPU of the worker, and CPU of its server process.
// usage: node measure.js URL CALLS            prints JSON
import { readFileSync } from 'node:fs';

import { attribute, connect, convert, createSchema, issue, mint } from './worker.js';

const [url, calls] = [process.argv[2], Number(process.argv[3])];
const db = await connect(url);
const start = { cpu: millis(process.cpuUsage()), wall: performance.now() };
await createSchema(db);
const { rows: [{ pid }] } = await db.query('SELECT pg_backend_pid() AS pid');

function millis({ user, system }) {
  return (user + system) / 1000;
}

const serverCpu = () => Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]) / 1e6;

const step = async (name, act) => {
  const before = { statements: db.statements, cpu: process.cpuUsage(), server: serverCpu() };
  const walls = [];
  for (let call = 0; call < calls; call += 1) {
    const started = performance.now();
    await act(call);
    walls.push(performance.now() - started);
  }
  walls.sort((one, other) => one - other);
  return {
    name,
    statements: (db.statements - before.statements) / calls,
    cpu: millis(process.cpuUsage(before.cpu)) / calls,
    server_cpu: (serverCpu() - before.server) / calls,
    wall: walls[Math.floor(calls / 2)],
  };
};

const must = (holds) => {
  if (!holds) throw new Error('a step returned an unexpected result');
};

const steps = [
  await step('mint', async (call) => must((await mint(db, `referrer-${call}`, `CODE-${call}`)) === `CODE-${call}`)),
  await step('attribute', async (call) => must((await attribute(db, `referee-${call}`, `CODE-${call}`)) === 'attributed')),
  await step('convert', async (call) => must(await convert(db, `referee-${call}`, `order-${call}`))),
  await step('repeat', async (call) => must(!(await convert(db, `referee-${call}`, `order-${call}`)))),
];
const { rows } = await db.query('SELECT id FROM referrals ORDER BY id');
steps.push(await step('issue', async (call) => must((await issue(db, rows[call].id)).length === 2)));
const { rows: [{ version }] } = await db.query("SELECT current_setting('server_version') AS version");
await db.end();
console.log(JSON.stringify({ version, start, steps, resident: process.resourceUsage().maxRSS * 1024 / 1e6 }));
