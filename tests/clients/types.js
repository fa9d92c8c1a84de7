// Writes a TypeScript file that compiles only if openapi-typescript and hey-api have a type for every answer of openapi.yaml,
// and the same one.
// usage: OPENAPI=FILE node types.js

import { readFileSync, writeFileSync } from "node:fs";
import { parse } from "yaml";

const document = parse(readFileSync(process.env.OPENAPI, "utf8"));

const resolved = (value) =>
  value.$ref ? value.$ref.split("/").slice(1).reduce((found, part) => found[part], document) : value;

/** Every answer: the operation, the status, and the media types of its content. */
function* answers() {
  for (const path of Object.values(document.paths)) {
    for (const { operationId, responses } of Object.values(path).filter(({ operationId }) => operationId)) {
      for (const [status, response] of Object.entries(responses)) {
        yield { operationId, status, media: Object.keys(resolved(response).content ?? {}) };
      }
    }
  }
}

const lines = [
  'import type { operations } from "./openapi.js";',
  'import type * as HeyApi from "./hey-api/types.gen.js";',
  "",
  "/** A type that says something: not any, unknown, never, void or undefined. */",
  "type Known<T> = 0 extends 1 & T ? false : unknown extends T ? false : [T] extends [never | void] ? false : true;",
  "/** Lists of a fixed length are tuples in hey-api. */",
  "type Loose<T> = T extends readonly (infer E)[] ? Loose<E>[] : T extends object ? { [K in keyof T]: Loose<T[K]> } : T;",
  "type Same<A, B> = [Loose<A>] extends [Loose<B>] ? ([Loose<B>] extends [Loose<A>] ? true : false) : false;",
  "const holds = <_ extends true>() => {};",
  "",
];
let count = 0;
for (const { operationId, status, media } of answers()) {
  const answer = `operations["${operationId}"]["responses"][${status}]`;
  const contents = media.map((kind) => `${answer}["content"]["${kind}"]`);
  lines.push(`holds<Known<${answer}>>();`, ...contents.map((content) => `holds<Known<${content}>>();`));
  // hey-api has no types for redirects, and reads the first media type of an answer.
  if (media.length > 0) {
    const group = Number(status) < 400 ? "Responses" : "Errors";
    const type = `HeyApi.${operationId[0].toUpperCase()}${operationId.slice(1)}${group}[${status}]`;
    lines.push(`holds<Known<${type}>>();`);
    // For other media types, hey-api has a Blob.
    if (media[0].endsWith("json")) lines.push(`holds<Same<${type}, ${contents[0]}>>();`);
  }
  count += 1;
}
writeFileSync("generated/types.ts", `${lines.join("\n")}\n`);
console.log(`${count} answers with a type`);
