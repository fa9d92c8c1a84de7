// Called by EventBridge: convert, each order once. An order of a user without a referral is not stored, because it is delivered
// again.
import { convert, NotReferred, order } from '../model/order.js';
import { log } from '../model/settings.js';
import { once } from './idempotency.js';

const convertOnce = once(convert, 'id');

export const handler = async (event, context) => {
  try {
    log('INFO', await convertOnce(order(event), context));
  } catch (error) {
    if (!(error instanceof NotReferred)) throw error;
    log('INFO', 'not_referred');
  }
};
