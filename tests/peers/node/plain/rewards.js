// Behind the table's stream: announce and issue. Records of one referral come in order, so the first that fails stops.
import { log } from '../model/settings.js';
import { take } from '../model/stream.js';

export const handler = async ({ Records }) => {
  for (const record of Records) {
    try {
      log('INFO', await take(record));
    } catch (error) {
      console.error(error);
      return { batchItemFailures: [{ itemIdentifier: record.dynamodb.SequenceNumber }] };
    }
  }
  return { batchItemFailures: [] };
};
