// Calls to the API that this page came from, as whoever signed in.

import { sign } from "./sign.js";

const KEPT = "credentials";

/** An answer that is none: its status, and what it says for people. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }

  /** Whether somebody has to sign in; the gateway says 401 where it wants a token, and 403 for a signature. */
  get asksWho() {
    return this.status === 401 || this.status === 403;
  }
}

// In memory, unless they are to outlive a reload.
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

async function call(path, parameters) {
  const url = new URL(`../admin/${path}`, import.meta.url);
  // A space is %20 to the signature, and to everybody else as well.
  const pairs = Object.entries(parameters).filter(([, value]) => value);
  url.search = pairs.map((pair) => pair.map(encodeURIComponent).join("=")).join("&");
  const headers = credentials?.token
    ? { authorization: `Bearer ${credentials.token}` }
    : credentials && (await sign(url, credentials));
  let answer;
  try {
    answer = await fetch(url, { headers: headers ?? {}, cache: "no-store" });
  } catch {
    throw new Problem(0, "The service cannot be reached.");
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  throw new Problem(answer.status, said.detail ?? said.message ?? `The service answered ${answer.status}.`);
}

export const ask = async (path, parameters = {}) => (await call(path, parameters)).json();

/** Has the browser save an answer as a file. */
export async function save(path, parameters, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await (await call(path, { ...parameters, format: "csv" })).blob());
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
