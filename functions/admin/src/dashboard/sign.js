// AWS Signature Version 4 for requests without a body, by the browser's own cryptography.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

const text = new TextEncoder();
const hex = (bytes) => Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
const hash = async (words) => hex(await crypto.subtle.digest("SHA-256", text.encode(words)));

async function keyed(key, words) {
  const imported = await crypto.subtle.importKey("raw", key, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return crypto.subtle.sign("HMAC", imported, text.encode(words));
}

const escaped = (part) =>
  encodeURIComponent(part).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);

/** Parameters by name, then by value, as code units order them. */
function query(url) {
  const parameters = Array.from(url.searchParams, ([name, value]) => [escaped(name), escaped(value)]);
  parameters.sort(([a, b], [c, d]) => (a === c ? Number(b > d) - Number(b < d) : a > c ? 1 : -1));
  return parameters.map((pair) => pair.join("=")).join("&");
}

/** The headers that make a GET of this URL one of theirs. */
export async function sign(url, { id, secret, session, region }, now = new Date(), service = "execute-api") {
  const time = now.toISOString().replace(/[-:]|\.\d+/g, "");
  const headers = { host: url.host, "x-amz-date": time };
  if (session) headers["x-amz-security-token"] = session;
  const names = Object.keys(headers).sort();
  const scope = `${time.slice(0, 8)}/${region}/${service}/aws4_request`;
  // The path is escaped once more than it is sent.
  const path = url.pathname.split("/").map(escaped).join("/");
  const listed = names.map((name) => `${name}:${headers[name]}\n`).join("");
  const request = ["GET", path, query(url), listed, names.join(";"), await hash("")].join("\n");
  const told = ["AWS4-HMAC-SHA256", time, scope, await hash(request)].join("\n");
  let key = text.encode(`AWS4${secret}`);
  for (const part of scope.split("/")) key = await keyed(key, part);
  const signature = hex(await keyed(key, told));
  // The browser names the host itself.
  const { host: _, ...sent } = headers;
  const parts = [`Credential=${id}/${scope}`, `SignedHeaders=${names.join(";")}`, `Signature=${signature}`];
  return { ...sent, authorization: `AWS4-HMAC-SHA256 ${parts.join(", ")}` };
}
