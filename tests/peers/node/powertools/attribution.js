// Called by API Gateway: mint and attribute, each stored by its request. A refusal is thrown, so it is not stored.
import { body } from '../model/input.js';
import { answer, Problem, refusal } from '../model/problem.js';
import { log } from '../model/settings.js';
import { attribute, mint } from '../model/sign_up.js';
import { once } from './idempotency.js';

const mintOnce = once(({ user, body: request }) => mint(user, request), '[user, body]');
const attributeOnce = once(attribute, '[referee_id, code]');

const route = (event, context) => {
  switch (event.routeKey) {
    case 'PUT /v1/users/{user_id}/code':
      return mintOnce({ user: decodeURIComponent(event.pathParameters.user_id), body: body(event) }, context);
    case 'POST /v1/referrals':
      return attributeOnce(body(event), context);
    default:
      throw new Problem(404, 'not_found', 'there is nothing at this path');
  }
};

export const handler = async (event, context) => {
  try {
    const { status, body: document } = await route(event, context);
    log('INFO', 'answered', { status });
    return answer(status, document);
  } catch (error) {
    return refusal(error);
  }
};
