// Behind the table's stream: announce and issue, each record once.
import { BatchProcessor, EventType, processPartialResponse } from '@aws-lambda-powertools/batch';

import { take } from '../model/stream.js';
import { once } from './idempotency.js';

const processor = new BatchProcessor(EventType.DynamoDBStreams);
const takeOnce = once(take, 'eventID');

export const handler = (event, context) =>
  processPartialResponse(event, takeOnce, processor, { context, processInParallel: false, throwOnFullBatchFailure: false });
