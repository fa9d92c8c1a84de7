// A worker that issues the rewards of all converted referrals, and publishes them after the commit. Started by races.js.
// usage: node issuer.js URL careful|look-first|stops
import { connect, issue, issueAfterRead } from './worker.js';

const [url, way] = process.argv.slice(2);
const act = way === 'look-first' ? issueAfterRead : issue;
const db = await connect(url);
const { rows } = await db.query("SELECT id FROM referrals WHERE status = 'converted' ORDER BY id");
process.send({ ready: true });
await new Promise((resolve) => process.once('message', resolve));

for (const { id } of rows) {
  const rewards = await act(db, id);
  if (rewards.length === 0) continue;
  if (way === 'stops') {
    // A crash at this moment loses the events. The parent process kills this one here.
    process.send({ committed: true });
    await new Promise((resolve) => setTimeout(resolve, 60_000));
  }
  await new Promise((resolve) => process.send({ rewards }, resolve));
}
await db.end();
process.disconnect();
