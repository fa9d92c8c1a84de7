// Called with messages of the queue of a reward type: deliver, each reward once, each message separately.
import { BatchProcessor, EventType, processPartialResponse } from '@aws-lambda-powertools/batch';

import { deliver, rewardId } from '../model/reward.js';
import { once } from './idempotency.js';

const processor = new BatchProcessor(EventType.SQS);
const deliverOnce = once(({ id }) => deliver(id), 'id');

export const handler = (event, context) =>
  processPartialResponse(event, (message, options) => deliverOnce({ id: rewardId(message) }, options), processor, {
    context,
    throwOnFullBatchFailure: false,
  });
