// Behind EventBridge: convert, each order once. An order of somebody not referred is forgotten, for it comes once more.
import { convert, NotReferred, order } from '../model/order.js';
import { log } from '../model/settings.js';
import { once } from './idempotency.js';

const convertOnce = once(convert, 'id');

export const handler = async (event, context) => {
  try {
    log('INFO', await convertOnce(order(event), context));
  } catch (error) {
    if (!(error instanceof NotReferred)) throw error;
    log('INFO', 'not referred');
  }
};
