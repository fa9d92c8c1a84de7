// Called with stream records: announce and issue. The records of a referral are in order, so the batch ends at the first failure.
import { log } from '../model/settings.js';
import { handleRecord } from '../model/stream.js';

export const handler = async ({ Records }) => {
  for (const record of Records) {
    try {
      log('INFO', await handleRecord(record));
    } catch (error) {
      console.error(error);
      return { batchItemFailures: [{ itemIdentifier: record.dynamodb.SequenceNumber }] };
    }
  }
  return { batchItemFailures: [] };
};
