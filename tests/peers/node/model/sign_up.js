// Mint and attribute: a member gets a code, and a sign-up with it becomes a referral.
import { randomInt } from 'node:crypto';

import { canonical, drawn } from './code.js';
import { device } from './digest.js';
import * as input from './input.js';
import { Problem } from './problem.js';
import { attributed, referrer, view } from './referral.js';
import { program, publicUrl } from './settings.js';
import * as store from './store.js';

/** Codes in memory. The owner of a code never changes, so it is read once. Everything else is read each time. */
const known = new Map();
const MOST_KNOWN = 10_000;

const codeView = (owned) => ({
  code: owned.code,
  user_id: owned.owner,
  program: owned.program,
  link: `${publicUrl}/r/${owned.code}`,
  created_at: owned.created_at,
  expires_at: owned.expires_at ?? null,
});

/** Returns the status and the code. */
export const mint = async (userId, body) => {
  const user = input.id('user_id', userId);
  const [wanted, fingerprint] = [input.code(body.code), input.fingerprint(body.device_fingerprint)];
  const [now, expires_at] = [new Date().toISOString(), input.time('expires_at', body.expires_at)];
  if (expires_at && expires_at <= now) throw new Problem(400, 'invalid_request', 'expires_at: is in the past');
  if ((body.program ?? program) !== program) throw new Problem(404, 'program_not_found', 'there is no such program here');
  for (const code of wanted ? [wanted] : [drawn(), drawn(), drawn()]) {
    const owned = { code, owner: user, program, created_at: now, expires_at };
    const found = await store.mint(owned, device(fingerprint));
    if (found.minted) return { status: 201, body: codeView(found.minted) };
    if (found.owned) return { status: 200, body: codeView(found.owned) };
  }
  if (wanted) throw new Problem(409, 'code_taken', 'this code belongs to another user');
  throw new Error('no drawn code was free');
};

/** Returns the status and the referral. */
export const attribute = async (body) => {
  const refereeId = input.id('referee_id', body.referee_id);
  const [code, fingerprint] = [input.code(body.code), input.fingerprint(body.device_fingerprint)];
  if (!code) throw new Problem(400, 'invalid_request', 'no code');
  const now = new Date().toISOString();
  const reported = input.time('signed_up_at', body.signed_up_at);
  const signedUpAt = reported && reported < now ? reported : now;
  const { owned, ...facts } = await factsOf(code, refereeId);
  const its = device(fingerprint);
  if (facts.existing) return again(facts.existing, code);
  refuse({ owned, refereeId, signedUpAt, device: its }, facts);
  const referral = attributed({ refereeId, owned, device: its, mark: randomInt(2 ** 32), now });
  const existing = await store.attribute(referral);
  return existing ? again(existing, code) : { status: 201, body: view(referral) };
};

const factsOf = async (code, refereeId) => {
  const form = canonical(code);
  const owned = known.get(form) ?? (await store.code(code));
  if (!owned) throw new Problem(404, 'code_not_found', 'this code does not exist');
  if (known.size >= MOST_KNOWN) known.clear();
  known.set(form, owned);
  const facts = await store.attributionFacts(owned, refereeId);
  if (!facts.owned) throw new Problem(404, 'code_not_found', 'this code does not exist');
  if (facts.owned.program !== program) throw new Problem(404, 'program_not_found', 'there is no such program here');
  return facts;
};

const again = (existing, code) => {
  if (canonical(existing.code) === canonical(code)) return { status: 200, body: view(existing) };
  throw new Problem(409, 'already_referred', 'this user was already referred with another code');
};

const refuse = ({ owned, refereeId, signedUpAt, device: its }, { account, referrersOwn }) => {
  const isReferrers = its && (account?.devices?.has(its) || referrersOwn?.device === its);
  if (owned.expires_at && owned.expires_at <= signedUpAt) throw new Problem(410, 'code_expired', 'the code had expired');
  if (owned.owner === refereeId) throw new Problem(422, 'self_referral', 'a user cannot refer themselves');
  if (account?.flagged) throw new Problem(422, 'referrer_flagged', "the referrer's account is flagged");
  if (isReferrers) throw new Problem(422, 'device_match', "the device is one of the referrer's");
  if (referrersOwn && referrer(referrersOwn) === refereeId) {
    throw new Problem(422, 'reciprocal_referral', 'the referrer was referred by this user');
  }
};
