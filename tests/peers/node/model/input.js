// Validation of external input.
import { Problem } from './problem.js';

const ID = /^[A-Za-z0-9_.@+|-]{1,128}$/;
const CODE = /^(?=.*[A-Za-z0-9])[A-Za-z0-9-]{3,32}$/;

const checked = (name, value, isValid) => {
  if (!isValid(value)) throw new Problem(400, 'invalid_request', `${name}: cannot be read`);
  return value;
};

const optional = (name, value, isValid) => (value === undefined || value === null ? undefined : checked(name, value, isValid));

export const id = (name, value) => checked(name, value, (text) => typeof text === 'string' && ID.test(text));

export const code = (value) => optional('code', value, (text) => typeof text === 'string' && CODE.test(text));

export const fingerprint = (value) =>
  optional('device_fingerprint', value, (text) => typeof text === 'string' && text.length >= 1 && Buffer.byteLength(text) <= 512);

export const time = (name, value) => {
  const text = optional(name, value, (given) => typeof given === 'string' && !Number.isNaN(Date.parse(given)));
  return text && new Date(text).toISOString();
};

export const amount = (name, value) => checked(name, value, (number) => Number.isSafeInteger(number) && number >= 0);

export const currency = (name, value) => checked(name, value, (text) => typeof text === 'string' && /^[A-Z]{3}$/.test(text));

/** The JSON object in a request's body. A missing body is an empty object. */
export const body = (event) => {
  if (!event.body) return {};
  const text = event.isBase64Encoded ? Buffer.from(event.body, 'base64').toString() : event.body;
  try {
    const parsed = JSON.parse(text);
    if (parsed && typeof parsed === 'object' && !Array.isArray(parsed)) return parsed;
  } catch {
    // Answered below.
  }
  throw new Problem(400, 'invalid_request', 'the body is not a JSON object');
};
