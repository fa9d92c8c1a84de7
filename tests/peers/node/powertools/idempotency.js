// Idempotency with Powertools: an answer is stored for an hour in a table of its own, and returned for a repeated request.
import { IdempotencyConfig, makeIdempotent } from '@aws-lambda-powertools/idempotency';
import { DynamoDBPersistenceLayer } from '@aws-lambda-powertools/idempotency/dynamodb';

import { dynamodb } from '../model/store.js';

/** Makes a function idempotent, under the key that this expression finds in its argument. */
export const once = (act, eventKeyJmesPath) => {
  // One per function, because a layer keeps the first configuration that it gets.
  const persistenceStore = new DynamoDBPersistenceLayer({
    tableName: process.env.IDEMPOTENCY_TABLE_NAME,
    awsSdkV3Client: dynamodb,
  });
  const config = new IdempotencyConfig({ eventKeyJmesPath, throwOnNoIdempotencyKey: true });
  const idempotent = makeIdempotent(act, { persistenceStore, config });
  return (argument, context) => {
    config.registerLambdaContext(context);
    return idempotent(argument, context);
  };
};
