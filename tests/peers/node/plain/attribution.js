// Called by API Gateway: mint and attribute.
import { body } from '../model/input.js';
import { answer, Problem, refusal } from '../model/problem.js';
import { log } from '../model/settings.js';
import { attribute, mint } from '../model/sign_up.js';

const route = (event) => {
  switch (event.routeKey) {
    case 'PUT /v1/users/{user_id}/code':
      return mint(decodeURIComponent(event.pathParameters.user_id), body(event));
    case 'POST /v1/referrals':
      return attribute(body(event));
    default:
      throw new Problem(404, 'not_found', 'there is nothing at this path');
  }
};

export const handler = async (event) => {
  try {
    const { status, body: document } = await route(event);
    log('INFO', 'answered', { status });
    return answer(status, document);
  } catch (error) {
    return refusal(error);
  }
};
