// Refusals, and answers over HTTP.
const TITLES = {
  400: 'Bad Request', 404: 'Not Found', 409: 'Conflict', 410: 'Gone', 422: 'Unprocessable Entity', 503: 'Service Unavailable',
};

/** A refusal that the caller gets as an answer. */
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

/** The answer for an exception: a problem is answered as it is, everything else as a temporary failure. */
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
