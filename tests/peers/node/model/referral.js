// The referral: its item in the table, the change of each step, and its JSON form.
import { hashed } from './digest.js';
import { program, terms } from './settings.js';

export const SIDES = ['referrer', 'referee'];

export const referee = (item) => item.pk.slice('REFEREE#'.length);
export const referrer = (item) => item.referrer.slice('REFERRER#'.length);
export const createdAt = (item) => item.referred_at.slice(0, item.referred_at.indexOf('#'));

/** The number of a referral's partition in the index `work`, which has ten. */
const shard = (id) => [...Buffer.from(id)].reduce((hash, byte) => (Math.imul(hash, 31) + byte) >>> 0, 0) % 10;

export const attributed = ({ refereeId, owned, device, mark, now }) => ({
  pk: `REFEREE#${refereeId}`,
  sk: 'REFERRAL',
  referrer: `REFERRER#${owned.owner}`,
  referred_at: `${now}#${refereeId}`,
  code: owned.code,
  program,
  terms,
  device,
  mark,
  rev: 1,
  status: 'pending',
});

/** The attributes that an order changes, or the reason why it changes nothing. */
export const converted = (item, order, now) => {
  if (item.conversion?.order === order.id) return { done: 'duplicate' };
  if (item.status !== 'pending') return { done: 'no_transition' };
  const { qualifying_event, minimum, hold_seconds } = item.terms;
  const qualifies = order.event === qualifying_event && order.currency === minimum.currency && order.amount >= minimum.amount;
  if (!qualifies) return { done: 'not_qualifying' };
  return {
    set: {
      status: 'converted',
      conversion: { event: order.event, order: order.id, amount: order.amount, currency: order.currency, at: now },
      work: `due#${shard(referee(item))}`,
      due_at: new Date(Date.parse(now) + hold_seconds * 1000).toISOString(),
    },
  };
};

/** The attributes that the end of the hold changes, given the accounts of both users. */
export const issued = (item, facts, now) => {
  if (item.status !== 'converted' || item.due_at > now) return { done: 'not_due' };
  const isReciprocal = facts.referrersOwn && referrer(facts.referrersOwn) === referee(item);
  const reason =
    (facts.referrer?.flagged && 'referrer_flagged') ||
    (facts.referee?.flagged && 'referee_flagged') ||
    (isReciprocal && 'reciprocal_referral');
  if (reason) return { set: { status: 'voided', voided: { at: now, reason } }, remove: ['work', 'due_at'] };
  const { referrer: forReferrer, referee: forReferee } = item.terms;
  return { set: { status: 'rewarded', rewards: { issued_at: now, referrer: forReferrer, referee: forReferee } } };
};

const rewardStatus = (reward) => (reward.delivered_at ? 'delivered' : reward.failed_at ? 'failed' : 'issued');

/** The attributes that a subsystem's answer changes. */
export const answered = (item, side, facts) => {
  const reward = item.rewards?.[side];
  if (!reward || rewardStatus(reward) !== 'issued') return { done: 'already_marked' };
  const rewards = { ...item.rewards, [side]: { ...reward, ...facts } };
  const areAllAnswered = SIDES.every((each) => rewardStatus(rewards[each]) !== 'issued');
  if (!areAllAnswered) return { set: { rewards } };
  const failed = SIDES.map((each) => rewards[each]).filter((each) => rewardStatus(each) === 'failed');
  if (failed.length === 0) return { set: { rewards }, remove: ['work', 'due_at'] };
  const since = failed.map((each) => each.failed_at).sort().at(-1);
  return { set: { rewards, work: `parked#${shard(referee(item))}`, due_at: since } };
};

export const rewardView = (item, side) => {
  const reward = item.rewards[side];
  return {
    reward_id: `${referee(item)}:${side}`,
    side,
    user_id: side === 'referrer' ? referrer(item) : referee(item),
    type: reward.type,
    amount: reward.amount,
    currency: reward.currency ?? null,
    status: rewardStatus(reward),
    issued_at: item.rewards.issued_at,
    delivered_at: reward.delivered_at ?? null,
  };
};

export const view = (item) => ({
  referee_id: referee(item),
  referrer_id: referrer(item),
  code: item.code,
  program: item.program,
  status: item.status,
  created_at: createdAt(item),
  conversion_event: item.conversion?.event ?? null,
  order_id: item.conversion?.order ?? null,
  converted_at: item.conversion?.at ?? null,
  rewarded_at: item.rewards?.issued_at ?? null,
  voided_at: item.voided?.at ?? null,
  void_reason: item.voided?.reason ?? null,
  rewards: item.rewards ? SIDES.map((side) => rewardView(item, side)) : [],
});

const HAPPENED = {
  pending: ['referral.attributed', createdAt],
  converted: ['referral.converted', (item) => item.conversion.at],
  rewarded: ['referral.rewarded', (item) => item.rewards.issued_at],
  voided: ['referral.voided', (item) => item.voided.at],
};

/** The events to publish when a referral changes from `before` (undefined for a new one) to `after`. */
export const announcements = (before, after) => {
  const correlation_id = hashed(referee(after));
  const event = (type, subject, occurred_at, about) => ({
    type,
    detail: { event_id: `${subject}:${type.split('.')[1]}`, occurred_at, correlation_id, ...about },
  });
  const events = [];
  if (before?.status !== after.status) {
    const [type, at] = HAPPENED[after.status];
    events.push(event(type, referee(after), at(after), view(after)));
  }
  for (const side of after.rewards ? SIDES : []) {
    const [was, is] = [before?.rewards?.[side], after.rewards[side]];
    const about = { referee_id: referee(after), ...rewardView(after, side) };
    const announce = (type, at) => events.push(event(type, about.reward_id, at, about));
    if (!was) announce('reward.issued', after.rewards.issued_at);
    if (is.delivered_at && !was?.delivered_at) announce('reward.delivered', is.delivered_at);
    if (is.failed_at && !was?.failed_at) announce('reward.failed', is.failed_at);
  }
  return events;
};
