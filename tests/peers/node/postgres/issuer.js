// A worker that issues whatever is converted, and publishes it when that is committed. Started by races.js.
// usage: node issuer.js URL careful|look-first|stops
import { connect, issue, issueAfterALook } from './worker.js';

const [url, way] = process.argv.slice(2);
const act = way === 'look-first' ? issueAfterALook : issue;
const db = await connect(url);
const { rows } = await db.query("SELECT id FROM referrals WHERE status = 'converted' ORDER BY id");
process.send({ ready: true });
await new Promise((resolve) => process.once('message', resolve));

for (const { id } of rows) {
  const news = await act(db, id);
  if (news.length === 0) continue;
  if (way === 'stops') {
    // The moment in which a crash is paid for; whoever started us ends us here.
    process.send({ committed: true });
    await new Promise((resolve) => setTimeout(resolve, 60_000));
  }
  await new Promise((resolve) => process.send({ news }, resolve));
}
await db.end();
process.disconnect();
