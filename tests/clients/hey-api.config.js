// The settings of @hey-api/openapi-ts.

export default {
  input: process.env.OPENAPI,
  // Extensions, because Node.js loads the compiled client.
  output: { path: "generated/hey-api", module: { extension: ".js" } },
  plugins: ["@hey-api/client-fetch", "@hey-api/typescript", "@hey-api/sdk"],
};
