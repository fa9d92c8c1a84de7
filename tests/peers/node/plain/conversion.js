// Called by EventBridge: convert.
import { convert, NotReferred, order } from '../model/order.js';
import { log } from '../model/settings.js';

export const handler = async (event) => {
  try {
    log('INFO', await convert(order(event)));
  } catch (error) {
    if (!(error instanceof NotReferred)) throw error;
    log('INFO', 'not_referred');
  }
};
