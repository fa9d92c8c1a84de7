// AWS Signature Version 4, with the Web Crypto API.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

const text = new TextEncoder();
const hex = (bytes) => Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
const hash = async (message) => hex(await crypto.subtle.digest("SHA-256", text.encode(message)));

async function keyed(key, message) {
  const imported = await crypto.subtle.importKey("raw", key, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return crypto.subtle.sign("HMAC", imported, text.encode(message));
}

const escaped = (part) =>
  encodeURIComponent(part).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);

/** Query parameters sorted by name, then by value, by code unit. */
function query(url) {
  const parameters = Array.from(url.searchParams, ([name, value]) => [escaped(name), escaped(value)]);
  parameters.sort(([a, b], [c, d]) => (a === c ? Number(b > d) - Number(b < d) : a > c ? 1 : -1));
  return parameters.map((pair) => pair.join("=")).join("&");
}

/** The headers that sign this request with these credentials. They include the request's own headers, in lower case. */
export async function sign(request, { id, secret, session, region }, now = new Date(), service = "execute-api") {
  const { method, url, headers: own, body = "" } = request;
  const time = now.toISOString().replace(/[-:]|\.\d+/g, "");
  const headers = { ...own, host: url.host, "x-amz-date": time };
  if (session) headers["x-amz-security-token"] = session;
  const names = Object.keys(headers).sort();
  const scope = `${time.slice(0, 8)}/${region}/${service}/aws4_request`;
  // The signature requires that the path is escaped twice.
  const path = url.pathname.split("/").map(escaped).join("/");
  const listed = names.map((name) => `${name}:${headers[name]}\n`).join("");
  const canonical = [method, path, query(url), listed, names.join(";"), await hash(body)].join("\n");
  const stringToSign = ["AWS4-HMAC-SHA256", time, scope, await hash(canonical)].join("\n");
  let key = text.encode(`AWS4${secret}`);
  for (const part of scope.split("/")) key = await keyed(key, part);
  const signature = hex(await keyed(key, stringToSign));
  // The browser sets the host header itself.
  const { host: _, ...sent } = headers;
  const parts = [`Credential=${id}/${scope}`, `SignedHeaders=${names.join(";")}`, `Signature=${signature}`];
  return { ...sent, authorization: `AWS4-HMAC-SHA256 ${parts.join(", ")}` };
}
