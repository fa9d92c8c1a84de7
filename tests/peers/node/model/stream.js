// Stream records: announces each change, and issues rewards that are due.
import { EventBridgeClient, PutEventsCommand } from '@aws-sdk/client-eventbridge';
import { unmarshall } from '@aws-sdk/util-dynamodb';

import { announcements, issued, referee, referrer } from './referral.js';
import { busName } from './settings.js';
import * as store from './store.js';

const bus = new EventBridgeClient({ requestHandler: { connectionTimeout: 500, requestTimeout: 1000 } });

export const handleRecord = async ({ dynamodb: { Keys, OldImage, NewImage } }) => {
  if (Keys.sk.S !== 'REFERRAL' || !NewImage) return 'not_a_referral';
  const after = unmarshall(NewImage);
  await publish(announcements(OldImage && unmarshall(OldImage), after));
  if (after.status !== 'converted') return 'announced';
  const now = new Date().toISOString();
  const decide = async (item) => {
    const facts = item.status === 'converted' ? await store.issueFacts(referrer(item), referee(item)) : {};
    return issued(item, facts, now);
  };
  const { outcome } = await store.apply(after, decide);
  return outcome;
};

const publish = async (events) => {
  for (let at = 0; at < events.length; at += 10) {
    const Entries = events.slice(at, at + 10).map(({ type, detail }) => ({
      EventBusName: busName,
      Source: 'referrals',
      DetailType: type,
      Time: new Date(detail.occurred_at),
      Detail: JSON.stringify(detail),
    }));
    const { FailedEntryCount } = await bus.send(new PutEventsCommand({ Entries }));
    if (FailedEntryCount > 0) throw new Error('the bus did not accept every event');
  }
};
