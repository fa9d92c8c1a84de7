// Calls the API on the host of this page, with the credentials of the signed-in user.

import { sign } from "./sign.js";

const KEPT = "credentials";

/** A failed call: the HTTP status and a message. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }

  /** Whether the user must sign in. The gateway answers 401 if it expects a token, and 403 if it expects a signature. */
  get needsSignIn() {
    return this.status === 401 || this.status === 403;
  }
}

// Kept in memory; in the session storage only if the user wants to keep them after a reload.
let credentials = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");

export const isSignedIn = () => credentials !== null;

export function signIn(as, keep) {
  credentials = as;
  sessionStorage.removeItem(KEPT);
  if (keep) sessionStorage.setItem(KEPT, JSON.stringify(as));
}

export function signOut() {
  credentials = null;
  sessionStorage.removeItem(KEPT);
}

async function call(path, { method = "GET", parameters = {}, body } = {}) {
  const url = new URL(`../admin/${path}`, import.meta.url);
  // Spaces are encoded as %20, as the signature requires.
  const pairs = Object.entries(parameters).filter(([, value]) => value);
  url.search = pairs.map((pair) => pair.map(encodeURIComponent).join("=")).join("&");
  const request = { method, url, headers: body === undefined ? {} : { "content-type": "application/json" }, body };
  const signed = credentials?.token
    ? { authorization: `Bearer ${credentials.token}` }
    : credentials && (await sign(request, credentials));
  let answer;
  try {
    answer = await fetch(url, { method, headers: { ...request.headers, ...signed }, body, cache: "no-store" });
  } catch {
    throw new Problem(0, "The service is not reachable.");
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new Problem(answer.status, problem.detail ?? problem.message ?? `The service answered ${answer.status}.`);
}

export const ask = async (path, parameters) => (await call(path, { parameters })).json();

/** Sends a request that changes something. Without `content`, the request has no body. */
export const send = async (method, path, content) =>
  (await call(path, { method, body: content === undefined ? undefined : JSON.stringify(content) })).json();

/** Lets the browser download an answer as a file. */
export async function save(path, parameters, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await (await call(path, { parameters: { ...parameters, format: "csv" } })).blob());
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
