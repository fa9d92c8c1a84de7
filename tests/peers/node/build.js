// Bundles each function as it would be deployed: a single minified file.
import { build } from 'esbuild';

const FUNCTIONS = ['attribution', 'conversion', 'rewards', 'delivery'];

for (const peer of ['plain', 'powertools']) {
  for (const name of FUNCTIONS) {
    await build({
      entryPoints: [`${peer}/${name}.js`],
      outfile: `built/${peer}/${name}/index.mjs`,
      bundle: true,
      minify: true,
      platform: 'node',
      target: 'node20',
      format: 'esm',
      // Parts of the SDK are CommonJS and call `require`, which a bundled module has to define.
      banner: { js: "import{createRequire}from'module';const require=createRequire(import.meta.url);" },
      logLevel: 'warning',
    });
  }
}
