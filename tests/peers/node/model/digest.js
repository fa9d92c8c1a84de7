// Digests: devices under the fingerprint key, hashed ids for events and log lines, and webhook signatures.
import { createHash, createHmac } from 'node:crypto';

import { fingerprintKey, webhookSecrets } from './settings.js';

export const device = (fingerprint) =>
  fingerprint && createHmac('sha256', fingerprintKey).update(fingerprint).digest().subarray(0, 16).toString('base64url');

export const hashed = (id) => createHash('sha256').update(id).digest('hex').slice(0, 16);

const keys = webhookSecrets.map((secret) => Buffer.from(secret.replace(/^whsec_/, ''), 'base64'));

/** The header `webhook-signature` of Standard Webhooks: one signature for each secret. */
export const signature = (id, seconds, body) =>
  keys.map((key) => `v1,${createHmac('sha256', key).update(`${id}.${seconds}.${body}`).digest('base64')}`).join(' ');
