// Called with messages of the queue of a reward type: deliver, each message separately.
import { deliver, rewardId } from '../model/reward.js';
import { log } from '../model/settings.js';

export const handler = async ({ Records }) => {
  const outcomes = await Promise.allSettled(Records.map((message) => deliver(rewardId(message))));
  const failed = Records.filter((_, index) => outcomes[index].status === 'rejected');
  outcomes.forEach(({ value, reason }) => (reason ? console.error(reason) : log('INFO', value)));
  return { batchItemFailures: failed.map(({ messageId }) => ({ itemIdentifier: messageId })) };
};
