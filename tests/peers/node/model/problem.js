// Refusals, and answers over HTTP.
const TITLES = {
  400: 'Bad Request', 404: 'Not Found', 409: 'Conflict', 410: 'Gone', 422: 'Unprocessable Entity', 503: 'Service Unavailable',
};

/** A refusal that the caller is told of. */
export class Problem extends Error {
  constructor(status, reason, detail) {
    super(detail);
    Object.assign(this, { status, reason });
  }
}

export const answer = (statusCode, body) => ({
  statusCode,
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
});

/** What is thrown, as an answer: a problem says itself what it is, anything else may be over in a moment. */
export const refusal = (error) => {
  const known = error instanceof Problem;
  if (!known) console.error(error);
  const { status, reason, message } = known
    ? error
    : { status: 503, reason: 'unavailable', message: 'the service cannot answer right now; try again' };
  const document = { type: 'about:blank', title: TITLES[status], status, detail: message, reason };
  const headers = { 'content-type': 'application/problem+json', ...(known ? {} : { 'retry-after': '1' }) };
  return { statusCode: status, headers, body: JSON.stringify(document) };
};
