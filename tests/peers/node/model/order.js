// Convert: a qualifying order turns `pending` into `converted`.
import * as input from './input.js';
import { converted } from './referral.js';
import * as store from './store.js';

/** The user has no referral, or not yet. The event is delivered again later. */
export class NotReferred extends Error {}

/** The order in an event. An unreadable event is an error, and ends in the dead-letter queue. */
export const order = ({ 'detail-type': event, detail }) => ({
  event,
  id: input.id('order_id', detail.order_id),
  user: input.id('user_id', detail.user_id),
  amount: input.amount('amount', detail.amount),
  currency: input.currency('currency', detail.currency),
});

export const convert = async (found) => {
  const referral = await store.referral(found.user);
  if (!referral) throw new NotReferred();
  const now = new Date().toISOString();
  const { outcome } = await store.apply(referral, (item) => converted(item, found, now));
  return outcome;
};
