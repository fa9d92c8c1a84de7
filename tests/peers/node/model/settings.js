// The functions' settings, read once when a function starts.
const { env } = process;

const money = (side) => {
  const type = env[`${side}_REWARD_TYPE`] ?? 'credit';
  const amount = Number(env[`${side}_REWARD_AMOUNT`] ?? 1000);
  return type === 'points' ? { type, amount } : { type, amount, currency: env.CURRENCY ?? 'USD' };
};

export const tableName = env.TABLE_NAME;
export const busName = env.BUS_NAME;
export const fingerprintKey = env.FINGERPRINT_KEY;
export const publicUrl = (env.PUBLIC_URL ?? 'http://127.0.0.1:9000').replace(/\/+$/, '');
export const webhookSecrets = (env.WEBHOOK_SECRET ?? '').split(' ').filter(Boolean);
export const endpoints = { credit: env.CREDIT_ENDPOINT, coupon: env.COUPON_ENDPOINT, points: env.POINTS_ENDPOINT };
export const program = 'default';

/** The terms of new referrals. */
export const terms = {
  qualifying_event: env.QUALIFYING_EVENT ?? 'order.completed',
  minimum: { amount: Number(env.MINIMUM_AMOUNT ?? 0), currency: env.CURRENCY ?? 'USD' },
  hold_seconds: Number(env.HOLD_SECONDS ?? 0),
  referrer: money('REFERRER'),
  referee: money('REFEREE'),
};

const LEVELS = ['DEBUG', 'INFO', 'WARN', 'ERROR'];
const minimum = Math.max(LEVELS.indexOf(env.LOG_LEVEL ?? 'INFO'), 0);

/** Writes one JSON line. */
export const log = (level, outcome, fields) => {
  if (LEVELS.indexOf(level) >= minimum) console.log(JSON.stringify({ level, outcome, ...fields }));
};
