// Called with stream records: announce and issue, each record once.
import { BatchProcessor, EventType, processPartialResponse } from '@aws-lambda-powertools/batch';

import { handleRecord } from '../model/stream.js';
import { once } from './idempotency.js';

const processor = new BatchProcessor(EventType.DynamoDBStreams);
const handleOnce = once(handleRecord, 'eventID');

export const handler = (event, context) =>
  processPartialResponse(event, handleOnce, processor, { context, processInParallel: false, throwOnFullBatchFailure: false });
