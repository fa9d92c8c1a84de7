// Convert: a qualifying order turns `pending` into `converted`.
import * as input from './input.js';
import { converted } from './referral.js';
import * as store from './store.js';

/** Nobody referred them, or not yet: the event comes once more, later. */
export class NotReferred extends Error {}

/** The order in an event; one that cannot be read is an error, and ends in the dead-letter queue. */
export const order = ({ 'detail-type': event, detail }) => ({
  event,
  id: input.id('order_id', detail.order_id),
  user: input.id('user_id', detail.user_id),
  amount: input.amount('amount', detail.amount),
  currency: input.currency('currency', detail.currency),
});

export const convert = async (taken) => {
  const referral = await store.referral(taken.user);
  if (!referral) throw new NotReferred();
  const now = new Date().toISOString();
  const { outcome } = await store.step(referral, (item) => converted(item, taken, now));
  return outcome;
};
