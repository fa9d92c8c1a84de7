// Deliver: sends a reward to its subsystem under a key that never changes, and stores the answer.
import { signature } from './digest.js';
import { answered, referee, rewardView } from './referral.js';
import { endpoints } from './settings.js';
import * as store from './store.js';

const RETRIED = new Set([408, 409, 425, 429]);

export const rewardId = (message) => JSON.parse(message.body).detail.reward_id;

export const deliver = async (id) => {
  const [refereeId, side] = id.split(':');
  const referral = await store.referral(refereeId);
  if (!referral) throw new Error('there is no such referral');
  const reward = referral.rewards && rewardView(referral, side);
  if (reward?.status !== 'issued') return 'nothing_to_deliver';
  const facts = await send(referral, reward);
  const { outcome } = await store.apply(referral, (item) => answered(item, side, facts));
  return outcome;
};

const send = async (referral, { status: _, delivered_at: __, ...reward }) => {
  const endpoint = endpoints[reward.type];
  if (!endpoint) throw new Error(`no endpoint is configured for ${reward.type}`);
  const { reward_id, ...rest } = reward;
  const body = JSON.stringify({ reward_id, referee_id: referee(referral), ...rest });
  const now = new Date();
  const seconds = Math.floor(now.getTime() / 1000);
  const response = await fetch(endpoint, {
    method: 'POST',
    body,
    redirect: 'manual',
    signal: AbortSignal.timeout(5000),
    headers: {
      'content-type': 'application/json',
      'idempotency-key': reward_id,
      'webhook-id': reward_id,
      'webhook-timestamp': String(seconds),
      'webhook-signature': signature(reward_id, seconds, body),
    },
  });
  const text = await response.text();
  if (response.ok) return { delivered_at: now.toISOString() };
  if (response.status >= 500 || RETRIED.has(response.status)) throw new Error(`${response.status}: will be retried`);
  return { failed_at: now.toISOString(), failure: `${response.status}: ${text.slice(0, 160)}` };
};
