// Idempotency by Powertools: what was answered once is kept for an hour in a table of its own, and answered again.
import { IdempotencyConfig, makeIdempotent } from '@aws-lambda-powertools/idempotency';
import { DynamoDBPersistenceLayer } from '@aws-lambda-powertools/idempotency/dynamodb';

import { dynamodb } from '../model/store.js';

/** The function made idempotent, under the key that this expression finds in its argument. */
export const once = (act, eventKeyJmesPath) => {
  // One for each function: a layer keeps the first configuration that it is given.
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
