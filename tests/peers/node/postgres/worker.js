// The steps of a worker on the SQL schema: written correctly, and written as a read followed by a write.
import { readFileSync } from 'node:fs';

import pg from 'pg';

const REWARD = { kind: 'credit', amount: 1000 };

/** A connection that counts its statements. */
export const connect = async (url) => {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const db = { statements: 0, end: () => client.end() };
  db.query = (...statement) => {
    db.statements += 1;
    return client.query(...statement);
  };
  return db;
};

export const createSchema = (db) => db.query(readFileSync(new URL('schema.sql', import.meta.url), 'utf8'));

export const mint = async (db, user, code) => {
  const { rows } = await db.query(
    `INSERT INTO codes (code, user_id) VALUES ($1, $2) ON CONFLICT (user_id) DO NOTHING RETURNING code`, [code, user]);
  if (rows.length > 0) return rows[0].code;
  return (await db.query('SELECT code FROM codes WHERE user_id = $1', [user])).rows[0].code;
};

export const attribute = async (db, referee, code) => {
  const { rows: [owned] } = await db.query(
    'SELECT user_id FROM codes WHERE code = $1 AND (expires_at IS NULL OR expires_at > now())', [code]);
  if (!owned) return 'code_not_found';
  if (owned.user_id === referee) return 'self_referral';
  const { rowCount } = await db.query(
    `INSERT INTO referrals (referrer_id, referee_id, code) VALUES ($1, $2, $3) ON CONFLICT (referee_id) DO NOTHING`,
    [owned.user_id, referee, code]);
  return rowCount === 1 ? 'attributed' : 'already_referred';
};

/** Converts with a condition that only one order can fulfil; returns whether this order converted. */
export const convert = async (db, referee, order) => {
  const { rowCount } = await db.query(
    `UPDATE referrals SET status = 'converted', order_id = $2, converted_at = now()
     WHERE referee_id = $1 AND status = 'pending'`, [referee, order]);
  return rowCount === 1;
};

/** The same as a read followed by a write. */
export const convertAfterRead = async (db, referee, order) => {
  const { rows: [found] } = await db.query('SELECT status FROM referrals WHERE referee_id = $1', [referee]);
  if (found?.status !== 'pending') return false;
  await db.query(
    `UPDATE referrals SET status = 'converted', order_id = $2, converted_at = now() WHERE referee_id = $1`, [referee, order]);
  return true;
};

const INSERT = `INSERT INTO rewards (referral_id, beneficiary, kind, amount)
  SELECT id, unnest(ARRAY[referrer_id, referee_id]), $2, $3 FROM referrals WHERE id = $1`;

/** Writes both rewards with the status, in one transaction that only one worker can complete. Returns the rewards to publish. */
export const issue = async (db, id) => {
  await db.query('BEGIN');
  const { rowCount } = await db.query(
    `UPDATE referrals SET status = 'rewarded' WHERE id = $1 AND status = 'converted'`, [id]);
  if (rowCount === 0) {
    await db.query('ROLLBACK');
    return [];
  }
  const { rows } = await db.query(
    `${INSERT} ON CONFLICT DO NOTHING RETURNING beneficiary`, [id, REWARD.kind, REWARD.amount]);
  await db.query('COMMIT');
  return rows;
};

/** The same as a read followed by writes, in a transaction. */
export const issueAfterRead = async (db, id) => {
  await db.query('BEGIN');
  const { rows: [found] } = await db.query('SELECT status FROM referrals WHERE id = $1', [id]);
  if (found.status !== 'converted') {
    await db.query('ROLLBACK');
    return [];
  }
  try {
    const { rows } = await db.query(`${INSERT} RETURNING beneficiary`, [id, REWARD.kind, REWARD.amount]);
    await db.query(`UPDATE referrals SET status = 'rewarded' WHERE id = $1`, [id]);
    await db.query('COMMIT');
    return rows;
  } catch (error) {
    await db.query('ROLLBACK');
    if (error.constraint === 'one_for_each') return [];
    throw error;
  }
};
