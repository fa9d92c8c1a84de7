// The table: every read and every conditional write of it.
import { DynamoDBClient } from '@aws-sdk/client-dynamodb';
import {
  BatchGetCommand, DynamoDBDocumentClient, GetCommand, PutCommand, TransactWriteCommand, UpdateCommand,
} from '@aws-sdk/lib-dynamodb';
import { unmarshall } from '@aws-sdk/util-dynamodb';

import { canonical } from './code.js';
import { program, tableName as TableName } from './settings.js';

export const dynamodb = new DynamoDBClient({ requestHandler: { connectionTimeout: 500, requestTimeout: 1000 } });
const table = DynamoDBDocumentClient.from(dynamodb, { marshallOptions: { removeUndefinedValues: true } });

/** The maximum number of decisions. After that many conflicting writes, the sender of the event retries. */
const DECISIONS = 5;

const keys = {
  code: (code) => ({ pk: `CODE#${canonical(code)}`, sk: 'CODE' }),
  owner: (user) => ({ pk: `USER#${user}`, sk: `CODE#${program}` }),
  account: (user) => ({ pk: `USER#${user}`, sk: 'ACCOUNT' }),
  referral: (referee) => ({ pk: `REFEREE#${referee}`, sk: 'REFERRAL' }),
};

const ONCE = {
  ConditionExpression: 'attribute_not_exists(pk)',
  ReturnValuesOnConditionCheckFailure: 'ALL_OLD',
};

const get = async (Key) => (await table.send(new GetCommand({ TableName, Key, ConsistentRead: true }))).Item;

const getAll = async (wanted) => {
  const Keys = [...new Map(wanted.map((key) => [`${key.pk}/${key.sk}`, key])).values()];
  let ask = { [TableName]: { Keys, ConsistentRead: true } };
  const items = [];
  while (ask && Object.keys(ask).length > 0) {
    const { Responses, UnprocessedKeys } = await table.send(new BatchGetCommand({ RequestItems: ask }));
    items.push(...(Responses?.[TableName] ?? []));
    ask = UnprocessedKeys;
  }
  return wanted.map((key) => items.find((item) => item.pk === key.pk && item.sk === key.sk));
};

export const code = (wanted) => get(keys.code(wanted));

export const referral = (referee) => get(keys.referral(referee));

/** Writes a code and its owner's item, or returns what exists: the owner's live code, or that another user has the code. */
export const mint = async (owned, device) => {
  const Item = { ...keys.code(owned.code), ...owned };
  const writes = [
    { Put: { TableName, Item, ...ONCE } },
    { Put: { TableName, Item: { ...keys.owner(owned.owner), code: owned.code }, ...ONCE } },
  ];
  if (device) writes.push({ Update: { TableName, ...remember(owned.owner, device) } });
  try {
    await table.send(new TransactWriteCommand({ TransactItems: writes }));
    return { minted: owned };
  } catch (error) {
    if (error.name !== 'TransactionCanceledException') throw error;
    const [taken, owner] = error.CancellationReasons;
    if (owner.Code === 'ConditionalCheckFailed') {
      if (device) await table.send(new UpdateCommand({ TableName, ...remember(owned.owner, device) }));
      return { owned: await code(unmarshall(owner.Item).code) };
    }
    if (taken.Code === 'ConditionalCheckFailed') return { taken: true };
    throw error;
  }
};

const remember = (user, device) => ({
  Key: keys.account(user),
  UpdateExpression: 'ADD devices :devices',
  ExpressionAttributeValues: { ':devices': new Set([device]) },
});

/** Reads all evidence for an attribution in one batch. */
export const attributionFacts = async (owned, referee) => {
  const [found, account, referrersOwn, existing] = await getAll([
    keys.code(owned.code), keys.account(owned.owner), keys.referral(owned.owner), keys.referral(referee),
  ]);
  return { owned: found, account, referrersOwn, existing };
};

/** Reads all evidence for an issue in one batch. */
export const issueFacts = async (referrerId, refereeId) => {
  const [referrer, referee, referrersOwn] = await getAll([
    keys.account(referrerId), keys.account(refereeId), keys.referral(referrerId),
  ]);
  return { referrer, referee, referrersOwn };
};

/** Writes a new referral, or returns the existing one. */
export const attribute = async (Item) => {
  try {
    await table.send(new PutCommand({ TableName, Item, ...ONCE }));
    return undefined;
  } catch (error) {
    if (error.name !== 'ConditionalCheckFailedException') throw error;
    return unmarshall(error.Item);
  }
};

/**
 * Decides on a referral and writes the change, on the condition that the referral is still as it was read. If it is not, decides
 * again from the stored one. Returns the outcome and the referral after it.
 */
export const apply = async (read, decide) => {
  let item = read;
  for (let tries = 0; tries < DECISIONS; tries += 1) {
    const change = await decide(item);
    if (change.done) return { outcome: change.done, item };
    const found = await write(item, change);
    if (!found) return { outcome: 'written', item: { ...item, ...change.set, rev: item.rev + 1 } };
    item = found;
  }
  throw new Error('too many conflicting writes');
};

const write = async (item, { set, remove = [] }) => {
  const changes = Object.entries({ ...set, rev: item.rev + 1 });
  const sets = changes.map(([name]) => `#${name} = :${name}`).join(', ');
  const removes = remove.length > 0 ? ` REMOVE ${remove.map((name) => `#${name}`).join(', ')}` : '';
  const names = [...changes.map(([name]) => name), ...remove, 'status'];
  try {
    await table.send(new UpdateCommand({
      TableName,
      Key: { pk: item.pk, sk: item.sk },
      UpdateExpression: `SET ${sets}${removes}`,
      ConditionExpression: '#rev = :was_rev AND #status = :was_status',
      ExpressionAttributeNames: Object.fromEntries(names.map((name) => [`#${name}`, name])),
      ExpressionAttributeValues: {
        ...Object.fromEntries(changes.map(([name, value]) => [`:${name}`, value])),
        ':was_rev': item.rev,
        ':was_status': item.status,
      },
      ReturnValuesOnConditionCheckFailure: 'ALL_OLD',
    }));
    return undefined;
  } catch (error) {
    if (error.name !== 'ConditionalCheckFailedException' || !error.Item) throw error;
    return unmarshall(error.Item);
  }
};
