// Idempotency by Powertools: what was answered once is kept for an hour in a table of its own, and answered again.
import { IdempotencyConfig, makeIdempotent } from '@aws-lambda-powertools/idempotency';
import { DynamoDBPersistenceLayer } from '@aws-lambda-powertools/idempotency/dynamodb';

import { dynamodb } from '../model/store.js';

const persistenceStore = new DynamoDBPersistenceLayer({
  tableName: process.env.IDEMPOTENCY_TABLE_NAME,
  awsSdkV3Client: dynamodb,
});

/** The function made idempotent, under the key that this expression finds in its argument, and how it learns its time. */
export const once = (act, eventKeyJmesPath) => {
  const config = new IdempotencyConfig({ eventKeyJmesPath, throwOnNoIdempotencyKey: true });
  const idempotent = makeIdempotent(act, { persistenceStore, config });
  return (argument, context) => {
    config.registerLambdaContext(context);
    return idempotent(argument, context);
  };
};
